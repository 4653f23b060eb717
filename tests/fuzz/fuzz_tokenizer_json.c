/* Any bytes as a tokenizer.json; one that loads must encode and decode, and survive the way through GGUF keys. */
#include "tok_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const lr_tokenizer *t)
{
    static const char text[] = "Hello  <s>\xc3\xa9 e\xcc\x81 1234\n\n\xff aaaa<|end|> ";
    static const lr_text_run runs[] = {{9, true}, {sizeof(text) - 10, false}};
    lr_ids ids = {0};
    lr_buf out = {0};
    larder_error err;
    if (!lr_tokenizer_encode(t, LR_STR(text), LR_ENCODE_ADDED | LR_ENCODE_SPECIAL, &ids, &err)) {
        lr_tokenizer_decode(t, ids.p, ids.n, true, &out, &err);
    }
    for (size_t i = 0; i < ids.n; i++) lr_tokenizer_piece(t, ids.p[i], true, &out, &err);
    lr_tokenizer_encode_runs(t, text, runs, 2, &ids, &err);
    lr_ids_free(&ids);
    lr_buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lr_tokenizer *t = NULL, *g = NULL;
    larder_error err;
    if (lr_tokenizer_from_memory(data, size, &t, &err)) return 0;
    use(t);
    lr_file f = {0};
    if (lr_tokenizer_size(t) < 5000 && !lr_tokenizer_to_gguf(t, lr_tokenizer_size(t) + 1, &f, &err) &&
        !lr_file_index(&f, &err) && !lr_tokenizer_from_gguf(&f, &g, &err)) {
        use(g);
    }
    lr_tokenizer_free(t);
    lr_tokenizer_free(g);
    lr_file_close(&f);
    return 0;
}
