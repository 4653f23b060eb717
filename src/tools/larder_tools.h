/* larder_tools.h - the second public header: jobs around models that are not answering requests.
 *
 * Owns: convert/quantize, inspect, pull and the model store, probe, bench, perplexity, and text without weights.
 * Kept apart so that larder.h stays narrow. Same conventions as larder.h.
 */
#ifndef LARDER_TOOLS_H
#define LARDER_TOOLS_H

#include "larder.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How far a job is. `left_s` < 0: not known yet. */
typedef struct larder_progress {
    const char *what;         /* the tensor, file or measurement at hand */
    uint64_t n_done, n_total; /* in the job's own unit: bytes, mostly */
    double rate;              /* units per second, lately */
    double left_s;
} larder_progress;
/* Called a few times a second, from the job's own thread. Return false to cancel: the job undoes what is half done and
 * ends with LARDER_CANCELLED. */
typedef bool larder_progress_fn(void *user, const larder_progress *progress);
/* Notes a person should see while the job runs (a fallback format, a retry). May be NULL. */
typedef void larder_note_fn(void *user, const char *line);

/* What was built in, as lines of text or as JSON: version, instruction sets, formats, architectures, libraries. *out is
 * allocated (larder_free). */
larder_status larder_built_in(bool json, char **out, larder_error *err);

/* ---------------------------------------------------------------- the model store (store.c, inspect.c)
 * A model's path from what a person wrote: an existing path stays, "owner/repo:quant" is looked up in the store. */
larder_status larder_store_path(const char *name, char *out, size_t cap, larder_error *err);
larder_status larder_store_folder(char *out, size_t cap, larder_error *err); /* made if absent */
typedef struct larder_stored {
    char name[300]; /* owner/repo:quant */
    uint64_t n_bytes;
    int64_t changed; /* seconds since 1970 */
} larder_stored;
/* *out is allocated (larder_free), sorted by name. */
larder_status larder_store_list(larder_stored **out, size_t *n, larder_error *err);
larder_status larder_store_remove(const char *name, larder_error *err);

/* ---------------------------------------------------------------- pull (pull.c)
 * A model into the store. `name`: "owner/repo" or "owner/repo:quant" of a Hugging Face hub, or the http(s) URL of one
 * GGUF. All parts of a split set are fetched; a repository without GGUF gives its safetensors folder. Without a quant:
 * the only one, else Q4_K_M if there is one, else the choices are an error. What was begun is resumed; sizes and
 * SHA-256 are checked; the model appears in the store whole or not at all. The token goes to the endpoint's own host
 * and to no other. Plain http only to this machine. */
typedef struct larder_pull_options {
    const char *revision;         /* branch, tag or commit; NULL: main */
    const char *endpoint;         /* NULL: $HF_ENDPOINT, or https://huggingface.co */
    const char *token;            /* NULL: $HF_TOKEN, or none */
    uint32_t stall_s;             /* seconds of silence after which a connection is given up and tried again; 0: 30 */
    uint32_t n_tries;             /* in a row without a byte of progress; 0: 6 */
    larder_progress_fn *progress; /* bytes; may be NULL */
    larder_note_fn *note;         /* retries, files that were there already; may be NULL */
    void *user;                   /* for both */
} larder_pull_options;
/* `options` may be NULL. `path` (may be NULL) gets what larder_model_open takes. */
larder_status larder_pull(const char *name, const larder_pull_options *options, char *path, size_t cap,
                          larder_error *err);

/* ---------------------------------------------------------------- convert, quantize (convert.c)
 * Any model larder reads (a GGUF, split or not, of any architecture; a safetensors folder of one it knows) to one GGUF
 * that llama.cpp reads too. Memory: a few chunks of rows, whatever the model's size. */
typedef struct larder_convert_options {
    const char *type;   /* one of larder_convert_types, in any case; NULL: matrices keep the format they are in */
    bool pure;          /* every matrix in the type's base format, instead of the usual mix */
    bool force;         /* replace an existing output file */
    uint32_t n_threads; /* 0: one per real core */
    larder_progress_fn *progress; /* bytes written of the file's size; may be NULL */
    larder_note_fn *note;         /* every tensor that could not have the format asked for; may be NULL */
    void *user;                   /* for both */
} larder_convert_options;
typedef struct larder_convert_result {
    uint64_t n_bytes_in, n_bytes_out; /* of tensors; of the file */
    uint32_t n_tensors, n_encoded, n_fallback;
} larder_convert_result;
/* The types, in order, ended by NULL: "F32", "F16", ..., "Q4_K_M". */
const char *const *larder_convert_types(void);
/* `out` appears whole or not at all. `result` may be NULL. */
larder_status larder_convert(const char *in, const char *out, const larder_convert_options *options,
                             larder_convert_result *result, larder_error *err);

