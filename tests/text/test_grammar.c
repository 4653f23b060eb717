/* Grammars byte by byte: what each keyword, GBNF rule and expression takes and leaves, what is refused and how, and that
 * hostile ones end in an error within their budgets. */
#include "grammar.h"
#include "test.h"

static lr_grammar *compile(larder_grammar_kind kind, const char *text)
{
    larder_error err = {0};
    lr_grammar *g = NULL;
    larder_status st = lr_grammar_new(kind, lr_str_of(text), NULL, &g, &err);
    if (st) TEST_FAIL("%s: %s", text, err.message);
    return g;
}

static bool takes(lr_grammar *g, const char *p, size_t n)
{
    larder_error err = {0};
    lr_matcher m;
    bool ok = false;
    CHECK_OK(lr_matcher_init(&m, g, &err));
    CHECK_OK(lr_matcher_take(&m, p, n, &ok, &err));
    ok = ok && lr_matcher_complete(&m);
    lr_matcher_close(&m);
    return ok;
}

struct row {
    const char *text;
    const char *yes[8], *no[8];
};

static void check_rows(larder_grammar_kind kind, const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        lr_grammar *g = compile(kind, rows[i].text);
        for (int k = 0; k < 8 && rows[i].yes[k]; k++)
            if (!takes(g, rows[i].yes[k], strlen(rows[i].yes[k])))
                TEST_FAIL("%s leaves %s", rows[i].text, rows[i].yes[k]);
        for (int k = 0; k < 8 && rows[i].no[k]; k++)
            if (takes(g, rows[i].no[k], strlen(rows[i].no[k]))) TEST_FAIL("%s takes %s", rows[i].text, rows[i].no[k]);
        lr_grammar_free(g);
    }
}

static void check_refused(larder_grammar_kind kind, const char *text, larder_status want, const char *says)
{
    larder_error err = {0};
    lr_grammar *g = NULL;
    larder_status st = lr_grammar_new(kind, lr_str_of(text), NULL, &g, &err);
    if (st != want || !strstr(err.message, says))
        TEST_FAIL("%.200s: %s: \"%s\", not \"%s\"", text, larder_status_text(st), err.message, says);
    CHECK(!g);
}

/* ---------------------------------------------------------------- JSON Schema */
TEST(schema_types)
{
    static const struct row rows[] = {
        {"true",
         {"1", "\"a\"", "[1, {\"a\":null}]", "{}", "-1.5e+10"},
         {"", "01", "[1,]", "{\"a\"}", "\"a", "nul", "1 "}},
        {"{\"type\":\"null\"}", {"null"}, {"nul", "0", "\"null\""}},
        {"{\"type\":\"boolean\"}", {"true", "false"}, {"True", "0"}},
        {"{\"type\":\"integer\"}",
         {"0", "-1", "123456789012345678"},
         {"-0", "01", "1.5", "1e3", "1234567890123456789"}},
        {"{\"type\":\"number\"}", {"0", "-0.5", "1e9", "12.25E-3"}, {"1.", ".5", "+1", "1e", "NaN", "1e999"}},
        {"{\"type\":[\"integer\",\"null\"]}", {"null", "7"}, {"\"7\"", "true"}},
        {"{\"type\":\"string\"}",
         {"\"\"", "\"caf\xc3\xa9\"", "\"\\u00e9\\n\"", "\"\\ud83d\\ude00\""},
         {"\"\n\"", "\"\\x\"", "\"\\ud83d\"", "\"\xff\"", "\"\xc3\"", "\"\xed\xa0\x80\"", "\"\xc0\xaf\"", "a"}},
        {"{\"enum\":[1,\"a\\\"b\",null,[1,{\"x\":2}]]}",
         {"1", "\"a\\\"b\"", "null", "[1,{\"x\":2}]", "[1, {\"x\": 2}]"},
         {"2", "[1]", "\"a\""}},
        {"{\"const\":{\"a\":[true]}}", {"{\"a\":[true]}", "{\"a\": [true]}"}, {"{}", "{\"a\":[false]}"}},
        {"{\"enum\":[1,2,\"x\"],\"type\":\"integer\",\"minimum\":2}", {"2"}, {"1", "\"x\""}},
    };
    check_rows(LARDER_GRAMMAR_JSON_SCHEMA, rows, LR_LEN(rows));
}

