/* craft.h - model files made by hand for tests: keys and tensors that are easy to spoil, without any file.
 *
 * Tensors all lie in one block of zeros. Owns: a small llama as GGUF and as the hub has it.
 */
#ifndef LR_TEST_CRAFT_H
#define LR_TEST_CRAFT_H

#include "file.h"
#include "quant.h"
#include "test.h"

typedef struct craft {
    lr_file f;
    lr_kv kv[128];
    lr_tensor tensors[256];
} craft;

static uint64_t craft_zeros[1 << 17];

static void craft_set(craft *c, const char *key, lr_kv_type type, lr_kv_type elem, uint64_t n, const void *data,
                      size_t size)
{
    size_t i = 0;
    while (i < c->f.n_kv && !lr_str_is(c->kv[i].key, key)) i++;
    CHECK(i < LR_LEN(c->kv));
    CHECK(lr_kv_make(&c->f, &c->kv[i], lr_str_of(key), type, elem, n, data, size));
    if (i == c->f.n_kv) c->f.n_kv++;
}

/* Numbers take the type their origin writes: u32 and f32, or i64 and f64. */
static void craft_int(craft *c, const char *key, int64_t v)
{
    uint32_t u = (uint32_t)v;
    if (c->f.origin == LR_ORIGIN_HF) craft_set(c, key, LR_KV_I64, LR_KV_I64, 1, &v, sizeof v);
    else craft_set(c, key, LR_KV_U32, LR_KV_U32, 1, &u, sizeof u);
}

static void craft_real(craft *c, const char *key, double v)
{
    float f = (float)v;
    if (c->f.origin == LR_ORIGIN_HF) craft_set(c, key, LR_KV_F64, LR_KV_F64, 1, &v, sizeof v);
    else craft_set(c, key, LR_KV_F32, LR_KV_F32, 1, &f, sizeof f);
}

static void craft_str(craft *c, const char *key, const char *v)
{
    craft_set(c, key, LR_KV_STR, LR_KV_STR, 1, v, strlen(v));
}

__attribute__((unused)) static void craft_bool(craft *c, const char *key, bool v)
{
    craft_set(c, key, LR_KV_BOOL, LR_KV_BOOL, 1, &(uint8_t){v}, 1);
}

__attribute__((unused)) static void craft_reals(craft *c, const char *key, const double *v, uint64_t n)
{
    craft_set(c, key, LR_KV_ARR, LR_KV_F64, n, v, n * sizeof *v);
}

__attribute__((unused)) static void craft_drop_key(craft *c, const char *key)
{
    for (size_t i = 0; i < c->f.n_kv; i++) {
        if (lr_str_is(c->kv[i].key, key)) c->kv[i--] = c->kv[--c->f.n_kv];
    }
}

static lr_tensor *craft_find(craft *c, const char *name)
{
    for (size_t i = 0; i < c->f.n_tensors; i++) {
        if (lr_str_is(c->tensors[i].name, name)) return &c->tensors[i];
    }
    return NULL;
}

__attribute__((unused)) static void craft_drop(craft *c, const char *name)
{
    lr_tensor *t = craft_find(c, name);
    CHECK(t);
    *t = c->tensors[--c->f.n_tensors];
}

static void craft_tensor(craft *c, const char *name, uint64_t ne0, uint64_t ne1, uint64_t ne2)
{
    CHECK(c->f.n_tensors < LR_LEN(c->tensors) && ne0 * ne1 * ne2 * 4 <= sizeof craft_zeros);
    lr_tensor t = {.fmt = LR_FMT_F32, .n_dims = ne2 > 1 ? 3 : ne1 > 1 ? 2 : 1, .ne = {ne0, ne1, ne2, 1}};
    t.name = lr_str_of(lr_arena_strndup(&c->f.arena, name, strlen(name)));
    t.data = (const uint8_t *)craft_zeros;
    t.row_stride = ne0 * 4;
    t.mat_stride = t.row_stride * ne1;
    t.n_bytes = t.mat_stride * ne2;
    c->tensors[c->f.n_tensors++] = t;
}

/* The file as it stands now. It may be changed and asked for again. */
static const lr_file *craft_file(craft *c)
{
    larder_error err;
    c->f.kv = c->kv;
    c->f.tensors = c->tensors;
    CHECK_OK(lr_file_index(&c->f, &err));
    return &c->f;
}

static craft *craft_new(lr_origin origin)
{
    craft *c = calloc(1, sizeof *c);
    c->f.origin = origin;
    c->f.path = "crafted";
    c->f.alignment = 32;
    return c;
}

