/* jinja_lex.c - template source to tokens.
 *
 * Owns: delimiters, whitespace control (trim_blocks and lstrip_blocks on, as chat templates are rendered), comments,
 * raw blocks, literals. Refuses to own: grammar (jinja_parse.c).
 */
#include "jinja.h"

#include <errno.h>
#include <stdlib.h>
#include <utf8proc.h>

typedef struct lexer {
    jparse *p;
    const char *s; /* newlines normalised, without the last one */
    size_t n, at;
    int line;
    bool line_start; /* the last thing read ended in a newline */
} lexer;

static void push(lexer *l, jtok tok)
{
    jparse *p = l->p;
    if (p->n_tok == p->cap_tok) {
        size_t cap = p->cap_tok ? p->cap_tok * 2 : 256;
        jtok *grown = lr_jp_alloc(p, cap, sizeof *grown);
        if (p->n_tok) memcpy(grown, p->tok, p->n_tok * sizeof *grown);
        p->tok = grown;
        p->cap_tok = cap;
    }
    p->tok[p->n_tok++] = tok;
}

static void push_text(lexer *l, jtok_kind kind, const char *s, size_t n)
{
    push(l, (jtok){.kind = kind, .line = l->line, .text = {s, n}});
}

static bool looking_at(const lexer *l, size_t at, const char *what)
{
    size_t n = strlen(what);
    return at <= l->n && l->n - at >= n && memcmp(l->s + at, what, n) == 0;
}

static size_t space_len(const lexer *l, size_t at)
{
    if (at >= l->n || !lr_cp_space(lr_cp_at(l->s + at, l->n - at))) return 0;
    return LR_MIN(lr_cp_len((uint8_t)l->s[at]), l->n - at);
}

static void advance(lexer *l, size_t to)
{
    for (; l->at < to; l->at++) l->line += l->s[l->at] == '\n';
}

static void skip_space(lexer *l)
{
    size_t n;
    while ((n = space_len(l, l->at)) > 0) advance(l, l->at + n);
}

/* Where trailing whitespace of s[from, to) begins. */
static size_t rstrip(const lexer *l, size_t from, size_t to)
{
    while (to > from) {
        size_t k = to - 1;
        while (k > from && ((uint8_t)l->s[k] & 0xC0) == 0x80) k--;
        if (!lr_cp_space(lr_cp_at(l->s + k, to - k))) break;
        to = k;
    }
    return to;
}

/* lstrip_blocks: whitespace alone between the start of a line and a block is dropped. */
static size_t lstrip_block(const lexer *l, size_t from, size_t to)
{
    size_t bol = to;
    while (bol > from && l->s[bol - 1] != '\n') bol--;
    if (bol == from && !l->line_start) return to;
    return rstrip(l, bol, to) == bol ? bol : to;
}

/* Text before a tag that opens at `tag`; `sign` is the character after its two. */
static void push_data(lexer *l, size_t from, size_t tag, char sign, bool variable)
{
    size_t to = tag;
    if (sign == '-') to = rstrip(l, from, tag);
    else if (sign != '+' && !variable) to = lstrip_block(l, from, tag);
    if (to > from) push_text(l, T_DATA, l->s + from, to - from);
}

/* After `%}` or `#}` at l->at: takes the tag's end and the whitespace it swallows. width: bytes of sign and end. */
static void end_block(lexer *l, char sign, size_t width)
{
    advance(l, l->at + width);
    if (sign == '-') skip_space(l);
    else if (sign != '+' && l->at < l->n && l->s[l->at] == '\n') advance(l, l->at + 1);
    l->line_start = l->s[l->at - 1] == '\n';
}

static void lex_comment(lexer *l)
{
    size_t at = l->at + 2;
    while (at < l->n && !looking_at(l, at, "#}")) at++;
    if (at >= l->n) lr_jp_fail(l->p, l->line, LARDER_FORMAT, "comment without an end");
    char sign = at > l->at + 2 ? l->s[at - 1] : 0;
    advance(l, at);
    end_block(l, sign, 2);
}

