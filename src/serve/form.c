/* form.c - what an answer must look like, as each API asks for it: compiled here, enforced by the engine. What cannot be
 * enforced is refused. */
#include "serve.h"

#include <stdio.h>
#include <stdlib.h>

static void compile(params *p, const char *key, larder_grammar_kind kind, const char *text, size_t n)
{
    larder_error err = {0};
    call *c = p->c;
    if (p->st) return;
    if (c->grammar) {
        params_fail(p, key, "the answer's form is given twice");
        return;
    }
    larder_status st = c->call_mark
                           ? larder_grammar_compile_after(c->m->model, c->call_mark, kind, text, n, &c->grammar, &err)
                           : larder_grammar_compile(c->m->model, kind, text, n, &c->grammar, &err);
    if (!st) return;
    params_fail(p, key, "%s", err.message);
    p->st = p->err->code = st;
}

static void compile_json(params *p, const char *key, larder_grammar_kind kind, const json_t *v)
{
    char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text) compile(p, key, kind, text, strlen(text));
    else if (!p->st) p->st = LR_NOMEM(p->err, "a schema");
    free(text);
}

void form_schema(params *p, const char *key, const json_t *schema)
{
    if (!json_is_object(schema) && !json_is_boolean(schema)) params_fail(p, key, "must be a JSON Schema");
    else compile_json(p, key, LARDER_GRAMMAR_JSON_SCHEMA, schema);
    p->c->raw = true;
}

/* {"type": "text" | "json_object" | "json_schema"}, the schema in `inner` or beside the type. */
void form_typed(params *p, const char *key, const json_t *v, const char *inner)
{
    const char *type = json_string_value(json_object_get(v, "type"));
    if (!v) return;
    if (type && !strcmp(type, "text")) return;
    if (type && !strcmp(type, "json_object")) {
        compile(p, key, LARDER_GRAMMAR_JSON_OBJECT, "", 0);
        p->c->raw = true;
    } else if (type && !strcmp(type, "json_schema")) {
        const json_t *schema = json_object_get(inner ? json_object_get(v, inner) : v, "schema");
        if (schema) form_schema(p, key, schema);
        else params_fail(p, key, "has no schema");
    } else {
        params_fail(p, key, "type must be text, json_object or json_schema");
    }
}

/* The names other servers know: grammar and json_schema, guided_regex and guided_choice. */
void form_take_others(params *p)
{
    const char *grammar = take_string(p, "grammar"), *regex = take_string(p, "guided_regex");
    const json_t *schema = take(p, "json_schema"), *choice = take(p, "guided_choice");
    if (grammar) compile(p, "grammar", LARDER_GRAMMAR_GBNF, grammar, strlen(grammar));
    if (regex) compile(p, "guided_regex", LARDER_GRAMMAR_REGEX, regex, strlen(regex));
    if (choice) compile_json(p, "guided_choice", LARDER_GRAMMAR_CHOICE, choice);
    if (schema) form_schema(p, "json_schema", schema);
    if (grammar || regex || choice) p->c->raw = true;
}

/* One tool's call, as an object parse_tools knows; its arguments any object, or as its schema has them. */
static json_t *call_schema(json_t *tool, bool held)
{
    const json_t *f = json_object_get(tool, "function");
    json_t *args = json_object_get(f, "parameters");
    args = held && json_object_size(args) ? json_copy(args) : json_pack("{s:s}", "type", "object");
    if (!json_object_get(args, "$id")) json_object_set_new(args, "$id", json_string("tool")); /* its own "#" */
    return json_pack("{s:s,s:{s:{s:O},s:o},s:[s,s],s:b}", "type", "object", "properties", "name", "const",
                     json_object_get(f, "name"), "arguments", args, "required", "name", "arguments",
                     "additionalProperties", 0);
}

/* Takes the list: one of them. */
static json_t *any_of(json_t *schemas)
{
    json_t *one = json_array_size(schemas) == 1 ? json_incref(json_array_get(schemas, 0))
                                                : json_pack("{s:O}", "anyOf", schemas);
    json_decref(schemas);
    return one;
}

