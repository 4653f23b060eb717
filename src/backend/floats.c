/* floats.c - small weights (norms, biases, sinks) as float32, once, when a program is opened. */
#include "code.h"

static void load_floats(const lr_code *c, uint16_t w, float *to)
{
    if (w == LR_NONE) return;
    const lr_tensor *t = c->p->weights[w].t;
    size_t n_row = (size_t)lr_fmt_row_bytes(t->fmt, t->ne[0]);
    uint8_t *room = c->l.repack && !t->col_stride ? lr_alloc(n_row) : NULL; /* none: through the map, as ever */
    for (uint64_t m = 0; m < t->ne[2]; m++) {
        for (uint64_t r = 0; r < t->ne[1]; r++, to += t->ne[0]) {
            const uint8_t *aux = lr_tensor_aux(t, m, r);
            if (t->col_stride) { /* element by element */
                for (uint64_t k = 0; k < t->ne[0]; k++)
                    lr_decode_row(t->fmt, lr_tensor_mat(t, m) + r * t->row_stride + k * t->col_stride, NULL, to + k,
                                  1);
            } else {
                const uint8_t *row = lr_tensor_mat(t, m) + r * t->row_stride;
                if (room) lr_read_bytes(row, n_row, room);
                lr_decode_row(t->fmt, room ? room : row, aux, to, t->ne[0]);
            }
            for (uint64_t k = 0; k < t->ne[0] && c->p->weights[w].add != 0.0f; k++) to[k] += c->p->weights[w].add;
        }
    }
    lr_free(room);
}

void lr_code_fill_floats(const lr_code *c, float *floats)
{
    for (uint32_t i = 0; i < c->n_node; i++) {
        const lr_node *n = &c->nodes[i];
        if (n->w_at != UINT64_MAX) load_floats(c, n->op.w, floats + n->w_at);
        uint16_t b = n->kind == LR_OP_ATTEND  ? n->op.attn.sinks
                     : n->kind == LR_OP_ROUTE ? n->op.route.bias
                                              : n->op.bias;
        if (n->b_at != UINT64_MAX) load_floats(c, b, floats + n->b_at);
    }
}
