/* csv.h - tables of text: rows of quoted or plain cells under one row of names.
 *
 * Owns: reading them without trust (any bytes give a table or an error). Refuses to own: what a column means.
 */
#ifndef LR_CSV_H
#define LR_CSV_H

#include "base.h"

typedef struct lr_csv {
    char *text;         /* the cells, each ended by NUL */
    const char **cells; /* n_rows x n_cols, missing ones "" */
    size_t n_rows, n_cols;
    const char **names; /* of columns */
} lr_csv;

/* Lines that begin with # before the header are skipped. Rows may be shorter than the header, not longer. */
larder_status lr_csv_parse(const char *text, size_t n, lr_csv *out, larder_error *err);
void lr_csv_free(lr_csv *c);
int lr_csv_col(const lr_csv *c, const char *name); /* -1: no such column */
static inline const char *lr_csv_at(const lr_csv *c, size_t row, int col)
{
    return col < 0 ? "" : c->cells[row * c->n_cols + (size_t)col];
}
/* A finite number, the whole cell. An empty cell: *out stays. Anything else is LARDER_USAGE with row and column. */
larder_status lr_csv_number(const lr_csv *c, size_t row, int col, double *out, larder_error *err);

#endif
