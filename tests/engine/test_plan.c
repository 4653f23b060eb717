/* What is left open is chosen by what fits: places, then the cache's numbers, then the context. */
#include "engine.h"
#include "test.h"

static larder_model *model;

static larder_plan plan_of(uint64_t memory, uint32_t n_ctx, uint32_t n_seq, larder_kv kv)
{
    larder_plan p;
    larder_error err;
    larder_engine_options o = larder_engine_defaults();
    o.memory = memory;
    o.n_ctx = n_ctx;
    o.n_seq = n_seq;
    o.kv = kv;
    CHECK_OK(larder_plan_engine(model, &o, &p, &err));
    return p;
}

static void open_model(void)
{
    larder_error err;
    CHECK_OK(larder_model_open("models/teller-18m-q8_0.gguf", &model, &err));
}

TEST(places_then_numbers_then_refusal)
{
    open_model();
    const uint32_t ctx = 1024;
    larder_plan eight = plan_of(0, ctx, 8, LARDER_KV_F16), one = plan_of(0, ctx, 1, LARDER_KV_F16),
                small = plan_of(0, ctx, 1, LARDER_KV_Q8_0);
    CHECK(eight.n_bytes > one.n_bytes && one.n_bytes > small.n_bytes);

    larder_plan p = plan_of(eight.n_bytes, ctx, 0, LARDER_KV_AUTO);
    CHECK(p.fits && p.n_seq == 8 && p.kv == LARDER_KV_F16);
    p = plan_of(eight.n_bytes - (1 << 20), ctx, 0, LARDER_KV_AUTO);
    CHECK(p.fits && p.n_seq == 4 && p.kv == LARDER_KV_F16);
    p = plan_of(one.n_bytes, ctx, 0, LARDER_KV_AUTO);
    CHECK(p.fits && p.n_seq == 1 && p.kv == LARDER_KV_F16);
    p = plan_of(small.n_bytes, ctx, 0, LARDER_KV_AUTO);
    CHECK(p.fits && p.n_seq == 1 && p.kv == LARDER_KV_Q8_0);
    p = plan_of(small.n_bytes - (1 << 20), ctx, 0, LARDER_KV_AUTO);
    CHECK(!p.fits && p.n_ctx_max > 0 && p.n_ctx_max < ctx);

    /* what was said stays as it was said */
    p = plan_of(small.n_bytes, ctx, 1, LARDER_KV_F16);
    CHECK(!p.fits && p.n_seq == 1 && p.kv == LARDER_KV_F16);
    p = plan_of(one.n_bytes, ctx, 8, LARDER_KV_F16);
    CHECK(!p.fits && p.n_seq == 8);
    /* and with no context asked for, the largest */
    p = plan_of(one.n_bytes, 0, 1, LARDER_KV_F16);
    CHECK(p.fits && p.n_ctx == 1024);
    p = plan_of(small.n_bytes - (1 << 20), 0, 0, LARDER_KV_AUTO);
    CHECK(p.fits && p.n_seq == 1 && p.n_ctx > 0 && p.n_ctx < ctx);
    larder_model_free(model);
}

/* What is planned is in memory as soon as the engine is open, and is not exceeded by looking up all of a table's rows. */
TEST(the_plan_is_taken_at_once)
{
#if defined __linux__ && !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
    larder_error err;
    larder_engine *e;
    larder_engine_options o = larder_engine_defaults();
    open_model();
    o.n_ctx = 1024;
    o.n_seq = 4;
    CHECK_OK(larder_engine_open(model, &o, &e, &err));
    larder_plan planned, now;
    larder_engine_get_plan(e, &planned);
    larder_engine_get_memory(e, &now);
    for (uint32_t i = 0; i < planned.n_buffers; i++) {
        if (planned.buffers[i].mapped) continue;
        CHECK(now.buffers[i].n_bytes <= planned.buffers[i].n_bytes);
        CHECK((double)now.buffers[i].n_bytes >= 0.97 * (double)planned.buffers[i].n_bytes - 65536);
    }
    larder_engine_free(e);
    larder_model_free(model);
#else
    SKIP("a sanitizer has memory of its own");
#endif
}
