/* models.c - which models there are, which are loaded, and who has to go for another.
 *
 * Owns: the list of models, the thread that loads and unloads them, and the account of the memory they take together.
 * Refuses to own: names in the store (the caller of larder_serve looks them up), what an engine takes (larder_plan_engine).
 *
 * A call holds its model from when its body was read until it ends; a model that is held is not unloaded. A call for
 * one that is not loaded waits in the model's list. The loader makes room first: idle models go, least recently used
 * first; then busy ones, which get no new calls until they are gone (those wait, and the model is loaded again for them:
 * so two models that do not fit together take turns, and neither starves). Pinned ones stay. What cannot fit even so is
 * refused with the figures, and nobody was sent away for it.
 */
#include "serve.h"

#include <unistd.h>

#include <stdio.h>
#include <time.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#define RESERVE (64 * LR_MIB) /* of what the machine has, left to the rest */
#define GOOD_CTX 8192u        /* with no --ctx: for less than this (or the model's own) others are sent away */

enum { MOST_SWAPS = 8 };

/* Bytes, of the system's memory and of a card's own. */
typedef struct memories {
    uint64_t system, card;
} memories;

static memories of_plan(const larder_plan *p) { return (memories){p->n_bytes - p->n_card, p->n_card}; }
static memories more(memories a, memories b) { return (memories){a.system + b.system, a.card + b.card}; }
static memories less(memories a, memories b)
{
    return (memories){a.system - LR_MIN(a.system, b.system), a.card - LR_MIN(a.card, b.card)};
}
static bool within(memories a, memories b) { return a.system <= b.system && a.card <= b.card; }

struct models {
    pthread_mutex_t lock; /* of everything here and of the fields of `served` that say so; never held while loading */
    pthread_cond_t wake;
    served *list, **end;
    memories budget, taken; /* what all may take, what the loaded ones do */
    uint64_t n_loads, n_unloads;
    larder_engine_stats past; /* what the unloaded ones counted */
    struct swap_file {        /* made at the start: later no file may be */
        int fd;
        const served *user;
    } swaps[MOST_SWAPS];
    uint32_t n_swaps;
    pthread_t loader;
    bool has_loader, stop;
};

/* Adds what b counted over time. */
static void add_counts(larder_engine_stats *a, const larder_engine_stats *b)
{
    a->n_steps += b->n_steps;
    a->n_preempted += b->n_preempted;
    a->n_swap_out += b->n_swap_out;
    a->n_swap_in += b->n_swap_in;
    a->n_swap_lost += b->n_swap_lost;
    a->n_prompt += b->n_prompt;
    a->n_prompt_cached += b->n_prompt_cached;
    a->n_recomputed += b->n_recomputed;
    a->queue_s += b->queue_s;
    a->n_expired += b->n_expired;
    a->n_drafted += b->n_drafted;
    a->n_accepted += b->n_accepted;
}

/* ---------------------------------------------------------------- files for their swaps */
/* A file for a model's swap; -1: all are in use. Loader's thread. */
static int take_swap(struct models *ms, const served *m)
{
    for (uint32_t i = 0; i < ms->n_swaps; i++) {
        if (ms->swaps[i].user && ms->swaps[i].user != m) continue;
        ms->swaps[i].user = m;
        return ms->swaps[i].fd;
    }
    return -1;
}

static void leave_swap(struct models *ms, const served *m)
{
    for (uint32_t i = 0; i < ms->n_swaps; i++) {
        if (ms->swaps[i].user != m) continue;
        ms->swaps[i].user = NULL;
        if (ftruncate(ms->swaps[i].fd, 0)) log_line(LARDER_LOG_WARN, "{\"event\":\"swap kept\"}");
    }
}

static larder_status open_swaps(server *s, larder_error *err)
{
    struct models *ms = s->models;
    for (; s->engine_options.swap_bytes && ms->n_swaps < MOST_SWAPS; ms->n_swaps++)
        LR_TRY(larder_swap_file(s->engine_options.swap_folder, &ms->swaps[ms->n_swaps].fd, err));
    return LARDER_OK;
}

