/* tok_unicode.c - characters: UTF-8, the byte-level alphabet, and the normalizers of tokenizer.json.
 *
 * Owns: what is done to text before patterns see it. Refuses to own: patterns and splits (tok_split.c).
 */
#include "tok_impl.h"

#include <utf8proc.h>

/* ---------------------------------------------------------------- UTF-8
 * The well-formed sequences of Unicode's table 3-7: no overlong forms, no surrogates, nothing past 10FFFF. */
int lr_utf8_char(const uint8_t *p, size_t n, size_t *bad)
{
    uint8_t c = p[0];
    *bad = 1;
    if (c < 0x80) return 1;
    int len = c >= 0xc2 && c <= 0xdf ? 2 : (c & 0xf0) == 0xe0 ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
    if (!len) return 0;
    for (int i = 1; i < len; i++) {
        uint8_t lo = 0x80, hi = 0xbf;
        if (i == 1) {
            if (c == 0xe0) lo = 0xa0;
            if (c == 0xed) hi = 0x9f;
            if (c == 0xf0) lo = 0x90;
            if (c == 0xf4) hi = 0x8f;
        }
        if ((size_t)i >= n) return -1;
        if (p[i] < lo || p[i] > hi) return 0;
        *bad = (size_t)i + 1;
    }
    return len;
}

int tok_utf8_len(const uint8_t *p, size_t n)
{
    size_t bad;
    return n ? LR_MAX(lr_utf8_char(p, n, &bad), 0) : 0;
}

size_t tok_utf8_bad(const uint8_t *p, size_t n)
{
    size_t bad;
    lr_utf8_char(p, n, &bad);
    return bad;
}

size_t tok_utf8_valid(const uint8_t *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t w;
        if (n - i >= 8 && (memcpy(&w, p + i, 8), (w & 0x8080808080808080U) == 0)) {
            i += 8;
            continue;
        }
        int len = tok_utf8_len(p + i, n - i);
        if (!len) break;
        i += (size_t)len;
    }
    return i;
}

void tok_utf8_replace(lr_buf *out, const uint8_t *p, size_t n)
{
    while (n) {
        size_t good = tok_utf8_valid(p, n);
        lr_buf_add(out, p, good);
        p += good;
        n -= good;
        if (!n) break;
        size_t bad = tok_utf8_bad(p, n);
        lr_buf_puts(out, "\xef\xbf\xbd");
        p += bad;
        n -= bad;
    }
}

size_t tok_put_char(uint32_t c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 63));
        out[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 63));
    out[2] = (char)(0x80 | (c >> 6 & 63));
    out[3] = (char)(0x80 | (c & 63));
    return 4;
}

uint32_t tok_get_char(const uint8_t *p, int n)
{
    static const uint8_t mask[5] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t c = p[0] & mask[n];
    for (int i = 1; i < n; i++) c = c << 6 | (p[i] & 63U);
    return c;
}

/* ---------------------------------------------------------------- the byte-level alphabet (GPT-2)
 * Printable bytes stand for themselves; the 68 others for the characters from U+0100 on, in their order. */
static bool stands_for_itself(uint32_t b)
{
    return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
}

uint32_t tok_byte_char(uint8_t byte)
{
    if (stands_for_itself(byte)) return byte;
    uint32_t b = byte;
    if (b <= 0x20) return 0x100 + b;
    if (b <= 0xa0) return 0x121 + (b - 0x7f);
    return 0x143; /* 0xad */
}

int tok_char_byte(uint32_t c)
{
    if (c < 0x100) return stands_for_itself(c) ? (int)c : -1;
    if (c <= 0x120) return (int)(c - 0x100);
    if (c <= 0x142) return (int)(c - 0x121 + 0x7f);
    return c == 0x143 ? 0xad : -1;
}

/* ---------------------------------------------------------------- classes */
bool tok_is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool tok_is_word(uint32_t c)
{
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return c == 0x200c || c == 0x200d;
    }
}

