/* error.c - statuses and their messages.
 *
 * Owns: the text of an error. Refuses to own: where notes go (log.c).
 */
#include "base.h"

#include <errno.h>
#include <stdio.h>

const char *larder_version(void) { return LARDER_VERSION; }

const char *larder_status_text(larder_status status)
{
    static const char *const texts[] = {
#define X(name, text) text,
        LARDER_STATUSES(X)
#undef X
    };
    return (size_t)status < LR_LEN(texts) ? texts[status] : "unknown status";
}

/* A message is one line of printable text whatever a hostile file put into it: control bytes, and the two of each of
 * U+0080 to U+009F, which terminals obey as well, become '?'; a UTF-8 character that was cut at the end goes. */
static void clean_line(char *s)
{
    size_t n = strlen(s);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i], next = (unsigned char)s[i + 1];
        if (c < 0x20 || c == 0x7f) s[i] = c == '\t' ? ' ' : '?';
        else if (c == 0xc2 && next >= 0x80 && next < 0xa0) s[i] = s[i + 1] = '?';
    }
    size_t back = 0;
    while (back < 3 && back < n && ((unsigned char)s[n - 1 - back] & 0xc0) == 0x80) back++;
    if (back >= n) return;
    unsigned char lead = (unsigned char)s[n - 1 - back];
    size_t need = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
    if (need > back) s[n - 1 - back] = 0;
}

larder_status(lr_fail)(larder_error *err, larder_status code, const char *fmt, ...)
{
    if (!err) return code;
    va_list ap;
    va_start(ap, fmt);
    err->code = code;
    vsnprintf(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
    clean_line(err->message);
    return code;
}

static larder_status status_of_errno(int e)
{
    switch (e) {
    case ENOMEM: return LARDER_NOMEM;
    case ENOENT:
    case ENOTDIR: return LARDER_NOT_FOUND;
    case EINTR: return LARDER_CANCELLED;
    default: return LARDER_IO;
    }
}

larder_status lr_fail_errno(larder_error *err, int errno_value, const char *fmt, ...)
{
    larder_status code = status_of_errno(errno_value);
    if (!err) return code;
    va_list ap;
    va_start(ap, fmt);
    char what[sizeof err->message], why[128] = "";
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
#ifdef __GLIBC__
    const char *text = strerror_r(errno_value, why, sizeof why);
#else
    const char *text = strerror_r(errno_value, why, sizeof why) ? "unknown error" : why;
#endif
    return lr_fail(err, code, "%.400s: %s", what, text);
}

larder_status lr_wrap(larder_error *err, larder_status code, const char *fmt, ...)
{
    if (!err) return code ? code : LARDER_INTERNAL;
    larder_error inner = *err;
    va_list ap;
    va_start(ap, fmt);
    char prefix[200];
    vsnprintf(prefix, sizeof prefix, fmt, ap);
    va_end(ap);
    return lr_fail(err, code ? code : inner.code, "%s: %.290s", prefix, inner.message);
}
