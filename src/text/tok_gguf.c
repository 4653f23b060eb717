/* tok_gguf.c - a tokenizer from the tokenizer.ggml.* keys of a GGUF, and back.
 *
 * Owns: what those keys mean and which of their values are refused. The names and scores stay in the mapped file.
 * Refuses to own: where the keys come from (src/load), what the pre-tokenizers' names mean (tok_pre.c).
 */
#include "tok_impl.h"

#include <stdio.h>

/* GGUF's numbers for kinds of tokens. */
enum { GGUF_NORMAL = 1, GGUF_UNKNOWN, GGUF_CONTROL, GGUF_USER_DEFINED, GGUF_UNUSED, GGUF_BYTE };
static const char space_mark[] = "\xe2\x96\x81";

#define KEY "tokenizer.ggml."
#define END_IDS "larder.tokenizer.end_token_ids"

static larder_status array(const lr_file *f, const char *key, lr_kv_type elem, const lr_kv **out, larder_error *err)
{
    *out = lr_file_key(f, key);
    if (!*out) return LARDER_OK;
    bool right = (*out)->type == LR_KV_ARR &&
                 ((*out)->elem == elem || (elem == LR_KV_I32 && (*out)->elem == LR_KV_U32));
    if (!right) return lr_fail(err, LARDER_FORMAT, "%s is not an array of %s", key, lr_kv_type_name(elem));
    return LARDER_OK;
}

static larder_status read_names(lr_tokenizer *t, const lr_file *f, larder_error *err)
{
    const lr_kv *kv;
    LR_TRY(array(f, KEY "tokens", LR_KV_STR, &kv, err));
    if (!kv || kv->n == 0)
        return lr_fail(err, LARDER_FORMAT, "the vocabulary (tokenizer.ggml.tokens) is empty or missing");
    if (kv->n > TOK_MAX_VOCAB || kv->n_bytes > UINT32_MAX) {
        return lr_fail(err, LARDER_LIMIT, "the vocabulary claims %llu tokens; at most %d are taken",
                       (unsigned long long)kv->n, TOK_MAX_VOCAB);
    }
    t->base = kv->data;
    t->prefix = 8;
    t->off = lr_calloc((size_t)kv->n, sizeof(*t->off));
    t->kind = lr_calloc((size_t)kv->n, 1);
    if (!t->off || !t->kind) return LR_NOMEM(err, "the vocabulary");
    lr_str_iter it = lr_str_walk(kv);
    for (lr_str name; lr_str_next(&it, &name); t->n++) {
        if (name.n > TOK_MAX_NAME)
            return lr_fail(err, LARDER_LIMIT, "token %u has a name of %zu bytes", t->n, name.n);
        t->off[t->n] = (uint32_t)((const uint8_t *)name.p - kv->data);
    }
    return LARDER_OK;
}

static lr_token_kind kind_of(int64_t type)
{
    switch (type) {
    case GGUF_UNKNOWN: return LR_TOKEN_UNKNOWN;
    case GGUF_CONTROL: return LR_TOKEN_CONTROL;
    case GGUF_USER_DEFINED: return LR_TOKEN_ADDED;
    case GGUF_UNUSED: return LR_TOKEN_UNUSED;
    case GGUF_BYTE: return LR_TOKEN_BYTE;
    default: return LR_TOKEN_NORMAL;
    }
}

/* Some converters call every token normal; a name that can only be a mark is control nevertheless. */
static bool is_mark(lr_str name)
{
    static const char bar[] = "\xef\xbd\x9c"; /* the wide bar of DeepSeek */
    if (name.n < 5 || name.p[0] != '<' || name.p[name.n - 1] != '>') return false;
    return (name.p[1] == '|' && name.p[name.n - 2] == '|') || (name.n > 8 && memcmp(name.p + 1, bar, 3) == 0);
}

