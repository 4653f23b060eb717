/* test_lifetime.c - requests come and go in every order a program may choose: freed while they wait, while they run, in
 * their last event, after their engine; submitted from inside another's event; cancelled. Worth running with MODE=asan. */
#include "golden.h"

static const int32_t prompt[] = {1,   369, 201,  570, 454, 261, 384, 413, 261, 2137,
                                 270, 261, 3552, 16,  2,   201, 1,   370, 201};
#define N_PROMPT (sizeof prompt / sizeof *prompt)

static larder_engine *engine_for(larder_model *m, uint32_t n_seq)
{
    larder_engine_options o = options_of(128, LARDER_ACT_AUTO, LARDER_KV_F16);
    o.n_seq = n_seq;
    return open_engine(m, &o);
}

static uint32_t blocks_used(const larder_engine *e)
{
    larder_engine_stats s;
    larder_engine_get_stats(e, &s);
    return s.n_block_used;
}

TEST(freed_while_waiting_and_running)
{
    larder_error err;
    larder_model *m = open_model(BOXED_MODEL);
    larder_engine *e = engine_for(m, 2);
    answer a[4];
    larder_request *r[4];
    bool busy = false;
    for (int i = 0; i < 4; i++) r[i] = submit(e, prompt, N_PROMPT, 8, 0, 0, &a[i]);
    for (int i = 0; i < 3; i++) CHECK_OK(larder_step(e, &busy, &err));
    CHECK(busy && a[0].n && a[1].n && !a[2].n);
    larder_request_free(r[0]); /* runs */
    larder_request_free(r[3]); /* waits, as the last */
    larder_request_free(NULL);
    r[3] = submit(e, prompt, N_PROMPT, 8, 0, 0, &a[3]); /* behind the one that still waits */
    for (int i = 1; i < 4; i++) CHECK_OK(larder_wait(e, r[i], &err));
    for (int i = 2; i < 4; i++) CHECK(a[i].n == a[1].n && !memcmp(a[i].ids, a[1].ids, a[1].n * sizeof *a[1].ids));
    for (int i = 1; i < 4; i++) larder_request_free(r[i]);
    CHECK_EQ_U64(blocks_used(e), 0);
    larder_engine_free(e);
    larder_model_free(m);
}

TEST(freed_after_the_engine)
{
    larder_error err;
    larder_model *m = open_model(BOXED_MODEL);
    larder_engine *e = engine_for(m, 1);
    answer a[3];
    larder_request *r[3];
    for (int i = 0; i < 3; i++) r[i] = submit(e, prompt, N_PROMPT, 4, 0, 0, &a[i]);
    CHECK_OK(larder_wait(e, r[0], &err));
    CHECK_OK(larder_step(e, NULL, NULL));
    larder_engine_free(e); /* one is done, one runs, one waits */
    for (int i = 0; i < 3; i++) larder_request_free(r[i]);
    larder_model_free(m);
}

typedef struct relay {
    larder_engine *e;
    int left, done;
} relay;

static bool frees_itself(void *user, larder_request *r, const larder_event *ev);
static void pass_on(relay *l)
{
    larder_request_options o = larder_request_defaults();
    larder_request *r;
    o.ids = prompt;
    o.n_ids = N_PROMPT;
    o.max_tokens = 3;
    o.on_event = frees_itself;
    o.user = l;
    CHECK_STATUS(larder_submit(l->e, &o, &r, NULL), LARDER_OK);
}

static bool frees_itself(void *user, larder_request *r, const larder_event *ev)
{
    relay *l = user;
    if (ev->kind != LARDER_EVENT_DONE) return true;
    l->done++;
    larder_request_free(r);
    if (l->left-- > 0) pass_on(l);
    return false; /* of no use in DONE, and harmless */
}

TEST(freed_in_its_last_event)
{
    larder_model *m = open_model(BOXED_MODEL);
    relay l = {.e = engine_for(m, 2), .left = 6};
    pass_on(&l);
    pass_on(&l);
    for (bool busy = true; busy;) CHECK_STATUS(larder_step(l.e, &busy, NULL), LARDER_OK);
    CHECK_EQ_INT(l.done, 8);
    CHECK_EQ_U64(blocks_used(l.e), 0);
    larder_engine_free(l.e);
    larder_model_free(m);
}

static bool stops(void *user, larder_request *r, const larder_event *ev)
{
    int *left = user;
    (void)r;
    if (ev->kind == LARDER_EVENT_DONE) *left = -(int)ev->finish;
    return (*left)-- > 0;
}

TEST(cancelled_in_any_event)
{
    larder_error err;
    larder_model *m = open_model(BOXED_MODEL);
    larder_engine *e = engine_for(m, 1);
    for (int after = 0; after < 5; after++) { /* 0: while the prompt is read */
        int left = after;
        larder_request_options o = larder_request_defaults();
        larder_request *r;
        o.ids = prompt;
        o.n_ids = N_PROMPT;
        o.ignore_eos = true;
        o.on_event = stops;
        o.user = &left;
        CHECK_OK(larder_submit(e, &o, &r, &err));
        CHECK_OK(larder_wait(e, r, &err));
        CHECK_EQ_INT(left, -(int)LARDER_FINISH_CANCELLED - 1);
        larder_request_free(r);
        CHECK_EQ_U64(blocks_used(e), 0);
    }
    larder_engine_free(e);
    larder_model_free(m);
}

TEST(refused_without_an_error_to_fill)
{
    larder_model *m = open_model(BOXED_MODEL), *none;
    larder_engine *e = engine_for(m, 1), *no_engine;
    larder_request_options o = larder_request_defaults();
    larder_request *r;
    int32_t *ids = NULL;
    size_t n = 1;
    CHECK_STATUS(larder_model_open("/nonexistent", &none, NULL), LARDER_NOT_FOUND);
    CHECK_STATUS(larder_submit(e, &o, &r, NULL), LARDER_USAGE); /* no prompt */
    CHECK(!r);
    o.ids = prompt;
    o.n_ids = N_PROMPT;
    o.sampling.top_p = 7;
    CHECK_STATUS(larder_submit(e, &o, &r, NULL), LARDER_USAGE);
    CHECK_STATUS(larder_chat_render(m, "no json", &ids, &n, NULL, NULL), LARDER_USAGE);
    CHECK(!ids && !n);
    larder_engine_options small = options_of(128, LARDER_ACT_AUTO, LARDER_KV_F16);
    small.memory = 1 << 20;
    CHECK_STATUS(larder_engine_open(m, &small, &no_engine, NULL), LARDER_NOMEM);
    CHECK(!no_engine);
    larder_engine_free(e);
    larder_model_free(m);
}
