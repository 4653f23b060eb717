/* jinja.h - the parts of the template interpreter, seen by jinja_*.c and template.c only.
 *
 * Owns: the syntax tree, the values, and the state of one rendering.
 * Failing inside the interpreter is a longjmp to the one setjmp of lr_template_new or lr_template_render: everything
 * allocated on the way lies in an arena that the caller of setjmp releases, so there is nothing to unwind.
 *
 * Origin: every string knows, byte by byte, whether the template wrote it (trusted) or the data did.
 */
#ifndef LR_JINJA_H
#define LR_JINJA_H

#include "template.h"

#include <setjmp.h>

/* ---------------------------------------------------------------- syntax tree */
typedef enum jkind_node {
    /* expressions */
    N_CONST,
    N_NAME,
    N_LIST,
    N_TUPLE,
    N_DICT,
    N_ATTR,
    N_ITEM,
    N_SLICE,
    N_CALL,
    N_FILTER,
    N_TEST,
    N_NEG,
    N_POS,
    N_NOT,
    N_AND,
    N_OR,
    N_ARITH,
    N_CONCAT,
    N_COMPARE,
    N_COND,
    /* call arguments */
    N_KW,
    N_STAR,
    N_STARSTAR,
    /* statements */
    N_TEXT,
    N_OUTPUT,
    N_IF,
    N_FOR,
    N_SET,
    N_SETBLOCK,
    N_MACRO,
    N_CALLBLOCK,
    N_FILTERBLOCK,
    N_WITH,
    N_SCOPE,
    N_BLOCK,
    N_BREAK,
    N_CONTINUE,
    N_DO,
} jkind_node;

typedef enum jop {
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOORDIV,
    OP_MOD,
    OP_POW,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOTIN
} jop;

/* What a macro's body names, and so what it accepts beyond its parameters (op of N_MACRO). */
enum { MACRO_VARARGS = 1, MACRO_KWARGS = 2, MACRO_CALLER = 4 };

typedef struct jstr jstr;
typedef struct jseq jseq;
typedef struct jdict jdict;

typedef enum jkind {
    V_UNDEF,
    V_NONE,
    V_BOOL,
    V_INT,
    V_FLOAT,
    V_STR,
    V_SEQ,
    V_DICT,
    V_NS,
    V_MACRO,
    V_FUNC,
    V_METHOD,
    V_LOOP,
    V_CYCLER,
    V_JOINER,
} jkind;

typedef struct jv {
    jkind k;
    union {
        bool b;
        int64_t i;
        double f;
        jstr *s;
        jseq *q;
        jdict *d;         /* V_DICT, V_NS */
        const char *hint; /* V_UNDEF: what was looked for; NULL allowed */
        struct jmacro *macro;
        int fn; /* V_FUNC: index of the global */
        struct jmethod *method;
        struct jloop *loop;
        struct jcycle *cycle; /* V_CYCLER, V_JOINER */
    } u;
} jv;

/* A string of valid UTF-8. mask: one byte per byte, non-zero where trusted; NULL: all of it is `trusted`. */
struct jstr {
    const char *p;
    size_t n;
    const uint8_t *mask;
    bool trusted;
    bool safe;        /* went through |safe or |escape: what is added to it is escaped, as markupsafe does */
    size_t n_cp;      /* code points; SIZE_MAX: not counted yet */
    struct jbuf *buf; /* the growing buffer it ends in, if any: lets `a = a + b` append in place */
};

typedef enum jflavor { Q_LIST, Q_TUPLE, Q_GEN, Q_RANGE, Q_VIEW } jflavor;
struct jseq {
    jflavor flavor;
    jv *p;
    size_t n, cap;
};

struct jdict {
    jv *key, *val;
    size_t n, cap;
};

/* How the fields are used, by kind (x: list elements are in list[0..n)):
 *   CONST val | NAME name | LIST, TUPLE list | DICT list: key, value, ... | ATTR a.name | ITEM a[b]
 *   SLICE list: 3, NULL where absent | CALL a(list) | FILTER a|name(list), a NULL in filter blocks | TEST a is name(list)
 *   NEG, POS, NOT a | AND, OR a b | ARITH a op b | CONCAT list | COMPARE a, list of KW nodes with op and a
 *   COND a if b else c | KW name=a | STAR *a | STARSTAR **a
 *   TEXT val | OUTPUT a | IF list: cond, block, ...; c: else block | FOR a: target, b: iterable, c: filter, list: body,
 *   else; flag: recursive | SET a: target, b: value | SETBLOCK a: target, b: filter chain or NULL, c: body
 *   MACRO name, list: parameters (KW, a = default or NULL), c: body; op: MACRO_...
 *   CALLBLOCK a: call, b: macro node | FILTERBLOCK b: filter chain, c: body | WITH list: target, value, ...; c: body
 *   SCOPE c: body | BLOCK list | DO a */
