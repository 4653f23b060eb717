/* grammar_regex.c - regular expressions of ECMA-262 (the syntax of JSON Schema's `pattern`), parsed. */
#include "grammar_impl.h"

#include <utf8proc.h>

typedef struct parser {
    lr_str s;
    size_t at;
    lr_arena *a;
    int depth;
    larder_status st;
    larder_error *err;
    lr_syntax *root;
} parser;

static lr_syntax *fail(parser *p, larder_status st, const char *what)
{
    if (!p->st) p->st = lr_fail(p->err, st, "the expression \"%.*s\", at %zu: %s", LR_STR_ARG(p->s), p->at, what);
    return NULL;
}

static lr_syntax *node(parser *p, lr_syntax_kind kind)
{
    lr_syntax *s = lr_arena_alloc(p->a, sizeof *s);
    if (!s && !p->st) p->st = LR_NOMEM(p->err, "an expression");
    if (s) s->kind = kind;
    return s;
}

/* The tree is bounded in depth by the parser, in breadth not: children are a list. */
void lr_syntax_close(lr_syntax *s)
{
    for (; s; s = s->next) {
        lr_chars_free(&s->chars);
        lr_syntax_close(s->child);
    }
}

static int peek(const parser *p) { return p->at < p->s.n ? (uint8_t)p->s.p[p->at] : -1; }
static bool take(parser *p, const char *what)
{
    size_t n = strlen(what);
    if (p->s.n - p->at < n || memcmp(p->s.p + p->at, what, n)) return false;
    p->at += n;
    return true;
}

static int32_t take_char(parser *p)
{
    int32_t c = lr_utf8_next(p->s, &p->at);
    if (c < 0) fail(p, LARDER_FORMAT, p->at >= p->s.n ? "it ends too soon" : "it is not UTF-8");
    return c;
}

/* ---------------------------------------------------------------- escapes */
static int32_t take_hex(parser *p, int n)
{
    int32_t v = 0;
    for (int i = 0; i < n; i++, p->at++) {
        int c = peek(p), d = c >= '0' && c <= '9'                 ? c - '0'
                             : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                                  : -1;
        if (d < 0) return fail(p, LARDER_FORMAT, "a hexadecimal digit is missing"), -1;
        v = v * 16 + d;
    }
    return v;
}

static int32_t take_unicode(parser *p)
{
    if (!take(p, "{")) {
        int32_t c = take_hex(p, 4);
        if (c < 0xd800 || c >= 0xdc00 || !take(p, "\\u")) return c;
        int32_t low = take_hex(p, 4);
        return low >= 0xdc00 && low < 0xe000 ? 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00) : low;
    }
    int32_t v = 0;
    do {
        int32_t d = take_hex(p, 1);
        if (d < 0) return -1;
        v = v * 16 + d;
        if (v > LR_CHAR_MAX) return fail(p, LARDER_FORMAT, "there is no such character"), -1;
    } while (!take(p, "}"));
    return v;
}

static void add_class(lr_chars *c, int letter)
{
    static const uint32_t digit[][2] = {{'0', '9'}};
    static const uint32_t word[][2] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
    static const uint32_t space[][2] = {{9, 13},          {' ', ' '},       {0xa0, 0xa0},     {0x1680, 0x1680},
                                        {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f},
                                        {0x3000, 0x3000}, {0xfeff, 0xfeff}};
    lr_chars set = {0};
    const uint32_t(*list)[2] = (letter | 32) == 'd' ? digit : (letter | 32) == 'w' ? word : space;
    size_t n = (letter | 32) == 'd' ? LR_LEN(digit) : (letter | 32) == 'w' ? LR_LEN(word) : LR_LEN(space);
    for (size_t i = 0; i < n; i++) lr_chars_add(&set, list[i][0], list[i][1]);
    if (letter < 'a') lr_chars_invert(&set);
    lr_chars_add_all(c, &set);
    lr_chars_free(&set);
}

