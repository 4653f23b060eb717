/* store.h - the model store: names like "owner/repo:quant" and the files behind them.
 *
 * Owns: the folder data/models of the user, laid out as OWNER/REPO/QUANT/files. A quant's folder holds one GGUF, one
 * split set, or one safetensors folder's files. While a model is being fetched it is QUANT.part, which nobody but
 * pull and remove looks at. Names are checked before they touch the file system and symbolic links are not followed.
 * Refuses to own: fetching (src/tools/pull.c).
 */
#ifndef LR_STORE_H
#define LR_STORE_H

#include "base.h"

enum { LR_STORE_PART = 80 }; /* longest owner, repo or quant */

typedef struct lr_store_name {
    char owner[LR_STORE_PART + 1], repo[LR_STORE_PART + 1], quant[LR_STORE_PART + 1]; /* quant "" if not given */
} lr_store_name;

typedef struct lr_store_entry {
    lr_store_name name;
    uint64_t n_bytes;
    int64_t changed; /* seconds since 1970 */
} lr_store_entry;

/* "owner/repo" or "owner/repo:quant": letters, digits, '.', '_', '-', beginning with a letter or digit, no "..". */
bool lr_store_parse(const char *s, lr_store_name *out);
/* One part of a name by the same rules. */
bool lr_store_part_ok(const char *s, size_t n);
/* The quant a GGUF's file name tells: "M-Q4_K_M-00001-of-00002.gguf" gives "Q4_K_M"; a name that tells none gives
 * itself without its ending. false if that is no part of a name. */
bool lr_store_quant_of(const char *file, char out[LR_STORE_PART + 1]);

/* The folder of all models, made if absent. */
larder_status lr_store_root(char *out, size_t cap, larder_error *err);
/* A model's path from what a person wrote: an existing path stays as it is; a store name becomes its GGUF (the first
 * of a split set) or its folder. The quant may be left out when there is one only; case does not matter in it. */
larder_status lr_store_resolve(const char *name_or_path, char *out, size_t cap, larder_error *err);
/* *out is sorted by name; lr_free. */
larder_status lr_store_list(lr_store_entry **out, size_t *n, larder_error *err);
/* Removes one model, or what an unfinished pull left of it. */
larder_status lr_store_remove(const char *name, larder_error *err);
/* The model file inside a quant's folder; the folder itself for safetensors. */
larder_status lr_store_model_in(const char *dir, char *out, size_t cap, larder_error *err);

#endif
