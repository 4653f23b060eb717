/* test_gguf_write.c - what the writer writes is read back the same; a file appears whole or not at all. */
#include "build.h"

static const uint64_t shape_a[4] = {64, 3, 2, 1}, shape_b[4] = {256, 2, 1, 1}, shape_c[4] = {5, 1, 1, 1};

static void declare(lr_gguf_writer *w)
{
    larder_error err = {0};
    CHECK_OK(lr_gguf_writer_str(w, "general.architecture", LR_STR("llama"), &err));
    CHECK_OK(lr_gguf_writer_u32(w, "a.u32", 7, &err));
    CHECK_OK(lr_gguf_writer_f32(w, "a.f32", 1.5f, &err));
    CHECK_OK(lr_gguf_writer_bool(w, "a.bool", true, &err));
    CHECK_OK(lr_gguf_writer_array(w, "scores", LR_KV_F32, (float[]){1, -2, 3}, 3, &err));
    CHECK_OK(lr_gguf_writer_strs(w, "tokens", (lr_str[]){LR_STR("x"), {"", 0}, LR_STR("yz")}, 3, &err));
    CHECK_OK(lr_gguf_writer_tensor(w, LR_STR("a"), LR_FMT_Q8_0, 3, shape_a, &err));
    CHECK_OK(lr_gguf_writer_tensor(w, LR_STR("b"), LR_FMT_Q4_K, 2, shape_b, &err));
    CHECK_OK(lr_gguf_writer_tensor(w, LR_STR("c"), LR_FMT_BF16, 1, shape_c, &err));
}

enum { SIZE_A = 64 / 32 * 34 * 6, SIZE_B = 144 * 2, SIZE_C = 10, SIZE = SIZE_A + SIZE_B + SIZE_C };

static void fill(uint8_t *data)
{
    for (int i = 0; i < SIZE; i++) data[i] = (uint8_t)(i * 13 + i / 256);
}

static void check_file(const char *path)
{
    uint8_t data[SIZE];
    larder_error err = {0};
    lr_file m;
    fill(data);
    CHECK_OK(lr_load(path, &m, &err));
    CHECK_EQ_INT(m.n_kv, 6);
    CHECK_EQ_INT(m.n_tensors, 3);
    const lr_tensor *a = lr_file_tensor(&m, LR_STR("a")), *b = lr_file_tensor(&m, LR_STR("b")),
                    *c = lr_file_tensor(&m, LR_STR("c"));
    CHECK(a && b && c);
    CHECK(a->fmt == LR_FMT_Q8_0 && a->n_dims == 3 && memcmp(a->ne, shape_a, sizeof shape_a) == 0);
    CHECK(a->n_bytes == SIZE_A && memcmp(a->data, data, SIZE_A) == 0);
    CHECK(b->n_bytes == SIZE_B && memcmp(b->data, data + SIZE_A, SIZE_B) == 0);
    CHECK(c->n_bytes == SIZE_C && memcmp(c->data, data + SIZE_A + SIZE_B, SIZE_C) == 0);
    CHECK_EQ_INT((uintptr_t)b->data % 32, 0);
    double score = 0;
    CHECK(lr_kv_number(lr_file_key(&m, "scores"), 1, &score) && score == -2);
    const lr_kv *tokens = lr_file_key(&m, "tokens");
    lr_str_iter it = lr_str_walk(tokens);
    lr_str s;
    CHECK(lr_str_next(&it, &s) && lr_str_next(&it, &s) && s.n == 0 && lr_str_next(&it, &s) && lr_str_is(s, "yz"));
    lr_file_close(&m);
}

TEST(round_trip_in_pieces_of_any_size)
{
    uint8_t data[SIZE];
    fill(data);
    for (size_t piece = 1; piece < 2000; piece = piece * 3 + 1) {
        larder_error err = {0};
        lr_gguf_writer *w;
        const char *path = temp_path("out.gguf");
        CHECK_OK(lr_gguf_writer_new(path, &w, &err));
        declare(w);
        uint64_t size = lr_gguf_writer_size(w);
        CHECK_OK(lr_gguf_writer_begin(w, &err));
        for (size_t at = 0; at < SIZE; at += piece)
            CHECK_OK(lr_gguf_writer_data(w, data + at, LR_MIN(piece, SIZE - at), &err));
        CHECK(!lr_is_file(path)); /* not before it is whole */
        CHECK_OK(lr_gguf_writer_finish(w, &err));
        lr_gguf_writer_free(w);
        check_file(path);
        lr_map map;
        CHECK_OK(lr_map_open(path, &map, &err));
        CHECK_EQ_U64(map.n, size);
        lr_map_close(&map);
        CHECK_EQ_INT(temp_count(), 1);
        unlink(path);
    }
}

