/* predict.c - see predict.h. The efficiency model: every term is a time at the machine's stated figures, with a factor
 * that was fitted. docs/planner.md says what each stands for. */
#include "own.h"

#include <math.h>
#include <stdlib.h>
#include <strings.h>

/* ---------------------------------------------------------------- what runs it */
static bool holds(const char *s, const char *what)
{
    size_t n = strlen(what);
    for (; *s; s++)
        if (!strncasecmp(s, what, n)) return true;
    return false;
}

lr_setup lr_setup_usual(const lr_machine *m)
{
    static const lr_family of[] = {LR_FAM_CUDA, LR_FAM_ROCM, LR_FAM_VULKAN, LR_FAM_METAL, LR_FAM_CPU};
    return (lr_setup){.family = of[m->kind],
                      .year = 2025.8,
                      .flash = true,
                      .ubatch = m->kind == LR_KIND_CPU ? 512 : 2048,
                      .kv_bytes = 2};
}

static double year_of(const char *v)
{
    for (const char *p = v; *p; p++) {
        if (!strncmp(p, "202", 3) && p[3] >= '0' && p[3] <= '9') {
            double y = 2020 + (p[3] - '0');
            int month = p[4] == '-' ? atoi(p + 5) : 0;
            return month >= 1 && month <= 12 ? y + (month - 0.5) / 12 : y + 0.5;
        }
    }
    if (v[0] == 'b' && v[1] >= '0' && v[1] <= '9') return 2024.98 + (atoi(v + 1) - 4384) / 2900.0;
    return 2025.7;
}

bool lr_setup_find(const char *b, const char *version, const lr_machine *m, lr_setup *out)
{
    static const struct {
        const char *word;
        lr_engine engine;
    } engines[] = {
        {"larder", LR_ENGINE_LARDER},   {"ik_llama", LR_ENGINE_IK},         {"ollama", LR_ENGINE_OLLAMA},
        {"llama", LR_ENGINE_LLAMA_CPP}, {"LM Studio", LR_ENGINE_LLAMA_CPP}, {"koboldcpp", LR_ENGINE_LLAMA_CPP},
        {"calm", LR_ENGINE_LEAN},       {"yalm", LR_ENGINE_LEAN},           {"exllama", LR_ENGINE_LEAN},
        {"MLC", LR_ENGINE_LEAN},        {"gpt-fast", LR_ENGINE_LEAN},       {"MLX", LR_ENGINE_LEAN},
        {"T-MAC", LR_ENGINE_LLAMA_CPP}, {"vLLM", LR_ENGINE_SERVER},         {"SGLang", LR_ENGINE_SERVER},
        {"TensorRT", LR_ENGINE_SERVER}, {"TRT", LR_ENGINE_SERVER},          {"transformers", LR_ENGINE_EAGER},
        {"torch", LR_ENGINE_EAGER},
    };
    size_t at = LR_LEN(engines);
    *out = lr_setup_usual(m);
    out->ubatch = 512;
    for (size_t i = LR_LEN(engines); i-- > 0;)
        if (holds(b, engines[i].word)) at = i;
    if (at == LR_LEN(engines) && *b && !holds(b, "cuda") && !holds(b, "metal") && !holds(b, "vulkan") &&
        !holds(b, "rocm") && !holds(b, "hip") && !holds(b, "cpu") && !holds(b, "sycl"))
        return false;
    if (at < LR_LEN(engines)) out->engine = engines[at].engine;
    if (m->kind != LR_KIND_CPU) {
        if (holds(b, "vulkan")) out->family = LR_FAM_VULKAN;
        else if (holds(b, "rocm") || holds(b, "hip")) out->family = LR_FAM_ROCM;
        else if (holds(b, "sycl")) out->family = LR_FAM_VULKAN;
        else if (holds(b, "cuda") && m->kind == LR_KIND_NVIDIA) out->family = LR_FAM_CUDA;
    }
    /* on a board computer only Vulkan drivers see such cards */
    if (m->weak_host && (m->kind == LR_KIND_AMD || m->kind == LR_KIND_INTEL)) out->family = LR_FAM_VULKAN;
    out->year = year_of(version);
    out->flash = holds(b, " FA") || out->engine == LR_ENGINE_LEAN || out->engine == LR_ENGINE_SERVER ||
                 out->year > 2025.75;
    if (holds(b, "no FA")) out->flash = false;
    out->tensor_split = out->engine == LR_ENGINE_SERVER || holds(b, "gpt-fast") || holds(b, "tensor parallel") ||
                        (m->cluster && m->kind == LR_KIND_CPU);
    if (out->engine == LR_ENGINE_SERVER || out->engine == LR_ENGINE_LEAN) out->ubatch = 4096;
    return true;
}

