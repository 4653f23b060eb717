/* simulate.h - `larder serve` under a load, on a machine that need not be there: the engine's own scheduler, driven by
 * predicted step times. Owns: the simulated clock and what is made of it. Refuses to own: seconds of a step (src/plan).
 */
#ifndef LR_SIMULATE_H
#define LR_SIMULATE_H

#include "larder_tools.h"
#include "own.h"

typedef struct lr_sim_ask {
    double rate;                      /* open loop: requests a second, Poisson; 0: n_users in turn, or the trace */
    uint32_t n_users;                 /* closed loop */
    const char *trace;                /* a file of lines "seconds,prompt,answer" */
    const char *prompt, *answer;      /* distributions of lengths */
    uint32_t n_requests, n_parallel;  /* in all; answers made at once */
    uint32_t n_ctx, n_batch, n_mixed; /* as the engine's; n_ctx is a request's most */
    uint64_t seed;
} lr_sim_ask;

typedef struct lr_sim {
    uint32_t n_requests, n_done, n_refused, n_steps; /* refused: longer than the context */
    double seconds, n_prompt, n_answer;              /* until the last answer's end; tokens */
    larder_spread ttft, tpot, e2e;
    double queue_mean, queue_max, running_mean, kv_mean, kv_max; /* of requests; shares of the cache */
    uint64_t n_preempted;
} lr_sim;
larder_status lr_simulate(const lr_machine *m, const lr_plan_model *model, const lr_setup *s, const lr_sim_ask *ask,
                          lr_sim *out, larder_error *err);
void lr_sim_text(const lr_sim *r, const lr_sim_ask *ask, const char *machine, lr_buf *out);
void lr_sim_json(const lr_sim *r, const lr_machine *machine, lr_buf *out);

#endif