/* \p{...}: general categories. */
static bool add_property(parser *p, lr_chars *c, bool invert)
{
    static const struct {
        const char *name, *code;
    } names[] = {{"Letter", "L"},
                 {"Lowercase_Letter", "Ll"},
                 {"Uppercase_Letter", "Lu"},
                 {"Titlecase_Letter", "Lt"},
                 {"Modifier_Letter", "Lm"},
                 {"Other_Letter", "Lo"},
                 {"Mark", "M"},
                 {"Number", "N"},
                 {"Decimal_Number", "Nd"},
                 {"digit", "Nd"},
                 {"Letter_Number", "Nl"},
                 {"Other_Number", "No"},
                 {"Punctuation", "P"},
                 {"punct", "P"},
                 {"Symbol", "S"},
                 {"Separator", "Z"},
                 {"Space_Separator", "Zs"},
                 {"Other", "C"},
                 {"Control", "Cc"}};
    if (!take(p, "{")) return fail(p, LARDER_FORMAT, "\\p wants a name in braces"), false;
    size_t begin = p->at;
    while (peek(p) >= 0 && peek(p) != '}') p->at++;
    lr_str name = {p->s.p + begin, p->at - begin};
    if (!take(p, "}")) return fail(p, LARDER_FORMAT, "\\p{ is not closed"), false;
    for (const char *key = "gc=\0General_Category=\0"; *key; key += strlen(key) + 1)
        if (name.n > strlen(key) && !memcmp(name.p, key, strlen(key)))
            name = (lr_str){name.p + strlen(key), name.n - strlen(key)};
    for (size_t i = 0; i < LR_LEN(names); i++)
        if (lr_str_is(name, names[i].name)) name = lr_str_of(names[i].code);
    bool known = name.n >= 1 && name.n <= 2 && strchr("LMNPSZC", name.p[0]) && name.p[0];
    lr_chars set = {0};
    for (uint32_t x = 0, from = 0; known && x <= LR_CHAR_MAX + 1; x++) {
        const char *g = x <= LR_CHAR_MAX ? utf8proc_category_string((int32_t)x) : "";
        bool in = *g && g[0] == name.p[0] && (name.n == 1 || g[1] == name.p[1]);
        if (in) continue;
        if (x > from) lr_chars_add(&set, from, x - 1);
        from = x + 1;
    }
    if (set.failed && !p->st) p->st = LR_NOMEM(p->err, "an expression");
    if (!set.n)
        return lr_chars_free(&set), fail(p, LARDER_UNSUPPORTED, "\\p of this property is not supported"), false;
    if (invert) lr_chars_invert(&set);
    lr_chars_add_all(c, &set);
    lr_chars_free(&set);
    return true;
}

/* After a backslash. A single character is returned; a class is added to *set and -2 returned; -1 on failure. */
static int32_t take_escape(parser *p, lr_chars *set, bool in_class)
{
    int c = peek(p);
    if (c < 0) return fail(p, LARDER_FORMAT, "it ends in a backslash"), -1;
    if (c >= 0x80) return take_char(p);
    p->at++;
    switch (c) {
    case 'd':
    case 'D':
    case 'w':
    case 'W':
    case 's':
    case 'S': return add_class(set, c), -2;
    case 'p':
    case 'P': return add_property(p, set, c == 'P') ? -2 : -1;
    case 't': return '\t';
    case 'n': return '\n';
    case 'r': return '\r';
    case 'f': return '\f';
    case 'v': return '\v';
    case 'x': return take_hex(p, 2);
    case 'u': return take_unicode(p);
    case 'c':
        c = peek(p);
        if ((c | 32) < 'a' || (c | 32) > 'z') return fail(p, LARDER_FORMAT, "\\c wants a letter"), -1;
        p->at++;
        return c & 31;
    case '0':
        if (peek(p) >= '0' && peek(p) <= '9') return fail(p, LARDER_FORMAT, "an octal escape"), -1;
        return 0;
    case 'b':
        if (in_class) return 8;
        /* fall through */
    case 'B': return fail(p, LARDER_UNSUPPORTED, "word boundaries (\\b, \\B) are not supported"), -1;
    case 'k': return fail(p, LARDER_UNSUPPORTED, "back references are not supported"), -1;
    default: break;
    }
    if (c >= '1' && c <= '9') return fail(p, LARDER_UNSUPPORTED, "back references are not supported"), -1;
    if ((c | 32) >= 'a' && (c | 32) <= 'z') return fail(p, LARDER_FORMAT, "there is no such escape"), -1;
    return c;
}

