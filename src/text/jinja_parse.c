/* jinja_parse.c - tokens to the syntax tree. Grammar and precedence are Jinja's; what a chat template has no business
 * with (include, import, extends, block) is refused by name. Nesting is bounded: deeper source is an error.
 */
#include "jinja.h"

enum { MAX_DEPTH = 150 };

static jnode *parse_expr(jparse *p);
static jnode *parse_unary(jparse *p, bool with_filter);
static jnode *parse_block(jparse *p, const char *const *ends);

_Noreturn void lr_jp_fail(jparse *p, int line, larder_status st, const char *fmt, ...)
{
    va_list ap;
    char text[400];
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    p->st = line > 0 ? lr_fail(p->err, st, "chat template, line %d: %s", line, text)
                     : lr_fail(p->err, st, "chat template: %s", text);
    longjmp(p->jmp, 1);
}

void *lr_jp_alloc(jparse *p, size_t count, size_t size)
{
    void *m = lr_arena_array(&p->t->arena, count, size);
    if (!m) lr_jp_fail(p, 0, LARDER_NOMEM, "out of memory");
    return m;
}

/* ---------------------------------------------------------------- names */
/* Where the name is in the table, or the hole it belongs in. Names chosen to collide end in an error, not in a long
 * search: at half full no table has honest runs of this length. */
static lr_str **slot_of(jparse *p, lr_str s)
{
    lr_template *t = p->t;
    size_t at = (size_t)lr_hash(s.p, s.n) & (t->cap_names - 1);
    for (int tries = 0; t->names[at] && !lr_str_eq(*t->names[at], s); at = (at + 1) & (t->cap_names - 1))
        if (++tries == 500) lr_jp_fail(p, 0, LARDER_LIMIT, "too many names that look alike");
    return &t->names[at];
}

static void grow_names(jparse *p)
{
    lr_template *t = p->t;
    lr_str **old = t->names;
    size_t n_old = t->cap_names, cap = n_old ? n_old * 2 : 64;
    t->names = lr_jp_alloc(p, cap, sizeof *t->names); /* zeroed */
    t->cap_names = cap;
    for (size_t i = 0; i < n_old; i++)
        if (old[i]) *slot_of(p, *old[i]) = old[i];
}

static const lr_str *intern(jparse *p, lr_str s)
{
    lr_template *t = p->t;
    if (t->n_names * 2 >= t->cap_names) grow_names(p);
    lr_str **slot = slot_of(p, s);
    const lr_str *found = *slot;
    if (found) return found;
    if (t->n_names == 20000) lr_jp_fail(p, 0, LARDER_LIMIT, "too many names");
    lr_str *own = lr_jp_alloc(p, 1, sizeof *own);
    char *quoted = lr_jp_alloc(p, s.n + 3, 1); /* 'name', so that name->p - 1 is ready for messages */
    quoted[0] = quoted[s.n + 1] = '\'';
    memcpy(quoted + 1, s.p, s.n);
    *own = (lr_str){quoted + 1, s.n};
    t->n_names++;
    return *slot = own;
}

/* ---------------------------------------------------------------- tokens */
static jtok *cur(jparse *p) { return &p->tok[p->at]; }
static jtok *peek(jparse *p) { return &p->tok[LR_MIN(p->at + 1, p->n_tok - 1)]; }
static void next(jparse *p)
{
    if (p->at + 1 < p->n_tok) p->at++;
}
static bool tok_is(const jtok *t, jtok_kind kind, const char *text)
{
    return t->kind == kind && lr_str_is(t->text, text);
}
static bool is_op(jparse *p, const char *op) { return tok_is(cur(p), T_OP, op); }
static bool is_name(jparse *p, const char *name) { return tok_is(cur(p), T_NAME, name); }

static bool skip_op(jparse *p, const char *op)
{
    if (!is_op(p, op)) return false;
    next(p);
    return true;
}

static bool skip_name(jparse *p, const char *name)
{
    if (!is_name(p, name)) return false;
    next(p);
    return true;
}

static _Noreturn void unexpected(jparse *p, const char *wanted)
{
    jtok *t = cur(p);
    static const char *const kinds[] = {"the end", "text",   "'{{'",     "'}}'",     "'{%'",
                                        "'%}'",    "a name", "a string", "a number", "a number"};
    if (t->kind == T_NAME || t->kind == T_OP)
        lr_jp_fail(p, t->line, LARDER_FORMAT, "expected %s, found '%.*s'", wanted, LR_STR_ARG(t->text));
    lr_jp_fail(p, t->line, LARDER_FORMAT, "expected %s, found %s", wanted, kinds[t->kind]);
}

