/* reference.h - a plain, slow interpreter of programs, in double: what every backend is held against.
 *
 * One sequence, all its tokens at once, no cache, every output wanted. Owns nothing but the arithmetic as program.h
 * words it; written for reading. A program must have passed lr_program_check.
 */
#ifndef LR_TEST_REFERENCE_H
#define LR_TEST_REFERENCE_H

#include "program.h"

#include <math.h>
#include <stdlib.h>

typedef struct ref_route {
    uint32_t expert;
    double weight;
} ref_route;

typedef struct reference {
    const lr_program *p;
    const int32_t *ids;
    uint32_t n_tok;
    double **values;    /* [value][row][width] */
    ref_route **routes; /* [value][token][slot] */
} reference;

static uint64_t ref_rows(const reference *r, lr_val v) { return (uint64_t)r->n_tok * r->p->values[v].mul; }

/* All of a vector weight, as doubles, with what must be added to it; NULL for LR_NONE. */
static double *ref_vector(const reference *r, uint16_t w, uint64_t row)
{
    if (w == LR_NONE) return NULL;
    const lr_weight *weight = &r->p->weights[w];
    uint64_t n = weight->t->ne[0];
    float *f = malloc(n * sizeof *f);
    double *d = malloc(n * sizeof *d);
    lr_tensor_row(weight->t, 0, row, f);
    for (uint64_t i = 0; i < n; i++) d[i] = (double)f[i] + (double)weight->add;
    free(f);
    return d;
}

static void ref_embed(const reference *r, const lr_op *op, double *out)
{
    const lr_tensor *t = r->p->weights[op->w].t;
    float *f = malloc(t->ne[0] * sizeof *f);
    for (uint32_t i = 0; i < r->n_tok; i++) {
        lr_tensor_row(t, 0, (uint64_t)r->ids[i], f);
        for (uint64_t c = 0; c < t->ne[0]; c++) out[i * t->ne[0] + c] = (double)f[c] * (double)op->scale;
    }
    free(f);
}

static void ref_rmsnorm(const reference *r, const lr_op *op, const double *x, double *out)
{
    double *w = ref_vector(r, op->w, 0);
    uint64_t n = ref_rows(r, op->out) * r->p->values[op->out].width;
    for (uint64_t at = 0; at < n; at += op->group) {
        double sum = 0;
        for (uint32_t i = 0; i < op->group; i++) sum += x[at + i] * x[at + i];
        double scale = 1 / sqrt(sum / op->group + (double)op->eps);
        for (uint32_t i = 0; i < op->group; i++) out[at + i] = x[at + i] * scale * w[i];
    }
    free(w);
}

static void ref_layernorm(const reference *r, const lr_op *op, const double *x, double *out)
{
    double *w = ref_vector(r, op->w, 0), *b = ref_vector(r, op->bias, 0);
    uint32_t width = r->p->values[op->out].width;
    for (uint64_t row = 0; row < ref_rows(r, op->out); row++, x += width, out += width) {
        double mean = 0, var = 0;
        for (uint32_t i = 0; i < width; i++) mean += x[i] / width;
        for (uint32_t i = 0; i < width; i++) var += (x[i] - mean) * (x[i] - mean) / width;
        for (uint32_t i = 0; i < width; i++)
            out[i] = (x[i] - mean) / sqrt(var + (double)op->eps) * w[i] + (b ? b[i] : 0);
    }
    free(w);
    free(b);
}

static double ref_dot(const float *w, const double *x, uint64_t n)
{
    double sum = 0;
    for (uint64_t i = 0; i < n; i++) sum += (double)w[i] * x[i];
    return sum;
}

static void ref_linear(const reference *r, const lr_op *op, const double *x, double *out)
{
    const lr_tensor *t = r->p->weights[op->w].t;
    double *b = ref_vector(r, op->bias, 0);
    float *w = malloc(t->ne[0] * sizeof *w);
    for (uint64_t o = 0; o < t->ne[1]; o++) {
        lr_tensor_row(t, 0, o, w);
        for (uint64_t row = 0; row < ref_rows(r, op->out); row++) {
            out[row * t->ne[1] + o] = ref_dot(w, x + row * t->ne[0], t->ne[0]) + (b ? b[o] : 0);
        }
    }
    free(w);
    free(b);
}

static void ref_rope(const reference *r, const lr_op *op, const double *x, double *out)
{
    const lr_rope *rope = &r->p->ropes[op->rope];
    uint32_t width = r->p->values[op->out].width, half = rope->n_rot / 2;
    memcpy(out, x, r->n_tok * (size_t)width * sizeof *x);
    for (uint32_t t = 0; t < r->n_tok; t++) {
        for (uint32_t h = 0; h < width; h += op->group) {
            double *v = out + (size_t)t * width + h;
            for (uint32_t i = 0; i < half; i++) {
                uint32_t a = rope->kind == LR_ROPE_PAIRS ? 2 * i : i,
                         b = rope->kind == LR_ROPE_PAIRS ? 2 * i + 1 : i + half;
                double c = cos(t * rope->inv_freq[i]) * rope->mscale, s = sin(t * rope->inv_freq[i]) * rope->mscale;
                double va = v[a], vb = v[b];
                v[a] = va * c - vb * s;
                v[b] = va * s + vb * c;
            }
        }
    }
}

