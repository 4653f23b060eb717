/* code.c - from a program to phases: what is computed only where it is wanted, fused, ordered and laid out. */
#include "code.h"

#include <assert.h>
#include <stdio.h>

#define MAX_TOK 65536

typedef struct maker {
    lr_code *c;
    lr_op *ops; /* after picking early */
    lr_value *vals;
    uint32_t n_op, n_val, cap_op, cap_val;
    uint32_t *slot_of; /* value -> slot */
    uint32_t *angles;  /* [rope * 2 + rows] -> slot */
    uint32_t *add_of;  /* op -> the LINEAR's op that is fused into it, or UINT32_MAX */
    uint32_t *out_of;  /* LINEAR op -> the ADD it is fused into, or UINT32_MAX */
    bool *routes;      /* value feeds a ROUTE */
    bool routed;       /* there is a ROUTE */
    larder_error *err;
} maker;

static int n_in(uint8_t kind)
{
    switch (kind) {
    case LR_OP_EMBED: return 0;
    case LR_OP_ADD:
    case LR_OP_GLU:
    case LR_OP_LINEAR_ROUTED:
    case LR_OP_COMBINE: return 2;
    case LR_OP_ATTEND: return 3;
    default: return 1;
    }
}

/* ---------------------------------------------------------------- picking early
 * A value that nobody needs for every token is computed for the wanted ones alone: PICK moves up, to attention. */
static void need_all(const lr_program *p, bool *need)
{
    for (uint32_t i = p->n_ops; i-- > 0;) {
        const lr_op *o = &p->ops[i];
        if (o->kind == LR_OP_PICK) continue;
        bool attend = o->kind == LR_OP_ATTEND;
        if (attend) need[o->out] = true;
        if (p->values[o->out].rows == LR_ROWS_OUT || (!need[o->out] && !attend)) continue;
        for (int k = 0; k < n_in(o->kind); k++) need[o->in[k]] = true;
    }
}

static lr_val picked(maker *m, lr_val v, lr_val *of)
{
    if (m->vals[v].rows == LR_ROWS_OUT) return v;
    if (of[v] != LR_NONE) return of[v];
    lr_val w = (lr_val)m->n_val++;
    m->vals[w] = m->vals[v];
    m->vals[w].rows = LR_ROWS_OUT;
    m->ops[m->n_op++] = (lr_op){
        .kind = LR_OP_PICK, .layer = 0xffff, .in = {v, LR_NONE, LR_NONE}, .out = w, .w = LR_NONE, .bias = LR_NONE};
    return of[v] = w;
}

static larder_status pick_early(maker *m)
{
    const lr_program *p = m->c->p;
    lr_arena *a = &m->c->arena;
    if (p->n_values >= LR_NONE / 2) return lr_fail(m->err, LARDER_LIMIT, "a program of %u values", p->n_values);
    m->cap_val = 2 * p->n_values;
    m->cap_op = p->n_ops + p->n_values;
    bool *need = lr_arena_array(a, p->n_values, sizeof *need);
    lr_val *map = lr_arena_array(a, p->n_values, sizeof *map), *of = lr_arena_array(a, m->cap_val, sizeof *of);
    m->ops = lr_arena_array(a, m->cap_op, sizeof *m->ops);
    m->vals = lr_arena_array(a, m->cap_val, sizeof *m->vals);
    if (!need || !map || !of || !m->ops || !m->vals) return LR_NOMEM(m->err, "compiling");
    need_all(p, need);
    memcpy(m->vals, p->values, p->n_values * sizeof *m->vals);
    m->n_val = p->n_values;
    for (uint32_t v = 0; v < p->n_values; v++) map[v] = (lr_val)v;
    for (uint32_t v = 0; v < m->cap_val; v++) of[v] = LR_NONE;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        lr_op o = p->ops[i];
        bool pick = o.kind == LR_OP_PICK;
        if (!pick && m->vals[o.out].rows == LR_ROWS_TOK && !need[o.out]) m->vals[o.out].rows = LR_ROWS_OUT;
        for (int k = 0; k < n_in(o.kind); k++) {
            o.in[k] = map[o.in[k]];
            if (m->vals[o.out].rows == LR_ROWS_OUT && !pick) o.in[k] = picked(m, o.in[k], of);
        }
        if (pick) {
            map[o.out] = picked(m, o.in[0], of);
            continue;
        }
        m->ops[m->n_op++] = o;
    }
    m->c->logits = map[p->logits]; /* a value for now; make_nodes turns it into a slot */
    if (m->vals[m->c->logits].rows != LR_ROWS_OUT)
        return lr_fail(m->err, LARDER_UNSUPPORTED, "the program's output has a row for every token");
    if (!m->c->l.n_hidden) return LARDER_OK;
    if (p->hidden >= p->n_values) return lr_fail(m->err, LARDER_UNSUPPORTED, "the program has no hidden states");
    m->c->hidden = map[p->hidden];
    return LARDER_OK;
}

