/* jinja_method.c - attributes and methods of values: what Python's str, list and dict offer that templates use.
 *
 * Nothing else has attributes: no host object can be reached from a template.
 */
#include "jinja.h"

#include <utf8proc.h>

typedef struct jmethod_def {
    const char *name;
    jkind self;
    jv (*fn)(jx *x, jv self, const jargs *a);
} jmethod_def;

static jv arg_or(const jargs *a, size_t i, const char *name, jv other)
{
    jv v;
    return lr_jarg(a, i, name, &v) ? v : other;
}

static const jstr *str_arg(jx *x, const jargs *a, size_t i, const char *name, const char *method)
{
    jv v;
    if (!lr_jarg(a, i, name, &v)) lr_jx_fail(x, LARDER_FORMAT, "%s() needs an argument", method);
    if (v.k != V_STR) lr_jx_fail(x, LARDER_FORMAT, "%s() needs a string, not %s", method, lr_jv_type(v));
    return v.u.s;
}

/* ---------------------------------------------------------------- shared with filters */
static bool has_cp(const jstr *chars, uint32_t cp)
{
    for (size_t i = 0; i < chars->n; i += lr_cp_len((uint8_t)chars->p[i]))
        if (lr_cp_at(chars->p + i, chars->n - i) == cp) return true;
    return false;
}

jv lr_js_strip(jx *x, const jstr *s, const jstr *chars, bool left, bool right)
{
    size_t from = 0, to = s->n;
    while (left && from < to) {
        uint32_t cp = lr_cp_at(s->p + from, to - from);
        lr_jx_charge(x, chars ? chars->n * 4 : 1);
        if (chars ? !has_cp(chars, cp) : !lr_cp_space(cp)) break;
        from += lr_cp_len((uint8_t)s->p[from]);
    }
    while (right && to > from) {
        size_t k = to - 1;
        while (k > from && ((uint8_t)s->p[k] & 0xC0) == 0x80) k--;
        uint32_t cp = lr_cp_at(s->p + k, to - k);
        lr_jx_charge(x, chars ? chars->n * 4 : 1);
        if (chars ? !has_cp(chars, cp) : !lr_cp_space(cp)) break;
        to = k;
    }
    return lr_jv_sub(x, s, from, to - from);
}

jv lr_js_replace(jx *x, const jstr *s, const jstr *from, const jstr *to, int64_t count)
{
    jbuf *b = lr_jbuf_new(x);
    size_t at = 0;
    for (; count != 0; count--) {
        lr_jx_step(x);
        size_t hit = lr_js_find(x, s, from->p, from->n, at);
        if (hit == SIZE_MAX) break;
        lr_jbuf_sub(x, b, s, at, hit - at);
        lr_jbuf_str(x, b, to);
        at = hit + from->n;
        if (from->n == 0) { /* between all characters */
            if (at >= s->n) {
                at = s->n;
                break;
            }
            size_t n = LR_MIN(lr_cp_len((uint8_t)s->p[at]), s->n - at);
            lr_jbuf_sub(x, b, s, at, n);
            at += n;
        }
    }
    lr_jbuf_sub(x, b, s, at, s->n - at);
    return lr_jbuf_value(x, b);
}

static void put_case(jx *x, jbuf *b, const jstr *s, size_t at, size_t n, bool upper)
{
    utf8proc_int32_t cp = (utf8proc_int32_t)lr_cp_at(s->p + at, n);
    bool trusted = lr_js_trusted(s, at);
    if (upper && cp == 0xDF) { /* the one common letter whose capital is two */
        lr_jbuf_add(x, b, "SS", 2, trusted);
        return;
    }
    cp = upper ? utf8proc_toupper(cp) : utf8proc_tolower(cp);
    char out[4];
    utf8proc_ssize_t m = utf8proc_encode_char(cp, (utf8proc_uint8_t *)out);
    lr_jbuf_add(x, b, out, (size_t)m, trusted);
}