TEST(schema_numbers)
{
    static const struct row rows[] = {
        {"{\"type\":\"integer\",\"minimum\":-5,\"maximum\":120}",
         {"-5", "0", "99", "120"},
         {"-6", "121", "1000", "-10", "-0"}},
        {"{\"type\":\"integer\",\"exclusiveMinimum\":9,\"exclusiveMaximum\":101}",
         {"10", "100"},
         {"9", "101", "1", "-50"}},
        {"{\"type\":\"integer\",\"maximum\":-7}", {"-7", "-70", "-8"}, {"-6", "0", "7"}},
        {"{\"type\":\"number\",\"minimum\":1.25,\"maximum\":3}",
         {"1.25", "1.3", "2", "3.0", "2.999"},
         {"1.2", "1.249", "3.01", "4", "0"}},
        {"{\"type\":\"number\",\"exclusiveMinimum\":-0.5,\"exclusiveMaximum\":0}",
         {"-0.4", "-0.49", "-0.01"},
         {"-0.5", "0", "-0.50", "-1", "0.1"}},
        {"{\"type\":\"number\",\"exclusiveMinimum\":0}", {"0.001", "1", "10"}, {"0", "0.0", "-1", "-0.0"}},
        {"{\"type\":\"number\",\"maximum\":0.07}", {"0.07", "0", "-3", "0.0699"}, {"0.08", "0.071", "1"}},
        {"{\"type\":\"integer\",\"multipleOf\":7}", {"0", "7", "-14", "700"}, {"1", "8", "-6"}},
        {"{\"type\":\"number\",\"multipleOf\":0.25}",
         {"0.25", "1", "1.5", "-2.75", "1.50"},
         {"0.3", "1.55", "0.001"}},
        {"{\"type\":\"integer\",\"minimum\":10,\"allOf\":[{\"maximum\":12},{\"multipleOf\":2}]}",
         {"10", "12"},
         {"11", "8", "14"}},
    };
    check_rows(LARDER_GRAMMAR_JSON_SCHEMA, rows, LR_LEN(rows));
}

TEST(schema_strings)
{
    static const struct row rows[] = {
        {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
         {"\"ab\"", "\"\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\"", "\"a\\n\\u0041\""},
         {"\"a\"", "\"abcd\""}},
        {"{\"type\":\"string\",\"pattern\":\"^a+$\"}", {"\"a\"", "\"aaa\""}, {"\"\"", "\"ab\"", "\"ba\""}},
        {"{\"type\":\"string\",\"pattern\":\"b\"}", {"\"b\"", "\"abc\"", "\"\\nb\""}, {"\"\"", "\"ac\""}},
        {"{\"type\":\"string\",\"pattern\":\"^x|y$\"}", {"\"xa\"", "\"ay\""}, {"\"ax\"", "\"ya\""}},
        {"{\"type\":\"string\",\"pattern\":\"^[^a]$\",\"minLength\":1}",
         {"\"b\"", "\"\\\"\"", "\"\\\\\"", "\"\xf0\x9f\x98\x80\""},
         {"\"a\"", "\"bb\""}},
        {"{\"type\":\"string\",\"pattern\":\"^\\\\p{Lu}\\\\w*$\",\"maxLength\":4}",
         {"\"Ab\"", "\"\xc3\x89t\""},
         {"\"ab\"", "\"Abcde\""}},
        {"{\"type\":\"string\",\"format\":\"date\"}",
         {"\"2024-02-29\"", "\"2023-12-31\""},
         {"\"2023-02-29\"", "\"2023-13-01\"", "\"23-1-1\""}},
        {"{\"type\":\"string\",\"format\":\"date-time\"}",
         {"\"2024-02-29T23:59:59Z\"", "\"1999-01-01T00:00:00.5+01:00\""},
         {"\"2024-02-29\"", "\"2024-02-29T24:00:00Z\""}},
        {"{\"type\":\"string\",\"format\":\"uuid\"}", {"\"2eb8aa08-aa98-11ea-b4aa-73b441d16380\""}, {"\"2eb8aa08\""}},
        {"{\"type\":\"string\",\"format\":\"ipv4\"}",
         {"\"127.0.0.1\"", "\"255.255.255.255\""},
         {"\"256.0.0.1\"", "\"1.2.3\"", "\"01.2.3.4\""}},
        {"{\"type\":\"string\",\"format\":\"ipv6\"}",
         {"\"::1\"", "\"1:2:3:4:5:6:7:8\"", "\"fe80::1:2\""},
         {"\"1::2::3\"", "\":1\"", "\"1:2:3\""}},
        {"{\"type\":\"string\",\"format\":\"email\"}",
         {"\"a.b@example.com\""},
         {"\"a@\"", "\"@b.c\"", "\"a b@c.d\""}},
    };
    check_rows(LARDER_GRAMMAR_JSON_SCHEMA, rows, LR_LEN(rows));
}

