/* test_gguf.c - reading GGUF: good files of every kind, and each class of bad ones (G1, G2, G3, G5, G7, G8). */
#include "build.h"

#include <sys/resource.h>
#include <sys/wait.h>

TEST(reads_every_kind_of_key)
{
    build f = {0};
    build_good(&f);
    larder_error err = {0};
    lr_file m;
    CHECK_OK(lr_load_bytes((const uint8_t *)f.b.p, f.b.n, &m, &err));
    CHECK_EQ_INT(m.n_kv, 7);
    CHECK_EQ_INT(m.n_tensors, 3);
    CHECK_EQ_INT(m.alignment, 32);
    uint32_t u = 0;
    double d = 0;
    bool b = false;
    lr_str s = {0};
    CHECK_OK(lr_key_u32(&m, "a.u32", 0, 10, &u, &err));
    CHECK_OK(lr_key_f64(&m, "a.f64", 0, 10, &d, &err));
    CHECK_OK(lr_key_bool(&m, "a.bool", &b, &err));
    CHECK_OK(lr_key_str(&m, "general.architecture", &s, &err));
    CHECK(u == 7 && d == 2.5 && b && lr_str_is(s, "llama"));
    const lr_kv *kv = lr_file_key(&m, "tokens");
    lr_str_iter it = lr_str_walk(kv);
    CHECK(lr_str_next(&it, &s) && lr_str_is(s, "<s>"));
    CHECK(lr_str_next(&it, &s) && s.n == 0);
    CHECK(lr_str_next(&it, &s) && s.n == 2);
    CHECK(!lr_str_next(&it, &s));
    const lr_tensor *t = lr_file_tensor(&m, LR_STR("three"));
    CHECK(t && t->n_dims == 4 && t->ne[0] == 2 && t->ne[3] == 2);
    CHECK_EQ_INT(t->n_bytes, 48);
    CHECK_EQ_INT(t->row_stride, 4);
    CHECK_EQ_INT(t->mat_stride, 12);
    CHECK(t->data + t->n_bytes == (const uint8_t *)f.b.p + f.b.n);
    CHECK_EQ_INT(t->aux_row_stride, 0);
    t = lr_file_tensor(&m, LR_STR("two"));
    CHECK_EQ_INT(t->n_bytes, 34);
    lr_file_close(&m);
    lr_buf_free(&f.b);
}

TEST(versions)
{
    build f = {0};
    larder_error err = {0};
    build_good(&f);
    f.b.p[4] = 2;
    CHECK_OK(load_build(&f, &err));
    f.b.p[4] = 1;
    check_refused(&f, "version 1");
    build_good(&f);
    f.b.p[4] = 4;
    check_refused(&f, "version 4");
    build_good(&f);
    memcpy(f.b.p + 4, "\0\0\0\3", 4);
    check_refused(&f, "big-endian");
}

TEST(every_prefix_is_an_error)
{
    build f = {0};
    build_good(&f);
    for (size_t n = 0; n < f.b.n; n++) {
        lr_file m;
        uint8_t *copy;
        larder_error err = {0};
        if (!load_copy(f.b.p, n, &m, &copy, &err))
            TEST_FAIL("the first %zu of %zu bytes were read as a whole file", n, f.b.n);
        CHECK(err.message[0] && !strchr(err.message, '\n'));
    }
    lr_buf_free(&f.b);
}

