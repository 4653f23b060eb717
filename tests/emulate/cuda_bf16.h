/* cuda_bf16.h - of CUDA's BF16 numbers what the kernels use. */
#ifndef LR_EMULATED_CUDA_BF16_H
#define LR_EMULATED_CUDA_BF16_H

#include "device.h"

struct __nv_bfloat16 {
    uint16_t v;
};
inline __nv_bfloat16 __ushort_as_bfloat16(uint16_t v) { return {v}; }
inline uint16_t __bfloat16_as_ushort(__nv_bfloat16 h) { return h.v; }
inline __nv_bfloat16 __float2bfloat16_rn(float f) { return {lr_emulated_to_bf16(f)}; }
inline float __bfloat162float(__nv_bfloat16 h) { return __uint_as_float((unsigned)h.v << 16); }
#endif
