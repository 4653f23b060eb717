/* mm_few.cu - products with at most eight rows of x: one token, or a few, or what few tokens send to each expert.
 *
 * Owns: lr_cu_mm_few (cuda.h). Refuses to own: the formats (formats.cuh), products with more rows (mm_many.cu).
 *
 * Bound by memory: all that matters is that enough bytes are on their way to each multiprocessor at any time, and
 * that the arithmetic on them stays in their shadow. A block of eight warps takes tiles of 8 rows of W. A unit of
 * work is one chain of one tile; a warp takes every eighth unit of its block. Each warp has its own ring of shared
 * memory, filled by asynchronous copies some stages ahead, across units, and before the kernels ahead have ended
 * (weights are nobody's output). W is the B operand of m16n8k16, the rows of x are the upper half of A: a lane
 * decodes the row it copied. The chains of a tile meet in shared memory, where one warp adds them in rising order.
 */
#include "formats.cuh"
#include "instr.cuh"
#include "launch.cuh"

#include <stdlib.h>

enum { WARPS = 8, TILE = 8, ROUNDS = 3 };

typedef struct few_args {
    lr_cu_mm m;
    uint32_t chain, n_chain; /* columns of one, how many */
    uint32_t row_bytes;
    uint32_t first_tile[LR_CU_MATS + 1]; /* of each matrix */
} few_args;

/* ---------------------------------------------------------------- shapes */
/* A stage holds, of each row, `columns` of them: about 256 bytes. */
template <uint32_t FMT> struct few_shape {
    typedef lr_cu_fmt<FMT> fmt;
    static constexpr uint32_t per_256 = 256 / fmt::span * fmt::bytes;
    static constexpr uint32_t columns = per_256 > 512 ? 64 : per_256 == 512 ? 128 : per_256 >= 160 ? 256 : 512;
    static constexpr uint32_t bytes = columns / fmt::span * fmt::bytes;
    static constexpr uint32_t body = columns < 256 ? columns : 256;
    /* Copies begin at a multiple of `from`: of 32, the unit of memory, where rows' pieces are not such multiples
     * anyway. */
    static constexpr uint32_t from = bytes % 32 == 0 ? 16 : 32;
    /* They end at a multiple of `odd`, and so does what is before their first byte: a chain may begin within a stage. */
    static constexpr uint32_t step = columns > 256 ? per_256 : bytes;
    static constexpr uint32_t odd = step % 16 == 0 ? 16 : step % 8 == 0 ? 8 : step % 4 == 0 ? 4 : 2;
    static constexpr uint32_t pieces = (bytes + from - (from == 16 ? 16 : odd) + 15) / 16;
    static constexpr uint32_t pitch = 16 * pieces;
    static constexpr uint32_t stage = TILE * pitch;
    static constexpr uint32_t depth = 40960 / WARPS / stage < 2 ? 2 : 40960 / WARPS / stage;
    static constexpr uint32_t ring = WARPS * depth * stage;
    static constexpr uint32_t smem = ring + ROUNDS * WARPS * TILE * LR_CU_FEW * 4;
};

/* c += x of 16 columns (rows 0 .. 7) times W of them (8 rows). */
template <bool BF16>
__device__ __forceinline__ void multiply(float c[4], uint32_t x0, uint32_t x1, uint32_t w0, uint32_t w1)
{
    const uint32_t x[4] = {x0, 0, x1, 0}, w[2] = {w0, w1};
    lr_cu_mma<BF16>(c, x, w);
}

/* ---------------------------------------------------------------- where things lie */
/* A tile: eight rows of a matrix from `row` on, and the rows of x that meet them. */
struct tile_at {
    uint32_t mat, row, expert, first, n_x;
};

