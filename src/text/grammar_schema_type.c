/* grammar_schema_type.c - JSON Schema, type by type: numbers, strings, arrays and objects that satisfy several schemas. */
#include "grammar_schema.h"

#include <math.h>
#include <stdio.h>

enum { PATTERNS = 5, MULTIPLE = 9000 };

static bool dfa_failed(schema *x, larder_status st, const larder_error *err, const json_t *s, const char *keyword)
{
    if (!st) return false;
    if (x->n->st) { /* the budget's own words, with the place in front */
        x->n->st = LARDER_OK;
    }
    schema_fail(x, st, s, keyword, "%s", err->message);
    return true;
}

/* *have false: d becomes the expression's automaton; else their conjunction. */
static bool and_regex(schema *x, lr_dfa *d, bool *have, const char *regex, bool not_it, const json_t *s,
                      const char *keyword)
{
    lr_dfa e;
    larder_error err = {0};
    if (x->n->st || dfa_failed(x, lr_dfa_from_regex(x->n, lr_str_of(regex), false, &e, &err), &err, s, keyword))
        return false;
    if (!*have) {
        *d = e;
        return *have = true;
    }
    larder_status st = lr_dfa_and(x->n, d, &e, not_it, &err);
    lr_dfa_free(&e);
    return !dfa_failed(x, st, &err, s, keyword);
}

/* ---------------------------------------------------------------- numbers */
static void and_bound(schema *x, lr_dfa *d, const json_t *s, const char *key, bool over, bool strict)
{
    const json_t *v = json_object_get(s, key);
    char text[400];
    lr_buf b = {0};
    bool have = true;
    if (!v || x->n->st) return;
    if (!schema_decimal(json_number_value(v), v, text)) {
        schema_fail(x, LARDER_FORMAT, s, key, "it is not a finite number");
        return;
    }
    lr_buf_puts(&b, "^(");
    lr_decimal_bound(&b, text, over, strict);
    lr_buf_puts(&b, ")$");
    lr_buf_putc(&b, 0);
    if (b.failed) lr_net_fail(x->n, LARDER_NOMEM, "out of memory for a schema");
    else and_regex(x, d, &have, b.p, false, s, key);
    lr_buf_free(&b);
}

static void and_multiple(schema *x, lr_dfa *d, const json_t *s)
{
    const json_t *v = json_object_get(s, "multipleOf");
    char text[400];
    uint64_t p = 0;
    uint32_t k = 0;
    bool point = false;
    larder_error err = {0};
    lr_dfa m;
    if (!v || x->n->st || !schema_decimal(json_number_value(v), v, text)) return;
    for (const char *c = text; *c && p <= MULTIPLE; c++) {
        if (*c == '.') point = true;
        else p = p * 10 + (uint64_t)(*c - '0'), k += point;
    }
    if (p > MULTIPLE || k > 9) {
        schema_fail(x, LARDER_UNSUPPORTED, s, "multipleOf",
                    "only numbers of few digits (up to %d, up to 9 decimals) are enforced", MULTIPLE);
        return;
    }
    if (dfa_failed(x, lr_dfa_multiples(x->n, (uint32_t)p, k, &m, &err), &err, s, "multipleOf")) return;
    larder_status st = lr_dfa_and(x->n, d, &m, false, &err);
    lr_dfa_free(&m);
    dfa_failed(x, st, &err, s, "multipleOf");
}

