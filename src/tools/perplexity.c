/* perplexity.c - how well a model predicts a text: exp of the mean negative log probability of its tokens.
 *
 * The field's way, so that figures compare: windows of the context's length that do not overlap, each begun with the
 * model's BOS in place of its first token, the second half of each window scored. */
#include "engine.h"
#include "larder_tools.h"

#include <assert.h>
#include <math.h>

#define OUT_ROWS 128u

/* log of the sum of exp(logits), in double. */
static double log_sum(const float *logits, uint32_t n)
{
    assert(n > 0);
    float max = logits[0];
    for (uint32_t i = 1; i < n; i++) max = LR_MAX(max, logits[i]);
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += exp((double)(logits[i] - max));
    return log(sum) + (double)max;
}

typedef struct tally {
    double sum, square;
    uint64_t n;
} tally;

/* What a window says with the options to compare with, and how far the others are from it. */
typedef struct compare {
    larder_engine *e;
    float *rows; /* [window - window / 2, n_vocab] */
    tally t;
    float *kl; /* [n] */
    double sum;
    uint64_t n, n_same;
} compare;

typedef struct job {
    const int32_t *window; /* the tokens being scored, n of them */
    uint32_t n, n_vocab;
    tally t;
    compare *with;
    larder_progress_fn *progress;
    void *user;
    uint64_t done, total, t0; /* tokens of the windows before this one; of all */
} job;

static bool report(const job *j, uint64_t done)
{
    double s = (double)(lr_now_ns() - j->t0) * 1e-9;
    double rate = s > 0 ? (double)done / s : 0;
    larder_progress p = {"scoring", done, j->total, rate, rate > 0 ? (double)(j->total - done) / rate : -1};
    return !j->progress || j->progress(j->user, &p);
}

static void count(tally *t, double surprise)
{
    t->sum += surprise;
    t->square += surprise * surprise;
    t->n++;
}

static uint32_t likeliest(const float *row, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (row[i] > row[best]) best = i;
    return best;
}

static void note_kl(compare *c, const float *p, const float *q, double sum_p, double sum_q, uint32_t n)
{
    double kl = 0;
    for (uint32_t i = 0; i < n; i++) {
        double log_p = (double)p[i] - sum_p;
        kl += exp(log_p) * (log_p - ((double)q[i] - sum_q));
    }
    kl = LR_MAX(kl, 0.0); /* it is not less but for rounding */
    c->kl[c->n++] = (float)kl;
    c->sum += kl;
    c->n_same += likeliest(p, n) == likeliest(q, n);
}

/* Those of the window's second half that a token follows. */
static bool scored(const job *j, uint32_t i) { return i >= j->n / 2 && i + 1 < j->n; }

/* Scores the rows of one step. */
static bool score_rows(void *user, const float *rows, uint32_t n_row, uint32_t n_done, uint32_t n_total)
{
    job *j = user;
    (void)n_total;
    for (uint32_t r = 0; r < n_row; r++) {
        uint32_t i = n_done - n_row + r;
        const float *row = rows + (size_t)r * j->n_vocab;
        if (!scored(j, i)) continue;
        double sum = log_sum(row, j->n_vocab);
        count(&j->t, sum - (double)row[j->window[i + 1]]);
        if (!j->with) continue;
        const float *want = j->with->rows + (size_t)(i - j->n / 2) * j->n_vocab;
        note_kl(j->with, want, row, log_sum(want, j->n_vocab), sum, j->n_vocab);
    }
    return report(j, j->done + n_done);
}

/* Keeps them, for the comparison. */
static bool keep_rows(void *user, const float *rows, uint32_t n_row, uint32_t n_done, uint32_t n_total)
{
    const job *j = user;
    compare *c = j->with;
    (void)n_total;
    for (uint32_t r = 0; r < n_row; r++) {
        uint32_t i = n_done - n_row + r;
        const float *row = rows + (size_t)r * j->n_vocab;
        if (!scored(j, i)) continue;
        memcpy(c->rows + (size_t)(i - j->n / 2) * j->n_vocab, row, j->n_vocab * sizeof *row);
        count(&c->t, log_sum(row, j->n_vocab) - (double)row[j->window[i + 1]]);
    }
    return report(j, j->done);
}

