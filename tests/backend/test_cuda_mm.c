/* test_cuda_mm.c - products on a graphics card, every format: near the sum in double over decoded weights, and the same
 * bits from the kernel for few rows, eight at a time, and from both for many. */
#include "matrix.h"

#if defined(LR_CUDA)
#include "on_card.h"

enum { MOST_EXPERTS = 6 };

typedef struct shape {
    uint32_t rows[LR_CU_MATS], n; /* matrices */
    uint32_t cols;                /* in blocks of 32 or what the format asks for; over 64: columns */
    uint32_t n_row, k, in_mul;
    bool lo, bias, add;
} shape;

static uint32_t n_bad;

static void *to_card(const void *from, size_t n)
{
    void *p;
    CU(cudaMalloc(&p, n));
    CU(cudaMemcpy(p, from, n, cudaMemcpyHostToDevice));
    return p;
}

/* ---------------------------------------------------------------- weights */
typedef struct weights { /* n_mat matrices of one shape */
    lr_cu_mat card;
    float *decoded; /* [n_mat][rows][cols] */
    float *bias;
} weights;

static weights make_weights(uint32_t fmt, uint32_t rows, uint32_t cols, uint32_t n_mat, bool bias)
{
    weights w = {.card = {.fmt = fmt, .rows = rows, .cols = cols, .y_stride = rows + 3}};
    uint64_t packed = lr_fmt_row_bytes(fmt, cols), each = lr_fmt_aux_bytes(fmt);
    uint64_t line = each ? each * (cols / lr_fmt_get(fmt)->block) : fmt == LR_FMT_F8_E4M3 ? 4 : 0, lines = rows;
    w.card.row_stride = LR_ALIGN_UP(packed, 16);
    w.card.mat_stride = LR_ALIGN_UP(w.card.row_stride * rows, 256);
    if (fmt == LR_FMT_F8_E4M3_B128) {
        w.card.aux_rows = 128;
        w.card.aux_first = 64;
        lines = (rows + 63) / 128 + 1;
    }
    w.card.aux_stride = line;
    w.card.aux_mat_stride = line * lines;
    uint8_t *data = malloc(w.card.mat_stride * n_mat), *aux = malloc(w.card.aux_mat_stride * n_mat + 1);
    w.decoded = malloc((size_t)n_mat * rows * cols * 4);
    w.bias = malloc((size_t)n_mat * rows * 4);
    CHECK(data && aux && w.decoded && w.bias);
    memset(data, 0xff, w.card.mat_stride * n_mat);
    for (uint32_t m = 0; m < n_mat; m++) {
        matrix one = random_matrix(fmt, rows, cols);
        uint8_t *own = aux + m * w.card.aux_mat_stride;
        for (uint64_t l = 0; l < lines && line; l++) {
            if (fmt != LR_FMT_MXFP4_PAIRS) {
                for (uint64_t i = 0; i < line / 4; i++) {
                    float s = test_uniform(0.5f, 2) * 1e-3f;
                    memcpy(own + l * line + 4 * i, &s, 4);
                }
            } else {
                memcpy(own + l * line, one.w.aux + l * one.w.aux_stride, line);
            }
        }
        for (uint32_t r = 0; r < rows; r++) {
            uint8_t *to = data + m * w.card.mat_stride + r * w.card.row_stride;
            uint32_t at = w.card.aux_rows ? (w.card.aux_first + r) / w.card.aux_rows : r;
            memcpy(to, one.w.data + r * one.w.row_stride, packed);
            lr_decode_row(fmt, to, line ? own + at * line : NULL, w.decoded + ((size_t)m * rows + r) * cols, cols);
        }
        free_matrix(&one);
    }
    for (uint32_t i = 0; i < n_mat * rows; i++) w.bias[i] = test_uniform(-1, 1);
    w.card.data = to_card(data, w.card.mat_stride * n_mat);
    if (line) w.card.aux = to_card(aux, w.card.aux_mat_stride * n_mat);
    if (bias) w.card.bias = to_card(w.bias, 4 * (size_t)n_mat * rows);
    free(data);
    free(aux);
    return w;
}

