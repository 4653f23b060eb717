/* mm_ref.c - the matrix product in plain C: docs/decisions/0002-arithmetic.md, transcribed.
 *
 * Owns: the scalar kernels, which are also what every other kernel must equal bit for bit.
 * Refuses to own: speed.
 */
#include "mm.h"

#include <assert.h>
#include <math.h>

static uint16_t le16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static uint32_t le32(const uint8_t *p) { return (uint32_t)le16(p) | (uint32_t)le16(p + 2) << 16; }
static float f16(const uint8_t *p) { return lr_f16_to_f32(le16(p)); }
static float bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* ---------------------------------------------------------------- activations */
static void pack_i8(const float *x, uint32_t n, uint8_t *dst)
{
    lr_i8_row at = lr_i8_layout(n);
    memset(dst, 0, at.bytes);
    for (uint32_t b = 0; b < (n + 31) / 32; b++) {
        uint32_t len = LR_MIN(32u, n - 32 * b), top = 0;
        for (uint32_t i = 0; i < len; i++) {
            uint32_t u;
            memcpy(&u, &x[32 * b + i], 4);
            top = LR_MAX(top, u & 0x7fffffff); /* magnitudes order as their bits do; NaN above infinity above all */
        }
        float amax = bits(top), d = 0;
        int32_t sum[2] = {0, 0};
        if (top >= 0x7f800000) {
            d = NAN;
        } else if (amax >= 1e-30f) {
            d = amax / 127;
            float k = 127 / amax;
            for (uint32_t i = 0; i < len; i++) {
                int8_t q = (int8_t)rintf(x[32 * b + i] * k);
                dst[32 * b + i] = (uint8_t)q;
                sum[i / 16] += q;
            }
        }
        float e = d * (float)(sum[0] + sum[1]);
        int32_t minus = -(sum[0] + sum[1]);
        int16_t half[2] = {(int16_t)-sum[0], (int16_t)-sum[1]};
        memcpy(dst + at.d + 4 * b, &d, 4);
        memcpy(dst + at.e + 4 * b, &e, 4);
        memcpy(dst + at.n + 4 * b, &minus, 4);
        memcpy(dst + at.h + 4 * b, half, 4);
    }
}

static void pack(lr_actk kind, const float *x, uint32_t n, void *dst)
{
    if (kind == LR_ACTK_I8) {
        pack_i8(x, n, dst);
    } else {
        memcpy(dst, x, 4 * (size_t)n);
        memset((float *)dst + n, 0, 4 * (size_t)((16 - n % 16) % 16));
    }
}

/* ---------------------------------------------------------------- weights, 32 at a time */
typedef struct block {
    int w[32];
    float s;
    bool sub, min, submin; /* which of the following count */
    float c[2], m;
    int n[2];
} block;

static void nibbles(const uint8_t *q, int zero, block *o)
{
    for (int i = 0; i < 16; i++) {
        o->w[i] = (q[i] & 15) - zero;
        o->w[i + 16] = (q[i] >> 4) - zero;
    }
}
static void nibbles_of(const uint8_t *q, const int8_t *values, block *o)
{
    for (int i = 0; i < 16; i++) {
        o->w[i] = values[q[i] & 15];
        o->w[i + 16] = values[q[i] >> 4];
    }
}
static void fifth_bits(uint32_t high, block *o)
{
    for (int i = 0; i < 32; i++) o->w[i] += (int)(high >> i & 1) << 4;
}

/* Scale and offset j of the 12 bytes that Q4_K and Q5_K share. */
static void scale_min_k(const uint8_t *p, uint32_t j, int *s, int *m)
{
    *s = j < 4 ? p[j] & 63 : (p[j + 4] & 15) | p[j - 4] >> 6 << 4;
    *m = j < 4 ? p[j + 4] & 63 : p[j + 4] >> 4 | p[j] >> 6 << 4;
}

static float e8m0_half(uint8_t e) { return e < 2 ? bits(0x00200000u << e) : bits((uint32_t)(e - 1) << 23); }
static float ue4m3_half(uint8_t s) { return s == 0x7f ? 0 : bits((uint32_t)(s & 0x7f) << 20) * 0x1p119f; }

