/* tok_vocab.c - names of tokens and pairs that merge, in tables of 32-bit numbers.
 *
 * Owns: the name table (name -> id), the pair table (two ids -> rank and result), what counts as control-looking.
 * Refuses to own: where the names come from (tok_gguf.c, tok_json.c), how they are used (tok_bpe.c).
 */
#include "tok_impl.h"

lr_str tok_name(const lr_tokenizer *t, uint32_t id)
{
    uint32_t n;
    memcpy(&n, t->base + t->off[id] - t->prefix, 4);
    return (lr_str){(const char *)t->base + t->off[id], n};
}

static uint32_t mix(uint32_t h)
{
    h ^= h >> 16;
    h *= 0x7feb352dU;
    h ^= h >> 15;
    h *= 0x846ca68bU;
    return h ^ (h >> 16);
}

/* Eight bytes at a time, then one more round for what is left: names are short. */
static uint32_t hash_name(const char *p, size_t n)
{
    uint64_t h = 0x9e3779b97f4a7c15U ^ n;
    while (n >= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        h = (h ^ w) * 0xff51afd7ed558ccdU;
        h ^= h >> 32;
        p += 8;
        n -= 8;
    }
    uint64_t w = 0;
    memcpy(&w, p, n);
    h = (h ^ w) * 0xc4ceb9fe1a85ec53U;
    return mix((uint32_t)(h ^ (h >> 32)));
}

#define ID_MASK ((1U << TOK_ID_BITS) - 1)

uint32_t tok_find(const lr_tokenizer *t, const void *p, size_t n)
{
    if (!t->slots || n == 0) return TOK_NONE;
    uint32_t h = hash_name(p, n);
    for (uint32_t i = h & t->slot_mask; t->slots[i]; i = (i + 1) & t->slot_mask) {
        if ((t->slots[i] ^ h) & ~ID_MASK) continue;
        uint32_t id = (t->slots[i] & ID_MASK) - 1;
        lr_str name = tok_name(t, id);
        if (name.n == n && memcmp(name.p, p, n) == 0) return id;
    }
    return TOK_NONE;
}

static uint32_t table_size(uint32_t n)
{
    uint32_t cap = 16;
    while (cap / 4 * 3 < n) cap *= 2;
    return cap;
}

/* Of tokens with the same name the first keeps it; the others can still be decoded. */
larder_status tok_index(lr_tokenizer *t, larder_error *err)
{
    uint32_t cap = table_size(t->n);
    lr_free(t->slots);
    t->slots = lr_calloc(cap, sizeof(*t->slots));
    if (!t->slots) return LR_NOMEM(err, "the table of token names");
    t->slot_mask = cap - 1;
    for (uint32_t id = 0; id < t->n; id++) {
        lr_str name = tok_name(t, id);
        if (name.n == 0) continue;
        uint32_t h = hash_name(name.p, name.n), i = h & t->slot_mask;
        bool twice = false;
        for (; t->slots[i]; i = (i + 1) & t->slot_mask) {
            if ((t->slots[i] ^ h) & ~ID_MASK) continue;
            lr_str other = tok_name(t, (t->slots[i] & ID_MASK) - 1);
            if ((twice = lr_str_eq(name, other))) break;
        }
        if (!twice) t->slots[i] = (h & ~ID_MASK) | (id + 1);
    }
    return LARDER_OK;
}

int tok_parse_byte(lr_str name)
{
    if (name.n != 6 || memcmp(name.p, "<0x", 3) != 0 || name.p[5] != '>') return -1;
    int v = 0;
    for (int i = 3; i < 5; i++) {
        char c = name.p[i];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                       : -1;
        if (d < 0) return -1;
        v = v * 16 + d;
    }
    return v;
}

larder_status tok_index_bytes(lr_tokenizer *t, larder_error *err)
{
    (void)err;
    for (int b = 0; b < 256; b++) {
        char name[8];
        size_t n;
        if (t->byte_level) {
            n = tok_put_char(tok_byte_char((uint8_t)b), name);
        } else {
            static const char hex[] = "0123456789ABCDEF";
            memcpy(name, "<0x00>", n = 6);
            name[3] = hex[b >> 4];
            name[4] = hex[b & 15];
        }
        t->byte_id[b] = tok_find(t, name, n);
    }
    return LARDER_OK;
}

