/* shape_model.c - a model of random weights of an exact shape, in memory of its own: to be measured, not to be read.
 *
 * Speed depends on shapes and formats, not on numbers, as long as they stay ordinary: matrices are small noise, norms are
 * near one, and each row is one of a few that were encoded once, so that filling runs at the memory's speed. What is
 * float32 (routers, norms, biases) differs everywhere, so that tokens go to different experts. */
#include "shape_model.h"

#include "catalogue.h"
#include "engine.h"

#include <math.h>

enum { KINDS = 64 };           /* rows encoded per format and width */
#define RESERVE (256 * LR_MIB) /* what an engine takes at least besides */

typedef struct maker {
    uint8_t *rows; /* [KINDS] of one format and width */
    size_t cap;
    uint32_t fmt;
    uint64_t n; /* their width; 0: none yet */
    float *row;
    uint64_t seed;
    lr_pool *pool;
    const lr_tensor *t; /* being filled, */
    uint8_t *to;        /* here */
    uint64_t done, total, t0;
    larder_progress_fn *progress;
    void *user;
} maker;

/* About normal, of variance one: four uniform numbers. */
static float noise(uint64_t *seed)
{
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        *seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
        sum += (float)(*seed >> 40) * 0x1p-24f - 0.5f;
    }
    return sum * 1.7320508f;
}

static bool ends_with(lr_str s, const char *tail)
{
    size_t n = strlen(tail);
    return s.n >= n && !memcmp(s.p + s.n - n, tail, n);
}

static void fill_floats(maker *m, const lr_tensor *t, float *to)
{
    bool norm = ends_with(t->name, "norm.weight");
    float by = norm ? 0.05f : 1.0f / sqrtf((float)t->ne[0]);
    uint64_t all = t->ne[0] * t->ne[1] * t->ne[2];
    for (uint64_t i = 0; i < all; i++) to[i] = noise(&m->seed) * by + (norm ? 1.0f : 0.0f);
}

/* The rows that tensors of this format and width are made of. */
static larder_status encode_rows(maker *m, const lr_tensor *t, larder_error *err)
{
    if (m->n == t->ne[0] && m->fmt == t->fmt) return LARDER_OK;
    if (!lr_fmt_can_encode(t->fmt))
        return lr_fail(err, LARDER_UNSUPPORTED, "larder cannot write format %s", lr_fmt_get(t->fmt)->name);
    size_t size = (size_t)t->row_stride * KINDS;
    if (size > m->cap) {
        lr_free(m->rows);
        m->rows = lr_calloc(size, 1);
        m->cap = m->rows ? size : 0;
    }
    lr_free(m->row);
    m->row = lr_calloc((size_t)t->ne[0], sizeof *m->row);
    if (!m->rows || !m->row) return LR_NOMEM(err, "random rows");
    m->n = t->ne[0];
    m->fmt = t->fmt;
    for (int k = 0; k < KINDS; k++) {
        for (uint64_t i = 0; i < m->n; i++) m->row[i] = noise(&m->seed) / sqrtf((float)m->n);
        LR_TRY(lr_encode_row(m->fmt, m->row, m->rows + (size_t)k * t->row_stride, m->n, NULL, err));
    }
    return LARDER_OK;
}

/* A thread's share of a tensor's rows. */
static void copy_rows(void *user, int thread, int n_thread)
{
    const maker *m = user;
    const lr_tensor *t = m->t;
    uint64_t n = t->ne[1] * t->ne[2], r = n * (uint64_t)thread / (uint64_t)n_thread,
             end = n * ((uint64_t)thread + 1) / (uint64_t)n_thread;
    for (; r < end; r++) {
        uint64_t kind = (m->seed + r) * 0x9e3779b97f4a7c15ull >> 33;
        memcpy(m->to + r * t->row_stride, m->rows + kind % KINDS * t->row_stride, (size_t)t->row_stride);
    }
}

static larder_status fill_rows(maker *m, const lr_tensor *t, uint8_t *to, larder_error *err)
{
    LR_TRY(encode_rows(m, t, err));
    m->t = t;
    m->to = to;
    m->seed += t->ne[1] * t->ne[2];
    lr_pool_run(m->pool, copy_rows, m);
    return LARDER_OK;
}

