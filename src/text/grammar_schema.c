/* grammar_schema.c - JSON Schema to rules: references, combinations, and the set of places still to be written. */
#include "grammar_schema.h"

#include <stdio.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- naming a place */
static bool point_at(const json_t *at, const json_t *want, lr_buf *path, int depth)
{
    if (at == want) return true;
    size_t before = path->n, i;
    json_t *v;
    const char *key;
    if (depth > 2100) return false;
    if (json_is_object(at)) {
        json_object_foreach((json_t *)at, key, v)
        {
            lr_buf_puts(path, "/");
            for (const char *k = key; *k; k++)
                lr_buf_puts(path, *k == '~' ? "~0" : *k == '/' ? "~1" : (char[2]){*k, 0});
            if (point_at(v, want, path, depth + 1)) return true;
            path->n = before;
        }
    } else if (json_is_array(at)) {
        json_array_foreach((json_t *)at, i, v)
        {
            lr_buf_printf(path, "/%zu", i);
            if (point_at(v, want, path, depth + 1)) return true;
            path->n = before;
        }
    }
    return false;
}

void schema_fail(schema *x, larder_status st, const json_t *s, const char *keyword, const char *fmt, ...)
{
    char what[300];
    lr_buf path = {0};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    point_at(x->root, s, &path, 0);
    lr_net_fail(x->n, st, "the schema, at #%.*s%s%s: %s", (int)LR_MIN(path.n, 120), path.n ? path.p : "",
                *keyword ? "/" : "", keyword, what);
    lr_buf_free(&path);
}

/* ---------------------------------------------------------------- sets of schemas */
static uint32_t place_of(const struct met *met, uint32_t cap, const json_t *s)
{
    uint32_t at = (uint32_t)((uintptr_t)s * 0x9e3779b97f4a7c15u >> 32) & (cap - 1);
    while (met[at].s && met[at].s != s) at = (at + 1) & (cap - 1);
    return at;
}

static struct met *meet(schema *x, json_t *s)
{
    if (x->n_met * 2 >= x->cap_met) {
        uint32_t cap = LR_MAX(256u, x->cap_met * 2);
        struct met *met = lr_calloc(cap, sizeof *met);
        if (!met) return lr_net_fail(x->n, LARDER_NOMEM, "out of memory for a schema"), NULL;
        for (uint32_t i = 0; i < x->cap_met; i++)
            if (x->met[i].s) met[place_of(met, cap, x->met[i].s)] = x->met[i];
        lr_free(x->met);
        x->met = met;
        x->cap_met = cap;
    }
    struct met *m = &x->met[place_of(x->met, x->cap_met, s)];
    if (!m->s) *m = (struct met){s, x->n_met++, false};
    return m;
}

bool items_add(schema *x, items *l, json_t *s, item_how how)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (l->p[i].s == s && l->p[i].how == (uint32_t)how) return false;
    if (!lr_net_spend(x->n, l->n + 1)) return false;
    if (l->n == l->cap) {
        item *p = lr_realloc(l->p, (l->cap * 2 + 8) * sizeof *p);
        if (!p) return lr_net_fail(x->n, LARDER_NOMEM, "out of memory for a schema"), false;
        l->p = p;
        l->cap = l->cap * 2 + 8;
    }
    const struct met *m = meet(x, s);
    if (!m) return false;
    l->p[l->n++] = (item){s, how, m->order};
    return true;
}

void items_free(items *l)
{
    lr_free(l->p);
    *l = (items){0};
}

static int by_item(const void *a, const void *b)
{
    const item *x = a, *y = b;
    if (x->order != y->order) return x->order < y->order ? -1 : 1;
    return (x->how > y->how) - (x->how < y->how);
}

static uint64_t hash_items(const item *p, uint32_t n)
{
    uint64_t h = n;
    for (uint32_t i = 0; i < n; i++)
        h = (h ^ (uint64_t)p[i].order << 2 ^ p[i].how) * 0x9e3779b97f4a7c15u, h ^= h >> 29;
    return h;
}

