/* mm_simd_avx512.h - the vector words of the matrix kernels, in AVX-512.
 *
 * A vector holds VR rows. As bytes it is VL = VR / 4 lanes of 16; lane i of vector j belongs to row 4 i + j.
 * As numbers, element r belongs to row r. The words are the same in mm_simd_avx2.h and mm_simd_neon.h. */
#ifndef LR_MM_SIMD_H
#define LR_MM_SIMD_H

#include <immintrin.h>

#include "mm_rows.h"

#define VR 16
#define VL 4
/* Tiles: row vectors and tokens of the integer kernel (fewer tokens where 16-wide factors need registers), rows and
 * tokens of the float kernel. FEW: so many tokens at a time meet weights that stay in registers instead, MOST_FEW: if
 * there are no more than that in all. */
#define TILE_V 2
#define TILE_T 6
#define TILE_T_SUB 4
#define FEW 8
#ifdef PACKED
#define MOST_FEW 64
#else
#define MOST_FEW FEW
#endif
#define FLOAT_R 4
#define FLOAT_T 6
#define HAVE_BF16_DOT
#define WIDE_FLIP 1 /* the byte product takes unsigned weights: signed ones get 128 added, and taken off the sum */

typedef __m512i vi;
typedef __m512 vf;

LR_INLINE __m128i v_load128(const void *p) { return _mm_loadu_si128((const __m128i *)p); }
/* Rows j, j + 4, j + 8, j + 12: the 16 bytes at `at` of each. */
LR_INLINE vi v_rows16(const rows *r, size_t at, int j)
{
    vi v = _mm512_castsi128_si512(v_load128(row_at(r, at, j)));
    v = _mm512_mask_broadcast_i32x4(v, 0x00f0, v_load128(row_at(r, at, j + 4)));
    v = _mm512_mask_broadcast_i32x4(v, 0x0f00, v_load128(row_at(r, at, j + 8)));
    return _mm512_mask_broadcast_i32x4(v, 0xf000, v_load128(row_at(r, at, j + 12)));
}
LR_INLINE __m128i v_four32(const rows *r, size_t at, int j)
{
    int u[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) memcpy(&u[i], row_at(r, at, j + i), 4);
    return _mm_setr_epi32(u[0], u[1], u[2], u[3]);
}
#define HAVE_TURN32
/* Rows j, j + 4: 32 bytes of each. */
LR_INLINE vi v_rows32(const rows *r, size_t at, int j)
{
    vi v = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)row_at(r, at, j)));
    return _mm512_mask_broadcast_i64x4(v, 0xf0, _mm256_loadu_si256((const __m256i *)row_at(r, at, j + 4)));
}
/* 32 bytes of 16 rows as 8 words per row: half the loads of twice 16 bytes, for one more turn per word. */
LR_INLINE void v_turn32(const rows *r, size_t at, const uint8_t **ahead, bool asking, vi out[8])
{
    vi half[2][4]; /* [rows 0-7, rows 8-15][k]: words k and 4 + k of four rows, then of the next four */
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        vi x[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            x[j] = v_rows32(r, at, 8 * i + j);
            ask_at(ahead, asking);
        }
        vi x0 = x[0], x1 = x[1], x2 = x[2], x3 = x[3];
        vi a = _mm512_unpacklo_epi32(x0, x1), b = _mm512_unpacklo_epi32(x2, x3);
        vi c = _mm512_unpackhi_epi32(x0, x1), d = _mm512_unpackhi_epi32(x2, x3);
        half[i][0] = _mm512_unpacklo_epi64(a, b);
        half[i][1] = _mm512_unpackhi_epi64(a, b);
        half[i][2] = _mm512_unpacklo_epi64(c, d);
        half[i][3] = _mm512_unpackhi_epi64(c, d);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        out[k] = _mm512_shuffle_i32x4(half[0][k], half[1][k], 0x88);
        out[4 + k] = _mm512_shuffle_i32x4(half[0][k], half[1][k], 0xdd);
    }
}
/* 4 bytes of each row, in row order. */
LR_INLINE vi v_rows4(const rows *r, size_t at)
{
    __m256i lo = _mm256_inserti128_si256(_mm256_castsi128_si256(v_four32(r, at, 0)), v_four32(r, at, 4), 1);
    __m256i hi = _mm256_inserti128_si256(_mm256_castsi128_si256(v_four32(r, at, 8)), v_four32(r, at, 12), 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(lo), hi, 1);
}
LR_INLINE vi v_load(const void *p) { return _mm512_loadu_si512(p); }
/* VR numbers of float16, or bytes, one after the other. */
LR_INLINE vf v_f16s(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
LR_INLINE vi v_bytes(const void *p) { return _mm512_cvtepu8_epi32(v_load128(p)); }
LR_INLINE void v_store(void *p, vi v) { _mm512_storeu_si512(p, v); }
LR_INLINE vf v_loadf(const float *p) { return _mm512_loadu_ps(p); }
LR_INLINE void v_storef(float *p, vf v) { _mm512_storeu_ps(p, v); }
LR_INLINE vi v_all16(const void *p) { return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)p)); }
LR_INLINE vi v_all4(const void *p)
{
    int u;
    memcpy(&u, p, 4);
    return _mm512_set1_epi32(u);
}
LR_INLINE vf v_allf(const void *p)
{
    float f;
    memcpy(&f, p, 4);
    return _mm512_set1_ps(f);
}
LR_INLINE vi v_zero(void) { return _mm512_setzero_si512(); }
LR_INLINE vf v_zerof(void) { return _mm512_setzero_ps(); }
LR_INLINE vi v_set8(int x) { return _mm512_set1_epi8((char)x); }
LR_INLINE vi v_set32(int x) { return _mm512_set1_epi32(x); }
LR_INLINE vf v_setf(float x) { return _mm512_set1_ps(x); }

