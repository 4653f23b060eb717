/* test_convert.c - convert and quantize: mixes, fallbacks, exact copies, and that nothing half done is left. */
#include "larder_tools.h"
#include "load.h"
#include "quant.h"
#include "test.h"

#include <dirent.h>
#include <unistd.h>

enum { N_LAYER = 16, N_EMBD = 256, N_FF = 512, N_VOCAB = 40 };

static char folder[200];

static const char *in_folder(const char *name)
{
    static char paths[64][300];
    static int turn;
    char *p = paths[turn++ % 64];
    if (!folder[0]) {
        const char *tmp = getenv("TMPDIR");
        snprintf(folder, sizeof folder, "%s/larder-convert-XXXXXX", tmp && *tmp ? tmp : "/tmp");
        CHECK(mkdtemp(folder) != NULL);
    }
    snprintf(p, 300, "%s/%s", folder, name);
    return p;
}

static int n_files(void)
{
    DIR *d = opendir(folder);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));) n += e->d_name[0] != '.';
    if (d) closedir(d);
    return n;
}

static void remove_folder(void)
{
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_name[0] != '.') unlink(path);
    }
    if (d) closedir(d);
    rmdir(folder);
    folder[0] = 0;
}

/* ---------------------------------------------------------------- a model to convert */
typedef struct shape {
    char name[40];
    uint32_t fmt;
    uint64_t ne[3];
} shape;

static int make_shapes(shape *s)
{
    int n = 0;
    s[n++] = (shape){"token_embd.weight", LR_FMT_F16, {N_EMBD, N_VOCAB, 1}};
    s[n++] = (shape){"output_norm.weight", LR_FMT_F32, {N_EMBD, 1, 1}};
    s[n++] = (shape){"output.weight", LR_FMT_BF16, {N_EMBD, N_VOCAB, 1}};
    for (int l = 0; l < N_LAYER; l++) {
        const struct {
            const char *part;
            uint32_t fmt;
            uint64_t ne[3];
        } parts[] = {
            {"attn_norm.weight", LR_FMT_F32, {N_EMBD, 1, 1}},
            {"attn_q.weight", LR_FMT_BF16, {N_EMBD, 64, 1}},
            {"attn_v.weight", LR_FMT_BF16, {N_EMBD, 32, 1}},
            {"attn_output.weight", LR_FMT_BF16, {64, 20, 1}},
            {"ffn_down.weight", LR_FMT_F16, {N_FF, 20, 1}},
            {"ffn_gate_inp.weight", LR_FMT_BF16, {N_EMBD, 4, 1}},
            {"ffn_up_exps.weight", LR_FMT_BF16, {N_EMBD, 24, 4}},
            {"odd.weight", LR_FMT_F32, {40, 6, 1}},
        };
        for (size_t i = 0; i < LR_LEN(parts); i++) {
            snprintf(s[n].name, sizeof s[n].name, "blk.%d.%s", l, parts[i].part);
            s[n].fmt = parts[i].fmt;
            memcpy(s[n++].ne, parts[i].ne, sizeof s->ne);
        }
    }
    return n;
}

static float value(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return ((float)(*state >> 40) * 0x1p-24f - 0.5f) * 0.1f;
}

