/* many.cuh - products with many rows of x on Hopper: y[i][r] = sum_c W[r][c] x[i][c], as docs/decisions/0009 orders it.
 *
 * Owns: the kernel, a template over formats and sizes. Refuses to own: which one runs (mm_many.cu), formats' bit layouts
 * (formats.cuh), instructions (hopper.cuh).
 *
 * A block computes tiles of 128 rows of W by N rows of x. Three warpgroups: two multiply, each 64 rows of W; of the
 * third, one warp streams W's bytes as they lie in the file into a ring in shared memory, others fill a second ring with
 * x, 64 columns a slot. A multiplying warp decodes its 16 rows of W from the ring into registers, the tensor cores' A
 * operand; B is x, read from shared memory by wgmma itself.
 *
 * Two shapes share this. Whole: a block has all the columns, adds each chain's sum to a second set of registers, and two
 * neighbours in rows, a cluster, each fetch half of the x they share. Split: a cluster has a block per chain, and they
 * add their sums in rising order through each other's shared memory; so that few rows still occupy the whole card. The
 * sums of one tile are added while the next one's are under way. */
#ifndef LR_MANY_CUH
#define LR_MANY_CUH

#include "hopper.cuh"
#include "launch.cuh"

#include "formats.cuh"

enum {
    MANY_ROWS = 128,                  /* of W in a tile */
    MANY_STEP = 64,                   /* columns of x in a slot */
    MANY_THREADS = 384,               /* a block's; those that multiply: */
    MANY_MATH = 256,
    MANY_W_SLOTS = 12,                /* at most */
    MANY_X_SLOTS = 32,
    MANY_LINE = MANY_ROWS + 4,        /* floats from a row of chain sums to the next: no conflicts of banks */
    MANY_HEAD = 1024,                 /* bytes of shared memory for barriers */
    MANY_GATHER = 64,                 /* threads that fetch scattered rows of x, */
    MANY_LAG = 1,                     /* announcing a slot so many slots later */
};

struct lr_cu_many {
    lr_cu_map w[LR_CU_MATS], x_hi, x_lo;
    lr_cu_mm m;
    uint32_t first[LR_CU_MATS + 1]; /* row tiles of the matrices before, and of all */
    uint32_t chain, n_chain;        /* columns of a chain; chains: a split cluster's blocks */
    uint32_t w_slots, x_slots, w_cols; /* w_cols: columns in a slot of W */
    uint32_t pair;     /* whole: blocks that share rows of x, 1 or 2 */
    uint32_t resident; /* split: one tile of x rows, that stays in its slots */
    uint32_t parts;    /* split: buffers for chain sums; 2: added during the next tile */
};

struct many_bars {
    uint64_t w_full[MANY_W_SLOTS], w_empty[MANY_W_SLOTS], x_full[MANY_X_SLOTS], x_empty[MANY_X_SLOTS], ready[2], done;
};

struct many_tile {
    uint32_t mat, row, expert, first, n;
};

/* A place in a ring of n slots, and the parity of its round. */
struct many_ring {
    uint32_t at, round, n;
    __device__ many_ring(uint32_t slots) : at(0), round(0), n(slots) {}
    __device__ void next()
    {
        if (++at == n) {
            at = 0;
            round ^= 1;
        }
    }
};

/* ---------------------------------------------------------------- formats: how a slot of W lies, and operands from it
 * frag: a[0 .. 3], a[4 .. 7] are the A operands of the two products of the slot's 32 columns `group`, rows r0, r0 + 8. */
static __device__ __forceinline__ const uint8_t *many_line(const lr_cu_mat &w, uint32_t expert, uint32_t row)
{
    uint32_t at = w.aux_rows ? (w.aux_first + row) / w.aux_rows : row;
    return w.aux ? w.aux + expert * w.aux_mat_stride + at * w.aux_stride : NULL;
}

