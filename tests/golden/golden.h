/* golden.h - what the tests of the whole library share: engines made in one line, logits, greedy answers, a scratch
 * folder. Owns: short ways to say that; a failure ends the test. Refuses to own: what any of it should give. */
#ifndef LR_TEST_GOLDEN_H
#define LR_TEST_GOLDEN_H

#include "larder.h"
#include "larder_tools.h"
#include "safet.h"
#include "test.h"

#include <ftw.h>
#include <unistd.h>

#define BOXED_MODEL "models/teller-18m-q8_0.gguf"

/* On the processor; with LARDER_TEST_DEVICE=cuda on the card. */
__attribute__((unused)) static larder_engine_options options_of(uint32_t n_ctx, larder_act act, larder_kv kv)
{
    larder_engine_options o = larder_engine_defaults();
    const char *device = getenv("LARDER_TEST_DEVICE");
    o.device = device && !strcmp(device, "cuda") ? LARDER_DEVICE_CUDA : LARDER_DEVICE_CPU;
    o.n_ctx = n_ctx;
    o.act = act;
    o.kv = kv;
    o.n_threads = 1;
    o.memory = (uint64_t)4 << 30;
    return o;
}

/* --exact */
__attribute__((unused)) static larder_engine_options exact_options(uint32_t n_ctx)
{
    return options_of(n_ctx, LARDER_ACT_F32, LARDER_KV_F32);
}

__attribute__((unused)) static larder_model *open_model(const char *path)
{
    larder_error err;
    larder_model *m;
    CHECK_OK(larder_model_open(path, &m, &err));
    return m;
}

__attribute__((unused)) static larder_engine *open_engine(larder_model *m, const larder_engine_options *o)
{
    larder_error err;
    larder_engine *e;
    CHECK_OK(larder_engine_open(m, o, &e, &err));
    return e;
}

__attribute__((unused)) static uint32_t vocab_of(const larder_model *m)
{
    larder_model_info info;
    larder_model_get_info(m, &info);
    return info.n_vocab;
}

/* Logits [n_ids, n_vocab] of an engine made for this; free() them. */
__attribute__((unused)) static float *logits_of(larder_model *m, const larder_engine_options *o, const int32_t *ids,
                                                size_t n_ids)
{
    larder_error err;
    larder_engine *e = open_engine(m, o);
    float *out = malloc(n_ids * vocab_of(m) * sizeof *out);
    CHECK_OK(larder_logits(e, ids, n_ids, out, &err));
    larder_engine_free(e);
    return out;
}

/* |a - b| / |b| */
__attribute__((unused)) static double relative_error(const float *a, const float *b, uint64_t n)
{
    double diff = 0, norm = 0;
    for (uint64_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        diff += d * d;
        norm += (double)b[i] * (double)b[i];
    }
    return sqrt(diff / norm);
}

typedef struct answer {
    int32_t ids[512];
    uint32_t n;
    char text[4096];
    size_t n_text;
    larder_finish finish;
    larder_timing timing;
} answer;

__attribute__((unused)) static bool keep_answer(void *user, larder_request *r, const larder_event *ev)
{
    answer *a = user;
    (void)r;
    if (ev->kind == LARDER_EVENT_TOKEN && a->n < sizeof a->ids / sizeof *a->ids) a->ids[a->n++] = ev->token;
    if (ev->n_text && a->n_text + ev->n_text < sizeof a->text) {
        memcpy(a->text + a->n_text, ev->text, ev->n_text);
        a->n_text += ev->n_text;
    }
    if (ev->kind == LARDER_EVENT_DONE) a->finish = ev->finish;
    return true;
}

/* A request for n tokens, whatever the model thinks of ending; temperature 0 is greedy, else sampled by the seed. */
__attribute__((unused)) static larder_request *submit(larder_engine *e, const int32_t *ids, size_t n_ids, uint32_t n,
                                                      float temperature, uint64_t seed, answer *a)
{
    larder_error err;
    larder_request_options o = larder_request_defaults();
    larder_request *r;
    memset(a, 0, sizeof *a);
    o.ids = ids;
    o.n_ids = n_ids;
    o.max_tokens = n;
    o.sampling.temperature = temperature;
    o.sampling.seed = seed;
    o.ignore_eos = true;
    o.on_event = keep_answer;
    o.user = a;
    CHECK_OK(larder_submit(e, &o, &r, &err));
    return r;
}

__attribute__((unused)) static void answer_of(larder_engine *e, const int32_t *ids, size_t n_ids, uint32_t n,
                                              float temperature, uint64_t seed, answer *a)
{
    larder_error err;
    larder_request *r = submit(e, ids, n_ids, n, temperature, seed, a);
    CHECK_OK(larder_wait(e, r, &err));
    larder_request_get_timing(r, &a->timing);
    larder_request_free(r);
}

/* ---------------------------------------------------------------- a folder that goes when the test ends */
static char scratch_path[64];

static int scratch_remove(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}
static void scratch_end(void) { nftw(scratch_path, scratch_remove, 8, FTW_DEPTH | FTW_PHYS); }

__attribute__((unused)) static const char *scratch_file(const char *name)
{
    static char path[192];
    if (!*scratch_path) {
        strcpy(scratch_path, "/tmp/larder-golden-XXXXXX");
        CHECK(mkdtemp(scratch_path));
        atexit(scratch_end);
    }
    snprintf(path, sizeof path, "%s/%s", scratch_path, name);
    return path;
}

/* `from` as a GGUF of a type, opened. */
__attribute__((unused)) static larder_model *converted(const char *from, const char *type)
{
    larder_error err;
    larder_convert_options o = {.type = type, .force = true, .n_threads = 1};
    char name[64];
    snprintf(name, sizeof name, "%s.gguf", type);
    const char *to = scratch_file(name);
    CHECK_OK(larder_convert(from, to, &o, NULL, &err));
    return open_model(to);
}

#endif
