/* guard.c - who may ask: Host, Origin, key, method, type of body. By headers alone, before a body is read.
 *
 * Host: a page of another site can make its own name resolve to this machine; a browser then sends that name. So Host
 * must be an address, localhost, this machine's name, or one that was allowed. Origin: a browser names the page that
 * asks; only our own and allowed ones may. JSON as the type: a form or plain text needs no preflight, so it is refused.
 */
#include "serve.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

bool guard_equal(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    volatile unsigned char differs = n != m;
    for (size_t i = 0; i < n; i++) differs |= (unsigned char)(a[i] ^ (m ? b[i % m] : 0));
    return !differs;
}

static bool is_address(const char *host)
{
    unsigned char a[16];
    return inet_pton(AF_INET, host, a) == 1 || inet_pton(AF_INET6, host, a) == 1;
}

bool is_loopback(const char *host)
{
    unsigned char a[16];
    static const unsigned char one[16] = {[15] = 1};
    if (inet_pton(AF_INET, host, a) == 1) return a[0] == 127;
    if (inet_pton(AF_INET6, host, a) == 1) return !memcmp(a, one, 16);
    return !strcasecmp(host, "localhost");
}

/* The name in "name:port", "[::1]:port"; false if it is neither. */
static bool host_name(const char *value, char *out, size_t cap)
{
    size_t n = strcspn(value, ":");
    if (*value == '[') {
        const char *end = strchr(++value, ']');
        if (!end || (end[1] && end[1] != ':')) return false;
        n = (size_t)(end - value);
    }
    if (!n || n >= cap) return false;
    memcpy(out, value, n);
    out[n] = 0;
    return true;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcasecmp(s + n - m, end);
}

static bool host_allowed(const server *s, const char *value)
{
    char name[256], own[256] = "";
    if (!value || !host_name(value, name, sizeof name)) return false;
    if (is_address(name) || !strcasecmp(name, "localhost") || ends_with(name, ".localhost")) return true;
    if (!strcasecmp(name, s->o.host)) return true;
    gethostname(own, sizeof own - 1);
    size_t n = strlen(own);
    if (n && !strncasecmp(name, own, n) && (!name[n] || !strcasecmp(name + n, ".local"))) return true;
    for (uint32_t i = 0; i < s->o.n_hosts; i++)
        if (!strcasecmp(name, s->o.hosts[i])) return true;
    return false;
}

static bool origin_allowed(const server *s, const char *origin, const char *host)
{
    for (uint32_t i = 0; i < s->o.n_origins; i++)
        if (!strcmp(origin, s->o.origins[i])) return true;
    const char *scheme = s->o.tls_cert ? "https://" : "http://";
    size_t n = strlen(scheme);
    return host && !strncmp(origin, scheme, n) && !strcasecmp(origin + n, host);
}

static bool has_key(exchange *x)
{
    const server *s = x->s;
    const char *bearer = exchange_header(x, "Authorization"), *key = exchange_header(x, "x-api-key");
    if (!s->o.n_keys) return true;
    if (bearer && !strncasecmp(bearer, "Bearer ", 7)) key = bearer + 7;
    bool good = false;
    for (uint32_t i = 0; key && i < s->o.n_keys; i++) good |= guard_equal(key, s->o.keys[i]);
    return good;
}

static bool is_json(exchange *x)
{
    const char *type = exchange_header(x, "Content-Type");
    return type && !strncasecmp(type, "application/json", 16) && (!type[16] || type[16] == ';' || type[16] == ' ');
}

static int check_route(exchange *x, const char **message)
{
    bool other = false;
    if (!x->route) {
        x->route = route_find(x->method, x->path, &other);
        *message = other ? "this route takes another method" : "there is no such route";
        return other ? 405 : 404;
    }
    if (!strcmp(x->method, "POST") && !is_json(x)) {
        *message = "the body must be JSON, and Content-Type say so: application/json";
        return 415;
    }
    const char *coding = exchange_header(x, "Content-Encoding");
    if (coding && strcasecmp(coding, "identity")) {
        *message = "compressed bodies are not taken";
        return 415;
    }
    return 0;
}

/* What is to stand once stands once, and a body has one length: else two programs may read two requests out of one. */
enum { BY_LENGTH, BY_CHUNKS, ONCE = 6 };
static const char *const once[ONCE] = {"Content-Length", "Transfer-Encoding", "Host",
                                       "Origin",         "Authorization",     "x-api-key"};

static enum MHD_Result count_header(void *user, enum MHD_ValueKind kind, const char *key, const char *value)
{
    uint32_t *seen = user;
    (void)kind, (void)value;
    for (uint32_t i = 0; i < ONCE; i++)
        if (!strcasecmp(key, once[i])) seen[i]++;
    return MHD_YES;
}

static bool headers_agree(exchange *x)
{
    uint32_t seen[ONCE] = {0};
    MHD_get_connection_values(x->c, MHD_HEADER_KIND, count_header, seen);
    for (uint32_t i = 0; i < ONCE; i++)
        if (seen[i] > 1) return false;
    return !seen[BY_LENGTH] || !seen[BY_CHUNKS];
}

int guard_check(exchange *x, const char **message)
{
    if (!headers_agree(x)) {
        *message = "a header stands twice, or the body has two lengths";
        return 400;
    }
    const char *host = exchange_header(x, "Host"), *origin = exchange_header(x, "Origin");
    if (!host_allowed(x->s, host)) {
        *message = "this Host is not served here (see --allow-host)";
        return 403;
    }
    if (origin && !origin_allowed(x->s, origin, host)) {
        *message = "pages of this Origin may not call here (see --allow-origin)";
        return 403;
    }
    if (origin && !strcmp(x->method, "OPTIONS")) {
        *message = NULL;
        return 204;
    }
    if ((!x->route || x->route->key == ROUTE_KEY) && !has_key(x)) {
        *message = "a key is needed: Authorization: Bearer KEY, or x-api-key";
        return 401;
    }
    if (x->s->draining && (!x->route || !strcmp(x->method, "POST"))) {
        *message = "the server is shutting down";
        return 503;
    }
    return check_route(x, message);
}