static void read_block(uint32_t fmt, const uint8_t *row, const uint8_t *aux, uint32_t b, block *o)
{
    const uint8_t *p;
    uint32_t j = b % 8;
    int s, m;
    *o = (block){0};
    switch (fmt) {
    case LR_FMT_Q4_0:
        p = row + 18 * (size_t)b;
        o->s = f16(p);
        nibbles(p + 2, 8, o);
        break;
    case LR_FMT_Q4_1:
        p = row + 20 * (size_t)b;
        o->s = f16(p);
        o->min = true, o->m = -f16(p + 2);
        nibbles(p + 4, 0, o);
        break;
    case LR_FMT_Q5_0:
        p = row + 22 * (size_t)b;
        o->s = f16(p);
        nibbles(p + 6, 16, o);
        fifth_bits(le32(p + 2), o);
        break;
    case LR_FMT_Q5_1:
        p = row + 24 * (size_t)b;
        o->s = f16(p);
        o->min = true, o->m = -f16(p + 2);
        nibbles(p + 8, 0, o);
        fifth_bits(le32(p + 4), o);
        break;
    case LR_FMT_Q8_0:
        p = row + 34 * (size_t)b;
        o->s = f16(p);
        for (int i = 0; i < 32; i++) o->w[i] = (int8_t)p[2 + i];
        break;
    case LR_FMT_Q2_K:
        p = row + 84 * (size_t)(b / 8);
        o->s = f16(p + 80);
        o->m = f16(p + 82);
        o->sub = o->submin = true;
        for (int h = 0; h < 2; h++) o->c[h] = (float)(p[2 * j + h] & 15), o->n[h] = p[2 * j + h] >> 4;
        for (int i = 0; i < 32; i++) o->w[i] = p[16 + 32 * (j / 4) + i] >> 2 * (j % 4) & 3;
        break;
    case LR_FMT_Q3_K:
        p = row + 110 * (size_t)(b / 8);
        o->s = f16(p + 108);
        o->sub = true;
        for (uint32_t h = 0; h < 2; h++) {
            uint32_t k = 2 * j + h;
            int low = k < 8 ? p[96 + k] & 15 : p[96 + k - 8] >> 4, high = p[96 + 8 + k % 4] >> 2 * (k / 4) & 3;
            o->c[h] = (float)((low | high << 4) - 32);
        }
        for (int i = 0; i < 32; i++) {
            int low = p[32 + 32 * (j / 4) + i] >> 2 * (j % 4) & 3, high = p[i] >> j & 1;
            o->w[i] = (low | high << 2) - 4;
        }
        break;
    case LR_FMT_Q4_K:
    case LR_FMT_Q5_K:
        p = row + (fmt == LR_FMT_Q4_K ? 144 : 176) * (size_t)(b / 8);
        scale_min_k(p + 4, j, &s, &m);
        o->s = f16(p) * (float)s;
        o->min = true, o->m = f16(p + 2) * (float)m;
        for (int i = 0; i < 32; i++) {
            uint8_t q = p[(fmt == LR_FMT_Q4_K ? 16 : 48) + 32 * (j / 2) + i];
            o->w[i] = j % 2 ? q >> 4 : q & 15;
            if (fmt == LR_FMT_Q5_K) o->w[i] += (p[16 + i] >> j & 1) << 4;
        }
        break;
    case LR_FMT_Q6_K:
        p = row + 210 * (size_t)(b / 8);
        o->s = f16(p + 208);
        o->sub = true;
        for (int h = 0; h < 2; h++) o->c[h] = (float)(int8_t)p[192 + 2 * j + h];
        for (int i = 0; i < 32; i++) {
            uint8_t low = p[64 * (j / 4) + 32 * (j % 2) + i], high = p[128 + 32 * (j / 4) + i];
            o->w[i] = (j / 2 % 2 ? low >> 4 : low & 15) + ((high >> 2 * (j % 4) & 3) << 4) - 32;
        }
        break;
    case LR_FMT_IQ2_XXS: {
        p = row + 66 * (size_t)(b / 8);
        const uint8_t *index = p + 2 + 8 * j;
        uint32_t word = le32(index + 4);
        o->s = f16(p) * (0.5f + (float)(word >> 28)) * 0.25f;
        for (int i = 0; i < 32; i++) {
            int v = lr_iq2_levels[lr_iq2_xxs_grid[index[i / 8]] >> 2 * (i % 8) & 3];
            o->w[i] = lr_iq2_signs(word >> 7 * (i / 8) & 127) >> i % 8 & 1 ? -v : v;
        }
        break;
    }
    case LR_FMT_IQ4_NL:
        p = row + 18 * (size_t)b;
        o->s = f16(p);
        nibbles_of(p + 2, lr_iq4_values, o);
        break;
    case LR_FMT_IQ4_XS:
        p = row + 136 * (size_t)(b / 8);
        s = (p[4 + j / 2] >> 4 * (j % 2) & 15) | (le16(p + 2) >> 2 * j & 3) << 4;
        o->s = f16(p) * (float)(s - 32);
        nibbles_of(p + 8 + 16 * j, lr_iq4_values, o);
        break;
    case LR_FMT_MXFP4:
        p = row + 17 * (size_t)b;
        o->s = e8m0_half(p[0]);
        nibbles_of(p + 1, lr_fp4_values, o);
        break;
    case LR_FMT_MXFP4_PAIRS:
        p = row + 16 * (size_t)b;
        assert(aux); /* the loader keeps these formats' scales there */
        o->s = e8m0_half(aux[b]);
        for (int i = 0; i < 32; i++) o->w[i] = lr_fp4_values[p[i / 2] >> 4 * (i % 2) & 15];
        break;
    case LR_FMT_NVFP4:
        p = row + 36 * (size_t)(b / 2);
        o->s = 1;
        o->sub = true;
        for (int h = 0; h < 2; h++) {
            uint32_t part = 2 * (b % 2) + (uint32_t)h;
            o->c[h] = ue4m3_half(p[part]);
            for (int i = 0; i < 16; i++)
                o->w[16 * h + i] = lr_fp4_values[p[4 + 8 * part + i % 8] >> 4 * (i / 8) & 15];
        }
        break;
    }
}

