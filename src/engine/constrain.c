/* constrain.c - answers held to a grammar: the public calls, and what a step asks of them.
 *
 * The mask bans tokens before anything else touches the logits, so every sampler sees only what may be said. What was
 * sampled is checked again: a logit bias may have banned the rest.
 *
 * A grammar with a trigger holds in parts of the answer: FREE until the trigger was said; then BEFORE, where a space may come
 * first; WITHIN until the grammar's text is complete; and FREE again. No token may cross into a part with bytes that could
 * not stand there, nor out of it.
 */
#include "engine.h"

#include <math.h>

struct larder_grammar {
    lr_grammar *g;
    const larder_model *model;
    lr_trigger *after;
};

/* Made once; when two threads make it at once, one of them is kept. */
static larder_status vocabulary(const larder_model *model, const lr_vocab **out, larder_error *err)
{
    _Atomic(lr_vocab *) *at = (_Atomic(lr_vocab *) *)&model->vocab;
    lr_vocab *v = atomic_load(at), *expected = NULL;
    if (!v) {
        LR_TRY(lr_model_need_text(model, err));
        LR_TRY(lr_vocab_new(model->text.tok, model->info.n_vocab, &v, err));
        if (!atomic_compare_exchange_strong(at, &expected, v)) {
            lr_vocab_free(v);
            v = expected;
        }
    }
    *out = v;
    return LARDER_OK;
}

/* ---------------------------------------------------------------- triggers */
static void trigger_free(lr_trigger *t)
{
    if (!t || atomic_fetch_sub(&t->n_owner, 1) > 1) return;
    lr_free(t->text);
    lr_free(t->across);
    lr_free(t);
}

/* What a token says, as whoever reads the answer gets it: of control tokens only the trigger itself. */
static larder_status piece_of(const lr_tokenizer *tok, const lr_trigger *t, int32_t id, lr_buf *piece,
                              larder_error *err)
{
    piece->n = 0;
    if (id == t->mark) lr_buf_add(piece, t->text, t->n);
    else if (id >= 0 && (uint32_t)id < lr_tokenizer_size(tok)) LR_TRY(lr_tokenizer_piece(tok, id, false, piece, err));
    return piece->failed ? LR_NOMEM(err, "a token's text") : LARDER_OK;
}

/* Could this token, after some text, complete the trigger and go on? */
static bool may_cross(const lr_trigger *t, const lr_buf *piece)
{
    for (size_t end = 1; end < piece->n; end++) {
        size_t n = LR_MIN(end, t->n);
        if (!memcmp(piece->p + end - n, t->text + t->n - n, n)) return true;
    }
    return false;
}

static void learn(lr_trigger *t, const lr_tokenizer *tok, int32_t id, lr_buf *piece)
{
    piece->n = 0;
    if (lr_tokenizer_piece(tok, id, false, piece, NULL) || piece->failed) return;
    if (piece->n == 1 && (*piece->p == ' ' || *piece->p == '\n')) t->spaces[*piece->p == '\n'] = id;
    if (may_cross(t, piece)) t->across[t->n_across++] = id;
    if (piece->n || lr_tokenizer_piece(tok, id, true, piece, NULL) || piece->failed) return;
    if (piece->n == t->n && !memcmp(piece->p, t->text, t->n)) t->mark = id;
}

static larder_status trigger_new(const larder_model *m, const char *after, lr_trigger **out, larder_error *err)
{
    const lr_tokenizer *tok = m->text.tok;
    larder_status st = LARDER_OK;
    uint32_t n = lr_tokenizer_size(tok);
    lr_buf piece = {0};
    lr_trigger *t = lr_calloc(1, sizeof *t);
    if (!t) return LR_NOMEM(err, "a grammar's trigger");
    *t = (lr_trigger){.n_owner = 1, .n = strlen(after), .mark = -1, .spaces = {-1, -1}};
    t->text = lr_strndup(after, t->n);
    t->across = lr_calloc(n, sizeof *t->across);
    if (!t->text || !t->across) LR_GO(LR_NOMEM(err, "a grammar's trigger"));
    for (uint32_t i = 0; i < n; i++) learn(t, tok, (int32_t)i, &piece);
    if (piece.failed) LR_GO(LR_NOMEM(err, "a grammar's trigger"));
    int32_t *less = lr_realloc(t->across, LR_MAX(t->n_across, 1u) * sizeof *less);
    if (less) t->across = less;
    *out = t;
    lr_buf_free(&piece);
    return LARDER_OK;
fail:
    lr_buf_free(&piece);
    trigger_free(t);
    return st;
}

