/* Answers taken apart: every syntax, cut at every point and byte by byte, gives the same; nothing is lost. */
#include "parse_tools.h"
#include "test.h"

static void add(void *user, const lr_piece *p)
{
    static const char kinds[] = "tTC";
    lr_buf *b = user;
    static lr_piece_kind last;
    bool part = p->kind == LR_PIECE_ARGS || p->kind == LR_PIECE_CALLED;
    if (!part && (!b->n || p->kind != last || p->kind == LR_PIECE_CALL)) lr_buf_printf(b, "|%c:", kinds[p->kind]);
    last = p->kind;
    lr_buf_add(b, p->name.p, p->name.n);
    lr_buf_add(b, p->text.p, p->text.n);
    if (p->kind == LR_PIECE_CALLED) lr_buf_putc(b, ';');
}

/* cut: a first part of this many bytes; 0: byte by byte. */
static char *parse(const char *text, size_t n, bool tools, bool thinking, size_t cut)
{
    lr_buf out = {0};
    lr_answer a;
    lr_answer_init(&a, tools, thinking, add, &out);
    if (cut) {
        CHECK(lr_answer_feed(&a, text, cut));
        CHECK(lr_answer_feed(&a, text + cut, n - cut));
    } else {
        for (size_t i = 0; i < n; i++) CHECK(lr_answer_feed(&a, text + i, 1));
    }
    CHECK(lr_answer_end(&a));
    lr_answer_close(&a);
    lr_buf_putc(&out, 0);
    return lr_buf_steal(&out);
}

static void same(const char *text, const char *want, bool tools, bool thinking)
{
    size_t n = strlen(text);
    for (size_t cut = 0; cut <= n; cut++) {
        char *got = parse(text, n, tools, thinking, cut);
        if (strcmp(got, want)) TEST_FAIL("%s cut at %zu: %s, not %s", text, cut, got, want);
        lr_free(got);
    }
}

TEST(plain)
{
    same("Once upon a time", "|t:Once upon a time", true, false);
    same("  a < b, [x] <tool", "|t:  a < b, [x] <tool", true, false);
    same("<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>",
         "|t:<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>", false, false);
    same("{\"name\": \"f\", \"parameters\": {}}", "|t:{\"name\": \"f\", \"parameters\": {}}", false, false);
}

TEST(thoughts)
{
    same("<think>\nhm </thin </think>\n\nYes.", "|T:hm </thin |t:Yes.", false, false);
    same("hm</think>Yes </think>", "|T:hm|t:Yes </think>", false, true);
    same("<think>never done", "|T:never done", false, false);
    same("So <think>", "|t:So <think>", false, false);
    same("<thinking>", "|t:<thinking>", false, false);
    same("<think>a</think>\n<tool_call>\n{\"name\": \"f\"}\n</tool_call>", "|T:a|C:f{};", true, false);
}

TEST(hermes)
{
    same("Let me see.<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"}</tool_call>\\\"\"}}\n</tool_call>\n"
         "<tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call>",
         "|t:Let me see.|C:f{\"a\":\"}</tool_call>\\\"\"};|C:g{};", true, false);
    same("<tool_call>{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}</tool_call> done", "|C:f{\"a\":1};|t:done",
         true, false);
    same("<tool_call>f(1)</tool_call>", "|t:<tool_call>f(1)</tool_call>", true, false);
    same("<tool_call>{\"nome\": 1}</tool_call>", "|t:<tool_call>{\"nome\": 1}</tool_call>", true, false);
    same("<tool_call>{\"name\": \"f\", \"arg", "|t:<tool_call>{\"name\": \"f\", \"arg", true, false);
    same("<tool_call>{\"name\": \"f\", \"arguments\": 7}", "|t:<tool_call>{\"name\": \"f\", \"arguments\": 7}", true,
         false);
}

TEST(mistral)
{
    same("[TOOL_CALLS] [{\"name\":\"f\",\"arguments\":{\"a\":[1]}},{\"name\":\"g\",\"arguments\":{}}]",
         "|C:f{\"a\":[1]};|C:g{};", true, false);
    same("[TOOL_CALLS]f[ARGS]{\"a\":1}[TOOL_CALLS]g[ARGS]{}", "|C:f{\"a\":1};|C:g{};", true, false);
    same("[TOOL_CALLS]f{\"a\":1}", "|C:f{\"a\":1};", true, false);
    same("[TOOL_CALLS]no call", "|t:[TOOL_CALLS]no call", true, false);
    same("[TOOL_CALLS][1,2] x", "|t:[TOOL_CALLS][1,2] x", true, false);
    same("[TOOL_CALLS]f[ARG]", "|t:[TOOL_CALLS]f[ARG]", true, false);
}

TEST(llama)
{
    same("{\"name\": \"f\", \"parameters\": {\"a\": 1}}", "|C:f{\"a\":1};", true, false);
    same("<|python_tag|>{\"name\": \"f\", \"parameters\": {}}", "|C:f{};", true, false);
    same("{\"name\": \"Tom\", \"age\": 3} is", "|t:{\"name\": \"Tom\", \"age\": 3} is", true, false);
    same("{\"a\": {\"b", "|t:{\"a\": {\"b", true, false);
}

