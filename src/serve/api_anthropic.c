/* api_anthropic.c - /v1/messages and /v1/messages/count_tokens. */
#include "serve.h"

json_t *error_anthropic(int status, const char *message, const char *param)
{
    (void)param; /* the message names it */
    const char *type = status == 401   ? "authentication_error"
                       : status == 403 ? "permission_error"
                       : status == 404 ? "not_found_error"
                       : status == 413 ? "request_too_large"
                       : status == 429 ? "rate_limit_error"
                       : status == 503 ? "overloaded_error"
                       : status >= 500 ? "api_error"
                                       : "invalid_request_error";
    return json_pack("{s:s,s:{s:s,s:s}}", "type", "error", "error", "type", type, "message", message);
}

/* ---------------------------------------------------------------- reading */
static void add_message(json_t *out, const char *role, json_t *content)
{
    if (content) json_array_append_new(out, json_pack("{s:s,s:o}", "role", role, "content", content));
}

/* The message being put together, given to the list and forgotten. */
static void flush(json_t *out, const char *role, lr_buf *text, lr_buf *thought, json_t **calls)
{
    if (!text->n && !thought->n && !*calls) return;
    json_t *m = json_pack("{s:s,s:o}", "role", role, "content", json_stringn(text->n ? text->p : "", text->n));
    if (thought->n) json_object_set_new(m, "reasoning_content", json_stringn(thought->p, thought->n));
    if (*calls) json_object_set_new(m, "tool_calls", *calls);
    json_array_append_new(out, m);
    text->n = thought->n = 0;
    *calls = NULL;
}

/* One message's blocks: text, what was thought, calls of tools; results of tools become messages of their own. */
static void add_blocks(params *p, json_t *out, const char *role, json_t *blocks)
{
    lr_buf text = {0}, thought = {0};
    json_t *calls = NULL, *b;
    size_t i;
    json_array_foreach(blocks, i, b)
    {
        const char *type = json_string_value(json_object_get(b, "type"));
        json_t *said = json_object_get(b, "text"), *thinking = json_object_get(b, "thinking"),
               *input = json_object_get(b, "input");
        const char *id = json_string_value(
            json_object_get(b, type && !strcmp(type, "tool_result") ? "tool_use_id" : "id"));
        const char *name = json_string_value(json_object_get(b, "name"));
        if (type && !strcmp(type, "text") && json_is_string(said)) {
            if (text.n) lr_buf_putc(&text, '\n');
            lr_buf_add(&text, json_string_value(said), json_string_length(said));
        } else if (type && !strcmp(type, "thinking") && json_is_string(thinking)) {
            lr_buf_add(&thought, json_string_value(thinking), json_string_length(thinking));
        } else if (type && !strcmp(type, "tool_use") && id && name && json_is_object(input)) {
            if (!calls) calls = json_array();
            json_array_append_new(calls, json_pack("{s:s,s:s,s:{s:s,s:O}}", "id", id, "type", "function", "function",
                                                   "name", name, "arguments", input));
        } else if (type && !strcmp(type, "tool_result") && id) {
            flush(out, role, &text, &thought, &calls);
            json_t *result = prompt_content(p, json_object_get(b, "content"), "messages");
            if (result)
                json_array_append_new(
                    out, json_pack("{s:s,s:s,s:o}", "role", "tool", "tool_call_id", id, "content", result));
        } else {
            params_fail(p, "messages",
                        "a block is of type '%.30s', or lacks what that type needs; this server takes text and tools",
                        type ? type : "?");
        }
        if (p->st) break;
    }
    if (!p->st) flush(out, role, &text, &thought, &calls);
    json_decref(p->st ? calls : NULL);
    lr_buf_free(&text);
    lr_buf_free(&thought);
}

