/* step.c - one step: what the scheduler chose is computed, and what becomes of its logits. */
#include "engine.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

static bool emit(larder_request *r, const larder_event *event)
{
    if (r->on_event && !r->on_event(r->user, r, event)) r->cancelled = true;
    return !r->cancelled;
}

static void finish(larder_request *r, larder_finish why, const char *error)
{
    larder_event done = {.kind = LARDER_EVENT_DONE, .finish = why, .error = error, .text = ""};
    if (why == LARDER_FINISH_STOP) done.stop = r->stream.stop[r->stream.met];
    if (why != LARDER_FINISH_STOP) {
        lr_stream_begin(&r->stream);
        lr_stream_take(&r->stream, true, &done.text, &done.n_text);
    }
    lr_request_retire(r);
    if (r->on_event) r->on_event(r->user, r, &done); /* which may free it: r is not touched after this */
}

/* ---------------------------------------------------------------- the batch */
static bool decodes(const larder_request *r)
{
    return r->job.n_done + 1 == r->job.n_ids && r->job.n_ids > r->job.n_prompt;
}

static void end_expired(larder_engine *e, double now)
{
    for (lr_job *j; (j = lr_sched_expired(&e->sched, now));) {
        char why[96];
        snprintf(why, sizeof why, "its deadline passed %s, after %u tokens of the answer",
                 j->state == LR_JOB_WAITING ? "while it waited" : "while it ran", j->n_ids - j->n_prompt);
        e->stats.n_expired++;
        finish(j->user, LARDER_FINISH_DEADLINE, why);
    }
}

static lr_batch build(larder_engine *e, lr_job *const *jobs, uint32_t n)
{
    lr_batch b = {.ids = e->ids, .seqs = e->seqs, .n_seq = n, .out = e->out};
    for (uint32_t i = 0; i < n; i++) {
        const lr_job *j = jobs[i];
        larder_request *r = j->user;
        r->n_rows = j->n_done + j->n_tok >= j->n_ids ? 1 + j->n_draft : 0;
        memcpy(e->ids + b.n_tok, r->ids + j->n_done, j->n_tok * sizeof *e->ids);
        e->seqs[i] = (lr_batch_seq){.blocks = r->blocks, .n_past = j->n_done, .n_tok = j->n_tok};
        b.n_tok += j->n_tok;
        for (uint32_t k = r->n_rows; k > 0; k--) e->out[b.n_out++] = b.n_tok - k;
    }
    return b;
}

/* ---------------------------------------------------------------- what becomes of it */
/* false: that was its end, and it may be gone. */
static bool accept(larder_engine *e, larder_request *r, int32_t token)
{
    larder_event event = {.kind = LARDER_EVENT_TOKEN, .token = token, .text = ""};
    const lr_tokenizer *tok = e->model->has_text ? e->model->text.tok : NULL;
    if (r->raw) {
        event.logprob = lr_logprob_of(r, token);
        event.top = r->top;
        event.n_top = r->n_top;
    }
    bool over = false;
    larder_error fault = {0};
    if (lr_constrain_take(r, token, &over, &fault)) {
        finish(r, LARDER_FINISH_ERROR, fault.message);
        return false;
    }
    r->ids[r->job.n_ids++] = token;
    e->n_said++;
    r->t_last = lr_now_ns();
    if (!r->t_first) r->t_first = r->t_last;
    if (tok && !r->ignore_eos && lr_tokenizer_is_end(tok, token)) {
        finish(r, LARDER_FINISH_EOS, NULL);
        return false;
    }
    bool stopped = false;
    if (tok && (uint32_t)token < lr_tokenizer_size(tok)) {
        lr_stream_begin(&r->stream);
        lr_tokenizer_piece(tok, token, false, &r->stream.held, NULL);
        stopped = lr_stream_take(&r->stream, false, &event.text, &event.n_text);
    }
    if (!emit(r, &event)) finish(r, LARDER_FINISH_CANCELLED, NULL);
    else if (stopped) finish(r, LARDER_FINISH_STOP, NULL);
    else if (over) finish(r, LARDER_FINISH_EOS, NULL);
    else if (r->job.n_ids == r->n_max) finish(r, LARDER_FINISH_LENGTH, NULL);
    else return true;
    return false;
}

/* Samples from one row of logits, and says or ends what follows from it. */
static int32_t sample(larder_engine *e, larder_request *r, float *logits)
{
    larder_error fault = {0};
    if (lr_constrain_logits(r, logits, &fault)) {
        finish(r, LARDER_FINISH_ERROR, fault.message);
        return -1;
    }
    lr_no_alloc(true);
    if (r->raw) lr_logprob_keep(r, logits, e->program.n_vocab);
    int32_t token = lr_sample(&r->sampler, &e->work, logits, r->ids, r->job.n_ids);
    lr_no_alloc(false);
    if (!isnan(logits[token])) return token;
    finish(r, LARDER_FINISH_ERROR, "the model computed NaN: its weights are damaged");
    return -1;
}

