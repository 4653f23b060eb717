/* plan_job.c - the planner's jobs: what is asked, the tables and files it is asked about, and this machine. */
#include "advise.h"
#include "claims.h"
#include "header.h"
#include "kernels.h"
#include "load.h"
#include "report.h"
#include "score.h"
#include "simulate.h"
#include "store.h"
#include "workload.h"

#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define MAX_TABLE (16u << 20)

#define NOT_PROBED \
    "  speeds are a guess: this machine's kernels were not timed yet (larder probe, once, one to two minutes)\n"

/* ---------------------------------------------------------------- this machine */
static larder_status this_machine(lr_machine *m, larder_error *err)
{
    larder_probe p;
    bool kept = lr_probe_kept(&p);
    if (!kept) lr_probe_guess(&p);
    *m = (lr_machine){.id = -1,
                      .guessed = !kept,
                      .kind = LR_KIND_CPU,
                      .gen = LR_GEN_CPU,
                      .unified = true,
                      .count = 1,
                      .usable = 0.95};
    (void)snprintf(m->name, sizeof m->name, "this machine: %.70s", p.cpu);
    (void)snprintf(m->gen_name, sizeof m->gen_name, "%.15s", p.isa);
    m->memory = (double)lr_mem_available();
    for (uint32_t i = 0; i < p.n_measured; i++) m->bw = LR_MAX(m->bw, p.read_gbs[i] * 1e9);
    m->bw_measured = m->bw;
    m->n_core = (int)p.n_core;
    m->fp32 = p.f32_gflops * 1e9 * p.n_core;
    m->bf16 = p.bf16_gflops * 1e9 * p.n_core;
    m->int8 = p.int8_gops * 1e9 * p.n_core;
    m->host_bw = m->bw;
    if (!(m->bw > 0) || !(m->fp32 > 0))
        return lr_fail(err, LARDER_INTERNAL, "this machine could not be measured; try larder probe --fresh");
    return LARDER_OK;
}

/* A card that the catalogue has not: what its generation is called there. */
static void known_by_generation(const char *generation, lr_machine *m)
{
    static const struct {
        const char *begins, *name;
        lr_gen gen;
    } all[] = {{"8.0", "ampere-dc", LR_GEN_AMPERE_DC},
               {"8.9", "ada", LR_GEN_ADA},
               {"8.", "ampere", LR_GEN_AMPERE},
               {"9.", "hopper", LR_GEN_HOPPER},
               {"10.", "blackwell-dc", LR_GEN_BLACKWELL_DC},
               {"12.1", "gb10", LR_GEN_GB10},
               {"", "blackwell", LR_GEN_BLACKWELL}};
    size_t i = 0;
    while (strncmp(generation, all[i].begins, strlen(all[i].begins)) != 0) i++;
    *m = (lr_machine){.kind = LR_KIND_NVIDIA, .gen = all[i].gen, .usable = 0.95, .count = 1};
    (void)snprintf(m->gen_name, sizeof m->gen_name, "%s", all[i].name);
}

/* This machine's card: what the catalogue says of its like, with what was measured here. `host`: this machine without it. */
static larder_status this_card(const lr_catalogue *c, const lr_machine *host, lr_machine *m, larder_error *err)
{
    larder_card_probe p;
    if (!lr_probe_card_kept(&p))
        return lr_fail(err, LARDER_NOT_FOUND, "this machine has no card that this larder uses");
    bool listed = lr_machine_find(c, p.card.name, LR_WANT_GPU, m) && m->kind == LR_KIND_NVIDIA;
    if (!listed) known_by_generation(p.card.generation, m);
    m->id = -1;
    m->guessed = !(p.read_gbs > 0);
    (void)snprintf(m->name, sizeof m->name, "this machine's card: %.60s", p.card.name);
    m->memory = (double)p.card.n_free;
    m->unified = p.card.shared;
    if (p.read_gbs > 0) m->bw_measured = p.read_gbs * 1e9;
    if (!(m->bw > 0)) m->bw = m->bw_measured;
    if (!listed) m->f16 = m->bf16 = p.bf16_gflops * 1e9;
    if (!(m->fp32 > 0)) m->fp32 = m->f16 / 8;
    if (p.in_gbs > 0) m->pcie = p.in_gbs * 1e9;
    m->host_bw = host->bw;
    if (!(m->bw > 0) || !(m->fp32 > 0))
        return lr_fail(err, LARDER_UNSUPPORTED,
                       "the card %s was never measured, and the catalogue has none of its name: "
                       "larder probe measures it",
                       p.card.name);
    return LARDER_OK;
}