TEST(schema_arrays)
{
    static const struct row rows[] = {
        {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}",
         {"[]", "[1]", "[1, 2,3]", "[\n  1,\n  2\n]"},
         {"[\"a\"]", "[1 ,2]", "[,]", "[1,]"}},
        {"{\"type\":\"array\",\"items\":{\"type\":\"null\"},\"minItems\":1,\"maxItems\":2}",
         {"[null]", "[null,null]"},
         {"[]", "[null,null,null]"}},
        {"{\"type\":\"array\",\"prefixItems\":[{\"const\":1},{\"const\":2}],\"items\":false}",
         {"[]", "[1]", "[1,2]"},
         {"[2]", "[1,2,3]"}},
        {"{\"type\":\"array\",\"prefixItems\":[{\"const\":1}],\"items\":{\"const\":0},\"minItems\":2}",
         {"[1,0]", "[1,0,0]"},
         {"[1]", "[0,0]"}},
        {"{\"type\":\"array\",\"uniqueItems\":true,\"maxItems\":1,\"items\":{\"const\":1}}",
         {"[]", "[1]"},
         {"[1,1]"}},
        {"{\"type\":\"array\",\"contains\":{\"const\":3},\"minContains\":0,\"items\":{\"const\":1}}",
         {"[1]"},
         {"[3]"}},
        {"{\"type\":\"array\",\"prefixItems\":[{\"const\":1}],\"unevaluatedItems\":false}", {"[1]"}, {"[1,1]"}},
    };
    check_rows(LARDER_GRAMMAR_JSON_SCHEMA, rows, LR_LEN(rows));
}

TEST(schema_objects)
{
    static const struct row rows[] = {
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"const\":1},\"b\":{\"const\":2}},\"required\":[\"b\"],"
         "\"additionalProperties\":false}",
         {"{\"b\":2}", "{\"a\":1,\"b\":2}", "{ \"a\": 1, \"b\": 2 }"},
         {"{}", "{\"a\":1}", "{\"b\":2,\"a\":1}", "{\"b\":2,\"c\":1}", "{\"b\":2,\"b\":2}"}},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"const\":1}},\"additionalProperties\":{\"const\":0}}",
         {"{}", "{\"a\":1}", "{\"b\":0}", "{\"a\":1,\"b\":0,\"ab\":0,\"\":0}"},
         {"{\"a\":0}", "{\"b\":1}", "{\"b\":0,\"a\":0}", "{\"\\u0061\":0}"}},
        {"{\"type\":\"object\",\"patternProperties\":{\"^x\":{\"const\":1},\"y$\":{\"type\":\"integer\"}},"
         "\"additionalProperties\":false}",
         {"{\"x\":1}", "{\"ay\":7}", "{\"xy\":1}"},
         {"{\"xy\":7}", "{\"z\":1}", "{\"ay\":null}"}},
        {"{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{},\"c\":{}},\"minProperties\":2,\"maxProperties\":2,"
         "\"additionalProperties\":false}",
         {"{\"a\":1,\"b\":1}", "{\"a\":1,\"c\":1}"},
         {"{\"a\":1}", "{\"a\":1,\"b\":1,\"c\":1}", "{}"}},
        {"{\"type\":\"object\",\"minProperties\":1,\"maxProperties\":2,\"additionalProperties\":{\"const\":1}}",
         {"{\"q\":1}", "{\"q\":1,\"r\":1}"},
         {"{}", "{\"q\":1,\"r\":1,\"s\":1}"}},
        {"{\"type\":\"object\",\"propertyNames\":{\"pattern\":\"^[a-c]+$\"}}",
         {"{}", "{\"abc\":1}"},
         {"{\"d\":1}", "{\"\":1}"}},
        {"{\"type\":\"object\",\"propertyNames\":{\"enum\":[\"x\",\"y\"]},\"properties\":{\"z\":{}}}",
         {"{\"x\":1}"},
         {"{\"z\":1}", "{\"w\":1}"}},
        {"{\"type\":\"object\",\"required\":[\"k\"]}", {"{\"k\":1}", "{\"k\":1,\"m\":[]}"}, {"{}", "{\"m\":1}"}},
        {"{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{}},\"dependentRequired\":{\"a\":[\"b\"]},"
         "\"additionalProperties\":false}",
         {"{}", "{\"b\":1}", "{\"a\":1,\"b\":1}"},
         {"{\"a\":1}"}},
        {"{\"type\":\"object\",\"properties\":{\"a\":{}},\"unevaluatedProperties\":false,\"allOf\":[{\"properties\":{"
         "\"b\":{}}}]}",
         {"{\"a\":1,\"b\":1}"},
         {"{\"c\":1}"}},
    };
    check_rows(LARDER_GRAMMAR_JSON_SCHEMA, rows, LR_LEN(rows));
}