/* A file with those tensors; `bad` puts a NaN in the last row of one. */
static void make_model(const char *path, const char *bad)
{
    larder_error err;
    lr_gguf_writer *w;
    shape *shapes = calloc(200, sizeof *shapes);
    int n = make_shapes(shapes);
    uint64_t state = 1;
    CHECK_OK(lr_gguf_writer_new(path, &w, &err));
    CHECK_OK(lr_gguf_writer_str(w, "general.architecture", LR_STR("thing"), &err));
    CHECK_OK(lr_gguf_writer_u32(w, "thing.block_count", N_LAYER, &err));
    CHECK_OK(lr_gguf_writer_u32(w, "thing.attention.head_count", 8, &err));
    CHECK_OK(lr_gguf_writer_u32(w, "thing.attention.head_count_kv", 2, &err));
    CHECK_OK(lr_gguf_writer_u32(w, "general.file_type", 1, &err));
    CHECK_OK(lr_gguf_writer_str(w, "tokenizer.ggml.model", LR_STR("llama"), &err));
    for (int i = 0; i < n; i++) {
        uint64_t ne[4] = {shapes[i].ne[0], shapes[i].ne[1], shapes[i].ne[2], 1};
        int n_dims = ne[2] > 1 ? 3 : ne[1] > 1 ? 2 : 1;
        CHECK_OK(lr_gguf_writer_tensor(w, lr_str_of(shapes[i].name), shapes[i].fmt, n_dims, ne, &err));
    }
    CHECK_OK(lr_gguf_writer_begin(w, &err));
    for (int i = 0; i < n; i++) {
        uint64_t n_row = shapes[i].ne[1] * shapes[i].ne[2], n_col = shapes[i].ne[0];
        for (uint64_t r = 0; r < n_row; r++) {
            float row[N_FF];
            uint8_t bytes[N_FF * 4];
            for (uint64_t c = 0; c < n_col; c++) row[c] = value(&state);
            CHECK_OK(lr_encode_row(shapes[i].fmt, row, bytes, n_col, NULL, &err));
            if (bad && strcmp(bad, shapes[i].name) == 0 && r == n_row - 1) memset(bytes, 0xff, 4);
            CHECK_OK(lr_gguf_writer_data(w, bytes, lr_fmt_row_bytes(shapes[i].fmt, n_col), &err));
        }
    }
    CHECK_OK(lr_gguf_writer_finish(w, &err));
    lr_gguf_writer_free(w);
    free(shapes);
}

static const char *source_model(void)
{
    static char path[300];
    snprintf(path, sizeof path, "%s", in_folder("source.gguf"));
    if (access(path, F_OK)) make_model(path, NULL);
    return path;
}

static larder_status convert(const char *in, const char *out, const char *type, larder_convert_result *result,
                             larder_error *err)
{
    larder_convert_options o = {.type = type, .n_threads = 2};
    return larder_convert(in, out, &o, result, err);
}

static const char *format_in(const lr_file *f, const char *name)
{
    const lr_tensor *t = lr_file_tensor(f, lr_str_of(name));
    CHECK(t != NULL);
    return lr_fmt_get(t->fmt)->name;
}

/* Every row of `f` is what encoding the same row of `from` gives, or the very bytes where the format stayed. */
static void check_rows(const lr_file *f, const lr_file *from)
{
    CHECK_EQ_INT(f->n_tensors, from->n_tensors);
    for (size_t i = 0; i < f->n_tensors; i++) {
        const lr_tensor *t = &f->tensors[i], *s = lr_file_tensor(from, t->name);
        CHECK(s && memcmp(s->ne, t->ne, sizeof t->ne) == 0 && s->n_dims == t->n_dims);
        uint64_t n = t->ne[1] * t->ne[2], n_bytes = lr_fmt_row_bytes(t->fmt, t->ne[0]);
        for (uint64_t r = 0; r < n; r++) {
            float row[N_FF];
            uint8_t want[N_FF * 4];
            const uint8_t *was = s->data + r * lr_fmt_row_bytes(s->fmt, s->ne[0]);
            lr_decode_row(s->fmt, was, NULL, row, s->ne[0]);
            CHECK_EQ_INT(lr_encode_row(t->fmt, row, want, t->ne[0], NULL, NULL), LARDER_OK);
            CHECK(memcmp(t->data + r * n_bytes, t->fmt == s->fmt ? was : want, n_bytes) == 0);
        }
    }
}

