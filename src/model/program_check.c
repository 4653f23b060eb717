/* program_check.c - is a program sound, and what does it look like in words.
 *
 * Owns: the rules every program keeps, so that backends need not ask again. Refuses to own: how programs are made.
 */
#include "program.h"

#include <math.h>
#include <stdio.h>

static const char *const op_names[LR_OP_KINDS] = {
    "embed", "rmsnorm", "layernorm", "linear", "rope",          "attend",  "add",  "scale",
    "act",   "glu",     "softcap",   "route",  "linear_routed", "combine", "pick",
};
static const char *const fn_names[] = {"silu", "gelu_tanh", "gelu_erf", "relu", "relu2", "swiglu_oai"};

const char *lr_op_name(lr_op_kind kind) { return (unsigned)kind < LR_OP_KINDS ? op_names[kind] : "?"; }

typedef struct checker {
    const lr_program *p;
    uint32_t at; /* operator being checked */
    larder_error *err;
} checker;

static larder_status bad(const checker *c, const char *what)
{
    const lr_op *op = &c->p->ops[c->at];
    const char *layer = op->layer == 0xffff ? "" : " of layer ";
    char number[16] = "";
    if (*layer) snprintf(number, sizeof number, "%u", op->layer);
    return lr_fail(c->err, LARDER_FORMAT, "operator %u (%s%s%s): %s", c->at, lr_op_name(op->kind), layer, number,
                   what);
}

/* How many inputs an operator reads. */
static uint32_t n_inputs(lr_op_kind kind)
{
    switch (kind) {
    case LR_OP_EMBED: return 0;
    case LR_OP_ATTEND: return 3;
    case LR_OP_ADD:
    case LR_OP_GLU:
    case LR_OP_LINEAR_ROUTED:
    case LR_OP_COMBINE: return 2;
    default: return 1;
    }
}

static bool same_shape(lr_value a, lr_value b)
{
    return a.width == b.width && a.mul == b.mul && a.rows == b.rows && a.routing == b.routing;
}

static const lr_value *in_of(const checker *c, int i) { return &c->p->values[c->p->ops[c->at].in[i]]; }

/* A weight that is [ne0, ne1, ne2] in a format larder holds; 0 in `want`: any. */
static larder_status check_weight(const checker *c, uint16_t w, uint64_t ne0, uint64_t ne1, uint64_t ne2)
{
    if (w >= c->p->n_weights) return bad(c, "it has no weight");
    const lr_tensor *t = c->p->weights[w].t;
    if (!lr_fmt_get(t->fmt)) return bad(c, "its weight is in a format larder does not hold");
    if ((ne0 && t->ne[0] != ne0) || (ne1 && t->ne[1] != ne1) || t->ne[2] != ne2 || t->ne[3] != 1) {
        return bad(c, "its weight has the wrong shape");
    }
    if (c->p->weights[w].transposed != (t->col_stride != 0)) return bad(c, "its weight's strides disagree");
    return LARDER_OK;
}

static larder_status check_vector(const checker *c, uint16_t w, uint64_t n)
{
    return w == LR_NONE ? LARDER_OK : check_weight(c, w, n, 1, 1);
}

static larder_status check_attend(const checker *c)
{
    const lr_op *op = &c->p->ops[c->at];
    const lr_attn *a = &op->attn;
    if (!a->n_head || !a->n_head_kv || !a->head_dim || a->n_head % a->n_head_kv) return bad(c, "heads do not fit");
    if (in_of(c, 0)->width != a->n_head * a->head_dim) return bad(c, "queries have the wrong width");
    if (in_of(c, 1)->width != a->n_head_kv * a->head_dim || in_of(c, 2)->width != in_of(c, 1)->width) {
        return bad(c, "keys or values have the wrong width");
    }
    if (a->layer >= c->p->n_layer) return bad(c, "its cache slot does not exist");
    if (!isfinite(a->scale) || !isfinite(a->softcap) || a->softcap < 0) return bad(c, "its scale is not a number");
    return check_vector(c, a->sinks, a->n_head);
}

static larder_status check_routed(const checker *c)
{
    const lr_op *op = &c->p->ops[c->at];
    const lr_value *x = in_of(c, 0), *r = in_of(c, 1);
    if (!r->routing) return bad(c, "its second input is no routing");
    if (op->kind == LR_OP_COMBINE) return x->mul == r->width ? LARDER_OK : bad(c, "rows do not match the routing");
    if (x->mul != 1 && x->mul != r->width) return bad(c, "rows do not match the routing");
    if (op->w >= c->p->n_weights) return bad(c, "it has no weight");
    const lr_tensor *t = c->p->weights[op->w].t;
    LR_TRY(check_weight(c, op->w, x->width, 0, t->ne[2]));
    return op->bias == LR_NONE ? LARDER_OK : check_weight(c, op->bias, t->ne[1], t->ne[2], 1);
}

