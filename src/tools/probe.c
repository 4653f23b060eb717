/* probe.c - measuring this machine once: how fast its memory reads, its cores multiply, its disk delivers.
 *
 * The result is kept in the cache folder as JSON, with a fingerprint of what it was measured on; another machine,
 * another limit of cores or another larder measures anew. */
#include "backend.h"
#include "kernels.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 7
#define MAX_BUFFER (512 * LR_MIB)

typedef struct reader {
    const uint8_t *p;
    size_t n;              /* of all threads together */
    _Atomic uint64_t keep; /* so that nothing read is optimised away */
} reader;

static void fill_part(void *ctx, int thread, int n_thread)
{
    reader *r = ctx;
    size_t from = r->n / (size_t)n_thread * (size_t)thread;
    memset((uint8_t *)(uintptr_t)r->p + from, thread + 1, r->n / (size_t)n_thread);
}

static void read_part(void *ctx, int thread, int n_thread)
{
    reader *r = ctx;
    size_t part = r->n / (size_t)n_thread / 4096 * 4096;
    atomic_store_explicit(&r->keep, lr_cpu_read(r->p + part * (size_t)thread, part), memory_order_relaxed);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median over rounds of n bytes read by `threads` threads: bytes a second. */
static larder_status read_rate(reader *r, uint32_t threads, double *out, larder_error *err)
{
    lr_pool *pool;
    double rate[ROUNDS];
    LR_TRY(lr_pool_new((int)threads, true, &pool, err));
    for (int i = -1; i < ROUNDS; i++) {
        uint64_t t0 = lr_now_ns();
        lr_pool_run(pool, read_part, r);
        double s = (double)(lr_now_ns() - t0) * 1e-9;
        size_t n_read = r->n / threads / 4096 * 4096 * threads;
        if (i >= 0) rate[i] = (double)n_read / s;
    }
    lr_pool_free(pool);
    qsort(rate, ROUNDS, sizeof *rate, by_value);
    *out = rate[ROUNDS / 2];
    return LARDER_OK;
}

/* A file of our own in the cache folder, written past the page cache's memory of it, then read back. It has no name for
 * longer than it takes to open it, so that nothing stays behind. *stopped: the caller did not want to go on. */
static double disk_rate(const char *folder, larder_progress_fn *progress, void *user, bool *stopped)
{
    char path[4200];
    size_t block = 4 * LR_MIB, n = 32;
    double rate = 0;
    snprintf(path, sizeof path, "%s/probe.XXXXXX", folder);
    int fd = mkstemp(path);
    if (fd >= 0) unlink(path);
    uint8_t *p = lr_pages_alloc(block);
    bool ok = fd >= 0 && p;
    for (size_t i = 0; ok && i < block; i++) p[i] = (uint8_t)(i * 2654435761u >> 13);
    for (size_t i = 0; ok && i < n; i++) {
        memcpy(p, &i, sizeof i);
        ok = write(fd, p, block) == (ssize_t)block;
        larder_progress at = {"disk", i, n, 0, -1};
        if (progress && !progress(user, &at)) ok = !(*stopped = true);
    }
    ok = ok && !fsync(fd);
#ifdef POSIX_FADV_DONTNEED
    ok = ok && !posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    if (ok && lseek(fd, 0, SEEK_SET) == 0) {
        uint64_t t0 = lr_now_ns();
        size_t got = 0;
        for (ssize_t k; (k = read(fd, p, block)) > 0;) got += (size_t)k;
        if (got == n * block) rate = (double)got / ((double)(lr_now_ns() - t0) * 1e-9);
    }
#endif
    if (fd >= 0) close(fd);
    if (p) lr_pages_free(p, block);
    return rate;
}

void lr_probe_mark(char out[256])
{
    lr_topology t;
    lr_topology_get(&t);
    snprintf(out, 256, "%s/%s/%d/%d/%s/4", t.cpu, lr_isa_name(lr_cpu_isa()), t.n_core, t.n_thread, larder_version());
}

static void describe(larder_probe *p)
{
    lr_topology t;
    lr_topology_get(&t);
    snprintf(p->cpu, sizeof p->cpu, "%s", t.cpu);
    snprintf(p->isa, sizeof p->isa, "%s", lr_isa_name(lr_cpu_isa()));
    p->n_core = (uint32_t)t.n_core;
    p->n_thread = (uint32_t)t.n_thread;
    p->n_numa = (uint32_t)t.n_numa;
    p->memory = lr_mem_total();
    p->l1d = t.l1d;
    p->l2 = t.l2;
    p->l3 = t.l3;
}

/* 1, 2, 4, ... cores, and all of them. */
static void thread_counts(larder_probe *p)
{
    for (uint32_t n = 1; n < p->n_core && p->n_measured < LR_LEN(p->n_threads) - 1; n *= 2)
        p->n_threads[p->n_measured++] = n;
    p->n_threads[p->n_measured++] = LR_MAX(p->n_core, 1u);
}

static larder_status measure(larder_probe *p, const char *folder, larder_progress_fn *progress, void *user,
                             larder_error *err)
{
    reader r = {.n = (size_t)LR_MIN(MAX_BUFFER, lr_mem_available() / 4) / (64 * 1024) * (64 * 1024)};
    larder_status st = LARDER_OK;
    bool stopped = false;
    r.n = LR_MAX(r.n, (size_t)(16 * LR_MIB));
    r.p = lr_pages_alloc(r.n);
    if (!r.p) return LR_NOMEM(err, "the buffer to read");
    thread_counts(p);
    fill_part(&r, 0, 1);
    for (uint32_t i = 0; i < p->n_measured; i++) {
        larder_progress at = {"memory", i, p->n_measured + 4, 0, -1};
        if (progress && !progress(user, &at)) LR_GO(lr_fail(err, LARDER_CANCELLED, "interrupted"));
        LR_GO(read_rate(&r, p->n_threads[i], &p->read_gbs[i], err));
        p->read_gbs[i] *= 1e-9;
    }
    p->int8_gops = lr_cpu_peak(LARDER_ACT_I8) * 1e-9;
    p->bf16_gflops = lr_cpu_peak(LARDER_ACT_BF16) * 1e-9;
    p->f32_gflops = lr_cpu_peak(LARDER_ACT_F32) * 1e-9;
    if (folder) p->disk_gbs = disk_rate(folder, progress, user, &stopped) * 1e-9;
    if (stopped) LR_GO(lr_fail(err, LARDER_CANCELLED, "interrupted"));
    p->when = (int64_t)time(NULL);
fail:
    lr_pages_free((void *)(uintptr_t)r.p, r.n);
    return st;
}

/* ---------------------------------------------------------------- kept */
static larder_status save(const larder_probe *p, const char *path, larder_error *err)
{
    char mark[256];
    lr_probe_mark(mark);
    json_t *reads = json_array();
    for (uint32_t i = 0; i < p->n_measured; i++)
        json_array_append_new(reads, json_pack("[i,f]", (int)p->n_threads[i], p->read_gbs[i]));
    json_t *o = json_pack("{s:s,s:o,s:f,s:f,s:f,s:f,s:I}", "machine", mark, "read_gbs", reads, "int8_gops",
                          p->int8_gops, "bf16_gflops", p->bf16_gflops, "f32_gflops", p->f32_gflops, "disk_gbs",
                          p->disk_gbs, "when", (json_int_t)p->when);
    char *text = json_dumps(o, JSON_INDENT(2));
    larder_status st = text ? lr_write_file(path, text, strlen(text), err) : LR_NOMEM(err, "the measurements");
    free(text);
    json_decref(o);
    return st;
}

static bool positive(const json_t *o, const char *key, double *out)
{
    json_t *v = json_object_get(o, key);
    *out = json_number_value(v);
    return json_is_number(v) && *out >= 0 && isfinite(*out);
}

static bool restore(larder_probe *p, const char *path)
{
    char mark[256], *text;
    size_t n, i;
    json_t *pair;
    larder_error quiet;
    if (lr_read_file(path, 1 << 16, &text, &n, &quiet)) return false;
    json_t *o = json_loadb(text, n, 0, NULL);
    lr_free(text);
    lr_probe_mark(mark);
    const char *same = json_string_value(json_object_get(o, "machine"));
    bool ok = same && !strcmp(same, mark) && positive(o, "int8_gops", &p->int8_gops) &&
              positive(o, "bf16_gflops", &p->bf16_gflops) && positive(o, "f32_gflops", &p->f32_gflops) &&
              positive(o, "disk_gbs", &p->disk_gbs);
    json_array_foreach(json_object_get(o, "read_gbs"), i, pair)
    {
        double threads = json_number_value(json_array_get(pair, 0)), gbs = json_number_value(json_array_get(pair, 1));
        if (i >= LR_LEN(p->n_threads) || !(threads >= 1 && threads <= 65536 && gbs > 0 && gbs < 1e6)) ok = false;
        if (!ok) break;
        p->n_threads[i] = (uint32_t)threads;
        p->read_gbs[i] = gbs;
        p->n_measured++;
    }
    p->when = (int64_t)json_integer_value(json_object_get(o, "when"));
    json_decref(o);
    return ok && p->n_measured;
}

bool lr_probe_kept(larder_probe *out)
{
    char folder[4096], path[4200];
    *out = (larder_probe){0};
    describe(out);
    if (lr_user_dir("cache", folder, sizeof folder, NULL)) return false;
    (void)snprintf(path, sizeof path, "%s/probe.json", folder);
    return restore(out, path);
}

/* Operations a cycle of a core with such instructions, at 3 GHz. */
static void guess_arithmetic(larder_probe *p)
{
    static const struct {
        double f32, bf16, int8;
    } cores[LR_ISA_COUNT] = {[LR_ISA_SCALAR] = {4, 0, 8},
                             [LR_ISA_AVX2] = {32, 0, 64},
                             [LR_ISA_AVX512] = {64, 0, 256},
                             [LR_ISA_NEON] = {32, 0, 128}};
    lr_isa isa = lr_cpu_isa();
    p->f32_gflops = 3 * cores[isa].f32;
    p->int8_gops = 3 * cores[isa].int8;
    if (lr_cpu_features() & (LR_CPU_AVX512BF16 | LR_CPU_NEONBF16)) p->bf16_gflops = 2 * p->f32_gflops;
}

static void put_out_part(void *ctx, int thread, int n_thread)
{
    reader *r = ctx;
    size_t part = r->n / (size_t)n_thread / 4096 * 4096;
    if (!lr_cpu_put_out(r->p + part * (size_t)thread, part)) atomic_store(&r->keep, 1);
}

/* What some milliseconds tell, the median of GLANCES: n bytes read, put out of the caches before if `put_out`. 0: nothing. */
static double glance(size_t n, bool put_out, uint32_t threads)
{
    enum { GLANCES = 5 };
    lr_pool *pool;
    reader r = {.n = n};
    uint8_t *buffer = lr_pages_alloc(r.n);
    double rate[GLANCES];
    int k = 0;
    r.p = buffer;
    if (!buffer || lr_pool_new((int)threads, true, &pool, NULL)) {
        lr_pages_free(buffer, r.n);
        return 0;
    }
    lr_pool_run(pool, fill_part, &r);
    for (; k < GLANCES; k++) {
        atomic_store(&r.keep, 0);
        if (put_out) lr_pool_run(pool, put_out_part, &r);
        if (put_out && atomic_load(&r.keep)) break; /* it cannot be told from the caches' speed */
        uint64_t t0 = lr_now_ns();
        lr_pool_run(pool, read_part, &r);
        rate[k] = (double)r.n / (double)LR_MAX(lr_now_ns() - t0, 1u);
    }
    lr_pool_free(pool);
    lr_pages_free(buffer, r.n);
    if (k < GLANCES) return 0;
    qsort(rate, GLANCES, sizeof *rate, by_value);
    return rate[GLANCES / 2];
}

/* Little is read, if it can be put out of the caches, however large those are; else more than they hold. */
static double glimpse(const larder_probe *p, uint32_t threads)
{
    double rate = glance((size_t)LR_MIN(LR_MAX(threads, 4u), 64u) * LR_MIB, true, threads);
    size_t beyond = (size_t)LR_MAX(2 * p->l3, 32 * LR_MIB);
    if (rate > 0 || beyond > 192 * LR_MIB) return rate; /* reading past such a cache would take long */
    return glance(beyond, false, threads);
}

void lr_probe_guess(larder_probe *p)
{
    *p = (larder_probe){0};
    describe(p);
    p->n_measured = 1;
    p->n_threads[0] = LR_MAX(p->n_core, 1u);
    p->read_gbs[0] = glimpse(p, p->n_threads[0]);
    if (!(p->read_gbs[0] > 0)) p->read_gbs[0] = LR_MIN(5.0 * p->n_threads[0], 200.0);
    guess_arithmetic(p);
}

larder_status larder_probe_machine(bool fresh, larder_probe *out, larder_progress_fn *progress, void *user,
                                   larder_error *err)
{
    char folder[4096], path[4200];
    *out = (larder_probe){0};
    describe(out);
    /* without a folder of the user's own nothing is kept, nor the disk measured: /tmp is anybody's */
    bool has_folder = lr_user_dir("cache", folder, sizeof folder, NULL) == LARDER_OK;
    if (has_folder) snprintf(path, sizeof path, "%s/probe.json", folder);
    if (has_folder && !fresh && restore(out, path)) return LARDER_OK;
    *out = (larder_probe){0};
    describe(out);
    LR_TRY(measure(out, has_folder ? folder : NULL, progress, user, err));
    if (has_folder && save(out, path, err))
        lr_log(LARDER_LOG_WARN, "the measurements could not be kept: %s", err ? err->message : path);
    return LARDER_OK;
}

double larder_probe_bandwidth(const larder_probe *p, uint32_t n_threads)
{
    double best = p->n_measured ? p->read_gbs[0] : 0;
    for (uint32_t i = 0; i < p->n_measured; i++)
        if (p->n_threads[i] <= n_threads) best = p->read_gbs[i];
    return best * 1e9;
}
