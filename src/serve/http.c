/* http.c - sockets and exchanges: one libmicrohttpd daemon driven from one thread, and who has hung up.
 *
 * A suspended connection is not read by libmicrohttpd, so a client that leaves while its call waits or computes is
 * noticed by an epoll of our own. A stream gives bytes only when the socket takes them; what a client does not take is
 * kept up to a limit, then the client is dropped.
 */
#include "serve.h"

#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADER_ROOM ((size_t)32 << 10)
#define MOST_UNSENT ((size_t)1 << 20)
#define DRAINED_BODY 65536          /* of a refused request: read and dropped, so that the client sees the answer */
#define IDLE_S 60u                  /* without a byte moving */
#define REQUEST_NS 120000000000ull  /* for a whole request to come in */
#define KEEP_ALIVE_NS 5000000000ull /* between signs of life in a stream */

typedef struct connection {
    struct connection *prev, *next;
    int fd;
    bool busy; /* its request is complete and not yet answered */
    uint64_t since;
} connection;

struct http {
    struct MHD_Daemon *daemon;
    int epoll, watch, listen;
    connection *connections;
    exchange *exchanges;
    struct sigaction old_term, old_int;
};

static int wake_pipe[2] = {-1, -1};
static volatile sig_atomic_t told_to_stop;

static void on_signal(int sig)
{
    (void)sig;
    int saved = errno;
    if (told_to_stop < 2) told_to_stop = told_to_stop + 1;
    if (write(wake_pipe[1], "s", 1) < 0) {} /* full: it wakes anyway */
    errno = saved;
}

exchange *http_exchanges(server *s) { return s->http->exchanges; }

void http_wake(void)
{
    if (write(wake_pipe[1], "n", 1) < 0) {}
}

/* ---------------------------------------------------------------- exchanges */
static void resume(exchange *x)
{
    if (!x->suspended) return;
    x->suspended = false;
    MHD_resume_connection(x->c);
}

static void suspend(exchange *x)
{
    if (x->suspended) return;
    x->suspended = true;
    MHD_suspend_connection(x->c);
}

const char *exchange_header(exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->c, MHD_HEADER_KIND, name);
}

void http_unwatch(exchange *x) { epoll_ctl(x->s->http->watch, EPOLL_CTL_DEL, x->conn->fd, NULL); }

static void answer_with(exchange *x, int status, const char *type)
{
    x->status = status;
    x->type = lr_strndup(type, strlen(type));
    resume(x);
}

void reply_text(exchange *x, int status, const char *type, const char *text)
{
    lr_buf_puts(&x->out, text);
    answer_with(x, status, type);
}

void reply_json(exchange *x, int status, json_t *o)
{
    char *text = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(o);
    if (!text) status = 500;
    reply_text(x, status, "application/json", text ? text : "{\"error\":{\"message\":\"out of memory\"}}");
    free(text);
}

void reply_error(exchange *x, int status, const char *message, const char *param)
{
    if (x->ws) {
        ws_fail(x, status, message, param);
        return;
    }
    if (status == 429 || status == 503) x->retry_after = 1;
    reply_json(x, status,
               (x->route && x->route->error ? x->route->error : route_error(x->path))(status, message, param));
}

void stream_begin(exchange *x, const char *type)
{
    x->streaming = true;
    x->t_said = lr_now_ns();
    if (x->ws) return;
    answer_with(x, 200, type);
}

void stream_add(exchange *x, const char *p, size_t n)
{
    if (x->gone || x->ws) return; /* comments and marks: frames are said by ws_say */
    if (x->sent && (x->sent == x->out.n || x->sent > MOST_UNSENT / 4)) {
        memmove(x->out.p, x->out.p + x->sent, x->out.n - x->sent);
        x->out.n -= x->sent;
        x->sent = 0;
    }
    lr_buf_add(&x->out, p, n);
    x->t_said = lr_now_ns();
    if (x->out.failed || x->out.n - x->sent > MOST_UNSENT) {
        x->gone = x->slow = true;
        x->s->m.slow_readers++;
        shutdown(x->conn->fd, SHUT_RDWR);
        if (x->call) call_client_gone(x->call);
    }
    resume(x);
}

void stream_end(exchange *x)
{
    x->finished = true;
    if (!x->ws) resume(x);
}