/* ---------------------------------------------------------------- residuals
 * x + W h where x dies there: the product is added onto x where it lies. */
static bool reads(const lr_op *o, lr_val v)
{
    for (int k = 0; k < n_in(o->kind); k++)
        if (o->in[k] == v) return true;
    return false;
}

static bool can_fuse(const maker *m, uint32_t add, lr_val x, lr_val y, uint32_t *linear)
{
    if (x == y || x == m->c->logits || y == m->c->logits || m->vals[y].mul != 1 || m->vals[x].mul != 1) return false;
    uint32_t l = add;
    while (l > 0 && m->ops[l - 1].out != y) l--;
    if (l == 0 || m->ops[l - 1].kind != LR_OP_LINEAR) return false;
    *linear = --l;
    bool before = false;
    for (uint32_t i = 0; i < m->n_op; i++) {
        if (i < l && m->ops[i].out == x) before = true;
        if (i != add && (reads(&m->ops[i], y) || (i > l && reads(&m->ops[i], x)))) return false;
    }
    return before;
}

static larder_status find_residuals(maker *m)
{
    lr_arena *a = &m->c->arena;
    m->add_of = lr_arena_array(a, m->n_op, sizeof *m->add_of);
    m->out_of = lr_arena_array(a, m->n_op, sizeof *m->out_of);
    m->routes = lr_arena_array(a, m->n_val, sizeof *m->routes);
    if (!m->add_of || !m->out_of || !m->routes) return LR_NOMEM(m->err, "compiling");
    for (uint32_t i = 0; i < m->n_op; i++) m->add_of[i] = m->out_of[i] = UINT32_MAX;
    for (uint32_t i = 0; i < m->n_op; i++) {
        const lr_op *o = &m->ops[i];
        uint32_t l;
        if (o->kind == LR_OP_ROUTE) m->routes[o->in[0]] = m->routed = true;
        if (o->kind != LR_OP_ADD) continue;
        if (!can_fuse(m, i, o->in[0], o->in[1], &l) && !can_fuse(m, i, o->in[1], o->in[0], &l)) continue;
        m->add_of[i] = l;
        m->out_of[l] = i;
    }
    return LARDER_OK;
}

/* ---------------------------------------------------------------- nodes */
static uint32_t new_slot(maker *m, uint64_t row_bytes, uint8_t rows)
{
    lr_code *c = m->c;
    assert(c->n_slot < c->cap_slot);
    c->slots[c->n_slot] = (lr_slot){.row_bytes = row_bytes, .rows = rows, .root = c->n_slot};
    return c->n_slot++;
}

static uint32_t slot_of_value(maker *m, lr_val v)
{
    if (m->slot_of[v] == LR_NO_SLOT) {
        const lr_value *x = &m->vals[v];
        uint64_t row = x->routing ? (uint64_t)x->width * 8 : (uint64_t)x->width * 4;
        m->slot_of[v] = new_slot(m, LR_ALIGN_UP(row * x->mul, 64), x->rows);
    }
    return m->slot_of[v];
}

static lr_node *new_node(maker *m, uint8_t kind, const lr_op *op, uint8_t rows)
{
    lr_code *c = m->c;
    assert(c->n_node < c->cap_node);
    lr_node *n = &c->nodes[c->n_node++];
    *n = (lr_node){.kind = kind,
                   .rows = rows,
                   .in = {LR_NO_SLOT, LR_NO_SLOT, LR_NO_SLOT},
                   .out = LR_NO_SLOT,
                   .mul = 1,
                   .in_mul = 1,
                   .w_at = UINT64_MAX,
                   .b_at = UINT64_MAX,
                   .copy_at = UINT64_MAX};
    n->op = *op;
    return n;
}