static bool jobs_room(schema *x)
{
    if (x->n_job == x->cap_job) {
        schema_job *p = lr_realloc(x->jobs, (x->cap_job * 2 + 64) * sizeof *p);
        if (!p) return false;
        x->jobs = p;
        x->cap_job = x->cap_job * 2 + 64;
    }
    if ((x->n_job + 1) * 2 <= x->n_slot) return true;
    uint32_t n = LR_MAX(256u, x->n_slot * 2), *p = lr_calloc(n, sizeof *p);
    if (!p) return false;
    for (uint32_t i = 0; i < x->n_job; i++) {
        uint32_t h = (uint32_t)hash_items(x->jobs[i].p, x->jobs[i].n) & (n - 1);
        while (p[h]) h = (h + 1) & (n - 1);
        p[h] = i + 1;
    }
    lr_free(x->slot);
    x->slot = p;
    x->n_slot = n;
    return true;
}

static uint32_t never(schema *x)
{
    if (!x->never) x->never = lr_net_rule(x->n);
    return x->never;
}

static bool same_items(const item *a, const item *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (a[i].s != b[i].s || a[i].how != b[i].how) return false;
    return true;
}

uint32_t schema_rule(schema *x, items *l)
{
    uint32_t keep = 0;
    for (uint32_t i = 0; i < l->n; i++) {
        const json_t *s = l->p[i].s;
        if (l->p[i].how == ITEM_FULL && json_is_false(s)) return never(x);
        if (l->p[i].how == ITEM_FULL && (json_is_true(s) || (json_is_object(s) && !json_object_size(s)))) continue;
        l->p[keep++] = l->p[i];
    }
    l->n = keep;
    if (!keep) return lr_json_rule_get(x->n, &x->rules, LR_JSON_VALUE);
    qsort(l->p, l->n, sizeof *l->p, by_item);
    if (!lr_net_spend(x->n, l->n * 8 + 32) || x->n->st) return 0;
    item *copy = jobs_room(x) ? lr_arena_array(&x->arena, l->n, sizeof *copy) : NULL;
    if (!copy) return lr_net_fail(x->n, LARDER_NOMEM, "out of memory for a schema"), 0;
    uint32_t h = (uint32_t)hash_items(l->p, l->n) & (x->n_slot - 1);
    for (; x->slot[h]; h = (h + 1) & (x->n_slot - 1)) {
        const schema_job *j = &x->jobs[x->slot[h] - 1];
        if (j->n == l->n && same_items(j->p, l->p, l->n)) return j->rule;
    }
    memcpy(copy, l->p, l->n * sizeof *copy);
    uint32_t rule = lr_net_rule(x->n);
    x->jobs[x->n_job] = (schema_job){copy, l->n, rule};
    x->slot[h] = ++x->n_job;
    return rule;
}

/* ---------------------------------------------------------------- references */
/* The schema that "#" means inside s: the nearest around it with an $id, or the root. Looks for s from `at` down. */
static json_t *resource_of(schema *x, json_t *at, json_t *in, const json_t *s, int depth)
{
    const char *key;
    json_t *v, *f = NULL;
    size_t i;
    if (depth > 2100 || !lr_net_spend(x->n, 4)) return NULL;
    if (json_is_string(json_object_get(at, "$id"))) in = at;
    if (at == s) return in;
    if (json_is_object(at)) {
        json_object_foreach(at, key, v) if ((f = resource_of(x, v, in, s, depth + 1))) break;
    } else if (json_is_array(at)) {
        json_array_foreach(at, i, v) if ((f = resource_of(x, v, in, s, depth + 1))) break;
    }
    return f;
}

static json_t *find_anchor(schema *x, json_t *at, const char *name, int depth)
{
    const char *key;
    json_t *v;
    size_t i;
    if (depth > 2100 || !lr_net_spend(x->n, 4)) return NULL;
    if (json_is_object(at)) {
        const char *a = json_string_value(json_object_get(at, "$anchor")),
                   *d = json_string_value(json_object_get(at, "$dynamicAnchor"));
        if (depth && json_is_string(json_object_get(at, "$id"))) return NULL; /* another resource */
        if ((a && !strcmp(a, name)) || (d && !strcmp(d, name))) return at;
        json_object_foreach(at, key, v)
        {
            if (!strcmp(key, "enum") || !strcmp(key, "const")) continue;
            json_t *f = find_anchor(x, v, name, depth + 1);
            if (f) return f;
        }
    } else if (json_is_array(at)) {
        json_array_foreach(at, i, v)
        {
            json_t *f = find_anchor(x, v, name, depth + 1);
            if (f) return f;
        }
    }
    return NULL;
}

