/* api_responses.c - /v1/responses: OpenAI's newer API, without a store: every request brings its whole conversation. */
#include "serve.h"

#include <stdio.h>
#include <time.h>

/* ---------------------------------------------------------------- reading */
static json_t *one_item(params *p, json_t *item)
{
    const char *type = json_string_value(json_object_get(item, "type")),
               *role = json_string_value(json_object_get(item, "role"));
    const char *id = json_string_value(json_object_get(item, "call_id")),
               *name = json_string_value(json_object_get(item, "name"));
    json_t *args = json_object_get(item, "arguments");
    if (!type || !strcmp(type, "message")) {
        json_t *content = prompt_content(p, json_object_get(item, "content"), "input");
        return content ? json_pack("{s:s,s:o}", "role", role ? role : "?", "content", content) : NULL;
    }
    if (!strcmp(type, "function_call") && id && name && json_is_string(args))
        return json_pack("{s:s,s:n,s:[{s:s,s:s,s:{s:s,s:O}}]}", "role", "assistant", "content", "tool_calls", "id",
                         id, "type", "function", "function", "name", name, "arguments", args);
    if (!strcmp(type, "function_call_output") && id) {
        json_t *content = prompt_content(p, json_object_get(item, "output"), "input");
        return content ? json_pack("{s:s,s:s,s:o}", "role", "tool", "tool_call_id", id, "content", content) : NULL;
    }
    const char *summary = json_string_value(json_object_get(item, "encrypted_content"));
    if (!strcmp(type, "compaction") && summary && !strncmp(summary, compact_mark, strlen(compact_mark))) {
        json_t *text = json_sprintf("What was said before, summed up: %s", summary + strlen(compact_mark));
        return json_pack("{s:s,s:o}", "role", "system", "content", text);
    }
    params_fail(p, "input", "an item is of type '%.40s', or lacks what that type needs", type);
    return NULL;
}

/* What was said before on this connection, then `input`; kept for the next turn. */
static const json_t *all_items(params *p)
{
    json_t *input = take(p, "input"), *all = p->c->items ? p->c->items : json_array();
    p->c->items = all;
    if (json_is_string(input))
        json_array_append_new(all, json_pack("{s:s,s:s,s:O}", "type", "message", "role", "user", "content", input));
    else if (!json_is_array(input) || !json_array_size(input))
        params_fail(p, "input", "must be a string or a list with an item or more");
    else json_array_extend(all, input);
    return all;
}

/* An output belongs to a call before it. */
static void check_call(params *p, json_t *ids, const json_t *item, const char *type)
{
    const char *id = json_string_value(json_object_get(item, "call_id"));
    if (!id || !type) return;
    if (!strcmp(type, "function_call")) json_object_set_new(ids, id, json_true());
    if (!strcmp(type, "function_call_output") && !json_object_get(ids, id))
        params_fail(p, "input", "there is no call '%.40s' before its output", id);
}

/* instructions and items as messages, which prompt_messages then checks */
json_t *responses_input(params *p)
{
    const char *instructions = take_string(p, "instructions");
    const json_t *items = all_items(p);
    json_t *list = json_array(), *ids = json_object(), *item;
    size_t i;
    if (instructions) json_array_append_new(list, json_pack("{s:s,s:s}", "role", "system", "content", instructions));
    json_array_foreach(items, i, item)
    {
        const char *type = json_string_value(json_object_get(item, "type"));
        check_call(p, ids, item, type);
        if (p->st) break;
        if (type && !strcmp(type, "reasoning")) {
            call_note_add(p->c, "input: reasoning items are not given to the model");
            continue;
        }
        json_t *m = json_is_object(item) ? one_item(p, item) : NULL;
        if (m) json_array_append_new(list, m);
        else params_fail(p, "input", "an item is not an object");
    }
    json_decref(ids);
    json_object_set_new(p->o, "input", list);
    return prompt_messages(p, "input");
}

