/* sampler.c - see sampler.h. Nothing here allocates after init. */
#include "sampler.h"

#include <math.h>

uint64_t lr_sampler_work_bytes(uint32_t n_vocab, uint32_t n_ctx)
{
    return (uint64_t)n_vocab * (2 * sizeof(lr_candidate) + sizeof(uint32_t)) +
           ((uint64_t)n_ctx + 1) * sizeof(uint32_t);
}

larder_status lr_sampler_work_init(lr_sampler_work *w, uint32_t n_vocab, uint32_t n_ctx, larder_error *err)
{
    *w = (lr_sampler_work){.n_vocab = n_vocab, .n_ctx = n_ctx};
    w->a = lr_calloc(n_vocab, sizeof *w->a);
    w->b = lr_calloc(n_vocab, sizeof *w->b);
    w->count = lr_calloc(n_vocab, sizeof *w->count);
    w->match = lr_calloc((size_t)n_ctx + 1, sizeof *w->match);
    if (w->a && w->b && w->count && w->match) return LARDER_OK;
    lr_sampler_work_close(w);
    return LR_NOMEM(err, "the sampler");
}

void lr_sampler_work_close(lr_sampler_work *w)
{
    lr_free(w->a);
    lr_free(w->b);
    lr_free(w->count);
    lr_free(w->match);
    *w = (lr_sampler_work){0};
}

static larder_status in_range(const char *name, float v, float lo, float hi, larder_error *err)
{
    if (v >= lo && v <= hi) return LARDER_OK; /* false for NaN */
    return lr_fail(err, LARDER_USAGE, "%s is %g; it must be between %g and %g", name, (double)v, (double)lo,
                   (double)hi);
}

static larder_status check(const larder_sampling *p, uint32_t n_vocab, larder_error *err)
{
    LR_TRY(in_range("temperature", p->temperature, 0, 100, err));
    LR_TRY(in_range("top_p", p->top_p, 0, 1, err));
    LR_TRY(in_range("min_p", p->min_p, 0, 1, err));
    LR_TRY(in_range("typical_p", p->typical_p, 0, 1, err));
    LR_TRY(in_range("repeat_penalty", p->repeat_penalty, 0.01f, 100, err));
    LR_TRY(in_range("frequency_penalty", p->frequency_penalty, -100, 100, err));
    LR_TRY(in_range("presence_penalty", p->presence_penalty, -100, 100, err));
    LR_TRY(in_range("dry_multiplier", p->dry_multiplier, 0, 100, err));
    LR_TRY(in_range("dry_base", p->dry_base, 0, 100, err));
    LR_TRY(in_range("xtc_probability", p->xtc_probability, 0, 1, err));
    LR_TRY(in_range("xtc_threshold", p->xtc_threshold, 0, 1, err));
    LR_TRY(in_range("mirostat_tau", p->mirostat_tau, 0, 100, err));
    LR_TRY(in_range("mirostat_eta", p->mirostat_eta, 0, 1, err));
    if (p->top_k < 0) return lr_fail(err, LARDER_USAGE, "top_k is %d; it must be 0 (off) or more", p->top_k);
    if (p->penalty_last_n < -1 || p->dry_last_n < -1)
        return lr_fail(err, LARDER_USAGE, "a number of tokens to look back on must be -1 (all) or more");
    if (p->dry_allowed_length < 1) return lr_fail(err, LARDER_USAGE, "dry_allowed_length must be 1 or more");
    if (p->n_bias && (!p->bias_ids || !p->bias))
        return lr_fail(err, LARDER_USAGE, "logit bias has a count but no values");
    for (uint32_t i = 0; i < p->n_bias; i++) {
        if (p->bias_ids[i] < 0 || (uint32_t)p->bias_ids[i] >= n_vocab)
            return lr_fail(err, LARDER_USAGE, "logit bias names token %d; this model has %u", p->bias_ids[i],
                           n_vocab);
        if (isnan(p->bias[i]) || p->bias[i] == INFINITY)
            return lr_fail(err, LARDER_USAGE, "the logit bias of token %d is not a number below infinity",
                           p->bias_ids[i]);
    }
    return LARDER_OK;
}

