/* test_cuda_attn.c - attention on a graphics processor: near the truth (float64) for every form of the cache, and the same
 * bits whether a position is reached by a whole prompt, by pieces of one, or by decode steps, alone or in company. */
#include "test.h"

#if defined(LR_CUDA)
#include "on_card.h"

enum { MAX_SEQ = 5, CTX = 1600, TABLE = CTX / LR_KV_BLOCK, POOL = MAX_SEQ * TABLE, MOST_TOK = 1024 };

typedef struct shape {
    const char *name;
    uint32_t dim, n_head, n_head_kv, window, n_pos;
    float softcap;
    bool sinks, exact;
    larder_kv kv;
    double tolerance;
} shape;

/* Number d of what (0 q, 1 k, 2 v) of a sequence's position and head. */
static float number(uint32_t what, uint32_t seq, uint32_t pos, uint32_t head, uint32_t d)
{
    uint64_t x = (((uint64_t)what * 8 + seq) * 65536 + pos) * 65536 + head * 512 + d;
    x = (x + 0x9e3779b97f4a7c15ull) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 31) * 0x94d049bb133111ebull;
    float f = (float)(x >> 40) * 0x1p-23f - 1.0f;
    return what == 0 ? f * 5 : f;
}

/* A cache and what a step needs, on the card. */
typedef struct card {
    uint8_t *cache;
    float *q, *k, *v, *out, *parts, *sinks;
    uint32_t *ints; /* counts, pos, seq, first, unit, blocks */
    uint32_t table[MAX_SEQ][TABLE], past[MAX_SEQ];
} card;

static uint32_t block_bytes(const shape *s) { return (uint32_t)lr_cu_block_bytes(s->dim, s->kv); }
static float sink(uint32_t head) { return (float)head * 0.7f - 1.0f; }

static void open_card(card *c, const shape *s)
{
    size_t cache = (size_t)block_bytes(s) * POOL * s->n_head_kv, tok = MOST_TOK * (size_t)s->dim * sizeof(float);
    uint64_t parts = lr_cu_attn_parts(&dev, s->n_head, s->dim, MAX_SEQ, CTX);
    memset(c, 0, sizeof *c);
    CHECK(cache > 0);
    CU(cudaMalloc((void **)&c->cache, cache));
    CU(cudaMalloc((void **)&c->q, tok * s->n_head));
    CU(cudaMalloc((void **)&c->k, tok * s->n_head_kv));
    CU(cudaMalloc((void **)&c->v, tok * s->n_head_kv));
    CU(cudaMalloc((void **)&c->out, tok * s->n_head));
    CU(cudaMalloc((void **)&c->parts, parts));
    CU(cudaMalloc((void **)&c->sinks, s->n_head * sizeof(float)));
    CU(cudaMalloc((void **)&c->ints, (8 + 2 * MOST_TOK + 2 * (MAX_SEQ + 1) + POOL) * sizeof(uint32_t)));
    CU(cudaMemset(c->cache, 0xff, cache)); /* nobody may count on what was not stored */
    CU(cudaMemset(c->parts, 0xff, parts));
    float sinks[256];
    for (uint32_t h = 0; h < s->n_head; h++) sinks[h] = sink(h);
    CU(cudaMemcpy(c->sinks, sinks, s->n_head * sizeof(float), cudaMemcpyHostToDevice));
    for (uint32_t i = 0; i < POOL; i++)
        c->table[i / TABLE][i % TABLE] = (i * 77 + 13) % POOL; /* 77: no factor of POOL */
}

static void close_card(card *c)
{
    void *all[] = {c->cache, c->q, c->k, c->v, c->out, c->parts, c->sinks, c->ints};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) CU(cudaFree(all[i]));
}

