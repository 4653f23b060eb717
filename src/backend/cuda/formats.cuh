/* formats.cuh - what the bytes of each number format mean to a tensor core: one decode per format.
 *
 * Owns: turning a row's bytes, in shared memory, into 16-bit operands. Refuses to own: how the bytes came there, and
 * the products. Layouts are described in src/quant, which is also what these are checked against.
 *
 * A row is cut in spans: `span` columns in `bytes` bytes, prepared together. begin() reads what a span's groups
 * share; frag() then gives, of columns 32 group + 8t .. + 7 of the span, four pairs of operands: hi[0], hi[1] belong
 * to the first of the group's products, hi[2], hi[3] to the second (lr_cu_turn). Four lanes t = 0 .. 3 of one row
 * stand side by side; all 32 lanes of a warp call begin() together (some share its work by shuffles). A span's
 * address is a multiple of `align`. `group` is to be known when compiled: loops over it are unrolled. The bytes of a
 * span that reaches past the row's end must be there to be read, not to mean anything.
 *
 * aux() reads a span's numbers from the second plane (in the card's memory): `line` is the row's own line or NULL.
 *
 * Rounding (docs/decisions/0009): formats without offsets whose scale is stored as F16 or a power of two, and
 * floats, are rounded once. Where a scale is itself a product (K-quants, IQ4_XS), it is rounded to F16, then its
 * product.
 */
#ifndef LR_FORMATS_CUH
#define LR_FORMATS_CUH

extern "C" {
#include "quant.h"
}

struct lr_cu_aux {
    uint32_t v[2];
};

/* ---------------------------------------------------------------- pairs of F16 */
#define LR_CU_INLINE static __device__ __forceinline__

