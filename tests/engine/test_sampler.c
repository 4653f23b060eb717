/* test_sampler.c - each sampler against its definition, and the randomness against its promises. */
#include "sampler.h"
#include "test.h"

enum { V = 50 };

static larder_sampling plain(float temperature)
{
    return (larder_sampling){.temperature = temperature,
                             .top_p = 1,
                             .typical_p = 1,
                             .repeat_penalty = 1,
                             .penalty_last_n = -1,
                             .dry_base = 1.75f,
                             .dry_allowed_length = 2,
                             .dry_last_n = -1,
                             .mirostat_eta = 0.1f};
}

/* Logits whose probabilities are p_i ~ 0.8^i, for ids in a scrambled order. */
static void falling(float *logits)
{
    for (int i = 0; i < V; i++) logits[(i * 7) % V] = (float)i * logf(0.8f);
}
static int rank_of(int32_t id)
{
    for (int i = 0; i < V; i++)
        if ((i * 7) % V == id) return i;
    return -1;
}

/* How often each rank comes out over `n` positions. */
static void count_ranks(const larder_sampling *p, int n, int *count)
{
    lr_sampler s;
    lr_sampler_work w;
    int32_t *tokens = calloc((size_t)n + 1, sizeof *tokens);
    memset(count, 0, V * sizeof *count);
    CHECK_EQ_INT(lr_sampler_init(&s, p, V, NULL), LARDER_OK);
    CHECK_EQ_INT(lr_sampler_work_init(&w, V, (uint32_t)n + 1, NULL), LARDER_OK);
    for (int i = 0; i < n; i++) {
        float logits[V];
        falling(logits);
        count[rank_of(lr_sample(&s, &w, logits, tokens, (uint32_t)i + 1))]++;
    }
    for (int i = 0; i < V; i++) CHECK_EQ_INT(w.count[i], 0);
    lr_sampler_work_close(&w);
    lr_sampler_close(&s);
    free(tokens);
}

static void check_shares(const int *count, int n, int first, int kept, double temperature)
{
    double sum = 0;
    for (int i = first; i < first + kept; i++) sum += pow(0.8, i / temperature);
    for (int i = 0; i < V; i++) {
        double want = i >= first && i < first + kept ? pow(0.8, i / temperature) / sum : 0;
        if (want == 0) CHECK_EQ_INT(count[i], 0);
        CHECK_NEAR((double)count[i] / n, want, 4 * sqrt(want / n) + 1e-4);
    }
}

TEST(temperature_draws_the_softmax)
{
    int count[V];
    larder_sampling p = plain(1);
    count_ranks(&p, 40000, count);
    check_shares(count, 40000, 0, V, 1);
    p.temperature = 0.5f;
    count_ranks(&p, 40000, count);
    check_shares(count, 40000, 0, V, 0.5);
    p.temperature = 0;
    count_ranks(&p, 100, count);
    CHECK_EQ_INT(count[0], 100);
}

TEST(cuts_keep_what_they_say)
{
    int count[V];
    larder_sampling p = plain(1);
    p.top_k = 5;
    count_ranks(&p, 20000, count);
    check_shares(count, 20000, 0, 5, 1);
    p = plain(1);
    p.top_p = 0.5f; /* masses 0.2, 0.16, 0.128, 0.1024: four tokens pass one half */
    count_ranks(&p, 20000, count);
    check_shares(count, 20000, 0, 4, 1);
    p = plain(1);
    p.min_p = 0.5f; /* 0.8^3 = 0.512 passes, 0.8^4 does not */
    count_ranks(&p, 20000, count);
    check_shares(count, 20000, 0, 4, 1);
    p = plain(1);
    p.xtc_probability = 1;
    p.xtc_threshold = 0.1f; /* ranks 0 to 3 are above it: only the last of them stays */
    count_ranks(&p, 20000, count);
    check_shares(count, 20000, 3, V - 3, 1);
    p = plain(1);
    p.top_k = 300; /* more than there are */
    count_ranks(&p, 20000, count);
    check_shares(count, 20000, 0, V, 1);
}

TEST(typical_prefers_the_expected_surprise)
{
    int count[V];
    larder_sampling p = plain(1);
    p.typical_p = 0.2f; /* entropy of p ~ 0.8^i is about 2.5 nats: surprise of ranks near (2.5 - 1.61) / 0.223 = 4 */
    count_ranks(&p, 5000, count);
    CHECK_EQ_INT(count[0], 0);
    CHECK(count[4] > 0);
}

TEST(mirostat_holds_its_surprise)
{
    int count[V];
    larder_sampling p = plain(1);
    p.mirostat_tau = 2;
    count_ranks(&p, 20000, count);
    double bits = 0, sum = 0;
    for (int i = 0; i < V; i++) sum += pow(0.8, i);
    for (int i = 0; i < V; i++) bits += count[i] / 20000.0 * -log2(pow(0.8, i) / sum);
    CHECK(bits < 3.3); /* the distribution's own is 3.6 bits; cutting at mu brings it down */
}

