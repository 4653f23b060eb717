/* fetch.c - HTTP by libcurl, with the rules of fetch.h. Redirects are followed here, one request at a time, because
 * each hop decides anew whether the address may be spoken to and whether the token goes along. */
#include "fetch.h"

#include "sha256.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <arpa/inet.h>
#include <curl/curl.h>
#include <fcntl.h>
#include <pthread.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

typedef unsigned long long ull;

enum { MAX_HOPS = 8, MAX_ETAG = 200, SMALL_GAIN = 64 << 10, MAX_JUNK = 256 << 10 };

/* One request and its answer. */
typedef struct transfer {
    lr_fetch *net;
    const char *what; /* for messages and progress: never the URL, which may hold a signature */
    larder_error *err;
    larder_status st; /* why a callback stopped it */
    bool private_ok;  /* the first hop went to a private address, so later ones may */
    bool refused;     /* a private address was not spoken to */
    bool junk;        /* a body that nobody wants was cut short, */
    size_t n_junk;    /* after this much of it */
    /* asked for */
    uint64_t offset;
    char if_range[MAX_ETAG];
    /* the answer's headers */
    char etag[MAX_ETAG], linked_sha[65], next[2048];
    bool has_range;
    uint64_t range_begin, range_total;
    bool body_begun;
    /* where the body goes: memory, */
    lr_buf *memory;
    size_t max;
    uint64_t head;   /* of a file, so many bytes from its beginning; 0: all of it */
    bool enough;     /* they are there */
    uint64_t length; /* of all of it */
    /* or a file */
    int fd, dir;
    lr_remote *file;
    uint64_t n_done;
    lr_sha256 sha;
} transfer;

/* ---------------------------------------------------------------- addresses */

typedef struct parsed_url {
    char scheme[16], host[260];
    long port;
    bool has_user;
} parsed_url;

static bool url_part(CURLU *u, CURLUPart part, unsigned flags, char *out, size_t cap)
{
    char *text = NULL;
    if (curl_url_get(u, part, &text, flags) != CURLUE_OK) return false;
    bool fits = strlen(text) < cap;
    if (fits) memcpy(out, text, strlen(text) + 1);
    curl_free(text);
    return fits;
}

static bool parse_url(const char *url, parsed_url *out)
{
    char port[8], user[512];
    CURLU *u = curl_url();
    bool ok = u && curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK &&
              url_part(u, CURLUPART_SCHEME, 0, out->scheme, sizeof out->scheme);
    bool local = ok && strcmp(out->scheme, "http") != 0 &&
                 strcmp(out->scheme, "https") != 0; /* file: and such need no host */
    if (ok && !url_part(u, CURLUPART_HOST, 0, out->host, sizeof out->host)) {
        out->host[0] = 0;
        ok = local;
    }
    if (ok) {
        out->port = url_part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT, port, sizeof port) ? strtol(port, NULL, 10) : 0;
        char *text = NULL;
        out->has_user = url_part(u, CURLUPART_USER, 0, user, sizeof user) ||
                        curl_url_get(u, CURLUPART_PASSWORD, &text, 0) == CURLUE_OK;
        curl_free(text);
    }
    curl_url_cleanup(u);
    return ok;
}

static bool is_loopback_host(const char *host)
{
    struct in_addr v4;
    if (strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0) return true;
    return inet_pton(AF_INET, host, &v4) == 1 && (ntohl(v4.s_addr) >> 24) == 127;
}

static bool is_private_v4(uint32_t a)
{
    return a >> 24 == 127 || a >> 24 == 10 || a >> 24 == 0 || a >> 20 == 0xAC1 || a >> 16 == 0xC0A8 ||
           a >> 16 == 0xA9FE || a >> 22 == (0x64400000u >> 22); /* 100.64/10 */
}

static bool is_private_v6(const uint8_t *b)
{
    static const uint8_t zeros[12], mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
    uint32_t low = (uint32_t)b[12] << 24 | (uint32_t)b[13] << 16 | (uint32_t)b[14] << 8 | b[15];
    if (!memcmp(b, mapped, 12)) return is_private_v4(low);
    if (!memcmp(b, zeros, 12)) return true; /* ::, ::1, and what else begins so */
    return (b[0] & 0xFE) == 0xFC || (b[0] == 0xFE && (b[1] & 0xC0) == 0x80);
}

