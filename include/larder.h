/* larder.h - run language models at the speed of the memory: the one public header.
 *
 * What it owns: the types and calls another program needs to open a model, know what it will cost,
 * and stream answers from it. What it refuses to own: tensors, kernels, file formats, sockets.
 *
 * The shape of it
 *   model    a file (GGUF, or a safetensors folder) mapped read-only: weights, tokenizer, template.
 *   engine   a model made ready to run: threads, KV cache, scheduler. Several engines may live in one process.
 *   request  one prompt and its answer. Many run together; each gets the tokens it would get alone.
 *   plan     every buffer an engine will take, by name and byte, before any of it is taken.
 *
 * Conventions
 *   - Calls that can fail return a larder_status and fill `err` (which may be NULL) with one line for a person.
 *   - Destructors take NULL. Strings are UTF-8 and, unless a length is given, end in NUL.
 *   - Option structs start from their larder_..._defaults() call; zero is not a promise.
 *   - An object is used by one thread at a time; different engines are independent of each other.
 */
#ifndef LARDER_H
#define LARDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LARDER_VERSION "0.1.0"

/* Every way a call can end. */
#define LARDER_STATUSES(X) \
    X(OK, "ok") \
    X(USAGE, "the call or the option is wrong") \
    X(IO, "the system refused to read, write or connect") \
    X(FORMAT, "the file or the text is not what it claims to be") \
    X(UNSUPPORTED, "understood, but not something larder can do") \
    X(NOMEM, "not enough memory") \
    X(LIMIT, "a stated limit was reached") \
    X(NOT_FOUND, "no such model, file, key or token") \
    X(CANCELLED, "stopped by the caller") \
    X(INTERNAL, "a bug in larder")

typedef enum larder_status {
#define X(name, text) LARDER_##name,
    LARDER_STATUSES(X)
#undef X
} larder_status;

/* What went wrong, as one line without a newline: what, where, and what to do. */
typedef struct larder_error {
    larder_status code;
    char message[500];
} larder_error;

/* The version the library was built as ("0.1.0"), which may differ from LARDER_VERSION of the header. */
const char *larder_version(void);
/* A status in words; never NULL. */
const char *larder_status_text(larder_status status);

typedef enum larder_log_level {
    LARDER_LOG_ERROR,
    LARDER_LOG_WARN,
    LARDER_LOG_INFO,
    LARDER_LOG_DEBUG
} larder_log_level;
/* Where notes go; the default drops them. The callback may be called from any thread, one call at a time; it
 * must not call into larder. */
typedef void larder_log_fn(void *user, larder_log_level level, const char *line);
void larder_set_log(larder_log_fn *fn, void *user);

/* ---------------------------------------------------------------- model */
typedef struct larder_model larder_model;

typedef struct larder_model_info {
    const char *architecture; /* as the file names it: "llama", "qwen3moe", ... Valid while the model is. */
    const char *name;         /* the file's own name for itself, or "" */
    const char *format;       /* the format most weight bytes are in: "Q4_K", "BF16", ... */
    uint64_t n_params;
    uint64_t n_bytes; /* weights as stored */
    uint32_t n_vocab; /* width of the logits */
    uint32_t n_ctx_train;
    uint32_t n_layer, n_embd, n_head, n_head_kv, head_dim;
    uint32_t n_expert, n_expert_used; /* 0 for dense models */
    bool has_template;
} larder_model_info;

/* Maps the model at `path`: a .gguf file (the first of a split set), or a folder of safetensors with its
 * config.json and tokenizer.json. Nothing is copied. *out is owned by the caller and must outlive its engines. */
larder_status larder_model_open(const char *path, larder_model **out, larder_error *err);
void larder_model_free(larder_model *model);
void larder_model_get_info(const larder_model *model, larder_model_info *out);

/* ---------------------------------------------------------------- text */
enum {
    LARDER_TEXT_SPECIAL = 1, /* add the tokens the tokenizer adds at the ends (BOS, EOS) */
    LARDER_TEXT_CONTROL = 2, /* recognise control tokens written in the text; never set it for what a user typed */
};

/* Text to token ids. *ids is allocated; release it with larder_free. */
larder_status larder_tokenize(const larder_model *model, const char *text, size_t n_text, int flags, int32_t **ids,
                              size_t *n_ids, larder_error *err);
