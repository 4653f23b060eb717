/* mm_body.h - the two loops that contain a decode. Included once per format: F its name, KIND its kind of scales. */
#define GLUE_(a, b) a##_##b
#define GLUE(a, b) GLUE_(a, b)
#define OF(word) GLUE(F, word)

enum { OF(BLOCKS) = OF(STEP) * OF(STEPS), OF(IS_SUB) = KIND == SUB || KIND == SUBMIN };
#define ZERO_OF (OF(WIDE) ? (WIDE_FLIP ? 7 : -1) : OF(ZERO))

/* out[r] = sums of VR rows for one token. The bytes of the next VR rows are asked for while these are worked on: the
 * rows of a matrix lie one after the other, so this reads memory in order however many rows stream at once. */
static void OF(vector)(rows r, uint32_t nb, const uint8_t *x, const lr_i8_row *at, float *out)
{
    enum { STEP = OF(STEP), PARTS = 1 + OF(IS_SUB) };
    const uint8_t *ahead = r.p + VR * r.stride;
    vf acc = v_zerof();
    for (uint32_t b = 0; b < nb; r.p += OF(BYTES), r.aux += OF(BLOCKS)) {
        head h = {.r = r};
        OF(head)(&h);
#pragma GCC unroll 8
        for (int s = 0; s < OF(STEPS); s++, b += STEP) {
            vi sum[STEP][PARTS][4];
            for (int i = 0; i < (VR * OF(BYTES) / OF(STEPS) + 63) / 64; i++, ahead += 64) __builtin_prefetch(ahead, 0, 2);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                vi v[2 * STEP];
                OF(bytes)(&h, s, j, v);
#pragma GCC unroll 4
                for (int k = 0; k < 2 * STEP; k++) {
                    vi a = v_all16(x + 32 * (size_t)b + 16 * (size_t)k);
                    vi before = k % 2 && !OF(IS_SUB) ? sum[k / 2][0][j] : v_zero();
                    if (OF(WIDE) && WIDE_FLIP) v[k] = v_xor(v[k], v_set8(-128));
                    sum[k / 2][k % 2 * OF(IS_SUB)][j] = OF(WIDE) ? v_dot_wide(before, v[k], a) : v_dot(before, v[k], a);
                }
            }
#pragma GCC unroll 2
            for (int k = 0; k < STEP; k++) {
                uint32_t at_b = b + (uint32_t)k;
                scales c;
                vf f;
                OF(scales)(&h, s, k, &c);
                if (OF(IS_SUB)) {
                    vi i0 = v_add32(sum_lanes(sum[k][0]), zero_point(ZERO_OF, 0, x, at, at_b));
                    vi i1 = v_add32(sum_lanes(sum[k][PARTS - 1]), zero_point(ZERO_OF, 1, x, at, at_b));
                    f = v_fma(v_cvt(i1), c.c1, v_mul(v_cvt(i0), c.c0));
                } else {
                    f = v_cvt(v_add32(sum_lanes(sum[k][0]), zero_point(ZERO_OF, -1, x, at, at_b)));
                }
                acc = block_add(KIND, acc, f, c.s, c.m, c.n, x, at, at_b);
            }
        }
    }
    v_storef(out, acc);
}

/* Blocks b0 to b0 + nb of VR rows into a panel; b0 starts a head, blocks lie stride_v vectors apart. */
static void OF(panel)(rows r, uint32_t b0, uint32_t nb, vi *panel, int stride_v)
{
    enum { STEP = OF(STEP) };
    r.p += (size_t)(b0 / OF(BLOCKS)) * OF(BYTES);
    r.aux += b0;
    for (uint32_t b = 0; b < nb; r.p += OF(BYTES), r.aux += OF(BLOCKS)) {
        head h = {.r = r};
        OF(head)(&h);
#pragma GCC unroll 8
        for (int s = 0; s < OF(STEPS); s++, b += STEP) {
            vi v[4][2 * STEP];
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                OF(bytes)(&h, s, j, v[j]);
                if (OF(WIDE) && WIDE_FLIP)
                    for (int k = 0; k < 2 * STEP; k++) v[j][k] = v_xor(v[j][k], v_set8(-128));
            }
#pragma GCC unroll 2
            for (int k = 0; k < STEP; k++, panel += stride_v) {
#pragma GCC unroll 2
                for (int p = 0; p < 2; p++) {
                    vi in[4] = {v[0][2 * k + p], v[1][2 * k + p], v[2][2 * k + p], v[3][2 * k + p]}, turned[4];
                    transpose(in, turned);
                    for (int i = 0; i < 4; i++) v_store(panel + 4 * p + i, turned[i]);
                }
                scales c;
                OF(scales)(&h, s, k, &c);
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
    if (n_tok == 1) mm_one(w, OF(vector), x[0], r0, r1, y[0], bias, add);
    else mm_many(w, OF(panel), tiles_of(KIND, OF(ZERO), OF(WIDE)), panel_vecs(KIND), x, n_tok, r0, r1, y, bias, add, scratch);
}

#undef F
#undef KIND
#undef ZERO_OF
#undef OF
#undef GLUE
#undef GLUE_
