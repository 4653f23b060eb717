/* The template interpreter: Jinja's own results for a table of snippets, where every output byte came from, budgets,
 * hostile source, and failing allocations. */
#include "template.h"
#include "test.h"

enum { NOW = 1795178096 }; /* 2026-11-20 12:34:56 UTC */

typedef struct made {
    larder_status st;
    larder_error err;
    lr_rendered r;
} made;

static made render_with(const char *source, json_t *vars, json_t *trusted, const lr_template_budget *budget)
{
    made m = {0};
    lr_template *t = NULL;
    m.st = lr_template_new(lr_str_of(source), &t, &m.err);
    if (!m.st) m.st = lr_template_render(t, vars, trusted, NOW, budget, &m.r, &m.err);
    lr_template_free(t);
    return m;
}

/* `data`: JSON of the variables */
static made render(const char *source, const char *data)
{
    json_t *vars = json_loads(data, 0, NULL), *trusted = json_pack("{s:s}", "bos_token", "<s>");
    made m = render_with(source, vars, trusted, NULL);
    json_decref(vars);
    json_decref(trusted);
    return m;
}

static void check_text(const char *source, const char *data, const char *want)
{
    made m = render(source, data);
    if (m.st) TEST_FAIL("%s: %s", source, m.err.message);
    CHECK_EQ_STR(m.r.text, want);
    lr_rendered_free(&m.r);
}

static void check_status(const char *source, larder_status want)
{
    made m = render(source, "{\"s\": \"hello\"}");
    if (m.st != want)
        TEST_FAIL("%.80s: %s, not %s (%s)", source, larder_status_text(m.st), larder_status_text(want),
                  m.err.message);
    lr_rendered_free(&m.r);
}

TEST_TIME(as_jinja, 120)
{
    json_t *all = json_load_file("tests/text/data/template_cases.json", 0, NULL), *one;
    CHECK(all);
    size_t i;
    json_array_foreach(json_object_get(all, "cases"), i, one)
    {
        const char *source = json_string_value(json_array_get(one, 0)),
                   *want = json_string_value(json_array_get(one, 1));
        made m = render_with(source, json_object_get(all, "vars"), json_object_get(all, "trusted"), NULL);
        if (want && m.st) TEST_FAIL("%s\n  %s", source, m.err.message);
        if (want && strcmp(m.r.text, want) != 0)
            TEST_FAIL("%s gives\n  \"%s\", not\n  \"%s\"", source, m.r.text, want);
        if (!want && !m.st) TEST_FAIL("%s should fail, not give \"%s\"", source, m.r.text);
        lr_rendered_free(&m.r);
    }
    CHECK(i > 100);
    json_decref(all);
}

/* ---------------------------------------------------------------- origin */
/* The trusted bytes of the output as they are, the others as dots; must be `want`. */
static void check_origin(const char *source, const char *data, const char *want)
{
    made m = render(source, data);
    if (m.st) TEST_FAIL("%s: %s", source, m.err.message);
    size_t at = 0;
    for (size_t i = 0; i < m.r.n_runs; i++) {
        CHECK(m.r.runs[i].n > 0 && m.r.runs[i].n <= m.r.n - at);
        CHECK(i == 0 || m.r.runs[i].trusted != m.r.runs[i - 1].trusted);
        if (!m.r.runs[i].trusted) memset(m.r.text + at, '.', m.r.runs[i].n);
        at += m.r.runs[i].n;
    }
    CHECK_EQ_U64(at, m.r.n);
    if (strcmp(m.r.text, want) != 0) TEST_FAIL("%s: origin \"%s\", not \"%s\"", source, m.r.text, want);
    lr_rendered_free(&m.r);
}

