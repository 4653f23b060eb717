/* plan.c - `larder plan`: what a model would do on a machine. */
#include "cli.h"
#include "plan_ask.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool set_number(void *to, const char *text)
{
    double v;
    if (!cli_plan_number(text, &v) || v <= 0) return false;
    *(double *)to = v;
    return true;
}

/* Tokens or users: "8192", "8k". */
static bool set_count(void *to, const char *text)
{
    double v;
    if (!cli_plan_number(text, &v) || v < 0 || v > UINT32_MAX || v != floor(v)) return false;
    *(uint32_t *)to = (uint32_t)v;
    return true;
}

static bool set_kv(void *to, const char *text)
{
    larder_plan_ask *ask = to;
    const char *name = !strcmp(text, "q8") ? "q8_0" : !strcmp(text, "q4") ? "q4_0" : text;
    return ask->kv_given = cli_kv(name, &ask->kv);
}

static int show(larder_status st, char *text, const larder_error *err)
{
    cli_progress_end();
    if (st || !text) return cli_fail("plan", err);
    fputs(text, stdout);
    larder_free(text);
    return EXIT_OK;
}

int verb_plan(int argc, char **argv)
{
    larder_plan_ask ask = {.progress = cli_progress, .user = "steps"};
    const char *score = NULL, *by = NULL;
    bool rank = false, cross = false, fit = false;
    arg_table t = {
        .verb = "plan",
        .usage = "[options] MODEL",
        .max_words = 1,
        .about = "Before loading, downloading or buying: whether a model fits, how fast it answers, for how many, "
                 "with how many\n"
                 "watts, and what limits it - here or on any machine of the catalogue. MODEL is a name people use\n"
                 "(llama-3.1-8b, qwen3-30b-a3b:Q8_0), a file, a folder or a config.json.",
        .examples = "  larder plan llama-3.3-70b --on dgx-spark,\"M4 Max 40c 128GB\",\"2x RTX 4090\"\n"
                    "  larder plan gpt-oss-120b --rank --by tok-per-dollar\n"
                    "  larder plan llama-3.1-8b --on rtx-4090 --why\n"
                    "  larder plan llama-3.1-8b --on dgx-spark --simulate --rate 2 --parallel 16\n"
                    "  larder plan --score rows.csv --json"};
    const arg own[] = {
        {"on", 0, ARG_STR, &ask.on, "MACHINES",
         "names parted by commas; this: the machine you are on, card: its graphics card (default: both)", 0},
        {"format", 'f', ARG_STR, &ask.format, "F", "number format of a named model (default Q4_K_M)", 0},
        {"ctx", 'c', ARG_CALL, &ask.n_ctx, "N", "context to plan for (default: the largest that fits)", set_count},
        {"users", 'u', ARG_CALL, &ask.n_users, "N", "sequences decoded together", set_count},
        {"prompt", 'p', ARG_CALL, &ask.n_prompt, "N", "length of the prompt (default 2048)", set_count},
        {"workload", 'w', ARG_STR, &ask.workload, "JOB",
         "in place of a model: chat, chat-70b, serve:20, agent, rag, batch, lora, pretrain, image, voice, "
         "simulation-bandwidth, simulation-compute, all",
         0},
        {"advise", 0, ARG_FLAG, &ask.advise, NULL,
         "which machine to run MODEL on, or to buy for it, and why ('larder plan' alone asks for all of it)", 0},
        {"stay", 0, ARG_FLAG, &ask.stay, NULL, "with --advise: only the machine you are on", 0},
        {"buy", 0, ARG_FLAG, &ask.leave, NULL, "with --advise: only machines to buy", 0},
        {"max-price", 0, ARG_CALL, &ask.max_price, "USD", "with --workload, --advise: machines up to this price",
         set_number},
        {"max-watts", 0, ARG_CALL, &ask.max_watts, "W", "with them: machines that take no more under load",
         set_number},
        {"kv", 0, ARG_CALL, &ask, "f16|f32|q8_0|q4_0", "numbers of the KV cache (default f16; here what fits)",
         set_kv},
        {"backend", 0, ARG_STR, &ask.backend, "B", "what runs it: \"llama.cpp Vulkan\", vLLM, ...", 0},
        {"rank", 0, ARG_FLAG, &rank, NULL, "all machines of the catalogue, best first", 0},
        {"by", 0, ARG_STR, &by, "WHAT", "speed, capacity, price, watts, tok-per-dollar, gb-per-dollar", 0},
        {"why", 0, ARG_FLAG, &ask.why, NULL, "the derivation, line by line", 0},
        {"timeline", 0, ARG_FLAG, &ask.timeline, NULL, "what each layer waits for: which memory, PCIe, the link", 0},
        {"what-if", 0, ARG_STR, &ask.what_if, "LIST", "another machine: bandwidth=546,memory=256", 0},
        {"chart", 0, ARG_FLAG, &ask.chart, NULL, "tok/s against context, in letters", 0},
        {"plot", 0, ARG_STR, &ask.svg, "FILE", "roofline and tok/s against context of the first machine, as SVG", 0},
        {"watts", 0, ARG_CALL, &ask.watts, "W", "with a power cap", set_number},
        {"kwh", 0, ARG_CALL, &ask.kwh, "USD", "price of a kWh (default 0.30)", set_number},
        {"elsewhere", 0, ARG_CALL, &ask.elsewhere, "USD",
         "price of a million tokens elsewhere: when the box pays for itself", set_number},
        {"simulate", 0, ARG_FLAG, &ask.simulate, NULL,
         "serving: the scheduler of serve under a load, over predicted steps: throughput, TTFT, TPOT, queue, cache",
         0},
        {"rate", 0, ARG_CALL, &ask.rate, "R", "of it: requests a second, Poisson (default: --users in turn)",
         set_number},
        {"trace", 0, ARG_STR, &ask.trace, "FILE", "of it: lines of seconds,prompt,answer", 0},
        {"prompts", 0, ARG_STR, &ask.prompts, "DIST", "of it: lengths, as bench serve has them (lognormal:512,0.7)",
         0},
        {"answers", 0, ARG_STR, &ask.answers, "DIST", "of it: lengths (exp:128)", 0},
        {"requests", 0, ARG_U32, &ask.n_requests, "N", "of it: how many (default 400)", 0},
        {"parallel", 0, ARG_U32, &ask.n_parallel, "N", "of it: answers made at once, as serve's (default 8)", 0},
        {"software", 0, ARG_FLAG, &ask.software, NULL,
         "in place of a model: which software runs on which family of machine", 0},
        {"score", 0, ARG_STR, &score, "ROWS", "predict measured rows of a table, and the errors", 0},
        {"cross", 0, ARG_FLAG, &cross, NULL, "with --score: fit to those rows, whole machines left out in turn", 0},
        {"fit", 0, ARG_FLAG, &fit, NULL, "with --score: print the fit (script/fit)", 0},
        {"json", 0, ARG_FLAG, &ask.json, NULL, "as JSON", 0},
    };
    arg_add(&t, own, sizeof own / sizeof own[0]);
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;
    if (ask.stay && ask.leave) {
        fprintf(stderr, "larder plan: --stay and --buy leave no machine; one of them, or neither\n");
        return EXIT_USAGE;
    }
    larder_error err = {0};
    char *text = NULL;
    if (score) {
        int how = (ask.json ? LARDER_SCORE_JSON : 0) | (cross ? LARDER_SCORE_CROSS : 0) |
                  (fit ? LARDER_SCORE_FIT : 0);
        larder_status st = larder_plan_score(score, (larder_score_how)how, &text, &err);
        return show(st, text, &err);
    }
    plan_answers answers;
    bool other = rank || by || ask.on || ask.why || ask.timeline || ask.chart || ask.svg || ask.simulate;
    bool asked = first >= argc && !ask.workload && !ask.software && !other;
    if (first >= argc && !ask.workload && !ask.software && (other || !cli_plan_ask(&ask, &answers))) {
        fprintf(stderr, "larder plan: which model? (larder plan --help)\n");
        return EXIT_USAGE;
    }
    if (first < argc) ask.model = argv[first];
    if (rank || by) ask.rank_by = by ? by : "speed";
    larder_status st = larder_plan_text(&ask, &text, &err);
    status = show(st, text, &err);
    if (asked && !status) cli_plan_repeat(&ask);
    return status;
}
