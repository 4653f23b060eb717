/* exec_attn.c - who does which piece of attention in a step. What a piece computes is attn.h's.
 *
 * A unit is one KV head and one tile of a sequence's tokens, with all the query heads that share it. When a decode
 * step has few units for its threads and a long past, chunks of positions are units too: their partial sums go to
 * `parts`, and after a barrier they are merged in rising order, as one thread alone would have done.
 */
#include "exec.h"

static const lr_node *attend_of(const lr_worker *w, const lr_phase *ph)
{
    return &w->x->c.nodes[w->x->c.order[ph->first + ph->n - 1]];
}

static uint8_t *head_cache(const lr_exec *x, const lr_node *n, uint32_t head)
{
    return x->cache + n->cache_at + (uint64_t)head * x->c.l.n_kv_block * n->cache_stride;
}

void lr_store_kv(lr_worker *w, const lr_node *n, uint32_t tok, uint32_t head)
{
    const lr_exec *x = w->x;
    const lr_batch_seq *s = &x->b->seqs[x->seq[tok]];
    uint32_t pos = x->pos[tok], dim = n->op.attn.head_dim;
    const float *k = (const float *)lr_at(w, n->in[1], tok) + (size_t)head * dim;
    const float *v = (const float *)lr_at(w, n->in[2], tok) + (size_t)head * dim;
    uint8_t *block = head_cache(x, n, head) + (uint64_t)s->blocks[pos / LR_KV_BLOCK] * n->cache_stride;
    x->c.k->attn->store(x->c.l.kv, dim, block, pos % LR_KV_BLOCK, k, v);
}

/* The job of tokens [t0, t1) of one sequence and one KV head; its arrays lie in the thread's scratch. */
static lr_attn_job job_of(lr_worker *w, const lr_node *n, uint32_t seq, uint32_t head, uint32_t t0, uint32_t t1)
{
    const lr_exec *x = w->x;
    const lr_attn *a = &n->op.attn;
    uint32_t group = a->n_head / a->n_head_kv, rows = (t1 - t0) * group, i = 0;
    const float **q = (const float **)(void *)(w->scratch + x->c.at_ptrs);
    float **out = (float **)(void *)(q + rows);
    uint32_t *pos = (uint32_t *)(void *)(out + rows);
    float *sink = (float *)(void *)(pos + rows);
    const float *sinks = n->b_at == UINT64_MAX ? NULL : x->floats + n->b_at + (size_t)head * group;
    for (uint32_t t = t0; t < t1; t++) {
        const float *qt = (const float *)lr_at(w, n->in[0], t) + (size_t)head * group * a->head_dim;
        float *ot = (float *)lr_at(w, n->out, t) + (size_t)head * group * a->head_dim;
        for (uint32_t g = 0; g < group; g++, i++) {
            q[i] = qt + (size_t)g * a->head_dim;
            out[i] = ot + (size_t)g * a->head_dim;
            pos[i] = x->pos[t];
            if (sinks) sink[i] = sinks[g];
        }
    }
    return (lr_attn_job){a->head_dim,
                         rows,
                         x->c.l.kv,
                         a->scale,
                         a->softcap,
                         a->window,
                         q,
                         out,
                         pos,
                         sinks ? sink : NULL,
                         head_cache(x, n, head),
                         n->cache_stride,
                         x->b->seqs[seq].blocks};
}

/* Sequence of tile u, and the tile's tokens. */
static uint32_t find_tile(const lr_exec *x, uint32_t u, uint32_t *t0, uint32_t *t1)
{
    uint32_t lo = 0, hi = x->b->n_seq;
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (x->tile[mid] <= u) lo = mid;
        else hi = mid;
    }
    uint32_t first = x->seq[x->c.l.n_tok + lo], size = x->c.tile_tok;
    *t0 = first + (u - x->tile[lo]) * size;
    *t1 = LR_MIN(*t0 + size, first + x->b->seqs[lo].n_tok);
    return lo;
}

