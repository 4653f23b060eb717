/* cli.h - what the verbs share: options, messages, progress, interrupts. The only layer that exits or prints.
 *
 * Exit status: 0 done; 1 it failed; 2 the command line is wrong; 130 interrupted.
 */
#ifndef LARDER_CLI_H
#define LARDER_CLI_H

#include "larder.h"
#include "larder_tools.h"

#include <stdio.h>

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

/* ---------------------------------------------------------------- options (args.c) */
typedef enum arg_kind { ARG_FLAG, ARG_U32, ARG_I32, ARG_U64, ARG_F32, ARG_STR, ARG_BYTES, ARG_CALL } arg_kind;
typedef struct arg {
    const char *name; /* long name, without "--" */
    char letter;      /* or 0 */
    arg_kind kind;
    void *to; /* bool, uint32_t, int32_t, uint64_t, float, const char *, uint64_t; for CALL what `call` gets */
    const char *value; /* what stands for the value in the help; NULL for flags */
    const char *help;
    bool (*call)(void *to, const char *value); /* CALL: false if the value is no good */
} arg;
#define ARG_MAX 64
typedef struct arg_table {
    const char *verb;
    const char *usage;    /* "MODEL [PROMPT]" */
    const char *about;    /* a paragraph */
    const char *examples; /* lines, may be NULL */
    arg args[ARG_MAX];
    int n;
    int min_words, max_words; /* max < 0: any number */
} arg_table;
void arg_add(arg_table *t, const arg *list, int n);
/* Fills the options. Returns -1 to go on (words are argv[*first ..]), or the exit status: 0 after --help, 2 if wrong. */
int arg_parse(arg_table *t, int argc, char **argv, int *first);
bool arg_set(const arg *a, const char *value);             /* false if the value is no good */
const arg *arg_find(const arg_table *t, const char *name); /* by its long name; NULL: there is none */

/* ---------------------------------------------------------------- options from a file (config.c) */
enum { CONFIG_MOST_WORDS = 32 };
typedef struct cli_config {
    const char *verb;
    char path[4096];
    char *text;                     /* what the options' values point into */
    char *words[CONFIG_MOST_WORDS]; /* of "model = ..." */
    int n_words;
} cli_config;
/* Sets what --config names, or else the file `name` of the user's configurations if there is one; to be called before
 * arg_parse, so that the command line has the last word. 0 or an exit status. */
int cli_config_read(cli_config *c, const arg_table *t, const char *name, int argc, char **argv);
void cli_config_free(cli_config *c);

/* ---------------------------------------------------------------- messages, progress, interrupts (term.c) */
void cli_error(const char *verb, const larder_error *err);
/* Whether this was among the last notes of the library: a plan is made several times. One thread at a time. */
bool cli_was_said(const char *line);
void cli_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Makes one harmless line of what a file or a server says, in place, for a message or a table: controls become '?'. */
char *cli_one_line(char *s);
/* The exit status for an error: usage 2, cancelled 130, else 1. Prints it. */
int cli_fail(const char *verb, const larder_error *err);
/* SIGINT and SIGTERM set a flag; a second one leaves at once if asked so. */
void cli_catch_interrupt(bool second_leaves);
bool cli_interrupted(void);
void cli_clear_interrupt(void); /* SIGINT's; after a SIGTERM cli_interrupted stays true */
/* Shows a line on standard error, if it is a terminal: name, bar, percent, rate, time left. user: a unit ("B", "tok").
 * While a model file's is shown (cli_reading), it only asks whether to go on. */
bool cli_progress(void *unit, const larder_progress *p);
void cli_progress_end(void);
/* A larder_reading_fn: the same for a model file on its way into memory, until there is an answer to show. */
void cli_reading(void *user, uint64_t n_done, uint64_t n_total, double rate);
/* The same for a prompt being read: gets its PREFILL events. Starts zeroed. */
typedef struct cli_prefill_state {
    double since;
    uint32_t n_before;
} cli_prefill_state;
bool cli_prefill(cli_prefill_state *s, const larder_event *ev);
/* "1.2 GiB" and such, in `out`. */
const char *cli_bytes(uint64_t n, char out[24]);
/* Writes text to a terminal without its control characters (a model must not steer it), to a file as it is. */
void cli_put(FILE *f, const char *text, size_t n);
/* The same for JSON: a terminal gets such characters escaped. */
void cli_put_json(FILE *f, const char *text, size_t n);
/* From now on no notes and no progress, only errors. */
void cli_be_quiet(void);
bool cli_is_quiet(void);
/* All of standard input or of a file ("-": standard input), at most `max` bytes; NUL-terminated, free(). */
char *cli_read_all(const char *verb, const char *path, size_t max, size_t *n);