static larder_status check_rope(const checker *c)
{
    const lr_op *op = &c->p->ops[c->at];
    if (op->rope >= c->p->n_ropes) return bad(c, "it has no table");
    const lr_rope *r = &c->p->ropes[op->rope];
    if (!r->n_rot || r->n_rot % 2 || r->n_rot > op->group || in_of(c, 0)->width % op->group) {
        return bad(c, "heads do not fit the table");
    }
    for (uint32_t i = 0; i < r->n_rot / 2; i++) {
        if (!isfinite(r->inv_freq[i])) return bad(c, "a frequency is not a number");
    }
    return isfinite(r->mscale) ? LARDER_OK : bad(c, "its scale is not a number");
}

static larder_status check_op(const checker *c)
{
    const lr_program *p = c->p;
    const lr_op *op = &p->ops[c->at];
    uint32_t width = op->in[0] == LR_NONE ? 0 : in_of(c, 0)->width;
    if (!isfinite(op->eps) || op->eps < 0 || !isfinite(op->scale)) return bad(c, "a constant is not a number");
    switch ((lr_op_kind)op->kind) {
    case LR_OP_EMBED: return check_weight(c, op->w, 0, p->n_vocab, 1);
    case LR_OP_RMSNORM:
        if (!op->group || width % op->group) return bad(c, "groups do not fit");
        return check_weight(c, op->w, op->group, 1, 1);
    case LR_OP_LAYERNORM: LR_TRY(check_weight(c, op->w, width, 1, 1)); return check_vector(c, op->bias, width);
    case LR_OP_LINEAR:
        LR_TRY(check_weight(c, op->w, width, 0, 1));
        return check_vector(c, op->bias, p->values[op->out].width);
    case LR_OP_ROPE: return check_rope(c);
    case LR_OP_ATTEND: return check_attend(c);
    case LR_OP_ADD:
    case LR_OP_GLU: return same_shape(*in_of(c, 0), *in_of(c, 1)) ? LARDER_OK : bad(c, "its inputs differ in shape");
    case LR_OP_SOFTCAP: return op->scale > 0 ? LARDER_OK : bad(c, "its cap is not above zero");
    case LR_OP_ROUTE:
        if (!op->route.k || op->route.k > width) return bad(c, "more experts are chosen than there are");
        return check_vector(c, op->route.bias, width);
    case LR_OP_LINEAR_ROUTED:
    case LR_OP_COMBINE: return check_routed(c);
    default: return LARDER_OK;
    }
}

/* Inputs exist, were written before, and only operators on routings read routings. */
static larder_status check_inputs(const checker *c, const bool *written)
{
    const lr_op *op = &c->p->ops[c->at];
    for (uint32_t i = 0; i < n_inputs(op->kind); i++) {
        if (op->in[i] >= c->p->n_values || !written[op->in[i]]) return bad(c, "it reads a value nobody wrote");
        bool routed = (op->kind == LR_OP_LINEAR_ROUTED || op->kind == LR_OP_COMBINE) && i == 1;
        if (c->p->values[op->in[i]].routing && !routed) return bad(c, "it cannot read a routing");
        if (c->p->values[op->in[i]].rows != c->p->values[op->in[0]].rows) return bad(c, "its inputs differ in rows");
    }
    if (op->out >= c->p->n_values || written[op->out]) return bad(c, "its output was written before");
    return LARDER_OK;
}

larder_status lr_program_check(const lr_program *p, larder_error *err)
{
    if (p->fault.code) {
        if (err) *err = p->fault;
        return p->fault.code;
    }
    if (p->logits >= p->n_values) return lr_fail(err, LARDER_FORMAT, "the program has no output");
    bool *written = lr_calloc(p->n_values, sizeof *written);
    if (!written) return LR_NOMEM(err, "checking the program");
    checker c = {p, 0, err};
    larder_status st = LARDER_OK;
    for (c.at = 0; c.at < p->n_ops && !st; c.at++) {
        const lr_op *op = &p->ops[c.at];
        st = op->kind < LR_OP_KINDS ? check_inputs(&c, written) : bad(&c, "unknown operator");
        if (!st) st = check_op(&c);
        if (!st) written[op->out] = true;
    }
    const lr_value *out = &p->values[p->logits];
    if (!st && (!written[p->logits] || out->rows != LR_ROWS_OUT || out->width != p->n_vocab || out->mul != 1)) {
        st = lr_fail(err, LARDER_FORMAT, "the program's output is not one row of %u logits", p->n_vocab);
    }
    lr_free(written);
    return st;
}

