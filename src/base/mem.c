/* mem.c - the heap, arenas, checked arithmetic, byte views, and the hash of tables.
 *
 * Owns: every allocation larder makes, so that tests can make one fail and a debug build can forbid them.
 * Refuses to own: pages straight from the system (os_posix.c).
 *
 * An arena is a list of chunks, newest first; only the newest has room:
 *
 *   chunk -> [header | pad to 64 | block | gap | block | gap | ... free ...] -> [older chunk] -> NULL
 *
 * Under AddressSanitizer everything but the blocks themselves is poisoned, and a gap follows every block.
 */
#include "base.h"
#include "os.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifdef __SANITIZE_ADDRESS__
#define LR_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LR_ASAN 1
#endif
#endif
#ifdef LR_ASAN
#include <sanitizer/asan_interface.h>
#define GAP 64
#define POISON(p, n) __asan_poison_memory_region(p, n)
#define UNPOISON(p, n) __asan_unpoison_memory_region(p, n)
#else
#define GAP 0
#define POISON(p, n) ((void)0)
#define UNPOISON(p, n) ((void)0)
#endif

/* ---------------------------------------------------------------- the heap */
static atomic_long n_allocs;
static atomic_long fail_at = -1; /* value of n_allocs from which on allocations fail */
static _Thread_local int no_alloc_depth;

void lr_no_alloc(bool on) { no_alloc_depth += on ? 1 : -1; }
int lr_no_alloc_depth(void) { return no_alloc_depth; }

static void check_allowed(const char *who, size_t n)
{
#ifdef LR_CHECK_ALLOC
    if (no_alloc_depth > 0) {
        fprintf(stderr, "larder: %s(%zu) where nothing may be allocated\n", who, n);
        abort();
    }
#else
    (void)who, (void)n;
#endif
}

bool lr_may_alloc(size_t n)
{
    check_allowed("lr_alloc", n);
    long at = atomic_load_explicit(&fail_at, memory_order_relaxed);
    long i = atomic_fetch_add_explicit(&n_allocs, 1, memory_order_relaxed);
    return at < 0 || i < at;
}

void *lr_alloc(size_t n) { return lr_may_alloc(n) ? malloc(n ? n : 1) : NULL; }

void *lr_calloc(size_t count, size_t size)
{
    size_t n;
    if (!lr_mul_size(count, size, &n) || !lr_may_alloc(n)) return NULL;
    return calloc(n ? n : 1, 1);
}

void *lr_realloc(void *p, size_t n) { return lr_may_alloc(n) ? realloc(p, n ? n : 1) : NULL; }

void lr_free(void *p) { free(p); }
void larder_free(void *p) { lr_free(p); }

char *lr_strndup(const char *s, size_t n)
{
    size_t total;
    char *p = lr_add_size(n, 1, &total) ? lr_alloc(total) : NULL;
    if (!p) return NULL;
    if (n) memcpy(p, s, n);
    p[n] = 0;
    return p;
}

void lr_alloc_fail_at(long n) { atomic_store(&fail_at, n < 0 ? -1 : atomic_load(&n_allocs) + n); }
long lr_alloc_count(void) { return atomic_load(&n_allocs); }

#ifdef LR_WRAP_MALLOC
/* Linked with --wrap in debug builds: a raw malloc in one of our objects is caught too. */
void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n)
{
    check_allowed("malloc", n);
    return __real_malloc(n);
}
void *__wrap_calloc(size_t count, size_t size)
{
    check_allowed("calloc", size);
    return __real_calloc(count, size);
}
void *__wrap_realloc(void *p, size_t n)
{
    check_allowed("realloc", n);
    return __real_realloc(p, n);
}
#endif

