/* layout.c - what a compiled program needs on a card, and where everything lies there.
 *
 * Owns: forms of activations, places of weights, sizes of buffers. Refuses to own: taking memory (card.c).
 */
#include "card.h"

/* ---------------------------------------------------------------- activations
 * A router makes a small error large by sending a token to another expert, so in models that have one all weights meet
 * two halves, unless one was asked for; float32 weights mean it, and meet two too. So do all in exact mode. */
static int act_kind(const lr_code *c, uint32_t fmt, uint32_t cols, lr_use use)
{
    (void)cols;
    bool two = use.routes || (use.routed && c->l.act == LARDER_ACT_AUTO) || c->l.act == LARDER_ACT_F32 ||
               lr_cu_takes_lo(fmt);
    if (lr_cu_takes_bf16(fmt)) return two ? LR_CU_BF16X2 : LR_CU_BF16;
    return two ? LR_CU_F16X2 : LR_CU_F16;
}

/* A row: its numbers, once or twice, and a line that holds its power. Planes of a slot lie one after the other. */
static size_t act_bytes(const lr_code *c, int kind, uint32_t n)
{
    (void)c;
    return LR_ALIGN_UP((size_t)n, 32) * (lr_cu_two(kind) ? 4 : 2) + 64;
}

static uint32_t passes(int kind) { return lr_cu_two(kind) ? 2 : 1; }

static larder_act act_of(int kind)
{
    (void)kind;
    return LARDER_ACT_BF16;
}

static const lr_target target = {.act_kind = act_kind,
                                 .act_bytes = act_bytes,
                                 .passes = passes,
                                 .act_of = act_of,
                                 .block_bytes = lr_cu_block_bytes};

/* ---------------------------------------------------------------- weights */
const lr_cu_placed *lr_cu_find(const lr_exec *x, const lr_tensor *t)
{
    for (uint32_t i = 0; i < x->n_placed; i++)
        if (x->placed[i].t == t) return &x->placed[i];
    return NULL;
}

static void place(lr_exec *x, const lr_tensor *t)
{
    lr_cu_placed *p = &x->placed[x->n_placed++];
    uint64_t rows = t->ne[1], mats = t->ne[2];
    *p = (lr_cu_placed){.t = t, .at = x->n.weights, .aux_at = UINT64_MAX};
    p->row_stride = LR_ALIGN_UP(lr_fmt_row_bytes(t->fmt, t->ne[0]), 16);
    p->mat_stride = LR_ALIGN_UP(p->row_stride * rows, 256);
    x->n.weights += p->mat_stride * mats;
    if (!t->aux) return;
    uint32_t each = lr_fmt_aux_bytes(t->fmt);
    p->aux_line = each ? each * (t->ne[0] / lr_fmt_get(t->fmt)->block) : 4;
    p->aux_lines = t->aux_rows ? (t->aux_first + rows - 1) / t->aux_rows + 1 : rows;
    p->aux_at = x->n.weights;
    p->aux_stride = LR_ALIGN_UP(p->aux_line, 4);
    p->aux_mat_stride = LR_ALIGN_UP(p->aux_stride * p->aux_lines, 256);
    x->n.weights += p->aux_mat_stride * mats;
}

static larder_status place_weights(lr_exec *x, larder_error *err)
{
    lr_code *c = &x->c;
    x->placed = lr_arena_array(&c->arena, (size_t)c->n_node + 1, sizeof *x->placed);
    if (!x->placed) return LR_NOMEM(err, "compiling");
    for (uint32_t i = 0; i < c->n_node; i++) {
        const lr_node *n = &c->nodes[i];
        if (n->kind != LR_OP_LINEAR && n->kind != LR_OP_LINEAR_ROUTED) continue;
        if (!lr_cu_find(x, n->t)) place(x, n->t);
    }
    return LARDER_OK;
}

/* ---------------------------------------------------------------- a step's arrays */
static uint64_t add(uint64_t *at, uint64_t n)
{
    uint64_t was = *at;
    *at += LR_ALIGN_UP(n, 64);
    return was;
}

