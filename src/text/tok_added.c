/* tok_added.c - tokens that are found in the text by their names, before anything else.
 *
 * Owns: the sorted lists they are looked up in, and which of them need trusted bytes. Refuses to own: what the caller
 * does with a match (tok_encode.c).
 */
#include "tok_impl.h"

#include <stdlib.h>

larder_status tok_add_added(lr_tokenizer *t, uint32_t id, uint32_t off, uint32_t n, uint8_t flags, larder_error *err)
{
    if (n > TOK_MAX_ADDED_NAME) {
        return lr_fail(err, LARDER_LIMIT, "added token %u has a name of %u bytes; at most %d are taken", id, n,
                       TOK_MAX_ADDED_NAME);
    }
    if (t->n_added == t->cap_added) {
        uint32_t cap = t->cap_added ? t->cap_added * 2 : 64;
        tok_added *p = lr_realloc(t->added, cap * sizeof(*p));
        if (!p) return LR_NOMEM(err, "the added tokens");
        t->added = p;
        t->cap_added = cap;
    }
    t->added[t->n_added++] = (tok_added){.id = id, .off = off, .n = n, .flags = flags};
    return LARDER_OK;
}

static lr_str added_name(const lr_tokenizer *t, const tok_added *a)
{
    return (lr_str){(const char *)t->base + a->off, a->n};
}

typedef struct key {
    const char *p;
    uint32_t n, index;
} key;

static int by_name(const void *x, const void *y)
{
    const key *a = x, *b = y;
    int c = memcmp(a->p, b->p, LR_MIN(a->n, b->n));
    if (c) return c;
    if (a->n != b->n) return a->n < b->n ? -1 : 1;
    return a->index < b->index ? -1 : 1;
}

/* Of equal names the last one counts, as in the reference's map. */
static larder_status index_list(const lr_tokenizer *t, tok_matcher *m, larder_error *err)
{
    key *keys = lr_alloc((m->n + 1) * sizeof(*keys));
    tok_added *sorted = lr_alloc((m->n + 1) * sizeof(*sorted));
    if (!keys || !sorted) {
        lr_free(keys);
        lr_free(sorted);
        return LR_NOMEM(err, "the added tokens");
    }
    for (uint32_t i = 0; i < m->n; i++) {
        lr_str name = added_name(t, &m->p[i]);
        keys[i] = (key){name.p, (uint32_t)name.n, i};
    }
    qsort(keys, m->n, sizeof(*keys), by_name);
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->n; i++) {
        bool again = i + 1 < m->n && keys[i].n == keys[i + 1].n && memcmp(keys[i].p, keys[i + 1].p, keys[i].n) == 0;
        if (again) continue;
        sorted[n++] = m->p[keys[i].index];
        m->first[(uint8_t)keys[i].p[0]] = true;
    }
    lr_free(keys);
    lr_free(m->p);
    m->p = sorted;
    m->n = n;
    return LARDER_OK;
}

static larder_status new_list(tok_matcher *m, uint32_t cap, larder_error *err)
{
    m->p = lr_alloc((cap + 1) * sizeof(*m->p));
    return m->p ? LARDER_OK : LR_NOMEM(err, "the added tokens");
}

/* The name as it looks after normalizing, appended to the blob. */
static larder_status normalize_name(lr_tokenizer *t, tok_added *a, larder_error *err)
{
    tok_scratch s = {.t = t, .err = err, .deadline = lr_now_ns() + tok_time_ns(a->n)};
    lr_str out;
    larder_status st = tok_normalize(&s, t->norm, t->n_norm, added_name(t, a), &out);
    if (!st) {
        a->off = (uint32_t)t->blob.n;
        a->n = (uint32_t)LR_MIN(out.n, (size_t)TOK_MAX_ADDED_NAME);
        lr_buf_add(&t->blob, out.p, out.n);
        t->base = (const uint8_t *)t->blob.p;
        if (t->blob.failed || t->blob.n > UINT32_MAX / 2) st = LR_NOMEM(err, "the added tokens");
    }
    tok_scratch_free(&s);
    return st;
}

