/* arch_gptoss.c - gpt-oss: experts everywhere, a window on every second layer, a sink in every head's softmax. */
#include "arch.h"

static void build(lr_build *b)
{
    lr_program *p = b->p;
    const lr_hparams *hp = b->hp;
    lr_route route = {.k = hp->n_expert_used, .gating = LR_ROUTE_TOPK_SOFTMAX, .scale = 1, .bias = LR_NONE};
    uint16_t rope = lr_rope_table(b, LR_ROPE_HALVES);
    lr_val x = lr_embedding(b, 1);
    for (uint32_t l = 0; l < hp->n_layer; l++) {
        p->layer = (uint16_t)l;
        lr_attn attn = lr_attention(b, l);
        attn.sinks = lr_vec(b, "attn_sinks.weight", hp->n_head);
        lr_val h = lr_norm(b, x, "attn_norm");
        lr_val q = lr_rotate(p, lr_proj(b, h, "attn_q", hp->n_head * hp->head_dim), rope, hp->head_dim);
        lr_val k = lr_rotate(p, lr_proj(b, h, "attn_k", hp->n_head_kv * hp->head_dim), rope, hp->head_dim);
        lr_val v = lr_proj(b, h, "attn_v", hp->n_head_kv * hp->head_dim);
        x = lr_add(p, x, lr_proj(b, lr_attend(p, q, k, v, &attn), "attn_output", hp->n_embd));
        h = lr_norm(b, x, "post_attention_norm");
        x = lr_add(p, x, lr_experts(b, h, LR_FN_SWIGLU_OAI, &route));
    }
    lr_output(p, lr_head(b, x));
}

static void keys(lr_hub *h)
{
    double limit = 7;
    (void)lr_cfg_f64(h, "swiglu_limit", &limit);
    if (limit < 7 || limit > 7) lr_hub_refuse(h, "swiglu_limit is not 7");
}

static const lr_hub_name names[] = {
    {"post_attention_layernorm", "post_attention_norm"},
    {"mlp.router", "ffn_gate_inp"},
    {0},
};
const lr_arch lr_arch_gptoss = {
    .name = "gpt-oss",
    .hub_types = "gpt_oss",
    .hub_classes = "GptOssForCausalLM",
    .flags = LR_ARCH_YARN_EXACT | LR_ARCH_FUSED_EXPERTS,
    .window_period = 2,
    .hub_names = names,
    .hub_keys = keys,
    .build = build,
};
