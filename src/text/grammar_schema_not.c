/* grammar_schema_not.c - the negation of a schema as a schema, for `not`, `if` and a oneOf whose branches may meet.
 *
 * not (k1 and k2 ...) is anyOf(not k1, not k2, ...). What is made may hold of fewer values than it could (numbers with a
 * fraction are left out of `not integer`), never of more: it is only ever demanded, and what negates it again is the
 * original. NULL where a keyword has no negation that can be enforced.
 */
#include "grammar_schema.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static json_t *negate(schema *x, json_t *s, int depth);

/* Of one keyword: adds its negations to `any`. false: there is none. Steals nothing. */
typedef struct negation {
    schema *x;
    json_t *s, *value, *any;
    int depth;
} negation;

static bool add(negation *n, json_t *made)
{
    if (!made) return lr_net_fail(n->x->n, LARDER_NOMEM, "out of memory for a schema"), false;
    return json_array_append_new(n->any, made) == 0;
}

static bool not_type(negation *n)
{
    static const char *const names[] = {"null", "boolean", "string", "array", "object"};
    static const uint32_t bits[] = {TYPE_NULL, TYPE_BOOL, TYPE_STRING, TYPE_ARRAY, TYPE_OBJECT};
    json_t *only = json_pack("{s:O}", "type", n->value), *rest = json_array();
    uint32_t own = schema_types(n->x, only, 0);
    json_decref(only);
    for (size_t i = 0; i < LR_LEN(names); i++)
        if (!(own & bits[i])) json_array_append_new(rest, json_string(names[i]));
    if (!(own & (TYPE_INT | TYPE_FRACTION))) json_array_append_new(rest, json_string("number"));
    if (!json_array_size(rest)) return json_decref(rest), true;
    return add(n, json_pack("{s:o}", "type", rest));
}

static int by_number(const void *a, const void *b)
{
    double x = json_number_value(*(json_t *const *)a), y = json_number_value(*(json_t *const *)b);
    return (x > y) - (x < y);
}

/* Numbers between and beside these. */
static bool between(negation *n, json_t **v, size_t count)
{
    qsort(v, count, sizeof *v, by_number);
    for (size_t i = 0; i <= count; i++) {
        json_t *made = json_pack("{s:s}", "type", "number");
        if (made && i) json_object_set(made, "exclusiveMinimum", v[i - 1]);
        if (made && i < count) json_object_set(made, "exclusiveMaximum", v[i]);
        if (!add(n, made)) return false;
    }
    return true;
}

static bool not_values(negation *n, json_t *list)
{
    json_t *numbers[64], *texts = json_array(), *v, *types = json_array();
    size_t count = 0, i;
    uint32_t seen = 0;
    bool truth[2] = {false, false}, good = true;
    json_array_foreach(list, i, v)
    {
        seen |= schema_type_of(v);
        if (json_is_boolean(v)) truth[json_is_true(v)] = true;
        if (json_is_string(v)) json_array_append(texts, v);
        if (json_is_number(v) && count < LR_LEN(numbers)) numbers[count++] = v;
        else if (json_is_number(v)) good = false;
    }
    if (!(seen & TYPE_NULL)) json_array_append_new(types, json_string("null"));
    if (!(seen & TYPE_ARRAY)) json_array_append_new(types, json_string("array"));
    if (!(seen & TYPE_OBJECT)) json_array_append_new(types, json_string("object"));
    if (json_array_size(types)) good = good && add(n, json_pack("{s:O}", "type", types));
    json_decref(types);
    for (int b = 0; b < 2 && good; b++)
        if (!truth[b]) good = add(n, json_pack("{s:b}", "const", b));
    if (good) good = add(n, json_pack("{s:s,s:O}", "type", "string", "\001notTexts", texts));
    json_decref(texts);
    return good && between(n, numbers, count);
}

static bool not_count(negation *n, const char *type, const char *opposite, bool least)
{
    double v = json_number_value(n->value);
    if (least && v == 0) return true; /* always so */
    return add(n, json_pack("{s:s,s:I}", "type", type, opposite, (json_int_t)v + (least ? -1 : 1)));
}