/* One that is there and unknown is no reason to say nothing of the rest. */
static bool has_known_card(const lr_catalogue *c)
{
    lr_machine host = {0}, card;
    larder_error why = {0};
    larder_status st = this_card(c, &host, &card, &why);
    if (st && st != LARDER_NOT_FOUND) lr_log(LARDER_LOG_WARN, "%s", why.message);
    return !st;
}

static bool is_this(const char *words) { return !strcasecmp(words, "this") || !strcasecmp(words, "here"); }
static bool is_card(const char *words) { return !strcasecmp(words, "card") || !strcasecmp(words, "this-card"); }

static larder_status find_machine(const lr_catalogue *c, const char *words, const larder_plan_ask *ask, lr_machine *m,
                                  lr_setup *s, larder_error *err)
{
    if (is_this(words) || is_card(words)) {
        lr_machine host;
        LR_TRY(this_machine(&host, err));
        *m = host;
        if (is_card(words)) LR_TRY(this_card(c, &host, m, err));
        *s = lr_setup_usual(m);
        s->engine = LR_ENGINE_LARDER;
    } else {
        if (!lr_machine_find(c, words, LR_WANT_ANY, m)) return lr_machine_unknown(c, words, err);
        *s = lr_setup_usual(m);
    }
    if (ask->backend && *ask->backend && !lr_setup_find(ask->backend, "", m, s))
        return lr_fail(err, LARDER_USAGE, "unknown backend \"%.60s\"", ask->backend);
    lr_own own;
    if (m->id < 0 && m->kind == LR_KIND_CPU && s->engine == LR_ENGINE_LARDER) m->guessed |= !lr_own_kept(&own);
    if (ask->what_if) LR_TRY(lr_machine_change(m, ask->what_if, err));
    static const double kv_bytes[] = {[LARDER_KV_F16] = 2,
                                      [LARDER_KV_F32] = 4,
                                      [LARDER_KV_AUTO] = 2,
                                      [LARDER_KV_Q8_0] = 1.0625,
                                      [LARDER_KV_Q4_0] = 0.5625};
    s->kv_bytes = kv_bytes[ask->kv_given ? ask->kv : LARDER_KV_AUTO];
    return LARDER_OK;
}

/* ---------------------------------------------------------------- the model */
static uint32_t config_u32(const json_t *o, const char *key, uint32_t otherwise)
{
    const json_t *v = json_object_get(o, key);
    json_int_t n = json_integer_value(v);
    return json_is_integer(v) && n > 0 && n < (1 << 30) ? (uint32_t)n : otherwise;
}

