/* call.c - one call from its body to its last byte: what comes back from the other threads becomes an answer. */
#include "serve.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

call *call_new(server *s, exchange *x, const api *a)
{
    call *c = lr_calloc(1, sizeof *c);
    if (!c) return NULL;
    c->own_note = lr_calloc(1, sizeof *c->own_note);
    c->kept = json_array();
    c->echo = json_object();
    if (!c->own_note || !c->kept || !c->echo) {
        lr_free(c->own_note);
        json_decref(c->kept);
        json_decref(c->echo);
        lr_free(c);
        return NULL;
    }
    c->s = s;
    c->x = x;
    c->api = a;
    c->t0 = x->t0;
    c->created = (int64_t)time(NULL);
    c->budget = NO_BUDGET;
    share_begin(c, x);
    c->text = x->body;
    x->body = (lr_buf){0};
    s->n_calls++;
    return c;
}

static void gen_free(gen *g, bool owns_ids)
{
    if (owns_ids) larder_free(g->ids);
    lr_answer_close(&g->parse);
    lr_answer_close(&g->watch);
    lr_free(g->made);
    lr_buf_free(&g->text);
    lr_buf_free(&g->thought);
    for (uint32_t i = 0; i < g->n_tools; i++) {
        lr_free(g->tools[i].name);
        lr_buf_free(&g->tools[i].args);
    }
    lr_free(g->tools);
    lr_free(g->tokens);
    lr_free(g->stop);
    if (g->done_note) lr_free(g->done_note->stop);
    lr_free(g->done_note);
}

void call_free(call *c)
{
    if (!c) return;
    if (c->x) c->x->call = NULL;
    for (uint32_t i = 0; i < c->n_gens; i++) gen_free(&c->gens[i], i % c->n_per_prompt == 0);
    lr_free(c->gens);
    for (uint32_t i = 0; i < c->n_texts; i++) larder_free(c->texts[i].ids);
    lr_free(c->texts);
    lr_free(c->vectors);
    larder_grammar_free(c->grammar);
    larder_free(c->end_ids);
    lr_free(c->bias_ids);
    lr_free(c->bias);
    lr_buf_free(&c->text);
    json_decref(c->body);
    json_decref(c->kept);
    json_decref(c->echo);
    json_decref(c->answer);
    json_decref(c->items);
    lr_free(c->own_note);
    models_release(c);
    c->s->n_calls--;
    lr_free(c);
}

void call_note_add(call *c, const char *text)
{
    size_t n = strlen(c->note);
    snprintf(c->note + n, sizeof c->note - n, "%s%s", n ? "; " : "", text);
}

/* ---------------------------------------------------------------- an answer's parts */
static bool add_tool(gen *g, lr_str name)
{
    tool_call *more = lr_realloc(g->tools, (g->n_tools + 1) * sizeof *more);
    if (!more) return false;
    g->tools = more;
    tool_call *t = &more[g->n_tools++];
    memset(t, 0, sizeof *t);
    new_id(g->c->s, "call_", t->id);
    t->name = lr_strndup(name.p, name.n);
    return t->name != NULL;
}

static void keep_piece(gen *g, const lr_piece *p)
{
    tool_call *t = g->n_tools ? &g->tools[g->n_tools - 1] : NULL;
    switch (p->kind) {
    case LR_PIECE_TEXT: lr_buf_add(&g->text, p->text.p, p->text.n); break;
    case LR_PIECE_THOUGHT: lr_buf_add(&g->thought, p->text.p, p->text.n); break;
    case LR_PIECE_CALL: g->text.failed |= !add_tool(g, p->name); break;
    case LR_PIECE_ARGS:
        if (t) lr_buf_add(&t->args, p->text.p, p->text.n);
        if (t) g->text.failed |= t->args.failed;
        break;
    case LR_PIECE_CALLED:
        if (t) t->whole = true;
        break;
    }
}

static void on_piece(void *user, const lr_piece *p)
{
    gen *g = user;
    call *c = g->c;
    if (atomic_load(&g->enough)) return;
    keep_piece(g, p);
    if (g->text.failed) return;
    if (c->stream && c->x) c->api->piece(c, g, p);
    if (p->kind == LR_PIECE_CALLED && c->one_call) atomic_store(&g->enough, true);
}

