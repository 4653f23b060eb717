/* program.h - a model as a program: a flat list of operators over values of symbolic size.
 *
 * Owns: the operator list and the calls that append to it. Everything else reads this list: the planner costs it,
 * backends run it, link cuts it, tune differentiates it. Nothing is computed here.
 * Refuses to own: architectures (arch_*.c), devices (src/backend), sizes of batches.
 *
 * A value is a matrix of float32 [rows, width]. Its number of rows is symbolic: T tokens of the step, or the O of them
 * whose output is wanted, times `mul` (the experts each token is sent to).
 */
#ifndef LR_PROGRAM_H
#define LR_PROGRAM_H

#include "file.h"
#include "quant.h"

typedef uint16_t lr_val; /* index into lr_program.values */
#define LR_NONE ((lr_val)0xffff)

typedef enum lr_rows { LR_ROWS_TOK, LR_ROWS_OUT } lr_rows;

typedef struct lr_value {
    uint32_t width;
    uint16_t mul; /* rows = T or O, times this */
    uint8_t rows; /* lr_rows */
    bool routing; /* not numbers but a choice: `width` (expert id, weight) pairs per row */
} lr_value;

/* A weight in use. Matrices are [ne1 rows = outputs, ne0 columns = inputs]; y = x W^T. */
typedef struct lr_weight {
    const lr_tensor *t;
    /* t->col_stride != 0: ne is still [inputs, outputs], but the file holds it turned. A backend must make a packed
     * copy, and account for it (lr_tensor_row reads any row). Biases can be such too. */
    bool transposed;
    float add; /* added to every element when used (Gemma's norms stored as w - 1); 1-D only */
} lr_weight;

typedef enum lr_rope_kind { LR_ROPE_PAIRS /* (2i, 2i+1) */, LR_ROPE_HALVES /* (i, i + n_rot/2) */ } lr_rope_kind;

/* Rotation of the first n_rot numbers of each head: angle(pos, i) = pos * inv_freq[i], result times `mscale`.
 * Every scaling scheme (llama3, linear, dynamic, yarn, longrope) ends as such a table. */
typedef struct lr_rope {
    lr_rope_kind kind;
    uint32_t n_rot;
    const double *inv_freq; /* [n_rot / 2], in the program's arena */
    double mscale;
} lr_rope;

typedef enum lr_fn { LR_FN_SILU, LR_FN_GELU_TANH, LR_FN_GELU_ERF, LR_FN_RELU, LR_FN_RELU2, LR_FN_SWIGLU_OAI } lr_fn;

typedef struct lr_attn {
    uint32_t layer; /* its slot in the cache */
    uint32_t n_head, n_head_kv, head_dim;
    float scale;
    uint32_t window; /* a query at p sees keys in (p - window, p]; 0: all */
    float softcap;   /* scores become cap * tanh(s / cap); 0: none */
    uint16_t sinks;  /* weight [n_head]: one more logit per head in the softmax, without a value; LR_NONE: none */
} lr_attn;

typedef struct lr_route {
    uint32_t k; /* experts per token */
    enum {
        LR_ROUTE_SOFTMAX,
        LR_ROUTE_TOPK_SOFTMAX,
        LR_ROUTE_SIGMOID
    } gating;      /* softmax over all, or over the chosen */
    bool renorm;   /* chosen weights divided by their sum */
    float scale;   /* and multiplied by this; 1 */
    uint16_t bias; /* weight [n_expert] added to scores for choosing only; LR_NONE */
} lr_route;

/* What the operators compute. x is in[0]; W is weight w, b is weight bias (LR_NONE: absent). */
typedef enum lr_op_kind {
    LR_OP_EMBED,     /* out[t] = W[id of t] * scale */
    LR_OP_RMSNORM,   /* per group of `group` numbers: x / sqrt(mean(x^2) + eps) * (w + add) */
    LR_OP_LAYERNORM, /* (x - mean) / sqrt(var + eps) * w + b */
    LR_OP_LINEAR,    /* x W^T + b */
    LR_OP_ROPE,      /* rotates every head of x by its token's position */
    LR_OP_ATTEND,    /* in: q, k, v. Stores k, v at the token's position in the cache, then attends over it */
    LR_OP_ADD,       /* in[0] + in[1] */
    LR_OP_SCALE,     /* x * scale */
    LR_OP_ACT,       /* fn(x) */
    /* fn(in[0]) * in[1]; SWIGLU_OAI: g' = min(g, 7), u' = clamp(u, -7, 7): g' * sigmoid(1.702 g') * (u' + 1) */
    LR_OP_GLU,
    LR_OP_SOFTCAP,       /* cap * tanh(x / cap), cap in `scale` */
    LR_OP_ROUTE,         /* scores x [T, n_expert] -> routing of k */
    LR_OP_LINEAR_ROUTED, /* in: x, routing. Row (t, j) times the matrix of the expert in slot j of token t (+ its bias) */
    LR_OP_COMBINE,       /* in: y (T*k rows), routing: out[t] = sum_j weight(t, j) * y[t, j] */
    LR_OP_PICK,          /* keeps the rows whose output is wanted: T -> O */
    LR_OP_KINDS,
} lr_op_kind;