TEST(every_size_field_at_its_limits)
{
    static const uint64_t values[] = {0,
                                      1,
                                      INT32_MAX,
                                      (uint64_t)1 << 31,
                                      UINT32_MAX,
                                      INT64_MAX,
                                      (uint64_t)1 << 63,
                                      UINT64_MAX,
                                      (uint64_t)1 << 62,
                                      UINT64_MAX / 4,
                                      UINT64_MAX - 31};
    build f = {0};
    build_good(&f);
    int n_refused = 0;
    for (int i = 0; i < f.n_u64; i++)
        for (size_t v = 0; v < LR_LEN(values); v++)
            for (int pair = 0; pair < 2; pair++) { /* and two neighbours at once, for products that wrap */
                build g = {0};
                larder_error err = {0};
                put(&g, f.b.p, f.b.n);
                memcpy(g.b.p + f.u64_at[i], &values[v], 8);
                if (pair && i + 1 < f.n_u64) memcpy(g.b.p + f.u64_at[i + 1], &values[v], 8);
                larder_status st = load_build(&g, &err);
                if (v >= 2 && !st) TEST_FAIL("field %d at byte %zu set to value %zu was accepted", i, f.u64_at[i], v);
                n_refused += st != LARDER_OK;
                lr_buf_free(&g.b);
            }
    CHECK(n_refused > 300);
    lr_buf_free(&f.b);
}

TEST(random_damage_never_crashes)
{
    build f = {0};
    build_good(&f);
    uint8_t *bytes = malloc(f.b.n);
    for (int round = 0; round < 20000; round++) {
        memcpy(bytes, f.b.p, f.b.n);
        for (uint64_t k = test_random() % 4 + 1; k > 0; k--) {
            uint64_t r = test_random();
            size_t at = (size_t)(r >> 16) % f.b.n;
            if (r & 0x100) bytes[at] = (uint8_t)r;
            else bytes[at] ^= (uint8_t)(1u << (r & 7));
        }
        lr_file m;
        uint8_t *copy;
        larder_error err = {0};
        if (load_copy(bytes, f.b.n, &m, &copy, &err)) continue;
        read_all(&m);
        lr_file_close(&m);
        free(copy);
    }
    free(bytes);
    lr_buf_free(&f.b);
}

/* ---------------------------------------------------------------- keys */

TEST(bad_keys)
{
    build f = {0};
    put_head(&f, 3, 0, 1);
    put_key(&f, "k", 13);
    put_data(&f, 16);
    check_refused(&f, "type 13");

    put_head(&f, 3, 0, 1);
    put_key(&f, "k", LR_KV_ARR);
    put_u32(&f, LR_KV_ARR);
    put_u64(&f, 1);
    put_data(&f, 32);
    check_refused(&f, "array of arrays");

    put_head(&f, 3, 0, 1);
    put_key(&f, "k", LR_KV_ARR);
    put_u32(&f, 99);
    put_u64(&f, 1);
    put_data(&f, 32);
    check_refused(&f, "type 99");

    put_head(&f, 3, 0, 1);
    put_key(&f, "truth", LR_KV_BOOL);
    put(&f, "\2", 1);
    check_refused(&f, "'truth' holds a truth value of 2");

    put_head(&f, 3, 0, 1);
    put_key(&f, "truths", LR_KV_ARR);
    put_u32(&f, LR_KV_BOOL);
    put_u64(&f, 3);
    put(&f, "\1\0\xff", 3);
    check_refused(&f, "truth value of 255");

    put_head(&f, 3, 0, 2);
    put_key_u32(&f, "same", 1);
    put_key_u32(&f, "same", 2);
    check_refused(&f, "'same' stands twice");
}

static void try_key_name(const char *name, size_t n)
{
    build f = {0};
    put_head(&f, 3, 0, 1);
    put_name(&f, name, n);
    put_u32(&f, LR_KV_U8);
    put_data(&f, 9);
    check_refused(&f, "printable UTF-8");
}

TEST(bad_names)
{
    try_key_name("", 0);
    try_key_name("a\nb", 3);
    try_key_name("a\0b", 3);
    try_key_name("\x1b[2J", 4);
    try_key_name("\xc0\x80", 2);
    try_key_name("\xed\xa0\x80", 3);
    try_key_name("\xf4\x90\x80\x80", 4);
    try_key_name("\xe2\x96", 2);
    try_key_name("\xc2\x85", 2);
    char *big = malloc(65537);
    memset(big, 'a', 65537);
    try_key_name(big, 65537);
    free(big);
}

