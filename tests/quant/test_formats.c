/* test_formats.c - every number format of formats.def against bytes that llama.cpp wrote and read, and on its own.
 *
 * tests/quant/formats.safetensors is a compact cut of golden vectors made with llama.cpp (gguf-py's readers give the
 * same): `source` [6, 512]; per format `F.bytes` and `F.random_bytes` (two rows of each), `F.hash` (lr_hash is not used:
 * FNV-1a over the bits of what they decode to, NaN as 0x7fc00000) and `F.error` (the sum of squared errors of its
 * quantiser over `source`, without an importance matrix). The full set is read where LARDER_SHARED names it.
 */
#include "quant.h"
#include "safet.h"
#include "test.h"

#include <math.h>

#define IN_REPO "tests/quant/formats.safetensors"
#define WORSE 1.02 /* encoding error against llama.cpp's */

enum { MAX_ROW = 1024 };

static const uint32_t all_formats[] = {
#define LR_FMT(name, id, block, bytes) id,
#include "formats.def"
#undef LR_FMT
};

static const char *name_of(uint32_t fmt) { return lr_fmt_get(fmt)->name; }

/* Formats that are tested by other means: plain floats, and those only safetensors have. */
static bool has_vectors(uint32_t fmt)
{
    return fmt != LR_FMT_F32 && fmt != LR_FMT_F16 && fmt != LR_FMT_BF16 && fmt != LR_FMT_MXFP4_PAIRS &&
           fmt != LR_FMT_F8_E4M3 && fmt != LR_FMT_F8_E4M3_B128;
}

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return isnan(f) ? 0x7fc00000 : bits;
}

static uint64_t fnv(uint64_t h, const float *x, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        uint32_t bits = bits_of(x[i]);
        for (int b = 0; b < 4; b++) h = (h ^ (bits >> 8 * b & 255)) * 0x100000001b3u;
    }
    return h;
}

/* Deterministic noise: about normal, of the size weights have. */
static float noise(uint64_t *state)
{
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        sum += (float)(*state >> 40) * 0x1p-24f - 0.5f;
    }
    return sum * 0.05f;
}

static double squared_error(const float *a, const float *b, const float *w, uint64_t n)
{
    double sum = 0;
    for (uint64_t i = 0; i < n; i++) sum += (w ? w[i] : 1) * ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sum;
}

/* Encodes `n_row` rows of 512 and says how far off what they decode to is. */
static double encoding_error(uint32_t fmt, const float *source, uint64_t n_row)
{
    uint8_t bytes[MAX_ROW * 4];
    float back[512];
    double sum = 0;
    for (uint64_t r = 0; r < n_row; r++) {
        larder_error err;
        CHECK_EQ_INT(lr_encode_row(fmt, source + 512 * r, bytes, 512, NULL, &err), LARDER_OK);
        lr_decode_row(fmt, bytes, NULL, back, 512);
        sum += squared_error(back, source + 512 * r, NULL, 512);
    }
    return sum;
}

static void check_error(uint32_t fmt, double ours, double theirs)
{
    if (getenv("VERBOSE"))
        printf("    %-8s error %.6g, llama.cpp %.6g, ratio %.4f\n", name_of(fmt), ours, theirs, ours / theirs);
    if (ours > theirs * WORSE) printf("    %s: error %g, llama.cpp's %g\n", name_of(fmt), ours, theirs);
    CHECK(ours <= theirs * WORSE);
}

static const void *get(const safet *s, const char *fmt, const char *what, uint64_t *shape, uint64_t *n)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", fmt, what);
    return safet_get(s, name, NULL, shape, n);
}

