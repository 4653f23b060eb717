/* workload.c - see workload.h. Sessions are stated here; the shares of peak for work that is no inference are rules of
 * thumb, given with each result. */
#include "workload.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef enum job_kind { JOB_LLM, JOB_TRAIN, JOB_IMAGE, JOB_VOICE, JOB_STREAM, JOB_COMPUTE } job_kind;
typedef struct job {
    const char *name, *what;
    job_kind kind;
    const char *model, *format;
    double users, prompt, answer, turns; /* LLM: per session: turns of prompt and answer tokens, for each user */
    double params, tokens, bytes_per;    /* training: parameters, tokens, bytes kept per parameter */
    double work;                         /* other: operations or bytes of a session */
} job;

static const job jobs[] = {
    {"chat", "20 answers of 400 tokens, 8B in 16 bits", JOB_LLM, "llama-3.1-8b", "F16", 1, 600, 400, 20, 0, 0, 0, 0},
    {"chat-70b", "20 answers of 400 tokens, 70B in 4 bits", JOB_LLM, "llama-3.1-70b", "Q4_K_M", 1, 600, 400, 20, 0, 0,
     0, 0},
    {"serve", "20 users at once, each 10 answers of 300 tokens, 8B in 8 bits", JOB_LLM, "llama-3.1-8b", "Q8_0", 20,
     500, 300, 10, 0, 0, 0, 0},
    {"agent", "60 steps, each 2,000 new tokens (the rest is cached) and 300 of answer, gpt-oss-120b", JOB_LLM,
     "gpt-oss-120b", "MXFP4", 1, 2000, 300, 60, 0, 0, 0, 0},
    {"rag", "50 questions with 6,000 tokens of found text and 200 of answer, 8B in 4 bits", JOB_LLM, "llama-3.1-8b",
     "Q4_K_M", 1, 6000, 200, 50, 0, 0, 0, 0},
    {"batch", "1,000 documents of 2,000 tokens, 150 of answer each, 32 at a time, 32B in 4 bits", JOB_LLM,
     "qwen2.5-32b", "Q4_K_M", 32, 2000, 150, 31.25, 0, 0, 0, 0},
    {"lora", "LoRA of 8B on 2 million tokens", JOB_TRAIN, NULL, NULL, 0, 0, 0, 0, 8.03e9, 2e6, 2.6, 0},
    {"pretrain", "10M parameters from scratch on 200 million tokens", JOB_TRAIN, NULL, NULL, 0, 0, 0, 0, 10e6, 200e6,
     18, 0},
    {"image", "50 images of 1024 x 1024 with a diffusion model of 2.6B (30 steps, 12 TFLOP each)", JOB_IMAGE, NULL,
     NULL, 0, 0, 0, 0, 2.6e9, 0, 2, 50 * 30 * 12e12},
    {"voice", "100 exchanges: 10 s of speech in, 60 tokens of an 8B model in 4 bits, speech out", JOB_VOICE,
     "llama-3.1-8b", "Q4_K_M", 1, 200, 60, 100, 0, 0, 0, 100 * 4e12},
    {"simulation-bandwidth", "a stencil that streams 100 TB", JOB_STREAM, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 100e12},
    {"simulation-compute", "10 PFLOP of float32", JOB_COMPUTE, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 10e15},
};

typedef struct outcome {
    lr_machine m;
    double seconds, low, high, watts, hours, money;
    char why[120];
} outcome;

static double half_rate(const lr_machine *m) { return LR_MAX(m->fp32, LR_MAX(m->f16, m->bf16)) * m->count; }

/* The share of the matrix rate that training and images reach. */
static double share_of(const lr_machine *m)
{
    switch (m->kind) {
    case LR_KIND_NVIDIA: return m->gen == LR_GEN_GB10 ? 0.3 : m->f16 > 8 * m->fp32 ? 0.4 : 0.25;
    case LR_KIND_APPLE: return 0.5;
    case LR_KIND_CPU: return 0.5;
    default: return 0.2;
    }
}

static bool llm_seconds(const job *j, const lr_plan_model *model, outcome *o)
{
    lr_setup s = lr_setup_usual(&o->m);
    lr_features f;
    lr_prediction pre, dec;
    if (!lr_machine_holds(&o->m,
                          model->file_bytes + lr_cost_cache(model, j->prompt + j->answer, j->users, 2) + 0.5e9))
        return false;
    lr_features_make(&o->m, model, &s, LR_TASK_PREFILL, j->prompt, 1, 0, &f);
    lr_predict(&f, &pre);
    lr_features_make(&o->m, model, &s, LR_TASK_DECODE, j->users, j->users, j->prompt + j->answer / 2, &f);
    lr_predict(&f, &dec);
    double read = j->turns * j->users * j->prompt, write = j->turns * j->users * j->answer;
    o->seconds = read / pre.rate + write / dec.rate;
    o->low = read / pre.high + write / dec.high;
    o->high = read / pre.low + write / dec.low;
    (void)snprintf(o->why, sizeof o->why, "reading %.0f%% of the time at %.0f tok/s, writing at %.1f tok/s",
                   100 * read / pre.rate / o->seconds, pre.rate, dec.rate);
    return true;
}

