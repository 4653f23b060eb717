/* speculate.c - whether drafting pays, and drafts from the text itself; see speculate.h. */
#include "speculate.h"

/* Before anything is measured: a token more in a step costs a tenth of a step with one. */
#define FIRST_RATIO 0.1
/* And of drafted tokens so many are right, as if that had been seen once. */
#define FIRST_RIGHT 0.6
#define FORGET_STEP 0.97
#define FORGET_ALL 0.995
#define FORGET_DRAFT 0.95
#define FIRST_PATIENCE 16u
#define MOST_PATIENCE 512u
/* So many tokens at the end must have stood in the text before. */
#define NGRAM 3u
/* And so far back it is looked for. */
#define NGRAM_BACK 16384u

/* Steps of either kind before they are compared. */
#define ENOUGH 6.0
#define FIRST_REST 64u
#define MOST_REST 4096u
#define PLAIN_EVERY 64u

static lr_payoff *payoff(lr_step_cost *c, uint32_t n_answer)
{
    uint32_t at = 0, end = 1;
    for (; end < n_answer && at + 1 < LR_PAYOFFS; at++) /* the last of each: 1, 2, 3, 4, 6, 8, 12, 16, ... */
        end = end == 1 ? 2 : end & (end - 1) ? end / 3 * 4 : end / 2 * 3;
    return &c->by[at];
}

static double rate(const lr_payoff *o, int drafted) { return o->said[drafted] / o->took[drafted]; }

/* Drafting that was slower rests, longer each time, and is judged anew by what it does then. */
static void judge(lr_payoff *o)
{
    if (o->n[0] < ENOUGH || o->n[1] < ENOUGH) return;
    if (rate(o, 1) >= rate(o, 0)) {
        o->patience = FIRST_REST;
        return;
    }
    o->rest = LR_MAX(o->patience, FIRST_REST);
    o->patience = LR_MIN(o->rest * 2, MOST_REST);
    o->n[1] = o->said[1] = o->took[1] = 0;
}

void lr_cost_note(lr_step_cost *c, uint32_t n_answer, uint32_t n_tok, uint32_t n_said, double seconds, double whole)
{
    if (!n_answer) return;
    lr_payoff *o = payoff(c, n_answer);
    double x = n_tok, k = FORGET_STEP;
    int drafted = n_tok > n_answer;
    o->w = o->w * k + 1;
    o->x = o->x * k + x;
    o->y = o->y * k + seconds;
    o->xx = o->xx * k + x * x;
    o->xy = o->xy * k + x * seconds;
    o->n[drafted] = o->n[drafted] * k + 1;
    o->said[drafted] = o->said[drafted] * k + (double)n_said / n_answer;
    o->took[drafted] = o->took[drafted] * k + whole;
    if (drafted) judge(o);
}

void lr_cost_note_draft(lr_step_cost *c, uint32_t n_tok, double seconds)
{
    double each = seconds / n_tok;
    c->draft_s = c->draft_s > 0 ? 0.9 * c->draft_s + 0.1 * each : each;
}

bool lr_cost_lets_draft(lr_step_cost *c, uint32_t n_answer)
{
    lr_payoff *o = payoff(c, n_answer);
    if (o->rest) {
        o->rest--;
        return false;
    }
    o->turn = o->turn + 1 < PLAIN_EVERY ? o->turn + 1 : 0;
    return o->n[0] >= ENOUGH ? o->turn != 0 : o->turn & 1;
}

/* a and b of a step's seconds, a + b n. Least squares where the steps differ enough in n; else the mean, divided as it last
 * was. */
static void cost_of(lr_payoff *o, double *a, double *b)
{
    double spread = o->w * o->xx - o->x * o->x, mean = o->w > 0 ? o->x / o->w : 1, y = o->w > 0 ? o->y / o->w : 1;
    if (spread > 0.05 * o->w * o->w) {
        double slope = (o->w * o->xy - o->x * o->y) / spread;
        *b = LR_MIN(LR_MAX(slope, 0.01 * y / mean), 0.999 * y / mean);
        *a = y - *b * mean;
        o->ratio = *b / *a;
        return;
    }
    double ratio = o->ratio > 0 ? o->ratio : FIRST_RATIO;
    *a = y / (1 + ratio * mean);
    *b = *a * ratio;
}

void lr_speculation_init(lr_speculation *s, larder_speculate mode)
{
    *s = (lr_speculation){.mode = mode, .patience = FIRST_PATIENCE};
}

uint32_t lr_speculation_length(lr_speculation *s, lr_draft_from from, lr_step_cost *c, uint32_t n_answer,
                               uint32_t most)
{
    double a, b, each = from == LR_DRAFT_MODEL ? c->draft_s : 0;
    double usual = (c->right[from] + FIRST_RIGHT) / (c->tried[from] + 1);
    double p = (s->right[from] + usual) / (s->tried[from] + 1), sure = p;
    uint32_t n = 0;
    cost_of(payoff(c, n_answer), &a, &b);
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

void lr_speculation_note(lr_speculation *s, lr_step_cost *c, uint32_t n_drafted, uint32_t n_accepted)
{
    uint32_t tried = LR_MIN(n_accepted + 1, n_drafted); /* those after the first wrong one say nothing */
    s->right[s->from] = s->right[s->from] * FORGET_DRAFT + n_accepted;
    s->tried[s->from] = s->tried[s->from] * FORGET_DRAFT + tried;
    c->right[s->from] = c->right[s->from] * FORGET_ALL + n_accepted;
    c->tried[s->from] = c->tried[s->from] * FORGET_ALL + tried;
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
