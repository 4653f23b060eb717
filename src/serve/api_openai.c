/* api_openai.c - /v1/chat/completions and /v1/completions. */
#include "serve.h"

json_t *error_openai(int status, const char *message, const char *param)
{
    const char *type = status == 401   ? "authentication_error"
                       : status == 403 ? "permission_error"
                       : status == 404 ? "not_found_error"
                       : status == 429 ? "rate_limit_error"
                       : status >= 500 ? "server_error"
                                       : "invalid_request_error";
    const char *code = status == 401            ? "invalid_api_key"
                       : status == 429          ? "rate_limit_exceeded"
                       : status == 404 && param ? "model_not_found"
                                                : NULL;
    return json_pack("{s:{s:s,s:s,s:s?,s:s?}}", "error", "message", message, "type", type, "param", param, "code",
                     code);
}

/* ---------------------------------------------------------------- reading */
static bool take_count(params *p, const char *key, uint32_t *out)
{
    int64_t n = 0;
    if (!take_int(p, key, 1, UINT32_MAX, &n)) return false;
    *out = (uint32_t)n;
    return true;
}

/* What both routes take. */
static void take_common(params *p, larder_sampling *s, int64_t *n)
{
    call *c = p->c;
    take_model(p);
    take_sampling(p, s);
    take_stop(p, "stop");
    take_bias(p, "logit_bias");
    take_bool(p, "stream", &c->stream);
    take_bool(p, "ignore_eos", &c->ignore_eos);
    take_int(p, "n", 1, MOST_CHOICES, n);
    json_t *options = take(p, "stream_options");
    if (options && !json_is_object(options)) params_fail(p, "stream_options", "must be an object");
    else if (options) {
        params o = {.c = c, .o = options, .in = "stream_options", .err = p->err, .st = p->st};
        take_bool(&o, "include_usage", &c->include_usage);
        take_refused(&o, "include_obfuscation", "is not supported", "false");
        p->st = params_done(&o);
    }
    take_inert(p, "user");
}

/* "auto", "none", "required", or {"type": "function", "function": {"name": ...}} */
static void take_tool_choice(params *p, json_t **tools, bool many)
{
    json_t *v = take(p, "tool_choice");
    const char *how = json_string_value(v), *type = json_string_value(json_object_get(v, "type"));
    const char *name = json_string_value(json_object_get(json_object_get(v, "function"), "name"));
    if (type && !strcmp(type, "function") && name) how = "named";
    if (v &&
        (!how || (strcmp(how, "auto") && strcmp(how, "none") && strcmp(how, "required") && strcmp(how, "named"))))
        params_fail(p, "tool_choice", "must be auto, none, required or a function by its name");
    form_tools(p, tools, how, name, many);
}

/* For the template: chat_template_kwargs, and how to think under the names templates know. */
static json_t *take_extra(params *p)
{
    json_t *kwargs = take(p, "chat_template_kwargs"), *extra = json_object();
    if (kwargs && !json_is_object(kwargs)) params_fail(p, "chat_template_kwargs", "must be an object");
    else if (json_object_get(kwargs, "messages") || json_object_get(kwargs, "tools"))
        params_fail(p, "chat_template_kwargs", "may not name messages or tools");
    else if (kwargs) json_object_update(extra, kwargs);
    think_effort(p, "reasoning_effort", take_string(p, "reasoning_effort"), extra);
    int64_t n = 0;
    if (take_int(p, "reasoning_budget", 0, NO_BUDGET - 1, &n)) think_budget(p, "reasoning_budget", n, extra);
    return extra;
}

