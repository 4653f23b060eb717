/* mm_pack.c - packed matrices: the words of a group of rows side by side, so that a product reads memory as one stream.
 *
 * Layout, for groups of V rows of a format whose blocks have B bytes. Block b of the group lies at b V B, and what lies at
 * byte `at` of a row's block lies at V at of it: the words there, of row 0, row 1, ... A block is words of four bytes but
 * for what B leaves over: a scale, before them (two bytes, or one) or behind. V rows of it lie side by side like the rest.
 * So a vector of V words, one of each row, is one load: the turn that rows in place need (mm_formats.h) is done once, here.
 *
 * F16, which meets float32 activations, has lines of 64 bytes of two rows in turn.
 *
 * Refuses to own: who packs, and when (exec_copy.c).
 */
#include "mm.h"

enum { LINE = 64 };

bool lr_mm_can_pack(uint32_t fmt, uint32_t cols)
{
    switch (fmt) {
    case LR_FMT_F16: return cols % (LINE / 2) == 0;
#define X(name, kind) case LR_FMT_##name:
        LR_MM_PACKED(X)
#undef X
        return true;
    }
    return false;
}

/* Bytes of a block before its first word. */
static size_t before_words(uint32_t fmt)
{
    switch (fmt) {
    case LR_FMT_Q4_0:
    case LR_FMT_Q5_0:
    case LR_FMT_Q8_0:
    case LR_FMT_IQ4_NL:
    case LR_FMT_IQ2_XXS: return 2;
    case LR_FMT_MXFP4: return 1;
    default: return 0;
    }
}

/* `size` bytes of each row, to rows side by side. */
LR_INLINE uint8_t *gather(const uint8_t *const *rows, uint32_t n_rows, size_t at, size_t size, uint8_t *to)
{
    for (uint32_t r = 0; r < n_rows; r++, to += size) memcpy(to, rows[r] + at, size);
    return to;
}

static void pair_lines(const uint8_t *const *rows, uint32_t n_rows, size_t row, uint8_t *to)
{
    for (uint32_t r = 0; r + 2 <= n_rows; r += 2)
        for (size_t at = 0; at < row; at += LINE) to = gather(rows + r, 2, at, LINE, to);
}

void lr_mm_pack(uint32_t fmt, uint32_t n_rows, const uint8_t *from, size_t stride, uint32_t n, uint32_t cols,
                uint8_t *to)
{
    enum { MOST = 16 };
    const lr_fmt_info *f = lr_fmt_get(fmt);
    const uint8_t *rows[MOST];
    size_t first = before_words(fmt), rest = (f->bytes - first) % 4, end = cols / f->block * (size_t)f->bytes;
    for (uint32_t r = 0; r < n_rows; r++) rows[r] = from + LR_MIN(r, n - 1) * stride;
    if (fmt == LR_FMT_F16) {
        pair_lines(rows, n_rows, end, to);
        return;
    }
    for (size_t at = 0; at < end;) {
        size_t words_end = at + f->bytes - rest;
        to = gather(rows, n_rows, at, first, to);
        for (at += first; at < words_end; at += 4) to = gather(rows, n_rows, at, 4, to);
        to = gather(rows, n_rows, at, rest, to);
        at += rest;
    }
}
