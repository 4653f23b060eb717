/* test_safetensors.c - one safetensors file: good ones, and each class of bad ones. */
#include "build.h"

#include "parts.h"

/* A file of this header and n_data bytes. */
static void build_st(build *f, const char *json, size_t n_data)
{
    *f = (build){0};
    put_u64(f, strlen(json));
    put(f, json, strlen(json));
    put_data(f, n_data);
}

static void refused(const char *json, size_t n_data, const char *why)
{
    build f;
    build_st(&f, json, n_data);
    check_refused(&f, why);
}

#define A "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}"

TEST(reads_tensors)
{
    build f;
    build_st(
        &f,
        "{\"__metadata__\":{\"format\":\"pt\"},\"b\":{\"data_offsets\":[24,30],\"dtype\":\"BF16\",\"shape\":[3]}," A
        ",\"s\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[30,38]},"
        "\"\\u00e9\":{\"dtype\":\"F8_E4M3\",\"shape\":[5,4,3,2,1],\"data_offsets\":[38,158]}}   ",
        158);
    larder_error err = {0};
    lr_file m;
    CHECK_OK(lr_load_bytes((const uint8_t *)f.b.p, f.b.n, &m, &err));
    CHECK_EQ_INT(m.n_tensors, 4);
    const lr_tensor *t = lr_file_tensor(&m, LR_STR("a"));
    CHECK(t && t->fmt == LR_FMT_F32 && t->n_dims == 2 && t->ne[0] == 3 && t->ne[1] == 2);
    CHECK(t->row_stride == 12 && t->mat_stride == 24 && t->n_bytes == 24);
    CHECK(t->data == (const uint8_t *)f.b.p + f.b.n - 158);
    t = lr_file_tensor(&m, LR_STR("b"));
    CHECK(t && t->fmt == LR_FMT_BF16 && t->n_bytes == 6);
    t = lr_file_tensor(&m, LR_STR("s"));
    CHECK(t && t->fmt == LR_RAW_I64 && t->n_dims == 1 && t->ne[0] == 1);
    t = lr_file_tensor(&m, LR_STR("\xc3\xa9"));
    CHECK(t && t->fmt == LR_FMT_F8_E4M3 && t->n_dims == 4);
    CHECK(t->ne[0] == 1 && t->ne[1] == 2 && t->ne[2] == 3 && t->ne[3] == 20); /* the first dimensions are one */
    CHECK_EQ_STR(lr_load_type_name(t->fmt), "F8_E4M3");
    lr_file_close(&m);
    lr_buf_free(&f.b);
}

TEST(every_prefix_is_an_error)
{
    build f;
    build_st(&f, "{" A "}", 24);
    for (size_t n = 0; n < f.b.n; n++) {
        lr_file m;
        uint8_t *copy;
        larder_error err = {0};
        if (!load_copy(f.b.p, n, &m, &copy, &err))
            TEST_FAIL("the first %zu of %zu bytes were read as a whole file", n, f.b.n);
        CHECK(err.message[0]);
    }
    lr_buf_free(&f.b);
}

TEST(header_length)
{
    static const uint64_t bad[] = {
        0,          1,         INT32_MAX,      (uint64_t)1 << 31, UINT32_MAX, INT64_MAX, (uint64_t)1 << 63,
        UINT64_MAX, 100 << 20, (100 << 20) + 1};
    for (size_t i = 0; i < LR_LEN(bad); i++) {
        build f;
        build_st(&f, "{" A "}", 24);
        memcpy(f.b.p, &bad[i], 8);
        check_refused(&f, "no safetensors file");
    }
}

