/* compare.c - what an update gained: today's bench rows beside those a file holds. */
#include "csv.h"
#include "larder_tools.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static bool is_same(const lr_csv *t, size_t i, const char *name, const char *format, const larder_bench_row *r)
{
    const char *threads = lr_csv_at(t, i, lr_csv_col(t, "threads"));
    return !strcmp(lr_csv_at(t, i, lr_csv_col(t, "test")), r->test) &&
           !strcmp(lr_csv_at(t, i, lr_csv_col(t, "model")), name) &&
           !strcmp(lr_csv_at(t, i, lr_csv_col(t, "format")), format) &&
           (!*threads || (uint32_t)strtoul(threads, NULL, 10) == r->n_threads);
}

static void compare_one(const larder_bench_row *r, double was, double low, double high, lr_buf *b)
{
    /* beyond what the runs of either differ by among themselves */
    bool sure = r->tok_s_low > high || r->tok_s_high < low;
    lr_buf_printf(b, "%s: %.1f tok/s, was %.1f: %+.1f%%%s\n", r->test, r->tok_s, was, 100 * (r->tok_s / was - 1),
                  sure ? "" : " (within the spread of the runs)");
}

larder_status larder_bench_compare(const char *path, const char *name, const char *format,
                                   const larder_bench_row *rows, size_t n, char **out, larder_error *err)
{
    static const char *const needed[] = {"model", "format", "threads", "test", "tok_s", "tok_s_low", "tok_s_high"};
    lr_csv t = {0};
    lr_buf b = {0};
    char *text = NULL;
    size_t n_text;
    larder_status st;
    *out = NULL;
    LR_GO(lr_read_file(path, 16u << 20, &text, &n_text, err));
    LR_GO(lr_csv_parse(text, n_text, &t, err));
    for (size_t i = 0; i < LR_LEN(needed); i++)
        if (lr_csv_col(&t, needed[i]) < 0)
            LR_GO(lr_fail(err, LARDER_USAGE, "%s has no column \"%s\"; larder bench --format csv writes such files",
                          path, needed[i]));
    for (size_t k = 0; k < n; k++) {
        bool found = false;
        for (size_t i = 0; i < t.n_rows && !found; i++) {
            double was = 0, low = 0, high = 0;
            if (!is_same(&t, i, name, format, &rows[k])) continue;
            LR_GO(lr_csv_number(&t, i, lr_csv_col(&t, "tok_s"), &was, err));
            LR_GO(lr_csv_number(&t, i, lr_csv_col(&t, "tok_s_low"), &low, err));
            LR_GO(lr_csv_number(&t, i, lr_csv_col(&t, "tok_s_high"), &high, err));
            if (!(was > 0)) continue;
            compare_one(&rows[k], was, low, high, &b);
            found = true;
        }
        if (!found)
            lr_buf_printf(&b, "%s: %.1f tok/s; %s has no such row for this model and format\n", rows[k].test,
                          rows[k].tok_s, path);
    }
    *out = lr_buf_steal(&b);
    if (!*out) {
        st = LR_NOMEM(err, "the comparison");
        goto fail;
    }
fail:
    lr_buf_free(&b);
    lr_csv_free(&t);
    lr_free(text);
    return st;
}
