/* report.h - what `larder plan` says: fit, speeds, users, watts and money of a model on a machine.
 *
 * Owns: putting cost and prediction together and writing them as text, JSON or SVG. Refuses to own: reading files and
 * measuring this machine (src/tools/plan_job.c).
 */
#ifndef LR_REPORT_H
#define LR_REPORT_H

#include "predict.h"

typedef struct lr_ask {
    double n_ctx, n_users, n_prompt; /* 0: the largest that fits up to the model's own; 1; 2048 */
    double watts;                    /* a cap; 0: none */
    double kwh, elsewhere;           /* USD for a kWh; for a million tokens bought elsewhere, 0: not asked */
    double max_price, max_watts;     /* of machines to buy: USD, and watts under load; 0: any */
} lr_ask;

typedef struct lr_outlook {
    const lr_machine *m;
    const lr_plan_model *model;
    lr_setup setup;
    bool fits;
    double weights, cache, scratch, room; /* bytes */
    double n_ctx, max_ctx, on_card;       /* context asked or chosen; largest; share of the weights on the card */
    lr_features f_prefill, f_decode[4], f_users;
    lr_prediction prefill, decode[4], users;
    double depth[4];
    int n_depth;
    double first_token_s;
    double watts_prefill, watts_decode, joules; /* per decoded token */
    double usd_energy, usd_all; /* per million decoded tokens: energy; with the price over three years of use */
    double pays_after;          /* million tokens until the box costs less than buying them; 0: never or not asked */
} lr_outlook;

/* A machine's price as one would pay: a part needs a computer around it (900 USD for cards, 600 and more for processors). */
double lr_machine_price(const lr_machine *m);
/* The largest context that fits for so many users, 0 if none does. */
double lr_fit_context(const lr_machine *m, const lr_plan_model *model, double n_users, double kv_bytes);
void lr_outlook_make(const lr_machine *m, const lr_plan_model *model, const lr_setup *s, const lr_ask *ask,
                     lr_outlook *out);
void lr_outlook_text(const lr_outlook *o, lr_buf *out);
void lr_outlook_json(const lr_outlook *o, lr_buf *out);
void lr_outlook_why(const lr_outlook *o, lr_buf *out);
void lr_outlook_timeline(const lr_outlook *o, lr_buf *out);                 /* what each layer waits for */
void lr_outlook_chart(const lr_outlook *o, const lr_ask *ask, lr_buf *out); /* rate against context, in letters */
void lr_outlook_svg(const lr_outlook *o, const lr_ask *ask, lr_buf *out);   /* roofline, and rate against context */

typedef enum lr_rank_by {
    LR_BY_SPEED,
    LR_BY_CAPACITY,
    LR_BY_PRICE,
    LR_BY_WATTS,
    LR_BY_TOK_PER_DOLLAR,
    LR_BY_GB_PER_DOLLAR
} lr_rank_by;
bool lr_rank_by_name(const char *name, lr_rank_by *out);
/* All machines of the catalogue that hold it, best first. */
larder_status lr_rank(const lr_catalogue *c, const lr_plan_model *model, const lr_ask *ask, lr_rank_by by, bool json,
                      lr_buf *out, larder_error *err);

/* "bandwidth=546,memory=256,watts=..." onto a machine. */
larder_status lr_machine_change(lr_machine *m, const char *text, larder_error *err);
void lr_json_text(lr_buf *b, const char *s); /* with its quotes */
/* Which software runs on which family (data/software.csv): the whole table, or the names for one family. */
larder_status lr_software_table(bool json, lr_buf *out, larder_error *err);
larder_status lr_software_for(lr_family f, lr_buf *out, larder_error *err);

#endif