/* ---------------------------------------------------------------- tests */
TEST(every_type)
{
    larder_error err;
    lr_file from;
    CHECK_OK(lr_load(source_model(), &from, &err));
    for (const char *const *type = larder_convert_types(); *type; type++) {
        const char *path = in_folder("out.gguf");
        larder_convert_result result;
        lr_file f;
        uint32_t version = 0, was = 0;
        CHECK_OK(convert(source_model(), path, *type, &result, &err));
        CHECK_OK(lr_load(path, &f, &err));
        check_rows(&f, &from);
        CHECK_OK(lr_key_u32(&f, "general.quantization_version", 0, 9, &version, &err));
        CHECK_OK(lr_key_u32(&f, "thing.block_count", 0, 99, &was, &err));
        CHECK_EQ_INT(version, 2);
        CHECK_EQ_INT(was, N_LAYER);
        CHECK(lr_file_key(&f, "tokenizer.ggml.model") && lr_str_is(f.kv[0].key, "general.architecture"));
        CHECK_EQ_STR(format_in(&f, "blk.3.attn_norm.weight"), "F32");
        CHECK_EQ_STR(format_in(&f, "blk.3.ffn_gate_inp.weight"), "F32");
        CHECK_EQ_INT(result.n_bytes_out, f.maps[0].n);
        lr_file_close(&f);
        unlink(path);
    }
    lr_file_close(&from);
    remove_folder();
}

TEST(mixes)
{
    static const struct {
        const char *type, *tensor, *fmt;
    } want[] = {
        {"Q4_K_M", "token_embd.weight", "Q4_K"},
        {"Q4_K_M", "output.weight", "Q6_K"},
        {"Q4_K_M", "blk.0.ffn_down.weight", "Q6_K"},
        {"Q4_K_M", "blk.2.ffn_down.weight", "Q4_K"},
        {"Q4_K_M", "blk.4.ffn_down.weight", "Q6_K"},
        {"Q4_K_M", "blk.14.attn_v.weight", "Q6_K"},
        {"Q4_K_M", "blk.3.attn_v.weight", "Q4_K"},
        {"Q4_K_M", "blk.9.attn_q.weight", "Q4_K"},
        {"q4_k", "blk.14.attn_v.weight", "Q6_K"},
        {"Q4_K_S", "blk.3.attn_v.weight", "Q5_K"},
        {"Q4_K_S", "blk.4.attn_v.weight", "Q4_K"},
        {"Q4_K_S", "blk.1.ffn_down.weight", "Q5_K"},
        {"Q4_K_S", "blk.2.ffn_down.weight", "Q4_K"},
        {"Q5_K_M", "blk.2.ffn_down.weight", "Q5_K"},
        {"Q5_K_M", "blk.15.ffn_down.weight", "Q6_K"},
        {"Q3_K_M", "blk.0.attn_v.weight", "Q5_K"},
        {"Q3_K_M", "blk.5.attn_v.weight", "Q4_K"},
        {"Q2_K", "blk.5.attn_v.weight", "Q4_K"},
        {"Q2_K", "blk.5.ffn_down.weight", "Q3_K"},
        {"Q2_K", "blk.5.attn_q.weight", "Q2_K"},
        {"MXFP4", "blk.5.ffn_up_exps.weight", "MXFP4"},
        {"MXFP4", "blk.5.attn_q.weight", "Q8_0"},
        {"Q8_0", "output.weight", "Q8_0"},
        {"Q4_0", "output.weight", "Q6_K"},
        {"F16", "output.weight", "F16"},
        {"IQ4_XS", "blk.5.attn_v.weight", "Q5_K"},
    };
    for (size_t i = 0; i < LR_LEN(want); i++) {
        larder_error err;
        lr_file f;
        const char *path = in_folder("mix.gguf");
        unlink(path);
        CHECK_OK(convert(source_model(), path, want[i].type, NULL, &err));
        CHECK_OK(lr_load(path, &f, &err));
        if (strcmp(format_in(&f, want[i].tensor), want[i].fmt)) printf("%s %s\n", want[i].type, want[i].tensor);
        CHECK_EQ_STR(format_in(&f, want[i].tensor), want[i].fmt);
        lr_file_close(&f);
    }
    remove_folder();
}

