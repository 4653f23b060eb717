/* convert.c - the job behind `larder convert` and `larder quantize`: any model larder reads, to one GGUF.
 *
 * Owns: which keys and tensors the new file has, and the stream of rows from the mapped input through decoding,
 * reordering and encoding to the writer. Refuses to own: the formats of tensors (mix.c), their bytes (src/quant), how a
 * GGUF is written (src/load).
 *
 * Rows are done in chunks of a few MiB: threads encode the rows of a chunk, then it is written in order. So memory does
 * not depend on the model, and the result not on the number of threads.
 */
#include "larder_tools.h"
#include "load.h"
#include "mix.h"
#include "model.h"
#include "text.h"

#include <stdio.h>
#include <sys/stat.h>

enum { CHUNK = 8 << 20, GRAIN = 4 };
#define REPORT_NS 200000000u

/* One tensor's way from input to output. */
typedef struct item {
    const lr_tensor *t;
    lr_fix fix;
    uint32_t fix_heads;
    uint32_t fmt;              /* to be written in */
    uint64_t row_bytes, n_row; /* of the output, all matrices together */
} item;

/* The first row that could not be converted, as one thread saw it. */
typedef struct fault {
    larder_status status;
    uint64_t row;
    larder_error err;
} fault;

typedef struct job {
    const larder_convert_options *o;
    lr_file file;
    lr_model model;
    lr_text text;
    lr_file vocab; /* holds the tokenizer's keys when the input is a folder */
    const lr_file *view;
    item *items;
    lr_gguf_writer *writer;
    lr_pool *pool;
    uint8_t *chunk;
    float *rows; /* two per thread: as read, and put in order */
    uint64_t max_col;
    fault *faults;                               /* per thread */
    uint64_t n_bytes, n_done, t_start, t_report; /* for progress */
    larder_convert_result result;
    bool has_model, has_text;
} job;

const char *const *larder_convert_types(void) { return lr_mix_names(); }

/* ---------------------------------------------------------------- opening */
static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static larder_status check_output(const char *in, const char *out, bool force, larder_error *err)
{
    if (lr_is_dir(out)) return lr_fail(err, LARDER_USAGE, "'%s' is a folder; name the GGUF file to write", out);
    if (same_file(in, out)) return lr_fail(err, LARDER_USAGE, "'%s' is the model being read; name another file", out);
    if (!force && lr_is_file(out))
        return lr_fail(err, LARDER_USAGE, "'%s' exists already; remove it, or replace it with --force", out);
    return LARDER_OK;
}

static void note(const job *j, const char *fmt, ...) LR_PRINTF(2, 3);
static void note(const job *j, const char *fmt, ...)
{
    char line[300];
    va_list ap;
    if (!j->o->note) return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    j->o->note(j->o->user, line);
}

/* A folder without a tokenizer still has weights to convert; one with a broken tokenizer is an error. */
static larder_status open_text(job *j, larder_error *err)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/tokenizer.json", j->file.path);
    if (!lr_is_file(path)) {
        note(j, "%s has no tokenizer.json: the new file will hold no tokenizer", j->file.path);
        return LARDER_OK;
    }
    LR_TRY(lr_text_open(&j->file, &j->text, err));
    j->has_text = true;
    return LARDER_OK;
}

/* A GGUF that could not be run is converted all the same. Where that is not for want of its architecture here, a person
 * should hear of it. */
static larder_status check_gguf(job *j, larder_error *err)
{
    lr_model m;
    larder_error why = {0};
    if (!j->file.n_tensors) return lr_fail(err, LARDER_FORMAT, "'%s' holds no tensors", j->file.path);
    if (!lr_model_open(&j->file, &m, &why)) lr_model_close(&m);
    else if (lr_model_knows(&j->file)) note(j, "this model cannot be run as it stands: %s", why.message);
    return LARDER_OK;
}

/* A GGUF is taken as it stands, whatever its architecture; a folder needs the model layer to say what is what. */
static larder_status open_input(job *j, const char *in, larder_error *err)
{
    LR_TRY(lr_load(in, &j->file, err));
    j->view = &j->file;
    if (j->file.origin == LR_ORIGIN_GGUF) return check_gguf(j, err);
    LR_TRY(lr_model_open(&j->file, &j->model, err));
    j->has_model = true;
    j->view = &j->model.view;
    return open_text(j, err);
}

