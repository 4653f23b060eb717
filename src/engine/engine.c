/* engine.c - making a model ready to run: plan, refuse or take, threads, cache; and the logits of one prompt. */
#include "engine.h"

static larder_status take_memory(larder_engine *e, larder_error *err)
{
    LR_TRY(lr_kv_cache_init(&e->kv, e->limits.n_kv_block, err));
    LR_TRY(lr_sampler_work_init(&e->work, e->program.n_vocab, e->limits.n_ctx, err));
    e->running = lr_calloc(e->limits.n_seq, sizeof *e->running);
    e->members = lr_calloc(e->limits.n_seq, sizeof *e->members);
    e->seqs = lr_calloc(e->limits.n_seq, sizeof *e->seqs);
    e->ids = lr_calloc(e->limits.n_tok, sizeof *e->ids);
    e->out = lr_calloc(e->limits.n_out, sizeof *e->out);
    if (e->running && e->members && e->seqs && e->ids && e->out) return LARDER_OK;
    return LR_NOMEM(err, "the batch");
}

larder_status larder_engine_open(larder_model *model, const larder_engine_options *options, larder_engine **out,
                                 larder_error *err)
{
    larder_status st = LARDER_OK;
    *out = NULL;
    larder_engine *e = lr_calloc(1, sizeof *e);
    if (!e) return LR_NOMEM(err, "an engine");
    e->model = model;
    e->options = *options;
    e->backend = &lr_backend_cpu;
    e->waiting_end = &e->waiting;
    LR_GO(lr_plan_make(model, options, &e->limits, &e->plan, err));
    if (!e->plan.fits) LR_GO(lr_plan_refuse(&e->plan, err));
    LR_GO(lr_model_program(&model->model, e->limits.n_ctx, &e->program, err));
    LR_GO(lr_pool_new((int)e->limits.n_thread, true, &e->pool, err));
    LR_GO(e->backend->open(&e->program, &e->limits, e->pool, &e->exec, err));
    LR_GO(take_memory(e, err));
    *out = e;
    return LARDER_OK;
fail:
    larder_engine_free(e);
    return st;
}

void larder_engine_free(larder_engine *e)
{
    if (!e) return;
    /* requests that outlive their engine are done, so that freeing them does not reach into it */
    for (uint32_t i = 0; i < e->n_running; i++) e->running[i]->state = LR_STATE_DONE;
    for (larder_request *r = e->waiting; r; r = r->next) r->state = LR_STATE_DONE;
    if (e->exec) e->backend->close(e->exec);
    lr_pool_free(e->pool);
    lr_program_free(&e->program);
    lr_kv_cache_close(&e->kv);
    lr_sampler_work_close(&e->work);
    lr_free(e->running);
    lr_free(e->members);
    lr_free(e->seqs);
    lr_free(e->ids);
    lr_free(e->out);
    lr_free(e);
}

void larder_engine_get_plan(const larder_engine *engine, larder_plan *out) { *out = engine->plan; }

larder_status lr_check_ids(const larder_engine *e, const int32_t *ids, size_t n_ids, larder_error *err)
{
    if (!n_ids) return lr_fail(err, LARDER_USAGE, "the prompt is empty");
    if (n_ids > e->limits.n_ctx)
        return lr_fail(err, LARDER_LIMIT,
                       "the prompt is %zu tokens and the context is %u; shorten it or give a larger --ctx", n_ids,
                       e->limits.n_ctx);
    for (size_t i = 0; i < n_ids; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= e->program.n_vocab)
            return lr_fail(err, LARDER_USAGE, "token %d at %zu is not one of the model's %u", ids[i], i,
                           e->program.n_vocab);
    return LARDER_OK;
}

