/* api_text.c - /tokenize, /detokenize, /apply-template: answers that need no engine. `model` may say whose; without it,
 * the first. */
#include "serve.h"

static json_t *ids_json(const int32_t *ids, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_integer(ids[i]));
    return list;
}

/* {"content": text, "add_special": false, "parse_special": false, "with_pieces": false} */
static larder_status read_tokenize(call *c, larder_error *err)
{
    params p = {.c = c, .o = c->body, .err = err};
    bool special = false, control = false, pieces = false;
    const json_t *text = take(&p, "content");
    take_string(&p, "model");
    take_bool(&p, "add_special", &special);
    take_bool(&p, "parse_special", &control);
    take_bool(&p, "with_pieces", &pieces);
    LR_TRY(params_done(&p));
    if (!json_is_string(text)) return params_fail(&p, "content", "must be a string");
    int32_t *ids;
    size_t n;
    int how = (special ? LARDER_TEXT_SPECIAL : 0) | (control ? LARDER_TEXT_CONTROL : 0);
    LR_TRY(larder_tokenize(c->m->model, json_string_value(text), json_string_length(text), how, &ids, &n, err));
    json_t *list = ids_json(ids, n);
    for (size_t i = 0; pieces && i < n; i++) {
        char *piece = NULL;
        size_t len = 0;
        if (larder_detokenize(c->m->model, &ids[i], 1, &piece, &len, err)) break;
        json_array_set_new(list, i, json_pack("{s:i,s:o?}", "id", ids[i], "piece", json_stringn(piece, len)));
        larder_free(piece);
    }
    larder_free(ids);
    c->answer = json_pack("{s:o}", "tokens", list);
    c->answer_only = true;
    return LARDER_OK;
}

/* {"tokens": [ids]} */
static larder_status read_detokenize(call *c, larder_error *err)
{
    params p = {.c = c, .o = c->body, .err = err};
    json_t *list = take(&p, "tokens");
    take_string(&p, "model");
    size_t n = 0;
    LR_TRY(params_done(&p));
    if (!json_is_array(list)) return params_fail(&p, "tokens", "must be a list of token ids");
    int32_t *ids = NULL;
    LR_TRY(take_ids(&p, "tokens", list, &ids));
    char *text;
    larder_status st = larder_detokenize(c->m->model, ids, json_array_size(list), &text, &n, err);
    lr_free(ids);
    if (st) return st;
    c->answer = json_pack("{s:o}", "content", json_stringn(text, n));
    larder_free(text);
    c->answer_only = true;
    return LARDER_OK;
}

/* {"messages": [...], "tools": [...], "add_generation_prompt": true, "chat_template_kwargs": {...}} */
static larder_status read_template(call *c, larder_error *err)
{
    params p = {.c = c, .o = c->body, .err = err};
    bool generation = true;
    json_t *messages = prompt_messages(&p, "messages"), *tools = prompt_tools(&p, "tools"),
           *kwargs = take(&p, "chat_template_kwargs");
    if (kwargs &&
        (!json_is_object(kwargs) || json_object_get(kwargs, "messages") || json_object_get(kwargs, "tools")))
        params_fail(&p, "chat_template_kwargs", "must be an object that names neither messages nor tools");
    take_bool(&p, "add_generation_prompt", &generation);
    take_string(&p, "model");
    params_done(&p);
    json_t *extra = json_object();
    if (!p.st && kwargs) json_object_update(extra, kwargs);
    json_object_set_new(extra, "add_generation_prompt", json_boolean(generation));
    json_object_set_new(extra, "messages", messages ? messages : json_array());
    if (tools) json_object_set_new(extra, "tools", tools);
    char *request = json_dumps(extra, JSON_COMPACT), *text = NULL;
    json_decref(extra);
    larder_status st = p.st;
    if (!st && !c->m->info.has_template) st = lr_fail(err, LARDER_UNSUPPORTED, "this model has no chat template");
    if (!st)
        st = request ? larder_chat_render(c->m->model, request, NULL, NULL, &text, err) : LR_NOMEM(err, "a prompt");
    free(request);
    if (st) return st;
    c->answer = json_pack("{s:s}", "prompt", text);
    larder_free(text);
    c->answer_only = true;
    return LARDER_OK;
}

const api api_tokenize = {.name = "tokenize", .read = read_tokenize, .error = error_openai};
const api api_detokenize = {.name = "detokenize", .read = read_detokenize, .error = error_openai};
const api api_template = {.name = "apply-template", .read = read_template, .error = error_openai};