larder_status lr_sampler_init(lr_sampler *s, const larder_sampling *p, uint32_t n_vocab, larder_error *err)
{
    *s = (lr_sampler){.s = *p, .mu = 2 * p->mirostat_tau};
    s->s.bias_ids = NULL;
    s->s.bias = NULL;
    LR_TRY(check(p, n_vocab, err));
    if (!p->n_bias) return LARDER_OK;
    int32_t *ids = lr_calloc(p->n_bias, sizeof *ids);
    float *bias = lr_calloc(p->n_bias, sizeof *bias);
    if (!ids || !bias) {
        lr_free(ids);
        lr_free(bias);
        return LR_NOMEM(err, "the logit bias");
    }
    memcpy(ids, p->bias_ids, p->n_bias * sizeof *ids);
    memcpy(bias, p->bias, p->n_bias * sizeof *bias);
    s->s.bias_ids = ids;
    s->s.bias = bias;
    return LARDER_OK;
}

void lr_sampler_close(lr_sampler *s)
{
    lr_free((void *)s->s.bias_ids);
    lr_free((void *)s->s.bias);
    *s = (lr_sampler){0};
}

double lr_sample_random(uint64_t seed, uint64_t position, uint32_t draw)
{
    /* splitmix64's finalizer (Steele, Lea, Flood 2014) over a combination in which every input bit counts */
    uint64_t x = seed + 0x9e3779b97f4a7c15u * (position * 8 + draw + 1);
    for (int i = 0; i < 2; i++) {
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        x ^= x >> 31;
    }
    return (double)(x >> 11) * 0x1p-53;
}

/* ---------------------------------------------------------------- penalties */
/* Keskar et al. 2019 (repetition: logits over 0 divided, others multiplied) and OpenAI's frequency and presence. */
static void penalise(const larder_sampling *p, lr_sampler_work *w, float *logits, const int32_t *tokens, uint32_t n)
{
    if (p->repeat_penalty == 1 && p->frequency_penalty == 0 && p->presence_penalty == 0) return;
    uint32_t back = p->penalty_last_n < 0 ? n : LR_MIN((uint32_t)p->penalty_last_n, n);
    for (uint32_t i = n - back; i < n; i++) w->count[tokens[i]]++;
    for (uint32_t i = n - back; i < n; i++) {
        int32_t id = tokens[i];
        uint32_t c = w->count[id];
        if (!c) continue; /* done at its first occurrence */
        w->count[id] = 0;
        float l = logits[id];
        l = l > 0 ? l / p->repeat_penalty : l * p->repeat_penalty;
        logits[id] = l - p->frequency_penalty * (float)c - p->presence_penalty;
    }
}

static bool breaks_at(const lr_sampler *s, int32_t id) { return s->breaks && (s->breaks[id >> 3] >> (id & 7) & 1); }

/* DRY (p-e-w, text-generation-webui #5677): a token that would continue a repetition of length m >= allowed loses
 * multiplier * base^(m - allowed); a breaker never does. match[d]: how many tokens ending d places before the last equal those that end at
 * the last, by the Z algorithm on the reversed text. */
static void dont_repeat(const lr_sampler *s, lr_sampler_work *w, float *logits, const int32_t *tokens, uint32_t n)
{
    const larder_sampling *p = &s->s;
    if (p->dry_multiplier == 0 || p->dry_base < 1) return;
    uint32_t back = p->dry_last_n < 0 ? n : LR_MIN((uint32_t)p->dry_last_n, n);
    const int32_t *last = tokens + n - 1; /* last[-i] is the i-th of the reversed text */
    uint32_t until = 0;                   /* a repetition does not reach across a breaker */
    while (until < back && !breaks_at(s, last[-(ptrdiff_t)until])) until++;
    if (until == 0) return;
    uint32_t lo = 0, hi = 0, longest = 0; /* [lo, hi): the match that reaches furthest */
    for (uint32_t d = 1; d < back; d++) {
        uint32_t m = d < hi ? LR_MIN(w->match[d - lo], hi - d) : 0;
        while (d + m < back && last[-(ptrdiff_t)m] == last[-(ptrdiff_t)(d + m)]) m++;
        w->match[d] = m;
        if (d + m > hi) lo = d, hi = d + m;
        uint32_t useful = LR_MIN(m, until);
        int32_t next = last[-(ptrdiff_t)d + 1];
        if (breaks_at(s, next)) continue;
        if (useful >= (uint32_t)p->dry_allowed_length && useful > w->count[next]) {
            w->count[next] = useful;
            longest = LR_MAX(longest, useful);
        }
    }
    if (!longest) return;
    for (uint32_t d = 1; d < back; d++) {
        int32_t next = last[-(ptrdiff_t)d + 1];
        if (!w->count[next]) continue;
        float power = powf(p->dry_base, (float)(w->count[next] - (uint32_t)p->dry_allowed_length));
        logits[next] -= LR_MIN(p->dry_multiplier * power, 1e30f);
        w->count[next] = 0;
    }
}

