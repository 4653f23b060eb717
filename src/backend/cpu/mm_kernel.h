/* mm_kernel.h - the integer product of one instruction set: what all formats share.
 *
 * Owns: the tile of the matrix kernel, the loop over rows and tokens, packing of activations.
 * Refuses to own: decoding (mm_formats.h), the two loops that contain a decode (mm_body.h).
 *
 * Up to MOST_FEW tokens, FEW of them (2, 4 or 8; mm_body.h, `vector`) at a time: VR rows stream by in place, turned in
 * registers so that element r of a vector holds 4 columns of row r, and multiplied at once.
 * More tokens: TILE_V * VR rows by K_BLOCKS blocks are decoded once into a panel in the first-level cache; each group of
 * tokens then runs over the panel with 4 of its columns in every element. Partial sums (float) wait in `part`
 * [token][row of tile] for the next panel.
 *
 * Where an instruction multiplies two rows by two tokens (HAVE_PAIRS), the panel's bytes lie in pairs of rows and the
 * sums of two tokens in pairs, until a block's products are whole: integers, so that nothing else can tell.
 *
 * Panel: per block, per row vector, PANEL_VECS vectors: 8 of bytes, then the scale, then by kind
 *   MIN: offset; SUB: two factors; SUBMIN: two factors, offset, the pair of integer offsets. */
#ifndef LR_MM_KERNEL_H
#define LR_MM_KERNEL_H

enum { K_BLOCKS = 16, PANEL_VECS = 13, TILE_ROWS = TILE_V * VR };
#define PANEL_BYTES ((size_t)K_BLOCKS * TILE_V * PANEL_VECS * sizeof(vi))

LR_INLINE int panel_vecs(int kind) { return kind == PLAIN ? 9 : kind == MIN ? 10 : kind == SUB ? 11 : 13; }

/* Planes of a packed row at block b. */
LR_INLINE const uint8_t *plane(const uint8_t *x, size_t at, uint32_t b) { return x + at + 4 * (size_t)b; }

/* What block b adds, for VR rows and one token: step 2 and 3 of the arithmetic. f: step 1's result. */
LR_INLINE vf block_add(int kind, vf acc, vf f, vf s, vf m, vi n, const uint8_t *x, const lr_i8_row *at, uint32_t b)
{
    acc = v_fma(f, v_mul(s, v_allf(plane(x, at->d, b))), acc);
    if (kind == MIN) acc = v_fnma(m, v_allf(plane(x, at->e, b)), acc);
    if (kind == SUBMIN) { /* h holds minus the sums */
        vi minus = v_dot16(v_zero(), n, v_all4(plane(x, at->h, b)));
        acc = v_fma(m, v_mul(v_allf(plane(x, at->d, b)), v_cvt(minus)), acc);
    }
    return acc;
}

/* -2^zero times the sum of x over the block (half < 0) or one of its halves: what a zero point adds to a product. */
LR_INLINE vi zero_point(int zero, int half, const uint8_t *x, const lr_i8_row *at, uint32_t b)
{
    if (zero < 0) return v_zero();
    if (half < 0) return v_shl32(v_all4(plane(x, at->n, b)), zero);
    vi h = v_all4(plane(x, at->h, b));
    return half ? v_shl32(v_sar32(h, 16), zero) : v_sar32(v_shl32(h, 16), 16 - zero);
}

#ifdef HAVE_PAIRS
/* Words of a block as the panel keeps them: [rows 0 and 1, rows 2 and 3] for each 8 columns. */
LR_INLINE void panel_order(vi w[8])
{
    for (int i = 0; i < 8; i += 2) {
        vi a = w[i], b = w[i + 1];
        w[i] = v_zip32_lo(a, b);
        w[i + 1] = v_zip32_hi(a, b);
    }
}
/* The sums of tokens t and t + 1 (of the last alone: twice), from and to a vector per token. In pairs they are those of
 * rows 0 and 1, and of rows 2 and 3, by both. */
