/* claims.h - judging what people say about machines and models.
 *
 * Owns: reading claims, the arithmetic behind each verdict, and finding claims that cannot both be true.
 * Refuses to own: figures (the catalogue's) and speeds (predict.h).
 */
#ifndef LR_CLAIMS_H
#define LR_CLAIMS_H

#include "predict.h"

typedef enum lr_verdict {
    LR_CLAIM_IMPOSSIBLE,
    LR_CLAIM_CONSISTENT,
    LR_CLAIM_BELOW,
    LR_CLAIM_CONTRADICTED,
    LR_CLAIM_UNCHECKABLE
} lr_verdict;

typedef struct lr_claim {
    const char *id, *machine, *model, *format, *workload, *metric, *unit, *qualifier, *as_written;
    double low, high; /* what is claimed; an open end is -inf or inf */
    double slack;     /* how much the qualifier leaves open, as a share */
    bool guess;       /* rumoured, predicted, estimated, might be */
    lr_verdict verdict;
    double needs_bw; /* decode: bytes a second that the claim would take */
    bool arithmetic; /* a number of ours stands against the claim's */
    char why[512];
    char against[128]; /* ids of claims that cannot hold beside it */
} lr_claim;

typedef struct lr_claims {
    lr_csv table;
    lr_claim *all;
    size_t n;
} lr_claims;

larder_status lr_claims_open(const char *text, size_t n, lr_claims *out, larder_error *err);
void lr_claims_close(lr_claims *c);
larder_status lr_claims_judge(const lr_catalogue *cat, lr_claims *c, larder_error *err);
const char *lr_verdict_name(lr_verdict v);
void lr_claims_text(const lr_claims *c, lr_buf *out);
void lr_claims_json(const lr_claims *c, lr_buf *out);

#endif
