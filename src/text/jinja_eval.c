/* jinja_eval.c - walks the syntax tree: names and scopes, expressions, statements, macros, globals.
 *
 * Scopes are Jinja's: for, macro, call, filter, with and block set open one; if does not. What a scope sets is gone after
 * it, except attributes of a namespace. Names are looked for in the scopes, then among the trusted variables, the
 * globals, and last the data, so that data can replace neither.
 */
#include "jinja.h"

typedef enum flow { GO, BREAK, CONTINUE } flow;

static jv eval(jx *x, const jnode *n);
static flow exec(jx *x, const jnode *n);

/* ---------------------------------------------------------------- scopes */
static jscope *push_scope(jx *x, jscope *up)
{
    jscope *s = lr_jx_alloc(x, sizeof *s), *old = x->scope;
    *s = (jscope){.up = up};
    x->scope = s;
    return old;
}

static void set_var(jx *x, const lr_str *name, jv v)
{
    size_t looked = 0;
    for (jvar *i = x->scope->vars; i; i = i->next, looked += 8) {
        if (i->name != name) continue;
        i->val = v;
        lr_jx_charge(x, looked);
        return;
    }
    lr_jx_charge(x, looked);
    jvar *i = lr_jx_alloc(x, sizeof *i);
    *i = (jvar){.name = name, .val = v, .next = x->scope->vars};
    x->scope->vars = i;
}

static jv lookup(jx *x, const lr_str *name)
{
    size_t looked = 0;
    for (jscope *s = x->scope; s; s = s->up)
        for (jvar *i = s->vars; i; i = i->next, looked += 8)
            if (i->name == name) {
                lr_jx_charge(x, looked);
                return i->val;
            }
    lr_jx_charge(x, looked);
    jv *v = lr_jd_find_name(x, x->trusted, *name);
    if (v) return *v;
    int fn = lr_jglobal_find(*name);
    if (fn >= 0) return (jv){.k = V_FUNC, .u.fn = fn};
    v = lr_jd_find_name(x, x->vars, *name);
    return v ? *v : jv_undef(name->p - 1);
}

static void set_special(jx *x, jspecial name, jv v)
{
    if (x->t->special[name]) set_var(x, x->t->special[name], v);
}

static void assign(jx *x, const jnode *target, jv v)
{
    if (target->kind == N_NAME) {
        set_var(x, target->name, v);
    } else if (target->kind == N_ATTR) {
        jv obj = lookup(x, target->a->name);
        if (obj.k != V_NS) lr_jx_fail(x, LARDER_FORMAT, "cannot assign attribute on non-namespace object");
        lr_jd_set(x, obj.u.d, lr_jv_str(x, target->name->p, target->name->n, true), v);
    } else {
        if (v.k == V_UNDEF) lr_jx_fail(x, LARDER_FORMAT, "%s is undefined", v.u.hint ? v.u.hint : "a value");
        jseq *q = lr_jv_iter(x, v);
        if (q->n != target->n)
            lr_jx_fail(x, LARDER_FORMAT, "cannot unpack %zu values into %zu names", q->n, target->n);
        lr_jx_enter(x);
        for (size_t i = 0; i < target->n; i++) assign(x, target->list[i], q->p[i]);
        lr_jx_leave(x);
    }
}

/* ---------------------------------------------------------------- calls */
static void add_kw(jx *x, jargs *a, size_t *cap, lr_str name, jv v)
{
    lr_jx_charge(x, a->n_kw * 16);
    for (size_t i = 0; i < a->n_kw; i++)
        if (lr_str_eq(a->kw[i].name, name))
            lr_jx_fail(x, LARDER_FORMAT, "argument '%.*s' is given twice", LR_STR_ARG(name));
    if (a->n_kw == *cap) {
        *cap = *cap ? *cap * 2 : 4;
        jkw *kw = lr_jx_array(x, *cap, sizeof *kw);
        if (a->n_kw) memcpy(kw, a->kw, a->n_kw * sizeof *kw);
        a->kw = kw;
    }
    a->kw[a->n_kw++] = (jkw){name, v};
}