/* ---------------------------------------------------------------- what the new file has */
static larder_status plan_tensor(job *j, const lr_mix *mix, size_t i, larder_error *err)
{
    const lr_tensor *t = &j->view->tensors[i];
    item *it = &j->items[i];
    uint32_t wanted;
    if (!lr_fmt_get(t->fmt)) {
        const char *name = lr_load_type_name(t->fmt);
        return lr_fail(err, LARDER_UNSUPPORTED, "tensor '%.*s' is %s, which larder cannot convert yet",
                       LR_STR_ARG(t->name), name ? name : "in a format it does not know");
    }
    *it = (item){.t = t, .fmt = lr_mix_format(mix, t, &wanted), .n_row = t->ne[1] * t->ne[2] * t->ne[3]};
    if (j->has_model && j->model.fix) {
        it->fix = j->model.fix[i];
        it->fix_heads = j->model.fix_heads ? j->model.fix_heads[i] : 0;
    }
    if (it->fmt != wanted) {
        j->result.n_fallback++;
        if (lr_fmt_get(wanted)->block > 1 && t->ne[0] % lr_fmt_get(wanted)->block)
            note(j, "%.*s: rows of %llu are no whole number of %s blocks of %u: %s instead", LR_STR_ARG(t->name),
                 (unsigned long long)t->ne[0], lr_fmt_get(wanted)->name, lr_fmt_get(wanted)->block,
                 lr_fmt_get(it->fmt)->name);
        else
            note(j, "%.*s: stays in %s, which holds it exactly, and does not become %s", LR_STR_ARG(t->name),
                 lr_fmt_get(it->fmt)->name, lr_fmt_get(wanted)->name);
    }
    if (it->fmt != t->fmt && !lr_fmt_can_encode(it->fmt))
        return lr_fail(err, LARDER_UNSUPPORTED, "larder reads %s but does not write it", lr_fmt_get(it->fmt)->name);
    it->row_bytes = lr_fmt_row_bytes(it->fmt, t->ne[0]);
    j->max_col = LR_MAX(j->max_col, t->ne[0]);
    j->n_bytes += it->row_bytes * it->n_row;
    j->result.n_bytes_in += t->n_bytes;
    j->result.n_tensors++;
    return lr_gguf_writer_tensor(j->writer, t->name, it->fmt, t->n_dims, t->ne, err);
}

static bool has_prefix(lr_str s, const char *prefix)
{
    return s.n >= strlen(prefix) && memcmp(s.p, prefix, strlen(prefix)) == 0;
}

/* Keys that this job or the writer makes itself, or that speak of the folder and not of the model. */
static bool is_ours(lr_str key)
{
    static const char *const whole[] = {"general.architecture", "general.file_type", "general.quantization_version",
                                        "general.alignment"};
    for (size_t i = 0; i < LR_LEN(whole); i++)
        if (lr_str_is(key, whole[i])) return true;
    return has_prefix(key, "split.") || has_prefix(key, "config.") || has_prefix(key, "generation.");
}

static larder_status write_vocab(job *j, larder_error *err)
{
    const lr_tensor *embedding = lr_file_tensor(j->view, LR_STR("token_embd.weight"));
    uint32_t n_vocab = embedding ? (uint32_t)embedding->ne[1] : lr_tokenizer_size(j->text.tok);
    LR_TRY(lr_tokenizer_to_gguf(j->text.tok, n_vocab, &j->vocab, err));
    for (size_t i = 0; i < j->vocab.n_kv; i++) LR_TRY(lr_gguf_writer_kv(j->writer, &j->vocab.kv[i], err));
    if (j->text.tmpl_source.n)
        LR_TRY(lr_gguf_writer_str(j->writer, "tokenizer.chat_template", j->text.tmpl_source, err));
    if (!j->text.tmpl_tools_source.n) return LARDER_OK;
    return lr_gguf_writer_str(j->writer, "tokenizer.chat_template.tool_use", j->text.tmpl_tools_source, err);
}

/* GGUF's number for the whole file: the type asked for, or else the format most bytes are in. */
static uint32_t file_type(const job *j, const lr_mix_type *type)
{
    if (type) return type->file_type;
    uint64_t most = 0;
    uint32_t best = 0;
    for (size_t i = 0; i < j->view->n_tensors; i++) {
        uint64_t n = j->items[i].row_bytes * j->items[i].n_row;
        const lr_mix_type *t = lr_mix_find(lr_fmt_get(j->items[i].fmt)->name);
        if (t && n > most) most = n, best = t->file_type;
    }
    return best;
}

static larder_status write_keys(job *j, const lr_mix_type *type, larder_error *err)
{
    const lr_kv *arch = lr_file_key(j->view, "general.architecture");
    if (arch) LR_TRY(lr_gguf_writer_kv(j->writer, arch, err));
    for (size_t i = 0; i < j->view->n_kv; i++) {
        const lr_kv *kv = &j->view->kv[i];
        if (is_ours(kv->key) || (j->has_text && has_prefix(kv->key, "tokenizer."))) continue;
        LR_TRY(lr_gguf_writer_kv(j->writer, kv, err));
    }
    LR_TRY(lr_gguf_writer_u32(j->writer, "general.file_type", file_type(j, type), err));
    LR_TRY(lr_gguf_writer_u32(j->writer, "general.quantization_version", 2, err));
    if (j->has_text) return write_vocab(j, err);
    if (lr_file_key(j->view, "tokenizer.ggml.model")) return LARDER_OK;
    return lr_gguf_writer_str(j->writer, "tokenizer.ggml.model", LR_STR("no_vocab"), err); /* as llama.cpp asks */
}

