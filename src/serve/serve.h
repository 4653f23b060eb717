/* serve.h - the server's own seam between its files.
 *
 * Threads, and what each may touch:
 *   loop    sockets, exchanges, what a call says to its client. Never blocks: it neither tokenizes nor computes.
 *   reader  turns a body into prompts (JSON, template, tokenizer). One call at a time.
 *   engine  the only one that touches the engine: submits, steps, cancels. Sleeps when there is nothing to do.
 * A call belongs to one of them at a time and goes round: loop -> reader -> loop -> engine -> loop, where it is freed.
 * While the engine has it, what happens comes to the loop as notes; the loop asks it to stop by an atomic flag.
 */
#ifndef LR_SERVE_H
#define LR_SERVE_H

#include "base.h"
#include "larder_serve.h"
#include "parse_tools.h"

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>

typedef struct server server;
typedef struct served served;
typedef struct exchange exchange;
typedef struct call call;
typedef struct gen gen;
typedef struct note note;
typedef struct params params;
typedef struct ws ws;

#define NO_BUDGET UINT32_MAX
enum {
    MOST_CHOICES = 16,
    MOST_GENS = 32,
    MOST_STOPS = 16,
    MOST_STOP = 256,
    MOST_BIAS = 1024,
    MOST_TOOLS = 128,
    MOST_CALLS = 16,
    MOST_ACTIVE = 64
};

/* ---------------------------------------------------------------- one way of speaking (api_*.c) */
typedef enum framing { FRAME_SSE, FRAME_LINES } framing;
typedef struct progress {
    uint32_t n_done, n_total; /* tokens of the prompt */
    double left;              /* seconds, about; 0: not known yet */
} progress;
typedef struct api {
    const char *name;
    framing frames;
    bool embeds; /* texts become vectors; nothing is generated */
    /* reader thread: fills c->gens and what else the answer needs. */
    larder_status (*read)(call *c, larder_error *err);
    /* loop thread, streaming: what to say when it starts, as an answer's pieces come, when a choice ends, at the end. */
    void (*begin)(call *c);
    void (*piece)(call *c, gen *g, const lr_piece *p);
    void (*end)(call *c, gen *g);
    void (*close)(call *c);
    /* loop thread, not streaming: the whole answer. */
    json_t *(*whole)(call *c);
    /* loop thread, in a stream; NULL: as comments. Alive: nothing was said for a while. Progress: of the prompt. */
    void (*alive)(call *c);
    void (*progress)(call *c, const progress *p);
    /* loop thread: what a stream says of an error, before it ends; NULL: the body below as an event "error" */
    void (*fail)(call *c, int status, const char *message, const char *param);
    /* an error's body; `param` may be NULL */
    json_t *(*error)(int status, const char *message, const char *param);
} api;
extern const api api_chat, api_completions, api_responses, api_anthropic, api_count, api_ollama_chat,
    api_ollama_generate, api_tokenize, api_detokenize, api_template, api_embeddings, api_ollama_embed,
    api_ollama_embeddings, api_show, api_compact;
/* Shared by /v1/responses and what goes with it: `instructions` and `input` as messages, usage. */
json_t *responses_input(params *p);
json_t *responses_usage(const call *c);
extern const char compact_mark[]; /* before a summary made here */
json_t *error_openai(int status, const char *message, const char *param);
json_t *error_anthropic(int status, const char *message, const char *param);
json_t *error_ollama(int status, const char *message, const char *param);

/* ---------------------------------------------------------------- calls */
typedef struct token_note {
    int32_t id;
    float logprob;
    uint32_t n_top;
    larder_logprob top[20];
} token_note;

typedef struct tool_call {
    char id[40];
    char *name;
    lr_buf args; /* a JSON object, if it is whole */
    bool whole;
} tool_call;

