/* data.h - the repository's tables, for tests: the runner starts them in its root. */
#ifndef LR_TEST_DATA_H
#define LR_TEST_DATA_H

#include "base.h"
#include "test.h"

__attribute__((unused)) static char *table(const char *path, size_t *n)
{
    larder_error err = {0};
    char *text;
    if (!lr_is_file(path)) SKIP("%s is not there (start tests in the repository's root)", path);
    CHECK_OK(lr_read_file(path, 1u << 26, &text, n, &err));
    return text;
}

#endif
