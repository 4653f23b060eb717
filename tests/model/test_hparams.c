/* test_hparams.c - hyper-parameters out of bounds: each is refused by name, none divides by zero or overflows. */
#include "craft.h"
#include "model.h"

static void refused(craft *c, const char *word)
{
    larder_error err = {0};
    lr_model m;
    larder_status st = lr_model_open(craft_file(c), &m, &err);
    if (st != LARDER_FORMAT && st != LARDER_UNSUPPORTED) TEST_FAIL("%s: %s", word, larder_status_text(st));
    if (!strstr(err.message, word)) TEST_FAIL("\"%s\" does not name %s", err.message, word);
    CHECK(!strchr(err.message, '\n'));
}

TEST(bounds)
{
    static const struct {
        const char *key;
        int64_t value;
    } cases[] = {
        {"block_count", 0},
        {"block_count", 513},
        {"block_count", 1u << 31},
        {"block_count", UINT32_MAX},
        {"block_count", 3},
        {"block_count", 1},
        {"embedding_length", 0},
        {"embedding_length", UINT32_MAX},
        {"embedding_length", 32},
        {"feed_forward_length", 0},
        {"feed_forward_length", 95},
        {"feed_forward_length", UINT32_MAX},
        {"attention.head_count", 0},
        {"attention.head_count", UINT32_MAX},
        {"attention.head_count", 3},
        {"attention.head_count_kv", 0},
        {"attention.head_count_kv", 3},
        {"attention.head_count_kv", 8},
        {"attention.head_count_kv", UINT32_MAX},
        {"attention.key_length", 0},
        {"attention.key_length", 15},
        {"attention.key_length", 32},
        {"attention.key_length", UINT32_MAX},
        {"attention.value_length", 8},
        {"context_length", 0},
        {"context_length", UINT32_MAX},
        {"rope.dimension_count", 0},
        {"rope.dimension_count", 5},
        {"rope.dimension_count", 18},
        {"rope.dimension_count", UINT32_MAX},
        {"attention.sliding_window", UINT32_MAX},
        {"vocab_size", 0},
        {"vocab_size", 41},
        {"vocab_size", UINT32_MAX},
        {"expert_count", UINT32_MAX},
        {"expert_used_count", 1},
        {"rope.scaling.original_context_length", 0},
    };
    for (size_t i = 0; i < LR_LEN(cases); i++) {
        char key[128];
        larder_error err = {0};
        lr_model m;
        craft *c = craft_llama();
        snprintf(key, sizeof key, "llama.%s", cases[i].key);
        craft_int(c, key, cases[i].value);
        larder_status st = lr_model_open(craft_file(c), &m, &err);
        if (st != LARDER_FORMAT && st != LARDER_UNSUPPORTED)
            TEST_FAIL("%s = %lld: %s", key, (long long)cases[i].value, larder_status_text(st));
        CHECK(err.message[0]);
        craft_free(c);
    }
}

TEST(numbers_that_are_none)
{
    static const char *const keys[] = {"attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.scaling.factor",
                                       "rope.scaling.attn_factor", "attention.scale"};
    static const double values[] = {NAN, INFINITY, -INFINITY, -1, 1e30};
    for (size_t k = 0; k < LR_LEN(keys); k++) {
        for (size_t v = 0; v < LR_LEN(values); v++) {
            char key[128];
            craft *c = craft_llama();
            snprintf(key, sizeof key, "llama.%s", keys[k]);
            craft_real(c, key, values[v]);
            refused(c, key);
            craft_free(c);
        }
    }
    craft *c = craft_llama();
    craft_real(c, "llama.rope.freq_base", 0);
    refused(c, "llama.rope.freq_base");
    craft_free(c);
}

/* Every key in a type that cannot mean it, and every key missing. */
TEST(wrong_types_and_missing_keys)
{
    static const uint32_t many[2] = {1, 2};
    craft *whole = craft_llama();
    for (size_t i = 0; i < whole->f.n_kv; i++) {
        char key[128];
        craft *c = craft_llama();
        snprintf(key, sizeof key, "%.*s", LR_STR_ARG(whole->kv[i].key));
        craft_set(c, key, LR_KV_ARR, LR_KV_U32, 2, many, sizeof many);
        refused(c, key);
        if (whole->kv[i].type != LR_KV_STR) {
            craft_str(c, key, "7");
            refused(c, key);
        }
        craft_drop_key(c, key);
        bool optional = strstr(key, "name") || strstr(key, "kv") || strstr(key, "freq_base");
        if (!optional) refused(c, key);
        craft_free(c);
    }
    craft_free(whole);
}

TEST(missing_and_misshapen_tensors)
{
    craft *whole = craft_llama();
    for (size_t i = 0; i < whole->f.n_tensors; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s", whole->tensors[i].name.p);
        craft *c = craft_llama();
        lr_tensor *t = craft_find(c, name);
        for (int d = 0; d < 4; d++) {
            uint64_t was = t->ne[d];
            t->ne[d] = was + 1;
            refused(c, strstr(name, "token_embd") ? "" : name);
            t->ne[d] = was;
        }
        t->fmt = 513;
        refused(c, name);
        t->fmt = LR_FMT_F32;
        craft_drop(c, name);
        if (strcmp(name, "output.weight")) refused(c, name);
        craft_free(c);
    }
    craft_free(whole);
}

