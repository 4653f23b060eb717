/* shape.c - see shape.h. */
#include "shape.h"

#include <stdio.h>

#define PER_LAYER 24

typedef struct maker {
    lr_file *f;
    const lr_shape *s;
    size_t cap;
    larder_status st;
    larder_error *err;
} maker;

/* Somewhere to point to. Nobody may read it. */
static const uint8_t nowhere[64];

static void tensor(maker *m, int layer, const char *name, uint64_t ne0, uint64_t ne1, uint64_t ne2)
{
    char text[96];
    if (m->st) return;
    int n = layer < 0 ? snprintf(text, sizeof text, "%s", name)
                      : snprintf(text, sizeof text, "blk.%d.%s", layer, name);
    char *copy = lr_arena_strndup(&m->f->arena, text, (size_t)n);
    if (!copy || m->f->n_tensors == m->cap) {
        m->st = LR_NOMEM(m->err, "the tensors of a shape");
        return;
    }
    lr_tensor *t = &m->f->tensors[m->f->n_tensors++];
    *t = (lr_tensor){.name = {copy, (size_t)n}, .fmt = LR_FMT_BF16, .ne = {ne0, ne1, ne2, 1}, .data = nowhere};
    t->n_dims = ne2 > 1 ? 3 : ne1 > 1 ? 2 : 1;
}

static void key(maker *m, const char *name, lr_kv_type type, const void *value, size_t n)
{
    char text[96];
    if (m->st) return;
    const char *full = name;
    if (name[0] == '.') {
        (void)snprintf(text, sizeof text, "%s%s", m->s->arch, name);
        full = text;
    }
    if (!lr_kv_make(m->f, &m->f->kv[m->f->n_kv++], lr_str_of(full), type, type, 1, value, n))
        m->st = LR_NOMEM(m->err, "the keys of a shape");
}

static void key_u32(maker *m, const char *name, uint32_t v) { key(m, name, LR_KV_U32, &v, sizeof v); }

static void keys(maker *m)
{
    const lr_shape *s = m->s;
    float eps = 1e-6f;
    key(m, "general.architecture", LR_KV_STR, s->arch, strlen(s->arch));
    key(m, "general.name", LR_KV_STR, s->name, strlen(s->name));
    key_u32(m, ".block_count", s->n_layer);
    key_u32(m, ".embedding_length", s->n_embd);
    key_u32(m, ".feed_forward_length", s->n_ff);
    key_u32(m, ".context_length", s->n_ctx);
    key_u32(m, ".attention.head_count", s->n_head);
    key_u32(m, ".attention.head_count_kv", s->n_head_kv);
    key_u32(m, ".attention.key_length", s->head_dim);
    key_u32(m, ".attention.value_length", s->head_dim);
    key(m, ".attention.layer_norm_rms_epsilon", LR_KV_F32, &eps, sizeof eps);
    if (s->window) key_u32(m, ".attention.sliding_window", s->window);
    if (s->n_expert) {
        key_u32(m, ".expert_count", s->n_expert);
        key_u32(m, ".expert_used_count", s->n_expert_used);
        key_u32(m, ".expert_feed_forward_length", s->n_ff_expert);
    }
}

static bool is(const maker *m, const char *arch) { return strncmp(m->s->arch, arch, strlen(arch)) == 0; }

static void attention(maker *m, int l)
{
    const lr_shape *s = m->s;
    uint64_t n_q = (uint64_t)s->n_head * s->head_dim, n_kv = (uint64_t)s->n_head_kv * s->head_dim;
    bool oss = is(m, "gpt-oss");
    tensor(m, l, "attn_norm.weight", s->n_embd, 1, 1);
    if (is(m, "phi3")) {
        tensor(m, l, "attn_qkv.weight", s->n_embd, n_q + 2 * n_kv, 1);
    } else {
        tensor(m, l, "attn_q.weight", s->n_embd, n_q, 1);
        tensor(m, l, "attn_k.weight", s->n_embd, n_kv, 1);
        tensor(m, l, "attn_v.weight", s->n_embd, n_kv, 1);
    }
    tensor(m, l, "attn_output.weight", n_q, s->n_embd, 1);
    if (is(m, "qwen2") || oss) {
        tensor(m, l, "attn_q.bias", n_q, 1, 1);
        tensor(m, l, "attn_k.bias", n_kv, 1, 1);
        tensor(m, l, "attn_v.bias", n_kv, 1, 1);
    }
    if (oss) {
        tensor(m, l, "attn_output.bias", s->n_embd, 1, 1);
        tensor(m, l, "attn_sinks.weight", s->n_head, 1, 1);
    }
    if (is(m, "qwen3") || is(m, "gemma3")) {
        tensor(m, l, "attn_q_norm.weight", s->head_dim, 1, 1);
        tensor(m, l, "attn_k_norm.weight", s->head_dim, 1, 1);
    }
    if (oss || is(m, "gemma")) tensor(m, l, "post_attention_norm.weight", s->n_embd, 1, 1);
}