/* ---------------------------------------------------------------- normalizers */
/* The canonical order: marks after a starter by class, those of one class as they came. The library's own sort takes
 * quadratic time on a long run of marks, which anybody can type. */
static void order_marks(int32_t *c, size_t n, int32_t *spare)
{
    for (size_t i = 0; i < n;) {
        size_t end = i;
        bool sorted = true;
        int last = 0;
        for (; end < n; end++) {
            int class = utf8proc_get_property(c[end])->combining_class;
            if (!class) break;
            if (class < last) sorted = false;
            last = class;
        }
        if (!sorted) {
            size_t at[257] = {0}, sum = 0;
            for (size_t k = i; k < end; k++) at[utf8proc_get_property(c[k])->combining_class & 255]++;
            for (int k = 0; k < 256; k++) {
                size_t count = at[k];
                at[k] = sum;
                sum += count;
            }
            for (size_t k = i; k < end; k++) spare[at[utf8proc_get_property(c[k])->combining_class & 255]++] = c[k];
            memcpy(c + i, spare, (end - i) * sizeof(*c));
        }
        i = end + (end == i);
    }
}

enum { MAX_EXPANSION = 18 }; /* characters that one can decompose into (U+FDFA) */

static utf8proc_option_t form_options(tok_form form)
{
    int o = UTF8PROC_STABLE;
    o |= form == TOK_NFC || form == TOK_NFKC ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
    if (form == TOK_NFKC || form == TOK_NFKD) o |= UTF8PROC_COMPAT;
    return (utf8proc_option_t)o;
}

/* One stretch that does not touch its neighbours. */
static larder_status norm_stretch(tok_scratch *s, const tok_step *step, lr_str in, lr_buf *out)
{
    larder_status st = LARDER_OK;
    size_t n = 0, cap = in.n + 2 * MAX_EXPANSION;
    utf8proc_option_t form = form_options(step->form);
    int32_t *chars = lr_alloc(cap * sizeof(*chars)), *spare = NULL;
    if (!chars) goto nomem;
    for (size_t i = 0; i < in.n;) {
        int len = tok_utf8_len((const uint8_t *)in.p + i, in.n - i);
        if (!len) break;
        if (cap - n < MAX_EXPANSION) {
            int32_t *p = lr_realloc(chars, (cap *= 2) * sizeof(*chars));
            if (!p) goto nomem;
            chars = p;
        }
        utf8proc_ssize_t made = utf8proc_decompose_char((int32_t)tok_get_char((const uint8_t *)in.p + i, len),
                                                        chars + n, (utf8proc_ssize_t)(cap - n), form, NULL);
        if (made < 0 || (size_t)made > cap - n) {
            st = lr_fail(s->err, LARDER_FORMAT, "text does not normalize");
            goto done;
        }
        n += (size_t)made;
        i += (size_t)len;
    }
    if (!(spare = lr_alloc((n + 1) * sizeof(*spare)))) goto nomem;
    order_marks(chars, n, spare);
    utf8proc_ssize_t left = utf8proc_normalize_utf32(chars, (utf8proc_ssize_t)n, form);
    for (utf8proc_ssize_t i = 0; i < left; i++) {
        char c[4];
        lr_buf_add(out, c, tok_put_char((uint32_t)chars[i], c));
    }
    goto done;
nomem:
    st = LR_NOMEM(s->err, "normalizing");
done:
    lr_free(chars);
    lr_free(spare);
    return st;
}

/* ASCII is its own normal form, and a cut before an ASCII character that follows one changes nothing. */
static larder_status norm_form(tok_scratch *s, const tok_step *step, lr_str in, lr_buf *out)
{
    while (in.n) {
        size_t n = 0;
        while (n < in.n && (uint8_t)in.p[n] < 0x80) n++;
        if (n < in.n && n) n--; /* a mark may follow the last one */
        if (n) {
            lr_buf_add(out, in.p, n);
        } else {
            n = 1;
            while (n < in.n && ((uint8_t)in.p[n] >= 0x80 || (uint8_t)in.p[n - 1] >= 0x80)) n++;
            LR_TRY(norm_stretch(s, step, (lr_str){in.p, n}, out));
        }
        in = (lr_str){in.p + n, in.n - n};
    }
    return LARDER_OK;
}