typedef struct lr_op {
    uint8_t kind;   /* lr_op_kind */
    uint8_t fn;     /* lr_fn */
    uint16_t layer; /* which layer it belongs to, for people; 0xffff: none */
    lr_val in[3], out;
    uint16_t w, bias; /* indexes into lr_program.weights; LR_NONE */
    uint16_t rope;    /* ROPE: index into lr_program.ropes */
    float eps, scale;
    uint32_t group; /* RMSNORM: width of a group; ROPE: head_dim */
    union {
        lr_attn attn;
        lr_route route;
    };
} lr_op;

typedef struct lr_program {
    lr_op *ops;
    uint32_t n_ops, cap_ops;
    lr_value *values;
    uint32_t n_values, cap_values;
    lr_weight *weights;
    uint32_t n_weights, cap_weights;
    lr_rope ropes[4];
    uint32_t n_ropes;
    uint32_t n_layer;                /* cache slots */
    uint32_t n_vocab, n_embd, n_ctx; /* n_ctx: the context it was built for */
    lr_val logits, hidden; /* hidden: what the logits are made of, after the final norm; LR_NONE: not said */
    uint16_t layer;        /* current, while building; 0xffff: none */
    lr_arena arena;
    larder_error fault; /* the first failure while building: calls after it do nothing */
} lr_program;

/* ---- building. Each appends one operator and returns its output; on failure p->fault is set and LR_NONE returned. */
uint16_t lr_weight_use(lr_program *p, const lr_tensor *t, float add); /* index; LR_NONE if t is NULL */
lr_val lr_embed(lr_program *p, uint16_t w, float scale);
lr_val lr_rmsnorm(lr_program *p, lr_val x, uint16_t w, double eps, uint32_t group); /* group 0: the whole width */
lr_val lr_layernorm(lr_program *p, lr_val x, uint16_t w, uint16_t b, double eps);
lr_val lr_linear(lr_program *p, lr_val x, uint16_t w, uint16_t b);
lr_val lr_rotate(lr_program *p, lr_val x, uint16_t rope, uint32_t head_dim);
lr_val lr_attend(lr_program *p, lr_val q, lr_val k, lr_val v, const lr_attn *a);
lr_val lr_add(lr_program *p, lr_val a, lr_val b);
lr_val lr_scale(lr_program *p, lr_val x, float s);
lr_val lr_act(lr_program *p, lr_fn fn, lr_val x);
lr_val lr_glu(lr_program *p, lr_fn fn, lr_val gate, lr_val up);
lr_val lr_softcap(lr_program *p, lr_val x, float cap);
lr_val lr_route_topk(lr_program *p, lr_val scores, const lr_route *r);
/* x has one row per token (every chosen expert reads it), or one per (token, slot) */
lr_val lr_linear_routed(lr_program *p, lr_val x, lr_val routing, uint16_t w, uint16_t b);
lr_val lr_combine(lr_program *p, lr_val y, lr_val routing);
lr_val lr_pick(lr_program *p, lr_val x);
void lr_output(lr_program *p, lr_val logits);
void lr_program_free(lr_program *p);
/* Shapes fit, values are written before they are read, every weight's shape matches its use. LARDER_FORMAT names the op. */
larder_status lr_program_check(const lr_program *p, larder_error *err);
/* One line per operator, for people and for tests. */
void lr_program_print(const lr_program *p, lr_buf *out);
const char *lr_op_name(lr_op_kind kind);
/* Decodes row `row` of matrix `mat` to ne[0] floats, whatever strides and planes the tensor has. For set-up and tests. */
void lr_tensor_row(const lr_tensor *t, uint64_t mat, uint64_t row, float *dst);

#endif
