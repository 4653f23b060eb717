/* convert.c - `larder convert` and `larder quantize`: one job under two names. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

static void note(void *user, const char *line)
{
    (void)user;
    cli_note("%s", line);
}

static void print_types(FILE *f)
{
    for (const char *const *p = larder_convert_types(); *p; p++) fprintf(f, " %s", *p);
    fputc('\n', f);
}

static int convert(const char *verb, int argc, char **argv)
{
    larder_convert_options o = {.progress = cli_progress, .note = note, .user = NULL};
    larder_convert_result r = {0};
    bool json = false, list = false;
    arg_table t = {.verb = verb,
                   .usage = "MODEL OUT.gguf [TYPE] [options]",
                   .min_words = 0,
                   .max_words = 3,
                   .about = "Writes any model larder reads - a GGUF, a folder of safetensors, a name of the store - "
                            "as one GGUF in the\n"
                            "type given (--types lists them; without one, matrices keep their format). The file "
                            "appears whole or not at all.",
                   .examples = "  larder convert Llama-3.2-1B-Instruct/ llama.gguf Q4_K_M\n  larder quantize "
                               "model-bf16.gguf model-q8.gguf Q8_0"};
    const arg own[] = {
        {"type", 0, ARG_STR, &o.type, "TYPE", "the type, instead of the third word", 0},
        {"types", 0, ARG_FLAG, &list, NULL, "list the types", 0},
        {"pure", 0, ARG_FLAG, &o.pure, NULL, "every matrix in the base format, not the usual mix", 0},
        {"force", 0, ARG_FLAG, &o.force, NULL, "replace an existing file", 0},
        {"threads", 't', ARG_U32, &o.n_threads, "N", "threads (default: one per real core)", 0},
        {"json", 0, ARG_FLAG, &json, NULL, "what was done, as JSON", 0},
    };
    arg_add(&t, own, sizeof own / sizeof *own);
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;
    if (list) {
        print_types(stdout);
        return EXIT_OK;
    }
    if (argc - first < 2) {
        fprintf(stderr, "larder %s: usage: larder %s %s\n", verb, verb, t.usage);
        return EXIT_USAGE;
    }
    if (argc - first == 3 && o.type) {
        fprintf(stderr, "larder %s: the type is given twice: --type %.40s, and %.40s\n", verb, o.type,
                argv[first + 2]);
        return EXIT_USAGE;
    }
    if (argc - first == 3) o.type = argv[first + 2];
    o.user = (void *)"B";
    larder_error err = {0};
    cli_catch_interrupt(false); /* the half-written file must go first */
    char path[4096];
    if (larder_store_path(argv[first], path, sizeof path, &err)) return cli_fail(verb, &err);
    if (larder_convert(path, argv[first + 1], &o, &r, &err)) return cli_fail(verb, &err);
    cli_progress_end();
    char in[24], out[24];
    if (json)
        printf("{\"bytes_in\": %llu, \"bytes_out\": %llu, \"tensors\": %u, \"encoded\": %u, \"fallbacks\": %u}\n",
               (unsigned long long)r.n_bytes_in, (unsigned long long)r.n_bytes_out, r.n_tensors, r.n_encoded,
               r.n_fallback);
    else
        printf("%s: %u tensors, %s to %s%s\n", argv[first + 1], r.n_tensors, cli_bytes(r.n_bytes_in, in),
               cli_bytes(r.n_bytes_out, out),
               r.n_fallback ? "; see the notes above for the tensors in another format" : "");
    return EXIT_OK;
}

int verb_convert(int argc, char **argv) { return convert("convert", argc, argv); }

int verb_quantize(int argc, char **argv) { return convert("quantize", argc, argv); }
