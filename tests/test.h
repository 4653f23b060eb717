/* test.h - what a test file needs. One file is one program; the runner starts it once per test.
 *
 *     #include "test.h"
 *     TEST(adds) { CHECK_EQ_INT(1 + 1, 2); }
 *
 * A failed CHECK prints where and what, and ends the test: its process exits with 1. SKIP(why) exits with 77.
 * `prog` alone runs all tests one after the other, `prog name` one, `prog --list` names them with their time limits.
 * Random numbers come from test_random, whose seed LARDER_SEED sets; it is printed with every failure.
 */
#ifndef LR_TEST_H
#define LR_TEST_H

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct test {
    const char *name;
    int seconds; /* the runner's limit, before the scale of the build's mode */
    void (*run)(void);
    struct test *next;
};
static struct test *test_first, **test_last = &test_first;
static uint64_t test_seed, test_state;

/* A test with its own time limit. */
#define TEST_TIME(id, limit) \
    static void test_run_##id(void); \
    __attribute__((constructor)) static void test_add_##id(void) \
    { \
        static struct test t = {#id, limit, test_run_##id, NULL}; \
        *test_last = &t; \
        test_last = &t.next; \
    } \
    static void test_run_##id(void)
#define TEST(id) TEST_TIME(id, 60)

#define TEST_FAIL(...) \
    do { \
        fflush(stdout); \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
        fprintf(stderr, __VA_ARGS__); \
        fprintf(stderr, " (LARDER_SEED=%" PRIu64 ")\n", test_seed); \
        exit(1); \
    } while (0)
/* The reason is the last line of stdout. */
#define SKIP(...) \
    do { \
        printf(__VA_ARGS__); \
        printf("\n"); \
        fflush(stdout); \
        exit(77); \
    } while (0)

#define CHECK(cond) \
    do { \
        if (!(cond)) TEST_FAIL("CHECK(%s)", #cond); \
    } while (0)
#define CHECK_EQ_INT(a, b) \
    do { \
        long long a_ = (long long)(a), b_ = (long long)(b); \
        if (a_ != b_) TEST_FAIL("%s is %lld, not %s = %lld", #a, a_, #b, b_); \
    } while (0)
#define CHECK_EQ_U64(a, b) \
    do { \
        uint64_t a_ = (a), b_ = (b); \
        if (a_ != b_) TEST_FAIL("%s is %" PRIu64 ", not %s = %" PRIu64, #a, a_, #b, b_); \
    } while (0)
#define CHECK_EQ_STR(a, b) \
    do { \
        const char *a_ = (a), *b_ = (b); \
        if (!a_ || !b_ || strcmp(a_, b_)) \
            TEST_FAIL("%s is\n  \"%s\", not\n  \"%s\"", #a, a_ ? a_ : "(null)", b_ ? b_ : "(null)"); \
    } while (0)
/* |a - b| <= tolerance, and neither is NaN. */
#define CHECK_NEAR(a, b, tolerance) \
    do { \
        double a_ = (a), b_ = (b), t_ = (tolerance); \
        if (!(fabs(a_ - b_) <= t_)) TEST_FAIL("%s is %.9g, not %s = %.9g within %g", #a, a_, #b, b_, t_); \
    } while (0)
/* Of calls that return a larder_status and fill `err`. */
#define CHECK_OK(call) \
    do { \
        larder_status st_ = (call); \
        if (st_) TEST_FAIL("%s: %s: %s", #call, larder_status_text(st_), err.message); \
    } while (0)
#define CHECK_STATUS(call, want) \
    do { \
        larder_status st_ = (call), want_ = (want); \
        if (st_ != want_) \
            TEST_FAIL("%s: \"%s\", not \"%s\"", #call, larder_status_text(st_), larder_status_text(want_)); \
    } while (0)

/* 64 random bits (splitmix64, public domain algorithm of Sebastiano Vigna). */
__attribute__((unused)) static uint64_t test_random(void)
{
    uint64_t z = test_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
/* Uniform in [low, high). */
__attribute__((unused)) static float test_uniform(float low, float high)
{
    return low + (high - low) * (float)(test_random() >> 40) / 16777216.0f;
}

/* LARDER_QUICK=1: fewer sizes, for sanitizers and emulators; the runner says so. */
__attribute__((unused)) static bool test_quick(void)
{
    const char *s = getenv("LARDER_QUICK");
    return s && !strcmp(s, "1");
}

/* A path under ../shared, made in `out`; skips the test when it is not there. */
__attribute__((unused)) static const char *test_shared(const char *name)
{
    static char path[4096];
    const char *root = getenv("LARDER_SHARED");
    if (!root || !*root) SKIP("LARDER_SHARED is not set");
    snprintf(path, sizeof path, "%s/%s", root, name);
    FILE *f = fopen(path, "rb");
    if (!f) SKIP("%s is not there", path);
    fclose(f);
    return path;
}

static void test_seed_set(void)
{
    const char *s = getenv("LARDER_SEED");
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    test_seed = s && *s ? strtoull(s, NULL, 10) : (uint64_t)t.tv_nsec ^ (uint64_t)t.tv_sec << 20;
    test_state = test_seed;
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "--list")) {
        for (struct test *t = test_first; t; t = t->next) printf("%s %d\n", t->name, t->seconds);
        return 0;
    }
    test_seed_set();
    printf("LARDER_SEED=%" PRIu64 "\n", test_seed);
    int n_run = 0;
    for (struct test *t = test_first; t; t = t->next) {
        if (argc > 1 && strcmp(argv[1], t->name)) continue;
        if (argc == 1) fprintf(stderr, "%s\n", t->name);
        t->run();
        n_run++;
    }
    if (!n_run) fprintf(stderr, "no such test\n");
    return n_run ? 0 : 2;
}

#endif
