/* bench.c - a model's speed here: prefill and decode at lengths and depths, medians, beside what the memory can do.
 *
 * Tokens are random and fixed: speed does not depend on them. The cache is filled to a depth once per test. What plain
 * reading reaches is measured before and after every round, since on a machine with other work it changes. */
#include "bench_limit.h"
#include "engine.h"
#include "larder_tools.h"

#include <stdlib.h>
#include <unistd.h>

enum { MAX_OPS = 64 };

typedef struct job {
    larder_model *model;
    const larder_bench_options *o;
    larder_engine *e;
    uint32_t n_seq, n_block; /* most sequences; blocks of each */
    int32_t *ids;            /* [n_ctx] */
    uint32_t *blocks;        /* [n_seq][n_block] */
    lr_batch_seq *seqs; /* of a step of decoding: [n_seq], and for each its token and its place among the outputs */
    int32_t *next;
    uint32_t *out_at;
    lr_bench_limit limit;
    double peak[4]; /* operations a second by larder_act */
    larder_bench_result *out;
    uint64_t done, total; /* tests */
    larder_progress_fn *progress;
    void *user;
} job;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static double median(double *v, uint32_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return v[n / 2];
}

static uint32_t most_sequences(const larder_bench_options *o)
{
    uint32_t most = 1;
    for (uint32_t i = 0; i < o->n_n_seq; i++) most = LR_MAX(most, o->n_seq[i]);
    return most;
}

static uint64_t longest_context(const larder_bench_options *o)
{
    uint64_t prompt = 0, depth = 0;
    for (uint32_t i = 0; i < o->n_n_prompt; i++) prompt = LR_MAX(prompt, (uint64_t)o->n_prompt[i]);
    for (uint32_t i = 0; i < o->n_depth; i++) depth = LR_MAX(depth, (uint64_t)o->depth[i]);
    return depth + LR_MAX(prompt, (uint64_t)o->n_gen) + 1;
}

static larder_status tell(job *j, const char *what, uint64_t n_done, uint64_t n_total, double rate, larder_error *err)
{
    larder_progress p = {what, n_done, n_total, rate, -1};
    if (j->progress && !j->progress(j->user, &p)) return lr_fail(err, LARDER_CANCELLED, "interrupted");
    return LARDER_OK;
}

/* Runs positions [from, to) in steps of at most `chunk` tokens. The bytes read are added to *bytes. */
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

/* n_seq sequences decode positions [from, to). */
static larder_status decode(job *j, uint32_t n_seq, uint32_t from, uint32_t to, double *bytes, larder_error *err)
{
    const float *logits;
    lr_batch b = {.ids = j->next, .n_tok = n_seq, .seqs = j->seqs, .n_seq = n_seq, .out = j->out_at, .n_out = n_seq};
    for (uint32_t at = from; at < to; at++) {
        for (uint32_t s = 0; s < n_seq; s++) {
            j->seqs[s] = (lr_batch_seq){.blocks = j->blocks + (size_t)s * j->n_block, .n_past = at, .n_tok = 1};
            j->next[s] = j->ids[(at + s) % j->e->limits.n_ctx]; /* experts and rows of tables of their own */
            j->out_at[s] = s;
        }
        LR_TRY(j->e->backend->step(j->e->exec, &b, &logits, err));
        if (bytes) *bytes += (double)j->e->backend->step_bytes(j->e->exec, &b);
    }
    return LARDER_OK;
}

/* The cache up to `depth`, which at great depths takes long enough to show how far it is. */
static larder_status fill_by_steps(job *j, uint32_t depth, larder_error *err)
{
    uint64_t t0 = lr_now_ns();
    for (uint32_t at = 0; at < depth;) {
        uint32_t to = LR_MIN(depth, at + j->e->limits.n_tok);
        LR_TRY(advance(j, at, to, j->e->limits.n_tok, NULL, err));
        at = to;
        LR_TRY(tell(j, "filling the cache", at, depth, at / ((double)(lr_now_ns() - t0) * 1e-9), err));
    }
    return LARDER_OK;
}

