/* lr_file: the name index, and typed reading of keys within their ranges. */
#include "file.h"
#include "test.h"

static larder_error err;

/* A file with n keys of one type, all of the same bytes. */
static lr_kv *add(lr_file *f, const char *key, lr_kv_type type, lr_kv_type elem, uint64_t n, const void *p,
                  size_t size)
{
    if (!f->kv) f->kv = lr_arena_array(&f->arena, 64, sizeof *f->kv);
    return lr_kv_make(f, &f->kv[f->n_kv++], lr_str_of(key), type, elem, n, p, size);
}
#define SCALAR(f, key, type, ctype, value) CHECK(add(f, key, type, type, 1, &(ctype){value}, sizeof(ctype)))

static lr_file sample(void)
{
    lr_file f = {0};
    f.path = lr_arena_strndup(&f.arena, "sample", 6);
    SCALAR(&f, "u8", LR_KV_U8, uint8_t, 200);
    SCALAR(&f, "i8", LR_KV_I8, int8_t, -5);
    SCALAR(&f, "u16", LR_KV_U16, uint16_t, 65535);
    SCALAR(&f, "i16", LR_KV_I16, int16_t, -300);
    SCALAR(&f, "u32", LR_KV_U32, uint32_t, 4000000000u);
    SCALAR(&f, "i32", LR_KV_I32, int32_t, 77);
    SCALAR(&f, "u64", LR_KV_U64, uint64_t, UINT64_MAX);
    SCALAR(&f, "i64", LR_KV_I64, int64_t, INT64_MIN);
    SCALAR(&f, "f32", LR_KV_F32, float, 1.5f);
    SCALAR(&f, "f64", LR_KV_F64, double, -0.25);
    SCALAR(&f, "nan", LR_KV_F32, float, NAN);
    SCALAR(&f, "yes", LR_KV_BOOL, uint8_t, 1);
    SCALAR(&f, "bad", LR_KV_BOOL, uint8_t, 7);
    CHECK(add(&f, "text", LR_KV_STR, LR_KV_STR, 1, "hello", 5));
    CHECK(add(&f, "list", LR_KV_ARR, LR_KV_I16, 3, (int16_t[]){1, -2, 3}, 6));
    CHECK(add(&f, "words", LR_KV_ARR, LR_KV_STR, 2, "\2\0\0\0\0\0\0\0ab\0\0\0\0\0\0\0\0", 18));
    CHECK_OK(lr_file_index(&f, &err));
    return f;
}

TEST(integers_of_every_type)
{
    lr_file f = sample();
    uint64_t v = 1;
    CHECK_OK(lr_key_u64(&f, "u8", 0, UINT64_MAX, &v, &err));
    CHECK_EQ_U64(v, 200);
    CHECK_OK(lr_key_u64(&f, "u16", 0, UINT64_MAX, &v, &err));
    CHECK_EQ_U64(v, 65535);
    CHECK_OK(lr_key_u64(&f, "u64", 0, UINT64_MAX, &v, &err));
    CHECK_EQ_U64(v, UINT64_MAX);
    CHECK_OK(lr_key_u64(&f, "yes", 0, 1, &v, &err));
    CHECK_EQ_U64(v, 1);
    CHECK_STATUS(lr_key_u64(&f, "i8", 0, UINT64_MAX, &v, &err), LARDER_FORMAT);
    CHECK(strstr(err.message, "i8") && strstr(err.message, "-5"));
    CHECK_STATUS(lr_key_u64(&f, "i64", 0, UINT64_MAX, &v, &err), LARDER_FORMAT);
    CHECK(strstr(err.message, "-9223372036854775808"));
    CHECK_STATUS(lr_key_u64(&f, "f32", 0, UINT64_MAX, &v, &err), LARDER_FORMAT);
    CHECK_STATUS(lr_key_u64(&f, "text", 0, UINT64_MAX, &v, &err), LARDER_FORMAT);
    CHECK_STATUS(lr_key_u64(&f, "list", 0, UINT64_MAX, &v, &err), LARDER_FORMAT);
    CHECK_EQ_U64(v, 1);
    lr_file_close(&f);
}

TEST(ranges_and_defaults)
{
    lr_file f = sample();
    uint32_t v = 9;
    CHECK_OK(lr_key_u32(&f, "absent", 0, 1, &v, &err));
    CHECK_EQ_INT(v, 9); /* a default is the caller's business, range or not */
    CHECK_OK(lr_key_u32(&f, "i32", 77, 77, &v, &err));
    CHECK_EQ_INT(v, 77);
    CHECK_STATUS(lr_key_u32(&f, "i32", 78, 100, &v, &err), LARDER_FORMAT);
    CHECK_STATUS(lr_key_u32(&f, "u64", 0, UINT32_MAX, &v, &err), LARDER_FORMAT);
    CHECK_EQ_INT(v, 77);
    lr_file_close(&f);
}