static jargs eval_args(jx *x, jnode *const *list, size_t n)
{
    jseq *pos = lr_jq_new(x, Q_LIST, n);
    jargs a = {0};
    size_t cap = 0;
    for (size_t i = 0; i < n; i++) {
        const jnode *arg = list[i];
        if (arg->kind == N_KW) {
            add_kw(x, &a, &cap, *arg->name, eval(x, arg->a));
        } else if (arg->kind == N_STAR) {
            jseq *q = lr_jv_iter(x, eval(x, arg->a));
            for (size_t k = 0; k < q->n; k++) lr_jq_push(x, pos, q->p[k]);
        } else if (arg->kind == N_STARSTAR) {
            jv d = eval(x, arg->a);
            if (d.k != V_DICT)
                lr_jx_fail(x, LARDER_FORMAT, "argument after ** must be a mapping, not %s", lr_jv_type(d));
            for (size_t k = 0; k < d.u.d->n; k++) {
                jv key = d.u.d->key[k];
                if (key.k != V_STR) lr_jx_fail(x, LARDER_FORMAT, "keywords must be strings");
                add_kw(x, &a, &cap, (lr_str){key.u.s->p, key.u.s->n}, d.u.d->val[k]);
            }
        } else {
            lr_jq_push(x, pos, eval(x, arg));
        }
    }
    a.p = pos->p;
    a.n = pos->n;
    return a;
}

/* Runs body with output going to a new string. */
static jv capture(jx *x, const jnode *body)
{
    jbuf *old = x->out;
    x->out = lr_jbuf_new(x);
    exec(x, body); /* the parser has seen to it that no break leaves it */
    jv v = lr_jbuf_value(x, x->out);
    x->out = old;
    return v;
}

/* Keyword arguments that are no parameter: caller, or kwargs if the body names it. */
static void extra_keywords(jx *x, const jnode *m, const jargs *a)
{
    jdict *rest = lr_jd_new(x, 0);
    for (size_t k = 0; k < a->n_kw; k++) {
        bool param = false;
        for (size_t i = 0; i < m->n && !param; i++) param = lr_str_eq(*m->list[i]->name, a->kw[k].name);
        if (param) continue;
        if (lr_str_is(a->kw[k].name, "caller") && (m->op & MACRO_CALLER)) {
            set_special(x, NAME_CALLER, a->kw[k].val);
        } else if (m->op & MACRO_KWARGS) {
            lr_jd_set(x, rest, lr_jv_str(x, a->kw[k].name.p, a->kw[k].name.n, true), a->kw[k].val);
        } else {
            lr_jx_fail(x, LARDER_FORMAT, "macro %s takes no keyword argument '%.*s'", m->name->p - 1,
                       LR_STR_ARG(a->kw[k].name));
        }
    }
    if (m->op & MACRO_KWARGS) set_special(x, NAME_KWARGS, jv_dict(rest));
}

static jv call_macro(jx *x, const jmacro *macro, const jargs *a)
{
    const jnode *m = macro->node;
    jscope *old = push_scope(x, macro->closure);
    size_t pairs; /* every parameter is looked for among the keywords, and the other way about */
    lr_jx_charge(x, lr_mul_size(m->n * 16, a->n_kw, &pairs) ? pairs : SIZE_MAX);
    if (m->op & MACRO_CALLER) set_special(x, NAME_CALLER, jv_undef("caller"));
    for (size_t i = 0; i < m->n; i++) {
        const jnode *param = m->list[i];
        jv v;
        bool given = false;
        for (size_t k = 0; k < a->n_kw && !given; k++) {
            given = lr_str_eq(a->kw[k].name, *param->name);
            if (given) v = a->kw[k].val;
        }
        if (given && i < a->n)
            lr_jx_fail(x, LARDER_FORMAT, "macro %s got two values for %s", m->name->p - 1, param->name->p - 1);
        if (i < a->n) v = a->p[i];
        else if (!given) v = param->a ? eval(x, param->a) : jv_undef(param->name->p - 1);
        set_var(x, param->name, v);
    }
    if (a->n > m->n && !(m->op & MACRO_VARARGS))
        lr_jx_fail(x, LARDER_FORMAT, "macro %s takes not more than %zu argument(s)", m->name->p - 1, m->n);
    if (m->op & MACRO_VARARGS) {
        jseq *more = lr_jq_new(x, Q_TUPLE, 0);
        for (size_t i = m->n; i < a->n; i++) lr_jq_push(x, more, a->p[i]);
        set_special(x, NAME_VARARGS, jv_seq(more));
    }
    extra_keywords(x, m, a);
    jv out = capture(x, m->c);
    x->scope = old;
    return out;
}

static flow run_loop(jx *x, const jnode *n, jv items, int depth0);