/* Blocks [from, to) become copies of the first `n`, in turn. */
static larder_status repeat_blocks(job *j, uint32_t n, size_t from, size_t to, larder_error *err)
{
    const lr_backend *be = j->e->backend;
    uint8_t *block = lr_calloc(be->kv_block_bytes(&j->e->program, j->e->limits.kv), 1);
    if (!block) return LR_NOMEM(err, "a block of the cache");
    for (size_t i = from; i < to; i++) {
        be->kv_read(j->e->exec, j->blocks[i % n], block);
        be->kv_write(j->e->exec, j->blocks[i], block);
    }
    lr_free(block);
    return LARDER_OK;
}

/* The first sequence's cache. Random weights remember nothing worth computing: their first chunk stands for the rest. */
static larder_status fill_first(job *j, uint32_t depth, larder_error *err)
{
    uint32_t chunk = j->e->limits.n_tok / LR_KV_BLOCK * LR_KV_BLOCK;
    if (!j->model->n_made || depth <= chunk || !chunk) return fill_by_steps(j, depth, err);
    LR_TRY(fill_by_steps(j, chunk, err));
    return repeat_blocks(j, chunk / LR_KV_BLOCK, chunk / LR_KV_BLOCK, (depth + LR_KV_BLOCK - 1) / LR_KV_BLOCK, err);
}

/* The others remember the same, in blocks of their own. */
static larder_status fill(job *j, uint32_t depth, uint32_t n_seq, larder_error *err)
{
    LR_TRY(fill_first(j, depth, err));
    if (n_seq < 2 || !depth) return LARDER_OK;
    return repeat_blocks(j, j->n_block, j->n_block, (size_t)n_seq * j->n_block, err);
}

/* One run of a test: n positions, in steps of `chunk` tokens of one sequence, or of one token of n_seq. */
static larder_status run(job *j, uint32_t depth, uint32_t n, uint32_t chunk, uint32_t n_seq, double *bytes,
                         larder_error *err)
{
    return n_seq ? decode(j, n_seq, depth, depth + n, bytes, err) : advance(j, depth, depth + n, chunk, bytes, err);
}

/* The operators of one more run. */
static larder_status take_ops(job *j, const char *name, uint32_t depth, uint32_t n, uint32_t chunk, uint32_t n_seq,
                              larder_error *err)
{
    lr_op_time t[MAX_OPS];
    uint32_t n_step = (n + chunk - 1) / chunk;
    double all = 0, steps = n_step, read = lr_bench_limit_median(&j->limit);
    j->e->backend->profile(j->e->exec, true);
    larder_status st = run(j, depth, n, chunk, n_seq, NULL, err);
    uint32_t n_op = j->e->backend->profile_read(j->e->exec, t, MAX_OPS);
    j->e->backend->profile(j->e->exec, false);
    if (st) return st;
    for (uint32_t i = 0; i < n_op; i++) all += (double)t[i].ns;
    for (uint32_t i = 0; i < n_op; i++) {
        if (!t[i].calls) continue;
        larder_bench_op *o = &j->out->ops[j->out->n_ops++];
        double by_memory = read > 0 ? (double)t[i].bytes / read : 0, s = (double)t[i].ns * 1e-9;
        double by_ops = j->peak[t[i].act] > 0 ? (double)t[i].ops / j->peak[t[i].act] : 0;
        *o = (larder_bench_op){.calls = t[i].calls / steps,
                               .ms = s * 1e3 / steps,
                               .time_share = all > 0 ? (double)t[i].ns / all : 0,
                               .bytes = (double)t[i].bytes / steps,
                               .ops = (double)t[i].ops / steps,
                               .share = s > 0 ? LR_MAX(by_memory, by_ops) / s : 0,
                               .memory = by_memory >= by_ops};
        snprintf(o->test, sizeof o->test, "%s", name);
        snprintf(o->name, sizeof o->name, "%s", t[i].name);
    }
    return LARDER_OK;
}