/* ---------------------------------------------------------------- in words */

static void print_weight(const lr_program *p, uint16_t w, const char *before, lr_buf *out)
{
    if (w >= p->n_weights) return;
    const lr_tensor *t = p->weights[w].t;
    const lr_fmt_info *fmt = lr_fmt_get(t->fmt);
    lr_buf_printf(out, "%s%.*s:%s[%llu", before, LR_STR_ARG(t->name), fmt ? fmt->name : "?",
                  (unsigned long long)t->ne[0]);
    for (int i = 1; i < t->n_dims && i < 4; i++) lr_buf_printf(out, ",%llu", (unsigned long long)t->ne[i]);
    lr_buf_puts(out, "]");
    if (p->weights[w].transposed) lr_buf_puts(out, "T");
    if (p->weights[w].add != 0) lr_buf_printf(out, "+%g", (double)p->weights[w].add);
}

static void print_attend(const lr_program *p, const lr_attn *a, lr_buf *out)
{
    lr_buf_printf(out, " layer=%u heads=%u/%u dim=%u scale=%g", a->layer, a->n_head, a->n_head_kv, a->head_dim,
                  (double)a->scale);
    if (a->window) lr_buf_printf(out, " window=%u", a->window);
    if (a->softcap > 0) lr_buf_printf(out, " softcap=%g", (double)a->softcap);
    print_weight(p, a->sinks, " sinks=", out);
}

static void print_route(const lr_program *p, const lr_route *r, lr_buf *out)
{
    static const char *const gating[] = {"softmax", "topk_softmax", "sigmoid"};
    lr_buf_printf(out, " k=%u %s", r->k, gating[r->gating]);
    if (r->renorm) lr_buf_puts(out, " renorm");
    if (r->scale < 1 || r->scale > 1) lr_buf_printf(out, " scale=%g", (double)r->scale);
    print_weight(p, r->bias, " bias=", out);
}

static void print_attributes(const lr_program *p, const lr_op *op, lr_buf *out)
{
    switch ((lr_op_kind)op->kind) {
    case LR_OP_RMSNORM: lr_buf_printf(out, " group=%u eps=%g", op->group, (double)op->eps); break;
    case LR_OP_LAYERNORM: lr_buf_printf(out, " eps=%g", (double)op->eps); break;
    case LR_OP_ROPE:
        if (op->rope < p->n_ropes) {
            const lr_rope *r = &p->ropes[op->rope];
            lr_buf_printf(out, " table=%u %s n_rot=%u dim=%u mscale=%g", op->rope,
                          r->kind == LR_ROPE_PAIRS ? "pairs" : "halves", r->n_rot, op->group, r->mscale);
        }
        break;
    case LR_OP_ATTEND: print_attend(p, &op->attn, out); break;
    case LR_OP_EMBED:
    case LR_OP_SCALE:
    case LR_OP_SOFTCAP: lr_buf_printf(out, " by=%g", (double)op->scale); break;
    case LR_OP_ACT:
    case LR_OP_GLU: lr_buf_printf(out, " %s", op->fn < LR_LEN(fn_names) ? fn_names[op->fn] : "?"); break;
    case LR_OP_ROUTE: print_route(p, &op->route, out); break;
    default: break;
    }
}

static void print_op(const lr_program *p, const lr_op *op, lr_buf *out)
{
    const lr_value *v = &p->values[op->out];
    if (op->layer != 0xffff) lr_buf_printf(out, "%3u  ", op->layer);
    else lr_buf_puts(out, "     ");
    lr_buf_printf(out, "%%%u [%s%s", op->out, v->rows == LR_ROWS_TOK ? "T" : "O", v->mul > 1 ? "*" : "");
    if (v->mul > 1) lr_buf_printf(out, "%u", v->mul);
    lr_buf_printf(out, ",%u] = %s", v->width, lr_op_name(op->kind));
    for (uint32_t i = 0; i < n_inputs(op->kind); i++) lr_buf_printf(out, " %%%u", op->in[i]);
    print_weight(p, op->w, " ", out);
    print_weight(p, op->bias, " + ", out);
    print_attributes(p, op, out);
    lr_buf_putc(out, '\n');
}

void lr_program_print(const lr_program *p, lr_buf *out)
{
    for (uint32_t i = 0; i < p->n_ops; i++) print_op(p, &p->ops[i], out);
}
