/* fp4.c - MXFP4, MXFP4_PAIRS, NVFP4: four-bit floating-point numbers (E2M1) under small floating-point scales.
 *
 * E2M1: sign 1, exponent 2, fraction 1: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives. The table holds their doubles,
 * as integers, and the scales are halved instead.
 *
 *   MXFP4        17  e E8M0, nibbles[16]                      2^(e - 127) v[i]
 *                    byte j holds weight j (low half) and j + 16 (high half)
 *   MXFP4_PAIRS  16  nibbles[16]; e lies in the other plane   2^(e - 127) v[i]
 *                    byte j holds weight 2 j (low half) and 2 j + 1 (high half)
 *   NVFP4        36  s UE4M3[4], nibbles[32]                  s[i / 16] v[i]
 *                    of each 16 weights, byte j of their 8 holds weight j and j + 8
 *
 * E8M0 is a bare exponent (OCP MX 1.0, section 5.4.1); 255, its NaN, is read as the next power of two, as GGUF's readers
 * do. UE4M3 is E4M3 without its sign, bias 7; its NaN (0x7f) is read as 0.
 */
#include "codec.h"

#include <math.h>

const int8_t lr_fp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* 2^(e - 128): half of what the exponent says. */
static float half_e8m0(uint8_t e) { return ldexpf(1.0f, e - 128); }

/* Half of an UE4M3 number. */
static float half_ue4m3(uint8_t s)
{
    int exponent = s >> 3 & 15, fraction = s & 7;
    if ((s & 0x7f) == 0 || s == 0x7f) return 0;
    if (exponent == 0) return ldexpf((float)fraction, -10);
    return ldexpf((float)(8 + fraction), exponent - 11);
}

static void decode_mxfp4(const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n_block)
{
    (void)aux;
    for (; n_block--; src += 17, dst += 32) {
        float d = half_e8m0(src[0]);
        for (int j = 0; j < 16; j++) {
            dst[j] = d * (float)lr_fp4_values[src[1 + j] & 15];
            dst[j + 16] = d * (float)lr_fp4_values[src[1 + j] >> 4];
        }
    }
}

static void decode_mxfp4_pairs(const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n_block)
{
    for (; n_block--; src += 16, aux++, dst += 32) {
        float d = half_e8m0(*aux);
        for (int j = 0; j < 16; j++) {
            dst[2 * j] = d * (float)lr_fp4_values[src[j] & 15];
            dst[2 * j + 1] = d * (float)lr_fp4_values[src[j] >> 4];
        }
    }
}

static void decode_nvfp4(const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n_block)
{
    (void)aux;
    for (; n_block--; src += 36, dst += 64) {
        for (int part = 0; part < 4; part++) {
            float d = half_ue4m3(src[part]);
            const uint8_t *q = src + 4 + 8 * part;
            for (int j = 0; j < 8; j++) {
                dst[16 * part + j] = d * (float)lr_fp4_values[q[j] & 15];
                dst[16 * part + 8 + j] = d * (float)lr_fp4_values[q[j] >> 4];
            }
        }
    }
}

void lr_mxfp4_from_pairs(const uint8_t *src, const uint8_t *aux, uint8_t *dst, uint64_t n)
{
    for (uint64_t b = 0; b < n / 32; b++, src += 16, dst += 17) {
        uint8_t q[32];
        for (int j = 0; j < 16; j++) {
            q[2 * j] = src[j] & 15;
            q[2 * j + 1] = src[j] >> 4;
        }
        dst[0] = aux[b];
        for (int j = 0; j < 16; j++) dst[1 + j] = (uint8_t)(q[j] | q[j + 16] << 4);
    }
}

/* ---------------------------------------------------------------- encode */
/* The code nearest to v, which is in units of the table. */
static uint8_t fp4_code(float v)
{
    static const float middle[7] = {0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10};
    float a = fabsf(v);
    int code = 0;
    for (int i = 0; i < 7; i++) code += a > middle[i];
    return (uint8_t)(code && v < 0 ? code | 8 : code);
}

