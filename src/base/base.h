/* base.h - what every layer stands on: status, memory, strings, mapped files, threads, the machine.
 *
 * Owns: errors, allocation (with failure injection), arenas, growing buffers, mapped files, the thread pool,
 * cpu features, topology, clocks, logging. What differs between systems is in os_*.c and nowhere else.
 * Refuses to own: anything that knows what a model is, except file.h (what any model file says).
 */
#ifndef LR_BASE_H
#define LR_BASE_H

#include "larder.h"

#include <stdarg.h>
#include <string.h>

#define LR_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define LR_MIN(a, b) ((a) < (b) ? (a) : (b))
#define LR_MAX(a, b) ((a) > (b) ? (a) : (b))
#define LR_KIB ((uint64_t)1 << 10)
#define LR_MIB ((uint64_t)1 << 20)
#define LR_GIB ((uint64_t)1 << 30)
#define LR_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* ---------------------------------------------------------------- errors
 * A function that can fail returns a larder_status and fills `err` (NULL allowed). One way out: `goto fail`. */
larder_status lr_fail(larder_error *err, larder_status code, const char *fmt, ...) LR_PRINTF(3, 4);
/* As lr_fail, with ": " and strerror(errno_value) after the text. */
larder_status lr_fail_errno(larder_error *err, int errno_value, const char *fmt, ...) LR_PRINTF(3, 4);
/* Puts "prefix: " before the message already in err; returns err's code (or INTERNAL if err is NULL). */
larder_status lr_wrap(larder_error *err, larder_status code, const char *fmt, ...) LR_PRINTF(3, 4);
#define LR_TRY(expr) \
    do { \
        larder_status lr_try_ = (expr); \
        if (lr_try_) return lr_try_; \
    } while (0)
/* For functions with a `larder_status st` and a `fail:` label. */
#define LR_GO(expr) \
    do { \
        st = (expr); \
        if (st) goto fail; \
    } while (0)
#ifdef __clang_analyzer__ /* script/lint sees one file at a time: a failure is what it was called, never OK */
#define lr_fail(err, code, ...) ((lr_fail)(err, code, __VA_ARGS__), (code))
#endif
#define LR_NOMEM(err, what) lr_fail(err, LARDER_NOMEM, "out of memory for %s", what)

void lr_log(larder_log_level level, const char *fmt, ...) LR_PRINTF(2, 3);

/* ---------------------------------------------------------------- memory
 * All heap memory of larder comes from here, so that tests can make the Nth allocation fail and a debug build can
 * abort when a decode step allocates. NULL on failure. */
void *lr_alloc(size_t n);                   /* uninitialised */
void *lr_calloc(size_t count, size_t size); /* zeroed; NULL if the product overflows */
void *lr_realloc(void *p, size_t n);
void lr_free(void *p);
char *lr_strndup(const char *s, size_t n);
/* Tests: after n more allocations all fail (n < 0: none fails). */
void lr_alloc_fail_at(long n);
long lr_alloc_count(void);
/* Debug builds abort if this thread allocates between true and false (calls nest). */
void lr_no_alloc(bool on);

bool lr_mul_size(size_t a, size_t b, size_t *out); /* false if it overflows */
bool lr_add_size(size_t a, size_t b, size_t *out);
bool lr_mul_u64(uint64_t a, uint64_t b, uint64_t *out);
bool lr_add_u64(uint64_t a, uint64_t b, uint64_t *out);
#define LR_ALIGN_UP(x, a) (((x) + ((a)-1)) / (a) * (a))

/* Zeroed pages straight from the system, 2 MiB aligned when large; resident only once touched. */
void *lr_pages_alloc(size_t n);
/* Brings pages of it into memory that nothing was written to yet. */
void lr_pages_take(void *p, size_t n);
void lr_pages_free(void *p, size_t n);

/* Memory that is released all at once. Chunks come from lr_alloc; alignment 64. */
typedef struct lr_arena {
    struct lr_chunk *chunk;
    size_t n_bytes; /* handed out so far */
} lr_arena;
void *lr_arena_alloc(lr_arena *a, size_t n); /* zeroed; NULL on failure */
void *lr_arena_array(lr_arena *a, size_t count, size_t size);
char *lr_arena_strndup(lr_arena *a, const char *s, size_t n);
void lr_arena_free(lr_arena *a);