/* ---------------------------------------------------------------- features */
/* Operations a second of the units that multiply this format's matrices, and the most that physics allows. */
static double matrix_rate(const lr_machine *m, const lr_plan_model *model, const lr_setup *s, double *most)
{
    double plain = m->fp32;
    double half = LR_MAX(m->f16, m->bf16);
    double rate = plain;
    bool quantised = model->cls != LR_CLS_F16;
    *most = LR_MAX(plain, half);
    if (quantised) *most = LR_MAX(*most, LR_MAX(m->int8, m->fp8));
    if (model->fp4) *most = LR_MAX(*most, m->fp4);
    switch (s->family) {
    case LR_FAM_CUDA:
        if (half > 0) rate = half;
        if (quantised && m->int8 > 0 && s->engine != LR_ENGINE_LEAN) rate = m->int8;
        if (model->fp8 && s->engine == LR_ENGINE_SERVER && m->fp8 > 0) rate = m->fp8;
        break;
    case LR_FAM_CPU: rate = quantised && m->int8 > 0 ? m->int8 : LR_MAX(plain, m->bf16); break;
    case LR_FAM_ROCM:
    case LR_FAM_VULKAN:
        if (half > 0 && m->kind != LR_KIND_INTEL) rate = half;
        break;
    default: rate = LR_MAX(plain, half);
    }
    return rate;
}

static double spilled(const lr_machine *m, const lr_plan_model *model, double cache)
{
    if (m->unified || m->kind == LR_KIND_CPU) return 0;
    /* the embedding's rows are looked up on the host; a few hundred MB are scratch */
    double need = 0.97 * model->file_bytes + cache, room = (m->memory * 0.985 - 0.3e9) * m->count;
    return need <= room ? 0 : LR_MIN((need - room) / LR_MAX(model->file_bytes, 1), 1);
}

bool lr_machine_holds(const lr_machine *m, double bytes) { return bytes <= m->memory * m->usable * m->count; }

/* Larder's own engine where its kernels were measured: the steps it would run. */
static void own_features(const lr_machine *m, const lr_plan_model *model, const lr_setup *s, lr_work task,
                         double n_tok, double n_seq, double depth, lr_features *f)
{
    lr_own_model sum;
    if (!m->own || s->engine != LR_ENGINE_LARDER || !lr_own_model_make(model, &sum)) return;
    f->has_own = true;
    double ub = task == LR_TASK_DECODE ? n_tok : LR_MIN(s->ubatch, n_tok);
    for (double at = 0; at < n_tok; at += ub) {
        lr_own_seq part = {.n = 1, .n_tok = LR_MIN(ub, n_tok - at), .depth = depth + at};
        if (task == LR_TASK_DECODE) part = (lr_own_seq){.n = n_seq, .n_tok = 1, .depth = depth};
        lr_own_step(m->own, &sum, &part, 1, task == LR_TASK_DECODE ? n_seq : at + ub >= n_tok, s->kv_bytes, f->own);
    }
    if (!f->by_compute)
        f->ceiling *= 1 - lr_own_saved(m->own, &sum, 0); /* what the last cache holds comes faster than that */
}