/* If a block named `name` opens at `at`: the offset after its name, else 0. */
static size_t block_named(const lexer *l, size_t at, const char *name)
{
    if (!looking_at(l, at, "{%")) return 0;
    at += 2;
    if (at < l->n && (l->s[at] == '-' || l->s[at] == '+')) at++;
    for (size_t n; (n = space_len(l, at)) > 0;) at += n;
    if (!looking_at(l, at, name)) return 0;
    at += strlen(name);
    for (size_t n; (n = space_len(l, at)) > 0;) at += n;
    return at;
}

static bool lex_raw(lexer *l)
{
    size_t at = block_named(l, l->at, "raw");
    if (!at) return false;
    if (looking_at(l, at, "-%}")) {
        advance(l, at + 3);
        skip_space(l);
    } else if (looking_at(l, at, "%}")) {
        advance(l, at + 2);
    } else {
        return false;
    }
    l->line_start = l->s[l->at - 1] == '\n';
    size_t from = l->at;
    for (size_t tag = from; tag < l->n; tag++) {
        size_t end = block_named(l, tag, "endraw");
        if (!end) continue;
        char sign = l->s[end] == '-' || l->s[end] == '+' ? l->s[end] : 0;
        if (!looking_at(l, end + (sign != 0), "%}")) continue;
        push_data(l, from, tag, l->s[tag + 2], false);
        advance(l, end);
        end_block(l, sign, sign ? 3 : 2);
        return true;
    }
    lr_jp_fail(l->p, l->line, LARDER_FORMAT, "raw block without endraw");
}

/* ---------------------------------------------------------------- literals */
static size_t put_cp(char *out, uint32_t cp)
{
    if (cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000)) cp = 0xFFFD;
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)cp, (utf8proc_uint8_t *)out);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One escape after the backslash at s[*i - 1]; writes to out, returns bytes written. No escape grows. */
static size_t unescape(lexer *l, const char *s, size_t n, size_t *i, char *out)
{
    static const char from[] = "ntr\\'\"abfv", to[] = "\n\t\r\\'\"\a\b\f\v";
    char c = s[(*i)++];
    const char *known = strchr(from, c);
    if (known && c) {
        *out = to[known - from];
        return 1;
    }
    if (c == '\n') return 0;
    if (c >= '0' && c <= '7') {
        uint32_t cp = (uint32_t)(c - '0');
        for (int k = 0; k < 2 && *i < n && s[*i] >= '0' && s[*i] <= '7'; k++)
            cp = cp * 8 + (uint32_t)(s[(*i)++] - '0');
        return put_cp(out, cp);
    }
    int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits) {
        uint32_t cp = 0;
        for (int k = 0; k < digits; k++) {
            int d = *i < n ? hex_digit(s[*i]) : -1;
            if (d < 0) lr_jp_fail(l->p, l->line, LARDER_FORMAT, "bad \\%c escape in a string", c);
            cp = cp << 4 | (uint32_t)d;
            (*i)++;
        }
        return put_cp(out, cp);
    }
    out[0] = '\\';
    out[1] = c;
    return 2;
}

