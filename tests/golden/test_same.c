/* test_same.c - same in, same out: the tokens and logits of a request depend on nothing but the request.
 *
 * Threads, the size of prompt chunks, who shares the batch, what the prefix cache held, what was cancelled meanwhile:
 * none may change a bit. Each instruction set is held to it by itself (they differ among each other in bf16 only).
 */
#include "base.h"
#include "golden.h"

#include <pthread.h>

#include "teller.inc"

#define N_LONG 150
#define N_GEN 24

typedef struct setup {
    larder_act act;
    larder_kv kv;
    float temperature;
} setup;

static larder_engine_options options_for(const setup *s, uint32_t n_threads, uint32_t n_batch)
{
    larder_engine_options o = options_of(512, s->act, s->kv);
    o.n_threads = n_threads;
    o.n_batch = n_batch;
    return o;
}

/* A prompt several blocks and chunks long: the golden one and what follows it. */
static const int32_t *long_prompt(void)
{
    static int32_t ids[N_LONG];
    for (size_t i = 0; i < N_LONG; i++)
        ids[i] = i < LR_LEN(teller_ids) ? teller_ids[i] : teller_greedy[i - LR_LEN(teller_ids)];
    return ids;
}

/* Any ids, for models that were never taught. */
static const int32_t *any_prompt(const larder_model *m)
{
    static int32_t ids[N_LONG];
    uint64_t z = 7;
    for (size_t i = 0; i < N_LONG; i++) {
        z = z * 6364136223846793005u + 1442695040888963407u;
        ids[i] = (int32_t)((z >> 33) % vocab_of(m));
    }
    return ids;
}

static void check_answer(const answer *got, const answer *want, const char *what)
{
    if (got->n != want->n || memcmp(got->ids, want->ids, got->n * sizeof *got->ids))
        TEST_FAIL("%s: other tokens", what);
    CHECK_EQ_INT(got->finish, want->finish);
    CHECK_EQ_U64(got->n_text, want->n_text);
    CHECK(!memcmp(got->text, want->text, got->n_text));
}

/* ---------------------------------------------------------------- threads and chunks */
static void check_cuts(larder_model *m, const int32_t *ids, const setup *s)
{
    static const uint32_t cuts[][2] = {{1, 1}, {1, 7}, {1, 64}, {2, 512}, {2, 7}, {3, 64}, {2, 1}};
    larder_engine_options o = options_for(s, 1, 512);
    answer want, got;
    larder_engine *e = open_engine(m, &o);
    answer_of(e, ids, N_LONG, N_GEN, s->temperature, 5, &want);
    CHECK_EQ_INT(want.n, N_GEN);
    larder_engine_free(e);
    for (size_t i = 0; i < LR_LEN(cuts); i++) {
        char what[64];
        o = options_for(s, cuts[i][0], cuts[i][1]);
        o.repack = i % 3 == 2;
        snprintf(what, sizeof what, "%u threads, chunks of %u%s", cuts[i][0], cuts[i][1],
                 o.repack ? ", weights copied" : "");
        e = open_engine(m, &o);
        answer_of(e, ids, N_LONG, N_GEN, s->temperature, 5, &got);
        check_answer(&got, &want, what);
        larder_engine_free(e);
    }
}

/* Every bit of every logit. */
static void check_logits(larder_model *m, const int32_t *ids, const setup *s)
{
    static const uint32_t cuts[][2] = {{1, 1}, {2, 7}, {3, 64}, {2, N_LONG}};
    uint64_t n = (uint64_t)N_LONG * vocab_of(m);
    larder_engine_options o = options_for(s, 1, 512);
    o.n_out = N_LONG;
    float *want = logits_of(m, &o, ids, N_LONG);
    for (uint64_t i = 0; i < n; i++) CHECK(isfinite(want[i]));
    for (size_t i = 0; i < LR_LEN(cuts); i++) {
        o = options_for(s, cuts[i][0], 512);
        o.n_out = cuts[i][1];
        float *got = logits_of(m, &o, ids, N_LONG);
        for (uint64_t j = 0; j < n; j++)
            if (memcmp(&got[j], &want[j], 4))
                TEST_FAIL("%u threads, steps of %u: logit %llu of position %llu is %.9g, not %.9g", cuts[i][0],
                          cuts[i][1], (unsigned long long)(j % vocab_of(m)), (unsigned long long)(j / vocab_of(m)),
                          (double)got[j], (double)want[j]);
        free(got);
    }
    free(want);
}