static void put_numbers(schema *x, const items *base, bool fractions, uint32_t start, uint32_t end)
{
    static const char *const keys[] = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"};
    bool plain = true, have = false;
    lr_dfa d;
    for (uint32_t i = 0; i < base->n; i++)
        for (size_t k = 0; k < LR_LEN(keys); k++) plain &= json_object_get(base->p[i].s, keys[k]) == NULL;
    if (plain) {
        lr_net_call(x->n, start, lr_json_rule_get(x->n, &x->rules, fractions ? LR_JSON_NUMBER : LR_JSON_INTEGER),
                    end);
        return;
    }
    const char *form = fractions ? "^-?(0|[1-9]\\d{0,15})(\\.\\d{1,16})?$" : "^(0|-?[1-9]\\d{0,17})$";
    if (!and_regex(x, &d, &have, form, false, x->root, "")) return;
    for (uint32_t i = 0; i < base->n && !x->n->st; i++) {
        and_bound(x, &d, base->p[i].s, "minimum", true, false);
        and_bound(x, &d, base->p[i].s, "exclusiveMinimum", true, true);
        and_bound(x, &d, base->p[i].s, "maximum", false, false);
        and_bound(x, &d, base->p[i].s, "exclusiveMaximum", false, true);
        and_multiple(x, &d, base->p[i].s);
    }
    if (!x->n->st) lr_dfa_emit(x->n, &d, start, end, false);
    lr_dfa_free(&d);
}

/* ---------------------------------------------------------------- strings */
typedef struct text_set {
    lr_dfa d;
    bool have; /* else: any text of these lengths */
    uint64_t min, max;
} text_set;

static uint64_t count(const json_t *s, const char *key, uint64_t other)
{
    const json_t *v = json_object_get(s, key);
    return v ? (uint64_t)json_number_value(v) : other;
}

/* Begins with any text, so that something can be taken from it. */
static bool and_any(schema *x, text_set *t)
{
    larder_error err = {0};
    if (t->have || x->n->st) return !x->n->st;
    return t->have = !dfa_failed(x, lr_dfa_lengths(x->n, 0, UINT64_MAX, &t->d, &err), &err, x->root, "");
}

static void and_not_texts(schema *x, text_set *t, const json_t *s, const json_t *list)
{
    larder_error err = {0};
    lr_dfa d;
    size_t n = json_array_size(list);
    lr_str *texts = lr_arena_array(&x->arena, n, sizeof *texts);
    if (!texts) {
        lr_net_fail(x->n, LARDER_NOMEM, "out of memory for a schema");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        texts[i] = (lr_str){json_string_value(v), json_string_length(v)};
    }
    if (dfa_failed(x, lr_dfa_from_texts(x->n, texts, (uint32_t)n, &d, &err), &err, s, "not")) return;
    larder_status st = lr_dfa_and(x->n, &t->d, &d, true, &err);
    lr_dfa_free(&d);
    dfa_failed(x, st, &err, s, "not");
}

/* What the schemas' keywords for strings allow. The lengths are in the automaton too if there is one. */
static text_set text_of(schema *x, const items *base)
{
    text_set t = {.max = UINT64_MAX};
    larder_error err = {0};
    const json_t *limit = x->root;
    for (uint32_t i = 0; i < base->n && !x->n->st; i++) {
        const json_t *s = base->p[i].s;
        const char *pattern = json_string_value(json_object_get(s, "pattern")),
                   *format = json_string_value(json_object_get(s, "format"));
        t.min = LR_MAX(t.min, count(s, "minLength", 0));
        t.max = LR_MIN(t.max, count(s, "maxLength", UINT64_MAX));
        if (json_object_get(s, "minLength") || json_object_get(s, "maxLength")) limit = s;
        if (pattern) and_regex(x, &t.d, &t.have, pattern, false, s, "pattern");
        const char *no = json_string_value(json_object_get(s, "\001notPattern"));
        json_t *texts = json_object_get(s, "\001notTexts");
        if (no && and_any(x, &t)) and_regex(x, &t.d, &t.have, no, true, s, "not");
        if (json_array_size(texts) && and_any(x, &t)) and_not_texts(x, &t, s, texts);
        if (format && !lr_format_regex(format))
            schema_fail(x, LARDER_UNSUPPORTED, s, "format", "\"%.40s\" is not a format that is enforced", format);
        else if (format) and_regex(x, &t.d, &t.have, lr_format_regex(format), false, s, "format");
    }
    if (t.have && !x->n->st && (t.min || t.max != UINT64_MAX)) {
        lr_dfa lengths;
        larder_status st = lr_dfa_lengths(x->n, t.min, t.max, &lengths, &err);
        if (!st) st = lr_dfa_and(x->n, &t.d, &lengths, false, &err);
        lr_dfa_free(&lengths);
        dfa_failed(x, st, &err, limit, "");
    }
    if (x->n->st && t.have) lr_dfa_free(&t.d), t.have = false;
    return t;
}

