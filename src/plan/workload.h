/* workload.h - the jobs people weigh when they choose a machine, and which machine does them best.
 *
 * Owns: what a session of each job takes; seconds, hours and money of a year. Refuses to own: predictions of decode and
 * prefill (predict.h), which it uses.
 */
#ifndef LR_WORKLOAD_H
#define LR_WORKLOAD_H

#include "report.h"

/* The machines given (or all sold ones if n is 0) in order of a session's seconds; max_price 0: any. `name` NULL: every
 * job, the winner and the runner-up of each. */
larder_status lr_workload_rank(const lr_catalogue *c, const lr_machine *machines, size_t n, const char *name,
                               double max_price, const lr_ask *ask, bool json, lr_buf *out, larder_error *err);

#endif
