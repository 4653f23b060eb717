/* stream.h - from tokens to text a person may see: whole characters only, and nothing that may yet be a stop string. */
#ifndef LR_STREAM_H
#define LR_STREAM_H

#include "base.h"

typedef struct lr_stream {
    lr_buf held; /* bytes not yet given out */
    char **stop; /* n_stop strings, none empty */
    uint32_t n_stop;
    uint32_t met; /* which one, once lr_stream_take said so */
    size_t given; /* of `held`, bytes handed out by the last call; dropped by the next */
} lr_stream;

larder_status lr_stream_init(lr_stream *s, const char *const *stop, uint32_t n_stop, larder_error *err);
void lr_stream_close(lr_stream *s);
/* Drops what was given, so that new bytes may be added to s->held; then lr_stream_take. */
void lr_stream_begin(lr_stream *s);
/* What is certain now: *text, *n point into s until the next begin. true: a stop string was met (the text before it is
 * what is given). `end`: no more will come, give everything. */
bool lr_stream_take(lr_stream *s, bool end, const char **text, size_t *n);

#endif