TEST(schema_combined)
{
    static const struct row rows[] = {
        {"{\"anyOf\":[{\"type\":\"integer\"},{\"const\":\"a\"}]}", {"1", "\"a\""}, {"\"b\"", "null"}},
        {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]}", {"1", "\"b\""}, {"null"}},
        {"{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"t\":{\"const\":\"a\"},\"n\":{\"const\":1}},\"required\":"
         "[\"t\",\"n\"],\"additionalProperties\":false},"
         "{\"type\":\"object\",\"properties\":{\"t\":{\"const\":\"b\"},\"n\":{\"const\":2}},\"required\":[\"t\","
         "\"n\"],\"additionalProperties\":false}]}",
         {"{\"t\":\"a\",\"n\":1}", "{\"t\":\"b\",\"n\":2}"},
         {"{\"t\":\"a\",\"n\":2}"}},
        {"{\"allOf\":[{\"type\":\"string\",\"minLength\":2},{\"maxLength\":2},{\"pattern\":\"^z\"}]}",
         {"\"za\""},
         {"\"z\"", "\"zab\"", "\"ab\""}},
        {"{\"$ref\":\"#/$defs/"
         "n\",\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"v\":{\"const\":1},\"next\":{\"anyOf\":[{\"$"
         "ref\":\"#/$defs/n\"},{\"type\":\"null\"}]}},"
         "\"required\":[\"v\"],\"additionalProperties\":false}}}",
         {"{\"v\":1}", "{\"v\":1,\"next\":null}", "{\"v\":1,\"next\":{\"v\":1,\"next\":{\"v\":1}}}"},
         {"{\"next\":null}", "{\"v\":1,\"next\":{}}"}},
        {"{\"$ref\":\"#name\",\"maximum\":3,\"$defs\":{\"a\":{\"$anchor\":\"name\",\"type\":\"integer\",\"minimum\":"
         "1}}}",
         {"1", "3"},
         {"0", "4"}},
        {"{\"properties\":{\"a\":{\"$id\":\"t\",\"properties\":{\"b\":{\"$ref\":\"#/$defs/n\"}},\"required\":[\"b\"],"
         "\"additionalProperties\":false,\"type\":\"object\",\"$defs\":{\"n\":{\"$anchor\":\"m\",\"type\":\"null\"}}}"
         "},\"type\":"
         "\"object\",\"required\":[\"a\"],\"additionalProperties\":false,\"$defs\":{\"n\":{\"type\":\"integer\"}}}",
         {"{\"a\":{\"b\":null}}"},
         {"{\"a\":{\"b\":1}}"}}, /* "#" is the schema around it that has an $id */
        {"{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}", {"[]", "[[],[[]]]"}, {"[1]", "[[]"}},
        {"{\"enum\":[1,2,3,4],\"not\":{\"multipleOf\":2},\"if\":{\"const\":1},\"then\":false}",
         {"3"},
         {"1", "2", "4"}},
        {"{\"not\":false,\"type\":\"null\"}", {"null"}, {"1"}},
    };
    check_rows(LARDER_GRAMMAR_JSON_SCHEMA, rows, LR_LEN(rows));
}

TEST(schema_refused)
{
    static const struct {
        const char *text;
        larder_status st;
        const char *says;
    } rows[] = {
        {"{", LARDER_FORMAT, "line 1"},
        {"[]", LARDER_FORMAT, "not an object"},
        {"{\"a\":1,\"a\":2}", LARDER_FORMAT, "duplicate"},
        {"{\"type\":\"strnig\"}", LARDER_FORMAT, "#/type"},
        {"{\"type\":\"string\",\"maxLenght\":3}", LARDER_UNSUPPORTED, "#/maxLenght"},
        {"{\"properties\":{\"a/b\":{\"uniqueItems\":true,\"items\":{}}}}", LARDER_UNSUPPORTED,
         "#/properties/a~1b/uniqueItems"},
        {"{\"$dynamicRef\":\"#a\"}", LARDER_UNSUPPORTED, "$dynamicRef"},
        {"{\"if\":{\"multipleOf\":3},\"then\":{\"minimum\":1}}", LARDER_UNSUPPORTED, "#/if"},
        {"{\"contains\":{\"const\":1}}", LARDER_UNSUPPORTED, "#/contains"},
        {"{\"oneOf\":[{\"multipleOf\":2},{\"multipleOf\":3}]}", LARDER_UNSUPPORTED, "#/oneOf"},
        {"{\"$ref\":\"other.json\"}", LARDER_UNSUPPORTED, "$ref"},
        {"{\"$ref\":\"#/$defs/none\"}", LARDER_FORMAT, "$ref"},
        {"{\"$ref\":\"#\"}", LARDER_UNSUPPORTED, "refers to itself"},
        {"{\"$defs\":{\"a\":{\"$ref\":\"#/$defs/b\"},\"b\":{\"allOf\":[{\"$ref\":\"#/$defs/a\"}]}},\"$ref\":\"#/"
         "$defs/a\"}",
         LARDER_UNSUPPORTED, "refers to itself"},
        {"{\"type\":\"string\",\"format\":\"idn-email\"}", LARDER_UNSUPPORTED, "#/format"},
        {"{\"type\":\"string\",\"pattern\":\"(?=a)\"}", LARDER_UNSUPPORTED, "#/pattern"},
        {"{\"type\":\"string\",\"pattern\":\"(a\"}", LARDER_FORMAT, "#/pattern"},
        {"{\"minLength\":-1}", LARDER_FORMAT, "#/minLength"},
        {"{\"minLength\":1.5}", LARDER_FORMAT, "#/minLength"},
        {"{\"required\":[1]}", LARDER_FORMAT, "#/required"},
        {"{\"properties\":[]}", LARDER_FORMAT, "#/properties"},
        {"{\"items\":[{}]}", LARDER_FORMAT, "#/items"},
        {"{\"type\":\"number\",\"multipleOf\":0}", LARDER_FORMAT, "#/multipleOf"},
        {"{\"type\":\"number\",\"multipleOf\":0.123456789012}", LARDER_UNSUPPORTED, "#/multipleOf"},
        {"{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}", LARDER_UNSUPPORTED, "contradict"},
        {"false", LARDER_UNSUPPORTED, "contradict"},
        {"{\"$schema\":\"http://json-schema.org/draft-04/schema#\"}", LARDER_UNSUPPORTED, "#/$schema"},
        {"{\"type\":\"object\",\"minProperties\":3}", LARDER_UNSUPPORTED, "#/minProperties"},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"$id\":\"x\",\"$anchor\":\"m\"},\"b\":{\"$ref\":\"#m\"}}}",
         LARDER_FORMAT, "#/properties/b/$ref"},
    };
    for (size_t i = 0; i < LR_LEN(rows); i++)
        check_refused(LARDER_GRAMMAR_JSON_SCHEMA, rows[i].text, rows[i].st, rows[i].says);
}

