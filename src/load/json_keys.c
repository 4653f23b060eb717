/* json_keys.c - a JSON configuration as flat keys: {"a": {"b": 1}} under "config" is the key "config.a.b".
 *
 * Owns: the flattening rules of lr_load (load.h), strictly: what is no JSON, or says a key twice, is refused.
 * Refuses to own: what any key means.
 */
#include "parts.h"

#include <math.h>
#include <stdlib.h>

#include <yajl/yajl_parse.h>

enum { MAX_DEPTH = 32, MAX_NUMBER = 400 };

typedef enum kind { KIND_NONE, KIND_INT, KIND_REAL, KIND_BOOL, KIND_STR, KIND_MIXED } kind;

typedef struct flattener {
    lr_parts *parts;
    const char *file;
    larder_error *err;
    larder_status st;
    lr_buf path;              /* of the value that comes next */
    size_t n_path[MAX_DEPTH]; /* length of the path before each open object's key */
    int depth;                /* of open objects outside arrays */
    int skip;                 /* of open things inside an array */
    bool in_array;
    kind elems; /* what the array holds so far */
    uint64_t n;
    lr_buf ints, reals, bytes; /* its elements, as they would be stored: int64, double, one byte each or strings */
} flattener;

static int stop(flattener *f, larder_status st)
{
    f->st = st;
    return 0;
}

static lr_str path_of(const flattener *f) { return (lr_str){f->path.p, f->path.n}; }

static int put(flattener *f, lr_kv_type type, lr_kv_type elem, uint64_t n, const void *p, size_t n_bytes)
{
    if (!lr_name_ok(path_of(f)))
        return stop(
            f, lr_fail(f->err, LARDER_FORMAT, "%s: '%s' is no name for a setting", f->file, lr_show(path_of(f)).s));
    if (lr_parts_n_kv(f->parts) >= LR_MAX_KEYS)
        return stop(f, lr_fail(f->err, LARDER_LIMIT, "%s holds more than %d settings", f->file, LR_MAX_KEYS));
    lr_kv *kv = lr_parts_new_kv(f->parts);
    if (!kv || f->path.failed || !lr_kv_make(&f->parts->f, kv, path_of(f), type, elem, n, p, n_bytes))
        return stop(f, LR_NOMEM(f->err, "the settings"));
    return 1;
}

static int put_scalar(flattener *f, lr_kv_type type, const void *p, size_t n_bytes)
{
    return put(f, type, type, 1, p, n_bytes);
}

/* ---------------------------------------------------------------- arrays */

static void element(flattener *f, kind k)
{
    f->n++;
    if (f->elems == KIND_NONE) f->elems = k;
    else if (f->elems == KIND_INT && k == KIND_REAL) f->elems = KIND_REAL;
    else if (!(f->elems == k || (f->elems == KIND_REAL && k == KIND_INT))) f->elems = KIND_MIXED;
}

static int end_array(flattener *f)
{
    f->in_array = false;
    if (f->ints.failed || f->reals.failed || f->bytes.failed) return stop(f, LR_NOMEM(f->err, "the settings"));
    const lr_buf *b = &f->bytes;
    lr_kv_type elem = LR_KV_BOOL;
    switch (f->elems) {
    case KIND_MIXED: return 1;
    case KIND_NONE:
    case KIND_INT: b = &f->ints, elem = LR_KV_I64; break;
    case KIND_REAL: b = &f->reals, elem = LR_KV_F64; break;
    case KIND_BOOL: break;
    case KIND_STR: elem = LR_KV_STR; break;
    }
    return put(f, LR_KV_ARR, elem, f->n, b->p ? b->p : "", b->n);
}

/* ---------------------------------------------------------------- what YAJL calls */

static int on_null(void *ctx)
{
    flattener *f = ctx;
    if (f->in_array && !f->skip) element(f, KIND_MIXED);
    return 1;
}

static int on_boolean(void *ctx, int v)
{
    flattener *f = ctx;
    uint8_t byte = v != 0;
    if (!f->in_array) return put_scalar(f, LR_KV_BOOL, &byte, 1);
    if (f->skip) return 1;
    element(f, KIND_BOOL);
    lr_buf_add(&f->bytes, &byte, 1);
    return 1;
}

static int on_string(void *ctx, const unsigned char *p, size_t n)
{
    flattener *f = ctx;
    if (!f->in_array) return put_scalar(f, LR_KV_STR, p, n);
    if (f->skip) return 1;
    element(f, KIND_STR);
    uint8_t len[8];
    for (int i = 0; i < 8; i++) len[i] = (uint8_t)((uint64_t)n >> (8 * i));
    lr_buf_add(&f->bytes, len, 8);
    lr_buf_add(&f->bytes, p, n);
    return 1;
}

static bool parse_int(const char *p, size_t n, int64_t *out)
{
    bool minus = n && p[0] == '-';
    uint64_t v = 0;
    for (size_t i = minus; i < n; i++)
        if (p[i] < '0' || p[i] > '9' || !lr_mul_u64(v, 10, &v) || !lr_add_u64(v, (uint64_t)(p[i] - '0'), &v))
            return false;
    if (v > (uint64_t)INT64_MAX) return false;
    *out = minus ? -(int64_t)v : (int64_t)v;
    return true;
}

