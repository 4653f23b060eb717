/* Times of kernels out of samples: made from known ones, on a machine whose memory changes its speed and whose first minute
 * is disturbed, they are found again. */
#include "own_fit.h"
#include "test.h"

#include <math.h>

enum { ROUNDS = 3, N = 4 };

typedef struct truth {
    double layer_s, row_s, attn_op_s, kv_byte_s, s[LR_OWN_ROWS]; /* a number's seconds at a memory of 50e9 */
} truth;

/* What a step of n rows takes while memory reads `speed`; `slow`: something else runs. */
static double step_s(const truth *t, const lr_own_rig *r, int k, double speed, double slow)
{
    double n = lr_own_rows[k], bent = n <= 8 ? 50e9 / speed : slow;
    return (r->numbers * t->s[k] + r->rest * t->s[0]) * bent +
           slow *
               (r->n_layer * t->layer_s + r->row_work * n * t->row_s + r->attn_ops * n * (n + 1) / 2 * t->attn_op_s);
}

static void make(const truth *t, lr_own_samples *all)
{
    *all = (lr_own_samples){.n_formats = 2, .sample_s = 1e-9, .cache_bytes = 32e6};
    all->layers = (lr_own_rig){
        .fmt = LR_FMT_Q8_0, .n_layer = 16, .numbers = 1e5, .row_work = 3e4, .attn_ops = 4.0 * 16 * 128};
    for (uint32_t i = 0; i < 2; i++)
        all->formats[i] = (lr_own_rig){.fmt = i ? LR_FMT_Q4_0 : LR_FMT_Q8_0,
                                       .n_layer = 3,
                                       .numbers = 60e6,
                                       .rest = 21e6,
                                       .row_work = 6e4,
                                       .attn_ops = 4.0 * 3 * 1536};
    all->cached[0] = (lr_own_rig){.fmt = LR_FMT_Q8_0, .n_layer = 3, .numbers = 9e6, .row_work = 2e4};
    for (int h = 0; h < LR_OWN_HEADS; h++) all->kv_bytes[h] = 50e6, all->attn_ops[h] = 1e10;
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < N; i++) {
            double speed = (round == 1 ? 75e9 : 40e9) * (1 + 0.02 * (i % 2)), slow = round == 0 ? 1.7 : 1 + 0.005 * i;
            all->inverse += 1 / speed;
            all->n_read++;
            for (int k = 0; k < LR_OWN_ROWS; k++)
                for (uint32_t f = 0; f < 2; f++)
                    lr_own_add(&all->formats[f].at[k], (f ? 0.6 : 1) * step_s(t, &all->formats[f], k, speed, slow),
                               speed);
            lr_own_add(&all->layers.at[0], step_s(t, &all->layers, 0, 50e9, slow), 0);
            lr_own_add(&all->layers.at[LR_OWN_ROWS - 1], step_s(t, &all->layers, LR_OWN_ROWS - 1, 50e9, slow), 0);
            lr_own_add(&all->cached[0].at[0], slow * (9e6 * t->s[0] * 0.25 + 3 * t->layer_s + 2e4 * t->row_s), 0);
            /* eight rows: half of that is saved */
            lr_own_add(&all->cached[0].at[3],
                       slow * (9e6 * (t->s[3] - 0.375 * t->s[0]) + 3 * t->layer_s + 8 * 2e4 * t->row_s), 0);
            lr_own_add(&all->cached_far, slow * (9e6 * t->s[0] * 0.25 + 3 * t->layer_s + 2e4 * t->row_s + 1e-5), 0);
            for (int h = 0; h < LR_OWN_HEADS; h++) {
                lr_own_add(&all->near[h].one, 1e-3 * 50e9 / speed, speed);
                lr_own_add(&all->far[h].one, (1e-3 + 50e6 * t->kv_byte_s) * 50e9 / speed, speed);
                lr_own_add(&all->near[h].many, 0.1 * slow, 0);
                lr_own_add(&all->far[h].many, (0.1 + 1e10 * t->attn_op_s) * slow, 0);
            }
        }
    all->cached_kv_bytes = 1e6;
}

TEST(found_again)
{
    truth t = {2e-6, 1e-10, 3e-12, 2.5e-11, {0}};
    lr_own_samples *all = lr_alloc(sizeof *all);
    lr_own o;
    for (int k = 0; k < LR_OWN_ROWS; k++) t.s[k] = 3e-11 + 1e-12 * lr_own_rows[k];
    make(&t, all);
    CHECK(lr_own_solve(all, &o));
    double at = 50e9 / o.bandwidth; /* times are for the average speed of memory */
    CHECK(o.bandwidth > 40e9 && o.bandwidth < 60e9);
    CHECK(o.fixed < 0.12);
    CHECK_NEAR(o.layer_s / t.layer_s, 1, 0.2); /* with the little that its matrices take */
    CHECK_NEAR(o.row_s / t.row_s, 1, 0.15);
    for (int h = 0; h < LR_OWN_HEADS; h++) {
        CHECK_NEAR(o.kv_byte_s[h] / (t.kv_byte_s * at), 1, 0.05);
        CHECK_NEAR(o.attn_op_s[h] / t.attn_op_s, 1, 0.02);
    }
    for (int k = 0; k < LR_OWN_ROWS; k++) {
        CHECK_NEAR(lr_own_find(&o, LR_FMT_Q8_0)->s[k] / (t.s[k] * (lr_own_rows[k] <= 8 ? at : 1)), 1, 0.05);
        CHECK(lr_own_find(&o, LR_FMT_Q4_0)->s[k] < lr_own_find(&o, LR_FMT_Q8_0)->s[k]);
    }
    CHECK_NEAR(o.in_cache[0] / (0.25 / at), 1, 0.1);
    CHECK(o.in_cache[1] >= 1); /* not measured: nothing is promised */
    CHECK_NEAR(o.cache_gain[0], 1, 1e-9);
    CHECK_NEAR(o.cache_gain[3], 0.5, 0.1);
    CHECK(o.cache_gain[LR_OWN_ROWS - 1] <= o.cache_gain[3]); /* never more again */
    CHECK(o.idle >= 0 && o.idle <= 0);
    CHECK_NEAR(o.kv_in_cache / (1e-5 / (1e6 * t.kv_byte_s * at)), 1, 0.1);
    lr_free(all);
}

TEST(nothing_timed)
{
    lr_own_samples *all = lr_calloc(1, sizeof *all);
    lr_own o;
    CHECK(!lr_own_solve(all, &o));
    lr_own_times t = {.n = 0};
    for (int i = 0; i < 2 * LR_OWN_SAMPLES; i++) lr_own_add(&t, i, 1);
    CHECK_EQ_INT(t.n, LR_OWN_SAMPLES); /* what is too many is left out */
    lr_free(all);
}