/* A view of bytes, not owned, not NUL-terminated. */
typedef struct lr_str {
    const char *p;
    size_t n;
} lr_str;
#define LR_STR(lit) ((lr_str){(lit), sizeof(lit) - 1})
#define LR_STR_ARG(s) (int)LR_MIN((s).n, (size_t)256), (s).p /* for "%.*s", cut for messages */
lr_str lr_str_of(const char *c);
bool lr_str_eq(lr_str a, lr_str b);
bool lr_str_is(lr_str a, const char *c);
int lr_str_cmp(lr_str a, lr_str b);
uint64_t lr_hash(const void *p, size_t n); /* 64-bit, for tables only, not for trust */

/* Growing bytes; on failure `failed` sticks and the contents stay valid. Zero-initialise to start. */
typedef struct lr_buf {
    char *p;
    size_t n, cap;
    bool failed;
} lr_buf;
bool lr_buf_reserve(lr_buf *b, size_t extra);
void lr_buf_add(lr_buf *b, const void *p, size_t n);
void lr_buf_puts(lr_buf *b, const char *s);
void lr_buf_putc(lr_buf *b, char c);
void lr_buf_base64(lr_buf *b, const void *p, size_t n); /* n bytes as RFC 4648 has it, with padding */
void lr_buf_printf(lr_buf *b, const char *fmt, ...) LR_PRINTF(2, 3);
char *lr_buf_steal(lr_buf *b); /* the bytes with a NUL after them, now the caller's (lr_free); NULL if failed */
void lr_buf_free(lr_buf *b);

/* ---------------------------------------------------------------- files (os_posix.c)
 * A file mapped read-only. If it shrinks while mapped, reads past its new end give zeros instead of a crash, and
 * lr_map_damaged says so: check it after using the data. */
typedef struct lr_map {
    const uint8_t *p;
    size_t n;
    int slot; /* in the table of the SIGBUS guard */
} lr_map;
larder_status lr_map_open(const char *path, lr_map *out, larder_error *err); /* refuses what is not a regular file */
void lr_map_close(lr_map *m);
bool lr_map_damaged(const lr_map *m);
/* Copies n bytes of an open map out of its file, so that none of its pages come into this process; zeros for what the file
 * has lost since. false: these bytes are in no map, and nothing was done. */
bool lr_map_read(const void *p, size_t n, void *out);
/* map_ahead.c: what is not in memory yet is read ahead of its use by a thread of its own, in this order, `most` bytes at
 * most. *out is NULL where nothing is to be done: most of it is in memory. `fn` (NULL: nobody) is told by that thread
 * several times a second, and last with n_done = n_all; it is over when wait or stop return. */
typedef struct lr_ahead_part {
    const uint8_t *p;
    uint64_t n;
} lr_ahead_part;
typedef struct lr_ahead lr_ahead;
typedef void lr_ahead_fn(void *user, uint64_t n_done, uint64_t n_all, double rate);
larder_status lr_ahead_start(const lr_ahead_part *parts, size_t n, uint64_t most, lr_ahead_fn *fn, void *user,
                             lr_ahead **out, larder_error *err);
bool lr_ahead_over(const lr_ahead *a); /* for who has other things to look at while it waits; a NULL is over */
void lr_ahead_wait(lr_ahead *a);
void lr_ahead_stop(lr_ahead *a); /* a NULL is none; takes a few milliseconds of the disk's */
/* Reads a whole regular file of at most `max` bytes; *out ends in NUL; lr_free. */
larder_status lr_read_file(const char *path, size_t max, char **out, size_t *n, larder_error *err);
/* out.c: a file that is to take the place of another, whole or not at all: written under a name beside it that nobody
 * has, with the permissions that the process gives new files; synced and renamed at commit. `path` is the place, links
 * followed. LARDER_USAGE if a folder, a device or a pipe is there: to rename over one would take it away. */
typedef struct lr_out_file {
    char *path, *temp;
    int fd;
    char *buf; /* small writes are gathered here */
    size_t n_buf;
} lr_out_file;
larder_status lr_out_open(lr_out_file *o, const char *path, larder_error *err);
larder_status lr_out_write(lr_out_file *o, const void *p, size_t n, larder_error *err);
larder_status lr_out_commit(lr_out_file *o, larder_error *err);
void lr_out_close(lr_out_file *o); /* removes what was not committed */
/* The same at once. */
larder_status lr_write_file(const char *path, const void *p, size_t n, larder_error *err);
bool lr_is_dir(const char *path);
bool lr_is_file(const char *path);
/* XDG folders of larder, created when asked for: kind "data", "cache", "config" or "state". */
larder_status lr_user_dir(const char *kind, char *out, size_t cap, larder_error *err);