static void free_weights(weights *w)
{
    CU(cudaFree((void *)(uintptr_t)w->card.data));
    CU(cudaFree((void *)(uintptr_t)w->card.aux));
    CU(cudaFree((void *)(uintptr_t)w->card.bias));
    free(w->decoded);
    free(w->bias);
}

/* ---------------------------------------------------------------- rows of x */
typedef struct rows_of_x {
    uint16_t *hi[2], *lo[2]; /* on the card: as they are, turned */
    float *scale;
    uint32_t stride;
    float *value; /* [n][cols], what the operands stand for */
} rows_of_x;

static rows_of_x make_x(uint32_t fmt, uint32_t n, uint32_t cols, bool lo)
{
    bool bf16 = lr_cu_takes_bf16(fmt);
    rows_of_x x = {.stride = LR_ALIGN_UP(cols, 32)};
    size_t all = (size_t)n * x.stride;
    uint16_t *v[4];
    float *scale = malloc(n * sizeof *scale);
    x.value = calloc((size_t)n * cols, sizeof *x.value);
    for (int i = 0; i < 4; i++) CHECK((v[i] = calloc(all, 2)));
    CHECK(scale && x.value);
    for (uint32_t r = 0; r < n; r++) {
        scale[r] = bf16 ? 1 : ldexpf(1, (int)(r % 7) - 3);
        for (uint32_t c = 0; c < cols; c++) {
            float f = test_uniform(-2, 2);
            uint16_t h = bf16 ? lr_f32_to_bf16(f) : lr_f32_to_f16(f);
            float back = bf16 ? lr_bf16_to_f32(h) : lr_f16_to_f32(h);
            uint16_t l = bf16 ? lr_f32_to_bf16(f - back) : lr_f32_to_f16(f - back);
            v[0][r * x.stride + c] = h;
            v[1][r * x.stride + c] = l;
            if (lo) back += bf16 ? lr_bf16_to_f32(l) : lr_f16_to_f32(l);
            x.value[(size_t)r * cols + c] = back * scale[r];
        }
        for (uint32_t i = 0; i < x.stride; i++) {
            v[2][r * x.stride + i] = v[0][r * x.stride + i / 32 * 32 + lr_cu_turn(i % 32)];
            v[3][r * x.stride + i] = v[1][r * x.stride + i / 32 * 32 + lr_cu_turn(i % 32)];
        }
    }
    for (int i = 0; i < 2; i++) {
        x.hi[i] = to_card(v[2 * i], 2 * all);
        x.lo[i] = lo ? to_card(v[2 * i + 1], 2 * all) : NULL;
    }
    x.scale = to_card(scale, n * sizeof *scale);
    for (int i = 0; i < 4; i++) free(v[i]);
    free(scale);
    return x;
}

static void free_x(rows_of_x *x)
{
    for (int i = 0; i < 2; i++) {
        CU(cudaFree(x->hi[i]));
        CU(cudaFree(x->lo[i]));
    }
    CU(cudaFree(x->scale));
    free(x->value);
}

/* ---------------------------------------------------------------- one product, three ways */
typedef struct trial {
    const shape *s;
    uint32_t fmt, cols, n_y;
    weights w[LR_CU_MATS];
    rows_of_x x;
    uint32_t *routing; /* [n_row][k] pairs of expert and weight, here; on the card: */
    uint8_t *routing_card;
    float *y[LR_CU_MATS], *old[LR_CU_MATS]; /* y: on the card */
} trial;

static void sort(const trial *t, lr_cu_mm *m, uint32_t tile, const uint32_t *n_row)
{
    uint32_t *all;
    CU(cudaMalloc((void **)&all, 4 * (size_t)(1 + t->n_y + 3 * t->n_y)));
    lr_cu_sorting o = {.routing = t->routing_card,
                       .row_bytes = 8ull * t->s->k,
                       .n_row = n_row,
                       .k = t->s->k,
                       .n_expert = MOST_EXPERTS,
                       .tile = tile,
                       .rows = all + 1,
                       .tiles = all + 1 + t->n_y,
                       .n_tile = all};
    CU(lr_cu_sort_run(&dev, &o, stream));
    m->k = t->s->k;
    m->in_mul = t->s->in_mul;
    m->sort = (lr_cu_sort){o.rows, o.tiles, o.n_tile, tile};
}

