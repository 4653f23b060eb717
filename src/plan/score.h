/* score.h - predictions against measured rows, and fitting the efficiency model to them.
 *
 * Owns: reading rows as data/measured.csv has them, placing each (machine, model, format, backend, test), errors,
 * cross-validation by whole machines. Refuses to own: the model (predict.c).
 */
#ifndef LR_SCORE_H
#define LR_SCORE_H

#include "predict.h"

typedef enum lr_row_kind {
    LR_ROW_DECODE,
    LR_ROW_PREFILL,
    LR_ROW_OTHER /* serving, training */,
    LR_ROW_UNPLACED
} lr_row_kind;

typedef struct lr_case {
    const char *machine, *model, *quant, *backend, *version, *test; /* in the table */
    lr_row_kind kind;
    const char *why; /* it is not placed */
    lr_features f;
    double measured;
    lr_prediction p;
    double error; /* |predicted / measured - 1| */
    int group;    /* rows of one machine (and number of them) */
} lr_case;

typedef struct lr_summary {
    size_t n;
    double median, p90, inside; /* inside: share of rows within their range */
} lr_summary;

typedef struct lr_score {
    lr_csv table;
    lr_case *rows;
    size_t n;
    lr_summary decode, prefill;
    lr_summary held_decode, held_prefill; /* lr_fit_cross: known machines, but not this model and format on them */
    size_t n_other, n_unplaced;
} lr_score;

larder_status lr_score_open(const lr_catalogue *c, const char *text, size_t n, lr_score *out, larder_error *err);
void lr_score_close(lr_score *r);
/* Predicts every placed row with the built-in fit, and sums up. */
void lr_score_predict(lr_score *r);
void lr_score_sum(lr_score *r); /* errors of the predictions that are there */

typedef struct lr_fit {
    double theta[LR_MAX_PARAM];
    lr_seen *seen;
    size_t n_seen;
    double low[LR_RANGES], high[LR_RANGES]; /* of log(measured / predicted), 80% */
} lr_fit;
/* Fits to the rows whose group is not `leave_out` (-1: all). start may be NULL. */
larder_status lr_fit_rows(const lr_score *r, int leave_out, const double *start, lr_fit *out, larder_error *err);
void lr_fit_free(lr_fit *f);
/* Every row predicted by a fit that saw no row of its machine; ranges come from the errors made. Fills p and error. */
larder_status lr_fit_cross(lr_score *r, lr_fit *all, larder_error *err);
void lr_fit_print(const lr_fit *f, lr_buf *out); /* fit.def */

#endif
