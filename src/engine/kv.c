/* kv.c - see kv.h. All memory is taken at init: nothing here allocates while the engine runs. */
#include "kv.h"

#include <assert.h>

#define NONE LR_KV_NO_BLOCK

static uint32_t bucket_count(uint64_t n_node)
{
    uint32_t n = 16;
    while (n < n_node && n < (1u << 30)) n *= 2;
    return n;
}

uint64_t lr_kv_cache_bytes(uint32_t n_block, uint32_t n_slot)
{
    uint64_t n_node = (uint64_t)n_block + n_slot;
    return (uint64_t)n_block * sizeof(lr_kv_block) + n_node * sizeof(lr_kv_node) +
           ((uint64_t)n_slot + bucket_count(n_node)) * sizeof(uint32_t);
}

larder_status lr_kv_cache_init(lr_kv_cache *c, uint32_t n_block, const lr_kv_swap *swap, larder_error *err)
{
    *c = (lr_kv_cache){.n = n_block, .n_free = n_block, .unused = {NONE, NONE, 0}, .swapped = {NONE, NONE, 0}};
    if (swap) c->swap = *swap;
    uint32_t n_slot = c->swap.n_slot, n_node = n_block + n_slot;
    if (n_node < n_slot || n_node == NONE) return lr_fail(err, LARDER_LIMIT, "the swap has too many blocks");
    c->n_bucket = bucket_count(n_node);
    c->blocks = lr_pages_alloc((size_t)n_block * sizeof *c->blocks);
    c->nodes = lr_pages_alloc((size_t)n_node * sizeof *c->nodes);
    c->slots = lr_alloc(((size_t)n_slot + 1) * sizeof *c->slots);
    c->buckets = lr_alloc((size_t)c->n_bucket * sizeof *c->buckets);
    if (!c->blocks || !c->nodes || !c->slots || !c->buckets) {
        lr_kv_cache_close(c);
        return LR_NOMEM(err, "the block table");
    }
    memset(c->buckets, 0xff, (size_t)c->n_bucket * sizeof *c->buckets);
    for (uint32_t i = 0; i < n_block; i++)
        c->blocks[i] = (lr_kv_block){.node = NONE, .next = i + 1 < n_block ? i + 1 : NONE};
    for (uint32_t i = 0; i < n_node; i++) c->nodes[i].next = i + 1 < n_node ? i + 1 : NONE;
    for (uint32_t i = 0; i < n_slot; i++) c->slots[i] = n_slot - 1 - i;
    c->n_slot_free = n_slot;
    c->free = n_block ? 0 : NONE;
    return LARDER_OK;
}

void lr_kv_cache_close(lr_kv_cache *c)
{
    if (c->blocks) lr_pages_free(c->blocks, (size_t)c->n * sizeof *c->blocks);
    if (c->nodes) lr_pages_free(c->nodes, ((size_t)c->n + c->swap.n_slot) * sizeof *c->nodes);
    lr_free(c->slots);
    lr_free(c->buckets);
    *c = (lr_kv_cache){0};
}

/* ---------------------------------------------------------------- lists by age */
static void list_remove(lr_kv_cache *c, lr_kv_list *l, uint32_t at)
{
    lr_kv_node *x = &c->nodes[at];
    *(x->prev_used != NONE ? &c->nodes[x->prev_used].next_used : &l->head) = x->next_used;
    *(x->next_used != NONE ? &c->nodes[x->next_used].prev_used : &l->tail) = x->prev_used;
    l->n--;
}

static void list_append(lr_kv_cache *c, lr_kv_list *l, uint32_t at)
{
    lr_kv_node *x = &c->nodes[at];
    x->prev_used = l->tail;
    x->next_used = NONE;
    *(l->tail != NONE ? &c->nodes[l->tail].next_used : &l->head) = at;
    l->tail = at;
    l->n++;
}