/* ---------------------------------------------------------------- the list */
static served *add(struct models *ms, const char *name, const char *path, bool stored, bool pinned)
{
    served *m = lr_calloc(1, sizeof *m);
    if (!m) return NULL;
    m->name = lr_strndup(name, strlen(name));
    m->path = lr_strndup(path, strlen(path));
    if (!m->name || !m->path) {
        lr_free(m->name);
        lr_free(m->path);
        lr_free(m);
        return NULL;
    }
    m->stored = stored;
    m->pinned = pinned;
    m->waiting_end = &m->waiting;
    *ms->end = m;
    ms->end = &m->next;
    return m;
}

static bool is_named(const served *m, const char *name)
{
    size_t n = strlen(m->name);
    return !strncmp(name, m->name, n) && (!name[n] || !strcmp(name + n, ":latest"));
}

/* NULL: there is none. The lock is held; the store is asked without it, so that a slow disk holds up nobody else. */
static served *find(server *s, const char *name)
{
    struct models *ms = s->models;
    char full[300], path[4096];
    for (served *m = ms->list; m; m = m->next)
        if (is_named(m, name)) return m;
    if (!s->o.find) return NULL;
    pthread_mutex_unlock(&ms->lock);
    bool there = s->o.find(s->o.find_user, name, full, sizeof full, path, sizeof path);
    pthread_mutex_lock(&ms->lock);
    if (!there) return NULL;
    for (served *m = ms->list; m; m = m->next)
        if (!strcmp(m->name, full)) return m;
    return add(ms, full, path, true, false);
}

/* What is shown of a model stays when it is unloaded. */
static void learn(served *m, const larder_model_info *info)
{
    snprintf(m->architecture, sizeof m->architecture, "%s", info->architecture);
    snprintf(m->format, sizeof m->format, "%s", info->format);
    m->info = *info;
    m->info.architecture = m->architecture;
    m->info.format = m->format;
    m->info.name = "";
    m->known = true;
}

static uint64_t idle_end(const server *s, const served *m)
{
    bool goes = s->o.idle_s && (m->stored || s->o.idle_named);
    return goes ? m->used + s->o.idle_s * 1000000000ull : UINT64_MAX;
}

/* ---------------------------------------------------------------- room */
static memories gone_by_leaving(const struct models *ms, const served *but)
{
    memories n = {0, 0};
    for (const served *m = ms->list; m; m = m->next)
        if (m != but && m->state == SERVED_READY && !m->pinned) n = more(n, of_plan(&m->plan));
    return n;
}

static memories room(const struct models *ms) { return less(ms->budget, ms->taken); }

/* Of those that hold some of what is lacking. */
static served *next_to_go(const struct models *ms, const served *but, memories lack)
{
    served *best = NULL;
    for (served *m = ms->list; m; m = m->next) {
        memories has = of_plan(&m->plan);
        if (m == but || m->state != SERVED_READY || m->pinned || m->leaving) continue;
        if (!(lack.system && has.system) && !(lack.card && has.card)) continue;
        bool better = !best || (!m->n_calls && best->n_calls) ||
                      (!m->n_calls == !best->n_calls && m->used < best->used);
        if (better) best = m;
    }
    return best;
}

/* ---------------------------------------------------------------- loading and unloading: the loader's thread */
static void say(const char *event, const served *m, double seconds)
{
    static const char *const numbers[] = {[LARDER_KV_F16] = "f16",
                                          [LARDER_KV_F32] = "f32",
                                          [LARDER_KV_AUTO] = "auto",
                                          [LARDER_KV_Q8_0] = "q8_0",
                                          [LARDER_KV_Q4_0] = "q4_0"};
    log_line(LARDER_LOG_INFO,
             "{\"event\":\"%s\",\"model\":\"%s\",\"device\":\"%s\",\"bytes\":%llu,\"card\":%llu,\"ctx\":%u,"
             "\"parallel\":%u,"
             "\"kv\":\"%s\",\"ms\":%.0f}",
             event, m->name, m->plan.device, (unsigned long long)m->plan.n_bytes, (unsigned long long)m->plan.n_card,
             m->plan.n_ctx, m->plan.n_seq, numbers[m->plan.kv], seconds * 1e3);
}

