/* code.h - a program compiled for a backend: slots, nodes, phases, and where values lie.
 *
 * Owns: what every backend does with a program first (code.c): what is computed only where it is wanted, residuals added
 * where they lie, neighbours that go together, lifetimes; checks of a step; its bytes and operations (figures.c).
 * Refuses to own: kernels, memory, running.
 *
 * A phase is one kind of work: rows (norms, rotations, packing: token by token), matrix products, routed experts,
 * attention, one wide row. What one phase writes, later ones read.
 */
#ifndef LR_CODE_H
#define LR_CODE_H

#include "backend.h"

#define LR_NO_SLOT UINT32_MAX

/* Where the rows of a value lie, or of a packed copy of one, or of a table. */
typedef struct lr_slot {
    uint64_t row_bytes; /* of one token, `mul` rows included */
    uint8_t rows;       /* lr_rows */
    bool local;         /* a copy per thread when the step has one row */
    bool passing;       /* read by the phase that writes it alone: one row per thread, always */
    bool logits;        /* in the buffer of its own */
    bool target;        /* some product is added onto it where it lies */
    bool made;
    uint32_t root;        /* the slot whose memory this one is */
    uint32_t phase;       /* that writes it */
    uint32_t first, last; /* phases between which the memory is taken (of roots) */
    uint64_t at, at_local;
} lr_slot;

enum { LR_NODE_PACK = LR_OP_KINDS, LR_NODE_STORE, LR_NODE_ANGLES };

typedef struct lr_node {
    uint8_t kind; /* lr_op_kind, or one of the three above */
    uint8_t rows; /* lr_rows of what it writes */
    int actk;     /* PACK, LINEAR, LINEAR_ROUTED: the target's own number */
    bool add;     /* LINEAR: onto what out holds */
    bool sparse;  /* EMBED: of its table nothing is read but the tokens' rows */
    uint32_t in[3], out;
    uint32_t n;     /* width of in[0] */
    uint32_t width; /* of out */
    uint32_t mul;   /* rows per token of out; for PACK of in[0] */
    uint32_t in_mul;
    uint32_t phase;
    lr_op op;
    const lr_tensor *t;    /* the matrices */
    uint64_t w_at, b_at;   /* in the float copies, in floats; UINT64_MAX: none */
    uint32_t w_n;          /* floats of the copy of w */
    uint64_t copy_at;      /* in the copies; UINT64_MAX: in place */
    bool fills;            /* its copy; another node's may be the same */
    bool repacked;         /* its copy (lr_kernels.repack) */
    uint64_t cache_at;     /* ATTEND, STORE: where its layer begins */
    uint32_t cache_stride; /* ATTEND, STORE: bytes of one block of one head */
} lr_node;

typedef enum lr_phase_kind { LR_PHASE_ROWS, LR_PHASE_MM, LR_PHASE_MOE, LR_PHASE_ATTN, LR_PHASE_WIDE } lr_phase_kind;

typedef struct lr_phase {
    lr_phase_kind kind;
    uint8_t rows;
    bool local;
    uint32_t first, n; /* in lr_code.order */
    uint64_t bytes;    /* of weights, each once */
    uint32_t tiles;    /* MM: of 16 output rows */
    char name[48];
    uint64_t ns, ops, read;
    uint32_t calls;
} lr_phase;

typedef struct lr_code lr_code;
/* What a product's numbers are for, where rounding matters more or less. */
typedef struct lr_use {
    bool routes;   /* experts are chosen by them */
    bool routed;   /* the program chooses experts somewhere */
    bool attended; /* what comes in is what attention brought */
} lr_use;
/* What code.c must know of a backend. */
typedef struct lr_target {
    /* The form of activations that a product's weights meet, a number of the target's own; -1: it has no such product. */
    int (*act_kind)(const lr_code *c, uint32_t fmt, uint32_t cols, lr_use use);
    size_t (*act_bytes)(const lr_code *c, int kind, uint32_t n); /* of a packed row of n numbers; a multiple of 64 */
    uint32_t (*passes)(int kind);                                /* products it takes */
    larder_act (*act_of)(int kind);                              /* for people */
    uint64_t (*block_bytes)(uint32_t head_dim, larder_kv kv);    /* of a block of one head */
    /* A product's matrix was found; NULL: nothing to do. */
    void (*matrix)(lr_code *c, lr_node *n);
    /* Phases stand, places do not yet; NULL: nothing to do. */
    void (*shape)(lr_code *c);
} lr_target;

