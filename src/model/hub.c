/* hub.c - config.json of a folder from the hub, as the keys a GGUF of the same model has.
 *
 * Owns: both styles of config.json (rope_parameters and dtype, or rope_theta, rope_scaling and torch_dtype), and what
 * a missing setting means. Refuses to own: tensors (hub_tensors.c), what one architecture alone has (its hub_keys).
 */
#include "hub.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

static void refuse(lr_hub *h, larder_status code, const char *what)
{
    if (!h->st) h->st = lr_fail(h->err, code, "%s: config.json: %s", h->f->path, what);
}

void lr_hub_refuse(lr_hub *h, const char *what) { refuse(h, LARDER_UNSUPPORTED, what); }

/* ---------------------------------------------------------------- reading config.json */
typedef struct cfg_name {
    char s[160];
} cfg_name;

/* The setting's full key: in the text part if it is there, else at the top. */
static cfg_name cfg_key(const lr_hub *h, const char *key)
{
    cfg_name n;
    (void)snprintf(n.s, sizeof n.s, "config.text_config.%s", key);
    if (!h->wrapped || !lr_file_key(h->f, n.s)) (void)snprintf(n.s, sizeof n.s, "config.%s", key);
    return n;
}

static const lr_kv *cfg(const lr_hub *h, const char *key) { return lr_file_key(h->f, cfg_key(h, key).s); }

bool lr_cfg_has(const lr_hub *h, const char *key) { return cfg(h, key) != NULL; }

bool lr_cfg_u32(lr_hub *h, const char *key, uint32_t max, uint32_t *io)
{
    if (h->st || !cfg(h, key)) return false;
    h->st = lr_key_u32(h->f, cfg_key(h, key).s, 0, max, io, h->err);
    return !h->st;
}

bool lr_cfg_f64(lr_hub *h, const char *key, double *io)
{
    if (h->st || !cfg(h, key)) return false;
    h->st = lr_key_f64(h->f, cfg_key(h, key).s, -1e30, 1e30, io, h->err);
    return !h->st;
}

bool lr_cfg_bool(lr_hub *h, const char *key, bool *io)
{
    if (h->st || !cfg(h, key)) return false;
    h->st = lr_key_bool(h->f, cfg_key(h, key).s, io, h->err);
    return !h->st;
}

bool lr_cfg_str(lr_hub *h, const char *key, lr_str *io)
{
    if (h->st || !cfg(h, key)) return false;
    h->st = lr_key_str(h->f, cfg_key(h, key).s, io, h->err);
    return !h->st;
}

/* As lr_cfg_u32 for a setting that must be there, 1 to max. */
static uint32_t need_u32(lr_hub *h, const char *key, uint32_t max)
{
    uint32_t v = 0;
    if (!lr_cfg_u32(h, key, max, &v) || !v) {
        char text[160];
        (void)snprintf(text, sizeof text, "%s is %s", key, cfg(h, key) ? "0" : "missing");
        refuse(h, LARDER_FORMAT, text);
    }
    return v;
}

/* ---------------------------------------------------------------- writing keys */
static void put(lr_hub *h, const char *full, lr_kv_type type, lr_kv_type elem, uint64_t n, const void *data,
                size_t size)
{
    if (h->st) return;
    if (h->view->n_kv >= LR_HUB_MAX_KEYS) {
        refuse(h, LARDER_INTERNAL, "too many keys");
    } else if (!lr_kv_make(h->view, &h->view->kv[h->view->n_kv], lr_str_of(full), type, elem, n, data, size)) {
        h->st = LR_NOMEM(h->err, "the model's keys");
    } else {
        h->view->n_kv++;
    }
}

static cfg_name full_key(const lr_hub *h, const char *key)
{
    cfg_name n;
    (void)snprintf(n.s, sizeof n.s, "%s.%s", h->arch->name, key);
    return n;
}

void lr_put_u32(lr_hub *h, const char *key, uint32_t v)
{
    put(h, full_key(h, key).s, LR_KV_U32, LR_KV_U32, 1, &v, sizeof v);
}

void lr_put_f32(lr_hub *h, const char *key, double v)
{
    float f = (float)v;
    put(h, full_key(h, key).s, LR_KV_F32, LR_KV_F32, 1, &f, sizeof f);
}

void lr_put_bool(lr_hub *h, const char *key, bool v)
{
    uint8_t byte = v;
    put(h, full_key(h, key).s, LR_KV_BOOL, LR_KV_BOOL, 1, &byte, sizeof byte);
}

