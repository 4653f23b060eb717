/* load.h - model files: bytes to a validated lr_file, and back to bytes.
 *
 * Owns: GGUF (v2 and v3, split sets), safetensors, the folders people download from the hub, and writing both
 * formats. Everything in a file is hostile until it is checked; it is checked once, completely, before the lr_file
 * is handed out, without touching tensor data. Nothing is copied: tensors and values point into the mapping.
 * Refuses to own: what keys and tensors mean (src/model), what the bytes of a format mean (src/quant).
 */
#ifndef LR_LOAD_H
#define LR_LOAD_H

#include "base.h"
#include "file.h"
#include "quant.h"

/* Opens what `path` names:
 *   a GGUF file (its magic decides, not its name), or any shard of a split set: all of it is opened;
 *   a folder with config.json and model.safetensors (or model.safetensors.index.json and its shards), or the path of
 *   one of those three files in it.
 * A folder gives LR_ORIGIN_HF: tensors under the hub's names with the shape reversed (ne[0] is the last dimension;
 * more than four dimensions have their first ones multiplied into ne[3]), config.json as keys "config.a.b", and
 * generation_config.json as "generation.a". Integers become I64, other numbers F64, arrays of one kind arrays; null
 * gives no key, and arrays that hold objects, arrays or several kinds give none either. out->path is the folder.
 * *out is filled on success only; release it with lr_file_close. */
larder_status lr_load(const char *path, lr_file *out, larder_error *err);
/* One safetensors file by itself: tensors, no keys. */
larder_status lr_load_safetensors(const char *path, lr_file *out, larder_error *err);
/* One whole GGUF or safetensors file that lies in memory and stays there until lr_file_close. */
larder_status lr_load_bytes(const uint8_t *p, size_t n, lr_file *out, larder_error *err);

/* Element types of safetensors that are no weight format of quant.h: whoever reads such a tensor must know why.
 * F32, F16, BF16 and F8_E4M3 come as LR_FMT_F32 and so on. */
#define LR_RAW_TYPES(X) \
    X(BOOL, 512, 1) \
    X(U8, 513, 1) \
    X(I8, 514, 1) \
    X(I16, 515, 2) \
    X(U16, 516, 2) \
    X(I32, 517, 4) \
    X(U32, 518, 4) \
    X(I64, 519, 8) \
    X(U64, 520, 8) \
    X(F64, 521, 8) \
    X(F8_E5M2, 523, 1) \
    X(F8_E8M0, 524, 1)
enum {
#define X(name, id, size) LR_RAW_##name = id,
    LR_RAW_TYPES(X)
#undef X
};
/* "Q4_K", "F8_E4M3", ...: the name of a format or raw type; NULL if neither. */
const char *lr_load_type_name(uint32_t fmt);

/* ---------------------------------------------------------------- writing
 * A GGUF v3 file, streamed: keys, then the tensors' descriptions, then begin, then the bytes of all tensors in the
 * order they were described, then finish. It appears under its name only at finish, whole and synced; until then it
 * is a temporary file beside it, which lr_gguf_writer_free removes. Memory: the header. One thread at a time. */
typedef struct lr_gguf_writer lr_gguf_writer;
larder_status lr_gguf_writer_new(const char *path, lr_gguf_writer **out, larder_error *err);
void lr_gguf_writer_free(lr_gguf_writer *w);
/* Keys written twice, "general.alignment" and "split.*" are LARDER_USAGE. */
larder_status lr_gguf_writer_kv(lr_gguf_writer *w, const lr_kv *kv, larder_error *err);
larder_status lr_gguf_writer_u32(lr_gguf_writer *w, const char *key, uint32_t v, larder_error *err);
larder_status lr_gguf_writer_f32(lr_gguf_writer *w, const char *key, float v, larder_error *err);
larder_status lr_gguf_writer_bool(lr_gguf_writer *w, const char *key, bool v, larder_error *err);
larder_status lr_gguf_writer_str(lr_gguf_writer *w, const char *key, lr_str v, larder_error *err);
/* n numbers of one type (not STR, not ARR), as they lie in memory. */
larder_status lr_gguf_writer_array(lr_gguf_writer *w, const char *key, lr_kv_type elem, const void *p, uint64_t n,
                                   larder_error *err);
larder_status lr_gguf_writer_strs(lr_gguf_writer *w, const char *key, const lr_str *p, uint64_t n, larder_error *err);
/* Only formats with GGUF numbers (ids up to 255); ne as in lr_tensor. */
larder_status lr_gguf_writer_tensor(lr_gguf_writer *w, lr_str name, uint32_t fmt, int n_dims, const uint64_t ne[4],
                                    larder_error *err);
uint64_t lr_gguf_writer_size(const lr_gguf_writer *w); /* of the finished file, with what was declared so far */
larder_status lr_gguf_writer_begin(lr_gguf_writer *w, larder_error *err);
/* The next bytes of the tensors, in pieces of any size: they may end inside a tensor or run on into the next. */
larder_status lr_gguf_writer_data(lr_gguf_writer *w, const void *p, size_t n, larder_error *err);
/* LARDER_USAGE if bytes are missing. */
larder_status lr_gguf_writer_finish(lr_gguf_writer *w, larder_error *err);

/* A safetensors file, streamed: the tensors' descriptions (ne reversed into the shape; `data` is not read), then their
 * bytes in that order, in pieces of any size, then finish. Like a GGUF, it appears whole at finish or not at all. */
typedef struct lr_safetensors_writer lr_safetensors_writer;
larder_status lr_safetensors_writer_new(const char *path, const lr_tensor *tensors, size_t n_tensors,
                                        lr_safetensors_writer **out, larder_error *err);
larder_status lr_safetensors_writer_data(lr_safetensors_writer *w, const void *p, size_t n, larder_error *err);
larder_status lr_safetensors_writer_finish(lr_safetensors_writer *w, larder_error *err);
void lr_safetensors_writer_free(lr_safetensors_writer *w);
/* The same at once, of tensors that lie packed in memory. */
larder_status lr_safetensors_write(const char *path, const lr_tensor *tensors, size_t n_tensors, larder_error *err);

#endif