/* A compiled program and the sizes of all it needs. */
struct lr_code {
    const lr_program *p;
    lr_limits l;
    const lr_target *target;
    const struct lr_kernels *k; /* the CPU's */
    lr_arena arena;
    lr_node *nodes;
    lr_slot *slots;
    lr_phase *phases;
    uint32_t *order; /* node indexes, phase by phase */
    uint32_t n_node, n_slot, n_phase, cap_node, cap_slot;
    uint32_t logits;    /* slot */
    uint32_t hidden;    /* slot, if l.n_hidden */
    uint32_t tile_tok;  /* tokens per unit of attention in prefill */
    uint32_t attn_rows; /* most rows of a unit */
    uint32_t n_expert;  /* most of any routed product */
    uint32_t n_route;   /* most rows of a step in routed products */
    /* bytes */
    uint64_t shared, local, floats, copies, cache, logits_bytes, parts;
    uint64_t weights; /* read where they are mapped: those that are copied are not */
    uint64_t scratch; /* per thread, `local` included */
    uint64_t at_ptrs, at_mm, at_twice, at_attn, at_sort; /* within it */
    uint64_t mm_bytes;
};

/* *out: zero but for what the target needs. Everything in it that the target does not set itself is set. */
larder_status lr_code_make(const lr_target *target, const lr_program *p, const lr_limits *l, lr_code *out,
                           larder_error *err);
void lr_code_free(lr_code *c);
static inline lr_node *lr_code_node(const lr_code *c, const lr_phase *ph, uint32_t i)
{
    return &c->nodes[c->order[ph->first + i]];
}
/* Room for a float copy of all of a weight, in floats; UINT64_MAX for LR_NONE. *n (may be NULL): how many. */
uint64_t lr_code_floats(lr_code *c, uint16_t w, uint32_t *n);
/* Fills the float copies: small weights as float32, [c->floats]. */
void lr_code_fill_floats(const lr_code *c, float *floats);
/* Most rows of a slot: steps that want hidden states have more of them, and end before the logits. */
uint32_t lr_code_most_rows(const lr_code *c, const lr_slot *s);
/* Matrix m of a tensor, in its file. */
static inline const uint8_t *lr_tensor_mat(const lr_tensor *t, uint64_t m)
{
    return t->mats ? t->mats[m] : t->data + m * t->mat_stride;
}
/* Read, where they lie in a file, so that its pages do not count as this process's memory besides. */
static inline void lr_read_bytes(const uint8_t *from, size_t n, uint8_t *to)
{
    if (!lr_map_read(from, n, to)) memcpy(to, from, n);
}
/* Within the limits, and every number in range. */
larder_status lr_code_check(const lr_code *c, const lr_batch *b, larder_error *err);

/* ---- figures.c */
/* Bytes a step must read, of weights and cache. */
uint64_t lr_code_bytes(const lr_code *c, const lr_batch *b);
/* Adds a phase's bytes and operations of this step to its figures. */
void lr_code_count(const lr_code *c, lr_phase *ph, const lr_batch *b);
void lr_code_reset(lr_code *c);
uint32_t lr_code_read(const lr_code *c, lr_op_time *out, uint32_t cap);
uint64_t lr_program_block_bytes(const lr_program *p, larder_kv kv, uint64_t (*block_bytes)(uint32_t, larder_kv));

#endif