TEST(bad_json)
{
    refused("[]", 0, "no safetensors file");
    refused("{" A, 24, "not JSON");
    refused("{" A "} x", 24, "not JSON");
    refused("{" A ",}", 24, "not JSON");
    refused("{" A "}{}", 24, "not JSON");
    refused("{\"a\xff\":{}}", 0, "not JSON");
    refused("{/* no */}", 0, "not JSON");
    refused("{\"a\":1}", 0, "a number where");
    refused("{\"a\":null}", 0, "a null where");
    refused("{\"a\":[1]}", 0, "an array where");
    refused("{\"a\":{\"dtype\":{}}}", 0, "an object where");
    refused("{\"a\":{\"shape\":[[1]]}}", 0, "an array where");
    refused("{\"a\":{\"shape\":[true]}}", 0, "a truth value where");
    refused("{\"__metadata__\":{\"x\":1}}", 0, "a number where");
    refused("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "stands twice");
    refused("{" A "," A "}", 24, "overlap");
    refused("{\"\":{}}", 0, "printable UTF-8");
    refused("{\"a\\nb\":{}}", 0, "printable UTF-8");
    refused("{\"a\\u0000b\":{}}", 0, "printable UTF-8");
}

#define T(dtype, shape, offsets) \
    "{\"x.y\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

TEST(bad_tensors)
{
    refused("{\"x.y\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "'x.y' has no dtype");
    refused("{\"x.y\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "no shape");
    refused("{\"x.y\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "no data_offsets");
    refused("{\"x.y\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1]}}", 4, "dtype twice");
    refused("{\"x.y\":{\"shape\":[1],\"shape\":[1]}}", 4, "shape twice");
    refused("{\"x.y\":{\"stride\":[1]}}", 4, "unknown field 'stride'");
    refused(T("Q4", "[1]", "[0,4]"), 4, "type 'Q4'");
    refused(T("F32", "[0]", "[0,0]"), 0, "dimension 0 of tensor 'x.y' is 0");
    refused(T("F32", "[-1]", "[0,4]"), 4, "'-1' is not a count");
    refused(T("F32", "[1.0]", "[0,4]"), 4, "'1.0' is not a count");
    refused(T("F32", "[1e2]", "[0,4]"), 4, "is not a count");
    refused(T("F32", "[18446744073709551616]", "[0,4]"), 4, "is not a count");
    refused(T("F32", "[18446744073709551615]", "[0,4]"), 4, "overflows");
    refused(T("F32", "[4611686018427387904,4]", "[0,0]"), 0, "overflows");
    refused(T("F32", "[4611686018427387904]", "[0,0]"), 0, "overflows");
    refused(T("F32", "[4294967296,4294967296]", "[0,0]"), 0, "overflows");
    refused(T("U8", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, "too many dimensions");
    refused(T("F32", "[1]", "[0,4,8]"), 4, "too many offsets");
    refused(T("F32", "[1]", "[4]"), 4, "claims bytes");
    refused(T("F32", "[1]", "[4,0]"), 4, "claims bytes 4 to 0");
    refused(T("F32", "[1]", "[0,5]"), 4, "claims bytes 0 to 5 of 4");
    refused(T("F32", "[1]", "[0,18446744073709551615]"), 4, "claims bytes");
    refused(T("F32", "[2]", "[0,4]"), 4, "need 8");
    refused(T("F32", "[1]", "[4,8]"), 8, "4 bytes before tensor 'x.y' belong to nothing");
    refused(T("F32", "[1]", "[0,4]"), 8, "4 bytes after the last tensor");
    refused("{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[22,26]}}", 26, "'a' and 'b' overlap");
    refused("{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[26,30]}}", 30, "before tensor 'b'");
}

TEST(random_damage_never_crashes)
{
    build f;
    build_st(&f,
             "{\"__metadata__\":{\"format\":\"pt\"}," A
             ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[24,28]}}",
             28);
    static const char likely[] = "0123456789{}[],:\"\\ue-.";
    uint8_t *bytes = malloc(f.b.n);
    for (int round = 0; round < 20000; round++) {
        memcpy(bytes, f.b.p, f.b.n);
        for (uint64_t k = test_random() % 3 + 1; k > 0; k--) {
            uint64_t r = test_random();
            bytes[(size_t)(r >> 16) % f.b.n] = r & 1 ? (uint8_t)(r >> 8)
                                                     : (uint8_t)likely[(r >> 8) % (sizeof likely - 1)];
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

TEST(every_allocation_may_fail)
{
    build f;
    build_st(&f, "{" A "}", 24);
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

TEST(written_is_read_back)
{
    float x[6] = {1, 2, 3, 4, 5, 6};
    int32_t y[2] = {7, -8};
    lr_tensor t[2] = {
        {.name = LR_STR("lo\"gits"),
         .fmt = LR_FMT_F32,
         .n_dims = 2,
         .ne = {3, 2, 1, 1},
         .data = (uint8_t *)x,
         .n_bytes = 24},
        {.name = LR_STR("ids"),
         .fmt = LR_RAW_I32,
         .n_dims = 1,
         .ne = {2, 1, 1, 1},
         .data = (uint8_t *)y,
         .n_bytes = 8},
    };
    larder_error err = {0};
    lr_file m;
    CHECK_OK(lr_safetensors_write(temp_path("out.safetensors"), t, 2, &err));
    CHECK_OK(lr_load_safetensors(temp_path("out.safetensors"), &m, &err));
    const lr_tensor *r = lr_file_tensor(&m, LR_STR("lo\"gits"));
    CHECK(r && r->ne[0] == 3 && r->ne[1] == 2 && memcmp(r->data, x, 24) == 0);
    CHECK_EQ_INT((uintptr_t)r->data % 8, 0);
    r = lr_file_tensor(&m, LR_STR("ids"));
    CHECK(r && r->fmt == LR_RAW_I32 && memcmp(r->data, y, 8) == 0);
    lr_file_close(&m);
    t[0].fmt = LR_FMT_Q8_0;
    CHECK(lr_safetensors_write(temp_path("bad.safetensors"), t, 2, &err) == LARDER_USAGE);
    CHECK_EQ_INT(temp_count(), 1);
}