#ifndef LR_EMULATED /* else they are tests/emulate/instructions.h's */
LR_CU_INLINE uint32_t lr_h2_mul(uint32_t a, uint32_t b)
{
    uint32_t r;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
LR_CU_INLINE uint32_t lr_h2_add(uint32_t a, uint32_t b)
{
    uint32_t r;
    asm("add.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
LR_CU_INLINE uint32_t lr_h2_fma(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t r;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
    return r;
}
LR_CU_INLINE uint32_t lr_h2_low(uint32_t a)
{
    uint32_t r;
    asm("{.reg .b16 l, h; mov.b32 {l, h}, %1; mov.b32 %0, {l, l};}" : "=r"(r) : "r"(a));
    return r;
}
LR_CU_INLINE uint32_t lr_h2_high(uint32_t a)
{
    uint32_t r;
    asm("{.reg .b16 l, h; mov.b32 {l, h}, %1; mov.b32 %0, {h, h};}" : "=r"(r) : "r"(a));
    return r;
}
LR_CU_INLINE uint32_t lr_h2_both(uint16_t h)
{
    uint32_t r;
    asm("mov.b32 %0, {%1, %1};" : "=r"(r) : "h"(h));
    return r;
}
/* low and high, rounded to F16. */
LR_CU_INLINE uint32_t lr_h2_from(float low, float high)
{
    uint32_t r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
LR_CU_INLINE uint32_t lr_b2_from(float low, float high)
{
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
LR_CU_INLINE float lr_h_float(uint16_t h)
{
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}
#endif
LR_CU_INLINE uint32_t lr_h2_pick(uint32_t a, int high) { return high ? lr_h2_high(a) : lr_h2_low(a); }

/* ---------------------------------------------------------------- bytes */
LR_CU_INLINE uint32_t lr_ld32(const uint8_t *p) { return *(const uint32_t *)p; }
LR_CU_INLINE uint16_t lr_ld16(const uint8_t *p) { return *(const uint16_t *)p; }

/* Eight bytes from `mis` past p on, which is a multiple of 4; each four shifted right by `bits`, < 8 (the upper bits
 * of a byte are then the next one's, or nothing). */
LR_CU_INLINE void lr_eight(const uint8_t *p, int mis, uint32_t bits, uint32_t v[2])
{
    uint32_t w0 = lr_ld32(p), w1 = lr_ld32(p + 4);
    if (mis == 0) {
        v[0] = w0 >> bits;
        v[1] = w1 >> bits;
    } else {
        uint32_t w2 = lr_ld32(p + 8);
        v[0] = __funnelshift_r(w0, w1, 8 * mis + bits);
        v[1] = __funnelshift_r(w1, w2, 8 * mis + bits);
    }
}

/* N words at p, a multiple of 2. */
template <int N> LR_CU_INLINE void lr_words(const uint8_t *p, uint32_t v[N])
{
    uint32_t odd = (uint32_t)(uintptr_t)p & 2, select = odd ? 0x5432 : 0x3210, w[N + 1];
    p -= odd;
#pragma unroll
    for (int i = 0; i < N; i++) w[i] = lr_ld32(p + 4 * i);
    w[N] = lr_ld32(p + 4 * N - (odd ? 0 : 4)); /* never past what was asked for, but to the next multiple of 4 */
#pragma unroll
    for (int i = 0; i < N; i++) v[i] = __byte_perm(w[i], w[i + 1], select);
}

/* Bits 0 .. 3 of `four` as bit `at` of four bytes. */
LR_CU_INLINE uint32_t lr_bits(uint32_t four, int at) { return four * (0x00204081u << at) & 0x01010101u << at; }

/* Two of four bytes as F16 numbers 1024 + byte. */
LR_CU_INLINE uint32_t lr_magic(uint32_t v, int upper) { return __byte_perm(v, 0x64646464, upper ? 0x4342 : 0x4140); }

/* -(1024 + n), n <= 1024, twice. */
LR_CU_INLINE uint32_t lr_unmagic(uint32_t n) { return (0xe400 + n) * 0x10001; }

/* scale (byte - bias) of eight bytes. */
LR_CU_INLINE void lr_spread(const uint32_t v[2], uint32_t bias, uint32_t scale, uint32_t hi[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++) hi[i] = lr_h2_mul(lr_h2_add(lr_magic(v[i / 2], i & 1), lr_unmagic(bias)), scale);
}

/* scale byte + offset. */
LR_CU_INLINE void lr_spread_affine(const uint32_t v[2], uint32_t scale, uint32_t offset, uint32_t hi[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++) hi[i] = lr_h2_fma(lr_h2_add(lr_magic(v[i / 2], i & 1), lr_unmagic(0)), scale, offset);
}

/* Bytes: the low halves of those given. */
LR_CU_INLINE void lr_low_halves(uint32_t v[2])
{
    v[0] &= 0x0f0f0f0f;
    v[1] &= 0x0f0f0f0f;
}

/* The numbers of the IQ4 formats plus 128 in place of their codes, 0 .. 15. */
LR_CU_INLINE void lr_iq4(uint32_t v[2])
{
    const uint32_t t0 = 0x3f2d1801, t1 = 0x766a5d4f, t2 = 0xa6998d81, t3 = 0xf1d9c5b5;
    uint32_t codes = v[1] * 16 + v[0]; /* nibbles: columns 0, 4, 1, 5, 2, 6, 3, 7 */
    uint32_t seven = codes & 0x77777777, which = 0x32103210 | (codes >> 1 & 0x44444444);
    uint32_t a = __byte_perm(__byte_perm(t0, t1, seven), __byte_perm(t2, t3, seven), which);
    seven >>= 16;
    which >>= 16;
    uint32_t b = __byte_perm(__byte_perm(t0, t1, seven), __byte_perm(t2, t3, seven), which);
    v[0] = __byte_perm(a, b, 0x6420);
    v[1] = __byte_perm(a, b, 0x7531);
}

/* E2M1 codes, 0 .. 15, as upper bytes of F16 numbers 2^-14 as large. */
LR_CU_INLINE uint32_t lr_e2m1(uint32_t codes) { return (codes * 2 + 0x70707070) & 0x8e8e8e8e; }

/* Two of four bytes as upper bytes. */
LR_CU_INLINE uint32_t lr_upper(uint32_t v, int upper) { return __byte_perm(v, 0, upper ? 0x3424 : 0x1404); }

LR_CU_INLINE void lr_spread_e2m1(const uint32_t codes[2], uint32_t scale, uint32_t scale2, uint32_t hi[4])
{
    uint32_t v[2] = {lr_e2m1(codes[0]), lr_e2m1(codes[1])};
#pragma unroll
    for (int i = 0; i < 4; i++) hi[i] = lr_h2_mul(lr_h2_mul(lr_upper(v[i / 2], i & 1), scale), scale2);
}

/* E8M0 exponents as what lr_spread_e2m1's numbers are multiplied by, in two steps: together 2^(e - 127 + 14). */
struct lr_e8m0_scale {
    uint32_t first, second;
};
LR_CU_INLINE lr_e8m0_scale lr_e8m0_pair(uint32_t e_low, uint32_t e_high)
{
    float first[2], second[2];
    uint32_t e[2] = {e_low, e_high};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        first[i] = __uint_as_float(min(e[i] + 14, 142u) << 23);
        second[i] = __uint_as_float(min(max(e[i], 128u) - 1, 142u) << 23);
    }
    lr_e8m0_scale s = {lr_h2_from(first[0], first[1]), lr_h2_from(second[0], second[1])};
    return s;
}

/* Eight E4M3 numbers times s, rounded once. */
LR_CU_INLINE void lr_spread_e4m3(const uint32_t v[2], float s, uint32_t hi[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint32_t p = lr_upper(v[i / 2], i & 1);
        p = (p & 0x80008000) | (p >> 1 & 0x3f803f80); /* 2^-8 as large; NaN: 480 of those */
        uint32_t bits = p & 0x7fff7fff;
        float low = lr_h_float((uint16_t)p) * 256, high = lr_h_float((uint16_t)(p >> 16)) * 256;
        const float nan = __uint_as_float(0x7fffffff);
        low = (bits & 0xffff) == 0x3f80 ? nan : low;
        high = bits >> 16 == 0x3f80 ? nan : high;
        hi[i] = lr_h2_from(__fmul_rn(low, s), __fmul_rn(high, s));
    }
}

/* ---------------------------------------------------------------- formats */
/* What most formats have in common. Those of 32 columns read their scale in frag(). */
template <uint32_t SPAN, uint32_t BYTES, uint32_t ALIGN> struct lr_cu_fmt_base {
    static constexpr bool bf16 = false;   /* operands are BF16, not F16 */
    static constexpr bool has_lo = false; /* frag() gives `lo` too: what rounding left */
    static constexpr uint32_t span = SPAN, bytes = BYTES, align = ALIGN;
    static constexpr bool has_aux = false;
    struct state {};
    static __device__ __forceinline__ lr_cu_aux aux(const uint8_t *line, uint32_t col, uint32_t cols) { return {}; }
    static __device__ __forceinline__ void begin(state &, const uint8_t *span_at, lr_cu_aux, int t) {}
};

template <uint32_t FMT> struct lr_cu_fmt;

#define LR_CU_FRAG \
    static __device__ __forceinline__ void frag(const state &s, const uint8_t *at, int group, int t, uint32_t hi[4], \
                                                uint32_t lo[4])

template <> struct lr_cu_fmt<LR_FMT_F16> : lr_cu_fmt_base<32, 64, 16> {
    LR_CU_FRAG
    {
        uint4 v = *(const uint4 *)(at + 64 * group + 16 * t);
        hi[0] = v.x, hi[1] = v.y, hi[2] = v.z, hi[3] = v.w;
    }
};

template <> struct lr_cu_fmt<LR_FMT_BF16> : lr_cu_fmt<LR_FMT_F16> {
    static constexpr bool bf16 = true;
};

template <> struct lr_cu_fmt<LR_FMT_F32> : lr_cu_fmt_base<32, 128, 16> {
    static constexpr bool bf16 = true, has_lo = true;
    LR_CU_FRAG
    {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float4 v = *(const float4 *)(at + 128 * group + 32 * t + 16 * i);
            hi[2 * i] = lr_b2_from(v.x, v.y);
            hi[2 * i + 1] = lr_b2_from(v.z, v.w);
            lo[2 * i] = lr_b2_from(v.x - __uint_as_float(hi[2 * i] << 16),
                                   v.y - __uint_as_float(hi[2 * i] & 0xffff0000));
            lo[2 * i + 1] = lr_b2_from(v.z - __uint_as_float(hi[2 * i + 1] << 16),
                                       v.w - __uint_as_float(hi[2 * i + 1] & 0xffff0000));
        }
    }
};

template <> struct lr_cu_fmt<LR_FMT_Q8_0> : lr_cu_fmt_base<64, 68, 4> {
    LR_CU_FRAG
    {
        const uint8_t *p = at + 68 * (group / 2) + 34 * (group & 1);
        uint32_t v[2];
        if (group & 1) lr_eight(p + 2 + 8 * t, 0, 0, v);
        else lr_eight(p + 8 * t, 2, 0, v);
        v[0] ^= 0x80808080;
        v[1] ^= 0x80808080;
        lr_spread(v, 128, lr_h2_both(lr_ld16(p)), hi);
    }
};

/* The nibbles of one of 32 columns, 16 bytes from p + mis on. */
LR_CU_INLINE void lr_nibbles(const uint8_t *p, int mis, int t, uint32_t v[2])
{
    lr_eight(p + 8 * (t & 1), mis, t & 2 ? 4 : 0, v);
    lr_low_halves(v);
}

template <> struct lr_cu_fmt<LR_FMT_Q4_0> : lr_cu_fmt_base<64, 36, 4> {
    static __device__ __forceinline__ uint32_t block(const uint8_t *at, int group, int t, uint32_t v[2])
    {
        const uint8_t *p = at + 36 * (group / 2);
        lr_nibbles(group & 1 ? p + 20 : p, group & 1 ? 0 : 2, t, v);
        return lr_h2_both(lr_ld16(group & 1 ? p + 18 : p));
    }
    LR_CU_FRAG
    {
        uint32_t v[2], d = block(at, group, t, v);
        lr_spread(v, 8, d, hi);
    }
};

template <> struct lr_cu_fmt<LR_FMT_IQ4_NL> : lr_cu_fmt_base<64, 36, 4> {
    LR_CU_FRAG
    {
        uint32_t v[2], d = lr_cu_fmt<LR_FMT_Q4_0>::block(at, group, t, v);
        lr_iq4(v);
        lr_spread(v, 128, d, hi);
    }
};

template <> struct lr_cu_fmt<LR_FMT_Q4_1> : lr_cu_fmt_base<32, 20, 4> {
    LR_CU_FRAG
    {
        const uint8_t *p = at + 20 * group;
        uint32_t v[2], dm = lr_ld32(p);
        lr_nibbles(p + 4, 0, t, v);
        lr_spread_affine(v, lr_h2_low(dm), lr_h2_high(dm), hi);
    }
};

/* The fifth bits, one byte of them for eight columns. */
LR_CU_INLINE void lr_fifth(uint32_t eight, uint32_t v[2])
{
    v[0] |= lr_bits(eight & 15, 4);
    v[1] |= lr_bits(eight >> 4, 4);
}

template <> struct lr_cu_fmt<LR_FMT_Q5_0> : lr_cu_fmt_base<64, 44, 4> {
    LR_CU_FRAG
    {
        const uint8_t *p = at + 44 * (group / 2), *q = p + 22 * (group & 1);
        uint32_t v[2];
        lr_nibbles(group & 1 ? p + 28 : p + 4, group & 1 ? 0 : 2, t, v);
        lr_fifth(q[2 + t], v);
        lr_spread(v, 16, lr_h2_both(lr_ld16(q)), hi);
    }
};

template <> struct lr_cu_fmt<LR_FMT_Q5_1> : lr_cu_fmt_base<32, 24, 4> {
    LR_CU_FRAG
    {
        const uint8_t *p = at + 24 * group;
        uint32_t v[2], dm = lr_ld32(p);
        lr_nibbles(p + 8, 0, t, v);
        lr_fifth(p[4 + t], v);
        lr_spread_affine(v, lr_h2_low(dm), lr_h2_high(dm), hi);
    }
};

/* Scales and offsets of pairs of groups, of Q4_K and Q5_K: 16 bytes at p, a multiple of 16. */
struct lr_k_affine {
    uint32_t scale[4], offset[4];
};
LR_CU_INLINE void lr_k_begin(lr_k_affine &s, const uint8_t *p)
{
    uint4 w = *(const uint4 *)p; /* d and dmin, then sm6 */
    uint32_t d = lr_h2_low(w.x), dmin = lr_h2_high(w.x ^ 0x80000000);
    uint32_t q[2] = {w.y & 0x3f3f3f3f, (w.w & 0x0f0f0f0f) | (w.y >> 2 & 0x30303030)};
    uint32_t m[2] = {w.z & 0x3f3f3f3f, (w.w >> 4 & 0x0f0f0f0f) | (w.z >> 2 & 0x30303030)};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        s.scale[i] = lr_h2_mul(lr_h2_add(lr_magic(q[i / 2], i & 1), lr_unmagic(0)), d);
        s.offset[i] = lr_h2_mul(lr_h2_add(lr_magic(m[i / 2], i & 1), lr_unmagic(0)), dmin);
    }
}

LR_CU_INLINE void lr_k_spread(const lr_k_affine &s, int group, const uint32_t v[2], uint32_t hi[4])
{
    lr_spread_affine(v, lr_h2_pick(s.scale[group / 2], group & 1), lr_h2_pick(s.offset[group / 2], group & 1), hi);
}

/* Nibbles of Q4_K and Q5_K: two groups share 32 bytes. */
LR_CU_INLINE void lr_k_nibbles(const uint8_t *q4, int group, int t, uint32_t v[2])
{
    uint2 w = *(const uint2 *)(q4 + 32 * (group / 2) + 8 * t);
    v[0] = group & 1 ? w.x >> 4 : w.x;
    v[1] = group & 1 ? w.y >> 4 : w.y;
    lr_low_halves(v);
}

template <> struct lr_cu_fmt<LR_FMT_Q4_K> : lr_cu_fmt_base<256, 144, 16> {
    typedef lr_k_affine state;
    static __device__ __forceinline__ void begin(state &s, const uint8_t *at, lr_cu_aux, int) { lr_k_begin(s, at); }
    LR_CU_FRAG
    {
        uint32_t v[2];
        lr_k_nibbles(at + 16, group, t, v);
        lr_k_spread(s, group, v, hi);
    }
};

template <> struct lr_cu_fmt<LR_FMT_Q5_K> : lr_cu_fmt_base<256, 176, 16> {
    struct state {
        lr_k_affine k;
        uint32_t high[2];
    };
    static __device__ __forceinline__ void begin(state &s, const uint8_t *at, lr_cu_aux, int t)
    {
        lr_k_begin(s.k, at);
        uint2 w = *(const uint2 *)(at + 16 + 8 * t);
        s.high[0] = w.x;
        s.high[1] = w.y;
    }
    LR_CU_FRAG
    {
        uint32_t v[2];
        lr_k_nibbles(at + 48, group, t, v);
#pragma unroll
        for (int i = 0; i < 2; i++)
            v[i] |= (group > 4 ? s.high[i] >> (group - 4) : s.high[i] << (4 - group)) & 0x10101010;
        lr_k_spread(s.k, group, v, hi);
    }
};

/* Two bits per column: 8 bytes of each half of a block. */
LR_CU_INLINE uint32_t lr_two_bits(uint32_t w, int group) { return w >> 2 * (group & 3) & 0x03030303; }

template <> struct lr_cu_fmt<LR_FMT_Q2_K> : lr_cu_fmt_base<256, 84, 4> {
    struct state {
        uint32_t q[4], d;
    };
    static __device__ __forceinline__ void begin(state &s, const uint8_t *at, lr_cu_aux, int t)
    {
#pragma unroll
        for (int i = 0; i < 4; i++) s.q[i] = lr_ld32(at + 16 + 32 * (i / 2) + 8 * t + 4 * (i & 1));
        s.d = lr_ld32(at + 80) ^ 0x80000000;
    }
    LR_CU_FRAG
    {
        uint32_t sm = at[2 * group + t / 2], both = (sm & 15) | (sm & 0xf0) << 12 | 0x64006400;
        uint32_t so = lr_h2_mul(lr_h2_add(both, lr_unmagic(0)), s.d);
        uint32_t v[2] = {lr_two_bits(s.q[group / 4 * 2], group), lr_two_bits(s.q[group / 4 * 2 + 1], group)};
        lr_spread_affine(v, lr_h2_low(so), lr_h2_high(so), hi);
    }
};

template <> struct lr_cu_fmt<LR_FMT_Q3_K> : lr_cu_fmt_base<256, 110, 2> {
    struct state {
        uint32_t q[4], high[2], scale[4]; /* scales of groups 2i, 2i + 1, this lane's half */
    };
    static __device__ __forceinline__ void begin(state &s, const uint8_t *at, lr_cu_aux, int t)
    {
        uint32_t s6[3], low[4], d = lr_h2_both(lr_ld16(at + 108));
        lr_words<2>(at + 8 * t, s.high);
        lr_words<2>(at + 32 + 8 * t, s.q);
        lr_words<2>(at + 64 + 8 * t, s.q + 2);
        lr_words<3>(at + 96, s6);
#pragma unroll
        for (int i = 0; i < 4; i++) { /* scales 4i .. 4i + 3: of groups 2i, 2i + 1 */
            low[i] = (s6[i & 1] >> (i & 2 ? 4 : 0) & 0x0f0f0f0f) | (s6[2] >> 2 * i & 0x03030303) << 4;
            uint32_t own = __byte_perm(low[i], 0x64646464, t & 2 ? 0x4341 : 0x4240);
            s.scale[i] = lr_h2_mul(lr_h2_add(own, lr_unmagic(32)), d);
        }
    }
    LR_CU_FRAG
    {
        uint32_t v[2];
#pragma unroll
        for (int i = 0; i < 2; i++)
            v[i] = lr_two_bits(s.q[group / 4 * 2 + i], group) | (s.high[i] >> group & 0x01010101) << 2;
        lr_spread(v, 4, lr_h2_pick(s.scale[group / 2], group & 1), hi);
    }
};

template <> struct lr_cu_fmt<LR_FMT_Q6_K> : lr_cu_fmt_base<256, 210, 2> {
    struct state {
        uint32_t scale[4]; /* of groups 2i, 2i + 1, this lane's half */
    };
    static __device__ __forceinline__ void begin(state &s, const uint8_t *at, lr_cu_aux, int t)
    {
        uint32_t w[4], d = lr_h2_both(lr_ld16(at + 208));
        lr_words<4>(at + 192, w);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t own = __byte_perm(w[i] ^ 0x80808080, 0x64646464, t & 2 ? 0x4341 : 0x4240);
            s.scale[i] = lr_h2_mul(lr_h2_add(own, lr_unmagic(128)), d);
        }
    }
    LR_CU_FRAG
    {
        uint32_t low[2], high[2], v[2];
        lr_words<2>(at + 64 * (group / 4) + 32 * (group & 1) + 8 * t, low);
        lr_words<2>(at + 128 + 32 * (group / 4) + 8 * t, high);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            uint32_t l = (group & 2 ? low[i] >> 4 : low[i]) & 0x0f0f0f0f;
            int up = 4 - 2 * (group & 3);
            v[i] = l | ((up > 0 ? high[i] << up : high[i] >> -up) & 0x30303030);
        }
        lr_spread(v, 32, lr_h2_pick(s.scale[group / 2], group & 1), hi);
    }
};

