/* tok_parts.h - the small parts of a tokenizer.json, between the file that reads them and the one that understands them. */
#ifndef LR_TOK_PARTS_H
#define LR_TOK_PARTS_H

#include "tok_impl.h"

#include <jansson.h>

typedef struct tok_parts {
    json_t *model; /* the model's members but vocab and merges */
    json_t *rest; /* normalizer, pre_tokenizer, ..., and what the files beside it say: bos_token, eos_token_id, ... */
} tok_parts;

/* tok_parts.c */
larder_status tok_read_parts(lr_tokenizer *t, const tok_parts *parts, larder_error *err);
larder_status tok_read_ends(lr_tokenizer *t, const tok_parts *parts, larder_error *err); /* after tok_finish */

#endif
