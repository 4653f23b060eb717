/* fuzz_config.c - any bytes as a config.json: an error or keys that can be read. */
#include "parts.h"

#include <stdlib.h>

static volatile uint64_t sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lr_parts parts = {0};
    lr_file f;
    larder_error err = {0};
    larder_status st = lr_json_keys(&parts, (const char *)data, size, "config", "config.json", &err);
    if (!st) st = lr_parts_finish(&parts, ".", &f, &err);
    lr_parts_free(&parts);
    if (st) {
        if (!err.message[0] || strpbrk(err.message, "\n\r\033")) abort();
        return 0;
    }
    for (size_t i = 0; i < f.n_kv; i++) {
        for (size_t b = 0; b < f.kv[i].n_bytes; b++) sink += f.kv[i].data[b];
        if (f.kv[i].type != LR_KV_ARR || f.kv[i].elem != LR_KV_STR) continue;
        lr_str_iter it = {f.kv[i].data, f.kv[i].n};
        lr_str s;
        while (lr_str_next(&it, &s)) sink += s.n;
    }
    lr_file_close(&f);
    return 0;
}
