/* rope.c - tables of rotation frequencies, in double: every scaling scheme ends as one.
 *
 * Owns: the schemes (none, linear, dynamic NTK, llama3, YaRN, LongRoPE). The sources: RoPE arXiv:2104.09864, YaRN
 * arXiv:2309.00071, LongRoPE arXiv:2402.13753. Refuses to own: rotating (src/backend).
 */
#include "arch.h"

#include <math.h>

#define PI 3.14159265358979323846

/* A new table with all frequencies of `base`; NULL on a fault. */
static double *new_table(lr_build *b, lr_rope_kind kind, uint32_t n_rot, double base, uint16_t *index)
{
    lr_program *p = b->p;
    *index = LR_NONE;
    if (p->fault.code) return NULL;
    if (!n_rot || n_rot % 2 || n_rot > b->hp->head_dim) {
        (void)lr_fail(&p->fault, LARDER_FORMAT, "key %s.rope.dimension_count is %u: it must be even, and at most %u",
                      b->m->arch->name, n_rot, b->hp->head_dim);
        return NULL;
    }
    double *inv = lr_arena_array(&p->arena, n_rot / 2, sizeof *inv);
    if (!inv || p->n_ropes >= LR_LEN(p->ropes)) {
        (void)LR_NOMEM(&p->fault, "the rotation table");
        return NULL;
    }
    for (uint32_t i = 0; i < n_rot / 2; i++) inv[i] = pow(base, -2.0 * i / n_rot);
    *index = (uint16_t)p->n_ropes++;
    p->ropes[*index] = (lr_rope){.kind = kind, .n_rot = n_rot, .inv_freq = inv, .mscale = 1};
    return inv;
}

uint16_t lr_rope_plain(lr_build *b, lr_rope_kind kind, uint32_t n_rot, double base)
{
    uint16_t index;
    (void)new_table(b, kind, n_rot, base, &index);
    return index;
}

void lr_rope_llama3(double base, uint32_t n_rot, double factor, double low, double high, double n_orig, float *out)
{
    for (uint32_t i = 0; i < n_rot / 2; i++) {
        double turns = n_orig * pow(base, -2.0 * i / n_rot) / (2 * PI); /* within the original context */
        double f = 1;
        if (turns < low) {
            f = factor;
        } else if (turns <= high) {
            double smooth = (turns - low) / (high - low);
            f = 1 / ((1 - smooth) / factor + smooth);
        }
        out[i] = (float)f;
    }
}

/* The tensor of divisors that applies to this context, or NULL. */
static const lr_tensor *divisors(lr_build *b, uint32_t n_orig, uint32_t n_rot)
{
    uint16_t layer = b->p->layer;
    b->p->layer = 0xffff;
    const lr_tensor *t = lr_tensor_opt(b, "rope_freqs.weight");
    const lr_tensor *lo = lr_tensor_opt(b, "rope_factors_short.weight");
    const lr_tensor *hi = lr_tensor_opt(b, "rope_factors_long.weight");
    b->p->layer = layer;
    if (!t) t = b->n_ctx > n_orig ? hi : lo;
    if (!t || b->p->fault.code) return NULL;
    if (t->fmt == LR_FMT_F32 && t->ne[0] == n_rot / 2 && t->n_bytes == n_rot / 2 * sizeof(float)) return t;
    (void)lr_fail(&b->p->fault, LARDER_FORMAT, "tensor %.*s must be %u F32 numbers", LR_STR_ARG(t->name), n_rot / 2);
    return NULL;
}

static void divide(lr_build *b, const lr_tensor *t, double *inv, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        float f;
        memcpy(&f, t->data + i * sizeof f, sizeof f);
        if (!(f > 0) || !isfinite(f)) {
            (void)lr_fail(&b->p->fault, LARDER_FORMAT, "tensor %.*s holds a divisor that is not above zero",
                          LR_STR_ARG(t->name));
            return;
        }
        inv[i] /= f;
    }
}

/* The dimension that makes `turns` turns in the original context (YaRN, section 3.2). */
static double dim_of_turns(double turns, uint32_t n_rot, double base, double n_orig)
{
    return n_rot * log(n_orig / (turns * 2 * PI)) / (2 * log(base));
}

static void yarn(lr_build *b, double *inv, uint32_t n_rot, double base, double factor, double n_orig)
{
    double fast = 32, slow = 1;
    bool truncate = !(b->m->arch->flags & LR_ARCH_YARN_EXACT);
    lr_hp_f64(b, "rope.scaling.yarn_beta_fast", 1e-6, 1e6, &fast);
    lr_hp_f64(b, "rope.scaling.yarn_beta_slow", 1e-6, 1e6, &slow);
    lr_hp_bool(b, "rope.scaling.yarn_truncate", &truncate);
    double low = dim_of_turns(fast, n_rot, base, n_orig), high = dim_of_turns(slow, n_rot, base, n_orig);
    if (truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, n_rot - 1.0);
    if (!(fabs(high - low) > 0)) high = low + 0.001;
    for (uint32_t i = 0; i < n_rot / 2; i++) {
        double ramp = fmin(fmax((i - low) / (high - low), 0), 1); /* 0: as trained, 1: slowed by factor */
        inv[i] *= (1 - ramp) + ramp / factor;
    }
}

uint16_t lr_rope_table(lr_build *b, lr_rope_kind kind)
{
    double base = 10000, factor = 1, dynamic = 0, attn = 1;
    uint32_t n_rot = b->hp->head_dim, n_orig = b->hp->n_ctx_train;
    lr_str type = LR_STR("linear");
    lr_hp_f64(b, "rope.freq_base", 1.0001, 1e15, &base);
    lr_hp_u32(b, "rope.dimension_count", 2, LR_MAX_HEAD_DIM, &n_rot);
    lr_hp_str(b, "rope.scaling.type", &type);
    lr_hp_f64(b, "rope.scale_linear", 1e-6, 1e6, &factor);
    lr_hp_f64(b, "rope.scaling.factor", 1e-6, 1e6, &factor);
    lr_hp_u32(b, "rope.scaling.original_context_length", 1, LR_MAX_CTX, &n_orig);
    lr_hp_f64(b, "rope.scaling.attn_factor", 1e-6, 1e6, &attn);
    lr_hp_f64(b, "rope.scaling.dynamic_factor", 1e-6, 1e6, &dynamic);
    if (dynamic > 0 && n_rot > 2 && b->n_ctx > n_orig) {
        double grown = dynamic * b->n_ctx / n_orig - (dynamic - 1);
        if (grown > 0) base *= pow(grown, n_rot / (n_rot - 2.0));
    }
    uint16_t index;
    double *inv = new_table(b, kind, n_rot, base, &index);
    if (!inv) return LR_NONE;
    const lr_tensor *div = divisors(b, n_orig, n_rot);
    if (div) divide(b, div, inv, n_rot / 2);
    if (lr_str_is(type, "yarn")) {
        yarn(b, inv, n_rot, base, factor, n_orig);
        if (factor > 1) attn *= 1 + 0.1 * log(factor);
    } else if (lr_str_is(type, "linear")) {
        for (uint32_t i = 0; i < n_rot / 2; i++) inv[i] /= factor;
    } else if (!lr_str_is(type, "none") && !lr_str_is(type, "longrope")) {
        (void)lr_fail(&b->p->fault, LARDER_UNSUPPORTED,
                      "key %s.rope.scaling.type is \"%.*s\": larder knows none, "
                      "linear, yarn, longrope",
                      b->m->arch->name, LR_STR_ARG(type));
    }
    b->p->ropes[index].mscale = attn;
    return index;
}