/* ---------------------------------------------------------------- models (model.c) */
typedef struct cli_model {
    larder_engine_options engine;
    larder_request_options request;
    larder_sampling sampling;
    bool exact, kv_given, act_given;
    const char *stops[64];
    int32_t bias_ids[256];
    float bias[256];
    bool seed_given;
    const char *draft_path;
    larder_model *model, *draft;
    larder_engine *e;
} cli_model;
void cli_model_init(cli_model *m);
/* --ctx --threads --batch --kv --act --exact --memory. ctx: what --ctx is for here; NULL: as for run */
void cli_engine_args(arg_table *t, cli_model *m, const char *ctx);
void cli_draft_args(arg_table *t, cli_model *m);    /* --draft --speculate */
int cli_draft_open(const char *verb, cli_model *m); /* part of cli_model_open */
void cli_sampling_args(arg_table *t, cli_model *m); /* --temp --top-k ... --stop --seed --max-tokens */
/* After the options: what --exact means, a seed. 0 or an exit status. */
int cli_model_settle(const char *verb, cli_model *m);
bool cli_kv(const char *name, larder_kv *out); /* numbers of a KV cache by their name */
/* Opens the model and then the engine; says the plan's context on standard error when `say`. 0 or an exit status. */
int cli_model_open(const char *verb, cli_model *m, const char *path);
int cli_engine_open(const char *verb, cli_model *m, bool say);
void cli_model_close(cli_model *m);

/* ---------------------------------------------------------------- figures (stats.c) */
/* One line: "142 tokens, 61.3 tok/s, 41.2 GB/s, 48% of what this memory reads". */
void cli_speed_line(FILE *f, const larder_timing *t, const larder_plan *plan);
/* Timings and memory, planned and real, in a table. */
void cli_stats(FILE *f, const larder_timing *t, const larder_engine *e);
/* The same as members of a JSON object: returns a json_t *. */
struct json_t *cli_stats_json(const larder_timing *t, const larder_engine *e);
/* Prints what --json asked for and takes it (a json_t *, NULL if it could not be made). 0 or an exit status. */
int cli_json(const char *verb, struct json_t *o);
/* Peak resident bytes of this process. */
uint64_t cli_peak(void);

/* ---------------------------------------------------------------- verbs, one file each: argv[0] is the verb */
#define CLI_VERBS(X) \
    X(run, "answer a prompt, or continue a text") \
    X(chat, "talk with a model in the terminal") \
    X(serve, "answer every program on this machine") \
    X(inspect, "what a model file says: keys, tensors, template, memory") \
    X(convert, "any model larder reads to a GGUF") \
    X(quantize, "the same as convert") \
    X(pull, "download a model into the store") \
    X(list, "the models in the store") \
    X(rm, "remove a model from the store") \
    X(probe, "measure this machine: memory, arithmetic, disk") \
    X(plan, "before loading or buying: does it fit, how fast, how many watts") \
    X(check, "judge claims about machines and models") \
    X(lab, "prove this box: a vector add, a decode run, what software is here") \
    X(bench, "measure a model here: prefill and decode") \
    X(perplexity, "how well a model predicts a text") \
    X(logits, "the logits of every position, to a file") \
    X(tokenize, "texts to token ids") \
    X(detokenize, "token ids to texts") \
    X(template, "render a model's chat template") \
    X(version, "version, and what was built in")
#define X(name, text) int verb_##name(int argc, char **argv);
CLI_VERBS(X)
#undef X
/* The process that pulls for serve, into this folder; *out is the socket to it. 0 or an exit status. */
int cli_pull_helper(const char *folder, int *out);
int bench_serve(int argc, char **argv); /* of bench */

#endif