/* ---------------------------------------------------------------- grammars */
larder_status larder_grammar_compile(const larder_model *model, larder_grammar_kind kind, const char *text,
                                     size_t n_text, larder_grammar **out, larder_error *err)
{
    const lr_vocab *v = NULL;
    *out = NULL;
    LR_TRY(vocabulary(model, &v, err));
    larder_grammar *g = lr_calloc(1, sizeof *g);
    if (!g) return LR_NOMEM(err, "a grammar");
    g->model = model;
    larder_status st = lr_grammar_new(kind, (lr_str){text, n_text}, v, &g->g, err);
    if (st) {
        lr_free(g);
        return st;
    }
    *out = g;
    return LARDER_OK;
}

larder_status larder_grammar_compile_after(const larder_model *model, const char *after, larder_grammar_kind kind,
                                           const char *text, size_t n_text, larder_grammar **out, larder_error *err)
{
    if (!*after) return lr_fail(err, LARDER_USAGE, "a grammar that holds after nothing");
    LR_TRY(larder_grammar_compile(model, kind, text, n_text, out, err));
    larder_status st = trigger_new(model, after, &(*out)->after, err);
    if (!st) return LARDER_OK;
    larder_grammar_free(*out);
    *out = NULL;
    return st;
}

void larder_grammar_free(larder_grammar *g)
{
    if (!g) return;
    lr_grammar_free(g->g);
    trigger_free(g->after);
    lr_free(g);
}

/* ---------------------------------------------------------------- a request's own */
larder_status lr_constrain_init(larder_request *r, larder_grammar *g, larder_error *err)
{
    if (g->model != r->engine->model) return lr_fail(err, LARDER_USAGE, "the grammar was compiled for another model");
    LR_TRY(lr_matcher_init(&r->grammar, g->g, err));
    if (g->after) {
        atomic_fetch_add(&g->after->n_owner, 1);
        r->after = g->after;
        if (!lr_buf_reserve(&r->tail, g->after->n + 1)) return LR_NOMEM(err, "a token's text");
    }
    return lr_buf_reserve(&r->piece, 256) ? LARDER_OK : LR_NOMEM(err, "a token's text");
}

void lr_constrain_close(larder_request *r)
{
    lr_matcher_close(&r->grammar);
    trigger_free(r->after);
    r->after = NULL;
    lr_buf_free(&r->tail);
    lr_buf_free(&r->piece);
}

/* Bytes of this text up to the end of the first trigger in what was said and it; 0: there is none. */
static size_t find_trigger(const larder_request *r, const char *p, size_t n)
{
    const lr_trigger *t = r->after;
    for (size_t end = 1; end <= n; end++) { /* the trigger's last byte is p[end - 1] */
        size_t here = LR_MIN(end, t->n), there = t->n - here;
        if (there > r->tail.n || memcmp(p + end - here, t->text + there, here)) continue;
        if (!memcmp(r->tail.p + r->tail.n - there, t->text, there)) return end;
    }
    return 0;
}

static void keep_tail(larder_request *r, const char *p, size_t n)
{
    size_t most = r->after->n - 1, keep;
    if (n > most) p += n - most, n = most;
    keep = LR_MIN(r->tail.n, most - n);
    if (r->tail.n) memmove(r->tail.p, r->tail.p + r->tail.n - keep, keep);
    r->tail.n = keep;
    lr_buf_add(&r->tail, p, n);
}

static bool is_space(char c) { return c == ' ' || c == '\n'; }

/* Bytes of a part that the grammar holds. */
static larder_status take_held(larder_request *r, const char *p, size_t n, bool *ok, larder_error *err)
{
    *ok = true;
    if (r->hold == LR_HOLD_BEFORE && n && !r->spaced && is_space(*p)) r->spaced = true, p++, n--;
    if (!n) return LARDER_OK;
    r->hold = LR_HOLD_WITHIN;
    LR_TRY(lr_matcher_take(&r->grammar, p, n, ok, err));
    if (!*ok || !lr_matcher_complete(&r->grammar)) return LARDER_OK;
    lr_grammar *g = lr_grammar_hold(r->grammar.g);
    lr_matcher_close(&r->grammar);
    larder_status st = lr_matcher_init(&r->grammar, g, err);
    lr_grammar_free(g);
    r->hold = LR_HOLD_FREE;
    return st;
}