static int hex_of(int c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* One step of a pointer: up to the next slash, with %XX and ~0 ~1 taken back. */
static const char *pointer_step(const char *p, char *out, size_t cap)
{
    size_t n = 0;
    while (*p && *p != '/' && n + 1 < cap) {
        int c = (uint8_t)*p++;
        if (c == '%' && hex_of(p[0]) >= 0 && hex_of(p[1]) >= 0) c = hex_of(p[0]) * 16 + hex_of(p[1]), p += 2;
        if (c == '~' && (*p == '0' || *p == '1')) c = *p++ == '0' ? '~' : '/';
        out[n++] = (char)c;
    }
    out[n] = 0;
    return p;
}

json_t *schema_find(schema *x, const json_t *s, const char *ref)
{
    json_t *found = x->resources ? resource_of(x, x->root, x->root, s, 0) : NULL, *root = found ? found : x->root;
    json_t *at = root;
    const char *id = json_string_value(json_object_get(root, "$id"));
    char step[1024];
    if (id && *ref != '#') { /* the document by its own name */
        size_t n = strcspn(id, "#");
        if (!strncmp(ref, id, n) && (ref[n] == '#' || !ref[n])) ref += n;
        if (!*ref) return at;
    }
    if (*ref != '#') {
        schema_fail(x, LARDER_UNSUPPORTED, s, "$ref", "only references within the schema are followed, not \"%.80s\"",
                    ref);
        return NULL;
    }
    const char *p = ref + 1;
    if (*p && *p != '/') {
        at = find_anchor(x, root, p, 0);
    } else {
        while (at && *p == '/') {
            p = pointer_step(p + 1, step, sizeof step);
            if (json_is_object(at)) at = json_object_get(at, step);
            else if (json_is_array(at) && *step && strspn(step, "0123456789") == strlen(step))
                at = json_array_get(at, (size_t)strtoul(step, NULL, 10));
            else at = NULL;
        }
        if (*p) at = NULL;
    }
    if (at && !json_is_object(at) && !json_is_boolean(at)) at = NULL;
    if (!at) schema_fail(x, LARDER_FORMAT, s, "$ref", "there is no schema \"%.80s\"", ref);
    return at;
}

/* ---------------------------------------------------------------- keywords */
typedef enum keyword_shape {
    ANNOTATION,
    SCHEMA,
    SCHEMAS,
    SCHEMA_MAP,
    STRINGS,
    STRING,
    NUMBER,
    COUNT,
    BOOLEAN,
    VALUE,
    VALUES,
    TYPES,
    STRING_MAP,
    REFUSED
} keyword_shape;
static const struct keyword {
    const char *name;
    keyword_shape shape;
} keywords[] = {
    {"$schema", STRING},
    {"$id", ANNOTATION},
    {"$anchor", ANNOTATION},
    {"$dynamicAnchor", ANNOTATION},
    {"$comment", ANNOTATION},
    {"$defs", ANNOTATION},
    {"definitions", ANNOTATION},
    {"title", ANNOTATION},
    {"description", ANNOTATION},
    {"default", ANNOTATION},
    {"examples", ANNOTATION},
    {"deprecated", ANNOTATION},
    {"readOnly", ANNOTATION},
    {"writeOnly", ANNOTATION},
    {"contentMediaType", ANNOTATION},
    {"contentEncoding", ANNOTATION},
    {"contentSchema", ANNOTATION},
    {"$ref", STRING},
    {"allOf", SCHEMAS},
    {"anyOf", SCHEMAS},
    {"oneOf", SCHEMAS},
    {"not", SCHEMA},
    {"if", SCHEMA},
    {"then", SCHEMA},
    {"else", SCHEMA},
    {"dependentSchemas", SCHEMA_MAP},
    {"dependentRequired", STRING_MAP},
    {"type", TYPES},
    {"enum", VALUES},
    {"const", VALUE},
    {"minimum", NUMBER},
    {"maximum", NUMBER},
    {"exclusiveMinimum", NUMBER},
    {"exclusiveMaximum", NUMBER},
    {"multipleOf", NUMBER},
    {"minLength", COUNT},
    {"maxLength", COUNT},
    {"pattern", STRING},
    {"format", STRING},
    {"items", SCHEMA},
    {"prefixItems", SCHEMAS},
    {"minItems", COUNT},
    {"maxItems", COUNT},
    {"uniqueItems", BOOLEAN},
    {"contains", SCHEMA},
    {"minContains", COUNT},
    {"maxContains", COUNT},
    {"unevaluatedItems", SCHEMA},
    {"properties", SCHEMA_MAP},
    {"patternProperties", SCHEMA_MAP},
    {"additionalProperties", SCHEMA},
    {"propertyNames", SCHEMA},
    {"required", STRINGS},
    {"minProperties", COUNT},
    {"maxProperties", COUNT},
    {"unevaluatedProperties", SCHEMA},
    {"$dynamicRef", REFUSED},
    {"$recursiveRef", REFUSED},
    {"$recursiveAnchor", REFUSED},
    {"$vocabulary", REFUSED},
    {"\001notTexts", STRINGS},
    {"\001notPattern", STRING}, /* made by schema_negate */
    {"dependencies", REFUSED},
    {"additionalItems", REFUSED},
};

static bool is_schema(const json_t *v) { return json_is_object(v) || json_is_boolean(v); }

static bool strings_only(const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!json_is_string(json_array_get(list, i))) return false;
    return json_is_array(list);
}

