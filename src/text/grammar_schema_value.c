/* grammar_schema_value.c - JSON Schema over values that are there: enum and const, and whether two schemas can share one. */
#include "grammar_schema.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { DEPTH = 200 };

uint32_t schema_type_of(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_NULL: return TYPE_NULL;
    case JSON_TRUE:
    case JSON_FALSE: return TYPE_BOOL;
    case JSON_INTEGER: return TYPE_INT;
    case JSON_REAL: return json_real_value(v) == floor(json_real_value(v)) ? TYPE_INT : TYPE_FRACTION;
    case JSON_STRING: return TYPE_STRING;
    case JSON_ARRAY: return TYPE_ARRAY;
    case JSON_OBJECT: return TYPE_OBJECT;
    }
    return 0;
}

static uint32_t type_named(const char *s)
{
    static const struct {
        const char *name;
        uint32_t bits;
    } all[] = {
        {"null", TYPE_NULL},     {"boolean", TYPE_BOOL}, {"integer", TYPE_INT},  {"number", TYPE_INT | TYPE_FRACTION},
        {"string", TYPE_STRING}, {"array", TYPE_ARRAY},  {"object", TYPE_OBJECT}};
    for (size_t i = 0; i < LR_LEN(all); i++)
        if (!strcmp(all[i].name, s)) return all[i].bits;
    return 0;
}

static uint32_t own_types(schema *x, const json_t *s)
{
    json_t *t = json_object_get(s, "type"), *v;
    size_t i;
    uint32_t bits = 0;
    if (!t) return TYPE_ALL;
    if (json_is_string(t)) bits = type_named(json_string_value(t));
    bool good = bits || json_is_array(t);
    json_array_foreach(t, i, v)
    {
        uint32_t b = type_named(json_string_value(v));
        good &= b != 0;
        bits |= b;
    }
    if (!good) schema_fail(x, LARDER_FORMAT, s, "type", "there is no such type");
    return bits;
}

uint32_t schema_types(schema *x, const json_t *s, int depth)
{
    json_t *v;
    size_t i;
    if (json_is_false(s)) return 0;
    if (!json_is_object(s) || depth > DEPTH || !lr_net_spend(x->n, 4)) return TYPE_ALL;
    uint32_t bits = own_types(x, s);
    const char *ref = json_string_value(json_object_get(s, "$ref"));
    json_t *target = ref ? schema_find(x, s, ref) : NULL, *one = json_object_get(s, "const"),
           *list = json_object_get(s, "enum");
    if (target) bits &= schema_types(x, target, depth + 1);
    if (one) bits &= schema_type_of(one);
    if (list && lr_net_spend(x->n, json_array_size(list) / 8)) {
        uint32_t some = 0;
        json_array_foreach(list, i, v) some |= schema_type_of(v);
        bits &= some;
    }
    json_array_foreach(json_object_get(s, "allOf"), i, v) bits &= schema_types(x, v, depth + 1);
    for (int w = 0; w < 2; w++) {
        json_t *any = json_object_get(s, w ? "oneOf" : "anyOf");
        uint32_t some = 0;
        json_array_foreach(any, i, v) some |= schema_types(x, v, depth + 1);
        if (any) bits &= some;
    }
    return bits;
}

bool schema_same(const json_t *a, const json_t *b)
{
    const char *key;
    json_t *v;
    size_t i;
    if (json_is_number(a) && json_is_number(b))
        return json_is_integer(a) && json_is_integer(b) ? json_integer_value(a) == json_integer_value(b)
                                                        : json_number_value(a) == json_number_value(b);
    if (json_typeof(a) != json_typeof(b)) return false;
    if (json_is_array(a)) {
        if (json_array_size(a) != json_array_size(b)) return false;
        json_array_foreach((json_t *)a, i, v) if (!schema_same(v, json_array_get(b, i))) return false;
        return true;
    }
    if (json_is_object(a)) {
        if (json_object_size(a) != json_object_size(b)) return false;
        json_object_foreach((json_t *)a, key, v)
        {
            const json_t *other = json_object_get(b, key);
            if (!other || !schema_same(v, other)) return false;
        }
        return true;
    }
    return json_equal(a, b);
}