static jv call_loop(jx *x, const jloop *l, const jargs *a)
{
    if (!l->node->flag) lr_jx_fail(x, LARDER_FORMAT, "the loop is not marked as recursive");
    if (a->n != 1) lr_jx_fail(x, LARDER_FORMAT, "loop() takes one argument");
    jbuf *out = x->out;
    jscope *scope = x->scope;
    x->out = lr_jbuf_new(x);
    x->scope = l->scope;
    run_loop(x, l->node, a->p[0], l->depth0 + 1);
    jv v = lr_jbuf_value(x, x->out);
    x->out = out;
    x->scope = scope;
    return v;
}

/* ---------------------------------------------------------------- globals */
enum { G_RANGE, G_NAMESPACE, G_DICT, G_RAISE, G_STRFTIME, G_CYCLER, G_JOINER };
static const char *const globals[] = {"range",        "namespace", "dict",  "raise_exception",
                                      "strftime_now", "cycler",    "joiner"};

int lr_jglobal_find(lr_str name)
{
    for (size_t i = 0; i < LR_LEN(globals); i++)
        if (lr_str_is(name, globals[i])) return (int)i;
    return -1;
}

static jv make_range(jx *x, const jargs *a)
{
    enum { MAX_RANGE = 100000 }; /* as Jinja's sandbox */
    if (a->n < 1 || a->n > 3) lr_jx_fail(x, LARDER_FORMAT, "range takes one to three arguments");
    int64_t from = a->n > 1 ? lr_jv_index(x, a->p[0], "range") : 0, to = lr_jv_index(x, a->p[a->n > 1], "range");
    int64_t step = a->n > 2 ? lr_jv_index(x, a->p[2], "range") : 1;
    if (step == 0) lr_jx_fail(x, LARDER_FORMAT, "range() arg 3 must not be zero");
    jseq *q = lr_jq_new(x, Q_RANGE, 0);
    for (int64_t i = from; step > 0 ? i < to : i > to;) {
        if (q->n == MAX_RANGE) lr_jx_fail(x, LARDER_LIMIT, "range too big, at most %d", MAX_RANGE);
        lr_jx_step(x);
        lr_jq_push(x, q, jv_int(i));
        if (__builtin_add_overflow(i, step, &i)) break;
    }
    return jv_seq(q);
}

static jdict *make_dict(jx *x, const jargs *a)
{
    jdict *d = lr_jd_new(x, 0);
    if (a->n > 1) lr_jx_fail(x, LARDER_FORMAT, "dict takes at most one argument");
    if (a->n && a->p[0].k == V_DICT) {
        for (size_t i = 0; i < a->p[0].u.d->n; i++) lr_jd_set(x, d, a->p[0].u.d->key[i], a->p[0].u.d->val[i]);
    } else if (a->n) {
        jseq *pairs = lr_jv_iter(x, a->p[0]);
        for (size_t i = 0; i < pairs->n; i++) {
            jseq *pair = lr_jv_iter(x, pairs->p[i]);
            if (pair->n != 2) lr_jx_fail(x, LARDER_FORMAT, "dict needs pairs");
            lr_jd_set(x, d, pair->p[0], pair->p[1]);
        }
    }
    for (size_t i = 0; i < a->n_kw; i++)
        lr_jd_set(x, d, lr_jv_str(x, a->kw[i].name.p, a->kw[i].name.n, true), a->kw[i].val);
    return d;
}

static jv make_cycle(jx *x, const jargs *a, bool joiner)
{
    jcycle *c = lr_jx_alloc(x, sizeof *c);
    *c = (jcycle){.p = a->p, .n = a->n};
    if (joiner) {
        c->sep = (a->n ? lr_jv_tostr(x, a->p[0]) : lr_jv_str(x, ", ", 2, false)).u.s;
        return (jv){.k = V_JOINER, .u.cycle = c};
    }
    if (!a->n) lr_jx_fail(x, LARDER_FORMAT, "at least one item has to be provided");
    return (jv){.k = V_CYCLER, .u.cycle = c};
}

static _Noreturn void raise_exception(jx *x, const jargs *a)
{
    const jstr *why = a->n ? lr_jv_tostr(x, a->p[0]).u.s : NULL;
    lr_jx_fail(x, LARDER_FORMAT, "%.*s", why ? (int)LR_MIN(why->n, (size_t)300) : 0, why ? why->p : "");
}