template <> struct lr_cu_fmt<LR_FMT_IQ4_XS> : lr_cu_fmt_base<256, 136, 8> {
    struct state {
        uint32_t scale[4]; /* of groups 0 2, 4 6, 1 3, 5 7 */
    };
    static __device__ __forceinline__ void begin(state &s, const uint8_t *at, lr_cu_aux, int t)
    {
        uint2 w = *(const uint2 *)at; /* d and high, then low */
        uint32_t d = lr_h2_low(w.x), h = w.x >> 16;
        uint32_t x = (h & 0xf) | (h & 0xf0) << 4 | (h & 0xf00) << 8 | (h & 0xf000) << 12; /* two groups a byte */
        uint32_t even = (w.y & 0x0f0f0f0f) | (x << 4 & 0x30303030);
        uint32_t odd = (w.y >> 4 & 0x0f0f0f0f) | (x << 2 & 0x30303030);
#pragma unroll
        for (int i = 0; i < 4; i++)
            s.scale[i] = lr_h2_mul(lr_h2_add(lr_magic(i & 2 ? odd : even, i & 1), lr_unmagic(32)), d);
    }
    LR_CU_FRAG
    {
        uint2 w = *(const uint2 *)(at + 8 + 16 * group + 8 * (t & 1));
        uint32_t bits = t & 2 ? 4 : 0, v[2] = {w.x >> bits, w.y >> bits};
        lr_low_halves(v);
        lr_iq4(v);
        lr_spread(v, 128, lr_h2_pick(s.scale[(group & 1) * 2 + group / 4], group / 2 & 1), hi);
    }
};