TEST(bad_alignment)
{
    static const uint32_t bad[] = {0, 1, 3, 4, 24, 33, 131072, 0x80000000u, UINT32_MAX};
    build f = {0};
    for (size_t i = 0; i < LR_LEN(bad); i++) {
        put_head(&f, 3, 0, 1);
        put_key_u32(&f, "general.alignment", bad[i]);
        check_refused(&f, "general.alignment is");
    }
    put_head(&f, 3, 0, 1);
    put_key(&f, "general.alignment", LR_KV_STR);
    put_name(&f, "32", 2);
    check_refused(&f, "general.alignment is string");

    larder_error err = {0};
    for (uint32_t a = 8; a <= 65536; a *= 2) {
        put_head(&f, 3, 2, 1);
        put_key_u32(&f, "general.alignment", a);
        put_tensor(&f, "a", 1, (uint64_t[]){1}, LR_FMT_F32, 0);
        put_tensor(&f, "b", 1, (uint64_t[]){1}, LR_FMT_F32, a);
        put_pad(&f, a);
        put_data(&f, a + 4);
        CHECK_OK(load_build(&f, &err));
        lr_buf_free(&f.b);
        f = (build){0};
    }
}

/* ---------------------------------------------------------------- tensors */

static void try_tensor(uint32_t n_dims, const uint64_t *ne, uint32_t fmt, uint64_t at, const char *why)
{
    build f = {0};
    put_head(&f, 3, 1, 0);
    put_tensor(&f, "weight.x", n_dims, ne, fmt, at);
    put_pad(&f, 32);
    put_data(&f, 256);
    check_refused(&f, why);
}

TEST(bad_tensors)
{
    uint64_t big = (uint64_t)1 << 62;
    try_tensor(0, NULL, 0, 0, "0 dimensions");
    try_tensor(5, (uint64_t[]){1, 1, 1, 1, 1}, 0, 0, "5 dimensions");
    try_tensor(2, (uint64_t[]){4, 0}, 0, 0, "dimension 1 of tensor 'weight.x' is 0");
    try_tensor(1, (uint64_t[]){33}, LR_FMT_Q8_0, 0, "block of 32");
    try_tensor(1, (uint64_t[]){4}, 28, 0, "'weight.x' is stored as type 28 (F64)");
    try_tensor(1, (uint64_t[]){4}, 4000000000u, 0, "type 4000000000");
    try_tensor(1, (uint64_t[]){32}, LR_FMT_MXFP4_PAIRS, 0, "type 256"); /* a format, but not GGUF's */
    try_tensor(1, (uint64_t[]){4}, 0, 8, "multiple of 32");
    try_tensor(1, (uint64_t[]){4}, 0, 256, "past the end");
    try_tensor(1, (uint64_t[]){65}, 0, 0, "past the end");
    try_tensor(1, (uint64_t[]){4}, 0, UINT64_MAX - 31, "past the end");
    try_tensor(1, (uint64_t[]){big}, 0, 0, "overflows");
    try_tensor(2, (uint64_t[]){big, 4}, 0, 0, "overflows");
    try_tensor(4, (uint64_t[]){1u << 31, 1u << 31, 1u << 31, 1u << 31}, 0, 0, "overflows");
    /* The weights of a 2-bit format overflow before their bytes do. */
    try_tensor(2, (uint64_t[]){(uint64_t)1 << 40, (uint64_t)1 << 24}, LR_FMT_IQ2_XXS, 0, "overflows");

    build f = {0};
    put_head(&f, 3, 2, 0);
    put_tensor(&f, "a", 1, (uint64_t[]){16}, 0, 0);
    put_tensor(&f, "b", 1, (uint64_t[]){16}, 0, 32);
    put_pad(&f, 32);
    put_data(&f, 256);
    check_refused(&f, "'a' and 'b' overlap");

    put_head(&f, 3, 2, 0);
    put_tensor(&f, "a", 1, (uint64_t[]){8}, 0, 0);
    put_tensor(&f, "a", 1, (uint64_t[]){8}, 0, 32);
    put_pad(&f, 32);
    put_data(&f, 256);
    check_refused(&f, "'a' stands twice");
}

