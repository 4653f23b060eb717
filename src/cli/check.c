/* check.c - `larder check`: claims about machines and models, judged. */
#include "cli.h"

int verb_check(int argc, char **argv)
{
    bool json = false;
    arg_table t = {
        .verb = "check",
        .usage = "[options] CLAIMS.csv",
        .min_words = 1,
        .max_words = 1,
        .about = "Reads claims (machine, model, format, metric, value, qualifier) and says of each: impossible, "
                 "consistent,\n"
                 "below what is reachable, contradicted by another, or not checkable and why, with the arithmetic."};
    const arg own[] = {{"json", 0, ARG_FLAG, &json, NULL, "as JSON", 0}};
    arg_add(&t, own, 1);
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;
    larder_error err = {0};
    char *text = NULL;
    if (larder_check_claims(argv[first], json, &text, &err)) return cli_fail("check", &err);
    fputs(text, stdout);
    larder_free(text);
    return EXIT_OK;
}
