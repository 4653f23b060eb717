/* Answers: the first byte says how they are cut and read. However they are cut, the pieces are the same. */
#include "parse_tools.h"

#include <stdlib.h>

static void add(void *user, const lr_piece *p)
{
    lr_buf *b = user;
    if (p->kind == LR_PIECE_CALL) lr_buf_printf(b, "\x01%.*s\x02", (int)p->name.n, p->name.p);
    if (p->kind == LR_PIECE_CALLED) lr_buf_puts(b, "\x03");
    lr_buf_add(b, p->text.p, p->text.n);
}

static void parse(const uint8_t *p, size_t n, unsigned how, size_t step, lr_buf *out)
{
    lr_answer a;
    lr_answer_init(&a, how & 1, how & 2, add, out);
    a.forced = how & 64;
    for (size_t i = 0; i < n; i += step)
        if (!lr_answer_feed(&a, (const char *)p + i, LR_MIN(step, n - i))) abort();
    if (!lr_answer_end(&a)) abort();
    lr_answer_close(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size) return 0;
    lr_buf whole = {0}, cut = {0};
    parse(data + 1, size - 1, data[0], LR_MAX(size - 1, 1u), &whole);
    parse(data + 1, size - 1, data[0], 1 + (data[0] >> 2) % 16, &cut);
    if (whole.n != cut.n || (whole.n && memcmp(whole.p, cut.p, whole.n))) abort();
    lr_buf_free(&whole);
    lr_buf_free(&cut);
    return 0;
}
