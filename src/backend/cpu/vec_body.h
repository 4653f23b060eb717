/* vec_body.h - norms, activations, rotations: everything of lr_kernels that is neither a matrix product nor attention.
 *
 * Compiled once per instruction set by vec_<set>.c, which defines VEC_<SET> and VEC_FILL. Each function is a formula per
 * number, or a sum whose order depends on the length alone: pieces of 64 go to four accumulators of 16 lanes, what is
 * left goes to the first ones, and the accumulators are added as (0 + 1) + (2 + 3).
 */
#include "cpu.h"
#include "vec16.h"

#define EACH16(n, body) \
    do { \
        uint32_t i = 0; \
        for (; i + 16 <= (n); i += 16) { \
            body(v_load, v_store) \
        } \
        if (i < (n)) { \
            uint32_t left = (n)-i; \
            body(LOAD_LEFT, STORE_LEFT) \
        } \
    } while (0)
#define LOAD_LEFT(p) v_load_n(p, left)
#define STORE_LEFT(p, v) v_store_n(p, v, left)

/* sum of (x - mid)^2, or of x if `plain` */
VEC_FN float sum_over(const float *x, uint32_t n, float mid, bool plain)
{
    v16 acc[4] = {v_set1(0), v_set1(0), v_set1(0), v_set1(0)}, m = v_set1(mid);
    uint32_t i = 0;
    for (; i + 64 <= n; i += 64) {
        for (uint32_t k = 0; k < 4; k++) {
            v16 v = v_sub(v_load(x + i + 16 * k), m);
            acc[k] = plain ? v_add(acc[k], v) : v_fma(v, v, acc[k]);
        }
    }
    for (uint32_t k = 0; i < n; k++, i += 16) {
        uint32_t left = LR_MIN(n - i, 16u);
        v16 v = left == 16 ? v_load(x + i) : v_load_n(x + i, left);
        v = v_sub(v, left == 16 || mid == 0.0f ? m : v_if_lt(v_iota(), v_set1((float)left), m, v_set1(0)));
        acc[k] = plain ? v_add(acc[k], v) : v_fma(v, v, acc[k]);
    }
    return v_sum(v_add(v_add(acc[0], acc[1]), v_add(acc[2], acc[3])));
}

static void rmsnorm(const float *x, const float *w, float *y, uint32_t n, float eps)
{
    v16 s = v_set1(1.0f / sqrtf(sum_over(x, n, 0.0f, false) / (float)n + eps));
#define BODY(load, store) store(y + i, v_mul(v_mul(load(x + i), s), load(w + i)));
#define BODY_PLAIN(load, store) store(y + i, v_mul(load(x + i), s));
    if (w) EACH16(n, BODY);
    else EACH16(n, BODY_PLAIN);
#undef BODY
#undef BODY_PLAIN
}

static void layernorm(const float *x, const float *w, const float *b, float *y, uint32_t n, float eps)
{
    float mid = sum_over(x, n, 0.0f, true) / (float)n;
    v16 m = v_set1(mid), s = v_set1(1.0f / sqrtf(sum_over(x, n, mid, false) / (float)n + eps));
#define BODY(load, store) \
    v16 v = v_mul(v_sub(load(x + i), m), s); \
    if (w) v = v_mul(v, load(w + i)); \
    if (b) v = v_add(v, load(b + i)); \
    store(y + i, v);
    EACH16(n, BODY);
#undef BODY
}

static void add(const float *a, const float *b, float *y, uint32_t n)
{
#define BODY(load, store) store(y + i, v_add(load(a + i), load(b + i)));
    EACH16(n, BODY);
#undef BODY
}

static void scale(const float *x, float s, float *y, uint32_t n)
{
    v16 k = v_set1(s);
#define BODY(load, store) store(y + i, v_mul(load(x + i), k));
    EACH16(n, BODY);
#undef BODY
}

static void axpy(float s, const float *x, float *y, uint32_t n)
{
    v16 k = v_set1(s);
#define BODY(load, store) store(y + i, v_fma(k, load(x + i), load(y + i)));
    EACH16(n, BODY);
#undef BODY
}

/* x / 2 * (1 + erf(x / sqrt 2)): through double, exact to half an ulp, and slow; no family that is run much has it. */
VEC_FN v16 gelu_erf(v16 x)
{
    float t[16];
    v_store(t, x);
    for (int i = 0; i < 16; i++) t[i] = (float)(0.5 * t[i] * erfc(-(double)t[i] * 0.70710678118654752440));
    return v_load(t);
}

/* x / 2 * (1 + tanh(u)) = x * sigmoid(2u), which keeps its digits where x is negative. */
VEC_FN v16 gelu_tanh(v16 x)
{
    v16 u = v_mul(v_mul(v_set1(1.5957691216057308f), x), v_fma(v_mul(v_set1(0.044715f), x), x, v_set1(1.0f)));
    return v_mul(x, v_sigmoid(u));
}

