/* plan_ask.c - the questions of `larder plan` alone, each with a default, each answer checked.
 *
 * Owns: asking. Refuses to own: what follows from the answers (src/plan/advise.c, workload.c). */
#include "plan_ask.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* What people want a machine for; with a model to run, or a job that is measured by itself. */
static const struct {
    const char *name, *about, *model, *format;
    unsigned users, ctx, prompt;
} jobs[] = {
    {"chat", "talk with a model", "llama-3.1-8b", "Q4_K_M", 1, 8192, 600},
    {"serve", "answer several people at once", "llama-3.1-8b", "Q8_0", 8, 4096, 500},
    {"agent", "code and tools, long contexts", "gpt-oss-120b", "MXFP4", 1, 65536, 2000},
    {"rag", "questions about documents", "llama-3.1-8b", "Q4_K_M", 1, 16384, 6000},
    {"batch", "many documents, nobody waits", "qwen2.5-32b", "Q4_K_M", 32, 4096, 2000},
    {"lora", "fine-tune an 8B model", NULL, NULL, 0, 0, 0},
    {"pretrain", "train a small model from scratch", NULL, NULL, 0, 0, 0},
    {"image", "make images", NULL, NULL, 0, 0, 0},
    {"voice", "speech in, speech out", NULL, NULL, 0, 0, 0},
    {"simulation-bandwidth", "simulations that stream memory", NULL, NULL, 0, 0, 0},
    {"simulation-compute", "simulations that compute", NULL, NULL, 0, 0, 0},
};
#define N_JOBS (sizeof jobs / sizeof *jobs)

static FILE *to; /* where questions go: beside JSON, not into it */

/* One line, without its end and the spaces around it; false at the end of the input, and then `out` is empty. */
static bool ask_line(const char *question, const char *otherwise, char *out, size_t cap)
{
    fprintf(to, "%s [%s]: ", question, otherwise);
    fflush(to);
    *out = 0;
    if (!fgets(out, (int)cap, stdin)) {
        fputc('\n', to);
        *out = 0;
        return false;
    }
    if (!strchr(out, '\n')) { /* what did not fit is no answer to the next question */
        int c = getchar();
        bool whole = c == EOF || c == '\n';
        while (c != EOF && c != '\n') c = getchar();
        if (!whole) fputs("  only the beginning of that was read\n", to);
    }
    size_t from = strspn(out, " \t"), n = strcspn(out + from, "\r\n");
    while (n && (out[from + n - 1] == ' ' || out[from + n - 1] == '\t')) n--;
    memmove(out, out + from, n);
    out[n] = 0;
    return true;
}

bool cli_plan_number(const char *text, double *out)
{
    char *end;
    size_t n = strspn(text, "0123456789.eE+-"); /* neither 0x20 nor nan */
    *out = strtod(text, &end);
    if (!n || end != text + n) return false;
    if (*end == 'k' || *end == 'K') *out *= 1000, end++;
    return !*end && isfinite(*out);
}

typedef struct limits {
    double least, most;
    bool whole;
} limits;

static bool within(const char *text, const limits *l, double *out)
{
    if (cli_plan_number(text, out) && *out >= l->least && *out <= l->most && (!l->whole || *out == floor(*out)))
        return true;
    fprintf(to, "  \"%s\" will not do: a %s from %.15g to %.15g, please\n", text,
            l->whole ? "whole number" : "number", l->least, l->most);
    return false;
}

/* A number within limits; what is empty is the default. Asks again after what is none. */
static double ask_number(const char *question, double otherwise, const char *shown, const limits *l)
{
    char text[64];
    double v;
    while (ask_line(question, shown, text, sizeof text) && *text)
        if (within(text, l, &v)) return v;
    return otherwise;
}

static size_t ask_job(bool *answered)
{
    char text[64];
    fputs("What is the machine for?\n", to);
    for (size_t i = 0; i < N_JOBS; i++) fprintf(to, "  %-21s %s\n", jobs[i].name, jobs[i].about);
    while (true) {
        bool more = ask_line("job", jobs[0].name, text, sizeof text);
        *answered |= more;
        if (!*text) return 0;
        for (size_t i = 0; i < N_JOBS; i++)
            if (!strcasecmp(text, jobs[i].name)) return i;
        fprintf(to, "  there is no job \"%s\" in the list\n", text);
    }
}

/* A model that can be planned: the planner itself says whether it is one. */
static bool known_model(const char *words)
{
    larder_plan_ask probe = {.model = words, .on = "dgx-spark", .json = true};
    larder_error err = {0};
    char *text = NULL;
    bool ok = !larder_plan_text(&probe, &text, &err);
    if (!ok) fprintf(to, "  %s\n", err.message);
    larder_free(text);
    return ok;
}

/* `given`: the number format that came with the command, which is not asked then. */
static void ask_model(size_t job, const char *given, char *out, size_t cap)
{
    char text[PATH_MAX], bits[16];
    const char *model = jobs[job].model;
    while (ask_line("Which model? A name, a size like 70b, or a file", model, text, sizeof text) && *text &&
           !known_model(text))
        ;
    if (strchr(text, ':') || strstr(text, ".gguf") || (*text && !access(text, F_OK))) {
        /* it says its format, or is what it is */
        snprintf(out, cap, "%s", text);
        return;
    }
    if (given) {
        snprintf(out, cap, "%s", *text ? text : model);
        return;
    }
    const char *format = jobs[job].format;
    while (ask_line("How many bits a weight? 16, 8 or 4: fewer is smaller and faster, and a little worse", format,
                    bits, sizeof bits) &&
           *bits) {
        format = !strcmp(bits, "16") ? "F16" : !strcmp(bits, "8") ? "Q8_0" : !strcmp(bits, "4") ? "Q4_K_M" : NULL;
        if (format) break;
        format = jobs[job].format;
        fprintf(to, "  16, 8 or 4, please\n");
    }
    snprintf(out, cap, "%s:%s", *text ? text : model, format);
}