/* Token ids to text (control tokens included as their names). *text ends in NUL; release it with larder_free. */
larder_status larder_detokenize(const larder_model *model, const int32_t *ids, size_t n_ids, char **text,
                                size_t *n_text, larder_error *err);
/* Renders the model's chat template. `json` is {"messages":[...], "tools":[...], "add_generation_prompt":true, ...}.
 * `ids` (may be NULL) get the prompt's tokens, control tokens made from the template's own text only;
 * `text` (may be NULL) gets the rendered text. Release both with larder_free. */
larder_status larder_chat_render(const larder_model *model, const char *json, int32_t **ids, size_t *n_ids,
                                 char **text, larder_error *err);
void larder_free(void *p);

/* ---------------------------------------------------------------- engine */
typedef enum larder_act { LARDER_ACT_AUTO, LARDER_ACT_I8, LARDER_ACT_BF16, LARDER_ACT_F32 } larder_act;
typedef enum larder_kv { LARDER_KV_F16, LARDER_KV_F32, LARDER_KV_AUTO, LARDER_KV_Q8_0, LARDER_KV_Q4_0 } larder_kv;

/* What computes. AUTO: a graphics card, if this build has a backend for it (CUDA), there is one, and the model with its cache
 * fits there (if it does not, the log says so); else the processor. */
typedef enum larder_device { LARDER_DEVICE_AUTO, LARDER_DEVICE_CPU, LARDER_DEVICE_CUDA } larder_device;

/* Drafting the next tokens cheaply and having several checked in one step. A draft is kept only where it is what the model
 * samples itself, so answers are the same with it and without. */
typedef enum larder_speculate {
    LARDER_SPECULATE_AUTO, /* from the text itself and by the draft model, if there is one, while it pays */
    LARDER_SPECULATE_OFF,
    LARDER_SPECULATE_NGRAM, /* from the text itself only, while it pays */
} larder_speculate;

/* How far a model file that is not in memory yet has been read, and bytes a second. */
typedef void larder_reading_fn(void *user, uint64_t n_done, uint64_t n_total, double rate);

typedef struct larder_engine_options {
    uint32_t n_ctx; /* tokens one request may hold, prompt and answer; 0: the largest that fits, up to the model's */
    uint32_t n_seq; /* requests that may run at once; 0: 8, or fewer if that is what fits */
    uint32_t n_threads; /* 0: one per real core this process may use */
    uint32_t n_batch;   /* most tokens in one step: prompts are cut in chunks of at most this many; 0: 512 */
    uint32_t n_out;     /* most positions of a step whose logits are wanted (larder_logits); 0: n_seq */
    uint32_t n_embed;   /* most positions of a part of larder_embed, at most 512; 0: it is not asked for */
    larder_act act; /* what activations are multiplied in; AUTO: int8 with quantised weights (two int8 rows, 15 bits,
                         * for what attention brings and in models with routed experts), bf16 with bf16 weights where it is exact enough, else f32 */
    /* Numbers of the KV cache; AUTO: f16, or q8_0 where that does not fit, or f32 for attention with sinks (gpt-oss). */
    larder_kv kv;
    uint64_t memory; /* bytes of the system's memory the engine may use; 0: what is free */
    bool reserve;    /* take the whole KV cache into memory at the start; else only a small one is */
    /* Copy the weights as the kernels read them best, each thread's share in large pages of the memory nearest to it:
     * decoding comes nearer to the memory's speed, and starting takes as long as reading the file. The file's own pages
     * are no longer read. */
    bool repack;
    bool no_prefix_cache;
    /* Positions of the KV cache, shared by all requests; 0: n_seq whole contexts. With fewer, requests that find no room
     * give way to others for a time (preemption): they lose nothing and get the same tokens, later. */
    uint64_t n_cache;
    uint64_t
        swap_bytes; /* most bytes of the file for blocks the cache has no room for; 0: none, they are computed again */
    int swap_fd;    /* that file, open for reading and writing, the caller's; -1: the engine makes one, */
    const char *swap_folder;    /* in this folder; NULL: TMPDIR, or /var/tmp */
    uint32_t n_mixed;           /* most tokens of prompts in a step where others get answers; 0: n_batch */
    larder_speculate speculate; /* OFF, NGRAM: for all requests, whatever they ask for */
    struct larder_model *draft; /* a smaller model with the same vocabulary, that outlives the engine; NULL: none */
    /* A file that is not in memory is read ahead, while requests may run already. This is told of it, by a thread of the
     * engine's, several times a second and at the end (n_done = n_total); of a file in memory nothing. NULL: nobody. */
    larder_reading_fn *reading;
    void *reading_user;
    larder_device device;
    uint64_t card_memory; /* bytes of the card's memory the engine may use; 0: what is free there */
} larder_engine_options;
larder_engine_options larder_engine_defaults(void);
/* An open file without a name in `folder` (NULL: TMPDIR, or /var/tmp), for swap_fd: for a process that may make no files
 * later. It goes when it is closed. */
