/* schedule.h - who takes part in the next step, with how many tokens; who waits, and who must give way.
 *
 * Owns: the queue, the order of importance, fairness between clients, admission, preemption, the split of a step's
 * tokens. Refuses to own: clocks, devices, blocks, files, sampling: time is passed in, and the cache is reached through
 * the three calls of lr_sched_memory. So a simulator with a clock of its own drives the very same code:
 *
 *     lr_sched_init(&s, &limits, &err);
 *     for each arrival:  job.client, .priority, .deadline, .n_prompt = ...; job.n_ids = n_prompt; lr_sched_add(&s, &job, now)
 *     for each step:     while ((j = lr_sched_expired(&s, now))) { forget its blocks; lr_sched_remove(&s, j); }
 *                        lr_job *const *who = lr_sched_step(&s, now, &memory, &n);
 *                        cost = what a step of these costs: who[i]->n_tok tokens after who[i]->n_done positions
 *                        now += cost;
 *                        for each of them: n_done += n_tok; if (n_done == n_ids) { it has its next token: n_ids++; }
 *                        those that have all they wanted: give their blocks back; lr_sched_remove(&s, j);
 *
 * A memory that only counts: admit takes (n_ids + block - 1) / block blocks less those of the cached prefix, or says no if
 * fewer than that and `spare` are left, and sets n_done to the cached tokens; grow takes what n_pos positions need beyond
 * n_blocks; evict gives n_blocks back and sets n_blocks = n_done = 0. All keep job->n_blocks true.
 *
 * The rules
 * - Continuous batching: every running job that waits for one more token takes part with that one (and what it drafted, if
 *   tokens, rows and blocks are left); the rest of the step's tokens go to chunks of prompts in order of importance.
 * - What is asked for twice is read once: of those whose prompts begin alike, the most important reads, and the others take
 *   its blocks from the cache as they are filled (see `follow`).
 * - Importance: priority first (higher is more), then whose client was served least, then the earlier deadline, then who
 *   came first.
 * - Fairness is the virtual token counter (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024): a client's
 *   counter grows by 1 for a token of a prompt computed and by 2 for a token of an answer; the least counter goes first;
 *   one that was idle comes back with the least counter of those that are not, so idleness saves nothing up.
 * - Nobody starves: a job that got nothing for `age` seconds, nor its client anything of its priority or below, counts as
 *   one priority higher, for each such time once more. The most important job that waits is not overtaken by a lesser one,
 *   even if that one would fit.
 * - Preemption. Least important first; the job goes back to the queue and goes on later where it was.
 *   + The cache is full and a running job needs a block: the least important running job gives way (maybe itself).
 *   + A waiting job of a higher priority finds no place: lesser ones give way.
 *   + A waiting job has aged past a running one of a client with more places, or its client has two places fewer than
 *     another of the same priority: that one's least important job gives way, once it has answered for `quantum` seconds.
 * - A job past its deadline is for the caller to end (lr_sched_expired), waiting or running.
 */
#ifndef LR_SCHEDULE_H
#define LR_SCHEDULE_H

#include "base.h"

typedef struct lr_sched_limits {
    uint32_t n_seq; /* most jobs that run */
    uint32_t n_tok; /* most tokens of a step, at least n_seq */
    uint32_t
        n_mixed; /* most tokens of prompts in a step where others decode, so that these do not wait long; 0: n_tok */
    uint32_t n_draft;    /* most drafted tokens of a step */
    uint32_t block;      /* positions in a block */
    double age, quantum; /* seconds; 0: 10 and 1 */
} lr_sched_limits;

typedef enum lr_job_state { LR_JOB_OUT, LR_JOB_WAITING, LR_JOB_RUNNING } lr_job_state;