static const lr_tensor *tensor_of(const lr_code *c, uint16_t w) { return c->p->weights[w].t; }

uint64_t lr_code_floats(lr_code *c, uint16_t w, uint32_t *n)
{
    if (w == LR_NONE) return UINT64_MAX;
    const lr_tensor *t = tensor_of(c, w);
    uint64_t at = c->floats, all = t->ne[0] * t->ne[1] * t->ne[2];
    c->floats += LR_ALIGN_UP(all, 16);
    if (n) *n = (uint32_t)LR_MIN(all, UINT32_MAX);
    return at;
}

/* Packed rows of a value, made once for all products of one kind. */
static uint32_t packed(maker *m, lr_val v, int kind, const lr_op *op)
{
    lr_code *c = m->c;
    uint32_t in = slot_of_value(m, v);
    for (uint32_t i = 0; i < c->n_node; i++)
        if (c->nodes[i].kind == LR_NODE_PACK && c->nodes[i].in[0] == in && c->nodes[i].actk == kind)
            return c->nodes[i].out;
    lr_node *n = new_node(m, LR_NODE_PACK, op, m->vals[v].rows);
    n->actk = kind;
    n->n = m->vals[v].width;
    n->mul = n->in_mul = m->vals[v].mul;
    n->in[0] = in;
    n->out = new_slot(m, (uint64_t)c->target->act_bytes(c, kind, n->n) * n->mul, n->rows);
    return n->out;
}

static uint32_t angles(maker *m, uint16_t rope, uint8_t rows, const lr_op *op)
{
    uint32_t *at = &m->angles[rope * 2 + rows];
    if (*at == LR_NO_SLOT) {
        lr_node *n = new_node(m, LR_NODE_ANGLES, op, rows);
        n->width = m->c->p->ropes[rope].n_rot;
        n->out = *at = new_slot(m, LR_ALIGN_UP((uint64_t)n->width * 4, 64), rows);
    }
    return *at;
}

static larder_status matrix(maker *m, lr_node *n, const lr_op *o)
{
    lr_code *c = m->c;
    const lr_tensor *t = n->t = tensor_of(c, o->w);
    const lr_fmt_info *f = lr_fmt_get(t->fmt);
    if (!f)
        return lr_fail(m->err, LARDER_UNSUPPORTED, "tensor %.*s has number format %u, which larder does not hold",
                       LR_STR_ARG(t->name), t->fmt);
    if (t->col_stride && f->block != 1)
        return lr_fail(m->err, LARDER_UNSUPPORTED, "tensor %.*s (%s) would have to be turned", LR_STR_ARG(t->name),
                       f->name);
    if (c->target->matrix) c->target->matrix(c, n);
    if (n->kind == LR_OP_LINEAR_ROUTED) c->n_expert = LR_MAX(c->n_expert, (uint32_t)t->ne[2]);
    return LARDER_OK;
}

/* A value that attention brought, for all rows or those picked of it. */
static bool attended(const maker *m, uint32_t before, lr_val v)
{
    for (uint32_t i = before; i-- > 0;) {
        const lr_op *o = &m->ops[i];
        if (o->out != v) continue;
        if (o->kind != LR_OP_PICK) return o->kind == LR_OP_ATTEND;
        v = o->in[0];
    }
    return false;
}

