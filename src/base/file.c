/* file.c - lr_file: looking up and reading what a model file says.
 *
 * Owns: the name indexes and typed, checked reading of keys. Refuses to own: parsing any format (src/load).
 */
#include "file.h"

#include <math.h>

static const struct {
    const char *name;
    uint8_t size;
    bool is_signed, is_float;
} types[LR_KV_TYPES] = {
    [LR_KV_U8] = {"u8", 1, false, false},      [LR_KV_I8] = {"i8", 1, true, false},
    [LR_KV_U16] = {"u16", 2, false, false},    [LR_KV_I16] = {"i16", 2, true, false},
    [LR_KV_U32] = {"u32", 4, false, false},    [LR_KV_I32] = {"i32", 4, true, false},
    [LR_KV_F32] = {"f32", 4, true, true},      [LR_KV_BOOL] = {"bool", 1, false, false},
    [LR_KV_STR] = {"string", 0, false, false}, [LR_KV_ARR] = {"array", 0, false, false},
    [LR_KV_U64] = {"u64", 8, false, false},    [LR_KV_I64] = {"i64", 8, true, false},
    [LR_KV_F64] = {"f64", 8, true, true},
};

size_t lr_kv_size(lr_kv_type t) { return (unsigned)t < LR_KV_TYPES ? types[t].size : 0; }
const char *lr_kv_type_name(lr_kv_type t) { return (unsigned)t < LR_KV_TYPES ? types[t].name : "unknown"; }

/* ---------------------------------------------------------------- indexes
 * Open addressing, at most half full; a slot holds the position + 1. `stride` steps over structs that begin with
 * their name, so one table serves keys and tensors. */
struct lr_index {
    const char *items;
    size_t stride, mask;
    uint32_t *slots;
};

static lr_str name_at(const struct lr_index *ix, size_t i) { return *(const lr_str *)(ix->items + i * ix->stride); }

/* The slot of a name, or the empty one where it would go. */
static uint32_t *find(const struct lr_index *ix, lr_str name)
{
    size_t at = lr_hash(name.p, name.n) & ix->mask;
    while (ix->slots[at] && !lr_str_eq(name_at(ix, ix->slots[at] - 1), name)) at = (at + 1) & ix->mask;
    return &ix->slots[at];
}

static larder_status index_build(lr_file *f, const void *items, size_t n, size_t stride, const char *what,
                                 struct lr_index **out, larder_error *err)
{
    if (n >= UINT32_MAX / 4) return lr_fail(err, LARDER_LIMIT, "%s: too many %ss (%zu)", f->path, what, n);
    size_t cap = 8;
    while (cap < n * 2) cap *= 2;
    struct lr_index *ix = lr_arena_alloc(&f->arena, sizeof *ix);
    uint32_t *slots = lr_arena_array(&f->arena, cap, sizeof *slots);
    if (!ix || !slots) return LR_NOMEM(err, "the index of names");
    *ix = (struct lr_index){items, stride, cap - 1, slots};
    for (size_t i = 0; i < n; i++) {
        lr_str name = name_at(ix, i);
        uint32_t *slot = find(ix, name);
        if (*slot)
            return lr_fail(err, LARDER_FORMAT, "%s: the %s '%.*s' stands twice", f->path, what, LR_STR_ARG(name));
        *slot = (uint32_t)i + 1;
    }
    *out = ix;
    return LARDER_OK;
}

_Static_assert(offsetof(lr_kv, key) == 0 && offsetof(lr_tensor, name) == 0, "an indexed struct begins with its name");

larder_status lr_file_index(lr_file *f, larder_error *err)
{
    f->key_index = f->tensor_index = NULL;
    LR_TRY(index_build(f, f->kv, f->n_kv, sizeof *f->kv, "key", &f->key_index, err));
    return index_build(f, f->tensors, f->n_tensors, sizeof *f->tensors, "tensor", &f->tensor_index, err);
}

const lr_kv *lr_file_key(const lr_file *f, const char *key)
{
    uint32_t i = f->key_index ? *find(f->key_index, lr_str_of(key)) : 0;
    return i ? &f->kv[i - 1] : NULL;
}

const lr_tensor *lr_file_tensor(const lr_file *f, lr_str name)
{
    uint32_t i = f->tensor_index ? *find(f->tensor_index, name) : 0;
    return i ? &f->tensors[i - 1] : NULL;
}

void lr_file_close(lr_file *f)
{
    for (size_t i = 0; i < f->n_maps; i++) lr_map_close(&f->maps[i]);
    lr_arena_free(&f->arena);
    *f = (lr_file){0};
}

bool lr_file_damaged(const lr_file *f)
{
    for (size_t i = 0; i < f->n_maps; i++)
        if (lr_map_damaged(&f->maps[i])) return true;
    return false;
}

/* ---------------------------------------------------------------- values */
/* The type and bytes of element i; false if there is no such element or it has no fixed size. */
static bool element(const lr_kv *kv, uint64_t i, lr_kv_type *type, const uint8_t **p)
{
    *type = kv->type == LR_KV_ARR ? kv->elem : kv->type;
    size_t size = lr_kv_size(*type);
    uint64_t n = kv->type == LR_KV_ARR ? kv->n : 1;
    if (!size || i >= n || i >= kv->n_bytes / size) return false;
    *p = kv->data + i * size;
    return true;
}

static uint64_t load_le(const uint8_t *p, size_t size)
{
    uint64_t v = 0;
    for (size_t i = 0; i < size; i++) v |= (uint64_t)p[i] << 8 * i;
    return v;
}

