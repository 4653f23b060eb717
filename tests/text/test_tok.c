/* The tokenizer on two small vocabularies made for it (tests/text/data: byte level, and pieces with byte fallback, both
 * trained on a few sentences), on hostile ones, and on text made to be slow. The expected ids of the small ones were
 * computed by an independent implementation, but for single_word and normalized tokens, which it lacks: those by hand. */
#include "test.h"

#include "tok_impl.h"

#include <jansson.h>
#include <pthread.h>

static lr_tokenizer *tiny(const char *name)
{
    char path[200];
    larder_error err = {0};
    lr_tokenizer *t = NULL;
    snprintf(path, sizeof(path), "tests/text/data/%s.json", name);
    if (lr_tokenizer_from_json(path, &t, &err)) TEST_FAIL("%s", err.message);
    return t;
}

static lr_ids encode(const lr_tokenizer *t, lr_str text, int flags)
{
    lr_ids ids = {0};
    larder_error err = {0};
    if (lr_tokenizer_encode(t, text, flags, &ids, &err)) TEST_FAIL("%s", err.message);
    return ids;
}

static void check_expected(const lr_tokenizer *t, const char *name, bool plain_added_only)
{
    json_t *all = json_load_file("tests/text/data/tiny_expected.json", 0, NULL), *e;
    size_t i;
    CHECK(all);
    json_array_foreach(json_object_get(all, name), i, e)
    {
        lr_str text = {json_string_value(json_object_get(e, "text")), json_string_length(json_object_get(e, "text"))};
        if (plain_added_only && (strstr(text.p, "wide") || strstr(text.p, "WORD") || strstr(text.p, "no\xcc")))
            continue;
        if (plain_added_only && strstr(text.p, "nor")) continue;
        const json_t *want = json_object_get(e, "ids");
        const char *decoded = json_string_value(json_object_get(e, "decoded"));
        lr_ids ids = encode(t, text, LR_ENCODE_ADDED);
        lr_buf out = {0};
        if (ids.n != json_array_size(want)) TEST_FAIL("%s: \"%s\": %zu ids", name, text.p, ids.n);
        for (size_t k = 0; k < ids.n; k++) {
            if (ids.p[k] != json_integer_value(json_array_get(want, k)))
                TEST_FAIL("%s: \"%s\" at %zu", name, text.p, k);
        }
        CHECK_EQ_INT(lr_tokenizer_decode(t, ids.p, ids.n, true, &out, NULL), 0);
        if (out.n != strlen(decoded) || memcmp(out.n ? out.p : "", decoded, out.n))
            TEST_FAIL("\"%.*s\"", (int)out.n, out.p);
        lr_buf_free(&out);
        lr_ids_free(&ids);
    }
    json_decref(all);
}

TEST(small_bytes)
{
    lr_tokenizer *t = tiny("tiny_bytes");
    check_expected(t, "tiny_bytes", false);
    CHECK_EQ_INT(lr_tokenizer_find(t, LR_STR("<|end|>")), 317);
    CHECK(lr_tokenizer_is_end(t, 317));
    CHECK_EQ_INT(lr_tokenizer_kind(t, 317), LR_TOKEN_CONTROL);
    CHECK_EQ_INT(lr_tokenizer_kind(t, 319), LR_TOKEN_ADDED);
    lr_ids ids = encode(t, LR_STR("x"), LR_ENCODE_SPECIAL);
    CHECK_EQ_INT(ids.n, 2);
    CHECK_EQ_INT(ids.p[0], 316);
    lr_ids_free(&ids);
    lr_tokenizer_free(t);
}

TEST(small_pieces)
{
    lr_tokenizer *t = tiny("tiny_pieces");
    check_expected(t, "tiny_pieces", false);
    lr_tokenizer_free(t);
}