static larder_status linear(maker *m, uint32_t i)
{
    const lr_op *o = &m->ops[i];
    lr_code *c = m->c;
    const lr_value *x = &m->vals[o->in[0]], *y = &m->vals[o->out];
    if (o->kind == LR_OP_LINEAR && (x->mul != 1 || y->mul != 1))
        return lr_fail(m->err, LARDER_UNSUPPORTED, "a plain product over routed rows");
    lr_use use = {m->routes[o->out], m->routed, attended(m, i, o->in[0])};
    int kind = c->target->act_kind(c, tensor_of(c, o->w)->fmt, x->width, use);
    if (kind < 0)
        return lr_fail(m->err, LARDER_UNSUPPORTED, "no product for tensor %.*s",
                       LR_STR_ARG(tensor_of(c, o->w)->name));
    uint32_t pack = packed(m, o->in[0], kind, o);
    lr_node *n = new_node(m, o->kind, o, y->rows);
    n->actk = kind;
    n->n = x->width;
    n->width = y->width;
    n->mul = y->mul;
    n->in_mul = x->mul;
    n->in[0] = pack;
    if (o->kind == LR_OP_LINEAR_ROUTED) {
        n->in[1] = slot_of_value(m, o->in[1]);
        c->n_route = LR_MAX(c->n_route, y->mul);
    }
    n->b_at = lr_code_floats(c, o->bias, NULL);
    if (m->out_of[i] == UINT32_MAX) {
        n->out = slot_of_value(m, o->out);
    } else { /* onto the residual */
        const lr_op *a = &m->ops[m->out_of[i]];
        uint32_t onto = slot_of_value(m, a->in[a->in[0] == o->out]);
        n->add = true;
        n->in[2] = onto;
        n->out = slot_of_value(m, a->out);
        c->slots[n->out].root = c->slots[onto].root;
        c->slots[c->slots[onto].root].target = true;
    }
    return matrix(m, n, o);
}

static void attend(maker *m, const lr_op *o)
{
    lr_code *c = m->c;
    const lr_attn *a = &o->attn;
    uint32_t q = slot_of_value(m, o->in[0]), k = slot_of_value(m, o->in[1]), v = slot_of_value(m, o->in[2]);
    uint32_t stride = (uint32_t)c->target->block_bytes(a->head_dim, c->l.kv);
    uint64_t at = c->cache;
    c->cache += (uint64_t)stride * a->n_head_kv * c->l.n_kv_block;
    lr_node *s = new_node(m, LR_NODE_STORE, o, LR_ROWS_TOK);
    s->in[1] = k;
    s->in[2] = v;
    lr_node *n = new_node(m, LR_OP_ATTEND, o, LR_ROWS_TOK);
    n->in[0] = q;
    n->in[1] = k;
    n->in[2] = v;
    n->out = slot_of_value(m, o->out);
    n->b_at = lr_code_floats(c, a->sinks, NULL);
    n->cache_at = s->cache_at = at;
    n->cache_stride = s->cache_stride = stride;
}

static larder_status make_node(maker *m, uint32_t i)
{
    lr_code *c = m->c;
    const lr_op *o = &m->ops[i];
    const lr_value *out = &m->vals[o->out];
    if (o->kind == LR_OP_LINEAR || o->kind == LR_OP_LINEAR_ROUTED) return linear(m, i);
    if (o->kind == LR_OP_ATTEND) {
        attend(m, o);
        return LARDER_OK;
    }
    if (m->add_of[i] != UINT32_MAX) return LARDER_OK;
    if (o->kind >= LR_OP_KINDS) return lr_fail(m->err, LARDER_UNSUPPORTED, "operator %u", o->kind);
    uint32_t cs = o->kind == LR_OP_ROPE ? angles(m, o->rope, out->rows, o) : LR_NO_SLOT;
    lr_node *n = new_node(m, o->kind, o, out->rows);
    for (int k = 0; k < n_in(o->kind); k++) n->in[k] = slot_of_value(m, o->in[k]);
    if (cs != LR_NO_SLOT) n->in[1] = cs;
    n->n = n_in(o->kind) ? m->vals[o->in[0]].width : 0;
    n->in_mul = n_in(o->kind) ? m->vals[o->in[0]].mul : 1;
    n->width = out->width;
    n->mul = out->mul;
    n->out = slot_of_value(m, o->out);
    if (o->kind == LR_OP_EMBED) {
        n->t = tensor_of(c, o->w);
        if (!lr_fmt_get(n->t->fmt) || n->t->col_stride)
            return lr_fail(m->err, LARDER_UNSUPPORTED, "tensor %.*s cannot be looked up by row",
                           LR_STR_ARG(n->t->name));
    } else if (o->kind == LR_OP_RMSNORM || o->kind == LR_OP_LAYERNORM) {
        n->w_at = lr_code_floats(c, o->w, &n->w_n);
        n->b_at = lr_code_floats(c, o->kind == LR_OP_LAYERNORM ? o->bias : LR_NONE, NULL);
    } else if (o->kind == LR_OP_ROUTE) {
        n->b_at = lr_code_floats(c, o->route.bias, NULL);
    }
    return LARDER_OK;
}