static larder_status replace(tok_scratch *s, const tok_step *step, lr_str in, lr_buf *out)
{
    if (step->regex.literal && strlen(step->regex.source) == 1) { /* the usual one: a space by the mark */
        const char *p = in.p, *end = in.p + in.n;
        while (p < end) {
            const char *q = memchr(p, step->regex.source[0], (size_t)(end - p));
            lr_buf_add(out, p, (size_t)((q ? q : end) - p));
            if (!q) break;
            lr_buf_add(out, step->text, step->n_text);
            p = q + 1;
        }
        return LARDER_OK;
    }
    for (size_t at = 0; at < in.n;) {
        size_t from, to;
        LR_TRY(tok_match(s, &step->regex, in, at, &from, &to));
        lr_buf_add(out, in.p + at, from - at);
        if (from == in.n) break;
        lr_buf_add(out, step->text, step->n_text);
        at = to;
    }
    return LARDER_OK;
}

static void strip(const tok_step *step, lr_str in, lr_buf *out)
{
    const uint8_t *p = (const uint8_t *)in.p;
    size_t a = 0, z = in.n;
    while (step->left && a < z) {
        int n = tok_utf8_len(p + a, z - a);
        if (!n || !tok_is_space(tok_get_char(p + a, n))) break;
        a += (size_t)n;
    }
    while (step->right && z > a) {
        size_t i = z - 1;
        while (i > a && (p[i] & 0xc0) == 0x80) i--;
        int n = tok_utf8_len(p + i, z - i);
        if (!n || !tok_is_space(tok_get_char(p + i, n))) break;
        z = i;
    }
    lr_buf_add(out, in.p + a, z - a);
}

static void lowercase(lr_str in, lr_buf *out)
{
    for (size_t i = 0; i < in.n;) {
        int n = tok_utf8_len((const uint8_t *)in.p + i, in.n - i);
        if (!n) break;
        uint32_t c = tok_get_char((const uint8_t *)in.p + i, n);
        char low[4];
        if (c == 0x130) lr_buf_puts(out, "i\xcc\x87"); /* the one character whose lower case is two */
        else lr_buf_add(out, low, tok_put_char((uint32_t)utf8proc_tolower((utf8proc_int32_t)c), low));
        i += (size_t)n;
    }
}

/* *out is `in` itself or lies in one of the scratch's two buffers, until the next call. */
larder_status tok_normalize(tok_scratch *s, const tok_step *steps, int n_steps, lr_str in, lr_str *out)
{
    for (int i = 0; i < n_steps; i++) {
        const tok_step *step = &steps[i];
        lr_buf *to = &s->norm[i & 1];
        to->n = 0;
        if (!lr_buf_reserve(to, in.n + step->n_text + 1)) return LR_NOMEM(s->err, "normalizing");
        switch (step->kind) {
        case TOK_NORM_FORM: LR_TRY(norm_form(s, step, in, to)); break;
        case TOK_PREPEND:
            if (in.n) lr_buf_add(to, step->text, step->n_text);
            lr_buf_add(to, in.p, in.n);
            break;
        case TOK_REPLACE: LR_TRY(replace(s, step, in, to)); break;
        case TOK_STRIP: strip(step, in, to); break;
        case TOK_LOWERCASE: lowercase(in, to); break;
        case TOK_SPLIT:
        case TOK_PREFIX:
        case TOK_METASPACE: return lr_fail(s->err, LARDER_INTERNAL, "not a normalizer");
        }
        if (to->failed) return LR_NOMEM(s->err, "normalizing");
        if (to->n > TOK_MAX_TEXT) return lr_fail(s->err, LARDER_LIMIT, "the text grows past %d bytes", TOK_MAX_TEXT);
        in = (lr_str){to->p, to->n};
    }
    *out = in;
    return LARDER_OK;
}
