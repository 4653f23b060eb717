/* jinja_value.c - memory, strings with origin, lists and dictionaries of one rendering.
 *
 * Owns: the budgets. Everything a template makes comes from lr_jx_alloc, everything it does passes lr_jx_step or
 * lr_jx_charge, and every recursion lr_jx_enter.
 */
#include "jinja.h"

#include <assert.h>
#include <utf8proc.h>

typedef struct jchunk {
    struct jchunk *next;
    size_t n, cap;
} jchunk;

enum { CHUNK = 64 * 1024, ALIGN = 16, BYTES_PER_STEP = 64 };

_Noreturn void lr_jx_fail(jx *x, larder_status st, const char *fmt, ...)
{
    va_list ap;
    char text[400];
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (char *c = text; *c; c++)
        if (*c == '\n') *c = ' ';
    x->st = lr_fail(x->err, st, "chat template, line %d: %s", x->line, text);
    longjmp(x->jmp, 1);
}

static void spend(jx *x, uint64_t n)
{
    if (n > x->budget.steps - x->steps) lr_jx_fail(x, LARDER_LIMIT, "the template runs too long");
    x->steps += n;
}

void lr_jx_step(jx *x) { spend(x, 1); }

void lr_jx_charge(jx *x, size_t n_bytes) { spend(x, n_bytes / BYTES_PER_STEP); }

void lr_jx_enter(jx *x)
{
    if (x->depth >= x->budget.depth) lr_jx_fail(x, LARDER_LIMIT, "the template nests too deeply");
    x->depth++;
}

void lr_jx_leave(jx *x) { x->depth--; }

void *lr_jx_alloc(jx *x, size_t n)
{
    if (n > x->budget.n_memory) lr_jx_fail(x, LARDER_LIMIT, "the template needs too much memory");
    n = LR_ALIGN_UP(n ? n : 1, (size_t)ALIGN);
    jchunk *c = x->chunk;
    size_t head = LR_ALIGN_UP(sizeof *c, (size_t)ALIGN);
    if (!c || c->cap - c->n < n) {
        size_t cap = LR_MAX(n, (size_t)CHUNK - head);
        if (cap + head > x->budget.n_memory - x->n_memory) cap = n;
        if (cap + head > x->budget.n_memory - x->n_memory)
            lr_jx_fail(x, LARDER_LIMIT, "the template needs too much memory");
        c = lr_alloc(head + cap);
        if (!c) lr_jx_fail(x, LARDER_NOMEM, "out of memory");
        *c = (jchunk){.next = x->chunk, .cap = cap};
        x->n_memory += cap + head;
        x->chunk = c;
    }
    void *p = (char *)c + head + c->n;
    c->n += n;
    return p;
}

void *lr_jx_array(jx *x, size_t count, size_t size)
{
    size_t n;
    if (!lr_mul_size(count, size, &n)) lr_jx_fail(x, LARDER_LIMIT, "the template needs too much memory");
    return lr_jx_alloc(x, n);
}

void lr_jx_release(jx *x)
{
    while (x->chunk) {
        jchunk *c = x->chunk;
        x->chunk = c->next;
        lr_free(c);
    }
}

/* ---------------------------------------------------------------- building strings */
jbuf *lr_jbuf_new(jx *x)
{
    jbuf *b = lr_jx_alloc(x, sizeof *b);
    *b = (jbuf){0};
    return b;
}

static void reserve(jx *x, jbuf *b, size_t extra)
{
    lr_jx_charge(x, extra);
    if (extra > x->budget.n_output - LR_MIN(b->n, x->budget.n_output))
        lr_jx_fail(x, LARDER_LIMIT, "the template writes too much");
    if (b->cap - b->n >= extra) return;
    size_t cap = LR_MAX(LR_MAX(b->cap * 2, b->n + extra), (size_t)64);
    char *p = lr_jx_alloc(x, cap);
    uint8_t *mask = lr_jx_alloc(x, cap);
    if (b->n) {
        memcpy(p, b->p, b->n);
        memcpy(mask, b->mask, b->n);
    }
    b->p = p;
    b->mask = mask;
    b->cap = cap;
}

static void note(jbuf *b, bool trusted, size_t n)
{
    if (n && trusted) b->any_trusted = true;
    if (n && !trusted) b->any_data = true;
}

