/* test_mm.c - every format on every instruction set this machine has, against the plain C transcription of the
 * arithmetic, bit for bit; and that transcription against the decoded weights in double precision. */
#include "matrix.h"

enum { CANARY = 0x7fc0beef, MAX_TOK = 90 };

static float *random_acts(uint32_t n)
{
    float *x = malloc(n * sizeof *x);
    for (uint32_t i = 0; i < n; i++)
        x[i] = test_uniform(-2, 2) * (i / 32 % 6 == 5 ? 0 : 1) * (i % 61 == 7 ? 20.0f : 1.0f);
    return x;
}

static size_t acts_bytes(lr_actk kind, uint32_t n)
{
    lr_kernels k;
    lr_mm_fill(&k, LR_ISA_SCALAR);
    return k.act_bytes(kind, n);
}

static void *packed(const lr_mm_set *s, lr_actk kind, const float *x, uint32_t n)
{
    void *p = aligned_alloc(64, acts_bytes(kind, n));
    memset(p, 0xa5, acts_bytes(kind, n));
    s->pack(kind, x, n, p);
    return p;
}

static bool usable(const lr_mm_set *s) { return !(s->features & ~lr_cpu_features()); }
static bool bf16_usable(const lr_mm_set *s) { return s->bf16 && usable(s); }
static void need_bf16(void)
{
    for (uint32_t s = 0; s < lr_mm_n_sets; s++)
        if (bf16_usable(lr_mm_sets[s])) return;
    SKIP("this machine has no bf16 products");
}

/* The same matrix as a set's packed products read it, at a line's beginning; .data is the caller's to free. */
static lr_mat repacked(const lr_mm_set *s, const lr_mat *w)
{
    uint32_t v = s->pack_rows;
    size_t row = (size_t)lr_fmt_row_bytes(w->fmt, w->cols), group = row * v, n = (w->rows + v - 1) / v * group;
    uint8_t *p = aligned_alloc(64, LR_ALIGN_UP(n, 64));
    for (uint32_t r = 0; r < w->rows; r += v)
        lr_mm_pack(w->fmt, v, w->data + r * w->row_stride, w->row_stride, LR_MIN(v, w->rows - r), w->cols,
                   p + r / v * group);
    return (lr_mat){.fmt = w->fmt, .rows = w->rows, .cols = w->cols, .data = p, .row_stride = row, .packed = true};
}

typedef struct run {
    const lr_mm_set *set;
    lr_actk kind;
    uint32_t n_tok, r0, r1;
    bool bias, add;
} run;

/* y [n_tok][rows + 2]: a canary before and after each row of results. Returns it; the caller frees. */
static float *product(const run *u, const lr_mat *w, float *const *x, const float *bias)
{
    uint32_t width = w->rows + 2;
    float *y = malloc(u->n_tok * width * sizeof *y), *rows[MAX_TOK];
    void *acts[MAX_TOK];
    size_t scratch = 64 + 4 * (size_t)u->set->tile_rows * u->n_tok + u->set->tile_bytes +
                     16 * (4 * (size_t)w->cols + 64);
    uint8_t *mem = aligned_alloc(64, LR_ALIGN_UP(scratch, 64));
    for (uint32_t t = 0; t < u->n_tok; t++) {
        acts[t] = packed(u->set, u->kind, x[t], w->cols);
        rows[t] = y + t * width + 1;
        for (uint32_t i = 0; i < width; i++) {
            uint32_t c = CANARY;
            float start = (float)(i * 7 % 13) - 5;
            bool inside = i > u->r0 && i <= u->r1;
            memcpy(y + t * width + i, inside ? (void *)&start : (void *)&c, 4);
        }
    }
    u->set->mm(w, u->kind, (const void *const *)acts, u->n_tok, u->r0, u->r1, rows, u->bias ? bias : NULL, u->add,
               mem);
    for (uint32_t t = 0; t < u->n_tok; t++) free(acts[t]);
    free(mem);
    return y;
}

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

