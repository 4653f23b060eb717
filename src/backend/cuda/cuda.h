/* cuda.h - inside src/backend/cuda: what its host code (C) and its kernels (CUDA C) share.
 *
 * Owns: how weights, activations, the cache and a step lie in the card's memory; the entry of each kernel.
 * Refuses to own: which kernel runs when (card.c, layout.c, issue.c), bit layouts of formats (formats.cuh).
 *
 * The arithmetic is fixed on paper (docs/decisions/0009-cuda-arithmetic.md), so that the kernels for few tokens and for
 * many, decode and prefill, agree bit for bit.
 *
 * Every kernel may be launched before the one ahead of it in the stream has ended (programmatic dependent launch): it
 * lets the next one start at once, may then read weights, and waits (lr_cu_wait, launch.cuh) before it touches anything
 * else, reading or writing.
 *
 * What changes from step to step lies in the card's memory (lr_cu_step), never in a launch's arguments: a step is
 * captured once per size as a graph and replayed. Sizes in the arguments are the most there can be (`max_`).
 */
#ifndef LR_CUDA_H
#define LR_CUDA_H

#include "backend.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lr_cu_device {
    int id, n_sm, major, minor;
    size_t smem; /* bytes of shared memory a block may have */
    size_t l2;
    uint64_t n_bytes; /* of memory */
    bool integrated;  /* it shares the system's memory */
    char name[256];
} lr_cu_device;

/* ---------------------------------------------------------------- a step
 * Tokens lie sequence after sequence. Rows of a value are the step's tokens, or those whose output is wanted. */
typedef struct lr_cu_counts {
    uint32_t n_tok, n_out, n_seq, n_unit; /* n_unit: of split attention, all sequences' chunks */
} lr_cu_counts;

typedef struct lr_cu_step { /* arrays in the card's memory, filled before each step */
    const lr_cu_counts *counts;
    const int32_t *ids;     /* [n_tok] */
    const uint32_t *pos;    /* [n_tok] position in its sequence */
    const uint32_t *seq;    /* [n_tok] its sequence */
    const uint32_t *out;    /* [n_out] tokens whose output is wanted, rising */
    const uint32_t *first;  /* [n_seq + 1] each sequence's first token */
    const uint32_t *unit;   /* [n_seq + 1] chunks (LR_CU_ATTN_CHUNK positions) of the sequences before */
    const uint32_t *blocks; /* [n_seq][max_blocks] block tables */
    uint32_t max_blocks;
} lr_cu_step;

/* ---------------------------------------------------------------- products
 * y[i][r] = sum_c W[r][c] x[i][c]: W is read as it lies in the file, decoded to F16 or BF16 operands (each format to one of
 * the two, lr_cu_takes_bf16) in registers, and multiplied by tensor cores. */

/* Rows of x as products read them: 16-bit numbers, `stride` of them from row to row, a multiple of 32, 16-byte aligned;
 * past the width they are 0. lo: what `hi` left of each number, or NULL. scale: of F16 rows, which were divided by it,
 * a power of two, before rounding; NULL: 1. turned: the columns of each 32 stand in the order of lr_cu_turn. */
typedef struct lr_cu_x {
    const uint16_t *hi, *lo;
    const float *scale;
    uint32_t stride;
    bool turned;
} lr_cu_x;

/* Which of 32 columns stands at place i of a turned row: lane t of four has columns 8t .. 8t + 7, and a tensor core
 * takes from it, in its two 16-column products, places 2t, 2t + 1, 2t + 8, 2t + 9. */
static inline uint32_t lr_cu_turn(uint32_t i) { return i % 8 / 2 * 8 + i / 16 * 4 + i / 8 % 2 * 2 + i % 2; }

/* Columns whose products are summed in one chain; the chains' sums are then added in rising order. */
static inline uint32_t lr_cu_chain(uint32_t cols)
{
    uint32_t n = ((cols + 7) / 8 + 255) / 256 * 256;
    return n < 256 ? 256 : n;
}

/* One matrix, or one per expert, in the card's memory. data and row_stride are multiples of 16. */
typedef struct lr_cu_mat {
    uint32_t fmt, rows, cols;
    const uint8_t *data, *aux; /* aux: second plane (quant.h), any alignment its numbers want; NULL: none */
    uint64_t row_stride, mat_stride, aux_stride, aux_mat_stride;
    uint32_t aux_rows, aux_first; /* row r finds its own at line (aux_first + r) / aux_rows of aux; 0: at line r */
    const float *bias;            /* [matrices][rows] or NULL */
    float *y;
    uint32_t y_stride; /* floats from a row of y to the next */
} lr_cu_mat;

/* Rows of routed products sorted by expert: row = token * k + slot. */
typedef struct lr_cu_sort {
    const uint32_t *rows;   /* [n_row * k] expert after expert, rising */
    const uint32_t *tiles;  /* [n_tile][3]: expert, first in rows, how many (1 .. tile) */
    const uint32_t *n_tile; /* tiles in use */
    uint32_t tile;          /* most rows of a tile */
} lr_cu_sort;

enum { LR_CU_MATS = 4 };
/* Up to four matrices of one format and width that meet the same rows. */
typedef struct lr_cu_mm {
    lr_cu_mat w[LR_CU_MATS];
    uint32_t n;
    lr_cu_x x;
    const uint32_t *n_row; /* rows there are, in the card's memory */
    uint32_t max_row;
    bool add;        /* y += */
    uint32_t k;      /* 0: plain. Else routed: experts per row, and y has a row per (row, slot) */
    uint32_t in_mul; /* routed: x has one row per token (1), or one per (token, slot) (k) */
    lr_cu_sort sort;
} lr_cu_mm;