/* The next n[i] tokens of sequence i, for all with n[i] > 0. Their results into out[sequence][position][head][dim]. */
static void step(card *c, const shape *s, const uint32_t n[MAX_SEQ], float *const out[MAX_SEQ])
{
    static uint32_t ints[8 + 2 * MOST_TOK + 2 * (MAX_SEQ + 1) + POOL];
    uint32_t *pos = ints + 8, *seq = pos + MOST_TOK, *first = seq + MOST_TOK, *unit = first + MAX_SEQ + 1;
    uint32_t *blocks = unit + MAX_SEQ + 1, t = 0, ns = 0, most = 0, which[MAX_SEQ];
    size_t width = (size_t)s->n_head * s->dim, width_kv = (size_t)s->n_head_kv * s->dim;
    float *q = malloc(MOST_TOK * width * 4), *k = malloc(MOST_TOK * width_kv * 4),
          *v = malloc(MOST_TOK * width_kv * 4);
    CHECK(q && k && v);
    first[0] = unit[0] = 0;
    for (uint32_t i = 0; i < MAX_SEQ; i++) {
        if (!n[i]) continue;
        memcpy(blocks + ns * TABLE, c->table[i], sizeof c->table[i]);
        for (uint32_t j = 0; j < n[i]; j++, t++) {
            pos[t] = c->past[i] + j;
            seq[t] = ns;
            for (uint32_t x = 0; x < width; x++) q[t * width + x] = number(0, i, pos[t], x / s->dim, x % s->dim);
            for (uint32_t x = 0; x < width_kv; x++) {
                k[t * width_kv + x] = number(1, i, pos[t], x / s->dim, x % s->dim);
                v[t * width_kv + x] = number(2, i, pos[t], x / s->dim, x % s->dim);
            }
        }
        most = n[i] > most ? n[i] : most;
        which[ns++] = i;
        first[ns] = t;
        unit[ns] = unit[ns - 1] + (c->past[i] + n[i] - 1) / LR_CU_ATTN_CHUNK + 1;
    }
    lr_cu_counts counts = {t, t, ns, unit[ns]};
    memcpy(ints, &counts, sizeof counts);
    CU(cudaMemcpy(c->ints, ints, sizeof ints, cudaMemcpyHostToDevice));
    CU(cudaMemcpy(c->q, q, t * width * 4, cudaMemcpyHostToDevice));
    CU(cudaMemcpy(c->k, k, t * width_kv * 4, cudaMemcpyHostToDevice));
    CU(cudaMemcpy(c->v, v, t * width_kv * 4, cudaMemcpyHostToDevice));
    CU(cudaMemset(c->out, 0xff, MOST_TOK * width * 4));
    lr_cu_attn a = {.n_head = s->n_head,
                    .n_head_kv = s->n_head_kv,
                    .head_dim = s->dim,
                    .window = s->window,
                    .scale = 1.0f / sqrtf((float)s->dim),
                    .softcap = s->softcap,
                    .sinks = s->sinks ? c->sinks : NULL,
                    .kv = s->kv,
                    .cache = c->cache,
                    .head_stride = (uint64_t)block_bytes(s) * POOL,
                    .block_stride = block_bytes(s),
                    .q = c->q,
                    .k = c->k,
                    .v = c->v,
                    .out = c->out,
                    .q_stride = (uint32_t)width,
                    .k_stride = (uint32_t)width_kv,
                    .v_stride = (uint32_t)width_kv,
                    .out_stride = (uint32_t)width,
                    .parts = c->parts,
                    .exact = s->exact,
                    .max_tok = MOST_TOK,
                    .max_seq = MAX_SEQ,
                    .max_ctx = CTX,
                    .decode = most == 1};
    a.step.counts = (const lr_cu_counts *)(const void *)c->ints;
    a.step.pos = c->ints + (pos - ints);
    a.step.seq = c->ints + (seq - ints);
    a.step.first = c->ints + (first - ints);
    a.step.unit = c->ints + (unit - ints);
    a.step.blocks = c->ints + (blocks - ints);
    a.step.max_blocks = TABLE;
    CU(lr_cu_attn_store(&dev, &a, stream));
    CU(lr_cu_attn_run(&dev, &a, stream));
    CU(cudaStreamSynchronize(stream));
    CU(cudaGetLastError());
    for (uint32_t i = 0; i < ns; i++) {
        uint32_t w = which[i];
        CU(cudaMemcpy(out[w] + c->past[w] * width, c->out + first[i] * width, n[w] * width * 4,
                      cudaMemcpyDeviceToHost));
        c->past[w] += n[w];
    }
    free(q), free(k), free(v);
}

