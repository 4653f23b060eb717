/* model_api.c - larder_model: a file, its program's source and its text, opened together. */
#include "engine.h"
#include "store.h"

#include <time.h>

static void fill_info(larder_model *m)
{
    const lr_hparams *hp = &m->model.hp;
    larder_model_info *info = &m->info;
    uint64_t by_fmt[512] = {0};
    uint32_t most = 0;
    for (size_t i = 0; i < m->model.view.n_tensors; i++) {
        const lr_tensor *t = &m->model.view.tensors[i];
        info->n_params += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
        info->n_bytes += t->n_bytes;
        if (t->fmt < LR_LEN(by_fmt) && (by_fmt[t->fmt] += t->n_bytes) > by_fmt[most]) most = t->fmt;
    }
    const lr_fmt_info *f = lr_fmt_get(most);
    info->format = f ? f->name : "?";
    info->n_vocab = hp->n_vocab;
    info->n_ctx_train = hp->n_ctx_train;
    info->n_layer = hp->n_layer;
    info->n_embd = hp->n_embd;
    info->n_head = hp->n_head;
    info->n_head_kv = hp->n_head_kv;
    info->head_dim = hp->head_dim;
    info->n_expert = hp->n_expert;
    info->n_expert_used = hp->n_expert_used;
    info->has_template = m->has_text && m->text.tmpl_source.n > 0;
}

/* info's strings must end in NUL; the file's do not. */
static larder_status copy_names(larder_model *m, larder_error *err)
{
    lr_str arch = m->model.arch_name, name = m->model.name;
    m->names = lr_calloc(arch.n + name.n + 2, 1);
    if (!m->names) return LR_NOMEM(err, "the model's name");
    if (arch.n) memcpy(m->names, arch.p, arch.n);
    if (name.n) memcpy(m->names + arch.n + 1, name.p, name.n);
    m->info.architecture = m->names;
    m->info.name = m->names + arch.n + 1;
    return LARDER_OK;
}

larder_status lr_model_adopt(lr_file *file, larder_model **out, larder_error *err)
{
    larder_status st = LARDER_OK;
    larder_model *m = lr_calloc(1, sizeof *m);
    *out = NULL;
    if (!m) return LR_NOMEM(err, "a model");
    m->file = *file;
    LR_GO(lr_model_open(&m->file, &m->model, err));
    LR_GO(copy_names(m, err));
    m->has_text = lr_text_open(&m->file, &m->text, &m->text_error) == LARDER_OK;
    fill_info(m);
    *file = (lr_file){0};
    *out = m;
    return LARDER_OK;
fail:
    m->file = (lr_file){0};
    larder_model_free(m);
    return st;
}

larder_status larder_model_open(const char *path, larder_model **out, larder_error *err)
{
    char real[4096];
    lr_file file = {0};
    *out = NULL;
    LR_TRY(lr_store_resolve(path, real, sizeof real, err));
    LR_TRY(lr_load(real, &file, err));
    larder_status st = lr_model_adopt(&file, out, err);
    if (st) lr_file_close(&file);
    return st;
}

void larder_model_free(larder_model *model)
{
    if (!model) return;
    lr_vocab_free(model->vocab);
    lr_text_close(&model->text);
    lr_model_close(&model->model);
    lr_file_close(&model->file);
    if (model->made) lr_pages_free(model->made, model->n_made);
    lr_free(model->names);
    lr_free(model);
}

void larder_model_get_info(const larder_model *model, larder_model_info *out) { *out = model->info; }

larder_status lr_model_need_text(const larder_model *m, larder_error *err)
{
    if (m->has_text) return LARDER_OK;
    return lr_fail(err, LARDER_UNSUPPORTED, "this model has no usable tokenizer: %s", m->text_error.message);
}

larder_status larder_tokenize(const larder_model *model, const char *text, size_t n_text, int flags, int32_t **ids,
                              size_t *n_ids, larder_error *err)
{
    *ids = NULL;
    *n_ids = 0;
    LR_TRY(lr_model_need_text(model, err));
    lr_ids list = {0};
    int how = (flags & LARDER_TEXT_SPECIAL ? LR_ENCODE_SPECIAL : 0) |
              (flags & LARDER_TEXT_CONTROL ? LR_ENCODE_ADDED : 0);
    larder_status st = lr_tokenizer_encode(model->text.tok, (lr_str){text, n_text}, how, &list, err);
    if (st) {
        lr_ids_free(&list);
        return st;
    }
    *ids = list.p;
    *n_ids = list.n;
    return LARDER_OK;
}

larder_status larder_detokenize(const larder_model *model, const int32_t *ids, size_t n_ids, char **text,
                                size_t *n_text, larder_error *err)
{
    *text = NULL;
    LR_TRY(lr_model_need_text(model, err));
    lr_buf b = {0};
    larder_status st = lr_tokenizer_decode(model->text.tok, ids, n_ids, true, &b, err);
    if (st) {
        lr_buf_free(&b);
        return st;
    }
    if (n_text) *n_text = b.n;
    *text = lr_buf_steal(&b);
    return *text ? LARDER_OK : LR_NOMEM(err, "text");
}

larder_status larder_chat_render(const larder_model *model, const char *json, int32_t **ids, size_t *n_ids,
                                 char **text, larder_error *err)
{
    if (ids) *ids = NULL, *n_ids = 0;
    if (text) *text = NULL;
    LR_TRY(lr_model_need_text(model, err));
    json_error_t bad;
    json_t *request = json_loads(json, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &bad);
    if (!request) return lr_fail(err, LARDER_USAGE, "the conversation is not JSON: line %d: %s", bad.line, bad.text);
    int64_t now = (int64_t)time(NULL);
    lr_ids list = {0};
    lr_rendered rendered = {0};
    larder_status st = LARDER_OK;
    if (ids) LR_GO(lr_text_prompt(&model->text, request, now, &list, err));
    if (text) LR_GO(lr_text_render(&model->text, request, now, &rendered, err));
    if (ids) *ids = list.p, *n_ids = list.n;
    if (text) *text = rendered.text, rendered.text = NULL;
    list.p = NULL;
fail:
    lr_ids_free(&list);
    lr_rendered_free(&rendered);
    json_decref(request);
    return st;
}
