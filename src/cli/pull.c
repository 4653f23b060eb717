/* pull.c - `larder pull`: a model into the store. */
#include "cli.h"

#include <jansson.h>

static void note(void *user, const char *line)
{
    (void)user;
    cli_note("%s", line);
}

int verb_pull(int argc, char **argv)
{
    bool json = false;
    larder_pull_options o = {.progress = cli_progress, .note = note, .user = (void *)"B"};
    arg_table t = {
        .verb = "pull",
        .usage = "owner/repo[:QUANT] | URL [options]",
        .min_words = 1,
        .max_words = 1,
        .about =
            "Downloads a model from a Hugging Face repository, or one GGUF from a URL, into the store. What was "
            "begun is\n"
            "resumed, and SHA-256 is checked. HF_TOKEN and HF_ENDPOINT are read; the token goes to that host only.",
        .examples = "  larder pull bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M\n  larder chat "
                    "bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M"};
    const arg own[] = {
        {"revision", 0, ARG_STR, &o.revision, "NAME", "branch, tag or commit (default main)", 0},
        {"endpoint", 0, ARG_STR, &o.endpoint, "URL", "another hub (default $HF_ENDPOINT)", 0},
        {"stall", 0, ARG_U32, &o.stall_s, "S", "seconds of silence before trying again (default 30)", 0},
        {"tries", 0, ARG_U32, &o.n_tries, "N", "tries in a row without progress (default 6)", 0},
        {"json", 0, ARG_FLAG, &json, NULL, "where it is, as JSON", 0}};
    arg_add(&t, own, sizeof own / sizeof *own);
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;
    char path[4096];
    larder_error err = {0};
    cli_catch_interrupt(false);
    if (larder_pull(argv[first], &o, path, sizeof path, &err)) {
        if (err.code == LARDER_CANCELLED) cli_note("larder pull: %s", err.message); /* that it can go on from there */
        return cli_fail("pull", &err);
    }
    cli_progress_end();
    if (json) return cli_json("pull", json_pack("{s:s,s:s}", "name", argv[first], "path", path));
    printf("%s\n", path);
    return EXIT_OK;
}
