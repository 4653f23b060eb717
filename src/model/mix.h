/* mix.h - which number format each tensor of a converted model gets.
 *
 * Owns: the named types of `larder quantize` and their mixes, which are llama.cpp's, so that a name means the same file
 * size and quality everywhere. Refuses to own: reading, encoding and writing (convert.c).
 */
#ifndef LR_MIX_H
#define LR_MIX_H

#include "file.h"
#include "quant.h"

typedef struct lr_mix_type {
    const char *name;
    uint32_t base;      /* lr_fmt of most matrices */
    uint32_t file_type; /* the number GGUF's general.file_type gives it */
} lr_mix_type;

/* Case-insensitive; short names ("Q4_K") mean their medium mix. NULL if there is none. */
const lr_mix_type *lr_mix_find(const char *name);
const char *const *lr_mix_names(void); /* ended by NULL */

/* What the mixes look at besides a tensor's name. */
typedef struct lr_mix {
    const lr_mix_type *type; /* NULL: tensors keep their format */
    bool pure;
    uint32_t n_layer, n_expert, gqa; /* gqa: query heads per key head */
    bool tied;                       /* no output matrix of its own: the embedding serves as one */
} lr_mix;
/* Reads the model's keys (those of a GGUF, or of a view with GGUF's names). */
larder_status lr_mix_init(lr_mix *mix, const lr_mix_type *type, bool pure, const lr_file *f, larder_error *err);

/* The format for one tensor. *wanted gets what the mix asked for: another format if the tensor's rows are no whole
 * number of its blocks, or if encoding anew could only lose (weights that are MXFP4 already). */
uint32_t lr_mix_format(const lr_mix *mix, const lr_tensor *t, uint32_t *wanted);

#endif
