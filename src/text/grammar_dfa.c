/* grammar_dfa.c - deterministic automata over code points: what strings may be, combined and then written as bytes.
 *
 * Owns: sets of characters, the subset construction, products, the lengths and multiples that JSON Schema counts.
 */
#include "grammar_impl.h"

#include <assert.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- sets of characters */
static int by_lo(const void *x, const void *y)
{
    const struct lr_char_range *a = x, *b = y;
    return (a->lo > b->lo) - (a->lo < b->lo);
}

/* Ranges that come out of order wait until the room is used up, or for the end. */
void lr_chars_sort(lr_chars *c)
{
    uint32_t n = 0;
    bool sorted = true;
    for (uint32_t i = 1; i < c->n; i++) sorted &= c->p[i - 1].hi + 1 < c->p[i].lo;
    if (sorted) return;
    qsort(c->p, c->n, sizeof *c->p, by_lo);
    for (uint32_t i = 0; i < c->n; i++) {
        if (n && c->p[i].lo <= c->p[n - 1].hi + 1) c->p[n - 1].hi = LR_MAX(c->p[n - 1].hi, c->p[i].hi);
        else c->p[n++] = c->p[i];
    }
    c->n = n;
}

void lr_chars_add(lr_chars *c, uint32_t lo, uint32_t hi)
{
    if (lo > hi || c->failed) return;
    if (c->n == c->cap) lr_chars_sort(c);
    if (c->n * 2 >= c->cap) {
        uint32_t cap = c->cap * 2 + 8;
        void *p = lr_realloc(c->p, cap * sizeof *c->p);
        if (!p) {
            c->failed = true;
            return;
        }
        c->p = p;
        c->cap = cap;
    }
    c->p[c->n++] = (struct lr_char_range){lo, hi};
}

void lr_chars_add_all(lr_chars *c, const lr_chars *from)
{
    for (uint32_t i = 0; i < from->n; i++) lr_chars_add(c, from->p[i].lo, from->p[i].hi);
    c->failed |= from->failed;
    lr_chars_sort(c);
}

void lr_chars_invert(lr_chars *c)
{
    lr_chars out = {.failed = c->failed};
    uint32_t next = 0;
    lr_chars_sort(c);
    for (uint32_t i = 0; i < c->n; i++) {
        if (c->p[i].lo > next) lr_chars_add(&out, next, c->p[i].lo - 1);
        next = c->p[i].hi + 1;
    }
    if (next <= LR_CHAR_MAX) lr_chars_add(&out, next, LR_CHAR_MAX);
    lr_free(c->p);
    *c = out;
}

void lr_chars_free(lr_chars *c)
{
    lr_free(c->p);
    *c = (lr_chars){0};
}

/* ---------------------------------------------------------------- automata */
void lr_dfa_free(lr_dfa *d)
{
    lr_free(d->bound);
    lr_free(d->to);
    lr_free(d->accept);
    *d = (lr_dfa){0};
}

/* A new state, all its ways dead; its number, or 0 when the budget or the memory is spent (n->st says which). */
static uint32_t new_state(lr_net *n, lr_dfa *d)
{
    if (!lr_net_spend(n, d->n_class)) return 0;
    if ((uint64_t)d->n_state * d->n_class >= LR_DFA_CELLS) {
        lr_net_fail(n, LARDER_LIMIT, "a pattern or format tells apart too many characters in too many states");
        return 0;
    }
    if (d->n_state >= LR_DFA_STATES) {
        lr_net_fail(n, LARDER_LIMIT, "a pattern or format needs more than %d states", LR_DFA_STATES);
        return 0;
    }
    if (d->n_state == d->cap_state) {
        uint32_t cap = d->cap_state * 2 + 16;
        uint32_t *to = lr_realloc(d->to, (size_t)cap * d->n_class * sizeof *to);
        if (to) d->to = to;
        uint8_t *accept = lr_realloc(d->accept, cap);
        if (accept) d->accept = accept;
        if (!to || !accept) {
            lr_net_fail(n, LARDER_NOMEM, "out of memory for a pattern");
            return 0;
        }
        d->cap_state = cap;
    }
    memset(d->to + (size_t)d->n_state * d->n_class, 0, d->n_class * sizeof *d->to);
    d->accept[d->n_state] = 0;
    return d->n_state++;
}