__device__ __forceinline__ tile_at find_tile(const few_args &a, uint32_t tile, uint32_t n_x)
{
    tile_at p = {0, 0, 0, 0, n_x};
    if (a.m.k) {
        uint32_t rows = a.first_tile[LR_CU_MATS], at = tile / rows;
        const uint32_t *t = a.m.sort.tiles + 3 * (size_t)at;
        tile -= at * rows;
        p.expert = t[0];
        p.first = t[1];
        p.n_x = t[2];
    }
    while (p.mat + 1 < a.m.n && tile >= a.first_tile[p.mat + 1]) p.mat++;
    p.row = (tile - a.first_tile[p.mat]) * TILE;
    return p;
}

/* Row i of those that meet a tile, as routed products number them. */
__device__ __forceinline__ uint32_t routed_row(const few_args &a, const tile_at &p, uint32_t i)
{
    return a.m.k ? a.m.sort.rows[p.first + i] : i;
}
__device__ __forceinline__ uint32_t row_of_x(const few_args &a, uint32_t routed)
{
    return a.m.k && a.m.in_mul == 1 ? routed / a.m.k : routed;
}
__device__ __forceinline__ const uint8_t *row_of_w(const few_args &a, const tile_at &p, uint32_t i)
{
    const lr_cu_mat &w = a.m.w[p.mat];
    return w.data + p.expert * w.mat_stride + min(p.row + i, w.rows - 1) * w.row_stride;
}
__device__ __forceinline__ const uint8_t *line_of_aux(const few_args &a, const tile_at &p, uint32_t i)
{
    const lr_cu_mat &w = a.m.w[p.mat];
    uint32_t row = min(p.row + i, w.rows - 1);
    if (!w.aux) return NULL;
    return w.aux + p.expert * w.aux_mat_stride + (w.aux_rows ? (w.aux_first + row) / w.aux_rows : row) * w.aux_stride;
}

/* A warp's walk over its units: every eighth of the block's, a tile being n_chain of them. */
struct walk {
    uint32_t tile, chain; /* tile: of all */
    __device__ __forceinline__ void begin(const few_args &a, uint32_t warp)
    {
        tile = blockIdx.x;
        chain = warp;
        settle(a);
    }
    __device__ __forceinline__ void next(const few_args &a)
    {
        chain += WARPS;
        settle(a);
    }
    __device__ __forceinline__ void settle(const few_args &a)
    {
        while (chain >= a.n_chain) {
            chain -= a.n_chain;
            tile += gridDim.x;
        }
    }
};

/* ---------------------------------------------------------------- copying */
template <uint32_t FMT> struct copier {
    typedef few_shape<FMT> shape;
    walk at;
    const uint8_t *row; /* this lane's */
    uint32_t off, end;  /* in it: of the next stage, of the chain */
    uint32_t to, slot;  /* in shared memory: this lane's place in stage 0; the next stage */
    bool more;

    __device__ __forceinline__ void enter(const few_args &a, uint32_t n_tile)
    {
        more = at.tile < n_tile;
        if (!more) return;
        tile_at p = find_tile(a, at.tile, 0);
        row = row_of_w(a, p, threadIdx.x % 32 / 4);
        off = at.chain * (a.chain / lr_cu_fmt<FMT>::span * lr_cu_fmt<FMT>::bytes);
        end = min(off + a.chain / lr_cu_fmt<FMT>::span * lr_cu_fmt<FMT>::bytes, a.row_bytes);
    }
    __device__ __forceinline__ void begin(const few_args &a, uint32_t n_tile, uint32_t ring)
    {
        uint32_t lane = threadIdx.x % 32;
        to = ring + lane / 4 * shape::pitch + lane % 4 * 16;
        slot = 0;
        at.begin(a, threadIdx.x / 32);
        enter(a, n_tile);
    }
    /* One stage, or nothing when all is under way. */
    __device__ __forceinline__ void step(const few_args &a, uint32_t n_tile)
    {
        if (more) {
            uint32_t lane4 = threadIdx.x % 4;
            const uint8_t *p = row + off;
            uint32_t mis = (uint32_t)(uintptr_t)p % shape::from;
            int want = (int)(min(end - off, shape::bytes) + mis - lane4 * 16);
            int room = (int)(shape::bytes + mis - lane4 * 16);
            uint32_t dst = to + slot * shape::stage;
            p += (int)(lane4 * 16) - (int)mis;
#pragma unroll
            for (int i = 0; i < (int)(shape::pieces + 3) / 4; i++)
                if (64 * i < room) lr_cu_stream16(dst + 64 * i, p + 64 * i, (uint32_t)min(max(want - 64 * i, 0), 16));
            slot = slot + 1 == shape::depth ? 0 : slot + 1;
            off += shape::bytes;
            if (off >= end) {
                at.next(a);
                enter(a, n_tile);
            }
        }
        lr_cu_copy_end();
    }
};

