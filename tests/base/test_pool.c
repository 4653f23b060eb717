/* The thread pool: barriers, dealing, sleeping and waking, more threads than cpus. */
#include "base.h"
#include "test.h"

#include <stdatomic.h>
#include <unistd.h>

static larder_error err;

#define MAX_THREAD 16
struct rounds {
    lr_pool *pool;
    int n_round;
    long at[MAX_THREAD]; /* plain memory: only the barriers order it */
    atomic_int n_wrong;
};

/* Each thread writes its round, passes the barrier, and must see everybody's. */
static void do_rounds(void *ctx, int thread, int n_thread)
{
    struct rounds *r = ctx;
    for (int i = 1; i <= r->n_round; i++) {
        r->at[thread] = i;
        lr_pool_barrier(r->pool);
        for (int t = 0; t < n_thread; t++)
            if (r->at[t] != i) atomic_fetch_add(&r->n_wrong, 1);
        lr_pool_barrier(r->pool);
    }
}

static void stress(int n_thread, bool pin, int n_run, int n_round)
{
    struct rounds r = {.n_round = n_round};
    CHECK_OK(lr_pool_new(n_thread, pin, &r.pool, &err));
    CHECK_EQ_INT(lr_pool_size(r.pool), n_thread);
    for (int i = 0; i < n_run; i++) lr_pool_run(r.pool, do_rounds, &r);
    CHECK_EQ_INT(r.n_wrong, 0);
    lr_pool_free(r.pool);
}

TEST(barriers_order_memory)
{
    stress(1, false, 10, 100);
    stress(2, false, 200, 100);
    stress(2, true, 20, 100);
}

TEST(more_threads_than_cpus)
{
    stress(4, false, 20, 50);
    stress(MAX_THREAD, false, 10, 20);
}

struct deal {
    lr_pool *pool;
    atomic_uchar seen[10007];
};

static void take_all(void *ctx, int thread, int n_thread)
{
    struct deal *d = ctx;
    (void)n_thread;
    uint64_t begin, end;
    for (int slot = 0; slot < 4; slot++)
        while (lr_pool_next(d->pool, slot, LR_LEN(d->seen), 13, &begin, &end))
            for (uint64_t i = begin; i < end; i++) atomic_fetch_add(&d->seen[i], 1);
    lr_pool_barrier(d->pool);
    if (thread == 0) lr_pool_reset(d->pool, 2);
    lr_pool_barrier(d->pool);
    while (lr_pool_next(d->pool, 2, LR_LEN(d->seen), 13, &begin, &end))
        for (uint64_t i = begin; i < end; i++) atomic_fetch_add(&d->seen[i], 1);
}

TEST(everything_is_dealt_once)
{
    static struct deal d;
    CHECK_OK(lr_pool_new(3, false, &d.pool, &err));
    for (int run = 1; run <= 3; run++) {
        lr_pool_run(d.pool, take_all, &d);
        for (size_t i = 0; i < LR_LEN(d.seen); i++) CHECK_EQ_INT(d.seen[i], 5 * run);
    }
    lr_pool_free(d.pool);
}

static void count(void *ctx, int thread, int n_thread)
{
    (void)thread, (void)n_thread;
    atomic_fetch_add((atomic_int *)ctx, 1);
}

TEST(sleepers_wake)
{
    lr_pool *p;
    atomic_int n = 0;
    CHECK_OK(lr_pool_new(2, false, &p, &err));
    for (int i = 0; i < 50; i++) {
        lr_pool_run(p, count, &n);
        usleep((useconds_t)(test_random() % 400)); /* around the time a waiter spins */
    }
    CHECK_EQ_INT(n, 100);
    lr_pool_free(p);
}

TEST(an_idle_pool_takes_no_time)
{
    lr_pool *p;
    CHECK_OK(lr_pool_new(4, false, &p, &err));
    usleep(20000);
    clock_t before = clock();
    usleep(200000);
    CHECK((double)(clock() - before) / CLOCKS_PER_SEC < 0.1);
    lr_pool_free(p);
}

TEST(pools_do_not_disturb_each_other)
{
    for (int i = 0; i < 50; i++) {
        lr_pool *a, *b;
        atomic_int n = 0;
        CHECK_OK(lr_pool_new(2, false, &a, &err));
        CHECK_OK(lr_pool_new(3, false, &b, &err));
        lr_pool_run(a, count, &n);
        lr_pool_run(b, count, &n);
        CHECK_EQ_INT(n, 5);
        lr_pool_free(a);
        lr_pool_free(b);
    }
    lr_pool_free(NULL);
}

TEST(bad_sizes_and_no_memory_are_errors)
{
    lr_pool *p;
    CHECK_STATUS(lr_pool_new(0, false, &p, &err), LARDER_USAGE);
    CHECK_STATUS(lr_pool_new(100000, false, &p, &err), LARDER_USAGE);
    lr_alloc_fail_at(0);
    CHECK_STATUS(lr_pool_new(2, false, &p, &err), LARDER_NOMEM);
    CHECK(!p);
}

/* Two threads on two idle cpus: the figure is printed, and only a gross miss fails, since tests share the machine. */
TEST(a_barrier_is_cheap)
{
    struct rounds r = {.n_round = 20000};
    CHECK_OK(lr_pool_new(2, false, &r.pool, &err));
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        uint64_t t = lr_now_ns();
        lr_pool_run(r.pool, do_rounds, &r);
        best = LR_MIN(best, (double)(lr_now_ns() - t) / (2.0 * r.n_round));
    }
    lr_pool_free(r.pool);
    printf("%.0f ns per barrier\n", best);
    CHECK(best < 100000);
}