static larder_status read_chat(call *c, larder_error *err)
{
    params p = {.c = c, .o = c->body, .err = err};
    larder_sampling s = sampling_for(c);
    int64_t n = 1, n_top = 0;
    new_id(c->s, "chatcmpl-", c->id);
    take_common(&p, &s, &n);
    json_t *messages = prompt_messages(&p, "messages"), *tools = prompt_tools(&p, "tools");
    take_tool_choice(&p, &tools, form_parallel(&p, "parallel_tool_calls"));
    form_typed(&p, "response_format", take(&p, "response_format"), "json_schema");
    form_take_others(&p);
    form_done(&p, tools);
    json_t *extra = take_extra(&p);
    if (!take_count(&p, "max_completion_tokens", &c->max_tokens)) take_count(&p, "max_tokens", &c->max_tokens);
    else take_refused(&p, "max_tokens", "max_completion_tokens is given already", "");
    take_bool(&p, "logprobs", &c->logprobs);
    if (take_int(&p, "top_logprobs", 0, 20, &n_top) && n_top && !c->logprobs)
        params_fail(&p, "top_logprobs", "needs logprobs: true");
    c->n_top = (uint32_t)n_top;
    static const char *const inert[] = {"metadata", "safety_identifier", "prompt_cache_key",
                                        "prompt_cache_retention"};
    for (size_t i = 0; i < LR_LEN(inert); i++) take_inert(&p, inert[i]);
    take_refused(&p, "store", "nothing is stored here", "false");
    take_refused(&p, "service_tier", "there is one tier", "\"auto\" \"default\"");
    take_refused(&p, "modalities", "answers are text", "[\"text\"]");
    static const char *const refused[] = {"audio",     "prediction",    "web_search_options",
                                          "functions", "function_call", "verbosity"};
    for (size_t i = 0; i < LR_LEN(refused); i++) take_refused(&p, refused[i], "is not supported", "");
    params_done(&p);
    int32_t *ids = NULL;
    size_t n_ids = 0;
    if (p.st) {
        json_decref(messages);
        json_decref(tools);
        json_decref(extra);
        return p.st;
    }
    LR_TRY(prompt_render(c, messages, tools, extra, &ids, &n_ids, err));
    return call_add_prompt(c, ids, n_ids, (uint32_t)n, &s, err);
}

static larder_status add_text_prompt(params *p, json_t *prompt, uint32_t n, const larder_sampling *s)
{
    call *c = p->c;
    int32_t *ids = NULL;
    size_t n_ids = 0;
    if (json_is_string(prompt)) {
        LR_TRY(larder_tokenize(c->m->model, json_string_value(prompt), json_string_length(prompt),
                               LARDER_TEXT_SPECIAL, &ids, &n_ids, p->err));
    } else {
        n_ids = json_array_size(prompt);
        LR_TRY(take_ids(p, "prompt", prompt, &ids));
    }
    if (!n_ids) {
        larder_free(ids);
        return params_fail(p, "prompt", "is empty");
    }
    return call_add_prompt(c, ids, n_ids, n, s, p->err);
}

static larder_status read_completions(call *c, larder_error *err)
{
    params p = {.c = c, .o = c->body, .err = err};
    larder_sampling s = sampling_for(c);
    int64_t n = 1, logprobs = -1;
    size_t i;
    json_t *one;
    new_id(c->s, "cmpl-", c->id);
    c->raw = true;
    take_common(&p, &s, &n);
    json_t *prompt = take(&p, "prompt");
    c->max_tokens = 16; /* as OpenAI has it */
    take_count(&p, "max_tokens", &c->max_tokens);
    c->logprobs = take_int(&p, "logprobs", 0, 20, &logprobs);
    c->n_top = c->logprobs ? (uint32_t)logprobs : 0;
    form_typed(&p, "response_format", take(&p, "response_format"), "json_schema");
    form_take_others(&p);
    take_refused(&p, "echo", "is not supported", "false");
    take_refused(&p, "suffix", "is not supported", "\"\"");
    if (json_is_integer(json_object_get(p.o, "best_of")) && json_integer_value(json_object_get(p.o, "best_of")) == n)
        take(&p, "best_of");
    take_refused(&p, "best_of", "must equal n", "");
    params_done(&p);
    if (p.st) return p.st;
    bool many = json_is_array(prompt) && json_array_size(prompt) && !json_is_integer(json_array_get(prompt, 0));
    if (!json_is_string(prompt) && !json_is_array(prompt))
        return params_fail(&p, "prompt", "must be a string, token ids, or a list of either");
    if (!many) return add_text_prompt(&p, prompt, (uint32_t)n, &s);
    if (json_array_size(prompt) * (size_t)n > MOST_GENS)
        return params_fail(&p, "prompt", "makes more than %d answers", MOST_GENS);
    json_array_foreach(prompt, i, one)
    {
        if (!json_is_string(one) && !json_is_array(one))
            return params_fail(&p, "prompt", "must be a string, token ids, or a list of either");
        LR_TRY(add_text_prompt(&p, one, (uint32_t)n, &s));
    }
    return LARDER_OK;
}

/* ---------------------------------------------------------------- writing */
static json_t *usage(const call *c)
{
    uint32_t n_in = call_n_prompt(c), n_out = call_n_generated(c), n_thought = 0;
    for (uint32_t i = 0; i < c->n_gens; i++) n_thought += c->gens[i].n_thought;
    return json_pack("{s:I,s:I,s:I,s:{s:I},s:{s:I}}", "prompt_tokens", (json_int_t)n_in, "completion_tokens",
                     (json_int_t)n_out, "total_tokens", (json_int_t)n_in + n_out, "prompt_tokens_details",
                     "cached_tokens", (json_int_t)call_n_cached(c), "completion_tokens_details", "reasoning_tokens",
                     (json_int_t)n_thought);
}

