/* attn_body.h - the attention of attn.h, compiled once per instruction set by attn_<set>.c. */
#include "attn.h"
#include "vec16.h"

/* ---------------------------------------------------------------- the small product
 * C[r][0..16 nv) (+)= sum over k of A[r][k] * B[k][0..16 nv), for nr rows: each number of C is a chain of multiply-adds
 * in rising k, whatever nr and nv are. */
typedef struct matrix {
    const uint8_t *p;  /* numbers or codes, [k][ld] */
    const uint16_t *d; /* scales of codes */
    size_t ld;
    const uint8_t *ahead; /* what will be read a span later, as these bytes are now */
} matrix;

/* What a matrix holds, constant where it matters. K has a scale per 32 rows of a column, V per 32 columns of a row. */
typedef enum form { F16, F32, Q8_K, Q8_V, Q4_K, Q4_V } form;
VEC_FN form form_of(larder_kv kv, bool keys)
{
    switch (kv) {
    case LARDER_KV_F32: return F32;
    case LARDER_KV_Q8_0: return keys ? Q8_K : Q8_V;
    case LARDER_KV_Q4_0: return keys ? Q4_K : Q4_V;
    default: return F16;
    }
}

VEC_FN v16 load_b(form f, const matrix *b, size_t k, size_t col)
{
    size_t at = k * b->ld + col;
    if (f == F16) return v_load_h((const uint16_t *)(const void *)b->p + at);
    if (f == F32) return v_load((const float *)(const void *)b->p + at);
    v16 d = f == Q8_K || f == Q4_K ? v_load_h(b->d + k / 32 * LR_KV_BLOCK + col)
                                   : v_set1_h(b->d[k * (b->ld / 32) + col / 32]);
    v16 q = f == Q8_K || f == Q8_V ? v_load_i8((const int8_t *)b->p + at)
                                   : v_load_i4(b->p + (at - col % 32) / 2, col / 16 % 2);
    return v_mul(d, q);
}

/* Where memory sets the pace it must never wait: what comes a span later is asked for now, all the time. Of K, seven
 * eighths while K is read, of V while V is; the last eighths in between, while scores are weighed. Evenly, for requests
 * in bursts are slower than the same ones spread out. */
enum { ASK_PARTS = 8 };
VEC_FN void fetch_ahead(form f, const matrix *b, size_t k, size_t col)
{
    size_t at = k * b->ld + col, by = f == F32 ? 4 * at : f == F16 ? 2 * at : f == Q8_K || f == Q8_V ? at : at / 2;
    if (f != F32 && col % 32) return;
    __builtin_prefetch(b->ahead + by - by / ASK_PARTS);
}

/* Of B there are n_seg matrices of n rows, one below the other. */
VEC_FN void tile(form f, int nr, int nv, uint32_t n_seg, uint32_t n, const float *a, size_t lda, const matrix *b,
                 size_t col, float *c, size_t ldc, bool on)
{
    v16 acc[8][8], bv[8];
    UNROLL for (int r = 0; r < nr; r++) UNROLL for (int v = 0; v < nv; v++)
        acc[r][v] = on ? v_load(c + (size_t)r * ldc + col + 16 * (size_t)v) : v_set1(0);
    for (uint32_t s = 0; s < n_seg; s++, a += n, b++)
        for (uint32_t k = 0; k < n; k++) {
            UNROLL for (int v = 0; v < nv; v++)
            {
                bv[v] = load_b(f, b, k, col + 16 * (size_t)v);
                fetch_ahead(f, b, k, col + 16 * (size_t)v);
            }
            UNROLL for (int r = 0; r < nr; r++)
            {
                v16 x = v_set1(a[(size_t)r * lda + k]);
                UNROLL for (int v = 0; v < nv; v++) acc[r][v] = v_fma(x, bv[v], acc[r][v]);
            }
        }
    UNROLL for (int r = 0; r < nr; r++) UNROLL for (int v = 0; v < nv; v++)
        v_store(c + (size_t)r * ldc + col + 16 * (size_t)v, acc[r][v]);
}

