/* test_stream.c - text is given in whole characters, never with a stop string, and all of it in the end. */
#include "stream.h"
#include "test.h"

/* Feeds `text` in pieces of `step` bytes; what was given is appended to out. Returns whether a stop was met. */
static bool feed(lr_stream *s, const char *text, size_t step, lr_buf *out)
{
    const char *given;
    size_t n, len = strlen(text);
    for (size_t at = 0; at < len; at += step) {
        lr_stream_begin(s);
        lr_buf_add(&s->held, text + at, LR_MIN(step, len - at));
        bool stop = lr_stream_take(s, false, &given, &n);
        lr_buf_add(out, given, n);
        if (stop) return true;
    }
    lr_stream_begin(s);
    lr_stream_take(s, true, &given, &n);
    lr_buf_add(out, given, n);
    return false;
}

static void check_feed(const char *const *stop, uint32_t n_stop, const char *text, const char *want, bool want_stop)
{
    for (size_t step = 1; step <= strlen(text); step++) {
        lr_stream s;
        lr_buf out = {0};
        CHECK_EQ_INT(lr_stream_init(&s, stop, n_stop, NULL), LARDER_OK);
        CHECK_EQ_INT(feed(&s, text, step, &out), want_stop);
        lr_buf_putc(&out, 0);
        CHECK_EQ_STR(out.p, want);
        lr_buf_free(&out);
        lr_stream_close(&s);
    }
}

TEST(plain_text_comes_through)
{
    check_feed(NULL, 0, "Hello, w\xc3\xb6rld \xf0\x9f\xa5\x90!", "Hello, w\xc3\xb6rld \xf0\x9f\xa5\x90!", false);
}

TEST(stops_are_cut_out_wherever_the_pieces_fall)
{
    const char *stops[] = {"\n\n", "END"};
    check_feed(stops, 2, "one\ntwo\n\nthree", "one\ntwo", true);
    check_feed(stops, 2, "EN or E or END here", "EN or E or ", true);
    check_feed(stops, 2, "ends with EN", "ends with EN", false);
}

TEST(the_stop_that_is_complete_first_wins)
{
    const char *stops[] = {"later", "te"};
    check_feed(stops, 2, "now or later", "now or la", true);
}

TEST(bytes_that_are_no_characters_become_replacement_characters)
{
    check_feed(NULL, 0,
               "a\xff"
               "b\xc3",
               "a\xef\xbf\xbd"
               "b\xef\xbf\xbd",
               false);
    /* a character that breaks off is one, not one a byte; and as many wherever the pieces fall */
    check_feed(NULL, 0, "\xe2\x82.\xf0\x9f\x98|\xf4\x90\xff",
               "\xef\xbf\xbd.\xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", false);
    check_feed(NULL, 0, "\xed\xa0\x80.", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd.", false); /* a surrogate */
}

TEST(half_a_character_waits)
{
    lr_stream s;
    const char *p;
    size_t n;
    CHECK_EQ_INT(lr_stream_init(&s, NULL, 0, NULL), LARDER_OK);
    lr_stream_begin(&s);
    lr_buf_add(&s.held, "a\xe2\x82", 3);
    lr_stream_take(&s, false, &p, &n);
    CHECK_EQ_INT(n, 1);
    lr_stream_begin(&s);
    lr_buf_add(&s.held, "\xac", 1);
    lr_stream_take(&s, false, &p, &n);
    CHECK_EQ_INT(n, 3);
    lr_stream_close(&s);
}

TEST(an_empty_stop_is_refused)
{
    const char *stops[] = {""};
    lr_stream s;
    CHECK_EQ_INT(lr_stream_init(&s, stops, 1, NULL), LARDER_USAGE);
}