static void put_buffers(lr_buf *b, const char *name, const larder_plan *p)
{
    lr_buf_printf(b, ",\"%s\":{", name);
    for (uint32_t i = 0; i < p->n_buffers; i++)
        lr_buf_printf(b, "%s\"%s%s\":%llu", i ? "," : "", p->buffers[i].card ? "card: " : "", p->buffers[i].name,
                      (unsigned long long)p->buffers[i].n_bytes);
    lr_buf_puts(b, "}");
}

/* Before it goes: what it took, buffer by buffer, beside what was planned. Looks at every page: not for busy times. */
static void say_memory(const served *m, const larder_engine *engine)
{
    larder_plan now;
    lr_buf b = {0};
    if (!engine) return;
    larder_engine_get_memory(engine, &now);
    put_buffers(&b, "planned", &m->plan);
    put_buffers(&b, "used", &now);
    char *text = lr_buf_steal(&b);
    log_line(LARDER_LOG_INFO, "{\"event\":\"memory\",\"model\":\"%s\"%s,\"planned_peak\":%llu,\"peak\":%llu}",
             m->name, text ? text : "", (unsigned long long)m->plan.n_peak, (unsigned long long)now.n_peak);
    lr_free(text);
}

/* Nobody holds it. The lock is held, but not while it works. */
static void unload(struct models *ms, served *m)
{
    uint64_t t = lr_now_ns();
    larder_engine *engine = m->engine;
    larder_model *model = m->model;
    m->state = SERVED_LEAVING;
    m->engine = NULL;
    m->model = NULL;
    pthread_mutex_unlock(&ms->lock);
    say_memory(m, engine);
    larder_engine_free(engine);
    larder_model_free(model);
    leave_swap(ms, m);
#ifdef __GLIBC__
    malloc_trim(0);
#endif
    say("unloaded", m, (double)(lr_now_ns() - t) * 1e-9);
    pthread_mutex_lock(&ms->lock);
    ms->taken = less(ms->taken, of_plan(&m->plan));
    ms->n_unloads++;
    add_counts(&ms->past, &m->stats);
    m->stats = (larder_engine_stats){0};
    m->state = m->waiting ? SERVED_WANTED : SERVED_AWAY;
    m->leaving = m->unload_now = false;
}

static larder_status refuse(const server *s, const served *m, const larder_plan *p, larder_error *err)
{
    double gib = (double)LR_GIB;
    memories need = of_plan(p), budget = s->models->budget;
    memories stay = less(s->models->taken, gone_by_leaving(s->models, m));
    char card[160] = "";
    if (need.card)
        snprintf(card, sizeof card, "; and on the card %.2f GiB, where they may take %.2f and those take %.2f",
                 (double)need.card / gib, (double)budget.card / gib, (double)stay.card / gib);
    return lr_fail(
        err, LARDER_UNSUPPORTED,
        "'%s' does not fit: it needs %.2f GiB for a context of %u; models may take %.2f GiB, of which those "
        "that stay loaded take %.2f%s",
        m->name, (double)need.system / gib, p->n_ctx, (double)budget.system / gib, (double)stay.system / gib, card);
}

