/* fit.c - see score.h: the efficiency model's numbers from measured rows.
 *
 * Maximum of the posterior: every parameter has a believed value and spread (predict.c), every row an error with heavy
 * tails (Student), so that rows that are wrong pull little. Levenberg-Marquardt with numerical derivatives. */
#include "score.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define TAIL 4.0
static const double spread[2] = {0.07, 0.15}; /* of a good row's logarithm: decode, prefill */

typedef struct system_of {
    double a[LR_MAX_PARAM][LR_MAX_PARAM], b[LR_MAX_PARAM];
} system_of;

static double residual(const lr_case *r, const double *theta)
{
    return log(r->measured) - log(r->f.tokens / lr_model_seconds(&r->f, theta));
}

static bool counts(const lr_case *r, int leave_out) { return r->kind <= LR_ROW_PREFILL && r->group != leave_out; }

static double loss(const lr_score *rows, int leave_out, const double *theta)
{
    double sum = 0;
    for (size_t i = 0; i < rows->n; i++) {
        if (!counts(&rows->rows[i], leave_out)) continue;
        double z = residual(&rows->rows[i], theta) / spread[rows->rows[i].kind];
        sum += 0.5 * (TAIL + 1) * log1p(z * z / TAIL);
    }
    for (int k = 0; k < lr_n_params; k++) {
        double z = (theta[k] - log(lr_params[k].mean)) / lr_params[k].sd;
        sum += 0.5 * z * z;
    }
    return sum;
}

static void build(const lr_score *rows, int leave_out, const double *theta, system_of *s)
{
    memset(s, 0, sizeof *s);
    double j[LR_MAX_PARAM], moved[LR_MAX_PARAM];
    memcpy(moved, theta, sizeof *moved * (size_t)lr_n_params);
    for (size_t i = 0; i < rows->n; i++) {
        const lr_case *r = &rows->rows[i];
        if (!counts(r, leave_out)) continue;
        double e = residual(r, theta), z = e / spread[r->kind];
        double w = (TAIL + 1) / (TAIL + z * z) / (spread[r->kind] * spread[r->kind]);
        for (int k = 0; k < lr_n_params; k++) {
            moved[k] = theta[k] + 1e-4;
            j[k] = (residual(r, moved) - e) / 1e-4;
            moved[k] = theta[k];
        }
        for (int k = 0; k < lr_n_params; k++) {
            if (!(fabs(j[k]) > 0)) continue;
            s->b[k] -= w * j[k] * e;
            for (int l = 0; l <= k; l++) s->a[k][l] += w * j[k] * j[l];
        }
    }
    for (int k = 0; k < lr_n_params; k++) {
        double p = 1 / (lr_params[k].sd * lr_params[k].sd);
        s->a[k][k] += p;
        s->b[k] -= p * (theta[k] - log(lr_params[k].mean));
    }
}

/* (A + damp diag A) x = b by Cholesky. */
static void solve(const system_of *s, double damp, double *x)
{
    static _Thread_local double l[LR_MAX_PARAM][LR_MAX_PARAM];
    int n = lr_n_params;
    for (int i = 0; i < n; i++) {
        for (int k = 0; k <= i; k++) {
            double sum = s->a[i][k] * (i == k ? 1 + damp : 1);
            for (int m = 0; m < k; m++) sum -= l[i][m] * l[k][m];
            l[i][k] = i == k ? sqrt(LR_MAX(sum, 1e-12)) : sum / l[k][k];
        }
    }
    for (int i = 0; i < n; i++) {
        x[i] = s->b[i];
        for (int k = 0; k < i; k++) x[i] -= l[i][k] * x[k];
        x[i] /= l[i][i];
    }
    for (int i = n; i-- > 0;) {
        for (int k = i + 1; k < n; k++) x[i] -= l[k][i] * x[k];
        x[i] /= l[i][i];
    }
}

