/* Whole programs on the CPU backend: against a naive interpreter in double, and against themselves bit for bit, however
 * the tokens are cut into steps, whoever shares the step, on any number of threads; all memory poisoned before. */
#include "test.h"

#include "exec.h"

enum { MAX_SEQ = 3, N_VOCAB = 91 };
static larder_error err;

/* ---------------------------------------------------------------- small random programs */
typedef struct shape {
    const char *name;
    uint32_t n_layer, n_embd, n_head, n_head_kv, head_dim, n_ff, n_expert, k, window, fmt;
    float softcap, final_cap, embed_scale;
    lr_fn fn;
    lr_rope_kind rope;
    int gating;
    bool sinks, bias, qk_norm, post_norm, parallel, layernorm, turned, plain_act, no_rope;
} shape;

static const shape shapes[] = {
    {.name = "llama", .n_layer = 2, .n_embd = 64, .n_head = 4, .n_head_kv = 2, .head_dim = 16, .n_ff = 96},
    {.name = "odd widths",
     .n_layer = 2,
     .n_embd = 60,
     .n_head = 3,
     .n_head_kv = 1,
     .head_dim = 20,
     .n_ff = 52,
     .bias = true,
     .rope = LR_ROPE_HALVES,
     .fn = LR_FN_GELU_ERF},
    {.name = "gemma",
     .n_layer = 3,
     .n_embd = 64,
     .n_head = 4,
     .n_head_kv = 2,
     .head_dim = 32,
     .n_ff = 96,
     .softcap = 5,
     .final_cap = 3,
     .post_norm = true,
     .window = 9,
     .embed_scale = 8,
     .fn = LR_FN_GELU_TANH,
     .qk_norm = true,
     .rope = LR_ROPE_HALVES},
    {.name = "moe",
     .n_layer = 2,
     .n_embd = 64,
     .n_head = 8,
     .n_head_kv = 1,
     .head_dim = 16,
     .n_ff = 32,
     .n_expert = 7,
     .k = 3,
     .gating = LR_ROUTE_SOFTMAX},
    {.name = "gpt-oss",
     .n_layer = 2,
     .n_embd = 64,
     .n_head = 4,
     .n_head_kv = 2,
     .head_dim = 64,
     .n_ff = 32,
     .n_expert = 5,
     .k = 2,
     .gating = LR_ROUTE_TOPK_SOFTMAX,
     .sinks = true,
     .bias = true,
     .window = 40,
     .fn = LR_FN_SWIGLU_OAI,
     .turned = true},
    {.name = "sigmoid routing",
     .n_layer = 1,
     .n_embd = 32,
     .n_head = 2,
     .n_head_kv = 2,
     .head_dim = 16,
     .n_ff = 32,
     .n_expert = 4,
     .k = 4,
     .gating = LR_ROUTE_SIGMOID,
     .fn = LR_FN_RELU2},
    {.name = "parallel",
     .n_layer = 2,
     .n_embd = 64,
     .n_head = 2,
     .n_head_kv = 2,
     .head_dim = 96,
     .n_ff = 64,
     .parallel = true,
     .layernorm = true,
     .plain_act = true,
     .fn = LR_FN_RELU,
     .bias = true,
     .fmt = LR_FMT_BF16,
     .no_rope = true},
    {.name = "q8_0",
     .n_layer = 2,
     .n_embd = 64,
     .n_head = 4,
     .n_head_kv = 2,
     .head_dim = 16,
     .n_ff = 96,
     .fmt = LR_FMT_Q8_0},
};

typedef struct model {
    lr_program p;
    lr_arena arena;
    uint32_t n_tensor;
} model;

static const lr_tensor *tensor(model *m, const char *name, uint32_t fmt, uint64_t n0, uint64_t n1, uint64_t n2,
                               float mid, float range)
{
    lr_tensor *t = lr_arena_alloc(&m->arena, sizeof *t);
    uint64_t row = lr_fmt_row_bytes(fmt, n0);
    CHECK(row);
    uint8_t *data = lr_arena_alloc(&m->arena, row * n1 * n2);
    float *x = lr_alloc(n0 * sizeof *x);
    for (uint64_t r = 0; r < n1 * n2; r++) {
        for (uint64_t i = 0; i < n0; i++) x[i] = mid + test_uniform(-range, range);
        CHECK_OK(lr_encode_row(fmt, x, data + r * row, n0, NULL, &err));
    }
    lr_free(x);
    char *label = lr_arena_alloc(&m->arena, 64);
    snprintf(label, 64, "blk.%u.%s.weight", m->n_tensor++, name);
    *t = (lr_tensor){.name = lr_str_of(label),
                     .fmt = fmt,
                     .n_dims = n2 > 1   ? 3
                               : n1 > 1 ? 2
                                        : 1,
                     .ne = {n0, n1, n2, 1},
                     .data = data,
                     .n_bytes = row * n1 * n2,
                     .row_stride = row,
                     .mat_stride = row * n1};
    return t;
}

