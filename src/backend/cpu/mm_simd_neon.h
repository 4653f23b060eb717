/* mm_simd_neon.h - the vector words of the matrix kernels, in NEON with dot products. See mm_simd_avx512.h.
 *
 * With NEON_I8MM defined, several tokens are multiplied by SMMLA, which takes two rows and two tokens at once. */
#ifndef LR_MM_SIMD_H
#define LR_MM_SIMD_H

#include <arm_neon.h>

#include "mm_rows.h"

#define VR 4
#define VL 1
#define TILE_V 2
#define TILE_T 6
#define TILE_T_SUB 4
#define FEW 2
#define MOST_FEW FEW
#define FLOAT_R 2
#define FLOAT_T 2
#define WIDE_FLIP 0

typedef uint8x16_t vi;
typedef float32x4_t vf;

LR_INLINE uint32x4_t v_u(vi a) { return vreinterpretq_u32_u8(a); }
LR_INLINE int32x4_t v_s(vi a) { return vreinterpretq_s32_u8(a); }
LR_INLINE vi v_of_u(uint32x4_t a) { return vreinterpretq_u8_u32(a); }
LR_INLINE vi v_of_s(int32x4_t a) { return vreinterpretq_u8_s32(a); }

LR_INLINE vi v_rows16(const rows *r, size_t at, int j) { return vld1q_u8(row_at(r, at, j)); }
LR_INLINE vi v_rows4(const rows *r, size_t at)
{
    uint32_t a[4];
    for (int i = 0; i < 4; i++) memcpy(a + i, row_at(r, at, i), 4);
    return v_of_u(vld1q_u32(a));
}
LR_INLINE vi v_load(const void *p) { return vld1q_u8(p); }
LR_INLINE vf v_f16s(const uint8_t *p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))); }
LR_INLINE vi v_bytes(const uint8_t *p)
{
    uint32_t u;
    memcpy(&u, p, 4);
    return v_of_u(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(u)))));
}
LR_INLINE void v_store(void *p, vi v) { vst1q_u8(p, v); }
LR_INLINE vf v_loadf(const float *p) { return vreinterpretq_f32_u8(vld1q_u8((const uint8_t *)p)); }
LR_INLINE void v_storef(float *p, vf v) { vst1q_u8((uint8_t *)p, vreinterpretq_u8_f32(v)); }
LR_INLINE vi v_all16(const void *p) { return vld1q_u8(p); }
LR_INLINE vi v_all4(const void *p)
{
    uint32_t u;
    memcpy(&u, p, 4);
    return v_of_u(vdupq_n_u32(u));
}
LR_INLINE vf v_allf(const void *p) { return vreinterpretq_f32_u8(v_all4(p)); }
LR_INLINE vi v_zero(void) { return vdupq_n_u8(0); }
LR_INLINE vf v_zerof(void) { return vdupq_n_f32(0); }
LR_INLINE vi v_set8(int x) { return vdupq_n_u8((uint8_t)x); }
LR_INLINE vi v_set32(int x) { return v_of_s(vdupq_n_s32(x)); }
LR_INLINE vf v_setf(float x) { return vdupq_n_f32(x); }

LR_INLINE vi v_and(vi a, vi b) { return vandq_u8(a, b); }
LR_INLINE vi v_or(vi a, vi b) { return vorrq_u8(a, b); }
LR_INLINE vi v_xor(vi a, vi b) { return veorq_u8(a, b); }
LR_INLINE vi v_pick(vi a, vi mask, vi b) { return vorrq_u8(vandq_u8(a, mask), b); }
LR_INLINE vi v_add8(vi a, vi b) { return vaddq_u8(a, b); }
LR_INLINE vi v_sub8(vi a, vi b) { return vsubq_u8(a, b); }
LR_INLINE vi v_add32(vi a, vi b) { return v_of_u(vaddq_u32(v_u(a), v_u(b))); }
LR_INLINE vi v_sub32(vi a, vi b) { return v_of_u(vsubq_u32(v_u(a), v_u(b))); }
LR_INLINE vi v_max32(vi a, vi b) { return v_of_s(vmaxq_s32(v_s(a), v_s(b))); }
LR_INLINE vi v_eq32(vi a, vi b) { return v_of_u(vceqq_u32(v_u(a), v_u(b))); }
LR_INLINE vi v_shr32(vi a, int n) { return v_of_u(v_u(a) >> n); }
LR_INLINE vi v_shl32(vi a, int n) { return v_of_u(v_u(a) << n); }
LR_INLINE vi v_sar32(vi a, int n) { return v_of_s(v_s(a) >> n); }
LR_INLINE vi v_table(vi table, vi index) { return vqtbl1q_u8(table, index); }
LR_INLINE vi v_zip32_lo(vi a, vi b) { return v_of_u(vzip1q_u32(v_u(a), v_u(b))); }
LR_INLINE vi v_zip32_hi(vi a, vi b) { return v_of_u(vzip2q_u32(v_u(a), v_u(b))); }
LR_INLINE vi v_zip64_lo(vi a, vi b)
{
    return vreinterpretq_u8_u64(vzip1q_u64(vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b)));
}
LR_INLINE vi v_zip64_hi(vi a, vi b)
{
    return vreinterpretq_u8_u64(vzip2q_u64(vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b)));
}

