/* load.c - what a path names, and what both file formats share: growing lists, names, the layout check. */
#include "parts.h"

#include <errno.h>
#include <stdlib.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

const char *lr_load_type_name(uint32_t fmt)
{
    switch (fmt) {
#define X(name, id, size) \
    case id: return #name;
        LR_RAW_TYPES(X)
#undef X
    default: break;
    }
    const lr_fmt_info *info = lr_fmt_get(fmt);
    return info ? info->name : NULL;
}

/* ---------------------------------------------------------------- names */

/* Length of the well-formed UTF-8 sequence at p (Unicode table 3-7), or 0. */
static size_t utf8_len(const uint8_t *p, size_t n)
{
    uint8_t a = p[0];
    if (a < 0x80) return 1;
    size_t len = a >= 0xC2 && a <= 0xDF ? 2 : a >= 0xE0 && a <= 0xEF ? 3 : a >= 0xF0 && a <= 0xF4 ? 4 : 0;
    if (!len || len > n) return 0;
    uint8_t low = a == 0xE0 ? 0xA0 : a == 0xF0 ? 0x90 : 0x80;
    uint8_t high = a == 0xED ? 0x9F : a == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < low || p[1] > high) return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    return len;
}

static bool is_control(uint8_t c) { return c < 0x20 || c == 0x7F; }

bool lr_name_ok(lr_str s)
{
    if (s.n == 0 || s.n > LR_MAX_NAME) return false;
    const uint8_t *p = (const uint8_t *)s.p;
    for (size_t i = 0; i < s.n;) {
        size_t len = utf8_len(p + i, s.n - i);
        if (!len || is_control(p[i])) return false;
        if (len == 2 && p[i] == 0xC2 && p[i + 1] < 0xA0) return false; /* C1 controls */
        i += len;
    }
    return true;
}

lr_shown lr_show(lr_str s)
{
    lr_shown out;
    size_t w = 0;
    const uint8_t *p = (const uint8_t *)s.p;
    for (size_t i = 0; i < s.n;) {
        size_t len = utf8_len(p + i, s.n - i);
        bool harmless = len > 1 ? !(p[i] == 0xC2 && p[i + 1] < 0xA0) : len == 1 && !is_control(p[i]);
        size_t take = harmless ? len : 1;
        if (w + take + 4 > sizeof out.s) {
            memcpy(out.s + w, "...", 3);
            w += 3;
            break;
        }
        if (harmless) memcpy(out.s + w, p + i, take);
        else out.s[w] = '?';
        w += take;
        i += len ? len : 1;
    }
    out.s[w] = 0;
    return out;
}

/* ---------------------------------------------------------------- parts */

void lr_parts_free(lr_parts *p)
{
    lr_map *maps = (lr_map *)(void *)p->maps.p;
    for (size_t i = 0; i < p->maps.n / sizeof *maps; i++) lr_map_close(&maps[i]);
    lr_buf_free(&p->maps);
    lr_buf_free(&p->kv);
    lr_buf_free(&p->tensors);
    lr_arena_free(&p->f.arena);
    memset(p, 0, sizeof *p);
}

larder_status lr_parts_map(lr_parts *p, const char *path, lr_map *out, larder_error *err)
{
    if (!lr_buf_reserve(&p->maps, sizeof *out)) return LR_NOMEM(err, "the list of files");
    LR_TRY(lr_map_open(path, out, err));
    lr_buf_add(&p->maps, out, sizeof *out);
    return LARDER_OK;
}

larder_status lr_parts_add_tensor(lr_parts *p, const lr_tensor *t, larder_error *err)
{
    if (lr_parts_n_tensors(p) >= LR_MAX_TENSORS)
        return lr_fail(err, LARDER_LIMIT, "the model has more than %d tensors", LR_MAX_TENSORS);
    lr_buf_add(&p->tensors, t, sizeof *t);
    return p->tensors.failed ? LR_NOMEM(err, "the list of tensors") : LARDER_OK;
}

lr_kv *lr_parts_new_kv(lr_parts *p)
{
    static const lr_kv empty;
    lr_buf_add(&p->kv, &empty, sizeof empty);
    return p->kv.failed ? NULL : lr_parts_kv(p) + lr_parts_n_kv(p) - 1;
}

static bool into_arena(lr_arena *a, lr_buf *b, void *out)
{
    void *copy = lr_arena_alloc(a, b->n ? b->n : 1);
    if (!copy || b->failed) return false;
    if (b->n) memcpy(copy, b->p, b->n);
    memcpy(out, &copy, sizeof copy);
    lr_buf_free(b);
    return true;
}

larder_status lr_parts_finish(lr_parts *p, const char *path, lr_file *out, larder_error *err)
{
    lr_file *f = &p->f;
    f->n_kv = lr_parts_n_kv(p);
    f->n_tensors = lr_parts_n_tensors(p);
    f->path = lr_arena_strndup(&f->arena, path, strlen(path));
    if (!f->path || !into_arena(&f->arena, &p->kv, &f->kv) || !into_arena(&f->arena, &p->tensors, &f->tensors))
        return LR_NOMEM(err, "the model's header");
    size_t n_maps = p->maps.n / sizeof(lr_map);
    lr_map *maps = lr_arena_alloc(&f->arena, p->maps.n + 1);
    if (!maps) return LR_NOMEM(err, "the model's header");
    if (n_maps) memcpy(maps, p->maps.p, p->maps.n);
    for (size_t i = 0; i < n_maps; i++)
        if (lr_map_damaged(&maps[i])) return lr_fail(err, LARDER_IO, "%s changed while it was being read", path);
    /* From here on the maps are the file's, also when the index fails. */
    f->maps = maps;
    f->n_maps = n_maps;
    lr_buf_free(&p->maps);
    larder_status st = lr_file_index(f, err);
    if (st) {
        lr_file_close(f);
    } else {
        *out = *f;
    }
    memset(p, 0, sizeof *p);
    return st;
}

