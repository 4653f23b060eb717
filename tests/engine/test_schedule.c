/* test_schedule.c - the scheduler over a cache that only counts and a clock that only adds: what its rules promise. */
#include "schedule.h"
#include "test.h"

enum { BLOCK = 32, MOST_JOBS = 400 };

typedef struct world {
    lr_sched s;
    lr_sched_memory m;
    uint32_t n_block, n_used;
    double now;
    lr_job jobs[MOST_JOBS];
    uint32_t want[MOST_JOBS]; /* tokens of the answer */
    double t_first[MOST_JOBS], t_end[MOST_JOBS];
    uint32_t n, n_ended;
    double per_client[8];
} world;

static uint32_t blocks_of(uint32_t n) { return (n + BLOCK - 1) / BLOCK; }

static bool count_admit(void *user, lr_job *j, uint32_t spare)
{
    world *w = user;
    if (w->n_block - w->n_used < blocks_of(j->n_ids) + spare) return false;
    CHECK_EQ_INT(j->n_blocks, 0);
    return true;
}

static bool count_grow(void *user, lr_job *j, uint32_t n_pos)
{
    world *w = user;
    for (; j->n_blocks < blocks_of(n_pos); j->n_blocks++, w->n_used++)
        if (w->n_used == w->n_block) return false;
    return true;
}

static void count_evict(void *user, lr_job *j)
{
    world *w = user;
    w->n_used -= j->n_blocks;
    j->n_blocks = j->n_done = 0;
}

static uint32_t count_room(void *user)
{
    const world *w = user;
    return w->n_block - w->n_used;
}

static world *world_new(lr_sched_limits l, uint32_t n_block)
{
    world *w = calloc(1, sizeof *w);
    CHECK(w);
    l.block = BLOCK;
    w->n_block = n_block;
    w->m = (lr_sched_memory){w, count_admit, count_grow, count_evict, count_room, NULL};
    CHECK_EQ_INT(lr_sched_init(&w->s, &l, NULL), LARDER_OK);
    return w;
}

static void world_free(world *w)
{
    lr_sched_close(&w->s);
    free(w);
}

static lr_job *arrive(world *w, uint64_t client, int priority, uint32_t n_prompt, uint32_t n_answer)
{
    lr_job *j = &w->jobs[w->n];
    CHECK(w->n < MOST_JOBS);
    *j = (lr_job){.client = client, .priority = priority, .n_prompt = n_prompt, .n_ids = n_prompt};
    w->want[w->n++] = n_answer;
    CHECK_EQ_INT(lr_sched_add(&w->s, j, w->now, NULL), LARDER_OK);
    return j;
}

static void end(world *w, lr_job *j)
{
    uint32_t i = (uint32_t)(j - w->jobs);
    w->t_end[i] = w->now;
    w->n_ended++;
    count_evict(w, j);
    lr_sched_remove(&w->s, j);
}

/* One step, which takes 10 ms and 1 ms per token. Returns how many took part. */
static uint32_t step(world *w)
{
    uint32_t n, n_tok = 0, n_prompt = 0, n_decode = 0;
    for (lr_job *j; (j = lr_sched_expired(&w->s, w->now));) end(w, j);
    lr_job *const *who = lr_sched_step(&w->s, w->now, &w->m, &n);
    CHECK(w->n_used <= w->n_block && w->s.n_running <= w->s.l.n_seq);
    for (uint32_t i = 0; i < n; i++) {
        lr_job *j = who[i];
        bool decodes = j->n_ids - j->n_done == 1;
        CHECK(j->state == LR_JOB_RUNNING && j->n_tok > 0 && j->n_draft < j->n_tok);
        CHECK(j->n_done + j->n_tok <= j->n_ids + j->n_draft && j->n_blocks >= blocks_of(j->n_done + j->n_tok));
        CHECK(decodes ? j->n_tok == 1 + j->n_draft : !j->n_draft);
        n_tok += j->n_tok;
        n_decode += decodes;
        if (!decodes) n_prompt += j->n_tok;
    }
    CHECK(n_tok <= w->s.l.n_tok && (!n_decode || n_prompt <= w->s.l.n_mixed));
    w->now += 0.01 + 0.001 * n_tok;
    for (uint32_t i = 0; i < n; i++) {
        lr_job *j = who[i];
        uint32_t at = (uint32_t)(j - w->jobs);
        if (j->client < 8) w->per_client[j->client] += j->n_tok;
        j->n_done += j->n_tok - j->n_draft;
        if (j->n_done < j->n_ids) continue;
        if (!w->t_first[at]) w->t_first[at] = w->now;
        if (++j->n_ids == j->n_prompt + w->want[at]) end(w, j);
    }
    return n;
}

static void run(world *w)
{
    for (uint32_t i = 0; w->s.n_running + w->s.n_waiting; i++) {
        step(w);
        CHECK(i < 200000);
    }
    CHECK_EQ_INT(w->n_used, 0);
    CHECK_EQ_INT(w->n_ended, w->n);
}

