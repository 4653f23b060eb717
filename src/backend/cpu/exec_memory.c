/* exec_memory.c - what of a running engine's buffers is in memory, beside what was planned for each.
 *
 * Owns: asking the system page by page. Refuses to own: how large buffers are and when they are taken (exec.c).
 */
#include "exec.h"

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
    add(a, "repacked weights", x->turned, c->turned);
    add(a, "logits", x->logits, c->logits_bytes);
}