/* ---------------------------------------------------------------- products */
struct x_at {
    const uint16_t *hi, *lo; /* this lane's row, column 8t; NULL hi: there is no such row */
};

template <uint32_t FMT, bool LO>
__device__ __forceinline__ void group_product(const typename lr_cu_fmt<FMT>::state &s, const uint8_t *at, int group,
                                              const x_at &x, uint32_t col, float c[4])
{
    typedef lr_cu_fmt<FMT> fmt;
    uint4 xh = {}, xl = {};
    uint32_t hi[4], lo[4];
    if (x.hi) xh = *(const uint4 *)(x.hi + col);
    if (LO && x.hi) xl = *(const uint4 *)(x.lo + col);
    fmt::frag(s, at, group, threadIdx.x % 4, hi, lo);
    multiply<fmt::bf16>(c, xh.x, xh.y, hi[0], hi[1]);
    if (LO) multiply<fmt::bf16>(c, xl.x, xl.y, hi[0], hi[1]);
    if (fmt::has_lo) multiply<fmt::bf16>(c, xh.x, xh.y, lo[0], lo[1]);
    multiply<fmt::bf16>(c, xh.z, xh.w, hi[2], hi[3]);
    if (LO) multiply<fmt::bf16>(c, xl.z, xl.w, hi[2], hi[3]);
    if (fmt::has_lo) multiply<fmt::bf16>(c, xh.z, xh.w, lo[2], lo[3]);
}

/* `body` columns from col on, of which `left` are there. */
template <uint32_t FMT, bool LO, bool WHOLE>
__device__ __forceinline__ void body_product(const uint8_t *at, const uint8_t *line, const x_at &x, uint32_t col,
                                             uint32_t left, uint32_t cols, float c[4])
{
    typedef lr_cu_fmt<FMT> fmt;
#pragma unroll
    for (uint32_t i = 0; i < few_shape<FMT>::body; i += fmt::span) {
        typename fmt::state s;
        if (!WHOLE && i >= left) break;
        fmt::begin(s, at + i / fmt::span * fmt::bytes, fmt::aux(line, col + i, cols), threadIdx.x % 4);
#pragma unroll
        for (uint32_t g = 0; g < fmt::span / 32; g++)
            if (WHOLE || i + 32 * g < left)
                group_product<FMT, LO>(s, at + i / fmt::span * fmt::bytes, (int)g, x, col + i + 32 * g, c);
    }
}

template <uint32_t FMT, bool LO>
__device__ __forceinline__ void stage_product(const uint8_t *at, const uint8_t *line, const x_at &x, uint32_t col,
                                              uint32_t end, uint32_t cols, float c[4])
{
    typedef few_shape<FMT> shape;
#pragma unroll 1
    for (uint32_t i = 0; i < shape::columns && col < end; i += shape::body, col += shape::body) {
        const uint8_t *p = at + i / lr_cu_fmt<FMT>::span * lr_cu_fmt<FMT>::bytes;
        if (end - col >= shape::body) body_product<FMT, LO, true>(p, line, x, col, shape::body, cols, c);
        else body_product<FMT, LO, false>(p, line, x, col, end - col, cols, c);
    }
}

/* ---------------------------------------------------------------- sums */
/* What one warp needs to finish a tile: read ahead of the products that it waits for. */
struct finish {
    tile_at p;
    bool mine;
    float old[2], bias[2], scale[2];
    float *y[2];