static larder_status read_kinds(lr_tokenizer *t, const lr_file *f, larder_error *err)
{
    const lr_kv *kv;
    LR_TRY(array(f, KEY "token_type", LR_KV_I32, &kv, err));
    if (kv && kv->n != t->n) {
        return lr_fail(err, LARDER_FORMAT, "tokenizer.ggml.token_type has %llu entries for %u tokens",
                       (unsigned long long)kv->n, t->n);
    }
    for (uint32_t id = 0; id < t->n; id++) {
        uint32_t type = GGUF_NORMAL;
        if (kv) memcpy(&type, kv->data + (size_t)id * 4, 4);
        lr_token_kind kind = kind_of(type);
        lr_str name = tok_name(t, id);
        if (kind == LR_TOKEN_NORMAL && is_mark(name)) kind = LR_TOKEN_CONTROL;
        t->kind[id] = (uint8_t)kind;
        if (kind != LR_TOKEN_CONTROL && kind != LR_TOKEN_ADDED && kind != LR_TOKEN_UNKNOWN) continue;
        if (name.n == 0 || name.n > TOK_MAX_ADDED_NAME) continue; /* never found in a text, but decoded */
        LR_TRY(tok_add_added(t, id, t->off[id], (uint32_t)name.n, kind == LR_TOKEN_ADDED ? 0 : TOK_SPECIAL, err));
    }
    return LARDER_OK;
}

static larder_status read_scores(lr_tokenizer *t, const lr_file *f, larder_error *err)
{
    const lr_kv *kv;
    LR_TRY(array(f, KEY "scores", LR_KV_F32, &kv, err));
    if (!kv) return LARDER_OK;
    if (kv->n != t->n) {
        return lr_fail(err, LARDER_FORMAT, "tokenizer.ggml.scores has %llu entries for %u tokens",
                       (unsigned long long)kv->n, t->n);
    }
    t->scores = kv->data;
    return LARDER_OK;
}

/* Merges are "left right"; neither side is empty. One that names what is no token can never apply: it is left out, and
 * said once. */
static larder_status read_merges(lr_tokenizer *t, const lr_file *f, larder_error *err)
{
    const lr_kv *kv;
    LR_TRY(array(f, KEY "merges", LR_KV_STR, &kv, err));
    if (!kv) return LARDER_OK;
    if (kv->n > TOK_MAX_MERGES) {
        return lr_fail(err, LARDER_LIMIT, "the vocabulary claims %llu merges; at most %d are taken",
                       (unsigned long long)kv->n, TOK_MAX_MERGES);
    }
    t->merges = lr_alloc((size_t)kv->n * sizeof(*t->merges) + 1);
    if (!t->merges) return LR_NOMEM(err, "the merges");
    t->cap_merges = (uint32_t)kv->n;
    uint64_t bad = 0;
    lr_str_iter it = lr_str_walk(kv);
    for (lr_str m; lr_str_next(&it, &m);) {
        const char *space = m.n > 2 && m.n < TOK_MAX_NAME ? memchr(m.p + 1, ' ', m.n - 1) : NULL;
        if (!space) {
            bad++;
            continue;
        }
        lr_str left = {m.p, (size_t)(space - m.p)}, right = {space + 1, m.n - (size_t)(space - m.p) - 1};
        larder_status st = tok_add_merge(t, left, right, NULL);
        if (st == LARDER_FORMAT) bad++;
        else if (st) return lr_fail(err, st, "out of memory for the merges");
    }
    if (bad)
        lr_log(LARDER_LOG_WARN, "%llu merges of the vocabulary name no tokens and are left out",
               (unsigned long long)bad);
    return LARDER_OK;
}

static larder_status read_id(const lr_tokenizer *t, const lr_file *f, const char *key, int32_t *io, larder_error *err)
{
    if (!lr_file_key(f, key)) return LARDER_OK;
    int64_t v = -1;
    const lr_kv *kv = lr_file_key(f, key);
    if (!lr_kv_integer(kv, 0, &v)) return lr_fail(err, LARDER_FORMAT, "%s is not a number", key);
    if (v == -1 || v == UINT32_MAX) { /* how some files say "none" */
        *io = -1;
        return LARDER_OK;
    }
    if (v < 0 || v >= t->n) {
        return lr_fail(err, LARDER_FORMAT, "%s is %lld, but the vocabulary has %u tokens", key, (long long)v, t->n);
    }
    *io = (int32_t)v;
    return LARDER_OK;
}