/* ---------------------------------------------------------------- against vectors */
TEST(vectors_in_the_repository)
{
    safet s;
    CHECK(safet_open(IN_REPO, &s));
    if (!s.head) return;
    const float *source = safet_f32(&s, "source", NULL, NULL);
    CHECK(source != NULL);
    for (size_t i = 0; i < LR_LEN(all_formats); i++) {
        uint32_t fmt = all_formats[i];
        if (!has_vectors(fmt)) continue;
        uint64_t hash = 0xcbf29ce484222325u;
        const char *kinds[] = {"bytes", "random_bytes"};
        for (int k = 0; k < 2; k++) {
            uint64_t shape[8] = {0};
            const uint8_t *bytes = get(&s, name_of(fmt), kinds[k], shape, NULL);
            CHECK(bytes != NULL);
            if (!bytes) continue;
            CHECK_EQ_INT(shape[1], lr_fmt_row_bytes(fmt, 512));
            for (uint64_t r = 0; r < shape[0]; r++) {
                float out[512];
                lr_decode_row(fmt, bytes + r * shape[1], NULL, out, 512);
                hash = fnv(hash, out, 512);
            }
        }
        const uint64_t *want = get(&s, name_of(fmt), "hash", NULL, NULL);
        if (want && *want != hash) printf("    %s: decoded values differ\n", name_of(fmt));
        CHECK(want && *want == hash);
        const double *error = get(&s, name_of(fmt), "error", NULL, NULL);
        CHECK(error != NULL);
        if (error && lr_fmt_can_encode(fmt)) check_error(fmt, encoding_error(fmt, source, 6), *error);
    }
    safet_close(&s);
}

static void check_decode(const safet *s, uint32_t fmt, const char *bytes_name, const char *want_name)
{
    uint64_t shape[8] = {0};
    const uint8_t *bytes = get(s, name_of(fmt), bytes_name, shape, NULL);
    const float *want = get(s, name_of(fmt), want_name, NULL, NULL);
    CHECK(bytes && want);
    if (!bytes || !want) return;
    int n_bad = 0;
    for (uint64_t r = 0; r < shape[0]; r++) {
        float out[512];
        lr_decode_row(fmt, bytes + r * shape[1], NULL, out, 512);
        for (int i = 0; i < 512; i++) {
            if (bits_of(out[i]) == bits_of(want[512 * r + (uint64_t)i])) continue;
            if (!n_bad++)
                printf("    %s.%s row %d value %d: %.9g, should be %.9g\n", name_of(fmt), bytes_name, (int)r, i,
                       (double)out[i], (double)want[512 * r + (uint64_t)i]);
        }
    }
    CHECK_EQ_INT(n_bad, 0);
}

TEST(all_golden_bytes)
{
    char path[512];
    safet s;
    if (!safet_shared(path, sizeof path, "golden/formats/formats.safetensors")) SKIP("LARDER_SHARED is not set");
    if (!safet_open(path, &s)) SKIP("no golden/formats in LARDER_SHARED");
    const float *source = safet_f32(&s, "source", NULL, NULL);
    for (size_t i = 0; i < LR_LEN(all_formats); i++) {
        uint32_t fmt = all_formats[i];
        if (!has_vectors(fmt)) continue;
        check_decode(&s, fmt, "bytes", "dequant");
        check_decode(&s, fmt, "random_bytes", "random_dequant");
        const float *theirs = get(&s, name_of(fmt), "dequant", NULL, NULL);
        if (!theirs || !lr_fmt_can_encode(fmt)) continue;
        check_error(fmt, encoding_error(fmt, source, 6), squared_error(theirs, source, NULL, 6 * 512));
    }
    safet_close(&s);
}

