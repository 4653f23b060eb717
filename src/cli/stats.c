/* stats.c - how fast it was, against what this machine's memory can do, and what memory it took. */
#include "cli.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

uint64_t cli_peak(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
#ifdef __APPLE__
    return (uint64_t)u.ru_maxrss;
#else
    return (uint64_t)u.ru_maxrss * 1024;
#endif
}

int cli_json(const char *verb, json_t *o)
{
    char *text = o ? json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(6) | JSON_ENCODE_ANY) : NULL;
    json_decref(o);
    if (!text) {
        fprintf(stderr, "larder %s: the result could not be written as JSON\n", verb);
        return EXIT_FAILED;
    }
    cli_put_json(stdout, text, strlen(text));
    putchar('\n');
    free(text);
    return EXIT_OK;
}

static double decode_rate(const larder_timing *t)
{
    return t->n_generated > 1 && t->decode_s > 0 ? (t->n_generated - 1) / t->decode_s : 0;
}

static double prefill_rate(const larder_timing *t)
{
    return t->n_prompt > t->n_cached && t->prefill_s > 0 ? (t->n_prompt - t->n_cached) / t->prefill_s : 0;
}

/* Share of the measured read bandwidth of the memory that holds the model; 0: it cannot be told, or there are two. A machine
 * that was never measured is measured now, once. */
static double share(double bytes_per_s, const larder_plan *plan)
{
    larder_probe p;
    larder_card_probe card;
    larder_error err;
    uint32_t n_threads = plan->n_threads;
    if (!strcmp(plan->device, "cuda")) {
        if (larder_probe_card(false, &card, &err) || !(card.read_gbs > 0)) return 0;
        return bytes_per_s / (card.read_gbs * 1e9);
    }
    if (strcmp(plan->device, "cpu") != 0) return 0;
    if (larder_probe_machine(false, &p, cli_progress, "steps", &err)) return 0;
    cli_progress_end();
    double peak = larder_probe_bandwidth(&p, n_threads);
    return peak > 0 ? bytes_per_s / peak : 0;
}

void cli_speed_line(FILE *f, const larder_timing *t, const larder_plan *plan)
{
    double rate = decode_rate(t);
    fprintf(f, "prompt %u tokens", t->n_prompt);
    if (t->n_cached) fprintf(f, " (%u cached)", t->n_cached);
    if (prefill_rate(t) > 0) fprintf(f, ", %.1f tok/s", prefill_rate(t));
    fprintf(f, "; answer %u tokens", t->n_generated);
    if (t->n_accepted) fprintf(f, " (%llu guessed)", (unsigned long long)t->n_accepted);
    if (rate > 0) {
        double bytes = t->decode_bytes / t->decode_s;
        fprintf(f, ", %.1f tok/s, %.1f GB/s", rate, bytes * 1e-9);
        double s = share(bytes, plan);
        const char *which = plan->n_card ? "the card's" : "this";
        if (s > 1.1) fprintf(f, ", more than %s memory reads: the weights lie in caches", which);
        else if (s > 0) fprintf(f, ", %.0f%% of what %s memory reads", s * 100, which);
    }
    fputc('\n', f);
}

static void memory_line(FILE *f, const char *name, uint64_t planned, uint64_t now, const char *note)
{
    char a[24], b[24];
    fprintf(f, "  %-24s %12s %12s%s\n", name, cli_bytes(planned, a), cli_bytes(now, b), note);
}

void cli_stats(FILE *f, const larder_timing *t, const larder_engine *e)
{
    larder_plan plan, now;
    char a[24];
    larder_engine_get_plan(e, &plan);
    larder_engine_get_memory(e, &now); /* before the machine is measured, which takes memory of its own */
    cli_speed_line(f, t, &plan);
    fprintf(f, "prefill %.3f s, decode %.3f s\n\n  %-24s %12s %12s\n", t->prefill_s, t->decode_s, "memory", "planned",
            "used");
    for (uint32_t i = 0; i < plan.n_buffers; i++)
        memory_line(f, plan.buffers[i].name, plan.buffers[i].n_bytes, now.buffers[i].n_bytes,
                    plan.buffers[i].mapped ? "  (mapped file)"
                    : plan.buffers[i].card ? "  (on the card)"
                                           : "");
    memory_line(f, "in all", plan.n_bytes, now.n_bytes, "");
    if (plan.n_card) memory_line(f, "of it on the card", plan.n_card, now.n_card, "");
    memory_line(f, "peak resident", plan.n_peak, now.n_peak, "");
    fprintf(f, "  of %s available", cli_bytes(plan.available, a));
    if (plan.n_card) fprintf(f, ", and %s on the card", cli_bytes(plan.card_available, a));
    fprintf(f, "; planned is for a full context\n");
}

static json_t *buffers_json(const larder_plan *plan)
{
    json_t *o = json_object();
    char name[80];
    for (uint32_t i = 0; i < plan->n_buffers; i++) {
        const larder_buffer *b = &plan->buffers[i];
        snprintf(name, sizeof name, "%s%s", b->card ? "card: " : "", b->name);
        json_object_set_new(o, name, json_integer((json_int_t)b->n_bytes));
    }
    return o;
}

struct json_t *cli_stats_json(const larder_timing *t, const larder_engine *e)
{
    larder_plan p, now;
    const larder_plan *plan = &p;
    larder_engine_get_plan(e, &p);
    larder_engine_get_memory(e, &now);
    double bytes = t->decode_s > 0 ? t->decode_bytes / t->decode_s : 0;
    return json_pack(
        "{s:i,s:i,s:i,s:f,s:f,s:f,s:f,s:f,s:f,s:i,s:i,s:o,s:o,s:I,s:I,s:I,s:s,s:I}", "n_prompt", (int)t->n_prompt,
        "n_cached", (int)t->n_cached, "n_generated", (int)t->n_generated, "prefill_s", t->prefill_s, "decode_s",
        t->decode_s, "prefill_tok_s", prefill_rate(t), "decode_tok_s", decode_rate(t), "decode_gbs", bytes * 1e-9,
        "bandwidth_share", bytes > 0 ? share(bytes, plan) : 0.0, "n_threads", (int)plan->n_threads, "n_ctx",
        (int)plan->n_ctx, "planned_bytes", buffers_json(plan), "used_bytes", buffers_json(&now), "planned_total",
        (json_int_t)plan->n_bytes, "planned_peak", (json_int_t)plan->n_peak, "peak_resident", (json_int_t)now.n_peak,
        "device", plan->device, "planned_card", (json_int_t)plan->n_card);
}
