/* plan_ask.c - the questions of `larder plan` alone, each with a default, each answer checked.
 *
 * Owns: asking. Refuses to own: what follows from the answers (src/plan/advise.c, workload.c). */
#include "plan_ask.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

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

/* One line, without its end and the spaces around it; false at the end of the input, and then `out` is empty. */
static bool ask_line(const char *question, const char *otherwise, char *out, size_t cap)
{
    printf("%s [%s]: ", question, otherwise);
    fflush(stdout);
    *out = 0;
    if (!fgets(out, (int)cap, stdin)) {
        putchar('\n');
        *out = 0;
        return false;
    }
    if (!strchr(out, '\n')) { /* what did not fit is no answer to the next question */
        int c = getchar();
        bool whole = c == EOF || c == '\n';
        while (c != EOF && c != '\n') c = getchar();
        if (!whole) puts("  only the beginning of that was read");
    }
    size_t from = strspn(out, " \t"), n = strcspn(out + from, "\r\n");
    while (n && (out[from + n - 1] == ' ' || out[from + n - 1] == '\t')) n--;
    memmove(out, out + from, n);
    out[n] = 0;
    return true;
}

/* A number within limits; what is empty is the default. Asks again after what is none. */
static double ask_number(const char *question, double otherwise, const char *shown, double least, double most)
{
    char text[64], *end;
    while (ask_line(question, shown, text, sizeof text) && *text) {
        double v = strtod(text, &end);
        if ((*end == 'k' || *end == 'K') && !end[1]) v *= 1000, end++;
        if (end != text && !*end && isfinite(v) && v >= least && v <= most) return v;
        printf("  \"%s\" will not do: a number from %g to %g, please\n", text, least, most);
    }
    return otherwise;
}

static size_t ask_job(bool *answered)
{
    char text[64];
    puts("What is the machine for?");
    for (size_t i = 0; i < N_JOBS; i++) printf("  %-21s %s\n", jobs[i].name, jobs[i].about);
    while (true) {
        bool more = ask_line("job", jobs[0].name, text, sizeof text);
        *answered |= more;
        if (!*text) return 0;
        for (size_t i = 0; i < N_JOBS; i++)
            if (!strcasecmp(text, jobs[i].name)) return i;
        printf("  there is no job \"%s\" in the list\n", text);
    }
}

/* A model that can be planned: the planner itself says whether it is one. */
static bool known_model(const char *words)
{
    larder_plan_ask probe = {.model = words, .on = "dgx-spark", .json = true};
    larder_error err = {0};
    char *text = NULL;
    bool ok = !larder_plan_text(&probe, &text, &err);
    if (!ok) printf("  %s\n", err.message);
    larder_free(text);
    return ok;
}

static void ask_model(size_t job, char *out, size_t cap)
{
    char text[96], bits[16];
    const char *model = jobs[job].model;
    while (ask_line("Which model? A name, a size like 70b, or a file", model, text, sizeof text) && *text &&
           !known_model(text))
        ;
    if (strchr(text, ':') || strstr(text, ".gguf")) { /* it says its format, or is what it is */
        snprintf(out, cap, "%s", text);
        return;
    }
    const char *format = jobs[job].format;
    while (ask_line("How many bits a weight? 16, 8 or 4: fewer is smaller and faster, and a little worse", format,
                    bits, sizeof bits) &&
           *bits) {
        format = !strcmp(bits, "16") ? "F16" : !strcmp(bits, "8") ? "Q8_0" : !strcmp(bits, "4") ? "Q4_K_M" : NULL;
        if (format) break;
        format = jobs[job].format;
        printf("  16, 8 or 4, please\n");
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
        printf("  here, buy or both, please\n");
    }
}

static void ask_limits(larder_plan_ask *ask)
{
    if (ask->stay) return;
    ask->max_price = ask_number("What may it cost at most, in USD", 0, "any", 1, 1e7);
    ask->max_watts = ask_number("How many watts may it take at most (150 is quiet beside a desk)", 0, "any", 1, 1e5);
}

static void ask_private(larder_plan_ask *ask)
{
    char text[16];
    while (ask_line("Must texts stay at home (yes), or may a service read them (no)", "yes", text, sizeof text) &&
           *text) {
        if (!strcasecmp(text, "yes") || !strcasecmp(text, "y")) return;
        if (!strcasecmp(text, "no") || !strcasecmp(text, "n")) {
            ask->elsewhere = ask_number("What does such a service take for a million tokens, in USD", 0.5, "0.5",
                                        0.001, 1000);
            return;
        }
        printf("  yes or no, please\n");
    }
}

bool cli_plan_ask(larder_plan_ask *ask, plan_answers *a)
{
    bool answered = false;
    size_t job = ask_job(&answered);
    if (!answered) return false;
    snprintf(a->job, sizeof a->job, "%s", jobs[job].name);
    if (jobs[job].model) {
        char shown[24];
        ask_model(job, a->model, sizeof a->model);
        ask->model = a->model;
        ask->advise = true;
        snprintf(shown, sizeof shown, "%u", jobs[job].users);
        ask->n_users = (uint32_t)ask_number("How many answers at once", jobs[job].users, shown, 1, 4096);
        snprintf(shown, sizeof shown, "%u", jobs[job].ctx);
        ask->n_ctx = (uint32_t)ask_number("How many tokens may a conversation hold (a page is about 700)",
                                          jobs[job].ctx, shown, 32, 1 << 24);
        ask->n_prompt = jobs[job].prompt < ask->n_ctx ? jobs[job].prompt : ask->n_ctx;
        ask_where(ask);
    } else {
        ask->workload = a->job;
    }
    ask_limits(ask);
    if (ask->advise && !ask->stay) ask_private(ask);
    putchar('\n');
    return true;
}

void cli_plan_repeat(const larder_plan_ask *ask)
{
    printf("\nthe same again: larder plan");
    if (ask->workload) printf(" --workload %s", ask->workload);
    else printf(" '%s' --advise -u %u -c %u -p %u", ask->model, ask->n_users, ask->n_ctx, ask->n_prompt);
    if (ask->stay || ask->leave) printf(" --%s", ask->stay ? "stay" : "buy");
    if (ask->max_price > 0) printf(" --max-price %g", ask->max_price);
    if (ask->max_watts > 0) printf(" --max-watts %g", ask->max_watts);
    if (ask->elsewhere > 0) printf(" --elsewhere %g", ask->elsewhere);
    putchar('\n');
}