void lr_put_str(lr_hub *h, const char *key, lr_str v)
{
    put(h, full_key(h, key).s, LR_KV_STR, LR_KV_STR, 1, v.p, v.n);
}

uint32_t lr_hub_head_dim(const lr_hub *h) { return h->head_dim; }

/* ---------------------------------------------------------------- which architecture */
static bool word_in(const char *list, lr_str word)
{
    for (const char *p = list; *p;) {
        size_t n = strcspn(p, " ");
        if (lr_str_eq((lr_str){p, n}, word)) return true;
        p += n + (p[n] == ' ');
    }
    return false;
}

/* NULL on a failure. */
static const lr_arch *choose_arch(lr_hub *h)
{
    lr_str type = {0};
    h->wrapped = lr_file_key(h->f, "config.text_config.hidden_size") != NULL;
    if (!lr_cfg_str(h, "model_type", &type) && !h->st) refuse(h, LARDER_FORMAT, "model_type is missing");
    if (h->st) return NULL;
    for (const lr_arch *const *a = lr_arch_all(); *a; a++) {
        if (word_in((*a)->hub_types, type)) return *a;
    }
    lr_buf list = {0};
    for (const lr_arch *const *a = lr_arch_all(); *a; a++) {
        lr_buf_printf(&list, "%s%s", a == lr_arch_all() ? "" : " ", (*a)->hub_types);
    }
    h->st = lr_fail(h->err, LARDER_UNSUPPORTED, "%s: model_type \"%.*s\" is not one larder runs: %.*s", h->f->path,
                    LR_STR_ARG(type), (int)list.n, list.p ? list.p : "");
    lr_buf_free(&list);
    return NULL;
}

/* Whether a way of packing weights is one larder reads; FP8 goes by several names. */
static bool reads(lr_hub *h, lr_str method)
{
    lr_str form = {0};
    if (lr_str_is(method, "mxfp4") || lr_str_is(method, "fp8") || lr_str_is(method, "fbgemm_fp8")) return true;
    if (lr_str_is(method, "compressed-tensors"))
        return lr_cfg_str(h, "quantization_config.format", &form) && lr_str_is(form, "float-quantized");
    return lr_str_is(method, "modelopt") && lr_cfg_str(h, "quantization_config.quant_algo", &form) &&
           lr_str_is(form, "FP8");
}

/* Settings that change the arithmetic in ways no architecture here has. */
static void check_settings(lr_hub *h)
{
    lr_str method = {0}, act = {0};
    if (lr_cfg_str(h, "quantization_config.quant_method", &method) && !reads(h, method)) {
        char text[160];
        (void)snprintf(text, sizeof text,
                       "quantization_config.quant_method is \"%.*s\"; larder reads floats, fp8 (E4M3) and mxfp4",
                       (int)LR_MIN(method.n, (size_t)40), method.p);
        refuse(h, LARDER_UNSUPPORTED, text);
    }
    bool gelu = (h->arch->flags & LR_ARCH_NORM_PLUS_ONE) != 0;
    if (!gelu && lr_cfg_str(h, "hidden_act", &act) && !lr_str_is(act, "silu") && !lr_str_is(act, "swish")) {
        refuse(h, LARDER_UNSUPPORTED, "hidden_act is not silu");
    }
    if (gelu && lr_cfg_str(h, "hidden_activation", &act) && !lr_str_is(act, "gelu_pytorch_tanh")) {
        refuse(h, LARDER_UNSUPPORTED, "hidden_activation is not gelu_pytorch_tanh");
    }
}

/* ---------------------------------------------------------------- sizes */
/* The usual values of a text part inside a larger model; else those of models that say everything. */
static lr_hub_usual usual(const lr_hub *h)
{
    if (h->wrapped && h->arch->usual) return *h->arch->usual;
    return (lr_hub_usual){.n_ctx = 2048, .rope_base = 10000};
}

