/* mm_simd_avx2.h - the vector words of the matrix kernels, in AVX2. See mm_simd_avx512.h for what they mean.
 *
 * With AVX_VNNI defined, the byte product is one instruction (VEX-encoded VPDPBUSD); without, VPMADDUBSW, whose int16
 * pairs cannot overflow: weights up to 127 by definition, and wide ones multiplied as magnitudes. */
#ifndef LR_MM_SIMD_H
#define LR_MM_SIMD_H

#include <immintrin.h>

#include "mm_rows.h"

#define VR 8
#define VL 2
#define TILE_V 1
#define TILE_T 4
#define TILE_T_SUB 4
#define FEW 4
#define MOST_FEW FEW
#define FLOAT_R 2
#define FLOAT_T 2
#ifdef AVX_VNNI
#define WIDE_FLIP 1
#else
#define WIDE_FLIP 0
#endif

typedef __m256i vi;
typedef __m256 vf;

LR_INLINE __m128i v_load128(const void *p) { return _mm_loadu_si128((const __m128i *)p); }
LR_INLINE vi v_join(__m128i lo, __m128i hi) { return _mm256_inserti128_si256(_mm256_castsi128_si256(lo), hi, 1); }
LR_INLINE vi v_rows16(const rows *r, size_t at, int j)
{
    return v_join(v_load128(row_at(r, at, j)), v_load128(row_at(r, at, j + 4)));
}
LR_INLINE __m128i v_four32(const rows *r, size_t at, int j)
{
    int u[4];
    for (int i = 0; i < 4; i++) memcpy(&u[i], row_at(r, at, j + i), 4);
    return _mm_setr_epi32(u[0], u[1], u[2], u[3]);
}
LR_INLINE vi v_rows4(const rows *r, size_t at) { return v_join(v_four32(r, at, 0), v_four32(r, at, 4)); }
LR_INLINE vi v_load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
/* VR numbers of float16, or bytes, one after the other. */
LR_INLINE vf v_f16s(const void *p) { return _mm256_cvtph_ps(v_load128(p)); }
LR_INLINE vi v_bytes(const void *p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)); }
LR_INLINE void v_store(void *p, vi v) { _mm256_storeu_si256((__m256i *)p, v); }
LR_INLINE vf v_loadf(const float *p) { return _mm256_loadu_ps(p); }
LR_INLINE void v_storef(float *p, vf v) { _mm256_storeu_ps(p, v); }
LR_INLINE vi v_all16(const void *p) { return _mm256_broadcastsi128_si256(v_load128(p)); }
LR_INLINE vi v_all4(const void *p)
{
    int u;
    memcpy(&u, p, 4);
    return _mm256_set1_epi32(u);
}
LR_INLINE vf v_allf(const void *p) { return _mm256_castsi256_ps(v_all4(p)); }
LR_INLINE vi v_zero(void) { return _mm256_setzero_si256(); }
LR_INLINE vf v_zerof(void) { return _mm256_setzero_ps(); }
LR_INLINE vi v_set8(int x) { return _mm256_set1_epi8((char)x); }
LR_INLINE vi v_set32(int x) { return _mm256_set1_epi32(x); }
LR_INLINE vf v_setf(float x) { return _mm256_set1_ps(x); }