TEST(origin_by_byte)
{
    const char *d = "{\"x\": \"<|im_end|>\", \"n\": 7, \"o\": {\"k\": \"v\"}, \"l\": [\"a\", \"b\"]}";
    check_origin("<a>{{ x }}<b>", d, "<a>..........<b>");
    check_origin("{{ bos_token }}{{ '<|' ~ x ~ '|>' }}", d, "<s><|..........|>");
    check_origin("{{ ('A' + x + 'B')[::-1] }}", d, "B..........A");
    check_origin("{{ ('  A' + x + 'B  ').strip().lower() }}", d, "a..........b");
    check_origin("{{ 'a-b'.replace('-', x) }}|{{ x.replace('|', 'T') }}", d, "a..........b|.T......T.");
    check_origin("{{ l|join('<sep>') }}{{ '+'.join(l) }}", d, ".<sep>..+.");
    check_origin("{{ o|tojson }}{{ 'lit'|tojson }}{{ n }}{{ n + 1 }}{{ true }}", d, ".....................");
    check_origin("{{ o }}{{ ['lit'] }}", d, "............lit..");
    check_origin("{% set y %}<{{ x }}>{% endset %}{{ y }}{{ y|upper }}", d, "<..........><..........>");
    check_origin("{% macro m(a) %}[{{ a }}]{% endmacro %}{{ m(x) }}{{ m('t') }}", d, "[..........][t]");
    check_origin("{{ '%s=%s' % ('k', n) }}{{ '<{}>'.format(x) }}", d, "k=.<..........>");
    check_origin("{{ x.split('|')|join('|') }}{{ (x ~ 'T|U').split('|')[2:]|join('') }}", d, ".|......|..TU");
    check_origin("{% for c in 'a' ~ n %}{{ c }}{% endfor %}{{ x|e }}{{ x|indent(2, true) }}", d,
                 "a.............................");
    check_origin("{{ missing|default('d') }}{{ missing|default(x) }}", d, "d..........");
    check_origin("{% filter upper %}a{{ x }}{% endfilter %}", d, "A..........");
    check_origin("{{ range(2)|join }}{{ strftime_now('%Y') }}{{ strftime_now('a%db') }}", d, "......a..b");
}

TEST(data_cannot_replace_the_trusted)
{
    check_origin("{{ bos_token }}", "{\"bos_token\": \"evil\"}", "<s>");
    check_text("{{ range(2)|list }}", "{\"range\": 5, \"raise_exception\": 1}", "[0, 1]");
}

TEST(data_keys_keep_their_order)
{
    check_text("{% for k in o %}{{ k }}{% endfor %}{{ o|tojson }}",
               "{\"o\": {\"z\": 1, \"a\": 2, \"m\": 3, \"b\": 4}}", "zamb{\"z\": 1, \"a\": 2, \"m\": 3, \"b\": 4}");
}

/* ---------------------------------------------------------------- budgets, hostile source */
TEST(budgets_stop_everything)
{
    check_status("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", LARDER_LIMIT);
    check_status("{{ range(10**9) }}", LARDER_LIMIT);
    check_status(
        "{% set n = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(90) %}{% set n.x = n.x + n.x %}{% endfor %}",
        LARDER_LIMIT);
    check_status("{% set n = namespace(x=[1]) %}{% for i in range(90) %}{% set n.x = n.x + n.x %}{% endfor %}",
                 LARDER_LIMIT);
    check_status(
        "{% set n = namespace(x=[1]) %}{% for i in range(90) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
        LARDER_LIMIT);
    check_status("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", LARDER_LIMIT);
    check_status("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", LARDER_LIMIT);
    check_status("{{ 'a' * 10**12 }}", LARDER_LIMIT);
    check_status("{{ [0] * 10**12 }}", LARDER_LIMIT);
    check_status("{{ '%999999999d' % 1 }}", LARDER_LIMIT);
    check_status("{{ 'a'.center(10**12) }}", LARDER_LIMIT);
    check_status("{% set l = [] %}{% set _ = l.append(l) %}{{ l }}", LARDER_LIMIT);
    check_status("{% set l = [] %}{% set _ = l.append(l) %}{{ l|tojson }}", LARDER_LIMIT);
    check_status("{{ 'x'|indent(10**12) }}", LARDER_LIMIT);
    check_status("{{ 9223372036854775807 + 1 }}", LARDER_FORMAT);
    check_status("{{ 2 ** 64 }}", LARDER_FORMAT);
    check_status("{{ (-9223372036854775807 - 1) // -1 }}", LARDER_FORMAT);
    check_status("{{ -(-9223372036854775807 - 1) }}", LARDER_FORMAT);
    check_status("{{ (-9223372036854775807 - 1)|abs }}", LARDER_FORMAT);
}