void lr_features_make(const lr_machine *m, const lr_plan_model *model, const lr_setup *s, lr_work task, double n_tok,
                      double n_seq, double depth, lr_features *out)
{
    double ub = task == LR_TASK_DECODE ? n_seq : LR_MIN(s->ubatch, n_tok),
           n_step = task == LR_TASK_DECODE ? 1 : ceil(n_tok / ub);
    double bw = m->bw, fp32 = m->fp32, most, split = s->tensor_split ? m->count : 1;
    double rate = matrix_rate(m, model, s, &most);
    lr_step_size size = {.n_tok = ub,
                         .n_out = task == LR_TASK_DECODE ? n_seq : 1,
                         .n_seq = task == LR_TASK_DECODE ? n_seq : 1,
                         .depth = depth,
                         .kv_bytes = s->kv_bytes};
    lr_cost c;
    if (task == LR_TASK_PREFILL) {
        size.n_tok = n_tok / n_step;
        size.depth = depth + (n_tok - size.n_tok) / 2;
    }
    if (m->n_thread && m->n_core && m->n_thread < m->n_core) {
        double share = (double)m->n_thread / m->n_core;
        fp32 *= share;
        rate *= share;
        most *= share;
    }
    lr_cost_step(model, &size, &c, NULL, NULL);
    double spill = spilled(m, model, lr_cost_cache(model, depth + n_tok, n_seq, s->kv_bytes));
    double least = (c.weight_bytes - c.expert_bytes + c.expert_least) *
                   n_step; /* if every token chose the same experts */
    if (n_seq > 1 && c.expert_bytes > 0 && model->n_expert > 0) {
        /* tokens prefer the same experts: a batch of T touches as many as T^0.85 that chose evenly would */
        double even = lr_cost_experts(model->n_expert, model->n_expert_used, n_seq);
        double real = lr_cost_experts(model->n_expert, model->n_expert_used, pow(n_seq, 0.85));
        c.weight_bytes -= c.expert_bytes * (1 - real / even);
        c.weight_count *= 1 - (1 - real / even) * c.expert_bytes / LR_MAX(c.weight_bytes, 1);
    }
    double weights = c.weight_bytes * n_step, kv = (c.kv_read + c.kv_write) * n_step;
    *out = (lr_features){.task = task,
                         .family = s->family,
                         .engine = s->engine,
                         .cls = model->cls,
                         .gen = m->gen,
                         .machine = m->key,
                         .model = model->key,
                         .count = m->count,
                         .params = model->active,
                         .depth = size.depth,
                         .flash = s->flash,
                         .moe = model->n_expert > 0,
                         .tensor_split = s->tensor_split,
                         .cluster = m->cluster,
                         .weak_host = m->weak_host,
                         .year = s->year,
                         .tokens = task == LR_TASK_DECODE ? n_seq : n_tok,
                         .expert_rows = c.expert_rows,
                         .n_layer = c.n_layer,
                         .n_step = n_step};
    out->n_core = m->n_thread ? m->n_thread : m->n_core ? m->n_core : 8;
    if (m->kind == LR_KIND_NVIDIA && m->load_w > 0) out->power = m->load_w / (m->fp32 * 1e-12);
    out->t_weight = weights * (1 - spill) / bw / split;
    out->t_spill = weights * spill / LR_MAX(task == LR_TASK_PREFILL ? LR_MAX(m->pcie, m->host_bw) : m->host_bw, 1e9);
    out->t_kv = kv / bw / split;
    out->t_alu = 2 * c.weight_count * n_step / fp32 / split;
    out->t_act = c.act_bytes * n_step / bw / split;
    out->t_score = c.score_bytes * n_step / bw / split;
    out->t_dense = c.dense_ops * n_step / rate / split;
    out->t_expert = c.expert_ops * n_step / rate / split;
    out->t_attn = c.attn_ops * n_step / rate / split;
    out->t_shader = (c.dense_ops + c.expert_ops) * n_step / fp32 / split;
    double cards = m->count; /* whoever splits every matrix can use them all */
    double bytes = (least * (1 - spill) + kv) / bw / cards + least * spill / LR_MAX(m->host_bw, LR_MAX(m->pcie, 1e9));
    double ops = (c.dense_ops + c.expert_ops + c.attn_ops) * n_step / most / cards;
    out->ceiling = LR_MAX(bytes, ops);
    out->by_compute = ops > bytes;
    own_features(m, model, s, task, n_tok, n_seq, depth, out);
}

