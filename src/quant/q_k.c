/* q_k.c - Q2_K to Q6_K: blocks of 256 cut into sub-blocks, whose scales are small integers times the block's f16 scale.
 *
 * Weight i of a block lies in sub-block i / 16 (Q2_K, Q3_K, Q6_K) or i / 32 (Q4_K, Q5_K). Fields in order:
 *
 *   Q2_K   84  scale u8[16] (low half s, high half m), q2[64], d f16, dmin f16         (d s) q - (dmin m)
 *   Q3_K  110  high[32], q2[64], s6[12], d f16                                        (d (s - 32)) (q - 4)
 *   Q4_K  144  d f16, dmin f16, sm6[12], q4[128]                                       (d s) q - (dmin m)
 *   Q5_K  176  d f16, dmin f16, sm6[12], high[32], q4[128]                             (d s) q - (dmin m)
 *   Q6_K  210  low[128], high2[64], s i8[16], d f16                                    (d s) (q - 32)
 *
 * Where the bits of weight i lie:
 *   q2     byte 32 (i / 128) + i % 32, bits 2 (i / 32 % 4) and up
 *   q4     byte 32 (i / 64) + i % 32, the low half if i / 32 is even, else the high half
 *   high   byte i % 32, bit i / 32
 *   low    byte 64 (i / 128) + i % 64, the low half if i / 64 is even, else the high half
 *   high2  as q2: the two upper bits
 *   s6     [12]: scale j < 8 has its low 4 bits in the low half of byte j, j >= 8 in the high half of byte j - 8;
 *          its upper 2 bits are bits 2 (j / 4) and up of byte 8 + j % 4
 *   sm6    [12]: scale j < 4 is the low 6 bits of byte j, offset j those of byte j + 4; for j >= 4 their low 4 bits are
 *          the two halves of byte j + 4, their upper 2 bits the top bits of bytes j - 4 and j
 */
#include "codec.h"

#include <math.h>

enum { BLOCK = 256 };

/* ---------------------------------------------------------------- bits */
static void unpack_q2(const uint8_t *src, uint8_t *q)
{
    for (int i = 0; i < BLOCK; i++) q[i] = src[32 * (i / 128) + i % 32] >> (2 * (i / 32 % 4)) & 3;
}

static void pack_q2(const uint8_t *q, uint8_t *dst)
{
    for (int half = 0; half < 2; half++) {
        const uint8_t *h = q + 128 * half;
        for (int j = 0; j < 32; j++)
            dst[32 * half + j] = (uint8_t)(h[j] | h[j + 32] << 2 | h[j + 64] << 4 | h[j + 96] << 6);
    }
}

static void unpack_q4(const uint8_t *src, uint8_t *q)
{
    for (int g = 0; g < 4; g++) {
        for (int j = 0; j < 32; j++) {
            q[64 * g + j] = src[32 * g + j] & 15;
            q[64 * g + 32 + j] = src[32 * g + j] >> 4;
        }
    }
}

static void pack_q4(const uint8_t *q, uint8_t *dst)
{
    for (int g = 0; g < 4; g++)
        for (int j = 0; j < 32; j++)
            dst[32 * g + j] = (uint8_t)((q[64 * g + j] & 15) | (q[64 * g + 32 + j] & 15) << 4);
}

/* The plane of single bits that stands above `shift` lower bits. */
static void unpack_high(const uint8_t *src, int shift, uint8_t *q)
{
    for (int i = 0; i < BLOCK; i++) q[i] = (uint8_t)(q[i] | (src[i % 32] >> (i / 32) & 1) << shift);
}

static void pack_high(const uint8_t *q, int shift, uint8_t *dst)
{
    for (int j = 0; j < 32; j++) {
        unsigned bits = 0;
        for (int g = 0; g < 8; g++) bits |= (unsigned)(q[32 * g + j] >> shift & 1) << g;
        dst[j] = (uint8_t)bits;
    }
}

static void unpack_sm6(const uint8_t *p, uint8_t *s, uint8_t *m)
{
    for (int j = 0; j < 4; j++) {
        s[j] = p[j] & 63;
        m[j] = p[j + 4] & 63;
        s[j + 4] = (uint8_t)((p[j + 8] & 15) | p[j] >> 6 << 4);
        m[j + 4] = (uint8_t)(p[j + 8] >> 4 | p[j + 4] >> 6 << 4);
    }
}

