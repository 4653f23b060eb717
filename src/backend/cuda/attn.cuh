/* attn.cuh - what the attention kernels share: how a block of the cache lies, and the arithmetic of a chunk.
 *
 * Owns: the layout of one block of one KV head, tiles of it in shared memory, scores to weights, merging of chunks: what
 * must be the same bits in a decode step and in a prompt. Refuses to own: who computes what (attn_body.cuh, attn_hopper.cu).
 *
 * A block holds 32 positions: K, then V. F16: each a matrix of [32][pad], pad being head_dim rounded up to 16, zeros past
 * head_dim; F32 is held as such matrices of the rounded numbers and of what they left: K hi, V hi, K lo, V lo. Q8_0:
 * K's codes [32][padq], padq being head_dim rounded up to 32, and scales [32][padq / 32]; then V's.
 *
 * A matrix whose pad is a multiple of 64 lies in panels of 64 columns, [pad / 64][32][64], and the eight 16-byte pieces of
 * a panel's row p stand at c ^ (p & 7): as the tile in shared memory wants them, so that loading is plain copying, and
 * neither ldmatrix nor wgmma (its 128-byte swizzle) meets a bank twice.
 *
 * Order. A chunk is 128 positions, counted from position 0: a score is a chain of 16-column products over rising
 * dimensions; the largest visible score of the chunk is taken off; weights are summed per thread of four over pieces of 16
 * positions, then over the four; an output is a chain of 16-position products from 0. Chunks are merged in rising order.
 */
#ifndef LR_ATTN_CUH
#define LR_ATTN_CUH

#include "instr.cuh"
#include "launch.cuh"

#include <cuda_fp16.h>

enum { KV_F16, KV_F32, KV_Q8, KV_Q4 }; /* forms of the cache */
enum { CHUNK = LR_CU_ATTN_CHUNK, BLOCKS = CHUNK / LR_KV_BLOCK };

#define LOG2E 1.4426950408889634f
#define NEVER (-INFINITY)

/* ---------------------------------------------------------------- layout */
__host__ __device__ inline uint32_t attn_pad(uint32_t head_dim, int form)
{
    return form >= KV_Q8 ? (head_dim + 31) / 32 * 32 : (head_dim + 15) / 16 * 16;
}
/* Bytes of one matrix [32][pad]; of codes with their scales. */
__host__ __device__ inline uint32_t attn_matrix(uint32_t pad, int form)
{
    return form == KV_Q8   ? LR_KV_BLOCK * pad + 2 * pad
           : form == KV_Q4 ? LR_KV_BLOCK / 2 * pad + 2 * pad
                           : 2 * LR_KV_BLOCK * pad;
}
/* Where number d of position p of a block stands in a matrix of F16. */
__device__ inline uint32_t attn_at(uint32_t pad, uint32_t p, uint32_t d)
{
    if (pad % 64) return p * pad + d;
    return (d / 64 * LR_KV_BLOCK + p) * 64 + ((d / 8 % 8) ^ (p & 7)) * 8 + d % 8;
}
/* Byte of 16-byte piece c (8 columns) of row p in a tile of `rows` positions: panels of 64 columns. */
__device__ __forceinline__ uint32_t tile_at(uint32_t rows, uint32_t p, uint32_t c)
{
    return (c / 8 * rows + p) * 128 + (((c % 8) ^ (p & 7)) << 4);
}
/* Floats from one part (chunk, head) to the next: maximum, sum, two of nothing, values. */
__host__ __device__ inline uint32_t attn_part(uint32_t head_dim) { return (head_dim + 15) / 16 * 16 + 4; }