static void want_op(jparse *p, const char *op)
{
    if (!skip_op(p, op)) unexpected(p, op);
}

static void want_name(jparse *p, const char *name)
{
    if (!skip_name(p, name)) unexpected(p, name);
}

static void want_block_end(jparse *p)
{
    if (cur(p)->kind != T_BLOCK_END) unexpected(p, "'%}'");
    next(p);
}

static void enter(jparse *p)
{
    if (++p->depth > MAX_DEPTH) lr_jp_fail(p, cur(p)->line, LARDER_LIMIT, "nested too deeply");
}

static jnode *node(jparse *p, jkind_node kind)
{
    jnode *n = lr_jp_alloc(p, 1, sizeof *n);
    n->kind = (uint8_t)kind;
    n->line = cur(p)->line;
    return n;
}

static jnode *node2(jparse *p, jkind_node kind, jnode *a, jnode *b)
{
    jnode *n = node(p, kind);
    n->a = a;
    n->b = b;
    return n;
}

/* Appends to a node's list; capacity doubles at powers of two. */
static void add(jparse *p, jnode *n, jnode *child)
{
    if (n->n == 0 || (n->n >= 4 && (n->n & (n->n - 1)) == 0)) {
        jnode **grown = lr_jp_alloc(p, n->n ? n->n * 2 : 4, sizeof *grown);
        if (n->n) memcpy(grown, n->list, n->n * sizeof *grown);
        n->list = grown;
    }
    n->list[n->n++] = child;
}

static const lr_str *take_name(jparse *p)
{
    if (cur(p)->kind != T_NAME) unexpected(p, "a name");
    const lr_str *name = intern(p, cur(p)->text);
    next(p);
    return name;
}

static jnode *string_node(jparse *p, lr_str s)
{
    jnode *n = node(p, N_CONST);
    jstr *str = lr_jp_alloc(p, 1, sizeof *str);
    *str = (jstr){.p = s.p, .n = s.n, .trusted = true, .n_cp = SIZE_MAX};
    /* counted here: the tree is shared by renderings on several threads and must not change later */
    str->n_cp = 0;
    for (size_t i = 0; i < s.n; i++) str->n_cp += ((uint8_t)s.p[i] & 0xC0) != 0x80;
    n->val = (jv){.k = V_STR, .u.s = str};
    return n;
}

/* ---------------------------------------------------------------- expressions */
static bool at_tuple_end(jparse *p, bool stop_at_in)
{
    jtok *t = cur(p);
    return t->kind == T_VAR_END || t->kind == T_BLOCK_END || t->kind == T_EOF || is_op(p, ")") || is_op(p, "]") ||
           is_op(p, "}") || is_op(p, "=") ||
           (stop_at_in && (is_name(p, "in") || is_name(p, "if") || is_name(p, "recursive")));
}

static jnode *parse_or(jparse *p);

/* a, b, c: a tuple if there is a comma. cond: elements may be `x if y else z`. */
static jnode *parse_tuple(jparse *p, bool cond, bool parens, bool iterable)
{
    jnode *list = node(p, N_TUPLE);
    bool comma = false;
    while (!at_tuple_end(p, iterable)) {
        add(p, list, cond ? parse_expr(p) : parse_or(p));
        if (!skip_op(p, ",")) {
            if (!comma) return list->list[0];
            return list;
        }
        comma = true;
    }
    if (!comma && !parens) unexpected(p, "an expression");
    return list;
}

static jnode *parse_list(jparse *p)
{
    jnode *list = node(p, N_LIST);
    want_op(p, "[");
    while (!is_op(p, "]")) {
        add(p, list, parse_expr(p));
        if (!is_op(p, "]")) want_op(p, ",");
    }
    next(p);
    return list;
}

static jnode *parse_dict(jparse *p)
{
    jnode *dict = node(p, N_DICT);
    want_op(p, "{");
    while (!is_op(p, "}")) {
        add(p, dict, parse_expr(p));
        want_op(p, ":");
        add(p, dict, parse_expr(p));
        if (!is_op(p, "}")) want_op(p, ",");
    }
    next(p);
    return dict;
}

