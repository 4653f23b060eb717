/* perplexity.c - `larder perplexity`: how well a model predicts a text. */
#include "cli.h"

#include <stdlib.h>

/* `against`: what it was compared with; NULL: nothing. `key`: its perplexity's in JSON. */
static void print(const larder_ppl *p, const char *against, const char *key, bool json)
{
    unsigned long long n = p->n_scored;
    if (json) {
        printf("{\"perplexity\": %.6f, \"error\": %.6f, \"scored\": %llu, \"windows\": %u, \"window\": %u", p->ppl,
               p->error, n, p->n_window, p->window);
        if (against)
            printf(", \"against\": \"%s\", \"%s\": %.6f, \"kl\": %.8f, \"kl_p99\": %.8f, \"same_top\": %.6f", against,
                   key, p->reference_ppl, p->kl, p->kl_p99, p->same_top);
        puts("}");
        return;
    }
    printf("perplexity %.4f +/- %.4f (%llu tokens scored in %u windows of %u)\n", p->ppl, p->error, n, p->n_window,
           p->window);
    if (against)
        printf("with %s %.4f; from it KL %.6f nats per token (99th percentile %.4f), the same first choice in "
               "%.2f%%\n",
               against, p->reference_ppl, p->kl, p->kl_p99, p->same_top * 100);
}

int verb_perplexity(int argc, char **argv)
{
    cli_model m;
    bool json = false, kl = false, kl_act = false;
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
                       {"kl", 0, ARG_FLAG, &kl, NULL,
                        "and how far --kv is from the default cache: mean KL divergence, same first choices", 0},
                       {"kl-act", 0, ARG_FLAG, &kl_act, NULL,
                        "and how far --act is from float32 activations, with the same cache", 0},
                       {"json", 0, ARG_FLAG, &json, NULL, "as JSON", 0}};
    arg_add(&t, own, 4);
    cli_engine_args(&t, &m, "tokens of a window (default 512)");
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;
    if (kl_act && (m.exact || m.engine.act == LARDER_ACT_F32)) {
        fprintf(stderr, "larder perplexity: --kl-act compares with float32 activations; %s has nothing else\n",
                m.exact ? "--exact" : "--act f32");
        return EXIT_USAGE;
    }
    larder_error err = {0};
    larder_ppl p;
    size_t n;
    cli_catch_interrupt(true);
    char *text = cli_read_all("perplexity", argv[first + 1], (size_t)1 << 30, &n);
    if (!text) return cli_interrupted() ? EXIT_INTERRUPTED : EXIT_FAILED;
    status = cli_model_open("perplexity", &m, argv[first]);
    larder_engine_options usual = m.engine;
    if (kl) usual.kv = LARDER_KV_AUTO;
    if (kl_act) usual.act = LARDER_ACT_F32;
    if (!status && larder_perplexity(m.model, &m.engine, kl || kl_act ? &usual : NULL, text, n, max_tokens, &p,
                                     cli_progress, "tok", &err))
        status = cli_fail("perplexity", &err);
    cli_progress_end();
    const char *against = kl && kl_act ? "the default cache and float32 activations"
                          : kl_act     ? "float32 activations"
                                       : "the default cache";
    const char *key = kl_act ? "reference_perplexity" : "default_perplexity";
    if (!status) print(&p, kl || kl_act ? against : NULL, key, json);
    free(text);
    cli_model_close(&m);
    return status;
}
