/* shape.h - a model nobody downloaded: hyper-parameters and a mix of formats as an lr_file without data.
 *
 * Owns: which tensors, of which shapes, a model of a given architecture has. What it gives goes through lr_model_open and
 * lr_model_program as any file does; only reading a weight's numbers is forbidden (they are not there).
 */
#ifndef LR_SHAPE_H
#define LR_SHAPE_H

#include "mix.h"

typedef struct lr_shape {
    char name[64];
    char arch[24]; /* general.architecture */
    uint32_t n_layer, n_embd, n_head, n_head_kv, head_dim, n_ff, n_vocab, n_ctx;
    uint32_t n_expert, n_expert_used, n_ff_expert;
    uint32_t window; /* 0: none */
    bool tied;       /* the embedding is the output matrix too */
} lr_shape;

/* `type` NULL: BF16. `pure`: every matrix in the type's base format. lr_file_close frees it. */
larder_status lr_shape_file(const lr_shape *s, const lr_mix_type *type, bool pure, lr_file *out, larder_error *err);

#endif