/* Rows [from, from + n) of x, or all of a routed product. */
static void multiply(trial *t, uint32_t from, uint32_t n, bool many)
{
    const shape *s = t->s;
    uint32_t *n_row = to_card(&n, 4);
    lr_cu_mm m = {.n = s->n, .n_row = n_row, .max_row = n, .add = s->add};
    for (uint32_t i = 0; i < s->n; i++) {
        m.w[i] = t->w[i].card;
        m.w[i].y = t->y[i] + (size_t)from * m.w[i].y_stride;
    }
    m.x.hi = t->x.hi[many] + (size_t)from * t->x.stride;
    m.x.lo = t->x.lo[many] ? t->x.lo[many] + (size_t)from * t->x.stride : NULL;
    m.x.scale = lr_cu_takes_bf16(t->fmt) ? NULL : t->x.scale + from;
    m.x.stride = t->x.stride;
    m.x.turned = many;
    if (s->k) sort(t, &m, many ? lr_cu_many_tile(&dev, n, s->k, MOST_EXPERTS) : LR_CU_FEW, n_row);
    CU(many ? lr_cu_mm_many(&dev, &m, stream) : lr_cu_mm_few(&dev, &m, stream));
    CU(cudaStreamSynchronize(stream));
    if (s->k) CU(cudaFree((void *)(uintptr_t)m.sort.n_tile));
    CU(cudaFree(n_row));
}

static size_t y_floats(const trial *t, uint32_t i) { return (size_t)t->n_y * t->w[i].card.y_stride; }

static float *results(trial *t, uint32_t i)
{
    float *y = malloc(4 * y_floats(t, i));
    CHECK(y);
    CU(cudaMemcpy(y, t->y[i], 4 * y_floats(t, i), cudaMemcpyDeviceToHost));
    CU(cudaMemcpy(t->y[i], t->old[i], 4 * y_floats(t, i), cudaMemcpyHostToDevice));
    return y;
}

static double error_of(const trial *t, uint32_t i, const float *y)
{
    const weights *w = &t->w[i];
    double off = 0, all = 0;
    for (uint32_t r = 0; r < t->n_y; r++) {
        uint32_t e = t->s->k ? t->routing[2 * r] : 0, xr = t->s->k && t->s->in_mul == 1 ? r / t->s->k : r;
        for (uint32_t q = 0; q < w->card.rows; q++) {
            const float *a = w->decoded + ((size_t)e * w->card.rows + q) * t->cols,
                        *b = t->x.value + (size_t)xr * t->cols;
            double v = 0, extra = 0, got = (double)y[(size_t)r * w->card.y_stride + q];
            for (uint32_t c = 0; c < t->cols; c++) v += (double)a[c] * (double)b[c];
            if (t->s->bias) extra += (double)w->bias[(size_t)e * w->card.rows + q];
            if (t->s->add) extra += (double)t->old[i][(size_t)r * w->card.y_stride + q];
            off += (got - v - extra) * (got - v - extra);
            all += v * v;
        }
    }
    return sqrt(off / all);
}

static void expect(bool good, const trial *t, const char *what, double x)
{
    if (good) return;
    n_bad++;
    printf("%s, %u x %u, %u rows, k %u, lo %d: %s: %g\n", lr_fmt_get(t->fmt)->name, t->w[0].card.rows, t->cols,
           t->s->n_row, t->s->k, t->s->lo, what, x);
}

static void compare(const trial *t, uint32_t i, const float *y, const float *want, const char *what)
{
    uint32_t differ = 0;
    for (size_t k = 0; k < y_floats(t, i); k++) differ += memcmp(&y[k], &want[k], 4) != 0;
    expect(!differ, t, what, differ);
}