static larder_status take_part(larder_request *r, const char *p, size_t n, bool *ok, larder_error *err)
{
    *ok = true;
    if (r->hold != LR_HOLD_FREE) return take_held(r, p, n, ok, err);
    size_t end = find_trigger(r, p, n);
    if (!end) {
        keep_tail(r, p, n);
        return r->tail.failed ? LR_NOMEM(err, "a token's text") : LARDER_OK;
    }
    r->hold = LR_HOLD_BEFORE;
    r->spaced = false;
    r->tail.n = 0;
    return take_held(r, p + end, n - end, ok, err);
}

/* A token that would say the trigger and more, where that cannot stand. */
static larder_status ban_across(larder_request *r, float *logits, larder_error *err)
{
    const lr_trigger *t = r->after;
    const lr_tokenizer *tok = r->engine->model->text.tok;
    for (uint32_t i = 0; i < t->n_across; i++) {
        lr_matcher probe;
        bool ok = true;
        LR_TRY(piece_of(tok, t, t->across[i], &r->piece, err));
        size_t end = find_trigger(r, r->piece.p, r->piece.n), n = r->piece.n - end;
        const char *p = r->piece.p + end;
        if (!end || !n) continue;
        if (is_space(*p)) p++, n--;
        if (!n) continue;
        LR_TRY(lr_matcher_init(&probe, r->grammar.g, err));
        larder_status st = lr_matcher_take(&probe, p, n, &ok, err);
        lr_matcher_close(&probe);
        LR_TRY(st);
        if (!ok) logits[t->across[i]] = -INFINITY;
    }
    return LARDER_OK;
}

larder_status lr_constrain_logits(larder_request *r, float *logits, larder_error *err)
{
    lr_mask mask;
    float kept[2];
    if (!r->grammar.g) return LARDER_OK;
    if (r->after && r->hold == LR_HOLD_FREE) return ban_across(r, logits, err);
    LR_TRY(lr_matcher_mask(&r->grammar, !r->ignore_eos && !r->after, &mask, err));
    if (!mask.n)
        return lr_fail(err, LARDER_UNSUPPORTED,
                       "no token of this model can continue the answer as its grammar wants");
    bool space = r->after && r->hold == LR_HOLD_BEFORE && !r->spaced;
    for (int i = 0; space && i < 2; i++)
        if (r->after->spaces[i] >= 0) kept[i] = logits[r->after->spaces[i]];
    lr_mask_apply(&mask, logits, r->engine->program.n_vocab);
    for (int i = 0; space && i < 2; i++)
        if (r->after->spaces[i] >= 0) logits[r->after->spaces[i]] = kept[i];
    return LARDER_OK;
}

larder_status lr_constrain_take(larder_request *r, int32_t token, bool *over, larder_error *err)
{
    const lr_tokenizer *tok = r->engine->model->text.tok;
    bool ok = false, end = !r->ignore_eos && lr_tokenizer_is_end(tok, token);
    if (!r->grammar.g) return LARDER_OK;
    larder_status st = LARDER_OK;
    r->piece.n = 0;
    if (r->after) {
        ok = r->hold == LR_HOLD_FREE;
        if (!end) st = piece_of(tok, r->after, token, &r->piece, err);
        if (!st && r->piece.n) st = take_part(r, r->piece.p, r->piece.n, &ok, err);
    } else {
        if (end) ok = lr_matcher_complete(&r->grammar);
        else if (token >= 0 && (uint32_t)token < lr_tokenizer_size(tok))
            st = lr_tokenizer_piece(tok, token, false, &r->piece, err);
        if (!st && r->piece.n) st = lr_matcher_take(&r->grammar, r->piece.p, r->piece.n, &ok, err);
    }
    if (!st && !ok) st = lr_fail(err, LARDER_USAGE, "the logit bias bans every token that the grammar allows");
    if (!st && !r->after) *over = lr_matcher_over(&r->grammar);
    return st;
}
