/* mm_body.h - the two loops that contain a decode. Included once per format: F its name, KIND its kind of scales. */
#define GLUE_(a, b) a##_##b
#define GLUE(a, b) GLUE_(a, b)
#define OF(word) GLUE(F, word)

#ifdef PACKED
#define ASKS ASK_EVENLY
#else
#define ASKS OF(ASK)
#endif
enum {
    OF(BLOCKS) = OF(STEP) * OF(STEPS),
    /* Twice: to the second level too. Packed blocks of so many bytes, read in no order, lose the hardware's prefetcher. */
    OF(FAR) = AGAIN ? VR * OF(BYTES) > 2560 : ASKS == ASK_SEGMENT,
    OF(IS_SUB) = KIND == SUB || KIND == SUBMIN,
    OF(LINES) = (VR * OF(BYTES) / OF(STEPS) + 63) / 64, /* cache lines of VR rows in a step */
    OF(ROW_BYTES) = SEGMENT * OF(BYTES) / OF(BLOCKS),   /* of a row in a segment */
    OF(ROW_LINES) = (OF(ROW_BYTES) + 63) / 64
};
#define ZERO_OF (OF(WIDE) ? (WIDE_FLIP ? 7 : -1) : OF(ZERO))

/* Block k of step s: words with the bytes as the product wants them. */
LR_INLINE void OF(block)(head *h, int s, int k, const vi *q, vi w[8])
{
    OF(words)(h, s, k, q, w);
    if (OF(WIDE) && WIDE_FLIP)
        for (int i = 0; i < 8; i++) w[i] = v_xor(w[i], v_set8(-128));
}
/* Asks for what is due at the i-th of a step's n places: of the step's lines, and of a segment's in one row per block. */
LR_INLINE void OF(ask_part)(head *h, int i, int n)
{
#pragma GCC unroll 32
    for (int k = OF(LINES) * i / n; k < OF(LINES) * (i + 1) / n; k++) {
        if (OF(FAR)) ask_far(&h->far);
        if (ASKS != ASK_SEGMENT) ask_at(&h->ahead, true);
    }
    if (ASKS != ASK_SEGMENT) return;
    i %= 4;
#pragma GCC unroll 32
    for (int k = OF(ROW_LINES) * i / 4; k < OF(ROW_LINES) * (i + 1) / 4; k++) ask_at(&h->ahead, true);
}

/* Step 1 of the arithmetic, for nt tokens: products of block b, the i-th of its step. */
LR_INLINE void OF(dots)(head *h, int nth, int nt, const vi w[8], const scales *c, const uint8_t *const *xs,
                        const lr_i8_row *at, uint32_t b, vf f[FEW])
{
#pragma GCC unroll 8
    for (int t = 0; t < nt; t++) {
        vi sum[2];
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) /* two sums, that one need not wait for the other */
            sum[half] = OF(IS_SUB) ? zero_point(ZERO_OF, half, xs[t], at, b)
                        : half     ? v_zero()
                                   : zero_point(ZERO_OF, -1, xs[t], at, b);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            if (ASKS != ASK_READING && t == 0) OF(ask_part)(h, 4 * nth + i, 4 * OF(STEP));
#pragma GCC unroll 2
            for (int half = 0; half < 2; half++)
                sum[half] = dot_at(OF(WIDE), sum[half], w[4 * half + i],
                                   xs[t] + 32 * (size_t)b + (size_t)(16 * half + 4 * i));
        }
        if (OF(IS_SUB)) f[t] = v_fma(v_cvt(sum[1]), c->c1, v_mul(v_cvt(sum[0]), c->c0));
        else f[t] = v_cvt(v_add32(sum[0], sum[1]));
    }
}

/* Steps 2 and 3. */
LR_INLINE void OF(add)(int nt, const scales *c, const uint8_t *const *xs, const lr_i8_row *at, uint32_t b,
                       const vf f[FEW], vf acc[FEW])
{
#pragma GCC unroll 8
    for (int t = 0; t < nt; t++) acc[t] = block_add(KIND, acc[t], f[t], c->s, c->m, c->n, xs[t], at, b);
}

/* out[t][r] = sums of VR rows for nt tokens. The bytes of the next VR rows are asked for while these are worked on: the
 * rows of a matrix lie one after the other, so this reads memory in order however many rows stream at once. Of formats
 * whose VR rows would not fit the first-level cache twice, that is asked for to the second level, and from there to the
 * first the segment after next of each row. */
