/* logits.c - `larder logits`: what the model computes, position by position, for anybody to check. */
#include "cli.h"

#include <jansson.h>
#include <stdlib.h>

static bool parse_ids(const char *text, int32_t **ids, size_t *n)
{
    size_t cap = 1;
    for (const char *p = text; *p; p++) cap += *p == ',';
    int32_t *list = calloc(cap, sizeof *list);
    *n = 0;
    for (const char *p = text; list;) {
        char *end;
        long v = strtol(p, &end, 10);
        if (end == p || v < 0 || v > INT32_MAX || (*end && *end != ',')) break;
        list[(*n)++] = (int32_t)v;
        if (!*end) {
            *ids = list;
            return true;
        }
        p = end + 1;
    }
    free(list);
    return false;
}

int verb_logits(int argc, char **argv)
{
    cli_model m;
    bool json = false;
    const char *text = NULL, *out = NULL;
    cli_model_init(&m);
    arg_table t = {.verb = "logits",
                   .usage = "MODEL --ids 1,2,3 -o OUT.safetensors [options]",
                   .min_words = 1,
                   .max_words = 1,
                   .about = "Writes the logits of every position: tensor `logits` [positions, vocabulary], float32.",
                   .examples = "  larder logits model.gguf --ids 1,15043,3186 --exact -o out.safetensors"};
    const arg own[] = {
        {"ids", 0, ARG_STR, &text, "LIST", "token ids, with commas", 0},
        {"output", 'o', ARG_STR, &out, "FILE", "the safetensors file to write", 0},
        {"json", 0, ARG_FLAG, &json, NULL, "what was written, as JSON", 0},
    };
    arg_add(&t, own, sizeof own / sizeof *own);
    cli_engine_args(&t, &m, "tokens of context (default: as many as the ids, at least 32)");
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;
    int32_t *ids = NULL;
    size_t n = 0;
    if (!text || !out || !parse_ids(text, &ids, &n)) {
        fprintf(stderr, "larder logits: %s\n",
                !text  ? "--ids is missing"
                : !out ? "-o is missing"
                       : "--ids is not a list of numbers with commas");
        return EXIT_USAGE;
    }
    larder_error err = {0};
    static char unit[] = "tok";
    cli_catch_interrupt(false); /* a half-written file must go first */
    status = cli_model_open("logits", &m, argv[first]);
    if (!status && larder_logits_file(m.model, &m.engine, ids, n, out, cli_progress, unit, &err))
        status = cli_fail("logits", &err);
    cli_progress_end();
    if (!status && json) {
        larder_model_info info;
        larder_model_get_info(m.model, &info);
        status = cli_json("logits", json_pack("{s:s,s:I,s:I}", "file", out, "positions", (json_int_t)n, "vocabulary",
                                              (json_int_t)info.n_vocab));
    }
    free(ids);
    cli_model_close(&m);
    return status;
}