TEST(small_through_gguf)
{
    static const char *const names[] = {"tiny_bytes", "tiny_pieces"};
    for (size_t i = 0; i < LR_LEN(names); i++) {
        lr_tokenizer *t = tiny(names[i]), *g = NULL;
        lr_file f = {0};
        larder_error err = {0};
        if (lr_tokenizer_to_gguf(t, lr_tokenizer_size(t) + 3, &f, &err)) TEST_FAIL("%s", err.message);
        CHECK_EQ_INT(lr_file_index(&f, NULL), 0);
        if (lr_tokenizer_from_gguf(&f, &g, &err)) TEST_FAIL("%s", err.message);
        check_expected(g, names[i], i == 0);
        CHECK_EQ_INT(lr_tokenizer_adds_bos(g), lr_tokenizer_adds_bos(t));
        CHECK_EQ_INT(lr_tokenizer_size(g), lr_tokenizer_size(t) + 3);
        lr_tokenizer_free(t);
        lr_tokenizer_free(g);
        lr_file_close(&f);
    }
}

/* Whatever ends an answer still does after a conversion, under whatever name. */
TEST(ends_go_through_gguf)
{
    lr_tokenizer *t = tiny("tiny_bytes"), *g = NULL;
    lr_file f = {0};
    larder_error err = {0};
    for (int64_t id = 3; id < 9; id++) tok_add_end(t, id);
    if (lr_tokenizer_to_gguf(t, lr_tokenizer_size(t), &f, &err)) TEST_FAIL("%s", err.message);
    CHECK_EQ_INT(lr_file_index(&f, NULL), 0);
    CHECK(lr_file_key(&f, "tokenizer.ggml.eot_token_id") && lr_file_key(&f, "tokenizer.ggml.eom_token_id"));
    if (lr_tokenizer_from_gguf(&f, &g, &err)) TEST_FAIL("%s", err.message);
    int n = 0;
    for (int32_t id = 0; (uint32_t)id < lr_tokenizer_size(t); id++) {
        CHECK_EQ_INT(lr_tokenizer_is_end(g, id), lr_tokenizer_is_end(t, id));
        n += lr_tokenizer_is_end(t, id);
    }
    CHECK(n >= 6);
    lr_tokenizer_free(t);
    lr_tokenizer_free(g);
    lr_file_close(&f);
}

/* ---------------------------------------------------------------- decoding */
static void check_decode(const lr_tokenizer *t, const int32_t *ids, size_t n, bool replace, const char *want)
{
    lr_buf out = {0};
    CHECK_EQ_INT(lr_tokenizer_decode(t, ids, n, replace, &out, NULL), 0);
    lr_buf_putc(&out, 0);
    CHECK_EQ_STR(out.p, want);
    lr_buf_free(&out);
}

TEST(decode_invalid_bytes)
{
    lr_tokenizer *t = tiny("tiny_pieces");
    int32_t e4 = lr_tokenizer_find(t, LR_STR("<0xE4>")), bd = lr_tokenizer_find(t, LR_STR("<0xBD>")),
            a0 = lr_tokenizer_find(t, LR_STR("<0xA0>")), the = lr_tokenizer_find(t, LR_STR("\xe2\x96\x81the"));
    CHECK(e4 > 0 && bd > 0 && a0 > 0 && the > 0);
    int32_t good[] = {the, e4, bd, a0, the}, bad[] = {the, e4, bd, the, e4};
    check_decode(t, good, 5, true, "the\xe4\xbd\xa0 the");
    check_decode(t, bad, 5, true, "the\xef\xbf\xbd\xef\xbf\xbd the\xef\xbf\xbd"); /* one per byte */
    check_decode(t, bad, 5, false, "the\xe4\xbd the\xe4");
    int32_t none[] = {-1}, past[] = {(int32_t)lr_tokenizer_size(t)};
    lr_buf out = {0};
    CHECK_EQ_INT(lr_tokenizer_decode(t, none, 1, true, &out, NULL), LARDER_USAGE);
    CHECK_EQ_INT(lr_tokenizer_decode(t, past, 1, true, &out, NULL), LARDER_USAGE);
    CHECK_EQ_INT(lr_tokenizer_piece(t, past[0], true, &out, NULL), LARDER_USAGE);
    lr_tokenizer_free(t);
    t = tiny("tiny_bytes");
    int32_t half[] = {160, 121, 64, 160}; /* e4 bd, then a, then e4: one per maximal part of a character */
    check_decode(t, half, 4, true,
                 "\xef\xbf\xbd"
                 "a"
                 "\xef\xbf\xbd");
    check_decode(t, half, 4, false,
                 "\xe4\xbd"
                 "a"
                 "\xe4");
    lr_tokenizer_free(t);
}

