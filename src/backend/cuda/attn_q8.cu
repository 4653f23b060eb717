/* attn_q8.cu - attention over a cache of Q8_0: codes become F16 on their way to shared memory. */
#include "attn_body.cuh"

cudaError_t attn_decode_q8(const lr_cu_device *d, const lr_cu_attn *a, const attn_plan *p, cudaStream_t s)
{
    return decode_any<KV_Q8>(d, a, p, s);
}
template <int D>
static cudaError_t prompt(const lr_cu_device *d, const lr_cu_attn *a, const attn_plan *p, cudaStream_t s)
{
    return a->exact ? run_prompt<D, KV_Q8, true, 1>(d, a, p, s) : run_prompt<D, KV_Q8, false, 1>(d, a, p, s);
}
cudaError_t attn_prompt_q8(const lr_cu_device *d, const lr_cu_attn *a, const attn_plan *p, cudaStream_t s)
{
    return a->head_dim <= 64    ? prompt<64>(d, a, p, s)
           : a->head_dim <= 128 ? prompt<128>(d, a, p, s)
                                : prompt<256>(d, a, p, s);
}
