/* bench_limit.h - what the engine's own threads can do, measured in the process and beside the runs it is held against.
 *
 * Owns: the buffer that is read. Refuses to own: which share of it an operator reaches (bench.c).
 */
#ifndef LR_BENCH_LIMIT_H
#define LR_BENCH_LIMIT_H

#include "backend.h"
#include "larder.h"

typedef struct lr_bench_limit {
    const lr_backend *backend; /* that measures itself, in this exec; NULL: the pool's threads are measured */
    lr_exec *exec;
    lr_pool *pool;
    uint8_t *p;
    size_t n;
    double rate[256]; /* bytes a second, of each time it was measured */
    uint32_t n_rate;
} lr_bench_limit;

/* A buffer of about n_bytes (what a step reads), less where memory is short, never so little that a core's own caches
 * hold it. */
larder_status lr_bench_limit_open(lr_bench_limit *l, const lr_backend *backend, lr_exec *exec, lr_pool *pool,
                                  uint64_t n_bytes, larder_error *err);
/* Reads it all: bytes a second now. */
double lr_bench_limit_read(lr_bench_limit *l);
/* The median of all readings so far; 0: none. */
double lr_bench_limit_median(lr_bench_limit *l);
/* Operations a second of all threads at once; 0: there is no such unit. */
double lr_bench_limit_ops(lr_bench_limit *l, larder_act kind);
void lr_bench_limit_close(lr_bench_limit *l);

#endif
