/* pool.c - a fixed set of threads that do one task together, many thousand times a second.
 *
 * Owns: the threads, their barrier, and dealing out work. Refuses to own: what a task is.
 *
 * Two words that only grow carry all waiting: `job` (a run has begun) and `round` (a barrier has opened). Whoever
 * waits for a word to change spins for a while, since the next step of a token is usually microseconds away, and then
 * sleeps on one condition variable. The sleeper announces itself before it looks at the word for the last time, and
 * the waker changes the word before it looks for sleepers; both in sequential consistency, so neither is missed.
 *
 * When the process has fewer cpus than the pool has threads, spinning would only keep the others from running:
 * waiters then yield a few times and sleep.
 */
#include "base.h"
#include "os.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

/* How long to spin: between the phases of a task, and (a sampler's time) between the tasks of an answer. On a machine
 * with other work, who spins longer spends the time slices that the thread he waits for needs. */
#define SPIN_ROUND_NS 50000
#define SPIN_JOB_NS 300000
#define CACHE_LINE 128 /* two lines of 64, which adjacent-line prefetchers move together */
#define N_SLOT 4

typedef struct padded {
    _Alignas(CACHE_LINE) _Atomic uint64_t v;
} padded;

struct lr_pool {
    padded job, round, arrived, next[N_SLOT];
    atomic_int sleepers;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    lr_task *task; /* NULL: the workers are to end */
    void *ctx;
    int no_alloc; /* the caller's lr_no_alloc, for the workers */
    int n_thread;
    size_t n_bytes; /* of this struct and its workers */
    bool crowded, pin;
    bool fast; /* its threads, the caller while it runs a task, keep to the fast cores, whichever */
    struct worker {
        lr_pool *pool;
        pthread_t id;
        int thread, cpu; /* that it is pinned to; of the caller, 0: where it should be; -1: anywhere */
    } workers[];
};

static inline void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

static bool changed(padded *w, uint64_t old) { return atomic_load_explicit(&w->v, memory_order_acquire) != old; }

static bool spin(const lr_pool *p, padded *w, uint64_t old)
{
    if (p->crowded) {
        for (int i = 0; i < 4; i++) {
            if (changed(w, old)) return true;
            sched_yield();
        }
        return changed(w, old);
    }
    for (uint64_t end = 0;;) {
        for (int i = 0; i < 64; i++) {
            if (changed(w, old)) return true;
            pause_cpu();
        }
        uint64_t now = lr_now_ns();
        if (!end) end = now + (w == &p->job ? SPIN_JOB_NS : SPIN_ROUND_NS);
        if (now > end) return false;
    }
}

static void wait_change(lr_pool *p, padded *w, uint64_t old)
{
    if (spin(p, w, old)) return;
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->sleepers, 1);
    while (atomic_load(&w->v) == old) pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->sleepers, 1);
    pthread_mutex_unlock(&p->lock);
}

