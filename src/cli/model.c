/* model.c - the options every verb that runs a model takes, and opening it with them. */
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void cli_model_init(cli_model *m)
{
    memset(m, 0, sizeof *m);
    m->engine = larder_engine_defaults();
    m->request = larder_request_defaults();
    m->sampling = larder_sampling_defaults();
    m->sampling.bias_ids = m->bias_ids;
    m->sampling.bias = m->bias;
}

bool cli_kv(const char *name, larder_kv *out)
{
    if (!strcmp(name, "f16")) *out = LARDER_KV_F16;
    else if (!strcmp(name, "f32")) *out = LARDER_KV_F32;
    else if (!strcmp(name, "q8_0")) *out = LARDER_KV_Q8_0;
    else if (!strcmp(name, "q4_0")) *out = LARDER_KV_Q4_0;
    else return false;
    return true;
}

static bool set_kv(void *to, const char *v)
{
    cli_model *m = to;
    return m->kv_given = cli_kv(v, &m->engine.kv);
}

static bool set_device(void *to, const char *text)
{
    static const char *const names[] = {"auto", "cpu", "cuda"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(text, names[i])) continue;
        *(larder_device *)to = (larder_device)i;
        return true;
    }
    return false;
}

static bool set_act(void *to, const char *v)
{
    static const char *const names[] = {"auto", "int8", "bf16", "f32"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(v, names[i])) continue;
        ((cli_model *)to)->engine.act = (larder_act)i;
        return ((cli_model *)to)->act_given = true;
    }
    return false;
}

static bool set_seed(void *to, const char *v)
{
    cli_model *m = to;
    char *end;
    if (!isdigit((unsigned char)*v)) return false;
    errno = 0;
    m->sampling.seed = strtoull(v, &end, 10);
    m->seed_given = true;
    return !*end && !errno && m->sampling.seed <= INT64_MAX; /* JSON says it, and its numbers are signed */
}

static bool add_stop(void *to, const char *v)
{
    cli_model *m = to;
    if (m->request.n_stop == 64 || !*v) return false;
    m->stops[m->request.n_stop++] = v;
    m->request.stop = m->stops;
    return true;
}

/* "ID=BIAS", "ID=-inf" bans. */
static bool add_bias(void *to, const char *v)
{
    cli_model *m = to;
    char *end;
    long id = strtol(v, &end, 10);
    if (m->sampling.n_bias == 256 || end == v || *end != '=' || id < 0 || id > INT32_MAX) return false;
    char *rest = end + 1;
    float b = strtof(rest, &end);
    if (end == rest || *end || isnan(b) || b == INFINITY) return false;
    m->bias_ids[m->sampling.n_bias] = (int32_t)id;
    m->bias[m->sampling.n_bias++] = b;
    return true;
}

static bool set_speculate(void *to, const char *v)
{
    static const char *const names[] = {"auto", "off", "ngram"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(v, names[i])) continue;
        ((larder_engine_options *)to)->speculate = (larder_speculate)i;
        return true;
    }
    return false;
}

void cli_draft_args(arg_table *t, cli_model *m)
{
    const arg list[] = {
        {"draft", 0, ARG_STR, &m->draft_path, "MODEL",
         "a smaller model of the same vocabulary that guesses ahead; answers stay the same", 0},
        {"speculate", 0, ARG_CALL, &m->engine, "auto|ngram|off",
         "guess tokens ahead while it pays: also by --draft, from the text only, never (default auto)",
         set_speculate},
    };
    arg_add(t, list, sizeof list / sizeof *list);
}

int cli_draft_open(const char *verb, cli_model *m)
{
    larder_error err = {0};
    if (!m->draft_path) return 0;
    if (m->engine.speculate != LARDER_SPECULATE_AUTO) {
        fprintf(stderr, "larder %s: --draft needs --speculate auto\n", verb);
        return EXIT_USAGE;
    }
    if (larder_model_open(m->draft_path, &m->draft, &err)) return cli_fail(verb, &err);
    m->engine.draft = m->draft;
    return 0;
}

void cli_engine_args(arg_table *t, cli_model *m, const char *ctx)
{
    larder_engine_options *o = &m->engine;
    const arg list[] = {
        {"ctx", 'c', ARG_U32, &o->n_ctx, "N",
         ctx ? ctx : "tokens of context (default: the largest that fits, up to the model's own)", 0},
        {"threads", 't', ARG_U32, &o->n_threads, "N", "threads (default: one per real core)", 0},
        {"batch", 'b', ARG_U32, &o->n_batch, "N", "tokens of a prompt per step (default 512)", 0},
        {"kv", 0, ARG_CALL, m, "f16|f32|q8_0|q4_0", "numbers of the KV cache (default f16; f32 for gpt-oss)", set_kv},
        {"device", 0, ARG_CALL, &o->device, "auto|cpu|cuda",
         "what computes: a graphics card if there is one and it fits, the processor, the card (default auto)",
         set_device},
        {"act", 0, ARG_CALL, m, "auto|int8|bf16|f32", "numbers activations are multiplied in", set_act},
        {"exact", 0, ARG_FLAG, &m->exact, NULL, "float32 activations and KV cache: slow, for checking", 0},
        {"memory", 0, ARG_BYTES, &o->memory, "SIZE", "memory the engine may use, as 8G (default: what is free)", 0},
        {"repack", 0, ARG_FLAG, &o->repack, NULL,
         "copy the weights as the kernels read them best: faster, for as much memory again and a slower start", 0},
    };
    arg_add(t, list, sizeof list / sizeof *list);
}