/* A product by `w`, packed or not, with the reference's by `plain`. */
static void compare_with(const run *u, const lr_mat *w, const lr_mat *plain, float *const *x, const float *bias)
{
    run ref = *u;
    ref.set = &lr_mm_scalar;
    float *got = product(u, w, x, bias), *want = product(&ref, plain, x, bias);
    for (uint32_t i = 0; i < u->n_tok * (w->rows + 2); i++)
        if (bits_of(got[i]) != bits_of(want[i]))
            TEST_FAIL("%s %s%s kind %d: rows %u cols %u tokens %u [%u, %u)%s%s: token %u row %d is %.9g, not %.9g",
                      u->set->name, lr_fmt_get(w->fmt)->name, w->packed ? " packed" : "", (int)u->kind, w->rows,
                      w->cols, u->n_tok, u->r0, u->r1, u->bias ? " bias" : "", u->add ? " add" : "",
                      i / (w->rows + 2), (int)(i % (w->rows + 2)) - 1, (double)got[i], (double)want[i]);
    free(got);
    free(want);
}

static void compare(const run *u, const lr_mat *w, float *const *x, const float *bias)
{
    compare_with(u, w, w, x, bias);
}

static void every_set(uint32_t fmt, uint32_t rows, uint32_t cols, uint32_t n_tok, uint32_t r0, uint32_t r1)
{
    matrix m = random_matrix(fmt, rows, cols);
    float *x[MAX_TOK], *bias = random_acts(rows);
    for (uint32_t t = 0; t < n_tok; t++) x[t] = random_acts(cols);
    bool flag = test_random() % 2, flag2 = test_random() % 2;
    for (uint32_t s = 1; s < lr_mm_n_sets; s++) {
        if (!usable(lr_mm_sets[s])) continue;
        run u = {lr_mm_sets[s], LR_ACTK_F32, n_tok, r0, r1, flag, flag2};
        compare(&u, &m.w, x, bias);
        u.kind = LR_ACTK_I8;
        if (lr_mm_has_i8(fmt)) compare(&u, &m.w, x, bias);
        if (!u.set->pack_rows || !lr_mm_can_pack(fmt, cols)) continue;
        if (!lr_mm_has_i8(fmt)) u.kind = LR_ACTK_F32;
        lr_mat p = repacked(u.set, &m.w);
        compare_with(&u, &p, &m.w, x, bias);
        free((void *)(uintptr_t)p.data);
    }
    for (uint32_t t = 0; t < n_tok; t++) free(x[t]);
    free(bias);
    free_matrix(&m);
}

static void tables(void)
{
    lr_kernels k; /* the first call makes the tables of IQ2 */
    lr_mm_fill(&k, LR_ISA_SCALAR);
}

/* The table of an instruction set has the last of its variants that this machine can run. */
TEST(the_best_variant_is_picked)
{
    const char *best[LR_ISA_COUNT] = {NULL};
    for (uint32_t s = 0; s < lr_mm_n_sets; s++)
        if (usable(lr_mm_sets[s])) best[lr_mm_sets[s]->isa] = lr_mm_sets[s]->name;
    for (int i = 0; i < LR_ISA_COUNT; i++) {
        lr_kernels k = {0};
        if (!best[i] || !lr_cpu_has_isa((lr_isa)i)) continue;
        lr_mm_fill(&k, (lr_isa)i);
        CHECK(!strcmp(k.name, best[i]));
    }
    bool pairs = lr_cpu_features() & LR_CPU_I8MM;
    if (best[LR_ISA_NEON]) CHECK(!strcmp(best[LR_ISA_NEON], pairs ? "NEON i8mm" : "NEON dotprod"));
}

TEST_TIME(every_format_every_set, 300)
{
    static const uint32_t cols[] = {32, 64, 96, 160, 256, 512, 768, 2048, 2080, 2144},
                          rows[] = {1, 15, 16, 17, 33, 100};
    tables();
    for (size_t f = 0; f < LR_LEN(formats); f++)
        for (size_t c = 0; c < LR_LEN(cols); c += test_quick() ? 3 : 1) {
            if (cols[c] % lr_fmt_get(formats[f])->block) continue;
            for (size_t r = 0; r < LR_LEN(rows); r++) {
                uint32_t n_tok = 1 + (uint32_t)((c + r) % 9);
                every_set(formats[f], rows[r], cols[c], r % 2 ? n_tok : 1, 0, rows[r]);
            }
        }
}

