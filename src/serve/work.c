/* work.c - the reader and the engine threads, and the notes they leave for the loop. */
#include "serve.h"

#include <signal.h>

struct work {
    pthread_mutex_t lock; /* of the lists and flags here; never held while working */
    pthread_cond_t to_read, to_run;
    call *reading, **reading_end, *running, **running_end;
    note *notes, **notes_end;
    bool stop, cancels;
    pthread_t reader, engine;
    bool has_reader, has_engine;
    uint32_t n_prefill, n_decode;     /* engine thread: tokens of the step at hand */
    double joules[2];                 /* prefill, decode: the lock's */
    gen *gens;                        /* engine thread: in the engine now */
    call *embedding, **embedding_end; /* engine thread: whose texts become vectors, one after the other */
};

static void put_note(struct work *w, note *n)
{
    pthread_mutex_lock(&w->lock);
    *w->notes_end = n;
    w->notes_end = &n->next;
    pthread_mutex_unlock(&w->lock);
}

static note *new_note(note_kind kind, call *c, gen *g, size_t n_text)
{
    note *n = lr_calloc(1, sizeof *n + n_text + 1);
    if (!n) return NULL;
    n->kind = kind;
    n->c = c;
    n->g = g;
    n->n_text = n_text;
    return n;
}

/* ---------------------------------------------------------------- reader */
static larder_status parse_body(call *c, larder_error *err)
{
    json_error_t bad;
    c->body = json_loadb(c->text.n ? c->text.p : "", c->text.n, JSON_REJECT_DUPLICATES, &bad);
    lr_buf_free(&c->text);
    if (!c->body)
        return lr_fail(err, LARDER_FORMAT, "the body is not JSON: line %d, column %d: %s", bad.line, bad.column,
                       bad.text);
    if (!json_is_object(c->body)) return lr_fail(err, LARDER_FORMAT, "the body must be a JSON object");
    return LARDER_OK;
}

larder_status work_take(call *c, bool *parked, larder_error *err)
{
    *parked = false;
    if (c->status) return c->status;
    if (atomic_load(&c->cancelled)) return lr_fail(err, LARDER_CANCELLED, "the client left");
    if (!c->body) LR_TRY(parse_body(c, err));
    const json_t *name = json_object_get(c->body, "model");
    if (!name && c->api->error == error_ollama) name = json_object_get(c->body, "name"); /* of /api/show */
    LR_TRY(models_take(c, json_string_value(name), parked, err));
    if (*parked) return LARDER_OK;
    LR_TRY(share_read(c, err));
    return c->api->read(c, err);
}

