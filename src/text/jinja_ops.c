/* jinja_ops.c - operators, with Python's meaning: arithmetic, comparison, truth, membership, subscripts, iteration.
 *
 * Integers are 64 bits; where Python would grow them, this is an error.
 */
#include "jinja.h"

#include <math.h>

const char *lr_jv_type(jv v)
{
    static const char *const seq[] = {"list", "tuple", "generator", "range", "dict_items"};
    switch (v.k) {
    case V_UNDEF: return "Undefined";
    case V_NONE: return "NoneType";
    case V_BOOL: return "bool";
    case V_INT: return "int";
    case V_FLOAT: return "float";
    case V_STR: return "str";
    case V_SEQ: return seq[v.u.q->flavor];
    case V_DICT: return "dict";
    case V_NS: return "Namespace";
    case V_MACRO: return "Macro";
    case V_FUNC: return "function";
    case V_METHOD: return "method";
    case V_LOOP: return "LoopContext";
    case V_CYCLER: return "Cycler";
    case V_JOINER: return "Joiner";
    }
    return "?";
}

static _Noreturn void undefined(jx *x, jv v)
{
    lr_jx_fail(x, LARDER_FORMAT, "%s is undefined", v.u.hint ? v.u.hint : "a value");
}

static bool is_int(jv v) { return v.k == V_INT || v.k == V_BOOL; }
static int64_t as_int(jv v) { return v.k == V_BOOL ? v.u.b : v.u.i; }
bool lr_jv_number(jv v) { return is_int(v) || v.k == V_FLOAT; }
double lr_jv_double(jv v) { return v.k == V_FLOAT ? v.u.f : (double)as_int(v); }

int64_t lr_jv_index(jx *x, jv v, const char *what)
{
    if (v.k == V_UNDEF) undefined(x, v);
    if (!is_int(v)) lr_jx_fail(x, LARDER_FORMAT, "%s must be an integer, not %s", what, lr_jv_type(v));
    return as_int(v);
}

bool lr_jv_length(jx *x, jv v, int64_t *n)
{
    switch (v.k) {
    case V_UNDEF: *n = 0; return true;
    case V_STR: *n = (int64_t)lr_js_count(x, v.u.s); return true;
    case V_SEQ: *n = (int64_t)v.u.q->n; return v.u.q->flavor != Q_GEN;
    case V_DICT: *n = (int64_t)v.u.d->n; return true;
    case V_LOOP: *n = (int64_t)v.u.loop->n; return true;
    default: return false;
    }
}

bool lr_jv_true(jx *x, jv v)
{
    int64_t n;
    switch (v.k) {
    case V_UNDEF:
    case V_NONE: return false;
    case V_BOOL: return v.u.b;
    case V_INT: return v.u.i != 0;
    case V_FLOAT: return v.u.f != 0;
    case V_STR: return v.u.s->n > 0;
    default: return !lr_jv_length(x, v, &n) || n > 0;
    }
}

/* ---------------------------------------------------------------- comparison */
static int compare_int_double(int64_t i, double f)
{
    if (f >= 9223372036854775808.0) return -1;
    if (f < -9223372036854775808.0) return 1;
    int64_t t = (int64_t)f;
    if (i != t) return i < t ? -1 : 1;
    return f > (double)t ? -1 : f < (double)t;
}

static int compare_numbers(jv a, jv b) /* 2: unordered */
{
    if (is_int(a) && is_int(b)) return as_int(a) < as_int(b) ? -1 : as_int(a) > as_int(b);
    if (isnan(lr_jv_double(a)) || isnan(lr_jv_double(b))) return 2;
    if (is_int(a)) return compare_int_double(as_int(a), b.u.f);
    if (is_int(b)) return -compare_int_double(as_int(b), a.u.f);
    return a.u.f < b.u.f ? -1 : a.u.f > b.u.f;
}

static int compare_strings(jx *x, const jstr *a, const jstr *b)
{
    size_t n = LR_MIN(a->n, b->n);
    lr_jx_charge(x, n);
    int c = n ? memcmp(a->p, b->p, n) : 0;
    return c ? c : a->n < b->n ? -1 : a->n > b->n;
}

