/* gguf.c - reading GGUF: header, keys, tensor descriptions, split sets.
 *
 * Owns: every check on a GGUF file's bytes. Layout (all little-endian): "GGUF", u32 version, u64 tensors, u64 keys;
 * key = string, u32 type, value; tensor = string, u32 n_dims, u64 ne[n_dims], u32 type, u64 offset; then, aligned,
 * the data that offsets count from. A string is u64 length and bytes; an array u32 element type, u64 count, elements.
 * Refuses to own: the meaning of keys, except general.alignment and split.*.
 */
#include "parts.h"

enum { DEFAULT_ALIGNMENT = 32, MIN_ALIGNMENT = 8, MAX_ALIGNMENT = 65536, MAX_DIMS = 4 };

typedef unsigned long long ull;

/* Where reading is. The one predicate on sizes is need(): it fits, and lies inside the file. */
typedef struct cursor {
    const uint8_t *p;
    uint64_t n, at;
    const char *file;
    larder_error *err;
} cursor;

static larder_status need(const cursor *c, uint64_t n, const char *what)
{
    if (n <= c->n - c->at) return LARDER_OK;
    return lr_fail(
        c->err, LARDER_FORMAT,
        "%s: %s at byte %llu takes %llu bytes, but only %llu are left; the file is cut off or damaged, get it "
        "again",
        c->file, what, (ull)c->at, (ull)n, (ull)(c->n - c->at));
}

static uint64_t load_le(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static larder_status read_u32(cursor *c, const char *what, uint32_t *out)
{
    LR_TRY(need(c, 4, what));
    *out = (uint32_t)load_le(c->p + c->at, 4);
    c->at += 4;
    return LARDER_OK;
}

static larder_status read_u64(cursor *c, const char *what, uint64_t *out)
{
    LR_TRY(need(c, 8, what));
    *out = load_le(c->p + c->at, 8);
    c->at += 8;
    return LARDER_OK;
}

static larder_status read_str(cursor *c, const char *what, lr_str *out)
{
    uint64_t n = 0;
    LR_TRY(read_u64(c, what, &n));
    LR_TRY(need(c, n, what));
    *out = (lr_str){(const char *)c->p + c->at, (size_t)n};
    c->at += n;
    return LARDER_OK;
}

static larder_status read_name(cursor *c, const char *what, lr_str *out)
{
    uint64_t at = c->at;
    LR_TRY(read_str(c, what, out));
    if (lr_name_ok(*out)) return LARDER_OK;
    return lr_fail(c->err, LARDER_FORMAT,
                   "%s: %s at byte %llu ('%s') is not 1 to 65536 bytes of printable UTF-8; the file is damaged",
                   c->file, what, (ull)at, lr_show(*out).s);
}

bool lr_is_gguf(const uint8_t *p, size_t n) { return n >= 4 && memcmp(p, "GGUF", 4) == 0; }

/* ---------------------------------------------------------------- keys */

static larder_status check_bools(const cursor *c, lr_str key, const uint8_t *p, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if (p[i] > 1)
            return lr_fail(c->err, LARDER_FORMAT,
                           "%s: key '%s' holds a truth value of %u at byte %llu (0 or 1 expected)", c->file,
                           lr_show(key).s, p[i], (ull)(p - c->p) + i);
    return LARDER_OK;
}

static larder_status bad_type(const cursor *c, lr_str key, const char *of, uint32_t type)
{
    return lr_fail(c->err, LARDER_FORMAT, "%s: key '%s': %s type %u is none that GGUF has (0 to 12)%s", c->file,
                   lr_show(key).s, of, type, "; the file is damaged or newer than this larder");
}

static larder_status read_array(cursor *c, lr_kv *kv)
{
    uint32_t elem = 0;
    LR_TRY(read_u32(c, "an array's type", &elem));
    LR_TRY(read_u64(c, "an array's length", &kv->n));
    if (elem >= LR_KV_TYPES) return bad_type(c, kv->key, "element", elem);
    if (elem == LR_KV_ARR)
        return lr_fail(c->err, LARDER_UNSUPPORTED, "%s: key '%s' is an array of arrays, which larder does not read",
                       c->file, lr_show(kv->key).s);
    kv->elem = (lr_kv_type)elem;
    kv->data = c->p + c->at;
    uint64_t begin = c->at, n_bytes;
    if (elem == LR_KV_STR) {
        for (uint64_t i = 0; i < kv->n; i++) {
            lr_str ignored;
            LR_TRY(read_str(c, "a string of an array", &ignored));
        }
    } else {
        if (!lr_mul_u64(kv->n, lr_kv_size(kv->elem), &n_bytes)) n_bytes = UINT64_MAX;
        LR_TRY(need(c, n_bytes, "an array"));
        if (elem == LR_KV_BOOL) LR_TRY(check_bools(c, kv->key, kv->data, kv->n));
        c->at += n_bytes;
    }
    kv->n_bytes = (size_t)(c->at - begin);
    return LARDER_OK;
}

static larder_status read_value(cursor *c, lr_kv *kv)
{
    uint32_t type = 0;
    LR_TRY(read_u32(c, "a value's type", &type));
    if (type >= LR_KV_TYPES) return bad_type(c, kv->key, "value", type);
    kv->type = (lr_kv_type)type;
    if (type == LR_KV_ARR) return read_array(c, kv);
    kv->n = 1;
    kv->elem = kv->type;
    if (type == LR_KV_STR) {
        lr_str s;
        LR_TRY(read_str(c, "a string value", &s));
        kv->data = (const uint8_t *)s.p;
        kv->n_bytes = s.n;
        return LARDER_OK;
    }
    kv->n_bytes = lr_kv_size(kv->type);
    LR_TRY(need(c, kv->n_bytes, "a value"));
    kv->data = c->p + c->at;
    c->at += kv->n_bytes;
    return type == LR_KV_BOOL ? check_bools(c, kv->key, kv->data, 1) : LARDER_OK;
}

static larder_status read_keys(cursor *c, lr_parts *parts, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        lr_kv kv = {0};
        LR_TRY(read_name(c, "a key's name", &kv.key));
        LR_TRY(read_value(c, &kv));
        lr_kv *slot = lr_parts_new_kv(parts);
        if (!slot) return LR_NOMEM(c->err, "the list of keys");
        *slot = kv;
    }
    return LARDER_OK;
}