static bool is_private_address(const struct sockaddr *sa)
{
    if (sa->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof in);
        return is_private_v4(ntohl(in.sin_addr.s_addr));
    }
    if (sa->sa_family != AF_INET6) return true;
    struct sockaddr_in6 in6;
    memcpy(&in6, sa, sizeof in6);
    return is_private_v6(in6.sin6_addr.s6_addr);
}

bool lr_address_is_private(const char *ip)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, ip, &in.sin_addr) == 1) return is_private_address((struct sockaddr *)&in);
    return inet_pton(AF_INET6, ip, &in6.sin6_addr) == 1 && is_private_address((struct sockaddr *)&in6);
}

static larder_status check_parsed(const parsed_url *u, larder_error *err)
{
    if (u->has_user)
        return lr_fail(err, LARDER_USAGE, "an address with a user or password in it is refused (host %.80s)",
                       u->host);
    if (strcmp(u->scheme, "https") == 0 || (strcmp(u->scheme, "http") == 0 && is_loopback_host(u->host)))
        return LARDER_OK;
    if (strcmp(u->scheme, "http") == 0)
        return lr_fail(err, LARDER_USAGE, "http to %.80s is refused: only https is safe from changes on the way",
                       u->host);
    return lr_fail(err, LARDER_USAGE, "'%s' addresses are refused: https only", u->scheme);
}

larder_status lr_url_check(const char *url, larder_error *err)
{
    parsed_url u = {0};
    for (const char *p = url; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7F)
            return lr_fail(err, LARDER_USAGE, "the address has blanks or control characters");
    if (!parse_url(url, &u)) return lr_fail(err, LARDER_USAGE, "'%.100s' is no address", url);
    return check_parsed(&u, err);
}

bool lr_url_is_of(const char *url, const char *endpoint)
{
    parsed_url a = {0}, b = {0};
    return parse_url(url, &a) && parse_url(endpoint, &b) && !strcmp(a.scheme, b.scheme) &&
           !strcasecmp(a.host, b.host) && a.port == b.port;
}

/* ---------------------------------------------------------------- open, close */

static void start_curl(void) { curl_global_init(CURL_GLOBAL_DEFAULT); }

larder_status lr_fetch_open(lr_fetch *net, const char *endpoint, const char *token, larder_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_curl);
    size_t n = strlen(endpoint), n_token = token ? strlen(token) : 0;
    while (n && endpoint[n - 1] == '/') n--;
    if (n >= sizeof net->endpoint || n_token >= sizeof net->token)
        return lr_fail(err, LARDER_USAGE, "the endpoint or the token is too long");
    for (size_t i = 0; i < n_token; i++)
        if ((unsigned char)token[i] <= ' ' || (unsigned char)token[i] > '~')
            return lr_fail(err, LARDER_USAGE, "the token (HF_TOKEN) holds blanks or control characters");
    memcpy(net->endpoint, endpoint, n);
    net->endpoint[n] = 0;
    if (n_token) memcpy(net->token, token, n_token);
    net->token[n_token] = 0;
    larder_status st = lr_url_check(net->endpoint, err);
    if (st) return lr_wrap(err, st, "endpoint");
    net->curl = curl_easy_init();
    return net->curl ? LARDER_OK : LR_NOMEM(err, "the network");
}

void lr_fetch_close(lr_fetch *net)
{
    if (net->curl) curl_easy_cleanup(net->curl);
    net->curl = NULL;
}

/* ---------------------------------------------------------------- what libcurl calls */

static bool header_is(const char *p, size_t n, const char *name, const char **value, size_t *n_value)
{
    size_t w = strlen(name);
    if (n <= w || strncasecmp(p, name, w) != 0 || p[w] != ':') return false;
    p += w + 1, n -= w + 1;
    while (n && isspace((unsigned char)*p)) p++, n--;
    while (n && isspace((unsigned char)p[n - 1])) n--;
    *value = p;
    *n_value = n;
    return true;
}