TEST(pieces_one_by_one)
{
    lr_tokenizer *t = tiny("tiny_pieces");
    lr_buf out = {0};
    int32_t ids[] = {lr_tokenizer_find(t, LR_STR("\xe2\x96\x81the")), lr_tokenizer_find(t, LR_STR("<0x0A>")), 1};
    for (size_t i = 0; i < 3; i++) CHECK_EQ_INT(lr_tokenizer_piece(t, ids[i], false, &out, NULL), 0);
    CHECK_EQ_INT(lr_tokenizer_piece(t, 1, true, &out, NULL), 0);
    lr_buf_putc(&out, 0);
    CHECK_EQ_STR(out.p, " the\n<s>");
    lr_buf_free(&out);
    lr_tokenizer_free(t);
}

/* ---------------------------------------------------------------- text that is no UTF-8 */
TEST(invalid_utf8_is_replaced)
{
    lr_tokenizer *t = tiny("tiny_bytes");
    lr_ids bad = encode(t,
                        LR_STR("a\xff\xe4\xbd"
                               "b\xc0\x80"),
                        0),
           good = encode(t,
                         LR_STR("a\xef\xbf\xbd\xef\xbf\xbd"
                                "b\xef\xbf\xbd\xef\xbf\xbd"),
                         0);
    CHECK_EQ_INT(bad.n, good.n);
    CHECK(memcmp(bad.p, good.p, bad.n * sizeof(*bad.p)) == 0);
    lr_ids_free(&bad);
    lr_ids_free(&good);
    /* and in runs: the marks after it keep their owner */
    const char text[] = "\xe4<|end|>\xff<|end|>";
    lr_text_run runs[] = {{1, false}, {7, true}, {1, true}, {0, true}, {7, false}};
    lr_ids ids = {0};
    CHECK_EQ_INT(lr_tokenizer_encode_runs(t, text, runs, LR_LEN(runs), &ids, NULL), 0);
    int ends = 0;
    for (size_t i = 0; i < ids.n; i++) ends += ids.p[i] == 317;
    CHECK_EQ_INT(ends, 1);
    lr_ids_free(&ids);
    lr_tokenizer_free(t);
}

/* ---------------------------------------------------------------- T4: what a user types is never control */
static bool makes(const lr_tokenizer *t, const char *text, const lr_text_run *runs, size_t n_runs, int32_t id)
{
    lr_ids ids = {0};
    bool made = false;
    CHECK_EQ_INT(lr_tokenizer_encode_runs(t, text, runs, n_runs, &ids, NULL), 0);
    for (size_t i = 0; i < ids.n; i++) made |= ids.p[i] == id;
    lr_ids_free(&ids);
    return made;
}

TEST(control_needs_trust)
{
    lr_tokenizer *t = tiny("tiny_bytes");
    int32_t end = 317, think = 319;
    lr_text_run data[] = {{7, false}}, own[] = {{7, true}}, both[] = {{3, true}, {4, true}};
    CHECK(!makes(t, "<|end|>", data, 1, end));
    CHECK(makes(t, "<|end|>", own, 1, end));
    CHECK(makes(t, "<|end|>", both, 2, end));
    for (size_t cut = 0; cut <= 7; cut++) {
        lr_text_run a[] = {{cut, true}, {7 - cut, false}}, b[] = {{cut, false}, {7 - cut, true}};
        CHECK_EQ_INT(makes(t, "<|end|>", a, 2, end), cut == 7);
        CHECK_EQ_INT(makes(t, "<|end|>", b, 2, end), cut == 0);
    }
    lr_text_run thinking[] = {{7, false}}, wrapped[] = {{4, true}, {7, false}, {4, true}};
    CHECK(!makes(t, "<think>", thinking, 1, think)); /* not special in the file, but it looks like control */
    CHECK(!makes(t, "abcd<|end|>efgh", wrapped, 3, end));
    /* an empty run cannot break a name, and spaces of plain added tokens are anybody's */
    lr_text_run holes[] = {{3, true}, {0, false}, {4, true}}, spaces[] = {{2, true}, {2, false}};
    CHECK(makes(t, "<|end|>", holes, 3, end));
    CHECK(makes(t, "    ", spaces, 2, 320));
    lr_tokenizer_free(t);
}

