/* quant.h - the number formats weights are stored in: their layout, and the reference encode and decode.
 *
 * Owns: what each format's bytes mean, one line each in formats.def. Refuses to own: instruction sets (src/backend).
 */
#ifndef LR_QUANT_H
#define LR_QUANT_H

#include "base.h"

/* Ids up to 255 are GGUF's type numbers; from 256 on, layouts that only safetensors files have. */
typedef enum lr_fmt {
#define LR_FMT(name, id, block, bytes) LR_FMT_##name = id,
#include "formats.def"
#undef LR_FMT
} lr_fmt;

typedef struct lr_fmt_info {
    const char *name; /* "Q4_K"; NULL if larder does not hold this format */
    uint32_t id;
    uint32_t block; /* weights per block; a row is a whole number of blocks */
    uint32_t bytes; /* bytes per block */
} lr_fmt_info;

const lr_fmt_info *lr_fmt_get(uint32_t fmt);         /* NULL if not held */
const lr_fmt_info *lr_fmt_by_name(const char *name); /* case-insensitive */
/* Bytes of a row of n weights; 0 if n is not a whole number of blocks or the format is not held. */
uint64_t lr_fmt_row_bytes(uint32_t fmt, uint64_t n);
bool lr_fmt_can_encode(uint32_t fmt);

/* Decodes n weights of one row (n a multiple of the block) to float32. `aux`: the row's second plane, or NULL. */
void lr_decode_row(uint32_t fmt, const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n);
/* Encodes a row. `importance` [n] or NULL: weight of each column's squared error. Non-finite input is LARDER_FORMAT. */
larder_status lr_encode_row(uint32_t fmt, const float *src, uint8_t *dst, uint64_t n, const float *importance,
                            larder_error *err);

/* MXFP4_PAIRS to MXFP4, n weights: the same numbers in the other order, nothing rounded. */
void lr_mxfp4_from_pairs(const uint8_t *src, const uint8_t *aux, uint8_t *dst, uint64_t n);

/* Tables that are data of a format; a kernel that decodes it needs the same. Layouts stand in fp4.c and iq.c. */
extern const int8_t lr_fp4_values[16]; /* E2M1 times two: MXFP4, NVFP4 */
extern const int8_t lr_iq4_values[16]; /* IQ4_NL, IQ4_XS */
extern const uint8_t lr_iq2_levels[4];
extern const uint16_t lr_iq2_xxs_grid[256]; /* eight 2-bit indices into lr_iq2_levels */
/* The eight signs (1: minus) that IQ2 stores in seven bits: the eighth makes their number even. */
static inline uint32_t lr_iq2_signs(uint32_t seven) { return seven | (uint32_t)__builtin_parity(seven) << 7; }

/* Bytes of the second plane per block; 0: the format has none, or (F8_E4M3) one float for a whole row. */
uint32_t lr_fmt_aux_bytes(uint32_t fmt);

float lr_e4m3_to_f32(uint8_t b); /* as fp8.c says */
float lr_f16_to_f32(uint16_t h);
uint16_t lr_f32_to_f16(float f); /* nearest even */
float lr_bf16_to_f32(uint16_t h);
uint16_t lr_f32_to_bf16(float f); /* nearest even, NaN kept */

#endif