TEST_TIME(every_number_of_tokens, 300)
{
    tables();
    for (size_t f = 0; f < LR_LEN(formats); f++)
        for (uint32_t n = 1; n <= MAX_TOK; n += n >= 14 ? 19 : test_quick() ? 2 : 1)
            every_set(formats[f], 70, test_quick() ? 256 : 1024, n, 0, 70);
}

TEST_TIME(parts_of_the_rows, 300)
{
    tables();
    for (size_t f = 0; f < LR_LEN(formats); f++)
        for (uint32_t n = 1; n <= 4; n += 3) {
            every_set(formats[f], 100, 256, n, 16, 48);
            every_set(formats[f], 100, 768, n, 32, 69);
            every_set(formats[f], 100, 256, n, 96, 100);
            every_set(formats[f], 100, 256, n, 80, 90);
            every_set(formats[f], 9, 256, n, 0, 9);
        }
}

/* One token: rows that are read one after the other, and what of them waits meanwhile. */
TEST_TIME(one_token_of_many_columns, 300)
{
    static const uint32_t cols[] = {1280, 2304, 4352, 5632}, rows[] = {1, 5, 17, 31, 48, 100};
    tables();
    for (size_t f = 0; f < LR_LEN(formats); f++)
        for (size_t c = 0; c < LR_LEN(cols); c++)
            for (size_t r = c % 2; r < LR_LEN(rows); r += 2) {
                every_set(formats[f], rows[r], cols[c], 1, 0, rows[r]);
                every_set(formats[f], rows[r], cols[c], 1, rows[r] / 48 * 16, rows[r] / 2 + 1);
            }
}

/* The largest sums there can be: all bits of the weights alike, all activations as large as can be. */
TEST(largest_sums)
{
    enum { ROWS = 17, COLS = 512 };
    static const uint8_t fill[] = {0, 0xff, 0x80, 0x7f, 0xf0, 0x0f};
    tables();
    for (size_t f = 0; f < LR_LEN(f16_at) * LR_LEN(fill) * 2; f++) {
        const uint32_t fmt = f16_at[f / 2 / LR_LEN(fill)].fmt, bytes = lr_fmt_get(fmt)->bytes;
        const int *at = f16_at[f / 2 / LR_LEN(fill)].at;
        matrix m = random_matrix(fmt, ROWS, COLS);
        float x[COLS], *px = x, bias[ROWS] = {0};
        for (int i = 0; i < COLS; i++) x[i] = f % 2 ? -1 : 1;
        for (uint32_t r = 0; r < ROWS; r++)
            for (size_t b = 0; b < lr_fmt_row_bytes(fmt, COLS); b += bytes) {
                uint8_t *p = m.mem + 1 + r * m.w.row_stride + b;
                memset(p, fill[f / 2 % LR_LEN(fill)], bytes);
                for (int i = 0; at[i] >= 0; i++) put16(p + at[i], lr_f32_to_f16(0.5f));
            }
        for (uint32_t s = 1; s < lr_mm_n_sets; s++)
            for (uint32_t n = 1; n <= 9 && usable(lr_mm_sets[s]); n += 8) {
                float *xs[9] = {px, px, px, px, px, px, px, px, px};
                run u = {lr_mm_sets[s], LR_ACTK_I8, n, 0, ROWS, false, false};
                compare(&u, &m.w, xs, bias);
            }
        free_matrix(&m);
    }
}

