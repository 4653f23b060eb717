/* safetensors.c - one safetensors file: u64 header length, a JSON object, the data.
 *
 * Owns: every check on such a file's bytes, and writing one. The header is read as it streams by (YAJL), strictly:
 * {"name": {"dtype": "BF16", "shape": [..], "data_offsets": [begin, end]}, ..., "__metadata__": {"k": "v"}}.
 * Refuses to own: config.json and everything else beside the file (hf.c).
 */
#include "parts.h"

#include <inttypes.h>

#include <yajl/yajl_parse.h>

typedef unsigned long long ull;

static const struct {
    const char *name;
    uint32_t fmt, size;
} dtypes[] = {{"F32", LR_FMT_F32, 4},
              {"F16", LR_FMT_F16, 2},
              {"BF16", LR_FMT_BF16, 2},
              {"F8_E4M3", LR_FMT_F8_E4M3, 1},
#define X(name, id, size) {#name, id, size},
              LR_RAW_TYPES(X)
#undef X
};

enum { MAX_SHAPE = 16 };

/* Where in the header the parser stands. */
typedef enum place {
    AT_START,
    AT_NAMES,  /* in the outer object */
    AT_TENSOR, /* before a tensor's object */
    AT_FIELDS, /* in it */
    AT_DTYPE,  /* before the value of one field */
    AT_SHAPE,
    AT_OFFSETS,
    IN_SHAPE,
    IN_OFFSETS,
    AT_METADATA,
    IN_METADATA,
    AT_END,
} place;

typedef struct reader {
    lr_parts *parts;
    const char *file;
    larder_error *err;
    larder_status st; /* why the parser was told to stop */
    const uint8_t *data;
    uint64_t n_data;
    place at;
    lr_str name;            /* of the current tensor, in the arena */
    int dtype;              /* index, -1: not yet */
    int n_shape, n_offsets; /* -1: not yet */
    uint64_t shape[MAX_SHAPE], offsets[2];
    bool metadata;
} reader;

#define REFUSE(r, ...) ((r)->st = lr_fail((r)->err, LARDER_FORMAT, __VA_ARGS__), 0)

static int unexpected(reader *r, const char *what)
{
    if (r->name.p && r->at != AT_NAMES)
        return REFUSE(r, "%s: tensor '%s': %s where the header may not have one; the file is damaged", r->file,
                      lr_show(r->name).s, what);
    return REFUSE(r, "%s: %s where the header may not have one; the file is damaged", r->file, what);
}

static int missing(reader *r, const char *field)
{
    return REFUSE(r, "%s: tensor '%s' has no %s; the file is damaged", r->file, lr_show(r->name).s, field);
}

/* Our dimensions run from the fastest; those past the fourth are multiplied into it. */
static bool fill_shape(const reader *r, lr_tensor *t, uint64_t *n_bytes)
{
    for (int d = 0; d < 4; d++) t->ne[d] = 1;
    uint64_t count = 1;
    for (int i = 0; i < r->n_shape; i++) {
        uint64_t n = r->shape[r->n_shape - 1 - i];
        if (!lr_mul_u64(count, n, &count)) return false;
        t->ne[LR_MIN(i, 3)] *= n;
    }
    t->n_dims = LR_MAX(1, LR_MIN(r->n_shape, 4));
    return count <= INT64_MAX && lr_mul_u64(count, dtypes[r->dtype].size, n_bytes) && *n_bytes <= INT64_MAX;
}