/* One answer being made. */
struct gen {
    call *c;
    uint32_t index;
    int32_t *ids; /* the prompt */
    size_t n_ids;
    bool thinking; /* the prompt ends inside a thought */
    larder_sampling sampling;
    atomic_bool enough; /* loop thread: it has said all that is wanted */
    /* engine thread */
    larder_request *r;
    gen *next;
    uint32_t n_read; /* of the prompt */
    uint64_t t_first, t_last;
    /* engine thread, if thoughts have a budget: see think.c */
    lr_answer watch;
    int32_t *made; /* tokens so far */
    uint32_t n_made, cap_made, n_think;
    bool spent, resumed;
    larder_timing first; /* of the request that ended with its thought */
    /* loop thread */
    lr_answer parse;
    lr_buf text, thought;
    tool_call *tools;
    uint32_t n_tools;
    token_note *tokens; /* if log probabilities were asked for */
    uint32_t n_tokens, cap_tokens, n_told;
    uint32_t n_generated, n_thought;
    bool done;
    larder_finish finish;
    char *stop; /* met */
    larder_timing timing;
    note *done_note;
    double t_progress; /* when the first part of the prompt was done, and how much that was */
    uint32_t n_progress;
    uint32_t open;     /* what a stream has open: see the api */
    size_t item_start; /* where it begins in text or thought */
};

typedef struct embed_text {
    int32_t *ids;
    size_t n;
} embed_text;

struct call {
    server *s;
    served *m; /* held from when the body was read */
    bool has_keep;
    double keep_s; /* how long the model stays after this call; < 0: for good */
    exchange *x;   /* NULL once the client is gone */
    const api *api;
    char id[40];
    int64_t created;
    uint64_t t0;
    lr_buf text;         /* the body as it came */
    json_t *body, *kept; /* kept: members taken out of the body, so that what was read from them stays */
    char param[64];      /* the parameter an error is about */
    atomic_bool cancelled;
    bool stream, include_usage, logprobs, tools, started, closed;
    larder_grammar *grammar; /* what the answers must look like; the engine thread's, while it has the call */
    bool strict;             /* a tool's arguments are to be held to its schema */
    bool forced;             /* a call of a tool is all they may be */
    const char *call_mark;   /* calls begin with this, and the grammar holds from there; NULL: neither */
    bool raw;                /* the answer is text as it is: no thoughts, no calls */
    bool one_call;           /* after one call of a tool the answer is over */
    uint32_t budget;         /* tokens a thought may take; NO_BUDGET */
    int32_t *end_ids;        /* that end one */
    size_t n_end_ids;
    bool answer_only; /* read() made the answer; nothing is generated */
    json_t *answer;
    uint32_t n_top;
    uint64_t client; /* whose it is: see share.c */
    int32_t priority;
    float deadline_s; /* from its arrival; 0: none */
    const char *salt; /* of the prefix cache */
    uint32_t max_tokens;
    bool ignore_eos;
    const char *stop[MOST_STOPS];
    uint32_t n_stop;
    int32_t *bias_ids;
    float *bias;
    uint32_t n_bias;
    gen *gens;
    uint32_t n_gens, n_done, n_per_prompt;
    /* embeddings */
    embed_text *texts;
    uint32_t n_texts, n_embedded, n_cut;
    uint32_t n_dim; /* numbers of a vector that are wanted */
    float *vectors; /* [n_texts, n_embd] */
    larder_pooling pooling;
    bool base64;
    bool socket;       /* a turn on a WebSocket (/v1/responses): */
    json_t *items;     /* its conversation: what was before, and the input */
    char previous[40]; /* the response that what was before ends with */
    uint32_t sequence; /* of events in a stream */
    json_t *echo;      /* what the answer repeats of the request */
    char note[200];    /* what the answer's Larder-Note header says */
    larder_status status;
    larder_error error;
    note *own_note;
    call *next;
};