static jv call_global(jx *x, int fn, const jargs *a)
{
    switch (fn) {
    case G_RANGE: return make_range(x, a);
    case G_NAMESPACE: return (jv){.k = V_NS, .u.d = make_dict(x, a)};
    case G_DICT: return jv_dict(make_dict(x, a));
    case G_STRFTIME: return lr_jv_strftime(x, a->n ? a->p[0] : jv_none());
    case G_CYCLER: return make_cycle(x, a, false);
    case G_JOINER: return make_cycle(x, a, true);
    default: raise_exception(x, a);
    }
}

jv lr_jx_call(jx *x, jv callee, const jargs *a)
{
    jv out;
    lr_jx_enter(x);
    switch (callee.k) {
    case V_FUNC: out = call_global(x, callee.u.fn, a); break;
    case V_METHOD: out = lr_jmethod_call(x, callee.u.method, a); break;
    case V_MACRO: out = call_macro(x, callee.u.macro, a); break;
    case V_LOOP: out = call_loop(x, callee.u.loop, a); break;
    case V_JOINER:
        out = callee.u.cycle->used ? (jv){.k = V_STR, .u.s = callee.u.cycle->sep} : lr_jv_str(x, "", 0, true);
        callee.u.cycle->used = true;
        break;
    case V_UNDEF: lr_jx_fail(x, LARDER_FORMAT, "%s is undefined", callee.u.hint ? callee.u.hint : "a value");
    default: lr_jx_fail(x, LARDER_FORMAT, "'%s' object is not callable", lr_jv_type(callee));
    }
    lr_jx_leave(x);
    return out;
}

/* ---------------------------------------------------------------- expressions */
static bool compare(jx *x, jop op, jv a, jv b)
{
    static const char *const names[] = {[OP_LT] = "<", [OP_LE] = "<=", [OP_GT] = ">", [OP_GE] = ">="};
    switch (op) {
    case OP_EQ: return lr_jv_equal(x, a, b);
    case OP_NE: return !lr_jv_equal(x, a, b);
    case OP_IN: return lr_jv_in(x, a, b);
    case OP_NOTIN: return !lr_jv_in(x, a, b);
    default: break;
    }
    int c = lr_jv_order(x, a, b, names[op]);
    if (c == 2) return false;
    return op == OP_LT ? c < 0 : op == OP_LE ? c <= 0 : op == OP_GT ? c > 0 : c >= 0;
}

static jv eval_compare(jx *x, const jnode *n)
{
    jv left = eval(x, n->a);
    for (size_t i = 0; i < n->n; i++) {
        jv right = eval(x, n->list[i]->a);
        if (!compare(x, (jop)n->list[i]->op, left, right)) return jv_bool(false);
        left = right;
    }
    return jv_bool(true);
}

static jv eval_list(jx *x, const jnode *n)
{
    jseq *q = lr_jq_new(x, n->kind == N_LIST ? Q_LIST : Q_TUPLE, n->n);
    for (size_t i = 0; i < n->n; i++) lr_jq_push(x, q, eval(x, n->list[i]));
    return jv_seq(q);
}

static jv eval_dict(jx *x, const jnode *n)
{
    jdict *d = lr_jd_new(x, n->n / 2);
    for (size_t i = 0; i + 1 < n->n; i += 2) {
        jv key = eval(x, n->list[i]);
        lr_jd_set(x, d, key, eval(x, n->list[i + 1]));
    }
    return jv_dict(d);
}

/* ~ does not escape, even next to a safe string */
static jv concat_part(jx *x, const jnode *n)
{
    jv v = lr_jv_tostr(x, eval(x, n));
    return v.u.s->safe ? lr_jv_sub(x, v.u.s, 0, v.u.s->n) : v;
}

static jv eval_concat(jx *x, const jnode *n)
{
    jv all = concat_part(x, n->list[0]);
    for (size_t i = 1; i < n->n; i++) all = lr_jv_arith(x, OP_ADD, all, concat_part(x, n->list[i]));
    return all;
}

static jv eval_unary(jx *x, const jnode *n)
{
    jv v = eval(x, n->a);
    if (v.k == V_UNDEF) lr_jx_fail(x, LARDER_FORMAT, "%s is undefined", v.u.hint ? v.u.hint : "a value");
    if (!lr_jv_number(v))
        lr_jx_fail(x, LARDER_FORMAT, "bad operand type for unary %c: '%s'", n->kind == N_NEG ? '-' : '+',
                   lr_jv_type(v));
    if (v.k == V_FLOAT) return jv_float(n->kind == N_NEG ? -v.u.f : v.u.f);
    return lr_jv_arith(x, n->kind == N_NEG ? OP_SUB : OP_ADD, jv_int(0), v);
}