typedef struct lr_job {
    /* the caller's, set before lr_sched_add */
    void *user;
    uint64_t client;
    int32_t priority; /* LR_JOB_LEAST .. LR_JOB_MOST; 0 is usual */
    double deadline;  /* in the caller's time; 0: none */
    uint32_t n_prompt;
    /* the caller's, true whenever the scheduler is called */
    uint32_t n_ids;    /* tokens there are: prompt and answer. It gets its next one once n_done == n_ids */
    uint32_t n_done;   /* positions in the cache */
    uint32_t n_blocks; /* that it holds */
    uint32_t n_wish;   /* drafted tokens it would like to have checked */
    /* the scheduler's, to be read: what the step gives it */
    uint32_t n_tok;   /* tokens, drafted ones included */
    uint32_t n_draft; /* of them, drafted */
    uint32_t n_preempted;
    bool follows; /* it waits for what another computes */
    lr_job_state state;
    /* the scheduler's own */
    double t_served; /* when it, or its client for it, last got something */
    double t_ready;  /* when it began to answer since it was admitted; 0: not yet */
    uint64_t number; /* in order of arrival */
    uint32_t at_client;
    int32_t level, rank;        /* priority and what waiting added: now, and when it was admitted */
    struct lr_job *next, *prev; /* in the queue */
} lr_job;
#define LR_JOB_LEAST (-100)
#define LR_JOB_MOST 100

/* The cache, as much of it as scheduling needs. */
typedef struct lr_sched_memory {
    void *user;
    /* Takes what the job's text already has in the cache (setting n_done, n_blocks), if after it the rest of its n_ids
     * tokens would fit and `spare` blocks be left; else takes nothing and returns false. n_done < n_ids must hold. */
    bool (*admit)(void *user, lr_job *job, uint32_t spare);
    /* Gives it the blocks for n_pos positions; false if there are not so many, and then it may have got some. */
    bool (*grow)(void *user, lr_job *job, uint32_t n_pos);
    /* Takes all its blocks; what can be kept of them is found again by admit. Sets n_done = n_blocks = 0. */
    void (*evict)(void *user, lr_job *job);
    uint32_t (*room)(void *user); /* blocks that could be given now */
    /* running[at] reads its prompt: takes what the cache has got of it since (advancing n_done, never to n_ids); true if one of
     * running[0 .. at), who come first, computes now what it lacks next, so that it need only wait. May be NULL. */
    bool (*follow)(void *user, lr_job *const *running, uint32_t at);
} lr_sched_memory;

typedef struct lr_sched_client {
    uint64_t id;
    double served;
    uint32_t n_jobs, n_running;
    int32_t least; /* priority of those of its jobs that took part in the last step */
} lr_sched_client;

typedef struct lr_sched {
    lr_sched_limits l;
    lr_job **running; /* [n_seq], most important first as of the last step */
    lr_job **members; /* [n_seq]: who takes part */
    uint32_t n_running, n_waiting, n_members;
    lr_job *head, *tail; /* who waits, in order of arrival */
    lr_sched_client *clients;
    uint32_t n_client, cap_client;
    double floor; /* the counter of the client that last became idle */
    uint64_t n_added, n_preempted;
} lr_sched;

larder_status lr_sched_init(lr_sched *s, const lr_sched_limits *limits, larder_error *err);
void lr_sched_close(lr_sched *s); /* jobs are their owners' */
/* Queues a job, which must stay where it is until it is removed. The only call after init that allocates. */
larder_status lr_sched_add(lr_sched *s, lr_job *job, double now, larder_error *err);
/* Takes it out, wherever it is. Its blocks are the caller's business. */
void lr_sched_remove(lr_sched *s, lr_job *job);
/* A job whose deadline has passed, to be removed before the next call; NULL if there is none. */
lr_job *lr_sched_expired(const lr_sched *s, double now);
/* Admits, preempts, and deals out one step: the jobs that take part, most important first, valid until the next call. */
lr_job *const *lr_sched_step(lr_sched *s, double now, const lr_sched_memory *m, uint32_t *n);

#endif