TEST(penalties_and_bias_change_the_choice)
{
    lr_sampler s;
    lr_sampler_work w;
    float logits[V];
    float minus = -INFINITY;
    int32_t best = 0, seen[3] = {0, 7, 0}; /* ranks 0, 1, 0 */
    larder_sampling p = plain(0);
    CHECK_EQ_INT(lr_sampler_work_init(&w, V, 16, NULL), LARDER_OK);
    p.presence_penalty = 0.1f;
    CHECK_EQ_INT(lr_sampler_init(&s, &p, V, NULL), LARDER_OK);
    falling(logits);
    CHECK_EQ_INT(rank_of(lr_sample(&s, &w, logits, seen, 3)), 0); /* -0.1 against -0.32 */
    lr_sampler_close(&s);
    p.frequency_penalty = 0.3f;
    CHECK_EQ_INT(lr_sampler_init(&s, &p, V, NULL), LARDER_OK);
    falling(logits);
    CHECK_EQ_INT(rank_of(lr_sample(&s, &w, logits, seen, 3)), 2); /* -0.7, -0.62, -0.45 */
    lr_sampler_close(&s);
    p = plain(0);
    p.bias_ids = &best;
    p.bias = &minus;
    p.n_bias = 1;
    CHECK_EQ_INT(lr_sampler_init(&s, &p, V, NULL), LARDER_OK);
    falling(logits);
    CHECK_EQ_INT(rank_of(lr_sample(&s, &w, logits, seen, 3)), 1);
    lr_sampler_close(&s);
    lr_sampler_work_close(&w);
}

TEST(dry_breaks_a_repetition)
{
    lr_sampler s;
    lr_sampler_work w;
    float logits[V];
    /* "1 2 3 4 1 2 3": 4 would continue a repetition of three */
    int32_t text[] = {1, 2, 3, 4, 1, 2, 3};
    uint8_t breaks[(V + 7) / 8] = {0};
    larder_sampling p = plain(0);
    p.dry_multiplier = 1;
    CHECK_EQ_INT(lr_sampler_work_init(&w, V, 16, NULL), LARDER_OK);
    CHECK_EQ_INT(lr_sampler_init(&s, &p, V, NULL), LARDER_OK);
    for (int with_break = 0; with_break < 2; with_break++) {
        for (int i = 0; i < V; i++) logits[i] = i == 4 ? 1.5f : 0;
        if (with_break)
            breaks[0] |= 1 << 2, s.breaks = breaks; /* 2 is a breaker: the repetition is then of one token */
        CHECK_EQ_INT(lr_sample(&s, &w, logits, text, 7), with_break ? 4 : 0);
        CHECK_NEAR(logits[4], with_break ? 1.5 : 1.5 - 1.75, 1e-5);
        for (int i = 0; i < V; i++) CHECK_EQ_INT(w.count[i], 0);
    }
    lr_sampler_close(&s);
    lr_sampler_work_close(&w);
}

TEST(a_number_depends_on_seed_and_position_alone)
{
    double sum = 0, cross = 0;
    for (uint64_t i = 0; i < 100000; i++) {
        double a = lr_sample_random(5, i, 0), b = lr_sample_random(6, i, 0);
        CHECK(a >= 0 && a < 1 && a == lr_sample_random(5, i, 0) && a != lr_sample_random(5, i, 1));
        sum += a;
        cross += (a - 0.5) * (b - 0.5);
    }
    CHECK_NEAR(sum / 1e5, 0.5, 0.005);
    CHECK_NEAR(cross / 1e5, 0, 0.002);
}

TEST(parameters_out_of_range_are_refused)
{
    lr_sampler s;
    larder_error err;
    larder_sampling p = plain(NAN);
    CHECK_EQ_INT(lr_sampler_init(&s, &p, V, &err), LARDER_USAGE);
    CHECK(strstr(err.message, "temperature"));
    p = plain(INFINITY);
    CHECK_EQ_INT(lr_sampler_init(&s, &p, V, &err), LARDER_USAGE);
    p = plain(-1);
    CHECK_EQ_INT(lr_sampler_init(&s, &p, V, &err), LARDER_USAGE);
    p = plain(1);
    p.top_k = -1;
    CHECK_EQ_INT(lr_sampler_init(&s, &p, V, &err), LARDER_USAGE);
    int32_t id = V;
    float b = 1;
    p = plain(1);
    p.bias_ids = &id, p.bias = &b, p.n_bias = 1;
    CHECK_EQ_INT(lr_sampler_init(&s, &p, V, &err), LARDER_USAGE);
    CHECK(strstr(err.message, "50"));
}