/* Given as they come: what a call begins with is enough. */
TEST(parts)
{
    same("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": [1, \"b c", "|C:f{\"a\":[1,\"b c", true, false);
    same("<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":}}</tool_call>x", "|C:f{\"a\":};|t:x", true, false);
    same("<tool_call> { \"name\" : \"f\" ,\n\"parameters\" :\n{ } , \"id\": {\"}\": 1} }</tool_call>x", "|C:f{};|t:x",
         true, false);
    same("<tool_call>{\"name\":\"f\",\"arguments\":{} oh", "|C:f{};|t:oh", true, false);
    same("<tool_call>{\"name\":\"f\",\"arguments\":{}, \"oh", "|C:f{};|t:, \"oh", true, false);
    same("<tool_call>{\"arguments\":{\"a\":1},\"name\":\"f\"}</tool_call>", "|C:f{\"a\":1};", true, false);
    same("<tool_call>{\"name\":\"\\u0066\",\"arguments\":{\"a\": 1}}</tool_call>", "|C:f{\"a\":1};", true, false);
    same("[TOOL_CALLS][{\"name\":\"f\",\"arguments\":{}}, 5]", "|C:f{};|t:, 5]", true, false);
    same("[{\"name\":\"f\",\"arguments\":{}}]", "|t:[{\"name\":\"f\",\"arguments\":{}}]", true, false);
}

/* Calls are all it may say: a list is one too, and what was cut off before a call began is nothing. */
TEST(forced)
{
    static const char text[] = "[{\"name\":\"f\",\"arguments\":{}}, {\"name\":\"g\",\"arguments\":{\"a\":1}}]";
    for (size_t n = 0; n <= strlen(text); n++) {
        lr_buf out = {0};
        lr_answer a;
        lr_answer_init(&a, true, false, add, &out);
        a.forced = true;
        for (size_t i = 0; i < n; i++) CHECK(lr_answer_feed(&a, text + i, 1));
        CHECK(lr_answer_end(&a));
        lr_answer_close(&a);
        lr_buf_putc(&out, 0);
        if (strstr(out.p, "|t:")) TEST_FAIL("%.*s: %s", (int)n, text, out.p);
        if (n == strlen(text)) CHECK(!strcmp(out.p, "|C:f{};|C:g{\"a\":1};"));
        lr_buf_free(&out);
    }
}

/* One mark and no other: what else looks like a call is text. */
TEST(only_one_mark)
{
    static const char call[] = "{\"name\":\"f\",\"arguments\":{}}";
    static const char *const marks[] = {"<tool_call>", "[TOOL_CALLS]"};
    for (int only = 0; only < 2; only++)
        for (int i = 0; i < 4; i++) {
            lr_buf out = {0}, text = {0};
            lr_answer a;
            lr_buf_printf(&text, "%s%s%s%s", i == 2 ? "<|python_tag|>" : "", i < 2 ? marks[i] : "", call,
                          i == 0 ? "</tool_call>" : "");
            lr_answer_init(&a, true, false, add, &out);
            a.only = marks[only];
            CHECK(lr_answer_feed(&a, text.p, text.n) && lr_answer_end(&a));
            lr_answer_close(&a);
            CHECK(out.n > 3);
            if (i == only) CHECK(!strncmp(out.p, "|C:f{};", out.n));
            else CHECK(out.n == text.n + 3 && !strncmp(out.p, "|t:", 3) && !memcmp(out.p + 3, text.p, text.n));
            lr_buf_free(&out);
            lr_buf_free(&text);
        }
}

/* Any text: how it is cut does not matter, and without calls every byte comes out. */
TEST(random_text)
{
    static const char *const parts[] = {"<think>",
                                        "</think>",
                                        "<tool_call>",
                                        "</tool_call>",
                                        "[TOOL_CALLS]",
                                        "[ARGS]",
                                        "{",
                                        "}",
                                        "[",
                                        "]",
                                        "\"",
                                        "\\",
                                        "name",
                                        "{\"name\":\"f\",\"arguments\":{}}",
                                        " ",
                                        "\n",
                                        "x",
                                        "<",
                                        "</"};
    for (int round = 0; round < 400; round++) {
        lr_buf b = {0};
        for (uint64_t k = test_random() % 14; k > 0; k--) lr_buf_puts(&b, parts[test_random() % LR_LEN(parts)]);
        lr_buf_putc(&b, 0);
        bool tools = test_random() & 1, thinking = test_random() & 1;
        char *want = parse(b.p, b.n - 1, tools, thinking, b.n - 1);
        same(b.p, want, tools, thinking);
        lr_free(want);
        lr_buf_free(&b);
    }
}

/* Linear: a megabyte of what never ends. */
TEST(long_text)
{
    static const char *const units[] = {" ", "<", "[", "{\"a\":", "<tool_call>{", "[TOOL_CALLS]a"};
    for (size_t u = 0; u < LR_LEN(units); u++) {
        lr_buf out = {0};
        lr_answer a;
        lr_answer_init(&a, true, false, add, &out);
        for (size_t n = 0; n < 1 << 20; n += strlen(units[u])) CHECK(lr_answer_feed(&a, units[u], strlen(units[u])));
        CHECK(lr_answer_end(&a));
        lr_answer_close(&a);
        lr_buf_free(&out);
    }
}
