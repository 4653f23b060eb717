/* arch.c - the parts architectures are written with: weights by name, keys by name, the blocks most of them share.
 *
 * Owns: finding a tensor, checking its shape, saying what is missing. Refuses to own: any architecture.
 */
#include "arch.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

#define NO_LAYER 0xffffu

/* ---------------------------------------------------------------- keys */
typedef struct name_buf {
    char s[160];
} name_buf;

static name_buf key_name(const lr_build *b, const char *key)
{
    name_buf n;
    (void)snprintf(n.s, sizeof n.s, "%s.%s", b->m->arch->name, key);
    return n;
}

void lr_hp_u32(lr_build *b, const char *key, uint32_t min, uint32_t max, uint32_t *io)
{
    if (!b->p->fault.code) (void)lr_key_u32(&b->m->view, key_name(b, key).s, min, max, io, &b->p->fault);
}

void lr_hp_f64(lr_build *b, const char *key, double min, double max, double *io)
{
    if (!b->p->fault.code) (void)lr_key_f64(&b->m->view, key_name(b, key).s, min, max, io, &b->p->fault);
}

void lr_hp_bool(lr_build *b, const char *key, bool *io)
{
    if (!b->p->fault.code) (void)lr_key_bool(&b->m->view, key_name(b, key).s, io, &b->p->fault);
}

void lr_hp_str(lr_build *b, const char *key, lr_str *io)
{
    if (!b->p->fault.code) (void)lr_key_str(&b->m->view, key_name(b, key).s, io, &b->p->fault);
}

/* ---------------------------------------------------------------- weights */
static name_buf tensor_name(uint32_t layer, const char *name)
{
    name_buf n;
    if (layer == NO_LAYER) (void)snprintf(n.s, sizeof n.s, "%s", name);
    else (void)snprintf(n.s, sizeof n.s, "blk.%u.%s", layer, name);
    return n;
}

static const lr_tensor *find(const lr_build *b, uint32_t layer, const char *name)
{
    return lr_file_tensor(&b->m->view, lr_str_of(tensor_name(layer, name).s));
}

bool lr_has(const lr_build *b, const char *name) { return find(b, b->p->layer, name) != NULL; }

static const lr_tensor *missing(lr_build *b, uint32_t layer, const char *name)
{
    if (!b->p->fault.code) {
        (void)lr_fail(&b->p->fault, LARDER_FORMAT, "tensor %s is missing", tensor_name(layer, name).s);
    }
    return NULL;
}

/* The tensor, noted as used and in a format larder holds; NULL if absent or on a fault. */
static const lr_tensor *take(lr_build *b, const char *name)
{
    if (b->p->fault.code) return NULL;
    const lr_tensor *t = find(b, b->p->layer, name);
    if (!t) return NULL;
    if (b->used) b->used[t - b->m->view.tensors] = 1;
    if (lr_fmt_get(t->fmt)) return t;
    (void)lr_fail(&b->p->fault, LARDER_UNSUPPORTED, "tensor %.*s is stored as type %u, which larder does not hold",
                  LR_STR_ARG(t->name), t->fmt);
    return NULL;
}

const lr_tensor *lr_tensor_opt(lr_build *b, const char *name) { return take(b, name); }

static bool fits(lr_build *b, const lr_tensor *t, uint64_t ne0, uint64_t ne1, uint64_t ne2)
{
    if (t->ne[0] == ne0 && t->ne[1] == ne1 && t->ne[2] == ne2 && t->ne[3] == 1) return true;
    (void)lr_fail(&b->p->fault, LARDER_FORMAT,
                  "tensor %.*s has shape [%llu, %llu, %llu, %llu], the model's keys ask for [%llu, %llu, %llu, 1]",
                  LR_STR_ARG(t->name), (unsigned long long)t->ne[0], (unsigned long long)t->ne[1],
                  (unsigned long long)t->ne[2], (unsigned long long)t->ne[3], (unsigned long long)ne0,
                  (unsigned long long)ne1, (unsigned long long)ne2);
    return false;
}

