/* grammar.c - a grammar and the texts matched against it. */
#include "grammar_impl.h"

#include <stdatomic.h>

enum { STATE_MEMORY = 64 << 20, MASK_MEMORY = 32 << 20, TEXT_MAX = 4 << 20 };

static void read_front(lr_net *n, larder_grammar_kind kind, lr_str text)
{
    switch (kind) {
    case LARDER_GRAMMAR_JSON_SCHEMA: lr_front_json_schema(n, text); return;
    case LARDER_GRAMMAR_GBNF: lr_front_gbnf(n, text); return;
    case LARDER_GRAMMAR_REGEX: lr_front_regex(n, text); return;
    case LARDER_GRAMMAR_CHOICE: lr_front_choice(n, text); return;
    case LARDER_GRAMMAR_JSON_OBJECT: lr_front_json_object(n); return;
    }
    lr_net_fail(n, LARDER_USAGE, "there is no kind %d of grammar", (int)kind);
}

larder_status lr_grammar_new(larder_grammar_kind kind, lr_str text, const lr_vocab *v, lr_grammar **out,
                             larder_error *err)
{
    larder_status st = LARDER_OK;
    *out = NULL;
    if (text.n > TEXT_MAX)
        return lr_fail(err, LARDER_LIMIT, "the grammar is %zu bytes; %d at most", text.n, TEXT_MAX);
    lr_grammar *g = lr_calloc(1, sizeof *g);
    if (!g) return LR_NOMEM(err, "a grammar");
    atomic_store(&g->n_owner, 1);
    lr_net_rule(&g->net); /* rule 0, the root */
    void *locale = lr_point_enter();
    read_front(&g->net, kind, text);
    lr_point_leave(locale);
    if (lr_net_close(&g->net)) {
        if (err) *err = g->net.err;
        st = g->net.st;
        goto fail;
    }
    LR_GO(lr_auto_open(&g->run, &g->net, STATE_MEMORY, err));
    if (v) LR_GO(lr_mask_cache_new(v, MASK_MEMORY, &g->masks, err));
    *out = g;
    return LARDER_OK;
fail:
    lr_grammar_free(g);
    return st;
}

lr_grammar *lr_grammar_hold(lr_grammar *g)
{
    if (g) atomic_fetch_add(&g->n_owner, 1);
    return g;
}

void lr_grammar_free(lr_grammar *g)
{
    if (!g || atomic_fetch_sub(&g->n_owner, 1) > 1) return;
    lr_mask_cache_free(g->masks);
    lr_auto_close(&g->run);
    lr_net_free(&g->net);
    lr_free(g);
}

uint64_t lr_grammar_bytes(const lr_grammar *g)
{
    const lr_net *n = &g->net;
    return sizeof *g + (uint64_t)n->cap_state * 8 + (uint64_t)n->cap_edge * sizeof(lr_edge) +
           (uint64_t)n->cap_rule * sizeof(lr_rule) + g->run.n_bytes + (g->masks ? lr_mask_cache_bytes(g->masks) : 0);
}

void lr_grammar_set_memory(lr_grammar *g, size_t n_states, size_t n_masks)
{
    g->run.max_bytes = n_states;
    if (g->masks) lr_mask_cache_limit(g->masks, n_masks);
}

/* ---------------------------------------------------------------- matchers */
larder_status lr_matcher_init(lr_matcher *m, lr_grammar *g, larder_error *err)
{
    (void)err;
    *m = (lr_matcher){.g = lr_grammar_hold(g), .state = LR_STATE_START, .generation = g->run.generation};
    return LARDER_OK;
}

void lr_matcher_close(lr_matcher *m)
{
    lr_grammar_free(m->g);
    lr_buf_free(&m->text);
    *m = (lr_matcher){0};
}

static larder_status fault(uint32_t state, larder_error *err)
{
    if (state == LR_STATE_HARD) return lr_fail(err, LARDER_LIMIT, "the grammar is too ambiguous to follow");
    return lr_fail(err, LARDER_LIMIT, "following the grammar takes more memory than it may");
}