TEST(runs_are_one_text)
{
    static const char text[] = "Once upon a time there was a cook. \xe4\xbd\xa0 baked  bread\n";
    static const char *const names[] = {"tiny_bytes", "tiny_pieces"};
    for (size_t k = 0; k < LR_LEN(names); k++) {
        lr_tokenizer *t = tiny(names[k]);
        lr_ids whole = encode(t, LR_STR(text), 0);
        for (size_t cut = 0; cut < sizeof(text); cut++) {
            lr_text_run runs[] = {{cut, cut & 1}, {sizeof(text) - 1 - cut, !(cut & 1)}};
            lr_ids ids = {0};
            CHECK_EQ_INT(lr_tokenizer_encode_runs(t, text, runs, 2, &ids, NULL), 0);
            CHECK(ids.n == whole.n && memcmp(ids.p, whole.p, ids.n * sizeof(*ids.p)) == 0);
            lr_ids_free(&ids);
        }
        lr_ids_free(&whole);
        lr_tokenizer_free(t);
    }
}

/* ---------------------------------------------------------------- time */
TEST_TIME(long_words_are_not_quadratic, 20)
{
    enum { N = 1000000 };
    static const char *const kinds[] = {"a",      " ",    "\n",           "1", "\xcc\x81\xcc\x96", "<|",
                                        "<|end|", "the ", "\xe4\xbd\xa0", "'"};
    static const char *const names[] = {"tiny_bytes", "tiny_pieces"};
    for (size_t k = 0; k < LR_LEN(names); k++) {
        lr_tokenizer *t = tiny(names[k]);
        for (size_t i = 0; i < LR_LEN(kinds); i++) {
            lr_buf b = {0};
            while (b.n < N) lr_buf_puts(&b, kinds[i]);
            uint64_t begin = lr_now_ns();
            lr_ids ids = encode(t, (lr_str){b.p, b.n}, LR_ENCODE_ADDED);
            if (lr_now_ns() - begin > UINT64_C(8000000000)) TEST_FAIL("\"%s\" takes too long", kinds[i]);
            lr_ids_free(&ids);
            lr_buf_free(&b);
        }
        lr_tokenizer_free(t);
    }
}

/* ---------------------------------------------------------------- hostile tokenizer.json */
static larder_status from_text(const char *json, lr_tokenizer **out, larder_error *err)
{
    *err = (larder_error){0};
    larder_status st = lr_tokenizer_from_memory(json, strlen(json), out, err);
    CHECK((st == LARDER_OK) == (*out != NULL));
    CHECK(st == LARDER_OK || err->message[0]);
    return st;
}

#define BPE(rest) "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}" rest "}"
#define SPLIT(regex) \
    BPE(",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":\"Isolated\"}")

/* Every place costs a quarter million steps before the second alternative matches: no single match is over the limit,
 * but a text of them has to be. */
TEST_TIME(slow_matches_meet_the_clock, 60)
{
    lr_tokenizer *t;
    larder_error err;
    lr_ids ids = {0};
    lr_buf b = {0};
    CHECK_EQ_INT(from_text(SPLIT("(?:a|a){18}c|a"), &t, &err), LARDER_OK);
    for (int i = 0; i < 100000; i++) lr_buf_putc(&b, 'a');
    CHECK_EQ_INT(lr_tokenizer_encode(t, (lr_str){b.p, b.n}, 0, &ids, &err), LARDER_LIMIT);
    lr_ids_free(&ids);
    lr_buf_free(&b);
    lr_tokenizer_free(t);
}

