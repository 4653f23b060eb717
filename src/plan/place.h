/* place.h - what of a model lies where when a card does not hold all of it, and what crosses which wire.
 *
 * Owns: the placement, bytes over PCIe and over the link between machines, the layers' waiting. Refuses to own: how long a
 * whole step takes (predict.h).
 */
#ifndef LR_PLACE_H
#define LR_PLACE_H

#include "predict.h"

typedef struct lr_placement {
    double dense, kv, experts;                /* bytes on the card (all cards together) */
    double host_dense, host_kv, host_experts; /* and in system memory */
    double n_layer, n_layer_dense,
        n_layer_experts;              /* of the model; those whose dense part, and whose experts, are on it */
    double pcie_decode, pcie_prefill; /* bytes across it: a token of an answer; a ubatch of a prompt */
    double link_decode, link_prefill; /* bytes between machines: a token of an answer; of a prompt */
} lr_placement;

/* What every token reads comes first: matrices that all tokens pass, then the cache, then experts, whole layers at a time.
 * `cache`, `scratch`: bytes; `ubatch`: tokens of a prompt at once. */
void lr_place(const lr_machine *m, const lr_plan_model *model, const lr_setup *s, double cache, double scratch,
              lr_placement *out);
void lr_place_text(const lr_placement *p, const lr_machine *m, lr_buf *out);
/* Layer by layer, those alike together: how long each waits for which memory or wire in a decode step. */
void lr_place_timeline(const lr_placement *p, const lr_machine *m, const lr_plan_model *model, lr_buf *out);
void lr_place_json(const lr_placement *p, lr_buf *out);

#endif
