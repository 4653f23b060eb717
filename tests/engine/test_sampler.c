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

/* Of the tokens at most mu bits surprising (at least one) one is drawn; mu moves against the error of its surprise among
 * them. So over many draws the mean surprise is tau. */
TEST(mirostat_holds_its_surprise)
{
    enum { N = 20000 };
    lr_sampler s;
    lr_sampler_work w;
    int32_t token = 0;
    double sum = 0, mean = 0, head = 0;
    larder_sampling p = plain(1);
    p.mirostat_tau = 2;
    CHECK_EQ_INT(lr_sampler_init(&s, &p, V, NULL), LARDER_OK);
    CHECK_EQ_INT(lr_sampler_work_init(&w, V, 16, NULL), LARDER_OK);
    CHECK_NEAR(s.mu, 4, 0);
    for (int i = 0; i < V; i++) sum += pow(0.8, i);
    for (int i = 0; i < N; i++) {
        float logits[V], mu = s.mu;
        int keep = 0;
        falling(logits);
        p.seed = s.s.seed = (uint64_t)i;
        int rank = rank_of(lr_sample(&s, &w, logits, &token, 1));
        for (head = 0; keep < V && (!keep || -log2(pow(0.8, keep) / sum) <= (double)mu + 1e-4); keep++)
            head += pow(0.8, keep);
        CHECK(rank < keep);
        double bits = -log2(pow(0.8, rank) / head);
        if (fabs(-log2(pow(0.8, keep - 1) / sum) - (double)mu) > 1e-3) /* else the cut is a matter of rounding */
            CHECK_NEAR(s.mu, (double)mu - 0.1 * (bits - 2), 1e-3);
        mean += bits / N;
    }
    CHECK_NEAR(mean, 2, 0.02);
    lr_sampler_close(&s);
    lr_sampler_work_close(&w);
}

/* Repetition: a logit over 0 is divided, one below is multiplied; both fall. Once, however often it was said. */
TEST(repetition_lowers_logits_of_either_sign)
{
    lr_sampler s;
    lr_sampler_work w;
    float logits[V] = {2, -1, 0, 1.5f, -3};
    int32_t seen[] = {4, 0, 1, 2, 0, 1};
    larder_sampling p = plain(0);
    p.repeat_penalty = 2;
    p.penalty_last_n = 5;
    CHECK_EQ_INT(lr_sampler_init(&s, &p, V, NULL), LARDER_OK);
    CHECK_EQ_INT(lr_sampler_work_init(&w, V, 16, NULL), LARDER_OK);
    CHECK_EQ_INT(lr_sample(&s, &w, logits, seen, 6), 3);
    CHECK_NEAR(logits[0], 1, 0);
    CHECK_NEAR(logits[1], -2, 0);
    CHECK_NEAR(logits[2], 0, 0);
    CHECK_NEAR(logits[3], 1.5, 0);
    CHECK_NEAR(logits[4], -3, 0); /* out of sight */
    lr_sampler_close(&s);
    lr_sampler_work_close(&w);
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

/* What would go on after the repetition is a breaker: that is let through. */
TEST(dry_spares_a_breaker)
{
    lr_sampler s;
    lr_sampler_work w;
    int32_t text[] = {1, 2, 3, 4, 1, 2, 3};
    uint8_t breaks[(V + 7) / 8] = {1 << 4};
    larder_sampling p = plain(0);
    p.dry_multiplier = 1;
    CHECK_EQ_INT(lr_sampler_work_init(&w, V, 16, NULL), LARDER_OK);
    CHECK_EQ_INT(lr_sampler_init(&s, &p, V, NULL), LARDER_OK);
    s.breaks = breaks;
    float logits[V] = {[4] = 1.5f};
    CHECK_EQ_INT(lr_sample(&s, &w, logits, text, 7), 4);
    CHECK_NEAR(logits[4], 1.5, 0);
    for (int i = 0; i < V; i++) CHECK_EQ_INT(w.count[i], 0);
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
