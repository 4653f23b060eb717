/* ws_frame.h - frames of a WebSocket (RFC 6455, section 5): bytes to a frame, and a frame's head to bytes. */
#ifndef LR_WS_FRAME_H
#define LR_WS_FRAME_H

#include "base.h"

enum { OP_MORE = 0, OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };
enum {
    CLOSE_NORMAL = 1000,
    CLOSE_GOING = 1001,
    CLOSE_PROTOCOL = 1002,
    CLOSE_KIND = 1003,
    CLOSE_POLICY = 1008,
    CLOSE_LARGE = 1009
};

typedef struct ws_frame {
    int op;
    bool last;  /* of its message */
    char *body; /* in the bytes it was read from, unmasked there */
    size_t n;
} ws_frame;

/* The client's frame at the start of p[0..n), whose body may have `most` bytes. Returns how many bytes it takes; 0: it is
 * not whole yet, or *close says why the connection must end. */
size_t ws_frame_read(char *p, size_t n, uint64_t most, ws_frame *out, int *close);

/* The head of a whole message of n bytes from the server; returns its length. */
size_t ws_frame_head(int op, uint64_t n, unsigned char head[10]);

#endif
