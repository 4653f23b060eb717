/* kv.h - which block of the paged KV cache belongs to whom, and which prefix each block holds.
 *
 * Owns: block numbers, reference counts, the prefix tree, eviction, which node lies in which slot of the swap.
 * Refuses to own: the cache's bytes (the backend), the swap's (swap.c).
 *
 * A block holds LR_KV_BLOCK positions. Once full it may be published: its text becomes a node of the prefix tree, a child
 * of the node before it, found again by comparing tokens (the hash only leads there) under one salt. A node's bytes are in
 * a block of the cache or, once pushed out of it, in a slot of the swap, if there is one. What nobody uses stays, least
 * recently used first to go: from the cache to the swap, from the swap to oblivion.
 *
 * Of a node in the cache the one before it is in the cache too: a sequence refers to all blocks of its prefix, and only
 * nodes without a child in the cache leave it. Of a node in the swap the one before it may be in either.
 */
#ifndef LR_KV_H
#define LR_KV_H

#include "backend.h"

#define LR_KV_NO_BLOCK UINT32_MAX

typedef struct lr_kv_node {
    uint32_t parent;          /* LR_KV_NO_BLOCK at the start of a text */
    uint32_t n_child, n_here; /* nodes that continue it; those of them in the cache */
    uint32_t next;            /* in its hash bucket, or among the free */
    uint32_t prev_used, next_used;
    uint32_t block, slot; /* one of them is LR_KV_NO_BLOCK */
    uint64_t salt, hash;
    int32_t ids[LR_KV_BLOCK];
} lr_kv_node;

typedef struct lr_kv_block {
    uint32_t refs; /* sequences that use it */
    uint32_t node; /* LR_KV_NO_BLOCK: not published */
    uint32_t next; /* among the free */
} lr_kv_block;

typedef struct lr_kv_list {
    uint32_t head, tail, n; /* head is the oldest */
} lr_kv_list;

/* Where blocks go that the cache has no room for. */
typedef struct lr_kv_swap {
    void *user;
    uint32_t n_slot;                                          /* 0: there is none */
    bool (*write)(void *user, uint32_t block, uint32_t slot); /* false: it cannot take any more, ever */
    bool (*read)(void *user, uint32_t slot, uint32_t block);  /* false: what was written is not there any more */
} lr_kv_swap;

typedef struct lr_kv_cache {
    lr_kv_block *blocks;
    lr_kv_node *nodes; /* [n + swap.n_slot] */
    uint32_t *slots;   /* [swap.n_slot]: those free */
    uint32_t n, n_free, free, n_slot_free, node_free;
    uint32_t *buckets, n_bucket; /* a power of two */
    lr_kv_list unused, swapped;  /* nodes in the cache that nobody uses; nodes in the swap */
    lr_kv_swap swap;
    bool swap_full;               /* it failed to write: what is in it may still be read */
    uint64_t n_out, n_in, n_lost; /* blocks written to the swap, read back, and not to be read back */
} lr_kv_cache;

uint64_t lr_kv_cache_bytes(uint32_t n_block, uint32_t n_slot);
/* `swap` may be NULL. */
larder_status lr_kv_cache_init(lr_kv_cache *c, uint32_t n_block, const lr_kv_swap *swap, larder_error *err);
void lr_kv_cache_close(lr_kv_cache *c);

/* The longest prefix of ids [n] in whole blocks that the tree has, beyond the `held` blocks of it that the caller has found or
 * published already; takes a reference on each new block, reading back what is in the swap as long as there is room.
 * Returns how many there are then. */
uint32_t lr_kv_match(lr_kv_cache *c, uint64_t salt, const int32_t *ids, uint32_t n, uint32_t held, uint32_t *blocks);
/* Would match find more than `held`? */
bool lr_kv_has_next(const lr_kv_cache *c, uint64_t salt, const int32_t *ids, uint32_t n, uint32_t held,
                    const uint32_t *blocks);
/* Of the blocks that match would find, those that sequences use already: they take up no room. */
uint32_t lr_kv_shared(const lr_kv_cache *c, uint64_t salt, const int32_t *ids, uint32_t n);
/* A block with one reference, pushing out an unused prefix if need be; LR_KV_NO_BLOCK if all are in use. */
uint32_t lr_kv_take(lr_kv_cache *c);
/* Blocks that lr_kv_take could give now. */
uint32_t lr_kv_room(const lr_kv_cache *c);
/* Makes a full block findable. `parent`: the block before it, LR_KV_NO_BLOCK at the start. If the cache holds the same text
 * already, *block becomes that block, and the reference moves. Does nothing if parent is not in the tree. */
void lr_kv_publish(lr_kv_cache *c, uint64_t salt, uint32_t parent, const int32_t *ids, uint32_t *block);
void lr_kv_drop(lr_kv_cache *c, uint32_t block); /* gives a reference back */
/* Aborts if an invariant is broken. For tests. */
void lr_kv_check(const lr_kv_cache *c);

#endif
