/* iq.c - IQ2_XXS, IQ4_NL, IQ4_XS: levels that are not evenly spaced.
 *
 *   IQ2_XXS   66  d f16, then 8 groups of 32 weights: index u8[4], word u32
 *                 weight i of a group: d (0.5 + word >> 28) / 4 * grid[index[i / 8]][i % 8], and a sign.
 *                 Signs come in sevens, 7 (i / 8) bits up in the word; the eighth makes the number of minuses even.
 *   IQ4_NL    18  d f16, nibbles[16]                          d t[n[i]]
 *   IQ4_XS   136  d f16, high u16, low[4], nibbles[128]       (d (s - 32)) t[n[i]], 8 groups of 32
 *                 s of group j: 4 bits, half j % 2 of low[j / 2]; above them the 2 bits of `high` from 2 j up
 *   Nibbles of 32 weights: byte j holds weight j (low half) and j + 16 (high half).
 */
#include "codec.h"

#include <math.h>

const int8_t lr_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

const uint8_t lr_iq2_levels[4] = {8, 25, 43, 0};

/* The 256 points, of the 3^8 there could be, that eight magnitudes can take: two bits each, the first lowest, naming one
 * of lr_iq2_levels. They are data of the format. */
const uint16_t lr_iq2_xxs_grid[256] = {
#include "iq2_grid.def"
};

static void decode_iq2_xxs(const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n_block)
{
    (void)aux;
    for (; n_block--; src += 66) {
        float d = load_f16(src);
        for (int group = 0; group < 8; group++) {
            const uint8_t *index = src + 2 + 8 * group;
            uint32_t word = load_u32(index + 4);
            float scale = d * (0.5f + (float)(word >> 28)) * 0.25f;
            for (int part = 0; part < 4; part++, dst += 8) {
                uint32_t point = lr_iq2_xxs_grid[index[part]], signs = lr_iq2_signs(word >> 7 * part & 127);
                for (int i = 0; i < 8; i++) {
                    float v = scale * (float)lr_iq2_levels[point >> 2 * i & 3];
                    dst[i] = signs >> i & 1 ? -v : v;
                }
            }
        }
    }
}

/* ---------------------------------------------------------------- IQ4 */
static void spread_iq4(const uint8_t *nibbles, float d, float *dst)
{
    for (int j = 0; j < 16; j++) {
        dst[j] = d * (float)lr_iq4_values[nibbles[j] & 15];
        dst[j + 16] = d * (float)lr_iq4_values[nibbles[j] >> 4];
    }
}

/* The nearest levels of x [32] under the scale d, as nibbles. Under no scale: the level nearest to zero. */
static void round_iq4(const float *x, float d, uint8_t *nibbles)
{
    float inverse = d != 0 ? 1 / d : 0;
    for (int j = 0; j < 16; j++) {
        int low = nearest_of_16(lr_iq4_values, x[j] * inverse),
            high = nearest_of_16(lr_iq4_values, x[j + 16] * inverse);
        nibbles[j] = (uint8_t)(low | high << 4);
    }
}

static void decode_iq4_nl(const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n_block)
{
    (void)aux;
    for (; n_block--; src += 18, dst += 32) spread_iq4(src + 2, load_f16(src), dst);
}

static void encode_iq4_nl(const float *src, uint8_t *dst, uint64_t n_block, const float *importance)
{
    float w[32];
    for (uint64_t b = 0; b < n_block; b++, dst += 18) {
        const float *x = src + 32 * b;
        lr_fit_weights(32, importance ? importance + 32 * b : NULL, w);
        round_iq4(x, store_f16(dst, lr_fit_table(32, lr_iq4_values, x, w)), dst + 2);
    }
}

static void decode_iq4_xs(const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n_block)
{
    (void)aux;
    for (; n_block--; src += 136) {
        float d = load_f16(src);
        unsigned high = load_u16(src + 2);
        for (int j = 0; j < 8; j++, dst += 32) {
            unsigned s = (src[4 + j / 2] >> 4 * (j % 2) & 15) | (high >> 2 * j & 3) << 4;
            spread_iq4(src + 8 + 16 * j, d * (float)((int)s - 32), dst);
        }
    }
}

static void encode_iq4_xs(const float *src, uint8_t *dst, uint64_t n_block, const float *importance)
{
    float w[32], scale[8];
    for (uint64_t b = 0; b < n_block; b++, dst += 136) {
        const float *x = src + 256 * b;
        float top = 0;
        for (int j = 0; j < 8; j++) {
            lr_fit_weights(32, importance ? importance + 256 * b + 32 * (uint64_t)j : NULL, w);
            scale[j] = lr_fit_table(32, lr_iq4_values, x + 32 * j, w);
            top = fabsf(scale[j]) > fabsf(top) ? scale[j] : top;
        }
        float d = store_f16(dst, -top / 32);
        unsigned high = 0;
        memset(dst + 4, 0, 4);
        for (int j = 0; j < 8; j++) {
            float s = d != 0 ? nearest(scale[j] / d, -32, 31) : 0;
            unsigned code = (unsigned)((int)s + 32);
            dst[4 + j / 2] = (uint8_t)(dst[4 + j / 2] | (code & 15) << 4 * (j % 2));
            high |= code >> 4 << 2 * j;
            round_iq4(x + 32 * j, d * s, dst + 8 + 16 * j);
        }
        store_u16(dst + 2, (uint16_t)high);
    }
}

const lr_codec lr_codec_IQ2_XXS = {decode_iq2_xxs, NULL, 0};
const lr_codec lr_codec_IQ4_NL = {decode_iq4_nl, encode_iq4_nl, 113 * LR_F16_MAX};
const lr_codec lr_codec_IQ4_XS = {decode_iq4_xs, encode_iq4_xs, 31 * 113 * LR_F16_MAX};