/* ---------------------------------------------------------------- memory */

/* A header may not make us take more memory than it has bytes (and a constant). */
TEST(claims_do_not_allocate)
{
    if (SANITIZED) SKIP("an address space limit and a sanitizer do not go together");
    static const uint64_t claims[] = {1u << 20, (uint64_t)1 << 31, (uint64_t)1 << 40, INT64_MAX, UINT64_MAX};
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct rlimit limit = {256 << 20, 256 << 20};
        setrlimit(RLIMIT_AS, &limit);
        build good = {0};
        build_good(&good);
        for (int i = 0; i < good.n_u64; i++)
            for (size_t c = 0; c < LR_LEN(claims); c++) {
                build f = {0};
                larder_error err = {0};
                put(&f, good.b.p, good.b.n);
                memcpy(f.b.p + good.u64_at[i], &claims[c], 8);
                uint64_t before = lr_rss_peak();
                larder_status st = load_build(&f, &err);
                if (st == LARDER_NOMEM || lr_rss_peak() - before > (4 << 20)) _exit(3);
                lr_buf_free(&f.b);
            }
        _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    CHECK(WIFEXITED(status));
    CHECK_EQ_INT(WEXITSTATUS(status), 0);
}

TEST(every_allocation_may_fail)
{
    build f = {0};
    build_good(&f);
    bool done = false;
    for (long i = 0; i < 200 && !done; i++) {
        lr_file m;
        larder_error err = {0};
        lr_alloc_fail_at(i);
        larder_status st = lr_load_bytes((const uint8_t *)f.b.p, f.b.n, &m, &err);
        lr_alloc_fail_at(-1);
        done = !st;
        if (done) lr_file_close(&m);
        else CHECK_EQ_INT(st, LARDER_NOMEM);
    }
    CHECK(done);
    lr_buf_free(&f.b);
}

TEST(large_vocabulary_is_quick)
{
    enum { N = 262144 };
    build *f = calloc(1, sizeof *f);
    put_head(f, 3, 0, 1);
    put_key(f, "tokens", LR_KV_ARR);
    put_u32(f, LR_KV_STR);
    put_u64(f, N);
    for (int i = 0; i < N; i++) {
        put(f, &(uint64_t){6}, 8);
        put(f, "tokens", 6);
    }
    larder_error err = {0};
    lr_file m;
    uint64_t begin = lr_now_ns();
    CHECK_OK(lr_load_bytes((const uint8_t *)f->b.p, f->b.n, &m, &err));
    CHECK(lr_now_ns() - begin < 200000000u);
    lr_file_close(&m);
    lr_buf_free(&f->b);
    free(f);
}

/* ---------------------------------------------------------------- files */

TEST(file_that_shrinks_reads_as_zeros)
{
    build f = {0};
    put_head(&f, 3, 1, 0);
    put_tensor(&f, "big", 1, (uint64_t[]){65536}, LR_FMT_F32, 0);
    put_pad(&f, 32);
    put_data(&f, 4 * 65536);
    const char *path = temp_path("shrinks.gguf");
    save(path, &f);
    larder_error err = {0};
    lr_file m;
    CHECK_OK(lr_load(path, &m, &err));
    CHECK(!lr_file_damaged(&m));
    CHECK(truncate(path, 4096) == 0);
    const lr_tensor *t = lr_file_tensor(&m, LR_STR("big"));
    CHECK_EQ_INT(t->data[t->n_bytes - 1], 0);
    CHECK(lr_file_damaged(&m));
    lr_file_close(&m);
    CHECK(lr_load(path, &m, &err) == LARDER_FORMAT);
}

