/* test_models.c - every architecture, from a folder of the hub to logits, against transformers' own.
 *
 * The arithmetic is tests/model/reference.h, in double, so what is tested is the program and the view of the file, not
 * a backend. The view, written as a GGUF would be, must give the same. Relative error is |a - b| / |b| over all positions. Data: ../shared/golden (random small models).
 */
#include "cases.h"
#include "load.h"
#include "model.h"
#include "model/reference.h"
#include "safet.h"
#include "test.h"

static double relative_error(const double *a, const float *b, uint64_t n)
{
    double diff = 0, norm = 0;
    for (uint64_t i = 0; i < n; i++) {
        diff += (a[i] - (double)b[i]) * (a[i] - (double)b[i]);
        norm += (double)b[i] * (double)b[i];
    }
    return sqrt(diff / norm);
}

/* The ids of tensor `ids` must give the logits of tensor `want`, in a session of n_ctx tokens. */
static void check_logits(const lr_model *m, const safet *golden, const char *ids_name, const char *want_name,
                         uint32_t n_ctx)
{
    larder_error err;
    lr_program p;
    uint64_t shape[8], n_ids, n;
    const int32_t *ids = safet_i32(golden, ids_name, shape, &n_ids);
    const float *want = safet_f32(golden, want_name, shape, &n);
    CHECK(ids && want);
    CHECK_EQ_U64(shape[0], n_ids);
    CHECK_OK(lr_model_program(m, n_ctx, &p, &err));
    CHECK_EQ_U64(shape[1], p.n_vocab);
    double *got = reference_run(&p, ids, (uint32_t)n_ids);
    double e = relative_error(got, want, n);
    printf("%s: %.2e\n", want_name, e);
    CHECK(e <= 1e-5);
    free(got);
    lr_program_free(&p);
}

/* Every greedy token follows from those before it, except where the two best logits nearly tie. */
static void check_greedy(const lr_model *m, const safet *golden)
{
    larder_error err;
    lr_program p;
    uint64_t n_ids, n_greedy;
    int32_t all[512];
    const int32_t *ids = safet_i32(golden, "b.ids", NULL, &n_ids),
                  *greedy = safet_i32(golden, "b.greedy", NULL, &n_greedy);
    const float *margin = safet_f32(golden, "b.greedy_margin", NULL, NULL);
    CHECK(ids && greedy && margin && n_ids + n_greedy <= LR_LEN(all));
    memcpy(all, ids, n_ids * sizeof *ids);
    memcpy(all + n_ids, greedy, n_greedy * sizeof *greedy);
    CHECK_OK(lr_model_program(m, (uint32_t)(n_ids + n_greedy), &p, &err));
    double *logits = reference_run(&p, all, (uint32_t)(n_ids + n_greedy));
    for (uint64_t i = 0; i < n_greedy; i++) {
        const double *row = logits + (n_ids + i - 1) * p.n_vocab;
        int32_t best = 0;
        for (uint32_t v = 1; v < p.n_vocab; v++) {
            if (row[v] > row[best]) best = (int32_t)v;
        }
        CHECK(best == greedy[i] || margin[i] < 0.01f);
    }
    free(logits);
    lr_program_free(&p);
}

/* The view as a GGUF would hold it, in float32: every tensor packed, and what lr_fix asks for done. */
static void turn_pairs(float *rows, uint64_t n_rows, uint64_t n_cols, uint64_t heads)
{
    uint64_t dim = n_rows / heads;
    float *was = malloc(n_rows * n_cols * sizeof *was);
    memcpy(was, rows, n_rows * n_cols * sizeof *was);
    for (uint64_t r = 0; r < n_rows; r++) {
        uint64_t i = r % dim, from = r - i + (i % 2 ? dim / 2 : 0) + i / 2;
        memcpy(rows + r * n_cols, was + from * n_cols, n_cols * sizeof *rows);
    }
    free(was);
}

