/* arch.h - inside src/model: what an architecture file states, and the calls it is written with.
 *
 * Owns: the shape of an architecture's entry; reading keys of the view; fetching weights by GGUF's names; the parts that
 * most architectures share. Every call is safe after a failure, which is kept in the program's `fault`.
 */
#ifndef LR_ARCH_H
#define LR_ARCH_H

#include "model.h"

enum {
    LR_ARCH_QK_PERMUTED = 1,    /* GGUF holds the rows of q and k so that RoPE turns neighbours; the hub, halves */
    LR_ARCH_NORM_PLUS_ONE = 2,  /* the hub holds norm weights as w - 1; GGUF as w */
    LR_ARCH_QK_NORM = 4,        /* every head of q and k is normed before RoPE */
    LR_ARCH_YARN_EXACT = 8,     /* YaRN's borders are not rounded to whole dimensions */
    LR_ARCH_WINDOW_OPT_IN = 16, /* the hub's sliding_window counts only with use_sliding_window */
    LR_ARCH_FUSED_EXPERTS = 32, /* the hub holds all experts of a layer in one tensor, gate and up interleaved */
};

enum { LR_MAX_LAYER = 512, LR_MAX_HEAD = 4096, LR_MAX_HEAD_DIM = 1024, LR_MAX_EXPERT = 1024 };
#define LR_MAX_EMBD (1u << 20) /* also the bound of all heads' widths together */
#define LR_MAX_FF (1u << 22)
#define LR_MAX_VOCAB (1u << 24)
#define LR_MAX_CTX (1u << 30)

/* What transformers assumes when a text part inside a larger model leaves a setting out: it saves what differs only. */
typedef struct lr_hub_usual {
    uint32_t n_head, n_head_kv, n_ctx, window;
    double rope_base;
} lr_hub_usual;

/* A piece of a tensor's name, hub's to GGUF's; applies before the common ones (hub_tensors.c). */
typedef struct lr_hub_name {
    const char *hub, *gguf;
} lr_hub_name;

struct lr_hub;
typedef struct lr_build lr_build;

typedef struct lr_arch {
    const char *name;        /* general.architecture */
    const char *hub_types;   /* config.json's model_type, several parted by spaces */
    const char *hub_classes; /* its class names, for people */
    uint32_t flags;
    uint32_t window_period;             /* which layers slide if the file does not say: see lr_slides_by */
    const lr_hub_name *hub_names;       /* ends in {0} */
    const lr_hub_usual *usual;          /* NULL: text parts say everything */
    void (*hub_keys)(struct lr_hub *h); /* writes the keys only this architecture has; NULL: none */
    void (*build)(lr_build *b);
} lr_arch;

extern const lr_arch lr_arch_llama, lr_arch_qwen2, lr_arch_qwen3, lr_arch_qwen3moe, lr_arch_gemma2, lr_arch_gemma3,
    lr_arch_phi3, lr_arch_gptoss;

/* ---------------------------------------------------------------- building a program */
struct lr_build {
    const lr_model *m;
    const lr_hparams *hp;
    lr_program *p;
    uint32_t n_ctx;
    uint8_t *used;  /* per tensor of the view: was it asked for; NULL: nobody wants to know */
    uint16_t embed; /* the embedding's weight */
};

/* "blk.N.name" inside a layer, else the name itself. Shapes are [n_in, n_out]. Missing or misshapen tensors are faults;
 * the _opt calls give LR_NONE for an absent tensor (which must then be absent in every layer). */
uint16_t lr_mat(lr_build *b, const char *name, uint64_t n_in, uint64_t n_out);
uint16_t lr_vec(lr_build *b, const char *name, uint64_t n);
uint16_t lr_vec_opt(lr_build *b, const char *name, uint64_t n);
/* Rows [first, first + n_out) of a fused matrix that has n_rows of them. */
uint16_t lr_rows_of(lr_build *b, const char *name, uint64_t n_in, uint64_t n_rows, uint64_t first, uint64_t n_out);
bool lr_has(const lr_build *b, const char *name);
const lr_tensor *lr_tensor_opt(lr_build *b, const char *name); /* any shape; NULL if absent */