static bool parse_u64(const char **p, const char *end, uint64_t *out)
{
    const char *s = *p;
    uint64_t v = 0;
    for (; s < end && *s >= '0' && *s <= '9'; s++)
        if (!lr_mul_u64(v, 10, &v) || !lr_add_u64(v, (uint64_t)(*s - '0'), &v)) return false;
    if (s == *p) return false;
    *p = s;
    *out = v;
    return true;
}

/* "bytes 100-199/200" */
static void read_range(transfer *t, const char *v, size_t n)
{
    const char *end = v + n, *p = v + 6;
    uint64_t last = 0;
    if (n < 6 || strncasecmp(v, "bytes ", 6) != 0 || !parse_u64(&p, end, &t->range_begin) || p == end ||
        *p++ != '-' || !parse_u64(&p, end, &last) || p == end || *p++ != '/' ||
        !parse_u64(&p, end, &t->range_total) || p != end)
        return;
    t->has_range = t->range_begin <= last && last < t->range_total;
}

static bool is_sha256(const char *s, size_t n)
{
    if (n != 64) return false;
    for (size_t i = 0; i < n; i++)
        if (!isdigit((unsigned char)s[i]) && (s[i] < 'a' || s[i] > 'f')) return false;
    return true;
}

/* <https://...>; rel="next" */
static void read_link(transfer *t, const char *v, size_t n)
{
    const char *close = memchr(v, '>', n);
    if (!n || v[0] != '<' || !close || (size_t)(close - v) >= sizeof t->next) return;
    size_t n_rest = n - (size_t)(close - v);
    if (n_rest < 11 || !memmem(close, n_rest, "rel=\"next\"", 10)) return;
    memcpy(t->next, v + 1, (size_t)(close - v) - 1);
    t->next[close - v - 1] = 0;
}

static size_t on_header(char *p, size_t size, size_t count, void *ctx)
{
    transfer *t = ctx;
    size_t n = size * count, n_v = 0;
    const char *v = NULL;
    if (n >= 5 &&
        memcmp(p, "HTTP/", 5) == 0) { /* another answer begins: an interim one, a proxy's, or the real one */
        t->etag[0] = t->next[0] = 0;
        t->has_range = false;
    } else if (header_is(p, n, "etag", &v, &n_v)) {
        /* Only a strong one promises the same bytes. */
        bool ok = n_v >= 2 && n_v < sizeof t->etag && v[0] == '"';
        for (size_t i = 0; i < n_v && ok; i++) ok = v[i] > ' ' && v[i] <= '~';
        if (ok) memcpy(t->etag, v, n_v);
        t->etag[ok ? n_v : 0] = 0;
    } else if (header_is(p, n, "content-range", &v, &n_v)) {
        read_range(t, v, n_v);
    } else if (header_is(p, n, "link", &v, &n_v)) {
        read_link(t, v, n_v);
    } else if (header_is(p, n, "x-linked-etag", &v, &n_v)) {
        if (n_v == 66 && v[0] == '"' && is_sha256(v + 1, 64)) memcpy(t->linked_sha, v + 1, 64), t->linked_sha[64] = 0;
    }
    return n;
}

static size_t stop(transfer *t, larder_status st)
{
    t->st = st;
    return 0;
}

static void save_etag(const transfer *t)
{
    char name[320];
    snprintf(name, sizeof name, "%s.etag", t->file->name);
    unlinkat(t->dir, name, 0);
    if (!t->etag[0]) return;
    int fd = openat(t->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0) return;
    bool ok = write(fd, t->etag, strlen(t->etag)) == (ssize_t)strlen(t->etag);
    close(fd);
    if (!ok) unlinkat(t->dir, name, 0);
}

static larder_status start_over(transfer *t)
{
    if (ftruncate(t->fd, 0) != 0 || lseek(t->fd, 0, SEEK_SET) < 0)
        return lr_fail_errno(t->err, errno, "cannot write '%s'", t->what);
    t->n_done = 0;
    lr_sha256_start(&t->sha);
    return LARDER_OK;
}

