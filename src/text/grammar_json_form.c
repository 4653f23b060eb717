/* grammar_json_form.c - JSON's own shapes as rules; the formats and decimal bounds of JSON Schema as expressions.
 *
 * White space is bounded so that no answer is made of it: after a colon at most one space; after a comma or an opening
 * bracket, and before a closing one, at most one space or one line break with up to 32 spaces or 8 tabs.
 * Numbers have at most 16 digits before the point, 16 after it and 2 in the exponent; integers at most 18.
 */
#include "grammar_impl.h"

#include <jansson.h>

static void digits(lr_net *n, uint32_t from, int most, uint32_t to)
{
    for (int i = 0; i < most && !n->st; i++) {
        uint32_t next = lr_net_state(n);
        lr_net_bytes(n, from, '0', '9', next);
        lr_net_skip(n, next, to);
        from = next;
    }
}

static void put_space(lr_net *n, uint32_t start, uint32_t end)
{
    uint32_t line = lr_net_puts(n, start, "\n"), at = line;
    lr_net_skip(n, start, end);
    lr_net_skip(n, lr_net_puts(n, start, " "), end);
    lr_net_skip(n, line, end);
    for (int i = 0; i < 32; i++) lr_net_skip(n, at = lr_net_puts(n, at, " "), end);
    at = line;
    for (int i = 0; i < 8; i++) lr_net_skip(n, at = lr_net_puts(n, at, "\t"), end);
}

static void hex(lr_net *n, uint32_t from, const char *set, uint32_t to)
{
    for (; *set; set++) lr_net_bytes(n, from, (uint8_t)*set, (uint8_t)*set, to);
}

/* One character inside quotes: as it is, or escaped; halves of surrogate pairs only as a pair. */
static void put_char(lr_net *n, uint32_t start, uint32_t end)
{
    static const char all[] = "0123456789abcdefABCDEF";
    lr_net_chars(n, start, 0x20, 0x21, end);
    lr_net_chars(n, start, 0x23, 0x5b, end);
    lr_net_chars(n, start, 0x5d, LR_CHAR_MAX, end);
    uint32_t slash = lr_net_puts(n, start, "\\"), u = lr_net_puts(n, slash, "u");
    hex(n, slash, "\"\\/bfnrt", end);
    uint32_t d = lr_net_state(n), three = lr_net_state(n), two = lr_net_state(n), one = lr_net_state(n);
    hex(n, u, "0123456789abcefABCEF", three);
    hex(n, u, "dD", d);
    hex(n, three, all, two);
    hex(n, d, "01234567", two);
    hex(n, two, all, one);
    hex(n, one, all, end);
    uint32_t high2 = lr_net_state(n), high1 = lr_net_state(n), high = lr_net_state(n);
    hex(n, d, "89abAB", high2);
    hex(n, high2, all, high1);
    hex(n, high1, all, high);
    uint32_t low = lr_net_puts(n, high, "\\u"), low3 = lr_net_state(n);
    hex(n, low, "dD", low3);
    hex(n, low3, "cdefCDEF", two);
}

static void put_string(lr_net *n, lr_json_rules *r, uint32_t start, uint32_t end)
{
    uint32_t in = lr_net_puts(n, start, "\"");
    lr_net_call(n, in, lr_json_rule_get(n, r, LR_JSON_CHAR), in);
    lr_net_bytes(n, in, '"', '"', end);
}

static void put_whole(lr_net *n, uint32_t start, int most, bool minus_zero, uint32_t end)
{
    uint32_t minus = lr_net_puts(n, start, "-"), first = lr_net_state(n);
    if (minus_zero) lr_net_skip(n, start, minus);
    lr_net_bytes(n, minus_zero ? minus : start, '0', '0', end);
    if (!minus_zero) lr_net_bytes(n, start, '1', '9', first);
    lr_net_bytes(n, minus, '1', '9', first);
    lr_net_skip(n, first, end);
    digits(n, first, most - 1, end);
}

static void put_number(lr_net *n, uint32_t start, uint32_t end)
{
    uint32_t whole = lr_net_state(n), fraction = lr_net_state(n);
    put_whole(n, start, 16, true, whole);
    lr_net_skip(n, whole, fraction);
    digits(n, lr_net_puts(n, whole, "."), 16, fraction);
    lr_net_skip(n, fraction, end);
    uint32_t e = lr_net_state(n), sign = lr_net_state(n);
    hex(n, fraction, "eE", e);
    hex(n, e, "+-", sign);
    lr_net_skip(n, e, sign);
    digits(n, sign, 2, end);
}

