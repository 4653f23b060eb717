/* jinja_seq.c - filters over sequences and mappings: map, select, sort, join and their like. */
#include "jinja_filter.h"

static jv call_named(jx *x, jv name, jv v, const jargs *a, size_t skip)
{
    if (name.k != V_STR) lr_jx_fail(x, LARDER_FORMAT, "a filter is named by a string");
    jargs rest = {.p = a->p + skip, .n = a->n - skip, .kw = a->kw, .n_kw = a->n_kw};
    return lr_jfilter_call(x, (lr_str){name.u.s->p, name.u.s->n}, v, &rest);
}

/* "a.b.0" or an integer, followed from v. */
static jv follow(jx *x, jv v, jv path)
{
    if (path.k != V_STR) return lr_jv_item(x, v, path);
    const jstr *s = path.u.s;
    for (size_t from = 0; from <= s->n;) {
        size_t to = lr_js_find(x, s, ".", 1, from);
        if (to == SIZE_MAX) to = s->n;
        bool digits = to > from && to - from < 10;
        int64_t i = 0;
        for (size_t k = from; k < to && digits; k++) {
            digits = s->p[k] >= '0' && s->p[k] <= '9';
            i = i * 10 + (s->p[k] - '0');
        }
        v = lr_jv_item(x, v, digits ? jv_int(i) : lr_jv_sub(x, s, from, to - from));
        from = to + 1;
    }
    return v;
}

static jv attribute_of(jx *x, jv v, jv attribute) { return attribute.k == V_NONE ? v : follow(x, v, attribute); }

static jv f_list(jx *x, jv v, const jargs *a)
{
    (void)a;
    jseq *in = lr_jv_iter(x, v), *out = lr_jq_new(x, Q_LIST, in->n);
    for (size_t i = 0; i < in->n; i++) lr_jq_push(x, out, in->p[i]);
    return jv_seq(out);
}

static jv f_first(jx *x, jv v, const jargs *a)
{
    (void)a;
    jseq *q = lr_jv_iter(x, v);
    return q->n ? q->p[0] : jv_undef("the first of an empty sequence");
}

static jv f_last(jx *x, jv v, const jargs *a)
{
    (void)a;
    if (v.k == V_SEQ && v.u.q->flavor == Q_GEN) lr_jx_fail(x, LARDER_FORMAT, "'generator' object is not reversible");
    jseq *q = lr_jv_iter(x, v);
    return q->n ? q->p[q->n - 1] : jv_undef("the last of an empty sequence");
}

static jv f_join(jx *x, jv v, const jargs *a)
{
    jv sep = lr_jarg_or(a, 0, "d", jv_none()), attribute = lr_jarg_or(a, 1, "attribute", jv_none());
    jseq *q = lr_jv_iter(x, v);
    jbuf *b = lr_jbuf_new(x);
    for (size_t i = 0; i < q->n; i++) {
        lr_jx_step(x);
        if (i && sep.k != V_NONE) lr_jv_print(x, b, sep);
        lr_jv_print(x, b, attribute_of(x, q->p[i], attribute));
    }
    return lr_jbuf_value(x, b);
}

static jv f_map(jx *x, jv v, const jargs *a)
{
    jv attribute = lr_jarg_or(a, SIZE_MAX, "attribute", jv_undef(NULL)),
       other = lr_jarg_or(a, SIZE_MAX, "default", jv_undef(NULL));
    if (!lr_jv_true(x, v)) return jv_seq(lr_jq_new(x, Q_GEN, 0)); /* none|map(...) is empty, not an error */
    jseq *q = lr_jv_iter(x, v), *out = lr_jq_new(x, Q_GEN, q->n);
    if (attribute.k == V_UNDEF && !a->n) lr_jx_fail(x, LARDER_FORMAT, "map requires a filter argument");
    for (size_t i = 0; i < q->n; i++) {
        jv one;
        if (a->n) {
            one = call_named(x, a->p[0], q->p[i], a, 1);
        } else {
            one = follow(x, q->p[i], attribute);
            if (one.k == V_UNDEF && other.k != V_UNDEF) one = other;
        }
        lr_jq_push(x, out, one);
    }
    return jv_seq(out);
}