/* ---------------------------------------------------------------- inspect
 * Everything a model file says, as one JSON object: {"file", "keys": {...}, "tensors": [...], "template", "memory"}.
 * Arrays longer than `max_array` are cut, with their length said. *json is allocated (larder_free). */
larder_status larder_inspect(const char *path, size_t max_array, char **json, larder_error *err);

/* ---------------------------------------------------------------- text without weights
 * `path`: a model, a tokenizer.json, or a folder that holds one. */
typedef struct larder_text larder_text;
larder_status larder_text_open(const char *path, larder_text **out, larder_error *err);
void larder_text_free(larder_text *text);
/* A JSON array of strings to a JSON array of id arrays, and back. `added`: added tokens inside text are recognised;
 * `special`: the tokens the tokenizer adds at the ends are added. Results: larder_free. */
larder_status larder_text_tokenize(const larder_text *text, const char *json, size_t n_json, bool added, bool special,
                                   char **out, larder_error *err);
larder_status larder_text_detokenize(const larder_text *text, const char *json, size_t n_json, char **out,
                                     larder_error *err);
/* {"messages": [...], ...} to the rendered prompt. now: seconds since 1970, for templates that ask the clock. */
larder_status larder_text_template(const larder_text *text, const char *json, size_t n_json, int64_t now, char **out,
                                   size_t *n, larder_error *err);

/* Logits of every position to a safetensors file: "logits" [n_ids, n_vocab] float32. */
larder_status larder_logits_file(larder_model *model, const larder_engine_options *options, const int32_t *ids,
                                 size_t n_ids, const char *path, larder_progress_fn *progress, void *user,
                                 larder_error *err);

/* ---------------------------------------------------------------- this machine (probe.c)
 * Measured once and kept in the cache folder, until the hardware, its limits or larder's version change. */
typedef struct larder_probe {
    char cpu[96], isa[48];
    uint32_t n_core, n_thread, n_numa;
    uint64_t memory, l1d, l2, l3;
    uint32_t n_threads[16]; /* thread counts measured, */
    double read_gbs[16];    /* and the bytes each read per second, in 1e9 */
    uint32_t n_measured;
    double int8_gops, bf16_gflops,
        f32_gflops;  /* one core; 1e9 operations a second, a multiply-add counts two; 0: no such unit */
    double disk_gbs; /* reading a cold file; 0: not measured */
    int64_t when;    /* seconds since 1970 */
} larder_probe;
/* `fresh`: measure even if a cached result exists. */
larder_status larder_probe_machine(bool fresh, larder_probe *out, larder_progress_fn *progress, void *user,
                                   larder_error *err);
/* How fast larder's own kernels are here, by number format: one to two minutes the first time, kept as the above is. Plans
 * of this machine are made from it. */
typedef struct larder_kernel_speed {
    const char *format;
    double read_gbs; /* of weights, when one token is computed; 1e9 bytes a second */
    double gops;     /* of products, when 512 are; 1e9 operations a second */
} larder_kernel_speed;
typedef struct larder_kernels {
    larder_kernel_speed formats[48];
    uint32_t n_formats;
    double bandwidth; /* bytes a second that memory read on average meanwhile */
} larder_kernels;
larder_status larder_probe_kernels(bool fresh, larder_kernels *out, larder_progress_fn *progress, void *user,
                                   larder_error *err);
/* The graphics card that this build uses, if there is one (LARDER_NOT_FOUND): a second the first time, kept too. */
typedef struct larder_card_probe {
    larder_card card;
    double read_gbs, bf16_gflops; /* of its memory; of its matrix units; 1e9 a second, 0: could not be measured */
    double in_gbs, out_gbs;       /* from the system's memory (pinned), and to it */
    int64_t when;
} larder_card_probe;
larder_status larder_probe_card(bool fresh, larder_card_probe *out, larder_error *err);
/* The measured read bandwidth for a thread count, in bytes per second: the nearest count at or below it. */
double larder_probe_bandwidth(const larder_probe *probe, uint32_t n_threads);

