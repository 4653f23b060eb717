/* hub.h - inside src/model: making the view of a folder from the hub (hub.c its keys, hub_tensors.c its tensors). */
#ifndef LR_HUB_H
#define LR_HUB_H

#include "arch.h"

enum { LR_HUB_MAX_KEYS = 64 };

struct lr_hub {
    lr_model *m;
    const lr_file *f; /* the folder */
    lr_file *view;
    const lr_arch *arch;
    bool wrapped; /* the text part of a model of several: its settings stand in config.text_config */
    bool tied;
    uint32_t n_layer, n_head, n_head_kv, head_dim, n_expert, n_rot;
    size_t cap_tensors;
    larder_error *err;
    larder_status st; /* the first failure; calls after it do nothing */
};

/* A new tensor of the view; NULL on a failure. Its name is copied, the rest is the caller's to fill. */
lr_tensor *lr_hub_add(lr_hub *h, const char *name, const lr_tensor *like, lr_fix fix, uint32_t heads);
/* All tensors of the folder, under GGUF's names. */
void lr_hub_tensors(lr_hub *h);
/* A tensor of n floats that larder made. */
void lr_hub_add_floats(lr_hub *h, const char *name, const float *x, uint32_t n);

#endif