typedef struct jnode {
    uint8_t kind, op;
    bool flag;
    int line;
    const lr_str *name; /* interned: equal names are the same pointer */
    struct jnode *a, *b, *c;
    struct jnode **list;
    size_t n;
    jv val;
} jnode;

/* Names the evaluator sets itself; of these a template has those that it says. */
typedef enum jspecial { NAME_LOOP, NAME_CALLER, NAME_KWARGS, NAME_VARARGS, N_SPECIAL } jspecial;

struct lr_template {
    lr_arena arena;
    jnode *root;
    lr_str **names; /* a table by hash, with holes: cap_names is a power of two */
    size_t n_names, cap_names;
    const lr_str *special[N_SPECIAL]; /* interned; NULL: the template never says it */
};

/* ---------------------------------------------------------------- lexer (jinja_lex.c) */
typedef enum jtok_kind {
    T_EOF,
    T_DATA,
    T_VAR_BEGIN,
    T_VAR_END,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_NAME,
    T_STRING,
    T_INT,
    T_FLOAT,
    T_OP,
} jtok_kind;
typedef struct jtok {
    jtok_kind kind;
    int line;
    lr_str text; /* DATA, NAME, OP: as written; STRING: with escapes resolved */
    int64_t i;
    double f;
} jtok;
typedef struct jparse {
    jmp_buf jmp;
    larder_error *err;
    larder_status st;
    lr_template *t;
    jtok *tok;
    size_t n_tok, cap_tok, at;
    int depth;
    int n_loops; /* that break may leave */
    int special; /* MACRO_...: named in the macro being read */
} jparse;
_Noreturn void lr_jp_fail(jparse *p, int line, larder_status st, const char *fmt, ...) LR_PRINTF(4, 5);
void *lr_jp_alloc(jparse *p, size_t count, size_t size);
void lr_jinja_lex(jparse *p, lr_str source);
void lr_jinja_parse(jparse *p); /* jinja_parse.c: tokens to p->t->root */

/* ---------------------------------------------------------------- the state of one rendering */
typedef struct jbuf {
    char *p;
    uint8_t *mask;
    size_t n, cap;
    bool any_trusted, any_data;
} jbuf;

typedef struct jvar {
    const lr_str *name;
    jv val;
    struct jvar *next;
} jvar;
typedef struct jscope {
    struct jscope *up;
    jvar *vars;
} jscope;

typedef struct jmacro {
    const jnode *node;
    jscope *closure;
    jv caller;
} jmacro;
typedef struct jmethod {
    jv self;
    const struct jmethod_def *def;
} jmethod;
typedef struct jloop {
    jv *items;
    size_t n, i;
    int depth0;
    jv changed; /* of loop.changed(...) */
    bool has_changed;
    const jnode *node; /* recursive loops: what loop(...) runs again */
    jscope *scope;
} jloop;
typedef struct jcycle {
    jv *p;
    size_t n, i;
    jstr *sep;
    bool used;
} jcycle;

typedef struct jkw {
    lr_str name;
    jv val;
} jkw;
typedef struct jargs {
    jv *p;
    size_t n;
    jkw *kw;
    size_t n_kw;
} jargs;

typedef struct jx {
    jmp_buf jmp;
    larder_error *err;
    larder_status st;
    const lr_template *t;
    lr_template_budget budget;
    uint64_t steps;
    uint32_t depth;
    int line;
    int64_t now;
    jdict *vars, *trusted;
    jbuf *out;
    jscope *scope;
    struct jchunk *chunk;
    size_t n_memory;
} jx;

/* jinja_value.c: memory, strings, containers */
_Noreturn void lr_jx_fail(jx *x, larder_status st, const char *fmt, ...) LR_PRINTF(3, 4);
void lr_jx_charge(jx *x, size_t n_bytes); /* work on n bytes counts as steps too */
void lr_jx_step(jx *x);
void lr_jx_enter(jx *x);
void lr_jx_leave(jx *x);
void *lr_jx_alloc(jx *x, size_t n); /* not zeroed */
void *lr_jx_array(jx *x, size_t count, size_t size);
void lr_jx_release(jx *x);

jbuf *lr_jbuf_new(jx *x);
void lr_jbuf_add(jx *x, jbuf *b, const char *p, size_t n, bool trusted);
void lr_jbuf_str(jx *x, jbuf *b, const jstr *s);
void lr_jbuf_sub(jx *x, jbuf *b, const jstr *s, size_t from, size_t n);
jv lr_jbuf_value(jx *x, jbuf *b); /* the whole buffer as a string */