static larder_status fill(maker *m, lr_file *f, uint8_t *to, larder_error *err)
{
    m->t0 = lr_now_ns();
    for (size_t i = 0; i < f->n_tensors; i++) {
        lr_tensor *t = &f->tensors[i];
        t->data = to;
        if (t->fmt == LR_FMT_F32) fill_floats(m, t, (float *)(void *)to);
        else LR_TRY(fill_rows(m, t, to, err));
        to += LR_ALIGN_UP(t->n_bytes, 64);
        m->done += t->n_bytes;
        larder_progress p = {"random weights", m->done, m->total,
                             (double)m->done / ((double)(lr_now_ns() - m->t0) * 1e-9), -1};
        if (m->progress && !m->progress(m->user, &p)) return lr_fail(err, LARDER_CANCELLED, "interrupted");
    }
    return LARDER_OK;
}

static larder_status find_shape(const char *name, const char *format, lr_file *out, larder_error *err)
{
    lr_catalogue c;
    const lr_mix_type *type = lr_mix_find(format ? format : "Q4_K_M");
    larder_status st = LARDER_OK;
    if (!type) {
        lr_buf b = {0};
        for (const char *const *n = lr_mix_names(); *n; n++) lr_buf_printf(&b, "%s%s", b.n ? ", " : "", *n);
        st = lr_fail(err, LARDER_USAGE, "unknown format \"%.40s\"; there are %s", format, b.p ? b.p : "");
        lr_buf_free(&b);
        return st;
    }
    LR_TRY(lr_catalogue_open(&c, err));
    const lr_preset *p = lr_preset_named(&c, name);
    if (!p) st = lr_preset_unknown(&c, name, err);
    else if (!p->runs)
        st = lr_fail(err, LARDER_UNSUPPORTED, "larder plans %s but has no program for its architecture",
                     p->shape.name);
    else st = lr_shape_file(&p->shape, type, false, out, err);
    lr_catalogue_close(&c);
    return st;
}

larder_status lr_shape_model(lr_file *f, uint64_t memory, larder_model **out, larder_progress_fn *progress,
                             void *user, larder_error *err)
{
    maker m = {.seed = 1, .progress = progress, .user = user};
    uint8_t *weights = NULL;
    size_t n = 0;
    lr_topology topo;
    larder_status st = LARDER_OK;
    *out = NULL;
    for (size_t i = 0; i < f->n_tensors; i++) {
        n += LR_ALIGN_UP((size_t)f->tensors[i].n_bytes, 64);
        m.total += f->tensors[i].n_bytes;
    }
    uint64_t room = memory ? memory : lr_mem_available();
    if (n + RESERVE > room)
        LR_GO(lr_fail(err, LARDER_NOMEM, "%s needs %.2f GiB of weights and %.2f GiB besides, and %.2f GiB are free",
                      f->path, (double)n / (double)LR_GIB, (double)RESERVE / (double)LR_GIB,
                      (double)room / (double)LR_GIB));
    weights = lr_pages_alloc(n);
    if (!weights) {
        st = LR_NOMEM(err, "the weights");
        goto fail;
    }
    lr_topology_get(&topo);
    LR_GO(lr_pool_new(LR_MAX(topo.n_core, 1), false, &m.pool, err));
    LR_GO(fill(&m, f, weights, err));
    st = lr_model_adopt(f, out, err);
    if (!st) {
        (*out)->made = weights;
        (*out)->n_made = n;
    }
fail:
    lr_pool_free(m.pool);
    lr_free(m.rows);
    lr_free(m.row);
    if (st && weights) lr_pages_free(weights, n);
    if (st) lr_file_close(f);
    return st;
}

larder_status larder_shape_open(const char *name, const char *format, uint64_t memory, larder_model **out,
                                larder_progress_fn *progress, void *user, larder_error *err)
{
    lr_file f = {0};
    *out = NULL;
    LR_TRY(find_shape(name, format, &f, err));
    return lr_shape_model(&f, memory, out, progress, user, err);
}