static larder_status make_nodes(maker *m)
{
    lr_code *c = m->c;
    c->cap_node = 3 * m->n_op + 16;
    c->cap_slot = m->n_val + c->cap_node;
    c->nodes = lr_arena_array(&c->arena, c->cap_node, sizeof *c->nodes);
    c->slots = lr_arena_array(&c->arena, c->cap_slot, sizeof *c->slots);
    m->slot_of = lr_arena_array(&c->arena, m->n_val, sizeof *m->slot_of);
    m->angles = lr_arena_array(&c->arena, 2 * LR_LEN(c->p->ropes), sizeof *m->angles);
    if (!c->nodes || !c->slots || !m->slot_of || !m->angles) return LR_NOMEM(m->err, "compiling");
    for (uint32_t v = 0; v < m->n_val; v++) m->slot_of[v] = LR_NO_SLOT;
    for (uint32_t i = 0; i < 2 * LR_LEN(c->p->ropes); i++) m->angles[i] = LR_NO_SLOT;
    for (uint32_t i = 0; i < m->n_op; i++) LR_TRY(make_node(m, i));
    c->logits = slot_of_value(m, (lr_val)c->logits);
    c->slots[c->logits].logits = true;
    c->slots[c->logits].row_bytes = (uint64_t)c->p->n_vocab * 4;
    if (c->l.n_hidden) c->hidden = slot_of_value(m, (lr_val)c->hidden);
    return LARDER_OK;
}

/* ---------------------------------------------------------------- phases */
static lr_phase_kind kind_of(const lr_code *c, const lr_node *n)
{
    switch (n->kind) {
    case LR_OP_LINEAR: return LR_PHASE_MM;
    case LR_OP_LINEAR_ROUTED: return LR_PHASE_MOE;
    case LR_OP_ATTEND: return LR_PHASE_ATTN;
    case LR_OP_SCALE:
    case LR_OP_SOFTCAP: return n->out == c->logits ? LR_PHASE_WIDE : LR_PHASE_ROWS;
    default: return LR_PHASE_ROWS;
    }
}

/* The earliest phase a node may stand in, given those that stand. */
static uint32_t earliest(const lr_code *c, const lr_node *n, lr_phase_kind kind)
{
    uint32_t at = 0;
    for (int k = 0; k < 3; k++) {
        if (n->in[k] == LR_NO_SLOT) continue;
        const lr_slot *s = &c->slots[n->in[k]];
        const lr_phase *ph = &c->phases[s->phase];
        bool same = kind == LR_PHASE_ROWS && ph->kind == kind && ph->rows == n->rows && n->kind != LR_OP_PICK;
        at = LR_MAX(at, s->phase + !same);
    }
    const lr_node *before = n - 1;
    if (n->kind == LR_OP_ATTEND) at = LR_MAX(at, before->phase + 1); /* after its STORE */
    if (!n->add) return at;
    uint32_t root = c->slots[n->in[2]].root; /* after all who read what it is added onto */
    for (const lr_node *r = c->nodes; r < n; r++)
        for (int k = 0; k < 3; k++)
            if (r->in[k] != LR_NO_SLOT && c->slots[r->in[k]].root == root) at = LR_MAX(at, r->phase + 1);
    return at;
}

static larder_status make_phases(maker *m)
{
    lr_code *c = m->c;
    c->phases = lr_arena_array(&c->arena, (size_t)c->n_node + 1, sizeof *c->phases);
    c->order = lr_arena_array(&c->arena, (size_t)c->n_node + 1, sizeof *c->order);
    if (!c->phases || !c->order) return LR_NOMEM(m->err, "compiling");
    for (uint32_t i = 0; i < c->n_node; i++) {
        lr_node *n = &c->nodes[i];
        lr_phase_kind kind = kind_of(c, n);
        uint32_t at = earliest(c, n, kind);
        if (kind == LR_PHASE_WIDE || kind == LR_PHASE_ATTN) at = LR_MAX(at, c->n_phase);
        while (at < c->n_phase && (c->phases[at].kind != kind || c->phases[at].rows != n->rows)) at++;
        at = LR_MIN(at, c->n_phase);
        if (at == c->n_phase) c->phases[c->n_phase++] = (lr_phase){.kind = kind, .rows = n->rows};
        n->phase = at;
        if (n->out != LR_NO_SLOT) c->slots[n->out].phase = at;
    }
    uint32_t w = 0;
    for (uint32_t p = 0; p < c->n_phase; p++) {
        c->phases[p].first = w;
        for (uint32_t i = 0; i < c->n_node; i++)
            if (c->nodes[i].phase == p) c->order[w++] = i;
        c->phases[p].n = w - c->phases[p].first;
    }
    return LARDER_OK;
}

