/* Growing buffers and views of bytes. */
#include "base.h"
#include "test.h"

TEST(grows_and_is_stolen) {
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