/* Keys of the view, "arch.key". *io keeps its default if the key is absent. */
void lr_hp_u32(lr_build *b, const char *key, uint32_t min, uint32_t max, uint32_t *io);
void lr_hp_f64(lr_build *b, const char *key, double min, double max, double *io);
void lr_hp_bool(lr_build *b, const char *key, bool *io);
void lr_hp_str(lr_build *b, const char *key, lr_str *io);

/* ---------------------------------------------------------------- what most architectures share (arch.c) */
lr_val lr_embedding(lr_build *b, double scale);          /* token_embd */
lr_val lr_norm(lr_build *b, lr_val x, const char *name); /* name.weight over the whole width */
lr_val lr_proj(lr_build *b, lr_val x, const char *name,
               uint32_t n_out); /* name.weight, and name.bias if there is one */
/* name.weight over each head if the architecture has LR_ARCH_QK_NORM; else x. */
lr_val lr_head_norm(lr_build *b, lr_val x, const char *name);
lr_attn lr_attention(lr_build *b, uint32_t layer); /* heads, 1/sqrt(head_dim) or attention.scale, window */
lr_val lr_ffn(lr_build *b, lr_val h, lr_fn fn);    /* down(fn(gate(h)) * up(h)) */
lr_val lr_experts(lr_build *b, lr_val h, lr_fn fn, const lr_route *r);
lr_val lr_head(lr_build *b, lr_val x); /* pick, output_norm, output (or the embedding again): the logits */
/* GGUF's way to say which layers slide: of every `period` layers all but the last; 0: every layer, so 1: none. */
static inline bool lr_slides_by(uint32_t period, uint32_t layer) { return !period || layer % period < period - 1; }
/* Does this layer slide? */
bool lr_slides(lr_build *b, uint32_t layer);

/* ---------------------------------------------------------------- rope.c
 * The table the keys rope.* describe, for a session of b->n_ctx tokens; index into the program's ropes. */
uint16_t lr_rope_table(lr_build *b, lr_rope_kind kind);
/* A plain one. */
uint16_t lr_rope_plain(lr_build *b, lr_rope_kind kind, uint32_t n_rot, double base);
/* out[i] = what llama3's scheme divides frequency i of n_rot/2 by. */
void lr_rope_llama3(double base, uint32_t n_rot, double factor, double low, double high, double n_orig, float *out);

/* ---------------------------------------------------------------- hparams.c, hub.c */
larder_status lr_hparams_read(lr_model *m, larder_error *err);
const lr_arch *const *lr_arch_all(void);                   /* ends in NULL */
larder_status lr_hub_view(lr_model *m, larder_error *err); /* fills view, fix, fix_heads, arch for origin HF */

/* Reading config.json and writing keys of the view, for hub_keys callbacks. Failures stick. */
typedef struct lr_hub lr_hub;
bool lr_cfg_has(const lr_hub *h, const char *key);
bool lr_cfg_u32(lr_hub *h, const char *key, uint32_t max, uint32_t *io); /* false: absent, *io kept */
bool lr_cfg_f64(lr_hub *h, const char *key, double *io);
bool lr_cfg_bool(lr_hub *h, const char *key, bool *io);
bool lr_cfg_str(lr_hub *h, const char *key, lr_str *io);
void lr_put_u32(lr_hub *h, const char *key, uint32_t v);
void lr_put_f32(lr_hub *h, const char *key, double v);
void lr_put_bool(lr_hub *h, const char *key, bool v);
void lr_put_str(lr_hub *h, const char *key, lr_str v);
uint32_t lr_hub_head_dim(const lr_hub *h);
void lr_hub_refuse(lr_hub *h, const char *what); /* LARDER_UNSUPPORTED */

#endif