/* ---------------------------------------------------------------- numbers as text
 * The program around us may have set a locale that writes 0,5. Between enter and leave this thread's strtod and printf
 * use a point; lr_strtod always does. */
void *lr_point_enter(void);
void lr_point_leave(void *from_enter);
double lr_strtod(const char *text, char **end);

/* ---------------------------------------------------------------- clock, machine */
uint64_t lr_now_ns(void);   /* monotonic */
uint64_t lr_rss_peak(void); /* bytes; peak resident of this process */
uint64_t lr_rss_now(void);
uint64_t lr_rss_anon(void);                    /* resident bytes that are not file pages */
uint64_t lr_resident(const void *p, size_t n); /* of these pages, the bytes this process has in memory now */
uint64_t lr_mem_total(void);     /* what this process may use: the machine's, or its cgroup's limit if lower */
uint64_t lr_mem_available(void); /* now, the same way */
/* Whether a display controller of this maker (its PCI number) is in the machine, with a driver or without; false where it
 * cannot be told. */
bool lr_has_display(unsigned vendor);

/* Instruction sets the kernels come in. Each includes the ones before it on its kind of machine. */
typedef enum lr_isa { LR_ISA_SCALAR, LR_ISA_AVX2, LR_ISA_AVX512, LR_ISA_NEON, LR_ISA_COUNT } lr_isa;
enum {
    LR_CPU_AVX2 = 1 << 0, /* with FMA and F16C */
    LR_CPU_AVXVNNI = 1 << 1,
    LR_CPU_AVX512 = 1 << 2, /* F, BW, DQ, VL */
    LR_CPU_AVX512VNNI = 1 << 3,
    LR_CPU_AVX512BF16 = 1 << 4,
    LR_CPU_AVX512VBMI = 1 << 5, /* with BITALG and GFNI: from Ice Lake and Zen 4 on */
    LR_CPU_NEON = 1 << 8,
    LR_CPU_DOTPROD = 1 << 9,
    LR_CPU_I8MM = 1 << 10,
    LR_CPU_NEONBF16 = 1 << 11,
};
uint32_t lr_cpu_features(void);
/* The best set this machine has (AVX512 needs VNNI too), or the one LARDER_ISA=scalar|avx2|avx512|neon names if it has it. */
lr_isa lr_cpu_isa(void);
bool lr_cpu_has_isa(lr_isa isa);
const char *lr_isa_name(lr_isa isa);

typedef struct lr_topology {
    char cpu[96];
    int n_core;      /* real cores this process may use */
    int n_thread;    /* hardware threads it may use */
    int n_core_perf; /* of n_core, those of the fastest kind */
    int n_numa;
    uint64_t l1d, l2, l3; /* bytes: per core, per core, in all */
    int core_cpu[256];    /* one cpu number per real core, fastest kind first, and of a kind node by node */
    int core_node[256];   /* the memory node of each, counted from 0 */
} lr_topology;
void lr_topology_get(lr_topology *out); /* measured once, cached */
/* Another machine's: a file of hwloc's XML, or its synthetic words ("numanode:2 core:4 pu:2"). false: it cannot be had. */
bool lr_topology_read(const char *from, lr_topology *out);

/* ---------------------------------------------------------------- threads (pool.c)
 * n threads, the caller among them. Waiting threads spin briefly, then sleep. */
typedef struct lr_pool lr_pool;
typedef void lr_task(void *ctx, int thread, int n_thread);
larder_status lr_pool_new(int n_thread, bool pin, lr_pool **out, larder_error *err);
void lr_pool_free(lr_pool *p);
int lr_pool_size(const lr_pool *p);
/* Runs task once on every thread; returns when all have. */
void lr_pool_run(lr_pool *p, lr_task *task, void *ctx);
/* Inside a task: waits for all threads of the pool. Writes before it are seen by all after it. */
void lr_pool_barrier(lr_pool *p);
/* Inside a task: dynamic dealing. lr_pool_next hands out [begin, begin + grain) of [0, n) until none is left.
 * Counter `slot` (0..3) starts at 0 in each run; lr_pool_reset begins it anew, between two barriers. */
bool lr_pool_next(lr_pool *p, int slot, uint64_t n, uint64_t grain, uint64_t *begin, uint64_t *end);
void lr_pool_reset(lr_pool *p, int slot); /* one thread, between barriers */

#endif