static void put_sizes(lr_hub *h)
{
    h->n_layer = need_u32(h, "num_hidden_layers", LR_MAX_LAYER);
    uint32_t n_embd = need_u32(h, "hidden_size", LR_MAX_EMBD), n_ff = need_u32(h, "intermediate_size", LR_MAX_FF);
    h->n_head = usual(h).n_head;
    if (!lr_cfg_u32(h, "num_attention_heads", LR_MAX_HEAD, &h->n_head) && !h->n_head) {
        h->n_head = need_u32(h, "num_attention_heads", LR_MAX_HEAD);
    }
    h->n_head_kv = usual(h).n_head_kv ? usual(h).n_head_kv : h->n_head;
    (void)lr_cfg_u32(h, "num_key_value_heads", LR_MAX_HEAD, &h->n_head_kv);
    if (!h->n_head || !h->n_head_kv) refuse(h, LARDER_FORMAT, "num_attention_heads or num_key_value_heads is 0");
    if (h->st || !h->n_head) return;
    h->head_dim = h->arch->flags & LR_ARCH_NORM_PLUS_ONE ? 256 : n_embd / h->n_head;
    (void)lr_cfg_u32(h, "head_dim", LR_MAX_HEAD_DIM, &h->head_dim);
    if (!h->head_dim || h->head_dim > LR_MAX_HEAD_DIM)
        refuse(h, LARDER_FORMAT, "head_dim, or hidden_size over num_attention_heads, is out of range");
    if (h->st) return;
    uint32_t n_ctx = usual(h).n_ctx;
    (void)lr_cfg_u32(h, "max_position_embeddings", LR_MAX_CTX, &n_ctx);
    double eps = 1e-6;
    (void)lr_cfg_f64(h, "rms_norm_eps", &eps);
    lr_put_u32(h, "block_count", h->n_layer);
    lr_put_u32(h, "context_length", n_ctx);
    lr_put_u32(h, "embedding_length", n_embd);
    lr_put_u32(h, "feed_forward_length", n_ff);
    lr_put_u32(h, "attention.head_count", h->n_head);
    lr_put_u32(h, "attention.head_count_kv", h->n_head_kv);
    lr_put_u32(h, "attention.key_length", h->head_dim);
    lr_put_u32(h, "attention.value_length", h->head_dim);
    lr_put_f32(h, "attention.layer_norm_rms_epsilon", eps);
    uint32_t n_vocab = 0;
    if (lr_cfg_u32(h, "vocab_size", LR_MAX_VOCAB, &n_vocab)) lr_put_u32(h, "vocab_size", n_vocab);
}

static void put_experts(lr_hub *h)
{
    uint32_t used = 0, n_ff = 0;
    if (!lr_cfg_u32(h, "num_local_experts", LR_MAX_EXPERT, &h->n_expert)) {
        (void)lr_cfg_u32(h, "num_experts", LR_MAX_EXPERT, &h->n_expert);
    }
    if (!h->n_expert) return;
    if (!lr_cfg_u32(h, "num_experts_per_tok", LR_MAX_EXPERT, &used)) {
        (void)lr_cfg_u32(h, "experts_per_token", LR_MAX_EXPERT, &used);
    }
    lr_put_u32(h, "expert_count", h->n_expert);
    lr_put_u32(h, "expert_used_count", used);
    if (!lr_cfg_u32(h, "moe_intermediate_size", LR_MAX_FF, &n_ff))
        (void)lr_cfg_u32(h, "intermediate_size", LR_MAX_FF, &n_ff);
    lr_put_u32(h, "expert_feed_forward_length", n_ff);
}

/* ---------------------------------------------------------------- windows */
/* Which layers slide, from layer_types or the older ways to say it. */
static void sliding_layers(lr_hub *h, bool *slides)
{
    const lr_kv *types = cfg(h, "layer_types");
    uint32_t period = h->arch->window_period, first = 28;
    if (types && types->type == LR_KV_ARR && types->elem == LR_KV_STR && types->n >= h->n_layer) {
        lr_str_iter it = lr_str_walk(types);
        lr_str s;
        for (uint32_t l = 0; l < h->n_layer && lr_str_next(&it, &s); l++) {
            slides[l] = lr_str_is(s, "sliding_attention");
            if (!slides[l] && !lr_str_is(s, "full_attention"))
                refuse(h, LARDER_UNSUPPORTED, "unknown kind in layer_types");
        }
        return;
    }
    if (types) refuse(h, LARDER_FORMAT, "layer_types does not name every layer");
    bool opt_in = h->arch->flags & LR_ARCH_WINDOW_OPT_IN;
    if (opt_in) (void)lr_cfg_u32(h, "max_window_layers", UINT32_MAX, &first);
    if (!lr_cfg_u32(h, "sliding_window_pattern", LR_MAX_LAYER, &period)) {
        (void)lr_cfg_u32(h, "_sliding_window_pattern", LR_MAX_LAYER, &period);
    }
    if (!period && h->arch->window_period) refuse(h, LARDER_FORMAT, "sliding_window_pattern is 0");
    for (uint32_t l = 0; l < h->n_layer; l++) {
        slides[l] = opt_in ? l >= first : lr_slides_by(period, l);
    }
}