LR_INLINE void OF(vector)(int nt, rows r, uint32_t nb, const void *const *x, const lr_i8_row *at, float out[FEW][VR])
{
    enum { STEP = OF(STEP) };
    const bool late = STEP == 4 && nt <= 2 && !AGAIN; /* blocks 0, 2, 1, 3: two share bytes; added in order after */
    const uint8_t *next_rows = r.p + VR * r.stride, *next = ahead_of(r), *segment = next;
    (void)next_rows, (void)segment; /* for segments alone */
    vf acc[FEW];
    const uint8_t *xs[FEW]; /* copies, which nobody else can have changed */
    const lr_i8_row to = *at;
    for (int t = 0; t < nt; t++) {
        acc[t] = v_zerof();
        xs[t] = x[t];
    }
    for (uint32_t b = 0; b < nb; r.p += APART * OF(BYTES), r.aux += OF(BLOCKS)) {
        if (ASKS == ASK_SEGMENT && b % SEGMENT == 0) segment = segment_after(r, b, nb, next_rows, OF(ROW_BYTES));
        head h = {
            .r = r, .b = b, .ahead = next, .far = next + (AGAIN ? AHEAD_FAR : 0), .asking = ASKS == ASK_READING};
        next += VR * OF(BYTES);
        OF(head)(&h);
#pragma GCC unroll 8
        for (int s = 0; s < OF(STEPS); s++) {
            vi q[16];
            vf f[STEP][FEW];
#pragma GCC unroll 4
            for (int i = 0; i < STEP; i++) {
                vi w[8];
                scales c;
                const int k = late ? i / 2 + i % 2 * 2 : i;
                if (late) IN_ORDER;
                if (ASKS == ASK_SEGMENT) {
                    h.ahead = segment;
                    segment += r.stride;
                }
                OF(read)(&h, s, k, q);
                OF(block)(&h, s, k, q, w);
                OF(scales)(&h, s, k, &c);
                OF(dots)(&h, i, nt, w, &c, xs, &to, b + (uint32_t)k, f[k]);
                if (!late) OF(add)(nt, &c, xs, &to, b + (uint32_t)k, f[k], acc);
            }
#pragma GCC unroll 4
            for (int k = 0; late && k < STEP; k++) {
                scales c;
                OF(scales)(&h, s, k, &c);
                OF(add)(nt, &c, xs, &to, b + (uint32_t)k, f[k], acc);
            }
            b += STEP;
        }
    }
    for (int t = 0; t < nt; t++) v_storef(out[t], acc[t]);
}
static void OF(vector1)(rows r, uint32_t nb, const void *const *x, const lr_i8_row *at, float out[FEW][VR])
{
    OF(vector)(1, r, nb, x, at, out);
}
static void OF(vector2)(rows r, uint32_t nb, const void *const *x, const lr_i8_row *at, float out[FEW][VR])
{
    OF(vector)(2, r, nb, x, at, out);
}
#if FEW > 2
static void OF(vector4)(rows r, uint32_t nb, const void *const *x, const lr_i8_row *at, float out[FEW][VR])
{
    OF(vector)(4, r, nb, x, at, out);
}
#endif
#if FEW > 4
static void OF(vector8)(rows r, uint32_t nb, const void *const *x, const lr_i8_row *at, float out[FEW][VR])
{
    OF(vector)(8, r, nb, x, at, out);
}
#endif

/* Blocks b0 to b0 + nb of VR rows into a panel; b0 starts a head, blocks lie stride_v vectors apart. Asks, in memory
 * order, for as many bytes of the rows of the next tile, which start `next` bytes on. */
static void OF(panel)(rows r, uint32_t b0, uint32_t nb, vi *panel, int stride_v, size_t next)
{
    enum { STEP = OF(STEP) };
    const uint8_t *ahead = r.p + next + (size_t)(b0 / OF(BLOCKS)) * OF(BYTES) * VR;
    r.p += (size_t)(b0 / OF(BLOCKS)) * APART * OF(BYTES);
    r.aux += b0;
    for (uint32_t b = 0; b < nb; r.p += APART * OF(BYTES), r.aux += OF(BLOCKS)) {
        head h = {.r = r, .b = b0 + b};
        OF(head)(&h);
#pragma GCC unroll 8
        for (int s = 0; s < OF(STEPS); s++, b += STEP) {
            vi q[16];
            IN_ORDER;
#pragma GCC unroll 32
            for (int i = 0; i < OF(LINES); i++, ahead += 64) __builtin_prefetch(ahead, 0, 2);
#pragma GCC unroll 4
            for (int k = 0; k < STEP; k++, panel += stride_v) {
                scales c;
                vi w[8];
                OF(read)(&h, s, k, q);
                OF(block)(&h, s, k, q, w);
                OF(scales)(&h, s, k, &c);
                panel_order(w);
#pragma GCC unroll 8
                for (int i = 0; i < 8; i++) v_store(panel + i, w[i]);
                v_storef((float *)(panel + 8), c.s);
                if (KIND == MIN) v_storef((float *)(panel + 9), c.m);
                if (OF(IS_SUB)) {
                    v_storef((float *)(panel + 9), c.c0);
                    v_storef((float *)(panel + 10), c.c1);
                }
                if (KIND == SUBMIN) {
                    v_storef((float *)(panel + 11), c.m);
                    v_store(panel + 12, c.n);
                }
            }
        }
    }
}

#if OF(ROW)
#include "mm_row_body.h"
#endif

static void OF(mm)(const lr_mat *w, const void *const *x, uint32_t n_tok, uint32_t r0, uint32_t r1, float *const *y,
                   const float *bias, bool add, void *scratch)
{
    static vector_fn *const vectors[] = {
        OF(vector1),
        OF(vector2),
#if FEW > 2
        OF(vector4),
#endif
#if FEW > 4
        OF(vector8),
#endif
    };
#if OF(ROW)
    if (n_tok == 1) {
        OF(row_mm)(w, x[0], r0, r1, y[0], bias, add, scratch);
        return;
    }
#endif
    if (n_tok <= MOST_FEW) mm_few(w, vectors, x, n_tok, r0, r1, y, bias, add);
    else
        mm_many(w, OF(panel), tiles_of(KIND, OF(ZERO), OF(WIDE)), panel_vecs(KIND), x, n_tok, r0, r1, y, bias, add,
                scratch);
}

#undef F
#undef KIND
#undef ASKS
#undef ZERO_OF
#undef OF
#undef GLUE
#undef GLUE_