/* A config.json by itself, without weights: the shape it describes. */
static larder_status config_preset(const char *path, lr_preset *out, larder_error *err)
{
    static const struct {
        const char *type, *arch;
    } archs[] = {{"llama", "llama"},        {"mistral", "llama"},      {"mixtral", "llama"},   {"qwen2", "qwen2"},
                 {"qwen3", "qwen3"},        {"qwen3_moe", "qwen3moe"}, {"gpt_oss", "gpt-oss"}, {"gemma2", "gemma2"},
                 {"gemma3_text", "gemma3"}, {"gemma3", "gemma3"},      {"phi3", "phi3"}};
    static const char *const needed[] = {"hidden_size", "num_hidden_layers", "num_attention_heads",
                                         "intermediate_size", "vocab_size"};
    json_error_t bad;
    char *text;
    size_t n;
    LR_TRY(lr_read_file(path, 4u << 20, &text, &n, err));
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &bad);
    lr_free(text);
    if (!root) return lr_fail(err, LARDER_FORMAT, "%s: line %d: %s", path, bad.line, bad.text);
    const json_t *o = json_is_object(json_object_get(root, "text_config")) ? json_object_get(root, "text_config")
                                                                           : root;
    const char *type = json_string_value(json_object_get(o, "model_type"));
    if (!type) type = json_string_value(json_object_get(root, "model_type"));
    larder_status st = LARDER_OK;
    *out = (lr_preset){.match = "", .source = "its config.json", .runs = true};
    lr_shape *s = &out->shape;
    for (size_t i = 0; type && i < LR_LEN(archs); i++)
        if (!strcmp(type, archs[i].type)) (void)snprintf(s->arch, sizeof s->arch, "%s", archs[i].arch);
    if (!s->arch[0])
        st = lr_fail(err, LARDER_UNSUPPORTED, "%s: model_type \"%.40s\" is not one larder plans", path,
                     type ? type : "(none)");
    for (size_t i = 0; !st && i < LR_LEN(needed); i++)
        if (!config_u32(o, needed[i], 0))
            st = lr_fail(err, LARDER_FORMAT, "%s: the key %s is missing", path, needed[i]);
    if (!st) {
        const char *slash = strrchr(path, '/');
        (void)snprintf(s->name, sizeof s->name, "%.*s", (int)LR_MIN(slash ? slash - path : 4, 60),
                       slash ? path : "model");
        s->n_embd = config_u32(o, "hidden_size", 0);
        s->n_layer = config_u32(o, "num_hidden_layers", 0);
        s->n_head = config_u32(o, "num_attention_heads", 0);
        s->n_head_kv = config_u32(o, "num_key_value_heads", s->n_head);
        s->head_dim = config_u32(o, "head_dim", s->n_embd / s->n_head);
        s->n_ff = config_u32(o, "intermediate_size", 0);
        s->n_vocab = config_u32(o, "vocab_size", 0);
        s->n_ctx = config_u32(o, "max_position_embeddings", 4096);
        s->n_expert = config_u32(o, "num_local_experts", config_u32(o, "num_experts", 0));
        s->n_expert_used = config_u32(o, "num_experts_per_tok", 0);
        s->n_ff_expert = config_u32(o, "moe_intermediate_size", s->n_ff);
        s->tied = json_is_true(json_object_get(root, "tie_word_embeddings")) || !strncmp(s->arch, "gemma", 5);
        if (!strncmp(s->arch, "gemma", 5) || !strcmp(s->arch, "gpt-oss"))
            s->window = config_u32(o, "sliding_window", 0);
    }
    json_decref(root);
    return st;
}

typedef struct asked_model {
    lr_file file;
    bool from_file, remote; /* remote: known by its header alone */
    lr_plan_model m;
} asked_model;

static larder_status preset_model(const lr_preset *p, const char *format, lr_plan_model *out, larder_error *err)
{
    lr_quant_name q;
    const char *usual = !strncmp(p->shape.name, "gpt-oss", 7) ? "MXFP4" : "Q4_K_M";
    if (!lr_quant_find(format && *format ? format : usual, &q))
        return lr_fail(err, LARDER_USAGE,
                       "unknown format \"%.40s\"; F16, BF16, FP8, Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_0, Q3_K_M, Q2_K, "
                       "MXFP4, NVFP4 are some",
                       format);
    return lr_plan_model_preset(p, &q, out, err);
}

static bool is_config(const char *path, char *out, size_t cap)
{
    size_t n = strlen(path);
    if (lr_is_file(path) && n >= 11 && !strcmp(path + n - 11, "config.json"))
        return snprintf(out, cap, "%s", path) < (int)cap;
    if (!lr_is_dir(path) || snprintf(out, cap, "%s/config.json", path) >= (int)cap || !lr_is_file(out)) return false;
    char weights[4200];
    (void)snprintf(weights, sizeof weights, "%s/model.safetensors", path);
    if (lr_is_file(weights)) return false;
    (void)snprintf(weights, sizeof weights, "%s/model.safetensors.index.json", path);
    return !lr_is_file(weights);
}

/* The colon before a format ("llama-3.1-8b:Q8_0"); NULL if what follows it is part of the name ("llama3.1:8b"). */
static const char *format_colon(const char *words)
{
    lr_quant_name q;
    const char *colon = strrchr(words, ':');
    bool size = colon && isdigit((unsigned char)colon[1]);
    return colon && !size && lr_quant_find(colon + 1, &q) ? colon : NULL;
}

