/* bench.c - `larder bench`: a model's speed here. */
#include "cli.h"

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

/* The model's name as tables hold it: no controls, and nothing that would end a cell. */
static const char *name_of(const larder_model_info *i, char out[128])
{
    snprintf(out, 128, "%s", i->name);
    cli_one_line(out);
    for (char *p = out; *p; p++)
        if (*p == '"' || *p == '|') *p = '\'';
    return out;
}

typedef enum form { MARKDOWN, CSV, JSON } form;
static bool set_form(void *to, const char *v)
{
    static const char *const names[] = {"md", "csv", "json"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(v, names[i])) continue;
        *(form *)to = (form)i;
        return true;
    }
    return false;
}

static void print_head(form f, const larder_model_info *i, const char *name)
{
    char size[24];
    if (f == CSV) puts("model,format,bytes,threads,test,tokens,depth,tok_s,tok_s_low,tok_s_high,gbs,share");
    if (f == MARKDOWN)
        printf("%s %s, %s, %s\n\n| test | threads | tok/s | (lowest, highest) | GB/s | of this memory |\n"
               "| --- | ---: | ---: | ---: | ---: | ---: |\n",
               i->architecture, name, i->format, cli_bytes(i->n_bytes, size));
}

static void print_row(form f, const larder_model_info *i, const char *name, const larder_bench_row *r, bool last)
{
    char gbs[24] = "", share[24] = "";
    if (f == CSV)
        printf("\"%s\",%s,%llu,%u,%s,%u,%u,%.3f,%.3f,%.3f,%.3f,%.4f\n", name, i->format,
               (unsigned long long)i->n_bytes, r->n_threads, r->test, r->n_tokens, r->depth, r->tok_s, r->tok_s_low,
               r->tok_s_high, r->gbs, r->share);
    if (f == JSON)
        printf("  {\"test\": \"%s\", \"threads\": %u, \"tokens\": %u, \"depth\": %u, \"tok_s\": %.3f, \"tok_s_low\": "
               "%.3f, "
               "\"tok_s_high\": %.3f, \"gbs\": %.3f, \"share\": %.4f}%s\n",
               r->test, r->n_threads, r->n_tokens, r->depth, r->tok_s, r->tok_s_low, r->tok_s_high, r->gbs, r->share,
               last ? "" : ",");
    if (f != MARKDOWN) return;
    if (r->gbs > 0) snprintf(gbs, sizeof gbs, "%.1f", r->gbs);
    if (r->share > 0) snprintf(share, sizeof share, "%.0f%%", r->share * 100);
    printf("| %s | %u | %.1f | (%.1f, %.1f) | %s | %s |\n", r->test, r->n_threads, r->tok_s, r->tok_s_low,
           r->tok_s_high, gbs, share);
}

int verb_bench(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "serve")) return bench_serve(argc - 1, argv + 1);
    cli_model m;
    list prompts = {.v = {512}, .n = 1}, depths = {.v = {0}, .n = 1};
    uint32_t n_gen = 64, repeat = 5;
    form f = MARKDOWN;
    bool json = false;
    const char *old = NULL;
    cli_model_init(&m);
    arg_table t = {
        .verb = "bench",
        .usage = "MODEL [options]",
        .min_words = 1,
        .max_words = 1,
        .about =
            "Measures prefill (pp) and decode (tg) at several lengths and depths: medians, the bytes a second that\n"
            "decoding reads, and their share of what this machine's memory was measured to read.",
        .examples = "  larder bench model.gguf -p 128,512 -n 64 -d 0,4096 --format csv\n"
                    "  larder bench serve URL ...   load on a server; see larder bench serve --help"};
    const arg own[] = {
        {"prompt", 'p', ARG_CALL, &prompts, "N,N", "prefill lengths (default 512)", set_list},
        {"gen", 'n', ARG_U32, &n_gen, "N", "tokens to decode at each depth (default 64)", 0},
        {"depth", 'd', ARG_CALL, &depths, "N,N", "tokens already in the cache (default 0)", set_list},
        {"repeat", 'r', ARG_U32, &repeat, "N", "medians of N runs (default 5, at most 64)", 0},
        {"format", 0, ARG_CALL, &f, "md|csv|json", "how to print (default md)", set_form},
        {"json", 0, ARG_FLAG, &json, NULL, "as --format json", 0},
        {"compare", 0, ARG_STR, &old, "OLD.csv",
         "what changed since then (a file of --format csv); on standard error", 0},
    };
    arg_add(&t, own, sizeof own / sizeof *own);
    cli_engine_args(&t, &m);
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;
    if (json) f = JSON;
    larder_error err = {0};
    larder_bench_row *rows = NULL;
    larder_model_info info;
    size_t n = 0;
    cli_catch_interrupt(true);
    status = cli_model_open("bench", &m, argv[first]);
    larder_bench_options o = {.engine = m.engine,
                              .n_prompt = prompts.v,
                              .n_n_prompt = prompts.n,
                              .n_gen = n_gen,
                              .depth = depths.v,
                              .n_depth = depths.n,
                              .repeat = repeat};
    if (!status && larder_bench(m.model, &o, &rows, &n, cli_progress, "tok", &err)) status = cli_fail("bench", &err);
    cli_progress_end();
    if (!status) {
        larder_model_get_info(m.model, &info);
        if (f == JSON) puts("[");
        char shown[128];
        const char *name = name_of(&info, shown);
        print_head(f, &info, name);
        for (size_t i = 0; i < n; i++) print_row(f, &info, name, &rows[i], i + 1 == n);
        if (f == JSON) puts("]");
        char *gain = NULL;
        if (old && larder_bench_compare(old, name, info.format, rows, n, &gain, &err))
            status = cli_fail("bench", &err);
        if (gain) fputs(gain, stderr);
        larder_free(gain);
    }
    larder_free(rows);
    cli_model_close(&m);
    return status;
}