TEST(hostile_json)
{
    static const struct {
        const char *json;
        larder_status want;
    } cases[] = {
        {BPE(""), LARDER_OK},
        {"", LARDER_FORMAT},
        {"[]", LARDER_FORMAT},
        {"3", LARDER_FORMAT},
        {"{}", LARDER_FORMAT},
        {"{\"model\":", LARDER_FORMAT},
        {"{\"model\":null}", LARDER_FORMAT},
        {"{\"model\":{}}", LARDER_FORMAT},
        {"{\"model\":{\"vocab\":{}}}", LARDER_FORMAT},
        {"{\"model\":{\"vocab\":[[\"a\",1]]}}", LARDER_UNSUPPORTED},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}}", LARDER_UNSUPPORTED},
        {"{\"model\":{\"vocab\":{\"a\":-1}}}", LARDER_FORMAT},
        {"{\"model\":{\"vocab\":{\"a\":99999999999}}}", LARDER_FORMAT},
        {"{\"model\":{\"vocab\":{\"a\":1e3}}}", LARDER_FORMAT},
        {"{\"model\":{\"vocab\":{\"a\":{}}}}", LARDER_FORMAT},
        {"{\"model\":{\"vocab\":{\"a\":\"x\"}}}", LARDER_FORMAT},
        {"{\"model\":{\"vocab\":{\"a\":[0]}}}", LARDER_FORMAT},
        {"{\"model\":{\"vocab\":{\"a\":0,\"a\":1,\"\":2,\"b\":0}}}", LARDER_OK},
        {"{\"model\":{\"merges\":[\"a b\"],\"vocab\":{\"a\":0}}}", LARDER_FORMAT},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a c\"]}}", LARDER_FORMAT},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}}", LARDER_FORMAT},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"aa\"]}}", LARDER_FORMAT},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", LARDER_FORMAT},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"a\",\"a\"]]}}", LARDER_FORMAT},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[3]}}", LARDER_FORMAT},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[[\"a\"]]]}}", LARDER_FORMAT},
        {"{\"model\":{\"vocab\":{\"a\":0},\"unk_token\":\"b\"}}", LARDER_FORMAT},
        {"{\"model\":{\"vocab\":{\"a\":0},\"dropout\":0.1}}", LARDER_UNSUPPORTED},
        {"{\"model\":{\"vocab\":{\"a\":0},\"end_of_word_suffix\":\"</w>\"}}", LARDER_UNSUPPORTED},
        /* a setting's name of 64 bytes, the middle of whose characters is at 63 */
        {"{\"model\":{\"vocab\":{\"a\":0},"
         "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\xc3\xa9\":1}}",
         LARDER_OK},
        {"{\"added_tokens\":[3]}", LARDER_FORMAT},
        {"{\"added_tokens\":[{}]}", LARDER_FORMAT},
        {"{\"added_tokens\":[[]]}", LARDER_FORMAT},
        {"{\"added_tokens\":[{\"id\":-1,\"content\":\"x\"}]}", LARDER_FORMAT},
        {"{\"added_tokens\":[{\"id\":7,\"content\":\"x\"},{\"id\":7,\"content\":\"y\"},{\"id\":8,\"content\":\"x\"}]"
         "}",
         LARDER_OK},
        {BPE(",\"normalizer\":{\"type\":\"Precompiled\"}"), LARDER_UNSUPPORTED},
        {BPE(",\"normalizer\":{\"type\":\"Replace\"}"), LARDER_FORMAT},
        {BPE(",\"normalizer\":7"), LARDER_UNSUPPORTED},
        {BPE(",\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}"), LARDER_UNSUPPORTED},
        {BPE(",\"decoder\":{\"type\":\"WordPiece\"}"), LARDER_UNSUPPORTED},
        {BPE(",\"post_processor\":{\"type\":\"BertProcessing\"}"), LARDER_UNSUPPORTED},
        {BPE(",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}]}"),
         LARDER_FORMAT},
        {BPE(",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}],"
             "\"special_tokens\":{\"x\":{\"ids\":[3]}}}"),
         LARDER_FORMAT},
        {SPLIT("("), LARDER_UNSUPPORTED},
        {SPLIT(""), LARDER_FORMAT},
        {SPLIT("(*LIMIT_MATCH=4294967295)a"), LARDER_UNSUPPORTED},
        {SPLIT("\\\\C"), LARDER_UNSUPPORTED},
        {SPLIT("(?=ab\\\\K)"), LARDER_UNSUPPORTED},
        {"{\"x\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]],\"model\":{"
         "\"vocab\":{\"a\":0}}}",
         LARDER_OK},
        {BPE(",\"normalizer\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"), LARDER_FORMAT},
    };
    for (size_t i = 0; i < LR_LEN(cases); i++) {
        lr_tokenizer *t = NULL;
        larder_error err;
        larder_status st = from_text(cases[i].json, &t, &err);
        if (st != cases[i].want) TEST_FAIL("%s: %d, not %d: %s", cases[i].json, st, cases[i].want, err.message);
        lr_tokenizer_free(t);
    }
}

