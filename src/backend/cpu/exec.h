/* exec.h - a program on the CPU: one step of it under way.
 *
 * Owns: what exec_run.c, exec_mm.c and exec_attn.c walk.
 *
 * The program becomes phases (code.h), which every thread walks in step. What crosses threads crosses a barrier at the end of a
 * phase. A phase is one kind of work dealt one way: rows (norms, rotations, packing: by token), matrix products (by
 * output rows), routed experts, attention, and one wide row by columns. When a step has one token, a phase of rows is
 * done by every thread for itself into memory of its own (`local`): that costs less than the barrier it saves.
 */
#ifndef LR_EXEC_H
#define LR_EXEC_H

#include "attn.h"
#include "code.h"

#include <stdatomic.h>

larder_status lr_cpu_code_make(const lr_program *p, const lr_limits *l, lr_code *out, larder_error *err);
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
enum { LR_TWICE_ROWS = 64 }; /* rows at a time of a product that meets two int8 rows */
enum { LR_MM_UNIT = 2 };     /* tiles of products are dealt in pairs */
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

void lr_run_rows(lr_worker *w, const lr_phase *ph);
void lr_run_wide(lr_worker *w, const lr_phase *ph);
void lr_run_mm(lr_worker *w, const lr_phase *ph);
void lr_run_moe(lr_worker *w, const lr_phase *ph);
void lr_run_attn(lr_worker *w, const lr_phase *ph);
/* K and V of one token and one head into the cache. */
void lr_store_kv(lr_worker *w, const lr_node *n, uint32_t tok, uint32_t head);

#endif