static bool not_members(negation *n, bool required)
{
    const char *key;
    json_t *v;
    size_t i;
    if (required) {
        json_array_foreach(n->value, i, v) if (!add(n, json_pack("{s:s,s:{s:b}}", "type", "object", "properties",
                                                                 json_string_value(v), 0))) return false;
        return true;
    }
    json_object_foreach(n->value, key, v)
    {
        json_t *no = negate(n->x, v, n->depth + 1);
        if (!no) return false;
        if (!json_is_false(no) &&
            !add(n, json_pack("{s:s,s:[s],s:{s:O}}", "type", "object", "required", key, "properties", key, no)))
            return false;
    }
    return true;
}

static bool not_prefix(negation *n)
{
    size_t i;
    json_t *v;
    json_array_foreach(n->value, i, v)
    {
        json_t *no = negate(n->x, v, n->depth + 1), *prefix;
        if (!no) return false;
        if (json_is_false(no)) continue;
        prefix = json_array();
        for (size_t k = 0; k < i; k++) json_array_append_new(prefix, json_true());
        json_array_append(prefix, no);
        if (!add(n,
                 json_pack("{s:s,s:o,s:I}", "type", "array", "prefixItems", prefix, "minItems", (json_int_t)i + 1)))
            return false;
    }
    return true;
}

/* allOf: one of them fails; anyOf: all of them do. */
static bool not_list(negation *n, bool all)
{
    json_t *made = json_array(), *v;
    size_t i;
    json_array_foreach(n->value, i, v)
    {
        json_t *no = negate(n->x, v, n->depth + 1);
        if (!no) return json_decref(made), false;
        if (!all || !json_is_false(no)) json_array_append(made, no);
    }
    if (!json_array_size(made)) return json_decref(made), true;
    return add(n, json_pack("{s:o}", all ? "anyOf" : "allOf", made));
}

static bool not_one(negation *n, json_t *target)
{
    json_t *no = target ? negate(n->x, target, n->depth + 1) : NULL;
    if (!no) return false;
    return json_is_false(no) || json_array_append(n->any, no) == 0;
}

static bool not_if(negation *n)
{
    static const char *const ends[] = {"then", "else"};
    for (int w = 0; w < 2; w++) {
        json_t *end = json_object_get(n->s, ends[w]), *no = end ? negate(n->x, end, n->depth + 1) : json_false();
        json_t *when = w ? negate(n->x, n->value, n->depth + 1) : n->value;
        if (!no || (!when && !json_is_false(no))) return false;
        if (!json_is_false(no) && !add(n, json_pack("{s:[O,O]}", "allOf", when, no))) return false;
    }
    return true;
}