/* ---------------------------------------------------------------- merges */
/* Merges mostly make one token after the other, or the same one several times: looking there first saves a search. */
static uint32_t find_made(const lr_tokenizer *t, const char *p, size_t n)
{
    uint32_t last = t->n_merges ? t->merges[t->n_merges - 1].made : 0;
    for (uint32_t id = last; id < t->n && id < last + 2; id++) {
        lr_str name = tok_name(t, id);
        if (name.n == n && memcmp(name.p, p, n) == 0) return id;
    }
    return tok_find(t, p, n);
}

larder_status tok_add_merge(lr_tokenizer *t, lr_str left, lr_str right, larder_error *err)
{
    uint32_t l = tok_find(t, left.p, left.n), r = tok_find(t, right.p, right.n);
    if (l == TOK_NONE || r == TOK_NONE) {
        lr_str bad = l == TOK_NONE ? left : right;
        return lr_fail(err, LARDER_FORMAT, "merge %u names \"%.*s\", which is no token", t->n_merges,
                       LR_STR_ARG(bad));
    }
    char joined[2 * TOK_MAX_NAME];
    memcpy(joined, left.p, left.n);
    memcpy(joined + left.n, right.p, right.n);
    uint32_t made = find_made(t, joined, left.n + right.n);
    if (made == TOK_NONE) {
        return lr_fail(err, LARDER_FORMAT, "merge %u makes \"%.*s%.*s\", which is no token", t->n_merges,
                       LR_STR_ARG(left), LR_STR_ARG(right));
    }
    if (t->n_merges == t->cap_merges) {
        uint32_t cap = t->cap_merges ? t->cap_merges + t->cap_merges / 4 : 4096;
        if (cap > TOK_MAX_MERGES) return lr_fail(err, LARDER_LIMIT, "more than %d merges", TOK_MAX_MERGES);
        tok_merge *p = lr_realloc(t->merges, cap * sizeof(*p));
        if (!p) return LR_NOMEM(err, "the merges");
        t->merges = p;
        t->cap_merges = cap;
    }
    t->merges[t->n_merges++] = (tok_merge){l, r, made};
    return LARDER_OK;
}

static uint32_t hash_pair(uint32_t left, uint32_t right)
{
    return mix(left * 0x9e3779b1U ^ mix(right + 0x7f4a7c15U));
}

/* A pair that stands twice keeps its last rank, as in the reference, whose map is filled in order. */
larder_status tok_index_merges(lr_tokenizer *t, larder_error *err)
{
    if (t->n_merges == 0) return LARDER_OK;
    if (t->cap_merges > t->n_merges) {
        tok_merge *p = lr_realloc(t->merges, t->n_merges * sizeof(*p));
        if (p) t->merges = p, t->cap_merges = t->n_merges;
    }
    uint32_t cap = table_size(t->n_merges);
    t->pair_slots = lr_calloc(cap, sizeof(*t->pair_slots));
    if (!t->pair_slots) return LR_NOMEM(err, "the table of merges");
    t->pair_mask = cap - 1;
    for (uint32_t m = 0; m < t->n_merges; m++) {
        uint32_t i = hash_pair(t->merges[m].left, t->merges[m].right) & t->pair_mask;
        for (; t->pair_slots[i]; i = (i + 1) & t->pair_mask) {
            const tok_merge *o = &t->merges[t->pair_slots[i] - 1];
            if (o->left == t->merges[m].left && o->right == t->merges[m].right) break;
        }
        t->pair_slots[i] = m + 1;
    }
    return LARDER_OK;
}

const tok_merge *tok_find_merge(const lr_tokenizer *t, uint32_t left, uint32_t right)
{
    if (!t->pair_slots || left == TOK_NONE || right == TOK_NONE) return NULL;
    for (uint32_t i = hash_pair(left, right) & t->pair_mask; t->pair_slots[i]; i = (i + 1) & t->pair_mask) {
        const tok_merge *m = &t->merges[t->pair_slots[i] - 1];
        if (m->left == left && m->right == right) return m;
    }
    return NULL;
}

/* ---------------------------------------------------------------- what a user must not be able to type */
bool tok_is_guarded(const lr_tokenizer *t, uint32_t id)
{
    return t->guarded && (t->guarded[id >> 3] >> (id & 7) & 1);
}

/* Families mark tool calls, thinking and even turns ("<|User|>") as ordinary added tokens, so an added token is only
 * taken as text if its name does not look like a mark: brackets around it, or a bar inside brackets. */
bool tok_looks_like_control(lr_str name)
{
    if (name.n < 3) return false;
    char a = name.p[0], z = name.p[name.n - 1];
    return (a == '<' && z == '>') || (a == '[' && z == ']') || (a == '{' && z == '}') ||
           memchr(name.p, '|', name.n) != NULL;
}
