/* perplexity.c - `larder perplexity`: how well a model predicts a text. */
#include "cli.h"

#include <stdlib.h>

int verb_perplexity(int argc, char **argv)
{
    cli_model m;
    bool json = false;
    uint64_t max_tokens = 0;
    cli_model_init(&m);
    arg_table t = {
        .verb = "perplexity",
        .usage = "MODEL FILE [options]",
        .min_words = 2,
        .max_words = 2,
        .about =
            "Perplexity of a text file (- for standard input): windows of --ctx tokens (default 512), each begun "
            "anew,\n"
            "the second half of each scored. Lower is better; compare only figures of the same file and context."};
    const arg own[] = {{"tokens", 0, ARG_U64, &max_tokens, "N", "only the text's first N tokens", 0},
                       {"json", 0, ARG_FLAG, &json, NULL, "as JSON", 0}};
    arg_add(&t, own, 2);
    cli_engine_args(&t, &m, "tokens of a window (default 512)");
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;
    larder_error err = {0};
    larder_ppl p;
    size_t n;
    cli_catch_interrupt(true);
    char *text = cli_read_all("perplexity", argv[first + 1], (size_t)1 << 30, &n);
    if (!text) return cli_interrupted() ? EXIT_INTERRUPTED : EXIT_FAILED;
    status = cli_model_open("perplexity", &m, argv[first]);
    if (!status && larder_perplexity(m.model, &m.engine, text, n, max_tokens, &p, cli_progress, "tok", &err))
        status = cli_fail("perplexity", &err);
    cli_progress_end();
    if (!status && json)
        printf("{\"perplexity\": %.6f, \"error\": %.6f, \"scored\": %llu, \"windows\": %u, \"window\": %u}\n", p.ppl,
               p.error, (unsigned long long)p.n_scored, p.n_window, p.window);
    else if (!status)
        printf("perplexity %.4f +/- %.4f (%llu tokens scored in %u windows of %u)\n", p.ppl, p.error,
               (unsigned long long)p.n_scored, p.n_window, p.window);
    free(text);
    cli_model_close(&m);
    return status;
}
