/* tok_json.c - a tokenizer from a tokenizer.json, read as a stream: such files pass 30 MB.
 *
 * Owns: the walk over the file. Names and merges go straight to their tables; the small rest (normalizer, patterns, ...)
 * is kept as values for tok_parts.c, which knows what it means. Refuses to own: that meaning.
 */
#include "tok_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <yajl/yajl_parse.h>

enum {
    MAX_FILE = 256 << 20,
    MAX_DEPTH = 24,     /* of a kept value */
    MAX_VALUES = 50000, /* in one kept value */
    CHUNK = 1 << 16,
};

typedef enum place { IN_FILE, IN_ROOT, IN_MODEL, IN_VOCAB, IN_MERGES, IN_MERGE, IN_ADDED } place;
typedef enum kind_of_file { TOKENIZER, CONFIG, GENERATION } kind_of_file;

typedef struct reader {
    lr_tokenizer *t;
    tok_parts *parts;
    larder_error *err;
    larder_status st;
    kind_of_file file;
    place place;
    int skip;       /* depth inside a value nobody wants */
    bool skip_next; /* the next value is one */
    json_t *top;    /* a value being kept; */
    json_t *open[MAX_DEPTH];
    int depth, n_values;
    char key[64];            /* of the value being kept, "" inside an array */
    char *member[MAX_DEPTH]; /* of the open objects: the name whose value comes next */
    lr_buf name;             /* of the vocabulary, waiting for its id; */
    lr_buf half;             /* the left half of a merge, waiting for the right one */
    int n_half;
    uint32_t cap;
} reader;

static int stop(reader *r, larder_status st)
{
    r->st = st;
    return 0;
}

static int refuse(reader *r, const char *what) { return stop(r, lr_fail(r->err, LARDER_FORMAT, "%s", what)); }

/* ---------------------------------------------------------------- names */
static bool grow(lr_tokenizer *t, uint32_t *cap, uint32_t n)
{
    if (n <= *cap) return true;
    uint32_t c = LR_MAX(n, *cap + *cap / 2 + 1024);
    uint32_t *off = lr_realloc(t->off, c * sizeof(*off));
    if (off) t->off = off;
    uint8_t *kind = off ? lr_realloc(t->kind, c) : NULL;
    if (kind) t->kind = kind;
    if (!kind) return false;
    *cap = c;
    return true;
}

static larder_status put_name(lr_tokenizer *t, lr_str name, uint32_t *off, larder_error *err)
{
    uint32_t n = (uint32_t)name.n;
    if (t->blob.n == 0) lr_buf_add(&t->blob, "\0\0\0\0", 4); /* the empty name, at 4 */
    lr_buf_add(&t->blob, &n, 4);
    *off = (uint32_t)t->blob.n;
    lr_buf_add(&t->blob, name.p, name.n);
    if (t->blob.failed) return LR_NOMEM(err, "the vocabulary");
    if (t->blob.n > UINT32_MAX / 2) return lr_fail(err, LARDER_LIMIT, "the vocabulary's names are too long in all");
    t->base = (const uint8_t *)t->blob.p;
    t->prefix = 4;
    return LARDER_OK;
}

static larder_status reserve_id(lr_tokenizer *t, uint32_t *cap, long long id, larder_error *err)
{
    if (id < 0 || id >= TOK_MAX_VOCAB) {
        return lr_fail(err, LARDER_FORMAT, "token id %lld is outside 0 to %d", id, TOK_MAX_VOCAB - 1);
    }
    if ((uint32_t)id < t->n) return LARDER_OK;
    if (!grow(t, cap, (uint32_t)id + 1)) return LR_NOMEM(err, "the vocabulary");
    for (; t->n <= (uint32_t)id; t->n++) {
        t->off[t->n] = 4;
        t->kind[t->n] = LR_TOKEN_UNUSED;
    }
    return LARDER_OK;
}

static larder_status set_name(reader *r, long long id)
{
    lr_tokenizer *t = r->t;
    LR_TRY(reserve_id(t, &r->cap, id, r->err));
    if (r->name.n == 0) return LARDER_OK;
    LR_TRY(put_name(t, (lr_str){r->name.p, r->name.n}, &t->off[id], r->err));
    t->kind[id] = LR_TOKEN_NORMAL;
    return LARDER_OK;
}

