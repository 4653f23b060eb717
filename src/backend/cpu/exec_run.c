/* exec_run.c - a step: the walk over the phases, and those that are rows of numbers.
 *
 * Nothing here depends on how work was dealt: a row is computed by one chain of calls, an output by one call of mm.
 */
#include "exec.h"
#include "mm.h"

#include <assert.h>
#include <math.h>

/* ---------------------------------------------------------------- rows */
static uint32_t token_of(const lr_worker *w, uint8_t rows, uint32_t row)
{
    return rows == LR_ROWS_TOK ? row : w->x->b->out[row];
}

static void do_angles(lr_worker *w, const lr_node *n, uint32_t row, uint32_t tok)
{
    const lr_rope *r = &w->x->c.p->ropes[n->op.rope];
    float *cs = lr_at(w, n->out, row);
    for (uint32_t i = 0; i < r->n_rot / 2; i++) {
        double a = (double)w->x->pos[tok] * r->inv_freq[i];
        cs[2 * i] = (float)(cos(a) * r->mscale);
        cs[2 * i + 1] = (float)(sin(a) * r->mscale);
    }
}

static void do_embed(lr_worker *w, const lr_node *n, uint32_t row, uint32_t tok)
{
    float *y = lr_at(w, n->out, row);
    uint64_t id = (uint64_t)(uint32_t)w->x->b->ids[tok];
    const uint8_t *aux = lr_tensor_aux(n->t, 0, id);
    if (!n->sparse || !lr_exec_look(n->t, id, y, n->width))
        lr_decode_row(n->t->fmt, n->t->data + id * n->t->row_stride, aux, y, n->width);
    if (n->op.scale != 1.0f) w->x->c.k->scale(y, n->op.scale, y, n->width);
}

static void do_norm(lr_worker *w, const lr_node *n, const float *x, float *y)
{
    const lr_kernels *k = w->x->c.k;
    const float *g = lr_floats_at(w, n->w_at), *b = lr_floats_at(w, n->b_at);
    if (n->kind == LR_OP_LAYERNORM) {
        for (uint32_t m = 0; m < n->mul; m++)
            k->layernorm(x + (size_t)m * n->n, g, b, y + (size_t)m * n->n, n->n, n->op.eps);
        return;
    }
    uint32_t group = n->op.group ? n->op.group : n->n, n_group = n->n / group;
    for (uint32_t i = 0; i < n->mul * n_group; i++) {
        const float *gi = g && n->w_n > group ? g + (size_t)(i % n_group) * group : g;
        k->rmsnorm(x + (size_t)i * group, gi, y + (size_t)i * group, group, n->op.eps);
    }
}

/* The k best of the scores, ties to the lower index, and their weights. */
static void do_route(lr_worker *w, const lr_node *n, const float *x, uint32_t *y)
{
    const lr_route *r = &n->op.route;
    uint32_t n_expert = n->n, all = w->x->c.n_expert;
    float *s = (float *)(void *)(w->scratch + w->x->c.at_sort) + 2 * (size_t)all + 2,
          *weight = (float *)(void *)(y + 1);
    const float *bias = lr_floats_at(w, n->b_at);
    memcpy(s, x, n_expert * sizeof *s);
    if (r->gating == LR_ROUTE_SOFTMAX) {
        float sum = w->x->c.k->exp_sum(x, s, n_expert);
        for (uint32_t e = 0; e < n_expert; e++) s[e] /= sum;
    } else if (r->gating == LR_ROUTE_SIGMOID) {
        for (uint32_t e = 0; e < n_expert; e++) s[e] = 1.0f / (1.0f + expf(-x[e]));
    }
    float sum = 0.0f;
    for (uint32_t j = 0; j < r->k; j++) {
        uint32_t best = UINT32_MAX;
        for (uint32_t e = 0; e < n_expert; e++) {
            bool taken = false;
            for (uint32_t i = 0; i < j && !taken; i++) taken = y[2 * i] == e;
            if (taken) continue;
            if (best == UINT32_MAX || s[e] + (bias ? bias[e] : 0.0f) > s[best] + (bias ? bias[best] : 0.0f)) best = e;
        }
        y[2 * j] = best;
        weight[2 * j] = s[best];
    }
    if (r->gating == LR_ROUTE_TOPK_SOFTMAX) {
        float top = weight[0];
        for (uint32_t j = 1; j < r->k; j++) top = LR_MAX(top, weight[2 * j]);
        for (uint32_t j = 0; j < r->k; j++) weight[2 * j] = expf(weight[2 * j] - top);
    }
    for (uint32_t j = 0; j < r->k; j++) sum += weight[2 * j];
    bool divide = r->renorm || r->gating == LR_ROUTE_TOPK_SOFTMAX;
    for (uint32_t j = 0; j < r->k; j++) weight[2 * j] = (divide ? weight[2 * j] / sum : weight[2 * j]) * r->scale;
}

