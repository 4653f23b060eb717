/* fetch.h - one URL to memory or to a file, over a network that is slow, cut off, and not to be trusted.
 *
 * Owns: which hosts may be spoken to and which may see the token, redirects, retries, resuming, checking size and
 * SHA-256. Refuses to own: what there is to fetch (pull.c).
 *
 * Rules: https, or http to this machine. At most 8 redirects, never to another scheme, never from https to http, never
 * from a public host to a private address. The token goes to the endpoint's scheme, host and port only.
 */
#ifndef LR_FETCH_H
#define LR_FETCH_H

#include "base.h"

typedef struct lr_fetch {
    char endpoint[512]; /* without a slash at the end */
    char token[512];    /* "" if none */
    uint32_t stall_s, n_tries;
    bool (*tick)(void *user, const char *what, uint64_t n_done); /* called often; false cancels */
    void (*note)(void *user, const char *line);
    void *user;
    void *curl;
} lr_fetch;

/* The callbacks and `user` are the caller's to set before; endpoint and token are checked. */
larder_status lr_fetch_open(lr_fetch *net, const char *endpoint, const char *token, larder_error *err);
void lr_fetch_close(lr_fetch *net);

/* What lies at `url`, at most `max` bytes of it, appended to `out`. *next: the page after it (Link: rel="next"), or "". */
larder_status lr_fetch_get(lr_fetch *net, const char *url, size_t max, lr_buf *out, char next[2048],
                           larder_error *err);

/* The first n bytes of the file at `url` (fewer if it is shorter), appended to `out`, and its whole length. A server that
 * cannot send parts is cut off once it has sent as much. */
larder_status lr_fetch_head(lr_fetch *net, const char *url, uint64_t n, lr_buf *out, uint64_t *total,
                            larder_error *err);

typedef struct lr_remote {
    const char *url;
    const char *name; /* of the file here; it was checked to be a plain name */
    bool size_known;
    uint64_t n_bytes;
    char sha256[65]; /* "" if not known; filled when the server tells it */
} lr_remote;

/* Fetches into the folder `dir`: NAME.part while it lasts, NAME when it is whole and checked. */
larder_status lr_fetch_file(lr_fetch *net, int dir, lr_remote *file, larder_error *err);

/* Whether the URL may be asked for at all; whether it is the endpoint's own (and may see the token). */
larder_status lr_url_check(const char *url, larder_error *err);
bool lr_url_is_of(const char *url, const char *endpoint);
/* An IPv4 or IPv6 address of this machine or of an inner network. */
bool lr_address_is_private(const char *ip);

#endif
