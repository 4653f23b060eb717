/* grammar_mask.c - which tokens a state allows.
 *
 * The vocabulary is a tree of bytes, laid out depth first: walking it is going forward, and a byte that cannot stand here
 * skips all that begin with it. Most tokens are plain: whole characters that need no escape in a JSON string. Inside a
 * string they are all allowed, or all up to some number of characters; that is found from the state alone, and then only
 * the tree of the other tokens is walked.
 */
#include "grammar_impl.h"

#include <stdlib.h>

enum { RUN_MAX = 32, FEW = 1024 }; /* characters of a plain token at most; tokens of a mask that is a list */

typedef struct node {
    uint32_t skip;  /* first node that does not begin with this one's bytes */
    int32_t token;  /* one that ends here, or -1; more of the same bytes by same[] */
    uint16_t depth; /* bytes before this one */
    uint8_t byte;
} node;
typedef struct tree {
    node *nodes;
    uint32_t n, deepest;
} tree;
struct lr_vocab {
    uint32_t n, n_words; /* ids; of a bitmap */
    int32_t *same;       /* [n]: the next token with the same bytes, or -1 */
    tree all, others;
    uint64_t *plain[RUN_MAX + 1]; /* [k]: plain tokens of at most k characters */
    uint32_t *ends, n_ends;
};

/* ---------------------------------------------------------------- the vocabulary */
typedef struct entry {
    const char *p;
    uint32_t n, id;
    uint8_t run; /* characters if plain, else 0 */
} entry;

static int by_bytes(const void *x, const void *y)
{
    const entry *a = x, *b = y;
    int c = memcmp(a->p, b->p, LR_MIN(a->n, b->n));
    if (c) return c;
    if (a->n != b->n) return a->n < b->n ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

static uint8_t plain_run(const char *p, uint32_t n)
{
    uint32_t count = 0;
    for (size_t at = 0; at < n; count++) {
        int32_t c = lr_utf8_next((lr_str){p, n}, &at);
        if (c < 0x20 || c == '"' || c == '\\' || c == 0x7f || count == RUN_MAX) return 0;
    }
    return (uint8_t)count;
}

/* Entries in order of their bytes; only those that are not plain when `others`. */
static larder_status grow_tree(lr_vocab *v, tree *t, const entry *e, uint32_t n, bool others, larder_error *err)
{
    size_t total = 0;
    uint32_t most = 0;
    for (uint32_t i = 0; i < n; i++) total += e[i].n, most = LR_MAX(most, e[i].n);
    if (total > UINT32_MAX / 2 || most > UINT16_MAX)
        return lr_fail(err, LARDER_LIMIT, "the vocabulary's tokens are too long");
    t->nodes = lr_alloc((total + 1) * sizeof *t->nodes);
    uint32_t *open = lr_calloc((size_t)most + 1, sizeof *open); /* the node of each depth of the branch being grown */
    if (!t->nodes || !open) {
        lr_free(open);
        return LR_NOMEM(err, "a vocabulary's tree");
    }
    const entry *last = NULL;
    uint32_t n_open = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (others && e[i].run) continue;
        uint32_t common = 0;
        while (last && common < last->n && common < e[i].n && last->p[common] == e[i].p[common]) common++;
        while (n_open > common) t->nodes[open[--n_open]].skip = t->n;
        for (uint32_t d = common; d < e[i].n; d++) {
            t->nodes[t->n] = (node){.token = -1, .depth = (uint16_t)d, .byte = (uint8_t)e[i].p[d]};
            open[n_open++] = t->n++;
        }
        node *at = &t->nodes[open[n_open - 1]];
        if (at->token < 0) at->token = (int32_t)e[i].id;
        else if (!others) v->same[e[i].id] = v->same[at->token], v->same[at->token] = (int32_t)e[i].id;
        last = &e[i];
    }
    while (n_open) t->nodes[open[--n_open]].skip = t->n;
    t->deepest = most;
    lr_free(open);
    node *fit = lr_realloc(t->nodes, (t->n + 1) * sizeof *fit);
    if (fit) t->nodes = fit;
    return LARDER_OK;
}