/* Formats of single numbers take any number of columns. */
TEST_TIME(awkward_columns_of_floats, 300)
{
    static const uint32_t fmts[] = {LR_FMT_F32, LR_FMT_F16, LR_FMT_BF16, LR_FMT_F8_E4M3},
                          cols[] = {1, 7, 15, 17, 31, 33, 47, 1025, 2050};
    for (size_t f = 0; f < LR_LEN(fmts); f++)
        for (size_t c = 0; c < LR_LEN(cols); c++)
            for (uint32_t n = 1; n <= 14; n += n == 1 ? 1 : 4) every_set(fmts[f], 21, cols[c], n, 0, 21);
}

static void against_double(const lr_mm_set *set, uint32_t fmt, lr_actk kind, double tolerance)
{
    enum { ROWS = 19, COLS = 1024, TOK = 7 };
    matrix m = random_matrix(fmt, ROWS, COLS);
    float *x[TOK], *w = malloc(COLS * sizeof *w);
    for (int t = 0; t < TOK; t++) x[t] = random_acts(COLS);
    run u = {set, kind, TOK, 0, ROWS, false, false};
    float *y = product(&u, &m.w, x, NULL);
    for (uint32_t r = 0; r < ROWS; r++) {
        lr_decode_row(fmt, m.w.data + r * m.w.row_stride, m.w.aux ? lr_mat_aux(&m.w, r) : NULL, w, COLS);
        for (int t = 0; t < TOK; t++) {
            double sum = 0, scale = 0;
            for (int b = 0; b < COLS; b += 32) {
                double part = 0, top = 0;
                for (int c = b; c < b + 32; c++) {
                    sum += (double)w[c] * (double)x[t][c];
                    part += (double)w[c] * (double)w[c];
                    if (fabs((double)x[t][c]) > top) top = fabs((double)x[t][c]);
                }
                scale += part * top * top;
            }
            CHECK_NEAR(y[(size_t)t * (ROWS + 2) + r + 1], sum, tolerance * sqrt(scale) + 1e-30);
        }
    }
    for (int t = 0; t < TOK; t++) free(x[t]);
    free(w), free(y);
    free_matrix(&m);
}

/* The reference itself. Rounding to int8 errs by up to 1/254 of a block's largest: 6 standard deviations of it. */
TEST_TIME(reference_is_right, 120)
{
    tables();
    for (size_t f = 0; f < LR_LEN(formats); f++) {
        against_double(&lr_mm_scalar, formats[f], LR_ACTK_F32, 1e-5);
        if (lr_mm_has_i8(formats[f])) against_double(&lr_mm_scalar, formats[f], LR_ACTK_I8, 6 * 0.29 / 127);
    }
}

static const uint32_t bf16_formats[] = {LR_FMT_BF16, LR_FMT_F8_E4M3, LR_FMT_F8_E4M3_B128};

TEST(bf16_activations)
{
    need_bf16();
    for (uint32_t s = 0; s < lr_mm_n_sets; s++)
        for (size_t f = 0; f < LR_LEN(bf16_formats); f++)
            if (bf16_usable(lr_mm_sets[s])) against_double(lr_mm_sets[s], bf16_formats[f], LR_ACTK_BF16, 0.02);
}

/* Each of the 256 numbers times one, in both kinds of activations. */
TEST(every_e4m3)
{
    enum { COLS = 256 };
    tables();
    for (uint32_t s = 0; s < lr_mm_n_sets; s++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            if (!usable(lr_mm_sets[s]) || (bf16 && !lr_mm_sets[s]->bf16)) continue;
            for (int i = 0; i < 256; i++) {
                uint8_t w[COLS] = {0};
                float x[COLS] = {0}, *px = x;
                w[i] = (uint8_t)i;
                x[i] = 1;
                lr_mat m = {.fmt = LR_FMT_F8_E4M3, .rows = 1, .cols = COLS, .data = w, .row_stride = COLS};
                run u = {lr_mm_sets[s], bf16 ? LR_ACTK_BF16 : LR_ACTK_F32, 1 + i % 2 * 6, 0, 1, false, false};
                float *xs[7] = {px, px, px, px, px, px, px}, *y = product(&u, &m, xs, NULL);
                float want = lr_e4m3_to_f32((uint8_t)i);
                CHECK(isnan(want) ? isnan(y[1]) : want == y[1]);
                free(y);
            }
        }
}