LR_INLINE void to_pairs(int nt, vi sum[TILE_V][TILE_T])
{
#pragma GCC unroll 4
    for (int t = 0; t < nt; t += 2) /* the same in every row so far */
        for (int v = 0; v < TILE_V; v++)
            sum[v][t] = sum[v][t + 1] = v_zip32_lo(sum[v][t], sum[v][LR_MIN(t + 1, nt - 1)]);
}
LR_INLINE void from_pairs(int nt, vi sum[TILE_V][TILE_T])
{
#pragma GCC unroll 4
    for (int t = 0; t < nt; t += 2)
        for (int v = 0; v < TILE_V; v++) {
            vi lo = sum[v][t], hi = sum[v][t + 1];
            sum[v][t] = v_even32(lo, hi);
            sum[v][t + 1] = v_odd32(lo, hi);
        }
}
/* sum[v][t] += 16 columns of the panel, half a block, times those of nt tokens. */
LR_INLINE void half_dots(int wide, int nt, const vi *panel, int pv, const void *const *x, uint32_t b, int half,
                         vi sum[TILE_V][TILE_T])
{
    (void)wide;
#pragma GCC unroll 2
    for (int k = 0; k < 2; k++) {
        size_t at = 32 * (size_t)b + (size_t)(16 * half + 8 * k);
        const vi *w = panel + 4 * half + 2 * k;
#pragma GCC unroll 4
        for (int t = 0; t < nt; t += 2) {
            vi a = v_both8((const uint8_t *)x[t] + at, (const uint8_t *)x[LR_MIN(t + 1, nt - 1)] + at);
            for (int v = 0; v < TILE_V; v++)
                for (int i = 0; i < 2; i++) sum[v][t + i] = v_dot_pairs(sum[v][t + i], v_load(w + v * pv + i), a);
        }
    }
}
#else
LR_INLINE void panel_order(vi w[8]) { (void)w; }
LR_INLINE void to_pairs(int nt, vi sum[TILE_V][TILE_T]) { (void)nt, (void)sum; }
LR_INLINE void from_pairs(int nt, vi sum[TILE_V][TILE_T]) { (void)nt, (void)sum; }
/* sum[v][t] += 16 columns of the panel, half a block, times those of nt tokens. */
LR_INLINE void half_dots(int wide, int nt, const vi *panel, int pv, const void *const *x, uint32_t b, int half,
                         vi sum[TILE_V][TILE_T])
{
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        vi w[TILE_V];
        for (int v = 0; v < TILE_V; v++) w[v] = v_load(panel + v * pv + 4 * half + k);
#pragma GCC unroll 8
        for (int t = 0; t < nt; t++) {
            vi a = v_all4((const uint8_t *)x[t] + 32 * (size_t)b + 16 * half + 4 * k);
            for (int v = 0; v < TILE_V; v++)
                sum[v][t] = wide ? v_dot_wide(sum[v][t], w[v], a) : v_dot(sum[v][t], w[v], a);
        }
    }
}
#endif
/* acc + sums of four products of bytes, with the same four columns at x for all rows. */
LR_INLINE vi dot_at(bool wide, vi acc, vi w, const uint8_t *x)
{
#ifdef HAVE_DOT_AT
    (void)wide; /* all the same to it */
    return v_dot_at(acc, w, x);
#else
    return wide ? v_dot_wide(acc, w, v_all4(x)) : v_dot(acc, w, v_all4(x));
#endif
}

/* part[t][TILE_ROWS] += panel (nb blocks from b0) times nt tokens x[t]. The ints are constants where this is inlined. */
LR_INLINE void tile(int kind, int zero, int wide, int nt, const vi *panel, uint32_t b0, uint32_t nb,
                    const void *const *x, const void *const *next, const lr_i8_row *at, float *part)
{
    vf acc[TILE_V][TILE_T], f[TILE_V][TILE_T];
    vi sum[TILE_V][TILE_T];
    int pv = panel_vecs(kind), sub = kind == SUB || kind == SUBMIN;
    for (int v = 0; v < TILE_V; v++)
        for (int t = 0; t < nt; t++) acc[v][t] = v_loadf(part + t * TILE_ROWS + v * VR);
    for (uint32_t b = b0; b < b0 + nb; b++, panel += TILE_V * pv) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            if (sub || !half) {
#pragma GCC unroll 8
                for (int t = 0; t < nt; t++) {
                    sum[0][t] = zero_point(zero, sub ? half : -1, x[t], at, b);
                    for (int v = 1; v < TILE_V; v++) sum[v][t] = sum[0][t];
                }
                to_pairs(nt, sum);
            }
            half_dots(wide, nt, panel, pv, x, b, half, sum);
            if (!sub && !half) continue;
            from_pairs(nt, sum);
#pragma GCC unroll 8
            for (int t = 0; t < nt; t++)
                for (int v = 0; v < TILE_V; v++) {
                    vf one = v_cvt(sum[v][t]);
                    if (!sub) f[v][t] = one;
                    else if (!half) f[v][t] = v_mul(one, v_loadf((const float *)(panel + v * pv + 9)));
                    else f[v][t] = v_fma(one, v_loadf((const float *)(panel + v * pv + 10)), f[v][t]);
                }
        }
