/* listen.c - where the server listens: a socket of its own, or the one its service manager made for it; and telling that
 * manager how it stands.
 *
 * The manager's ways are systemd's, in two environment variables each: LISTEN_PID and LISTEN_FDS for sockets (from
 * descriptor 3 on), NOTIFY_SOCKET for news. See sd_listen_fds(3) and sd_notify(3). No library is needed for either.
 */
#include "serve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_GIVEN 3

typedef union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} address;

static larder_status make_listener(const server *s, int *out, larder_error *err)
{
    char port[16];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *list;
    snprintf(port, sizeof port, "%u", s->o.port);
    int bad = getaddrinfo(s->o.host, port, &hints, &list);
    if (bad) return lr_fail(err, LARDER_USAGE, "--host %s: %s", s->o.host, gai_strerror(bad));
    int fd = -1, why = EINVAL, on = 1;
    for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
        if (fd < 0) {
            why = errno;
            continue;
        }
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (!bind(fd, a->ai_addr, a->ai_addrlen) && !listen(fd, 511)) break;
        why = errno;
        close(fd);
        fd = -1;
    }
    freeaddrinfo(list);
    if (fd < 0) return lr_fail_errno(err, why, "listening on %s port %u", s->o.host, s->o.port);
    *out = fd;
    return LARDER_OK;
}

/* Sockets the manager left for this process, not for the one that started it. The variables are not inherited further. */
static long n_given(void)
{
    const char *pid = getenv("LISTEN_PID"), *n = getenv("LISTEN_FDS");
    long given = pid && n && strtol(pid, NULL, 10) == (long)getpid() ? strtol(n, NULL, 10) : 0;
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return given;
}

static larder_status take_given(long n, int *out, larder_error *err)
{
    int fd = FIRST_GIVEN, listens = 0, type = 0;
    socklen_t size = sizeof listens;
    if (n != 1) return lr_fail(err, LARDER_USAGE, "the service manager gave %ld sockets; larder takes one", n);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) || !listens ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) || type != SOCK_STREAM)
        return lr_fail(err, LARDER_USAGE, "what the service manager gave is no listening stream socket");
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK))
        return lr_fail_errno(err, errno, "the service manager's socket");
    *out = fd;
    return LARDER_OK;
}

/* What the socket is bound to takes the place of --host and --port: the rules for keys go by it. */
static larder_status learn_address(server *s, int fd, larder_error *err)
{
    address a = {.v6 = {0}};
    socklen_t n = sizeof a;
    if (getsockname(fd, &a.any, &n)) return lr_fail_errno(err, errno, "the socket's address");
    bool six = a.any.sa_family == AF_INET6;
    if (!six && a.any.sa_family != AF_INET)
        return lr_fail(err, LARDER_USAGE, "the service manager's socket is neither IPv4 nor IPv6");
    s->o.port = ntohs(six ? a.v6.sin6_port : a.v4.sin_port);
    if (!s->given) return LARDER_OK;
    const void *raw = six ? (const void *)&a.v6.sin6_addr : (const void *)&a.v4.sin_addr;
    if (!inet_ntop(a.any.sa_family, raw, s->host, sizeof s->host))
        return lr_fail_errno(err, errno, "the socket's address");
    s->o.host = s->host;
    return LARDER_OK;
}

larder_status listen_open(server *s, int *out, larder_error *err)
{
    long n = n_given();
    s->given = n > 0;
    if (!s->given) LR_TRY(check_host(s, err));
    if (s->given) LR_TRY(take_given(n, out, err));
    else LR_TRY(make_listener(s, out, err));
    LR_TRY(learn_address(s, *out, err));
    return check_host(s, err);
}

/* ---------------------------------------------------------------- news */
void notify_open(server *s)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t n = path ? strlen(path) : 0;
    s->notify = -1;
    if (!n || n >= sizeof a.sun_path || (*path != '/' && *path != '@')) return;
    memcpy(a.sun_path, path, n);
    if (*path == '@') a.sun_path[0] = 0; /* one without a file */
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && !connect(fd, (struct sockaddr *)&a, size)) s->notify = fd;
    else if (fd >= 0) close(fd);
    unsetenv("NOTIFY_SOCKET");
}

void notify_say(const server *s, const char *text)
{
    if (s->notify >= 0 && send(s->notify, text, strlen(text), MSG_NOSIGNAL) < 0) {} /* a manager that is gone */
}

void notify_close(server *s)
{
    if (s->notify >= 0) close(s->notify);
    s->notify = -1;
}
