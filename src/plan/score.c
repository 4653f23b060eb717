/* score.c - see score.h: rows of measurements placed, predicted and compared. */
#include "score.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* ---------------------------------------------------------------- what a test is */
typedef struct test_of {
    lr_row_kind kind;
    lr_work task;
    double n_tok, n_seq, depth;
    int threads;
} test_of;

/* "4096", "8K", "128k" at p; 0 if there is no number. */
static double tokens_at(const char *p)
{
    char *end;
    if (!isdigit((unsigned char)*p)) return 0;
    double v = strtod(p, &end);
    if (*end == 'k' || *end == 'K') v *= 1024;
    return v >= 1 && v < 1e8 ? v : 0;
}

static double after(const char *s, const char *mark)
{
    const char *p = strstr(s, mark);
    if (!p) return 0;
    p += strlen(mark);
    while (*p == ' ' || *p == '~') p++;
    return tokens_at(p);
}

static bool starts(const char *s, const char *with) { return !strncasecmp(s, with, strlen(with)); }

static test_of read_test(const char *s)
{
    test_of t = {.kind = LR_ROW_UNPLACED, .n_seq = 1};
    const char *at = strchr(s, '@');
    if (at) {
        const char *d = at + 1;
        while (*d == ' ' || *d == 'd' || *d == 'D') d++;
        t.depth = tokens_at(d);
    }
    for (const char *p = s; *p; p++) /* "16T" */
        if (isdigit((unsigned char)*p) && p > s && p[-1] == ' ') {
            char *end;
            long n = strtol(p, &end, 10);
            if (*end == 'T' && !isalnum((unsigned char)end[1]) && n > 0 && n < 4096) t.threads = (int)n;
        }
    double b = after(s, " b");
    if (!(b > 0)) b = after(s, " B");
    if (starts(s, "serve") || starts(s, "train") || starts(s, "batched")) t.kind = LR_ROW_OTHER;
    else if (starts(s, "pp") || starts(s, "prefill") || starts(s, "prompt")) {
        t.kind = LR_ROW_PREFILL;
        t.task = LR_TASK_PREFILL;
        t.n_tok = tokens_at(starts(s, "pp") ? s + 2 : starts(s, "prefill ") ? s + 8 : s + strlen(s));
        if (!(t.n_tok > 0)) t.n_tok = 2048;
        if (b > 1) t.kind = LR_ROW_OTHER;
    } else if (starts(s, "tg") || starts(s, "decode") || starts(s, "eval") || starts(s, "gen")) {
        double n = starts(s, "tg") ? tokens_at(s + 2) : 0;
        t.kind = LR_ROW_DECODE;
        t.task = LR_TASK_DECODE;
        t.depth += n > 0 ? n / 2 : starts(s, "eval") ? 300 : 64;
        if (after(s, "decode ~") > 0) t.depth = after(s, "decode ~");
        t.n_tok = 1;
        if (b > 1) t.kind = LR_ROW_OTHER;
    }
    return t;
}

/* ---------------------------------------------------------------- placing a row */
typedef struct cached {
    const lr_preset *preset;
    char quant[32];
    double output_bits;
    lr_plan_model model;
} cached;
typedef struct placer {
    const lr_catalogue *c;
    cached **models; /* each stays where it is: a model points into itself */
    size_t n_models, cap;
    larder_error *err;
} placer;

static larder_status model_of(placer *pl, const lr_preset *p, const lr_quant_name *q, bool half_output,
                              lr_plan_model **out)
{
    double output = half_output && q->bits > 0 ? 16 : 0;
    for (size_t i = 0; i < pl->n_models; i++) {
        cached *m = pl->models[i];
        if (m->preset == p && p->match[0] && !strcmp(m->quant, q->name) && !(m->output_bits < output) &&
            !(m->output_bits > output)) {
            *out = &m->model;
            return LARDER_OK;
        }
    }
    if (pl->n_models == pl->cap) {
        size_t cap = pl->cap ? 2 * pl->cap : 32;
        cached **more = lr_realloc(pl->models, cap * sizeof(cached *));
        if (!more) return LR_NOMEM(pl->err, "models");
        pl->models = more;
        pl->cap = cap;
    }
    cached *m = lr_calloc(1, sizeof *m);
    if (!m) return LR_NOMEM(pl->err, "models");
    pl->models[pl->n_models++] = m;
    m->preset = p;
    m->output_bits = output;
    (void)snprintf(m->quant, sizeof m->quant, "%s", q->name);
    *out = &m->model;
    LR_TRY(lr_plan_model_preset(p, q, &m->model, pl->err));
    if (output > 0) m->model.output_bits = output;
    return LARDER_OK;
}