larder_status larder_swap_file(const char *folder, int *fd, larder_error *err);

typedef struct larder_buffer {
    const char *name;
    uint64_t n_bytes;
    bool mapped; /* the model file itself, shared with the page cache */
    bool card;   /* in the card's memory, not the system's */
} larder_buffer;

typedef struct larder_plan {
    larder_buffer buffers[24];
    uint32_t n_buffers;
    uint64_t n_bytes;   /* their sum */
    uint64_t n_card;    /* of it, in the card's memory */
    uint64_t n_peak;    /* predicted peak of resident memory: the system's part, and what the process holds besides */
    uint64_t available; /* what the machine, or the given limit, has for the system's part */
    uint64_t card_available; /* what the card has for the others; 0: the processor computes */
    uint32_t n_ctx;          /* the context the plan is for */
    uint32_t n_ctx_max;      /* the largest context that would fit, up to the model's own */
    uint32_t n_seq;
    larder_kv kv; /* as given, or chosen */
    uint32_t n_threads;
    bool fits;
    const char *device;    /* "cpu", "cuda": what computes */
    char not_on_card[280]; /* with AUTO: why it is not the card that is there; else "" */
} larder_plan;

/* What an engine with these options would take. Allocates nothing that lasts, but where it may be on a card (AUTO, CUDA) and
 * there is one its driver is started, and stays open for this process. */
larder_status larder_plan_engine(const larder_model *model, const larder_engine_options *options, larder_plan *out,
                                 larder_error *err);

/* Opens what computes now: engines do it themselves, but for a process that gives up rights to files it is too late then (the
 * driver of a card needs them only the first time). *name: "cpu", "cuda". AUTO: a card that cannot be used is no error; the
 * log says what is wrong with it. */
larder_status larder_device_open(larder_device device, const char **name, larder_error *err);

typedef struct larder_card {
    char name[128], generation[16]; /* "NVIDIA H200", "9.0" */
    uint64_t n_bytes, n_free;       /* of its memory, now, whoever uses it */
    bool shared;                    /* which is the system's own */
} larder_card;
/* The card that would be used. LARDER_NOT_FOUND: there is none, or this build has no backend for any. Any thread. */
larder_status larder_card_get(larder_card *out, larder_error *err);

typedef struct larder_engine larder_engine;
/* With AUTO, a card that fails while it is opened leaves the model to the processor, and the log says so. Refuses with the
 * plan's figures (LARDER_NOMEM) when it would not fit. */
larder_status larder_engine_open(larder_model *model, const larder_engine_options *options, larder_engine **out,
                                 larder_error *err);
/* Its requests end where they are, without an event; each is still its owner's to free, before or after, but before the
 * model. */
void larder_engine_free(larder_engine *engine);
void larder_engine_get_plan(const larder_engine *engine, larder_plan *out);
/* The plan with what is in memory in place of what was planned: bytes of each buffer now (rows of the embedding count with
 * the weights), and the process's peak. */
void larder_engine_get_memory(const larder_engine *engine, larder_plan *out);

/* ---------------------------------------------------------------- grammar
 * What an answer must look like, token by token. Enforced or refused, never ignored: LARDER_UNSUPPORTED names the keyword
 * and where it stands, LARDER_FORMAT says what is malformed, LARDER_LIMIT that compiling it would take too much. */