/* call.c */
call *call_new(server *s, exchange *x, const api *a);
void call_free(call *c);
/* reader: n prompts' gens; ids are the call's then. */
larder_status call_add_prompt(call *c, int32_t *ids, size_t n_ids, uint32_t n, const larder_sampling *sampling,
                              larder_error *err);
void call_note_add(call *c, const char *text); /* something the client should know */
/* loop: what came back. */
void call_client_gone(call *c);
void call_fail(call *c, int status, const char *message);
void call_alive(call *c);                             /* a sign of life in its stream */
void call_say(call *c, const char *event, json_t *o); /* one event or line of a stream; takes o */
json_t *call_args(const tool_call *t, bool *good);    /* as an object; or {} and not good */
uint32_t call_n_prompt(const call *c);
size_t call_n_text(const call *c); /* tokens of all texts to embed */
uint32_t call_n_cached(const call *c);
uint32_t call_n_generated(const call *c);
json_t *call_timings(const call *c);
const char *call_model(const call *c);

/* ---------------------------------------------------------------- parameters (params.c): reader thread
 * Each taker removes the member from the object. null counts as absent. What is left at the end is unknown, an error.
 * The first error sticks; the takers after it do nothing. */
struct params {
    call *c;
    json_t *o;
    const char *in; /* "options", for messages; NULL at the top */
    larder_error *err;
    larder_status st;
};
json_t *take(params *p, const char *key); /* borrowed; NULL if absent */
larder_status params_fail(params *p, const char *key, const char *fmt, ...) LR_PRINTF(3, 4);
bool take_float(params *p, const char *key, double min, double max, float *out);
bool take_int(params *p, const char *key, int64_t min, int64_t max, int64_t *out);
bool take_bool(params *p, const char *key, bool *out);
const char *take_string(params *p, const char *key);
/* Known and without effect here on any value. */
void take_inert(params *p, const char *key);
/* Known but not supported: an error unless it is absent or one of the harmless values (JSON texts, NULL-ended). */
void take_refused(params *p, const char *key, const char *why, const char *harmless);
void take_stop(params *p, const char *key);
/* A list of token ids, each one of the model's. *ids: release with larder_free. */
larder_status take_ids(params *p, const char *key, const json_t *list, int32_t **ids);
void take_bias(params *p, const char *key);
/* All samplers by their names of larder run. */
void take_sampling(params *p, larder_sampling *s);
void take_model(params *p);
larder_status params_done(params *p);

/* ---------------------------------------------------------------- how calls share the machine (share.c) */
uint64_t share_of(exchange *x);                       /* by its headers */
void share_begin(call *c, exchange *x);               /* loop thread */
larder_status share_read(call *c, larder_error *err); /* reader thread, before the api's own parameters */
double share_left(const call *c);                     /* seconds to its deadline; 0: it has none */

/* ---------------------------------------------------------------- prompts (prompt.c): reader thread */
/* OpenAI-like messages, checked; consumes nothing. */
json_t *prompt_messages(params *p, const char *key);
json_t *prompt_tools(params *p, const char *key); /* NULL if absent or empty */
/* Renders and tokenizes. Takes the references. */
larder_status prompt_render(call *c, json_t *messages, json_t *tools, json_t *extra, int32_t **ids, size_t *n_ids,
                            larder_error *err);
/* The prompt ends inside a thought: its template opened one. */
bool prompt_thinks(const call *c, const int32_t *ids, size_t n_ids);
larder_sampling sampling_for(call *c); /* the server's, with a seed of the call's own */
/* A string, with its content parts joined; or an error about `what`. New reference. */
json_t *prompt_content(params *p, json_t *content, const char *what);