VEC_FN v16 fn16(lr_fn fn, v16 x)
{
    v16 zero = v_set1(0.0f);
    switch (fn) {
    case LR_FN_GELU_TANH: return gelu_tanh(x);
    case LR_FN_GELU_ERF: return gelu_erf(x);
    case LR_FN_RELU: return v_if_lt(x, zero, zero, x);
    case LR_FN_RELU2: return v_if_lt(x, zero, zero, v_mul(x, x));
    case LR_FN_SWIGLU_OAI: return v_mul(x, v_sigmoid(v_mul(v_set1(1.702f), x)));
    case LR_FN_SILU: break;
    }
    return v_div(x, v_add(v_set1(1.0f), v_exp(v_sub(zero, x))));
}

#define EACH_FN(fn) \
    switch (fn) { \
    case LR_FN_SILU: RUN(LR_FN_SILU); break; \
    case LR_FN_GELU_TANH: RUN(LR_FN_GELU_TANH); break; \
    case LR_FN_GELU_ERF: RUN(LR_FN_GELU_ERF); break; \
    case LR_FN_RELU: RUN(LR_FN_RELU); break; \
    case LR_FN_RELU2: RUN(LR_FN_RELU2); break; \
    case LR_FN_SWIGLU_OAI: RUN(LR_FN_SWIGLU_OAI); break; \
    }

VEC_FN void act_one(lr_fn fn, const float *x, float *y, uint32_t n)
{
#define BODY(load, store) store(y + i, fn16(fn, load(x + i)));
    EACH16(n, BODY);
#undef BODY
}

static void act(lr_fn fn, const float *x, float *y, uint32_t n){
#define RUN(f) act_one(f, x, y, n)
    EACH_FN(fn)
#undef RUN
}

VEC_FN void glu_one(lr_fn fn, const float *g, const float *u, float *y, uint32_t n)
{
    v16 seven = v_set1(7.0f), less = v_set1(-7.0f), one = v_set1(1.0f);
#define BODY(load, store) \
    v16 a = load(g + i), b = load(u + i); \
    if (fn == LR_FN_SWIGLU_OAI) { \
        a = v_min(seven, a); \
        b = v_add(v_max(less, v_min(seven, b)), one); \
    } \
    store(y + i, v_mul(fn16(fn, a), b));
    EACH16(n, BODY);
#undef BODY
}

static void glu(lr_fn fn, const float *g, const float *u, float *y, uint32_t n)
{
#define RUN(f) glu_one(f, g, u, y, n)
    EACH_FN(fn)
#undef RUN
}

static void softcap(const float *x, float cap, float *y, uint32_t n)
{
    v16 c = v_set1(cap), inv = v_set1(1.0f / cap);
#define BODY(load, store) store(y + i, v_mul(c, v_tanh(v_mul(load(x + i), inv))));
    EACH16(n, BODY);
#undef BODY
}

/* y = e^(x - max x), returns their sum */
static float exp_sum(const float *x, float *y, uint32_t n)
{
    float top = -INFINITY, sum = 0.0f;
    for (uint32_t i = 0; i < n; i++) top = x[i] > top ? x[i] : top;
    v16 t = v_set1(top);
#define BODY(load, store) store(y + i, v_exp(v_sub(load(x + i), t)));
    EACH16(n, BODY);
#undef BODY
    for (uint32_t i = 0; i < n; i++) sum += y[i];
    return sum;
}

/* a * c - b * s and a * s + b * c, one rounding per operation, so that the compiler's vectors change nothing. */
static void rope(lr_rope_kind kind, float *h, const float *restrict cs, uint32_t n_rot)
{
    uint32_t half = n_rot / 2;
    if (kind == LR_ROPE_PAIRS) {
        float *restrict p = h;
        for (uint32_t i = 0; i < half; i++) {
            float a = p[2 * i], b = p[2 * i + 1], c = cs[2 * i], s = cs[2 * i + 1];
            p[2 * i] = a * c - b * s;
            p[2 * i + 1] = a * s + b * c;
        }
        return;
    }
    float *restrict lo = h, *restrict hi = h + half;
    for (uint32_t i = 0; i < half; i++) {
        float a = lo[i], b = hi[i], c = cs[2 * i], s = cs[2 * i + 1];
        lo[i] = a * c - b * s;
        hi[i] = a * s + b * c;
    }
}

static void store_f16(const float *x, uint16_t *y, uint32_t n)
{
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16) v_store_h(y + i, v_load(x + i));
    if (i < n) {
        uint16_t t[16];
        v_store_h(t, v_load_n(x + i, n - i));
        memcpy(y + i, t, (n - i) * sizeof *y);
    }
}

void VEC_FILL(lr_kernels *k);
void VEC_FILL(lr_kernels *k)
{
    k->rmsnorm = rmsnorm;
    k->layernorm = layernorm;
    k->add = add;
    k->scale = scale;
    k->axpy = axpy;
    k->act = act;
    k->glu = glu;
    k->softcap = softcap;
    k->exp_sum = exp_sum;
    k->rope = rope;
    k->store_f16 = store_f16;
}