LR_INLINE vi v_and(vi a, vi b) { return _mm512_and_si512(a, b); }
LR_INLINE vi v_or(vi a, vi b) { return _mm512_or_si512(a, b); }
LR_INLINE vi v_xor(vi a, vi b) { return _mm512_xor_si512(a, b); }
/* (a & mask) | b */
LR_INLINE vi v_pick(vi a, vi mask, vi b) { return _mm512_ternarylogic_epi64(a, mask, b, 0xea); }
LR_INLINE vi v_add8(vi a, vi b) { return _mm512_add_epi8(a, b); }
LR_INLINE vi v_sub8(vi a, vi b) { return _mm512_sub_epi8(a, b); }
LR_INLINE vi v_add32(vi a, vi b) { return _mm512_add_epi32(a, b); }
LR_INLINE vi v_sub32(vi a, vi b) { return _mm512_sub_epi32(a, b); }
LR_INLINE vi v_mul32(vi a, vi b) { return _mm512_mullo_epi32(a, b); }
LR_INLINE vi v_max32(vi a, vi b) { return _mm512_max_epi32(a, b); }
LR_INLINE vi v_eq32(vi a, vi b) { return _mm512_movm_epi32(_mm512_cmpeq_epi32_mask(a, b)); }
/* Plain operators: an immediate where n is known, which the intrinsics insist on even without optimisation. */
typedef uint32_t vu32 __attribute__((vector_size(64)));
typedef int32_t vs32 __attribute__((vector_size(64)));
LR_INLINE vi v_shr32(vi a, int n) { return (vi)((vu32)a >> n); }
LR_INLINE vi v_shl32(vi a, int n) { return (vi)((vu32)a << n); }
LR_INLINE vi v_sar32(vi a, int n) { return (vi)((vs32)a >> n); }
/* Byte i of a lane: byte index[i] of that lane of the table. */
LR_INLINE vi v_table(vi table, vi index) { return _mm512_shuffle_epi8(table, index); }
LR_INLINE vi v_zip32_lo(vi a, vi b) { return _mm512_unpacklo_epi32(a, b); }
LR_INLINE vi v_zip32_hi(vi a, vi b) { return _mm512_unpackhi_epi32(a, b); }
LR_INLINE vi v_zip64_lo(vi a, vi b) { return _mm512_unpacklo_epi64(a, b); }
LR_INLINE vi v_zip64_hi(vi a, vi b) { return _mm512_unpackhi_epi64(a, b); }

