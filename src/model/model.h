/* model.h - from what a file says to a program: architectures, their hyper-parameters, their names on the hub.
 *
 * Owns: which architecture a file is, the canonical view of it (GGUF's key and tensor names, whoever wrote the file),
 * and building its program. One arch_*.c per architecture; nothing outside src/model knows an architecture's name.
 */
#ifndef LR_MODEL_H
#define LR_MODEL_H

#include "program.h"

/* What must be done to a tensor of the view when it is written to a GGUF (never done when run in place). */
typedef enum lr_fix {
    LR_FIX_NONE,
    LR_FIX_ROPE_PAIRS /* rows of each head from halves to pairs */,
    LR_FIX_ADD_ONE,
    LR_FIX_TRANSPOSE /* col_stride is set: rows must be gathered */
} lr_fix;

typedef struct lr_hparams {
    uint32_t n_layer, n_embd, n_head, n_head_kv, head_dim, n_ff, n_vocab, n_ctx_train;
    uint32_t n_expert, n_expert_used, n_ff_expert;
    uint32_t window;
    double norm_eps;
} lr_hparams; /* those every reader wants; the rest stays inside arch_*.c */

typedef struct lr_model {
    const lr_file *file; /* as loaded; outlives the model */
    lr_file view;        /* GGUF's keys and tensor names; for a GGUF the same arrays as the file's */
    lr_fix *fix;         /* per tensor of the view; NULL for GGUF */
    uint32_t *fix_heads; /* per tensor: heads for LR_FIX_ROPE_PAIRS; NULL for GGUF */
    const struct lr_arch *arch;
    lr_str arch_name, name;
    lr_hparams hp;
} lr_model;

/* Recognises the architecture, maps names (origin HF), reads and bounds the hyper-parameters, checks that every
 * tensor it needs is there with the right shape. Errors name the key or tensor, and list what is supported. */
larder_status lr_model_open(const lr_file *f, lr_model *out, larder_error *err);
/* Whether the architecture that a GGUF names is one of ours. */
bool lr_model_knows(const lr_file *f);
void lr_model_close(lr_model *m);
/* The program for sessions of up to n_ctx tokens (RoPE schemes that depend on the length are fixed by it). */
larder_status lr_model_program(const lr_model *m, uint32_t n_ctx, lr_program *out, larder_error *err);
/* Names of the architectures, GGUF's and the hub's class, one line each (for errors and `larder version`). */
void lr_model_list(lr_buf *out);

#endif