/* ---------------------------------------------------------------- thoughts (think.c) */
/* Reader thread. How hard to think, in the words of the APIs: for the template, and a budget. */
void think_effort(params *p, const char *key, const char *effort, json_t *extra);
void think_budget(params *p, const char *key, int64_t n_tok, json_t *extra); /* 0: not at all */
larder_status think_ready(call *c, larder_error *err);
/* Engine thread. A token came: false when the thought has had its budget. */
bool think_token(gen *g, const larder_event *ev);
/* Engine thread. The request ended because of that: the prompt to go on from; release with larder_free. */
larder_status think_prompt(const gen *g, int32_t **ids, size_t *n_ids, larder_error *err);
extern const char think_end[];
/* A control token's name, if it is one that parse_tools wants by it; else NULL. */
const char *mark_of(const served *m, int32_t id);

/* ---------------------------------------------------------------- forms of answers (form.c): reader thread */
void form_schema(params *p, const char *key, const json_t *schema);
void form_typed(params *p, const char *key, const json_t *v, const char *inner);
void form_take_others(params *p);
/* how: NULL, "auto", "none", or a call must be made: of the tool `name`, or of any if that is NULL; with `many`, several
 * may. Keeps in *tools what may be called. */
void form_tools(params *p, json_t **tools, const char *how, const char *name, bool many);
/* parallel_tool_calls as it is given: true asks for room for several forced calls, false for one call at most. */
bool form_parallel(params *p, const char *key);
/* What the model chooses to call is held to strict tools' schemas; and what does not go together is refused. */
void form_done(params *p, const json_t *tools);

/* ---------------------------------------------------------------- the two other threads (work.c) */
larder_status work_start(server *s, larder_error *err);
larder_status thread_new(pthread_t *t, void *(*run)(void *), server *s, larder_error *err);
void work_stop(server *s);
void work_read(server *s, call *c);
/* Reader thread: a body becomes prompts, or whatever its api makes of it. Parked: its model is being loaded; it comes back
 * here then, with its status set if that failed. */
larder_status work_take(call *c, bool *parked, larder_error *err);
void work_run(server *s, call *c);
void work_joules(server *s, double out[2]); /* prefill, decode */
/* Loop thread: takes in what the others left. */
void work_notes(server *s);

typedef enum note_kind {
    NOTE_READ,
    NOTE_STARTED,
    NOTE_PREFILL,
    NOTE_TOKEN,
    NOTE_DONE,
    NOTE_EMBEDDED,
    NOTE_REFUSED
} note_kind;
struct note {
    note *next;
    note_kind kind;
    call *c;
    gen *g;
    uint32_t n_done, n_total;
    token_note token;
    bool has_logprob;
    larder_finish finish;
    larder_timing timing;
    double ttft, gap; /* seconds; DONE: ttft. TOKEN: gap since the last */
    larder_error error;
    char *stop;
    size_t n_text;
    char text[];
};
void call_note(note *n); /* frees it, unless it is the call's own */

/* ---------------------------------------------------------------- HTTP (http.c, guard.c, routes.c): loop thread */
typedef enum key_place { ROUTE_OPEN, ROUTE_KEY } key_place;
typedef struct route {
    const char *method, *path;
    key_place key;
    const api *api;           /* a call; or */
    void (*get)(exchange *x); /* answered at once */
    json_t *(*error)(int status, const char *message, const char *param);
} route;
/* The route of a path, HEAD as GET; *other: the path exists, but not this method. */
const route *route_find(const char *method, const char *path, bool *other);
void route_methods(const char *path, char out[40]); /* as the header Allow has them */
json_t *(*route_error(const char *path))(int, const char *, const char *);

/* What the log says of a call. */
typedef struct call_summary {
    const char *model; /* NULL: there was no call */
    uint32_t n_prompt, n_cached, n_generated;
    double ttft_s;
    const char *finish;
} call_summary;

