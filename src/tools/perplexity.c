/* perplexity.c - how well a model predicts a text: exp of the mean negative log probability of its tokens.
 *
 * The field's way, so that figures compare: windows of the context's length that do not overlap, each begun with the
 * model's BOS in place of its first token, the second half of each window scored. */
#include "engine.h"
#include "larder_tools.h"

#include <assert.h>
#include <math.h>

#define OUT_ROWS 128u

/* -log softmax(logits)[id], in double. */
static double surprise(const float *logits, uint32_t n, int32_t id)
{
    assert(n > 0);
    float max = logits[0];
    for (uint32_t i = 1; i < n; i++) max = LR_MAX(max, logits[i]);
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += exp((double)(logits[i] - max));
    return log(sum) + (double)max - (double)logits[id];
}

typedef struct tally {
    double sum, square;
    uint64_t n;
} tally;

typedef struct job {
    const int32_t *window; /* the tokens being scored, n of them */
    uint32_t n, n_vocab;
    tally t;
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

/* Scores the rows of one step: those of the window's second half that a token follows. */
static bool score_rows(void *user, const float *rows, uint32_t n_row, uint32_t n_done, uint32_t n_total)
{
    job *j = user;
    (void)n_total;
    for (uint32_t r = 0; r < n_row; r++) {
        uint32_t i = n_done - n_row + r;
        if (i < j->n / 2 || i + 1 == j->n) continue;
        double s = surprise(rows + (size_t)r * j->n_vocab, j->n_vocab, j->window[i + 1]);
        j->t.sum += s;
        j->t.square += s * s;
        j->t.n++;
    }
    return report(j, j->done + n_done);
}

static void summarise(const tally *t, larder_ppl *out)
{
    double n = (double)t->n, mean = t->sum / n, var = t->square / n - mean * mean;
    out->ppl = exp(mean);
    out->error = var > 0 && t->n > 1 ? out->ppl * sqrt(var / (n - 1)) : 0;
    out->n_scored = t->n;
}

larder_status larder_perplexity(larder_model *model, const larder_engine_options *options, const char *text,
                                size_t n_text, uint64_t max_tokens, larder_ppl *out, larder_progress_fn *progress,
                                void *user, larder_error *err)
{
    larder_engine_options o = *options;
    larder_engine *e = NULL;
    int32_t *ids = NULL, *window = NULL;
    size_t n = 0;
    *out = (larder_ppl){0};
    LR_TRY(larder_tokenize(model, text, n_text, LARDER_TEXT_SPECIAL, &ids, &n, err));
    if (max_tokens && n > max_tokens) n = (size_t)max_tokens;
    if (!o.n_ctx) o.n_ctx = LR_MIN(512u, LR_MAX(model->info.n_ctx_train, 32u));
    o.speculate = LARDER_SPECULATE_OFF; /* nothing is guessed here */
    o.n_out = LR_MIN(OUT_ROWS, o.n_ctx);
    uint32_t w = o.n_ctx;
    int32_t bos = lr_tokenizer_adds_bos(model->text.tok) ? lr_tokenizer_bos(model->text.tok) : -1;
    larder_status st = LARDER_OK;
    if (w < 4) LR_GO(lr_fail(err, LARDER_USAGE, "a context of %u scores nothing; it must be at least 4", w));
    if (n < 2 * (size_t)w)
        LR_GO(lr_fail(err, LARDER_USAGE, "the text is %zu tokens; perplexity with a context of %u needs at least %zu",
                      n, w, 2 * (size_t)w));
    LR_GO(larder_engine_open(model, &o, &e, err));
    window = lr_calloc(w, sizeof *window);
    if (!window) LR_GO(LR_NOMEM(err, "a window of tokens"));
    job j = {.window = window,
             .n = w,
             .n_vocab = e->program.n_vocab,
             .progress = progress,
             .user = user,
             .total = n / w * w,
             .t0 = lr_now_ns()};
    out->window = w;
    for (; j.done < j.total; j.done += w) {
        memcpy(window, ids + j.done, w * sizeof *window);
        if (bos >= 0) window[0] = bos;
        LR_GO(lr_logits(e, window, w, NULL, score_rows, &j, err));
        out->n_window++;
    }
    summarise(&j.t, out);
fail:
    lr_free(window);
    larder_engine_free(e);
    larder_free(ids);
    return st;
}
