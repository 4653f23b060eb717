/* chat.c - `larder chat`: a conversation in the terminal. The whole conversation is rendered anew each turn; the
 * engine's prefix cache makes that cost only the new part. */
#include "cli.h"

#include <editline/readline.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct chat {
    cli_model m;
    json_t *messages;
    char *answer;
    size_t n, cap;
    larder_finish finish;
    char error[500];
    cli_prefill_state prefill;
    larder_timing timing;
    larder_plan plan;
    bool answered;
    bool waiting; /* for an answer; kept by stderr's lock, as what is shown there */
} chat;

/* How far the file is: only while an answer is waited for, never over a line that is typed. The end is always told. */
static void on_reading(void *user, uint64_t n_done, uint64_t n_total, double rate)
{
    const chat *c = user;
    flockfile(stderr);
    if (c->waiting || n_done >= n_total) cli_reading(NULL, n_done, n_total, rate);
    funlockfile(stderr);
}

static void wait_begins(chat *c, bool begins)
{
    flockfile(stderr);
    c->waiting = begins;
    if (!begins) cli_progress_end();
    funlockfile(stderr);
}

static bool on_event(void *user, larder_request *r, const larder_event *ev)
{
    chat *c = user;
    (void)r;
    if (ev->kind == LARDER_EVENT_PREFILL) return cli_prefill(&c->prefill, ev);
    if (ev->n_text) {
        if (c->n + ev->n_text + 1 > c->cap) {
            char *p = realloc(c->answer, (c->n + ev->n_text + 1) * 2);
            if (!p) return false;
            c->answer = p;
            c->cap = (c->n + ev->n_text + 1) * 2;
        }
        memcpy(c->answer + c->n, ev->text, ev->n_text);
        c->n += ev->n_text;
        cli_put(stdout, ev->text, ev->n_text);
        fflush(stdout);
    }
    if (ev->kind == LARDER_EVENT_DONE) {
        c->finish = ev->finish;
        if (ev->error) snprintf(c->error, sizeof c->error, "%s", ev->error);
    }
    return !cli_interrupted();
}

static larder_status run_request(chat *c, const int32_t *ids, size_t n_ids, larder_error *err)
{
    larder_request *r = NULL;
    c->n = 0;
    c->finish = LARDER_FINISH_NONE;
    c->m.request.ids = ids;
    c->m.request.n_ids = n_ids;
    c->m.request.on_event = on_event;
    c->m.request.user = c;
    cli_clear_interrupt();
    wait_begins(c, true);
    larder_status st = larder_submit(c->m.e, &c->m.request, &r, err);
    if (!st) st = larder_wait(c->m.e, r, err);
    wait_begins(c, false);
    if (!st && c->finish == LARDER_FINISH_ERROR) { /* the step went on without this request */
        err->code = st = LARDER_FORMAT;
        snprintf(err->message, sizeof err->message, "%s", c->error);
    }
    if (!st) larder_request_get_timing(r, &c->timing);
    larder_request_free(r);
    return st;
}

/* Answers the conversation as it stands and appends the answer to it. */
static bool answer(chat *c)
{
    larder_error err = {0};
    int32_t *ids = NULL;
    size_t n_ids = 0;
    json_t *request = json_pack("{s:O,s:b}", "messages", c->messages, "add_generation_prompt", 1);
    char *json = json_dumps(request, JSON_COMPACT);
    larder_status st = larder_chat_render(c->m.model, json, &ids, &n_ids, NULL, &err);
    free(json);
    json_decref(request);
    if (!st) st = run_request(c, ids, n_ids, &err);
    larder_free(ids);
    if (st) {
        cli_error("chat", &err);
        return false;
    }
    c->answered = true;
    json_array_append_new(c->messages,
                          json_pack("{s:s,s:s%}", "role", "assistant", "content", c->n ? c->answer : "", c->n));
    fputs(c->finish == LARDER_FINISH_CANCELLED ? " [stopped]\n" : "\n", stdout);
    if (c->finish == LARDER_FINISH_LENGTH)
        cli_note("[the context of %u tokens or --max-tokens was reached; /clear starts anew]", c->plan.n_ctx);
    return true;
}

