/* jinja_print.c - values as text: Python's str() and repr(), % formatting, str.format, strftime.
 *
 * Origin: characters that come out of a string keep theirs; whatever is computed (numbers, quotes, padding) is data,
 * unless the format string wrote it.
 */
#include "jinja.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>
#include <utf8proc.h>

static void puts_data(jx *x, jbuf *b, const char *s) { lr_jbuf_add(x, b, s, strlen(s), false); }

/* The shortest digits that read back as f, laid out as Python lays them out. */
void lr_float_repr(double f, char out[40])
{
    if (isnan(f) || isinf(f)) {
        snprintf(out, 40, "%s", isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
        return;
    }
    char sci[40];
    int digits = 1;
    for (; digits <= 17; digits++) {
        snprintf(sci, sizeof sci, "%.*e", digits - 1, f);
        if (strtod(sci, NULL) == f) break;
    }
    const char *e = strchr(sci, 'e');
    int exp = e ? atoi(e + 1) : 0;
    if (exp < -4 || exp >= 16) {
        snprintf(out, 40, "%.*se%c%02d", (int)(e - sci), sci, exp < 0 ? '-' : '+', abs(exp));
    } else {
        snprintf(out, 40, "%.*f", LR_MAX(digits - 1 - exp, 1), f);
    }
}

static bool printable(uint32_t cp)
{
    if (cp < 0x7F) return cp >= 0x20;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return false;
    default: return true;
    }
}