    __device__ __forceinline__ void begin(const few_args &a, uint32_t tile, uint32_t n_x)
    {
        uint32_t lane = threadIdx.x % 32;
        p = find_tile(a, tile, n_x);
        const lr_cu_mat &w = a.m.w[p.mat];
        uint32_t row = p.row + lane % TILE;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            uint32_t j = lane / TILE + 4 * i;
            y[i] = NULL;
            old[i] = bias[i] = 0;
            scale[i] = 1;
            if (j >= p.n_x || row >= w.rows) continue;
            uint32_t routed = routed_row(a, p, j);
            y[i] = w.y + (size_t)routed * w.y_stride + row;
            if (a.m.add) old[i] = *y[i];
            if (w.bias) bias[i] = w.bias[(size_t)p.expert * w.rows + row];
            if (a.m.x.scale) scale[i] = a.m.x.scale[row_of_x(a, routed)];
        }
    }
    /* `unit`: of the tile's first chain, counted in the block. */
    __device__ __forceinline__ void end(const few_args &a, const float *sums, uint32_t unit)
    {
        uint32_t lane = threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            if (!y[i]) continue;
            float sum = 0;
            for (uint32_t c = 0; c < a.n_chain; c++) {
                float v = sums[(unit + c) % (ROUNDS * WARPS) * (TILE * LR_CU_FEW) + lane + 32 * i];
                sum = c ? __fadd_rn(sum, v) : v;
            }
            sum = __fmul_rn(sum, scale[i]);
            if (a.m.w[p.mat].bias) sum = __fadd_rn(sum, bias[i]);
            if (a.m.add) sum = __fadd_rn(sum, old[i]);
            *y[i] = sum;
        }
    }
};

/* ---------------------------------------------------------------- the kernel */
template <uint32_t FMT, bool LO> __global__ void __launch_bounds__(WARPS * 32, 3) few(LR_CU_ARG(few_args) a)
{
    typedef few_shape<FMT> shape;
    uint8_t *smem = lr_cu_shared();
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    uint8_t *ring = smem + warp * shape::depth * shape::stage;
    float *sums = (float *)(smem + shape::ring);
    uint32_t n_tile = a.first_tile[LR_CU_MATS];
    copier<FMT> copy;

    lr_cu_begin();
    if (a.m.k) {
        lr_cu_wait();
        n_tile *= *a.m.sort.n_tile;
    }
    copy.begin(a, n_tile, lr_cu_smem(ring));
#pragma unroll 1
    for (uint32_t i = 0; i + 1 < shape::depth; i++) copy.step(a, n_tile);
    if (!a.m.k) lr_cu_wait();
    const uint32_t n_x = min(*a.m.n_row, (uint32_t)LR_CU_FEW), cols = a.m.w[0].cols;
    if (n_x == 0) {
        lr_cu_copied<0>();
        return;
    }

    const uint32_t own = n_tile > blockIdx.x ? (n_tile - blockIdx.x - 1) / gridDim.x + 1
                                             : 0; /* tiles of this block */
    const uint32_t n_round = (own * a.n_chain + WARPS - 1) / WARPS;
    uint32_t slot = 0, done = 0; /* done: tiles finished */
    walk at;
    at.begin(a, warp);
#pragma unroll 1
    for (uint32_t round = 0; round < n_round; round++, at.next(a)) {
        /* The tile, of those whose last unit is of this round, that this warp finishes. */
        uint32_t upto = min((round + 1) * WARPS / a.n_chain, own), mine = done + (warp - done) % WARPS;
        finish f;
        if (mine < upto) f.begin(a, blockIdx.x + mine * gridDim.x, n_x);
        if (at.tile < n_tile) {
            tile_at p = find_tile(a, at.tile, n_x);
            x_at x = {NULL, NULL};
            if (lane / 4 < p.n_x) {
                size_t from = (size_t)row_of_x(a, routed_row(a, p, lane / 4)) * a.m.x.stride + 8 * (lane % 4);
                x.hi = a.m.x.hi + from;
                x.lo = LO ? a.m.x.lo + from : NULL;
            }
            const uint8_t *line = lr_cu_fmt<FMT>::has_aux ? line_of_aux(a, p, lane / 4) : NULL;
            uint32_t col = at.chain * a.chain, end = min(col + a.chain, cols);
            uint32_t from = (uint32_t)(uintptr_t)row_of_w(a, p, lane / 4) +
                            col / lr_cu_fmt<FMT>::span * lr_cu_fmt<FMT>::bytes;
            float c[4] = {};
#pragma unroll 1
            for (; col < end; col += shape::columns, from += shape::bytes) {
                lr_cu_copied<shape::depth - 2>();
                __syncwarp();
                copy.step(a, n_tile);
                stage_product<FMT, LO>(ring + slot * shape::stage + lane / 4 * shape::pitch + from % shape::from,
                                       line, x, col, end, cols, c);
                slot = slot + 1 == shape::depth ? 0 : slot + 1;
            }
            float *to = sums + (round % ROUNDS * WARPS + warp) * (TILE * LR_CU_FEW) + lane / 4 * TILE + lane % 4 * 2;
            *(float2 *)to = make_float2(c[0], c[1]);
        }
        __syncthreads();
        if (mine < upto) f.end(a, sums, mine * a.n_chain);
        done = max(done, upto);
    }
}