/* The rows after the first are worth something as long as what was drafted is what is sampled. Drafts lie in ids behind the
 * tokens there are, where accept puts the real ones. */
static void settle_rows(larder_engine *e, larder_request *r, float *logits)
{
    uint32_t n_row = r->n_rows, right = 0;
    for (uint32_t k = 0; k < n_row; k++) {
        int32_t drafted = k + 1 < n_row ? r->ids[r->job.n_ids] : -1;
        int32_t token = sample(e, r, logits + (size_t)k * e->program.n_vocab);
        if (token < 0) return;
        right += token == drafted;
        bool over = k + 1 == n_row || token != drafted;
        if (over && n_row > 1) lr_guess_note(r, n_row - 1, right);
        if (!accept(e, r, token) || over) return;
        r->job.n_done++;
    }
}

/* How much of its prompt is done, if it never was before. false: it was cancelled, and may be gone. */
static bool tell_progress(larder_request *r)
{
    larder_event event = {
        .kind = LARDER_EVENT_PREFILL, .n_done = r->job.n_done, .n_total = r->job.n_prompt, .text = ""};
    r->caught_up = false;
    if (r->job.n_ids != r->job.n_prompt || r->job.n_done <= r->n_reached || emit(r, &event)) return true;
    finish(r, LARDER_FINISH_CANCELLED, NULL);
    return false;
}

static void settle(larder_engine *e, larder_request *r, float *logits, double bytes)
{
    bool decoded = decodes(r);
    r->job.n_done += r->job.n_tok - r->job.n_draft;
    lr_memory_publish(r);
    if (decoded) r->timing.decode_bytes += bytes;
    if (!decoded && !tell_progress(r)) return;
    if (r->n_rows) settle_rows(e, r, logits);
}

/* Of those who read nothing themselves because others did. */
static void tell_followers(larder_engine *e)
{
    for (uint32_t i = 0; i < e->sched.n_running;) {
        larder_request *r = e->sched.running[i]->user;
        bool tell = r->caught_up;
        r->caught_up = false;
        if (!tell || tell_progress(r)) i++;
    }
}

static larder_status compute(larder_engine *e, const lr_batch *b, const float **logits, larder_error *err)
{
    lr_no_alloc(true);
    larder_status st = e->backend->step(e->exec, b, logits, err);
    lr_no_alloc(false);
    if (!st && lr_file_damaged(&e->model->file))
        st = lr_fail(err, LARDER_IO, "the model file changed while it was in use; load it again");
    return st;
}

static bool all_decode(lr_job *const *jobs, uint32_t n)
{
    while (n > 0)
        if (!decodes(jobs[--n]->user)) return false;
    return true;
}

/* Computes what the scheduler dealt out, and does what follows from it. */
static larder_status run_step(larder_engine *e, lr_job *const *jobs, uint32_t n, larder_error *err)
{
    const float *logits = NULL;
    uint32_t row = 0;
    uint64_t t0 = lr_now_ns(), n_said = e->n_said;
    lr_guess_make(e, jobs, n);
    bool pure = all_decode(jobs, n);
    lr_batch b = build(e, jobs, n);
    double bytes = (double)e->backend->step_bytes(e->exec, &b) / n;
    e->stats.n_steps++;
    uint64_t t1 = lr_now_ns();
    larder_status st = compute(e, &b, &logits, err);
    uint64_t t2 = lr_now_ns();
    for (uint32_t i = 0; i < n; i++) {
        larder_request *r = jobs[i]->user;
        /* the sampler may change its rows of logits: they are this request's own until the next step */
        float *own = (float *)logits + (size_t)row * e->program.n_vocab;
        row += r->n_rows;
        if (st) finish(r, LARDER_FINISH_ERROR, err->message);
        else settle(e, r, own, bytes);
    }
    if (pure && !st)
        lr_cost_note(&e->cost, n, b.n_tok, (uint32_t)(e->n_said - n_said), (double)(t2 - t1) * 1e-9,
                     (double)(lr_now_ns() - t0) * 1e-9);
    return st;
}

larder_status larder_step(larder_engine *e, bool *busy, larder_error *err)
{
    larder_error fault = {0};
    larder_status st = LARDER_OK;
    uint32_t n;
    double now = (double)lr_now_ns() * 1e-9;
    end_expired(e, now);
    lr_guess_wish(e);
    lr_job *const *jobs = lr_sched_step(&e->sched, now, &e->memory, &n);
    if (n) st = run_step(e, jobs, n, &fault);
    tell_followers(e);
    if (st && err) *err = fault;
    if (busy) *busy = e->sched.n_running || e->sched.n_waiting;
    return st;
}

larder_status larder_wait(larder_engine *e, larder_request *request, larder_error *err)
{
    while (request->job.state != LR_JOB_OUT) LR_TRY(larder_step(e, NULL, err));
    return LARDER_OK;
}