static larder_status list_plain(lr_vocab *v, const entry *e, uint32_t n, larder_error *err)
{
    for (int k = 0; k <= RUN_MAX; k++) {
        v->plain[k] = lr_calloc(v->n_words, sizeof(uint64_t));
        if (!v->plain[k]) return LR_NOMEM(err, "a vocabulary's masks");
    }
    for (uint32_t i = 0; i < n; i++)
        for (int k = e[i].run; k && k <= RUN_MAX; k++) v->plain[k][e[i].id >> 6] |= (uint64_t)1 << (e[i].id & 63);
    return LARDER_OK;
}

static larder_status read_tokens(const lr_tokenizer *t, lr_vocab *v, uint32_t n, lr_buf *bytes, entry *e,
                                 uint32_t *n_entry, larder_error *err)
{
    for (uint32_t i = 0; i < n; i++) {
        lr_token_kind kind = lr_tokenizer_kind(t, (int32_t)i);
        if (lr_tokenizer_is_end(t, (int32_t)i)) {
            v->ends[v->n_ends++] = i;
            continue;
        }
        if (kind == LR_TOKEN_CONTROL || kind == LR_TOKEN_UNUSED || kind == LR_TOKEN_UNKNOWN) continue;
        size_t begin = bytes->n;
        LR_TRY(lr_tokenizer_piece(t, (int32_t)i, false, bytes, err));
        if (bytes->n == begin) continue;
        e[(*n_entry)++] = (entry){.p = (const char *)begin, .n = (uint32_t)(bytes->n - begin), .id = i};
    }
    for (uint32_t i = 0; i < *n_entry; i++) { /* the buffer stands still now */
        e[i].p = bytes->p + (size_t)e[i].p;
        e[i].run = plain_run(e[i].p, e[i].n);
    }
    return LARDER_OK;
}

larder_status lr_vocab_new(const lr_tokenizer *t, uint32_t n_logits, lr_vocab **out, larder_error *err)
{
    larder_status st = LARDER_OK;
    uint32_t n = LR_MIN(n_logits, lr_tokenizer_size(t)), n_entry = 0;
    lr_buf bytes = {0};
    *out = NULL;
    lr_vocab *v = lr_calloc(1, sizeof *v);
    entry *e = lr_calloc((size_t)n + 1, sizeof *e);
    if (v) v->ends = lr_calloc((size_t)n + 1, sizeof *v->ends), v->same = lr_alloc(((size_t)n + 1) * sizeof *v->same);
    if (!v || !e || !v->ends || !v->same) LR_GO(LR_NOMEM(err, "a vocabulary's tree"));
    for (uint32_t i = 0; i < n; i++) v->same[i] = -1;
    v->n = n_logits;
    v->n_words = n_logits / 64 + 1;
    LR_GO(read_tokens(t, v, n, &bytes, e, &n_entry, err));
    qsort(e, n_entry, sizeof *e, by_bytes);
    LR_GO(grow_tree(v, &v->all, e, n_entry, false, err));
    LR_GO(grow_tree(v, &v->others, e, n_entry, true, err));
    LR_GO(list_plain(v, e, n_entry, err));
    *out = v;
    v = NULL;
fail:
    lr_vocab_free(v);
    lr_free(e);
    lr_buf_free(&bytes);
    return st;
}

void lr_vocab_free(lr_vocab *v)
{
    if (!v) return;
    for (int k = 0; k <= RUN_MAX; k++) lr_free(v->plain[k]);
    lr_free(v->all.nodes);
    lr_free(v->others.nodes);
    lr_free(v->same);
    lr_free(v->ends);
    lr_free(v);
}