static bool equal_seq(jx *x, const jseq *a, const jseq *b)
{
    if (a == b) return true;
    if (a->flavor != b->flavor || a->flavor == Q_GEN || a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++)
        if (!lr_jv_equal(x, a->p[i], b->p[i])) return false;
    return true;
}

static bool equal_dict(jx *x, const jdict *a, const jdict *b)
{
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++) {
        jv *other = lr_jd_find(x, b, a->key[i]);
        if (!other || !lr_jv_equal(x, a->val[i], *other)) return false;
    }
    return true;
}

bool lr_jv_equal(jx *x, jv a, jv b)
{
    lr_jx_step(x);
    if (lr_jv_number(a) && lr_jv_number(b)) return compare_numbers(a, b) == 0;
    if (a.k != b.k) return false;
    bool eq = false;
    lr_jx_enter(x);
    switch (a.k) {
    case V_UNDEF:
    case V_NONE: eq = true; break;
    case V_STR: eq = a.u.s->n == b.u.s->n && compare_strings(x, a.u.s, b.u.s) == 0; break;
    case V_SEQ: eq = equal_seq(x, a.u.q, b.u.q); break;
    case V_DICT: eq = equal_dict(x, a.u.d, b.u.d); break;
    case V_FUNC: eq = a.u.fn == b.u.fn; break;
    default: eq = a.u.d == b.u.d; break;
    }
    lr_jx_leave(x);
    return eq;
}

int lr_jv_order(jx *x, jv a, jv b, const char *op)
{
    lr_jx_step(x);
    if (lr_jv_number(a) && lr_jv_number(b)) return compare_numbers(a, b);
    if (a.k == V_STR && b.k == V_STR) return compare_strings(x, a.u.s, b.u.s);
    if (a.k == V_SEQ && b.k == V_SEQ && a.u.q->flavor == b.u.q->flavor && a.u.q->flavor <= Q_TUPLE) {
        const jseq *l = a.u.q, *r = b.u.q;
        lr_jx_enter(x);
        int c = l->n < r->n ? -1 : l->n > r->n;
        for (size_t i = 0; i < l->n && i < r->n; i++)
            if (!lr_jv_equal(x, l->p[i], r->p[i])) {
                c = lr_jv_order(x, l->p[i], r->p[i], op);
                break;
            }
        lr_jx_leave(x);
        return c;
    }
    if (a.k == V_UNDEF) undefined(x, a);
    if (b.k == V_UNDEF) undefined(x, b);
    lr_jx_fail(x, LARDER_FORMAT, "'%s' not supported between '%s' and '%s'", op, lr_jv_type(a), lr_jv_type(b));
}

bool lr_jv_in(jx *x, jv needle, jv hay)
{
    switch (hay.k) {
    case V_STR:
        if (needle.k != V_STR)
            lr_jx_fail(x, LARDER_FORMAT, "'in <string>' requires string as left operand, not %s", lr_jv_type(needle));
        return lr_js_find(x, hay.u.s, needle.u.s->p, needle.u.s->n, 0) != SIZE_MAX;
    case V_DICT: return lr_jd_find(x, hay.u.d, needle) != NULL;
    case V_UNDEF: return false;
    case V_SEQ: {
        jseq *q = lr_jv_iter(x, hay);
        for (size_t i = 0; i < q->n; i++)
            if (lr_jv_equal(x, q->p[i], needle)) return true;
        return false;
    }
    default: lr_jx_fail(x, LARDER_FORMAT, "argument of type '%s' is not iterable", lr_jv_type(hay));
    }
}

/* ---------------------------------------------------------------- arithmetic */
static _Noreturn void too_big(jx *x) { lr_jx_fail(x, LARDER_FORMAT, "integer beyond 64 bits"); }

static int64_t floor_div(jx *x, int64_t a, int64_t b)
{
    if (b == 0) lr_jx_fail(x, LARDER_FORMAT, "division by zero");
    if (a == INT64_MIN && b == -1) too_big(x);
    int64_t q = a / b;
    return q - (a % b != 0 && (a % b < 0) != (b < 0));
}

