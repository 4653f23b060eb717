/* draft.c - a smaller model that guesses what comes next; see speculate.h.
 *
 * Its cache holds n_seq whole contexts, a fixed one per place: it is small, and never the reason why anyone waits.
 */
#include "speculate.h"

#include <assert.h>

lr_limits lr_draft_limits(const lr_limits *target)
{
    lr_limits l = *target;
    l.n_out = l.n_seq;
    l.n_tok = LR_MAX(LR_MIN(l.n_tok, 512u), l.n_seq);
    l.n_kv_block = LR_ALIGN_UP(l.n_ctx, LR_KV_BLOCK) / LR_KV_BLOCK * l.n_seq;
    return l;
}

larder_status lr_draft_open(lr_draft *d, const lr_model *model, const lr_limits *target, const lr_backend *backend,
                            lr_pool *pool, larder_error *err)
{
    *d = (lr_draft){.limits = lr_draft_limits(target), .backend = backend, .pool = pool};
    const lr_limits *l = &d->limits;
    uint32_t each = l->n_kv_block / l->n_seq;
    LR_TRY(lr_model_program(model, l->n_ctx, &d->program, err));
    LR_TRY(backend->open(&d->program, l, pool, &d->exec, err));
    d->seqs = lr_calloc(l->n_seq, sizeof *d->seqs);
    d->blocks = lr_calloc(l->n_kv_block, sizeof *d->blocks);
    d->ids = lr_calloc(l->n_tok, sizeof *d->ids);
    d->batch = lr_calloc(l->n_seq, sizeof *d->batch);
    d->out = lr_calloc(l->n_seq, sizeof *d->out);
    if (!d->seqs || !d->blocks || !d->ids || !d->batch || !d->out) return LR_NOMEM(err, "the draft model");
    for (uint32_t i = 0; i < l->n_kv_block; i++) d->blocks[i] = i;
    for (uint32_t i = 0; i < l->n_seq; i++) d->seqs[i].blocks = d->blocks + (size_t)i * each;
    return LARDER_OK;
}

void lr_draft_close(lr_draft *d)
{
    if (d->exec) d->backend->close(d->exec);
    lr_program_free(&d->program);
    lr_free(d->seqs);
    lr_free(d->blocks);
    lr_free(d->ids);
    lr_free(d->batch);
    lr_free(d->out);
    *d = (lr_draft){0};
}

static lr_draft_seq *seq_of(const lr_draft *d, const void *owner)
{
    for (uint32_t i = 0; i < d->limits.n_seq; i++)
        if (d->seqs[i].owner == owner) return &d->seqs[i];
    return NULL;
}

void lr_draft_keep(lr_draft *d, const void *owner, uint32_t n)
{
    lr_draft_seq *s = d->exec ? seq_of(d, owner) : NULL;
    if (s) s->n_done = LR_MIN(s->n_done, n);
}

void lr_draft_forget(lr_draft *d, const void *owner)
{
    lr_draft_seq *s = d->exec ? seq_of(d, owner) : NULL;
    if (s) *s = (lr_draft_seq){.blocks = s->blocks};
}

/* There are as many places as running requests, and who stops running forgets his. */
static void find_places(lr_draft *d, lr_draft_job *jobs, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        lr_draft_seq *s = seq_of(d, jobs[i].owner);
        if (!s && (s = seq_of(d, NULL))) *s = (lr_draft_seq){.owner = jobs[i].owner, .blocks = s->blocks};
        jobs[i].seq = s;
        if (!s) jobs[i].n_want = 0;
    }
}

/* One step of every text that still wants tokens: what its cache lacks of it, as much as there is room for, and the next
 * token of those that lack nothing more. *more: some want another step. */
static larder_status draft_step(lr_draft *d, lr_draft_job *jobs, uint32_t n, uint32_t *n_made, lr_sampler_work *work,
                                bool *more, larder_error *err)
{
    lr_batch b = {.ids = d->ids, .seqs = d->batch, .out = d->out};
    const float *logits;
    uint32_t left = d->limits.n_tok, row = 0;
    *more = false;
    for (uint32_t i = 0; i < n; i++) {
        lr_draft_job *j = &jobs[i];
        if (n_made[i] == j->n_want || !left) continue;
        uint32_t lack = j->n_ids + n_made[i] - j->seq->n_done, n_tok = LR_MIN(lack, left);
        memcpy(d->ids + b.n_tok, j->ids + j->seq->n_done, n_tok * sizeof *d->ids);
        d->batch[b.n_seq++] = (lr_batch_seq){.blocks = j->seq->blocks, .n_past = j->seq->n_done, .n_tok = n_tok};
        b.n_tok += n_tok;
        left -= n_tok;
        if (n_tok == lack) d->out[b.n_out++] = b.n_tok - 1;
    }
    if (!b.n_seq) return LARDER_OK;
    LR_TRY(d->backend->step(d->exec, &b, &logits, err));
    for (uint32_t i = 0, at = 0; i < n && at < b.n_seq; i++) {
        lr_draft_job *j = &jobs[i];
        if (n_made[i] == j->n_want) continue;
        uint32_t have = j->n_ids + n_made[i];
        j->seq->n_done += d->batch[at++].n_tok;
        *more = true;
        if (j->seq->n_done < have) continue;
        float *own = (float *)logits + (size_t)row++ * d->program.n_vocab;
        j->ids[have] = lr_sample(&j->sampler, work, own, j->ids, have);
        n_made[i]++;
    }
    return LARDER_OK;
}

larder_status lr_draft_run(lr_draft *d, lr_draft_job *jobs, uint32_t n, lr_sampler_work *work, larder_error *err)
{
    uint32_t n_made[LR_DRAFT_ALL] = {0};
    bool more = true;
    assert(n <= LR_DRAFT_ALL);
    find_places(d, jobs, n);
    while (more) LR_TRY(draft_step(d, jobs, n, n_made, work, &more, err));
    return LARDER_OK;
}