/* open item? (, item)* close */
static void put_list(lr_net *n, lr_json_rules *r, uint32_t start, uint32_t end, bool object)
{
    uint32_t space = lr_json_rule_get(n, r, LR_JSON_SPACE), value = lr_json_rule_get(n, r, LR_JSON_VALUE);
    uint32_t open = lr_net_puts(n, start, object ? "{" : "["), item = lr_net_state(n), after = lr_net_state(n),
             close = lr_net_state(n);
    lr_net_call(n, open, space, item);
    lr_net_skip(n, item, close); /* none */
    uint32_t at = item;
    if (object) {
        uint32_t colon = lr_net_state(n);
        lr_net_call(n, item, lr_json_rule_get(n, r, LR_JSON_STRING), colon);
        at = lr_net_puts(n, colon, ":");
        lr_net_bytes(n, at, ' ', ' ', open = lr_net_state(n));
        lr_net_skip(n, at, open);
        at = open;
    }
    lr_net_call(n, at, value, after);
    uint32_t more = lr_net_puts(n, after, ","), again = lr_net_state(n);
    lr_net_call(n, more, space, again);
    if (object) {
        uint32_t colon = lr_net_state(n);
        lr_net_call(n, again, lr_json_rule_get(n, r, LR_JSON_STRING), colon);
        uint32_t c = lr_net_puts(n, colon, ":"), v = lr_net_state(n);
        lr_net_bytes(n, c, ' ', ' ', v);
        lr_net_skip(n, c, v);
        again = v;
    }
    lr_net_call(n, again, value, after);
    lr_net_call(n, after, space, close);
    int bracket = object ? '}' : ']';
    lr_net_bytes(n, close, bracket, bracket, end);
}

static void put_value(lr_net *n, lr_json_rules *r, uint32_t start, uint32_t end)
{
    static const lr_json_rule kinds[] = {LR_JSON_STRING, LR_JSON_NUMBER, LR_JSON_OBJECT, LR_JSON_ARRAY};
    static const char *const words[] = {"null", "true", "false"};
    for (size_t i = 0; i < LR_LEN(kinds); i++) lr_net_call(n, start, lr_json_rule_get(n, r, kinds[i]), end);
    for (size_t i = 0; i < LR_LEN(words); i++) lr_net_skip(n, lr_net_puts(n, start, words[i]), end);
}

uint32_t lr_json_rule_get(lr_net *n, lr_json_rules *r, lr_json_rule which)
{
    if (r->id[which] || n->st) return r->id[which];
    uint32_t before = n->rule, id = r->id[which] = lr_net_rule(n);
    if (n->st) return 0;
    lr_net_enter(n, id);
    uint32_t start = n->rules[id].start, end = n->rules[id].end;
    switch (which) {
    case LR_JSON_SPACE: put_space(n, start, end); break;
    case LR_JSON_CHAR: put_char(n, start, end); break;
    case LR_JSON_STRING: put_string(n, r, start, end); break;
    case LR_JSON_INTEGER: put_whole(n, start, 18, false, end); break;
    case LR_JSON_NUMBER: put_number(n, start, end); break;
    case LR_JSON_VALUE: put_value(n, r, start, end); break;
    case LR_JSON_OBJECT: put_list(n, r, start, end, true); break;
    case LR_JSON_ARRAY: put_list(n, r, start, end, false); break;
    case LR_JSON_RULES: break;
    }
    lr_net_enter(n, before);
    return id;
}

uint32_t lr_json_quoted(lr_net *n, uint32_t from, lr_str s)
{
    from = lr_net_puts(n, from, "\"");
    for (size_t i = 0; i < s.n && !n->st; i++) {
        uint8_t c = (uint8_t)s.p[i];
        const char *at = c ? strchr("\"\"\\\\\bb\ff\nn\rr\tt", c) : NULL; /* pairs: a character, its letter */
        char escape[8] = {'\\', 0};
        if (c == '"' || c == '\\') escape[1] = (char)c;
        else if (c < 0x20 && at) escape[1] = at[1];
        else if (c < 0x20) snprintf(escape, sizeof escape, "\\u%04x", c);
        else escape[0] = (char)c;
        from = lr_net_puts(n, from, escape);
    }
    return lr_net_puts(n, from, "\"");
}

void lr_front_json_object(lr_net *n)
{
    lr_json_rules r = {0};
    uint32_t object = lr_json_rule_get(n, &r, LR_JSON_OBJECT);
    if (!n->st) lr_net_call(n, n->rules[0].start, object, n->rules[0].end);
}

