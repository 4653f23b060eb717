/* gguf_write.c - writing GGUF v3.
 *
 * Owns: the bytes of a header, padding, the order of writing. Refuses to own: which keys and tensors there should be.
 */
#include "parts.h"

/* ---------------------------------------------------------------- the writer */

enum { ALIGNMENT = 32 };

typedef struct name_set { /* open addressing; holds where each key's name lies in the header */
    size_t *at;
    size_t cap, n;
} name_set;

struct lr_gguf_writer {
    lr_out_file out;
    lr_buf keys, infos; /* as they will stand in the file */
    lr_buf sizes;       /* u64 each: bytes of the tensors */
    name_set key_names, tensor_names;
    uint64_t n_keys, n_tensors;
    uint64_t data_size; /* of all tensors declared, padded */
    bool begun, failed; /* failed: a call did not succeed, so the file can no longer be whole */
    size_t tensor;      /* the one whose bytes come next, */
    uint64_t done;      /* and how many of them came */
};

static void put_u32(lr_buf *b, uint32_t v)
{
    uint8_t le[4];
    for (int i = 0; i < 4; i++) le[i] = (uint8_t)(v >> (8 * i));
    lr_buf_add(b, le, 4);
}

static void put_u64(lr_buf *b, uint64_t v)
{
    put_u32(b, (uint32_t)v);
    put_u32(b, (uint32_t)(v >> 32));
}

static void put_str(lr_buf *b, lr_str s)
{
    put_u64(b, s.n);
    lr_buf_add(b, s.p, s.n);
}

static uint64_t padded(uint64_t n) { return LR_ALIGN_UP(n, (uint64_t)ALIGNMENT); }

static lr_str name_at(const lr_buf *b, size_t at)
{
    uint64_t n = 0;
    for (int i = 0; i < 8; i++) n |= (uint64_t)(uint8_t)b->p[at + (size_t)i] << (8 * i);
    return (lr_str){b->p + at + 8, (size_t)n};
}

static size_t *name_slot(const name_set *s, const lr_buf *b, lr_str name)
{
    size_t i = lr_hash(name.p, name.n) & (s->cap - 1);
    while (s->at[i] != SIZE_MAX && !lr_str_eq(name_at(b, s->at[i]), name)) i = (i + 1) & (s->cap - 1);
    return &s->at[i];
}

/* Notes that a name will stand at the end of `b`. */
static larder_status add_name(name_set *s, const lr_buf *b, lr_str name, const char *what, larder_error *err)
{
    if (s->n * 2 >= s->cap) {
        name_set bigger = {.cap = s->cap ? s->cap * 2 : 256, .n = s->n};
        bigger.at = lr_alloc(bigger.cap * sizeof *bigger.at);
        if (!bigger.at) return LR_NOMEM(err, "the list of names");
        for (size_t i = 0; i < bigger.cap; i++) bigger.at[i] = SIZE_MAX;
        for (size_t i = 0; i < s->cap; i++)
            if (s->at[i] != SIZE_MAX) *name_slot(&bigger, b, name_at(b, s->at[i])) = s->at[i];
        lr_free(s->at);
        *s = bigger;
    }
    size_t *slot = name_slot(s, b, name);
    if (*slot != SIZE_MAX) return lr_fail(err, LARDER_USAGE, "%s '%s' is written twice", what, lr_show(name).s);
    *slot = b->n;
    s->n++;
    return LARDER_OK;
}

larder_status lr_gguf_writer_new(const char *path, lr_gguf_writer **out, larder_error *err)
{
    *out = NULL;
    lr_gguf_writer *w = lr_calloc(1, sizeof *w);
    if (!w) return LR_NOMEM(err, "a GGUF writer");
    larder_status st = lr_out_open(&w->out, path, err);
    if (st) lr_free(w);
    else *out = w;
    return st;
}

void lr_gguf_writer_free(lr_gguf_writer *w)
{
    if (!w) return;
    lr_out_close(&w->out);
    lr_buf_free(&w->keys);
    lr_buf_free(&w->infos);
    lr_buf_free(&w->sizes);
    lr_free(w->key_names.at);
    lr_free(w->tensor_names.at);
    lr_free(w);
}

static bool starts_with(lr_str s, const char *prefix)
{
    size_t n = strlen(prefix);
    return s.n >= n && memcmp(s.p, prefix, n) == 0;
}