static void pack(const lr_model *m, size_t i, lr_tensor *t)
{
    const lr_tensor *src = &m->view.tensors[i];
    uint64_t n = src->ne[0] * src->ne[1] * src->ne[2];
    float *data = malloc(n * sizeof *data);
    for (uint64_t r = 0; r < src->ne[1] * src->ne[2]; r++) {
        lr_tensor_row(src, r / src->ne[1], r % src->ne[1], data + r * src->ne[0]);
    }
    if (m->fix[i] == LR_FIX_ADD_ONE) {
        for (uint64_t j = 0; j < n; j++) data[j] += 1;
    }
    bool vector = src->n_dims == 1;
    if (m->fix[i] == LR_FIX_ROPE_PAIRS) {
        turn_pairs(data, vector ? src->ne[0] : src->ne[1], vector ? 1 : src->ne[0], m->fix_heads[i]);
    }
    *t = (lr_tensor){.name = src->name, .fmt = LR_FMT_F32, .n_dims = src->n_dims, .data = (const uint8_t *)data};
    memcpy(t->ne, src->ne, sizeof t->ne);
    t->row_stride = t->ne[0] * sizeof *data;
    t->mat_stride = t->row_stride * t->ne[1];
    t->n_bytes = n * sizeof *data;
}

static void gguf_of(const lr_model *m, lr_file *out)
{
    larder_error err;
    *out = (lr_file){.origin = LR_ORIGIN_GGUF, .path = "view", .kv = m->view.kv, .n_kv = m->view.n_kv};
    out->n_tensors = m->view.n_tensors;
    out->tensors = calloc(out->n_tensors, sizeof *out->tensors);
    for (size_t i = 0; i < out->n_tensors; i++) pack(m, i, &out->tensors[i]);
    CHECK_OK(lr_file_index(out, &err));
}

static void free_gguf(lr_file *f)
{
    for (size_t i = 0; i < f->n_tensors; i++) free((void *)(uintptr_t)f->tensors[i].data);
    free(f->tensors);
    lr_file_close(f);
}

static void open_both(const char *folder, lr_file *f, lr_model *m, safet *golden)
{
    larder_error err;
    char path[4200];
    snprintf(path, sizeof path, "%s", test_shared(folder));
    CHECK_OK(lr_load(path, f, &err));
    CHECK_OK(lr_model_open(f, m, &err));
    strcat(path, "/golden.safetensors");
    CHECK(safet_open(path, golden));
}

/* `long_enough`: its greedy tokens do not cross a border of the context where the rotation changes. */
static void check_case(const char *folder, bool long_enough)
{
    lr_file f;
    lr_model m;
    safet golden;
    open_both(folder, &f, &m, &golden);
    check_logits(&m, &golden, "a.ids", "a.logits", 80);
    check_logits(&m, &golden, "b.ids", "b.logits", 32);
    if (long_enough) check_greedy(&m, &golden);

    larder_error err;
    lr_file gguf;
    lr_model again;
    gguf_of(&m, &gguf);
    CHECK_OK(lr_model_open(&gguf, &again, &err));
    check_logits(&again, &golden, "a.ids", "a.logits", 80);
    check_logits(&again, &golden, "b.ids", "b.logits", 32);
    lr_model_close(&again);
    free_gguf(&gguf);
    safet_close(&golden);
    lr_model_close(&m);
    lr_file_close(&f);
}

#define CASE(name) \
    TEST(name) { check_case("golden/" #name, true); }
GOLDEN_CASES(CASE)
CASE(qwen3_fp8)

TEST(llama_dynamic) { check_case("golden/llama_dynamic", false); }
TEST(phi3_longrope) { check_case("golden/phi3_longrope", false); }

TEST(teller)
{
    lr_file f;
    lr_model m;
    safet golden;
    open_both("models/teller-18m", &f, &m, &golden);
    check_logits(&m, &golden, "ids", "logits", 1024);
    safet_close(&golden);
    lr_model_close(&m);
    lr_file_close(&f);
}