static larder_status plan(job *j, larder_error *err)
{
    const lr_mix_type *type = NULL;
    lr_mix mix;
    if (j->o->type && !(type = lr_mix_find(j->o->type)))
        return lr_fail(err, LARDER_USAGE, "'%s' is no type larder writes", j->o->type);
    LR_TRY(lr_mix_init(&mix, type, j->o->pure, j->view, err));
    j->items = lr_calloc(LR_MAX(j->view->n_tensors, 1), sizeof *j->items);
    if (!j->items) return LR_NOMEM(err, "the list of tensors");
    for (size_t i = 0; i < j->view->n_tensors; i++) LR_TRY(plan_tensor(j, &mix, i, err));
    return write_keys(j, type, err);
}

/* ---------------------------------------------------------------- rows */
/* Where row r of the output comes from. The hub's RoPE turns number i of a head with number i + n/2; GGUF's Llama turns
 * neighbours, so rows 2i and 2i + 1 of each head are the hub's i and i + n/2. */
static uint64_t paired(uint64_t r, uint64_t n_row, uint32_t n_head)
{
    uint64_t n = n_row / LR_MAX(n_head, 1), at = r % n;
    return r - at + at / 2 + at % 2 * (n / 2);
}

static uint64_t source_row(const item *it, uint64_t r)
{
    uint64_t n = it->t->ne[1], at = r % n;
    if (it->fix != LR_FIX_ROPE_PAIRS || it->t->n_dims < 2) return at;
    return paired(at, n, it->fix_heads);
}

/* Row r of the tensor as float32 and as it should be; `spare` is as long as a row. */
static const float *read_row(const item *it, uint64_t r, float *row, float *spare)
{
    const lr_tensor *t = it->t;
    lr_tensor_row(t, r / t->ne[1], source_row(it, r), row);
    if (it->fix == LR_FIX_ADD_ONE)
        for (uint64_t i = 0; i < t->ne[0]; i++) row[i] += 1;
    if (it->fix != LR_FIX_ROPE_PAIRS || t->n_dims > 1) return row;
    for (uint64_t i = 0; i < t->ne[0]; i++) spare[i] = row[paired(i, t->ne[0], it->fix_heads)];
    return spare;
}

static const uint8_t *row_bytes_of(const lr_tensor *t, uint64_t mat, uint64_t row)
{
    return (t->mats ? t->mats[mat] : t->data + mat * t->mat_stride) + row * t->row_stride;
}

/* Rows whose numbers need not be touched go over as they are. */
static bool copy_row(const item *it, uint64_t r, uint8_t *dst)
{
    const lr_tensor *t = it->t;
    if (t->col_stride || it->fix == LR_FIX_ADD_ONE || (it->fix == LR_FIX_ROPE_PAIRS && t->n_dims < 2)) return false;
    uint64_t mat = r / t->ne[1], row = source_row(it, r);
    if (t->fmt == it->fmt) {
        memcpy(dst, row_bytes_of(t, mat, row), it->row_bytes);
        return true;
    }
    if (t->fmt != LR_FMT_MXFP4_PAIRS || it->fmt != LR_FMT_MXFP4) return false;
    lr_mxfp4_from_pairs(row_bytes_of(t, mat, row), lr_tensor_aux(t, mat, row), dst, t->ne[0]);
    return true;
}

typedef struct chunk_task {
    job *j;
    const item *it;
    uint64_t begin, n_row;
} chunk_task;

static void encode_rows(void *ctx, int thread, int n_thread)
{
    const chunk_task *c = ctx;
    job *j = c->j;
    fault *f = &j->faults[thread];
    float *row = j->rows + 2 * j->max_col * (uint64_t)thread, *spare = row + j->max_col;
    uint64_t begin, end;
    (void)n_thread;
    while (lr_pool_next(j->pool, 0, c->n_row, GRAIN, &begin, &end)) {
        for (uint64_t i = begin; i < end; i++) {
            uint8_t *dst = j->chunk + i * c->it->row_bytes;
            uint64_t r = c->begin + i;
            larder_error err;
            if (copy_row(c->it, r, dst)) continue;
            const float *values = read_row(c->it, r, row, spare);
            larder_status st = lr_encode_row(c->it->fmt, values, dst, c->it->t->ne[0], NULL, &err);
            if (st && (!f->status || r < f->row)) *f = (fault){st, r, err};
        }
    }
}