/* The first bytes of a file's body: is this the part that was asked for, of the file that was promised? */
static larder_status begin_body(transfer *t, long code)
{
    curl_off_t length = -1;
    curl_easy_getinfo(t->net->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    uint64_t total = 0;
    bool total_known = false;
    if (code == 206) {
        if (!t->has_range || t->range_begin != t->offset)
            return lr_fail(t->err, LARDER_IO,
                           "%s: the server answered with another part of the file than was asked for", t->what);
        total = t->range_total, total_known = true;
    } else {
        LR_TRY(start_over(t));
        if (length >= 0) total = (uint64_t)length, total_known = true;
        save_etag(t);
    }
    lr_remote *f = t->file;
    if (!f->sha256[0] && t->linked_sha[0]) memcpy(f->sha256, t->linked_sha, sizeof f->sha256);
    if (f->size_known && total_known && total != f->n_bytes)
        return lr_fail(t->err, LARDER_FORMAT,
                       "%s: the server has %llu bytes, but %llu were promised; nothing was kept", t->what, (ull)total,
                       (ull)f->n_bytes);
    if (!f->size_known && !total_known)
        return lr_fail(t->err, LARDER_UNSUPPORTED, "%s: the server does not say how long the file is", t->what);
    if (!f->size_known) f->size_known = true, f->n_bytes = total;
    return LARDER_OK;
}

static size_t to_file(transfer *t, const char *p, size_t n, long code)
{
    if (!t->body_begun) {
        larder_status st = begin_body(t, code);
        if (st) return stop(t, st);
        t->body_begun = true;
    }
    if (n > t->file->n_bytes - t->n_done)
        return stop(t, lr_fail(t->err, LARDER_FORMAT, "%s: the server sends more than the %llu bytes it promised",
                               t->what, (ull)t->file->n_bytes));
    for (size_t at = 0; at < n;) {
        ssize_t w = write(t->fd, p + at, n - at);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) return stop(t, lr_fail_errno(t->err, w < 0 ? errno : ENOSPC, "cannot write '%s'", t->what));
        at += (size_t)w;
    }
    lr_sha256_add(&t->sha, p, n);
    t->n_done += n;
    return n;
}

