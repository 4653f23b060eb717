/* grammar_gbnf.c - grammars as llama.cpp documents them: rules, literals, character classes, repetitions. */
#include "grammar_impl.h"

typedef struct name {
    lr_str text;
    uint32_t rule;
    bool defined;
    struct name *next; /* of the same bucket */
} name;
enum { BUCKETS = 1024 };
typedef struct parser {
    lr_net *n;
    lr_str s;
    size_t at;
    lr_arena a;
    int depth;
    name *names[BUCKETS];
} parser;

static int line_of(const parser *p)
{
    int line = 1;
    for (size_t i = 0; i < p->at && i < p->s.n; i++) line += p->s.p[i] == '\n';
    return line;
}

static lr_syntax *fail(parser *p, larder_status st, const char *what)
{
    lr_net_fail(p->n, st, "the grammar, line %d: %s", line_of(p), what);
    return NULL;
}

static int peek(const parser *p) { return p->at < p->s.n ? (uint8_t)p->s.p[p->at] : -1; }
static bool take(parser *p, int c) { return peek(p) == c ? p->at++, true : false; }

static void skip_space(parser *p, bool lines)
{
    for (int c; (c = peek(p)) >= 0;) {
        if (c == '#')
            while (peek(p) >= 0 && peek(p) != '\n' && peek(p) != '\r') p->at++;
        else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))) p->at++;
        else return;
    }
}

