/* cost.c - see cost.h. */
#include "cost.h"

#include <math.h>
#include <stdio.h>

double lr_cost_experts(double n, double k, double t)
{
    if (!(n > 0)) return 0;
    if (k >= n) return n;
    return n * (1 - pow(1 - k / n, t));
}

static double weight_bytes(const lr_plan_model *m, const lr_weight *w, bool output)
{
    const lr_tensor *t = w->t;
    double n = (double)t->ne[0] * (double)t->ne[1] * (double)t->ne[2];
    if (m->bits > 0 && t->n_dims > 1) return n * (output ? m->output_bits : m->bits) / 8;
    return (double)t->n_bytes;
}

static double numbers(const lr_weight *w) { return (double)w->t->ne[0] * (double)w->t->ne[1] * (double)w->t->ne[2]; }

static double rows_of(const lr_value *v, const lr_step_size *s)
{
    return (v->rows == LR_ROWS_OUT ? s->n_out : s->n_tok) * v->mul;
}

static void cost_attend(const lr_op *op, const lr_step_size *s, lr_cost *c)
{
    const lr_attn *a = &op->attn;
    double per_seq = s->n_tok / s->n_seq, width = (double)a->n_head_kv * a->head_dim;
    double keys = s->depth + (per_seq + 1) / 2; /* seen by a query, on average */
    double span = s->depth + per_seq;           /* read at all */
    if (a->window) {
        keys = LR_MIN(keys, (double)a->window);
        span = LR_MIN(span, a->window + per_seq);
    }
    c->kv_write += 2 * s->n_tok * width * s->kv_bytes;
    c->kv_read += 2 * s->n_seq * span * width * s->kv_bytes;
    c->attn_ops += 4 * s->n_tok * keys * a->n_head * a->head_dim;
    c->score_bytes += 4 * s->n_tok * LR_MIN(s->depth + per_seq, span) * a->n_head;
}

static void cost_weight(const lr_plan_model *m, const lr_op *op, const lr_step_size *s, lr_cost *c)
{
    const lr_program *p = &m->program;
    const lr_weight *w = &p->weights[op->w];
    double bytes = weight_bytes(m, w, op->out == p->logits || p->values[op->out].rows == LR_ROWS_OUT), n = numbers(w);
    double rows = rows_of(&p->values[op->out], s);
    switch (op->kind) {
    case LR_OP_EMBED: c->weight_bytes += bytes / (double)w->t->ne[1] * LR_MIN(s->n_tok, (double)w->t->ne[1]); break;
    case LR_OP_LINEAR_ROUTED: {
        double n_expert = (double)w->t->ne[2], tokens = s->n_tok;
        double k = rows / tokens, seen = lr_cost_experts(n_expert, k, tokens);
        c->weight_bytes += bytes * seen / n_expert;
        c->expert_bytes += bytes * seen / n_expert;
        c->expert_least += bytes * LR_MIN(k, n_expert) / n_expert;
        c->weight_count += n * seen / n_expert;
        c->expert_ops += 2 * rows * n / n_expert;
        c->expert_rows = seen > 0 ? rows / seen : 0;
        break;
    }
    case LR_OP_LINEAR:
        c->weight_bytes += bytes;
        c->weight_count += n;
        c->dense_ops += 2 * rows * n;
        break;
    default: c->weight_bytes += bytes; break;
    }
    if (op->bias != LR_NONE) c->weight_bytes += (double)p->weights[op->bias].t->n_bytes;
}

static void cost_op(const lr_plan_model *m, const lr_op *op, const lr_step_size *s, lr_cost *c)
{
    const lr_program *p = &m->program;
    const lr_value *out = &p->values[op->out];
    *c = (lr_cost){.n_op = 1};
    if (op->w != LR_NONE) cost_weight(m, op, s, c);
    if (op->kind == LR_OP_ATTEND) cost_attend(op, s, c);
    else if (op->w == LR_NONE || op->kind == LR_OP_RMSNORM) c->other_ops += 2 * rows_of(out, s) * out->width;
    c->act_bytes += 4 * rows_of(out, s) * out->width;
    for (int i = 0; i < 3; i++) {
        if (op->in[i] == LR_NONE) continue;
        const lr_value *v = &p->values[op->in[i]];
        c->act_bytes += 4 * rows_of(v, s) * v->width;
    }
}

