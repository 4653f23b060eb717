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
    0x0000, 0x0002, 0x0005, 0x0008, 0x000a, 0x0011, 0x0014, 0x0020, 0x0022, 0x0028, 0x002a, 0x0041, 0x0044, 0x0050,
    0x0058, 0x0061, 0x0064, 0x0080, 0x0082, 0x008a, 0x00a2, 0x0101, 0x0104, 0x0110, 0x0115, 0x0140, 0x0184, 0x0198,
    0x0200, 0x0202, 0x0222, 0x0282, 0x0401, 0x0404, 0x0410, 0x0421, 0x0424, 0x0440, 0x0442, 0x0448, 0x0460, 0x0481,
    0x0484, 0x0490, 0x04a4, 0x0500, 0x0502, 0x0508, 0x0520, 0x0546, 0x0569, 0x0580, 0x0591, 0x0609, 0x0610, 0x0640,
    0x0684, 0x06a4, 0x0800, 0x0805, 0x0808, 0x0814, 0x0828, 0x0841, 0x0844, 0x0850, 0x0852, 0x0888, 0x0904, 0x0940,
    0x0a02, 0x0a14, 0x1001, 0x1004, 0x1010, 0x1021, 0x1040, 0x1060, 0x1084, 0x1090, 0x1095, 0x1100, 0x1108, 0x1120,
    0x1150, 0x115a, 0x1180, 0x1224, 0x1245, 0x1400, 0x1408, 0x1420, 0x1425, 0x1449, 0x1480, 0x1518, 0x1562, 0x1600,
    0x1616, 0x1801, 0x1804, 0x1810, 0x1840, 0x1881, 0x1900, 0x1905, 0x19a0, 0x1a51, 0x2000, 0x2002, 0x200a, 0x2044,
    0x2061, 0x2080, 0x2082, 0x2129, 0x2148, 0x2200, 0x2202, 0x2401, 0x2404, 0x2410, 0x2440, 0x2456, 0x2500, 0x2541,
    0x2564, 0x2690, 0x2808, 0x2820, 0x2894, 0x2a44, 0x4001, 0x4004, 0x4010, 0x4018, 0x4021, 0x4024, 0x4040, 0x4048,
    0x4056, 0x4060, 0x4081, 0x4084, 0x4090, 0x4100, 0x4120, 0x4161, 0x4180, 0x4185, 0x4201, 0x4210, 0x4248, 0x4256,
    0x4268, 0x4400, 0x4408, 0x4420, 0x4480, 0x4499, 0x4512, 0x4524, 0x4600, 0x4801, 0x4804, 0x4810, 0x4840, 0x4845,
    0x4900, 0x4958, 0x4961, 0x4982, 0x4a45, 0x4a90, 0x5000, 0x5008, 0x5011, 0x5019, 0x5020, 0x5080, 0x5088, 0x5104,
    0x5142, 0x51a4, 0x5291, 0x5490, 0x5492, 0x550a, 0x5601, 0x5654, 0x5800, 0x5811, 0x5819, 0x5864, 0x5940, 0x5a08,
    0x6004, 0x6010, 0x6040, 0x6068, 0x6100, 0x6155, 0x6218, 0x6260, 0x6400, 0x6405, 0x6510, 0x6512, 0x6584, 0x6842,
    0x8000, 0x8002, 0x800a, 0x8041, 0x8082, 0x8104, 0x8118, 0x8140, 0x8211, 0x8401, 0x8404, 0x8410, 0x8415, 0x8440,
    0x8460, 0x8500, 0x8546, 0x8594, 0x8609, 0x8640, 0x8660, 0x8802, 0x8904, 0x8a11, 0x9004, 0x9010, 0x9024, 0x9040,
    0x90a1, 0x9116, 0x9180, 0x9245, 0x9400, 0x9422, 0x9444, 0x9551, 0x9881, 0x9920, 0xa002, 0xa050, 0xa085, 0xa109,
    0xa200, 0xa418, 0xa850, 0xa904,
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
