/* grammar_run.c - a net run over bytes: what has been met is numbered, so that meeting it again is a table look-up.
 *
 *   local   a set of states of one rule, closed under edges that take nothing (the rule made deterministic as it is met)
 *   stack   where to go on when the rule ends: (local, stack below); equal stacks are one number. 0: nothing below
 *   set     what may be going on now: pairs (local, stack), and whether the text may end
 * A call whose return has nothing left to do leaves no frame, so right recursion does not grow the stack.
 */
#include "grammar_impl.h"

#include <stdlib.h>

enum { MAX_CALLS = 4096, MAX_PAIRS = 20000 }; /* in one closure; more is an ambiguity that no answer needs */

typedef struct local {
    uint32_t at, n;          /* its states, in ids */
    uint32_t calls, n_calls; /* in calls */
    bool end, bytes, tail;   /* may end; has bytes; only an end */
} local;
typedef struct call {
    uint32_t rule, back; /* back: a local */
} call;
typedef struct pair {
    uint32_t local, stack;
} pair;
typedef struct frame {
    uint32_t back, below;
} frame;
typedef struct set {
    uint32_t at, n; /* in pairs */
} set;

/* Open addressing: number + 1 of what is stored elsewhere. */
typedef struct table {
    uint32_t *slot, n, cap; /* cap: a power of two */
} table;

typedef struct lr_auto_parts {
    local *locals;
    uint32_t n_local, cap_local;
    uint32_t *local_to; /* [n_local, n_class]: LR_STATE_UNKNOWN, or a local; 0 is the dead one */
    uint32_t *ids, n_ids, cap_ids;
    call *calls;
    uint32_t n_call, cap_call;
    frame *frames;
    uint32_t n_frame, cap_frame;
    set *sets;
    pair *pairs;
    uint32_t n_pair, cap_pair, cap_set, cap_to, cap_local_to, cap_complete;
    table by_ids, by_frame, by_pairs;
    uint32_t *rule_local;    /* [n_rule]: local of its start, or UNKNOWN */
    uint8_t class_byte[256]; /* a byte of each class */
    /* scratch */
    uint32_t *seen, stamp;  /* [net n_state] */
    uint32_t *list, n_list; /* [net n_state] */
    pair *work;
    uint32_t n_work, cap_work;
    table by_work;
    bool full, hard;
} parts;

static bool take_bytes(lr_auto *a, size_t n)
{
    a->n_bytes += n;
    if (a->n_bytes > a->max_bytes) a->parts->full = true;
    return !a->parts->full;
}

static bool room(lr_auto *a, void **p, uint32_t *cap, size_t need, size_t size)
{
    if (need <= *cap) return true;
    size_t to = LR_MAX(need, (size_t)*cap * 2 + 32);
    if (to > UINT32_MAX / 2 || !take_bytes(a, (to - *cap) * size)) return a->parts->full = true, false;
    void *q = lr_realloc(*p, to * size);
    if (!q) return a->parts->full = true, false;
    *p = q;
    *cap = (uint32_t)to;
    return true;
}

/* ---------------------------------------------------------------- tables */
static bool table_room(lr_auto *a, table *t, uint64_t (*hash)(const parts *p, uint32_t id))
{
    if (t->n * 2 < t->cap) return true;
    uint32_t cap = t->cap ? t->cap * 2 : 64;
    if (!take_bytes(a, (cap - t->cap) * sizeof *t->slot)) return false;
    uint32_t *slot = lr_calloc(cap, sizeof *slot);
    if (!slot) return a->parts->full = true, false;
    for (uint32_t i = 0; i < t->cap; i++) {
        if (!t->slot[i]) continue;
        uint32_t at = (uint32_t)hash(a->parts, t->slot[i] - 1) & (cap - 1);
        while (slot[at]) at = (at + 1) & (cap - 1);
        slot[at] = t->slot[i];
    }
    lr_free(t->slot);
    t->slot = slot;
    t->cap = cap;
    return true;
}

static void table_put(table *t, uint64_t hash, uint32_t id)
{
    uint32_t at = (uint32_t)hash & (t->cap - 1);
    while (t->slot[at]) at = (at + 1) & (t->cap - 1);
    t->slot[at] = id + 1;
    t->n++;
}

static uint64_t hash_local(const parts *p, uint32_t id)
{
    return lr_hash(p->ids + p->locals[id].at, p->locals[id].n * sizeof *p->ids);
}
static uint64_t hash_frame(const parts *p, uint32_t id) { return lr_hash(&p->frames[id], sizeof(frame)); }
static uint64_t hash_set(const parts *p, uint32_t id)
{
    return lr_hash(p->pairs + p->sets[id].at, p->sets[id].n * sizeof(pair));
}
static uint64_t hash_work(const parts *p, uint32_t id) { return lr_hash(&p->work[id], sizeof(pair)); }