static json_t *take_tools(params *p, bool many)
{
    json_t *list = take(p, "tools"), *out = json_array(), *echo = json_array(), *t;
    size_t i;
    if (list && !json_is_array(list)) params_fail(p, "tools", "must be a list");
    json_array_foreach(list, i, t)
    {
        const char *type = json_string_value(json_object_get(t, "type")),
                   *name = json_string_value(json_object_get(t, "name"));
        const char *about = json_string_value(json_object_get(t, "description"));
        json_t *schema = json_object_get(t, "parameters");
        if (!type || strcmp(type, "function") || !name) {
            params_fail(p, "tools", "only tools of type function, with a name, are supported");
            break;
        }
        bool strict = json_is_true(json_object_get(t, "strict"));
        json_t *f = json_pack("{s:s,s:s}", "name", name, "description", about ? about : "");
        if (schema && !json_is_null(schema)) json_object_set(f, "parameters", schema);
        if (strict) json_object_set_new(f, "strict", json_true());
        json_array_append_new(out, json_pack("{s:s,s:o}", "type", "function", "function", f));
        json_array_append_new(echo, json_pack("{s:s,s:s,s:s?,s:O?,s:b}", "type", "function", "name", name,
                                              "description", about, "parameters", schema, "strict", strict));
    }
    json_object_set_new(p->c->echo, "tools", echo);
    json_object_set_new(p->o, "tools", out);
    json_t *tools = prompt_tools(p, "tools");
    json_t *choice = take(p, "tool_choice");
    const char *how = json_string_value(choice);
    const char *type = json_string_value(json_object_get(choice, "type")),
               *name = json_string_value(json_object_get(choice, "name"));
    if (type && !strcmp(type, "function") && name) how = "named";
    if (choice &&
        (!how || (strcmp(how, "auto") && strcmp(how, "none") && strcmp(how, "required") && strcmp(how, "named"))))
        params_fail(p, "tool_choice", "must be auto, none, required or a function by its name");
    form_tools(p, &tools, how, name, many);
    json_object_set_new(p->c->echo, "tool_choice", choice ? json_incref(choice) : json_string("auto"));
    return tools;
}

static json_t *take_reasoning(params *p)
{
    json_t *v = take(p, "reasoning"), *extra = json_object();
    if (!v) return extra;
    if (!json_is_object(v)) {
        params_fail(p, "reasoning", "must be an object");
        return extra;
    }
    params q = {.c = p->c, .o = v, .in = "reasoning", .err = p->err, .st = p->st};
    const char *effort = take_string(&q, "effort");
    take_refused(&q, "summary", "thoughts are given whole, not summed up", "\"auto\"");
    think_effort(&q, "effort", effort, extra);
    if (!q.st) json_object_set_new(p->c->echo, "reasoning", json_pack("{s:s?,s:n}", "effort", effort, "summary"));
    p->st = params_done(&q);
    return extra;
}

static void take_text(params *p)
{
    json_t *v = take(p, "text"), *format = json_object_get(v, "format"), *verbosity = json_object_get(v, "verbosity");
    if (!v) return;
    if (!json_is_object(v)) params_fail(p, "text", "must be an object");
    if (verbosity && !json_is_null(verbosity)) params_fail(p, "text.verbosity", "is not supported");
    if (!format || json_is_null(format)) return;
    form_typed(p, "text.format", format, NULL);
    json_object_set_new(p->c->echo, "text", json_pack("{s:O}", "format", format));
}

static void echo(call *c, const larder_sampling *s, const json_t *body)
{
    static const char *const as_given[] = {"instructions", "max_output_tokens", "metadata",
                                           "user",         "safety_identifier", "prompt_cache_key"};
    for (size_t i = 0; i < LR_LEN(as_given); i++) {
        json_t *v = json_object_get(body, as_given[i]);
        json_object_set(c->echo, as_given[i], v ? v : json_null());
    }
    if (!json_object_get(body, "metadata")) json_object_set_new(c->echo, "metadata", json_object());
    json_object_set_new(c->echo, "temperature", json_real((double)s->temperature));
    json_object_set_new(c->echo, "top_p", json_real((double)s->top_p));
    json_object_set_new(c->echo, "presence_penalty", json_real((double)s->presence_penalty));
    json_object_set_new(c->echo, "frequency_penalty", json_real((double)s->frequency_penalty));
}

/* Only a WebSocket remembers, and only its last response. */
static void take_previous(params *p)
{
    call *c = p->c;
    const char *id = take_string(p, "previous_response_id"), *type = c->socket ? take_string(p, "type") : NULL;
    if (c->socket && (!type || strcmp(type, "response.create"))) params_fail(p, "type", "must be response.create");
    if (id && (!c->items || strcmp(id, c->previous)))
        params_fail(p, "previous_response_id",
                    c->socket ? "this connection knows no such response; send the whole conversation"
                              : "nothing is stored here; send the whole conversation");
    if (id) json_object_set_new(c->echo, "previous_response_id", json_string(id));
    if (id || !c->items) return;
    json_decref(c->items);
    c->items = NULL;
}

