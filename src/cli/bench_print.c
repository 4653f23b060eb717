/* bench_print.c - the tables of `larder bench`. */
#include "bench_print.h"

#include <string.h>

const char *bench_name(const larder_model_info *i, char out[128])
{
    snprintf(out, 128, "%s", i->name);
    cli_one_line(out);
    for (char *p = out; *p; p++)
        if (*p == '"' || *p == '|') *p = '\'';
    return out;
}

bool bench_set_form(void *to, const char *v)
{
    static const char *const names[] = {"md", "csv", "json"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(v, names[i])) continue;
        *(bench_form *)to = (bench_form)i;
        return true;
    }
    return false;
}

/* ---------------------------------------------------------------- tests */
static void row_md(const larder_bench_row *r)
{
    char gbs[24] = "", share[24] = "";
    if (r->gbs > 0) snprintf(gbs, sizeof gbs, "%.1f", r->gbs);
    if (r->share > 0) snprintf(share, sizeof share, "%.0f%% of %.1f", r->share * 100, r->limit_gbs);
    printf("| %s | %u | %.1f | (%.1f, %.1f) | %s | %s |\n", r->test, r->n_threads, r->tok_s, r->tok_s_low,
           r->tok_s_high, gbs, share);
}

static void row_csv(const larder_model_info *i, const char *name, const larder_bench_row *r)
{
    printf("\"%s\",%s,%llu,%u,%s,%u,%u,%u,%.3f,%.3f,%.3f,%.3f,%.4f,%.3f\n", name, i->format,
           (unsigned long long)i->n_bytes, r->n_threads, r->test, r->n_tokens, r->depth, r->n_seq, r->tok_s,
           r->tok_s_low, r->tok_s_high, r->gbs, r->share, r->limit_gbs);
}

static void row_json(const larder_bench_result *all, const larder_bench_row *r)
{
    printf("  {\"test\": \"%s\", \"threads\": %u, \"tokens\": %u, \"depth\": %u, \"users\": %u, \"tok_s\": %.3f, "
           "\"tok_s_low\": %.3f, \"tok_s_high\": %.3f, \"gbs\": %.3f, \"share\": %.4f, \"limit_gbs\": %.3f, "
           "\"device\": \"%s\"",
           r->test, r->n_threads, r->n_tokens, r->depth, r->n_seq, r->tok_s, r->tok_s_low, r->tok_s_high, r->gbs,
           r->share, r->limit_gbs, all->planned.device);
}

/* ---------------------------------------------------------------- operators */
static double gbs_of(const larder_bench_op *o) { return o->ms > 0 ? o->bytes / o->ms * 1e-6 : 0; }
static double gops_of(const larder_bench_op *o) { return o->ms > 0 ? o->ops / o->ms * 1e-6 : 0; }

static void ops_md(const larder_bench_result *r)
{
    printf("\nRoofline, measured in between: %.1f GB/s, int8 %.0f, bf16 %.0f, f32 %.0f GOP/s\n", r->read_gbs,
           r->int8_gops, r->bf16_gops, r->f32_gops);
    const char *test = "";
    for (size_t k = 0; k < r->n_ops; k++) {
        const larder_bench_op *o = &r->ops[k];
        if (strcmp(test, o->test))
            printf("\n| %s, a step | times | ms | of the step | MB | GB/s | MOP | GOP/s | of the roofline |\n"
                   "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
                   o->test);
        test = o->test;
        printf("| %s | %.0f | %.3f | %.1f%% | %.2f | %.1f | %.1f | %.0f | ", o->name, o->calls, o->ms,
               o->time_share * 100, o->bytes * 1e-6, gbs_of(o), o->ops * 1e-6, gops_of(o));
        if (o->share > 0) printf("%.0f%% (%s) |\n", o->share * 100, o->memory ? "memory" : "arithmetic");
        else puts("|");
    }
}

static void ops_csv(const char *name, const larder_bench_result *r)
{
    puts("\nmodel,test,operator,calls,ms,time_share,bytes,gbs,ops,gops,share,bound");
    for (size_t k = 0; k < r->n_ops; k++) {
        const larder_bench_op *o = &r->ops[k];
        printf("\"%s\",%s,\"%s\",%.2f,%.4f,%.4f,%.0f,%.3f,%.0f,%.3f,%.4f,%s\n", name, o->test, o->name, o->calls,
               o->ms, o->time_share, o->bytes, gbs_of(o), o->ops, gops_of(o), o->share,
               o->memory ? "memory" : "arithmetic");
    }
}

/* Those of one test, within its object. */
static void ops_json(const larder_bench_result *r, const char *test)
{
    const char *comma = "";
    printf(", \"ops\": [");
    for (size_t k = 0; k < r->n_ops; k++) {
        const larder_bench_op *o = &r->ops[k];
        if (strcmp(o->test, test)) continue;
        printf("%s\n    {\"operator\": \"%s\", \"calls\": %.2f, \"ms\": %.4f, \"time_share\": %.4f, \"bytes\": %.0f, "
               "\"gbs\": %.3f, \"ops\": %.0f, \"gops\": %.3f, \"share\": %.4f, \"bound\": \"%s\"}",
               comma, o->name, o->calls, o->ms, o->time_share, o->bytes, gbs_of(o), o->ops, gops_of(o), o->share,
               o->memory ? "memory" : "arithmetic");
        comma = ",";
    }
    printf("]");
}

static void memory_md(const larder_bench_result *r)
{
    const larder_plan *p = &r->planned, *u = &r->used;
    char a[24], b[24];
    printf("\nOn %s; memory planned %s, used %s", !strcmp(p->device, "cpu") ? "the processor" : p->device,
           cli_bytes(p->n_bytes, a), cli_bytes(u->n_bytes, b));
    if (p->n_card) printf("; of it on the card %s and %s", cli_bytes(p->n_card, a), cli_bytes(u->n_card, b));
    puts("");
}

void bench_print(bench_form f, const larder_model_info *i, const char *name, const larder_bench_result *r)
{
    char size[24];
    if (f == BENCH_JSON) puts("[");
    if (f == BENCH_CSV)
        puts("model,format,bytes,threads,test,tokens,depth,users,tok_s,tok_s_low,tok_s_high,gbs,share,limit_gbs");
    if (f == BENCH_MARKDOWN)
        printf("%s %s, %s, %s\n\n| test | threads | tok/s | (lowest, highest) | GB/s | of reading |\n"
               "| --- | ---: | ---: | ---: | ---: | ---: |\n",
               i->architecture, name, i->format, cli_bytes(i->n_bytes, size));
    for (size_t k = 0; k < r->n_rows; k++) {
        if (f == BENCH_MARKDOWN) row_md(&r->rows[k]);
        if (f == BENCH_CSV) row_csv(i, name, &r->rows[k]);
        if (f != BENCH_JSON) continue;
        row_json(r, &r->rows[k]);
        if (r->n_ops) ops_json(r, r->rows[k].test);
        puts(k + 1 < r->n_rows ? "}," : "}");
    }
    if (f == BENCH_MARKDOWN) memory_md(r);
    if (f == BENCH_JSON) puts("]");
    else if (r->n_ops && f == BENCH_CSV) ops_csv(name, r);
    else if (r->n_ops) ops_md(r);
}