static int end_tensor(reader *r)
{
    if (r->dtype < 0) return missing(r, "dtype");
    if (r->n_shape < 0) return missing(r, "shape");
    if (r->n_offsets < 0) return missing(r, "data_offsets");
    lr_tensor t = {.name = r->name, .fmt = dtypes[r->dtype].fmt};
    uint64_t n_bytes = 0;
    for (int d = 0; d < r->n_shape; d++)
        if (r->shape[d] == 0)
            return REFUSE(r, "%s: dimension %d of tensor '%s' is 0; the file is damaged", r->file, d,
                          lr_show(r->name).s);
    if (!fill_shape(r, &t, &n_bytes))
        return REFUSE(r, "%s: the size of tensor '%s' overflows", r->file, lr_show(r->name).s);
    if (r->n_offsets != 2 || r->offsets[0] > r->offsets[1] || r->offsets[1] > r->n_data)
        return REFUSE(
            r, "%s: tensor '%s' claims bytes %llu to %llu of %llu; the file is cut off or damaged, get it again",
            r->file, lr_show(r->name).s, (ull)r->offsets[0], (ull)r->offsets[1], (ull)r->n_data);
    t.n_bytes = r->offsets[1] - r->offsets[0];
    if (t.n_bytes != n_bytes)
        return REFUSE(r, "%s: tensor '%s' has %llu bytes, but its shape and type %s need %llu; the file is damaged",
                      r->file, lr_show(r->name).s, (ull)t.n_bytes, dtypes[r->dtype].name, (ull)n_bytes);
    t.data = r->data + r->offsets[0];
    t.row_stride = t.ne[0] * dtypes[r->dtype].size;
    t.mat_stride = t.row_stride * t.ne[1];
    r->st = lr_parts_add_tensor(r->parts, &t, r->err);
    r->at = AT_NAMES;
    return r->st == LARDER_OK;
}

/* ---------------------------------------------------------------- what YAJL calls */

static int on_map_start(void *ctx)
{
    reader *r = ctx;
    switch (r->at) {
    case AT_START: r->at = AT_NAMES; return 1;
    case AT_METADATA: r->at = IN_METADATA; return 1;
    case AT_TENSOR:
        r->at = AT_FIELDS;
        r->dtype = r->n_shape = r->n_offsets = -1;
        return 1;
    default: return unexpected(r, "an object");
    }
}

static int on_map_end(void *ctx)
{
    reader *r = ctx;
    if (r->at == AT_FIELDS) return end_tensor(r);
    r->at = r->at == IN_METADATA ? AT_NAMES : AT_END;
    return 1;
}

static int on_tensor_name(reader *r, lr_str key)
{
    if (lr_str_is(key, "__metadata__")) {
        if (r->metadata) return REFUSE(r, "%s: __metadata__ stands twice in the header", r->file);
        r->metadata = true;
        r->at = AT_METADATA;
        return 1;
    }
    if (!lr_name_ok(key))
        return REFUSE(r, "%s: tensor name '%s' is not 1 to 65536 bytes of printable UTF-8", r->file, lr_show(key).s);
    char *copy = lr_arena_strndup(&r->parts->f.arena, key.p, key.n);
    if (!copy) {
        r->st = LR_NOMEM(r->err, "a tensor's name");
        return 0;
    }
    r->name = (lr_str){copy, key.n};
    r->at = AT_TENSOR;
    return 1;
}

static int on_key(void *ctx, const unsigned char *p, size_t n)
{
    reader *r = ctx;
    lr_str key = {(const char *)p, n};
    if (r->at == IN_METADATA) return 1;
    if (r->at == AT_NAMES) return on_tensor_name(r, key);
    bool again = false;
    if (lr_str_is(key, "dtype")) {
        again = r->dtype >= 0;
        r->at = AT_DTYPE;
    } else if (lr_str_is(key, "shape")) {
        again = r->n_shape >= 0;
        r->at = AT_SHAPE;
    } else if (lr_str_is(key, "data_offsets")) {
        again = r->n_offsets >= 0;
        r->at = AT_OFFSETS;
    } else {
        return REFUSE(r, "%s: tensor '%s' has an unknown field '%s'", r->file, lr_show(r->name).s, lr_show(key).s);
    }
    if (again) return REFUSE(r, "%s: tensor '%s' has its %s twice", r->file, lr_show(r->name).s, lr_show(key).s);
    return 1;
}

static int on_string(void *ctx, const unsigned char *p, size_t n)
{
    reader *r = ctx;
    lr_str s = {(const char *)p, n};
    if (r->at == IN_METADATA) return 1;
    if (r->at != AT_DTYPE) return unexpected(r, "a string");
    for (size_t i = 0; i < LR_LEN(dtypes); i++)
        if (lr_str_is(s, dtypes[i].name)) {
            r->dtype = (int)i;
            r->at = AT_FIELDS;
            return 1;
        }
    r->st = lr_fail(r->err, LARDER_UNSUPPORTED, "%s: tensor '%s' has type '%s', which larder does not read", r->file,
                    lr_show(r->name).s, lr_show(s).s);
    return 0;
}

