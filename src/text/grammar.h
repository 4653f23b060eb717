/* grammar.h - answers of a given form: which bytes may come next, and so which tokens.
 *
 * Owns: JSON Schema, GBNF, regular expressions and lists of choices, compiled to one kind of automaton over bytes; the
 * masks of a vocabulary's tokens that an automaton's state allows. Refuses to own: sampling (the engine's).
 * What cannot be enforced is refused (LARDER_UNSUPPORTED, naming the keyword and where it stands); what would grow past a
 * stated budget is LARDER_LIMIT. Nothing is ignored.
 * A vocabulary is immutable and may be shared by threads. A grammar remembers states it has met, so it is used by one
 * thread at a time; what it answers depends on the text given to the matcher and on nothing else.
 */
#ifndef LR_GRAMMAR_H
#define LR_GRAMMAR_H

#include "tokenizer.h"

/* ---------------------------------------------------------------- a vocabulary as bytes */
typedef struct lr_vocab lr_vocab;
/* n_logits: ids from the vocabulary's size up to here are never allowed. Control and unused tokens are in no mask; the
 * tokens that end an answer are in those of complete texts. */
larder_status lr_vocab_new(const lr_tokenizer *t, uint32_t n_logits, lr_vocab **out, larder_error *err);
void lr_vocab_free(lr_vocab *v);

/* ---------------------------------------------------------------- grammars */
typedef struct lr_grammar lr_grammar;
/* v may be NULL: then there are no masks. It must outlive the grammar. */
larder_status lr_grammar_new(larder_grammar_kind kind, lr_str text, const lr_vocab *v, lr_grammar **out,
                             larder_error *err);
lr_grammar *lr_grammar_hold(lr_grammar *g); /* one more owner */
void lr_grammar_free(lr_grammar *g);
uint64_t lr_grammar_bytes(const lr_grammar *g); /* what it holds now, its memory of states and masks included */
/* Bytes the memory of states, and that of masks, may each take (default 64 MiB and 32 MiB); past it, it is emptied. */
void lr_grammar_set_memory(lr_grammar *g, size_t n_states, size_t n_masks);

/* ---------------------------------------------------------------- one text against a grammar */
typedef struct lr_matcher {
    lr_grammar *g;
    lr_buf text; /* taken so far, to find the state again when the grammar's memory was emptied */
    uint32_t state, generation;
} lr_matcher;
larder_status lr_matcher_init(lr_matcher *m, lr_grammar *g, larder_error *err); /* holds g */
void lr_matcher_close(lr_matcher *m);
/* Takes bytes. *ok false: they cannot stand here, and nothing was taken. LARDER_LIMIT: too ambiguous to follow. */
larder_status lr_matcher_take(lr_matcher *m, const char *p, size_t n, bool *ok, larder_error *err);
bool lr_matcher_complete(lr_matcher *m); /* the text may end here */
bool lr_matcher_over(lr_matcher *m);     /* and nothing may follow */
/* The bytes that may come next, as a set. */
larder_status lr_matcher_next(lr_matcher *m, bool set[256], larder_error *err);

typedef struct lr_mask {
    uint32_t n;           /* tokens allowed */
    const uint32_t *ids;  /* if few: they, rising */
    const uint64_t *bits; /* else a bitmap */
} lr_mask;
/* The tokens that may come next; valid until the grammar is used again. */
larder_status lr_matcher_mask(lr_matcher *m, bool may_end, lr_mask *out, larder_error *err);
bool lr_mask_has(const lr_mask *m, uint32_t id);
/* Sets the logits of all others to -INFINITY. */
void lr_mask_apply(const lr_mask *m, float *logits, uint32_t n);

#endif
