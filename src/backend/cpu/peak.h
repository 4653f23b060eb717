/* peak.h - what one core of this machine can do at most: the denominators of every "share of the peak".
 *
 * Each loop keeps as many independent accumulators as hide the unit's latency and touches no memory. The compiler
 * must not fold them: the accumulators start from the caller's value and are summed into the result.
 */
#ifndef LR_PEAK_H
#define LR_PEAK_H

#include "base.h"

/* One call runs `rounds` rounds; *ops is the operations it did (a multiply-add counts two). */
typedef float lr_peak_fn(uint64_t rounds, float start, double *ops);
typedef struct lr_peak {
    lr_peak_fn *int8, *bf16, *f32;             /* NULL: the set has no such unit */
    uint64_t (*read)(const void *p, size_t n); /* reads n bytes (a multiple of 1024) and returns something of them */
} lr_peak;

extern const lr_peak lr_peak_scalar, lr_peak_avx2, lr_peak_avx512, lr_peak_neon;

#endif