#define HAVE_IQ2
#ifdef AVX512_VBMI
#define HAVE_FIELD
/* Bits [from, from + width) of each byte at `to`, all others 0. Row 7 - i of the matrix makes bit i. */
LR_INLINE vi v_field(vi a, int from, int width, int to)
{
    uint64_t matrix = 0;
    for (int j = 0; j < width; j++) matrix |= (uint64_t)1 << (from + j) << 8 * (7 - to - j);
    return _mm512_gf2p8affine_epi64_epi8(a, _mm512_set1_epi64((long long)matrix), 0);
}
#define HAVE_NIBBLES
/* Entries of a table of 16, four times repeated, by the lower or upper half of each byte: the index is its low 6 bits. */
LR_INLINE vi v_by_low4(vi table, vi a) { return _mm512_permutexvar_epi8(a, table); }
LR_INLINE vi v_by_high4(vi table, vi a) { return _mm512_permutexvar_epi8(v_shr32(a, 4), table); }
/* 64 entries of a table of 128, by the low 7 bits; or of one of 256. */
LR_INLINE vi v_of128(const uint8_t *t, vi a) { return _mm512_permutex2var_epi8(v_load(t), a, v_load(t + 64)); }
LR_INLINE vi v_of256(const uint8_t *t, vi a)
{
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(a), v_of128(t, a), v_of128(t + 128, a));
}
/* For a pair of rows, which share 64 bits: first, first + step, ... for the four bytes of each. */
LR_INLINE vi v_for_rows(int first, int step)
{
    uint64_t four = 0;
    for (int i = 0; i < 4; i++) four |= (uint64_t)(uint32_t)(first + i * step) << 8 * i;
    return _mm512_set1_epi64((long long)(four | (four + 0x20202020) << 32));
}
/* 32 columns of IQ2_XXS: four grid indices and the word of signs of each row, to words of magnitude, sign, plus 64. */
LR_INLINE void v_iq2(vi index, vi word, vi w[8])
{
    const vi levels = v_add8(v_set8(64), v_set32((int)(lr_iq2_levels[0] | lr_iq2_levels[1] << 8 |
                                                       lr_iq2_levels[2] << 16 | (uint32_t)lr_iq2_levels[3] << 24)));
    vi codes[2] = {v_of256(lr_mm_iq2_codes[0], index), v_of256(lr_mm_iq2_codes[1], index)};
    vi signs = v_of128(lr_mm_iq2_bits, _mm512_multishift_epi64_epi8(v_for_rows(0, 7), word));
#pragma GCC unroll 4
    for (int l = 0; l < 4; l++)
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            vi size = _mm512_permutexvar_epi8(_mm512_multishift_epi64_epi8(v_for_rows(8 * l, 2), codes[half]),
                                              levels);
            __mmask64 minus = _mm512_bitshuffle_epi64_mask(signs, v_for_rows(8 * l + 4 * half, 1));
            w[2 * l + half] = _mm512_mask_sub_epi8(size, minus, v_set8(-128), size);
        }
}
/* 64 numbers of E4M3 as bf16, the first 32 and the last, which holds each: by table, for bf16 products take subnormal
 * numbers for 0. */