TEST(gpt_oss_pairs)
{
    char path[512];
    safet s;
    if (!safet_shared(path, sizeof path, "golden/lowbit/lowbit.safetensors")) SKIP("LARDER_SHARED is not set");
    if (!safet_open(path, &s)) SKIP("no golden/lowbit in LARDER_SHARED");
    uint64_t shape[8] = {0};
    const uint8_t *blocks = safet_u8(&s, "mxfp4.blocks", shape, NULL),
                  *scales = safet_u8(&s, "mxfp4.scales", NULL, NULL);
    const float *want = safet_f32(&s, "mxfp4.dequant_transposed", NULL, NULL); /* [experts, in, out] */
    CHECK(blocks && scales && want);
    uint64_t n_out = shape[1], n_block = shape[2], n_in = n_block * 32;
    int n_bad = 0;
    for (uint64_t e = 0; e < shape[0]; e++) {
        for (uint64_t o = 0; o < n_out; o++) {
            uint64_t row = e * n_out + o;
            float out[MAX_ROW];
            lr_decode_row(LR_FMT_MXFP4_PAIRS, blocks + row * n_block * 16, scales + row * n_block, out, n_in);
            for (uint64_t i = 0; i < n_in; i++) n_bad += out[i] != want[(e * n_in + i) * n_out + o]; /* -0 is 0 */
        }
    }
    CHECK_EQ_INT(n_bad, 0);
    safet_close(&s);
}

/* Every E4M3 number by its definition. */
TEST(e4m3_by_definition)
{
    for (int b = 0; b < 256; b++) {
        int e = b >> 3 & 15, f = b & 7;
        double size = e ? ldexp(8 + f, e - 10) : ldexp(f, -9);
        float got = lr_e4m3_to_f32((uint8_t)b);
        if ((b & 127) == 127) CHECK(isnan(got));
        else CHECK((double)got == (b & 128 ? -size : size) && !!signbit(got) == b >> 7);
    }
    CHECK(lr_e4m3_to_f32(0x7e) == 448);
}

TEST(fp8_by_block_and_by_channel)
{
    char path[512];
    safet s;
    if (!safet_shared(path, sizeof path, "golden/lowbit/lowbit.safetensors")) SKIP("LARDER_SHARED is not set");
    if (!safet_open(path, &s)) SKIP("no golden/lowbit in LARDER_SHARED");
    const uint8_t *bytes = safet_u8(&s, "fp8.e4m3.bytes", NULL, NULL);
    const float *values = safet_f32(&s, "fp8.e4m3.values", NULL, NULL);
    int n_bad = !bytes || !values;
    for (int i = 0; i < 256 && !n_bad; i++) {
        float want = values[i] == -12345 ? NAN : values[i]; /* how the file says it */
        n_bad += bits_of(lr_e4m3_to_f32(bytes[i])) != bits_of(want);
    }
    for (int block = 0; block < 2; block++) {
        uint64_t shape[8] = {0};
        const uint8_t *w = safet_get(&s, block ? "fp8_block.weight" : "fp8_channel.weight", NULL, shape, NULL);
        const float *scales = safet_f32(&s, block ? "fp8_block.weight_scale_inv" : "fp8_channel.weight_scale", NULL,
                                        NULL);
        const float *want = safet_f32(&s, block ? "fp8_block.dequant" : "fp8_channel.dequant", NULL, NULL);
        CHECK(w && scales && want && shape[1] <= MAX_ROW);
        for (uint64_t r = 0; r < shape[0] && w && scales && want; r++) {
            float out[MAX_ROW];
            const float *of_row = block ? scales + r / 128 * (shape[1] / 128) : scales + r;
            lr_decode_row(block ? LR_FMT_F8_E4M3_B128 : LR_FMT_F8_E4M3, w + r * shape[1], (const uint8_t *)of_row,
                          out, shape[1]);
            for (uint64_t i = 0; i < shape[1]; i++) n_bad += bits_of(out[i]) != bits_of(want[r * shape[1] + i]);
        }
    }
    CHECK_EQ_INT(n_bad, 0);
    safet_close(&s);
}

