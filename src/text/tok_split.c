/* tok_split.c - patterns, and how they cut text into the words that are merged.
 *
 * Owns: compiling and running the patterns of model files (PCRE2 with JIT), which are hostile: length, matching steps
 * and time have limits, and passing one is an error. Refuses to own: what happens inside a word (tok_bpe.c).
 */
#include "tok_impl.h"

enum {
    MATCH_LIMIT = 4 * 1000 * 1000, /* backtracking steps from one starting place */
    WINDOW = 1 << 16,              /* starting places tried between two looks at the clock */
    MATCHES = 64,                  /* and matches found: each may have cost nearly the limit */
};
static const uint64_t base_time_ns = UINT64_C(3000000000),
                      byte_time_ns = 2000; /* per call, and per byte of its text */

larder_status tok_compile(tok_regex *r, lr_str pattern, bool literal, larder_error *err)
{
    if (pattern.n > TOK_MAX_PATTERN) {
        return lr_fail(err, LARDER_LIMIT, "a tokenizer pattern has %zu bytes; at most %d are taken", pattern.n,
                       TOK_MAX_PATTERN);
    }
    if (pattern.n == 0) return lr_fail(err, LARDER_FORMAT, "a tokenizer pattern is empty");
    if (memchr(pattern.p, 0, pattern.n)) return lr_fail(err, LARDER_FORMAT, "a tokenizer pattern holds a NUL");
    /* (*VERBS) at the start could lift the limits */
    if (!literal && pattern.n > 1 && pattern.p[0] == '(' && pattern.p[1] == '*') {
        return lr_fail(err, LARDER_UNSUPPORTED, "a tokenizer pattern starts with \"(*\"");
    }
    r->literal = literal;
    r->source = lr_strndup(pattern.p, pattern.n);
    if (!r->source) return LR_NOMEM(err, "a pattern");
    pcre2_compile_context *cc = pcre2_compile_context_create(NULL);
    if (!cc) return LR_NOMEM(err, "a pattern");
    pcre2_set_parens_nest_limit(cc, 50);
    int code = 0;
    PCRE2_SIZE at = 0;
    uint32_t options = PCRE2_UTF | PCRE2_USE_OFFSET_LIMIT;
    options |= literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
    r->code = pcre2_compile((PCRE2_SPTR)pattern.p, pattern.n, options, &code, &at, cc);
    pcre2_compile_context_free(cc);
    if (!r->code) {
        PCRE2_UCHAR text[120];
        if (pcre2_get_error_message(code, text, sizeof(text)) < 0) text[0] = 0;
        return lr_fail(err, LARDER_UNSUPPORTED, "tokenizer pattern \"%.*s\" does not compile: %s at byte %zu",
                       LR_STR_ARG(pattern), (char *)text, (size_t)at);
    }
    pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE); /* where there is none the interpreter runs it */
    return LARDER_OK;
}

void tok_step_free(tok_step *step)
{
    pcre2_code_free(step->regex.code);
    lr_free(step->regex.source);
    lr_free(step->text);
    *step = (tok_step){0};
}

uint64_t tok_time_ns(size_t n_text) { return base_time_ns + byte_time_ns * n_text; }

static larder_status prepare(tok_scratch *s)
{
    if (s->context) return LARDER_OK;
    s->match = pcre2_match_data_create(1, NULL);
    s->context = pcre2_match_context_create(NULL);
    s->stack = pcre2_jit_stack_create((size_t)32 << 10, (size_t)4 << 20, NULL);
    if (!s->match || !s->context || !s->stack) return LR_NOMEM(s->err, "matching");
    pcre2_set_match_limit(s->context, MATCH_LIMIT);
    pcre2_set_depth_limit(s->context, 100000);
    pcre2_set_heap_limit(s->context, 65536);
    pcre2_jit_stack_assign(s->context, NULL, s->stack);
    return LARDER_OK;
}

static larder_status on_time(const tok_scratch *s, const tok_regex *r)
{
    if (lr_now_ns() <= s->deadline) return LARDER_OK;
    return lr_fail(s->err, LARDER_LIMIT, "tokenizer pattern \"%.100s\" takes too long on this text", r->source);
}

larder_status tok_match(tok_scratch *s, const tok_regex *r, lr_str text, size_t from, size_t *start, size_t *end)
{
    LR_TRY(prepare(s));
    while (from < text.n) {
        size_t last = text.n - from > WINDOW ? from + WINDOW : text.n;
        pcre2_set_offset_limit(s->context, last);
        int rc = pcre2_match(r->code, (PCRE2_SPTR)text.p, text.n, from, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, s->match,
                             s->context);
        if (rc >= 0) {
            const PCRE2_SIZE *span = pcre2_get_ovector_pointer(s->match);
            *start = span[0];
            *end = span[1];
            if (*start >= from && *end > *start && *end <= text.n)
                return ++s->n_match % MATCHES ? LARDER_OK : on_time(s, r);
            return lr_fail(s->err, LARDER_UNSUPPORTED, "tokenizer pattern \"%.100s\" matches outside its place",
                           r->source);
        }
        if (rc != PCRE2_ERROR_NOMATCH) {
            return lr_fail(s->err, LARDER_LIMIT,
                           "tokenizer pattern \"%.100s\" needs too many steps on this text (%d)", r->source, rc);
        }
        LR_TRY(on_time(s, r));
        from = last;
        while (from < text.n && ((uint8_t)text.p[from] & 0xc0) == 0x80) from++;
    }
    *start = *end = text.n;
    return LARDER_OK;
}