/* What jansson builds for from_json is paid for before it is built. */
TEST(a_tree_of_json_is_in_the_budget)
{
    lr_template_budget b = lr_template_budget_default();
    b.n_memory = 4 * LR_MIB;
    static const char *const sources[] = {
        "{% set x = ('[' ~ '[],' * 50000 ~ '1]')|from_json %}",
        "{% set x = ('[' ~ '{},' * 20000 ~ '1]')|from_json %}",
        "{% set x = ('[' ~ '\"\",' * 50000 ~ '1]')|from_json %}",
    };
    for (size_t i = 0; i < LR_LEN(sources); i++) {
        made m = render_with(sources[i], NULL, NULL, &b);
        CHECK_EQ_INT(m.st, LARDER_LIMIT);
        m = render_with(sources[i], NULL, NULL, NULL);
        CHECK_EQ_INT(m.st, LARDER_OK);
        lr_rendered_free(&m.r);
    }
    /* lent for as long as it takes, not for ever; and quotes in a text open nothing */
    check_text("{% for i in range(200) %}{% set x = ('[' ~ '[],' * 20000 ~ '1]')|from_json %}{% endfor %}ok", "{}",
               "ok");
    check_text("{{ '[\"a\\\\\\\"[{\", 1]'|from_json|length }}", "{}", "2");
}

static uint64_t ms_since(uint64_t start) { return (lr_now_ns() - start) / 1000000; }

/* 19,000 names, said or looked for again and again: by a search through all of them this takes minutes. */
TEST_TIME(many_names_are_found_at_once, 100)
{
    lr_buf b = {0};
    for (int i = 0; i < 19000; i++) lr_buf_printf(&b, "{{n%d}}", i);
    for (int i = 0; i < 80000; i++) lr_buf_puts(&b, "{{zz}}");
    lr_buf_puts(&b, "{% macro m() %}{{ kwargs|length }}{% endmacro %}"
                    "{% for i in range(99999) %}{% for j in [1] %}{% endfor %}{% set x = m() %}{% endfor %}ok");
    char *source = lr_buf_steal(&b);
    uint64_t start = lr_now_ns();
    check_text(source, "{}", "ok");
    CHECK(ms_since(start) < 5000);
    lr_free(source);
    for (int i = 0; i < 20001; i++) lr_buf_printf(&b, "{{n%d}}", i);
    source = lr_buf_steal(&b);
    check_status(source, LARDER_LIMIT);
    lr_free(source);
}

/* Every byte looks like the beginning of a match: few steps by the bytes passed over, days by the clock. */
TEST_TIME(near_misses_are_work, 40)
{
    check_status("{% set s = 'a' * 4000000 %}{% for i in range(99999) %}{{ 'ab' in s }}{% endfor %}", LARDER_LIMIT);
    check_status("{% set s = 'a' * 4000000 %}{{ s.rfind('a' * 2000000 ~ 'b') }}", LARDER_LIMIT);
    check_status("{% set s = 'a' * 4000000 %}{{ s.find('a' * 2000000 ~ 'b') }}", LARDER_LIMIT);
    check_status("{% set s = 'a' * 20000000 %}{% for i in range(99999) %}{{ 'b'.strip(s) }}{% endfor %}",
                 LARDER_LIMIT);
    check_status("{% set s = 'a' * 30000000 %}{% set d = {s: 1} %}{% set t = s ~ '' %}{% for i in range(99999) %}"
                 "{{ d[t] }}{{ s.removeprefix(t) }}{% endfor %}",
                 LARDER_LIMIT);
    check_text(
        "{{ 'abab'.rfind('ab') }} {{ 'abab'.rfind('') }} {{ 'abab'.rfind('b', 0, 3) }} {{ 'ab'.rfind('abc') }}", "{}",
        "2 4 1 -1");
}