static void change(lr_pool *p, padded *w)
{
    atomic_fetch_add(&w->v, 1);
    if (!atomic_load(&p->sleepers)) return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

void lr_pool_barrier(lr_pool *p)
{
    if (p->n_thread == 1) return;
    uint64_t round = atomic_load_explicit(&p->round.v, memory_order_relaxed); /* cannot open before we arrive */
    if (atomic_fetch_add(&p->arrived.v, 1) + 1 < (uint64_t)p->n_thread) {
        wait_change(p, &p->round, round);
        return;
    }
    atomic_store_explicit(&p->arrived.v, 0, memory_order_relaxed);
    change(p, &p->round);
}

/* A core that is slower than the others would make all wait at each barrier. */
static void keep_to_fast_cores(void)
{
    lr_topology t;
    lr_topology_get(&t);
    lr_os_keep_to_cpus(t.core_cpu, t.n_core_perf);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    lr_pool *p = w->pool;
    lr_os_pin_thread(w->cpu);
    if (p->fast) keep_to_fast_cores();
    for (uint64_t seen = 0;; seen++) {
        wait_change(p, &p->job, seen);
        if (!p->task) return NULL;
        if (p->no_alloc) lr_no_alloc(true);
        p->task(p->ctx, w->thread, p->n_thread);
        if (p->no_alloc) lr_no_alloc(false);
        lr_pool_barrier(p);
    }
}

/* The caller is not ours to pin, but on a worker's cpu each would wait for the other: it is sent to its own. */
static void leave_workers_cpus(const lr_pool *p)
{
    int now = p->workers[0].cpu < 0 ? -1 : lr_os_current_cpu();
    for (int i = 1; i < p->n_thread && now >= 0; i++) {
        if (p->workers[i].cpu != now) continue;
        lr_os_go_to_cpu(p->workers[0].cpu);
        return;
    }
}

static void run(lr_pool *p, lr_task *task, void *ctx)
{
    if (p->n_thread == 1) {
        task(ctx, 0, 1);
        return;
    }
    leave_workers_cpus(p);
    p->task = task;
    p->ctx = ctx;
    p->no_alloc = lr_no_alloc_depth();
    change(p, &p->job);
    task(ctx, 0, p->n_thread);
    lr_pool_barrier(p);
}

/* The caller's cores are its own again when the task is done. */
void lr_pool_run(lr_pool *p, lr_task *task, void *ctx)
{
    lr_os_cpus own;
    bool keep = p->fast && lr_os_get_cpus(&own);
    for (int i = 0; i < N_SLOT; i++) lr_pool_reset(p, i);
    if (keep) keep_to_fast_cores();
    run(p, task, ctx);
    if (keep) lr_os_set_cpus(&own);
}

static int start_workers(lr_pool *p, int n_thread)
{
    int rc = 0;
    lr_topology t;
    lr_topology_get(&t);
    /* Fewer threads than cores are the system's to place: two pools, or two processes, would pin to the same cores. */
    bool pin = p->pin && n_thread == t.n_core;
    p->fast = p->pin && n_thread <= t.n_core_perf && t.n_core_perf < t.n_core;
    p->workers[0].cpu = pin ? t.core_cpu[0] : -1;
    for (int i = 1; i < n_thread && !rc; i++) {
        p->workers[i] = (struct worker){.pool = p, .thread = i, .cpu = pin ? t.core_cpu[i] : -1};
        rc = lr_os_thread(&p->workers[i].id, worker_main, &p->workers[i]);
        if (!rc) p->n_thread++;
    }
    return rc;
}

larder_status lr_pool_new(int n_thread, bool pin, lr_pool **out, larder_error *err)
{
    *out = NULL;
    if (n_thread < 1 || n_thread > 1024)
        return lr_fail(err, LARDER_USAGE, "%d threads: from 1 to 1024 can be had", n_thread);
    size_t n = sizeof(lr_pool) + (size_t)n_thread * sizeof(struct worker);
    lr_pool *p = lr_pages_alloc(n); /* zeroed, and aligned to a page */
    if (!p) return LR_NOMEM(err, "the thread pool");
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->n_bytes = n;
    p->pin = pin;
    p->crowded = n_thread > lr_os_cpu_count();
    p->n_thread = 1;
    int rc = start_workers(p, n_thread);
    if (rc) {
        lr_pool_free(p);
        return lr_fail_errno(err, rc, "cannot start %d threads", n_thread);
    }
    *out = p;
    return LARDER_OK;
}

void lr_pool_free(lr_pool *p)
{
    if (!p) return;
    int n = p->n_thread;
    p->task = NULL;
    change(p, &p->job);
    for (int i = 1; i < n; i++) pthread_join(p->workers[i].id, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    lr_pages_free(p, p->n_bytes);
}

int lr_pool_size(const lr_pool *p) { return p->n_thread; }

bool lr_pool_next(lr_pool *p, int slot, uint64_t n, uint64_t grain, uint64_t *begin, uint64_t *end)
{
    uint64_t at = atomic_fetch_add_explicit(&p->next[slot].v, grain, memory_order_relaxed);
    if (at >= n) return false;
    *begin = at;
    *end = LR_MIN(n, at + grain);
    return true;
}

void lr_pool_reset(lr_pool *p, int slot) { atomic_store_explicit(&p->next[slot].v, 0, memory_order_relaxed); }
