/* jinja_json.c - JSON in and out of templates: variables to values, and tojson as transformers defines it
 * (json.dumps with ensure_ascii=False, no escaping of HTML).
 *
 * Origin: everything tojson writes is data.
 */
#include "jinja.h"

#include <math.h>

jv lr_jv_from_json(jx *x, json_t *j, bool trusted)
{
    jv out = jv_none();
    lr_jx_step(x);
    lr_jx_enter(x);
    switch (json_typeof(j)) {
    case JSON_NULL: break;
    case JSON_TRUE: out = jv_bool(true); break;
    case JSON_FALSE: out = jv_bool(false); break;
    case JSON_INTEGER: out = jv_int(json_integer_value(j)); break;
    case JSON_REAL: out = jv_float(json_real_value(j)); break;
    case JSON_STRING: out = lr_jv_str(x, json_string_value(j), json_string_length(j), trusted); break;
    case JSON_ARRAY: {
        jseq *q = lr_jq_new(x, Q_LIST, json_array_size(j));
        size_t i;
        json_t *item;
        json_array_foreach(j, i, item) lr_jq_push(x, q, lr_jv_from_json(x, item, trusted));
        out = jv_seq(q);
        break;
    }
    case JSON_OBJECT: {
        /* jansson keeps the order of insertion and has no equal keys, so no search is needed */
        jdict *d = lr_jd_new(x, json_object_size(j));
        for (void *it = json_object_iter(j); it; it = json_object_iter_next(j, it)) {
            d->key[d->n] = lr_jv_str(x, json_object_iter_key(it), json_object_iter_key_len(it), trusted);
            d->val[d->n++] = lr_jv_from_json(x, json_object_iter_value(it), trusted);
        }
        out = jv_dict(d);
        break;
    }
    }
    lr_jx_leave(x);
    return out;
}

/* The most that jansson takes for a text of JSON: by what opens a value, with its tables and the allocator's share. */
static size_t tree_bytes(const jstr *s)
{
    enum { OBJECT = 512, LIST = 192, STRING = 96, MEMBER = 160, ITEM = 64 };
    size_t n = ITEM + 2 * s->n;
    bool quoted = false;
    for (size_t i = 0; i < s->n; i++) {
        char c = s->p[i];
        if (quoted && c == '\\') i++;
        else if (c == '"') quoted = !quoted, n += STRING;
        else if (!quoted) n += c == '{' ? OBJECT : c == '[' ? LIST : c == ':' ? MEMBER : c == ',' ? ITEM : 0;
    }
    return n;
}

/* Takes j, which is not the arena's: it is released before an error leaves this function. */
static jv from_tree(jx *x, json_t *j)
{
    jmp_buf outer;
    memcpy(&outer, &x->jmp, sizeof outer);
    if (setjmp(x->jmp)) {
        json_decref(j);
        memcpy(&x->jmp, &outer, sizeof outer);
        longjmp(x->jmp, 1);
    }
    jv v = lr_jv_from_json(x, j, false);
    memcpy(&x->jmp, &outer, sizeof outer);
    json_decref(j);
    return v;
}