/* ---------------------------------------------------------------- memory */
/* A local phase ends without a barrier, so what it reads stays until one comes. */
static uint32_t barrier_after(const lr_code *c, uint32_t p)
{
    while (p + 1 < c->n_phase && c->phases[p].local) p++;
    return p;
}

static void find_lifetimes(lr_code *c)
{
    for (uint32_t i = 0; i < c->n_slot; i++) {
        c->slots[i].first = UINT32_MAX;
        c->slots[i].last = 0;
    }
    for (uint32_t i = 0; i < c->n_node; i++) {
        const lr_node *n = &c->nodes[i];
        uint32_t end = barrier_after(c, n->phase);
        for (int k = 0; k < 4; k++) {
            uint32_t at = k < 3 ? n->in[k] : n->out;
            if (at == LR_NO_SLOT) continue;
            lr_slot *s = &c->slots[c->slots[at].root];
            s->first = LR_MIN(s->first, n->phase);
            s->last = LR_MAX(s->last, end);
            s->made = true;
        }
    }
}

uint32_t lr_code_most_rows(const lr_code *c, const lr_slot *s)
{
    if (s->rows == LR_ROWS_TOK) return c->l.n_tok;
    bool after = !c->l.n_hidden || s->phase > c->slots[c->hidden].phase;
    return after ? c->l.n_out : LR_MAX(c->l.n_out, c->l.n_hidden);
}

/* Lowest place free during the slot's life. Slots placed so far are by[0..n), in order of place. */
static uint64_t place(lr_code *c, uint32_t *by, uint32_t *n, uint32_t s, uint64_t size, bool local)
{
    const lr_slot *x = &c->slots[s];
    uint64_t at = 0;
    for (uint32_t i = 0; i < *n; i++) {
        const lr_slot *o = &c->slots[by[i]];
        uint64_t o_at = local ? o->at_local : o->at;
        uint64_t o_size = o->row_bytes * (local ? 1 : lr_code_most_rows(c, o));
        if (o->last < x->first || x->last < o->first) continue;
        if (at + size <= o_at) break;
        at = LR_MAX(at, LR_ALIGN_UP(o_at + o_size, 64));
    }
    uint32_t i = (*n)++;
    while (i > 0 && (local ? c->slots[by[i - 1]].at_local : c->slots[by[i - 1]].at) > at) {
        by[i] = by[i - 1];
        i--;
    }
    by[i] = s;
    return at;
}

static larder_status lay_out(maker *m)
{
    lr_code *c = m->c;
    uint32_t *by = lr_arena_array(&c->arena, (size_t)c->n_slot + 1, sizeof *by), n_shared = 0, n_local = 0;
    uint32_t *by_local = lr_arena_array(&c->arena, (size_t)c->n_slot + 1, sizeof *by);
    uint32_t *wide = lr_arena_array(&c->arena, (size_t)c->n_slot + 1, sizeof *wide);
    if (!by || !by_local || !wide) return LR_NOMEM(m->err, "compiling");
    for (uint32_t k = 0; k < c->n_slot; k++) { /* the widest first: they fit worst */
        uint32_t at = k;
        for (; at > 0 && c->slots[wide[at - 1]].row_bytes < c->slots[k].row_bytes; at--) wide[at] = wide[at - 1];
        wide[at] = k;
    }
    for (uint32_t k = 0; k < c->n_slot; k++) {
        lr_slot *s = &c->slots[wide[k]];
        if (s->root != wide[k] || s->logits || !s->made) continue;
        if (!s->passing) {
            uint64_t size = s->row_bytes * lr_code_most_rows(c, s);
            s->at = place(c, by, &n_shared, wide[k], size, false);
            c->shared = LR_MAX(c->shared, s->at + size);
        }
        if (!s->local && !s->passing) continue;
        s->at_local = place(c, by_local, &n_local, wide[k], s->row_bytes, true);
        c->local = LR_MAX(c->local, s->at_local + s->row_bytes);
    }
    for (uint32_t i = 0; i < c->n_slot; i++) c->slots[i].at = c->slots[c->slots[i].root].at;
    c->shared = LR_ALIGN_UP(c->shared, 64);
    c->local = LR_ALIGN_UP(c->local, 64);
    return LARDER_OK;
}