/* lr_iq2_xxs_grid. */
static __device__ const uint16_t lr_cu_iq2_grid[256] = {
#include "iq2_grid.def"
};

template <> struct lr_cu_fmt<LR_FMT_IQ2_XXS> : lr_cu_fmt_base<256, 66, 2> {
    struct state {
        float d;
    };
    static __device__ __forceinline__ void begin(state &s, const uint8_t *at, lr_cu_aux, int)
    {
        s.d = lr_h_float(lr_ld16(at));
    }
    LR_CU_FRAG
    {
        const uint8_t *p = at + 2 + 8 * group;
        uint32_t word = lr_ld16(p + 4) | (uint32_t)lr_ld16(p + 6) << 16;
        float scale = s.d * (0.5f + (float)(word >> 28)) * 0.25f;
        uint32_t both = lr_h2_from(scale, scale), seven = word >> 7 * t & 127;
        uint32_t signs = seven | (uint32_t)(__popc(seven) & 1) << 7, x = lr_cu_iq2_grid[p[t]];
        x = (x | x << 8) & 0x00ff00ff;
        x = (x | x << 4) & 0x0f0f0f0f;
        x = (x | x << 2) & 0x33333333;
        uint32_t v[2] = {__byte_perm(0x002b1908, 0, x), __byte_perm(0x002b1908, 0, x >> 16)};
        lr_spread(v, 0, both, hi);
#pragma unroll
        for (int i = 0; i < 4; i++) hi[i] ^= (signs >> 2 * i & 1) << 15 | (signs >> (2 * i + 1) & 1) << 31;
    }
};