static void feed_forward(maker *m, int l)
{
    const lr_shape *s = m->s;
    if (!is(m, "gpt-oss")) tensor(m, l, "ffn_norm.weight", s->n_embd, 1, 1);
    if (is(m, "gemma")) tensor(m, l, "post_ffw_norm.weight", s->n_embd, 1, 1);
    if (s->n_expert) {
        tensor(m, l, "ffn_gate_inp.weight", s->n_embd, s->n_expert, 1);
        tensor(m, l, "ffn_gate_exps.weight", s->n_embd, s->n_ff_expert, s->n_expert);
        tensor(m, l, "ffn_up_exps.weight", s->n_embd, s->n_ff_expert, s->n_expert);
        tensor(m, l, "ffn_down_exps.weight", s->n_ff_expert, s->n_embd, s->n_expert);
        if (!is(m, "gpt-oss")) return;
        tensor(m, l, "ffn_gate_inp.bias", s->n_expert, 1, 1);
        tensor(m, l, "ffn_gate_exps.bias", s->n_ff_expert, s->n_expert, 1);
        tensor(m, l, "ffn_up_exps.bias", s->n_ff_expert, s->n_expert, 1);
        tensor(m, l, "ffn_down_exps.bias", s->n_embd, s->n_expert, 1);
    } else if (is(m, "phi3")) {
        tensor(m, l, "ffn_up.weight", s->n_embd, 2ull * s->n_ff, 1);
        tensor(m, l, "ffn_down.weight", s->n_ff, s->n_embd, 1);
    } else {
        tensor(m, l, "ffn_gate.weight", s->n_embd, s->n_ff, 1);
        tensor(m, l, "ffn_up.weight", s->n_embd, s->n_ff, 1);
        tensor(m, l, "ffn_down.weight", s->n_ff, s->n_embd, 1);
    }
}

/* The mix's format for every tensor, and the sizes that follow from it. */
static larder_status lay_out(maker *m, const lr_mix_type *type, bool pure)
{
    static const lr_mix_type bf16 = {"BF16", LR_FMT_BF16, 32};
    lr_mix mix;
    LR_TRY(lr_mix_init(&mix, type ? type : &bf16, pure, m->f, m->err));
    for (size_t i = 0; i < m->f->n_tensors; i++) {
        lr_tensor *t = &m->f->tensors[i];
        uint32_t wanted;
        t->fmt = type ? lr_mix_format(&mix, t, &wanted) : t->n_dims < 2 ? LR_FMT_F32 : LR_FMT_BF16;
        t->row_stride = lr_fmt_row_bytes(t->fmt, t->ne[0]);
        t->mat_stride = t->row_stride * t->ne[1];
        t->n_bytes = t->mat_stride * t->ne[2];
    }
    return LARDER_OK;
}

larder_status lr_shape_file(const lr_shape *s, const lr_mix_type *type, bool pure, lr_file *out, larder_error *err)
{
    maker m = {out, s, (size_t)s->n_layer * PER_LAYER + 3, LARDER_OK, err};
    *out = (lr_file){.origin = LR_ORIGIN_GGUF, .alignment = 32};
    if (!s->n_layer || s->n_layer > 4096)
        return lr_fail(err, LARDER_USAGE, "%s: a shape of %u layers", s->name, s->n_layer);
    out->path = lr_arena_strndup(&out->arena, s->name, strlen(s->name));
    out->kv = lr_arena_array(&out->arena, 24, sizeof *out->kv);
    out->tensors = lr_arena_array(&out->arena, m.cap, sizeof *out->tensors);
    if (!out->path || !out->kv || !out->tensors) m.st = LR_NOMEM(err, "a shape");
    if (!m.st) keys(&m);
    tensor(&m, -1, "token_embd.weight", s->n_embd, s->n_vocab, 1);
    tensor(&m, -1, "output_norm.weight", s->n_embd, 1, 1);
    if (!s->tied) tensor(&m, -1, "output.weight", s->n_embd, s->n_vocab, 1);
    for (int l = 0; l < (int)s->n_layer; l++) {
        attention(&m, l);
        feed_forward(&m, l);
    }
    if (!m.st) m.st = lr_file_index(out, err);
    if (!m.st) m.st = lay_out(&m, type, pure);
    if (m.st) lr_file_close(out);
    return m.st;
}
