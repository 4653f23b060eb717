/* mm_float.h - the float product of one instruction set: float32 activations with any weights, bf16 with bf16.
 *
 * A tile is FLOAT_R rows by FLOAT_T tokens, 16 lanes each. A block of rows stays in the second-level cache while groups
 * of tokens run over it; a group's columns are taken in chunks that fit the first. Lanes wait in `lanes` meanwhile.
 * Refuses to own: decoding of quantised rows (lr_decode_row makes float32 rows in the scratch). */
#ifndef LR_MM_FLOAT_H
#define LR_MM_FLOAT_H

/* What weights are; the last two with bf16 activations. PAIRS: packed F16 (mm_pack.c), lines of two rows in turn. */
enum { W_F32, W_F16, W_F16_PAIRS, W_BF16, W_F8, W_BF16_DOT, W_F8_DOT };
enum { ROW_BLOCK = 32, DECODED_ROWS = 8, SPAN = 128 };

LR_INLINE bool is_dot(int kind) { return kind == W_BF16_DOT || kind == W_F8_DOT; }
LR_INLINE bool is_f8(int kind) { return kind == W_F8 || kind == W_F8_DOT; }
LR_INLINE uint32_t width_of(int kind) { return kind == W_F32 ? 4 : is_f8(kind) ? 1 : 2; }
/* Where row r begins, counted from an even one, and column c, counted from a multiple of 32. */
LR_INLINE const uint8_t *float_row(int kind, const uint8_t *w, size_t stride, uint32_t r)
{
    return kind == W_F16_PAIRS ? w + (r & ~1u) * stride + (r & 1) * 64 : w + r * stride;
}
LR_INLINE size_t column_at(int kind, uint32_t c)
{
    return kind == W_F16_PAIRS ? (size_t)(c / 32) * 128 + c % 32 * 2 : (size_t)c * width_of(kind);
}
LR_INLINE uint32_t act_width(int kind) { return is_dot(kind) ? 2 : 4; }
LR_INLINE uint32_t step_of(int kind) { return is_dot(kind) ? 32 : 16; }
/* Rows at once for one token: as few as keep the sums from waiting for themselves, for memory is fastest in order. */
LR_INLINE int rows_for_one(int kind)
{
    int n = kind == W_F32 || kind == W_BF16_DOT ? 1 : is_f8(kind) ? 4 : 2;
    return LR_MIN(n, FLOAT_R);
}

/* The scales of FP8 rows: NULL where weights have none. Row 0 is row `first` of w. */
typedef struct row_scales {
    const lr_mat *w;
    uint32_t first;
} row_scales;
/* Those of row r: one for all columns, or (by_span) one per SPAN. */
LR_INLINE const uint8_t *scales_of(const row_scales *s, uint32_t r)
{
    static const float one = 1;
    return s->w->aux ? lr_mat_aux(s->w, s->first + r) : (const uint8_t *)&one;
}
LR_INLINE bool by_span(const row_scales *s) { return s && s->w->fmt == LR_FMT_F8_E4M3_B128; }

LR_INLINE void load_weights(int kind, vf g[VG], const uint8_t *p)
{
    if (kind == W_F8) g_load_f8(g, p);
    else if (kind == W_F32) g_load_f32(g, (const float *)p);
    else if (kind == W_F16 || kind == W_F16_PAIRS) g_load_f16(g, p);
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
        const uint8_t *p = float_row(kind, w, stride, (uint32_t)r);
#ifdef HAVE_BF16_DOT
        if (kind == W_BF16_DOT) a[r][0] = v_as_f(v_load(p));
        else if (kind == W_F8_DOT) a[r][0] = v_as_f(v_f8_bf16(p));
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
                if (is_dot(kind)) acc[r][t][i] = v_dot_bf16(acc[r][t][i], (vi)a[r][i], (vi)b[i]);
                else
#endif
                    acc[r][t][i] = v_fma(a[r][i], b[i], acc[r][t][i]);
            }
    }
}

#ifdef HAVE_F8_64
/* The same for 64 columns of FP8 and bf16 activations. */
LR_INLINE void f8_step(int nr, int nt, vf acc[FLOAT_R][FLOAT_T][VG], const uint8_t *w, size_t stride,
                       const void *const *x, size_t at, const uint8_t *ahead)
{
    vi a[FLOAT_R][2];
#pragma GCC unroll 8
    for (int r = 0; r < nr; r++) {
        __builtin_prefetch(ahead + r * 64);
        v_f8_bf16_64(w + (size_t)r * stride, a[r]);
    }
#pragma GCC unroll 8
    for (int t = 0; t < nt; t++)
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            vi b = v_load((const uint8_t *)x[t] + at + 64 * half);
#pragma GCC unroll 8
            for (int r = 0; r < nr; r++) acc[r][t][0] = v_dot_bf16(acc[r][t][0], a[r][half], b);
        }
}
#endif

