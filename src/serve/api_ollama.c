/* api_ollama.c - /api/chat and /api/generate. */
#include "serve.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

json_t *error_ollama(int status, const char *message, const char *param)
{
    (void)status;
    (void)param; /* the message names it */
    return json_pack("{s:s}", "error", message);
}

/* ---------------------------------------------------------------- reading */
/* Options that would change how the model is loaded: it is loaded, and stays as it is. */
static void take_options(params *p, larder_sampling *s)
{
    call *c = p->c;
    json_t *o = take(p, "options");
    int64_t n = 0;
    if (!o) return;
    if (!json_is_object(o)) {
        params_fail(p, "options", "must be an object");
        return;
    }
    params q = {.c = c, .o = o, .in = "options", .err = p->err, .st = p->st};
    if (take_int(&q, "repeat_last_n", -1, INT32_MAX, &n)) s->penalty_last_n = (int32_t)n;
    if (take_int(&q, "num_predict", -2, UINT32_MAX, &n)) c->max_tokens = n > 0 ? (uint32_t)n : 0;
    if (take_int(&q, "num_ctx", 1, UINT32_MAX, &n) && n > c->m->plan.n_ctx)
        params_fail(&q, "num_ctx", "the server runs with a context of %u; start it with --ctx %lld", c->m->plan.n_ctx,
                    (long long)n);
    take_stop(&q, "stop");
    take_sampling(&q, s);
    take_refused(&q, "mirostat", "give mirostat_tau for mirostat 2", "0");
    take_refused(&q, "num_keep", "contexts are not shifted here", "0 -1");
    take_refused(&q, "penalize_newline", "is not supported", "true");
    take_refused(&q, "tfs_z", "is not supported", "1 1.0");
    static const char *const load[] = {"num_batch", "num_gpu",   "main_gpu", "num_thread", "numa",
                                       "use_mmap",  "use_mlock", "low_vram", "f16_kv",     "vocab_only"};
    for (size_t i = 0; i < LR_LEN(load); i++) take_refused(&q, load[i], "is chosen when the server starts", "");
    p->st = params_done(&q);
}

/* How long the model stays after this call: seconds, or "5m", "1h30m", "300ms"; below 0 for good; 0 not at all. */
static void take_keep_alive(params *p)
{
    static const struct {
        const char *name;
        double s;
    } units[] = {{"ms", 1e-3}, {"h", 3600}, {"m", 60}, {"s", 1}};
    call *c = p->c;
    json_t *v = take(p, "keep_alive");
    const char *text = json_string_value(v);
    double s = json_number_value(v);
    if (!v) return;
    bool good = json_is_number(v) || (text && *text);
    for (char *end; good && text && *text; text = end) {
        double n = strtod(text, &end);
        good = end != text && strspn(text, "0123456789.-") == (size_t)(end - text);
        size_t u = 0;
        while (u < LR_LEN(units) && strncmp(end, units[u].name, strlen(units[u].name)) != 0) u++;
        if (u < LR_LEN(units)) {
            s += n * units[u].s;
            end += strlen(units[u].name);
        } else {
            good = good && !*end; /* seconds, as a text */
            s += n;
        }
    }
    if (!good || !(fabs(s) <= 1e15)) {
        params_fail(p, "keep_alive", "must be a number of seconds or a duration, as 5m");
        return;
    }
    c->has_keep = true;
    c->keep_s = s < 0 ? -1 : LR_MIN(s, 1e8);
    if (!c->m->stored || c->m->pinned) call_note_add(c, "keep_alive: has no effect, the model stays loaded");
}

static void take_common(params *p, larder_sampling *s)
{
    call *c = p->c;
    c->stream = true;
    take_model(p);
    take_options(p, s);
    take_bool(p, "stream", &c->stream);
    json_t *format = take(p, "format");
    const char *word = json_string_value(format);
    if (word && !strcmp(word, "json")) {
        json_t *object = json_pack("{s:s}", "type", "json_object");
        form_typed(p, "format", object, NULL);
        json_decref(object);
    } else if (format && (!word || *word)) {
        form_schema(p, "format", format);
    }
    take_refused(p, "logprobs", "is not supported here; /v1/chat/completions has it", "false");
    take_keep_alive(p);
}