static uint16_t mat(model *m, const shape *s, const char *name, uint32_t in, uint32_t out, uint32_t many)
{
    uint32_t fmt = s->fmt;
    float range = 1.7f / sqrtf((float)in);
    if (!s->turned || many < 2) return lr_weight_use(&m->p, tensor(m, name, fmt, in, out, many, 0, range), 0);
    lr_tensor *t = (lr_tensor *)(uintptr_t)tensor(m, name, LR_FMT_BF16, out, in, many, 0,
                                                  range); /* stored the other way */
    t->ne[0] = in;
    t->ne[1] = out;
    t->col_stride = t->row_stride;
    t->row_stride = 2;
    return lr_weight_use(&m->p, t, 0);
}
static uint16_t vec(model *m, const char *name, uint32_t n, float mid, float range, float add)
{
    return lr_weight_use(&m->p, tensor(m, name, LR_FMT_F32, n, 1, 1, mid, range), add);
}
static uint16_t bias(model *m, const shape *s, uint32_t n, uint32_t many)
{
    if (!s->bias) return LR_NONE;
    return lr_weight_use(&m->p, tensor(m, "bias", many > 1 ? LR_FMT_F32 : LR_FMT_F32, n, many, 1, 0, 0.3f), 0);
}
static lr_val norm(model *m, const shape *s, lr_val x)
{
    if (s->layernorm)
        return lr_layernorm(&m->p, x, vec(m, "norm", s->n_embd, 1, 0.3f, 0), vec(m, "norm_b", s->n_embd, 0, 0.3f, 0),
                            1e-5);
    return lr_rmsnorm(&m->p, x, vec(m, "norm", s->n_embd, 0, 0.3f, 1), 1e-5, 0);
}

static lr_val attention(model *m, const shape *s, lr_val h, uint32_t layer)
{
    lr_program *p = &m->p;
    uint32_t nq = s->n_head * s->head_dim, nk = s->n_head_kv * s->head_dim;
    lr_val q = lr_linear(p, h, mat(m, s, "attn_q", s->n_embd, nq, 1), bias(m, s, nq, 1));
    lr_val k = lr_linear(p, h, mat(m, s, "attn_k", s->n_embd, nk, 1), bias(m, s, nk, 1));
    lr_val v = lr_linear(p, h, mat(m, s, "attn_v", s->n_embd, nk, 1), bias(m, s, nk, 1));
    if (s->qk_norm) {
        q = lr_rmsnorm(p, q, vec(m, "q_norm", s->head_dim, 1, 0.2f, 0), 1e-6, s->head_dim);
        k = lr_rmsnorm(p, k, vec(m, "k_norm", s->head_dim, 1, 0.2f, 0), 1e-6, s->head_dim);
    }
    if (!s->no_rope) {
        q = lr_rotate(p, q, 0, s->head_dim);
        k = lr_rotate(p, k, 0, s->head_dim);
    }
    lr_attn a = {.layer = layer,
                 .n_head = s->n_head,
                 .n_head_kv = s->n_head_kv,
                 .head_dim = s->head_dim,
                 .scale = 1.0f / sqrtf((float)s->head_dim),
                 .window = layer % 2 ? 0 : s->window,
                 .softcap = s->softcap,
                 .sinks = s->sinks ? vec(m, "sinks", s->n_head, 0, 2, 0) : LR_NONE};
    return lr_linear(p, lr_attend(p, q, k, v, &a), mat(m, s, "attn_output", nq, s->n_embd, 1),
                     bias(m, s, s->n_embd, 1));
}

static lr_val ffn(model *m, const shape *s, lr_val h)
{
    lr_program *p = &m->p;
    if (s->n_expert) {
        lr_val scores = lr_linear(p, h, mat(m, s, "ffn_gate_inp", s->n_embd, s->n_expert, 1), LR_NONE);
        lr_route r = {.k = s->k, .renorm = true, .scale = 1.5f, .bias = LR_NONE};
        r.gating = s->gating == LR_ROUTE_SOFTMAX   ? LR_ROUTE_SOFTMAX
                   : s->gating == LR_ROUTE_SIGMOID ? LR_ROUTE_SIGMOID
                                                   : LR_ROUTE_TOPK_SOFTMAX;
        if (s->gating == LR_ROUTE_SIGMOID) r.bias = vec(m, "route_bias", s->n_expert, 0, 0.5f, 0);
        lr_val to = lr_route_topk(p, scores, &r);
        lr_val g = lr_linear_routed(p, h, to, mat(m, s, "ffn_gate_exps", s->n_embd, s->n_ff, s->n_expert),
                                    bias(m, s, s->n_ff, s->n_expert));
        lr_val u = lr_linear_routed(p, h, to, mat(m, s, "ffn_up_exps", s->n_embd, s->n_ff, s->n_expert),
                                    bias(m, s, s->n_ff, s->n_expert));
        lr_val y = lr_glu(p, s->fn, g, u);
        y = lr_linear_routed(p, y, to, mat(m, s, "ffn_down_exps", s->n_ff, s->n_embd, s->n_expert),
                             bias(m, s, s->n_embd, s->n_expert));
        return lr_combine(p, y, to);
    }
    lr_val u = lr_linear(p, h, mat(m, s, "ffn_up", s->n_embd, s->n_ff, 1), bias(m, s, s->n_ff, 1));
    if (s->plain_act) {
        u = lr_act(p, s->fn, u);
    } else {
        u = lr_glu(p, s->fn, lr_linear(p, h, mat(m, s, "ffn_gate", s->n_embd, s->n_ff, 1), LR_NONE), u);
    }
    return lr_linear(p, u, mat(m, s, "ffn_down", s->n_ff, s->n_embd, 1), bias(m, s, s->n_embd, 1));
}

