/* build.h - making model files byte by byte, good ones and bad ones, for the tests of src/load. */
#ifndef LR_TEST_BUILD_H
#define LR_TEST_BUILD_H

#include "../test.h"

#include "load.h"

#include <dirent.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

typedef struct build {
    lr_buf b;
    size_t u64_at[512]; /* where each u64 field lies */
    int n_u64;
} build;

static inline void put(build *f, const void *p, size_t n) { lr_buf_add(&f->b, p, n); }
static inline void put_u32(build *f, uint32_t v) { put(f, &v, 4); } /* tests run on little-endian machines */
static inline void put_u64(build *f, uint64_t v)
{
    f->u64_at[f->n_u64++] = f->b.n;
    put(f, &v, 8);
}
static inline void put_name(build *f, const char *s, size_t n)
{
    put_u64(f, n);
    put(f, s, n);
}
static inline void put_head(build *f, uint32_t version, uint64_t n_tensors, uint64_t n_kv)
{
    put(f, "GGUF", 4);
    put_u32(f, version);
    put_u64(f, n_tensors);
    put_u64(f, n_kv);
}
/* A key up to its value. */
static inline void put_key(build *f, const char *key, uint32_t type)
{
    put_name(f, key, strlen(key));
    put_u32(f, type);
}
static inline void put_key_u32(build *f, const char *key, uint32_t v)
{
    put_key(f, key, LR_KV_U32);
    put_u32(f, v);
}
static inline void put_key_u16(build *f, const char *key, uint16_t v)
{
    put_key(f, key, LR_KV_U16);
    put(f, &v, 2);
}
static inline void put_tensor(build *f, const char *name, uint32_t n_dims, const uint64_t *ne, uint32_t fmt,
                              uint64_t at)
{
    put_name(f, name, strlen(name));
    put_u32(f, n_dims);
    for (uint32_t d = 0; d < n_dims; d++) put_u64(f, ne[d]);
    put_u32(f, fmt);
    put_u64(f, at);
}
static inline void put_pad(build *f, size_t to)
{
    while (f->b.n % to) lr_buf_putc(&f->b, 0);
}
static inline void put_data(build *f, size_t n)
{
    for (size_t i = 0; i < n; i++) lr_buf_putc(&f->b, (char)(i * 7 + 1));
}

/* Three tensors and every kind of key; its last byte is a tensor's. */
static inline void build_good(build *f)
{
    put_head(f, 3, 3, 7);
    put_key(f, "general.architecture", LR_KV_STR);
    put_name(f, "llama", 5);
    put_key_u32(f, "a.u32", 7);
    put_key(f, "a.bool", LR_KV_BOOL);
    put(f, "\1", 1);
    put_key(f, "a.f64", LR_KV_F64);
    put(f, &(double){2.5}, 8);
    put_key(f, "tokens", LR_KV_ARR);
    put_u32(f, LR_KV_STR);
    put_u64(f, 3);
    put_name(f, "<s>", 3);
    put_name(f, "", 0);
    put_name(f, "\xe2\x96", 2);
    put_key(f, "scores", LR_KV_ARR);
    put_u32(f, LR_KV_F32);
    put_u64(f, 3);
    put(f, (float[]){1, 2, 3}, 12);
    put_key(f, "none", LR_KV_ARR);
    put_u32(f, LR_KV_I32);
    put_u64(f, 0);
    put_tensor(f, "one", 2, (uint64_t[]){4, 2}, LR_FMT_F32, 0);
    put_tensor(f, "two", 1, (uint64_t[]){32}, LR_FMT_Q8_0, 32);
    put_tensor(f, "three", 4, (uint64_t[]){2, 3, 2, 2}, LR_FMT_BF16, 96);
    put_pad(f, 32);
    put_data(f, 96 + 48);
}

/* Loads a copy that ends exactly where its allocation ends, so that a sanitizer sees a byte read too far. */
static inline larder_status load_copy(const void *p, size_t n, lr_file *out, uint8_t **copy, larder_error *err)
{
    *copy = malloc(n ? n : 1);
    if (n) memcpy(*copy, p, n);
    larder_status st = lr_load_bytes(*copy, n, out, err);
    if (st) {
        free(*copy);
        *copy = NULL;
    }
    return st;
}

/* Everything a file claims to hold lies in it, and can be read. */
static inline uint64_t read_all(const lr_file *f)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < f->n_kv; i++) {
        for (size_t b = 0; b < f->kv[i].n_bytes; b++) sum += f->kv[i].data[b];
        if (f->kv[i].type != LR_KV_ARR || f->kv[i].elem != LR_KV_STR) continue;
        lr_str_iter it = lr_str_walk(&f->kv[i]);
        lr_str s;
        while (lr_str_next(&it, &s))
            for (size_t b = 0; b < s.n; b++) sum += (uint8_t)s.p[b];
    }
    for (size_t i = 0; i < f->n_tensors; i++)
        for (uint64_t b = 0; b < f->tensors[i].n_bytes; b++) sum += f->tensors[i].data[b];
    return sum;
}

static inline larder_status load_build(const build *f, larder_error *err)
{
    lr_file out;
    uint8_t *copy;
    larder_status st = load_copy(f->b.p, f->b.n, &out, &copy, err);
    if (st) return st;
    read_all(&out);
    lr_file_close(&out);
    free(copy);
    return LARDER_OK;
}

/* The file is refused, in one line that contains `why`. */
static inline void check_refused(build *f, const char *why)
{
    larder_error err = {0};
    larder_status st = load_build(f, &err);
    if (!st) TEST_FAIL("a file that should be refused with '%s' was read", why);
    if (st == LARDER_INTERNAL || err.code != st || !strstr(err.message, why) || strpbrk(err.message, "\n\r\033"))
        TEST_FAIL("refused with '%s', not '%s'", err.message, why);
    lr_buf_free(&f->b);
    *f = (build){0};
}

/* A folder for the test's files; its files go when the test ends well. */
static char temp_dir[256];
static inline void temp_clean(void)
{
    DIR *d = opendir(temp_dir);
    char path[600];
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(path, sizeof path, "%s/%s", temp_dir, e->d_name);
        if (e->d_name[0] != '.') unlink(path);
    }
    if (d) closedir(d);
    rmdir(temp_dir);
}
static inline const char *temp_path(const char *name)
{
    static char path[8][600];
    static int turn;
    if (!temp_dir[0]) {
        const char *root = getenv("TMPDIR");
        snprintf(temp_dir, sizeof temp_dir, "%s/larder-test-XXXXXX", root && *root ? root : "/tmp");
        if (!mkdtemp(temp_dir)) TEST_FAIL("no folder for temporary files: %s", temp_dir);
        atexit(temp_clean);
    }
    char *out = path[turn++ % 8];
    snprintf(out, sizeof path[0], "%s/%s", temp_dir, name);
    return out;
}
static inline int temp_count(void)
{
    DIR *d = opendir(temp_dir);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));) n += e->d_name[0] != '.';
    if (d) closedir(d);
    return n;
}
static inline void save_bytes(const char *path, const void *p, size_t n)
{
    larder_error err = {0};
    CHECK_OK(lr_write_file(path, p, n, &err));
}
static inline void save(const char *path, build *f)
{
    save_bytes(path, f->b.p, f->b.n);
    lr_buf_free(&f->b);
    *f = (build){0};
}

#endif