/* The same numbers as MXFP4: blocks that differ only in where the nibbles and the scale lie. */
TEST(pairs_equal_mxfp4)
{
    uint8_t block[17], pairs[16];
    float a[32], b[32];
    uint64_t state = 5;
    for (int scale = 0; scale < 256; scale++) {
        block[0] = (uint8_t)scale;
        for (int j = 0; j < 16; j++) {
            noise(&state);
            block[1 + j] = (uint8_t)(state >> 56);
        }
        for (int j = 0; j < 16; j++) {
            int low = 2 * j, high = 2 * j + 1;
            unsigned l = low < 16 ? block[1 + low] & 15u : block[1 + low - 16] >> 4;
            unsigned h = high < 16 ? block[1 + high] & 15u : block[1 + high - 16] >> 4;
            pairs[j] = (uint8_t)(l | h << 4);
        }
        lr_decode_row(LR_FMT_MXFP4, block, NULL, a, 32);
        lr_decode_row(LR_FMT_MXFP4_PAIRS, pairs, block, b, 32);
        CHECK(memcmp(a, b, sizeof a) == 0);
        uint8_t repacked[17];
        lr_mxfp4_from_pairs(pairs, block, repacked, 32);
        CHECK(memcmp(repacked, block, sizeof block) == 0);
    }
}

/* ---------------------------------------------------------------- floats */
TEST(every_f16_and_bf16_survives)
{
    int n_bad = 0;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = lr_f16_to_f32((uint16_t)h), b = lr_bf16_to_f32((uint16_t)h);
        n_bad += isnan(f) ? !isnan(lr_f16_to_f32(lr_f32_to_f16(f))) : lr_f32_to_f16(f) != h;
        n_bad += isnan(b) ? !isnan(lr_bf16_to_f32(lr_f32_to_bf16(b))) : lr_f32_to_bf16(b) != h;
        n_bad += isnan(f) != ((h & 0x7fff) > 0x7c00);
    }
    CHECK_EQ_INT(n_bad, 0);
    CHECK(lr_f16_to_f32(0x3c00) == 1 && lr_f16_to_f32(0x0001) == 0x1p-24f && lr_f16_to_f32(0x7bff) == 65504);
    CHECK(lr_f16_to_f32(0x7c00) == INFINITY && signbit(lr_f16_to_f32(0x8000)));
}

/* Between each two neighbours: the middle goes to the even one, and a step to either side goes to that side. */
TEST(conversions_round_to_nearest_even)
{
    int n_bad = 0;
    for (uint32_t h = 0; h < 0x7bff; h++) {
        float middle = 0.5f * (lr_f16_to_f32((uint16_t)h) + lr_f16_to_f32((uint16_t)(h + 1)));
        n_bad += lr_f32_to_f16(middle) != h + (h & 1);
        n_bad += lr_f32_to_f16(nextafterf(middle, 0)) != h;
        n_bad += lr_f32_to_f16(-nextafterf(middle, INFINITY)) != (0x8000 | (h + 1));
    }
    for (uint32_t h = 0; h < 0x7f7f; h++) {
        float middle = (float)(0.5 *
                               ((double)lr_bf16_to_f32((uint16_t)h) + (double)lr_bf16_to_f32((uint16_t)(h + 1))));
        n_bad += lr_f32_to_bf16(middle) != h + (h & 1);
        n_bad += lr_f32_to_bf16(nextafterf(middle, 0)) != h;
        n_bad += lr_f32_to_bf16(-nextafterf(middle, INFINITY)) != (0x8000 | (h + 1));
    }
    CHECK_EQ_INT(n_bad, 0);
    CHECK_EQ_INT(lr_f32_to_f16(65519.99f), 0x7bff);
    CHECK_EQ_INT(lr_f32_to_f16(65520.0f), 0x7c00);
    CHECK_EQ_INT(lr_f32_to_f16(1e-10f), 0);
}

/* ---------------------------------------------------------------- each format on its own */
TEST(names_and_sizes)
{
    for (size_t i = 0; i < LR_LEN(all_formats); i++) {
        const lr_fmt_info *f = lr_fmt_get(all_formats[i]);
        CHECK(f && lr_fmt_by_name(f->name) == f);
        CHECK_EQ_INT(lr_fmt_row_bytes(f->id, 0), 0);
        CHECK_EQ_INT(lr_fmt_row_bytes(f->id, 7 * (uint64_t)f->block), 7 * f->bytes);
        if (f->block > 1) CHECK_EQ_INT(lr_fmt_row_bytes(f->id, f->block + 1), 0);
        if (f->bytes > f->block) CHECK_EQ_INT(lr_fmt_row_bytes(f->id, UINT64_MAX / f->block * f->block), 0);
    }
    CHECK(lr_fmt_by_name("q4_k") == lr_fmt_get(LR_FMT_Q4_K));
    CHECK(!lr_fmt_by_name("Q4_Z") && !lr_fmt_get(9999) && !lr_fmt_can_encode(9999));
    CHECK_EQ_INT(lr_fmt_row_bytes(9999, 256), 0);
}