static void count_note(void *user, const char *line)
{
    int *n = user;
    CHECK(strstr(line, "instead") != NULL);
    n[strstr(line, "F16") ? 1 : 0]++;
}

/* attn_output has rows of 64, `odd` of 40: each is said, and none fails. */
TEST(fallbacks_are_said)
{
    larder_error err;
    larder_convert_result result;
    int n[2] = {0};
    lr_file f;
    larder_convert_options o = {.type = "Q4_K_M", .pure = true, .n_threads = 1, .note = count_note, .user = n};
    const char *path = in_folder("out.gguf");
    CHECK_OK(larder_convert(source_model(), path, &o, &result, &err));
    CHECK_EQ_INT(n[0], N_LAYER);
    CHECK_EQ_INT(n[1], N_LAYER);
    CHECK_EQ_INT(result.n_fallback, 2 * N_LAYER);
    CHECK_OK(lr_load(path, &f, &err));
    CHECK_EQ_STR(format_in(&f, "blk.1.attn_output.weight"), "Q5_0");
    CHECK_EQ_STR(format_in(&f, "blk.1.odd.weight"), "F16");
    CHECK_EQ_STR(format_in(&f, "output.weight"), "Q4_K"); /* pure */
    lr_file_close(&f);
    remove_folder();
}

TEST(formats_stay_without_a_type)
{
    larder_error err;
    lr_file f, from;
    larder_convert_result result;
    CHECK_OK(convert(source_model(), in_folder("out.gguf"), NULL, &result, &err));
    CHECK_OK(lr_load(source_model(), &from, &err));
    CHECK_OK(lr_load(in_folder("out.gguf"), &f, &err));
    CHECK_EQ_STR(format_in(&f, "token_embd.weight"), "F16");
    CHECK_EQ_STR(format_in(&f, "output.weight"), "BF16");
    CHECK_EQ_INT(result.n_encoded, N_LAYER); /* the routers */
    check_rows(&f, &from);
    lr_file_close(&f);
    lr_file_close(&from);
    remove_folder();
}

TEST(quantised_again)
{
    larder_error err;
    lr_file f, from;
    CHECK_OK(convert(source_model(), in_folder("a.gguf"), "Q8_0", NULL, &err));
    CHECK_OK(convert(in_folder("a.gguf"), in_folder("b.gguf"), "Q4_K_S", NULL, &err));
    CHECK_OK(lr_load(in_folder("a.gguf"), &from, &err));
    CHECK_OK(lr_load(in_folder("b.gguf"), &f, &err));
    check_rows(&f, &from);
    lr_file_close(&f);
    lr_file_close(&from);
    remove_folder();
}

TEST(threads_do_not_matter)
{
    larder_error err;
    char *bytes[2];
    size_t n[2];
    for (int i = 0; i < 2; i++) {
        larder_convert_options o = {.type = "Q4_K_M", .n_threads = i ? 3 : 1, .force = true};
        CHECK_OK(larder_convert(source_model(), in_folder("out.gguf"), &o, NULL, &err));
        CHECK_OK(lr_read_file(in_folder("out.gguf"), 64 << 20, &bytes[i], &n[i], &err));
    }
    CHECK(n[0] == n[1] && memcmp(bytes[0], bytes[1], n[0]) == 0);
    lr_free(bytes[0]);
    lr_free(bytes[1]);
    remove_folder();
}

static bool stop_at_once(void *user, const larder_progress *p)
{
    (void)user;
    CHECK(p->n_done <= p->n_total && p->what[0]);
    return false;
}

