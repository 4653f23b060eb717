/* own_fit.c - see own_fit.h.
 *
 * Steps of few rows are bound by memory. On a shared machine its speed changes within a second, and a step's time follows
 * by part only: T ~ fixed + (1 - fixed) average / speed. They are put at the average speed, and the median is taken: memory
 * errs both ways. What disturbs arithmetic only ever slows it, so of many rows the lower third counts, which two disturbed
 * rounds of three leave as it is. */
#include "own_fit.h"

#include <math.h>
#include <stdlib.h>

#define BY_MEMORY 8   /* rows, at most, of steps whose time follows memory */
#define NO_WANDER 0.2 /* changes of memory's speed that are not told from errors of reading it */

void lr_own_add(lr_own_times *t, double s, double speed)
{
    if (t->n == LR_OWN_SAMPLES) return;
    t->s[t->n] = s;
    t->speed[t->n++] = speed;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double arithmetic(const lr_own_times *t)
{
    double v[LR_OWN_SAMPLES];
    if (!t->n) return 0;
    memcpy(v, t->s, t->n * sizeof *v);
    qsort(v, t->n, sizeof *v, by_value);
    return v[(t->n - 1) / 3];
}

static double by_memory(const lr_own_times *t, double fixed, double average)
{
    double v[LR_OWN_SAMPLES];
    if (!t->n) return 0;
    for (uint32_t i = 0; i < t->n; i++)
        v[i] = t->s[i] / (t->speed[i] > 0 ? fixed + (1 - fixed) * average / t->speed[i] : 1);
    qsort(v, t->n, sizeof *v, by_value);
    return (v[(t->n - 1) / 2] + v[t->n / 2]) / 2;
}

/* The share of a step of one row that does not follow memory: one less the slope of its time on memory's, on logarithms,
 * over all formats. What was read beside a step errs, which flattens the slope; where memory hardly changed, the slope is
 * believed to be 0.85. */
static double fixed_share(const lr_own_samples *in)
{
    double xx = 0, xy = 0, step = 0, n = 0;
    for (uint32_t f = 0; f < in->n_formats; f++) {
        const lr_own_times *t = &in->formats[f].at[0];
        double mx = 0, my = 0;
        for (uint32_t i = 0; i < t->n; i++) mx -= log(t->speed[i]) / t->n, my += log(t->s[i]) / t->n;
        for (uint32_t i = 0; i < t->n; i++) {
            double x = -log(t->speed[i]) - mx, y = log(t->s[i]) - my;
            xx += x * x;
            xy += x * y;
            n++;
            if (i) step += pow(log(t->speed[i] / t->speed[i - 1]), 2) / 2;
        }
    }
    if (n < 2) return 0;
    double believed = NO_WANDER * NO_WANDER, errors = LR_MIN(step, 0.8 * xx) / n;
    double slope = (xy / n + 0.85 * believed) / (xx / n - errors + believed);
    return LR_MIN(LR_MAX(1 - slope, 0), 0.8);
}

/* A format's seconds per number at each count of rows: what a step took, less what is no matrix. */
static void solve_format(const lr_own_rig *r, lr_own *o, lr_own_format *f)
{
    *f = (lr_own_format){.fmt = r->fmt};
    for (int i = 0; i < LR_OWN_ROWS; i++) {
        double n = lr_own_rows[i];
        double t = n <= BY_MEMORY ? by_memory(&r->at[i], o->fixed, o->bandwidth) : arithmetic(&r->at[i]);
        double besides = r->n_layer * o->layer_s + r->attn_ops * n * (n + 1) / 2 * o->attn_op_s[0] +
                         n * r->row_work * o->row_s;
        if (i) besides += r->rest * f->s[0]; /* one row of it */
        f->s[i] = LR_MAX(0.5 * t, t - besides) / (r->numbers + (i ? 0 : r->rest));
    }
}

static void solve_attention(const lr_own_samples *in, lr_own *o)
{
    for (int h = 0; h < LR_OWN_HEADS; h++) {
        double one = by_memory(&in->far[h].one, o->fixed, o->bandwidth) -
                     by_memory(&in->near[h].one, o->fixed, o->bandwidth);
        double many = arithmetic(&in->far[h].many) - arithmetic(&in->near[h].many);
        o->kv_byte_s[h] = LR_MAX(1e-13, one / in->kv_bytes[h]);
        o->attn_op_s[h] = LR_MAX(1e-15, many / in->attn_ops[h]);
    }
}

/* A layer's fixed time, and what its rows cost besides matrices: of a model whose matrices are next to nothing. */
static void solve_layers(const lr_own_rig *r, const lr_own_format *f, lr_own *o)
{
    double n = lr_own_rows[LR_OWN_ROWS - 1], one = arithmetic(&r->at[0]), many = arithmetic(&r->at[LR_OWN_ROWS - 1]);
    double attention = r->attn_ops * n * (n + 1) / 2 * o->attn_op_s[0];
    o->layer_s = one / r->n_layer;
    o->row_s = LR_MAX(0, (many - one - r->numbers * f->s[LR_OWN_ROWS - 1] - attention) / (n * r->row_work));
}

static double share(double v) { return LR_MIN(1, LR_MAX(0.1, v)); }

/* Seconds per number of the smallest cached model at these rows, less than the same from memory. */
static double gained(const lr_own_rig *r, const lr_own_format *f, const lr_own *o, int i)
{
    double n = lr_own_rows[i], rest = i ? 0 : r->rest;
    double besides = r->n_layer * o->layer_s + n * r->row_work * o->row_s +
                     r->attn_ops * n * (n + 1) / 2 * o->attn_op_s[0] + (i ? r->rest * f->s[0] * o->in_cache[0] : 0);
    return f->s[i] - (arithmetic(&r->at[i]) - besides) / (r->numbers + rest);
}

static void solve_gain(const lr_own_samples *in, const lr_own_format *f, lr_own *o)
{
    const lr_own_rig *r = &in->cached[0];
    double one = r->at[0].n ? gained(r, f, o, 0) : 0;
    for (int i = 0; i < LR_OWN_ROWS; i++) {
        o->cache_gain[i] = i ? o->cache_gain[i - 1] : 1;
        if (i && one > 0 && r->at[i].n) /* less and less */
            o->cache_gain[i] = LR_MIN(LR_MAX(gained(r, f, o, i) / one, 0), o->cache_gain[i - 1]);
    }
}

/* Of what the cache saves, what a pause loses. */
static void solve_idle(const lr_own_samples *in, const lr_own_format *f, lr_own *o)
{
    const lr_own_rig *r = &in->cached[1];
    double saved = (1 - o->in_cache[1]) * (r->numbers + r->rest) * f->s[0];
    if (!in->idle.n || !r->at[0].n || !(saved > 0)) return;
    o->idle = LR_MIN(LR_MAX((arithmetic(&in->idle) - arithmetic(&r->at[0])) / saved, 0), 1.5);
}

static void solve_cached(const lr_own_samples *in, const lr_own_format *f, lr_own *o)
{
    for (int i = 0; i < LR_OWN_FILLS; i++) {
        const lr_own_rig *r = &in->cached[i];
        if (!r->at[0].n) continue;
        double besides = r->n_layer * o->layer_s + r->row_work * o->row_s;
        double t = lr_own_fill[i] > 1 ? by_memory(&r->at[0], o->fixed, o->bandwidth) : arithmetic(&r->at[0]);
        o->in_cache[i] = share((t - besides) / ((r->numbers + r->rest) * f->s[0]));
    }
    solve_gain(in, f, o);
    solve_idle(in, f, o);
    if (!in->cached_far.n) return;
    double far = arithmetic(&in->cached_far) - arithmetic(&in->cached[0].at[0]);
    o->kv_in_cache = share(far / (in->cached_kv_bytes * o->kv_byte_s[0]));
}

bool lr_own_solve(const lr_own_samples *in, lr_own *o)
{
    *o = (lr_own){.kv_in_cache = 1, .cache_bytes = in->cache_bytes, .sample_s = in->sample_s};
    for (int i = 0; i < LR_OWN_FILLS; i++) o->in_cache[i] = 1;
    for (int i = 0; i < LR_OWN_ROWS; i++) o->cache_gain[i] = 1;
    if (!in->n_formats || !in->n_read) return false;
    o->bandwidth = in->n_read / in->inverse;
    o->fixed = fixed_share(in);
    solve_attention(in, o);
    const lr_own_rig *common = &in->formats[0]; /* that of the rigs without a format of their own */
    for (uint32_t i = 0; i < in->n_formats; i++)
        if (in->formats[i].fmt == in->layers.fmt) common = &in->formats[i];
    lr_own_format known;
    for (int round = 0; round < 3; round++) { /* each is corrected by the other: in the first by nothing */
        solve_format(common, o, &known);
        solve_layers(&in->layers, &known, o);
    }
    for (uint32_t i = 0; i < in->n_formats; i++) solve_format(&in->formats[i], o, &o->formats[o->n_formats++]);
    solve_cached(in, &known, o);
    return true;
}
