/* exec_memory.c - what of a running engine's buffers is in memory: all that was planned, and no more.
 *
 * Owns: bringing buffers into memory, looking up rows without their neighbours, and asking the system page by page.
 * Refuses to own: how large buffers are (exec.c).
 */
#include "exec.h"

/* ---------------------------------------------------------------- taken at the start
 * A peak that is reached at once can be relied on: no later step waits for pages, or finds that others have them. */
#define PIECE (4 * LR_MIB)

/* Pieces in turn, so that on machines of several memories each holds its share of them. */
static void take_share(uint8_t *p, uint64_t n, int thread, int n_thread)
{
    for (uint64_t at = (uint64_t)thread * PIECE; p && at < n; at += (uint64_t)n_thread * PIECE)
        lr_pages_take(p + at, (size_t)LR_MIN(PIECE, n - at));
}

static void take_pages(void *exec, int thread, int n_thread)
{
    lr_exec *x = exec;
    const lr_code *c = &x->c;
    lr_pages_take(x->scratch + c->scratch * (uint64_t)thread, (size_t)c->scratch);
    take_share(x->shared, c->shared, thread, n_thread);
    take_share(x->parts, c->parts, thread, n_thread);
    take_share((uint8_t *)x->logits, c->logits_bytes, thread, n_thread);
    if (c->l.take_cache) take_share(x->cache, c->cache, thread, n_thread);
}

void lr_exec_take(lr_exec *x) { lr_pool_run(x->pool, take_pages, x); }

/* ---------------------------------------------------------------- tables */
void lr_exec_tables(lr_exec *x)
{
    for (uint32_t i = 0; i < x->c.n_node; i++) {
        lr_node *n = &x->c.nodes[i];
        n->sparse = n->kind == LR_OP_EMBED && !n->t->aux;
        for (uint32_t k = 0; n->sparse && k < x->c.n_node; k++)
            n->sparse = x->c.nodes[k].t != n->t || x->c.nodes[k].kind == LR_OP_EMBED;
    }
}

bool lr_exec_look(const lr_tensor *table, uint64_t row, float *y, uint32_t n)
{
    uint8_t bytes[4096];
    const lr_fmt_info *info = lr_fmt_get(table->fmt);
    const uint8_t *at = table->data + row * table->row_stride;
    uint32_t most = (uint32_t)(sizeof bytes / info->bytes) * info->block;
    for (uint32_t i = 0; i < n; i += most) {
        uint32_t part = LR_MIN(most, n - i);
        if (!lr_map_read(at + (size_t)(i / info->block) * info->bytes, (size_t)(part / info->block) * info->bytes,
                         bytes))
            return false;
        lr_decode_row(table->fmt, bytes, NULL, y + i, part);
    }
    return true;
}

/* ---------------------------------------------------------------- seen */
static void add(lr_account *a, const char *name, const void *p, uint64_t n)
{
    lr_account_add(a, name, p ? lr_resident(p, (size_t)n) : 0, false);
}

static uint64_t weight(const lr_tensor *t)
{
    uint64_t aux = t->aux ? lr_resident(t->aux, (size_t)(t->aux_row_stride * t->ne[1] / LR_MAX(t->aux_rows, 1u))) : 0;
    if (!t->mats) return lr_resident(t->data, (size_t)t->n_bytes);
    uint64_t sum = aux;
    for (uint64_t i = 0; i < t->ne[2]; i++) sum += lr_resident(t->mats[i], (size_t)(t->n_bytes / t->ne[2]));
    return sum;
}

void lr_exec_resident(const lr_exec *x, lr_account *a)
{
    const lr_code *c = &x->c;
    uint64_t weights = 0;
    *a = (lr_account){0};
    for (uint32_t i = 0; i < c->p->n_weights; i++) weights += weight(c->p->weights[i].t);
    lr_account_add(a, "weights", weights, true);
    add(a, "KV cache", x->cache, c->cache);
    add(a, "activations", x->shared, c->shared);
    add(a, "scratch per thread", x->scratch, c->scratch * c->l.n_thread);
    add(a, "scratch per thread", x->next, (uint64_t)c->n_phase * sizeof(lr_counter));
    add(a, "scratch per thread", x->parts, c->parts);
    add(a, "norms and biases", x->floats, c->floats * 4);
    add(a, "repacked weights", x->copies, c->copies);
    add(a, "logits", x->logits, c->logits_bytes);
}