/* A pattern may be as slow as it likes: the error comes in seconds. */
TEST_TIME(hostile_patterns, 40)
{
    static const char *const patterns[] = {
        "(a+)+b",
        "(a|aa)+$b",
        "\\\\s*\\\\s*\\\\s*x",
        "(?:a*)*c",
        "(a*?)*?d|(a*)*e",
        "(?:(?:a?){30}){30}b",
        "(?R)?a",
        "(?<=a)b*",
        "(a)(?1)*+b",
        "a{0,999}b{0,999}c",
        "a*a*b",
        "(?:a|b|ab)*?x",
        "(?=(a+))\\\\1b",
    };
    lr_buf text = {0};
    for (int i = 0; i < 60000; i++) lr_buf_puts(&text, i % 3000 < 2900 ? "a" : " ");
    lr_buf_puts(&text, "|bcdex"); /* all of them occur, so that no pattern can be dismissed for lack of one */
    for (size_t i = 0; i < LR_LEN(patterns); i++) {
        char json[500];
        lr_tokenizer *t = NULL;
        larder_error err;
        lr_ids ids = {0};
        snprintf(json, sizeof(json), SPLIT("%s"), patterns[i]);
        larder_status st = from_text(json, &t, &err);
        uint64_t begin = lr_now_ns();
        if (!st) st = lr_tokenizer_encode(t, (lr_str){text.p, text.n}, 0, &ids, &err);
        double s = (double)(lr_now_ns() - begin) / 1e9;
        printf("%s: %d in %.2f s %s\n", patterns[i], st, s, st ? err.message : "");
        CHECK(s < 8);
        CHECK(st == LARDER_OK || st == LARDER_LIMIT || st == LARDER_UNSUPPORTED);
        lr_ids_free(&ids);
        lr_tokenizer_free(t);
    }
    lr_buf_free(&text);
}

/* ---------------------------------------------------------------- hostile GGUF keys (G3) */
typedef struct keys {
    lr_file f;
    lr_kv kv[24];
} keys;

static void add(keys *k, const char *key, lr_kv_type type, lr_kv_type elem, uint64_t n, const void *p, size_t n_bytes)
{
    CHECK(k->f.n_kv < LR_LEN(k->kv));
    CHECK(lr_kv_make(&k->f, &k->kv[k->f.n_kv++], lr_str_of(key), type, elem, n, p, n_bytes));
    k->f.kv = k->kv;
}

static void add_text(keys *k, const char *key, const char *text)
{
    add(k, key, LR_KV_STR, LR_KV_STR, 1, text, strlen(text));
}

static void add_u32(keys *k, const char *key, uint32_t v) { add(k, key, LR_KV_U32, LR_KV_U32, 1, &v, 4); }

static void add_strings(keys *k, const char *key, const char *const *s, size_t n)
{
    lr_buf b = {0};
    for (size_t i = 0; i < n; i++) {
        uint64_t len = strlen(s[i]);
        lr_buf_add(&b, &len, 8);
        lr_buf_add(&b, s[i], len);
    }
    add(k, key, LR_KV_ARR, LR_KV_STR, n, b.p ? b.p : "", b.n);
    lr_buf_free(&b);
}

static larder_status try_keys(keys *k, const char *what)
{
    lr_tokenizer *t = NULL;
    larder_error err = {0};
    CHECK_EQ_INT(lr_file_index(&k->f, NULL), 0);
    larder_status st = lr_tokenizer_from_gguf(&k->f, &t, &err);
    printf("%s: %s\n", what, st ? err.message : "ok");
    CHECK((st == LARDER_OK) == (t != NULL));
    if (t) {
        static const char text[] = "ab <0x-1> <unk> \xc3\x28 aab<|end|> \xe2\x96\x81";
        lr_ids ids = {0};
        lr_buf out = {0};
        CHECK_EQ_INT(lr_tokenizer_encode(t, LR_STR(text), LR_ENCODE_ADDED | LR_ENCODE_SPECIAL, &ids, NULL), 0);
        CHECK_EQ_INT(lr_tokenizer_decode(t, ids.p, ids.n, true, &out, NULL), 0);
        for (uint32_t id = 0; id < lr_tokenizer_size(t); id++)
            CHECK_EQ_INT(lr_tokenizer_piece(t, (int32_t)id, true, &out, NULL), 0);
        lr_ids_free(&ids);
        lr_buf_free(&out);
    }
    lr_tokenizer_free(t);
    lr_file_close(&k->f);
    return st;
}