/* The beginning of a file: from a server that sends parts, or one that would send everything. */
static size_t to_head(transfer *t, const char *p, size_t n, long code)
{
    curl_off_t length = -1;
    curl_easy_getinfo(t->net->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    if (code == 206 && (!t->has_range || t->range_begin))
        return stop(t, lr_fail(t->err, LARDER_IO,
                               "%s: the server answered with another part of the file than was asked for", t->what));
    if (code == 200 && length < 0)
        return stop(t,
                    lr_fail(t->err, LARDER_UNSUPPORTED, "%s: the server does not say how long the file is", t->what));
    t->length = code == 206 ? t->range_total : (uint64_t)length;
    size_t take = LR_MIN(n, t->max - t->memory->n);
    lr_buf_add(t->memory, p, take);
    if (t->memory->failed) return stop(t, LR_NOMEM(t->err, "the answer"));
    t->enough = t->memory->n == t->max;
    return take == n ? n : 0; /* more than was asked for: the rest is not taken */
}

static size_t on_body(char *p, size_t size, size_t count, void *ctx)
{
    transfer *t = ctx;
    size_t n = size * count;
    long code = 0;
    curl_easy_getinfo(t->net->curl, CURLINFO_RESPONSE_CODE, &code);
    if (code != 200 &&
        code != 206) { /* the text of an error or a redirect: let a little pass, for the connection's sake */
        t->n_junk += n;
        t->junk = t->n_junk > MAX_JUNK;
        return t->junk ? 0 : n;
    }
    if (!t->memory) return to_file(t, p, n, code);
    if (t->head) return to_head(t, p, n, code);
    if (code == 206) return stop(t, lr_fail(t->err, LARDER_FORMAT, "%s: half an answer", t->what));
    if (n > t->max - t->memory->n)
        return stop(t, lr_fail(t->err, LARDER_LIMIT, "%s: the answer is longer than %zu bytes", t->what, t->max));
    lr_buf_add(t->memory, p, n);
    return t->memory->failed ? stop(t, LR_NOMEM(t->err, "the answer")) : n;
}

static int on_progress(void *ctx, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up_now)
{
    (void)total, (void)now, (void)up_total, (void)up_now;
    transfer *t = ctx;
    if (t->net->tick(t->net->user, t->what, t->memory ? 0 : t->n_done)) return 0;
    t->st = lr_fail(t->err, LARDER_CANCELLED,
                    "stopped; what was fetched of %s is kept, and the next pull goes on from there", t->what);
    return 1;
}

static curl_socket_t on_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *a)
{
    (void)purpose;
    transfer *t = ctx;
    if (!t->private_ok && is_private_address(&a->addr)) {
        t->refused = true;
        return CURL_SOCKET_BAD;
    }
    int fd = socket(a->family, a->socktype, a->protocol);
    if (fd >= 0) (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
}

/* ---------------------------------------------------------------- one request */

static struct curl_slist *add_header(struct curl_slist *list, const char *text, bool *failed)
{
    struct curl_slist *more = curl_slist_append(list, text);
    if (!more) *failed = true;
    return more ? more : list;
}

static struct curl_slist *request_headers(const transfer *t, const char *url, bool *failed)
{
    char line[sizeof t->net->token + MAX_ETAG + 64];
    struct curl_slist *list = NULL;
    if (t->net->token[0] && lr_url_is_of(url, t->net->endpoint)) {
        snprintf(line, sizeof line, "Authorization: Bearer %s", t->net->token);
        list = add_header(list, line, failed);
    }
    if (t->head) {
        snprintf(line, sizeof line, "Range: bytes=0-%llu", (ull)t->head - 1);
        list = add_header(list, line, failed);
    }
    if (t->offset) {
        snprintf(line, sizeof line, "Range: bytes=%llu-", (ull)t->offset);
        list = add_header(list, line, failed);
    }
    if (t->offset && t->if_range[0]) {
        snprintf(line, sizeof line, "If-Range: %s", t->if_range);
        list = add_header(list, line, failed);
    }
    return list;
}

static CURLcode perform(transfer *t, const char *url, const struct curl_slist *headers)
{
    CURL *c = t->net->curl;
    curl_easy_reset(c);
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "larder/" LARDER_VERSION);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)t->net->stall_s);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 64L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)t->net->stall_s);
    if (t->memory) curl_easy_setopt(c, CURLOPT_TIMEOUT, (long)t->net->stall_s * 10);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, t);
    curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, on_socket);
    curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, t);
    return curl_easy_perform(c);
}

static larder_status check_redirect(transfer *t, const char *from, const char *to)
{
    parsed_url a = {0}, b = {0};
    if (!to || !parse_url(to, &b) || !parse_url(from, &a))
        return lr_fail(t->err, LARDER_IO, "%s: the server redirects to what is no address", t->what);
    if (strcmp(a.scheme, "https") == 0 && strcmp(b.scheme, "http") == 0)
        return lr_fail(t->err, LARDER_IO, "%s: the server redirects from https to http, which is refused", t->what);
    if (!check_parsed(&b, t->err)) return LARDER_OK;
    lr_wrap(t->err, LARDER_IO, "%s: the server's redirect", t->what);
    return t->err->code = LARDER_IO;
}

static larder_status http_failure(transfer *t, long code)
{
    if (code == 401 || code == 403)
        return lr_fail(t->err, LARDER_IO,
                       "%s: access refused (HTTP %ld); a gated or private model needs its licence accepted on "
                       "the hub and a token in HF_TOKEN",
                       t->what, code);
    if (code == 404 || code == 410)
        return lr_fail(t->err, LARDER_NOT_FOUND, "%s: not there (HTTP %ld); check the name and the revision", t->what,
                       code);
    return lr_fail(t->err, LARDER_IO, "%s: the server answers with HTTP %ld", t->what, code);
}