/* Added tokens lie before the model in the file; they get their ids when the vocabulary is complete, and win. */
static larder_status name_added(reader *r)
{
    lr_tokenizer *t = r->t;
    for (uint32_t i = 0; i < t->n_added; i++) {
        const tok_added *a = &t->added[i];
        LR_TRY(reserve_id(t, &r->cap, a->id, r->err));
        t->off[a->id] = a->off;
        t->kind[a->id] = a->flags & TOK_SPECIAL ? LR_TOKEN_CONTROL : LR_TOKEN_ADDED;
    }
    return LARDER_OK;
}

static larder_status merge(reader *r, lr_str left, lr_str right)
{
    if (!r->t->slots) {
        if (r->t->n == 0)
            return lr_fail(r->err, LARDER_FORMAT, "the merges come before the vocabulary they are about");
        LR_TRY(name_added(r));
        LR_TRY(tok_index(r->t, r->err));
    }
    if (left.n > TOK_MAX_NAME || right.n > TOK_MAX_NAME) return lr_fail(r->err, LARDER_LIMIT, "a merge is too long");
    return tok_add_merge(r->t, left, right, r->err);
}

static larder_status added_token(reader *r, json_t *v)
{
    json_t *content = json_object_get(v, "content"), *id = json_object_get(v, "id");
    if (!json_is_string(content) || !json_is_integer(id)) {
        return lr_fail(r->err, LARDER_FORMAT, "an added token without \"id\" or \"content\"");
    }
    long long i = json_integer_value(id);
    if (i < 0 || i >= TOK_MAX_VOCAB) return lr_fail(r->err, LARDER_FORMAT, "added token id %lld", i);
    static const struct {
        const char *name;
        uint8_t flag;
    } flags[] = {{"single_word", TOK_SINGLE_WORD},
                 {"lstrip", TOK_LSTRIP},
                 {"rstrip", TOK_RSTRIP},
                 {"normalized", TOK_NORMALIZED},
                 {"special", TOK_SPECIAL}};
    uint8_t set = 0;
    for (size_t k = 0; k < LR_LEN(flags); k++)
        if (json_is_true(json_object_get(v, flags[k].name))) set |= flags[k].flag;
    uint32_t off, n = (uint32_t)json_string_length(content);
    if (n == 0) return LARDER_OK;
    LR_TRY(put_name(r->t, (lr_str){json_string_value(content), n}, &off, r->err));
    return tok_add_added(r->t, (uint32_t)i, off, n, set, r->err);
}

/* ---------------------------------------------------------------- values that are kept */
static bool wanted(const reader *r, lr_str key)
{
    static const char *const root[] = {"normalizer", "pre_tokenizer", "post_processor", "decoder", NULL};
    static const char *const config[] = {"bos_token", "eos_token", "pad_token", "unk_token", NULL};
    static const char *const generation[] = {"bos_token_id", "eos_token_id", "pad_token_id", NULL};
    if (r->place == IN_MODEL) return true;
    const char *const *names = r->file == TOKENIZER ? root : r->file == CONFIG ? config : generation;
    for (; *names; names++)
        if (lr_str_is(key, *names)) return true;
    return false;
}

static int kept(reader *r)
{
    json_t *v = r->top;
    r->top = NULL;
    larder_status st = LARDER_OK;
    if (r->place == IN_ADDED) st = added_token(r, v);
    else if (json_object_set(r->place == IN_MODEL ? r->parts->model : r->parts->rest, r->key, v))
        st = LR_NOMEM(r->err, "a part of the tokenizer");
    json_decref(v);
    return st ? stop(r, st) : 1;
}

/* Takes v (may be NULL: no memory). */
static int keep(reader *r, json_t *v, bool opens)
{
    if (!v) return stop(r, LR_NOMEM(r->err, "a part of the tokenizer"));
    if (++r->n_values > MAX_VALUES || (opens && r->depth == MAX_DEPTH)) {
        json_decref(v);
        return refuse(r, "a part of the file is too large or too deep");
    }
    if (!r->top) {
        r->top = v;
    } else {
        json_t *in = r->open[r->depth - 1];
        int bad = json_is_array(in)
                      ? json_array_append_new(in, v)
                      : json_object_set_new(in, r->member[r->depth - 1] ? r->member[r->depth - 1] : "", v);
        if (bad) return stop(r, LR_NOMEM(r->err, "a part of the tokenizer"));
    }
    if (opens) {
        r->member[r->depth] = NULL;
        r->open[r->depth++] = v;
        return 1;
    }
    return r->depth ? 1 : kept(r);
}