TEST(keys_of_a_file_are_copied_as_they_are)
{
    build f = {0};
    build_good(&f);
    larder_error err = {0};
    lr_file m, again;
    lr_gguf_writer *w;
    CHECK_OK(lr_load_bytes((const uint8_t *)f.b.p, f.b.n, &m, &err));
    CHECK_OK(lr_gguf_writer_new(temp_path("copy.gguf"), &w, &err));
    for (size_t i = 0; i < m.n_kv; i++) CHECK_OK(lr_gguf_writer_kv(w, &m.kv[i], &err));
    for (size_t i = 0; i < m.n_tensors; i++)
        CHECK_OK(lr_gguf_writer_tensor(w, m.tensors[i].name, m.tensors[i].fmt, m.tensors[i].n_dims, m.tensors[i].ne,
                                       &err));
    CHECK_OK(lr_gguf_writer_begin(w, &err));
    for (size_t i = 0; i < m.n_tensors; i++)
        CHECK_OK(lr_gguf_writer_data(w, m.tensors[i].data, m.tensors[i].n_bytes, &err));
    CHECK_OK(lr_gguf_writer_finish(w, &err));
    lr_gguf_writer_free(w);
    CHECK_OK(lr_load(temp_path("copy.gguf"), &again, &err));
    CHECK_EQ_INT(again.n_kv, m.n_kv);
    for (size_t i = 0; i < m.n_kv; i++) {
        CHECK(lr_str_eq(again.kv[i].key, m.kv[i].key) && again.kv[i].type == m.kv[i].type &&
              again.kv[i].n == m.kv[i].n);
        CHECK(again.kv[i].n_bytes == m.kv[i].n_bytes && !memcmp(again.kv[i].data, m.kv[i].data, m.kv[i].n_bytes));
    }
    for (size_t i = 0; i < m.n_tensors; i++)
        CHECK(!memcmp(again.tensors[i].data, m.tensors[i].data, m.tensors[i].n_bytes));
    lr_file_close(&again);
    lr_file_close(&m);
    lr_buf_free(&f.b);
}

TEST(half_a_file_is_never_left)
{
    uint8_t data[SIZE];
    larder_error err = {0};
    lr_gguf_writer *w;
    fill(data);
    save_bytes(temp_path("old.gguf"), "old", 3);
    CHECK_OK(lr_gguf_writer_new(temp_path("old.gguf"), &w, &err));
    declare(w);
    CHECK_OK(lr_gguf_writer_begin(w, &err));
    CHECK_OK(lr_gguf_writer_data(w, data, SIZE - 1, &err));
    CHECK_EQ_INT(temp_count(), 2);
    CHECK(lr_gguf_writer_finish(w, &err) == LARDER_USAGE);
    CHECK(strstr(err.message, "2 of 3 tensors"));
    lr_gguf_writer_free(w);
    CHECK_EQ_INT(temp_count(), 1);
    char *text;
    size_t n;
    CHECK_OK(lr_read_file(temp_path("old.gguf"), 100, &text, &n, &err));
    CHECK_EQ_STR(text, "old");
    lr_free(text);
    lr_gguf_writer_free(NULL);
}