static uint32_t class_of(const lr_dfa *d, uint32_t c)
{
    uint32_t lo = 0, hi = d->n_class - 1;
    while (lo < hi) {
        uint32_t mid = (lo + hi + 1) / 2;
        if (d->bound[mid] <= c) lo = mid;
        else hi = mid - 1;
    }
    return lo;
}

static larder_status ended(lr_net *n, lr_dfa *d, larder_error *err)
{
    if (!n->st) return LARDER_OK;
    if (err) *err = n->err;
    lr_dfa_free(d);
    return n->st;
}

/* States that cannot reach an accepting one lead to 0 instead. */
static larder_status trim(lr_net *n, lr_dfa *d, larder_error *err)
{
    uint32_t *queue = lr_calloc(d->n_state, sizeof *queue), n_queue = 0;
    uint8_t *good = lr_calloc(d->n_state, 1);
    uint32_t *at = lr_calloc((size_t)d->n_state + 2, sizeof *at);
    size_t n_to = (size_t)d->n_state * d->n_class;
    uint32_t *from = lr_calloc(n_to, sizeof *from);
    bool ok = queue && good && at && from;
    lr_net_spend(n, n_to);
    if (ok) {
        for (size_t i = 0; i < n_to; i++) at[d->to[i] + 1]++;
        for (uint32_t s = 0; s < d->n_state; s++) at[s + 1] += at[s];
        for (size_t i = n_to; i-- > 0;) from[--at[d->to[i] + 1]] = (uint32_t)(i / d->n_class);
        /* at[s + 1] is now the begin of s's list, at[s + 2] of the next; the last one's end is n_to */
        for (uint32_t s = 0; s < d->n_state; s++)
            if (d->accept[s] && s) good[queue[n_queue++] = s] = 1;
        while (n_queue) {
            uint32_t s = queue[--n_queue];
            size_t end = s + 1 < d->n_state ? at[s + 2] : n_to;
            for (size_t i = at[s + 1]; i < end; i++)
                if (!good[from[i]] && from[i]) good[queue[n_queue++] = from[i]] = 1;
        }
        for (size_t i = 0; i < n_to; i++)
            if (!good[d->to[i]]) d->to[i] = 0;
    }
    lr_free(queue);
    lr_free(good);
    lr_free(at);
    lr_free(from);
    if (!ok) lr_net_fail(n, LARDER_NOMEM, "out of memory for a pattern");
    return ended(n, d, err);
}

bool lr_dfa_nothing(const lr_dfa *d)
{
    if (d->accept[1]) return false;
    for (uint32_t c = 0; c < d->n_class; c++)
        if (d->to[d->n_class + c]) return false; /* trimmed: what lives can end */
    return true;
}

bool lr_dfa_matches(const lr_dfa *d, lr_str s)
{
    uint32_t state = 1;
    for (size_t at = 0; at < s.n && state;) {
        int32_t c = lr_utf8_next(s, &at);
        if (c < 0) return false;
        state = d->to[(size_t)state * d->n_class + class_of(d, (uint32_t)c)];
    }
    return state && d->accept[state];
}

/* ---------------------------------------------------------------- numbered tuples, for both constructions */
typedef struct tuples {
    uint32_t *data, n_data, cap_data;
    uint32_t *at; /* [n + 1] */
    uint32_t n, cap, *slot, n_slot;
} tuples;

static void tuples_free(tuples *t)
{
    lr_free(t->data);
    lr_free(t->at);
    lr_free(t->slot);
}

