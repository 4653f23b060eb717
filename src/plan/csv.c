/* csv.c - see csv.h. */
#include "csv.h"

#include <math.h>
#include <stdlib.h>

#define MAX_TEXT (64u << 20)
#define MAX_COLS 64

typedef struct reader {
    const char *p, *end;
    char *out;
    size_t line;
} reader;

/* One cell to r->out with its NUL. *last: it ended its row. */
static larder_status cell(reader *r, bool *last, larder_error *err)
{
    bool quoted = r->p < r->end && *r->p == '"';
    if (quoted) r->p++;
    for (;; r->p++) {
        if (r->p == r->end) {
            if (quoted) return lr_fail(err, LARDER_FORMAT, "line %zu: a quote is not closed", r->line);
            break;
        }
        if (quoted && *r->p == '"') {
            if (r->p + 1 < r->end && r->p[1] == '"') {
                r->p++;
            } else {
                r->p++;
                break;
            }
        } else if (!quoted && (*r->p == ',' || *r->p == '\n' || *r->p == '\r')) {
            break;
        }
        if (*r->p == '\n') r->line++;
        *r->out++ = *r->p ? *r->p : ' ';
    }
    *r->out++ = 0;
    if (r->p < r->end && *r->p == '\r') r->p++;
    *last = r->p == r->end || *r->p == '\n';
    if (!*last && *r->p != ',') return lr_fail(err, LARDER_FORMAT, "line %zu: text after a closing quote", r->line);
    if (r->p < r->end) r->p++;
    return LARDER_OK;
}

static larder_status row(reader *r, const char **cells, size_t max, size_t *n, larder_error *err)
{
    bool last = false;
    for (*n = 0; !last;) {
        const char *at = r->out;
        LR_TRY(cell(r, &last, err));
        if (*n == max) {
            if (*at) return lr_fail(err, LARDER_FORMAT, "line %zu: more than %zu cells", r->line, max);
        } else {
            cells[(*n)++] = at;
        }
    }
    r->line++;
    return LARDER_OK;
}

larder_status lr_csv_parse(const char *text, size_t n, lr_csv *out, larder_error *err)
{
    larder_status st;
    const char *head[MAX_COLS];
    size_t cap = 0, got;
    *out = (lr_csv){0};
    if (n > MAX_TEXT) return lr_fail(err, LARDER_FORMAT, "a table of %zu bytes; the limit is %u", n, MAX_TEXT);
    reader r = {text, text + n, NULL, 1};
    if (n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) r.p += 3;
    while (r.p < r.end && (*r.p == '#' || *r.p == '\n')) {
        while (r.p < r.end && *r.p != '\n') r.p++;
        if (r.p < r.end) r.p++;
        r.line++;
    }
    for (const char *p = r.p; p < r.end; p++) cap += *p == '\n';
    out->text = r.out = lr_alloc(2 * n + 2);
    if (!out->text) return LR_NOMEM(err, "a table");
    LR_GO(row(&r, head, MAX_COLS, &out->n_cols, err));
    out->names = lr_calloc(out->n_cols, sizeof *out->names);
    out->cells = lr_calloc((cap + 1) * out->n_cols, sizeof *out->cells);
    if (!out->names || !out->cells) {
        st = LR_NOMEM(err, "a table");
        goto fail;
    }
    memcpy(out->names, head, out->n_cols * sizeof *head);
    while (r.p < r.end) {
        const char **cells = out->cells + out->n_rows * out->n_cols;
        LR_GO(row(&r, cells, out->n_cols, &got, err));
        if (got == 1 && !cells[0][0]) continue; /* an empty line */
        for (; got < out->n_cols; got++) cells[got] = "";
        out->n_rows++;
    }
    return LARDER_OK;
fail:
    lr_csv_free(out);
    return st;
}

void lr_csv_free(lr_csv *c)
{
    lr_free(c->text);
    lr_free(c->cells);
    lr_free(c->names);
    *c = (lr_csv){0};
}

int lr_csv_col(const lr_csv *c, const char *name)
{
    for (size_t i = 0; i < c->n_cols; i++)
        if (!strcmp(c->names[i], name)) return (int)i;
    return -1;
}

larder_status lr_csv_number(const lr_csv *c, size_t row_at, int col, double *out, larder_error *err)
{
    const char *s = lr_csv_at(c, row_at, col);
    char *end;
    if (!*s) return LARDER_OK;
    double v = strtod(s, &end);
    if (*end || !isfinite(v))
        return lr_fail(err, LARDER_USAGE, "row %zu: %s is \"%.40s\", not a number", row_at + 1, c->names[col], s);
    *out = v;
    return LARDER_OK;
}