struct exchange {
    server *s;
    struct MHD_Connection *c;
    struct connection *conn;
    const route *route;
    char path[128]; /* as logged */
    char method[8];
    char id[40];
    uint64_t t0;
    lr_buf body;
    ws *ws;       /* a turn on it: there is no connection of libmicrohttpd's */
    bool refused; /* an answer is ready before the body was read */
    bool suspended, gone, queued, streaming, finished, slow;
    bool pulling, pull_stream; /* it waits for a model to be pulled */
    call *call;
    int status;
    char *type;
    lr_buf out; /* the whole answer, or what a stream has not sent yet */
    size_t sent;
    uint32_t retry_after;
    exchange *prev, *next_x;
    uint64_t t_said;
    char note[200];             /* for the Larder-Note header */
    char trace[56], parent[17]; /* W3C trace: what our answer says, and the span that asked */
    call_summary summary;
};
void reply_json(exchange *x, int status, json_t *o); /* takes o */
void reply_text(exchange *x, int status, const char *type, const char *text);
void reply_error(exchange *x, int status, const char *message, const char *param);
/* A stream: begins with 200; then bytes; then its end. */
void stream_begin(exchange *x, const char *type);
void stream_add(exchange *x, const char *p, size_t n);
void stream_end(exchange *x);
const char *exchange_header(exchange *x, const char *name);

larder_status http_start(server *s, larder_error *err);
void http_stop(server *s);
exchange *http_exchanges(server *s);
void http_wake(void); /* from any thread: the loop looks at the notes */
larder_status http_loop(server *s, larder_error *err);

/* pull.c */
void pull_post(exchange *x);
void pull_left(exchange *x);
void pull_notes(server *s);

/* listen.c */
larder_status listen_open(server *s, int *out, larder_error *err);
void notify_open(server *s);
void notify_say(const server *s, const char *text);
void notify_close(server *s);
larder_status check_host(const server *s, larder_error *err); /* serve.c: no key, no listening elsewhere */

/* ws.c: /v1/responses over a WebSocket. What it needs from http.c: the exchange's socket is looked at no more. */
struct MHD_Response;
struct pollfd;
void http_unwatch(exchange *x);
void ws_get(exchange *x);                                                /* the handshake: status 101, or an error */
struct MHD_Response *ws_response(exchange *x);                           /* for status 101 */
uint64_t ws_client(const ws *w);                                         /* whose it is: see share.c */
void ws_say(ws *w, const char *text);                                    /* one event */
void ws_fail(exchange *x, int status, const char *m, const char *param); /* ends the turn */
void ws_done(exchange *x, json_t *items, const char *id); /* what the next turn may go on from; takes items */
void ws_look(server *s);
size_t ws_polls(const server *s, struct pollfd *p, size_t most);
void ws_keep_alive(server *s, uint64_t ns);
void ws_stop(server *s);

/* guard.c: 0, or the status and message to refuse with. */
int guard_check(exchange *x, const char **message);
bool guard_equal(const char *a, const char *b); /* time depends on the lengths only */
bool is_loopback(const char *host);

/* ---------------------------------------------------------------- figures (metrics.c) */
typedef struct histogram {
    uint64_t count[16];
    uint64_t n;
    double sum;
} histogram;
typedef struct metrics {
    histogram ttft, gap, queue, prefill, decode, e2e;
    uint64_t prompt_tokens, cached_tokens, generated_tokens;
    double decode_bytes;
    uint64_t finish[8];
    uint64_t requests[6]; /* by hundred of the status */
    uint64_t refused_queue, cancelled, slow_readers;
} metrics;
void metric_add(histogram *h, double seconds);
void metrics_get(exchange *x);

/* ---------------------------------------------------------------- energy (energy.c): engine thread */
enum { MOST_METERS = 8 };
typedef struct energy_meter {
    int fd;
    uint64_t last, range; /* microjoules; it wraps at range */
} energy_meter;
typedef struct energy {
    energy_meter meters[MOST_METERS];
    uint32_t n; /* 0: there are none that this process may read */
    bool busy;
    uint64_t t_read, t_step;
    double prefill_s, decode_s; /* since the meters were read */
    double prefill_j, decode_j; /* in all */
} energy;
void energy_open(energy *e);
void energy_close(energy *e);
void energy_begin(energy *e);                                       /* before steps, */
void energy_step(energy *e, uint32_t n_prefill, uint32_t n_decode); /* after each, with its tokens, */
void energy_end(energy *e);                                         /* and when there is nothing more to do */

