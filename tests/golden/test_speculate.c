/* test_speculate.c - drafting changes when tokens come, never which: greedy and sampled, with penalties, grammars and log
 * probabilities, from the text itself and from a draft model, a good one and a bad one. And it stops where it does not pay.
 */
#include "base.h"
#include "engine.h"
#include "golden.h"

#include "teller.inc"

enum { N_GEN = 90 };

/* A text that repeats itself, so that looking it up helps. */
static uint32_t repeated(int32_t *ids, uint32_t most)
{
    uint32_t n = 0;
    while (n + LR_LEN(teller_ids) + 40 <= most) {
        memcpy(ids + n, teller_ids, sizeof teller_ids);
        n += LR_LEN(teller_ids);
        memcpy(ids + n, teller_greedy, 40 * sizeof *ids);
        n += 40;
    }
    return n;
}

static void ask_for(larder_engine *e, const larder_request_options *with, answer *a)
{
    larder_error err;
    larder_request *r;
    larder_request_options o = *with;
    memset(a, 0, sizeof *a);
    o.on_event = keep_answer;
    o.user = a;
    CHECK_OK(larder_submit(e, &o, &r, &err));
    CHECK_OK(larder_wait(e, r, &err));
    larder_request_get_timing(r, &a->timing);
    larder_request_free(r);
}

static void same(const answer *got, const answer *want, const char *what)
{
    if (got->n != want->n || memcmp(got->ids, want->ids, got->n * sizeof *got->ids))
        TEST_FAIL("%s: other tokens", what);
    CHECK_EQ_INT(got->finish, want->finish);
    CHECK(got->n_text == want->n_text && !memcmp(got->text, want->text, got->n_text));
}

static larder_engine *engine_with(larder_model *m, larder_speculate how, larder_model *draft)
{
    larder_engine_options o = options_of(512, LARDER_ACT_AUTO, LARDER_KV_F16);
    o.speculate = how;
    o.draft = draft;
    larder_engine *e = open_engine(m, &o);
    e->draft_anyway = true;
    return e;
}

/* Every kind of request on four engines. */
static void check_all(larder_model *m, larder_model *good, larder_model *bad)
{
    static int32_t ids[256];
    static const char json[] = "{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":8}";
    larder_error err;
    larder_grammar *g;
    uint32_t n_ids = repeated(ids, LR_LEN(ids));
    larder_engine *plain = engine_with(m, LARDER_SPECULATE_OFF, NULL), *e[3];
    e[0] = engine_with(m, LARDER_SPECULATE_AUTO, NULL);
    e[1] = engine_with(m, LARDER_SPECULATE_AUTO, good);
    e[2] = engine_with(m, LARDER_SPECULATE_AUTO, bad);
    CHECK_OK(larder_grammar_compile(m, LARDER_GRAMMAR_JSON_SCHEMA, json, sizeof json - 1, &g, &err));
    for (int i = 0; i < 8; i++) {
        larder_request_options o = larder_request_defaults();
        answer want, got;
        o.ids = ids;
        o.n_ids = i == 7 ? 1 : n_ids;
        o.max_tokens = N_GEN;
        o.ignore_eos = i != 5;
        o.sampling.seed = (uint64_t)i;
        o.sampling.temperature = i % 2 ? 1.0f : 0;
        if (i >= 2) o.sampling.repeat_penalty = 1.1f;
        if (i == 3) o.sampling.dry_multiplier = 0.8f;
        if (i == 4) o.grammar = g;
        if (i == 5) o.sampling.mirostat_tau = 3;
        if (i == 6) o.logprobs = true;
        ask_for(plain, &o, &want);
        CHECK_EQ_U64(want.timing.n_drafted, 0);
        for (int k = 0; k < 3; k++) {
            char what[64];
            snprintf(what, sizeof what, "request %d, engine %d", i, k);
            ask_for(e[k], &o, &got);
            same(&got, &want, what);
            printf("%s: %u tokens, %llu drafted, %llu right\n", what, got.n, (unsigned long long)got.timing.n_drafted,
                   (unsigned long long)got.timing.n_accepted);
        }
        o.speculate = LARDER_SPECULATE_OFF;
        ask_for(e[1], &o, &got);
        same(&got, &want, "off by request");
        CHECK_EQ_U64(got.timing.n_drafted, 0);
    }
    for (int k = 0; k < 3; k++) {
        larder_engine_stats s;
        larder_engine_get_stats(e[k], &s);
        CHECK(s.n_drafted > 100 && s.n_accepted > 10 && s.n_accepted < s.n_drafted);
        CHECK(k != 1 || s.n_accepted * 3 > s.n_drafted);
        larder_engine_free(e[k]);
    }
    larder_engine_free(plain);
    larder_grammar_free(g);
}