static larder_status measure(job *j, uint32_t depth, uint32_t n, uint32_t chunk, uint32_t n_seq,
                             larder_bench_row *row, larder_error *err)
{
    double rate[64], gbs[64], share[64], limit[64];
    uint32_t repeat = LR_MIN(LR_MAX(j->o->repeat, 1u), (uint32_t)LR_LEN(rate));
    uint32_t n_all = n * LR_MAX(n_seq, 1u);
    LR_TRY(fill(j, depth, n_seq, err));
    LR_TRY(run(j, depth, LR_MIN(n, 2 * chunk), chunk, n_seq, NULL, err)); /* warm up */
    double before = lr_bench_limit_read(&j->limit);
    for (uint32_t r = 0; r < repeat; r++) {
        double bytes = 0;
        uint64_t t0 = lr_now_ns();
        LR_TRY(run(j, depth, n, chunk, n_seq, &bytes, err));
        double s = (double)(lr_now_ns() - t0) * 1e-9, after = lr_bench_limit_read(&j->limit);
        rate[r] = n_all / s;
        gbs[r] = bytes / s * 1e-9;
        limit[r] = (before + after) / 2 * 1e-9;
        share[r] = limit[r] > 0 ? gbs[r] / limit[r] : 0;
        before = after;
        LR_TRY(tell(j, row->test, j->done * repeat + r + 1, j->total * repeat, rate[r], err));
    }
    row->tok_s = median(rate, repeat);
    row->n_tokens = n_all;
    row->depth = depth;
    row->n_seq = LR_MAX(n_seq, 1u);
    row->n_threads = j->e->limits.n_thread;
    row->tok_s_low = rate[0];
    row->tok_s_high = rate[repeat - 1];
    row->limit_gbs = median(limit, repeat);
    if (n_seq) {
        row->gbs = median(gbs, repeat);
        row->share = median(share, repeat);
    }
    return j->o->ops ? take_ops(j, row->test, depth, n, chunk, n_seq, err) : LARDER_OK;
}

/* n_seq 0: prefill. */
static larder_status test(job *j, uint32_t depth, uint32_t n, uint32_t chunk, uint32_t n_seq, larder_error *err)
{
    larder_bench_row *row = &j->out->rows[j->out->n_rows];
    size_t cap = sizeof row->test, len = (size_t)snprintf(row->test, cap, "%s%u", n_seq ? "tg" : "pp", n);
    if (depth) len += (size_t)snprintf(row->test + len, cap - len, " @ d%u", depth);
    if (n_seq > 1) snprintf(row->test + len, cap - len, " x%u", n_seq);
    LR_TRY(measure(j, depth, n, chunk, n_seq, row, err));
    j->out->n_rows++;
    j->done++;
    return LARDER_OK;
}

/* What a list says; an empty one says `none` once. */
static uint32_t count_of(uint32_t n) { return LR_MAX(n, 1u); }
static uint32_t item(const uint32_t *list, uint32_t n, uint32_t i, uint32_t none) { return n ? list[i] : none; }

static larder_status run_all(job *j, larder_error *err)
{
    const larder_bench_options *o = j->o;
    for (uint32_t d = 0; d < count_of(o->n_depth); d++) {
        uint32_t depth = item(o->depth, o->n_depth, d, 0);
        for (uint32_t i = 0; i < o->n_n_prompt; i++)
            if (o->n_prompt[i]) LR_TRY(test(j, depth, o->n_prompt[i], j->e->limits.n_tok, 0, err));
        for (uint32_t i = 0; i < count_of(o->n_n_seq); i++) {
            uint32_t n_seq = item(o->n_seq, o->n_n_seq, i, 1);
            if (o->n_gen && n_seq) LR_TRY(test(j, depth, o->n_gen, 1, n_seq, err));
        }
    }
    return LARDER_OK;
}

/* Bytes of a decode step: what the limit is measured with. */
static uint64_t bytes_of_step(const job *j)
{
    uint32_t last = 0;
    lr_batch_seq seq = {.blocks = j->blocks, .n_past = 0, .n_tok = 1};
    lr_batch b = {.ids = j->ids, .n_tok = 1, .seqs = &seq, .n_seq = 1, .out = &last, .n_out = 1};
    return j->e->backend->step_bytes(j->e->exec, &b);
}

