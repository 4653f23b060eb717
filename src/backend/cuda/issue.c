/* issue.c - a step's kernels, phase by phase, onto the stream.
 *
 * Refuses to own: memory, what a kernel does. The same walk is captured as a graph and run as it is.
 */
#include "card.h"

typedef struct walk {
    lr_exec *x;
    const lr_cu_size *size;
    uint32_t sorted; /* slot of the routing that lies sorted; LR_NO_SLOT */
    uint32_t tile;   /* and in tiles of so many */
    lr_cu_rows rows; /* the list under way */
} walk;

static lr_cu_step step_of(const lr_exec *x)
{
    const lr_cu_book *b = &x->book;
    uint8_t *s = x->step;
    return (lr_cu_step){(const lr_cu_counts *)(void *)s,
                        (const int32_t *)(void *)(s + b->ids),
                        (const uint32_t *)(void *)(s + b->pos),
                        (const uint32_t *)(void *)(s + b->seq),
                        (const uint32_t *)(void *)(s + b->out),
                        (const uint32_t *)(void *)(s + b->first),
                        (const uint32_t *)(void *)(s + b->unit),
                        (const uint32_t *)(void *)(s + b->blocks),
                        b->max_blocks};
}

static uint32_t max_rows(const walk *w, uint8_t rows) { return rows == LR_ROWS_TOK ? w->size->tok : w->size->out; }

static const uint32_t *n_row(const lr_exec *x, uint8_t rows)
{
    const lr_cu_counts *c = (const lr_cu_counts *)(const void *)x->step;
    return rows == LR_ROWS_TOK ? &c->n_tok : &c->n_out;
}

static uint8_t *at(const lr_exec *x, uint32_t slot)
{
    const lr_slot *s = &x->c.slots[slot];
    return s->logits ? (uint8_t *)x->logits : x->shared + s->at;
}

static uint32_t row_floats(const lr_exec *x, uint32_t slot) { return (uint32_t)(x->c.slots[slot].row_bytes / 4); }

static const float *floats_at(const lr_exec *x, uint64_t i) { return i == UINT64_MAX ? NULL : x->floats + i; }

/* ---------------------------------------------------------------- rows */
typedef struct planes {
    uint64_t lo, scale;
    uint32_t stride;
} planes;

static bool bf16(int kind) { return kind == LR_CU_BF16 || kind == LR_CU_BF16X2; }
static bool few(const walk *w, uint8_t rows) { return max_rows(w, rows) <= LR_CU_FEW; }

/* Where a packed value's planes lie behind its first: as far apart whatever the step's size. */
static planes planes_of(const lr_exec *x, uint32_t slot, int kind, uint32_t n, uint32_t mul)
{
    const lr_slot *s = &x->c.slots[slot];
    uint64_t rows = (uint64_t)lr_code_most_rows(&x->c, s) * mul;
    planes p = {.stride = LR_ALIGN_UP(n, 32u)};
    p.lo = rows * p.stride * 2;
    p.scale = p.lo * (lr_cu_two(kind) ? 2 : 1);
    return p;
}

static cudaError_t flush(walk *w)
{
    if (!w->rows.n) return cudaSuccess;
    cudaError_t e = lr_cu_rows_run(&w->x->d, &w->rows, w->x->stream);
    w->rows.n = 0;
    return e;
}

static lr_cu_rowop row_op(const walk *w, const lr_node *n)
{
    const lr_exec *x = w->x;
    const lr_op *o = &n->op;
    lr_cu_rowop r = {.kind = n->kind,
                     .fn = o->fn,
                     .n = n->n,
                     .width = n->width,
                     .mul = n->mul,
                     .group = o->group,
                     .w_n = n->w_n,
                     .eps = o->eps,
                     .scale = o->scale,
                     .w = floats_at(x, n->w_at),
                     .bias = floats_at(x, n->b_at),
                     .y = at(x, n->out),
                     .y_row = x->c.slots[n->out].row_bytes};
    if (n->in[0] != LR_NO_SLOT) {
        r.a = at(x, n->in[0]);
        r.a_row = x->c.slots[n->in[0]].row_bytes;
    }
    if (n->in[1] != LR_NO_SLOT) {
        r.b = at(x, n->in[1]);
        r.b_row = x->c.slots[n->in[1]].row_bytes;
    }
    switch (n->kind) {
    case LR_OP_ROPE:
        r.w_n = x->c.p->ropes[o->rope].n_rot;
        r.halves = x->c.p->ropes[o->rope].kind == LR_ROPE_HALVES;
        break;
    case LR_NODE_ANGLES:
        r.w_n = x->c.p->ropes[o->rope].n_rot;
        r.w = x->freqs + x->freq_at[o->rope];
        r.scale = (float)x->c.p->ropes[o->rope].mscale;
        break;
    case LR_OP_ROUTE:
        r.w_n = o->route.k;
        r.gating = (uint8_t)o->route.gating;
        r.renorm = o->route.renorm;
        r.scale = o->route.scale;
        break;
    case LR_OP_COMBINE: r.w_n = n->in_mul; break;
    case LR_NODE_PACK: {
        planes p = planes_of(x, n->out, n->actk, n->n, n->mul);
        r.bf16 = bf16(n->actk);
        r.lo = lr_cu_two(n->actk);
        r.turned = !few(w, n->rows);
        r.lo_at = p.lo;
        r.scale_at = p.scale;
        break;
    }
    default: break;
    }
    return r;
}

