/* jinja_test.c - Jinja's tests: what may stand after `is`. */
#include "jinja.h"

#include <utf8proc.h>

static jv operand(jx *x, lr_str name, const jargs *a)
{
    if (a->n != 1) lr_jx_fail(x, LARDER_FORMAT, "test '%.*s' needs one argument", LR_STR_ARG(name));
    return a->p[0];
}

static bool is_integer(jv v) { return v.k == V_INT; }
static bool is_sequence(jv v)
{
    return v.k == V_STR || v.k == V_DICT || v.k == V_UNDEF ||
           (v.k == V_SEQ && (v.u.q->flavor <= Q_TUPLE || v.u.q->flavor == Q_RANGE));
}
static bool is_callable(jv v)
{
    return v.k == V_MACRO || v.k == V_FUNC || v.k == V_METHOD || v.k == V_LOOP || v.k == V_JOINER || v.k == V_UNDEF;
}

static bool cased(jx *x, jv v, bool upper)
{
    jv out, text = lr_jv_tostr(x, v);
    jargs none = {0};
    lr_jv_method(x, text, upper ? LR_STR("isupper") : LR_STR("islower"), &out);
    return lr_jv_true(x, lr_jmethod_call(x, out.u.method, &none));
}

static bool modulo(jx *x, jv v, jv by, int64_t rest)
{
    return lr_jv_equal(x, lr_jv_arith(x, OP_MOD, v, by), jv_int(rest));
}

typedef bool unary(jx *x, jv v);
static bool t_defined(jx *x, jv v)
{
    (void)x;
    return v.k != V_UNDEF;
}
static bool t_undefined(jx *x, jv v)
{
    (void)x;
    return v.k == V_UNDEF;
}
static bool t_none(jx *x, jv v)
{
    (void)x;
    return v.k == V_NONE;
}
static bool t_string(jx *x, jv v)
{
    (void)x;
    return v.k == V_STR;
}
static bool t_number(jx *x, jv v)
{
    (void)x;
    return lr_jv_number(v);
}
static bool t_integer(jx *x, jv v)
{
    (void)x;
    return is_integer(v);
}
static bool t_float(jx *x, jv v)
{
    (void)x;
    return v.k == V_FLOAT;
}
static bool t_boolean(jx *x, jv v)
{
    (void)x;
    return v.k == V_BOOL;
}
static bool t_true(jx *x, jv v)
{
    (void)x;
    return v.k == V_BOOL && v.u.b;
}
static bool t_false(jx *x, jv v)
{
    (void)x;
    return v.k == V_BOOL && !v.u.b;
}
static bool t_mapping(jx *x, jv v)
{
    (void)x;
    return v.k == V_DICT;
}
static bool t_sequence(jx *x, jv v)
{
    (void)x;
    return is_sequence(v);
}
static bool t_iterable(jx *x, jv v)
{
    (void)x;
    return v.k == V_STR || v.k == V_DICT || v.k == V_SEQ || v.k == V_UNDEF || v.k == V_LOOP;
}
static bool t_callable(jx *x, jv v)
{
    (void)x;
    return is_callable(v);
}
static bool t_escaped(jx *x, jv v)
{
    (void)x;
    (void)v;
    return false;
}
static bool t_odd(jx *x, jv v) { return modulo(x, v, jv_int(2), 1); }
static bool t_even(jx *x, jv v) { return modulo(x, v, jv_int(2), 0); }
static bool t_upper(jx *x, jv v) { return cased(x, v, true); }
static bool t_lower(jx *x, jv v) { return cased(x, v, false); }

static const struct {
    const char *name;
    unary *fn;
} unaries[] = {
    {"defined", t_defined},   {"undefined", t_undefined}, {"none", t_none},       {"string", t_string},
    {"number", t_number},     {"integer", t_integer},     {"float", t_float},     {"boolean", t_boolean},
    {"true", t_true},         {"false", t_false},         {"mapping", t_mapping}, {"sequence", t_sequence},
    {"iterable", t_iterable}, {"callable", t_callable},   {"escaped", t_escaped}, {"odd", t_odd},
    {"even", t_even},         {"upper", t_upper},         {"lower", t_lower},
};

static const struct {
    const char *name;
    jop op;
} compares[] = {
    {"equalto", OP_EQ}, {"eq", OP_EQ}, {"==", OP_EQ},          {"ne", OP_NE}, {"!=", OP_NE},
    {"lt", OP_LT},      {"<", OP_LT},  {"lessthan", OP_LT},    {"le", OP_LE}, {"<=", OP_LE},
    {"gt", OP_GT},      {">", OP_GT},  {"greaterthan", OP_GT}, {"ge", OP_GE}, {">=", OP_GE},
};

static bool same(jx *x, jv a, jv b)
{
    if (a.k != b.k) return false;
    if (a.k == V_STR || lr_jv_number(a) || a.k == V_NONE || a.k == V_UNDEF || a.k == V_FUNC)
        return lr_jv_equal(x, a, b);
    return a.u.d == b.u.d;
}

bool lr_jtest_call(jx *x, lr_str name, jv v, const jargs *a)
{
    lr_jx_step(x);
    for (size_t i = 0; i < LR_LEN(unaries); i++)
        if (lr_str_is(name, unaries[i].name)) return unaries[i].fn(x, v);
    for (size_t i = 0; i < LR_LEN(compares); i++) {
        if (!lr_str_is(name, compares[i].name)) continue;
        jv b = operand(x, name, a);
        if (compares[i].op == OP_EQ || compares[i].op == OP_NE)
            return lr_jv_equal(x, v, b) == (compares[i].op == OP_EQ);
        int c = lr_jv_order(x, v, b, compares[i].name);
        if (c == 2) return false;
        switch (compares[i].op) {
        case OP_LT: return c < 0;
        case OP_LE: return c <= 0;
        case OP_GT: return c > 0;
        default: return c >= 0;
        }
    }
    if (lr_str_is(name, "in")) return lr_jv_in(x, v, operand(x, name, a));
    if (lr_str_is(name, "divisibleby")) return modulo(x, v, operand(x, name, a), 0);
    if (lr_str_is(name, "sameas")) return same(x, v, operand(x, name, a));
    lr_jx_fail(x, LARDER_UNSUPPORTED, "no test named '%.*s'", LR_STR_ARG(name));
}
