/* vec16.h - sixteen floats, on every instruction set: what vec_body.h and attn_body.h are written in.
 *
 * A file that includes this first defines one of VEC_SCALAR, VEC_AVX2, VEC_AVX512, VEC_NEON and is compiled with the
 * flags of that set. Lane i of every operation is the same formula whatever the set does to it, so a result never
 * depends on where in a row a number stands: tails are loaded with zeros and stored in part.
 */
#ifndef LR_VEC16_H
#define LR_VEC16_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "quant.h"

/* UNROLL: before a loop of constant length, so that what it indexes lies in registers. */
#if defined(VEC_SCALAR) /* loops of sixteen: inlined by force they take a sanitizer build minutes */
#define VEC_FN static inline __attribute__((unused))
#define UNROLL
#else
#define VEC_FN static inline __attribute__((always_inline, unused))
#define UNROLL _Pragma("GCC unroll 8")
#endif

#if defined(VEC_AVX512)
#include <immintrin.h>
typedef __m512 v16;
VEC_FN v16 v_set1(float x) { return _mm512_set1_ps(x); }
VEC_FN v16 v_load(const float *p) { return _mm512_loadu_ps(p); }
VEC_FN void v_store(float *p, v16 a) { _mm512_storeu_ps(p, a); }
VEC_FN __mmask16 v_mask_(uint32_t n) { return (__mmask16)((1u << n) - 1); }
VEC_FN v16 v_load_n(const float *p, uint32_t n) { return _mm512_maskz_loadu_ps(v_mask_(n), p); }
VEC_FN void v_store_n(float *p, v16 a, uint32_t n) { _mm512_mask_storeu_ps(p, v_mask_(n), a); }
VEC_FN v16 v_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
VEC_FN v16 v_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
VEC_FN v16 v_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
VEC_FN v16 v_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
VEC_FN v16 v_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
VEC_FN v16 v_min(v16 a, v16 b) { return _mm512_min_ps(a, b); }
VEC_FN v16 v_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
VEC_FN v16 v_round(v16 a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
VEC_FN v16 v_abs(v16 a) { return _mm512_abs_ps(a); }
/* a < b ? x : y, lane by lane; a NaN compares false. */
VEC_FN v16 v_if_lt(v16 a, v16 b, v16 x, v16 y)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
/* a * 2^n for whole n in [-126, 128] */
VEC_FN v16 v_ldexp(v16 a, v16 n) { return _mm512_scalef_ps(a, n); }
VEC_FN v16 v_load_h(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
VEC_FN void v_store_h(uint16_t *p, v16 a)
{
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
VEC_FN v16 v_set1_h(uint16_t h) { return v_set1(_mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h)))); }
VEC_FN v16 v_load_i8(const int8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}
/* The low (high: upper) nibbles of 16 bytes, less 8. */
VEC_FN v16 v_load_i4(const uint8_t *p, bool high)
{
    __m512i b = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
    b = high ? _mm512_srli_epi32(b, 4) : _mm512_and_si512(b, _mm512_set1_epi32(15));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(b, _mm512_set1_epi32(8)));
}
VEC_FN v16 v_iota(void) { return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }

