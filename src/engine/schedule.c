/* schedule.c - see schedule.h. Nothing here allocates but lr_sched_add; a step costs O(running + waiting). */
#include "schedule.h"

#include <assert.h>
#include <math.h>

/* What a token costs its client: one of an answer takes a pass over all weights, shared by few. */
#define COST_PROMPT 1.0
#define COST_ANSWER 2.0
/* Clients that are remembered while they have nothing here. */
#define CLIENTS_KEPT 1024u

larder_status lr_sched_init(lr_sched *s, const lr_sched_limits *limits, larder_error *err)
{
    *s = (lr_sched){.l = *limits};
    if (!s->l.n_seq || s->l.n_tok < s->l.n_seq || !s->l.block)
        return lr_fail(err, LARDER_USAGE, "a scheduler of %u jobs and %u tokens a step", s->l.n_seq, s->l.n_tok);
    if (!s->l.n_mixed) s->l.n_mixed = s->l.n_tok;
    if (s->l.age <= 0) s->l.age = 10;
    if (s->l.quantum <= 0) s->l.quantum = 1;
    s->running = lr_calloc(s->l.n_seq, sizeof *s->running);
    s->members = lr_calloc(s->l.n_seq, sizeof *s->members);
    if (s->running && s->members) return LARDER_OK;
    lr_sched_close(s);
    return LR_NOMEM(err, "the scheduler");
}

void lr_sched_close(lr_sched *s)
{
    lr_free(s->running);
    lr_free(s->members);
    lr_free(s->clients);
    *s = (lr_sched){0};
}

/* ---------------------------------------------------------------- clients */
static lr_sched_client *client_of(const lr_sched *s, const lr_job *j) { return &s->clients[j->at_client]; }

/* A place for a client that is new: a fresh one, or that of the idle client that was served least. */
static larder_status place_for(lr_sched *s, uint32_t *out, larder_error *err)
{
    uint32_t idle = UINT32_MAX;
    for (uint32_t i = 0; i < s->n_client && s->n_client >= CLIENTS_KEPT; i++)
        if (!s->clients[i].n_jobs && (idle == UINT32_MAX || s->clients[i].served < s->clients[idle].served)) idle = i;
    if (idle == UINT32_MAX && s->n_client == s->cap_client) {
        uint32_t cap = s->cap_client ? s->cap_client * 2 : 16;
        lr_sched_client *more = lr_realloc(s->clients, cap * sizeof *more);
        if (!more) return LR_NOMEM(err, "the scheduler's clients");
        s->clients = more;
        s->cap_client = cap;
    }
    *out = idle == UINT32_MAX ? s->n_client++ : idle;
    return LARDER_OK;
}

static larder_status join_client(lr_sched *s, lr_job *j, larder_error *err)
{
    double least = INFINITY;
    uint32_t at = 0;
    while (at < s->n_client && s->clients[at].id != j->client) at++;
    if (at == s->n_client) {
        LR_TRY(place_for(s, &at, err));
        s->clients[at] = (lr_sched_client){.id = j->client, .least = INT32_MAX};
    }
    lr_sched_client *c = &s->clients[at];
    if (!c->n_jobs) {
        for (uint32_t i = 0; i < s->n_client; i++)
            if (s->clients[i].n_jobs) least = LR_MIN(least, s->clients[i].served);
        c->served = LR_MAX(c->served, isinf(least) ? s->floor : least);
    }
    c->n_jobs++;
    j->at_client = at;
    return LARDER_OK;
}

/* ---------------------------------------------------------------- the queue */
static void queue(lr_sched *s, lr_job *j)
{
    lr_job *after = s->tail;
    while (after && after->number > j->number) after = after->prev; /* who was preempted is back in its old place */
    j->prev = after;
    j->next = after ? after->next : s->head;
    *(j->next ? &j->next->prev : &s->tail) = j;
    *(after ? &after->next : &s->head) = j;
    j->state = LR_JOB_WAITING;
    s->n_waiting++;
}

static void unqueue(lr_sched *s, lr_job *j)
{
    *(j->prev ? &j->prev->next : &s->head) = j->next;
    *(j->next ? &j->next->prev : &s->tail) = j->prev;
    j->next = j->prev = NULL;
    s->n_waiting--;
}

static void stop_running(lr_sched *s, lr_job *j)
{
    uint32_t at = 0;
    while (at < s->n_running && s->running[at] != j) at++;
    assert(at < s->n_running);
    memmove(&s->running[at], &s->running[at + 1], (s->n_running - at - 1) * sizeof *s->running);
    s->n_running--;
    client_of(s, j)->n_running--;
}