static larder_status start_key(lr_gguf_writer *w, lr_str key, larder_error *err)
{
    if (w->begun) return lr_fail(err, LARDER_USAGE, "key '%s' comes after the header was written", lr_show(key).s);
    if (!lr_name_ok(key)) return lr_fail(err, LARDER_USAGE, "'%s' is no name for a key", lr_show(key).s);
    if (lr_str_is(key, "general.alignment") || starts_with(key, "split."))
        return lr_fail(err, LARDER_USAGE, "key '%s' is the writer's own", lr_show(key).s);
    LR_TRY(add_name(&w->key_names, &w->keys, key, "key", err));
    put_str(&w->keys, key);
    w->n_keys++;
    return LARDER_OK;
}

static larder_status key_result(lr_gguf_writer *w, larder_error *err)
{
    if (!w->keys.failed) return LARDER_OK;
    w->failed = true;
    return LR_NOMEM(err, "the header");
}

static larder_status put_scalar(lr_gguf_writer *w, lr_str key, lr_kv_type type, const void *p, larder_error *err)
{
    LR_TRY(start_key(w, key, err));
    put_u32(&w->keys, (uint32_t)type);
    lr_buf_add(&w->keys, p, lr_kv_size(type));
    return key_result(w, err);
}

larder_status lr_gguf_writer_kv(lr_gguf_writer *w, const lr_kv *kv, larder_error *err)
{
    LR_TRY(start_key(w, kv->key, err));
    put_u32(&w->keys, (uint32_t)kv->type);
    if (kv->type == LR_KV_ARR) {
        put_u32(&w->keys, (uint32_t)kv->elem);
        put_u64(&w->keys, kv->n);
    } else if (kv->type == LR_KV_STR) {
        put_u64(&w->keys, kv->n_bytes);
    }
    lr_buf_add(&w->keys, kv->data, kv->n_bytes);
    return key_result(w, err);
}

larder_status lr_gguf_writer_u32(lr_gguf_writer *w, const char *key, uint32_t v, larder_error *err)
{
    return put_scalar(w, lr_str_of(key), LR_KV_U32, &v, err);
}

larder_status lr_gguf_writer_f32(lr_gguf_writer *w, const char *key, float v, larder_error *err)
{
    return put_scalar(w, lr_str_of(key), LR_KV_F32, &v, err);
}

larder_status lr_gguf_writer_bool(lr_gguf_writer *w, const char *key, bool v, larder_error *err)
{
    uint8_t byte = v;
    return put_scalar(w, lr_str_of(key), LR_KV_BOOL, &byte, err);
}

larder_status lr_gguf_writer_str(lr_gguf_writer *w, const char *key, lr_str v, larder_error *err)
{
    LR_TRY(start_key(w, lr_str_of(key), err));
    put_u32(&w->keys, LR_KV_STR);
    put_str(&w->keys, v);
    return key_result(w, err);
}

static larder_status start_array(lr_gguf_writer *w, const char *key, lr_kv_type elem, uint64_t n, larder_error *err)
{
    LR_TRY(start_key(w, lr_str_of(key), err));
    put_u32(&w->keys, LR_KV_ARR);
    put_u32(&w->keys, (uint32_t)elem);
    put_u64(&w->keys, n);
    return key_result(w, err);
}

larder_status lr_gguf_writer_array(lr_gguf_writer *w, const char *key, lr_kv_type elem, const void *p, uint64_t n,
                                   larder_error *err)
{
    size_t n_bytes = 0;
    if (!lr_kv_size(elem) || !lr_mul_size((size_t)n, lr_kv_size(elem), &n_bytes))
        return lr_fail(err, LARDER_USAGE, "key '%s' is no array of numbers", key);
    LR_TRY(start_array(w, key, elem, n, err));
    lr_buf_add(&w->keys, p, n_bytes);
    return key_result(w, err);
}

larder_status lr_gguf_writer_strs(lr_gguf_writer *w, const char *key, const lr_str *p, uint64_t n, larder_error *err)
{
    LR_TRY(start_array(w, key, LR_KV_STR, n, err));
    for (uint64_t i = 0; i < n; i++) put_str(&w->keys, p[i]);
    return key_result(w, err);
}

