/* mm_float.h - the float product of one instruction set: float32 activations with any weights, bf16 with bf16.
 *
 * A tile is FLOAT_R rows by FLOAT_T tokens, 16 lanes each. A block of rows stays in the second-level cache while groups
 * of tokens run over it; a group's columns are taken in chunks that fit the first. Lanes wait in `lanes` meanwhile.
 * Refuses to own: decoding of quantised rows (lr_decode_row makes float32 rows in the scratch). */
#ifndef LR_MM_FLOAT_H
#define LR_MM_FLOAT_H

enum { W_F32, W_F16, W_BF16, W_BF16_DOT }; /* what weights are; the last with bf16 activations */
enum { ROW_BLOCK = 32, DECODED_ROWS = 8 };

LR_INLINE uint32_t width_of(int kind) { return kind == W_F32 ? 4 : 2; }
LR_INLINE uint32_t act_width(int kind) { return kind == W_BF16_DOT ? 2 : 4; }
LR_INLINE uint32_t step_of(int kind) { return kind == W_BF16_DOT ? 32 : 16; }

LR_INLINE void load_weights(int kind, vf g[VG], const uint8_t *p)
{
    if (kind == W_F32) g_load_f32(g, (const float *)p);
    else if (kind == W_F16) g_load_f16(g, p);
    else g_load_bf16(g, p);
}

/* One step of columns: acc += weights at w[r] times activations at x[t] + at. What lies at `ahead` is asked for: the
 * rows after these, in memory order. */
LR_INLINE void float_step(int kind, int nr, int nt, vf acc[FLOAT_R][FLOAT_T][VG], const uint8_t *w, size_t stride,
                          const void *const *x, size_t at, const uint8_t *ahead)
{
    vf a[FLOAT_R][VG], b[VG];
    if (ahead)
#pragma GCC unroll 8
        for (int i = 0; i < nr * (int)(step_of(kind) * width_of(kind)) / 64; i++) __builtin_prefetch(ahead + i * 64);
#pragma GCC unroll 8
    for (int r = 0; r < nr; r++) {
        const uint8_t *p = w + (size_t)r * stride;
#ifdef HAVE_BF16_DOT
        if (kind == W_BF16_DOT) a[r][0] = v_as_f(v_load(p));
        else
#endif
            load_weights(kind, a[r], p);
    }
#pragma GCC unroll 8
    for (int t = 0; t < nt; t++) {
        g_load_f32(b, (const float *)((const uint8_t *)x[t] + at));
#pragma GCC unroll 8
        for (int r = 0; r < nr; r++)
#pragma GCC unroll 4
            for (int i = 0; i < VG; i++) {
#ifdef HAVE_BF16_DOT
                if (kind == W_BF16_DOT) acc[r][t][i] = v_dot_bf16(acc[r][t][i], (vi)a[r][i], (vi)b[i]);
                else
#endif
                    acc[r][t][i] = v_fma(a[r][i], b[i], acc[r][t][i]);
            }
    }
}

/* lanes[r][t] += columns [c0, c0 + n) of nr rows and nt tokens. */
LR_INLINE void float_tile(int kind, int nr, int nt, const uint8_t *w, size_t stride, const void *const *x,
                          uint32_t c0, uint32_t n, vf *lanes)
{
    uint32_t step = step_of(kind), ww = width_of(kind), xw = act_width(kind), c = c0;
    vf acc[FLOAT_R][FLOAT_T][VG];
#pragma GCC unroll 8
    for (int r = 0; r < nr; r++)
#pragma GCC unroll 8
        for (int t = 0; t < nt; t++)
#pragma GCC unroll 4
            for (int i = 0; i < VG; i++) acc[r][t][i] = lanes[(r * FLOAT_T + t) * VG + i];
    for (; c + step <= c0 + n; c += step)
        float_step(kind, nr, nt, acc, w + (size_t)c * ww, stride, x, (size_t)c * xw,
                   w + (size_t)nr * (stride + (size_t)(c - c0) * ww));
    if (c < c0 + n) { /* the rest, with zeros after it, as the packed activations have them */
        uint8_t pad[FLOAT_R][64] = {{0}};
        for (int r = 0; r < nr; r++)
            memcpy(pad[r], w + (size_t)r * stride + (size_t)c * ww, (size_t)(c0 + n - c) * ww);
        float_step(kind, nr, nt, acc, pad[0], 64, x, (size_t)c * xw, NULL);
    }
#pragma GCC unroll 8
    for (int r = 0; r < nr; r++)
#pragma GCC unroll 8
        for (int t = 0; t < nt; t++)
#pragma GCC unroll 4
            for (int i = 0; i < VG; i++) lanes[(r * FLOAT_T + t) * VG + i] = acc[r][t][i];
}

