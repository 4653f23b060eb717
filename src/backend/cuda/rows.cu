/* rows.cu - norms, rotations, activations, routing, packing: a list of operators over each row.
 *
 * A block does all of a launch's list for one row, so what one operator writes the next one finds in the nearest cache.
 * Sums over a row have one order, which depends on its width alone: column c belongs to thread c / 4 % 512 (of a block) or c % 32
 * (of a warp, for groups of at most 1,024), which adds its columns in rising order; then a fixed tree.
 */
#include "launch.cuh"

#include "code.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

enum { THREADS = 512, WARPS = THREADS / 32, NARROW = 1024 };

__device__ static float warp_sum(float v)
{
    for (int i = 16; i; i >>= 1) v += __shfl_xor_sync(~0u, v, i);
    return v;
}

__device__ static float warp_max(float v)
{
    for (int i = 16; i; i >>= 1) v = fmaxf(v, __shfl_xor_sync(~0u, v, i));
    return v;
}

/* Of all threads of the block; `part` is shared, and may be used again after the next barrier. */
template <bool MAX> __device__ static float block_of(float v, float *part)
{
    v = MAX ? warp_max(v) : warp_sum(v);
    __syncthreads();
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    __syncthreads();
    float all = part[0];
    for (int i = 1; i < WARPS; i++) all = MAX ? fmaxf(all, part[i]) : all + part[i];
    return all;
}

/* ---------------------------------------------------------------- norms */
/* Who adds which columns: a warp or the block. */
template <bool WARP> struct team {
    __device__ static float sum(float v, float *part) { return WARP ? warp_sum(v) : block_of<false>(v, part); }
    template <typename F> __device__ static void each(uint32_t n, F f)
    {
        if constexpr (WARP) {
            for (uint32_t c = threadIdx.x % 32; c < n; c += 32) f(c);
        } else {
            for (uint32_t c = threadIdx.x * 4; c < n; c += THREADS * 4)
#pragma unroll
                for (uint32_t i = 0; i < 4; i++)
                    if (c + i < n) f(c + i);
        }
    }
};

template <bool WARP>
__device__ static void norm(const lr_cu_rowop &o, const float *x, const float *w, float *y, uint32_t n, float *part)
{
    float mid = 0.0f, sum = 0.0f;
    if (o.kind == LR_OP_LAYERNORM) {
        team<WARP>::each(n, [&](uint32_t c) { sum += x[c]; });
        mid = team<WARP>::sum(sum, part) / (float)n;
        sum = 0.0f;
    }
    team<WARP>::each(n, [&](uint32_t c) { sum += (x[c] - mid) * (x[c] - mid); });
    float s = 1.0f / sqrtf(team<WARP>::sum(sum, part) / (float)n + o.eps);
    const float *b = o.kind == LR_OP_LAYERNORM ? o.bias : nullptr;
    team<WARP>::each(n, [&](uint32_t c) {
        float v = (x[c] - mid) * s;
        if (w) v *= w[c];
        y[c] = b ? v + b[c] : v;
    });
}

__device__ static void norms(const lr_cu_rowop &o, const float *x, float *y, float *part)
{
    uint32_t group = o.kind == LR_OP_RMSNORM && o.group ? o.group : o.n, per = o.n / group, all = per * o.mul;
    const float *w = (const float *)o.w;
    bool narrow = group <= NARROW;
    for (uint32_t i = narrow ? threadIdx.x / 32 : 0; i < all; i += narrow ? WARPS : 1) {
        const float *wi = w && o.w_n > group ? w + (size_t)(i % per) * group : w;
        if (narrow) norm<true>(o, x + (size_t)i * group, wi, y + (size_t)i * group, group, part);
        else norm<false>(o, x + (size_t)i * group, wi, y + (size_t)i * group, group, part);
    }
}

/* ---------------------------------------------------------------- number by number */
__device__ static float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ static float fn(uint8_t kind, float x)
{
    switch (kind) {
    case LR_FN_GELU_TANH: return x * sigmoid(1.5957691216057308f * x * (1.0f + 0.044715f * x * x));
    case LR_FN_GELU_ERF: return 0.5f * x * erfcf(-x * 0.70710678118654752440f);
    case LR_FN_RELU: return x < 0.0f ? 0.0f : x;
    case LR_FN_RELU2: return x < 0.0f ? 0.0f : x * x;
    case LR_FN_SWIGLU_OAI: return x * sigmoid(1.702f * x);
    default: return x / (1.0f + expf(-x));
    }
}

__device__ static float glu(uint8_t kind, float g, float u)
{
    if (kind != LR_FN_SWIGLU_OAI) return fn(kind, g) * u;
    return fn(kind, g > 7.0f ? 7.0f : g) * ((u > 7.0f ? 7.0f : u < -7.0f ? -7.0f : u) + 1.0f);
}

