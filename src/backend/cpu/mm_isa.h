/* mm_isa.h - one instruction set's matrix product, whole. An mm_<set>.c includes its words (mm_simd_*.h), then this. */
#ifndef LR_MM_ISA_H
#define LR_MM_ISA_H

#include <math.h>

#include "mm_formats.h"
#include "mm_kernel.h"

#ifndef PACKED
#include "mm_row.h"
#include "mm_float.h"

/* One block of 32 as int8; see the decision. Plain C: the compiler makes vectors of it. */
static void pack_block(const float *x, uint8_t *dst, const lr_i8_row *at, uint32_t b)
{
    uint32_t u[32], top = 0;
    int8_t q[32];
    memcpy(u, x, sizeof u);
    for (int i = 0; i < 32; i++) top = LR_MAX(top, u[i] & 0x7fffffff);
    float amax, d = 0;
    int sum[2] = {0, 0};
    memcpy(&amax, &top, 4);
    memset(q, 0, sizeof q);
    if (top >= 0x7f800000) {
        d = NAN;
    } else if (amax >= 1e-30f) {
        float k = 127 / amax;
        int wide[32];
        d = amax / 127;
        for (int i = 0; i < 32; i++) wide[i] = (int)rintf(x[i] * k);
        for (int i = 0; i < 16; i++) sum[0] += wide[i], sum[1] += wide[i + 16];
        for (int i = 0; i < 32; i++) q[i] = (int8_t)wide[i];
    }
    float e = d * (float)(sum[0] + sum[1]);
    int32_t minus = -(sum[0] + sum[1]);
    int16_t half[2] = {(int16_t)-sum[0], (int16_t)-sum[1]};
    memcpy(dst + 32 * (size_t)b, q, 32);
    memcpy(dst + at->d + 4 * (size_t)b, &d, 4);
    memcpy(dst + at->e + 4 * (size_t)b, &e, 4);
    memcpy(dst + at->n + 4 * (size_t)b, &minus, 4);
    memcpy(dst + at->h + 4 * (size_t)b, half, 4);
}

static void pack(lr_actk kind, const float *x, uint32_t n, void *dst)
{
    if (kind == LR_ACTK_I8) {
        lr_i8_row at = lr_i8_layout(n);
        uint32_t b = 0;
        for (; b < n / 32; b++) pack_block(x + 32 * (size_t)b, dst, &at, b);
        if (n % 32) {
            float rest[32] = {0};
            memcpy(rest, x + 32 * (size_t)b, n % 32 * sizeof *rest);
            pack_block(rest, dst, &at, b);
        }
    } else if (kind == LR_ACTK_BF16) {
        uint16_t *y = dst;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t u, nan;
            memcpy(&u, x + i, 4);
            nan = (u & 0x7fffffff) > 0x7f800000;
            y[i] = (uint16_t)(nan ? u >> 16 | 0x40 : (u + 0x7fff + (u >> 16 & 1)) >> 16);
        }
        memset(y + n, 0, (32 - n % 32) % 32 * sizeof *y);
    } else {
        memcpy(dst, x, n * sizeof *x);
        memset((float *)dst + n, 0, (16 - n % 16) % 16 * sizeof *x);
    }
}
#endif

/* ---------------------------------------------------------------- every format's two loops (LR_MM_FORMATS) */
#define F Q4_0
#define KIND PLAIN
#include "mm_body.h"
#define F Q4_1
#define KIND MIN
#include "mm_body.h"
#define F Q5_0
#define KIND PLAIN
#include "mm_body.h"
#define F Q5_1
#define KIND MIN
#include "mm_body.h"
#define F Q8_0
#define KIND PLAIN
#include "mm_body.h"
#define F Q2_K
#define KIND SUBMIN
#include "mm_body.h"
#define F Q3_K
#define KIND SUB
#include "mm_body.h"
#define F Q4_K
#define KIND MIN
#include "mm_body.h"
#define F Q5_K
#define KIND MIN
#include "mm_body.h"
#define F Q6_K
#define KIND SUB
#include "mm_body.h"
#define F IQ2_XXS
#define KIND PLAIN
#include "mm_body.h"
#define F IQ4_NL
#define KIND PLAIN
#include "mm_body.h"
#define F IQ4_XS
#define KIND PLAIN
#include "mm_body.h"
#define F MXFP4
#define KIND PLAIN
#include "mm_body.h"
#define F NVFP4
#define KIND SUB
#include "mm_body.h"

#ifdef PACKED
/* The product of a packed matrix. */
void PACKED(const lr_mat *w, lr_actk kind, const void *const *x, uint32_t n_tok, uint32_t r0, uint32_t r1,
            float *const *y, const float *bias, bool add, void *scratch)
{
    (void)kind; /* int8 */
    switch (w->fmt) {
#define X(name, scales_kind) \
    case LR_FMT_##name: name##_mm(w, x, n_tok, r0, r1, y, bias, add, scratch); break;
        LR_MM_PACKED(X)
#undef X
    }
}
#else
#define F MXFP4_PAIRS
#define KIND PLAIN
#include "mm_body.h"

static void mm(const lr_mat *w, lr_actk kind, const void *const *x, uint32_t n_tok, uint32_t r0, uint32_t r1,
               float *const *y, const float *bias, bool add, void *scratch)
{
#ifdef PACKED_TWIN
    if (w->packed && w->fmt == LR_FMT_F16) {
        mm_f16_pairs(w, x, n_tok, r0, r1, y, bias, add);
        return;
    }
    if (w->packed) {
        PACKED_TWIN(w, kind, x, n_tok, r0, r1, y, bias, add, scratch);
        return;
    }
#define PACK_ROWS VR
#else
#define PACK_ROWS 0
#endif
    if (kind == LR_ACTK_I8) {
#ifdef HAVE_ROW_Q8
        if (w->fmt == LR_FMT_Q8_0 && n_tok == 1 && w->cols >= 32 * ROW_BLOCKS) {
            mm_row_q8(w, x[0], r0, r1, y[0], bias, add, scratch);
            return;
        }
#endif
        switch (w->fmt) {
#define X(name, scales_kind) \
    case LR_FMT_##name: \
        name##_mm(w, x, n_tok, r0, r1, y, bias, add, scratch); \
        break;
            LR_MM_FORMATS(X)
#undef X
        }
        return;
    }
#ifdef HAVE_BF16_DOT
    if (kind == LR_ACTK_BF16) {
        if (w->fmt == LR_FMT_BF16) mm_bf16_dot(w, x, n_tok, r0, r1, y, bias, add);
        else mm_f8(W_F8_DOT, W_BF16_DOT, w, x, n_tok, r0, r1, y, bias, add, scratch);
        return;
    }
#endif
    switch (w->fmt) {
    case LR_FMT_F32: mm_f32(w, x, n_tok, r0, r1, y, bias, add); break;
    case LR_FMT_F16: mm_f16(w, x, n_tok, r0, r1, y, bias, add); break;
    case LR_FMT_BF16: mm_bf16(w, x, n_tok, r0, r1, y, bias, add); break;
    case LR_FMT_F8_E4M3:
    case LR_FMT_F8_E4M3_B128: mm_f8(W_F8, W_F32, w, x, n_tok, r0, r1, y, bias, add, scratch); break;
    default: mm_decoded(w, x, n_tok, r0, r1, y, bias, add, scratch);
    }
}

#define LR_MM_SET(name, words, isa, features, bf16) \
    const lr_mm_set name = {words, isa, features, bf16, mm, pack, PACK_ROWS, TILE_ROWS, PANEL_BYTES}
#endif

#endif
