/* exec_copy.c - copies made when a program is opened: matrices whose columns lie apart as rows, and, when that is asked
 * for, all matrices into large pages, repacked where the kernels like that better (mm_pack.c).
 *
 * Refuses to own: which are copied, and the room for them (exec_compile.c).
 *
 * Each thread copies the rows that dealing gives it first (lr_share_at), so that on a machine of several memories a row
 * lies where it is read.
 */
#include "exec.h"

/* Rows [r0, r1) of a matrix whose columns lie apart. */
static void turn(const lr_node *n, const uint8_t *from, uint8_t *to, size_t r0, size_t r1)
{
    const lr_tensor *t = n->t;
    size_t size = lr_fmt_get(t->fmt)->bytes;
    for (size_t c0 = 0; c0 < n->n; c0 += 16) /* a few columns at a time: one side is always far apart */
        for (size_t r = r0; r < r1; r++)
            for (size_t k = c0; k < LR_MIN(c0 + 16, (size_t)n->n); k++)
                memcpy(to + (r * n->n + k) * size, from + r * t->row_stride + k * t->col_stride, size);
}

/* Groups of rows, each by way of `room`. r0 begins one. */
static void repack(const lr_kernels *k, const lr_node *n, const uint8_t *from, uint8_t *to, size_t r0, size_t r1,
                   uint8_t *room)
{
    size_t row = (size_t)lr_fmt_row_bytes(n->t->fmt, n->n);
    for (size_t r = r0; r < r1; r += k->pack_rows) {
        size_t n_row = LR_MIN(r1 - r, (size_t)k->pack_rows);
        if (n->t->row_stride == row) lr_read_bytes(from + r * row, n_row * row, room);
        else
            for (size_t i = 0; i < n_row; i++) lr_read_bytes(from + (r + i) * n->t->row_stride, row, room + i * row);
        k->repack(n->t->fmt, k->pack_rows, room, row, (uint32_t)n_row, n->n, to + r * row);
    }
}

static void copy_rows(lr_exec *x, const lr_node *n, uint64_t m, size_t r0, size_t r1, uint8_t *room)
{
    const lr_tensor *t = n->t;
    size_t row = (size_t)lr_fmt_row_bytes(t->fmt, n->n);
    uint8_t *to = x->copies + n->copy_at + m * lr_copy_stride(&x->c, n);
    const uint8_t *from = lr_tensor_mat(t, m);
    if (t->col_stride) {
        turn(n, from, to, r0, r1);
        return;
    }
    if (n->repacked) {
        repack(x->c.k, n, from, to, r0, r1, room);
        return;
    }
    bool dense = t->row_stride == row;
    size_t n_row = dense ? r1 - r0 : 1;
    for (; r0 < r1; r0 += n_row) lr_read_bytes(from + r0 * t->row_stride, n_row * row, to + r0 * row);
}

/* What is dealt by tiles of all a phase's matrices: this thread's. */
static void copy_products(lr_exec *x, const lr_phase *ph, int thread, int n_thread, uint8_t *room)
{
    uint64_t from = lr_share_at(ph->tiles, LR_MM_UNIT, thread, n_thread),
             to = lr_share_at(ph->tiles, LR_MM_UNIT, thread + 1, n_thread), at = 0;
    for (uint32_t i = 0; i < ph->n; i++) {
        const lr_node *n = &x->c.nodes[x->c.order[ph->first + i]];
        uint64_t tiles = (n->width + 15) / 16, a = LR_MAX(from, at), b = LR_MIN(to, at + tiles);
        if (n->fills && a < b)
            copy_rows(x, n, 0, (size_t)(a - at) * 16, (size_t)LR_MIN((b - at) * 16, n->width), room);
        at += tiles;
    }
}

/* Experts are read by whoever comes first: they lie in all memories in turn. */
static void copy_experts(lr_exec *x, const lr_phase *ph, int thread, int n_thread, uint8_t *room)
{
    for (uint32_t i = 0; i < ph->n; i++) {
        const lr_node *n = &x->c.nodes[x->c.order[ph->first + i]];
        for (uint64_t m = (uint64_t)thread; n->fills && m < n->t->ne[2]; m += (uint64_t)n_thread)
            copy_rows(x, n, m, 0, n->width, room);
    }
}

static void copy_share(void *exec, int thread, int n_thread)
{
    lr_exec *x = exec;
    /* A kernel's scratch holds 16 rows of floats, so a group of rows by far. */
    uint8_t *room = x->scratch + (size_t)thread * x->c.scratch + x->c.at_mm;
    for (uint32_t p = 0; p < x->c.n_phase; p++) {
        const lr_phase *ph = &x->c.phases[p];
        if (ph->kind == LR_PHASE_MM) copy_products(x, ph, thread, n_thread, room);
        if (ph->kind == LR_PHASE_MOE) copy_experts(x, ph, thread, n_thread, room);
    }
}

void lr_exec_copy(lr_exec *x)
{
    lr_code_fill_floats(&x->c, x->floats);
    if (x->c.copies) lr_pool_run(x->pool, copy_share, x);
}
