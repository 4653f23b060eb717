/* mix.c - see mix.h. The rules follow llama.cpp's llama-quantize without an importance matrix. */
#include "mix.h"

#include <strings.h>

/* X(name, base format, general.file_type) */
#define TYPES(X) \
    X(F32, F32, 0) \
    X(F16, F16, 1) \
    X(BF16, BF16, 32) \
    X(Q8_0, Q8_0, 7) \
    X(Q6_K, Q6_K, 18) \
    X(Q5_K_M, Q5_K, 17) \
    X(Q5_K_S, Q5_K, 16) \
    X(Q5_1, Q5_1, 9) \
    X(Q5_0, Q5_0, 8) \
    X(Q4_K_M, Q4_K, 15) \
    X(Q4_K_S, Q4_K, 14) \
    X(Q4_1, Q4_1, 3) \
    X(Q4_0, Q4_0, 2) \
    X(IQ4_NL, IQ4_NL, 25) \
    X(IQ4_XS, IQ4_XS, 30) \
    X(MXFP4_MOE, MXFP4, 38) \
    X(NVFP4, NVFP4, 39) \
    X(Q3_K_M, Q3_K, 12) \
    X(Q2_K, Q2_K, 10)

enum {
#define X(name, base, id) MIX_##name,
    TYPES(X)
#undef X
};

static const lr_mix_type types[] = {
#define X(name, base, id) {#name, LR_FMT_##base, id},
    TYPES(X)
#undef X
};

const char *const *lr_mix_names(void)
{
    static const char *const names[] = {
#define X(name, base, id) #name,
        TYPES(X)
#undef X
            NULL,
    };
    return names;
}

const lr_mix_type *lr_mix_find(const char *name)
{
    static const struct {
        const char *brief, *full;
    } others[] = {{"Q5_K", "Q5_K_M"}, {"Q4_K", "Q4_K_M"}, {"Q3_K", "Q3_K_M"}, {"MXFP4", "MXFP4_MOE"}};
    for (size_t i = 0; i < LR_LEN(others); i++)
        if (strcasecmp(name, others[i].brief) == 0) name = others[i].full;
    for (size_t i = 0; i < LR_LEN(types); i++)
        if (strcasecmp(name, types[i].name) == 0) return &types[i];
    return NULL;
}

/* ---------------------------------------------------------------- the model */
/* `arch`.`rest` as an integer (of its first layer, where every layer has its own); *io stays if it is absent. */
static void read_count(const lr_file *f, lr_str arch, const char *rest, uint32_t *io)
{
    lr_buf key = {0};
    lr_buf_add(&key, arch.p, arch.n);
    lr_buf_puts(&key, rest);
    char *name = lr_buf_steal(&key);
    const lr_kv *kv = name ? lr_file_key(f, name) : NULL;
    int64_t v;
    if (kv && lr_kv_integer(kv, 0, &v) && v > 0 && v <= UINT32_MAX) *io = (uint32_t)v;
    lr_free(name);
}

larder_status lr_mix_init(lr_mix *mix, const lr_mix_type *type, bool pure, const lr_file *f, larder_error *err)
{
    lr_str arch = {"", 0};
    uint32_t n_head = 1, n_head_kv = 0;
    *mix = (lr_mix){.type = type, .pure = pure, .tied = !lr_file_tensor(f, LR_STR("output.weight"))};
    LR_TRY(lr_key_str(f, "general.architecture", &arch, err));
    read_count(f, arch, ".block_count", &mix->n_layer);
    read_count(f, arch, ".expert_count", &mix->n_expert);
    read_count(f, arch, ".attention.head_count", &n_head);
    read_count(f, arch, ".attention.head_count_kv", &n_head_kv);
    mix->gqa = n_head_kv ? n_head / n_head_kv : 1;
    return LARDER_OK;
}

/* ---------------------------------------------------------------- one tensor */
static bool ends_with(lr_str s, const char *tail)
{
    size_t n = strlen(tail);
    return s.n >= n && memcmp(s.p + s.n - n, tail, n) == 0;
}

static bool holds(lr_str s, const char *part) { return memmem(s.p, s.n, part, strlen(part)) != NULL; }

/* Layer of "blk.12.ffn_down.weight"; 0 for others. */
static uint32_t layer_of(lr_str name)
{
    uint32_t n = 0;
    if (name.n < 4 || memcmp(name.p, "blk.", 4) != 0) return 0;
    for (size_t i = 4; i < name.n && name.p[i] >= '0' && name.p[i] <= '9' && n < 100000; i++)
        n = 10 * n + (uint32_t)(name.p[i] - '0');
    return n;
}

/* Vectors, norms, routers and other small things that steer the rest: they stay in float32. */
static bool is_small(const lr_tensor *t)
{
    static const char *const parts[] = {"_norm.",        "ffn_gate_inp", "ssm_conv1d", "shortconv.conv",
                                        "position_embd", "token_types",  "attn_rel_b", "time_mix_"};
    if (t->n_dims < 2 || (t->ne[1] == 1 && t->ne[2] == 1) || !ends_with(t->name, ".weight")) return true;
    for (size_t i = 0; i < LR_LEN(parts); i++)
        if (holds(t->name, parts[i])) return true;
    return false;
}

/* The first and last eighth of the layers, and every third between: where llama.cpp found more bits worth most. */
static bool wants_more(const lr_mix *mix, uint32_t layer)
{
    uint32_t n = mix->n_layer;
    return layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
}