/* ---------------------------------------------------------------- [...] */
static lr_syntax *take_class(parser *p)
{
    lr_syntax *s = node(p, LR_SYN_CHARS);
    if (!s) return NULL;
    lr_chars set = {0};
    bool invert = take(p, "^");
    while (!take(p, "]")) {
        int32_t lo = take(p, "\\") ? take_escape(p, &set, true) : take_char(p);
        if (p->st) break;
        bool range = peek(p) == '-' && p->at + 1 < p->s.n && p->s.p[p->at + 1] != ']';
        if (!range) {
            if (lo >= 0) lr_chars_add(&set, (uint32_t)lo, (uint32_t)lo);
            continue;
        }
        p->at++;
        int32_t hi = take(p, "\\") ? take_escape(p, &set, true) : take_char(p);
        if (p->st) break;
        if (lo < 0 || hi < 0) fail(p, LARDER_FORMAT, "a range ends in a class");
        else if (lo > hi) fail(p, LARDER_FORMAT, "a range is upside down");
        else lr_chars_add(&set, (uint32_t)lo, (uint32_t)hi);
        if (p->st) break;
    }
    lr_chars_sort(&set);
    if (invert) lr_chars_invert(&set);
    s->chars = set;
    if (set.failed && !p->st) p->st = LR_NOMEM(p->err, "an expression");
    if (p->st) lr_chars_free(&s->chars);
    return p->st ? NULL : s;
}

/* ---------------------------------------------------------------- atoms, repetitions, alternatives */
static lr_syntax *take_alternatives(parser *p);

static lr_syntax *take_group(parser *p)
{
    if (take(p, "?")) {
        if (take(p, "=") || take(p, "!") || take(p, "<=") || take(p, "<!"))
            return fail(p, LARDER_UNSUPPORTED, "looking ahead or behind is not supported");
        if (take(p, "<")) {
            while (peek(p) >= 0 && peek(p) != '>') p->at++;
            if (!take(p, ">")) return fail(p, LARDER_FORMAT, "a group's name is not closed");
        } else if (!take(p, ":")) {
            return fail(p, LARDER_UNSUPPORTED, "this kind of group is not supported");
        }
    }
    if (++p->depth > LR_SYNTAX_DEPTH) return fail(p, LARDER_LIMIT, "groups are nested too deeply");
    lr_syntax *s = take_alternatives(p);
    p->depth--;
    if (p->st) return lr_syntax_close(s), NULL;
    if (!take(p, ")")) return lr_syntax_close(s), fail(p, LARDER_FORMAT, "a group is not closed");
    return s;
}

static lr_syntax *one_char(parser *p, int32_t c)
{
    lr_syntax *s = p->st ? NULL : node(p, LR_SYN_CHARS);
    if (s) lr_chars_add(&s->chars, (uint32_t)c, (uint32_t)c);
    return s;
}