/* One token or many, any rows: the same bits, bf16 included. */
TEST(bf16_same_in_every_tile)
{
    enum { ROWS = 45, TOK = 27 };
    need_bf16();
    for (uint32_t s = 0; s < 3 * lr_mm_n_sets; s++) {
        const lr_mm_set *set = lr_mm_sets[s / 3];
        const uint32_t cols = s % 3 == 2 ? 2048 + 128 : 2080 + 5;
        if (!bf16_usable(set)) continue;
        matrix m = random_matrix(bf16_formats[s % 3], ROWS, cols);
        float *x[TOK];
        for (int t = 0; t < TOK; t++) x[t] = random_acts(cols);
        run all = {set, LR_ACTK_BF16, TOK, 0, ROWS, false, false};
        float *y = product(&all, &m.w, x, NULL);
        for (int t = 0; t < TOK; t++) {
            run one = {set, LR_ACTK_BF16, 1, t % 2 ? 16 : 0, ROWS, false, false};
            float *z = product(&one, &m.w, x + t, NULL);
            for (uint32_t r = one.r0; r < ROWS; r++)
                CHECK_EQ_INT(bits_of(z[r + 1]), bits_of(y[t * (ROWS + 2) + (int)r + 1]));
            free(z);
        }
        for (int t = 0; t < TOK; t++) free(x[t]);
        free(y);
        free_matrix(&m);
    }
}

TEST(packing_is_the_same_everywhere)
{
    for (uint32_t s = 1; s < lr_mm_n_sets; s++) {
        if (!usable(lr_mm_sets[s])) continue;
        for (uint32_t n = 1; n < 300; n += 1 + n / 3) {
            float *x = random_acts(n);
            if (n % 3 == 0) x[n / 2] = NAN;
            if (n % 3 == 1) x[n / 3] = -INFINITY;
            if (n % 5 == 0) x[0] = 1e-38f;
            uint8_t *a = packed(&lr_mm_scalar, LR_ACTK_I8, x, n), *b = packed(lr_mm_sets[s], LR_ACTK_I8, x, n);
            lr_i8_row at = lr_i8_layout(n);
            size_t nb = (n + 31) / 32, planes[] = {0, at.d, at.e, at.n, at.h};
            for (int p = 0; p < 5; p++)
                for (size_t i = 0; i < nb * (p ? 1 : 32); i++) {
                    if (!p) {
                        CHECK_EQ_INT(a[i], b[i]);
                        continue;
                    }
                    float va, vb;
                    memcpy(&va, a + planes[p] + 4 * i, 4), memcpy(&vb, b + planes[p] + 4 * i, 4);
                    CHECK(bits_of(va) == bits_of(vb) || (p < 3 && isnan(va) && isnan(vb)));
                }
            free(a), free(b), free(x);
        }
    }
}

/* What is not a number in the activations must come out as not a number, and crash nothing. */
TEST(faults_show)
{
    tables();
    for (uint32_t s = 0; s < lr_mm_n_sets; s++) {
        if (!usable(lr_mm_sets[s])) continue;
        matrix m = random_matrix(LR_FMT_Q8_0, 20, 64);
        float *x = random_acts(64);
        x[40] = INFINITY;
        run u = {lr_mm_sets[s], LR_ACTK_I8, 1, 0, 20, false, false};
        float *y = product(&u, &m.w, &x, NULL);
        for (int r = 0; r < 20; r++) CHECK(isnan(y[r + 1]));
        free(y), free(x);
        free_matrix(&m);
    }
}

TEST(every_format_is_fast)
{
    for (size_t f = 0; f < LR_LEN(formats); f++)
        if (formats[f] != LR_FMT_F32 && formats[f] != LR_FMT_F16 && formats[f] != LR_FMT_BF16 && !is_f8(formats[f]))
            if (!lr_mm_has_i8(formats[f])) TEST_FAIL("%s has no int8 kernel", lr_fmt_get(formats[f])->name);
}
