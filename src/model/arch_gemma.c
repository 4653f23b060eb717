/* arch_gemma.c - Gemma 2 and 3: norms before and after each block, windows on most layers, gelu gates.
 *
 * Gemma 3 adds a norm on every head of q and k, and a second rotation table for the layers that slide. Its soft caps
 * went; Gemma 2 has them on scores and logits.
 */
#include "arch.h"

#include <math.h>

/* The largest of each family scales scores by its width per head, not by its head's size; their GGUFs do not say so. */
static bool is_27b(const lr_build *b)
{
    bool second = b->m->arch == &lr_arch_gemma2;
    return b->hp->n_layer == (second ? 46u : 62u) && b->hp->n_embd == (second ? 4608u : 5376u);
}

/* The first GGUFs of Gemma 2 leave its window out; all of them have the same. */
static uint32_t window_of(lr_build *b, bool second)
{
    uint32_t window = second && b->m->file->origin == LR_ORIGIN_GGUF ? 4096 : 0;
    lr_hp_u32(b, "attention.sliding_window", 0, LR_MAX_CTX, &window);
    return window;
}

static void build(lr_build *b)
{
    lr_program *p = b->p;
    const lr_hparams *hp = b->hp;
    bool second = b->m->arch == &lr_arch_gemma2;
    uint32_t window = window_of(b, second);
    double cap_scores = second ? 50 : 0, cap_logits = second ? 30 : 0, base_swa = 10000;
    lr_hp_f64(b, "attn_logit_softcapping", 0, 1e6, &cap_scores);
    lr_hp_f64(b, "final_logit_softcapping", 0, 1e6, &cap_logits);
    lr_hp_f64(b, "rope.freq_base_swa", 1.0001, 1e15, &base_swa);
    double scale = 1 / sqrt(is_27b(b) ? (double)hp->n_embd / hp->n_head : hp->head_dim);
    lr_hp_f64(b, "attention.scale", 0, 1e6, &scale);

    uint16_t rope = lr_rope_table(b, LR_ROPE_HALVES);
    uint16_t rope_swa = second ? rope : lr_rope_plain(b, LR_ROPE_HALVES, hp->head_dim, base_swa);
    lr_val x = lr_embedding(b, sqrt(hp->n_embd));
    for (uint32_t l = 0; l < hp->n_layer; l++) {
        p->layer = (uint16_t)l;
        bool slides = lr_slides(b, l);
        uint16_t table = slides ? rope_swa : rope;
        lr_attn attn = lr_attention(b, l);
        attn.window = slides ? window : 0;
        attn.scale = (float)scale;
        attn.softcap = (float)cap_scores;
        lr_val h = lr_norm(b, x, "attn_norm");
        lr_val q = lr_head_norm(b, lr_proj(b, h, "attn_q", hp->n_head * hp->head_dim), "attn_q_norm");
        lr_val k = lr_head_norm(b, lr_proj(b, h, "attn_k", hp->n_head_kv * hp->head_dim), "attn_k_norm");
        lr_val v = lr_proj(b, h, "attn_v", hp->n_head_kv * hp->head_dim);
        q = lr_rotate(p, q, table, hp->head_dim);
        k = lr_rotate(p, k, table, hp->head_dim);
        h = lr_proj(b, lr_attend(p, q, k, v, &attn), "attn_output", hp->n_embd);
        x = lr_add(p, x, lr_norm(b, h, "post_attention_norm"));
        h = lr_ffn(b, lr_norm(b, x, "ffn_norm"), LR_FN_GELU_TANH);
        x = lr_add(p, x, lr_norm(b, h, "post_ffw_norm"));
    }
    x = lr_head(b, x);
    lr_output(p, cap_logits > 0 ? lr_softcap(p, x, (float)cap_logits) : x);
}

static void keys(lr_hub *h)
{
    double cap_scores = 0, cap_logits = 0, per_head = 256, local = 10000;
    bool both_ways = false;
    (void)lr_cfg_f64(h, "attn_logit_softcapping", &cap_scores);
    (void)lr_cfg_f64(h, "final_logit_softcapping", &cap_logits);
    lr_put_f32(h, "attn_logit_softcapping", cap_scores);
    lr_put_f32(h, "final_logit_softcapping", cap_logits);
    (void)lr_cfg_f64(h, "query_pre_attn_scalar", &per_head);
    if (!(per_head > 0)) {
        lr_hub_refuse(h, "query_pre_attn_scalar is not above zero");
        return;
    }
    lr_put_f32(h, "attention.scale", 1 / sqrt(per_head));
    (void)lr_cfg_bool(h, "use_bidirectional_attention", &both_ways);
    if (both_ways) lr_hub_refuse(h, "use_bidirectional_attention is true: larder runs causal models");
    if (lr_cfg_f64(h, "rope_local_base_freq", &local) ||
        lr_cfg_f64(h, "rope_parameters.sliding_attention.rope_theta", &local)) {
        lr_put_f32(h, "rope.freq_base_swa", local);
    }
}

static const lr_hub_name names[] = {
    {"post_attention_layernorm", "post_attention_norm"},
    {"pre_feedforward_layernorm", "ffn_norm"},
    {"post_feedforward_layernorm", "post_ffw_norm"},
    {0},
};
static const lr_hub_usual usual3 = {.n_head = 8, .n_head_kv = 4, .n_ctx = 131072, .window = 4096, .rope_base = 1e6};
const lr_arch lr_arch_gemma2 = {
    .name = "gemma2",
    .hub_types = "gemma2",
    .hub_classes = "Gemma2ForCausalLM",
    .flags = LR_ARCH_NORM_PLUS_ONE,
    .window_period = 2,
    .hub_names = names,
    .hub_keys = keys,
    .build = build,
};
const lr_arch lr_arch_gemma3 = {
    .name = "gemma3",
    .hub_types = "gemma3_text gemma3",
    .hub_classes = "Gemma3ForCausalLM, Gemma3ForConditionalGeneration (its text part)",
    .flags = LR_ARCH_NORM_PLUS_ONE | LR_ARCH_QK_NORM,
    .window_period = 6,
    .hub_names = names,
    .usual = &usual3,
    .hub_keys = keys,
    .build = build,
};