static jnode *parse_string(jparse *p)
{
    lr_str s = cur(p)->text;
    jnode *at = node(p, N_CONST);
    next(p);
    if (cur(p)->kind == T_STRING) { /* "a" "b" */
        lr_buf all = {0};
        lr_buf_add(&all, s.p, s.n);
        for (; cur(p)->kind == T_STRING; next(p)) lr_buf_add(&all, cur(p)->text.p, cur(p)->text.n);
        char *own = all.failed ? NULL : lr_arena_strndup(&p->t->arena, all.p, all.n);
        s = (lr_str){own, all.n};
        lr_buf_free(&all);
        if (!own) lr_jp_fail(p, 0, LARDER_NOMEM, "out of memory");
    }
    jnode *n = string_node(p, s);
    n->line = at->line;
    return n;
}

static jnode *parse_primary(jparse *p)
{
    jtok *t = cur(p);
    jnode *n;
    switch (t->kind) {
    case T_NAME:
        n = node(p, N_CONST);
        if (lr_str_is(t->text, "true") || lr_str_is(t->text, "True")) n->val = jv_bool(true);
        else if (lr_str_is(t->text, "false") || lr_str_is(t->text, "False")) n->val = jv_bool(false);
        else if (lr_str_is(t->text, "none") || lr_str_is(t->text, "None")) n->val = jv_none();
        else {
            n->kind = N_NAME;
            n->name = intern(p, t->text);
            p->special |= lr_str_is(t->text, "varargs") ? MACRO_VARARGS : 0;
            p->special |= lr_str_is(t->text, "kwargs") ? MACRO_KWARGS : 0;
            p->special |= lr_str_is(t->text, "caller") ? MACRO_CALLER : 0;
        }
        next(p);
        return n;
    case T_STRING: return parse_string(p);
    case T_INT:
    case T_FLOAT:
        n = node(p, N_CONST);
        n->val = t->kind == T_INT ? jv_int(t->i) : jv_float(t->f);
        next(p);
        return n;
    default: break;
    }
    if (skip_op(p, "(")) {
        n = parse_tuple(p, true, true, false);
        want_op(p, ")");
        return n;
    }
    if (is_op(p, "[")) return parse_list(p);
    if (is_op(p, "{")) return parse_dict(p);
    unexpected(p, "an expression");
}

/* One subscript: an expression or from:to:step. */
static jnode *parse_index(jparse *p)
{
    jnode *parts[3] = {NULL, NULL, NULL};
    int k = 0;
    bool slice = false;
    for (;;) {
        if (is_op(p, ":")) {
            slice = true;
            next(p);
            if (++k > 2) unexpected(p, "]");
        } else if (is_op(p, "]") || is_op(p, ",")) {
            break;
        } else {
            if (parts[k]) unexpected(p, "]");
            parts[k] = parse_expr(p);
        }
    }
    if (!slice) return parts[0];
    jnode *n = node(p, N_SLICE);
    for (int i = 0; i < 3; i++) add(p, n, parts[i]);
    return n;
}

static jnode *parse_subscript(jparse *p, jnode *obj)
{
    want_op(p, "[");
    jnode *index = parse_index(p);
    if (!index) unexpected(p, "a subscript");
    if (is_op(p, ",")) {
        jnode *tuple = node(p, N_TUPLE);
        add(p, tuple, index);
        while (skip_op(p, ","))
            if (!is_op(p, "]")) add(p, tuple, parse_expr(p));
        index = tuple;
    }
    want_op(p, "]");
    return node2(p, N_ITEM, obj, index);
}

/* (a, b, k=c, *d, **e) into call's list. */
static void parse_args(jparse *p, jnode *call)
{
    want_op(p, "(");
    while (!is_op(p, ")")) {
        jnode *arg;
        if (skip_op(p, "*")) {
            arg = node2(p, N_STAR, parse_expr(p), NULL);
        } else if (skip_op(p, "**")) {
            arg = node2(p, N_STARSTAR, parse_expr(p), NULL);
        } else if (cur(p)->kind == T_NAME && tok_is(peek(p), T_OP, "=")) {
            arg = node(p, N_KW);
            arg->name = take_name(p);
            next(p);
            arg->a = parse_expr(p);
        } else {
            arg = parse_expr(p);
        }
        add(p, call, arg);
        if (!is_op(p, ")")) want_op(p, ",");
    }
    next(p);
}

