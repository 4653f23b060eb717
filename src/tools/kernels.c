/* kernels.c - timing larder's own kernels: small models of random weights, run by the real engine.
 *
 * Owns: which shapes tell the times apart, and keeping what was measured (kernels.json beside probe.json). Refuses to own:
 * what the times are for (src/plan/own.c).
 *
 * Every time is the median of several steps, or their lower quartile. The last cache is emptied between steps, by reading
 * other memory, which tells how fast that is: times of few rows are as they would be at the speed it had on average. What a
 * step costs besides matrices comes from a model so small that its matrices cost nothing. */
#include "kernels.h"

#include "bench_limit.h"
#include "engine.h"
#include "shape_model.h"

#include <jansson.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { STEPS = 4, DEPTH = 3072, BATCH = 512, MATRIX_MB = 48, BY_MEMORY = 8 };

/* How fast memory was, whenever it was read. On a shared machine that changes within a second, and the time of a step that
 * reads weights follows by part only: fixed + (1 - fixed) reference / speed. */
typedef struct pace {
    double reference; /* the speed that times are written down for until all are known */
    double fixed;
    double inverse; /* sum of 1 / speed */
    uint32_t n;
} pace;

typedef struct rig {
    larder_model *model;
    larder_engine *e;
    int32_t ids[BATCH];
    uint32_t *blocks;
    lr_bench_limit limit; /* read between steps: it empties the last cache, and tells how fast memory is */
    bool out;             /* it does; else the model may stay there */
    pace *pace;
    double rest;    /* numbers of matrices behind the last attention: only rows of logits pass them */
    double numbers; /* of matrices that every token passes */
} rig;

/* Of `fmt` where every matrix can be of it. */
static const lr_mix_type *type_of(uint32_t fmt)
{
    for (const char *const *n = lr_mix_names(); *n; n++) {
        const lr_mix_type *t = lr_mix_find(*n);
        if (t && t->base == fmt) return t;
    }
    return NULL;
}

static void rig_close(rig *r)
{
    larder_engine_free(r->e);
    larder_model_free(r->model);
    lr_free(r->blocks);
    lr_bench_limit_close(&r->limit);
    *r = (rig){0};
}

static larder_status rig_open(const lr_shape *shape, uint32_t fmt, rig *r, larder_error *err)
{
    lr_file f = {0};
    larder_engine_options o = larder_engine_defaults();
    larder_status st;
    *r = (rig){0};
    LR_TRY(lr_shape_file(shape, type_of(fmt), true, &f, err));
    LR_TRY(lr_shape_model(&f, 0, &r->model, NULL, NULL, err));
    o.n_ctx = shape->n_ctx;
    o.n_batch = BATCH;
    LR_GO(larder_engine_open(r->model, &o, &r->e, err));
    uint32_t n_block = (o.n_ctx + LR_KV_BLOCK - 1) / LR_KV_BLOCK;
    r->blocks = lr_calloc(n_block, sizeof *r->blocks);
    if (!r->blocks) LR_GO(LR_NOMEM(err, "a block table"));
    for (uint32_t i = 0; i < n_block; i++) r->blocks[i] = lr_kv_take(&r->e->kv);
    for (uint32_t i = 0; i < BATCH; i++) r->ids[i] = (int32_t)(i * 37 % shape->n_vocab);
    const lr_program *p = &r->e->program;
    uint32_t last = lr_own_last_attention(p);
    for (uint32_t i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind != LR_OP_LINEAR) continue;
        const lr_tensor *t = p->weights[p->ops[i].w].t;
        *(i > last ? &r->rest : &r->numbers) += (double)t->ne[0] * (double)t->ne[1];
    }
    return LARDER_OK;
fail:
    rig_close(r);
    return st;
}

/* Reads other memory: bytes a second. */
static double read_other(rig *r)
{
    double v = lr_bench_limit_read(&r->limit);
    r->pace->inverse += 1 / v;
    r->pace->n++;
    return v;
}

