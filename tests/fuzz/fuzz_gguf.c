/* fuzz_gguf.c - any bytes as a GGUF file: an error or a file whose every value can be read. */
#include "load.h"

#include <stdlib.h>

static volatile uint64_t sink;

static void read_all(const lr_file *f)
{
    for (size_t i = 0; i < f->n_kv; i++) {
        const lr_kv *kv = &f->kv[i];
        for (size_t b = 0; b < kv->n_bytes; b++) sink += kv->data[b];
        if (kv->type != LR_KV_ARR || kv->elem != LR_KV_STR) continue;
        lr_str_iter it = lr_str_walk(kv);
        lr_str s;
        while (lr_str_next(&it, &s))
            for (size_t b = 0; b < s.n; b++) sink += (uint8_t)s.p[b];
    }
    for (size_t i = 0; i < f->n_tensors; i++) {
        const lr_tensor *t = &f->tensors[i];
        if (lr_file_tensor(f, t->name) != t) abort();
        for (uint64_t b = 0; b < t->n_bytes; b++) sink += t->data[b];
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size || data[0] != 'G') return 0;
    lr_file f;
    larder_error err = {0};
    if (lr_load_bytes(data, size, &f, &err)) {
        if (!err.message[0] || strpbrk(err.message, "\n\r\033")) abort();
        return 0;
    }
    read_all(&f);
    lr_file_close(&f);
    return 0;
}