static json_t *take_think(params *p)
{
    json_t *v = take(p, "think"), *extra = json_object();
    if (!v) return extra;
    if (json_is_string(v)) think_effort(p, "think", json_string_value(v), extra);
    else if (json_is_true(v)) json_object_set_new(extra, "enable_thinking", json_true());
    else if (json_is_false(v)) think_budget(p, "think", 0, extra);
    else params_fail(p, "think", "must be true, false or a word");
    return extra;
}

static larder_status render(params *p, json_t *messages, json_t *tools, json_t *extra, const larder_sampling *s)
{
    int32_t *ids = NULL;
    size_t n_ids = 0;
    if (p->st) {
        json_decref(messages);
        json_decref(tools);
        json_decref(extra);
        return p->st;
    }
    LR_TRY(prompt_render(p->c, messages, tools, extra, &ids, &n_ids, p->err));
    return call_add_prompt(p->c, ids, n_ids, 1, s, p->err);
}

static json_t *base(const call *c)
{
    char when[40];
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t n = strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(when + n, sizeof when - n, ".%06ldZ", now.tv_nsec / 1000);
    return json_pack("{s:s,s:s}", "model", call_model(c), "created_at", when);
}

/* A call without words asks for the model to be there, and it is. */
static larder_status loaded(call *c, bool chat)
{
    c->answer = base(c);
    if (chat) json_object_set_new(c->answer, "message", json_pack("{s:s,s:s}", "role", "assistant", "content", ""));
    else json_object_set_new(c->answer, "response", json_string(""));
    json_object_set_new(c->answer, "done", json_true());
    json_object_set_new(c->answer, "done_reason", json_string("load"));
    c->answer_only = true;
    return LARDER_OK;
}

static larder_status read_chat(call *c, larder_error *err)
{
    params p = {.c = c, .o = c->body, .err = err};
    larder_sampling s = sampling_for(c);
    take_common(&p, &s);
    const json_t *list = json_object_get(p.o, "messages");
    bool empty = !list || json_is_null(list) || (json_is_array(list) && !json_array_size(list));
    json_t *messages = empty ? (take(&p, "messages"), NULL) : prompt_messages(&p, "messages");
    json_t *tools = prompt_tools(&p, "tools"), *extra = take_think(&p);
    form_done(&p, tools);
    params_done(&p);
    if (!p.st && empty) {
        json_decref(tools);
        json_decref(extra);
        return loaded(c, true);
    }
    return render(&p, messages, tools, extra, &s);
}

static larder_status read_raw(params *p, const char *prompt, const larder_sampling *s)
{
    int32_t *ids = NULL;
    size_t n = 0;
    p->c->raw = true;
    LR_TRY(larder_tokenize(p->c->m->model, prompt, strlen(prompt), LARDER_TEXT_SPECIAL, &ids, &n, p->err));
    return call_add_prompt(p->c, ids, n, 1, s, p->err);
}

static larder_status read_generate(call *c, larder_error *err)
{
    params p = {.c = c, .o = c->body, .err = err};
    larder_sampling s = sampling_for(c);
    bool raw = false;
    take_common(&p, &s);
    const char *prompt = take_string(&p, "prompt"), *system = take_string(&p, "system");
    take_bool(&p, "raw", &raw);
    take_refused(&p, "suffix", "is not supported", "\"\"");
    take_refused(&p, "images", "this server takes text only", "[]");
    take_refused(&p, "template", "the model's own is used; raw: true sends a prompt as it is", "\"\"");
    take_refused(&p, "context", "is not supported; /api/chat carries a conversation", "[]");
    json_t *extra = take_think(&p);
    params_done(&p);
    if (p.st || !prompt || !*prompt || raw || !c->m->info.has_template) {
        json_decref(extra);
        if (p.st) return p.st;
        if (!prompt || !*prompt) return loaded(c, false);
        if (!raw) call_note_add(c, "the model has no chat template; the prompt is continued as it is");
        if (system && *system) return params_fail(&p, "system", "needs a chat template");
        return read_raw(&p, prompt, &s);
    }
    json_t *messages = json_array();
    if (system && *system)
        json_array_append_new(messages, json_pack("{s:s,s:s}", "role", "system", "content", system));
    json_array_append_new(messages, json_pack("{s:s,s:s}", "role", "user", "content", prompt));
    return render(&p, messages, NULL, extra, &s);
}