/* HTML is text, whatever brackets it has. */
static bool is_html(lr_str name)
{
    static const char *const tags[] = {
        "table", "caption", "thead", "tbody",  "tfoot",      "tr",     "th",   "td",  "h1",   "h2",
        "h3",    "h4",      "h5",    "h6",     "blockquote", "strong", "em",   "b",   "i",    "u",
        "s",     "sub",     "sup",   "code",   "a",          "html",   "body", "img", "span", "ul",
        "ol",    "li",      "div",   "iframe", "footer",     "p",      "br",   "pre",
    };
    if (name.n < 3 || name.p[0] != '<' || name.p[name.n - 1] != '>') return false;
    size_t skip = name.p[1] == '/' ? 2 : 1;
    lr_str tag = {name.p + skip, name.n - skip - 1};
    for (size_t i = 0; i < LR_LEN(tags); i++)
        if (lr_str_is(tag, tags[i])) return true;
    return false;
}

static void mark(lr_tokenizer *t, tok_added *a)
{
    lr_str name = added_name(t, a);
    a->guarded = (a->flags & TOK_SPECIAL) || (tok_looks_like_control(name) && !is_html(name));
    if (a->guarded) t->guarded[a->id >> 3] = (uint8_t)(t->guarded[a->id >> 3] | 1U << (a->id & 7));
}

larder_status tok_index_added(lr_tokenizer *t, larder_error *err)
{
    t->guarded = lr_calloc(t->n / 8 + 1, 1);
    if (!t->guarded) return LR_NOMEM(err, "the added tokens");
    LR_TRY(new_list(&t->raw, t->n_added, err));
    LR_TRY(new_list(&t->normalized, t->n_added, err));
    LR_TRY(new_list(&t->guard, t->n_added, err));
    for (uint32_t i = 0; i < t->n_added; i++) {
        tok_added a = t->added[i];
        if (a.n == 0) continue;
        mark(t, &a);
        bool later = (a.flags & TOK_NORMALIZED) && t->n_norm && t->base == (const uint8_t *)t->blob.p;
        if (!later || a.guarded) t->guard.p[t->guard.n++] = a;
        if (!later) {
            t->raw.p[t->raw.n++] = a;
            continue;
        }
        LR_TRY(normalize_name(t, &a, err));
        if (a.n) t->normalized.p[t->normalized.n++] = a;
    }
    LR_TRY(index_list(t, &t->raw, err));
    LR_TRY(index_list(t, &t->normalized, err));
    return index_list(t, &t->guard, err);
}

/* ---------------------------------------------------------------- matching */
static int byte_at(const lr_tokenizer *t, const tok_added *a, uint32_t depth)
{
    return depth < a->n ? t->base[a->off + depth] : -1;
}

/* First of [lo, hi) whose byte at `depth` is not below c. */
static uint32_t lower(const lr_tokenizer *t, const tok_matcher *m, uint32_t lo, uint32_t hi, uint32_t depth, int c)
{
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (byte_at(t, &m->p[mid], depth) < c) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

const tok_added *tok_match_added(const lr_tokenizer *t, const tok_matcher *m, lr_str text, size_t at,
                                 tok_allow *allow, void *user)
{
    if (!m->first[(uint8_t)text.p[at]]) return NULL;
    const tok_added *best = NULL;
    uint32_t lo = 0, hi = m->n;
    for (uint32_t depth = 0; at + depth < text.n && lo < hi; depth++) {
        int c = (uint8_t)text.p[at + depth];
        lo = lower(t, m, lo, hi, depth, c);
        hi = lower(t, m, lo, hi, depth, c + 1);
        if (lo < hi && m->p[lo].n == depth + 1 && (!allow || allow(user, at, &m->p[lo]))) best = &m->p[lo];
    }
    return best;
}