/* An address, or owner/repo of the hub that no preset is named like; `name`: the words without a format. */
static bool is_remote(const lr_catalogue *c, const char *words, const char *name)
{
    if (strstr(words, "://")) return true;
    const char *slash = strchr(words, '/');
    return slash && slash > words && !strchr(slash + 1, '/') && *words != '.' &&
           (strcasestr(words, "gguf") || !lr_preset_named(c, name));
}

/* "70b", "30b-a3b": a model of that size, whichever it is. */
static bool size_preset(const char *name, lr_preset *out)
{
    return isdigit((unsigned char)*name) && !name[strspn(name, "0123456789.-aAbBmM")] &&
           lr_preset_guess(name, 0, out);
}

static larder_status open_model(const lr_catalogue *c, const larder_plan_ask *ask, asked_model *out,
                                larder_error *err)
{
    char real[4096], name[256], config[4200];
    lr_preset made;
    const char *colon = format_colon(ask->model), *format = ask->format;
    *out = (asked_model){.from_file = false};
    if (is_config(ask->model, config, sizeof config)) {
        LR_TRY(config_preset(config, &made, err));
        return preset_model(&made, format ? format : "BF16", &out->m, err);
    }
    bool exists = lr_is_file(ask->model) || lr_is_dir(ask->model);
    if (exists || (strchr(ask->model, '/') && !lr_store_resolve(ask->model, real, sizeof real, NULL))) {
        if (exists) (void)snprintf(real, sizeof real, "%s", ask->model);
        LR_TRY(lr_load(real, &out->file, err));
        out->from_file = true;
        larder_status st = lr_plan_model_file(&out->file, ask->n_ctx, &out->m, err);
        if (st) lr_file_close(&out->file);
        return st;
    }
    (void)snprintf(name, sizeof name, "%.*s", colon ? (int)LR_MIN(colon - ask->model, 200) : 200, ask->model);
    if (is_remote(c, ask->model, name)) {
        LR_TRY(lr_pull_header(ask->model, NULL, &out->file, err));
        out->from_file = out->remote = true;
        larder_status st = lr_plan_model_file(&out->file, ask->n_ctx, &out->m, err);
        if (st) lr_file_close(&out->file);
        return st;
    }
    const lr_preset *p = lr_preset_named(c, name);
    if (!p && size_preset(name, &made)) p = &made;
    if (!p) return lr_preset_unknown(c, name, err);
    return preset_model(p, format ? format : colon ? colon + 1 : NULL, &out->m, err);
}

static void close_model(asked_model *m)
{
    lr_plan_model_close(&m->m);
    if (m->from_file) lr_file_close(&m->file);
}

/* ---------------------------------------------------------------- plan */
static larder_status write_svg(const lr_outlook *o, const lr_ask *ask, const char *path, larder_error *err)
{
    lr_buf b = {0};
    lr_outlook_svg(o, ask, &b);
    larder_status st = b.failed ? LR_NOMEM(err, "the plot") : lr_write_file(path, b.p, b.n, err);
    lr_buf_free(&b);
    return st;
}

/* What `run` and `serve` would allocate here, buffer by buffer: the engine's account, not an estimate. */
static void own_text(const larder_plan *plan, uint32_t n_seq, lr_buf *out)
{
    lr_buf_printf(out, "  here, by buffer (context %u x %u):", plan->n_ctx, n_seq);
    for (uint32_t i = 0; i < plan->n_buffers; i++)
        lr_buf_printf(out, "%s %s%s %.1f MiB", i ? "," : "", plan->buffers[i].card ? "card: " : "",
                      plan->buffers[i].name, (double)plan->buffers[i].n_bytes / (double)LR_MIB);
    lr_buf_printf(out, "; %.2f GiB in all, %s; the process will peak at %.2f GiB of %.2f free",
                  (double)plan->n_bytes / (double)LR_GIB, plan->fits ? "fits" : "does not fit",
                  (double)plan->n_peak / (double)LR_GIB, (double)plan->available / (double)LR_GIB);
    if (plan->n_card)
        lr_buf_printf(out, ", and take %.2f GiB of %.2f free on the card", (double)plan->n_card / (double)LR_GIB,
                      (double)plan->card_available / (double)LR_GIB);
    lr_buf_putc(out, '\n');
}