/* How a request ended: done, for good or bad; or worth another try. */
typedef struct outcome {
    larder_status st;
    bool again;
    long wait_s; /* the server asked for this much patience; 0: it did not */
    long code;
} outcome;

static outcome network_failure(transfer *t, CURLcode r)
{
    outcome o = {.st = t->st};
    if (t->st) return o;
    if (t->refused) {
        o.st = lr_fail(t->err, LARDER_IO,
                       "%s: the server redirects to an address inside this network, which is refused", t->what);
        return o;
    }
    o.st = lr_fail(t->err, LARDER_IO, "%s: %s", t->what, curl_easy_strerror(r));
    o.again = r != CURLE_PEER_FAILED_VERIFICATION && r != CURLE_URL_MALFORMAT && r != CURLE_UNSUPPORTED_PROTOCOL &&
              r != CURLE_OUT_OF_MEMORY && r != CURLE_SSL_CACERT_BADFILE;
    return o;
}

static outcome one_hop(transfer *t, const char *url, char *location, size_t cap)
{
    outcome o = {0};
    bool failed = false;
    struct curl_slist *headers = request_headers(t, url, &failed);
    t->junk = t->body_begun = t->refused = false;
    t->n_junk = 0;
    CURLcode r = failed ? CURLE_OUT_OF_MEMORY : perform(t, url, headers);
    curl_slist_free_all(headers);
    curl_easy_getinfo(t->net->curl, CURLINFO_RESPONSE_CODE, &o.code);
    if (r != CURLE_OK && !t->junk && !(t->enough && !t->st)) return network_failure(t, r);
    location[0] = 0;
    if (o.code >= 300 && o.code < 400 && o.code != 304) {
        char *to = NULL;
        curl_easy_getinfo(t->net->curl, CURLINFO_REDIRECT_URL, &to);
        o.st = check_redirect(t, url, to);
        if (!o.st && strlen(to) >= cap)
            o.st = lr_fail(t->err, LARDER_LIMIT, "%s: a redirect of %zu bytes", t->what, strlen(to));
        if (!o.st) memcpy(location, to, strlen(to) + 1);
    } else if (o.code != 200 && o.code != 206) {
        curl_off_t wait = 0;
        curl_easy_getinfo(t->net->curl, CURLINFO_RETRY_AFTER, &wait);
        o.st = http_failure(t, o.code);
        o.again = o.code == 408 || o.code == 429 || o.code >= 500;
        o.wait_s = wait < 120 ? (long)wait : 120;
    }
    return o;
}

/* A request with its redirects. */
static outcome request(transfer *t, const char *url)
{
    enum { CAP = 16 << 10 };
    char *at = lr_alloc(2 * CAP), *to = at ? at + CAP : NULL;
    outcome o = {0};
    if (!at || strlen(url) >= CAP) {
        o.st = at ? lr_fail(t->err, LARDER_LIMIT, "%s: the address is too long", t->what)
                  : LR_NOMEM(t->err, "an address");
        lr_free(at);
        return o;
    }
    memcpy(at, url, strlen(url) + 1);
    t->private_ok = true; /* the first hop is where the person asked us to go */
    for (int hop = 0; hop <= MAX_HOPS; hop++) {
        o = one_hop(t, at, to, CAP);
        if (o.st || !to[0]) break;
        char *ip = NULL;
        curl_easy_getinfo(t->net->curl, CURLINFO_PRIMARY_IP, &ip);
        if (hop == 0) t->private_ok = ip && lr_address_is_private(ip);
        memcpy(at, to, strlen(to) + 1);
        if (hop == MAX_HOPS) o.st = lr_fail(t->err, LARDER_IO, "%s: more than %d redirects", t->what, MAX_HOPS);
    }
    lr_free(at);
    return o;
}

/* ---------------------------------------------------------------- tries */

