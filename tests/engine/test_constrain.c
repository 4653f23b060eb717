/* Answers of the repository's model held to grammars: whole, valid, the same alone and together, and refused in words. */
#include "larder.h"
#include "test.h"

#include <jansson.h>

static const char schema[] = "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"minLength\":1,"
                             "\"maxLength\":16},\"age\":{\"type\":\"integer\",\"minimum\":0,"
                             "\"maximum\":120},\"tags\":{\"type\":\"array\",\"items\":{\"enum\":[\"cat\",\"dog\"]},"
                             "\"maxItems\":3}},\"required\":[\"name\",\"age\"],"
                             "\"additionalProperties\":false}";

typedef struct answer {
    char text[4096], error[500];
    size_t n;
    larder_finish finish;
    int32_t ids[600];
    uint32_t n_ids;
} answer;

static bool on_event(void *user, larder_request *r, const larder_event *ev)
{
    answer *a = user;
    (void)r;
    if (ev->kind == LARDER_EVENT_TOKEN && a->n_ids < 600) a->ids[a->n_ids++] = ev->token;
    if (ev->kind != LARDER_EVENT_PREFILL && a->n + ev->n_text < sizeof a->text) {
        memcpy(a->text + a->n, ev->text, ev->n_text);
        a->n += ev->n_text;
        a->text[a->n] = 0;
    }
    if (ev->kind == LARDER_EVENT_DONE) {
        a->finish = ev->finish;
        snprintf(a->error, sizeof a->error, "%s", ev->error ? ev->error : "");
    }
    return true;
}

typedef struct stage {
    larder_model *model;
    larder_engine *engine;
    int32_t *ids;
    size_t n_ids;
} stage;

static stage open_stage(uint32_t n_seq)
{
    stage s = {0};
    larder_error err = {0};
    larder_engine_options o = larder_engine_defaults();
    o.n_ctx = 512;
    o.n_seq = n_seq;
    o.n_threads = 1;
    CHECK_OK(larder_model_open("models/teller-18m-q8_0.gguf", &s.model, &err));
    CHECK_OK(larder_engine_open(s.model, &o, &s.engine, &err));
    CHECK_OK(larder_tokenize(s.model, "Once upon a time", 16, LARDER_TEXT_SPECIAL, &s.ids, &s.n_ids, &err));
    return s;
}

static void close_stage(stage *s)
{
    larder_free(s->ids);
    larder_engine_free(s->engine);
    larder_model_free(s->model);
}

static larder_grammar *compile(const stage *s, larder_grammar_kind kind, const char *text)
{
    larder_error err = {0};
    larder_grammar *g = NULL;
    CHECK_OK(larder_grammar_compile(s->model, kind, text, strlen(text), &g, &err));
    return g;
}

static larder_request *submit(const stage *s, larder_grammar *g, uint64_t seed, float temperature, answer *a)
{
    larder_error err = {0};
    larder_request *r = NULL;
    larder_request_options o = larder_request_defaults();
    *a = (answer){0};
    o.ids = s->ids;
    o.n_ids = s->n_ids;
    o.max_tokens = 300;
    o.sampling.temperature = temperature;
    o.sampling.seed = seed;
    o.grammar = g;
    o.on_event = on_event;
    o.user = a;
    CHECK_OK(larder_submit(s->engine, &o, &r, &err));
    return r;
}

static void check_person(const answer *a)
{
    json_error_t e;
    json_t *v = json_loadb(a->text, a->n, 0, &e);
    if (!v) TEST_FAIL("not JSON (%s): %s", e.text, a->text);
    json_t *age = json_object_get(v, "age"), *tags = json_object_get(v, "tags"), *tag;
    size_t i;
    CHECK_EQ_INT(a->finish, LARDER_FINISH_EOS);
    CHECK(json_is_string(json_object_get(v, "name")) && json_is_integer(age));
    CHECK(json_integer_value(age) >= 0 && json_integer_value(age) <= 120);
    CHECK(json_array_size(tags) <= 3);
    CHECK_EQ_INT(json_object_size(v), tags ? 3 : 2);
    json_array_foreach(tags, i, tag)
        CHECK(!strcmp(json_string_value(tag), "cat") || !strcmp(json_string_value(tag), "dog"));
    json_decref(v);
}