TEST(misuse_is_refused)
{
    larder_error err = {0};
    lr_gguf_writer *w;
    CHECK(lr_gguf_writer_new(temp_path("no/such/folder.gguf"), &w, &err) != LARDER_OK && !w);
    CHECK_OK(lr_gguf_writer_new(temp_path("x.gguf"), &w, &err));
    CHECK_OK(lr_gguf_writer_u32(w, "k", 1, &err));
    CHECK(lr_gguf_writer_u32(w, "k", 1, &err) == LARDER_USAGE);
    CHECK(strstr(err.message, "'k' is written twice"));
    CHECK(lr_gguf_writer_u32(w, "general.alignment", 64, &err) == LARDER_USAGE);
    CHECK(lr_gguf_writer_u32(w, "split.count", 1, &err) == LARDER_USAGE);
    CHECK(lr_gguf_writer_u32(w, "", 1, &err) == LARDER_USAGE);
    CHECK(lr_gguf_writer_tensor(w, LR_STR("t"), LR_FMT_Q8_0, 1, (uint64_t[4]){33, 1, 1, 1}, &err) == LARDER_USAGE);
    CHECK(lr_gguf_writer_tensor(w, LR_STR("t"), LR_FMT_F32, 2, (uint64_t[4]){4, 0, 1, 1}, &err) == LARDER_USAGE);
    CHECK(lr_gguf_writer_tensor(w, LR_STR("t"), LR_RAW_I32, 1, (uint64_t[4]){4, 1, 1, 1}, &err) == LARDER_USAGE);
    CHECK(lr_gguf_writer_tensor(w, LR_STR("t"), LR_FMT_F32, 4, (uint64_t[4]){1u << 31, 1u << 31, 4, 1}, &err) ==
          LARDER_USAGE);
    CHECK(lr_gguf_writer_data(w, "x", 1, &err) == LARDER_USAGE);
    CHECK_OK(lr_gguf_writer_tensor(w, LR_STR("t"), LR_FMT_F32, 1, (uint64_t[4]){1, 1, 1, 1}, &err));
    CHECK(lr_gguf_writer_tensor(w, LR_STR("t"), LR_FMT_F32, 1, (uint64_t[4]){1, 1, 1, 1}, &err) == LARDER_USAGE);
    CHECK_OK(lr_gguf_writer_begin(w, &err));
    CHECK(lr_gguf_writer_begin(w, &err) == LARDER_USAGE);
    CHECK(lr_gguf_writer_u32(w, "late", 1, &err) == LARDER_USAGE);
    CHECK(lr_gguf_writer_data(w, "12345", 5, &err) == LARDER_USAGE);
    CHECK(strstr(err.message, "1 bytes more"));
    CHECK(lr_gguf_writer_finish(w, &err) == LARDER_USAGE);
    lr_gguf_writer_free(w);
    CHECK_EQ_INT(temp_count(), 0);
}

TEST(many_names)
{
    larder_error err = {0};
    lr_gguf_writer *w;
    char name[32];
    CHECK_OK(lr_gguf_writer_new(temp_path("many.gguf"), &w, &err));
    for (uint32_t i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "blk.%u.weight", i);
        CHECK_OK(lr_gguf_writer_u32(w, name, i, &err));
        CHECK_OK(lr_gguf_writer_tensor(w, lr_str_of(name), LR_FMT_F32, 1, (uint64_t[4]){1, 1, 1, 1}, &err));
    }
    CHECK_OK(lr_gguf_writer_begin(w, &err));
    for (uint32_t i = 0; i < 3000; i++) CHECK_OK(lr_gguf_writer_data(w, &i, 4, &err));
    CHECK_OK(lr_gguf_writer_finish(w, &err));
    lr_gguf_writer_free(w);
    lr_file m;
    CHECK_OK(lr_load(temp_path("many.gguf"), &m, &err));
    const lr_tensor *t = lr_file_tensor(&m, LR_STR("blk.2999.weight"));
    CHECK(t && memcmp(t->data, &(uint32_t){2999}, 4) == 0);
    lr_file_close(&m);
}

TEST(every_allocation_may_fail)
{
    bool done = false;
    for (long i = 0; i < 300 && !done; i++) {
        larder_error err = {0};
        lr_gguf_writer *w = NULL;
        uint8_t data[8] = {0};
        lr_alloc_fail_at(i);
        larder_status st = lr_gguf_writer_new(temp_path("f.gguf"), &w, &err);
        if (!st) st = lr_gguf_writer_u32(w, "k", 1, &err);
        if (!st) st = lr_gguf_writer_tensor(w, LR_STR("t"), LR_FMT_F32, 1, (uint64_t[4]){2, 1, 1, 1}, &err);
        if (!st) st = lr_gguf_writer_begin(w, &err);
        if (!st) st = lr_gguf_writer_data(w, data, 8, &err);
        if (!st) st = lr_gguf_writer_finish(w, &err);
        lr_gguf_writer_free(w);
        lr_alloc_fail_at(-1);
        done = !st;
        if (!done) CHECK_EQ_INT(st, LARDER_NOMEM);
        CHECK_EQ_INT(temp_count(), done);
    }
    CHECK(done);
}