template <uint32_t FMT> struct many_fmt {
    using F = lr_cu_fmt<FMT>;
    static constexpr bool swizzle = false, bf16 = F::bf16, own_lo = F::has_lo;
    static constexpr uint32_t cols = own_lo ? 64 : 256, spans = cols / F::span, row_bytes = spans * F::bytes;
    /* A copy begins at 16 bytes: what lies before the slot's first comes along. Rows lie 16 bytes further in the banks. */
    static constexpr uint32_t pitch = ((row_bytes + (row_bytes % 16 ? 14 : 0) + 15) / 16 | 1) * 16;
    struct rows {
        typename F::state s[2][spans];
    };
    static __device__ __forceinline__ void begin(rows &r, const uint8_t *slot, const lr_cu_mat &w, uint32_t expert,
                                                 uint32_t row, uint32_t r0, uint32_t col, int t)
    {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const uint8_t *at = F::has_aux ? many_line(w, expert, min(row + r0 + i * 8, w.rows - 1)) : NULL;
#pragma unroll
            for (int k = 0; k < (int)spans; k++)
                F::begin(r.s[i][k], slot + (r0 + i * 8) * pitch + k * F::bytes, F::aux(at, col + k * F::span, w.cols), t);
        }
    }
    static __device__ __forceinline__ void frag(uint32_t (&a)[8], uint32_t (&lo)[8], const rows &r, const uint8_t *slot,
                                                uint32_t r0, int group, int t)
    {
        constexpr int per = F::span / 32;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            uint32_t h[4], l[4];
            F::frag(r.s[i][group / per], slot + (r0 + i * 8) * pitch + group / per * F::bytes, group % per, t, h, l);
#pragma unroll
            for (int k = 0; k < 4; k++) {
                a[k * 2 + i] = h[k];
                if (own_lo) lo[k * 2 + i] = l[k];
            }
        }
    }
};

struct many_raw16 { /* slots of 64 columns, 128 bytes a row, swizzled */
    static constexpr uint32_t cols = 64, row_bytes = 128, pitch = 128;
    static constexpr bool swizzle = true, bf16 = false, own_lo = false;
    struct rows {};
    static __device__ __forceinline__ void begin(rows &, const uint8_t *, const lr_cu_mat &, uint32_t, uint32_t, uint32_t,
                                                 uint32_t, int)
    {
    }
    static __device__ __forceinline__ void take(uint32_t *a, const uint8_t *slot, uint32_t row, int group, int t)
    {
        uint4 v = *(const uint4 *)(slot + row * pitch + ((group * 4 + t) ^ (row & 7)) * 16);
        a[0] = v.x, a[2] = v.y, a[4] = v.z, a[6] = v.w;
    }
    static __device__ __forceinline__ void frag(uint32_t (&a)[8], uint32_t (&)[8], const rows &, const uint8_t *slot,
                                                uint32_t r0, int group, int t)
    {
        take(a, slot, r0, group, t);
        take(a + 1, slot, r0 + 8, group, t);
    }
};
template <> struct many_fmt<LR_FMT_F16> : many_raw16 {};
template <> struct many_fmt<LR_FMT_BF16> : many_raw16 {
    static constexpr bool bf16 = true;
};

/* ---------------------------------------------------------------- tiles */
template <int N, bool WHOLE, int ROWS = MANY_ROWS>
static __device__ many_tile many_at(const lr_cu_many &a, uint32_t unit, uint32_t n_row, uint32_t rank)
{
    many_tile t;
    uint32_t n = a.first[a.m.n], at;
    if (a.m.k) {
        const uint32_t *q = a.m.sort.tiles + (uint64_t)(unit / n) * 3;
        at = unit % n, t.expert = q[0], t.first = q[1], t.n = q[2];
    } else {
        uint32_t n_col = (n_row + N - 1) / N, col = WHOLE ? unit % n_col : unit / n;
        at = WHOLE ? unit / n_col * a.pair + (a.pair > 1 ? rank : 0) : unit % n;
        t.expert = 0, t.first = col * N, t.n = min((uint32_t)N, n_row - t.first);
    }
    t.mat = 0;
    while (t.mat + 1 < a.m.n && at >= a.first[t.mat + 1]) t.mat++;
    t.row = (at - a.first[t.mat]) * ROWS; /* a pair's second may lie past the last row: nothing is stored */
    return t;
}