static void lex_string(lexer *l)
{
    char quote = l->s[l->at];
    size_t end = l->at + 1;
    while (end < l->n && l->s[end] != quote) end += l->s[end] == '\\' ? 2 : 1;
    if (end >= l->n) lr_jp_fail(l->p, l->line, LARDER_FORMAT, "string without an end");
    const char *s = l->s + l->at + 1;
    size_t n = end - l->at - 1, n_out = 0;
    char *out = lr_jp_alloc(l->p, n + 1, 1);
    for (size_t i = 0; i < n;) {
        if (s[i] == '\\') {
            i++;
            n_out += unescape(l, s, n, &i, out + n_out);
        } else {
            out[n_out++] = s[i++];
        }
    }
    push_text(l, T_STRING, out, n_out);
    advance(l, end + 1);
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_name_start(uint8_t c) { return c == '_' || (uint32_t)(c | 32) - 'a' < 26u || c >= 0x80; }

static size_t digits_end(const lexer *l, size_t at)
{
    while (at < l->n && (is_digit(l->s[at]) || (l->s[at] == '_' && at + 1 < l->n && is_digit(l->s[at + 1])))) at++;
    return at;
}

static int64_t parse_int(lexer *l, size_t from, size_t to, int base)
{
    uint64_t v = 0;
    for (size_t i = from; i < to; i++) {
        if (l->s[i] == '_') continue;
        int d = hex_digit(l->s[i]);
        if (d < 0 || d >= base) lr_jp_fail(l->p, l->line, LARDER_FORMAT, "bad number");
        if (v > ((uint64_t)INT64_MAX - (uint64_t)d) / (uint64_t)base)
            lr_jp_fail(l->p, l->line, LARDER_FORMAT, "integer beyond 64 bits");
        v = v * (uint64_t)base + (uint64_t)d;
    }
    return (int64_t)v;
}

static bool lex_based_int(lexer *l)
{
    if (l->s[l->at] != '0' || l->at + 2 >= l->n) return false;
    char c = (char)(l->s[l->at + 1] | 32);
    int base = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
    if (!base) return false;
    size_t from = l->at + 2, to = from;
    while (to < l->n && (hex_digit(l->s[to]) >= 0 || l->s[to] == '_')) to++;
    push(l, (jtok){.kind = T_INT, .line = l->line, .i = parse_int(l, from, to, base)});
    advance(l, to);
    return true;
}

static void lex_number(lexer *l)
{
    if (lex_based_int(l)) return;
    size_t int_end = digits_end(l, l->at), end = int_end;
    bool after_dot = l->at > 0 && l->s[l->at - 1] == '.'; /* x.0.1: integers */
    bool real = false;
    if (!after_dot) {
        if (end + 1 < l->n && l->s[end] == '.' && is_digit(l->s[end + 1])) {
            end = digits_end(l, end + 1);
            real = true;
        }
        if (end < l->n && (l->s[end] | 32) == 'e') {
            size_t e = end + 1;
            if (e < l->n && (l->s[e] == '+' || l->s[e] == '-')) e++;
            if (e < l->n && is_digit(l->s[e])) {
                end = digits_end(l, e);
                real = true;
            }
        }
    }
    if (!real) {
        push(l, (jtok){.kind = T_INT, .line = l->line, .i = parse_int(l, l->at, int_end, 10)});
    } else {
        char text[64];
        size_t n = 0;
        for (size_t i = l->at; i < end; i++) {
            if (l->s[i] == '_') continue;
            if (n + 1 >= sizeof text) lr_jp_fail(l->p, l->line, LARDER_FORMAT, "number too long");
            text[n++] = l->s[i];
        }
        text[n] = 0;
        push(l, (jtok){.kind = T_FLOAT, .line = l->line, .f = strtod(text, NULL)});
    }
    advance(l, end);
}

static void lex_operator(lexer *l)
{
    static const char *const two[] = {"//", "**", "==", "!=", "<=", ">="};
    size_t n = 1;
    for (size_t i = 0; i < LR_LEN(two); i++)
        if (looking_at(l, l->at, two[i])) n = 2;
    if (n == 1 && !memchr("+-*/%~[](){}<>=.,:|;", l->s[l->at], 20))
        lr_jp_fail(l->p, l->line, LARDER_FORMAT, "unexpected character '%.*s'",
                   (int)LR_MIN(lr_cp_len((uint8_t)l->s[l->at]), l->n - l->at), l->s + l->at);
    push_text(l, T_OP, l->s + l->at, n);
    advance(l, l->at + n);
}

/* Is this the end of the tag? Takes it if so. */
static bool lex_tag_end(lexer *l, bool variable)
{
    char sign = l->s[l->at] == '-' || (!variable && l->s[l->at] == '+') ? l->s[l->at] : 0;
    if (!looking_at(l, l->at + (sign != 0), variable ? "}}" : "%}")) return false;
    push_text(l, variable ? T_VAR_END : T_BLOCK_END, "", 0);
    if (variable) {
        advance(l, l->at + (sign ? 3 : 2));
        if (sign) skip_space(l);
        l->line_start = l->s[l->at - 1] == '\n';
    } else {
        end_block(l, sign, sign ? 3 : 2);
    }
    return true;
}

/* The inside of {{ }} or {% %}. Braces that are open keep `}}` from ending it. */
static void lex_tag(lexer *l, bool variable)
{
    int open = 0;
    for (;;) {
        skip_space(l);
        if (l->at >= l->n) lr_jp_fail(l->p, l->line, LARDER_FORMAT, "the template ends inside a tag");
        if (open == 0 && lex_tag_end(l, variable)) return;
        char c = l->s[l->at];
        if (c == '"' || c == '\'') {
            lex_string(l);
        } else if (is_digit(c)) {
            lex_number(l);
        } else if (is_name_start((uint8_t)c)) {
            size_t to = l->at + 1;
            while (to < l->n && (is_name_start((uint8_t)l->s[to]) || is_digit(l->s[to]))) to++;
            push_text(l, T_NAME, l->s + l->at, to - l->at);
            advance(l, to);
        } else {
            open += (c == '(' || c == '[' || c == '{') - (c == ')' || c == ']' || c == '}');
            if (open < 0) lr_jp_fail(l->p, l->line, LARDER_FORMAT, "unexpected '%c'", c);
            lex_operator(l);
        }
    }
}

/* Newlines become \n; one at the very end is dropped. */
static void normalise(lexer *l, lr_str source)
{
    char *s = lr_jp_alloc(l->p, source.n + 1, 1);
    for (size_t i = 0; i < source.n; i++) {
        if (source.p[i] == '\r') {
            s[l->n++] = '\n';
            if (i + 1 < source.n && source.p[i + 1] == '\n') i++;
        } else {
            s[l->n++] = source.p[i];
        }
    }
    if (l->n && s[l->n - 1] == '\n') l->n--;
    l->s = s;
}

static void check_utf8(jparse *p, lr_str s)
{
    for (size_t i = 0; i < s.n;) {
        utf8proc_int32_t cp;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)s.p + i, (utf8proc_ssize_t)(s.n - i), &cp);
        if (n <= 0) lr_jp_fail(p, 0, LARDER_FORMAT, "not UTF-8 at byte %zu", i);
        i += (size_t)n;
    }
}

