/* speculate.h - how many tokens to draft, and what they are: from the text itself, or from a smaller model.
 *
 * Owns: the decision whether drafting pays, the n-gram lookup, the draft model's own cache and steps.
 * Refuses to own: acceptance. A drafted token counts only if it is what the model samples there (step.c), so nothing here
 * can change an answer, only its speed.
 *
 * When it pays. Two judges, both of an engine and of how many answers are being made (by half octaves), because what a
 * token more in a step costs depends on that. Only steps that read no prompts are evidence.
 * - Before: a step of n tokens takes about a + b n seconds, fitted to the steps measured. With N answers, a drafted token
 *   that comes j-th is right with p^j; it is worth drafting while p^j / (b + c) > N / (a + b N): while it brings more tokens
 *   a second than the step does without it. c: what drafting one costs. p is learnt per request, and begins with the share
 *   that the engine's other requests had.
 * - After: tokens said a second, in steps with drafts and in steps without. If those with are slower, whatever the fit
 *   says, nobody drafts for a time, twice as long each time. While they are faster, one step in 64 goes without, so that
 *   what they are compared with is of the present.
 */
#ifndef LR_SPECULATE_H
#define LR_SPECULATE_H

#include "backend.h"
#include "model.h"
#include "sampler.h"

/* Most tokens drafted for one request, and for all, in one step. */
enum { LR_DRAFT_ONE = 8, LR_DRAFT_ALL = 16 };

typedef enum lr_draft_from { LR_DRAFT_NONE, LR_DRAFT_NGRAM, LR_DRAFT_MODEL } lr_draft_from;

/* Of an engine and a number of answers: what steps took and brought. Sums over steps, the older the lighter. */
typedef struct lr_payoff {
    double w, x, y, xx, xy;        /* 1, tokens, seconds, ... */
    double ratio;                  /* b to a, when the steps last differed enough to tell; 0: they never did */
    double n[2], said[2], took[2]; /* steps, tokens said per answer, seconds: without drafts, with */
    uint32_t rest, patience;       /* steps nobody is to draft; how many next time */
    uint32_t turn;                 /* steps with drafts since one without */
} lr_payoff;

enum { LR_PAYOFFS = 24 };

/* Of an engine: what steps cost, and how drafts did. */
typedef struct lr_step_cost {
    lr_payoff by[LR_PAYOFFS];  /* number of answers: 1, 2, 3, 4, 5-6, 7-8, 9-12, ... */
    double right[3], tried[3]; /* by source, over all requests */
    double draft_s;            /* seconds per token of the draft model */
} lr_step_cost;
/* A step that read no prompts: n_answer answers went on, n_tok tokens were computed in `seconds`, n_said were said, and with
 * drafting and sampling it took `whole`. */
void lr_cost_note(lr_step_cost *c, uint32_t n_answer, uint32_t n_tok, uint32_t n_said, double seconds, double whole);
void lr_cost_note_draft(lr_step_cost *c, uint32_t n_tok, double seconds);
/* Before a step with so many answers: may anybody draft in it? To be asked once a step. */
bool lr_cost_lets_draft(lr_step_cost *c, uint32_t n_answer);

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
uint32_t lr_speculation_length(lr_speculation *s, lr_draft_from from, lr_step_cost *c, uint32_t n_answer,
                               uint32_t most);
/* Of n_drafted the first n_accepted were right. */
void lr_speculation_note(lr_speculation *s, lr_step_cost *c, uint32_t n_drafted, uint32_t n_accepted);

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