static void put_strings(schema *x, const items *base, uint32_t start, uint32_t end)
{
    lr_net *n = x->n;
    text_set t = text_of(x, base);
    if (n->st) return;
    if (t.have) {
        uint32_t close = lr_net_state(n);
        lr_dfa_emit(n, &t.d, lr_net_puts(n, start, "\""), close, true);
        lr_net_bytes(n, close, '"', '"', end);
        lr_dfa_free(&t.d);
        return;
    }
    if (!t.min && t.max == UINT64_MAX) {
        lr_net_call(n, start, lr_json_rule_get(n, &x->rules, LR_JSON_STRING), end);
        return;
    }
    uint32_t one = lr_json_rule_get(n, &x->rules, LR_JSON_CHAR), at = lr_net_puts(n, start, "\"");
    uint64_t last = t.max == UINT64_MAX ? t.min : t.max;
    for (uint64_t i = 0; t.min <= t.max && i <= last && !n->st; i++) {
        if (i >= t.min) lr_net_bytes(n, at, '"', '"', end);
        uint32_t to = i < last ? lr_net_state(n) : at;
        if (i < last || t.max == UINT64_MAX) lr_net_call(n, at, one, to);
        at = to;
    }
}

/* ---------------------------------------------------------------- what a schema's own keywords and those it brings in say */
/* Of base, the schemas that s applies in place, itself first: their annotations count for its unevaluated... */
static void brought_in(schema *x, const items *base, json_t *s, items *out, int depth)
{
    static const char *const lists[] = {"allOf", "anyOf", "oneOf"};
    bool here = false;
    json_t *v;
    size_t i;
    const char *key;
    for (uint32_t k = 0; k < base->n; k++) here |= base->p[k].s == s;
    if (!here || depth > 500 || !items_add(x, out, s, ITEM_BASE)) return;
    const char *ref = json_string_value(json_object_get(s, "$ref"));
    json_t *target = ref ? schema_find(x, s, ref) : NULL;
    if (target) brought_in(x, base, target, out, depth + 1);
    for (size_t w = 0; w < LR_LEN(lists); w++)
        json_array_foreach(json_object_get(s, lists[w]), i, v) brought_in(x, base, v, out, depth + 1);
    json_object_foreach(json_object_get(s, "dependentSchemas"), key, v) brought_in(x, base, v, out, depth + 1);
    static const char *const made[] = {"then", "else", "if"};
    for (size_t w = 0; w < LR_LEN(made); w++)
        if ((v = json_object_get(s, made[w])) && json_is_object(v)) brought_in(x, base, v, out, depth + 1);
}

/* ---------------------------------------------------------------- arrays */
static bool item_known(schema *x, const items *base, json_t *s, size_t at)
{
    items all = {0};
    bool known = false;
    brought_in(x, base, s, &all, 0);
    for (uint32_t i = 0; i < all.n; i++) {
        json_t *o = all.p[i].s;
        known |= at < json_array_size(json_object_get(o, "prefixItems")) || json_object_get(o, "items") ||
                 (o != s && json_object_get(o, "unevaluatedItems"));
    }
    items_free(&all);
    return known;
}

static uint32_t item_rule(schema *x, const items *base, size_t at)
{
    items l = {0};
    for (uint32_t i = 0; i < base->n; i++) {
        json_t *s = base->p[i].s, *prefix = json_object_get(s, "prefixItems"), *rest = json_object_get(s, "items");
        json_t *other = json_object_get(s, "unevaluatedItems");
        if (at < json_array_size(prefix)) items_add(x, &l, json_array_get(prefix, at), ITEM_FULL);
        else if (rest) items_add(x, &l, rest, ITEM_FULL);
        if (other && !json_is_true(other) && !item_known(x, base, s, at)) items_add(x, &l, other, ITEM_FULL);
    }
    uint32_t rule = schema_rule(x, &l);
    items_free(&l);
    return rule;
}