static const char *last_role(const chat *c)
{
    size_t n = json_array_size(c->messages);
    return n ? json_string_value(json_object_get(json_array_get(c->messages, n - 1), "role")) : "";
}

static void drop_last(chat *c) { json_array_remove(c->messages, json_array_size(c->messages) - 1); }

static void say(chat *c, const char *text, size_t n)
{
    json_t *message = json_pack("{s:s,s:s%}", "role", "user", "content", text, n);
    if (!message) {
        cli_note("that is not UTF-8 text");
        return;
    }
    json_array_append_new(c->messages, message);
    if (!answer(c)) drop_last(c);
}

/* ---------------------------------------------------------------- commands */
static void do_help(chat *c, const char *rest)
{
    (void)c, (void)rest;
    puts(
        "/help              this text\n"
        "/system TEXT       set the system message (empty: remove it) and start anew\n"
        "/regenerate        answer the last message again\n"
        "/clear             forget the conversation\n"
        "/save FILE         write the conversation (JSON)\n"
        "/load FILE         read one back\n"
        "/stats             speed and memory of the last answer\n"
        "/exit              leave (or Ctrl-D)\n"
        "\"\"\" begins and ends a message of several lines; a line that ends in \\ goes on. Ctrl-C stops an answer.");
}

/* false: the system message is not UTF-8, and nothing was forgotten. */
static bool forget(chat *c, const char *system)
{
    json_t *first = system && *system ? json_pack("{s:s,s:s}", "role", "system", "content", system) : NULL;
    if (system && *system && !first) return false;
    json_array_clear(c->messages);
    if (first) json_array_append_new(c->messages, first);
    return true;
}

static void do_system(chat *c, const char *rest)
{
    if (!forget(c, rest)) puts("[that is not UTF-8 text]");
    else puts(*rest ? "[system message set]" : "[no system message]");
}

static void do_clear(chat *c, const char *rest)
{
    (void)rest;
    json_t *first = json_array_get(c->messages, 0);
    bool system = first && !strcmp(json_string_value(json_object_get(first, "role")), "system");
    while (json_array_size(c->messages) > (system ? 1u : 0u)) drop_last(c);
    puts("[forgotten]");
}

static void do_regenerate(chat *c, const char *rest)
{
    (void)rest;
    if (strcmp(last_role(c), "assistant")) {
        puts("[there is no answer to make again]");
        return;
    }
    json_t *old = json_incref(json_array_get(c->messages, json_array_size(c->messages) - 1));
    drop_last(c);
    c->m.request.sampling.seed++;
    if (!answer(c)) json_array_append(c->messages, old);
    json_decref(old);
}

/* Whole or not at all: under a fresh name beside it first, unless that is a device or a pipe. */
static bool write_whole(const json_t *o, const char *path)
{
    char temp[4096];
    struct stat s;
    bool there = !stat(path, &s);
    if (there && !S_ISREG(s.st_mode)) return !json_dump_file(o, path, JSON_INDENT(2));
    if ((size_t)snprintf(temp, sizeof temp, "%s.XXXXXX", path) >= sizeof temp) return false;
    int fd = mkstemp(temp);
    if (fd < 0) return false;
    mode_t mask = umask(0);
    umask(mask);
    bool good = !fchmod(fd, there ? s.st_mode & 0777 : 0666 & ~mask) && !json_dumpfd(o, fd, JSON_INDENT(2));
    if (!close(fd) && good && !rename(temp, path)) return true;
    remove(temp);
    return false;
}

static void do_save(chat *c, const char *rest)
{
    if (!*rest) puts("[/save needs a file name]");
    else if (!write_whole(c->messages, rest)) printf("[could not write %s]\n", rest);
    else printf("[%zu messages saved to %s]\n", json_array_size(c->messages), rest);
}

static bool is_conversation(const json_t *list)
{
    size_t i;
    json_t *m;
    if (!json_is_array(list)) return false;
    json_array_foreach((json_t *)list, i, m)
    {
        if (!json_is_string(json_object_get(m, "role")) || !json_is_string(json_object_get(m, "content")))
            return false;
    }
    return true;
}

