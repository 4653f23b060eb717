/* os_posix.c - files, folders and pages, the same on every POSIX system.
 *
 * Owns: reading and writing whole files, the user's folders, pages from the system, threads without signals.
 * Refuses to own: mapped files (os_map.c), what differs between Linux and macOS (os_linux.c, os_macos.c).
 */
#include "base.h"
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---------------------------------------------------------------- pages */
#define HUGE_PAGE ((size_t)2 << 20)

/* Maps more than asked and gives back both ends, so that the rest begins on a huge page. */
static void *pages_aligned(size_t n)
{
    size_t total;
    if (!lr_add_size(n, HUGE_PAGE, &total)) return NULL;
    char *p = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    char *begin = (char *)LR_ALIGN_UP((uintptr_t)p, HUGE_PAGE);
    if (begin > p) munmap(p, (size_t)(begin - p));
    if (begin + n < p + total) munmap(begin + n, (size_t)(p + total - begin - n));
#ifdef MADV_HUGEPAGE
    madvise(begin, n, MADV_HUGEPAGE);
#endif
    return begin;
}

static size_t page_round(size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return n > SIZE_MAX - page ? 0 : LR_ALIGN_UP(n ? n : 1, page);
}

void *lr_pages_alloc(size_t n)
{
    size_t size = page_round(n);
    if (!size || !lr_may_alloc(n)) return NULL;
    if (size >= HUGE_PAGE) return pages_aligned(size);
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void lr_pages_take(void *p, size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *from = (char *)((uintptr_t)p / page * page), *to = (char *)p + n;
    if (!n) return;
#ifdef MADV_POPULATE_WRITE
    if (!madvise(from, page_round((size_t)(to - from)), MADV_POPULATE_WRITE)) return;
#endif
    for (volatile char *at = p; (char *)at < to; at += page) *at = 0;
    *(volatile char *)(to - 1) = 0;
}

void lr_pages_free(void *p, size_t n)
{
    if (p) munmap(p, page_round(n));
}

/* ---------------------------------------------------------------- mapped pages */
static size_t whole_pages(const void *p, size_t n, char **from)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    *from = (char *)((uintptr_t)p / page * page);
    return page_round((size_t)((const char *)p + n - *from));
}

bool lr_os_in_memory(const void *p)
{
    char *from, in[8] = {0};
    if (whole_pages(p, 1, &from) > (size_t)sysconf(_SC_PAGESIZE)) return true;
    return mincore(from, 1, (void *)in) || (in[0] & 1);
}

bool lr_os_bring_in(const void *p, size_t n)
{
    char *from, sum = 0;
    size_t size = whole_pages(p, n, &from), page = (size_t)sysconf(_SC_PAGESIZE);
#ifdef MADV_POPULATE_READ
    /* older systems do not know it, emulators take it for a hint */
    bool done = !madvise(from, size, MADV_POPULATE_READ);
    if (done && lr_os_in_memory(from) && lr_os_in_memory(from + size - 1)) return true;
    if (!done && errno != EINVAL) return false;
#endif
    for (size_t i = 0; i < size; i += page) sum ^= *(volatile char *)(from + i);
    (void)sum;
    return true;
}

/* ---------------------------------------------------------------- threads */
int lr_os_thread(pthread_t *id, void *(*run)(void *), void *arg)
{
    static const int own[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
    sigset_t all, old;
    sigfillset(&all);
    for (size_t i = 0; i < LR_LEN(own); i++) sigdelset(&all, own[i]);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    int rc = pthread_create(id, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

/* ---------------------------------------------------------------- files */
bool lr_is_dir(const char *path)
{
    struct stat s;
    return !stat(path, &s) && S_ISDIR(s.st_mode);
}

bool lr_is_file(const char *path)
{
    struct stat s;
    return !stat(path, &s) && S_ISREG(s.st_mode);
}

/* Reads until the end or `cap` bytes. Returns the count, or -1 with errno set. */
static ssize_t read_all(int fd, char *p, size_t cap)
{
    size_t n = 0;
    while (n < cap) {
        ssize_t r = read(fd, p + n, cap - n);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) return -1;
        if (!r) break;
        n += (size_t)r;
    }
    return (ssize_t)n;
}

larder_status lr_read_file(const char *path, size_t max, char **out, size_t *n, larder_error *err)
{
    *out = NULL;
    if (n) *n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return lr_fail_errno(err, errno, "cannot open %s", path);
    larder_status st = LARDER_OK;
    char *p = NULL;
    struct stat s;
    if (fstat(fd, &s)) {
        st = lr_fail_errno(err, errno, "cannot read %s", path);
        goto fail;
    }
    if (!S_ISREG(s.st_mode)) {
        st = lr_fail(err, LARDER_FORMAT, "%s is not a regular file", path);
        goto fail;
    }
    if ((uint64_t)s.st_size > max) {
        st = lr_fail(err, LARDER_LIMIT, "%s is larger than the %zu bytes allowed", path, max);
        goto fail;
    }
    p = lr_alloc((size_t)s.st_size + 1);
    if (!p) {
        st = LR_NOMEM(err, path);
        goto fail;
    }
    ssize_t got = read_all(fd, p, (size_t)s.st_size);
    if (got < 0) {
        st = lr_fail_errno(err, errno, "cannot read %s", path);
        goto fail;
    }
    p[got] = 0;
    *out = p;
    if (n) *n = (size_t)got;
    close(fd);
    return LARDER_OK;
fail:
    lr_free(p);
    close(fd);
    return st;
}

/* ---------------------------------------------------------------- the user's folders */
static larder_status make_dirs(char *path, larder_error *err)
{
    for (char *s = path + 1;; s++) {
        if (*s && *s != '/') continue;
        char c = *s;
        *s = 0;
        if (mkdir(path, 0700) && errno != EEXIST) {
            larder_status st = lr_fail_errno(err, errno, "cannot create the folder %s", path);
            *s = c;
            return st;
        }
        *s = c;
        if (!c) return LARDER_OK;
    }
}

larder_status lr_user_dir(const char *kind, char *out, size_t cap, larder_error *err)
{
    static const char *const kinds[][3] = {
        {"data", "XDG_DATA_HOME", "/.local/share"},
        {"cache", "XDG_CACHE_HOME", "/.cache"},
        {"config", "XDG_CONFIG_HOME", "/.config"},
        {"state", "XDG_STATE_HOME", "/.local/state"},
    };
    size_t i = 0;
    while (i < LR_LEN(kinds) && strcmp(kind, kinds[i][0])) i++;
    if (i == LR_LEN(kinds)) return lr_fail(err, LARDER_INTERNAL, "no user folder of kind %s", kind);
    const char *base = getenv(kinds[i][1]), *tail = "";
    if (!base || base[0] != '/') { /* the specification has relative paths ignored */
        base = getenv("HOME");
        tail = kinds[i][2];
    }
    if (!base || base[0] != '/') return lr_fail(err, LARDER_NOT_FOUND, "no home folder: set HOME or %s", kinds[i][1]);
    int n = snprintf(out, cap, "%s%s/larder", base, tail);
    if (n < 0 || (size_t)n >= cap) return lr_fail(err, LARDER_LIMIT, "the path of the %s folder is too long", kind);
    return make_dirs(out, err);
}