static jv eval_attr(jx *x, const jnode *n)
{
    jv obj = eval(x, n->a);
    if (obj.k == V_UNDEF) lr_jx_fail(x, LARDER_FORMAT, "%s is undefined", obj.u.hint ? obj.u.hint : "a value");
    return lr_jv_attr(x, obj, *n->name);
}

static jv eval_item(jx *x, const jnode *n)
{
    jv obj = eval(x, n->a);
    if (n->b->kind != N_SLICE) return lr_jv_item(x, obj, eval(x, n->b));
    jv part[3];
    for (int i = 0; i < 3; i++) part[i] = n->b->list[i] ? eval(x, n->b->list[i]) : jv_none();
    return lr_jv_slice(x, obj, part[0], part[1], part[2]);
}

static jv eval_call(jx *x, const jnode *n)
{
    jv callee = eval(x, n->a);
    jargs a = eval_args(x, n->list, n->n);
    x->line = n->line;
    return lr_jx_call(x, callee, &a);
}

static jv filtered(jx *x, const jnode *n, jv v)
{
    jargs a = eval_args(x, n->list, n->n);
    x->line = n->line;
    return lr_jfilter_call(x, *n->name, v, &a);
}

static jv eval_logic(jx *x, const jnode *n)
{
    jv left = eval(x, n->a);
    return lr_jv_true(x, left) == (n->kind == N_AND) ? eval(x, n->b) : left;
}

static jv eval_any(jx *x, const jnode *n)
{
    switch (n->kind) {
    case N_CONST: return n->val;
    case N_NAME: return lookup(x, n->name);
    case N_LIST:
    case N_TUPLE: return eval_list(x, n);
    case N_DICT: return eval_dict(x, n);
    case N_ATTR: return eval_attr(x, n);
    case N_ITEM: return eval_item(x, n);
    case N_CALL: return eval_call(x, n);
    case N_FILTER: return filtered(x, n, eval(x, n->a));
    case N_TEST: {
        jv v = eval(x, n->a);
        jargs a = eval_args(x, n->list, n->n);
        return jv_bool(lr_jtest_call(x, *n->name, v, &a));
    }
    case N_NEG:
    case N_POS: return eval_unary(x, n);
    case N_NOT: return jv_bool(!lr_jv_true(x, eval(x, n->a)));
    case N_AND:
    case N_OR: return eval_logic(x, n);
    case N_ARITH: {
        jv a = eval(x, n->a), b = eval(x, n->b);
        return lr_jv_arith(x, (jop)n->op, a, b);
    }
    case N_CONCAT: return eval_concat(x, n);
    case N_COMPARE: return eval_compare(x, n);
    case N_COND:
        if (lr_jv_true(x, eval(x, n->b))) return eval(x, n->a);
        return n->c ? eval(x, n->c) : jv_undef("an inline if without else");
    default: lr_jx_fail(x, LARDER_INTERNAL, "node %d is no expression", n->kind);
    }
}

static jv eval(jx *x, const jnode *n)
{
    lr_jx_step(x);
    lr_jx_enter(x);
    x->line = n->line;
    jv v = eval_any(x, n);
    lr_jx_leave(x);
    return v;
}

/* ---------------------------------------------------------------- statements */
/* The items that pass the loop's `if`, which sees the loop's names but not `loop`. */
static jseq *filter_items(jx *x, const jnode *n, const jseq *q)
{
    jseq *kept = lr_jq_new(x, Q_LIST, 0);
    for (size_t i = 0; i < q->n; i++) {
        jscope *old = push_scope(x, x->scope);
        assign(x, n->a, q->p[i]);
        if (lr_jv_true(x, eval(x, n->c))) lr_jq_push(x, kept, q->p[i]);
        x->scope = old;
    }
    return kept;
}

static flow run_loop(jx *x, const jnode *n, jv items, int depth0)
{
    const jseq *q = lr_jv_iter(x, items);
    if (n->c) q = filter_items(x, n, q);
    jloop *l = lr_jx_alloc(x, sizeof *l);
    *l = (jloop){.items = q->p, .n = q->n, .depth0 = depth0, .node = n, .scope = x->scope};
    flow f = GO;
    for (l->i = 0; l->i < l->n && f != BREAK; l->i++) {
        jscope *old = push_scope(x, l->scope);
        lr_jx_step(x);
        set_special(x, NAME_LOOP, (jv){.k = V_LOOP, .u.loop = l});
        assign(x, n->a, l->items[l->i]);
        f = exec(x, n->list[0]);
        x->scope = old;
    }
    if (l->n == 0 && n->n > 1) {
        jscope *old = push_scope(x, x->scope);
        f = exec(x, n->list[1]);
        x->scope = old;
        return f;
    }
    return GO;
}