static void lay_book(const lr_limits *l, lr_cu_book *b)
{
    uint64_t at = 0;
    add(&at, sizeof(lr_cu_counts));
    b->ids = add(&at, 4ull * l->n_tok);
    b->pos = add(&at, 4ull * l->n_tok);
    b->seq = add(&at, 4ull * l->n_tok);
    b->out = add(&at, 4ull * LR_MAX(l->n_out, l->n_hidden));
    b->first = add(&at, 4ull * (l->n_seq + 1));
    b->unit = add(&at, 4ull * (l->n_seq + 1));
    b->max_blocks = (l->n_ctx + LR_KV_BLOCK - 1) / LR_KV_BLOCK;
    b->blocks = add(&at, 4ull * l->n_seq * b->max_blocks); /* last: only what is used is copied */
    b->bytes = at;
}

/* ---------------------------------------------------------------- all */
static larder_status size_rest(lr_exec *x, larder_error *err)
{
    lr_code *c = &x->c;
    const lr_limits *l = &c->l;
    uint32_t routed = 0;
    x->embed = UINT32_MAX;
    for (uint32_t i = 0; i < c->n_node; i++) {
        const lr_node *n = &c->nodes[i];
        const lr_attn *a = &n->op.attn;
        if (n->kind == LR_OP_EMBED) x->embed = i;
        if (n->kind == LR_OP_LINEAR_ROUTED) routed = LR_MAX(routed, n->mul);
        if (n->kind == LR_OP_ROUTE) c->n_expert = LR_MAX(c->n_expert, n->n);
        if (n->kind == LR_OP_ROUTE && n->n > LR_CU_EXPERTS)
            return lr_fail(err, LARDER_UNSUPPORTED, "%u experts: on a card at most %u", n->n, LR_CU_EXPERTS);
        if (n->kind != LR_OP_ATTEND) continue;
        if (!n->cache_stride)
            return lr_fail(err, LARDER_UNSUPPORTED, "on a card the KV cache is not kept in these numbers: try f16");
        x->n.parts = LR_MAX(x->n.parts, lr_cu_attn_parts(&x->d, a->n_head, a->head_dim, l->n_seq, l->n_ctx));
    }
    x->freq_at = lr_arena_array(&c->arena, LR_LEN(c->p->ropes), sizeof *x->freq_at);
    if (!x->freq_at) return LR_NOMEM(err, "compiling");
    for (uint32_t r = 0; r < c->p->n_ropes; r++) {
        x->freq_at[r] = x->n.freqs / 8;
        x->n.freqs += 8ull * (c->p->ropes[r].n_rot / 2);
    }
    lay_book(l, &x->book);
    uint64_t rows = (uint64_t)LR_MAX(l->n_tok, l->n_out) * routed, tiles = rows + c->n_expert;
    x->n.sort = routed ? LR_ALIGN_UP(4 * rows, 64) + LR_ALIGN_UP(12 * tiles, 64) + 64 : 0;
    x->n.step = x->book.bytes;
    x->n.shared = c->shared;
    x->n.cache = c->cache;
    x->n.floats = c->floats * 4;
    x->n.logits = c->logits_bytes;
    uint64_t hidden = c->l.n_hidden ? (uint64_t)l->n_hidden * c->slots[c->hidden].row_bytes : 0;
    if (x->embed != UINT32_MAX) x->n.embed = l->n_tok * c->slots[c->nodes[x->embed].out].row_bytes;
    x->n.pinned = x->n.step + x->n.embed + LR_MAX(x->n.logits, hidden);
    return LARDER_OK;
}

larder_status lr_cu_code_make(const lr_program *p, const lr_limits *l, lr_exec *x, larder_error *err)
{
    x->c = (lr_code){0};
    if (l->act == LARDER_ACT_I8 || l->act == LARDER_ACT_BF16)
        return lr_fail(err, LARDER_UNSUPPORTED, "--act %s is the processor's; a card has auto and f32",
                       l->act == LARDER_ACT_I8 ? "int8" : "bf16");
    LR_TRY(lr_code_make(&target, p, l, &x->c, err));
    larder_status st = place_weights(x, err);
    if (!st) st = size_rest(x, err);
    if (st) lr_code_free(&x->c);
    return st;
}