/* ---------------------------------------------------------------- the model */
/* X(name, believed value, spread of its logarithm) */
#define PARAMS(X) \
    /* decode: a weight's byte, by family */ \
    X(BYTE_CUDA, 1.1, 0.1) \
    X(BYTE_METAL, 1.15, 0.1) \
    X(BYTE_ROCM, 1.2, 0.2) \
    X(BYTE_VULKAN, 1.2, 0.2) \
    X(BYTE_CPU, 1.2, 0.15) /* decoding a weight and multiplying it, in units of the shader's two operations */ \
    X(ALU_F16, 4, 1) \
    X(ALU_Q8, 4, 1) \
    X(ALU_Q4, 4, 1) \
    X(ALU_K, 4, 1) \
    X(MALU_F16, 2, 1) \
    X(MALU_Q8, 2, 1) \
    X(MALU_Q4, 4, 1) \
    X(MALU_K, 5, 1) \
    X(ALU_ROCM, 1, 0.7) \
    X(ALU_VULKAN, 1, 0.7) \
    X(ALU_CPU, 0.5, 0.7) \
    X(ALU_LEAN, 0.4, 0.5) /* a layer's fixed time, seconds */ \
    X(LAYER_CUDA, 20e-6, 0.7) \
    X(LAYER_METAL, 60e-6, 0.7) \
    X(LAYER_ROCM, 40e-6, 0.7) \
    X(LAYER_VULKAN, 40e-6, 0.7) \
    X(LAYER_CORE, 6e-6, 0.7) \
    X(LAYER_LEAN, 10e-6, 0.7) \
    X(LAYER_MOE, 1.5, 0.4) \
    X(KV_PLAIN, 2.5, 0.7) \
    X(KV_FLASH, 1.5, 0.5) \
    X(OLD, 1.2, 0.2) \
    X(OLLAMA, 1.05, 0.15) \
    X(SERVER, 1.1, 0.3) \
    X(EAGER, 2.5, 0.5) \
    X(IK, 0.5, 0.5) \
    X(WEAK_HOST, 30e-6, 0.7) \
    X(CARD, 200e-6, 0.8) \
    X(CLUSTER, 100e-6, 1) \
    X(SPILL, 1.1, 0.3) /* prefill: matrix operations, by family and class */ \
    X(MUL_F16, 1.6, 0.5) \
    X(MUL_Q8, 4, 0.3) \
    X(MUL_Q4, 4, 0.3) \
    X(MUL_K, 4, 0.3) \
    X(MMUL_F16, 1.3, 0.3) \
    X(MMUL_Q, 1.4, 0.3) \
    X(MUL_ROCM, 2.5, 0.5) \
    X(MUL_VULKAN, 2.5, 0.5) \
    X(MUL_CPU, 3, 0.5) \
    X(MUL_IK, 0.7, 0.5) \
    X(MUL_SERVER, 1.6, 0.4) \
    X(SHADER, 0.15, 0.7) \
    X(ACT, 1, 0.7) \
    X(SCORE, 3, 0.7) \
    X(FLASH, 3, 0.7) \
    X(PAD, 16, 0.7) \
    X(OLD_MUL, 1.2, 0.2) \
    X(STEP, 3, 0.7) \
    X(PIPE, 0.8, 0.15) \
    X(POWER, 0.4, 0.5) /* generations, on matrix operations */ \
    X(G_PASCAL, 1, 0.3) \
    X(G_VOLTA, 1, 0.3) \
    X(G_TURING, 1, 0.3) \
    X(G_AMPERE_DC, 1, 0.3) \
    X(G_ADA, 1, 0.3) \
    X(G_HOPPER, 1, 0.3) \
    X(G_BLACKWELL, 1, 0.3) X(G_GB10, 1.3, 0.2) X(G_GCN, 1, 0.3) X(G_CDNA, 1, 0.3) X(G_RDNA4, 1, 0.3)

enum {
#define X(name, mean, sd) P_##name,
    PARAMS(X)
#undef X
        N_PARAMS
};
const lr_param lr_params[] = {
#define X(name, mean, sd) {#name, mean, sd},
    PARAMS(X)
#undef X
};
const int lr_n_params = N_PARAMS;
_Static_assert((int)N_PARAMS <= (int)LR_MAX_PARAM, "raise LR_MAX_PARAM");

