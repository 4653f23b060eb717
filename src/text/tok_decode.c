/* tok_decode.c - ids to text, as the reference's decoders do it, odd corners included.
 *
 * Owns: whole sequences and single pieces. Refuses to own: holding back half characters of a stream (the engine's).
 */
#include "tok_impl.h"

static const char mark[] = "\xe2\x96\x81"; /* U+2581, which stands for a space */

/* A byte-level name back to bytes; a name with a character outside the alphabet stands for itself. */
static void put_byte_level(lr_buf *out, lr_str name)
{
    size_t begin = out->n;
    for (size_t i = 0; i < name.n;) {
        int len = tok_utf8_len((const uint8_t *)name.p + i, name.n - i);
        int byte = len ? tok_char_byte(tok_get_char((const uint8_t *)name.p + i, len)) : -1;
        if (byte < 0) {
            out->n = begin;
            lr_buf_add(out, name.p, name.n);
            return;
        }
        lr_buf_putc(out, (char)byte);
        i += (size_t)len;
    }
}

static void put_piece(lr_buf *out, lr_str name, bool spaces, bool bare)
{
    for (size_t i = 0; i < name.n; i++) {
        if (spaces && name.n - i >= 3 && memcmp(name.p + i, mark, 3) == 0) {
            if (!bare) lr_buf_putc(out, ' ');
            i += 2;
        } else {
            lr_buf_putc(out, name.p[i]);
        }
    }
}

/* A run of byte tokens is text if all of it is; else each byte is one U+FFFD. */
static void end_bytes(lr_buf *out, size_t begin, bool replace)
{
    size_t n = out->n - begin;
    if (!replace || out->failed || tok_utf8_valid((const uint8_t *)out->p + begin, n) == n) return;
    out->n = begin;
    for (size_t i = 0; i < n; i++) lr_buf_puts(out, "\xef\xbf\xbd");
}

static void decode_pieces(const lr_tokenizer *t, const int32_t *ids, size_t n, bool replace, lr_buf *out)
{
    size_t begin = out->n, bytes = SIZE_MAX; /* where a run of byte tokens began */
    for (size_t i = 0; i < n; i++) {
        lr_str name = tok_name(t, (uint32_t)ids[i]);
        int byte = t->decode_bytes ? tok_parse_byte(name) : -1;
        if (byte >= 0) {
            if (bytes == SIZE_MAX) bytes = out->n;
            lr_buf_putc(out, (char)byte);
            continue;
        }
        if (bytes != SIZE_MAX) end_bytes(out, bytes, replace);
        bytes = SIZE_MAX;
        put_piece(out, name, t->decode_spaces, t->decode_bare && i == 0);
    }
    if (bytes != SIZE_MAX) end_bytes(out, bytes, replace);
    size_t strip = 0;
    while (strip < (size_t)t->decode_strip && begin + strip < out->n && out->p[begin + strip] == ' ') strip++;
    if (strip) {
        memmove(out->p + begin, out->p + begin + strip, out->n - begin - strip);
        out->n -= strip;
    }
}

static void decode_joined(const lr_tokenizer *t, const int32_t *ids, size_t n, lr_buf *out)
{
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        lr_str name = tok_name(t, (uint32_t)ids[i]);
        if (name.n == 0) continue;
        if (any) lr_buf_putc(out, ' ');
        any = true;
        lr_buf_add(out, name.p, name.n);
    }
}

static larder_status check_id(const lr_tokenizer *t, int32_t id, larder_error *err)
{
    if (id >= 0 && (uint32_t)id < t->n) return LARDER_OK;
    return lr_fail(err, LARDER_USAGE, "there is no token %d; this vocabulary has 0 to %u", id, t->n - 1);
}

larder_status lr_tokenizer_decode(const lr_tokenizer *t, const int32_t *ids, size_t n, bool replace, lr_buf *out,
                                  larder_error *err)
{
    for (size_t i = 0; i < n; i++) LR_TRY(check_id(t, ids[i], err));
    size_t begin = out->n;
    switch (t->decoder) {
    case TOK_DECODE_JOIN: decode_joined(t, ids, n, out); break;
    case TOK_DECODE_PIECES: decode_pieces(t, ids, n, replace, out); break;
    case TOK_DECODE_BYTES:
        for (size_t i = 0; i < n; i++) put_byte_level(out, tok_name(t, (uint32_t)ids[i]));
        break;
    }
    if (replace && !out->failed && out->n > begin) {
        size_t len = out->n - begin;
        if (tok_utf8_valid((const uint8_t *)out->p + begin, len) != len) {
            lr_buf clean = {0};
            tok_utf8_replace(&clean, (const uint8_t *)out->p + begin, len);
            out->n = begin;
            lr_buf_add(out, clean.p, clean.n);
            if (clean.failed) out->failed = true;
            lr_buf_free(&clean);
        }
    }
    return out->failed ? LR_NOMEM(err, "the decoded text") : LARDER_OK;
}

larder_status lr_tokenizer_piece(const lr_tokenizer *t, int32_t id, bool control, lr_buf *out, larder_error *err)
{
    LR_TRY(check_id(t, id, err));
    lr_str name = tok_name(t, (uint32_t)id);
    if (t->kind[id] == LR_TOKEN_CONTROL && !control) return LARDER_OK;
    int byte = t->decoder == TOK_DECODE_PIECES && t->decode_bytes ? tok_parse_byte(name) : -1;
    if (byte >= 0) lr_buf_putc(out, (char)byte);
    else if (t->decoder == TOK_DECODE_BYTES) put_byte_level(out, name);
    else put_piece(out, name, t->decoder == TOK_DECODE_PIECES && t->decode_spaces, false);
    return out->failed ? LR_NOMEM(err, "a piece of text") : LARDER_OK;
}