/* ---------------------------------------------------------------- splitting */
typedef struct splitter {
    tok_scratch *s;
    const tok_step *step;
    int next;
    lr_str text;
    bool first;
    size_t begin, end; /* a split being held back because the next piece may join it */
    bool held, held_match, last_match;
} splitter;

static larder_status pass_on(splitter *w, size_t begin, size_t end)
{
    if (begin == end) return LARDER_OK;
    return tok_pretokenize(w->s, w->next, (lr_str){w->text.p + begin, end - begin}, w->first && begin == 0);
}

static larder_status flush(splitter *w)
{
    if (!w->held) return LARDER_OK;
    w->held = false;
    return pass_on(w, w->begin, w->end);
}

static larder_status hold(splitter *w, size_t begin, size_t end, bool match)
{
    LR_TRY(flush(w));
    w->begin = begin;
    w->end = end;
    w->held = true;
    w->held_match = match;
    return LARDER_OK;
}

/* The pieces of the text in order, matches and what lies between them. */
static larder_status piece(splitter *w, size_t begin, size_t end, bool match)
{
    if (begin == end) return LARDER_OK;
    match ^= w->step->invert;
    bool last = w->last_match;
    w->last_match = match;
    switch (w->step->behaviour) {
    case TOK_ISOLATED: return pass_on(w, begin, end);
    case TOK_REMOVED: return match ? LARDER_OK : pass_on(w, begin, end);
    case TOK_CONTIGUOUS:
        if (w->held && w->held_match == match) {
            w->end = end;
            return LARDER_OK;
        }
        return hold(w, begin, end, match);
    case TOK_MERGED_PREVIOUS:
        if (match && !last && w->held) {
            w->end = end;
            return LARDER_OK;
        }
        return hold(w, begin, end, match);
    case TOK_MERGED_NEXT:
        if (!match && w->held && w->held_match) {
            w->end = end;
            w->held_match = false;
            return LARDER_OK;
        }
        return hold(w, begin, end, match);
    }
    return LARDER_OK;
}

static larder_status split(tok_scratch *s, int i, lr_str text, bool first)
{
    const tok_step *step = &s->t->pre[i];
    splitter w = {.s = s, .step = step, .next = i + 1, .text = text, .first = first};
    for (size_t at = 0; at < text.n;) {
        size_t start, end;
        LR_TRY(tok_match(s, &step->regex, text, at, &start, &end));
        LR_TRY(piece(&w, at, start, false));
        LR_TRY(piece(&w, start, end, true));
        at = end;
    }
    return flush(&w);
}

static larder_status mark_spaces(tok_scratch *s, int i, lr_str text, bool first)
{
    const tok_step *step = &s->t->pre[i];
    lr_buf *b = &s->step[i];
    b->n = 0;
    bool marked = text.p[0] == ' ' || (text.n >= step->n_text && memcmp(text.p, step->text, step->n_text) == 0);
    if (!marked && (step->scheme == TOK_ALWAYS || (step->scheme == TOK_FIRST && first))) {
        lr_buf_add(b, step->text, step->n_text);
    }
    for (size_t k = 0; k < text.n; k++) {
        if (text.p[k] == ' ') lr_buf_add(b, step->text, step->n_text);
        else lr_buf_putc(b, text.p[k]);
    }
    if (b->failed) return LR_NOMEM(s->err, "marking spaces");
    return tok_pretokenize(s, i + 1, (lr_str){b->p, b->n}, first);
}

larder_status tok_pretokenize(tok_scratch *s, int i, lr_str text, bool first)
{
    if (text.n == 0) return LARDER_OK;
    if (i == s->t->n_pre) return tok_encode_word(s, text);
    const tok_step *step = &s->t->pre[i];
    lr_buf *b = &s->step[i];
    switch (step->kind) {
    case TOK_SPLIT: return split(s, i, text, first);
    case TOK_METASPACE: return mark_spaces(s, i, text, first);
    case TOK_PREFIX:
        if (text.p[0] == ' ') return tok_pretokenize(s, i + 1, text, first);
        b->n = 0;
        lr_buf_putc(b, ' ');
        lr_buf_add(b, text.p, text.n);
        if (b->failed) return LR_NOMEM(s->err, "a word");
        return tok_pretokenize(s, i + 1, (lr_str){b->p, b->n}, first);
    case TOK_NORM_FORM:
    case TOK_PREPEND:
    case TOK_REPLACE:
    case TOK_STRIP:
    case TOK_LOWERCASE: break;
    }
    return lr_fail(s->err, LARDER_INTERNAL, "not a pre-tokenizer");
}