/* Codes of x [n] under the scale d; returns their weighted squared error. In double: weights may be tiny. */
static double fp4_round(int n, const float *x, const float *w, float d, uint8_t *q)
{
    double error = 0, inverse = d > 0 ? 1 / (double)d : 0;
    for (int i = 0; i < n; i++) {
        q[i] = fp4_code((float)LR_MIN(LR_MAX(x[i] * inverse, -16.0), 16.0));
        double diff = (double)x[i] - (double)d * lr_fp4_values[q[i]];
        error += w[i] * diff * diff;
    }
    return error;
}

static float largest(int n, const float *x)
{
    float top = 0;
    for (int i = 0; i < n; i++) top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
    return top;
}

/* The exponent under which the largest weight is at most 8: it may round down to 6, or the next one may be better. */
static void encode_mxfp4(const float *src, uint8_t *dst, uint64_t n_block, const float *importance)
{
    for (uint64_t b = 0; b < n_block; b++, dst += 17) {
        const float *x = src + 32 * b;
        float w[32], top = largest(32, x);
        uint8_t q[2][32];
        memset(dst, 0, 17);
        if (top == 0) continue;
        lr_fit_weights(32, importance ? importance + 32 * b : NULL, w);
        int first = LR_MAX(0, ilogbf(top) - 2 + 127), best = 0;
        double error[2];
        for (int t = 0; t < 2; t++) error[t] = fp4_round(32, x, w, half_e8m0((uint8_t)(first + t)), q[t]);
        best = error[1] < error[0];
        dst[0] = (uint8_t)(first + best);
        for (int j = 0; j < 16; j++) dst[1 + j] = (uint8_t)(q[best][j] | q[best][j + 16] << 4);
    }
}

/* The largest code of an UE4M3 whose value is at most v. */
static int ue4m3_below(float v)
{
    int code = 0;
    for (int step = 64; step; step /= 2)
        if (code + step <= 0x7e && 2 * half_ue4m3((uint8_t)(code + step)) <= v) code += step;
    return code;
}

static void encode_nvfp4_part(const float *x, const float *importance, uint8_t *scale, uint8_t *dst)
{
    enum { N = 16, BEFORE = 4, AFTER = 4 };
    float w[N];
    uint8_t q[N];
    *scale = 0;
    memset(dst, 0, N / 2);
    lr_fit_weights(N, importance, w);
    double best = fp4_round(N, x, w, 0, q);
    /* From scales that cut the largest weight to ones that place it lower than 6. */
    int middle = ue4m3_below(largest(N, x) / 6);
    for (int code = LR_MAX(1, middle - BEFORE); code <= LR_MIN(0x7e, middle + AFTER); code++) {
        double error = fp4_round(N, x, w, half_ue4m3((uint8_t)code), q);
        if (!(error < best)) continue;
        best = error;
        *scale = (uint8_t)code;
        for (int j = 0; j < N / 2; j++) dst[j] = (uint8_t)(q[j] | q[j + 8] << 4);
    }
}

static void encode_nvfp4(const float *src, uint8_t *dst, uint64_t n_block, const float *importance)
{
    for (uint64_t b = 0; b < n_block; b++, dst += 36) {
        for (int part = 0; part < 4; part++) {
            uint64_t at = 64 * b + 16 * (uint64_t)part;
            encode_nvfp4_part(src + at, importance ? importance + at : NULL, dst + part, dst + 4 + 8 * part);
        }
    }
}

const lr_codec lr_codec_MXFP4 = {decode_mxfp4, encode_mxfp4, 0x1.8p127f};
const lr_codec lr_codec_MXFP4_PAIRS = {decode_mxfp4_pairs, NULL, 0};
const lr_codec lr_codec_NVFP4 = {decode_nvfp4, encode_nvfp4, 448 * 6};