static void put_window(lr_hub *h)
{
    uint32_t window = usual(h).window, period = h->arch->window_period;
    bool wanted = true, as_usual = true, slides[LR_MAX_LAYER] = {false};
    (void)lr_cfg_u32(h, "sliding_window", LR_MAX_CTX, &window);
    if (h->arch->flags & LR_ARCH_WINDOW_OPT_IN) wanted = false;
    (void)lr_cfg_bool(h, "use_sliding_window", &wanted);
    if (!window || !wanted || h->st) return;
    sliding_layers(h, slides);
    lr_put_u32(h, "attention.sliding_window", window);
    for (uint32_t l = 0; l < h->n_layer; l++) {
        as_usual = as_usual && slides[l] == lr_slides_by(period, l);
    }
    if (as_usual) return;
    uint8_t flags[LR_MAX_LAYER];
    for (uint32_t l = 0; l < h->n_layer; l++) flags[l] = slides[l];
    put(h, full_key(h, "attention.sliding_window_pattern").s, LR_KV_ARR, LR_KV_BOOL, h->n_layer, flags, h->n_layer);
}

/* ---------------------------------------------------------------- RoPE */
typedef struct rope_reader {
    lr_hub *h;
    const char *at; /* where its settings stand: "rope_parameters." and so on */
    double base;
    uint32_t n_ctx;
} rope_reader;

static bool rope_f64(const rope_reader *r, const char *key, double *io)
{
    char name[128];
    (void)snprintf(name, sizeof name, "%s%s", r->at, key);
    return lr_cfg_f64(r->h, name, io);
}

static double need_rope(const rope_reader *r, const char *key, double min)
{
    double v = 0;
    char text[160];
    bool there = rope_f64(r, key, &v);
    if (there && v >= min) return v;
    (void)snprintf(text, sizeof text, "%s%s is %s", r->at, key, there ? "too small" : "missing");
    refuse(r->h, LARDER_FORMAT, text);
    return min;
}

/* The context the model was first trained for: with the scheme's settings, or at the top; else all of it. */
static uint32_t original_context(const rope_reader *r)
{
    double n = r->n_ctx;
    if (!rope_f64(r, "original_max_position_embeddings", &n)) {
        (void)lr_cfg_f64(r->h, "original_max_position_embeddings", &n);
    }
    if (!r->h->st && !(n >= 1 && n <= LR_MAX_CTX))
        refuse(r->h, LARDER_FORMAT, "original_max_position_embeddings is out of range");
    return r->h->st ? 1 : (uint32_t)n;
}

static void put_llama3(const rope_reader *r)
{
    lr_hub *h = r->h;
    float f[LR_MAX_HEAD_DIM / 2];
    double factor = need_rope(r, "factor", 1e-6), low = need_rope(r, "low_freq_factor", 1e-6);
    double high = need_rope(r, "high_freq_factor", 1e-6);
    if (!h->st && !(high > low)) refuse(h, LARDER_FORMAT, "high_freq_factor is not above low_freq_factor");
    uint32_t n_orig = original_context(r);
    if (h->st) return;
    assert(h->n_rot / 2 <= LR_LEN(f));
    lr_rope_llama3(r->base, h->n_rot, factor, low, high, n_orig, f);
    lr_hub_add_floats(h, "rope_freqs.weight", f, h->n_rot / 2);
}

static double yarn_scale(double factor, double m) { return factor > 1 ? 0.1 * m * log(factor) + 1 : 1; }

