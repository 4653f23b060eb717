/* cpu.h - the CPU backend's own seam: kernels per instruction set on one side, the executor on the other.
 *
 * Owns: what a kernel is given and what it promises. exec*.c calls only through lr_kernels.
 *
 * The arithmetic is fixed on paper (docs/decisions/0002-arithmetic.md), so that a matrix-vector and a matrix-matrix
 * kernel, one token or five hundred, one thread or twenty, agree bit for bit; for int8 on every instruction set too.
 */
#ifndef LR_CPU_H
#define LR_CPU_H

#include "backend.h"

/* One matrix as kernels see it: [rows = outputs, cols = inputs]. */
typedef struct lr_mat {
    uint32_t fmt;
    uint32_t rows, cols;
    const uint8_t *data;
    size_t row_stride;
    const uint8_t *aux; /* second plane or NULL */
    size_t aux_stride;
    bool packed;                  /* lr_kernels.repack has been over it */
    uint32_t aux_rows, aux_first; /* row r finds its own at line (aux_first + r) / aux_rows of it; 0: at line r */
} lr_mat;

static inline const uint8_t *lr_mat_aux(const lr_mat *w, uint32_t r)
{
    return w->aux + (w->aux_rows ? (w->aux_first + r) / w->aux_rows : r) * w->aux_stride;
}

/* How a row of activations is stored for a matrix product. I8X2 is two I8 rows, of the numbers and of what the first
 * left of them: 15 bits, for the executor to multiply as if they were two tokens; kernels themselves know only the others. */
typedef enum lr_actk { LR_ACTK_F32, LR_ACTK_BF16, LR_ACTK_I8, LR_ACTK_I8X2, LR_ACTK_COUNT } lr_actk;

typedef struct lr_kernels {
    lr_isa isa;
    const char *name; /* "AVX-512 VNNI BF16", for people */

    /* ---- matrix products (mm*.c) */
    /* Which form of activations a weight format uses under this wish. */
    lr_actk (*act_kind)(uint32_t fmt, larder_act wish, uint32_t cols);
    /* Bytes of one packed row of n inputs, a multiple of 64. */
    size_t (*act_bytes)(lr_actk kind, uint32_t n);
    void (*act_pack)(lr_actk kind, const float *x, uint32_t n, void *dst);
    /* Rows a packed matrix interleaves, at most 16; 0: this instruction set reads none. Groups of so many rows then take
     * the place they had (the last one is filled up), and memory is read one byte after the other. */
    uint32_t pack_rows;
    bool (*can_pack)(uint32_t fmt, uint32_t cols);
    /* Packs a group: n <= pack_rows rows at `from`, to `to`. */
    void (*repack)(uint32_t fmt, uint32_t pack_rows, const uint8_t *from, size_t stride, uint32_t n, uint32_t cols,
                   uint8_t *to);
    /* Bytes of per-thread scratch mm needs, 64-aligned, for products of at most n_tok tokens and n columns. */
    size_t (*mm_scratch)(uint32_t n_tok, uint32_t cols);
    /* y[t][r] = sum_c W[r, c] * x[t][c] for r in [r0, r1), t in [0, n_tok). x: packed rows, y: float rows (indexed by
     * r, not r - r0). r0 is a multiple of 16. `bias` [rows] or NULL is added last. `add`: y += instead of y =. */
    void (*mm)(const lr_mat *w, lr_actk kind, const void *const *x, uint32_t n_tok, uint32_t r0, uint32_t r1,
               float *const *y, const float *bias, bool add, void *scratch);

    /* ---- the rest (vec*.c) */
    void (*rmsnorm)(const float *x, const float *w, float *y, uint32_t n, float eps); /* w may be NULL: ones */
    void (*layernorm)(const float *x, const float *w, const float *b, float *y, uint32_t n, float eps);
    void (*add)(const float *a, const float *b, float *y, uint32_t n);
    void (*scale)(const float *x, float s, float *y, uint32_t n);
    void (*axpy)(float s, const float *x, float *y, uint32_t n); /* y += s x */
    void (*act)(lr_fn fn, const float *x, float *y, uint32_t n);
    void (*glu)(lr_fn fn, const float *g, const float *u, float *y, uint32_t n);
    void (*softcap)(const float *x, float cap, float *y, uint32_t n);
    float (*exp_sum)(const float *x, float *y,
                     uint32_t n); /* y = exp(x - max x); returns their sum, added in order */
    /* cs: [n_rot/2][2] = cos, sin (mscale in them). Rotates one head in place. */
    void (*rope)(lr_rope_kind kind, float *head, const float *cs, uint32_t n_rot);
    void (*store_f16)(const float *x, uint16_t *y, uint32_t n);

    /* ---- attention (attn*.c): n_q queries that share one KV head over one run of positions; see attn.h */
    const struct lr_attn_kernels *attn;
} lr_kernels;

/* The table for an instruction set; NULL if this build or machine does not have it. */
const lr_kernels *lr_kernels_get(lr_isa isa);

#endif
