/* grammar_net.c - rules as states and edges: building them, and checking that every state can still end. */
#include "grammar_impl.h"

#include <assert.h>
#include <stdio.h>

larder_status lr_net_fail(lr_net *n, larder_status st, const char *fmt, ...)
{
    if (n->st) return n->st;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(n->err.message, sizeof n->err.message, fmt, ap);
    va_end(ap);
    n->err.code = n->st = st;
    return st;
}

bool lr_net_spend(lr_net *n, uint64_t work)
{
    n->work += work;
    if (n->work > LR_NET_WORK)
        lr_net_fail(n, LARDER_LIMIT, "the grammar is too large: compiling it takes more than %d steps", LR_NET_WORK);
    return !n->st;
}

static bool grow(lr_net *n, void **p, uint32_t *cap, uint32_t need, size_t size)
{
    if (need <= *cap) return true;
    uint32_t to = LR_MAX(need, *cap * 2 + 64);
    void *q = lr_realloc(*p, (size_t)to * size);
    if (!q) {
        lr_net_fail(n, LARDER_NOMEM, "out of memory for a grammar");
        return false;
    }
    *p = q;
    *cap = to;
    return true;
}

uint32_t lr_net_state(lr_net *n)
{
    if (n->st || !lr_net_spend(n, 1)) return 0;
    if (n->n_state >= LR_NET_STATES) {
        lr_net_fail(n, LARDER_LIMIT,
                    "the grammar is too large: more than %d states (long counted repetitions are the usual cause)",
                    LR_NET_STATES);
        return 0;
    }
    uint32_t cap = n->cap_state;
    if (!grow(n, (void **)&n->first, &cap, n->n_state + 1, sizeof *n->first)) return 0;
    if (!grow(n, (void **)&n->owner, &n->cap_state, n->n_state + 1, sizeof *n->owner)) return 0;
    n->first[n->n_state] = 0;
    n->owner[n->n_state] = n->rule;
    return n->n_state++;
}

void lr_net_enter(lr_net *n, uint32_t rule) { n->rule = rule; }

uint32_t lr_net_rule(lr_net *n)
{
    if (n->st || !grow(n, (void **)&n->rules, &n->cap_rule, n->n_rule + 1, sizeof *n->rules)) return 0;
    uint32_t id = n->n_rule++, before = n->rule;
    n->rule = id;
    uint32_t start = lr_net_state(n), end = lr_net_state(n);
    n->rules[id] = (lr_rule){.start = start, .end = end};
    n->rule = before;
    return id;
}

static void add_edge(lr_net *n, uint32_t from, lr_edge e)
{
    if (n->st || !lr_net_spend(n, 1)) return;
    if (!n->n_edge) n->n_edge = 1;
    if (n->n_edge >= LR_NET_EDGES) {
        lr_net_fail(n, LARDER_LIMIT, "the grammar is too large: more than %d edges", LR_NET_EDGES);
        return;
    }
    if (!grow(n, (void **)&n->edges, &n->cap_edge, n->n_edge + 1, sizeof *n->edges)) return;
    e.next = n->first[from];
    n->edges[n->n_edge] = e;
    n->first[from] = n->n_edge++;
}

void lr_net_skip(lr_net *n, uint32_t from, uint32_t to)
{
    if (from != to) add_edge(n, from, (lr_edge){.to = to, .kind = LR_EDGE_NOTHING});
}

void lr_net_bytes(lr_net *n, uint32_t from, int lo, int hi, uint32_t to)
{
    add_edge(n, from, (lr_edge){.to = to, .kind = LR_EDGE_BYTES, .lo = (uint8_t)lo, .hi = (uint8_t)hi});
}

void lr_net_call(lr_net *n, uint32_t from, uint32_t rule, uint32_t to)
{
    add_edge(n, from, (lr_edge){.to = to, .kind = LR_EDGE_CALL, .rule = rule});
}

uint32_t lr_net_text(lr_net *n, uint32_t from, lr_str s)
{
    for (size_t i = 0; i < s.n && !n->st; i++) {
        uint32_t to = lr_net_state(n);
        lr_net_bytes(n, from, (uint8_t)s.p[i], (uint8_t)s.p[i], to);
        from = to;
    }
    return from;
}

uint32_t lr_net_puts(lr_net *n, uint32_t from, const char *s) { return lr_net_text(n, from, lr_str_of(s)); }

/* ---------------------------------------------------------------- UTF-8 */
static int encode(uint32_t c, uint8_t out[4])
{
    if (c < 0x80) return out[0] = (uint8_t)c, 1;
    if (c < 0x800) return out[0] = (uint8_t)(0xc0 | c >> 6), out[1] = (uint8_t)(0x80 | (c & 63)), 2;
    if (c < 0x10000) {
        out[0] = (uint8_t)(0xe0 | c >> 12), out[1] = (uint8_t)(0x80 | (c >> 6 & 63)),
        out[2] = (uint8_t)(0x80 | (c & 63));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | c >> 18), out[1] = (uint8_t)(0x80 | (c >> 12 & 63)),
    out[2] = (uint8_t)(0x80 | (c >> 6 & 63));
    out[3] = (uint8_t)(0x80 | (c & 63));
    return 4;
}