static ssize_t give_stream(void *user, uint64_t pos, char *out, size_t max)
{
    exchange *x = user;
    (void)pos;
    if (x->gone) return MHD_CONTENT_READER_END_WITH_ERROR;
    size_t n = LR_MIN(max, x->out.n - x->sent);
    if (n) {
        memcpy(out, x->out.p + x->sent, n);
        x->sent += n;
        return (ssize_t)n;
    }
    if (x->finished) return MHD_CONTENT_READER_END_OF_STREAM;
    suspend(x);
    return 0;
}

static enum MHD_Result send_answer(exchange *x)
{
    struct MHD_Response *r;
    char number[16];
    if (x->status == 101) r = ws_response(x);
    else if (x->streaming) r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, give_stream, x, NULL);
    else r = MHD_create_response_from_buffer(x->out.n, x->out.p, MHD_RESPMEM_MUST_COPY);
    if (!r) return MHD_NO;
    if (x->status != 101) MHD_add_response_header(r, "Content-Type", x->type ? x->type : "application/json");
    MHD_add_response_header(r, "Cache-Control", "no-store");
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(r, "x-request-id", x->id);
    MHD_add_response_header(r, "request-id", x->id);
    if (x->trace[0]) MHD_add_response_header(r, "traceparent", x->trace);
    if (x->streaming) MHD_add_response_header(r, "X-Accel-Buffering", "no");
    if (x->status == 405) {
        char allow[40];
        route_methods(x->path, allow);
        MHD_add_response_header(r, "Allow", allow);
    }
    if (x->status == 401) MHD_add_response_header(r, "WWW-Authenticate", "Bearer");
    if (x->note[0]) MHD_add_response_header(r, "Larder-Note", x->note);
    if (x->s->draining) MHD_add_response_header(r, "Connection", "close");
    if (x->retry_after) {
        snprintf(number, sizeof number, "%u", x->retry_after);
        MHD_add_response_header(r, "Retry-After", number);
    }
    const char *origin = exchange_header(x, "Origin");
    for (uint32_t i = 0; origin && i < x->s->o.n_origins; i++)
        if (!strcmp(origin, x->s->o.origins[i])) {
            MHD_add_response_header(r, "Access-Control-Allow-Origin", origin);
            MHD_add_response_header(r, "Access-Control-Allow-Headers",
                                    "authorization, *"); /* the star leaves it out */
            MHD_add_response_header(r, "Access-Control-Expose-Headers", "*");
            MHD_add_response_header(r, "Access-Control-Max-Age", "600");
            MHD_add_response_header(r, "Vary", "Origin");
        }
    enum MHD_Result done = MHD_queue_response(x->c, (unsigned)x->status, r);
    MHD_destroy_response(r);
    x->queued = true;
    return done;
}

/* ---------------------------------------------------------------- requests coming in */
/* W3C Trace Context: 00-<32 hex>-<16 hex>-<2 hex>, neither id all zeros. The answer says the same trace and its own span;
 * the log has both. Anything else is as if it were not there, as the standard wants it. */
static void take_trace(exchange *x)
{
    static const char hex[] = "0123456789abcdef";
    const char *v = exchange_header(x, "traceparent");
    if (!v || strlen(v) != 55 || memcmp(v, "00-", 3) != 0 || v[35] != '-' || v[52] != '-') return;
    if (strspn(v + 3, hex) != 32 || strspn(v + 36, hex) != 16 || strspn(v + 53, hex) != 2) return;
    if (strspn(v + 3, "0") == 32 || strspn(v + 36, "0") == 16) return;
    char span[40];
    new_id(x->s, "", span);
    snprintf(x->trace, sizeof x->trace, "00-%.32s-%.16s-%.2s", v + 3, span, v + 53);
    memcpy(x->parent, v + 36, 16);
}

static bool is_tchar(const char *s, size_t most)
{
    size_t n = strlen(s);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] <= ' ' || (unsigned char)s[i] >= 0x7f || s[i] == '"' || s[i] == '\\') return false;
    return n > 0 && n < most;
}