/* ---------------------------------------------------------------- models (models.c) */
typedef enum served_state { SERVED_AWAY, SERVED_WANTED, SERVED_LOADING, SERVED_READY, SERVED_LEAVING } served_state;
struct served {
    served *next;
    char *name, *path;
    bool stored, pinned; /* of the store; never unloaded */
    /* the models' lock's */
    served_state state;
    bool leaving, unload_now; /* it gets no new calls; it goes once it is idle */
    uint32_t n_calls;
    uint64_t used, until; /* ns: last used; when it goes if idle */
    call *waiting, **waiting_end;
    larder_engine_stats stats;
    bool known; /* info is; it stays when the model goes */
    char architecture[64], format[24];
    /* any thread's that holds it by a call */
    larder_model_info info;
    larder_model *model;
    larder_engine *engine;
    larder_plan plan;
    int32_t mark_ids[8]; /* control tokens that parse_tools wants by name; -1: none */
};
typedef struct served_view {
    char name[300], architecture[64], format[24];
    bool known, loaded, loading, pinned;
    uint32_t n_calls, n_ctx;
    uint64_t n_bytes, memory; /* of the file; of the plan */
    larder_plan plan;
    int64_t changed;
    double idle_left_s;     /* < 0: it stays */
    larder_model_info info; /* numbers only */
    larder_engine_stats stats;
} served_view;
typedef struct served_list {
    served_view *v;
    size_t n;
    uint64_t budget, taken, card_budget, card_taken, n_loads, n_unloads;
} served_list;
larder_status models_start(server *s, larder_error *err);
larder_status models_open_first(server *s, larder_error *err); /* their files */
/* The card is open: what models may take, of the system's memory and of its own. */
void models_limit(server *s);
larder_status models_load_first(server *s, larder_error *err);
larder_status models_run(server *s, larder_error *err);
void models_halt(server *s); /* no more loading */
void models_stop(server *s);
/* Reader: gives the call the model of this name (NULL: the one there is), or parks it until that is loaded. */
larder_status models_take(call *c, const char *name, bool *parked, larder_error *err);
/* What its file says, without loading it. */
larder_status models_look(server *s, served *m, served_view *out, larder_error *err);
void models_release(call *c);
/* Engine thread: around a step; let_go keeps the engine's figures. */
void models_hold(server *s, served *m);
void models_let_go(server *s, served *m);
larder_engine_stats models_stats(server *s); /* of all together */
/* What there is now; `stored`: also what of the store was never asked for. */
void models_view(server *s, served_list *out, bool stored);
void models_view_free(served_list *l);

/* confine.c: files first, before threads are made; then calls, once everything is open. Both say what they could do. */
void confine_files(const server *s);
void confine_calls(const server *s);

/* ---------------------------------------------------------------- the server (serve.c) */
struct server {
    larder_serve_options o;
    larder_engine_options engine_options; /* every model's */
    const char *device;                   /* what computes: "cpu", "cuda" */
    struct models *models;
    energy energy;
    bool given;    /* the socket is the service manager's */
    char host[64]; /* its address */
    int notify;    /* the service manager's ear; -1: none */
    int64_t started;
    uint64_t secret; /* mixed into ids */
    uint64_t n_ids;
    bool draining;
    uint64_t t_drain;
    uint32_t n_calls; /* alive */
    metrics m;
    char pulling[256]; /* what is being pulled; "" if nothing is */
    struct http *http;
    struct work *work;
    ws *sockets;
    uint32_t n_sockets;
};
extern const char *const marks[8];
void new_id(server *s, const char *prefix, char out[40]);
void log_line(larder_log_level level, const char *fmt, ...) LR_PRINTF(2, 3);

#endif