/* ---------------------------------------------------------------- bench, perplexity */
typedef struct larder_bench_options {
    larder_engine_options engine;
    const uint32_t *n_prompt; /* prefill lengths, */
    uint32_t n_n_prompt;
    uint32_t n_gen;        /* tokens decoded at each depth */
    const uint32_t *depth; /* tokens already in the cache, for decode and prefill */
    uint32_t n_depth;
    const uint32_t *n_seq; /* how many sequences decode together, each at the depth; none given: one */
    uint32_t n_n_seq;
    uint32_t repeat; /* medians of this many */
    bool ops;        /* where the time of one more run of each test goes, operator by operator */
} larder_bench_options;
typedef struct larder_bench_row {
    char test[32];     /* "pp512", "tg64", "tg64 @ d4096", "tg64 x8" of 8 sequences */
    uint32_t n_tokens; /* of all sequences */
    uint32_t depth, n_threads, n_seq;
    double tok_s, tok_s_low, tok_s_high; /* median, extremes */
    double gbs, share; /* decode: bytes read a second (1e9), and its share of what plain reading by the same threads
                          reached right before and after, over as many bytes; else 0 */
    double limit_gbs;  /* that reading, the median */
} larder_bench_row;
/* One operator (after fusion, all layers together) in one test; times are per step. */
typedef struct larder_bench_op {
    char test[32], name[48];
    double calls, ms, time_share; /* of the step */
    double bytes, ops;            /* read of weights and cache; multiply-adds count two */
    double share;                 /* of the roofline: the least time for these bytes and operations over the time */
    bool memory;                  /* it is the bytes that bound it, not the operations */
} larder_bench_op;
typedef struct larder_bench_result {
    larder_bench_row *rows;
    size_t n_rows;
    larder_bench_op *ops;
    size_t n_ops;
    double read_gbs, int8_gops, bf16_gops, f32_gops; /* the roofline of `ops`: all threads together, this process */
    larder_plan planned, used;                       /* what the engine was to take, and took */
} larder_bench_result;
/* *out is filled, larder_bench_free. */
larder_status larder_bench(larder_model *model, const larder_bench_options *options, larder_bench_result *out,
                           larder_progress_fn *progress, void *user, larder_error *err);
void larder_bench_free(larder_bench_result *r);

/* A model to be measured without having it: random weights of the shape that a name of the catalogue has, in memory of
 * their own. `format`: as for larder_convert; NULL: Q4_K_M. `memory`: how much may be taken; 0: what is free. It has no
 * text. larder_model_free. */
larder_status larder_shape_open(const char *name, const char *format, uint64_t memory, larder_model **out,
                                larder_progress_fn *progress, void *user, larder_error *err);

/* What changed since `path` was written (as `larder bench --format csv` prints): lines of text, larder_free. */
larder_status larder_bench_compare(const char *path, const char *name, const char *format,
                                   const larder_bench_row *rows, size_t n, char **out, larder_error *err);

/* ---------------------------------------------------------------- load on a server (bench_serve.c)
 * Requests to any server with the OpenAI API and streams, and how it bore them. Just one of rate, n_users and trace. A
 * distribution: "128", "64-256" (uniform), "exp:128", "normal:128,32", "lognormal:128,0.5" (median, sigma). */
typedef struct larder_load_options {
    const char *url;                   /* "http://127.0.0.1:8080" */
    const char *model;                 /* NULL: the first that /v1/models names */
    const char *key;                   /* NULL: none */
    double rate;                       /* open loop: requests a second, Poisson */
    uint32_t n_users;                  /* closed loop: each sends its next when it has its answer */
    const char *trace;                 /* open loop: a file of lines "seconds,prompt,answer" */
    uint32_t n_requests;               /* stop after so many; 0: by duration_s */
    double duration_s;                 /* send none after this; 0: by n_requests */
    const char *prompt, *answer;       /* distributions of lengths in tokens */
    uint32_t n_prefix, n_prefixes;     /* tokens each prompt begins with beside its own, one of n_prefixes texts */
    double ttft_limit_s, tpot_limit_s; /* what counts as good; 0: anything */
    double temperature;
    bool chat;       /* /v1/chat/completions, or /v1/completions */
    bool ignore_eos; /* ask for answers of full length; not every server knows it */
    uint32_t timeout_s;
    uint64_t seed;
    larder_progress_fn *progress; /* requests; may be NULL */
    void *user;
} larder_load_options;
larder_load_options larder_load_defaults(void);
enum {
    LARDER_LOAD_NO_ANSWER = 0, /* in place of a status: no connection or no answer, */
    LARDER_LOAD_LATE = 1,      /* not done within timeout_s, */
    LARDER_LOAD_CUT = 2,       /* a stream that began with 200 and broke off or said an error */
};
typedef struct larder_load_request {
    double at_s, sent_s;          /* when it was due, and when it was sent */
    double ttft_s, tpot_s, e2e_s; /* tpot: of the tokens after the first */
    uint32_t n_prompt, n_cached, n_answer;
    int status;
    bool failed, good;
} larder_load_request;
typedef struct larder_spread {
    double mean, p50, p90, p95, p99, max;
} larder_spread;
typedef struct larder_load_status {
    int status;
    uint32_t n;
} larder_load_status;
typedef struct larder_load_report {
    char model[300];
    uint32_t n_requests, n_ok, n_good;
    double seconds; /* from the start to the last answer's end */
    uint64_t n_prompt, n_cached, n_answer;
    larder_spread ttft, tpot, gap,
        e2e;           /* gap: between two pieces of one answer; seconds, answers that came whole only */
    larder_spread lag; /* how late requests were sent: this program's own fault */
    larder_load_status statuses[24];
    uint32_t n_statuses;
    double cpu_s;                  /* this program's */
    char complaint[300];           /* what the first refusal said */
    larder_load_request *requests; /* [n_requests], allocated (larder_free) */
} larder_load_report;
larder_status larder_bench_serve(const larder_load_options *options, larder_load_report *out, larder_error *err);