/* Room for it; the lock is held, and given up while waiting. */
static larder_status make_room(server *s, served *m, const larder_plan *p, larder_error *err)
{
    struct models *ms = s->models;
    memories need = of_plan(p);
    if (!within(need, more(room(ms), gone_by_leaving(ms, m)))) return refuse(s, m, p, err);
    while (!within(need, room(ms))) {
        served *go = next_to_go(ms, m, less(need, room(ms)));
        if (!go) return refuse(s, m, p, err);
        go->leaving = true;
        while (go->n_calls && !ms->stop) pthread_cond_wait(&ms->wake, &ms->lock);
        if (ms->stop) return lr_fail(err, LARDER_CANCELLED, "the server is shutting down");
        unload(ms, go);
    }
    return LARDER_OK;
}

/* A limit of 0 would be none. */
static void limit(larder_engine_options *o, memories m)
{
    o->memory = LR_MAX(m.system, 1ull);
    o->card_memory = LR_MAX(m.card, 1ull);
}

/* With no --ctx: the largest that fits beside the others, unless that is too little to be of use. Nor does the processor
 * take what the card can if others leave it. */
static larder_status choose(server *s, served *m, const larder_model *model, larder_engine_options *o, larder_plan *p,
                            larder_error *err)
{
    if (m != s->models->list) o->draft = NULL; /* it was given for the first */
    if (o->swap_bytes && (o->swap_fd = take_swap(s->models, m)) < 0) o->swap_bytes = 0;
    pthread_mutex_lock(&s->models->lock);
    memories now = room(s->models), all = more(now, gone_by_leaving(s->models, m));
    pthread_mutex_unlock(&s->models->lock);
    limit(o, now);
    LR_TRY(larder_plan_engine(model, o, p, err));
    uint32_t good = m->info.n_ctx_train ? LR_MIN(GOOD_CTX, m->info.n_ctx_train) : GOOD_CTX;
    bool card = p->n_card || all.card == now.card || o->device == LARDER_DEVICE_CPU;
    bool enough = p->fits && (s->engine_options.n_ctx || p->n_ctx >= good);
    if (!enough || !card) {
        larder_plan first = *p;
        limit(o, all);
        LR_TRY(larder_plan_engine(model, o, p, err));
        if (enough && !p->n_card) { /* the card is too small for it: nobody need leave */
            *p = first;
        } else if (!s->engine_options.n_ctx) {
            o->n_ctx = LR_MIN(p->n_ctx_max, good);
            LR_TRY(larder_plan_engine(model, o, p, err));
        }
    }
    o->n_ctx = p->n_ctx;
    o->n_seq = p->n_seq;
    o->kv = p->kv;
    return LARDER_OK;
}

static void find_marks(served *m)
{
    for (size_t i = 0; i < LR_LEN(m->mark_ids); i++) {
        int32_t *ids = NULL;
        size_t n = 0;
        m->mark_ids[i] = -1;
        if (!marks[i]) continue;
        if (!larder_tokenize(m->model, marks[i], strlen(marks[i]), LARDER_TEXT_CONTROL, &ids, &n, NULL) && n == 1)
            m->mark_ids[i] = ids[0];
        larder_free(ids);
    }
}

/* An engine for it and the room it takes, by these options; *plan.n_card: it was to be on a card. */
static larder_status open_engine(server *s, served *m, larder_model *model, larder_engine_options o,
                                 larder_plan *plan, larder_engine **out, larder_error *err)
{
    struct models *ms = s->models;
    *plan = (larder_plan){0};
    LR_TRY(choose(s, m, model, &o, plan, err));
    pthread_mutex_lock(&ms->lock);
    larder_status st = make_room(s, m, plan, err);
    if (!st) ms->taken = more(ms->taken, of_plan(plan));
    pthread_mutex_unlock(&ms->lock);
    if (st) return st;
    limit(&o, of_plan(plan));
    if (!plan->n_card) o.device = LARDER_DEVICE_CPU;
    st = larder_engine_open(model, &o, out, err);
    pthread_mutex_lock(&ms->lock);
    ms->taken = less(ms->taken, of_plan(plan));
    if (!st && plan->not_on_card[0]) lr_log(LARDER_LOG_WARN, "%s: %s", m->name, plan->not_on_card);
    if (!st) larder_engine_get_plan(*out, &m->plan);
    if (!st) ms->taken = more(ms->taken, of_plan(&m->plan));
    pthread_mutex_unlock(&ms->lock);
    return st;
}

