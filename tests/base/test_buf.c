/* Growing buffers, and the text of errors. */
#include "base.h"
#include "test.h"

#include <errno.h>

TEST(grows_and_is_stolen)
{
    lr_buf b = {0};
    for (int i = 0; i < 1000; i++) lr_buf_printf(&b, "%d,", i);
    lr_buf_puts(&b, "end");
    lr_buf_putc(&b, '.');
    CHECK_EQ_INT(b.n, 10 * 2 + 90 * 3 + 900 * 4 + 4);
    char *s = lr_buf_steal(&b);
    CHECK(s && !strncmp(s, "0,1,2,", 6) && !strcmp(s + strlen(s) - 8, "999,end."));
    CHECK(!b.p && !b.n && !b.cap);
    lr_free(s);
}

TEST(an_empty_one_is_an_empty_string)
{
    lr_buf b = {0};
    char *s = lr_buf_steal(&b);
    CHECK_EQ_STR(s, "");
    lr_free(s);
    lr_buf_free(&b);
}

TEST(failure_sticks_and_keeps_the_contents)
{
    lr_buf b = {0};
    lr_buf_puts(&b, "kept");
    lr_alloc_fail_at(0);
    for (int i = 0; i < 100; i++) lr_buf_puts(&b, "more than fits");
    lr_alloc_fail_at(-1);
    CHECK(b.failed && b.n >= 4 && !memcmp(b.p, "kept", 4));
    size_t n = b.n;
    lr_buf_putc(&b, 'x');
    CHECK_EQ_INT(b.n, n);
    CHECK(!lr_buf_steal(&b));
    CHECK(!b.failed);
    CHECK(!lr_buf_reserve(&b, SIZE_MAX));
    lr_buf_free(&b);
}

TEST(a_message_is_one_clean_line)
{
    larder_error err;
    CHECK_STATUS(lr_fail(&err, LARDER_FORMAT, "key '%s'", "a\nb\033[31m"), LARDER_FORMAT);
    CHECK_EQ_STR(err.message, "key 'a?b?[31m'");
    lr_fail(&err, LARDER_FORMAT, "key '%s'",
            "\xc2\x9b"
            "31m \xc2\xa0 \xc3\x9b"); /* U+009B is ESC [ to a terminal */
    CHECK_EQ_STR(err.message, "key '??31m \xc2\xa0 \xc3\x9b'");
    char longer[2000];
    for (size_t i = 0; i + 2 < sizeof longer; i += 2) memcpy(longer + i, "\xc3\xa9", 3);
    lr_fail(&err, LARDER_FORMAT, "x%s", longer);
    size_t n = strlen(err.message);
    CHECK(n < sizeof err.message && n % 2 == 1); /* no half character at the cut */
    CHECK_STATUS(lr_fail(NULL, LARDER_IO, "unseen"), LARDER_IO);
}

TEST(messages_are_wrapped)
{
    larder_error err;
    CHECK_STATUS(lr_fail_errno(&err, ENOENT, "cannot open %s", "f"), LARDER_NOT_FOUND);
    CHECK(!strncmp(err.message, "cannot open f: ", 15));
    CHECK_STATUS(lr_wrap(&err, LARDER_NOT_FOUND, "model %d", 7), LARDER_NOT_FOUND);
    CHECK(!strncmp(err.message, "model 7: cannot open f: ", 24));
}

TEST(statuses_have_words)
{
    for (int i = 0; i <= LARDER_INTERNAL; i++) CHECK(*larder_status_text((larder_status)i));
    CHECK_EQ_STR(larder_status_text((larder_status)99), "unknown status");
    CHECK_EQ_STR(larder_version(), LARDER_VERSION);
}

static void keep_line(void *user, larder_log_level level, const char *line)
{
    snprintf(user, 64, "%d %s", (int)level, line);
}

TEST(notes_reach_the_callback)
{
    char got[64] = "";
    lr_log(LARDER_LOG_INFO, "dropped");
    larder_set_log(keep_line, got);
    lr_log(LARDER_LOG_WARN, "n = %d", 3);
    larder_set_log(NULL, NULL);
    lr_log(LARDER_LOG_WARN, "dropped");
    CHECK_EQ_STR(got, "1 n = 3");
}

/* RFC 4648, section 10 */
TEST(base64)
{
    static const char *const want[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
    for (size_t n = 0; n < LR_LEN(want); n++) {
        lr_buf b = {0};
        lr_buf_base64(&b, "foobar", n);
        lr_buf_putc(&b, 0);
        CHECK_EQ_STR(b.p, want[n]);
        lr_buf_free(&b);
    }
    lr_buf all = {0};
    lr_buf_base64(&all, "\xff\xfe\xfb\0", 4);
    CHECK(all.n == 8 && !memcmp(all.p, "//77AA==", 8));
    lr_buf_free(&all);
}