static int64_t floor_mod(jx *x, int64_t a, int64_t b)
{
    if (b == 0) lr_jx_fail(x, LARDER_FORMAT, "modulo by zero");
    if (b == -1) return 0;
    int64_t m = a % b;
    return m && (m < 0) != (b < 0) ? m + b : m;
}

static jv int_pow(jx *x, int64_t a, int64_t b)
{
    if (b < 0) {
        if (a == 0) lr_jx_fail(x, LARDER_FORMAT, "0 cannot be raised to a negative power");
        return jv_float(pow((double)a, (double)b));
    }
    int64_t r = 1;
    if (a == 0 || a == 1) return jv_int(b ? a : 1);
    if (a == -1) return jv_int(b & 1 ? -1 : 1);
    for (; b; b--)
        if (__builtin_mul_overflow(r, a, &r)) too_big(x);
    return jv_int(r);
}

static jv int_arith(jx *x, jop op, int64_t a, int64_t b)
{
    int64_t r = 0;
    switch (op) {
    case OP_ADD:
        if (__builtin_add_overflow(a, b, &r)) too_big(x);
        return jv_int(r);
    case OP_SUB:
        if (__builtin_sub_overflow(a, b, &r)) too_big(x);
        return jv_int(r);
    case OP_MUL:
        if (__builtin_mul_overflow(a, b, &r)) too_big(x);
        return jv_int(r);
    case OP_DIV:
        if (b == 0) lr_jx_fail(x, LARDER_FORMAT, "division by zero");
        return jv_float((double)a / (double)b);
    case OP_FLOORDIV: return jv_int(floor_div(x, a, b));
    case OP_MOD: return jv_int(floor_mod(x, a, b));
    default: return int_pow(x, a, b);
    }
}

static jv float_arith(jx *x, jop op, double a, double b)
{
    if (b == 0 && (op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD))
        lr_jx_fail(x, LARDER_FORMAT, "float division by zero");
    double m;
    switch (op) {
    case OP_ADD: return jv_float(a + b);
    case OP_SUB: return jv_float(a - b);
    case OP_MUL: return jv_float(a * b);
    case OP_DIV: return jv_float(a / b);
    case OP_FLOORDIV: m = fmod(a, b); return jv_float(floor((a - m) / b + 0.5) - (m != 0 && (m < 0) != (b < 0)));
    case OP_MOD:
        m = fmod(a, b);
        if (m != 0 && (m < 0) != (b < 0)) m += b;
        return jv_float(m != 0 ? m : copysign(0.0, b));
    default: break;
    }
    if (a == 0 && b < 0) lr_jx_fail(x, LARDER_FORMAT, "0.0 cannot be raised to a negative power");
    if (a < 0 && floor(b) != b) lr_jx_fail(x, LARDER_FORMAT, "a complex number is not supported");
    m = pow(a, b);
    if (isinf(m) && !isinf(a) && !isinf(b)) lr_jx_fail(x, LARDER_FORMAT, "result too large");
    return jv_float(m);
}

static jv join_strings(jx *x, const jstr *a, const jstr *b)
{
    bool safe = a->safe || b->safe;
    if (safe && !a->safe) a = lr_js_escape(x, a).u.s;
    if (safe && !b->safe) b = lr_js_escape(x, b).u.s;
    /* a ends where its buffer ends: nobody else has written there, so b can follow in place */
    jbuf *buf = a->buf;
    if (!buf || buf->n != a->n || buf->p != a->p || buf == x->out) {
        buf = lr_jbuf_new(x);
        lr_jbuf_str(x, buf, a);
    }
    lr_jbuf_str(x, buf, b);
    jv out = lr_jbuf_value(x, buf);
    out.u.s->safe = safe;
    return out;
}

static jv repeat(jx *x, jv v, int64_t times)
{
    if (times < 0) times = 0;
    size_t n = v.k == V_STR ? v.u.s->n : v.u.q->n;
    if (n && (uint64_t)times > x->budget.n_output / n)
        lr_jx_fail(x, LARDER_LIMIT, "the template makes a value that is too long");
    if (v.k == V_STR) {
        jbuf *b = lr_jbuf_new(x);
        for (int64_t i = 0; n && i < times; i++) {
            lr_jx_step(x);
            lr_jbuf_str(x, b, v.u.s);
        }
        return lr_jbuf_value(x, b);
    }
    jseq *q = lr_jq_new(x, v.u.q->flavor, 0);
    for (int64_t i = 0; n && i < times; i++)
        for (size_t k = 0; k < n; k++) {
            lr_jx_step(x);
            lr_jq_push(x, q, v.u.q->p[k]);
        }
    return jv_seq(q);
}

