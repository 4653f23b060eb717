/* q_float.c - F32, F16, BF16: numbers that stand alone, little-endian, and the conversions between them.
 *
 *   F16   sign 1, exponent 5 (bias 15), fraction 10
 *   BF16  the upper half of an F32: sign 1, exponent 8 (bias 127), fraction 7
 */
#include "codec.h"

#include <float.h>

static float from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t to_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

float lr_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t rest = h & 0x7fff;
    if (rest >= 0x7c00) return from_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13); /* infinity, NaN */
    if (rest >= 0x0400) return from_bits(sign | ((rest << 13) + ((127 - 15) << 23)));
    float tiny = (float)rest * 0x1p-24f; /* a multiple of the smallest: exact */
    return sign ? -tiny : tiny;
}

uint16_t lr_f32_to_f16(float f)
{
    uint32_t bits = to_bits(f);
    uint32_t sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (rest >> 13 & 0x3ff)); /* NaN, quiet */
    if (rest >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* 65520 and up round to infinity */
    if (rest < 0x38800000) {
        /* Below 2^-14: adding 0.5 puts the last bit of the sum at 2^-24, so the hardware rounds for us. */
        return (uint16_t)(sign | (to_bits(from_bits(rest) + 0.5f) - to_bits(0.5f)));
    }
    uint32_t odd = rest >> 13 & 1;
    return (uint16_t)(sign | ((rest - ((127 - 15) << 23) + 0xfff + odd) >> 13));
}

float lr_bf16_to_f32(uint16_t h) { return from_bits((uint32_t)h << 16); }

uint16_t lr_f32_to_bf16(float f)
{
    uint32_t bits = to_bits(f);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40); /* keep NaN a NaN, quiet */
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void decode_f32(const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n)
{
    (void)aux;
    for (uint64_t i = 0; i < n; i++) dst[i] = from_bits(load_u32(src + 4 * i));
}

static void encode_f32(const float *src, uint8_t *dst, uint64_t n, const float *importance)
{
    (void)importance;
    for (uint64_t i = 0; i < n; i++) {
        uint32_t bits = to_bits(src[i]);
        store_u16(dst + 4 * i, (uint16_t)(bits & 0xffff));
        store_u16(dst + 4 * i + 2, (uint16_t)(bits >> 16));
    }
}

static void decode_f16(const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n)
{
    (void)aux;
    for (uint64_t i = 0; i < n; i++) dst[i] = load_f16(src + 2 * i);
}

static void encode_f16(const float *src, uint8_t *dst, uint64_t n, const float *importance)
{
    (void)importance;
    for (uint64_t i = 0; i < n; i++) store_f16(dst + 2 * i, src[i]);
}

static void decode_bf16(const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n)
{
    (void)aux;
    for (uint64_t i = 0; i < n; i++) dst[i] = lr_bf16_to_f32(load_u16(src + 2 * i));
}

static void encode_bf16(const float *src, uint8_t *dst, uint64_t n, const float *importance)
{
    (void)importance;
    for (uint64_t i = 0; i < n; i++) store_u16(dst + 2 * i, lr_f32_to_bf16(src[i]));
}

const lr_codec lr_codec_F32 = {decode_f32, encode_f32, FLT_MAX};
/* 65504 is the largest; what would round down to it is still accepted. */
const lr_codec lr_codec_F16 = {decode_f16, encode_f16, 65519.99f};
/* The largest finite BF16; above it rounding could give infinity. */
const lr_codec lr_codec_BF16 = {decode_bf16, encode_bf16, 0x1.fep127f};
