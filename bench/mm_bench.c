/* mm_bench.c - the matrix product alone, beside what the machine can do, measured in the same process.
 *
 *   mm_bench [--threads N] [--format NAME] [--tokens 1,8,512] [--rows R] [--cols C] [--mib M] [--rounds K] [--csv]
 *            [--best] [--hot] [--packed] [--skew N]
 *
 * Weights are M MiB of random bytes cut into matrices. A round takes some that no recent round has touched, so they come
 * from memory, and measures the limit right beside the kernel: plain reading by the same threads, and int8, bf16 or f32
 * operations. The table gives medians over the rounds of both, and their ratio. --best: the best rounds instead, for
 * a machine that others use too (rounds are a few milliseconds, so some go undisturbed). --hot: one matrix again and
 * again, so that one small enough stays in the caches: what the kernel would do if memory cost nothing. --packed: the bytes
 * are taken for packed ones (lr_kernels.repack), as they come. --skew: the first matrix lies N bytes past the beginning of a page. */
#include "mm.h"

#include <stdio.h>
#include <stdlib.h>

#define LR_FMT(name, id, block, bytes) LR_FMT_##name,
static const uint32_t formats[] = {
#include "formats.def"
};
#undef LR_FMT

enum { MAX_TOK = 2048, MAX_THREAD = 64, MAX_ROUND = 99 };

typedef struct job {
    const lr_kernels *k;
    lr_mat *mats;
    uint32_t n_mat, first, n_tok, grain; /* this round: n_mat matrices from `first` on */
    lr_actk kind;
    const void *const *x;
    float *const *y;
    uint8_t *scratch[MAX_THREAD];
    const uint8_t *mem;
    size_t n_mem, read_at, n_read;
    lr_pool *pool;
    volatile uint64_t keep;
} job;

/* Rows of each matrix in one contiguous part per thread; a barrier after each, as in a step of a model. */
static void multiply(void *ctx, int thread, int n_thread)
{
    job *j = ctx;
    for (uint32_t m = 0; m < j->n_mat; m++) {
        const lr_mat *w = &j->mats[j->first + m];
        uint32_t groups = (w->rows + 15) / 16;
        uint32_t r0 = 16 * (groups * (uint32_t)thread / (uint32_t)n_thread);
        uint32_t r1 = LR_MIN(16 * (groups * ((uint32_t)thread + 1) / (uint32_t)n_thread), w->rows);
        for (uint32_t r = r0; r < r1; r += j->grain)
            j->k->mm(w, j->kind, j->x, j->n_tok, r, LR_MIN(r + j->grain, r1), j->y, NULL, false, j->scratch[thread]);
        lr_pool_barrier(j->pool);
    }
}

static void read_all(void *ctx, int thread, int n_thread)
{
    job *j = ctx;
    size_t part = j->n_read / (size_t)n_thread / 4096 * 4096;
    uint64_t got = lr_cpu_read(j->mem + j->read_at + (size_t)thread * part, part);
    if (got == 12345) j->keep = got;
}