static bool well_formed(keyword_shape k, json_t *v)
{
    const char *key;
    json_t *e;
    size_t i;
    switch (k) {
    case ANNOTATION:
    case VALUE:
    case REFUSED: return true;
    case SCHEMA: return is_schema(v);
    case SCHEMAS: json_array_foreach(v, i, e) if (!is_schema(e)) return false; return json_array_size(v) > 0;
    case SCHEMA_MAP: json_object_foreach(v, key, e) if (!is_schema(e)) return false; return json_is_object(v);
    case STRING_MAP: json_object_foreach(v, key, e) if (!strings_only(e)) return false; return json_is_object(v);
    case STRINGS: return strings_only(v);
    case STRING: return json_is_string(v);
    case NUMBER: return json_is_number(v);
    case COUNT:
        return json_is_number(v) && json_number_value(v) >= 0 &&
               json_number_value(v) == (double)(uint64_t)LR_MIN(json_number_value(v), 9e15);
    case BOOLEAN: return json_is_boolean(v);
    case VALUES: return json_is_array(v);
    case TYPES: return json_is_string(v) || (strings_only(v) && json_array_size(v) > 0);
    }
    return false;
}

static void check_dialect(schema *x, const json_t *s, const char *uri)
{
    static const char *const known[] = {
        "https://json-schema.org/draft/2020-12/schema", "https://json-schema.org/draft/2019-09/schema",
        "http://json-schema.org/draft-07/schema", "http://json-schema.org/draft-06/schema"};
    size_t n = strcspn(uri, "#");
    for (size_t i = 0; i < LR_LEN(known); i++)
        if (strlen(known[i]) == n && !memcmp(uri, known[i], n)) return;
    schema_fail(x, LARDER_UNSUPPORTED, s, "$schema", "\"%.80s\" is not a dialect that is enforced", uri);
}

void schema_check(schema *x, json_t *s)
{
    const char *key;
    json_t *v;
    struct met *m = meet(x, s);
    if (!m || m->checked) return;
    m->checked = true;
    json_object_foreach(s, key, v)
    {
        const struct keyword *k = NULL;
        for (size_t i = 0; i < LR_LEN(keywords) && !k; i++)
            if (!strcmp(keywords[i].name, key)) k = &keywords[i];
        if (!lr_net_spend(x->n, 32 + json_object_size(v) + json_array_size(v))) return;
        if (!k && !strncmp(key, "x-", 2)) continue; /* annotations by their name */
        if (!k || k->shape == REFUSED) schema_fail(x, LARDER_UNSUPPORTED, s, key, "this keyword cannot be enforced");
        else if (!well_formed(k->shape, v))
            schema_fail(x, LARDER_FORMAT, s, key, "this keyword's value is not of the kind it must be");
        else if (!strcmp(key, "$schema")) check_dialect(x, s, json_string_value(v));
        else if (!strcmp(key, "$id")) x->resources |= s != x->root;
        else if (!strcmp(key, "multipleOf") && !(json_number_value(v) > 0))
            schema_fail(x, LARDER_FORMAT, s, key, "it must be above 0");
        if (x->n->st) return;
    }
}

