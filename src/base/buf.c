/* buf.c - bytes that grow. A failed growth sticks in `failed`, so callers check once, at the end. */
#include "base.h"

#include <stdio.h>

bool lr_buf_reserve(lr_buf *b, size_t extra)
{
    size_t need;
    if (b->failed) return false;
    if (!lr_add_size(b->n, extra, &need)) return b->failed = true, false;
    if (need <= b->cap) return true;
    size_t cap = LR_MAX(need, b->cap <= SIZE_MAX / 2 ? b->cap * 2 : need);
    cap = LR_MAX(cap, 64);
    char *p = lr_realloc(b->p, cap);
    if (!p) return b->failed = true, false;
    b->p = p;
    b->cap = cap;
    return true;
}

void lr_buf_add(lr_buf *b, const void *p, size_t n)
{
    if (!n || !lr_buf_reserve(b, n)) return;
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

void lr_buf_puts(lr_buf *b, const char *s) { lr_buf_add(b, s, strlen(s)); }
void lr_buf_putc(lr_buf *b, char c) { lr_buf_add(b, &c, 1); }

void lr_buf_base64(lr_buf *b, const void *p, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *in = p;
    for (size_t i = 0; i < n; i += 3) {
        size_t left = n - i;
        uint32_t three = (uint32_t)in[i] << 16 | (left > 1 ? (uint32_t)in[i + 1] << 8 : 0) |
                         (left > 2 ? in[i + 2] : 0);
        char out[4] = {digits[three >> 18], digits[three >> 12 & 63], left > 1 ? digits[three >> 6 & 63] : '=',
                       left > 2 ? digits[three & 63] : '='};
        lr_buf_add(b, out, 4);
    }
}

void lr_buf_printf(lr_buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) b->failed = true;
    if (n <= 0 || !lr_buf_reserve(b, (size_t)n + 1)) return;
    va_start(ap, fmt);
    vsnprintf(b->p + b->n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->n += (size_t)n;
}

char *lr_buf_steal(lr_buf *b)
{
    lr_buf_putc(b, 0);
    char *p = b->failed ? NULL : b->p;
    if (!p) lr_free(b->p);
    *b = (lr_buf){0};
    return p;
}

void lr_buf_free(lr_buf *b)
{
    lr_free(b->p);
    *b = (lr_buf){0};
}
