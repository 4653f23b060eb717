/* constrain.c - answers held to a grammar: the public calls, and what a step asks of them.
 *
 * The mask bans tokens before anything else touches the logits, so every sampler sees only what may be said. What was
 * sampled is checked again: a logit bias may have banned the rest.
 */
#include "engine.h"

#include <stdatomic.h>

struct larder_grammar {
    lr_grammar *g;
    const larder_model *model;
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

void larder_grammar_free(larder_grammar *g)
{
    if (!g) return;
    lr_grammar_free(g->g);
    lr_free(g);
}

/* ---------------------------------------------------------------- a request's own */
larder_status lr_constrain_init(larder_request *r, larder_grammar *g, larder_error *err)
{
    if (g->model != r->engine->model) return lr_fail(err, LARDER_USAGE, "the grammar was compiled for another model");
    LR_TRY(lr_matcher_init(&r->grammar, g->g, err));
    return lr_buf_reserve(&r->piece, 256) ? LARDER_OK : LR_NOMEM(err, "a token's text");
}

larder_status lr_constrain_logits(larder_request *r, float *logits, larder_error *err)
{
    lr_mask mask;
    if (!r->grammar.g) return LARDER_OK;
    LR_TRY(lr_matcher_mask(&r->grammar, !r->ignore_eos, &mask, err));
    if (!mask.n)
        return lr_fail(err, LARDER_UNSUPPORTED,
                       "no token of this model can continue the answer as its grammar wants");
    lr_mask_apply(&mask, logits, r->engine->program.n_vocab);
    return LARDER_OK;
}

larder_status lr_constrain_take(larder_request *r, int32_t token, bool *over, larder_error *err)
{
    const lr_tokenizer *tok = r->engine->model->text.tok;
    bool ok = false;
    if (!r->grammar.g) return LARDER_OK;
    larder_status st = LARDER_OK;
    r->piece.n = 0;
    if (!r->ignore_eos && lr_tokenizer_is_end(tok, token)) ok = lr_matcher_complete(&r->grammar);
    else if (token >= 0 && (uint32_t)token < lr_tokenizer_size(tok))
        st = lr_tokenizer_piece(tok, token, false, &r->piece, err);
    if (!st && r->piece.n) st = lr_matcher_take(&r->grammar, r->piece.p, r->piece.n, &ok, err);
    if (!st && !ok) st = lr_fail(err, LARDER_USAGE, "the logit bias bans every token that the grammar allows");
    if (!st) *over = lr_matcher_over(&r->grammar);
    return st;
}
