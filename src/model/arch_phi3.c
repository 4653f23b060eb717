/* arch_phi3.c - Phi-3 and 4: Llama's list with q, k, v in one matrix and gate, up in another.
 *
 * The file keeps them fused; the program uses ranges of their rows.
 */
#include "arch.h"

static void build(lr_build *b)
{
    lr_program *p = b->p;
    const lr_hparams *hp = b->hp;
    uint32_t n_q = hp->n_head * hp->head_dim, n_kv = hp->n_head_kv * hp->head_dim, n_qkv = n_q + 2 * n_kv;
    uint16_t rope = lr_rope_table(b, LR_ROPE_HALVES);
    lr_val x = lr_embedding(b, 1);
    for (uint32_t l = 0; l < hp->n_layer; l++) {
        p->layer = (uint16_t)l;
        lr_attn attn = lr_attention(b, l);
        lr_val h = lr_norm(b, x, "attn_norm");
        lr_val q = lr_linear(p, h, lr_rows_of(b, "attn_qkv.weight", hp->n_embd, n_qkv, 0, n_q), LR_NONE);
        lr_val k = lr_linear(p, h, lr_rows_of(b, "attn_qkv.weight", hp->n_embd, n_qkv, n_q, n_kv), LR_NONE);
        lr_val v = lr_linear(p, h, lr_rows_of(b, "attn_qkv.weight", hp->n_embd, n_qkv, n_q + n_kv, n_kv), LR_NONE);
        q = lr_rotate(p, q, rope, hp->head_dim);
        k = lr_rotate(p, k, rope, hp->head_dim);
        x = lr_add(p, x, lr_proj(b, lr_attend(p, q, k, v, &attn), "attn_output", hp->n_embd));
        h = lr_norm(b, x, "ffn_norm");
        lr_val gate = lr_linear(p, h, lr_rows_of(b, "ffn_up.weight", hp->n_embd, 2 * hp->n_ff, 0, hp->n_ff), LR_NONE);
        lr_val up = lr_linear(p, h, lr_rows_of(b, "ffn_up.weight", hp->n_embd, 2 * hp->n_ff, hp->n_ff, hp->n_ff),
                              LR_NONE);
        x = lr_add(p, x, lr_proj(b, lr_glu(p, LR_FN_SILU, gate, up), "ffn_down", hp->n_embd));
    }
    lr_output(p, lr_head(b, x));
}

static const lr_hub_name names[] = {{"mlp.gate_up_proj", "ffn_up"}, {0}};
const lr_arch lr_arch_phi3 = {
    .name = "phi3",
    .hub_types = "phi3",
    .hub_classes = "Phi3ForCausalLM",
    .hub_names = names,
    .build = build,
};
