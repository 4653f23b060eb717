/* attn.cu - attention: the cache's sizes, storing into it, merging of a decode step's parts, and the choice of kernels.
 *
 * Refuses to own: the kernels that attend (attn_body.cuh, attn_hopper.cu), arithmetic and layout (attn.cuh).
 */
#include "attn.cuh"

static int form_of(larder_kv kv)
{
    return kv == LARDER_KV_F32 ? KV_F32 : kv == LARDER_KV_Q8_0 ? KV_Q8 : kv == LARDER_KV_Q4_0 ? KV_Q4 : KV_F16;
}

extern "C" uint64_t lr_cu_block_bytes(uint32_t head_dim, larder_kv kv)
{
    int form = form_of(kv);
    if (form == KV_Q4 || head_dim > 256 || head_dim % 2) return 0;
    return attn_matrix(attn_pad(head_dim, form), form) * (form == KV_F32 ? 4 : 2);
}

/* Chunks that have room: beyond so many, a block takes all chunks of a sequence's head and needs none. */
static uint32_t part_room(uint32_t max_seq, uint32_t max_ctx)
{
    uint64_t n = (uint64_t)max_seq * ((max_ctx + CHUNK - 1) / CHUNK);
    return n < 8192 ? (uint32_t)n : 8192;
}
extern "C" uint64_t lr_cu_attn_parts(const lr_cu_device *d, uint32_t n_head, uint32_t head_dim, uint32_t max_seq,
                                     uint32_t max_ctx)
{
    (void)d;
    return (uint64_t)part_room(max_seq, max_ctx) * n_head * attn_part(head_dim) * sizeof(float);
}

/* ---------------------------------------------------------------- storing */
enum { STORE_THREADS = 128 };

__device__ void put_halves(uint8_t *block, uint32_t pad, int form, uint32_t which, uint32_t p, uint32_t d, float x)
{
    uint32_t size = attn_matrix(pad, form) / 2, at = attn_at(pad, p, d);
    __half *m = (__half *)block + which * size, h = __float2half_rn(in_half(x));
    m[at] = h;
    if (form == KV_F32) m[2 * size + at] = __float2half_rn(__fsub_rn(in_half(x), __half2float(h)));
}
/* 32 numbers, one per lane, as codes and their scale. */
__device__ void put_codes_of(uint8_t *m, uint32_t pad, uint32_t p, uint32_t d, float x)
{
    float most = fabsf(x);
    for (int i = 16; i; i /= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, i));
    __half h = __float2half_rn(fminf(__fdiv_rn(most, 127.0f), 65504.0f));
    float back = __half2float(h), by = back != 0.0f ? __fdiv_rn(1.0f, back) : 0.0f;
    float q = fminf(fmaxf(rintf(__fmul_rn(x, by)), -127.0f), 127.0f);
    ((int8_t *)m)[p * pad + d] = (int8_t)q;
    if (d % 32 == 0) ((__half *)(m + LR_KV_BLOCK * pad))[p * (pad / 32) + d / 32] = h;
}

/* Block (token, KV head). */
__global__ __launch_bounds__(STORE_THREADS) void attn_store(LR_CU_ARG(lr_cu_attn) a, const int form)
{
    lr_cu_begin();
    uint32_t tok = blockIdx.x, head = blockIdx.y;
    bool in = tok < a.step.counts->n_tok;
    uint32_t pos = in ? a.step.pos[tok] : 0, seq = in ? a.step.seq[tok] : 0;
    uint32_t block = in ? a.step.blocks[(size_t)seq * a.step.max_blocks + pos / LR_KV_BLOCK] : 0;
    lr_cu_wait();
    if (!in) return;
    const float *k = a.k + (size_t)tok * a.k_stride + (size_t)head * a.head_dim;
    const float *v = a.v + (size_t)tok * a.v_stride + (size_t)head * a.head_dim;
    uint8_t *to = a.cache + head * a.head_stride + (size_t)block * a.block_stride;
    uint32_t pad = attn_pad(a.head_dim, form), p = pos % LR_KV_BLOCK;
    for (uint32_t i = threadIdx.x; i < 2 * pad; i += STORE_THREADS) {
        uint32_t which = i >= pad, d = i - which * pad;
        float x = d < a.head_dim ? (which ? v : k)[d] : 0.0f;
        if (form == KV_Q8) put_codes_of(to + which * attn_matrix(pad, form), pad, p, d, x);
        else put_halves(to, pad, form, which, p, d, x);
    }
}

extern "C" cudaError_t lr_cu_attn_store(const lr_cu_device *d, const lr_cu_attn *a, cudaStream_t s)
{
    return lr_cu_launch(d, attn_store, dim3(a->max_tok, a->n_head_kv), dim3(STORE_THREADS), 0, s, *a, form_of(a->kv));
}