static void ask_where(larder_plan_ask *ask)
{
    char text[16];
    while (ask_line("Run it on this machine (here), on one to buy (buy), or see both", "both", text, sizeof text) &&
           *text) {
        ask->stay = !strcasecmp(text, "here");
        ask->leave = !strcasecmp(text, "buy");
        if (ask->stay || ask->leave || !strcasecmp(text, "both")) return;
        fprintf(to, "  here, buy or both, please\n");
    }
}

static void ask_private(larder_plan_ask *ask)
{
    char text[16];
    while (ask_line("Must texts stay at home (yes), or may a service read them (no)", "yes", text, sizeof text) &&
           *text) {
        if (!strcasecmp(text, "yes") || !strcasecmp(text, "y")) return;
        if (!strcasecmp(text, "no") || !strcasecmp(text, "n")) {
            ask->elsewhere = ask_number("What does such a service take for a million tokens, in USD", 0.5, "0.5",
                                        &(limits){.least = 0.001, .most = 1000});
            return;
        }
        fprintf(to, "  yes or no, please\n");
    }
}

/* What was given with the command is the default, if it is within the limits; else `usual`, where 0 is any. */
static double ask_given(const char *question, double given, double usual, const limits *l)
{
    char shown[32];
    snprintf(shown, sizeof shown, "%.15g", given);
    if (!(given > 0) || !within(shown, l, &given)) given = usual;
    snprintf(shown, sizeof shown, "%.15g", given);
    return ask_number(question, given, given > 0 ? shown : "any", l);
}

static void ask_limits(larder_plan_ask *ask)
{
    if (ask->stay) return;
    ask->max_price = ask_given("What may it cost at most, in USD", ask->max_price, 0,
                               &(limits){.least = 1, .most = 1e7});
    ask->max_watts = ask_given("How many watts may it take at most (150 is quiet beside a desk)", ask->max_watts, 0,
                               &(limits){.least = 1, .most = 1e5});
}

bool cli_plan_ask(larder_plan_ask *ask, plan_answers *a)
{
    bool answered = false;
    to = ask->json ? stderr : stdout;
    size_t job = ask_job(&answered);
    if (!answered) return false;
    snprintf(a->job, sizeof a->job, "%s", jobs[job].name);
    if (jobs[job].model) {
        ask_model(job, ask->format, a->model, sizeof a->model);
        ask->model = a->model;
        ask->advise = true;
        ask->n_users = (uint32_t)ask_given("How many answers at once", ask->n_users, jobs[job].users,
                                           &(limits){.least = 1, .most = 4096, .whole = true});
        ask->n_ctx = (uint32_t)ask_given("How many tokens may a conversation hold (a page is about 700)", ask->n_ctx,
                                         jobs[job].ctx, &(limits){.least = 32, .most = 1 << 24, .whole = true});
        unsigned prompt = ask->n_prompt ? ask->n_prompt : jobs[job].prompt;
        ask->n_prompt = prompt < ask->n_ctx ? prompt : ask->n_ctx;
        if (!ask->stay && !ask->leave) ask_where(ask);
    } else {
        ask->workload = a->job;
    }
    ask_limits(ask);
    if (ask->advise && !ask->stay && !(ask->elsewhere > 0)) ask_private(ask);
    fputc('\n', to);
    return true;
}

/* As a shell takes it for one word. */
static void quoted(const char *value)
{
    fputc('\'', to);
    for (; *value; value++) *value == '\'' ? fputs("'\\''", to) : fputc(*value, to);
    fputc('\'', to);
}

static void option(const char *name, const char *value)
{
    if (!value || !*value) return;
    fprintf(to, " --%s ", name);
    quoted(value);
}

static void number(const char *name, double value)
{
    if (value > 0) fprintf(to, " --%s %.15g", name, value);
}

void cli_plan_repeat(const larder_plan_ask *ask)
{
    static const char *const kv[] = {
        [LARDER_KV_F16] = "f16", [LARDER_KV_F32] = "f32", [LARDER_KV_Q8_0] = "q8_0", [LARDER_KV_Q4_0] = "q4_0"};
    fprintf(to, "\nthe same again: larder plan");
    if (ask->workload) {
        option("workload", ask->workload);
    } else {
        fputc(' ', to);
        quoted(ask->model);
        fprintf(to, " --advise -u %u -c %u -p %u", ask->n_users, ask->n_ctx, ask->n_prompt);
    }
    if (ask->stay || ask->leave) fprintf(to, " --%s", ask->stay ? "stay" : "buy");
    number("max-price", ask->max_price);
    number("max-watts", ask->max_watts);
    number("elsewhere", ask->elsewhere);
    number("kwh", ask->kwh);
    number("watts", ask->watts);
    option("format", ask->format);
    option("backend", ask->backend);
    option("what-if", ask->what_if);
    if (ask->kv_given) option("kv", kv[ask->kv]);
    if (ask->json) fputs(" --json", to);
    fputc('\n', to);
}