TEST(numbers_booleans_strings)
{
    lr_file f = sample();
    double d = 0;
    bool b = false;
    lr_str s = LR_STR("default");
    CHECK_OK(lr_key_f64(&f, "f32", 0, 2, &d, &err));
    CHECK_NEAR(d, 1.5, 0);
    CHECK_OK(lr_key_f64(&f, "f64", -1, 1, &d, &err));
    CHECK_OK(lr_key_f64(&f, "i16", -1000, 1000, &d, &err));
    CHECK_NEAR(d, -300, 0);
    CHECK_STATUS(lr_key_f64(&f, "nan", -1e300, 1e300, &d, &err), LARDER_FORMAT);
    CHECK_STATUS(lr_key_f64(&f, "f32", 2, 3, &d, &err), LARDER_FORMAT);
    CHECK_STATUS(lr_key_f64(&f, "yes", 0, 1, &d, &err), LARDER_FORMAT);
    CHECK_OK(lr_key_bool(&f, "yes", &b, &err));
    CHECK(b);
    CHECK_STATUS(lr_key_bool(&f, "bad", &b, &err), LARDER_FORMAT);
    CHECK_STATUS(lr_key_bool(&f, "text", &b, &err), LARDER_FORMAT);
    CHECK_OK(lr_key_str(&f, "absent", &s, &err));
    CHECK(lr_str_is(s, "default"));
    CHECK_OK(lr_key_str(&f, "text", &s, &err));
    CHECK(lr_str_is(s, "hello"));
    CHECK_STATUS(lr_key_str(&f, "u8", &s, &err), LARDER_FORMAT);
    lr_file_close(&f);
}

TEST(elements_of_arrays)
{
    lr_file f = sample();
    const lr_kv *list = lr_file_key(&f, "list"), *words = lr_file_key(&f, "words");
    int64_t i;
    double d;
    CHECK(lr_kv_integer(list, 1, &i) && i == -2);
    CHECK(lr_kv_number(list, 2, &d) && d == 3);
    CHECK(!lr_kv_integer(list, 3, &i) && !lr_kv_integer(words, 0, &i) && !lr_kv_number(words, 0, &d));
    CHECK(!lr_kv_integer(lr_file_key(&f, "u64"), 0, &i) && lr_kv_number(lr_file_key(&f, "u64"), 0, &d) && d > 1e19);
    CHECK(lr_kv_integer(lr_file_key(&f, "i64"), 0, &i) && i == INT64_MIN);
    CHECK(!lr_kv_integer(lr_file_key(&f, "i32"), 1, &i));
    lr_str_iter it = lr_str_walk(words);
    lr_str s;
    CHECK(lr_str_next(&it, &s) && lr_str_is(s, "ab"));
    CHECK(lr_str_next(&it, &s) && s.n == 0);
    CHECK(!lr_str_next(&it, &s));
    lr_file_close(&f);
}

/* n tensors named t0, t1, ...; with `twice` the last has the first one's name. */
static lr_file with_tensors(size_t n, bool twice)
{
    lr_file f = {0};
    f.path = lr_arena_strndup(&f.arena, "many", 4);
    f.tensors = lr_arena_array(&f.arena, n, sizeof *f.tensors);
    f.n_tensors = n;
    for (size_t i = 0; i < n; i++) {
        char name[32];
        int len = snprintf(name, sizeof name, "t%zu", twice && i == n - 1 ? 0 : i);
        f.tensors[i].name = (lr_str){lr_arena_strndup(&f.arena, name, (size_t)len), (size_t)len};
    }
    return f;
}

TEST(every_name_is_found)
{
    lr_file f = with_tensors(5000, false);
    CHECK(!lr_file_tensor(&f, LR_STR("t1"))); /* not indexed yet */
    CHECK_OK(lr_file_index(&f, &err));
    for (size_t i = 0; i < f.n_tensors; i++) CHECK(lr_file_tensor(&f, f.tensors[i].name) == &f.tensors[i]);
    CHECK(!lr_file_tensor(&f, LR_STR("t5000")) && !lr_file_tensor(&f, LR_STR("")) && !lr_file_key(&f, "t1"));
    CHECK(!lr_file_damaged(&f));
    lr_file_close(&f);
    lr_file_close(&f);
}

TEST(a_name_that_stands_twice_is_an_error)
{
    lr_file f = with_tensors(10, true);
    CHECK_STATUS(lr_file_index(&f, &err), LARDER_FORMAT);
    CHECK(strstr(err.message, "t0"));
    lr_file_close(&f);
}

TEST(no_memory_at_any_allocation)
{
    for (long n = 0;; n++) {
        lr_file f = with_tensors(2000, false);
        lr_alloc_fail_at(n);
        larder_status st = lr_file_index(&f, &err);
        lr_alloc_fail_at(-1);
        lr_file_close(&f);
        if (!st) break;
        CHECK_EQ_INT(st, LARDER_NOMEM);
        CHECK(n < 100);
    }
}

TEST(types_have_sizes_and_names)
{
    CHECK_EQ_INT(lr_kv_size(LR_KV_F64), 8);
    CHECK_EQ_INT(lr_kv_size(LR_KV_STR), 0);
    CHECK_EQ_INT(lr_kv_size((lr_kv_type)99), 0);
    CHECK_EQ_STR(lr_kv_type_name(LR_KV_ARR), "array");
    CHECK_EQ_STR(lr_kv_type_name((lr_kv_type)99), "unknown");
}
