/* Any bytes as a grammar of each kind, and then as texts matched against it. The first byte chooses the kind. */
#include "grammar.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char kinds[] = "sgrco";
    if (!size) return 0;
    const char *kind = data[0] ? strchr(kinds, data[0]) : NULL;
    lr_grammar *g = NULL;
    larder_error err = {0};
    lr_str text = {(const char *)data + 1, size - 1};
    if (size > 4096) return 0;
    larder_status st = lr_grammar_new(kind ? (larder_grammar_kind)(kind - kinds) : (larder_grammar_kind)(data[0] % 5),
                                      text, NULL, &g, &err);
    if (st) {
        if (!err.message[0] || st == LARDER_INTERNAL) abort();
        return 0;
    }
    lr_grammar_set_memory(g, 1 << 20, 0);
    for (uint32_t walk = 0; walk < 3; walk++) { /* what may come next may: a walk never gets stuck before the end */
        lr_matcher m;
        if (lr_matcher_init(&m, g, &err)) abort();
        uint64_t random = lr_hash(data, size) + walk;
        for (int i = 0; i < 60; i++) {
            bool next[256], ok = false;
            int allowed[256], n = 0;
            if (lr_matcher_next(&m, next, &err)) break;
            for (int b = 0; b < 256; b++)
                if (next[b]) allowed[n++] = b;
            if (!n && !lr_matcher_complete(&m)) abort();
            if (!n) break;
            random = random * 6364136223846793005u + 1442695040888963407u;
            char byte = (char)allowed[(random >> 33) % (uint64_t)n];
            if (lr_matcher_take(&m, &byte, 1, &ok, &err)) break;
            if (!ok) abort();
        }
        lr_matcher_close(&m);
    }
    if (lr_grammar_bytes(g) > 256u << 20) abort();
    lr_grammar_free(g);
    return 0;
}