/* ---------------------------------------------------------------- the others */
TEST(gbnf)
{
    static const struct row rows[] = {
        {"root ::= \"yes\" | \"no\"", {"yes", "no"}, {"y", "yesno", ""}},
        {"# a comment\nroot ::= item{2,3} [x-z]+ # more\nitem ::= \"a\" |\n  \"\\x62\\n\"\n",
         {"aax", "ab\nazz"},
         {"ax", "aaaax", "aa"}},
        {"root ::= (\n \"(\" root \")\"\n)?", {"", "()", "((()))"}, {"(", "())"}},
        {"root ::= [^a-c\\]]", {"d", "\xc3\xa9"}, {"a", "]", "\xc3", "dd"}},
        {"root ::= a b? c* \na ::= \"a\"\nb ::= \"b\"\nc ::= \"c\"", {"a", "ab", "accc", "abcc"}, {"b", "aab"}},
        {"root ::= \"x\"{,2} \"y\"{1,} .", {"y!", "xxyyy\xe2\x82\xac"}, {"xxxy.", "xx."}},
        {"root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"\"", {"", "ab", "aacb", "aaaabcbc"}, {"a", "abb"}},
        {"root ::= x | x \"!\"\nx ::= (\"a\"?)*", {"", "aa", "!", "a!"}, {"b"}},
    };
    check_rows(LARDER_GRAMMAR_GBNF, rows, LR_LEN(rows));
    check_refused(LARDER_GRAMMAR_GBNF, "root ::= root \"a\" | \"b\"", LARDER_UNSUPPORTED, "left recursion");
    check_refused(LARDER_GRAMMAR_GBNF, "root ::= a? b\na ::= \"x\"\nb ::= a? root", LARDER_UNSUPPORTED, "contradict");
    check_refused(LARDER_GRAMMAR_GBNF, "root ::= a? b | \"q\"\na ::= \"x\"\nb ::= a? root", LARDER_UNSUPPORTED,
                  "left recursion");
    check_refused(LARDER_GRAMMAR_GBNF, "root ::= nothing", LARDER_FORMAT, "nothing");
    check_refused(LARDER_GRAMMAR_GBNF, "a ::= \"x\"", LARDER_FORMAT, "root");
    check_refused(LARDER_GRAMMAR_GBNF, "root ::= \"x", LARDER_FORMAT, "line 1");
    check_refused(LARDER_GRAMMAR_GBNF, "root ::= \"x\"\nroot ::= \"y\"", LARDER_FORMAT, "twice");
    check_refused(LARDER_GRAMMAR_GBNF, "root ::= <think>", LARDER_UNSUPPORTED, "tokens");
    check_refused(LARDER_GRAMMAR_GBNF, "root ::= \"x\"{3,2}", LARDER_FORMAT, "upside down");
}

