/* tok_impl.h - the tokenizer's insides, shared by the tok_*.c files and nobody else.
 *
 * Owns: the layout of an immutable tokenizer and of one call's scratch. Refuses to own: the contract (tokenizer.h).
 */
#ifndef LR_TOK_IMPL_H
#define LR_TOK_IMPL_H

#include "tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* Limits for what a model file may claim. The largest vocabulary in use has 262,145 tokens of at most 256 bytes. */
enum {
    TOK_ID_BITS = 22, /* a slot of the name table keeps the id in these and a tag of its hash above them */
    TOK_MAX_VOCAB = (1 << TOK_ID_BITS) - 2,
    TOK_MAX_NAME = 0xffff,
    TOK_MAX_ADDED_NAME = 512,
    TOK_MAX_MERGES = 1 << 24,
    TOK_MAX_STEPS = 16,
    TOK_MAX_PATTERN = 8192,
    TOK_MAX_AFFIX = 16,
    TOK_MAX_TEXT = 1 << 30,
};
#define TOK_NONE UINT32_MAX

typedef struct tok_merge {
    uint32_t left, right, made;
} tok_merge;

/* How the list of pieces that a pattern makes of a text becomes splits. */
typedef enum tok_behaviour {
    TOK_ISOLATED,
    TOK_REMOVED,
    TOK_MERGED_PREVIOUS,
    TOK_MERGED_NEXT,
    TOK_CONTIGUOUS,
} tok_behaviour;

typedef struct tok_regex {
    pcre2_code *code;
    char *source; /* for messages and for recognising known patterns */
    bool literal;
} tok_regex;

typedef enum tok_step_kind {
    TOK_SPLIT,     /* regex, behaviour, invert */
    TOK_PREFIX,    /* a space before a piece that does not start with one (ByteLevel's add_prefix_space) */
    TOK_METASPACE, /* spaces to `text`, prefix by `scheme` */
    TOK_NORM_FORM, /* the Unicode normal form `form` */
    TOK_PREPEND,   /* `text` before what is not empty */
    TOK_REPLACE,   /* what regex finds, by `text` */
    TOK_STRIP,     /* white space at the ends: left, right */
    TOK_LOWERCASE,
} tok_step_kind;

typedef enum tok_form { TOK_NFC, TOK_NFD, TOK_NFKC, TOK_NFKD } tok_form;

typedef enum tok_scheme { TOK_ALWAYS, TOK_FIRST, TOK_NEVER } tok_scheme;

typedef struct tok_step {
    tok_step_kind kind;
    tok_regex regex;
    tok_behaviour behaviour;
    bool invert, left, right;
    tok_scheme scheme;
    tok_form form;
    char *text;
    size_t n_text;
} tok_step;

enum { TOK_LSTRIP = 1, TOK_RSTRIP = 2, TOK_SINGLE_WORD = 4, TOK_NORMALIZED = 8, TOK_SPECIAL = 16 };

/* A token found in the text before anything else is done to it. */
typedef struct tok_added {
    uint32_t id;
    uint32_t off, n; /* its name; for normalized ones the normalized name */
    uint8_t flags;
    bool guarded; /* looks like control: only trusted bytes may make it */
} tok_added;

typedef struct tok_matcher {
    tok_added *p; /* sorted by name */
    uint32_t n;
    bool first[256]; /* bytes that some name starts with */
} tok_matcher;

typedef enum tok_decoder { TOK_DECODE_JOIN, TOK_DECODE_BYTES, TOK_DECODE_PIECES } tok_decoder;

struct lr_tokenizer {
    /* Names. Token i is at base + off[i]; its length is the 32 bits little-endian at `prefix` before that. */
    const uint8_t *base;
    uint32_t prefix;
    uint32_t n;
    uint32_t *off;
    uint8_t *kind;    /* lr_token_kind */
    uint8_t *guarded; /* a bit per token: no merging and no look-up may make it */
    uint32_t *slots;  /* name -> id + 1, open addressing */
    uint32_t slot_mask;
    lr_buf blob; /* the names, when they are not in a mapped file */

    /* Merging: by rank of a pair, or by the score of the joined name. */
    tok_merge *merges;
    uint32_t n_merges, cap_merges;
    uint32_t *pair_slots;
    uint32_t pair_mask;
    const uint8_t *scores; /* n floats in the mapped file, unaligned; used when there are no merges */

    uint32_t byte_id[256]; /* byte level: the one-byte tokens; else <0xNN>; TOK_NONE where missing */
    bool byte_level, byte_fallback, fuse_unk, ignore_merges, space_prefix;
    int32_t unk, bos, eos, pad;

    tok_step norm[TOK_MAX_STEPS], pre[TOK_MAX_STEPS];
    int n_norm, n_pre;
    tok_added *added; /* in the order of the file */
    uint32_t n_added, cap_added;
    tok_matcher raw, normalized, guard;                /* guard: all guarded ones, for text with its origin */
    uint32_t head[TOK_MAX_AFFIX], tail[TOK_MAX_AFFIX]; /* what LR_ENCODE_SPECIAL adds */
    int n_head, n_tail;
    int32_t ends[32]; /* tokens that end an answer */
    int n_ends;

