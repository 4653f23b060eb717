/* lab.c - `larder lab`: prove this box. */
#include "cli.h"

static void print_text(const larder_lab *l)
{
    printf(
        "vector add, 10,000,000 floats, 3 streams, 100 times: %.1f GB/s, %.0f%% of the %.1f GB/s this memory reads\n",
        l->add_gbs, 100 * l->add_gbs / l->read_gbs, l->read_gbs);
    printf("  (a processor reads what it is about to write, so a quarter more crosses the bus than is counted)\n");
    if (l->decode_tok_s > 0)
        printf("decode: %.1f tok/s, %.0f%% of the ceiling of %.1f that bytes over bandwidth allow\n", l->decode_tok_s,
               100 * l->decode_tok_s / l->decode_ceiling, l->decode_ceiling);
    printf("software found: %s\n", l->software[0] ? l->software : "none that larder knows");
}

int verb_lab(int argc, char **argv)
{
    bool json = false;
    arg_table t = {.verb = "lab",
                   .usage = "[options] [MODEL]",
                   .max_words = 1,
                   .about = "The exercises with which people prove a box: a vector add and its share of the memory's "
                            "speed, one decode\n"
                            "run of MODEL against its ceiling, and what software is there."};
    const arg own[] = {{"json", 0, ARG_FLAG, &json, NULL, "as JSON", 0}};
    arg_add(&t, own, 1);
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;
    larder_error err = {0};
    larder_model *model = NULL;
    larder_lab lab;
    cli_catch_interrupt(true);
    if (first < argc && larder_model_open(argv[first], &model, &err)) return cli_fail("lab", &err);
    larder_status st = larder_lab_run(model, &lab, cli_progress, "steps", &err);
    cli_progress_end();
    larder_model_free(model);
    if (st) return cli_fail("lab", &err);
    if (json)
        printf("{\"add_gbs\": %.3f, \"read_gbs\": %.3f, \"decode_tok_s\": %.3f, \"decode_ceiling\": %.3f, "
               "\"software\": \"%s\"}\n",
               lab.add_gbs, lab.read_gbs, lab.decode_tok_s, lab.decode_ceiling, lab.software);
    else print_text(&lab);
    return EXIT_OK;
}
