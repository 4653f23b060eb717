/* file.h - lr_file: what any model file says, keys and tensors, whoever wrote it.
 *
 * Owns: the data model that loaders fill and everybody else reads. Values stay where they lie in the mapped file,
 * little-endian and unaligned; the loader has checked every length before anybody sees it.
 * Refuses to own: parsing (src/load), the meaning of a format number (src/quant), the meaning of a key (src/model).
 */
#ifndef LR_FILE_H
#define LR_FILE_H

#include "base.h"

/* Numbered as GGUF numbers them. */
typedef enum lr_kv_type {
    LR_KV_U8,
    LR_KV_I8,
    LR_KV_U16,
    LR_KV_I16,
    LR_KV_U32,
    LR_KV_I32,
    LR_KV_F32,
    LR_KV_BOOL,
    LR_KV_STR,
    LR_KV_ARR,
    LR_KV_U64,
    LR_KV_I64,
    LR_KV_F64,
    LR_KV_TYPES,
} lr_kv_type;
/* Bytes of one value; 0 for strings and arrays. */
size_t lr_kv_size(lr_kv_type t);
const char *lr_kv_type_name(lr_kv_type t);

typedef struct lr_kv {
    lr_str key;
    lr_kv_type type; /* of the value; for arrays LR_KV_ARR, */
    lr_kv_type elem; /* the type of their elements (never ARR), */
    uint64_t n;      /* and how many; 1 for the rest */
    const uint8_t
        *data; /* scalars: the value; strings: the characters; arrays: elements, strings as u64 length + bytes */
    size_t n_bytes;
} lr_kv;

typedef struct lr_tensor {
    lr_str name;
    uint32_t fmt; /* lr_fmt of quant.h */
    int n_dims;
    uint64_t ne[4]; /* ne[0]: columns, contiguous; ne[1]: rows; ne[2]: matrices; 1 where absent */
    const uint8_t *data;
    uint64_t n_bytes;    /* of all of it, as stored */
    uint64_t row_stride; /* bytes from a row to the next (views: not always the packed size) */
    uint64_t mat_stride; /* bytes from a matrix to the next */
    uint64_t
        col_stride; /* 0: a row's columns lie together. Else (views of turned matrices, formats of 1-weight blocks
                          * only) bytes from a column to the next: element (r, c) is at r*row_stride + c*col_stride */
    const uint8_t *const *mats; /* when the ne[2] matrices lie apart in the file: where each begins; else NULL */
    const uint8_t *aux;         /* second plane (scales that lie apart from the quants), else NULL */
    uint64_t aux_row_stride, aux_mat_stride;
    const uint8_t *const *aux_mats; /* as mats, of the second plane */
    uint32_t aux_rows, aux_first; /* rows share lines of it: row r uses line (aux_first + r) / aux_rows; 0: line r */
} lr_tensor;

/* Where the second plane of a row begins; NULL: there is none. */
static inline const uint8_t *lr_tensor_aux(const lr_tensor *t, uint64_t mat, uint64_t row)
{
    if (!t->aux) return NULL;
    const uint8_t *p = t->aux_mats ? t->aux_mats[mat] : t->aux + mat * t->aux_mat_stride;
    return p + (t->aux_rows ? (t->aux_first + row) / t->aux_rows : row) * t->aux_row_stride;
}

typedef enum lr_origin { LR_ORIGIN_GGUF, LR_ORIGIN_HF } lr_origin;

typedef struct lr_file {
    lr_origin origin; /* whose names keys and tensors carry */
    char *path;       /* as given; for messages; in the arena */
    lr_kv *kv;
    size_t n_kv;
    lr_tensor *tensors;
    size_t n_tensors;
    lr_map *maps; /* one per part */
    size_t n_maps;
    uint32_t alignment;
    lr_arena arena; /* holds path, the arrays above, the indexes, and values that were made, not mapped */
    struct lr_index *key_index, *tensor_index;
} lr_file;

/* Builds the two name indexes (after kv and tensors are filled). A name that stands twice is LARDER_FORMAT. */
larder_status lr_file_index(lr_file *f, larder_error *err);
void lr_file_close(lr_file *f); /* unmaps, frees; the struct itself is the caller's */
bool lr_file_damaged(const lr_file *f);

const lr_kv *lr_file_key(const lr_file *f, const char *key); /* NULL if absent */
const lr_tensor *lr_file_tensor(const lr_file *f, lr_str name);

/* Typed reading. *io holds the default and keeps it if the key is absent. A value of the wrong kind, or outside
 * [min, max], is LARDER_FORMAT with the key's name. Integers accept every integer type and BOOL. */
larder_status lr_key_u64(const lr_file *f, const char *key, uint64_t min, uint64_t max, uint64_t *io,
                         larder_error *err);
larder_status lr_key_u32(const lr_file *f, const char *key, uint32_t min, uint32_t max, uint32_t *io,
                         larder_error *err);
larder_status lr_key_f64(const lr_file *f, const char *key, double min, double max, double *io,
                         larder_error *err); /* finite */
larder_status lr_key_bool(const lr_file *f, const char *key, bool *io, larder_error *err);
larder_status lr_key_str(const lr_file *f, const char *key, lr_str *io, larder_error *err);
/* Element i of a numeric array or a scalar (then i must be 0), as double or integer. false if not such a thing. */
bool lr_kv_number(const lr_kv *kv, uint64_t i, double *out);
bool lr_kv_integer(const lr_kv *kv, uint64_t i, int64_t *out);

/* Walks an array of strings; ends early should the file have been rewritten since it was checked. */
typedef struct lr_str_iter {
    const uint8_t *p, *end;
    uint64_t left;
} lr_str_iter;
lr_str_iter lr_str_walk(const lr_kv *kv);
bool lr_str_next(lr_str_iter *it, lr_str *out);

/* Makes a key in f's arena (before lr_file_index). Values are copied. NULL on no memory. */
lr_kv *lr_kv_make(lr_file *f, lr_kv *at, lr_str key, lr_kv_type type, lr_kv_type elem, uint64_t n, const void *data,
                  size_t n_bytes);

#endif
