/* own.h - larder's own engine on a machine it has measured: seconds of a step from the times of its kernels.
 *
 * Owns: adding a program's operators up from times per format, row and byte of cache. Refuses to own: measuring them
 * (src/tools/kernels.c), machines known by their figures alone (predict.h).
 */
#ifndef LR_OWN_H
#define LR_OWN_H

#include "predict.h"

#define LR_OWN_IDLE 0.02
enum { LR_OWN_ROWS = 9, LR_OWN_FORMATS = 48, LR_OWN_HEADS = 2, LR_OWN_FILLS = 5 };
extern const double lr_own_rows[LR_OWN_ROWS]; /* rows of a step that formats are timed with */
extern const uint32_t lr_own_head[LR_OWN_HEADS];
extern const double lr_own_fill[LR_OWN_FILLS];

typedef struct lr_own_format {
    uint32_t fmt;
    double s[LR_OWN_ROWS]; /* seconds a number of a matrix takes in a step of so many rows, from memory */
} lr_own_format;

typedef struct lr_own {
    lr_own_format formats[LR_OWN_FORMATS];
    uint32_t n_formats;
    double layer_s; /* a layer's fixed time */
    double row_s;   /* per row and number that is no matrix's (lr_own_row_work) */
    double kv_byte_s[LR_OWN_HEADS], attn_op_s[LR_OWN_HEADS]; /* one token over the cache; many tokens */
    double in_cache
        [LR_OWN_FILLS]; /* a weight's time in a model of lr_own_fill times the last cache, against from memory */
    double kv_in_cache; /* and the KV cache's, when there is room for it too */
    /* What that saves at lr_own_rows, against what it saves at one row: arithmetic hides reading. */
    double cache_gain[LR_OWN_ROWS];
    double idle; /* the share of it that is lost when nothing ran for LR_OWN_IDLE seconds: others use the cache too */
    double cache_bytes;
    double bandwidth; /* of memory, which the times of few rows are for */
    double fixed;     /* the share of those that does not follow it */
    double sample_s;  /* choosing a token, per number of the vocabulary */
} lr_own;

const lr_own_format *lr_own_find(const lr_own *o, uint32_t fmt);

/* A model's operators, summed by kind: made once, so that a step costs microseconds to predict. */
typedef struct lr_own_model {
    struct {
        uint32_t fmt;
        bool output; /* rows are those whose logits are wanted: after the last attention no other is computed */
        double n;    /* numbers */
        double n_expert, k;
    } linear[64];
    struct {
        double n_layer, n_head, n_head_kv, head_dim, window;
    } attend[8];
    int n_linear, n_attend;
    double n_layer, row_work, bytes;
    /* It routes: all int8 activations are two rows (src/backend/cpu/exec_compile.c). Elsewhere only what attention brings
     * is, in the models that were timed as in this one. */
    bool twice;
} lr_own_model;
/* Numbers that a token passes besides matrices and attention: written by norms, rotations, gates, sums, packed for products. */
double lr_own_row_work(const lr_program *p);
/* The number of the last attention among its operators; n_ops: it has none. */
uint32_t lr_own_last_attention(const lr_program *p);
/* false: it has no program, or more kinds of operators than are kept apart. */
bool lr_own_model_make(const lr_plan_model *m, lr_own_model *out);
/* The share of a weight's time at one row that the last cache saves when they and kv_bytes of cache are read in each step. */
double lr_own_saved(const lr_own *o, const lr_own_model *m, double kv_bytes);

typedef struct lr_own_seq {
    double n;            /* sequences alike: */
    double n_tok, depth; /* tokens of this step, positions before them */
} lr_own_seq;
/* Seconds longer that a step of one row takes after a pause. */
double lr_own_pause(const lr_own *o, const lr_own_model *m);
/* Seconds of a step of these sequences with n_out rows of logits; the parts are added to part (LR_PARTS), if it is not
 * NULL. */
double lr_own_step(const lr_own *o, const lr_own_model *m, const lr_own_seq *seqs, size_t n, double n_out,
                   double kv_bytes, double *part);

#endif