/* lo and hi encode to the same length, and the range covers whole blocks below the first byte that differs. */
static void emit_block(lr_net *n, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to)
{
    uint8_t a[4], b[4];
    int len = encode(lo, a), len_hi = encode(hi, b);
    assert(len == len_hi);
    for (int i = 0; i < len; i++) {
        uint32_t next = i + 1 < len ? lr_net_state(n) : to;
        lr_net_bytes(n, from, a[i], b[i], next);
        from = next;
    }
}

/* Cuts a range of one encoded length so that each part is a product of byte ranges (the method of utf8-ranges). */
static void emit_length(lr_net *n, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to)
{
    for (int i = 1; i < 4; i++) {
        uint32_t m = (1u << (6 * i)) - 1;
        if ((lo & ~m) == (hi & ~m)) break; /* they share all but the last i bytes */
        if (lo & m) {
            emit_length(n, from, lo, lo | m, to);
            emit_length(n, from, (lo | m) + 1, hi, to);
            return;
        }
        if ((hi & m) != m) {
            emit_length(n, from, lo, (hi & ~m) - 1, to);
            emit_length(n, from, hi & ~m, hi, to);
            return;
        }
    }
    emit_block(n, from, lo, hi, to);
}

void lr_net_chars(lr_net *n, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to)
{
    static const uint32_t part[][2] = {
        {0, 0x7f}, {0x80, 0x7ff}, {0x800, 0xd7ff}, {0xe000, 0xffff}, {0x10000, LR_CHAR_MAX}};
    for (size_t i = 0; i < LR_LEN(part) && !n->st; i++) {
        uint32_t a = LR_MAX(lo, part[i][0]), b = LR_MIN(hi, part[i][1]);
        if (a <= b) emit_length(n, from, a, b, to);
    }
}

int32_t lr_utf8_next(lr_str s, size_t *at)
{
    const uint8_t *p = (const uint8_t *)s.p + *at;
    size_t left = s.n - *at;
    if (!left) return -1;
    if (p[0] < 0x80) return ++*at, p[0];
    size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || left < len) return -1;
    uint32_t c = p[0] & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) return -1;
        c = c << 6 | (p[i] & 63);
    }
    if ((len == 3 && c < 0x800) || (len == 4 && c < 0x10000) || c > LR_CHAR_MAX || (c >= 0xd800 && c < 0xe000))
        return -1;
    *at += len;
    return (int32_t)c;
}

/* ---------------------------------------------------------------- closing: who reaches its rule's end */
typedef struct back_edge {
    uint32_t from, edge;
} back_edge;
typedef struct reach {
    const lr_net *n;
    uint32_t *in_at, *call_at; /* [n_state + 1], [n_rule + 1] */
    back_edge *in, *calls;     /* edges into a state; call edges of a rule */
    uint32_t *queue, n_queue;
    uint8_t *mark; /* [n_state] */
} reach;

static void mark_state(reach *r, uint32_t s)
{
    if (r->mark[s]) return;
    r->mark[s] = 1;
    r->queue[r->n_queue++] = s;
}

/* Marks every state that reaches the end of its rule; by_nothing: without a byte. */
static void spread(reach *r, bool by_nothing)
{
    const lr_net *n = r->n;
    memset(r->mark, 0, n->n_state);
    r->n_queue = 0;
    for (uint32_t i = 0; i < n->n_rule; i++) mark_state(r, n->rules[i].end);
    while (r->n_queue) {
        uint32_t s = r->queue[--r->n_queue], rule = n->owner[s];
        for (uint32_t i = r->in_at[s]; i < r->in_at[s + 1]; i++) {
            const lr_edge *e = &n->edges[r->in[i].edge];
            if (e->kind == LR_EDGE_BYTES && by_nothing) continue;
            if (e->kind == LR_EDGE_CALL && !r->mark[n->rules[e->rule].start]) continue;
            mark_state(r, r->in[i].from);
        }
        if (n->rules[rule].start != s) continue;
        for (uint32_t i = r->call_at[rule]; i < r->call_at[rule + 1]; i++)
            if (r->mark[n->edges[r->calls[i].edge].to]) mark_state(r, r->calls[i].from);
    }
}

static void index_edges(reach *r)
{
    const lr_net *n = r->n;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t s = 0; s < n->n_state; s++)
            for (uint32_t e = n->first[s]; e; e = n->edges[e].next) {
                const lr_edge *edge = &n->edges[e];
                back_edge b = {s, e};
                if (pass) r->in[--r->in_at[edge->to]] = b;
                else r->in_at[edge->to]++;
                if (edge->kind != LR_EDGE_CALL) continue;
                if (pass) r->calls[--r->call_at[edge->rule]] = b;
                else r->call_at[edge->rule]++;
            }
        if (pass) break;
        for (uint32_t s = 0; s < n->n_state; s++) r->in_at[s + 1] += r->in_at[s];
        for (uint32_t i = 0; i < n->n_rule; i++) r->call_at[i + 1] += r->call_at[i];
    }
}

