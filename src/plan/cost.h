/* cost.h - what a step of a program takes: bytes by kind, operations by kind, per operator.
 *
 * Owns: counting. Exact for what the program names; for experts the expected number of distinct ones a batch touches.
 * Refuses to own: seconds (predict.h).
 */
#ifndef LR_COST_H
#define LR_COST_H

#include "catalogue.h"
#include "model.h"

/* A step: n_tok tokens of n_seq sequences, each with `depth` tokens in the cache before it; n_out rows of logits. */
typedef struct lr_step_size {
    double n_tok, n_out, n_seq, depth;
    double kv_bytes; /* per number in the cache: 2 for F16, 1.0625 for Q8 */
} lr_step_size;

typedef struct lr_cost {
    double weight_bytes;               /* matrices and vectors read once; experts: the expected distinct ones */
    double expert_bytes, expert_least; /* of weight_bytes, those of experts; and if all tokens chose the same */
    double weight_count;               /* numbers among them that must be decoded */
    double kv_read, kv_write;
    double act_bytes;                                  /* activations written and read, if nothing is fused */
    double dense_ops, expert_ops, attn_ops, other_ops; /* a multiply-add counts two */
    double expert_rows;                                /* rows per expert that is touched */
    double score_bytes; /* of the attention scores, if they are written out (float32) */
    double n_op, n_layer;
} lr_cost;

/* A model to plan: from a preset, a file, or totals. */
typedef struct lr_plan_model {
    char name[96], quant[32];
    lr_file file; /* made by a preset; empty if the model came from a file of the caller's */
    lr_model model;
    lr_program program;
    bool has_program;
    double bits;        /* matrices cost this many bits whatever their tensors say; 0: as the tensors say */
    double output_bits; /* the output matrix then */
    lr_cls cls;
    bool fp8, fp4;
    uint32_t key; /* of its name if it is a preset's; 0 */
    /* from the program, or the preset's */
    double total, active, n_layer, n_embd, n_head, kv_width, n_expert, n_expert_used, n_ctx;
    double file_bytes; /* of all tensors */
    const char *source;
} lr_plan_model;

larder_status lr_plan_model_preset(const lr_preset *p, const lr_quant_name *q, lr_plan_model *out, larder_error *err);
/* `f` outlives it. */
larder_status lr_plan_model_file(const lr_file *f, uint32_t n_ctx, lr_plan_model *out, larder_error *err);
void lr_plan_model_close(lr_plan_model *m);

/* One operator's share, for `--why`. */
typedef void lr_cost_fn(void *user, const lr_op *op, const lr_cost *one);
void lr_cost_step(const lr_plan_model *m, const lr_step_size *s, lr_cost *out, lr_cost_fn *each, void *user);
/* Bytes the cache takes for n_seq sequences of n_ctx tokens. */
double lr_cost_cache(const lr_plan_model *m, double n_ctx, double n_seq, double kv_bytes);
/* Expected distinct experts of n when t tokens choose k each. */
double lr_cost_experts(double n, double k, double t);

#endif
