/* exec_compile.c - what the CPU adds to a compiled program: forms of activations, copies, phases that every thread does for
 * itself, scratch. */
#include "exec.h"

#define PARTS_UNITS 4 /* attention is split over threads when it has fewer units than this per thread */

/* What a matrix meets. A router makes small errors large by sending a token to another expert, so in routed models
 * int8 activations carry twice the bits, float weights meet no bf16 unless it is asked for, and routers stay float32. What
 * attention brings carries them too: of all int8 rows these err most for their size (docs/cpu.md). */
static int act_kind(const lr_code *c, uint32_t fmt, uint32_t cols, lr_use use)
{
    larder_act act = c->l.act;
    lr_actk kind = c->k->act_kind(fmt, use.routes ? LARDER_ACT_F32 : act, cols);
    if ((unsigned)kind >= LR_ACTK_COUNT) return -1;
    if ((use.routed || use.attended) && kind == LR_ACTK_I8) return LR_ACTK_I8X2;
    if (use.routed && kind == LR_ACTK_BF16 && act != LARDER_ACT_BF16) return LR_ACTK_F32;
    return (int)kind;
}

static size_t act_bytes(const lr_code *c, int kind, uint32_t n) { return c->k->act_bytes((lr_actk)kind, n); }

static uint32_t passes(int kind) { return kind == LR_ACTK_I8X2 ? 2 : 1; }

static larder_act act_of(int kind)
{
    switch (kind) {
    case LR_ACTK_I8:
    case LR_ACTK_I8X2: return LARDER_ACT_I8;
    case LR_ACTK_BF16: return LARDER_ACT_BF16;
    default: return LARDER_ACT_F32;
    }
}

/* Room for a copy of a node's matrices. */
static void add_copy(lr_code *c, lr_node *n)
{
    for (const lr_node *o = c->nodes; o < n; o++)
        if (o->t == n->t && o->copy_at != UINT64_MAX) {
            n->copy_at = o->copy_at;
            return;
        }
    n->fills = true;
    n->copy_at = c->copies;
    c->copies += lr_copy_stride(c, n) * n->t->ne[2];
}

static void matrix(lr_code *c, lr_node *n)
{
    bool meets = n->actk == LR_ACTK_I8 || n->actk == LR_ACTK_I8X2 || n->t->fmt == LR_FMT_F16;
    n->repacked = c->l.repack && meets && !n->t->col_stride && c->k->pack_rows && c->k->can_pack(n->t->fmt, n->n);
    if (n->t->col_stride || c->l.repack) add_copy(c, n);
}

/* ---------------------------------------------------------------- local phases */
/* Does the product in phase q add onto something that phase p reads? */
static bool disturbs(const lr_code *c, const lr_phase *p, const lr_phase *q)
{
    for (uint32_t i = 0; i < q->n; i++) {
        const lr_node *l = lr_code_node(c, q, i);
        if (!l->add) continue;
        uint32_t root = c->slots[l->out].root;
        for (uint32_t j = 0; j < p->n; j++)
            for (int k = 0; k < 3; k++)
                if (lr_code_node(c, p, j)->in[k] != LR_NO_SLOT && c->slots[lr_code_node(c, p, j)->in[k]].root == root)
                    return true;
    }
    return false;
}

/* Which phases of rows every thread does for itself when there is one row; from the last to the first, since it
 * depends on how far the next barrier is. */
static void make_local(lr_code *c)
{
    for (uint32_t p = c->n_phase; p-- > 0;) {
        lr_phase *ph = &c->phases[p];
        ph->local = ph->kind == LR_PHASE_ROWS;
        for (uint32_t i = 0; i < ph->n && ph->local; i++) {
            const lr_node *n = lr_code_node(c, ph, i);
            if (n->out == LR_NO_SLOT) continue;
            const lr_slot *s = &c->slots[n->out];
            if (s->logits || c->slots[s->root].target) ph->local = false;
        }
        for (uint32_t q = p + 1; ph->local && q < c->n_phase; q++) {
            if (disturbs(c, ph, &c->phases[q])) ph->local = false;
            if (!c->phases[q].local) break;
        }
        for (uint32_t i = 0; i < ph->n; i++)
            if (lr_code_node(c, ph, i)->out != LR_NO_SLOT) c->slots[lr_code_node(c, ph, i)->out].local = ph->local;
    }
}