/* ---------------------------------------------------------------- locals */
static void visit(lr_auto *a, uint32_t s)
{
    parts *p = a->parts;
    if (p->seen[s] == p->stamp) return;
    p->seen[s] = p->stamp;
    p->list[p->n_list++] = s;
}

static int by_number(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    return (a > b) - (a < b);
}

static void begin_list(parts *p)
{
    p->stamp++;
    p->n_list = 0;
}

static bool add_calls(lr_auto *a, uint32_t id)
{
    parts *p = a->parts;
    const lr_net *n = a->net;
    uint32_t begin = p->n_call, n_ids = p->locals[id].n, at = p->locals[id].at;
    for (uint32_t i = 0; i < n_ids; i++)
        for (uint32_t e = n->first[p->ids[at + i]]; e; e = n->edges[e].next) {
            uint32_t rule = n->edges[e].rule, k = begin;
            if (n->edges[e].kind != LR_EDGE_CALL) continue;
            while (k < p->n_call && p->calls[k].rule != rule) k++;
            if (k < p->n_call) continue;
            if (k - begin == MAX_CALLS) return p->full = true, false; /* finding them again is quadratic */
            if (!room(a, (void **)&p->calls, &p->cap_call, (size_t)p->n_call + 1, sizeof *p->calls)) return false;
            p->calls[p->n_call++] = (call){rule, LR_STATE_UNKNOWN};
        }
    p->locals[id].calls = begin;
    p->locals[id].n_calls = p->n_call - begin;
    return true;
}

/* The list closed, its states that do something kept, numbered. UNKNOWN when the memory is full. */
static uint32_t local_of_list(lr_auto *a)
{
    parts *p = a->parts;
    const lr_net *n = a->net;
    for (uint32_t i = 0; i < p->n_list; i++)
        for (uint32_t e = n->first[p->list[i]]; e; e = n->edges[e].next)
            if (n->edges[e].kind == LR_EDGE_NOTHING) visit(a, n->edges[e].to);
    uint32_t keep = 0;
    local l = {.at = p->n_ids, .tail = true};
    for (uint32_t i = 0; i < p->n_list; i++) {
        uint32_t s = p->list[i];
        bool does = n->rules[n->owner[s]].end == s;
        l.end |= does;
        for (uint32_t e = n->first[s]; e; e = n->edges[e].next) {
            if (n->edges[e].kind == LR_EDGE_NOTHING) continue;
            does = true;
            l.tail = false;
            if (n->edges[e].kind == LR_EDGE_BYTES) l.bytes = true;
        }
        if (does) p->list[keep++] = s;
    }
    if (!keep) return LR_STATE_DEAD;
    qsort(p->list, keep, sizeof *p->list, by_number);
    uint64_t hash = lr_hash(p->list, keep * sizeof *p->list);
    if (!table_room(a, &p->by_ids, hash_local)) return LR_STATE_UNKNOWN;
    for (uint32_t at = (uint32_t)hash & (p->by_ids.cap - 1); p->by_ids.slot[at];
         at = (at + 1) & (p->by_ids.cap - 1)) {
        const local *o = &p->locals[p->by_ids.slot[at] - 1];
        if (o->n == keep && !memcmp(p->ids + o->at, p->list, keep * sizeof *p->list)) return p->by_ids.slot[at] - 1;
    }
    if (!room(a, (void **)&p->ids, &p->cap_ids, (size_t)p->n_ids + keep, sizeof *p->ids)) return LR_STATE_UNKNOWN;
    if (!room(a, (void **)&p->locals, &p->cap_local, (size_t)p->n_local + 1, sizeof *p->locals))
        return LR_STATE_UNKNOWN;
    size_t row = (size_t)p->n_local * a->n_class;
    if (!room(a, (void **)&p->local_to, &p->cap_local_to, row + a->n_class, sizeof *p->local_to))
        return LR_STATE_UNKNOWN;
    memcpy(p->ids + p->n_ids, p->list, keep * sizeof *p->list);
    p->n_ids += keep;
    l.n = keep;
    uint32_t id = p->n_local++;
    p->locals[id] = l;
    for (uint32_t c = 0; c < a->n_class; c++) p->local_to[row + c] = LR_STATE_UNKNOWN;
    table_put(&p->by_ids, hash, id);
    return add_calls(a, id) ? id : LR_STATE_UNKNOWN;
}

