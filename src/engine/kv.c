/* kv.c - see kv.h. All memory is taken at init: nothing here allocates while the engine runs. */
#include "kv.h"

#include <assert.h>

#define NONE LR_KV_NO_BLOCK

static uint32_t bucket_count(uint32_t n_block)
{
    uint32_t n = 16;
    while (n < n_block && n < (1u << 30)) n *= 2;
    return n;
}

uint64_t lr_kv_cache_bytes(uint32_t n_block)
{
    return (uint64_t)n_block * sizeof(lr_kv_slot) + (uint64_t)bucket_count(n_block) * sizeof(uint32_t);
}

larder_status lr_kv_cache_init(lr_kv_cache *c, uint32_t n_block, larder_error *err)
{
    *c = (lr_kv_cache){
        .n = n_block, .n_free = n_block, .n_bucket = bucket_count(n_block), .lru_head = NONE, .lru_tail = NONE};
    c->slots = lr_pages_alloc((size_t)n_block * sizeof *c->slots);
    c->buckets = lr_alloc((size_t)c->n_bucket * sizeof *c->buckets);
    if (!c->slots || !c->buckets) {
        lr_kv_cache_close(c);
        return LR_NOMEM(err, "the block table");
    }
    memset(c->buckets, 0xff, (size_t)c->n_bucket * sizeof *c->buckets);
    for (uint32_t i = 0; i < n_block; i++) c->slots[i].next = i + 1 < n_block ? i + 1 : NONE;
    c->free = n_block ? 0 : NONE;
    return LARDER_OK;
}

void lr_kv_cache_close(lr_kv_cache *c)
{
    if (c->slots) lr_pages_free(c->slots, (size_t)c->n * sizeof *c->slots);
    lr_free(c->buckets);
    *c = (lr_kv_cache){0};
}

static void lru_remove(lr_kv_cache *c, uint32_t b)
{
    lr_kv_slot *s = &c->slots[b];
    if (s->lru_prev != NONE) c->slots[s->lru_prev].lru_next = s->lru_next;
    else c->lru_head = s->lru_next;
    if (s->lru_next != NONE) c->slots[s->lru_next].lru_prev = s->lru_prev;
    else c->lru_tail = s->lru_prev;
    c->n_cached--;
}

static void lru_append(lr_kv_cache *c, uint32_t b)
{
    lr_kv_slot *s = &c->slots[b];
    s->lru_prev = c->lru_tail;
    s->lru_next = NONE;
    if (c->lru_tail != NONE) c->slots[c->lru_tail].lru_next = b;
    else c->lru_head = b;
    c->lru_tail = b;
    c->n_cached++;
}

static uint64_t prefix_hash(const lr_kv_cache *c, uint64_t salt, uint32_t parent, const int32_t *ids)
{
    uint64_t seed = parent == NONE ? salt : c->slots[parent].hash;
    return lr_hash(ids, LR_KV_BLOCK * sizeof *ids) ^ (seed * 0x9e3779b97f4a7c15u + 0x632be59bd9b4e019u);
}

static uint32_t find(const lr_kv_cache *c, uint64_t salt, uint32_t parent, const int32_t *ids, uint64_t hash)
{
    for (uint32_t b = c->buckets[hash & (c->n_bucket - 1)]; b != NONE; b = c->slots[b].next) {
        const lr_kv_slot *s = &c->slots[b];
        if (s->hash == hash && s->salt == salt && s->parent == parent && !memcmp(s->ids, ids, sizeof s->ids))
            return b;
    }
    return NONE;
}

uint32_t lr_kv_match(lr_kv_cache *c, uint64_t salt, const int32_t *ids, uint32_t n, uint32_t *blocks)
{
    uint32_t found = 0, parent = NONE;
    while ((found + 1) * LR_KV_BLOCK <= n) {
        const int32_t *at = ids + (size_t)found * LR_KV_BLOCK;
        uint32_t b = find(c, salt, parent, at, prefix_hash(c, salt, parent, at));
        if (b == NONE) break;
        if (c->slots[b].refs++ == 0) lru_remove(c, b);
        blocks[found++] = parent = b;
    }
    return found;
}

static void unpublish(lr_kv_cache *c, uint32_t b)
{
    lr_kv_slot *s = &c->slots[b];
    uint32_t *link = &c->buckets[s->hash & (c->n_bucket - 1)];
    while (*link != b) link = &c->slots[*link].next;
    *link = s->next;
    if (s->parent != NONE) c->slots[s->parent].n_child--;
    s->published = false;
}

/* The oldest unused prefix that no other continues. A sequence refers to all blocks of its prefix and drops them from
 * the end, so an unused node's children are unused and older in the list than itself. */
static uint32_t evict(lr_kv_cache *c)
{
    for (uint32_t b = c->lru_head; b != NONE; b = c->slots[b].lru_next) {
        if (c->slots[b].n_child) continue;
        lru_remove(c, b);
        unpublish(c, b);
        return b;
    }
    return NONE;
}

uint32_t lr_kv_take(lr_kv_cache *c)
{
    uint32_t b = c->free;
    if (b != NONE) {
        c->free = c->slots[b].next;
        c->n_free--;
    } else {
        b = evict(c);
    }
    if (b != NONE) c->slots[b].refs = 1;
    return b;
}

uint32_t lr_kv_room(const lr_kv_cache *c) { return c->n_free + c->n_cached; }

void lr_kv_publish(lr_kv_cache *c, uint64_t salt, uint32_t parent, const int32_t *ids, uint32_t block)
{
    lr_kv_slot *s = &c->slots[block];
    if (s->published || (parent != NONE && !c->slots[parent].published)) return;
    uint64_t hash = prefix_hash(c, salt, parent, ids);
    if (find(c, salt, parent, ids, hash) != NONE) return;
    s->parent = parent;
    s->salt = salt;
    s->hash = hash;
    s->n_child = 0;
    s->published = true;
    memcpy(s->ids, ids, sizeof s->ids);
    uint32_t *bucket = &c->buckets[hash & (c->n_bucket - 1)];
    s->next = *bucket;
    *bucket = block;
    if (parent != NONE) c->slots[parent].n_child++;
}

void lr_kv_drop(lr_kv_cache *c, uint32_t block)
{
    lr_kv_slot *s = &c->slots[block];
    assert(s->refs > 0);
    if (--s->refs) return;
    if (s->published) {
        lru_append(c, block);
    } else {
        s->next = c->free;
        c->free = block;
        c->n_free++;
    }
}

void lr_kv_check(const lr_kv_cache *c)
{
    uint32_t n_free = 0, n_cached = 0, n_used = 0;
    for (uint32_t b = c->free; b != NONE; b = c->slots[b].next) {
        assert(!c->slots[b].refs && !c->slots[b].published);
        n_free++;
    }
    for (uint32_t b = c->lru_head; b != NONE; b = c->slots[b].lru_next) {
        assert(!c->slots[b].refs && c->slots[b].published);
        n_cached++;
    }
    for (uint32_t b = 0; b < c->n; b++) {
        const lr_kv_slot *s = &c->slots[b];
        n_used += s->refs > 0;
        assert(!s->published || s->parent == NONE || c->slots[s->parent].published);
    }
    assert(n_free == c->n_free && n_cached == c->n_cached && n_free + n_cached + n_used == c->n);
    (void)n_free, (void)n_cached, (void)n_used;
}
