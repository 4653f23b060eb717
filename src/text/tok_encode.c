/* tok_encode.c - text to ids: added tokens first, then normalizing, splitting, merging.
 *
 * Owns: one call's scratch, the walk over the text, and the rule that control tokens come from trusted bytes only.
 * Refuses to own: each of those steps (tok_added.c, tok_unicode.c, tok_split.c, tok_bpe.c).
 */
#include "tok_impl.h"

void tok_scratch_free(tok_scratch *s)
{
    pcre2_match_data_free(s->match);
    pcre2_match_context_free(s->context);
    pcre2_jit_stack_free(s->stack);
    lr_free(s->symbols);
    lr_free(s->heap);
    lr_buf_free(&s->word);
    lr_buf_free(&s->norm[0]);
    lr_buf_free(&s->norm[1]);
    for (int i = 0; i < TOK_MAX_STEPS; i++) lr_buf_free(&s->step[i]);
}

void lr_ids_free(lr_ids *ids)
{
    lr_free(ids->p);
    *ids = (lr_ids){0};
}

/* ---------------------------------------------------------------- whose bytes */
typedef struct trust {
    const lr_text_run *runs;
    size_t n_runs;
    size_t i, begin; /* the run that was looked at last, and where it begins: places are asked for in order */
    bool text_only;  /* after normalizing, origins are gone: nothing guarded */
} trust;

static bool may_match(void *user, size_t at, const tok_added *a)
{
    trust *w = user;
    if (!a->guarded) return true;
    if (w->text_only) return false;
    if (!w->runs) return true;
    while (w->i < w->n_runs && w->begin + w->runs[w->i].n <= at) w->begin += w->runs[w->i++].n;
    size_t end = at + a->n, begin = w->begin;
    for (size_t i = w->i; begin < end; i++) {
        if (i >= w->n_runs || (w->runs[i].n && !w->runs[i].trusted)) return false;
        begin += w->runs[i].n;
    }
    return true;
}

/* ---------------------------------------------------------------- the walk */
static uint32_t char_before(lr_str text, size_t at)
{
    size_t i = at;
    do i--;
    while (i && ((uint8_t)text.p[i] & 0xc0) == 0x80);
    int n = tok_utf8_len((const uint8_t *)text.p + i, at - i);
    return n ? tok_get_char((const uint8_t *)text.p + i, n) : 0;
}

static uint32_t char_after(lr_str text, size_t at, int *n)
{
    *n = tok_utf8_len((const uint8_t *)text.p + at, text.n - at);
    return *n ? tok_get_char((const uint8_t *)text.p + at, *n) : 0;
}

static bool stands_alone(lr_str text, size_t begin, size_t end)
{
    int n;
    if (begin > 0 && tok_is_word(char_before(text, begin))) return false;
    return end >= text.n || !tok_is_word(char_after(text, end, &n));
}

typedef larder_status plain_fn(tok_scratch *s, lr_str text, bool first);

static larder_status walk(tok_scratch *s, const tok_matcher *m, trust *w, lr_str text, bool first, plain_fn *plain)
{
    size_t done = 0;
    for (size_t at = 0; m->n && at < text.n;) {
        const tok_added *a = tok_match_added(s->t, m, text, at, may_match, w);
        if (!a) {
            at++;
            continue;
        }
        size_t begin = at, end = at + a->n;
        at = end;
        if ((a->flags & TOK_SINGLE_WORD) && !stands_alone(text, begin, end)) continue;
        if (a->flags & TOK_LSTRIP) {
            while (begin > done) {
                uint32_t c = char_before(text, begin);
                char put[4];
                if (!tok_is_space(c)) break;
                begin -= tok_put_char(c, put);
            }
        }
        for (int n; (a->flags & TOK_RSTRIP) && end < text.n && tok_is_space(char_after(text, end, &n));
             end += (size_t)n) {}
        begin = LR_MAX(begin, done);
        if (begin > done) LR_TRY(plain(s, (lr_str){text.p + done, begin - done}, first && done == 0));
        LR_TRY(tok_emit(s, a->id));
        done = end;
        at = LR_MAX(at, end);
    }
    if (done < text.n) LR_TRY(plain(s, (lr_str){text.p + done, text.n - done}, first && done == 0));
    return LARDER_OK;
}

static larder_status words(tok_scratch *s, lr_str text, bool first) { return tok_pretokenize(s, 0, text, first); }