static const char *const few[] = {"<unk>",    "<s>",    "</s>",  "a",      "b",      "ab", "ab",
                                  "\xff\xfe", "<0x-1>", "<0x1>", "<0xZZ>", "<0x41>", "",   "\xe2\x96\x81"};
static const char *const bad_merges[] = {"a b", "a zz", "zz a", "a", "", " ", "a ", " b", "a b c", "b b", "a b"};
enum { N_FEW = LR_LEN(few) };

static void add_few(keys *k, const char *model)
{
    float scores[N_FEW];
    for (int i = 0; i < N_FEW; i++) scores[i] = i == 5 ? NAN : (float)-i;
    add_text(k, "tokenizer.ggml.model", model);
    add_strings(k, "tokenizer.ggml.tokens", few, N_FEW);
    add(k, "tokenizer.ggml.scores", LR_KV_ARR, LR_KV_F32, N_FEW, scores, sizeof(scores));
    add_strings(k, "tokenizer.ggml.merges", bad_merges, LR_LEN(bad_merges));
}

TEST(hostile_gguf)
{
    static const char *const models[] = {"llama", "gpt2"};
    for (int m = 0; m < 2; m++) {
        int32_t types[N_FEW + 1];
        for (int i = 0; i <= N_FEW; i++) types[i] = (int32_t)((uint32_t)i * 0x10000001U - 3U);
        keys a = {0}, b = {0}, c = {0}, d = {0}, e = {0}, g = {0}, h = {0};
        add_few(&a, models[m]);
        CHECK_EQ_INT(try_keys(&a, "plain"), 0);
        add_few(&b, models[m]);
        add(&b, "tokenizer.ggml.token_type", LR_KV_ARR, LR_KV_I32, N_FEW, types, N_FEW * 4);
        CHECK_EQ_INT(try_keys(&b, "odd types"), 0);
        add_few(&c, models[m]);
        add(&c, "tokenizer.ggml.token_type", LR_KV_ARR, LR_KV_I32, N_FEW + 1, types, (N_FEW + 1) * 4);
        CHECK_EQ_INT(try_keys(&c, "too many types"), LARDER_FORMAT);
        add_few(&d, models[m]);
        add_u32(&d, "tokenizer.ggml.bos_token_id", N_FEW);
        CHECK_EQ_INT(try_keys(&d, "bos"), LARDER_FORMAT);
        add_few(&e, models[m]);
        add_text(&e, "tokenizer.ggml.eos_token_id", "x");
        CHECK_EQ_INT(try_keys(&e, "eos"), LARDER_FORMAT);
        add_few(&g, models[m]);
        add_u32(&g, "tokenizer.ggml.eot_token_id", 0x80000000U);
        CHECK_EQ_INT(try_keys(&g, "eot"), LARDER_FORMAT);
        add_few(&h, models[m]);
        add_text(&h, "tokenizer.ggml.pre", "never-heard-of");
        CHECK_EQ_INT(try_keys(&h, "pre"), m ? LARDER_UNSUPPORTED : 0);
    }
    keys none = {0}, empty = {0}, kind = {0}, wrong = {0}, scores = {0}, one = {0};
    CHECK_EQ_INT(try_keys(&none, "nothing"), LARDER_FORMAT);
    add_text(&empty, "tokenizer.ggml.model", "llama");
    add_strings(&empty, "tokenizer.ggml.tokens", NULL, 0);
    CHECK_EQ_INT(try_keys(&empty, "empty"), LARDER_FORMAT);
    add_text(&kind, "tokenizer.ggml.model", "bert");
    add_strings(&kind, "tokenizer.ggml.tokens", few, N_FEW);
    CHECK_EQ_INT(try_keys(&kind, "kind"), LARDER_UNSUPPORTED);
    add_text(&wrong, "tokenizer.ggml.model", "llama");
    add_u32(&wrong, "tokenizer.ggml.tokens", 3);
    CHECK_EQ_INT(try_keys(&wrong, "wrong type"), LARDER_FORMAT);
    add_text(&scores, "tokenizer.ggml.model", "llama");
    add_strings(&scores, "tokenizer.ggml.tokens", few, N_FEW);
    float f[2] = {0};
    add(&scores, "tokenizer.ggml.scores", LR_KV_ARR, LR_KV_F32, 2, f, 8);
    CHECK_EQ_INT(try_keys(&scores, "scores"), LARDER_FORMAT);
    add_text(&one, "tokenizer.ggml.model", "llama"); /* a vocabulary smaller than the default ids */
    add_strings(&one, "tokenizer.ggml.tokens", few, 1);
    add(&one, "tokenizer.ggml.scores", LR_KV_ARR, LR_KV_F32, 1, f, 4);
    CHECK_EQ_INT(try_keys(&one, "one token"), 0);
}