/* select, reject and their attr forms: `skip` arguments come before the test's name. */
static jv choose(jx *x, jv v, const jargs *a, size_t skip, bool keep)
{
    if (!lr_jv_true(x, v)) return jv_seq(lr_jq_new(x, Q_GEN, 0));
    jseq *q = lr_jv_iter(x, v), *out = lr_jq_new(x, Q_GEN, 0);
    if (a->n < skip) lr_jx_fail(x, LARDER_FORMAT, "selectattr needs an attribute");
    for (size_t i = 0; i < q->n; i++) {
        lr_jx_step(x);
        jv one = skip ? follow(x, q->p[i], a->p[0]) : q->p[i];
        bool yes;
        if (a->n > skip) {
            jv name = a->p[skip];
            if (name.k != V_STR) lr_jx_fail(x, LARDER_FORMAT, "a test is named by a string");
            jargs rest = {.p = a->p + skip + 1, .n = a->n - skip - 1, .kw = a->kw, .n_kw = a->n_kw};
            yes = lr_jtest_call(x, (lr_str){name.u.s->p, name.u.s->n}, one, &rest);
        } else {
            yes = lr_jv_true(x, one);
        }
        if (yes == keep) lr_jq_push(x, out, q->p[i]);
    }
    return jv_seq(out);
}
static jv f_select(jx *x, jv v, const jargs *a) { return choose(x, v, a, 0, true); }
static jv f_reject(jx *x, jv v, const jargs *a) { return choose(x, v, a, 0, false); }
static jv f_selectattr(jx *x, jv v, const jargs *a) { return choose(x, v, a, 1, true); }
static jv f_rejectattr(jx *x, jv v, const jargs *a) { return choose(x, v, a, 1, false); }

/* ---------------------------------------------------------------- order */
static jv fold_case(jx *x, jv v, bool sensitive)
{
    return v.k == V_STR && !sensitive ? lr_js_case(x, v.u.s, 'l') : v;
}

/* Stable: merges at[lo..hi) by keys. */
static void merge_sort(jx *x, const jv *key, size_t *at, size_t *tmp, size_t lo, size_t hi, bool reverse)
{
    if (hi - lo < 2) return;
    size_t mid = lo + (hi - lo) / 2;
    merge_sort(x, key, at, tmp, lo, mid, reverse);
    merge_sort(x, key, at, tmp, mid, hi, reverse);
    memcpy(tmp + lo, at + lo, (hi - lo) * sizeof *at);
    for (size_t i = lo, j = mid, k = lo; k < hi; k++) {
        bool right = i >= mid;
        if (!right && j < hi)
            right = reverse ? lr_jv_order(x, key[tmp[i]], key[tmp[j]], "<") == -1 ||
                                  lr_jv_order(x, key[tmp[j]], key[tmp[i]], "<") > 0
                            : lr_jv_order(x, key[tmp[j]], key[tmp[i]], "<") < 0;
        at[k] = right ? tmp[j++] : tmp[i++];
    }
}

static size_t *sort_keys(jx *x, const jv *key, size_t n, bool reverse)
{
    size_t *at = lr_jx_array(x, n, sizeof *at), *tmp = lr_jx_array(x, n, sizeof *tmp);
    for (size_t i = 0; i < n; i++) at[i] = i;
    merge_sort(x, key, at, tmp, 0, n, reverse);
    return at;
}

/* The sort key of v: attributes separated by commas make a tuple. */
static jv sort_key(jx *x, jv v, jv attribute, bool sensitive)
{
    if (attribute.k != V_STR || lr_js_find(x, attribute.u.s, ",", 1, 0) == SIZE_MAX)
        return fold_case(x, attribute_of(x, v, attribute), sensitive);
    jseq *q = lr_jq_new(x, Q_LIST, 0);
    const jstr *s = attribute.u.s;
    for (size_t from = 0; from <= s->n;) {
        size_t to = LR_MIN(lr_js_find(x, s, ",", 1, from), s->n);
        lr_jq_push(x, q, fold_case(x, follow(x, v, lr_jv_sub(x, s, from, to - from)), sensitive));
        from = to + 1;
    }
    return jv_seq(q);
}

static jseq *sorted(jx *x, const jseq *q, jv attribute, bool sensitive, bool reverse)
{
    jv *key = lr_jx_array(x, q->n, sizeof *key);
    for (size_t i = 0; i < q->n; i++) key[i] = sort_key(x, q->p[i], attribute, sensitive);
    size_t *at = sort_keys(x, key, q->n, reverse);
    jseq *out = lr_jq_new(x, Q_LIST, q->n);
    for (size_t i = 0; i < q->n; i++) lr_jq_push(x, out, q->p[at[i]]);
    return out;
}