void lr_front_choice(lr_net *n, lr_str text)
{
    json_error_t e;
    json_t *list = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, &e), *s;
    size_t i;
    if (!json_is_array(list) || !json_array_size(list)) {
        lr_net_fail(n, LARDER_FORMAT, "choices are a JSON list of strings, one at least");
    } else {
        lr_net_enter(n, 0);
        json_array_foreach(list, i, s)
        {
            if (!json_is_string(s) || !json_string_length(s))
                lr_net_fail(n, LARDER_FORMAT, "choice %zu is not a string, or is empty", i);
            else
                lr_net_skip(n,
                            lr_net_text(n, n->rules[0].start, (lr_str){json_string_value(s), json_string_length(s)}),
                            n->rules[0].end);
        }
    }
    json_decref(list);
}

/* ---------------------------------------------------------------- formats */
#define DATE \
    "(\\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))" \
    "|(\\d\\d(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)"
#define TIME "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,9})?(Z|[+\\-]([01]\\d|2[0-3]):[0-5]\\d)"
#define LABEL "[A-Za-z0-9]([A-Za-z0-9]|-[A-Za-z0-9]){0,30}"
#define HOST LABEL "(\\." LABEL "){0,3}"
#define OCTET "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
#define IPV4 OCTET "(\\." OCTET "){3}"
#define H "[0-9A-Fa-f]{1,4}"
#define IPV6 \
    "((" H ":){7}" H "|(" H ":){1,7}:|(" H ":){1,6}:" H "|(" H ":){1,5}(:" H "){1,2}|(" H ":){1,4}(:" H "){1,3}|(" H \
    ":){1,3}(:" H "){1,4}|(" H ":){1,2}(:" H "){1,5}|" H ":(:" H "){1,6}|:(:" H "){1,7}|::)"
#define ATOM "[A-Za-z0-9!#$%&'*+/=?^_`{|}~\\-]{1,20}"
#define PCHAR "([A-Za-z0-9\\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})"
#define POINTER "(/([^/~]|~[01])*)*"

/* Each accepts only what the format's definition accepts; some of them less (host names of up to four labels, addresses
 * of mail without quoted parts, URIs with an authority). */
const char *lr_format_regex(const char *name)
{
    static const struct {
        const char *name, *regex;
    } all[] = {
        {"date", "^" DATE "$"},
        {"time", "^" TIME "$"},
        {"date-time", "^" DATE "T" TIME "$"},
        {"duration", "^P(\\d{1,6}W|(\\d{1,6}Y(\\d{1,6}M(\\d{1,6}D)?)?|\\d{1,6}M(\\d{1,6}D)?|\\d{1,6}D)"
                     "(T(\\d{1,6}H(\\d{1,6}M(\\d{1,6}S)?)?|\\d{1,6}M(\\d{1,6}S)?|\\d{1,6}S))?"
                     "|T(\\d{1,6}H(\\d{1,6}M(\\d{1,6}S)?)?|\\d{1,6}M(\\d{1,6}S)?|\\d{1,6}S))$"},
        {"uuid", "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"},
        {"ipv4", "^" IPV4 "$"},
        {"ipv6", "^" IPV6 "$"},
        {"hostname", "^" HOST "$"},
        {"email", "^" ATOM "(\\." ATOM "){0,2}@" LABEL "(\\." LABEL "){1,3}$"},
        {"uri", "^[A-Za-z][A-Za-z0-9+.\\-]{0,30}://" HOST "(:[0-9]{1,5})?(/" PCHAR "*)*(\\?(" PCHAR
                "|[/?])*)?(#(" PCHAR "|[/?])*)?$"},
        {"json-pointer", "^" POINTER "$"},
        {"relative-json-pointer", "^(0|[1-9][0-9]{0,8})(#|" POINTER ")$"},
    };
    for (size_t i = 0; i < LR_LEN(all); i++)
        if (!strcmp(all[i].name, name)) return all[i].regex;
    return NULL;
}

/* ---------------------------------------------------------------- decimals */
typedef struct decimal {
    const char *whole, *part;
    int n_whole, n_part;
    bool minus;
} decimal;

static decimal parse(const char *s)
{
    decimal d = {.minus = *s == '-'};
    s += d.minus;
    while (*s == '0' && s[1] >= '0' && s[1] <= '9') s++;
    d.whole = s;
    d.n_whole = (int)strspn(s, "0123456789");
    if (s[d.n_whole] == '.') d.part = s + d.n_whole + 1, d.n_part = (int)strlen(d.part);
    while (d.n_part && d.part[d.n_part - 1] == '0') d.n_part--;
    return d;
}

