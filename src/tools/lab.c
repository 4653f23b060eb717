/* lab.c - the exercises with which people prove a box: a vector add against the memory's speed, a decode run against its
 * ceiling, and what other software is there. */
#include "base.h"
#include "larder_tools.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define N_ADD 10000000u
#define N_ROUND 100

typedef struct adder {
    const float *a, *b;
    float *c;
} adder;

/* c = a + b over one thread's share. Reads 8 bytes and writes 4 for each. */
static void add_part(void *ctx, int thread, int n_thread)
{
    const adder *v = ctx;
    size_t part = (N_ADD + (size_t)n_thread - 1) / (size_t)n_thread, from = part * (size_t)thread,
           to = LR_MIN(from + part, (size_t)N_ADD);
    for (size_t i = from; i < to; i++) v->c[i] = v->a[i] + v->b[i];
}

static void fill_part(void *ctx, int thread, int n_thread)
{
    const adder *v = ctx;
    size_t part = (N_ADD + (size_t)n_thread - 1) / (size_t)n_thread, from = part * (size_t)thread,
           to = LR_MIN(from + part, (size_t)N_ADD);
    for (size_t i = from; i < to; i++) {
        ((float *)(uintptr_t)v->a)[i] = (float)(i % 1000);
        ((float *)(uintptr_t)v->b)[i] = (float)(i % 777);
        v->c[i] = 0;
    }
}

static larder_status vector_add(uint32_t n_thread, larder_lab *out, larder_error *err)
{
    lr_pool *pool = NULL;
    float *all = lr_pages_alloc(3 * (size_t)N_ADD * sizeof *all);
    larder_status st;
    if (!all) return LR_NOMEM(err, "the vectors");
    adder v = {all, all + N_ADD, all + 2 * (size_t)N_ADD};
    LR_GO(lr_pool_new((int)n_thread, true, &pool, err));
    lr_pool_run(pool, fill_part, &v);
    uint64_t t0 = lr_now_ns();
    for (int i = 0; i < N_ROUND; i++) lr_pool_run(pool, add_part, &v);
    double s = (double)(lr_now_ns() - t0) * 1e-9;
    out->add_gbs = 12.0 * N_ADD * N_ROUND / s * 1e-9;
    for (size_t i = 0; i < N_ADD; i += 99991)
        if (v.c[i] < v.a[i] || v.c[i] > v.a[i] + v.b[i])
            LR_GO(lr_fail(err, LARDER_INTERNAL, "the sum is wrong at %zu", i));
fail:
    lr_pool_free(pool);
    lr_pages_free(all, 3 * (size_t)N_ADD * sizeof *all);
    return st;
}

/* In the folders of PATH; nothing is started. */
static bool in_path(const char *name)
{
    const char *path = getenv("PATH");
    char file[4200];
    for (; path && *path; path += strspn(path, ":")) {
        size_t n = strcspn(path, ":");
        if (n < 4000) {
            (void)snprintf(file, sizeof file, "%.*s/%s", (int)n, path, name);
            if (!access(file, X_OK)) return true;
        }
        path += n;
    }
    return false;
}

static void find_software(larder_lab *out)
{
    static const char *const names[] = {"llama-server", "llama-cli", "llama-bench",     "ollama",      "lms",
                                        "vllm",         "sglang",    "mlx_lm.generate", "whisper-cli", "nvidia-smi",
                                        "nvcc",         "rocminfo",  "vulkaninfo",      "mpirun",      "docker",
                                        "podman",       "python3"};
    size_t at = 0;
    for (size_t i = 0; i < LR_LEN(names); i++) {
        if (!in_path(names[i])) continue;
        int n = snprintf(out->software + at, sizeof out->software - at, "%s%s", at ? ", " : "", names[i]);
        if (n < 0 || (size_t)n >= sizeof out->software - at) break;
        at += (size_t)n;
    }
}

larder_status larder_lab_run(larder_model *model, larder_lab *out, larder_progress_fn *progress, void *user,
                             larder_error *err)
{
    larder_probe p;
    *out = (larder_lab){0};
    LR_TRY(larder_probe_machine(false, &p, progress, user, err));
    for (uint32_t i = 0; i < p.n_measured; i++) out->read_gbs = LR_MAX(out->read_gbs, p.read_gbs[i]);
    LR_TRY(vector_add(LR_MAX(p.n_core, 1u), out, err));
    find_software(out);
    if (!model) return LARDER_OK;
    larder_bench_result r;
    uint32_t depth = 0;
    larder_bench_options o = {
        .engine = larder_engine_defaults(), .n_gen = 32, .depth = &depth, .n_depth = 1, .repeat = 3};
    o.engine.n_ctx = 1024;
    LR_TRY(larder_bench(model, &o, &r, progress, user, err));
    for (size_t i = 0; i < r.n_rows; i++) {
        if (strncmp(r.rows[i].test, "tg", 2) || !(r.rows[i].gbs > 0)) continue;
        out->decode_tok_s = r.rows[i].tok_s;
        out->decode_ceiling = r.rows[i].tok_s * out->read_gbs / r.rows[i].gbs;
    }
    larder_bench_free(&r);
    return LARDER_OK;
}