/* ---------------------------------------------------------------- products */
static float dot_i8(uint32_t fmt, const uint8_t *row, const uint8_t *aux, const uint8_t *x, uint32_t n)
{
    lr_i8_row at = lr_i8_layout(n);
    float acc = 0;
    for (uint32_t b = 0; b < n / 32; b++) {
        block o;
        read_block(fmt, row, aux, b, &o);
        int32_t dot[2] = {0, 0};
        for (int i = 0; i < 32; i++) dot[i / 16] += o.w[i] * (int8_t)x[32 * b + (uint32_t)i];
        float d, e;
        int16_t minus[2];
        memcpy(&d, x + at.d + 4 * b, 4);
        memcpy(&e, x + at.e + 4 * b, 4);
        memcpy(minus, x + at.h + 4 * b, 4);
        float f = o.sub ? fmaf(o.c[1], (float)dot[1], o.c[0] * (float)dot[0]) : (float)(dot[0] + dot[1]);
        acc = fmaf(f, o.s * d, acc);
        if (o.min) acc = fmaf(-o.m, e, acc);
        if (o.submin) acc = fmaf(-o.m, d * (float)-(o.n[0] * minus[0] + o.n[1] * minus[1]), acc);
    }
    return acc;
}

static float tree(float lane[16])
{
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) lane[i] += lane[i + half];
    return lane[0];
}

static float dot_f32(const lr_mat *w, const uint8_t *row, const uint8_t *aux, const float *x)
{
    enum { PIECE = 256 }; /* a multiple of every block */
    const lr_fmt_info *info = lr_fmt_get(w->fmt);
    float lane[16] = {0}, piece[PIECE];
    for (uint32_t c = 0; c < w->cols; c += PIECE) {
        uint32_t len = LR_MIN((uint32_t)PIECE, w->cols - c);
        memset(piece, 0, sizeof piece);
        lr_decode_row(w->fmt, row + (size_t)(c / info->block) * info->bytes,
                      aux ? aux + c / info->block * lr_fmt_aux_bytes(w->fmt) : NULL, piece, len);
        for (uint32_t i = 0; i < LR_ALIGN_UP(len, 16u); i++) lane[i % 16] = fmaf(piece[i], x[c + i], lane[i % 16]);
    }
    return tree(lane);
}

/* FP8: the sums of a span that shares a scale, then the scale. */
static float dot_f8(const lr_mat *w, const uint8_t *row, const uint8_t *scales, const float *x)
{
    uint32_t span = w->fmt == LR_FMT_F8_E4M3 ? w->cols : 128;
    float sum[16] = {0};
    for (uint32_t c0 = 0; c0 < w->cols; c0 += span) {
        float lane[16] = {0}, s = 1;
        if (scales) memcpy(&s, scales + c0 / span * sizeof s, sizeof s);
        for (uint32_t c = c0; c < LR_ALIGN_UP(c0 + span, 16u); c++)
            lane[c % 16] = fmaf(c < w->cols ? lr_e4m3_to_f32(row[c]) : 0, x[c], lane[c % 16]);
        for (int i = 0; i < 16; i++) sum[i] = w->fmt == LR_FMT_F8_E4M3 ? lane[i] * s : fmaf(lane[i], s, sum[i]);
    }
    return tree(sum);
}

static void mm(const lr_mat *w, lr_actk kind, const void *const *x, uint32_t n_tok, uint32_t r0, uint32_t r1,
               float *const *y, const float *bias, bool add, void *scratch)
{
    (void)scratch;
    for (uint32_t r = r0; r < r1; r++) {
        const uint8_t *row = w->data + r * w->row_stride, *aux = w->aux ? lr_mat_aux(w, r) : NULL;
        bool f8 = w->fmt == LR_FMT_F8_E4M3 || w->fmt == LR_FMT_F8_E4M3_B128;
        for (uint32_t t = 0; t < n_tok; t++) {
            float v = kind == LR_ACTK_I8 ? dot_i8(w->fmt, row, aux, x[t], w->cols)
                      : f8               ? dot_f8(w, row, aux, x[t])
                                         : dot_f32(w, row, aux, x[t]);
            if (bias) v += bias[r];
            y[t][r] = add ? y[t][r] + v : v;
        }
    }
}

const lr_mm_set lr_mm_scalar = {"scalar", LR_ISA_SCALAR, 0, false, mm, pack, 0, 0, 0};