/* Text between added tokens; some of them are only found after normalizing. */
static larder_status between(tok_scratch *s, lr_str text, bool first)
{
    LR_TRY(tok_normalize(s, s->t->norm, s->t->n_norm, text, &text));
    if (!s->find_normalized || !s->t->normalized.n) return words(s, text, first);
    trust w = {.text_only = s->guard};
    return walk(s, &s->t->normalized, &w, text, first, words);
}

static larder_status encode(const lr_tokenizer *t, lr_str text, int flags, const lr_text_run *runs, size_t n_runs,
                            lr_ids *out, larder_error *err)
{
    size_t n_before = out->n;
    bool find = (flags & LR_ENCODE_ADDED) || runs;
    tok_scratch s = {.t = t,
                     .out = out,
                     .err = err,
                     .find_normalized = find,
                     .guard = runs != NULL,
                     .deadline = lr_now_ns() + tok_time_ns(text.n)};
    larder_status st = LARDER_OK;
    for (int i = 0; !st && (flags & LR_ENCODE_SPECIAL) && i < t->n_head; i++) st = tok_emit(&s, t->head[i]);
    trust w = {.runs = runs, .n_runs = n_runs};
    if (!st && find) st = walk(&s, runs ? &t->guard : &t->raw, &w, text, true, between);
    else if (!st && text.n) st = between(&s, text, true);
    for (int i = 0; !st && (flags & LR_ENCODE_SPECIAL) && i < t->n_tail; i++) st = tok_emit(&s, t->tail[i]);
    if (st) out->n = n_before;
    tok_scratch_free(&s);
    return st;
}

/* ---------------------------------------------------------------- bytes that are no UTF-8 become U+FFFD first */
static larder_status check_size(size_t n, larder_error *err)
{
    if (n <= TOK_MAX_TEXT) return LARDER_OK;
    return lr_fail(err, LARDER_LIMIT, "the text has %zu bytes; at most %d can be tokenized at once", n, TOK_MAX_TEXT);
}

larder_status lr_tokenizer_encode(const lr_tokenizer *t, lr_str text, int flags, lr_ids *out, larder_error *err)
{
    LR_TRY(check_size(text.n, err));
    if (tok_utf8_valid((const uint8_t *)text.p, text.n) == text.n) return encode(t, text, flags, NULL, 0, out, err);
    lr_buf clean = {0};
    tok_utf8_replace(&clean, (const uint8_t *)text.p, text.n);
    larder_status st = clean.failed ? LR_NOMEM(err, "the text")
                                    : encode(t, (lr_str){clean.p, clean.n}, flags, NULL, 0, out, err);
    lr_buf_free(&clean);
    return st;
}

/* The same for text in runs. A character that lies across a border counts as the first run's, a replaced one as data. */
static bool clean_runs(const char *text, const lr_text_run *runs, size_t n_runs, lr_buf *clean, lr_text_run *out,
                       size_t *n_out, size_t n)
{
    const uint8_t *p = (const uint8_t *)text;
    size_t i = 0, r = 0, left = n_runs ? runs[0].n : 0, m = 0;
    while (i < n) {
        while (left == 0) left = runs[++r].n;
        int len = tok_utf8_len(p + i, n - i);
        size_t bad = len ? (size_t)len : tok_utf8_bad(p + i, n - i), made = len ? (size_t)len : 3;
        bool trusted = runs[r].trusted && len;
        lr_buf_add(clean, len ? (const char *)p + i : "\xef\xbf\xbd", made);
        if (m && out[m - 1].trusted == trusted) out[m - 1].n += made;
        else out[m++] = (lr_text_run){made, trusted};
        for (size_t k = 0; k < bad; k++) {
            while (left == 0) left = runs[++r].n;
            left--;
        }
        i += bad;
    }
    *n_out = m;
    return !clean->failed;
}

larder_status lr_tokenizer_encode_runs(const lr_tokenizer *t, const char *text, const lr_text_run *runs,
                                       size_t n_runs, lr_ids *out, larder_error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < n_runs; i++)
        if (!lr_add_size(n, runs[i].n, &n)) return lr_fail(err, LARDER_USAGE, "the runs are longer than memory");
    LR_TRY(check_size(n, err));
    if (n == 0) return LARDER_OK;
    if (tok_utf8_valid((const uint8_t *)text, n) == n) return encode(t, (lr_str){text, n}, 0, runs, n_runs, out, err);
    lr_buf clean = {0};
    lr_text_run *own = lr_alloc((n + 1) * sizeof(*own)); /* rare and short-lived: one run per character at worst */
    size_t n_own = 0;
    larder_status st = LARDER_OK;
    if (!own || !clean_runs(text, runs, n_runs, &clean, own, &n_own, n)) st = LR_NOMEM(err, "the text");
    if (!st) st = encode(t, (lr_str){clean.p, clean.n}, 0, own, n_own, out, err);
    lr_buf_free(&clean);
    lr_free(own);
    return st;
}