static larder_status read_ids(lr_tokenizer *t, const lr_file *f, larder_error *err)
{
    LR_TRY(read_id(t, f, KEY "bos_token_id", &t->bos, err));
    LR_TRY(read_id(t, f, KEY "eos_token_id", &t->eos, err));
    LR_TRY(read_id(t, f, KEY "padding_token_id", &t->pad, err));
    LR_TRY(read_id(t, f, KEY "unknown_token_id", &t->unk, err));
    static const char *const ends[] = {KEY "eot_token_id", KEY "eom_token_id"};
    for (size_t i = 0; i < LR_LEN(ends); i++) {
        int32_t id = -1;
        LR_TRY(read_id(t, f, ends[i], &id, err));
        tok_add_end(t, id);
    }
    const lr_kv *more;
    LR_TRY(array(f, END_IDS, LR_KV_I32, &more, err));
    for (uint64_t i = 0; more && i < more->n; i++) {
        int64_t id = -1;
        if (!lr_kv_integer(more, i, &id) || id < 0 || id >= t->n)
            return lr_fail(err, LARDER_FORMAT, END_IDS "[%llu] is no token of the vocabulary", (unsigned long long)i);
        tok_add_end(t, id);
    }
    return LARDER_OK;
}

static larder_status add_affixes(lr_tokenizer *t, const lr_file *f, bool bos, larder_error *err)
{
    bool eos = false;
    LR_TRY(lr_key_bool(f, KEY "add_bos_token", &bos, err));
    LR_TRY(lr_key_bool(f, KEY "add_eos_token", &eos, err));
    if (bos && t->bos >= 0) t->head[t->n_head++] = (uint32_t)t->bos;
    if (eos && t->eos >= 0) t->tail[t->n_tail++] = (uint32_t)t->eos;
    return LARDER_OK;
}

/* SentencePiece: spaces become marks, one before the text if the file does not say otherwise. */
static larder_status set_sentencepiece(lr_tokenizer *t, const lr_file *f, bool prefix, larder_error *err)
{
    t->space_prefix = prefix;
    LR_TRY(lr_key_bool(f, KEY "add_space_prefix", &t->space_prefix, err));
    if (t->space_prefix) {
        tok_step *step = &t->norm[t->n_norm++];
        step->kind = TOK_PREPEND;
        if (!(step->text = lr_strndup(space_mark, 3))) return LR_NOMEM(err, "a normalizer");
        step->n_text = 3;
    }
    tok_step *step = &t->norm[t->n_norm++];
    step->kind = TOK_REPLACE;
    if (!(step->text = lr_strndup(space_mark, 3))) return LR_NOMEM(err, "a normalizer");
    step->n_text = 3;
    LR_TRY(tok_compile(&step->regex, LR_STR(" "), true, err));
    t->byte_fallback = t->fuse_unk = true;
    t->decoder = TOK_DECODE_PIECES;
    t->decode_bytes = t->decode_spaces = true;
    t->decode_strip = t->space_prefix ? 1 : 0;
    return LARDER_OK;
}

static larder_status read_model(lr_tokenizer *t, const lr_file *f, larder_error *err)
{
    lr_str model = {0}, pre = {0};
    LR_TRY(lr_key_str(f, KEY "model", &model, err));
    LR_TRY(lr_key_str(f, KEY "pre", &pre, err));
    if (model.n == 0)
        return lr_fail(err, LARDER_FORMAT, "the file has no tokenizer (tokenizer.ggml.model is missing)");
    bool spm = lr_str_is(model, "llama"), bpe = lr_str_is(model, "gpt2"), gemma4 = lr_str_is(model, "gemma4");
    if (!spm && !bpe && !gemma4) {
        return lr_fail(err, LARDER_UNSUPPORTED,
                       "the file's tokenizer is of kind \"%.*s\"; larder has llama, gpt2 and gemma4",
                       LR_STR_ARG(model));
    }
    LR_TRY(read_names(t, f, err));
    if (spm) t->bos = 1, t->eos = 2, t->unk = 0;
    LR_TRY(read_ids(t, f, err));
    t->bos = t->bos < (int32_t)t->n ? t->bos : -1;
    t->eos = t->eos < (int32_t)t->n ? t->eos : -1;
    LR_TRY(read_kinds(t, f, err));
    LR_TRY(tok_index(t, err));
    LR_TRY(read_merges(t, f, err));
    if (spm) {
        LR_TRY(read_scores(t, f, err));
        if (!t->scores && !t->n_merges)
            return lr_fail(err, LARDER_FORMAT, "the vocabulary has no scores (tokenizer.ggml.scores)");
        LR_TRY(set_sentencepiece(t, f, true, err));
        return add_affixes(t, f, true, err);
    }
    if (!lr_file_key(f, KEY "merges"))
        return lr_fail(err, LARDER_FORMAT, "the vocabulary has no merges (tokenizer.ggml.merges)");
    if (gemma4) { /* pieces with marks for spaces, merged by rank */
        LR_TRY(set_sentencepiece(t, f, false, err));
        tok_step *step = &t->pre[t->n_pre++];
        step->kind = TOK_SPLIT;
        step->behaviour = TOK_ISOLATED;
        LR_TRY(tok_compile(&step->regex, LR_STR("[^\\n]+|[\\n]+"), false, err));
        return add_affixes(t, f, true, err);
    }
    if (pre.n == 0) {
        pre = LR_STR("default");
        lr_log(LARDER_LOG_WARN, "the file does not name its pre-tokenizer; tokens may differ from the original's");
    }
    t->byte_level = true;
    t->decoder = TOK_DECODE_BYTES;
    LR_TRY(tok_set_pre(t, pre, err));
    return add_affixes(t, f, t->n_pre == 1 && (lr_str_is(pre, "llama-bpe") || lr_str_is(pre, "tekken")), err);
}