static json_t *take_messages(params *p)
{
    json_t *system = take(p, "system"), *list = take(p, "messages"), *out = json_array(), *m;
    size_t i;
    if (system) add_message(out, "system", prompt_content(p, system, "system"));
    if (!p->st && (!json_is_array(list) || !json_array_size(list)))
        params_fail(p, "messages", "must be a list with a message or more");
    json_array_foreach(list, i, m)
    {
        const char *role = json_string_value(json_object_get(m, "role"));
        json_t *content = json_object_get(m, "content");
        if (p->st) break;
        if (!role || (strcmp(role, "user") && strcmp(role, "assistant")))
            params_fail(p, "messages", "a role is neither user nor assistant");
        else if (json_is_string(content)) add_message(out, role, json_incref(content));
        else if (json_is_array(content)) add_blocks(p, out, role, content);
        else params_fail(p, "messages", "content must be a string or a list of blocks");
    }
    return out;
}

static json_t *take_tools(params *p)
{
    json_t *list = take(p, "tools"), *out = NULL, *t;
    size_t i;
    if (list && (!json_is_array(list) || json_array_size(list) > MOST_TOOLS))
        params_fail(p, "tools", "must be a list of at most %d", MOST_TOOLS);
    json_array_foreach(list, i, t)
    {
        const char *type = json_string_value(json_object_get(t, "type")),
                   *name = json_string_value(json_object_get(t, "name"));
        const char *about = json_string_value(json_object_get(t, "description"));
        json_t *schema = json_object_get(t, "input_schema");
        if (p->st || (type && strcmp(type, "custom")) || !name || !json_is_object(schema)) {
            params_fail(p, "tools", "a tool needs name and input_schema, and no type but \"custom\"");
            break;
        }
        if (!out) out = json_array();
        json_array_append_new(out, json_pack("{s:s,s:{s:s,s:s,s:O}}", "type", "function", "function", "name", name,
                                             "description", about ? about : "", "parameters", schema));
    }
    json_t *choice = take(p, "tool_choice");
    const char *how = json_string_value(json_object_get(choice, "type"));
    const char *only = json_string_value(json_object_get(choice, "name"));
    bool named = how && !strcmp(how, "tool");
    if (choice && (!how || (!named && strcmp(how, "auto") && strcmp(how, "any") && strcmp(how, "none"))))
        params_fail(p, "tool_choice", "type must be auto, any, tool or none");
    if (named && !only) params_fail(p, "tool_choice", "names no tool");
    const json_t *single = json_object_get(choice, "disable_parallel_tool_use");
    if (single && !json_is_boolean(single))
        params_fail(p, "tool_choice", "disable_parallel_tool_use must be true or false");
    p->c->one_call = json_is_true(single);
    form_tools(p, &out, how, named ? only : NULL, json_is_false(single));
    return out;
}

static json_t *take_thinking(params *p)
{
    json_t *v = take(p, "thinking"), *extra = json_object();
    const char *type = json_string_value(json_object_get(v, "type"));
    if (!v) return extra;
    if (!type || (strcmp(type, "enabled") && strcmp(type, "disabled") && strcmp(type, "adaptive")))
        params_fail(p, "thinking", "type must be enabled, disabled or adaptive");
    else json_object_set_new(extra, "enable_thinking", json_boolean(strcmp(type, "disabled")));
    if (type && !strcmp(type, "disabled")) p->c->budget = 0;
    const json_t *budget = json_object_get(v, "budget_tokens");
    json_int_t n = json_integer_value(budget);
    if (!type || !budget || p->st) return extra;
    if (strcmp(type, "enabled")) params_fail(p, "thinking", "budget_tokens needs type enabled");
    else if (!json_is_integer(budget) || n < 1 || n >= p->c->max_tokens)
        params_fail(p, "thinking", "budget_tokens must be a number of tokens from 1 to less than max_tokens");
    else think_budget(p, "thinking", n, extra);
    return extra;
}

