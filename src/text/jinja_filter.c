/* jinja_filter.c - Jinja's filters over any value. Those over sequences are in jinja_seq.c, tests in jinja_test.c.
 *
 * A filter that Jinja has and that no chat template has been seen to use is an error that names it.
 */
#include "jinja.h"
#include "jinja_filter.h"

#include <math.h>
#include <stdlib.h>

bool lr_jarg(const jargs *a, size_t i, const char *name, jv *out)
{
    if (i < a->n) {
        *out = a->p[i];
        return true;
    }
    for (size_t k = 0; name && k < a->n_kw; k++)
        if (lr_str_is(a->kw[k].name, name)) {
            *out = a->kw[k].val;
            return true;
        }
    return false;
}

jv lr_jarg_or(const jargs *a, size_t i, const char *name, jv other)
{
    jv v;
    return lr_jarg(a, i, name, &v) ? v : other;
}

bool lr_jarg_flag(jx *x, const jargs *a, size_t i, const char *name)
{
    return lr_jv_true(x, lr_jarg_or(a, i, name, jv_bool(false)));
}

static jstr *text_of(jx *x, jv v) { return lr_jv_tostr(x, v).u.s; }

static jstr *text_arg(jx *x, const jargs *a, size_t i, const char *name, const char *filter)
{
    jv v;
    if (!lr_jarg(a, i, name, &v)) lr_jx_fail(x, LARDER_FORMAT, "filter '%s' needs '%s'", filter, name);
    return text_of(x, v);
}

static bool is_ascii_alnum(uint32_t c) { return (c | 32) - 'a' < 26u || c - '0' < 10u; }

/* ---------------------------------------------------------------- text */
static jv f_upper(jx *x, jv v, const jargs *a)
{
    (void)a;
    return lr_js_case(x, text_of(x, v), 'u');
}
static jv f_lower(jx *x, jv v, const jargs *a)
{
    (void)a;
    return lr_js_case(x, text_of(x, v), 'l');
}
static jv f_capitalize(jx *x, jv v, const jargs *a)
{
    (void)a;
    return lr_js_case(x, text_of(x, v), 'c');
}
static jv f_title(jx *x, jv v, const jargs *a)
{
    (void)a;
    return lr_js_case(x, text_of(x, v), 't');
}
static jv f_string(jx *x, jv v, const jargs *a)
{
    (void)a;
    return lr_jv_tostr(x, v);
}

static jv f_trim(jx *x, jv v, const jargs *a)
{
    jv chars = lr_jarg_or(a, 0, "chars", jv_none());
    return lr_js_strip(x, text_of(x, v), chars.k == V_NONE ? NULL : text_of(x, chars), true, true);
}

static jv f_replace(jx *x, jv v, const jargs *a)
{
    jv count = lr_jarg_or(a, 2, "count", jv_none());
    return lr_js_replace(x, text_of(x, v), text_arg(x, a, 0, "old", "replace"), text_arg(x, a, 1, "new", "replace"),
                         count.k == V_NONE ? -1 : lr_jv_index(x, count, "count"));
}

static jv f_indent(jx *x, jv v, const jargs *a)
{
    jv width = lr_jarg_or(a, 0, "width", jv_int(4));
    bool first = lr_jarg_flag(x, a, 1, "first"), blank = lr_jarg_flag(x, a, 2, "blank");
    jstr *pad = width.k == V_STR ? width.u.s : lr_jv_arith(x, OP_MUL, lr_jv_str(x, " ", 1, false), width).u.s;
    jbuf *with_nl = lr_jbuf_new(x), *b = lr_jbuf_new(x);
    lr_jbuf_str(x, with_nl, text_of(x, v));
    lr_jbuf_add(x, with_nl, "\n", 1, false); /* so that a last empty line is one */
    jseq *lines = lr_js_split_lines(x, lr_jbuf_value(x, with_nl).u.s, false).u.q;
    for (size_t i = 0; i < lines->n; i++) {
        jstr *line = lines->p[i].u.s;
        if (i) lr_jbuf_add(x, b, "\n", 1, false);
        if (i ? blank || line->n : first) lr_jbuf_str(x, b, pad);
        lr_jbuf_str(x, b, line);
    }
    return lr_jbuf_value(x, b);
}

