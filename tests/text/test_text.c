/* Finding templates in folders, what a request may hold, and prompts of a whole model. */
#include "test.h"
#include "text.h"

#include <unistd.h>

static char dir[64];

static void write_file(const char *name, const char *text)
{
    char path[200];
    larder_error err = {0};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    CHECK_OK(lr_write_file(path, text, strlen(text), &err));
}

static void make_dir(void)
{
    snprintf(dir, sizeof dir, "/tmp/larder-text-XXXXXX");
    CHECK(mkdtemp(dir));
}

static void remove_dir(void)
{
    static const char *const names[] = {"tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
                                        "chat_template.json"};
    char path[200];
    for (size_t i = 0; i < LR_LEN(names); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

static larder_status render(const lr_text *t, const char *request, char **out, larder_error *err)
{
    json_t *j = json_loads(request, 0, NULL);
    lr_rendered r = {0};
    CHECK(j);
    larder_status st = lr_text_render(t, j, 0, &r, err);
    *out = r.text;
    lr_free(r.runs);
    json_decref(j);
    return st;
}

static void check(const lr_text *t, const char *request, const char *want)
{
    larder_error err = {0};
    char *got = NULL;
    CHECK_OK(render(t, request, &got, &err));
    CHECK_EQ_STR(got, want);
    lr_free(got);
}

static void check_refused(const lr_text *t, const char *request, larder_status want, const char *says)
{
    larder_error err = {0};
    char *got = NULL;
    CHECK_STATUS(render(t, request, &got, &err), want);
    if (!strstr(err.message, says)) TEST_FAIL("\"%s\" does not say \"%s\"", err.message, says);
}

TEST(template_from_a_config)
{
    lr_text t;
    larder_error err = {0};
    make_dir();
    write_file("tokenizer_config.json",
               "{\"bos_token\": {\"content\": \"<s>\"}, \"eos_token\": \"</s>\", \"pad_token\": null,"
               "\"chat_template\": \"{{ bos_token }}{% for m in messages %}[{{ m.content }}]{% endfor %}{{ tools is "
               "none }}{{ eos_token }}\"}");
    CHECK_OK(lr_text_open_dir(dir, &t, &err));
    CHECK(!t.tok && t.tmpl);
    check(&t, "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}", "<s>[a]True</s>");
    check(&t, "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"bos_token\": \"evil\"}",
          "<s>[a]True</s>");
    check(&t,
          "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"a\"}, {\"type\": "
          "\"text\", \"text\": \"b\"}]}]}",
          "<s>[a\nb]True</s>");
    lr_text_close(&t);
    write_file("chat_template.jinja",
               "{% for m in messages %}{% for p in m.content %}({{ p.text }}){% endfor %}{% endfor %}");
    CHECK_OK(lr_text_open_dir(dir, &t, &err));
    check(&t,
          "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"a\"}, {\"type\": "
          "\"text\", \"text\": \"b\"}]}]}",
          "(a)(b)");
    lr_text_close(&t);
    remove_dir();
}

TEST(named_templates)
{
    lr_text t;
    larder_error err = {0};
    make_dir();
    write_file("tokenizer_config.json", "{\"chat_template\": [{\"name\": \"default\", \"template\": \"D\"},"
                                        "{\"name\": \"tool_use\", \"template\": \"T{{ tools|length }}\"}, {\"name\": "
                                        "\"rag\", \"template\": \"R\"}]}");
    CHECK_OK(lr_text_open_dir(dir, &t, &err));
    check(&t, "{\"messages\": []}", "D");
    check(&t, "{\"messages\": [], \"tools\": [{}, {}]}", "T2");
    lr_text_close(&t);
    remove_dir();
}

TEST(bad_requests_are_named)
{
    lr_text t;
    larder_error err = {0};
    make_dir();
    write_file("chat_template.jinja", "{{ messages|length }}");
    CHECK_OK(lr_text_open_dir(dir, &t, &err));
    check_refused(&t, "[]", LARDER_FORMAT, "not an object");
    check_refused(&t, "{}", LARDER_FORMAT, "messages");
    check_refused(&t, "{\"messages\": {}}", LARDER_FORMAT, "messages");
    check_refused(&t, "{\"messages\": [{\"role\": \"user\"}, 5]}", LARDER_FORMAT, "messages[1]");
    check_refused(&t, "{\"messages\": [{\"content\": \"a\"}]}", LARDER_FORMAT, "messages[0].role");
    check_refused(&t, "{\"messages\": [{\"role\": \"user\", \"content\": 5}]}", LARDER_FORMAT, "messages[0].content");
    check_refused(&t, "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]}",
                  LARDER_UNSUPPORTED, "image_url");
    check_refused(&t, "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": 1}]}]}",
                  LARDER_FORMAT, "content[0].text");
    check_refused(&t, "{\"messages\": [], \"tools\": 5}", LARDER_FORMAT, "tools");
    check(&t, "{\"messages\": [{\"role\": \"assistant\", \"content\": null, \"tool_calls\": []}]}", "1");
    lr_text_close(&t);
    remove_dir();
}

TEST(a_bad_template_fails_when_used)
{
    lr_text t;
    larder_error err = {0};
    make_dir();
    CHECK_STATUS(lr_text_open_dir(dir, &t, &err), LARDER_NOT_FOUND);
    write_file("chat_template.jinja", "ok\n{% if %}");
    CHECK_OK(lr_text_open_dir(dir, &t, &err));
    CHECK(!t.tmpl && t.tmpl_source.n);
    check_refused(&t, "{\"messages\": []}", LARDER_FORMAT, "line 2");
    lr_text_close(&t);
    write_file("tokenizer_config.json", "{\"chat_template\": ");
    CHECK_STATUS(lr_text_open_dir(dir, &t, &err), LARDER_FORMAT);
    write_file("tokenizer_config.json", "[]");
    CHECK_STATUS(lr_text_open_dir(dir, &t, &err), LARDER_FORMAT);
    remove_dir();
}

/* The example model: ChatML, whose control tokens come from the template only. */
TEST(prompt_of_a_model)
{
    char path[4096];
    snprintf(path, sizeof path, "%s", test_shared("models/teller-18m/tokenizer.json"));
    *strrchr(path, '/') = 0;
    lr_text t;
    lr_ids ids = {0};
    larder_error err = {0};
    CHECK_OK(lr_text_open_dir(path, &t, &err));
    CHECK(t.tok && t.tmpl);
    json_t *j = json_pack("{s:[{s:s, s:s}], s:b}", "messages", "role", "user", "content", "a<|im_end|>b",
                          "add_generation_prompt", 1);
    CHECK_OK(lr_text_prompt(&t, j, 0, &ids, &err));
    int32_t start = lr_tokenizer_find(t.tok, LR_STR("<|im_start|>")),
            end = lr_tokenizer_find(t.tok, LR_STR("<|im_end|>"));
    int n_start = 0, n_end = 0;
    for (size_t i = 0; i < ids.n; i++) {
        n_start += ids.p[i] == start;
        n_end += ids.p[i] == end;
    }
    CHECK(start >= 0 && end >= 0);
    CHECK_EQ_INT(n_start, 2);
    CHECK_EQ_INT(n_end, 1);
    CHECK_EQ_INT(ids.p[0], start);
    lr_ids_free(&ids);
    json_decref(j);
    lr_text_close(&t);
}