static int32_t argmax(const float *x, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return (int32_t)best;
}

/* ---------------------------------------------------------------- candidates, sorted: best logit first, ties by id */
static uint32_t sort_key(float logit)
{
    uint32_t u;
    memcpy(&u, &logit, sizeof u);
    u = u & 0x80000000u ? ~u : u | 0x80000000u;
    return ~u; /* descending */
}

/* Least significant digit first, 11 bits at a time: stable, so equal logits stay in the order of their ids. */
static void sort_all(lr_sampler_work *w, uint32_t n)
{
    for (int shift = 0; shift < 33; shift += 11) {
        uint32_t at[2048] = {0};
        for (uint32_t i = 0; i < n; i++) at[sort_key(w->a[i].logit) >> shift & 2047]++;
        for (uint32_t d = 0, sum = 0; d < 2048; d++) {
            uint32_t c = at[d];
            at[d] = sum;
            sum += c;
        }
        for (uint32_t i = 0; i < n; i++) w->b[at[sort_key(w->a[i].logit) >> shift & 2047]++] = w->a[i];
        lr_candidate *t = w->a;
        w->a = w->b;
        w->b = t;
    }
}

static bool better(float logit, int32_t id, const lr_candidate *c)
{
    return logit > c->logit || (logit == c->logit && id < c->id);
}

/* The k best of n in order, k small: insertion into a sorted list, which almost no token enters. */
static void select_best(lr_sampler_work *w, const float *logits, uint32_t n, uint32_t k)
{
    uint32_t m = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (m == k && !better(logits[i], (int32_t)i, &w->a[m - 1])) continue;
        uint32_t at = m < k ? m++ : m - 1;
        while (at > 0 && better(logits[i], (int32_t)i, &w->a[at - 1])) {
            w->a[at] = w->a[at - 1];
            at--;
        }
        w->a[at] = (lr_candidate){.logit = logits[i], .id = (int32_t)i};
    }
}

static uint32_t candidates(lr_sampler_work *w, const float *logits, uint32_t top_k)
{
    uint32_t n = w->n_vocab;
    if (top_k && top_k <= 256) {
        n = LR_MIN(n, top_k);
        select_best(w, logits, w->n_vocab, n);
    } else {
        for (uint32_t i = 0; i < n; i++) w->a[i] = (lr_candidate){.logit = logits[i], .id = (int32_t)i};
        sort_all(w, n);
        if (top_k) n = LR_MIN(n, top_k);
    }
    while (n > 1 && w->a[n - 1].logit == -INFINITY) n--; /* banned */
    return n;
}

static void softmax(lr_candidate *c, uint32_t n, float temperature)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        c[i].p = expf((c[i].logit - c[0].logit) / temperature);
        sum += (double)c[i].p;
    }
    for (uint32_t i = 0; i < n; i++) c[i].p = (float)((double)c[i].p / sum);
}

static bool less_surprise(const lr_candidate *a, const lr_candidate *b)
{
    return a->p != b->p ? a->p < b->p : a->id < b->id;
}

static bool more_logit(const lr_candidate *a, const lr_candidate *b) { return better(a->logit, a->id, b); }

typedef bool before_fn(const lr_candidate *a, const lr_candidate *b);

static void sift(lr_candidate *c, uint32_t at, uint32_t n, before_fn *before)
{
    lr_candidate moved = c[at];
    for (uint32_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && before(&c[child], &c[child + 1])) child++;
        if (!before(&moved, &c[child])) break;
        c[at] = c[child];
    }
    c[at] = moved;
}

/* A heap sort: in place, where the library's qsort may take memory. */
static void sort_by(lr_candidate *c, uint32_t n, before_fn *before)
{
    for (uint32_t i = n / 2; i-- > 0;) sift(c, i, n, before);
    for (uint32_t i = n; i-- > 1;) {
        lr_candidate last = c[0];
        c[0] = c[i];
        c[i] = last;
        sift(c, 0, i, before);
    }
}