TEST(regex)
{
    static const struct row rows[] = {
        {"(cat|dog)s?", {"cat", "dogs"}, {"ca", "catsx", "xcat"}},
        {"^\\d{3}-[a-f]+$", {"123-abc"}, {"12-a", "123-"}},
        {"a.c",
         {"abc", "a\xe2\x82\xac"
                 "c"},
         {"a\nc", "ac",
          "a\xe2"
          "c"}},
        {"[^\\d\\s]{2,}", {"ab"}, {"a1", "a", "a b"}},
        {"(?:a|(?<n>b))*?c", {"c", "abbac"}, {"", "ab"}},
        {"\\u{1F600}\\x41\\.",
         {"\xf0\x9f\x98\x80"
          "A."},
         {"A."}},
        {"a{0}b", {"b"}, {"ab"}},
        {"(a*)*b", {"b", "aab"}, {"a"}},
        {"$^", {""}, {"a"}},
        {"|x", {"", "x"}, {"xx"}},
        {"[]a]", {NULL}, {"]", "a"}},
    };
    check_rows(LARDER_GRAMMAR_REGEX, rows, LR_LEN(rows) - 1);
    check_refused(LARDER_GRAMMAR_REGEX, "a$b", LARDER_UNSUPPORTED, "contradict");
    check_refused(LARDER_GRAMMAR_REGEX, "(a)\\1", LARDER_UNSUPPORTED, "back references");
    check_refused(LARDER_GRAMMAR_REGEX, "a(?!b)", LARDER_UNSUPPORTED, "looking ahead");
    check_refused(LARDER_GRAMMAR_REGEX, "\\bx", LARDER_UNSUPPORTED, "word boundaries");
    check_refused(LARDER_GRAMMAR_REGEX, "a)", LARDER_FORMAT, "closed");
    check_refused(LARDER_GRAMMAR_REGEX, "[b-a]", LARDER_FORMAT, "upside down");
    check_refused(LARDER_GRAMMAR_REGEX, "*", LARDER_FORMAT, "nothing to repeat");
    check_refused(LARDER_GRAMMAR_REGEX, "x{100001}", LARDER_LIMIT, "100000");
    check_refused(LARDER_GRAMMAR_REGEX, "\\", LARDER_FORMAT, "backslash");
    check_refused(LARDER_GRAMMAR_REGEX, "\xff", LARDER_FORMAT, "UTF-8");
}

TEST(choice_and_object)
{
    static const struct row choices[] = {
        {"[\"red\",\"re\",\"caf\xc3\xa9\"]", {"red", "re", "caf\xc3\xa9"}, {"r", "redd", ""}}};
    static const struct row objects[] = {{"", {"{}", "{\"a\":[1,{\"b\":\"c\"}]}"}, {"[]", "1", "{", ""}}};
    check_rows(LARDER_GRAMMAR_CHOICE, choices, 1);
    check_rows(LARDER_GRAMMAR_JSON_OBJECT, objects, 1);
    check_refused(LARDER_GRAMMAR_CHOICE, "[]", LARDER_FORMAT, "list of strings");
    check_refused(LARDER_GRAMMAR_CHOICE, "[1]", LARDER_FORMAT, "not a string");
    check_refused(LARDER_GRAMMAR_CHOICE, "{}", LARDER_FORMAT, "list of strings");
}

/* ---------------------------------------------------------------- hostile ones */
static char *repeat(const char *a, const char *middle, const char *b, size_t n)
{
    size_t la = strlen(a), lb = strlen(b), lm = strlen(middle);
    char *p = malloc((la + lb) * n + lm + 1), *at = p;
    CHECK(p);
    for (size_t i = 0; i < n; i++) memcpy(at, a, la), at += la;
    memcpy(at, middle, lm), at += lm;
    for (size_t i = 0; i < n; i++) memcpy(at, b, lb), at += lb;
    *at = 0;
    return p;
}

static void must_end(larder_grammar_kind kind, char *text)
{
    larder_error err = {0};
    lr_grammar *g = NULL;
    uint64_t begin = lr_now_ns();
    larder_status st = lr_grammar_new(kind, lr_str_of(text), NULL, &g, &err);
    double s = (double)(lr_now_ns() - begin) * 1e-9;
    printf("%.40s...: %s, %.2f s: %s\n", text, larder_status_text(st), s, err.message);
    if (g) printf("  %.1f MiB\n", (double)lr_grammar_bytes(g) / 1048576);
    CHECK(st == LARDER_OK || st == LARDER_LIMIT || st == LARDER_FORMAT || st == LARDER_UNSUPPORTED);
    lr_grammar_free(g);
    free(text);
}

TEST_TIME(depth, 120)
{
    must_end(LARDER_GRAMMAR_JSON_SCHEMA, repeat("{\"items\":", "{}", "}", 100000));
    must_end(LARDER_GRAMMAR_JSON_SCHEMA, repeat("{\"items\":", "{}", "}", 1900));
    must_end(LARDER_GRAMMAR_JSON_SCHEMA, repeat("{\"allOf\":[", "{}", "]}", 900));
    must_end(LARDER_GRAMMAR_JSON_SCHEMA, repeat("{\"anyOf\":[", "{}", "]}", 900));
    must_end(LARDER_GRAMMAR_JSON_SCHEMA, repeat("{\"not\":", "{}", "}", 1900));
    must_end(LARDER_GRAMMAR_REGEX, repeat("(", "a", ")", 100000));
    must_end(LARDER_GRAMMAR_REGEX, repeat("(", "a", ")*", 190));
    must_end(LARDER_GRAMMAR_GBNF, repeat("root ::= ", "\"a\"", "*", 1));
    char *inner = repeat("(", "\"a\"", ")", 100000), *all = malloc(strlen(inner) + 16);
    strcat(strcpy(all, "root ::= "), inner);
    free(inner);
    must_end(LARDER_GRAMMAR_GBNF, all);
    inner = repeat("", "root ::= \"a\"", "+", 150);
    must_end(LARDER_GRAMMAR_GBNF, inner);
}