static lr_cu_attn attn_of(const walk *w, const lr_node *n)
{
    const lr_exec *x = w->x;
    const lr_attn *a = &n->op.attn;
    lr_cu_attn r = {.n_head = a->n_head,
                    .n_head_kv = a->n_head_kv,
                    .head_dim = a->head_dim,
                    .window = a->window,
                    .scale = a->scale,
                    .softcap = a->softcap,
                    .kv = x->c.l.kv,
                    .cache = x->cache + n->cache_at,
                    .head_stride = (uint64_t)n->cache_stride * x->c.l.n_kv_block,
                    .block_stride = n->cache_stride,
                    .k = (const float *)(const void *)at(x, n->in[1]),
                    .v = (const float *)(const void *)at(x, n->in[2]),
                    .k_stride = row_floats(x, n->in[1]),
                    .v_stride = row_floats(x, n->in[2]),
                    .exact = x->c.l.act == LARDER_ACT_F32,
                    .step = step_of(x),
                    .max_tok = w->size->tok,
                    .max_seq = w->size->seq,
                    .max_ctx = x->c.l.n_ctx,
                    .decode = w->size->decode};
    if (n->kind != LR_OP_ATTEND) return r;
    r.sinks = floats_at(x, n->b_at);
    r.q = (const float *)(const void *)at(x, n->in[0]);
    r.q_stride = row_floats(x, n->in[0]);
    r.out = (float *)(void *)at(x, n->out);
    r.out_stride = row_floats(x, n->out);
    r.parts = x->parts;
    return r;
}

static cudaError_t rows(walk *w, const lr_phase *ph)
{
    lr_exec *x = w->x;
    w->rows = (lr_cu_rows){.out = ph->rows == LR_ROWS_OUT, .max_row = max_rows(w, ph->rows), .step = step_of(x)};
    for (uint32_t i = 0; i < ph->n; i++) {
        const lr_node *n = lr_code_node(&x->c, ph, i);
        cudaError_t e = cudaSuccess;
        if (n->kind == LR_OP_EMBED) continue; /* the step brought them */
        if (n->kind == LR_NODE_STORE) {
            lr_cu_attn a = attn_of(w, n);
            e = flush(w);
            if (!e) e = lr_cu_attn_store(&x->d, &a, x->stream);
        } else {
            if (w->rows.n == LR_CU_ROWOPS) e = flush(w);
            w->rows.op[w->rows.n++] = row_op(w, n);
        }
        if (e) return e;
    }
    return flush(w);
}

/* ---------------------------------------------------------------- products */
static lr_cu_mat mat_of(const lr_exec *x, const lr_node *n)
{
    const lr_cu_placed *p = lr_cu_find(x, n->t);
    bool routed = n->kind == LR_OP_LINEAR_ROUTED;
    lr_cu_mat m = {.fmt = n->t->fmt,
                   .rows = n->width,
                   .cols = n->n,
                   .data = x->weights + p->at,
                   .row_stride = p->row_stride,
                   .mat_stride = p->mat_stride,
                   .bias = floats_at(x, n->b_at),
                   .y = (float *)(void *)at(x, n->out),
                   .y_stride = routed ? n->width : row_floats(x, n->out)};
    if (p->aux_at == UINT64_MAX) return m;
    m.aux = x->weights + p->aux_at;
    m.aux_stride = p->aux_stride;
    m.aux_mat_stride = p->aux_mat_stride;
    m.aux_rows = n->t->aux_rows;
    m.aux_first = n->t->aux_first;
    return m;
}

/* May two products share a launch? */
static bool alike(const lr_node *a, const lr_node *b)
{
    return a->t->fmt == b->t->fmt && a->in[0] == b->in[0] && a->in[1] == b->in[1] && a->n == b->n && a->add == b->add;
}