static bool not_keyword(negation *n, const char *key)
{
    static const char *const bounds[][2] = {{"minimum", "exclusiveMaximum"},
                                            {"maximum", "exclusiveMinimum"},
                                            {"exclusiveMinimum", "maximum"},
                                            {"exclusiveMaximum", "minimum"}};
    static const char *const said[] = {
        "title",           "description",    "default",  "examples",    "deprecated",
        "readOnly",        "writeOnly",      "$comment", "$schema",     "$id",
        "$anchor",         "$dynamicAnchor", "$defs",    "definitions", "contentMediaType",
        "contentEncoding", "contentSchema",  "then",     "else",        "minContains"};
    for (size_t i = 0; i < LR_LEN(said); i++)
        if (!strcmp(key, said[i])) return true;
    for (size_t i = 0; i < LR_LEN(bounds); i++)
        if (!strcmp(key, bounds[i][0]))
            return add(n, json_pack("{s:s,s:O}", "type", "number", bounds[i][1], n->value));
    if (!strcmp(key, "type")) return not_type(n);
    if (!strcmp(key, "enum")) return not_values(n, n->value);
    if (!strcmp(key, "const")) {
        json_t *list = json_pack("[O]", n->value);
        bool good = list && not_values(n, list);
        json_decref(list);
        return good;
    }
    if (!strcmp(key, "minLength")) return not_count(n, "string", "maxLength", true);
    if (!strcmp(key, "maxLength")) return not_count(n, "string", "minLength", false);
    if (!strcmp(key, "minItems")) return not_count(n, "array", "maxItems", true);
    if (!strcmp(key, "maxItems")) return not_count(n, "array", "minItems", false);
    if (!strcmp(key, "minProperties")) return not_count(n, "object", "maxProperties", true);
    if (!strcmp(key, "maxProperties")) return not_count(n, "object", "minProperties", false);
    if (!strcmp(key, "pattern")) return add(n, json_pack("{s:s,s:O}", "type", "string", "\001notPattern", n->value));
    if (!strcmp(key, "required")) return not_members(n, true);
    if (!strcmp(key, "properties")) return not_members(n, false);
    if (!strcmp(key, "prefixItems")) return not_prefix(n);
    if (!strcmp(key, "allOf")) return not_list(n, true);
    if (!strcmp(key, "anyOf")) return not_list(n, false);
    if (!strcmp(key, "not"))
        return json_is_boolean(n->value) ? not_one(n, json_is_true(n->value) ? json_false() : json_true())
                                         : json_array_append(n->any, n->value) == 0;
    if (!strcmp(key, "$ref")) return not_one(n, schema_find(n->x, n->s, json_string_value(n->value)));
    if (!strcmp(key, "if")) return not_if(n);
    if (!strcmp(key, "contains") && !json_object_get(n->s, "minContains") && !json_object_get(n->s, "maxContains")) {
        json_t *no = negate(n->x, n->value, n->depth + 1);
        return no && add(n, json_pack("{s:s,s:O}", "type", "array", "items", no));
    }
    if (!strcmp(key, "items") && json_is_false(n->value) && !json_object_get(n->s, "prefixItems"))
        return add(n, json_pack("{s:s,s:i}", "type", "array", "minItems", 1));
    static const char *const open[] = {"items", "additionalProperties", "propertyNames", "unevaluatedItems",
                                       "unevaluatedProperties"};
    for (size_t i = 0; i < LR_LEN(open); i++)
        if (!strcmp(key, open[i]) && json_is_true(n->value)) return true;
    return false;
}

static json_t *keep(schema *x, json_t *made)
{
    if (!made || json_array_append_new(x->made, made))
        return lr_net_fail(x->n, LARDER_NOMEM, "out of memory for a schema"), NULL;
    return made;
}

static json_t *negate(schema *x, json_t *s, int depth)
{
    const char *key;
    json_t *v;
    if (json_is_boolean(s)) return json_is_true(s) ? json_false() : json_true();
    if (depth > 40 || x->n->st || !lr_net_spend(x->n, 400)) return NULL;
    schema_check(x, s);
    if (x->n->st) return NULL;
    negation n = {.x = x, .s = s, .any = json_array(), .depth = depth};
    bool good = n.any != NULL;
    json_object_foreach(s, key, v)
    {
        n.value = v;
        if (!good || x->n->st) break;
        good = strncmp(key, "x-", 2) == 0 || not_keyword(&n, key);
    }
    json_t *made = NULL;
    if (good && !json_array_size(n.any)) made = json_false();
    else if (good && !x->n->st) made = keep(x, json_pack("{s:O}", "anyOf", n.any));
    json_decref(n.any);
    return made;
}

json_t *schema_negate(schema *x, json_t *s)
{
    char key[32];
    if (json_is_boolean(s)) return negate(x, s, 0);
    snprintf(key, sizeof key, "%p", (void *)s);
    json_t *known = json_object_get(x->negated, key);
    if (known) return json_is_null(known) ? NULL : known;
    json_t *made = negate(x, s, 0);
    if (!x->n->st && json_object_set(x->negated, key, made ? made : json_null()))
        lr_net_fail(x->n, LARDER_NOMEM, "out of memory for a schema");
    return made;
}
