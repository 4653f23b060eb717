/* run.c - `larder run`: one prompt in, one answer out. */
#include "cli.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct answer {
    FILE *out; /* where text goes as it comes; NULL: nowhere */
    char *text;
    size_t n, cap;
    json_t *ids;
    larder_finish finish;
    char error[500];
    cli_prefill_state prefill;
} answer;

static bool on_event(void *user, larder_request *r, const larder_event *ev)
{
    answer *a = user;
    (void)r;
    if (ev->kind == LARDER_EVENT_PREFILL) return cli_prefill(&a->prefill, ev);
    if (ev->kind == LARDER_EVENT_TOKEN && a->ids) json_array_append_new(a->ids, json_integer(ev->token));
    if (a->out && ev->n_text) {
        cli_put(a->out, ev->text, ev->n_text);
        fflush(a->out);
    }
    if (!a->out && ev->n_text) {
        if (a->n + ev->n_text + 1 > a->cap) {
            char *p = realloc(a->text, a->cap = (a->n + ev->n_text + 1) * 2);
            if (!p) return false;
            a->text = p;
        }
        memcpy(a->text + a->n, ev->text, ev->n_text);
        a->n += ev->n_text;
    }
    if (ev->kind == LARDER_EVENT_DONE) {
        a->finish = ev->finish;
        if (ev->error) snprintf(a->error, sizeof a->error, "%s", ev->error);
    }
    return !cli_interrupted();
}

static char *join(char **words, int n)
{
    size_t len = 1;
    for (int i = 0; i < n; i++) len += strlen(words[i]) + 1;
    char *p = calloc(1, len);
    for (int i = 0; p && i < n; i++) {
        if (i) strcat(p, " ");
        strcat(p, words[i]);
    }
    return p;
}

static larder_status wrong(larder_error *err, const char *what)
{
    snprintf(err->message, sizeof err->message, "%s", what);
    return err->code = LARDER_USAGE;
}

/* The prompt's tokens: the model's template around it, or, raw or without a template, the text itself. */
static larder_status prompt_ids(const cli_model *m, const char *text, size_t n, const char *system, bool raw,
                                int32_t **ids, size_t *n_ids, larder_error *err)
{
    larder_model_info info;
    larder_model_get_info(m->model, &info);
    if (system && !info.has_template)
        return wrong(err, "this model has no chat template, so --system has no place in the prompt");
    if (raw || !info.has_template) return larder_tokenize(m->model, text, n, LARDER_TEXT_SPECIAL, ids, n_ids, err);
    json_t *messages = json_array();
    json_t *first = system ? json_pack("{s:s,s:s}", "role", "system", "content", system) : NULL;
    json_t *content = json_stringn(text, n);
    if (first) json_array_append_new(messages, first);
    if (!content || (system && !first)) {
        json_decref(messages);
        json_decref(content);
        return wrong(err,
                     content ? "the system message is not UTF-8" : "the prompt is not UTF-8; --raw takes any bytes");
    }
    json_array_append_new(messages, json_pack("{s:s,s:o}", "role", "user", "content", content));
    json_t *request = json_pack("{s:o,s:b}", "messages", messages, "add_generation_prompt", 1);
    char *json = json_dumps(request, JSON_COMPACT);
    larder_status st = larder_chat_render(m->model, json, ids, n_ids, NULL, err);
    free(json);
    json_decref(request);
    return st;
}

static const char *finish_name(larder_finish f)
{
    static const char *const names[] = {"none", "eos", "stop", "length", "cancelled", "error", "deadline"};
    return names[f];
}

/* The answer was made: what is still to be said of it. */
static int report(const cli_model *m, const larder_request *r, const answer *a, bool stats)
{
    larder_timing t;
    larder_plan plan;
    larder_request_get_timing(r, &t);
    larder_engine_get_plan(m->e, &plan);
    if (a->out) {
        fputc('\n', a->out);
        fflush(a->out);
        if (stats) cli_stats(stderr, &t, m->e);
        else if (!cli_is_quiet() && isatty(STDERR_FILENO)) cli_speed_line(stderr, &t, &plan);
        return EXIT_OK;
    }
    json_t *o = json_pack("{s:s%,s:O,s:s,s:I,s:o}", "text", a->text ? a->text : "", a->n, "ids", a->ids, "finish",
                          finish_name(a->finish), "seed", (json_int_t)m->sampling.seed, "stats",
                          cli_stats_json(&t, m->e));
    return cli_json("run", o);
}

static int generate(cli_model *m, const int32_t *ids, size_t n_ids, bool stats, bool json)
{
    larder_error err = {0};
    larder_request *r = NULL;
    answer a = {.out = json ? NULL : stdout, .ids = json ? json_array() : NULL};
    int status;
    m->request.ids = ids;
    m->request.n_ids = n_ids;
    m->request.on_event = on_event;
    m->request.user = &a;
    larder_status st = larder_submit(m->e, &m->request, &r, &err);
    if (!st) st = larder_wait(m->e, r, &err);
    if (st) {
        status = cli_fail("run", &err);
    } else if (a.finish == LARDER_FINISH_ERROR) { /* the step went on without this request */
        if (!json) putchar('\n');
        fflush(stdout);
        fprintf(stderr, "larder run: %s\n", a.error);
        status = EXIT_FAILED;
    } else {
        status = report(m, r, &a, stats);
        if (!status && a.finish == LARDER_FINISH_CANCELLED) status = EXIT_INTERRUPTED;
    }
    larder_request_free(r);
    json_decref(a.ids);
    free(a.text);
    return status;
}