larder_status lr_tokenizer_from_gguf(const lr_file *f, lr_tokenizer **out, larder_error *err)
{
    larder_status st = LARDER_OK;
    *out = NULL;
    lr_tokenizer *t = lr_calloc(1, sizeof(*t));
    if (!t) return LR_NOMEM(err, "the tokenizer");
    t->bos = t->eos = t->unk = t->pad = -1;
    LR_GO(read_model(t, f, err));
    LR_GO(tok_finish(t, err));
    *out = t;
    return LARDER_OK;
fail:
    lr_tokenizer_free(t);
    return st;
}

/* ---------------------------------------------------------------- writing */
static void put_u64(lr_buf *b, uint64_t v) { lr_buf_add(b, &v, 8); }

static void put_str(lr_buf *b, lr_str s)
{
    put_u64(b, s.n);
    lr_buf_add(b, s.p, s.n);
}

typedef struct writer {
    const lr_tokenizer *t;
    lr_file *f;
    uint32_t n; /* rows */
    size_t used;
    lr_kv *kv;
    size_t cap;
    larder_error *err;
} writer;

static larder_status put(writer *w, const char *key, lr_kv_type type, lr_kv_type elem, uint64_t n, const void *p,
                         size_t n_bytes)
{
    if (w->used == w->cap) return lr_fail(w->err, LARDER_INTERNAL, "too many tokenizer keys");
    if (!lr_kv_make(w->f, &w->kv[w->used], lr_str_of(key), type, elem, n, p, n_bytes))
        return LR_NOMEM(w->err, "the keys");
    w->used++;
    return LARDER_OK;
}

static larder_status put_buf(writer *w, const char *key, lr_kv_type elem, uint64_t n, lr_buf *b)
{
    larder_status st = b->failed ? LR_NOMEM(w->err, "the keys")
                                 : put(w, key, LR_KV_ARR, elem, n, b->p ? b->p : "", b->n);
    lr_buf_free(b);
    return st;
}

static larder_status put_bool(writer *w, const char *key, bool v)
{
    uint8_t b = v;
    return put(w, key, LR_KV_BOOL, LR_KV_BOOL, 1, &b, 1);
}

static larder_status put_id(writer *w, const char *key, int32_t id)
{
    uint32_t u = (uint32_t)id;
    return id < 0 ? LARDER_OK : put(w, key, LR_KV_U32, LR_KV_U32, 1, &u, 4);
}

static larder_status put_text(writer *w, const char *key, const char *text)
{
    return put(w, key, LR_KV_STR, LR_KV_STR, 1, text, strlen(text));
}

/* Rows past the vocabulary get names that no text has. */
static larder_status put_names(writer *w)
{
    lr_buf b = {0};
    for (uint32_t id = 0; id < w->n; id++) {
        char pad[24];
        lr_str name = id < w->t->n ? tok_name(w->t, id) : (lr_str){0};
        if (name.n == 0) {
            snprintf(pad, sizeof(pad), "[PAD%u]", id);
            name = lr_str_of(pad);
        }
        put_str(&b, name);
    }
    return put_buf(w, KEY "tokens", LR_KV_STR, w->n, &b);
}

