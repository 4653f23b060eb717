/* fuzz_ws.c - any bytes as what a WebSocket's client sends, which the first byte cuts into reads: frames are found as if
 * they had come at once. */
#include "ws_frame.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST = 4096 };

typedef struct heard {
    uint64_t sum; /* of all frames */
    int close;
} heard;

static heard hear(const uint8_t *data, size_t size, size_t step)
{
    heard h = {0};
    lr_buf in = {0};
    for (size_t at = 0; at < size && !h.close; at += LR_MIN(step, size - at)) {
        lr_buf_add(&in, (const char *)data + at, LR_MIN(step, size - at));
        for (size_t used = 1; used && !h.close;) {
            ws_frame f;
            used = ws_frame_read(in.p, in.n, MOST, &f, &h.close);
            if (!used) break;
            if (h.close || used > in.n || f.n > MOST || f.body < in.p || f.body + f.n > in.p + in.n) abort();
            h.sum = h.sum * 31 + lr_hash(f.body, f.n) + (uint64_t)f.op * 2 + f.last;
            memmove(in.p, in.p + used, in.n - used);
            in.n -= used;
        }
    }
    lr_buf_free(&in);
    return h;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size) return 0;
    heard whole = hear(data + 1, size - 1, size), cut = hear(data + 1, size - 1, 1 + data[0] % 64u);
    if (whole.sum != cut.sum || whole.close != cut.close) abort();
    return 0;
}