static const lr_sched_limits usual = {.n_seq = 4, .n_tok = 64, .n_mixed = 48};

TEST(one_alone_gets_all)
{
    world *w = world_new(usual, 100);
    arrive(w, 1, 0, 200, 10);
    run(w);
    CHECK_NEAR(w->now, 0.01 * (4 + 9) + 0.001 * (200 + 9), 1e-9); /* chunks of 64, 64, 64, 8; nine more tokens */
    CHECK_EQ_U64(w->s.n_preempted, 0);
    world_free(w);
}

TEST(decodes_go_on_while_prompts_are_read)
{
    world *w = world_new(usual, 200);
    lr_job *a = arrive(w, 1, 0, 10, 50);
    step(w);
    lr_job *b = arrive(w, 2, 0, 1000, 5);
    for (int i = 0; i < 10; i++) {
        uint32_t before = a->n_ids;
        CHECK_EQ_INT(step(w), 2);
        CHECK_EQ_INT(a->n_ids, before + 1);
        CHECK_EQ_INT(b->n_tok, 48);
    }
    run(w);
    world_free(w);
}

/* One floods, the other asks for one at a time: both get the like share while both have something to do. */
TEST(a_flood_of_one_client_does_not_drown_another)
{
    world *w = world_new(usual, 400);
    for (int i = 0; i < 100; i++) arrive(w, 1, 0, 100, 40);
    for (int i = 0; i < 20; i++) step(w);
    double flood = w->per_client[1];
    for (int i = 0; i < 20; i++) {
        lr_job *j = arrive(w, 2, 0, 100, 40);
        while (j->state != LR_JOB_OUT) step(w);
        CHECK(w->t_end[j - w->jobs] - w->t_first[j - w->jobs] < 6);
    }
    flood = w->per_client[1] - flood;
    printf("the flood got %.0f tokens, the other %.0f\n", flood, w->per_client[2]);
    CHECK(w->per_client[2] > 0.25 * flood); /* one place of four */
    CHECK(w->per_client[2] < flood);
    run(w);
    world_free(w);
}

TEST(two_floods_share_alike_whatever_their_lengths)
{
    world *w = world_new(usual, 400);
    for (int i = 0; i < 60; i++) arrive(w, 1, 0, 300, 10);
    for (int i = 0; i < 120; i++) arrive(w, 2, 0, 30, 60);
    while (w->s.clients[0].n_jobs > 4 && w->s.clients[1].n_jobs > 4) step(w);
    double a = w->s.clients[0].served, b = w->s.clients[1].served;
    printf("served %.0f and %.0f\n", a, b);
    CHECK(fabs(a - b) < 0.2 * (a + b) / 2);
    run(w);
    world_free(w);
}

TEST(idleness_saves_nothing_up)
{
    world *w = world_new(usual, 400);
    arrive(w, 2, 0, 10, 2);
    run(w);
    for (int i = 0; i < 40; i++) arrive(w, 1, 0, 100, 20);
    for (int i = 0; i < 300; i++) step(w);
    arrive(w, 2, 0, 10, 2);
    CHECK(w->s.clients[w->jobs[w->n - 1].at_client].served >= w->s.clients[w->jobs[1].at_client].served * 0.9);
    run(w);
    world_free(w);
}

TEST(priority_goes_first_and_takes_a_place)
{
    world *w = world_new(usual, 400);
    for (int i = 0; i < 8; i++) arrive(w, 1, 0, 50, 400);
    for (int i = 0; i < 10; i++) step(w);
    lr_job *j = arrive(w, 1, 5, 50, 10);
    step(w);
    CHECK_EQ_INT(j->state, LR_JOB_RUNNING);
    CHECK_EQ_U64(w->s.n_preempted, 1);
    while (j->state != LR_JOB_OUT) step(w);
    CHECK_EQ_INT(w->n_ended, 1);
    run(w);
    world_free(w);
}

/* Work of high priority without end, and one of the lowest that would otherwise never run. */
TEST(the_least_important_does_not_starve)
{
    world *w = world_new((lr_sched_limits){.n_seq = 2, .n_tok = 64, .age = 1, .quantum = 0.2}, 400);
    lr_job *low = arrive(w, 1, -5, 20, 30);
    for (int i = 0; low->state != LR_JOB_OUT; i++) {
        while (w->s.n_waiting < 3 && w->n < MOST_JOBS) arrive(w, 2, 0, 20, 100);
        step(w);
        CHECK(w->n < MOST_JOBS);
    }
    printf("done after %.1f s\n", w->now);
    CHECK(low->n_preempted > 0);
    run(w);
    world_free(w);
}

/* More clients than places: they take turns. */
TEST(clients_take_turns_when_places_are_few)
{
    world *w = world_new((lr_sched_limits){.n_seq = 2, .n_tok = 64, .age = 1, .quantum = 0.2}, 400);
    for (uint64_t c = 0; c < 6; c++) arrive(w, c, 0, 30, 2000);
    while (w->now < 60) step(w);
    for (int c = 0; c < 6; c++) CHECK(w->t_first[c] > 0 && w->t_first[c] < 20);
    CHECK(w->s.n_preempted > 10);
    run(w);
    for (int c = 0; c < 6; c++) CHECK(w->t_end[c] > 0.7 * w->now);
    world_free(w);
}

