/* speculate.h - how many tokens to draft, and what they are: from the text itself, or from a smaller model.
 *
 * Owns: the decision whether drafting pays, the n-gram lookup, the draft model's own cache and steps.
 * Refuses to own: acceptance. A drafted token counts only if it is what the model samples there (step.c), so nothing here
 * can change an answer, only its speed.
 *
 * When it pays. A step of n tokens takes about a + b n seconds (fitted to the steps measured). With N answers being made, a
 * drafted token that comes j-th is right with p^j; it is worth drafting while p^j / (b + c) > N / (a + b N): while it brings
 * more tokens a second than the step does without it. c: what drafting one costs. p is learnt per request.
 */
#ifndef LR_SPECULATE_H
#define LR_SPECULATE_H

#include "backend.h"
#include "model.h"
#include "sampler.h"

/* Most tokens drafted for one request, and for all, in one step. */
enum { LR_DRAFT_ONE = 8, LR_DRAFT_ALL = 16 };

/* Of an engine: what steps cost. */
typedef struct lr_step_cost {
    double w, x, y, xx, xy; /* sums over steps, the older the lighter: 1, tokens, seconds, ... */
    double draft_s;         /* seconds per token of the draft model */
} lr_step_cost;
void lr_cost_note(lr_step_cost *c, uint32_t n_tok, double seconds);
void lr_cost_note_draft(lr_step_cost *c, uint32_t n_tok, double seconds);

typedef enum lr_draft_from { LR_DRAFT_NONE, LR_DRAFT_NGRAM, LR_DRAFT_MODEL } lr_draft_from;

/* Of a request: how well its drafts do. */
typedef struct lr_speculation {
    larder_speculate mode;
    lr_draft_from from;        /* of the step under way */
    double right[3], tried[3]; /* by source, the older the lighter */
    uint32_t quiet, patience; /* tokens since it last drafted; how many before it tries again though it did not pay */
    uint64_t n_drafted, n_accepted;
} lr_speculation;
void lr_speculation_init(lr_speculation *s, larder_speculate mode);
/* Tokens worth drafting now from this source, at most `most`, with n_answer answers being made. */
uint32_t lr_speculation_length(lr_speculation *s, lr_draft_from from, const lr_step_cost *c, uint32_t n_answer,
                               uint32_t most);
/* Of n_drafted the first n_accepted were right. */
void lr_speculation_note(lr_speculation *s, uint32_t n_drafted, uint32_t n_accepted);

/* What followed when the text last ended like this: up to `most` tokens into out. 0: it never did. */
uint32_t lr_ngram_draft(const int32_t *ids, uint32_t n, uint32_t most, int32_t *out);

/* ---------------------------------------------------------------- a draft model */
typedef struct lr_draft_seq {
    const void *owner;
    uint32_t n_done; /* positions of its text in the draft's cache */
    uint32_t *blocks;
} lr_draft_seq;

typedef struct lr_draft {
    lr_program program;
    lr_limits limits;
    const lr_backend *backend;
    lr_pool *pool;
    lr_exec *exec;
    lr_draft_seq *seqs; /* [n_seq] */
    uint32_t *blocks;
    int32_t *ids;
    lr_batch_seq *batch;
    uint32_t *out;
} lr_draft;

/* One text to be continued. */
typedef struct lr_draft_job {
    const void *owner; /* whose place in the cache it uses */
    int32_t *ids;      /* [n_ids], room for n_want more, which are written here */
    uint32_t n_ids, n_want;
    lr_sampler sampler; /* its own copy: what it draws with may change */
    lr_draft_seq *seq;
} lr_draft_job;

/* The limits a draft model gets beside a target's. */
lr_limits lr_draft_limits(const lr_limits *target);
larder_status lr_draft_open(lr_draft *d, const lr_model *model, const lr_limits *target, const lr_backend *backend,
                            lr_pool *pool, larder_error *err);
void lr_draft_close(lr_draft *d);
/* Continues all of them; those without a place (busy: whose owners may not lose theirs) get n_want = 0. */
larder_status lr_draft_run(lr_draft *d, lr_draft_job *jobs, uint32_t n, lr_sampler_work *work, larder_error *err);
/* The first n of the owner's tokens stay as they are; what comes after may have changed. */
void lr_draft_keep(lr_draft *d, const void *owner, uint32_t n);
void lr_draft_forget(lr_draft *d, const void *owner);

#endif