/* ---------------------------------------------------------------- the cache */
typedef struct entry_mask {
    lr_mask mask;
    void *own;
} entry_mask;
struct lr_mask_cache {
    const lr_vocab *v;
    size_t n_bytes, max_bytes;
    entry_mask *by_state[2]; /* [n_state]: without and with the ends */
    uint32_t n_state;
    uint64_t *bits; /* being filled */
    uint32_t *path; /* [deepest + 2]: states of the branch being walked */
    struct run {
        uint8_t n;   /* 0: not known; else 1 + characters (RUN_MAX: or more) */
        bool closed; /* after them no plain character may come */
    } * runs;
};

larder_status lr_mask_cache_new(const lr_vocab *v, size_t max_bytes, lr_mask_cache **out, larder_error *err)
{
    lr_mask_cache *c = *out = lr_calloc(1, sizeof *c);
    if (!c) return LR_NOMEM(err, "masks");
    c->v = v;
    c->max_bytes = max_bytes;
    c->bits = lr_calloc(v->n_words, sizeof *c->bits);
    c->path = lr_calloc((size_t)v->all.deepest + 2, sizeof *c->path);
    if (c->bits && c->path) return LARDER_OK;
    lr_mask_cache_free(c);
    *out = NULL;
    return LR_NOMEM(err, "masks");
}

void lr_mask_cache_empty(lr_mask_cache *c)
{
    for (int k = 0; k < 2; k++) {
        for (uint32_t i = 0; c->by_state[k] && i < c->n_state; i++) lr_free(c->by_state[k][i].own);
        lr_free(c->by_state[k]);
        c->by_state[k] = NULL;
    }
    lr_free(c->runs);
    c->runs = NULL;
    c->n_state = 0;
    c->n_bytes = 0;
}

void lr_mask_cache_free(lr_mask_cache *c)
{
    if (!c) return;
    lr_mask_cache_empty(c);
    lr_free(c->bits);
    lr_free(c->path);
    lr_free(c);
}

void lr_mask_cache_limit(lr_mask_cache *c, size_t max_bytes) { c->max_bytes = max_bytes; }
uint64_t lr_mask_cache_bytes(const lr_mask_cache *c) { return c->n_bytes; }

static bool table_for(lr_mask_cache *c, uint32_t state)
{
    if (state < c->n_state) return true;
    uint32_t to = LR_MAX(state + 1, c->n_state * 2 + 64), n = c->n_state;
    for (int k = 0; k < 2; k++) {
        entry_mask *p = lr_realloc(c->by_state[k], to * sizeof *p);
        if (!p) return false;
        memset(p + n, 0, (to - n) * sizeof *p);
        c->by_state[k] = p;
    }
    struct run *r = lr_realloc(c->runs, to * sizeof *r);
    if (!r) return false;
    memset(r + n, 0, (to - n) * sizeof *r);
    c->runs = r;
    c->n_bytes += (to - n) * (sizeof *r + 2 * sizeof(entry_mask));
    c->n_state = to;
    return true;
}

/* ---------------------------------------------------------------- runs of plain characters */
/* What all bytes of [lo, hi] lead to; UNKNOWN if not all to the same. */
static uint32_t all_to(lr_auto *a, uint32_t state, int lo, int hi)
{
    uint32_t to = lr_auto_step(a, state, (uint8_t)lo);
    for (int b = lo + 1; b <= hi && to < LR_STATE_HARD; b++)
        if (a->class_of[b] != a->class_of[b - 1] && lr_auto_step(a, state, (uint8_t)b) != to) return LR_STATE_UNKNOWN;
    return to;
}