static bool other_seconds(const job *j, outcome *o)
{
    const lr_machine *m = &o->m;
    double rate = half_rate(m), share = share_of(m);
    switch (j->kind) {
    case JOB_TRAIN:
        if (!lr_machine_holds(m, j->params * j->bytes_per + 2e9)) return false;
        if (j->params < 1e8) share *= 0.3; /* small matrices */
        o->seconds = 6 * j->params * j->tokens * (j->params > 1e9 ? 0.75 : 1) / (rate * share);
        (void)snprintf(o->why, sizeof o->why, "6 x parameters x tokens at %.0f%% of %.1f TFLOPS", 100 * share,
                       rate * 1e-12);
        break;
    case JOB_IMAGE:
        if (!lr_machine_holds(m, j->params * j->bytes_per + 4e9)) return false;
        o->seconds = j->work / (rate * share * 1.3);
        (void)snprintf(o->why, sizeof o->why, "%.0f TFLOP at %.0f%% of %.1f TFLOPS", j->work * 1e-12, 130 * share,
                       rate * 1e-12);
        break;
    case JOB_STREAM:
        o->seconds = j->work / ((m->bw_measured > 0 ? m->bw_measured : 0.88 * m->bw) * m->count);
        (void)snprintf(o->why, sizeof o->why, "%.0f TB at %.0f GB/s", j->work * 1e-12,
                       (m->bw_measured > 0 ? m->bw_measured : 0.88 * m->bw) * m->count * 1e-9);
        break;
    default:
        o->seconds = j->work / (0.7 * m->fp32 * m->count);
        (void)snprintf(o->why, sizeof o->why, "%.0f PFLOP at 70%% of %.1f TFLOPS of float32", j->work * 1e-15,
                       m->fp32 * m->count * 1e-12);
    }
    o->low = o->seconds / 1.6;
    o->high = o->seconds * 1.6;
    return true;
}

static bool run_job(const job *j, const lr_plan_model *model, const lr_ask *ask, outcome *o)
{
    bool ok = j->kind == JOB_LLM || j->kind == JOB_VOICE ? llm_seconds(j, model, o) : other_seconds(j, o);
    if (!ok || !(o->seconds > 0)) return false;
    if (j->kind == JOB_VOICE) {
        double speech = j->work / (half_rate(&o->m) * share_of(&o->m));
        o->seconds += speech;
        o->low += speech / 1.6;
        o->high += speech * 1.6;
    }
    double top = o->m.load_w * o->m.count, idle = o->m.idle_w > 0 ? o->m.idle_w : 0.1 * top;
    o->watts = idle + 0.8 * (top - idle);
    o->hours = o->seconds * 730 / 3600; /* twice a day, a year */
    o->money = o->hours * o->watts / 1000 * ask->kwh + lr_machine_price(&o->m) / 3;
    return true;
}

static int by_seconds(const void *a, const void *b)
{
    double x = ((const outcome *)a)->seconds, y = ((const outcome *)b)->seconds;
    return (x > y) - (x < y);
}

static void text_line(const outcome *o, const char *why, lr_buf *b)
{
    lr_buf_printf(b, "  %-36.36s %9.1f s (%.0f to %.0f)  ", o->m.name, o->seconds, o->low, o->high);
    if (o->seconds > 43200) lr_buf_printf(b, "too long to be done twice a day");
    else lr_buf_printf(b, "a year, twice a day: %7.1f h, %6.0f USD with a third of its price", o->hours, o->money);
    lr_buf_printf(b, "  %s\n", why);
}

static void text_lines(const job *j, const outcome *all, size_t n, size_t most, lr_buf *b)
{
    lr_buf_printf(b, "%s: %s\n", j->name, j->what);
    if (!n) lr_buf_printf(b, "  no machine that was asked about can do it\n");
    if (n > 1)
        lr_buf_printf(b, "  %s wins, %.2f times as fast as %s%s: %s\n", all[0].m.name,
                      all[1].seconds / all[0].seconds, all[1].m.name,
                      all[0].high > all[1].low ? " (within each other's range)" : "", all[0].why);
    for (size_t i = 0; i < n && i < most; i++) text_line(&all[i], n > 1 && i == 0 ? "" : all[i].why, b);
}