#define HAVE_F8_64
LR_INLINE void v_f8_bf16_64(const uint8_t *p, vi out[2])
{
    vi b = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7), v_load(p));
    vi lower = v_of128(lr_mm_e4m3_bytes[0], b);
    vi upper = v_pick(b, v_set8(-128), v_of128(lr_mm_e4m3_bytes[1], b));
    out[0] = _mm512_unpacklo_epi8(lower, upper);
    out[1] = _mm512_unpackhi_epi8(lower, upper);
}
/* Halves of the E4M3 bytes of each word, without sign, by table: as bf16, which holds each; 0x7f is 0. */
#define HAVE_UE4M3
LR_INLINE void v_ue4m3_halves(vi word, vf c[4])
{
    vi known = _mm512_mask_mov_epi8(word, _mm512_cmpeq_epi8_mask(word, v_set8(0x7f)), v_zero());
    vi lower = v_of128(lr_mm_ue4m3_bytes[0], known), upper = v_of128(lr_mm_ue4m3_bytes[1], known);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) { /* bytes 2 and 3 of element r are byte k of its words in the two */
        const vu32 r = (vu32)_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        const vi at = (vi)(r * 0x04040000u + (0x40000000u + (uint32_t)k * 0x01010000u));
        c[k] = _mm512_castsi512_ps(_mm512_maskz_permutex2var_epi8(0xcccccccccccccccc, lower, at, upper));
    }
}
#else
/* 32 words of the grid, 64 at a time; bits 6 and 7 of the indices choose among the results. */
LR_INLINE vi v_iq2_points(vi index)
{
    vi part[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        part[i] = _mm512_permutex2var_epi16(v_load(lr_iq2_xxs_grid + 64 * i), index,
                                            v_load(lr_iq2_xxs_grid + 64 * i + 32));
    __mmask32 six = _mm512_test_epi16_mask(index, _mm512_set1_epi16(64));
    __mmask32 seven = _mm512_test_epi16_mask(index, _mm512_set1_epi16(128));
    return _mm512_mask_blend_epi16(seven, _mm512_mask_blend_epi16(six, part[0], part[1]),
                                   _mm512_mask_blend_epi16(six, part[2], part[3]));
}
/* 32 columns of IQ2_XXS: four grid indices and the word of signs of each row, to words of magnitude, sign, plus 64. */
LR_INLINE void v_iq2(vi index, vi word, vi w[8])
{
    const vi bytes02 = v_set32(0x00ff00ff), seven = v_set32(0x7f), c64 = v_set8(64);
    /* signs: four times seven bits to the bytes of a word; the eighth bit is their parity */
    vi s = v_or(v_or(v_and(word, seven), v_and(v_shl32(word, 1), v_shl32(seven, 8))),
                v_or(v_and(v_shl32(word, 2), v_shl32(seven, 16)), v_and(v_shl32(word, 3), v_shl32(seven, 24))));
    vi folded = v_and(v_xor(s, v_shr32(s, 4)), v_set8(15));
    vi parity = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0, -128, 0, -128, -128, 0));
    s = v_or(s, v_table(parity, folded));
    vi levels = v_set32(
        (int)(lr_iq2_levels[0] | lr_iq2_levels[1] << 8 | lr_iq2_levels[2] << 16 | (uint32_t)lr_iq2_levels[3] << 24));
    vi points[2] = {v_iq2_points(v_and(index, bytes02)), v_iq2_points(v_and(v_shr32(index, 8), bytes02))};
#pragma GCC unroll 4
    for (int l = 0; l < 4; l++) {
        vi of_l = v_table(
            s, v_add8(v_set8(l), _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c))));
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            vi code = v_and(v_shr32(points[l % 2], 16 * (l / 2) + 8 * half), v_set32(255)); /* two bits per column */
            vi spread = v_and(v_or(v_or(code, v_shl32(code, 6)), v_or(v_shl32(code, 12), v_shl32(code, 18))),
                              v_set8(3));
            vi size = v_table(levels, spread);
            __mmask64 minus = _mm512_test_epi8_mask(of_l, v_set32(half ? (int)0x80402010 : 0x08040201));
            w[2 * l + half] = _mm512_mask_sub_epi8(v_add8(size, c64), minus, c64, size);
        }
    }
}

#endif

/* acc + sums of four products of bytes: w in 0..127 (or signed and WIDE_FLIPped), x signed. */
LR_INLINE vi v_dot(vi acc, vi w, vi x) { return _mm512_dpbusd_epi32(acc, w, x); }
LR_INLINE vi v_dot_wide(vi acc, vi w, vi x) { return _mm512_dpbusd_epi32(acc, w, x); }
#define HAVE_DOT_AT
/* With the same four columns for all rows. In assembly: compilers make two instructions of it. */
LR_INLINE vi v_dot_at(vi acc, vi w, const uint8_t *x)
{
    typedef int four __attribute__((aligned(1), may_alias));
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(w), "m"(*(const four *)x));
    return acc;
}
/* acc + sums of two products of int16. */
LR_INLINE vi v_dot16(vi acc, vi a, vi b) { return _mm512_dpwssd_epi32(acc, a, b); }

/* Element i: acc + products of columns 2 i and 2 i + 1. In assembly, for a compiler told of AVX512_BF16 might use it
 * elsewhere, and not every machine that runs the rest has it. */
LR_INLINE vf v_dot_bf16(vf acc, vi a, vi b)
{
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
    return acc;
}