/* Constant sizes, so that the accumulators are registers: 16 of AVX-512's 32 or NEON's, 12 of AVX2's 16. */
#define EACH_FORM(call) \
    switch (f) { \
    case F16: call(F16); break; \
    case F32: call(F32); break; \
    case Q8_K: call(Q8_K); break; \
    case Q8_V: call(Q8_V); break; \
    case Q4_K: call(Q4_K); break; \
    case Q4_V: call(Q4_V); break; \
    }
#define TILE(nr, nv) \
    static void tile_##nr##_##nv(form f, uint32_t n_seg, uint32_t n, const float *a, size_t lda, const matrix *b, \
                                 size_t col, float *c, size_t ldc, bool on) \
    { \
        enum { NR = nr, NV = nv }; \
        EACH_FORM(ONE_TILE) \
    }
#define ONE_TILE(f) tile(f, NR, NV, n_seg, n, a, lda, b, col, c, ldc, on)
#define T(nr, nv) tile_##nr##_##nv(f, n_seg, n, a + r * lda, lda, b, col, c + r * ldc, ldc, on)

#if defined(VEC_AVX512)
TILE(8, 2)
TILE(8, 1)
TILE(4, 4)
TILE(4, 2)
TILE(4, 1)
TILE(2, 8)
TILE(2, 4)
TILE(2, 2)
TILE(2, 1)
TILE(1, 8)
TILE(1, 4)
TILE(1, 2)
TILE(1, 1)
static void product(form f, uint32_t nr, uint32_t width, uint32_t n_seg, uint32_t n, const float *a, size_t lda,
                    const matrix *b, float *c, size_t ldc, bool on)
{
    size_t r = 0;
    for (; r + 8 <= nr; r += 8) {
        size_t col = 0;
        for (; col + 32 <= width; col += 32) T(8, 2);
        if (col < width) T(8, 1);
    }
    for (; r + 4 <= nr; r += 4) {
        size_t col = 0;
        for (; col + 64 <= width; col += 64) T(4, 4);
        for (; col + 32 <= width; col += 32) T(4, 2);
        if (col < width) T(4, 1);
    }
    for (; r + 2 <= nr; r += 2) {
        size_t col = 0;
        for (; col + 128 <= width; col += 128) T(2, 8);
        for (; col + 64 <= width; col += 64) T(2, 4);
        for (; col + 32 <= width; col += 32) T(2, 2);
        if (col < width) T(2, 1);
    }
    for (; r < nr; r++) {
        size_t col = 0;
        for (; col + 128 <= width; col += 128) T(1, 8);
        for (; col + 64 <= width; col += 64) T(1, 4);
        for (; col + 32 <= width; col += 32) T(1, 2);
        if (col < width) T(1, 1);
    }
}
#else
TILE(6, 1)
TILE(4, 1)
TILE(2, 2)
TILE(2, 1)
TILE(1, 4)
TILE(1, 2)
TILE(1, 1)
static void product(form f, uint32_t nr, uint32_t width, uint32_t n_seg, uint32_t n, const float *a, size_t lda,
                    const matrix *b, float *c, size_t ldc, bool on)
{
    size_t r = 0;
    for (; r + 6 <= nr; r += 6)
        for (size_t col = 0; col < width; col += 16) T(6, 1);
    for (; r + 4 <= nr; r += 4)
        for (size_t col = 0; col < width; col += 16) T(4, 1);
    for (; r + 2 <= nr; r += 2) {
        size_t col = 0;
        for (; col + 32 <= width; col += 32) T(2, 2);
        if (col < width) T(2, 1);
    }
    for (; r < nr; r++) {
        size_t col = 0;
        for (; col + 64 <= width; col += 64) T(1, 4);
        for (; col + 32 <= width; col += 32) T(1, 2);
        if (col < width) T(1, 1);
    }
}
#endif

/* The scores of few rows against two blocks at once: C[r][0..32) from b[0], C[r][32..64) from b[1]. The chains of one
 * block alone are too few to hide each other's latency. */