static larder_status push_out(rig *r, pace *p, larder_error *err)
{
    lr_topology topo;
    r->pace = p;
    lr_topology_get(&topo);
    LR_TRY(lr_bench_limit_open(&r->limit, r->e->pool, LR_MAX(4 * topo.l3, 64 * LR_MIB), err));
    r->out = true;
    for (int i = 0; i < 8 && !(p->reference > 0); i++) (void)read_other(r);
    if (!(p->reference > 0)) p->reference = p->n / p->inverse;
    return LARDER_OK;
}

static larder_status step(rig *r, uint32_t depth, uint32_t n, double *s, larder_error *err)
{
    const float *logits;
    uint32_t last = n - 1;
    lr_batch_seq seq = {.blocks = r->blocks, .n_past = depth, .n_tok = n};
    lr_batch b = {.ids = r->ids, .n_tok = n, .seqs = &seq, .n_seq = 1, .out = &last, .n_out = 1};
    uint64_t t0 = lr_now_ns();
    LR_TRY(r->e->backend->step(r->e->exec, &b, &logits, err));
    *s = (double)(lr_now_ns() - t0) * 1e-9;
    return LARDER_OK;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Time of a step of n tokens behind `depth` others. Arithmetic is timed once it has gone on for a while, for clocks sink
 * under it. The weights of few tokens come from memory, as they do when a model is larger than the last cache. */
static larder_status timed(rig *r, uint32_t depth, uint32_t n, double *out, larder_error *err)
{
    double s[3 * STEPS], warm = 0, once, before = 0;
    bool by_memory = r->out && n <= BY_MEMORY;
    int rounds = n <= BY_MEMORY ? 3 * STEPS : STEPS;
    do {
        LR_TRY(step(r, depth, n, &once, err));
        warm += once;
    } while (n >= 64 && warm < 0.15);
    if (r->out && n <= 64) before = read_other(r);
    for (int i = 0; i < rounds; i++) {
        LR_TRY(step(r, depth, n, &s[i], err));
        if (!r->out || n > 64) continue;
        double after = read_other(r);
        if (by_memory) s[i] /= r->pace->fixed + (1 - r->pace->fixed) * r->pace->reference * 2 / (before + after);
        before = after;
    }
    qsort(s, (size_t)rounds, sizeof *s, by_value);
    *out = s[by_memory ? rounds / 2 : rounds / 4]; /* what disturbs arithmetic only ever slows it */
    return LARDER_OK;
}

/* ---------------------------------------------------------------- what is timed */
static lr_shape shape_of(uint32_t n_layer, uint32_t n_embd, uint32_t head_dim, uint32_t n_ff, uint32_t n_ctx)
{
    lr_shape s = {.name = "kernels", .arch = "llama", .n_layer = n_layer, .n_embd = n_embd, .n_ff = n_ff};
    s.head_dim = head_dim;
    s.n_head = n_embd / head_dim;
    s.n_head_kv = LR_MAX(s.n_head / 4, 1u);
    s.n_vocab = 256;
    s.n_ctx = n_ctx;
    s.tied = true;
    return s;
}

/* A layer's fixed time, and what its rows cost besides matrices: a model whose matrices are next to nothing. */
static larder_status time_layers(lr_own *o, larder_error *err)
{
    rig r;
    double one, many, s8 = lr_own_find(o, LR_FMT_Q8_0)->s[LR_OWN_ROWS - 1];
    lr_shape s = shape_of(16, 128, 64, 128, 1024);
    LR_TRY(rig_open(&s, LR_FMT_Q8_0, &r, err));
    larder_status st = timed(&r, 0, 1, &one, err);
    if (!st) st = timed(&r, 0, BATCH, &many, err);
    if (!st) {
        double attention = 16 * 4.0 * BATCH * (BATCH + 1) / 2 * 128 * o->attn_op_s[0];
        o->layer_s = one / 16;
        o->row_s = LR_MAX(0, (many - one - r.numbers * s8 - attention) / (BATCH * lr_own_row_work(&r.e->program)));
    }
    rig_close(&r);
    return st;
}

/* A model of this many layers that lies in the last cache: how much faster its weights come. */
static larder_status time_cached(lr_own *o, larder_error *err)
{
    rig r;
    double one;
    lr_topology topo;
    lr_topology_get(&topo);
    o->cache_bytes = (double)topo.l3;
    o->in_cache = 1;
    if (topo.l3 < 12 * LR_MIB) return LARDER_OK;
    lr_shape s = shape_of(3, 512, 64, 1536, 512);
    LR_TRY(rig_open(&s, LR_FMT_Q8_0, &r, err));
    larder_status st = timed(&r, 0, 1, &one, err);
    double full = lr_own_find(o, LR_FMT_Q8_0)->s[0];
    if (!st) o->in_cache = LR_MIN(1, LR_MAX(0.1, (one - 3 * o->layer_s) / ((r.numbers + r.rest) * full)));
    rig_close(&r);
    return st;
}

/* Choosing a token as requests do by default: most of the time goes into looking over the vocabulary. */
static larder_status time_sampler(lr_own *o, larder_error *err)
{
    enum { N = 32768, TIMES = 40 };
    lr_sampler sampler = {0};
    lr_sampler_work work = {0};
    larder_sampling how = larder_sampling_defaults();
    float *logits = lr_alloc(N * sizeof *logits);
    int32_t past[1] = {0};
    larder_status st = LARDER_OK;
    uint64_t random = 1, spent = 0;
    if (!logits) return LR_NOMEM(err, "logits");
    LR_GO(lr_sampler_work_init(&work, N, 64, err));
    LR_GO(lr_sampler_init(&sampler, &how, N, err));
    for (int k = 0; k < TIMES; k++) {
        for (int i = 0; i < N; i++) {
            random = random * 6364136223846793005ull + 1442695040888963407ull;
            logits[i] = (float)(random >> 40) * 0x1p-20f;
        }
        uint64_t t0 = lr_now_ns();
        (void)lr_sample(&sampler, &work, logits, past, 1);
        spent += lr_now_ns() - t0;
    }
    o->sample_s = (double)spent * 1e-9 / TIMES / N;
fail:
    lr_sampler_close(&sampler);
    lr_sampler_work_close(&work);
    lr_free(logits);
    return st;
}

/* Attention over a long cache, one token and many, with heads of each size. */
static larder_status time_attention(lr_own *o, pace *p, int h, larder_error *err)
{
    rig r;
    double near[2], far[2], warm;
    uint32_t dim = lr_own_head[h], n_layer = 8;
    lr_shape s = shape_of(n_layer, 2048, dim, 256, DEPTH + BATCH);
    larder_status st = LARDER_OK;
    LR_TRY(rig_open(&s, LR_FMT_Q8_0, &r, err));
    for (uint32_t at = 0; at < DEPTH; at += BATCH) LR_GO(step(&r, at, BATCH, &warm, err));
    LR_GO(push_out(&r, p, err));
    LR_GO(timed(&r, 0, 1, &near[0], err));
    LR_GO(timed(&r, DEPTH, 1, &far[0], err));
    LR_GO(timed(&r, 0, BATCH, &near[1], err));
    LR_GO(timed(&r, DEPTH, BATCH, &far[1], err));
    o->kv_byte_s[h] = LR_MAX(1e-13, (far[0] - near[0]) / (n_layer * 2.0 * DEPTH * s.n_head_kv * dim * 2));
    o->attn_op_s[h] = LR_MAX(1e-15, (far[1] - near[1]) / (n_layer * 4.0 * BATCH * DEPTH * s.n_head * dim));
fail:
    rig_close(&r);
    return st;
}

/* The share that leaves times of one row the most alike, whatever the speed. Where memory is steady it does not matter. */
static larder_status time_pace(pace *p, larder_error *err)
{
    enum { N = 120 };
    rig r;
    double s[N], speed[N], least = INFINITY, before;
    lr_shape shape = shape_of(3, 1536, 64, 4608, 512);
    LR_TRY(rig_open(&shape, LR_FMT_Q8_0, &r, err));
    larder_status st = push_out(&r, p, err);
    before = st ? 0 : read_other(&r);
    for (int i = 0; i < N && !st; i++) {
        st = step(&r, 0, 1, &s[i], err);
        double after = st ? 0 : read_other(&r);
        speed[i] = (before + after) / 2;
        before = after;
    }
    for (double fixed = 0; fixed < 0.85 && !st; fixed += 0.05) {
        double sum = 0, square = 0;
        for (int i = 0; i < N; i++) {
            double v = log(s[i] / (fixed + (1 - fixed) * p->reference / speed[i]));
            sum += v;
            square += v * v;
        }
        double spread = square / N - sum / N * (sum / N);
        if (spread >= least) continue;
        least = spread;
        p->fixed = fixed;
    }
    rig_close(&r);
    return st;
}

static larder_status time_format(lr_own *o, pace *p, uint32_t fmt, larder_error *err)
{
    rig r;
    const lr_fmt_info *info = lr_fmt_get(fmt);
    double bits = info ? 8.0 * info->bytes / info->block : 16;
    lr_own_format *f = &o->formats[o->n_formats];
    const double n_embd = 1536, n_ff = 4608, layer = 2.5 * n_embd * n_embd + 3.0 * n_embd * n_ff;
    double n_layer = LR_MAX(
        3, ceil(MATRIX_MB * 1e6 * 8 / bits / layer)); /* what is behind the last attention stays small */
    lr_shape s = shape_of((uint32_t)n_layer, (uint32_t)n_embd, 64, (uint32_t)n_ff, 512);
    LR_TRY(rig_open(&s, fmt, &r, err));
    larder_status st = push_out(&r, p, err);
    *f = (lr_own_format){.fmt = fmt};
    for (int i = 0; i < LR_OWN_ROWS && !st; i++) {
        double t = 0, n = lr_own_rows[i];
        st = timed(&r, 0, (uint32_t)n, &t, err);
        double attention = s.n_layer * 4.0 * n * (n + 1) / 2 * n_embd * o->attn_op_s[0];
        double besides = s.n_layer * o->layer_s + attention +
                         (n > 1 ? n * lr_own_row_work(&r.e->program) * o->row_s : 0);
        if (i) besides += r.rest * f->s[0]; /* one row of it */
        if (!st) f->s[i] = LR_MAX(0.5 * t, t - besides) / (r.numbers + (i ? 0 : r.rest));
    }
    rig_close(&r);
    if (!st) o->n_formats++;
    return st;
}

/* ---------------------------------------------------------------- kept */
static const struct {
    const char *name;
    size_t at;
    double least, most; /* what can be believed */
} figures[] = {
    {"layer_s", offsetof(lr_own, layer_s), 0, 1},
    {"row_s", offsetof(lr_own, row_s), 0, 1e-3},
    {"sample_s", offsetof(lr_own, sample_s), 0, 1e-3},
    {"kv_byte_64_s", offsetof(lr_own, kv_byte_s[0]), 1e-14, 1e-3},
    {"kv_byte_128_s", offsetof(lr_own, kv_byte_s[1]), 1e-14, 1e-3},
    {"attn_op_64_s", offsetof(lr_own, attn_op_s[0]), 1e-16, 1e-3},
    {"attn_op_128_s", offsetof(lr_own, attn_op_s[1]), 1e-16, 1e-3},
    {"in_cache", offsetof(lr_own, in_cache), 0.05, 1},
    {"cache_bytes", offsetof(lr_own, cache_bytes), 0, 1e12},
    {"bandwidth", offsetof(lr_own, bandwidth), 1e8, 1e14},
    {"fixed", offsetof(lr_own, fixed), 0, 1},
};
static double *figure(lr_own *o, size_t i) { return (double *)(void *)((char *)o + figures[i].at); }

static larder_status save(const lr_own *o, const char *path, larder_error *err)
{
    char mark[256];
    lr_probe_mark(mark);
    json_t *formats = json_object();
    for (uint32_t i = 0; i < o->n_formats; i++) {
        json_t *times = json_array();
        for (int k = 0; k < LR_OWN_ROWS; k++) json_array_append_new(times, json_real(o->formats[i].s[k]));
        json_object_set_new(formats, lr_fmt_get(o->formats[i].fmt)->name, times);
    }
    json_t *all = json_object();
    json_object_set_new(all, "machine", json_string(mark));
    for (size_t i = 0; i < LR_LEN(figures); i++)
        json_object_set_new(all, figures[i].name, json_real(*figure((lr_own *)(uintptr_t)o, i)));
    json_object_set_new(all, "formats", formats);
    char *text = all ? json_dumps(all, JSON_INDENT(1)) : NULL;
    larder_status st = text ? lr_write_file(path, text, strlen(text), err) : LR_NOMEM(err, "the measurements");
    free(text);
    json_decref(all);
    return st;
}

static bool good(double v, double least, double most) { return isfinite(v) && v >= least && v <= most; }

static bool restore_formats(lr_own *o, const json_t *formats)
{
    for (uint32_t fmt = 0; fmt < 4096; fmt++) {
        const lr_fmt_info *info = lr_fmt_get(fmt);
        const json_t *times = info ? json_object_get(formats, info->name) : NULL;
        if (!times || lr_own_find(o, fmt)) continue;
        if (json_array_size(times) != LR_OWN_ROWS || o->n_formats == LR_OWN_FORMATS) return false;
        lr_own_format *f = &o->formats[o->n_formats++];
        f->fmt = fmt;
        for (size_t k = 0; k < LR_OWN_ROWS; k++) {
            f->s[k] = json_number_value(json_array_get(times, k));
            if (!good(f->s[k], 1e-15, 1e-3)) return false;
        }
    }
    return o->n_formats > 0;
}

static bool restore(lr_own *o, const char *path)
{
    char mark[256], *text;
    size_t n;
    larder_error quiet;
    if (lr_read_file(path, 1 << 18, &text, &n, &quiet)) return false;
    json_t *all = json_loadb(text, n, 0, NULL);
    lr_free(text);
    lr_probe_mark(mark);
    const char *same = json_string_value(json_object_get(all, "machine"));
    bool ok = same && !strcmp(same, mark) && restore_formats(o, json_object_get(all, "formats"));
    for (size_t i = 0; i < LR_LEN(figures); i++) {
        const json_t *v = json_object_get(all, figures[i].name);
        *figure(o, i) = json_number_value(v);
        ok = ok && json_is_number(v) && good(*figure(o, i), figures[i].least, figures[i].most);
    }
    json_decref(all);
    return ok;
}

/* ---------------------------------------------------------------- all of it */
static void kept_path(char path[4200])
{
    char folder[4096];
    path[0] = 0;
    if (!lr_user_dir("cache", folder, sizeof folder, NULL)) (void)snprintf(path, 4200, "%s/kernels.json", folder);
}

bool lr_own_kept(lr_own *out)
{
    char path[4200];
    kept_path(path);
    *out = (lr_own){0};
    return *path && restore(out, path);
}

/* What every format's times are corrected by comes first: in a first round with nothing known of the rest. */
static larder_status time_common(lr_own *o, pace *p, larder_error *err)
{
    LR_TRY(time_pace(p, err));
    for (int h = 0; h < LR_OWN_HEADS; h++) LR_TRY(time_attention(o, p, h, err));
    for (int round = 0; round < 2; round++) {
        o->n_formats = 0;
        LR_TRY(time_format(o, p, LR_FMT_Q8_0, err));
        LR_TRY(time_layers(o, err));
    }
    LR_TRY(time_sampler(o, err));
    return time_cached(o, err);
}

/* The average speed of memory is known only now. */
static void settle(lr_own *o, const pace *p)
{
    o->bandwidth = p->n / p->inverse;
    double f = p->fixed + (1 - p->fixed) * p->reference / o->bandwidth;
    o->fixed = p->fixed / f;
    for (uint32_t i = 0; i < o->n_formats; i++)
        for (int k = 0; k < LR_OWN_ROWS; k++)
            if (lr_own_rows[k] <= BY_MEMORY) o->formats[i].s[k] *= f;
    for (int h = 0; h < LR_OWN_HEADS; h++) o->kv_byte_s[h] *= f;
}

/* Formats that whole models can be of, each once. */
static size_t formats_to_time(uint32_t out[LR_OWN_FORMATS])
{
    size_t n = 0;
    for (const char *const *name = lr_mix_names(); *name && n < LR_OWN_FORMATS; name++) {
        const lr_mix_type *t = lr_mix_find(*name);
        size_t k = 0;
        if (!t || !lr_fmt_can_encode(t->base)) continue;
        while (k < n && out[k] != t->base) k++;
        if (k == n) out[n++] = t->base;
    }
    return n;
}

static larder_status measure(lr_own *o, larder_progress_fn *progress, void *user, larder_error *err)
{
    uint32_t fmts[LR_OWN_FORMATS];
    size_t n = formats_to_time(fmts);
    pace p = {0};
    larder_progress at = {"kernels", 0, n, 0, -1};
    *o = (lr_own){0};
    if (progress && !progress(user, &at)) return lr_fail(err, LARDER_CANCELLED, "interrupted");
    LR_TRY(time_common(o, &p, err));
    for (size_t i = 0; i < n; i++) {
        at.n_done = i + 1;
        if (progress && !progress(user, &at)) return lr_fail(err, LARDER_CANCELLED, "interrupted");
        if (!lr_own_find(o, fmts[i])) LR_TRY(time_format(o, &p, fmts[i], err));
    }
    settle(o, &p);
    return LARDER_OK;
}

/* Timing keeps two cores busy for most of the time, if they are to be had; more only while products run. */
static void say_if_busy(double cores)
{
    lr_topology t;
    lr_topology_get(&t);
    double share = cores / LR_MIN(LR_MAX(t.n_core, 1), 2);
    if (share < 0.6)
        lr_log(LARDER_LOG_WARN,
               "other programs were busy: only %.0f%% of the processors was to be had, so times are too long; "
               "larder probe --fresh once it is quiet",
               100 * share);
}

larder_status larder_probe_kernels(bool fresh, larder_kernels *out, larder_progress_fn *progress, void *user,
                                   larder_error *err)
{
    char path[4200];
    lr_own own;
    *out = (larder_kernels){0};
    kept_path(path);
    if (fresh || !lr_own_kept(&own)) {
        double wall = (double)lr_now_ns() * 1e-9, cpu = (double)clock() / CLOCKS_PER_SEC;
        LR_TRY(measure(&own, progress, user, err));
        wall = (double)lr_now_ns() * 1e-9 - wall;
        cpu = (double)clock() / CLOCKS_PER_SEC - cpu;
        say_if_busy(cpu / wall);
        if (*path && save(&own, path, err))
            lr_log(LARDER_LOG_WARN, "the kernels' times could not be kept: %s", err ? err->message : path);
    }
    out->bandwidth = own.bandwidth;
    for (uint32_t i = 0; i < own.n_formats && i < LR_LEN(out->formats); i++) {
        const lr_own_format *f = &own.formats[i];
        const lr_fmt_info *info = lr_fmt_get(f->fmt);
        out->formats[out->n_formats++] = (larder_kernel_speed){
            .format = info->name,
            .read_gbs = (double)info->bytes / info->block / f->s[0] * 1e-9,
            .gops = 2 * lr_own_rows[LR_OWN_ROWS - 1] / f->s[LR_OWN_ROWS - 1] * 1e-9,
        };
    }
    return LARDER_OK;
}