typedef enum larder_grammar_kind {
    LARDER_GRAMMAR_JSON_SCHEMA, /* a JSON Schema, draft 2020-12; members come in the order `properties` has them */
    LARDER_GRAMMAR_GBNF,        /* a grammar as llama.cpp documents it; starts at `root` */
    LARDER_GRAMMAR_REGEX,       /* an ECMAScript expression that the whole answer matches */
    LARDER_GRAMMAR_CHOICE,      /* a JSON list of strings, one of which is the answer */
    LARDER_GRAMMAR_JSON_OBJECT, /* any JSON object; the text is ignored */
} larder_grammar_kind;
typedef struct larder_grammar larder_grammar;
/* Compiled for one model's vocabulary; the model must outlive it. One engine's requests may share it, at the same time
 * too; requests hold it, so it may be freed once they are submitted. */
larder_status larder_grammar_compile(const larder_model *model, larder_grammar_kind kind, const char *text,
                                     size_t n_text, larder_grammar **out, larder_error *err);
/* The same for a part of the answer only: each time it has said `after` (such as "<tool_call>"), from there until the grammar's
 * text is complete, one space or line break before it aside. What else it says is free, but it cannot end in such a part. */
larder_status larder_grammar_compile_after(const larder_model *model, const char *after, larder_grammar_kind kind,
                                           const char *text, size_t n_text, larder_grammar **out, larder_error *err);
void larder_grammar_free(larder_grammar *grammar);

/* ---------------------------------------------------------------- request */
typedef struct larder_sampling {
    float temperature;    /* 0: greedy */
    int32_t top_k;        /* 0: off */
    float top_p, min_p;   /* 1, 0: off */
    float typical_p;      /* 1: off */
    float repeat_penalty; /* 1: off */
    float frequency_penalty, presence_penalty;
    int32_t penalty_last_n;         /* tokens looked back on; -1: the whole context */
    float dry_multiplier, dry_base; /* 0: off */
    int32_t dry_allowed_length, dry_last_n;
    float xtc_probability, xtc_threshold; /* 0: off */
    float mirostat_tau, mirostat_eta;     /* tau 0: off */
    uint64_t seed;
    const int32_t *bias_ids; /* logit bias: n_bias pairs; -INFINITY bans a token */
    const float *bias;
    uint32_t n_bias;
} larder_sampling;
larder_sampling larder_sampling_defaults(void);

typedef enum larder_finish {
    LARDER_FINISH_NONE,
    LARDER_FINISH_EOS,    /* the model ended its answer */
    LARDER_FINISH_STOP,   /* a stop string was met; it is not part of the text */
    LARDER_FINISH_LENGTH, /* max_tokens or the context was reached */
    LARDER_FINISH_CANCELLED,
    LARDER_FINISH_ERROR,
    LARDER_FINISH_DEADLINE, /* its time was up */
} larder_finish;

/* How likely the model thought a token, before bias, penalties and samplers: natural logarithm. */
typedef struct larder_logprob {
    int32_t token;
    float logprob;
} larder_logprob;

typedef struct larder_event {
    enum { LARDER_EVENT_PREFILL, LARDER_EVENT_TOKEN, LARDER_EVENT_DONE } kind;
    uint32_t n_done, n_total; /* PREFILL: prompt tokens processed, of how many */
    int32_t token;            /* TOKEN: its id */
    const char *text;         /* TOKEN, DONE: whole UTF-8 characters that became certain, n_text bytes, maybe none */
    size_t n_text;
    const larder_logprob
        *top; /* TOKEN, if asked for: the n_top likeliest, likeliest first; then `logprob` is the token's */
    uint32_t n_top;
    float logprob;
    larder_finish finish; /* DONE */
    const char *stop;     /* DONE with LARDER_FINISH_STOP: the stop string that was met */
    const char *error;    /* DONE with LARDER_FINISH_ERROR or LARDER_FINISH_DEADLINE: why, in words */
} larder_event;

typedef struct larder_request larder_request;
/* Called from inside larder_step. `text` is valid until it returns. Return false to cancel the request. It may submit
 * requests and, in DONE, free its own; it must not step the engine. */
typedef bool larder_event_fn(void *user, larder_request *request, const larder_event *event);

