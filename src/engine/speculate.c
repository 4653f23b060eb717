/* speculate.c - whether drafting pays, and drafts from the text itself; see speculate.h. */
#include "speculate.h"

/* Before anything is measured: a token more in a step costs a tenth of a step with one. */
#define FIRST_RATIO 0.1
#define FORGET_STEP 0.97
#define FORGET_DRAFT 0.95
#define FIRST_PATIENCE 16u
#define MOST_PATIENCE 512u
/* So many tokens at the end must have stood in the text before. */
#define NGRAM 3u
/* And so far back it is looked for. */
#define NGRAM_BACK 16384u

void lr_cost_note(lr_step_cost *c, uint32_t n_tok, double seconds)
{
    double x = n_tok, k = FORGET_STEP;
    c->w = c->w * k + 1;
    c->x = c->x * k + x;
    c->y = c->y * k + seconds;
    c->xx = c->xx * k + x * x;
    c->xy = c->xy * k + x * seconds;
}

void lr_cost_note_draft(lr_step_cost *c, uint32_t n_tok, double seconds)
{
    double each = seconds / n_tok;
    c->draft_s = c->draft_s > 0 ? 0.9 * c->draft_s + 0.1 * each : each;
}

/* a and b of a step's seconds, a + b n. Least squares where the steps differ enough in n. */
static void cost_of(const lr_step_cost *c, double *a, double *b)
{
    double spread = c->w * c->xx - c->x * c->x, mean = c->w > 0 ? c->x / c->w : 1, y = c->w > 0 ? c->y / c->w : 1;
    *b = y * FIRST_RATIO / (1 + FIRST_RATIO * (mean - 1));
    if (spread > 0.05 * c->w * c->w) {
        double slope = (c->w * c->xy - c->x * c->y) / spread;
        *b = LR_MIN(LR_MAX(slope, 0.01 * y), y / mean);
    }
    *a = y - *b * mean;
}

void lr_speculation_init(lr_speculation *s, larder_speculate mode)
{
    *s = (lr_speculation){.mode = mode, .patience = FIRST_PATIENCE};
}

uint32_t lr_speculation_length(lr_speculation *s, lr_draft_from from, const lr_step_cost *c, uint32_t n_answer,
                               uint32_t most)
{
    double a, b, each = from == LR_DRAFT_MODEL ? c->draft_s : 0;
    double p = (s->right[from] + 0.6) / (s->tried[from] + 1), sure = p;
    uint32_t n = 0;
    cost_of(c, &a, &b);
    for (; n < most && sure * (a + b * n_answer) > (b + each) * n_answer; n++) sure *= p;
    if (n) {
        s->quiet = 0;
    } else if (++s->quiet > s->patience) {
        s->quiet = 0;
        s->patience = LR_MIN(s->patience * 2, MOST_PATIENCE);
        n = LR_MIN(2u, most);
    }
    return n;
}

void lr_speculation_note(lr_speculation *s, uint32_t n_drafted, uint32_t n_accepted)
{
    uint32_t tried = LR_MIN(n_accepted + 1, n_drafted); /* those after the first wrong one say nothing */
    s->right[s->from] = s->right[s->from] * FORGET_DRAFT + n_accepted;
    s->tried[s->from] = s->tried[s->from] * FORGET_DRAFT + tried;
    if (n_accepted == n_drafted) s->patience = FIRST_PATIENCE;
    s->n_drafted += n_drafted;
    s->n_accepted += n_accepted;
}

uint32_t lr_ngram_draft(const int32_t *ids, uint32_t n, uint32_t most, int32_t *out)
{
    if (n < NGRAM + 1) return 0;
    const int32_t *end = ids + n - NGRAM;
    uint32_t first = n > NGRAM_BACK ? n - NGRAM_BACK : 0;
    for (uint32_t at = n - NGRAM; at-- > first;) {
        if (ids[at + NGRAM - 1] != end[NGRAM - 1] || memcmp(ids + at, end, NGRAM * sizeof *ids)) continue;
        uint32_t from = at + NGRAM;
        for (uint32_t i = 0; i < most; i++) out[i] = from + i < n ? ids[from + i] : out[from + i - n];
        return most; /* past its end the text repeats what was just drafted */
    }
    return 0;
}