static int by_data(const void *a, const void *b)
{
    const lr_tensor *x = *(const lr_tensor *const *)a, *y = *(const lr_tensor *const *)b;
    return x->data < y->data ? -1 : x->data > y->data;
}

larder_status lr_check_layout(lr_parts *p, size_t first, const uint8_t *begin, const uint8_t *end, bool packed,
                              const char *file, larder_error *err)
{
    size_t n = lr_parts_n_tensors(p) - first;
    const lr_tensor *t = n ? lr_parts_tensors(p) + first : NULL;
    const lr_tensor **order = lr_calloc(n + 1, sizeof(void *));
    if (!order) return LR_NOMEM(err, "the order of tensors");
    for (size_t i = 0; i < n; i++) order[i] = &t[i];
    qsort(order, n, sizeof(void *), by_data);
    larder_status st = LARDER_OK;
    const uint8_t *at = begin;
    for (size_t i = 0; i < n && !st; i++) {
        if (order[i]->data < at)
            st = lr_fail(err, LARDER_FORMAT, "%s: tensors '%s' and '%s' overlap in the file; it is damaged", file,
                         lr_show(order[i - 1]->name).s, lr_show(order[i]->name).s);
        else if (packed && order[i]->data > at)
            st = lr_fail(err, LARDER_FORMAT,
                         "%s: %llu bytes before tensor '%s' belong to nothing; the file is damaged", file,
                         (unsigned long long)(order[i]->data - at), lr_show(order[i]->name).s);
        at = order[i]->data + order[i]->n_bytes;
    }
    if (!st && packed && at != end)
        st = lr_fail(err, LARDER_FORMAT,
                     "%s: %llu bytes after the last tensor belong to nothing; the file is damaged", file,
                     (unsigned long long)(end - at));
    lr_free(order);
    return st;
}

/* ---------------------------------------------------------------- what a path names */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The folder of `path`, when its last name is one of a model folder's own files; else NULL. lr_free. */
static char *folder_of(const char *path)
{
    static const char *const own[] = {"config.json", "model.safetensors", "model.safetensors.index.json"};
    const char *name = base_name(path);
    for (size_t i = 0; i < LR_LEN(own); i++)
        if (strcmp(name, own[i]) == 0) {
            size_t n = (size_t)(name - path);
            return n == 0 ? lr_strndup(".", 1) : lr_strndup(path, n > 1 ? n - 1 : n);
        }
    return NULL;
}

static larder_status starts_as_gguf(const char *path, bool *is, larder_error *err)
{
    uint8_t magic[4];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* O_NONBLOCK: a pipe must not hang us here */
    if (fd < 0) return lr_fail_errno(err, errno, "cannot open model '%s'", path);
    struct stat sb;
    ssize_t n = fstat(fd, &sb) == 0 && S_ISREG(sb.st_mode) ? pread(fd, magic, sizeof magic, 0) : -1;
    close(fd);
    if (n < 0) return lr_fail(err, LARDER_IO, "cannot read '%s': it is not a regular file", path);
    *is = lr_is_gguf(magic, (size_t)n);
    return LARDER_OK;
}

larder_status lr_load(const char *path, lr_file *out, larder_error *err)
{
    memset(out, 0, sizeof *out);
    if (lr_is_dir(path)) return lr_hf_open(path, out, err);
    bool gguf = false;
    LR_TRY(starts_as_gguf(path, &gguf, err));
    if (gguf) return lr_gguf_open(path, out, err);
    char *dir = folder_of(path);
    if (!dir)
        return lr_fail(
            err, LARDER_FORMAT,
            "%s is no model file: it does not begin with 'GGUF'; for safetensors give the folder that holds "
            "config.json",
            path);
    larder_status st = lr_hf_open(dir, out, err);
    lr_free(dir);
    return st;
}

larder_status lr_load_safetensors(const char *path, lr_file *out, larder_error *err)
{
    memset(out, 0, sizeof *out);
    lr_parts parts = {.f.origin = LR_ORIGIN_HF};
    lr_map map = {0};
    larder_status st;
    LR_GO(lr_parts_map(&parts, path, &map, err));
    LR_GO(lr_safetensors_read(&parts, map.p, map.n, path, err));
    LR_GO(lr_parts_finish(&parts, path, out, err));
fail:
    lr_parts_free(&parts);
    return st;
}

larder_status lr_load_bytes(const uint8_t *p, size_t n, lr_file *out, larder_error *err)
{
    memset(out, 0, sizeof *out);
    bool gguf = lr_is_gguf(p, n);
    lr_parts parts = {.f.origin = gguf ? LR_ORIGIN_GGUF : LR_ORIGIN_HF};
    larder_status st;
    LR_GO((gguf ? lr_gguf_read : lr_safetensors_read)(&parts, p, n, "(memory)", err));
    LR_GO(lr_parts_finish(&parts, "(memory)", out, err));
fail:
    lr_parts_free(&parts);
    return st;
}