#elif defined(VEC_AVX2)
#include <immintrin.h>
typedef struct v16 {
    __m256 a, b;
} v16;
#define V2_(f, x, y) ((v16){f((x).a, (y).a), f((x).b, (y).b)})
VEC_FN v16 v_set1(float x) { return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
VEC_FN v16 v_load(const float *p) { return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
VEC_FN void v_store(float *p, v16 x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
VEC_FN v16 v_add(v16 x, v16 y) { return V2_(_mm256_add_ps, x, y); }
VEC_FN v16 v_sub(v16 x, v16 y) { return V2_(_mm256_sub_ps, x, y); }
VEC_FN v16 v_mul(v16 x, v16 y) { return V2_(_mm256_mul_ps, x, y); }
VEC_FN v16 v_div(v16 x, v16 y) { return V2_(_mm256_div_ps, x, y); }
VEC_FN v16 v_min(v16 x, v16 y) { return V2_(_mm256_min_ps, x, y); }
VEC_FN v16 v_max(v16 x, v16 y) { return V2_(_mm256_max_ps, x, y); }
VEC_FN v16 v_fma(v16 x, v16 y, v16 z)
{
    return (v16){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
VEC_FN __m256 v_round_(__m256 a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
VEC_FN v16 v_round(v16 x) { return (v16){v_round_(x.a), v_round_(x.b)}; }
VEC_FN v16 v_abs(v16 x)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (v16){_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
VEC_FN v16 v_if_lt(v16 a, v16 b, v16 x, v16 y)
{
    return (v16){_mm256_blendv_ps(y.a, x.a, _mm256_cmp_ps(a.a, b.a, _CMP_LT_OQ)),
                 _mm256_blendv_ps(y.b, x.b, _mm256_cmp_ps(a.b, b.b, _CMP_LT_OQ))};
}
VEC_FN __m256 v_pow2_(__m256i n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
VEC_FN __m256 v_ldexp_(__m256 a, __m256 n)
{
    __m256i e = _mm256_cvtps_epi32(n), h = _mm256_srai_epi32(e, 1);
    return _mm256_mul_ps(_mm256_mul_ps(a, v_pow2_(h)), v_pow2_(_mm256_sub_epi32(e, h)));
}
VEC_FN v16 v_ldexp(v16 x, v16 n) { return (v16){v_ldexp_(x.a, n.a), v_ldexp_(x.b, n.b)}; }
VEC_FN v16 v_load_h(const uint16_t *p)
{
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p + 8)))};
}
VEC_FN void v_store_h(uint16_t *p, v16 x)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128((__m128i *)(void *)(p + 8), _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
VEC_FN v16 v_set1_h(uint16_t h) { return v_set1(_mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h)))); }
VEC_FN v16 v_load_i8(const int8_t *p)
{
    __m128i b = _mm_loadu_si128((const __m128i *)(const void *)p);
    return (v16){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)),
                 _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(b, 8)))};
}
VEC_FN v16 v_load_i4(const uint8_t *p, bool high)
{
    __m128i b = _mm_loadu_si128((const __m128i *)(const void *)p);
    b = _mm_and_si128(high ? _mm_srli_epi16(b, 4) : b, _mm_set1_epi8(15));
    b = _mm_sub_epi8(b, _mm_set1_epi8(8));
    return (v16){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)),
                 _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(b, 8)))};
}
VEC_FN v16 v_iota(void)
{
    return (v16){_mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7), _mm256_setr_ps(8, 9, 10, 11, 12, 13, 14, 15)};
}

#elif defined(VEC_NEON)
#include <arm_neon.h>
typedef struct v16 {
    float32x4_t q[4];
} v16;
#define V4_(expr) \
    do { \
        v16 r_; \
        for (int i = 0; i < 4; i++) r_.q[i] = (expr); \
        return r_; \
    } while (0)