static void build(model *m, const shape *s)
{
    *m = (model){0};
    lr_program *p = &m->p;
    p->logits = LR_NONE;
    p->n_vocab = N_VOCAB;
    p->n_embd = s->n_embd;
    p->n_layer = s->n_layer;
    p->n_ctx = 4096;
    double *freq = lr_arena_alloc(&m->arena, sizeof *freq * s->head_dim);
    uint32_t n_rot = s->head_dim / 4 * 4; /* for odd widths: part of the head stays */
    for (uint32_t i = 0; i < n_rot / 2; i++) freq[i] = pow(10000, -2.0 * i / n_rot);
    p->ropes[p->n_ropes++] = (lr_rope){s->rope, n_rot, freq, 1.1};
    lr_val x = lr_embed(p, lr_weight_use(p, tensor(m, "token_embd", s->fmt, s->n_embd, N_VOCAB, 1, 0, 1), 0),
                        s->embed_scale != 0 ? s->embed_scale : 1);
    for (uint32_t l = 0; l < s->n_layer; l++) {
        p->layer = (uint16_t)l;
        lr_val h = norm(m, s, x), a = attention(m, s, h, l);
        if (s->parallel) {
            x = lr_add(p, lr_add(p, x, a), ffn(m, s, h));
            continue;
        }
        x = lr_add(p, x, s->post_norm ? norm(m, s, a) : a);
        a = ffn(m, s, norm(m, s, x));
        x = lr_add(p, x, s->post_norm ? norm(m, s, a) : a);
    }
    x = lr_linear(p, norm(m, s, lr_pick(p, x)), mat(m, s, "output", s->n_embd, N_VOCAB, 1), LR_NONE);
    if (s->final_cap != 0) x = lr_softcap(p, x, s->final_cap);
    lr_output(p, x);
    CHECK_OK(lr_program_check(p, &err));
}

static void unbuild(model *m)
{
    lr_program_free(&m->p);
    lr_arena_free(&m->arena);
}

/* ---------------------------------------------------------------- the naive interpreter: one sequence, every row */
static void weight_row(const lr_program *p, uint16_t w, uint64_t m, uint64_t r, double *to)
{
    const lr_tensor *t = p->weights[w].t;
    float *x = lr_alloc(t->ne[0] * sizeof *x);
    const uint8_t *at = t->data + m * t->mat_stride + r * t->row_stride;
    if (t->col_stride)
        for (uint64_t i = 0; i < t->ne[0]; i++) lr_decode_row(t->fmt, at + i * t->col_stride, NULL, x + i, 1);
    else lr_decode_row(t->fmt, at, NULL, x, t->ne[0]);
    for (uint64_t i = 0; i < t->ne[0]; i++) to[i] = (double)x[i] + (double)p->weights[w].add;
    lr_free(x);
}
static double weight_at(const lr_program *p, uint16_t w, uint64_t r, uint64_t i)
{
    double row[512];
    CHECK(p->weights[w].t->ne[0] <= 512);
    weight_row(p, w, 0, r, row);
    return row[i];
}

static double fn_of(lr_fn fn, double x)
{
    switch (fn) {
    case LR_FN_GELU_TANH: return 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
    case LR_FN_GELU_ERF: return 0.5 * x * erfc(-x / sqrt(2));
    case LR_FN_RELU: return x > 0 ? x : 0;
    case LR_FN_RELU2: return x > 0 ? x * x : 0;
    case LR_FN_SWIGLU_OAI: return x / (1 + exp(-1.702 * x));
    default: return x / (1 + exp(-x));
    }
}

static void ref_linear(const lr_program *p, const lr_op *o, uint64_t m, const double *x, double *y, uint32_t width)
{
    double row[512];
    for (uint32_t r = 0; r < width; r++) {
        weight_row(p, o->w, m, r, row);
        y[r] = 0;
        for (uint64_t i = 0; i < p->weights[o->w].t->ne[0]; i++) y[r] += row[i] * x[i];
        if (o->bias != LR_NONE) y[r] += weight_at(p, o->bias, m, r);
    }
}

static void ref_attend(const lr_program *p, const lr_op *o, const double *q, const double *k, const double *v,
                       uint32_t t, double *y)
{
    const lr_attn *a = &o->attn;
    uint32_t group = a->n_head / a->n_head_kv, d = a->head_dim,
             first = a->window && t >= a->window ? t - a->window + 1 : 0;
    double *s = lr_alloc((t + 1) * sizeof *s);
    for (uint32_t h = 0; h < a->n_head; h++) {
        double top = a->sinks != LR_NONE ? weight_at(p, a->sinks, 0, h) : -INFINITY, sum = 0;
        for (uint32_t j = first; j <= t; j++) {
            s[j] = 0;
            for (uint32_t i = 0; i < d; i++)
                s[j] += q[(size_t)t * a->n_head * d + h * d + i] *
                        k[(size_t)j * a->n_head_kv * d + h / group * d + i];
            s[j] *= (double)a->scale;
            if (a->softcap > 0) s[j] = (double)a->softcap * tanh(s[j] / (double)a->softcap);
            top = fmax(top, s[j]);
        }
        if (a->sinks != LR_NONE) sum = exp(weight_at(p, a->sinks, 0, h) - top);
        for (uint32_t i = 0; i < d; i++) y[h * d + i] = 0;
        for (uint32_t j = first; j <= t; j++) {
            double e = exp(s[j] - top);
            sum += e;
            for (uint32_t i = 0; i < d; i++) y[h * d + i] += e * v[(size_t)j * a->n_head_kv * d + h / group * d + i];
        }
        for (uint32_t i = 0; i < d; i++) y[h * d + i] /= sum;
    }
    lr_free(s);
}