static jnode *parse_call(jparse *p, jnode *callee)
{
    jnode *n = node2(p, N_CALL, callee, NULL);
    parse_args(p, n);
    return n;
}

static jnode *parse_postfix(jparse *p, jnode *n)
{
    for (;;) {
        if (is_op(p, ".")) {
            next(p);
            if (cur(p)->kind == T_INT) {
                jnode *index = node(p, N_CONST);
                index->val = jv_int(cur(p)->i);
                next(p);
                n = node2(p, N_ITEM, n, index);
            } else {
                jnode *attr = node2(p, N_ATTR, n, NULL);
                attr->name = take_name(p);
                n = attr;
            }
        } else if (is_op(p, "[")) {
            n = parse_subscript(p, n);
        } else if (is_op(p, "(")) {
            n = parse_call(p, n);
        } else {
            return n;
        }
    }
}

static const lr_str *dotted_name(jparse *p)
{
    const lr_str *name = take_name(p);
    while (is_op(p, ".")) {
        next(p);
        char text[128];
        int n = snprintf(text, sizeof text, "%.*s.%.*s", LR_STR_ARG(*name), LR_STR_ARG(cur(p)->text));
        if (cur(p)->kind != T_NAME || n < 0 || (size_t)n >= sizeof text) unexpected(p, "a name");
        char *own = lr_arena_strndup(&p->t->arena, text, (size_t)n);
        if (!own) lr_jp_fail(p, 0, LARDER_NOMEM, "out of memory");
        name = intern(p, (lr_str){own, (size_t)n});
        next(p);
    }
    return name;
}

static jnode *parse_filter(jparse *p, jnode *value)
{
    jnode *n = node2(p, N_FILTER, value, NULL);
    n->name = dotted_name(p);
    if (is_op(p, "(")) parse_args(p, n);
    return n;
}

static jnode *parse_test(jparse *p, jnode *value)
{
    bool negated = skip_name(p, "not");
    jnode *n = node2(p, N_TEST, value, NULL);
    n->name = dotted_name(p);
    jtok *t = cur(p);
    bool starts = t->kind == T_STRING || t->kind == T_INT || t->kind == T_FLOAT || is_op(p, "[") || is_op(p, "{");
    bool word = t->kind == T_NAME && !is_name(p, "else") && !is_name(p, "or") && !is_name(p, "and") &&
                !is_name(p, "if") && !is_name(p, "in") && !is_name(p, "not");
    if (is_op(p, "(")) {
        parse_args(p, n);
    } else if (starts || word) {
        if (is_name(p, "is")) lr_jp_fail(p, t->line, LARDER_FORMAT, "tests with 'is' cannot be chained");
        add(p, n, parse_postfix(p, parse_primary(p)));
    }
    return negated ? node2(p, N_NOT, n, NULL) : n;
}

static jnode *parse_filters(jparse *p, jnode *n)
{
    for (;;) {
        if (skip_op(p, "|")) n = parse_filter(p, n);
        else if (skip_name(p, "is")) n = parse_test(p, n);
        else if (is_op(p, "(")) n = parse_call(p, n);
        else return n;
    }
}

static jnode *parse_unary(jparse *p, bool with_filter)
{
    enter(p);
    jnode *n;
    if (is_op(p, "-") || is_op(p, "+")) {
        n = node(p, is_op(p, "-") ? N_NEG : N_POS);
        next(p);
        n->a = parse_unary(p, false);
    } else {
        n = parse_primary(p);
    }
    n = parse_postfix(p, n);
    if (with_filter) n = parse_filters(p, n);
    p->depth--;
    return n;
}

typedef struct binop {
    const char *text;
    jop op;
} binop;

static bool take_op(jparse *p, const binop *ops, size_t n, jop *out)
{
    for (size_t i = 0; i < n; i++)
        if (skip_op(p, ops[i].text)) {
            *out = ops[i].op;
            return true;
        }
    return false;
}

static jnode *arith(jparse *p, jop op, jnode *a, jnode *b)
{
    jnode *n = node2(p, N_ARITH, a, b);
    n->op = (uint8_t)op;
    return n;
}