/* ---------------------------------------------------------------- the tree */
static uint64_t prefix_hash(const lr_kv_cache *c, uint64_t salt, uint32_t parent, const int32_t *ids)
{
    uint64_t seed = parent == NONE ? salt : c->nodes[parent].hash;
    return lr_hash(ids, LR_KV_BLOCK * sizeof *ids) ^ (seed * 0x9e3779b97f4a7c15u + 0x632be59bd9b4e019u);
}

static uint32_t find(const lr_kv_cache *c, uint64_t salt, uint32_t parent, const int32_t *ids, uint64_t hash)
{
    for (uint32_t at = c->buckets[hash & (c->n_bucket - 1)]; at != NONE; at = c->nodes[at].next) {
        const lr_kv_node *x = &c->nodes[at];
        if (x->hash == hash && x->salt == salt && x->parent == parent && !memcmp(x->ids, ids, sizeof x->ids))
            return at;
    }
    return NONE;
}

static uint32_t find_next(const lr_kv_cache *c, uint64_t salt, uint32_t parent, const int32_t *ids)
{
    return find(c, salt, parent, ids, prefix_hash(c, salt, parent, ids));
}

/* Takes a node that is in no list and has no children out of the tree. */
static void cut(lr_kv_cache *c, uint32_t at)
{
    lr_kv_node *x = &c->nodes[at];
    assert(!x->n_child);
    uint32_t *link = &c->buckets[x->hash & (c->n_bucket - 1)];
    while (*link != at) link = &c->nodes[*link].next;
    *link = x->next;
    if (x->parent != NONE) {
        c->nodes[x->parent].n_child--;
        if (x->block != NONE) c->nodes[x->parent].n_here--;
    }
    if (x->block != NONE) c->blocks[x->block].node = NONE;
    if (x->slot != NONE) c->slots[c->n_slot_free++] = x->slot;
    x->block = x->slot = NONE;
    x->next = c->node_free;
    c->node_free = at;
}

static bool is_below(const lr_kv_cache *c, uint32_t at, uint32_t top)
{
    while (at != NONE && at != top) at = c->nodes[at].parent;
    return at == top;
}

/* Forgets what is in the swap below a node, and the node too if it is there. Seldom needed, so it may take its time: every
 * round cuts the leaves. */
static void cut_swapped(lr_kv_cache *c, uint32_t top)
{
    for (bool more = true; more;) {
        more = false;
        for (uint32_t at = c->swapped.head, next; at != NONE; at = next) {
            next = c->nodes[at].next_used;
            if (c->nodes[at].n_child || !is_below(c, at, top)) continue;
            bool last = at == top;
            list_remove(c, &c->swapped, at);
            cut(c, at);
            c->n_lost++;
            if (last) return;
            more = true;
        }
    }
}

/* ---------------------------------------------------------------- the swap */
/* A slot for one more node, if need be that of the oldest which nothing continues. */
static uint32_t take_slot(lr_kv_cache *c)
{
    for (uint32_t at = c->swapped.head; !c->n_slot_free && at != NONE; at = c->nodes[at].next_used) {
        if (c->nodes[at].n_child) continue;
        list_remove(c, &c->swapped, at);
        cut(c, at);
        c->n_lost++;
        break;
    }
    return c->n_slot_free ? c->slots[--c->n_slot_free] : NONE;
}

static bool push_out(lr_kv_cache *c, uint32_t at)
{
    lr_kv_node *x = &c->nodes[at];
    if (!c->swap.n_slot || c->swap_full) return false;
    uint32_t slot = take_slot(c);
    if (slot == NONE) return false;
    if (!c->swap.write(c->swap.user, x->block, slot)) {
        c->slots[c->n_slot_free++] = slot;
        c->swap_full = true;
        return false;
    }
    c->blocks[x->block].node = NONE;
    x->block = NONE;
    x->slot = slot;
    if (x->parent != NONE) c->nodes[x->parent].n_here--;
    list_append(c, &c->swapped, at);
    c->n_out++;
    return true;
}