TEST(cancelled_leaves_nothing)
{
    larder_error err;
    larder_convert_options o = {.type = "Q8_0", .n_threads = 1, .progress = stop_at_once};
    CHECK_STATUS(larder_convert(source_model(), in_folder("out.gguf"), &o, NULL, &err), LARDER_CANCELLED);
    CHECK_EQ_INT(n_files(), 1);
    remove_folder();
}

TEST(bad_values_are_named_and_leave_nothing)
{
    larder_error err;
    const char *bad = in_folder("bad.gguf");
    make_model(bad, "blk.7.ffn_down.weight");
    CHECK_STATUS(convert(bad, in_folder("out.gguf"), "Q4_0", NULL, &err), LARDER_FORMAT);
    CHECK(strstr(err.message, "blk.7.ffn_down.weight") && strstr(err.message, "row 19") &&
          strstr(err.message, "NaN"));
    CHECK_EQ_INT(n_files(), 1);
    remove_folder();
}

TEST(refusals)
{
    larder_error err;
    const char *in = source_model();
    CHECK_STATUS(convert(in, in_folder("out.gguf"), "Q9_X", NULL, &err), LARDER_USAGE);
    CHECK_STATUS(convert(in, in, "Q8_0", NULL, &err), LARDER_USAGE);
    CHECK_STATUS(convert(in, folder, "Q8_0", NULL, &err), LARDER_USAGE);
    CHECK(convert(in_folder("no.gguf"), in_folder("out.gguf"), "Q8_0", NULL, &err) != LARDER_OK);
    CHECK_OK(convert(in, in_folder("out.gguf"), "Q8_0", NULL, &err));
    CHECK_STATUS(convert(in, in_folder("out.gguf"), "Q8_0", NULL, &err), LARDER_USAGE);
    CHECK(strstr(err.message, "exists") != NULL);
    CHECK_EQ_INT(n_files(), 2);
    remove_folder();
}

static void keep_note(void *user, const char *line) { snprintf(user, 300, "%s", line); }

/* One tensor, or none, under the name of an architecture that needs more. */
static void make_hollow(const char *path, const char *arch, bool tensor)
{
    larder_error err;
    lr_gguf_writer *w;
    float row[4] = {1, 2, 3, 4};
    CHECK_OK(lr_gguf_writer_new(path, &w, &err));
    CHECK_OK(lr_gguf_writer_str(w, "general.architecture", lr_str_of(arch), &err));
    if (tensor)
        CHECK_OK(lr_gguf_writer_tensor(w, LR_STR("a.weight"), LR_FMT_F32, 1, (uint64_t[4]){4, 1, 1, 1}, &err));
    CHECK_OK(lr_gguf_writer_begin(w, &err));
    if (tensor) CHECK_OK(lr_gguf_writer_data(w, row, sizeof row, &err));
    CHECK_OK(lr_gguf_writer_finish(w, &err));
    lr_gguf_writer_free(w);
}

TEST(what_cannot_run_is_said)
{
    larder_error err;
    char said[300] = "";
    larder_convert_options o = {.n_threads = 1, .note = keep_note, .user = said};
    make_hollow(in_folder("empty.gguf"), "thing", false);
    CHECK_STATUS(larder_convert(in_folder("empty.gguf"), in_folder("out.gguf"), &o, NULL, &err), LARDER_FORMAT);
    CHECK(strstr(err.message, "no tensors") && n_files() == 1);
    make_hollow(in_folder("other.gguf"), "thing", true);
    CHECK_OK(larder_convert(in_folder("other.gguf"), in_folder("out.gguf"), &o, NULL, &err));
    CHECK_EQ_STR(said, "");
    make_hollow(in_folder("known.gguf"), "llama", true);
    CHECK_OK(larder_convert(in_folder("known.gguf"), in_folder("out2.gguf"), &o, NULL, &err));
    CHECK(strstr(said, "cannot be run") && strstr(said, "llama."));
    remove_folder();
}