static larder_status load(server *s, served *m, larder_error *err)
{
    struct models *ms = s->models;
    larder_status st = LARDER_OK;
    larder_model *model = NULL;
    larder_engine *engine = NULL;
    larder_model_info info;
    larder_engine_options o = s->engine_options;
    larder_plan plan;
    uint64_t t = lr_now_ns();
    model = m->model; /* opened already, before files could be opened no more; nobody else looks at it yet */
    m->model = NULL;
    if (!model) LR_GO(larder_model_open(m->path, &model, err));
    larder_model_get_info(model, &info);
    pthread_mutex_lock(&ms->lock);
    learn(m, &info);
    pthread_mutex_unlock(&ms->lock);
    st = open_engine(s, m, model, o, &plan, &engine, err);
    if (st && plan.n_card &&
        o.device == LARDER_DEVICE_AUTO) { /* the card failed; the processor needs more room than was made */
        o.device = LARDER_DEVICE_CPU;
        st = open_engine(s, m, model, o, &plan, &engine, err);
    }
    LR_GO(st);
    pthread_mutex_lock(&ms->lock);
    m->model = model;
    m->engine = engine;
    larder_engine_get_stats(engine, &m->stats);
    find_marks(m);
    ms->n_loads++;
    m->used = lr_now_ns();
    m->until = idle_end(s, m);
    pthread_mutex_unlock(&ms->lock);
    say("loaded", m, (double)(lr_now_ns() - t) * 1e-9);
    return LARDER_OK;
fail:
    larder_engine_free(engine);
    larder_model_free(model);
    leave_swap(ms, m);
    return st;
}

/* Its calls go to the reader again: to be read, or to be told why not. The lock is held. */
static void wake_calls(server *s, served *m, larder_status st, const larder_error *why)
{
    call *c = m->waiting;
    m->waiting = NULL;
    m->waiting_end = &m->waiting;
    for (call *next; c; c = next) {
        next = c->next;
        c->next = NULL;
        if (st) {
            c->status = st;
            c->error = *why;
            snprintf(c->param, sizeof c->param, "model");
        }
        work_read(s, c);
    }
}

static void load_wanted(server *s, served *m)
{
    struct models *ms = s->models;
    larder_error why = {0};
    m->state = SERVED_LOADING;
    pthread_mutex_unlock(&ms->lock);
    larder_status st = load(s, m, &why);
    if (st)
        log_line(LARDER_LOG_WARN, "{\"event\":\"not loaded\",\"model\":\"%s\",\"status\":\"%s\"}", m->name,
                 larder_status_text(st));
    /* what the file says of itself, and where it lies, is for the log of whoever runs this, not for clients */
    if (st && st != LARDER_UNSUPPORTED && st != LARDER_CANCELLED) {
        lr_log(LARDER_LOG_DEBUG, "%s: %s", m->name, why.message);
        st = lr_fail(&why, LARDER_NOMEM, "'%s' could not be loaded: %s", m->name, larder_status_text(st));
    }
    pthread_mutex_lock(&ms->lock);
    m->state = st ? SERVED_AWAY : SERVED_READY;
    wake_calls(s, m, st, &why);
}

/* When the loader has to look again: the earliest end of an idle model's time. Unloads those whose time is over. */
static uint64_t unload_idle(struct models *ms)
{
    uint64_t now = lr_now_ns(), next = UINT64_MAX;
    for (served *m = ms->list; m; m = m->next) {
        if (m->state != SERVED_READY || m->n_calls || m->pinned) continue;
        if (m->unload_now || m->until <= now) unload(ms, m); /* gives the lock up; the list only grows */
        else next = LR_MIN(next, m->until);
    }
    return next;
}