/* ---------------------------------------------------------------- company */
/* Five others of different lengths, one or two steps apart, some cancelled or freed on the way. */
static void check_company(larder_model *m, const int32_t *ids, const setup *s, uint32_t n_threads, bool cancel)
{
    static const uint32_t lengths[] = {1, 33, 5, 64, 100}, gens[] = {60, 3, 40, 9, 20};
    larder_error err;
    larder_engine_options o = options_for(s, n_threads, 40);
    answer want, got, others[5];
    larder_request *r = NULL, *other[5] = {0};
    o.n_seq = 4; /* so that some have to wait */
    larder_engine *e = open_engine(m, &o);
    answer_of(e, ids, N_LONG, N_GEN, s->temperature, 5, &want);
    larder_engine_free(e);

    o.no_prefix_cache = true;
    e = open_engine(m, &o);
    bool busy = true;
    for (uint32_t step = 0; busy || step < 6; step++) {
        if (step < 5)
            other[step] = submit(e, ids + step * 7, lengths[step], gens[step], s->temperature, step, &others[step]);
        if (step == 2) r = submit(e, ids, N_LONG, N_GEN, s->temperature, 5, &got);
        if (cancel && (step == 4 || step == 7)) {
            uint32_t which = step == 4 ? 0 : 3;
            larder_request_free(other[which]);
            other[which] = NULL;
        }
        CHECK_OK(larder_step(e, &busy, &err));
        CHECK(step < 1000);
    }
    check_answer(&got, &want, "in company");
    for (uint32_t i = 0; i < 5; i++) {
        if (other[i]) CHECK_EQ_INT(others[i].n, gens[i]);
        larder_request_free(other[i]);
    }
    larder_request_free(r);
    larder_engine_free(e);
}

/* ---------------------------------------------------------------- prefix cache */
static void check_prefix(larder_model *m, const int32_t *ids, const setup *s)
{
    larder_engine_options o = options_for(s, 2, 64);
    answer want, got;
    o.no_prefix_cache = true;
    larder_engine *e = open_engine(m, &o);
    answer_of(e, ids, N_LONG, N_GEN, s->temperature, 5, &want);
    CHECK_EQ_INT(want.timing.n_cached, 0);
    larder_engine_free(e);

    o.no_prefix_cache = false;
    e = open_engine(m, &o);
    answer_of(e, ids, 70, 5, 0, 1, &got);
    for (int i = 0; i < 3; i++) {
        answer_of(e, ids, N_LONG, N_GEN, s->temperature, 5, &got);
        CHECK(got.timing.n_cached >= (i ? 128 : 64));
        check_answer(&got, &want, "with a cached prefix");
    }
    larder_engine_free(e);
}

static void check_all(larder_model *m, const int32_t *ids, const setup *s)
{
    check_cuts(m, ids, s);
    check_logits(m, ids, s);
    check_company(m, ids, s, 2, false);
    check_company(m, ids, s, 2, true);
    check_prefix(m, ids, s);
}

/* ---------------------------------------------------------------- the model in the box */
static void check_box(const char *isa, setup s)
{
    if (isa) setenv("LARDER_ISA", isa, 1);
    larder_model *m = open_model(BOXED_MODEL);
    check_all(m, long_prompt(), &s);
    larder_model_free(m);
}

TEST(greedy_f16) { check_box(NULL, (setup){LARDER_ACT_AUTO, LARDER_KV_F16, 0}); }
TEST(sampled_f16) { check_box(NULL, (setup){LARDER_ACT_AUTO, LARDER_KV_F16, 1.2f}); }
TEST(greedy_f32) { check_box(NULL, (setup){LARDER_ACT_AUTO, LARDER_KV_F32, 0}); }
TEST(sampled_exact) { check_box(NULL, (setup){LARDER_ACT_F32, LARDER_KV_F32, 0.9f}); }
/* LARDER_ISA names the most a kernel may use; one the machine lacks falls back to what it has. */
TEST_TIME(scalar, 240) { check_box("scalar", (setup){LARDER_ACT_AUTO, LARDER_KV_F16, 0}); }
TEST(avx2) { check_box("avx2", (setup){LARDER_ACT_AUTO, LARDER_KV_F16, 0}); }
TEST(avx512) { check_box("avx512", (setup){LARDER_ACT_AUTO, LARDER_KV_F16, 0}); }