/* The truth: float64 over the numbers as they were before the cache. */
static void truth(const shape *s, uint32_t seq, uint32_t p, uint32_t head, double *out)
{
    uint32_t kv = head / (s->n_head / s->n_head_kv), lo = s->window && p >= s->window ? p - s->window + 1 : 0;
    double *w = malloc((p + 1) * sizeof *w), most = s->sinks ? (double)sink(head) : -INFINITY, sum = 0;
    CHECK(w);
    for (uint32_t i = lo; i <= p; i++) {
        double x = 0;
        for (uint32_t d = 0; d < s->dim; d++)
            x += (double)number(0, seq, p, head, d) * (double)number(1, seq, i, kv, d);
        x /= sqrt(s->dim);
        if (s->softcap != 0.0f) x = (double)s->softcap * tanh(x / (double)s->softcap);
        w[i] = x;
        most = x > most ? x : most;
    }
    if (s->sinks) sum = exp((double)sink(head) - most);
    for (uint32_t i = lo; i <= p; i++) sum += w[i] = exp(w[i] - most);
    for (uint32_t d = 0; d < s->dim; d++) {
        out[d] = 0;
        for (uint32_t i = lo; i <= p; i++) out[d] += w[i] / sum * (double)number(2, seq, i, kv, d);
    }
    free(w);
}

static double error_of(const shape *s, uint32_t seq, const float *out)
{
    double off = 0, all = 0, row[256];
    for (uint32_t p = 0; p < s->n_pos; p = p < 3 ? p + 1 : p + 29)
        for (uint32_t h = 0; h < s->n_head; h++) {
            truth(s, seq, p, h, row);
            for (uint32_t d = 0; d < s->dim; d++) {
                double x = (double)out[((size_t)p * s->n_head + h) * s->dim + d] - row[d];
                off += x * x;
                all += row[d] * row[d];
            }
        }
    return sqrt(off / all);
}

/* Places where bits differ, and the first. */
static size_t differences(const float *a, const float *b, size_t from, size_t n, size_t *first)
{
    size_t k = 0;
    for (size_t i = from; i < n; i++)
        if (memcmp(a + i, b + i, 4) && !k++) *first = i;
    return k;
}

static void check_shape(const shape *s)
{
    size_t row = (size_t)s->n_head * s->dim, n = s->n_pos * row, at = 0, d;
    uint32_t last = 25;
    float *whole[MAX_SEQ], *parts[MAX_SEQ];
    for (uint32_t i = 0; i < MAX_SEQ; i++) {
        whole[i] = malloc(CTX * row * 4), parts[i] = malloc(CTX * row * 4);
        CHECK(whole[i] && parts[i]);
    }
    card c;
    open_card(&c, s);
    step(&c, s, (const uint32_t[]){s->n_pos, 0, 0, 0, 0}, whole);
    close_card(&c);
    double off = error_of(s, 0, whole[0]);

    /* pieces, in company, up to the last 25; then those one by one */
    open_card(&c, s);
    step(&c, s, (const uint32_t[]){1, 0, 3, 0, 0}, parts);
    step(&c, s, (const uint32_t[]){36, 130, 1, 0, 1}, parts);
    step(&c, s, (const uint32_t[]){130, 1, 0, 2, 17}, parts);
    step(&c, s, (const uint32_t[]){1, 1, 260, 1, 1}, parts);
    step(&c, s, (const uint32_t[]){s->n_pos - last - 168, 0, 0, 1, 0}, parts);
    for (uint32_t i = 0; i < last; i++) step(&c, s, (const uint32_t[]){1, i % 2, i % 3 == 0, 1, 1}, parts);
    CHECK_EQ_INT(c.past[0], s->n_pos);
    close_card(&c);
    d = differences(whole[0], parts[0], 0, n, &at);
    printf("%-28s error %.2e (%.0e)  bits differ in %zu of %zu\n", s->name, off, s->tolerance, d, n);
    if (d)
        printf("    first at position %zu, head %zu, column %zu: %g, %g\n", at / row, at % row / s->dim, at % s->dim,
               (double)whole[0][at], (double)parts[0][at]);
    fflush(stdout);
    CHECK(off <= s->tolerance);
    CHECK_EQ_U64(d, 0);
    for (uint32_t i = 0; i < MAX_SEQ; i++) free(whole[i]), free(parts[i]);
}