larder_status lr_gguf_writer_tensor(lr_gguf_writer *w, lr_str name, uint32_t fmt, int n_dims, const uint64_t ne[4],
                                    larder_error *err)
{
    if (w->begun || !lr_name_ok(name) || n_dims < 1 || n_dims > 4)
        return lr_fail(err, LARDER_USAGE, "tensor '%s' cannot be declared", lr_show(name).s);
    uint64_t n = fmt <= 255 ? lr_fmt_row_bytes(fmt, ne[0]) : 0, total;
    bool ok = n > 0;
    for (int d = 1; d < n_dims && ok; d++) ok = ne[d] > 0 && lr_mul_u64(n, ne[d], &n);
    if (!ok || n > INT64_MAX || !lr_add_u64(w->data_size, padded(n), &total) || total > INT64_MAX)
        return lr_fail(err, LARDER_USAGE, "tensor '%s' cannot be written to a GGUF in format %u with this shape",
                       lr_show(name).s, fmt);
    LR_TRY(add_name(&w->tensor_names, &w->infos, name, "tensor", err));
    put_str(&w->infos, name);
    put_u32(&w->infos, (uint32_t)n_dims);
    for (int d = 0; d < n_dims; d++) put_u64(&w->infos, ne[d]);
    put_u32(&w->infos, fmt);
    put_u64(&w->infos, w->data_size);
    lr_buf_add(&w->sizes, &n, sizeof n);
    w->failed |= w->infos.failed || w->sizes.failed;
    if (w->failed) return LR_NOMEM(err, "the header");
    w->n_tensors++;
    w->data_size = total;
    return LARDER_OK;
}

static uint64_t header_size(const lr_gguf_writer *w) { return 24 + w->keys.n + w->infos.n; }

uint64_t lr_gguf_writer_size(const lr_gguf_writer *w)
{
    return w->n_tensors ? padded(header_size(w)) + w->data_size : header_size(w);
}

static larder_status put_padding(lr_gguf_writer *w, uint64_t at, larder_error *err)
{
    static const char zeros[ALIGNMENT];
    return lr_out_write(&w->out, zeros, (size_t)(padded(at) - at), err);
}

static uint64_t tensor_size(const lr_gguf_writer *w, size_t i)
{
    uint64_t n;
    memcpy(&n, w->sizes.p + i * sizeof n, sizeof n);
    return n;
}

larder_status lr_gguf_writer_begin(lr_gguf_writer *w, larder_error *err)
{
    if (w->begun || w->failed) return lr_fail(err, LARDER_USAGE, "the header cannot be written now");
    lr_buf head = {0};
    lr_buf_add(&head, "GGUF", 4);
    put_u32(&head, 3);
    put_u64(&head, w->n_tensors);
    put_u64(&head, w->n_keys);
    larder_status st;
    w->begun = w->failed = true;
    if (head.failed) {
        st = LR_NOMEM(err, "the header");
        goto fail;
    }
    LR_GO(lr_out_write(&w->out, head.p, head.n, err));
    LR_GO(lr_out_write(&w->out, w->keys.p, w->keys.n, err));
    LR_GO(lr_out_write(&w->out, w->infos.p, w->infos.n, err));
    if (w->n_tensors) LR_GO(put_padding(w, header_size(w), err));
    w->failed = false;
fail:
    lr_buf_free(&head);
    return st;
}

/* As much of the bytes as belong to the current tensor; steps to the next one when it is full. */
static larder_status put_piece(lr_gguf_writer *w, const uint8_t *p, size_t n, size_t *used, larder_error *err)
{
    uint64_t size = tensor_size(w, w->tensor);
    *used = (size_t)LR_MIN((uint64_t)n, size - w->done);
    LR_TRY(lr_out_write(&w->out, p, *used, err));
    w->done += *used;
    if (w->done < size) return LARDER_OK;
    LR_TRY(put_padding(w, size, err));
    w->tensor++;
    w->done = 0;
    return LARDER_OK;
}

larder_status lr_gguf_writer_data(lr_gguf_writer *w, const void *p, size_t n, larder_error *err)
{
    if (!w->begun || w->failed) return lr_fail(err, LARDER_USAGE, "tensor data cannot be written now");
    const uint8_t *at = p;
    while (n) {
        size_t used = 0;
        larder_status st = w->tensor < w->n_tensors
                               ? put_piece(w, at, n, &used, err)
                               : lr_fail(err, LARDER_USAGE, "%zu bytes more than the tensors have", n);
        if (st) {
            w->failed = true;
            return st;
        }
        at += used;
        n -= used;
    }
    return LARDER_OK;
}

larder_status lr_gguf_writer_finish(lr_gguf_writer *w, larder_error *err)
{
    if (!w->begun || w->failed || w->tensor != w->n_tensors)
        return lr_fail(err, LARDER_USAGE, "'%s' is not whole: %zu of %llu tensors were written", w->out.path,
                       w->tensor, (unsigned long long)w->n_tensors);
    w->failed = true; /* nothing may follow */
    return lr_out_commit(&w->out, err);
}