static exchange *exchange_new(server *s, struct MHD_Connection *c, const char *path, const char *method)
{
    exchange *x = lr_calloc(1, sizeof *x);
    if (!x) return NULL;
    x->s = s;
    x->c = c;
    x->conn = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    x->t0 = lr_now_ns();
    new_id(s, "req_", x->id);
    snprintf(x->path, sizeof x->path, "%s",
             is_tchar(path, sizeof x->path) ? path : "?"); /* nothing else gets into a log */
    snprintf(x->method, sizeof x->method, "%s", is_tchar(method, sizeof x->method) ? method : "?");
    take_trace(x);
    x->next_x = s->http->exchanges;
    if (x->next_x) x->next_x->prev = x;
    s->http->exchanges = x;
    return x;
}

/* Headers are here, the body is not. What can be refused by them is refused now. */
static enum MHD_Result first_look(exchange *x)
{
    bool other = false;
    const char *message = NULL, *length = exchange_header(x, "Content-Length");
    x->route = route_find(x->method, x->path, &other);
    int status = guard_check(x, &message);
    unsigned long long n = length ? strtoull(length, NULL, 10) : 0;
    if (!status && n > x->s->o.max_body) status = 413, message = "the body is larger than this server takes";
    if (!status) return MHD_YES;
    x->refused = true;
    if (status == 204) reply_text(x, status, "text/plain", "");
    else reply_error(x, status, message, NULL);
    if (n <= DRAINED_BODY && !exchange_header(x, "Transfer-Encoding")) return MHD_YES;
    return send_answer(x);
}

static void take_body(exchange *x, const char *p, size_t n)
{
    if (x->refused) return;
    if (n > x->s->o.max_body - x->body.n) {
        x->refused = true;
        reply_error(x, 413, "the body is larger than this server takes", NULL);
        return;
    }
    lr_buf_add(&x->body, p, n);
}

static void start_call(exchange *x)
{
    server *s = x->s;
    if (x->body.failed) {
        reply_error(x, 503, "out of memory for the body", NULL);
        return;
    }
    if (s->n_calls >= s->o.n_queue) {
        s->m.refused_queue++;
        reply_error(x, 429, "too many calls wait already; try again", NULL);
        return;
    }
    call *c = call_new(s, x, x->route->api);
    if (!c) {
        reply_error(x, 503, "out of memory for the call", NULL);
        return;
    }
    x->call = c;
    work_read(s, c);
}

/* The request is whole. */
static void dispatch(exchange *x)
{
    struct epoll_event e = {.events = EPOLLRDHUP, .data.ptr = x};
    x->conn->busy = true;
    epoll_ctl(x->s->http->watch, EPOLL_CTL_ADD, x->conn->fd, &e);
    if (x->refused) return;
    if (x->route->api) start_call(x);
    else x->route->get(x);
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *c, const char *path, const char *method,
                                  const char *version, const char *data, size_t *n, void **state)
{
    exchange *x = *state;
    (void)version;
    if (!x) {
        *state = x = exchange_new(user, c, path, method);
        return x ? first_look(x) : MHD_NO;
    }
    if (*n) {
        take_body(x, data, *n);
        *n = 0;
        return MHD_YES;
    }
    if (x->queued) return MHD_YES;
    if (x->gone) return MHD_NO;
    if (!x->conn->busy) dispatch(x);
    if (x->status) return send_answer(x);
    suspend(x);
    return MHD_YES;
}

/* What was asked of what, and how it went: figures and names of ours, never what anybody wrote. */
static void log_request(const exchange *x, bool completed)
{
    char more[480] = "";
    int n = 0;
    if (x->trace[0])
        n = snprintf(more, sizeof more, ",\"trace_id\":\"%.32s\",\"span_id\":\"%.16s\",\"parent_id\":\"%.16s\"",
                     x->trace + 3, x->trace + 36, x->parent);
    const call_summary *u = &x->summary;
    if (u->model)
        snprintf(more + n, sizeof more - (size_t)n,
                 ",\"model\":\"%.120s\",\"prompt\":%u,\"cached\":%u,\"generated\":%u,\"ttft_ms\":%.1f,\"finish\":"
                 "\"%s\"",
                 u->model, u->n_prompt, u->n_cached, u->n_generated, u->ttft_s * 1e3, u->finish);
    log_line(LARDER_LOG_INFO,
             "{\"event\":\"request\",\"id\":\"%s\",\"method\":\"%s\",\"path\":\"%s\",\"status\":%d,\"ms\":%.1f,"
             "\"end\":\"%s\"%s}",
             x->id, x->method, x->path, x->status, (double)(lr_now_ns() - x->t0) * 1e-6,
             x->slow                 ? "slow reader"
             : x->gone || !completed ? "client left"
                                     : "sent",
             more);
}