template <int N, bool WHOLE> static __device__ uint32_t many_units(const lr_cu_many &a, uint32_t n_row)
{
    uint32_t n = a.first[a.m.n];
    if (a.m.k) return *a.m.sort.n_tile * n;
    return (n_row + N - 1) / N * (WHOLE ? (n + a.pair - 1) / a.pair : n);
}

/* The row of x, and of y, that row i of a tile stands for. */
static __device__ __forceinline__ uint32_t many_y_row(const lr_cu_mm &m, const many_tile &t, uint32_t i)
{
    return m.k ? m.sort.rows[t.first + i] : t.first + i;
}
static __device__ __forceinline__ uint32_t many_x_row(const lr_cu_mm &m, uint32_t y_row)
{
    return m.k && m.in_mul == 1 ? y_row / m.k : y_row;
}

/* ---------------------------------------------------------------- what becomes of a sum */
static __device__ __forceinline__ float many_finish(float sum, float scale, bool has_bias, float bias, bool add,
                                                    const float *y)
{
    float v = __fmul_rn(sum, scale);
    if (has_bias) v = __fadd_rn(v, bias);
    return add ? __fadd_rn(*y, v) : v;
}

template <int N>
static __device__ __forceinline__ void many_store(const lr_cu_many &a, const many_tile &t, const float (&d)[N / 2],
                                                  uint32_t row, uint32_t lane)
{
    const lr_cu_mat &w = a.m.w[t.mat];
    uint32_t r[2] = {t.row + row, t.row + row + 8};
    float bias[2] = {0, 0};
    for (int e = 0; e < 2; e++)
        if (w.bias && r[e] < w.rows) bias[e] = w.bias[(uint64_t)t.expert * w.rows + r[e]];
#pragma unroll
    for (int j = 0; j < N / 8; j++) {
#pragma unroll
        for (int e = 0; e < 2; e++) {
            uint32_t i = j * 8 + lane % 4 * 2 + e;
            if (i >= t.n) continue;
            uint32_t yr = many_y_row(a.m, t, i);
            float scale = a.m.x.scale ? a.m.x.scale[many_x_row(a.m, yr)] : 1.0f;
            float *y = w.y + (uint64_t)yr * w.y_stride;
            if (r[0] < w.rows) y[r[0]] = many_finish(d[j * 4 + e], scale, w.bias, bias[0], a.m.add, y + r[0]);
            if (r[1] < w.rows) y[r[1]] = many_finish(d[j * 4 + 2 + e], scale, w.bias, bias[1], a.m.add, y + r[1]);
        }
    }
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
/* ---------------------------------------------------------------- the rings are filled
 * Past the width both hold zeros, up to the end of a slot of W. */
static __device__ __forceinline__ uint32_t many_up(uint32_t n, uint32_t to) { return (n + to - 1) / to * to; }

template <uint32_t FMT, int N, bool WHOLE>
static __device__ void many_fill_w(const lr_cu_many &a, many_bars *bars, uint32_t ring, uint32_t cluster, uint32_t step,
                                   uint32_t rank)
{
    using F = many_fmt<FMT>;
    constexpr uint32_t bytes = MANY_ROWS * F::pitch;
    uint32_t n_row = N, cols = a.m.w[0].cols;
    if (WHOLE || !a.resident) { /* else W's part does not depend on what kernels ahead write */
        lr_cu_wait();
        n_row = *a.m.n_row;
    }
    uint32_t units = many_units<N, WHOLE>(a, n_row);
    uint32_t from = WHOLE ? 0 : rank * a.chain, to = WHOLE ? cols : min(cols, from + a.chain);
    many_ring r(a.w_slots);
    for (uint32_t u = cluster; u < units; u += step) {
        many_tile t = many_at<N, WHOLE>(a, u, n_row, rank);
        for (uint32_t c = from; c < to; c += F::cols, r.next()) {
            uint32_t bar = lr_cu_smem(&bars->w_full[r.at]);
            lr_cu_bar_wait(lr_cu_smem(&bars->w_empty[r.at]), r.round ^ 1);
            lr_cu_bar_expect(bar, bytes);
            lr_cu_box3(ring + r.at * bytes, &a.w[t.mat], bar, c / F::cols * F::row_bytes / 16 * 8, t.row, t.expert);
        }
    }
}

template <int N, bool LO, bool WHOLE>
static __device__ void many_fill_x(const lr_cu_many &a, many_bars *bars, uint32_t ring, uint32_t cluster, uint32_t step,
                                   uint32_t rank)
{
    constexpr uint32_t bytes = N * 128;
    lr_cu_wait();
    uint32_t n_row = *a.m.n_row, units = many_units<N, WHOLE>(a, n_row), cols = a.m.w[0].cols;
    uint32_t from = WHOLE ? 0 : rank * a.chain, to = many_up(WHOLE ? cols : min(cols, from + a.chain), a.w_cols);
    many_ring r(a.x_slots);
    for (uint32_t u = cluster; u < units; u += step) {
        many_tile t = many_at<N, WHOLE>(a, u, n_row, rank);
        for (uint32_t c = from; c < to; c += MANY_STEP, r.next()) {
            uint32_t bar = lr_cu_smem(&bars->x_full[r.at]), dst = ring + r.at * (bytes << LO);
            lr_cu_bar_wait(lr_cu_smem(&bars->x_empty[r.at]), r.round ^ 1);
            lr_cu_bar_expect(bar, bytes << LO);
            if (WHOLE && a.pair > 1) {
                uint32_t half = rank * (N / 2);
                lr_cu_box2_all(dst + half * 128, &a.x_hi, bar, c, t.first + half, 3);
                if (LO) lr_cu_box2_all(dst + bytes + half * 128, &a.x_lo, bar, c, t.first + half, 3);
                continue;
            }
            lr_cu_box2(dst, &a.x_hi, bar, c, t.first);
            if (LO) lr_cu_box2(dst + bytes, &a.x_lo, bar, c, t.first);
        }
        if (a.resident) break;
    }
}

/* Scattered rows: thread i of MANY_GATHER takes piece i % 8 of rows i / 8, i / 8 + 8, ... */
template <int N, bool LO, bool WHOLE>
static __device__ void many_gather_x(const lr_cu_many &a, many_bars *bars, uint32_t ring, uint32_t cluster,
                                     uint32_t step, uint32_t rank, uint32_t i)
{
    constexpr uint32_t bytes = N * 128;
    lr_cu_wait();
    uint32_t n_row = *a.m.n_row, units = many_units<N, WHOLE>(a, n_row), cols = a.m.w[0].cols;
    uint32_t from = WHOLE ? 0 : rank * a.chain, to = many_up(WHOLE ? cols : min(cols, from + a.chain), a.w_cols);
    uint32_t row0 = i / 8, put = row0 * 128 + ((i % 8) ^ row0) * 16, n_open = 0;
    many_ring r(a.x_slots), open(a.x_slots);
    bool late = a.x_slots > MANY_LAG + 1; /* products keep a slot until they have begun on the next */
    for (uint32_t u = cluster; u < units; u += step) {
        many_tile t = many_at<N, WHOLE>(a, u, n_row, rank);
        for (uint32_t c = from; c < to; c += MANY_STEP, r.next()) {
            uint32_t dst = ring + r.at * (bytes << LO) + put, col = c + i % 8 * 8;
            lr_cu_bar_wait(lr_cu_smem(&bars->x_empty[r.at]), r.round ^ 1);
#pragma unroll 4
            for (uint32_t k = 0; k < N / 8; k++) {
                uint32_t row = row0 + k * 8;
                bool real = row < t.n && col < a.m.x.stride;
                uint64_t at = 0;
                if (real) at = (uint64_t)many_x_row(a.m, many_y_row(a.m, t, row)) * a.m.x.stride + col;
                lr_cu_copy16(dst + k * 1024, a.m.x.hi + at, real);
                if (LO) lr_cu_copy16(dst + bytes + k * 1024, a.m.x.lo + at, real);
            }
            lr_cu_copy_end();
            if (late && n_open++ < MANY_LAG) continue;
            if (late)
                lr_cu_copied<MANY_LAG>();
            else
                lr_cu_copied<0>();
            lr_cu_hand();
            lr_cu_bar_arrive(lr_cu_smem(&bars->x_full[open.at]));
            open.next();
        }
    }
    lr_cu_copied<0>();
    lr_cu_hand();
    for (; open.at != r.at || open.round != r.round; open.next()) lr_cu_bar_arrive(lr_cu_smem(&bars->x_full[open.at]));
}

/* ---------------------------------------------------------------- products */
struct many_math {
    const uint8_t *w;
    uint32_t x;
    many_bars *bars;
    many_ring rw, rx;
    uint32_t row, lane, pair;
    bool keep; /* x's slots are filled once */
};

static __device__ __forceinline__ void many_free_x(const many_math &q, uint32_t slot)
{
    if (q.keep) return;
    uint32_t bar = lr_cu_smem(&q.bars->x_empty[slot]);
    if (q.pair > 1) {
        if (q.lane < q.pair) lr_cu_bar_arrive_peer(lr_cu_peer(bar, q.lane));
    } else if (!q.lane) {
        lr_cu_bar_arrive(bar);
    }
}

/* d = sum over columns from .. to - 1 of one chain */
template <uint32_t FMT, int N, bool LO>
static __device__ __forceinline__ void many_chain(float (&d)[N / 2], many_math &q, const lr_cu_many &a,
                                                  const many_tile &t, uint32_t from, uint32_t to)
{
    using F = many_fmt<FMT>;
    constexpr bool B = F::bf16;
    constexpr uint32_t x_bytes = (N * 128) << LO;
    uint32_t used = ~0u;
    uint32_t op[2][8], op_lo[2][8];
#pragma unroll
    for (int i = 0; i < N / 2; i++) d[i] = 0;
    for (uint32_t c = from; c < to; c += F::cols) {
        lr_cu_bar_wait(lr_cu_smem(&q.bars->w_full[q.rw.at]), q.rw.round);
        const uint8_t *slot = q.w + q.rw.at * (MANY_ROWS * F::pitch) + c / F::cols * F::row_bytes % 16;
        typename F::rows rows;
        F::begin(rows, slot, a.m.w[t.mat], t.expert, t.row, q.row, c, q.lane % 4);
#pragma unroll
        for (int s = 0; s < (int)F::cols / MANY_STEP; s++) {
            lr_cu_bar_wait(lr_cu_smem(&q.bars->x_full[q.rx.at]), q.rx.round);
            uint64_t desc = lr_cu_wgmma_desc(q.x + q.rx.at * x_bytes);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                F::frag(op[h], op_lo[h], rows, slot, q.row, s * 2 + h, q.lane % 4);
#pragma unroll
                for (int k = 0; k < 8; k++) {
                    lr_cu_keep(op[h][k]);
                    if (LO && F::own_lo) lr_cu_keep(op_lo[h][k]);
                }
                lr_cu_wgmma_fence();
#pragma unroll
                for (int k = 0; k < 2; k++) {
                    lr_cu_wgmma<N, B>(d, op[h] + k * 4, desc + h * 4 + k * 2);
                    if (LO) lr_cu_wgmma<N, B>(d, op[h] + k * 4, desc + N * 8 + h * 4 + k * 2);
                    if (LO && F::own_lo) lr_cu_wgmma<N, B>(d, op_lo[h] + k * 4, desc + h * 4 + k * 2);
                }
                lr_cu_wgmma_end();
                lr_cu_wgmma_wait<1>();
                if (!h && used != ~0u) many_free_x(q, used);
            }
            used = q.rx.at;
            q.rx.next();
        }
        __syncwarp();
        if (!q.lane) lr_cu_bar_arrive(lr_cu_smem(&q.bars->w_empty[q.rw.at]));
        q.rw.next();
    }
    lr_cu_wgmma_wait<0>();
#pragma unroll
    for (int i = 0; i < N / 2; i++) lr_cu_keep(d[i]);
    many_free_x(q, used);
}

