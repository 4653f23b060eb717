/* kernels.c - timing larder's own kernels: small models of random weights, run by the real engine.
 *
 * Owns: which shapes tell the times apart, and keeping what was measured (kernels.json beside probe.json). Refuses to own:
 * what follows from the samples (src/plan/own_fit.c), what the times are for (own.c).
 *
 * All formats are timed in several rounds, so that a slow minute of a shared machine spoils a round of each and not all of
 * one. Other memory is read before and after each step of few rows: that empties the last cache, and tells how fast memory
 * was. What a step costs besides matrices comes from a model so small that its matrices cost nothing. */
#include "kernels.h"

#include "bench_limit.h"
#include "engine.h"
#include "own_fit.h"
#include "shape_model.h"

#include <jansson.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 3, DEPTH = 3072, BATCH = 512, MANY = 256, MATRIX_MB = 48, OTHER_MB = 256 };

typedef struct rig {
    larder_model *model;
    larder_engine *e;
    int32_t ids[BATCH];
    uint32_t *blocks;
    lr_bench_limit limit; /* read between steps */
    bool out;             /* it is; else the model may stay in the last cache */
    lr_own_samples *all;
    lr_own_rig facts;
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

static void take_facts(rig *r, const lr_shape *shape)
{
    const lr_program *p = &r->e->program;
    uint32_t last = lr_own_last_attention(p);
    r->facts = (lr_own_rig){.n_layer = shape->n_layer, .row_work = lr_own_row_work(p)};
    r->facts.attn_ops = 4.0 * shape->n_layer * shape->n_head * shape->head_dim;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind != LR_OP_LINEAR) continue;
        const lr_tensor *t = p->weights[p->ops[i].w].t;
        *(i > last ? &r->facts.rest : &r->facts.numbers) += (double)t->ne[0] * (double)t->ne[1];
    }
}

static larder_status rig_open(lr_own_samples *all, const lr_shape *shape, uint32_t fmt, rig *r, larder_error *err)
{
    lr_file f = {0};
    larder_engine_options o = larder_engine_defaults();
    larder_status st;
    *r = (rig){.all = all};
    LR_TRY(lr_shape_file(shape, type_of(fmt), true, &f, err));
    LR_TRY(lr_shape_model(&f, 0, &r->model, NULL, NULL, err));
    o.n_ctx = shape->n_ctx;
    o.n_batch = BATCH;
    o.device = LARDER_DEVICE_CPU;
    LR_GO(larder_engine_open(r->model, &o, &r->e, err));
    uint32_t n_block = (o.n_ctx + LR_KV_BLOCK - 1) / LR_KV_BLOCK;
    r->blocks = lr_calloc(n_block, sizeof *r->blocks);
    if (!r->blocks) LR_GO(LR_NOMEM(err, "a block table"));
    for (uint32_t i = 0; i < n_block; i++) r->blocks[i] = lr_kv_take(&r->e->kv);
    for (uint32_t i = 0; i < BATCH; i++) r->ids[i] = (int32_t)(i * 37 % shape->n_vocab);
    take_facts(r, shape);
    return LARDER_OK;
fail:
    rig_close(r);
    return st;
}

/* Reads other memory: bytes a second. */
static double read_other(rig *r)
{
    double v = lr_bench_limit_read(&r->limit);
    r->all->inverse += 1 / v;
    r->all->n_read++;
    return v;
}

