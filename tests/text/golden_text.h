/* golden_text.h - the reference's texts, tokens and rendered templates: one file a tokenizer, or the test is skipped. */
#ifndef LR_TEST_GOLDEN_TEXT_H
#define LR_TEST_GOLDEN_TEXT_H

#include "test.h"

#include <jansson.h>

static json_t *golden(const char *name)
{
    const char *shared = getenv("LARDER_SHARED");
    char path[600];
    if (!shared) SKIP("LARDER_SHARED is not set");
    snprintf(path, sizeof(path), "%s/golden/text/%s.json", shared, name);
    json_t *j = json_load_file(path, JSON_ALLOW_NUL, NULL);
    if (!j) SKIP("no %s", path);
    return j;
}

#endif
