/* engine.c - making a model ready to run: plan, refuse or take, threads, cache; and the logits of one prompt. */
#include "engine.h"

static larder_status take_memory(larder_engine *e, larder_error *err)
{
    lr_kv_swap swap = {&e->swap, e->n_swap, lr_swap_write, lr_swap_read};
    size_t n_block = (size_t)e->backend->kv_block_bytes(&e->program, e->limits.kv);
    if (e->n_swap)
        LR_TRY(lr_swap_open(&e->swap, e->backend, e->exec, n_block, e->n_swap, e->options.swap_fd,
                            e->options.swap_folder, err));
    LR_TRY(lr_kv_cache_init(&e->kv, e->limits.n_kv_block, &swap, err));
    LR_TRY(lr_sampler_work_init(&e->work, e->program.n_vocab, e->limits.n_ctx, err));
    LR_TRY(lr_sched_init(&e->sched,
                         &(lr_sched_limits){.n_seq = e->limits.n_seq,
                                            .n_tok = e->limits.n_tok,
                                            .n_mixed = e->options.n_mixed,
                                            .n_draft = e->n_draft,
                                            .block = LR_KV_BLOCK},
                         err));
    e->seqs = lr_calloc(e->limits.n_seq, sizeof *e->seqs);
    e->ids = lr_calloc(e->limits.n_tok, sizeof *e->ids);
    e->out = lr_calloc(e->limits.n_out, sizeof *e->out);
    if (e->seqs && e->ids && e->out) return LARDER_OK;
    return LR_NOMEM(err, "the batch");
}

/* A draft is compared by number, so every number must mean the same text. */
static larder_status same_vocabulary(const larder_model *a, const larder_model *b, larder_error *err)
{
    lr_buf x = {0}, y = {0};
    uint32_t n = a->info.n_vocab, i = 0;
    if (n != b->info.n_vocab)
        return lr_fail(err, LARDER_UNSUPPORTED, "the draft model has a vocabulary of %u, the model one of %u",
                       b->info.n_vocab, n);
    LR_TRY(lr_model_need_text(a, err));
    LR_TRY(lr_model_need_text(b, err));
    bool same = lr_tokenizer_size(a->text.tok) == lr_tokenizer_size(b->text.tok);
    n = LR_MIN(n, lr_tokenizer_size(a->text.tok));
    for (; same && i < n; i++) {
        x.n = y.n = 0;
        bool none = lr_tokenizer_piece(a->text.tok, (int32_t)i, true, &x, NULL) != LARDER_OK;
        same = none == (lr_tokenizer_piece(b->text.tok, (int32_t)i, true, &y, NULL) != LARDER_OK) && x.n == y.n &&
               (!x.n || !memcmp(x.p, y.p, x.n));
    }
    lr_buf_free(&x);
    lr_buf_free(&y);
    if (same) return LARDER_OK;
    return lr_fail(err, LARDER_UNSUPPORTED, "the draft model's vocabulary is another than the model's");
}

static larder_status open_draft(larder_engine *e, const larder_model *draft, larder_error *err)
{
    if (e->limits.n_ctx > draft->info.n_ctx_train && draft->info.n_ctx_train)
        lr_log(LARDER_LOG_WARN, "the draft model was made for a context of %u; past it, its guesses may be poor",
               draft->info.n_ctx_train);
    return lr_draft_open(&e->draft, &draft->model, &e->limits, e->backend, e->pool, err);
}

/* The parts of the weights that steps read from the file, in the order they do. Tables of which rows are looked up are not
 * among them. A part that has been named before costs nothing the second time. */
static size_t list_weights(const lr_program *p, lr_ahead_part *out)
{
    size_t n = 0;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const lr_op *o = &p->ops[i];
        if (o->kind == LR_OP_EMBED || o->w == LR_NONE) continue;
        const lr_tensor *t = p->weights[o->w].t;
        uint64_t n_mat = t->mats ? t->ne[2] : 1;
        for (uint64_t m = 0; m < n_mat; m++, n++)
            if (out) out[n] = (lr_ahead_part){t->mats ? t->mats[m] : t->data, t->n_bytes / n_mat};
    }
    return n;
}

/* What the plan leaves for the file may come into memory. Without it the engine works as well, so nothing fails. */
static void read_ahead(larder_engine *e)
{
    larder_error err;
    const larder_plan *plan = &e->plan;
    uint64_t others = 0;
    lr_topology here;
    lr_topology_get(&here);
    /* On a machine of several memories each thread brings its own share into its own. */
    if (e->backend != &lr_backend_cpu || e->model->made || e->options.repack || here.n_numa > 1) return;
    for (uint32_t i = 0; i < plan->n_buffers; i++)
        if (!plan->buffers[i].mapped) others += plan->buffers[i].n_bytes;
    size_t n = list_weights(&e->program, NULL);
    lr_ahead_part *parts = n ? lr_calloc(n, sizeof *parts) : NULL;
    if (!parts) return;
    list_weights(&e->program, parts);
    if (lr_ahead_start(parts, n, plan->available - LR_MIN(others, plan->available), e->options.reading,
                       e->options.reading_user, &e->ahead, &err))
        lr_log(LARDER_LOG_WARN, "%s: the model is read as it is used", err.message);
    lr_free(parts);
}