#ifndef PACKED
#define HAVE_ROW
#endif
/* 64 bytes, once: compilers load again where a load costs nothing but the second line it touches. */
LR_INLINE vi v_load_once(const uint8_t *p)
{
    vi v = v_load(p);
    __asm__("" : "+v"(v));
    return v;
}
/* 32 bytes twice; and bits [from, from + width) of the bytes of the first, and from another place on of the second, at `to` and
 * alone. */
LR_INLINE vi v_twice32(const uint8_t *p)
{
    return _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
LR_INLINE vi v_two_fields(vi a, int from0, int from1, int width, int to)
{
#ifdef AVX512_VBMI
    uint64_t m[2] = {0, 0};
    for (int j = 0; j < width; j++) {
        m[0] |= (uint64_t)1 << (from0 + j) << 8 * (7 - to - j);
        m[1] |= (uint64_t)1 << (from1 + j) << 8 * (7 - to - j);
    }
    const long long x = (long long)m[0], y = (long long)m[1];
    return _mm512_gf2p8affine_epi64_epi8(a, _mm512_setr_epi64(x, x, x, x, y, y, y, y), 0);
#else
    const long long x = (to - from0) & 63, y = (to - from1) & 63;
    return v_and(_mm512_rolv_epi64(a, _mm512_setr_epi64(x, x, x, x, y, y, y, y)),
                 v_set8((int8_t)(((1 << width) - 1) << to)));
#endif
}
/* Element i: sum of four products of bytes, w in 0..127 with x signed. */
LR_INLINE vi v_dots(vi w, const uint8_t *x) { return _mm512_dpbusd_epi32(v_zero(), w, v_load(x)); }
/* Element 4 j + k: the sum of quarter j of s[k]. */
LR_INLINE vi v_quarters(const vi s[4])
{
    vi a = v_add32(v_zip32_lo(s[0], s[1]), v_zip32_hi(s[0], s[1]));
    vi b = v_add32(v_zip32_lo(s[2], s[3]), v_zip32_hi(s[2], s[3]));
    return v_add32(v_zip64_lo(a, b), v_zip64_hi(a, b));
}
/* The same of sums below 2^15 in magnitude, and of which two of a quarter are still. */
LR_INLINE vi v_quarters_small(const vi s[4])
{
    const vi one = _mm512_set1_epi16(1);
    vi a = _mm512_madd_epi16(_mm512_packs_epi32(s[0], s[1]), one);
    vi b = _mm512_madd_epi16(_mm512_packs_epi32(s[2], s[3]), one);
    return _mm512_madd_epi16(_mm512_packs_epi32(a, b), one);
}
/* Quarters of a, then of b: 0 plus 1, then 2 plus 3. */
LR_INLINE vi v_pairs(vi a, vi b)
{
    return v_add32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
}

/* 16 numbers of int16, or signed bytes, in this order. */
LR_INLINE vi v_halves(const uint8_t *p, const uint8_t order[16])
{
    __m256i all = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return _mm512_permutexvar_epi32(_mm512_cvtepu8_epi32(v_load128(order)), _mm512_cvtepi16_epi32(all));
}
LR_INLINE vi v_factors(__m128i bytes, const uint8_t order[16])
{
    return _mm512_cvtepi8_epi32(_mm_shuffle_epi8(bytes, v_load128(order)));
}
/* The 16 factors of Q3_K in 12 bytes: four bits of each, 8 bytes twice, then two of each. */
LR_INLINE __m128i v_q3_factors(const uint8_t *p)
{
    uint64_t low;
    int high;
    memcpy(&low, p, 8), memcpy(&high, p + 8, 4);
    __m128i a = _mm_srlv_epi32(_mm_set1_epi64x((long long)low), _mm_setr_epi32(0, 0, 4, 4));
    __m128i b = _mm_rolv_epi32(_mm_set1_epi32(high), _mm_setr_epi32(4, 2, 0, 30));
    b = _mm_ternarylogic_epi32(b, _mm_set1_epi8(0x30), _mm_and_si128(a, _mm_set1_epi8(15)), 0xea);
    return _mm_sub_epi8(b, _mm_set1_epi8(32));
}

#define HAVE_ROW_Q8
/* 16 blocks of one row, each an f16 and 32 signed bytes: the f16, and the products of the bytes, 128 added, with 32 each
 * at x. Memory at `ahead` is asked for meanwhile, as much as is read. */
LR_INLINE void v_row_q8(const uint8_t *p, const uint8_t *x, const uint8_t *ahead, vi *sum, vf *scale)
{
    static const uint16_t words[32] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16,
                                       18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33};
    static const uint16_t firsts[16] = {0, 17, 2, 19, 4, 21, 6, 23, 8, 25, 10, 27, 12, 29, 14, 31};
    const vi blocks = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    const vi first = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)firsts));
    vi at = v_load(words), v = v_load(p), s[8], d = v_zero();
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) { /* from byte 64 k on, block 2 k begins at word 2 k, the next at 2 k + 17 */
        ask_at(&ahead, true);
        vi next = k < 7 ? v_load(p + 64 * k + 64)
                        : _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(p + 512)));
        vi w = _mm512_permutex2var_epi16(v, at, next);
        d = _mm512_mask_permutexvar_epi16(d, 3u << 2 * k, first, v);
        s[k] = _mm512_dpbusd_epi32(v_zero(), v_xor(w, v_set8(-128)), v_load(x + 64 * k));
        at = _mm512_add_epi16(at, _mm512_set1_epi16(2));
        v = next;
    }
    ask_at(&ahead, true);
    /* A quarter of s[k] is half a block. Elements of a quarter are added up, those of four vectors side by side. */
    *sum = _mm512_permutexvar_epi32(blocks, v_pairs(v_quarters(s), v_quarters(s + 4)));
    *scale = _mm512_cvtph_ps(_mm512_castsi512_si256(d));
}

