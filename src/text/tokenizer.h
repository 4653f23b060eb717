/* tokenizer.h - text to token ids and back.
 *
 * Owns: vocabularies (from GGUF keys or tokenizer.json), pre-tokenizer patterns, BPE merging, byte fallback,
 * added tokens, detokenizing (whole and streaming). Refuses to own: chat templates (template.h).
 * A tokenizer is immutable once made and may be used by many threads at once.
 */
#ifndef LR_TOKENIZER_H
#define LR_TOKENIZER_H

#include "file.h"

typedef struct lr_tokenizer lr_tokenizer;

/* From the tokenizer.ggml.* keys of a GGUF. */
larder_status lr_tokenizer_from_gguf(const lr_file *f, lr_tokenizer **out, larder_error *err);
/* From a tokenizer.json; tokenizer_config.json and generation_config.json beside it are read too if there. */
larder_status lr_tokenizer_from_json(const char *path, lr_tokenizer **out, larder_error *err);
void lr_tokenizer_free(lr_tokenizer *t);
/* Adds this vocabulary to f as tokenizer.ggml.* keys, as GGUF has them (for convert). n_vocab: rows of the embedding
 * (>= tokens here; the rest are padded as unused tokens). Call before lr_file_index: it appends to f->kv. */
larder_status lr_tokenizer_to_gguf(const lr_tokenizer *t, uint32_t n_vocab, lr_file *f, larder_error *err);

typedef enum lr_token_kind {
    LR_TOKEN_NORMAL,
    LR_TOKEN_UNKNOWN,
    LR_TOKEN_CONTROL,
    LR_TOKEN_ADDED,
    LR_TOKEN_UNUSED,
    LR_TOKEN_BYTE
} lr_token_kind;

uint32_t lr_tokenizer_size(const lr_tokenizer *t);
int32_t lr_tokenizer_bos(const lr_tokenizer *t); /* -1: none */
int32_t lr_tokenizer_eos(const lr_tokenizer *t);
bool lr_tokenizer_is_end(const lr_tokenizer *t, int32_t id); /* ends an answer: EOS, EOT, EOM, ... */
lr_token_kind lr_tokenizer_kind(const lr_tokenizer *t, int32_t id);
int32_t lr_tokenizer_find(const lr_tokenizer *t, lr_str name); /* the token with exactly this name; -1: none */
bool lr_tokenizer_adds_bos(const lr_tokenizer *t);

/* One character of UTF-8 at p[0..n), n > 0: its bytes; 0: there is none; -1: it is one so far, and the text ends in it.
 * *bad: how many bytes one U+FFFD stands for then (the maximal subpart). */
int lr_utf8_char(const uint8_t *p, size_t n, size_t *bad);

typedef struct lr_ids {
    int32_t *p;
    size_t n, cap;
} lr_ids;
void lr_ids_free(lr_ids *ids);

enum {
    LR_ENCODE_SPECIAL = 1, /* add BOS/EOS as the tokenizer does at the ends */
    LR_ENCODE_ADDED = 2,   /* recognise added tokens, control tokens among them, inside the text */
};
/* Appends the ids of text (any bytes; invalid UTF-8 is taken as the reference takes it, never an error). */
larder_status lr_tokenizer_encode(const lr_tokenizer *t, lr_str text, int flags, lr_ids *out, larder_error *err);

/* Text with its origin: runs of bytes that are the template's own (trusted) or data. Control tokens are recognised
 * only where every byte of their name is trusted; everything else is encoded as if it were one text. */
typedef struct lr_text_run {
    size_t n;
    bool trusted;
} lr_text_run;
larder_status lr_tokenizer_encode_runs(const lr_tokenizer *t, const char *text, const lr_text_run *runs,
                                       size_t n_runs, lr_ids *out, larder_error *err);

/* Whole sequence to text, as the reference's decode (skip_special_tokens=False, no clean-up); invalid UTF-8 as U+FFFD
 * if `replace`, else the raw bytes. Unknown ids are LARDER_USAGE. */
larder_status lr_tokenizer_decode(const lr_tokenizer *t, const int32_t *ids, size_t n, bool replace, lr_buf *out,
                                  larder_error *err);
/* The bytes one token adds in the middle of a text (leading-space marks resolved); control tokens give nothing unless
 * `control`. */
larder_status lr_tokenizer_piece(const lr_tokenizer *t, int32_t id, bool control, lr_buf *out, larder_error *err);

#endif
