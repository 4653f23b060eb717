/* cuda_fp16.h - of CUDA's F16 numbers what the kernels use. */
#ifndef LR_EMULATED_CUDA_FP16_H
#define LR_EMULATED_CUDA_FP16_H

#include "device.h"

struct __half {
    uint16_t v;
};
struct alignas(4) __half2 {
    __half x, y;
};
inline __half __ushort_as_half(uint16_t v) { return {v}; }
inline uint16_t __half_as_ushort(__half h) { return h.v; }
inline __half __float2half_rn(float f) { return {lr_emulated_to_half(f)}; }
inline float __half2float(__half h) { return lr_emulated_half(h.v); }
inline __half2 __half2half2(__half h) { return {h, h}; }
inline __half2 __floats2half2_rn(float a, float b) { return {__float2half_rn(a), __float2half_rn(b)}; }
inline float2 __half22float2(__half2 h) { return {__half2float(h.x), __half2float(h.y)}; }
inline __half2 __hsub2(__half2 a, __half2 b)
{
    return {{lr_emulated_to_half((double)__half2float(a.x) - (double)__half2float(b.x))},
            {lr_emulated_to_half((double)__half2float(a.y) - (double)__half2float(b.y))}};
}
inline __half2 __hmul2(__half2 a, __half2 b)
{
    return {{lr_emulated_to_half((double)__half2float(a.x) * (double)__half2float(b.x))},
            {lr_emulated_to_half((double)__half2float(a.y) * (double)__half2float(b.y))}};
}
#endif