static void ref_route(const lr_program *p, const lr_op *o, const double *x, uint32_t n, double *y)
{
    const lr_route *r = &o->route;
    double s[64], sum = 0, chosen = 0;
    bool taken[64] = {0};
    for (uint32_t e = 0; e < n; e++) sum += exp(x[e]);
    for (uint32_t e = 0; e < n; e++)
        s[e] = r->gating == LR_ROUTE_SOFTMAX   ? exp(x[e]) / sum
               : r->gating == LR_ROUTE_SIGMOID ? 1 / (1 + exp(-x[e]))
                                               : x[e];
    for (uint32_t j = 0; j < r->k; j++) {
        uint32_t best = n;
        double top = -INFINITY;
        for (uint32_t e = 0; e < n; e++) {
            double c = s[e] + (r->bias != LR_NONE ? weight_at(p, r->bias, 0, e) : 0);
            if (!taken[e] && c > top) {
                top = c;
                best = e;
            }
        }
        taken[best] = true;
        y[2 * j] = best;
        y[2 * j + 1] = r->gating == LR_ROUTE_TOPK_SOFTMAX ? exp(s[best]) : s[best];
        chosen += y[2 * j + 1];
    }
    for (uint32_t j = 0; j < r->k; j++)
        y[2 * j + 1] *= (r->renorm || r->gating == LR_ROUTE_TOPK_SOFTMAX ? 1 / chosen : 1) * (double)r->scale;
}

static void ref_norm(const lr_program *p, const lr_op *o, const double *x, double *y, uint32_t n)
{
    double mid = 0, sum = 0;
    for (uint32_t i = 0; i < n && o->kind == LR_OP_LAYERNORM; i++) mid += x[i] / n;
    for (uint32_t i = 0; i < n; i++) sum += (x[i] - mid) * (x[i] - mid) / n;
    for (uint32_t i = 0; i < n; i++) {
        y[i] = (x[i] - mid) / sqrt(sum + (double)o->eps) * (o->w != LR_NONE ? weight_at(p, o->w, 0, i) : 1);
        if (o->kind == LR_OP_LAYERNORM && o->bias != LR_NONE) y[i] += weight_at(p, o->bias, 0, i);
    }
}

/* One row (token t) of one operator; v[] are whole values. */
static void ref_row(const lr_program *p, const lr_op *o, double *const *v, const int32_t *ids, uint32_t t)
{
    const lr_value *out = &p->values[o->out], *in = o->in[0] == LR_NONE ? NULL : &p->values[o->in[0]];
    size_t w_out = (size_t)out->width * (out->routing ? 2 : 1), w_in = in ? in->width : 0;
    double *y = v[o->out] + t * w_out * out->mul;
    const double *x = in ? v[o->in[0]] + t * w_in * in->mul : NULL;
    const double *z = o->in[1] != LR_NONE && o->kind != LR_OP_ATTEND
                          ? v[o->in[1]] + (size_t)t * p->values[o->in[1]].width * p->values[o->in[1]].mul *
                                              (p->values[o->in[1]].routing ? 2 : 1)
                          : NULL;
    size_t all = w_out * out->mul;
    switch (o->kind) {
    case LR_OP_EMBED:
        weight_row(p, o->w, 0, (uint32_t)ids[t], y);
        for (size_t i = 0; i < all; i++) y[i] *= (double)o->scale;
        break;
    case LR_OP_RMSNORM:
        for (size_t i = 0; i < w_in; i += o->group ? o->group : w_in)
            ref_norm(p, o, x + i, y + i, o->group ? o->group : (uint32_t)w_in);
        break;
    case LR_OP_LAYERNORM: ref_norm(p, o, x, y, (uint32_t)w_in); break;
    case LR_OP_LINEAR: ref_linear(p, o, 0, x, y, out->width); break;
    case LR_OP_ROPE: {
        const lr_rope *r = &p->ropes[o->rope];
        memcpy(y, x, all * sizeof *y);
        for (size_t h = 0; h < all; h += o->group) {
            for (uint32_t i = 0; i < r->n_rot / 2; i++) {
                size_t a = h + (r->kind == LR_ROPE_PAIRS ? 2 * i : i),
                       b = r->kind == LR_ROPE_PAIRS ? a + 1 : a + r->n_rot / 2;
                double c = cos(t * r->inv_freq[i]) * r->mscale, s = sin(t * r->inv_freq[i]) * r->mscale;
                y[a] = x[a] * c - x[b] * s;
                y[b] = x[a] * s + x[b] * c;
            }
        }
        break;
    }
    case LR_OP_ATTEND: ref_attend(p, o, v[o->in[0]], v[o->in[1]], v[o->in[2]], t, y); break;
    case LR_OP_ADD:
        for (size_t i = 0; i < all; i++) y[i] = x[i] + z[i];
        break;
    case LR_OP_SCALE:
        for (size_t i = 0; i < all; i++) y[i] = x[i] * (double)o->scale;
        break;
    case LR_OP_ACT:
        for (size_t i = 0; i < all; i++) y[i] = fn_of((lr_fn)o->fn, x[i]);
        break;
    case LR_OP_GLU:
        for (size_t i = 0; i < all; i++)
            y[i] = o->fn == LR_FN_SWIGLU_OAI ? fn_of(LR_FN_SWIGLU_OAI, fmin(x[i], 7)) * (fmax(-7, fmin(7, z[i])) + 1)
                                             : fn_of((lr_fn)o->fn, x[i]) * z[i];
        break;
    case LR_OP_SOFTCAP:
        for (size_t i = 0; i < all; i++) y[i] = (double)o->scale * tanh(x[i] / (double)o->scale);
        break;
    case LR_OP_ROUTE: ref_route(p, o, x, (uint32_t)w_in, y); break;
    case LR_OP_LINEAR_ROUTED:
        for (uint32_t j = 0; j < out->mul; j++)
            ref_linear(p, o, (uint64_t)z[2 * j], x + (in->mul > 1 ? j * w_in : 0), y + j * w_out, out->width);
        break;
    case LR_OP_COMBINE:
        for (size_t i = 0; i < all; i++) {
            y[i] = 0;
            for (uint32_t j = 0; j < in->mul; j++) y[i] += z[2 * j + 1] * x[j * w_in + i];
        }
        break;
    default: memcpy(y, x, all * sizeof *y); break; /* PICK: here every row is wanted */
    }
}

