/* kv.h - which block of the paged KV cache belongs to whom, and which prefix each block holds.
 *
 * Owns: block numbers, reference counts, the prefix tree, eviction. Refuses to own: the cache's bytes (the backend).
 *
 * A block holds LR_KV_BLOCK positions. Once full it may be published: it becomes a node of the prefix tree, a child of
 * the block before it, found again by comparing tokens (the hash only leads there). Published blocks nobody uses stay,
 * least recently used first to go; only leaves go, so that a node's parent is always in the tree.
 */
#ifndef LR_KV_H
#define LR_KV_H

#include "backend.h"

#define LR_KV_NO_BLOCK UINT32_MAX

typedef struct lr_kv_slot {
    uint32_t refs;   /* sequences that use it */
    uint32_t parent; /* the published block before it; LR_KV_NO_BLOCK at the start of a text */
    uint32_t n_child;
    uint32_t next; /* in its hash bucket, or in the free list */
    uint32_t lru_prev, lru_next;
    uint64_t salt, hash;
    bool published;
    int32_t ids[LR_KV_BLOCK];
} lr_kv_slot;

typedef struct lr_kv_cache {
    lr_kv_slot *slots;
    uint32_t n, n_free, free;
    uint32_t *buckets, n_bucket; /* a power of two */
    uint32_t lru_head, lru_tail; /* published, unused: head is the oldest */
    uint32_t n_cached;
} lr_kv_cache;

uint64_t lr_kv_cache_bytes(uint32_t n_block);
larder_status lr_kv_cache_init(lr_kv_cache *c, uint32_t n_block, larder_error *err);
void lr_kv_cache_close(lr_kv_cache *c);

/* The longest published prefix of ids [n] in whole blocks; takes a reference on each. Returns how many blocks. */
uint32_t lr_kv_match(lr_kv_cache *c, uint64_t salt, const int32_t *ids, uint32_t n, uint32_t *blocks);
/* A block with one reference, evicting an unused prefix if need be; LR_KV_NO_BLOCK if all are in use. */
uint32_t lr_kv_take(lr_kv_cache *c);
/* Blocks that lr_kv_take could give now. */
uint32_t lr_kv_room(const lr_kv_cache *c);
/* Makes a full block findable. `parent`: the block before it. Does nothing if parent is not in the tree, or if the
 * tree holds the same text already. */
void lr_kv_publish(lr_kv_cache *c, uint64_t salt, uint32_t parent, const int32_t *ids, uint32_t block);
void lr_kv_drop(lr_kv_cache *c, uint32_t block); /* gives a reference back */
/* Aborts if an invariant is broken. For tests. */
void lr_kv_check(const lr_kv_cache *c);

#endif
