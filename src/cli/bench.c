/* bench.c - `larder bench`: a model's speed here. */
#include "bench_print.h"

#include <stdlib.h>
#include <string.h>

typedef struct list {
    uint32_t v[16];
    uint32_t n;
} list;

static bool set_list(void *to, const char *text)
{
    list *l = to;
    l->n = 0;
    for (const char *p = text;;) {
        char *end;
        unsigned long v = strtoul(p, &end, 10);
        if (end == p || *p == '-' || l->n == 16 || v > (1u << 24) || (*end && *end != ',')) return false;
        l->v[l->n++] = (uint32_t)v;
        if (!*end) return true;
        p = end + 1;
    }
}

int verb_bench(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "serve")) return bench_serve(argc - 1, argv + 1);
    cli_model m;
    list prompts = {.v = {512}, .n = 1}, depths = {.v = {0}, .n = 1};
    uint32_t n_gen = 64, repeat = 5;
    bench_form f = BENCH_MARKDOWN;
    bool json = false, ops = false;
    const char *old = NULL;
    cli_model_init(&m);
    arg_table t = {
        .verb = "bench",
        .usage = "MODEL [options]",
        .min_words = 1,
        .max_words = 1,
        .about =
            "Measures prefill (pp) and decode (tg) at several lengths and depths: medians, the bytes a second that\n"
            "decoding reads, and their share of what plain reading by as many threads reached in between.",
        .examples = "  larder bench model.gguf -p 128,512 -n 64 -d 0,4096 --format csv\n"
                    "  larder bench serve URL ...   load on a server; see larder bench serve --help"};
    const arg own[] = {
        {"prompt", 'p', ARG_CALL, &prompts, "N,N", "prefill lengths (default 512)", set_list},
        {"gen", 'n', ARG_U32, &n_gen, "N", "tokens to decode at each depth (default 64)", 0},
        {"depth", 'd', ARG_CALL, &depths, "N,N", "tokens already in the cache (default 0)", set_list},
        {"repeat", 'r', ARG_U32, &repeat, "N", "medians of N runs (default 5, at most 64)", 0},
        {"format", 0, ARG_CALL, &f, "md|csv|json", "how to print (default md)", bench_set_form},
        {"json", 0, ARG_FLAG, &json, NULL, "as --format json", 0},
        {"ops", 0, ARG_FLAG, &ops, NULL,
         "also where each test's time goes: operators, their bytes, operations and share of the roofline", 0},
        {"compare", 0, ARG_STR, &old, "OLD.csv",
         "what changed since then (a file of --format csv); on standard error", 0},
    };
    arg_add(&t, own, sizeof own / sizeof *own);
    cli_engine_args(&t, &m);
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;
    if (json) f = BENCH_JSON;
    larder_error err = {0};
    larder_bench_result r = {0};
    larder_model_info info;
    cli_catch_interrupt(true);
    status = cli_model_open("bench", &m, argv[first]);
    larder_bench_options o = {.engine = m.engine,
                              .n_prompt = prompts.v,
                              .n_n_prompt = prompts.n,
                              .n_gen = n_gen,
                              .depth = depths.v,
                              .n_depth = depths.n,
                              .repeat = repeat,
                              .ops = ops};
    if (!status && larder_bench(m.model, &o, &r, cli_progress, "tok", &err)) status = cli_fail("bench", &err);
    cli_progress_end();
    if (!status) {
        larder_model_get_info(m.model, &info);
        char shown[128];
        const char *name = bench_name(&info, shown);
        bench_print(f, &info, name, &r);
        char *gain = NULL;
        if (old && larder_bench_compare(old, name, info.format, r.rows, r.n_rows, &gain, &err))
            status = cli_fail("bench", &err);
        if (gain) fputs(gain, stderr);
        larder_free(gain);
    }
    larder_bench_free(&r);
    cli_model_close(&m);
    return status;
}