/* output_config: its format (output_format before it) and effort */
static void take_output(params *p, json_t *extra)
{
    json_t *config = take(p, "output_config"), *old = take(p, "output_format");
    form_typed(p, "output_format", old, NULL);
    if (!config) return;
    if (!json_is_object(config)) {
        params_fail(p, "output_config", "must be an object");
        return;
    }
    params q = {.c = p->c, .o = config, .in = "output_config", .err = p->err, .st = p->st};
    form_typed(&q, "format", take(&q, "format"), NULL);
    const char *effort = take_string(&q, "effort");
    if (p->c->budget == NO_BUDGET) think_effort(&q, "effort", effort, extra); /* thinking's own figure stands */
    p->st = params_done(&q);
}

static larder_status read_prompt(params *p, larder_error *err, int32_t **ids, size_t *n_ids)
{
    take_model(p);
    json_t *messages = take_messages(p), *tools = take_tools(p), *extra = take_thinking(p);
    take_output(p, extra);
    form_done(p, tools);
    if (!params_done(p)) return prompt_render(p->c, messages, tools, extra, ids, n_ids, err);
    json_decref(messages);
    json_decref(tools);
    json_decref(extra);
    return p->st;
}

static larder_status read_messages(call *c, larder_error *err)
{
    params p = {.c = c, .o = c->body, .err = err};
    larder_sampling s = sampling_for(c);
    int64_t n = 0;
    int32_t *ids = NULL;
    size_t n_ids = 0;
    new_id(c->s, "msg_", c->id);
    if (!take_int(&p, "max_tokens", 1, UINT32_MAX, &n)) params_fail(&p, "max_tokens", "is missing");
    c->max_tokens = (uint32_t)n;
    take_sampling(&p, &s);
    take_stop(&p, "stop_sequences");
    take_bool(&p, "stream", &c->stream);
    take_inert(&p, "metadata");
    take_inert(&p, "cache_control"); /* prefixes are always cached */
    take_refused(&p, "service_tier", "there is one tier", "\"auto\" \"standard_only\"");
    LR_TRY(read_prompt(&p, err, &ids, &n_ids));
    return call_add_prompt(c, ids, n_ids, 1, &s, err);
}

static larder_status read_count(call *c, larder_error *err)
{
    params p = {.c = c, .o = c->body, .err = err};
    int32_t *ids = NULL;
    size_t n_ids = 0;
    take_inert(&p, "cache_control");
    LR_TRY(read_prompt(&p, err, &ids, &n_ids));
    larder_free(ids);
    c->answer = json_pack("{s:I}", "input_tokens", (json_int_t)n_ids);
    c->answer_only = true;
    return LARDER_OK;
}

/* ---------------------------------------------------------------- writing */
enum { OPEN_NONE, OPEN_TEXT, OPEN_THOUGHT, OPEN_CALL };

static json_t *usage(const call *c)
{
    uint32_t n_cached = call_n_cached(c);
    return json_pack("{s:I,s:I,s:I,s:I}", "input_tokens", (json_int_t)call_n_prompt(c) - n_cached, "output_tokens",
                     (json_int_t)call_n_generated(c), "cache_read_input_tokens", (json_int_t)n_cached,
                     "cache_creation_input_tokens", (json_int_t)0);
}

static const char *stop_reason(const gen *g)
{
    return g->finish == LARDER_FINISH_LENGTH ? "max_tokens"
           : g->n_tools                      ? "tool_use"
           : g->finish == LARDER_FINISH_STOP ? "stop_sequence"
                                             : "end_turn";
}

static json_t *message(call *c, json_t *content, const gen *g)
{
    return json_pack("{s:s,s:s,s:s,s:s,s:o,s:s?,s:s?,s:o}", "id", c->id, "type", "message", "role", "assistant",
                     "model", call_model(c), "content", content, "stop_reason", g ? stop_reason(g) : NULL,
                     "stop_sequence", g ? g->stop : NULL, "usage", usage(c));
}

static json_t *tool_block(const tool_call *t, json_t *input)
{
    return json_pack("{s:s,s:s,s:s,s:o}", "type", "tool_use", "id", t->id, "name", t->name, "input", input);
}

