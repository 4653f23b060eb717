/* attn.h - attention over a paged cache: how the cache lies in memory, and what a unit of work is.
 *
 * Owns: the layout of one block of one KV head, and the order of every sum over positions. Refuses to own: which
 * thread does what (exec_attn.c), where the blocks lie.
 *
 * One block of one head holds LR_KV_BLOCK positions: K turned, [head_dim][LR_KV_BLOCK], then V, [LR_KV_BLOCK][v_pad],
 * where v_pad is head_dim rounded up to 16 and what is past head_dim is zero. So scores and weighted sums are the same
 * small matrix product, neither has a tail, and no score needs a sum across lanes.
 *
 * Q8_0 and Q4_0 have behind K's numbers their scales, [head_dim / 32][LR_KV_BLOCK] f16, and behind V's (v_pad then is
 * head_dim rounded up to 32) [LR_KV_BLOCK][v_pad / 32]. Of 32 numbers in a row, Q4_0 keeps the first 16 in the low
 * halves of 16 bytes and the others in the upper halves. A number is its scale times its code, rounded once, on every
 * instruction set.
 *
 * Order. Positions are taken in spans of LR_ATTN_SPAN, spans in chunks of LR_ATTN_CHUNK, both counted from position 0.
 * A score is a chain of multiply-adds over rising dimensions; within a span the weights are summed lane by lane and an
 * output is a chain over rising positions; between spans of a chunk there is the online softmax; chunks are merged in
 * rising order. A query skips the spans and chunks it sees nothing of. So the result depends on the query, the keys
 * and the positions: not on who else is in the tile, nor on which thread did which chunk.
 */
#ifndef LR_ATTN_H
#define LR_ATTN_H

#include "cpu.h"

#define LR_ATTN_SPAN 128
#define LR_ATTN_CHUNK 1024

static inline uint32_t lr_attn_pad(uint32_t head_dim) { return (head_dim + 15) / 16 * 16; }
static inline bool lr_attn_coded(larder_kv kv) { return kv == LARDER_KV_Q8_0 || kv == LARDER_KV_Q4_0; }
/* Numbers from one position's V to the next's. */
static inline uint32_t lr_attn_v_stride(uint32_t head_dim, larder_kv kv)
{
    return lr_attn_coded(kv) ? (head_dim + 31) / 32 * 32 : lr_attn_pad(head_dim);
}
/* Bytes of n numbers, scales apart. */
static inline uint64_t lr_attn_bytes(uint64_t n, larder_kv kv)
{
    switch (kv) {
    case LARDER_KV_F32: return 4 * n;
    case LARDER_KV_Q8_0: return n;
    case LARDER_KV_Q4_0: return n / 2;
    default: return 2 * n;
    }
}
/* Bytes of the scales of K, and of V: one f16 per 32 numbers of a position. */
static inline uint64_t lr_attn_scales(uint32_t head_dim, larder_kv kv)
{
    return lr_attn_coded(kv) ? 2ull * LR_KV_BLOCK * ((head_dim + 31) / 32) : 0;
}
/* Bytes of K, scales included: where V begins. */
static inline uint64_t lr_attn_k_bytes(uint32_t head_dim, larder_kv kv)
{
    return lr_attn_bytes((uint64_t)LR_KV_BLOCK * head_dim, kv) + lr_attn_scales(head_dim, kv);
}
/* Bytes of one block of one head, a multiple of 64. */
static inline uint64_t lr_attn_block_bytes(uint32_t head_dim, larder_kv kv)
{
    uint64_t v = lr_attn_bytes((uint64_t)LR_KV_BLOCK * lr_attn_v_stride(head_dim, kv), kv);
    return (lr_attn_k_bytes(head_dim, kv) + v + lr_attn_scales(head_dim, kv) + 63) / 64 * 64;
}

/* n_row queries against one KV head of one sequence. Rows are in order of rising position. */
typedef struct lr_attn_job {
    uint32_t head_dim, n_row;
    larder_kv kv;
    float scale, softcap;  /* 0: none */
    uint32_t window;       /* 0: none */
    const float *const *q; /* [n_row] of head_dim floats */
    float *const *out;     /* the same shape */
    const uint32_t *pos;   /* [n_row] */
    const float *sink;     /* [n_row] or NULL */
    const uint8_t *cache;  /* block b of this head lies at cache + b * stride */
    uint64_t stride;
    const uint32_t *blocks;
} lr_attn_job;

/* A softmax under way, for n_row rows: largest score, sum of weights (0: nothing seen), weighted sum of V. */
typedef struct lr_attn_sum {
    float *top, *sum; /* [n_row] */
    float *v;         /* [n_row][pad] */
} lr_attn_sum;

typedef struct lr_attn_kernels {
    /* One position of one head into its block (k, v of head_dim floats; p within the block). */
    void (*store)(larder_kv kv, uint32_t head_dim, uint8_t *block, uint32_t p, const float *k, const float *v);
    /* Everything: out = softmax(q K^T * scale ...) V. */
    void (*run)(const lr_attn_job *j, void *scratch);
    /* In pieces: one chunk into `to` (begun afresh); `from` merged into `to`; `to` divided out. */
    void (*chunk)(const lr_attn_job *j, uint32_t chunk, lr_attn_sum to, void *scratch);
    void (*merge)(uint32_t n_row, uint32_t pad, lr_attn_sum to, lr_attn_sum from);
    void (*finish)(const lr_attn_job *j, lr_attn_sum of);
} lr_attn_kernels;

/* Bytes of scratch for jobs of n_row rows. */
static inline size_t lr_attn_scratch(uint32_t n_row, uint32_t head_dim)
{
    size_t pad = lr_attn_pad(head_dim);
    return ((size_t)n_row * (3 * pad + LR_ATTN_SPAN + 8) * sizeof(float) + 63) / 64 * 64 + 512;
}
/* The first chunk a query at p sees. */
static inline uint32_t lr_attn_first(uint32_t p, uint32_t window)
{
    return window && p >= window ? (p - window + 1) / LR_ATTN_CHUNK : 0;
}

extern const lr_attn_kernels lr_attn_scalar, lr_attn_avx2, lr_attn_avx512, lr_attn_neon;

#endif
