/* test_attn.c - attention alone, for every form of the cache: every instruction set with fused multiply-adds gives the
 * same bits (plain C rounds twice), and all are as near as the form can be. */
#include "attn.h"
#include "test.h"

#include <math.h>

enum { MAX_POS = 1200, MAX_DIM = 128, MAX_ROW = 24, BLOCKS = (MAX_POS + LR_KV_BLOCK - 1) / LR_KV_BLOCK };

static const larder_kv forms[] = {LARDER_KV_F16, LARDER_KV_F32, LARDER_KV_Q8_0, LARDER_KV_Q4_0};
static const lr_isa sets[] = {LR_ISA_SCALAR, LR_ISA_AVX2, LR_ISA_AVX512, LR_ISA_NEON};

static uint64_t seed = 7;
static float noise(void)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (float)(seed >> 40) * 0x1p-23f - 1.0f;
}

typedef struct problem {
    uint32_t dim, n_row, n_pos, window;
    float k[MAX_POS][MAX_DIM], v[MAX_POS][MAX_DIM], q[MAX_ROW][MAX_DIM], out[MAX_ROW][MAX_DIM];
    uint32_t blocks[BLOCKS];
} problem;

static void make(problem *p, uint32_t dim, uint32_t n_row, uint32_t n_pos, uint32_t window)
{
    p->dim = dim;
    p->n_row = n_row;
    p->n_pos = n_pos;
    p->window = window;
    for (uint32_t i = 0; i < n_pos; i++)
        for (uint32_t d = 0; d < dim; d++) {
            p->k[i][d] = noise();
            p->v[i][d] = noise() * 3;
        }
    for (uint32_t r = 0; r < n_row; r++)
        for (uint32_t d = 0; d < dim; d++) p->q[r][d] = noise() * 2;
    for (uint32_t b = 0; b < BLOCKS; b++)
        p->blocks[b] = (b * 7 + 3) % BLOCKS; /* anywhere: 7 and BLOCKS share no factor */
}

static void solve(problem *p, const lr_attn_kernels *a, larder_kv kv)
{
    uint64_t stride = lr_attn_block_bytes(p->dim, kv);
    uint8_t *cache = lr_pages_alloc(stride * BLOCKS), *scratch = lr_pages_alloc(lr_attn_scratch(MAX_ROW, p->dim));
    CHECK(cache && scratch);
    memset(cache, 0xff, stride * BLOCKS); /* nobody may count on what was not stored */
    for (uint32_t i = 0; i < p->n_pos; i++)
        a->store(kv, p->dim, cache + p->blocks[i / LR_KV_BLOCK] * stride, i % LR_KV_BLOCK, p->k[i], p->v[i]);
    const float *q[MAX_ROW];
    float *out[MAX_ROW];
    uint32_t pos[MAX_ROW];
    for (uint32_t r = 0; r < p->n_row; r++) {
        q[r] = p->q[r];
        out[r] = p->out[r];
        pos[r] = p->n_pos - 1 - (p->n_row - 1 - r) / 4; /* tokens of four heads */
    }
    lr_attn_job j = {.head_dim = p->dim,
                     .n_row = p->n_row,
                     .kv = kv,
                     .scale = 0.125f,
                     .window = p->window,
                     .q = q,
                     .out = out,
                     .pos = pos,
                     .cache = cache,
                     .stride = stride,
                     .blocks = p->blocks};
    a->run(&j, scratch);
    lr_pages_free(cache, stride * BLOCKS);
    lr_pages_free(scratch, lr_attn_scratch(MAX_ROW, p->dim));
}