/* Rows of 1 to 4 blocks: nothing outside is written, blocks do not influence each other, and the error is that of the
 * format's precision. */
TEST(round_trips_at_every_length)
{
    for (size_t i = 0; i < LR_LEN(all_formats); i++) {
        const lr_fmt_info *f = lr_fmt_get(all_formats[i]);
        if (!lr_fmt_can_encode(f->id)) continue;
        float source[MAX_ROW], back[MAX_ROW + 1], alone[256];
        uint8_t bytes[MAX_ROW * 4 + 1], one[256];
        uint64_t state = 1;
        for (int k = 0; k < MAX_ROW; k++) source[k] = noise(&state);
        for (uint64_t n_block = 1; n_block <= 4; n_block++) {
            uint64_t n = n_block * f->block, n_bytes = lr_fmt_row_bytes(f->id, n);
            bytes[n_bytes] = 0xa5;
            back[n] = 77;
            CHECK_EQ_INT(lr_encode_row(f->id, source, bytes, n, NULL, NULL), LARDER_OK);
            lr_decode_row(f->id, bytes, NULL, back, n);
            CHECK(bytes[n_bytes] == 0xa5 && back[n] == 77);
            uint64_t last = n - f->block;
            lr_encode_row(f->id, source + last, one, f->block, NULL, NULL);
            lr_decode_row(f->id, one, NULL, alone, f->block);
            CHECK(memcmp(one, bytes + n_bytes - f->bytes, f->bytes) == 0);
            CHECK(memcmp(alone, back + last, f->block * sizeof(float)) == 0);
            double size = squared_error(source, (float[MAX_ROW]){0}, NULL, n);
            CHECK(squared_error(back, source, NULL, n) <= 0.15 * size);
        }
    }
}

/* A message of some use, and nothing but a status to act on. */
static void check_refused(uint32_t fmt, float bad, const char *says)
{
    float row[256] = {0};
    uint8_t bytes[1024];
    larder_error err = {0};
    row[lr_fmt_get(fmt)->block - 1] = bad;
    CHECK_EQ_INT(lr_encode_row(fmt, row, bytes, lr_fmt_get(fmt)->block, NULL, &err), LARDER_FORMAT);
    CHECK(strstr(err.message, says) != NULL);
}

TEST(what_cannot_be_held_is_refused)
{
    for (size_t i = 0; i < LR_LEN(all_formats); i++) {
        uint32_t fmt = all_formats[i];
        if (!lr_fmt_can_encode(fmt)) {
            float row[256] = {0};
            uint8_t bytes[1024];
            CHECK_EQ_INT(lr_encode_row(fmt, row, bytes, 256, NULL, NULL), LARDER_UNSUPPORTED);
            continue;
        }
        check_refused(fmt, NAN, "NaN");
        check_refused(fmt, INFINITY, "infinite");
        check_refused(fmt, -INFINITY, "infinite");
        if (fmt != LR_FMT_F32 && fmt != LR_FMT_BF16 && fmt != LR_FMT_MXFP4) check_refused(fmt, 3e38f, "largest");
        if (lr_fmt_get(fmt)->block > 1)
            CHECK_EQ_INT(lr_encode_row(fmt, (float[32]){0}, (uint8_t[256]){0}, 31, NULL, NULL), LARDER_USAGE);
    }
    CHECK_EQ_INT(lr_encode_row(9999, (float[32]){0}, (uint8_t[256]){0}, 32, NULL, NULL), LARDER_UNSUPPORTED);
}