static int on_number(void *ctx, const char *p, size_t n)
{
    reader *r = ctx;
    if (r->at != IN_SHAPE && r->at != IN_OFFSETS) return unexpected(r, "a number");
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        if (p[i] < '0' || p[i] > '9' || !lr_mul_u64(v, 10, &v) || !lr_add_u64(v, (uint64_t)(p[i] - '0'), &v))
            return REFUSE(r, "%s: tensor '%s': '%s' is not a count of 64 bits", r->file, lr_show(r->name).s,
                          lr_show((lr_str){p, n}).s);
    int *count = r->at == IN_SHAPE ? &r->n_shape : &r->n_offsets;
    uint64_t *to = r->at == IN_SHAPE ? r->shape : r->offsets;
    if (*count == (r->at == IN_SHAPE ? MAX_SHAPE : 2))
        return REFUSE(r, "%s: tensor '%s' has too many %s", r->file, lr_show(r->name).s,
                      r->at == IN_SHAPE ? "dimensions" : "offsets");
    to[(*count)++] = v;
    return 1;
}

static int on_array_start(void *ctx)
{
    reader *r = ctx;
    if (r->at == AT_SHAPE) {
        r->at = IN_SHAPE;
        r->n_shape = 0;
    } else if (r->at == AT_OFFSETS) {
        r->at = IN_OFFSETS;
        r->n_offsets = 0;
    } else {
        return unexpected(r, "an array");
    }
    return 1;
}

static int on_array_end(void *ctx)
{
    ((reader *)ctx)->at = AT_FIELDS;
    return 1;
}

static int on_null(void *ctx) { return unexpected(ctx, "a null"); }
static int on_boolean(void *ctx, int v)
{
    (void)v;
    return unexpected(ctx, "a truth value");
}

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

static larder_status parse_header(reader *r, const uint8_t *p, size_t n)
{
    yajl_handle y = yajl_alloc(&callbacks, NULL, r);
    if (!y) return LR_NOMEM(r->err, "the header's parser");
    yajl_status ys = yajl_parse(y, p, n);
    size_t at = yajl_get_bytes_consumed(y);
    if (ys == yajl_status_ok) ys = yajl_complete_parse(y);
    yajl_free(y);
    if (r->st) return r->st;
    if (ys != yajl_status_ok || r->at != AT_END)
        return lr_fail(r->err, LARDER_FORMAT,
                       "%s: the header is not JSON near byte %zu; the file is damaged, get it again", r->file,
                       at + 8);
    return LARDER_OK;
}

larder_status lr_safetensors_read(lr_parts *parts, const uint8_t *p, size_t n, const char *file, larder_error *err)
{
    uint64_t n_header = 0;
    if (n < 8)
        return lr_fail(err, LARDER_FORMAT, "%s is no safetensors file: it has %zu bytes; get it again", file, n);
    for (int i = 0; i < 8; i++) n_header |= (uint64_t)p[i] << (8 * i);
    if (n_header > LR_MAX_ST_HEADER || n_header > n - 8 || n_header < 2 || p[8] != '{')
        return lr_fail(
            err, LARDER_FORMAT,
            "%s is no safetensors file: a header of %llu bytes (limit %d, file %zu); it is cut off or something "
            "else",
            file, (ull)n_header, LR_MAX_ST_HEADER, n);
    size_t first = lr_parts_n_tensors(parts);
    reader r = {.parts = parts, .file = file, .err = err, .data = p + 8 + n_header, .n_data = n - 8 - n_header};
    LR_TRY(parse_header(&r, p + 8, (size_t)n_header));
    if (parts->f.alignment == 0) parts->f.alignment = 1;
    return lr_check_layout(parts, first, r.data, p + n, true, file, err);
}

/* ---------------------------------------------------------------- writing */

static const char *dtype_name(uint32_t fmt, uint32_t *size)
{
    for (size_t i = 0; i < LR_LEN(dtypes); i++)
        if (dtypes[i].fmt == fmt) {
            *size = dtypes[i].size;
            return dtypes[i].name;
        }
    return NULL;
}