static void run_whole(lr_worker *w, const lr_phase *ph, const lr_node *n)
{
    const lr_exec *x = w->x;
    uint32_t n_head = n->op.attn.n_head_kv, tiles = x->tile[x->b->n_seq], at = (uint32_t)(ph - x->c.phases), t0, t1;
    uint64_t all = (uint64_t)tiles * n_head;
    bool small = x->one && x->pos[0] < 512;
    for (uint64_t u = small ? (uint64_t)w->thread : lr_next(w, at, 1); u < all;) {
        /* the last tiles see most: they go first */
        uint32_t head = (uint32_t)(u % n_head), seq = find_tile(x, tiles - 1 - (uint32_t)(u / n_head), &t0, &t1);
        if (x->one) lr_store_kv(w, n, 0, head);
        lr_attn_job j = job_of(w, n, seq, head, t0, t1);
        x->c.k->attn->run(&j, w->scratch + x->c.at_attn);
        u = small ? u + (uint64_t)w->n_thread : lr_next(w, at, 1);
    }
}

static lr_attn_sum part_of(const lr_exec *x, const lr_node *n, uint64_t i)
{
    size_t group = n->op.attn.n_head / n->op.attn.n_head_kv, pad = lr_attn_pad(n->op.attn.head_dim);
    float *v = (float *)(void *)(x->parts + i * LR_ALIGN_UP(group * (pad + 2) * 4, 64));
    return (lr_attn_sum){v + group * pad, v + group * pad + group, v};
}

/* Unit u of a split phase: one chunk of one head of one sequence, the newest position stored first. */
static void run_chunk(lr_worker *w, const lr_node *n, uint64_t u)
{
    const lr_exec *x = w->x;
    const lr_attn *a = &n->op.attn;
    uint64_t which = u / x->n_chunk;
    uint32_t seq = (uint32_t)(which / a->n_head_kv), head = (uint32_t)(which % a->n_head_kv), pos = x->pos[seq];
    uint32_t chunk = (uint32_t)(u % x->n_chunk) + lr_attn_first(pos, a->window);
    if (chunk > pos / LR_ATTN_CHUNK) return;
    if (x->one && chunk == pos / LR_ATTN_CHUNK) lr_store_kv(w, n, 0, head);
    lr_attn_job j = job_of(w, n, seq, head, seq, seq + 1);
    x->c.k->attn->chunk(&j, chunk, part_of(x, n, u), w->scratch + x->c.at_attn);
}

/* Units lie head by head, so that the chunks a thread takes lie one after the other. */
static void run_split(lr_worker *w, const lr_node *n)
{
    const lr_exec *x = w->x;
    const lr_attn *a = &n->op.attn;
    uint32_t group = a->n_head / a->n_head_kv, pad = lr_attn_pad(a->head_dim);
    uint64_t heads = (uint64_t)x->b->n_seq * a->n_head_kv, from, many;
    lr_hand h = lr_deal(w, heads * x->n_chunk, 1, 1, 1);
    while (lr_hand_next(w, &h, &from, &many))
        for (uint64_t u = from; u < from + many; u++) run_chunk(w, n, u);
    lr_pool_barrier(x->pool);
    for (uint64_t u = (uint64_t)w->thread; u < heads; u += (uint64_t)w->n_thread) {
        uint32_t seq = (uint32_t)(u / a->n_head_kv), pos = x->pos[seq];
        lr_attn_sum to = part_of(x, n, u * x->n_chunk);
        for (uint32_t c = 1; c <= pos / LR_ATTN_CHUNK - lr_attn_first(pos, a->window); c++)
            x->c.k->attn->merge(group, pad, to, part_of(x, n, u * x->n_chunk + c));
        lr_attn_job j = job_of(w, n, seq, (uint32_t)(u % a->n_head_kv), seq, seq + 1);
        x->c.k->attn->finish(&j, to);
    }
}

void lr_run_attn(lr_worker *w, const lr_phase *ph)
{
    const lr_exec *x = w->x;
    const lr_node *n = attend_of(w, ph);
    uint64_t units = (uint64_t)x->b->n_seq * n->op.attn.n_head_kv;
    bool split = x->n_chunk > 1 && w->n_thread > 1 && units < 4 * (uint64_t)w->n_thread &&
                 !(n->op.attn.window && n->op.attn.window <= LR_ATTN_CHUNK);
    if (split) run_split(w, n);
    else run_whole(w, ph, n);
}