/* Follows bytes from a state. Returns the state, DEAD, FULL or HARD. */
static uint32_t follow(lr_auto *a, uint32_t state, const char *p, size_t n)
{
    for (size_t i = 0; i < n && state != LR_STATE_DEAD && state < LR_STATE_HARD; i++)
        state = lr_auto_step(a, state, (uint8_t)p[i]);
    return state;
}

/* Empties the memory and finds this text's state again. */
static larder_status begin_again(lr_matcher *m, larder_error *err)
{
    lr_grammar *g = m->g;
    if (g->masks) lr_mask_cache_empty(g->masks);
    LR_TRY(lr_auto_empty(&g->run, err));
    m->generation = g->run.generation;
    m->state = follow(&g->run, LR_STATE_START, m->text.p, m->text.n);
    return m->state >= LR_STATE_HARD ? fault(m->state, err) : LARDER_OK;
}

static larder_status catch_up(lr_matcher *m, larder_error *err)
{
    lr_grammar *g = m->g;
    if (m->generation == g->run.generation && m->state < LR_STATE_HARD) return LARDER_OK;
    m->generation = g->run.generation;
    m->state = follow(&g->run, LR_STATE_START, m->text.p, m->text.n);
    if (m->state == LR_STATE_FULL) return begin_again(m, err);
    return m->state == LR_STATE_HARD ? fault(m->state, err) : LARDER_OK;
}

larder_status lr_matcher_take(lr_matcher *m, const char *p, size_t n, bool *ok, larder_error *err)
{
    *ok = false;
    LR_TRY(catch_up(m, err));
    uint32_t to = follow(&m->g->run, m->state, p, n);
    if (to == LR_STATE_FULL) {
        LR_TRY(begin_again(m, err));
        to = follow(&m->g->run, m->state, p, n);
    }
    if (to >= LR_STATE_HARD) return fault(to, err);
    if (to == LR_STATE_DEAD) return LARDER_OK;
    lr_buf_add(&m->text, p, n);
    if (m->text.failed) return LR_NOMEM(err, "a matched text");
    m->state = to;
    *ok = true;
    return LARDER_OK;
}

bool lr_matcher_complete(lr_matcher *m) { return !catch_up(m, NULL) && m->g->run.complete[m->state]; }
bool lr_matcher_over(lr_matcher *m) { return lr_matcher_complete(m) && lr_auto_stuck(&m->g->run, m->state); }

larder_status lr_matcher_next(lr_matcher *m, bool set[256], larder_error *err)
{
    LR_TRY(catch_up(m, err));
    for (int turn = 0; turn < 2; turn++) {
        uint32_t to = LR_STATE_DEAD;
        for (int b = 0; b < 256 && to < LR_STATE_HARD; b++)
            set[b] = (to = lr_auto_step(&m->g->run, m->state, (uint8_t)b)) != LR_STATE_DEAD;
        if (to < LR_STATE_HARD) return LARDER_OK;
        if (to == LR_STATE_HARD || turn) return fault(to, err);
        LR_TRY(begin_again(m, err));
    }
    return LARDER_OK;
}

larder_status lr_matcher_mask(lr_matcher *m, bool may_end, lr_mask *out, larder_error *err)
{
    bool full = false;
    lr_grammar *g = m->g;
    if (!g->masks) return lr_fail(err, LARDER_INTERNAL, "the grammar has no vocabulary");
    LR_TRY(catch_up(m, err));
    LR_TRY(lr_mask_cache_get(g->masks, &g->run, m->state, may_end, out, &full, err));
    if (!full) return LARDER_OK;
    LR_TRY(begin_again(m, err));
    LR_TRY(lr_mask_cache_get(g->masks, &g->run, m->state, may_end, out, &full, err));
    return full ? fault(LR_STATE_FULL, err) : LARDER_OK;
}
