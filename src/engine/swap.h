/* swap.h - blocks of the cache in a file: written when they are pushed out, checked when they come back.
 *
 * Owns: the file's bytes and a checksum of each slot. Refuses to own: which block is in which slot (kv.c).
 *
 * The file has no name and a fixed size at most; a disk that is full or fails, or bytes that changed, are no errors: what
 * cannot be read back is computed again.
 */
#ifndef LR_SWAP_H
#define LR_SWAP_H

#include "kv.h"

typedef struct lr_swap {
    int fd;
    bool own;       /* the file is ours to close */
    size_t n_bytes; /* of a block */
    uint8_t *bytes; /* one block, on its way */
    uint64_t *sums;
    const lr_backend *backend;
    lr_exec *exec;
} lr_swap;

/* fd < 0: a file of its own in `folder` (NULL: TMPDIR, or /var/tmp). */
larder_status lr_swap_open(lr_swap *s, const lr_backend *backend, lr_exec *exec, size_t n_block_bytes,
                           uint32_t n_slot, int fd, const char *folder, larder_error *err);
void lr_swap_close(lr_swap *s);
uint64_t lr_swap_memory(size_t n_block_bytes, uint32_t n_slot); /* that open takes */
bool lr_swap_write(void *swap, uint32_t block, uint32_t slot);
bool lr_swap_read(void *swap, uint32_t slot, uint32_t block);

#endif