VEC_FN v16 v_set1(float x) { V4_(vdupq_n_f32(x)); }
VEC_FN v16 v_load(const float *p) { V4_(vld1q_f32(p + 4 * i)); }
VEC_FN void v_store(float *p, v16 x)
{
    for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, x.q[i]);
}
VEC_FN v16 v_add(v16 x, v16 y) { V4_(vaddq_f32(x.q[i], y.q[i])); }
VEC_FN v16 v_sub(v16 x, v16 y) { V4_(vsubq_f32(x.q[i], y.q[i])); }
VEC_FN v16 v_mul(v16 x, v16 y) { V4_(vmulq_f32(x.q[i], y.q[i])); }
VEC_FN v16 v_div(v16 x, v16 y) { V4_(vdivq_f32(x.q[i], y.q[i])); }
VEC_FN v16 v_fma(v16 x, v16 y, v16 z) { V4_(vfmaq_f32(z.q[i], x.q[i], y.q[i])); }
VEC_FN v16 v_min(v16 x, v16 y) { V4_(vminq_f32(x.q[i], y.q[i])); }
VEC_FN v16 v_max(v16 x, v16 y) { V4_(vmaxq_f32(x.q[i], y.q[i])); }
VEC_FN v16 v_round(v16 x) { V4_(vrndnq_f32(x.q[i])); }
VEC_FN v16 v_abs(v16 x) { V4_(vabsq_f32(x.q[i])); }
VEC_FN v16 v_if_lt(v16 a, v16 b, v16 x, v16 y) { V4_(vbslq_f32(vcltq_f32(a.q[i], b.q[i]), x.q[i], y.q[i])); }
VEC_FN float32x4_t v_pow2_(int32x4_t n)
{
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}
VEC_FN float32x4_t v_ldexp_(float32x4_t a, float32x4_t n)
{
    int32x4_t e = vcvtq_s32_f32(n), h = vshrq_n_s32(e, 1);
    return vmulq_f32(vmulq_f32(a, v_pow2_(h)), v_pow2_(vsubq_s32(e, h)));
}
VEC_FN v16 v_ldexp(v16 x, v16 n) { V4_(v_ldexp_(x.q[i], n.q[i])); }
VEC_FN v16 v_load_h(const uint16_t *p) { V4_(vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i)))); }
VEC_FN void v_store_h(uint16_t *p, v16 x)
{
    for (int i = 0; i < 4; i++) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(x.q[i])));
}
VEC_FN v16 v_set1_h(uint16_t h)
{
    return v_set1(vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h))), 0));
}
VEC_FN v16 v_from_i8_(int8x16_t b)
{
    int16x8_t lo = vmovl_s8(vget_low_s8(b)), hi = vmovl_s8(vget_high_s8(b));
    return (v16){{vcvtq_f32_s32(vmovl_s16(vget_low_s16(lo))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(lo))),
                  vcvtq_f32_s32(vmovl_s16(vget_low_s16(hi))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(hi)))}};
}
VEC_FN v16 v_load_i8(const int8_t *p) { return v_from_i8_(vld1q_s8(p)); }
VEC_FN v16 v_load_i4(const uint8_t *p, bool high)
{
    uint8x16_t b = vld1q_u8(p);
    b = high ? vshrq_n_u8(b, 4) : vandq_u8(b, vdupq_n_u8(15));
    return v_from_i8_(vsubq_s8(vreinterpretq_s8_u8(b), vdupq_n_s8(8)));
}
VEC_FN v16 v_iota(void)
{
    static const float iota[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return v_load(iota);
}

#elif defined(VEC_SCALAR)
typedef struct v16 {
    float f[16];
} v16;
#define V16_(expr) \
    do { \
        v16 r_; \
        for (int i = 0; i < 16; i++) r_.f[i] = (expr); \
        return r_; \
    } while (0)
VEC_FN v16 v_set1(float x) { V16_(x); }
VEC_FN v16 v_load(const float *p) { V16_(p[i]); }
VEC_FN void v_store(float *p, v16 x) { memcpy(p, x.f, sizeof x.f); }
VEC_FN v16 v_add(v16 x, v16 y) { V16_(x.f[i] + y.f[i]); }
VEC_FN v16 v_sub(v16 x, v16 y) { V16_(x.f[i] - y.f[i]); }
VEC_FN v16 v_mul(v16 x, v16 y) { V16_(x.f[i] * y.f[i]); }
VEC_FN v16 v_div(v16 x, v16 y) { V16_(x.f[i] / y.f[i]); }
VEC_FN v16 v_fma(v16 x, v16 y, v16 z) { V16_(x.f[i] * y.f[i] + z.f[i]); }
VEC_FN v16 v_min(v16 x, v16 y) { V16_(x.f[i] < y.f[i] ? x.f[i] : y.f[i]); }
VEC_FN v16 v_max(v16 x, v16 y) { V16_(x.f[i] > y.f[i] ? x.f[i] : y.f[i]); }
VEC_FN v16 v_round(v16 x) { V16_((x.f[i] + 12582912.0f) - 12582912.0f); } /* |x| < 2^22 */
VEC_FN v16 v_abs(v16 x) { V16_(fabsf(x.f[i])); }
VEC_FN v16 v_if_lt(v16 a, v16 b, v16 x, v16 y) { V16_(a.f[i] < b.f[i] ? x.f[i] : y.f[i]); }
VEC_FN float v_ldexp_(float a, float n)
{
    if (!(n > -200.0f && n < 200.0f)) return a + n; /* NaN */
    int e = (int)n, h = e >> 1;
    uint32_t b0 = (uint32_t)(h + 127) << 23, b1 = (uint32_t)(e - h + 127) << 23;
    float f0, f1;
    memcpy(&f0, &b0, 4);
    memcpy(&f1, &b1, 4);
    return a * f0 * f1;
}
VEC_FN v16 v_ldexp(v16 x, v16 n) { V16_(v_ldexp_(x.f[i], n.f[i])); }
VEC_FN v16 v_load_h(const uint16_t *p) { V16_(lr_f16_to_f32(p[i])); }
VEC_FN void v_store_h(uint16_t *p, v16 x)
{
    for (int i = 0; i < 16; i++) p[i] = lr_f32_to_f16(x.f[i]);
}
VEC_FN v16 v_set1_h(uint16_t h) { return v_set1(lr_f16_to_f32(h)); }
VEC_FN v16 v_load_i8(const int8_t *p) { V16_((float)p[i]); }
VEC_FN v16 v_load_i4(const uint8_t *p, bool high) { V16_((float)((int)(high ? p[i] >> 4 : p[i] & 15) - 8)); }
VEC_FN v16 v_iota(void) { V16_((float)i); }
#else
#error "define VEC_SCALAR, VEC_AVX2, VEC_AVX512 or VEC_NEON"
#endif

#if !defined(VEC_AVX512)
VEC_FN v16 v_load_n(const float *p, uint32_t n)
{
    float t[16] = {0};
    memcpy(t, p, n * sizeof *p);
    return v_load(t);
}
VEC_FN void v_store_n(float *p, v16 x, uint32_t n)
{
    float t[16];
    v_store(t, x);
    memcpy(p, t, n * sizeof *p);
}
#endif

/* Sum and largest of the lanes: halves folded, 16 to 8 to 4 to 2 to 1, the same everywhere. */
VEC_FN float v_sum(v16 a)
{
#if defined(VEC_AVX512)
    __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
#elif defined(VEC_AVX2)
    __m256 s8 = _mm256_add_ps(a.a, a.b);
#endif
#if defined(VEC_AVX512) || defined(VEC_AVX2)
    __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    s4 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s4, _mm_shuffle_ps(s4, s4, 1)));