static lr_syntax *take_atom(parser *p)
{
    if (take(p, "(")) return take_group(p);
    if (take(p, "[")) return take_class(p);
    if (take(p, "^")) return node(p, LR_SYN_BEGIN);
    if (take(p, "$")) return node(p, LR_SYN_END);
    if (take(p, ".")) {
        lr_syntax *s = node(p, LR_SYN_CHARS);
        if (!s) return NULL;
        lr_chars_add(&s->chars, '\n', '\n');
        lr_chars_add(&s->chars, '\r', '\r');
        lr_chars_add(&s->chars, 0x2028, 0x2029);
        lr_chars_invert(&s->chars);
        return s;
    }
    if (take(p, "\\")) {
        lr_chars set = {0};
        int32_t c = take_escape(p, &set, false);
        if (c >= 0) return lr_chars_free(&set), one_char(p, c);
        lr_syntax *s = p->st ? NULL : node(p, LR_SYN_CHARS);
        if (s) s->chars = set;
        else lr_chars_free(&set);
        return s;
    }
    int c = peek(p);
    if (c == '*' || c == '+' || c == '?') return fail(p, LARDER_FORMAT, "there is nothing to repeat");
    if (c == '{' || c == '}' || c == ']') return fail(p, LARDER_FORMAT, "a bracket or brace stands alone; escape it");
    return one_char(p, take_char(p));
}

static bool take_count(parser *p, uint32_t *min, uint32_t *max)
{
    *max = UINT32_MAX;
    if (take(p, "*")) return *min = 0, true;
    if (take(p, "+")) return *min = 1, true;
    if (take(p, "?")) return *min = 0, *max = 1, true;
    if (!take(p, "{")) return false;
    bool has = lr_take_number(p->s, &p->at, min), comma = take(p, ","), good = has;
    if (!comma) *max = *min;
    else if (peek(p) != '}') good = good && lr_take_number(p->s, &p->at, max);
    if (!good || !take(p, "}")) return fail(p, LARDER_FORMAT, "a repetition is written {n}, {n,} or {n,m}"), false;
    if (*min > *max) return fail(p, LARDER_FORMAT, "a repetition is upside down"), false;
    if (*min > LR_REPEAT_MAX || (*max > LR_REPEAT_MAX && *max != UINT32_MAX))
        return fail(p, LARDER_LIMIT, "a repetition counts past 100000"), false;
    return true;
}

static lr_syntax *take_sequence(parser *p)
{
    lr_syntax *cat = node(p, LR_SYN_CAT), **link = cat ? &cat->child : NULL;
    while (!p->st && peek(p) >= 0 && peek(p) != '|' && peek(p) != ')') {
        lr_syntax *s = take_atom(p);
        uint32_t min, max;
        if (!p->st && take_count(p, &min, &max)) {
            take(p, "?"); /* lazy: the same language */
            lr_syntax *r = node(p, LR_SYN_REPEAT);
            if (r) *r = (lr_syntax){.kind = LR_SYN_REPEAT, .child = s, .min = min, .max = max}, s = r;
        }
        if (s) *link = s, link = &s->next;
    }
    return cat;
}

static lr_syntax *take_alternatives(parser *p)
{
    lr_syntax *first = take_sequence(p);
    if (p->st || peek(p) != '|') return first;
    lr_syntax *alt = node(p, LR_SYN_ALT);
    if (!alt) return first;
    alt->child = first;
    lr_syntax **link = &first->next;
    while (!p->st && take(p, "|")) {
        lr_syntax *s = take_sequence(p);
        if (s) *link = s, link = &s->next;
    }
    return alt;
}

larder_status lr_regex_parse(lr_str text, lr_arena *a, lr_syntax **out, larder_error *err)
{
    parser p = {.s = text, .a = a, .err = err};
    *out = take_alternatives(&p);
    if (!p.st && p.at < text.n) fail(&p, LARDER_FORMAT, "a group is closed that was not opened");
    if (p.st) {
        lr_syntax_close(*out);
        *out = NULL;
    }
    return p.st;
}

void lr_front_regex(lr_net *n, lr_str text)
{
    lr_dfa d;
    larder_error err = {0};
    larder_status st = lr_dfa_from_regex(n, text, true, &d, &err);
    if (st) {
        lr_net_fail(n, st, "%s", err.message);
        return;
    }
    lr_net_enter(n, 0);
    lr_dfa_emit(n, &d, n->rules[0].start, n->rules[0].end, false);
    lr_dfa_free(&d);
}