static double *reference(const lr_program *p, const int32_t *ids, uint32_t n)
{
    double **v = lr_calloc(p->n_values, sizeof *v), *out;
    for (uint32_t i = 0; i < p->n_values; i++)
        v[i] = lr_calloc((size_t)n * p->values[i].width * p->values[i].mul * 2, sizeof **v);
    for (uint32_t i = 0; i < p->n_ops; i++)
        for (uint32_t t = 0; t < n; t++) ref_row(p, &p->ops[i], v, ids, t);
    out = v[p->logits];
    v[p->logits] = NULL;
    for (uint32_t i = 0; i < p->n_values; i++) lr_free(v[i]);
    lr_free(v);
    return out;
}

/* ---------------------------------------------------------------- running */
enum { N_BLOCK = 96 * MAX_SEQ };
typedef struct rig {
    lr_pool *pool;
    lr_exec *x;
    uint32_t blocks[MAX_SEQ][N_BLOCK / MAX_SEQ];
} rig;

static void poison(lr_exec *x, bool cache)
{
    memset(x->shared, 0xff, x->c.shared);
    memset(x->scratch, 0xff, x->c.scratch * x->c.l.n_thread);
    if (x->parts) memset(x->parts, 0xff, x->c.parts);
    memset(x->logits, 0xff, x->c.logits_bytes);
    if (cache) memset(x->cache, 0xff, x->c.cache);
}

static void rig_open(rig *r, const lr_program *p, uint32_t n_thread, larder_kv kv, larder_act act)
{
    lr_limits l = {.n_tok = 600,
                   .n_out = 600,
                   .n_seq = MAX_SEQ,
                   .n_ctx = 3000,
                   .n_kv_block = N_BLOCK,
                   .kv = kv,
                   .act = act,
                   .repack = n_thread == 2, /* which nothing else can tell */
                   .n_thread = n_thread};
    CHECK_OK(lr_pool_new((int)n_thread, false, &r->pool, &err));
    CHECK_OK(lr_backend_cpu.open(p, &l, r->pool, &r->x, &err));
    uint32_t order[N_BLOCK];
    for (uint32_t i = 0; i < N_BLOCK; i++) order[i] = i;
    for (uint32_t i = N_BLOCK - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(test_random() % (i + 1)), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    memcpy(r->blocks, order, sizeof order);
    poison(r->x, true);
}
static void rig_close(rig *r)
{
    lr_backend_cpu.close(r->x);
    lr_pool_free(r->pool);
}

/* One step of chunks of several sequences; logits of every token into out[s] (indexed by position). */
static void step(rig *r, uint32_t n_seq, const int32_t *const *ids, const uint32_t *past, const uint32_t *n,
                 float *const *out)
{
    lr_batch_seq seqs[MAX_SEQ];
    int32_t all[1024];
    uint32_t want[1024], t = 0;
    for (uint32_t s = 0; s < n_seq; s++) {
        seqs[s] = (lr_batch_seq){r->blocks[s], past[s], n[s]};
        for (uint32_t i = 0; i < n[s]; i++, t++) {
            all[t] = ids[s][past[s] + i];
            want[t] = t;
        }
    }
    lr_batch b = {all, t, seqs, n_seq, want, t, false};
    const float *logits;
    poison(r->x, false);
    CHECK_OK(lr_backend_cpu.step(r->x, &b, &logits, &err));
    for (uint32_t s = 0; s < n_seq; s++) {
        memcpy(out[s] + (size_t)past[s] * N_VOCAB, logits, (size_t)n[s] * N_VOCAB * sizeof *logits);
        logits += (size_t)n[s] * N_VOCAB;
    }
}

static void run_chunks(rig *r, const int32_t *ids, uint32_t n, uint32_t chunk, float *out)
{
    for (uint32_t at = 0; at < n; at += chunk) {
        uint32_t many = LR_MIN(chunk, n - at);
        step(r, 1, &ids, &at, &many, &out);
    }
}

static void random_ids(int32_t *ids, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) ids[i] = (int32_t)(test_random() % N_VOCAB);
}