static larder_status place(placer *pl, lr_case *row, double params)
{
    lr_machine m;
    lr_setup setup;
    lr_quant_name q;
    lr_preset made;
    lr_plan_model *model = NULL;
    test_of t = read_test(row->test);
    row->kind = LR_ROW_UNPLACED;
    if (t.kind == LR_ROW_OTHER) {
        row->kind = LR_ROW_OTHER;
        return LARDER_OK;
    }
    lr_want want = strcasestr(row->backend, "cpu") ? LR_WANT_CPU : LR_WANT_ANY;
    if (strcasestr(row->backend, "t-mac")) want = LR_WANT_CPU;
    if (!lr_machine_find(pl->c, row->machine, want, &m)) row->why = "machine";
    else if (!lr_setup_find(row->backend, row->version, &m, &setup)) row->why = "backend";
    else if (t.kind == LR_ROW_UNPLACED) row->why = "test";
    else if (!(row->measured > 0)) row->why = "rate";
    if (row->why) return LARDER_OK;
    const lr_preset *p = lr_preset_find(pl->c, row->model);
    if (!p && lr_preset_guess(row->model, params * 1e9, &made)) p = &made;
    if (!p) row->why = "model";
    else if (!lr_quant_find(row->quant, &q)) row->why = "format";
    if (row->why) return LARDER_OK;
    LR_TRY(model_of(pl, p, &q, setup.engine == LR_ENGINE_SERVER, &model));
    m.n_thread = t.threads;
    if (t.task == LR_TASK_PREFILL && t.n_tok >= 2000 && t.n_tok <= 2100 && setup.year > 2025) setup.ubatch = 2048;
    lr_features_make(&m, model, &setup, t.task, t.n_tok, t.n_seq, t.depth, &row->f);
    row->kind = t.kind;
    row->group = m.id * 256 + LR_MIN(m.count, 255);
    return LARDER_OK;
}

larder_status lr_score_open(const lr_catalogue *c, const char *text, size_t n, lr_score *out, larder_error *err)
{
    static const char *const needed[] = {"machine", "model", "quant", "backend", "test", "tokens_per_s"};
    placer pl = {.c = c, .err = err};
    larder_status st;
    *out = (lr_score){0};
    LR_GO(lr_csv_parse(text, n, &out->table, err));
    const lr_csv *t = &out->table;
    for (size_t i = 0; i < LR_LEN(needed); i++)
        if (lr_csv_col(t, needed[i]) < 0)
            LR_GO(lr_fail(err, LARDER_USAGE, "the rows have no column \"%s\"", needed[i]));
    out->rows = lr_calloc(t->n_rows + 1, sizeof *out->rows);
    if (!out->rows) {
        st = LR_NOMEM(err, "the rows");
        goto fail;
    }
    out->n = t->n_rows;
    for (size_t i = 0; i < t->n_rows; i++) {
        lr_case *r = &out->rows[i];
        double params = 0;
        r->machine = lr_csv_at(t, i, lr_csv_col(t, "machine"));
        r->model = lr_csv_at(t, i, lr_csv_col(t, "model"));
        r->quant = lr_csv_at(t, i, lr_csv_col(t, "quant"));
        r->backend = lr_csv_at(t, i, lr_csv_col(t, "backend"));
        r->version = lr_csv_at(t, i, lr_csv_col(t, "backend_version"));
        r->test = lr_csv_at(t, i, lr_csv_col(t, "test"));
        LR_GO(lr_csv_number(t, i, lr_csv_col(t, "tokens_per_s"), &r->measured, err));
        LR_GO(lr_csv_number(t, i, lr_csv_col(t, "params_b"), &params, err));
        LR_GO(place(&pl, r, params));
        out->n_other += r->kind == LR_ROW_OTHER;
        out->n_unplaced += r->kind == LR_ROW_UNPLACED;
    }
    st = LARDER_OK;
fail:
    for (size_t i = 0; i < pl.n_models; i++) {
        lr_plan_model_close(&pl.models[i]->model);
        lr_free(pl.models[i]);
    }
    lr_free(pl.models);
    if (st) lr_score_close(out);
    return st;
}

void lr_score_close(lr_score *r)
{
    lr_csv_free(&r->table);
    lr_free(r->rows);
    *r = (lr_score){0};
}

/* ---------------------------------------------------------------- errors */
static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *sorted, size_t n, double q)
{
    if (!n) return 0;
    double at = q * (double)(n - 1);
    size_t i = (size_t)at;
    return i + 1 < n ? sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

void lr_score_sum(lr_score *r)
{
    double *e = lr_alloc((r->n + 1) * sizeof *e);
    if (!e) return;
    for (int kind = 0; kind < 2; kind++) {
        lr_summary *s = kind == LR_ROW_DECODE ? &r->decode : &r->prefill;
        *s = (lr_summary){0};
        for (size_t i = 0; i < r->n; i++) {
            lr_case *row = &r->rows[i];
            if ((int)row->kind != kind) continue;
            row->error = fabs(row->p.rate / row->measured - 1);
            e[s->n++] = row->error;
            s->inside += row->measured >= row->p.low && row->measured <= row->p.high;
        }
        qsort(e, s->n, sizeof *e, by_value);
        s->median = quantile(e, s->n, 0.5);
        s->p90 = quantile(e, s->n, 0.9);
        if (s->n) s->inside /= (double)s->n;
    }
    lr_free(e);
}

void lr_score_predict(lr_score *r)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->rows[i].kind <= LR_ROW_PREFILL) lr_predict(&r->rows[i].f, &r->rows[i].p);
    lr_score_sum(r);
}