static void do_load(chat *c, const char *rest)
{
    json_error_t bad;
    json_t *list = *rest ? json_load_file(rest, JSON_ALLOW_NUL, &bad) : NULL;
    if (!*rest) puts("[/load needs a file name]");
    else if (!list) printf("[could not read %s: %s]\n", rest, cli_one_line(bad.text));
    else if (!is_conversation(list)) printf("[%s is not a conversation: a list of {\"role\", \"content\"}]\n", rest);
    else {
        json_decref(c->messages);
        c->messages = json_incref(list);
        printf("[%zu messages loaded]\n", json_array_size(list));
    }
    json_decref(list);
}

static void do_stats(chat *c, const char *rest)
{
    (void)rest;
    if (c->answered) cli_stats(stdout, &c->timing, c->m.e);
    else puts("[nothing was answered yet]");
}

static const struct {
    const char *name;
    void (*run)(chat *c, const char *rest);
} commands[] = {{"help", do_help}, {"system", do_system}, {"clear", do_clear}, {"regenerate", do_regenerate},
                {"save", do_save}, {"load", do_load},     {"stats", do_stats}};

/* false: leave. */
static bool command(chat *c, const char *line)
{
    size_t n = strcspn(line, " ");
    const char *rest = line + n + strspn(line + n, " ");
    if (n == 4 && (!strncmp(line, "exit", 4) || !strncmp(line, "quit", 4))) return false;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strlen(commands[i].name) != n || strncmp(commands[i].name, line, n)) continue;
        commands[i].run(c, rest);
        return true;
    }
    printf("[there is no /%.*s; /help lists what there is]\n", (int)n, line);
    return true;
}

/* ---------------------------------------------------------------- reading */
typedef struct message {
    char *text; /* with a NUL behind it */
    size_t n, cap;
    bool quoted; /* between two """: never a command */
    bool begun, failed;
} message;

static void add_line(message *m, const char *line, size_t n)
{
    size_t more = m->n + n + 2;
    if (!m->text || more > m->cap) {
        char *p = realloc(m->text, more * 2);
        if (!p) {
            m->failed = true;
            return;
        }
        m->text = p;
        m->cap = more * 2;
    }
    if (m->begun) m->text[m->n++] = '\n';
    m->begun = true;
    memcpy(m->text + m->n, line, n);
    m->n += n;
    m->text[m->n] = 0;
}

/* A line without its end, to be freed; NULL at the end of the input. Only a person's line goes through libedit, which
 * drops the bytes that are no characters. */
static char *read_line(bool person, bool first, size_t *n)
{
    char *line = NULL;
    size_t cap = 0;
    if (person) {
        line = readline(first ? "> " : ". ");
        *n = line ? strlen(line) : 0;
        return line;
    }
    ssize_t got = getline(&line, &cap, stdin);
    if (got < 0) {
        free(line);
        return NULL;
    }
    *n = (size_t)got;
    if (*n && line[*n - 1] == '\n') line[--*n] = 0;
    return line;
}

/* Takes a line into the message; whether it goes on. What stands beside an opening or closing """ is a line of it,
 * unless that is nothing. */
static bool take_line(message *m, char *line, size_t n)
{
    static const char quotes[] = "\"\"\"";
    bool opens = !m->begun && !m->quoted && n >= 3 && !memcmp(line, quotes, 3), more = m->quoted;
    if (opens) {
        m->quoted = more = true;
        line += 3;
        n -= 3;
    }
    bool closes = m->quoted && n >= 3 && !memcmp(line + n - 3, quotes, 3);
    if (closes) {
        n -= 3;
        more = false;
    } else if (!m->quoted && n && line[n - 1] == '\\') {
        n--;
        more = true;
    }
    if (n || !(opens || closes)) add_line(m, line, n);
    return more;
}

