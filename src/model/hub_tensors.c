/* hub_tensors.c - the tensors of a folder from the hub, under the names GGUF gives them. Nothing is copied.
 *
 * Owns: the names; experts that lie apart, gathered; what lies fused or turned, as views with strides. Only numbers
 * that exist nowhere in the files (rotation factors) are made here. Refuses to own: shapes (arch.c checks them).
 */
#include "hub.h"

#include <stdio.h>

static const lr_hub_name common[] = {
    {"input_layernorm", "attn_norm"},
    {"post_attention_layernorm", "ffn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.qkv_proj", "attn_qkv"},
    {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
    {"mlp.gate", "ffn_gate_inp"},
    {"block_sparse_moe.gate", "ffn_gate_inp"},
    {0},
};
/* What an expert's matrices are called when each lies apart. */
static const struct {
    const char *hub;
    int role;
} expert_names[] = {{"w1", 0}, {"w3", 1}, {"w2", 2}, {"gate_proj", 0}, {"up_proj", 1}, {"down_proj", 2}};
static const char *const roles[] = {"ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"};

typedef struct gatherer {
    lr_hub *h;
    uint32_t *experts; /* [layer][role]: index of the gathered tensor in the view, + 1 */
} gatherer;

/* ---------------------------------------------------------------- text */
static bool eat(lr_str *s, const char *prefix)
{
    size_t n = strlen(prefix);
    if (s->n < n || memcmp(s->p, prefix, n)) return false;
    s->p += n;
    s->n -= n;
    return true;
}

static bool eat_number(lr_str *s, uint32_t *out)
{
    uint32_t v = 0, n = 0;
    while (n < s->n && n < 6 && s->p[n] >= '0' && s->p[n] <= '9') v = v * 10 + (uint32_t)(s->p[n++] - '0');
    if (!n || n >= s->n || s->p[n] != '.') return false;
    s->p += n + 1;
    s->n -= n + 1;
    *out = v;
    return true;
}

static bool ends_with(lr_str *s, const char *suffix)
{
    size_t n = strlen(suffix);
    if (s->n < n || memcmp(s->p + s->n - n, suffix, n)) return false;
    s->n -= n;
    return true;
}

static void unknown(lr_hub *h, const lr_tensor *t)
{
    if (!h->st) {
        h->st = lr_fail(h->err, LARDER_UNSUPPORTED, "%s: tensor %.*s has no place in architecture %s", h->f->path,
                        LR_STR_ARG(t->name), h->arch->name);
    }
}

static void misshapen(lr_hub *h, const lr_tensor *t)
{
    if (!h->st) {
        h->st = lr_fail(h->err, LARDER_FORMAT, "%s: tensor %.*s has an impossible shape or type", h->f->path,
                        LR_STR_ARG(t->name));
    }
}

/* ---------------------------------------------------------------- FP8's scales */
/* The scales that stand beside a matrix: its name and "_scale_inv" or "_scale". They are multiplied by, whatever the
 * name says. */
static const lr_tensor *scales_beside(const lr_hub *h, lr_str name)
{
    static const char *const endings[] = {"_scale_inv", "_scale"};
    for (size_t i = 0; i < LR_LEN(endings); i++) {
        char s[256];
        int n = snprintf(s, sizeof s, "%.*s%s", LR_STR_ARG(name), endings[i]);
        const lr_tensor *t = n > 0 && (size_t)n < sizeof s ? lr_file_tensor(h->f, lr_str_of(s)) : NULL;
        if (t) return t;
    }
    return NULL;
}

/* The scales as float32: where they lie, or a copy of narrower ones, a few kilobytes. */
static const uint8_t *floats_of(lr_hub *h, const lr_tensor *s, uint64_t n)
{
    if (s->fmt == LR_FMT_F32) return s->data;
    float *copy = lr_arena_array(&h->view->arena, n, sizeof *copy);
    if (!copy) h->st = LR_NOMEM(h->err, "the model's scales");
    else lr_decode_row(s->fmt, s->data, NULL, copy, n);
    return (const uint8_t *)copy;
}

/* Gives an FP8 matrix its scales: one, one per row, or one per 128 rows and columns. */
static void attach_scales(lr_hub *h, lr_tensor *t, lr_str name)
{
    enum { BLOCK = 128 };
    const lr_tensor *s = scales_beside(h, name);
    if (!s) return;
    uint64_t rows = t->ne[1], cols = t->ne[0], n = s->ne[0] * s->ne[1];
    bool floats = s->fmt == LR_FMT_F32 || s->fmt == LR_FMT_BF16 || s->fmt == LR_FMT_F16;
    bool per_row = n == rows && (s->ne[0] == 1 || s->ne[1] == 1);
    bool per_block = cols % BLOCK == 0 && s->ne[0] == cols / BLOCK && s->ne[1] == (rows + BLOCK - 1) / BLOCK;
    if (!floats || s->ne[2] != 1 || s->ne[3] != 1 || t->ne[2] != 1 || t->ne[3] != 1 ||
        (n > 1 && !per_row && !per_block)) {
        h->st = lr_fail(h->err, LARDER_UNSUPPORTED,
                        "%s: the scales of FP8 tensor %.*s are neither one, nor one per row, nor one per 128 x 128",
                        h->f->path, LR_STR_ARG(name));
        return;
    }
    t->aux = floats_of(h, s, n);
    t->n_bytes += s->n_bytes;
    if (n == 1) return;
    t->aux_row_stride = (per_row ? 1 : s->ne[0]) * sizeof(float);
    if (per_row) return;
    t->fmt = LR_FMT_F8_E4M3_B128;
    t->aux_rows = BLOCK;
}

/* A tensor that only serves FP8 matrices: their scales, and those a server might use for activations. */
static bool only_scales(const lr_hub *h, lr_str name)
{
    static const char *const endings[] = {"_scale_inv", "_scale"};
    for (size_t i = 0; i < LR_LEN(endings); i++) {
        lr_str stem = name;
        if (!ends_with(&stem, endings[i])) continue;
        char s[256];
        lr_str whose = stem;
        (void)(ends_with(&whose, ".weight") || ends_with(&whose, ".input") || ends_with(&whose, ".activation"));
        int n = snprintf(s, sizeof s, "%.*s.weight", LR_STR_ARG(whose));
        const lr_tensor *t = n > 0 && (size_t)n < sizeof s ? lr_file_tensor(h->f, lr_str_of(s)) : NULL;
        if (t && t->fmt == LR_FMT_F8_E4M3) return true;
    }
    return false;
}

/* ---------------------------------------------------------------- adding */
lr_tensor *lr_hub_add(lr_hub *h, const char *name, const lr_tensor *like, lr_fix fix, uint32_t heads)
{
    if (h->st) return NULL;
    lr_file *v = h->view;
    char *copy = lr_arena_strndup(&v->arena, name, strlen(name));
    if (!copy || v->n_tensors >= h->cap_tensors) {
        h->st = LR_NOMEM(h->err, "the model's tensors");
        return NULL;
    }
    size_t i = v->n_tensors++;
    v->tensors[i] = *like;
    v->tensors[i].name = lr_str_of(copy);
    if (like->fmt == LR_FMT_F8_E4M3) attach_scales(h, &v->tensors[i], like->name);
    h->m->fix[i] = fix;
    h->m->fix_heads[i] = heads;
    return &v->tensors[i];
}

void lr_hub_add_floats(lr_hub *h, const char *name, const float *x, uint32_t n)
{
    uint8_t *data = lr_arena_alloc(&h->view->arena, n * sizeof *x);
    if (!data) {
        if (!h->st) h->st = LR_NOMEM(h->err, "the model's tensors");
        return;
    }
    memcpy(data, x, n * sizeof *x);
    lr_tensor t = {.fmt = LR_FMT_F32, .n_dims = 1, .ne = {n, 1, 1, 1}, .data = data, .n_bytes = n * sizeof *x};
    t.row_stride = t.mat_stride = t.n_bytes;
    (void)lr_hub_add(h, name, &t, LR_FIX_NONE, 0);
}

typedef struct blk_name {
    char s[96];
} blk_name;

static blk_name blk(uint32_t layer, const char *name, const char *suffix)
{
    blk_name b;
    (void)snprintf(b.s, sizeof b.s, "blk.%u.%s%s", layer, name, suffix);
    return b;
}

/* ---------------------------------------------------------------- experts that lie apart */
static void gather(gatherer *g, const lr_tensor *t, uint32_t layer, uint32_t expert, int role)
{
    lr_hub *h = g->h;
    uint32_t *slot = &g->experts[layer * 3 + (uint32_t)role];
    if (expert >= h->n_expert || t->ne[2] != 1 || t->ne[3] != 1) {
        unknown(h, t);
        return;
    }
    if (!*slot) {
        lr_tensor *made = lr_hub_add(h, blk(layer, roles[role], ".weight").s, t, LR_FIX_NONE, 0);
        const uint8_t **mats = lr_arena_array(&h->view->arena, h->n_expert, sizeof *mats);
        const uint8_t **aux = lr_arena_array(&h->view->arena, h->n_expert, sizeof *aux);
        if (!made || !mats || !aux) {
            if (!h->st) h->st = LR_NOMEM(h->err, "the model's experts");
            return;
        }
        made->mats = mats;
        made->aux_mats = aux;
        made->data = NULL;
        made->n_dims = 3;
        made->ne[2] = h->n_expert;
        made->n_bytes = 0;
        made->mat_stride = 0;
        *slot = (uint32_t)h->view->n_tensors;
    }
    lr_tensor *all = &h->view->tensors[*slot - 1];
    const uint8_t **mats = (const uint8_t **)(uintptr_t)all->mats;
    const uint8_t **aux = (const uint8_t **)(uintptr_t)all->aux_mats;
    lr_tensor one = *t;
    if (t->fmt == LR_FMT_F8_E4M3) attach_scales(h, &one, t->name);
    t = &one;
    if (mats[expert] || t->fmt != all->fmt || t->ne[0] != all->ne[0] || t->ne[1] != all->ne[1] ||
        t->aux_row_stride != all->aux_row_stride || !t->aux != !all->aux) {
        misshapen(h, t);
        return;
    }
    mats[expert] = t->data;
    aux[expert] = t->aux;
    all->n_bytes += t->n_bytes;
    if (!all->data) all->data = t->data;
}

static void check_gathered(gatherer *g)
{
    lr_hub *h = g->h;
    for (uint32_t i = 0; i < h->n_layer * 3 && !h->st; i++) {
        if (!g->experts[i]) continue;
        const lr_tensor *t = &h->view->tensors[g->experts[i] - 1];
        for (uint32_t e = 0; e < h->n_expert && !h->st; e++) {
            if (t->mats[e]) continue;
            h->st = lr_fail(h->err, LARDER_FORMAT, "%s: expert %u of %.*s is missing", h->f->path, e,
                            LR_STR_ARG(t->name));
        }
    }
}

/* "experts.E.w1.weight" and the like. */
static bool try_expert(gatherer *g, const lr_tensor *t, uint32_t layer, lr_str rest)
{
    uint32_t expert;
    if (!eat(&rest, "block_sparse_moe.experts.") && !eat(&rest, "mlp.experts.")) return false;
    if (!eat_number(&rest, &expert) || !ends_with(&rest, ".weight")) return false;
    for (size_t i = 0; i < LR_LEN(expert_names); i++) {
        if (!lr_str_is(rest, expert_names[i].hub)) continue;
        gather(g, t, layer, expert, expert_names[i].role);
        return true;
    }
    return false;
}

/* ---------------------------------------------------------------- gpt-oss: fused, interleaved, turned or packed */
static uint64_t number_bytes(const lr_tensor *t)
{
    const lr_fmt_info *i = lr_fmt_get(t->fmt);
    return i && i->block == 1 ? i->bytes : 0;
}

/* [experts, inputs, outputs] as matrices of outputs; every `step`-th output, from `first` on. */
static void add_turned(lr_hub *h, uint32_t layer, int role, const lr_tensor *t, uint64_t first, uint64_t step)
{
    uint64_t size = number_bytes(t);
    if (!size || t->ne[3] != 1 || t->ne[0] % step) {
        misshapen(h, t);
        return;
    }
    lr_tensor v = *t;
    v.ne[0] = t->ne[1];
    v.ne[1] = t->ne[0] / step;
    v.data = t->data + first * size;
    v.n_bytes = v.ne[0] * v.ne[1] * v.ne[2] * size;
    v.row_stride = step * size;
    v.col_stride = t->ne[0] * size;
    v.mat_stride = t->ne[0] * t->ne[1] * size;
    (void)lr_hub_add(h, blk(layer, roles[role], ".weight").s, &v, LR_FIX_TRANSPOSE, 0);
}

/* Biases of gate and up, one after the other in each row. */
static void add_every_second(lr_hub *h, uint32_t layer, int role, const lr_tensor *t, uint64_t first)
{
    uint64_t size = number_bytes(t);
    if (!size || t->ne[2] != 1 || t->ne[0] % 2) {
        misshapen(h, t);
        return;
    }
    lr_tensor v = *t;
    v.ne[0] = t->ne[0] / 2;
    v.data = t->data + first * size;
    v.n_bytes = t->n_bytes / 2;
    v.row_stride = t->ne[0] * size;
    v.col_stride = 2 * size;
    (void)lr_hub_add(h, blk(layer, roles[role], ".bias").s, &v, LR_FIX_TRANSPOSE, 0);
}

/* blocks [experts, rows, K/32, 16] and scales [experts, rows, K/32]: every `step`-th row, from `first` on. */
static void add_packed(lr_hub *h, uint32_t layer, int role, const lr_tensor *t, uint64_t first, uint64_t step)
{
    char name[256];
    lr_str stem = t->name;
    if (!ends_with(&stem, "_blocks") || stem.n > 200) return;
    (void)snprintf(name, sizeof name, "%.*s_scales", (int)stem.n, stem.p);
    const lr_tensor *s = lr_file_tensor(h->f, lr_str_of(name));
    uint64_t n_block = t->ne[1], n_row = t->ne[2], n_mat = t->ne[3];
    if (!s || t->ne[0] != 16 || t->n_bytes != 16 * n_block * n_row * n_mat || s->n_bytes != t->n_bytes / 16 ||
        s->ne[0] != n_block || s->ne[1] != n_row || s->ne[2] != n_mat || n_row % step) {
        misshapen(h, t);
        return;
    }
    lr_tensor v = {.fmt = LR_FMT_MXFP4_PAIRS, .n_dims = 3, .ne = {n_block * 32, n_row / step, n_mat, 1}};
    v.data = t->data + first * n_block * 16;
    v.n_bytes = (t->n_bytes + s->n_bytes) / step;
    v.row_stride = step * n_block * 16;
    v.mat_stride = n_row * n_block * 16;
    v.aux = s->data + first * n_block;
    v.aux_row_stride = step * n_block;
    v.aux_mat_stride = n_row * n_block;
    (void)lr_hub_add(h, blk(layer, roles[role], ".weight").s, &v, LR_FIX_NONE, 0);
}

static bool try_fused_expert(lr_hub *h, const lr_tensor *t, uint32_t layer, lr_str rest)
{
    if (!eat(&rest, "mlp.experts.")) return false;
    for (int role = 0; role < 2; role++) {
        uint64_t first = (uint64_t)role;
        if (lr_str_is(rest, "gate_up_proj")) add_turned(h, layer, role, t, first, 2);
        else if (lr_str_is(rest, "gate_up_proj_bias")) add_every_second(h, layer, role, t, first);
        else if (lr_str_is(rest, "gate_up_proj_blocks")) add_packed(h, layer, role, t, first, 2);
    }
    if (lr_str_is(rest, "down_proj")) add_turned(h, layer, 2, t, 0, 1);
    else if (lr_str_is(rest, "down_proj_bias"))
        (void)lr_hub_add(h, blk(layer, roles[2], ".bias").s, t, LR_FIX_NONE, 0);
    else if (lr_str_is(rest, "down_proj_blocks")) add_packed(h, layer, 2, t, 0, 1);
    else return eat(&rest, "gate_up_proj") || lr_str_is(rest, "down_proj_scales");
    return true;
}

/* ---------------------------------------------------------------- names */
static const char *translate(const lr_hub_name *names, lr_str stem)
{
    for (; names && names->hub; names++) {
        if (lr_str_is(stem, names->hub)) return names->gguf;
    }
    return NULL;
}

static lr_fix fix_of(const lr_hub *h, const char *name, uint32_t *heads)
{
    *heads = 0;
    size_t n = strlen(name);
    if (h->arch->flags & LR_ARCH_QK_PERMUTED) {
        if (!strcmp(name, "attn_q")) *heads = h->n_head;
        if (!strcmp(name, "attn_k")) *heads = h->n_head_kv;
        if (*heads) return LR_FIX_ROPE_PAIRS;
    }
    bool norm = n >= 4 && !strcmp(name + n - 4, "norm");
    return norm && (h->arch->flags & LR_ARCH_NORM_PLUS_ONE) ? LR_FIX_ADD_ONE : LR_FIX_NONE;
}

static void add_layer_tensor(gatherer *g, const lr_tensor *t, lr_str rest)
{
    lr_hub *h = g->h;
    uint32_t layer, heads;
    if (!eat_number(&rest, &layer) || layer >= h->n_layer) {
        unknown(h, t);
        return;
    }
    if (h->n_expert && try_expert(g, t, layer, rest)) return;
    if (h->n_expert && (h->arch->flags & LR_ARCH_FUSED_EXPERTS) && try_fused_expert(h, t, layer, rest)) return;
    if (lr_str_is(rest, "self_attn.rotary_emb.inv_freq")) return;
    if (lr_str_is(rest, "self_attn.sinks")) {
        (void)lr_hub_add(h, blk(layer, "attn_sinks", ".weight").s, t, LR_FIX_NONE, 0);
        return;
    }
    lr_str stem = rest;
    const char *suffix = ends_with(&stem, ".weight") ? ".weight" : ends_with(&stem, ".bias") ? ".bias" : NULL;
    const char *name = suffix ? translate(h->arch->hub_names, stem) : NULL;
    if (suffix && !name) name = translate(common, stem);
    if (!name) {
        unknown(h, t);
        return;
    }
    lr_fix fix = fix_of(h, name, &heads);
    (void)lr_hub_add(h, blk(layer, name, suffix).s, t, fix, heads);
}

static void add_tensor(gatherer *g, const lr_tensor *t)
{
    static const char *const other_parts[] = {"vision_tower.", "multi_modal_projector.", "model.vision_tower.",
                                              "vision_model.", "model.multi_modal_projector."};
    lr_hub *h = g->h;
    lr_str s = t->name;
    uint32_t heads;
    if (only_scales(h, s)) return;
    for (size_t i = 0; h->wrapped && i < LR_LEN(other_parts); i++) {
        if (eat(&s, other_parts[i])) return;
    }
    if (h->wrapped && eat(&s, "model.language_model.")) s = (lr_str){s.p, s.n};
    else {
        if (h->wrapped) (void)eat(&s, "language_model.");
        if (lr_str_is(s, "lm_head.weight")) {
            if (!h->tied) (void)lr_hub_add(h, "output.weight", t, LR_FIX_NONE, 0);
            return;
        }
        (void)eat(&s, "model.");
    }
    if (lr_str_is(s, "embed_tokens.weight")) (void)lr_hub_add(h, "token_embd.weight", t, LR_FIX_NONE, 0);
    else if (lr_str_is(s, "norm.weight")) (void)lr_hub_add(h, "output_norm.weight", t, fix_of(h, "norm", &heads), 0);
    else if (eat(&s, "layers.")) add_layer_tensor(g, t, s);
    else unknown(h, t);
}

void lr_hub_tensors(lr_hub *h)
{
    gatherer g = {.h = h, .experts = lr_calloc((size_t)h->n_layer * 3, sizeof *g.experts)};
    if (!g.experts) {
        h->st = LR_NOMEM(h->err, "the model's experts");
        return;
    }
    for (size_t i = 0; i < h->f->n_tensors && !h->st; i++) add_tensor(&g, &h->f->tensors[i]);
    check_gathered(&g);
    lr_free(g.experts);
}