static void put_yarn(const rope_reader *r)
{
    lr_hub *h = r->h;
    double factor, attn, m = 0, m_all = 0, fast = 32, slow = 1;
    uint32_t n_orig = original_context(r);
    if (!rope_f64(r, "factor", &factor)) factor = (double)r->n_ctx / n_orig;
    if (!h->st && !(factor >= 1e-6 && factor <= 1e6)) refuse(h, LARDER_FORMAT, "the factor of yarn is out of range");
    if (h->st) return;
    lr_put_str(h, "rope.scaling.type", LR_STR("yarn"));
    lr_put_f32(h, "rope.scaling.factor", factor);
    lr_put_u32(h, "rope.scaling.original_context_length", n_orig);
    if (!rope_f64(r, "attention_factor", &attn)) {
        attn = yarn_scale(factor, 1);
        if (rope_f64(r, "mscale", &m) && rope_f64(r, "mscale_all_dim", &m_all) && m > 0 && m_all > 0) {
            attn = yarn_scale(factor, m) / yarn_scale(factor, m_all);
        }
    }
    /* GGUF's key multiplies the usual scale */
    if (fabs(attn / yarn_scale(factor, 1) - 1) > 1e-9)
        lr_put_f32(h, "rope.scaling.attn_factor", attn / yarn_scale(factor, 1));
    if (rope_f64(r, "beta_fast", &fast)) lr_put_f32(h, "rope.scaling.yarn_beta_fast", fast);
    if (rope_f64(r, "beta_slow", &slow)) lr_put_f32(h, "rope.scaling.yarn_beta_slow", slow);
    char name[64];
    bool truncate = true;
    (void)snprintf(name, sizeof name, "%struncate", r->at);
    (void)lr_cfg_bool(h, name, &truncate);
    if (truncate != !(h->arch->flags & LR_ARCH_YARN_EXACT)) lr_put_bool(h, "rope.scaling.yarn_truncate", truncate);
}

static void put_factors(const rope_reader *r, const char *key, const char *tensor)
{
    lr_hub *h = r->h;
    char name[128];
    float f[LR_MAX_HEAD_DIM / 2];
    (void)snprintf(name, sizeof name, "%s%s", r->at, key);
    assert(h->n_rot / 2 <= LR_LEN(f));
    const lr_kv *kv = cfg(h, name);
    bool ok = kv && kv->type == LR_KV_ARR && kv->n == h->n_rot / 2;
    for (uint32_t i = 0; ok && i < h->n_rot / 2; i++) {
        double v;
        ok = lr_kv_number(kv, i, &v);
        if (ok) f[i] = (float)v;
    }
    if (!ok) {
        char text[200];
        (void)snprintf(text, sizeof text, "%s is not a list of %u numbers", name, h->n_rot / 2);
        refuse(h, LARDER_FORMAT, text);
        return;
    }
    lr_hub_add_floats(h, tensor, f, h->n_rot / 2);
}

static void put_longrope(const rope_reader *r)
{
    lr_hub *h = r->h;
    uint32_t n_orig = original_context(r);
    double factor = (double)r->n_ctx / n_orig, attn;
    if (!lr_cfg_has(h, "original_max_position_embeddings")) (void)rope_f64(r, "factor", &factor);
    if (!rope_f64(r, "attention_factor", &attn))
        attn = factor > 1 && n_orig > 1 ? sqrt(1 + log(factor) / log(n_orig)) : 1;
    lr_put_str(h, "rope.scaling.type", LR_STR("longrope"));
    lr_put_u32(h, "rope.scaling.original_context_length", n_orig);
    lr_put_f32(h, "rope.scaling.attn_factor", attn);
    put_factors(r, "short_factor", "rope_factors_short.weight");
    put_factors(r, "long_factor", "rope_factors_long.weight");
}

/* Where the scheme's settings stand. Gemma 3 has one set per kind of layer: the layers that do not slide have the
 * scheme, the others a base only. */
static const char *rope_place(const lr_hub *h)
{
    if (lr_cfg_has(h, "rope_parameters.full_attention.rope_type") ||
        lr_cfg_has(h, "rope_parameters.full_attention.rope_theta")) {
        return "rope_parameters.full_attention.";
    }
    if (lr_cfg_has(h, "rope_parameters.rope_type") || lr_cfg_has(h, "rope_parameters.rope_theta"))
        return "rope_parameters.";
    return "rope_scaling.";
}

static lr_str rope_type(const rope_reader *r)
{
    static const char *const keys[] = {"rope_type", "type"};
    lr_str type = LR_STR("default");
    for (size_t i = 0; i < LR_LEN(keys); i++) {
        char name[128];
        (void)snprintf(name, sizeof name, "%s%s", r->at, keys[i]);
        if (lr_cfg_str(r->h, name, &type)) break;
    }
    return type;
}