static void repr_string(jx *x, jbuf *b, const jstr *s)
{
    char quote = s->n && memchr(s->p, '\'', s->n) && !memchr(s->p, '"', s->n) ? '"' : '\'';
    lr_jbuf_add(x, b, &quote, 1, false);
    for (size_t i = 0; i < s->n;) {
        size_t n = LR_MIN(lr_cp_len((uint8_t)s->p[i]), s->n - i);
        uint32_t cp = lr_cp_at(s->p + i, n);
        char esc[16] = "";
        if (cp == (uint32_t)quote || cp == '\\') snprintf(esc, sizeof esc, "\\%c", (char)cp);
        else if (cp == '\n') snprintf(esc, sizeof esc, "\\n");
        else if (cp == '\r') snprintf(esc, sizeof esc, "\\r");
        else if (cp == '\t') snprintf(esc, sizeof esc, "\\t");
        else if (!printable(cp))
            snprintf(esc, sizeof esc, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
        if (*esc) puts_data(x, b, esc);
        else lr_jbuf_sub(x, b, s, i, n);
        i += n;
    }
    lr_jbuf_add(x, b, &quote, 1, false);
}

static void repr_seq(jx *x, jbuf *b, const jseq *q)
{
    static const char *const open[] = {"[", "(", "", "[", "dict_items(["}, *const close[] = {"]", ")", "", "]", "])"};
    if (q->flavor == Q_GEN) lr_jx_fail(x, LARDER_FORMAT, "a generator cannot be printed; use |list");
    puts_data(x, b, open[q->flavor]);
    for (size_t i = 0; i < q->n; i++) {
        if (i) puts_data(x, b, ", ");
        lr_jv_repr(x, b, q->p[i]);
    }
    if (q->flavor == Q_TUPLE && q->n == 1) puts_data(x, b, ",");
    puts_data(x, b, close[q->flavor]);
}

static void repr_dict(jx *x, jbuf *b, const jdict *d)
{
    puts_data(x, b, "{");
    for (size_t i = 0; i < d->n; i++) {
        if (i) puts_data(x, b, ", ");
        lr_jv_repr(x, b, d->key[i]);
        puts_data(x, b, ": ");
        lr_jv_repr(x, b, d->val[i]);
    }
    puts_data(x, b, "}");
}

void lr_jv_repr(jx *x, jbuf *b, jv v)
{
    char text[40];
    lr_jx_step(x);
    lr_jx_enter(x);
    switch (v.k) {
    case V_UNDEF: puts_data(x, b, "Undefined"); break;
    case V_NONE: puts_data(x, b, "None"); break;
    case V_BOOL: puts_data(x, b, v.u.b ? "True" : "False"); break;
    case V_INT:
        snprintf(text, sizeof text, "%lld", (long long)v.u.i);
        puts_data(x, b, text);
        break;
    case V_FLOAT:
        lr_float_repr(v.u.f, text);
        puts_data(x, b, text);
        break;
    case V_STR: repr_string(x, b, v.u.s); break;
    case V_SEQ: repr_seq(x, b, v.u.q); break;
    case V_DICT: repr_dict(x, b, v.u.d); break;
    case V_NS:
        puts_data(x, b, "<Namespace ");
        repr_dict(x, b, v.u.d);
        puts_data(x, b, ">");
        break;
    default: lr_jx_fail(x, LARDER_FORMAT, "a %s cannot be printed", lr_jv_type(v));
    }
    lr_jx_leave(x);
}

void lr_jv_print(jx *x, jbuf *b, jv v)
{
    if (v.k == V_STR) lr_jbuf_str(x, b, v.u.s);
    else if (v.k != V_UNDEF) lr_jv_repr(x, b, v);
}

jv lr_jv_tostr(jx *x, jv v)
{
    if (v.k == V_STR) return v;
    jbuf *b = lr_jbuf_new(x);
    lr_jv_print(x, b, v);
    return lr_jbuf_value(x, b);
}

/* ---------------------------------------------------------------- format specifications */
typedef struct spec {
    char fill[5];
    char align; /* < > ^ =; 0: the type's own */
    char sign;
    bool alt, zero, comma;
    int width, precision; /* precision -1: none */
    char type;
} spec;

static void pad(jx *x, jbuf *b, const spec *s, size_t n)
{
    for (; n; n--) lr_jbuf_add(x, b, s->fill, strlen(s->fill), false);
}

static void put_aligned(jx *x, jbuf *b, const spec *s, jstr *text, char align)
{
    size_t n = lr_js_count(x, text), room = s->width > 0 && (size_t)s->width > n ? (size_t)s->width - n : 0;
    size_t left = align == '>' || align == '=' ? room : align == '^' ? room / 2 : 0;
    size_t sign = align == '=' && text->n && (text->p[0] == '-' || text->p[0] == '+' || text->p[0] == ' ') ? 1 : 0;
    lr_jbuf_sub(x, b, text, 0, sign);
    pad(x, b, s, left);
    lr_jbuf_sub(x, b, text, sign, text->n - sign);
    pad(x, b, s, room - left);
}

/* "1234567.5" -> "1,234,567.5" */
static void add_commas(char *text, size_t cap)
{
    char out[400];
    size_t n = 0, digits = strspn(text + (*text == '-'), "0123456789");
    const char *p = text;
    if (*p == '-') out[n++] = *p++;
    for (size_t i = 0; i < digits && n + 2 < sizeof out; i++) {
        if (i && (digits - i) % 3 == 0) out[n++] = ',';
        out[n++] = *p++;
    }
    out[n] = 0;
    snprintf(out + n, sizeof out - n, "%s", p);
    snprintf(text, cap, "%s", out);
}

static void format_number(jx *x, jbuf *b, spec *s, jv v)
{
    char text[400], fmt[16];
    char type = s->type;
    bool real = v.k == V_FLOAT;
    if (type && strchr("eEfFgG%", type)) {
        double f = lr_jv_double(v) * (type == '%' ? 100 : 1);
        if (fabs(f) > 1e300) lr_jx_fail(x, LARDER_FORMAT, "number too large to format");
        snprintf(fmt, sizeof fmt, "%%.*%c%s", type == '%' ? 'f' : type, type == '%' ? "%%" : "");
        snprintf(text, sizeof text, fmt, s->precision < 0 ? 6 : LR_MIN(s->precision, 60), f);
    } else if (real) {
        if (type && type != 'n') lr_jx_fail(x, LARDER_FORMAT, "format '%c' does not take a float", type);
        if (s->precision >= 0) snprintf(text, sizeof text, "%.*g", LR_MIN(s->precision, 60), v.u.f);
        else lr_float_repr(v.u.f, text);
    } else {
        int64_t i = lr_jv_index(x, v, "a number");
        uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
        const char *minus = i < 0 ? "-" : "";
        if (!type || type == 'd' || type == 'n') snprintf(text, sizeof text, "%s%llu", minus, (unsigned long long)u);
        else if (type == 'x' || type == 'X' || type == 'o') {
            snprintf(fmt, sizeof fmt, "%%s%s%%ll%c",
                     s->alt ? (type == 'o'   ? "0o"
                               : type == 'x' ? "0x"
                                             : "0X")
                            : "",
                     type);
            snprintf(text, sizeof text, fmt, minus, (unsigned long long)u);
        } else {
            lr_jx_fail(x, LARDER_FORMAT, "unknown number format '%c'", type);
        }
    }
    if (s->comma) add_commas(text, sizeof text);
    if ((s->sign == '+' || s->sign == ' ') && text[0] != '-') {
        size_t n = LR_MIN(strlen(text), sizeof text - 2);
        memmove(text + 1, text, n);
        text[n + 1] = 0;
        text[0] = s->sign;
    }
    if (s->zero && !s->align) {
        s->align = '=';
        snprintf(s->fill, sizeof s->fill, "0");
    }
    jstr str = {.p = text, .n = strlen(text), .trusted = false, .n_cp = SIZE_MAX};
    put_aligned(x, b, s, &str, s->align ? s->align : '>');
}

static void format_string(jx *x, jbuf *b, spec *s, jv v, char align)
{
    jstr *str = lr_jv_tostr(x, v).u.s;
    if (s->precision >= 0 && (size_t)s->precision < lr_js_count(x, str))
        str = lr_jv_sub(x, str, 0, lr_js_offset(x, str, (size_t)s->precision)).u.s;
    put_aligned(x, b, s, str, s->align ? s->align : align);
}

static int parse_width(jx *x, const char *p, size_t n, size_t *i)
{
    int w = 0;
    for (; *i < n && p[*i] >= '0' && p[*i] <= '9'; (*i)++) {
        w = w * 10 + (p[*i] - '0');
        if (w > 100000) lr_jx_fail(x, LARDER_LIMIT, "format width too large");
    }
    return w;
}

/* fmt % args */
jv lr_jv_percent(jx *x, const jstr *fmt, jv args)
{
    jbuf *b = lr_jbuf_new(x);
    bool tuple = args.k == V_SEQ && args.u.q->flavor == Q_TUPLE;
    size_t used = 0, n_args = tuple ? args.u.q->n : 1;
    for (size_t i = 0; i < fmt->n;) {
        lr_jx_step(x);
        const char *stop = memchr(fmt->p + i, '%', fmt->n - i);
        size_t to = stop ? (size_t)(stop - fmt->p) : fmt->n;
        lr_jbuf_sub(x, b, fmt, i, to - i);
        if (!stop) break;
        i = to + 1;
        spec s = {.fill = " ", .precision = -1};
        jv named = jv_undef(NULL);
        if (i < fmt->n && fmt->p[i] == '(') {
            const char *end = memchr(fmt->p + i, ')', fmt->n - i);
            if (!end || args.k != V_DICT) lr_jx_fail(x, LARDER_FORMAT, "format requires a mapping");
            jv *v = lr_jd_find_name(x, args.u.d, (lr_str){fmt->p + i + 1, (size_t)(end - fmt->p) - i - 1});
            if (!v) lr_jx_fail(x, LARDER_FORMAT, "format names a missing key");
            named = *v;
            used = n_args;
            i = (size_t)(end - fmt->p) + 1;
        }
        for (; i < fmt->n && memchr("-+ 0#", fmt->p[i], 5); i++) {
            char c = fmt->p[i];
            if (c == '-') s.align = '<';
            else if (c == '0') s.zero = true;
            else if (c == '#') s.alt = true;
            else s.sign = c;
        }
        s.width = parse_width(x, fmt->p, fmt->n, &i);
        if (i < fmt->n && fmt->p[i] == '.') {
            i++;
            s.precision = parse_width(x, fmt->p, fmt->n, &i);
        }
        if (i >= fmt->n) lr_jx_fail(x, LARDER_FORMAT, "incomplete format");
        s.type = fmt->p[i++];
        if (s.type == '%') {
            lr_jbuf_sub(x, b, fmt, i - 1, 1);
            continue;
        }
        jv v = named;
        if (v.k == V_UNDEF) {
            if (used >= n_args) lr_jx_fail(x, LARDER_FORMAT, "not enough arguments for format string");
            v = tuple ? args.u.q->p[used] : args;
            used++;
        }
        if (s.type == 's') {
            format_string(x, b, &s, v, '>');
        } else if (s.type == 'r') {
            jbuf *r = lr_jbuf_new(x);
            lr_jv_repr(x, r, v);
            format_string(x, b, &s, lr_jbuf_value(x, r), '>');
        } else if (memchr("diuxXoeEfFgG", s.type, 12)) {
            if (!lr_jv_number(v))
                lr_jx_fail(x, LARDER_FORMAT, "%%%c format: a number is required, not %s", s.type, lr_jv_type(v));
            if (memchr("diu", s.type, 3)) {
                s.type = 'd';
                if (v.k == V_FLOAT && fabs(v.u.f) < 9e18) v = jv_int((int64_t)v.u.f);
            }
            format_number(x, b, &s, v);
        } else {
            lr_jx_fail(x, LARDER_FORMAT, "unsupported format character '%c'", s.type);
        }
    }
    if (used < n_args && args.k != V_DICT)
        lr_jx_fail(x, LARDER_FORMAT, "not all arguments converted during string formatting");
    return lr_jbuf_value(x, b);
}

/* [[fill]align][sign][#][0][width][,][.precision][type] */
static spec parse_spec(jx *x, lr_str t)
{
    spec s = {.fill = " ", .precision = -1};
    size_t i = 0, n = t.n ? LR_MIN(lr_cp_len((uint8_t)t.p[0]), t.n) : 0;
    if (n < t.n && memchr("<>^=", t.p[n], 4)) {
        memcpy(s.fill, t.p, n);
        s.fill[n] = 0;
        s.align = t.p[n];
        i = n + 1;
    } else if (t.n && memchr("<>^=", t.p[0], 4)) {
        s.align = t.p[i++];
    }
    if (i < t.n && memchr("+- ", t.p[i], 3)) s.sign = t.p[i++];
    if (i < t.n && t.p[i] == '#') s.alt = true, i++;
    if (i < t.n && t.p[i] == '0') s.zero = true, i++;
    s.width = parse_width(x, t.p, t.n, &i);
    if (i < t.n && t.p[i] == ',') s.comma = true, i++;
    if (i < t.n && t.p[i] == '.') {
        i++;
        s.precision = parse_width(x, t.p, t.n, &i);
    }
    if (i < t.n) s.type = t.p[i++];
    if (i < t.n) lr_jx_fail(x, LARDER_FORMAT, "bad format specification");
    return s;
}

static jv format_field(jx *x, lr_str name, const jargs *args, size_t *autonum)
{
    char text[24] = {0};
    size_t n = 0;
    while (n < name.n && name.p[n] != '.' && name.p[n] != '[') n++;
    if (n != name.n) lr_jx_fail(x, LARDER_UNSUPPORTED, "attributes in format fields are not supported");
    if (n == 0 || (n < 6 && strspn(memcpy(text, name.p, n), "0123456789") >= n)) {
        size_t i = 0;
        for (size_t k = 0; k < n; k++) i = i * 10 + (size_t)(name.p[k] - '0');
        if (n == 0) i = (*autonum)++;
        if (i >= args->n) lr_jx_fail(x, LARDER_FORMAT, "format needs more arguments");
        return args->p[i];
    }
    for (size_t k = 0; k < args->n_kw; k++)
        if (lr_str_eq(args->kw[k].name, name)) return args->kw[k].val;
    lr_jx_fail(x, LARDER_FORMAT, "format names a missing argument");
}

jv lr_jv_format(jx *x, const jstr *fmt, const jargs *args)
{
    jbuf *b = lr_jbuf_new(x);
    size_t autonum = 0;
    for (size_t i = 0; i < fmt->n;) {
        lr_jx_step(x);
        char c = fmt->p[i];
        if (c != '{' && c != '}') {
            size_t to = i + 1;
            while (to < fmt->n && fmt->p[to] != '{' && fmt->p[to] != '}') to++;
            lr_jbuf_sub(x, b, fmt, i, to - i);
            i = to;
        } else if (i + 1 < fmt->n && fmt->p[i + 1] == c) {
            lr_jbuf_sub(x, b, fmt, i, 1);
            i += 2;
        } else {
            const char *end = c == '{' ? memchr(fmt->p + i, '}', fmt->n - i) : NULL;
            if (!end) lr_jx_fail(x, LARDER_FORMAT, "single '%c' in a format string", c);
            lr_str field = {fmt->p + i + 1, (size_t)(end - fmt->p) - i - 1}, name = field, sp = {"", 0};
            i = (size_t)(end - fmt->p) + 1;
            const char *colon = field.n ? memchr(field.p, ':', field.n) : NULL;
            if (colon) {
                name.n = (size_t)(colon - field.p);
                sp = (lr_str){colon + 1, field.n - name.n - 1};
            }
            bool repr = name.n >= 2 && name.p[name.n - 2] == '!' && name.p[name.n - 1] == 'r';
            if (name.n >= 2 && name.p[name.n - 2] == '!') name.n -= 2;
            jv v = format_field(x, name, args, &autonum);
            if (repr) {
                jbuf *r = lr_jbuf_new(x);
                lr_jv_repr(x, r, v);
                v = lr_jbuf_value(x, r);
            }
            spec s = parse_spec(x, sp);
            if (lr_jv_number(v) && (v.k != V_BOOL || s.type) && s.type != 's') format_number(x, b, &s, v);
            else format_string(x, b, &s, v, '<');
        }
    }
    return lr_jbuf_value(x, b);
}

/* ---------------------------------------------------------------- dates */
jv lr_jv_strftime(jx *x, jv fmt)
{
    static const char *const days[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
    static const char *const months[] = {"January", "February", "March",     "April",   "May",      "June",
                                         "July",    "August",   "September", "October", "November", "December"};
    if (fmt.k != V_STR) lr_jx_fail(x, LARDER_FORMAT, "strftime_now needs a string");
    time_t when = (time_t)x->now;
    struct tm tm;
    if (!gmtime_r(&when, &tm) || tm.tm_year < -1899 || tm.tm_year > 8099)
        lr_jx_fail(x, LARDER_FORMAT, "the time is out of range");
    const jstr *f = fmt.u.s;
    jbuf *b = lr_jbuf_new(x);
    int hour12 = tm.tm_hour % 12 ? tm.tm_hour % 12 : 12, year = tm.tm_year + 1900;
    for (size_t i = 0; i < f->n; i++) {
        if (f->p[i] != '%' || i + 1 >= f->n) {
            lr_jbuf_sub(x, b, f, i, 1);
            continue;
        }
        char t[64] = "";
        bool bare = f->p[i + 1] == '-' && i + 2 < f->n; /* %-d: no padding */
        if (bare) i++;
        const char *two = bare ? "%d" : "%02d";
        switch (f->p[++i]) {
        case 'Y': snprintf(t, sizeof t, "%d", year); break;
        case 'y': snprintf(t, sizeof t, two, year % 100); break;
        case 'm': snprintf(t, sizeof t, two, tm.tm_mon + 1); break;
        case 'd': snprintf(t, sizeof t, two, tm.tm_mday); break;
        case 'e': snprintf(t, sizeof t, bare ? "%d" : "%2d", tm.tm_mday); break;
        case 'H': snprintf(t, sizeof t, two, tm.tm_hour); break;
        case 'I': snprintf(t, sizeof t, two, hour12); break;
        case 'M': snprintf(t, sizeof t, two, tm.tm_min); break;
        case 'S': snprintf(t, sizeof t, two, tm.tm_sec); break;
        case 'f': snprintf(t, sizeof t, "000000"); break;
        case 'j': snprintf(t, sizeof t, bare ? "%d" : "%03d", tm.tm_yday + 1); break;
        case 'p': snprintf(t, sizeof t, "%s", tm.tm_hour < 12 ? "AM" : "PM"); break;
        case 'a': snprintf(t, sizeof t, "%.3s", days[tm.tm_wday]); break;
        case 'A': snprintf(t, sizeof t, "%s", days[tm.tm_wday]); break;
        case 'b':
        case 'h': snprintf(t, sizeof t, "%.3s", months[tm.tm_mon]); break;
        case 'B': snprintf(t, sizeof t, "%s", months[tm.tm_mon]); break;
        case 'w': snprintf(t, sizeof t, "%d", tm.tm_wday); break;
        case 'u': snprintf(t, sizeof t, "%d", tm.tm_wday ? tm.tm_wday : 7); break;
        case 'F': snprintf(t, sizeof t, "%d-%02d-%02d", year, tm.tm_mon + 1, tm.tm_mday); break;
        case 'D':
        case 'x': snprintf(t, sizeof t, "%02d/%02d/%02d", tm.tm_mon + 1, tm.tm_mday, year % 100); break;
        case 'T':
        case 'X': snprintf(t, sizeof t, "%02d:%02d:%02d", tm.tm_hour, tm.tm_min, tm.tm_sec); break;
        case 'R': snprintf(t, sizeof t, "%02d:%02d", tm.tm_hour, tm.tm_min); break;
        case 'c':
            snprintf(t, sizeof t, "%.3s %.3s %2d %02d:%02d:%02d %d", days[tm.tm_wday], months[tm.tm_mon], tm.tm_mday,
                     tm.tm_hour, tm.tm_min, tm.tm_sec, year);
            break;
        case 's': snprintf(t, sizeof t, "%lld", (long long)x->now); break;
        case 'n': snprintf(t, sizeof t, "\n"); break;
        case 't': snprintf(t, sizeof t, "\t"); break;
        case '%': snprintf(t, sizeof t, "%%"); break;
        case 'Z':
        case 'z': break; /* datetime.now() has no zone */
        default: lr_jx_fail(x, LARDER_FORMAT, "strftime_now does not know %%%.1s", f->p + i);
        }
        puts_data(x, b, t);
    }
    return lr_jbuf_value(x, b);
}
