/* map_ahead.c - mapped bytes that are not in memory yet are read ahead of their use, by a thread of its own.
 *
 * Owns: finding out whether a file is cold, the thread that reads it in the order it is given, how far that is. Refuses
 * to own: what the bytes are, and how a system is asked for them (os_*.c).
 *
 * Reading is by pieces of a few MiB, so that stopping takes a piece's time, and through the map itself: what comes in
 * is then in this process's page tables too, in large pages where the file system has them. Whoever reads behind the
 * thread does not wait for it; whoever is ahead of it takes the fault himself, as without it.
 */
#include "base.h"
#include "os.h"

#include <pthread.h>
#include <stdatomic.h>

#define PIECE (4 * LR_MIB)
#define TELL_NS 100000000 /* how often it is told */
enum { SAMPLES = 64, COLD = 4 };

struct lr_ahead {
    pthread_t id;
    lr_ahead_fn *tell;
    void *user;
    uint64_t all, began, told;
    bool joined;
    atomic_bool stop, over;
    size_t n;
    lr_ahead_part parts[];
};

static uint64_t bytes_of(const lr_ahead_part *parts, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += parts[i].n;
    return sum;
}

/* Bytes spread over the parts: cold if a few of them are not in memory. */
static bool cold(const lr_ahead_part *parts, size_t n, uint64_t all)
{
    int missing = 0;
    uint64_t at = 0, sample = 0;
    for (size_t i = 0; i < n && missing < COLD; at += parts[i++].n)
        for (uint64_t to; sample < SAMPLES && (to = all / SAMPLES * sample) < at + parts[i].n; sample++)
            missing += !lr_os_in_memory(parts[i].p + (to - at));
    return missing >= COLD;
}

static void tell(lr_ahead *a, uint64_t done, bool now)
{
    uint64_t t = lr_now_ns();
    if (!a->tell || (!now && t - a->told < TELL_NS)) return;
    a->told = t;
    a->tell(a->user, done, a->all, (double)done / ((double)LR_MAX(t - a->began, 1u) * 1e-9));
}

/* Until there is no more, it is told to stop, or the file is not what it was: its readers will see. */
static void read_all(lr_ahead *a)
{
    uint64_t done = 0;
    for (size_t i = 0; i < a->n && done < a->all; i++) {
        uint64_t n = LR_MIN(a->parts[i].n, a->all - done);
        for (uint64_t at = 0; at < n; at += PIECE) {
            if (atomic_load(&a->stop)) return;
            if (!lr_os_bring_in(a->parts[i].p + at, (size_t)LR_MIN(PIECE, n - at))) return;
            tell(a, done + at, false);
        }
        done += n;
    }
}

static void *run(void *arg)
{
    lr_ahead *a = arg;
    a->began = lr_now_ns();
    read_all(a);
    tell(a, a->all, true); /* stopped or not: who shows it is to know that it is over */
    atomic_store(&a->over, true);
    return NULL;
}

larder_status lr_ahead_start(const lr_ahead_part *parts, size_t n, uint64_t most, lr_ahead_fn *fn, void *user,
                             lr_ahead **out, larder_error *err)
{
    *out = NULL;
    uint64_t all = bytes_of(parts, n);
    if (all < PIECE || !cold(parts, n, all)) return LARDER_OK;
    lr_ahead *a = lr_calloc(1, sizeof *a + n * sizeof *parts);
    if (!a) return LR_NOMEM(err, "reading ahead");
    a->tell = fn;
    a->user = user;
    a->all = LR_MIN(all, most);
    a->n = n;
    memcpy(a->parts, parts, n * sizeof *parts);
    int rc = lr_os_thread(&a->id, run, a);
    if (rc) {
        lr_free(a);
        return lr_fail_errno(err, rc, "cannot start a thread");
    }
    *out = a;
    return LARDER_OK;
}

bool lr_ahead_over(const lr_ahead *a) { return !a || atomic_load(&a->over); }

void lr_ahead_wait(lr_ahead *a)
{
    if (!a || a->joined) return;
    pthread_join(a->id, NULL);
    a->joined = true;
}

void lr_ahead_stop(lr_ahead *a)
{
    if (!a) return;
    atomic_store(&a->stop, true);
    lr_ahead_wait(a);
    lr_free(a);
}