static bool tuples_room(tuples *t, uint32_t more)
{
    if (t->n_data + more > t->cap_data) {
        uint32_t cap = (t->cap_data + more) * 2;
        uint32_t *p = lr_realloc(t->data, cap * sizeof *p);
        if (!p) return false;
        t->data = p;
        t->cap_data = cap;
    }
    if (t->n + 2 > t->cap) {
        uint32_t cap = t->cap * 2 + 64;
        uint32_t *p = lr_realloc(t->at, cap * sizeof *p);
        if (!p) return false;
        t->at = p;
        t->cap = cap;
        t->at[0] = 0;
    }
    if ((t->n + 1) * 2 > t->n_slot) {
        uint32_t cap = LR_MAX(64u, t->n_slot * 2);
        uint32_t *p = lr_calloc(cap, sizeof *p);
        if (!p) return false;
        for (uint32_t i = 0; i < t->n; i++) {
            uint32_t h = (uint32_t)lr_hash(t->data + t->at[i], (t->at[i + 1] - t->at[i]) * sizeof *t->data) &
                         (cap - 1);
            while (p[h]) h = (h + 1) & (cap - 1);
            p[h] = i + 1;
        }
        lr_free(t->slot);
        t->slot = p;
        t->n_slot = cap;
    }
    return true;
}

/* The number of a tuple; a new one gets the next. UINT32_MAX: no memory. */
static uint32_t tuples_find(tuples *t, const uint32_t *p, uint32_t n)
{
    if (!tuples_room(t, n)) return UINT32_MAX;
    uint32_t h = (uint32_t)lr_hash(p, n * sizeof *p) & (t->n_slot - 1);
    for (; t->slot[h]; h = (h + 1) & (t->n_slot - 1)) {
        uint32_t i = t->slot[h] - 1;
        if (t->at[i + 1] - t->at[i] == n && !memcmp(t->data + t->at[i], p, n * sizeof *p)) return i;
    }
    if (n) memcpy(t->data + t->n_data, p, n * sizeof *p);
    t->n_data += n;
    t->at[t->n + 1] = t->n_data;
    t->slot[h] = t->n + 1;
    return t->n++;
}

/* ---------------------------------------------------------------- products */
larder_status lr_dfa_and(lr_net *n, lr_dfa *a, const lr_dfa *b, bool not_b, larder_error *err)
{
    lr_dfa d = {0};
    tuples t = {0};
    uint32_t *bounds = lr_calloc((size_t)a->n_class + b->n_class + 1, sizeof *bounds), k = 0;
    if (!bounds) return LR_NOMEM(err, "a pattern");
    for (uint32_t i = 0, j = 0; i < a->n_class || j < b->n_class;) { /* the two lists of bounds, merged */
        uint32_t x = i < a->n_class ? a->bound[i] : UINT32_MAX, y = j < b->n_class ? b->bound[j] : UINT32_MAX;
        bounds[k++] = LR_MIN(x, y);
        i += x <= y;
        j += y <= x;
    }
    bounds[k] = LR_CHAR_MAX + 1;
    d.bound = bounds;
    d.n_class = k;
    new_state(n, &d);
    tuples_find(&t, (uint32_t[2]){0, 0}, 2);
    tuples_find(&t, (uint32_t[2]){1, 1}, 2);
    for (uint32_t s = 1; s < t.n && !n->st; s++) {
        uint32_t x = t.data[s * 2], y = t.data[s * 2 + 1];
        if (new_state(n, &d) != s) break;
        d.accept[s] = a->accept[x] && (not_b ? !b->accept[y] : b->accept[y]);
        for (uint32_t c = 0, i = 0, j = 0; c < k; c++) {
            if (i + 1 < a->n_class && a->bound[i + 1] <= bounds[c]) i++;
            if (j + 1 < b->n_class && b->bound[j + 1] <= bounds[c]) j++;
            uint32_t pair[2] = {a->to[(size_t)x * a->n_class + i], b->to[(size_t)y * b->n_class + j]};
            if (!pair[0] || (!pair[1] && !not_b)) continue;
            uint32_t to = tuples_find(&t, pair, 2);
            if (to == UINT32_MAX) lr_net_fail(n, LARDER_NOMEM, "out of memory for a pattern");
            else d.to[(size_t)s * k + c] = to;
            if (t.n > LR_DFA_STATES)
                lr_net_fail(n, LARDER_LIMIT, "a pattern or format needs more than %d states", LR_DFA_STATES);
        }
        lr_net_spend(n, k);
    }
    tuples_free(&t);
    LR_TRY(ended(n, &d, err));
    LR_TRY(trim(n, &d, err));
    lr_dfa_free(a);
    *a = d;
    return LARDER_OK;
}