/* Sleeps before try number n (from 1), in slices, so that a person can stop it. */
static larder_status pause_before(transfer *t, uint32_t n, long wait_s, uint64_t n_done)
{
    uint64_t ms = LR_MIN((uint64_t)250 << LR_MIN(n, 6u), (uint64_t)15000), until;
    if (wait_s > 0) ms = (uint64_t)wait_s * 1000;
    char line[700];
    snprintf(line, sizeof line, "%s; trying again in %.1f s", t->err->message, (double)ms / 1000);
    if (t->net->note) t->net->note(t->net->user, line);
    until = lr_now_ns() + ms * 1000000;
    while (lr_now_ns() < until) {
        if (!t->net->tick(t->net->user, t->what, n_done))
            return lr_fail(t->err, LARDER_CANCELLED, "stopped while waiting for %s", t->what);
        usleep(50000);
    }
    return LARDER_OK;
}

larder_status lr_fetch_get(lr_fetch *net, const char *url, size_t max, lr_buf *out, char next[2048],
                           larder_error *err)
{
    larder_error own = {0};
    transfer t = {
        .net = net, .what = "the list of files", .err = err ? err : &own, .memory = out, .max = max, .fd = -1};
    size_t before = out->n;
    for (uint32_t n = 1;; n++) {
        out->n = before;
        t.max = before + max;
        outcome o = request(&t, url);
        if (!o.st || !o.again || n >= net->n_tries) {
            if (next) memcpy(next, t.next, sizeof t.next);
            return o.st;
        }
        LR_TRY(pause_before(&t, n, o.wait_s, 0));
    }
}

larder_status lr_fetch_head(lr_fetch *net, const char *url, uint64_t n_head, lr_buf *out, uint64_t *total,
                            larder_error *err)
{
    larder_error own = {0};
    transfer t = {.net = net, .what = "the file's header", .err = err ? err : &own, .memory = out, .fd = -1};
    size_t before = out->n;
    t.head = n_head;
    for (uint32_t n = 1;; n++) {
        out->n = before;
        t.max = before + (size_t)n_head;
        t.enough = false;
        outcome o = request(&t, url);
        *total = t.length;
        if (!o.st && out->n == before) return lr_fail(t.err, LARDER_FORMAT, "%s: the file is empty", t.what);
        if (!o.st || !o.again || n >= net->n_tries) return o.st;
        LR_TRY(pause_before(&t, n, o.wait_s, 0));
    }
}

/* ---------------------------------------------------------------- files */