/* ---------------------------------------------------------------- numbers */
__device__ __forceinline__ uint32_t pack(float a, float b)
{
    __half2 h = __floats2half2_rn(a, b);
    return *(uint32_t *)&h;
}
/* What pack left of the two, packed. */
__device__ __forceinline__ uint32_t pack_rest(float a, float b, uint32_t packed)
{
    float2 f = __half22float2(*(__half2 *)&packed);
    return pack(__fsub_rn(a, f.x), __fsub_rn(b, f.y));
}
/* No infinities: an infinite number that a row does not see would still make it NaN. */
__device__ __forceinline__ float in_half(float x) { return x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x; }
__device__ __forceinline__ float most_of_four(float x)
{
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}
__device__ __forceinline__ float sum_of_four(float x)
{
    x = __fadd_rn(x, __shfl_xor_sync(~0u, x, 1));
    return __fadd_rn(x, __shfl_xor_sync(~0u, x, 2));
}

/* ---------------------------------------------------------------- arithmetic */
/* cap * tanh(s / cap), tanh(x) as 1 - 2 / (e^2x + 1). */
__device__ __forceinline__ float capped(float s, float cap)
{
    float e = lr_cu_pow2(__fmul_rn(__fdividef(s, cap), 2 * LOG2E));
    return __fmul_rn(cap, __fsub_rn(1.0f, __fdividef(2.0f, __fadd_rn(e, 1.0f))));
}
/* First position a query at p sees. */
__device__ __forceinline__ uint32_t first_seen(uint32_t p, uint32_t window)
{
    return window && p >= window ? p - window + 1 : 0;
}
/* What is taken off scores whose largest is `most`: 0 where nothing was seen. In powers of two. */
__device__ __forceinline__ float base_of(float most) { return most == NEVER ? 0.0f : __fmul_rn(most, LOG2E); }
__device__ __forceinline__ float weight_of(float s, float base) { return lr_cu_pow2(__fmaf_rn(s, LOG2E, -base)); }

/* What a softmax under way and a chunk's are multiplied by when they meet. */
struct meeting {
    float most, old, add;
};
__device__ __forceinline__ meeting meet(float most, float with)
{
    meeting m;
    m.most = fmaxf(most, with);
    float less = m.most == NEVER ? 0.0f : m.most;
    m.old = lr_cu_pow2(
        __fmul_rn(__fsub_rn(most, less), LOG2E)); /* exactly 1 when it is the larger: nothing seen, nothing done */
    m.add = lr_cu_pow2(__fmul_rn(__fsub_rn(with, less), LOG2E));
    return m;
}
__device__ __forceinline__ float merged(float old, float add, const meeting &m)
{
    return __fmaf_rn(old, m.old, __fmul_rn(add, m.add));
}
/* By what the values are multiplied at the end. */
__device__ __forceinline__ float last_factor(float most, float sum, const float *sink)
{
    if (!sink) return __fdiv_rn(1.0f, sum);
    meeting m = meet(most, *sink);
    return __fdiv_rn(m.old, __fmaf_rn(sum, m.old, m.add));
}

/* ---------------------------------------------------------------- what the files give each other */
struct attn_plan {             /* of a launch */
    uint32_t group, row_tiles; /* query heads of a KV head; tiles of 16 of them */
    uint32_t cap;              /* chunks that have room in `parts` */
};
cudaError_t attn_prompt_f16(const lr_cu_device *d, const lr_cu_attn *a, const attn_plan *p, cudaStream_t s);
cudaError_t attn_prompt_f32(const lr_cu_device *d, const lr_cu_attn *a, const attn_plan *p, cudaStream_t s);
cudaError_t attn_prompt_q8(const lr_cu_device *d, const lr_cu_attn *a, const attn_plan *p, cudaStream_t s);
cudaError_t attn_decode_f16(const lr_cu_device *d, const lr_cu_attn *a, const attn_plan *p, cudaStream_t s);
cudaError_t attn_decode_f32(const lr_cu_device *d, const lr_cu_attn *a, const attn_plan *p, cudaStream_t s);
cudaError_t attn_decode_q8(const lr_cu_device *d, const lr_cu_attn *a, const attn_plan *p, cudaStream_t s);

#endif