static const lr_kv *find_key(lr_parts *parts, size_t first, const char *key)
{
    for (size_t i = first; i < lr_parts_n_kv(parts); i++)
        if (lr_str_is(lr_parts_kv(parts)[i].key, key)) return &lr_parts_kv(parts)[i];
    return NULL;
}

static larder_status read_alignment(const cursor *c, lr_parts *parts, size_t first_kv, uint32_t *out)
{
    *out = DEFAULT_ALIGNMENT;
    const lr_kv *kv = find_key(parts, first_kv, "general.alignment");
    if (!kv) return LARDER_OK;
    if (kv->type != LR_KV_U32)
        return lr_fail(c->err, LARDER_FORMAT, "%s: general.alignment is %s, not u32; the file is damaged", c->file,
                       lr_kv_type_name(kv->type));
    uint32_t a = (uint32_t)load_le(kv->data, 4);
    if (a < MIN_ALIGNMENT || a > MAX_ALIGNMENT || (a & (a - 1)))
        return lr_fail(c->err, LARDER_FORMAT, "%s: general.alignment is %u, not a power of two from %d to %d",
                       c->file, a, MIN_ALIGNMENT, MAX_ALIGNMENT);
    *out = a;
    return LARDER_OK;
}

/* ---------------------------------------------------------------- tensors */

/* What other programs call the formats that larder does not hold, for messages only. */
static const char *foreign_format(uint32_t type)
{
    static const char *const names[] = {
        [9] = "Q8_1",   [15] = "Q8_K",  [17] = "IQ2_XS", [18] = "IQ3_XXS", [19] = "IQ1_S",
        [21] = "IQ3_S", [22] = "IQ2_S", [24] = "I8",     [25] = "I16",     [26] = "I32",
        [27] = "I64",   [28] = "F64",   [29] = "IQ1_M",  [34] = "TQ1_0",   [35] = "TQ2_0",
    };
    return type < LR_LEN(names) && names[type] ? names[type] : "unknown";
}