VEC_FN void pair(form f, int nr, uint32_t n, const float *a, size_t lda, const matrix *b, float *c, size_t ldc)
{
    v16 acc[4][4];
    UNROLL for (int r = 0; r < nr; r++) UNROLL for (int v = 0; v < 4; v++) acc[r][v] = v_set1(0);
    for (uint32_t k = 0; k < n; k++) {
        v16 bv[4];
        UNROLL for (int v = 0; v < 4; v++)
        {
            bv[v] = load_b(f, &b[v / 2], k, 16 * (size_t)(v % 2));
            fetch_ahead(f, &b[v / 2], k, 16 * (size_t)(v % 2));
        }
        UNROLL for (int r = 0; r < nr; r++)
        {
            v16 x = v_set1(a[(size_t)r * lda + k]);
            UNROLL for (int v = 0; v < 4; v++) acc[r][v] = v_fma(x, bv[v], acc[r][v]);
        }
    }
    UNROLL for (int r = 0; r < nr; r++) UNROLL for (int v = 0; v < 4; v++)
        v_store(c + (size_t)r * ldc + 16 * (size_t)v, acc[r][v]);
}
#define PAIR(nr) \
    static void pair_##nr(form f, uint32_t n, const float *a, size_t lda, const matrix *b, float *c, size_t ldc) \
    { \
        enum { NR = nr }; \
        EACH_FORM(ONE_PAIR) \
    }
#define ONE_PAIR(f) pair(f, NR, n, a, lda, b, c, ldc)
PAIR(1)
#if defined(VEC_AVX512)
enum { PAIR_ROWS = 7 };
PAIR(2)
PAIR(4)
#else
enum { PAIR_ROWS = 1 };
#endif
static void scores_pair(form f, uint32_t nr, uint32_t n, const float *a, size_t lda, const matrix *b, float *c,
                        size_t ldc)
{
    size_t r = 0;
#if defined(VEC_AVX512)
    for (; r + 4 <= nr; r += 4) pair_4(f, n, a + r * lda, lda, b, c + r * ldc, ldc);
    for (; r + 2 <= nr; r += 2) pair_2(f, n, a + r * lda, lda, b, c + r * ldc, ldc);
#endif
    for (; r < nr; r++) pair_1(f, n, a + r * lda, lda, b, c + r * ldc, ldc);
}

/* ---------------------------------------------------------------- turning */
enum { MOST_RUN = 128 };
/* 1: numbers of this form are stored as they are. */
static uint32_t run_of(larder_kv kv, uint32_t head_dim)
{
    return kv == LARDER_KV_Q4_0 ? LR_MIN(head_dim & (~head_dim + 1), (uint32_t)MOST_RUN) : 1;
}

/* Hadamard's matrix over the square root of its size, on each run of so many numbers: its own inverse.
 * Keys have a few large dimensions, which in four bits would cost all others their precision; turned, the large ones are
 * spread over the run. Queries turned likewise give the same scores, and outputs are turned back. (Ashkboos et al., QuaRot,
 * 2024.) Plain arithmetic: the same on every instruction set. */
static void turn(float *x, uint32_t n, uint32_t run)
{
    float by = 1.0f / sqrtf((float)run);
    for (uint32_t half = 1; half < run; half *= 2)
        for (uint32_t at = 0; at < n; at += 2 * half)
            for (uint32_t i = at; i < at + half; i++) {
                float a = x[i], b = x[i + half];
                x[i] = a + b;
                x[i + half] = a - b;
            }
    for (uint32_t i = 0; i < n; i++) x[i] *= by;
}

/* ---------------------------------------------------------------- storing */
/* Codes of up to 32 numbers and their scale, by plain arithmetic: the same on every instruction set. */
static uint16_t encode(larder_kv kv, const float *x, uint32_t n, int8_t q[32])
{
    float most = 0;
    for (uint32_t i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(most)) most = x[i];
    bool four = kv == LARDER_KV_Q4_0;
    float d = fminf(fmaxf(four ? most / -8.0f : fabsf(most) / 127.0f, -65504.0f), 65504.0f);
    uint16_t h = lr_f32_to_f16(d);
    float back = lr_f16_to_f32(h), by = back != 0.0f ? 1.0f / back : 0.0f, top = four ? 7.0f : 127.0f;
    for (uint32_t i = 0; i < 32; i++)
        q[i] = i < n ? (int8_t)fminf(fmaxf(rintf(x[i] * by), four ? -8.0f : -127.0f), top) : 0;
    return h;
}

