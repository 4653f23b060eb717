/* own_fit.h - from seconds of steps of small models, measured one after another, to times of single kernels.
 *
 * Owns: what is typical of samples taken while memory's speed changes, and taking a step's other costs off. Refuses to
 * own: clocks and engines (src/tools/kernels.c), what the times are for (own.h).
 */
#ifndef LR_OWN_FIT_H
#define LR_OWN_FIT_H

#include "own.h"

enum { LR_OWN_SAMPLES = 64 };

/* Seconds of steps that are alike, and how fast memory read around each: bytes a second; 0 where that does not matter. */
typedef struct lr_own_times {
    double s[LR_OWN_SAMPLES], speed[LR_OWN_SAMPLES];
    uint32_t n;
} lr_own_times;

/* A small model that was stepped: numbers of its matrices that every row passes, and of those behind the last attention,
 * which only rows of logits pass. */
typedef struct lr_own_rig {
    uint32_t fmt;
    double n_layer, numbers, rest, row_work;
    double attn_ops; /* of attention with heads of 64, times n (n + 1) / 2 for n rows */
    lr_own_times at[LR_OWN_ROWS];
} lr_own_rig;

typedef struct lr_own_samples {
    lr_own_rig formats[LR_OWN_FORMATS];
    uint32_t n_formats;
    lr_own_rig layers;               /* matrices of next to nothing, of Q8_0 */
    lr_own_rig cached[LR_OWN_FILLS]; /* the last cache is filled by it so far; of Q8_0, one row; the first up to 64 */
    lr_own_times idle;               /* one row of the second of those, after a pause */
    lr_own_times cached_far;         /* the first of those behind so many tokens that this is read of the KV cache: */
    double cached_kv_bytes;
    struct {
        lr_own_times one, many; /* steps of one row and of many */
    } near[LR_OWN_HEADS], far[LR_OWN_HEADS];
    double kv_bytes[LR_OWN_HEADS], attn_ops[LR_OWN_HEADS]; /* by which far exceeds near */
    double inverse;                                        /* sum of 1 / speed over all readings of memory */
    uint32_t n_read;
    double cache_bytes, sample_s;
} lr_own_samples;

void lr_own_add(lr_own_times *t, double s, double speed);
/* What follows of them; false: nothing was timed. `out` is written whole. */
bool lr_own_solve(const lr_own_samples *in, lr_own *out);

#endif