static void put_scheme(const rope_reader *r)
{
    lr_str type = rope_type(r);
    if (lr_str_is(type, "default")) return;
    if (lr_str_is(type, "linear")) {
        lr_put_str(r->h, "rope.scaling.type", type);
        lr_put_f32(r->h, "rope.scaling.factor", need_rope(r, "factor", 1e-6));
    } else if (lr_str_is(type, "dynamic")) {
        lr_put_f32(r->h, "rope.scaling.dynamic_factor", need_rope(r, "factor", 1e-6));
    } else if (lr_str_is(type, "llama3")) {
        put_llama3(r);
    } else if (lr_str_is(type, "yarn")) {
        put_yarn(r);
    } else if (lr_str_is(type, "longrope") || lr_str_is(type, "su")) {
        put_longrope(r);
    } else {
        char text[160];
        (void)snprintf(text, sizeof text,
                       "%srope_type is \"%.*s\": larder knows default, linear, dynamic, llama3, yarn, "
                       "longrope",
                       r->at, (int)LR_MIN(type.n, (size_t)40), type.p);
        refuse(r->h, LARDER_UNSUPPORTED, text);
    }
}

static void put_rope(lr_hub *h)
{
    rope_reader r = {.h = h, .at = rope_place(h), .base = usual(h).rope_base, .n_ctx = usual(h).n_ctx};
    double partial = 1;
    (void)lr_cfg_u32(h, "max_position_embeddings", LR_MAX_CTX, &r.n_ctx);
    if (!rope_f64(&r, "rope_theta", &r.base)) (void)lr_cfg_f64(h, "rope_theta", &r.base);
    if (!rope_f64(&r, "partial_rotary_factor", &partial)) (void)lr_cfg_f64(h, "partial_rotary_factor", &partial);
    if (!h->st && !(r.base > 1 && r.base <= 1e15)) refuse(h, LARDER_FORMAT, "rope_theta is out of range");
    if (!h->st && !(partial > 0 && partial <= 1)) refuse(h, LARDER_FORMAT, "partial_rotary_factor is out of range");
    if (h->st) return;
    h->n_rot = (uint32_t)(h->head_dim * partial);
    if (!h->n_rot || h->n_rot % 2) {
        refuse(h, LARDER_FORMAT, "the rotated part of a head (head_dim, partial_rotary_factor) is odd or empty");
        return;
    }
    lr_put_f32(h, "rope.freq_base", r.base);
    lr_put_u32(h, "rope.dimension_count", h->n_rot);
    put_scheme(&r);
}

/* ---------------------------------------------------------------- the view */
static void put_names(lr_hub *h)
{
    const char *path = h->f->path ? h->f->path : "";
    size_t n = strlen(path);
    while (n && path[n - 1] == '/') n--;
    size_t start = n;
    while (start && path[start - 1] != '/') start--;
    put(h, "general.architecture", LR_KV_STR, LR_KV_STR, 1, h->arch->name, strlen(h->arch->name));
    put(h, "general.name", LR_KV_STR, LR_KV_STR, 1, path + start, n - start);
}

larder_status lr_hub_view(lr_model *m, larder_error *err)
{
    lr_hub h = {.m = m, .f = m->file, .view = &m->view, .err = err};
    m->view = (lr_file){.origin = LR_ORIGIN_GGUF, .path = m->file->path, .alignment = 32};
    h.arch = m->arch = choose_arch(&h);
    if (!h.arch) return h.st;
    h.cap_tensors = 2 * m->file->n_tensors + 4;
    m->view.kv = lr_arena_array(&m->view.arena, LR_HUB_MAX_KEYS, sizeof *m->view.kv);
    m->view.tensors = lr_arena_array(&m->view.arena, h.cap_tensors, sizeof *m->view.tensors);
    m->fix = lr_arena_array(&m->view.arena, h.cap_tensors, sizeof *m->fix);
    m->fix_heads = lr_arena_array(&m->view.arena, h.cap_tensors, sizeof *m->fix_heads);
    if (!m->view.kv || !m->view.tensors || !m->fix || !m->fix_heads) return LR_NOMEM(err, "the model's names");
    check_settings(&h);
    put_names(&h);
    put_sizes(&h);
    put_experts(&h);
    put_window(&h);
    put_rope(&h);
    if (!h.st && h.arch->hub_keys) h.arch->hub_keys(&h);
    h.tied = h.arch->flags & LR_ARCH_NORM_PLUS_ONE;
    (void)lr_cfg_bool(&h, "tie_word_embeddings", &h.tied);
    if (!h.st) lr_hub_tensors(&h);
    if (h.st) return h.st;
    return lr_file_index(&m->view, err);
}
