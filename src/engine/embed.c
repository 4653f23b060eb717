/* embed.c - a text as one vector: the model's last hidden states, pooled. In parts, so that others' steps fit between. */
#include "engine.h"

/* What a prompt has come to so far. */
typedef struct pool {
    larder_pooling kind;
    uint32_t n_embd;
    double *sum; /* [n_embd] */
} pool;

/* rows [n, n_embd rounded up to 16]; in the order of positions, whatever the parts */
static void add_rows(pool *p, const float *rows, uint32_t n)
{
    size_t stride = LR_ALIGN_UP((size_t)p->n_embd, 16);
    for (uint32_t r = p->kind == LARDER_POOL_LAST ? n - 1 : 0; r < n; r++)
        for (uint32_t i = 0; i < p->n_embd; i++) {
            double x = (double)rows[r * stride + i];
            p->sum[i] = p->kind == LARDER_POOL_LAST ? x : p->sum[i] + x;
        }
}

static larder_status run_parts(larder_engine *e, const int32_t *ids, uint32_t n, const uint32_t *blocks, pool *p,
                               larder_between_fn *between, void *user, larder_error *err)
{
    uint32_t most = e->limits.n_hidden, out[LR_MOST_HIDDEN];
    for (uint32_t at = 0; at < n;) {
        uint32_t part = LR_MIN(n - at, most);
        lr_batch_seq seq = {.blocks = blocks, .n_past = at, .n_tok = part};
        lr_batch b = {.ids = ids + at, .n_tok = part, .seqs = &seq, .n_seq = 1, .out = out, .hidden = true};
        bool all = p->kind == LARDER_POOL_MEAN;
        b.n_out = all ? part : 1;
        for (uint32_t i = 0; i < b.n_out; i++) out[i] = all ? i : part - 1;
        const float *rows;
        LR_TRY(e->backend->step(e->exec, &b, &rows, err));
        add_rows(p, rows, b.n_out);
        at += part;
        if (at < n && between && !between(user)) return lr_fail(err, LARDER_CANCELLED, "stopped");
    }
    if (lr_file_damaged(&e->model->file))
        return lr_fail(err, LARDER_IO, "the model file changed while it was in use");
    return LARDER_OK;
}

larder_status larder_embed(larder_engine *e, const int32_t *ids, size_t n_ids, larder_pooling pooling, float *out,
                           larder_between_fn *between, void *user, larder_error *err)
{
    if (!e->limits.n_hidden)
        return lr_fail(err, LARDER_USAGE, "this engine was opened without room for embeddings (n_embed)");
    LR_TRY(lr_check_ids(e, ids, n_ids, err));
    uint32_t n = (uint32_t)n_ids, n_block = (n + LR_KV_BLOCK - 1) / LR_KV_BLOCK, taken = 0;
    if (lr_kv_room(&e->kv) < n_block) return lr_fail(err, LARDER_LIMIT, "the cache is in use by running requests");
    larder_status st = LARDER_OK;
    pool p = {.kind = pooling, .n_embd = e->program.n_embd};
    uint32_t *blocks = lr_calloc(n_block, sizeof *blocks);
    p.sum = lr_calloc(p.n_embd, sizeof *p.sum);
    if (!blocks || !p.sum) LR_GO(LR_NOMEM(err, "an embedding"));
    while (taken < n_block) blocks[taken++] = lr_kv_take(&e->kv);
    LR_GO(run_parts(e, ids, n, blocks, &p, between, user, err));
    for (uint32_t i = 0; i < p.n_embd; i++)
        out[i] = (float)(pooling == LARDER_POOL_MEAN ? p.sum[i] / (double)n : p.sum[i]);
fail:
    while (taken > 0) lr_kv_drop(&e->kv, blocks[--taken]);
    lr_free(blocks);
    lr_free(p.sum);
    return st;
}