jv lr_js_escape(jx *x, const jstr *s)
{
    static const char *const from = "&<>'\"", *const to[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    jbuf *b = lr_jbuf_new(x);
    for (size_t i = 0; i < s->n; i++) {
        const char *hit = s->p[i] ? strchr(from, s->p[i]) : NULL;
        if (hit) lr_jbuf_add(x, b, to[hit - from], strlen(to[hit - from]), lr_js_trusted(s, i));
        else lr_jbuf_sub(x, b, s, i, 1);
    }
    jv out = lr_jbuf_value(x, b);
    out.u.s->safe = true;
    return out;
}

static jv f_escape(jx *x, jv v, const jargs *a)
{
    (void)a;
    return v.k == V_STR && v.u.s->safe ? v : lr_js_escape(x, text_of(x, v));
}

static jv f_forceescape(jx *x, jv v, const jargs *a)
{
    (void)a;
    return lr_js_escape(x, text_of(x, v));
}

static jv f_urlencode(jx *x, jv v, const jargs *a)
{
    (void)a;
    if (v.k == V_DICT || v.k == V_SEQ) lr_jx_fail(x, LARDER_UNSUPPORTED, "urlencode takes a string here");
    jstr *s = text_of(x, v);
    jbuf *b = lr_jbuf_new(x);
    for (size_t i = 0; i < s->n; i++) {
        uint8_t c = (uint8_t)s->p[i];
        if (c < 0x80 && (is_ascii_alnum(c) || (c && strchr("_.-~/", c)))) {
            lr_jbuf_sub(x, b, s, i, 1);
        } else {
            char t[4];
            snprintf(t, sizeof t, "%%%02X", c);
            lr_jbuf_add(x, b, t, 3, false);
        }
    }
    return lr_jbuf_value(x, b);
}

static jv f_wordcount(jx *x, jv v, const jargs *a)
{
    (void)a;
    jstr *s = text_of(x, v);
    int64_t n = 0;
    bool in_word = false;
    lr_jx_charge(x, s->n);
    for (size_t i = 0; i < s->n; i += lr_cp_len((uint8_t)s->p[i])) {
        uint32_t cp = lr_cp_at(s->p + i, s->n - i);
        bool word = cp >= 0x80 ? !lr_cp_space(cp) : cp == '_' || is_ascii_alnum(cp);
        n += word && !in_word;
        in_word = word;
    }
    return jv_int(n);
}

static jv f_truncate(jx *x, jv v, const jargs *a)
{
    jstr *s = text_of(x, v);
    int64_t length = lr_jv_index(x, lr_jarg_or(a, 0, "length", jv_int(255)), "length");
    bool kill = lr_jarg_flag(x, a, 1, "killwords");
    jv end = lr_jarg_or(a, 2, "end", lr_jv_cstr(x, "...")), leeway = lr_jarg_or(a, 3, "leeway", jv_none());
    int64_t slack = leeway.k == V_NONE ? 5 : lr_jv_index(x, leeway, "leeway");
    jstr *tail = text_of(x, end);
    int64_t n_tail = (int64_t)lr_js_count(x, tail);
    if (length < n_tail || slack < 0) lr_jx_fail(x, LARDER_FORMAT, "truncate: length or leeway too small");
    if ((int64_t)lr_js_count(x, s) - slack <= length) return (jv){.k = V_STR, .u.s = s};
    size_t n = lr_js_offset(x, s, (size_t)(length - n_tail));
    if (!kill) {
        size_t k = n;
        while (k > 0 && s->p[k - 1] != ' ') k--;
        if (k > 0) n = k - 1;
    }
    jbuf *b = lr_jbuf_new(x);
    lr_jbuf_sub(x, b, s, 0, n);
    lr_jbuf_str(x, b, tail);
    return lr_jbuf_value(x, b);
}

static jv f_format(jx *x, jv v, const jargs *a)
{
    jstr *fmt = text_of(x, v);
    if (a->n_kw) {
        jdict *d = lr_jd_new(x, 0);
        for (size_t i = 0; i < a->n_kw; i++)
            lr_jd_set(x, d, lr_jv_str(x, a->kw[i].name.p, a->kw[i].name.n, true), a->kw[i].val);
        return lr_jv_percent(x, fmt, jv_dict(d));
    }
    jseq *q = lr_jq_new(x, Q_TUPLE, a->n);
    for (size_t i = 0; i < a->n; i++) lr_jq_push(x, q, a->p[i]);
    return lr_jv_percent(x, fmt, jv_seq(q));
}

static jv f_center(jx *x, jv v, const jargs *a)
{
    jv method, width = lr_jarg_or(a, 0, "width", jv_int(80));
    lr_jv_method(x, lr_jv_tostr(x, v), LR_STR("center"), &method);
    return lr_jmethod_call(x, method.u.method, &(jargs){.p = &width, .n = 1});
}

/* ---------------------------------------------------------------- numbers */
/* Python's int(str): spaces around, sign, digits with single _ between. 0: not a number, 1: ok, -1: too big. */
static int parse_int(const jstr *s, int base, int64_t *out)
{
    size_t i = 0, n = s->n;
    while (i < n && lr_cp_space((uint8_t)s->p[i])) i++;
    while (n > i && lr_cp_space((uint8_t)s->p[n - 1])) n--;
    bool neg = i < n && s->p[i] == '-';
    if (i < n && (s->p[i] == '-' || s->p[i] == '+')) i++;
    if (base == 16 && n - i > 2 && s->p[i] == '0' && (s->p[i + 1] | 32) == 'x') i += 2;
    if (base == 8 && n - i > 2 && s->p[i] == '0' && (s->p[i + 1] | 32) == 'o') i += 2;
    if (base == 2 && n - i > 2 && s->p[i] == '0' && (s->p[i + 1] | 32) == 'b') i += 2;
    if (i >= n) return 0;
    int64_t v = 0;
    bool big = false, digit = false;
    for (; i < n; i++) {
        char c = s->p[i];
        if (c == '_' && digit && i + 1 < n) {
            digit = false;
            continue;
        }
        int d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'z' ? (c | 32) - 'a' + 10 : 99;
        if (d >= base) return 0;
        digit = true;
        big |= __builtin_mul_overflow(v, base, &v) ||
               __builtin_sub_overflow(v, d, &v); /* negative: holds INT64_MIN */
    }
    if (!digit) return 0;
    if (big || (!neg && v == INT64_MIN)) return -1;
    *out = neg ? v : -v;
    return 1;
}

static bool parse_float(const jstr *s, double *out)
{
    char text[400];
    size_t i = 0, n = s->n, k = 0;
    while (i < n && lr_cp_space((uint8_t)s->p[i])) i++;
    while (n > i && lr_cp_space((uint8_t)s->p[n - 1])) n--;
    if (i >= n || n - i >= sizeof text) return false;
    for (; i < n; i++) {
        if (s->p[i] == 'x' || s->p[i] == 'X' || s->p[i] == '(' || s->p[i] == 0) return false; /* strtod takes more */
        if (s->p[i] != '_') text[k++] = s->p[i];
    }
    text[k] = 0;
    char *end;
    *out = strtod(text, &end);
    return end == text + k;
}

static jv f_int(jx *x, jv v, const jargs *a)
{
    jv other = lr_jarg_or(a, 0, "default", jv_int(0));
    int64_t base = lr_jv_index(x, lr_jarg_or(a, 1, "base", jv_int(10)), "base"), i;
    double f = NAN;
    if (base < 2 || base > 36) lr_jx_fail(x, LARDER_FORMAT, "int: base must be 2 to 36");
    switch (v.k) {
    case V_INT: return v;
    case V_BOOL: return jv_int(v.u.b);
    case V_FLOAT: f = v.u.f; break;
    case V_STR: {
        int got = parse_int(v.u.s, (int)base, &i);
        if (got < 0) lr_jx_fail(x, LARDER_FORMAT, "integer beyond 64 bits");
        if (got) return jv_int(i);
        if (!parse_float(v.u.s, &f)) return other;
        break;
    }
    case V_UNDEF: lr_jx_fail(x, LARDER_FORMAT, "%s is undefined", v.u.hint ? v.u.hint : "a value");
    default: return other;
    }
    if (isnan(f) || isinf(f)) return other;
    if (fabs(f) >= 9223372036854775808.0) lr_jx_fail(x, LARDER_FORMAT, "integer beyond 64 bits");
    return jv_int((int64_t)f);
}

static jv f_float(jx *x, jv v, const jargs *a)
{
    double f;
    if (lr_jv_number(v)) return jv_float(lr_jv_double(v));
    if (v.k == V_UNDEF) lr_jx_fail(x, LARDER_FORMAT, "%s is undefined", v.u.hint ? v.u.hint : "a value");
    if (v.k == V_STR && parse_float(v.u.s, &f)) return jv_float(f);
    return lr_jarg_or(a, 0, "default", jv_float(0));
}

static jv f_abs(jx *x, jv v, const jargs *a)
{
    (void)a;
    if (v.k == V_FLOAT) return jv_float(fabs(v.u.f));
    int64_t i = lr_jv_index(x, v, "abs");
    return i < 0 ? lr_jv_arith(x, OP_SUB, jv_int(0), jv_int(i)) : jv_int(i);
}

static jv f_round(jx *x, jv v, const jargs *a)
{
    int64_t precision = lr_jv_index(x, lr_jarg_or(a, 0, "precision", jv_int(0)), "precision");
    jstr *method = text_of(x, lr_jarg_or(a, 1, "method", lr_jv_cstr(x, "common")));
    if (!lr_jv_number(v)) lr_jx_fail(x, LARDER_FORMAT, "round needs a number, not %s", lr_jv_type(v));
    double f = lr_jv_double(v);
    if (precision < -300 || precision > 300) lr_jx_fail(x, LARDER_FORMAT, "round: precision out of range");
    if (lr_js_is(method, "ceil") || lr_js_is(method, "floor")) {
        double scale = pow(10, (double)precision);
        return jv_float((lr_js_is(method, "ceil") ? ceil(f * scale) : floor(f * scale)) / scale);
    }
    if (!lr_js_is(method, "common")) lr_jx_fail(x, LARDER_FORMAT, "round: method must be common, ceil or floor");
    if (v.k != V_FLOAT && precision >= 0) return jv_int(lr_jv_index(x, v, "round"));
    if (isnan(f) || isinf(f) || precision > 22) return v;
    if (precision < 0) {
        double scale = pow(10, (double)-precision), r = nearbyint(f / scale) * scale;
        return v.k == V_FLOAT ? jv_float(r) : jv_int((int64_t)r);
    }
    char text[400]; /* as Python: the decimal digits, correctly rounded */
    snprintf(text, sizeof text, "%.*f", (int)precision, f);
    return jv_float(strtod(text, NULL));
}

/* ---------------------------------------------------------------- any value */
static jv f_default(jx *x, jv v, const jargs *a)
{
    bool boolean = lr_jarg_flag(x, a, 1, "boolean");
    if (v.k == V_UNDEF || (boolean && !lr_jv_true(x, v)))
        return lr_jarg_or(a, 0, "default_value", lr_jv_str(x, "", 0, true));
    return v;
}

static jv f_safe(jx *x, jv v, const jargs *a)
{
    (void)a;
    jstr *s = text_of(x, v);
    jv out = lr_jv_sub(x, s, 0, s->n);
    out.u.s->safe = true;
    return out;
}

static jv f_length(jx *x, jv v, const jargs *a)
{
    (void)a;
    int64_t n;
    if (!lr_jv_length(x, v, &n)) lr_jx_fail(x, LARDER_FORMAT, "object of type '%s' has no len()", lr_jv_type(v));
    return jv_int(n);
}

static jv f_tojson(jx *x, jv v, const jargs *a)
{
    jv indent = lr_jarg_or(a, 1, "indent", jv_none()), seps = lr_jarg_or(a, 2, "separators", jv_none());
    const jstr *item = NULL, *key = NULL;
    if (seps.k != V_NONE) {
        if (seps.k != V_SEQ || seps.u.q->n != 2 || seps.u.q->p[0].k != V_STR || seps.u.q->p[1].k != V_STR)
            lr_jx_fail(x, LARDER_FORMAT, "tojson: separators must be two strings");
        item = seps.u.q->p[0].u.s;
        key = seps.u.q->p[1].u.s;
    }
    if (indent.k != V_NONE && indent.k != V_STR) lr_jv_index(x, indent, "tojson: indent");
    return lr_jv_tojson(x, v, lr_jarg_flag(x, a, 0, "ensure_ascii"), lr_jarg_flag(x, a, 3, "sort_keys"),
                        indent.k == V_NONE ? NULL : &indent, item, key);
}

static jv f_from_json(jx *x, jv v, const jargs *a)
{
    (void)a;
    return lr_jv_parse_json(x, v);
}

static jv f_attr(jx *x, jv v, const jargs *a)
{
    jstr *name = text_arg(x, a, 0, "name", "attr");
    jv out;
    if (lr_jv_method(x, v, (lr_str){name->p, name->n}, &out)) return out;
    return v.k == V_NS || v.k == V_LOOP ? lr_jv_attr(x, v, (lr_str){name->p, name->n}) : jv_undef(NULL);
}

static const jfilter filters[] = {
    {"upper", f_upper},
    {"lower", f_lower},
    {"capitalize", f_capitalize},
    {"title", f_title},
    {"string", f_string},
    {"trim", f_trim},
    {"strip", f_trim},
    {"replace", f_replace},
    {"indent", f_indent},
    {"escape", f_escape},
    {"e", f_escape},
    {"forceescape", f_forceescape},
    {"urlencode", f_urlencode},
    {"wordcount", f_wordcount},
    {"truncate", f_truncate},
    {"format", f_format},
    {"center", f_center},
    {"int", f_int},
    {"float", f_float},
    {"abs", f_abs},
    {"round", f_round},
    {"default", f_default},
    {"d", f_default},
    {"safe", f_safe},
    {"length", f_length},
    {"count", f_length},
    {"tojson", f_tojson},
    {"from_json", f_from_json},
    {"attr", f_attr},
};

jv lr_jfilter_call(jx *x, lr_str name, jv v, const jargs *a)
{
    lr_jx_step(x);
    for (size_t i = 0; i < LR_LEN(filters); i++)
        if (lr_str_is(name, filters[i].name)) return filters[i].fn(x, v, a);
    for (size_t i = 0; i < lr_jseq_n_filters; i++)
        if (lr_str_is(name, lr_jseq_filters[i].name)) return lr_jseq_filters[i].fn(x, v, a);
    lr_jx_fail(x, LARDER_UNSUPPORTED, "no filter named '%.*s'", LR_STR_ARG(name));
}