/* A tensor without a place would be left out of the arithmetic: refused, from both kinds of file. */
TEST(tensors_without_a_place)
{
    craft *c = craft_llama();
    craft_tensor(c, "blk.0.attn_q_norm.weight", CRAFT_DIM, 1, 1);
    refused(c, "attn_q_norm");
    craft_free(c);
    c = craft_llama();
    craft_tensor(c, "blk.1.attn_q.bias", CRAFT_EMBD, 1, 1);
    refused(c, "attn_q.bias");
    craft_free(c);
    c = craft_hub("llama");
    craft_tensor(c, "model.layers.0.self_attn.q_norm.weight", CRAFT_DIM, 1, 1);
    refused(c, "attn_q_norm");
    craft_free(c);
    c = craft_hub("llama");
    craft_tensor(c, "model.layers.2.self_attn.q_proj.weight", CRAFT_EMBD, CRAFT_EMBD, 1);
    refused(c, "model.layers.2");
    craft_free(c);
}

TEST(hub_bounds)
{
    static const char *const keys[] = {
        "num_hidden_layers",   "hidden_size", "intermediate_size", "num_attention_heads",
        "num_key_value_heads", "head_dim",    "vocab_size",        "max_position_embeddings"};
    static const int64_t values[] = {0, -1, 1, 3, 1ll << 31, INT64_MAX, INT64_MIN};
    for (size_t k = 0; k < LR_LEN(keys); k++) {
        for (size_t v = 0; v < LR_LEN(values); v++) {
            char key[128];
            larder_error err = {0};
            lr_model m;
            craft *c = craft_hub("llama");
            snprintf(key, sizeof key, "config.%s", keys[k]);
            craft_int(c, key, values[v]);
            larder_status st = lr_model_open(craft_file(c), &m, &err);
            bool fine = !strcmp(keys[k], "max_position_embeddings") && (values[v] == 1 || values[v] == 3);
            if (fine) {
                CHECK_OK(st);
                lr_model_close(&m);
            } else {
                CHECK(st == LARDER_FORMAT || st == LARDER_UNSUPPORTED);
            }
            craft_free(c);
        }
    }
}

TEST(hub_wrong_types)
{
    craft *whole = craft_hub("llama");
    for (size_t i = 0; i < whole->f.n_kv; i++) {
        char key[128];
        craft *c = craft_hub("llama");
        snprintf(key, sizeof key, "%.*s", LR_STR_ARG(whole->kv[i].key));
        craft_set(c, key, LR_KV_ARR, LR_KV_BOOL, 0, "", 0);
        refused(c, key);
        craft_free(c);
    }
    craft_free(whole);
}

TEST(tokens_beyond_the_embedding)
{
    static const uint8_t strings[41 * 8];
    craft *c = craft_llama();
    craft_set(c, "tokenizer.ggml.tokens", LR_KV_ARR, LR_KV_STR, 41, strings, sizeof strings);
    refused(c, "tokenizer.ggml.tokens");
    craft_free(c);
}

TEST(unknown_architectures)
{
    craft *c = craft_llama();
    craft_str(c, "general.architecture", "mystery");
    refused(c, "qwen3moe");
    craft_free(c);
    c = craft_hub("mystery");
    refused(c, "qwen3_moe");
    craft_free(c);
}

TEST(quantised_on_the_hub)
{
    craft *c = craft_hub("llama");
    craft_str(c, "config.quantization_config.quant_method", "awq");
    refused(c, "awq");
    craft_free(c);
}

/* Experts: counts that do not fit, and matrices that are missing, misshapen or twice there. */
TEST(experts)
{
    craft *c = craft_hub("mixtral");
    for (size_t i = 0; i < c->f.n_tensors;) {
        if (strstr(c->tensors[i].name.p, ".mlp.")) c->tensors[i] = c->tensors[--c->f.n_tensors];
        else i++;
    }
    for (int l = 0; l < CRAFT_LAYERS; l++) {
        char name[128];
        snprintf(name, sizeof name, "model.layers.%d.block_sparse_moe.gate.weight", l);
        craft_tensor(c, name, CRAFT_EMBD, 3, 1);
        for (int e = 0; e < 3; e++) {
            for (int w = 1; w <= 3; w++) {
                snprintf(name, sizeof name, "model.layers.%d.block_sparse_moe.experts.%d.w%d.weight", l, e, w);
                craft_tensor(c, name, w == 2 ? CRAFT_FF : CRAFT_EMBD, w == 2 ? CRAFT_EMBD : CRAFT_FF, 1);
            }
        }
    }
    larder_error err;
    lr_model m;
    craft_int(c, "config.num_local_experts", 3);
    craft_int(c, "config.num_experts_per_tok", 2);
    CHECK_OK(lr_model_open(craft_file(c), &m, &err));
    const lr_tensor *t = lr_file_tensor(&m.view, LR_STR("blk.1.ffn_down_exps.weight"));
    CHECK(t && t->mats && t->ne[2] == 3);
    lr_model_close(&m);
    craft_int(c, "config.num_experts_per_tok", 4);
    refused(c, "expert_used_count");
    craft_int(c, "config.num_experts_per_tok", 0);
    refused(c, "expert_used_count");
    craft_int(c, "config.num_experts_per_tok", 2);
    craft_int(c, "config.num_local_experts", 2);
    refused(c, "experts.2");
    craft_int(c, "config.num_local_experts", 4);
    refused(c, "expert 3");
    craft_int(c, "config.num_local_experts", 3);
    craft_find(c, "model.layers.1.block_sparse_moe.experts.1.w2.weight")->ne[1]++;
    refused(c, "experts.1.w2");
    craft_find(c, "model.layers.1.block_sparse_moe.experts.1.w2.weight")->ne[1]--;
    craft_drop(c, "model.layers.1.block_sparse_moe.experts.1.w2.weight");
    refused(c, "expert 1");
    craft_free(c);
}