static void put_json_string(lr_buf *b, lr_str s)
{
    lr_buf_putc(b, '"');
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '"' || s.p[i] == '\\') lr_buf_putc(b, '\\');
        lr_buf_putc(b, s.p[i]); /* no control characters: lr_name_ok */
    }
    lr_buf_putc(b, '"');
}

static larder_status put_header(lr_buf *b, const lr_tensor *t, size_t n, larder_error *err)
{
    uint64_t at = 0;
    lr_buf_puts(b, "{");
    for (size_t i = 0; i < n; i++) {
        uint32_t size = 0;
        const char *dtype = dtype_name(t[i].fmt, &size);
        if (!dtype || !lr_name_ok(t[i].name))
            return lr_fail(err, LARDER_USAGE, "tensor '%s' cannot be written as safetensors", lr_show(t[i].name).s);
        if (i) lr_buf_putc(b, ',');
        put_json_string(b, t[i].name);
        lr_buf_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", dtype);
        for (int d = t[i].n_dims - 1; d >= 0; d--) lr_buf_printf(b, "%" PRIu64 "%s", t[i].ne[d], d ? "," : "");
        lr_buf_printf(b, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, at + t[i].n_bytes);
        at += t[i].n_bytes;
    }
    lr_buf_puts(b, "}");
    while (b->n % 8 && !b->failed) lr_buf_putc(b, ' ');
    return b->failed ? LR_NOMEM(err, "the header") : LARDER_OK;
}

struct lr_safetensors_writer {
    lr_out_file out;
    uint64_t left; /* bytes of tensors not yet given */
};

larder_status lr_safetensors_writer_new(const char *path, const lr_tensor *tensors, size_t n_tensors,
                                        lr_safetensors_writer **out, larder_error *err)
{
    lr_buf header = {0};
    uint8_t n_header[8];
    larder_status st = LARDER_OK;
    lr_safetensors_writer *w = lr_calloc(1, sizeof *w);
    if (!w) return LR_NOMEM(err, "a file's header");
    w->out.fd = -1;
    LR_GO(put_header(&header, tensors, n_tensors, err));
    for (int i = 0; i < 8; i++) n_header[i] = (uint8_t)((uint64_t)header.n >> (8 * i));
    for (size_t i = 0; i < n_tensors; i++) w->left += tensors[i].n_bytes;
    LR_GO(lr_out_open(&w->out, path, err));
    LR_GO(lr_out_write(&w->out, n_header, 8, err));
    LR_GO(lr_out_write(&w->out, header.p, header.n, err));
    *out = w;
    w = NULL;
fail:
    lr_safetensors_writer_free(w);
    lr_buf_free(&header);
    return st;
}

larder_status lr_safetensors_writer_data(lr_safetensors_writer *w, const void *p, size_t n, larder_error *err)
{
    if (n > w->left) return lr_fail(err, LARDER_USAGE, "more bytes than the tensors described have");
    w->left -= n;
    return lr_out_write(&w->out, p, n, err);
}

larder_status lr_safetensors_writer_finish(lr_safetensors_writer *w, larder_error *err)
{
    if (w->left) return lr_fail(err, LARDER_USAGE, "%llu bytes of tensors are missing", (unsigned long long)w->left);
    return lr_out_commit(&w->out, err);
}

void lr_safetensors_writer_free(lr_safetensors_writer *w)
{
    if (w) lr_out_close(&w->out);
    lr_free(w);
}

larder_status lr_safetensors_write(const char *path, const lr_tensor *tensors, size_t n_tensors, larder_error *err)
{
    lr_safetensors_writer *w = NULL;
    larder_status st;
    LR_GO(lr_safetensors_writer_new(path, tensors, n_tensors, &w, err));
    for (size_t i = 0; i < n_tensors; i++)
        LR_GO(lr_safetensors_writer_data(w, tensors[i].data, (size_t)tensors[i].n_bytes, err));
    LR_GO(lr_safetensors_writer_finish(w, err));
fail:
    lr_safetensors_writer_free(w);
    return st;
}
