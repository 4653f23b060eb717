/* exec.h - a program compiled for the CPU: slots, nodes, phases; and one step of it under way.
 *
 * Owns: what exec_compile.c makes and exec_run.c, exec_mm.c and exec_attn.c walk.
 *
 * The program becomes phases, which every thread walks in step. What crosses threads crosses a barrier at the end of a
 * phase. A phase is one kind of work dealt one way: rows (norms, rotations, packing: by token), matrix products (by
 * output rows), routed experts, attention, and one wide row by columns. When a step has one token, a phase of rows is
 * done by every thread for itself into memory of its own (`local`): that costs less than the barrier it saves.
 */
#ifndef LR_EXEC_H
#define LR_EXEC_H

#include "attn.h"

#include <stdatomic.h>

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
    lr_actk actk; /* PACK, LINEAR, LINEAR_ROUTED */
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

/* A compiled program and the sizes of all it needs. */
typedef struct lr_code {
    const lr_program *p;
    lr_limits l;
    const lr_kernels *k;
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
    uint64_t weights;                          /* read where they are mapped: those that are copied are not */
    uint64_t scratch;                          /* per thread, `local` included */
    uint64_t at_ptrs, at_mm, at_attn, at_sort; /* within it */
    uint64_t mm_bytes;
} lr_code;

larder_status lr_code_make(const lr_program *p, const lr_limits *l, lr_code *out, larder_error *err);
void lr_code_free(lr_code *c);
/* Bytes from one matrix of a copy to the next: rows without gaps, repacked ones in whole groups; at a line's beginning. */
static inline uint64_t lr_copy_stride(const lr_code *c, const lr_node *n)
{
    uint64_t rows = n->repacked ? LR_ALIGN_UP((uint64_t)n->width, (uint64_t)c->k->pack_rows) : n->width;
    return LR_ALIGN_UP(lr_fmt_row_bytes(n->t->fmt, n->n) * rows, 64);
}
typedef struct lr_counter {
    _Alignas(64) _Atomic uint64_t v;
} lr_counter;

struct lr_exec {
    lr_code c;
    lr_pool *pool;
    uint8_t *shared, *copies, *cache, *scratch, *parts;
    float *floats, *logits;
    lr_counter *next;  /* per phase: what has been dealt */
    lr_counter *deals; /* [2][n_thread]: what is gone of each thread's share of the phase at hand (lr_deal) */
    uint32_t *pos, *seq,
        *tile; /* per token its position and sequence (then each sequence's first token); tiles before each */
    uint64_t step_bytes;
    bool profiling;
    /* For tests: sees every token's routing, pairs of expert and weight [k], as it is chosen. NULL but there. */
    void (*on_route)(void *user, uint32_t layer, uint32_t tok, const uint32_t *routing, uint32_t k);
    void *on_route_user;
    /* the step under way */
    const lr_batch *b;
    uint32_t n_chunk; /* attention is split in so many chunks; 0: not */
    bool one;         /* one token */
};

/* exec_memory.c */
void lr_exec_resident(const lr_exec *x, lr_account *a);
void lr_exec_copy(lr_exec *x);   /* fills the copies (exec_copy.c) */
void lr_exec_take(lr_exec *x);   /* brings what was planned into memory */
void lr_exec_tables(lr_exec *x); /* finds the tables of which rows are looked up, and no more */
/* A row of such a table, out of the file: in memory it would bring up to 2 MiB of others along. false: it has no file. */
bool lr_exec_look(const lr_tensor *table, uint64_t row, float *y, uint32_t n);
void lr_exec_walk(void *exec, int thread, int n_thread);

/* What a thread has at hand during a step. */
typedef struct lr_worker {
    lr_exec *x;
    int thread, n_thread;
    uint8_t *scratch;
    uint32_t sorted; /* slot of the routing that lies sorted in scratch; LR_NO_SLOT */
    uint32_t dealt;  /* phases of products so far */
} lr_worker;

static inline uint32_t lr_rows_of(const lr_exec *x, uint8_t rows)
{
    return rows == LR_ROWS_TOK ? x->b->n_tok : x->b->n_out;
}
/* Row `row` (a token's) of a slot, as this thread sees it. */
static inline void *lr_at(const lr_worker *w, uint32_t slot, uint32_t row)
{
    const lr_exec *x = w->x;
    const lr_slot *s = &x->c.slots[slot];
    if (s->passing || (s->local && lr_rows_of(x, s->rows) == 1)) return w->scratch + s->at_local;
    if (s->logits) return (uint8_t *)x->logits + row * s->row_bytes;
    return x->shared + s->at + row * s->row_bytes;
}
static inline const float *lr_floats_at(const lr_worker *w, uint64_t at)
{
    return at == UINT64_MAX ? NULL : w->x->floats + at;
}
/* Hands out the next of n units of a phase. */
static inline uint64_t lr_next(const lr_worker *w, uint32_t phase, uint64_t grain)
{
    return atomic_fetch_add_explicit(&w->x->next[phase].v, grain, memory_order_relaxed);
}

/* Where a thread's share of n units begins, and the one's before it ends: the same in every step, so what a thread is the
 * first to touch, and what the system therefore puts into the memory of its node, is what it reads ever after. */
static inline uint64_t lr_share_at(uint64_t n, uint32_t unit, int thread, int n_thread)
{
    return thread == n_thread ? n : n / unit * (uint64_t)thread / (uint64_t)n_thread * unit;
}
enum { LR_MM_UNIT = 2 }; /* tiles of products are dealt in pairs */
/* A phase's n units as one thread sees them: a share each, taken from its front `own` at a time; then halves of what
 * others have left, from the back, while it is at least `least` (at most UINT32_MAX). Shares and halves are whole
 * multiples of `unit`. Every thread must deal every such phase, and a barrier must end it. (exec_mm.c) */
typedef struct lr_hand {
    lr_counter *deals; /* [n_thread] */
    uint64_t n;
    uint32_t unit;
    uint64_t own, least;
    int at; /* whose turn: so many threads after this one */
} lr_hand;
lr_hand lr_deal(lr_worker *w, uint64_t n, uint32_t unit, uint64_t own, uint64_t least);
bool lr_hand_next(const lr_worker *w, lr_hand *h, uint64_t *from, uint64_t *n);

/* Adds a phase's bytes and operations of this step to its figures. */
void lr_count(const lr_exec *x, lr_phase *ph);
void lr_run_rows(lr_worker *w, const lr_phase *ph);
void lr_run_wide(lr_worker *w, const lr_phase *ph);
void lr_run_mm(lr_worker *w, const lr_phase *ph);
void lr_run_moe(lr_worker *w, const lr_phase *ph);
void lr_run_attn(lr_worker *w, const lr_phase *ph);
/* K and V of one token and one head into the cache. */
void lr_store_kv(lr_worker *w, const lr_node *n, uint32_t tok, uint32_t head);

#endif