/* ---------------------------------------------------------------- chains of a cluster */
/* This block's chain sums of a tile, where the cluster's other blocks read them: [N][MANY_LINE]. */
template <int N>
static __device__ __forceinline__ void many_lay(float *part, uint32_t n, const float (&d)[N / 2], uint32_t row,
                                                uint32_t lane)
{
#pragma unroll
    for (int j = 0; j < N / 8; j++) {
        if (j * 8 >= n) break;
        float *p = part + (j * 8 + lane % 4 * 2) * MANY_LINE + row;
        p[0] = d[j * 4], p[MANY_LINE] = d[j * 4 + 1], p[8] = d[j * 4 + 2], p[MANY_LINE + 8] = d[j * 4 + 3];
    }
}

/* Adds the chains' sums of every n_chain-th row of x, beginning at `rank`, and stores them. */
static __device__ __forceinline__ void many_add(const lr_cu_many &a, const many_tile &t, uint32_t part, uint32_t rank,
                                                uint32_t i)
{
    const lr_cu_mat &w = a.m.w[t.mat];
    uint32_t row = i % 32 * 4;
    for (uint32_t k = rank + i / 32 * a.n_chain; k < t.n; k += MANY_MATH / 32 * a.n_chain) {
        float4 v[8];
#pragma unroll
        for (uint32_t c = 0; c < 8; c++)
            if (c < a.n_chain) v[c] = lr_cu_peer_float4(lr_cu_peer(part + (k * MANY_LINE + row) * 4, c));
#pragma unroll
        for (uint32_t c = 1; c < 8; c++) {
            if (c >= a.n_chain) break;
            v[0].x = __fadd_rn(v[0].x, v[c].x), v[0].y = __fadd_rn(v[0].y, v[c].y);
            v[0].z = __fadd_rn(v[0].z, v[c].z), v[0].w = __fadd_rn(v[0].w, v[c].w);
        }
        uint32_t yr = many_y_row(a.m, t, k), r = t.row + row;
        float scale = a.m.x.scale ? a.m.x.scale[many_x_row(a.m, yr)] : 1.0f, sum[4] = {v[0].x, v[0].y, v[0].z, v[0].w};
        float *y = w.y + (uint64_t)yr * w.y_stride + r;
        const float *bias = w.bias ? w.bias + (uint64_t)t.expert * w.rows + r : NULL;
#pragma unroll
        for (uint32_t e = 0; e < 4; e++)
            if (r + e < w.rows) sum[e] = many_finish(sum[e], scale, bias, bias ? bias[e] : 0, a.m.add, y + e);
        if (r + 3 < w.rows && (uintptr_t)y % 16 == 0) {
            *(float4 *)y = make_float4(sum[0], sum[1], sum[2], sum[3]);
            continue;
        }
#pragma unroll
        for (uint32_t e = 0; e < 4; e++)
            if (r + e < w.rows) y[e] = sum[e];
    }
}

