/* exec.c - lr_backend_cpu: memory taken as planned, steps checked and started, figures for people. */
#include "exec.h"

static uint64_t pages(uint64_t n) { return LR_ALIGN_UP(n, 4096); }

/* What a step keeps per token and sequence, and the dealing counters: small, part of "scratch per thread"'s account. */
static uint64_t book_bytes(const lr_code *c) { return ((uint64_t)c->l.n_tok * 2 + (uint64_t)c->l.n_seq * 2 + 2) * 4; }
static uint64_t counter_bytes(const lr_code *c)
{
    return ((uint64_t)c->n_phase + 2 * c->l.n_thread) * sizeof(lr_counter);
}
static uint64_t scratch_bytes(const lr_code *c)
{
    return pages(c->scratch * c->l.n_thread) + pages(counter_bytes(c)) + pages(book_bytes(c)) + pages(c->parts);
}

static void account(const lr_code *c, lr_account *a)
{
    lr_account_add(a, "weights", c->weights, true);
    lr_account_add(a, "KV cache", pages(c->cache), false);
    lr_account_add(a, "activations", pages(c->shared), false);
    lr_account_add(a, "scratch per thread", scratch_bytes(c), false);
    lr_account_add(a, "norms and biases", pages(c->floats * 4), false);
    if (c->copies) lr_account_add(a, "repacked weights", pages(c->copies), false);
    lr_account_add(a, "logits", pages(c->logits_bytes), false);
}

static larder_status cpu_plan(const lr_program *p, const lr_limits *l, lr_account *a, larder_error *err)
{
    lr_code c;
    LR_TRY(lr_cpu_code_make(p, l, &c, err));
    account(&c, a);
    lr_code_free(&c);
    return LARDER_OK;
}

static void give(void *p, uint64_t n)
{
    if (p) lr_pages_free(p, pages(n));
}

static void cpu_close(lr_exec *x)
{
    if (!x) return;
    const lr_code *c = &x->c;
    give(x->cache, c->cache);
    give(x->shared, c->shared);
    give(x->scratch, c->scratch * c->l.n_thread);
    give(x->next, counter_bytes(c));
    give(x->pos, book_bytes(c));
    give(x->parts, c->parts);
    give(x->floats, c->floats * 4);
    give(x->copies, c->copies);
    give(x->logits, c->logits_bytes);
    lr_code_free(&x->c);
    lr_free(x);
}

/* NULL for nothing wanted; *bad when it cannot be had. */
static void *take(uint64_t n, bool *bad)
{
    if (!n) return NULL;
    void *p = n <= SIZE_MAX - 4096 ? lr_pages_alloc((size_t)pages(n)) : NULL;
    *bad |= !p;
    return p;
}

static larder_status cpu_open(const lr_program *p, const lr_limits *l, lr_pool *pool, lr_exec **out,
                              larder_error *err)
{
    *out = NULL;
    lr_exec *x = lr_calloc(1, sizeof *x);
    if (!x) return LR_NOMEM(err, "the engine");
    x->pool = pool;
    larder_status st = LARDER_OK;
    bool bad = false;
    if ((uint32_t)lr_pool_size(pool) != l->n_thread) {
        lr_free(x);
        return lr_fail(err, LARDER_USAGE, "a plan for %u threads, a pool of %d", l->n_thread, lr_pool_size(pool));
    }
    st = lr_cpu_code_make(p, l, &x->c, err);
    if (st) {
        lr_free(x);
        return st;
    }
    const lr_code *c = &x->c;
    x->cache = take(c->cache, &bad);
    x->shared = take(c->shared, &bad);
    x->scratch = take(c->scratch * c->l.n_thread, &bad);
    x->next = take(counter_bytes(c), &bad);
    x->pos = take(book_bytes(c), &bad);
    x->parts = take(c->parts, &bad);
    x->floats = take(c->floats * 4, &bad);
    x->copies = take(c->copies, &bad);
    x->logits = take(c->logits_bytes, &bad);
    if (bad) {
        cpu_close(x);
        return LR_NOMEM(err, "the engine's buffers");
    }
    x->deals = x->next + c->n_phase;
    x->seq = x->pos + l->n_tok; /* [n_tok] sequence of a token, then [n_seq] first token of a sequence */
    x->tile = x->seq + l->n_tok + l->n_seq;
    lr_exec_copy(x);
    lr_exec_tables(x);
    lr_exec_take(x);
    *out = x;
    return LARDER_OK;
}

