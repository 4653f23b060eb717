/* prompt.c - from messages to a prompt: what each API calls a message becomes what chat templates know. */
#include "serve.h"

#include <stdlib.h>

static bool drops(json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return !v || json_is_null(v) || (json_is_array(v) && !json_array_size(v)) ||
           (json_is_string(v) && !json_string_length(v));
}

json_t *prompt_content(params *p, json_t *content, const char *what)
{
    if (!content || json_is_null(content)) return json_string("");
    if (json_is_string(content)) return json_incref(content);
    if (!json_is_array(content)) {
        params_fail(p, what, "must be a string or a list of parts");
        return NULL;
    }
    lr_buf b = {0};
    size_t i;
    json_t *part;
    json_array_foreach(content, i, part)
    {
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *text = json_object_get(part, "text");
        bool known = type && (!strcmp(type, "text") || !strcmp(type, "input_text") || !strcmp(type, "output_text"));
        if (known && json_is_string(text)) {
            if (b.n) lr_buf_putc(&b, '\n');
            lr_buf_add(&b, json_string_value(text), json_string_length(text));
            continue;
        }
        lr_buf_free(&b);
        if (type && known) params_fail(p, what, "a part of type '%.30s' has no text", type);
        else params_fail(p, what, "a part is of type '%.30s', and this server takes text only", type ? type : "?");
        return NULL;
    }
    json_t *joined = b.failed ? NULL : json_stringn(b.n ? b.p : "", b.n);
    lr_buf_free(&b);
    if (!joined) p->st = LR_NOMEM(p->err, "a message");
    return joined;
}

/* Arguments written as a string become the object templates expect. */
static json_t *tool_calls(params *p, json_t *calls)
{
    json_t *out = json_array(), *one;
    size_t i;
    json_array_foreach(calls, i, one)
    {
        json_t *f = json_object_get(one, "function"), *a = json_object_get(f, "arguments");
        const char *name = json_string_value(json_object_get(f, "name")),
                   *id = json_string_value(json_object_get(one, "id"));
        if (!name || (a && !json_is_string(a) && !json_is_object(a))) {
            params_fail(p, "messages", "a tool call needs function.name and function.arguments");
            break;
        }
        json_t *args = json_is_string(a)
                           ? json_loadb(json_string_value(a), json_string_length(a), JSON_REJECT_DUPLICATES, NULL)
                           : NULL;
        if (!args) args = a ? json_incref(a) : json_object();
        json_t *o = json_pack("{s:s,s:{s:s,s:o}}", "type", "function", "function", "name", name, "arguments", args);
        if (id) json_object_set_new(o, "id", json_string(id));
        json_array_append_new(out, o);
    }
    return out;
}

static json_t *one_message(params *p, json_t *m)
{
    static const char *const roles[] = {"system", "developer", "user", "assistant", "tool"};
    static const char *const known[] = {"role", "content",           "tool_calls", "tool_call_id",
                                        "name", "reasoning_content", "thinking",   "tool_name"};
    const char *role = json_string_value(json_object_get(m, "role")), *key;
    bool good = false;
    json_t *v;
    for (size_t i = 0; role && i < LR_LEN(roles); i++) good |= !strcmp(role, roles[i]);
    if (!good) {
        params_fail(p, "messages", "a role is not one of system, developer, user, assistant, tool");
        return NULL;
    }
    json_object_foreach(m, key, v)
    {
        bool found = drops(m, key);
        for (size_t i = 0; i < LR_LEN(known); i++) found |= !strcmp(key, known[i]);
        if (found) continue;
        params_fail(p, "messages", "a message has '%.40s', which larder does not take", key);
        return NULL;
    }
    v = json_object_get(m, "content");
    if ((!v || json_is_null(v)) && strcmp(role, "assistant")) {
        params_fail(p, "messages", "a message of role '%s' has no content", role);
        return NULL;
    }
    json_t *content = prompt_content(p, v, "messages");
    if (!content) return NULL;
    json_t *out = json_pack("{s:s,s:o}", "role", strcmp(role, "developer") ? role : "system", "content", content);
    v = json_object_get(m, "tool_calls");
    if (json_is_array(v) && json_array_size(v)) json_object_set_new(out, "tool_calls", tool_calls(p, v));
    for (size_t i = 3; i < LR_LEN(known); i++) {
        v = json_object_get(m, known[i]);
        const char *as = i == 6 ? "reasoning_content" : i == 7 ? "name" : known[i];
        if (json_is_string(v) && json_string_length(v)) json_object_set(out, as, v);
        else if (v && !json_is_null(v) && !json_is_string(v))
            params_fail(p, "messages", "'%s' of a message must be a string", known[i]);
    }
    return out;
}