typedef struct larder_request_options {
    const int32_t *ids; /* the prompt, copied */
    size_t n_ids;
    uint32_t max_tokens; /* 0: until the context is full */
    larder_sampling sampling;
    const char *const *stop; /* n_stop strings, copied */
    uint32_t n_stop;
    bool ignore_eos;
    larder_grammar *grammar; /* NULL: free text. The answer ends (EOS) when it is complete and nothing may follow */
    bool logprobs;           /* TOKEN events carry log probabilities, */
    uint32_t n_top;          /* and those of this many of the likeliest tokens, at most 20 */
    uint64_t client;         /* whose it is, any number: clients get the like share of the machine */
    int32_t priority;        /* -100 to 100; a higher one goes first, and may make lower ones wait */
    double deadline_s;       /* seconds from now at which it ends wherever it is; 0: none */
    larder_speculate speculate;
    const char *cache_salt; /* its prompt's prefix is shared with requests of the same salt only; NULL is one too */
    larder_event_fn *on_event;
    void *user;
} larder_request_options;
larder_request_options larder_request_defaults(void);

/* Queues a request; it starts at the next step with room. An over-long prompt is an error naming both lengths.
 * *out is owned by the caller: larder_request_free cancels it if it still runs. */
larder_status larder_submit(larder_engine *engine, const larder_request_options *options, larder_request **out,
                            larder_error *err);
void larder_request_free(larder_request *request);
/* Runs one step of everything that waits or runs, and calls their events. *busy tells whether work remains. */
larder_status larder_step(larder_engine *engine, bool *busy, larder_error *err);
/* Steps until this request is done. Not for one that frees itself in DONE. */
larder_status larder_wait(larder_engine *engine, larder_request *request, larder_error *err);

typedef struct larder_timing {
    uint32_t n_prompt, n_cached, n_generated; /* n_cached: prompt tokens taken from the prefix cache */
    double prefill_s, decode_s;               /* wall time; decode_s covers n_generated - 1 tokens */
    double decode_bytes;                      /* weight and KV bytes that decoding had to read, in all */
    double queue_s;                           /* from submission until it was first admitted */
    uint32_t n_preempted;                     /* how often it gave way to others */
    uint64_t n_drafted, n_accepted;           /* tokens drafted for it; of them, those that were right */
} larder_timing;
void larder_request_get_timing(const larder_request *request, larder_timing *out);

typedef struct larder_engine_stats {
    uint32_t n_running, n_waiting;
    uint32_t n_block, n_block_used; /* of the KV cache: all, and those that running requests hold */
    uint32_t n_block_cached;        /* held for prefixes that may come again; given up when room is needed */
    uint32_t block_tokens;          /* positions in one */
    /* since the engine was opened */
    uint64_t n_steps, n_preempted;
    uint64_t n_swap_out, n_swap_in, n_swap_lost; /* blocks written to the swap, read back, and no more to be had */
    uint32_t n_swap, n_swap_used;                /* blocks it can hold; does */
    uint64_t n_prompt, n_prompt_cached;          /* tokens of prompts admitted; of them, found in the prefix cache */
    uint64_t n_recomputed;                       /* tokens computed again after a preemption */
    double queue_s;                              /* all requests' waiting until first admitted, in sum */
    uint64_t n_expired;                          /* requests that met their deadline */
    uint64_t n_drafted, n_accepted;              /* tokens drafted; of them, those that were right */
} larder_engine_stats;
void larder_engine_get_stats(const larder_engine *engine, larder_engine_stats *out);

/* Logits of every position of one prompt, in one call: out [n_ids, n_vocab] float32, the caller's. For checking. */
larder_status larder_logits(larder_engine *engine, const int32_t *ids, size_t n_ids, float *out, larder_error *err);

/* ---------------------------------------------------------------- embeddings */
typedef enum larder_pooling { LARDER_POOL_MEAN, LARDER_POOL_LAST } larder_pooling;
/* Called between two parts of a prompt; it may step the engine. Return false to stop. */
typedef bool larder_between_fn(void *user);
/* A prompt as one vector, out [n_embd]: the hidden states after the final norm, their mean over all positions or the last
 * position's. Not normalised. Needs n_embed in the engine's options; LARDER_LIMIT if running requests hold the cache.
 * `between` may be NULL. The same ids give the same bits, whoever else is served. */
larder_status larder_embed(larder_engine *engine, const int32_t *ids, size_t n_ids, larder_pooling pooling,
                           float *out, larder_between_fn *between, void *user, larder_error *err);

#ifdef __cplusplus
}
#endif
#endif