/* One head of one query at position t: softmax over the keys it sees. */
static void ref_attend_one(const lr_attn *a, const double *q, const double *k, const double *v, size_t stride,
                           uint32_t t, const double *sink, double *score, double *out)
{
    uint32_t first = a->window && t + 1 > a->window ? t + 1 - a->window : 0;
    double max = sink ? *sink : -INFINITY, sum = 0;
    for (uint32_t j = first; j <= t; j++) {
        double s = 0;
        for (uint32_t i = 0; i < a->head_dim; i++) s += q[i] * k[j * stride + i];
        s *= (double)a->scale;
        if (a->softcap > 0) s = (double)a->softcap * tanh(s / (double)a->softcap);
        score[j] = s;
        max = fmax(max, s);
    }
    for (uint32_t j = first; j <= t; j++) sum += score[j] = exp(score[j] - max);
    if (sink) sum += exp(*sink - max);
    memset(out, 0, a->head_dim * sizeof *out);
    for (uint32_t j = first; j <= t; j++) {
        for (uint32_t i = 0; i < a->head_dim; i++) out[i] += score[j] / sum * v[j * stride + i];
    }
}

static void ref_attend(const reference *r, const lr_op *op, double *out)
{
    const lr_attn *a = &op->attn;
    const double *q = r->values[op->in[0]], *k = r->values[op->in[1]], *v = r->values[op->in[2]];
    double *sinks = ref_vector(r, a->sinks, 0), *score = malloc(r->n_tok * sizeof *score);
    size_t stride = (size_t)a->n_head_kv * a->head_dim, width = (size_t)a->n_head * a->head_dim;
    for (uint32_t t = 0; t < r->n_tok; t++) {
        for (uint32_t h = 0; h < a->n_head; h++) {
            size_t kv = (size_t)(h / (a->n_head / a->n_head_kv)) * a->head_dim,
                   at = t * width + (size_t)h * a->head_dim;
            ref_attend_one(a, q + at, k + kv, v + kv, stride, t, sinks ? sinks + h : NULL, score, out + at);
        }
    }
    free(sinks);
    free(score);
}

static double ref_fn(lr_fn fn, double x)
{
    switch (fn) {
    case LR_FN_SILU: return x / (1 + exp(-x));
    case LR_FN_GELU_TANH: return 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
    case LR_FN_GELU_ERF: return 0.5 * x * (1 + erf(x / 1.41421356237309504880));
    case LR_FN_RELU: return x > 0 ? x : 0;
    case LR_FN_RELU2: return x > 0 ? x * x : 0;
    default: return NAN;
    }
}

static double ref_glu(lr_fn fn, double g, double u)
{
    if (fn != LR_FN_SWIGLU_OAI) return ref_fn(fn, g) * u;
    g = fmin(g, 7);
    u = fmax(fmin(u, 7), -7);
    return g / (1 + exp(-1.702 * g)) * (u + 1);
}

/* Probabilities (or scores) of all experts from their logits. */
static void ref_gate(const lr_route *route, double *s, uint32_t n)
{
    double max = s[0], sum = 0;
    if (route->gating == LR_ROUTE_TOPK_SOFTMAX) return;
    for (uint32_t i = 1; i < n; i++) max = fmax(max, s[i]);
    for (uint32_t i = 0; i < n; i++) {
        if (route->gating == LR_ROUTE_SIGMOID) s[i] = 1 / (1 + exp(-s[i]));
        else sum += s[i] = exp(s[i] - max);
    }
    if (route->gating == LR_ROUTE_SIGMOID) return;
    for (uint32_t i = 0; i < n; i++) s[i] /= sum;
}

static void ref_choose(const lr_route *route, const double *s, const double *bias, uint32_t n, ref_route *out)
{
    double sum = 0, max = -INFINITY;
    for (uint32_t j = 0; j < route->k; j++) {
        uint32_t best = n;
        for (uint32_t e = 0; e < n; e++) {
            bool taken = false;
            for (uint32_t i = 0; i < j; i++) taken = taken || out[i].expert == e;
            if (!taken && (best == n || s[e] + (bias ? bias[e] : 0) > s[best] + (bias ? bias[best] : 0))) best = e;
        }
        out[j] = (ref_route){best, s[best]};
        max = fmax(max, s[best]);
    }
    for (uint32_t j = 0; j < route->k; j++) {
        if (route->gating == LR_ROUTE_TOPK_SOFTMAX) out[j].weight = exp(out[j].weight - max);
        sum += out[j].weight;
    }
    bool divide = route->renorm || route->gating == LR_ROUTE_TOPK_SOFTMAX;
    for (uint32_t j = 0; j < route->k; j++) out[j].weight *= (double)route->scale / (divide ? sum : 1);
}