/* ---------------------------------------------------------------- finishing and asking */
void tok_add_end(lr_tokenizer *t, int64_t id)
{
    if (id < 0 || id >= t->n || t->n_ends == (int)LR_LEN(t->ends) || lr_tokenizer_is_end(t, (int32_t)id)) return;
    t->ends[t->n_ends++] = (int32_t)id;
}

/* Names under which families end a turn. "<|end|>" ends only a part of an answer where "<|return|>" and "<|call|>" end
 * it all (gpt-oss). Only control-like tokens count: the letters of a name may well be ordinary text elsewhere. */
static void find_ends(lr_tokenizer *t)
{
    static const char *const names[] = {
        "<|eot_id|>",    "<|eom_id|>",    "<|im_end|>",      "<|return|>",         "<|call|>",
        "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<|end_of_turn|>",    "<|eot|>",
        "<turn|>",       "<EOT>",         "_<EOT>",          "<end_of_utterance>", "<｜end▁of▁sentence｜>",
        "<|end|>",
    };
    bool parts = tok_find(t, "<|return|>", 10) != TOK_NONE && tok_find(t, "<|call|>", 8) != TOK_NONE;
    for (size_t i = 0; i < LR_LEN(names) - (parts ? 1 : 0); i++) {
        uint32_t id = tok_find(t, names[i], strlen(names[i]));
        if (id != TOK_NONE && (t->kind[id] == LR_TOKEN_CONTROL || t->kind[id] == LR_TOKEN_ADDED)) tok_add_end(t, id);
    }
}

larder_status tok_finish(lr_tokenizer *t, larder_error *err)
{
    LR_TRY(tok_index_bytes(t, err));
    LR_TRY(tok_index_merges(t, err));
    LR_TRY(tok_index_added(t, err));
    lr_free(t->added);
    t->added = NULL;
    t->n_added = t->cap_added = 0;
    char *names = t->blob.p ? lr_realloc(t->blob.p, t->blob.n) : NULL; /* it grew by doubling */
    if (names) {
        t->base = (const uint8_t *)(t->blob.p = names);
        t->blob.cap = t->blob.n;
    }
    tok_add_end(t, t->eos);
    find_ends(t);
    return LARDER_OK;
}

static void matcher_free(tok_matcher *m) { lr_free(m->p); }

void lr_tokenizer_free(lr_tokenizer *t)
{
    if (!t) return;
    lr_free(t->off);
    lr_free(t->kind);
    lr_free(t->guarded);
    lr_free(t->slots);
    lr_free(t->merges);
    lr_free(t->pair_slots);
    lr_free(t->added);
    lr_buf_free(&t->blob);
    matcher_free(&t->raw);
    matcher_free(&t->normalized);
    matcher_free(&t->guard);
    for (int i = 0; i < TOK_MAX_STEPS; i++) {
        tok_step_free(&t->norm[i]);
        tok_step_free(&t->pre[i]);
    }
    lr_free(t);
}

uint32_t lr_tokenizer_size(const lr_tokenizer *t) { return t->n; }

int32_t lr_tokenizer_bos(const lr_tokenizer *t) { return t->bos; }

int32_t lr_tokenizer_eos(const lr_tokenizer *t) { return t->eos; }

bool lr_tokenizer_adds_bos(const lr_tokenizer *t)
{
    return t->n_head > 0 && t->bos >= 0 && t->head[0] == (uint32_t)t->bos;
}

bool lr_tokenizer_is_end(const lr_tokenizer *t, int32_t id)
{
    for (int i = 0; i < t->n_ends; i++)
        if (t->ends[i] == id) return true;
    return false;
}

lr_token_kind lr_tokenizer_kind(const lr_tokenizer *t, int32_t id)
{
    return id < 0 || (uint32_t)id >= t->n ? LR_TOKEN_UNUSED : (lr_token_kind)t->kind[id];
}

int32_t lr_tokenizer_find(const lr_tokenizer *t, lr_str name)
{
    uint32_t id = tok_find(t, name.p, name.n);
    return id == TOK_NONE ? -1 : (int32_t)id;
}