void lr_jinja_lex(jparse *p, lr_str source)
{
    check_utf8(p, source);
    lexer l = {.p = p, .line = 1, .line_start = true};
    normalise(&l, source);
    while (l.at < l.n) {
        size_t tag = l.at;
        while (tag < l.n && !(l.s[tag] == '{' && tag + 1 < l.n && strchr("{%#", l.s[tag + 1]) && l.s[tag + 1])) tag++;
        if (tag >= l.n) {
            push_text(&l, T_DATA, l.s + l.at, l.n - l.at);
            break;
        }
        char kind = l.s[tag + 1], sign = tag + 2 < l.n ? l.s[tag + 2] : 0;
        push_data(&l, l.at, tag, sign, kind == '{');
        advance(&l, tag);
        if (kind == '#') {
            lex_comment(&l);
        } else if (kind == '{') {
            push_text(&l, T_VAR_BEGIN, "", 0);
            advance(&l, l.at + (sign == '-' || sign == '+' ? 3 : 2));
            lex_tag(&l, true);
        } else if (!lex_raw(&l)) {
            push_text(&l, T_BLOCK_BEGIN, "", 0);
            advance(&l, l.at + (sign == '-' || sign == '+' ? 3 : 2));
            lex_tag(&l, false);
        }
    }
    push_text(&l, T_EOF, "", 0);
}