static int keep_close(reader *r)
{
    lr_free(r->member[--r->depth]);
    r->member[r->depth] = NULL;
    return r->depth ? 1 : kept(r);
}

/* true: this value belongs to nobody */
static bool skipped(reader *r, int opens)
{
    if (r->skip) {
        r->skip += opens;
        return true;
    }
    if (!r->skip_next || r->top) return false;
    r->skip_next = false;
    if (opens > 0) r->skip = 1;
    return true;
}

/* ---------------------------------------------------------------- events */
static int on_scalar(reader *r, json_t *v)
{
    if (skipped(r, 0)) {
        json_decref(v);
        return 1;
    }
    switch (r->place) {
    case IN_ROOT:
    case IN_MODEL: return keep(r, v, false);
    case IN_ADDED:
        if (r->top) return keep(r, v, false);
        break;
    default: break;
    }
    json_decref(v);
    return refuse(r, r->place == IN_VOCAB   ? "a token's id is not a whole number"
                     : r->place == IN_FILE  ? "the file is not a JSON object"
                     : r->place == IN_ADDED ? "an added token is not an object"
                                            : "a merge is neither a string nor a pair of strings");
}

static int on_null(void *p) { return on_scalar(p, json_null()); }

static int on_boolean(void *p, int v) { return on_scalar(p, json_boolean(v)); }

/* Numbers come as text: some files hold integers that no integer type holds. */
static int on_number(void *p, const char *text, size_t n)
{
    reader *r = p;
    char digits[32];
    snprintf(digits, sizeof(digits), "%.*s", (int)LR_MIN(n, sizeof(digits) - 1), text);
    bool whole = n < 19 && strcspn(digits, ".eE") == n;
    long long v = whole ? strtoll(digits, NULL, 10) : 0;
    if (r->place != IN_VOCAB || r->skip || !whole) {
        json_t *real = whole ? NULL : json_real(lr_strtod(digits, NULL)); /* NULL: none that is finite */
        return on_scalar(r, whole ? json_integer(v) : real ? real : json_null());
    }
    larder_status st = set_name(r, v);
    return st ? stop(r, st) : 1;
}

static int on_merge_string(reader *r, lr_str s)
{
    const char *space = s.n > 2 ? memchr(s.p + 1, ' ', s.n - 1) : NULL;
    if (!space) return refuse(r, "a merge is not two tokens with a space between");
    larder_status st = merge(r, (lr_str){s.p, (size_t)(space - s.p)},
                             (lr_str){space + 1, s.n - (size_t)(space - s.p) - 1});
    return st ? stop(r, st) : 1;
}

static int on_half(reader *r, lr_str s)
{
    larder_status st = LARDER_OK;
    if (r->n_half == 0) {
        r->half.n = 0;
        lr_buf_add(&r->half, s.p, s.n);
        if (r->half.failed) st = LR_NOMEM(r->err, "the merges");
    } else if (r->n_half == 1) {
        st = merge(r, (lr_str){r->half.p, r->half.n}, s);
    } else {
        st = lr_fail(r->err, LARDER_FORMAT, "a merge of more than two tokens");
    }
    r->n_half++;
    return st ? stop(r, st) : 1;
}

static int on_string(void *p, const unsigned char *text, size_t n)
{
    reader *r = p;
    lr_str s = {(const char *)text, n};
    if (!r->skip && r->place == IN_MERGES) return on_merge_string(r, s);
    if (!r->skip && r->place == IN_MERGE) return on_half(r, s);
    if (skipped(r, 0)) return 1;
    return on_scalar(r, json_stringn(s.p ? s.p : "", n));
}

