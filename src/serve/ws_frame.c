/* ws_frame.c - frames of a WebSocket. Knows nothing of sockets and turns. */
#include "ws_frame.h"

enum { MOST_CONTROL = 125, MASK_BYTES = 4 };

static bool is_known(int op) { return op <= OP_BINARY || (op >= OP_CLOSE && op <= OP_PONG); }

size_t ws_frame_read(char *bytes, size_t n_bytes, uint64_t most, ws_frame *out, int *close)
{
    unsigned char *p = (unsigned char *)bytes;
    *close = 0;
    if (n_bytes < 2) return 0;
    int op = p[0] & 15;
    uint64_t n = p[1] & 127;
    size_t at = n == 126 ? 4 : n == 127 ? 10 : 2;
    bool last = p[0] & 0x80, masked = p[1] & 0x80;
    if (p[0] & 0x70 || !masked || !is_known(op) || (op >= OP_CLOSE && (n > MOST_CONTROL || !last))) {
        *close = CLOSE_PROTOCOL;
        return 0;
    }
    if (n_bytes < at + MASK_BYTES) return 0;
    if (at > 2) n = 0;
    for (size_t i = 2; i < at; i++) n = n << 8 | p[i];
    if (n > most) {
        *close = CLOSE_LARGE;
        return 0;
    }
    const unsigned char *mask = p + at;
    at += MASK_BYTES;
    if (n_bytes - at < n) return 0;
    for (size_t i = 0; i < n; i++) p[at + i] ^= mask[i & 3];
    *out = (ws_frame){op, last, bytes + at, (size_t)n};
    return at + (size_t)n;
}

size_t ws_frame_head(int op, uint64_t n, unsigned char head[10])
{
    size_t k = n < 126 ? 0 : n < 65536 ? 2 : 8;
    head[0] = (unsigned char)(0x80 | op);
    head[1] = (unsigned char)(k == 0 ? n : k == 2 ? 126 : 127);
    for (size_t i = 0; i < k; i++) head[2 + i] = (unsigned char)(n >> 8 * (k - 1 - i));
    return 2 + k;
}