/* ---------------------------------------------------------------- folders from the hub */
/* Row `row` of a tensor of `f`, decoded. */
static void row_of(const lr_file *f, const char *name, uint64_t row, float *out)
{
    const lr_tensor *t = lr_file_tensor(f, lr_str_of(name));
    CHECK(t && t->ne[0] <= N_FF && row < t->ne[1] * t->ne[2]);
    lr_decode_row(t->fmt, t->data + row * lr_fmt_row_bytes(t->fmt, t->ne[0]), NULL, out, t->ne[0]);
}

/* Converts golden/NAME, and opens what it became and what it was. */
static void convert_folder(const char *name, const char *type, lr_file *f, lr_file *hub)
{
    larder_error err;
    char in[4200], out[40];
    snprintf(in, sizeof in, "golden/%s/config.json", name);
    snprintf(in, sizeof in, "%s", test_shared(in));
    in[strlen(in) - strlen("/config.json")] = 0;
    snprintf(out, sizeof out, "%s.gguf", type ? type : "kept");
    CHECK_OK(convert(in, in_folder(out), type, NULL, &err));
    CHECK_OK(lr_load(in_folder(out), f, &err));
    CHECK_OK(lr_load(in, hub, &err));
}

TEST(llama_heads_are_turned_to_pairs)
{
    lr_file f, hub;
    convert_folder("llama_bias", "F32", &f, &hub);
    const lr_tensor *t = lr_file_tensor(&f, LR_STR("blk.0.attn_k.weight"));
    CHECK(t != NULL);
    uint64_t n_row = t->ne[1];
    uint32_t n_head = 0;
    larder_error err;
    CHECK_OK(lr_key_u32(&f, "llama.attention.head_count_kv", 1, 99, &n_head, &err));
    uint64_t dim = n_row / n_head;
    float a[N_FF], b[N_FF], bias[N_FF], hub_bias[N_FF];
    row_of(&f, "blk.0.attn_k.bias", 0, bias);
    row_of(&hub, "model.layers.0.self_attn.k_proj.bias", 0, hub_bias);
    for (uint64_t r = 0; r < n_row; r++) {
        uint64_t i = r % dim, was = r - i + (i % 2 ? dim / 2 + i / 2 : i / 2);
        row_of(&f, "blk.0.attn_k.weight", r, a);
        row_of(&hub, "model.layers.0.self_attn.k_proj.weight", was, b);
        CHECK(memcmp(a, b, t->ne[0] * sizeof(float)) == 0);
        CHECK(bias[r] == hub_bias[was]);
    }
    lr_file_close(&f);
    lr_file_close(&hub);
    remove_folder();
}

TEST(gemma_norms_are_whole)
{
    lr_file f, hub;
    float a[N_FF], b[N_FF];
    convert_folder("gemma2", NULL, &f, &hub);
    row_of(&f, "output_norm.weight", 0, a);
    row_of(&hub, "model.norm.weight", 0, b);
    for (int i = 0; i < 8; i++) CHECK(a[i] == b[i] + 1);
    CHECK_EQ_STR(format_in(&f, "blk.0.attn_q.weight"), "BF16");
    lr_file_close(&f);
    lr_file_close(&hub);
    remove_folder();
}

/* A model with its tokenizer and template: the keys other programs look for. */
TEST(text_goes_along)
{
    larder_error err;
    lr_file f;
    char in[4200];
    static const char *const keys[] = {
        "general.architecture",      "general.file_type",
        "tokenizer.ggml.model",      "tokenizer.ggml.tokens",
        "tokenizer.ggml.token_type", "tokenizer.ggml.bos_token_id",
        "tokenizer.chat_template",   "general.quantization_version",
    };
    snprintf(in, sizeof in, "%s", test_shared("models/teller-18m/tokenizer.json"));
    in[strlen(in) - strlen("/tokenizer.json")] = 0;
    CHECK_OK(convert(in, in_folder("out.gguf"), "Q8_0", NULL, &err));
    CHECK_OK(lr_load(in_folder("out.gguf"), &f, &err));
    for (size_t i = 0; i < LR_LEN(keys); i++) {
        if (!lr_file_key(&f, keys[i])) printf("%s is missing\n", keys[i]);
        CHECK(lr_file_key(&f, keys[i]) != NULL);
    }
    const lr_tensor *embedding = lr_file_tensor(&f, LR_STR("token_embd.weight"));
    CHECK(embedding && embedding->ne[1] == lr_file_key(&f, "tokenizer.ggml.tokens")->n);
    lr_file_close(&f);
    remove_folder();
}

