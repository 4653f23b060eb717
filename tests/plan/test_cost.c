/* Costs of programs against sums by hand, and sizes of files that are known. */
#include "cost.h"
#include "preset.h"

static void size_is(const char *name, const char *format, double gib, double params, double tolerance)
{
    lr_catalogue c;
    lr_plan_model m;
    open_model(&c, name, format, &m);
    if (!(fabs(m.file_bytes / (double)LR_GIB / gib - 1) <= tolerance))
        TEST_FAIL("%s %s: %.3f GiB, not %.3f", name, format, m.file_bytes / (double)LR_GIB, gib);
    CHECK_NEAR(m.total / params, 1, 0.005);
    lr_plan_model_close(&m);
    lr_catalogue_close(&c);
}

/* As llama.cpp states them when it loads the published files. */
TEST(sizes_of_known_files)
{
    size_is("Llama-2-7B", "F16", 12.55, 6.738e9, 0.005);
    size_is("Llama-2-7B", "Q8_0", 6.67, 6.738e9, 0.005);
    size_is("Llama-2-7B", "Q4_0", 3.56, 6.738e9, 0.005);
    size_is("Llama-3-8B", "Q4_K_M", 4.58, 8.03e9, 0.005);
    size_is("Llama-3-8B", "F16", 14.96, 8.03e9, 0.005);
    size_is("Llama-3-70B", "Q4_K_M", 39.59, 70.55e9, 0.005);
    size_is("Llama-3-70B", "F16", 131.42, 70.55e9, 0.005);
    size_is("Qwen2.5-7B", "Q8_0", 7.54, 7.62e9, 0.005);
    size_is("gpt-oss-20b", "MXFP4", 11.27, 20.91e9, 0.02);
    size_is("gpt-oss-120b", "MXFP4", 59.02, 116.83e9, 0.02);
    size_is("Qwen3-30B-A3B", "Q4_K_M", 17.28, 30.53e9, 0.01);
    size_is("Gemma-3-27B", "Q8_0", 26.73, 27.01e9, 0.01);
    size_is("Phi-4", "Q8_0", 14.51, 14.66e9, 0.01);
}

TEST(every_preset_plans)
{
    lr_catalogue c;
    larder_error err = {0};
    CHECK_OK(lr_catalogue_open(&c, &err));
    for (size_t i = 0; i < c.n_models; i++) {
        static const char *const formats[] = {"F16", "Q8_0", "Q4_K_M", "Q2_K", "FP8", "NVFP4"};
        for (size_t k = 0; k < LR_LEN(formats); k++) {
            lr_plan_model m;
            lr_quant_name q;
            lr_cost one;
            lr_step_size s = {1, 1, 1, 100, 2};
            CHECK(lr_quant_find(formats[k], &q));
            larder_status st = lr_plan_model_preset(&c.models[i], &q, &m, &err);
            if (st) TEST_FAIL("%s %s: %s", c.models[i].shape.name, formats[k], err.message);
            lr_cost_step(&m, &s, &one, NULL, NULL);
            CHECK(one.weight_bytes > 0 && one.weight_bytes <= m.file_bytes * 1.2 && one.kv_read > 0 &&
                  one.dense_ops > 0);
            CHECK(m.active <= m.total * 1.0001);
            lr_plan_model_close(&m);
        }
    }
    lr_catalogue_close(&c);
}

/* Llama 2 7B, one token at depth 99: by the paper's figures. */
TEST(one_token_by_hand)
{
    lr_catalogue c;
    lr_plan_model m;
    lr_cost one;
    lr_step_size s = {1, 1, 1, 99, 2};
    open_model(&c, "Llama-2-7B", "F16", &m);
    lr_cost_step(&m, &s, &one, NULL, NULL);
    double layer = 4.0 * 4096 * 4096 + 3.0 * 4096 * 11008, head = 4096.0 * 32000;
    double norms = 4 * 4096.0 * (2 * 32 + 1), row = 2 * 4096.0;
    CHECK_NEAR(one.weight_bytes, 2 * (32 * layer + head) + norms + row, 1);
    CHECK_NEAR(one.dense_ops, 2 * (32 * layer + head), 1);
    CHECK_NEAR(one.kv_read, 32 * 2 * 4096.0 * 100 * 2, 1);
    CHECK_NEAR(one.kv_write, 32 * 2 * 4096.0 * 2, 1);
    CHECK_NEAR(one.attn_ops, 4 * 100.0 * 4096 * 32, 1);
    CHECK_NEAR(lr_cost_cache(&m, 4096, 2, 2), 4096 * 2 * 32 * 2 * 4096.0 * 2, 1);
    lr_plan_model_close(&m);
    lr_catalogue_close(&c);
}