/* A node of the swap gets a block, whose bytes are those of the node already. */
static void settle_in(lr_kv_cache *c, uint32_t at, uint32_t block)
{
    lr_kv_node *x = &c->nodes[at];
    list_remove(c, &c->swapped, at);
    c->slots[c->n_slot_free++] = x->slot;
    x->slot = NONE;
    x->block = block;
    c->blocks[block].node = at;
    if (x->parent != NONE) c->nodes[x->parent].n_here++;
}

static uint32_t bring_back(lr_kv_cache *c, uint32_t at)
{
    lr_kv_node *x = &c->nodes[at];
    list_remove(c, &c->swapped, at); /* the youngest now: making room must not cut it */
    list_append(c, &c->swapped, at);
    uint32_t block = c->n_free + c->unused.n ? lr_kv_take(c) : NONE;
    if (block == NONE) return NONE;
    bool there = x->slot != NONE; /* unless it was the only one that could be cut for what was pushed out */
    if (!there || !c->swap.read(c->swap.user, x->slot, block)) {
        if (there) cut_swapped(c, at);
        lr_kv_drop(c, block);
        return NONE;
    }
    settle_in(c, at, block);
    c->n_in++;
    return block;
}

/* ---------------------------------------------------------------- blocks */
static uint32_t use(lr_kv_cache *c, uint32_t at)
{
    uint32_t b = c->nodes[at].block;
    if (c->blocks[b].refs++ == 0) list_remove(c, &c->unused, at);
    return b;
}

/* The node after the `held` blocks of a text; NONE if there is none. */
static uint32_t next_of(const lr_kv_cache *c, uint64_t salt, const int32_t *ids, uint32_t n, uint32_t held,
                        const uint32_t *blocks)
{
    uint32_t parent = held ? c->blocks[blocks[held - 1]].node : NONE;
    if ((uint64_t)(held + 1) * LR_KV_BLOCK > n || (held && parent == NONE)) return NONE;
    return find_next(c, salt, parent, ids + (size_t)held * LR_KV_BLOCK);
}

bool lr_kv_has_next(const lr_kv_cache *c, uint64_t salt, const int32_t *ids, uint32_t n, uint32_t held,
                    const uint32_t *blocks)
{
    return next_of(c, salt, ids, n, held, blocks) != NONE;
}

uint32_t lr_kv_match(lr_kv_cache *c, uint64_t salt, const int32_t *ids, uint32_t n, uint32_t held, uint32_t *blocks)
{
    uint32_t found = held, at;
    while ((at = next_of(c, salt, ids, n, found, blocks)) != NONE) {
        uint32_t b = c->nodes[at].block != NONE ? use(c, at) : bring_back(c, at);
        if (b == NONE) break;
        blocks[found++] = b;
    }
    return found;
}

uint32_t lr_kv_shared(const lr_kv_cache *c, uint64_t salt, const int32_t *ids, uint32_t n)
{
    uint32_t found = 0, parent = NONE;
    while ((found + 1) * LR_KV_BLOCK <= n) {
        uint32_t at = find_next(c, salt, parent, ids + (size_t)found * LR_KV_BLOCK);
        if (at == NONE || c->nodes[at].block == NONE || !c->blocks[c->nodes[at].block].refs) break;
        found++;
        parent = at;
    }
    return found;
}

/* The block of the oldest unused prefix that none in the cache continues. */
static uint32_t evict(lr_kv_cache *c)
{
    for (uint32_t at = c->unused.head; at != NONE; at = c->nodes[at].next_used) {
        uint32_t b = c->nodes[at].block;
        if (c->nodes[at].n_here) continue;
        list_remove(c, &c->unused, at);
        if (!push_out(c, at)) {
            if (c->nodes[at].n_child) cut_swapped(c, at);
            cut(c, at);
        }
        return b;
    }
    return NONE;
}