/* Tells all blocks of the cluster; every thread's writes and reads so far come before. */
static __device__ __forceinline__ void many_tell(uint64_t *bar, uint32_t n, uint32_t i)
{
    lr_cu_cluster_fence();
    lr_cu_some_sync(1, MANY_MATH);
    if (i < n) lr_cu_bar_arrive_peer(lr_cu_peer(lr_cu_smem(bar), i));
}

template <uint32_t FMT, int N, bool LO>
static __device__ __forceinline__ void many_whole(const lr_cu_many &a, many_math &q, uint32_t cluster, uint32_t step,
                                                  uint32_t rank)
{
    uint32_t n_row = *a.m.n_row, units = many_units<N, true>(a, n_row), cols = a.m.w[0].cols;
    for (uint32_t u = cluster; u < units; u += step) {
        many_tile t = many_at<N, true>(a, u, n_row, rank);
        float d[N / 2], y[N / 2];
#pragma unroll
        for (int i = 0; i < N / 2; i++) y[i] = 0;
        for (uint32_t c = 0; c < cols; c += a.chain) {
            many_chain<FMT, N, LO>(d, q, a, t, c, min(cols, c + a.chain));
#pragma unroll
            for (int i = 0; i < N / 2; i++) y[i] = __fadd_rn(y[i], d[i]);
        }
        many_store<N>(a, t, y, q.row, q.lane);
    }
}