/* acc += columns [c, end) of nr rows and nt tokens. What comes after these rows is asked for; w is column c0. */
LR_INLINE void float_columns(int kind, int nr, int nt, vf acc[FLOAT_R][FLOAT_T][VG], const uint8_t *w, size_t stride,
                             const void *const *x, uint32_t c0, uint32_t c, uint32_t end)
{
    uint32_t step = step_of(kind), ww = width_of(kind), xw = act_width(kind);
    const uint8_t *ahead = w + (nr == 1                          ? AHEAD
                                : kind == W_F16_PAIRS && nr == 2 ? AHEAD_PACKED
                                                                 : (size_t)nr * stride);
#ifdef HAVE_F8_64
    if (kind == W_F8_DOT)
        for (; c + 64 <= end; c += 64)
            f8_step(nr, nt, acc, w + (c - c0), stride, x, (size_t)c * xw, ahead + (size_t)nr * (c - c0));
#endif
    for (; c + step <= end; c += step)
        float_step(kind, nr, nt, acc, w + column_at(kind, c - c0), stride, x, (size_t)c * xw,
                   ahead + (size_t)nr * (c - c0) * ww);
    if (c < end) { /* the rest, with zeros after it, as the packed activations have them */
        uint8_t pad[FLOAT_R][64] = {{0}};
        for (int r = 0; r < nr; r++)
            memcpy(pad[r], w + (size_t)r * stride + (size_t)(c - c0) * ww, (size_t)(end - c) * ww);
        float_step(kind, nr, nt, acc, pad[0], 64, x, (size_t)c * xw, NULL);
    }
}

/* lanes[r][t] += columns [c0, c0 + n) of nr rows and nt tokens; w is column c0. `row`: of the first, for its scales. */
LR_INLINE void float_tile(int kind, int nr, int nt, const uint8_t *w, size_t stride, const void *const *x,
                          uint32_t c0, uint32_t n, vf *lanes, const row_scales *by, uint32_t row)
{
    vf acc[FLOAT_R][FLOAT_T][VG];
    if (!by_span(by)) {
#pragma GCC unroll 8
        for (int r = 0; r < nr; r++)
#pragma GCC unroll 32
            for (int t = 0; t < nt * VG; t++) acc[r][t / VG][t % VG] = lanes[r * FLOAT_T * VG + t];
        float_columns(kind, nr, nt, acc, w, stride, x, c0, c0, c0 + n);
#pragma GCC unroll 8
        for (int r = 0; r < nr; r++)
#pragma GCC unroll 32
            for (int t = 0; t < nt * VG; t++) lanes[r * FLOAT_T * VG + t] = acc[r][t / VG][t % VG];
        return;
    }
    const uint8_t *s[FLOAT_R];
    for (int r = 0; r < nr; r++) s[r] = scales_of(by, row + (uint32_t)r) + c0 / SPAN * sizeof(float);
    for (uint32_t c = c0; c < c0 + n; c += SPAN) {
#pragma GCC unroll 8
        for (int r = 0; r < nr; r++)
#pragma GCC unroll 32
            for (int t = 0; t < nt * VG; t++) acc[r][t / VG][t % VG] = v_zerof();
        float_columns(kind, nr, nt, acc, w, stride, x, c0, c, c + SPAN);
#pragma GCC unroll 8
        for (int r = 0; r < nr; r++) {
            vf scale = v_allf(s[r] + (c - c0) / SPAN * sizeof(float)), *to = lanes + r * FLOAT_T * VG;
#pragma GCC unroll 32
            for (int t = 0; t < nt * VG; t++) to[t] = v_fma(acc[r][t / VG][t % VG], scale, to[t]);
        }
    }
}

/* y[t][r] for rows [r0, r1) and nt <= FLOAT_T tokens; w is row r0. */
LR_INLINE void float_group(int kind, int nt, const uint8_t *w, size_t stride, const row_scales *by, uint32_t cols,
                           const void *const *x, uint32_t r0, uint32_t r1, uint32_t chunk, float *const *y,
                           const float *bias, bool add)
{
    enum { ALL = FLOAT_R };
    const int nr = nt == 1 ? rows_for_one(kind) : ALL;
    vf lanes[ROW_BLOCK][FLOAT_T * VG];
    memset(lanes, 0, sizeof lanes);
    for (uint32_t c = 0; c < cols; c += chunk) {
        uint32_t n = LR_MIN(chunk, cols - c), r = r0;
        for (; r + (uint32_t)nr <= r1; r += (uint32_t)nr)
            float_tile(kind, nr, nt, float_row(kind, w, stride, r - r0) + column_at(kind, c), stride, x, c, n,
                       lanes[r - r0], by, r - r0);
        for (; nr > 1 && r < r1; r++)
            float_tile(kind, 1, nt, float_row(kind, w, stride, r - r0) + column_at(kind, c), stride, x, c, n,
                       lanes[r - r0], by, r - r0);
    }
    for (uint32_t r = r0; r < r1; r++)
        for (int t = 0; t < nt; t++) {
            vf *sums = lanes[r - r0] + t * VG;
            if (by && !by_span(by))
                for (int i = 0; i < VG; i++) sums[i] = v_mul(sums[i], v_allf(scales_of(by, r - r0)));
            float v = g_sum(sums);
            if (bias) v += bias[r];
            y[t][r] = add ? y[t][r] + v : v;
        }
}

