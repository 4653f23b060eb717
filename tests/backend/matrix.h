/* matrix.h - random matrices of every format, for the tests of products. */
#ifndef LR_TEST_MATRIX_H
#define LR_TEST_MATRIX_H

#include "mm.h"
#include "test.h"

#define LR_FMT(name, id, block, bytes) LR_FMT_##name,
__attribute__((unused)) static const uint32_t formats[] = {
#include "formats.def"
};
#undef LR_FMT

/* Where each format keeps f16 scales: random bytes there would be infinities. Offsets end with -1. */
static const struct {
    uint32_t fmt;
    int at[3];
} f16_at[] = {
    {LR_FMT_Q4_0, {0, -1}},    {LR_FMT_Q4_1, {0, 2, -1}},   {LR_FMT_Q5_0, {0, -1}},    {LR_FMT_Q5_1, {0, 2, -1}},
    {LR_FMT_Q8_0, {0, -1}},    {LR_FMT_Q2_K, {80, 82, -1}}, {LR_FMT_Q3_K, {108, -1}},  {LR_FMT_Q4_K, {0, 2, -1}},
    {LR_FMT_Q5_K, {0, 2, -1}}, {LR_FMT_Q6_K, {208, -1}},    {LR_FMT_IQ2_XXS, {0, -1}}, {LR_FMT_IQ4_NL, {0, -1}},
    {LR_FMT_IQ4_XS, {0, -1}},
};

static bool is_f8(uint32_t fmt) { return fmt == LR_FMT_F8_E4M3 || fmt == LR_FMT_F8_E4M3_B128; }

static void put16(uint8_t *p, uint16_t v) { memcpy(p, &v, 2); }

/* Now and then one of the two subnormal ones. */
static uint8_t random_e8m0(size_t i)
{
    return i % 9 == 8 ? (uint8_t)(i / 9 % 2) : (uint8_t)(110 + test_random() % 20);
}

typedef struct matrix {
    lr_mat w;
    uint8_t *mem, *aux_mem;
} matrix;

/* Every fourth time without scales; else one per row, one for all, or (128 columns) one for 128 rows, from some row of
 * a larger matrix on. */
static void add_f8_scales(matrix *m, uint32_t fmt, uint32_t rows, uint32_t cols)
{
    uint32_t per_line = fmt == LR_FMT_F8_E4M3 ? 1 : cols / 128, kind = (uint32_t)test_random() % 4;
    if (fmt == LR_FMT_F8_E4M3_B128) {
        m->w.aux_rows = 128;
        m->w.aux_first = 64 * ((uint32_t)test_random() % 3);
    } else if (!kind) {
        return;
    }
    m->w.aux_stride = kind == 1 && per_line == 1 && !m->w.aux_rows ? 0 : 4 * per_line;
    size_t lines = m->w.aux_rows ? (m->w.aux_first + rows + 127) / 128 : m->w.aux_stride ? rows : 1;
    m->aux_mem = malloc(4 * lines * per_line + 1);
    m->w.aux = m->aux_mem + 1; /* not aligned, as in a file */
    for (size_t i = 0; i < lines * per_line; i++) {
        float s = test_uniform(0.5f, 2) * (i % 3 ? 1e-3f : 0.1f);
        memcpy(m->aux_mem + 1 + 4 * i, &s, 4);
    }
}

/* Random bytes, at an odd address, rows with a gap between them that holds bytes nobody may use. */
__attribute__((unused)) static matrix random_matrix(uint32_t fmt, uint32_t rows, uint32_t cols)
{
    const lr_fmt_info *f = lr_fmt_get(fmt);
    size_t packed = (size_t)lr_fmt_row_bytes(fmt, cols), stride = packed + (test_random() % 2 ? 6 : 0);
    CHECK(packed > 0);
    matrix m = {.w = {.fmt = fmt, .rows = rows, .cols = cols, .row_stride = stride}};
    size_t n = (rows - 1) * stride + packed;
    m.mem = malloc(n + 1);
    m.w.data = m.mem + 1;
    for (size_t i = 0; i < n + 1; i++) m.mem[i] = (uint8_t)test_random();
    for (uint32_t r = 0; r < rows; r++) {
        uint8_t *row = m.mem + 1 + r * stride;
        for (size_t b = 0; b < packed / f->bytes; b++) {
            uint8_t *p = row + b * f->bytes;
            float v = test_uniform(-1, 1) * (b % 5 == 3 ? 1e-6f : 0.01f);
            if (b % 7 == 6) v = 0;
            for (size_t k = 0; k < LR_LEN(f16_at); k++)
                for (int i = 0; f16_at[k].fmt == fmt && f16_at[k].at[i] >= 0; i++)
                    put16(p + f16_at[k].at[i], lr_f32_to_f16(v * (float)(1 + i)));
            if (fmt == LR_FMT_F32) memcpy(p, &v, 4);
            if (fmt == LR_FMT_F16) put16(p, lr_f32_to_f16(v));
            if (fmt == LR_FMT_BF16) put16(p, lr_f32_to_bf16(v));
            if (fmt == LR_FMT_MXFP4) p[0] = random_e8m0(b);
        }
    }
    if (fmt == LR_FMT_MXFP4_PAIRS) {
        m.w.aux_stride = cols / 32 + 3;
        size_t n_aux = (rows - 1) * m.w.aux_stride + cols / 32;
        m.aux_mem = malloc(n_aux);
        for (size_t i = 0; i < n_aux; i++) m.aux_mem[i] = random_e8m0(i);
        m.w.aux = m.aux_mem;
    }
    if (is_f8(fmt)) {
        for (size_t i = 0; i < n + 1; i++) /* NaN is a test of its own */
            if ((m.mem[i] & 0x7f) == 0x7f) m.mem[i] ^= 1;
        add_f8_scales(&m, fmt, rows, cols);
    }
    return m;
}

__attribute__((unused)) static void free_matrix(matrix *m)
{
    free(m->mem);
    free(m->aux_mem);
}
#endif
