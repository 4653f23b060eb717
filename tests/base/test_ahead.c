/* Files read ahead of their use: cold ones, warm ones, a part of one, one that shrinks, stopping. */
#include "base.h"
#include "os.h"
#include "test.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum { SIZE = 24 << 20 };
static larder_error err;
static char path[64];
static lr_map map;

typedef struct told {
    atomic_ullong n_done, n_all, times;
} told;

static void hear(void *user, uint64_t n_done, uint64_t n_all, double rate)
{
    told *t = user;
    CHECK(n_done <= n_all && n_done >= t->n_done && rate >= 0);
    t->n_done = n_done;
    t->n_all = n_all;
    t->times++;
}

static bool first_and_last_in_memory(void) { return lr_os_in_memory(map.p) && lr_os_in_memory(map.p + SIZE - 1); }

/* A file that is in no cache; false: this file system keeps what it is asked to drop. */
static bool make_cold(void)
{
    snprintf(path, sizeof path, "/var/tmp/larder-ahead-XXXXXX");
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    uint8_t *bytes = lr_alloc(SIZE);
    for (size_t i = 0; i < SIZE; i++) bytes[i] = (uint8_t)(i * 2654435761u >> 24);
    CHECK(write(fd, bytes, SIZE) == SIZE && !fsync(fd));
    lr_free(bytes);
#ifdef POSIX_FADV_DONTNEED
    CHECK(!posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
#endif
    close(fd);
    CHECK_OK(lr_map_open(path, &map, &err));
    for (size_t i = 0; i < SIZE; i += LR_MIB)
        if (lr_os_in_memory(map.p + i)) return false;
    return true;
}

static void drop(void)
{
    lr_map_close(&map);
    unlink(path);
}

/* Begins with the second half: the order is the caller's. */
static lr_ahead *start(uint64_t most, told *t)
{
    lr_ahead_part parts[2] = {{map.p + SIZE / 2, SIZE / 2}, {map.p, SIZE / 2}};
    lr_ahead *a;
    CHECK_OK(lr_ahead_start(parts, 2, most, hear, t, &a, &err));
    return a;
}

#define COLD_OR_SKIP() \
    if (!make_cold()) { \
        drop(); \
        SKIP("this file system keeps files in memory"); \
    }

TEST(cold_then_warm)
{
    told t = {0};
    COLD_OR_SKIP();
    lr_ahead *a = start(UINT64_MAX, &t);
    CHECK(a != NULL);
    lr_ahead_wait(a);
    CHECK(t.n_all == SIZE && t.n_done == SIZE && first_and_last_in_memory());
    CHECK(lr_ahead_over(a) && lr_ahead_over(NULL));
    lr_ahead_stop(a);
    unsigned long long times = t.times;
    CHECK(start(UINT64_MAX, &t) == NULL); /* warm now, and says nothing */
    CHECK(t.times == times);
    drop();
}

TEST(no_more_than_asked_for)
{
    told t = {0};
    COLD_OR_SKIP();
    lr_ahead *a = start(SIZE / 4, &t);
    lr_ahead_wait(a);
    CHECK(t.n_all == SIZE / 4 && t.n_done == SIZE / 4);
    CHECK(lr_os_in_memory(map.p + SIZE / 2) && !lr_os_in_memory(map.p + SIZE / 4));
    lr_ahead_stop(a);
    drop();
}

TEST(stopped_and_shrunk)
{
    told t = {0}, u = {0};
    COLD_OR_SKIP();
    lr_ahead_stop(start(UINT64_MAX, &t)); /* wherever it is, the end is told */
    CHECK(t.n_all == SIZE && t.n_done == SIZE);
    drop();
    COLD_OR_SKIP();
    CHECK(!truncate(path, SIZE / 2 + 4096));
    lr_ahead *a = start(UINT64_MAX, &u);
    CHECK(a != NULL);
    lr_ahead_wait(a);
    CHECK(u.n_all == SIZE && u.n_done == SIZE && lr_map_damaged(&map));
    lr_ahead_stop(a);
    lr_ahead_stop(NULL);
    drop();
}
