/* config.c - options from a file: the same names as on the command line, checked the same way.
 *
 *     # a comment
 *     parallel = 20
 *     api-key-file = "/etc/larder/keys"
 *     no-store = true
 *     model = chat=/models/chat.gguf
 *
 * Owns: the file's form, and where in it something is wrong. Refuses to own: what the options mean (args.c, the verbs).
 */
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST_CONFIG (1 << 20)

static int wrong(const cli_config *c, int line, const char *what, const char *which, const char *help)
{
    fprintf(stderr, "larder %s: %s, line %d: %s '%.60s'%s%s\n", c->verb, c->path, line, what, which,
            *help ? ": " : "", help);
    return EXIT_USAGE;
}

static char *trimmed(char *s)
{
    while (*s == ' ' || *s == '\t') s++;
    for (size_t n = strlen(s); n && strchr(" \t\r", s[n - 1]);) s[--n] = 0;
    return s;
}

/* Everything but the quotes around it; false if one is missing. */
static bool unquoted(char **s)
{
    size_t n = strlen(*s);
    if (!n || **s != '"') return true;
    if (n < 2 || (*s)[n - 1] != '"') return false;
    (*s)[n - 1] = 0;
    ++*s;
    return !strchr(*s, '"');
}

static int set_word(cli_config *c, int line, const char *value)
{
    if (c->n_words == CONFIG_MOST_WORDS) return wrong(c, line, "one too many:", value, "");
    c->words[c->n_words++] = (char *)(uintptr_t)value;
    return EXIT_OK;
}

static int set_line(cli_config *c, const arg_table *t, int line, char *text)
{
    char *eq = strchr(text, '='), *value = NULL;
    if (eq) {
        *eq = 0;
        value = trimmed(eq + 1);
        if (!unquoted(&value)) return wrong(c, line, "a quote is missing in", value, "");
    }
    text = trimmed(text);
    if (!strcmp(text, "model") && value && *value) return set_word(c, line, value);
    const arg *a = strcmp(text, "config") != 0 ? arg_find(t, text) : NULL;
    if (!a) return wrong(c, line, "there is no option", text, "");
    if (a->kind == ARG_FLAG) {
        bool on = !value || !strcmp(value, "true");
        if (!on && strcmp(value, "false") != 0) return wrong(c, line, "true or false, not", value, "");
        *(bool *)a->to = on;
        return EXIT_OK;
    }
    if (!value || !*value) return wrong(c, line, "a value is missing after", text, a->help);
    if (!arg_set(a, value)) return wrong(c, line, text, value, a->help);
    return EXIT_OK;
}

/* The file of this name in the folder of configurations: $XDG_CONFIG_HOME/larder, or ~/.config/larder. */
static bool usual_path(cli_config *c, const char *name)
{
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    int n = -1;
    if (xdg && *xdg == '/') n = snprintf(c->path, sizeof c->path, "%s/larder/%s", xdg, name);
    else if (home && *home == '/') n = snprintf(c->path, sizeof c->path, "%s/.config/larder/%s", home, name);
    return n > 0 && (size_t)n < sizeof c->path && !access(c->path, F_OK);
}

/* --config FILE or --config=FILE, before the options are parsed. */
static const char *asked_path(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (!strncmp(argv[i], "--config=", 9)) return argv[i] + 9;
        if (!strcmp(argv[i], "--config") && i + 1 < argc) return argv[i + 1];
    }
    return NULL;
}

int cli_config_read(cli_config *c, const arg_table *t, const char *name, int argc, char **argv)
{
    size_t n;
    int status = EXIT_OK, number = 0;
    const char *path = asked_path(argc, argv);
    c->verb = t->verb;
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) return EXIT_OK;
    if (path) snprintf(c->path, sizeof c->path, "%s", path);
    else if (!usual_path(c, name)) return EXIT_OK;
    c->text = cli_read_all(t->verb, c->path, MOST_CONFIG, &n);
    if (!c->text) return EXIT_FAILED;
    if (strlen(c->text) != n) return wrong(c, 1, "this is no text:", c->path, "");
    for (char *line = c->text, *next; !status && line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        number++;
        line = trimmed(line);
        if (*line && *line != '#') status = set_line(c, t, number, line);
    }
    return status;
}

void cli_config_free(cli_config *c) { free(c->text); }