static uint16_t use(lr_build *b, const char *name, uint64_t ne0, uint64_t ne1, uint64_t ne2, float add)
{
    const lr_tensor *t = take(b, name);
    if (!t) {
        missing(b, b->p->layer, name);
        return LR_NONE;
    }
    return fits(b, t, ne0, ne1, ne2) ? lr_weight_use(b->p, t, add) : LR_NONE;
}

/* As use, but may be absent: then from all layers. */
static uint16_t use_opt(lr_build *b, const char *name, uint64_t ne0, uint64_t ne1)
{
    uint32_t layer = b->p->layer;
    if (layer != NO_LAYER && layer && !find(b, layer, name) != !find(b, 0, name)) {
        missing(b, find(b, 0, name) ? layer : 0, name);
        return LR_NONE;
    }
    return lr_has(b, name) ? use(b, name, ne0, ne1, 1, 0) : LR_NONE;
}

uint16_t lr_mat(lr_build *b, const char *name, uint64_t n_in, uint64_t n_out)
{
    return use(b, name, n_in, n_out, 1, 0);
}

uint16_t lr_vec(lr_build *b, const char *name, uint64_t n) { return use(b, name, n, 1, 1, 0); }

uint16_t lr_vec_opt(lr_build *b, const char *name, uint64_t n) { return use_opt(b, name, n, 1); }

uint16_t lr_rows_of(lr_build *b, const char *name, uint64_t n_in, uint64_t n_rows, uint64_t first, uint64_t n_out)
{
    const lr_tensor *t = take(b, name);
    if (!t) {
        missing(b, b->p->layer, name);
        return LR_NONE;
    }
    if (!fits(b, t, n_in, n_rows, 1)) return LR_NONE;
    assert(first + n_out <= n_rows && !t->mats);
    lr_tensor *part = lr_arena_alloc(&b->p->arena, sizeof *part);
    unsigned long long begin = first, end = first + n_out;
    char text[160];
    (void)snprintf(text, sizeof text, "%.*s[%llu:%llu]", LR_STR_ARG(t->name), begin, end);
    char *copy = lr_arena_strndup(&b->p->arena, text, strlen(text));
    if (!part || !copy) {
        (void)LR_NOMEM(&b->p->fault, "the program");
        return LR_NONE;
    }
    *part = *t;
    part->name = lr_str_of(copy);
    part->ne[1] = n_out;
    part->data += first * t->row_stride;
    if (t->aux_rows) part->aux_first += (uint32_t)first;
    else if (t->aux) part->aux += first * t->aux_row_stride;
    part->n_bytes = n_out * lr_fmt_row_bytes(t->fmt, n_in);
    return lr_weight_use(b->p, part, 0);
}

/* ---------------------------------------------------------------- shared blocks */
static name_buf with(const char *name, const char *suffix)
{
    name_buf n;
    (void)snprintf(n.s, sizeof n.s, "%s.%s", name, suffix);
    return n;
}

static uint32_t width_of(const lr_build *b, lr_val x) { return x < b->p->n_values ? b->p->values[x].width : 0; }

/* What a norm's weights still lack, as the file holds them. */
static float norm_add(const lr_build *b)
{
    return b->m->file->origin == LR_ORIGIN_HF && (b->m->arch->flags & LR_ARCH_NORM_PLUS_ONE) ? 1.0f : 0.0f;
}

lr_val lr_embedding(lr_build *b, double scale)
{
    b->embed = lr_mat(b, "token_embd.weight", b->hp->n_embd, b->hp->n_vocab);
    return lr_embed(b->p, b->embed, (float)scale);
}

lr_val lr_norm(lr_build *b, lr_val x, const char *name)
{
    uint16_t w = use(b, with(name, "weight").s, width_of(b, x), 1, 1, norm_add(b));
    return lr_rmsnorm(b->p, x, w, b->hp->norm_eps, 0);
}

