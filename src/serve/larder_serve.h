/* larder_serve.h - models for every program on the box: OpenAI, Anthropic and Ollama APIs over HTTP.
 *
 * The one header of src/serve that src/cli may take.
 */
#ifndef LARDER_SERVE_H
#define LARDER_SERVE_H

#include "larder.h"

typedef struct larder_serve_model {
    const char *name, *path;
    bool pinned; /* loaded at the start, and never unloaded for another */
} larder_serve_model;
typedef void larder_serve_see_fn(void *to, const char *name, uint64_t n_bytes, int64_t changed);

typedef struct larder_serve_options {
    const char *host;                 /* address to listen on; anything but loopback needs a key */
    uint32_t port;                    /* 0: one that is free, which the log names */
    const larder_serve_model *models; /* the first is loaded at the start, others when they are asked for */
    uint32_t n_models;
    /* More that may be asked for, both NULL or neither. find: its whole name and its path, by any thread. */
    bool (*find)(void *user, const char *name, char *full, size_t n_full, char *path, size_t n_path);
    void (*list)(void *user, larder_serve_see_fn *see, void *to);
    void *find_user;
    const char *const *folders; /* where the files of models lie: they stay readable */
    uint32_t n_folders;
    uint32_t idle_s;         /* models that `find` knows are unloaded after so long without a call; 0: never */
    bool idle_named;         /* those of `models`, too */
    const char *const *keys; /* any of them opens every route; none: no key is asked for */
    uint32_t n_keys;
    const char *const *hosts; /* names that Host may say, beside addresses, localhost and this machine's own */
    uint32_t n_hosts;
    const char *const *origins; /* pages that may call, beside our own */
    uint32_t n_origins;
    const char *tls_cert, *tls_key; /* PEM texts; both or neither */
    larder_sampling sampling;       /* where a request says nothing; its seed is not used */
    uint32_t n_queue;               /* calls that may run or wait; more get 429 */
    uint64_t max_body;              /* bytes */
    uint32_t max_connections;
    uint32_t drain_s; /* on SIGTERM, running calls have this long */
    bool no_confine;
    int pull_fd;      /* to the helper that pulls; -1: /api/pull is off */
    double bandwidth; /* bytes a second that this memory was measured to read; 0: not known */
} larder_serve_options;
larder_serve_options larder_serve_defaults(void);

/* For the helper: from now on it writes in this folder only, and starts no program. */
void larder_serve_confine_helper(const char *folder);

/* Serves until SIGTERM or SIGINT; returns once running calls are done. `engine` holds for every model. */
larder_status larder_serve(const larder_engine_options *engine, const larder_serve_options *options,
                           larder_error *err);

#endif