static served *wanted(const struct models *ms)
{
    for (served *m = ms->list; m; m = m->next)
        if (m->state == SERVED_WANTED) return m;
    return NULL;
}

static void *loader_main(void *user)
{
    server *s = user;
    struct models *ms = s->models;
    pthread_mutex_lock(&ms->lock);
    while (!ms->stop) {
        served *m = wanted(ms);
        if (m) {
            load_wanted(s, m);
            continue;
        }
        uint64_t next = unload_idle(ms);
        if (wanted(ms) || ms->stop) continue;
        if (next == UINT64_MAX) {
            pthread_cond_wait(&ms->wake, &ms->lock);
        } else {
            struct timespec at = {(time_t)(next / 1000000000ull), (long)(next % 1000000000ull)};
            pthread_cond_timedwait(&ms->wake, &ms->lock, &at);
        }
    }
    larder_error why = {0};
    lr_fail(&why, LARDER_CANCELLED, "the server is shutting down");
    for (served *m = ms->list; m; m = m->next) wake_calls(s, m, LARDER_CANCELLED, &why);
    pthread_mutex_unlock(&ms->lock);
    return NULL;
}

/* ---------------------------------------------------------------- reader: calls come for their models */
static larder_status unknown(const server *s, call *c, const char *name, larder_error *err)
{
    snprintf(c->param, sizeof c->param, "model");
    if (!name) return lr_fail(err, LARDER_FORMAT, "'model' is missing; /v1/models lists them");
    if (s->models->list && !s->models->list->next && !s->o.find)
        return lr_fail(err, LARDER_NOT_FOUND, "'model': there is no such model here; this server has '%s'",
                       s->models->list->name);
    return lr_fail(err, LARDER_NOT_FOUND, "'model': there is no such model here; /v1/models lists them");
}

/* The model named; without a name, the first of those given at the start, or the one used last. The lock is held. */
static served *pick(server *s, const char *name)
{
    served *best = NULL;
    if (name) return find(s, name);
    for (served *m = s->models->list; m; m = m->next) {
        if (!m->stored) return m;
        if (m->state == SERVED_READY && (!best || m->used > best->used)) best = m;
    }
    return best;
}

larder_status models_take(call *c, const char *name, bool *parked, larder_error *err)
{
    server *s = c->s;
    struct models *ms = s->models;
    larder_status st = LARDER_OK;
    *parked = false;
    pthread_mutex_lock(&ms->lock);
    served *m = pick(s, name);
    if (!m) {
        st = unknown(s, c, name, err);
    } else if (c->api == &api_show || (m->state == SERVED_READY && !m->leaving)) {
        c->m = m;
        m->n_calls++;
        m->used = lr_now_ns();
    } else {
        *parked = true;
        *m->waiting_end = c;
        m->waiting_end = &c->next;
        if (m->state == SERVED_AWAY) m->state = SERVED_WANTED;
        pthread_cond_signal(&ms->wake);
    }
    pthread_mutex_unlock(&ms->lock);
    return st;
}

void models_release(call *c)
{
    served *m = c->m;
    struct models *ms = c->s->models;
    if (!m) return;
    c->m = NULL;
    pthread_mutex_lock(&ms->lock);
    m->used = lr_now_ns();
    if (c->has_keep && m->stored && !m->pinned) {
        m->unload_now = c->keep_s == 0;
        m->until = c->keep_s < 0 ? UINT64_MAX : m->used + (uint64_t)(c->keep_s * 1e9);
    } else {
        m->until = idle_end(c->s, m);
    }
    if (!--m->n_calls && (m->leaving || m->until != UINT64_MAX)) pthread_cond_signal(&ms->wake);
    pthread_mutex_unlock(&ms->lock);
}

