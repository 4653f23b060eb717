/* test_hub.c - config.json as it was written over the years: what a missing or old setting means. */
#include "craft.h"
#include "model.h"

static void opened(craft *c, lr_model *m, lr_program *p)
{
    larder_error err;
    CHECK_OK(lr_model_open(craft_file(c), m, &err));
    CHECK_OK(lr_model_program(m, 64, p, &err));
}

static void closed(craft *c, lr_model *m, lr_program *p)
{
    lr_program_free(p);
    lr_model_close(m);
    craft_free(c);
}

static double key_of(const lr_model *m, const char *key)
{
    double v = -1;
    const lr_kv *kv = lr_file_key(&m->view, key);
    CHECK(kv && lr_kv_number(kv, 0, &v));
    return v;
}

/* The window of layer l's attention. */
static uint32_t window_of(const lr_program *p, uint32_t l)
{
    for (uint32_t i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind == LR_OP_ATTEND && p->ops[i].layer == l) return p->ops[i].attn.window;
    }
    TEST_FAIL("layer %u has no attention", l);
}

TEST(keys_are_as_gguf_has_them)
{
    lr_model m;
    lr_program p;
    craft *c = craft_hub("llama");
    opened(c, &m, &p);
    CHECK_EQ_INT(key_of(&m, "llama.block_count"), CRAFT_LAYERS);
    CHECK_EQ_INT(key_of(&m, "llama.attention.head_count_kv"), CRAFT_KV);
    CHECK_EQ_INT(key_of(&m, "llama.attention.key_length"), CRAFT_DIM);
    CHECK_EQ_INT(key_of(&m, "llama.rope.dimension_count"), CRAFT_DIM);
    CHECK_EQ_INT(key_of(&m, "llama.vocab_size"), CRAFT_VOCAB);
    CHECK_EQ_INT(lr_file_key(&m.view, "llama.block_count")->type, LR_KV_U32);
    CHECK_EQ_INT(lr_file_key(&m.view, "llama.rope.freq_base")->type, LR_KV_F32);
    CHECK(lr_str_is(m.name, "crafted"));
    closed(c, &m, &p);
}

TEST(tied_only_if_it_says_so)
{
    lr_model m;
    lr_program p;
    craft *c = craft_hub("llama");
    craft_bool(c, "config.tie_word_embeddings", true);
    opened(c, &m, &p);
    CHECK_EQ_INT(p.ops[p.n_ops - 1].w, p.ops[0].w);
    closed(c, &m, &p);
}

TEST(mistral_slides_everywhere)
{
    lr_model m;
    lr_program p;
    craft *c = craft_hub("mistral");
    craft_int(c, "config.sliding_window", 24);
    opened(c, &m, &p);
    CHECK_EQ_INT(window_of(&p, 0), 24);
    CHECK_EQ_INT(window_of(&p, 1), 24);
    CHECK(!lr_file_key(&m.view, "llama.attention.sliding_window_pattern"));
    closed(c, &m, &p);
}

/* Qwen's files name a window they do not use. */
TEST(qwen2_slides_on_request)
{
    for (int wanted = 0; wanted < 2; wanted++) {
        lr_model m;
        lr_program p;
        craft *c = craft_hub("qwen2");
        craft_int(c, "config.sliding_window", 24);
        craft_int(c, "config.max_window_layers", 1);
        craft_bool(c, "config.use_sliding_window", wanted);
        opened(c, &m, &p);
        CHECK_EQ_INT(window_of(&p, 0), 0);
        CHECK_EQ_INT(window_of(&p, 1), wanted ? 24 : 0);
        closed(c, &m, &p);
    }
}

/* GGUF's key: of every n layers all but the last slide; 0: all, so 1: none. Or one flag per layer. */
TEST(patterns_of_gguf)
{
    static const uint32_t want[4][2] = {{24, 24}, {0, 0}, {24, 0}, {24, 24}};
    for (int pattern = 0; pattern < 4; pattern++) {
        lr_model m;
        lr_program p;
        craft *c = craft_llama();
        craft_int(c, "llama.attention.sliding_window", 24);
        craft_int(c, "llama.attention.sliding_window_pattern", pattern);
        opened(c, &m, &p);
        CHECK_EQ_INT(window_of(&p, 0), want[pattern][0]);
        CHECK_EQ_INT(window_of(&p, 1), want[pattern][1]);
        closed(c, &m, &p);
    }
    larder_error err;
    lr_model m;
    lr_program p;
    craft *c = craft_llama();
    craft_int(c, "llama.attention.sliding_window", 24);
    craft_set(c, "llama.attention.sliding_window_pattern", LR_KV_ARR, LR_KV_BOOL, 1, "", 1);
    CHECK_STATUS(lr_model_open(craft_file(c), &m, &err), LARDER_FORMAT);
    craft_set(c, "llama.attention.sliding_window_pattern", LR_KV_ARR, LR_KV_BOOL, 2, (uint8_t[]){0, 1}, 2);
    opened(c, &m, &p);
    CHECK_EQ_INT(window_of(&p, 0), 0);
    CHECK_EQ_INT(window_of(&p, 1), 24);
    closed(c, &m, &p);
}

