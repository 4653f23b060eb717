/* Seconds of larder's own engine from times of its kernels: against sums by hand. */
#include "own.h"
#include "preset.h"

static lr_own steady(uint32_t fmt, double s)
{
    lr_own o = {
        .n_formats = 1, .layer_s = 1e-6, .row_s = 0, .kv_byte_s = {1e-11, 2e-11}, .attn_op_s = {1e-12, 1e-12}};
    o.formats[0].fmt = fmt;
    for (int i = 0; i < LR_OWN_ROWS; i++) o.formats[0].s[i] = s * lr_own_rows[i];
    o.kv_in_cache = 1;
    return o;
}

/* Llama 2 7B in F16: 32 layers of 4 x 4096^2 + 3 x 4096 x 11008 numbers, heads of 128. */
TEST(a_step_by_hand)
{
    lr_catalogue c;
    lr_plan_model m;
    lr_own_model sum;
    open_model(&c, "Llama-2-7B", "F16", &m);
    CHECK(lr_own_model_make(&m, &sum));
    lr_own o = steady(LR_FMT_F16, 1e-12);
    /* behind the last attention only the row of logits goes on */
    double last = 4096.0 * 4096 + 3.0 * 4096 * 11008, head = 4096.0 * 32000 + last;
    double layers = 32 * (4.0 * 4096 * 4096 + 3.0 * 4096 * 11008) - last;
    lr_own_seq one = {.n = 1, .n_tok = 1, .depth = 99};
    double want = (layers + head) * 1e-12 + 32e-6 + 32 * 2 * 100 * 4096.0 * 2 * 2e-11;
    double part[LR_PARTS] = {0}, all = 0;
    CHECK_NEAR(lr_own_step(&o, &sum, &one, 1, 1, 2, part) / want, 1, 1e-9);
    for (int i = 0; i < LR_PARTS; i++) all += part[i];
    CHECK_NEAR(all / want, 1, 1e-9);
    /* ten tokens of a prompt, one row of logits; between measured rows the times are lines on logarithms: here, straight */
    lr_own_seq chunk = {.n = 1, .n_tok = 10, .depth = 0};
    want = (10 * layers + head) * 1e-12 + 32e-6;
    double ops = 32 * 4 * 10 * 5.5 * 4096.0, bytes = 32 * 2 * 10 * 4096.0 * 2;
    want += LR_MAX(ops * 1e-12, bytes * 2e-11);
    CHECK_NEAR(lr_own_step(&o, &sum, &chunk, 1, 1, 2, NULL) / want, 1, 1e-9);
    /* sequences alike are as many as they are */
    lr_own_seq three[3] = {{1, 1, 50}, {1, 1, 50}, {1, 1, 50}}, same = {3, 1, 50};
    CHECK_NEAR(lr_own_step(&o, &sum, three, 3, 3, 2, NULL), lr_own_step(&o, &sum, &same, 1, 3, 2, NULL), 1e-12);
    /* a format that was not timed takes what the nearest takes per byte */
    lr_own q8 = steady(LR_FMT_Q8_0, 1e-12);
    CHECK_NEAR(lr_own_step(&q8, &sum, &one, 1, 1, 2, NULL) / lr_own_step(&o, &sum, &one, 1, 1, 2, NULL), 2 / 1.0625,
               0.2);
    lr_plan_model_close(&m);
    lr_catalogue_close(&c);
}