static int32_t type_of(const lr_tokenizer *t, uint32_t id)
{
    if (id >= t->n || tok_name(t, id).n == 0) return GGUF_UNUSED;
    switch ((lr_token_kind)t->kind[id]) {
    case LR_TOKEN_CONTROL: return (int32_t)id == t->unk ? GGUF_UNKNOWN : GGUF_CONTROL;
    case LR_TOKEN_UNKNOWN: return GGUF_UNKNOWN;
    case LR_TOKEN_UNUSED: return GGUF_UNUSED;
    case LR_TOKEN_BYTE: return GGUF_BYTE;
    case LR_TOKEN_ADDED: {
        /* found only after spaces became marks, thus by merging: an ordinary token to GGUF */
        lr_str name = tok_name(t, id);
        bool marks = name.n >= 3 && memcmp(name.p, space_mark, 3) == 0 && !t->byte_level;
        return marks ? GGUF_NORMAL : GGUF_USER_DEFINED;
    }
    case LR_TOKEN_NORMAL: break;
    }
    return GGUF_NORMAL;
}

static larder_status put_types(writer *w)
{
    lr_buf b = {0};
    for (uint32_t id = 0; id < w->n; id++) {
        int32_t type = type_of(w->t, id);
        lr_buf_add(&b, &type, 4);
    }
    return put_buf(w, KEY "token_type", LR_KV_I32, w->n, &b);
}

/* The score of a token is minus the first rank that makes it, so that merging by scores follows the merges' order. */
static larder_status put_scores(writer *w)
{
    const lr_tokenizer *t = w->t;
    float *scores = lr_calloc(LR_MAX(w->n, t->n), sizeof(*scores));
    if (!scores) return LR_NOMEM(w->err, "the scores");
    if (t->n_merges) {
        for (uint32_t i = t->n_merges; i-- > 0;) scores[t->merges[i].made] = -(float)i - 1;
        for (uint32_t i = 0; i < t->n; i++)
            if (scores[i] == 0 && t->kind[i] == LR_TOKEN_NORMAL) scores[i] = -(float)t->n_merges - (float)i;
    } else if (t->scores) {
        memcpy(scores, t->scores, (size_t)t->n * 4);
    }
    larder_status st = put(w, KEY "scores", LR_KV_ARR, LR_KV_F32, w->n, scores, (size_t)w->n * sizeof(*scores));
    lr_free(scores);
    return st;
}

static larder_status put_merges(writer *w)
{
    const lr_tokenizer *t = w->t;
    lr_buf b = {0};
    for (uint32_t i = 0; i < t->n_merges; i++) {
        lr_str l = tok_name(t, t->merges[i].left), r = tok_name(t, t->merges[i].right);
        if (memchr(l.p + 1, ' ', l.n - 1)) {
            lr_buf_free(&b);
            return lr_fail(w->err, LARDER_UNSUPPORTED, "merge %u has a space in a name, which GGUF cannot say", i);
        }
        put_u64(&b, l.n + r.n + 1);
        lr_buf_add(&b, l.p, l.n);
        lr_buf_putc(&b, ' ');
        lr_buf_add(&b, r.p, r.n);
    }
    return put_buf(w, KEY "merges", LR_KV_STR, t->n_merges, &b);
}

static bool marks_spaces(const tok_step *s)
{
    return s->kind == TOK_REPLACE && s->regex.literal && strcmp(s->regex.source, " ") == 0 && s->n_text == 3 &&
           memcmp(s->text, space_mark, 3) == 0;
}

/* The only shape of SentencePiece tokenizers that GGUF's "llama" says: marks for spaces, a mark in front or not, and no
 * pattern, or one that looks for a space where there is none left. */
static bool is_sentencepiece(const lr_tokenizer *t, bool *prefix)
{
    int n = t->n_norm;
    bool idle = t->n_pre == 0 || (t->n_pre == 1 && t->pre[0].kind == TOK_SPLIT && t->pre[0].regex.literal &&
                                  strcmp(t->pre[0].regex.source, " ") == 0);
    if (t->n_pre == 1 && n == 0 && t->pre[0].kind == TOK_METASPACE && t->pre[0].scheme != TOK_FIRST &&
        t->pre[0].n_text == 3 && memcmp(t->pre[0].text, space_mark, 3) == 0) {
        *prefix = t->pre[0].scheme == TOK_ALWAYS;
        return !t->pre[0].right;
    }
    if (t->byte_level || !idle || n < 1 || n > 2 || !marks_spaces(&t->norm[n - 1])) return false;
    *prefix = n == 2;
    return n == 1 ||
           (t->norm[0].kind == TOK_PREPEND && t->norm[0].n_text == 3 && memcmp(t->norm[0].text, space_mark, 3) == 0);
}