static void put_arrays(schema *x, const items *base, uint32_t start, uint32_t end)
{
    lr_net *n = x->n;
    uint64_t min = 0, max = UINT64_MAX, n_own = 0;
    const json_t *unique = NULL;
    for (uint32_t i = 0; i < base->n; i++) {
        const json_t *s = base->p[i].s;
        min = LR_MAX(min, count(s, "minItems", 0));
        max = LR_MIN(max, count(s, "maxItems", UINT64_MAX));
        n_own = LR_MAX(n_own, json_array_size(json_object_get(s, "prefixItems")));
        if (json_is_true(json_object_get(s, "uniqueItems"))) unique = s;
        if (json_object_get(s, "contains") && (count(s, "minContains", 1) || json_object_get(s, "maxContains"))) {
            schema_fail(x, LARDER_UNSUPPORTED, s, "contains", "this keyword cannot be enforced");
            return;
        }
    }
    uint32_t space = lr_json_rule_get(n, &x->rules, LR_JSON_SPACE), open = lr_net_puts(n, start, "["),
             at = lr_net_state(n), close = lr_net_state(n);
    uint32_t before_close = lr_net_state(n);
    lr_net_call(n, open, space, at);
    lr_net_call(n, before_close, space, close);
    lr_net_bytes(n, close, ']', ']', end);
    if (!min) lr_net_skip(n, at, close);
    uint64_t i = 0;
    if (unique && max > 1) {
        for (uint64_t k = 0; k < 2; k++)
            if (item_rule(x, base, k) == x->never && x->never) max = LR_MIN(max, k);
        if (max > 1) {
            schema_fail(x, LARDER_UNSUPPORTED, unique, "uniqueItems", "this keyword cannot be enforced");
            return;
        }
    }
    if (max < min) return;
    for (; i < max && !n->st; i++) {
        bool loop = i >= n_own && i >= min && max == UINT64_MAX;
        uint32_t rule = item_rule(x, base, LR_MIN(i, n_own)), after = lr_net_state(n);
        lr_net_call(n, at, rule, after);
        if (i + 1 >= min) lr_net_skip(n, after, before_close);
        uint32_t comma = lr_net_puts(n, after, ","), next = lr_net_state(n);
        lr_net_call(n, comma, space, next);
        if (loop) {
            lr_net_call(n, next, rule, after);
            break;
        }
        at = next;
    }
}

/* ---------------------------------------------------------------- objects */
typedef struct pattern {
    const char *text;
    lr_dfa d;
} pattern;
typedef struct object {
    const items *base;
    const char **names; /* in order: declared, then required */
    bool *needed;
    uint32_t n_names;
    pattern patterns[PATTERNS];
    uint32_t n_pattern;
    bool names_bound; /* propertyNames */
    lr_dfa allowed;
} object;

static bool add_name(schema *x, object *o, const char *name, bool needed, uint32_t cap)
{
    for (uint32_t i = 0; i < o->n_names; i++)
        if (lr_net_spend(x->n, 1) && !strcmp(o->names[i], name)) return o->needed[i] |= needed, true;
    if (o->n_names == cap) return false;
    o->needed[o->n_names] = needed;
    o->names[o->n_names++] = name;
    return true;
}

