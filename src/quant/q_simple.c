/* q_simple.c - Q8_0, Q4_0, Q4_1, Q5_0, Q5_1: blocks of 32 with one scale each.
 *
 *             bytes of a block                              value of weight i
 *   Q8_0   34  d f16, q i8[32]                              d q[i]
 *   Q4_0   18  d f16, nibbles[16]                           d (n[i] - 8)
 *   Q4_1   20  d f16, m f16, nibbles[16]                    d n[i] + m
 *   Q5_0   22  d f16, high u32, nibbles[16]                 d (n[i] + 16 bit[i] - 16)
 *   Q5_1   24  d f16, m f16, high u32, nibbles[16]          d (n[i] + 16 bit[i]) + m
 *
 * Nibbles: byte j holds weight j in its low half and weight j + 16 in its high half. Bit i of `high`, little-endian,
 * is the fifth bit of weight i.
 */
#include "codec.h"

#include <math.h>

enum { BLOCK = 32, HALF = 16 };

static void unpack_nibbles(const uint8_t *src, uint8_t *q)
{
    for (int j = 0; j < HALF; j++) {
        q[j] = src[j] & 15;
        q[j + HALF] = src[j] >> 4;
    }
}

static void pack_nibbles(const uint8_t *q, uint8_t *dst)
{
    for (int j = 0; j < HALF; j++) dst[j] = (uint8_t)((q[j] & 15) | (q[j + HALF] & 15) << 4);
}

static void unpack_high(const uint8_t *src, uint8_t *q)
{
    uint32_t high = load_u32(src);
    for (int i = 0; i < BLOCK; i++) q[i] = (uint8_t)(q[i] | (high >> i & 1) << 4);
}

static void pack_high(const uint8_t *q, uint8_t *dst)
{
    for (int b = 0; b < 4; b++) {
        unsigned bits = 0;
        for (int i = 0; i < 8; i++) bits |= (unsigned)(q[8 * b + i] >> 4 & 1) << i;
        dst[b] = (uint8_t)bits;
    }
}

/* ---------------------------------------------------------------- Q8_0 */
enum { Q8_STEPS = 4 };

static void decode_q8_0(const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n_block)
{
    (void)aux;
    for (; n_block--; src += 34, dst += BLOCK) {
        float d = load_f16(src);
        for (int i = 0; i < BLOCK; i++) dst[i] = d * (float)(int8_t)src[2 + i];
    }
}

static float error_q8_0(const float *src, float d)
{
    float inverse = d > 0 ? 1 / d : 0, sum = 0;
    for (int i = 0; i < BLOCK; i++) {
        float e = src[i] - d * nearest(src[i] * inverse, -127, 127);
        sum += e * e;
    }
    return sum;
}

/* The scale that makes the largest weight 127 is not always the best of the 16-bit numbers around it. */
static void encode_q8_0(const float *src, uint8_t *dst, uint64_t n_block, const float *importance)
{
    (void)importance; /* 255 levels leave nothing to weigh */
    for (; n_block--; src += BLOCK, dst += 34) {
        float top = 0, best = INFINITY, d = 0;
        for (int i = 0; i < BLOCK; i++) top = fabsf(src[i]) > top ? fabsf(src[i]) : top;
        for (int step = -Q8_STEPS; step <= Q8_STEPS; step++) {
            float at = lr_f16_to_f32(lr_f32_to_f16(top / 127 * (1 + (float)step * 0x1p-11f)));
            float e = error_q8_0(src, at);
            if (!(e < best)) continue;
            best = e;
            d = at;
        }
        d = store_f16(dst, d);
        float inverse = d > 0 ? 1 / d : 0;
        for (int i = 0; i < BLOCK; i++) dst[2 + i] = (uint8_t)(int8_t)nearest(src[i] * inverse, -127, 127);
    }
}

/* ---------------------------------------------------------------- signed: Q4_0, Q5_0 */
static void decode_q4_0(const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n_block)
{
    (void)aux;
    uint8_t q[BLOCK];
    for (; n_block--; src += 18, dst += BLOCK) {
        float d = load_f16(src);
        unpack_nibbles(src + 2, q);
        for (int i = 0; i < BLOCK; i++) dst[i] = d * (float)(q[i] - 8);
    }
}

static void decode_q5_0(const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n_block)
{
    (void)aux;
    uint8_t q[BLOCK];
    for (; n_block--; src += 22, dst += BLOCK) {
        float d = load_f16(src);
        unpack_nibbles(src + 6, q);
        unpack_high(src + 2, q);
        for (int i = 0; i < BLOCK; i++) dst[i] = d * (float)(q[i] - 16);
    }
}