static void add(lr_cost *sum, const lr_cost *c)
{
    sum->weight_bytes += c->weight_bytes;
    sum->expert_bytes += c->expert_bytes;
    sum->expert_least += c->expert_least;
    sum->weight_count += c->weight_count;
    sum->kv_read += c->kv_read;
    sum->kv_write += c->kv_write;
    sum->act_bytes += c->act_bytes;
    sum->dense_ops += c->dense_ops;
    sum->expert_ops += c->expert_ops;
    sum->attn_ops += c->attn_ops;
    sum->other_ops += c->other_ops;
    sum->score_bytes += c->score_bytes;
    sum->n_op += c->n_op;
    sum->expert_rows = LR_MAX(sum->expert_rows, c->expert_rows);
}

/* A model without a program: dense part and experts from its totals (dense + k/n of the experts = active). */
static void cost_totals(const lr_plan_model *m, const lr_step_size *s, lr_cost *c)
{
    double share = m->n_expert > 0 ? m->n_expert_used / m->n_expert : 1;
    double experts = share < 1 ? (m->total - m->active) / (1 - share) : 0, dense = m->total - experts;
    double seen = m->n_expert > 0 ? lr_cost_experts(m->n_expert, m->n_expert_used, s->n_tok) : 0;
    double touched = dense + (m->n_expert > 0 ? experts * seen / m->n_expert : 0);
    double per_seq = s->n_tok / s->n_seq, heads = LR_MAX(m->n_head * 128, m->n_embd);
    c->weight_bytes = touched * m->bits / 8;
    if (m->n_expert > 0) {
        c->expert_bytes = experts * seen / m->n_expert * m->bits / 8;
        c->expert_least = experts * share * m->bits / 8;
    }
    c->weight_count = touched;
    c->dense_ops = 2 * s->n_tok * dense;
    c->expert_ops = 2 * s->n_tok * experts * share;
    c->expert_rows = seen > 0 ? s->n_tok * m->n_expert_used / seen : 0;
    c->kv_read = s->n_seq * (s->depth + per_seq) * m->n_layer * m->kv_width * s->kv_bytes;
    c->kv_write = s->n_tok * m->n_layer * m->kv_width * s->kv_bytes;
    c->attn_ops = 4 * s->n_tok * (s->depth + per_seq / 2) * m->n_layer * LR_MIN(heads, 8 * m->kv_width);
    c->score_bytes = 4 * s->n_tok * (s->depth + per_seq) * m->n_head * m->n_layer;
    c->act_bytes = 4 * s->n_tok * m->n_embd * m->n_layer * 24;
    c->n_op = m->n_layer * 16;
}

void lr_cost_step(const lr_plan_model *m, const lr_step_size *s, lr_cost *out, lr_cost_fn *each, void *user)
{
    *out = (lr_cost){0};
    if (m->has_program) {
        for (uint32_t i = 0; i < m->program.n_ops; i++) {
            lr_cost one;
            cost_op(m, &m->program.ops[i], s, &one);
            add(out, &one);
            if (each) each(user, &m->program.ops[i], &one);
        }
    } else {
        cost_totals(m, s, out);
    }
    out->n_layer = m->n_layer;
}

double lr_cost_cache(const lr_plan_model *m, double n_ctx, double n_seq, double kv_bytes)
{
    double width = 0;
    if (!m->has_program) return n_ctx * n_seq * m->n_layer * m->kv_width * kv_bytes;
    for (uint32_t i = 0; i < m->program.n_ops; i++) {
        const lr_op *op = &m->program.ops[i];
        if (op->kind == LR_OP_ATTEND) width += 2.0 * op->attn.n_head_kv * op->attn.head_dim;
    }
    return n_ctx * n_seq * width * kv_bytes;
}

/* ---------------------------------------------------------------- models */
enum { LR_FMT_KINDS = 512 };

static void fill_totals(lr_plan_model *m)
{
    const lr_hparams *hp = &m->model.hp;
    const lr_file *f = &m->model.view;
    m->n_layer = hp->n_layer;
    m->n_embd = hp->n_embd;
    m->n_head = hp->n_head;
    m->kv_width = 2.0 * hp->n_head_kv * hp->head_dim;
    m->n_expert = hp->n_expert;
    m->n_expert_used = hp->n_expert_used;
    m->n_ctx = hp->n_ctx_train;
    for (size_t i = 0; i < f->n_tensors; i++) {
        const lr_tensor *t = &f->tensors[i];
        double n = (double)t->ne[0] * (double)t->ne[1] * (double)t->ne[2];
        bool output = lr_str_is(t->name, "output.weight") || lr_str_is(t->name, "token_embd.weight");
        m->total += n;
        m->active += t->ne[2] > 1 && hp->n_expert ? n * hp->n_expert_used / hp->n_expert : n;
        m->file_bytes += m->bits > 0 && t->n_dims > 1 ? n * (output ? m->output_bits : m->bits) / 8
                                                      : (double)t->n_bytes;
    }
}