static double perplexity(const tally *t) { return exp(t->sum / (double)t->n); }

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void summarise(const tally *t, const compare *c, larder_ppl *out)
{
    double n = (double)t->n, mean = t->sum / n, var = t->square / n - mean * mean;
    out->ppl = perplexity(t);
    out->error = var > 0 && t->n > 1 ? out->ppl * sqrt(var / (n - 1)) : 0;
    out->n_scored = t->n;
    if (!c->n) return;
    qsort(c->kl, c->n, sizeof *c->kl, by_size);
    out->reference_ppl = perplexity(&c->t);
    out->kl = c->sum / (double)c->n;
    out->kl_p99 = (double)c->kl[c->n - 1 - c->n / 100];
    out->same_top = (double)c->n_same / (double)c->n;
}

/* The options as they are for this: one text at a time, its window the context. */
static larder_engine_options options_for(const larder_engine_options *o, uint32_t window)
{
    larder_engine_options own = *o;
    own.n_ctx = window;
    own.speculate = LARDER_SPECULATE_OFF; /* nothing is guessed here */
    own.n_out = LR_MIN(OUT_ROWS, window);
    return own;
}

static larder_status compare_open(compare *c, larder_model *model, const larder_engine_options *o, uint32_t window,
                                  uint64_t n_window, larder_error *err)
{
    larder_engine_options own = options_for(o, window);
    LR_TRY(larder_engine_open(model, &own, &c->e, err));
    c->rows = lr_calloc((size_t)(window - window / 2) * c->e->program.n_vocab, sizeof *c->rows);
    c->kl = lr_calloc(n_window * window, sizeof *c->kl);
    return c->rows && c->kl ? LARDER_OK : LR_NOMEM(err, "the logits of a window");
}

static void compare_close(compare *c)
{
    larder_engine_free(c->e);
    lr_free(c->rows);
    lr_free(c->kl);
}

static larder_status run(job *j, larder_engine *e, const int32_t *ids, int32_t *window, int32_t bos,
                         larder_error *err)
{
    for (; j->done < j->total; j->done += j->n) {
        memcpy(window, ids + j->done, j->n * sizeof *window);
        if (bos >= 0) window[0] = bos;
        if (j->with) LR_TRY(lr_logits(j->with->e, window, j->n, NULL, keep_rows, j, err));
        LR_TRY(lr_logits(e, window, j->n, NULL, score_rows, j, err));
    }
    return LARDER_OK;
}

larder_status larder_perplexity(larder_model *model, const larder_engine_options *options,
                                const larder_engine_options *reference, const char *text, size_t n_text,
                                uint64_t max_tokens, larder_ppl *out, larder_progress_fn *progress, void *user,
                                larder_error *err)
{
    uint32_t w = options->n_ctx ? options->n_ctx : LR_MIN(512u, LR_MAX(model->info.n_ctx_train, 32u));
    larder_engine_options o = options_for(options, w);
    larder_engine *e = NULL;
    int32_t *ids = NULL, *window = NULL;
    compare c = {0};
    size_t n = 0;
    *out = (larder_ppl){0};
    LR_TRY(larder_tokenize(model, text, n_text, LARDER_TEXT_SPECIAL, &ids, &n, err));
    if (max_tokens && n > max_tokens) n = (size_t)max_tokens;
    int32_t bos = lr_tokenizer_adds_bos(model->text.tok) ? lr_tokenizer_bos(model->text.tok) : -1;
    larder_status st = LARDER_OK;
    if (w < 4) LR_GO(lr_fail(err, LARDER_USAGE, "a context of %u scores nothing; it must be at least 4", w));
    if (n < 2 * (size_t)w)
        LR_GO(lr_fail(err, LARDER_USAGE, "the text is %zu tokens; perplexity with a context of %u needs at least %zu",
                      n, w, 2 * (size_t)w));
    LR_GO(larder_engine_open(model, &o, &e, err));
    if (reference) LR_GO(compare_open(&c, model, reference, w, n / w, err));
    window = lr_calloc(w, sizeof *window);
    if (!window) LR_GO(LR_NOMEM(err, "a window of tokens"));
    job j = {.window = window,
             .n = w,
             .n_vocab = e->program.n_vocab,
             .with = reference ? &c : NULL,
             .progress = progress,
             .user = user,
             .total = n / w * w,
             .t0 = lr_now_ns()};
    LR_GO(run(&j, e, ids, window, bos, err));
    summarise(&j.t, &c, out);
    out->window = w;
    out->n_window = (uint32_t)(j.total / w);
fail:
    compare_close(&c);
    lr_free(window);
    larder_engine_free(e);
    larder_free(ids);
    return st;
}