static void run_all(trial *t)
{
    static const char *const ways[] = {"", "any"};
    const shape *s = t->s;
    float *few[LR_CU_MATS];
    for (uint32_t at = 0; at < s->n_row; at += LR_CU_FEW) {
        uint32_t n = LR_MIN(s->n_row - at, (uint32_t)LR_CU_FEW);
        multiply(t, at, s->k ? s->n_row : n, false);
        if (s->k) break;
    }
    for (uint32_t i = 0; i < s->n; i++) {
        double e = error_of(t, i, few[i] = results(t, i));
        expect(e <= 2e-3, t, "far from the sum in double", e);
    }
    for (size_t k = 0; k < LR_LEN(ways); k++) {
        setenv("LARDER_CUDA_MANY", ways[k], 1);
        multiply(t, 0, s->n_row, true);
        for (uint32_t i = 0; i < s->n; i++) {
            float *y = results(t, i);
            compare(t, i, y, few[i], k ? "many rows without Hopper: bits differ" : "many rows: bits differ");
            free(y);
        }
    }
    for (uint32_t i = 0; i < s->n; i++) free(few[i]);
}

static void check_shape(uint32_t fmt, const shape *s)
{
    uint32_t unit = LR_MAX(lr_fmt_get(fmt)->block, 32u), n_mat = s->k ? MOST_EXPERTS : 1;
    trial t = {
        .s = s, .fmt = fmt, .cols = s->cols > 64 ? s->cols : s->cols * unit, .n_y = s->n_row * LR_MAX(s->k, 1u)};
    t.x = make_x(fmt, s->in_mul == s->k && s->k ? t.n_y : s->n_row, t.cols, s->lo || lr_cu_takes_lo(fmt));
    for (uint32_t i = 0; i < s->n; i++) {
        t.w[i] = make_weights(fmt, s->rows[i], t.cols, n_mat, s->bias);
        size_t n = y_floats(&t, i);
        CHECK((t.old[i] = malloc(4 * n)));
        for (size_t k = 0; k < n; k++) t.old[i][k] = s->add ? test_uniform(-1, 1) : NAN; /* gaps between rows too */
        t.y[i] = to_card(t.old[i], 4 * n);
    }
    if (s->k) {
        CHECK((t.routing = calloc(t.n_y, 8)));
        for (uint32_t r = 0; r < t.n_y; r++) /* one expert has most of the rows, one none */
            t.routing[2 * r] = r % s->k ? (t.routing[2 * (r - r % s->k)] + r % s->k) % (MOST_EXPERTS - 1)
                                        : (uint32_t)test_random() % 3 * ((uint32_t)test_random() % 2);
        t.routing_card = to_card(t.routing, 8 * (size_t)t.n_y);
    }
    run_all(&t);
    for (uint32_t i = 0; i < s->n; i++) {
        free_weights(&t.w[i]);
        CU(cudaFree(t.y[i]));
        free(t.old[i]);
    }
    CU(cudaFree(t.routing_card));
    free(t.routing);
    free_x(&t.x);
}

static const shape shapes[] = {
    {.rows = {40}, .n = 1, .cols = 1, .n_row = 9},
    {.rows = {150, 24, 64}, .n = 3, .cols = 5, .n_row = 21, .lo = true, .bias = true},
    {.rows = {130}, .n = 1, .cols = 2304, .n_row = 70, .add = true},
    {.rows = {72}, .n = 1, .cols = 3, .n_row = 19, .k = 2, .in_mul = 1, .bias = true},
    {.rows = {24, 136}, .n = 2, .cols = 512, .n_row = 45, .k = 3, .in_mul = 3, .lo = true, .add = true},
    {.rows = {300}, .n = 1, .cols = 512, .n_row = 140, .bias = true, .add = true}, /* whole rows at once */
};

static void check_format(uint32_t fmt)
{
    begin();
    for (size_t i = 0; i < LR_LEN(shapes); i++)
        if (!test_quick() || i != 2) check_shape(fmt, &shapes[i]);
    CHECK_EQ_INT(n_bad, 0);
}

#define LR_FMT(name, id, block, bytes) \
    TEST(cuda_##name) { check_format(id); }
#include "formats.def"
#undef LR_FMT
#else
TEST(cuda_products) { SKIP("built without CUDA"); }
#endif