static jv f_sort(jx *x, jv v, const jargs *a)
{
    return jv_seq(sorted(x, lr_jv_iter(x, v), lr_jarg_or(a, 2, "attribute", jv_none()),
                         lr_jarg_flag(x, a, 1, "case_sensitive"), lr_jarg_flag(x, a, 0, "reverse")));
}

static jv f_dictsort(jx *x, jv v, const jargs *a)
{
    bool sensitive = lr_jarg_flag(x, a, 0, "case_sensitive"), reverse = lr_jarg_flag(x, a, 2, "reverse");
    jv by = lr_jarg_or(a, 1, "by", jv_none());
    bool by_value = by.k == V_STR && lr_js_is(by.u.s, "value");
    if (v.k != V_DICT) lr_jx_fail(x, LARDER_FORMAT, "dictsort needs a dict, not %s", lr_jv_type(v));
    return jv_seq(sorted(x, lr_jv_dict_items(x, v.u.d).u.q, jv_int(by_value), sensitive, reverse));
}

static jv f_items(jx *x, jv v, const jargs *a)
{
    (void)a;
    if (v.k != V_DICT && v.k != V_UNDEF) lr_jx_fail(x, LARDER_FORMAT, "Can only get item pairs from a mapping.");
    jv items = v.k == V_DICT ? lr_jv_dict_items(x, v.u.d) : jv_seq(lr_jq_new(x, Q_GEN, 0));
    items.u.q->flavor = Q_GEN;
    return items;
}

static jv f_reverse(jx *x, jv v, const jargs *a)
{
    (void)a;
    if (v.k == V_STR) return lr_jv_slice(x, v, jv_none(), jv_none(), jv_int(-1));
    jseq *q = lr_jv_iter(x, v), *out = lr_jq_new(x, Q_GEN, q->n);
    for (size_t i = q->n; i-- > 0;) lr_jq_push(x, out, q->p[i]);
    return jv_seq(out);
}

static jv f_unique(jx *x, jv v, const jargs *a)
{
    bool sensitive = lr_jarg_flag(x, a, 0, "case_sensitive");
    jv attribute = lr_jarg_or(a, 1, "attribute", jv_none());
    jseq *q = lr_jv_iter(x, v), *out = lr_jq_new(x, Q_GEN, 0), *seen = lr_jq_new(x, Q_LIST, 0);
    for (size_t i = 0; i < q->n; i++) {
        jv key = sort_key(x, q->p[i], attribute, sensitive);
        if (lr_jv_in(x, key, jv_seq(seen))) continue;
        lr_jq_push(x, seen, key);
        lr_jq_push(x, out, q->p[i]);
    }
    return jv_seq(out);
}

static jv extreme(jx *x, jv v, const jargs *a, int wanted)
{
    bool sensitive = lr_jarg_flag(x, a, 0, "case_sensitive");
    jv attribute = lr_jarg_or(a, 1, "attribute", jv_none());
    jseq *q = lr_jv_iter(x, v);
    if (!q->n) return jv_undef("the extreme of an empty sequence");
    jv best = q->p[0], best_key = sort_key(x, best, attribute, sensitive);
    for (size_t i = 1; i < q->n; i++) {
        jv key = sort_key(x, q->p[i], attribute, sensitive);
        int c = lr_jv_order(x, key, best_key, wanted < 0 ? "<" : ">");
        if (c == 2 || c == 0 || (c < 0) != (wanted < 0)) continue;
        best = q->p[i];
        best_key = key;
    }
    return best;
}
static jv f_min(jx *x, jv v, const jargs *a) { return extreme(x, v, a, -1); }
static jv f_max(jx *x, jv v, const jargs *a) { return extreme(x, v, a, 1); }

static jv f_sum(jx *x, jv v, const jargs *a)
{
    jv attribute = lr_jarg_or(a, 0, "attribute", jv_none()), total = lr_jarg_or(a, 1, "start", jv_int(0));
    jseq *q = lr_jv_iter(x, v);
    for (size_t i = 0; i < q->n; i++) total = lr_jv_arith(x, OP_ADD, total, attribute_of(x, q->p[i], attribute));
    return total;
}