static const char *finish_of(const gen *g)
{
    if (g->finish == LARDER_FINISH_LENGTH) return "length";
    return g->n_tools ? "tool_calls" : "stop";
}

/* A token's text: valid UTF-8 for "token", every byte for "bytes". */
static json_t *logprob_entry(call *c, int32_t id, float logprob)
{
    char *text = NULL;
    size_t n = 0;
    larder_error err;
    json_t *bytes = json_array();
    if (!larder_detokenize(c->m->model, &id, 1, &text, &n, &err))
        for (size_t i = 0; i < n; i++) json_array_append_new(bytes, json_integer((unsigned char)text[i]));
    json_t *o = json_pack("{s:o?,s:f,s:o}", "token", json_stringn(text ? text : "", n), "logprob",
                          logprob > -9999.0f ? (double)logprob : -9999.0, "bytes", bytes);
    larder_free(text);
    return o;
}

/* Of tokens not told yet. */
static json_t *chat_logprobs(call *c, gen *g)
{
    if (!c->logprobs) return json_null();
    json_t *list = json_array();
    for (; g->n_told < g->n_tokens; g->n_told++) {
        const token_note *t = &g->tokens[g->n_told];
        json_t *o = logprob_entry(c, t->id, t->logprob), *top = json_array();
        for (uint32_t i = 0; i < t->n_top; i++)
            json_array_append_new(top, logprob_entry(c, t->top[i].token, t->top[i].logprob));
        json_object_set_new(o, "top_logprobs", top);
        json_array_append_new(list, o);
    }
    return json_pack("{s:o,s:n}", "content", list, "refusal");
}

static json_t *text_logprobs(call *c, gen *g)
{
    if (!c->logprobs) return json_null();
    json_t *names = json_array(), *values = json_array(), *tops = json_array();
    for (; g->n_told < g->n_tokens; g->n_told++) {
        const token_note *t = &g->tokens[g->n_told];
        json_t *o = logprob_entry(c, t->id, t->logprob), *top = json_object();
        json_array_append(names, json_object_get(o, "token"));
        json_array_append(values, json_object_get(o, "logprob"));
        json_decref(o);
        for (uint32_t i = 0; i < t->n_top; i++) {
            o = logprob_entry(c, t->top[i].token, t->top[i].logprob);
            json_object_set(top, json_string_value(json_object_get(o, "token")), json_object_get(o, "logprob"));
            json_decref(o);
        }
        json_array_append_new(tops, top);
    }
    return json_pack("{s:o,s:o,s:o}", "tokens", names, "token_logprobs", values, "top_logprobs", tops);
}

static json_t *chat_chunk(call *c, json_t *choices)
{
    json_t *o = json_pack("{s:s,s:s,s:I,s:s,s:o}", "id", c->id, "object", "chat.completion.chunk", "created",
                          (json_int_t)c->created, "model", call_model(c), "choices", choices);
    if (c->include_usage) json_object_set_new(o, "usage", json_null());
    return o;
}

static void say_delta(call *c, gen *g, json_t *delta, const char *finish)
{
    json_t *choice = json_pack("{s:I,s:o,s:o,s:s?}", "index", (json_int_t)g->index, "delta", delta, "logprobs",
                               chat_logprobs(c, g), "finish_reason", finish);
    call_say(c, NULL, chat_chunk(c, json_pack("[o]", choice)));
}

static void chat_begin(call *c)
{
    for (uint32_t i = 0; i < c->n_gens; i++)
        say_delta(c, &c->gens[i], json_pack("{s:s,s:s}", "role", "assistant", "content", ""), NULL);
}

static json_t *tool_json(const tool_call *t)
{
    return json_pack("{s:s,s:s,s:{s:s,s:o}}", "id", t->id, "type", "function", "function", "name", t->name,
                     "arguments", json_stringn(t->args.n ? t->args.p : "", t->args.n));
}

static void chat_piece(call *c, gen *g, const lr_piece *p)
{
    json_t *text = json_stringn(p->text.n ? p->text.p : "", p->text.n), *t = NULL;
    if (p->kind == LR_PIECE_CALL) {
        t = tool_json(&g->tools[g->n_tools - 1]);
        json_decref(text);
    } else if (p->kind == LR_PIECE_ARGS) {
        t = json_pack("{s:{s:o}}", "function", "arguments", text);
    } else if (p->kind == LR_PIECE_CALLED) {
        json_decref(text);
        return;
    } else {
        say_delta(c, g, json_pack("{s:o}", p->kind == LR_PIECE_TEXT ? "content" : "reasoning_content", text), NULL);
        return;
    }
    json_object_set_new(t, "index", json_integer(g->n_tools - 1));
    say_delta(c, g, json_pack("{s:[o]}", "tool_calls", t), NULL);
}