static inline jv jv_undef(const char *hint) { return (jv){.k = V_UNDEF, .u.hint = hint}; }
static inline jv jv_none(void) { return (jv){.k = V_NONE, .u.i = 0}; }
static inline jv jv_bool(bool b) { return (jv){.k = V_BOOL, .u.b = b}; }
static inline jv jv_int(int64_t i) { return (jv){.k = V_INT, .u.i = i}; }
static inline jv jv_float(double f) { return (jv){.k = V_FLOAT, .u.f = f}; }
static inline jv jv_seq(jseq *q) { return (jv){.k = V_SEQ, .u.q = q}; }
static inline jv jv_dict(jdict *d) { return (jv){.k = V_DICT, .u.d = d}; }
jv lr_jv_str(jx *x, const char *p, size_t n, bool trusted); /* copies */
jv lr_jv_sub(jx *x, const jstr *s, size_t from, size_t n);  /* bytes; shares */
jv lr_jv_cstr(jx *x, const char *c);                        /* data */
bool lr_js_trusted(const jstr *s, size_t i);
size_t lr_js_count(jx *x, jstr *s);             /* code points */
size_t lr_js_offset(jx *x, jstr *s, size_t cp); /* byte offset of code point cp (<= count) */
size_t lr_js_find(jx *x, const jstr *s, const char *p, size_t n, size_t from); /* byte offset or SIZE_MAX */
bool lr_js_is(const jstr *s, const char *c);
size_t lr_cp_len(uint8_t lead);
uint32_t lr_cp_at(const char *p, size_t n);
bool lr_cp_space(uint32_t cp);

jseq *lr_jq_new(jx *x, jflavor flavor, size_t cap);
void lr_jq_push(jx *x, jseq *q, jv v);
jdict *lr_jd_new(jx *x, size_t cap);
jv *lr_jd_find(jx *x, const jdict *d, jv key);
jv *lr_jd_find_name(jx *x, const jdict *d, lr_str name);
void lr_jd_set(jx *x, jdict *d, jv key, jv val);

/* jinja_ops.c: what Python's operators do */
const char *lr_jv_type(jv v); /* Python's name of the type */
bool lr_jv_number(jv v);
double lr_jv_double(jv v);
int64_t lr_jv_index(jx *x, jv v, const char *what); /* INT or BOOL, else an error naming `what` */
bool lr_jv_true(jx *x, jv v);
bool lr_jv_equal(jx *x, jv a, jv b);
int lr_jv_order(jx *x, jv a, jv b, const char *op); /* <0, 0, >0; 2 for unordered (NaN) */
bool lr_jv_in(jx *x, jv needle, jv hay);
jv lr_jv_arith(jx *x, jop op, jv a, jv b);
jv lr_jv_item(jx *x, jv obj, jv key);
jv lr_jv_slice(jx *x, jv obj, jv from, jv to, jv step);
bool lr_jv_length(jx *x, jv v, int64_t *n);
jseq *lr_jv_iter(jx *x, jv v); /* uses up a generator */
jv lr_jv_dict_items(jx *x, const jdict *d);
/* printing (jinja_print.c) */
void lr_jv_print(jx *x, jbuf *b, jv v); /* str() */
void lr_jv_repr(jx *x, jbuf *b, jv v);
jv lr_jv_tostr(jx *x, jv v); /* str(); a string is returned as it is */
void lr_float_repr(double f, char out[40]);
jv lr_jv_percent(jx *x, const jstr *fmt, jv args);          /* fmt % args */
jv lr_jv_format(jx *x, const jstr *fmt, const jargs *args); /* fmt.format(args) */
jv lr_jv_strftime(jx *x, jv fmt);
/* JSON (jinja_json.c) */
jv lr_jv_from_json(jx *x, json_t *j, bool trusted);
jv lr_jv_parse_json(jx *x, jv text);
jv lr_jv_tojson(jx *x, jv v, bool ascii, bool sort, const jv *indent, const jstr *item_sep, const jstr *key_sep);

/* methods and attributes (jinja_method.c) */
jv lr_jv_attr(jx *x, jv obj, lr_str name);
bool lr_jv_method(jx *x, jv obj, lr_str name, jv *out);
jv lr_jmethod_call(jx *x, jmethod *m, const jargs *a);
const char *lr_jmethod_name(const jmethod *m);
jv lr_js_strip(jx *x, const jstr *s, const jstr *chars, bool left, bool right);
jv lr_js_replace(jx *x, const jstr *s, const jstr *from, const jstr *to, int64_t count);
jv lr_js_case(jx *x, const jstr *s,
              char how); /* 'u', 'l', 'c' capitalize, 't' title as Jinja, 'T' title as Python, 's' swap */
jv lr_js_escape(jx *x, const jstr *s); /* HTML; the result is marked safe */
jv lr_js_split_lines(jx *x, const jstr *s, bool keep);

/* filters and tests (jinja_filter.c) */
jv lr_jfilter_call(jx *x, lr_str name, jv v, const jargs *a);
bool lr_jtest_call(jx *x, lr_str name, jv v, const jargs *a);
bool lr_jarg(const jargs *a, size_t i, const char *name, jv *out);

/* evaluator (jinja_eval.c) */
int lr_jglobal_find(lr_str name); /* -1: none */
const char *lr_jglobal_name(int fn);
jv lr_jx_call(jx *x, jv callee, const jargs *a);
void lr_jx_run(jx *x, const jnode *root);

#endif