static void put_nibble(uint8_t *at, bool high, int8_t q)
{
    uint8_t v = (uint8_t)((q + 8) & 15);
    *at = high ? (uint8_t)((*at & 15) | v << 4) : (uint8_t)((*at & 0xf0) | v);
}

static void store_coded(larder_kv kv, uint32_t head_dim, uint8_t *block, uint32_t p, const float *k, const float *v)
{
    uint64_t at_v = lr_attn_k_bytes(head_dim, kv), stride = lr_attn_v_stride(head_dim, kv);
    uint8_t *kq = block, *vq = block + at_v;
    uint16_t *kd = (uint16_t *)(void *)(block + at_v - lr_attn_scales(head_dim, kv));
    uint16_t *vd = (uint16_t *)(void *)(vq + lr_attn_bytes(LR_KV_BLOCK * stride, kv));
    uint32_t size = run_of(kv, head_dim);
    float tk[MOST_RUN], tv[MOST_RUN];
    int8_t q[32];
    for (uint32_t at = 0; at < head_dim; at += 32) {
        uint32_t n = LR_MIN(head_dim - at, 32u), g = at / 32, in = at % MOST_RUN;
        if (!in) {
            uint32_t many = LR_MIN(head_dim - at, (uint32_t)MOST_RUN);
            memcpy(tk, k + at, many * sizeof *k);
            memcpy(tv, v + at, many * sizeof *v);
            if (size > 1) turn(tk, many, size), turn(tv, many, size);
        }
        kd[g * LR_KV_BLOCK + p] = encode(kv, tk + in, n, q);
        for (uint32_t i = 0; i < n; i++) {
            size_t row = (size_t)(at + i) * LR_KV_BLOCK;
            if (kv == LARDER_KV_Q8_0) kq[row + p] = (uint8_t)q[i];
            else put_nibble(kq + row / 2 + p % 16, p >= 16, q[i]);
        }
        vd[p * (stride / 32) + g] = encode(kv, tv + in, n, q);
        uint8_t *row = vq + lr_attn_bytes(p * stride + at, kv);
        for (uint32_t i = 0; i < 32; i++) {
            if (kv == LARDER_KV_Q8_0) row[i] = (uint8_t)q[i];
            else put_nibble(row + i % 16, i >= 16, q[i]);
        }
    }
}

static void store(larder_kv kv, uint32_t head_dim, uint8_t *block, uint32_t p, const float *k, const float *v)
{
    if (lr_attn_coded(kv)) {
        store_coded(kv, head_dim, block, p, k, v);
        return;
    }
    uint32_t pad = lr_attn_pad(head_dim);
    if (kv == LARDER_KV_F32) {
        float *kt = (float *)(void *)block, *vr = kt + (size_t)LR_KV_BLOCK * head_dim + (size_t)p * pad;
        for (uint32_t d = 0; d < head_dim; d++) kt[(size_t)d * LR_KV_BLOCK + p] = k[d];
        memcpy(vr, v, head_dim * sizeof *v);
        memset(vr + head_dim, 0, (pad - head_dim) * sizeof *v);
        return;
    }
    uint16_t *kt = (uint16_t *)(void *)block, *vr = kt + (size_t)LR_KV_BLOCK * head_dim + (size_t)p * pad;
    for (uint32_t d = 0; d < head_dim; d += 16) {
        uint16_t h[16];
        uint32_t n = LR_MIN(head_dim - d, 16u);
        v_store_h(h, n == 16 ? v_load(k + d) : v_load_n(k + d, n));
        for (uint32_t i = 0; i < n; i++) kt[(size_t)(d + i) * LR_KV_BLOCK + p] = h[i];
        v_store_h(vr + d, n == 16 ? v_load(v + d) : v_load_n(v + d, n));
    }
}

