/* model.c - opening a model: which architecture it is, its view, its numbers, and one trial of its program.
 *
 * Owns: the list of architectures. Refuses to own: any of them.
 */
#include "arch.h"

static const lr_arch *const all[] = {
    &lr_arch_llama, &lr_arch_qwen2,  &lr_arch_qwen3, &lr_arch_qwen3moe, &lr_arch_gemma2, &lr_arch_gemma3,
    &lr_arch_phi3,  &lr_arch_gptoss, NULL,
};

const lr_arch *const *lr_arch_all(void) { return all; }

void lr_model_list(lr_buf *out)
{
    for (const lr_arch *const *a = all; *a; a++) lr_buf_printf(out, "%s (%s)\n", (*a)->name, (*a)->hub_classes);
}

static const lr_arch *arch_of(lr_str name)
{
    for (const lr_arch *const *a = all; *a; a++)
        if (lr_str_is(name, (*a)->name)) return *a;
    return NULL;
}

bool lr_model_knows(const lr_file *f)
{
    lr_str name = {0};
    return !lr_key_str(f, "general.architecture", &name, NULL) && arch_of(name);
}

static larder_status view_of_gguf(lr_model *m, larder_error *err)
{
    m->view = *m->file;
    lr_str name = {0};
    LR_TRY(lr_key_str(m->file, "general.architecture", &name, err));
    if (!name.n) return lr_fail(err, LARDER_FORMAT, "%s: the key general.architecture is missing", m->file->path);
    m->arch = arch_of(name);
    if (m->arch) return LARDER_OK;
    lr_buf list = {0};
    for (const lr_arch *const *a = all; *a; a++) lr_buf_printf(&list, "%s%s", a == all ? "" : ", ", (*a)->name);
    (void)lr_fail(err, LARDER_UNSUPPORTED, "%s: architecture \"%.*s\" is not one larder runs: %.*s", m->file->path,
                  LR_STR_ARG(name), (int)list.n, list.p ? list.p : "");
    lr_buf_free(&list);
    return LARDER_UNSUPPORTED;
}

static larder_status build_program(const lr_model *m, uint32_t n_ctx, uint8_t *used, lr_program *out,
                                   larder_error *err)
{
    *out = (lr_program){.n_layer = m->hp.n_layer, .n_vocab = m->hp.n_vocab, .n_embd = m->hp.n_embd, .n_ctx = n_ctx};
    out->layer = 0xffff;
    out->logits = out->hidden = LR_NONE;
    lr_build b = {.m = m, .hp = &m->hp, .p = out, .n_ctx = n_ctx, .used = used, .embed = LR_NONE};
    m->arch->build(&b);
    larder_status st = lr_program_check(out, err);
    if (!st) return LARDER_OK;
    lr_program_free(out);
    size_t n = strlen(m->file->path); /* faults of keys name the file already */
    return err && !strncmp(err->message, m->file->path, n) ? st : lr_wrap(err, st, "%s", m->file->path);
}

/* Tensors that only repeat what the keys say. */
static bool harmless(lr_str name)
{
    static const char *const ends[] = {"attn_rot_embd.weight", "rotary_emb.inv_freq"};
    for (size_t i = 0; i < LR_LEN(ends); i++) {
        size_t n = strlen(ends[i]);
        if (name.n >= n && !memcmp(name.p + name.n - n, ends[i], n)) return true;
    }
    return false;
}

/* A tensor nobody asked for means that the file holds a model we do not know: its answers would be wrong. */
static larder_status check_unused(const lr_model *m, const uint8_t *used, larder_error *err)
{
    for (size_t i = 0; i < m->view.n_tensors; i++) {
        if (used[i] || harmless(m->view.tensors[i].name)) continue;
        return lr_fail(err, LARDER_UNSUPPORTED, "%s: tensor %.*s has no place in architecture %s", m->file->path,
                       LR_STR_ARG(m->view.tensors[i].name), m->arch->name);
    }
    return LARDER_OK;
}

static larder_status try_program(const lr_model *m, larder_error *err)
{
    lr_program p;
    uint8_t *used = lr_calloc(m->view.n_tensors + 1, 1);
    if (!used) return LR_NOMEM(err, "checking the model");
    larder_status st = build_program(m, m->hp.n_ctx_train, used, &p, err);
    if (!st) {
        lr_program_free(&p);
        st = check_unused(m, used, err);
    }
    lr_free(used);
    return st;
}

larder_status lr_model_open(const lr_file *f, lr_model *out, larder_error *err)
{
    larder_status st;
    *out = (lr_model){.file = f};
    LR_GO(f->origin == LR_ORIGIN_GGUF ? view_of_gguf(out, err) : lr_hub_view(out, err));
    out->arch_name = lr_str_of(out->arch->name);
    LR_GO(lr_key_str(&out->view, "general.name", &out->name, err));
    LR_GO(lr_hparams_read(out, err));
    LR_GO(try_program(out, err));
    return LARDER_OK;
fail:
    lr_model_close(out);
    return st;
}

void lr_model_close(lr_model *m)
{
    if (!m) return;
    if (m->file && m->file->origin == LR_ORIGIN_HF) lr_file_close(&m->view);
    *m = (lr_model){0};
}

larder_status lr_model_program(const lr_model *m, uint32_t n_ctx, lr_program *out, larder_error *err)
{
    if (!n_ctx) return lr_fail(err, LARDER_USAGE, "a context of 0 tokens");
    return build_program(m, n_ctx, NULL, out, err);
}