static void chat_end(call *c, gen *g) { say_delta(c, g, json_object(), finish_of(g)); }

static void say_last(call *c)
{
    if (c->x) stream_add(c->x, "data: [DONE]\n\n", 14);
}

/* An error in a stream: its body as one more event, and the end. */
static void say_error(call *c, int status, const char *message, const char *param)
{
    call_say(c, NULL, error_openai(status, message, param));
    say_last(c);
}

static void chat_close(call *c)
{
    if (c->include_usage) {
        json_t *o = chat_chunk(c, json_array());
        json_object_set_new(o, "usage", usage(c));
        json_object_set_new(o, "timings", call_timings(c));
        call_say(c, NULL, o);
    }
    say_last(c);
}

static json_t *buf_json(const lr_buf *b) { return json_stringn(b->n ? b->p : "", b->n); }

static json_t *chat_choice(call *c, gen *g)
{
    json_t *m = json_pack("{s:s,s:o,s:n}", "role", "assistant", "content",
                          g->n_tools && !g->text.n ? json_null() : buf_json(&g->text), "refusal");
    if (g->thought.n) json_object_set_new(m, "reasoning_content", buf_json(&g->thought));
    if (g->n_tools) {
        json_t *list = json_array();
        for (uint32_t i = 0; i < g->n_tools; i++) json_array_append_new(list, tool_json(&g->tools[i]));
        json_object_set_new(m, "tool_calls", list);
    }
    return json_pack("{s:I,s:o,s:o,s:s}", "index", (json_int_t)g->index, "message", m, "logprobs",
                     chat_logprobs(c, g), "finish_reason", finish_of(g));
}

static json_t *whole(call *c, const char *object, json_t *(*choice)(call *, gen *))
{
    json_t *choices = json_array();
    for (uint32_t i = 0; i < c->n_gens; i++) json_array_append_new(choices, choice(c, &c->gens[i]));
    return json_pack("{s:s,s:s,s:I,s:s,s:o,s:o,s:o}", "id", c->id, "object", object, "created",
                     (json_int_t)c->created, "model", call_model(c), "choices", choices, "usage", usage(c), "timings",
                     call_timings(c));
}

static json_t *chat_whole(call *c) { return whole(c, "chat.completion", chat_choice); }

/* ---------------------------------------------------------------- completions */
static void say_text(call *c, gen *g, json_t *text, const char *finish)
{
    json_t *choice = json_pack("{s:I,s:o,s:o,s:s?}", "index", (json_int_t)g->index, "text", text, "logprobs",
                               text_logprobs(c, g), "finish_reason", finish);
    json_t *o = json_pack("{s:s,s:s,s:I,s:s,s:[o]}", "id", c->id, "object", "text_completion", "created",
                          (json_int_t)c->created, "model", call_model(c), "choices", choice);
    call_say(c, NULL, o);
}

static void text_begin(call *c) { (void)c; }

static void text_piece(call *c, gen *g, const lr_piece *p)
{
    say_text(c, g, json_stringn(p->text.p, p->text.n), NULL);
}

static void text_end(call *c, gen *g) { say_text(c, g, json_string(""), finish_of(g)); }

static void text_close(call *c)
{
    if (c->include_usage)
        call_say(c, NULL,
                 json_pack("{s:s,s:s,s:I,s:s,s:[],s:o,s:o}", "id", c->id, "object", "text_completion", "created",
                           (json_int_t)c->created, "model", call_model(c), "choices", "usage", usage(c), "timings",
                           call_timings(c)));
    say_last(c);
}

static json_t *text_choice(call *c, gen *g)
{
    return json_pack("{s:I,s:o,s:o,s:s}", "index", (json_int_t)g->index, "text", buf_json(&g->text), "logprobs",
                     text_logprobs(c, g), "finish_reason", finish_of(g));
}

static json_t *text_whole(call *c) { return whole(c, "text_completion", text_choice); }

const api api_chat = {.name = "chat",
                      .frames = FRAME_SSE,
                      .read = read_chat,
                      .begin = chat_begin,
                      .piece = chat_piece,
                      .end = chat_end,
                      .close = chat_close,
                      .fail = say_error,
                      .whole = chat_whole,
                      .error = error_openai};
const api api_completions = {.name = "completions",
                             .frames = FRAME_SSE,
                             .read = read_completions,
                             .begin = text_begin,
                             .piece = text_piece,
                             .end = text_end,
                             .close = text_close,
                             .fail = say_error,
                             .whole = text_whole,
                             .error = error_openai};
