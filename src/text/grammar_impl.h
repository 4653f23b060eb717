/* grammar_impl.h - the seam between the files of grammars.
 *
 *   front ends (json, gbnf, regex) -> lr_net: states, and edges that are bytes, nothing, or a call of another rule
 *   lr_net_close: what cannot end is cut off, left recursion refused
 *   grammar_run.c: the net run as a set of (state, stack), each set met once and numbered
 *   grammar_mask.c: the vocabulary's tree walked with those numbers
 */
#ifndef LR_GRAMMAR_IMPL_H
#define LR_GRAMMAR_IMPL_H

#include "grammar.h"

/* ---------------------------------------------------------------- net (grammar_net.c) */
enum { LR_EDGE_NOTHING, LR_EDGE_BYTES, LR_EDGE_CALL };
typedef struct lr_edge {
    uint32_t to, next; /* next edge of the same state; 0: none */
    uint32_t rule;
    uint8_t kind, lo, hi;
} lr_edge;
typedef struct lr_rule {
    uint32_t start, end;
    bool empty; /* matches the empty text */
} lr_rule;

enum {
    LR_NET_STATES = 400000,
    LR_NET_EDGES = 4000000,
    LR_NET_WORK = 60000000, /* steps a compilation may take in all; a second or so */
};
/* Faults stick: after the first every call does nothing and returns 0. */
typedef struct lr_net {
    uint32_t *first; /* [n_state]: first edge */
    uint32_t *owner; /* [n_state]: rule */
    uint32_t n_state, cap_state;
    lr_edge *edges; /* [0] unused */
    uint32_t n_edge, cap_edge;
    lr_rule *rules; /* [0]: the root */
    uint32_t n_rule, cap_rule;
    uint32_t rule; /* new states belong to it */
    uint64_t work;
    larder_status st;
    larder_error err;
} lr_net;
larder_status lr_net_fail(lr_net *n, larder_status st, const char *fmt, ...) LR_PRINTF(3, 4);
bool lr_net_spend(lr_net *n, uint64_t work); /* false: the budget is spent */
uint32_t lr_net_rule(lr_net *n);             /* with a start and an end */
void lr_net_enter(lr_net *n, uint32_t rule); /* its states follow */
uint32_t lr_net_state(lr_net *n);
void lr_net_skip(lr_net *n, uint32_t from, uint32_t to);
void lr_net_bytes(lr_net *n, uint32_t from, int lo, int hi, uint32_t to);
void lr_net_call(lr_net *n, uint32_t from, uint32_t rule, uint32_t to);
/* Code points [lo, hi], surrogates left out, as UTF-8. */
void lr_net_chars(lr_net *n, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to);
/* These return where they end. */
uint32_t lr_net_text(lr_net *n, uint32_t from, lr_str s);
uint32_t lr_net_puts(lr_net *n, uint32_t from, const char *s);
larder_status lr_net_close(lr_net *n); /* checks and trims; LARDER_UNSUPPORTED if nothing matches */
void lr_net_free(lr_net *n);

/* ---------------------------------------------------------------- sets of code points, and automata over them */
enum { LR_CHAR_MAX = 0x10ffff };
typedef struct lr_chars { /* sorted, apart, not touching */
    struct lr_char_range {
        uint32_t lo, hi;
    } * p;
    uint32_t n, cap;
    bool failed;
} lr_chars;
void lr_chars_add(lr_chars *c, uint32_t lo, uint32_t hi);
void lr_chars_add_all(lr_chars *c, const lr_chars *from);
void lr_chars_sort(lr_chars *c); /* once all is added; adding in order needs none */
void lr_chars_invert(lr_chars *c);
void lr_chars_free(lr_chars *c);

/* Syntax of a regular expression or of a GBNF rule's right side. */
typedef enum lr_syntax_kind {
    LR_SYN_EMPTY,
    LR_SYN_CHARS,
    LR_SYN_CAT,
    LR_SYN_ALT,
    LR_SYN_REPEAT,
    LR_SYN_BEGIN,
    LR_SYN_END,
    LR_SYN_RULE
} lr_syntax_kind;
typedef struct lr_syntax lr_syntax;
struct lr_syntax {
    lr_syntax_kind kind;
    lr_chars chars;
    lr_syntax *child, *next; /* first child; next of the same parent */
    uint32_t min, max;       /* REPEAT; max UINT32_MAX: no end */
    uint32_t rule;
};
enum { LR_REPEAT_MAX = 100000, LR_SYNTAX_DEPTH = 200 };
/* Nodes live in the arena; their sets of characters are freed by lr_syntax_close. */
void lr_syntax_close(lr_syntax *s);
/* ECMA-262, `u` mode. Refuses what no finite automaton has (back references), look-around and word boundaries. */
larder_status lr_regex_parse(lr_str text, lr_arena *a, lr_syntax **out, larder_error *err);