static larder_status read_responses(call *c, larder_error *err)
{
    params p = {.c = c, .o = c->body, .err = err};
    larder_sampling s = sampling_for(c);
    int64_t n = 0;
    int32_t *ids = NULL;
    size_t n_ids = 0;
    new_id(c->s, "resp_", c->id);
    json_t *given = json_copy(c->body);
    take_model(&p);
    take_sampling(&p, &s);
    take_previous(&p);
    json_t *messages = responses_input(&p), *tools = take_tools(&p, form_parallel(&p, "parallel_tool_calls")),
           *extra = take_reasoning(&p);
    take_text(&p);
    form_done(&p, tools);
    if (!c->socket) take_bool(&p, "stream", &c->stream);
    else c->stream = true;
    if (take_int(&p, "max_output_tokens", 1, UINT32_MAX, &n)) c->max_tokens = (uint32_t)n;
    static const char *const inert[] = {"metadata", "user", "safety_identifier", "prompt_cache_key",
                                        "prompt_cache_retention"};
    for (size_t i = 0; i < LR_LEN(inert); i++) take_inert(&p, inert[i]);
    take_refused(&p, "store", "nothing is stored here", "false");
    take_refused(&p, "background", "is not supported", "false");
    take_refused(&p, "truncation", "nothing is cut off here", "\"disabled\"");
    take_refused(&p, "service_tier", "there is one tier", "\"auto\" \"default\"");
    take_refused(&p, "include", "is not supported", "[]");
    take_refused(&p, "top_logprobs", "is not supported here; /v1/chat/completions has it", "0");
    static const char *const refused[] = {"conversation", "prompt", "max_tool_calls", "stream_options"};
    for (size_t i = 0; i < LR_LEN(refused); i++) take_refused(&p, refused[i], "is not supported", "");
    params_done(&p);
    echo(c, &s, given);
    json_decref(given);
    if (p.st) {
        json_decref(messages);
        json_decref(tools);
        json_decref(extra);
        return p.st;
    }
    c->answer = json_array(); /* the items of the output, as they are done */
    LR_TRY(prompt_render(c, messages, tools, extra, &ids, &n_ids, err));
    return call_add_prompt(c, ids, n_ids, 1, &s, err);
}

/* ---------------------------------------------------------------- items */
enum { OPEN_NONE, OPEN_TEXT, OPEN_THOUGHT, OPEN_CALL };

static const char *item_id(const call *c, const char *prefix, char out[64])
{
    snprintf(out, 64, "%s_%s_%zu", prefix, c->id + strlen("resp_"), json_array_size(c->answer));
    return out;
}

static json_t *text_part(json_t *text)
{
    return json_pack("{s:s,s:o,s:[],s:[]}", "type", "output_text", "text", text, "annotations", "logprobs");
}

static json_t *message_item(const call *c, json_t *content, const char *status)
{
    char id[64];
    return json_pack("{s:s,s:s,s:s,s:s,s:o}", "type", "message", "id", item_id(c, "msg", id), "role", "assistant",
                     "status", status, "content", content);
}

static json_t *thought_item(const call *c, json_t *content)
{
    char id[64];
    return json_pack("{s:s,s:s,s:[],s:o}", "type", "reasoning", "id", item_id(c, "rs", id), "summary", "content",
                     content);
}

static json_t *args_json(const tool_call *t) { return json_stringn(t->args.n ? t->args.p : "", t->args.n); }

static json_t *tool_item(const call *c, const tool_call *t, json_t *args, const char *status)
{
    char id[64];
    return json_pack("{s:s,s:s,s:s,s:s,s:o,s:s}", "type", "function_call", "id", item_id(c, "fc", id), "call_id",
                     t->id, "name", t->name, "arguments", args, "status", status);
}

static json_t *done_tool(const call *c, const tool_call *t)
{
    return tool_item(c, t, args_json(t), t->whole ? "completed" : "incomplete");
}