static larder_status check_shape(const cursor *c, lr_tensor *t, uint32_t n_dims)
{
    lr_shown name = lr_show(t->name);
    const lr_fmt_info *fmt = t->fmt <= 255 ? lr_fmt_get(t->fmt) : NULL;
    if (!fmt)
        return lr_fail(c->err, LARDER_UNSUPPORTED,
                       "%s: tensor '%s' is stored as type %u (%s), which larder does not read", c->file, name.s,
                       t->fmt, foreign_format(t->fmt));
    for (uint32_t d = 0; d < n_dims; d++)
        if (t->ne[d] == 0)
            return lr_fail(c->err, LARDER_FORMAT, "%s: dimension %u of tensor '%s' is 0; the file is damaged",
                           c->file, d, name.s);
    if (t->ne[0] % fmt->block)
        return lr_fail(c->err, LARDER_FORMAT, "%s: tensor '%s' has rows of %llu, not a multiple of %s's block of %u",
                       c->file, name.s, (ull)t->ne[0], fmt->name, fmt->block);
    uint64_t count = t->ne[0]; /* of weights, which must fit as well: kernels index by it */
    bool fits = lr_mul_u64(t->ne[0] / fmt->block, fmt->bytes, &t->row_stride) &&
                lr_mul_u64(t->row_stride, t->ne[1], &t->mat_stride) &&
                lr_mul_u64(t->mat_stride, t->ne[2], &t->n_bytes) && lr_mul_u64(t->n_bytes, t->ne[3], &t->n_bytes);
    for (int d = 1; d < MAX_DIMS && fits; d++) fits = lr_mul_u64(count, t->ne[d], &count);
    if (!fits || count > INT64_MAX || t->n_bytes > INT64_MAX)
        return lr_fail(c->err, LARDER_FORMAT, "%s: the size of tensor '%s' (%llu x %llu x %llu x %llu) overflows",
                       c->file, name.s, (ull)t->ne[0], (ull)t->ne[1], (ull)t->ne[2], (ull)t->ne[3]);
    return LARDER_OK;
}

/* Reads one description. Offsets count from the end of all descriptions, which is not known yet: until it is, the
 * offset waits in aux_row_stride, which GGUF tensors do not use. */
static larder_status read_tensor(cursor *c, lr_tensor *t)
{
    uint32_t n_dims = 0;
    LR_TRY(read_name(c, "a tensor's name", &t->name));
    LR_TRY(read_u32(c, "a tensor's dimension count", &n_dims));
    if (n_dims < 1 || n_dims > MAX_DIMS)
        return lr_fail(c->err, LARDER_FORMAT, "%s: tensor '%s' has %u dimensions (1 to %d expected)", c->file,
                       lr_show(t->name).s, n_dims, MAX_DIMS);
    t->n_dims = (int)n_dims;
    for (uint32_t d = 0; d < MAX_DIMS; d++) t->ne[d] = 1;
    for (uint32_t d = 0; d < n_dims; d++) LR_TRY(read_u64(c, "a tensor's dimension", &t->ne[d]));
    LR_TRY(read_u32(c, "a tensor's type", &t->fmt));
    LR_TRY(read_u64(c, "a tensor's offset", &t->aux_row_stride));
    return check_shape(c, t, n_dims);
}

static larder_status place_tensor(const cursor *c, lr_tensor *t, uint64_t data_at, uint32_t alignment)
{
    uint64_t offset = t->aux_row_stride;
    uint64_t room = data_at <= c->n ? c->n - data_at : 0;
    if (offset % alignment)
        return lr_fail(c->err, LARDER_FORMAT,
                       "%s: tensor '%s' lies at offset %llu, not a multiple of %u; the file is damaged", c->file,
                       lr_show(t->name).s, (ull)offset, alignment);
    if (offset > room || t->n_bytes > room - offset)
        return lr_fail(
            c->err, LARDER_FORMAT,
            "%s: tensor '%s' needs %llu bytes at offset %llu, past the end of the file (%llu bytes of data); it "
            "is cut off, get it again",
            c->file, lr_show(t->name).s, (ull)t->n_bytes, (ull)offset, (ull)room);
    t->data = c->p + data_at + offset;
    t->aux_row_stride = 0;
    return LARDER_OK;
}

static larder_status read_tensors(cursor *c, lr_parts *parts, uint64_t n, uint32_t alignment)
{
    size_t first = lr_parts_n_tensors(parts);
    for (uint64_t i = 0; i < n; i++) {
        lr_tensor t = {0};
        LR_TRY(read_tensor(c, &t));
        LR_TRY(lr_parts_add_tensor(parts, &t, c->err));
    }
    uint64_t data_at = c->at + (alignment - c->at % alignment) % alignment; /* at most 64 KiB past the file */
    for (uint64_t i = 0; i < n; i++) LR_TRY(place_tensor(c, lr_parts_tensors(parts) + first + i, data_at, alignment));
    return lr_check_layout(parts, first, c->p + LR_MIN(data_at, c->n), c->p + c->n, false, c->file, c->err);
}