/* A folder may ship a template of its own for requests with tools. */
TEST(both_templates_go_along)
{
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json"};
    static const char config[] = "{\"chat_template\": [{\"name\": \"default\", \"template\": \"plain\"}, "
                                 "{\"name\": \"tool_use\", \"template\": \"with tools\"}]}";
    larder_error err;
    lr_file f;
    lr_str source = {0};
    in_folder("");
    for (size_t i = 0; i < LR_LEN(files); i++) {
        char from[64];
        snprintf(from, sizeof from, "models/teller-18m/%s", files[i]);
        CHECK_EQ_INT(symlink(test_shared(from), in_folder(files[i])), 0);
    }
    CHECK_OK(lr_write_file(in_folder("tokenizer_config.json"), config, strlen(config), &err));
    CHECK_OK(convert(folder, in_folder("out.gguf"), "Q8_0", NULL, &err));
    CHECK_OK(lr_load(in_folder("out.gguf"), &f, &err));
    CHECK_OK(lr_key_str(&f, "tokenizer.chat_template", &source, &err));
    CHECK(lr_str_is(source, "plain"));
    CHECK_OK(lr_key_str(&f, "tokenizer.chat_template.tool_use", &source, &err));
    CHECK(lr_str_is(source, "with tools"));
    lr_file_close(&f);
    remove_folder();
}

/* Packed experts keep their format under every quantised type, and their numbers to the bit. */
TEST(gpt_oss_experts_stay_mxfp4)
{
    lr_file f, g, hub;
    convert_folder("gpt_oss_mxfp4", "Q8_0", &f, &hub);
    lr_file_close(&hub);
    convert_folder("gpt_oss_mxfp4", "F32", &g, &hub);
    static const char *const names[] = {"blk.0.ffn_gate_exps.weight", "blk.1.ffn_up_exps.weight",
                                        "blk.2.ffn_down_exps.weight"};
    for (size_t i = 0; i < LR_LEN(names); i++) {
        const lr_tensor *t = lr_file_tensor(&f, lr_str_of(names[i]));
        CHECK(t && t->fmt == LR_FMT_MXFP4);
        for (uint64_t r = 0; r < t->ne[1] * t->ne[2]; r++) {
            float a[N_FF], b[N_FF];
            row_of(&f, names[i], r, a);
            row_of(&g, names[i], r, b);
            CHECK(memcmp(a, b, t->ne[0] * sizeof(float)) == 0);
        }
    }
    CHECK_EQ_STR(format_in(&f, "blk.0.attn_q.weight"), "Q8_0");
    lr_file_close(&f);
    lr_file_close(&g);
    lr_file_close(&hub);
    remove_folder();
}

/* Every allocation fails once: an error each time, and never a file. */
TEST(out_of_memory)
{
    larder_error err;
    const char *in = source_model();
    larder_convert_options o = {.type = "Q8_0", .n_threads = 1};
    for (long n = 0; n < 10000; n++) {
        lr_alloc_fail_at(n);
        larder_status st = larder_convert(in, in_folder("out.gguf"), &o, NULL, &err);
        lr_alloc_fail_at(-1);
        if (!st) break;
        CHECK_EQ_INT(n_files(), 1);
    }
    CHECK_EQ_INT(n_files(), 2);
    remove_folder();
}