/* ---------------------------------------------------------------- a step */
static void start(lr_exec *x, const lr_batch *b)
{
    uint32_t t = 0, tiles = 0, deepest = 0, *first = x->seq + x->c.l.n_tok;
    bool decode = true;
    for (uint32_t s = 0; s < b->n_seq; s++) {
        first[s] = t;
        x->tile[s] = tiles;
        tiles += (b->seqs[s].n_tok + x->c.tile_tok - 1) / x->c.tile_tok;
        decode &= b->seqs[s].n_tok == 1;
        for (uint32_t i = 0; i < b->seqs[s].n_tok; i++, t++) {
            x->pos[t] = b->seqs[s].n_past + i;
            x->seq[t] = s;
        }
        deepest = LR_MAX(deepest, b->seqs[s].n_past + b->seqs[s].n_tok - 1);
    }
    x->tile[b->n_seq] = tiles;
    x->b = b;
    x->one = b->n_tok == 1;
    x->n_chunk = decode ? deepest / LR_ATTN_CHUNK + 1 : 0;
    for (uint32_t p = 0; p < x->c.n_phase + 2 * x->c.l.n_thread; p++)
        atomic_store_explicit(&x->next[p].v, 0, memory_order_relaxed);
}

/* A step of one row leaves it in every thread's own memory. */
static const float *hidden_rows(const lr_exec *x)
{
    lr_worker first = {.x = (lr_exec *)x, .scratch = x->scratch};
    return lr_at(&first, x->c.hidden, 0);
}

static larder_status cpu_step(lr_exec *x, const lr_batch *b, const float **logits, larder_error *err)
{
    LR_TRY(lr_code_check(&x->c, b, err));
    start(x, b);
    lr_pool_run(x->pool, lr_exec_walk, x);
    *logits = b->hidden ? hidden_rows(x) : x->logits;
    x->b = NULL;
    return LARDER_OK;
}

/* ---------------------------------------------------------------- the cache */
/* Where a block's piece of one layer and one head lies, piece after piece; NULL after the last. */
typedef struct piece_at {
    uint32_t node, head;
} piece_at;
static uint8_t *next_piece(lr_exec *x, piece_at *p, uint32_t block, size_t *n)
{
    for (; p->node < x->c.n_node; p->node++, p->head = 0) {
        const lr_node *o = &x->c.nodes[p->node];
        if (o->kind != LR_OP_ATTEND || p->head == o->op.attn.n_head_kv) continue;
        *n = o->cache_stride;
        return x->cache + o->cache_at + ((uint64_t)p->head++ * x->c.l.n_kv_block + block) * o->cache_stride;
    }
    return NULL;
}

static void cpu_kv_read(lr_exec *x, uint32_t block, uint8_t *out)
{
    piece_at at = {0};
    size_t n;
    for (const uint8_t *p; (p = next_piece(x, &at, block, &n)); out += n) memcpy(out, p, n);
}

static void cpu_kv_write(lr_exec *x, uint32_t block, const uint8_t *from)
{
    piece_at at = {0};
    size_t n;
    for (uint8_t *p; (p = next_piece(x, &at, block, &n)); from += n) memcpy(p, from, n);
}

static uint64_t cpu_kv_block_bytes(const lr_program *p, larder_kv kv)
{
    return lr_program_block_bytes(p, kv, lr_attn_block_bytes);
}

/* ---------------------------------------------------------------- figures */
static uint64_t cpu_step_bytes(const lr_exec *x, const lr_batch *b) { return lr_code_bytes(&x->c, b); }

static void cpu_profile(lr_exec *x, bool on)
{
    x->profiling = on;
    if (on) lr_code_reset(&x->c);
}

static uint32_t cpu_profile_read(lr_exec *x, lr_op_time *out, uint32_t cap) { return lr_code_read(&x->c, out, cap); }

static larder_status cpu_memory(uint64_t *n_free, larder_error *err)
{
    (void)err;
    *n_free = lr_mem_available();
    return LARDER_OK;
}

const lr_backend lr_backend_cpu = {
    .name = "cpu",
    .memory = cpu_memory,
    .plan = cpu_plan,
    .open = cpu_open,
    .resident = lr_exec_resident,
    .close = cpu_close,
    .step = cpu_step,
    .kv_read = cpu_kv_read,
    .kv_write = cpu_kv_write,
    .kv_block_bytes = cpu_kv_block_bytes,
    .step_bytes = cpu_step_bytes,
    .profile = cpu_profile,
    .profile_read = cpu_profile_read,
};