TEST(experts_of_a_batch)
{
    CHECK_NEAR(lr_cost_experts(128, 8, 1), 8, 1e-9);
    CHECK_NEAR(lr_cost_experts(8, 8, 3), 8, 1e-9);
    CHECK_NEAR(lr_cost_experts(32, 4, 2), 32 * (1 - 0.875 * 0.875), 1e-9);
    CHECK(lr_cost_experts(128, 8, 1000) > 127.99);
    /* and against throwing dice */
    double sum = 0;
    for (int round = 0; round < 4000; round++) {
        bool seen[32] = {false};
        int n = 0;
        for (int t = 0; t < 10; t++) {
            bool mine[32] = {false};
            for (int k = 0; k < 4;) {
                int e = (int)(test_random() % 32);
                if (mine[e]) continue;
                mine[e] = true;
                k++;
                n += !seen[e];
                seen[e] = true;
            }
        }
        sum += n;
    }
    CHECK_NEAR(sum / 4000, lr_cost_experts(32, 4, 10), 0.2);
}

/* Windows bound what is read: gpt-oss slides on every second layer. */
TEST(windows)
{
    lr_catalogue c;
    lr_plan_model m;
    lr_cost near, far;
    open_model(&c, "gpt-oss-20b", "MXFP4", &m);
    lr_step_size s = {1, 1, 1, 127, 2};
    lr_cost_step(&m, &s, &near, NULL, NULL);
    s.depth = 12799;
    lr_cost_step(&m, &s, &far, NULL, NULL);
    double row = 2 * 8 * 64.0 * 2;
    CHECK_NEAR(near.kv_read - near.kv_write * 0, 24 * 128 * row, 1);
    CHECK_NEAR(far.kv_read, 12 * 12800 * row + 12 * 129 * row, 12 * row * 2);
    lr_plan_model_close(&m);
    lr_catalogue_close(&c);
}

TEST(what_if)
{
    lr_machine m = {.bw = 1, .memory = 1};
    larder_error err = {0};
    CHECK_OK(lr_machine_change(&m, "bandwidth=546,memory=256", &err));
    CHECK_NEAR(m.bw, 546e9, 1);
    CHECK_NEAR(m.memory, 256 * (double)LR_GIB, 1);
    static const char *const bad[] = {"bandwidth=0", "bandwidth=nan",   "bandwidth=-3", "bandwidth",
                                      "colour=3",    "bandwidth=1e999", "bandwidth=5x"};
    for (size_t i = 0; i < LR_LEN(bad); i++) CHECK_STATUS(lr_machine_change(&m, bad[i], &err), LARDER_USAGE);
}

/* More bandwidth is never slower, more depth never faster, and nothing passes the ceiling. */
TEST(monotonic)
{
    lr_catalogue c;
    lr_plan_model m;
    open_model(&c, "llama-3.1-8b", "Q4_K_M", &m);
    for (size_t i = 0; i < c.n_machines; i++) {
        lr_machine a = c.machines[i];
        lr_setup s = lr_setup_usual(&a);
        lr_features f;
        lr_prediction p, last = {0};
        for (double depth = 0; depth < 40000; depth += 8000) {
            lr_features_make(&a, &m, &s, LR_TASK_DECODE, 1, 1, depth, &f);
            lr_predict(&f, &p);
            CHECK(p.rate > 0 && p.rate <= p.ceiling && p.low <= p.rate && p.rate <= p.high);
            if (depth > 0 && p.rate > last.rate * 1.02) TEST_FAIL("%s: faster at depth %.0f", a.name, depth);
            last = p;
        }
        lr_features_make(&a, &m, &s, LR_TASK_DECODE, 1, 1, 0, &f);
        lr_predict(&f, &p);
        a.bw *= 2;
        lr_features_make(&a, &m, &s, LR_TASK_DECODE, 1, 1, 0, &f);
        lr_predict(&f, &last);
        if (last.rate < p.rate) TEST_FAIL("%s: slower with twice the bandwidth", a.name);
    }
    lr_plan_model_close(&m);
    lr_catalogue_close(&c);
}

/* Any plan in under 50 ms, all machines in under a second (a machine that is busy gets three times that). */
TEST(speed)
{
    lr_catalogue c;
    lr_plan_model m;
    larder_error err = {0};
    uint64_t t0 = lr_now_ns();
    open_model(&c, "llama-3.1-405b", "Q4_K_M", &m);
    lr_machine spark;
    lr_outlook o;
    lr_ask ask = {.n_users = 20, .kwh = 0.3};
    CHECK(lr_machine_find(&c, "dgx spark", LR_WANT_ANY, &spark));
    lr_setup s = lr_setup_usual(&spark);
    lr_outlook_make(&spark, &m, &s, &ask, &o);
    double plan = (double)(lr_now_ns() - t0) * 1e-6;
    lr_buf b = {0};
    t0 = lr_now_ns();
    CHECK_OK(lr_rank(&c, &m, &ask, LR_BY_SPEED, true, &b, &err));
    double rank = (double)(lr_now_ns() - t0) * 1e-6;
    printf("a plan %.1f ms, a ranking %.1f ms\n", plan, rank);
    CHECK(plan < 150 && rank < 3000);
    lr_buf_free(&b);
    lr_plan_model_close(&m);
    lr_catalogue_close(&c);
}