__device__ static float one(const lr_cu_rowop &o, const float *a, const float *b, uint32_t i)
{
    switch (o.kind) {
    case LR_OP_ADD: return a[i] + b[i];
    case LR_OP_SCALE: return a[i] * o.scale;
    case LR_OP_ACT: return fn(o.fn, a[i]);
    case LR_OP_GLU: return glu(o.fn, a[i], b[i]);
    case LR_OP_SOFTCAP: return o.scale * tanhf(a[i] / o.scale);
    default: return a[i]; /* PICK */
    }
}

/* Columns [from, to) of a row, of which there are several blocks; of all of it where there is one. */
struct part_of_row {
    uint32_t from, to;
};

__device__ static void each(const lr_cu_rowop &o, const float *a, const float *b, float *y, part_of_row p)
{
    uint32_t end = LR_MIN(p.to, o.width * o.mul);
#pragma unroll 4
    for (uint32_t i = p.from + threadIdx.x; i < end; i += THREADS) y[i] = one(o, a, b, i);
}

/* ---------------------------------------------------------------- rotations */
__device__ static void angles(const lr_cu_rowop &o, uint32_t pos, float *cs)
{
    const double *freq = (const double *)o.w;
    for (uint32_t i = threadIdx.x; i < o.w_n / 2; i += THREADS) {
        double s, c;
        sincos((double)pos * freq[i], &s, &c);
        cs[2 * i] = (float)(c * (double)o.scale);
        cs[2 * i + 1] = (float)(s * (double)o.scale);
    }
}

__device__ static void rope(const lr_cu_rowop &o, const float *x, const float *cs, float *y)
{
    uint32_t half = o.w_n / 2;
    for (uint32_t i = threadIdx.x; i < o.width; i += THREADS) {
        uint32_t d = i % o.group;
        const float *h = x + (i - d);
        if (d >= o.w_n) {
            y[i] = h[d];
            continue;
        }
        uint32_t k = o.halves ? d % half : d / 2, ia = o.halves ? k : 2 * k, ib = o.halves ? k + half : 2 * k + 1;
        float a = h[ia], b = h[ib], c = cs[2 * k], s = cs[2 * k + 1];
        y[i] = d == ia ? a * c - b * s : a * s + b * c;
    }
}

/* ---------------------------------------------------------------- routing */
__device__ static float score(const lr_cu_rowop &o, float x, float top, float sum)
{
    if (o.gating == lr_route::LR_ROUTE_SOFTMAX) return expf(x - top) / sum;
    return o.gating == lr_route::LR_ROUTE_SIGMOID ? sigmoid(x) : x;
}

/* The k best, ties to the lower index, and their weights: by one warp. */
__device__ static void route(const lr_cu_rowop &o, const float *x, uint32_t *y)
{
    uint32_t lane = threadIdx.x;
    if (lane >= 32) return;
    float top = -INFINITY, sum = 0.0f;
    for (uint32_t e = lane; e < o.n; e += 32) top = fmaxf(top, x[e]);
    top = warp_max(top);
    for (uint32_t e = lane; e < o.n; e += 32) sum += expf(x[e] - top);
    sum = warp_sum(sum);
    uint64_t taken = 0; /* of this lane's experts: at most 32 of them */
    float *weight = (float *)(y + 1), all = 0.0f, first = 0.0f;
    for (uint32_t j = 0; j < o.w_n; j++) {
        float best = -INFINITY;
        uint32_t who = UINT32_MAX;
        for (uint32_t e = lane, i = 0; e < o.n; e += 32, i++) {
            float v = score(o, x[e], top, sum) + (o.bias ? o.bias[e] : 0.0f);
            if (!(taken >> i & 1) && (who == UINT32_MAX || v > best)) best = v, who = e;
        }
        for (int i = 16; i; i >>= 1) {
            float v = __shfl_xor_sync(~0u, best, i);
            uint32_t e = __shfl_xor_sync(~0u, who, i);
            if (e != UINT32_MAX && (who == UINT32_MAX || v > best || (v == best && e < who))) best = v, who = e;
        }
        if (who % 32 == lane) taken |= 1ull << who / 32;
        float v = score(o, x[who], top, sum);
        if (j == 0) first = v;
        if (o.gating == lr_route::LR_ROUTE_TOPK_SOFTMAX) v = expf(v - first);
        all += v;
        if (lane == 0) y[2 * j] = who, weight[2 * j] = v;
    }
    bool divide = o.renorm || o.gating == lr_route::LR_ROUTE_TOPK_SOFTMAX;
    for (uint32_t j = 0; j < o.w_n && lane == 0; j++)
        weight[2 * j] = (divide ? weight[2 * j] / all : weight[2 * j]) * o.scale;
}