void cli_sampling_args(arg_table *t, cli_model *m)
{
    larder_sampling *s = &m->sampling;
    const arg list[] = {
        {"max-tokens", 'n', ARG_U32, &m->request.max_tokens, "N",
         "longest answer (default: until the context is full)", 0},
        {"temp", 0, ARG_F32, &s->temperature, "X", "temperature; 0 is greedy (default 0.8)", 0},
        {"top-k", 0, ARG_I32, &s->top_k, "N", "only the N likeliest; 0 off (default 40)", 0},
        {"top-p", 0, ARG_F32, &s->top_p, "X",
         "only the likeliest that hold X of the probability; 1 off (default 0.95)", 0},
        {"min-p", 0, ARG_F32, &s->min_p, "X", "only those at least X as likely as the best; 0 off (default 0.05)", 0},
        {"typical-p", 0, ARG_F32, &s->typical_p, "X", "locally typical sampling; 1 off", 0},
        {"repeat-penalty", 0, ARG_F32, &s->repeat_penalty, "X", "divide the logits of recent tokens; 1 off", 0},
        {"frequency-penalty", 0, ARG_F32, &s->frequency_penalty, "X", "subtract X per occurrence; 0 off", 0},
        {"presence-penalty", 0, ARG_F32, &s->presence_penalty, "X", "subtract X if it occurred; 0 off", 0},
        {"penalty-last-n", 0, ARG_I32, &s->penalty_last_n, "N",
         "tokens the penalties look back on; -1 all (default 64)", 0},
        {"dry-multiplier", 0, ARG_F32, &s->dry_multiplier, "X", "penalty for continuing a repetition; 0 off", 0},
        {"dry-base", 0, ARG_F32, &s->dry_base, "X", "how it grows with the repetition's length (default 1.75)", 0},
        {"dry-allowed-length", 0, ARG_I32, &s->dry_allowed_length, "N",
         "repetitions shorter than this are free (default 2)", 0},
        {"dry-last-n", 0, ARG_I32, &s->dry_last_n, "N", "tokens DRY looks back on; -1 all", 0},
        {"xtc-probability", 0, ARG_F32, &s->xtc_probability, "X", "how often the top choices are excluded; 0 off", 0},
        {"xtc-threshold", 0, ARG_F32, &s->xtc_threshold, "X", "what counts as a top choice (default 0.1)", 0},
        {"mirostat", 0, ARG_F32, &s->mirostat_tau, "TAU", "mirostat 2 with this target surprise; 0 off", 0},
        {"mirostat-eta", 0, ARG_F32, &s->mirostat_eta, "X", "its learning rate (default 0.1)", 0},
        {"logit-bias", 0, ARG_CALL, m, "ID=X", "add X to a token's logit, -inf bans it; may be repeated", add_bias},
        {"seed", 's', ARG_CALL, m, "N", "0 to 2^63 - 1: the same seed gives the same answer (default: by the clock)",
         set_seed},
        {"stop", 0, ARG_CALL, m, "TEXT", "end the answer before this text; may be repeated", add_stop},
        {"ignore-eos", 0, ARG_FLAG, &m->request.ignore_eos, NULL, "go on when the model would end its answer", 0},
    };
    arg_add(t, list, sizeof list / sizeof *list);
}

int cli_model_settle(const char *verb, cli_model *m)
{
    if (m->exact) {
        if ((m->kv_given && m->engine.kv != LARDER_KV_F32) || (m->act_given && m->engine.act != LARDER_ACT_F32)) {
            fprintf(stderr, "larder %s: --exact means --act f32 and --kv f32; another cannot be had with it\n", verb);
            return EXIT_USAGE;
        }
        m->engine.kv = LARDER_KV_F32;
        m->engine.act = LARDER_ACT_F32;
    }
    m->engine.reserve = m->engine.n_ctx || m->engine.n_cache; /* who asks for a size wants to have it */
    if (!m->seed_given) m->sampling.seed = (uint64_t)time(NULL) * 1000003u + (uint64_t)getpid();
    m->request.sampling = m->sampling;
    return 0;
}

int cli_model_open(const char *verb, cli_model *m, const char *path)
{
    larder_error err = {0};
    int status = cli_model_settle(verb, m);
    if (status) return status;
    if (larder_model_open(path, &m->model, &err)) return cli_fail(verb, &err);
    return cli_draft_open(verb, m);
}

int cli_engine_open(const char *verb, cli_model *m, bool say)
{
    larder_error err = {0};
    larder_plan plan;
    larder_model_info info;
    if (larder_plan_engine(m->model, &m->engine, &plan, &err)) return cli_fail(verb, &err);
    if (plan.fits && plan.kv == LARDER_KV_Q8_0 && !m->kv_given)
        cli_note("larder %s: the KV cache is in q8_0, for in f16 a context of %u does not fit", verb, plan.n_ctx);
    if (say) {
        char total[24];
        larder_model_get_info(m->model, &info);
        char card[48] = "", on_card[24];
        if (plan.n_card) snprintf(card, sizeof card, " (%s on the card)", cli_bytes(plan.n_card, on_card));
        cli_note("%s %s, %s: context %u%s, %s in all%s, %u thread%s", info.architecture, info.name, info.format,
                 plan.n_ctx, plan.n_ctx < info.n_ctx_train && !m->engine.n_ctx ? " (the largest that fits)" : "",
                 cli_bytes(plan.n_bytes, total), card, plan.n_threads, plan.n_threads == 1 ? "" : "s");
    }
    if (larder_engine_open(m->model, &m->engine, &m->e, &err)) return cli_fail(verb, &err);
    return 0;
}

void cli_model_close(cli_model *m)
{
    larder_engine_free(m->e);
    larder_model_free(m->draft);
    larder_model_free(m->model);
}