larder_status lr_sched_add(lr_sched *s, lr_job *j, double now, larder_error *err)
{
    j->state = LR_JOB_OUT;
    if (j->priority < LR_JOB_LEAST || j->priority > LR_JOB_MOST)
        return lr_fail(err, LARDER_USAGE, "a priority of %d; it must be %d to %d", j->priority, LR_JOB_LEAST,
                       LR_JOB_MOST);
    if (j->deadline < 0 || isnan(j->deadline)) return lr_fail(err, LARDER_USAGE, "a deadline must be 0 or a time");
    LR_TRY(join_client(s, j, err));
    j->number = s->n_added++;
    j->t_served = now;
    j->n_tok = j->n_draft = j->n_preempted = 0;
    j->t_ready = 0;
    queue(s, j);
    return LARDER_OK;
}

void lr_sched_remove(lr_sched *s, lr_job *j)
{
    if (j->state == LR_JOB_OUT) return;
    if (j->state == LR_JOB_WAITING) unqueue(s, j);
    else stop_running(s, j);
    lr_sched_client *c = client_of(s, j);
    if (!--c->n_jobs) s->floor = c->served;
    j->state = LR_JOB_OUT;
}

lr_job *lr_sched_expired(const lr_sched *s, double now)
{
    for (uint32_t i = 0; i < s->n_running; i++)
        if (s->running[i]->deadline > 0 && s->running[i]->deadline <= now) return s->running[i];
    for (lr_job *j = s->head; j; j = j->next)
        if (j->deadline > 0 && j->deadline <= now) return j;
    return NULL;
}

/* ---------------------------------------------------------------- importance */
/* Who waits does not age while its client is served at its priority or below: else the queue of one client would in time
 * outrank what another has just asked for. */
static void refresh_waiting(lr_sched *s, double now)
{
    for (lr_job *j = s->head; j; j = j->next)
        if (client_of(s, j)->least <= j->priority) j->t_served = now;
    for (uint32_t i = 0; i < s->n_client; i++) s->clients[i].least = INT32_MAX;
}

static int32_t level_of(const lr_sched *s, const lr_job *j, double now)
{
    double times = (now - j->t_served) / s->l.age;
    return j->priority + (times >= 1 ? (int32_t)LR_MIN(times, 1e6) : 0);
}

static double served(const lr_sched *s, const lr_job *j) { return client_of(s, j)->served; }

/* By the levels last computed. */
static bool before(const lr_sched *s, const lr_job *a, const lr_job *b)
{
    if (a->level != b->level) return a->level > b->level;
    double x = served(s, a), y = served(s, b);
    if (x != y) return x < y;
    if (a->deadline != b->deadline) return a->deadline > 0 && (b->deadline <= 0 || a->deadline < b->deadline);
    return a->number < b->number;
}

/* The order changes little from step to step. */
static void sort_running(lr_sched *s, double now)
{
    for (uint32_t i = 0; i < s->n_running; i++) s->running[i]->level = level_of(s, s->running[i], now);
    for (uint32_t i = 1; i < s->n_running; i++) {
        lr_job *j = s->running[i];
        uint32_t at = i;
        for (; at > 0 && before(s, j, s->running[at - 1]); at--) s->running[at] = s->running[at - 1];
        s->running[at] = j;
    }
}

static lr_job *most_important_waiting(lr_sched *s)
{
    lr_job *best = s->head;
    for (lr_job *j = s->head; j; j = j->next)
        if (before(s, j, best)) best = j;
    return best;
}

/* ---------------------------------------------------------------- giving way */
static void preempt(lr_sched *s, const lr_sched_memory *m, lr_job *j, double now)
{
    m->evict(m->user, j);
    stop_running(s, j);
    j->n_tok = j->n_draft = 0;
    j->n_preempted++;
    j->t_served = now;
    j->level = j->priority;
    s->n_preempted++;
    queue(s, j);
}

static bool gives_way(const lr_sched *s, const lr_job *v, const lr_job *to, double now)
{
    bool fresh = !v->t_ready || now - v->t_ready < s->l.quantum;
    if ((fresh ? v->rank : v->priority) < to->priority) return true;
    if (fresh || v->at_client == to->at_client) return false;
    uint32_t has = client_of(s, v)->n_running, mine = client_of(s, to)->n_running;
    return (v->priority < to->level && has > mine) || (v->priority == to->priority && has >= mine + 2);
}

/* The least important running job that gives way to this one; NULL if none does. */
static lr_job *victim_for(const lr_sched *s, const lr_job *to, double now)
{
    for (uint32_t i = s->n_running; i-- > 0;)
        if (gives_way(s, s->running[i], to, now)) return s->running[i];
    return NULL;
}

static uint32_t blocks_of(const lr_sched *s, uint32_t n_pos) { return (n_pos + s->l.block - 1) / s->l.block; }

