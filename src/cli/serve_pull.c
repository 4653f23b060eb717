/* serve_pull.c - the helper of `larder serve --allow-pull`: a process that downloads models and does nothing else.
 *
 * It is made before the server opens anything, gives up writing outside the store and starting programs, and ends with the
 * server. What goes between them: see src/serve/pull.c. */
#include "cli.h"
#include "larder_serve.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct helper {
    int fd;
    bool stop; /* nobody waits for it any more, or the server is gone */
} helper;

/* Takes o. */
static void say(const helper *h, char kind, json_t *o)
{
    char text[4000];
    text[0] = kind;
    size_t n = o ? json_dumpb(o, text + 1, sizeof text - 1, JSON_COMPACT) : 0;
    if (n && n < sizeof text && send(h->fd, text, n + 1, MSG_NOSIGNAL) < 0) {
    } /* the next tick sees that it is gone */
    json_decref(o);
}

static bool on_progress(void *user, const larder_progress *p)
{
    helper *h = user;
    char text[256], status[200];
    ssize_t n = recv(h->fd, text, sizeof text, MSG_DONTWAIT);
    if (n == 0 || (n > 0 && !text[0])) h->stop = true;
    snprintf(status, sizeof status, "downloading %.150s", p->what ? p->what : "");
    cli_one_line(status);
    say(h, 'P',
        json_pack("{s:s,s:s,s:I,s:I}", "status", status, "digest", p->what ? p->what : "", "total",
                  (json_int_t)p->n_total, "completed", (json_int_t)p->n_done));
    return !h->stop;
}

static void pull_one(helper *h, const char *name)
{
    larder_error err = {0};
    larder_pull_options o = {.progress = on_progress, .user = h};
    char path[4096];
    h->stop = false;
    if (!larder_pull(name, &o, path, sizeof path, &err)) say(h, 'S', json_pack("{s:s}", "status", "success"));
    else say(h, 'E', json_pack("{s:s}", "error", cli_one_line(err.message)));
}

static void serve_pulls(helper *h)
{
    char name[256];
    for (ssize_t n; (n = recv(h->fd, name, sizeof name - 1, 0)) > 0;) {
        name[n] = 0;
        if (name[0]) pull_one(h, name);
    }
}

int cli_pull_helper(const char *folder, int *out)
{
    int ends[2];
    fflush(NULL);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) {
        perror("larder serve: the helper for --allow-pull");
        return EXIT_FAILED;
    }
    pid_t pid = fork();
    if (pid < 0) {
        perror("larder serve: the helper for --allow-pull");
        return EXIT_FAILED;
    }
    if (!pid) {
        helper h = {.fd = ends[1]};
        close(ends[0]);
        larder_serve_confine_helper(folder);
        serve_pulls(&h);
        _exit(EXIT_OK);
    }
    close(ends[1]);
    *out = ends[0];
    return EXIT_OK;
}
