/* program.c - building a program: appending operators, giving each value its shape.
 *
 * Owns: the growth of the lists and the shape each operator's output has. Every call is safe after a failure: it does
 * nothing, so that architectures read without error handling. Refuses to own: checking (program_check.c).
 */
#include "program.h"

#define NO_LAYER 0xffffu

static void fault(lr_program *p, larder_status code, const char *what)
{
    if (!p->fault.code) (void)lr_fail(&p->fault, code, "%s", what);
}

/* Makes room for one more element. */
static bool grow(lr_program *p, void **list, uint32_t n, uint32_t *cap, size_t size)
{
    if (p->fault.code) return false;
    if (n < *cap) return true;
    if (n >= LR_NONE - 1u) {
        fault(p, LARDER_LIMIT, "the program has too many operators");
        return false;
    }
    uint32_t want = *cap ? *cap * 2 : 64;
    void *q = lr_realloc(*list, want * size);
    if (!q) {
        fault(p, LARDER_NOMEM, "out of memory for the program");
        return false;
    }
    *list = q;
    *cap = want;
    return true;
}

static lr_val new_value(lr_program *p, lr_value v)
{
    if (!grow(p, (void **)&p->values, p->n_values, &p->cap_values, sizeof *p->values)) return LR_NONE;
    p->values[p->n_values] = v;
    return (lr_val)p->n_values++;
}

/* An operator with nothing in it yet. */
static lr_op blank(lr_op_kind kind, lr_val x)
{
    lr_op op = {.kind = (uint8_t)kind, .in = {x, LR_NONE, LR_NONE}, .out = LR_NONE};
    op.w = op.bias = op.rope = LR_NONE;
    return op;
}

static lr_val append(lr_program *p, lr_op op, lr_value out)
{
    if (!grow(p, (void **)&p->ops, p->n_ops, &p->cap_ops, sizeof *p->ops)) return LR_NONE;
    op.out = new_value(p, out);
    if (op.out == LR_NONE) return LR_NONE;
    op.layer = p->layer;
    p->ops[p->n_ops++] = op;
    return op.out;
}

/* The value, or a fault and an empty one. */
static lr_value value_of(lr_program *p, lr_val v)
{
    if (v < p->n_values) return p->values[v];
    fault(p, LARDER_INTERNAL, "an operator reads a value that does not exist");
    return (lr_value){0};
}

static const lr_tensor *tensor_of(lr_program *p, uint16_t w)
{
    if (w < p->n_weights) return p->weights[w].t;
    fault(p, LARDER_INTERNAL, "an operator uses a weight that does not exist");
    return NULL;
}

uint16_t lr_weight_use(lr_program *p, const lr_tensor *t, float add)
{
    if (!t || !grow(p, (void **)&p->weights, p->n_weights, &p->cap_weights, sizeof *p->weights)) return LR_NONE;
    p->weights[p->n_weights] = (lr_weight){.t = t, .transposed = t->col_stride != 0, .add = add};
    return (uint16_t)p->n_weights++;
}

lr_val lr_embed(lr_program *p, uint16_t w, float scale)
{
    const lr_tensor *t = tensor_of(p, w);
    if (!t) return LR_NONE;
    lr_op op = blank(LR_OP_EMBED, LR_NONE);
    op.w = w;
    op.scale = scale;
    return append(p, op, (lr_value){.width = (uint32_t)t->ne[0], .mul = 1, .rows = LR_ROWS_TOK});
}

lr_val lr_rmsnorm(lr_program *p, lr_val x, uint16_t w, double eps, uint32_t group)
{
    lr_value v = value_of(p, x);
    lr_op op = blank(LR_OP_RMSNORM, x);
    op.w = w;
    op.eps = (float)eps;
    op.group = group ? group : v.width;
    return append(p, op, v);
}

lr_val lr_layernorm(lr_program *p, lr_val x, uint16_t w, uint16_t b, double eps)
{
    lr_value v = value_of(p, x);
    lr_op op = blank(LR_OP_LAYERNORM, x);
    op.w = w;
    op.bias = b;
    op.eps = (float)eps;
    return append(p, op, v);
}

lr_val lr_linear(lr_program *p, lr_val x, uint16_t w, uint16_t b)
{
    lr_value v = value_of(p, x);
    const lr_tensor *t = tensor_of(p, w);
    if (!t) return LR_NONE;
    lr_op op = blank(LR_OP_LINEAR, x);
    op.w = w;
    op.bias = b;
    v.width = (uint32_t)t->ne[1];
    return append(p, op, v);
}

