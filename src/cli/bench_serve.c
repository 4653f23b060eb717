/* bench_serve.c - `larder bench serve`: load on a server, ours or another's, and how it bore it. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

typedef enum form { MARKDOWN, CSV, JSON } form;
typedef struct load_job {
    larder_load_options o;
    float rate, duration, ttft_ms, tpot_ms, temperature;
    bool completions, keep_eos, json;
    const char *key_file, *requests_file;
    char *key;
    form f;
} load_job;

static bool set_form(void *to, const char *v)
{
    static const char *const names[] = {"md", "csv", "json"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(v, names[i])) continue;
        *(form *)to = (form)i;
        return true;
    }
    return false;
}

static const char *status_name(int status, char out[24])
{
    if (status == LARDER_LOAD_NO_ANSWER) return "no answer";
    if (status == LARDER_LOAD_LATE) return "too late";
    if (status == LARDER_LOAD_CUT) return "cut";
    snprintf(out, 24, "%d", status);
    return out;
}

typedef struct figure {
    const char *name;
    const larder_spread *s;
} figure;
#define FIGURES(r) \
    { \
        {"ttft", &(r)->ttft}, {"tpot", &(r)->tpot}, {"gap", &(r)->gap}, {"e2e", &(r)->e2e}, { "lag", &(r)->lag } \
    }

static double per_s(double n, const larder_load_report *r) { return r->seconds > 0 ? n / r->seconds : 0; }

static void print_markdown(const larder_load_report *r)
{
    const figure figures[] = FIGURES(r);
    char name[24];
    printf("%u requests in %.2f s: %.2f answers/s, of them good %.2f (%.1f%%)\n", r->n_requests, r->seconds,
           per_s(r->n_ok, r), per_s(r->n_good, r), r->n_requests ? 100.0 * r->n_good / r->n_requests : 0);
    printf("tokens/s: %.1f in all, prompts %.1f (%.0f%% cached), answers %.1f\n",
           per_s((double)(r->n_prompt + r->n_answer), r), per_s((double)r->n_prompt, r),
           r->n_prompt ? 100.0 * (double)r->n_cached / (double)r->n_prompt : 0, per_s((double)r->n_answer, r));
    printf("statuses:");
    for (uint32_t i = 0; i < r->n_statuses; i++)
        printf("%s %s x %u", i ? "," : "", status_name(r->statuses[i].status, name), r->statuses[i].n);
    puts("\n\n| ms | mean | p50 | p90 | p95 | p99 | most |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        const larder_spread *s = figures[i].s;
        printf("| %s | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f |\n", figures[i].name, s->mean * 1e3, s->p50 * 1e3,
               s->p90 * 1e3, s->p95 * 1e3, s->p99 * 1e3, s->max * 1e3);
    }
    printf("\nThe load itself took %.0f%% of one core.\n", 100 * per_s(r->cpu_s, r));
}

static void print_csv(const larder_load_report *r)
{
    const figure figures[] = FIGURES(r);
    printf("requests,ok,good,seconds,answers_s,good_s,tok_s,prompt_tok_s,answer_tok_s,cached");
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
        for (const char *const *q = (const char *const[]){"mean", "p50", "p90", "p95", "p99", "max", NULL}; *q; q++)
            printf(",%s_%s", figures[i].name, *q);
    printf(",cpu_s\n%u,%u,%u,%.3f,%.3f,%.3f,%.2f,%.2f,%.2f,%llu", r->n_requests, r->n_ok, r->n_good, r->seconds,
           per_s(r->n_ok, r), per_s(r->n_good, r), per_s((double)(r->n_prompt + r->n_answer), r),
           per_s((double)r->n_prompt, r), per_s((double)r->n_answer, r), (unsigned long long)r->n_cached);
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        const larder_spread *s = figures[i].s;
        printf(",%.6f,%.6f,%.6f,%.6f,%.6f,%.6f", s->mean, s->p50, s->p90, s->p95, s->p99, s->max);
    }
    printf(",%.3f\n", r->cpu_s);
}

/* The model's name comes from a server: what JSON would need escaped is left out. */
static void print_json(larder_load_report *r)
{
    const figure figures[] = FIGURES(r);
    char name[24];
    cli_one_line(r->model);
    for (char *p = r->model; *p; p++)
        if (*p == '"' || *p == '\\') *p = '\'';
    printf(
        "{\"model\": \"%s\", \"requests\": %u, \"ok\": %u, \"good\": %u, \"seconds\": %.3f,\n"
        " \"answers_s\": %.3f, \"good_s\": %.3f, \"tok_s\": %.2f, \"prompt_tok_s\": %.2f, \"answer_tok_s\": %.2f,\n"
        " \"prompt_tokens\": %llu, \"cached_tokens\": %llu, \"answer_tokens\": %llu, \"cpu_s\": %.3f,\n"
        " \"statuses\": {",
        r->model, r->n_requests, r->n_ok, r->n_good, r->seconds, per_s(r->n_ok, r), per_s(r->n_good, r),
        per_s((double)(r->n_prompt + r->n_answer), r), per_s((double)r->n_prompt, r), per_s((double)r->n_answer, r),
        (unsigned long long)r->n_prompt, (unsigned long long)r->n_cached, (unsigned long long)r->n_answer, r->cpu_s);
    for (uint32_t i = 0; i < r->n_statuses; i++)
        printf("%s\"%s\": %u", i ? ", " : "", status_name(r->statuses[i].status, name), r->statuses[i].n);
    printf("}");
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        const larder_spread *s = figures[i].s;
        printf(",\n \"%s_s\": {\"mean\": %.6f, \"p50\": %.6f, \"p90\": %.6f, \"p95\": %.6f, \"p99\": %.6f, \"max\": "
               "%.6f}",
               figures[i].name, s->mean, s->p50, s->p90, s->p95, s->p99, s->max);
    }
    puts("}");
}