static void on_completed(void *user, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode why)
{
    server *s = user;
    exchange *x = *state;
    (void)c;
    if (!x) return;
    if (x->call) {
        call_client_gone(x->call);
        x->call = NULL;
    }
    if (x->conn->busy) epoll_ctl(s->http->watch, EPOLL_CTL_DEL, x->conn->fd, NULL);
    x->conn->busy = false;
    x->conn->since = lr_now_ns();
    int hundred = x->status / 100;
    if (hundred >= 1 && hundred <= 5) s->m.requests[hundred]++;
    log_request(x, why == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    if (x->prev) x->prev->next_x = x->next_x;
    else s->http->exchanges = x->next_x;
    if (x->next_x) x->next_x->prev = x->prev;
    if (x->pulling) pull_left(x);
    lr_buf_free(&x->body);
    lr_buf_free(&x->out);
    lr_free(x->type);
    lr_free(x);
    *state = NULL;
}

static void on_connection(void *user, struct MHD_Connection *c, void **state,
                          enum MHD_ConnectionNotificationCode code)
{
    server *s = user;
    connection *k = *state;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        k = lr_calloc(1, sizeof *k);
        *state = k;
        if (!k) abort(); /* a few bytes; without them nothing could be said */
        k->fd = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        k->since = lr_now_ns();
        k->next = s->http->connections;
        if (k->next) k->next->prev = k;
        s->http->connections = k;
        return;
    }
    if (!k) return;
    if (k->prev) k->prev->next = k->next;
    else s->http->connections = k->next;
    if (k->next) k->next->prev = k->prev;
    lr_free(k);
    *state = NULL;
}

/* ---------------------------------------------------------------- the loop */
static void look_who_left(server *s)
{
    struct epoll_event e[64];
    int n = epoll_wait(s->http->watch, e, 64, 0);
    for (int i = 0; i < n; i++) {
        exchange *x = e[i].data.ptr;
        epoll_ctl(s->http->watch, EPOLL_CTL_DEL, x->conn->fd, NULL);
        if (x->queued && !x->streaming) continue; /* its answer is on the way: half a close is no leaving */
        x->gone = true;
        if (x->call) call_client_gone(x->call);
        resume(x);
    }
}

static void keep_alive(server *s)
{
    uint64_t now = lr_now_ns();
    for (exchange *x = s->http->exchanges; x; x = x->next_x)
        if (x->streaming && !x->finished && x->call && now - x->t_said > KEEP_ALIVE_NS) call_alive(x->call);
    ws_keep_alive(s, KEEP_ALIVE_NS);
}

static void close_late(server *s)
{
    uint64_t now = lr_now_ns();
    for (connection *k = s->http->connections; k; k = k->next)
        if (!k->busy && now - k->since > REQUEST_NS) shutdown(k->fd, SHUT_RDWR);
}

static void begin_drain(server *s)
{
    if (s->draining) return;
    s->draining = true;
    s->t_drain = lr_now_ns();
    int fd = MHD_quiesce_daemon(s->http->daemon);
    if (fd >= 0) close(fd);
    notify_say(s, "STOPPING=1");
    log_line(LARDER_LOG_INFO, "{\"event\":\"drain\",\"running\":%u}", s->n_calls);
}

/* true: the loop may end. */
static bool drained(server *s)
{
    if (!s->draining) return false;
    bool late = told_to_stop > 1 || lr_now_ns() - s->t_drain > (uint64_t)s->o.drain_s * 1000000000ull;
    if (late) ws_stop(s);
    for (exchange *x = s->http->exchanges; late && x; x = x->next_x) {
        x->gone = true;
        if (x->call) call_client_gone(x->call);
        resume(x);
    }
    return !s->n_calls && (!s->http->exchanges || late);
}

