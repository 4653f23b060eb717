/* step.c - one step: who takes part, with how many tokens, and what becomes of their logits.
 *
 * Every running request that waits for its next token takes part with one; what is left of the step's tokens goes to
 * prompts, first come first served. A request's blocks are taken as its positions are reached; the cache holds n_seq
 * whole contexts, so a request that was admitted never lacks one.
 */
#include "engine.h"

#include <assert.h>
#include <math.h>

static bool emit(larder_request *r, const larder_event *event)
{
    if (r->on_event && !r->on_event(r->user, r, event)) r->cancelled = true;
    return !r->cancelled;
}

/* Leaves the running list and gives its blocks back, the last one first (see lr_kv_cache's eviction). */
void lr_request_retire(larder_request *r)
{
    larder_engine *e = r->engine;
    uint32_t at = 0;
    while (at < e->n_running && e->running[at] != r) at++;
    if (at == e->n_running) return;
    memmove(&e->running[at], &e->running[at + 1], (e->n_running - at - 1) * sizeof(larder_request *));
    e->n_running--;
    while (r->n_blocks > 0) lr_kv_drop(&e->kv, r->blocks[--r->n_blocks]);
    r->state = LR_STATE_DONE;
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

/* ---------------------------------------------------------------- who takes part */
static void admit(larder_engine *e)
{
    while (e->waiting && e->n_running < e->limits.n_seq) {
        larder_request *r = e->waiting;
        e->waiting = r->next;
        if (!e->waiting) e->waiting_end = &e->waiting;
        r->next = NULL;
        r->state = LR_STATE_RUNNING;
        r->t_start = lr_now_ns();
        if (!e->options.no_prefix_cache) { /* the last token is always computed: its logits are wanted */
            r->n_blocks = r->n_published = lr_kv_match(&e->kv, 0, r->ids, r->n_ids - 1, r->blocks);
            r->n_done = r->n_cached = r->n_blocks * LR_KV_BLOCK;
        }
        e->running[e->n_running++] = r;
    }
}

static bool take_blocks(larder_engine *e, larder_request *r, uint32_t n_positions)
{
    while (r->n_blocks * LR_KV_BLOCK < n_positions) {
        uint32_t b = lr_kv_take(&e->kv);
        if (b == LR_KV_NO_BLOCK) return false;
        r->blocks[r->n_blocks++] = b;
    }
    return true;
}

static bool decodes(const larder_request *r) { return r->n_done + 1 == r->n_ids && r->n_ids > r->n_prompt; }

static void join(larder_engine *e, lr_batch *b, larder_request *r, uint32_t n_tok)
{
    if (!take_blocks(e, r, r->n_done + n_tok)) return;
    r->n_chunk = n_tok;
    r->wants_logits = r->n_done + n_tok == r->n_ids;
    memcpy(e->ids + b->n_tok, r->ids + r->n_done, n_tok * sizeof *e->ids);
    e->seqs[b->n_seq] = (lr_batch_seq){.blocks = r->blocks, .n_past = r->n_done, .n_tok = n_tok};
    e->members[b->n_seq++] = r;
    b->n_tok += n_tok;
    if (r->wants_logits) e->out[b->n_out++] = b->n_tok - 1;
}

static lr_batch build(larder_engine *e)
{
    lr_batch b = {.ids = e->ids, .seqs = e->seqs, .out = e->out};
    uint32_t n_decode = 0;
    for (uint32_t i = 0; i < e->n_running; i++) n_decode += decodes(e->running[i]);
    uint32_t left = e->limits.n_tok - n_decode;
    for (uint32_t i = 0; i < e->n_running; i++) {
        larder_request *r = e->running[i];
        uint32_t n = decodes(r) ? 1 : LR_MIN(r->n_ids - r->n_done, left);
        if (!n) continue;
        if (!decodes(r)) left -= n;
        join(e, &b, r, n);
    }
    return b;
}

/* ---------------------------------------------------------------- what becomes of it */
static void publish(larder_engine *e, larder_request *r)
{
    if (e->options.no_prefix_cache) return;
    for (; (r->n_published + 1) * LR_KV_BLOCK <= r->n_done; r->n_published++) {
        uint32_t i = r->n_published;
        lr_kv_publish(&e->kv, 0, i ? r->blocks[i - 1] : LR_KV_NO_BLOCK, r->ids + (size_t)i * LR_KV_BLOCK,
                      r->blocks[i]);
    }
}

static void accept(larder_engine *e, larder_request *r, int32_t token)
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
        return;
    }
    r->ids[r->n_ids++] = token;
    r->t_last = lr_now_ns();
    if (!r->t_first) r->t_first = r->t_last;
    if (tok && !r->ignore_eos && lr_tokenizer_is_end(tok, token)) {
        finish(r, LARDER_FINISH_EOS, NULL);
        return;
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
    else if (r->n_ids == r->n_max) finish(r, LARDER_FINISH_LENGTH, NULL);
}