TEST_TIME(the_same_answers, 120)
{
    larder_model *m = open_model(BOXED_MODEL), *good = converted(BOXED_MODEL, "Q4_0"),
                 *bad = converted(BOXED_MODEL, "Q2_K");
    check_all(m, good, bad);
    larder_model_free(m);
    larder_model_free(good);
    larder_model_free(bad);
}

TEST(another_vocabulary_is_refused)
{
    larder_error err;
    larder_model *m = open_model(BOXED_MODEL), *other = open_model(test_shared("golden/llama"));
    larder_engine_options o = options_of(128, LARDER_ACT_AUTO, LARDER_KV_F16);
    larder_engine *e;
    o.draft = other;
    CHECK_STATUS(larder_engine_open(m, &o, &e, &err), LARDER_UNSUPPORTED);
    CHECK(strstr(err.message, "draft"));
    larder_model_free(m);
    larder_model_free(other);
}

/* ---------------------------------------------------------------- the parts */
TEST(a_text_is_continued_as_it_went_on_before)
{
    int32_t ids[] = {1, 2, 3, 4, 5, 9, 2, 3, 4}, out[8];
    CHECK_EQ_INT(lr_ngram_draft(ids, 9, 3, out), 3);
    CHECK(out[0] == 5 && out[1] == 9 && out[2] == 2);
    CHECK_EQ_INT(lr_ngram_draft(ids, 8, 3, out), 0); /* 9 2 3 came once */
    CHECK_EQ_INT(lr_ngram_draft(ids, 3, 3, out), 0);
    int32_t loop[] = {7, 8, 7, 8, 7, 8}; /* the text so far is too short: it goes round */
    CHECK_EQ_INT(lr_ngram_draft(loop, 6, 5, out), 5);
    CHECK(out[0] == 7 && out[1] == 8 && out[2] == 7 && out[3] == 8 && out[4] == 7);
}

/* An engine with n answers, whose steps take what `cost` says, and whose drafts are right so often: tokens a second with the
 * policy over those without drafts, of n_step steps. */
typedef double cost_fn(uint32_t n_tok, bool drafted);

static double gain_of(lr_step_cost *c, uint32_t n, double right, cost_fn *cost, uint32_t n_step, uint32_t *n_drafted)
{
    lr_speculation s[64];
    double said = 0, took = 0;
    *n_drafted = 0;
    for (uint32_t i = 0; i < n; i++) lr_speculation_init(&s[i], LARDER_SPECULATE_AUTO);
    for (uint32_t k = 0; k < n_step; k++) {
        uint32_t n_tok = n, n_said = 0, left = LR_DRAFT_ALL;
        bool may = lr_cost_lets_draft(c, n);
        for (uint32_t i = 0; i < n; i++) {
            s[i].from = LR_DRAFT_NGRAM;
            uint32_t m = may ? lr_speculation_length(&s[i], LR_DRAFT_NGRAM, c, n, LR_MIN(left, 8u)) : 0, good = 0;
            while (good < m && test_uniform(0, 1) < (float)right) good++;
            if (m) lr_speculation_note(&s[i], c, m, good);
            left -= m;
            n_tok += m;
            n_said += 1 + good;
        }
        double t = cost(n_tok, n_tok > n) * test_uniform(0.9f, 1.1f);
        lr_cost_note(c, n, n_tok, n_said, t, t);
        *n_drafted += n_tok - n;
        said += n_said;
        took += t;
    }
    return said / took * cost(n, false) / n;
}