#pragma GCC unroll 8
        for (int t = 0; t < nt; t++) {
            if (b % 2 == 0) __builtin_prefetch((const uint8_t *)next[t] + 32 * (size_t)b);
            for (int v = 0; v < TILE_V; v++) {
                const vi *p = panel + v * pv;
                vf s = v_loadf((const float *)(p + 8));
                vf m = kind == MIN      ? v_loadf((const float *)(p + 9))
                       : kind == SUBMIN ? v_loadf((const float *)(p + 11))
                                        : s;
                vi n = kind == SUBMIN ? v_load(p + 12) : v_zero();
                acc[v][t] = block_add(kind, acc[v][t], f[v][t], s, m, n, x[t], at, b);
            }
        }
    }
    for (int v = 0; v < TILE_V; v++)
        for (int t = 0; t < nt; t++) v_storef(part + t * TILE_ROWS + v * VR, acc[v][t]);
}

typedef void tiles_fn(const vi *panel, uint32_t b0, uint32_t nb, const void *const *x, uint32_t n_tok,
                      const lr_i8_row *at, float *part);

#define TILE_CASE(n, kind, zero, wide) \
    case n: tile(kind, zero, wide, n, panel, b0, nb, x + t, x + next, at, p); break;
/* All tokens over one panel, in groups of equal size, at most TILE_T: 8 as 4 and 4, for 2 alone would wait for their own
 * sums. The next group's activations are asked for on the way. */
#define TILES(name, kind, zero, wide, most) \
    static void name(const vi *panel, uint32_t b0, uint32_t nb, const void *const *x, uint32_t n_tok, \
                     const lr_i8_row *at, float *part) \
    { \
        for (uint32_t t = 0, n; t < n_tok; t += n) { \
            uint32_t groups = (n_tok - t + (most)-1) / (most); \
            n = (n_tok - t + groups - 1) / groups; \
            if (n > (most)) __builtin_unreachable(); \
            uint32_t next = t + 2 * n <= n_tok ? t + n : t; \
            float *p = part + (size_t)t * TILE_ROWS; \
            switch (n) { \
                TILE_CASE(1, kind, zero, wide) \
                TILE_CASE(2, kind, zero, wide) \
                TILE_CASE(3, kind, zero, wide) \
                TILE_CASE(4, kind, zero, wide) \
                TILE_MORE(kind, zero, wide) \
            } \
        } \
    }
#if TILE_T > 4
#define TILE_MORE(kind, zero, wide) TILE_CASE(5, kind, zero, wide) TILE_CASE(6, kind, zero, wide)
#else
#define TILE_MORE(kind, zero, wide)
#endif

TILES(tiles_plain_wide, PLAIN, (WIDE_FLIP ? 7 : -1), 1, TILE_T)
TILES(tiles_plain_3, PLAIN, 3, 0, TILE_T)
TILES(tiles_plain_4, PLAIN, 4, 0, TILE_T)
TILES(tiles_plain_6, PLAIN, 6, 0, TILE_T)
TILES(tiles_min, MIN, -1, 0, TILE_T)
TILES(tiles_sub_2, SUB, 2, 0, TILE_T_SUB)
TILES(tiles_sub_4, SUB, 4, 0, TILE_T_SUB)
TILES(tiles_sub_5, SUB, 5, 0, TILE_T_SUB)
TILES(tiles_submin, SUBMIN, -1, 0, TILE_T_SUB)

LR_INLINE tiles_fn *tiles_of(int kind, int zero, int wide)
{
    if (kind == MIN) return tiles_min;
    if (kind == SUBMIN) return tiles_submin;
    if (kind == SUB) return zero == 2 ? tiles_sub_2 : zero == 4 ? tiles_sub_4 : tiles_sub_5;
    return wide || zero == 7 ? tiles_plain_wide
           : zero == 3       ? tiles_plain_3
           : zero == 4       ? tiles_plain_4
                             : tiles_plain_6;
}

/* Writes n sums of rows r.. of one token. */
static void finish(const float *sum, uint32_t skip, uint32_t n, float *y, const float *bias, bool add)
{
    for (uint32_t i = skip; i < n; i++) {
        float v = sum[i];
        if (bias) v += bias[i];
        y[i] = add ? y[i] + v : v;
    }
}

/* Keeps the compiler from gathering all requests for memory at one place, where they would block the loads behind. */
#define IN_ORDER __asm__ volatile("" ::: "memory")

enum { SEGMENT = VR }; /* blocks: three of them, of VR rows, fit the first-level cache (Q8_0 with AVX-512: 26 KB) */
/* Where the segment two after that of block b begins, of `bytes` per row: in these rows or the next. */
LR_INLINE const uint8_t *segment_after(rows r, uint32_t b, uint32_t nb, const uint8_t *next_rows, size_t bytes)
{
    uint32_t to = b + 2 * SEGMENT, end = LR_ALIGN_UP(nb, (uint32_t)SEGMENT);
    return to < end ? r.p + 2 * bytes : next_rows + (to - end) / SEGMENT * bytes;
}

/* Where the vector kernel asks for memory from, when it begins with VR rows: past the next ones, by about a hundred
 * nanoseconds' worth; or in packed rows, past what it reads. */