/* ---------------------------------------------------------------- from an expression */
enum { NFA_SKIP, NFA_CHARS, NFA_BEGIN, NFA_END };
typedef struct nfa_edge {
    uint32_t to, next;
    const lr_chars *chars;
    int kind;
} nfa_edge;
typedef struct nfa {
    lr_net *budget;
    uint32_t *first, n, cap;
    nfa_edge *edges;
    uint32_t n_edge, cap_edge;
    lr_chars any;
} nfa;

static uint32_t nfa_state(nfa *f)
{
    if (!lr_net_spend(f->budget, 1)) return 0;
    if (f->n >= 200000)
        return lr_net_fail(f->budget, LARDER_LIMIT,
                           "an expression is too large when its repetitions are written out"),
               0;
    if (f->n == f->cap) {
        uint32_t *p = lr_realloc(f->first, (f->cap * 2 + 64) * sizeof *p);
        if (!p) return lr_net_fail(f->budget, LARDER_NOMEM, "out of memory for a pattern"), 0;
        f->first = p;
        f->cap = f->cap * 2 + 64;
    }
    f->first[f->n] = 0;
    return f->n++;
}

static void nfa_add(nfa *f, uint32_t from, int kind, const lr_chars *chars, uint32_t to)
{
    if (f->budget->st) return;
    if (f->n_edge + 1 >= f->cap_edge) {
        nfa_edge *p = lr_realloc(f->edges, (f->cap_edge * 2 + 64) * sizeof *p);
        if (!p) {
            lr_net_fail(f->budget, LARDER_NOMEM, "out of memory for a pattern");
            return;
        }
        f->edges = p;
        f->cap_edge = f->cap_edge * 2 + 64;
    }
    if (!f->n_edge) f->n_edge = 1;
    assert(f->first); /* its states came first */
    f->edges[f->n_edge] = (nfa_edge){to, f->first[from], chars, kind};
    f->first[from] = f->n_edge++;
}

/* Returns where it ends. */
static uint32_t nfa_of(nfa *f, const lr_syntax *s, uint32_t from)
{
    if (!lr_net_spend(f->budget, 1)) return 0;
    uint32_t to;
    switch (s->kind) {
    case LR_SYN_EMPTY: return from;
    case LR_SYN_CHARS:
    case LR_SYN_BEGIN:
    case LR_SYN_END:
        to = nfa_state(f);
        nfa_add(f, from,
                s->kind == LR_SYN_CHARS   ? NFA_CHARS
                : s->kind == LR_SYN_BEGIN ? NFA_BEGIN
                                          : NFA_END,
                &s->chars, to);
        return to;
    case LR_SYN_CAT:
        for (const lr_syntax *c = s->child; c; c = c->next) from = nfa_of(f, c, from);
        return from;
    case LR_SYN_ALT:
        to = nfa_state(f);
        for (const lr_syntax *c = s->child; c; c = c->next) {
            uint32_t begin = nfa_state(f); /* so that loops inside do not meet their siblings */
            nfa_add(f, from, NFA_SKIP, NULL, begin);
            nfa_add(f, nfa_of(f, c, begin), NFA_SKIP, NULL, to);
        }
        return to;
    case LR_SYN_REPEAT:
        for (uint32_t i = 0; i < s->min && !f->budget->st; i++) from = nfa_of(f, s->child, from);
        if (s->max == UINT32_MAX) {
            uint32_t loop = nfa_state(f);
            nfa_add(f, from, NFA_SKIP, NULL, loop);
            nfa_add(f, nfa_of(f, s->child, loop), NFA_SKIP, NULL, loop);
            to = nfa_state(f);
            nfa_add(f, loop, NFA_SKIP, NULL, to);
            return to;
        }
        to = nfa_state(f);
        nfa_add(f, from, NFA_SKIP, NULL, to);
        for (uint32_t i = s->min; i < s->max && !f->budget->st; i++) {
            from = nfa_of(f, s->child, from);
            nfa_add(f, from, NFA_SKIP, NULL, to);
        }
        return to;
    case LR_SYN_RULE: break;
    }
    lr_net_fail(f->budget, LARDER_INTERNAL, "a rule in an expression");
    return 0;
}