static double by_memory(uint32_t n, bool drafted) { return 0.010 + 0.0005 * n + 0 * drafted; }
static double by_arithmetic(uint32_t n, bool drafted) { return 0.001 * n + 0 * drafted; }
/* What no fit over n can see: drafts cost something for being there. */
static double by_surprise(uint32_t n, bool drafted) { return (0.010 + 0.0002 * n) * (drafted ? 3 : 1); }

TEST(drafting_stops_where_it_loses)
{
    static const struct {
        const char *what;
        cost_fn *cost;
        uint32_t n;
        double right, least;
    } cases[] = {
        {"alone, memory", by_memory, 1, 0.95, 3},         {"eight, memory", by_memory, 8, 0.95, 1.5},
        {"eight, mostly wrong", by_memory, 8, 0.2, 0.98}, {"eight, arithmetic", by_arithmetic, 8, 0.8, 0.98},
        {"64, arithmetic", by_arithmetic, 64, 0.9, 0.98}, {"eight, surprise", by_surprise, 8, 0.7, 0.95},
        {"alone, surprise", by_surprise, 1, 0.5, 0.95},
    };
    for (uint32_t i = 0; i < LR_LEN(cases); i++) {
        lr_step_cost c = {0};
        uint32_t n_drafted;
        double gain = gain_of(&c, cases[i].n, cases[i].right, cases[i].cost, 4000, &n_drafted);
        printf("%s: %.3f, %u drafted in 4000 steps\n", cases[i].what, gain, n_drafted);
        CHECK(gain >= cases[i].least);
    }
}

TEST(a_size_of_batch_does_not_judge_another)
{
    lr_step_cost c = {0};
    uint32_t n_drafted;
    gain_of(&c, 32, 0.9, by_surprise, 1000, &n_drafted); /* it loses there */
    CHECK(gain_of(&c, 1, 0.95, by_memory, 1000, &n_drafted) > 3);
}

TEST(a_request_stops_where_its_drafts_are_wrong)
{
    lr_step_cost c = {0};
    lr_speculation s;
    for (uint32_t i = 0; i < 50; i++) /* ten for one */
        lr_cost_note(&c, 1, 1 + i % 4, 1, 0.010 + 0.001 * (i % 4), 0.010 + 0.001 * (i % 4));
    lr_speculation_init(&s, LARDER_SPECULATE_AUTO);
    s.from = LR_DRAFT_NGRAM;
    CHECK(lr_speculation_length(&s, s.from, &c, 1, 8) >= 2);
    for (int i = 0; i < 10; i++) lr_speculation_note(&s, &c, 4, 4);
    CHECK_EQ_INT(lr_speculation_length(&s, s.from, &c, 1, 8), 8);
    for (int i = 0; i < 200; i++) lr_speculation_note(&s, &c, 4, 0);
    uint32_t n = 0;
    for (int i = 0; i < 300; i++) n += lr_speculation_length(&s, s.from, &c, 1, 8) > 0;
    printf("%u tries in 300 steps\n", n);
    CHECK(n > 0 && n <= 5); /* after 17, 33, 65 and 129 */
    lr_speculation_init(&s, LARDER_SPECULATE_AUTO);
    CHECK(lr_speculation_length(&s, LR_DRAFT_NGRAM, &c, 1, 8) <= 1); /* as the others' were */
    c.draft_s = 0.1;
    CHECK_EQ_INT(lr_speculation_length(&s, LR_DRAFT_MODEL, &c, 1, 8), 0);
}