/* ---------------------------------------------------------------- one span */
enum { N_BLOCK = LR_ATTN_SPAN / LR_KV_BLOCK, N_PIECE = 2 * N_BLOCK, N_VEC = LR_ATTN_SPAN / 16 };
typedef struct span {
    const lr_attn_job *j;
    uint32_t pad, at; /* first position */
    const float *q;   /* [n_row][pad], scaled */
    float *s;         /* [n_row][LR_ATTN_SPAN] */
    lr_attn_sum to;
    bool full;                    /* every row sees all of it */
    uint32_t n_rest, rest_each;   /* lines at the end of each K and V yet to be asked for; how many at a time */
    const uint8_t *rest[N_PIECE]; /* where they begin */
} span;

/* What row r sees of the span: positions [lo, hi) counted from its start. */
VEC_FN void seen(const span *t, uint32_t r, uint32_t *lo, uint32_t *hi)
{
    uint32_t p = t->j->pos[r], w = t->j->window, first = w && p >= w ? p - w + 1 : 0;
    *lo = first > t->at ? LR_MIN(first - t->at, (uint32_t)LR_ATTN_SPAN) : 0;
    *hi = p >= t->at ? LR_MIN(p - t->at + 1, (uint32_t)LR_ATTN_SPAN) : 0;
}

VEC_FN const uint8_t *block_of(const span *t, uint32_t b)
{
    return t->j->cache + (uint64_t)t->j->blocks[t->at / LR_KV_BLOCK + b] * t->j->stride;
}

VEC_FN uint64_t k_bytes(const span *t) { return lr_attn_k_bytes(t->j->head_dim, t->j->kv); }
VEC_FN const uint8_t *values_of(const span *t, uint32_t b) { return block_of(t, b) + k_bytes(t); }
/* What is read when this span is done: block b of the next, if some query sees it; else the block itself, or the last there
 * is: the table ends with it. */
VEC_FN const uint8_t *block_after(const span *t, uint32_t b)
{
    uint32_t at = t->at / LR_KV_BLOCK + b, last = t->j->pos[t->j->n_row - 1] / LR_KV_BLOCK;
    uint32_t next = at + LR_ATTN_SPAN / LR_KV_BLOCK;
    return t->j->cache + (uint64_t)t->j->blocks[next <= last ? next : LR_MIN(at, last)] * t->j->stride;
}

VEC_FN matrix keys_matrix(const span *t, uint32_t b)
{
    const uint8_t *p = block_of(t, b);
    uint64_t scales = lr_attn_scales(t->j->head_dim, t->j->kv);
    return (matrix){p, (const uint16_t *)(const void *)(p + k_bytes(t) - scales), LR_KV_BLOCK, block_after(t, b)};
}
/* Positions of the block from `from` on. */
VEC_FN matrix values_matrix(const span *t, uint32_t b, uint32_t from)
{
    larder_kv kv = t->j->kv;
    size_t ld = lr_attn_v_stride(t->j->head_dim, kv);
    const uint8_t *p = values_of(t, b), *d = p + lr_attn_bytes(LR_KV_BLOCK * ld, kv);
    return (matrix){p + lr_attn_bytes(from * ld, kv), (const uint16_t *)(const void *)d + from * (ld / 32), ld,
                    block_after(t, b) + k_bytes(t)};
}
/* Rows that see anything of block b of the span: a run, since positions rise. */
static void rows_of(const span *t, uint32_t b, uint32_t *from, uint32_t *to, bool *all)
{
    uint32_t b0 = b * LR_KV_BLOCK, b1 = b0 + LR_KV_BLOCK, lo, hi;
    *from = *to = 0;
    *all = true;
    bool any = false;
    for (uint32_t r = 0; r < t->j->n_row; r++) {
        seen(t, r, &lo, &hi);
        if (hi <= b0 || lo >= b1 || lo >= hi) continue;
        if (!any) *from = r;
        any = true;
        *to = r + 1;
        *all &= lo <= b0 && hi >= b1;
    }
}

