/* The heap, arenas, failure injection, checked arithmetic, hashing. */
#include "base.h"
#include "test.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

TEST(arena_blocks_are_zeroed_aligned_and_apart)
{
    lr_arena a = {0};
    unsigned char *blocks[300];
    size_t sizes[300];
    for (size_t i = 0; i < LR_LEN(blocks); i++) {
        sizes[i] = i % 50 == 49 ? (size_t)3 << 20 : test_random() % 2000;
        blocks[i] = lr_arena_alloc(&a, sizes[i]);
        CHECK(blocks[i]);
        CHECK_EQ_U64((uintptr_t)blocks[i] % 64, 0);
        for (size_t k = 0; k < sizes[i]; k++) CHECK(blocks[i][k] == 0);
        memset(blocks[i], (int)(i & 0xff), sizes[i]);
    }
    for (size_t i = 0; i < LR_LEN(blocks); i++)
        for (size_t k = 0; k < sizes[i]; k++) CHECK(blocks[i][k] == (i & 0xff));
    lr_arena_free(&a);
    CHECK(!a.chunk && !a.n_bytes);
    lr_arena_free(&a);
}

TEST(arena_refuses_overflow)
{
    lr_arena a = {0};
    CHECK(!lr_arena_alloc(&a, SIZE_MAX));
    CHECK(!lr_arena_alloc(&a, SIZE_MAX - 64));
    CHECK(!lr_arena_array(&a, SIZE_MAX / 2, 3));
    CHECK_EQ_STR(lr_arena_strndup(&a, "abcdef", 3), "abc");
    CHECK_EQ_STR(lr_arena_strndup(&a, NULL, 0), "");
    lr_arena_free(&a);
}

TEST(a_failed_allocation_leaves_the_arena_whole)
{
    lr_arena a = {0};
    lr_alloc_fail_at(0);
    CHECK(!lr_arena_alloc(&a, 10));
    lr_alloc_fail_at(-1);
    char *p = lr_arena_strndup(&a, "kept", 4);
    lr_alloc_fail_at(0);
    CHECK(!lr_arena_alloc(&a, (size_t)1 << 20));
    lr_alloc_fail_at(-1);
    CHECK_EQ_STR(p, "kept");
    lr_arena_free(&a);
}

TEST(failure_injection_counts)
{
    void *p[4] = {0};
    long before = lr_alloc_count();
    lr_alloc_fail_at(2);
    p[0] = lr_alloc(1), p[1] = lr_calloc(1, 1), p[2] = lr_alloc(1), p[3] = lr_realloc(NULL, 1);
    CHECK(p[0] && p[1] && !p[2] && !p[3]);
    CHECK(!lr_pages_alloc(1));
    lr_alloc_fail_at(-1);
    CHECK_EQ_INT(lr_alloc_count() - before, 5);
    for (size_t i = 0; i < LR_LEN(p); i++) lr_free(p[i]);
}

TEST(zero_sizes_and_overflow_on_the_heap)
{
    void *p = lr_alloc(0), *q = lr_calloc(0, 8);
    CHECK(p && q);
    lr_free(q);
    p = lr_realloc(p, 0);
    CHECK(p);
    lr_free(p);
    lr_free(NULL);
    CHECK(!lr_calloc(SIZE_MAX / 2, 3));
    CHECK(!lr_strndup("x", SIZE_MAX));
}

TEST(checked_arithmetic)
{
    size_t s;
    uint64_t u;
    CHECK(lr_mul_size(3, 5, &s) && s == 15);
    CHECK(!lr_mul_size(SIZE_MAX / 2 + 1, 2, &s));
    CHECK(lr_add_size(SIZE_MAX - 1, 1, &s) && s == SIZE_MAX);
    CHECK(!lr_add_size(SIZE_MAX, 1, &s));
    CHECK(lr_mul_u64(1u << 31, 1u << 31, &u) && u == (uint64_t)1 << 62);
    CHECK(!lr_mul_u64(UINT64_MAX, 2, &u) && !lr_add_u64(UINT64_MAX, 1, &u));
}

TEST(pages_are_zero_and_aligned_when_large)
{
    size_t sizes[] = {1, 4096, (size_t)2 << 20, ((size_t)5 << 20) + 1};
    for (size_t i = 0; i < LR_LEN(sizes); i++) {
        unsigned char *p = lr_pages_alloc(sizes[i]);
        CHECK(p);
        if (sizes[i] >= (size_t)2 << 20) CHECK_EQ_U64((uintptr_t)p % ((size_t)2 << 20), 0);
        CHECK(!p[0] && !p[sizes[i] - 1]);
        p[sizes[i] - 1] = 1;
        lr_pages_free(p, sizes[i]);
    }
    CHECK(!lr_pages_alloc(SIZE_MAX));
    lr_pages_free(NULL, 5);
}

#ifdef LR_CHECK_ALLOC
static void ours(void)
{
    void *volatile p = lr_alloc(8);
    (void)p;
}

#ifdef LR_WRAP_MALLOC
static void raw(void)
{
    void *volatile p = malloc(8);
    (void)p;
}
#endif

static bool aborts(void (*allocate)(void))
{
    pid_t pid = fork();
    if (!pid) {
        fclose(stderr);
        lr_no_alloc(true);
        lr_no_alloc(true);
        lr_no_alloc(false); /* calls nest */
        allocate();
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}
#endif

TEST(an_allocation_where_none_may_be_aborts)
{
#ifndef LR_CHECK_ALLOC
    SKIP("only debug and sanitizer builds check this");
#else
    CHECK(aborts(ours));
#ifdef LR_WRAP_MALLOC
    CHECK(aborts(raw));
#endif
    lr_no_alloc(true);
    lr_no_alloc(false);
    lr_free(lr_alloc(8));
#endif
}

TEST(hash_tells_lengths_and_bytes_apart)
{
    char zeros[64] = {0};
    for (size_t n = 1; n < sizeof zeros; n++) CHECK(lr_hash(zeros, n) != lr_hash(zeros, n - 1));
    uint64_t h = lr_hash(zeros, sizeof zeros);
    CHECK_EQ_U64(h, lr_hash(zeros, sizeof zeros));
    for (size_t i = 0; i < sizeof zeros; i++) {
        zeros[i] = 1;
        CHECK(lr_hash(zeros, sizeof zeros) != h);
        zeros[i] = 0;
    }
}

TEST(views_compare)
{
    CHECK(lr_str_is(LR_STR("abc"), "abc") && !lr_str_is(LR_STR("abc"), "ab"));
    CHECK(lr_str_eq((lr_str){NULL, 0}, LR_STR("")));
    CHECK(lr_str_cmp(LR_STR("ab"), LR_STR("abc")) < 0 && lr_str_cmp(LR_STR("b"), LR_STR("abc")) > 0);
    CHECK_EQ_INT(lr_str_cmp(LR_STR("x"), LR_STR("x")), 0);
}