/* Opening never touches tensor data, so 100 GB (of a sparse file) open as fast as 100 bytes. */
TEST(size_does_not_matter)
{
    build f = {0};
    uint64_t n_rows = 25000000;
    put_head(&f, 3, 1, 0);
    put_tensor(&f, "huge", 2, (uint64_t[]){1000, n_rows}, LR_FMT_F32, 0);
    put_pad(&f, 32);
    size_t n_head = f.b.n;
    const char *path = temp_path("huge.gguf");
    save(path, &f);
    if (truncate(path, (off_t)(n_head + 4000 * n_rows)) != 0) SKIP("no sparse files here");
    larder_error err = {0};
    lr_file m;
    uint64_t begin = lr_now_ns(), rss = lr_rss_now();
    CHECK_OK(lr_load(path, &m, &err));
    CHECK(lr_now_ns() - begin < 100000000u);
    CHECK(lr_rss_now() < rss + (8 << 20));
    CHECK_EQ_U64(m.tensors[0].n_bytes, 4000 * n_rows);
    lr_file_close(&m);
}

TEST(what_a_path_may_be)
{
    larder_error err = {0};
    lr_file m;
    build f = {0};
    build_good(&f);
    save(temp_path("no-ending"), &f); /* the magic decides */
    CHECK_OK(lr_load(temp_path("no-ending"), &m, &err));
    lr_file_close(&m);
    save_bytes(temp_path("x.gguf"), "hello", 5);
    CHECK(lr_load(temp_path("x.gguf"), &m, &err) == LARDER_FORMAT);
    CHECK(strstr(err.message, "does not begin with 'GGUF'"));
    save_bytes(temp_path("empty.gguf"), "", 0);
    CHECK(lr_load(temp_path("empty.gguf"), &m, &err) != LARDER_OK);
    CHECK(lr_load(temp_path("absent.gguf"), &m, &err) != LARDER_OK);
    CHECK(strstr(err.message, "absent.gguf"));
    CHECK(lr_load("/dev/null", &m, &err) != LARDER_OK);
    CHECK(lr_load("/dev/zero", &m, &err) != LARDER_OK);
    CHECK(strstr(err.message, "regular file"));
}

TEST(real_model)
{
    const char *cache = getenv("LARDER_CACHE");
    if (!cache || !*cache) SKIP("LARDER_CACHE is not set");
    char path[1000];
    snprintf(path, sizeof path, "%s/../../tinyllama-iq2xxs.gguf", cache);
    if (!lr_is_file(path)) SKIP("%s is not there", path);
    larder_error err = {0};
    lr_file m;
    uint64_t begin = lr_now_ns();
    CHECK_OK(lr_load(path, &m, &err));
    CHECK(lr_now_ns() - begin < 200000000u);
    CHECK_EQ_INT(m.n_tensors, 201);
    CHECK_EQ_INT(m.n_kv, 22);
    CHECK_EQ_INT(lr_file_key(&m, "tokenizer.ggml.tokens")->n, 32000);
    const lr_tensor *t = lr_file_tensor(&m, LR_STR("blk.21.ffn_down.weight"));
    CHECK(t && t->ne[0] == 5632 && t->ne[1] == 2048);
    lr_file_close(&m);
}

/* ---------------------------------------------------------------- split sets */

static void save_part(const char *name, int no, int count, int n_tensors, const char *tensor)
{
    build f = {0};
    put_head(&f, 3, 1, no == 0 ? 4 : 3);
    if (no == 0) put_key_u32(&f, "a.u32", 7);
    put_key_u16(&f, "split.no", (uint16_t)no);
    put_key_u16(&f, "split.count", (uint16_t)count);
    put_key(&f, "split.tensors.count", LR_KV_I32);
    put_u32(&f, (uint32_t)n_tensors);
    put_tensor(&f, tensor, 1, (uint64_t[]){8}, LR_FMT_F32, 0);
    put_pad(&f, 32);
    put_data(&f, 32);
    save(temp_path(name), &f);
}