/* With no budget at all, the thought that a template opened ends at once. */
static larder_status end_thought(call *c, int32_t **ids, size_t *n_ids, bool *thinking, larder_error *err)
{
    LR_TRY(think_ready(c, err));
    if (!*thinking || c->budget) return LARDER_OK;
    int32_t *more = lr_calloc(*n_ids + c->n_end_ids, sizeof *more);
    if (!more) return LR_NOMEM(err, "a prompt");
    memcpy(more, *ids, *n_ids * sizeof *more);
    memcpy(more + *n_ids, c->end_ids, c->n_end_ids * sizeof *more);
    larder_free(*ids);
    *ids = more;
    *n_ids += c->n_end_ids;
    *thinking = false;
    return LARDER_OK;
}

larder_status call_add_prompt(call *c, int32_t *ids, size_t n_ids, uint32_t n, const larder_sampling *sampling,
                              larder_error *err)
{
    if (!c->gens) c->gens = lr_calloc(MOST_GENS, sizeof *c->gens);
    if (!c->gens || c->n_gens + n > MOST_GENS) {
        larder_free(ids);
        if (!c->gens) return LR_NOMEM(err, "a call");
        return lr_fail(err, LARDER_LIMIT, "more than %d answers in one call", MOST_GENS);
    }
    c->n_per_prompt = n;
    bool whole = c->grammar && !c->call_mark; /* all of the answer has a form */
    bool thinking = !c->raw && !whole && prompt_thinks(c, ids, n_ids);
    if (c->raw || whole) c->budget = NO_BUDGET; /* it does not think */
    if (c->budget != NO_BUDGET && end_thought(c, &ids, &n_ids, &thinking, err)) {
        larder_free(ids);
        return err->code;
    }
    for (uint32_t i = 0; i < n; i++) {
        gen *g = &c->gens[c->n_gens];
        g->c = c;
        g->index = c->n_gens++;
        g->ids = ids;
        g->n_ids = n_ids;
        g->thinking = thinking;
        g->sampling = *sampling;
        g->sampling.seed = sampling->seed + i;
        lr_answer_init(&g->parse, c->tools, false, on_piece, g);
        g->done_note = lr_calloc(1, sizeof *g->done_note);
        if (!g->done_note) return LR_NOMEM(err, "a call");
        g->done_note->kind = NOTE_DONE;
        g->done_note->c = c;
        g->done_note->g = g;
    }
    return LARDER_OK;
}

static void keep_token(gen *g, const token_note *t)
{
    if (g->n_tokens == g->cap_tokens) {
        uint32_t cap = g->cap_tokens ? g->cap_tokens * 2 : 64;
        token_note *more = lr_realloc(g->tokens, cap * sizeof *more);
        if (!more) {
            g->text.failed = true;
            return;
        }
        g->tokens = more;
        g->cap_tokens = cap;
    }
    g->tokens[g->n_tokens++] = *t;
}

/* ---------------------------------------------------------------- errors */
static int status_of(larder_status st)
{
    switch (st) {
    case LARDER_USAGE:
    case LARDER_FORMAT:
    case LARDER_LIMIT:
    case LARDER_UNSUPPORTED: return 400;
    case LARDER_NOT_FOUND: return 404;
    case LARDER_NOMEM: return 503;
    default: return 500;
    }
}

void call_fail(call *c, int status, const char *message)
{
    exchange *x = c->x;
    if (!x) return;
    const char *param = c->param[0] ? c->param : NULL;
    if (!x->streaming) {
        reply_error(x, status, message, param);
        return;
    }
    if (c->api->fail) c->api->fail(c, status, message, param);
    else call_say(c, "error", c->api->error(status, message, param));
    if (c->x) stream_end(x);
}

static void fail_with(call *c, const larder_error *e, larder_status st)
{
    int status = status_of(st);
    if (st == LARDER_CANCELLED) return;
    if (status >= 500 && c->x) {
        log_line(LARDER_LOG_ERROR, "{\"event\":\"error\",\"id\":\"%s\",\"status\":%d}", c->x->id, status);
        lr_log(LARDER_LOG_DEBUG, "%s: %s", c->x->id, e->message);
    }
    call_fail(c, status, status == 500 ? "the server failed; its log names this request's id" : e->message);
}

void call_client_gone(call *c)
{
    if (!c->x) return;
    c->x->call = NULL;
    c->x = NULL;
    atomic_store(&c->cancelled, true);
    c->s->m.cancelled++;
}

/* ---------------------------------------------------------------- notes */
static void was_read(call *c)
{
    if (c->status) fail_with(c, &c->error, c->status);
    if (c->x) memcpy(c->x->note, c->note, sizeof c->x->note);
    if (!c->status && c->x && !c->answer_only) {
        work_run(c->s, c);
        return;
    }
    if (!c->status && c->x) {
        json_t *o = c->answer;
        c->answer = NULL;
        reply_json(c->x, 200, o);
    }
    call_free(c);
}