static double gen_factor(const double *v, lr_gen g)
{
    static const int of[LR_GENS] = {
        [LR_GEN_PASCAL] = P_G_PASCAL,
        [LR_GEN_VOLTA] = P_G_VOLTA,
        [LR_GEN_TURING] = P_G_TURING,
        [LR_GEN_AMPERE_DC] = P_G_AMPERE_DC,
        [LR_GEN_ADA] = P_G_ADA,
        [LR_GEN_HOPPER] = P_G_HOPPER,
        [LR_GEN_BLACKWELL] = P_G_BLACKWELL,
        [LR_GEN_BLACKWELL_DC] = P_G_HOPPER,
        [LR_GEN_GB10] = P_G_GB10,
        [LR_GEN_GCN] = P_G_GCN,
        [LR_GEN_CDNA] = P_G_CDNA,
        [LR_GEN_RDNA4] = P_G_RDNA4,
    };
    return of[g] ? v[of[g]] : 1;
}

static double layer_time(const lr_features *f, const double *v)
{
    bool lean = f->engine == LR_ENGINE_LEAN || f->engine == LR_ENGINE_SERVER;
    if (f->family == LR_FAM_CPU)
        return v[P_LAYER_CORE] * f->n_core * (lean ? 0.3 : 1); /* threads wait for each other */
    double t = lean ? v[P_LAYER_LEAN] : v[P_LAYER_CUDA + f->family];
    if (f->moe) t *= v[P_LAYER_MOE];
    return t;
}

static double alu_factor(const lr_features *f, const double *v)
{
    double c = f->family == LR_FAM_METAL ? v[P_MALU_F16 + f->cls] : v[P_ALU_F16 + f->cls];
    if (f->family == LR_FAM_ROCM) c *= v[P_ALU_ROCM];
    if (f->family == LR_FAM_VULKAN) c *= v[P_ALU_VULKAN];
    if (f->family == LR_FAM_CPU) c *= v[P_ALU_CPU] * (f->engine == LR_ENGINE_IK ? v[P_IK] : 1);
    if (f->engine == LR_ENGINE_LEAN || f->engine == LR_ENGINE_SERVER) c *= v[P_ALU_LEAN];
    return c;
}

static bool is_old(const lr_features *f) { return f->year < 2024.9 && f->engine == LR_ENGINE_LLAMA_CPP; }

/* larder's own engine on a processor: from its measured kernels, or else shares of the measured limits that they reach
 * (bench/results), by class. */
static void own_parts(const lr_features *f, double *part)
{
    static const double byte[LR_CLSES] = {1.2, 1.35, 1.15, 1.25}, product[LR_CLSES] = {1.5, 2.0, 1.8, 1.8};
    if (f->has_own) {
        memcpy(part, f->own, LR_PARTS * sizeof *part);
        return;
    }
    double quantised = f->cls == LR_CLS_F16 ? 1 : 4; /* attention is in float32, and t_attn at the rate of int8 */
    part[LR_PART_LAYERS] = 40e-6 * f->n_layer * f->n_step;
    if (f->task == LR_TASK_DECODE) {
        part[LR_PART_WEIGHTS] = byte[f->cls] * f->t_weight;
        part[LR_PART_CACHE] = 1.3 * f->t_kv;
        part[LR_PART_MATRICES] = f->tokens > 1 ? product[f->cls] * (f->t_dense + f->t_expert) : 0;
    } else {
        part[LR_PART_MATRICES] = product[f->cls] * (f->t_dense + f->t_expert);
        part[LR_PART_CACHE] = 1.6 * quantised * f->t_attn;
        part[LR_PART_DECODING] = 0.5 * f->t_act;
    }
}

static void decode_parts(const lr_features *f, const double *v, double *part)
{
    double old = is_old(f) && f->family == LR_FAM_CUDA ? v[P_OLD] : 1;
    double batch = f->tokens > 1 ? 0.25 + 0.75 / f->tokens + 0.05 * f->tokens : 1;
    part[LR_PART_WEIGHTS] = f->t_weight * v[P_BYTE_CUDA + f->family];
    part[LR_PART_DECODING] = alu_factor(f, v) * f->t_alu * old * batch;
    part[LR_PART_CACHE] = f->t_kv * (f->flash ? v[P_KV_FLASH] : v[P_KV_PLAIN]);
    part[LR_PART_LAYERS] = f->n_layer * layer_time(f, v) * old;
    part[LR_PART_HOST] = f->t_spill * v[P_SPILL] + (f->weak_host ? f->n_layer * v[P_WEAK_HOST] : 0);
    part[LR_PART_MATRICES] = (f->t_dense + f->t_expert) * 1.5;
    if (f->count > 1 && !f->tensor_split) part[LR_PART_CARDS] = (f->count - 1) * v[P_CARD] * (f->cluster ? 10 : 1);
    if (f->count > 1 && f->tensor_split) part[LR_PART_CARDS] = f->n_layer * v[P_CLUSTER] * (f->cluster ? 3 : 0.3);
}