lr_val lr_rotate(lr_program *p, lr_val x, uint16_t rope, uint32_t head_dim)
{
    lr_value v = value_of(p, x);
    lr_op op = blank(LR_OP_ROPE, x);
    op.rope = rope;
    op.group = head_dim;
    return append(p, op, v);
}

lr_val lr_attend(lr_program *p, lr_val q, lr_val k, lr_val v, const lr_attn *a)
{
    lr_op op = blank(LR_OP_ATTEND, q);
    op.in[1] = k;
    op.in[2] = v;
    op.attn = *a;
    lr_value out = value_of(p, q);
    out.width = a->n_head * a->head_dim;
    return append(p, op, out);
}

lr_val lr_add(lr_program *p, lr_val a, lr_val b)
{
    lr_op op = blank(LR_OP_ADD, a);
    op.in[1] = b;
    return append(p, op, value_of(p, a));
}

lr_val lr_scale(lr_program *p, lr_val x, float s)
{
    lr_op op = blank(LR_OP_SCALE, x);
    op.scale = s;
    return append(p, op, value_of(p, x));
}

lr_val lr_act(lr_program *p, lr_fn fn, lr_val x)
{
    lr_op op = blank(LR_OP_ACT, x);
    op.fn = (uint8_t)fn;
    return append(p, op, value_of(p, x));
}

lr_val lr_glu(lr_program *p, lr_fn fn, lr_val gate, lr_val up)
{
    lr_op op = blank(LR_OP_GLU, gate);
    op.in[1] = up;
    op.fn = (uint8_t)fn;
    return append(p, op, value_of(p, gate));
}

lr_val lr_softcap(lr_program *p, lr_val x, float cap)
{
    lr_op op = blank(LR_OP_SOFTCAP, x);
    op.scale = cap;
    return append(p, op, value_of(p, x));
}

lr_val lr_route_topk(lr_program *p, lr_val scores, const lr_route *r)
{
    lr_op op = blank(LR_OP_ROUTE, scores);
    op.route = *r;
    lr_value out = value_of(p, scores);
    out.width = r->k;
    out.routing = true;
    return append(p, op, out);
}

lr_val lr_linear_routed(lr_program *p, lr_val x, lr_val routing, uint16_t w, uint16_t b)
{
    const lr_tensor *t = tensor_of(p, w);
    lr_value v = value_of(p, x), r = value_of(p, routing);
    if (!t) return LR_NONE;
    lr_op op = blank(LR_OP_LINEAR_ROUTED, x);
    op.in[1] = routing;
    op.w = w;
    op.bias = b;
    v.width = (uint32_t)t->ne[1];
    v.mul = (uint16_t)r.width;
    return append(p, op, v);
}

lr_val lr_combine(lr_program *p, lr_val y, lr_val routing)
{
    lr_op op = blank(LR_OP_COMBINE, y);
    op.in[1] = routing;
    lr_value v = value_of(p, y);
    v.mul = 1;
    return append(p, op, v);
}

lr_val lr_pick(lr_program *p, lr_val x)
{
    lr_value v = value_of(p, x);
    v.rows = LR_ROWS_OUT;
    return append(p, blank(LR_OP_PICK, x), v);
}

void lr_output(lr_program *p, lr_val logits)
{
    p->logits = logits;
    p->layer = NO_LAYER;
}

void lr_program_free(lr_program *p)
{
    if (!p) return;
    lr_free(p->ops);
    lr_free(p->values);
    lr_free(p->weights);
    lr_arena_free(&p->arena);
    *p = (lr_program){0};
}

static float one_number(uint32_t fmt, const uint8_t *src)
{
    float x = 0;
    lr_decode_row(fmt, src, NULL, &x, 1);
    return x;
}

void lr_tensor_row(const lr_tensor *t, uint64_t mat, uint64_t row, float *dst)
{
    const uint8_t *base = t->mats ? t->mats[mat] : t->data + mat * t->mat_stride;
    const uint8_t *src = base + row * t->row_stride;
    const uint8_t *aux = lr_tensor_aux(t, mat, row);
    if (!t->col_stride) {
        lr_decode_row(t->fmt, src, aux, dst, t->ne[0]);
        return;
    }
    for (uint64_t c = 0; c < t->ne[0]; c++) dst[c] = one_number(t->fmt, src + c * t->col_stride);
}
