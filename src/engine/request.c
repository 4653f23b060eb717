/* request.c - requests from submission to their end: what they ask for, checked and copied; what became of them. */
#include "engine.h"

#include <math.h>

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
    uint32_t n_prompt = (uint32_t)o->n_ids;
    r->job = (lr_job){
        .user = r, .client = o->client, .priority = o->priority, .n_prompt = n_prompt, .n_ids = n_prompt};
    r->n_max = n_prompt + (uint32_t)(o->max_tokens ? LR_MIN((uint64_t)o->max_tokens, room) : room);
    r->ids = lr_calloc(r->n_max, sizeof *r->ids);
    r->blocks = lr_calloc((r->n_max + LR_KV_BLOCK - 1) / LR_KV_BLOCK, sizeof *r->blocks);
    if (!r->ids || !r->blocks) return LR_NOMEM(err, "a request");
    memcpy(r->ids, o->ids, o->n_ids * sizeof *r->ids);
    LR_TRY(lr_sampler_init(&r->sampler, &o->sampling, e->program.n_vocab, err));
    if (o->sampling.dry_multiplier > 0) LR_TRY(mark_breaks(r, e, err));
    LR_TRY(lr_stream_init(&r->stream, o->stop, o->n_stop, err));
    if (o->grammar) LR_TRY(lr_constrain_init(r, o->grammar, err));
    r->ignore_eos = o->ignore_eos;
    larder_speculate all = e->options.speculate;
    lr_speculation_init(&r->speculation, all == LARDER_SPECULATE_AUTO ? o->speculate : all);
    if (o->speculate == LARDER_SPECULATE_OFF) r->speculation.mode = LARDER_SPECULATE_OFF;
    if (o->n_top > LR_MAX_TOP)
        return lr_fail(err, LARDER_USAGE, "top log probabilities of %u tokens; at most %d", o->n_top, LR_MAX_TOP);
    if (o->logprobs && !(r->raw = lr_alloc(e->program.n_vocab * sizeof *r->raw)))
        return LR_NOMEM(err, "log probabilities");
    r->n_top = LR_MIN(o->n_top, e->program.n_vocab);
    r->on_event = o->on_event;
    r->user = o->user;
    r->timing.n_prompt = n_prompt;
    r->t_submit = lr_now_ns();
    if (!(o->deadline_s >= 0) || isinf(o->deadline_s))
        return lr_fail(err, LARDER_USAGE, "a deadline must be a number of seconds from now");
    if (o->deadline_s > 0) r->job.deadline = (double)r->t_submit * 1e-9 + o->deadline_s;
    return lr_salt_number(&e->salts, o->cache_salt, &r->salt, err);
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
    if (!st) st = lr_sched_add(&e->sched, &r->job, (double)r->t_submit * 1e-9, err);
    if (st) {
        larder_request_free(r);
        return st;
    }
    *out = r;
    return LARDER_OK;
}

void lr_request_retire(larder_request *r)
{
    if (r->job.state == LR_JOB_OUT) return;
    lr_memory_give_back(r);
    lr_sched_remove(&r->engine->sched, &r->job);
}

void larder_request_free(larder_request *r)
{
    if (!r) return;
    lr_request_retire(r);
    lr_sampler_close(&r->sampler);
    lr_stream_close(&r->stream);
    lr_constrain_close(r);
    lr_free(r->breaks);
    lr_free(r->raw);
    lr_free(r->ids);
    lr_free(r->blocks);
    lr_free(r);
}

void larder_request_get_timing(const larder_request *r, larder_timing *out)
{
    *out = r->timing;
    out->n_generated = r->job.n_ids - r->job.n_prompt;
    out->n_cached = r->n_cached;
    out->n_preempted = r->job.n_preempted;
    out->n_drafted = r->speculation.n_drafted;
    out->n_accepted = r->speculation.n_accepted;
    if (r->t_start) out->queue_s = (double)(r->t_start - r->t_submit) * 1e-9;
    if (r->t_first) out->prefill_s = (double)(r->t_first - r->t_start) * 1e-9;
    if (r->t_last > r->t_first) out->decode_s = (double)(r->t_last - r->t_first) * 1e-9;
}
