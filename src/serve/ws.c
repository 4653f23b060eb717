/* ws.c - /v1/responses over a WebSocket (RFC 6455): one response after the other on one connection, each of which may go
 * on from the one before.
 *
 * Owns: the handshake, messages, what a connection remembers: the last response's conversation, in memory, while it is open.
 * A turn is a call like any other; its exchange is made here and is not libmicrohttpd's. Loop thread only.
 */
#include "serve.h"
#include "ws_frame.h"

#include <errno.h>
#include <microhttpd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_SOCKETS = 256, MOST_WAITING = 8, KEY_LENGTH = 24, READ_SIZE = 16384, MOST_READS = 64 };
#define MOST_UNSENT ((size_t)4 << 20)
#define IDLE_NS 600000000000ull /* between two turns */

struct ws {
    ws *next;
    server *s;
    struct MHD_UpgradeResponseHandle *handle;
    int fd;
    exchange *x; /* of the turn under way */
    lr_buf in, message, out;
    size_t sent;
    bool in_message, closing, dead;
    lr_buf waiting[MOST_WAITING]; /* messages that came during a turn */
    uint32_t n_waiting;
    json_t *items; /* the conversation up to response `last` */
    char last[40];
    uint64_t t_seen, client;
};

uint64_t ws_client(const ws *w) { return w->client; }