static double worst(const float *a, const double *b, uint32_t n)
{
    double diff = 0, size = 0;
    for (size_t i = 0; i < (size_t)n * N_VOCAB; i++) {
        if (!(fabs((double)a[i] - b[i]) < 1e30)) return INFINITY;
        diff = fmax(diff, fabs((double)a[i] - b[i]));
        size = fmax(size, fabs(b[i]));
    }
    return diff / size;
}

enum { N = 75 };
TEST_TIME(matches_a_naive_interpreter, 120)
{
    for (size_t i = 0; i < LR_LEN(shapes); i++) {
        model m;
        build(&m, &shapes[i]);
        int32_t ids[N];
        random_ids(ids, N);
        double *want = reference(&m.p, ids, N);
        float *got = lr_alloc(N * N_VOCAB * sizeof *got);
        static const struct {
            larder_kv kv;
            const char *name;
            double most;
        } forms[] = {{LARDER_KV_F32, "f32", 2e-5},
                     {LARDER_KV_F16, "f16", 5e-3},
                     {LARDER_KV_Q8_0, "q8_0", 5e-2},
                     {LARDER_KV_Q4_0, "q4_0", 0.5}};
        for (size_t f = 0; f < LR_LEN(forms); f++) {
            rig r;
            rig_open(&r, &m.p, 2, forms[f].kv, LARDER_ACT_F32);
            run_chunks(&r, ids, N, N, got);
            double e = worst(got, want, N);
            printf("%s %s: %.2g\n", shapes[i].name, forms[f].name, e);
            /* routed programs may choose another expert for any rounding */
            if (!(e <= (shapes[i].n_expert && f ? 1.5 : forms[f].most)))
                TEST_FAIL("%s, kv %s: off by %g", shapes[i].name, forms[f].name, e);
            rig_close(&r);
        }
        lr_free(want);
        lr_free(got);
        unbuild(&m);
    }
}

static void same(const char *what, const shape *s, const float *a, const float *b, uint32_t n)
{
    for (size_t i = 0; i < (size_t)n * N_VOCAB; i++)
        if (memcmp(&a[i], &b[i], 4))
            TEST_FAIL("%s, %s: position %zu, logit %zu: %.9g, not %.9g", s->name, what, i / N_VOCAB, i % N_VOCAB,
                      (double)a[i], (double)b[i]);
}

/* Three sequences in one step after the other, in chunks of different lengths, decode tokens among them. */
static void run_mixed(rig *r, const int32_t *const *ids, const uint32_t *n, const uint32_t *chunk, float *const *out)
{
    uint32_t at[MAX_SEQ] = {0};
    for (;;) {
        uint32_t n_seq = 0, past[MAX_SEQ], many[MAX_SEQ], which[MAX_SEQ];
        const int32_t *in[MAX_SEQ];
        float *to[MAX_SEQ];
        rig now = *r;
        for (uint32_t s = 0; s < MAX_SEQ; s++) {
            if (at[s] == n[s]) continue;
            which[n_seq] = s;
            past[n_seq] = at[s];
            many[n_seq] = LR_MIN(chunk[s], n[s] - at[s]);
            in[n_seq] = ids[s];
            to[n_seq] = out[s];
            memcpy(now.blocks[n_seq], r->blocks[s], sizeof r->blocks[s]);
            at[s] += many[n_seq++];
        }
        if (!n_seq) return;
        (void)which;
        step(&now, n_seq, in, past, many, to);
    }
}

TEST_TIME(same_in_same_out, 240)
{
    for (size_t i = 0; i < LR_LEN(shapes); i++) {
        for (int mode = 0; mode < 4; mode++) {
            static const larder_kv forms[] = {LARDER_KV_F32, LARDER_KV_F16, LARDER_KV_Q8_0, LARDER_KV_Q4_0};
            if (mode >= 2 && i >= 2) continue; /* how the cache is coded meets attention alone */
            model m;
            build(&m, &shapes[i]);
            int32_t ids[MAX_SEQ][N * 2];
            static float want[MAX_SEQ][N * 2 * N_VOCAB], got[MAX_SEQ][N * 2 * N_VOCAB];
            uint32_t n[MAX_SEQ] = {N * 2, N, 33};
            larder_kv kv = forms[mode];
            larder_act act = mode ? LARDER_ACT_AUTO : LARDER_ACT_F32;
            for (uint32_t s = 0; s < MAX_SEQ; s++) random_ids(ids[s], n[s]);
            rig r;
            rig_open(&r, &m.p, 1, kv, act);
            for (uint32_t s = 0; s < MAX_SEQ; s++) run_chunks(&r, ids[s], n[s], n[s], want[s]);
            rig_close(&r);
            for (uint32_t t = test_quick() ? 3 : 1; t <= 3; t++) {
                static const uint32_t chunks[] = {1, 7, 64, 512};
                char what[64];
                rig_open(&r, &m.p, t, kv, act);
                for (size_t k = 0; k < LR_LEN(chunks); k++) {
                    snprintf(what, sizeof what, "%u threads, chunks of %u", t, chunks[k]);
                    poison(r.x, true);
                    run_chunks(&r, ids[0], n[0], chunks[k], got[0]);
                    same(what, &shapes[i], got[0], want[0], n[0]);
                }
                static const uint32_t cuts[][MAX_SEQ] = {{1, 1, 1}, {5, 64, 1}, {1, 40, 33}, {150, 75, 33}};
                for (size_t k = 0; k < LR_LEN(cuts); k++) {
                    const int32_t *in[MAX_SEQ] = {ids[0], ids[1], ids[2]};
                    float *out[MAX_SEQ] = {got[0], got[1], got[2]};
                    snprintf(what, sizeof what, "%u threads, batched %zu", t, k);
                    poison(r.x, true);
                    run_mixed(&r, in, n, cuts[k], out);
                    for (uint32_t s = 0; s < MAX_SEQ; s++) same(what, &shapes[i], got[s], want[s], n[s]);
                }
                rig_close(&r);
            }
            unbuild(&m);
        }
    }
}