static void started(call *c)
{
    c->started = true;
    for (uint32_t i = 0; i < c->n_gens; i++) {
        gen *g = &c->gens[i];
        lr_answer_init(&g->parse, c->tools, g->thinking, on_piece, g);
        g->parse.forced = c->forced;
        g->parse.only = c->call_mark;
    }
    if (!c->stream || !c->x) return;
    stream_begin(c->x, c->api->frames == FRAME_SSE ? "text/event-stream; charset=utf-8" : "application/x-ndjson");
    c->api->begin(c);
}

/* How far the prompt is, and about how long it still takes: as the API has it, or in a comment, which clients skip. */
static void say_progress(call *c, const note *n)
{
    char line[96], left[40] = "";
    gen *g = n->g;
    if (!c->stream || !c->x || g->index || g->n_generated || n->n_done >= n->n_total) return;
    double now = (double)lr_now_ns() * 1e-9;
    progress p = {n->n_done, n->n_total, 0};
    if (!g->t_progress) g->t_progress = now, g->n_progress = n->n_done;
    else p.left = (now - g->t_progress) * (n->n_total - n->n_done) / LR_MAX(n->n_done - g->n_progress, 1u);
    if (c->api->progress) {
        c->api->progress(c, &p);
        return;
    }
    if (p.left > 0) snprintf(left, sizeof left, ", about %.1f s left", p.left);
    int k = snprintf(line, sizeof line, ": prompt %u/%u%s\n\n", p.n_done, p.n_total, left);
    stream_add(c->x, line, (size_t)k);
}

void call_alive(call *c)
{
    if (c->api->alive) c->api->alive(c);
    else stream_add(c->x, ": keep-alive\n\n", 14);
}

static void feed(gen *g, const char *text, size_t n)
{
    if (g->c->raw && n) on_piece(g, &(lr_piece){.kind = LR_PIECE_TEXT, .text = {text, n}});
    else if (!lr_answer_feed(&g->parse, text, n)) g->text.failed = true;
}

static void took_token(call *c, const note *n)
{
    gen *g = n->g;
    if (n->token.id >= 0) {
        g->n_generated++;
        if (n->gap > 0) metric_add(&c->s->m.gap, n->gap);
        if (c->logprobs) keep_token(g, &n->token);
    }
    uint32_t before = g->thought.n ? 1 : 0;
    feed(g, n->text, n->n_text);
    const char *mark = n->token.id >= 0 ? mark_of(c->m, n->token.id) : NULL;
    if (mark && !n->n_text && !c->raw) feed(g, mark, strlen(mark));
    if (n->token.id >= 0 && (before || g->thinking) && !g->text.n && !g->n_tools) g->n_thought++;
}

static void count_done(server *s, const gen *g, double ttft)
{
    metrics *m = &s->m;
    const larder_timing *t = &g->timing;
    m->finish[g->finish]++;
    m->generated_tokens += t->n_generated;
    if (ttft <= 0) return;
    m->prompt_tokens += t->n_prompt;
    m->cached_tokens += t->n_cached;
    m->decode_bytes += t->decode_bytes;
    metric_add(&m->ttft, ttft);
    metric_add(&m->queue, LR_MAX(ttft - t->prefill_s, 0));
    metric_add(&m->prefill, t->prefill_s);
    metric_add(&m->decode, t->decode_s);
    metric_add(&m->e2e, ttft + t->decode_s);
}

static const char *const finish_names[] = {"", "eos", "stop", "length", "cancelled", "error", "deadline"};

/* For the log; of several answers the slowest start and the last one's end. */
static void sum_up(const call *c, const gen *g, double ttft)
{
    if (!c->x) return;
    c->x->summary = (call_summary){.model = c->m->name,
                                   .n_prompt = call_n_prompt(c),
                                   .n_cached = call_n_cached(c),
                                   .n_generated = call_n_generated(c),
                                   .ttft_s = LR_MAX(ttft, c->x->summary.ttft_s),
                                   .finish = finish_names[g->finish]};
}

static void all_done(call *c)
{
    for (uint32_t i = 0; c->x && !c->closed && i < c->n_gens; i++)
        if (c->gens[i].text.failed || c->gens[i].thought.failed) {
            c->closed = true;
            call_fail(c, 503, "out of memory for the answer");
        }
    if (c->x && !c->closed) {
        if (c->stream) {
            c->api->close(c);
            if (c->x) stream_end(c->x); /* it may have been the line that was too much for a slow reader */
        } else {
            reply_json(c->x, 200, c->api->whole(c));
        }
    }
    call_free(c);
}