static void craft_free(craft *c)
{
    lr_file_close(&c->f);
    free(c);
}

enum {
    CRAFT_LAYERS = 2,
    CRAFT_EMBD = 64,
    CRAFT_HEADS = 4,
    CRAFT_KV = 2,
    CRAFT_DIM = 16,
    CRAFT_FF = 96,
    CRAFT_VOCAB = 40
};

/* layers.N tensors of a llama under either naming: attn norm, q, k, v, o, ffn norm, gate, up, down. */
static void craft_layers(craft *c, const char *format, const char *const names[9])
{
    static const uint64_t shapes[9][2] = {
        {CRAFT_EMBD, 1},
        {CRAFT_EMBD, CRAFT_HEADS * CRAFT_DIM},
        {CRAFT_EMBD, CRAFT_KV * CRAFT_DIM},
        {CRAFT_EMBD, CRAFT_KV * CRAFT_DIM},
        {CRAFT_HEADS * CRAFT_DIM, CRAFT_EMBD},
        {CRAFT_EMBD, 1},
        {CRAFT_EMBD, CRAFT_FF},
        {CRAFT_EMBD, CRAFT_FF},
        {CRAFT_FF, CRAFT_EMBD},
    };
    for (int l = 0; l < CRAFT_LAYERS; l++) {
        for (int i = 0; i < 9; i++) {
            char name[128];
            snprintf(name, sizeof name, format, l, names[i]);
            craft_tensor(c, name, shapes[i][0], shapes[i][1], 1);
        }
    }
}

__attribute__((unused)) static craft *craft_llama(void)
{
    static const char *const names[9] = {"attn_norm", "attn_q",   "attn_k", "attn_v",  "attn_output",
                                         "ffn_norm",  "ffn_gate", "ffn_up", "ffn_down"};
    craft *c = craft_new(LR_ORIGIN_GGUF);
    craft_str(c, "general.architecture", "llama");
    craft_str(c, "general.name", "crafted");
    craft_int(c, "llama.block_count", CRAFT_LAYERS);
    craft_int(c, "llama.context_length", 128);
    craft_int(c, "llama.embedding_length", CRAFT_EMBD);
    craft_int(c, "llama.feed_forward_length", CRAFT_FF);
    craft_int(c, "llama.attention.head_count", CRAFT_HEADS);
    craft_int(c, "llama.attention.head_count_kv", CRAFT_KV);
    craft_real(c, "llama.attention.layer_norm_rms_epsilon", 1e-5);
    craft_real(c, "llama.rope.freq_base", 10000);
    craft_tensor(c, "token_embd.weight", CRAFT_EMBD, CRAFT_VOCAB, 1);
    craft_tensor(c, "output_norm.weight", CRAFT_EMBD, 1, 1);
    craft_tensor(c, "output.weight", CRAFT_EMBD, CRAFT_VOCAB, 1);
    craft_layers(c, "blk.%d.%s.weight", names);
    return c;
}

/* As the hub has it, the newest style without its rope settings. */
__attribute__((unused)) static craft *craft_hub(const char *model_type)
{
    static const char *const names[9] = {"input_layernorm",  "self_attn.q_proj", "self_attn.k_proj",
                                         "self_attn.v_proj", "self_attn.o_proj", "post_attention_layernorm",
                                         "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
    craft *c = craft_new(LR_ORIGIN_HF);
    craft_str(c, "config.model_type", model_type);
    craft_int(c, "config.num_hidden_layers", CRAFT_LAYERS);
    craft_int(c, "config.hidden_size", CRAFT_EMBD);
    craft_int(c, "config.intermediate_size", CRAFT_FF);
    craft_int(c, "config.num_attention_heads", CRAFT_HEADS);
    craft_int(c, "config.num_key_value_heads", CRAFT_KV);
    craft_int(c, "config.max_position_embeddings", 512);
    craft_int(c, "config.vocab_size", CRAFT_VOCAB);
    craft_real(c, "config.rms_norm_eps", 1e-5);
    craft_tensor(c, "model.embed_tokens.weight", CRAFT_EMBD, CRAFT_VOCAB, 1);
    craft_tensor(c, "model.norm.weight", CRAFT_EMBD, 1, 1);
    craft_tensor(c, "lm_head.weight", CRAFT_EMBD, CRAFT_VOCAB, 1);
    craft_layers(c, "model.layers.%d.%s.weight", names);
    return c;
}

#endif
