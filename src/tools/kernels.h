/* kernels.h - how long larder's own kernels take on this machine, format by format: the input of own.h. */
#ifndef LR_KERNELS_H
#define LR_KERNELS_H

#include "larder_tools.h"
#include "own.h"

/* What `larder probe` measured and kept; false: it did not yet, or for another machine or larder. */
bool lr_own_kept(lr_own *out);
/* probe.c: what was kept of this machine; without it, guessed within a twentieth of a second from one short reading of
 * memory and what cores of its kind do. */
bool lr_probe_kept(larder_probe *out);
void lr_probe_guess(larder_probe *out);
/* probe_card.c: the card and what was kept of it (rates 0: nothing); false: there is none. Measures nothing. */
bool lr_probe_card_kept(larder_card_probe *out);
/* probe.c: names the machine and this larder, so that what was measured on others is not believed. */
void lr_probe_mark(char out[256]);

#endif