/* An integer as 64 bits of two's complement and its sign. */
static bool load_integer(const lr_kv *kv, uint64_t i, uint64_t *out, bool *negative)
{
    lr_kv_type type;
    const uint8_t *p;
    if (!element(kv, i, &type, &p) || types[type].is_float) return false;
    size_t size = lr_kv_size(type);
    uint64_t v = load_le(p, size), sign = (uint64_t)1 << (8 * size - 1);
    *negative = types[type].is_signed && (v & sign);
    if (*negative && size < 8) v |= ~(uint64_t)0 << 8 * size;
    *out = v;
    return true;
}

bool lr_kv_integer(const lr_kv *kv, uint64_t i, int64_t *out)
{
    uint64_t v;
    bool negative;
    if (!load_integer(kv, i, &v, &negative) || (!negative && v > INT64_MAX)) return false;
    memcpy(out, &v, sizeof v);
    return true;
}

bool lr_kv_number(const lr_kv *kv, uint64_t i, double *out)
{
    lr_kv_type type;
    const uint8_t *p;
    if (!element(kv, i, &type, &p)) return false;
    uint64_t bits = load_le(p, lr_kv_size(type));
    if (type == LR_KV_F32) {
        uint32_t low = (uint32_t)bits;
        float x;
        memcpy(&x, &low, sizeof x);
        *out = x;
    } else if (type == LR_KV_F64) {
        memcpy(out, &bits, sizeof bits);
    } else {
        bool negative = false;
        if (!load_integer(kv, i, &bits, &negative)) return false;
        *out = negative ? -(double)(~bits + 1) : (double)bits;
    }
    return true;
}

/* ---------------------------------------------------------------- typed keys */
static larder_status wrong_type(const lr_file *f, const lr_kv *kv, const char *want, larder_error *err)
{
    return lr_fail(err, LARDER_FORMAT, "%s: the key %.*s is of type %s, not %s", f->path, LR_STR_ARG(kv->key),
                   lr_kv_type_name(kv->type), want);
}

larder_status lr_key_u64(const lr_file *f, const char *key, uint64_t min, uint64_t max, uint64_t *io,
                         larder_error *err)
{
    const lr_kv *kv = lr_file_key(f, key);
    if (!kv) return LARDER_OK;
    uint64_t v;
    bool negative;
    if (kv->type == LR_KV_ARR || !load_integer(kv, 0, &v, &negative)) return wrong_type(f, kv, "an integer", err);
    if (negative || v < min || v > max)
        return lr_fail(err, LARDER_FORMAT, "%s: the key %s is %s%llu, outside %llu..%llu", f->path, key,
                       negative ? "-" : "", (unsigned long long)(negative ? ~v + 1 : v), (unsigned long long)min,
                       (unsigned long long)max);
    *io = v;
    return LARDER_OK;
}

larder_status lr_key_u32(const lr_file *f, const char *key, uint32_t min, uint32_t max, uint32_t *io,
                         larder_error *err)
{
    uint64_t v = *io;
    LR_TRY(lr_key_u64(f, key, min, max, &v, err));
    *io = (uint32_t)v;
    return LARDER_OK;
}

larder_status lr_key_f64(const lr_file *f, const char *key, double min, double max, double *io, larder_error *err)
{
    const lr_kv *kv = lr_file_key(f, key);
    if (!kv) return LARDER_OK;
    double v;
    if (kv->type == LR_KV_ARR || kv->type == LR_KV_BOOL || !lr_kv_number(kv, 0, &v))
        return wrong_type(f, kv, "a number", err);
    if (!isfinite(v) || v < min || v > max)
        return lr_fail(err, LARDER_FORMAT, "%s: the key %s is %g, outside %g..%g", f->path, key, v, min, max);
    *io = v;
    return LARDER_OK;
}

larder_status lr_key_bool(const lr_file *f, const char *key, bool *io, larder_error *err)
{
    const lr_kv *kv = lr_file_key(f, key);
    if (!kv) return LARDER_OK;
    if (kv->type == LR_KV_ARR || kv->type == LR_KV_STR) return wrong_type(f, kv, "a boolean", err);
    uint64_t v = 0;
    LR_TRY(lr_key_u64(f, key, 0, 1, &v, err));
    *io = v != 0;
    return LARDER_OK;
}

larder_status lr_key_str(const lr_file *f, const char *key, lr_str *io, larder_error *err)
{
    const lr_kv *kv = lr_file_key(f, key);
    if (!kv) return LARDER_OK;
    if (kv->type != LR_KV_STR) return wrong_type(f, kv, "a string", err);
    *io = (lr_str){(const char *)kv->data, kv->n_bytes};
    return LARDER_OK;
}

lr_str_iter lr_str_walk(const lr_kv *kv) { return (lr_str_iter){kv->data, kv->data + kv->n_bytes, kv->n}; }

bool lr_str_next(lr_str_iter *it, lr_str *out)
{
    size_t room = (size_t)(it->end - it->p);
    if (!it->left || room < 8) return false;
    *out = (lr_str){(const char *)it->p + 8, (size_t)load_le(it->p, 8)};
    if (out->n > room - 8) return false;
    it->p += 8 + out->n;
    it->left--;
    return true;
}

/* ---------------------------------------------------------------- making keys */
lr_kv *lr_kv_make(lr_file *f, lr_kv *at, lr_str key, lr_kv_type type, lr_kv_type elem, uint64_t n, const void *data,
                  size_t n_bytes)
{
    char *name = lr_arena_strndup(&f->arena, key.p, key.n);
    uint8_t *copy = lr_arena_alloc(&f->arena, n_bytes);
    if (!name || !copy) return NULL;
    if (n_bytes) memcpy(copy, data, n_bytes);
    *at = (lr_kv){{name, key.n}, type, elem, n, copy, n_bytes};
    return at;
}