TEST(a_deadline_ends_it_waiting_or_running)
{
    world *w = world_new((lr_sched_limits){.n_seq = 1, .n_tok = 64}, 400);
    lr_job *a = arrive(w, 1, 0, 30, 1000), *b = arrive(w, 1, 0, 30, 1000);
    a->deadline = 2;
    b->deadline = 1;
    CHECK(!lr_sched_expired(&w->s, 0.9));
    run(w);
    CHECK_NEAR(w->t_end[1], 1, 0.05);
    CHECK_NEAR(w->t_end[0], 2, 0.05);
    world_free(w);
}

TEST(a_full_cache_preempts_the_least_important_only)
{
    world *w = world_new(usual, 20);
    for (int i = 0; i < 4; i++) arrive(w, 1, i == 0 ? 1 : 0, 100, 250); /* each grows to 11 blocks */
    run(w);
    CHECK(w->s.n_preempted > 0);
    CHECK_EQ_INT(w->jobs[0].n_preempted, 0);
    CHECK(w->t_end[0] <= w->t_end[1] && w->t_end[1] <= w->t_end[3]);
    world_free(w);
}

TEST(drafts_take_only_what_is_left)
{
    world *w = world_new((lr_sched_limits){.n_seq = 4, .n_tok = 16, .n_draft = 6}, 100);
    for (int i = 0; i < 3; i++) arrive(w, 1, 0, 4, 40)->n_wish = 4;
    step(w);
    step(w);
    CHECK_EQ_INT(w->jobs[0].n_draft + w->jobs[1].n_draft + w->jobs[2].n_draft, 6);
    arrive(w, 1, 0, 100, 4);
    step(w);
    CHECK_EQ_INT(w->jobs[3].n_tok, 13); /* a prompt comes before drafts */
    CHECK_EQ_INT(w->jobs[0].n_draft + w->jobs[1].n_draft + w->jobs[2].n_draft, 0);
    run(w);
    world_free(w);
}

TEST_TIME(random_work_all_ends, 120)
{
    for (int round = 0; round < 40; round++) {
        lr_sched_limits l = {.n_seq = 1 + (uint32_t)(test_random() % 12), .age = 0.5, .quantum = 0.05};
        l.n_tok = l.n_seq + (uint32_t)(test_random() % 100);
        l.n_draft = (uint32_t)(test_random() % 9);
        world *w = world_new(l, 16 + (uint32_t)(test_random() % 40));
        for (int i = 0; i < 150; i++) {
            lr_job *j = arrive(w, test_random() % 5, (int)(test_random() % 5) - 2,
                               1 + (uint32_t)(test_random() % 300),
                               1 + (uint32_t)(test_random() % 200)); /* 16 blocks at most */
            j->n_wish = (uint32_t)(test_random() % 5);
            if (test_random() % 10 == 0) j->deadline = w->now + test_uniform(0, 5);
            for (uint64_t k = test_random() % 8; k > 0; k--) step(w);
            if (test_random() % 8 == 0) {
                lr_job *gone = &w->jobs[test_random() % w->n];
                if (gone->state != LR_JOB_OUT) end(w, gone);
            }
        }
        run(w);
        world_free(w);
    }
}

TEST(wrong_arguments_are_refused)
{
    lr_sched s;
    lr_job j = {.priority = 101};
    CHECK_STATUS(lr_sched_init(&s, &(lr_sched_limits){.n_seq = 2, .n_tok = 1, .block = 32}, NULL), LARDER_USAGE);
    CHECK_STATUS(lr_sched_init(&s, &(lr_sched_limits){.n_seq = 2, .n_tok = 2, .block = 32}, NULL), LARDER_OK);
    CHECK_STATUS(lr_sched_add(&s, &j, 0, NULL), LARDER_USAGE);
    j.priority = 0;
    j.deadline = NAN;
    CHECK_STATUS(lr_sched_add(&s, &j, 0, NULL), LARDER_USAGE);
    lr_sched_remove(&s, &j);
    for (long n = 0; n < 2; n++) {
        lr_sched t;
        lr_alloc_fail_at(n);
        CHECK_STATUS(lr_sched_init(&t, &(lr_sched_limits){.n_seq = 2, .n_tok = 2, .block = 32}, NULL), LARDER_NOMEM);
        lr_alloc_fail_at(-1);
    }
    j.deadline = 0;
    lr_alloc_fail_at(0);
    CHECK_STATUS(lr_sched_add(&s, &j, 0, NULL), LARDER_NOMEM);
    lr_alloc_fail_at(-1);
    CHECK_STATUS(lr_sched_add(&s, &j, 0, NULL), LARDER_OK);
    lr_sched_remove(&s, &j);
    lr_sched_close(&s);
}