static bool parse_real(const char *p, size_t n, double *out)
{
    char text[MAX_NUMBER + 1];
    if (n > MAX_NUMBER) return false;
    memcpy(text, p, n);
    text[n] = 0;
    char *end;
    *out = lr_strtod(text, &end);
    return end == text + n && isfinite(*out);
}

static int on_number(void *ctx, const char *p, size_t n)
{
    flattener *f = ctx;
    int64_t i = 0;
    double d = 0;
    bool is_int = parse_int(p, n, &i);
    if (f->skip) return 1;
    if (is_int) d = (double)i;
    else if (!parse_real(p, n, &d))
        return stop(f, lr_fail(f->err, LARDER_FORMAT, "%s: '%s' holds the number %s, which is out of range", f->file,
                               lr_show(path_of(f)).s, lr_show((lr_str){p, n}).s));
    if (!f->in_array) return is_int ? put_scalar(f, LR_KV_I64, &i, sizeof i) : put_scalar(f, LR_KV_F64, &d, sizeof d);
    element(f, is_int ? KIND_INT : KIND_REAL);
    lr_buf_add(&f->ints, &i, sizeof i);
    lr_buf_add(&f->reals, &d, sizeof d);
    return 1;
}

static int too_deep(flattener *f)
{
    return stop(f, lr_fail(f->err, LARDER_LIMIT, "%s nests deeper than %d", f->file, MAX_DEPTH));
}

static int inside_array(flattener *f)
{
    element(f, KIND_MIXED);
    return ++f->skip + f->depth < MAX_DEPTH ? 1 : too_deep(f);
}

static int on_map_start(void *ctx)
{
    flattener *f = ctx;
    if (f->in_array) return inside_array(f);
    if (f->depth == MAX_DEPTH) return too_deep(f);
    f->n_path[f->depth++] = f->path.n;
    return 1;
}

static int on_key(void *ctx, const unsigned char *p, size_t n)
{
    flattener *f = ctx;
    if (f->in_array) return 1;
    f->path.n = f->n_path[f->depth - 1];
    if (n > LR_MAX_NAME || f->path.n + n > LR_MAX_NAME)
        return stop(f, lr_fail(f->err, LARDER_LIMIT, "%s: the name of a setting is longer than %d bytes", f->file,
                               LR_MAX_NAME));
    lr_buf_putc(&f->path, '.');
    lr_buf_add(&f->path, p, n);
    return f->path.failed ? stop(f, LR_NOMEM(f->err, "the settings")) : 1;
}

static int on_map_end(void *ctx)
{
    flattener *f = ctx;
    if (f->in_array) f->skip--;
    else f->path.n = f->n_path[--f->depth];
    return 1;
}

static int on_array_start(void *ctx)
{
    flattener *f = ctx;
    if (f->in_array) return inside_array(f);
    if (f->depth == 0) return stop(f, lr_fail(f->err, LARDER_FORMAT, "%s is no JSON object", f->file));
    f->in_array = true;
    f->elems = KIND_NONE;
    f->n = f->ints.n = f->reals.n = f->bytes.n = 0;
    return 1;
}

static int on_array_end(void *ctx)
{
    flattener *f = ctx;
    if (!f->skip) return end_array(f);
    f->skip--;
    return 1;
}

larder_status lr_json_keys(lr_parts *parts, const char *json, size_t n, const char *prefix, const char *file,
                           larder_error *err)
{
    static const yajl_callbacks callbacks = {
        .yajl_null = on_null,
        .yajl_boolean = on_boolean,
        .yajl_number = on_number,
        .yajl_string = on_string,
        .yajl_start_map = on_map_start,
        .yajl_map_key = on_key,
        .yajl_end_map = on_map_end,
        .yajl_start_array = on_array_start,
        .yajl_end_array = on_array_end,
    };
    flattener f = {.parts = parts, .file = file, .err = err};
    size_t at = 0;
    while (at < n && strchr(" \t\r\n", json[at])) at++;
    if (at == n || json[at] != '{') return lr_fail(err, LARDER_FORMAT, "%s is no JSON object", file);
    lr_buf_puts(&f.path, prefix);
    yajl_handle y = yajl_alloc(&callbacks, NULL, &f);
    yajl_status ys = yajl_status_error;
    if (y) {
        ys = yajl_parse(y, (const unsigned char *)json, n);
        at = yajl_get_bytes_consumed(y);
        if (ys == yajl_status_ok) ys = yajl_complete_parse(y);
        yajl_free(y);
    } else {
        f.st = LR_NOMEM(err, "the settings' parser");
    }
    if (!f.st && ys != yajl_status_ok) f.st = lr_fail(err, LARDER_FORMAT, "%s: not JSON near byte %zu", file, at);
    lr_buf_free(&f.path);
    lr_buf_free(&f.ints);
    lr_buf_free(&f.reals);
    lr_buf_free(&f.bytes);
    return f.st;
}