TEST_TIME(schema_alone_and_together, 120)
{
    enum { N = 6 };
    static answer alone[N], together[N];
    larder_request *r[N];
    larder_error err = {0};
    stage s = open_stage(4);
    for (int i = 0; i < N; i++) {
        larder_grammar *g = compile(&s, LARDER_GRAMMAR_JSON_SCHEMA, schema);
        r[i] = submit(&s, g, (uint64_t)i + 1, 1, &alone[i]);
        larder_grammar_free(g); /* the request holds it */
        CHECK_OK(larder_wait(s.engine, r[i], &err));
        larder_request_free(r[i]);
        check_person(&alone[i]);
        printf("%s\n", alone[i].text);
    }
    larder_grammar *g = compile(&s, LARDER_GRAMMAR_JSON_SCHEMA, schema);
    for (int i = 0; i < N; i++) r[i] = submit(&s, g, (uint64_t)i + 1, 1, &together[i]);
    larder_grammar_free(g);
    for (int i = 0; i < N; i++) CHECK_OK(larder_wait(s.engine, r[i], &err));
    for (int i = 0; i < N; i++) {
        CHECK_EQ_INT(together[i].n_ids, alone[i].n_ids);
        CHECK(!memcmp(together[i].ids, alone[i].ids, alone[i].n_ids * sizeof *alone[i].ids));
        larder_request_free(r[i]);
    }
    close_stage(&s);
}

TEST_TIME(other_kinds, 60)
{
    static answer a;
    larder_error err = {0};
    stage s = open_stage(1);
    static const struct {
        larder_grammar_kind kind;
        const char *text, *may[4];
    } rows[] = {{LARDER_GRAMMAR_GBNF, "root ::= \"yes\" | \"no\"", {"yes", "no"}},
                {LARDER_GRAMMAR_REGEX, "(cat|dog)-1[0-2]", {NULL}},
                {LARDER_GRAMMAR_CHOICE, "[\"red\",\"green\",\"blue\"]", {"red", "green", "blue"}}};
    for (size_t i = 0; i < 3; i++)
        for (int greedy = 0; greedy < 2; greedy++) {
            larder_grammar *g = compile(&s, rows[i].kind, rows[i].text);
            larder_request *r = submit(&s, g, 3, greedy ? 0 : 1, &a);
            CHECK_OK(larder_wait(s.engine, r, &err));
            CHECK_EQ_INT(a.finish, LARDER_FINISH_EOS);
            bool known = !rows[i].may[0] && (!strncmp(a.text, "cat-1", 5) || !strncmp(a.text, "dog-1", 5)) &&
                         a.n == 6;
            for (int k = 0; k < 4 && rows[i].may[k]; k++) known |= !strcmp(a.text, rows[i].may[k]);
            if (!known) TEST_FAIL("%s gave %s", rows[i].text, a.text);
            larder_request_free(r);
            larder_grammar_free(g);
        }
    close_stage(&s);
}

TEST(refused_in_words)
{
    static answer a;
    larder_error err = {0};
    larder_grammar *g = NULL;
    stage s = open_stage(1);
    static const char bad[] = "{\"type\":\"object\",\"properties\":{\"a\":{\"contains\":{}}}}";
    CHECK_STATUS(larder_grammar_compile(s.model, LARDER_GRAMMAR_JSON_SCHEMA, bad, strlen(bad), &g, &err),
                 LARDER_UNSUPPORTED);
    CHECK(!g && strstr(err.message, "#/properties/a/contains"));
    /* all that the grammar allows is banned: an error, not free text */
    g = compile(&s, LARDER_GRAMMAR_REGEX, "[0-9]+");
    larder_model_info info;
    larder_model_get_info(s.model, &info);
    int32_t *ids = calloc(info.n_vocab, sizeof *ids);
    float *bias = calloc(info.n_vocab, sizeof *bias);
    for (uint32_t i = 0; i < info.n_vocab; i++) ids[i] = (int32_t)i, bias[i] = -INFINITY;
    larder_request_options o = larder_request_defaults();
    o.ids = s.ids;
    o.n_ids = s.n_ids;
    o.grammar = g;
    o.on_event = on_event;
    o.user = &a;
    o.sampling.bias_ids = ids;
    o.sampling.bias = bias;
    o.sampling.n_bias = info.n_vocab;
    larder_request *r = NULL;
    CHECK_OK(larder_submit(s.engine, &o, &r, &err));
    CHECK_OK(larder_wait(s.engine, r, &err));
    CHECK_EQ_INT(a.finish, LARDER_FINISH_ERROR);
    CHECK(strstr(a.error, "bias") && !a.n);
    larder_request_free(r);
    larder_grammar_free(g);
    free(ids);
    free(bias);
    close_stage(&s);
}