static void do_combine(lr_worker *w, const lr_node *n, const float *x, const uint32_t *routing, float *y)
{
    const lr_kernels *k = w->x->c.k;
    assert(routing);
    for (uint32_t j = 0; j < n->in_mul; j++) {
        float by;
        memcpy(&by, &routing[2 * j + 1], sizeof by);
        if (j == 0) k->scale(x, by, y, n->width);
        else k->axpy(by, x + (size_t)j * n->width, y, n->width);
    }
}

static void do_rope(lr_worker *w, const lr_node *n, const float *x, const float *cs, float *y)
{
    const lr_rope *r = &w->x->c.p->ropes[n->op.rope];
    memcpy(y, x, (size_t)n->width * sizeof *y);
    for (uint32_t h = 0; h + n->op.group <= n->width; h += n->op.group) w->x->c.k->rope(r->kind, y + h, cs, r->n_rot);
}

/* The row, and behind it what that row left of the numbers: `rest` [n] is room for those. */
static void pack_twice(const lr_kernels *k, const float *x, uint32_t n, uint8_t *y, float *rest)
{
    lr_i8_row at = lr_i8_layout(n);
    const int8_t *q = (const int8_t *)y;
    const float *d = (const float *)(const void *)(y + at.d);
    k->act_pack(LR_ACTK_I8, x, n, y);
    for (uint32_t i = 0; i < n; i++) rest[i] = fmaf(-d[i / 32], (float)q[i], x[i]);
    k->act_pack(LR_ACTK_I8, rest, n, y + at.bytes);
}

static void do_pack(lr_worker *w, const lr_node *n, const float *x, uint8_t *y)
{
    const lr_kernels *k = w->x->c.k;
    size_t size = k->act_bytes(n->actk, n->n);
    float *rest = (float *)(void *)(w->scratch + w->x->c.at_mm); /* holds a row of floats of any product's width */
    for (uint32_t m = 0; m < n->mul; m++, x += n->n, y += size) {
        if (n->actk == LR_ACTK_I8X2) pack_twice(k, x, n->n, y, rest);
        else k->act_pack(n->actk, x, n->n, y);
    }
}

static void do_store(lr_worker *w, const lr_node *n, uint32_t tok)
{
    if (w->x->one) return; /* attention does it, and saves a barrier */
    for (uint32_t h = 0; h < n->op.attn.n_head_kv; h++) lr_store_kv(w, n, tok, h);
}

static void do_row(lr_worker *w, const lr_node *n, uint32_t row)
{
    const lr_kernels *k = w->x->c.k;
    uint32_t tok = token_of(w, n->rows, row), all = n->width * n->mul;
    if (n->kind == LR_NODE_STORE) {
        do_store(w, n, tok);
        return;
    }
    float *y = lr_at(w, n->out, row);
    const float *a = NULL, *b = NULL;
    if (n->kind == LR_OP_PICK) a = lr_at(w, n->in[0], tok);
    else if (n->in[0] != LR_NO_SLOT) a = lr_at(w, n->in[0], row);
    if (n->in[1] != LR_NO_SLOT) b = lr_at(w, n->in[1], row);
    assert(a || n->kind == LR_OP_EMBED || n->kind == LR_NODE_ANGLES); /* all others read something */
    switch (n->kind) {
    case LR_OP_EMBED: do_embed(w, n, row, tok); break;
    case LR_OP_RMSNORM:
    case LR_OP_LAYERNORM: do_norm(w, n, a, y); break;
    case LR_OP_ROPE: do_rope(w, n, a, b, y); break;
    case LR_OP_ADD: k->add(a, b, y, all); break;
    case LR_OP_SCALE: k->scale(a, n->op.scale, y, all); break;
    case LR_OP_ACT: k->act((lr_fn)n->op.fn, a, y, all); break;
    case LR_OP_GLU: k->glu((lr_fn)n->op.fn, a, b, y, all); break;
    case LR_OP_SOFTCAP: k->softcap(a, n->op.scale, y, all); break;
    case LR_OP_ROUTE:
        do_route(w, n, a, (uint32_t *)(void *)y);
        if (w->x->on_route)
            w->x->on_route(w->x->on_route_user, n->op.layer, tok, (uint32_t *)(void *)y, n->op.route.k);
        break;
    case LR_OP_COMBINE: do_combine(w, n, a, (const uint32_t *)(const void *)b, y); break;
    case LR_OP_PICK: memcpy(y, a, w->x->c.slots[n->out].row_bytes); break;
    case LR_NODE_PACK: do_pack(w, n, a, (uint8_t *)y); break;
    case LR_NODE_ANGLES: do_angles(w, n, row, tok); break;
    default: break;
    }
}

