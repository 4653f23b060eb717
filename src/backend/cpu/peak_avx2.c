/* peak_avx2.c - peak loops for AVX2: maddubs int8, float32. */
#include "peak.h"

#include <immintrin.h>

#define N 12

static float int8(uint64_t rounds, float start, double *ops)
{
    __m256i a[N], x = _mm256_set1_epi8((char)(int)start), y = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1);
#pragma GCC unroll 32
    for (int i = 0; i < N; i++) a[i] = _mm256_set1_epi32(i);
    for (uint64_t r = 0; r < rounds; r++) {
        for (int i = 0; i < N; i++)
            a[i] = _mm256_add_epi32(a[i], _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), ones));
#pragma GCC unroll 32
        for (int i = 0; i < N; i++) __asm__ volatile("" : "+x"(a[i]));
        __asm__ volatile("" : "+x"(x));
    }
    __m256i sum = a[0];
#pragma GCC unroll 32
    for (int i = 1; i < N; i++) sum = _mm256_add_epi32(sum, a[i]);
    *ops = (double)rounds * N * 64;
    return (float)_mm256_extract_epi32(sum, 0);
}

static float f32(uint64_t rounds, float start, double *ops)
{
    __m256 a[N], x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(start * 1e-3f);
#pragma GCC unroll 32
    for (int i = 0; i < N; i++) a[i] = _mm256_set1_ps((float)i);
    for (uint64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 32
        for (int i = 0; i < N; i++) a[i] = _mm256_fmadd_ps(a[i], x, y);
        __asm__ volatile("" : "+x"(x), "+x"(y));
    }
    __m256 sum = a[0];
#pragma GCC unroll 32
    for (int i = 1; i < N; i++) sum = _mm256_add_ps(sum, a[i]);
    *ops = (double)rounds * N * 16;
    return _mm256_cvtss_f32(sum);
}

static uint64_t read(const void *p, size_t n)
{
    const __m256i *q = p;
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    for (size_t i = 0; i + 4 <= n / 32; i += 4) {
        _mm_prefetch((const char *)(q + i) + 2048, _MM_HINT_T0);
        _mm_prefetch((const char *)(q + i) + 2112, _MM_HINT_T0);
        a = _mm256_or_si256(a, _mm256_loadu_si256(q + i));
        b = _mm256_or_si256(b, _mm256_loadu_si256(q + i + 1));
        c = _mm256_or_si256(c, _mm256_loadu_si256(q + i + 2));
        d = _mm256_or_si256(d, _mm256_loadu_si256(q + i + 3));
    }
    a = _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d));
    return (uint64_t)_mm256_extract_epi64(a, 0) | (uint64_t)_mm256_extract_epi64(a, 2);
}

const lr_peak lr_peak_avx2 = {.int8 = int8, .f32 = f32, .read = read};
