/* serve.c - `larder serve`: one model for every program on this machine. */
#include "cli.h"
#include "larder_serve.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST 32

typedef struct serve_job {
    larder_serve_options o;
    const char *keys[MOST], *hosts[MOST], *origins[MOST];
    char *key_text;
    const char *key_file, *cert_file, *key_pem_file, *name;
    char derived[200];
    bool key_shown;
} serve_job;

static bool add_key(void *to, const char *v)
{
    serve_job *j = to;
    if (j->o.n_keys == MOST || !*v) return false;
    j->keys[j->o.n_keys++] = v;
    return j->key_shown = true;
}

static bool add_host(void *to, const char *v)
{
    serve_job *j = to;
    if (j->o.n_hosts == MOST || !*v) return false;
    j->hosts[j->o.n_hosts++] = v;
    return true;
}

static bool add_origin(void *to, const char *v)
{
    serve_job *j = to;
    if (j->o.n_origins == MOST || !strstr(v, "://")) return false;
    j->origins[j->o.n_origins++] = v;
    return true;
}

static void on_log(void *user, larder_log_level level, const char *line)
{
    (void)user;
    if (level <= LARDER_LOG_INFO) fprintf(stderr, "%s\n", line);
}

static bool good_name(const char *s)
{
    static const char extra[] = "._:/@+-";
    if (!*s || strlen(s) > 120) return false;
    for (; *s; s++) {
        bool letter = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9');
        if (!letter && !strchr(extra, *s)) return false;
    }
    return true;
}

/* The file's or folder's name without its folders and .gguf; owner/repo:quant stays as it is. */
static void derive_name(serve_job *j, const char *path)
{
    const char *slash = strrchr(path, '/');
    bool store = slash && !strstr(path, ".gguf") && access(path, F_OK);
    snprintf(j->derived, sizeof j->derived, "%.120s", slash && !store ? slash + 1 : path);
    size_t n = strlen(j->derived);
    if (n > 5 && !strcmp(j->derived + n - 5, ".gguf")) j->derived[n - 5] = 0;
    for (char *p = j->derived; *p; p++) {
        char one[2] = {*p, 0};
        if (!good_name(one)) *p = '_';
    }
    if (!j->derived[0]) strcpy(j->derived, "model");
}

/* A key on each line. */
static int read_keys(serve_job *j)
{
    size_t n;
    j->key_text = cli_read_all("serve", j->key_file, 65536, &n);
    if (!j->key_text) return EXIT_FAILED;
    for (char *save = NULL, *line = strtok_r(j->key_text, "\r\n", &save); line;
         line = strtok_r(NULL, "\r\n", &save)) {
        if (j->o.n_keys == MOST) {
            fprintf(stderr, "larder serve: more than %d keys\n", MOST);
            return EXIT_USAGE;
        }
        j->keys[j->o.n_keys++] = line;
    }
    if (j->o.n_keys) return 0;
    fprintf(stderr, "larder serve: the key file holds no key\n");
    return EXIT_USAGE;
}

static int prepare(serve_job *j, const char *model)
{
    size_t n;
    if (j->key_shown)
        cli_note("larder serve: a key on the command line can be seen by other users of this machine; --api-key-file "
                 "hides it");
    if (j->key_file && read_keys(j)) return EXIT_FAILED;
    if (j->cert_file && !(j->o.tls_cert = cli_read_all("serve", j->cert_file, 1 << 20, &n))) return EXIT_FAILED;
    if (j->key_pem_file && !(j->o.tls_key = cli_read_all("serve", j->key_pem_file, 1 << 20, &n))) return EXIT_FAILED;
    derive_name(j, model);
    if (j->name && !good_name(j->name)) {
        fprintf(stderr, "larder serve: --name takes letters, digits and . _ : / @ + -\n");
        return EXIT_USAGE;
    }
    j->o.model_name = j->name ? j->name : j->derived;
    j->o.keys = j->keys;
    j->o.hosts = j->hosts;
    j->o.origins = j->origins;
    return 0;
}

int verb_serve(int argc, char **argv)
{
    cli_model m;
    serve_job j = {.o = larder_serve_defaults()};
    cli_model_init(&m);
    m.engine.n_seq = 8;
    m.engine.n_embed = 128;
    arg_table t = {
        .verb = "serve",
        .usage = "MODEL [options]",
        .min_words = 1,
        .max_words = 1,
        .about =
            "Serves a model to every program on this machine, many at once: the APIs of OpenAI (/v1), Anthropic\n"
            "(/v1/messages) and Ollama (/api). It listens on this machine only, unless it has a key.\n"
            "SIGTERM lets running answers finish. The log, one JSON object a line, is on standard error.",
        .examples = "  larder serve model.gguf\n"
                    "  larder serve model.gguf --parallel 20 --ctx 8192\n"
                    "  larder serve model.gguf --host 0.0.0.0 --api-key-file keys.txt"};
    const arg own[] = {
        {"host", 0, ARG_STR, &j.o.host, "ADDRESS", "listen here (default 127.0.0.1); elsewhere a key is needed", 0},
        {"port", 'p', ARG_U32, &j.o.port, "N", "and on this port (default 8080; 0: any that is free)", 0},
        {"parallel", 0, ARG_U32, &m.engine.n_seq, "N", "answers made at once, each with room for --ctx (default 8)",
         0},
        {"queue", 0, ARG_U32, &j.o.n_queue, "N", "calls that may run or wait; more get 429 (default 256)", 0},
        {"name", 0, ARG_STR, &j.name, "NAME", "what clients call the model (default: from its file)", 0},
        {"api-key", 0, ARG_CALL, &j, "KEY", "a key that clients must send; may be repeated", add_key},
        {"api-key-file", 0, ARG_STR, &j.key_file, "FILE", "keys, one a line", 0},
        {"allow-host", 0, ARG_CALL, &j, "NAME", "a name this machine is called by; may be repeated", add_host},
        {"allow-origin", 0, ARG_CALL, &j, "URL", "a site whose pages may call; may be repeated", add_origin},
        {"tls-cert", 0, ARG_STR, &j.cert_file, "FILE", "serve HTTPS with this certificate (PEM)", 0},
        {"tls-key", 0, ARG_STR, &j.key_pem_file, "FILE", "and its key", 0},
        {"max-body", 0, ARG_BYTES, &j.o.max_body, "SIZE", "longest request (default 32M)", 0},
        {"connections", 0, ARG_U32, &j.o.max_connections, "N", "most connections at once (default 1024)", 0},
        {"drain", 0, ARG_U32, &j.o.drain_s, "SECONDS", "how long running answers have after SIGTERM (default 60)", 0},
        {"no-confine", 0, ARG_FLAG, &j.o.no_confine, NULL, "keep the right to open files, sockets and programs", 0},
    };
    arg_add(&t, own, sizeof own / sizeof *own);
    cli_engine_args(&t, &m);
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;

    larder_error err = {0};
    status = prepare(&j, argv[first]);
    if (!status) status = cli_model_open("serve", &m, argv[first]);
    if (!status) {
        larder_set_log(on_log, NULL);
        if (larder_serve(m.model, &m.engine, &j.o, &err)) status = cli_fail("serve", &err);
        larder_set_log(NULL, NULL);
    }
    cli_model_close(&m);
    free(j.key_text);
    free((void *)(uintptr_t)j.o.tls_cert);
    free((void *)(uintptr_t)j.o.tls_key);
    return status;
}