LR_INLINE vi v_and(vi a, vi b) { return _mm256_and_si256(a, b); }
LR_INLINE vi v_or(vi a, vi b) { return _mm256_or_si256(a, b); }
LR_INLINE vi v_xor(vi a, vi b) { return _mm256_xor_si256(a, b); }
LR_INLINE vi v_pick(vi a, vi mask, vi b) { return v_or(v_and(a, mask), b); }
LR_INLINE vi v_add8(vi a, vi b) { return _mm256_add_epi8(a, b); }
LR_INLINE vi v_sub8(vi a, vi b) { return _mm256_sub_epi8(a, b); }
LR_INLINE vi v_add32(vi a, vi b) { return _mm256_add_epi32(a, b); }
LR_INLINE vi v_sub32(vi a, vi b) { return _mm256_sub_epi32(a, b); }
LR_INLINE vi v_max32(vi a, vi b) { return _mm256_max_epi32(a, b); }
LR_INLINE vi v_eq32(vi a, vi b) { return _mm256_cmpeq_epi32(a, b); }
typedef uint32_t vu32 __attribute__((vector_size(32)));
typedef int32_t vs32 __attribute__((vector_size(32)));
LR_INLINE vi v_shr32(vi a, int n) { return (vi)((vu32)a >> n); }
LR_INLINE vi v_shl32(vi a, int n) { return (vi)((vu32)a << n); }
LR_INLINE vi v_sar32(vi a, int n) { return (vi)((vs32)a >> n); }
LR_INLINE vi v_table(vi table, vi index) { return _mm256_shuffle_epi8(table, index); }
LR_INLINE vi v_zip32_lo(vi a, vi b) { return _mm256_unpacklo_epi32(a, b); }
LR_INLINE vi v_zip32_hi(vi a, vi b) { return _mm256_unpackhi_epi32(a, b); }
LR_INLINE vi v_zip64_lo(vi a, vi b) { return _mm256_unpacklo_epi64(a, b); }
LR_INLINE vi v_zip64_hi(vi a, vi b) { return _mm256_unpackhi_epi64(a, b); }

#ifdef AVX_VNNI
LR_INLINE vi v_dot(vi acc, vi w, vi x)
{
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(w), "xm"(x));
    return acc;
}
LR_INLINE vi v_dot_wide(vi acc, vi w, vi x) { return v_dot(acc, w, x); }
#else
LR_INLINE vi v_dot(vi acc, vi w, vi x)
{
    return v_add32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
}
LR_INLINE vi v_dot_wide(vi acc, vi w, vi x) { return v_dot(acc, _mm256_abs_epi8(w), _mm256_sign_epi8(x, w)); }
#endif
LR_INLINE vi v_dot16(vi acc, vi a, vi b) { return v_add32(acc, _mm256_madd_epi16(a, b)); }

LR_INLINE vf v_cvt(vi a) { return _mm256_cvtepi32_ps(a); }
LR_INLINE vf v_as_f(vi a) { return _mm256_castsi256_ps(a); }
LR_INLINE vf v_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
LR_INLINE vf v_addf(vf a, vf b) { return _mm256_add_ps(a, b); }
LR_INLINE vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
LR_INLINE vf v_fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
LR_INLINE vf v_f16(vi a)
{
    vi low = v_and(a, v_set32(0xffff)), packed = _mm256_packus_epi32(low, low); /* 0-3 twice | 4-7 twice */
    return _mm256_cvtph_ps(_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08)));
}

#define VG 2
LR_INLINE void g_load_f32(vf g[VG], const float *p) { g[0] = _mm256_loadu_ps(p), g[1] = _mm256_loadu_ps(p + 8); }
LR_INLINE void g_load_f16(vf g[VG], const uint8_t *p)
{
    g[0] = _mm256_cvtph_ps(v_load128(p)), g[1] = _mm256_cvtph_ps(v_load128(p + 16));
}
LR_INLINE void g_load_bf16(vf g[VG], const uint8_t *p)
{
    g[0] = v_as_f(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v_load128(p)), 16));
    g[1] = v_as_f(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v_load128(p + 16)), 16));
}
/* E4M3: the bits of an F16 2^8 too small; 0x7f is not a number. */
LR_INLINE void g_load_f8(vf g[VG], const uint8_t *p)
{
    vi b = _mm256_cvtepi8_epi16(v_load128(p)), size = v_and(b, _mm256_set1_epi16(0x7f));
    vi nan = v_and(_mm256_cmpeq_epi16(size, _mm256_set1_epi16(0x7f)), _mm256_set1_epi16(0x7e00));
    vi half = v_or(v_or(_mm256_slli_epi16(size, 7), v_and(b, _mm256_set1_epi16(-0x8000))), nan);
    g[0] = v_mul(_mm256_cvtph_ps(_mm256_castsi256_si128(half)), v_setf(0x1p8f));
    g[1] = v_mul(_mm256_cvtph_ps(_mm256_extracti128_si256(half, 1)), v_setf(0x1p8f));
}
LR_INLINE float g_sum(const vf g[VG])
{
    __m256 a = _mm256_add_ps(g[0], g[1]);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

#endif