/* The state after any plain character; DEAD: none may come; UNKNOWN: it depends on which. */
static uint32_t after_plain(lr_auto *a, uint32_t state)
{
    static const uint8_t ascii[][2] = {{0x20, 0x21}, {0x23, 0x5b}, {0x5d, 0x7e}};
    /* lead bytes, bytes that may follow at once, and how many of 80..bf come after that */
    static const uint8_t multi[][5] = {{0xc2, 0xdf, 0x80, 0xbf, 0}, {0xe0, 0xe0, 0xa0, 0xbf, 1},
                                       {0xe1, 0xec, 0x80, 0xbf, 1}, {0xed, 0xed, 0x80, 0x9f, 1},
                                       {0xee, 0xef, 0x80, 0xbf, 1}, {0xf0, 0xf0, 0x90, 0xbf, 2},
                                       {0xf1, 0xf3, 0x80, 0xbf, 2}, {0xf4, 0xf4, 0x80, 0x8f, 2}};
    uint32_t to = all_to(a, state, ascii[0][0], ascii[0][1]);
    if (to >= LR_STATE_HARD) return to;
    for (int i = 1; i < 3; i++)
        if (all_to(a, state, ascii[i][0], ascii[i][1]) != to) return LR_STATE_UNKNOWN;
    if (to == LR_STATE_DEAD) {
        for (int b = 0xc2; b <= 0xf4; b++)
            if (lr_auto_step(a, state, (uint8_t)b) != LR_STATE_DEAD) return LR_STATE_UNKNOWN;
        return to;
    }
    for (size_t i = 0; i < LR_LEN(multi); i++) {
        for (int lead = multi[i][0]; lead <= multi[i][1]; lead++) {
            if (lead > multi[i][0] && a->class_of[lead] == a->class_of[lead - 1]) continue;
            uint32_t s = lr_auto_step(a, state, (uint8_t)lead);
            if (s == LR_STATE_DEAD || s >= LR_STATE_HARD) return LR_STATE_UNKNOWN;
            s = all_to(a, s, multi[i][2], multi[i][3]);
            for (int k = 0; k < multi[i][4] && s != LR_STATE_DEAD && s < LR_STATE_HARD; k++)
                s = all_to(a, s, 0x80, 0xbf);
            if (s != to) return LR_STATE_UNKNOWN;
        }
    }
    return to;
}

/* How many plain characters may come, whichever they are. Each state on the way learns its own. */
static struct run find_run(lr_mask_cache *c, lr_auto *a, uint32_t state)
{
    uint32_t way[RUN_MAX + 1], n = 0, at = state;
    struct run r = {1, false};
    for (;;) {
        if (at < c->n_state && c->runs[at].n) {
            r = c->runs[at];
            break;
        }
        if (n > RUN_MAX) {
            r.n = RUN_MAX + 1;
            break;
        }
        uint32_t to = after_plain(a, at);
        if (to == LR_STATE_DEAD || to >= LR_STATE_HARD) {
            r = (struct run){1, to == LR_STATE_DEAD};
            if (at < c->n_state && to < LR_STATE_HARD) c->runs[at] = r;
            if (at < c->n_state && to == LR_STATE_UNKNOWN) c->runs[at] = r;
            break;
        }
        way[n++] = at;
        if (to == at) {
            r.n = RUN_MAX + 1;
            break;
        }
        at = to;
    }
    while (n) {
        if (r.n < RUN_MAX + 1) r.n++;
        n--;
        /* a state cut off at RUN_MAX knows only a lower bound; its like further on is found again when asked for */
        if (way[n] < c->n_state && (r.n <= RUN_MAX || way[n] == state)) c->runs[way[n]] = r;
    }
    return r;
}

/* ---------------------------------------------------------------- walking */
static void allow(lr_mask_cache *c, int32_t id)
{
    for (; id >= 0; id = c->v->same[id]) c->bits[id >> 6] |= (uint64_t)1 << (id & 63);
}

/* false: the automaton's memory is full, or it is too hard to follow. */
static uint32_t walk(lr_mask_cache *c, lr_auto *a, uint32_t state, const tree *t)
{
    const node *nodes = t->nodes;
    c->path[0] = state;
    for (uint32_t i = 0; i < t->n;) {
        const node *x = &nodes[i];
        uint32_t to = lr_auto_step(a, c->path[x->depth], x->byte);
        if (to == LR_STATE_DEAD) {
            i = x->skip;
            continue;
        }
        if (to >= LR_STATE_HARD) return to;
        c->path[x->depth + 1] = to;
        if (x->token >= 0) allow(c, x->token);
        i++;
    }
    return LARDER_OK;
}