TEST(seeds_differ)
{
    larder_model *m = open_model(BOXED_MODEL);
    larder_engine_options o = options_of(256, LARDER_ACT_AUTO, LARDER_KV_F16);
    larder_engine *e = open_engine(m, &o);
    answer a, b, again;
    answer_of(e, teller_ids, LR_LEN(teller_ids), 40, 1, 1, &a);
    answer_of(e, teller_ids, LR_LEN(teller_ids), 40, 1, 2, &b);
    answer_of(e, teller_ids, LR_LEN(teller_ids), 40, 1, 1, &again);
    CHECK(memcmp(a.ids, b.ids, sizeof a.ids));
    check_answer(&again, &a, "the same seed");
    larder_engine_free(e);
    larder_model_free(m);
}

/* ---------------------------------------------------------------- other architectures */
static void check_golden(const char *folder, larder_act act, const char *type)
{
    char path[4096];
    snprintf(path, sizeof path, "%s", test_shared(folder));
    larder_model *m = type ? converted(path, type) : open_model(path);
    setup s = {act, LARDER_KV_F16, 0};
    check_all(m, any_prompt(m), &s);
    larder_model_free(m);
}

TEST(llama_bf16) { check_golden("golden/llama", LARDER_ACT_AUTO, NULL); }
TEST(llama_f16) { check_golden("golden/llama", LARDER_ACT_AUTO, "F16"); }
TEST(gemma2) { check_golden("golden/gemma2", LARDER_ACT_AUTO, NULL); }
TEST(gemma3_q4_0) { check_golden("golden/gemma3", LARDER_ACT_I8, "Q4_0"); }
TEST(mistral_swa_q8_0) { check_golden("golden/mistral_swa", LARDER_ACT_I8, "Q8_0"); }
TEST(mixtral) { check_golden("golden/mixtral", LARDER_ACT_AUTO, NULL); }
TEST(qwen3_moe_q8_0) { check_golden("golden/qwen3_moe", LARDER_ACT_I8, "Q8_0"); }
TEST(qwen3_fp8) { check_golden("golden/qwen3_fp8", LARDER_ACT_AUTO, NULL); }
TEST(gpt_oss_mxfp4) { check_golden("golden/gpt_oss_mxfp4", LARDER_ACT_AUTO, NULL); }
TEST(gpt_oss_mxfp4_int8) { check_golden("golden/gpt_oss_mxfp4", LARDER_ACT_I8, NULL); }

/* ---------------------------------------------------------------- two engines */
typedef struct side {
    larder_model *m;
    setup s;
    answer want, got;
    bool same;
} side;

static void *run_side(void *arg)
{
    side *x = arg;
    larder_error err;
    x->same = true;
    for (int i = 0; i < 3; i++) {
        larder_engine_options o = options_for(&x->s, 2, i ? 64 : 7);
        larder_engine *e;
        if (larder_engine_open(x->m, &o, &e, &err)) TEST_FAIL("%s", err.message);
        for (int k = 0; k < 2; k++) {
            answer_of(e, long_prompt(), N_LONG, N_GEN, x->s.temperature, 5, &x->got);
            x->same = x->same && !memcmp(x->got.ids, x->want.ids, sizeof x->got.ids);
        }
        larder_engine_free(e);
    }
    return NULL;
}

TEST(two_engines)
{
    static side sides[2];
    pthread_t threads[2];
    long_prompt(); /* made before the threads */
    sides[0] = (side){.m = open_model(BOXED_MODEL), .s = {LARDER_ACT_AUTO, LARDER_KV_F16, 0}};
    sides[1] = (side){.m = open_model(BOXED_MODEL), .s = {LARDER_ACT_F32, LARDER_KV_F32, 1}};
    for (int i = 0; i < 2; i++) {
        larder_engine_options o = options_for(&sides[i].s, 1, 64);
        larder_engine *e = open_engine(sides[i].m, &o);
        answer_of(e, long_prompt(), N_LONG, N_GEN, sides[i].s.temperature, 5, &sides[i].want);
        larder_engine_free(e);
    }
    for (int i = 0; i < 2; i++) CHECK(!pthread_create(&threads[i], NULL, run_side, &sides[i]));
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        CHECK(sides[i].same);
        larder_model_free(sides[i].m);
    }
}