/* More is put before the end of the object that stands last in `out`. */
static void reopen(lr_buf *out)
{
    if (out->n && out->p[out->n - 1] == '}') out->n--;
}

static void own_json(const larder_plan *plan, uint32_t n_seq, lr_buf *out)
{
    reopen(out);
    lr_buf_printf(out, ",\n \"here\": {\"context\": %u, \"users\": %u, \"buffers\": {", plan->n_ctx, n_seq);
    for (uint32_t i = 0; i < plan->n_buffers; i++)
        lr_buf_printf(out, "%s\"%s%s\": %llu", i ? ", " : "", plan->buffers[i].card ? "card: " : "",
                      plan->buffers[i].name, (unsigned long long)plan->buffers[i].n_bytes);
    lr_buf_printf(out,
                  "}, \"device\": \"%s\", \"bytes\": %llu, \"card\": %llu, \"peak\": %llu, \"available\": %llu, "
                  "\"card_available\": %llu, \"fits\": %s}}",
                  plan->device, (unsigned long long)plan->n_bytes, (unsigned long long)plan->n_card,
                  (unsigned long long)plan->n_peak, (unsigned long long)plan->available,
                  (unsigned long long)plan->card_available, plan->fits ? "true" : "false");
}

/* A card that nobody asked for cannot run it: that is an answer, and the processor's stands beside it. */
static larder_status not_here(bool json, const char *why, lr_buf *out)
{
    json_t *v = json ? json_string(why) : NULL;
    char *text = v ? json_dumps(v, JSON_ENCODE_ANY) : NULL;
    if (json) reopen(out);
    if (json) lr_buf_printf(out, ",\n \"here\": {\"error\": %s}}", text ? text : "\"it cannot\"");
    else lr_buf_printf(out, "  here: not on the card: %s\n", why);
    free(text);
    json_decref(v);
    return LARDER_OK;
}

static larder_status own_account(const larder_plan_ask *ask, const char *path, larder_device device, lr_buf *out,
                                 larder_error *err)
{
    larder_model *model;
    larder_plan plan;
    larder_engine_options o = larder_engine_defaults();
    LR_TRY(larder_model_open(path, &model, err));
    o.device = device;
    o.n_ctx = ask->n_ctx;
    o.n_seq = LR_MAX(ask->n_users, 1u);
    o.kv = ask->kv_given ? ask->kv : LARDER_KV_AUTO;
    o.n_embed = o.n_seq > 1 ? 128 : 0; /* as serve has it */
    larder_status st = larder_plan_engine(model, &o, &plan, err);
    if (!st && ask->json) own_json(&plan, o.n_seq, out);
    else if (!st) own_text(&plan, o.n_seq, out);
    larder_model_free(model);
    return st;
}

static void say_guess(bool guess, lr_buf *out)
{
    if (guess) lr_buf_puts(out, NOT_PROBED);
}

static larder_status simulate(const larder_plan_ask *ask, const lr_machine *m, const lr_plan_model *model,
                              const lr_setup *s, const char *words, lr_buf *out, larder_error *err)
{
    lr_sim r;
    lr_sim_ask a = {.rate = ask->rate,
                    .n_users = LR_MAX(ask->n_users, 1u),
                    .trace = ask->trace,
                    .prompt = ask->prompts ? ask->prompts : "lognormal:512,0.7",
                    .answer = ask->answers ? ask->answers : "exp:128",
                    .n_requests = ask->n_requests ? ask->n_requests : 400,
                    .n_parallel = ask->n_parallel ? ask->n_parallel : 8,
                    .n_batch = m->id < 0 ? 512 : 2048,
                    .seed = 1};
    double fits = lr_fit_context(m, model, a.n_parallel, s->kv_bytes);
    if (ask->n_ctx > fits)
        return lr_fail(err, LARDER_NOMEM, "%s: %u contexts of %u do not fit with %s; %.0f would", words, a.n_parallel,
                       ask->n_ctx, model->name, fits);
    a.n_ctx = ask->n_ctx ? ask->n_ctx : (uint32_t)fits;
    LR_TRY(lr_simulate(m, model, s, &a, &r, err));
    if (ask->json) lr_sim_json(&r, m, out);
    else lr_sim_text(&r, &a, m->name, out);
    if (!ask->json) say_guess(m->guessed, out);
    return LARDER_OK;
}