static void json_lines(const job *j, const outcome *all, size_t n, lr_buf *b)
{
    lr_buf_printf(b, "{\"workload\": \"%s\", \"what\": ", j->name);
    lr_json_text(b, j->what);
    lr_buf_printf(b, ", \"machines\": [");
    for (size_t i = 0; i < n; i++) {
        lr_buf_printf(b, "%s{\"machine\": ", i ? ", " : "");
        lr_json_text(b, all[i].m.name);
        if (all[i].m.guessed) lr_buf_puts(b, ", \"guessed\": true");
        lr_buf_printf(b,
                      ", \"seconds\": %.5g, \"low\": %.5g, \"high\": %.5g, \"hours_a_year\": %.5g, \"usd_a_year\": "
                      "%.5g, \"why\": ",
                      all[i].seconds, all[i].low, all[i].high, all[i].hours, all[i].money);
        lr_json_text(b, all[i].why);
        lr_buf_puts(b, "}");
    }
    lr_buf_puts(b, "]}");
}

static larder_status one_job(const lr_catalogue *c, const job *j, const lr_machine *machines, size_t n,
                             double max_price, const lr_ask *ask, bool json, size_t most, int *wins, lr_buf *out,
                             larder_error *err)
{
    lr_plan_model model = {0};
    lr_quant_name q;
    size_t n_all = n ? n : c->n_machines, n_ok = 0;
    outcome *all = lr_calloc(n_all + 1, sizeof *all);
    if (!all) return LR_NOMEM(err, "the workloads");
    larder_status st = LARDER_OK;
    if (j->model) {
        if (!lr_quant_find(j->format, &q)) LR_GO(lr_fail(err, LARDER_INTERNAL, "no format %s", j->format));
        const lr_preset *p = lr_preset_find(c, j->model);
        if (!p) LR_GO(lr_preset_unknown(c, j->model, err));
        LR_GO(lr_plan_model_preset(p, &q, &model, err));
    }
    for (size_t i = 0; i < n_all; i++) {
        const lr_machine *m = n ? &machines[i] : &c->machines[i];
        if (!n && (strcmp(m->status, "sold") || !(m->price > 0))) continue;
        if (max_price > 0 && lr_machine_price(m) > max_price) continue;
        if (ask->max_watts > 0 && m->load_w * m->count > ask->max_watts) continue;
        all[n_ok].m = *m;
        if (run_job(j, &model, ask, &all[n_ok])) n_ok++;
    }
    qsort(all, n_ok, sizeof *all, by_seconds);
    if (n_ok && wins && all[0].m.id >= 0) wins[all[0].m.id]++;
    if (json) json_lines(j, all, n_ok, out);
    else text_lines(j, all, n_ok, most, out);
fail:
    lr_plan_model_close(&model);
    lr_free(all);
    return st;
}

static void recommend(const lr_catalogue *c, const int *wins, lr_buf *out)
{
    size_t best = 0;
    for (size_t i = 0; i < c->n_machines; i++)
        if (wins[i] > wins[best]) best = i;
    if (wins[best])
        lr_buf_printf(out, "\nrecommended: %s, the fastest in %d of %zu jobs, for %.0f USD\n", c->machines[best].name,
                      wins[best], LR_LEN(jobs), lr_machine_price(&c->machines[best]));
}

static larder_status unknown_job(const char *name, larder_error *err)
{
    return lr_fail(err, LARDER_USAGE,
                   "unknown workload \"%.40s\"; there are chat, chat-70b, serve:USERS, agent, rag, batch, lora, "
                   "pretrain, image, "
                   "voice, simulation-bandwidth, simulation-compute",
                   name);
}

larder_status lr_workload_rank(const lr_catalogue *c, const lr_machine *machines, size_t n, const char *name,
                               double max_price, const lr_ask *ask, bool json, lr_buf *out, larder_error *err)
{
    bool any = false, all = !name || !*name || !strcmp(name, "all");
    size_t word = name ? strcspn(name, ":") : 0;
    int *wins = lr_calloc(c->n_machines + 1, sizeof *wins);
    if (!wins) return LR_NOMEM(err, "the workloads");
    larder_status st = LARDER_OK;
    if (json) lr_buf_puts(out, "[");
    for (size_t i = 0; i < LR_LEN(jobs); i++) {
        job j = jobs[i];
        if (!all && (strlen(j.name) != word || strncmp(j.name, name, word))) continue;
        if (!all && name[word] == ':') { /* serve:20 */
            double users = strtod(name + word + 1, NULL);
            if (!(users >= 1 && users <= 4096))
                LR_GO(lr_fail(err, LARDER_USAGE, "\"%.40s\": how many users? 1 to 4096", name));
            j.users = users;
        }
        if (any) lr_buf_puts(out, json ? ",\n" : "\n");
        LR_GO(one_job(c, &j, machines, n, max_price, ask, json, all ? 2 : 12, wins, out, err));
        any = true;
    }
    if (json) lr_buf_puts(out, "]\n");
    if (!any) LR_GO(unknown_job(name, err));
    if (all && !json) recommend(c, wins, out);
fail:
    lr_free(wins);
    return st;
}
