/* fuzz_config.c - any bytes as a config.json: an error or keys that can be read, and a model that they describe is
 * opened as far as it goes without its tensors. */
#include "model.h"
#include "parts.h"

#include <stdlib.h>

static volatile uint64_t sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lr_parts parts = {.f.origin = LR_ORIGIN_HF};
    lr_file f;
    lr_model m;
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
        lr_str_iter it = lr_str_walk(&f.kv[i]);
        lr_str s;
        while (lr_str_next(&it, &s)) sink += s.n;
    }
    if (!lr_model_open(&f, &m, &err)) lr_model_close(&m);
    lr_file_close(&f);
    return 0;
}