static uint32_t attn_v_format(const lr_mix *mix, ptrdiff_t type, uint32_t layer)
{
    if (mix->n_expert == 8) return LR_FMT_Q8_0; /* small beside the experts */
    switch (type) {
    case MIX_Q2_K: return mix->gqa >= 4 ? LR_FMT_Q4_K : LR_FMT_Q3_K;
    case MIX_Q3_K_M: return layer < 2 ? LR_FMT_Q5_K : LR_FMT_Q4_K;
    case MIX_IQ4_NL:
    case MIX_IQ4_XS: return mix->gqa >= 4 ? LR_FMT_Q5_K : mix->type->base;
    case MIX_Q4_K_S: return layer < 4 ? LR_FMT_Q5_K : LR_FMT_Q4_K;
    case MIX_Q4_K_M:
    case MIX_Q5_K_M: return wants_more(mix, layer) ? LR_FMT_Q6_K : mix->type->base;
    default: return mix->type->base;
    }
}

static uint32_t ffn_down_format(const lr_mix *mix, ptrdiff_t type, uint32_t layer)
{
    switch (type) {
    case MIX_Q2_K: return LR_FMT_Q3_K;
    case MIX_Q3_K_M: return layer < mix->n_layer / 16 ? LR_FMT_Q5_K : LR_FMT_Q4_K;
    case MIX_IQ4_NL:
    case MIX_IQ4_XS:
    case MIX_Q4_K_S: return layer < mix->n_layer / 8 ? LR_FMT_Q5_K : mix->type->base;
    case MIX_Q4_K_M:
    case MIX_Q5_K_M: return wants_more(mix, layer) ? LR_FMT_Q6_K : mix->type->base;
    default: return mix->type->base;
    }
}

static uint32_t attn_output_format(const lr_mix *mix, ptrdiff_t type)
{
    bool eight = mix->n_expert == 8;
    switch (type) {
    case MIX_Q2_K: return eight ? LR_FMT_Q5_K : LR_FMT_Q3_K;
    case MIX_Q3_K_M: return eight ? LR_FMT_Q5_K : LR_FMT_Q4_K;
    case MIX_IQ4_NL:
    case MIX_IQ4_XS:
    case MIX_Q4_K_S:
    case MIX_Q4_K_M: return eight ? LR_FMT_Q5_K : mix->type->base;
    default: return mix->type->base;
    }
}

static bool is_float(uint32_t fmt) { return fmt == LR_FMT_F32 || fmt == LR_FMT_F16 || fmt == LR_FMT_BF16; }

static uint32_t mixed_format(const lr_mix *mix, const lr_tensor *t)
{
    ptrdiff_t type = mix->type - types;
    uint32_t base = mix->type->base, layer = layer_of(t->name);
    bool embedding = lr_str_is(t->name, "token_embd.weight");
    if (mix->pure || is_float(base)) return base;
    if (lr_str_is(t->name, "output.weight") || (mix->tied && embedding)) {
        if (type == MIX_MXFP4_MOE || base == LR_FMT_Q8_0 || t->ne[0] % lr_fmt_get(base)->block) return LR_FMT_Q8_0;
        return LR_FMT_Q6_K;
    }
    if (type == MIX_MXFP4_MOE) return t->ne[2] > 1 ? LR_FMT_MXFP4 : LR_FMT_Q8_0;
    if (embedding) return base;
    if (holds(t->name, "attn_v.") || holds(t->name, "attn_qkv.") || holds(t->name, "attn_kv_b."))
        return attn_v_format(mix, type, layer);
    if (holds(t->name, "attn_k.") && mix->n_expert == 8) return LR_FMT_Q8_0;
    if (holds(t->name, "ffn_down")) return ffn_down_format(mix, type, layer);
    if (holds(t->name, "attn_output.")) return attn_output_format(mix, type);
    return base;
}

/* Rows that are no whole number of blocks of 256 get the nearest format with blocks of 32; the rest F16. */
static uint32_t fit_columns(uint32_t fmt, uint64_t n_col)
{
    static const uint32_t nearest[][2] = {
        {LR_FMT_Q2_K, LR_FMT_Q4_0},  {LR_FMT_Q3_K, LR_FMT_Q4_0}, {LR_FMT_Q4_K, LR_FMT_Q5_0},
        {LR_FMT_Q5_K, LR_FMT_Q5_1},  {LR_FMT_Q6_K, LR_FMT_Q8_0}, {LR_FMT_IQ4_XS, LR_FMT_IQ4_NL},
        {LR_FMT_NVFP4, LR_FMT_Q4_0},
    };
    if (n_col % lr_fmt_get(fmt)->block == 0) return fmt;
    for (size_t i = 0; i < LR_LEN(nearest); i++) {
        if (nearest[i][0] != fmt) continue;
        return n_col % lr_fmt_get(nearest[i][1])->block ? LR_FMT_F16 : nearest[i][1];
    }
    return LR_FMT_F16;
}

/* A tensor that keeps its format; formats that only safetensors have become GGUF's equal, or what holds them best. */
static uint32_t kept_format(uint32_t fmt)
{
    if (fmt == LR_FMT_F8_E4M3 || fmt == LR_FMT_F8_E4M3_B128) return LR_FMT_BF16;
    return fmt == LR_FMT_MXFP4_PAIRS ? LR_FMT_MXFP4 : fmt;
}

uint32_t lr_mix_format(const lr_mix *mix, const lr_tensor *t, uint32_t *wanted)
{
    if (is_small(t)) return *wanted = LR_FMT_F32;
    if (!mix->type) return *wanted = kept_format(t->fmt);
    *wanted = mixed_format(mix, t);
    /* Experts that were trained in MXFP4 are held exactly by it, at a little over four bits. */
    if (kept_format(t->fmt) == LR_FMT_MXFP4 && !mix->pure && !is_float(*wanted)) return LR_FMT_MXFP4;
    return fit_columns(*wanted, t->ne[0]);
}