static void pack_sm6(const uint8_t *s, const uint8_t *m, uint8_t *p)
{
    for (int j = 0; j < 4; j++) {
        p[j] = (uint8_t)(s[j] | s[j + 4] >> 4 << 6);
        p[j + 4] = (uint8_t)(m[j] | m[j + 4] >> 4 << 6);
        p[j + 8] = (uint8_t)((s[j + 4] & 15) | (m[j + 4] & 15) << 4);
    }
}

static void unpack_s6(const uint8_t *p, uint8_t *s)
{
    for (int j = 0; j < 16; j++) {
        int low = j < 8 ? p[j] & 15 : p[j - 8] >> 4;
        s[j] = (uint8_t)(low | (p[8 + j % 4] >> (2 * (j / 4)) & 3) << 4);
    }
}

static void pack_s6(const uint8_t *s, uint8_t *p)
{
    for (int j = 0; j < 8; j++) p[j] = (uint8_t)((s[j] & 15) | (s[j + 8] & 15) << 4);
    for (int j = 0; j < 4; j++)
        p[8 + j] = (uint8_t)(s[j] >> 4 | s[j + 4] >> 4 << 2 | s[j + 8] >> 4 << 4 | s[j + 12] >> 4 << 6);
}

static void unpack_q6(const uint8_t *low, const uint8_t *high2, uint8_t *q)
{
    uint8_t upper[BLOCK];
    unpack_q2(high2, upper);
    for (int i = 0; i < BLOCK; i++) {
        int lower = low[64 * (i / 128) + i % 64] >> (4 * (i / 64 % 2)) & 15;
        q[i] = (uint8_t)(lower | upper[i] << 4);
    }
}

static void pack_q6(const uint8_t *q, uint8_t *low, uint8_t *high2)
{
    uint8_t upper[BLOCK];
    for (int half = 0; half < 2; half++)
        for (int j = 0; j < 64; j++)
            low[64 * half + j] = (uint8_t)((q[128 * half + j] & 15) | (q[128 * half + 64 + j] & 15) << 4);
    for (int i = 0; i < BLOCK; i++) upper[i] = q[i] >> 4;
    pack_q2(upper, high2);
}

/* ---------------------------------------------------------------- decode */
/* n_sub sub-blocks of scale d s[j] and offset dmin m[j]. */
static void spread_affine(const uint8_t *q, int n_sub, float d, const uint8_t *s, float dmin, const uint8_t *m,
                          float *dst)
{
    int n = BLOCK / n_sub;
    for (int j = 0; j < n_sub; j++) {
        float scale = d * (float)s[j], offset = dmin * (float)m[j];
        for (int i = j * n; i < (j + 1) * n; i++) dst[i] = scale * (float)q[i] - offset;
    }
}

static void decode_q2_k(const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n_block)
{
    (void)aux;
    uint8_t q[BLOCK], s[16], m[16];
    for (; n_block--; src += 84, dst += BLOCK) {
        for (int j = 0; j < 16; j++) {
            s[j] = src[j] & 15;
            m[j] = src[j] >> 4;
        }
        unpack_q2(src + 16, q);
        spread_affine(q, 16, load_f16(src + 80), s, load_f16(src + 82), m, dst);
    }
}

static void decode_q3_k(const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n_block)
{
    (void)aux;
    uint8_t q[BLOCK], s[16];
    for (; n_block--; src += 110, dst += BLOCK) {
        unpack_q2(src + 32, q);
        unpack_high(src, 2, q);
        unpack_s6(src + 96, s);
        float d = load_f16(src + 108);
        for (int j = 0; j < 16; j++) {
            float scale = d * (float)(s[j] - 32);
            for (int i = 16 * j; i < 16 * j + 16; i++) dst[i] = scale * (float)(q[i] - 4);
        }
    }
}

static void decode_q4_k(const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n_block)
{
    (void)aux;
    uint8_t q[BLOCK], s[8], m[8];
    for (; n_block--; src += 144, dst += BLOCK) {
        unpack_sm6(src + 4, s, m);
        unpack_q4(src + 16, q);
        spread_affine(q, 8, load_f16(src), s, load_f16(src + 2), m, dst);
    }
}