/* A complete deterministic automaton: state 0 is dead, 1 the start. Classes: [bound[i], bound[i + 1]). */
typedef struct lr_dfa {
    uint32_t *bound, n_class;
    uint32_t *to; /* [n_state, n_class] */
    uint8_t *accept;
    uint32_t n_state, cap_state;
} lr_dfa;
enum { LR_DFA_STATES = 30000, LR_DFA_CELLS = 8 << 20 };
/* whole: the expression is the whole text; else it is searched in the text. */
larder_status lr_dfa_from_regex(lr_net *budget, lr_str regex, bool whole, lr_dfa *out, larder_error *err);
larder_status lr_dfa_from_texts(lr_net *n, const lr_str *texts, uint32_t n_text, lr_dfa *out, larder_error *err);
larder_status lr_dfa_lengths(lr_net *budget, uint64_t min, uint64_t max, lr_dfa *out, larder_error *err);
/* Decimal integers and fractions that are multiples of p / 10^k; fractions have at most k digits. */
larder_status lr_dfa_multiples(lr_net *budget, uint32_t p, uint32_t k, lr_dfa *out, larder_error *err);
/* a = a and b, or a and not b. */
larder_status lr_dfa_and(lr_net *budget, lr_dfa *a, const lr_dfa *b, bool not_b, larder_error *err);
bool lr_dfa_matches(const lr_dfa *d, lr_str utf8);
bool lr_dfa_nothing(const lr_dfa *d);
void lr_dfa_free(lr_dfa *d);
/* Adds it to the net. json: as the inside of a JSON string, what must be escaped in its short form. */
void lr_dfa_emit(lr_net *n, const lr_dfa *d, uint32_t from, uint32_t to, bool json);

/* UTF-8: the code point at p[*at], which moves on; -1 if it is none. */
int32_t lr_utf8_next(lr_str s, size_t *at);

/* ---------------------------------------------------------------- front ends: fill the net's rule 0 */
void lr_front_gbnf(lr_net *n, lr_str text);
void lr_front_regex(lr_net *n, lr_str text);
void lr_front_json_schema(lr_net *n, lr_str text);
void lr_front_choice(lr_net *n, lr_str text); /* a JSON list of strings */
void lr_front_json_object(lr_net *n);

/* JSON's own shapes (grammar_json_form.c); each is a rule made when first asked for. */
typedef enum lr_json_rule {
    LR_JSON_SPACE,
    LR_JSON_CHAR,
    LR_JSON_STRING,
    LR_JSON_INTEGER,
    LR_JSON_NUMBER,
    LR_JSON_VALUE,
    LR_JSON_OBJECT,
    LR_JSON_ARRAY,
    LR_JSON_RULES
} lr_json_rule;
typedef struct lr_json_rules {
    uint32_t id[LR_JSON_RULES]; /* 0: not made */
} lr_json_rules;
uint32_t lr_json_rule_get(lr_net *n, lr_json_rules *r, lr_json_rule which);
uint32_t lr_json_quoted(lr_net *n, uint32_t from, lr_str s); /* a string literal */

/* ---------------------------------------------------------------- formats and decimals (grammar_json_form.c) */
const char *lr_format_regex(const char *name); /* NULL: not one that is enforced */
/* A regular expression of the decimals x with x >= bound (or >, <=, <), bound a plain decimal such as "-12.5". */
void lr_decimal_bound(lr_buf *out, const char *bound, bool above, bool strict);

/* ---------------------------------------------------------------- running (grammar_run.c) */
typedef struct lr_auto lr_auto;
enum {
    LR_STATE_DEAD = 0,
    LR_STATE_START = 1,
    LR_STATE_UNKNOWN = 0xffffffffu,
    LR_STATE_FULL = 0xfffffffeu,
    LR_STATE_HARD = 0xfffffffdu
};
struct lr_auto {
    const lr_net *net;
    uint8_t class_of[256];
    uint32_t n_class;
    uint32_t *to; /* [n_set, n_class]: sets of (local, stack) */
    uint8_t *complete;
    uint32_t n_set;
    struct lr_auto_parts *parts;
    size_t n_bytes, max_bytes;
    uint32_t generation;
};
larder_status lr_auto_open(lr_auto *a, const lr_net *net, size_t max_bytes, larder_error *err);
void lr_auto_close(lr_auto *a);
larder_status lr_auto_empty(lr_auto *a, larder_error *err); /* forgets all; a new generation */
/* The state after a byte; FULL: the memory is; HARD: too many stacks at once. */
uint32_t lr_auto_step_slow(lr_auto *a, uint32_t state, uint8_t byte);
static inline uint32_t lr_auto_step(lr_auto *a, uint32_t state, uint8_t byte)
{
    uint32_t to = a->to[(size_t)state * a->n_class + a->class_of[byte]];
    return to == LR_STATE_UNKNOWN ? lr_auto_step_slow(a, state, byte) : to;
}
bool lr_auto_stuck(lr_auto *a, uint32_t state); /* no byte may follow */

/* ---------------------------------------------------------------- masks (grammar_mask.c) */
typedef struct lr_mask_cache lr_mask_cache;
larder_status lr_mask_cache_new(const lr_vocab *v, size_t max_bytes, lr_mask_cache **out, larder_error *err);
void lr_mask_cache_free(lr_mask_cache *c);
void lr_mask_cache_empty(lr_mask_cache *c);
void lr_mask_cache_limit(lr_mask_cache *c, size_t max_bytes);
uint64_t lr_mask_cache_bytes(const lr_mask_cache *c);
/* *full: the automaton's memory ran full. */
larder_status lr_mask_cache_get(lr_mask_cache *c, lr_auto *a, uint32_t state, bool end, lr_mask *out, bool *full,
                                larder_error *err);

/* The decimal number at *at, which moves past it; beyond 32 bits it stays at their end. false: there is none. */
static inline bool lr_take_number(lr_str s, size_t *at, uint32_t *out)
{
    uint64_t v = 0;
    size_t begin = *at;
    for (; *at < s.n && s.p[*at] >= '0' && s.p[*at] <= '9'; (*at)++)
        v = LR_MIN(v * 10 + (uint64_t)(s.p[*at] - '0'), (uint64_t)UINT32_MAX);
    *out = (uint32_t)v;
    return *at > begin;
}

struct lr_grammar {
    _Atomic(uint32_t) n_owner;
    lr_net net;
    lr_auto run;
    lr_mask_cache *masks;
};

#endif