LR_INLINE vf v_cvt(vi a) { return _mm512_cvtepi32_ps(a); }
LR_INLINE vf v_as_f(vi a) { return _mm512_castsi512_ps(a); }
LR_INLINE vf v_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
LR_INLINE vf v_addf(vf a, vf b) { return _mm512_add_ps(a, b); }
LR_INLINE vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
LR_INLINE vf v_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
/* The f16 in the low half of each element. */
LR_INLINE vf v_f16(vi a) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a)); }

/* ---- 16 columns of one row, for the float kernels: a group of VG vectors */
#define VG 1
LR_INLINE void g_load_f32(vf g[VG], const float *p) { g[0] = _mm512_loadu_ps(p); }
LR_INLINE void g_load_f16(vf g[VG], const uint8_t *p)
{
    g[0] = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
LR_INLINE void g_load_bf16(vf g[VG], const uint8_t *p)
{
    g[0] = v_as_f(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
/* E4M3: the bits of an F16 2^8 too small; 0x7f is not a number. (As a float 2^120 too small, its smallest would be subnormal
 * operands, which cost a hundred cycles each.) */
LR_INLINE void g_load_f8(vf g[VG], const uint8_t *p)
{
    __m256i b = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p)),
            size = _mm256_and_si256(b, _mm256_set1_epi16(0x7f));
    __m256i half = _mm256_or_si256(_mm256_slli_epi16(size, 7), _mm256_and_si256(b, _mm256_set1_epi16(-0x8000)));
    __mmask16 nan = _mm256_cmpeq_epi16_mask(size, _mm256_set1_epi16(0x7f));
    g[0] = v_mul(_mm512_cvtph_ps(_mm256_mask_mov_epi16(half, nan, _mm256_set1_epi16(0x7e00))), v_setf(0x1p8f));
}
/* 32 of them as bf16, which holds each: by table, for bf16 products take subnormal numbers for 0. */
LR_INLINE vi v_f8_bf16(const uint8_t *p)
{
    const uint16_t *t = lr_mm_e4m3_bf16;
    vi b = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)p));
    __mmask32 upper = _mm512_test_epi16_mask(b, _mm512_set1_epi16(64));
    vi lo = _mm512_permutex2var_epi16(v_load(t), b, v_load(t + 32));
    vi hi = _mm512_permutex2var_epi16(v_load(t + 64), b, v_load(t + 96));
    vi size = _mm512_mask_blend_epi16(upper, lo, hi);
    return v_pick(_mm512_slli_epi16(b, 8), _mm512_set1_epi16((short)0x8000), size);
}
/* The tree: + 8, + 4, + 2, + 1. */
LR_INLINE float g_sum(const vf g[VG])
{
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(g[0]), _mm512_extractf32x8_ps(g[0], 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

#endif