static void decode_q5_k(const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n_block)
{
    (void)aux;
    uint8_t q[BLOCK], s[8], m[8];
    for (; n_block--; src += 176, dst += BLOCK) {
        unpack_sm6(src + 4, s, m);
        unpack_q4(src + 48, q);
        unpack_high(src + 16, 4, q);
        spread_affine(q, 8, load_f16(src), s, load_f16(src + 2), m, dst);
    }
}

static void decode_q6_k(const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n_block)
{
    (void)aux;
    uint8_t q[BLOCK];
    for (; n_block--; src += 210, dst += BLOCK) {
        unpack_q6(src, src + 128, q);
        float d = load_f16(src + 208);
        for (int j = 0; j < 16; j++) {
            float scale = d * (float)(int8_t)src[192 + j];
            for (int i = 16 * j; i < 16 * j + 16; i++) dst[i] = scale * (float)(q[i] - 32);
        }
    }
}

/* ---------------------------------------------------------------- encode */
static const float *part(const float *importance, uint64_t at) { return importance ? importance + at : NULL; }

/* Levels of x [n] under one scale and offset, and their weighted squared error. */
static float round_affine(int n, const float *x, const float *w, float step, float base, float q_max, uint8_t *q)
{
    float inverse = step > 0 ? 1 / step : 0, lane[8] = {0};
    for (int i = 0; i < n; i += 8) {
        for (int k = 0; k < 8; k++) {
            float level = nearest((x[i + k] + base) * inverse, 0, q_max);
            float off = step * level - base - x[i + k];
            q[i + k] = (uint8_t)level;
            lane[k] += w[i + k] * off * off;
        }
    }
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/* The scale and offset of one sub-block as small integers: the nearest, or a neighbour if that fits the weights better
 * (the two were fitted together, and are rounded apart). */
static void settle_affine(int n, const float *x, const float *w, float d, float dmin, int s_max, float q_max,
                          uint8_t *s, uint8_t *m, uint8_t *q)
{
    int s0 = *s, m0 = *m;
    float best = round_affine(n, x, w, d * (float)s0, dmin * (float)m0, q_max, q);
    for (int i = LR_MAX(0, s0 - 1); i <= LR_MIN(s_max, s0 + 1); i++) {
        for (int j = LR_MAX(0, m0 - 1); j <= LR_MIN(s_max, m0 + 1); j++) {
            uint8_t trial[32];
            float error = round_affine(n, x, w, d * (float)i, dmin * (float)j, q_max, trial);
            if (!(error < best)) continue;
            best = error;
            *s = (uint8_t)i;
            *m = (uint8_t)j;
            memcpy(q, trial, (size_t)n);
        }
    }
}

/* One block with offsets: fits every sub-block, makes the scales and the offsets whole multiples of d and dmin (stored
 * at d_at and dmin_at), and rounds the weights against what a reader will see. */
static void encode_affine(const float *x, const float *importance, int n_sub, int s_max, int q_max, uint8_t *d_at,
                          uint8_t *dmin_at, uint8_t *s, uint8_t *m, uint8_t *q)
{
    int n = BLOCK / n_sub;
    float scale[16], offset[16], top_scale = 0, top_offset = 0, w[BLOCK];
    for (int j = 0; j < n_sub; j++) {
        float low;
        lr_fit_weights(n, part(importance, (uint64_t)j * (uint64_t)n), w + j * n);
        scale[j] = lr_fit_affine(n, q_max, true, x + j * n, w + j * n, &low);
        offset[j] = -low;
        top_scale = LR_MAX(top_scale, scale[j]);
        top_offset = LR_MAX(top_offset, offset[j]);
    }
    float d = store_f16(d_at, top_scale / (float)s_max), dmin = store_f16(dmin_at, top_offset / (float)s_max);
    for (int j = 0; j < n_sub; j++) {
        s[j] = (uint8_t)(d > 0 ? nearest(scale[j] / d, 0, (float)s_max) : 0);
        m[j] = (uint8_t)(dmin > 0 ? nearest(offset[j] / dmin, 0, (float)s_max) : 0);
        settle_affine(n, x + j * n, w + j * n, d, dmin, s_max, (float)q_max, s + j, m + j, q + j * n);
    }
}

/* One block without offsets; the scales become multiples of d in [-s_neg, s_neg - 1], the weights levels from 0. */
static void encode_signed(const float *x, const float *importance, int s_neg, int q_neg, uint8_t *d_at, int8_t *s,
                          uint8_t *q)
{
    enum { N_SUB = 16, N = 16 };
    float scale[N_SUB], top = 0, w[N];
    for (int j = 0; j < N_SUB; j++) {
        lr_fit_weights(N, part(importance, (uint64_t)j * N), w);
        scale[j] = lr_fit_signed(N, q_neg, x + j * N, w);
        top = fabsf(scale[j]) > fabsf(top) ? scale[j] : top;
    }
    float d = store_f16(d_at, -top / (float)s_neg);
    for (int j = 0; j < N_SUB; j++) {
        s[j] = (int8_t)(d != 0 ? nearest(scale[j] / d, (float)-s_neg, (float)(s_neg - 1)) : 0);
        float step = d * (float)s[j], inverse = step != 0 ? 1 / step : 0;
        for (int i = j * N; i < (j + 1) * N; i++)
            q[i] = (uint8_t)((int)nearest(x[i] * inverse, (float)-q_neg, (float)(q_neg - 1)) + q_neg);
    }
}

static void encode_q2_k(const float *src, uint8_t *dst, uint64_t n_block, const float *importance)
{
    uint8_t q[BLOCK], s[16], m[16];
    for (uint64_t b = 0; b < n_block; b++, dst += 84) {
        encode_affine(src + b * BLOCK, part(importance, b * BLOCK), 16, 15, 3, dst + 80, dst + 82, s, m, q);
        for (int j = 0; j < 16; j++) dst[j] = (uint8_t)(s[j] | m[j] << 4);
        pack_q2(q, dst + 16);
    }
}

static void encode_q3_k(const float *src, uint8_t *dst, uint64_t n_block, const float *importance)
{
    uint8_t q[BLOCK], level[16];
    int8_t s[16];
    for (uint64_t b = 0; b < n_block; b++, dst += 110) {
        encode_signed(src + b * BLOCK, part(importance, b * BLOCK), 32, 4, dst + 108, s, q);
        for (int j = 0; j < 16; j++) level[j] = (uint8_t)(s[j] + 32);
        pack_s6(level, dst + 96);
        pack_high(q, 2, dst);
        for (int i = 0; i < BLOCK; i++) q[i] &= 3;
        pack_q2(q, dst + 32);
    }
}

static void encode_q4_k(const float *src, uint8_t *dst, uint64_t n_block, const float *importance)
{
    uint8_t q[BLOCK], s[8], m[8];
    for (uint64_t b = 0; b < n_block; b++, dst += 144) {
        encode_affine(src + b * BLOCK, part(importance, b * BLOCK), 8, 63, 15, dst, dst + 2, s, m, q);
        pack_sm6(s, m, dst + 4);
        pack_q4(q, dst + 16);
    }
}

static void encode_q5_k(const float *src, uint8_t *dst, uint64_t n_block, const float *importance)
{
    uint8_t q[BLOCK], s[8], m[8];
    for (uint64_t b = 0; b < n_block; b++, dst += 176) {
        encode_affine(src + b * BLOCK, part(importance, b * BLOCK), 8, 63, 31, dst, dst + 2, s, m, q);
        pack_sm6(s, m, dst + 4);
        pack_high(q, 4, dst + 16);
        pack_q4(q, dst + 48);
    }
}

static void encode_q6_k(const float *src, uint8_t *dst, uint64_t n_block, const float *importance)
{
    uint8_t q[BLOCK];
    int8_t s[16];
    for (uint64_t b = 0; b < n_block; b++, dst += 210) {
        encode_signed(src + b * BLOCK, part(importance, b * BLOCK), 128, 32, dst + 208, s, q);
        memcpy(dst + 192, s, sizeof s);
        pack_q6(q, dst, dst + 128);
    }
}

/* With offsets, the lowest weight is what an offset alone reaches. */
const lr_codec lr_codec_Q2_K = {decode_q2_k, encode_q2_k, 15 * LR_F16_MAX};
const lr_codec lr_codec_Q3_K = {decode_q3_k, encode_q3_k, 31 * 3 * LR_F16_MAX};
const lr_codec lr_codec_Q4_K = {decode_q4_k, encode_q4_k, 63 * LR_F16_MAX};
const lr_codec lr_codec_Q5_K = {decode_q5_k, encode_q5_k, 63 * LR_F16_MAX};
const lr_codec lr_codec_Q6_K = {decode_q6_k, encode_q6_k, 127 * 31 * LR_F16_MAX};
