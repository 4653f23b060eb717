/* traffic.h - the load that `bench serve` sends and `plan --simulate` imagines: lengths, arrivals, traces. */
#ifndef LR_TRAFFIC_H
#define LR_TRAFFIC_H

#include "base.h"

double lr_load_uniform(uint64_t *state); /* in (0, 1] */
/* "128", "64-256", "exp:128", "normal:128,32", "lognormal:128,0.5" (median, sigma): a length, at least 1. */
bool lr_load_draw(const char *text, uint64_t *state, uint32_t *out);
/* Lines "seconds,prompt,answer" with rising seconds; *out is allocated (lr_free). */
larder_status lr_load_trace(const char *path, double (**out)[3], uint32_t *n, larder_error *err);

#endif