json_t *responses_usage(const call *c)
{
    uint32_t n_in = call_n_prompt(c), n_out = call_n_generated(c);
    return json_pack("{s:I,s:{s:I},s:I,s:{s:I},s:I}", "input_tokens", (json_int_t)n_in, "input_tokens_details",
                     "cached_tokens", (json_int_t)call_n_cached(c), "output_tokens", (json_int_t)n_out,
                     "output_tokens_details", "reasoning_tokens", (json_int_t)c->gens[0].n_thought, "total_tokens",
                     (json_int_t)n_in + n_out);
}

static json_t *response(const call *c, bool done)
{
    const gen *g = &c->gens[0];
    bool cut = done && g->finish == LARDER_FINISH_LENGTH;
    json_t *o = json_pack(
        "{s:s,s:s,s:I,s:s,s:n,s:o,s:s,s:O,s:b,s:n,s:{s:n,s:n},s:b,s:{s:{s:s}},s:s,s:o,s:b,s:s,s:i,s:n}", "id", c->id,
        "object", "response", "created_at", (json_int_t)c->created, "status",
        !done ? "in_progress"
        : cut ? "incomplete"
              : "completed",
        "error", "incomplete_details", cut ? json_pack("{s:s}", "reason", "max_output_tokens") : json_null(), "model",
        call_model(c), "output", c->answer, "parallel_tool_calls", !c->one_call, "previous_response_id", "reasoning",
        "effort", "summary", "store", 0, "text", "format", "type", "text", "truncation", "disabled", "usage",
        done ? responses_usage(c) : json_null(), "background", 0, "service_tier", "default", "top_logprobs", 0,
        "max_tool_calls");
    json_object_set_new(o, "completed_at", done ? json_integer((json_int_t)time(NULL)) : json_null());
    json_object_update(o, c->echo);
    return o;
}

/* ---------------------------------------------------------------- streaming */
static void say(call *c, const char *type, json_t *o)
{
    json_object_set_new(o, "type", json_string(type));
    json_object_set_new(o, "sequence_number", json_integer(c->sequence++));
    call_say(c, type, o);
}

static json_t *at_item(const call *c)
{
    return json_pack("{s:I}", "output_index", (json_int_t)json_array_size(c->answer));
}

static json_t *at_part(const call *c, const char *prefix)
{
    char id[64];
    return json_pack("{s:I,s:i,s:s}", "output_index", (json_int_t)json_array_size(c->answer), "content_index", 0,
                     "item_id", item_id(c, prefix, id));
}

static json_t *with(json_t *o, const char *key, json_t *value)
{
    json_object_set_new(o, key, value);
    return o;
}

static void begin(call *c)
{
    say(c, "response.created", json_pack("{s:o}", "response", response(c, false)));
    say(c, "response.in_progress", json_pack("{s:o}", "response", response(c, false)));
}

/* The text of the item that is open. */
static json_t *open_text(const gen *g)
{
    const lr_buf *b = g->open == OPEN_TEXT ? &g->text : &g->thought;
    return json_stringn(b->n ? b->p + g->item_start : "", b->n - g->item_start);
}

static json_t *close_call(call *c, gen *g)
{
    const tool_call *t = &g->tools[g->n_tools - 1];
    char id[64];
    say(c, "response.function_call_arguments.done",
        with(with(with(at_item(c), "item_id", json_string(item_id(c, "fc", id))), "name", json_string(t->name)),
             "arguments", args_json(t)));
    return done_tool(c, t);
}

static json_t *close_text(call *c, const gen *g)
{
    json_t *part = text_part(open_text(g));
    bool cut = g->done && g->finish == LARDER_FINISH_LENGTH;
    say(c, "response.output_text.done",
        with(with(at_part(c, "msg"), "text", open_text(g)), "logprobs", json_array()));
    say(c, "response.content_part.done", with(at_part(c, "msg"), "part", json_incref(part)));
    return message_item(c, json_pack("[o]", part), cut ? "incomplete" : "completed");
}

static json_t *thought_part(json_t *text) { return json_pack("{s:s,s:o}", "type", "reasoning_text", "text", text); }

static json_t *close_thought(call *c, const gen *g)
{
    json_t *part = thought_part(open_text(g));
    say(c, "response.reasoning_text.done", with(at_part(c, "rs"), "text", open_text(g)));
    say(c, "response.content_part.done", with(at_part(c, "rs"), "part", json_incref(part)));
    return thought_item(c, json_pack("[o]", part));
}