/* ---------------------------------------------------------------- writing */
static void add_call(json_t *list, const tool_call *t)
{
    bool good = false; /* not so if it was cut off */
    json_t *args = call_args(t, &good);
    json_array_append_new(list, json_pack("{s:{s:s,s:o}}", "function", "name", t->name, "arguments", args));
}

static json_t *calls_json(const gen *g, uint32_t from)
{
    json_t *list = json_array();
    for (uint32_t i = from; i < g->n_tools; i++) add_call(list, &g->tools[i]);
    return list;
}

static bool is_chat(const call *c) { return c->api == &api_ollama_chat; }

/* Takes the references; thought and calls may be NULL. */
static json_t *line(call *c, json_t *text, json_t *thought, json_t *calls, bool done)
{
    json_t *o = base(c), *m = is_chat(c) ? json_pack("{s:s}", "role", "assistant") : o;
    json_object_set_new(m, is_chat(c) ? "content" : "response", text);
    if (thought) json_object_set_new(m, "thinking", thought);
    if (calls) json_object_set_new(m, "tool_calls", calls);
    if (is_chat(c)) json_object_set_new(o, "message", m);
    json_object_set_new(o, "done", json_boolean(done));
    return o;
}

static void begin(call *c) { (void)c; }

static void piece(call *c, gen *g, const lr_piece *p)
{
    if (p->kind == LR_PIECE_CALL || p->kind == LR_PIECE_ARGS) return; /* a call is one line, once it is whole */
    if (p->kind == LR_PIECE_CALLED) {
        call_say(c, NULL, line(c, json_string(""), NULL, calls_json(g, g->n_tools - 1), false));
        return;
    }
    json_t *text = json_stringn(p->text.p, p->text.n);
    if (p->kind == LR_PIECE_TEXT) call_say(c, NULL, line(c, text, NULL, NULL, false));
    else call_say(c, NULL, line(c, json_string(""), text, NULL, false));
}

/* Lines have no comments: a line without words, which clients add to what there is. */
static void alive(call *c) { call_say(c, NULL, line(c, json_string(""), NULL, NULL, false)); }

static void say_progress(call *c, const progress *p)
{
    json_t *o = line(c, json_string(""), NULL, NULL, false);
    json_t *how = json_pack("{s:I,s:I}", "done", (json_int_t)p->n_done, "total", (json_int_t)p->n_total);
    if (p->left > 0) json_object_set_new(how, "seconds_left", json_real(p->left));
    json_object_set_new(o, "prompt_progress", how);
    call_say(c, NULL, o);
}

static json_t *add_figures(call *c, json_t *o)
{
    const gen *g = &c->gens[0];
    const larder_timing *t = &g->timing;
    json_object_set_new(o, "done_reason", json_string(g->finish == LARDER_FINISH_LENGTH ? "length" : "stop"));
    json_object_set_new(o, "total_duration", json_integer((json_int_t)(lr_now_ns() - c->t0)));
    json_object_set_new(o, "load_duration", json_integer(0));
    json_object_set_new(o, "prompt_eval_count", json_integer(t->n_prompt));
    json_object_set_new(o, "prompt_eval_duration", json_integer((json_int_t)(t->prefill_s * 1e9)));
    json_object_set_new(o, "eval_count", json_integer(t->n_generated));
    json_object_set_new(o, "eval_duration", json_integer((json_int_t)(t->decode_s * 1e9)));
    return o;
}

static void end(call *c, gen *g)
{
    (void)g;
    call_say(c, NULL, add_figures(c, line(c, json_string(""), NULL, NULL, true)));
}

static void close_stream(call *c) { (void)c; }

static json_t *whole(call *c)
{
    gen *g = &c->gens[0];
    return add_figures(c, line(c, json_stringn(g->text.n ? g->text.p : "", g->text.n),
                               g->thought.n ? json_stringn(g->thought.p, g->thought.n) : NULL,
                               g->n_tools ? calls_json(g, 0) : NULL, true));
}

/* Both answer in the same lines; what they read differs. */
#define OLLAMA(title, reader) \
    { \
        .name = title, .frames = FRAME_LINES, .read = reader, .begin = begin, .piece = piece, .end = end, \
        .close = close_stream, .alive = alive, .progress = say_progress, .whole = whole, .error = error_ollama \
    }
const api api_ollama_chat = OLLAMA("ollama chat", read_chat);
const api api_ollama_generate = OLLAMA("ollama generate", read_generate);