/* Plan, threads, and the model on the device; *taken: it had room, and only what was taken there could fail. */
static larder_status open_on(larder_engine *e, const larder_engine_options *o, bool *taken, larder_error *err)
{
    *taken = false;
    LR_TRY(lr_plan_make(e->model, o, &e->backend, &e->limits, &e->plan, err));
    if (e->plan.not_on_card[0]) lr_log(LARDER_LOG_WARN, "%s", e->plan.not_on_card);
    if (!e->plan.fits) return lr_plan_refuse(&e->plan, err);
    LR_TRY(lr_model_program(&e->model->model, e->limits.n_ctx, &e->program, err));
    e->n_swap = lr_plan_swap(e->backend, &e->program, &e->limits, o);
    uint32_t rows = LR_MIN(LR_MAX(o->n_out, e->limits.n_seq), e->limits.n_out);
    e->n_draft = LR_MIN(lr_plan_drafts(&e->limits, o), e->limits.n_out - rows);
    LR_TRY(lr_pool_new((int)e->limits.n_thread, true, &e->pool, err));
    *taken = true;
    LR_TRY(e->backend->open(&e->program, &e->limits, e->pool, &e->exec, err));
    return o->draft && o->speculate == LARDER_SPECULATE_AUTO ? open_draft(e, o->draft, err) : LARDER_OK;
}

static void leave_device(larder_engine *e)
{
    lr_draft_close(&e->draft);
    if (e->exec) e->backend->close(e->exec);
    lr_pool_free(e->pool);
    lr_program_free(&e->program);
    e->exec = NULL;
    e->pool = NULL;
    e->program = (lr_program){0};
}

/* What the options name; where that is left open, a card that fails leaves it to the processor. */
static larder_status open_device(larder_engine *e, larder_error *err)
{
    larder_error why = {0};
    larder_engine_options o = e->options;
    bool taken;
    uint32_t train = e->model->model.hp.n_ctx_train;
    if (o.n_ctx > train && train)
        lr_log(LARDER_LOG_WARN, "context %u is beyond the %u this model was made for", o.n_ctx, train);
    larder_status st = open_on(e, &o, &taken, &why);
    if (!st && e->backend != &lr_backend_cpu && o.repack)
        lr_log(LARDER_LOG_WARN, "--repack means nothing on a card: its kernels read the weights as they are");
    if (st && taken && o.device == LARDER_DEVICE_AUTO && e->backend != &lr_backend_cpu) {
        lr_log(LARDER_LOG_WARN, "not on the card: %s", why.message);
        leave_device(e);
        o.device = LARDER_DEVICE_CPU;
        return open_on(e, &o, &taken, err);
    }
    if (st && err) *err = why;
    return st;
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
    e->swap.fd = -1;
    lr_memory_fill(e);
    if (options->draft && options->speculate == LARDER_SPECULATE_AUTO)
        LR_GO(same_vocabulary(model, options->draft, err));
    LR_GO(open_device(e, err));
    LR_GO(take_memory(e, err));
    read_ahead(e);
    *out = e;
    return LARDER_OK;
fail:
    larder_engine_free(e);
    return st;
}

void larder_engine_free(larder_engine *e)
{
    if (!e) return;
    lr_ahead_stop(e->ahead);
    /* requests that outlive their engine are done, so that freeing them does not reach into it */
    for (uint32_t i = 0; i < e->sched.n_running; i++) e->sched.running[i]->state = LR_JOB_OUT;
    for (lr_job *j = e->sched.head; j; j = j->next) j->state = LR_JOB_OUT;
    lr_sched_close(&e->sched);
    lr_swap_close(&e->swap);
    lr_salts_close(&e->salts);
    leave_device(e);
    lr_kv_cache_close(&e->kv);
    lr_sampler_work_close(&e->work);
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
        uint32_t chunk = LR_MIN(n - at, e->limits.n_out - e->n_draft);
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
    *out = e->stats;
    out->n_running = e->sched.n_running;
    out->n_waiting = e->sched.n_waiting;
    out->n_block = e->kv.n;
    out->n_block_cached = e->kv.unused.n;
    out->n_block_used = e->kv.n - lr_kv_room(&e->kv);
    out->block_tokens = LR_KV_BLOCK;
    out->n_preempted = e->sched.n_preempted;
    out->n_swap_out = e->kv.n_out;
    out->n_swap_in = e->kv.n_in;
    out->n_swap_lost = e->kv.n_lost;
    out->n_swap = e->kv.swap.n_slot;
    out->n_swap_used = e->kv.swapped.n;
}