/* An expression of `open` n times, `middle`, `close` n times: too deep, never a crash. */
static void check_deep(const char *open, size_t times, const char *middle, const char *close)
{
    lr_buf b = {0};
    lr_buf_puts(&b, "{{ ");
    for (size_t i = 0; i < times; i++) lr_buf_puts(&b, open);
    lr_buf_puts(&b, middle);
    for (size_t i = 0; i < times; i++) lr_buf_puts(&b, close);
    lr_buf_puts(&b, " }}");
    char *source = lr_buf_steal(&b);
    CHECK(source);
    made m = render(source, "{}");
    CHECK(m.st == LARDER_LIMIT);
    lr_rendered_free(&m.r);
    lr_free(source);
}

TEST(deep_source_is_an_error)
{
    check_deep("(", 100000, "1", ")");
    check_deep("[", 100000, "", "]");
    check_deep("{1:", 100000, "1", "}");
    check_deep("-", 100000, "1", "");
    check_deep("not ", 100000, "1", "");
    check_deep("1 if 1 else ", 50000, "1", "");
    check_deep("1+", 100000, "1", "");
    check_deep("", 100000, "x", ".a");
    check_deep("1 }}{% if 1 %}{{ ", 10000, "1", "");
}

TEST(no_way_out)
{
    check_status("{{ ''.__class__.__mro__ }}", LARDER_FORMAT);
    check_status("{{ s.__init__.__globals__ }}", LARDER_FORMAT);
    check_status("{{ ''['__class__']['__mro__'] }}", LARDER_FORMAT);
    check_status("{{ ('' | attr('__class__')).x }}", LARDER_FORMAT);
    check_status("{{ '{0.__class__}'.format(1) }}", LARDER_UNSUPPORTED);
    check_status("{% include 'a' %}", LARDER_UNSUPPORTED);
    check_status("{% import 'a' as b %}", LARDER_UNSUPPORTED);
    check_status("{% extends 'a' %}", LARDER_UNSUPPORTED);
    check_text("{{ namespace.__init__ is defined }}{{ range.__call__ is defined }}{{ lipsum is defined }}{{ self is "
               "defined }}",
               "{}", "FalseFalseFalseFalse");
}

TEST(errors_name_the_line)
{
    made m = render("a\nb\n{{ raise_exception('not \nso') }}", "{}");
    CHECK_EQ_INT(m.st, LARDER_FORMAT);
    CHECK_EQ_STR(m.err.message, "chat template, line 3: not  so");
    m = render("a\n{% if x %}\n{% endfor %}", "{}");
    CHECK(m.st == LARDER_FORMAT && strstr(m.err.message, "line 3"));
    m = render("{{ missing.x }}", "{}");
    CHECK(m.st == LARDER_FORMAT && strstr(m.err.message, "'missing' is undefined"));
    CHECK_EQ_INT(render("\xff", "{}").st, LARDER_FORMAT);
}

TEST(small_budgets)
{
    const char *source = "{% for i in range(50) %}{{ i }}{{ 'x' * 10 }}{% endfor %}";
    for (uint64_t k = 1; k < 400; k += 7) {
        lr_template_budget b = lr_template_budget_default();
        if (k % 3 == 0) b.steps = k;
        else if (k % 3 == 1) b.n_output = k;
        else b.n_memory = k * 100;
        made m = render_with(source, NULL, NULL, &b);
        CHECK(m.st == LARDER_OK || m.st == LARDER_LIMIT);
        lr_rendered_free(&m.r);
    }
}

TEST(failing_allocations)
{
    const char *source = "{% macro m(a) %}<{{ a|tojson }}>{% endmacro %}{% for i in range(3) %}{{ m({'a': i}) ~ ('x' "
                         "* 9000) }}{% endfor %}"
                         "{{ '[1,2]'|from_json|sum }}";
    for (long n = 0; n < 60; n++) {
        json_t *vars = json_object();
        lr_alloc_fail_at(n);
        made m = render_with(source, vars, NULL, NULL);
        lr_alloc_fail_at(-1);
        CHECK(m.st == LARDER_OK || m.st == LARDER_NOMEM);
        lr_rendered_free(&m.r);
        json_decref(vars);
    }
}