/* The layers of a Gemma from the hub, in place of a llama's. */
static void as_gemma3(craft *c, const char *prefix)
{
    static const char *const norms[] = {"pre_feedforward_layernorm", "post_feedforward_layernorm"};
    char name[160];
    for (size_t i = 0; i < c->f.n_tensors; i++) {
        snprintf(name, sizeof name, "%s%s", prefix, c->tensors[i].name.p);
        c->tensors[i].name = lr_str_of(lr_arena_strndup(&c->f.arena, name, strlen(name)));
    }
    for (int l = 0; l < CRAFT_LAYERS; l++) {
        for (int i = 0; i < 2; i++) {
            snprintf(name, sizeof name, "%smodel.layers.%d.%s.weight", prefix, l, norms[i]);
            craft_tensor(c, name, CRAFT_EMBD, 1, 1);
            snprintf(name, sizeof name, "%smodel.layers.%d.self_attn.%c_norm.weight", prefix, l, "qk"[i]);
            craft_tensor(c, name, CRAFT_DIM, 1, 1);
        }
    }
}

TEST(gemma3_of_the_first_files)
{
    lr_model m;
    lr_program p;
    craft *c = craft_hub("gemma3_text");
    as_gemma3(c, "");
    craft_int(c, "config.head_dim", CRAFT_DIM);
    craft_int(c, "config.query_pre_attn_scalar", 64);
    craft_int(c, "config.sliding_window", 24);
    craft_int(c, "config.sliding_window_pattern", 2);
    craft_real(c, "config.rope_theta", 1000000);
    craft_real(c, "config.rope_local_base_freq", 10000);
    craft_real(c, "config.rope_scaling.factor", 8);
    craft_str(c, "config.rope_scaling.rope_type", "linear");
    opened(c, &m, &p);
    CHECK_EQ_INT(window_of(&p, 0), 24);
    CHECK_EQ_INT(window_of(&p, 1), 0);
    CHECK_EQ_INT(p.n_ropes, 2);
    CHECK_NEAR(p.ropes[0].inv_freq[0], 1.0 / 8, 1e-12);
    CHECK_NEAR(p.ropes[1].inv_freq[0], 1, 1e-12);
    CHECK_NEAR(p.ropes[0].inv_freq[4], 1e-3 / 8, 1e-12);
    CHECK_NEAR(p.ropes[1].inv_freq[4], 1e-2, 1e-12);
    for (uint32_t i = 0; i < p.n_ops; i++) {
        if (p.ops[i].kind == LR_OP_ATTEND) CHECK_NEAR(p.ops[i].attn.scale, 1.0 / 8, 1e-7);
        if (p.ops[i].kind == LR_OP_ROPE) CHECK_EQ_INT(p.ops[i].rope, p.ops[i].layer == 0 ? 1 : 0);
        if (p.ops[i].kind == LR_OP_RMSNORM) CHECK_NEAR(p.weights[p.ops[i].w].add, 1, 0);
        if (p.ops[i].kind == LR_OP_EMBED) CHECK_NEAR(p.ops[i].scale, 8, 0);
    }
    closed(c, &m, &p);
}

/* GGUF, without the keys its first files did not have. */
TEST(gemma2_of_the_first_files)
{
    static const char *const names[] = {"block_count",         "context_length",       "embedding_length",
                                        "feed_forward_length", "attention.head_count", "attention.head_count_kv"};
    lr_model m;
    lr_program p;
    char name[128];
    craft *c = craft_llama();
    craft_str(c, "general.architecture", "gemma2");
    for (size_t i = 0; i < LR_LEN(names); i++) {
        int64_t v;
        snprintf(name, sizeof name, "llama.%s", names[i]);
        craft_file(c);
        CHECK(lr_kv_integer(lr_file_key(&c->f, name), 0, &v));
        snprintf(name, sizeof name, "gemma2.%s", names[i]);
        craft_int(c, name, v);
    }
    craft_real(c, "gemma2.attention.layer_norm_rms_epsilon", 1e-6);
    for (int l = 0; l < CRAFT_LAYERS; l++) {
        snprintf(name, sizeof name, "blk.%d.post_attention_norm.weight", l);
        craft_tensor(c, name, CRAFT_EMBD, 1, 1);
        snprintf(name, sizeof name, "blk.%d.post_ffw_norm.weight", l);
        craft_tensor(c, name, CRAFT_EMBD, 1, 1);
    }
    opened(c, &m, &p);
    CHECK_EQ_INT(window_of(&p, 0), 4096);
    CHECK_EQ_INT(window_of(&p, 1), 0);
    for (uint32_t i = 0; i < p.n_ops; i++) {
        if (p.ops[i].kind == LR_OP_ATTEND) CHECK_NEAR(p.ops[i].attn.softcap, 50, 0);
        if (p.ops[i].kind == LR_OP_SOFTCAP) CHECK_NEAR(p.ops[i].scale, 30, 0);
    }
    closed(c, &m, &p);
}

