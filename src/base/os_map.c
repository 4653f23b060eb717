/* os_map.c - files mapped read-only, and the guard that keeps a shrinking file from killing the process.
 *
 * Owns: the table of live maps and the SIGBUS handler. Refuses to own: what the bytes mean.
 *
 * Touching a mapped page that lies past the end of its (since shrunk) file raises SIGBUS. When the address is in one
 * of our maps, the handler puts a page of zeros there and marks the map damaged; the read then goes on. Otherwise the
 * signal belongs to somebody else, and goes to whoever handled it before us.
 *
 * The handler may run on any thread while another opens or closes a map, so it reads the table only through atomics:
 * a slot's `end` and `damaged` are valid while its `begin` is not 0.
 */
#include "base.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_MAPS 4096

static struct slot {
    atomic_uintptr_t begin, end; /* page-aligned */
    atomic_bool damaged;
    int fd; /* kept open to ask for the file's size later */
} slots[MAX_MAPS];
static atomic_int n_slots; /* slots ever used: what the handler searches */
static pthread_mutex_t slot_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t guard_once = PTHREAD_ONCE_INIT;
static struct sigaction previous;
static uintptr_t page_size;

/* Async-signal-safe: atomics and the mmap system call only. */
static bool heal(uintptr_t at)
{
    int n = atomic_load(&n_slots);
    for (int i = 0; i < n; i++) {
        uintptr_t begin = atomic_load(&slots[i].begin);
        if (!begin || at < begin || at >= atomic_load(&slots[i].end)) continue;
        void *page = (void *)(at / page_size * page_size);
        if (mmap(page, page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
            return false;
        atomic_store(&slots[i].damaged, true);
        return true;
    }
    return false;
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
    int saved = errno;
    bool ours = heal((uintptr_t)info->si_addr);
    errno = saved;
    if (ours) return;
    if (previous.sa_flags & SA_SIGINFO) {
        previous.sa_sigaction(sig, info, context);
    } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(sig);
    } else {
        struct sigaction dfl = {.sa_handler = SIG_DFL}; /* the access repeats, and ends the process as it should */
        sigaction(sig, &dfl, NULL);
    }
}

static void install_guard(void)
{
    page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
    struct sigaction sa = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGBUS, &sa, &previous);
}

/* A free slot, or -1. The caller holds the lock. */
static int take_slot(void)
{
    int n = atomic_load(&n_slots);
    for (int i = 0; i < n; i++)
        if (!atomic_load(&slots[i].begin)) return i;
    if (n == MAX_MAPS) return -1;
    atomic_store(&n_slots, n + 1);
    return n;
}

static int guard(const void *p, size_t n, int fd)
{
    pthread_mutex_lock(&slot_lock);
    int i = take_slot();
    if (i >= 0) {
        uintptr_t begin = (uintptr_t)p;
        slots[i].fd = fd;
        atomic_store(&slots[i].damaged, false);
        atomic_store(&slots[i].end, LR_ALIGN_UP(begin + n, page_size));
        atomic_store(&slots[i].begin, begin);
    }
    pthread_mutex_unlock(&slot_lock);
    return i;
}

/* What is not in memory yet then comes in pages of 2 MiB where the file system can: a cold file is read twice as fast,
 * and reading weights needs a five-hundredth of the address translations. What is in memory stays as it is. */
static void ask_for_huge_pages(void *p, size_t n)
{
#ifdef MADV_HUGEPAGE
    if (n >= 64 * LR_MIB) madvise(p, n, MADV_HUGEPAGE);
#else
    (void)p, (void)n;
#endif
}

larder_status lr_map_open(const char *path, lr_map *out, larder_error *err)
{
    *out = (lr_map){.p = (const uint8_t *)"", .slot = -1};
    pthread_once(&guard_once, install_guard);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return lr_fail_errno(err, errno, "cannot open %s", path);
    larder_status st = LARDER_OK;
    struct stat s;
    void *p = MAP_FAILED;
    if (fstat(fd, &s)) {
        st = lr_fail_errno(err, errno, "cannot read %s", path);
    } else if (!S_ISREG(s.st_mode)) {
        st = lr_fail(err, LARDER_FORMAT, "%s is not a regular file", path);
    } else if (s.st_size > 0) {
        p = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) st = lr_fail_errno(err, errno, "cannot map %s", path);
    }
    if (p == MAP_FAILED) return close(fd), st;
    ask_for_huge_pages(p, (size_t)s.st_size);
    out->slot = guard(p, (size_t)s.st_size, fd);
    if (out->slot < 0) {
        munmap(p, (size_t)s.st_size);
        close(fd);
        return lr_fail(err, LARDER_LIMIT, "cannot map %s: more than %d files are mapped", path, MAX_MAPS);
    }
    out->p = p;
    out->n = (size_t)s.st_size;
    return LARDER_OK;
}

void lr_map_close(lr_map *m)
{
    if (m->n) {
        pthread_mutex_lock(&slot_lock);
        atomic_store(&slots[m->slot].begin, 0); /* first: the addresses may be another mapping's right after munmap */
        munmap((void *)m->p, m->n);
        close(slots[m->slot].fd);
        pthread_mutex_unlock(&slot_lock);
    }
    *m = (lr_map){.slot = -1};
}

bool lr_map_read(const void *p, size_t n, void *out)
{
    uintptr_t begin = (uintptr_t)p;
    int used = atomic_load(&n_slots);
    for (int i = 0; i < used; i++) {
        uintptr_t at = atomic_load(&slots[i].begin);
        if (!at || begin < at || begin + n > atomic_load(&slots[i].end)) continue;
        if (atomic_load(&slots[i].begin) != at) continue; /* another map has the slot since */
        size_t got = 0;
        while (got < n) {
            ssize_t k = pread(slots[i].fd, (char *)out + got, n - got, (off_t)(begin - at + got));
            if (k < 0 && errno == EINTR) continue;
            if (k <= 0) break;
            got += (size_t)k;
        }
        if (got < n) memset((char *)out + got, 0, n - got);
        if (got < n) atomic_store(&slots[i].damaged, true);
        return true;
    }
    return false;
}

/* The end of a file's last page reads as zeros without a signal, so its size is asked for as well. */
bool lr_map_damaged(const lr_map *m)
{
    if (!m->n) return false;
    struct stat s;
    return atomic_load(&slots[m->slot].damaged) || fstat(slots[m->slot].fd, &s) || (uint64_t)s.st_size < m->n;
}