typedef struct larder_ppl {
    double ppl, error; /* perplexity of the scored tokens, and its standard error */
    uint64_t n_scored;
    uint32_t n_window, window;
    /* with a reference: its perplexity; the mean over the same places of KL(reference || this), in nats; its 99th percentile;
     * the share of places where the likeliest token is the same */
    double reference_ppl, kl, kl_p99, same_top;
} larder_ppl;
/* Text is cut into windows of n_ctx tokens, each begun anew (with BOS if the model has one); the second half of each
 * is scored. max_tokens 0: all of the text. `reference` (NULL: none): other options, for the cache and the activations, to
 * compare with. */
larder_status larder_perplexity(larder_model *model, const larder_engine_options *options,
                                const larder_engine_options *reference, const char *text, size_t n_text,
                                uint64_t max_tokens, larder_ppl *out, larder_progress_fn *progress, void *user,
                                larder_error *err);

/* ---------------------------------------------------------------- plan, check (plan_job.c)
 * What a model would do on a machine, before anything is downloaded or bought. Results are text, or JSON if asked;
 * *out is allocated (larder_free). */
typedef struct larder_plan_ask {
    const char *model;    /* a preset's name ("llama-3.1-8b", "...:Q8_0"), a file, a folder, a config.json */
    const char *format;   /* for presets; NULL: the usual one */
    const char *on;       /* machines, parted by commas; NULL: "this" */
    const char *backend;  /* "llama.cpp Vulkan"; NULL: the usual one there */
    const char *what_if;  /* "bandwidth=546,memory=256" */
    const char *rank_by;  /* all machines, ordered: speed, capacity, price, watts, tok-per-dollar, gb-per-dollar */
    const char *svg;      /* a file for the plot */
    const char *workload; /* in place of a model: chat, serve:20, lora, ...; "all" */
    bool advise;          /* which machine to run the model on, or to buy for it, and why */
    bool stay, leave;     /* of it: only this machine; only others */
    double max_price, max_watts; /* of machines ranked for a workload or advised: USD, watts under load; 0: any */
    uint32_t n_ctx, n_users, n_prompt; /* 0: the largest that fits; 1; 2048 */
    double watts, kwh,
        elsewhere; /* a power cap; USD for a kWh (0: 0.30); USD for a million tokens bought elsewhere */
    larder_kv kv;  /* numbers of the cache */
    bool kv_given, why, chart, json;
    bool timeline; /* what each layer waits for */
    bool simulate; /* serving: a load on the engine's scheduler over predicted steps */
    double rate;   /* of it: requests a second; 0: n_users in turn, or the trace */
    const char *trace, *prompts,
        *answers;                    /* a file; distributions of lengths (NULL: "lognormal:512,0.7", "exp:128") */
    uint32_t n_requests, n_parallel; /* 0: 400; 8 */
    bool software;                   /* in place of a model: which software runs on which family */
    larder_progress_fn *progress;    /* measuring this machine the first time */
    void *user;
} larder_plan_ask;
larder_status larder_plan_text(const larder_plan_ask *ask, char **out, larder_error *err);
typedef enum larder_score_how {
    LARDER_SCORE_TEXT = 0,
    LARDER_SCORE_JSON = 1,
    LARDER_SCORE_CROSS = 2, /* fits to the rows themselves, leaving out whole machines in turn */
    LARDER_SCORE_FIT = 4    /* prints the fit, for script/fit */
} larder_score_how;
/* Predictions for rows as data/measured.csv has them, and how far they are off. `how`: the flags above, joined. */
larder_status larder_plan_score(const char *path, larder_score_how how, char **out, larder_error *err);
/* Claims as people make them, each judged. */
larder_status larder_check_claims(const char *path, bool json, char **out, larder_error *err);

/* ---------------------------------------------------------------- lab (lab.c)
 * Exercises that prove a machine: c = a + b over ten million floats a hundred times, one decode run, software in PATH. */
typedef struct larder_lab {
    double add_gbs, read_gbs;            /* of the vector add (12 bytes a number); what this memory reads */
    double decode_tok_s, decode_ceiling; /* 0 without a model */
    char software[512];
} larder_lab;
/* `model` may be NULL. */
larder_status larder_lab_run(larder_model *model, larder_lab *out, larder_progress_fn *progress, void *user,
                             larder_error *err);

#ifdef __cplusplus
}
#endif
#endif
