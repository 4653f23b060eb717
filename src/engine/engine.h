/* engine.h - the engine's own seam between its files: a model with its text, what it costs, requests in flight.
 *
 * Owns: the insides of the opaque types of larder.h. Refuses to own: kernels (backend), formats (load, quant), HTTP.
 */
#ifndef LR_ENGINE_H
#define LR_ENGINE_H

#include "grammar.h"
#include "kv.h"
#include "load.h"
#include "model.h"
#include "sampler.h"
#include "schedule.h"
#include "speculate.h"
#include "stream.h"
#include "swap.h"
#include "text.h"

#include <stdatomic.h>

struct larder_model {
    lr_file file;
    lr_model model;
    lr_text text;
    bool has_text;
    larder_error text_error; /* why not */
    larder_model_info info;
    char *names;               /* what info's strings point to */
    _Atomic(lr_vocab *) vocab; /* the vocabulary as grammars want it, made when first asked for */
    void *made;                /* pages that hold its weights, when no file does; the model's to free */
    size_t n_made;
};

/* A model of a file already opened (*file is the model's from then on, and empty; on failure it stays the caller's). */
larder_status lr_model_adopt(lr_file *file, larder_model **out, larder_error *err);

/* LARDER_UNSUPPORTED with the reason if the model came without a usable tokenizer. */
larder_status lr_model_need_text(const larder_model *m, larder_error *err);

/* Where a grammar holds that does not hold everywhere. */
typedef struct lr_trigger {
    atomic_uint n_owner;
    char *text;
    size_t n;
    int32_t mark;      /* the control token that is this text; -1: none */
    int32_t spaces[2]; /* tokens that are one space, one line break; -1: none */
    int32_t *across;   /* tokens that may end it and go on */
    uint32_t n_across;
} lr_trigger;
typedef enum lr_hold { LR_HOLD_FREE, LR_HOLD_BEFORE, LR_HOLD_WITHIN } lr_hold;

#define LR_MAX_TOP 20
#define LR_MOST_HIDDEN 512

struct larder_request {
    larder_engine *engine;
    lr_job job;   /* what the scheduler knows of it; out of it once it is done */
    int32_t *ids; /* [job.n_ids] prompt, then answer; room for n_max */
    uint32_t n_max;
    uint32_t n_cached;  /* of the prompt's tokens, taken from the prefix cache */
    uint32_t n_reached; /* most positions it ever had in the cache */
    uint32_t *blocks;   /* [job.n_blocks] */
    uint32_t n_published;
    uint64_t salt;
    uint32_t n_rows; /* of logits in the step being run: the next token's, and one after each drafted */
    bool ignore_eos, cancelled;
    bool caught_up; /* others computed a part of its prompt, which it has not told yet */
    lr_speculation speculation;
    lr_sampler sampler;
    uint8_t *breaks;    /* DRY's sequence breakers */
    lr_matcher grammar; /* .g NULL: free text */
    lr_trigger *after;  /* NULL: the grammar holds everywhere */
    lr_hold hold;
    bool spaced;  /* after it, the space there may be was said */
    lr_buf tail;  /* while it is free: the end of what was said, shorter than the trigger */
    lr_buf piece; /* the text of a token, for it */
    lr_stream stream;
    larder_event_fn *on_event;
    void *user;
    larder_timing timing;
    double log_sum; /* of exp(raw) */
    float *raw;     /* [n_vocab]: the logits as the model gave them; NULL if nobody asked */
    uint32_t n_top;
    larder_logprob top[LR_MAX_TOP];
    uint64_t t_submit, t_start, t_first, t_last; /* ns: queued, admitted, first token, newest token */
};

/* Salts by number, so that comparing two is exact. The one unused longest makes room; its number is never given again, so
 * what it keyed is not found any more. */
enum { LR_MOST_SALTS = 1024, LR_MOST_SALT = 256 };
typedef struct lr_salts {
    struct lr_salt {
        char *text;
        uint64_t number, used;
    } * list;
    uint32_t n;
    uint64_t next, clock;
} lr_salts;

