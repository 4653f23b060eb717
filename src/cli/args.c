/* args.c - options from a table, over getopt_long; and the help that the same table gives. */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void arg_add(arg_table *t, const arg *list, int n)
{
    for (int i = 0; i < n && t->n < ARG_MAX; i++) t->args[t->n++] = list[i];
}

static void help(const arg_table *t)
{
    printf("usage: larder %s %s\n\n%s\n\noptions:\n", t->verb, t->usage, t->about);
    for (int i = 0; i < t->n; i++) {
        const arg *a = &t->args[i];
        char left[64], letter[8] = "    ";
        if (a->letter) snprintf(letter, sizeof letter, "-%c, ", a->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, a->name, a->value ? " " : "", a->value ? a->value : "");
        printf("  %-30s %s\n", left, a->help);
    }
    printf("  %-30s %s\n", "-h, --help", "this text");
    if (t->examples) printf("\nexamples:\n%s\n", t->examples);
}

/* A whole number, decimal, with nothing after it. */
static bool whole(const char *s, int64_t min, uint64_t max, int64_t *as_signed, uint64_t *as_unsigned)
{
    char *end;
    errno = 0;
    if (*s == '-') {
        *as_signed = strtoll(s, &end, 10);
        return !errno && end != s && !*end && *as_signed >= min;
    }
    if (*s < '0' || *s > '9') return false;
    *as_unsigned = strtoull(s, &end, 10);
    *as_signed = (int64_t)*as_unsigned;
    return !errno && !*end && *as_unsigned <= max;
}

/* "8G", "512MiB", "1.5g": bytes. */
static bool bytes(const char *s, uint64_t *out)
{
    char *end;
    double v = strtod(s, &end);
    static const char units[] = "kmgt";
    if (end == s || !(v >= 0)) return false;
    double scale = 1;
    if (*end) {
        const char *u = strchr(units, *end | 0x20);
        if (!u) return false;
        scale = pow(1024, (double)(u - units + 1));
        end++;
        if (strcmp(end, "") && strcmp(end, "B") && strcmp(end, "iB") && strcmp(end, "b")) return false;
    }
    if (v * scale >= 9e18) return false;
    *out = (uint64_t)(v * scale);
    return true;
}

bool arg_set(const arg *a, const char *value)
{
    int64_t i = 0;
    uint64_t u = 0;
    char *end;
    switch (a->kind) {
    case ARG_FLAG: *(bool *)a->to = true; return true;
    case ARG_STR: *(const char **)a->to = value; return true;
    case ARG_CALL: return a->call(a->to, value);
    case ARG_BYTES: return bytes(value, a->to);
    case ARG_U32:
        if (!whole(value, 0, UINT32_MAX, &i, &u) || *value == '-') return false;
        *(uint32_t *)a->to = (uint32_t)u;
        return true;
    case ARG_I32:
        if (!whole(value, INT32_MIN, INT32_MAX, &i, &u)) return false;
        *(int32_t *)a->to = (int32_t)i;
        return true;
    case ARG_U64:
        if (!whole(value, 0, UINT64_MAX, &i, &u) || *value == '-') return false;
        *(uint64_t *)a->to = u;
        return true;
    case ARG_F32: *(float *)a->to = strtof(value, &end); return end != value && !*end && isfinite(*(float *)a->to);
    }
    return false;
}

const arg *arg_find(const arg_table *t, const char *name)
{
    for (int i = 0; i < t->n; i++)
        if (!strcmp(t->args[i].name, name)) return &t->args[i];
    return NULL;
}

/* What getopt_long could not take: one letter of several in a word, or the word. */
static const char *culprit(const arg_table *t, char **argv, char out[64])
{
    if (optopt > 0 && optopt < 256) snprintf(out, 64, "-%c", optopt);
    else if (optopt >= 256 && optopt - 256 < t->n) snprintf(out, 64, "--%s", t->args[optopt - 256].name);
    else return argv[optind - 1];
    return out;
}

static int wrong(const arg_table *t, const char *what, const char *which)
{
    fprintf(stderr, "larder %s: %s%s%s (see larder %s --help)\n", t->verb, what, which ? " " : "", which ? which : "",
            t->verb);
    return EXIT_USAGE;
}

int arg_parse(arg_table *t, int argc, char **argv, int *first)
{
    struct option longs[ARG_MAX + 2] = {0};
    char shorts[3 * ARG_MAX + 4] = ":h";
    size_t n_short = 2;
    for (int i = 0; i < t->n; i++) {
        const arg *a = &t->args[i];
        longs[i] = (struct option){a->name, a->kind == ARG_FLAG ? no_argument : required_argument, NULL, 256 + i};
        if (!a->letter) continue;
        shorts[n_short++] = a->letter;
        if (a->kind != ARG_FLAG) shorts[n_short++] = ':';
    }
    longs[t->n] = (struct option){"help", no_argument, NULL, 'h'};
    opterr = 0;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
        if (c == 'h') {
            help(t);
            return EXIT_OK;
        }
        char which[64];
        if (c == ':') return wrong(t, "a value is missing after", culprit(t, argv, which));
        if (c == '?')
            return wrong(t, optopt < 256 ? "there is no option" : "no value is taken by", culprit(t, argv, which));
        int at = c - 256;
        for (int i = 0; c < 256 && i < t->n; i++)
            if (t->args[i].letter == c) at = i;
        if (!arg_set(&t->args[at], optarg)) {
            char text[160];
            snprintf(text, sizeof text, "--%s cannot be '%.60s':", t->args[at].name, optarg);
            return wrong(t, text, t->args[at].help);
        }
    }
    int words = argc - optind;
    if (words < t->min_words) return wrong(t, "too few words; usage:", t->usage);
    if (t->max_words >= 0 && words > t->max_words) return wrong(t, "one word too many:", argv[optind + t->max_words]);
    *first = optind;
    return -1;
}