/* The last lines of what the next span reads, a few of each piece in turn (fetch_ahead). */
static void begin_rest(span *t)
{
    uint32_t lines = (uint32_t)(k_bytes(t) / 64), parts = t->j->n_row * N_VEC;
    t->n_rest = (lines + ASK_PARTS - 1) / ASK_PARTS;
    t->rest_each = (t->n_rest * N_PIECE + parts - 1) / parts;
    for (uint32_t i = 0; i < N_PIECE; i++)
        t->rest[i] = block_after(t, i / 2) + i % 2 * k_bytes(t) + (size_t)(lines - t->n_rest) * 64;
}
VEC_FN void ask_for_rest(const span *t, uint32_t part)
{
    for (uint32_t i = part * t->rest_each; i < (part + 1) * t->rest_each; i++)
        if (i / N_PIECE < t->n_rest) __builtin_prefetch(t->rest[i % N_PIECE] + (size_t)(i / N_PIECE) * 64);
}

/* The largest score of row r, of [lo, hi) of them; what was summed before is scaled to it. The rest of the vectors they
 * lie in becomes minus infinity. */
static void raise_top(span *t, uint32_t r, uint32_t lo, uint32_t hi)
{
    float *s = t->s + (size_t)r * LR_ATTN_SPAN;
    v16 none = v_set1(-INFINITY), most = none;
    for (uint32_t v = lo / 16; v < (hi + 15) / 16; v++) {
        v16 x = v_load(s + 16 * v);
        if (t->j->softcap != 0.0f) x = v_mul(v_set1(t->j->softcap), v_tanh(v_mul(x, v_set1(1.0f / t->j->softcap))));
        if (16 * v < lo || 16 * v + 16 > hi) {
            v16 i = v_add(v_iota(), v_set1((float)(16 * v)));
            x = v_if_lt(i, v_set1((float)lo), none, v_if_lt(i, v_set1((float)hi), x, none));
        }
        v_store(s + 16 * v, x);
        most = v_max(most, x);
    }
    float old = t->to.top[r], top = LR_MAX(old, v_hmax(most));
    if (t->to.sum[r] != 0.0f && top != old) {
        float keep[16], *o = t->to.v + (size_t)r * t->pad;
        v_store(keep, v_exp(v_set1(old - top)));
        t->to.sum[r] *= keep[0];
        for (uint32_t d = 0; d < t->pad; d += 16) v_store(o + d, v_mul(v_load(o + d), v_set1(keep[0])));
    }
    t->to.top[r] = top;
}

/* Scores of row r into weights. Apart from raise_top, so that rows need not wait for each other's largest. */
static void weigh(span *t, uint32_t r, uint32_t lo, uint32_t hi)
{
    float *s = t->s + (size_t)r * LR_ATTN_SPAN;
    v16 sum = v_set1(0.0f), top = v_set1(t->to.top[r]);
    for (uint32_t v = lo / 16; v < (hi + 15) / 16; v++) {
        v16 x = v_exp(v_sub(v_load(s + 16 * v), top));
        v_store(s + 16 * v, x);
        sum = v_add(sum, x);
        if (t->full) ask_for_rest(t, r * N_VEC + v);
    }
    t->to.sum[r] += v_sum(sum);
}

static void sum_values(span *t, uint32_t b, uint32_t from, uint32_t to, bool all)
{
    const lr_attn_job *j = t->j;
    form f = form_of(j->kv, false);
    uint32_t b0 = b * LR_KV_BLOCK, lo, hi;
    if (all) {
        matrix v = values_matrix(t, b, 0);
        product(f, to - from, t->pad, 1, LR_KV_BLOCK, t->s + (size_t)from * LR_ATTN_SPAN + b0, LR_ATTN_SPAN, &v,
                t->to.v + (size_t)from * t->pad, t->pad, true);
        return;
    }
    /* Rows of one token see the same: they go together. */
    for (uint32_t r = from, n; r < to; r += n) {
        for (n = 1; r + n < to && j->pos[r + n] == j->pos[r]; n++) {}
        seen(t, r, &lo, &hi);
        lo = LR_MAX(lo, b0);
        hi = LR_MIN(hi, b0 + LR_KV_BLOCK);
        if (lo >= hi) continue;
        matrix v = values_matrix(t, b, lo - b0);
        product(f, n, t->pad, 1, hi - lo, t->s + (size_t)r * LR_ATTN_SPAN + lo, LR_ATTN_SPAN, &v,
                t->to.v + (size_t)r * t->pad, t->pad, true);
    }
}

