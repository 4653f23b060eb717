/* many_any.cuh - products with many rows of x on any generation from 8.0 on: the same sums as many.cuh's, with mma.sync.
 *
 * Owns: that kernel. A block of four warps computes tiles of 64 rows of W by 64 rows of x; both come through two slots in
 * shared memory each, filled by cp.async one step of 64 columns ahead. Part of many.cuh.
 */
#ifndef LR_MANY_ANY_CUH
#define LR_MANY_ANY_CUH

enum { ANY_ROWS = 64, ANY_TOKENS = 64, ANY_THREADS = 128, ANY_X_PITCH = 144, ANY_X = ANY_TOKENS * ANY_X_PITCH };

template <uint32_t FMT> struct any_fmt {
    using F = lr_cu_fmt<FMT>;
    static constexpr uint32_t cols = many_fmt<FMT>::cols, row_bytes = many_fmt<FMT>::row_bytes, spans = cols / F::span;
    /* A row's part may begin at any byte of its first 16. */
    static constexpr uint32_t pitch = ((row_bytes + 30) / 16 | 1) * 16;
};

/* Columns from `col` on of the tile's rows of W, and of x; W's only where a slot begins. */
template <uint32_t FMT>
static __device__ __forceinline__ void any_fill(const lr_cu_many &a, const many_tile &t, uint32_t w, uint32_t x,
                                                uint32_t col, bool lo)
{
    using F = any_fmt<FMT>;
    const lr_cu_mat &m = a.m.w[t.mat];
    if (col % F::cols == 0) {
        uint64_t from = (uint64_t)(col / F::cols) * F::row_bytes, first = from / 16 * 16;
        uint64_t all = ((uint64_t)m.cols * F::row_bytes / F::cols + 15) / 16 * 16;
        constexpr uint32_t pieces = F::pitch / 16;
        for (uint32_t i = threadIdx.x; i < ANY_ROWS * pieces; i += ANY_THREADS) {
            uint32_t row = i / pieces, at = i % pieces * 16;
            bool real = t.row + row < m.rows && first + at < all;
            const uint8_t *src = m.data + t.expert * m.mat_stride;
            if (real) src += (t.row + row) * m.row_stride + first + at;
            lr_cu_copy16(w + row * F::pitch + at, src, real);
        }
    }
    uint32_t piece = threadIdx.x % 8, c = col + piece * 8;
    for (uint32_t row = threadIdx.x / 8; row < ANY_TOKENS; row += ANY_THREADS / 8) {
        bool real = row < t.n && c < a.m.x.stride;
        uint64_t at = 0;
        if (real) at = (uint64_t)many_x_row(a.m, many_y_row(a.m, t, row)) * a.m.x.stride + c;
        lr_cu_copy16(x + row * ANY_X_PITCH + piece * 16, a.m.x.hi + at, real);
        if (lo) lr_cu_copy16(x + ANY_X + row * ANY_X_PITCH + piece * 16, a.m.x.lo + at, real);
    }
    lr_cu_copy_end();
}

template <bool BF16> static __device__ __forceinline__ void any_mma(float *d, const uint32_t *a, const uint8_t *x)
{
    uint32_t b[2] = {*(const uint32_t *)x, *(const uint32_t *)(x + 16)};
    lr_cu_mma<BF16>(d, a, b);
}

/* d += 32 columns: operands of this warp's 16 rows, x's columns at `x` */
template <uint32_t FMT>
static __device__ __forceinline__ void any_group(float (&d)[ANY_TOKENS / 2], const uint32_t (&op)[8],
                                                 const uint32_t (&op_lo)[8], const uint8_t *x, bool lo)
{
    using F = lr_cu_fmt<FMT>;
#pragma unroll
    for (int k = 0; k < 2; k++)
#pragma unroll
        for (int j = 0; j < ANY_TOKENS / 8; j++) {
            const uint8_t *at = x + j * 8 * ANY_X_PITCH + k * 32;
            any_mma<F::bf16>(d + j * 4, op + k * 4, at);
            if (!lo) continue;
            any_mma<F::bf16>(d + j * 4, op + k * 4, at + ANY_X);
            if (F::has_lo) any_mma<F::bf16>(d + j * 4, op_lo + k * 4, at);
        }
}