static int by_number(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    return (a > b) - (a < b);
}

/* The classes: every bound of a range in the expression. */
static larder_status nfa_classes(nfa *f, lr_dfa *d, larder_error *err)
{
    size_t n = 2;
    for (uint32_t e = 1; e < f->n_edge; e++)
        if (f->edges[e].kind == NFA_CHARS) n += (size_t)f->edges[e].chars->n * 2;
    uint32_t *b = lr_alloc((n + 1) * sizeof *b), k = 0, keep = 0;
    if (!b) return LR_NOMEM(err, "a pattern");
    b[k++] = 0;
    for (uint32_t e = 1; e < f->n_edge; e++)
        for (uint32_t i = 0; f->edges[e].kind == NFA_CHARS && i < f->edges[e].chars->n; i++) {
            b[k++] = f->edges[e].chars->p[i].lo;
            b[k++] = f->edges[e].chars->p[i].hi + 1;
        }
    lr_net_spend(f->budget, k);
    qsort(b, k, sizeof *b, by_number);
    for (uint32_t i = 0; i < k; i++)
        if (b[i] <= LR_CHAR_MAX && (!keep || b[i] != b[keep - 1])) b[keep++] = b[i];
    b[keep] = LR_CHAR_MAX + 1;
    d->bound = b;
    d->n_class = keep;
    return LARDER_OK;
}

typedef struct subset {
    nfa *f;
    uint32_t *list, n, *seen, stamp, final;
} subset;

static void subset_visit(subset *u, uint32_t s)
{
    if (u->seen[s] == u->stamp) return;
    u->seen[s] = u->stamp;
    u->list[u->n++] = s;
}

static void subset_close(subset *u, bool begin, bool end)
{
    for (uint32_t i = 0; i < u->n; i++)
        for (uint32_t e = u->f->first[u->list[i]]; e; e = u->f->edges[e].next) {
            int k = u->f->edges[e].kind;
            if (k == NFA_SKIP || (k == NFA_BEGIN && begin) || (k == NFA_END && end))
                subset_visit(u, u->f->edges[e].to);
        }
    lr_net_spend(u->f->budget, u->n);
}

static bool chars_have(const lr_chars *c, uint32_t x)
{
    uint32_t lo = 0, hi = c->n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (c->p[mid].hi < x) lo = mid + 1;
        else hi = mid;
    }
    return lo < c->n && c->p[lo].lo <= x;
}

static bool subset_accepts(subset *u, const uint32_t *ids, uint32_t n, bool begin)
{
    u->stamp++;
    u->n = 0;
    for (uint32_t i = 0; i < n; i++) subset_visit(u, ids[i]);
    subset_close(u, begin, true);
    return u->seen[u->final] == u->stamp;
}

/* A set's tuple: whether it is the first, then its states. The list has room for one more in front. */
static uint32_t subset_number(subset *u, tuples *t, bool begin)
{
    qsort(u->list, u->n, sizeof *u->list, by_number);
    u->list[-1] = begin;
    return u->n ? tuples_find(t, u->list - 1, u->n + 1) : 0;
}