static cudaError_t sort(walk *w, const lr_node *n, lr_cu_sort *out)
{
    lr_exec *x = w->x;
    uint32_t max = max_rows(w, n->rows), n_expert = (uint32_t)n->t->ne[2];
    uint64_t all = (uint64_t)LR_MAX(x->c.l.n_tok, x->c.l.n_out) * x->c.n_route;
    uint32_t tile = max <= LR_CU_FEW ? LR_CU_FEW : lr_cu_many_tile(&x->d, max, n->mul, n_expert);
    uint8_t *tiles = x->sort + LR_ALIGN_UP(4 * all, 64), *n_tile = x->sort + x->n.sort - 64;
    lr_cu_sorting s = {.routing = at(x, n->in[1]),
                       .row_bytes = x->c.slots[n->in[1]].row_bytes,
                       .n_row = n_row(x, n->rows),
                       .k = n->mul,
                       .n_expert = n_expert,
                       .tile = tile,
                       .rows = (uint32_t *)(void *)x->sort,
                       .tiles = (uint32_t *)(void *)tiles,
                       .n_tile = (uint32_t *)(void *)n_tile};
    *out = (lr_cu_sort){s.rows, s.tiles, s.n_tile, tile};
    if (w->sorted == n->in[1] && w->tile == tile) return cudaSuccess;
    w->sorted = n->in[1];
    w->tile = tile;
    return lr_cu_sort_run(&x->d, &s, x->stream);
}

static cudaError_t launch(walk *w, const lr_phase *ph, const lr_node *n, lr_cu_mm *m)
{
    lr_exec *x = w->x;
    planes p = planes_of(x, n->in[0], n->actk, n->n, n->in_mul);
    const uint8_t *base = at(x, n->in[0]);
    m->x = (lr_cu_x){.hi = (const uint16_t *)(const void *)base,
                     .lo = lr_cu_two(n->actk) ? (const uint16_t *)(const void *)(base + p.lo) : NULL,
                     .scale = bf16(n->actk) ? NULL : (const float *)(const void *)(base + p.scale),
                     .stride = p.stride,
                     .turned = !few(w, n->rows)};
    m->n_row = n_row(x, n->rows);
    m->max_row = max_rows(w, n->rows);
    m->add = n->add;
    if (ph->kind == LR_PHASE_MOE) {
        m->k = n->mul;
        m->in_mul = n->in_mul;
        cudaError_t e = sort(w, n, &m->sort);
        if (e) return e;
    }
    return (few(w, n->rows) ? lr_cu_mm_few : lr_cu_mm_many)(&x->d, m, x->stream);
}

static cudaError_t products(walk *w, const lr_phase *ph)
{
    uint64_t done = 0; /* of the phase's nodes: it has 64 at most at a time */
    for (uint32_t from = 0; from < ph->n; from += 64, done = 0)
        for (uint32_t i = from, end = LR_MIN(ph->n, from + 64); i < end; i++) {
            const lr_node *n = lr_code_node(&w->x->c, ph, i);
            lr_cu_mm m = {.n = 0};
            if (done >> (i - from) & 1) continue;
            for (uint32_t k = i; k < end && m.n < LR_CU_MATS; k++) {
                const lr_node *o = lr_code_node(&w->x->c, ph, k);
                if (done >> (k - from) & 1 || !alike(n, o)) continue;
                m.w[m.n++] = mat_of(w->x, o);
                done |= 1ull << (k - from);
            }
            cudaError_t e = launch(w, ph, n, &m);
            if (e) return e;
        }
    return cudaSuccess;
}

/* ---------------------------------------------------------------- the walk */
static cudaError_t phase(walk *w, const lr_phase *ph)
{
    switch (ph->kind) {
    case LR_PHASE_MM:
    case LR_PHASE_MOE: return products(w, ph);
    case LR_PHASE_ATTN: {
        lr_cu_attn a = attn_of(w, lr_code_node(&w->x->c, ph, ph->n - 1));
        return lr_cu_attn_run(&w->x->d, &a, w->x->stream);
    }
    default: return rows(w, ph);
    }
}

cudaError_t lr_cu_issue(lr_exec *x, const lr_cu_size *size, bool hidden)
{
    walk w = {.x = x, .size = size, .sorted = LR_NO_SLOT};
    const lr_code *c = &x->c;
    if (x->profiling) cudaEventRecord(x->marks[0], x->stream);
    for (uint32_t p = 0; p < c->n_phase; p++) {
        const lr_phase *ph = &c->phases[p];
        if (hidden && p > c->slots[c->hidden].phase) break;
        cudaError_t e = max_rows(&w, ph->rows) ? phase(&w, ph) : cudaSuccess;
        if (e) return e;
        if (x->profiling) cudaEventRecord(x->marks[p + 1], x->stream);
    }
    return cudaSuccess;
}