static void *reader_main(void *user)
{
    server *s = user;
    struct work *w = s->work;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (!w->reading && !w->stop) pthread_cond_wait(&w->to_read, &w->lock);
        if (w->stop && !w->reading) break;
        call *c = w->reading;
        w->reading = c->next;
        if (!w->reading) w->reading_end = &w->reading;
        c->next = NULL;
        pthread_mutex_unlock(&w->lock);
        larder_error err = c->error;
        bool parked;
        larder_status st = work_take(c, &parked, &err);
        if (!parked) { /* else it is no longer ours */
            c->status = st;
            c->error = err;
            *c->own_note = (note){.kind = NOTE_READ, .c = c};
            put_note(w, c->own_note);
            http_wake();
        }
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* ---------------------------------------------------------------- engine */
static void leave(struct work *w, gen *g)
{
    gen **link = &w->gens;
    while (*link && *link != g) link = &(*link)->next;
    if (*link) *link = g->next;
    g->next = NULL;
}

/* A request that went on after its thought was ended, and the one before, as one. */
static void add_first(larder_timing *t, const larder_timing *first)
{
    uint32_t n_made = t->n_generated;
    double more = t->prefill_s + t->decode_s, bytes = t->decode_bytes;
    *t = *first;
    t->n_generated += n_made;
    t->decode_s += more;
    t->decode_bytes += bytes;
}

static void done(struct work *w, gen *g, const larder_event *ev)
{
    note *n = g->done_note;
    n->finish = ev->finish;
    if (g->r) larder_request_get_timing(g->r, &n->timing);
    if (g->resumed) add_first(&n->timing, &g->first);
    if (ev->error) lr_fail(&n->error, LARDER_INTERNAL, "%s", ev->error);
    if (ev->stop) n->stop = lr_strndup(ev->stop, strlen(ev->stop));
    if (g->t_first) n->ttft = (double)(g->t_first - g->c->t0) * 1e-9;
    leave(w, g);
    larder_request_free(g->r);
    g->r = NULL;
    put_note(w, n);
}

static void put_text(struct work *w, gen *g, const char *text, size_t n_text)
{
    note *n = new_note(NOTE_TOKEN, g->c, g, n_text);
    if (!n) return;
    n->token.id = -1;
    memcpy(n->text, text, n_text);
    put_note(w, n);
}

static void resume(struct work *w, gen *g);

static bool on_event(void *user, larder_request *r, const larder_event *ev)
{
    gen *g = user;
    struct work *w = g->c->s->work;
    (void)r;
    if (ev->kind == LARDER_EVENT_DONE) {
        if (ev->n_text) put_text(w, g, ev->text, ev->n_text);
        if (g->spent && !g->resumed && ev->finish == LARDER_FINISH_CANCELLED && !atomic_load(&g->c->cancelled))
            resume(w, g);
        else done(w, g, ev);
        return true;
    }
    if (atomic_load(&g->c->cancelled) || atomic_load(&g->enough)) return false;
    note *n = new_note(ev->kind == LARDER_EVENT_TOKEN ? NOTE_TOKEN : NOTE_PREFILL, g->c, g, ev->n_text);
    if (!n) return false;
    n->n_done = ev->n_done;
    n->n_total = ev->n_total;
    if (ev->kind == LARDER_EVENT_TOKEN) {
        uint64_t now = lr_now_ns();
        if (g->t_last) n->gap = (double)(now - g->t_last) * 1e-9;
        else g->t_first = now;
        g->t_last = now;
        n->token.id = ev->token;
        n->token.logprob = ev->logprob;
        n->token.n_top = ev->n_top;
        if (ev->n_top) memcpy(n->token.top, ev->top, ev->n_top * sizeof *ev->top);
        if (ev->n_text) memcpy(n->text, ev->text, ev->n_text);
    }
    if (ev->kind == LARDER_EVENT_TOKEN) {
        w->n_decode++;
    } else {
        w->n_prefill += ev->n_done > g->n_read ? ev->n_done - g->n_read : 0;
        g->n_read = ev->n_done;
    }
    put_note(w, n);
    return ev->kind != LARDER_EVENT_TOKEN || think_token(g, ev);
}

/* Gives one of a call's answers to the engine; an error is the whole call's. */
static larder_status submit(gen *g, const int32_t *ids, size_t n_ids, larder_error *err)
{
    call *c = g->c;
    larder_request_options o = larder_request_defaults();
    o.ids = ids;
    o.n_ids = n_ids;
    o.max_tokens = c->max_tokens ? c->max_tokens - g->n_made : 0;
    o.sampling = g->sampling;
    o.sampling.bias_ids = c->bias_ids;
    o.sampling.bias = c->bias;
    o.sampling.n_bias = c->n_bias;
    o.stop = c->stop;
    o.n_stop = c->n_stop;
    o.ignore_eos = c->ignore_eos;
    o.grammar = c->grammar;
    o.logprobs = c->logprobs;
    o.n_top = c->n_top;
    o.client = c->client;
    o.priority = c->priority;
    o.deadline_s = share_left(c);
    o.cache_salt = c->salt;
    o.on_event = on_event;
    o.user = g;
    return larder_submit(g->c->m->engine, &o, &g->r, err);
}

/* The thought has had its budget: it is ended, and the answer goes on from there. */
static void resume(struct work *w, gen *g)
{
    larder_event over = {.kind = LARDER_EVENT_DONE, .finish = LARDER_FINISH_LENGTH};
    larder_error err = {0};
    larder_status st = LARDER_OK;
    int32_t *ids = NULL;
    size_t n_ids = 0;
    larder_request *old = g->r;
    larder_request_get_timing(old, &g->first);
    if (g->c->max_tokens && g->n_made >= g->c->max_tokens) {
        done(w, g, &over);
        return;
    }
    g->resumed = true;
    st = think_prompt(g, &ids, &n_ids, &err);
    if (!st) st = submit(g, ids, n_ids, &err);
    larder_free(ids);
    if (st) {
        g->resumed = false;
        if (st != LARDER_LIMIT) over.finish = LARDER_FINISH_ERROR, over.error = err.message; /* LIMIT: no room left */
        g->r = old;
        done(w, g, &over);
        return;
    }
    larder_request_free(old);
    put_text(w, g, think_end, strlen(think_end));
}

/* All of a call's answers, or none. */
static void start(server *s, call *c)
{
    struct work *w = s->work;
    if (c->api->embeds) {
        *w->embedding_end = c;
        w->embedding_end = &c->next;
        return;
    }
    larder_status st = LARDER_OK;
    larder_error err = {0};
    *c->own_note = (note){.kind = NOTE_STARTED, .c = c};
    if (atomic_load(&c->cancelled)) st = lr_fail(&err, LARDER_CANCELLED, "the client left");
    for (uint32_t i = 0; !st && i < c->n_gens; i++) {
        gen *g = &c->gens[i];
        st = submit(g, g->ids, g->n_ids, &err);
        if (st) break;
        g->next = w->gens;
        w->gens = g;
    }
    if (st) {
        for (uint32_t i = 0; i < c->n_gens; i++) {
            leave(w, &c->gens[i]);
            larder_request_free(c->gens[i].r);
            c->gens[i].r = NULL;
        }
        c->own_note->kind = NOTE_REFUSED;
        c->own_note->error = err;
        c->own_note->error.code = st;
    }
    put_note(w, c->own_note);
}

static void drop_cancelled(struct work *w)
{
    for (gen *g = w->gens, *next; g; g = next) {
        next = g->next;
        if (atomic_load(&g->c->cancelled))
            done(w, g, &(larder_event){.kind = LARDER_EVENT_DONE, .finish = LARDER_FINISH_CANCELLED});
    }
}

/* Starts what calls there are; with `wait`, once there is work at all. false: it is over. */
static bool start_calls(server *s, bool wait)
{
    struct work *w = s->work;
    pthread_mutex_lock(&w->lock);
    while (wait && !w->running && !w->gens && !w->embedding && !w->stop) pthread_cond_wait(&w->to_run, &w->lock);
    bool go_on = !w->stop || w->running || w->gens || w->embedding;
    call *calls = w->running;
    w->running = NULL;
    w->running_end = &w->running;
    pthread_mutex_unlock(&w->lock);
    for (call *c = calls, *next; c; c = next) {
        next = c->next;
        c->next = NULL;
        start(s, c);
    }
    return go_on;
}

/* What the step took, of what was read and what was said; the meters rest while nobody is served. */
static void count_energy(server *s)
{
    struct work *w = s->work;
    energy_step(&s->energy, w->n_prefill, w->n_decode);
    w->n_prefill = w->n_decode = 0;
    if (!w->gens && !w->embedding) energy_end(&s->energy);
    pthread_mutex_lock(&w->lock);
    w->joules[0] = s->energy.prefill_j;
    w->joules[1] = s->energy.decode_j;
    pthread_mutex_unlock(&w->lock);
}

/* Drops who left, and makes a step of every model that has something to do. Each is held meanwhile: the calls that hold it
 * may end here, and the loop may free them before its figures are taken. */
static void step_all(server *s)
{
    struct work *w = s->work;
    served *due[MOST_ACTIVE];
    uint32_t n = 0;
    for (gen *g = w->gens; g; g = g->next) {
        uint32_t i = 0;
        while (i < n && due[i] != g->c->m) i++;
        if (i < n || n == MOST_ACTIVE) continue;
        due[n++] = g->c->m;
        models_hold(s, g->c->m);
    }
    drop_cancelled(w);
    if (n) energy_begin(&s->energy);
    for (uint32_t i = 0; i < n; i++) {
        larder_error err = {0};
        if (larder_step(due[i]->engine, NULL, &err)) log_line(LARDER_LOG_ERROR, "{\"event\":\"step failed\"}");
        models_let_go(s, due[i]);
    }
    count_energy(s);
    http_wake();
}

/* Between two parts of a text: everybody else goes on. */
static bool between(void *user)
{
    call *c = user;
    start_calls(c->s, false);
    step_all(c->s);
    return !atomic_load(&c->cancelled);
}

/* The next text of those that wait to become vectors. While running answers hold the cache, it waits. */
static void embed(server *s)
{
    struct work *w = s->work;
    call *c = w->embedding;
    if (!c) return;
    larder_status st = LARDER_OK;
    larder_error err = {0};
    uint32_t i = c->n_embedded;
    if (atomic_load(&c->cancelled)) st = lr_fail(&err, LARDER_CANCELLED, "the client left");
    else if (i < c->n_texts)
        st = larder_embed(c->m->engine, c->texts[i].ids, c->texts[i].n, c->pooling,
                          c->vectors + (size_t)i * c->m->info.n_embd, between, c, &err);
    if (st == LARDER_LIMIT && w->gens) return;
    w->embedding = c->next;
    if (!w->embedding) w->embedding_end = &w->embedding;
    c->next = NULL;
    if (!st && ++c->n_embedded < c->n_texts) { /* a text of each call in turn */
        *w->embedding_end = c;
        w->embedding_end = &c->next;
        return;
    }
    *c->own_note = (note){.kind = NOTE_EMBEDDED, .c = c, .error = err};
    c->own_note->error.code = st;
    put_note(w, c->own_note);
    http_wake();
}

static void *engine_main(void *user)
{
    server *s = user;
    while (start_calls(s, true)) {
        step_all(s);
        embed(s);
    }
    return NULL;
}

/* ---------------------------------------------------------------- loop */
void work_joules(server *s, double out[2])
{
    pthread_mutex_lock(&s->work->lock);
    memcpy(out, s->work->joules, sizeof s->work->joules);
    pthread_mutex_unlock(&s->work->lock);
}

void work_read(server *s, call *c)
{
    struct work *w = s->work;
    pthread_mutex_lock(&w->lock);
    *w->reading_end = c;
    w->reading_end = &c->next;
    pthread_cond_signal(&w->to_read);
    pthread_mutex_unlock(&w->lock);
}

void work_run(server *s, call *c)
{
    struct work *w = s->work;
    pthread_mutex_lock(&w->lock);
    *w->running_end = c;
    w->running_end = &c->next;
    pthread_cond_signal(&w->to_run);
    pthread_mutex_unlock(&w->lock);
}

void work_notes(server *s)
{
    struct work *w = s->work;
    pthread_mutex_lock(&w->lock);
    note *n = w->notes;
    w->notes = NULL;
    w->notes_end = &w->notes;
    pthread_mutex_unlock(&w->lock);
    for (note *next; n; n = next) {
        next = n->next;
        call_note(n); /* may free the call, and with it the notes that are its own */
    }
}

/* Signals are the loop's business. */
larder_status thread_new(pthread_t *t, void *(*run)(void *), server *s, larder_error *err)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int bad = pthread_create(t, NULL, run, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return bad ? lr_fail_errno(err, bad, "a thread") : LARDER_OK;
}

larder_status work_start(server *s, larder_error *err)
{
    struct work *w = s->work = lr_calloc(1, sizeof *w);
    if (!w) return LR_NOMEM(err, "the server's threads");
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->to_read, NULL);
    pthread_cond_init(&w->to_run, NULL);
    w->reading_end = &w->reading;
    w->running_end = &w->running;
    w->notes_end = &w->notes;
    w->embedding_end = &w->embedding;
    LR_TRY(thread_new(&w->reader, reader_main, s, err));
    w->has_reader = true;
    LR_TRY(thread_new(&w->engine, engine_main, s, err));
    w->has_engine = true;
    return LARDER_OK;
}

void work_stop(server *s)
{
    struct work *w = s->work;
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_broadcast(&w->to_read);
    pthread_cond_broadcast(&w->to_run);
    pthread_mutex_unlock(&w->lock);
    if (w->has_reader) pthread_join(w->reader, NULL);
    if (w->has_engine) pthread_join(w->engine, NULL);
    pthread_cond_destroy(&w->to_read);
    pthread_cond_destroy(&w->to_run);
    pthread_mutex_destroy(&w->lock);
    lr_free(w);
    s->work = NULL;
}