/* Digits of this length above d's first n; then anything. */
static void above(lr_buf *out, const decimal *d, bool strict)
{
    const bool zero = d->n_whole == 1 && d->whole[0] == '0';
    lr_buf_puts(out, "(");
    if (zero) lr_buf_puts(out, "[1-9]\\d*(\\.\\d+)?");
    else lr_buf_printf(out, "[1-9]\\d{%d}\\d*(\\.\\d+)?", d->n_whole);
    for (int i = 0; !zero && i < d->n_whole; i++)
        if (d->whole[i] < '9')
            lr_buf_printf(out, "|%.*s[%c-9]\\d{%d}(\\.\\d+)?", i, d->whole, d->whole[i] + 1, d->n_whole - i - 1);
    lr_buf_printf(out, "|%.*s", d->n_whole, d->whole);
    if (!d->n_part) {
        lr_buf_puts(out, strict ? "\\.\\d*[1-9]\\d*" : "(\\.\\d+)?");
    } else {
        lr_buf_puts(out, "\\.(");
        for (int i = 0; i < d->n_part; i++)
            if (d->part[i] < '9') lr_buf_printf(out, "%.*s[%c-9]\\d*|", i, d->part, d->part[i] + 1);
        lr_buf_printf(out, "%.*s%s)", d->n_part, d->part, strict ? "\\d*[1-9]\\d*" : "\\d*");
    }
    lr_buf_puts(out, ")");
}

static void below(lr_buf *out, const decimal *d, bool strict)
{
    const bool zero = d->n_whole == 1 && d->whole[0] == '0';
    lr_buf_puts(out, "([^\\s\\S]"); /* nothing, so that every alternative may begin with a bar */
    if (!zero) lr_buf_puts(out, d->n_whole > 1 || d->whole[0] > '0' ? "|0(\\.\\d+)?" : "");
    if (d->n_whole > 1) lr_buf_printf(out, "|[1-9]\\d{0,%d}(\\.\\d+)?", d->n_whole - 2);
    for (int i = 0; !zero && i < d->n_whole; i++) {
        int low = i == 0 ? '1' : '0';
        if (d->whole[i] > low)
            lr_buf_printf(out, "|%.*s[%c-%c]\\d{%d}(\\.\\d+)?", i, d->whole, low, d->whole[i] - 1,
                          d->n_whole - i - 1);
    }
    if (!d->n_part) {
        if (!strict) lr_buf_printf(out, "|%.*s(\\.0+)?", d->n_whole, d->whole);
    } else {
        lr_buf_printf(out, "|%.*s(\\.([^\\s\\S]", d->n_whole, d->whole);
        for (int i = 0; i < d->n_part; i++) {
            if (i) lr_buf_printf(out, "|%.*s", i, d->part);
            if (d->part[i] > '0') lr_buf_printf(out, "|%.*s[0-%c]\\d*", i, d->part, d->part[i] - 1);
        }
        if (!strict) lr_buf_printf(out, "|%.*s0*", d->n_part, d->part);
        lr_buf_puts(out, "))?");
    }
    lr_buf_puts(out, ")");
}

void lr_decimal_bound(lr_buf *out, const char *bound, bool over, bool strict)
{
    decimal d = parse(bound), zero = parse("0");
    bool is_zero = d.n_whole == 1 && d.whole[0] == '0' && !d.n_part;
    if (is_zero) d.minus = false;
    if (over && !d.minus && is_zero && !strict) {
        lr_buf_puts(out, "(");
        above(out, &zero, false);
        lr_buf_puts(out, "|-0(\\.0+)?)");
    } else if (over && !d.minus) {
        above(out, &d, strict);
    } else if (over) { /* all from zero up, and the negatives whose size is at most the bound's */
        lr_buf_puts(out, "(");
        above(out, &zero, false);
        lr_buf_puts(out, "|-");
        below(out, &d, strict);
        lr_buf_puts(out, ")");
    } else if (d.minus) {
        lr_buf_puts(out, "-");
        above(out, &d, strict);
    } else if (is_zero && strict) {
        lr_buf_puts(out, "-");
        above(out, &zero, true);
    } else {
        lr_buf_puts(out, "(-");
        above(out, &zero, false);
        lr_buf_puts(out, "|");
        below(out, &d, strict);
        lr_buf_puts(out, ")");
    }
}
