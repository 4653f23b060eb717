/* kernels.h - how long larder's own kernels take on this machine, format by format: the input of own.h. */
#ifndef LR_KERNELS_H
#define LR_KERNELS_H

#include "larder_tools.h"
#include "own.h"

/* What is kept from before, and whatever of `fmts` is missing there measured now (a second or two each) and kept.
 * `fresh`: nothing is kept. */
larder_status lr_own_measure(bool fresh, const uint32_t *fmts, size_t n, lr_own *out, larder_progress_fn *progress,
                             void *user, larder_error *err);
/* probe.c: names the machine and this larder, so that what was measured on others is not believed. */
void lr_probe_mark(char out[256]);

#endif