static jnode *parse_product(jparse *p)
{
    static const binop ops[] = {{"*", OP_MUL}, {"/", OP_DIV}, {"//", OP_FLOORDIV}, {"%", OP_MOD}};
    jnode *n = parse_unary(p, true);
    for (;;) {
        /* ** binds tighter than * but both lean left here, as in Jinja */
        while (skip_op(p, "**")) n = arith(p, OP_POW, n, parse_unary(p, true));
        jop op;
        if (!take_op(p, ops, LR_LEN(ops), &op)) return n;
        jnode *right = parse_unary(p, true);
        while (skip_op(p, "**")) right = arith(p, OP_POW, right, parse_unary(p, true));
        n = arith(p, op, n, right);
    }
}

static jnode *parse_concat(jparse *p)
{
    jnode *n = parse_product(p);
    if (!is_op(p, "~")) return n;
    jnode *all = node(p, N_CONCAT);
    add(p, all, n);
    while (skip_op(p, "~")) add(p, all, parse_product(p));
    return all;
}

static jnode *parse_sum(jparse *p)
{
    static const binop ops[] = {{"+", OP_ADD}, {"-", OP_SUB}};
    jnode *n = parse_concat(p);
    for (jop op; take_op(p, ops, LR_LEN(ops), &op);) n = arith(p, op, n, parse_concat(p));
    return n;
}

static bool take_compare(jparse *p, jop *op)
{
    static const binop ops[] = {{"==", OP_EQ}, {"!=", OP_NE}, {"<=", OP_LE},
                                {">=", OP_GE}, {"<", OP_LT},  {">", OP_GT}};
    if (take_op(p, ops, LR_LEN(ops), op)) return true;
    if (skip_name(p, "in")) {
        *op = OP_IN;
        return true;
    }
    if (is_name(p, "not") && tok_is(peek(p), T_NAME, "in")) {
        next(p);
        next(p);
        *op = OP_NOTIN;
        return true;
    }
    return false;
}

static jnode *parse_compare(jparse *p)
{
    jnode *n = parse_sum(p), *all = NULL;
    for (jop op; take_compare(p, &op);) {
        if (!all) all = node2(p, N_COMPARE, n, NULL);
        jnode *operand = node(p, N_KW);
        operand->op = (uint8_t)op;
        operand->a = parse_sum(p);
        add(p, all, operand);
    }
    return all ? all : n;
}

static jnode *parse_not(jparse *p)
{
    if (!is_name(p, "not")) return parse_compare(p);
    enter(p);
    jnode *n = node(p, N_NOT);
    next(p);
    n->a = parse_not(p);
    p->depth--;
    return n;
}

static jnode *parse_and(jparse *p)
{
    jnode *n = parse_not(p);
    while (skip_name(p, "and")) n = node2(p, N_AND, n, parse_not(p));
    return n;
}

static jnode *parse_or(jparse *p)
{
    jnode *n = parse_and(p);
    while (skip_name(p, "or")) n = node2(p, N_OR, n, parse_and(p));
    return n;
}

static jnode *parse_expr(jparse *p)
{
    enter(p);
    jnode *n = parse_or(p);
    while (skip_name(p, "if")) {
        jnode *cond = node2(p, N_COND, n, parse_or(p));
        if (skip_name(p, "else")) cond->c = parse_expr(p);
        n = cond;
    }
    p->depth--;
    return n;
}

/* ---------------------------------------------------------------- statements */
static jnode *parse_target_one(jparse *p, bool attribute)
{
    jnode *n = node(p, N_NAME);
    if (skip_op(p, "(")) {
        enter(p);
        n->kind = N_TUPLE;
        while (!is_op(p, ")")) {
            add(p, n, parse_target_one(p, attribute));
            if (!is_op(p, ")")) want_op(p, ",");
        }
        next(p);
        p->depth--;
        return n;
    }
    n->name = take_name(p);
    if (attribute && skip_op(p, ".")) {
        jnode *attr = node2(p, N_ATTR, n, NULL);
        attr->name = take_name(p);
        return attr;
    }
    return n;
}

static jnode *parse_target(jparse *p, bool attribute)
{
    jnode *n = parse_target_one(p, attribute);
    if (!is_op(p, ",")) return n;
    jnode *tuple = node(p, N_TUPLE);
    add(p, tuple, n);
    while (skip_op(p, ","))
        if (!is_name(p, "in") && !is_op(p, "=")) add(p, tuple, parse_target_one(p, attribute));
    return tuple;
}