static double peak_rate[MAX_THREAD];
static larder_act peak_kind;
static void peak(void *ctx, int thread, int n_thread)
{
    (void)ctx, (void)n_thread;
    peak_rate[thread] = lr_cpu_peak(peak_kind);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static bool best, hot, packed;
/* Of rates: the median, or with --best the highest. */
static double typical(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    return v[best ? n - 1 : n / 2];
}

static double seconds_of(job *j, lr_task *task)
{
    uint64_t t = lr_now_ns();
    lr_pool_run(j->pool, task, j);
    return (double)(lr_now_ns() - t) * 1e-9;
}

static void *must(void *p)
{
    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return p;
}

static void bench(job *j, uint32_t fmt, uint32_t rows, uint32_t cols, int rounds, int n_thread, bool csv)
{
    const lr_fmt_info *f = lr_fmt_get(fmt);
    if (packed && (!j->k->pack_rows || !j->k->can_pack(fmt, cols))) return;
    size_t stride = (size_t)lr_fmt_row_bytes(fmt,
                                             cols); /* packed rows come in whole groups, the last one filled up */
    size_t per = stride * (packed ? LR_ALIGN_UP((size_t)rows, (size_t)j->k->pack_rows) : rows);
    if (!per || per > j->n_mem) return;
    size_t all = j->n_mem / per, n_mat = LR_MIN(all, 1 + (size_t)(48 << 20) / per);
    if (j->n_tok > 1) n_mat = 1;
    j->mats = must(malloc(all * sizeof *j->mats));
    j->n_mat = (uint32_t)n_mat;
    for (size_t m = 0; m < all; m++)
        j->mats[m] = (lr_mat){fmt,       rows,
                              cols,      j->mem + (hot ? 0 : m * per),
                              stride,    fmt == LR_FMT_MXFP4_PAIRS ? j->mem : NULL,
                              cols / 32, .packed = packed};
    j->kind = j->k->act_kind(fmt, LARDER_ACT_AUTO, cols);
    float *x = must(malloc(cols * sizeof *x));
    uint8_t *acts = must(lr_pages_alloc(j->n_tok * j->k->act_bytes(j->kind, cols)));
    const void *xs[MAX_TOK];
    for (uint32_t t = 0; t < j->n_tok; t++) {
        for (uint32_t i = 0; i < cols; i++) x[i] = (float)((i * 37 + t * 11) % 101) - 50;
        xs[t] = acts + t * j->k->act_bytes(j->kind, cols);
        j->k->act_pack(j->kind, x, cols, acts + t * j->k->act_bytes(j->kind, cols));
    }
    j->x = xs;
    double speed[MAX_ROUND], read[MAX_ROUND], ops[MAX_ROUND], top[MAX_ROUND];
    peak_kind = j->kind == LR_ACTK_I8 ? LARDER_ACT_I8 : j->kind == LR_ACTK_BF16 ? LARDER_ACT_BF16 : LARDER_ACT_F32;
    j->n_read = LR_MIN((size_t)48 << 20, j->n_mem);
    for (int i = 0; i < rounds; i++) {
        j->read_at = (size_t)(2 * i + 1) * j->n_read % (j->n_mem - j->n_read + 1) / 4096 * 4096;
        j->first = (uint32_t)((size_t)(2 * i) * n_mat % (all - n_mat + 1));
        double a = seconds_of(j, read_all), b = seconds_of(j, multiply);
        lr_pool_run(j->pool, peak, j);
        top[i] = 0;
        for (int t = 0; t < n_thread; t++) top[i] += peak_rate[t] * 1e-9;
        read[i] = (double)j->n_read / a * 1e-9;
        speed[i] = (double)(per * n_mat) / b * 1e-9;
        ops[i] = 2.0 * rows * cols * (double)n_mat * j->n_tok / b * 1e-9;
    }
    double s = typical(speed, rounds), r = typical(read, rounds), o = typical(ops, rounds), p = typical(top, rounds);
    printf(csv ? "%s,%d,%u,%u,%u,%.1f,%.1f,%.1f,%.0f,%.0f,%.1f\n"
               : "%-12s %2d thr %4u tok %6u x %-6u %6.1f of %5.1f GB/s %5.1f%%   %6.0f of %5.0f GOP/s %5.1f%%\n",
           f->name, n_thread, j->n_tok, rows, cols, s, r, 100 * s / r, o, p, 100 * o / p);
    fflush(stdout);
    lr_pages_free(acts, j->n_tok * j->k->act_bytes(j->kind, cols));
    free(x);
    free(j->mats);
}

int main(int argc, char **argv)
{
    static float *y[MAX_TOK];
    uint32_t rows = 5632, cols = 2048, toks[32] = {1, 2, 4, 8, 16, 32, 64, 512}, n_toks = 8, grain = 0;
    int threads = 0, rounds = 5;
    size_t mib = 640, skew = 0;
    const char *only = NULL;
    bool csv = false;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(a, "--csv")) {
            csv = true;
            continue;
        }
        if (!strcmp(a, "--best")) {
            best = true;
            continue;
        }
        if (!strcmp(a, "--packed")) {
            packed = true;
            continue;
        }
        if (!strcmp(a, "--hot")) {
            hot = true;
            continue;
        }
        i++;
        if (!strcmp(a, "--threads")) threads = atoi(v);
        else if (!strcmp(a, "--format")) only = v;
        else if (!strcmp(a, "--rows")) rows = (uint32_t)atoi(v);
        else if (!strcmp(a, "--cols")) cols = (uint32_t)atoi(v);
        else if (!strcmp(a, "--grain")) grain = (uint32_t)atoi(v);
        else if (!strcmp(a, "--skew")) skew = (size_t)LR_MAX(atoi(v), 0);
        else if (!strcmp(a, "--mib")) mib = (size_t)LR_MAX(atoi(v), 1);
        else if (!strcmp(a, "--rounds")) rounds = LR_MIN(atoi(v), (int)MAX_ROUND);
        else if (!strcmp(a, "--tokens")) {
            n_toks = 0;
            for (char *s = argv[i]; *s && n_toks < 32; s += *s == ',') toks[n_toks++] = (uint32_t)strtoul(s, &s, 10);
        } else {
            fprintf(stderr, "unknown option %s\n", a);
            return 2;
        }
    }
    lr_topology topo;
    lr_topology_get(&topo);
    larder_error err;
    lr_kernels kernels = {0};
    lr_mm_fill(&kernels, lr_cpu_isa());
    job j = {.k = &kernels};
    int from = threads ? threads : 1, to = threads ? threads : LR_MIN(topo.n_core, (int)MAX_THREAD);
    j.n_mem = mib << 20;
    uint8_t *mem = must(lr_pages_alloc(j.n_mem + skew));
    uint64_t s = 1;
    for (size_t i = 0; i + 8 <= j.n_mem + skew;
         i += 8) { /* bytes 0x30 to 0x3f: scales of every format are then ordinary numbers */
        s = s * 6364136223846793005u + 1442695040888963407u;
        uint64_t v = ((s ^ s >> 29) & 0x0f0f0f0f0f0f0f0fu) + 0x3030303030303030u;
        memcpy(mem + i, &v, 8);
    }
    j.mem = mem + skew;
    for (uint32_t t = 0; t < MAX_TOK; t++) y[t] = must(malloc(rows * sizeof(float)));
    j.y = y;
    if (csv) printf("format,threads,tokens,rows,cols,GB/s,read GB/s,read share,GOP/s,peak GOP/s,peak share\n");
    else printf("%s, %s\n", topo.cpu, j.k->name);
    for (int n = from; n <= to; n++) {
        if (lr_pool_new(n, true, &j.pool, &err)) {
            fprintf(stderr, "%s\n", err.message);
            return 1;
        }
        for (int t = 0; t < n; t++) j.scratch[t] = must(lr_pages_alloc(j.k->mm_scratch(MAX_TOK, cols)));
        for (size_t f = 0; f < LR_LEN(formats); f++) {
            if (only && strcmp(only, lr_fmt_get(formats[f])->name)) continue;
            for (uint32_t t = 0; t < n_toks; t++) {
                j.n_tok = LR_MIN(LR_MAX(toks[t], 1u), (uint32_t)MAX_TOK);
                j.grain = grain ? grain : 256;
                bench(&j, formats[f], rows, cols, rounds, n, csv);
            }
        }
        for (int t = 0; t < n; t++) lr_pages_free(j.scratch[t], j.k->mm_scratch(MAX_TOK, cols));
        lr_pool_free(j.pool);
    }
    return 0;
}