static void settle(larder_engine *e, larder_request *r, float *logits, double bytes)
{
    bool decoded = decodes(r);
    r->n_done += r->n_chunk;
    publish(e, r);
    if (decoded) r->timing.decode_bytes += bytes;
    if (!decoded && r->n_done <= r->n_prompt) {
        larder_event event = {.kind = LARDER_EVENT_PREFILL, .n_done = r->n_done, .n_total = r->n_prompt, .text = ""};
        if (!emit(r, &event)) {
            finish(r, LARDER_FINISH_CANCELLED, NULL);
            return;
        }
    }
    if (!r->wants_logits) return;
    assert(logits);
    larder_error fault = {0};
    if (lr_constrain_logits(r, logits, &fault)) {
        finish(r, LARDER_FINISH_ERROR, fault.message);
        return;
    }
    lr_no_alloc(true);
    if (r->raw) lr_logprob_keep(r, logits, e->program.n_vocab);
    int32_t token = lr_sample(&r->sampler, &e->work, logits, r->ids, r->n_ids);
    lr_no_alloc(false);
    if (isnan(logits[token])) finish(r, LARDER_FINISH_ERROR, "the model computed NaN: its weights are damaged");
    else accept(e, r, token);
}

static void fail_all(lr_batch *b, larder_engine *e, const larder_error *why)
{
    for (uint32_t i = 0; i < b->n_seq; i++) finish(e->members[i], LARDER_FINISH_ERROR, why->message);
}

larder_status larder_step(larder_engine *e, bool *busy, larder_error *err)
{
    larder_error fault = {0};
    const float *logits = NULL;
    admit(e);
    lr_batch b = build(e);
    if (b.n_tok) {
        double bytes = (double)e->backend->step_bytes(e->exec, &b) / b.n_seq;
        lr_no_alloc(true);
        larder_status st = e->backend->step(e->exec, &b, &logits, &fault);
        lr_no_alloc(false);
        if (!st && lr_file_damaged(&e->model->file))
            st = lr_fail(&fault, LARDER_IO, "the model file changed while it was in use; load it again");
        if (st) {
            fail_all(&b, e, &fault);
            if (err) *err = fault;
            if (busy) *busy = e->n_running || e->waiting;
            return st;
        }
        uint32_t row = 0;
        for (uint32_t i = 0; i < b.n_seq; i++) {
            larder_request *r = e->members[i];
            /* the sampler may change its row of logits: it is this request's own until the next step */
            float *own = r->wants_logits ? (float *)logits + (size_t)row++ * e->program.n_vocab : NULL;
            settle(e, r, own, bytes);
        }
    }
    if (busy) *busy = e->n_running || e->waiting;
    return LARDER_OK;
}

larder_status larder_wait(larder_engine *e, larder_request *request, larder_error *err)
{
    while (request->state != LR_STATE_DONE) LR_TRY(larder_step(e, NULL, err));
    return LARDER_OK;
}