static void optimise(const lr_score *rows, int leave_out, int rounds, double *theta)
{
    static _Thread_local system_of s;
    double x[LR_MAX_PARAM], next[LR_MAX_PARAM], damp = 1e-3, now = loss(rows, leave_out, theta);
    for (int round = 0; round < rounds; round++) {
        double before = now;
        build(rows, leave_out, theta, &s);
        for (int tries = 0; tries < 8; tries++) {
            solve(&s, damp, x);
            for (int k = 0; k < lr_n_params; k++) next[k] = theta[k] + LR_MAX(-1, LR_MIN(1, x[k]));
            double then = loss(rows, leave_out, next);
            if (then < now) {
                memcpy(theta, next, sizeof *theta * (size_t)lr_n_params);
                now = then;
                damp = LR_MAX(damp * 0.3, 1e-9);
                break;
            }
            damp = damp * 5 + 1e-6;
        }
        if (before - now < 1e-3 * (rounds > 8 ? 0.01 : 1)) break;
    }
}

static larder_status keep_seen(const lr_score *rows, int leave_out, lr_fit *fit, larder_error *err)
{
    fit->seen = lr_alloc((rows->n + 1) * sizeof *fit->seen);
    if (!fit->seen) return LR_NOMEM(err, "the fit");
    fit->n_seen = 0;
    for (size_t i = 0; i < rows->n; i++) {
        const lr_case *r = &rows->rows[i];
        if (!counts(r, leave_out)) continue;
        double e = residual(r, fit->theta), cut = 6 * spread[r->kind];
        lr_seen_make(&r->f, LR_MAX(-cut, LR_MIN(cut, e)), &fit->seen[fit->n_seen++]);
    }
    return LARDER_OK;
}

larder_status lr_fit_rows(const lr_score *r, int leave_out, const double *start, lr_fit *out, larder_error *err)
{
    *out = (lr_fit){0};
    for (int k = 0; k < lr_n_params; k++) out->theta[k] = start ? start[k] : log(lr_params[k].mean);
    optimise(r, leave_out, start ? 3 : 60, out->theta);
    return keep_seen(r, leave_out, out, err);
}

void lr_fit_free(lr_fit *f)
{
    lr_free(f->seen);
    *f = (lr_fit){0};
}