static bool list_names(schema *x, object *o)
{
    size_t cap = 0, i;
    const char *key;
    json_t *v;
    for (uint32_t k = 0; k < o->base->n; k++)
        cap += json_object_size(json_object_get(o->base->p[k].s, "properties")) +
               json_array_size(json_object_get(o->base->p[k].s, "required"));
    o->names = lr_arena_array(&x->arena, cap + 1, sizeof *o->names);
    o->needed = lr_arena_array(&x->arena, cap + 1, sizeof *o->needed);
    if (!o->names || !o->needed) return lr_net_fail(x->n, LARDER_NOMEM, "out of memory for a schema"), false;
    for (uint32_t k = 0; k < o->base->n; k++)
        json_object_foreach(json_object_get(o->base->p[k].s, "properties"), key, v)
            add_name(x, o, key, false, (uint32_t)cap);
    for (uint32_t k = 0; k < o->base->n; k++)
        json_array_foreach(json_object_get(o->base->p[k].s, "required"), i, v)
            add_name(x, o, json_string_value(v), true, (uint32_t)cap);
    return !x->n->st;
}

static bool list_patterns(schema *x, object *o)
{
    const char *key;
    json_t *v;
    for (uint32_t k = 0; k < o->base->n; k++)
        json_object_foreach(json_object_get(o->base->p[k].s, "patternProperties"), key, v)
        {
            bool have = false;
            for (uint32_t i = 0; i < o->n_pattern; i++) have |= !strcmp(o->patterns[i].text, key);
            if (have) continue;
            if (o->n_pattern == PATTERNS) {
                schema_fail(x, LARDER_UNSUPPORTED, o->base->p[k].s, "patternProperties",
                            "more than %d patterns for one object", PATTERNS);
                return false;
            }
            o->patterns[o->n_pattern].text = key;
            if (!and_regex(x, &o->patterns[o->n_pattern].d, &have, key, false, o->base->p[k].s, "patternProperties"))
                return false;
            o->n_pattern++;
        }
    return true;
}

/* propertyNames: what all of them allow, as an automaton. */
static bool bound_names(schema *x, object *o)
{
    items l = {0}, all = {0};
    larder_error err = {0};
    json_t *at = NULL;
    for (uint32_t k = 0; k < o->base->n; k++) {
        json_t *s = json_object_get(o->base->p[k].s, "propertyNames");
        if (s) items_add(x, &l, s, ITEM_FULL), at = o->base->p[k].s;
    }
    if (!l.n) return true;
    bool some = schema_expand(x, l.p, l.n, &all);
    uint32_t types = TYPE_ALL;
    const json_t *list = NULL;
    for (uint32_t i = 0; i < all.n && !x->n->st; i++) {
        json_t *s = all.p[i].s, *c = json_object_get(s, "const"), *e = json_object_get(s, "enum");
        types &= schema_types(x, s, 0);
        if (all.p[i].how != ITEM_BASE || json_object_get(s, "not") || json_object_get(s, "if"))
            schema_fail(x, LARDER_UNSUPPORTED, at, "propertyNames", "a choice of names cannot be enforced");
        if (c || e) list = s;
    }
    if (!x->n->st && (list || !some || !(types & TYPE_STRING))) {
        const json_t *c = json_object_get(list, "const"), *e = json_object_get(list, "enum");
        size_t n = c ? 1 : json_array_size(e), keep = 0;
        lr_str *texts = lr_arena_array(&x->arena, n + 1, sizeof *texts);
        for (size_t i = 0; texts && i < n && some; i++) {
            const json_t *v = c ? c : json_array_get(e, i);
            bool good = json_is_string(v);
            for (uint32_t k = 0; k < all.n && good; k++) good = schema_valid(x, all.p[k].s, v, 0);
            if (good) texts[keep++] = (lr_str){json_string_value(v), json_string_length(v)};
        }
        if (!texts) lr_net_fail(x->n, LARDER_NOMEM, "out of memory for a schema");
        else
            o->names_bound = !dfa_failed(x, lr_dfa_from_texts(x->n, texts, (uint32_t)keep, &o->allowed, &err), &err,
                                         at, "propertyNames");
    } else if (!x->n->st) {
        text_set t = text_of(x, &all);
        if (t.have) o->allowed = t.d, o->names_bound = true;
        else if (!x->n->st && (t.min || t.max != UINT64_MAX))
            o->names_bound = !dfa_failed(x, lr_dfa_lengths(x->n, t.min, t.max, &o->allowed, &err), &err, at,
                                         "propertyNames");
    }
    items_free(&l);
    items_free(&all);
    return !x->n->st;
}

