/* swap.c - see swap.h. */
#include "swap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

uint64_t lr_swap_memory(size_t n_block_bytes, uint32_t n_slot)
{
    return n_slot ? n_block_bytes + (uint64_t)n_slot * sizeof(uint64_t) : 0;
}

larder_status larder_swap_file(const char *folder, int *fd, larder_error *err)
{
    char path[4096];
    const char *tmp = getenv("TMPDIR");
    if (!folder) folder = tmp && *tmp ? tmp : "/var/tmp";
    *fd = -1;
    int n = snprintf(path, sizeof path, "%s/larder-swap-XXXXXX", folder);
    if (n < 0 || (size_t)n >= sizeof path) return lr_fail(err, LARDER_USAGE, "the swap's folder has too long a name");
    *fd = mkstemp(path);
    if (*fd < 0) return lr_fail_errno(err, errno, "a file for the swap in %.200s", folder);
    unlink(path); /* it goes with its last user */
    return LARDER_OK;
}

larder_status lr_swap_open(lr_swap *s, const lr_backend *backend, lr_exec *exec, size_t n_block_bytes,
                           uint32_t n_slot, int fd, const char *folder, larder_error *err)
{
    *s = (lr_swap){.fd = fd, .own = fd < 0, .n_bytes = n_block_bytes, .backend = backend, .exec = exec};
    s->bytes = lr_alloc(n_block_bytes);
    s->sums = lr_calloc(n_slot, sizeof *s->sums);
    if (!s->bytes || !s->sums) return LR_NOMEM(err, "the swap");
    return fd < 0 ? larder_swap_file(folder, &s->fd, err) : LARDER_OK;
}

void lr_swap_close(lr_swap *s)
{
    if (s->bytes && s->own && s->fd >= 0) close(s->fd);
    lr_free(s->bytes);
    lr_free(s->sums);
    *s = (lr_swap){.fd = -1};
}

bool lr_swap_write(void *swap, uint32_t block, uint32_t slot)
{
    lr_swap *s = swap;
    off_t at = (off_t)((uint64_t)slot * s->n_bytes);
    s->backend->kv_read(s->exec, block, s->bytes);
    s->sums[slot] = lr_hash(s->bytes, s->n_bytes);
    for (size_t done = 0; done < s->n_bytes;) {
        ssize_t n = pwrite(s->fd, s->bytes + done, s->n_bytes - done, at + (off_t)done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            lr_log(LARDER_LOG_WARN, "no more blocks go to the swap: %s", n ? strerror(errno) : "it is full");
            return false;
        }
        done += (size_t)n;
    }
    return true;
}

bool lr_swap_read(void *swap, uint32_t slot, uint32_t block)
{
    lr_swap *s = swap;
    off_t at = (off_t)((uint64_t)slot * s->n_bytes);
    for (size_t done = 0; done < s->n_bytes;) {
        ssize_t n = pread(s->fd, s->bytes + done, s->n_bytes - done, at + (off_t)done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            lr_log(LARDER_LOG_WARN, "a block did not come back from the swap, and is computed again: %s",
                   n ? strerror(errno) : "its file is too short");
            return false;
        }
        done += (size_t)n;
    }
    if (lr_hash(s->bytes, s->n_bytes) != s->sums[slot]) {
        lr_log(LARDER_LOG_WARN, "a block came back from the swap damaged, and is computed again");
        return false;
    }
    s->backend->kv_write(s->exec, block, s->bytes);
    return true;
}