template <> struct lr_cu_fmt<LR_FMT_MXFP4> : lr_cu_fmt_base<256, 136, 4> {
    struct state {
        lr_e8m0_scale s[4]; /* of groups i, i + 4 */
    };
    static __device__ __forceinline__ void begin(state &s, const uint8_t *at, lr_cu_aux, int t)
    {
        lr_e8m0_scale own = lr_e8m0_pair(at[17 * t], at[17 * (t + 4)]);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            s.s[i].first = __shfl_sync(~0u, own.first, i, 4);
            s.s[i].second = __shfl_sync(~0u, own.second, i, 4);
        }
    }
    LR_CU_FRAG
    {
        uint32_t v[2];
        lr_nibbles(at + (17 * group + 1) / 4 * 4, (17 * group + 1) & 3, t, v);
        const lr_e8m0_scale &e = s.s[group & 3];
        lr_spread_e2m1(v, lr_h2_pick(e.first, group / 4), lr_h2_pick(e.second, group / 4), hi);
    }
};

template <> struct lr_cu_fmt<LR_FMT_MXFP4_PAIRS> : lr_cu_fmt_base<256, 128, 4> {
    static constexpr bool has_aux = true;
    typedef lr_cu_fmt<LR_FMT_MXFP4>::state state;
    static __device__ __forceinline__ lr_cu_aux aux(const uint8_t *line, uint32_t col, uint32_t cols)
    {
        lr_cu_aux a = {};
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (col + 32 * i < cols) a.v[i / 4] |= (uint32_t)line[col / 32 + i] << 8 * (i & 3);
        return a;
    }
    static __device__ __forceinline__ void begin(state &s, const uint8_t *at, lr_cu_aux a, int t)
    {
#pragma unroll
        for (int i = 0; i < 4; i++) s.s[i] = lr_e8m0_pair(a.v[0] >> 8 * i & 255, a.v[1] >> 8 * i & 255);
    }
    LR_CU_FRAG
    {
        uint32_t w = lr_ld32(at + 16 * group + 4 * t), even = lr_e2m1(w & 0x0f0f0f0f),
                 odd = lr_e2m1(w >> 4 & 0x0f0f0f0f);
        const lr_e8m0_scale &e = s.s[group & 3];
        uint32_t first = lr_h2_pick(e.first, group / 4), second = lr_h2_pick(e.second, group / 4);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t p = __byte_perm(even, odd, 0x4400 + 0x1111 * i) & 0xff00ff00;
            hi[i] = lr_h2_mul(lr_h2_mul(p, first), second);
        }
    }
};

