/* test_large.c - more elements than 32 bits can count, and output buffers that began as garbage (G9).
 *
 * The matrices are mostly memory that was never touched, which reads as zeros and takes none.
 */
#include "cpu/cpu.h"
#include "quant.h"
#include "test.h"

#include <sys/mman.h>

#define COLS 4096u
#define ROWS 1048640u /* times COLS: 2^32 + 2^18 elements */
#define N_TAIL 48u
#define N_TOK 3u

typedef struct job {
    lr_mat w;
    uint8_t *data;
    size_t size;
    float tail[N_TAIL][COLS]; /* what the last rows hold, decoded */
    float x[N_TOK][COLS];
} job;

static void make_job(job *j, uint32_t fmt)
{
    float row[COLS];
    larder_error err;
    size_t stride = (size_t)lr_fmt_row_bytes(fmt, COLS);
    j->size = stride * ROWS;
    j->data = mmap(NULL, j->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (j->data == MAP_FAILED) SKIP("no %zu MiB of address space", j->size >> 20);
    j->w = (lr_mat){.fmt = fmt, .rows = ROWS, .cols = COLS, .data = j->data, .row_stride = stride};
    for (uint32_t r = 0; r < N_TAIL; r++) {
        uint8_t *at = j->data + (size_t)(ROWS - N_TAIL + r) * stride;
        for (uint32_t c = 0; c < COLS; c++) row[c] = test_uniform(-1, 1);
        CHECK_OK(lr_encode_row(fmt, row, at, COLS, NULL, &err));
        lr_decode_row(fmt, at, NULL, j->tail[r], COLS);
    }
    for (uint32_t t = 0; t < N_TOK; t++)
        for (uint32_t c = 0; c < COLS; c++) j->x[t][c] = test_uniform(-1, 1);
}

/* The last rows, into rows full of NaN; whatever was not asked for must stay as it was. */
static void check(const job *j, const lr_kernels *k, larder_act act)
{
    lr_actk kind = k->act_kind(j->w.fmt, act, COLS);
    size_t row = k->act_bytes(kind, COLS), scratch = k->mm_scratch(N_TOK, COLS);
    uint8_t *packed = aligned_alloc(64, row * N_TOK), *work = aligned_alloc(64, LR_ALIGN_UP(scratch, 64));
    float *y = malloc(sizeof *y * ROWS * N_TOK);
    const void *x[N_TOK];
    float *out[N_TOK];
    uint32_t r0 = ROWS - N_TAIL, before = r0 - 64;
    CHECK(packed && work && y);
    memset(packed, 0xff, row * N_TOK);
    memset(work, 0xff, scratch);
    for (uint32_t t = 0; t < N_TOK; t++) {
        k->act_pack(kind, j->x[t], COLS, packed + t * row);
        x[t] = packed + t * row;
        out[t] = y + (size_t)t * ROWS;
        memset(out[t] + before, 0xff, (ROWS - before) * sizeof *y);
    }
    k->mm(&j->w, kind, x, N_TOK, r0, ROWS, out, NULL, false, work);
    for (uint32_t t = 0; t < N_TOK; t++) {
        for (uint32_t r = before; r < r0; r++) CHECK(isnan(out[t][r]));
        for (uint32_t r = 0; r < N_TAIL; r++) {
            double sum = 0, size = 0;
            for (uint32_t c = 0; c < COLS; c++) {
                sum += (double)j->tail[r][c] * (double)j->x[t][c];
                size += fabs((double)j->tail[r][c] * (double)j->x[t][c]);
            }
            CHECK_NEAR(out[t][r0 + r], sum, 1e-3 * size);
        }
    }
    free(packed);
    free(work);
    free(y);
}

static void check_format(uint32_t fmt)
{
    static job j;
    make_job(&j, fmt);
    for (int isa = 0; isa < LR_ISA_COUNT; isa++) {
        const lr_kernels *k = lr_cpu_has_isa((lr_isa)isa) ? lr_kernels_get((lr_isa)isa) : NULL;
        if (!k) continue;
        check(&j, k, LARDER_ACT_AUTO);
        check(&j, k, LARDER_ACT_F32);
    }
    munmap(j.data, j.size);
}

TEST(q4_0) { check_format(LR_FMT_Q4_0); }
TEST(q8_0) { check_format(LR_FMT_Q8_0); }
TEST(q4_k) { check_format(LR_FMT_Q4_K); }
TEST(bf16) { check_format(LR_FMT_BF16); }
TEST(f32) { check_format(LR_FMT_F32); }