template <uint32_t FMT, int N, bool LO>
static __device__ __forceinline__ void many_split(const lr_cu_many &a, many_math &q, float *parts, uint32_t cluster,
                                                  uint32_t step, uint32_t rank, uint32_t i)
{
    uint32_t n_row = *a.m.n_row, units = many_units<N, false>(a, n_row), cols = a.m.w[0].cols;
    uint32_t from = rank * a.chain, to = min(cols, from + a.chain), it = 0;
    bool two = a.parts > 1;
    many_tile last;
    for (uint32_t u = cluster; u < units; u += step, it++) {
        many_tile t = many_at<N, false>(a, u, n_row, rank);
        uint32_t buf = two ? it & 1 : 0;
        float d[N / 2];
        if (q.keep) q.rx = many_ring(a.x_slots);
        many_chain<FMT, N, LO>(d, q, a, t, from, to);
        if (two && it) {
            uint32_t b = (it - 1) & 1;
            lr_cu_bar_wait(lr_cu_smem(&q.bars->ready[b]), (it - 1) >> 1 & 1);
            many_add(a, last, lr_cu_smem(parts + b * (N * MANY_LINE)), rank, i);
        }
        many_lay<N>(parts + buf * (N * MANY_LINE), t.n, d, q.row, q.lane);
        many_tell(&q.bars->ready[buf], a.n_chain, i);
        last = t;
        if (two) continue;
        lr_cu_bar_wait(lr_cu_smem(&q.bars->ready[0]), it & 1);
        many_add(a, t, lr_cu_smem(parts), rank, i);
        many_tell(&q.bars->done, a.n_chain, i);
        lr_cu_bar_wait(lr_cu_smem(&q.bars->done), it & 1);
    }
    if (two && it) {
        uint32_t b = (it - 1) & 1;
        lr_cu_bar_wait(lr_cu_smem(&q.bars->ready[b]), (it - 1) >> 1 & 1);
        many_add(a, last, lr_cu_smem(parts + b * (N * MANY_LINE)), rank, i);
    }
}