/* ---------------------------------------------------------------- checked arithmetic */
bool lr_mul_size(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
bool lr_add_size(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }
bool lr_mul_u64(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_mul_overflow(a, b, out); }
bool lr_add_u64(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_add_overflow(a, b, out); }

/* ---------------------------------------------------------------- arenas */
#define ALIGN 64
#define CHUNK_MIN ((size_t)16 << 10)
#define CHUNK_MAX ((size_t)1 << 20) /* a larger block gets a chunk of its own size */

struct lr_chunk {
    struct lr_chunk *older;
    char *begin; /* first aligned byte */
    size_t used, cap;
};

static struct lr_chunk *chunk_new(size_t need, struct lr_chunk *older)
{
    size_t cap = older ? LR_MIN(older->cap * 2, CHUNK_MAX) : CHUNK_MIN, total;
    cap = LR_MAX(cap, need);
    if (!lr_add_size(cap, sizeof(struct lr_chunk) + ALIGN, &total)) return NULL;
    struct lr_chunk *c = lr_calloc(1, total);
    if (!c) return NULL;
    c->older = older;
    c->begin = (char *)LR_ALIGN_UP((uintptr_t)(c + 1), ALIGN);
    c->cap = cap;
    POISON(c->begin, cap);
    return c;
}

void *lr_arena_alloc(lr_arena *a, size_t n)
{
    if (n > SIZE_MAX - ALIGN - GAP) return NULL;
    size_t step = LR_ALIGN_UP(n ? n : 1, ALIGN) + GAP;
    struct lr_chunk *c = a->chunk;
    if (!c || c->cap - c->used < step) {
        c = chunk_new(step, c);
        if (!c) return NULL;
        a->chunk = c;
    }
    void *p = c->begin + c->used;
    c->used += step;
    a->n_bytes += step;
    UNPOISON(p, n);
    return p;
}

void *lr_arena_array(lr_arena *a, size_t count, size_t size)
{
    size_t n;
    return lr_mul_size(count, size, &n) ? lr_arena_alloc(a, n) : NULL;
}

char *lr_arena_strndup(lr_arena *a, const char *s, size_t n)
{
    char *p = n < SIZE_MAX ? lr_arena_alloc(a, n + 1) : NULL;
    if (p && n) memcpy(p, s, n);
    return p;
}

void lr_arena_free(lr_arena *a)
{
    for (struct lr_chunk *c = a->chunk, *older; c; c = older) {
        older = c->older;
        UNPOISON(c->begin, c->cap);
        lr_free(c);
    }
    *a = (lr_arena){0};
}

/* ---------------------------------------------------------------- views of bytes */
lr_str lr_str_of(const char *c) { return (lr_str){c, strlen(c)}; }
bool lr_str_eq(lr_str a, lr_str b) { return a.n == b.n && (!a.n || !memcmp(a.p, b.p, a.n)); }
bool lr_str_is(lr_str a, const char *c) { return lr_str_eq(a, lr_str_of(c)); }

int lr_str_cmp(lr_str a, lr_str b)
{
    size_t n = LR_MIN(a.n, b.n);
    int d = n ? memcmp(a.p, b.p, n) : 0;
    return d ? d : (a.n > b.n) - (a.n < b.n);
}

/* ---------------------------------------------------------------- hashing
 * Names come from files, so the hash is seeded per process: nobody can prepare a file whose names all collide. */
static uint64_t hash_seed(void)
{
    static _Atomic uint64_t seed;
    uint64_t s = atomic_load_explicit(&seed, memory_order_relaxed);
    if (s) return s;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t fresh = ((uint64_t)t.tv_nsec << 32 ^ (uint64_t)t.tv_sec ^ (uintptr_t)&t ^ (uintptr_t)&seed << 16) | 1;
    return atomic_compare_exchange_strong(&seed, &s, fresh) ? fresh : s;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 m = (unsigned __int128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

uint64_t lr_hash(const void *p, size_t n)
{
    const uint8_t *s = p;
    uint64_t h = hash_seed() ^ n, w;
    for (; n >= 8; s += 8, n -= 8) {
        memcpy(&w, s, 8);
        h = mix(h ^ w, 0x9e3779b97f4a7c15u);
    }
    w = 0;
    if (n) memcpy(&w, s, n);
    h = mix(h ^ w, 0xd6e8feb86659fd93u);
    return h ^ h >> 32;
}