larder_status lr_logits(larder_engine *e, const int32_t *ids, size_t n_ids, float *out, lr_tick_fn *tick, void *user,
                        larder_error *err)
{
    LR_TRY(lr_check_ids(e, ids, n_ids, err));
    uint32_t n = (uint32_t)n_ids, n_block = (n + LR_KV_BLOCK - 1) / LR_KV_BLOCK, taken = 0;
    size_t n_vocab = e->program.n_vocab;
    if (lr_kv_room(&e->kv) < n_block) return lr_fail(err, LARDER_LIMIT, "the cache is in use by running requests");
    larder_status st = LARDER_OK;
    uint32_t *blocks = lr_calloc(n_block, sizeof *blocks);
    if (!blocks) return LR_NOMEM(err, "a block table");
    while (taken < n_block) blocks[taken++] = lr_kv_take(&e->kv);
    for (uint32_t at = 0; at < n;) {
        uint32_t chunk = LR_MIN(n - at, e->limits.n_out);
        lr_batch_seq seq = {.blocks = blocks, .n_past = at, .n_tok = chunk};
        for (uint32_t i = 0; i < chunk; i++) e->out[i] = i;
        lr_batch b = {.ids = ids + at, .n_tok = chunk, .seqs = &seq, .n_seq = 1, .out = e->out, .n_out = chunk};
        const float *logits;
        LR_GO(e->backend->step(e->exec, &b, &logits, err));
        if (out) memcpy(out + (size_t)at * n_vocab, logits, (size_t)chunk * n_vocab * sizeof *out);
        at += chunk;
        if (tick && !tick(user, logits, chunk, at, n)) LR_GO(lr_fail(err, LARDER_CANCELLED, "stopped"));
    }
    if (lr_file_damaged(&e->model->file)) st = lr_fail(err, LARDER_IO, "the model file changed while it was in use");
fail:
    while (taken > 0) lr_kv_drop(&e->kv, blocks[--taken]);
    lr_free(blocks);
    return st;
}

larder_status larder_logits(larder_engine *e, const int32_t *ids, size_t n_ids, float *out, larder_error *err)
{
    return lr_logits(e, ids, n_ids, out, NULL, NULL, err);
}

void larder_engine_get_stats(const larder_engine *e, larder_engine_stats *out)
{
    *out = (larder_engine_stats){
        .n_running = e->n_running, .n_block = e->kv.n, .n_block_cached = e->kv.n_cached, .block_tokens = LR_KV_BLOCK};
    for (const larder_request *r = e->waiting; r; r = r->next) out->n_waiting++;
    out->n_block_used = e->kv.n - lr_kv_room(&e->kv);
}

/* ---------------------------------------------------------------- requests */
larder_sampling larder_sampling_defaults(void)
{
    return (larder_sampling){.temperature = 0.8f,
                             .top_k = 40,
                             .top_p = 0.95f,
                             .min_p = 0.05f,
                             .typical_p = 1,
                             .repeat_penalty = 1,
                             .penalty_last_n = 64,
                             .dry_base = 1.75f,
                             .dry_allowed_length = 2,
                             .dry_last_n = -1,
                             .xtc_threshold = 0.1f,
                             .mirostat_eta = 0.1f};
}

larder_request_options larder_request_defaults(void)
{
    return (larder_request_options){.sampling = larder_sampling_defaults()};
}

/* DRY does not count repetitions across these (its usual breakers), in any token that holds one. */
static larder_status mark_breaks(larder_request *r, const larder_engine *e, larder_error *err)
{
    uint32_t n = e->program.n_vocab;
    r->breaks = lr_calloc((n + 7) / 8, 1);
    if (!r->breaks) return LR_NOMEM(err, "sequence breakers");
    r->sampler.breaks = r->breaks;
    if (!e->model->has_text) return LARDER_OK;
    lr_buf piece = {0};
    for (uint32_t i = 0; i < LR_MIN(n, lr_tokenizer_size(e->model->text.tok)); i++) {
        piece.n = 0;
        if (lr_tokenizer_piece(e->model->text.tok, (int32_t)i, true, &piece, NULL)) continue;
        for (size_t k = 0; k < piece.n; k++)
            if (strchr("\n:\"*", piece.p[k]) && piece.p[k]) r->breaks[i >> 3] |= (uint8_t)(1u << (i & 7));
    }
    lr_buf_free(&piece);
    return LARDER_OK;
}