static int write_requests(const char *path, const larder_load_report *r)
{
    FILE *f = fopen(path, "we");
    if (!f) {
        fprintf(stderr, "larder bench serve: cannot write %s\n", path);
        return EXIT_FAILED;
    }
    fputs("at_s,sent_s,status,prompt,cached,answer,ttft_s,tpot_s,e2e_s\n", f);
    for (uint32_t i = 0; i < r->n_requests; i++) {
        const larder_load_request *q = &r->requests[i];
        fprintf(f, "%.6f,%.6f,%d,%u,%u,%u,%.6f,%.6f,%.6f\n", q->at_s, q->sent_s, q->status, q->n_prompt, q->n_cached,
                q->n_answer, q->ttft_s, q->tpot_s, q->e2e_s);
    }
    if (!fclose(f)) return EXIT_OK;
    fprintf(stderr, "larder bench serve: cannot write %s\n", path);
    return EXIT_FAILED;
}

static int read_key(load_job *j)
{
    size_t n;
    if (!j->key_file) return EXIT_OK;
    j->key = cli_read_all("bench serve", j->key_file, 65536, &n);
    if (!j->key) return EXIT_FAILED;
    j->key[strcspn(j->key, "\r\n")] = 0;
    j->o.key = j->key;
    return EXIT_OK;
}

static int load_and_print(load_job *j)
{
    larder_error err = {0};
    larder_load_report r;
    int status = read_key(j);
    if (status) return status;
    cli_catch_interrupt(true);
    j->o.progress = cli_progress;
    j->o.user = "requests";
    larder_status st = larder_bench_serve(&j->o, &r, &err);
    cli_progress_end();
    if (st) return cli_fail("bench serve", &err);
    if (j->f == MARKDOWN) print_markdown(&r);
    if (j->f == CSV) print_csv(&r);
    if (j->f == JSON) print_json(&r);
    if (r.n_ok < r.n_requests && r.complaint[0])
        fprintf(stderr, "the first that failed said: %s\n", cli_one_line(r.complaint));
    if (j->requests_file) status = write_requests(j->requests_file, &r);
    larder_free(r.requests);
    if (!r.n_ok && r.n_requests) status = EXIT_FAILED;
    return status;
}