TEST_TIME(growth, 120)
{
    static const char *const regexes[] = {"((a{0,1000}){0,1000}){0,1000}",
                                          "(a|b)*a(a|b){40}",
                                          "(.*a){30}",
                                          "(x{0,1000}){0,1000}",
                                          "(((((a?){100}){100}){100}){100}){100}",
                                          "(){100000}(){100000}",
                                          "((){100000}){100000}",
                                          ".*.*.*.*.*.*.*.*a.{0,300}b"};
    static const char *const gbnfs[] = {
        "root ::= ((\"a\"{0,1000}){0,1000}){0,1000}", "root ::= (((\"a\"?){100}){100}){100}",
        "root ::= x x\nx ::= y{1000}\ny ::= z{1000}\nz ::= [a-z]{0,1000}",
        "root ::= ((((\"\"){100000}){100000}){100000}){100000}",
        "root ::= (x | y)* \nx ::= \"a\" x \"b\" | \"a\"\ny ::= \"a\" y \"c\" | \"a\" x"};
    static const char *const schemas[] = {
        "{\"type\":\"array\",\"maxItems\":1000,\"items\":{\"type\":\"array\",\"maxItems\":1000,\"items\":{\"type\":"
        "\"array\",\"minItems\":1000,\"maxItems\":1000}}}",
        "{\"type\":\"string\",\"maxLength\":4000000000}",
        "{\"type\":\"array\",\"minItems\":4000000000}",
        "{\"type\":\"array\",\"maxItems\":99999999999999999999}",
        "{\"type\":\"string\",\"pattern\":\"^(a|b)*a(a|b){14}$\",\"minLength\":1000,\"maxLength\":20000}",
        "{\"type\":\"integer\",\"multipleOf\":8999,\"allOf\":[{\"multipleOf\":8971},{\"multipleOf\":8969}]}",
        "{\"type\":\"number\",\"minimum\":1e308}",
        "{\"type\":\"number\",\"minimum\":1e-300,\"maximum\":5e-324}",
        "{\"type\":\"object\",\"propertyNames\":{\"maxLength\":100000},\"patternProperties\":{\"a{1000}\":{},\"b{"
        "1000}\":{}}}"};
    for (size_t i = 0; i < LR_LEN(regexes); i++) must_end(LARDER_GRAMMAR_REGEX, strdup(regexes[i]));
    for (size_t i = 0; i < LR_LEN(gbnfs); i++) must_end(LARDER_GRAMMAR_GBNF, strdup(gbnfs[i]));
    for (size_t i = 0; i < LR_LEN(schemas); i++) must_end(LARDER_GRAMMAR_JSON_SCHEMA, strdup(schemas[i]));
    lr_buf b = {0}; /* 2^40 combinations of choices */
    lr_buf_puts(&b, "{\"allOf\":[");
    for (int i = 0; i < 40; i++)
        lr_buf_printf(&b, "%s{\"anyOf\":[{\"minLength\":%d},{\"maxLength\":%d}]}", i ? "," : "", i, 100 + i);
    lr_buf_puts(&b, "],\"type\":\"string\"}");
    must_end(LARDER_GRAMMAR_JSON_SCHEMA, lr_buf_steal(&b));
    lr_buf_puts(&b, "{\"$ref\":\"#/$defs/d0\",\"$defs\":{"); /* a chain of 10^5 references */
    for (int i = 0; i < 100000; i++) lr_buf_printf(&b, "\"d%d\":{\"$ref\":\"#/$defs/d%d\"},", i, i + 1);
    lr_buf_puts(&b, "\"d100000\":{}}}");
    must_end(LARDER_GRAMMAR_JSON_SCHEMA, lr_buf_steal(&b));
    lr_buf_puts(&b, "{\"allOf\":["); /* properties of characters, which take long to list */
    for (int i = 0; i < 2000; i++) lr_buf_printf(&b, "%s{\"pattern\":\"\\\\p{L}%d\"}", i ? "," : "", i);
    lr_buf_puts(&b, "]}");
    must_end(LARDER_GRAMMAR_JSON_SCHEMA, lr_buf_steal(&b));
    lr_buf_puts(&b, "{\"prefixItems\":["); /* anchors, which are searched for */
    for (int i = 0; i < 20000; i++) lr_buf_printf(&b, "%s{\"$ref\":\"#a%d\"}", i ? "," : "", i);
    lr_buf_puts(&b, "],\"$defs\":{");
    for (int i = 0; i < 20000; i++) lr_buf_printf(&b, "%s\"d%d\":{\"$anchor\":\"a%d\"}", i ? "," : "", i, i);
    lr_buf_puts(&b, "}}");
    must_end(LARDER_GRAMMAR_JSON_SCHEMA, lr_buf_steal(&b));
    lr_buf_puts(&b, "["); /* a class of many characters, last one first */
    for (int i = 200000; i > 0x20000; i -= 2) lr_buf_printf(&b, "\\u{%x}", i);
    lr_buf_puts(&b, "]+");
    must_end(LARDER_GRAMMAR_REGEX, lr_buf_steal(&b));
    lr_buf_puts(&b, "{\"enum\":[");
    for (int i = 0; i < 20000; i++) lr_buf_printf(&b, "%s\"value %d\"", i ? "," : "", i);
    lr_buf_puts(&b, "]}");
    must_end(LARDER_GRAMMAR_JSON_SCHEMA, lr_buf_steal(&b));
    lr_buf_puts(&b, "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{");
    for (int i = 0; i < 5000; i++) lr_buf_printf(&b, "%s\"member%d\":{\"type\":\"string\"}", i ? "," : "", i);
    lr_buf_puts(&b, "}}");
    must_end(LARDER_GRAMMAR_JSON_SCHEMA, lr_buf_steal(&b));
}