static uint32_t rule_start(lr_auto *a, uint32_t rule)
{
    parts *p = a->parts;
    if (p->rule_local[rule] == LR_STATE_UNKNOWN) {
        begin_list(p);
        visit(a, a->net->rules[rule].start);
        p->rule_local[rule] = local_of_list(a);
    }
    return p->rule_local[rule];
}

static uint32_t call_back(lr_auto *a, uint32_t id, uint32_t i)
{
    parts *p = a->parts;
    uint32_t at = p->locals[id].calls + i;
    if (p->calls[at].back != LR_STATE_UNKNOWN) return p->calls[at].back;
    const lr_net *n = a->net;
    begin_list(p);
    for (uint32_t k = 0; k < p->locals[id].n; k++)
        for (uint32_t e = n->first[p->ids[p->locals[id].at + k]]; e; e = n->edges[e].next)
            if (n->edges[e].kind == LR_EDGE_CALL && n->edges[e].rule == p->calls[at].rule) visit(a, n->edges[e].to);
    uint32_t back = local_of_list(a);
    return p->calls[at].back = back;
}

static uint32_t local_step(lr_auto *a, uint32_t id, uint32_t class)
{
    parts *p = a->parts;
    size_t at = (size_t)id * a->n_class + class;
    if (p->local_to[at] != LR_STATE_UNKNOWN) return p->local_to[at];
    const lr_net *n = a->net;
    uint8_t byte = p->class_byte[class];
    begin_list(p);
    for (uint32_t k = 0; k < p->locals[id].n; k++)
        for (uint32_t e = n->first[p->ids[p->locals[id].at + k]]; e; e = n->edges[e].next) {
            const lr_edge *edge = &n->edges[e];
            if (edge->kind == LR_EDGE_BYTES && byte >= edge->lo && byte <= edge->hi) visit(a, edge->to);
        }
    uint32_t to = local_of_list(a);
    return p->local_to[at] = to;
}

/* ---------------------------------------------------------------- stacks */
static uint32_t push_frame(lr_auto *a, uint32_t back, uint32_t below)
{
    parts *p = a->parts;
    if (p->locals[back].tail) return below; /* nothing to do there but end too */
    frame f = {back, below};
    uint64_t hash = lr_hash(&f, sizeof f);
    if (!table_room(a, &p->by_frame, hash_frame)) return 0;
    for (uint32_t at = (uint32_t)hash & (p->by_frame.cap - 1); p->by_frame.slot[at];
         at = (at + 1) & (p->by_frame.cap - 1)) {
        const frame *o = &p->frames[p->by_frame.slot[at] - 1];
        if (o->back == back && o->below == below) return p->by_frame.slot[at] - 1;
    }
    if (!room(a, (void **)&p->frames, &p->cap_frame, (size_t)p->n_frame + 1, sizeof *p->frames)) return 0;
    p->frames[p->n_frame] = f;
    table_put(&p->by_frame, hash, p->n_frame);
    return p->n_frame++;
}

/* ---------------------------------------------------------------- sets */
static void begin_work(parts *p)
{
    if (p->n_work && p->by_work.slot) memset(p->by_work.slot, 0, p->by_work.cap * sizeof *p->by_work.slot);
    if (p->by_work.cap > 1024) { /* one wide closure must not make every later one pay */
        lr_free(p->by_work.slot);
        p->by_work = (table){0};
    }
    p->by_work.n = 0;
    p->n_work = 0;
}

static void add_pair(lr_auto *a, uint32_t at_local, uint32_t stack)
{
    parts *p = a->parts;
    if (at_local == LR_STATE_DEAD || at_local == LR_STATE_UNKNOWN || p->full || p->hard) return;
    pair v = {at_local, stack};
    if (p->n_work < 16) {
        for (uint32_t i = 0; i < p->n_work; i++)
            if (p->work[i].local == at_local && p->work[i].stack == stack) return;
    }
    uint64_t hash = lr_hash(&v, sizeof v);
    size_t before = a->n_bytes;
    if (!table_room(a, &p->by_work, hash_work)) return;
    a->n_bytes = before; /* scratch is not counted */
    for (uint32_t at = (uint32_t)hash & (p->by_work.cap - 1); p->by_work.slot[at];
         at = (at + 1) & (p->by_work.cap - 1)) {
        const pair *o = &p->work[p->by_work.slot[at] - 1];
        if (o->local == at_local && o->stack == stack) return;
    }
    if (p->n_work == MAX_PAIRS) {
        p->hard = true;
        return;
    }
    if (!room(a, (void **)&p->work, &p->cap_work, (size_t)p->n_work + 1, sizeof *p->work)) return;
    table_put(&p->by_work, hash, p->n_work);
    p->work[p->n_work++] = v;
}