static void sum_all_values(span *t)
{
    matrix v[N_BLOCK];
    for (uint32_t b = 0; b < N_BLOCK; b++) v[b] = values_matrix(t, b, 0);
    product(form_of(t->j->kv, false), t->j->n_row, t->pad, N_BLOCK, LR_KV_BLOCK, t->s, LR_ATTN_SPAN, v, t->to.v,
            t->pad, true);
}

/* Scores of rows [from, to) with block b, or with it and the next at once: how many blocks those were. */
static uint32_t score(span *t, uint32_t b, uint32_t from, uint32_t to, bool next_too)
{
    const lr_attn_job *j = t->j;
    form f = form_of(j->kv, true);
    const float *q = t->q + (size_t)from * t->pad;
    float *s = t->s + (size_t)from * LR_ATTN_SPAN + (size_t)b * LR_KV_BLOCK;
    uint32_t n = to - from;
    bool pair = next_too && n <= PAIR_ROWS;
    matrix k[2] = {keys_matrix(t, b), keys_matrix(t, pair ? b + 1 : b)}; /* the table may end with b */
    if (pair) scores_pair(f, n, j->head_dim, q, t->pad, k, s, LR_ATTN_SPAN);
    else product(f, n, LR_KV_BLOCK, 1, j->head_dim, q, t->pad, k, s, LR_ATTN_SPAN, false);
    return pair ? 2 : 1;
}

static void do_full_span(span *t)
{
    uint32_t n = t->j->n_row;
    begin_rest(t);
    for (uint32_t b = 0; b < N_BLOCK;) b += score(t, b, 0, n, b + 1 < N_BLOCK);
    for (uint32_t r = 0; r < n; r++) raise_top(t, r, 0, LR_ATTN_SPAN);
    for (uint32_t r = 0; r < n; r++) weigh(t, r, 0, LR_ATTN_SPAN);
    sum_all_values(t);
}

static void do_span(span *t)
{
    const lr_attn_job *j = t->j;
    uint32_t from[N_BLOCK], to[N_BLOCK];
    bool all[N_BLOCK];
    for (uint32_t b = 0; b < N_BLOCK; b++) rows_of(t, b, &from[b], &to[b], &all[b]);
    for (uint32_t b = 0; b < N_BLOCK;) {
        bool next = b + 1 < N_BLOCK && from[b + 1] == from[b] && to[b + 1] == to[b];
        b += from[b] == to[b] ? 1 : score(t, b, from[b], to[b], next);
    }
    for (uint32_t r = 0, lo, hi; r < j->n_row; r++) {
        seen(t, r, &lo, &hi);
        if (lo >= hi) continue;
        raise_top(t, r, lo, hi);
        weigh(t, r, lo, hi);
    }
    for (uint32_t b = 0; b < N_BLOCK; b++)
        if (from[b] < to[b]) sum_values(t, b, from[b], to[b], all[b]);
}

/* ---------------------------------------------------------------- chunks */
static void do_chunk(const lr_attn_job *j, uint32_t chunk, lr_attn_sum to, const float *q, float *s)
{
    uint32_t pad = lr_attn_pad(j->head_dim), n = j->n_row;
    for (uint32_t r = 0; r < n; r++) {
        to.top[r] = -INFINITY;
        to.sum[r] = 0.0f;
    }
    memset(to.v, 0, (size_t)n * pad * sizeof(float));
    uint32_t p0 = j->pos[0], p1 = j->pos[n - 1];
    uint64_t first = j->window && p0 >= j->window ? p0 - j->window + 1 : 0, begin = (uint64_t)chunk * LR_ATTN_CHUNK;
    uint64_t end = LR_MIN(begin + LR_ATTN_CHUNK, (uint64_t)p1 + 1);
    begin = LR_MAX(begin, first / LR_ATTN_SPAN * LR_ATTN_SPAN);
    for (; begin < end; begin += LR_ATTN_SPAN) {
        span t = {.j = j, .pad = pad, .at = (uint32_t)begin, .q = q, .s = s, .to = to};
        t.full = p0 >= begin + LR_ATTN_SPAN - 1 && (!j->window || p1 < begin + j->window);
        if (t.full) do_full_span(&t);
        else do_span(&t);
    }
}

