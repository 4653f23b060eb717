/* mm_count.c - one matrix product of zeros, so that bench/instructions can count what it executes.
 *
 *   mm_count SET FORMAT TOKENS ROWS     ROWS x 1024 weights; SET: scalar, "AVX2", "NEON i8mm", ...
 *
 * Without arguments: the sets of this build and the formats with integer kernels, a line each. */
#include "mm.h"

#include <stdio.h>
#include <stdlib.h>

enum { COLS = 1024, MAX_TOK = 64 };

/* Zeros that cost no instructions, however many they are. */
static void *take(size_t n)
{
    static _Alignas(64) uint8_t memory[64 << 20];
    static size_t used;
    size_t at = used;
    used += LR_ALIGN_UP(n, 64);
    if (used > sizeof memory) exit(1);
    return memory + at;
}

static int list(void)
{
    for (uint32_t i = 0; i < lr_mm_n_sets; i++) printf("set %s\n", lr_mm_sets[i]->name);
#define X(fmt, kind) printf("format %s\n", lr_fmt_get(LR_FMT_##fmt)->name);
    LR_MM_FORMATS(X)
#undef X
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 1) return list();
    const lr_mm_set *set = NULL;
    for (uint32_t i = 0; argc == 5 && i < lr_mm_n_sets; i++)
        if (!strcmp(lr_mm_sets[i]->name, argv[1])) set = lr_mm_sets[i];
    const lr_fmt_info *f = argc == 5 ? lr_fmt_by_name(argv[2]) : NULL;
    if (!set || !f || !lr_mm_has_i8(f->id)) return fprintf(stderr, "usage: mm_count [SET FORMAT TOKENS ROWS]\n"), 2;
    uint32_t n_tok = LR_MIN((uint32_t)atoi(argv[3]), (uint32_t)MAX_TOK), rows = (uint32_t)atoi(argv[4]);
    lr_kernels k = {0}; /* tables, and the size of packed rows */
    lr_mm_fill(&k, LR_ISA_SCALAR);
    size_t stride = (size_t)lr_fmt_row_bytes(f->id, COLS), packed = k.act_bytes(LR_ACTK_I8, COLS);
    uint8_t *data = take((rows + 1) * stride), *aux = take((size_t)rows * COLS / 32), *acts = take(n_tok * packed);
    uint8_t *scratch = take(k.mm_scratch(n_tok, COLS));
    float *sums = take((size_t)n_tok * rows * sizeof *sums), *y[MAX_TOK];
    const void *x[MAX_TOK];
    for (uint32_t t = 0; t < n_tok; t++) {
        x[t] = acts + t * packed;
        y[t] = sums + (size_t)t * rows;
    }
    lr_mat w = {.fmt = f->id, .rows = rows, .cols = COLS, .data = data, .row_stride = stride};
    if (f->id == LR_FMT_MXFP4_PAIRS) w.aux = aux, w.aux_stride = COLS / 32;
    set->mm(&w, LR_ACTK_I8, x, n_tok, 0, rows, y, NULL, false, scratch);
    return 0;
}