uint32_t lr_kv_take(lr_kv_cache *c)
{
    uint32_t b = c->free;
    if (b != NONE) {
        c->free = c->blocks[b].next;
        c->n_free--;
    } else {
        b = evict(c);
    }
    if (b != NONE) c->blocks[b].refs = 1;
    return b;
}

uint32_t lr_kv_room(const lr_kv_cache *c) { return c->n_free + c->unused.n; }

static void add_node(lr_kv_cache *c, uint64_t salt, uint32_t parent, const int32_t *ids, uint64_t hash,
                     uint32_t block)
{
    uint32_t at = c->node_free;
    assert(at != NONE); /* as many as blocks and slots */
    lr_kv_node *x = &c->nodes[at];
    c->node_free = x->next;
    *x = (lr_kv_node){.parent = parent, .salt = salt, .hash = hash, .block = block, .slot = NONE};
    memcpy(x->ids, ids, sizeof x->ids);
    uint32_t *bucket = &c->buckets[hash & (c->n_bucket - 1)];
    x->next = *bucket;
    *bucket = at;
    c->blocks[block].node = at;
    if (parent != NONE) {
        c->nodes[parent].n_child++;
        c->nodes[parent].n_here++;
    }
}

void lr_kv_publish(lr_kv_cache *c, uint64_t salt, uint32_t parent, const int32_t *ids, uint32_t *block)
{
    uint32_t above = parent == NONE ? NONE : c->blocks[parent].node;
    if (c->blocks[*block].node != NONE || (parent != NONE && above == NONE)) return;
    uint64_t hash = prefix_hash(c, salt, above, ids);
    uint32_t at = find(c, salt, above, ids, hash);
    if (at == NONE) {
        add_node(c, salt, above, ids, hash, *block);
    } else if (c->nodes[at].block == NONE) {
        settle_in(c, at, *block);
    } else {
        uint32_t shared = use(c, at);
        lr_kv_drop(c, *block);
        *block = shared;
    }
}

void lr_kv_drop(lr_kv_cache *c, uint32_t block)
{
    lr_kv_block *b = &c->blocks[block];
    assert(b->refs > 0);
    if (--b->refs) return;
    if (b->node != NONE) {
        list_append(c, &c->unused, b->node);
    } else {
        b->next = c->free;
        c->free = block;
        c->n_free++;
    }
}

/* ---------------------------------------------------------------- for tests */
static void check_node(const lr_kv_cache *c, uint32_t at, bool here)
{
    const lr_kv_node *x = &c->nodes[at];
    assert((x->block == NONE) == !here && (x->slot == NONE) == here);
    assert(!here || (c->blocks[x->block].node == at));
    assert(x->n_here <= x->n_child);
    assert(!here || x->parent == NONE || c->nodes[x->parent].block != NONE);
    (void)x, (void)here;
}

void lr_kv_check(const lr_kv_cache *c)
{
    uint32_t n_free = 0, n_unused = 0, n_swapped = 0, n_used = 0;
    for (uint32_t b = c->free; b != NONE; b = c->blocks[b].next) {
        assert(!c->blocks[b].refs && c->blocks[b].node == NONE);
        n_free++;
    }
    for (uint32_t at = c->unused.head; at != NONE; at = c->nodes[at].next_used) {
        check_node(c, at, true);
        assert(!c->blocks[c->nodes[at].block].refs);
        n_unused++;
    }
    for (uint32_t at = c->swapped.head; at != NONE; at = c->nodes[at].next_used) {
        check_node(c, at, false);
        n_swapped++;
    }
    for (uint32_t b = 0; b < c->n; b++) {
        n_used += c->blocks[b].refs > 0;
        if (c->blocks[b].node != NONE) check_node(c, c->blocks[b].node, true);
    }
    assert(n_free == c->n_free && n_unused == c->unused.n && n_free + n_unused + n_used == c->n);
    assert(n_swapped == c->swapped.n && n_swapped + c->n_slot_free == c->swap.n_slot);
    (void)n_free, (void)n_unused, (void)n_used, (void)n_swapped;
}
