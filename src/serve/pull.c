/* pull.c - POST /api/pull: the wish goes to a helper outside the walls, its news come back to whoever asked.
 *
 * The server may open no connection, so a process started before the confinement does (src/cli/serve_pull.c); without
 * --allow-pull there is none. Between them is a socket of whole messages: a name to it (an empty one: stop), and from it a
 * letter and a line of JSON: P how far it is, S done, E it failed. One model at a time; those who ask for the same one
 * while it comes share it, and it is given up when all of them are gone. Loop thread.
 */
#include "serve.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

enum { MOST_BODY = 4096, MOST_NAME = 250, MOST_MESSAGE = 4096 };

static exchange *next_puller(exchange *x)
{
    while (x && !x->pulling) x = x->next_x;
    return x;
}

/* "owner/repo" or "owner/repo:quant", with the hub's own name before it or not. NULL: it is something else. */
static const char *model_name(const char *name)
{
    static const char *const hubs[] = {"hf.co/", "huggingface.co/"};
    size_t n_slash = 0;
    if (!name) return NULL;
    for (size_t i = 0; i < LR_LEN(hubs); i++)
        if (!strncmp(name, hubs[i], strlen(hubs[i]))) name += strlen(hubs[i]);
    size_t n = strlen(name);
    if (n < 3 || n > MOST_NAME || strstr(name, "..")) return NULL;
    for (const char *p = name; *p; p++) {
        bool letter = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9');
        if (!letter && !strchr("._-/:", *p)) return NULL;
        n_slash += *p == '/';
    }
    const char *colon = strchr(name, ':');
    if (n_slash != 1 || name[0] == '/' || (colon && (strchr(colon, '/') || strchr(colon + 1, ':')))) return NULL;
    return name;
}

static bool tell(const server *s, const char *name)
{
    return send(s->o.pull_fd, name, LR_MAX(strlen(name), (size_t)1), MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

/* The body's members; an error is answered here. */
static const char *read_wish(exchange *x, json_t *o, bool *stream)
{
    const char *key;
    json_t *v;
    *stream = true;
    json_object_foreach(o, key, v)
    {
        bool known = !strcmp(key, "model") || !strcmp(key, "name") || !strcmp(key, "stream") ||
                     !strcmp(key, "insecure");
        if (!known || (!strcmp(key, "insecure") && !json_is_false(v)) ||
            (!strcmp(key, "stream") && !json_is_boolean(v))) {
            reply_error(x, 400,
                        known ? "'insecure' cannot be asked for, and 'stream' is true or false"
                              : "larder does not know one of the parameters",
                        NULL);
            return NULL;
        }
    }
    if (json_is_false(json_object_get(o, "stream"))) *stream = false;
    const char *name = json_string_value(json_object_get(o, "model"));
    name = model_name(name ? name : json_string_value(json_object_get(o, "name")));
    if (!name) reply_error(x, 400, "'model' must be owner/repo or owner/repo:quant of the hub", NULL);
    return name;
}

static void begin(exchange *x, const char *name, bool stream)
{
    server *s = x->s;
    if (s->pulling[0] && strcmp(s->pulling, name) != 0) {
        reply_error(x, 503, "another model is being pulled; try again when it is there", NULL);
        return;
    }
    if (!s->pulling[0]) {
        if (!tell(s, name)) {
            reply_error(x, 503, "the helper that pulls is gone; the server must be started anew", NULL);
            return;
        }
        snprintf(s->pulling, sizeof s->pulling, "%s", name);
        log_line(LARDER_LOG_INFO, "{\"event\":\"pull\",\"id\":\"%s\",\"model\":\"%s\"}", x->id, name);
    }
    x->pulling = true;
    x->pull_stream = stream;
    if (!stream) return;
    static const char first[] = "{\"status\":\"pulling manifest\"}\n";
    stream_begin(x, "application/x-ndjson");
    stream_add(x, first, sizeof first - 1);
}

void pull_post(exchange *x)
{
    json_t *o = NULL;
    bool stream;
    if (x->s->o.pull_fd < 0) {
        reply_error(x, 403, "pulling is off here; it is on with larder serve --allow-pull", NULL);
        return;
    }
    if (x->body.n <= MOST_BODY) o = json_loadb(x->body.n ? x->body.p : "", x->body.n, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(o)) {
        reply_error(x, 400, "the body must be a JSON object, of a few kilobytes at most", NULL);
    } else {
        const char *name = read_wish(x, o, &stream);
        if (name) begin(x, name, stream);
    }
    json_decref(o);
}

/* One of those who wait is gone. */
void pull_left(exchange *x)
{
    server *s = x->s;
    x->pulling = false;
    if (s->pulling[0] && !next_puller(http_exchanges(s))) tell(s, "");
}

static void finish(server *s, const char *text, bool good)
{
    s->pulling[0] = 0;
    log_line(LARDER_LOG_INFO, "{\"event\":\"pulled\",\"good\":%s}", good ? "true" : "false");
    for (exchange *x = next_puller(http_exchanges(s)), *next; x; x = next) {
        next = next_puller(x->next_x);
        x->pulling = false;
        if (x->pull_stream) {
            stream_add(x, text, strlen(text));
            stream_add(x, "\n", 1);
            stream_end(x);
        } else if (good) {
            reply_text(x, 200, "application/json", text);
        } else {
            reply_text(x, 502, "application/json", text);
        }
    }
}

/* News from the helper. */
void pull_notes(server *s)
{
    char text[MOST_MESSAGE + 1];
    for (;;) {
        ssize_t n = recv(s->o.pull_fd, text, MOST_MESSAGE, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n <= 0) { /* it died: say so, and be as without it */
            if (s->pulling[0]) finish(s, "{\"error\":\"the helper that pulls ended\"}", false);
            s->o.pull_fd = -1;
            return;
        }
        text[n] = 0;
        if (text[0] != 'P') {
            finish(s, text + 1, text[0] == 'S');
            continue;
        }
        for (exchange *x = next_puller(http_exchanges(s)); x; x = next_puller(x->next_x)) {
            if (!x->pull_stream || x->gone) continue;
            stream_add(x, text + 1, (size_t)n - 1);
            stream_add(x, "\n", 1);
        }
    }
}
