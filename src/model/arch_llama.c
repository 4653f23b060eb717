/* arch_llama.c - Llama and the many that are the same list: Mistral, Mixtral, Qwen 2 and 3 with and without experts.
 *
 * They differ in what the file brings: biases, a norm on every head of q and k, a window, experts in place of a
 * feed-forward block, tied embeddings.
 */
#include "arch.h"

static lr_val feed_forward(lr_build *b, lr_val h)
{
    if (!b->hp->n_expert || !lr_has(b, "ffn_gate_inp.weight")) return lr_ffn(b, h, LR_FN_SILU);
    lr_route r = {.k = b->hp->n_expert_used, .gating = LR_ROUTE_SOFTMAX, .renorm = true, .scale = 1, .bias = LR_NONE};
    lr_hp_bool(b, "expert_weights_norm", &r.renorm);
    return lr_experts(b, h, LR_FN_SILU, &r);
}

static void build(lr_build *b)
{
    lr_program *p = b->p;
    const lr_hparams *hp = b->hp;
    bool pairs = (b->m->arch->flags & LR_ARCH_QK_PERMUTED) && b->m->file->origin == LR_ORIGIN_GGUF;
    uint16_t rope = lr_rope_table(b, pairs ? LR_ROPE_PAIRS : LR_ROPE_HALVES);
    lr_val x = lr_embedding(b, 1);
    for (uint32_t l = 0; l < hp->n_layer; l++) {
        p->layer = (uint16_t)l;
        lr_attn attn = lr_attention(b, l);
        lr_val h = lr_norm(b, x, "attn_norm");
        lr_val q = lr_head_norm(b, lr_proj(b, h, "attn_q", hp->n_head * hp->head_dim), "attn_q_norm");
        lr_val k = lr_head_norm(b, lr_proj(b, h, "attn_k", hp->n_head_kv * hp->head_dim), "attn_k_norm");
        lr_val v = lr_proj(b, h, "attn_v", hp->n_head_kv * hp->head_dim);
        q = lr_rotate(p, q, rope, hp->head_dim);
        k = lr_rotate(p, k, rope, hp->head_dim);
        x = lr_add(p, x, lr_proj(b, lr_attend(p, q, k, v, &attn), "attn_output", hp->n_embd));
        x = lr_add(p, x, feed_forward(b, lr_norm(b, x, "ffn_norm")));
    }
    lr_output(p, lr_head(b, x));
}

/* Qwen's routing weights are divided by their sum only if the file says so. */
static void qwen3moe_keys(lr_hub *h)
{
    bool norm = false;
    (void)lr_cfg_bool(h, "norm_topk_prob", &norm);
    lr_put_bool(h, "expert_weights_norm", norm);
}

const lr_arch lr_arch_llama = {
    .name = "llama",
    .hub_types = "llama mistral mixtral",
    .hub_classes = "LlamaForCausalLM, MistralForCausalLM, MixtralForCausalLM",
    .flags = LR_ARCH_QK_PERMUTED,
    .build = build,
};
const lr_arch lr_arch_qwen2 = {
    .name = "qwen2",
    .hub_types = "qwen2",
    .hub_classes = "Qwen2ForCausalLM",
    .flags = LR_ARCH_WINDOW_OPT_IN,
    .window_period = 1,
    .build = build,
};
const lr_arch lr_arch_qwen3 = {
    .name = "qwen3",
    .hub_types = "qwen3",
    .hub_classes = "Qwen3ForCausalLM",
    .flags = LR_ARCH_QK_NORM | LR_ARCH_WINDOW_OPT_IN,
    .window_period = 1,
    .build = build,
};
const lr_arch lr_arch_qwen3moe = {
    .name = "qwen3moe",
    .hub_types = "qwen3_moe",
    .hub_classes = "Qwen3MoeForCausalLM",
    .flags = LR_ARCH_QK_NORM | LR_ARCH_WINDOW_OPT_IN,
    .window_period = 1,
    .hub_keys = qwen3moe_keys,
    .build = build,
};
