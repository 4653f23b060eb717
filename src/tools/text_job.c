/* text_job.c - tokenizers and templates without weights: JSON in, JSON out. */
#include "larder_tools.h"
#include "load.h"
#include "store.h"
#include "text.h"

#include <jansson.h>
#include <stdlib.h>

struct larder_text {
    lr_text text;
    lr_file file; /* when it came from a model file */
    bool has_file;
};

/* jansson's limits on depth stand; sizes were limited by whoever read the text. */
static larder_status parse(const char *json, size_t n, json_t **out, larder_error *err)
{
    json_error_t bad;
    *out = json_loadb(json, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &bad);
    if (*out) return LARDER_OK;
    return lr_fail(err, LARDER_USAGE, "the input is not JSON: line %d, column %d: %s", bad.line, bad.column,
                   bad.text);
}

/* What says it is one, by its name or by its first bytes. */
static bool is_gguf(const char *path)
{
    char magic[4] = {0};
    size_t n = strlen(path);
    if (n >= 5 && !strcmp(path + n - 5, ".gguf")) return true;
    FILE *f = fopen(path, "rb");
    bool yes = f && fread(magic, 1, 4, f) == 4 && !memcmp(magic, "GGUF", 4);
    if (f) fclose(f);
    return yes;
}

larder_status larder_text_open(const char *path, larder_text **out, larder_error *err)
{
    char real[4096];
    *out = NULL;
    LR_TRY(lr_store_resolve(path, real, sizeof real, err));
    larder_status st = LARDER_OK;
    larder_text *t = lr_calloc(1, sizeof *t);
    if (!t) return LR_NOMEM(err, "a tokenizer");
    if (lr_is_file(real) && is_gguf(real)) {
        LR_GO(lr_load(real, &t->file, err));
        t->has_file = true;
        LR_GO(lr_text_open(&t->file, &t->text, err));
    } else {
        LR_GO(lr_text_open_dir(real, &t->text, err));
    }
    *out = t;
    return LARDER_OK;
fail:
    larder_text_free(t);
    return st;
}

void larder_text_free(larder_text *t)
{
    if (!t) return;
    lr_text_close(&t->text);
    if (t->has_file) lr_file_close(&t->file);
    lr_free(t);
}

static larder_status need_tokenizer(const larder_text *t, larder_error *err)
{
    return t->text.tok ? LARDER_OK : lr_fail(err, LARDER_NOT_FOUND, "there is no tokenizer here");
}

static void put_ids(lr_buf *b, const lr_ids *ids)
{
    lr_buf_putc(b, '[');
    for (size_t i = 0; i < ids->n; i++) lr_buf_printf(b, "%s%d", i ? ", " : "", ids->p[i]);
    lr_buf_putc(b, ']');
}

/* What a job built so far becomes the caller's, or nothing. */
static larder_status hand_over(larder_status st, lr_buf *b, char **out, larder_error *err)
{
    if (!st && !(*out = lr_buf_steal(b))) st = LR_NOMEM(err, "the result");
    lr_buf_free(b);
    return st;
}

larder_status larder_text_tokenize(const larder_text *text, const char *json, size_t n_json, bool added, bool special,
                                   char **out, larder_error *err)
{
    json_t *list, *s;
    size_t i;
    lr_buf b = {0};
    lr_ids ids = {0};
    *out = NULL;
    LR_TRY(need_tokenizer(text, err));
    LR_TRY(parse(json, n_json, &list, err));
    larder_status st = json_is_array(list) ? LARDER_OK
                                           : lr_fail(err, LARDER_USAGE, "the input is not a list of strings");
    lr_buf_putc(&b, '[');
    json_array_foreach(list, i, s)
    {
        if (st) break;
        ids.n = 0;
        if (!json_is_string(s)) {
            st = lr_fail(err, LARDER_USAGE, "element %zu of the input is not a string", i);
        } else {
            lr_str str = {json_string_value(s), json_string_length(s)};
            st = lr_tokenizer_encode(text->text.tok, str,
                                     (added ? LR_ENCODE_ADDED : 0) | (special ? LR_ENCODE_SPECIAL : 0), &ids, err);
            if (i) lr_buf_puts(&b, ",\n");
            put_ids(&b, &ids);
        }
    }
    lr_buf_putc(&b, ']');
    lr_ids_free(&ids);
    json_decref(list);
    return hand_over(st, &b, out, err);
}

static larder_status decode_one(const larder_text *text, const json_t *list, size_t at, lr_buf *b, larder_error *err)
{
    size_t n = json_array_size(list);
    if (!json_is_array(list)) return lr_fail(err, LARDER_USAGE, "element %zu of the input is not a list of ids", at);
    int32_t *ids = lr_calloc(n + 1, sizeof *ids);
    lr_buf raw = {0};
    larder_status st = ids ? LARDER_OK : LR_NOMEM(err, "ids");
    for (size_t i = 0; i < n && !st; i++) {
        json_t *v = json_array_get(list, i);
        json_int_t id = json_integer_value(v);
        if (!json_is_integer(v) || id < 0 || id > INT32_MAX)
            st = lr_fail(err, LARDER_USAGE, "element %zu of list %zu is not a token id", i, at);
        else ids[i] = (int32_t)id;
    }
    if (!st) st = lr_tokenizer_decode(text->text.tok, ids, n, true, &raw, err);
    if (!st) {
        json_t *s = json_stringn(raw.n ? raw.p : "", raw.n);
        char *quoted = s ? json_dumps(s, JSON_ENCODE_ANY) : NULL;
        if (quoted) lr_buf_puts(b, quoted);
        else st = lr_fail(err, LARDER_INTERNAL, "the text of list %zu is not UTF-8", at);
        free(quoted);
        json_decref(s);
    }
    lr_buf_free(&raw);
    lr_free(ids);
    return st;
}

larder_status larder_text_detokenize(const larder_text *text, const char *json, size_t n_json, char **out,
                                     larder_error *err)
{
    json_t *list, *item;
    size_t i;
    lr_buf b = {0};
    *out = NULL;
    LR_TRY(need_tokenizer(text, err));
    LR_TRY(parse(json, n_json, &list, err));
    larder_status st = json_is_array(list) ? LARDER_OK
                                           : lr_fail(err, LARDER_USAGE, "the input is not a list of lists of ids");
    lr_buf_putc(&b, '[');
    json_array_foreach(list, i, item)
    {
        if (st) break;
        if (i) lr_buf_puts(&b, ",\n");
        st = decode_one(text, item, i, &b, err);
    }
    lr_buf_putc(&b, ']');
    json_decref(list);
    return hand_over(st, &b, out, err);
}

larder_status larder_text_template(const larder_text *text, const char *json, size_t n_json, int64_t now, char **out,
                                   size_t *n, larder_error *err)
{
    json_t *request;
    lr_rendered r = {0};
    *out = NULL;
    LR_TRY(parse(json, n_json, &request, err));
    larder_status st = lr_text_render(&text->text, request, now, &r, err);
    json_decref(request);
    if (st) return st;
    *out = r.text;
    *n = r.n;
    r.text = NULL;
    lr_rendered_free(&r);
    return LARDER_OK;
}