__device__ static void combine(const lr_cu_rowop &o, const float *x, const uint32_t *routing, float *y)
{
    for (uint32_t c = threadIdx.x; c < o.width; c += THREADS) {
        float v = __uint_as_float(routing[1]) * x[c];
        for (uint32_t j = 1; j < o.w_n; j++)
            v = fmaf(__uint_as_float(routing[2 * j + 1]), x[(size_t)j * o.width + c], v);
        y[c] = v;
    }
}

/* ---------------------------------------------------------------- packing */
__device__ static uint16_t narrow(float x, bool bf16)
{
    return bf16 ? __bfloat16_as_ushort(__float2bfloat16_rn(x)) : __half_as_ushort(__float2half_rn(x));
}
__device__ static float wide(uint16_t x, bool bf16)
{
    return bf16 ? __bfloat162float(__ushort_as_bfloat16(x)) : __half2float(__ushort_as_half(x));
}

/* The power of two that brings `most` into [2^13, 2^14); 1 for zeros and for what is no number, which stays none. */
__device__ static float power_for(float most)
{
    if (!(most > 0.0f) || !(most < INFINITY)) return 1.0f;
    int e = ilogbf(most) - 13;
    return exp2f((float)(e < -100 ? -100 : e));
}

/* Four columns from c on, to their places. */
__device__ static void put(uint16_t *to, uint32_t c, bool turned, const uint16_t v[4])
{
    uint32_t lo = v[0] | (uint32_t)v[1] << 16, hi = v[2] | (uint32_t)v[3] << 16;
    if (!turned) {
        *(uint2 *)(to + c) = make_uint2(lo, hi);
        return;
    }
    uint16_t *at = to + c / 32 * 32 + c % 8 / 4 * 16 + c % 32 / 8 * 2;
    *(uint32_t *)at = lo;
    *(uint32_t *)(at + 8) = hi;
}

__device__ static void pack(const lr_cu_rowop &o, const float *x, uint8_t *y, uint32_t row, part_of_row p,
                            float *part)
{
    uint32_t stride = (o.n + 31) / 32 * 32;
    for (uint32_t m = 0; m < o.mul; m++, x += o.n) {
        uint64_t at = (uint64_t)row * o.mul + m;
        uint16_t *hi = (uint16_t *)y + at * stride, *lo = (uint16_t *)(y + o.lo_at) + at * stride;
        float power = 1.0f, most = 0.0f;
        if (!o.bf16) {
#pragma unroll 4
            for (uint32_t c = threadIdx.x; c < o.n; c += THREADS) most = fmaxf(most, fabsf(x[c]));
            power = power_for(block_of<true>(most, part));
            if (threadIdx.x == 0) ((float *)(y + o.scale_at))[at] = power;
        }
        float by = 1.0f / power;
        uint32_t end = LR_MIN(p.to, stride);
        for (uint32_t c = p.from + threadIdx.x * 4; c < end; c += THREADS * 4) {
            uint16_t h[4], l[4];
#pragma unroll
            for (uint32_t i = 0; i < 4; i++) {
                float v = c + i < o.n ? x[c + i] * by : 0.0f;
                h[i] = narrow(v, o.bf16);
                l[i] = o.lo ? narrow(v - wide(h[i], o.bf16), o.bf16) : 0;
            }
            put(hi, c, o.turned, h);
            if (o.lo) put(lo, c, o.turned, l);
        }
    }
}

/* ---------------------------------------------------------------- the list */
__device__ static void run(const lr_cu_rowop &o, const lr_cu_step &step, bool out, uint32_t row, part_of_row p,
                           float *part)
{
    uint32_t tok = out ? step.out[row] : row;
    const uint8_t *a = (const uint8_t *)o.a + (uint64_t)(o.kind == LR_OP_PICK ? tok : row) * o.a_row;
    const uint8_t *b = (const uint8_t *)o.b + (uint64_t)row * o.b_row;
    uint8_t *y = (uint8_t *)o.y + (uint64_t)row * o.y_row;
    const float *x = (const float *)a;
    switch (o.kind) {
    case LR_OP_RMSNORM:
    case LR_OP_LAYERNORM: norms(o, x, (float *)y, part); break;
    case LR_OP_ROPE: rope(o, x, (const float *)b, (float *)y); break;
    case LR_OP_ROUTE: route(o, x, (uint32_t *)y); break;
    case LR_OP_COMBINE: combine(o, x, (const uint32_t *)b, (float *)y); break;
    case LR_NODE_PACK: pack(o, x, (uint8_t *)o.y, row, p, part); break;
    case LR_NODE_ANGLES: angles(o, step.pos[tok], (float *)y); break;
    default: each(o, x, (const float *)b, (float *)y, p); break;
    }
}

