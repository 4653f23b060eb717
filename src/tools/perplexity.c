/* perplexity.c - how well a model predicts a text: exp of the mean negative log probability of its tokens.
 *
 * The field's way, so that figures compare: windows of the context's length that do not overlap, each begun with the
 * model's BOS in place of its first token, the second half of each window scored. */
#include "engine.h"
#include "larder_tools.h"

#include <math.h>

#define OUT_ROWS 128u

/* -log softmax(logits)[id], in double. */
static double surprise(const float *logits, uint32_t n, int32_t id)
{
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

static larder_status score_window(larder_engine *e, const int32_t *ids, uint32_t n, int32_t bos, float *logits, int32_t *window,
                                  tally *t, larder_error *err)
{
    uint32_t n_vocab = e->program.n_vocab;
    memcpy(window, ids, n * sizeof *window);
    if (bos >= 0) window[0] = bos;
    LR_TRY(larder_logits(e, window, n, logits, err));
    for (uint32_t i = n / 2; i + 1 < n; i++) {
        double s = surprise(logits + (size_t)i * n_vocab, n_vocab, window[i + 1]);
        t->sum += s;
        t->square += s * s;
        t->n++;
    }
    return LARDER_OK;
}

static void summarise(const tally *t, larder_ppl *out)
{
    double n = (double)t->n, mean = t->sum / n, var = t->square / n - mean * mean;
    out->ppl = exp(mean);
    out->error = var > 0 && t->n > 1 ? out->ppl * sqrt(var / (n - 1)) : 0;
    out->n_scored = t->n;
}

static bool report(larder_progress_fn *fn, void *user, uint64_t done, uint64_t total, uint64_t t0)
{
    double s = (double)(lr_now_ns() - t0) * 1e-9;
    double rate = s > 0 ? (double)done / s : 0;
    larder_progress p = {"scoring", done, total, rate, rate > 0 ? (double)(total - done) / rate : -1};
    return !fn || fn(user, &p);
}

larder_status larder_perplexity(larder_model *model, const larder_engine_options *options, const char *text, size_t n_text,
                                uint64_t max_tokens, larder_ppl *out, larder_progress_fn *progress, void *user,
                                larder_error *err)
{
    larder_engine_options o = *options;
    larder_engine *e = NULL;
    int32_t *ids = NULL, *window = NULL;
    float *logits = NULL;
    size_t n = 0;
    tally t = {0};
    *out = (larder_ppl){0};
    LR_TRY(larder_tokenize(model, text, n_text, LARDER_TEXT_SPECIAL, &ids, &n, err));
    if (max_tokens && n > max_tokens) n = (size_t)max_tokens;
    if (!o.n_ctx) o.n_ctx = LR_MIN(512u, LR_MAX(model->info.n_ctx_train, 32u));
    o.n_out = LR_MIN(OUT_ROWS, o.n_ctx);
    uint32_t w = o.n_ctx;
    int32_t bos = lr_tokenizer_adds_bos(model->text.tok) ? lr_tokenizer_bos(model->text.tok) : -1;
    larder_status st = LARDER_OK;
    if (n < 2 * (size_t)w)
        LR_GO(lr_fail(err, LARDER_USAGE, "the text is %zu tokens; perplexity with a context of %u needs at least %u", n, w, 2 * w));
    LR_GO(larder_engine_open(model, &o, &e, err));
    window = lr_calloc(w, sizeof *window);
    logits = lr_pages_alloc((size_t)w * model->info.n_vocab * sizeof *logits);
    if (!window || !logits) LR_GO(LR_NOMEM(err, "the logits of a window"));
    uint64_t t0 = lr_now_ns();
    out->window = w;
    for (size_t at = 0; at + w <= n; at += w) {
        LR_GO(score_window(e, ids + at, w, bos, logits, window, &t, err));
        out->n_window++;
        if (!report(progress, user, at + w, n / w * w, t0)) LR_GO(lr_fail(err, LARDER_CANCELLED, "interrupted"));
    }
    summarise(&t, out);
fail:
    if (logits) lr_pages_free(logits, (size_t)w * model->info.n_vocab * sizeof *logits);
    lr_free(window);
    larder_engine_free(e);
    larder_free(ids);
    return st;
}
