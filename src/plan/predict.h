/* predict.h - seconds: what a machine needs for a step, from physics and a small fitted model.
 *
 * Owns: the ceilings (bytes over bandwidth, operations over rate), the efficiency model and its range. The model's
 * numbers are fit.def, written by script/fit from data/measured.csv; docs/planner.md describes it.
 * Refuses to own: what a step costs (cost.h), names (catalogue.h).
 */
#ifndef LR_PREDICT_H
#define LR_PREDICT_H

#include "cost.h"

typedef enum lr_family { LR_FAM_CUDA, LR_FAM_METAL, LR_FAM_ROCM, LR_FAM_VULKAN, LR_FAM_CPU, LR_FAMS } lr_family;
/* Engines differ less than families do: by what they leave of the machine's speed. */
typedef enum lr_engine {
    LR_ENGINE_LLAMA_CPP,
    LR_ENGINE_OLLAMA,
    LR_ENGINE_IK,
    LR_ENGINE_LEAN /* calm, yalm, exllama, mlc, gpt-fast, mlx */,
    LR_ENGINE_SERVER /* vLLM, SGLang, TensorRT-LLM */,
    LR_ENGINE_EAGER /* transformers */,
    LR_ENGINE_LARDER,
    LR_ENGINES
} lr_engine;

/* How it is run. */
typedef struct lr_setup {
    lr_family family;
    lr_engine engine;
    double year;       /* of the software; 0: recent */
    bool flash;        /* attention without writing scores out */
    bool tensor_split; /* every matrix cut over the cards (else: layers after one another) */
    double ubatch;     /* tokens a prefill handles at once */
    double kv_bytes;   /* per number */
} lr_setup;
bool lr_setup_find(const char *backend, const char *version, const lr_machine *m, lr_setup *out);
lr_setup lr_setup_usual(const lr_machine *m); /* what people run there */

typedef enum lr_work { LR_TASK_DECODE, LR_TASK_PREFILL } lr_work;
/* Everything that the efficiency model looks at. Times are seconds at the machine's stated figures. */
typedef struct lr_features {
    lr_work task;
    lr_family family;
    lr_engine engine;
    lr_cls cls;
    lr_gen gen;
    uint32_t machine, model; /* keys, for what was measured alike; 0: unknown */
    double count;            /* machines */
    double params;           /* of the model that are active */
    double depth;
    bool flash, moe, tensor_split, cluster, weak_host;
    double year;
    double tokens; /* the step's tokens: rate = tokens / seconds */
    double t_weight, t_kv, t_alu, t_act, t_score, t_spill;
    double t_dense, t_expert, t_attn, t_shader; /* operations over matrix rate; and over the shader's */
    double expert_rows;
    double n_layer, n_step; /* n_step: ubatches */
    double n_core;          /* of a processor that compute */
    double power;           /* watts per TFLOPS, of a card; 0: not known */
    double ceiling;         /* seconds that physics allows at least */
    bool by_compute;        /* and which limit that is */
    bool has_own;           /* larder's own kernels were measured there: */
    double own[8];          /* then seconds by part */
} lr_features;

/* Where the seconds go. */
enum {
    LR_PART_WEIGHTS,
    LR_PART_DECODING,
    LR_PART_CACHE,
    LR_PART_LAYERS,
    LR_PART_HOST,
    LR_PART_MATRICES,
    LR_PART_CARDS,
    LR_PARTS
};
const char *lr_part_name(lr_work task, int part);

typedef struct lr_prediction {
    double seconds, rate;  /* of the step; tokens a second */
    double low, high;      /* 80% range of the rate */
    double ceiling;        /* the rate that physics allows at most */
    double share;          /* rate / ceiling */
    double n_near, own;    /* how much was measured on machines alike, and on this one; 0: nothing */
    double shift;          /* what those measurements change the rate by, as a factor */
    double part[LR_PARTS]; /* seconds of the model before that */
    const char *bottleneck;
} lr_prediction;

/* Decode: one token of each of n_seq sequences at this depth. Prefill: n_tok tokens of one. */
void lr_features_make(const lr_machine *m, const lr_plan_model *model, const lr_setup *s, lr_work task, double n_tok,
                      double n_seq, double depth, lr_features *out);
void lr_predict(const lr_features *f, lr_prediction *out);
/* Bytes a machine needs for it, and has. */
bool lr_machine_holds(const lr_machine *m, double bytes);

/* ---------------------------------------------------------------- the fitted part (fit.def) */
enum { LR_MAX_PARAM = 96 };
typedef struct lr_param {
    const char *name;
    double mean, sd; /* what is believed before any measurement, of the logarithm */
} lr_param;
extern const lr_param lr_params[];
extern const int lr_n_params;
/* Seconds by the model alone, with theta (logarithms). */
double lr_model_seconds(const lr_features *f, const double *theta);
double lr_model_parts(const lr_features *f, const double *theta, double *part);
/* Where a row stands for the correction by its neighbours. */
typedef struct lr_seen {
    uint32_t machine, model;
    uint8_t task, family, engine, cls, gen, count;
    float log_depth, log_params, year, flash, residual; /* log(measured rate / modelled rate) */
} lr_seen;
void lr_seen_make(const lr_features *f, double residual, lr_seen *out);
/* Likeness of two rows, 0 to 1. */
double lr_seen_like(const lr_seen *a, const lr_seen *b);
/* The neighbours' mean residual, shrunk. `apart`: without those of the same machine, model and format. */
typedef struct lr_near {
    double shift, weight, own; /* how much stands behind it; how much of that was measured on the machine itself */
} lr_near;
lr_near lr_seen_correct(const lr_seen *all, size_t n, const lr_seen *at, bool apart);
/* Classes of the range: task, and how near the measurements are. */
enum { LR_RANGES = 8 };
int lr_range_class(const lr_seen *at, const lr_near *near);

#endif