/* Parses until a block whose name is in `ends`; the name is left as the current token. */
static jnode *parse_body(jparse *p, const char *const *ends)
{
    want_block_end(p);
    return parse_block(p, ends);
}

/* A body whose output is captured: a break cannot leave it. */
static jnode *parse_captured(jparse *p, const char *const *ends)
{
    int loops = p->n_loops;
    p->n_loops = 0;
    jnode *body = parse_body(p, ends);
    p->n_loops = loops;
    return body;
}

static void parse_end(jparse *p, const char *name)
{
    want_name(p, name);
    want_block_end(p);
}

static jnode *parse_if(jparse *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    jnode *n = node(p, N_IF);
    do {
        next(p); /* if, elif */
        add(p, n, parse_tuple(p, false, false, false));
        /* Jinja's condition is a tuple without inline if; `if a if b` never stands there */
        add(p, n, parse_body(p, ends));
    } while (is_name(p, "elif"));
    if (skip_name(p, "else")) {
        static const char *const end[] = {"endif", NULL};
        n->c = parse_body(p, end);
    }
    parse_end(p, "endif");
    return n;
}

static jnode *parse_for(jparse *p)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    jnode *n = node(p, N_FOR);
    next(p);
    n->a = parse_target(p, false);
    want_name(p, "in");
    n->b = parse_tuple(p, false, false, true);
    if (skip_name(p, "if")) n->c = parse_expr(p);
    n->flag = skip_name(p, "recursive");
    p->n_loops++;
    add(p, n, parse_body(p, ends));
    p->n_loops--;
    if (skip_name(p, "else")) {
        static const char *const end[] = {"endfor", NULL};
        add(p, n, parse_body(p, end));
    }
    parse_end(p, "endfor");
    return n;
}

static jnode *parse_filter_chain(jparse *p, jnode *chain)
{
    while (skip_op(p, "|")) chain = parse_filter(p, chain);
    return chain;
}

static jnode *parse_set(jparse *p)
{
    jnode *n = node(p, N_SET);
    next(p);
    n->a = parse_target(p, true);
    if (skip_op(p, "=")) {
        n->b = parse_tuple(p, true, false, false);
        want_block_end(p);
        return n;
    }
    static const char *const ends[] = {"endset", NULL};
    n->kind = N_SETBLOCK;
    n->b = parse_filter_chain(p, NULL);
    n->c = parse_captured(p, ends);
    parse_end(p, "endset");
    return n;
}

static void parse_params(jparse *p, jnode *macro)
{
    want_op(p, "(");
    while (!is_op(p, ")")) {
        jnode *param = node(p, N_KW);
        param->name = take_name(p);
        if (skip_op(p, "=")) param->a = parse_expr(p);
        else if (macro->n && macro->list[macro->n - 1]->a)
            lr_jp_fail(p, param->line, LARDER_FORMAT, "a parameter without a default follows one with");
        add(p, macro, param);
        if (!is_op(p, ")")) want_op(p, ",");
    }
    next(p);
}

static jnode *parse_macro(jparse *p)
{
    static const char *const ends[] = {"endmacro", NULL};
    jnode *n = node(p, N_MACRO);
    next(p);
    n->name = take_name(p);
    int outer = p->special;
    p->special = 0;
    parse_params(p, n);
    n->c = parse_captured(p, ends);
    n->op = (uint8_t)p->special;
    p->special = outer;
    want_name(p, "endmacro");
    if (cur(p)->kind == T_NAME) next(p);
    want_block_end(p);
    return n;
}

static jnode *parse_call_block(jparse *p)
{
    static const char *const ends[] = {"endcall", NULL};
    jnode *n = node(p, N_CALLBLOCK), *macro = node(p, N_MACRO);
    next(p);
    macro->name = intern(p, LR_STR("caller"));
    if (is_op(p, "(")) parse_params(p, macro);
    n->a = parse_expr(p);
    if (n->a->kind != N_CALL) lr_jp_fail(p, n->line, LARDER_FORMAT, "a call block needs a call");
    macro->c = parse_captured(p, ends);
    n->b = macro;
    parse_end(p, "endcall");
    return n;
}