static void determinise(subset *u, uint32_t start, lr_dfa *d)
{
    lr_net *n = u->f->budget;
    tuples t = {0};
    new_state(n, d);
    tuples_find(&t, (uint32_t[1]){0}, 1); /* the dead one */
    u->stamp++;
    subset_visit(u, start);
    subset_close(u, true, false);
    subset_number(u, &t, true);
    for (uint32_t s = 1; s < t.n && !n->st; s++) {
        if (new_state(n, d) != s) break;
        uint32_t n_ids = t.at[s + 1] - t.at[s] - 1;
        d->accept[s] = subset_accepts(u, t.data + t.at[s] + 1, n_ids, t.data[t.at[s]]);
        for (uint32_t c = 0; c < d->n_class && !n->st; c++) {
            u->stamp++;
            u->n = 0;
            const uint32_t *ids = t.data + t.at[s] + 1;
            for (uint32_t i = 0; i < n_ids; i++)
                for (uint32_t e = u->f->first[ids[i]]; e; e = u->f->edges[e].next)
                    if (u->f->edges[e].kind == NFA_CHARS && chars_have(u->f->edges[e].chars, d->bound[c]))
                        subset_visit(u, u->f->edges[e].to);
            lr_net_spend(n, n_ids + 1);
            subset_close(u, false, false);
            uint32_t to = subset_number(u, &t, false);
            if (to == UINT32_MAX) lr_net_fail(n, LARDER_NOMEM, "out of memory for a pattern");
            else d->to[(size_t)s * d->n_class + c] = to;
            if (t.n > LR_DFA_STATES || t.n_data > 2 * LR_DFA_CELLS)
                lr_net_fail(n, LARDER_LIMIT, "a pattern needs more than %d states", LR_DFA_STATES);
        }
    }
    tuples_free(&t);
}

static larder_status build(lr_net *n, const lr_syntax *s, bool whole, lr_dfa *out, larder_error *err)
{
    nfa f = {.budget = n};
    lr_dfa d = {0};
    larder_status st = LARDER_OK;
    uint32_t *memory = NULL;
    subset u = {.f = &f};
    lr_chars_add(&f.any, 0, 0xd7ff);
    lr_chars_add(&f.any, 0xe000, LR_CHAR_MAX);
    uint32_t start = nfa_state(&f), begin = start;
    if (!whole) { /* anything, the expression, anything */
        nfa_add(&f, start, NFA_CHARS, &f.any, start);
        begin = nfa_state(&f);
        nfa_add(&f, start, NFA_SKIP, NULL, begin);
    }
    uint32_t end = nfa_of(&f, s, begin), last = nfa_state(&f);
    nfa_add(&f, end, NFA_SKIP, NULL, last);
    if (!whole) nfa_add(&f, last, NFA_CHARS, &f.any, last);
    if (f.any.failed) LR_GO(LR_NOMEM(err, "a pattern"));
    if (n->st) LR_GO(ended(n, &d, err));
    LR_GO(nfa_classes(&f, &d, err));
    memory = lr_calloc((size_t)f.n + 2, sizeof *memory);
    u.seen = lr_calloc((size_t)f.n + 1, sizeof *u.seen);
    if (!memory || !u.seen) LR_GO(LR_NOMEM(err, "a pattern"));
    u.list = memory + 1;
    u.final = last;
    determinise(&u, start, &d);
    LR_GO(ended(n, &d, err));
    LR_GO(trim(n, &d, err));
    *out = d;
    d = (lr_dfa){0};
fail:
    lr_dfa_free(&d);
    lr_free(memory);
    lr_free(u.seen);
    lr_free(f.first);
    lr_free(f.edges);
    lr_chars_free(&f.any);
    return st;
}

larder_status lr_dfa_from_regex(lr_net *n, lr_str regex, bool whole, lr_dfa *out, larder_error *err)
{
    lr_arena arena = {0};
    lr_syntax *s = NULL;
    *out = (lr_dfa){0};
    uint64_t cost = regex.n * 16; /* a property looks at every character there is */
    for (size_t i = 0; i + 1 < regex.n; i++)
        if (regex.p[i] == '\\' && (regex.p[i + 1] | 32) == 'p') cost += 400000;
    if (!lr_net_spend(n, cost)) return ended(n, out, err);
    larder_status st = lr_regex_parse(regex, &arena, &s, err);
    if (!st) st = build(n, s, whole, out, err);
    lr_syntax_close(s);
    lr_arena_free(&arena);
    return st;
}