/* Stores the scale at dst; q [32] gets the levels, from 0 (which means -n_neg) up. */
static void encode_signed(const float *src, const float *importance, int n_neg, uint8_t *dst, uint8_t *q)
{
    float w[BLOCK];
    lr_fit_weights(BLOCK, importance, w);
    float d = store_f16(dst, lr_fit_signed(BLOCK, n_neg, src, w));
    float inverse = d != 0 ? 1 / d : 0;
    for (int i = 0; i < BLOCK; i++)
        q[i] = (uint8_t)((int)nearest(src[i] * inverse, (float)-n_neg, (float)(n_neg - 1)) + n_neg);
}

static void encode_q4_0(const float *src, uint8_t *dst, uint64_t n_block, const float *importance)
{
    uint8_t q[BLOCK];
    for (uint64_t b = 0; b < n_block; b++, dst += 18) {
        encode_signed(src + b * BLOCK, importance ? importance + b * BLOCK : NULL, 8, dst, q);
        pack_nibbles(q, dst + 2);
    }
}

static void encode_q5_0(const float *src, uint8_t *dst, uint64_t n_block, const float *importance)
{
    uint8_t q[BLOCK];
    for (uint64_t b = 0; b < n_block; b++, dst += 22) {
        encode_signed(src + b * BLOCK, importance ? importance + b * BLOCK : NULL, 16, dst, q);
        pack_high(q, dst + 2);
        pack_nibbles(q, dst + 6);
    }
}

/* ---------------------------------------------------------------- scale and offset: Q4_1, Q5_1 */
static void decode_q4_1(const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n_block)
{
    (void)aux;
    uint8_t q[BLOCK];
    for (; n_block--; src += 20, dst += BLOCK) {
        float d = load_f16(src), m = load_f16(src + 2);
        unpack_nibbles(src + 4, q);
        for (int i = 0; i < BLOCK; i++) dst[i] = d * (float)q[i] + m;
    }
}

static void decode_q5_1(const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n_block)
{
    (void)aux;
    uint8_t q[BLOCK];
    for (; n_block--; src += 24, dst += BLOCK) {
        float d = load_f16(src), m = load_f16(src + 2);
        unpack_nibbles(src + 8, q);
        unpack_high(src + 4, q);
        for (int i = 0; i < BLOCK; i++) dst[i] = d * (float)q[i] + m;
    }
}

static void encode_affine(const float *src, const float *importance, int q_max, uint8_t *dst, uint8_t *q)
{
    float w[BLOCK], m;
    lr_fit_weights(BLOCK, importance, w);
    float d = store_f16(dst, lr_fit_affine(BLOCK, q_max, false, src, w, &m));
    m = store_f16(dst + 2, m);
    float inverse = d > 0 ? 1 / d : 0;
    for (int i = 0; i < BLOCK; i++) q[i] = (uint8_t)nearest((src[i] - m) * inverse, 0, (float)q_max);
}

static void encode_q4_1(const float *src, uint8_t *dst, uint64_t n_block, const float *importance)
{
    uint8_t q[BLOCK];
    for (uint64_t b = 0; b < n_block; b++, dst += 20) {
        encode_affine(src + b * BLOCK, importance ? importance + b * BLOCK : NULL, 15, dst, q);
        pack_nibbles(q, dst + 4);
    }
}

static void encode_q5_1(const float *src, uint8_t *dst, uint64_t n_block, const float *importance)
{
    uint8_t q[BLOCK];
    for (uint64_t b = 0; b < n_block; b++, dst += 24) {
        encode_affine(src + b * BLOCK, importance ? importance + b * BLOCK : NULL, 31, dst, q);
        pack_high(q, dst + 4);
        pack_nibbles(q, dst + 8);
    }
}

const lr_codec lr_codec_Q8_0 = {decode_q8_0, encode_q8_0, 127 * LR_F16_MAX};
const lr_codec lr_codec_Q4_0 = {decode_q4_0, encode_q4_0, 7 * LR_F16_MAX};
const lr_codec lr_codec_Q5_0 = {decode_q5_0, encode_q5_0, 15 * LR_F16_MAX};
const lr_codec lr_codec_Q4_1 = {decode_q4_1, encode_q4_1, LR_F16_MAX};
const lr_codec lr_codec_Q5_1 = {decode_q5_1, encode_q5_1, LR_F16_MAX};
