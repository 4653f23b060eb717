/* test_embed.c - texts as vectors: the hidden states are transformers' own, and neither parts nor company change a bit. */
#include "base.h"
#include "golden.h"

#include "teller.inc"

static float *embedding_of(larder_engine *e, const int32_t *ids, size_t n, larder_pooling pooling, uint32_t n_embd)
{
    larder_error err;
    float *out = malloc(n_embd * sizeof *out);
    CHECK_OK(larder_embed(e, ids, n, pooling, out, NULL, NULL, &err));
    return out;
}

/* b.hidden.N, the last N: [n_ids, n_embd] after the final norm. */
static const float *last_hidden(const safet *golden, uint32_t n_layer, uint64_t *n)
{
    char name[32];
    snprintf(name, sizeof name, "b.hidden.%u", n_layer);
    return safet_f32(golden, name, NULL, n);
}

static void check_folder(const char *folder)
{
    char path[4200];
    safet golden;
    snprintf(path, sizeof path, "%s/golden.safetensors", folder);
    if (!safet_open(path, &golden)) TEST_FAIL("%s", path);
    larder_model *m = open_model(folder);
    larder_model_info info;
    larder_model_get_info(m, &info);
    uint64_t n_ids, n;
    const int32_t *ids = safet_i32(&golden, "b.ids", NULL, &n_ids);
    const float *hidden = last_hidden(&golden, info.n_layer, &n);
    CHECK(ids && hidden);
    CHECK_EQ_U64(n, n_ids * info.n_embd);
    larder_engine_options o = exact_options(32);
    o.n_embed = 512;
    larder_engine *e = open_engine(m, &o);
    float *mean = calloc(info.n_embd, sizeof *mean);
    for (uint64_t i = 0; i < n; i++) mean[i % info.n_embd] += hidden[i] / (float)n_ids;
    float *got = embedding_of(e, ids, n_ids, LARDER_POOL_MEAN, info.n_embd);
    float *last = embedding_of(e, ids, n_ids, LARDER_POOL_LAST, info.n_embd);
    double a = relative_error(got, mean, info.n_embd),
           b = relative_error(last, hidden + n - info.n_embd, info.n_embd);
    printf("%s: mean %.2e, last %.2e\n", strrchr(folder, '/') + 1, a, b);
    CHECK(a <= 1e-4 && b <= 1e-4);
    free(mean);
    free(got);
    free(last);
    larder_engine_free(e);
    larder_model_free(m);
    safet_close(&golden);
}

TEST(hidden_states_of_every_decoder)
{
    static const char *const cases[] = {"llama",        "llama_mha_tied", "llama_bias", "llama31_rope", "llama_yarn",
                                        "llama_linear", "mistral_swa",    "mixtral",    "qwen2",        "qwen3",
                                        "qwen3_moe",    "gemma2",         "gemma3",     "phi3",         "gpt_oss"};
    char folder[64];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(folder, sizeof folder, "golden/%s", cases[i]);
        check_folder(test_shared(folder));
    }
}

static bool step(void *user)
{
    larder_error err;
    CHECK_OK(larder_step(user, NULL, &err));
    return true;
}

TEST(parts_and_company_change_nothing)
{
    larder_model *m = open_model(BOXED_MODEL);
    larder_model_info info;
    larder_model_get_info(m, &info);
    size_t bytes = info.n_embd * sizeof(float), n = LR_LEN(teller_greedy);
    float *want[2] = {NULL, NULL};
    answer alone;
    static const uint32_t parts[] = {512, 1, 7, 32, 100};
    for (size_t i = 0; i < LR_LEN(parts); i++) {
        larder_error err;
        larder_engine_options o = options_of(512, LARDER_ACT_AUTO, LARDER_KV_AUTO);
        o.n_seq = 3;
        o.n_embed = parts[i];
        o.n_threads = 1 + (uint32_t)i % 2;
        larder_engine *e = open_engine(m, &o);
        if (!i) answer_of(e, teller_ids, LR_LEN(teller_ids), 60, 0, 0, &alone);
        for (int k = 0; k < 2; k++) {
            float *got = embedding_of(e, teller_greedy, n, (larder_pooling)k, info.n_embd);
            if (want[k]) CHECK(!memcmp(got, want[k], bytes));
            else want[k] = malloc(bytes), memcpy(want[k], got, bytes);
            /* with a request answered between its parts, the cache shared */
            answer a;
            larder_request *r = submit(e, teller_ids, LR_LEN(teller_ids), 60, 0, 0, &a);
            CHECK_OK(larder_embed(e, teller_greedy, n, (larder_pooling)k, got, step, e, &err));
            CHECK(!memcmp(got, want[k], bytes));
            CHECK_OK(larder_wait(e, r, &err));
            larder_request_free(r);
            CHECK(a.n == alone.n && !memcmp(a.ids, alone.ids, a.n * sizeof *a.ids));
            free(got);
        }
        larder_engine_stats s;
        larder_engine_get_stats(e, &s);
        CHECK_EQ_INT(s.n_block_used, 0);
        larder_engine_free(e);
    }
    free(want[0]);
    free(want[1]);
    larder_model_free(m);
}

TEST(refusals)
{
    larder_model *m = open_model(BOXED_MODEL);
    larder_model_info info;
    larder_model_get_info(m, &info);
    larder_error err;
    float *out = malloc(info.n_embd * sizeof *out);
    larder_engine_options o = options_of(64, LARDER_ACT_AUTO, LARDER_KV_AUTO);
    larder_engine *e = open_engine(m, &o);
    CHECK_EQ_INT(larder_embed(e, teller_ids, 4, LARDER_POOL_MEAN, out, NULL, NULL, &err), LARDER_USAGE);
    larder_engine_free(e);
    o.n_embed = 16;
    e = open_engine(m, &o);
    int32_t bad[] = {3, -1}, foreign[] = {(int32_t)info.n_vocab};
    CHECK_EQ_INT(larder_embed(e, bad, 0, LARDER_POOL_MEAN, out, NULL, NULL, &err), LARDER_USAGE);
    CHECK_EQ_INT(larder_embed(e, bad, 2, LARDER_POOL_MEAN, out, NULL, NULL, &err), LARDER_USAGE);
    CHECK_EQ_INT(larder_embed(e, foreign, 1, LARDER_POOL_MEAN, out, NULL, NULL, &err), LARDER_USAGE);
    CHECK_EQ_INT(larder_embed(e, teller_greedy, 65, LARDER_POOL_MEAN, out, NULL, NULL, &err), LARDER_LIMIT);
    answer a; /* it holds the whole cache */
    larder_request *r = submit(e, teller_ids, LR_LEN(teller_ids), 64, 0, 0, &a);
    CHECK_OK(larder_step(e, NULL, &err));
    CHECK_EQ_INT(larder_embed(e, teller_greedy, 64, LARDER_POOL_MEAN, out, NULL, NULL, &err), LARDER_LIMIT);
    larder_request_free(r);
    CHECK_OK(larder_embed(e, teller_greedy, 64, LARDER_POOL_MEAN, out, NULL, NULL, &err));
    larder_engine_free(e);
    larder_model_free(m);
    free(out);
}
