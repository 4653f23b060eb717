/* codec.h - inside src/quant: one codec per format, and the small things all of them need.
 *
 * Owns: the shape of a codec, reading and storing f16 scales, the search for a block's scale.
 * Refuses to own: any one format's layout (each stands above its codec, in the file of its family).
 */
#ifndef LR_CODEC_H
#define LR_CODEC_H

#include "quant.h"

typedef struct lr_codec {
    /* n_block blocks of src (and of the second plane, if the format has one) to float32. */
    void (*decode)(const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n_block);
    /* The other way; NULL if larder only reads the format. src is finite and within `limit`.
     * importance: one weight per value, or NULL. */
    void (*encode)(const float *src, uint8_t *dst, uint64_t n_block, const float *importance);
    float limit; /* the largest magnitude a block can hold, whatever else is in it */
} lr_codec;

/* One per line of formats.def: a format without a codec does not link. */
#define LR_FMT(name, id, block, bytes) extern const lr_codec lr_codec_##name;
#include "formats.def"
#undef LR_FMT

#define LR_F16_MAX 65504.0f

static inline uint16_t load_u16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t load_u32(const uint8_t *p) { return (uint32_t)load_u16(p) | (uint32_t)load_u16(p + 2) << 16; }
static inline void store_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v & 0xff);
    p[1] = (uint8_t)(v >> 8);
}
static inline float load_f16(const uint8_t *p) { return lr_f16_to_f32(load_u16(p)); }
/* Stores a scale as f16, never as infinity; returns what a reader will see. */
static inline float store_f16(uint8_t *p, float v)
{
    v = LR_MIN(LR_MAX(v, -LR_F16_MAX), LR_F16_MAX);
    store_u16(p, lr_f32_to_f16(v));
    return load_f16(p);
}
/* Nearest integer of v held to [lo, hi], ties to even; |lo|, |hi| < 2^22: adding 1.5 * 2^23 leaves no fraction. */
static inline float nearest(float v, float lo, float hi)
{
    const float magic = 12582912.0f;
    v = v < lo ? lo : v;
    v = v > hi ? hi : v;
    return (v + magic) - magic;
}

/* ---------------------------------------------------------------- fit.c
 * The search for scales. All minimise sum of w (x - decoded)^2 over a block of n values, n a multiple of 8 and at
 * most 32, every value finite with magnitude under 1e10; all are deterministic. */

/* w [n]: the block's importance scaled to mean 1; ones if importance is NULL or says nothing here. */
void lr_fit_weights(int n, const float *importance, float *w);

/* x ~ d q, q an integer in [-n_neg, n_neg - 1]. Returns d, of either sign; 0 for a block of zeros. */
float lr_fit_signed(int n, int n_neg, const float *x, const float *w);

/* x ~ d q + m, q an integer in [0, q_max]. Returns d >= 0. `below`: m may not be positive. */
float lr_fit_affine(int n, int q_max, bool below, const float *x, const float *w, float *m);

/* x ~ d t[q], t [16] rising from a negative t[0]. Returns d, of either sign; 0 for a block of zeros. */
float lr_fit_table(int n, const int8_t *t, const float *x, const float *w);

/* Index of the value of t [16], rising, nearest to v. */
static inline int nearest_of_16(const int8_t *t, float v)
{
    int i = 0;
    for (int step = 8; step; step /= 2) {
        float middle = 0.5f * (float)(t[i + step - 1] + t[i + step]);
        i += v >= middle ? step : 0;
    }
    return i;
}

#endif