jv lr_jv_parse_json(jx *x, jv text)
{
    if (text.k != V_STR) lr_jx_fail(x, LARDER_FORMAT, "from_json needs a string");
    json_error_t why;
    lr_jx_charge(x, text.u.s->n * 8); /* reading is slower than copying */
    size_t lent = tree_bytes(text.u.s);
    if (lent > x->budget.n_memory - x->n_memory) lr_jx_fail(x, LARDER_LIMIT, "the template needs too much memory");
    x->n_memory += lent; /* while jansson's tree and ours stand side by side */
    json_t *j = json_loadb(text.u.s->p, text.u.s->n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    if (!j) lr_jx_fail(x, LARDER_FORMAT, "from_json: %s", why.text);
    jv v = from_tree(x, j);
    x->n_memory -= lent;
    return v;
}

typedef struct dump {
    jx *x;
    jbuf *b;
    bool ascii, sort;
    const jv *indent; /* NULL: one line */
    const jstr *item_sep, *key_sep;
} dump;

static void puts_data(dump *d, const char *s) { lr_jbuf_add(d->x, d->b, s, strlen(s), false); }
static void put_data(dump *d, const jstr *s) { lr_jbuf_add(d->x, d->b, s->p, s->n, false); }

static void dump_string(dump *d, const jstr *s)
{
    puts_data(d, "\"");
    for (size_t i = 0; i < s->n;) {
        size_t n = LR_MIN(lr_cp_len((uint8_t)s->p[i]), s->n - i);
        uint32_t cp = lr_cp_at(s->p + i, n);
        char esc[16] = "";
        switch (cp) {
        case '"': snprintf(esc, sizeof esc, "\\\""); break;
        case '\\': snprintf(esc, sizeof esc, "\\\\"); break;
        case '\n': snprintf(esc, sizeof esc, "\\n"); break;
        case '\r': snprintf(esc, sizeof esc, "\\r"); break;
        case '\t': snprintf(esc, sizeof esc, "\\t"); break;
        case '\b': snprintf(esc, sizeof esc, "\\b"); break;
        case '\f': snprintf(esc, sizeof esc, "\\f"); break;
        default:
            if (cp < 0x20 || (d->ascii && cp >= 0x7F && cp < 0x10000))
                snprintf(esc, sizeof esc, cp == 0x7F ? "\x7F" : "\\u%04x", cp);
            else if (d->ascii && cp >= 0x10000)
                snprintf(esc, sizeof esc, "\\u%04x\\u%04x", 0xD800 + ((cp - 0x10000) >> 10),
                         0xDC00 + ((cp - 0x10000) & 0x3FF));
        }
        if (*esc) puts_data(d, esc);
        else lr_jbuf_add(d->x, d->b, s->p + i, n, false);
        i += n;
    }
    puts_data(d, "\"");
}

static void dump_newline(dump *d, int level)
{
    if (!d->indent) return;
    puts_data(d, "\n");
    for (int i = 0; i < level; i++) {
        if (d->indent->k == V_STR) {
            put_data(d, d->indent->u.s);
        } else {
            int64_t n = lr_jv_index(d->x, *d->indent, "indent");
            for (int64_t k = 0; k < n; k++) puts_data(d, " ");
        }
    }
}

static void dump_number(dump *d, jv v)
{
    char text[40];
    if (v.k == V_INT) snprintf(text, sizeof text, "%lld", (long long)v.u.i);
    else if (isnan(v.u.f) || isinf(v.u.f))
        snprintf(text, sizeof text, "%s", isnan(v.u.f) ? "NaN" : v.u.f > 0 ? "Infinity" : "-Infinity");
    else lr_float_repr(v.u.f, text);
    puts_data(d, text);
}

static void dump_value(dump *d, jv v, int level);

static void dump_key(dump *d, jv key)
{
    if (key.k == V_STR) {
        dump_string(d, key.u.s);
        return;
    }
    if (key.k != V_INT && key.k != V_FLOAT && key.k != V_BOOL && key.k != V_NONE)
        lr_jx_fail(d->x, LARDER_FORMAT, "keys must be str, int, float, bool or None, not %s", lr_jv_type(key));
    puts_data(d, "\"");
    dump_value(d, key, 0);
    puts_data(d, "\"");
}

static void dump_seq(dump *d, const jseq *q, int level)
{
    if (q->flavor > Q_TUPLE)
        lr_jx_fail(d->x, LARDER_FORMAT, "Object of type %s is not JSON serializable", lr_jv_type(jv_seq((jseq *)q)));
    puts_data(d, "[");
    for (size_t i = 0; i < q->n; i++) {
        if (i) put_data(d, d->item_sep);
        dump_newline(d, level + 1);
        dump_value(d, q->p[i], level + 1);
    }
    if (q->n) dump_newline(d, level);
    puts_data(d, "]");
}

static size_t *sorted_keys(dump *d, const jdict *o)
{
    size_t *at = lr_jx_array(d->x, o->n, sizeof *at);
    for (size_t i = 0; i < o->n; i++) {
        size_t k = i;
        for (; d->sort && k > 0 && lr_jv_order(d->x, o->key[i], o->key[at[k - 1]], "<") < 0; k--) at[k] = at[k - 1];
        at[k] = i;
    }
    return at;
}

static void dump_dict(dump *d, const jdict *o, int level)
{
    size_t *at = sorted_keys(d, o);
    puts_data(d, "{");
    for (size_t i = 0; i < o->n; i++) {
        if (i) put_data(d, d->item_sep);
        dump_newline(d, level + 1);
        dump_key(d, o->key[at[i]]);
        put_data(d, d->key_sep);
        dump_value(d, o->val[at[i]], level + 1);
    }
    if (o->n) dump_newline(d, level);
    puts_data(d, "}");
}

static void dump_value(dump *d, jv v, int level)
{
    lr_jx_step(d->x);
    lr_jx_enter(d->x);
    switch (v.k) {
    case V_NONE: puts_data(d, "null"); break;
    case V_BOOL: puts_data(d, v.u.b ? "true" : "false"); break;
    case V_INT:
    case V_FLOAT: dump_number(d, v); break;
    case V_STR: dump_string(d, v.u.s); break;
    case V_SEQ: dump_seq(d, v.u.q, level); break;
    case V_DICT: dump_dict(d, v.u.d, level); break;
    default: lr_jx_fail(d->x, LARDER_FORMAT, "Object of type %s is not JSON serializable", lr_jv_type(v));
    }
    lr_jx_leave(d->x);
}

jv lr_jv_tojson(jx *x, jv v, bool ascii, bool sort, const jv *indent, const jstr *item_sep, const jstr *key_sep)
{
    static const jstr comma = {.p = ",", .n = 1}, comma_space = {.p = ", ", .n = 2}, colon = {.p = ": ", .n = 2};
    dump d = {.x = x,
              .b = lr_jbuf_new(x),
              .ascii = ascii,
              .sort = sort,
              .indent = indent,
              .item_sep = item_sep ? item_sep
                          : indent ? &comma
                                   : &comma_space,
              .key_sep = key_sep ? key_sep : &colon};
    dump_value(&d, v, 0);
    return lr_jbuf_value(x, d.b);
}
