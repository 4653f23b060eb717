/* The row functions of every instruction set this machine has: accuracy against double, and independence of a number's
 * place in its row. */
#include "test.h"

#include "cpu.h"

enum { N = 4096 };
static float x[N], u[N], y[N], z[N];

static const lr_kernels *kernels(int isa) { return lr_cpu_has_isa((lr_isa)isa) ? lr_kernels_get((lr_isa)isa) : NULL; }

static double ulps(float got, double want)
{
    if (got == want) return 0;
    double size = fmax(fabs(want), 1.2e-38);
    return fabs((double)got - want) / ldexp(1, (int)floor(log2(size)) - 23);
}

static void fill(float range)
{
    for (int i = 0; i < N; i++) {
        x[i] = test_uniform(-range, range);
        u[i] = test_uniform(-range, range);
        if (i % 7 == 0) x[i] *= 1e-4f;
    }
}

static double fn_of(lr_fn fn, double a)
{
    switch (fn) {
    case LR_FN_GELU_TANH: return a / (1 + exp(-2 * 0.79788456080286535588 * (a + 0.044715 * a * a * a)));
    case LR_FN_GELU_ERF: return 0.5 * a * erfc(-a / sqrt(2));
    case LR_FN_RELU: return a > 0 ? a : 0;
    case LR_FN_RELU2: return a > 0 ? a * a : 0;
    case LR_FN_SWIGLU_OAI: return a / (1 + exp(-1.702 * a));
    default: return a / (1 + exp(-a));
    }
}

TEST(exponential)
{
    for (int isa = 0; isa < LR_ISA_COUNT; isa++) {
        const lr_kernels *k = kernels(isa);
        if (!k) continue;
        for (int i = 0; i < N; i++) x[i] = -87.3f * (float)i / N;
        k->exp_sum(x, y, N);
        double worst = 0;
        for (int i = 0; i < N; i++) worst = fmax(worst, ulps(y[i], exp((double)x[i])));
        printf("%s: %.2f ulp\n", lr_isa_name((lr_isa)isa), worst);
        CHECK(worst <= 2);
        float far[4] = {0, -200, -INFINITY, -88}, e[4];
        CHECK(k->exp_sum(far, e, 4) == 1.0f);
        CHECK(e[0] == 1.0f && e[1] == 0.0f && e[2] == 0.0f && e[3] == 0.0f);
    }
}

TEST(activations)
{
    /* the argument of the exponential carries roundings of its own, which grow with it: of GELU's, up to 17, four of 2^-24 */
    static const double most[] = {4, 80, 1, 0.1, 0.6, 30};
    for (int isa = 0; isa < LR_ISA_COUNT; isa++) {
        const lr_kernels *k = kernels(isa);
        if (!k) continue;
        for (int fn = 0; fn <= LR_FN_SWIGLU_OAI; fn++) {
            double worst = 0, worst_glu = 0;
            fill(5);
            k->act((lr_fn)fn, x, y, N);
            k->glu((lr_fn)fn, x, u, z, N);
            for (int i = 0; i < N; i++) {
                double a = (double)x[i], b = (double)u[i];
                worst = fmax(worst, ulps(y[i], fn_of((lr_fn)fn, a)));
                if (fn == LR_FN_SWIGLU_OAI)
                    worst_glu = fmax(worst_glu, ulps(z[i], fn_of((lr_fn)fn, a) * (double)(float)(b + 1)));
                else worst_glu = fmax(worst_glu, ulps(z[i], fn_of((lr_fn)fn, a) * b));
            }
            printf("%s fn %d: %.2f and %.2f ulp\n", lr_isa_name((lr_isa)isa), fn, worst, worst_glu);
            CHECK(worst <= most[fn]);
            CHECK(worst_glu <= most[fn] + 2);
        }
        float big[4] = {200, -200, 1e30f, -1e30f}, out[4];
        k->act(LR_FN_SILU, big, out, 4);
        CHECK(out[0] == 200.0f && out[1] == 0.0f && out[2] == 1e30f && out[3] == 0.0f);
        k->glu(LR_FN_SWIGLU_OAI, big, big, out, 2);
        CHECK_NEAR(out[0], 56, 0.01);
        CHECK(out[1] == 0.0f);
    }
}