/* The first 64 positions of a second sequence are the first one's blocks; its tail is a copied block and its own. */
TEST(shared_prefix)
{
    model m;
    build(&m, &shapes[0]);
    int32_t a[N], b[N];
    static float want[N * N_VOCAB], got[N * N_VOCAB];
    random_ids(a, N);
    memcpy(b, a, sizeof a);
    for (uint32_t i = 68; i < N; i++) b[i] = (a[i] + 1) % N_VOCAB;
    rig r;
    rig_open(&r, &m.p, 2, LARDER_KV_F16, LARDER_ACT_F32);
    run_chunks(&r, b, N, N, want);
    poison(r.x, true);
    run_chunks(&r, a, N, 20, got);
    uint64_t n_bytes = lr_backend_cpu.kv_block_bytes(&m.p, LARDER_KV_F16);
    uint8_t *bytes = malloc(n_bytes);
    lr_backend_cpu.kv_read(r.x, r.blocks[0][2], bytes);
    lr_backend_cpu.kv_write(r.x, r.blocks[1][2], bytes);
    free(bytes);
    r.blocks[0][2] = r.blocks[1][2];
    const int32_t *ids = b;
    float *out = got;
    uint32_t past = 68, many = N - 68;
    step(&r, 1, &ids, &past, &many, &out);
    same("shared prefix", &shapes[0], got + 68 * N_VOCAB, want + 68 * N_VOCAB, N - 68);
    rig_close(&r);
    unbuild(&m);
}

/* Past a chunk's end attention is cut over threads: the same bits. */
TEST_TIME(long_past, 120)
{
    enum { LONG = 2600, TAIL = 6 };
    static int32_t ids[LONG];
    static float want[LONG * N_VOCAB], got[LONG * N_VOCAB];
    shape s = {.name = "long",
               .n_layer = 2,
               .n_embd = 32,
               .n_head = 4,
               .n_head_kv = 2,
               .head_dim = 16,
               .n_ff = 32,
               .window = 1500,
               .sinks = true};
    model m;
    build(&m, &s);
    random_ids(ids, LONG);
    rig r;
    rig_open(&r, &m.p, 1, LARDER_KV_F16, LARDER_ACT_F32);
    run_chunks(&r, ids, LONG, 600, want);
    rig_close(&r);
    for (uint32_t t = test_quick() ? 3 : 1; t <= 3; t++) {
        rig_open(&r, &m.p, t, LARDER_KV_F16, LARDER_ACT_F32);
        run_chunks(&r, ids, LONG - TAIL, 499, got);
        for (uint32_t i = LONG - TAIL; i < LONG; i++) {
            const int32_t *in = ids;
            float *out = got;
            uint32_t one = 1;
            step(&r, 1, &in, &i, &one, &out);
        }
        same("long past", &s, got, want, LONG);
        rig_close(&r);
    }
    unbuild(&m);
}

/* Only wanted rows are computed, and they are the same; a step may want none. */
TEST(some_outputs)
{
    for (size_t i = 0; i < LR_LEN(shapes); i++) {
        model m;
        build(&m, &shapes[i]);
        int32_t ids[N];
        static float want[N * N_VOCAB];
        random_ids(ids, N);
        rig r;
        rig_open(&r, &m.p, 2, LARDER_KV_F32, LARDER_ACT_F32);
        run_chunks(&r, ids, N, N, want);
        static const uint32_t outs[][3] = {{0}, {N - 1}, {3, 40, N - 1}};
        static const uint32_t n_outs[] = {0, 1, 3};
        for (int k = 0; k < 3; k++) {
            poison(r.x, true);
            lr_batch_seq seq = {r.blocks[0], 0, N};
            lr_batch b = {ids, N, &seq, 1, outs[k], n_outs[k], false};
            const float *logits;
            CHECK_OK(lr_backend_cpu.step(r.x, &b, &logits, &err));
            for (uint32_t o = 0; o < n_outs[k]; o++)
                same("some outputs", &shapes[i], logits + o * N_VOCAB, want + outs[k][o] * N_VOCAB, 1);
        }
        rig_close(&r);
        unbuild(&m);
    }
}