static void ref_route_op(const reference *r, const lr_op *op, const double *x, ref_route *out)
{
    uint32_t n = r->p->values[op->in[0]].width;
    double *bias = ref_vector(r, op->route.bias, 0), *s = malloc(n * sizeof *s);
    for (uint32_t t = 0; t < r->n_tok; t++) {
        memcpy(s, x + (size_t)t * n, n * sizeof *s);
        ref_gate(&op->route, s, n);
        ref_choose(&op->route, s, bias, n, out + (size_t)t * op->route.k);
    }
    free(bias);
    free(s);
}

static void ref_routed(const reference *r, const lr_op *op, double *out)
{
    const lr_tensor *t = r->p->weights[op->w].t;
    const ref_route *routes = r->routes[op->in[1]];
    uint32_t k = r->p->values[op->in[1]].width, mul = r->p->values[op->in[0]].mul;
    float *w = malloc(t->ne[0] * sizeof *w);
    for (uint64_t row = 0; row < (uint64_t)r->n_tok * k; row++) {
        const double *x = r->values[op->in[0]] + (mul == 1 ? row / k : row) * t->ne[0];
        double *b = ref_vector(r, op->bias, routes[row].expert);
        for (uint64_t o = 0; o < t->ne[1]; o++) {
            lr_tensor_row(t, routes[row].expert, o, w);
            out[row * t->ne[1] + o] = ref_dot(w, x, t->ne[0]) + (b ? b[o] : 0);
        }
        free(b);
    }
    free(w);
}

static void ref_combine(const reference *r, const lr_op *op, const double *x, double *out)
{
    uint32_t k = r->p->values[op->in[1]].width, width = r->p->values[op->out].width;
    memset(out, 0, (size_t)r->n_tok * width * sizeof *out);
    for (size_t row = 0; row < (size_t)r->n_tok * k; row++) {
        for (uint32_t i = 0; i < width; i++)
            out[row / k * width + i] += r->routes[op->in[1]][row].weight * x[row * width + i];
    }
}

static void ref_each(const reference *r, const lr_op *op, const double *x, const double *y, double *out)
{
    uint64_t n = ref_rows(r, op->out) * r->p->values[op->out].width;
    double s = (double)op->scale;
    for (uint64_t i = 0; i < n; i++) {
        switch ((lr_op_kind)op->kind) {
        case LR_OP_ADD: out[i] = x[i] + y[i]; break;
        case LR_OP_SCALE: out[i] = x[i] * s; break;
        case LR_OP_ACT: out[i] = ref_fn(op->fn, x[i]); break;
        case LR_OP_GLU: out[i] = ref_glu(op->fn, x[i], y[i]); break;
        case LR_OP_SOFTCAP: out[i] = s * tanh(x[i] / s); break;
        default: out[i] = x[i]; break; /* PICK: every row is wanted */
        }
    }
}

static void ref_op(reference *r, const lr_op *op)
{
    const lr_value *v = &r->p->values[op->out];
    uint64_t n = ref_rows(r, op->out) * v->width;
    const double *x = op->in[0] == LR_NONE ? NULL : r->values[op->in[0]];
    const double *y = op->in[1] == LR_NONE ? NULL : r->values[op->in[1]];
    if (v->routing) {
        r->routes[op->out] = calloc(n, sizeof(ref_route));
        ref_route_op(r, op, x, r->routes[op->out]);
        return;
    }
    double *out = r->values[op->out] = calloc(n, sizeof *out);
    switch ((lr_op_kind)op->kind) {
    case LR_OP_EMBED: ref_embed(r, op, out); break;
    case LR_OP_RMSNORM: ref_rmsnorm(r, op, x, out); break;
    case LR_OP_LAYERNORM: ref_layernorm(r, op, x, out); break;
    case LR_OP_LINEAR: ref_linear(r, op, x, out); break;
    case LR_OP_ROPE: ref_rope(r, op, x, out); break;
    case LR_OP_ATTEND: ref_attend(r, op, out); break;
    case LR_OP_LINEAR_ROUTED: ref_routed(r, op, out); break;
    case LR_OP_COMBINE: ref_combine(r, op, x, out); break;
    default: ref_each(r, op, x, y, out); break;
    }
}

/* Logits [n_tok, n_vocab] of the ids at positions 0, 1, ...; free() them. */
__attribute__((unused)) static double *reference_run(const lr_program *p, const int32_t *ids, uint32_t n_tok)
{
    reference r = {.p = p, .ids = ids, .n_tok = n_tok};
    r.values = calloc(p->n_values, sizeof *r.values);
    r.routes = calloc(p->n_values, sizeof *r.routes);
    for (uint32_t i = 0; i < p->n_ops; i++) ref_op(&r, &p->ops[i]);
    double *logits = r.values[p->logits];
    for (uint32_t i = 0; i < p->n_values; i++) {
        if (i != p->logits) free(r.values[i]);
        free(r.routes[i]);
    }
    free(r.values);
    free(r.routes);
    return logits;
}

#endif
