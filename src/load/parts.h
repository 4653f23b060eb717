/* parts.h - inside src/load: an lr_file while it is being read, and the checks both formats share. */
#ifndef LR_LOAD_PARTS_H
#define LR_LOAD_PARTS_H

#include "load.h"

/* Limits on what a header may claim; far above every real model, low enough that no file makes us eat the machine. */
enum {
    LR_MAX_KEYS = 1 << 20,
    LR_MAX_TENSORS = 1 << 20,
    LR_MAX_NAME = 64 << 10,
    LR_MAX_CONFIG = 16 << 20,
    LR_MAX_ST_HEADER = 100 << 20,
    LR_MAX_INDEX = 100 << 20,
    LR_MAX_SHARDS = 1000,
};

/* Arrays grow as entries are read and proven, never by what a header claims. */
typedef struct lr_parts {
    lr_file f;
    lr_buf kv;      /* of lr_kv */
    lr_buf tensors; /* of lr_tensor */
    lr_buf maps;    /* of lr_map */
} lr_parts;

void lr_parts_free(lr_parts *p);
/* Maps a file; it belongs to `p`. */
larder_status lr_parts_map(lr_parts *p, const char *path, lr_map *out, larder_error *err);
larder_status lr_parts_add_tensor(lr_parts *p, const lr_tensor *t, larder_error *err);
lr_kv *lr_parts_new_kv(lr_parts *p); /* NULL on no memory */
/* The arrays go into the file's arena, the indexes are built, *out is filled and `p` is empty. */
larder_status lr_parts_finish(lr_parts *p, const char *path, lr_file *out, larder_error *err);

static inline size_t lr_parts_n_kv(const lr_parts *p) { return p->kv.n / sizeof(lr_kv); }
static inline size_t lr_parts_n_tensors(const lr_parts *p) { return p->tensors.n / sizeof(lr_tensor); }
static inline lr_kv *lr_parts_kv(lr_parts *p) { return (lr_kv *)(void *)p->kv.p; }
static inline lr_tensor *lr_parts_tensors(lr_parts *p) { return (lr_tensor *)(void *)p->tensors.p; }

/* The tensors from index `first` on lie in [begin, end) without overlapping; `packed`: without holes either. */
larder_status lr_check_layout(lr_parts *p, size_t first, const uint8_t *begin, const uint8_t *end, bool packed,
                              const char *file, larder_error *err);
/* 1 to 64 KiB of valid UTF-8 without control characters. */
bool lr_name_ok(lr_str s);

/* A name from a file, cut and made harmless for a message. */
typedef struct lr_shown {
    char s[100];
} lr_shown;
lr_shown lr_show(lr_str s);

/* Readers of one file's bytes; `file` is its name in messages. `path` of *file is kept by nobody. */
bool lr_is_gguf(const uint8_t *p, size_t n);
larder_status lr_gguf_read(lr_parts *parts, const uint8_t *p, size_t n, const char *file, larder_error *err);
larder_status lr_gguf_open(const char *path, lr_file *out, larder_error *err);
larder_status lr_safetensors_read(lr_parts *parts, const uint8_t *p, size_t n, const char *file, larder_error *err);
larder_status lr_hf_open(const char *dir, lr_file *out, larder_error *err);
/* The object `json` (of file `file`) as keys under `prefix`. */
larder_status lr_json_keys(lr_parts *parts, const char *json, size_t n, const char *prefix, const char *file,
                           larder_error *err);

#endif