/* ---------------------------------------------------------------- one file */

static larder_status read_version(cursor *c)
{
    uint32_t version = 0;
    c->at = 4;
    LR_TRY(read_u32(c, "the version", &version));
    if (version == 2 || version == 3) return LARDER_OK;
    if (version == 1)
        return lr_fail(c->err, LARDER_UNSUPPORTED,
                       "%s is GGUF version 1, which larder does not read; convert it anew with a current program",
                       c->file);
    if (version == 0x02000000 || version == 0x03000000 || version == 0x01000000)
        return lr_fail(c->err, LARDER_UNSUPPORTED, "%s is a big-endian GGUF, which larder does not read", c->file);
    return lr_fail(c->err, LARDER_UNSUPPORTED, "%s is GGUF version %u; larder reads versions 2 and 3", c->file,
                   version);
}

larder_status lr_gguf_read(lr_parts *parts, const uint8_t *p, size_t n, const char *file, larder_error *err)
{
    if (!lr_is_gguf(p, n))
        return lr_fail(err, LARDER_FORMAT, "%s is no GGUF file: it does not begin with 'GGUF'", file);
    cursor c = {.p = p, .n = n, .file = file, .err = err};
    size_t first_kv = lr_parts_n_kv(parts);
    uint64_t n_tensors = 0, n_kv = 0;
    LR_TRY(read_version(&c));
    LR_TRY(read_u64(&c, "the number of tensors", &n_tensors));
    LR_TRY(read_u64(&c, "the number of keys", &n_kv));
    /* Each key takes 14 bytes or more and each tensor 33, so a count the file cannot hold is refused at once. */
    uint64_t left = c.n - c.at;
    if (n_kv > left / 14 || n_kv > LR_MAX_KEYS || n_tensors > left / 33 || n_tensors > LR_MAX_TENSORS)
        return lr_fail(
            err, LARDER_FORMAT,
            "%s: claims %llu keys and %llu tensors, more than its %llu bytes or larder's limit (%d) allow; it is "
            "damaged",
            file, (ull)n_kv, (ull)n_tensors, (ull)n, LR_MAX_KEYS);
    LR_TRY(read_keys(&c, parts, n_kv));
    uint32_t alignment = 0;
    LR_TRY(read_alignment(&c, parts, first_kv, &alignment));
    if (parts->f.alignment < alignment) parts->f.alignment = alignment;
    return read_tensors(&c, parts, n_tensors, alignment);
}

/* ---------------------------------------------------------------- split sets
 * NAME-00001-of-00003.gguf. The first part holds the keys; the keys of the others (split.* only, by convention) are
 * checked and dropped. */

typedef struct split {
    int64_t no, count, n_tensors; /* split.no counts from 0; n_tensors -1 if not said */
} split;

static larder_status split_key(lr_parts *parts, size_t first, const char *key, const char *file, int64_t *io,
                               larder_error *err)
{
    const lr_kv *kv = find_key(parts, first, key);
    if (!kv) return LARDER_OK;
    if (kv->type == LR_KV_ARR || !lr_kv_integer(kv, 0, io) || *io < 0)
        return lr_fail(err, LARDER_FORMAT, "%s: key '%s' is not a count; the file is damaged", file, key);
    return LARDER_OK;
}

static larder_status read_split(lr_parts *parts, size_t first, const char *file, split *out, larder_error *err)
{
    *out = (split){0, 1, -1};
    LR_TRY(split_key(parts, first, "split.no", file, &out->no, err));
    LR_TRY(split_key(parts, first, "split.count", file, &out->count, err));
    return split_key(parts, first, "split.tensors.count", file, &out->n_tensors, err);
}

enum { SUFFIX = 20 }; /* of "-00001-of-00003.gguf" */