/* ---------------------------------------------------------------- host */
template <uint32_t FMT, bool LO> static cudaError_t launch(const lr_cu_device *d, const few_args &a, cudaStream_t s)
{
    static bool ready[16];
    uint32_t n_tile = a.first_tile[LR_CU_MATS] * (a.m.k ? a.m.max_row * a.m.k : 1);
    uint32_t most = 3u * (uint32_t)d->n_sm, grid = n_tile < most ? n_tile : most; /* blocks that fit at once */
    if (!ready[d->id % 16]) {
        cudaError_t e = cudaFuncSetAttribute(few<FMT, LO>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                             few_shape<FMT>::smem);
        if (e != cudaSuccess) return e;
        ready[d->id % 16] = true;
    }
    return lr_cu_launch(d, few<FMT, LO>, grid, WARPS * 32, few_shape<FMT>::smem, s, a);
}

extern "C" bool lr_cu_takes_bf16(uint32_t fmt) { return fmt == LR_FMT_BF16 || fmt == LR_FMT_F32; }
extern "C" bool lr_cu_takes_lo(uint32_t fmt) { return fmt == LR_FMT_F32; }

/* Bytes of a row's numbers. */
static uint32_t row_bytes(uint32_t fmt, uint32_t cols)
{
    switch (fmt) {
#define LR_FMT(name, id, block, bytes) \
    case id: \
        return (cols + block - 1) / block * bytes;
#include "formats.def"
#undef LR_FMT
    default: return 0;
    }
}

extern "C" cudaError_t lr_cu_mm_few(const lr_cu_device *d, const lr_cu_mm *m, cudaStream_t s)
{
    few_args a = {};
    a.m = *m;
    a.chain = lr_cu_chain(m->w[0].cols);
    a.n_chain = (m->w[0].cols + a.chain - 1) / a.chain;
    a.row_bytes = row_bytes(m->w[0].fmt, m->w[0].cols);
    for (uint32_t i = 0; i < LR_CU_MATS; i++)
        a.first_tile[i + 1] = a.first_tile[i] + (i < m->n ? (m->w[i].rows + TILE - 1) / TILE : 0);
    if (a.first_tile[LR_CU_MATS] == 0 || a.row_bytes == 0) return cudaErrorInvalidValue;
    switch (m->w[0].fmt) {
#define LR_FMT(name, id, block, bytes) \
    case id: \
        return m->x.lo ? launch<id, true>(d, a, s) : launch<id, lr_cu_fmt<id>::has_lo>(d, a, s);
#include "formats.def"
#undef LR_FMT
    default: return cudaErrorInvalidValue;
    }
}
