/* probe.c - `larder probe`: what this machine can do. */
#include "cli.h"

#include <jansson.h>
#include <time.h>

static void print_table(const larder_probe *p, const larder_kernels *k)
{
    char a[24], b[24], c[24], d[24];
    printf("%s\n%u cores, %u threads, %u NUMA node%s; %s\n", p->cpu, p->n_core, p->n_thread, p->n_numa,
           p->n_numa == 1 ? "" : "s", p->isa);
    printf("memory %s; L1d %s, L2 %s per core, L3 %s\n\n", cli_bytes(p->memory, a), cli_bytes(p->l1d, b),
           cli_bytes(p->l2, c), cli_bytes(p->l3, d));
    for (uint32_t i = 0; i < p->n_measured; i++)
        printf("read, %2u thread%s     %8.1f GB/s\n", p->n_threads[i], p->n_threads[i] == 1 ? " " : "s",
               p->read_gbs[i]);
    printf("int8, one core      %8.0f GOP/s\n", p->int8_gops);
    if (p->bf16_gflops > 0) printf("bf16, one core      %8.0f GFLOP/s\n", p->bf16_gflops);
    printf("f32, one core       %8.0f GFLOP/s\n", p->f32_gflops);
    if (p->disk_gbs > 0) printf("disk, cold read     %8.2f GB/s\n", p->disk_gbs);
    printf("\nlarder's kernels    one token    of 512   (memory read %.1f GB/s meanwhile)\n", k->bandwidth * 1e-9);
    for (uint32_t i = 0; i < k->n_formats; i++)
        printf("%-12s    %8.1f GB/s %6.0f GOP/s\n", k->formats[i].format, k->formats[i].read_gbs, k->formats[i].gops);
}

static void print_card(const larder_card_probe *c)
{
    char a[24];
    printf("\n%s, generation %s, %s%s\n", c->card.name, c->card.generation, cli_bytes(c->card.n_bytes, a),
           c->card.shared ? " of the system's memory" : "");
    printf("read                %8.1f GB/s\n", c->read_gbs);
    printf("bf16                %8.0f GFLOP/s\n", c->bf16_gflops);
    printf("to the card, back   %8.1f GB/s %6.1f GB/s\n", c->in_gbs, c->out_gbs);
}

static json_t *card_json(const larder_card_probe *c)
{
    return json_pack("{s:s,s:s,s:I,s:b,s:f,s:f,s:f,s:f,s:I}", "name", c->card.name, "generation", c->card.generation,
                     "memory", (json_int_t)c->card.n_bytes, "shared", c->card.shared, "read_gbs", c->read_gbs,
                     "bf16_gflops", c->bf16_gflops, "in_gbs", c->in_gbs, "out_gbs", c->out_gbs, "when",
                     (json_int_t)c->when);
}

static int print_json(const larder_probe *p, const larder_kernels *k, const larder_card_probe *c)
{
    json_t *reads = json_array();
    for (uint32_t i = 0; i < p->n_measured; i++)
        json_array_append_new(reads, json_pack("{s:i,s:f}", "threads", (int)p->n_threads[i], "gbs", p->read_gbs[i]));
    json_t *kernels = json_object();
    for (uint32_t i = 0; i < k->n_formats; i++)
        json_object_set_new(kernels, k->formats[i].format,
                            json_pack("{s:f,s:f}", "read_gbs", k->formats[i].read_gbs, "gops", k->formats[i].gops));
    json_t *o = json_pack("{s:s,s:s,s:i,s:i,s:i,s:I,s:I,s:I,s:I,s:o,s:f,s:f,s:f,s:f,s:I,s:f,s:o}", "cpu", p->cpu,
                          "isa", p->isa, "cores", (int)p->n_core, "threads", (int)p->n_thread, "numa", (int)p->n_numa,
                          "memory", (json_int_t)p->memory, "l1d", (json_int_t)p->l1d, "l2", (json_int_t)p->l2, "l3",
                          (json_int_t)p->l3, "read", reads, "int8_gops", p->int8_gops, "bf16_gflops", p->bf16_gflops,
                          "f32_gflops", p->f32_gflops, "disk_gbs", p->disk_gbs, "when", (json_int_t)p->when,
                          "kernels_gbs", k->bandwidth * 1e-9, "kernels", kernels);
    if (c) json_object_set_new(o, "card", card_json(c));
    return cli_json("probe", o);
}

int verb_probe(int argc, char **argv)
{
    bool json = false, fresh = false;
    arg_table t = {
        .verb = "probe",
        .usage = "[options]",
        .about = "Measures this machine: read bandwidth by threads, arithmetic of one core, the disk, and how fast\n"
                 "larder's kernels are in each number format; a graphics card's memory, matrix units and way. The "
                 "result is kept; every speed larder prints is\n"
                 "compared with it, and plans of this machine are made from it. A minute or two, best while nothing "
                 "else runs."};
    const arg own[] = {{"json", 0, ARG_FLAG, &json, NULL, "as JSON", 0},
                       {"fresh", 0, ARG_FLAG, &fresh, NULL, "measure again", 0}};
    arg_add(&t, own, 2);
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;
    larder_probe p;
    larder_error err = {0};
    cli_catch_interrupt(true);
    larder_kernels k;
    if (larder_probe_machine(fresh, &p, cli_progress, "steps", &err)) return cli_fail("probe", &err);
    if (larder_probe_kernels(fresh, &k, cli_progress, "steps", &err)) return cli_fail("probe", &err);
    cli_progress_end();
    larder_card_probe card;
    larder_status st = larder_probe_card(fresh, &card, &err);
    if (st && st != LARDER_NOT_FOUND) cli_note("larder probe: the card is not measured: %s", err.message);
    if (json) return print_json(&p, &k, st ? NULL : &card);
    print_table(&p, &k);
    if (!st) print_card(&card);
    return EXIT_OK;
}