static flow exec_if(jx *x, const jnode *n)
{
    for (size_t i = 0; i + 1 < n->n; i += 2)
        if (lr_jv_true(x, eval(x, n->list[i]))) return exec(x, n->list[i + 1]);
    return n->c ? exec(x, n->c) : GO;
}

/* filter blocks and `set x | f`: the innermost filter of the chain has no value of its own */
static jv chain(jx *x, const jnode *n, jv v)
{
    if (!n) return v;
    lr_jx_enter(x);
    if (n->a) v = chain(x, n->a, v);
    lr_jx_leave(x);
    return filtered(x, n, v);
}

static jv capture_scoped(jx *x, const jnode *body)
{
    jscope *old = push_scope(x, x->scope);
    jv v = capture(x, body);
    x->scope = old;
    return v;
}

static jv make_macro(jx *x, const jnode *node)
{
    jmacro *m = lr_jx_alloc(x, sizeof *m);
    *m = (jmacro){.node = node, .closure = x->scope};
    return (jv){.k = V_MACRO, .u.macro = m};
}

static void exec_call_block(jx *x, const jnode *n)
{
    jv callee = eval(x, n->a->a);
    jargs a = eval_args(x, n->a->list, n->a->n);
    jkw *kw = lr_jx_array(x, a.n_kw + 1, sizeof *kw);
    if (a.n_kw) memcpy(kw, a.kw, a.n_kw * sizeof *kw);
    kw[a.n_kw] = (jkw){LR_STR("caller"), make_macro(x, n->b)};
    a.kw = kw;
    a.n_kw++;
    lr_jv_print(x, x->out, lr_jx_call(x, callee, &a));
}

static flow exec_with(jx *x, const jnode *n)
{
    jseq *vals = lr_jq_new(x, Q_LIST, n->n / 2);
    for (size_t i = 1; i < n->n; i += 2) lr_jq_push(x, vals, eval(x, n->list[i]));
    jscope *old = push_scope(x, x->scope);
    for (size_t i = 0; i + 1 < n->n; i += 2) assign(x, n->list[i], vals->p[i / 2]);
    flow f = exec(x, n->c);
    x->scope = old;
    return f;
}

static flow exec_scope(jx *x, const jnode *n)
{
    jscope *old = push_scope(x, x->scope);
    flow f = exec(x, n->c);
    x->scope = old;
    return f;
}

static flow exec_block(jx *x, const jnode *n)
{
    flow f = GO;
    for (size_t i = 0; i < n->n && f == GO; i++) f = exec(x, n->list[i]);
    return f;
}

static flow exec_any(jx *x, const jnode *n)
{
    switch (n->kind) {
    case N_TEXT: lr_jbuf_str(x, x->out, n->val.u.s); return GO;
    case N_OUTPUT: lr_jv_print(x, x->out, eval(x, n->a)); return GO;
    case N_IF: return exec_if(x, n);
    case N_FOR: return run_loop(x, n, eval(x, n->b), 0);
    case N_SET: assign(x, n->a, eval(x, n->b)); return GO;
    case N_SETBLOCK: assign(x, n->a, chain(x, n->b, capture_scoped(x, n->c))); return GO;
    case N_MACRO: set_var(x, n->name, make_macro(x, n)); return GO;
    case N_CALLBLOCK: exec_call_block(x, n); return GO;
    case N_FILTERBLOCK: lr_jv_print(x, x->out, chain(x, n->b, capture_scoped(x, n->c))); return GO;
    case N_WITH: return exec_with(x, n);
    case N_SCOPE: return exec_scope(x, n);
    case N_BLOCK: return exec_block(x, n);
    case N_BREAK: return BREAK;
    case N_CONTINUE: return CONTINUE;
    case N_DO: eval(x, n->a); return GO;
    default: lr_jx_fail(x, LARDER_INTERNAL, "node %d is no statement", n->kind);
    }
}

static flow exec(jx *x, const jnode *n)
{
    lr_jx_step(x);
    lr_jx_enter(x);
    x->line = n->line;
    flow f = exec_any(x, n);
    lr_jx_leave(x);
    return f;
}

void lr_jx_run(jx *x, const jnode *root)
{
    push_scope(x, NULL);
    exec(x, root);
}