static __device__ void many_begin(const lr_cu_many &a, many_bars *bars, bool whole)
{
    if (!threadIdx.x) {
        uint32_t fills = a.m.k ? MANY_GATHER : 1, empties = MANY_MATH / 32 * (whole ? a.pair : 1);
        for (uint32_t i = 0; i < a.w_slots; i++) {
            lr_cu_bar_init(lr_cu_smem(&bars->w_full[i]), 1);
            lr_cu_bar_init(lr_cu_smem(&bars->w_empty[i]), MANY_MATH / 32);
        }
        for (uint32_t i = 0; i < a.x_slots; i++) {
            lr_cu_bar_init(lr_cu_smem(&bars->x_full[i]), fills);
            lr_cu_bar_init(lr_cu_smem(&bars->x_empty[i]), empties);
        }
        for (uint32_t i = 0; i < 2; i++) lr_cu_bar_init(lr_cu_smem(&bars->ready[i]), a.n_chain);
        lr_cu_bar_init(lr_cu_smem(&bars->done), a.n_chain);
        lr_cu_bar_init_end();
        lr_cu_hand();
    }
    lr_cu_cluster_sync();
}
#endif

/* The kernels of a format, and what their launch needs to know of it. */
enum { MANY_SPLIT_32, MANY_SPLIT_64, MANY_SPLIT_128, MANY_WHOLE_192, MANY_LO_128, MANY_KINDS };
typedef void (*lr_cu_many_fn)(LR_CU_TAKES(lr_cu_many));
struct lr_cu_many_entry {
    lr_cu_many_fn kernel[MANY_KINDS], any;
    uint32_t cols, row_bytes, pitch, any_pitch; /* a slot of W */
    bool swizzle;
};
/* NULL: not of these; one file of kernels each */
const lr_cu_many_entry *lr_cu_many_float(uint32_t fmt);
const lr_cu_many_entry *lr_cu_many_simple(uint32_t fmt);
const lr_cu_many_entry *lr_cu_many_k(uint32_t fmt);
const lr_cu_many_entry *lr_cu_many_rest(uint32_t fmt);