/* Zeros stay zeros; from the smallest numbers to the largest a block can hold, nothing becomes NaN or infinite, and one
 * large value comes back as itself. */
TEST(extremes)
{
    for (size_t i = 0; i < LR_LEN(all_formats); i++) {
        const lr_fmt_info *f = lr_fmt_get(all_formats[i]);
        if (!lr_fmt_can_encode(f->id)) continue;
        float row[256] = {0}, back[256];
        uint8_t bytes[1024];
        CHECK_EQ_INT(lr_encode_row(f->id, row, bytes, f->block, NULL, NULL), LARDER_OK);
        lr_decode_row(f->id, bytes, NULL, back, f->block);
        for (uint32_t k = 0; k < f->block; k++) CHECK(back[k] == 0);
        for (int exponent = -149; exponent < 128; exponent++) {
            for (int sign = -1; sign <= 1; sign += 2) {
                for (uint32_t k = 0; k < f->block; k++) row[k] = ldexpf((float)(k % 5) * 0.1f, exponent);
                row[f->block / 2] = (float)sign * ldexpf(1, exponent);
                if (lr_encode_row(f->id, row, bytes, f->block, NULL, NULL)) continue;
                lr_decode_row(f->id, bytes, NULL, back, f->block);
                for (uint32_t k = 0; k < f->block; k++) CHECK(isfinite(back[k]));
                float big = row[f->block / 2];
                if (exponent >= 0) CHECK(fabsf(back[f->block / 2] - big) <= 0.35f * fabsf(big));
            }
        }
    }
}

/* Blocks of one repeated value, and blocks far from zero. */
TEST(flat_blocks)
{
    const float values[] = {0.5f, -0.5f, 3e-3f, -3e-3f, 100};
    for (size_t i = 0; i < LR_LEN(all_formats); i++) {
        const lr_fmt_info *f = lr_fmt_get(all_formats[i]);
        if (!lr_fmt_can_encode(f->id)) continue;
        for (size_t v = 0; v < LR_LEN(values); v++) {
            float row[256], back[256];
            uint8_t bytes[1024];
            for (uint32_t k = 0; k < f->block; k++) row[k] = values[v];
            CHECK_EQ_INT(lr_encode_row(f->id, row, bytes, f->block, NULL, NULL), LARDER_OK);
            lr_decode_row(f->id, bytes, NULL, back, f->block);
            for (uint32_t k = 0; k < f->block; k++) CHECK(fabsf(back[k] - row[k]) <= 0.18f * fabsf(row[k]));
        }
    }
}

/* Where the importance is large, the error is smaller than it was without it; and zeros or one-sided importance are
 * no trouble. */
TEST(importance_steers_the_error)
{
    for (size_t i = 0; i < LR_LEN(all_formats); i++) {
        const lr_fmt_info *f = lr_fmt_get(all_formats[i]);
        if (f->block == 1 || f->id == LR_FMT_Q8_0 || !lr_fmt_can_encode(f->id)) continue;
        float row[MAX_ROW], weight[MAX_ROW], zero[MAX_ROW] = {0}, plain[MAX_ROW], steered[MAX_ROW];
        uint8_t bytes[MAX_ROW * 4];
        uint64_t state = 3, n = MAX_ROW;
        for (uint64_t k = 0; k < n; k++) {
            row[k] = noise(&state);
            weight[k] = (state >> 60) == 0 ? 1e6f : 1e4f;
        }
        CHECK_EQ_INT(lr_encode_row(f->id, row, bytes, n, zero, NULL), LARDER_OK);
        lr_decode_row(f->id, bytes, NULL, plain, n);
        CHECK_EQ_INT(lr_encode_row(f->id, row, bytes, n, weight, NULL), LARDER_OK);
        lr_decode_row(f->id, bytes, NULL, steered, n);
        CHECK(squared_error(steered, row, weight, n) < squared_error(plain, row, weight, n));
    }
}
