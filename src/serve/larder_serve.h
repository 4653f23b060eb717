/* larder_serve.h - one model for every program on the box: OpenAI, Anthropic and Ollama APIs over HTTP.
 *
 * The one header of src/serve that src/cli may take.
 */
#ifndef LARDER_SERVE_H
#define LARDER_SERVE_H

#include "larder.h"

typedef struct larder_serve_options {
    const char *host; /* address to listen on; anything but loopback needs a key */
    uint32_t port;    /* 0: one that is free, which the log names */
    const char *model_name;
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
} larder_serve_options;
larder_serve_options larder_serve_defaults(void);

/* Opens an engine and serves until SIGTERM or SIGINT; returns once running calls are done. */
larder_status larder_serve(larder_model *model, const larder_engine_options *engine,
                           const larder_serve_options *options, larder_error *err);

#endif