struct larder_engine {
    larder_model *model;
    larder_engine_options options; /* with every 0 replaced by what was chosen */
    larder_plan plan;
    lr_limits limits;
    lr_program program;
    const lr_backend *backend;
    lr_pool *pool;
    lr_exec *exec;
    lr_ahead *ahead; /* the weights' file on its way into memory; NULL: it was there */
    lr_kv_cache kv;
    lr_swap swap;
    uint32_t n_swap; /* its blocks */
    lr_sampler_work work;
    lr_sched sched;
    lr_sched_memory memory;
    lr_salts salts;
    uint32_t n_draft; /* most tokens drafted in a step; 0: none ever */
    lr_draft draft;   /* .exec NULL: there is no draft model */
    lr_step_cost cost;
    uint64_t n_said;           /* tokens of answers, ever */
    bool draft_anyway;         /* for tests: as much as can be, whether it pays or not */
    larder_engine_stats stats; /* what is counted over time */
    /* the step's batch: the scheduler's jobs, in their order */
    int32_t *ids;
    lr_batch_seq *seqs;
    uint32_t *out;
};

/* engine.c: not empty, within the context, all of them the model's. */
larder_status lr_check_ids(const larder_engine *e, const int32_t *ids, size_t n_ids, larder_error *err);
/* engine.c: larder_logits that shows the rows of each step, those of positions [n_done - n_row, n_done), and ends with
 * LARDER_CANCELLED when told false. `out` may be NULL then: nobody need hold the logits of a whole prompt. */
typedef bool lr_tick_fn(void *user, const float *rows, uint32_t n_row, uint32_t n_done, uint32_t n_total);
larder_status lr_logits(larder_engine *e, const int32_t *ids, size_t n_ids, float *out, lr_tick_fn *tick, void *user,
                        larder_error *err);

/* constrain.c: what a grammar lets a request say. */
larder_status lr_constrain_init(larder_request *r, larder_grammar *g, larder_error *err);
void lr_constrain_close(larder_request *r);
/* Bans what may not come next from its logits. */
larder_status lr_constrain_logits(larder_request *r, float *logits, larder_error *err);
/* Takes the token sampled. *over: the answer is complete and nothing may follow. */
larder_status lr_constrain_take(larder_request *r, int32_t token, bool *over, larder_error *err);
/* request.c: takes a request out of the scheduler and gives its blocks back. */
void lr_request_retire(larder_request *r);
larder_status lr_engine_check_ids(const larder_engine *e, const int32_t *ids, size_t n_ids, larder_error *err);
/* memory.c: the cache as the scheduler asks for it. */
void lr_memory_fill(larder_engine *e);
void lr_memory_give_back(larder_request *r);
/* Lets others find the blocks it has filled. */
void lr_memory_publish(larder_request *r);
/* guess.c: before the scheduler, after it, and once it is known how many of a request's drafts were right. */
void lr_guess_wish(larder_engine *e);
void lr_guess_make(larder_engine *e, lr_job *const *jobs, uint32_t n);
void lr_guess_note(larder_request *r, uint32_t n_drafted, uint32_t n_accepted);
/* The number of a salt (NULL: 0). */
larder_status lr_salt_number(lr_salts *s, const char *text, uint64_t *out, larder_error *err);
void lr_salts_close(lr_salts *s);

/* logprob.c: keeps the logits [n_vocab] that were just computed, and the likeliest of them; then any token's logarithm
 * of its probability. */
void lr_logprob_keep(larder_request *r, const float *logits, uint32_t n_vocab);
float lr_logprob_of(const larder_request *r, int32_t token);

/* plan.c: fills *plan, *limits and *backend for these options, choosing what was left 0. */
larder_status lr_plan_make(const larder_model *m, const larder_engine_options *o, const lr_backend **backend,
                           lr_limits *limits, larder_plan *plan, larder_error *err);
/* Blocks the swap of these options can hold. */
uint32_t lr_plan_swap(const lr_backend *b, const lr_program *p, const lr_limits *l, const larder_engine_options *o);
/* Most drafted tokens of a step. */
uint32_t lr_plan_drafts(const lr_limits *l, const larder_engine_options *o);
/* One line with the figures: what is needed, what there is, what would fit. */
larder_status lr_plan_refuse(const larder_plan *plan, larder_error *err);

#endif