static int by_pair(const void *x, const void *y)
{
    const pair *a = x, *b = y;
    if (a->local != b->local) return a->local < b->local ? -1 : 1;
    return (a->stack > b->stack) - (a->stack < b->stack);
}

static uint32_t number_set(lr_auto *a, uint32_t keep, bool complete)
{
    parts *p = a->parts;
    if (!keep && !complete) return LR_STATE_DEAD;
    if (complete) { /* a mark among the pairs, so that sets that differ in it differ */
        if (!room(a, (void **)&p->work, &p->cap_work, (size_t)keep + 1, sizeof *p->work)) return LR_STATE_FULL;
        p->work[keep++] = (pair){0, 0};
    }
    qsort(p->work, keep, sizeof *p->work, by_pair);
    uint64_t hash = lr_hash(p->work, keep * sizeof *p->work);
    if (!table_room(a, &p->by_pairs, hash_set)) return LR_STATE_FULL;
    for (uint32_t at = (uint32_t)hash & (p->by_pairs.cap - 1); p->by_pairs.slot[at];
         at = (at + 1) & (p->by_pairs.cap - 1)) {
        const set *o = &p->sets[p->by_pairs.slot[at] - 1];
        if (o->n == keep && !memcmp(p->pairs + o->at, p->work, keep * sizeof *p->work))
            return p->by_pairs.slot[at] - 1;
    }
    size_t row = (size_t)a->n_set * a->n_class;
    if (!room(a, (void **)&p->pairs, &p->cap_pair, (size_t)p->n_pair + keep, sizeof *p->pairs) ||
        !room(a, (void **)&p->sets, &p->cap_set, (size_t)a->n_set + 1, sizeof *p->sets) ||
        !room(a, (void **)&a->to, &p->cap_to, row + a->n_class, sizeof *a->to) ||
        !room(a, (void **)&a->complete, &p->cap_complete, (size_t)a->n_set + 1, 1))
        return LR_STATE_FULL;
    memcpy(p->pairs + p->n_pair, p->work, keep * sizeof *p->work);
    p->sets[a->n_set] = (set){p->n_pair, keep};
    p->n_pair += keep;
    a->complete[a->n_set] = complete;
    for (uint32_t c = 0; c < a->n_class; c++) a->to[row + c] = LR_STATE_UNKNOWN;
    table_put(&p->by_pairs, hash, a->n_set);
    return a->n_set++;
}

/* The work list closed under calls and returns, then numbered. */
static uint32_t close_work(lr_auto *a)
{
    parts *p = a->parts;
    bool complete = false;
    for (uint32_t i = 0; i < p->n_work && !p->full && !p->hard; i++) {
        pair v = p->work[i];
        if (p->locals[v.local].end) {
            if (!v.stack) complete = true;
            else add_pair(a, p->frames[v.stack].back, p->frames[v.stack].below);
        }
        for (uint32_t k = 0; k < p->locals[v.local].n_calls && !p->full; k++) {
            uint32_t rule = p->calls[p->locals[v.local].calls + k].rule;
            uint32_t start = rule_start(a, rule), back = call_back(a, v.local, k);
            if (p->full) break;
            if (start == LR_STATE_DEAD || back == LR_STATE_DEAD) continue;
            uint32_t stack = push_frame(a, back, v.stack);
            add_pair(a, start, stack);
        }
    }
    if (p->full) return LR_STATE_FULL;
    if (p->hard) return p->hard = false, LR_STATE_HARD;
    uint32_t keep = 0;
    for (uint32_t i = 0; i < p->n_work; i++)
        if (p->locals[p->work[i].local].bytes) p->work[keep++] = p->work[i];
    return number_set(a, keep, complete);
}

uint32_t lr_auto_step_slow(lr_auto *a, uint32_t state, uint8_t byte)
{
    parts *p = a->parts;
    uint32_t class = a->class_of[byte];
    if (p->full) return LR_STATE_FULL;
    begin_work(p);
    set s = p->sets[state];
    for (uint32_t i = 0; i < s.n; i++) {
        pair v = p->pairs[s.at + i];
        if (v.local) add_pair(a, local_step(a, v.local, class), v.stack);
    }
    uint32_t to = close_work(a);
    if (to < LR_STATE_HARD) a->to[(size_t)state * a->n_class + class] = to;
    return to;
}