int bench_serve(int argc, char **argv)
{
    load_job j = {.o = larder_load_defaults()};
    arg_table t = {
        .verb = "bench serve",
        .usage = "URL [options]",
        .min_words = 1,
        .max_words = 1,
        .about =
            "Puts load on a server that speaks the OpenAI API, larder's or another's, and says how it bore it:\n"
            "throughput, goodput, and percentiles of time to the first token (ttft), per token after it (tpot),\n"
            "between pieces (gap), to the end (e2e), and of this program's own lateness (lag).\n"
            "--rate and --trace send by the clock, however slow the server is; --users waits for answers.\n"
            "A length L is N, A-B, exp:MEAN, normal:MEAN,SD or lognormal:MEDIAN,SIGMA, in tokens.",
        .examples =
            "  larder bench serve http://127.0.0.1:8080 --rate 4 --duration 60 --prompt exp:256 --answer 64-128\n"
            "  larder bench serve http://127.0.0.1:8080 --users 20 --requests 200 --ttft 500 --tpot 50"};
    const arg own[] = {
        {"rate", 0, ARG_F32, &j.rate, "R", "R requests a second, at random times (Poisson)", 0},
        {"users", 0, ARG_U32, &j.o.n_users, "N", "N users, each sending its next when it has its answer", 0},
        {"trace", 0, ARG_STR, &j.o.trace, "FILE", "lines of 'seconds,prompt,answer'", 0},
        {"requests", 'n', ARG_U32, &j.o.n_requests, "N", "stop after N requests", 0},
        {"duration", 'd', ARG_F32, &j.duration, "SECONDS", "send none after this", 0},
        {"prompt", 'p', ARG_STR, &j.o.prompt, "L", "length of prompts (default 128)", 0},
        {"answer", 'a', ARG_STR, &j.o.answer, "L", "length of answers (default 64)", 0},
        {"prefix", 0, ARG_U32, &j.o.n_prefix, "N", "tokens that prompts share, before their own (default 0)", 0},
        {"prefixes", 0, ARG_U32, &j.o.n_prefixes, "N", "different ones (default 1)", 0},
        {"ttft", 0, ARG_F32, &j.ttft_ms, "MS", "a good answer begins within this", 0},
        {"tpot", 0, ARG_F32, &j.tpot_ms, "MS", "and takes no more than this per token", 0},
        {"temp", 0, ARG_F32, &j.temperature, "X", "temperature (default 0)", 0},
        {"model", 'm', ARG_STR, &j.o.model, "NAME", "ask for this model (default: the first the server names)", 0},
        {"completions", 0, ARG_FLAG, &j.completions, NULL, "/v1/completions, without a chat template", 0},
        {"keep-eos", 0, ARG_FLAG, &j.keep_eos, NULL, "do not ask for ignore_eos, which some servers refuse", 0},
        {"api-key-file", 0, ARG_STR, &j.key_file, "FILE", "the server's key, on its first line", 0},
        {"timeout", 0, ARG_U32, &j.o.timeout_s, "SECONDS", "give an answer up after this (default 600)", 0},
        {"seed", 's', ARG_U64, &j.o.seed, "N", "other times, lengths and words (default 1)", 0},
        {"log", 0, ARG_STR, &j.requests_file, "FILE.csv", "every request's own figures", 0},
        {"format", 0, ARG_CALL, &j.f, "md|csv|json", "how to print (default md)", set_form},
        {"json", 0, ARG_FLAG, &j.json, NULL, "as --format json", 0},
    };
    arg_add(&t, own, sizeof own / sizeof *own);
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;
    j.o.url = argv[first];
    j.o.rate = (double)j.rate;
    j.o.duration_s = (double)j.duration;
    j.o.ttft_limit_s = (double)j.ttft_ms * 1e-3;
    j.o.tpot_limit_s = (double)j.tpot_ms * 1e-3;
    j.o.temperature = (double)j.temperature;
    j.o.chat = !j.completions;
    j.o.ignore_eos = !j.keep_eos;
    if (j.json) j.f = JSON;
    status = load_and_print(&j);
    free(j.key);
    return status;
}
