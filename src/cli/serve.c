/* serve.c - `larder serve`: models for every program on this machine. */
#include "cli.h"
#include "larder_serve.h"

#include <jansson.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST 32

typedef struct serve_job {
    larder_serve_options o;
    const char *keys[MOST], *hosts[MOST], *origins[MOST];
    char *key_text;
    const char *key_file, *cert_file, *key_pem_file, *name;
    larder_serve_model models[MOST];
    char names[MOST][200], paths[MOST][PATH_MAX], folder_text[MOST + 1][PATH_MAX];
    const char *folders[MOST + 1], *pins[MOST];
    uint32_t n_pins;
    bool key_shown, no_store, allow_pull;
    cli_config config;
    const char *config_file; /* read by cli_config_read; named here for --help */
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

static bool add_pin(void *to, const char *v)
{
    serve_job *j = to;
    if (j->n_pins == MOST || !*v) return false;
    j->pins[j->n_pins++] = v;
    return true;
}

static bool set_idle(void *to, const char *v)
{
    larder_serve_options *o = to;
    char *end;
    unsigned long n = strtoul(v, &end, 10);
    if (*v < '0' || *v > '9' || *end || n > 31536000) return false;
    o->idle_s = (uint32_t)n;
    return o->idle_named = true;
}

/* The log is JSON; what the engine has to say is a text. */
static void put_note(const char *line)
{
    json_t *o = json_pack("{s:s,s:s%}", "event", "note", "text", line, strlen(line));
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    fprintf(stderr, "%s\n", text ? text : line);
    free(text);
    json_decref(o);
}

static void on_log(void *user, larder_log_level level, const char *line)
{
    (void)user;
    if (level > LARDER_LOG_INFO) return;
    flockfile(stderr);
    cli_progress_end(); /* a file may be on its way in, and shown */
    if (*line == '{') fprintf(stderr, "%s\n", line);
    else put_note(line);
    funlockfile(stderr);
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
static void derive_name(char out[200], const char *path)
{
    const char *slash = strrchr(path, '/');
    bool store = slash && !strstr(path, ".gguf") && access(path, F_OK);
    snprintf(out, 200, "%.120s", slash && !store ? slash + 1 : path);
    size_t n = strlen(out);
    if (n > 5 && !strcmp(out + n - 5, ".gguf")) out[n - 5] = 0;
    for (char *p = out; *p; p++) {
        char one[2] = {*p, 0};
        if (!good_name(one)) *p = '_';
    }
    if (!out[0]) strcpy(out, "model");
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

static int wrong(const char *text, const char *what)
{
    fprintf(stderr, "larder serve: %s%s\n", text, what);
    return EXIT_USAGE;
}

/* A word is [NAME=]MODEL. */
static int add_model(serve_job *j, const char *word, bool only)
{
    larder_error err = {0};
    const char *eq = strchr(word, '='), *path = eq && access(word, F_OK) ? eq + 1 : word;
    uint32_t i = j->o.n_models;
    if (i == MOST) return wrong("more models than it takes: ", word);
    if (path != word)
        snprintf(j->names[i], sizeof j->names[i], "%.*s", (int)(eq - word < 199 ? eq - word : 199), word);
    else if (j->name && only) snprintf(j->names[i], sizeof j->names[i], "%s", j->name);
    else derive_name(j->names[i], path);
    if (!good_name(j->names[i])) return wrong("a name takes letters, digits and . _ : / @ + -, not ", j->names[i]);
    for (uint32_t k = 0; k < i; k++)
        if (!strcmp(j->names[k], j->names[i]))
            return wrong("two models would have one name; give NAME=MODEL: ", word);
    if (larder_store_path(path, j->paths[i], sizeof j->paths[i], &err)) return cli_fail("serve", &err);
    j->models[i] = (larder_serve_model){
        .name = j->names[i],
        .path = j->paths[i],
    };
    j->o.n_models++;
    return EXIT_OK;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

/* The folder that a model's files are in, as it is really called: the server may read there later. */
static void add_folder(serve_job *j, const char *path, bool itself)
{
    uint32_t i = j->o.n_folders;
    char *real = realpath(path, NULL), *slash = real ? strrchr(real, '/') : NULL;
    if (slash && !itself && !is_folder(real)) *(slash == real ? slash + 1 : slash) = 0;
    if (real && i < MOST + 1 && strlen(real) < PATH_MAX) {
        strcpy(j->folder_text[i], real);
        j->folders[i] = j->folder_text[i];
        j->o.n_folders++;
    }
    free(real);
}

/* ---------------------------------------------------------------- the store, as the server asks for it */
/* Only what the store lists has a path; a name is never a file's. Without its quant a name is known if there is one. */
static bool find_stored(void *user, const char *name, char *full, size_t n_full, char *path, size_t n_path)
{
    larder_stored *list = NULL, *found = NULL;
    size_t n = 0, n_found = 0, k = strlen(name);
    (void)user;
    if (k > 7 && !strcmp(name + k - 7, ":latest")) k -= 7;
    if (larder_store_list(&list, &n, NULL)) return false;
    for (size_t i = 0; i < n; i++) {
        const char *rest = list[i].name + k;
        if (strlen(list[i].name) < k || strncasecmp(list[i].name, name, k) != 0 || (*rest && *rest != ':')) continue;
        found = &list[i];
        n_found++;
        if (!*rest) {
            n_found = 1;
            break;
        }
    }
    bool good = n_found == 1 && strlen(found->name) < n_full && !larder_store_path(found->name, path, n_path, NULL);
    if (good) strcpy(full, found->name);
    larder_free(list);
    return good;
}

static void list_stored(void *user, larder_serve_see_fn *see, void *to)
{
    larder_stored *list = NULL;
    size_t n = 0;
    (void)user;
    if (larder_store_list(&list, &n, NULL)) return;
    for (size_t i = 0; i < n; i++) see(to, list[i].name, list[i].n_bytes, list[i].changed);
    larder_free(list);
}

static int use_store(serve_job *j)
{
    larder_error err = {0};
    char root[PATH_MAX];
    if (larder_store_folder(root, sizeof root, &err)) return cli_fail("serve", &err);
    if (j->allow_pull && cli_pull_helper(root, &j->o.pull_fd)) return EXIT_FAILED;
    j->o.find = find_stored;
    j->o.list = list_stored;
    add_folder(j, root, true);
    return EXIT_OK;
}

static int pin_models(serve_job *j)
{
    for (uint32_t p = 0; p < j->n_pins; p++) {
        bool found = false;
        for (uint32_t i = 0; i < j->o.n_models; i++)
            if (!strcmp(j->names[i], j->pins[p])) found = j->models[i].pinned = true;
        if (!found) return wrong("--pin: no model of this command is called ", j->pins[p]);
    }
    return EXIT_OK;
}

static int prepare(serve_job *j, int n, char **words)
{
    size_t len;
    int status = EXIT_OK;
    if (j->key_shown)
        cli_note("larder serve: a key on the command line can be seen by other users of this machine; --api-key-file "
                 "hides it");
    if (j->key_file && read_keys(j)) return EXIT_FAILED;
    if (j->cert_file && !(j->o.tls_cert = cli_read_all("serve", j->cert_file, 1 << 20, &len))) return EXIT_FAILED;
    if (j->key_pem_file && !(j->o.tls_key = cli_read_all("serve", j->key_pem_file, 1 << 20, &len)))
        return EXIT_FAILED;
    if (j->name && n != 1) return wrong("--name is for one model; of several, write NAME=MODEL", "");
    for (int i = 0; !status && i < n; i++) status = add_model(j, words[i], n == 1);
    if (!status) status = pin_models(j);
    if (!status && !j->no_store) status = use_store(j);
    if (!status && !n && j->no_store) return wrong("no MODEL, and none of the store: nothing to serve", "");
    if (!status && j->allow_pull && j->no_store) return wrong("--allow-pull and --no-store do not go together", "");
    bool later = n > 1 || j->o.idle_named;
    for (uint32_t i = 0; !status && later && i < j->o.n_models; i++) add_folder(j, j->paths[i], false);
    j->o.models = j->models;
    j->o.keys = j->keys;
    j->o.hosts = j->hosts;
    j->o.origins = j->origins;
    j->o.folders = j->folders;
    return status;
}

/* What this memory reads, if it was measured once; a server does not begin by measuring. */
static bool not_now(void *user, const larder_progress *p)
{
    (void)user;
    (void)p;
    return false;
}

static double measured_bandwidth(uint32_t n_threads)
{
    larder_probe p;
    if (larder_probe_machine(false, &p, not_now, NULL, NULL)) return 0;
    return larder_probe_bandwidth(&p, n_threads ? n_threads : p.n_core);
}

static void free_job(serve_job *j)
{
    cli_config_free(&j->config);
    free(j->key_text);
    free((void *)(uintptr_t)j->o.tls_cert);
    free((void *)(uintptr_t)j->o.tls_key);
    free(j);
}

int verb_serve(int argc, char **argv)
{
    cli_model m;
    larder_error err = {0};
    serve_job *j = calloc(1, sizeof *j);
    if (!j) return EXIT_FAILED;
    j->o = larder_serve_defaults();
    cli_model_init(&m);
    m.engine.n_seq = 0;
    m.engine.n_embed = 128;
    arg_table t = {
        .verb = "serve",
        .usage = "[[NAME=]MODEL ...] [options]",
        .min_words = 0,
        .max_words = -1,
        .about = "Serves models to every program on this machine, many at once: the APIs of OpenAI (/v1), Anthropic\n"
                 "(/v1/messages) and Ollama (/api). It listens on this machine only, unless it has a key.\n"
                 "The first MODEL is loaded at the start; others, and those of the store, when they are asked for. "
                 "What does\n"
                 "not fit beside the loaded ones takes the place of the one used longest ago, or is refused.\n"
                 "SIGTERM lets running answers finish. The log, one JSON object a line, is on standard error.",
        .examples = "  larder serve model.gguf\n"
                    "  larder serve model.gguf --parallel 20 --ctx 8192\n"
                    "  larder serve small.gguf big=/models/llama-70b.gguf --pin small --memory 48G\n"
                    "  larder serve model.gguf --host 0.0.0.0 --api-key-file keys.txt"};
    const arg own[] = {
        {"host", 0, ARG_STR, &j->o.host, "ADDRESS", "listen here (default 127.0.0.1); elsewhere a key is needed", 0},
        {"port", 'p', ARG_U32, &j->o.port, "N", "and on this port (default 8080; 0: any that is free)", 0},
        {"parallel", 0, ARG_U32, &m.engine.n_seq, "N",
         "answers made at once, each with room for --ctx (default: 8, or fewer by what fits)", 0},
        {"cache-tokens", 0, ARG_U64, &m.engine.n_cache, "N",
         "tokens the KV cache holds for all answers together; those that find no room give way for a time "
         "(default: --parallel times --ctx)",
         0},
        {"swap", 0, ARG_BYTES, &m.engine.swap_bytes, "SIZE",
         "a file of at most this size, per model, for parts of the cache that found no room (default: none)", 0},
        {"swap-folder", 0, ARG_STR, &m.engine.swap_folder, "FOLDER", "where it is (default: TMPDIR, or /var/tmp)", 0},
        {"mixed-batch", 0, ARG_U32, &m.engine.n_mixed, "N",
         "tokens of prompts per step while others get answers (default: --batch)", 0},
        {"queue", 0, ARG_U32, &j->o.n_queue, "N", "calls that may run or wait; more get 429 (default 256)", 0},
        {"name", 0, ARG_STR, &j->name, "NAME", "what clients call the model (default: from its file)", 0},
        {"pin", 0, ARG_CALL, j, "NAME", "this model is loaded at the start and never unloaded; may be repeated",
         add_pin},
        {"idle-unload", 0, ARG_CALL, &j->o, "SECONDS",
         "unload a model nobody asked for so long; 0 never (default: 300 for those of the store)", set_idle},
        {"no-store", 0, ARG_FLAG, &j->no_store, NULL, "serve no model of the store, only those given", 0},
        {"allow-pull", 0, ARG_FLAG, &j->allow_pull, NULL, "let clients download models into the store (/api/pull)",
         0},
        {"api-key", 0, ARG_CALL, j, "KEY", "a key that clients must send; may be repeated", add_key},
        {"api-key-file", 0, ARG_STR, &j->key_file, "FILE", "keys, one a line", 0},
        {"allow-host", 0, ARG_CALL, j, "NAME", "a name this machine is called by; may be repeated", add_host},
        {"allow-origin", 0, ARG_CALL, j, "URL", "a site whose pages may call; may be repeated", add_origin},
        {"tls-cert", 0, ARG_STR, &j->cert_file, "FILE", "serve HTTPS with this certificate (PEM)", 0},
        {"tls-key", 0, ARG_STR, &j->key_pem_file, "FILE", "and its key", 0},
        {"max-body", 0, ARG_BYTES, &j->o.max_body, "SIZE", "longest request (default 32M)", 0},
        {"connections", 0, ARG_U32, &j->o.max_connections, "N", "most connections at once (default 1024)", 0},
        {"drain", 0, ARG_U32, &j->o.drain_s, "SECONDS", "how long running answers have after SIGTERM (default 60)",
         0},
        {"config", 0, ARG_STR, &j->config_file, "FILE",
         "options from a file, lines of 'name = value' (default: larder/serve.conf of your configurations)", 0},
        {"no-confine", 0, ARG_FLAG, &j->o.no_confine, NULL, "keep the right to open files, sockets and programs", 0},
    };
    arg_add(&t, own, sizeof own / sizeof *own);
    cli_draft_args(&t, &m);
    cli_engine_args(&t, &m, "tokens of context of each answer (default: by what fits)");
    int first = 0, status = cli_config_read(&j->config, &t, "serve.conf", argc, argv);
    if (!status) {
        j->key_shown = false; /* only those of the command line are seen by others */
        status = arg_parse(&t, argc, argv, &first);
    }
    if (status >= 0) {
        free_job(j);
        return status;
    }

    bool named = first < argc; /* models of the command line take the place of the file's */
    status = named ? prepare(j, argc - first, argv + first) : prepare(j, j->config.n_words, j->config.words);
    if (!status) {
        status = cli_model_settle("serve", &m);
        if (!status) status = cli_draft_open("serve", &m);
    }
    if (!status) {
        j->o.bandwidth = measured_bandwidth(m.engine.n_threads);
        larder_set_log(on_log, NULL);
        m.engine.reading = cli_reading;
        if (larder_serve(&m.engine, &j->o, &err)) status = cli_fail("serve", &err);
        larder_set_log(NULL, NULL);
    }
    cli_model_close(&m);
    free_job(j);
    return status;
}
