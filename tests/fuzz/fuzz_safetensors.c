/* fuzz_safetensors.c - any bytes as a safetensors file: an error or a file whose every tensor can be read. */
#include "load.h"

#include <stdlib.h>

static volatile uint64_t sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= 4 && memcmp(data, "GGUF", 4) == 0) return 0;
    lr_file f;
    larder_error err = {0};
    if (lr_load_bytes(data, size, &f, &err)) {
        if (!err.message[0] || strpbrk(err.message, "\n\r\033")) abort();
        return 0;
    }
    uint64_t total = 0;
    for (size_t i = 0; i < f.n_tensors; i++) {
        const lr_tensor *t = &f.tensors[i];
        if (lr_file_tensor(&f, t->name) != t || !lr_load_type_name(t->fmt)) abort();
        for (uint64_t b = 0; b < t->n_bytes; b++) sink += t->data[b];
        total += t->n_bytes;
    }
    if (total > size) abort(); /* tensors may not overlap */
    lr_file_close(&f);
    return 0;
}