lr_val lr_head_norm(lr_build *b, lr_val x, const char *name)
{
    if (!(b->m->arch->flags & LR_ARCH_QK_NORM)) return x;
    uint16_t w = use(b, with(name, "weight").s, b->hp->head_dim, 1, 1, norm_add(b));
    return lr_rmsnorm(b->p, x, w, b->hp->norm_eps, b->hp->head_dim);
}

lr_val lr_proj(lr_build *b, lr_val x, const char *name, uint32_t n_out)
{
    uint16_t w = lr_mat(b, with(name, "weight").s, width_of(b, x), n_out);
    uint16_t bias = lr_vec_opt(b, with(name, "bias").s, n_out);
    return lr_linear(b->p, x, w, bias);
}

bool lr_slides(lr_build *b, uint32_t layer)
{
    uint32_t period = b->m->arch->window_period;
    const lr_kv *kv = lr_file_key(&b->m->view, key_name(b, "attention.sliding_window_pattern").s);
    if (kv && kv->type == LR_KV_ARR) {
        int64_t v = 0;
        if (kv->n < b->hp->n_layer || !lr_kv_integer(kv, layer, &v)) {
            if (!b->p->fault.code) {
                (void)lr_fail(&b->p->fault, LARDER_FORMAT, "key %.*s must hold one flag per layer",
                              LR_STR_ARG(kv->key));
            }
            return false;
        }
        return v != 0;
    }
    lr_hp_u32(b, "attention.sliding_window_pattern", 0, LR_MAX_LAYER, &period);
    return lr_slides_by(period, layer);
}

lr_attn lr_attention(lr_build *b, uint32_t layer)
{
    const lr_hparams *hp = b->hp;
    double scale = 1.0 / sqrt(hp->head_dim);
    lr_hp_f64(b, "attention.scale", 0, 1e6, &scale);
    lr_attn a = {.layer = layer, .n_head = hp->n_head, .n_head_kv = hp->n_head_kv, .head_dim = hp->head_dim};
    a.scale = (float)scale;
    a.sinks = LR_NONE;
    a.window = hp->window && lr_slides(b, layer) ? hp->window : 0;
    return a;
}

lr_val lr_ffn(lr_build *b, lr_val h, lr_fn fn)
{
    lr_val gate = lr_proj(b, h, "ffn_gate", b->hp->n_ff);
    lr_val up = lr_proj(b, h, "ffn_up", b->hp->n_ff);
    return lr_proj(b, lr_glu(b->p, fn, gate, up), "ffn_down", b->hp->n_embd);
}

/* One matrix per expert, and one row of biases per expert if there are any. */
static lr_val routed(lr_build *b, lr_val x, lr_val routing, const char *name, uint32_t n_out)
{
    uint32_t n_expert = b->hp->n_expert;
    uint16_t w = use(b, with(name, "weight").s, width_of(b, x), n_out, n_expert, 0);
    uint16_t bias = use_opt(b, with(name, "bias").s, n_out, n_expert);
    return lr_linear_routed(b->p, x, routing, w, bias);
}

lr_val lr_experts(lr_build *b, lr_val h, lr_fn fn, const lr_route *r)
{
    const lr_hparams *hp = b->hp;
    lr_val routing = lr_route_topk(b->p, lr_proj(b, h, "ffn_gate_inp", hp->n_expert), r);
    lr_val gate = routed(b, h, routing, "ffn_gate_exps", hp->n_ff_expert);
    lr_val up = routed(b, h, routing, "ffn_up_exps", hp->n_ff_expert);
    lr_val y = routed(b, lr_glu(b->p, fn, gate, up), routing, "ffn_down_exps", hp->n_embd);
    return lr_combine(b->p, y, routing);
}

lr_val lr_head(lr_build *b, lr_val x)
{
    b->p->layer = NO_LAYER;
    x = b->p->hidden = lr_norm(b, lr_pick(b->p, x), "output_norm");
    uint16_t w = lr_has(b, "output.weight") ? lr_mat(b, "output.weight", b->hp->n_embd, b->hp->n_vocab) : b->embed;
    return lr_linear(b->p, x, w, lr_vec_opt(b, "output.bias", b->hp->n_vocab));
}