/* "rmsnorm, pack": what a phase of rows does, each kind once. */
static void name_rows(const lr_code *c, lr_phase *ph)
{
    size_t k = 0;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < ph->n && k < sizeof ph->name; i++) {
        uint8_t kind = lr_code_node(c, ph, i)->kind;
        if (seen >> kind & 1) continue;
        seen |= 1ull << kind;
        const char *name = kind == LR_NODE_PACK     ? "pack"
                           : kind == LR_NODE_STORE  ? "store"
                           : kind == LR_NODE_ANGLES ? "angles"
                                                    : lr_op_name((lr_op_kind)kind);
        k += (size_t)snprintf(ph->name + k, sizeof ph->name - k, "%s%s", k ? ", " : "", name);
    }
}

static void describe(lr_code *c)
{
    for (uint32_t p = 0; p < c->n_phase; p++) {
        lr_phase *ph = &c->phases[p];
        for (uint32_t i = 0; i < ph->n; i++) {
            const lr_node *n = lr_code_node(c, ph, i);
            if (n->kind != LR_OP_LINEAR && n->kind != LR_OP_LINEAR_ROUTED) continue;
            uint64_t row = lr_fmt_row_bytes(n->t->fmt, n->n);
            if (n->t->aux) row += n->t->aux_row_stride / LR_MAX(n->t->aux_rows, 1u);
            ph->bytes += row * n->width * n->t->ne[2];
            ph->tiles += (n->width + 15) / 16;
        }
        const lr_node *n = lr_code_node(c, ph, 0);
        switch (ph->kind) {
        case LR_PHASE_MM:
        case LR_PHASE_MOE: {
            /* "blk.3.attn_q.weight" and two more: "blk.attn_q +2" */
            lr_str s = n->t->name;
            size_t k = 0;
            bool dot = true;
            for (size_t i = 0; i < s.n && k + 12 < sizeof ph->name; i++) {
                bool skip = dot && s.p[i] >= '0' && s.p[i] <= '9';
                if (skip && i + 1 < s.n && s.p[i + 1] == '.') i++;
                if (!skip) dot = s.p[i] == '.';
                if (!skip) ph->name[k++] = s.p[i];
            }
            if (k > 7 && !memcmp(ph->name + k - 7, ".weight", 7)) k -= 7;
            ph->name[k] = 0;
            if (ph->n > 1) snprintf(ph->name + k, sizeof ph->name - k, " +%u", ph->n - 1);
            break;
        }
        case LR_PHASE_ATTN: snprintf(ph->name, sizeof ph->name, "attention"); break;
        default: name_rows(c, ph); break;
        }
    }
}

static larder_status check(const lr_program *p, const lr_limits *l, larder_error *err)
{
    if (!l->n_tok || l->n_tok > MAX_TOK || l->n_out > l->n_tok || l->n_hidden > l->n_tok || !l->n_seq ||
        !l->n_thread || l->n_thread > 1024)
        return lr_fail(err, LARDER_USAGE, "a step of %u tokens, %u outputs, %u sequences, %u threads", l->n_tok,
                       l->n_out, l->n_seq, l->n_thread);
    if (l->n_ctx > (1u << 24))
        return lr_fail(err, LARDER_LIMIT, "a context of %u tokens: at most %u", l->n_ctx, 1u << 24);
    LR_TRY(lr_program_check(p, err));
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const lr_op *o = &p->ops[i];
        const lr_attn *a = &o->attn;
        if (o->kind == LR_OP_ATTEND && (a->head_dim > 4096 || a->n_head > 65536))
            return lr_fail(err, LARDER_UNSUPPORTED, "attention of %u heads over %u of width %u", a->n_head,
                           a->n_head_kv, a->head_dim);
    }
    return LARDER_OK;
}