/* ---------------------------------------------------------------- merging
 * Block (32 columns, query head, sequence): chunks in rising order, MERGE_AT_ONCE of them in shared memory. */
enum { MERGE_AT_ONCE = 128 };

__global__ __launch_bounds__(MERGE_AT_ONCE) void attn_merge(LR_CU_ARG(lr_cu_attn) a, const attn_plan plan)
{
    __shared__ float4 values[MERGE_AT_ONCE][8];
    __shared__ float2 by[MERGE_AT_ONCE];
    __shared__ float sums[MERGE_AT_ONCE], tops[4];
    lr_cu_begin();
    const uint32_t tid = threadIdx.x, col = blockIdx.x * 32, head = blockIdx.y, seq = blockIdx.z;
    if (seq >= a.step.counts->n_seq || a.step.counts->n_unit > plan.cap) {
        lr_cu_wait();
        return;
    }
    uint32_t tok = a.step.first[seq], n_tok = a.step.first[seq + 1] - tok, p = a.step.pos[tok],
             part = attn_part(a.head_dim);
    uint32_t c0 = first_seen(p, a.window) / CHUNK, n = p / CHUNK - c0 + 1;
    const float *from = a.parts + ((size_t)(a.step.unit[seq] + c0) * a.n_head + head) * part;
    lr_cu_wait();
    if (n_tok != 1 || n == 1) return;
    float most = NEVER, sum = 0, o = 0;
    for (uint32_t at = 0; at < n; at += MERGE_AT_ONCE) {
        uint32_t many = min(n - at, (uint32_t)MERGE_AT_ONCE);
        const float *mine = from + (size_t)(at + tid) * a.n_head * part;
        float top = tid < many ? mine[0] : NEVER;
        if (tid < many) sums[tid] = mine[1];
#pragma unroll
        for (uint32_t i = 0; i < 8; i++) {
            uint32_t c = i * 16 + tid / 8;
            if (c < many && col + tid % 8 * 4 < part - 4)
                values[c][tid % 8] = *(const float4 *)(from + (size_t)(at + c) * a.n_head * part + 4 + col +
                                                       tid % 8 * 4);
        }
        float up = top; /* the largest of this chunk and those before it */
        for (int i = 1; i < 32; i *= 2) {
            float x = __shfl_up_sync(~0u, up, i);
            if (tid % 32 >= i) up = fmaxf(up, x);
        }
        if (tid % 32 == 31) tops[tid / 32] = up;
        __syncthreads();
        float before = most;
        for (uint32_t w = 0; w < tid / 32; w++) before = fmaxf(before, tops[w]);
        float prev = __shfl_up_sync(~0u, up, 1);
        meeting m = meet(tid % 32 ? fmaxf(before, prev) : before, top);
        by[tid] = make_float2(m.old, m.add);
        most = fmaxf(fmaxf(fmaxf(most, tops[0]), fmaxf(tops[1], tops[2])), tops[3]);
        __syncthreads();
        if (tid < 32)
#pragma unroll 8
            for (uint32_t c = 0; c < many; c++) {
                meeting k = {0, by[c].x, by[c].y};
                sum = merged(sum, sums[c], k);
                o = merged(o, ((const float *)values[c])[tid], k);
            }
        __syncthreads();
    }
    if (tid >= 32 || col + tid >= a.head_dim) return;
    float last = last_factor(most, sum, a.sinks ? a.sinks + head : NULL);
    a.out[(size_t)tok * a.out_stride + (size_t)head * a.head_dim + col + tid] = __fmul_rn(o, last);
}

/* ---------------------------------------------------------------- all of it */
extern "C" cudaError_t lr_cu_attn_run(const lr_cu_device *d, const lr_cu_attn *a, cudaStream_t s)
{
    typedef cudaError_t (*launch)(const lr_cu_device *, const lr_cu_attn *, const attn_plan *, cudaStream_t);
    static const launch decode[] = {attn_decode_f16, attn_decode_f32, attn_decode_q8};
    static const launch prompt[] = {attn_prompt_f16, attn_prompt_f32, attn_prompt_q8};
    int form = form_of(a->kv);
    attn_plan p = {a->n_head / a->n_head_kv, 0, part_room(a->max_seq, a->max_ctx)};
    p.row_tiles = (p.group + 15) / 16;
    if (!lr_cu_block_bytes(a->head_dim, a->kv)) return cudaErrorNotSupported;
    cudaError_t e = cudaSuccess;
    if (!a->decode) e = prompt[form](d, a, &p, s);
    if (e == cudaSuccess) e = decode[form](d, a, &p, s);
    if (e != cudaSuccess || a->max_ctx <= CHUNK) return e;
    return lr_cu_launch(d, attn_merge, dim3((a->head_dim + 31) / 32, a->n_head, a->max_seq), dim3(MERGE_AT_ONCE), 0,
                        s, *a, p);
}