/* Whether s says something of a member: `name` (NULL: one that nothing names) which matches the patterns in `hits`. */
static bool says(const object *o, const json_t *s, const char *name, uint32_t hits)
{
    if (name && json_object_get(json_object_get(s, "properties"), name)) return true;
    for (uint32_t i = 0; i < o->n_pattern; i++)
        if (hits >> i & 1 && json_object_get(json_object_get(s, "patternProperties"), o->patterns[i].text))
            return true;
    return false;
}

static bool member_known(schema *x, const object *o, json_t *s, const char *name, uint32_t hits)
{
    items all = {0};
    bool known = false;
    brought_in(x, o->base, s, &all, 0);
    for (uint32_t i = 0; i < all.n; i++) {
        const json_t *t = all.p[i].s;
        known |= says(o, t, name, hits) || json_object_get(t, "additionalProperties") ||
                 (t != s && json_object_get(t, "unevaluatedProperties"));
    }
    items_free(&all);
    return known;
}

static uint32_t member_rule(schema *x, const object *o, const char *name, uint32_t hits)
{
    items l = {0};
    for (uint32_t k = 0; k < o->base->n; k++) {
        json_t *s = o->base->p[k].s, *own = name ? json_object_get(json_object_get(s, "properties"), name) : NULL;
        json_t *rest = json_object_get(s, "additionalProperties"),
               *other = json_object_get(s, "unevaluatedProperties");
        if (own) items_add(x, &l, own, ITEM_FULL);
        for (uint32_t i = 0; i < o->n_pattern; i++) {
            json_t *v = hits >> i & 1 ? json_object_get(json_object_get(s, "patternProperties"), o->patterns[i].text)
                                      : NULL;
            if (v) items_add(x, &l, v, ITEM_FULL);
        }
        if (rest && !says(o, s, name, hits)) items_add(x, &l, rest, ITEM_FULL);
        if (other && !json_is_true(other) && !member_known(x, o, s, name, hits)) items_add(x, &l, other, ITEM_FULL);
    }
    if (name && o->names_bound && !lr_dfa_matches(&o->allowed, lr_str_of(name)))
        items_add(x, &l, json_false(), ITEM_FULL);
    uint32_t rule = schema_rule(x, &l);
    items_free(&l);
    return rule;
}

/* "key": value, the key's end reached at `from`. */
static void put_member(schema *x, uint32_t from, uint32_t rule, uint32_t to)
{
    uint32_t colon = lr_net_puts(x->n, from, ":"), value = lr_net_puts(x->n, colon, " ");
    lr_net_skip(x->n, colon, value);
    lr_net_call(x->n, value, rule, to);
}