/* A message: one line, lines that end in a backslash joined, or everything between two """. false at the end. */
static bool read_message(message *m, bool person)
{
    *m = (message){0};
    for (;;) {
        size_t n;
        char *line = read_line(person, !m->begun && !m->quoted, &n);
        if (!line && person && cli_interrupted()) { /* Ctrl-C at the prompt: what was typed is forgotten */
            cli_clear_interrupt();
            fputs("\n", stdout);
            free(m->text);
            *m = (message){0};
            if (cli_interrupted()) return false;
            continue;
        }
        bool more = line && take_line(m, line, n);
        free(line);
        if (m->failed || (!line && !m->begun)) return false;
        if (!more) break;
    }
    if (!m->text) add_line(m, "", 0);
    return !m->failed;
}

/* As it was typed, and at once: a terminal that goes away takes nothing with it. */
static void remember(const message *m, const char *history)
{
    char *typed = malloc(m->n + 7);
    if (!typed) return;
    snprintf(typed, m->n + 7, m->quoted ? "\"\"\"%s\"\"\"" : "%s", m->text);
    add_history(typed);
    free(typed);
    write_history(history);
    chmod(history, 0600);
}

static void history_path(char *out, size_t cap)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (state && *state) snprintf(out, cap, "%s/larder", state);
    else snprintf(out, cap, "%s/.local/state/larder", home ? home : ".");
    for (char *p = out + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(out, 0700);
        *p = '/';
    }
    mkdir(out, 0700);
    strncat(out, "/chat_history", cap - strlen(out) - 1);
}

static void talk(chat *c)
{
    char history[4096];
    bool person = isatty(STDIN_FILENO);
    rl_readline_name = "larder";
    history_path(history, sizeof history);
    if (person) {
        using_history();
        stifle_history(1000);
        read_history(history);
    }
    for (bool go = true; go;) {
        cli_clear_interrupt();
        if (cli_interrupted()) break;
        message m;
        if (read_message(&m, person)) {
            if (m.n && person) remember(&m, history);
            if (*m.text == '/' && !m.quoted) go = command(c, m.text + 1);
            else if (m.n) say(c, m.text, m.n);
        } else {
            go = false;
        }
        free(m.text);
    }
    if (person) putchar('\n');
}

int verb_chat(int argc, char **argv)
{
    static chat c;
    const char *system = NULL;
    cli_model_init(&c.m);
    arg_table t = {.verb = "chat",
                   .usage = "MODEL [options]",
                   .min_words = 1,
                   .max_words = 1,
                   .about = "Talks with a model in the terminal. /help there lists the commands; Ctrl-C stops an "
                            "answer, Ctrl-D leaves.",
                   .examples = "  larder chat model.gguf --system \"You are brief.\""};
    const arg own[] = {{"system", 0, ARG_STR, &system, "TEXT", "the system message", 0}};
    arg_add(&t, own, 1);
    cli_sampling_args(&t, &c.m);
    cli_draft_args(&t, &c.m);
    cli_engine_args(&t, &c.m, NULL);
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;
    c.messages = json_array();
    if (!forget(&c, system)) {
        fprintf(stderr, "larder chat: the system message is not UTF-8\n");
        json_decref(c.messages);
        return EXIT_USAGE;
    }
    cli_catch_interrupt(false);
    c.m.engine.reading = on_reading;
    c.m.engine.reading_user = &c;
    status = cli_model_open("chat", &c.m, argv[first]);
    larder_model_info info = {0};
    if (!status) larder_model_get_info(c.m.model, &info);
    if (!status && !info.has_template) {
        fprintf(stderr, "larder chat: this model has no chat template; use larder run --raw to continue a text\n");
        status = EXIT_FAILED;
    }
    if (!status) status = cli_engine_open("chat", &c.m, true);
    if (!status) {
        larder_engine_get_plan(c.m.e, &c.plan);
        if (isatty(STDIN_FILENO)) puts("/help lists the commands.");
        talk(&c);
        if (cli_interrupted()) status = EXIT_INTERRUPTED; /* SIGTERM: Ctrl-C stops answers only */
    }
    json_decref(c.messages);
    free(c.answer);
    cli_model_close(&c.m);
    return status;
}