static void drop_dead(lr_net *n, const uint8_t *alive)
{
    for (uint32_t s = 0; s < n->n_state; s++) {
        uint32_t *link = &n->first[s];
        while (*link) {
            const lr_edge *e = &n->edges[*link];
            bool dead = !alive[e->to] || (e->kind == LR_EDGE_CALL && !alive[n->rules[e->rule].start]);
            if (dead) *link = e->next;
            else link = &n->edges[*link].next;
        }
    }
}

/* Rules that a rule may call before it takes a byte: adjacency lists. A circle among them is left recursion. */
static void left_calls(const lr_net *n, uint32_t *queue, uint8_t *seen, uint32_t *at, uint32_t *called)
{
    uint32_t n_called = 0;
    for (uint32_t rule = 0; rule < n->n_rule; rule++) {
        uint32_t n_queue = 0;
        at[rule] = n_called;
        seen[queue[n_queue++] = n->rules[rule].start] = 1;
        for (uint32_t i = 0; i < n_queue; i++) {
            for (uint32_t e = n->first[queue[i]]; e; e = n->edges[e].next) {
                const lr_edge *edge = &n->edges[e];
                if (edge->kind == LR_EDGE_BYTES) continue;
                if (edge->kind == LR_EDGE_CALL) called[n_called++] = edge->rule;
                if (edge->kind == LR_EDGE_CALL && !n->rules[edge->rule].empty) continue;
                if (!seen[edge->to]) seen[queue[n_queue++] = edge->to] = 1;
            }
        }
    }
    at[n->n_rule] = n_called;
}

/* Depth first from the root. at[] is used up; path and colour are [n_rule]. */
static bool has_circle(const lr_net *n, uint32_t *at, const uint32_t *end, const uint32_t *called, uint32_t *path,
                       uint8_t *colour)
{
    uint32_t n_path = 0;
    colour[path[n_path++] = 0] = 1;
    (void)n;
    while (n_path) {
        uint32_t rule = path[n_path - 1];
        if (at[rule] == end[rule]) {
            colour[rule] = 2;
            n_path--;
            continue;
        }
        uint32_t next = called[at[rule]++];
        if (colour[next] == 1) return true;
        if (!colour[next]) colour[path[n_path++] = next] = 1;
    }
    return false;
}

static larder_status close_with(lr_net *n, reach *r, uint32_t *at, uint32_t *end, uint32_t *called, uint8_t *colour)
{
    index_edges(r);
    spread(r, true);
    for (uint32_t i = 0; i < n->n_rule; i++) n->rules[i].empty = r->mark[n->rules[i].start];
    spread(r, false);
    if (!r->mark[n->rules[0].start])
        return lr_net_fail(n, LARDER_UNSUPPORTED, "no text can match: its demands contradict each other");
    drop_dead(n, r->mark);
    memset(r->mark, 0, n->n_state);
    left_calls(n, r->queue, r->mark, at, called);
    memcpy(end, at + 1, n->n_rule * sizeof *end);
    if (has_circle(n, at, end, called, r->queue, colour))
        return lr_net_fail(n, LARDER_UNSUPPORTED, "a rule refers to itself before anything else (left recursion)");
    return LARDER_OK;
}

larder_status lr_net_close(lr_net *n)
{
    if (n->st) return n->st;
    reach r = {.n = n};
    r.in_at = lr_calloc((size_t)n->n_state + 1, sizeof *r.in_at);
    r.call_at = lr_calloc((size_t)n->n_rule + 1, sizeof *r.call_at);
    r.in = lr_calloc((size_t)n->n_edge + 1, sizeof *r.in);
    r.calls = lr_calloc((size_t)n->n_edge + 1, sizeof *r.calls);
    r.queue = lr_calloc((size_t)n->n_state + 1, sizeof *r.queue);
    r.mark = lr_calloc((size_t)n->n_state + 1, 1);
    uint32_t *at = lr_calloc((size_t)n->n_rule + 1, sizeof *at), *end = lr_calloc((size_t)n->n_rule + 1, sizeof *end);
    uint32_t *called = lr_calloc((size_t)n->n_edge + 1, sizeof *called);
    uint8_t *colour = lr_calloc((size_t)n->n_rule + 1, 1);
    if (r.in_at && r.call_at && r.in && r.calls && r.queue && r.mark && at && end && called && colour)
        close_with(n, &r, at, end, called, colour);
    else lr_net_fail(n, LARDER_NOMEM, "out of memory for a grammar");
    lr_free(r.in_at);
    lr_free(r.call_at);
    lr_free(r.in);
    lr_free(r.calls);
    lr_free(r.queue);
    lr_free(r.mark);
    lr_free(at);
    lr_free(end);
    lr_free(called);
    lr_free(colour);
    return n->st;
}

void lr_net_free(lr_net *n)
{
    lr_free(n->first);
    lr_free(n->owner);
    lr_free(n->edges);
    lr_free(n->rules);
    *n = (lr_net){0};
}