/* `nth` of those that are named; `asked`: by the user. */
static larder_status one_machine(const lr_catalogue *c, const larder_plan_ask *ask, const lr_ask *a,
                                 const char *words, uint32_t nth, bool asked, const lr_plan_model *model,
                                 const char *path, lr_buf *out, larder_error *err)
{
    lr_machine m;
    lr_setup s;
    lr_outlook o;
    larder_error why = {0};
    larder_status st;
    LR_TRY(find_machine(c, words, ask, &m, &s, err));
    lr_own own;
    bool ours = m.id < 0 && m.kind == LR_KIND_CPU && s.engine == LR_ENGINE_LARDER;
    if (ours && lr_own_kept(&own)) {
        m.own = &own;
        m.bw = m.bw_measured = LR_MAX(m.bw, own.bandwidth);
    }
    bool lenient = !asked && is_card(words);
    if (ask->simulate) {
        st = simulate(ask, &m, model, &s, words, out, &why);
        if (!st) return st;
        if (!lenient) return lr_fail(err, st, "%s", why.message);
        if (ask->json) lr_buf_puts(out, "{\"machine\": \"card\"}");
        return not_here(ask->json, why.message, out);
    }
    lr_outlook_make(&m, model, &s, a, &o);
    if (ask->json) lr_outlook_json(&o, out);
    else lr_outlook_text(&o, out);
    if (m.id < 0 && path) {
        larder_device device = is_card(words) ? LARDER_DEVICE_CUDA : LARDER_DEVICE_CPU;
        st = own_account(ask, path, device, out, &why);
        if (st) LR_TRY(lenient ? not_here(ask->json, why.message, out) : lr_fail(err, st, "%s", why.message));
    }
    if (!ask->json) say_guess(m.guessed, out);
    if (!ask->json && ask->why) lr_outlook_why(&o, out);
    if (!ask->json && ask->timeline) lr_outlook_timeline(&o, out);
    if (!ask->json && ask->chart) lr_outlook_chart(&o, a, out);
    if (ask->svg && !nth) LR_TRY(write_svg(&o, a, ask->svg, err));
    return LARDER_OK;
}

static larder_status each_machine(const lr_catalogue *c, const larder_plan_ask *ask, const lr_ask *a,
                                  const lr_plan_model *model, const char *path, lr_buf *out, larder_error *err)
{
    bool asked = ask->on && *ask->on;
    const char *p = asked ? ask->on : has_known_card(c) ? "this,card" : "this";
    if (ask->json) lr_buf_puts(out, "[");
    for (uint32_t nth = 0; *p; nth++) {
        char words[256];
        size_t n = strcspn(p, ",");
        (void)snprintf(words, sizeof words, "%.*s", (int)LR_MIN(n, sizeof words - 1), p);
        if (nth) lr_buf_puts(out, ask->json ? ",\n" : "\n");
        LR_TRY(one_machine(c, ask, a, words, nth, asked, model, path, out, err));
        p += n + (p[n] == ',');
    }
    if (ask->json) lr_buf_puts(out, "]\n");
    return LARDER_OK;
}

static larder_status steal(lr_buf *b, char **out, larder_error *err)
{
    *out = lr_buf_steal(b);
    return *out ? LARDER_OK : LR_NOMEM(err, "the text");
}

