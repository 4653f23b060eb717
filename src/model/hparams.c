/* hparams.c - the numbers every reader of a model wants, read from the view and bounded.
 *
 * Owns: the bounds: after it nothing overflows and nothing is divided by zero. Refuses to own: what one architecture
 * alone reads (arch_*.c, through lr_hp_*).
 */
#include "arch.h"

#include <stdio.h>

typedef struct reader {
    lr_model *m;
    larder_error *err;
    larder_status st; /* the first failure */
} reader;

/* A key the model cannot do without if `needed`. */
static void get_u32(reader *r, const char *key, uint32_t min, uint32_t max, bool needed, uint32_t *io)
{
    char name[128];
    if (r->st) return;
    (void)snprintf(name, sizeof name, "%s.%s", r->m->arch->name, key);
    if (needed && !lr_file_key(&r->m->view, name)) {
        r->st = lr_fail(r->err, LARDER_FORMAT, "%s: the key %s is missing", r->m->file->path, name);
    } else {
        r->st = lr_key_u32(&r->m->view, name, min, max, io, r->err);
    }
}

static larder_status wrong(reader *r, const char *what)
{
    return lr_fail(r->err, LARDER_FORMAT, "%s: %s", r->m->file->path, what);
}

/* Rows of the embedding are the vocabulary; whatever else states its size must agree. */
static larder_status read_vocab(reader *r)
{
    lr_hparams *hp = &r->m->hp;
    const lr_file *f = &r->m->view;
    const lr_tensor *t = lr_file_tensor(f, LR_STR("token_embd.weight"));
    if (!t) return wrong(r, "tensor token_embd.weight is missing");
    if (!t->ne[1] || t->ne[1] > LR_MAX_VOCAB)
        return wrong(r, "tensor token_embd.weight has an impossible number of rows");
    hp->n_vocab = (uint32_t)t->ne[1];
    uint32_t said = hp->n_vocab;
    get_u32(r, "vocab_size", 1, LR_MAX_VOCAB, false, &said);
    LR_TRY(r->st);
    const lr_kv *tokens = lr_file_key(f, "tokenizer.ggml.tokens");
    if (said != hp->n_vocab) {
        return lr_fail(r->err, LARDER_FORMAT, "%s: the key %s.vocab_size is %u but token_embd.weight has %u rows",
                       r->m->file->path, r->m->arch->name, said, hp->n_vocab);
    }
    if (tokens && tokens->type == LR_KV_ARR && tokens->n > hp->n_vocab) {
        return lr_fail(r->err, LARDER_FORMAT,
                       "%s: the key tokenizer.ggml.tokens names %llu tokens but token_embd.weight "
                       "has %u rows",
                       r->m->file->path, (unsigned long long)tokens->n, hp->n_vocab);
    }
    return LARDER_OK;
}

static larder_status read_heads(reader *r)
{
    lr_hparams *hp = &r->m->hp;
    get_u32(r, "attention.head_count", 1, LR_MAX_HEAD, true, &hp->n_head);
    hp->n_head_kv = hp->n_head;
    get_u32(r, "attention.head_count_kv", 1, LR_MAX_HEAD, false, &hp->n_head_kv);
    LR_TRY(r->st);
    if (hp->n_head_kv > hp->n_head || hp->n_head % hp->n_head_kv) {
        return lr_fail(r->err, LARDER_FORMAT, "%s: attention.head_count %u is no multiple of head_count_kv %u",
                       r->m->file->path, hp->n_head, hp->n_head_kv);
    }
    hp->head_dim = hp->n_embd / hp->n_head;
    get_u32(r, "attention.key_length", 1, LR_MAX_HEAD_DIM, false, &hp->head_dim);
    uint32_t value = hp->head_dim;
    get_u32(r, "attention.value_length", 1, LR_MAX_HEAD_DIM, false, &value);
    LR_TRY(r->st);
    if (!hp->head_dim || hp->head_dim > LR_MAX_HEAD_DIM || hp->head_dim % 2) {
        return lr_fail(r->err, LARDER_FORMAT,
                       "%s: heads of %u numbers (attention.key_length, or embedding_length / "
                       "head_count): it must be even, and 2 to %u",
                       r->m->file->path, hp->head_dim, LR_MAX_HEAD_DIM);
    }
    if (value != hp->head_dim) {
        return lr_fail(r->err, LARDER_UNSUPPORTED, "%s: attention.value_length %u differs from key_length %u",
                       r->m->file->path, value, hp->head_dim);
    }
    if ((uint64_t)hp->n_head * hp->head_dim > LR_MAX_EMBD) return wrong(r, "the heads together are too wide");
    return LARDER_OK;
}

static larder_status read_experts(reader *r)
{
    lr_hparams *hp = &r->m->hp;
    get_u32(r, "expert_count", 0, LR_MAX_EXPERT, false, &hp->n_expert);
    get_u32(r, "expert_used_count", 0, LR_MAX_EXPERT, false, &hp->n_expert_used);
    hp->n_ff_expert = hp->n_ff;
    get_u32(r, "expert_feed_forward_length", 1, LR_MAX_FF, false, &hp->n_ff_expert);
    LR_TRY(r->st);
    if (hp->n_expert_used > hp->n_expert || (hp->n_expert && !hp->n_expert_used)) {
        return lr_fail(r->err, LARDER_FORMAT, "%s: expert_used_count is %u of %u experts", r->m->file->path,
                       hp->n_expert_used, hp->n_expert);
    }
    return LARDER_OK;
}

larder_status lr_hparams_read(lr_model *m, larder_error *err)
{
    lr_hparams *hp = &m->hp;
    reader r = {m, err, LARDER_OK};
    char eps[128];
    get_u32(&r, "block_count", 1, LR_MAX_LAYER, true, &hp->n_layer);
    get_u32(&r, "embedding_length", 1, LR_MAX_EMBD, true, &hp->n_embd);
    get_u32(&r, "feed_forward_length", 1, LR_MAX_FF, true, &hp->n_ff);
    get_u32(&r, "context_length", 1, LR_MAX_CTX, true, &hp->n_ctx_train);
    get_u32(&r, "attention.sliding_window", 0, LR_MAX_CTX, false, &hp->window);
    LR_TRY(r.st);
    LR_TRY(read_heads(&r));
    LR_TRY(read_experts(&r));
    LR_TRY(read_vocab(&r));
    (void)snprintf(eps, sizeof eps, "%s.attention.layer_norm_rms_epsilon", m->arch->name);
    if (!lr_file_key(&m->view, eps))
        return lr_fail(err, LARDER_FORMAT, "%s: the key %s is missing", m->file->path, eps);
    return lr_key_f64(&m->view, eps, 0, 1, &hp->norm_eps, err);
}
