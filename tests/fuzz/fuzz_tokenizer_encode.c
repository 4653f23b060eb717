/* Any bytes as text for small vocabularies: what is data never makes a control token, and byte-level text without
 * control tokens decodes to itself (each maximal invalid part to U+FFFD). The first byte picks the vocabulary, the
 * second one cuts the text into runs. */
#include "tok_impl.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ADDED \
    "\"added_tokens\":[{\"id\":300,\"content\":\"<|end|>\",\"special\":true}," \
    "{\"id\":301,\"content\":\"<think>\"},{\"id\":302,\"content\":\"   \"}," \
    "{\"id\":303,\"content\":\"<|w|>\",\"special\":true,\"lstrip\":true,\"rstrip\":true}," \
    "{\"id\":304,\"content\":\"one\",\"single_word\":true},{\"id\":305,\"content\":\"N n\",\"normalized\":true}],"
enum { GUARDED_1 = 300, GUARDED_2 = 301, GUARDED_3 = 303 };

static void put_vocab(lr_buf *b, bool bytes)
{
    lr_buf_puts(b, "\"vocab\":{");
    for (unsigned i = 0; i < 256; i++) {
        char c[8] = "";
        size_t n = tok_put_char(tok_byte_char((uint8_t)i), c);
        if (!bytes) lr_buf_printf(b, "\"<0x%02X>\":%u,", i, i);
        else lr_buf_printf(b, "\"%s%.*s\":%u,", c[0] == '"' || c[0] == '\\' ? "\\" : "", (int)n, c, i);
    }
    lr_buf_puts(
        b, bytes ? "\"ab\":256,\"abab\":257,\"xx\":258,\"xxxx\":259},"
                 : "\"a\":256,\"b\":257,\"ab\":258,\"abab\":259,\"x\":260,\"xx\":261,\"xxxx\":262,\"<|end|\":263},");
}

static lr_tokenizer *make(bool bytes)
{
    lr_buf b = {0};
    lr_tokenizer *t = NULL;
    larder_error err = {0};
    lr_buf_puts(&b, "{" ADDED);
    if (bytes) {
        lr_buf_puts(&b, "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"decoder\":{\"type\":"
                        "\"ByteLevel\"},");
    } else {
        lr_buf_puts(&b,
                    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Prepend\","
                    "\"prepend\":\"\xe2\x96\x81\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":"
                    "\"\xe2\x96\x81\"}]},\"decoder\":{\"type\":\"ByteFallback\"},");
    }
    lr_buf_puts(&b, "\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"ignore_merges\":true,");
    put_vocab(&b, bytes);
    lr_buf_puts(&b, "\"merges\":[\"a b\",\"ab ab\",\"x x\",\"xx xx\"]}}");
    if (b.failed || lr_tokenizer_from_memory(b.p, b.n, &t, &err)) abort();
    lr_buf_free(&b);
    return t;
}

static void check_runs(const lr_tokenizer *t, const char *text, size_t n, uint8_t cut)
{
    lr_text_run runs[64];
    size_t n_runs = 0, done = 0;
    bool any_trusted = false;
    while (n_runs < 63 && done < n) {
        size_t step = LR_MIN((size_t)(cut >> (n_runs % 5)) % 16 + 1, n - done);
        runs[n_runs] = (lr_text_run){step, (cut >> (n_runs & 7)) & 1};
        any_trusted |= runs[n_runs].trusted;
        done += step;
        n_runs++;
    }
    runs[n_runs++] = (lr_text_run){n - done, false};
    lr_ids ids = {0};
    if (lr_tokenizer_encode_runs(t, text, runs, n_runs, &ids, NULL)) abort();
    for (size_t i = 0; i < ids.n && !any_trusted; i++) {
        if (ids.p[i] == GUARDED_1 || ids.p[i] == GUARDED_2 || ids.p[i] == GUARDED_3) abort();
    }
    lr_ids_free(&ids);
}

static void check_round(const lr_tokenizer *t, const char *text, size_t n)
{
    lr_ids ids = {0};
    lr_buf back = {0}, want = {0};
    if (lr_tokenizer_encode(t, (lr_str){text, n}, 0, &ids, NULL)) abort();
    if (lr_tokenizer_decode(t, ids.p, ids.n, true, &back, NULL)) abort();
    tok_utf8_replace(&want, (const uint8_t *)text, n);
    if (back.n != want.n || (back.n && memcmp(back.p, want.p, back.n) != 0)) abort();
    lr_ids_free(&ids);
    lr_buf_free(&back);
    lr_buf_free(&want);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lr_tokenizer *made[2];
    if (!made[0]) {
        made[0] = make(false);
        made[1] = make(true);
    }
    if (size < 2) return 0;
    const lr_tokenizer *t = made[data[0] & 1];
    const char *text = (const char *)data + 2;
    lr_ids ids = {0};
    if (lr_tokenizer_encode(t, (lr_str){text, size - 2}, LR_ENCODE_ADDED, &ids, NULL)) abort();
    lr_ids_free(&ids);
    check_runs(t, text, size - 2, data[1]);
    if (data[0] & 1) check_round(t, text, size - 2);
    return 0;
}
