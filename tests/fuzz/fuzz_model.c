/* fuzz_model.c - any bytes as a GGUF, opened as a model and built into programs: an error or a sound program. */
#include "load.h"
#include "model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    larder_error err;
    lr_file f;
    lr_model m;
    if (lr_load_bytes(data, size, &f, &err)) return 0;
    if (!lr_model_open(&f, &m, &err)) {
        static const uint32_t contexts[] = {1, 4096, UINT32_MAX};
        for (size_t i = 0; i < LR_LEN(contexts); i++) {
            lr_program p;
            lr_buf text = {0};
            if (lr_model_program(&m, contexts[i], &p, &err)) continue;
            lr_program_print(&p, &text);
            lr_buf_free(&text);
            lr_program_free(&p);
        }
        lr_model_close(&m);
    }
    lr_file_close(&f);
    return 0;
}