/* The machines asked about, or none: then all of the catalogue. */
static larder_status workload(const lr_catalogue *c, const larder_plan_ask *ask, const lr_ask *a, lr_buf *out,
                              larder_error *err)
{
    lr_machine *list = lr_calloc(64, sizeof *list);
    bool guess = false;
    size_t n = 0;
    larder_status st = LARDER_OK;
    if (!list) return LR_NOMEM(err, "machines");
    for (const char *p = ask->on ? ask->on : ""; *p && n < 64;) {
        char words[256];
        lr_setup s;
        size_t k = strcspn(p, ",");
        (void)snprintf(words, sizeof words, "%.*s", (int)LR_MIN(k, sizeof words - 1), p);
        LR_GO(find_machine(c, words, ask, &list[n], &s, err));
        guess |= list[n].guessed;
        n++;
        p += k + (p[k] == ',');
    }
    LR_GO(lr_workload_rank(c, list, n, ask->workload, ask->max_price, a, ask->json, out, err));
    if (!ask->json) say_guess(guess, out);
fail:
    lr_free(list);
    return st;
}

static larder_status advise(const lr_catalogue *c, const larder_plan_ask *ask, const lr_ask *a,
                            const lr_plan_model *model, lr_buf *out, larder_error *err)
{
    lr_machine here;
    lr_setup s;
    lr_own own;
    if (!ask->leave) {
        LR_TRY(find_machine(c, "this", ask, &here, &s, err));
        if (lr_own_kept(&own)) here.own = &own;
        if (here.own) here.bw = here.bw_measured = LR_MAX(here.bw, own.bandwidth);
    }
    LR_TRY(lr_advise(ask->stay ? NULL : c, model, a, ask->leave ? NULL : &here, ask->json, out, err));
    if (!ask->json) say_guess(!ask->leave && here.guessed, out);
    return LARDER_OK;
}

static bool sane(double v, double max) { return isfinite(v) && v >= 0 && v <= max; }

larder_status larder_plan_text(const larder_plan_ask *ask, char **out, larder_error *err)
{
    lr_catalogue c;
    asked_model model = {0};
    lr_buf b = {0};
    lr_rank_by by = LR_BY_SPEED;
    lr_ask a = {.n_ctx = ask->n_ctx,
                .n_users = ask->n_users,
                .n_prompt = ask->n_prompt,
                .watts = ask->watts,
                .kwh = ask->kwh > 0 ? ask->kwh : 0.30,
                .elsewhere = ask->elsewhere,
                .max_price = ask->max_price,
                .max_watts = ask->max_watts};
    larder_status st = LARDER_OK;
    *out = NULL;
    if (!sane(ask->watts, 1e6) || !sane(ask->kwh, 1e3) || !sane(ask->elsewhere, 1e6) || !sane(ask->max_price, 1e9) ||
        !sane(ask->max_watts, 1e6))
        return lr_fail(err, LARDER_USAGE, "watts and prices must be numbers, not negative");
    if (ask->n_users > 4096) return lr_fail(err, LARDER_USAGE, "%u users; the limit is 4096", ask->n_users);
    if (ask->rank_by && !lr_rank_by_name(ask->rank_by, &by))
        return lr_fail(err, LARDER_USAGE,
                       "cannot rank by \"%.40s\": speed, capacity, price, watts, tok-per-dollar, gb-per-dollar",
                       ask->rank_by);
    if (ask->software) {
        st = lr_software_table(ask->json, &b, err);
        if (!st) st = steal(&b, out, err);
        lr_buf_free(&b);
        return st;
    }
    LR_TRY(lr_catalogue_open(&c, err));
    if (!ask->workload) LR_GO(open_model(&c, ask, &model, err));
    if (ask->workload) LR_GO(workload(&c, ask, &a, &b, err));
    else if (ask->advise) LR_GO(advise(&c, ask, &a, &model.m, &b, err));
    else if (ask->rank_by) LR_GO(lr_rank(&c, &model.m, &a, by, ask->json, &b, err));
    else
        LR_GO(
            each_machine(&c, ask, &a, &model.m, model.from_file && !model.remote ? model.file.path : NULL, &b, err));
    LR_GO(steal(&b, out, err));
fail:
    lr_buf_free(&b);
    close_model(&model);
    lr_catalogue_close(&c);
    return st;
}