/* The operands of rows r0 and r0 + 8 of a slot, its 32 columns `group`: as many_fmt's, another pitch. */
template <uint32_t FMT>
static __device__ __forceinline__ void any_frag(uint32_t (&op)[8], uint32_t (&op_lo)[8],
                                                const typename lr_cu_fmt<FMT>::state (&s)[2][any_fmt<FMT>::spans],
                                                const uint8_t *slot, int group, int t)
{
    using F = lr_cu_fmt<FMT>;
    constexpr int per = F::span / 32;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t h[4], l[4];
        F::frag(s[i][group / per], slot + i * 8 * any_fmt<FMT>::pitch + group / per * F::bytes, group % per, t, h, l);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            op[k * 2 + i] = h[k];
            if (F::has_lo) op_lo[k * 2 + i] = l[k];
        }
    }
}

template <uint32_t FMT>
__global__ void __launch_bounds__(ANY_THREADS) lr_cu_many_any(LR_CU_ARG(lr_cu_many) a)
{
    using F = lr_cu_fmt<FMT>;
    using A = any_fmt<FMT>;
    uint8_t *mem = lr_cu_shared();
    constexpr uint32_t w_bytes = ANY_ROWS * A::pitch;
    uint32_t lane = threadIdx.x % 32, r0 = threadIdx.x / 32 * 16 + lane / 4, cols = a.m.w[0].cols;
    bool lo = a.m.x.lo != NULL;
    uint32_t x_bytes = ANY_X << lo, steps = (cols + A::cols - 1) / A::cols * (A::cols / MANY_STEP);
    uint8_t *x_mem = mem + 2 * w_bytes;
    lr_cu_begin();
    lr_cu_wait();
    uint32_t n_row = *a.m.n_row, n = a.first[a.m.n];
    uint32_t units = a.m.k ? *a.m.sort.n_tile * n : (n_row + ANY_TOKENS - 1) / ANY_TOKENS * n;
    for (uint32_t u = blockIdx.x; u < units; u += gridDim.x) {
        many_tile t = many_at<ANY_TOKENS, false, ANY_ROWS>(a, u, n_row, 0);
        float d[ANY_TOKENS / 2], y[ANY_TOKENS / 2];
#pragma unroll
        for (int i = 0; i < ANY_TOKENS / 2; i++) d[i] = y[i] = 0;
        any_fill<FMT>(a, t, lr_cu_smem(mem), lr_cu_smem(x_mem), 0, lo);
        for (uint32_t step = 0; step < steps;) {
            uint32_t col = step * MANY_STEP, in = (uint32_t)((uint64_t)(col / A::cols) * A::row_bytes % 16);
            const uint8_t *slot = mem + col / A::cols % 2 * w_bytes + r0 * A::pitch + in;
            typename F::state s[2][A::spans];
            if (col && col % a.chain == 0)
#pragma unroll
                for (int i = 0; i < ANY_TOKENS / 2; i++) y[i] = __fadd_rn(y[i], d[i]), d[i] = 0;
#pragma unroll
            for (int k = 0; k < (int)A::cols / MANY_STEP; k++, step++) {
                uint32_t next = (step + 1) * MANY_STEP;
                if (step + 1 < steps)
                    any_fill<FMT>(a, t, lr_cu_smem(mem + next / A::cols % 2 * w_bytes),
                                  lr_cu_smem(x_mem + (step + 1) % 2 * x_bytes), next, lo);
                else
                    lr_cu_copy_end();
                lr_cu_copied<1>();
                __syncthreads();
                if (!k)
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        const uint8_t *line = NULL;
                        if (F::has_aux)
                            line = many_line(a.m.w[t.mat], t.expert, min(t.row + r0 + i * 8, a.m.w[t.mat].rows - 1));
#pragma unroll
                        for (int q = 0; q < (int)A::spans; q++)
                            F::begin(s[i][q], slot + i * 8 * A::pitch + q * F::bytes,
                                     F::aux(line, col + q * F::span, cols), lane % 4);
                    }
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    if (col + k * MANY_STEP + h * 32 >= cols) break;
                    uint32_t op[8], op_lo[8];
                    any_frag<FMT>(op, op_lo, s, slot, k * 2 + h, lane % 4);
                    any_group<FMT>(d, op, op_lo,
                                   x_mem + step % 2 * x_bytes + lane / 4 * ANY_X_PITCH + h * 64 + lane % 4 * 4, lo);
                }
                __syncthreads();
            }
        }
#pragma unroll
        for (int i = 0; i < ANY_TOKENS / 2; i++) y[i] = __fadd_rn(y[i], d[i]);
        many_store<ANY_TOKENS>(a, t, y, r0, lane);
    }
}

#endif
