/* guess.c - drafts for the running requests: wished for before the scheduler deals a step out, made after it has.
 *
 * A request's drafted tokens lie in its ids behind those it has; step.c keeps the ones that turn out right.
 */
#include "engine.h"

static bool answers(const lr_job *j) { return j->n_done + 1 == j->n_ids && j->n_ids > j->n_prompt; }

static uint32_t length(larder_engine *e, lr_speculation *s, lr_draft_from from, uint32_t n_answer, uint32_t most)
{
    s->from = from;
    return e->draft_anyway ? most : lr_speculation_length(s, from, &e->cost, n_answer, most);
}

static void wish(larder_engine *e, larder_request *r, uint32_t n_answer)
{
    lr_job *j = &r->job;
    lr_speculation *s = &r->speculation;
    /* the last token of all is sampled only, so it needs no draft behind it */
    uint32_t most = LR_MIN((uint32_t)LR_DRAFT_ONE, r->n_max - j->n_ids - 1);
    if (s->mode == LARDER_SPECULATE_OFF || !answers(j) || !most) return;
    if (lr_ngram_draft(r->ids, j->n_ids, most, r->ids + j->n_ids))
        j->n_wish = length(e, s, LR_DRAFT_NGRAM, n_answer, most);
    if (j->n_wish || !e->draft.exec || s->mode == LARDER_SPECULATE_NGRAM) return;
    j->n_wish = length(e, s, LR_DRAFT_MODEL, n_answer, most);
}

void lr_guess_wish(larder_engine *e)
{
    uint32_t n_answer = 0;
    if (!e->n_draft) return;
    for (uint32_t i = 0; i < e->sched.n_running; i++) n_answer += answers(e->sched.running[i]);
    bool may = e->draft_anyway || (n_answer && lr_cost_lets_draft(&e->cost, n_answer));
    for (uint32_t i = 0; i < e->sched.n_running; i++) e->sched.running[i]->n_wish = 0;
    for (uint32_t i = 0; may && i < e->sched.n_running; i++) wish(e, e->sched.running[i]->user, n_answer);
}

void lr_guess_make(larder_engine *e, lr_job *const *jobs, uint32_t n)
{
    lr_draft_job work[LR_DRAFT_ALL];
    lr_job *whose[LR_DRAFT_ALL];
    uint32_t m = 0, n_tok = 0;
    for (uint32_t i = 0; i < n; i++) {
        larder_request *r = jobs[i]->user;
        if (!jobs[i]->n_draft || r->speculation.from != LR_DRAFT_MODEL) continue;
        whose[m] = jobs[i];
        work[m++] = (lr_draft_job){
            .owner = r, .ids = r->ids, .n_ids = r->job.n_ids, .n_want = jobs[i]->n_draft, .sampler = r->sampler};
        n_tok += jobs[i]->n_draft;
    }
    if (!m) return;
    uint64_t t = lr_now_ns();
    lr_no_alloc(true);
    larder_error why;
    bool failed = lr_draft_run(&e->draft, work, m, &e->work, &why) != LARDER_OK;
    lr_no_alloc(false);
    for (uint32_t i = 0; i < m; i++) {
        uint32_t made = failed ? 0 : work[i].n_want;
        whose[i]->n_tok -= whose[i]->n_draft - made;
        whose[i]->n_draft = made;
    }
    lr_cost_note_draft(&e->cost, n_tok, (double)(lr_now_ns() - t) * 1e-9);
}

void lr_guess_note(larder_request *r, uint32_t n_drafted, uint32_t n_accepted)
{
    larder_engine *e = r->engine;
    lr_speculation_note(&r->speculation, &e->cost, n_drafted, n_accepted);
    e->stats.n_drafted += n_drafted;
    e->stats.n_accepted += n_accepted;
    if (e->draft.exec) lr_draft_keep(&e->draft, r, r->job.n_ids - 1);
}