static json_t *list_of(json_t *schema)
{
    return json_pack("{s:s,s:o,s:i,s:i}", "type", "array", "items", schema, "minItems", 1, "maxItems", MOST_CALLS);
}

bool form_parallel(params *p, const char *key)
{
    bool many = false;
    if (!take_bool(p, key, &many)) return false;
    p->c->one_call = !many;
    return many;
}

void form_tools(params *p, json_t **tools, const char *how, const char *name, bool many)
{
    json_t *any, *t, *kept;
    size_t i;
    if (p->st || !how || !strcmp(how, "auto")) return;
    if (!strcmp(how, "none")) {
        json_decref(*tools);
        *tools = NULL;
        return;
    }
    any = json_array();
    kept = json_array();
    json_array_foreach(*tools, i, t)
    {
        const char *own = json_string_value(json_object_get(json_object_get(t, "function"), "name"));
        if (name && (!own || strcmp(own, name))) continue;
        json_array_append_new(any, call_schema(t, true));
        json_array_append(kept, t);
    }
    if (!json_array_size(any)) {
        params_fail(p, "tool_choice", "there is no such tool to choose");
        json_decref(any);
    } else {
        json_t *schema = many ? list_of(any_of(any)) : any_of(any);
        compile_json(p, "tool_choice", LARDER_GRAMMAR_JSON_SCHEMA, schema);
        json_decref(schema);
        p->c->forced = true;
    }
    json_decref(*tools);
    *tools = kept;
}

/* ---------------------------------------------------------------- strict tools that the model may call */
/* Past white space. */
static const char *past_space(const char *p) { return p + strspn(p, " \n\t\r"); }

/* How the model's template writes a call: seen in how it writes one that was made. NULL: not so that a grammar could begin
 * there. */
static const char *mark_of_template(const call *c)
{
    static const char told[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":\"\",\"tool_"
        "calls\":[{"
        "\"id\":\"call00000\",\"type\":\"function\",\"function\":{\"name\":\"larder_probe\",\"arguments\":{\"a\":1}}}"
        "]},{"
        "\"role\":\"tool\",\"tool_call_id\":\"call00000\",\"name\":\"larder_probe\",\"content\":\"y\"}]}";
    static const char *const forms[][2] = {{"<tool_call>", "{"}, {"[TOOL_CALLS]", "["}};
    const char *found = NULL;
    char *text = NULL;
    if (larder_chat_render(c->m->model, told, NULL, NULL, &text, NULL)) return NULL;
    for (size_t i = 0; i < LR_LEN(forms) && !found; i++) {
        const char *at = strstr(text, forms[i][0]);
        if (!at || *(at = past_space(at + strlen(forms[i][0]))) != *forms[i][1]) continue;
        if (*at == '[') at = past_space(at + 1);
        if (*at == '{' && !strncmp(past_space(at + 1), "\"name\"", 6) && strstr(at, "\"arguments\""))
            found = forms[i][0];
    }
    larder_free(text);
    return found;
}

static void hold_strict(params *p, const json_t *tools)
{
    call *c = p->c;
    json_t *any = json_array(), *t;
    size_t i;
    c->call_mark = mark_of_template(c);
    if (!c->call_mark) {
        params_fail(
            p, "tools",
            "strict holds only where tool_choice forces a call: this model's template has no mark at which calls "
            "begin, so that arguments of calls it chooses to make cannot be held to their schema");
        json_decref(any);
        return;
    }
    json_array_foreach(tools, i, t) json_array_append_new(
        any, call_schema(t, json_is_true(json_object_get(json_object_get(t, "function"), "strict"))));
    json_t *schema = *c->call_mark == '[' ? list_of(any_of(any)) : any_of(any);
    compile_json(p, "tools", LARDER_GRAMMAR_JSON_SCHEMA, schema);
    json_decref(schema);
}

void form_done(params *p, const json_t *tools)
{
    call *c = p->c;
    if (p->st) return;
    if (tools && c->grammar && !c->forced) {
        params_fail(p, "tools", "cannot be given together with a form of the answer, unless tool_choice is \"none\"");
        return;
    }
    if (tools && c->strict && !c->forced) hold_strict(p, tools);
}