static bool is_alpha(uint32_t cp)
{
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

static bool is_cased(uint32_t cp)
{
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LT;
}

jv lr_js_case(jx *x, const jstr *s, char how)
{
    jbuf *b = lr_jbuf_new(x);
    bool start = true;
    for (size_t i = 0; i < s->n;) {
        size_t n = LR_MIN(lr_cp_len((uint8_t)s->p[i]), s->n - i);
        uint32_t cp = lr_cp_at(s->p + i, n);
        bool upper = how == 'u' || (how != 'l' && start);
        if (how == 's') upper = utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_LL;
        put_case(x, b, s, i, n, upper);
        if (how == 'c') start = false;
        if (how == 't') start = lr_cp_space(cp) || (cp < 0x80 && cp && strchr("-({[<", (int)cp));
        if (how == 'T') start = !is_cased(cp);
        i += n;
    }
    return lr_jbuf_value(x, b);
}

static size_t newline_len(const jstr *s, size_t i)
{
    uint32_t cp = lr_cp_at(s->p + i, s->n - i);
    if (cp == '\r') return i + 1 < s->n && s->p[i + 1] == '\n' ? 2 : 1;
    bool nl = (cp >= 10 && cp <= 12) || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 || cp == 0x2029;
    return nl ? lr_cp_len((uint8_t)s->p[i]) : 0;
}

jv lr_js_split_lines(jx *x, const jstr *s, bool keep)
{
    jseq *q = lr_jq_new(x, Q_LIST, 0);
    size_t from = 0;
    lr_jx_charge(x, s->n);
    for (size_t i = 0; i < s->n;) {
        size_t n = newline_len(s, i);
        if (n) {
            lr_jq_push(x, q, lr_jv_sub(x, s, from, i - from + (keep ? n : 0)));
            from = i + n;
        }
        i += n ? n : LR_MIN(lr_cp_len((uint8_t)s->p[i]), s->n - i);
    }
    if (from < s->n) lr_jq_push(x, q, lr_jv_sub(x, s, from, s->n - from));
    return jv_seq(q);
}

/* ---------------------------------------------------------------- str */
static jv strip_with(jx *x, jv self, const jargs *a, bool left, bool right)
{
    jv chars = arg_or(a, 0, "chars", jv_none());
    if (chars.k != V_NONE && chars.k != V_STR) lr_jx_fail(x, LARDER_FORMAT, "strip arg must be None or str");
    return lr_js_strip(x, self.u.s, chars.k == V_STR ? chars.u.s : NULL, left, right);
}
static jv s_strip(jx *x, jv self, const jargs *a) { return strip_with(x, self, a, true, true); }
static jv s_lstrip(jx *x, jv self, const jargs *a) { return strip_with(x, self, a, true, false); }
static jv s_rstrip(jx *x, jv self, const jargs *a) { return strip_with(x, self, a, false, true); }
static jv s_upper(jx *x, jv self, const jargs *a)
{
    (void)a;
    return lr_js_case(x, self.u.s, 'u');
}
static jv s_lower(jx *x, jv self, const jargs *a)
{
    (void)a;
    return lr_js_case(x, self.u.s, 'l');
}
static jv s_title(jx *x, jv self, const jargs *a)
{
    (void)a;
    return lr_js_case(x, self.u.s, 'T');
}
static jv s_capitalize(jx *x, jv self, const jargs *a)
{
    (void)a;
    return lr_js_case(x, self.u.s, 'c');
}
static jv s_swapcase(jx *x, jv self, const jargs *a)
{
    (void)a;
    return lr_js_case(x, self.u.s, 's');
}
static jv s_format(jx *x, jv self, const jargs *a) { return lr_jv_format(x, self.u.s, a); }
static jv s_splitlines(jx *x, jv self, const jargs *a)
{
    return lr_js_split_lines(x, self.u.s, lr_jv_true(x, arg_or(a, 0, "keepends", jv_bool(false))));
}

static void split_space(jx *x, const jstr *s, int64_t max, jseq *q)
{
    size_t i = 0;
    for (;;) {
        while (i < s->n && lr_cp_space(lr_cp_at(s->p + i, s->n - i))) i += lr_cp_len((uint8_t)s->p[i]);
        if (i >= s->n) return;
        if (max >= 0 && (int64_t)q->n == max) {
            lr_jq_push(x, q, lr_js_strip(x, lr_jv_sub(x, s, i, s->n - i).u.s, NULL, false, true));
            return;
        }
        size_t from = i;
        while (i < s->n && !lr_cp_space(lr_cp_at(s->p + i, s->n - i))) i += lr_cp_len((uint8_t)s->p[i]);
        i = LR_MIN(i, s->n);
        lr_jq_push(x, q, lr_jv_sub(x, s, from, i - from));
    }
}

static void reverse(jseq *q)
{
    for (size_t i = 0; i < q->n / 2; i++) {
        jv t = q->p[i];
        q->p[i] = q->p[q->n - 1 - i];
        q->p[q->n - 1 - i] = t;
    }
}

static void rsplit_space(jx *x, const jstr *s, int64_t max, jseq *q)
{
    const jstr *rest = lr_js_strip(x, s, NULL, false, true).u.s;
    while (rest->n && (max < 0 || (int64_t)q->n < max)) {
        size_t to = rest->n, k = to;
        while (k > 0) {
            size_t c = k - 1;
            while (c > 0 && ((uint8_t)rest->p[c] & 0xC0) == 0x80) c--;
            if (lr_cp_space(lr_cp_at(rest->p + c, k - c))) break;
            k = c;
        }
        lr_jq_push(x, q, lr_jv_sub(x, rest, k, to - k));
        rest = lr_js_strip(x, lr_jv_sub(x, rest, 0, k).u.s, NULL, false, true).u.s;
    }
    if (rest->n) lr_jq_push(x, q, lr_jv_sub(x, rest, 0, rest->n));
    reverse(q);
}

static size_t rfind(jx *x, const jstr *s, const jstr *what, size_t end)
{
    lr_jx_charge(x, end);
    for (size_t i = end >= what->n ? end - what->n + 1 : 0; i-- > 0;) {
        if (what->n && s->p[i] != what->p[0]) continue;
        if (memcmp(s->p + i, what->p, what->n) == 0) return i;
        lr_jx_step(x);
        lr_jx_charge(x, what->n);
    }
    return SIZE_MAX;
}

static jv split_with(jx *x, jv self, const jargs *a, bool right)
{
    const jstr *s = self.u.s;
    jv sep = arg_or(a, 0, "sep", jv_none());
    int64_t max = lr_jv_index(x, arg_or(a, 1, "maxsplit", jv_int(-1)), "maxsplit");
    jseq *q = lr_jq_new(x, Q_LIST, 0);
    if (sep.k == V_NONE) {
        lr_jx_charge(x, s->n);
        if (right) rsplit_space(x, s, max, q);
        else split_space(x, s, max, q);
        return jv_seq(q);
    }
    if (sep.k != V_STR) lr_jx_fail(x, LARDER_FORMAT, "must be str or None, not %s", lr_jv_type(sep));
    if (sep.u.s->n == 0) lr_jx_fail(x, LARDER_FORMAT, "empty separator");
    if (right) {
        size_t end = s->n;
        for (; max < 0 || (int64_t)q->n < max;) {
            size_t hit = rfind(x, s, sep.u.s, end);
            if (hit == SIZE_MAX) break;
            lr_jq_push(x, q, lr_jv_sub(x, s, hit + sep.u.s->n, end - hit - sep.u.s->n));
            end = hit;
        }
        lr_jq_push(x, q, lr_jv_sub(x, s, 0, end));
        reverse(q);
        return jv_seq(q);
    }
    size_t from = 0;
    while (max < 0 || (int64_t)q->n < max) {
        size_t hit = lr_js_find(x, s, sep.u.s->p, sep.u.s->n, from);
        if (hit == SIZE_MAX) break;
        lr_jq_push(x, q, lr_jv_sub(x, s, from, hit - from));
        from = hit + sep.u.s->n;
    }
    lr_jq_push(x, q, lr_jv_sub(x, s, from, s->n - from));
    return jv_seq(q);
}
static jv s_split(jx *x, jv self, const jargs *a) { return split_with(x, self, a, false); }
static jv s_rsplit(jx *x, jv self, const jargs *a) { return split_with(x, self, a, true); }

static jv partition(jx *x, jv self, const jargs *a, bool right)
{
    const jstr *s = self.u.s, *sep = str_arg(x, a, 0, "sep", "partition");
    if (!sep->n) lr_jx_fail(x, LARDER_FORMAT, "empty separator");
    size_t hit = right ? rfind(x, s, sep, s->n) : lr_js_find(x, s, sep->p, sep->n, 0);
    jseq *q = lr_jq_new(x, Q_TUPLE, 3);
    if (hit == SIZE_MAX) {
        jv empty = lr_jv_sub(x, s, 0, 0);
        lr_jq_push(x, q, right ? empty : self);
        lr_jq_push(x, q, empty);
        lr_jq_push(x, q, right ? self : empty);
    } else {
        lr_jq_push(x, q, lr_jv_sub(x, s, 0, hit));
        lr_jq_push(x, q, lr_jv_sub(x, s, hit, sep->n));
        lr_jq_push(x, q, lr_jv_sub(x, s, hit + sep->n, s->n - hit - sep->n));
    }
    return jv_seq(q);
}
static jv s_partition(jx *x, jv self, const jargs *a) { return partition(x, self, a, false); }
static jv s_rpartition(jx *x, jv self, const jargs *a) { return partition(x, self, a, true); }

/* The optional start and end of find, count, startswith, ... in bytes. false: an empty range beyond the string. */
static bool byte_range(jx *x, jstr *s, const jargs *a, size_t *from, size_t *to)
{
    int64_t n = (int64_t)lr_js_count(x, s), f = 0, t = n;
    if (a->n > 1 && a->p[1].k != V_NONE) f = lr_jv_index(x, a->p[1], "start");
    if (a->n > 2 && a->p[2].k != V_NONE) t = lr_jv_index(x, a->p[2], "end");
    if (f < 0) f = LR_MAX(f + n, 0);
    if (t < 0) t = LR_MAX(t + n, 0);
    t = LR_MIN(t, n);
    if (f > t) return false;
    *from = lr_js_offset(x, s, (size_t)f);
    *to = lr_js_offset(x, s, (size_t)t);
    return true;
}

static bool affix(jx *x, const jstr *s, size_t from, size_t to, jv what, bool end)
{
    if (what.k == V_SEQ && what.u.q->flavor == Q_TUPLE) {
        for (size_t i = 0; i < what.u.q->n; i++) {
            jv one = what.u.q->p[i];
            lr_jx_step(x);
            if (one.k == V_STR && affix(x, s, from, to, one, end)) return true;
        }
        return false;
    }
    if (what.k != V_STR)
        lr_jx_fail(x, LARDER_FORMAT, "%s first arg must be str or a tuple of str, not %s",
                   end ? "endswith" : "startswith", lr_jv_type(what));
    size_t n = what.u.s->n;
    lr_jx_charge(x, n);
    return n <= to - from && memcmp(s->p + (end ? to - n : from), what.u.s->p, n) == 0;
}

static jv affix_with(jx *x, jv self, const jargs *a, bool end)
{
    size_t from, to;
    if (a->n < 1) lr_jx_fail(x, LARDER_FORMAT, "startswith() needs an argument");
    if (!byte_range(x, self.u.s, a, &from, &to)) return jv_bool(false);
    return jv_bool(affix(x, self.u.s, from, to, a->p[0], end));
}
static jv s_startswith(jx *x, jv self, const jargs *a) { return affix_with(x, self, a, false); }
static jv s_endswith(jx *x, jv self, const jargs *a) { return affix_with(x, self, a, true); }

static jv find_with(jx *x, jv self, const jargs *a, bool right, bool must)
{
    const jstr *what = str_arg(x, a, 0, "sub", "find");
    size_t from, to, hit = SIZE_MAX;
    jstr *s = self.u.s;
    if (byte_range(x, s, a, &from, &to)) {
        jstr part = {.p = s->p, .n = to};
        hit = right ? rfind(x, s, what, to) : lr_js_find(x, &part, what->p, what->n, from);
        if (hit != SIZE_MAX && hit < from) hit = SIZE_MAX;
    }
    if (hit == SIZE_MAX) {
        if (must) lr_jx_fail(x, LARDER_FORMAT, "substring not found");
        return jv_int(-1);
    }
    return jv_int((int64_t)lr_js_count(x, lr_jv_sub(x, s, 0, hit).u.s));
}
static jv s_find(jx *x, jv self, const jargs *a) { return find_with(x, self, a, false, false); }
static jv s_rfind(jx *x, jv self, const jargs *a) { return find_with(x, self, a, true, false); }
static jv s_index(jx *x, jv self, const jargs *a) { return find_with(x, self, a, false, true); }

static jv s_count(jx *x, jv self, const jargs *a)
{
    const jstr *what = str_arg(x, a, 0, "sub", "count");
    jstr *s = self.u.s;
    size_t from, to;
    int64_t n = 0;
    if (!byte_range(x, s, a, &from, &to)) return jv_int(0);
    jstr part = {.p = s->p, .n = to, .n_cp = SIZE_MAX};
    if (!what->n) return jv_int((int64_t)lr_js_count(x, lr_jv_sub(x, s, from, to - from).u.s) + 1);
    for (size_t at = from; (at = lr_js_find(x, &part, what->p, what->n, at)) != SIZE_MAX; at += what->n) n++;
    return jv_int(n);
}

static jv s_replace(jx *x, jv self, const jargs *a)
{
    const jstr *from = str_arg(x, a, 0, "old", "replace"), *to = str_arg(x, a, 1, "new", "replace");
    return lr_js_replace(x, self.u.s, from, to, lr_jv_index(x, arg_or(a, 2, "count", jv_int(-1)), "count"));
}

static jv s_join(jx *x, jv self, const jargs *a)
{
    if (a->n != 1) lr_jx_fail(x, LARDER_FORMAT, "join() takes one argument");
    jseq *q = lr_jv_iter(x, a->p[0]);
    jbuf *b = lr_jbuf_new(x);
    for (size_t i = 0; i < q->n; i++) {
        lr_jx_step(x);
        if (q->p[i].k != V_STR)
            lr_jx_fail(x, LARDER_FORMAT, "sequence item %zu: expected str instance, %s found", i,
                       lr_jv_type(q->p[i]));
        if (i) lr_jbuf_str(x, b, self.u.s);
        lr_jbuf_str(x, b, q->p[i].u.s);
    }
    return lr_jbuf_value(x, b);
}

static jv s_removeprefix(jx *x, jv self, const jargs *a)
{
    const jstr *s = self.u.s, *p = str_arg(x, a, 0, "prefix", "removeprefix");
    lr_jx_charge(x, p->n);
    return s->n >= p->n && memcmp(s->p, p->p, p->n) == 0 ? lr_jv_sub(x, s, p->n, s->n - p->n) : self;
}

static jv s_removesuffix(jx *x, jv self, const jargs *a)
{
    const jstr *s = self.u.s, *p = str_arg(x, a, 0, "suffix", "removesuffix");
    lr_jx_charge(x, p->n);
    return s->n >= p->n && memcmp(s->p + s->n - p->n, p->p, p->n) == 0 ? lr_jv_sub(x, s, 0, s->n - p->n) : self;
}

static jv justify(jx *x, jv self, const jargs *a, char align)
{
    jstr *s = self.u.s;
    int64_t width = lr_jv_index(x, arg_or(a, 0, "width", jv_undef("width")), "width");
    const jstr *fill = a->n > 1 ? str_arg(x, a, 1, "fillchar", "ljust") : NULL;
    int64_t room = width - (int64_t)lr_js_count(x, s);
    if (room <= 0) return self;
    if (room > 1000000) lr_jx_fail(x, LARDER_LIMIT, "width too large");
    int64_t left = align == '>' || align == '0' ? room : align == '^' ? room / 2 + (room & width & 1) : 0;
    size_t sign = align == '0' && s->n && (s->p[0] == '-' || s->p[0] == '+');
    jbuf *b = lr_jbuf_new(x);
    lr_jbuf_sub(x, b, s, 0, sign);
    for (int64_t i = 0; i < room; i++) {
        if (i == left) lr_jbuf_sub(x, b, s, sign, s->n - sign);
        if (fill) lr_jbuf_str(x, b, fill);
        else lr_jbuf_add(x, b, align == '0' ? "0" : " ", 1, false);
    }
    if (left == room) lr_jbuf_sub(x, b, s, sign, s->n - sign);
    return lr_jbuf_value(x, b);
}
static jv s_ljust(jx *x, jv self, const jargs *a) { return justify(x, self, a, '<'); }
static jv s_rjust(jx *x, jv self, const jargs *a) { return justify(x, self, a, '>'); }
static jv s_center(jx *x, jv self, const jargs *a) { return justify(x, self, a, '^'); }
static jv s_zfill(jx *x, jv self, const jargs *a) { return justify(x, self, a, '0'); }

typedef enum ctype { C_ALNUM, C_ALPHA, C_DIGIT, C_SPACE, C_ASCII } ctype;
static jv all_of(jx *x, const jstr *s, ctype type)
{
    lr_jx_charge(x, s->n * 8);
    for (size_t i = 0; i < s->n; i += lr_cp_len((uint8_t)s->p[i])) {
        uint32_t cp = lr_cp_at(s->p + i, s->n - i);
        utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
        bool number = c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO, yes = false;
        switch (type) {
        case C_ALNUM: yes = is_alpha(cp) || number; break;
        case C_ALPHA: yes = is_alpha(cp); break;
        case C_DIGIT: yes = c == UTF8PROC_CATEGORY_ND; break;
        case C_SPACE: yes = lr_cp_space(cp); break;
        case C_ASCII: yes = cp < 0x80; break;
        }
        if (!yes) return jv_bool(false);
    }
    return jv_bool(s->n > 0 || type == C_ASCII);
}
static jv s_isalnum(jx *x, jv self, const jargs *a)
{
    (void)a;
    return all_of(x, self.u.s, C_ALNUM);
}
static jv s_isalpha(jx *x, jv self, const jargs *a)
{
    (void)a;
    return all_of(x, self.u.s, C_ALPHA);
}
static jv s_isdigit(jx *x, jv self, const jargs *a)
{
    (void)a;
    return all_of(x, self.u.s, C_DIGIT);
}
static jv s_isspace(jx *x, jv self, const jargs *a)
{
    (void)a;
    return all_of(x, self.u.s, C_SPACE);
}
static jv s_isascii(jx *x, jv self, const jargs *a)
{
    (void)a;
    return all_of(x, self.u.s, C_ASCII);
}

static jv cased(jx *x, const jstr *s, utf8proc_category_t wanted)
{
    bool any = false;
    lr_jx_charge(x, s->n * 8);
    for (size_t i = 0; i < s->n; i += lr_cp_len((uint8_t)s->p[i])) {
        uint32_t cp = lr_cp_at(s->p + i, s->n - i);
        if (!is_cased(cp)) continue;
        if (utf8proc_category((utf8proc_int32_t)cp) != wanted) return jv_bool(false);
        any = true;
    }
    return jv_bool(any);
}
static jv s_isupper(jx *x, jv self, const jargs *a)
{
    (void)a;
    return cased(x, self.u.s, UTF8PROC_CATEGORY_LU);
}
static jv s_islower(jx *x, jv self, const jargs *a)
{
    (void)a;
    return cased(x, self.u.s, UTF8PROC_CATEGORY_LL);
}

/* ---------------------------------------------------------------- dict */
static jv d_items(jx *x, jv self, const jargs *a)
{
    (void)a;
    return lr_jv_dict_items(x, self.u.d);
}

static jv d_keys(jx *x, jv self, const jargs *a)
{
    (void)a;
    jseq *q = lr_jq_new(x, Q_VIEW, self.u.d->n);
    for (size_t i = 0; i < self.u.d->n; i++) lr_jq_push(x, q, self.u.d->key[i]);
    return jv_seq(q);
}

static jv d_values(jx *x, jv self, const jargs *a)
{
    (void)a;
    jseq *q = lr_jq_new(x, Q_VIEW, self.u.d->n);
    for (size_t i = 0; i < self.u.d->n; i++) lr_jq_push(x, q, self.u.d->val[i]);
    return jv_seq(q);
}

static jv d_get(jx *x, jv self, const jargs *a)
{
    if (a->n < 1 || a->n > 2) lr_jx_fail(x, LARDER_FORMAT, "get() takes one or two arguments");
    jv *v = lr_jd_find(x, self.u.d, a->p[0]);
    return v ? *v : a->n > 1 ? a->p[1] : jv_none();
}

static jv d_pop(jx *x, jv self, const jargs *a)
{
    if (a->n < 1 || a->n > 2) lr_jx_fail(x, LARDER_FORMAT, "pop() takes one or two arguments");
    jdict *d = self.u.d;
    jv *v = lr_jd_find(x, d, a->p[0]);
    if (!v) {
        if (a->n < 2) lr_jx_fail(x, LARDER_FORMAT, "pop(): no such key");
        return a->p[1];
    }
    jv out = *v;
    size_t i = (size_t)(v - d->val), left = d->n - i - 1;
    memmove(d->key + i, d->key + i + 1, left * sizeof *d->key);
    memmove(d->val + i, d->val + i + 1, left * sizeof *d->val);
    d->n--;
    return out;
}

static void dict_merge(jx *x, jdict *d, const jargs *a)
{
    for (size_t i = 0; i < a->n; i++) {
        if (a->p[i].k != V_DICT) lr_jx_fail(x, LARDER_FORMAT, "update() needs a dict");
        const jdict *o = a->p[i].u.d;
        for (size_t k = 0, n = o->n; k < n; k++) lr_jd_set(x, d, o->key[k], o->val[k]);
    }
    for (size_t i = 0; i < a->n_kw; i++)
        lr_jd_set(x, d, lr_jv_str(x, a->kw[i].name.p, a->kw[i].name.n, true), a->kw[i].val);
}
static jv d_update(jx *x, jv self, const jargs *a)
{
    dict_merge(x, self.u.d, a);
    return jv_none();
}

static jv d_setdefault(jx *x, jv self, const jargs *a)
{
    if (a->n < 1) lr_jx_fail(x, LARDER_FORMAT, "setdefault() needs a key");
    jv *v = lr_jd_find(x, self.u.d, a->p[0]);
    if (v) return *v;
    jv value = a->n > 1 ? a->p[1] : jv_none();
    lr_jd_set(x, self.u.d, a->p[0], value);
    return value;
}

static jv d_copy(jx *x, jv self, const jargs *a)
{
    (void)a;
    jdict *d = lr_jd_new(x, self.u.d->n);
    for (size_t i = 0; i < self.u.d->n; i++) {
        d->key[i] = self.u.d->key[i];
        d->val[i] = self.u.d->val[i];
    }
    d->n = self.u.d->n;
    return jv_dict(d);
}

/* ---------------------------------------------------------------- list */
static jseq *own_list(jx *x, jv self)
{
    if (self.u.q->flavor != Q_LIST) lr_jx_fail(x, LARDER_FORMAT, "a %s cannot be changed", lr_jv_type(self));
    return self.u.q;
}

static jv l_append(jx *x, jv self, const jargs *a)
{
    if (a->n != 1) lr_jx_fail(x, LARDER_FORMAT, "append() takes one argument");
    lr_jq_push(x, own_list(x, self), a->p[0]);
    return jv_none();
}

static jv l_extend(jx *x, jv self, const jargs *a)
{
    if (a->n != 1) lr_jx_fail(x, LARDER_FORMAT, "extend() takes one argument");
    jseq *more = lr_jv_iter(x, a->p[0]), *q = own_list(x, self);
    for (size_t i = 0, n = more->n; i < n; i++) lr_jq_push(x, q, more->p[i]);
    return jv_none();
}

static jv l_insert(jx *x, jv self, const jargs *a)
{
    if (a->n != 2) lr_jx_fail(x, LARDER_FORMAT, "insert() takes two arguments");
    jseq *q = own_list(x, self);
    int64_t n = (int64_t)q->n, i = lr_jv_index(x, a->p[0], "index");
    if (i < 0) i = LR_MAX(i + n, 0);
    i = LR_MIN(i, n);
    lr_jq_push(x, q, a->p[1]);
    lr_jx_charge(x, (size_t)(n - i) * sizeof(jv));
    memmove(q->p + i + 1, q->p + i, (size_t)(n - i) * sizeof(jv));
    q->p[i] = a->p[1];
    return jv_none();
}

static jv l_pop(jx *x, jv self, const jargs *a)
{
    jseq *q = own_list(x, self);
    int64_t n = (int64_t)q->n, i = a->n ? lr_jv_index(x, a->p[0], "index") : n - 1;
    if (i < 0 && a->n) i += n;
    if (i < 0 || i >= n) lr_jx_fail(x, LARDER_FORMAT, "pop index out of range");
    jv out = q->p[i];
    lr_jx_charge(x, (size_t)(n - i) * sizeof(jv));
    memmove(q->p + i, q->p + i + 1, (size_t)(n - i - 1) * sizeof(jv));
    q->n--;
    return out;
}

static jv l_index(jx *x, jv self, const jargs *a)
{
    for (size_t i = 0; a->n && i < self.u.q->n; i++)
        if (lr_jv_equal(x, self.u.q->p[i], a->p[0])) return jv_int((int64_t)i);
    lr_jx_fail(x, LARDER_FORMAT, "index(): not in the list");
}

static jv l_count(jx *x, jv self, const jargs *a)
{
    int64_t n = 0;
    for (size_t i = 0; a->n && i < self.u.q->n; i++) n += lr_jv_equal(x, self.u.q->p[i], a->p[0]);
    return jv_int(n);
}

static jv l_reverse(jx *x, jv self, const jargs *a)
{
    (void)a;
    lr_jx_charge(x, self.u.q->n * sizeof(jv));
    reverse(own_list(x, self));
    return jv_none();
}

static jv l_copy(jx *x, jv self, const jargs *a)
{
    (void)a;
    jseq *q = lr_jq_new(x, self.u.q->flavor, self.u.q->n);
    for (size_t i = 0; i < self.u.q->n; i++) lr_jq_push(x, q, self.u.q->p[i]);
    return jv_seq(q);
}

static jv l_clear(jx *x, jv self, const jargs *a)
{
    (void)a;
    own_list(x, self)->n = 0;
    return jv_none();
}

/* ---------------------------------------------------------------- loop, cycler */
static jv loop_cycle(jx *x, jv self, const jargs *a)
{
    if (!a->n) lr_jx_fail(x, LARDER_FORMAT, "cycle() needs an argument");
    return a->p[self.u.loop->i % a->n];
}

static jv loop_changed(jx *x, jv self, const jargs *a)
{
    jloop *l = self.u.loop;
    jseq *q = lr_jq_new(x, Q_TUPLE, a->n);
    for (size_t i = 0; i < a->n; i++) lr_jq_push(x, q, a->p[i]);
    bool changed = !l->has_changed || !lr_jv_equal(x, l->changed, jv_seq(q));
    l->changed = jv_seq(q);
    l->has_changed = true;
    return jv_bool(changed);
}

static jv c_next(jx *x, jv self, const jargs *a)
{
    (void)x;
    (void)a;
    jcycle *c = self.u.cycle;
    return c->p[c->i++ % c->n];
}

static jv c_reset(jx *x, jv self, const jargs *a)
{
    (void)x;
    (void)a;
    self.u.cycle->i = 0;
    return jv_none();
}

static const jmethod_def methods[] = {
    {"strip", V_STR, s_strip},
    {"lstrip", V_STR, s_lstrip},
    {"rstrip", V_STR, s_rstrip},
    {"upper", V_STR, s_upper},
    {"lower", V_STR, s_lower},
    {"casefold", V_STR, s_lower},
    {"title", V_STR, s_title},
    {"capitalize", V_STR, s_capitalize},
    {"swapcase", V_STR, s_swapcase},
    {"format", V_STR, s_format},
    {"splitlines", V_STR, s_splitlines},
    {"split", V_STR, s_split},
    {"rsplit", V_STR, s_rsplit},
    {"partition", V_STR, s_partition},
    {"rpartition", V_STR, s_rpartition},
    {"startswith", V_STR, s_startswith},
    {"endswith", V_STR, s_endswith},
    {"find", V_STR, s_find},
    {"rfind", V_STR, s_rfind},
    {"index", V_STR, s_index},
    {"count", V_STR, s_count},
    {"replace", V_STR, s_replace},
    {"join", V_STR, s_join},
    {"removeprefix", V_STR, s_removeprefix},
    {"removesuffix", V_STR, s_removesuffix},
    {"ljust", V_STR, s_ljust},
    {"rjust", V_STR, s_rjust},
    {"center", V_STR, s_center},
    {"zfill", V_STR, s_zfill},
    {"isalnum", V_STR, s_isalnum},
    {"isalpha", V_STR, s_isalpha},
    {"isdigit", V_STR, s_isdigit},
    {"isdecimal", V_STR, s_isdigit},
    {"isnumeric", V_STR, s_isdigit},
    {"isspace", V_STR, s_isspace},
    {"isascii", V_STR, s_isascii},
    {"isupper", V_STR, s_isupper},
    {"islower", V_STR, s_islower},
    {"items", V_DICT, d_items},
    {"keys", V_DICT, d_keys},
    {"values", V_DICT, d_values},
    {"get", V_DICT, d_get},
    {"pop", V_DICT, d_pop},
    {"update", V_DICT, d_update},
    {"setdefault", V_DICT, d_setdefault},
    {"copy", V_DICT, d_copy},
    {"append", V_SEQ, l_append},
    {"extend", V_SEQ, l_extend},
    {"insert", V_SEQ, l_insert},
    {"pop", V_SEQ, l_pop},
    {"index", V_SEQ, l_index},
    {"count", V_SEQ, l_count},
    {"reverse", V_SEQ, l_reverse},
    {"copy", V_SEQ, l_copy},
    {"clear", V_SEQ, l_clear},
    {"cycle", V_LOOP, loop_cycle},
    {"changed", V_LOOP, loop_changed},
    {"next", V_CYCLER, c_next},
    {"reset", V_CYCLER, c_reset},
};

const char *lr_jmethod_name(const jmethod *m) { return m->def->name; }

jv lr_jmethod_call(jx *x, jmethod *m, const jargs *a) { return m->def->fn(x, m->self, a); }

bool lr_jv_method(jx *x, jv obj, lr_str name, jv *out)
{
    if (obj.k == V_SEQ && obj.u.q->flavor > Q_TUPLE) return false;
    for (size_t i = 0; i < LR_LEN(methods); i++) {
        if (methods[i].self != obj.k || !lr_str_is(name, methods[i].name)) continue;
        if (obj.k == V_SEQ && obj.u.q->flavor == Q_TUPLE && methods[i].fn != l_index && methods[i].fn != l_count)
            return false;
        jmethod *m = lr_jx_alloc(x, sizeof *m);
        *m = (jmethod){.self = obj, .def = &methods[i]};
        *out = (jv){.k = V_METHOD, .u.method = m};
        return true;
    }
    return false;
}

static bool loop_attr(const jloop *l, lr_str name, jv *out)
{
    int64_t i = (int64_t)l->i, n = (int64_t)l->n;
    if (lr_str_is(name, "index")) *out = jv_int(i + 1);
    else if (lr_str_is(name, "index0")) *out = jv_int(i);
    else if (lr_str_is(name, "revindex")) *out = jv_int(n - i);
    else if (lr_str_is(name, "revindex0")) *out = jv_int(n - i - 1);
    else if (lr_str_is(name, "first")) *out = jv_bool(i == 0);
    else if (lr_str_is(name, "last")) *out = jv_bool(i == n - 1);
    else if (lr_str_is(name, "length")) *out = jv_int(n);
    else if (lr_str_is(name, "depth")) *out = jv_int(l->depth0 + 1);
    else if (lr_str_is(name, "depth0")) *out = jv_int(l->depth0);
    else if (lr_str_is(name, "previtem")) *out = i > 0 ? l->items[i - 1] : jv_undef("loop.previtem");
    else if (lr_str_is(name, "nextitem")) *out = i + 1 < n ? l->items[i + 1] : jv_undef("loop.nextitem");
    else return false;
    return true;
}

/* obj.name: a method first, then a key of that name; undefined otherwise. */
jv lr_jv_attr(jx *x, jv obj, lr_str name)
{
    jv out;
    if (lr_jv_method(x, obj, name, &out)) return out;
    if (obj.k == V_LOOP && loop_attr(obj.u.loop, name, &out)) return out;
    if (obj.k == V_CYCLER && lr_str_is(name, "current")) return obj.u.cycle->p[obj.u.cycle->i % obj.u.cycle->n];
    if (obj.k == V_MACRO && lr_str_is(name, "name"))
        return lr_jv_str(x, obj.u.macro->node->name->p, obj.u.macro->node->name->n, true);
    if (obj.k == V_DICT || obj.k == V_NS) {
        jv *v = lr_jd_find_name(x, obj.u.d, name);
        if (v) return *v;
    }
    char *hint = lr_jx_alloc(x, 96);
    snprintf(hint, 96, "'%.*s'", (int)LR_MIN(name.n, (size_t)80), name.p);
    return jv_undef(hint);
}
