/* version.c - `larder version`: what this program is and what was built in. */
#include "cli.h"

#include <jansson.h>

int verb_version(int argc, char **argv)
{
    bool json = false;
    arg_table t = {.verb = "version", .usage = "[options]", .about = "The version, and what was built in."};
    const arg own[] = {{"json", 0, ARG_FLAG, &json, NULL, "as JSON", 0}};
    arg_add(&t, own, 1);
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;
    char *text = NULL;
    larder_error err = {0};
    if (larder_built_in(json, &text, &err)) return cli_fail("version", &err);
    puts(text);
    larder_free(text);
    return EXIT_OK;
}