static double mul_factor(const lr_features *f, const double *v)
{
    double k;
    switch (f->family) {
    case LR_FAM_METAL: k = v[f->cls == LR_CLS_F16 ? P_MMUL_F16 : P_MMUL_Q]; break;
    case LR_FAM_ROCM: k = v[P_MUL_ROCM]; break;
    case LR_FAM_VULKAN: k = v[P_MUL_VULKAN]; break;
    case LR_FAM_CPU:
        k = v[P_MUL_CPU] * (f->engine == LR_ENGINE_IK ? v[P_MUL_IK] : f->cls == LR_CLS_K ? 1.7 : 1);
        break;
    default: k = f->engine == LR_ENGINE_SERVER ? v[P_MUL_SERVER] : v[P_MUL_F16 + f->cls];
    }
    if (is_old(f) && f->family == LR_FAM_CUDA) k *= v[P_OLD_MUL];
    if (f->power > 0 && f->family == LR_FAM_CUDA) k *= pow(f->power / 6, -v[P_POWER]); /* clocks sink at the limit */
    return k * gen_factor(v, f->gen);
}

static void prefill_parts(const lr_features *f, const double *v, double *part)
{
    double k = mul_factor(f, v), pad = f->moe ? 1 + v[P_PAD] / LR_MAX(f->expert_rows, 0.5) : 1;
    part[LR_PART_MATRICES] = k * (f->t_dense + f->t_expert * pad);
    part[LR_PART_DECODING] = v[P_SHADER] * f->t_shader + v[P_ACT] * f->t_act;
    part[LR_PART_CACHE] = f->flash ? v[P_FLASH] * f->t_attn : v[P_SCORE] * f->t_score + f->t_attn;
    part[LR_PART_WEIGHTS] = f->t_weight * 0.5;
    part[LR_PART_LAYERS] = f->n_step * f->n_layer * layer_time(f, v) * v[P_STEP];
    part[LR_PART_HOST] = f->t_spill * v[P_SPILL];
    if (f->count > 1 && !f->tensor_split) { /* cards work on one ubatch after another, like a pipeline */
        double cards = LR_MIN(pow(f->count, v[P_PIPE]), f->count);
        for (int i = 0; i < LR_PARTS; i++) part[i] *= (f->n_step + cards - 1) / (f->n_step * cards);
    }
}

double lr_model_parts(const lr_features *f, const double *theta, double *part)
{
    double v[N_PARAMS], sum = 0, engine = 1;
    for (int i = 0; i < N_PARAMS; i++) v[i] = exp(theta[i]);
    for (int i = 0; i < LR_PARTS; i++) part[i] = 0;
    if (f->engine == LR_ENGINE_LARDER && f->family == LR_FAM_CPU) own_parts(f, part);
    else if (f->task == LR_TASK_DECODE) decode_parts(f, v, part);
    else prefill_parts(f, v, part);
    if (f->engine == LR_ENGINE_OLLAMA) engine = v[P_OLLAMA];
    if (f->engine == LR_ENGINE_SERVER && f->task == LR_TASK_DECODE) engine = v[P_SERVER];
    if (f->engine == LR_ENGINE_EAGER) engine = v[P_EAGER];
    for (int i = 0; i < LR_PARTS; i++) sum += part[i] *= engine;
    return LR_MAX(sum, 1e-12);
}

double lr_model_seconds(const lr_features *f, const double *theta)
{
    double part[LR_PARTS];
    return lr_model_parts(f, theta, part);
}