/* ---------------------------------------------------------------- expanding */
/* anyOf: [no such member, demand], for each dependency. */
static void add_dependencies(schema *x, json_t *s, items *out)
{
    static const char *const words[] = {"dependentSchemas", "dependentRequired"};
    for (int w = 0; w < 2; w++) {
        const char *name;
        json_t *v;
        json_object_foreach(json_object_get(s, words[w]), name, v)
        {
            json_t *demand = w ? json_pack("{s:O}", "required", v)
                               : json_pack("{s:[s],s:[O]}", "required", name, "allOf", v);
            json_t *made = json_pack("{s:[{s:{s:b}},o]}", "anyOf", "properties", name, 0, demand);
            if (!made || json_array_append_new(x->made, made)) {
                lr_net_fail(x->n, LARDER_NOMEM, "out of memory for a schema");
                return;
            }
            items_add(x, out, made, ITEM_BASE);
            items_add(x, out, made, ITEM_ANY);
        }
    }
}

/* if, then, else: anyOf of the two ways. */
static void add_condition(schema *x, json_t *s, items *out)
{
    json_t *test = json_object_get(s, "if"), *then = json_object_get(s, "then"),
           *otherwise = json_object_get(s, "else");
    json_t *no = test && (then || otherwise) ? schema_negate(x, test) : NULL;
    if (!no || x->n->st) return; /* nothing to do, or refused where the schema is written out */
    json_t *made = json_pack("{s:[{s:[O,O]},{s:[O,O]}]}", "anyOf", "allOf", test, then ? then : json_true(), "allOf",
                             no, otherwise ? otherwise : json_true());
    if (!made || json_array_append_new(x->made, made)) {
        lr_net_fail(x->n, LARDER_NOMEM, "out of memory for a schema");
        return;
    }
    items_add(x, out, made, ITEM_BASE);
    items_add(x, out, made, ITEM_ANY);
}

static bool expand(schema *x, json_t *s, items *out, uint32_t depth)
{
    if (json_is_true(s) || x->n->st) return true;
    if (json_is_false(s)) return false;
    for (uint32_t i = 0; i < depth; i++)
        if (x->active[i] == s)
            return schema_fail(x, LARDER_UNSUPPORTED, s, "", "it refers to itself without anything in between"), true;
    if (depth == LR_LEN(x->active))
        return schema_fail(x, LARDER_LIMIT, s, "", "references are nested more than %u deep", depth), true;
    if (!items_add(x, out, s, ITEM_BASE)) return true;
    schema_check(x, s);
    if (x->n->st) return true;
    x->active[depth] = s;
    bool some = true;
    const char *ref = json_string_value(json_object_get(s, "$ref"));
    json_t *target = ref ? schema_find(x, s, ref) : NULL, *v;
    size_t i;
    if (target) some &= expand(x, target, out, depth + 1);
    json_array_foreach(json_object_get(s, "allOf"), i, v) some &= expand(x, v, out, depth + 1);
    if (json_object_get(s, "anyOf")) items_add(x, out, s, ITEM_ANY);
    if (json_object_get(s, "oneOf")) items_add(x, out, s, ITEM_ONE);
    add_dependencies(x, s, out);
    add_condition(x, s, out);
    json_t *no = json_object_get(s, "not");
    no = no && !x->n->st ? schema_negate(x, no) : NULL;
    if (no) some &= expand(x, no, out, depth + 1);
    x->active[depth] = NULL;
    return some;
}

bool schema_expand(schema *x, const item *p, uint32_t n, items *out)
{
    bool some = true;
    for (uint32_t i = 0; i < n; i++)
        if (p[i].how != ITEM_FULL) items_add(x, out, p[i].s, p[i].how);
    for (uint32_t i = 0; i < n && some && !x->n->st; i++)
        if (p[i].how == ITEM_FULL) some = expand(x, p[i].s, out, 0);
    return some;
}

/* ---------------------------------------------------------------- one conjunction */
static void put_values(schema *x, const items *all, const json_t *list, uint32_t start, uint32_t end)
{
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)list, i, v)
    {
        bool good = true;
        x->hint = i;
        for (uint32_t k = 0; k < all->n && good && !x->n->st; k++)
            if (all->p[k].how == ITEM_BASE) good = schema_valid(x, all->p[k].s, v, 0);
        if (good) schema_put_value(x, start, v, end);
    }
}