/* Bytes of a weight that a step reads where they are mapped. What is copied whole it does not read there, but for rows that
 * are looked up and scales in a second tensor. */
static uint64_t read_in_place(const lr_code *c, const lr_tensor *t)
{
    uint64_t copied = 0;
    for (uint32_t i = 0; i < c->n_node; i++) {
        const lr_node *n = &c->nodes[i];
        if (n->t != t) continue;
        if (n->kind == LR_OP_EMBED) return t->n_bytes;
        if (n->copy_at != UINT64_MAX && !t->col_stride) copied = lr_fmt_row_bytes(t->fmt, n->n) * n->width * t->ne[2];
    }
    if (!copied) return t->n_bytes;
    return t->aux && t->n_bytes > copied ? t->n_bytes - copied : 0;
}

larder_status lr_code_make(const lr_target *target, const lr_program *p, const lr_limits *l, lr_code *out,
                           larder_error *err)
{
    out->target = target;
    out->p = p;
    out->l = *l;
    LR_TRY(check(p, l, err));
    maker m = {.c = out, .err = err};
    larder_status st;
    LR_GO(pick_early(&m));
    LR_GO(find_residuals(&m));
    LR_GO(make_nodes(&m));
    LR_GO(make_phases(&m));
    if (target->shape) target->shape(out);
    find_lifetimes(out);
    LR_GO(lay_out(&m));
    describe(out);
    out->logits_bytes = LR_ALIGN_UP((uint64_t)l->n_out * p->n_vocab * 4, 64);
    for (uint32_t i = 0; i < p->n_weights; i++) out->weights += read_in_place(out, p->weights[i].t);
    return LARDER_OK;
fail:
    lr_code_free(out);
    return st;
}

void lr_code_free(lr_code *c) { lr_arena_free(&c->arena); }

larder_status lr_code_check(const lr_code *c, const lr_batch *b, larder_error *err)
{
    const lr_limits *l = &c->l;
    uint32_t most_out = b->hidden ? l->n_hidden : l->n_out;
    if (b->n_tok > l->n_tok || b->n_out > most_out || b->n_seq > l->n_seq)
        return lr_fail(err, LARDER_LIMIT,
                       "a step of %u tokens, %u outputs, %u sequences, where at most %u, %u, %u were planned",
                       b->n_tok, b->n_out, b->n_seq, l->n_tok, most_out, l->n_seq);
    uint64_t n = 0;
    for (uint32_t s = 0; s < b->n_seq; s++) {
        const lr_batch_seq *q = &b->seqs[s];
        uint64_t end = (uint64_t)q->n_past + q->n_tok;
        if (!q->n_tok) return lr_fail(err, LARDER_USAGE, "a sequence without tokens");
        if (end > l->n_ctx)
            return lr_fail(err, LARDER_LIMIT, "%llu tokens, where the context holds %u", (unsigned long long)end,
                           l->n_ctx);
        for (uint64_t i = 0; i < (end + LR_KV_BLOCK - 1) / LR_KV_BLOCK; i++)
            if (q->blocks[i] >= l->n_kv_block) return lr_fail(err, LARDER_USAGE, "no cache block %u", q->blocks[i]);
        n += q->n_tok;
    }
    if (n != b->n_tok || !n)
        return lr_fail(err, LARDER_USAGE, "%u tokens, but sequences of %llu", b->n_tok, (unsigned long long)n);
    for (uint32_t i = 0; i < b->n_out; i++)
        if (b->out[i] >= b->n_tok || (i && b->out[i] <= b->out[i - 1]))
            return lr_fail(err, LARDER_USAGE, "outputs must rise within the step");
    for (uint32_t i = 0; i < b->n_tok; i++)
        if (b->ids[i] < 0 || (uint32_t)b->ids[i] >= c->p->n_vocab)
            return lr_fail(err, LARDER_USAGE, "no token %d", b->ids[i]);
    return LARDER_OK;
}