/* A rule for any one further member; 0: there can be none. */
static uint32_t further(schema *x, const object *o)
{
    lr_net *n = x->n;
    larder_error err = {0};
    uint32_t before = n->rule, id = 0;
    lr_str *names = lr_arena_array(&x->arena, o->n_names + 1, sizeof *names);
    if (!names) lr_net_fail(n, LARDER_NOMEM, "out of memory for a schema");
    for (uint32_t i = 0; names && i < o->n_names; i++) names[i] = lr_str_of(o->names[i]);
    for (uint32_t hits = 0; hits < 1u << o->n_pattern && !n->st; hits++) {
        uint32_t rule = member_rule(x, o, NULL, hits);
        if (rule == x->never && rule) continue;
        lr_dfa d = {0}, part = {0};
        larder_status st = lr_dfa_lengths(n, 0, UINT64_MAX, &d, &err);
        if (!st && o->n_names) st = lr_dfa_from_texts(n, names, o->n_names, &part, &err);
        if (!st && o->n_names) st = lr_dfa_and(n, &d, &part, true, &err);
        lr_dfa_free(&part);
        if (!st && o->names_bound) st = lr_dfa_and(n, &d, &o->allowed, false, &err);
        for (uint32_t i = 0; !st && i < o->n_pattern; i++)
            st = lr_dfa_and(n, &d, &o->patterns[i].d, !(hits >> i & 1), &err);
        bool bad = dfa_failed(x, st, &err, o->base->p[0].s, "");
        if (!bad && !lr_dfa_nothing(&d)) {
            if (!id) id = lr_net_rule(n);
            lr_net_enter(n, id);
            uint32_t start = n->st ? 0 : n->rules[id].start, end = n->st ? 0 : n->rules[id].end,
                     key = lr_net_state(n), close = lr_net_state(n);
            bool plain = !o->n_names && !o->names_bound && !o->n_pattern;
            if (plain) {
                lr_net_call(n, start, lr_json_rule_get(n, &x->rules, LR_JSON_STRING), close);
            } else if (!n->st) {
                lr_dfa_emit(n, &d, lr_net_puts(n, start, "\""), key, true);
                lr_net_bytes(n, key, '"', '"', close);
            }
            put_member(x, close, rule, end);
            lr_net_enter(n, before);
        }
        lr_dfa_free(&d);
    }
    return id;
}

static uint32_t hits_of(const object *o, const char *name)
{
    uint32_t hits = 0;
    for (uint32_t i = 0; i < o->n_pattern; i++)
        hits |= (uint32_t)lr_dfa_matches(&o->patterns[i].d, lr_str_of(name)) << i;
    return hits;
}

/* Columns: members so far, up to `cap` (where more no longer matter). Rows: declared names. A further member may repeat
 * an earlier one's name, so only the first of them is counted towards the minimum; all count towards the maximum. */
static void put_members(schema *x, const object *o, uint64_t min, uint64_t max, uint32_t more, uint32_t open,
                        uint32_t close)
{
    lr_net *n = x->n;
    uint64_t cap = max != UINT64_MAX ? max : LR_MAX(min, 1);
    uint32_t space = lr_json_rule_get(n, &x->rules, LR_JSON_SPACE),
             width = (uint32_t)LR_MIN(cap, (uint64_t)o->n_names + 1) + 1;
    if (!lr_net_spend(n, (uint64_t)width * (o->n_names + 1) * 4)) return;
    uint32_t *row = lr_arena_array(&x->arena, width, sizeof *row),
             *next = lr_arena_array(&x->arena, width, sizeof *next);
    if (!row || !next) {
        lr_net_fail(n, LARDER_NOMEM, "out of memory for a schema");
        return;
    }
    bool bounded = max != UINT64_MAX;
    for (uint32_t c = 0; c < width; c++) row[c] = lr_net_state(n);
    lr_net_skip(n, open, row[0]);
    for (uint32_t i = 0; i < o->n_names && !n->st; i++) {
        uint32_t rule = member_rule(x, o, o->names[i], hits_of(o, o->names[i]));
        for (uint32_t c = 0; c < width; c++) next[c] = lr_net_state(n);
        for (uint32_t c = 0; c < width && !n->st; c++) {
            if (!o->needed[i]) lr_net_skip(n, row[c], next[c]);
            if (bounded && c >= cap) continue; /* full */
            uint32_t begin = c ? lr_net_puts(n, row[c], ",") : row[c], key = lr_net_state(n);
            lr_net_call(n, begin, space, key);
            put_member(x, lr_json_quoted(n, key, lr_str_of(o->names[i])), rule, next[LR_MIN(c + 1, width - 1)]);
        }
        uint32_t *t = row;
        row = next;
        next = t;
    }
    uint32_t finish = lr_net_state(n);
    lr_net_call(n, finish, space, close);
    for (uint32_t c = 0; c < width && !n->st; c++) {
        if (c >= min) lr_net_skip(n, row[c], c ? finish : close);
        if (!c && !min) lr_net_call(n, row[c], space, close);
        uint64_t left = bounded ? max - LR_MIN(max, c) : UINT64_MAX;
        if (!more || !left || (uint64_t)c + 1 < min) continue;
        uint32_t begin = c ? lr_net_puts(n, row[c], ",") : row[c], key = lr_net_state(n), after = lr_net_state(n);
        lr_net_call(n, begin, space, key);
        for (uint64_t k = 0; k < left && !n->st; k++) {
            lr_net_call(n, key, more, after);
            lr_net_skip(n, after, finish);
            uint32_t comma = lr_net_puts(n, after, ","), again = lr_net_state(n);
            lr_net_call(n, comma, space, again);
            if (!bounded) {
                lr_net_call(n, again, more, after);
                break;
            }
            key = again;
            after = lr_net_state(n);
        }
    }
}