static larder_status keep_mask(lr_mask_cache *c, entry_mask *e, larder_error *err)
{
    const lr_vocab *v = c->v;
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->n_words; i++) n += (uint32_t)__builtin_popcountll(c->bits[i]);
    size_t size = n <= FEW ? n * sizeof(uint32_t) : v->n_words * sizeof(uint64_t);
    e->own = lr_alloc(size);
    if (!e->own) return LR_NOMEM(err, "a mask");
    c->n_bytes += size;
    e->mask = (lr_mask){.n = n};
    if (n > FEW) {
        memcpy(e->own, c->bits, size);
        e->mask.bits = e->own;
        return LARDER_OK;
    }
    uint32_t *ids = e->own, k = 0;
    for (uint32_t i = 0; i < v->n_words; i++)
        for (uint64_t w = c->bits[i]; w; w &= w - 1) ids[k++] = i * 64 + (uint32_t)__builtin_ctzll(w);
    e->mask.ids = ids;
    return LARDER_OK;
}

larder_status lr_mask_cache_get(lr_mask_cache *c, lr_auto *a, uint32_t state, bool end, lr_mask *out, bool *full,
                                larder_error *err)
{
    const lr_vocab *v = c->v;
    *full = false;
    if (c->n_bytes > c->max_bytes) lr_mask_cache_empty(c);
    if (!table_for(c, state)) return LR_NOMEM(err, "masks");
    end = end && a->complete[state];
    entry_mask *e = &c->by_state[end][state];
    if (!e->own) {
        uint32_t bad = 0;
        struct run r = find_run(c, a, state);
        if (r.n > RUN_MAX || (r.n > 1 && r.closed)) {
            memcpy(c->bits, v->plain[LR_MIN(r.n - 1, RUN_MAX)], v->n_words * sizeof *c->bits);
            bad = walk(c, a, state, &v->others);
        } else {
            memset(c->bits, 0, v->n_words * sizeof *c->bits);
            bad = walk(c, a, state, &v->all);
        }
        if (bad == LR_STATE_HARD) return lr_fail(err, LARDER_LIMIT, "the grammar is too ambiguous to follow");
        if (bad) return *full = true, LARDER_OK;
        for (uint32_t i = 0; end && i < v->n_ends; i++) c->bits[v->ends[i] >> 6] |= (uint64_t)1 << (v->ends[i] & 63);
        LR_TRY(keep_mask(c, e, err));
    }
    *out = e->mask;
    return LARDER_OK;
}

bool lr_mask_has(const lr_mask *m, uint32_t id)
{
    if (m->bits) return m->bits[id >> 6] >> (id & 63) & 1;
    uint32_t lo = 0, hi = m->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (m->ids[mid] < id) lo = mid + 1;
        else hi = mid;
    }
    return lo < m->n && m->ids[lo] == id;
}

void lr_mask_apply(const lr_mask *m, float *logits, uint32_t n)
{
    if (!m->bits) {
        float keep[FEW];
        for (uint32_t i = 0; i < m->n; i++) keep[i] = logits[m->ids[i]];
        for (uint32_t i = 0; i < n; i++) logits[i] = -__builtin_inff();
        for (uint32_t i = 0; i < m->n; i++) logits[m->ids[i]] = keep[i];
        return;
    }
    for (uint32_t i = 0; i < n; i += 64) {
        uint32_t end = LR_MIN(64, n - i);
        uint64_t banned = ~m->bits[i >> 6];
        if (end < 64) banned &= ((uint64_t)1 << end) - 1;
        if (banned == ~(uint64_t)0)
            for (uint32_t k = 0; k < 64; k++) logits[i + k] = -__builtin_inff();
        else
            for (; banned; banned &= banned - 1) logits[i + (uint32_t)__builtin_ctzll(banned)] = -__builtin_inff();
    }
}