/* Rows [r0, r1), at most ROW_BLOCK, all tokens. */
LR_INLINE void float_rows(int kind, const uint8_t *w, size_t stride, const row_scales *by, uint32_t cols,
                          const void *const *x, uint32_t n_tok, uint32_t r0, uint32_t r1, float *const *y,
                          const float *bias, bool add)
{
    uint32_t chunk = n_tok <= FLOAT_T ? cols : 4096 / act_width(kind);
    chunk = LR_ALIGN_UP(chunk, (uint32_t)SPAN);
    uint32_t t = 0;
    for (; t + FLOAT_T <= n_tok; t += FLOAT_T)
        float_group(kind, FLOAT_T, w, stride, by, cols, x + t, r0, r1, chunk, y + t, bias, add);
    for (; t + 2 <= n_tok; t += 2) float_group(kind, 2, w, stride, by, cols, x + t, r0, r1, chunk, y + t, bias, add);
    for (; t < n_tok; t++) float_group(kind, 1, w, stride, by, cols, x + t, r0, r1, chunk, y + t, bias, add);
}

#define FLOAT_MM(name, kind) \
    static void name(const lr_mat *w, const void *const *x, uint32_t n_tok, uint32_t r0, uint32_t r1, \
                     float *const *y, const float *bias, bool add) \
    { \
        for (uint32_t r = r0, end; r < r1; r = end) { \
            end = LR_MIN(r1, r + ROW_BLOCK); \
            float_rows(kind, w->data + r * w->row_stride, w->row_stride, NULL, w->cols, x, n_tok, r, end, y, bias, \
                       add); \
        } \
    }
FLOAT_MM(mm_f32, W_F32)
FLOAT_MM(mm_f16, W_F16)
#ifdef PACKED_TWIN
FLOAT_MM(mm_f16_pairs, W_F16_PAIRS)
#endif
FLOAT_MM(mm_bf16, W_BF16)
#ifdef HAVE_BF16_DOT
FLOAT_MM(mm_bf16_dot, W_BF16_DOT)
#endif

/* step_of(kind) numbers, or n of them, to those of `kind`, floats or bf16, without their scale. */
LR_INLINE void f8_piece(int kind, const uint8_t *p, uint8_t *to)
{
    (void)kind;
#ifdef HAVE_BF16_DOT
    if (kind == W_BF16_DOT) {
        v_store(to, v_f8_bf16(p));
        return;
    }
#endif
    vf g[VG];
    g_load_f8(g, p);
    for (int i = 0; i < VG; i++) v_storef((float *)(void *)to + i * (16 / VG), g[i]);
}
LR_INLINE void f8_unpack(int kind, const uint8_t *from, uint32_t n, uint8_t *to)
{
    const uint32_t step = step_of(kind), width = width_of(kind);
    uint32_t c = 0;
#ifdef HAVE_F8_64
    if (kind == W_BF16_DOT)
        for (; c + 64 <= n; c += 64) {
            vi both[2];
            v_f8_bf16_64(from + c, both);
            v_store(to + 2 * (size_t)c, both[0]);
            v_store(to + 2 * (size_t)c + 64, both[1]);
        }
#endif
    for (; c + step <= n; c += step) f8_piece(kind, from + c, to + (size_t)c * width);
    if (c < n) {
        uint8_t pad[32] = {0}, out[64];
        memcpy(pad, from + c, n - c);
        f8_piece(kind, pad, out);
        memcpy(to + (size_t)c * width, out, (size_t)(n - c) * width);
    }
}

/* FP8. Up to FLOAT_T tokens: decoded as they stream by. More: a block of rows is decoded once, without its scales, and
 * the kernels of what it is then run over it. */
LR_INLINE void mm_f8(int direct, int decoded, const lr_mat *w, const void *const *x, uint32_t n_tok, uint32_t r0,
                     uint32_t r1, float *const *y, const float *bias, bool add, void *scratch)
{
    uint32_t width = width_of(decoded), most = n_tok <= FLOAT_T ? ROW_BLOCK : 2 * DECODED_ROWS * 4 / width;
    size_t stride = LR_ALIGN_UP(width * (size_t)w->cols, 64);
    for (uint32_t r = r0, end; r < r1; r = end) {
        row_scales by = {w, r};
        const uint8_t *row = w->data + r * w->row_stride;
        end = LR_MIN(r1, r + most);
        if (n_tok <= FLOAT_T) {
            float_rows(direct, row, w->row_stride, &by, w->cols, x, n_tok, r, end, y, bias, add);
            continue;
        }
        for (uint32_t i = r; i < end; i++, row += w->row_stride)
            f8_unpack(decoded, row, w->cols, (uint8_t *)scratch + (i - r) * stride);
        float_rows(decoded, scratch, stride, &by, w->cols, x, n_tok, r, end, y, bias, add);
    }
}

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
        float_rows(W_F32, rows_f32, stride, NULL, w->cols, x, n_tok, r, end, y, bias, add);
    }
}

#endif