/* plan names what open takes, and open takes no more. */
TEST(plan_is_kept)
{
    model m;
    build(&m, &shapes[4]);
    lr_limits l = {.n_tok = 64, .n_out = 4, .n_seq = 2, .n_ctx = 4096, .n_kv_block = 256, .n_thread = 1};
    lr_account a = {0};
    CHECK_OK(lr_backend_cpu.plan(&m.p, &l, &a, &err));
    uint64_t kv = 0;
    for (uint32_t i = 0; i < a.n; i++) {
        printf("%s: %llu\n", a.items[i].name, (unsigned long long)a.items[i].n_bytes);
        if (!strcmp(a.items[i].name, "KV cache")) kv = a.items[i].n_bytes;
    }
    CHECK(kv >= 256 * lr_backend_cpu.kv_block_bytes(&m.p, LARDER_KV_F16));
    CHECK(kv < 256 * lr_backend_cpu.kv_block_bytes(&m.p, LARDER_KV_F16) + 4096);
    /* what is copied is counted as copied, and no longer as read from the file */
    lr_account with = {0};
    l.repack = true;
    CHECK_OK(lr_backend_cpu.plan(&m.p, &l, &with, &err));
    uint64_t mapped = 0, copied = 0, before = 0;
    for (uint32_t i = 0; i < with.n; i++) {
        if (with.items[i].mapped) mapped += with.items[i].n_bytes;
        if (!strcmp(with.items[i].name, "repacked weights")) copied = with.items[i].n_bytes;
    }
    for (uint32_t i = 0; i < a.n; i++)
        if (a.items[i].mapped) before += a.items[i].n_bytes;
    CHECK(copied > 0 && mapped < before && mapped + copied >= before);
    unbuild(&m);
}

/* What made a node's input, before it was packed. */
static const lr_node *maker_of(const lr_code *c, const lr_node *n)
{
    const lr_node *pack = NULL;
    for (uint32_t i = 0; i < c->n_node; i++)
        if (c->nodes[i].kind == LR_NODE_PACK && c->nodes[i].out == n->in[0]) pack = &c->nodes[i];
    for (uint32_t i = 0; pack && i < c->n_node; i++)
        if (c->nodes[i].out == pack->in[0] && c->nodes[i].kind != LR_NODE_PACK) return &c->nodes[i];
    return NULL;
}

/* What attention brings meets two int8 rows, everything else one. */
TEST(what_attention_brings_is_packed_twice)
{
    model m;
    rig r;
    uint32_t twice = 0, once = 0;
    const shape *q8 = &shapes[LR_LEN(shapes) - 1];
    CHECK_EQ_INT(q8->fmt, LR_FMT_Q8_0);
    build(&m, q8);
    rig_open(&r, &m.p, 1, LARDER_KV_F16, LARDER_ACT_AUTO);
    for (uint32_t i = 0; i < r.x->c.n_node; i++) {
        const lr_node *n = &r.x->c.nodes[i], *from = n->kind == LR_OP_LINEAR ? maker_of(&r.x->c, n) : NULL;
        if (!from || n->t->fmt != LR_FMT_Q8_0) continue;
        bool attention = from->kind == LR_OP_ATTEND || from->kind == LR_OP_PICK;
        if (attention && from->kind == LR_OP_PICK)
            attention = n->actk == LR_ACTK_I8X2; /* the last layer's, of rows wanted */
        CHECK_EQ_INT(n->actk, attention ? LR_ACTK_I8X2 : LR_ACTK_I8);
        if (attention) twice++;
        else once++;
    }
    CHECK_EQ_INT(twice, q8->n_layer);
    CHECK(once >= 5 * q8->n_layer);
    rig_close(&r);
    unbuild(&m);
}

TEST(bad_steps_are_refused)
{
    model m;
    build(&m, &shapes[0]);
    rig r;
    rig_open(&r, &m.p, 1, LARDER_KV_F16, LARDER_ACT_F32);
    int32_t ids[4] = {1, 2, 3, 4};
    uint32_t out[2] = {3, 1}, bad_block[1] = {N_BLOCK};
    const float *logits;
    lr_batch_seq seq = {r.blocks[0], 0, 4};
    lr_batch b = {ids, 4, &seq, 1, out, 2, false};
    CHECK_STATUS(lr_backend_cpu.step(r.x, &b, &logits, &err), LARDER_USAGE);
    b.n_out = 0;
    CHECK_STATUS(lr_backend_cpu.step(r.x, &b, &logits, &err), LARDER_OK);
    seq.n_past = 2999;
    CHECK_STATUS(lr_backend_cpu.step(r.x, &b, &logits, &err), LARDER_LIMIT);
    seq = (lr_batch_seq){bad_block, 0, 4};
    CHECK_STATUS(lr_backend_cpu.step(r.x, &b, &logits, &err), LARDER_USAGE);
    seq = (lr_batch_seq){r.blocks[0], 0, 3};
    CHECK_STATUS(lr_backend_cpu.step(r.x, &b, &logits, &err), LARDER_USAGE);
    b.n_tok = 601;
    CHECK_STATUS(lr_backend_cpu.step(r.x, &b, &logits, &err), LARDER_LIMIT);
    rig_close(&r);
    unbuild(&m);
}