/* ---------------------------------------------------------------- made by hand */
/* Classes: one for each character of the texts, and the rest. */
larder_status lr_dfa_from_texts(lr_net *n, const lr_str *texts, uint32_t n_text, lr_dfa *out, larder_error *err)
{
    lr_dfa d = {0};
    size_t total = 0;
    for (uint32_t i = 0; i < n_text; i++) total += texts[i].n;
    uint32_t *b = lr_alloc((total * 2 + 2) * sizeof *b), k = 0, keep = 0;
    *out = (lr_dfa){0};
    if (!b) return LR_NOMEM(err, "a pattern");
    b[k++] = 0;
    for (uint32_t i = 0; i < n_text; i++)
        for (size_t at = 0; at < texts[i].n;) {
            int32_t c = lr_utf8_next(texts[i], &at);
            if (c < 0) break;
            b[k++] = (uint32_t)c, b[k++] = (uint32_t)c + 1;
        }
    qsort(b, k, sizeof *b, by_number);
    for (uint32_t i = 0; i < k; i++)
        if (b[i] <= LR_CHAR_MAX && (!keep || b[i] != b[keep - 1])) b[keep++] = b[i];
    b[keep] = LR_CHAR_MAX + 1;
    d.bound = b;
    d.n_class = keep;
    new_state(n, &d);
    new_state(n, &d);
    for (uint32_t i = 0; i < n_text && !n->st; i++) {
        uint32_t s = 1;
        for (size_t at = 0; at < texts[i].n && !n->st;) {
            int32_t c = lr_utf8_next(texts[i], &at);
            if (c < 0) break;
            size_t way = (size_t)s * d.n_class + class_of(&d, (uint32_t)c);
            if (!d.to[way]) {
                uint32_t to = new_state(n, &d);
                if (n->st) break;
                d.to[way] = to;
            }
            s = d.to[way];
        }
        if (!n->st) d.accept[s] = 1;
    }
    LR_TRY(ended(n, &d, err));
    *out = d;
    return LARDER_OK;
}

static larder_status plain_classes(lr_dfa *d, const uint32_t *bounds, uint32_t n, larder_error *err)
{
    d->bound = lr_alloc((n + 1) * sizeof *d->bound);
    if (!d->bound) return LR_NOMEM(err, "a pattern");
    memcpy(d->bound, bounds, n * sizeof *bounds);
    d->bound[n] = LR_CHAR_MAX + 1;
    d->n_class = n;
    return LARDER_OK;
}

/* max UINT64_MAX: no end. */
larder_status lr_dfa_lengths(lr_net *n, uint64_t min, uint64_t max, lr_dfa *out, larder_error *err)
{
    lr_dfa d = {0};
    *out = d;
    LR_TRY(plain_classes(&d, (uint32_t[3]){0, 0xd800, 0xe000}, 3, err));
    uint64_t last = max == UINT64_MAX ? min : max;
    new_state(n, &d);
    for (uint64_t i = 0; i <= last && !n->st; i++) {
        uint32_t s = new_state(n, &d);
        if (n->st) break;
        d.accept[s] = i >= min;
        uint32_t to = i < last ? s + 1 : max == UINT64_MAX ? s : 0;
        d.to[(size_t)s * 3] = d.to[(size_t)s * 3 + 2] = to;
    }
    LR_TRY(ended(n, &d, err));
    *out = d;
    return LARDER_OK;
}

