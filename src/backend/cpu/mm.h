/* mm.h - inside src/backend/cpu: what the files of the matrix product share.
 *
 * Owns: the layout of packed activations, the list of formats the integer kernels know and what kind of scales each
 * has, the entry of each instruction set. The arithmetic is docs/decisions/0002-arithmetic.md.
 * Refuses to own: how a format's bytes are decoded (mm_formats.h with vectors, mm_ref.c without).
 */
#ifndef LR_MM_H
#define LR_MM_H

#include "cpu.h"

#define LR_INLINE static inline __attribute__((always_inline))

/* Asks for the line at *p and steps to the next, here and not elsewhere: compilers gather such requests at one place,
 * where they stand in the way of the loads behind them. */
LR_INLINE void ask_at(const uint8_t **p, bool asking)
{
    if (!asking) return;
    __builtin_prefetch(*p);
    *p += 64;
    __asm__ volatile("" ::: "memory");
}

/* The same, to the second-level cache alone. */
LR_INLINE void ask_far(const uint8_t **p)
{
    __builtin_prefetch(*p, 0, 2);
    *p += 64;
    __asm__ volatile("" ::: "memory");
}

/* X(format, kind of scales): what the int8 kernels hold. A format missing here runs in float32. */
#define LR_MM_FORMATS(X) LR_MM_PACKED(X) X(MXFP4_PAIRS, PLAIN)
/* And those that can be packed (mm_pack.c). */
#define LR_MM_PACKED(X) \
    X(Q4_0, PLAIN) \
    X(Q4_1, MIN) \
    X(Q5_0, PLAIN) \
    X(Q5_1, MIN) \
    X(Q8_0, PLAIN) \
    X(Q2_K, SUBMIN) \
    X(Q3_K, SUB) \
    X(Q4_K, MIN) \
    X(Q5_K, MIN) \
    X(Q6_K, SUB) \
    X(IQ2_XXS, PLAIN) \
    X(IQ4_NL, PLAIN) \
    X(IQ4_XS, PLAIN) \
    X(MXFP4, PLAIN) \
    X(NVFP4, SUB)

/* PLAIN: a scale per 32. MIN: and an offset per 32. SUB: a factor per 16. SUBMIN: and an integer offset per 16. */
enum { PLAIN, MIN, SUB, SUBMIN };

/* A packed int8 row of n columns, nb = ceil(n / 32) blocks: planes one after the other, each padded to 64 bytes.
 *   q  int8  [32 nb]
 *   d  float [nb]     scale
 *   e  float [nb]     fl(d * sum of q)
 *   n  int32 [nb]     minus the sum of q
 *   h  int16 [nb][2]  minus the sums of its halves */
typedef struct lr_i8_row {
    size_t d, e, n, h, bytes; /* offsets of the planes; q is at 0 */
} lr_i8_row;

static inline lr_i8_row lr_i8_layout(uint32_t n)
{
    size_t nb = ((size_t)n + 31) / 32, q = LR_ALIGN_UP(32 * nb, 64), plane = LR_ALIGN_UP(4 * nb, 64);
    return (lr_i8_row){q, q + plane, q + 2 * plane, q + 3 * plane, q + 4 * plane};
}

typedef void lr_mm_fn(const lr_mat *w, lr_actk kind, const void *const *x, uint32_t n_tok, uint32_t r0, uint32_t r1,
                      float *const *y, const float *bias, bool add, void *scratch);
typedef void lr_pack_fn(lr_actk kind, const float *x, uint32_t n, void *dst);

/* One variant of an instruction set. */
typedef struct lr_mm_set {
    const char *name;
    lr_isa isa;
    uint32_t features; /* what the machine must have */
    bool bf16;
    lr_mm_fn *mm;
    lr_pack_fn *pack;
    uint32_t pack_rows; /* see lr_kernels */
    /* Rows the integer matrix kernel works on at once (its partial sums stand in the scratch), and the scratch of the
     * unpacked weights beside them. */
    uint32_t tile_rows;
    size_t tile_bytes;
} lr_mm_set;

extern const lr_mm_set lr_mm_scalar;
#if defined(__x86_64__)
extern const lr_mm_set lr_mm_avx2, lr_mm_avx2_vnni, lr_mm_avx512, lr_mm_avx512_vbmi, lr_mm_avx512_bf16,
    lr_mm_avx512_vbmi_bf16;
#elif defined(__aarch64__)
extern const lr_mm_set lr_mm_neon, lr_mm_neon_i8mm;
#endif
/* Products of packed matrices, of the set named so (mm_packed_*.c). */
lr_mm_fn lr_mm_packed_avx2, lr_mm_packed_avx2_vnni, lr_mm_packed_avx512_vbmi, lr_mm_packed_neon,
    lr_mm_packed_neon_i8mm;

/* All variants of this build, best last; tests walk them. */
extern const lr_mm_set *const lr_mm_sets[];
extern const uint32_t lr_mm_n_sets;

/* Fills the matrix-product entries of a table for an instruction set (its best variant on this machine). */
void lr_mm_fill(lr_kernels *k, lr_isa isa);

bool lr_mm_has_i8(uint32_t fmt);
bool lr_mm_can_pack(uint32_t fmt, uint32_t cols);
/* mm_pack.c: rows `from`, n of them, to n_rows interleaved: the last is repeated if there are fewer. */
void lr_mm_pack(uint32_t fmt, uint32_t n_rows, const uint8_t *from, size_t stride, uint32_t n, uint32_t cols,
                uint8_t *to);

/* The bf16 of each E4M3 number, without its sign; and its lower and upper bytes. Filled by lr_mm_fill. */
extern uint16_t lr_mm_e4m3_bf16[128];
extern uint8_t lr_mm_e4m3_bytes[2][128];
/* The same of half of each as a scale of NVFP4, where 0x7f, which is not looked up without a sign, is 480. */
extern uint8_t lr_mm_ue4m3_bytes[2][128];

/* IQ2_XXS: 8 magnitudes per grid point, and 8 masks (0x00 or 0xff) per 7 sign bits; for table lookups of bytes, the lower
 * and upper four 2-bit codes per point, and the 8 signs as bits. Filled by lr_mm_fill. */
extern uint64_t lr_mm_iq2_grid[256], lr_mm_iq2_sign[128];
extern uint8_t lr_mm_iq2_codes[2][256], lr_mm_iq2_bits[128];

#endif
