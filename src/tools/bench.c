/* bench.c - a model's speed here: prefill and decode at lengths and depths, medians, beside what the memory can do.
 *
 * Tokens are random and fixed: speed does not depend on them. The cache is filled to a depth once per test. */
#include "engine.h"
#include "larder_tools.h"

#include <stdlib.h>

typedef struct job {
    larder_model *model;
    const larder_bench_options *o;
    larder_engine *e;
    int32_t *ids; /* [n_ctx] */
    uint32_t *blocks;
    double bandwidth; /* bytes per second, measured; 0: unknown */
    larder_bench_row *rows;
    size_t n_rows, cap;
    uint64_t done, total; /* tests */
    larder_progress_fn *progress;
    void *user;
} job;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static uint64_t longest_context(const larder_bench_options *o)
{
    uint64_t prompt = 0, depth = 0;
    for (uint32_t i = 0; i < o->n_n_prompt; i++) prompt = LR_MAX(prompt, (uint64_t)o->n_prompt[i]);
    for (uint32_t i = 0; i < o->n_depth; i++) depth = LR_MAX(depth, (uint64_t)o->depth[i]);
    return depth + LR_MAX(prompt, (uint64_t)o->n_gen) + 1;
}

/* Runs positions [from, to) in steps of at most `chunk` tokens. The bytes of the last step are in *bytes. */
static larder_status advance(job *j, uint32_t from, uint32_t to, uint32_t chunk, double *bytes, larder_error *err)
{
    const float *logits;
    for (uint32_t at = from; at < to;) {
        uint32_t n = LR_MIN(chunk, to - at), last = n - 1;
        lr_batch_seq seq = {.blocks = j->blocks, .n_past = at, .n_tok = n};
        lr_batch b = {.ids = j->ids + at, .n_tok = n, .seqs = &seq, .n_seq = 1, .out = &last, .n_out = 1};
        LR_TRY(j->e->backend->step(j->e->exec, &b, &logits, err));
        if (bytes) *bytes += (double)j->e->backend->step_bytes(j->e->exec, &b);
        at += n;
    }
    return LARDER_OK;
}

static larder_status measure(job *j, uint32_t depth, uint32_t n, uint32_t chunk, larder_bench_row *row,
                             larder_error *err)
{
    double rate[64], gbs[64];
    uint32_t repeat = LR_MIN(LR_MAX(j->o->repeat, 1u), (uint32_t)LR_LEN(rate));
    LR_TRY(advance(j, 0, depth, j->e->limits.n_tok, NULL, err));
    LR_TRY(advance(j, depth, depth + LR_MIN(n, 2 * chunk), chunk, NULL, err)); /* warm up */
    for (uint32_t r = 0; r < repeat; r++) {
        double bytes = 0;
        uint64_t t0 = lr_now_ns();
        LR_TRY(advance(j, depth, depth + n, chunk, &bytes, err));
        double s = (double)(lr_now_ns() - t0) * 1e-9;
        rate[r] = n / s;
        gbs[r] = bytes / s * 1e-9;
        larder_progress p = {row->test, j->done * repeat + r + 1, j->total * repeat, rate[r], -1};
        if (j->progress && !j->progress(j->user, &p)) return lr_fail(err, LARDER_CANCELLED, "interrupted");
    }
    qsort(rate, repeat, sizeof *rate, by_value);
    qsort(gbs, repeat, sizeof *gbs, by_value);
    row->n_tokens = n;
    row->depth = depth;
    row->n_threads = j->e->limits.n_thread;
    row->tok_s = rate[repeat / 2];
    row->tok_s_low = rate[0];
    row->tok_s_high = rate[repeat - 1];
    if (chunk == 1) {
        row->gbs = gbs[repeat / 2];
        row->share = j->bandwidth > 0 ? row->gbs * 1e9 / j->bandwidth : 0;
    }
    return LARDER_OK;
}

static larder_status test(job *j, const char *kind, uint32_t depth, uint32_t n, uint32_t chunk, larder_error *err)
{
    larder_bench_row *row = &j->rows[j->n_rows];
    int len = snprintf(row->test, sizeof row->test, "%s%u", kind, n);
    if (depth) snprintf(row->test + len, sizeof row->test - (size_t)len, " @ d%u", depth);
    LR_TRY(measure(j, depth, n, chunk, row, err));
    j->n_rows++;
    j->done++;
    return LARDER_OK;
}

static larder_status run_all(job *j, larder_error *err)
{
    static const uint32_t zero[1] = {0};
    const uint32_t *depth = j->o->n_depth ? j->o->depth : zero;
    uint32_t n_depth = LR_MAX(j->o->n_depth, 1u);
    for (uint32_t d = 0; d < n_depth; d++) {
        for (uint32_t i = 0; i < j->o->n_n_prompt; i++)
            if (j->o->n_prompt[i]) LR_TRY(test(j, "pp", depth[d], j->o->n_prompt[i], j->e->limits.n_tok, err));
        if (j->o->n_gen) LR_TRY(test(j, "tg", depth[d], j->o->n_gen, 1, err));
    }
    return LARDER_OK;
}

static larder_status take(job *j, larder_error *err)
{
    uint32_t n_ctx = j->e->limits.n_ctx, n_block = (n_ctx + LR_KV_BLOCK - 1) / LR_KV_BLOCK;
    j->total = (uint64_t)LR_MAX(j->o->n_depth, 1u) * (j->o->n_n_prompt + (j->o->n_gen > 0));
    j->rows = lr_calloc(j->total + 1, sizeof *j->rows);
    j->ids = lr_calloc(n_ctx, sizeof *j->ids);
    j->blocks = lr_calloc(n_block, sizeof *j->blocks);
    if (!j->rows || !j->ids || !j->blocks) return LR_NOMEM(err, "the benchmark");
    for (uint32_t i = 0; i < n_ctx; i++) j->ids[i] = (int32_t)(lr_sample_random(1, i, 0) * j->e->program.n_vocab);
    for (uint32_t i = 0; i < n_block; i++) j->blocks[i] = lr_kv_take(&j->e->kv);
    return LARDER_OK;
}

larder_status larder_bench(larder_model *model, const larder_bench_options *options, larder_bench_row **rows,
                           size_t *n, larder_progress_fn *progress, void *user, larder_error *err)
{
    job j = {.model = model, .o = options, .progress = progress, .user = user};
    larder_engine_options o = options->engine;
    larder_probe probe;
    larder_status st = LARDER_OK;
    *rows = NULL;
    *n = 0;
    uint64_t needed = longest_context(options);
    if (!o.n_ctx) o.n_ctx = (uint32_t)LR_MIN(needed, (uint64_t)1 << 24); /* the most that can be had */
    if (o.n_ctx < needed)
        return lr_fail(err, LARDER_USAGE, "these lengths and depths need a context of %llu; %u is to be had (--ctx)",
                       (unsigned long long)needed, o.n_ctx);
    LR_GO(larder_engine_open(model, &o, &j.e, err));
    LR_GO(take(&j, err));
    if (!larder_probe_machine(false, &probe, NULL, NULL, NULL))
        j.bandwidth = larder_probe_bandwidth(&probe, j.e->limits.n_thread);
    LR_GO(run_all(&j, err));
    if (lr_file_damaged(&model->file)) LR_GO(lr_fail(err, LARDER_IO, "the model file changed while it was measured"));
    *rows = j.rows;
    *n = j.n_rows;
    j.rows = NULL;
fail:
    larder_engine_free(j.e);
    lr_free(j.rows);
    lr_free(j.ids);
    lr_free(j.blocks);
    return st;
}