static void gen_done(call *c, note *n)
{
    gen *g = n->g;
    g->done = true;
    g->finish = n->finish;
    g->timing = n->timing;
    g->stop = n->stop;
    n->stop = NULL;
    count_done(c->s, g, n->ttft);
    lr_answer_end(&g->parse);
    if (atomic_load(&g->enough) && g->finish == LARDER_FINISH_CANCELLED) g->finish = LARDER_FINISH_EOS;
    bool late = g->finish == LARDER_FINISH_DEADLINE;
    if ((g->finish == LARDER_FINISH_ERROR || late) && !c->closed) {
        c->closed = true;
        if (late) call_fail(c, 504, n->error.message);
        else fail_with(c, &n->error, LARDER_INTERNAL);
        atomic_store(&c->cancelled, true);
    }
    if (c->x && c->stream && !c->closed) c->api->end(c, g);
    sum_up(c, g, n->ttft);
    if (++c->n_done == c->n_gens) all_done(c);
}

static void embedded(call *c, const note *n)
{
    if (n->error.code) fail_with(c, &n->error, n->error.code);
    else if (c->x) reply_json(c->x, 200, c->api->whole(c));
    c->s->m.prompt_tokens += c->n_embedded == c->n_texts ? call_n_text(c) : 0;
    call_free(c);
}

void call_note(note *n)
{
    call *c = n->c;
    switch (n->kind) {
    case NOTE_READ: was_read(c); return;
    case NOTE_STARTED: started(c); return;
    case NOTE_REFUSED:
        fail_with(c, &n->error, n->error.code);
        call_free(c);
        return;
    case NOTE_DONE: gen_done(c, n); return;
    case NOTE_EMBEDDED: embedded(c, n); return;
    case NOTE_PREFILL: say_progress(c, n); break;
    case NOTE_TOKEN: took_token(c, n); break;
    }
    lr_free(n);
}

/* ---------------------------------------------------------------- what the apis share */
void call_say(call *c, const char *event, json_t *o)
{
    char *text = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(o);
    if (!c->x || !text) {
        free(text);
        return;
    }
    lr_buf b = {0};
    c->x->t_said = lr_now_ns();
    if (c->x->ws) {
        ws_say(c->x->ws, text);
        free(text);
        return;
    }
    if (c->api->frames == FRAME_SSE) {
        if (event) lr_buf_printf(&b, "event: %s\n", event);
        lr_buf_puts(&b, "data: ");
        lr_buf_puts(&b, text);
        lr_buf_puts(&b, "\n\n");
    } else {
        lr_buf_puts(&b, text);
        lr_buf_putc(&b, '\n');
    }
    free(text);
    if (!b.failed) stream_add(c->x, b.p, b.n);
    lr_buf_free(&b);
}

uint32_t call_n_prompt(const call *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_gens; i += c->n_per_prompt) n += (uint32_t)c->gens[i].n_ids;
    return n;
}

size_t call_n_text(const call *c)
{
    size_t n = 0;
    for (uint32_t i = 0; i < c->n_texts; i++) n += c->texts[i].n;
    return n;
}

uint32_t call_n_cached(const call *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_gens; i += c->n_per_prompt) n += c->gens[i].timing.n_cached;
    return n;
}

uint32_t call_n_generated(const call *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_gens; i++)
        n += c->gens[i].done ? c->gens[i].timing.n_generated : c->gens[i].n_generated;
    return n;
}

json_t *call_args(const tool_call *t, bool *good)
{
    json_t *o = json_loadb(t->args.n ? t->args.p : "", t->args.n, 0, NULL);
    *good = json_is_object(o);
    if (*good) return o;
    json_decref(o);
    return json_object();
}

json_t *call_timings(const call *c)
{
    const larder_timing *t = &c->gens[0].timing;
    uint32_t n_read = t->n_prompt - t->n_cached, n_gaps = t->n_generated ? t->n_generated - 1 : 0;
    return json_pack("{s:I,s:I,s:f,s:f,s:I,s:f,s:f}", "prompt_n", (json_int_t)n_read, "cache_n",
                     (json_int_t)t->n_cached, "prompt_ms", t->prefill_s * 1e3, "prompt_per_second",
                     t->prefill_s > 0 ? n_read / t->prefill_s : 0.0, "predicted_n", (json_int_t)t->n_generated,
                     "predicted_ms", t->decode_s * 1e3, "predicted_per_second",
                     t->decode_s > 0 ? n_gaps / t->decode_s : 0.0);
}

const char *call_model(const call *c) { return c->m->name; }