/* ---------------------------------------------------------------- loop: showing them */
static void see_stored(void *user, const char *name, uint64_t n_bytes, int64_t changed)
{
    served_list *l = user;
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->v[i].name, name)) {
            l->v[i].changed = changed;
            return;
        }
    served_view *more = lr_realloc(l->v, (l->n + 1) * sizeof *more);
    if (!more) return;
    l->v = more;
    l->v[l->n] = (served_view){.n_bytes = n_bytes, .changed = changed};
    snprintf(l->v[l->n++].name, sizeof l->v->name, "%s", name);
}

static void view(const server *s, const served *m, served_view *v)
{
    *v = (served_view){.known = m->known,
                       .loaded = m->state == SERVED_READY,
                       .loading = m->state == SERVED_WANTED || m->state == SERVED_LOADING,
                       .pinned = m->pinned,
                       .n_calls = m->n_calls,
                       .n_bytes = m->info.n_bytes,
                       .changed = s->started,
                       .info = m->info,
                       .n_ctx = m->plan.n_ctx,
                       .memory = m->plan.n_bytes,
                       .plan = m->plan,
                       .idle_left_s = -1,
                       .stats = m->stats};
    snprintf(v->name, sizeof v->name, "%s", m->name);
    memcpy(v->architecture, m->architecture, sizeof v->architecture);
    memcpy(v->format, m->format, sizeof v->format);
    v->info.architecture = v->info.format = v->info.name = ""; /* see v->architecture, v->format */
    uint64_t now = lr_now_ns();
    if (m->until != UINT64_MAX && !m->pinned) v->idle_left_s = m->until > now ? (double)(m->until - now) * 1e-9 : 0;
}

larder_status models_look(server *s, served *m, served_view *out, larder_error *err)
{
    struct models *ms = s->models;
    larder_model *model = NULL;
    larder_model_info info;
    pthread_mutex_lock(&ms->lock);
    bool known = m->known;
    if (known) view(s, m, out);
    pthread_mutex_unlock(&ms->lock);
    if (known) return LARDER_OK;
    larder_error why = {0};
    larder_status st = larder_model_open(m->path, &model, &why);
    if (st) return lr_fail(err, LARDER_UNSUPPORTED, "'%s' cannot be read: %s", m->name, larder_status_text(st));
    larder_model_get_info(model, &info);
    pthread_mutex_lock(&ms->lock);
    if (!m->known) learn(m, &info);
    view(s, m, out);
    pthread_mutex_unlock(&ms->lock);
    larder_model_free(model);
    return LARDER_OK;
}

void models_view(server *s, served_list *out, bool stored)
{
    struct models *ms = s->models;
    *out = (served_list){0};
    pthread_mutex_lock(&ms->lock);
    size_t n = 0;
    for (const served *m = ms->list; m; m = m->next) n++;
    out->v = lr_calloc(n + 1, sizeof *out->v);
    for (const served *m = ms->list; m && out->v; m = m->next) view(s, m, &out->v[out->n++]);
    out->budget = ms->budget.system;
    out->taken = ms->taken.system;
    out->card_budget = ms->budget.card;
    out->card_taken = ms->taken.card;
    out->n_loads = ms->n_loads;
    out->n_unloads = ms->n_unloads;
    pthread_mutex_unlock(&ms->lock);
    if (stored && s->o.list && out->v) s->o.list(s->o.find_user, see_stored, out);
}

void models_view_free(served_list *l) { lr_free(l->v); }

/* ---------------------------------------------------------------- engine: models at work */
void models_hold(server *s, served *m)
{
    pthread_mutex_lock(&s->models->lock);
    m->n_calls++;
    pthread_mutex_unlock(&s->models->lock);
}

void models_let_go(server *s, served *m)
{
    larder_engine_stats now;
    larder_engine_get_stats(m->engine, &now);
    pthread_mutex_lock(&s->models->lock);
    m->stats = now;
    if (!--m->n_calls) pthread_cond_signal(&s->models->wake);
    pthread_mutex_unlock(&s->models->lock);
}