static void put_objects(schema *x, const items *base, uint32_t start, uint32_t end)
{
    lr_net *n = x->n;
    object o = {.base = base};
    uint64_t min = 0, max = UINT64_MAX;
    const json_t *wants = NULL;
    for (uint32_t i = 0; i < base->n; i++) {
        const json_t *s = base->p[i].s;
        if (count(s, "minProperties", 0) > min) min = count(s, "minProperties", 0), wants = s;
        max = LR_MIN(max, count(s, "maxProperties", UINT64_MAX));
    }
    if (list_names(x, &o) && list_patterns(x, &o) && bound_names(x, &o) && min <= max) {
        uint32_t more = further(x, &o);
        if (min > (uint64_t)o.n_names + (more != 0)) {
            if (more)
                schema_fail(x, LARDER_UNSUPPORTED, wants, "minProperties",
                            "more members than `properties` names cannot be counted on");
        } else if (!n->st) {
            uint32_t open = lr_net_puts(n, start, "{"), close = lr_net_state(n);
            put_members(x, &o, min, max, more, open, close);
            lr_net_bytes(n, close, '}', '}', end);
        }
    }
    for (uint32_t i = 0; i < o.n_pattern; i++) lr_dfa_free(&o.patterns[i].d);
    if (o.names_bound) lr_dfa_free(&o.allowed);
}

/* ---------------------------------------------------------------- all types */
/* `not` and `if` are in the set as other schemas by now, unless they could not be negated. */
static bool check_logic(schema *x, const items *base)
{
    for (uint32_t i = 0; i < base->n && !x->n->st; i++) {
        json_t *s = base->p[i].s, *no = json_object_get(s, "not"), *test = json_object_get(s, "if");
        if (no && !schema_negate(x, no))
            schema_fail(x, LARDER_UNSUPPORTED, s, "not", "the opposite of this schema cannot be enforced");
        if (test && (json_object_get(s, "then") || json_object_get(s, "else")) && !schema_negate(x, test))
            schema_fail(x, LARDER_UNSUPPORTED, s, "if", "the opposite of this schema cannot be enforced");
    }
    return !x->n->st;
}

void schema_put_types(schema *x, const items *base, uint32_t start, uint32_t end)
{
    lr_net *n = x->n;
    uint32_t types = TYPE_ALL;
    if (!check_logic(x, base)) return;
    for (uint32_t i = 0; i < base->n && !n->st; i++) types &= schema_types(x, base->p[i].s, 0);
    if (n->st) return;
    if (types & TYPE_NULL) lr_net_skip(n, lr_net_puts(n, start, "null"), end);
    if (types & TYPE_BOOL) lr_net_skip(n, lr_net_puts(n, start, "true"), end);
    if (types & TYPE_BOOL) lr_net_skip(n, lr_net_puts(n, start, "false"), end);
    if (types & (TYPE_INT | TYPE_FRACTION)) put_numbers(x, base, types & TYPE_FRACTION, start, end);
    if (types & TYPE_STRING && !n->st) put_strings(x, base, start, end);
    if (types & TYPE_ARRAY && !n->st) put_arrays(x, base, start, end);
    if (types & TYPE_OBJECT && !n->st) put_objects(x, base, start, end);
}