TEST(scores_merge_best_first)
{
    static const char *const v[] = {"<unk>",
                                    "<s>",
                                    "</s>",
                                    "\xe2\x96\x81",
                                    "a",
                                    "b",
                                    "c",
                                    "ab",
                                    "bc",
                                    "abc",
                                    ("\xe2\x96\x81"
                                     "a")};
    static const float s[] = {0, 0, 0, -1, -2, -3, -4, -20, -10, -30, -40};
    keys k = {0};
    add_text(&k, "tokenizer.ggml.model", "llama");
    add_strings(&k, "tokenizer.ggml.tokens", v, LR_LEN(v));
    add(&k, "tokenizer.ggml.scores", LR_KV_ARR, LR_KV_F32, LR_LEN(v), s, sizeof(s));
    CHECK_EQ_INT(lr_file_index(&k.f, NULL), 0);
    lr_tokenizer *t = NULL;
    CHECK_EQ_INT(lr_tokenizer_from_gguf(&k.f, &t, NULL), 0);
    lr_ids ids = encode(t, LR_STR("abc x"), LR_ENCODE_SPECIAL); /* bc first, then abc; x is unknown */
    static const int32_t want[] = {1, 3, 9, 3, 0};
    CHECK_EQ_INT(ids.n, 5);
    CHECK(memcmp(ids.p, want, sizeof(want)) == 0);
    lr_ids_free(&ids);
    lr_tokenizer_free(t);
    lr_file_close(&k.f);
}

/* ---------------------------------------------------------------- memory and threads */
TEST_TIME(every_allocation_may_fail, 60)
{
    static const char text[] = "Once upon <|end|> a time cafe\xcc\x81 \xff";
    static const char *const names[] = {"tiny_bytes", "tiny_pieces"};
    for (size_t k = 0; k < LR_LEN(names); k++) {
        for (long n = 0;; n++) {
            char path[200];
            lr_tokenizer *t = NULL, *g = NULL;
            lr_ids ids = {0};
            lr_buf out = {0};
            lr_file f = {0};
            snprintf(path, sizeof(path), "tests/text/data/%s.json", names[k]);
            lr_alloc_fail_at(n);
            larder_status st = lr_tokenizer_from_json(path, &t, NULL);
            if (!st) st = lr_tokenizer_encode(t, LR_STR(text), LR_ENCODE_ADDED, &ids, NULL);
            if (!st) st = lr_tokenizer_decode(t, ids.p, ids.n, true, &out, NULL);
            if (!st) st = lr_tokenizer_to_gguf(t, lr_tokenizer_size(t), &f, NULL);
            if (!st) st = lr_file_index(&f, NULL);
            if (!st) st = lr_tokenizer_from_gguf(&f, &g, NULL);
            lr_alloc_fail_at(-1);
            lr_ids_free(&ids);
            lr_buf_free(&out);
            lr_tokenizer_free(t);
            lr_tokenizer_free(g);
            lr_file_close(&f);
            if (st == LARDER_OK) break;
            if (st != LARDER_NOMEM) TEST_FAIL("allocation %ld: status %d", n, st);
        }
    }
}

static void *encode_often(void *p)
{
    for (int i = 0; i < 50; i++) {
        lr_ids ids = encode(p, LR_STR("Once upon a time <|end|> cafe\xcc\x81 there was 1 cook's bread"),
                            LR_ENCODE_ADDED);
        lr_ids_free(&ids);
    }
    return NULL;
}

TEST(many_threads)
{
    lr_tokenizer *t = tiny("tiny_bytes");
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) CHECK_EQ_INT(pthread_create(&threads[i], NULL, encode_often, t), 0);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    lr_tokenizer_free(t);
}