    tok_decoder decoder;
    bool decode_bytes;  /* PIECES: <0xNN> are bytes */
    bool decode_spaces; /* PIECES: the mark becomes a space */
    bool decode_bare;   /* PIECES: in the first token it becomes nothing */
    int decode_strip;   /* PIECES: so many spaces at the very start go */
};

typedef struct tok_symbol {
    uint32_t prev, next, id, at;
} tok_symbol;

typedef struct tok_pair {
    uint32_t rank, at, left, right;
} tok_pair;

/* What one call needs; nothing of it outlives the call. */
typedef struct tok_scratch {
    const lr_tokenizer *t;
    lr_ids *out;
    larder_error *err;
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    bool find_normalized; /* added tokens are looked for */
    bool guard;           /* and those that look like control only where the caller vouches */
    uint64_t deadline;    /* of the whole call: a pattern from a file may be slow on purpose */
    uint32_t n_match;
    tok_symbol *symbols;
    size_t n_symbols;
    tok_pair *heap;
    size_t n_heap, cap_heap;
    lr_buf word, norm[2], step[TOK_MAX_STEPS];
} tok_scratch;

/* tok_vocab.c */
lr_str tok_name(const lr_tokenizer *t, uint32_t id);
uint32_t tok_find(const lr_tokenizer *t, const void *p, size_t n); /* TOK_NONE: no such name */
larder_status tok_index(lr_tokenizer *t, larder_error *err);       /* builds the name table */
larder_status tok_index_bytes(lr_tokenizer *t, larder_error *err); /* fills byte_id */
larder_status tok_add_merge(lr_tokenizer *t, lr_str left, lr_str right, larder_error *err);
larder_status tok_index_merges(lr_tokenizer *t, larder_error *err);
const tok_merge *tok_find_merge(const lr_tokenizer *t, uint32_t left, uint32_t right);
bool tok_is_guarded(const lr_tokenizer *t, uint32_t id);
bool tok_looks_like_control(lr_str name);
int tok_parse_byte(lr_str name); /* <0xNN> -> NN; -1: not such a name */

/* tok_unicode.c */
int tok_utf8_len(const uint8_t *p, size_t n);      /* bytes of the valid character at p; 0: not valid */
size_t tok_utf8_bad(const uint8_t *p, size_t n);   /* bytes that one U+FFFD stands for (the maximal subpart) */
size_t tok_utf8_valid(const uint8_t *p, size_t n); /* length of the valid beginning */
void tok_utf8_replace(lr_buf *out, const uint8_t *p, size_t n);
size_t tok_put_char(uint32_t c, char *out);
uint32_t tok_get_char(const uint8_t *p, int n);
uint32_t tok_byte_char(uint8_t byte); /* the byte-level alphabet: byte -> character */
int tok_char_byte(uint32_t c);        /* and back; -1 */
bool tok_is_space(uint32_t c);
bool tok_is_word(uint32_t c);
larder_status tok_normalize(tok_scratch *s, const tok_step *steps, int n_steps, lr_str in, lr_str *out);

/* tok_split.c */
larder_status tok_compile(tok_regex *r, lr_str pattern, bool literal, larder_error *err);
/* Next match at or after `from`; *start == n when there is none. Never empty. */
larder_status tok_match(tok_scratch *s, const tok_regex *r, lr_str text, size_t from, size_t *start, size_t *end);
uint64_t tok_time_ns(size_t n_text); /* what a call may take for a text of so many bytes */
larder_status tok_pretokenize(tok_scratch *s, int step, lr_str text, bool first);
void tok_step_free(tok_step *step);
#define TOK_GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* tok_bpe.c */
larder_status tok_encode_word(tok_scratch *s, lr_str word);
larder_status tok_emit(tok_scratch *s, uint32_t id);

/* tok_added.c */
larder_status tok_add_added(lr_tokenizer *t, uint32_t id, uint32_t off, uint32_t n, uint8_t flags, larder_error *err);
larder_status tok_index_added(lr_tokenizer *t, larder_error *err);
/* Longest name of m that text[at..] starts with and that `allowed` lets through; NULL: none. */
typedef bool tok_allow(void *user, size_t at, const tok_added *a);
const tok_added *tok_match_added(const lr_tokenizer *t, const tok_matcher *m, lr_str text, size_t at,
                                 tok_allow *allow, void *user);

/* tok_encode.c */
void tok_scratch_free(tok_scratch *s);
larder_status tok_finish(lr_tokenizer *t, larder_error *err); /* after a loader has filled it: indexes and checks */
void tok_add_end(lr_tokenizer *t, int64_t id);

/* tok_json.c: for tests and fuzzing; `beside` may be NULL */
larder_status lr_tokenizer_from_memory(const void *p, size_t n, lr_tokenizer **out, larder_error *err);

/* tok_pre.c: the patterns that GGUF knows by name */
larder_status tok_set_pre(lr_tokenizer *t, lr_str name, larder_error *err);
const char *tok_pre_name(const lr_tokenizer *t); /* the name for this tokenizer's steps; NULL: GGUF has none */

#endif