static void save_set(void)
{
    save_part("m-00001-of-00003.gguf", 0, 3, 3, "a");
    save_part("m-00002-of-00003.gguf", 1, 3, 3, "b");
    save_part("m-00003-of-00003.gguf", 2, 3, 3, "c");
}

TEST(split_set_opens_from_any_part)
{
    static const char *const names[] = {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"};
    larder_error err = {0};
    lr_file m;
    save_set();
    for (size_t i = 0; i < LR_LEN(names); i++) {
        CHECK_OK(lr_load(temp_path(names[i]), &m, &err));
        CHECK_EQ_INT(m.n_maps, 3);
        CHECK_EQ_INT(m.n_tensors, 3);
        CHECK_EQ_INT(m.n_kv, 4);
        CHECK(lr_file_key(&m, "a.u32") && lr_file_tensor(&m, LR_STR("c")));
        read_all(&m);
        lr_file_close(&m);
    }
}

static void check_set(const char *name, const char *why)
{
    larder_error err = {0};
    lr_file m;
    larder_status st = lr_load(temp_path(name), &m, &err);
    if (!st || !strstr(err.message, why)) TEST_FAIL("%s: '%s', not '%s'", name, err.message, why);
}

TEST(split_set_that_does_not_fit)
{
    save_set();
    unlink(temp_path("m-00002-of-00003.gguf"));
    check_set("m-00001-of-00003.gguf", "part 2 of 3 is missing");
    CHECK(rename(temp_path("m-00001-of-00003.gguf"), temp_path("other.gguf")) == 0);
    check_set("other.gguf", "its name must end in -00001-of-00003.gguf");
    check_set("m-00003-of-00003.gguf", "part 1 of 3 is missing");
    save_set();
    save_part("m-00002-of-00003.gguf", 2, 3, 3, "b");
    check_set("m-00001-of-00003.gguf", "says it is part 3 of 3");
    check_set("m-00002-of-00003.gguf", "says it is part 3 of 3");
    save_set();
    save_part("m-00003-of-00003.gguf", 2, 4, 3, "c");
    check_set("m-00001-of-00003.gguf", "part 3 of 4");
    save_set();
    save_part("m-00001-of-00003.gguf", 0, 3, 4, "a");
    check_set("m-00001-of-00003.gguf", "should hold 4 tensors and holds 3");
    save_set();
    save_part("m-00002-of-00003.gguf", 1, 3, 3, "a");
    check_set("m-00001-of-00003.gguf", "'a' stands twice");
    save_set();
    CHECK(truncate(temp_path("m-00003-of-00003.gguf"), 100) == 0);
    check_set("m-00001-of-00003.gguf", "m-00003-of-00003.gguf");
}

TEST(split_counts_out_of_range)
{
    build f = {0};
    put_head(&f, 3, 0, 1);
    put_key(&f, "split.count", LR_KV_STR);
    put_name(&f, "3", 1);
    save(temp_path("s-00001-of-00003.gguf"), &f);
    check_set("s-00001-of-00003.gguf", "'split.count' is not a count");
    put_head(&f, 3, 0, 1);
    put_key(&f, "split.count", LR_KV_I64);
    put(&f, &(int64_t){-1}, 8);
    save(temp_path("s-00001-of-00003.gguf"), &f);
    check_set("s-00001-of-00003.gguf", "'split.count' is not a count");
    put_head(&f, 3, 0, 1);
    put_key_u16(&f, "split.count", 65535);
    save(temp_path("s-00001-of-65535.gguf"), &f);
    check_set("s-00001-of-65535.gguf", "at most 1000");
}
