/* stream.c - see stream.h. */
#include "stream.h"

#include "tokenizer.h"

/* A stream holds back at most a stop string and a character; tokens add little to that at a time. */
#define ROOM 4096

larder_status lr_stream_init(lr_stream *s, const char *const *stop, uint32_t n_stop, larder_error *err)
{
    *s = (lr_stream){0};
    size_t longest = 0;
    if (n_stop) {
        s->stop = lr_calloc(n_stop, sizeof *s->stop);
        if (!s->stop) return LR_NOMEM(err, "stop strings");
    }
    for (uint32_t i = 0; i < n_stop; i++) {
        size_t n = strlen(stop[i]);
        if (!n) {
            lr_stream_close(s);
            return lr_fail(err, LARDER_USAGE, "a stop string is empty");
        }
        s->stop[s->n_stop] = lr_strndup(stop[i], n);
        if (!s->stop[s->n_stop++]) {
            lr_stream_close(s);
            return LR_NOMEM(err, "stop strings");
        }
        longest = LR_MAX(longest, n);
    }
    if (lr_buf_reserve(&s->held, ROOM + longest)) return LARDER_OK;
    lr_stream_close(s);
    return LR_NOMEM(err, "the answer's text");
}

void lr_stream_close(lr_stream *s)
{
    for (uint32_t i = 0; i < s->n_stop; i++) lr_free(s->stop[i]);
    lr_free(s->stop);
    lr_buf_free(&s->held);
    *s = (lr_stream){0};
}

void lr_stream_begin(lr_stream *s)
{
    memmove(s->held.p, s->held.p + s->given, s->held.n - s->given);
    s->held.n -= s->given;
    s->given = 0;
}

/* Puts U+FFFD in the place of bytes that are no characters. Returns how many bytes at the end begin a character whose
 * rest is still missing; at the `end` there is no rest, and they are replaced too. */
static size_t make_whole(lr_buf *b, bool end)
{
    for (size_t i = 0; i < b->n;) {
        size_t bad;
        int len = lr_utf8_char((const uint8_t *)b->p + i, b->n - i, &bad);
        if (len < 0 && !end) return b->n - i;
        if (len > 0) {
            i += (size_t)len;
            continue;
        }
        if (!lr_buf_reserve(b, 3)) return b->n - i;
        memmove(b->p + i + 3, b->p + i + bad, b->n - i - bad);
        memcpy(b->p + i, "\xef\xbf\xbd", 3);
        b->n += 3 - bad;
        i += 3;
    }
    return 0;
}

/* The stop string that is complete first (the longer one if two are at once), so that how the text was cut into tokens
 * does not matter; and the length of the longest end of the text that begins one. */
static bool find_stop(lr_stream *s, size_t *at, size_t *open)
{
    const char *p = s->held.p;
    size_t n = s->held.n, first_end = SIZE_MAX;
    *open = 0;
    for (uint32_t k = 0; k < s->n_stop; k++) {
        size_t len = strlen(s->stop[k]);
        for (size_t end = len; end <= n && end <= first_end; end++) {
            if (memcmp(p + end - len, s->stop[k], len)) continue;
            if (end < first_end || end - len < *at) {
                *at = end - len;
                s->met = k;
            }
            first_end = end;
        }
        for (size_t m = LR_MIN(len - 1, n); m > *open; m--)
            if (!memcmp(p + n - m, s->stop[k], m)) *open = m;
    }
    return first_end != SIZE_MAX;
}

bool lr_stream_take(lr_stream *s, bool end, const char **text, size_t *n)
{
    size_t at = 0, open, broken = make_whole(&s->held, end);
    bool stopped = find_stop(s, &at, &open);
    size_t give = s->held.n;
    if (stopped) give = at;
    else if (!end) give -= LR_MAX(open, broken);
    *text = s->held.p;
    *n = s->given = give;
    return stopped;
}
