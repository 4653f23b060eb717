/* tok_bpe.c - byte pair encoding of one word in O(n log n): a heap of pairs over a linked list of symbols.
 *
 * Owns: the first symbols (characters, bytes, the unknown token) and the order of merging: lowest rank first, leftmost
 * among equals; by pairs where the file has merges, else by the score of the joined name (SentencePiece).
 */
#include "tok_impl.h"

larder_status tok_emit(tok_scratch *s, uint32_t id)
{
    lr_ids *o = s->out;
    if (o->n == o->cap) {
        size_t cap = o->cap ? o->cap * 2 : 64;
        int32_t *p = lr_realloc(o->p, cap * sizeof(*p));
        if (!p) return LR_NOMEM(s->err, "the token ids");
        o->p = p;
        o->cap = cap;
    }
    o->p[o->n++] = (int32_t)id;
    return LARDER_OK;
}

/* ---------------------------------------------------------------- the heap */
static bool before(const tok_pair *a, const tok_pair *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static larder_status push(tok_scratch *s, tok_pair p)
{
    if (s->n_heap == s->cap_heap) {
        size_t cap = s->cap_heap ? s->cap_heap * 2 : 64;
        tok_pair *h = lr_realloc(s->heap, cap * sizeof(*h));
        if (!h) return LR_NOMEM(s->err, "merging");
        s->heap = h;
        s->cap_heap = cap;
    }
    size_t i = s->n_heap++;
    while (i && before(&p, &s->heap[(i - 1) / 2])) {
        s->heap[i] = s->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    s->heap[i] = p;
    return LARDER_OK;
}

static tok_pair pop(tok_scratch *s)
{
    tok_pair top = s->heap[0], p = s->heap[--s->n_heap];
    size_t i = 0;
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= s->n_heap) break;
        if (c + 1 < s->n_heap && before(&s->heap[c + 1], &s->heap[c])) c++;
        if (!before(&s->heap[c], &p)) break;
        s->heap[i] = s->heap[c];
        i = c;
    }
    if (s->n_heap) s->heap[i] = p;
    return top;
}

/* ---------------------------------------------------------------- pairs */
static bool may_be_made(const lr_tokenizer *t, uint32_t id)
{
    return t->kind[id] != LR_TOKEN_CONTROL && !tok_is_guarded(t, id);
}

/* Scores as ranks: the higher score, the lower rank; total, so that NaN in a file cannot disturb the heap. */
static uint32_t rank_of_score(const lr_tokenizer *t, uint32_t id)
{
    uint32_t u;
    memcpy(&u, t->scores + (size_t)id * 4, 4);
    return u >> 31 ? u : ~(u | 0x80000000U);
}

static uint32_t symbol_end(const tok_scratch *s, const tok_symbol *y, lr_str word)
{
    return y->next == TOK_NONE ? (uint32_t)word.n : s->symbols[y->next].at;
}

/* What symbols a and the one after it make; TOK_NONE: nothing. */
static uint32_t joined(const tok_scratch *s, uint32_t a, lr_str word, uint32_t *rank)
{
    const lr_tokenizer *t = s->t;
    const tok_symbol *l = &s->symbols[a];
    if (l->next == TOK_NONE) return TOK_NONE;
    const tok_symbol *r = &s->symbols[l->next];
    uint32_t made = TOK_NONE;
    if (t->pair_slots) {
        const tok_merge *m = tok_find_merge(t, l->id, r->id);
        if (!m) return TOK_NONE;
        made = m->made;
        *rank = (uint32_t)(m - t->merges);
    } else if (t->scores && l->id != TOK_NONE && r->id != TOK_NONE) {
        made = tok_find(t, word.p + l->at, symbol_end(s, r, word) - l->at);
        if (made == TOK_NONE || t->kind[made] != LR_TOKEN_NORMAL) return TOK_NONE;
        *rank = rank_of_score(t, made);
    }
    return made != TOK_NONE && may_be_made(t, made) ? made : TOK_NONE;
}

static larder_status consider(tok_scratch *s, uint32_t a, lr_str word)
{
    uint32_t rank;
    if (a == TOK_NONE || joined(s, a, word, &rank) == TOK_NONE) return LARDER_OK;
    const tok_symbol *l = &s->symbols[a];
    return push(s, (tok_pair){rank, a, l->id, s->symbols[l->next].id});
}

/* ---------------------------------------------------------------- the first symbols */
static uint32_t add_symbol(tok_scratch *s, uint32_t n, uint32_t id, size_t at)
{
    s->symbols[n] = (tok_symbol){n ? n - 1 : TOK_NONE, n + 1, id, (uint32_t)at};
    return n + 1;
}