template <uint32_t FMT, int N, bool LO, bool WHOLE>
__global__ void __launch_bounds__(MANY_THREADS, 1) lr_cu_many_kernel(LR_CU_ARG(lr_cu_many) a)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    uint8_t *mem = lr_cu_shared();
    using F = many_fmt<FMT>;
    many_bars *bars = (many_bars *)mem;
    uint8_t *w = mem + MANY_HEAD, *x = w + a.w_slots * (MANY_ROWS * F::pitch);
    float *parts = (float *)(x + a.x_slots * ((N * 128) << LO));
    uint32_t i = threadIdx.x, warp = i / 32, lane = i % 32, size = WHOLE ? a.pair : a.n_chain, rank = lr_cu_rank();
    uint32_t cluster = blockIdx.x / size, step = gridDim.x / size;
    lr_cu_begin();
    many_begin(a, bars, WHOLE);
    if (warp < MANY_MATH / 32) {
        if (WHOLE) lr_cu_registers<232>();
        uint32_t g = lane / 4; /* which of eight rows: neighbours four apart, so that two meet no common bank */
        many_math q = {w, lr_cu_smem(x), bars, many_ring(a.w_slots), many_ring(a.x_slots),
                       warp * 16 + g % 2 * 4 + g / 2, lane, WHOLE ? a.pair : 1, !WHOLE && a.resident};
        lr_cu_wait();
        if (WHOLE)
            many_whole<FMT, N, LO>(a, q, cluster, step, rank);
        else
            many_split<FMT, N, LO>(a, q, parts, cluster, step, rank, i);
    } else {
        if (WHOLE) lr_cu_fewer_registers<40>();
        if (warp == 8 && !lane) many_fill_w<FMT, N, WHOLE>(a, bars, lr_cu_smem(w), cluster, step, rank);
        if (warp == 9 && !lane && !a.m.k) many_fill_x<N, LO, WHOLE>(a, bars, lr_cu_smem(x), cluster, step, rank);
        if (warp >= 10 && a.m.k) {
            many_gather_x<N, LO, WHOLE>(a, bars, lr_cu_smem(x), cluster, step, rank, i - 10 * 32);
        }
    }
    __syncwarp();
    lr_cu_cluster_sync();
#endif
}

#include "many_any.cuh"

template <uint32_t FMT> static const lr_cu_many_entry *many_entry()
{
    using F = many_fmt<FMT>;
    static const lr_cu_many_entry e = {
        {lr_cu_many_kernel<FMT, F::own_lo ? 128 : 32, F::own_lo, false>,
         lr_cu_many_kernel<FMT, F::own_lo ? 128 : 64, F::own_lo, false>,
         lr_cu_many_kernel<FMT, F::own_lo ? 128 : 128, F::own_lo, false>,
         lr_cu_many_kernel<FMT, F::own_lo ? 128 : 192, F::own_lo, !F::own_lo>,
         lr_cu_many_kernel<FMT, 128, true, false>},
        lr_cu_many_any<FMT>,
        F::cols, F::row_bytes, F::pitch, any_fmt<FMT>::pitch, F::swizzle};
    return &e;
}
#endif