#else
    float t[16];
    v_store(t, a);
    for (int h = 8; h > 0; h /= 2)
        for (int i = 0; i < h; i++) t[i] += t[i + h];
    return t[0];
#endif
}
VEC_FN float v_hmax(v16 a)
{
#if defined(VEC_AVX512)
    return _mm512_reduce_max_ps(a);
#else
    float t[16];
    v_store(t, a);
    for (int h = 8; h > 0; h /= 2)
        for (int i = 0; i < h; i++) t[i] = t[i] > t[i + h] ? t[i] : t[i + h];
    return t[0];
#endif
}

/* e^x. At most 2 ulp; below -87.3 it is 0, above 88.7 infinity; NaN stays. */
VEC_FN v16 v_exp(v16 x)
{
    v16 lo = v_set1(-87.336544f);
    v16 c = v_min(v_set1(89.0f), v_max(lo, x));
    v16 n = v_round(v_mul(c, v_set1(1.44269504088896341f)));
    v16 r = v_fma(n, v_set1(-0.693359375f), c);
    r = v_fma(n, v_set1(2.12194440e-4f), r);
    v16 p = v_set1(1.9875691500e-4f);
    p = v_fma(p, r, v_set1(1.3981999507e-3f));
    p = v_fma(p, r, v_set1(8.3334519073e-3f));
    p = v_fma(p, r, v_set1(4.1665795894e-2f));
    p = v_fma(p, r, v_set1(1.6666665459e-1f));
    p = v_fma(p, r, v_set1(5.0000001201e-1f));
    p = v_add(v_fma(p, v_mul(r, r), r), v_set1(1.0f));
    return v_if_lt(x, lo, v_set1(0.0f), v_ldexp(p, n));
}

VEC_FN v16 v_sigmoid(v16 x)
{
    v16 one = v_set1(1.0f);
    return v_div(one, v_add(one, v_exp(v_sub(v_set1(0.0f), x))));
}

VEC_FN v16 v_tanh(v16 x)
{
    v16 z = v_mul(x, x), a = v_abs(x), one = v_set1(1.0f), zero = v_set1(0.0f);
    v16 p = v_set1(-5.70498872745e-3f);
    p = v_fma(p, z, v_set1(2.06390887954e-2f));
    p = v_fma(p, z, v_set1(-5.37397155531e-2f));
    p = v_fma(p, z, v_set1(1.33314422036e-1f));
    p = v_fma(p, z, v_set1(-3.33332819422e-1f));
    p = v_fma(v_mul(p, z), x, x);
    v16 e = v_sub(one, v_div(v_set1(2.0f), v_add(v_exp(v_add(a, a)), one)));
    e = v_if_lt(x, zero, v_sub(zero, e), e);
    return v_if_lt(a, v_set1(0.625f), p, e);
}

#endif
