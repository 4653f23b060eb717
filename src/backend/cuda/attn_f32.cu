/* attn_f32.cu - attention over a cache of F32, held as two halves; always in two halves elsewhere too. */
#include "attn_body.cuh"

cudaError_t attn_decode_f32(const lr_cu_device *d, const lr_cu_attn *a, const attn_plan *p, cudaStream_t s)
{
    lr_cu_attn b = *a;
    b.exact = true;
    return decode_any<KV_F32>(d, &b, p, s);
}
cudaError_t attn_prompt_f32(const lr_cu_device *d, const lr_cu_attn *a, const attn_plan *p, cudaStream_t s)
{
    return a->head_dim <= 64    ? run_prompt<64, KV_F32, true, 1>(d, a, p, s)
           : a->head_dim <= 128 ? run_prompt<128, KV_F32, true, 1>(d, a, p, s)
                                : run_prompt<256, KV_F32, true, 1>(d, a, p, s);
}
