/* peak_neon.c - peak loops for NEON: dot-product int8, float32. */
#include "peak.h"

#include <arm_neon.h>

#define N 16

static float int8(uint64_t rounds, float start, double *ops)
{
    int32x4_t a[N];
    int8x16_t x = vdupq_n_s8((int8_t)start), y = vdupq_n_s8(1);
#pragma GCC unroll 32
    for (int i = 0; i < N; i++) a[i] = vdupq_n_s32(i);
    for (uint64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 32
        for (int i = 0; i < N; i++) a[i] = vdotq_s32(a[i], x, y);
        __asm__ volatile("" : "+w"(x), "+w"(y));
    }
    int32x4_t sum = a[0];
#pragma GCC unroll 32
    for (int i = 1; i < N; i++) sum = vaddq_s32(sum, a[i]);
    *ops = (double)rounds * N * 32;
    return (float)vaddvq_s32(sum);
}

static float f32(uint64_t rounds, float start, double *ops)
{
    float32x4_t a[N], x = vdupq_n_f32(0.999f), y = vdupq_n_f32(start * 1e-3f);
#pragma GCC unroll 32
    for (int i = 0; i < N; i++) a[i] = vdupq_n_f32((float)i);
    for (uint64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 32
        for (int i = 0; i < N; i++) a[i] = vfmaq_f32(y, a[i], x);
        __asm__ volatile("" : "+w"(x), "+w"(y));
    }
    float32x4_t sum = a[0];
#pragma GCC unroll 32
    for (int i = 1; i < N; i++) sum = vaddq_f32(sum, a[i]);
    *ops = (double)rounds * N * 8;
    return vaddvq_f32(sum);
}

static uint64_t read(const void *p, size_t n)
{
    const uint64_t *q = p;
    uint64x2_t a = vdupq_n_u64(0), b = a, c = a, d = a;
    for (size_t i = 0; i + 8 <= n / 8; i += 8) {
        __builtin_prefetch(q + i + 256);
        a = vorrq_u64(a, vld1q_u64(q + i));
        b = vorrq_u64(b, vld1q_u64(q + i + 2));
        c = vorrq_u64(c, vld1q_u64(q + i + 4));
        d = vorrq_u64(d, vld1q_u64(q + i + 6));
    }
    a = vorrq_u64(vorrq_u64(a, b), vorrq_u64(c, d));
    return vgetq_lane_u64(a, 0) | vgetq_lane_u64(a, 1);
}

const lr_peak lr_peak_neon = {.int8 = int8, .f32 = f32, .read = read};