static int on_key(void *p, const unsigned char *text, size_t n)
{
    reader *r = p;
    lr_str key = {(const char *)text, n};
    if (r->skip) return 1;
    if (r->depth) {
        lr_free(r->member[r->depth - 1]);
        r->member[r->depth - 1] = lr_strndup(key.p, n);
        return r->member[r->depth - 1] ? 1 : stop(r, LR_NOMEM(r->err, "a part of the tokenizer"));
    }
    if (r->place == IN_VOCAB) {
        if (n > TOK_MAX_NAME) return refuse(r, "a token's name is too long");
        r->name.n = 0;
        lr_buf_add(&r->name, key.p, n);
        return r->name.failed ? stop(r, LR_NOMEM(r->err, "the vocabulary")) : 1;
    }
    bool known = n < sizeof(r->key); /* nothing of interest has a longer name */
    snprintf(r->key, sizeof(r->key), "%.*s", known ? (int)n : 0, key.p);
    bool own = r->file == TOKENIZER &&
               (r->place == IN_ROOT ? lr_str_is(key, "model") || lr_str_is(key, "added_tokens")
                                    : lr_str_is(key, "vocab") || lr_str_is(key, "merges"));
    r->skip_next = !known || (!own && !wanted(r, key));
    r->n_values = 0;
    return 1;
}

static bool at(const reader *r, place where, const char *key)
{
    return r->file == TOKENIZER && !r->top && r->place == where && strcmp(r->key, key) == 0;
}

static int on_start_map(void *p)
{
    reader *r = p;
    if (skipped(r, 1)) return 1;
    if (r->place == IN_FILE) r->place = IN_ROOT;
    else if (at(r, IN_ROOT, "model")) r->place = IN_MODEL;
    else if (at(r, IN_MODEL, "vocab")) r->place = IN_VOCAB;
    else if (r->place == IN_ROOT || r->place == IN_MODEL || r->place == IN_ADDED) {
        if (r->place == IN_ADDED && !r->top) r->n_values = 0;
        return keep(r, json_object(), true);
    } else return refuse(r, "an object where a token's id or a merge should be");
    return 1;
}

static int on_end_map(void *p)
{
    reader *r = p;
    if (r->skip) {
        r->skip--;
        return 1;
    }
    if (r->depth) return keep_close(r);
    r->place = r->place == IN_VOCAB ? IN_MODEL : r->place == IN_MODEL ? IN_ROOT : IN_FILE;
    return 1;
}

static int on_start_array(void *p)
{
    reader *r = p;
    if (skipped(r, 1)) return 1;
    if (at(r, IN_ROOT, "added_tokens")) r->place = IN_ADDED;
    else if (at(r, IN_MODEL, "merges")) r->place = IN_MERGES;
    else if (at(r, IN_MODEL, "vocab")) {
        return stop(r, lr_fail(r->err, LARDER_UNSUPPORTED, "the vocabulary is a list (Unigram); larder has BPE"));
    } else if (r->place == IN_MERGES) {
        r->place = IN_MERGE;
        r->n_half = 0;
    } else if (r->place == IN_ROOT || r->place == IN_MODEL || (r->place == IN_ADDED && r->top)) {
        return keep(r, json_array(), true);
    } else return refuse(r, "a list where it does not belong");
    return 1;
}

static int on_end_array(void *p)
{
    reader *r = p;
    if (r->skip) {
        r->skip--;
        return 1;
    }
    if (r->depth) return keep_close(r);
    if (r->place == IN_MERGE) {
        if (r->n_half != 2) return refuse(r, "a merge of fewer than two tokens");
        r->place = IN_MERGES;
    } else r->place = r->place == IN_MERGES ? IN_MODEL : IN_ROOT;
    return 1;
}

/* ---------------------------------------------------------------- reading */
static const yajl_callbacks callbacks = {
    on_null,      on_boolean, NULL,       NULL,           on_number,    on_string,
    on_start_map, on_key,     on_end_map, on_start_array, on_end_array,
};

static void reader_free(reader *r)
{
    json_decref(r->top);
    for (int i = 0; i < r->depth; i++) lr_free(r->member[i]);
    lr_buf_free(&r->name);
    lr_buf_free(&r->half);
}