/* If all that give way did, would there be room? Evicting for nothing would only be churn. */
static bool would_fit(const lr_sched *s, const lr_sched_memory *m, const lr_job *j, double now)
{
    uint64_t room = m->room(m->user);
    for (uint32_t i = 0; i < s->n_running; i++)
        if (gives_way(s, s->running[i], j, now)) room += s->running[i]->n_blocks;
    return room >= blocks_of(s, j->n_ids);
}

static bool make_place(lr_sched *s, const lr_sched_memory *m, lr_job *j, double now)
{
    if (!victim_for(s, j, now) || !would_fit(s, m, j, now)) return false;
    for (;;) {
        /* running jobs may need a block each before long; alone, a job need leave none */
        if (s->n_running < s->l.n_seq && m->admit(m->user, j, s->n_running)) return true;
        lr_job *v = victim_for(s, j, now);
        if (!v) return false;
        preempt(s, m, v, now);
    }
}

static void admit(lr_sched *s, const lr_sched_memory *m, double now)
{
    for (lr_job *j = s->head; j; j = j->next) j->level = level_of(s, j, now);
    while (s->head) {
        lr_job *j = most_important_waiting(s);
        bool in = s->n_running < s->l.n_seq && m->admit(m->user, j, s->n_running);
        if (!in && !make_place(s, m, j, now)) return;
        unqueue(s, j);
        j->state = LR_JOB_RUNNING;
        j->t_ready = 0;
        j->rank = j->level;
        client_of(s, j)->n_running++;
        s->running[s->n_running++] = j;
    }
}

/* ---------------------------------------------------------------- the step */
static bool decodes(const lr_job *j) { return j->n_ids - j->n_done == 1; }

/* Blocks for n_pos positions, at the cost of jobs less important than running[at]. Whoever is behind it has no tokens of
 * this step yet. false: it had to give way itself. */
static bool take_blocks(lr_sched *s, const lr_sched_memory *m, uint32_t at, uint32_t n_pos, double now)
{
    lr_job *j = s->running[at];
    while (!m->grow(m->user, j, n_pos)) {
        lr_job *last = s->running[s->n_running - 1];
        preempt(s, m, last, now);
        if (last == j) return false;
    }
    return true;
}

static void give(lr_sched *s, lr_job *j, uint32_t n_tok, uint32_t n_draft, double now)
{
    lr_sched_client *c = client_of(s, j);
    bool answers = decodes(j);
    if (answers && !j->t_ready) j->t_ready = now;
    j->n_tok = n_tok;
    j->n_draft = n_draft;
    j->t_served = now;
    c->served += n_tok * (answers ? COST_ANSWER : COST_PROMPT);
    c->least = LR_MIN(c->least, j->priority);
    s->members[s->n_members++] = j;
}

lr_job *const *lr_sched_step(lr_sched *s, double now, const lr_sched_memory *m, uint32_t *n)
{
    uint32_t n_decode = 0, drafts = s->l.n_draft;
    uint64_t unread = 0; /* tokens of prompts */
    s->n_members = 0;
    refresh_waiting(s, now);
    sort_running(s, now);
    admit(s, m, now);
    sort_running(s, now);
    for (uint32_t i = 0; i < s->n_running; i++) {
        lr_job *j = s->running[i];
        j->n_tok = j->n_draft = 0;
        j->follows = !decodes(j) && m->follow && m->follow(m->user, s->running, i);
        if (decodes(j)) n_decode++;
        else if (!j->follows) unread += j->n_ids - j->n_done;
    }
    uint32_t left = s->l.n_tok - n_decode, prompts = n_decode ? LR_MIN(left, s->l.n_mixed) : left;
    prompts = (uint32_t)LR_MIN(unread, (uint64_t)prompts);
    for (uint32_t i = 0; i < s->n_running; i++) {
        lr_job *j = s->running[i];
        uint32_t n_tok = decodes(j) ? 1 : LR_MIN(j->n_ids - j->n_done, prompts), n_draft = 0;
        if (!n_tok || j->follows || !take_blocks(s, m, i, j->n_done + n_tok, now)) continue;
        if (!decodes(j)) {
            prompts -= n_tok;
            left -= n_tok;
        } else if (j->n_wish) { /* what is drafted drives nobody out */
            n_draft = LR_MIN(LR_MIN(j->n_wish, drafts), left - prompts);
            if (n_draft && !m->grow(m->user, j, j->n_done + 1 + n_draft)) n_draft = 0;
            drafts -= n_draft;
            left -= n_draft;
        }
        give(s, j, n_tok + n_draft, n_draft, now);
    }
    *n = s->n_members;
    return s->members;
}
