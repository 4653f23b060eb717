/* card.h - a program on a card: its memory, and one step of it under way. Host code.
 *
 * Owns: what card.c, layout.c, issue.c and cu_load.c share. Refuses to own: kernels and what they are given (cuda.h).
 */
#ifndef LR_CARD_H
#define LR_CARD_H

#include "code.h"
#include "cuda.h"

/* The form of activations a matrix meets. */
enum { LR_CU_F16, LR_CU_F16X2, LR_CU_BF16, LR_CU_BF16X2 };
static inline bool lr_cu_two(int kind) { return kind == LR_CU_F16X2 || kind == LR_CU_BF16X2; }

/* A matrix in the card's memory, one per expert. */
typedef struct lr_cu_placed {
    const lr_tensor *t;
    uint64_t at, aux_at; /* in the weights; aux_at: UINT64_MAX: no second plane */
    uint64_t row_stride, mat_stride, aux_stride, aux_mat_stride;
    uint64_t aux_lines, aux_line; /* of a matrix; bytes of one */
} lr_cu_placed;

/* Sizes of the card's buffers, in bytes. */
typedef struct lr_cu_sizes {
    uint64_t weights, floats, freqs, shared, cache, parts, logits, step, sort;
    uint64_t embed;  /* of the system's memory: rows of embeddings on their way, */
    uint64_t pinned; /* and all of it: those, steps, logits */
} lr_cu_sizes;

/* A step's arrays, one after the other: in the card's memory, and as it is filled. */
typedef struct lr_cu_book {
    uint64_t ids, pos, seq, out, first, unit, blocks, bytes; /* places; the counts are at 0 */
    uint32_t max_blocks;
} lr_cu_book;

/* Most rows a walk is issued for. */
typedef struct lr_cu_size {
    uint32_t tok, out, seq;
    bool decode; /* one token per sequence, each of them wanted */
} lr_cu_size;

enum { LR_CU_GRAPHS = 13 }; /* decode steps of up to 1, 2, 4 ... 4096 sequences */

struct lr_exec {
    lr_code c;
    lr_pool *pool;
    lr_cu_device d;
    lr_cu_sizes n;
    lr_cu_book book;
    lr_cu_placed *placed; /* [n_placed], in c's arena */
    uint32_t n_placed;
    uint64_t *freq_at; /* [n_ropes] in the freqs */
    cudaStream_t stream;
    uint8_t *weights, *shared, *cache, *step, *sort;
    float *floats, *parts, *logits;
    double *freqs;
    /* pinned */
    uint8_t *step_h;
    float *rows_h, *logits_h;
    cudaGraphExec_t graph[LR_CU_GRAPHS];
    bool profiling;
    cudaEvent_t *marks; /* [n_phase + 1], while profiling */
    uint32_t embed;     /* node */
    cudaError_t fault;
};

/* layout.c */
larder_status lr_cu_code_make(const lr_program *p, const lr_limits *l, lr_exec *x, larder_error *err);
const lr_cu_placed *lr_cu_find(const lr_exec *x, const lr_tensor *t);
/* card.c: the card, asked and woken once. */
larder_status lr_cu_device_get(lr_cu_device *d, larder_error *err);
/* measure.c */
larder_status lr_cu_measure(lr_card_rates *out, larder_error *err);
/* cu_load.c: brings the weights to the card. */
larder_status lr_cu_load(lr_exec *x, larder_error *err);
/* issue.c: all phases' kernels, in order, for steps of at most this size; up to the hidden states if so wanted. */
cudaError_t lr_cu_issue(lr_exec *x, const lr_cu_size *size, bool hidden);

/* An error of CUDA's as ours. */
larder_status lr_cu_fail(cudaError_t e, const char *doing, larder_error *err);
#define LR_CU_TRY(call, doing) \
    do { \
        cudaError_t e_ = (call); \
        if (e_ != cudaSuccess) return lr_cu_fail(e_, doing, err); \
    } while (0)

#endif