/* From a file if there is one, else from memory. */
static larder_status parse(reader *r, FILE *in, const void *p, size_t n)
{
    yajl_handle y = yajl_alloc(&callbacks, NULL, r);
    char *chunk = in ? lr_alloc(CHUNK) : NULL;
    yajl_status status = yajl_status_ok;
    larder_status st = LARDER_OK;
    size_t total = 0, got = n;
    if (!y || (in && !chunk)) {
        st = LR_NOMEM(r->err, "reading JSON");
        goto done;
    }
    do {
        const void *part = p;
        if (in) {
            got = fread(chunk, 1, CHUNK, in);
            part = chunk;
            if (ferror(in)) {
                st = lr_fail(r->err, LARDER_IO, "cannot read the file");
                goto done;
            }
            if (got == 0) break;
        }
        if ((total += got) > MAX_FILE) {
            st = lr_fail(r->err, LARDER_LIMIT, "the file has more than %d bytes", MAX_FILE);
            goto done;
        }
        if (got) status = yajl_parse(y, part, got);
    } while (in && status == yajl_status_ok);
    if (status == yajl_status_ok) status = yajl_complete_parse(y);
    if (r->st) {
        st = r->st;
    } else if (status != yajl_status_ok || r->place != IN_FILE) {
        unsigned char *text = yajl_get_error(y, 0, NULL, 0);
        size_t len = text ? strcspn((char *)text, "\n") : 0;
        st = lr_fail(r->err, LARDER_FORMAT, "not JSON at byte %zu: %.*s",
                     (size_t)(total - got + yajl_get_bytes_consumed(y)), (int)len, text ? (char *)text : "");
        yajl_free_error(y, text);
    }
done:
    if (y) yajl_free(y);
    lr_free(chunk);
    return st;
}

static larder_status parse_path(reader *r, const char *path)
{
    if (!lr_is_file(path)) return lr_fail(r->err, LARDER_NOT_FOUND, "no such file");
    FILE *in = fopen(path, "rb");
    if (!in) return lr_fail(r->err, LARDER_IO, "cannot open the file");
    larder_status st = parse(r, in, NULL, 0);
    fclose(in);
    return st;
}

/* A file beside `path`; that it is missing is no error. */
static larder_status parse_beside(reader *r, const char *path, const char *name, kind_of_file kind)
{
    lr_buf b = {0};
    const char *slash = strrchr(path, '/');
    if (slash) lr_buf_add(&b, path, (size_t)(slash + 1 - path));
    lr_buf_puts(&b, name);
    char *full = lr_buf_steal(&b);
    if (!full) return LR_NOMEM(r->err, "a path");
    larder_status st = LARDER_OK;
    if (lr_is_file(full)) {
        reader own = {.t = r->t, .parts = r->parts, .err = r->err, .file = kind};
        st = parse_path(&own, full);
        reader_free(&own);
        if (st) st = lr_wrap(r->err, st, "%s", full);
    }
    lr_free(full);
    return st;
}

static larder_status load(const char *path, const void *p, size_t n, lr_tokenizer **out, larder_error *err)
{
    larder_status st = LARDER_OK;
    lr_tokenizer *t = lr_calloc(1, sizeof(*t));
    tok_parts parts = {json_object(), json_object()};
    reader r = {.t = t, .parts = &parts, .err = err};
    *out = NULL;
    if (!t || !parts.model || !parts.rest) {
        st = LR_NOMEM(err, "the tokenizer");
        goto fail;
    }
    t->bos = t->eos = t->unk = t->pad = -1;
    LR_GO(path ? parse_path(&r, path) : parse(&r, NULL, p, n));
    LR_GO(name_added(&r));
    if (t->n == 0) {
        st = lr_fail(err, LARDER_FORMAT, "the vocabulary is empty");
        goto fail;
    }
    LR_GO(tok_index(t, err));
    if (path) {
        LR_GO(parse_beside(&r, path, "tokenizer_config.json", CONFIG));
        LR_GO(parse_beside(&r, path, "generation_config.json", GENERATION));
    }
    LR_GO(tok_read_parts(t, &parts, err));
    LR_GO(tok_finish(t, err));
    LR_GO(tok_read_ends(t, &parts, err));
    *out = t;
    t = NULL;
fail:
    reader_free(&r);
    json_decref(parts.model);
    json_decref(parts.rest);
    lr_tokenizer_free(t);
    return st;
}

larder_status lr_tokenizer_from_json(const char *path, lr_tokenizer **out, larder_error *err)
{
    larder_status st = load(path, NULL, 0, out, err);
    return st ? lr_wrap(err, st, "%s", path) : LARDER_OK;
}

larder_status lr_tokenizer_from_memory(const void *p, size_t n, lr_tokenizer **out, larder_error *err)
{
    return load(NULL, p, n, out, err);
}
