/* advise.h - which machine to run a model on, or to buy for it, and why.
 *
 * Owns: what counts as enough, and the choice. Refuses to own: the figures (report.h), the questions (src/cli).
 */
#ifndef LR_ADVISE_H
#define LR_ADVISE_H

#include "report.h"

/* `c`: machines that may be bought, NULL: none is to be; `here`: the one there is, NULL: it does not count. */
larder_status lr_advise(const lr_catalogue *c, const lr_plan_model *model, const lr_ask *ask, const lr_machine *here,
                        bool json, lr_buf *out, larder_error *err);

#endif