static jnode *parse_filter_block(jparse *p)
{
    static const char *const ends[] = {"endfilter", NULL};
    jnode *n = node(p, N_FILTERBLOCK);
    next(p);
    n->b = parse_filter_chain(p, parse_filter(p, NULL));
    n->c = parse_captured(p, ends);
    parse_end(p, "endfilter");
    return n;
}

static jnode *parse_with(jparse *p)
{
    static const char *const ends[] = {"endwith", NULL};
    jnode *n = node(p, N_WITH);
    next(p);
    while (cur(p)->kind != T_BLOCK_END) {
        if (n->n) want_op(p, ",");
        add(p, n, parse_target_one(p, false));
        want_op(p, "=");
        add(p, n, parse_expr(p));
    }
    n->c = parse_body(p, ends);
    parse_end(p, "endwith");
    return n;
}

static jnode *parse_generation(jparse *p)
{
    static const char *const ends[] = {"endgeneration", NULL};
    jnode *n = node(p, N_SCOPE);
    next(p);
    n->c = parse_body(p, ends);
    parse_end(p, "endgeneration");
    return n;
}

static jnode *parse_simple(jparse *p, jkind_node kind)
{
    jnode *n = node(p, kind);
    if (kind != N_DO && p->n_loops == 0)
        lr_jp_fail(p, n->line, LARDER_FORMAT, "'%.*s' outside a loop", LR_STR_ARG(cur(p)->text));
    next(p);
    if (kind == N_DO) n->a = parse_tuple(p, true, false, false);
    want_block_end(p);
    return n;
}

static jnode *parse_statement(jparse *p)
{
    static const char *const refused[] = {"include", "import", "from", "extends", "block", "autoescape", "trans"};
    if (cur(p)->kind != T_NAME) unexpected(p, "a tag");
    if (is_name(p, "if")) return parse_if(p);
    if (is_name(p, "for")) return parse_for(p);
    if (is_name(p, "set")) return parse_set(p);
    if (is_name(p, "macro")) return parse_macro(p);
    if (is_name(p, "call")) return parse_call_block(p);
    if (is_name(p, "filter")) return parse_filter_block(p);
    if (is_name(p, "with")) return parse_with(p);
    if (is_name(p, "generation")) return parse_generation(p);
    if (is_name(p, "break")) return parse_simple(p, N_BREAK);
    if (is_name(p, "continue")) return parse_simple(p, N_CONTINUE);
    if (is_name(p, "do")) return parse_simple(p, N_DO);
    for (size_t i = 0; i < LR_LEN(refused); i++)
        if (is_name(p, refused[i]))
            lr_jp_fail(p, cur(p)->line, LARDER_UNSUPPORTED, "'%s' is not allowed in a chat template", refused[i]);
    lr_jp_fail(p, cur(p)->line, LARDER_FORMAT, "unknown or misplaced tag '%.*s'", LR_STR_ARG(cur(p)->text));
}

static jnode *parse_block(jparse *p, const char *const *ends)
{
    enter(p);
    jnode *block = node(p, N_BLOCK);
    for (;;) {
        jtok *t = cur(p);
        if (t->kind == T_EOF) {
            if (ends) lr_jp_fail(p, t->line, LARDER_FORMAT, "the template ends before '%s'", ends[0]);
            break;
        }
        if (t->kind == T_DATA) {
            jnode *text = string_node(p, t->text);
            text->kind = N_TEXT;
            add(p, block, text);
            next(p);
        } else if (t->kind == T_VAR_BEGIN) {
            jnode *out = node(p, N_OUTPUT);
            next(p);
            out->a = parse_tuple(p, true, false, false);
            if (cur(p)->kind != T_VAR_END) unexpected(p, "'}}'");
            next(p);
            add(p, block, out);
        } else {
            next(p); /* {% */
            bool end = false;
            for (size_t i = 0; ends && ends[i]; i++) end |= is_name(p, ends[i]);
            if (end) break;
            add(p, block, parse_statement(p));
        }
    }
    p->depth--;
    return block;
}

void lr_jinja_parse(jparse *p)
{
    static const char *const special[N_SPECIAL] = {"loop", "caller", "kwargs", "varargs"};
    p->t->root = parse_block(p, NULL);
    for (int i = 0; i < N_SPECIAL && p->t->n_names; i++) p->t->special[i] = *slot_of(p, lr_str_of(special[i]));
}