static void merge(uint32_t n_row, uint32_t pad, lr_attn_sum to, lr_attn_sum from)
{
    for (uint32_t r = 0; r < n_row; r++) {
        float *o = to.v + (size_t)r * pad;
        const float *f = from.v + (size_t)r * pad;
        if (from.sum[r] == 0.0f) continue;
        if (to.sum[r] == 0.0f) {
            to.sum[r] = from.sum[r];
            to.top[r] = from.top[r];
            memcpy(o, f, pad * sizeof *o);
            continue;
        }
        float a[16], b[16], top = LR_MAX(to.top[r], from.top[r]);
        v16 ka = v_exp(v_set1(to.top[r] - top)), kb = v_exp(v_set1(from.top[r] - top));
        v_store(a, ka);
        v_store(b, kb);
        to.sum[r] = to.sum[r] * a[0] + from.sum[r] * b[0];
        to.top[r] = top;
        for (uint32_t d = 0; d < pad; d += 16) v_store(o + d, v_fma(v_load(o + d), ka, v_mul(v_load(f + d), kb)));
    }
}

static void finish(const lr_attn_job *j, lr_attn_sum of)
{
    uint32_t pad = lr_attn_pad(j->head_dim), n = j->head_dim, size = run_of(j->kv, n);
    for (uint32_t r = 0; r < j->n_row; r++) {
        float sum = of.sum[r], k[16], s[16];
        v_store(k, v_set1(1.0f));
        if (j->sink) {
            float top = LR_MAX(of.top[r], j->sink[r]);
            v_store(k, v_exp(v_set1(of.top[r] - top)));
            v_store(s, v_exp(v_set1(j->sink[r] - top)));
            sum = sum * k[0] + s[0];
        }
        v16 by = v_set1(k[0] / sum);
        const float *v = of.v + (size_t)r * pad;
        uint32_t d = 0;
        for (; d + 16 <= n; d += 16) v_store(j->out[r] + d, v_mul(v_load(v + d), by));
        if (d < n) v_store_n(j->out[r] + d, v_mul(v_load(v + d), by), n - d);
        if (size > 1) turn(j->out[r], n, size);
    }
}

/* ---------------------------------------------------------------- the table */
typedef struct room {
    float *q, *s;
    lr_attn_sum whole, part;
} room;

static room lay_out(const lr_attn_job *j, void *scratch)
{
    size_t n = j->n_row, pad = lr_attn_pad(j->head_dim);
    uint32_t size = run_of(j->kv, j->head_dim);
    float *at = (float *)(((uintptr_t)scratch + 63) / 64 * 64);
    room m;
    m.q = at;
    m.s = m.q + n * pad;
    m.whole.v = m.s + n * LR_ATTN_SPAN;
    m.part.v = m.whole.v + n * pad;
    m.whole.top = m.part.v + n * pad;
    m.whole.sum = m.whole.top + n;
    m.part.top = m.whole.sum + n;
    m.part.sum = m.part.top + n;
    for (size_t r = 0; r < n; r++) {
        for (size_t d = 0; d < j->head_dim; d++) m.q[r * pad + d] = j->q[r][d] * j->scale;
        if (size > 1) turn(m.q + r * pad, j->head_dim, size);
    }
    return m;
}

static void run_chunk(const lr_attn_job *j, uint32_t chunk, lr_attn_sum to, void *scratch)
{
    room m = lay_out(j, scratch);
    do_chunk(j, chunk, to, m.q, m.s);
}

static void run(const lr_attn_job *j, void *scratch)
{
    room m = lay_out(j, scratch);
    uint32_t first = lr_attn_first(j->pos[0], j->window), last = j->pos[j->n_row - 1] / LR_ATTN_CHUNK;
    do_chunk(j, first, m.whole, m.q, m.s);
    for (uint32_t c = first + 1; c <= last; c++) {
        do_chunk(j, c, m.part, m.q, m.s);
        merge(j->n_row, lr_attn_pad(j->head_dim), m.whole, m.part);
    }
    finish(j, m.whole);
}

const lr_attn_kernels ATTN_TABLE = {store, run, run_chunk, merge, finish};
