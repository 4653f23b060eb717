/* test_after.c - a grammar that holds after a trigger: what follows the trigger has the form, every time, the rest is free; with
 * drafts and without, whatever tokens the trigger falls into.
 */
#include "base.h"
#include "engine.h"
#include "golden.h"

#include "teller.inc"

enum { N_GEN = 120 };

static larder_grammar *grammar_after(larder_model *m, const char *after, const char *regex)
{
    larder_error err;
    larder_grammar *g;
    CHECK_OK(larder_grammar_compile_after(m, after, LARDER_GRAMMAR_REGEX, regex, strlen(regex), &g, &err));
    return g;
}

static void ask(larder_engine *e, larder_grammar *g, uint64_t seed, answer *a)
{
    larder_error err;
    larder_request *r;
    larder_request_options o = larder_request_defaults();
    *a = (answer){0};
    o.ids = teller_ids;
    o.n_ids = LR_LEN(teller_ids);
    o.max_tokens = N_GEN;
    o.grammar = g;
    o.sampling.seed = seed;
    o.sampling.temperature = 1;
    o.on_event = keep_answer;
    o.user = a;
    CHECK_OK(larder_submit(e, &o, &r, &err));
    CHECK_OK(larder_wait(e, r, &err));
    CHECK(a->finish == LARDER_FINISH_LENGTH || a->finish == LARDER_FINISH_EOS);
    larder_request_free(r);
}

/* After each trigger in the text, a space or a line break or neither, then `form`'s text: "<" digits ">". An answer that its
 * length cut may end within. Returns how many. */
static uint32_t count_held(const answer *a, const char *after)
{
    uint32_t n = 0;
    for (const char *p = a->text; (p = strstr(p, after));) {
        p += strlen(after);
        const char *q = p + (*p == ' ' || *p == '\n');
        if (*q == '<') q++;
        else if (*q) TEST_FAIL("after '%s' of: %s", p, a->text);
        while (*q >= '0' && *q <= '9') q++;
        if (!*q && a->finish == LARDER_FINISH_LENGTH) return n;
        if (*q != '>' || q - p < 4 || q - p > 7) TEST_FAIL("after '%s' of: %s", p, a->text);
        n++;
    }
    return n;
}

/* What the model says is chance: as many answers as it takes, of at most MOST_SEED. */
enum { MOST_SEED = 64 };
static void check(larder_model *m, const char *after, bool drafts, uint32_t least)
{
    answer a, b;
    uint32_t n = 0, n_seed = test_quick() ? 1 : 8;
    larder_engine_options o = options_of(256, LARDER_ACT_AUTO, LARDER_KV_F16);
    if (!drafts) o.speculate = LARDER_SPECULATE_OFF;
    larder_engine *e = open_engine(m, &o);
    e->draft_anyway = drafts;
    larder_grammar *g = grammar_after(m, after, "<[0-9]{3,4}>");
    for (uint64_t seed = 0; seed < n_seed || (!test_quick() && n < least && seed < MOST_SEED); seed++) {
        ask(e, g, seed, &a);
        n += count_held(&a, after);
        ask(e, g, seed, &b);
        CHECK(a.n == b.n && !memcmp(a.ids, b.ids, a.n * sizeof *a.ids));
    }
    printf("'%s': held %u times\n", after, n);
    CHECK(n >= (test_quick() ? LR_MIN(least, 1u) : least));
    larder_grammar_free(g);
    larder_engine_free(e);
}

TEST_TIME(it_holds_after_each_trigger, 120)
{
    larder_model *m = open_model(BOXED_MODEL);
    check(m, ".", false, 15);
    check(m, ".", true, 15);
    if (test_quick()) {
        larder_model_free(m);
        return;
    }
    check(m, " the ", false, 3); /* ends within a token that goes on, mostly */
    check(m, "e a", false, 0);   /* begins and ends within tokens */
    check(m, "ed t", true, 0);
    larder_model_free(m);
}

TEST(without_its_trigger_nothing_is_held)
{
    larder_model *m = open_model(BOXED_MODEL);
    larder_engine_options o = options_of(256, LARDER_ACT_AUTO, LARDER_KV_F16);
    larder_engine *e = open_engine(m, &o);
    larder_grammar *g = grammar_after(m, "<tool_call>", "never");
    answer a, b;
    for (uint64_t seed = 0; seed < 3; seed++) {
        ask(e, g, seed, &a);
        ask(e, NULL, seed, &b);
        CHECK(a.n == b.n && a.finish == b.finish && !memcmp(a.ids, b.ids, a.n * sizeof *a.ids));
    }
    larder_grammar_free(g);
    larder_error err;
    CHECK_STATUS(larder_grammar_compile_after(m, "", LARDER_GRAMMAR_REGEX, "a", 1, &g, &err), LARDER_USAGE);
    CHECK_STATUS(larder_grammar_compile_after(m, "x", LARDER_GRAMMAR_REGEX, "(", 1, &g, &err), LARDER_FORMAT);
    CHECK(!g);
    larder_engine_free(e);
    larder_model_free(m);
}
