/* catalogue.h - machines and models by name: what data/machines.csv and data/models.csv hold.
 *
 * Owns: reading those tables and finding what a person's words mean in them. Refuses to own: prediction (predict.h), this
 * machine (the caller fills an lr_machine from its measurements).
 */
#ifndef LR_CATALOGUE_H
#define LR_CATALOGUE_H

#include "csv.h"
#include "shape.h"

typedef enum lr_gen { /* generations that prefill differently; see lr_gen_names */
                      LR_GEN_OLD,
                      LR_GEN_PASCAL,
                      LR_GEN_VOLTA,
                      LR_GEN_TURING,
                      LR_GEN_AMPERE,
                      LR_GEN_AMPERE_DC,
                      LR_GEN_ADA,
                      LR_GEN_HOPPER,
                      LR_GEN_BLACKWELL,
                      LR_GEN_BLACKWELL_DC,
                      LR_GEN_GB10,
                      LR_GEN_GCN,
                      LR_GEN_CDNA,
                      LR_GEN_RDNA12,
                      LR_GEN_RDNA3,
                      LR_GEN_RDNA4,
                      LR_GEN_XE,
                      LR_GEN_APPLE,
                      LR_GEN_CPU,
                      LR_GENS
} lr_gen;
typedef enum lr_kind { LR_KIND_NVIDIA, LR_KIND_AMD, LR_KIND_INTEL, LR_KIND_APPLE, LR_KIND_CPU } lr_kind;

/* One kind of machine, or several of it. 0 where a figure is not known. Bytes and operations per second. */
typedef struct lr_machine {
    char name[96];
    int id;       /* its row; -1: not of the catalogue */
    uint32_t key; /* of its name; stays the same when rows move */
    lr_kind kind;
    lr_gen gen;
    char gen_name[16], status[16], date[12], source[256];
    bool unified;
    double memory, usable;                  /* bytes; the share of it a model may have */
    double bw, bw_measured;                 /* of one */
    double bw_low, bw_high;                 /* when sources differ or it was rumoured; else 0 */
    double fp32, f16, bf16, fp8, fp4, int8; /* dense; f16 is the fastest matrix rate with any accumulator */
    double pcie, link;                      /* to the host; to a second machine */
    double idle_w, load_w, price;
    int n_core;
    /* as written */
    int count;                /* machines or cards together */
    bool cluster;             /* they are machines on a network, not cards in one */
    int n_thread;             /* 0: all */
    bool weak_host;           /* a card on a board with a slow processor and one PCIe lane */
    double host_bw;           /* of the host's memory, for what does not fit the card */
    const struct lr_own *own; /* larder's kernels as measured on it (own.h); NULL: not */
    bool guessed;             /* it is this one, and was never measured: speeds are a guess */
} lr_machine;

typedef struct lr_catalogue {
    lr_machine *machines;
    const char **machine_alias;
    size_t n_machines;
    struct lr_preset *models;
    size_t n_models;
    lr_csv machine_table, model_table;
} lr_catalogue;

/* What a model costs that has no program here: totals. */
typedef struct lr_preset {
    lr_shape shape;
    const char *match, *source;
    bool runs;            /* larder has its architecture: cost comes from the program */
    double total, active; /* parameters; 0 if it runs (the program says) */
    double kv_width;      /* numbers a layer keeps per token; 0 if it runs */
} lr_preset;

/* The tables built into the program. */
larder_status lr_catalogue_open(lr_catalogue *out, larder_error *err);
/* Tables given as text, for tests. */
larder_status lr_catalogue_parse(const char *machines, size_t n_machines, const char *models, size_t n_models,
                                 lr_catalogue *out, larder_error *err);
void lr_catalogue_close(lr_catalogue *c);

typedef enum lr_want { LR_WANT_ANY, LR_WANT_GPU, LR_WANT_CPU } lr_want;
/* What the words mean: count ("2x"), memory ("64GB") and host are read from them too. false: nothing fits. */
bool lr_machine_find(const lr_catalogue *c, const char *words, lr_want want, lr_machine *out);
/* The nearest, as measurements and claims name models: what else the words say is passed over. */
const lr_preset *lr_preset_find(const lr_catalogue *c, const char *words);
/* The one that is asked for: NULL if the words say a version or a size that it does not have. */
const lr_preset *lr_preset_named(const lr_catalogue *c, const char *words);
/* LARDER_USAGE with the nearest names. */
larder_status lr_machine_unknown(const lr_catalogue *c, const char *words, larder_error *err);
larder_status lr_preset_unknown(const lr_catalogue *c, const char *words, larder_error *err);
/* A number that stands for a name. Never 0. */
uint32_t lr_name_key(const char *name);
/* A dense model of `params` parameters like those people make; for names nobody listed. */
void lr_preset_of_size(double params, lr_preset *out);
/* A model nobody listed, from the sizes in its name ("Granite-3.3-8B", "Ernie-4.5-21B-A3B") or, if it has none there,
 * from `params` (0: unknown). false: neither says how large it is. */
bool lr_preset_guess(const char *words, double params, lr_preset *out);

/* ---------------------------------------------------------------- formats
 * What "Q4_K_M", "FP8", "EXL2 4.0bpw", "int4" cost and how they run. */
typedef enum lr_cls { LR_CLS_F16, LR_CLS_Q8, LR_CLS_Q4, LR_CLS_K, LR_CLSES } lr_cls;
typedef struct lr_quant_name {
    char name[32];
    const lr_mix_type *mix; /* NULL: every matrix at `bits` */
    double bits;            /* of a matrix's number, where mix is NULL */
    lr_cls cls;
    bool fp8, fp4; /* runs on those units where a machine has them */
} lr_quant_name;
bool lr_quant_find(const char *words, lr_quant_name *out);

#endif