json_t *prompt_messages(params *p, const char *key)
{
    json_t *list = take(p, key), *out = json_array(), *m;
    size_t i;
    if (!p->st && (!json_is_array(list) || !json_array_size(list)))
        params_fail(p, key, "must be a list with a message or more");
    json_array_foreach(list, i, m)
    {
        if (p->st) break;
        json_t *one = json_is_object(m) ? one_message(p, m) : NULL;
        if (one) json_array_append_new(out, one);
        else params_fail(p, key, "a message is not an object");
    }
    if (!p->st) return out;
    json_decref(out);
    return NULL;
}

json_t *prompt_tools(params *p, const char *key)
{
    json_t *list = take(p, key), *t;
    size_t i;
    if (p->st || !list || (json_is_array(list) && !json_array_size(list))) return NULL;
    if (!json_is_array(list) || json_array_size(list) > MOST_TOOLS) {
        params_fail(p, key, "must be a list of at most %d tools", MOST_TOOLS);
        return NULL;
    }
    json_array_foreach(list, i, t)
    {
        const char *type = json_string_value(json_object_get(t, "type"));
        json_t *f = json_object_get(t, "function");
        if (type && !strcmp(type, "function") && json_string_length(json_object_get(f, "name"))) {
            p->c->strict |= json_is_true(json_object_get(f, "strict"));
            continue;
        }
        params_fail(p, key, "a tool must be of type function, with function.name");
        return NULL;
    }
    return json_incref(list);
}

larder_status prompt_render(call *c, json_t *messages, json_t *tools, json_t *extra, int32_t **ids, size_t *n_ids,
                            larder_error *err)
{
    json_t *request = extra ? extra : json_object();
    json_object_set_new(request, "messages", messages);
    c->tools = tools != NULL;
    if (tools) json_object_set_new(request, "tools", tools);
    if (!json_object_get(request, "add_generation_prompt"))
        json_object_set_new(request, "add_generation_prompt", json_true());
    char *text = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    if (!text) return LR_NOMEM(err, "a prompt");
    larder_status st = LARDER_OK;
    if (!c->m->info.has_template)
        st = lr_fail(err, LARDER_UNSUPPORTED, "this model has no chat template; /v1/completions continues a text");
    else st = larder_chat_render(c->m->model, text, ids, n_ids, NULL, err);
    free(text);
    return st;
}

bool prompt_thinks(const call *c, const int32_t *ids, size_t n_ids)
{
    size_t tail = LR_MIN(n_ids, (size_t)8), n = 0;
    char *text = NULL;
    if (larder_detokenize(c->m->model, ids + n_ids - tail, tail, &text, &n, NULL)) return false;
    while (n && strchr(" \n\t", text[n - 1])) n--;
    bool thinks = n >= 7 && !memcmp(text + n - 7, "<think>", 7);
    larder_free(text);
    return thinks;
}

larder_sampling sampling_for(call *c)
{
    larder_sampling s = c->s->o.sampling;
    uint64_t bits[2] = {c->s->secret, (uint64_t)(uintptr_t)c ^ c->t0};
    s.seed = lr_hash(bits, sizeof bits) >> 1;
    return s;
}