/* Values that never leave the phase of rows that makes them: such a phase does a token's row from end to end. */
static void find_passing(lr_code *c)
{
    for (uint32_t i = 0; i < c->n_slot; i++) {
        lr_slot *s = &c->slots[i];
        s->passing = s->root == i && !s->target && !s->logits && c->phases[s->phase].kind == LR_PHASE_ROWS;
    }
    for (uint32_t i = 0; i < c->n_node; i++) {
        const lr_node *n = &c->nodes[i];
        for (int k = 0; k < 3; k++)
            if (n->in[k] != LR_NO_SLOT && c->slots[n->in[k]].phase != n->phase) c->slots[n->in[k]].passing = false;
    }
    if (c->l.n_hidden) c->slots[c->hidden].passing = false;
}

/* ---------------------------------------------------------------- scratch */
/* Tokens per unit of attention, and most rows of one. */
static void size_tiles(lr_code *c)
{
    c->tile_tok = 64;
    uint32_t group = 1;
    for (uint32_t i = 0; i < c->n_node; i++) {
        const lr_attn *a = &c->nodes[i].op.attn;
        if (c->nodes[i].kind == LR_OP_ATTEND) group = LR_MAX(group, a->n_head / a->n_head_kv);
    }
    c->tile_tok = LR_MAX(1u, 64 / group);
    c->attn_rows = c->tile_tok * group;
}

static void size_scratch(lr_code *c)
{
    uint32_t cols = 0, n = LR_MAX(c->l.n_tok, c->l.n_out);
    bool twice = false;
    uint64_t attn = 0, group = 1, chunks = (c->l.n_ctx + LR_ATTN_CHUNK - 1) / LR_ATTN_CHUNK, part = 0;
    for (uint32_t i = 0; i < c->n_node; i++) {
        const lr_node *x = &c->nodes[i];
        if (x->kind == LR_OP_LINEAR || x->kind == LR_OP_LINEAR_ROUTED) cols = LR_MAX(cols, x->n);
        twice |= x->actk == LR_ACTK_I8X2 && x->kind != LR_NODE_PACK;
        if (x->kind == LR_OP_ROUTE) c->n_expert = LR_MAX(c->n_expert, x->n);
        if (x->kind != LR_OP_ATTEND) continue;
        attn = LR_MAX(attn, lr_attn_scratch(c->attn_rows, x->op.attn.head_dim));
        group = x->op.attn.n_head / x->op.attn.n_head_kv;
        part = LR_MAX(part, group * (lr_attn_pad(x->op.attn.head_dim) + 2) * 4);
    }
    uint64_t rows = LR_MAX((uint64_t)n, c->attn_rows);
    c->at_ptrs = c->local;
    c->at_attn = c->at_ptrs +
                 LR_ALIGN_UP(rows * 48, 64); /* of a product: rows of x and y, and of both halves of I8X2 */
    c->at_mm = c->at_attn + LR_ALIGN_UP(attn, 64);
    c->mm_bytes = cols ? LR_ALIGN_UP(c->k->mm_scratch(twice ? 2 * n : n, cols), 64) : 0;
    c->at_twice = c->at_mm + c->mm_bytes;
    c->at_sort = c->at_twice + (twice ? LR_ALIGN_UP(8ull * n * LR_TWICE_ROWS, 64) : 0);
    /* first of each expert, the experts in use, the scores; rows by expert */
    c->scratch = c->at_sort + LR_ALIGN_UP(((uint64_t)c->n_expert * 3 + 2 + (uint64_t)n * c->n_route) * 4, 64);
    c->scratch = LR_ALIGN_UP(c->scratch, 4096);
    c->parts = chunks > 1 ? LR_ALIGN_UP(part, 64) * PARTS_UNITS * c->l.n_thread * chunks : 0;
}

static void shape(lr_code *c)
{
    size_tiles(c);
    make_local(c);
    find_passing(c);
}

static const lr_target target = {.act_kind = act_kind,
                                 .act_bytes = act_bytes,
                                 .act_of = act_of,
                                 .passes = passes,
                                 .block_bytes = lr_attn_block_bytes,
                                 .matrix = matrix,
                                 .shape = shape};

larder_status lr_cpu_code_make(const lr_program *p, const lr_limits *l, lr_code *out, larder_error *err)
{
    *out = (lr_code){.k = lr_kernels_get(lr_cpu_isa())};
    if (!out->k) return lr_fail(err, LARDER_UNSUPPORTED, "no kernels for %s", lr_isa_name(lr_cpu_isa()));
    LR_TRY(lr_code_make(&target, p, l, out, err));
    size_scratch(out);
    return LARDER_OK;
}