LR_INLINE vi v_dot(vi acc, vi w, vi x)
{
    return v_of_s(vdotq_s32(v_s(acc), vreinterpretq_s8_u8(w), vreinterpretq_s8_u8(x)));
}
LR_INLINE vi v_dot_wide(vi acc, vi w, vi x) { return v_dot(acc, w, x); }
LR_INLINE vi v_dot16(vi acc, vi a, vi b)
{
    int16x8_t p = vreinterpretq_s16_u8(a), q = vreinterpretq_s16_u8(b);
    int32x4_t sums = vpaddq_s32(vmull_s16(vget_low_s16(p), vget_low_s16(q)), vmull_high_s16(p, q));
    return v_of_s(vaddq_s32(v_s(acc), sums));
}

#ifdef NEON_I8MM
#define HAVE_PAIRS
/* acc + [row 0 token 0, row 0 token 1, row 1 token 0, row 1 token 1]: w holds 8 columns of each row, x of each token. */
LR_INLINE vi v_dot_pairs(vi acc, vi w, vi x)
{
    return v_of_s(vmmlaq_s32(v_s(acc), vreinterpretq_s8_u8(w), vreinterpretq_s8_u8(x)));
}
/* 8 bytes of each of two tokens. */
LR_INLINE vi v_both8(const uint8_t *p, const uint8_t *q) { return vcombine_u8(vld1_u8(p), vld1_u8(q)); }
LR_INLINE vi v_even32(vi a, vi b) { return v_of_u(vuzp1q_u32(v_u(a), v_u(b))); }
LR_INLINE vi v_odd32(vi a, vi b) { return v_of_u(vuzp2q_u32(v_u(a), v_u(b))); }
#endif

LR_INLINE vf v_cvt(vi a) { return vcvtq_f32_s32(v_s(a)); }
LR_INLINE vf v_as_f(vi a) { return vreinterpretq_f32_u8(a); }
LR_INLINE vf v_mul(vf a, vf b) { return vmulq_f32(a, b); }
LR_INLINE vf v_addf(vf a, vf b) { return vaddq_f32(a, b); }
LR_INLINE vf v_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
LR_INLINE vf v_fnma(vf a, vf b, vf c) { return vfmsq_f32(c, a, b); }
LR_INLINE vf v_f16(vi a) { return vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(v_u(a)))); }

#define VG 4
LR_INLINE void g_load_f32(vf g[VG], const float *p)
{
    for (int i = 0; i < VG; i++) g[i] = v_loadf(p + 4 * i);
}
LR_INLINE void g_load_f16(vf g[VG], const uint8_t *p)
{
    for (int i = 0; i < VG; i++) g[i] = vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p + 8 * i)));
}
LR_INLINE void g_load_bf16(vf g[VG], const uint8_t *p)
{
    for (int i = 0; i < VG; i++)
        g[i] = vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p + 8 * i)), 16));
}
/* E4M3: the bits of an F16 2^8 too small; 0x7f is not a number. */
LR_INLINE void g_load_f8(vf g[VG], const uint8_t *p)
{
    for (int i = 0; i < VG; i += 2) {
        uint16x8_t b = vreinterpretq_u16_s16(vmovl_s8(vld1_s8((const int8_t *)p + 4 * i)));
        uint16x8_t size = vandq_u16(b, vdupq_n_u16(0x7f));
        uint16x8_t nan = vandq_u16(vceqq_u16(size, vdupq_n_u16(0x7f)), vdupq_n_u16(0x7e00));
        uint16x8_t half = vorrq_u16(vorrq_u16(vshlq_n_u16(size, 7), vandq_u16(b, vdupq_n_u16(0x8000))), nan);
        g[i] = v_mul(vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(half))), v_setf(0x1p8f));
        g[i + 1] = v_mul(vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(half))), v_setf(0x1p8f));
    }
}
LR_INLINE float g_sum(const vf g[VG])
{
    vf a = vaddq_f32(vaddq_f32(g[0], g[2]), vaddq_f32(g[1], g[3])); /* + 8, then + 4 */
    float32x2_t b = vadd_f32(vget_low_f32(a), vget_high_f32(a));
    return vget_lane_f32(b, 0) + vget_lane_f32(b, 1);
}

#endif