/* The tag of the file that the part here is of; "" if none is known. */
static larder_status read_etag(transfer *t)
{
    char name[320];
    snprintf(name, sizeof name, "%s.etag", t->file->name);
    t->if_range[0] = 0;
    int fd = openat(t->dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return errno == ENOENT ? LARDER_OK : lr_fail_errno(t->err, errno, "cannot read '%s'", name);
    ssize_t n = read(fd, t->if_range, sizeof t->if_range - 1);
    close(fd);
    t->if_range[n > 0 ? n : 0] = 0;
    for (const char *p = t->if_range; *p; p++)
        if (*p <= ' ' || *p > '~') {
            t->if_range[0] = 0;
            break;
        }
    return LARDER_OK;
}

static larder_status hash_part(transfer *t, uint64_t n)
{
    enum { CHUNK = 1 << 20 };
    char *buf = lr_alloc(CHUNK);
    larder_status st = buf ? LARDER_OK : LR_NOMEM(t->err, "reading a file");
    while (!st && t->n_done < n) {
        ssize_t r = read(t->fd, buf, LR_MIN((uint64_t)CHUNK, n - t->n_done));
        if (r <= 0) st = lr_fail_errno(t->err, r < 0 ? errno : EIO, "cannot read '%s.part'", t->what);
        else if (!t->net->tick(t->net->user, t->what, t->n_done)) st = lr_fail(t->err, LARDER_CANCELLED, "stopped");
        if (st) break;
        lr_sha256_add(&t->sha, buf, (size_t)r);
        t->n_done += (uint64_t)r;
    }
    lr_free(buf);
    return st;
}

/* What an earlier pull left: hashed, and where to go on from. */
static larder_status take_up(transfer *t)
{
    struct stat sb;
    if (fstat(t->fd, &sb) != 0 || !S_ISREG(sb.st_mode))
        return lr_fail(t->err, LARDER_IO, "'%s.part' is no regular file", t->what);
    LR_TRY(read_etag(t));
    lr_sha256_start(&t->sha);
    bool trusted = t->file->sha256[0] ||
                   t->if_range[0]; /* else nothing would tell an older file's bytes from this one's */
    if (!trusted || (t->file->size_known && (uint64_t)sb.st_size > t->file->n_bytes)) return start_over(t);
    return hash_part(t, (uint64_t)sb.st_size);
}

static larder_status check_sum(transfer *t)
{
    char hex[65];
    lr_sha256_end(&t->sha, hex);
    if (!t->file->sha256[0] || strcmp(hex, t->file->sha256) == 0) return LARDER_OK;
    return lr_fail(t->err, LARDER_FORMAT, "%s: its SHA-256 is %s, but %s was promised; nothing was kept", t->what,
                   hex, t->file->sha256);
}

static void forget(const transfer *t)
{
    char name[320];
    snprintf(name, sizeof name, "%s.etag", t->file->name);
    unlinkat(t->dir, name, 0);
}

/* Whole and checked: synced, and under its name. */
static larder_status settle(transfer *t, const char *part)
{
    if (fsync(t->fd) != 0 || renameat(t->dir, part, t->dir, t->file->name) != 0)
        return lr_fail_errno(t->err, errno, "cannot write '%s'", t->what);
    forget(t);
    return LARDER_OK;
}

static bool is_whole(const transfer *t) { return t->file->size_known && t->n_done == t->file->n_bytes; }

/* Until all bytes are there. A try that brings next to nothing counts against the limit. */
static larder_status fetch_rest(transfer *t)
{
    for (uint32_t n_poor = 0; !is_whole(t);) {
        uint64_t before = t->n_done;
        t->offset = before;
        outcome o = request(t, t->file->url);
        if (o.code == 416 && before) { /* the file there is shorter than what is here */
            LR_TRY(start_over(t));
            o = (outcome){.st = lr_fail(t->err, LARDER_IO, "%s: the file has changed", t->what), .again = true};
        } else if (!o.st && !t->body_begun && t->file->size_known && t->file->n_bytes == 0) {
            return start_over(t); /* an empty file has no body */
        } else if (!o.st && !is_whole(t)) {
            o = (outcome){.st = lr_fail(t->err, LARDER_IO, "%s: the server ended too early", t->what), .again = true};
        }
        if (o.st && !o.again) return o.st;
        if (!o.st) continue;
        n_poor = t->n_done >= before + SMALL_GAIN ? 1 : n_poor + 1;
        if (n_poor >= t->net->n_tries) return o.st;
        LR_TRY(pause_before(t, n_poor, o.wait_s, t->n_done));
        /* From now on the answer's own tag says which file the bytes are of. */
        LR_TRY(read_etag(t));
        if (!t->if_range[0] && !t->file->sha256[0]) LR_TRY(start_over(t));
    }
    return LARDER_OK;
}

larder_status lr_fetch_file(lr_fetch *net, int dir, lr_remote *file, larder_error *err)
{
    larder_error own = {0};
    transfer t = {.net = net, .what = file->name, .err = err ? err : &own, .dir = dir, .file = file};
    char part[320];
    larder_status st;
    snprintf(part, sizeof part, "%s.part", file->name);
    t.fd = openat(dir, part, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0666);
    if (t.fd < 0) return lr_fail_errno(err, errno, "cannot write '%s'", part);
    LR_GO(take_up(&t));
    bool resumed = t.n_done > 0;
    LR_GO(fetch_rest(&t));
    st = check_sum(&t);
    if (st && resumed) { /* what was left here belonged to another file */
        if (net->note) net->note(net->user, "what was kept of an earlier pull does not fit; fetching the whole file");
        LR_GO(start_over(&t));
        LR_GO(fetch_rest(&t));
        st = check_sum(&t);
    }
    if (!st) st = settle(&t, part);
fail:
    close(t.fd);
    if (st == LARDER_FORMAT) { /* its bytes are worth nothing */
        unlinkat(dir, part, 0);
        forget(&t);
    }
    return st;
}