/* ---------------------------------------------------------------- handshake */
static uint32_t turn(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void sha1_block(uint32_t h[5], const unsigned char *p)
{
    static const uint32_t k[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
    uint32_t w[80], v[5];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (int i = 16; i < 80; i++) w[i] = turn(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    memcpy(v, h, sizeof v);
    for (int i = 0; i < 80; i++) {
        uint32_t f = i < 20   ? (v[1] & v[2]) | (~v[1] & v[3])
                     : i < 40 ? v[1] ^ v[2] ^ v[3]
                     : i < 60 ? (v[1] & v[2]) | (v[1] & v[3]) | (v[2] & v[3])
                              : v[1] ^ v[2] ^ v[3];
        uint32_t t = turn(v[0], 5) + f + v[4] + k[i / 20] + w[i];
        v[4] = v[3];
        v[3] = v[2];
        v[2] = turn(v[1], 30);
        v[1] = v[0];
        v[0] = t;
    }
    for (int i = 0; i < 5; i++) h[i] += v[i];
}

/* The answer to a key: base64 of SHA-1 of it and the protocol's own id. It proves nothing but that this is a WebSocket. */
static bool accept_key(const char *key, lr_buf *out)
{
    unsigned char block[128] = {0}, sum[20];
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    int n = snprintf((char *)block, sizeof block, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    block[n] = 0x80;
    block[126] = (unsigned char)(n * 8 >> 8);
    block[127] = (unsigned char)(n * 8);
    sha1_block(h, block);
    sha1_block(h, block + 64);
    for (int i = 0; i < 20; i++) sum[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
    lr_buf_base64(out, sum, sizeof sum);
    lr_buf_putc(out, 0);
    return !out->failed;
}

static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; p && *p; p++)
        if (!strncasecmp(p, word, n) && (!p[n] || p[n] == ',' || p[n] == ' ')) return true;
    return false;
}

void ws_get(exchange *x)
{
    const char *key = exchange_header(x, "Sec-WebSocket-Key"), *version = exchange_header(x, "Sec-WebSocket-Version");
    bool asked = has_word(exchange_header(x, "Upgrade"), "websocket") &&
                 has_word(exchange_header(x, "Connection"), "upgrade");
    if (!asked) reply_error(x, 426, "POST a request, or upgrade to a WebSocket", NULL);
    else if (!version || strcmp(version, "13")) reply_error(x, 426, "the WebSocket's version must be 13", NULL);
    else if (!key || strlen(key) != KEY_LENGTH)
        reply_error(x, 400, "Sec-WebSocket-Key must be 16 bytes in base64", NULL);
    else if (x->s->n_sockets >= MOST_SOCKETS) reply_error(x, 503, "too many WebSockets are open", NULL);
    else if (x->s->draining) reply_error(x, 503, "the server is shutting down", NULL);
    else if (!accept_key(key, &x->out)) reply_error(x, 503, "out of memory for the connection", NULL);
    else x->status = 101;
}

static void upgraded(void *user, struct MHD_Connection *c, void *state, const char *extra, size_t n, MHD_socket fd,
                     struct MHD_UpgradeResponseHandle *handle)
{
    exchange *x = user;
    server *s = x->s;
    ws *w = lr_calloc(1, sizeof *w);
    (void)c;
    (void)state;
    http_unwatch(x);
    if (!w) {
        MHD_upgrade_action(handle, MHD_UPGRADE_ACTION_CLOSE);
        return;
    }
    *w = (ws){.s = s, .handle = handle, .fd = fd, .t_seen = lr_now_ns(), .next = s->sockets, .client = share_of(x)};
    s->sockets = w;
    s->n_sockets++;
    lr_buf_add(&w->in, extra, n);
}

struct MHD_Response *ws_response(exchange *x)
{
    struct MHD_Response *r = MHD_create_response_for_upgrade(upgraded, x);
    if (!r) return NULL;
    MHD_add_response_header(r, "Upgrade", "websocket");
    MHD_add_response_header(r, "Sec-WebSocket-Accept", x->out.p);
    return r;
}

/* ---------------------------------------------------------------- frames out */
static void flush(ws *w)
{
    while (w->sent < w->out.n && !w->dead) {
        ssize_t k = send(w->fd, w->out.p + w->sent, w->out.n - w->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (k > 0) w->sent += (size_t)k;
        else if (k < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) break;
        else w->dead = true;
    }
    if (w->sent == w->out.n) w->sent = w->out.n = 0;
}

static void put_frame(ws *w, int op, const void *p, size_t n)
{
    unsigned char head[10];
    if (w->dead || (w->closing && op != OP_CLOSE)) return;
    lr_buf_add(&w->out, (char *)head, ws_frame_head(op, n, head));
    lr_buf_add(&w->out, p, n);
    if (w->out.failed || w->out.n - w->sent > MOST_UNSENT) { /* it does not read */
        w->dead = true;
        w->s->m.slow_readers++;
        return;
    }
    flush(w);
}

static void say_close(ws *w, int code)
{
    unsigned char body[2] = {(unsigned char)(code >> 8), (unsigned char)code};
    if (w->closing) return;
    put_frame(w, OP_CLOSE, body, code ? 2 : 0);
    w->closing = true;
}

void ws_say(ws *w, const char *text) { put_frame(w, OP_TEXT, text, strlen(text)); }

static void say_alive(ws *w) { put_frame(w, OP_PING, NULL, 0); }

/* ---------------------------------------------------------------- turns */
void ws_fail(exchange *x, int status, const char *message, const char *param)
{
    json_t *o = error_openai(status, message, param), *e = json_object_get(o, "error");
    if (param && !strcmp(param, "previous_response_id"))
        json_object_set_new(e, "code", json_string("previous_response_not_found"));
    if (!json_is_string(json_object_get(e, "code"))) json_object_set(e, "code", json_object_get(e, "type"));
    json_object_set_new(o, "type", json_string("error"));
    json_object_set_new(o, "status", json_integer(status));
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (text) ws_say(x->ws, text);
    else x->ws->dead = true;
    free(text);
    x->status = status;
    x->finished = true;
}

void ws_done(exchange *x, json_t *items, const char *id)
{
    ws *w = x->ws;
    json_decref(w->items);
    w->items = items;
    snprintf(w->last, sizeof w->last, "%s", id);
}

/* A turn takes the conversation with it, and leaves it here again only if it ends well. */
static void begin_turn(ws *w, lr_buf *message)
{
    server *s = w->s;
    exchange *x = lr_calloc(1, sizeof *x);
    bool other;
    if (!x) {
        w->dead = true;
        return;
    }
    x->s = s;
    x->ws = w;
    x->t0 = x->t_said = lr_now_ns();
    x->route = route_find("POST", "/v1/responses", &other);
    new_id(s, "req_", x->id);
    x->body = *message;
    *message = (lr_buf){0};
    w->x = x;
    if (s->n_calls >= s->o.n_queue) {
        s->m.refused_queue++;
        ws_fail(x, 429, "too many calls wait already; try again", NULL);
        return;
    }
    call *c = x->call = call_new(s, x, &api_responses);
    if (!c) {
        ws_fail(x, 503, "out of memory for the call", NULL);
        return;
    }
    c->socket = true;
    c->items = w->items;
    w->items = NULL;
    snprintf(c->previous, sizeof c->previous, "%s", w->last);
    work_read(s, c);
}

static void end_turn(ws *w)
{
    exchange *x = w->x;
    log_line(
        LARDER_LOG_INFO,
        "{\"event\":\"request\",\"id\":\"%s\",\"method\":\"WS\",\"path\":\"/v1/responses\",\"status\":%d,\"ms\":%.1f,"
        "\"end\":\"%s\"}",
        x->id, x->status ? x->status : 200, (double)(lr_now_ns() - x->t0) * 1e-6, w->dead ? "client left" : "sent");
    w->s->m.requests[x->status ? x->status / 100 : 2]++;
    if (x->call) call_client_gone(x->call);
    lr_buf_free(&x->body);
    lr_buf_free(&x->out);
    lr_free(x);
    w->x = NULL;
    w->t_seen = lr_now_ns();
}

static void take_message(ws *w)
{
    if (!w->x) {
        begin_turn(w, &w->message);
        return;
    }
    size_t held = w->message.n;
    for (uint32_t i = 0; i < w->n_waiting; i++) held += w->waiting[i].n;
    if (w->n_waiting == MOST_WAITING || held > w->s->o.max_body) {
        say_close(w, CLOSE_POLICY);
        return;
    }
    w->waiting[w->n_waiting++] = w->message;
    w->message = (lr_buf){0};
}

/* ---------------------------------------------------------------- frames in */
static void take_frame(ws *w, int op, bool last, const char *p, size_t n)
{
    switch (op) {
    case OP_PING: put_frame(w, OP_PONG, p, n); return;
    case OP_PONG: return;
    case OP_CLOSE: say_close(w, n >= 2 ? CLOSE_NORMAL : 0); return;
    case OP_BINARY: say_close(w, CLOSE_KIND); return;
    default: break;
    }
    if (w->in_message != (op == OP_MORE)) {
        say_close(w, CLOSE_PROTOCOL);
        return;
    }
    lr_buf_add(&w->message, p, n);
    w->in_message = !last;
    if (w->message.failed) w->dead = true;
    else if (last) take_message(w);
}

/* One frame from the start of what came; false: it is not whole, or not one. */
static bool next_frame(ws *w)
{
    ws_frame f;
    int close;
    if (w->closing || w->dead) return false;
    uint64_t most = w->s->o.max_body - LR_MIN(w->message.n, w->s->o.max_body);
    size_t used = ws_frame_read(w->in.p, w->in.n, most, &f, &close);
    if (close) say_close(w, close);
    if (!used) return false;
    take_frame(w, f.op, f.last, f.body, f.n);
    memmove(w->in.p, w->in.p + used, w->in.n - used);
    w->in.n -= used;
    return true;
}

static void take_in(ws *w)
{
    char bytes[READ_SIZE];
    for (int i = 0; i < MOST_READS; i++) {
        ssize_t k = recv(w->fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
        if (k <= 0) {
            w->dead = true;
            return;
        }
        w->t_seen = lr_now_ns();
        if (!w->closing) lr_buf_add(&w->in, bytes, (size_t)k);
        if (w->in.failed) w->dead = true;
        while (next_frame(w)) {}
    }
}

/* ---------------------------------------------------------------- the loop's part */
static void ws_free(ws *w)
{
    if (w->x) end_turn(w);
    for (uint32_t i = 0; i < w->n_waiting; i++) lr_buf_free(&w->waiting[i]);
    lr_buf_free(&w->in);
    lr_buf_free(&w->message);
    lr_buf_free(&w->out);
    json_decref(w->items);
    MHD_upgrade_action(w->handle, MHD_UPGRADE_ACTION_CLOSE);
    w->s->n_sockets--;
    lr_free(w);
}

/* false: it is over. */
static bool look(ws *w)
{
    server *s = w->s;
    while (next_frame(w)) {} /* what came with the handshake */
    take_in(w);
    flush(w);
    if (w->x && w->x->finished && !w->x->call) end_turn(w);
    while (!w->x && w->n_waiting && !w->closing && !w->dead) {
        lr_buf first = w->waiting[0];
        memmove(w->waiting, w->waiting + 1, --w->n_waiting * sizeof *w->waiting);
        begin_turn(w, &first);
    }
    if (!w->x && (s->draining || lr_now_ns() - w->t_seen > IDLE_NS)) say_close(w, CLOSE_GOING);
    return !w->dead && !(w->closing && !w->out.n);
}

void ws_look(server *s)
{
    for (ws **link = &s->sockets; *link;) {
        ws *w = *link;
        if (look(w)) {
            link = &w->next;
            continue;
        }
        *link = w->next;
        ws_free(w);
    }
}

size_t ws_polls(const server *s, struct pollfd *p, size_t most)
{
    size_t n = 0;
    for (const ws *w = s->sockets; w && n < most; w = w->next)
        p[n++] = (struct pollfd){w->fd, (short)(POLLIN | (w->out.n ? POLLOUT : 0)), 0};
    return n;
}

void ws_keep_alive(server *s, uint64_t ns)
{
    uint64_t now = lr_now_ns();
    for (ws *w = s->sockets; w; w = w->next)
        if (w->x && w->x->call && now - w->x->t_said > ns) {
            say_alive(w);
            w->x->t_said = now;
        }
}

void ws_stop(server *s)
{
    while (s->sockets) {
        ws *w = s->sockets;
        s->sockets = w->next;
        ws_free(w);
    }
}