template <> struct lr_cu_fmt<LR_FMT_NVFP4> : lr_cu_fmt_base<64, 36, 4> {
    LR_CU_FRAG
    {
        const uint8_t *p = at + 36 * (group / 2);
        int part = 2 * (group & 1) + t / 2;
        uint32_t code = p[part] == 0x7f ? 0 : p[part] & 0x7f, scale, v[2];
        lr_eight(p + 4 + 8 * part, 0, t & 1 ? 4 : 0, v);
        lr_low_halves(v);
        scale = lr_h2_mul(code * 0x00800080u, 0x78007800); /* 2^15: 2^7 times what it says */
        lr_spread_e2m1(v, scale, 0x58005800, hi);          /* 2^7 */
    }
};

template <> struct lr_cu_fmt<LR_FMT_F8_E4M3> : lr_cu_fmt_base<32, 32, 8> {
    static constexpr bool has_aux = true;
    struct state {
        float scale;
    };
    static __device__ __forceinline__ lr_cu_aux aux(const uint8_t *line, uint32_t, uint32_t)
    {
        return {{line ? *(const uint32_t *)line : 0x3f800000u, 0}};
    }
    static __device__ __forceinline__ void begin(state &s, const uint8_t *, lr_cu_aux a, int)
    {
        s.scale = __uint_as_float(a.v[0]);
    }
    LR_CU_FRAG
    {
        uint2 w = *(const uint2 *)(at + 32 * group + 8 * t);
        uint32_t v[2] = {w.x, w.y};
        lr_spread_e4m3(v, s.scale, hi);
    }
};

template <> struct lr_cu_fmt<LR_FMT_F8_E4M3_B128> : lr_cu_fmt<LR_FMT_F8_E4M3> {
    static constexpr uint32_t span = 128, bytes = 128;
    static __device__ __forceinline__ lr_cu_aux aux(const uint8_t *line, uint32_t col, uint32_t cols)
    {
        return {{line && col < cols ? ((const uint32_t *)line)[col / 128] : 0x3f800000u, 0}};
    }
};

#endif