static larder_status fill_request(larder_request *r, larder_engine *e, const larder_request_options *o,
                                  larder_error *err)
{
    uint64_t room = e->limits.n_ctx - o->n_ids;
    if (!room)
        return lr_fail(err, LARDER_LIMIT, "the prompt is %zu tokens and fills the context of %u", o->n_ids,
                       e->limits.n_ctx);
    r->n_prompt = r->n_ids = (uint32_t)o->n_ids;
    r->n_max = r->n_prompt + (uint32_t)(o->max_tokens ? LR_MIN((uint64_t)o->max_tokens, room) : room);
    r->ids = lr_calloc(r->n_max, sizeof *r->ids);
    r->blocks = lr_calloc((r->n_max + LR_KV_BLOCK - 1) / LR_KV_BLOCK, sizeof *r->blocks);
    if (!r->ids || !r->blocks) return LR_NOMEM(err, "a request");
    memcpy(r->ids, o->ids, o->n_ids * sizeof *r->ids);
    LR_TRY(lr_sampler_init(&r->sampler, &o->sampling, e->program.n_vocab, err));
    if (o->sampling.dry_multiplier > 0) LR_TRY(mark_breaks(r, e, err));
    LR_TRY(lr_stream_init(&r->stream, o->stop, o->n_stop, err));
    if (o->grammar) LR_TRY(lr_constrain_init(r, o->grammar, err));
    r->ignore_eos = o->ignore_eos;
    if (o->n_top > LR_MAX_TOP)
        return lr_fail(err, LARDER_USAGE, "top log probabilities of %u tokens; at most %d", o->n_top, LR_MAX_TOP);
    if (o->logprobs && !(r->raw = lr_alloc(e->program.n_vocab * sizeof *r->raw)))
        return LR_NOMEM(err, "log probabilities");
    r->n_top = LR_MIN(o->n_top, e->program.n_vocab);
    r->on_event = o->on_event;
    r->user = o->user;
    r->timing.n_prompt = r->n_prompt;
    return LARDER_OK;
}

larder_status larder_submit(larder_engine *e, const larder_request_options *o, larder_request **out,
                            larder_error *err)
{
    *out = NULL;
    LR_TRY(lr_check_ids(e, o->ids, o->n_ids, err));
    larder_request *r = lr_calloc(1, sizeof *r);
    if (!r) return LR_NOMEM(err, "a request");
    r->engine = e;
    larder_status st = fill_request(r, e, o, err);
    if (st) {
        r->state = LR_STATE_DONE;
        larder_request_free(r);
        return st;
    }
    *e->waiting_end = r;
    e->waiting_end = &r->next;
    *out = r;
    return LARDER_OK;
}

static void leave_queue(larder_request *r)
{
    larder_engine *e = r->engine;
    larder_request **link = &e->waiting;
    while (*link && *link != r) link = &(*link)->next;
    if (!*link) return;
    *link = r->next;
    if (e->waiting_end == &r->next) e->waiting_end = link;
}

void larder_request_free(larder_request *r)
{
    if (!r) return;
    if (r->state == LR_STATE_WAITING) leave_queue(r);
    if (r->state == LR_STATE_RUNNING) lr_request_retire(r);
    lr_sampler_close(&r->sampler);
    lr_stream_close(&r->stream);
    lr_matcher_close(&r->grammar);
    lr_free(r->breaks);
    lr_free(r->raw);
    lr_free(r->ids);
    lr_free(r->blocks);
    lr_free(r);
}

void larder_request_get_timing(const larder_request *r, larder_timing *out)
{
    *out = r->timing;
    out->n_generated = r->n_ids - r->n_prompt;
    out->n_cached = r->n_cached;
    if (r->t_first) out->prefill_s = (double)(r->t_first - r->t_start) * 1e-9;
    if (r->t_last > r->t_first) out->decode_s = (double)(r->t_last - r->t_first) * 1e-9;
}
