/* mm_body.h - the two loops that contain a decode. Included once per format: F its name, KIND its kind of scales. */
#define GLUE_(a, b) a##_##b
#define GLUE(a, b) GLUE_(a, b)
#define OF(word) GLUE(F, word)

enum {
    OF(BLOCKS) = OF(STEP) * OF(STEPS),
    OF(IS_SUB) = KIND == SUB || KIND == SUBMIN,
    OF(LINES) = (VR * OF(BYTES) / OF(STEPS) + 63) / 64 /* cache lines of VR rows in a step */
};
#define ZERO_OF (OF(WIDE) ? (WIDE_FLIP ? 7 : -1) : OF(ZERO))

/* Step s of a head: words with the bytes as the product wants them. */
LR_INLINE void OF(step)(head *h, int s, vi w[8 * OF(STEP)])
{
    OF(words)(h, s, w);
    if (OF(WIDE) && WIDE_FLIP)
        for (int i = 0; i < 8 * OF(STEP); i++) w[i] = v_xor(w[i], v_set8(-128));
}

LR_INLINE void OF(ask_step)(head *h)
{
    IN_ORDER;
#pragma GCC unroll 32
    for (int i = 0; i < OF(LINES); i++) ask_at(&h->ahead, true);
}

/* out[t][r] = sums of VR rows for nt tokens. The bytes of the next VR rows are asked for while these are worked on: the
 * rows of a matrix lie one after the other, so this reads memory in order however many rows stream at once. Of formats
 * whose VR rows would not fit the first-level cache twice, the segment after next of each row is asked for instead. */
LR_INLINE void OF(vector)(int nt, rows r, uint32_t nb, const void *const *x, const lr_i8_row *at, float out[FEW][VR])
{
    enum { STEP = OF(STEP) };
    const uint8_t *next_rows = r.p + VR * r.stride, *ahead = next_rows + AHEAD;
    vf acc[FEW];
    for (int t = 0; t < nt; t++) acc[t] = v_zerof();
    for (uint32_t b = 0; b < nb; r.p += OF(BYTES), r.aux += OF(BLOCKS)) {
        head h = {.r = r, .b = b, .ahead = ahead, .asking = OF(ASK) == ASK_READING};
        if (OF(ASK) != ASK_SEGMENT) ahead += VR * OF(BYTES);
        if (OF(ASK) == ASK_SEGMENT && b % SEGMENT == 0)
            ahead = segment_after(r, b, nb, next_rows, SEGMENT / OF(BLOCKS) * OF(BYTES));
        OF(head)(&h);
#pragma GCC unroll 8
        for (int s = 0; s < OF(STEPS); s++) {
            vi w[8 * STEP];
            if (OF(ASK) == ASK_BEFORE) OF(ask_step)(&h);
            if (OF(ASK) == ASK_SEGMENT && b % (SEGMENT / VR) == 0) {
#pragma GCC unroll 32
                for (int i = 0; i < SEGMENT / OF(BLOCKS) * OF(BYTES); i += 64) __builtin_prefetch(ahead + i);
                ahead += r.stride;
            }
            OF(step)(&h, s, w);
            if (OF(ASK) == ASK_AFTER) OF(ask_step)(&h);
#pragma GCC unroll 4
            for (int k = 0; k < STEP; k++, b++) {
                scales c;
                OF(scales)(&h, s, k, &c);
#pragma GCC unroll 8
                for (int t = 0; t < nt; t++) {
                    vi sum[2];
                    vf f;
#pragma GCC unroll 2
                    for (int half = 0; half < 2; half++) { /* two sums, that one need not wait for the other */
                        sum[half] = OF(IS_SUB) ? zero_point(ZERO_OF, half, x[t], at, b)
                                    : half     ? v_zero()
                                               : zero_point(ZERO_OF, -1, x[t], at, b);
#pragma GCC unroll 4
                        for (int i = 4 * half; i < 4 * half + 4; i++) {
                            vi a = v_all4((const uint8_t *)x[t] + 32 * (size_t)b + 4 * i), v = w[8 * k + i];
                            sum[half] = OF(WIDE) ? v_dot_wide(sum[half], v, a) : v_dot(sum[half], v, a);
                        }
                    }
                    if (OF(IS_SUB)) f = v_fma(v_cvt(sum[1]), c.c1, v_mul(v_cvt(sum[0]), c.c0));
                    else f = v_cvt(v_add32(sum[0], sum[1]));
                    acc[t] = block_add(KIND, acc[t], f, c.s, c.m, c.n, x[t], at, b);
                }
            }
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
    r.p += (size_t)(b0 / OF(BLOCKS)) * OF(BYTES);
    r.aux += b0;
    for (uint32_t b = 0; b < nb; r.p += OF(BYTES), r.aux += OF(BLOCKS)) {
        head h = {.r = r, .b = b0 + b};
        OF(head)(&h);
#pragma GCC unroll 8
        for (int s = 0; s < OF(STEPS); s++, b += STEP) {
            vi w[8 * STEP];
            IN_ORDER;
#pragma GCC unroll 32
            for (int i = 0; i < OF(LINES); i++, ahead += 64) __builtin_prefetch(ahead, 0, 2);
            OF(step)(&h, s, w);
#pragma GCC unroll 4
            for (int k = 0; k < STEP; k++, panel += stride_v) {
                scales c;
                OF(scales)(&h, s, k, &c);
                panel_order(w + 8 * k);
#pragma GCC unroll 8
                for (int i = 0; i < 8; i++) v_store(panel + i, w[8 * k + i]);
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

static void OF(mm)(const lr_mat *w, const void *const *x, uint32_t n_tok, uint32_t r0, uint32_t r1, float *const *y,
                   const float *bias, bool add, void *scratch)
{
    if (n_tok == 1) mm_few(w, OF(vector1), x, 1, r0, r1, y, bias, add);
    else if (n_tok == 2) mm_few(w, OF(vector2), x, 2, r0, r1, y, bias, add);
#if FEW > 2
    else if (n_tok <= 4) mm_few(w, OF(vector4), x, n_tok, r0, r1, y, bias, add);
#endif
#if FEW > 4
    else if (n_tok <= FEW) mm_few(w, OF(vector8), x, n_tok, r0, r1, y, bias, add);
#endif
    else
        mm_many(w, OF(panel), tiles_of(KIND, OF(ZERO), OF(WIDE)), panel_vecs(KIND), x, n_tok, r0, r1, y, bias, add,
                scratch);
}

#undef F
#undef KIND
#undef ZERO_OF
#undef OF
#undef GLUE
#undef GLUE_