/* The tokens that end an answer besides EOS: the first two under the names that others read, all of them, where there
 * are more, in a list of ours. */
static larder_status put_ends(writer *w)
{
    int32_t other[LR_LEN(w->t->ends)];
    int n = 0;
    for (int i = 0; i < w->t->n_ends; i++)
        if (w->t->ends[i] != w->t->eos && (uint32_t)w->t->ends[i] < w->n) other[n++] = w->t->ends[i];
    if (n > 0) LR_TRY(put_id(w, KEY "eot_token_id", other[0]));
    if (n > 1) LR_TRY(put_id(w, KEY "eom_token_id", other[1]));
    return n > 2 ? put(w, END_IDS, LR_KV_ARR, LR_KV_I32, (uint64_t)n, other, (size_t)n * sizeof *other) : LARDER_OK;
}

static larder_status put_all(writer *w)
{
    const lr_tokenizer *t = w->t;
    bool prefix = false;
    const char *pre = t->byte_level ? tok_pre_name(t) : NULL;
    if (t->byte_level && !pre) {
        return lr_fail(w->err, LARDER_UNSUPPORTED, "GGUF has no name for this tokenizer's pre-tokenizer%s%.200s",
                       t->n_pre && t->pre[0].regex.source ? ": " : "",
                       t->n_pre && t->pre[0].regex.source ? t->pre[0].regex.source : "");
    }
    if (!t->byte_level && !is_sentencepiece(t, &prefix)) {
        return lr_fail(w->err, LARDER_UNSUPPORTED, "GGUF has no name for this kind of tokenizer");
    }
    LR_TRY(put_text(w, KEY "model", t->byte_level ? "gpt2" : "llama"));
    char name[32];
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(pre ? pre : "default", " "), pre ? pre : "default");
    LR_TRY(put_text(w, KEY "pre", name));
    LR_TRY(put_names(w));
    LR_TRY(put_types(w));
    if (!t->byte_level) LR_TRY(put_scores(w));
    if (t->n_merges || t->byte_level) LR_TRY(put_merges(w));
    LR_TRY(put_id(w, KEY "bos_token_id", t->bos));
    LR_TRY(put_id(w, KEY "eos_token_id", t->eos));
    LR_TRY(put_id(w, KEY "unknown_token_id", t->unk));
    LR_TRY(put_id(w, KEY "padding_token_id", t->pad));
    LR_TRY(put_ends(w));
    LR_TRY(put_bool(w, KEY "add_bos_token", lr_tokenizer_adds_bos(t)));
    LR_TRY(put_bool(w, KEY "add_eos_token", t->n_tail > 0));
    return t->byte_level ? LARDER_OK : put_bool(w, KEY "add_space_prefix", prefix);
}

larder_status lr_tokenizer_to_gguf(const lr_tokenizer *t, uint32_t n_vocab, lr_file *f, larder_error *err)
{
    /* an added token past the last row can neither be read nor written by the model (gemma's image mark) */
    for (uint32_t id = n_vocab; id < t->n; id++) {
        bool added = t->kind[id] == LR_TOKEN_CONTROL || t->kind[id] == LR_TOKEN_ADDED ||
                     t->kind[id] == LR_TOKEN_UNUSED;
        if (!added) {
            return lr_fail(err, LARDER_FORMAT, "the vocabulary has %u tokens, the embedding only %u rows", t->n,
                           n_vocab);
        }
    }
    writer w = {.t = t, .f = f, .n = n_vocab, .used = f->n_kv, .cap = f->n_kv + 16, .err = err};
    w.kv = lr_arena_array(&f->arena, w.cap, sizeof(*w.kv));
    if (!w.kv) return LR_NOMEM(err, "the keys");
    if (f->n_kv) memcpy(w.kv, f->kv, f->n_kv * sizeof(*w.kv));
    LR_TRY(put_all(&w));
    f->kv = w.kv;
    f->n_kv = w.used;
    return LARDER_OK;
}