bool lr_auto_stuck(lr_auto *a, uint32_t state)
{
    const set *s = &a->parts->sets[state];
    return s->n == 0 || (s->n == 1 && a->parts->pairs[s->at].local == 0);
}

/* ---------------------------------------------------------------- opening */
static void classes(lr_auto *a)
{
    bool cut[257] = {true};
    for (uint32_t s = 0; s < a->net->n_state; s++)
        for (uint32_t e = a->net->first[s]; e; e = a->net->edges[e].next)
            if (a->net->edges[e].kind == LR_EDGE_BYTES)
                cut[a->net->edges[e].lo] = cut[a->net->edges[e].hi + 1] = true;
    a->n_class = 0;
    for (int b = 0; b < 256; b++) {
        if (cut[b]) a->parts->class_byte[a->n_class++] = (uint8_t)b;
        a->class_of[b] = (uint8_t)(a->n_class - 1);
    }
}

static void forget(lr_auto *a)
{
    parts *p = a->parts;
    void *all[] = {p->locals,       p->local_to, p->ids,         p->calls,         p->frames,
                   p->sets,         p->pairs,    p->by_ids.slot, p->by_frame.slot, p->by_pairs.slot,
                   p->by_work.slot, p->work,     a->to,          a->complete};
    for (size_t i = 0; i < LR_LEN(all); i++) lr_free(all[i]);
    *p = (parts){.rule_local = p->rule_local, .seen = p->seen, .stamp = p->stamp, .list = p->list};
    a->to = NULL;
    a->complete = NULL;
    a->n_set = 0;
    a->n_bytes = 0;
}

larder_status lr_auto_empty(lr_auto *a, larder_error *err)
{
    parts *p = a->parts;
    uint8_t class_byte[256];
    memcpy(class_byte, p->class_byte, sizeof class_byte);
    forget(a);
    memcpy(p->class_byte, class_byte, sizeof class_byte);
    a->generation++;
    for (uint32_t i = 0; i < a->net->n_rule; i++) p->rule_local[i] = LR_STATE_UNKNOWN;
    /* number 0 of everything is the dead or the empty one */
    if (!room(a, (void **)&p->locals, &p->cap_local, 1, sizeof *p->locals) ||
        !room(a, (void **)&p->local_to, &p->cap_local_to, a->n_class, sizeof *p->local_to) ||
        !room(a, (void **)&p->frames, &p->cap_frame, 1, sizeof *p->frames) ||
        !room(a, (void **)&p->sets, &p->cap_set, 1, sizeof *p->sets) ||
        !room(a, (void **)&a->to, &p->cap_to, a->n_class, sizeof *a->to) ||
        !room(a, (void **)&a->complete, &p->cap_complete, 1, 1) ||
        !room(a, (void **)&p->pairs, &p->cap_pair, 1, sizeof *p->pairs))
        return LR_NOMEM(err, "a grammar's states");
    p->locals[0] = (local){0};
    p->frames[0] = (frame){0};
    p->sets[0] = (set){0};
    a->complete[0] = 0;
    for (uint32_t c = 0; c < a->n_class; c++) a->to[c] = p->local_to[c] = LR_STATE_DEAD;
    p->n_local = p->n_frame = a->n_set = 1;
    begin_work(p);
    add_pair(a, rule_start(a, 0), 0);
    uint32_t start = close_work(a);
    if (start == LR_STATE_HARD)
        return lr_fail(err, LARDER_LIMIT, "the grammar is too ambiguous: more than %d ways to begin", MAX_PAIRS);
    if (start != LR_STATE_START) return LR_NOMEM(err, "a grammar's states");
    return LARDER_OK;
}

larder_status lr_auto_open(lr_auto *a, const lr_net *net, size_t max_bytes, larder_error *err)
{
    *a = (lr_auto){.net = net, .max_bytes = max_bytes};
    parts *p = a->parts = lr_calloc(1, sizeof *p);
    if (!p) return LR_NOMEM(err, "a grammar");
    p->rule_local = lr_calloc(net->n_rule, sizeof *p->rule_local);
    p->seen = lr_calloc(net->n_state, sizeof *p->seen);
    p->list = lr_calloc(net->n_state, sizeof *p->list);
    if (!p->rule_local || !p->seen || !p->list) return LR_NOMEM(err, "a grammar");
    classes(a);
    return lr_auto_empty(a, err);
}

void lr_auto_close(lr_auto *a)
{
    if (!a->parts) return;
    forget(a);
    lr_free(a->parts->rule_local);
    lr_free(a->parts->seen);
    lr_free(a->parts->list);
    lr_free(a->parts);
    *a = (lr_auto){0};
}