/* ---------------------------------------------------------------- numbers in decimal */
bool schema_decimal(double v, const json_t *j, char out[400])
{
    char e[40];
    if (j && json_is_integer(j)) return snprintf(out, 400, "%" JSON_INTEGER_FORMAT, json_integer_value(j)), true;
    if (!isfinite(v)) return false;
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(e, sizeof e, "%.*e", digits - 1, v);
        if (strtod(e, NULL) == v) break;
    }
    /* [-]d[.ddd]e[+-]dd, to plain digits */
    char digits[24];
    int n = 0, at = 0, power = atoi(strchr(e, 'e') + 1);
    for (const char *p = e; *p != 'e'; p++)
        if (*p >= '0' && *p <= '9') digits[n++] = *p;
    if (e[0] == '-') out[at++] = '-';
    if (power < 0) {
        at += snprintf(out + at, 8, "0.");
        for (int i = -1; i > power; i--) out[at++] = '0';
    }
    for (int i = 0; i < n || i <= power; i++) {
        if (power >= 0 && i == power + 1) out[at++] = '.';
        out[at++] = i < n ? digits[i] : '0';
    }
    out[at] = 0;
    return true;
}

static void put_number(schema *x, uint32_t from, const json_t *v, uint32_t to)
{
    char s[400];
    if (json_is_integer(v)) {
        snprintf(s, sizeof s, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    } else {
        for (int digits = 1; digits <= 17; digits++) {
            snprintf(s, sizeof s, "%.*g", digits, json_real_value(v));
            if (strtod(s, NULL) == json_real_value(v)) break;
        }
    }
    lr_net_skip(x->n, lr_net_puts(x->n, from, s), to);
}

void schema_put_value(schema *x, uint32_t from, const json_t *v, uint32_t to)
{
    lr_net *n = x->n;
    const char *key;
    json_t *e;
    size_t i;
    if (n->st) return;
    uint32_t space = lr_json_rule_get(n, &x->rules, LR_JSON_SPACE), at;
    switch (json_typeof(v)) {
    case JSON_NULL: lr_net_skip(n, lr_net_puts(n, from, "null"), to); return;
    case JSON_TRUE: lr_net_skip(n, lr_net_puts(n, from, "true"), to); return;
    case JSON_FALSE: lr_net_skip(n, lr_net_puts(n, from, "false"), to); return;
    case JSON_INTEGER:
    case JSON_REAL: put_number(x, from, v, to); return;
    case JSON_STRING:
        lr_net_skip(n, lr_json_quoted(n, from, (lr_str){json_string_value(v), json_string_length(v)}), to);
        return;
    case JSON_ARRAY:
    case JSON_OBJECT: break;
    }
    bool object = json_is_object(v), first = true;
    from = lr_net_puts(n, from, object ? "{" : "[");
#define NEXT() \
    do { \
        if (!first) from = lr_net_puts(n, from, ","); \
        first = false; \
        lr_net_call(n, from, space, at = lr_net_state(n)); \
        from = at; \
    } while (0)
    json_array_foreach((json_t *)v, i, e)
    {
        NEXT();
        schema_put_value(x, from, e, at = lr_net_state(n));
        from = at;
    }
    json_object_foreach((json_t *)v, key, e)
    {
        NEXT();
        from = lr_net_puts(n, lr_json_quoted(n, from, lr_str_of(key)), ":");
        uint32_t value = lr_net_puts(n, from, " ");
        lr_net_skip(n, from, value);
        schema_put_value(x, value, e, at = lr_net_state(n));
        from = at;
    }
#undef NEXT
    lr_net_call(n, from, space, at = lr_net_state(n));
    lr_net_bytes(n, at, object ? '}' : ']', object ? '}' : ']', to);
}

/* ---------------------------------------------------------------- validity */
static bool matches(schema *x, const json_t *s, const char *keyword, const char *regex, const json_t *v)
{
    lr_dfa d;
    larder_error err = {0};
    larder_status st = lr_dfa_from_regex(x->n, lr_str_of(regex), false, &d, &err);
    if (st) return schema_fail(x, st, s, keyword, "%s", err.message), false;
    bool good = lr_dfa_matches(&d, (lr_str){json_string_value(v), json_string_length(v)});
    lr_dfa_free(&d);
    return good;
}

static size_t characters(const json_t *v)
{
    lr_str s = {json_string_value(v), json_string_length(v)};
    size_t n = 0;
    for (size_t at = 0; at < s.n && lr_utf8_next(s, &at) >= 0;) n++;
    return n;
}

static double number(const json_t *s, const char *key, double other)
{
    const json_t *v = json_object_get(s, key);
    return v ? json_number_value(v) : other;
}

static bool valid_number(schema *x, const json_t *s, const json_t *v)
{
    double d = json_number_value(v);
    if (d < number(s, "minimum", -INFINITY) || d > number(s, "maximum", INFINITY)) return false;
    if (d <= number(s, "exclusiveMinimum", -INFINITY) || d >= number(s, "exclusiveMaximum", INFINITY)) return false;
    const json_t *m = json_object_get(s, "multipleOf");
    if (!m) return true;
    if (json_is_integer(m) && json_is_integer(v)) return json_integer_value(v) % json_integer_value(m) == 0;
    double q = d / json_number_value(m);
    if (!isfinite(q)) return false;
    (void)x;
    return fabs(q - nearbyint(q)) <= fabs(q) * 1e-15;
}

static bool valid_string(schema *x, const json_t *s, const json_t *v)
{
    double n = (double)characters(v);
    if (n < number(s, "minLength", 0) || n > number(s, "maxLength", INFINITY)) return false;
    const char *pattern = json_string_value(json_object_get(s, "pattern")),
               *format = json_string_value(json_object_get(s, "format"));
    const char *no = json_string_value(json_object_get(s, "\001notPattern"));
    json_t *texts = json_object_get(s, "\001notTexts"), *e;
    size_t i;
    json_array_foreach(texts, i, e) if (json_equal(e, v)) return false;
    if (no && matches(x, s, "not", no, v)) return false;
    if (pattern && !matches(x, s, "pattern", pattern, v)) return false;
    if (!format) return true;
    const char *regex = lr_format_regex(format);
    if (!regex)
        return schema_fail(x, LARDER_UNSUPPORTED, s, "format", "\"%.40s\" is not a format that is enforced", format),
               false;
    return matches(x, s, "format", regex, v);
}

static bool valid_array(schema *x, json_t *s, const json_t *v, int depth)
{
    json_t *prefix = json_object_get(s, "prefixItems"), *rest = json_object_get(s, "items"),
           *contains = json_object_get(s, "contains"), *e;
    size_t i, found = 0, n = json_array_size(v);
    if ((double)n < number(s, "minItems", 0) || (double)n > number(s, "maxItems", INFINITY)) return false;
    if (json_object_get(s, "unevaluatedItems") && !json_is_true(json_object_get(s, "unevaluatedItems")))
        return schema_fail(x, LARDER_UNSUPPORTED, s, "unevaluatedItems",
                           "it is not enforced for the lists of an enum"),
               false;
    json_array_foreach((json_t *)v, i, e)
    {
        json_t *of = i < json_array_size(prefix) ? json_array_get(prefix, i) : rest;
        if (of && !schema_valid(x, of, e, depth + 1)) return false;
        if (contains && schema_valid(x, contains, e, depth + 1)) found++;
        for (size_t k = 0; json_is_true(json_object_get(s, "uniqueItems")) && k < i; k++)
            if (!lr_net_spend(x->n, 4) || schema_same(json_array_get(v, k), e)) return false;
    }
    return !contains ||
           ((double)found >= number(s, "minContains", 1) && (double)found <= number(s, "maxContains", INFINITY));
}

static bool valid_member(schema *x, json_t *s, const char *name, json_t *value, int depth)
{
    json_t *own = json_object_get(json_object_get(s, "properties"), name),
           *names = json_object_get(s, "propertyNames"), *v;
    const char *pattern;
    bool known = own != NULL, good = !own || schema_valid(x, own, value, depth + 1);
    json_t *text = json_string(name);
    json_object_foreach(json_object_get(s, "patternProperties"), pattern, v)
    {
        if (!text || !matches(x, s, "patternProperties", pattern, text)) continue;
        known = true;
        good = good && schema_valid(x, v, value, depth + 1);
    }
    if (names && text) good = good && schema_valid(x, names, text, depth + 1);
    json_decref(text);
    json_t *other = json_object_get(s, "additionalProperties");
    return good && (known || !other || schema_valid(x, other, value, depth + 1));
}

static bool valid_object(schema *x, json_t *s, const json_t *v, int depth)
{
    json_t *e, *d;
    const char *key;
    size_t i, n = json_object_size(v);
    if ((double)n < number(s, "minProperties", 0) || (double)n > number(s, "maxProperties", INFINITY)) return false;
    if (json_object_get(s, "unevaluatedProperties") && !json_is_true(json_object_get(s, "unevaluatedProperties")))
        return schema_fail(x, LARDER_UNSUPPORTED, s, "unevaluatedProperties",
                           "it is not enforced for the objects of an enum"),
               false;
    json_array_foreach(json_object_get(s, "required"), i,
                       e) if (!json_object_get(v, json_string_value(e))) return false;
    json_object_foreach(json_object_get(s, "dependentRequired"), key, d)
    {
        if (!json_object_get(v, key)) continue;
        json_array_foreach(d, i, e) if (!json_object_get(v, json_string_value(e))) return false;
    }
    json_object_foreach(json_object_get(s, "dependentSchemas"), key,
                        d) if (json_object_get(v, key) && !schema_valid(x, d, v, depth + 1)) return false;
    json_object_foreach((json_t *)v, key, e) if (!valid_member(x, s, key, e, depth)) return false;
    return true;
}

static bool valid_combined(schema *x, json_t *s, const json_t *v, int depth)
{
    const char *ref = json_string_value(json_object_get(s, "$ref"));
    json_t *target = ref ? schema_find(x, s, ref) : NULL, *e, *any = json_object_get(s, "anyOf"),
           *one = json_object_get(s, "oneOf");
    json_t *no = json_object_get(s, "not"), *test = json_object_get(s, "if");
    size_t i, held = 0;
    if (target && !schema_valid(x, target, v, depth + 1)) return false;
    json_array_foreach(json_object_get(s, "allOf"), i, e) if (!schema_valid(x, e, v, depth + 1)) return false;
    json_array_foreach(any, i, e) if (schema_valid(x, e, v, depth + 1)) held++;
    if (any && !held) return false;
    held = 0;
    json_array_foreach(one, i, e) if (schema_valid(x, e, v, depth + 1)) held++;
    if (one && held != 1) return false;
    if (no && schema_valid(x, no, v, depth + 1)) return false;
    if (!test) return true;
    e = json_object_get(s, schema_valid(x, test, v, depth + 1) ? "then" : "else");
    return !e || schema_valid(x, e, v, depth + 1);
}

bool schema_valid(schema *x, json_t *s, const json_t *v, int depth)
{
    json_t *one, *list;
    size_t i;
    if (json_is_boolean(s) || x->n->st) return json_is_true(s);
    if (depth > DEPTH)
        return schema_fail(x, LARDER_LIMIT, s, "", "values are nested too deeply to be checked"), false;
    if (!lr_net_spend(x->n, 32)) return false;
    schema_check(x, s);
    if (x->n->st) return false;
    uint32_t type = schema_type_of(v);
    if (!(own_types(x, s) & type)) return false;
    if ((one = json_object_get(s, "const")) && !schema_same(one, v)) return false;
    if ((list = json_object_get(s, "enum"))) {
        bool found = json_array_get(list, x->hint) == v;
        for (i = 0; !found && i < json_array_size(list) && lr_net_spend(x->n, 1); i++)
            found = schema_same(json_array_get(list, i), v);
        if (!found) return false;
    }
    if (type & (TYPE_INT | TYPE_FRACTION) && !valid_number(x, s, v)) return false;
    if (type == TYPE_STRING && !valid_string(x, s, v)) return false;
    if (type == TYPE_ARRAY && !valid_array(x, s, v, depth)) return false;
    if (type == TYPE_OBJECT && !valid_object(x, s, v, depth)) return false;
    return valid_combined(x, s, v, depth) && !x->n->st;
}

/* ---------------------------------------------------------------- apart */
/* The schemas that surely apply where s does: itself, its reference, its allOf. */
static void gather(schema *x, json_t *s, items *out, int depth)
{
    json_t *v;
    size_t i;
    if (depth > 32 || !items_add(x, out, s, ITEM_BASE) || !json_is_object(s)) return;
    const char *ref = json_string_value(json_object_get(s, "$ref"));
    json_t *target = ref ? schema_find(x, s, ref) : NULL;
    if (target) gather(x, target, out, depth + 1);
    json_array_foreach(json_object_get(s, "allOf"), i, v) gather(x, v, out, depth + 1);
}

static const json_t *finite_of(const items *l, bool *one)
{
    for (uint32_t i = 0; i < l->n; i++) {
        const json_t *c = json_object_get(l->p[i].s, "const"), *e = json_object_get(l->p[i].s, "enum");
        if (c || e) return *one = c != NULL, c ? c : e;
    }
    return NULL;
}

/* No value of the finite one of two is valid in the other. */
static bool apart_by_values(schema *x, json_t *a, const items *la, json_t *b)
{
    bool one = false;
    const json_t *list = finite_of(la, &one);
    if (!list) return false;
    if (one) return !schema_valid(x, a, list, 1) || !schema_valid(x, b, list, 1);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (schema_valid(x, a, json_array_get(list, i), 1) && schema_valid(x, b, json_array_get(list, i), 1))
            return false;
    return true;
}

/* What l says of a member: its schema in one of l's; false where no more members may be. */
static json_t *member_of(const item *it, const char *name)
{
    json_t *own = json_object_get(json_object_get(it->s, "properties"), name);
    if (own) return own;
    if (json_object_size(json_object_get(it->s, "patternProperties"))) return NULL;
    return json_object_get(it->s, "additionalProperties");
}

static bool apart_by_member(schema *x, const items *a, const items *b, int depth)
{
    for (uint32_t i = 0; i < a->n; i++) {
        json_t *list = json_object_get(a->p[i].s, "required"), *name;
        size_t k;
        json_array_foreach(list, k, name)
        {
            const char *key = json_string_value(name);
            for (uint32_t m = 0; m < a->n; m++)
                for (uint32_t o = 0; o < b->n; o++) {
                    json_t *p = member_of(&a->p[m], key), *q = member_of(&b->p[o], key);
                    if (json_is_false(q) || (p && q && schema_apart(x, p, q, TYPE_ALL, depth + 1))) return true;
                }
        }
    }
    return false;
}

static double bound(const items *l, bool upper, const char *loose, const char *strict, bool *open)
{
    double best = upper ? INFINITY : -INFINITY;
    for (uint32_t i = 0; i < l->n; i++)
        for (int w = 0; w < 2; w++) {
            const char *key = w ? strict : loose;
            const json_t *v = key ? json_object_get(l->p[i].s, key) : NULL;
            if (!v) continue;
            double d = json_number_value(v);
            if (upper ? d < best || (d == best && w) : d > best || (d == best && w)) best = d, *open = w;
        }
    return best;
}

static bool below(const items *a, const items *b, const char *max, const char *strict_max, const char *min,
                  const char *strict_min)
{
    bool open = false, open_too = false;
    double hi = bound(a, true, max, strict_max, &open), lo = bound(b, false, min, strict_min, &open_too);
    return hi < lo || (hi == lo && (open || open_too) && isfinite(hi));
}

bool schema_apart(schema *x, json_t *a, json_t *b, uint32_t types, int depth)
{
    if (json_is_false(a) || json_is_false(b)) return true;
    if (depth > 8 || x->n->st || !lr_net_spend(x->n, 64)) return false;
    uint32_t both = types & schema_types(x, a, 0) & schema_types(x, b, 0);
    if (!both) return true;
    if (!json_is_object(a) || !json_is_object(b)) return false;
    items la = {0}, lb = {0};
    gather(x, a, &la, 0);
    gather(x, b, &lb, 0);
    for (uint32_t i = 0; i < la.n + lb.n && !x->n->st; i++) {
        json_t *s = i < la.n ? la.p[i].s : lb.p[i - la.n].s;
        if (json_is_object(s)) schema_check(x, s);
    }
    bool apart = !x->n->st && (apart_by_values(x, a, &la, b) || apart_by_values(x, b, &lb, a));
    if (!apart && !x->n->st) {
        apart = true;
        if (both & (TYPE_INT | TYPE_FRACTION))
            apart &= below(&la, &lb, "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum") ||
                     below(&lb, &la, "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum");
        if (both & TYPE_STRING)
            apart &= below(&la, &lb, "maxLength", NULL, "minLength", NULL) ||
                     below(&lb, &la, "maxLength", NULL, "minLength", NULL);
        if (both & TYPE_ARRAY)
            apart &= below(&la, &lb, "maxItems", NULL, "minItems", NULL) ||
                     below(&lb, &la, "maxItems", NULL, "minItems", NULL);
        if (both & TYPE_OBJECT) apart &= apart_by_member(x, &la, &lb, depth) || apart_by_member(x, &lb, &la, depth);
        if (both & (TYPE_NULL | TYPE_BOOL)) apart = false;
    }
    items_free(&la);
    items_free(&lb);
    return apart;
}
