/* logits.c - the job of `larder logits`: every position's logits, written to a file as they come.
 *
 * Owns: the pairing of lr_logits with a safetensors file, so that memory is the engine's plan and no more.
 */
#include "engine.h"
#include "larder_tools.h"

typedef struct logits_job {
    lr_safetensors_writer *file;
    size_t row_bytes;
    larder_progress_fn *progress;
    void *user;
    uint64_t began;
    larder_status status; /* of writing */
    larder_error err;
} logits_job;

static bool write_rows(void *user, const float *rows, uint32_t n_row, uint32_t n_done, uint32_t n_total)
{
    logits_job *j = user;
    j->status = lr_safetensors_writer_data(j->file, rows, n_row * j->row_bytes, &j->err);
    if (j->status) return false;
    double s = (double)(lr_now_ns() - j->began) * 1e-9, rate = s > 0 ? n_done / s : 0;
    larder_progress now = {"logits", n_done, n_total, rate, rate > 0 ? (n_total - n_done) / rate : -1};
    return !j->progress || j->progress(j->user, &now);
}

larder_status larder_logits_file(larder_model *model, const larder_engine_options *options, const int32_t *ids,
                                 size_t n_ids, const char *path, larder_progress_fn *progress, void *user,
                                 larder_error *err)
{
    logits_job j = {.row_bytes = model->info.n_vocab * sizeof(float), .progress = progress, .user = user};
    larder_engine_options o = *options;
    larder_engine *e = NULL;
    larder_status st = LARDER_OK;
    uint32_t most = o.n_ctx ? o.n_ctx : LR_MAX(model->info.n_ctx_train, 32u);
    if (!n_ids || n_ids > most) return lr_fail(err, LARDER_LIMIT, "%zu ids; the context is %u (--ctx)", n_ids, most);
    if (!o.n_ctx) o.n_ctx = (uint32_t)LR_MAX(n_ids, 32u); /* no more is read, so no more is taken */
    o.speculate = LARDER_SPECULATE_OFF;                   /* nothing is guessed here */
    o.n_out = (uint32_t)LR_MIN(n_ids, 64u);
    LR_GO(larder_engine_open(model, &o, &e, err));
    lr_tensor t = {.name = LR_STR("logits"),
                   .fmt = LR_FMT_F32,
                   .n_dims = 2,
                   .ne = {model->info.n_vocab, n_ids, 1, 1},
                   .n_bytes = n_ids * j.row_bytes, /* both factors below 2^34: cannot wrap */
                   .row_stride = j.row_bytes};
    LR_GO(lr_safetensors_writer_new(path, &t, 1, &j.file, err));
    j.began = lr_now_ns();
    st = lr_logits(e, ids, n_ids, NULL, write_rows, &j, err);
    if (j.status) {
        st = j.status;
        if (err) *err = j.err;
    }
    if (!st) st = lr_safetensors_writer_finish(j.file, err);
fail:
    lr_safetensors_writer_free(j.file);
    larder_engine_free(e);
    return st;
}