static int poll_ms(server *s)
{
    MHD_UNSIGNED_LONG_LONG ms;
    int wait = -1;
    if (s->http->connections) wait = 5000;
    if (s->http->exchanges) wait = 1000;
    if (s->draining) wait = 50;
    if (MHD_get_timeout(s->http->daemon, &ms) == MHD_YES && (wait < 0 || ms < (MHD_UNSIGNED_LONG_LONG)wait))
        wait = (int)ms;
    return wait;
}

larder_status http_loop(server *s, larder_error *err)
{
    struct http *h = s->http;
    char bytes[256];
    while (!drained(s)) {
        struct pollfd p[4 + 256] = {
            {h->epoll, POLLIN, 0}, {h->watch, POLLIN, 0}, {wake_pipe[0], POLLIN, 0}, {s->o.pull_fd, POLLIN, 0}};
        if (poll(p, 4 + ws_polls(s, p + 4, LR_LEN(p) - 4), poll_ms(s)) < 0 && errno != EINTR)
            return lr_fail_errno(err, errno, "waiting for clients");
        if (p[2].revents)
            while (read(wake_pipe[0], bytes, sizeof bytes) == (ssize_t)sizeof bytes) {}
        if (told_to_stop) begin_drain(s);
        work_notes(s);
        if (p[3].revents) pull_notes(s);
        if (p[1].revents) look_who_left(s);
        ws_look(s);
        keep_alive(s);
        close_late(s);
        MHD_run(h->daemon);
    }
    return LARDER_OK;
}

/* ---------------------------------------------------------------- start and stop */
static void more_files(uint32_t n)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur >= n + 64) return;
    r.rlim_cur = LR_MIN(r.rlim_max, (rlim_t)n + 64);
    setrlimit(RLIMIT_NOFILE, &r);
}

larder_status http_start(server *s, larder_error *err)
{
    struct http *h = s->http = lr_calloc(1, sizeof *h);
    if (!h) return LR_NOMEM(err, "the server");
    h->epoll = h->watch = h->listen = -1;
    LR_TRY(listen_open(s, &h->listen, err));
    notify_open(s);
    if (pipe2(wake_pipe, O_CLOEXEC | O_NONBLOCK)) return lr_fail_errno(err, errno, "a pipe");
    h->watch = epoll_create1(EPOLL_CLOEXEC);
    more_files(s->o.max_connections);
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | (s->o.tls_cert ? MHD_USE_TLS : 0);
    struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)s->o.tls_cert},
                                   {MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)s->o.tls_key},
                                   {MHD_OPTION_END, 0, NULL}};
    struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
    h->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, s, MHD_OPTION_LISTEN_SOCKET, h->listen,
                                 MHD_OPTION_CONNECTION_LIMIT, s->o.max_connections, MHD_OPTION_CONNECTION_TIMEOUT,
                                 IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEADER_ROOM, MHD_OPTION_NOTIFY_COMPLETED,
                                 on_completed, s, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_ARRAY,
                                 s->o.tls_cert ? tls : none, MHD_OPTION_END);
    if (!h->daemon)
        return lr_fail(err, s->o.tls_cert ? LARDER_USAGE : LARDER_IO, "the HTTP server did not start%s",
                       s->o.tls_cert ? ": is the certificate PEM, and the key its own?" : "");
    h->epoll = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    struct sigaction sa = {.sa_handler = on_signal};
    sigemptyset(&sa.sa_mask);
    told_to_stop = 0;
    sigaction(SIGTERM, &sa, &h->old_term);
    sigaction(SIGINT, &sa, &h->old_int);
    signal(SIGPIPE, SIG_IGN);
    return LARDER_OK;
}

void http_stop(server *s)
{
    struct http *h = s->http;
    if (!h) return;
    if (h->daemon) {
        ws_stop(s);
        MHD_run(h->daemon);
        for (exchange *x = h->exchanges; x; x = x->next_x) {
            x->gone = true;
            resume(x);
        }
        MHD_stop_daemon(h->daemon);
        sigaction(SIGTERM, &h->old_term, NULL);
        sigaction(SIGINT, &h->old_int, NULL);
    } else if (h->listen >= 0) {
        close(h->listen);
    }
    notify_close(s);
    if (h->watch >= 0) close(h->watch);
    for (int i = 0; i < 2; i++) {
        if (wake_pipe[i] >= 0) close(wake_pipe[i]);
        wake_pipe[i] = -1;
    }
    lr_free(h);
    s->http = NULL;
}