/* A text that makes ever more states within a small memory: it is emptied, and the answers stay the same. */
TEST(memory_is_bounded)
{
    larder_error err = {0};
    lr_grammar *g = compile(LARDER_GRAMMAR_GBNF, "root ::= \"(\" root \")\" | \"[\" root \"]\" | \"x\"");
    lr_grammar_set_memory(g, 20000, 0);
    lr_matcher m, other;
    CHECK_OK(lr_matcher_init(&m, g, &err));
    CHECK_OK(lr_matcher_init(&other, g, &err));
    bool ok;
    char open[2001] = {0};
    for (int i = 0; i < 2000; i++) open[i] = test_random() & 1 ? '(' : '[';
    uint64_t most = 0;
    larder_status st = LARDER_OK;
    int depth = 0;
    for (; depth < 2000 && !st; depth++) {
        st = lr_matcher_take(&m, open + depth, 1, &ok, &err);
        CHECK(st || ok);
        if (depth == 0) CHECK_OK(lr_matcher_take(&other, "([(", 3, &ok, &err));
        most = LR_MAX(most, lr_grammar_bytes(g));
    }
    CHECK(depth > 20);              /* it holds some, */
    CHECK_EQ_INT(st, LARDER_LIMIT); /* but a stack that no longer fits is an error, */
    CHECK(most < 200000);
    CHECK_OK(lr_matcher_take(&other, "x)])", 4, &ok, &err)); /* and the others go on */
    CHECK(ok && lr_matcher_over(&other));
    lr_matcher_close(&m);
    lr_matcher_close(&other);
    lr_grammar_free(g);
}

TEST(right_recursion_does_not_grow)
{
    larder_error err = {0};
    lr_grammar *g = compile(LARDER_GRAMMAR_GBNF, "root ::= \"a\" root | \"b\"");
    lr_grammar_set_memory(g, 50000, 0);
    lr_matcher m;
    bool ok;
    CHECK_OK(lr_matcher_init(&m, g, &err));
    for (int i = 0; i < 100000; i++) {
        CHECK_OK(lr_matcher_take(&m, "a", 1, &ok, &err));
        CHECK(ok);
    }
    CHECK_EQ_INT(m.generation, 1);
    CHECK_OK(lr_matcher_take(&m, "b", 1, &ok, &err));
    CHECK(ok && lr_matcher_complete(&m) && lr_matcher_over(&m));
    lr_matcher_close(&m);
    lr_grammar_free(g);
}

TEST(allocations_fail)
{
    static const struct {
        larder_grammar_kind kind;
        const char *text;
    } all[] = {{LARDER_GRAMMAR_GBNF, "root ::= (a \"x\"){2,} | [^q]\na ::= \"\\n\" a?"},
               {LARDER_GRAMMAR_REGEX, "^(a|[b-d\\p{L}]{2,3})+$"},
               {LARDER_GRAMMAR_JSON_SCHEMA, "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\","
                                            "\"minimum\":-3},\"b\":{\"anyOf\":[{\"pattern\":\"^x\"},"
                                            "{\"enum\":[1,\"z\"]}]}},\"required\":[\"c\"],\"patternProperties\":{"
                                            "\"q\":{\"format\":\"date\"}},\"propertyNames\":{\"maxLength\":9}}"}};
    for (size_t k = 0; k < LR_LEN(all); k++) {
        larder_error err = {0};
        lr_grammar *g = NULL;
        larder_status st = LARDER_NOMEM;
        long n = 0;
        for (; st; n++) {
            lr_alloc_fail_at(n);
            st = lr_grammar_new(all[k].kind, lr_str_of(all[k].text), NULL, &g, &err);
            lr_alloc_fail_at(-1);
            if (st && st != LARDER_NOMEM) TEST_FAIL("allocation %ld: %s", n, err.message);
        }
        printf("%ld allocations\n", n);
        CHECK(takes(g, "", 0) || true);
        lr_grammar_free(g);
    }
}
