/* main.c - finds the verb. */
#include "cli.h"

#include <langinfo.h>
#include <locale.h>
#include <string.h>

static const struct {
    const char *name, *text;
    int (*run)(int argc, char **argv);
} verbs[] = {
#define X(name, text) {#name, text, verb_##name},
    CLI_VERBS(X)
#undef X
};
#define N_VERBS (sizeof verbs / sizeof verbs[0])

static void help(FILE *f)
{
    fprintf(f,
            "larder %s: run language models at the speed of this machine's memory.\n\n"
            "usage: larder VERB [options] ...      larder VERB --help\n\nverbs:\n",
            larder_version());
    for (size_t i = 0; i < N_VERBS; i++) fprintf(f, "  %-12s %s\n", verbs[i].name, verbs[i].text);
    fprintf(
        f, "\nA MODEL is a .gguf file, a folder of safetensors, or owner/repo:quant from the store (larder list).\n\n"
           "  larder chat model.gguf\n"
           "  larder run model.gguf \"Write a haiku about pantries.\"\n"
           "  larder pull owner/repo:Q4_K_M\n");
}

/* Letters that differ, added or missing: for "did you mean". */
static size_t distance(const char *a, const char *b)
{
    size_t row[64], n = strlen(b);
    if (n > 62) return 99;
    for (size_t j = 0; j <= n; j++) row[j] = j;
    for (size_t i = 1; *a; a++, i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t best = diagonal + (*a != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

static int unknown(const char *name)
{
    size_t best = 0;
    for (size_t i = 1; i < N_VERBS; i++)
        if (distance(name, verbs[i].name) < distance(name, verbs[best].name)) best = i;
    if (distance(name, verbs[best].name) <= 2)
        fprintf(stderr, "larder: there is no verb '%s'; did you mean '%s'?\n", name, verbs[best].name);
    else fprintf(stderr, "larder: there is no verb '%s' (see larder --help)\n", name);
    return EXIT_USAGE;
}

static void on_log(void *user, larder_log_level level, const char *line)
{
    (void)user;
    if (level > LARDER_LOG_WARN || cli_was_said(line)) return;
    cli_note("larder: note: %s", line);
}

/* What was said must have arrived: a full disk behind standard output is a failure. */
static int finish(const char *verb, int status)
{
    if (!fflush(stdout) && !ferror(stdout)) return status;
    fprintf(stderr, "larder %s: not all of standard output could be written\n", verb);
    return status ? status : EXIT_FAILED;
}

/* Text here is UTF-8 whatever the locale says (in containers and cron jobs it says "C"): libedit drops what its locale
 * does not know. */
static void speak_utf8(void)
{
    static const char *const names[] = {"C.UTF-8", "en_US.UTF-8", "UTF-8"};
    setlocale(LC_CTYPE, "");
    for (size_t i = 0; i < sizeof names / sizeof *names && strcmp(nl_langinfo(CODESET), "UTF-8"); i++)
        setlocale(LC_CTYPE, names[i]);
}

int main(int argc, char **argv)
{
    speak_utf8();
    larder_set_log(on_log, NULL);
    if (argc < 2) {
        help(stderr);
        return EXIT_USAGE;
    }
    const char *name = argv[1];
    if (!strcmp(name, "--version") || !strcmp(name, "-V")) name = "version";
    char *ask[] = {argv[0], "--help", NULL};
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
        if (argc < 3) {
            help(stdout);
            return finish("help", EXIT_OK);
        }
        name = argv[2];
        argc = 2;
        argv = ask;
    } else {
        argc--;
        argv++;
    }
    for (size_t i = 0; i < N_VERBS; i++)
        if (!strcmp(name, verbs[i].name)) return finish(name, verbs[i].run(argc, argv));
    return unknown(name);
}