enum {
    PIECE = THREADS * 4
}; /* columns of a block, of rows that several share: what one of them reads another's wrote not */

/* May blocks share a row? Where every operator makes a number of those at the same place, and no sum or power of the row. */
static bool by_pieces(const lr_cu_rows *r, uint32_t *width)
{
    *width = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        const lr_cu_rowop *o = &r->op[i];
        switch (o->kind) {
        case LR_OP_ADD:
        case LR_OP_SCALE:
        case LR_OP_ACT:
        case LR_OP_GLU:
        case LR_OP_SOFTCAP:
        case LR_OP_PICK: break;
        case LR_NODE_PACK:
            if (o->bf16) break;
            return false;
        default: return false;
        }
        uint32_t n = o->kind == LR_NODE_PACK ? (o->n + 31) / 32 * 32 : o->width * o->mul;
        if (o->kind == LR_NODE_PACK && o->mul != 1) return false;
        *width = LR_MAX(*width, n);
    }
    return true;
}

__global__ static void __launch_bounds__(THREADS) rows_kernel(LR_CU_ARG(lr_cu_rows) r)
{
    __shared__ float part[WARPS];
    lr_cu_begin();
    lr_cu_wait();
    uint32_t n = r.out ? r.step.counts->n_out : r.step.counts->n_tok, row = blockIdx.x;
    if (row >= n) return;
    part_of_row p = {blockIdx.y * PIECE, gridDim.y > 1 ? (blockIdx.y + 1) * PIECE : UINT32_MAX};
    for (uint32_t i = 0; i < r.n; i++) {
        run(r.op[i], r.step, r.out, row, p, part);
        __syncthreads();
    }
}

extern "C" cudaError_t lr_cu_rows_run(const lr_cu_device *d, const lr_cu_rows *r, cudaStream_t s)
{
    uint32_t width, pieces = 1;
    if (by_pieces(r, &width) && r->max_row <= (uint32_t)d->n_sm * 4) pieces = LR_MAX((width + PIECE - 1) / PIECE, 1u);
    return lr_cu_launch(d, rows_kernel, dim3(r->max_row, pieces), dim3(THREADS), 0, s, *r);
}

/* ---------------------------------------------------------------- sorting
 * One block. A warp finds one expert's rows in rising order. */
enum { SORTERS = 1024 };
__global__ static void __launch_bounds__(SORTERS) sort_kernel(lr_cu_sorting o)
{
    __shared__ uint32_t count[LR_CU_EXPERTS], first[LR_CU_EXPERTS];
    lr_cu_begin();
    lr_cu_wait();
    uint32_t n = *o.n_row * o.k, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    auto expert = [&](uint32_t i) { return *(const uint32_t *)(o.routing + i / o.k * o.row_bytes + i % o.k * 8); };
    for (uint32_t e = threadIdx.x; e < o.n_expert; e += SORTERS) count[e] = 0;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < n; i += SORTERS) atomicAdd(&count[expert(i)], 1);
    __syncthreads();
    for (uint32_t e = threadIdx.x; e < o.n_expert; e += SORTERS) {
        uint32_t rows = 0, tiles = 0;
        for (uint32_t k = 0; k < e; k++) {
            rows += count[k];
            tiles += (count[k] + o.tile - 1) / o.tile;
        }
        first[e] = rows;
        for (uint32_t at = 0; at < count[e]; at += o.tile, tiles++) {
            o.tiles[3 * tiles] = e;
            o.tiles[3 * tiles + 1] = rows + at;
            o.tiles[3 * tiles + 2] = LR_MIN(o.tile, count[e] - at);
        }
        if (e == o.n_expert - 1) *o.n_tile = tiles;
    }
    __syncthreads();
    for (uint32_t e = warp; e < o.n_expert; e += SORTERS / 32) {
        uint32_t at = first[e];
        if (!count[e]) continue;
        for (uint32_t i = 0; i < n; i += 32) {
            bool mine = i + lane < n && expert(i + lane) == e;
            uint32_t who = __ballot_sync(~0u, mine);
            if (mine) o.rows[at + __popc(who & ((1u << lane) - 1))] = i + lane;
            at += __popc(who);
        }
    }
}

extern "C" cudaError_t lr_cu_sort_run(const lr_cu_device *d, const lr_cu_sorting *o, cudaStream_t s)
{
    return lr_cu_launch(d, sort_kernel, dim3(1), dim3(SORTERS), 0, s, *o);
}