void lr_jbuf_add(jx *x, jbuf *b, const char *p, size_t n, bool trusted)
{
    if (!n) return;
    reserve(x, b, n);
    memcpy(b->p + b->n, p, n);
    memset(b->mask + b->n, trusted, n);
    b->n += n;
    note(b, trusted, n);
}

void lr_jbuf_sub(jx *x, jbuf *b, const jstr *s, size_t from, size_t n)
{
    if (!n) return;
    if (!s->mask) {
        lr_jbuf_add(x, b, s->p + from, n, s->trusted);
        return;
    }
    reserve(x, b, n);
    memcpy(b->p + b->n, s->p + from, n);
    memcpy(b->mask + b->n, s->mask + from, n);
    b->n += n;
    b->any_trusted = b->any_data = true;
}

void lr_jbuf_str(jx *x, jbuf *b, const jstr *s) { lr_jbuf_sub(x, b, s, 0, s->n); }

jv lr_jbuf_value(jx *x, jbuf *b)
{
    jstr *s = lr_jx_alloc(x, sizeof *s);
    bool mixed = b->any_trusted && b->any_data;
    *s = (jstr){.p = b->p ? b->p : "",
                .n = b->n,
                .mask = mixed ? b->mask : NULL,
                .trusted = b->any_trusted || !b->n,
                .n_cp = SIZE_MAX,
                .buf = b};
    return (jv){.k = V_STR, .u.s = s};
}

/* ---------------------------------------------------------------- strings */
jv lr_jv_str(jx *x, const char *p, size_t n, bool trusted)
{
    if (n > x->budget.n_output) lr_jx_fail(x, LARDER_LIMIT, "the template makes a string that is too long");
    lr_jx_charge(x, n);
    jstr *s = lr_jx_alloc(x, sizeof *s);
    char *own = lr_jx_alloc(x, n);
    if (n) memcpy(own, p, n);
    *s = (jstr){.p = own, .n = n, .trusted = trusted, .n_cp = SIZE_MAX};
    return (jv){.k = V_STR, .u.s = s};
}

jv lr_jv_cstr(jx *x, const char *c) { return lr_jv_str(x, c, strlen(c), false); }

jv lr_jv_sub(jx *x, const jstr *s, size_t from, size_t n)
{
    jstr *sub = lr_jx_alloc(x, sizeof *sub);
    *sub = (jstr){
        .p = s->p + from, .n = n, .mask = s->mask ? s->mask + from : NULL, .trusted = s->trusted, .n_cp = SIZE_MAX};
    return (jv){.k = V_STR, .u.s = sub};
}

bool lr_js_trusted(const jstr *s, size_t i) { return s->mask ? s->mask[i] != 0 : s->trusted; }

size_t lr_js_count(jx *x, jstr *s)
{
    if (s->n_cp == SIZE_MAX) {
        lr_jx_charge(x, s->n);
        size_t n = 0;
        for (size_t i = 0; i < s->n; i++) n += ((uint8_t)s->p[i] & 0xC0) != 0x80;
        s->n_cp = n;
    }
    return s->n_cp;
}

size_t lr_js_offset(jx *x, jstr *s, size_t cp)
{
    if (lr_js_count(x, s) == s->n) return cp;
    lr_jx_charge(x, s->n);
    size_t i = 0;
    for (; cp && i < s->n; cp--) i += lr_cp_len((uint8_t)s->p[i]);
    return LR_MIN(i, s->n);
}

size_t lr_js_find(jx *x, const jstr *s, const char *p, size_t n, size_t from)
{
    if (from > s->n || n > s->n - from) return SIZE_MAX;
    if (n == 0) return from;
    const char *end = s->p + s->n - n + 1;
    for (const char *at = s->p + from; (at = memchr(at, p[0], (size_t)(end - at))) != NULL; at++) {
        if (memcmp(at, p, n) == 0) {
            lr_jx_charge(x, (size_t)(at - s->p) - from);
            return (size_t)(at - s->p);
        }
        lr_jx_step(x); /* there may be one at every byte */
        lr_jx_charge(x, n);
        if (at + 1 == end) break;
    }
    lr_jx_charge(x, s->n - from);
    return SIZE_MAX;
}