static larder_status first_fault(job *j, const item *it, larder_error *err)
{
    const fault *first = NULL;
    for (int i = 0; i < lr_pool_size(j->pool); i++) {
        const fault *f = &j->faults[i];
        if (f->status && (!first || f->row < first->row)) first = f;
    }
    if (!first) return LARDER_OK;
    return lr_fail(err, first->status, "tensor '%.*s', row %llu: %s", LR_STR_ARG(it->t->name),
                   (unsigned long long)first->row, first->err.message);
}

static larder_status report(job *j, lr_str name, bool last, larder_error *err)
{
    uint64_t now = lr_now_ns();
    if (!j->o->progress || (!last && now - j->t_report < REPORT_NS)) return LARDER_OK;
    char what[100];
    snprintf(what, sizeof what, "%.*s", (int)LR_MIN(name.n, sizeof what - 1), name.p);
    double seconds = (double)(now - j->t_start) * 1e-9, rate = seconds > 0 ? (double)j->n_done / seconds : 0;
    larder_progress p = {what, j->n_done, j->n_bytes, rate, rate > 0 ? (double)(j->n_bytes - j->n_done) / rate : -1};
    j->t_report = now;
    if (j->o->progress(j->o->user, &p)) return LARDER_OK;
    return lr_fail(err, LARDER_CANCELLED, "stopped; nothing was written");
}

static larder_status convert_tensor(job *j, const item *it, larder_error *err)
{
    uint64_t step = LR_MAX(CHUNK / it->row_bytes, 1);
    for (uint64_t at = 0; at < it->n_row; at += step) {
        chunk_task c = {j, it, at, LR_MIN(step, it->n_row - at)};
        LR_TRY(report(j, it->t->name, false, err));
        lr_pool_run(j->pool, encode_rows, &c);
        LR_TRY(first_fault(j, it, err));
        LR_TRY(lr_gguf_writer_data(j->writer, j->chunk, (size_t)(c.n_row * it->row_bytes), err));
        j->n_done += c.n_row * it->row_bytes;
    }
    j->result.n_encoded += it->fmt != it->t->fmt;
    return LARDER_OK;
}

/* ---------------------------------------------------------------- the job */
static larder_status make_buffers(job *j, larder_error *err)
{
    size_t chunk = CHUNK, n_row = 0;
    for (size_t i = 0; i < j->view->n_tensors; i++) chunk = LR_MAX(chunk, (size_t)j->items[i].row_bytes);
    LR_TRY(lr_pool_new((int)j->o->n_threads, false, &j->pool, err));
    size_t n_thread = (size_t)lr_pool_size(j->pool);
    j->chunk = lr_alloc(chunk);
    j->faults = lr_calloc(n_thread, sizeof *j->faults);
    if (lr_mul_size((size_t)LR_MAX(j->max_col, 1), 2 * sizeof(float), &n_row)) j->rows = lr_calloc(n_thread, n_row);
    return j->chunk && j->faults && j->rows ? LARDER_OK : LR_NOMEM(err, "rows on their way");
}

static larder_status run(job *j, larder_error *err)
{
    LR_TRY(make_buffers(j, err));
    j->result.n_bytes_out = lr_gguf_writer_size(j->writer);
    LR_TRY(lr_gguf_writer_begin(j->writer, err));
    j->t_start = lr_now_ns();
    for (size_t i = 0; i < j->view->n_tensors; i++) LR_TRY(convert_tensor(j, &j->items[i], err));
    if (lr_file_damaged(&j->file)) return lr_fail(err, LARDER_IO, "'%s' changed while it was read", j->file.path);
    LR_TRY(report(j, LR_STR("finishing"), true, err));
    return lr_gguf_writer_finish(j->writer, err);
}

static void close_job(job *j)
{
    lr_gguf_writer_free(j->writer);
    lr_pool_free(j->pool);
    lr_free(j->items);
    lr_free(j->chunk);
    lr_free(j->rows);
    lr_free(j->faults);
    lr_file_close(&j->vocab);
    if (j->has_text) lr_text_close(&j->text);
    if (j->has_model) lr_model_close(&j->model);
    lr_file_close(&j->file);
}

larder_status larder_convert(const char *in, const char *out, const larder_convert_options *options,
                             larder_convert_result *result, larder_error *err)
{
    larder_convert_options o = *options;
    job j = {.o = &o};
    lr_topology machine;
    larder_status st;
    lr_topology_get(&machine);
    if (!o.n_threads) o.n_threads = (uint32_t)LR_MAX(machine.n_core, 1);
    LR_TRY(check_output(in, out, o.force, err));
    LR_GO(open_input(&j, in, err));
    LR_GO(lr_gguf_writer_new(out, &j.writer, err));
    LR_GO(plan(&j, err));
    LR_GO(run(&j, err));
    if (result) *result = j.result;
fail:
    close_job(&j);
    return st;
}