static bool repeatable(jv v) { return v.k == V_STR || (v.k == V_SEQ && v.u.q->flavor <= Q_TUPLE); }

jv lr_jv_arith(jx *x, jop op, jv a, jv b)
{
    static const char *const names[] = {"+", "-", "*", "/", "//", "%", "**"};
    if (op == OP_MOD && a.k == V_STR) return lr_jv_percent(x, a.u.s, b);
    if (a.k == V_UNDEF) undefined(x, a);
    if (b.k == V_UNDEF) undefined(x, b);
    if (is_int(a) && is_int(b)) return int_arith(x, op, as_int(a), as_int(b));
    if (lr_jv_number(a) && lr_jv_number(b)) return float_arith(x, op, lr_jv_double(a), lr_jv_double(b));
    if (op == OP_ADD && a.k == V_STR && b.k == V_STR) return join_strings(x, a.u.s, b.u.s);
    if (op == OP_ADD && a.k == V_SEQ && b.k == V_SEQ && a.u.q->flavor == b.u.q->flavor && a.u.q->flavor <= Q_TUPLE) {
        jseq *q = lr_jq_new(x, a.u.q->flavor, a.u.q->n + b.u.q->n);
        for (size_t i = 0; i < a.u.q->n; i++) lr_jq_push(x, q, a.u.q->p[i]);
        for (size_t i = 0; i < b.u.q->n; i++) lr_jq_push(x, q, b.u.q->p[i]);
        return jv_seq(q);
    }
    if (op == OP_MUL && repeatable(a) && is_int(b)) return repeat(x, a, as_int(b));
    if (op == OP_MUL && repeatable(b) && is_int(a)) return repeat(x, b, as_int(a));
    lr_jx_fail(x, LARDER_FORMAT, "unsupported operand types for %s: '%s' and '%s'", names[op], lr_jv_type(a),
               lr_jv_type(b));
}

/* ---------------------------------------------------------------- subscripts */
jv lr_jv_item(jx *x, jv obj, jv key)
{
    if (obj.k == V_UNDEF) undefined(x, obj);
    if (obj.k == V_DICT) {
        if (key.k == V_DICT || (key.k == V_SEQ && key.u.q->flavor == Q_LIST)) return jv_undef(NULL);
        jv *v = lr_jd_find(x, obj.u.d, key);
        if (v) return *v;
    } else if ((obj.k == V_STR || (obj.k == V_SEQ && (obj.u.q->flavor <= Q_TUPLE || obj.u.q->flavor == Q_RANGE))) &&
               is_int(key)) {
        int64_t n = 0, i = as_int(key);
        lr_jv_length(x, obj, &n);
        if (i < 0) i += n;
        if (i < 0 || i >= n) return jv_undef("an element beyond the end");
        if (obj.k == V_SEQ) return obj.u.q->p[i];
        size_t at = lr_js_offset(x, obj.u.s, (size_t)i);
        return lr_jv_sub(x, obj.u.s, at, LR_MIN(lr_cp_len((uint8_t)obj.u.s->p[at]), obj.u.s->n - at));
    }
    if (key.k == V_STR) {
        jv v = lr_jv_attr(x, obj, (lr_str){key.u.s->p, key.u.s->n});
        if (v.k != V_UNDEF) return v;
        char *hint = lr_jx_alloc(x, 96);
        snprintf(hint, 96, "'%.*s'", (int)LR_MIN(key.u.s->n, (size_t)80), key.u.s->p);
        return jv_undef(hint);
    }
    return jv_undef("an element");
}

static int64_t clamp(int64_t i, int64_t n, int64_t step)
{
    if (i < 0) {
        i += n;
        if (i < 0) return step < 0 ? -1 : 0;
    }
    return i >= n ? (step < 0 ? n - 1 : n) : i;
}