static bool put_finite(schema *x, const items *all, uint32_t start, uint32_t end)
{
    for (uint32_t i = 0; i < all->n; i++) {
        if (all->p[i].how != ITEM_BASE) continue;
        json_t *one = json_object_get(all->p[i].s, "const"), *list = json_object_get(all->p[i].s, "enum");
        if (one) {
            json_t *single = json_pack("[O]", one);
            if (!single) lr_net_fail(x->n, LARDER_NOMEM, "out of memory for a schema");
            put_values(x, all, single, start, end);
            json_decref(single);
            return true;
        }
        if (list) return put_values(x, all, list, start, end), true;
    }
    return false;
}

/* What every branch must be beside itself: oneOf's others must not hold, where they might. */
static void rule_out_others(schema *x, const items *all, json_t *s, size_t own, items *next)
{
    json_t *list = json_object_get(s, "oneOf"), *branch = json_array_get(list, own), *other;
    uint32_t types = TYPE_ALL;
    size_t i;
    for (uint32_t k = 0; k < all->n; k++)
        if (all->p[k].how == ITEM_BASE) types &= schema_types(x, all->p[k].s, 0);
    json_array_foreach(list, i, other)
    {
        if (i == own || x->n->st || schema_apart(x, branch, other, types, 0) || x->n->st) continue;
        json_t *no = schema_negate(x, other);
        if (no) items_add(x, next, no, ITEM_FULL);
        else
            schema_fail(x, LARDER_UNSUPPORTED, s, "oneOf",
                        "branches %zu and %zu may hold at once; use anyOf, or a const that tells them apart", own, i);
    }
}

static void put_choice(schema *x, const items *all, uint32_t which, uint32_t start, uint32_t end)
{
    item choice = all->p[which];
    json_t *list = json_object_get(choice.s, choice.how == ITEM_ONE ? "oneOf" : "anyOf"), *branch;
    size_t i;
    json_array_foreach(list, i, branch)
    {
        items next = {0};
        for (uint32_t k = 0; k < all->n; k++)
            if (k != which) items_add(x, &next, all->p[k].s, all->p[k].how);
        items_add(x, &next, branch, ITEM_FULL);
        if (choice.how == ITEM_ONE) rule_out_others(x, all, choice.s, i, &next);
        uint32_t rule = schema_rule(x, &next);
        lr_net_call(x->n, start, rule, end);
        items_free(&next);
    }
}

static void put_job(schema *x, uint32_t job)
{
    schema_job j = x->jobs[job];
    items all = {0};
    lr_net_enter(x->n, j.rule);
    uint32_t start = x->n->rules[j.rule].start, end = x->n->rules[j.rule].end, choice = 0;
    if (schema_expand(x, j.p, j.n, &all) && !x->n->st && !put_finite(x, &all, start, end)) {
        while (choice < all.n && all.p[choice].how != ITEM_ANY && all.p[choice].how != ITEM_ONE) choice++;
        if (choice < all.n) put_choice(x, &all, choice, start, end);
        else schema_put_types(x, &all, start, end);
    }
    items_free(&all);
}

void lr_front_json_schema(lr_net *n, lr_str text)
{
    schema *x = lr_calloc(1, sizeof *x);
    json_error_t e;
    if (!x) {
        lr_net_fail(n, LARDER_NOMEM, "out of memory for a schema");
        return;
    }
    x->n = n;
    x->made = json_array();
    x->negated = json_object();
    x->root = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    if (!x->root) lr_net_fail(n, LARDER_FORMAT, "the schema is not JSON: line %d: %.160s", e.line, e.text);
    else if (!is_schema(x->root)) lr_net_fail(n, LARDER_FORMAT, "the schema is not an object");
    else {
        items l = {0};
        items_add(x, &l, x->root, ITEM_FULL);
        uint32_t rule = schema_rule(x, &l);
        items_free(&l);
        for (uint32_t i = 0; i < x->n_job && !n->st; i++) put_job(x, i);
        lr_net_enter(n, 0);
        if (!n->st) lr_net_call(n, n->rules[0].start, rule, n->rules[0].end);
    }
    json_decref(x->root);
    json_decref(x->negated);
    json_decref(x->made);
    lr_arena_free(&x->arena);
    lr_free(x->jobs);
    lr_free(x->slot);
    lr_free(x->met);
    lr_free(x);
}