static void begin(call *c)
{
    call_say(c, "message_start",
             json_pack("{s:s,s:o}", "type", "message_start", "message", message(c, json_array(), NULL)));
}

static void close_block(call *c, gen *g)
{
    if (g->open == OPEN_NONE) return;
    call_say(c, "content_block_stop",
             json_pack("{s:s,s:I}", "type", "content_block_stop", "index", (json_int_t)c->sequence++));
    g->open = OPEN_NONE;
}

static void open_block(call *c, gen *g, uint32_t what, json_t *block)
{
    close_block(c, g);
    call_say(c, "content_block_start",
             json_pack("{s:s,s:I,s:o}", "type", "content_block_start", "index", (json_int_t)c->sequence,
                       "content_block", block));
    g->open = what;
}

static void say_delta(call *c, const char *type, const char *key, json_t *text)
{
    call_say(c, "content_block_delta",
             json_pack("{s:s,s:I,s:{s:s,s:o}}", "type", "content_block_delta", "index", (json_int_t)c->sequence,
                       "delta", "type", type, key, text));
}

static void piece(call *c, gen *g, const lr_piece *p)
{
    if (p->kind == LR_PIECE_CALL) {
        open_block(c, g, OPEN_CALL, tool_block(&g->tools[g->n_tools - 1], json_object()));
        return;
    }
    if (p->kind == LR_PIECE_CALLED) {
        close_block(c, g);
        return;
    }
    json_t *text = json_stringn(p->text.p, p->text.n);
    if (p->kind == LR_PIECE_ARGS) {
        say_delta(c, "input_json_delta", "partial_json", text);
    } else if (p->kind == LR_PIECE_TEXT) {
        if (g->open != OPEN_TEXT) open_block(c, g, OPEN_TEXT, json_pack("{s:s,s:s}", "type", "text", "text", ""));
        say_delta(c, "text_delta", "text", text);
    } else {
        if (g->open != OPEN_THOUGHT)
            open_block(c, g, OPEN_THOUGHT,
                       json_pack("{s:s,s:s,s:s}", "type", "thinking", "thinking", "", "signature", ""));
        say_delta(c, "thinking_delta", "thinking", text);
    }
}

static void end(call *c, gen *g)
{
    close_block(c, g);
    call_say(c, "message_delta",
             json_pack("{s:s,s:{s:s,s:s?},s:o}", "type", "message_delta", "delta", "stop_reason", stop_reason(g),
                       "stop_sequence", g->stop, "usage", usage(c)));
}

static void alive(call *c) { call_say(c, "ping", json_pack("{s:s}", "type", "ping")); }

static void close_stream(call *c) { call_say(c, "message_stop", json_pack("{s:s}", "type", "message_stop")); }

static json_t *whole(call *c)
{
    gen *g = &c->gens[0];
    json_t *content = json_array();
    if (g->thought.n)
        json_array_append_new(content, json_pack("{s:s,s:o,s:s}", "type", "thinking", "thinking",
                                                 json_stringn(g->thought.p, g->thought.n), "signature", ""));
    if (g->text.n)
        json_array_append_new(content,
                              json_pack("{s:s,s:o}", "type", "text", "text", json_stringn(g->text.p, g->text.n)));
    for (uint32_t i = 0; i < g->n_tools; i++) {
        bool good = false; /* not so if it was cut off */
        json_t *input = call_args(&g->tools[i], &good);
        json_array_append_new(content, tool_block(&g->tools[i], input));
    }
    return message(c, content, g);
}

const api api_anthropic = {.name = "messages",
                           .frames = FRAME_SSE,
                           .read = read_messages,
                           .begin = begin,
                           .piece = piece,
                           .end = end,
                           .close = close_stream,
                           .alive = alive,
                           .whole = whole,
                           .error = error_anthropic};
const api api_count = {.name = "count_tokens", .read = read_count, .error = error_anthropic};