static larder_status take(job *j, larder_error *err)
{
    uint32_t n_ctx = j->e->limits.n_ctx, n_seq = most_sequences(j->o);
    j->n_block = (n_ctx + LR_KV_BLOCK - 1) / LR_KV_BLOCK;
    size_t n_block = (size_t)n_seq * j->n_block;
    uint64_t n_decode = j->o->n_gen ? count_of(j->o->n_n_seq) : 0;
    j->total = count_of(j->o->n_depth) * (j->o->n_n_prompt + n_decode);
    j->out->rows = lr_calloc(j->total + 1, sizeof *j->out->rows);
    j->ids = lr_calloc(n_ctx, sizeof *j->ids);
    j->blocks = lr_calloc(n_block, sizeof *j->blocks);
    if (j->o->ops) j->out->ops = lr_calloc((j->total + 1) * MAX_OPS, sizeof *j->out->ops);
    j->seqs = lr_calloc(n_seq, sizeof *j->seqs);
    j->next = lr_calloc(n_seq, sizeof *j->next);
    j->out_at = lr_calloc(n_seq, sizeof *j->out_at);
    if (!j->seqs || !j->next || !j->out_at) return LR_NOMEM(err, "the benchmark");
    if (!j->out->rows || !j->ids || !j->blocks || (j->o->ops && !j->out->ops)) return LR_NOMEM(err, "the benchmark");
    for (uint32_t i = 0; i < n_ctx; i++) j->ids[i] = (int32_t)(lr_sample_random(1, i, 0) * j->e->program.n_vocab);
    if (lr_kv_room(&j->e->kv) < n_block)
        return lr_fail(err, LARDER_LIMIT, "there is no room for %u sequences of %u tokens", n_seq, n_ctx);
    for (size_t i = 0; i < n_block; i++) j->blocks[i] = lr_kv_take(&j->e->kv);
    LR_TRY(lr_bench_limit_open(&j->limit, j->e->backend, j->e->exec, j->e->pool, bytes_of_step(j), err));
    if (!j->o->ops) return LARDER_OK;
    static const larder_act kinds[] = {LARDER_ACT_I8, LARDER_ACT_BF16, LARDER_ACT_F32};
    for (size_t i = 0; i < LR_LEN(kinds); i++) j->peak[kinds[i]] = lr_bench_limit_ops(&j->limit, kinds[i]);
    return LARDER_OK;
}

/* A disk is not what is measured. */
static larder_status wait_for_file(job *j, larder_error *err)
{
    while (!lr_ahead_over(j->e->ahead)) {
        usleep(50000);
        LR_TRY(tell(j, "waiting for the model file", 0, 0, 0, err));
    }
    return LARDER_OK;
}

larder_status larder_bench(larder_model *model, const larder_bench_options *options, larder_bench_result *out,
                           larder_progress_fn *progress, void *user, larder_error *err)
{
    *out = (larder_bench_result){0};
    job j = {.model = model, .o = options, .out = out, .progress = progress, .user = user};
    larder_engine_options o = options->engine;
    larder_status st = LARDER_OK;
    uint64_t needed = longest_context(options);
    o.n_seq = LR_MAX(o.n_seq, most_sequences(options));
    if (!o.n_ctx) o.n_ctx = (uint32_t)LR_MIN(needed, (uint64_t)1 << 24);           /* the most that can be had */
    if (!o.memory && model->n_made) o.memory = lr_mem_available() + model->n_made; /* its weights are taken already */
    if (o.n_ctx < needed)
        return lr_fail(err, LARDER_USAGE, "these lengths and depths need a context of %llu; %u is to be had (--ctx)",
                       (unsigned long long)needed, o.n_ctx);
    LR_GO(larder_engine_open(model, &o, &j.e, err));
    LR_GO(wait_for_file(&j, err));
    LR_GO(take(&j, err));
    LR_GO(run_all(&j, err));
    larder_engine_get_plan(j.e, &out->planned);
    larder_engine_get_memory(j.e, &out->used);
    if (lr_file_damaged(&model->file)) LR_GO(lr_fail(err, LARDER_IO, "the model file changed while it was measured"));
    out->read_gbs = lr_bench_limit_median(&j.limit) * 1e-9;
    out->int8_gops = j.peak[LARDER_ACT_I8] * 1e-9;
    out->bf16_gops = j.peak[LARDER_ACT_BF16] * 1e-9;
    out->f32_gops = j.peak[LARDER_ACT_F32] * 1e-9;
fail:
    lr_bench_limit_close(&j.limit);
    larder_engine_free(j.e);
    lr_free(j.ids);
    lr_free(j.blocks);
    lr_free(j.seqs);
    lr_free(j.next);
    lr_free(j.out_at);
    if (st) larder_bench_free(out);
    return st;
}

void larder_bench_free(larder_bench_result *r)
{
    lr_free(r->rows);
    lr_free(r->ops);
    *r = (larder_bench_result){0};
}