TEST(experts_and_windows)
{
    lr_catalogue c;
    lr_plan_model m;
    lr_own_model sum;
    open_model(&c, "gpt-oss-20b", "MXFP4", &m);
    CHECK(lr_own_model_make(&m, &sum));
    CHECK_EQ_INT(sum.n_attend, 2); /* every second layer slides */
    lr_own o = steady(LR_FMT_MXFP4, 1e-12);
    lr_own_seq near = {1, 1, 100}, far = {1, 1, 10000};
    CHECK(lr_own_step(&o, &sum, &far, 1, 1, 2, NULL) > lr_own_step(&o, &sum, &near, 1, 1, 2, NULL));
    double last = 0; /* more answers at once never cost less, and less than as many steps */
    for (double n = 1; n <= 64; n *= 2) {
        lr_own_seq seqs = {n, 1, 100};
        double s = lr_own_step(&o, &sum, &seqs, 1, n, 2, NULL);
        CHECK(s > last && (n < 2 || s <= 2 * last * 1.0001));
        last = s;
    }
    lr_plan_model_close(&m);
    lr_catalogue_close(&c);
}

/* What the last cache saves: all of it at one row, nothing where arithmetic takes longer; and a pause loses it. */
TEST(in_the_cache)
{
    lr_catalogue c;
    lr_plan_model m;
    lr_own_model sum;
    open_model(&c, "SmolLM2-135M", "Q8_0", &m);
    CHECK(lr_own_model_make(&m, &sum));
    lr_own o = steady(LR_FMT_Q8_0, 1e-12);
    o.cache_bytes = 1e9;
    for (int i = 0; i < LR_OWN_FILLS; i++) o.in_cache[i] = 0.4;
    o.cache_gain[0] = 1;
    lr_own_seq one = {1, 1, 0}, many = {1, 512, 0};
    double near = lr_own_step(&o, &sum, &one, 1, 1, 2, NULL), prompt = lr_own_step(&o, &sum, &many, 1, 1, 2, NULL);
    lr_own far = o;
    for (int i = 0; i < LR_OWN_FILLS; i++) far.in_cache[i] = 1;
    CHECK(near < 0.7 * lr_own_step(&far, &sum, &one, 1, 1, 2, NULL));
    CHECK_NEAR(prompt / lr_own_step(&far, &sum, &many, 1, 1, 2, NULL), 1, 0.01);
    CHECK_NEAR(lr_own_pause(&o, &sum), 0, 1e-15);
    o.idle = 1;
    CHECK_NEAR((near + lr_own_pause(&o, &sum)) / lr_own_step(&far, &sum, &one, 1, 1, 2, NULL), 1, 0.1);
    lr_plan_model_close(&m);
    lr_catalogue_close(&c);
}

/* On a machine whose kernels are known, predictions come from them, and stay below the ceiling. */
TEST(predictions_use_them)
{
    lr_catalogue c;
    lr_plan_model m;
    lr_features f;
    lr_prediction p;
    open_model(&c, "llama-3.1-8b", "Q8_0", &m);
    lr_own o = steady(LR_FMT_Q8_0, 0);
    for (int i = 0; i < LR_OWN_ROWS; i++) o.formats[0].s[i] = 2e-11 * LR_MAX(1, lr_own_rows[i] / 64);
    lr_machine here = {.id = -1, .kind = LR_KIND_CPU, .gen = LR_GEN_CPU, .unified = true, .count = 1, .usable = 1};
    here.memory = 64e9;
    here.bw = here.host_bw = 80e9;
    here.fp32 = 1e12;
    here.int8 = 4e12;
    here.own = &o;
    lr_setup s = lr_setup_usual(&here);
    s.engine = LR_ENGINE_LARDER;
    lr_features_make(&here, &m, &s, LR_TASK_DECODE, 1, 1, 0, &f);
    lr_predict(&f, &p);
    CHECK(f.has_own);
    CHECK_NEAR(p.seconds, 7.5e9 * 2e-11, 0.01); /* the embedding's half a billion are looked up */
    CHECK(p.rate <= p.ceiling && p.low < p.rate && p.high > p.rate);
    o.formats[0].s[0] = 1e-15; /* faster than the memory: not believed */
    lr_features_make(&here, &m, &s, LR_TASK_DECODE, 1, 1, 0, &f);
    lr_predict(&f, &p);
    CHECK(p.rate <= p.ceiling * (1 + 1e-12));
    lr_plan_model_close(&m);
    lr_catalogue_close(&c);
}
