/* fit.c - the search for a block's scale: which scale (and offset) brings the rounded values closest.
 *
 * Rounding makes the error jump about as the scale changes, so no formula finds the best one. Each search tries scales
 * around the one that just covers the block; for each it rounds, and asks least squares which scale (and offset) would
 * have been best for those integers. With g the part of sum w x^2 that the fit explains, the best try has the largest
 * g. Then, from the best, round and solve again while that helps.
 *
 * Sums run in eight lanes in a fixed order: the compiler can use vectors, and every machine gets the same result.
 */
#include "codec.h"

#include <assert.h>
#include <math.h>

enum { LANES = 8, N_REFINE = 3 };

/* Below this no f16 scale but zero can come out, and dividing by it might overflow. */
#define NOTHING 1e-20f

static float lane_sum(const float *s) { return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7])); }

void lr_fit_weights(int n, const float *importance, float *w)
{
    double sum = 0;
    if (importance)
        for (int i = 0; i < n; i++) sum += importance[i];
    bool says = sum > 0 && sum < HUGE_VAL;
    for (int i = 0; i < n; i++) w[i] = says ? (float)(importance[i] * (n / sum)) : 1.0f;
}

/* The value of largest magnitude. */
static float extreme(int n, const float *x)
{
    float best = x[0];
    for (int i = 1; i < n; i++) best = fabsf(x[i]) > fabsf(best) ? x[i] : best;
    return best;
}

/* ---------------------------------------------------------------- x ~ d q */
typedef struct line {
    float d, gain;
} line;

/* Rounds x * inverse to integers, then the best d for them. */
static line try_signed(int n, float n_neg, const float *x, const float *w, float inverse)
{
    float xq[LANES] = {0}, qq[LANES] = {0};
    for (int i = 0; i < n; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            float q = nearest(x[i + k] * inverse, -n_neg, n_neg - 1);
            float wq = w[i + k] * q;
            xq[k] += wq * x[i + k];
            qq[k] += wq * q;
        }
    }
    float sum_xq = lane_sum(xq), sum_qq = lane_sum(qq);
    if (!(sum_qq > 0)) return (line){0, 0};
    float d = sum_xq / sum_qq;
    return (line){d, d * sum_xq};
}

float lr_fit_signed(int n, int n_neg, const float *x, const float *w)
{
    float top = extreme(n, x);
    if (fabsf(top) < NOTHING) return 0;
    line best = {0, 0};
    /* The largest magnitude lands on -n_neg, which has no positive twin. */
    for (int step = -9; step <= 9; step++) {
        line t = try_signed(n, (float)n_neg, x, w, -((float)n_neg + 0.1f * (float)step) / top);
        if (t.gain > best.gain) best = t;
    }
    for (int i = 0; i < N_REFINE && best.d != 0; i++) {
        line t = try_signed(n, (float)n_neg, x, w, 1 / best.d);
        if (!(t.gain > best.gain)) break;
        best = t;
    }
    return best.d;
}

/* ---------------------------------------------------------------- x ~ d t[q] */
static line try_table(int n, const int8_t *t, const float *x, const float *w, float inverse)
{
    float xq[LANES] = {0}, qq[LANES] = {0};
    for (int i = 0; i < n; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            float q = (float)t[nearest_of_16(t, x[i + k] * inverse)];
            float wq = w[i + k] * q;
            xq[k] += wq * x[i + k];
            qq[k] += wq * q;
        }
    }
    float sum_xq = lane_sum(xq), sum_qq = lane_sum(qq);
    if (!(sum_qq > 0)) return (line){0, 0};
    float d = sum_xq / sum_qq;
    return (line){d, d * sum_xq};
}

float lr_fit_table(int n, const int8_t *t, const float *x, const float *w)
{
    float top = extreme(n, x);
    if (fabsf(top) < NOTHING) return 0;
    line best = {0, 0};
    for (int step = -7; step <= 7; step++) {
        line l = try_table(n, t, x, w, ((float)t[0] + (float)step) / top);
        if (l.gain > best.gain) best = l;
    }
    for (int i = 0; i < N_REFINE && best.d != 0; i++) {
        line l = try_table(n, t, x, w, 1 / best.d);
        if (!(l.gain > best.gain)) break;
        best = l;
    }
    return best.d;
}

/* ---------------------------------------------------------------- x ~ d q + m
 * Worked in y = x - low >= 0, so that a block far from zero loses no digits. */
typedef struct affine {
    float d, m, gain; /* of y */
} affine;

typedef struct affine_block {
    int n;
    float q_max, m_max; /* m_max: the largest m allowed */
    const float *y, *w;
    float sum_w, sum_y;
} affine_block;

static affine try_affine(const affine_block *b, float inverse, float shift)
{
    float s1[LANES] = {0}, s2[LANES] = {0}, sy[LANES] = {0};
    for (int i = 0; i < b->n; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            float q = nearest((b->y[i + k] - shift) * inverse, 0, b->q_max);
            float wq = b->w[i + k] * q;
            s1[k] += wq;
            s2[k] += wq * q;
            sy[k] += wq * b->y[i + k];
        }
    }
    float q1 = lane_sum(s1), q2 = lane_sum(s2), yq = lane_sum(sy);
    float det = b->sum_w * q2 - q1 * q1;
    if (!(det > 0)) return (affine){0, 0, 0};
    float d = (b->sum_w * yq - b->sum_y * q1) / det;
    float m = (q2 * b->sum_y - q1 * yq) / det;
    if (m > b->m_max) {
        m = b->m_max;
        d = (yq - m * q1) / q2;
        /* What is explained, now that m was not free: sum w y^2 - sum w (y - d q - m)^2. */
        return (affine){d, m, 2 * (d * yq + m * b->sum_y) - d * d * q2 - 2 * d * m * q1 - m * m * b->sum_w};
    }
    return (affine){d, m, d * yq + m * b->sum_y};
}

float lr_fit_affine(int n, int q_max, bool below, const float *x, const float *w, float *m)
{
    assert(n > 0 && n % LANES == 0 && n <= 32);
    float low = x[0], high = x[0];
    for (int i = 1; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    if (below && low > 0) low = 0;
    *m = low;
    if (high - low < NOTHING) return 0;

    float y[32] = {0}, lane_w[LANES] = {0}, lane_y[LANES] = {0};
    for (int i = 0; i < n; i++) {
        y[i] = x[i] - low;
        lane_w[i % LANES] += w[i];
        lane_y[i % LANES] += w[i] * y[i];
    }
    affine_block b = {n, (float)q_max, below ? -low : HUGE_VALF, y, w, lane_sum(lane_w), lane_sum(lane_y)};
    float range = high - low;
    affine best = {range / (float)q_max, 0, 0};
    /* Few levels are worth a wider and finer search: there the ends of the range are often better cut off. */
    int n_step = q_max < 8 ? 30 : 18;
    float first = q_max < 8 ? -0.5f * (float)q_max + 0.5f : -0.8f;
    float width = q_max < 8 ? (float)q_max * 0.75f : 2.0f;
    for (int step = 0; step <= n_step; step++) {
        float inverse = ((float)q_max + first + width * (float)step / (float)n_step) / range;
        affine t = try_affine(&b, inverse, 0);
        if (t.gain > best.gain) best = t;
    }
    for (int i = 0; i < N_REFINE && best.d > 0; i++) {
        affine t = try_affine(&b, 1 / best.d, best.m);
        if (!(t.gain > best.gain)) break;
        best = t;
    }
    *m = best.m + low;
    if (below && *m > 0) *m = 0;
    return best.d > 0 ? best.d : 0;
}