larder_status lr_dfa_multiples(lr_net *n, uint32_t p, uint32_t k, lr_dfa *out, larder_error *err)
{
    /* classes: - . 0..9 and the rest; states: start, sign, then (remainder, digits of the fraction + 1 or 0) */
    static const uint32_t bounds[] = {0, '-', '.', '/', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', ':'};
    lr_dfa d = {0};
    uint32_t ten[16] = {1};
    *out = d;
    if (k > 9) return lr_fail(err, LARDER_UNSUPPORTED, "a multiple with %u decimals", k);
    for (uint32_t i = 1; i <= k; i++) ten[i] = (uint32_t)((uint64_t)ten[i - 1] * 10 % p);
    LR_TRY(plain_classes(&d, bounds, LR_LEN(bounds), err));
    uint64_t n_state = 3 + (uint64_t)p * (k + 2);
    for (uint64_t s = 0; s < n_state && !n->st; s++) new_state(n, &d);
    LR_TRY(ended(n, &d, err));
    const uint32_t row = d.n_class;
    assert(d.to != NULL);
#define AT(r, f) (3 + (r) + p * (f)) /* f: 0 no point yet, 1 a point, 1 + i after i digits */
    for (uint32_t g = 0; g < 10; g++) d.to[row + 4 + g] = d.to[2 * row + 4 + g] = AT(g % p, 0);
    d.to[row + 1] = 2;
    for (uint32_t f = 0; f < k + 2; f++)
        for (uint32_t r = 0; r < p; r++) {
            uint32_t s = AT(r, f);
            uint32_t digits = f ? f - 1 : 0;
            d.accept[s] = f != 1 && (uint64_t)r * ten[k - digits] % p == 0;
            if (f == 0 && k) d.to[(size_t)s * row + 2] = AT(r, 1);
            for (uint32_t g = 0; g < 10; g++) {
                uint32_t next = (uint32_t)(((uint64_t)r * 10 + g) % p);
                if (f == 0) d.to[(size_t)s * row + 4 + g] = AT(next, 0);
                else if (digits < k) d.to[(size_t)s * row + 4 + g] = AT(next, f + 1);
            }
        }
#undef AT
    LR_TRY(trim(n, &d, err));
    *out = d;
    return LARDER_OK;
}

/* ---------------------------------------------------------------- to bytes */
static void emit_escape(lr_net *n, uint32_t from, uint32_t c, uint32_t to)
{
    static const char shorts[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *at = c ? strchr(shorts, (int)c) : NULL;
    uint32_t slash = lr_net_puts(n, from, "\\");
    if (at) {
        lr_net_bytes(n, slash, letters[at - shorts], letters[at - shorts], to);
        return;
    }
    uint32_t s = lr_net_puts(n, lr_net_puts(n, slash, "u00"), c & 16 ? "1" : "0");
    uint8_t digit = (uint8_t) "0123456789abcdef"[c & 15];
    lr_net_bytes(n, s, digit, digit, to);
    if (digit >= 'a') lr_net_bytes(n, s, digit - 32, digit - 32, to);
}

static void emit_range(lr_net *n, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to, bool json)
{
    if (!json) {
        lr_net_chars(n, from, lo, hi, to);
        return;
    }
    for (uint32_t c = lo; c <= hi && c < 0x20; c++) emit_escape(n, from, c, to);
    static const uint32_t plain[][2] = {{0x20, 0x21}, {0x23, 0x5b}, {0x5d, LR_CHAR_MAX}};
    if (lo <= '"' && hi >= '"') emit_escape(n, from, '"', to);
    if (lo <= '\\' && hi >= '\\') emit_escape(n, from, '\\', to);
    for (int i = 0; i < 3; i++) {
        uint32_t a = LR_MAX(lo, plain[i][0]), b = LR_MIN(hi, plain[i][1]);
        if (a <= b) lr_net_chars(n, from, a, b, to);
    }
}

void lr_dfa_emit(lr_net *n, const lr_dfa *d, uint32_t from, uint32_t to, bool json)
{
    uint32_t *state = lr_calloc(d->n_state, sizeof *state);
    if (!state) {
        lr_net_fail(n, LARDER_NOMEM, "out of memory for a pattern");
        return;
    }
    for (uint32_t s = 1; s < d->n_state && !n->st; s++) state[s] = lr_net_state(n);
    lr_net_skip(n, from, state[1]);
    for (uint32_t s = 1; s < d->n_state && !n->st; s++) {
        const uint32_t *row = d->to + (size_t)s * d->n_class;
        if (d->accept[s]) lr_net_skip(n, state[s], to);
        for (uint32_t c = 0; c < d->n_class && !n->st;) { /* neighbours that lead to the same state as one range */
            uint32_t end = c + 1;
            while (end < d->n_class && row[end] == row[c]) end++;
            if (row[c]) emit_range(n, state[s], d->bound[c], d->bound[end] - 1, state[row[c]], json);
            c = end;
        }
    }
    lr_free(state);
}