static bool is_word(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static lr_str take_name(parser *p)
{
    size_t begin = p->at;
    while (is_word(peek(p))) p->at++;
    if (p->at == begin) fail(p, LARDER_FORMAT, "a name is missing");
    return (lr_str){p->s.p + begin, p->at - begin};
}

static name *find_name(parser *p, lr_str text)
{
    name **link = &p->names[lr_hash(text.p, text.n) % BUCKETS];
    for (; *link; link = &(*link)->next)
        if (lr_str_eq((*link)->text, text)) return *link;
    *link = lr_arena_alloc(&p->a, sizeof **link);
    if (!*link) return fail(p, LARDER_NOMEM, "out of memory"), NULL;
    **link = (name){.text = text, .rule = lr_str_is(text, "root") ? 0 : lr_net_rule(p->n)};
    return *link;
}

static lr_syntax *node(parser *p, lr_syntax_kind kind)
{
    lr_syntax *s = p->n->st ? NULL : lr_arena_alloc(&p->a, sizeof *s);
    if (!s) return fail(p, LARDER_NOMEM, "out of memory");
    s->kind = kind;
    return s;
}

/* ---------------------------------------------------------------- literals and classes */
static int32_t take_hex(parser *p, int n)
{
    uint32_t v = 0;
    for (int i = 0; i < n; i++, p->at++) {
        int c = peek(p), d = c >= '0' && c <= '9'                 ? c - '0'
                             : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                                  : -1;
        if (d < 0) return fail(p, LARDER_FORMAT, "a hexadecimal digit is missing"), -1;
        v = v * 16 + (uint32_t)d;
    }
    if (v > LR_CHAR_MAX) return fail(p, LARDER_FORMAT, "there is no such character"), -1;
    return (int32_t)v;
}

static int32_t take_char(parser *p)
{
    if (!take(p, '\\')) {
        int32_t c = lr_utf8_next(p->s, &p->at);
        if (c < 0) fail(p, LARDER_FORMAT, p->at >= p->s.n ? "it ends too soon" : "it is not UTF-8");
        return c;
    }
    int c = peek(p);
    p->at += c >= 0;
    switch (c) {
    case 'x': return take_hex(p, 2);
    case 'u': return take_hex(p, 4);
    case 'U': return take_hex(p, 8);
    case 't': return '\t';
    case 'r': return '\r';
    case 'n': return '\n';
    case '\\':
    case '"':
    case '[':
    case ']':
    case '-':
    case '^':
    case '/': return c;
    default: return fail(p, LARDER_FORMAT, "there is no such escape"), -1;
    }
}

static lr_syntax *take_literal(parser *p)
{
    lr_syntax *cat = node(p, LR_SYN_CAT);
    if (!cat) return NULL;
    lr_syntax **link = &cat->child;
    while (!p->n->st && !take(p, '"')) {
        int32_t c = take_char(p);
        lr_syntax *s = c < 0 ? NULL : node(p, LR_SYN_CHARS);
        if (!s) break;
        lr_chars_add(&s->chars, (uint32_t)c, (uint32_t)c);
        *link = s;
        link = &s->next;
    }
    return cat;
}

static lr_syntax *take_class(parser *p)
{
    lr_syntax *s = node(p, LR_SYN_CHARS);
    if (!s) return NULL;
    bool invert = take(p, '^');
    while (!p->n->st && !take(p, ']')) {
        int32_t lo = take_char(p), hi = lo;
        if (lo >= 0 && peek(p) == '-' && p->at + 1 < p->s.n && p->s.p[p->at + 1] != ']') {
            p->at++;
            hi = take_char(p);
        }
        if (lo < 0 || hi < 0) break;
        if (lo > hi) fail(p, LARDER_FORMAT, "a range is upside down");
        else lr_chars_add(&s->chars, (uint32_t)lo, (uint32_t)hi);
    }
    lr_chars_sort(&s->chars);
    if (invert) lr_chars_invert(&s->chars);
    return s;
}

/* ---------------------------------------------------------------- sequences */
static lr_syntax *take_alternatives(parser *p, bool nested);

static lr_syntax *take_symbol(parser *p, bool nested)
{
    int c = peek(p);
    if (take(p, '"')) return take_literal(p);
    if (take(p, '[')) return take_class(p);
    if (take(p, '.')) {
        lr_syntax *s = node(p, LR_SYN_CHARS);
        if (s) lr_chars_add(&s->chars, 0, LR_CHAR_MAX);
        return s;
    }
    if (take(p, '(')) {
        skip_space(p, true);
        if (++p->depth > LR_SYNTAX_DEPTH) return fail(p, LARDER_LIMIT, "parentheses are nested too deeply");
        lr_syntax *s = take_alternatives(p, true);
        p->depth--;
        if (!p->n->st && !take(p, ')')) fail(p, LARDER_FORMAT, "a parenthesis is not closed");
        return s;
    }
    (void)nested;
    if (c == '<' || c == '!') return fail(p, LARDER_UNSUPPORTED, "tokens (<...>) are not supported in grammars");
    if (!is_word(c)) return fail(p, LARDER_FORMAT, "a symbol is missing");
    name *of = find_name(p, take_name(p));
    lr_syntax *s = of ? node(p, LR_SYN_RULE) : NULL;
    if (s) s->rule = of->rule;
    return s;
}

static bool take_count(parser *p, uint32_t *min, uint32_t *max)
{
    *max = UINT32_MAX;
    if (take(p, '*')) return *min = 0, true;
    if (take(p, '+')) return *min = 1, true;
    if (take(p, '?')) return *min = 0, *max = 1, true;
    if (!take(p, '{')) return false;
    skip_space(p, true);
    bool low = lr_take_number(p->s, &p->at, min);
    skip_space(p, true);
    bool comma = take(p, ','), high = false;
    skip_space(p, true);
    if (comma) high = lr_take_number(p->s, &p->at, max);
    else *max = *min;
    skip_space(p, true);
    if (!(low || high) || !take(p, '}'))
        return fail(p, LARDER_FORMAT, "a repetition is written {n}, {n,}, {,m} or {n,m}"), false;
    if (!low) *min = 0;
    if (comma && !high) *max = UINT32_MAX;
    if (*min > *max) return fail(p, LARDER_FORMAT, "a repetition is upside down"), false;
    if (*min > LR_REPEAT_MAX || (*max > LR_REPEAT_MAX && *max != UINT32_MAX))
        return fail(p, LARDER_LIMIT, "a repetition counts past 100000"), false;
    return true;
}

static lr_syntax *take_sequence(parser *p, bool nested)
{
    lr_syntax *cat = node(p, LR_SYN_CAT);
    if (!cat) return NULL;
    lr_syntax **link = &cat->child;
    for (;;) {
        skip_space(p, nested);
        int c = peek(p);
        if (p->n->st || c < 0 || c == '|' || c == ')' || c == '\n' || c == '\r') return cat;
        lr_syntax *s = take_symbol(p, nested);
        if (!s) return cat;
        *link = s;
        for (;;) {
            uint32_t min, max;
            skip_space(p, nested);
            if (p->n->st || !take_count(p, &min, &max)) break;
            lr_syntax *inner = *link, *r = node(p, LR_SYN_REPEAT);
            if (!r) return cat;
            if (++p->depth > LR_SYNTAX_DEPTH)
                return fail(p, LARDER_LIMIT, "too many repetitions of repetitions"), cat;
            *r = (lr_syntax){.kind = LR_SYN_REPEAT, .child = inner, .min = min, .max = max};
            *link = r;
        }
        for (lr_syntax *r = *link; r->kind == LR_SYN_REPEAT && r != s; r = r->child) p->depth--;
        link = &(*link)->next;
    }
}

static lr_syntax *take_alternatives(parser *p, bool nested)
{
    lr_syntax *alt = node(p, LR_SYN_ALT);
    if (!alt) return NULL;
    lr_syntax **link = &alt->child;
    do {
        skip_space(p, true);
        lr_syntax *s = take_sequence(p, nested);
        if (!s) return alt;
        *link = s;
        link = &s->next;
    } while (!p->n->st && take(p, '|'));
    return alt;
}

/* ---------------------------------------------------------------- to the net */
static uint32_t put(lr_net *n, const lr_syntax *s, uint32_t from);

/* A body that is written more than once becomes a rule, so that nested counts add up instead of multiplying. */
static uint32_t put_repeat(lr_net *n, const lr_syntax *s, uint32_t from)
{
    bool loop = s->max == UINT32_MAX;
    uint32_t copies = loop ? s->min + 1 : s->max, rule = 0;
    const lr_syntax *body = s->child;
    if (copies > 1 && body->kind != LR_SYN_CHARS && body->kind != LR_SYN_RULE) {
        uint32_t before = n->rule;
        rule = lr_net_rule(n);
        if (n->st) return 0;
        lr_net_enter(n, rule);
        uint32_t end = put(n, body, n->rules[rule].start);
        if (n->st) return 0;
        lr_net_skip(n, end, n->rules[rule].end);
        lr_net_enter(n, before);
    }
    uint32_t out = lr_net_state(n);
    for (uint32_t i = 0; i < copies && !n->st; i++) {
        if (i >= s->min) lr_net_skip(n, from, out);
        if (loop && i == s->min) { /* a state of its own, so that the loop does not reach what came before */
            uint32_t own = lr_net_state(n);
            lr_net_skip(n, from, own);
            from = own;
        }
        uint32_t to;
        if (rule) lr_net_call(n, from, rule, to = lr_net_state(n));
        else to = put(n, body, from);
        if (loop && i == s->min) lr_net_skip(n, to, from);
        else from = to;
    }
    lr_net_skip(n, from, out);
    return out;
}

static uint32_t put(lr_net *n, const lr_syntax *s, uint32_t from)
{
    uint32_t to;
    if (n->st) return 0;
    switch (s->kind) {
    case LR_SYN_EMPTY: return from;
    case LR_SYN_CHARS:
        if (s->chars.failed) lr_net_fail(n, LARDER_NOMEM, "out of memory for a grammar");
        to = lr_net_state(n);
        for (uint32_t i = 0; i < s->chars.n; i++) lr_net_chars(n, from, s->chars.p[i].lo, s->chars.p[i].hi, to);
        return to;
    case LR_SYN_RULE: lr_net_call(n, from, s->rule, to = lr_net_state(n)); return to;
    case LR_SYN_CAT:
        for (const lr_syntax *c = s->child; c; c = c->next) from = put(n, c, from);
        return from;
    case LR_SYN_ALT:
        to = lr_net_state(n);
        for (const lr_syntax *c = s->child; c && !n->st; c = c->next) {
            uint32_t begin = lr_net_state(n);
            lr_net_skip(n, from, begin);
            lr_net_skip(n, put(n, c, begin), to);
        }
        return to;
    case LR_SYN_REPEAT: return put_repeat(n, s, from);
    case LR_SYN_BEGIN:
    case LR_SYN_END: break;
    }
    lr_net_fail(n, LARDER_INTERNAL, "an anchor in a grammar");
    return 0;
}

static void take_rule(parser *p)
{
    lr_str text = take_name(p);
    name *of = p->n->st ? NULL : find_name(p, text);
    if (!of) return;
    skip_space(p, false);
    if (p->s.n - p->at < 3 || memcmp(p->s.p + p->at, "::=", 3)) {
        fail(p, LARDER_FORMAT, "::= is missing after a name");
        return;
    }
    p->at += 3;
    if (of->defined) {
        lr_net_fail(p->n, LARDER_FORMAT, "the grammar, line %d: rule \"%.*s\" is defined twice", line_of(p),
                    LR_STR_ARG(text));
        return;
    }
    of->defined = true;
    lr_syntax *s = take_alternatives(p, false);
    skip_space(p, false);
    if (!p->n->st && peek(p) >= 0 && peek(p) != '\n' && peek(p) != '\r')
        fail(p, LARDER_FORMAT, "a rule ends in something that is no symbol");
    if (!p->n->st && s) {
        lr_net_enter(p->n, of->rule);
        uint32_t end = put(p->n, s, p->n->rules[of->rule].start);
        if (!p->n->st) lr_net_skip(p->n, end, p->n->rules[of->rule].end);
    }
    lr_syntax_close(s);
}

void lr_front_gbnf(lr_net *n, lr_str text)
{
    parser *p = lr_calloc(1, sizeof *p);
    if (!p) {
        lr_net_fail(n, LARDER_NOMEM, "out of memory for a grammar");
        return;
    }
    p->n = n;
    p->s = text;
    bool root = false;
    for (skip_space(p, true); !n->st && peek(p) >= 0; skip_space(p, true)) take_rule(p);
    for (int i = 0; i < BUCKETS && !n->st; i++)
        for (const name *of = p->names[i]; of; of = of->next) {
            root |= lr_str_is(of->text, "root");
            if (!of->defined)
                lr_net_fail(n, LARDER_FORMAT, "the grammar: rule \"%.*s\" is used but not defined",
                            LR_STR_ARG(of->text));
        }
    if (!n->st && !root) lr_net_fail(n, LARDER_FORMAT, "the grammar has no rule \"root\"");
    lr_arena_free(&p->a);
    lr_free(p);
}
