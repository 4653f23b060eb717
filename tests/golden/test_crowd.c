/* test_crowd.c - 200 different requests, each alone and then all at once: the same tokens, every one.
 *
 * At once means: arriving at random steps from several clients with priorities, some cancelled and some with a deadline on
 * their way, in a cache so small that they are preempted and swapped all the time. Who ends early has said the beginning of
 * what it says alone.
 */
#include "base.h"
#include "engine.h"
#include "golden.h"

#include "teller.inc"

enum { MOST = 200, CTX = 320, CACHE = 640, PLACES = 12 };

typedef struct ask {
    int32_t ids[256];
    larder_request_options o;
    int32_t bias_ids[2];
    float bias[2];
    uint32_t at, leaves_after; /* the step it comes at; tokens after which its client goes, 0: stays */
    answer alone, crowd;
    larder_request *r;
} ask;

static ask asks[MOST];
static larder_grammar *grammars[2];

static void fill_sampling(larder_sampling *s)
{
    s->seed = test_random();
    s->temperature = test_random() % 3 ? test_uniform(0.5f, 1.5f) : 0;
    if (test_random() % 3 == 0) s->repeat_penalty = 1.2f;
    if (test_random() % 4 == 0) s->frequency_penalty = 0.3f;
    if (test_random() % 5 == 0) s->dry_multiplier = 0.8f;
    if (test_random() % 5 == 0) s->xtc_probability = 0.5f;
    if (test_random() % 6 == 0) s->mirostat_tau = 4;
    if (test_random() % 6 == 0) s->top_k = 0;
}

/* Some begin alike: slices of one story, with a few tokens of their own at the end. */
static void fill(ask *a, const larder_model *m, uint32_t n_ask)
{
    uint32_t n = 1 + (uint32_t)(test_random() % 240), own = 1 + (uint32_t)(test_random() % 8),
             from = test_random() % 2 ? 0 : (uint32_t)(test_random() % 30);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = from + i;
        a->ids[i] = at < LR_LEN(teller_ids) ? teller_ids[at] : teller_greedy[(at - LR_LEN(teller_ids)) % 100];
        if (i + own >= n) a->ids[i] = (int32_t)(test_random() % vocab_of(m));
    }
    a->o = larder_request_defaults();
    a->o.ids = a->ids;
    a->o.n_ids = n;
    a->o.max_tokens = 1 + (uint32_t)(test_random() % 60);
    a->o.ignore_eos = test_random() % 2;
    a->o.on_event = keep_answer;
    fill_sampling(&a->o.sampling);
    if (test_random() % 4 == 0) {
        a->o.sampling.n_bias = 2;
        a->o.sampling.bias_ids = a->bias_ids;
        a->o.sampling.bias = a->bias;
        a->bias_ids[0] = teller_greedy[0];
        a->bias_ids[1] = (int32_t)(test_random() % vocab_of(m));
        a->bias[0] = -INFINITY;
        a->bias[1] = 3;
    }
    if (test_random() % 6 == 0) a->o.grammar = grammars[test_random() % 2];
    a->o.client = test_random() % 4;
    a->o.priority = (int32_t)(test_random() % 5) - 2;
    a->o.cache_salt = test_random() % 4 ? NULL : "another";
    a->at = (uint32_t)(test_random() % n_ask);
    if (test_random() % 7 == 0) a->leaves_after = 1 + (uint32_t)(test_random() % 20);
}

static void run_alone(larder_model *m, uint32_t n)
{
    larder_error err;
    larder_engine_options o = options_of(CTX, LARDER_ACT_AUTO, LARDER_KV_F16);
    o.no_prefix_cache = true;
    o.speculate = LARDER_SPECULATE_OFF;
    larder_engine *e = open_engine(m, &o);
    for (uint32_t i = 0; i < n; i++) {
        asks[i].o.user = &asks[i].alone;
        CHECK_OK(larder_submit(e, &asks[i].o, &asks[i].r, &err));
        CHECK_OK(larder_wait(e, asks[i].r, &err));
        larder_request_free(asks[i].r);
        asks[i].r = NULL;
    }
    larder_engine_free(e);
}

static bool keep_and_leave(void *user, larder_request *r, const larder_event *ev)
{
    ask *a = user;
    keep_answer(&a->crowd, r, ev);
    return !a->leaves_after || a->crowd.n < a->leaves_after;
}

static void compare(const ask *a, uint32_t i)
{
    const answer *x = &a->crowd, *y = &a->alone;
    bool whole = x->finish != LARDER_FINISH_CANCELLED && x->finish != LARDER_FINISH_DEADLINE;
    if (x->n > y->n || memcmp(x->ids, y->ids, x->n * sizeof *x->ids)) TEST_FAIL("request %u: other tokens", i);
    if (!whole) return;
    if (x->n != y->n || x->finish != y->finish) TEST_FAIL("request %u: %u tokens, not %u", i, x->n, y->n);
    CHECK(x->n_text == y->n_text && !memcmp(x->text, y->text, x->n_text));
}