/* Locally typical sampling (Meister et al. 2022): the tokens whose surprise is nearest the entropy, up to mass p. */
static uint32_t typical(lr_sampler_work *w, uint32_t n, float mass)
{
    softmax(w->a, n, 1);
    double entropy = 0;
    for (uint32_t i = 0; i < n; i++)
        if (w->a[i].p > 0) entropy -= (double)w->a[i].p * log((double)w->a[i].p);
    for (uint32_t i = 0; i < n; i++) { /* b: the same with p = distance from the entropy */
        w->b[i] = w->a[i];
        w->b[i].p = w->a[i].p > 0 ? (float)fabs(-log((double)w->a[i].p) - entropy) : INFINITY;
        w->count[w->a[i].id] = i;
    }
    sort_by(w->b, n, less_surprise);
    double sum = 0;
    uint32_t keep = 0;
    while (keep < n && sum < (double)mass) sum += (double)w->a[w->count[w->b[keep++].id]].p;
    for (uint32_t i = 0; i < n; i++) w->count[w->a[i].id] = 0;
    keep = LR_MAX(keep, 1u);
    memcpy(w->a, w->b, keep * sizeof *w->a);
    sort_by(w->a, keep, more_logit);
    return keep;
}

/* Nucleus sampling (Holtzman et al. 2020). */
static uint32_t nucleus(lr_candidate *c, uint32_t n, float mass)
{
    softmax(c, n, 1);
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += (double)c[i].p;
        if (sum >= (double)mass) return i + 1;
    }
    return n;
}

/* Exclude top choices (p-e-w, text-generation-webui #6335): with a probability, all above the threshold but the last. */
static uint32_t exclude_top(lr_candidate *c, uint32_t n, const larder_sampling *p, double random)
{
    if (n < 2 || random >= (double)p->xtc_probability) return n;
    softmax(c, n, 1);
    uint32_t above = 0;
    while (above < n && c[above].p >= p->xtc_threshold) above++;
    if (above < 2) return n;
    memmove(c, c + above - 1, (n - above + 1) * sizeof *c);
    return n - above + 1;
}

static const lr_candidate *draw(const lr_candidate *c, uint32_t n, double random)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += (double)c[i].p;
        if (random < sum) return &c[i];
    }
    return &c[n - 1];
}

/* Mirostat 2 (Basu et al. 2021): tokens more surprising than mu are cut; mu follows the surprise observed. */
static int32_t mirostat(lr_sampler *s, lr_sampler_work *w, const float *logits, double random)
{
    uint32_t n = candidates(w, logits, 0), keep = 1;
    softmax(w->a, n, s->s.temperature);
    while (keep < n && w->a[keep].p > 0 && -log2f(w->a[keep].p) <= s->mu) keep++;
    softmax(w->a, keep, s->s.temperature);
    const lr_candidate *c = draw(w->a, keep, random);
    s->mu -= s->s.mirostat_eta * (-log2f(c->p) - s->s.mirostat_tau);
    return c->id;
}

int32_t lr_sample(lr_sampler *s, lr_sampler_work *w, float *logits, const int32_t *tokens, uint32_t n)
{
    const larder_sampling *p = &s->s;
    for (uint32_t i = 0; i < p->n_bias; i++) logits[p->bias_ids[i]] += p->bias[i];
    penalise(p, w, logits, tokens, n);
    dont_repeat(s, w, logits, tokens, n);
    if (p->temperature == 0) return argmax(logits, w->n_vocab);
    double random = lr_sample_random(p->seed, n, 0);
    if (p->mirostat_tau > 0) return mirostat(s, w, logits, random);
    uint32_t keep = candidates(w, logits, (uint32_t)p->top_k);
    if (p->typical_p < 1) keep = typical(w, keep, p->typical_p);
    if (p->top_p < 1) keep = nucleus(w->a, keep, p->top_p);
    if (p->min_p > 0) { /* Nguyen et al. 2024: p_i >= min_p * p_max */
        float floor_logit = w->a[0].logit + logf(p->min_p);
        while (keep > 1 && w->a[keep - 1].logit < floor_logit) keep--;
    }
    if (p->xtc_probability > 0) keep = exclude_top(w->a, keep, p, lr_sample_random(p->seed, n, 1));
    softmax(w->a, keep, p->temperature);
    return draw(w->a, keep, random)->id;
}