larder_engine_stats models_stats(server *s)
{
    pthread_mutex_lock(&s->models->lock);
    larder_engine_stats sum = s->models->past;
    for (const served *m = s->models->list; m; m = m->next) {
        add_counts(&sum, &m->stats);
        sum.n_swap += m->stats.n_swap;
        sum.n_swap_used += m->stats.n_swap_used;
        sum.n_running += m->stats.n_running;
        sum.n_waiting += m->stats.n_waiting;
        sum.n_block += m->stats.n_block;
        sum.n_block_used += m->stats.n_block_used;
        sum.n_block_cached += m->stats.n_block_cached;
        sum.block_tokens = m->stats.block_tokens ? m->stats.block_tokens : sum.block_tokens;
    }
    pthread_mutex_unlock(&s->models->lock);
    return sum;
}

/* ---------------------------------------------------------------- start and stop */
static uint64_t all_memory(const larder_engine_options *o)
{
    uint64_t n = lr_mem_available();
    if (o->memory) return o->memory;
    return n > RESERVE ? n - RESERVE : 0;
}

larder_status models_start(server *s, larder_error *err)
{
    struct models *ms = s->models = lr_calloc(1, sizeof *ms);
    pthread_condattr_t monotonic;
    if (!ms) return LR_NOMEM(err, "the models");
    pthread_mutex_init(&ms->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&ms->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    ms->end = &ms->list;
    ms->budget.system = all_memory(&s->engine_options);
    for (uint32_t i = 0; i < s->o.n_models; i++)
        if (!add(ms, s->o.models[i].name, s->o.models[i].path, false, s->o.models[i].pinned))
            return LR_NOMEM(err, "the models");
    return open_swaps(s, err);
}

void models_limit(server *s)
{
    larder_card card;
    s->models->budget.system = all_memory(&s->engine_options); /* less what a driver has taken */
    if (!strcmp(s->device, "cpu") || larder_card_get(&card, NULL)) return;
    s->models->budget.card = s->engine_options.card_memory ? s->engine_options.card_memory
                                                           : card.n_free - LR_MIN(card.n_free, RESERVE);
}

/* The first, and those that are pinned: what is wrong with them is said before anybody is served. */
static bool is_first(const server *s, const served *m) { return m == s->models->list || m->pinned; }

larder_status models_open_first(server *s, larder_error *err)
{
    for (served *m = s->models->list; m; m = m->next)
        if (is_first(s, m)) LR_TRY(larder_model_open(m->path, &m->model, err));
    return LARDER_OK;
}

larder_status models_load_first(server *s, larder_error *err)
{
    for (served *m = s->models->list; m; m = m->next) {
        if (!is_first(s, m)) continue;
        LR_TRY(load(s, m, err));
        m->state = SERVED_READY;
    }
    return LARDER_OK;
}

larder_status models_run(server *s, larder_error *err)
{
    LR_TRY(thread_new(&s->models->loader, loader_main, s, err));
    s->models->has_loader = true;
    return LARDER_OK;
}

void models_halt(server *s)
{
    struct models *ms = s->models;
    if (!ms || !ms->has_loader) return;
    pthread_mutex_lock(&ms->lock);
    ms->stop = true;
    pthread_cond_signal(&ms->wake);
    pthread_mutex_unlock(&ms->lock);
    pthread_join(ms->loader, NULL);
    ms->has_loader = false;
}

void models_stop(server *s)
{
    struct models *ms = s->models;
    if (!ms) return;
    for (served *m = ms->list, *next; m; m = next) {
        next = m->next;
        say_memory(m, m->engine);
        larder_engine_free(m->engine);
        larder_model_free(m->model);
        lr_free(m->name);
        lr_free(m->path);
        lr_free(m);
    }
    for (uint32_t i = 0; i < ms->n_swaps; i++) close(ms->swaps[i].fd);
    pthread_cond_destroy(&ms->wake);
    pthread_mutex_destroy(&ms->lock);
    lr_free(ms);
    s->models = NULL;
}