static void close_item(call *c, gen *g)
{
    json_t *item = NULL;
    switch (g->open) {
    case OPEN_NONE: return;
    case OPEN_TEXT: item = close_text(c, g); break;
    case OPEN_THOUGHT: item = close_thought(c, g); break;
    default: item = close_call(c, g);
    }
    say(c, "response.output_item.done", with(at_item(c), "item", json_incref(item)));
    json_array_append_new(c->answer, item);
    g->open = OPEN_NONE;
}

/* n: bytes of the piece, which are in the buffer already */
static void open_item(call *c, gen *g, uint32_t what, size_t n)
{
    if (g->open == what) return;
    close_item(c, g);
    g->open = what;
    g->item_start = (what == OPEN_TEXT ? g->text.n : g->thought.n) - n;
    bool text = what == OPEN_TEXT;
    json_t *item = text ? message_item(c, json_array(), "in_progress") : thought_item(c, json_array());
    json_t *part = text ? text_part(json_string("")) : thought_part(json_string(""));
    say(c, "response.output_item.added", with(at_item(c), "item", item));
    say(c, "response.content_part.added", with(at_part(c, text ? "msg" : "rs"), "part", part));
}

static void piece(call *c, gen *g, const lr_piece *p)
{
    char id[64];
    json_t *delta = json_stringn(p->text.n ? p->text.p : "", p->text.n);
    switch (p->kind) {
    case LR_PIECE_CALL:
        close_item(c, g);
        g->open = OPEN_CALL;
        say(c, "response.output_item.added",
            with(at_item(c), "item", tool_item(c, &g->tools[g->n_tools - 1], json_string(""), "in_progress")));
        break;
    case LR_PIECE_ARGS:
        say(c, "response.function_call_arguments.delta",
            with(with(at_item(c), "item_id", json_string(item_id(c, "fc", id))), "delta", json_incref(delta)));
        break;
    case LR_PIECE_CALLED: close_item(c, g); break;
    case LR_PIECE_TEXT:
        open_item(c, g, OPEN_TEXT, p->text.n);
        say(c, "response.output_text.delta",
            with(with(at_part(c, "msg"), "delta", json_incref(delta)), "logprobs", json_array()));
        break;
    case LR_PIECE_THOUGHT:
        open_item(c, g, OPEN_THOUGHT, p->text.n);
        say(c, "response.reasoning_text.delta", with(at_part(c, "rs"), "delta", json_incref(delta)));
        break;
    }
    json_decref(delta);
}

static void end(call *c, gen *g)
{
    if (!json_array_size(c->answer) && g->open == OPEN_NONE)
        open_item(c, g, OPEN_TEXT, 0); /* an empty answer is a message too */
    close_item(c, g);
}

static void close_stream(call *c)
{
    bool cut = c->gens[0].finish == LARDER_FINISH_LENGTH;
    say(c, cut ? "response.incomplete" : "response.completed", json_pack("{s:o}", "response", response(c, true)));
    if (!c->x || !c->x->ws) return;
    json_array_extend(c->items, c->answer);
    ws_done(c->x, c->items, c->id);
    c->items = NULL;
}

static void fail(call *c, int status, const char *message, const char *param)
{
    json_t *o = response(c, false);
    (void)param; /* the request was sound */
    json_object_set_new(o, "status", json_string("failed"));
    json_object_set_new(
        o, "error",
        json_pack("{s:s,s:s}", "code", status == 503 ? "server_is_overloaded" : "server_error", "message", message));
    say(c, "response.failed", json_pack("{s:o}", "response", o));
}

static json_t *whole(call *c)
{
    gen *g = &c->gens[0];
    if (g->thought.n)
        json_array_append_new(
            c->answer, thought_item(c, json_pack("[o]", thought_part(json_stringn(g->thought.p, g->thought.n)))));
    if (g->text.n || !g->n_tools)
        json_array_append_new(
            c->answer,
            message_item(c, json_pack("[o]", text_part(json_stringn(g->text.n ? g->text.p : "", g->text.n))),
                         g->finish == LARDER_FINISH_LENGTH ? "incomplete" : "completed"));
    for (uint32_t i = 0; i < g->n_tools; i++) json_array_append_new(c->answer, done_tool(c, &g->tools[i]));
    return response(c, true);
}

const api api_responses = {.name = "responses",
                           .frames = FRAME_SSE,
                           .read = read_responses,
                           .begin = begin,
                           .piece = piece,
                           .end = end,
                           .close = close_stream,
                           .fail = fail,
                           .whole = whole,
                           .error = error_openai};
