/* figures.c - what a step reads and computes, phase by phase, for `bench --ops` and for shares of the limit. */
#include "code.h"

uint64_t lr_program_block_bytes(const lr_program *p, larder_kv kv, uint64_t (*block_bytes)(uint32_t, larder_kv))
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < p->n_ops; i++)
        if (p->ops[i].kind == LR_OP_ATTEND)
            sum += block_bytes(p->ops[i].attn.head_dim, kv) * p->ops[i].attn.n_head_kv;
    return sum;
}

static double share_of_experts(double n_expert, double k, double n_tok)
{
    double miss = 1.0;
    for (double t = 0; t < n_tok && miss > 1e-6; t++) miss *= 1.0 - k / n_expert;
    return 1.0 - miss;
}

static uint64_t phase_bytes(const lr_code *c, const lr_phase *ph, uint32_t rows)
{
    if (ph->kind != LR_PHASE_MOE) return ph->bytes;
    const lr_node *n = &c->nodes[c->order[ph->first]];
    return (uint64_t)((double)ph->bytes * share_of_experts((double)n->t->ne[2], n->mul, rows));
}

static uint64_t attn_bytes(const lr_code *c, const lr_phase *ph, const lr_batch *b)
{
    const lr_attn *a = &c->nodes[c->order[ph->first + ph->n - 1]].op.attn;
    uint64_t sum = 0, row = c->target->block_bytes(a->head_dim, c->l.kv) / LR_KV_BLOCK * a->n_head_kv;
    for (uint32_t s = 0; s < b->n_seq; s++) {
        uint64_t n = (uint64_t)b->seqs[s].n_past + b->seqs[s].n_tok;
        if (a->window) n = LR_MIN(n, (uint64_t)a->window + b->seqs[s].n_tok - 1);
        sum += n * row;
    }
    return sum;
}

static uint64_t attn_ops(const lr_code *c, const lr_phase *ph, const lr_batch *b)
{
    const lr_attn *a = &c->nodes[c->order[ph->first + ph->n - 1]].op.attn;
    uint64_t sum = 0;
    for (uint32_t s = 0; s < b->n_seq; s++)
        for (uint32_t i = 0; i < b->seqs[s].n_tok; i++) {
            uint64_t n = (uint64_t)b->seqs[s].n_past + i + 1;
            sum += (a->window ? LR_MIN(n, (uint64_t)a->window) : n) * 4 * a->head_dim * a->n_head;
        }
    return sum;
}

void lr_code_count(const lr_code *c, lr_phase *ph, const lr_batch *b)
{
    uint32_t rows = (ph->rows == LR_ROWS_TOK ? b->n_tok : b->n_out);
    ph->calls++;
    ph->read += ph->kind == LR_PHASE_ATTN ? attn_bytes(c, ph, b) : phase_bytes(c, ph, rows);
    if (ph->kind == LR_PHASE_ATTN) ph->ops += attn_ops(c, ph, b);
    if (ph->kind != LR_PHASE_MM && ph->kind != LR_PHASE_MOE) return;
    for (uint32_t i = 0; i < ph->n; i++) {
        const lr_node *n = &c->nodes[c->order[ph->first + i]];
        ph->ops += 2ull * c->target->passes(n->actk) * n->n * n->width * n->mul * rows;
    }
}

uint64_t lr_code_bytes(const lr_code *c, const lr_batch *b)
{
    uint64_t sum = 0;
    for (uint32_t p = 0; p < c->n_phase; p++) {
        const lr_phase *ph = &c->phases[p];
        uint32_t rows = ph->rows == LR_ROWS_TOK ? b->n_tok : b->n_out;
        if (!rows) continue;
        sum += ph->kind == LR_PHASE_ATTN ? attn_bytes(c, ph, b) : phase_bytes(c, ph, rows);
    }
    return sum;
}

void lr_code_reset(lr_code *c)
{
    for (uint32_t p = 0; p < c->n_phase; p++) {
        lr_phase *ph = &c->phases[p];
        ph->ns = ph->ops = ph->read = ph->calls = 0;
    }
}

static larder_act act_of(const lr_code *c, const lr_phase *ph)
{
    if (ph->kind != LR_PHASE_MM && ph->kind != LR_PHASE_MOE) return LARDER_ACT_F32;
    return c->target->act_of(lr_code_node(c, ph, 0)->actk);
}

uint32_t lr_code_read(const lr_code *c, lr_op_time *out, uint32_t cap)
{
    uint32_t n = 0;
    for (uint32_t p = 0; p < c->n_phase; p++) {
        const lr_phase *ph = &c->phases[p];
        uint32_t i = 0;
        while (i < n && strcmp(out[i].name, ph->name)) i++;
        if (i == cap) continue;
        if (i == n) out[n++] = (lr_op_time){.name = ph->name, .act = act_of(c, ph)};
        out[i].ns += ph->ns;
        out[i].bytes += ph->read;
        out[i].ops += ph->ops;
        out[i].calls += ph->calls;
    }
    return n;
}
