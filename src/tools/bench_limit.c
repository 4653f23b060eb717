/* bench_limit.c - reading and multiplying at full speed, by the engine's own threads. */
#include "bench_limit.h"

#include "backend.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MOST (256 * LR_MIB)
#define LEAST (4 * LR_MIB)

typedef struct task {
    lr_bench_limit *l;
    larder_act kind;
    _Atomic uint64_t keep; /* so that nothing read is optimised away */
    _Atomic uint64_t ops;
} task;

static size_t share_of(const lr_bench_limit *l, int n_thread) { return l->n / (size_t)n_thread / 4096 * 4096; }

static void fill(void *ctx, int thread, int n_thread)
{
    task *t = ctx;
    size_t part = share_of(t->l, n_thread);
    memset(t->l->p + part * (size_t)thread, thread + 1, part);
}

static void read_all(void *ctx, int thread, int n_thread)
{
    task *t = ctx;
    size_t part = share_of(t->l, n_thread);
    atomic_fetch_xor_explicit(&t->keep, lr_cpu_read(t->l->p + part * (size_t)thread, part), memory_order_relaxed);
}

static void multiply(void *ctx, int thread, int n_thread)
{
    task *t = ctx;
    (void)thread, (void)n_thread;
    atomic_fetch_add_explicit(&t->ops, (uint64_t)lr_cpu_peak(t->kind), memory_order_relaxed);
}

larder_status lr_bench_limit_open(lr_bench_limit *l, const lr_backend *backend, lr_exec *exec, lr_pool *pool,
                                  uint64_t n_bytes, larder_error *err)
{
    if (backend && backend->read_rate) {
        *l = (lr_bench_limit){.backend = backend, .exec = exec, .pool = pool};
        return LARDER_OK;
    }
    uint64_t n = LR_MIN(LR_MIN(n_bytes, MOST), lr_mem_available() / 4);
    *l = (lr_bench_limit){.pool = pool, .n = (size_t)LR_ALIGN_UP(LR_MAX(n, LEAST), 4096)};
    l->p = lr_pages_alloc(l->n);
    if (!l->p) return LR_NOMEM(err, "the benchmark");
    task t = {.l = l};
    lr_pool_run(pool, fill, &t);
    return LARDER_OK;
}

static double note(lr_bench_limit *l, double rate)
{
    if (l->n_rate < LR_LEN(l->rate)) l->rate[l->n_rate++] = rate;
    return rate;
}

double lr_bench_limit_read(lr_bench_limit *l)
{
    if (l->backend) return note(l, l->backend->read_rate(l->exec));
    task t = {.l = l};
    int n_thread = lr_pool_size(l->pool);
    uint64_t t0 = lr_now_ns(), read = 0, spent = 0;
    while (read < MOST / 2 && spent < 20000000) { /* what is small is read several times */
        lr_pool_run(l->pool, read_all, &t);
        read += share_of(l, n_thread) * (uint64_t)n_thread;
        spent = lr_now_ns() - t0;
    }
    return note(l, (double)read / ((double)LR_MAX(spent, 1u) * 1e-9));
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double lr_bench_limit_median(lr_bench_limit *l)
{
    qsort(l->rate, l->n_rate, sizeof *l->rate, by_value);
    return l->n_rate ? l->rate[l->n_rate / 2] : 0;
}

double lr_bench_limit_ops(lr_bench_limit *l, larder_act kind)
{
    if (l->backend) return l->backend->peak(l->exec, kind);
    task t = {.l = l, .kind = kind};
    lr_pool_run(l->pool, multiply, &t);
    return (double)t.ops;
}

void lr_bench_limit_close(lr_bench_limit *l)
{
    if (l->p) lr_pages_free(l->p, l->n);
    *l = (lr_bench_limit){0};
}