static uint32_t byte_symbols(tok_scratch *s, lr_str word)
{
    uint32_t n = 0;
    for (size_t i = 0; i < word.n; i++) {
        uint32_t id = s->t->byte_id[(uint8_t)word.p[i]];
        if (id == TOK_NONE && s->t->unk >= 0) id = (uint32_t)s->t->unk;
        if (id != TOK_NONE) n = add_symbol(s, n, id, i);
    }
    return n;
}

static bool all_bytes_known(const lr_tokenizer *t, const char *p, int n)
{
    for (int i = 0; i < n; i++)
        if (t->byte_id[(uint8_t)p[i]] == TOK_NONE) return false;
    return true;
}

/* A character that is no token is its bytes if the vocabulary has them all, else the unknown token, one for several in
 * a row if they are to be fused; without an unknown token it is dropped, as the reference drops it. */
static uint32_t char_symbols(tok_scratch *s, lr_str word)
{
    const lr_tokenizer *t = s->t;
    uint32_t n = 0;
    bool was_unknown = false;
    for (size_t i = 0; i < word.n;) {
        int len = LR_MAX(1, tok_utf8_len((const uint8_t *)word.p + i, word.n - i));
        uint32_t id = tok_find(t, word.p + i, (size_t)len);
        if (id != TOK_NONE && !may_be_made(t, id)) id = TOK_NONE;
        bool unknown = false;
        if (id != TOK_NONE) {
            n = add_symbol(s, n, id, i);
        } else if (t->byte_fallback && all_bytes_known(t, word.p + i, len)) {
            for (int k = 0; k < len; k++)
                n = add_symbol(s, n, t->byte_id[(uint8_t)word.p[i + (size_t)k]], i + (size_t)k);
        } else if (t->unk >= 0) {
            unknown = true;
            if (!(was_unknown && t->fuse_unk)) n = add_symbol(s, n, (uint32_t)t->unk, i);
        }
        was_unknown = unknown;
        i += (size_t)len;
    }
    return n;
}

/* ---------------------------------------------------------------- one word */
static larder_status merge_all(tok_scratch *s, lr_str word)
{
    while (s->n_heap) {
        tok_pair p = pop(s);
        tok_symbol *l = &s->symbols[p.at];
        if (l->id != p.left || l->next == TOK_NONE || s->symbols[l->next].id != p.right) continue;
        uint32_t rank, made = joined(s, p.at, word, &rank);
        if (made == TOK_NONE || rank != p.rank) continue;
        tok_symbol *r = &s->symbols[l->next];
        l->id = made;
        l->next = r->next;
        r->id = TOK_NONE; /* pairs that start here are stale */
        if (l->next != TOK_NONE) s->symbols[l->next].prev = p.at;
        LR_TRY(consider(s, l->prev, word));
        LR_TRY(consider(s, p.at, word));
    }
    return LARDER_OK;
}

static uint32_t whole_word(tok_scratch *s, lr_str word)
{
    if (word.n > TOK_MAX_NAME) return TOK_NONE;
    if (!s->t->byte_level) return tok_find(s->t, word.p, word.n);
    lr_buf *b = &s->word;
    b->n = 0;
    if (!lr_buf_reserve(b, word.n * 2)) return TOK_NONE;
    for (size_t i = 0; i < word.n; i++) b->n += tok_put_char(tok_byte_char((uint8_t)word.p[i]), b->p + b->n);
    return tok_find(s->t, b->p, b->n);
}

larder_status tok_encode_word(tok_scratch *s, lr_str word)
{
    if (s->t->ignore_merges) {
        uint32_t id = whole_word(s, word);
        if (s->word.failed) return LR_NOMEM(s->err, "a word");
        if (id != TOK_NONE && may_be_made(s->t, id)) return tok_emit(s, id);
    }
    if (word.n > s->n_symbols) {
        size_t n = LR_MAX(word.n, s->n_symbols * 2);
        tok_symbol *p = lr_realloc(s->symbols, n * sizeof(*p));
        if (!p) return LR_NOMEM(s->err, "a word");
        s->symbols = p;
        s->n_symbols = n;
    }
    uint32_t n = s->t->byte_level ? byte_symbols(s, word) : char_symbols(s, word);
    if (!n) return LARDER_OK;
    s->symbols[n - 1].next = TOK_NONE;
    s->n_heap = 0;
    for (uint32_t i = 0; i + 1 < n; i++) LR_TRY(consider(s, i, word));
    LR_TRY(merge_all(s, word));
    for (uint32_t i = 0; i != TOK_NONE; i = s->symbols[i].next) LR_TRY(tok_emit(s, s->symbols[i].id));
    return LARDER_OK;
}