/* From here on the model's weights come from memory, as those of a model do that is larger than the last cache. */
static larder_status push_out(rig *r, larder_error *err)
{
    lr_topology topo;
    lr_topology_get(&topo);
    LR_TRY(lr_bench_limit_open(&r->limit, NULL, NULL, r->e->pool, LR_MAX(2 * topo.l3, OTHER_MB * LR_MIB), err));
    r->out = true;
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

/* Threads that just began, on cores that were idle, take twice the time for what is short. */
static larder_status warm_up(rig *r, larder_error *err)
{
    double s, all = 0;
    for (; all < 0.15; all += s) LR_TRY(step(r, 0, 1, &s, err));
    return LARDER_OK;
}

/* Adds `times` steps of n tokens behind `depth` others. Where memory's speed was another
 * after a step than before, which it had is unknown: then one more is made, at most as many again. */
static larder_status timed(rig *r, uint32_t depth, uint32_t n, int times, lr_own_times *out, larder_error *err)
{
    double s;
    bool read = r->out && n < BATCH / 4;
    double before = read ? read_other(r) : 0;
    for (int i = 0, more = times; i < times; i++) {
        LR_TRY(step(r, depth, n, &s, err));
        double after = read ? read_other(r) : 0;
        if (read && fabs(after - before) > 0.12 * before && more-- > 0) i--;
        else lr_own_add(out, s, (before + after) / 2);
        before = after;
    }
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

/* A rig's facts, and the samples it has so far. */
static void keep_facts(const rig *r, uint32_t fmt, lr_own_rig *to)
{
    lr_own_rig old = *to;
    *to = r->facts;
    to->fmt = fmt;
    memcpy(to->at, old.at, sizeof to->at);
}

/* A model whose matrices are next to nothing. */
static larder_status time_layers(lr_own_samples *all, larder_error *err)
{
    rig r;
    lr_shape s = shape_of(16, 128, 64, 128, 1024);
    LR_TRY(rig_open(all, &s, LR_FMT_Q8_0, &r, err));
    keep_facts(&r, LR_FMT_Q8_0, &all->layers);
    larder_status st = warm_up(&r, err);
    if (!st) st = timed(&r, 0, 1, 20, &all->layers.at[0], err);
    if (!st) st = timed(&r, 0, BATCH, 4, &all->layers.at[LR_OWN_ROWS - 1], err);
    rig_close(&r);
    return st;
}

/* Steps in a row, as they are in an answer: what was read last is still in the last cache. */
static larder_status timed_in_row(rig *r, lr_own_times *out, larder_error *err)
{
    enum { ROW = 8, FIRST = 2 };
    double s[ROW];
    LR_TRY(push_out(r, err));
    for (int k = 0; k < 2; k++) {
        double before = read_other(r);
        for (int i = 0; i < ROW; i++) LR_TRY(step(r, 0, 1, &s[i], err));
        double speed = (before + read_other(r)) / 2;
        for (int i = FIRST; i < ROW; i++) lr_own_add(out, s[i], speed);
    }
    return LARDER_OK;
}

/* One row after a pause, several times. */
static larder_status timed_idle(rig *r, lr_own_times *out, larder_error *err)
{
    const struct timespec pause = {0, (long)(LR_OWN_IDLE * 1e9)};
    for (int i = 0; i < 6; i++) {
        double s;
        nanosleep(&pause, NULL);
        LR_TRY(step(r, 0, 1, &s, err));
        lr_own_add(out, s, 0);
    }
    return LARDER_OK;
}

/* Models that lie in the last cache, or by part: how much faster their weights come, and the KV cache of the smallest. */
static larder_status time_cached(lr_own_samples *all, larder_error *err)
{
    enum { FAR = 1024, MOST_MB = 200 };
    rig r;
    lr_topology topo;
    larder_status st = LARDER_OK;
    lr_topology_get(&topo);
    if (topo.l3 < 12 * LR_MIB) return LARDER_OK;
    all->cache_bytes = (double)topo.l3;
    for (int i = 0; i < LR_OWN_FILLS && !st; i++) {
        double fill = lr_own_fill[i], width = fill < 1 ? 512 : 1024;
        double n_layer = fill * (double)topo.l3 / ((2.5 + 3 * 3) * width * width * 34 / 32);
        if (fill * (double)topo.l3 > MOST_MB * 1e6) break;
        lr_shape s = shape_of((uint32_t)LR_MAX(n_layer, 1), (uint32_t)width, 64, 3 * (uint32_t)width, FAR + BATCH);
        LR_TRY(rig_open(all, &s, LR_FMT_Q8_0, &r, err));
        keep_facts(&r, LR_FMT_Q8_0, &all->cached[i]);
        st = warm_up(&r, err);
        if (!st && fill > 1) st = timed_in_row(&r, &all->cached[i].at[0], err);
        else if (!st) st = timed(&r, 0, 1, 20, &all->cached[i].at[0], err);
        for (int k = 1; !i && !st && lr_own_rows[k] <= 64; k++)
            st = timed(&r, 0, (uint32_t)lr_own_rows[k], 4, &all->cached[i].at[k], err);
        if (!st && i == 1) st = timed_idle(&r, &all->idle, err);
        if (!st && !i) st = timed(&r, FAR, 1, 20, &all->cached_far, err);
        if (!i) all->cached_kv_bytes = 2.0 * s.n_layer * FAR * s.n_head_kv * s.head_dim * 2;
        rig_close(&r);
    }
    return st;
}

/* Choosing a token as requests do by default: most of the time goes into looking over the vocabulary. */
static larder_status time_sampler(lr_own_samples *all, larder_error *err)
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
    all->sample_s = (double)spent * 1e-9 / TIMES / N;
fail:
    lr_sampler_close(&sampler);
    lr_sampler_work_close(&work);
    lr_free(logits);
    return st;
}

/* A cache that is filled once, for attention with heads of one size. */
static larder_status attention_open(lr_own_samples *all, int h, rig *r, larder_error *err)
{
    double warm;
    uint32_t dim = lr_own_head[h], n_layer = 8;
    lr_shape s = shape_of(n_layer, 2048, dim, 256, DEPTH + BATCH);
    larder_status st = LARDER_OK;
    LR_TRY(rig_open(all, &s, LR_FMT_Q8_0, r, err));
    all->kv_bytes[h] = n_layer * 2.0 * DEPTH * s.n_head_kv * dim * 2;
    all->attn_ops[h] = n_layer * 4.0 * MANY * DEPTH * s.n_head * dim;
    for (uint32_t at = 0; at < DEPTH; at += BATCH) LR_GO(step(r, at, BATCH, &warm, err));
    LR_GO(push_out(r, err));
    return LARDER_OK;
fail:
    rig_close(r);
    return st;
}

static larder_status time_attention(rig *r, int h, larder_error *err)
{
    lr_own_samples *all = r->all;
    LR_TRY(timed(r, 0, MANY, 2, &all->near[h].many, err));
    LR_TRY(timed(r, DEPTH, MANY, 2, &all->far[h].many, err));
    LR_TRY(timed(r, 0, 1, 6, &all->near[h].one, err));
    return timed(r, DEPTH, 1, 6, &all->far[h].one, err);
}

/* The many rows first: clocks sink under arithmetic, as they do in a long prompt. */
static larder_status time_format(lr_own_samples *all, uint32_t i, uint32_t fmt, larder_error *err)
{
    rig r;
    const lr_fmt_info *info = lr_fmt_get(fmt);
    double bits = 8.0 * info->bytes / info->block, layer = 2.5 * 1536 * 1536 + 3.0 * 1536 * 4608;
    double n_layer = ceil(MATRIX_MB * 1e6 * 8 / bits / layer); /* what is behind the last attention stays small */
    lr_shape s = shape_of((uint32_t)LR_MAX(n_layer, bits > 12 ? 2 : 3), 1536, 64, 4608, 512);
    LR_TRY(rig_open(all, &s, fmt, &r, err));
    keep_facts(&r, fmt, &all->formats[i]);
    double warm;
    larder_status st = push_out(&r, err);
    if (!st) st = step(&r, 0, BATCH / 2, &warm, err);
    for (int k = LR_OWN_ROWS; k-- && !st;) {
        uint32_t n = (uint32_t)lr_own_rows[k];
        st = timed(&r, 0, n, n == 1 ? 7 : n < BATCH / 4 ? 3 : 2, &all->formats[i].at[k], err);
    }
    rig_close(&r);
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
    {"in_cache_0.3", offsetof(lr_own, in_cache[0]), 0.05, 1},
    {"in_cache_0.6", offsetof(lr_own, in_cache[1]), 0.05, 1},
    {"in_cache_1.2", offsetof(lr_own, in_cache[2]), 0.05, 1},
    {"in_cache_2.4", offsetof(lr_own, in_cache[3]), 0.05, 1},
    {"in_cache_4.8", offsetof(lr_own, in_cache[4]), 0.05, 1},
    {"kv_in_cache", offsetof(lr_own, kv_in_cache), 0.05, 1},
    {"cache_gain_1", offsetof(lr_own, cache_gain[0]), 0, 1},
    {"cache_gain_2", offsetof(lr_own, cache_gain[1]), 0, 1},
    {"cache_gain_4", offsetof(lr_own, cache_gain[2]), 0, 1},
    {"cache_gain_8", offsetof(lr_own, cache_gain[3]), 0, 1},
    {"cache_gain_16", offsetof(lr_own, cache_gain[4]), 0, 1},
    {"cache_gain_32", offsetof(lr_own, cache_gain[5]), 0, 1},
    {"cache_gain_64", offsetof(lr_own, cache_gain[6]), 0, 1},
    {"cache_gain_256", offsetof(lr_own, cache_gain[7]), 0, 1},
    {"cache_gain_512", offsetof(lr_own, cache_gain[8]), 0, 1},
    {"idle", offsetof(lr_own, idle), 0, 1.5},
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

typedef struct timing {
    lr_own_samples *all;
    uint32_t fmts[LR_OWN_FORMATS];
    rig attention[LR_OWN_HEADS];
    larder_progress at;
    larder_progress_fn *progress;
    void *user;
} timing;

static larder_status tell(timing *t, larder_error *err)
{
    bool on = !t->progress || t->progress(t->user, &t->at);
    t->at.n_done++;
    return on ? LARDER_OK : lr_fail(err, LARDER_CANCELLED, "interrupted");
}

static larder_status measure_round(timing *t, larder_error *err)
{
    LR_TRY(tell(t, err));
    LR_TRY(time_layers(t->all, err));
    LR_TRY(time_cached(t->all, err));
    for (int h = 0; h < LR_OWN_HEADS; h++) LR_TRY(time_attention(&t->attention[h], h, err));
    for (uint32_t i = 0; i < t->all->n_formats; i++) {
        LR_TRY(tell(t, err));
        LR_TRY(time_format(t->all, i, t->fmts[i], err));
    }
    return LARDER_OK;
}

static larder_status measure(lr_own *o, int rounds, larder_progress_fn *progress, void *user, larder_error *err)
{
    timing t = {.progress = progress, .user = user};
    larder_status st = LARDER_OK;
    t.all = lr_calloc(1, sizeof *t.all);
    if (!t.all) return LR_NOMEM(err, "the samples");
    t.all->n_formats = (uint32_t)formats_to_time(t.fmts);
    t.at = (larder_progress){"kernels", 0, (uint64_t)rounds * (t.all->n_formats + 1), 0, -1};
    for (int h = 0; h < LR_OWN_HEADS; h++) LR_GO(attention_open(t.all, h, &t.attention[h], err));
    for (int i = 0; i < rounds; i++) LR_GO(measure_round(&t, err));
    LR_GO(time_sampler(t.all, err));
    if (!lr_own_solve(t.all, o)) LR_GO(lr_fail(err, LARDER_INTERNAL, "no kernel could be timed"));
fail:
    for (int h = 0; h < LR_OWN_HEADS; h++) rig_close(&t.attention[h]);
    lr_free(t.all);
    return st;
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
        LR_TRY(measure(&own, ROUNDS, progress, user, err));
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
