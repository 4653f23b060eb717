/* safet.h - a small reader of safetensors files for tests: golden vectors, and nothing a product would trust.
 *
 *     safet s;
 *     char path[512];
 *     if (!safet_shared(path, sizeof path, "golden/llama/golden.safetensors")) SKIP("LARDER_SHARED is not set");
 *     if (!safet_open(path, &s)) SKIP("no such file");
 *     uint64_t shape[8], n;
 *     const float *logits = safet_f32(&s, "a.logits", shape, &n);   (NULL if absent or of another type)
 *     safet_close(&s);
 *
 * Data are read into memory, so pointers into them are 8-byte aligned as far as the file's offsets allow: our golden
 * files are. It needs nothing but libc. Owns: finding a tensor by name. Refuses to own: hostile files (src/load).
 */
#ifndef LR_TEST_SAFET_H
#define LR_TEST_SAFET_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct safet {
    char *bytes; /* what follows the header */
    char *head;  /* the JSON, ends in NUL */
    const uint8_t *data;
    uint64_t n_data;
} safet;

/* Puts $LARDER_SHARED/rest in path. false if the variable is not set or the path does not fit. */
static inline bool safet_shared(char *path, size_t cap, const char *rest)
{
    const char *root = getenv("LARDER_SHARED");
    if (!root || !*root) return false;
    int n = snprintf(path, cap, "%s/%s", root, rest);
    return n > 0 && (size_t)n < cap;
}

static inline void safet_close(safet *s)
{
    free(s->bytes);
    free(s->head);
    memset(s, 0, sizeof *s);
}

static inline bool safet_open(const char *path, safet *s)
{
    memset(s, 0, sizeof *s);
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    uint64_t n_head = 0;
    long size = -1;
    bool ok = fseek(f, 0, SEEK_END) == 0 && (size = ftell(f)) >= 8 && fseek(f, 0, SEEK_SET) == 0;
    ok = ok && fread(&n_head, 1, 8, f) == 8 && n_head <= (uint64_t)size - 8;
    if (ok) {
        s->n_data = (uint64_t)size - 8 - n_head;
        s->head = calloc(1, (size_t)n_head + 1);
        s->bytes = malloc((size_t)s->n_data + 1);
        ok = s->head && s->bytes && fread(s->head, 1, (size_t)n_head, f) == n_head &&
             fread(s->bytes, 1, (size_t)s->n_data, f) == s->n_data;
        s->data = (const uint8_t *)s->bytes;
    }
    fclose(f);
    if (!ok) safet_close(s);
    return ok;
}

/* The numbers of `"key":[1,2,...]` found in [at, end); how many, or -1. */
static inline int safet_numbers_(const char *at, const char *end, const char *key, uint64_t *out, int cap)
{
    char *p = strstr(at, key);
    if (!p || p >= end || !(p = strchr(p, '['))) return -1;
    int n = 0;
    for (p++; *p && *p != ']' && n < cap;) {
        if (*p == ',' || *p == ' ') p++;
        else out[n++] = strtoull(p, &p, 10);
    }
    return n;
}

/* The tensor's bytes, or NULL. `dtype` [16] gets "F32", "U8", ...; `shape` [8] its sizes, zero after the last;
 * *n the number of elements. Each may be NULL. */
static inline const void *safet_get(const safet *s, const char *name, char *dtype, uint64_t *shape, uint64_t *n)
{
    char quoted[256];
    if (shape) memset(shape, 0, 8 * sizeof *shape);
    if (n) *n = 0;
    if (snprintf(quoted, sizeof quoted, "\"%s\"", name) >= (int)sizeof quoted) return NULL;
    const char *at = s->head;
    while ((at = strstr(at, quoted))) {
        at += strlen(quoted);
        while (*at == ' ' || *at == ':') at++;
        if (*at == '{') break;
    }
    const char *end = at ? strchr(at, '}') : NULL;
    if (!end) return NULL;
    uint64_t sizes[8] = {0}, span[2] = {0};
    int n_dims = safet_numbers_(at, end, "\"shape\"", sizes, 8);
    if (n_dims < 0 || safet_numbers_(at, end, "\"data_offsets\"", span, 2) != 2) return NULL;
    if (span[0] > span[1] || span[1] > s->n_data) return NULL;
    if (dtype) {
        const char *d = strstr(at, "\"dtype\"");
        d = d && d < end ? strchr(d + 7, '"') : NULL;
        size_t len = d ? strcspn(d + 1, "\"") : 0;
        if (!d || len > 15) return NULL;
        memcpy(dtype, d + 1, len);
        dtype[len] = 0;
    }
    if (shape) memcpy(shape, sizes, sizeof sizes);
    if (n) {
        *n = 1;
        for (int i = 0; i < n_dims; i++) *n *= sizes[i];
    }
    return s->data + span[0];
}

/* As safet_get, for one type of element. */
static inline const void *safet_typed_(const safet *s, const char *name, const char *want, uint64_t *shape,
                                       uint64_t *n)
{
    char dtype[16];
    const void *p = safet_get(s, name, dtype, shape, n);
    return p && strcmp(dtype, want) == 0 ? p : NULL;
}
static inline const float *safet_f32(const safet *s, const char *name, uint64_t *shape, uint64_t *n)
{
    return safet_typed_(s, name, "F32", shape, n);
}
static inline const uint8_t *safet_u8(const safet *s, const char *name, uint64_t *shape, uint64_t *n)
{
    return safet_typed_(s, name, "U8", shape, n);
}
static inline const int64_t *safet_i64(const safet *s, const char *name, uint64_t *shape, uint64_t *n)
{
    return safet_typed_(s, name, "I64", shape, n);
}
static inline const int32_t *safet_i32(const safet *s, const char *name, uint64_t *shape, uint64_t *n)
{
    return safet_typed_(s, name, "I32", shape, n);
}

#endif