/* y[t][r] for rows [r0, r1) and nt <= FLOAT_T tokens; w is row r0. */
LR_INLINE void float_group(int kind, int nt, const uint8_t *w, size_t stride, uint32_t cols, const void *const *x,
                           uint32_t r0, uint32_t r1, uint32_t chunk, float *const *y, const float *bias, bool add)
{
    vf lanes[ROW_BLOCK / FLOAT_R][FLOAT_R * FLOAT_T * VG];
    memset(lanes, 0, sizeof lanes);
    for (uint32_t c = 0; c < cols; c += chunk) {
        uint32_t n = LR_MIN(chunk, cols - c), r = r0;
        for (; r + FLOAT_R <= r1; r += FLOAT_R)
            float_tile(kind, FLOAT_R, nt, w + (size_t)(r - r0) * stride, stride, x, c, n, lanes[(r - r0) / FLOAT_R]);
        for (; r < r1; r++)
            float_tile(kind, 1, nt, w + (size_t)(r - r0) * stride, stride, x, c, n,
                       lanes[(r - r0) / FLOAT_R] + (r - r0) % FLOAT_R * FLOAT_T * VG);
    }
    for (uint32_t r = r0; r < r1; r++)
        for (int t = 0; t < nt; t++) {
            float v = g_sum(lanes[(r - r0) / FLOAT_R] + ((r - r0) % FLOAT_R * FLOAT_T + (uint32_t)t) * VG);
            if (bias) v += bias[r];
            y[t][r] = add ? y[t][r] + v : v;
        }
}

/* Rows [r0, r1), at most ROW_BLOCK, all tokens. */
LR_INLINE void float_rows(int kind, const uint8_t *w, size_t stride, uint32_t cols, const void *const *x,
                          uint32_t n_tok, uint32_t r0, uint32_t r1, float *const *y, const float *bias, bool add)
{
    uint32_t chunk = n_tok <= FLOAT_T ? cols : 4096 / act_width(kind);
    chunk = LR_ALIGN_UP(chunk, 32u);
    uint32_t t = 0;
    for (; t + FLOAT_T <= n_tok; t += FLOAT_T)
        float_group(kind, FLOAT_T, w, stride, cols, x + t, r0, r1, chunk, y + t, bias, add);
    for (; t + 2 <= n_tok; t += 2) float_group(kind, 2, w, stride, cols, x + t, r0, r1, chunk, y + t, bias, add);
    for (; t < n_tok; t++) float_group(kind, 1, w, stride, cols, x + t, r0, r1, chunk, y + t, bias, add);
}

#define FLOAT_MM(name, kind) \
    static void name(const lr_mat *w, const void *const *x, uint32_t n_tok, uint32_t r0, uint32_t r1, \
                     float *const *y, const float *bias, bool add) \
    { \
        for (uint32_t r = r0, end; r < r1; r = end) { \
            end = LR_MIN(r1, r + ROW_BLOCK); \
            float_rows(kind, w->data + r * w->row_stride, w->row_stride, w->cols, x, n_tok, r, end, y, bias, add); \
        } \
    }
FLOAT_MM(mm_f32, W_F32)
FLOAT_MM(mm_f16, W_F16)
FLOAT_MM(mm_bf16, W_BF16)
#ifdef HAVE_BF16_DOT
FLOAT_MM(mm_bf16_dot, W_BF16_DOT)
#endif

/* Any other format, a few rows at a time as float32. */
static void mm_decoded(const lr_mat *w, const void *const *x, uint32_t n_tok, uint32_t r0, uint32_t r1,
                       float *const *y, const float *bias, bool add, void *scratch)
{
    size_t stride = LR_ALIGN_UP(4 * (size_t)w->cols, 64);
    uint8_t *rows_f32 = scratch;
    for (uint32_t r = r0, end; r < r1; r = end) {
        end = LR_MIN(r1, r + DECODED_ROWS);
        for (uint32_t i = r; i < end; i++)
            lr_decode_row(w->fmt, w->data + i * w->row_stride, w->aux ? w->aux + i * w->aux_stride : NULL,
                          (float *)(rows_f32 + (i - r) * stride), w->cols);
        float_rows(W_F32, rows_f32, stride, w->cols, x, n_tok, r, end, y, bias, add);
    }
}

#endif