/* ---------------------------------------------------------------- score, fit */
static void row_lines(const lr_score *r, lr_buf *b)
{
    for (size_t i = 0; i < r->n; i++) {
        const lr_case *row = &r->rows[i];
        lr_buf_printf(b, "%s | %s | %s | %s | %s | ", row->machine, row->model, row->quant, row->backend, row->test);
        if (row->kind == LR_ROW_OTHER) lr_buf_printf(b, "left out (serving or training)\n");
        else if (row->kind == LR_ROW_UNPLACED) lr_buf_printf(b, "not placed: %s\n", row->why);
        else
            lr_buf_printf(b, "measured %.4g, predicted %.4g (%.4g to %.4g), error %.1f%%\n", row->measured,
                          row->p.rate, row->p.low, row->p.high, 100 * row->error);
    }
}

static void sum_line(lr_buf *b, const char *name, const lr_summary *s)
{
    lr_buf_printf(b, "%s: %zu rows, error median %.1f%%, 90th percentile %.1f%%, within the 80%% range %.1f%%\n",
                  name, s->n, 100 * s->median, 100 * s->p90, 100 * s->inside);
}

static void sum_json(lr_buf *b, const char *name, const lr_summary *s)
{
    lr_buf_printf(b, "\"%s\": {\"n\": %zu, \"median\": %.5f, \"p90\": %.5f, \"inside\": %.5f}, ", name, s->n,
                  s->median, s->p90, s->inside);
}

larder_status larder_plan_score(const char *path, larder_score_how how, char **out, larder_error *err)
{
    lr_catalogue c = {0};
    lr_score r = {0};
    lr_fit fit = {0};
    lr_buf b = {0};
    char *text = NULL;
    size_t n;
    larder_status st;
    bool cross = how & LARDER_SCORE_CROSS, json = how & LARDER_SCORE_JSON;
    *out = NULL;
    LR_GO(lr_read_file(path, MAX_TABLE, &text, &n, err));
    LR_GO(lr_catalogue_open(&c, err));
    LR_GO(lr_score_open(&c, text, n, &r, err));
    if (cross || (how & LARDER_SCORE_FIT)) LR_GO(lr_fit_cross(&r, &fit, err));
    else lr_score_predict(&r);
    if (how & LARDER_SCORE_FIT) {
        lr_fit_print(&fit, &b);
    } else if (json) {
        lr_buf_puts(&b, "{");
        sum_json(&b, "decode", &r.decode);
        sum_json(&b, "prefill", &r.prefill);
        if (cross) {
            sum_json(&b, "held_decode", &r.held_decode);
            sum_json(&b, "held_prefill", &r.held_prefill);
        }
        lr_buf_printf(&b, "\"left_out\": %zu, \"unplaced\": %zu, \"rows\": %zu}\n", r.n_other, r.n_unplaced, r.n);
    } else {
        row_lines(&r, &b);
        lr_buf_putc(&b, '\n');
        sum_line(&b, cross ? "decode, whole machines left out" : "decode", &r.decode);
        sum_line(&b, cross ? "prefill, whole machines left out" : "prefill", &r.prefill);
        if (cross) {
            sum_line(&b, "decode, known machine, new model or format", &r.held_decode);
            sum_line(&b, "prefill, known machine, new model or format", &r.held_prefill);
        }
        lr_buf_printf(&b, "%zu rows: %zu of serving or training left out, %zu not placed\n", r.n, r.n_other,
                      r.n_unplaced);
    }
    LR_GO(steal(&b, out, err));
fail:
    lr_buf_free(&b);
    lr_fit_free(&fit);
    lr_score_close(&r);
    lr_catalogue_close(&c);
    lr_free(text);
    return st;
}

/* ---------------------------------------------------------------- claims */
larder_status larder_check_claims(const char *path, bool json, char **out, larder_error *err)
{
    lr_catalogue cat = {0};
    lr_claims c = {0};
    lr_buf b = {0};
    char *text = NULL;
    size_t n;
    larder_status st;
    *out = NULL;
    LR_GO(lr_read_file(path, MAX_TABLE, &text, &n, err));
    LR_GO(lr_catalogue_open(&cat, err));
    LR_GO(lr_claims_open(text, n, &c, err));
    LR_GO(lr_claims_judge(&cat, &c, err));
    if (json) lr_claims_json(&c, &b);
    else lr_claims_text(&c, &b);
    LR_GO(steal(&b, out, err));
fail:
    lr_buf_free(&b);
    lr_claims_close(&c);
    lr_catalogue_close(&cat);
    lr_free(text);
    return st;
}
