/* tokenize.c - `larder tokenize`, `detokenize`, `template`: text in, text out, no weights. */
#include "cli.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_INPUT ((size_t)256 << 20)

static int open_input(const char *verb, const char *path, larder_text **text, char **input, size_t *n)
{
    larder_error err = {0};
    if (larder_text_open(path, text, &err)) return cli_fail(verb, &err);
    *input = cli_read_all(verb, "-", MAX_INPUT, n);
    return *input ? 0 : EXIT_FAILED;
}

typedef void put_fn(FILE *f, const char *text, size_t n);

static int print_result(const char *verb, larder_status st, char *out, size_t n, put_fn *put, const larder_error *err)
{
    if (st) return cli_fail(verb, err);
    put(stdout, out, n);
    larder_free(out);
    return fflush(stdout) ? EXIT_FAILED : EXIT_OK;
}

typedef larder_status convert_fn(larder_text *text, const char *in, size_t n, void *user, char **out,
                                 larder_error *err);

/* JSON on standard input through `convert` to JSON on standard output. */
static int convert_json(const char *verb, const char *path, convert_fn *convert, void *user)
{
    larder_text *text = NULL;
    larder_error err = {0};
    char *in = NULL, *out = NULL;
    size_t n = 0;
    int status = open_input(verb, path, &text, &in, &n);
    if (!status) {
        larder_status st = convert(text, in, n, user, &out, &err);
        status = print_result(verb, st, out, out ? strlen(out) : 0, cli_put_json, &err);
        if (!status) putchar('\n');
    }
    free(in);
    larder_text_free(text);
    return status;
}

typedef struct ends {
    bool plain, special;
} ends;

static larder_status to_ids(larder_text *text, const char *in, size_t n, void *user, char **out, larder_error *err)
{
    const ends *e = user;
    return larder_text_tokenize(text, in, n, !e->plain, e->special, out, err);
}

static larder_status to_texts(larder_text *text, const char *in, size_t n, void *user, char **out, larder_error *err)
{
    (void)user;
    return larder_text_detokenize(text, in, n, out, err);
}

int verb_tokenize(int argc, char **argv)
{
    ends e = {0};
    arg_table t = {.verb = "tokenize",
                   .usage = "MODEL|tokenizer.json|DIR [options] < strings.json",
                   .min_words = 1,
                   .max_words = 1,
                   .about = "Reads a JSON array of strings on standard input and writes a JSON array of id arrays.",
                   .examples = "  echo '[\"Hello, world\"]' | larder tokenize model.gguf"};
    const arg own[] = {
        {"plain", 0, ARG_FLAG, &e.plain, NULL, "text only: added tokens inside it are not recognised", 0},
        {"special", 0, ARG_FLAG, &e.special, NULL, "add the tokens the tokenizer adds at the ends", 0},
    };
    arg_add(&t, own, 2);
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;
    return convert_json("tokenize", argv[first], to_ids, &e);
}

int verb_detokenize(int argc, char **argv)
{
    arg_table t = {.verb = "detokenize",
                   .usage = "MODEL|tokenizer.json|DIR < ids.json",
                   .min_words = 1,
                   .max_words = 1,
                   .about = "Reads a JSON array of id arrays on standard input and writes a JSON array of strings."};
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;
    return convert_json("detokenize", argv[first], to_texts, NULL);
}

/* "2026-11-20", "2026-11-20T09:30:00" or seconds since 1970, as UTC. */
static bool set_now(void *to, const char *v)
{
    struct tm tm = {0};
    char *end;
    if (strlen(v) > 4 && v[4] == '-') {
        const char *rest = strptime(v, "%Y-%m-%d", &tm);
        if (rest && *rest == 'T') rest = strptime(rest, "T%H:%M:%S", &tm);
        if (!rest || *rest) return false;
        *(int64_t *)to = (int64_t)timegm(&tm);
        return true;
    }
    *(int64_t *)to = strtoll(v, &end, 10);
    return end != v && !*end;
}

int verb_template(int argc, char **argv)
{
    int64_t now = (int64_t)time(NULL);
    bool json = false;
    arg_table t = {
        .verb = "template",
        .usage = "MODEL|DIR [options] < request.json",
        .min_words = 1,
        .max_words = 1,
        .about = "Renders the model's chat template. Standard input: {\"messages\": [...], \"tools\": [...],\n"
                 "\"add_generation_prompt\": true, ...}; standard output: the text, byte for byte."};
    const arg own[] = {
        {"now", 0, ARG_CALL, &now, "DATE",
         "what templates that ask the clock are told: 2026-11-20, 2026-11-20T09:30:00, seconds since 1970", set_now},
        {"json", 0, ARG_FLAG, &json, NULL, "the text as a JSON string", 0}};
    arg_add(&t, own, 2);
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;
    larder_text *text = NULL;
    larder_error err = {0};
    char *in = NULL, *out = NULL;
    size_t n = 0;
    status = open_input("template", argv[first], &text, &in, &n);
    if (!status) {
        larder_status st = larder_text_template(text, in, n, now, &out, &n, &err);
        if (!st && json) {
            status = cli_json("template", json_stringn(out, n));
            larder_free(out);
        } else {
            status = print_result("template", st, out, n, cli_put, &err);
        }
    }
    free(in);
    larder_text_free(text);
    return status;
}