const char *lr_part_name(lr_work task, int part)
{
    static const char *const decode[] = {"reading the weights",      "decoding and multiplying them",
                                         "reading the cache",        "starting the layers' operators",
                                         "through the host",         "arithmetic of the batch",
                                         "between cards or machines"};
    static const char *const prefill[] = {"reading the weights",
                                          "decoding weights, moving activations",
                                          "attention",
                                          "starting the layers' operators",
                                          "through the host",
                                          "matrix products",
                                          "between cards or machines"};
    return task == LR_TASK_DECODE ? decode[part] : prefill[part];
}

/* ---------------------------------------------------------------- what was measured alike */
void lr_seen_make(const lr_features *f, double residual, lr_seen *out)
{
    *out = (lr_seen){.machine = f->machine,
                     .model = f->model,
                     .task = (uint8_t)f->task,
                     .family = (uint8_t)f->family,
                     .engine = (uint8_t)f->engine,
                     .cls = (uint8_t)f->cls,
                     .gen = (uint8_t)f->gen,
                     .count = (uint8_t)LR_MIN(f->count, 255),
                     .year = (float)f->year,
                     .flash = f->flash,
                     .residual = (float)residual};
    out->log_depth = (float)log(LR_MAX(f->depth, 1) + 1000);
    out->log_params = (float)log(LR_MAX(f->params, 1e6));
}

double lr_seen_like(const lr_seen *a, const lr_seen *b)
{
    double w = 1;
    if (a->task != b->task || a->family != b->family) return 0;
    if (a->machine != b->machine || !a->machine) w *= a->gen == b->gen ? 0.12 : 0.01;
    if (a->engine != b->engine) w *= a->engine == LR_ENGINE_LARDER || b->engine == LR_ENGINE_LARDER ? 0 : 0.25;
    if (a->cls != b->cls) w *= 0.25;
    if (a->count != b->count) w *= (a->count > 1) == (b->count > 1) ? 0.5 : 0.2;
    if (a->model != b->model) w *= 0.7;
    w *= exp(-fabs((double)a->log_params - (double)b->log_params) / 1.0);
    w *= exp(-fabs((double)a->log_depth - (double)b->log_depth) / 1.5);
    w *= exp(-fabs((double)a->year - (double)b->year) / 1.0);
    return w;
}

static bool same_machine(const lr_seen *a, const lr_seen *b)
{
    return a->machine == b->machine && a->machine && a->count == b->count;
}

lr_near lr_seen_correct(const lr_seen *all, size_t n, const lr_seen *at, bool apart)
{
    lr_near near = {0};
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        bool own = same_machine(&all[i], at);
        if (apart && own && all[i].model == at->model && all[i].cls == at->cls) continue;
        double w = lr_seen_like(&all[i], at);
        sum += w * (double)all[i].residual;
        near.weight += w;
        if (own) near.own += w;
    }
    near.shift = sum / (near.weight + 0.3);
    return near;
}

int lr_range_class(const lr_seen *at, const lr_near *near)
{
    return at->task * 4 + (near->own > 0.15 ? 0 : near->weight > 0.6 ? 1 : near->weight > 0.12 ? 2 : 3);
}

/* ---------------------------------------------------------------- with the built-in fit */
#include "fit.def"

void lr_predict(const lr_features *f, lr_prediction *out)
{
    lr_seen at;
    double part[LR_PARTS], t = lr_model_parts(f, fit_theta, part);
    lr_seen_make(f, 0, &at);
    lr_near near = lr_seen_correct(fit_seen, LR_LEN(fit_seen), &at, false);
    int range = lr_range_class(&at, &near);
    double rate = f->tokens / t * exp(near.shift), most = f->tokens / f->ceiling;
    *out = (lr_prediction){.ceiling = most, .n_near = near.weight, .own = near.own, .shift = exp(near.shift)};
    memcpy(out->part, part, sizeof part);
    double low = f->has_own ? 0.88 : exp(fit_low[range]), high = f->has_own ? 1.1 : exp(fit_high[range]);
    out->rate = LR_MIN(rate, most);
    out->low = LR_MIN(rate * low, most);
    out->high = LR_MIN(rate * high, most);
    out->seconds = f->tokens / out->rate;
    out->share = out->rate / most;
    out->bottleneck = f->t_spill > f->t_weight ? "the link to the host's memory"
                      : f->by_compute          ? "arithmetic"
                                               : "memory bandwidth";
}