/* ---------------------------------------------------------------- groups */
static jv f_batch(jx *x, jv v, const jargs *a)
{
    int64_t n = lr_jv_index(x, lr_jarg_or(a, 0, "linecount", jv_undef("linecount")), "linecount");
    jv fill = lr_jarg_or(a, 1, "fill_with", jv_none());
    if (n < 1 || n > 100000) lr_jx_fail(x, LARDER_FORMAT, "batch: size out of range");
    jseq *q = lr_jv_iter(x, v), *out = lr_jq_new(x, Q_GEN, 0), *line = NULL;
    for (size_t i = 0; i < q->n; i++) {
        if (!line || line->n == (size_t)n) lr_jq_push(x, out, jv_seq(line = lr_jq_new(x, Q_LIST, 0)));
        lr_jq_push(x, line, q->p[i]);
    }
    while (line && fill.k != V_NONE && line->n < (size_t)n) lr_jq_push(x, line, fill);
    return jv_seq(out);
}

static jv f_slice(jx *x, jv v, const jargs *a)
{
    int64_t n = lr_jv_index(x, lr_jarg_or(a, 0, "slices", jv_undef("slices")), "slices");
    jv fill = lr_jarg_or(a, 1, "fill_with", jv_none());
    if (n < 1 || n > 100000) lr_jx_fail(x, LARDER_FORMAT, "slice: count out of range");
    jseq *q = lr_jv_iter(x, v), *out = lr_jq_new(x, Q_GEN, 0);
    size_t each = q->n / (size_t)n, extra = q->n % (size_t)n, at = 0;
    for (size_t i = 0; i < (size_t)n; i++) {
        jseq *part = lr_jq_new(x, Q_LIST, 0);
        size_t k = each + (i < extra);
        while (k--) lr_jq_push(x, part, q->p[at++]);
        if (fill.k != V_NONE && i >= extra) lr_jq_push(x, part, fill);
        lr_jq_push(x, out, jv_seq(part));
    }
    return jv_seq(out);
}

static jv f_groupby(jx *x, jv v, const jargs *a)
{
    jv attribute = lr_jarg_or(a, 0, "attribute", jv_none()), other = lr_jarg_or(a, 1, "default", jv_undef(NULL));
    bool sensitive = lr_jarg_flag(x, a, 2, "case_sensitive");
    jseq *q = lr_jv_iter(x, v), *out = lr_jq_new(x, Q_LIST, 0), *group = NULL;
    jv *key = lr_jx_array(x, q->n, sizeof *key), *raw = lr_jx_array(x, q->n, sizeof *raw);
    for (size_t i = 0; i < q->n; i++) {
        raw[i] = follow(x, q->p[i], attribute);
        if (raw[i].k == V_UNDEF) raw[i] = other;
        key[i] = fold_case(x, raw[i], sensitive);
    }
    size_t *at = sort_keys(x, key, q->n, false);
    for (size_t i = 0; i < q->n; i++) {
        if (!i || !lr_jv_equal(x, key[at[i]], key[at[i - 1]])) {
            jseq *pair = lr_jq_new(x, Q_TUPLE, 2);
            group = lr_jq_new(x, Q_LIST, 0);
            lr_jq_push(x, pair, raw[at[i]]);
            lr_jq_push(x, pair, jv_seq(group));
            lr_jq_push(x, out, jv_seq(pair));
        }
        lr_jq_push(x, group, q->p[at[i]]);
    }
    return jv_seq(out);
}

const jfilter lr_jseq_filters[] = {
    {"list", f_list},
    {"first", f_first},
    {"last", f_last},
    {"join", f_join},
    {"map", f_map},
    {"select", f_select},
    {"reject", f_reject},
    {"selectattr", f_selectattr},
    {"rejectattr", f_rejectattr},
    {"sort", f_sort},
    {"dictsort", f_dictsort},
    {"items", f_items},
    {"reverse", f_reverse},
    {"unique", f_unique},
    {"min", f_min},
    {"max", f_max},
    {"sum", f_sum},
    {"batch", f_batch},
    {"slice", f_slice},
    {"groupby", f_groupby},
};
const size_t lr_jseq_n_filters = LR_LEN(lr_jseq_filters);