/* In double, from the numbers as they were before they were stored. */
static double error_of(const problem *p)
{
    static double w[MAX_POS];
    double diff = 0, size = 0;
    for (uint32_t r = 0; r < p->n_row; r++) {
        uint32_t last = p->n_pos - 1 - (p->n_row - 1 - r) / 4,
                 first = p->window && last >= p->window ? last - p->window + 1 : 0;
        double sum = 0;
        for (uint32_t i = first; i <= last; i++) {
            double s = 0;
            for (uint32_t d = 0; d < p->dim; d++) s += (double)p->q[r][d] * p->k[i][d];
            sum += w[i] = exp(s * 0.125);
        }
        for (uint32_t d = 0; d < p->dim; d++) {
            double o = 0;
            for (uint32_t i = first; i <= last; i++) o += w[i] / sum * p->v[i][d];
            diff = fmax(diff, fabs(o - (double)p->out[r][d]));
            size = fmax(size, fabs(o));
        }
    }
    return diff / size;
}

TEST_TIME(every_vector_set_gives_the_same_bits, 60)
{
    static const struct {
        uint32_t dim, n_row, n_pos, window;
    } sizes[] = {{64, 4, 150, 0},  {64, 1, 1100, 0}, {80, 8, 333, 0},
                 {128, 24, 97, 0}, {20, 3, 40, 0},   {64, 7, 700, 200}};
    static const double most[] = {2e-3, 1e-5, 3e-2, 0.6};
    static problem p;
    static float want[MAX_ROW][MAX_DIM];
    for (size_t i = 0; i < LR_LEN(sizes); i++) {
        make(&p, sizes[i].dim, sizes[i].n_row, sizes[i].n_pos, sizes[i].window);
        for (size_t f = 0; f < LR_LEN(forms); f++) {
            const char *first = NULL;
            for (size_t s = 0; s < LR_LEN(sets); s++) {
                const lr_kernels *k = lr_kernels_get(sets[s]);
                if (!k) continue;
                solve(&p, k->attn, forms[f]);
                double e = error_of(&p);
                if (!(e <= most[f])) TEST_FAIL("size %zu, form %zu, %s: off by %g", i, f, lr_isa_name(sets[s]), e);
                if (sets[s] == LR_ISA_SCALAR) continue;
                if (!first) memcpy(want, p.out, sizeof want);
                for (uint32_t r = 0; r < p.n_row && first; r++)
                    if (memcmp(want[r], p.out[r], p.dim * sizeof(float)))
                        TEST_FAIL("size %zu, form %zu: %s is not %s in row %u", i, f, lr_isa_name(sets[s]), first, r);
                first = lr_isa_name(sets[s]);
            }
        }
    }
}

TEST(bytes_of_a_block)
{
    CHECK_EQ_U64(lr_attn_block_bytes(64, LARDER_KV_F32), 2u * 32 * 64 * 4);
    CHECK_EQ_U64(lr_attn_block_bytes(64, LARDER_KV_F16), 2u * 32 * 64 * 2);
    CHECK_EQ_U64(lr_attn_block_bytes(64, LARDER_KV_Q8_0), 2u * 32 * (64 + 2 * 2));
    CHECK_EQ_U64(lr_attn_block_bytes(64, LARDER_KV_Q4_0), 2u * 32 * (32 + 2 * 2));
    CHECK_EQ_U64(lr_attn_block_bytes(80, LARDER_KV_Q8_0), 32u * (80 + 6) + 32u * (96 + 6));
}

/* One position's numbers of both signs, a zero, and some that are not finite. */
TEST(odd_numbers_are_stored)
{
    static problem p;
    for (size_t f = 0; f < LR_LEN(forms); f++) {
        make(&p, 64, 1, 1, 0);
        for (uint32_t d = 0; d < 64; d++) p.v[0][d] = d < 32 ? 0.0f : d % 2 ? 1e-30f : -1e-30f;
        solve(&p, lr_kernels_get(LR_ISA_SCALAR)->attn, forms[f]);
        for (uint32_t d = 0; d < 64; d++) CHECK(fabsf(p.out[0][d]) <= 1e-29f);
        p.v[0][5] = INFINITY;
        p.k[0][5] = NAN;
        solve(&p, lr_kernels_get(LR_ISA_SCALAR)->attn, forms[f]); /* no more than that it ends */
    }
}