TEST(soft_cap)
{
    for (int isa = 0; isa < LR_ISA_COUNT; isa++) {
        const lr_kernels *k = kernels(isa);
        if (!k) continue;
        fill(200);
        k->softcap(x, 50, y, N);
        double worst = 0;
        for (int i = 0; i < N; i++) worst = fmax(worst, ulps(y[i], 50 * tanh((double)x[i] / 50)));
        printf("%s: %.2f ulp\n", lr_isa_name((lr_isa)isa), worst);
        CHECK(worst <= 5);
    }
}

TEST(norms)
{
    for (int isa = 0; isa < LR_ISA_COUNT; isa++) {
        const lr_kernels *k = kernels(isa);
        if (!k) continue;
        for (uint32_t n = 1; n < 300; n += n < 70 ? 1 : 37) {
            fill(3);
            double mid = 0, square = 0, var = 0;
            for (uint32_t i = 0; i < n; i++) mid += (double)x[i] / n, square += (double)x[i] * (double)x[i] / n;
            for (uint32_t i = 0; i < n; i++) var += ((double)x[i] - mid) * ((double)x[i] - mid) / n;
            k->rmsnorm(x, u, y, n, 1e-5f);
            k->layernorm(x, u, u, z, n, 1e-5f);
            for (uint32_t i = 0; i < n; i++) {
                CHECK_NEAR(y[i], (double)x[i] / sqrt(square + 1e-5) * (double)u[i], 2e-6);
                CHECK_NEAR(z[i], ((double)x[i] - mid) / sqrt(var + 1e-5) * (double)u[i] + (double)u[i], 2e-4);
            }
            k->rmsnorm(x, NULL, y, n, 1e-5f);
            CHECK_NEAR(y[n - 1], (double)x[n - 1] / sqrt(square + 1e-5), 2e-6);
        }
    }
}

/* Every number is the same alone and anywhere in a row. */
TEST(place_in_the_row)
{
    for (int isa = 0; isa < LR_ISA_COUNT; isa++) {
        const lr_kernels *k = kernels(isa);
        if (!k) continue;
        fill(9);
        for (int op = 0; op < 5 + 2 * (LR_FN_SWIGLU_OAI + 1); op++) {
            for (uint32_t n = 1; n < 40; n++) {
                for (uint32_t step = 0; step < 2; step++) { /* whole, then number by number */
                    float *to = step ? z : y;
                    memset(to, 0x55, 64 * sizeof *to);
                    for (uint32_t i = 0; i < n; i += step ? 1 : n) {
                        uint32_t m = step ? 1 : n;
                        lr_fn fn = (lr_fn)(op >= 5 ? (op - 5) / 2 : 0);
                        if (op == 0) k->add(x + i, u + i, to + i, m);
                        if (op == 1) k->scale(x + i, 1.7f, to + i, m);
                        if (op == 2) k->axpy(1.7f, x + i, to + i, m);
                        if (op == 3) k->softcap(x + i, 3, to + i, m);
                        if (op == 4) k->store_f16(x + i, (uint16_t *)(void *)to + i, m);
                        if (op >= 5 && op % 2) k->act(fn, x + i, to + i, m);
                        if (op >= 5 && op % 2 == 0) k->glu(fn, x + i, u + i, to + i, m);
                    }
                }
                CHECK(!memcmp(y, z, 64 * sizeof *y)); /* and nothing past the end was written */
            }
        }
        k->store_f16(x, (uint16_t *)(void *)y, N);
        for (int i = 0; i < N; i++) CHECK_EQ_INT(((uint16_t *)(void *)y)[i], lr_f32_to_f16(x[i]));
    }
}

TEST(memory_put_out_of_the_caches_keeps_its_bytes)
{
    uint8_t *p = (uint8_t *)y + 5; /* neither its beginning nor its end at a line's */
    for (size_t i = 0; i < 4001; i++) p[i] = (uint8_t)(i * 7);
    if (!lr_cpu_put_out(p, 4001)) SKIP("programs may not, here");
    for (size_t i = 0; i < 4001; i++) CHECK_EQ_INT(p[i], (uint8_t)(i * 7));
}