larder_status lr_plan_model_preset(const lr_preset *p, const lr_quant_name *q, lr_plan_model *out, larder_error *err)
{
    larder_status st;
    *out = (lr_plan_model){.cls = q->cls, .bits = q->bits, .fp8 = q->fp8, .fp4 = q->fp4, .source = p->source};
    out->output_bits = q->bits > 8 ? q->bits : LR_MAX(q->bits, 6);
    (void)snprintf(out->name, sizeof out->name, "%s", p->shape.name);
    out->key = p->match[0] ? lr_name_key(p->shape.name) : 0;
    (void)snprintf(out->quant, sizeof out->quant, "%s", q->name);
    if (!p->runs) {
        const lr_shape *s = &p->shape;
        static const double usual[][2] = {
            {LR_FMT_Q4_K, 4.85}, {LR_FMT_Q5_K, 5.7}, {LR_FMT_Q3_K, 3.9}, {LR_FMT_Q2_K, 3.0}};
        if (q->mix) {
            const lr_fmt_info *info = lr_fmt_get(q->mix->base);
            out->bits = info ? 8.0 * info->bytes / info->block : 16;
            for (size_t i = 0; i < LR_LEN(usual); i++)
                if ((double)q->mix->base == usual[i][0]) out->bits = usual[i][1];
        }
        out->total = p->total;
        out->active = p->active;
        out->n_layer = s->n_layer;
        out->n_embd = s->n_embd;
        out->n_head = s->n_head;
        out->kv_width = p->kv_width;
        out->n_expert = s->n_expert;
        out->n_expert_used = s->n_expert_used;
        out->n_ctx = s->n_ctx;
        out->file_bytes = p->total * out->bits / 8;
        return LARDER_OK;
    }
    LR_TRY(lr_shape_file(&p->shape, q->mix, false, &out->file, err));
    LR_GO(lr_model_open(&out->file, &out->model, err));
    LR_GO(lr_model_program(&out->model, LR_MAX(p->shape.n_ctx, 1u), &out->program, err));
    out->has_program = true;
    fill_totals(out);
    return LARDER_OK;
fail:
    lr_plan_model_close(out);
    return st;
}

larder_status lr_plan_model_file(const lr_file *f, uint32_t n_ctx, lr_plan_model *out, larder_error *err)
{
    larder_status st;
    double by_cls[LR_CLSES] = {0};
    *out = (lr_plan_model){.source = "the file itself"};
    LR_GO(lr_model_open(f, &out->model, err));
    LR_GO(lr_model_program(&out->model, n_ctx ? n_ctx : LR_MAX(out->model.hp.n_ctx_train, 1u), &out->program, err));
    out->has_program = true;
    fill_totals(out);
    (void)snprintf(out->name, sizeof out->name, "%.*s",
                   LR_STR_ARG(out->model.name.n ? out->model.name : out->model.arch_name));
    double by_fmt[LR_FMT_KINDS] = {0}; /* matrices: GGUF's numbers and those of safetensors only */
    uint32_t most = 0;
    for (size_t i = 0; i < f->n_tensors; i++) {
        lr_quant_name q;
        const lr_tensor *t = &f->tensors[i];
        const lr_fmt_info *info = lr_fmt_get(t->fmt);
        if (!info || t->n_dims < 2) continue;
        by_fmt[t->fmt % LR_FMT_KINDS] += (double)t->n_bytes;
        if (by_fmt[t->fmt % LR_FMT_KINDS] > by_fmt[most % LR_FMT_KINDS]) most = t->fmt;
        if (lr_quant_find(info->name, &q)) by_cls[q.cls] += (double)t->n_bytes;
    }
    for (int i = 0; i < LR_CLSES; i++)
        if (by_cls[i] > by_cls[out->cls]) out->cls = (lr_cls)i;
    (void)snprintf(out->quant, sizeof out->quant, "%s", lr_fmt_get(most) ? lr_fmt_get(most)->name : "?");
    return LARDER_OK;
fail:
    lr_plan_model_close(out);
    return st;
}

void lr_plan_model_close(lr_plan_model *m)
{
    lr_program_free(&m->program);
    lr_model_close(&m->model);
    lr_file_close(&m->file);
    *m = (lr_plan_model){0};
}