static int predict_with(const lr_fit *f, lr_case *r, bool apart)
{
    lr_seen at;
    lr_seen_make(&r->f, 0, &at);
    lr_near near = lr_seen_correct(f->seen, f->n_seen, &at, apart);
    double rate = r->f.tokens / lr_model_seconds(&r->f, f->theta) * exp(near.shift);
    r->p = (lr_prediction){.ceiling = r->f.tokens / r->f.ceiling, .n_near = near.weight};
    r->p.rate = LR_MIN(rate, r->p.ceiling);
    return lr_range_class(&at, &near);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The 10th and 90th of the errors of each class that `held` asks for; a little wider, as quantiles of few are narrow. */
static larder_status ranges(const lr_score *r, lr_fit *all, const int *cls, bool own, larder_error *err)
{
    double *e = lr_alloc((r->n + 1) * sizeof *e);
    if (!e) return LR_NOMEM(err, "the ranges");
    for (int c = 0; c < LR_RANGES; c++) {
        size_t n = 0;
        if ((c % 4 == 0) != own) continue;
        for (size_t i = 0; i < r->n; i++)
            if (counts(&r->rows[i], -1) && cls[i] == c) e[n++] = log(r->rows[i].measured / r->rows[i].p.rate);
        qsort(e, n, sizeof *e, by_value);
        all->low[c] = n > 20 ? LR_MIN(e[(size_t)(0.09 * (double)n)], -0.03) : -0.5;
        all->high[c] = n > 20 ? LR_MAX(e[(size_t)(0.91 * (double)n)], 0.03) : 0.4;
    }
    lr_free(e);
    return LARDER_OK;
}

static void set_ranges(lr_score *r, const lr_fit *all, const int *cls)
{
    for (size_t i = 0; i < r->n; i++) {
        lr_case *row = &r->rows[i];
        if (!counts(row, -1)) continue;
        row->p.low = LR_MIN(row->p.rate * exp(all->low[cls[i]]), row->p.ceiling);
        row->p.high = LR_MIN(row->p.rate * exp(all->high[cls[i]]), row->p.ceiling);
    }
    lr_score_sum(r);
}

/* Rows of machines that stay in the fit, each without what was measured of its own model and format. */
static larder_status hold_formats(lr_score *r, lr_fit *all, int *cls, larder_error *err)
{
    for (size_t i = 0; i < r->n; i++)
        if (counts(&r->rows[i], -1)) cls[i] = predict_with(all, &r->rows[i], true);
    LR_TRY(ranges(r, all, cls, true, err));
    set_ranges(r, all, cls);
    r->held_decode = r->decode;
    r->held_prefill = r->prefill;
    return LARDER_OK;
}

static larder_status hold_machines(lr_score *r, lr_fit *all, int *cls, bool *done, larder_error *err)
{
    for (size_t i = 0; i < r->n; i++) {
        lr_fit part;
        if (done[i] || !counts(&r->rows[i], -1)) continue;
        LR_TRY(lr_fit_rows(r, r->rows[i].group, all->theta, &part, err));
        for (size_t k = i; k < r->n; k++) {
            lr_case *row = &r->rows[k];
            if (done[k] || !counts(row, -1) || row->group != r->rows[i].group) continue;
            cls[k] = predict_with(&part, row, false);
            done[k] = true;
        }
        lr_fit_free(&part);
    }
    LR_TRY(ranges(r, all, cls, false, err));
    set_ranges(r, all, cls);
    return LARDER_OK;
}

larder_status lr_fit_cross(lr_score *r, lr_fit *all, larder_error *err)
{
    larder_status st = LARDER_OK;
    int *cls = lr_calloc(r->n + 1, sizeof *cls);
    bool *done = lr_calloc(r->n + 1, sizeof *done);
    lr_prediction *kept = lr_calloc(r->n + 1, sizeof *kept);
    if (!cls || !done || !kept) {
        st = LR_NOMEM(err, "the cross-validation");
        goto fail;
    }
    LR_GO(lr_fit_rows(r, -1, NULL, all, err));
    LR_GO(hold_machines(r, all, cls, done, err));
    for (size_t i = 0; i < r->n; i++) kept[i] = r->rows[i].p;
    lr_summary decode = r->decode, prefill = r->prefill;
    LR_GO(hold_formats(r, all, cls, err));
    for (size_t i = 0; i < r->n; i++) r->rows[i].p = kept[i];
    r->decode = decode;
    r->prefill = prefill;
fail:
    lr_free(kept);
    lr_free(cls);
    lr_free(done);
    return st;
}

void lr_fit_print(const lr_fit *f, lr_buf *out)
{
    lr_buf_printf(out, "/* fit.def - written by script/fit from data/measured.csv; do not edit. */\n");
    lr_buf_printf(out, "static const double fit_theta[] = {\n");
    for (int k = 0; k < lr_n_params; k++)
        lr_buf_printf(out, "    %.6f, /* %s %.4g (believed %.4g) */\n", f->theta[k], lr_params[k].name,
                      exp(f->theta[k]), lr_params[k].mean);
    lr_buf_printf(out, "};\nstatic const double fit_low[] = {");
    for (int c = 0; c < LR_RANGES; c++) lr_buf_printf(out, "%s%.4f", c ? ", " : "", f->low[c]);
    lr_buf_printf(out, "};\nstatic const double fit_high[] = {");
    for (int c = 0; c < LR_RANGES; c++) lr_buf_printf(out, "%s%.4f", c ? ", " : "", f->high[c]);
    lr_buf_printf(out, "};\nstatic const lr_seen fit_seen[] = {\n");
    for (size_t i = 0; i < f->n_seen; i++) {
        const lr_seen *s = &f->seen[i];
        lr_buf_printf(out, "%s{0x%08x, 0x%08x, %d, %d, %d, %d, %d, %d, %.3ff, %.3ff, %.2ff, %.1ff, %.4ff},%s",
                      i % 2 ? " " : "    ", s->machine, s->model, s->task, s->family, s->engine, s->cls, s->gen,
                      s->count, (double)s->log_depth, (double)s->log_params, (double)s->year, (double)s->flash,
                      (double)s->residual, i % 2 || i + 1 == f->n_seen ? "\n" : "");
    }
    lr_buf_printf(out, "};\n");
}