void lr_run_rows(lr_worker *w, const lr_phase *ph)
{
    const lr_code *c = &w->x->c;
    uint32_t n = lr_rows_of(w->x, ph->rows), from = 0, to = n;
    if (!(ph->local && n == 1)) {
        from = (uint32_t)((uint64_t)n * (uint32_t)w->thread / (uint32_t)w->n_thread);
        to = (uint32_t)((uint64_t)n * ((uint32_t)w->thread + 1) / (uint32_t)w->n_thread);
    }
    for (uint32_t row = from; row < to; row++)
        for (uint32_t i = 0; i < ph->n; i++) do_row(w, &c->nodes[c->order[ph->first + i]], row);
}

/* One number by one number over rows so wide that threads share them. */
void lr_run_wide(lr_worker *w, const lr_phase *ph)
{
    enum { PIECE = 8192 };
    const lr_code *c = &w->x->c;
    const lr_node *n = &c->nodes[c->order[ph->first]];
    uint32_t per_row = (n->width + PIECE - 1) / PIECE, at = (uint32_t)(ph - c->phases);
    uint64_t all = (uint64_t)per_row * lr_rows_of(w->x, ph->rows);
    for (uint64_t u; (u = lr_next(w, at, 1)) < all;) {
        uint32_t row = (uint32_t)(u / per_row), col = (uint32_t)(u % per_row) * PIECE,
                 many = LR_MIN((uint32_t)PIECE, n->width - col);
        const float *x = (const float *)lr_at(w, n->in[0], row) + col;
        float *y = (float *)lr_at(w, n->out, row) + col;
        if (n->kind == LR_OP_SOFTCAP) c->k->softcap(x, n->op.scale, y, many);
        else c->k->scale(x, n->op.scale, y, many);
    }
}

/* ---------------------------------------------------------------- the walk */
static void run_phase(lr_worker *w, const lr_phase *ph)
{
    switch (ph->kind) {
    case LR_PHASE_ROWS: lr_run_rows(w, ph); break;
    case LR_PHASE_MM: lr_run_mm(w, ph); break;
    case LR_PHASE_MOE: lr_run_moe(w, ph); break;
    case LR_PHASE_ATTN: lr_run_attn(w, ph); break;
    case LR_PHASE_WIDE: lr_run_wide(w, ph); break;
    }
}

void lr_exec_walk(void *exec, int thread, int n_thread)
{
    lr_exec *x = exec;
    lr_worker w = {x, thread, n_thread, x->scratch + (size_t)thread * x->c.scratch, LR_NO_SLOT, 0};
    bool timed = x->profiling && thread == 0;
    uint64_t t0 = timed ? lr_now_ns() : 0;
    for (uint32_t p = 0; p < x->c.n_phase; p++) {
        lr_phase *ph = &x->c.phases[p];
        uint32_t rows = lr_rows_of(x, ph->rows);
        if (x->b->hidden && p > x->c.slots[x->c.hidden].phase) break;
        if (!rows) continue;
        run_phase(&w, ph);
        if (!(ph->local && rows == 1)) lr_pool_barrier(x->pool);
        if (!timed) continue;
        uint64_t t1 = lr_now_ns();
        ph->ns += t1 - t0;
        t0 = t1;
        lr_code_count(&x->c, ph, x->b);
    }
}