bool lr_cu_takes_bf16(uint32_t fmt); /* else F16 */
bool lr_cu_takes_lo(uint32_t fmt);   /* x must bring `lo` always (F32: its own low half is multiplied too) */
enum { LR_CU_FEW = 8 };
/* At most LR_CU_FEW rows, or tiles of so many; x not turned. Bound by memory. */
cudaError_t lr_cu_mm_few(const lr_cu_device *d, const lr_cu_mm *m, cudaStream_t s);
/* More rows, or sort.tile == lr_cu_many_tile; x turned. */
cudaError_t lr_cu_mm_many(const lr_cu_device *d, const lr_cu_mm *m, cudaStream_t s);
uint32_t lr_cu_many_tile(const lr_cu_device *d, uint32_t max_row, uint32_t k, uint32_t n_expert);

/* ---------------------------------------------------------------- attention */
enum { LR_CU_ATTN_CHUNK = 128 };
typedef struct lr_cu_attn {
    uint32_t n_head, n_head_kv, head_dim, window;
    float scale, softcap;
    const float *sinks; /* [n_head] or NULL */
    larder_kv kv;
    uint8_t *cache;        /* this layer's: [n_head_kv][n_kv_block] blocks of lr_cu_block_bytes */
    uint64_t head_stride;  /* bytes from a head's blocks to the next one's */
    uint32_t block_stride; /* bytes from a block to the next */
    const float *q, *k, *v;
    float *out;
    uint32_t q_stride, k_stride, v_stride, out_stride; /* floats from a token to the next */
    float *parts;                                      /* lr_cu_attn_parts bytes */
    bool exact;                                        /* q and probabilities in two F16 halves */
    lr_cu_step step;
    uint32_t max_tok, max_seq, max_ctx;
    bool decode; /* one token per sequence */
} lr_cu_attn;

/* Bytes of one block (LR_KV_BLOCK positions) of one head, K and V, a multiple of 16; 0: kv is not held so. */
uint64_t lr_cu_block_bytes(uint32_t head_dim, larder_kv kv);
uint64_t lr_cu_attn_parts(const lr_cu_device *d, uint32_t n_head, uint32_t head_dim, uint32_t max_seq,
                          uint32_t max_ctx);
/* Puts the step's k and v into the cache. */
cudaError_t lr_cu_attn_store(const lr_cu_device *d, const lr_cu_attn *a, cudaStream_t s);
/* out = attention of the step's q over the cache, its own positions included. */
cudaError_t lr_cu_attn_run(const lr_cu_device *d, const lr_cu_attn *a, cudaStream_t s);

/* ---------------------------------------------------------------- rows
 * Everything that is neither a product nor attention: a list of operators, done one after the other by a block for each
 * row. What they compute is program.h's. */
typedef struct lr_cu_rowop {
    uint8_t kind; /* lr_op_kind, LR_NODE_PACK or LR_NODE_ANGLES (code.h) */
    uint8_t fn, halves;
    bool bf16, turned, lo;  /* PACK: what is made */
    uint32_t n, width, mul; /* as lr_node's */
    uint32_t group;         /* norms: width of a group; ROPE: of a head */
    uint32_t w_n;           /* norms: how many weights; ROPE and ANGLES: numbers that turn; COMBINE: k */
    float eps, scale;       /* ANGLES: scale in both */
    const void *a, *b, *w;  /* in[0], in[1]; w: floats, or the doubles of ANGLES */
    void *y;
    uint64_t a_row, b_row, y_row; /* bytes from a row to the next */
    const float *bias;            /* LAYERNORM, ROUTE */
    uint64_t lo_at, scale_at;     /* PACK: bytes from y to those planes */
    uint8_t gating;
    bool renorm;
} lr_cu_rowop;

enum { LR_CU_ROWOPS = 24 };
typedef struct lr_cu_rows {
    lr_cu_rowop op[LR_CU_ROWOPS];
    uint32_t n;
    bool out; /* rows are outputs, not tokens */
    uint32_t max_row;
    lr_cu_step step;
} lr_cu_rows;
cudaError_t lr_cu_rows_run(const lr_cu_device *d, const lr_cu_rows *r, cudaStream_t s);

/* Sorts routing ([n_row][k] pairs of expert and weight, row_bytes apart) into o's arrays, which it owns for the time. */
typedef struct lr_cu_sorting {
    const uint8_t *routing;
    uint64_t row_bytes;
    const uint32_t *n_row;
    uint32_t k, n_expert, tile;
    uint32_t *rows, *tiles, *n_tile;
} lr_cu_sorting;
enum { LR_CU_EXPERTS = 1024 };
cudaError_t lr_cu_sort_run(const lr_cu_device *d, const lr_cu_sorting *o, cudaStream_t s);

/* Runs a kernel that does nothing and waits for it. After that what the driver needs of files is open, and this program is
 * known to hold kernels for this generation (wake.cu). */
cudaError_t lr_cu_wake(const lr_cu_device *d);

/* ---------------------------------------------------------------- what the card can do (peak.cu)
 * Bytes a second of reading n of them; operations a second of bf16 products. `keep`: four bytes that may be written. 0: failed. */
double lr_cu_read_rate(const lr_cu_device *d, const void *p, uint64_t n, uint32_t *keep, cudaStream_t s);
double lr_cu_peak(const lr_cu_device *d, float *keep, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