static const shape f16[] = {
    {"f16 dim 128, group 4", 128, 8, 2, 0, 700, 0, false, false, LARDER_KV_F16, 1e-3},
    {"f16 dim 128, window", 128, 4, 1, 150, 700, 0, false, false, LARDER_KV_F16, 1e-3},
    {"f16 dim 64, group 8, sinks", 64, 16, 2, 0, 600, 0, true, false, LARDER_KV_F16, 1e-3},
    {"f16 dim 64, sinks, window", 64, 16, 2, 128, 600, 0, true, false, LARDER_KV_F16, 1e-3},
    {"f16 dim 256, softcap", 256, 4, 2, 0, 500, 50, false, false, LARDER_KV_F16, 1e-3},
    {"f16 dim 16", 16, 4, 2, 0, 500, 0, false, false, LARDER_KV_F16, 1e-3},
    {"f16 dim 32, window 24", 32, 4, 2, 24, 500, 0, false, false, LARDER_KV_F16, 1e-3},
    {"f16 dim 48, one KV head", 48, 4, 1, 0, 300, 0, false, false, LARDER_KV_F16, 1e-3},
    {"f16 dim 8", 8, 4, 4, 0, 300, 0, false, false, LARDER_KV_F16, 1e-3},
    {"f16 dim 80, no groups", 80, 4, 4, 0, 400, 0, false, false, LARDER_KV_F16, 1e-3},
    {"f16 dim 96", 96, 4, 2, 0, 400, 0, false, false, LARDER_KV_F16, 1e-3},
    {"f16 dim 192, group 3", 192, 6, 2, 0, 400, 0, false, false, LARDER_KV_F16, 1e-3},
    {"f16 dim 64, group 40", 64, 40, 1, 0, 400, 0, false, false, LARDER_KV_F16, 1e-3},
};
static const shape exact[] = {
    {"f16 exact dim 128", 128, 8, 2, 0, 600, 0, false, true, LARDER_KV_F16, 1e-3},
    {"f16 exact dim 64, window", 64, 8, 2, 100, 400, 0, true, true, LARDER_KV_F16, 1e-3},
    {"f16 exact dim 256", 256, 4, 2, 0, 400, 30, false, true, LARDER_KV_F16, 1e-3},
    {"f32 dim 128", 128, 8, 2, 0, 600, 0, false, true, LARDER_KV_F32, 2e-6},
    {"f32 dim 64, all of it", 64, 8, 2, 200, 400, 20, true, false, LARDER_KV_F32, 2e-6},
    {"f32 dim 256", 256, 4, 2, 0, 400, 0, false, true, LARDER_KV_F32, 2e-6},
    {"f32 dim 16", 16, 4, 2, 0, 300, 0, false, true, LARDER_KV_F32, 2e-6},
};
static const shape q8[] = {
    {"q8_0 dim 128", 128, 8, 2, 0, 600, 0, false, false, LARDER_KV_Q8_0, 1e-2},
    {"q8_0 dim 64, window, sinks", 64, 8, 2, 100, 400, 0, true, false, LARDER_KV_Q8_0, 1e-2},
    {"q8_0 dim 256", 256, 4, 2, 0, 400, 0, false, true, LARDER_KV_Q8_0, 1e-2},
    {"q8_0 dim 48", 48, 4, 2, 0, 300, 0, false, false, LARDER_KV_Q8_0, 1e-2},
};
#define ALL(shapes) \
    begin(); \
    for (size_t i_ = 0; i_ < sizeof(shapes) / sizeof *(shapes); i_ += test_quick() ? 3 : 1) check_shape(&(shapes)[i_])

TEST(cuda_attention_f16) { ALL(f16); }
TEST(cuda_attention_exact) { ALL(exact); }
TEST(cuda_attention_q8) { ALL(q8); }
#else
TEST(cuda_attention) { SKIP("built without CUDA"); }
#endif