/* The model that also sees: its text part, whose settings leave out what is usual. */
TEST(gemma3_wrapped)
{
    static const char *const moved[] = {"num_hidden_layers", "hidden_size", "intermediate_size"};
    lr_model m;
    lr_program p;
    craft *c = craft_hub("gemma3");
    as_gemma3(c, "language_model.");
    for (size_t i = 0; i < LR_LEN(moved); i++) {
        char from[128], to[128];
        int64_t v;
        snprintf(from, sizeof from, "config.%s", moved[i]);
        snprintf(to, sizeof to, "config.text_config.%s", moved[i]);
        craft_file(c);
        CHECK(lr_kv_integer(lr_file_key(&c->f, from), 0, &v));
        craft_int(c, to, v);
        craft_drop_key(c, from);
    }
    craft_str(c, "config.text_config.model_type", "gemma3_text");
    craft_int(c, "config.text_config.head_dim", CRAFT_DIM);
    craft_int(c, "config.text_config.num_attention_heads", CRAFT_HEADS);
    craft_int(c, "config.text_config.num_key_value_heads", CRAFT_KV);
    craft_int(c, "config.text_config.sliding_window", 1024);
    craft_real(c, "config.text_config.rope_scaling.factor", 8);
    craft_str(c, "config.text_config.rope_scaling.rope_type", "linear");
    craft_tensor(c, "vision_tower.vision_model.embeddings.patch_embedding.weight", 8, 8, 1);
    craft_tensor(c, "multi_modal_projector.mm_soft_emb_norm.weight", 8, 1, 1);
    opened(c, &m, &p);
    CHECK_EQ_INT(window_of(&p, 0), 1024);
    CHECK_NEAR(key_of(&m, "gemma3.rope.freq_base"), 1e6, 0);
    CHECK_NEAR(key_of(&m, "gemma3.attention.scale"), 1.0 / 16, 1e-9);
    CHECK(!lr_file_tensor(&m.view, LR_STR("output.weight")));
    closed(c, &m, &p);
}

TEST(phi3_turns_part_of_a_head)
{
    lr_model m;
    lr_program p;
    craft *c = craft_new(LR_ORIGIN_HF);
    craft *llama = craft_hub("phi3");
    memcpy(c->kv, llama->kv, sizeof c->kv);
    c->f.n_kv = llama->f.n_kv;
    craft_real(c, "config.partial_rotary_factor", 0.75);
    craft_tensor(c, "model.embed_tokens.weight", CRAFT_EMBD, CRAFT_VOCAB, 1);
    craft_tensor(c, "model.norm.weight", CRAFT_EMBD, 1, 1);
    craft_tensor(c, "lm_head.weight", CRAFT_EMBD, CRAFT_VOCAB, 1);
    for (int l = 0; l < CRAFT_LAYERS; l++) {
        static const struct {
            const char *name;
            uint64_t in, out;
        } t[] = {{"input_layernorm", CRAFT_EMBD, 1},
                 {"self_attn.qkv_proj", CRAFT_EMBD, (CRAFT_HEADS + 2 * CRAFT_KV) * CRAFT_DIM},
                 {"self_attn.o_proj", CRAFT_HEADS * CRAFT_DIM, CRAFT_EMBD},
                 {"post_attention_layernorm", CRAFT_EMBD, 1},
                 {"mlp.gate_up_proj", CRAFT_EMBD, 2 * CRAFT_FF},
                 {"mlp.down_proj", CRAFT_FF, CRAFT_EMBD}};
        for (size_t i = 0; i < LR_LEN(t); i++) {
            char name[128];
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", l, t[i].name);
            craft_tensor(c, name, t[i].in, t[i].out, 1);
        }
    }
    opened(c, &m, &p);
    CHECK_EQ_INT(p.ropes[0].n_rot, 12);
    for (uint32_t i = 0; i < p.n_ops; i++) {
        if (p.ops[i].kind != LR_OP_ATTEND) continue;
        CHECK_EQ_INT(p.values[p.ops[i].in[0]].width, CRAFT_HEADS * CRAFT_DIM);
        CHECK_EQ_INT(p.values[p.ops[i].in[2]].width, CRAFT_KV * CRAFT_DIM);
    }
    closed(c, &m, &p);
    craft_free(llama);
}