/* Takes "-00002-of-00003.gguf" off a path: its numbers and the length of what is before. */
static bool parse_split_name(const char *path, size_t *n_stem, int *no, int *count)
{
    size_t n = strlen(path);
    if (n <= SUFFIX) return false;
    const char *s = path + n - SUFFIX;
    static const char shape[] = "-#####-of-#####.gguf";
    for (int i = 0; i < SUFFIX; i++)
        if (shape[i] == '#' ? s[i] < '0' || s[i] > '9' : s[i] != shape[i]) return false;
    *no = *count = 0;
    for (int i = 1; i <= 5; i++) *no = *no * 10 + (s[i] - '0');
    for (int i = 10; i <= 14; i++) *count = *count * 10 + (s[i] - '0');
    *n_stem = n - SUFFIX;
    return true;
}

static larder_status read_shard(lr_parts *parts, const char *path, int no, int count, split *got, larder_error *err)
{
    lr_map map = {0};
    size_t first_kv = lr_parts_n_kv(parts);
    LR_TRY(lr_parts_map(parts, path, &map, err));
    LR_TRY(lr_gguf_read(parts, map.p, map.n, path, err));
    LR_TRY(read_split(parts, first_kv, path, got, err));
    if (got->count != count || got->no != no - 1)
        return lr_fail(err, LARDER_FORMAT,
                       "%s says it is part %lld of %lld, but its name says %d of %d; get the set again", path,
                       (long long)got->no + 1, (long long)got->count, no, count);
    if (no > 1) parts->kv.n = first_kv * sizeof(lr_kv);
    return LARDER_OK;
}

static larder_status read_set(lr_parts *parts, const char *path, size_t n_stem, int count, larder_error *err)
{
    larder_status st = LARDER_OK;
    split first = {0};
    if (count > LR_MAX_SHARDS)
        return lr_fail(err, LARDER_LIMIT, "%s: %d parts; larder opens at most %d", path, count, LR_MAX_SHARDS);
    lr_buf name = {0};
    for (int no = 1; no <= count; no++) {
        split got = {0};
        name.n = 0;
        lr_buf_add(&name, path, n_stem);
        lr_buf_printf(&name, "-%05d-of-%05d.gguf", no, count);
        lr_buf_putc(&name, 0);
        if (name.failed) {
            st = LR_NOMEM(err, "a file name");
            goto fail;
        }
        if (!lr_is_file(name.p)) {
            st = lr_fail(err, LARDER_NOT_FOUND, "part %d of %d is missing: %s", no, count, name.p);
            goto fail;
        }
        LR_GO(read_shard(parts, name.p, no, count, &got, err));
        if (no == 1) first = got;
    }
    if (first.n_tensors >= 0 && (uint64_t)first.n_tensors != lr_parts_n_tensors(parts))
        st = lr_fail(err, LARDER_FORMAT, "%s: the set should hold %lld tensors and holds %zu; get it again", path,
                     (long long)first.n_tensors, lr_parts_n_tensors(parts));
fail:
    lr_buf_free(&name);
    return st;
}

larder_status lr_gguf_open(const char *path, lr_file *out, larder_error *err)
{
    lr_parts parts = {.f.origin = LR_ORIGIN_GGUF};
    lr_map map = {0};
    split s = {0};
    larder_status st;
    LR_GO(lr_parts_map(&parts, path, &map, err));
    LR_GO(lr_gguf_read(&parts, map.p, map.n, path, err));
    LR_GO(read_split(&parts, 0, path, &s, err));
    if (s.count > 1) {
        size_t n_stem = 0;
        int no = 0, count = 0;
        if (!parse_split_name(path, &n_stem, &no, &count)) {
            st = lr_fail(
                err, LARDER_FORMAT,
                "%s is part %lld of %lld of a split model; its name must end in -%05lld-of-%05lld.gguf, beside the "
                "other parts",
                path, (long long)s.no + 1, (long long)s.count, (long long)s.no + 1, (long long)s.count);
            goto fail;
        }
        if (s.count != count || s.no != no - 1) {
            st = lr_fail(err, LARDER_FORMAT, "%s says it is part %lld of %lld, but its name says %d of %d", path,
                         (long long)s.no + 1, (long long)s.count, no, count);
            goto fail;
        }
        lr_parts_free(&parts);
        parts.f.origin = LR_ORIGIN_GGUF;
        LR_GO(read_set(&parts, path, n_stem, count, err));
    }
    LR_GO(lr_parts_finish(&parts, path, out, err));
fail:
    lr_parts_free(&parts);
    return st;
}