enum { AHEAD = 4096, AHEAD_PACKED = 8192, AHEAD_FAR = 12288 };
LR_INLINE const uint8_t *ahead_of(rows r) { return APART == VR ? r.p + AHEAD_PACKED : r.p + VR * r.stride + AHEAD; }

typedef void vector_fn(rows r, uint32_t nb, const void *const *x, const lr_i8_row *at, float out[FEW][VR]);
typedef void panel_fn(rows r, uint32_t b0, uint32_t nb, vi *panel, int stride_v, size_t next);

/* VR rows of the matrix from r on. Fewer than VR rows in all: stride 0, the same row in every place. */
static rows rows_at(const lr_mat *w, uint32_t r)
{
    bool few = w->rows < VR && APART < VR;
    return rows_of(w->data + r * w->row_stride, w->aux ? w->aux + r * w->aux_stride : w->data,
                   few ? 0 : w->row_stride, few ? 0 : w->aux_stride);
}

/* Groups of VR rows that cover [r, end): where to start reading, how many rows of it to skip, how many count. The last
 * group of a matrix is read from rows - VR on, so that nothing past its end is touched. */
typedef struct group {
    uint32_t first, skip, n;
} group;
static group group_at(const lr_mat *w, uint32_t r, uint32_t end)
{
    if (APART == VR) return (group){r, 0, LR_MIN(end - r, (uint32_t)VR)}; /* packed: filled up to VR rows */
    if (w->rows < VR) return (group){r, 0, 1};
    uint32_t first = LR_MIN(r, w->rows - VR), skip = r - first;
    return (group){first, skip, LR_MIN(skip + (end - r), (uint32_t)VR)};
}

/* vectors: the kernels of 1, 2, 4 ... tokens, up to FEW. More go in equal parts: what the first reads of a group of rows is
 * in the caches for the others. */
static void mm_few(const lr_mat *w, vector_fn *const *vectors, const void *const *x, uint32_t n_tok, uint32_t r0,
                   uint32_t r1, float *const *y, const float *bias, bool add)
{
    lr_i8_row at = lr_i8_layout(w->cols);
    float sum[FEW][VR];
    uint32_t parts = (n_tok + FEW - 1) / FEW, most = (n_tok + parts - 1) / parts;
    vector_fn *vector = vectors[most <= 2 ? most - 1 : most <= 4 ? 2 : 3];
    for (uint32_t r = r0; r < r1;) {
        group g = group_at(w, r, r1);
        for (uint32_t t0 = 0; t0 < n_tok; t0 += most) {
            const void *some[FEW]; /* the last token fills up */
            for (uint32_t t = 0; t < FEW; t++) some[t] = x[LR_MIN(t0 + t, n_tok - 1)];
            vector(rows_at(w, g.first), w->cols / 32, some, &at, sum);
            for (uint32_t t = t0; t < LR_MIN(t0 + most, n_tok); t++)
                finish(sum[t - t0], g.skip, g.n, y[t] + g.first, bias ? bias + g.first : NULL, add);
        }
        r = g.first + g.n;
    }
}

static void mm_many(const lr_mat *w, panel_fn *unpack, tiles_fn *tiles, int pv, const void *const *x, uint32_t n_tok,
                    uint32_t r0, uint32_t r1, float *const *y, const float *bias, bool add, void *scratch)
{
    lr_i8_row at = lr_i8_layout(w->cols);
    vi *panel = scratch;
    float *part = (float *)((uint8_t *)scratch + PANEL_BYTES);
    uint32_t nb = w->cols / 32;
    for (uint32_t r = r0; r < r1;) {
        group g[TILE_V] = {{0, 0, 0}};
        for (int v = 0; v < TILE_V; v++) {
            if (r == r1) { /* no rows are left for this vector: it repeats the first, and nothing of it counts */
                g[v] = (group){g[0].first, 0, 0};
                continue;
            }
            g[v] = group_at(w, r, r1);
            r = g[v].first + g[v].n;
        }
        memset(part, 0, (size_t)n_tok * TILE_ROWS * sizeof *part);
        for (uint32_t b = 0; b < nb; b += K_BLOCKS) {
            uint32_t n = LR_MIN(nb - b, (uint32_t)K_BLOCKS);
            for (int v = 0; v < TILE_V; v++)
                unpack(rows_at(w, g[v].first), b, n, panel + v * pv, TILE_V * pv, TILE_ROWS * w->row_stride);
            tiles(panel, b, n, x, n_tok, &at, part);
        }
        for (uint32_t t = 0; t < n_tok; t++)
            for (int v = 0; v < TILE_V; v++)
                finish(part + t * TILE_ROWS + v * VR, g[v].skip, g[v].n, y[t] + g[v].first,
                       bias ? bias + g[v].first : NULL, add);
    }
}

#endif
