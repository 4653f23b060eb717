/* fp8.c - F8_E4M3, F8_E4M3_B128: eight-bit floating-point numbers as safetensors ship them, under float32 scales.
 *
 *   F8_E4M3        1  v; the other plane holds one scale for the row          s v
 *   F8_E4M3_B128 128  v[128]; the other plane holds one scale per 128         s v[i]
 *
 * E4M3 (OCP FP8, section 5.1, its "FN" form): sign 1, exponent 4 (bias 7), fraction 3; no infinities, 0x7f and 0xff are
 * NaN, the largest is 448. One scale serves 128 rows in the second format, all rows in files that scale a whole matrix:
 * that the same scales are found for every row is the tensor's affair (lr_tensor.aux_rows). Without a plane: 1.
 */
#include "codec.h"

#include <math.h>

/* A number's bits are those of a float 2^120 too small, subnormal ones too; the product is exact. */
float lr_e4m3_to_f32(uint8_t b)
{
    uint32_t bits = (uint32_t)(b & 0x7f) << 20;
    float f;
    if ((b & 0x7f) == 0x7f) return NAN;
    memcpy(&f, &bits, sizeof f);
    f *= 0x1p120f;
    return b & 0x80 ? -f : f;
}

static void decode_span(const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n)
{
    float s = 1;
    if (aux) memcpy(&s, aux, sizeof s);
    for (uint64_t i = 0; i < n; i++) dst[i] = lr_e4m3_to_f32(src[i]) * s;
}

static void decode_b128(const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n_block)
{
    for (uint64_t b = 0; b < n_block; b++) decode_span(src + 128 * b, aux ? aux + 4 * b : NULL, dst + 128 * b, 128);
}

const lr_codec lr_codec_F8_E4M3 = {decode_span, NULL, 0};
const lr_codec lr_codec_F8_E4M3_B128 = {decode_b128, NULL, 0};
