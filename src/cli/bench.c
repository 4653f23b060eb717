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

/* As many as an engine takes at once. */
static bool good_users(const list *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (!l->v[i] || l->v[i] > 4096) return false;
    return true;
}

/* --format: how to print, or the number format of --shape. */
typedef struct formats {
    bench_form print;
    const char *weights;
} formats;
static bool set_format(void *to, const char *text)
{
    formats *f = to;
    if (!bench_set_form(&f->print, text)) f->weights = text;
    return true;
}

static int refuse(const char *why)
{
    larder_error err = {.code = LARDER_USAGE};
    snprintf(err.message, sizeof err.message, "%s", why);
    return cli_fail("bench", &err);
}

/* The model of a file, or of --shape. */
static int open_any(cli_model *m, const char *path, const char *shape, const char *weights)
{
    larder_error err = {0};
    if (!shape) return cli_model_open("bench", m, path);
    int status = cli_model_settle("bench", m);
    if (status) return status;
    larder_status st = larder_shape_open(shape, weights, m->engine.memory, &m->model, cli_progress, "B", &err);
    cli_progress_end();
    return st ? cli_fail("bench", &err) : 0;
}

int verb_bench(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "serve")) return bench_serve(argc - 1, argv + 1);
    cli_model m;
    list prompts = {.v = {512}, .n = 1}, depths = {.v = {0}, .n = 1}, users = {.v = {1}, .n = 1};
    uint32_t n_gen = 64, repeat = 5;
    formats f = {BENCH_MARKDOWN, NULL};
    bool json = false, ops = false;
    const char *old = NULL, *shape = NULL;
    cli_model_init(&m);
    arg_table t = {
        .verb = "bench",
        .usage = "MODEL | --shape NAME [options]",
        .max_words = 1,
        .about =
            "Measures prefill (pp) and decode (tg) at several lengths and depths: medians, the bytes a second that\n"
            "decoding reads, and their share of what plain reading by as many threads reached in between.",
        .examples = "  larder bench model.gguf -p 128,512 -n 64 -d 0,4096 --format csv\n"
                    "  larder bench --shape llama-3.1-8b --format Q4_K_M --ops\n"
                    "  larder bench serve URL ...   load on a server; see larder bench serve --help"};
    const arg own[] = {
        {"prompt", 'p', ARG_CALL, &prompts, "N,N", "prefill lengths (default 512)", set_list},
        {"gen", 'n', ARG_U32, &n_gen, "N", "tokens to decode at each depth (default 64)", 0},
        {"depth", 'd', ARG_CALL, &depths, "N,N", "tokens already in the cache (default 0)", set_list},
        {"users", 'u', ARG_CALL, &users, "N,N", "sequences that decode together, 1 to 4096 (default 1)", set_list},
        {"repeat", 'r', ARG_U32, &repeat, "N", "medians of N runs (default 5, at most 64)", 0},
        {"shape", 0, ARG_STR, &shape, "NAME", "no file: random weights of this model's shape, as llama-3.1-8b", 0},
        {"format", 0, ARG_CALL, &f, "md|csv|json",
         "how to print (default md); and with --shape Q4_K_M, Q8_0, ...: its weights", set_format},
        {"json", 0, ARG_FLAG, &json, NULL, "as --format json", 0},
        {"ops", 0, ARG_FLAG, &ops, NULL,
         "also where each test's time goes: operators, their bytes, operations and share of the roofline", 0},
        {"compare", 0, ARG_STR, &old, "OLD.csv",
         "what changed since then (a file of --format csv); on standard error", 0},
    };
    arg_add(&t, own, sizeof own / sizeof *own);
    cli_engine_args(&t, &m, "tokens of context (default: what the runs need)");
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;
    if (json) f.print = BENCH_JSON;
    if (!shape == (first == argc)) return refuse("one of MODEL and --shape NAME is needed");
    if (!good_users(&users)) return refuse("--users takes numbers from 1 to 4096 (-n 0 leaves decoding out)");
    if (f.weights && !shape) return refuse("--format is md, csv or json (number formats go with --shape)");
    larder_error err = {0};
    larder_bench_result r = {0};
    larder_model_info info;
    cli_catch_interrupt(true);
    m.engine.reading = cli_reading;
    status = open_any(&m, argv[first], shape, f.weights);
    larder_bench_options o = {.engine = m.engine,
                              .n_prompt = prompts.v,
                              .n_n_prompt = prompts.n,
                              .n_gen = n_gen,
                              .depth = depths.v,
                              .n_depth = depths.n,
                              .n_seq = users.v,
                              .n_n_seq = users.n,
                              .repeat = repeat,
                              .ops = ops};
    if (!status && larder_bench(m.model, &o, &r, cli_progress, "tok", &err)) status = cli_fail("bench", &err);
    cli_progress_end();
    if (!status) {
        larder_model_get_info(m.model, &info);
        char shown[128];
        const char *name = bench_name(&info, shown);
        bench_print(f.print, &info, name, &r);
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