bool lr_js_is(const jstr *s, const char *c) { return s->n == strlen(c) && memcmp(s->p, c, s->n) == 0; }

size_t lr_cp_len(uint8_t lead) { return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4; }

uint32_t lr_cp_at(const char *p, size_t n)
{
    utf8proc_int32_t cp;
    if ((uint8_t)*p < 0x80) return (uint8_t)*p;
    return utf8proc_iterate((const utf8proc_uint8_t *)p, (utf8proc_ssize_t)n, &cp) > 0 ? (uint32_t)cp : 0xFFFD;
}

/* What Python's str.isspace and str.strip take for whitespace. */
bool lr_cp_space(uint32_t cp)
{
    if (cp < 0x80) return (cp >= 9 && cp <= 13) || (cp >= 0x1C && cp <= 0x20);
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 ||
           cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

/* ---------------------------------------------------------------- lists */
jseq *lr_jq_new(jx *x, jflavor flavor, size_t cap)
{
    jseq *q = lr_jx_alloc(x, sizeof *q);
    *q = (jseq){.flavor = flavor, .cap = cap};
    if (cap) q->p = lr_jx_array(x, cap, sizeof *q->p);
    return q;
}

void lr_jq_push(jx *x, jseq *q, jv v)
{
    lr_jx_charge(x, sizeof v);
    if (q->n == q->cap) {
        size_t cap = q->cap ? q->cap * 2 : 8;
        jv *p = lr_jx_array(x, cap, sizeof *p);
        if (q->n) memcpy(p, q->p, q->n * sizeof *p);
        q->p = p;
        q->cap = cap;
    }
    q->p[q->n++] = v;
}

/* ---------------------------------------------------------------- dictionaries: in order, searched linearly */
jdict *lr_jd_new(jx *x, size_t cap)
{
    jdict *d = lr_jx_alloc(x, sizeof *d);
    *d = (jdict){.cap = cap};
    if (cap) {
        d->key = lr_jx_array(x, cap, sizeof *d->key);
        d->val = lr_jx_array(x, cap, sizeof *d->val);
    }
    return d;
}

static void check_key(jx *x, jv key)
{
    if (key.k == V_DICT || key.k == V_NS || (key.k == V_SEQ && key.u.q->flavor == Q_LIST))
        lr_jx_fail(x, LARDER_FORMAT, "unhashable type: '%s'", lr_jv_type(key));
}

jv *lr_jd_find(jx *x, const jdict *d, jv key)
{
    if (key.k == V_STR) return lr_jd_find_name(x, d, (lr_str){key.u.s->p, key.u.s->n});
    check_key(x, key);
    lr_jx_charge(x, d->n * 16);
    for (size_t i = 0; i < d->n; i++)
        if (d->key[i].k != V_STR && lr_jv_equal(x, d->key[i], key)) return &d->val[i];
    return NULL;
}

jv *lr_jd_find_name(jx *x, const jdict *d, lr_str name)
{
    lr_jx_charge(x, d->n * 16);
    for (size_t i = 0; i < d->n; i++) {
        const jstr *s = d->key[i].u.s;
        if (d->key[i].k != V_STR || s->n != name.n) continue;
        lr_jx_charge(x, name.n);
        if (memcmp(s->p, name.p, name.n) == 0) return &d->val[i];
    }
    return NULL;
}

void lr_jd_set(jx *x, jdict *d, jv key, jv val)
{
    check_key(x, key);
    jv *old = lr_jd_find(x, d, key);
    if (old) {
        *old = val;
        return;
    }
    if (d->n == d->cap) {
        size_t cap = d->cap ? d->cap * 2 : 8;
        jv *k = lr_jx_array(x, cap, sizeof *k), *v = lr_jx_array(x, cap, sizeof *v);
        if (d->n) {
            assert(d->key && d->val);
            memcpy(k, d->key, d->n * sizeof *k);
            memcpy(v, d->val, d->n * sizeof *v);
        }
        d->key = k;
        d->val = v;
        d->cap = cap;
    }
    assert(d->key && d->val); /* there is room: cap is not 0 */
    d->key[d->n] = key;
    d->val[d->n++] = val;
}
