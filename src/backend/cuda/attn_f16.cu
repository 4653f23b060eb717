/* attn_f16.cu - attention over a cache of F16. */
#include "attn_body.cuh"

cudaError_t attn_decode_f16(const lr_cu_device *d, const lr_cu_attn *a, const attn_plan *p, cudaStream_t s)
{
    return decode_any<KV_F16>(d, a, p, s);
}
template <int D>
static cudaError_t prompt(const lr_cu_device *d, const lr_cu_attn *a, const attn_plan *p, cudaStream_t s)
{
    if (a->exact) return run_prompt<D, KV_F16, true, 1>(d, a, p, s);
    if (prompt_room<D, KV_F16, false, 2>::bytes <= d->smem) return run_prompt<D, KV_F16, false, 2>(d, a, p, s);
    return run_prompt<D, KV_F16, false, 1>(d, a, p, s);
}
cudaError_t attn_prompt_f16(const lr_cu_device *d, const lr_cu_attn *a, const attn_plan *p, cudaStream_t s)
{
    return a->head_dim <= 64    ? prompt<64>(d, a, p, s)
           : a->head_dim <= 128 ? prompt<128>(d, a, p, s)
                                : prompt<256>(d, a, p, s);
}