jv lr_jv_slice(jx *x, jv obj, jv from, jv to, jv step)
{
    if (obj.k == V_UNDEF) undefined(x, obj);
    if (obj.k != V_STR && !(obj.k == V_SEQ && (obj.u.q->flavor <= Q_TUPLE || obj.u.q->flavor == Q_RANGE)))
        return jv_undef("a slice");
    int64_t n = 0, s = step.k == V_NONE ? 1 : lr_jv_index(x, step, "slice step");
    lr_jv_length(x, obj, &n);
    if (s == 0) lr_jx_fail(x, LARDER_FORMAT, "slice step cannot be zero");
    int64_t a = from.k == V_NONE ? (s < 0 ? n - 1 : 0) : clamp(lr_jv_index(x, from, "slice index"), n, s);
    int64_t b = to.k == V_NONE ? (s < 0 ? -1 : n) : clamp(lr_jv_index(x, to, "slice index"), n, s);
    if (s > n) s = LR_MAX(n, 1);
    if (s < -n) s = -LR_MAX(n, 1);
    if (obj.k == V_STR) {
        jstr *str = obj.u.s;
        if (s == 1) {
            size_t p = lr_js_offset(x, str, (size_t)a), q = b > a ? lr_js_offset(x, str, (size_t)b) : p;
            return lr_jv_sub(x, str, p, q - p);
        }
        jbuf *out = lr_jbuf_new(x);
        bool ascii = lr_js_count(x, str) == str->n;
        size_t *at = NULL;
        if (!ascii) {
            at = lr_jx_array(x, (size_t)n + 1, sizeof *at);
            for (size_t i = 0, k = 0; i < str->n; i += lr_cp_len((uint8_t)str->p[i])) at[k++] = i;
            at[n] = str->n;
        }
        for (int64_t i = a; s > 0 ? i < b : i > b; i += s) {
            lr_jx_step(x);
            size_t p = ascii ? (size_t)i : at[i];
            lr_jbuf_sub(x, out, str, p, ascii ? 1 : at[i + 1] - p);
        }
        return lr_jbuf_value(x, out);
    }
    jseq *q = lr_jq_new(x, obj.u.q->flavor, 0);
    for (int64_t i = a; s > 0 ? i < b : i > b; i += s) lr_jq_push(x, q, obj.u.q->p[i]);
    return jv_seq(q);
}

/* ---------------------------------------------------------------- iteration */
jseq *lr_jv_iter(jx *x, jv v)
{
    jseq *q;
    switch (v.k) {
    case V_UNDEF: return lr_jq_new(x, Q_LIST, 0);
    case V_SEQ:
        if (v.u.q->flavor != Q_GEN) return v.u.q;
        q = lr_jq_new(x, Q_LIST, 0);
        *q = *v.u.q;
        q->flavor = Q_LIST;
        v.u.q->n = 0;
        return q;
    case V_STR: {
        jstr *s = v.u.s;
        q = lr_jq_new(x, Q_LIST, lr_js_count(x, s));
        for (size_t i = 0; i < s->n;) {
            size_t n = LR_MIN(lr_cp_len((uint8_t)s->p[i]), s->n - i);
            lr_jq_push(x, q, lr_jv_sub(x, s, i, n));
            i += n;
        }
        return q;
    }
    case V_DICT:
        q = lr_jq_new(x, Q_LIST, v.u.d->n);
        for (size_t i = 0; i < v.u.d->n; i++) lr_jq_push(x, q, v.u.d->key[i]);
        return q;
    default: lr_jx_fail(x, LARDER_FORMAT, "'%s' object is not iterable", lr_jv_type(v));
    }
}

jv lr_jv_dict_items(jx *x, const jdict *d)
{
    jseq *q = lr_jq_new(x, Q_VIEW, d->n);
    for (size_t i = 0; i < d->n; i++) {
        jseq *pair = lr_jq_new(x, Q_TUPLE, 2);
        lr_jq_push(x, pair, d->key[i]);
        lr_jq_push(x, pair, d->val[i]);
        lr_jq_push(x, q, jv_seq(pair));
    }
    return jv_seq(q);
}
