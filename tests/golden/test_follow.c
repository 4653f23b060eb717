/* test_follow.c - prompts that begin alike and arrive together are read once: tokens computed are counted, step by step, and
 * the answers are those of each alone.
 */
#include "base.h"
#include "engine.h"
#include "golden.h"

#include "teller.inc"

enum { MOST = 8, N_PROMPT = 200, N_GEN = 12, CTX = 320 };

typedef struct asked {
    int32_t ids[N_PROMPT];
    larder_request_options o;
    answer got, want;
    larder_request *r;
    uint32_t n_told; /* of its prompt, by progress events */
    uint32_t leaves; /* its client goes once so much of its prompt is done; 0: it stays */
} asked;

static asked list[MOST];

static bool keep(void *user, larder_request *r, const larder_event *ev)
{
    asked *a = user;
    if (ev->kind == LARDER_EVENT_PREFILL) {
        CHECK(ev->n_done > a->n_told && ev->n_done <= N_PROMPT && ev->n_total == N_PROMPT);
        a->n_told = ev->n_done;
        return !a->leaves || a->n_told < a->leaves;
    }
    return keep_answer(&a->got, r, ev);
}

/* Prompts that are the same up to n_same. */
static void fill(uint32_t n_same)
{
    for (uint32_t i = 0; i < MOST; i++) {
        asked *a = &list[i];
        *a = (asked){.o = larder_request_defaults()};
        for (uint32_t k = 0; k < N_PROMPT; k++) {
            a->ids[k] = teller_greedy[(k * 7) % 100];
            if (k >= n_same) a->ids[k] = teller_greedy[(k * 7 + i + 1) % 100];
        }
        a->o.ids = a->ids;
        a->o.n_ids = N_PROMPT;
        a->o.max_tokens = N_GEN;
        a->o.ignore_eos = true;
        a->o.sampling.seed = i;
        a->o.on_event = keep;
        a->o.user = a;
    }
}

static void run_alone(larder_model *m)
{
    larder_error err;
    larder_engine_options o = options_of(CTX, LARDER_ACT_AUTO, LARDER_KV_F16);
    o.no_prefix_cache = true;
    larder_engine *e = open_engine(m, &o);
    for (uint32_t i = 0; i < MOST; i++) {
        larder_request *r;
        larder_request_options alone = list[i].o;
        alone.on_event = keep_answer;
        alone.user = &list[i].want;
        CHECK_OK(larder_submit(e, &alone, &r, &err));
        CHECK_OK(larder_wait(e, r, &err));
        larder_request_free(r);
    }
    larder_engine_free(e);
}

/* All at once. Returns the tokens computed of prompts. */
static uint32_t run_together(larder_model *m, larder_engine_options o)
{
    larder_error err;
    uint32_t n_read = 0, n_told = 0;
    bool busy = true;
    larder_engine *e = open_engine(m, &o);
    for (uint32_t i = 0; i < MOST; i++) CHECK_OK(larder_submit(e, &list[i].o, &list[i].r, &err));
    while (busy) {
        CHECK_OK(larder_step(e, &busy, &err));
        for (uint32_t i = 0; i < e->sched.n_members; i++) n_read += e->sched.members[i]->n_tok;
    }
    larder_engine_stats s;
    larder_engine_get_stats(e, &s);
    CHECK_EQ_INT(s.n_block_used, 0);
    for (uint32_t i = 0; i < MOST; i++) {
        asked *a = &list[i];
        larder_timing t;
        larder_request_get_timing(a->r, &t);
        n_told += t.n_prompt - t.n_cached;
        if (a->got.n) n_read -= a->got.n - 1; /* each but the first took one of its own */
        larder_request_free(a->r);
        if (a->leaves) {
            CHECK_EQ_INT(a->got.finish, LARDER_FINISH_CANCELLED);
            continue;
        }
        CHECK_EQ_INT(a->n_told, N_PROMPT);
        if (a->got.n != N_GEN || memcmp(a->got.ids, a->want.ids, sizeof *a->got.ids * N_GEN))
            TEST_FAIL("request %u: other tokens", i);
    }
    CHECK_EQ_U64(s.n_prompt, (uint64_t)MOST * N_PROMPT);
    if (!o.no_prefix_cache) CHECK_EQ_U64(s.n_prompt - s.n_prompt_cached, n_told);
    printf("%u tokens computed, %u said to be\n", n_read, n_told);
    larder_engine_free(e);
    return n_read;
}

static larder_engine_options together(uint32_t n_batch)
{
    larder_engine_options o = options_of(CTX, LARDER_ACT_AUTO, LARDER_KV_F16);
    o.n_seq = MOST;
    o.speculate = LARDER_SPECULATE_OFF;
    o.n_batch = n_batch;
    return o;
}

TEST(identical_prompts_are_read_once)
{
    larder_model *m = open_model(BOXED_MODEL);
    static const uint32_t batches[] = {512, 64, 50, 8};
    /* of each but the first, what is behind the last whole block */
    uint32_t least = N_PROMPT + (MOST - 1) * (N_PROMPT % LR_KV_BLOCK);
    for (uint32_t i = test_quick() ? 2 : 0; i < (test_quick() ? 3 : LR_LEN(batches)); i++) {
        fill(N_PROMPT);
        run_alone(m);
        CHECK(run_together(m, together(batches[i])) <= least);
    }
    larder_model_free(m);
}

TEST(a_common_beginning_is_read_once)
{
    if (test_quick()) SKIP("the long way only");
    larder_model *m = open_model(BOXED_MODEL);
    uint32_t same = 100;
    fill(same);
    run_alone(m);
    for (uint32_t k = 0; k < MOST; k++) { /* whoever they are of */
        list[k].o.client = k;
        list[k].o.priority = k == 5;
    }
    uint32_t n = run_together(m, together(70)), whole = same - same % LR_KV_BLOCK;
    /* where one gives the lead to another, a part of a block may be computed twice */
    CHECK(n >= whole + MOST * (N_PROMPT - whole) && n <= whole + MOST * (N_PROMPT - whole) + 4 * LR_KV_BLOCK);
    larder_model_free(m);
}

TEST(whoever_leads_may_leave)
{
    larder_model *m = open_model(BOXED_MODEL);
    fill(N_PROMPT);
    run_alone(m);
    list[0].leaves = 60;
    list[1].leaves = 120;
    uint32_t n = run_together(m, together(40));
    CHECK(n < 2 * N_PROMPT + MOST * LR_KV_BLOCK);
    larder_model_free(m);
}

TEST(salts_and_no_tree_keep_them_apart)
{
    if (test_quick()) SKIP("the long way only");
    larder_model *m = open_model(BOXED_MODEL);
    fill(N_PROMPT);
    run_alone(m);
    for (uint32_t k = 0; k < MOST; k++) list[k].o.cache_salt = k % 2 ? "odd" : NULL;
    uint32_t n = run_together(m, together(512));
    CHECK(n > 2 * N_PROMPT && n < 3 * N_PROMPT);
    fill(N_PROMPT);
    run_alone(m);
    larder_engine_options o = together(512);
    o.no_prefix_cache = true;
    CHECK_EQ_INT(run_together(m, o), MOST * N_PROMPT);
    larder_model_free(m);
}
