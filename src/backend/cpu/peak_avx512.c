/* peak_avx512.c - peak loops for AVX-512: VNNI int8, BF16, float32. */
#include "peak.h"

#include <immintrin.h>

#define N 24

static float int8(uint64_t rounds, float start, double *ops)
{
    __m512i a[N], x = _mm512_set1_epi8((char)(int)start), y = _mm512_set1_epi8(1);
#pragma GCC unroll 32
    for (int i = 0; i < N; i++) a[i] = _mm512_set1_epi32(i);
    for (uint64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 32
        for (int i = 0; i < N; i++) /* in assembly: through the intrinsic gcc copies accumulators about */
            __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(a[i]) : "v"(x), "v"(y));
    }
    __m512i sum = a[0];
#pragma GCC unroll 32
    for (int i = 1; i < N; i++) sum = _mm512_add_epi32(sum, a[i]);
    *ops = (double)rounds * N * 128;
    return (float)_mm512_reduce_add_epi32(sum);
}

static float bf16(uint64_t rounds, float start, double *ops)
{
    __m512 a[N];
    __m512i bits = _mm512_set1_epi32(0x3f803f80 + (int)start);
#pragma GCC unroll 32
    for (int i = 0; i < N; i++) a[i] = _mm512_set1_ps((float)i);
    for (uint64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 32
        for (int i = 0; i < N; i++) __asm__("vdpbf16ps %1, %1, %0" : "+v"(a[i]) : "v"(bits));
        __asm__ volatile("" : "+v"(bits));
    }
    __m512 sum = a[0];
#pragma GCC unroll 32
    for (int i = 1; i < N; i++) sum = _mm512_add_ps(sum, a[i]);
    *ops = (double)rounds * N * 64;
    return _mm512_reduce_add_ps(sum);
}

static float f32(uint64_t rounds, float start, double *ops)
{
    __m512 a[N], x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(start * 1e-3f);
#pragma GCC unroll 32
    for (int i = 0; i < N; i++) a[i] = _mm512_set1_ps((float)i);
    for (uint64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 32
        for (int i = 0; i < N; i++) a[i] = _mm512_fmadd_ps(a[i], x, y);
        __asm__ volatile("" : "+v"(x), "+v"(y));
    }
    __m512 sum = a[0];
#pragma GCC unroll 32
    for (int i = 1; i < N; i++) sum = _mm512_add_ps(sum, a[i]);
    *ops = (double)rounds * N * 32;
    return _mm512_reduce_add_ps(sum);
}

static uint64_t read(const void *p, size_t n)
{
    const __m512i *q = p;
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (size_t i = 0; i + 4 <= n / 64; i += 4) {
        _mm_prefetch((const char *)(q + i) + 4096, _MM_HINT_T0);
        _mm_prefetch((const char *)(q + i) + 4224, _MM_HINT_T0);
        a = _mm512_or_si512(a, _mm512_loadu_si512(q + i));
        b = _mm512_or_si512(b, _mm512_loadu_si512(q + i + 1));
        c = _mm512_or_si512(c, _mm512_loadu_si512(q + i + 2));
        d = _mm512_or_si512(d, _mm512_loadu_si512(q + i + 3));
    }
    return (uint64_t)_mm512_reduce_or_epi64(_mm512_or_si512(_mm512_or_si512(a, b), _mm512_or_si512(c, d)));
}

const lr_peak lr_peak_avx512 = {.int8 = int8, .bf16 = bf16, .f32 = f32, .read = read};