typedef struct form {
    const char *schema, *grammar, *regex;
} form;

/* The one of --json-schema, --grammar and --regex that was given, compiled. */
static int compile_form(cli_model *m, const form *f)
{
    larder_error err = {0};
    size_t n = 0;
    char *text = NULL;
    const char *path = f->schema ? f->schema : f->grammar;
    if (!path && !f->regex) return EXIT_OK;
    if (path && !(text = cli_read_all("run", path, 16u << 20, &n))) return EXIT_FAILED;
    larder_grammar_kind kind = f->schema    ? LARDER_GRAMMAR_JSON_SCHEMA
                               : f->grammar ? LARDER_GRAMMAR_GBNF
                                            : LARDER_GRAMMAR_REGEX;
    larder_status st = larder_grammar_compile(m->model, kind, text ? text : f->regex, text ? n : strlen(f->regex),
                                              &m->request.grammar, &err);
    free(text);
    return st ? cli_fail("run", &err) : EXIT_OK;
}

int verb_run(int argc, char **argv)
{
    cli_model m;
    bool stats = false, json = false, raw = false, quiet = false;
    const char *system = NULL, *file = NULL;
    form answer_form = {0};
    cli_model_init(&m);
    arg_table t = {
        .verb = "run",
        .usage = "MODEL [PROMPT ...] [options]",
        .min_words = 1,
        .max_words = -1,
        .about = "Answers a prompt on standard output as it is made. The prompt is the words after the model, or a "
                 "file, or\n"
                 "standard input. It is put into the model's chat template; --raw continues the text as it stands.",
        .examples = "  larder run model.gguf \"Why is the sky blue?\" --temp 0\n"
                    "  larder run model.gguf --system \"Answer in French.\" < question.txt\n"
                    "  larder run model.gguf --raw \"Once upon a time\" -n 100 --stats"};
    const arg own[] = {
        {"system", 0, ARG_STR, &system, "TEXT", "the system message", 0},
        {"file", 'f', ARG_STR, &file, "FILE", "read the prompt from a file", 0},
        {"raw", 0, ARG_FLAG, &raw, NULL, "no chat template", 0},
        {"json-schema", 0, ARG_STR, &answer_form.schema, "FILE", "the answer is JSON that this schema allows", 0},
        {"grammar", 0, ARG_STR, &answer_form.grammar, "FILE", "the answer is a text of this GBNF grammar", 0},
        {"regex", 0, ARG_STR, &answer_form.regex, "REGEX", "the answer matches this expression", 0},
        {"stats", 0, ARG_FLAG, &stats, NULL, "afterwards: speed, and memory beside the plan", 0},
        {"json", 0, ARG_FLAG, &json, NULL, "the answer, its tokens and figures as one JSON object", 0},
        {"quiet", 'q', ARG_FLAG, &quiet, NULL, "nothing on standard error unless it fails", 0},
    };
    arg_add(&t, own, sizeof own / sizeof *own);
    cli_sampling_args(&t, &m);
    cli_draft_args(&t, &m);
    cli_engine_args(&t, &m, NULL);
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;
    if (!!answer_form.schema + !!answer_form.grammar + !!answer_form.regex > 1) {
        fprintf(stderr, "larder run: --json-schema, --grammar and --regex exclude each other\n");
        return EXIT_USAGE;
    }
    if (file && argc - first > 1) {
        fprintf(stderr, "larder run: the prompt is given twice: by --file, and as '%.60s'\n", argv[first + 1]);
        return EXIT_USAGE;
    }
    if (raw && system) {
        fprintf(stderr, "larder run: --system needs the chat template, which --raw leaves out\n");
        return EXIT_USAGE;
    }

    larder_error err = {0};
    int32_t *ids = NULL;
    size_t n_ids = 0, n = 0;
    cli_catch_interrupt(true);
    if (quiet) cli_be_quiet();
    m.engine.reading = cli_reading;
    if (!file && argc - first == 1 && isatty(STDIN_FILENO))
        cli_note("larder run: reading the prompt from standard input (end with Ctrl-D)");
    char *text = argc - first > 1 ? join(argv + first + 1, argc - first - 1)
                                  : cli_read_all("run", file ? file : "-", 256u << 20, &n);
    if (!text) return cli_interrupted() ? EXIT_INTERRUPTED : EXIT_FAILED;
    if (argc - first > 1) n = strlen(text);
    status = cli_model_open("run", &m, argv[first]);
    if (!status) status = compile_form(&m, &answer_form);
    if (!status && prompt_ids(&m, text, n, system, raw, &ids, &n_ids, &err)) status = cli_fail("run", &err);
    if (!status) status = cli_engine_open("run", &m, !quiet && !json && (stats || isatty(STDERR_FILENO)));
    if (!status) status = generate(&m, ids, n_ids, stats && !quiet, json);
    larder_free(ids);
    free(text);
    larder_grammar_free(m.request.grammar);
    cli_model_close(&m);
    return status;
}