static void run_crowd(larder_model *m, uint32_t n, larder_engine_options o, larder_engine_stats *s)
{
    larder_error err;
    larder_engine *e = open_engine(m, &o);
    bool busy = true;
    e->draft_anyway = true;
    for (uint32_t i = 0; i < n; i++) memset(&asks[i].crowd, 0, sizeof asks[i].crowd);
    for (uint32_t step = 0; busy || step <= MOST; step++) {
        for (uint32_t i = 0; i < n; i++) {
            if (asks[i].at != step) continue;
            asks[i].o.user = &asks[i];
            asks[i].o.on_event = keep_and_leave;
            asks[i].o.deadline_s = i % 20 == 7 ? 0.05 : 0;
            CHECK_OK(larder_submit(e, &asks[i].o, &asks[i].r, &err));
        }
        if (step % 50 == 49) { /* a client that goes between steps */
            ask *a = &asks[test_random() % n];
            if (a->r && a->crowd.finish == LARDER_FINISH_NONE) a->crowd.finish = LARDER_FINISH_CANCELLED;
            larder_request_free(a->r);
            a->r = NULL;
        }
        CHECK_OK(larder_step(e, &busy, &err));
        CHECK(step < 100000);
    }
    larder_engine_get_stats(e, s);
    for (uint32_t i = 0; i < n; i++) {
        larder_request_free(asks[i].r);
        asks[i].r = NULL;
        compare(&asks[i], i);
    }
    CHECK_EQ_INT(s->n_block_used, 0);
    printf("%llu steps, %llu preempted, %llu out, %llu in, %llu lost of a swap of %u; %llu of %llu prompt tokens "
           "cached, "
           "%llu computed again, %llu expired; %llu drafted, %llu right\n",
           (unsigned long long)s->n_steps, (unsigned long long)s->n_preempted, (unsigned long long)s->n_swap_out,
           (unsigned long long)s->n_swap_in, (unsigned long long)s->n_swap_lost, s->n_swap,
           (unsigned long long)s->n_prompt_cached, (unsigned long long)s->n_prompt,
           (unsigned long long)s->n_recomputed, (unsigned long long)s->n_expired, (unsigned long long)s->n_drafted,
           (unsigned long long)s->n_accepted);
    larder_engine_free(e);
}

TEST_TIME(alone_and_all_at_once, 240)
{
    static const char regex[] = "[A-Z][a-z]+( [a-z]+)*\\.";
    static const char json[] = "{\"type\":\"object\",\"properties\":{\"who\":{\"type\":\"string\"},\"old\":{\"type\":"
                               "\"integer\"}},\"required\":[\"who\",\"old\"]}";
    larder_error err;
    larder_engine_stats s;
    uint32_t n = test_quick() ? 40 : MOST;
    bool all = getenv("LARDER_FULL") != NULL;
    larder_model *m = open_model(BOXED_MODEL), *draft = converted(BOXED_MODEL, "Q4_0");
    CHECK_OK(larder_grammar_compile(m, LARDER_GRAMMAR_JSON_SCHEMA, json, sizeof json - 1, &grammars[0], &err));
    CHECK_OK(larder_grammar_compile(m, LARDER_GRAMMAR_REGEX, regex, sizeof regex - 1, &grammars[1], &err));
    for (uint32_t i = 0; i < n; i++) fill(&asks[i], m, n);
    run_alone(m, n);
    larder_engine_options o = options_of(CTX, LARDER_ACT_AUTO, LARDER_KV_F16);
    o.n_threads = 2;
    o.n_batch = 64;
    o.n_seq = PLACES;
    o.n_cache = CACHE;
    o.swap_bytes = 4 << 20;
    o.draft = draft;
    run_crowd(m, n, o, &s);
    CHECK(s.n_preempted > n / 10 && s.n_swap_out > n / 10 && s.n_swap_in > n / 20 && s.n_accepted > 0);
    o.swap_bytes = 0; /* what gave way is computed again */
    o.n_mixed = 17;
    n = all || test_quick() ? n : n / 4;
    o.speculate = LARDER_SPECULATE_NGRAM;
    run_crowd(m, n, o, &s);
    CHECK(s.n_preempted > 0 && s.n_recomputed > 0 && !s.n_swap_out);
    o.no_prefix_cache = true;
    o.speculate = LARDER_SPECULATE_OFF;
    run_crowd(m, n, o, &s);
    CHECK(s.n_preempted > 0 && !s.n_prompt_cached && !s.n_drafted);
    for (int i = 0; i < 2; i++) larder_grammar_free(grammars[i]);
    larder_model_free(m);
    larder_model_free(draft);
}
