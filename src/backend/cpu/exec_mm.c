/* exec_mm.c - the matrix products of a step: which thread multiplies which rows, plain and routed.
 *
 * Refuses to own: arithmetic (mm*.c). Nothing here depends on how work was dealt: an output is one call's of mm.
 *
 * Dealing. Each thread has a share of the phase's rows, all together, and takes pieces of it from the front: the rows
 * a piece asks memory for ahead of time are those of its next piece. Who has done his own takes from the back of
 * the others' shares. What a share has given away is one word, so a phase is dealt by a few atomic operations.
 */
#include "exec.h"
#include "mm.h"

/* ---------------------------------------------------------------- products */
static lr_mat mat_of(const lr_worker *w, const lr_node *n, uint64_t m)
{
    const lr_tensor *t = n->t;
    lr_mat a = {.fmt = t->fmt, .rows = n->width, .cols = n->n};
    if (n->copy_at != UINT64_MAX) {
        a.row_stride = (size_t)lr_fmt_row_bytes(t->fmt, n->n);
        a.data = w->x->copies + n->copy_at + m * lr_copy_stride(&w->x->c, n);
        a.packed = n->repacked;
    } else {
        a.data = lr_tensor_mat(t, m);
        a.row_stride = t->row_stride;
    }
    if (t->aux) {
        a.aux = t->aux_mats ? t->aux_mats[m] : t->aux + m * t->aux_mat_stride;
        a.aux_stride = t->aux_row_stride;
        a.aux_rows = t->aux_rows;
        a.aux_first = t->aux_first;
    }
    return a;
}

/* Where a thread keeps the pointers to the rows of a product of n. */
static const void **xs_of(const lr_worker *w) { return (const void **)(void *)(w->scratch + w->x->c.at_ptrs); }
static float **ys_of(const lr_worker *w, uint32_t n) { return (float **)(void *)(xs_of(w) + n); }

/* Both packed rows of a token go through the kernel as if they were tokens of their own, so few rows of weights at a time
 * that the sums stay near: the weights are decoded once. The additions are those of two products, in their order. */
static void multiply_twice(lr_worker *w, const lr_node *n, const lr_mat *a, const void *const *xs, uint32_t many,
                           uint32_t r0, uint32_t r1, float *const *ys, const float *bias)
{
    const lr_code *c = &w->x->c;
    size_t rest = lr_i8_layout(n->n).bytes;
    const void **x = (const void **)(void *)ys_of(w, 2 * many);
    float **to = (float **)(void *)(x + 2 * many), *sum = (float *)(void *)(w->scratch + c->at_twice);
    for (uint32_t t = 0; t < many; t++) {
        x[t] = xs[t];
        x[many + t] = (const uint8_t *)xs[t] + rest;
    }
    for (uint32_t t = 0; t < 2 * many; t++) to[t] = sum + (size_t)t * LR_TWICE_ROWS;
    lr_mat part = *a; /* rows [r0, r1) alone, counted from 0 */
    part.data += r0 * a->row_stride;
    if (part.aux) part.aux += r0 * a->aux_stride;
    part.rows = r1 - r0;
    c->k->mm(&part, LR_ACTK_I8, x, 2 * many, 0, part.rows, to, NULL, false, w->scratch + c->at_mm);
    for (uint32_t t = 0; t < many; t++) {
        float *y = ys[t] + r0;
        for (uint32_t r = 0; r < part.rows; r++) {
            float v = to[t][r];
            if (bias) v += bias[r0 + r];
            if (n->add) v = y[r] + v;
            y[r] = v + to[many + t][r];
        }
    }
}

/* One product of tiles of 16 rows. */
static void multiply(lr_worker *w, const lr_node *n, const lr_mat *a, const void **xs, uint32_t many, uint32_t tile0,
                     uint32_t tile1, float **ys, const float *bias)
{
    const lr_code *c = &w->x->c;
    uint32_t to = LR_MIN(tile1 * 16, n->width);
    if (n->actk != LR_ACTK_I8X2) {
        c->k->mm(a, n->actk, xs, many, tile0 * 16, to, ys, bias, n->add, w->scratch + c->at_mm);
        return;
    }
    for (uint32_t r0 = tile0 * 16; r0 < to; r0 += LR_TWICE_ROWS)
        multiply_twice(w, n, a, xs, many, r0, LR_MIN(r0 + LR_TWICE_ROWS, to), ys, bias);
}

static void product(lr_worker *w, const lr_node *n, uint32_t tile0, uint32_t tile1)
{
    uint32_t rows = lr_rows_of(w->x, n->rows);
    const void **xs = xs_of(w);
    float **ys = ys_of(w, rows);
    for (uint32_t i = 0; i < rows; i++) {
        xs[i] = lr_at(w, n->in[0], i);
        ys[i] = lr_at(w, n->out, i);
    }
    lr_mat a = mat_of(w, n, 0);
    multiply(w, n, &a, xs, rows, tile0, tile1, ys, lr_floats_at(w, n->b_at));
}

/* Tiles [from, to) of the phase, counted through all its matrices. */
static void products(lr_worker *w, const lr_phase *ph, uint64_t from, uint64_t to)
{
    const lr_code *c = &w->x->c;
    uint64_t at = 0;
    for (uint32_t i = 0; i < ph->n && at < to; i++) {
        const lr_node *n = &c->nodes[c->order[ph->first + i]];
        uint64_t tiles = (n->width + 15) / 16, a = LR_MAX(from, at), b = LR_MIN(to, at + tiles);
        if (a < b) product(w, n, (uint32_t)(a - at), (uint32_t)(b - at));
        at += tiles;
    }
}

/* ---------------------------------------------------------------- dealing */
lr_hand lr_deal(lr_worker *w, uint64_t n, uint32_t unit, uint64_t own, uint64_t least)
{
    size_t n_thread = (size_t)w->n_thread;
    lr_hand h = {w->x->deals + (w->dealt & 1) * n_thread, n, unit, own, least, 0};
    /* The other set belongs to the phase before, which a barrier has ended, and to the one after. */
    lr_counter *others = w->x->deals + (~w->dealt & 1) * n_thread;
    atomic_store_explicit(&others[w->thread].v, 0, memory_order_relaxed);
    w->dealt++;
    return h;
}

/* Takes from one end of a share of `size`. The word: how many have gone from the front, and (upper half) from the back. */
static bool take(lr_counter *c, uint64_t size, const lr_hand *h, bool back, uint64_t *at, uint64_t *n)
{
    uint64_t v = atomic_load_explicit(&c->v, memory_order_relaxed);
    for (;;) {
        uint64_t front = v & UINT32_MAX, end = v >> 32, left = size - front - end;
        if (!left || (back && left < h->least)) return false;
        *n = back ? LR_ALIGN_UP(left / 2, (uint64_t)h->unit) : LR_MIN(h->own, left);
        *n = LR_MIN(*n, left);
        *at = back ? size - end - *n : front;
        if (atomic_compare_exchange_weak_explicit(&c->v, &v, v + (back ? *n << 32 : *n), memory_order_relaxed,
                                                  memory_order_relaxed))
            return true;
    }
}

bool lr_hand_next(const lr_worker *w, lr_hand *h, uint64_t *from, uint64_t *n)
{
    for (; h->at < w->n_thread; h->at++) {
        int who = (w->thread + h->at) % w->n_thread;
        uint64_t begin = lr_share_at(h->n, h->unit, who, w->n_thread),
                 size = lr_share_at(h->n, h->unit, who + 1, w->n_thread) - begin;
        if (!take(&h->deals[who], size, h, h->at > 0, from, n)) continue;
        *from += begin;
        return true;
    }
    return false;
}

/* Pieces: small enough that threads end together, large enough that taking one costs nothing. What is too little to be
 * worth taking from another is left to him: its rows are not on their way yet. */
void lr_run_mm(lr_worker *w, const lr_phase *ph)
{
    enum { OWN = 128 * LR_KIB, LEAST = 96 * LR_KIB }; /* of weights, for one token */
    uint32_t rows = lr_rows_of(w->x, ph->rows);
    uint64_t per_tile = LR_MAX(ph->bytes / LR_MAX(ph->tiles, 1u), 1u) * LR_MIN(rows, 16u), from, n;
    uint64_t own = LR_MAX(OWN / per_tile, 1u), least = LR_MAX(LEAST / per_tile, 2u);
    if (rows > 8) { /* the matrix kernel: pairs of tiles, and pointers to every token for each piece */
        own = LR_MAX(ph->tiles / (uint32_t)w->n_thread / 12 / 2 * 2, 4u);
        least = 4;
    }
    if (w->n_thread == 1 || per_tile * ph->tiles < (uint64_t)w->n_thread * 128 * LR_KIB) own = least = UINT32_MAX;
    lr_hand h = lr_deal(w, ph->tiles, LR_MM_UNIT, own, least);
    while (lr_hand_next(w, &h, &from, &n)) products(w, ph, from, from + n);
}

/* ---------------------------------------------------------------- routed products */
typedef struct sorted {
    uint32_t *start, *active, *rows; /* rows[start[e] .. start[e + 1]) = tok * k + slot, rising */
    uint32_t n_active;
} sorted;

/* Every thread sorts for itself: a few microseconds at most, and no barrier. */
static sorted sort_routing(lr_worker *w, uint32_t slot, uint8_t rows, uint32_t k)
{
    const lr_code *c = &w->x->c;
    uint32_t n_expert = c->n_expert, n = lr_rows_of(w->x, rows);
    uint32_t *base = (uint32_t *)(void *)(w->scratch + c->at_sort);
    sorted s = {base, base + n_expert + 1, base + 3 * (size_t)n_expert + 2, 0};
    if (w->sorted != slot) {
        w->sorted = slot;
        memset(s.start, 0, (n_expert + 1) * sizeof *s.start);
        for (uint32_t t = 0; t < n; t++) {
            const uint32_t *r = lr_at(w, slot, t);
            for (uint32_t j = 0; j < k; j++) s.start[r[2 * j] + 1]++;
        }
        for (uint32_t e = 0; e < n_expert; e++) s.start[e + 1] += s.start[e];
        for (uint32_t t = 0; t < n; t++) {
            const uint32_t *r = lr_at(w, slot, t);
            for (uint32_t j = 0; j < k; j++) s.rows[s.start[r[2 * j]]++] = t * k + j;
        }
        memmove(s.start + 1, s.start, n_expert * sizeof *s.start);
        s.start[0] = 0;
    }
    for (uint32_t e = 0; e < n_expert; e++)
        if (s.start[e] < s.start[e + 1]) s.active[s.n_active++] = e;
    return s;
}

static void routed(lr_worker *w, const lr_node *n, const sorted *s, uint32_t e, uint32_t tile0, uint32_t tile1)
{
    const lr_code *c = &w->x->c;
    uint32_t many = s->start[e + 1] - s->start[e];
    const void **xs = xs_of(w);
    float **ys = ys_of(w, many);
    size_t packed = c->k->act_bytes(n->actk, n->n);
    for (uint32_t i = 0; i < many; i++) {
        uint32_t row = s->rows[s->start[e] + i], tok = row / n->mul, j = row % n->mul;
        xs[i] = (const uint8_t *)lr_at(w, n->in[0], tok) + (n->in_mul > 1 ? j * packed : 0);
        ys[i] = (float *)lr_at(w, n->out, tok) + (size_t)j * n->width;
    }
    lr_mat a = mat_of(w, n, e);
    const float *bias = lr_floats_at(w, n->b_at);
    multiply(w, n, &a, xs, many, tile0, tile1, ys, bias ? bias + (size_t)e * n->width : NULL);
}

void lr_run_moe(lr_worker *w, const lr_phase *ph)
{
    const lr_code *c = &w->x->c;
    uint32_t at = (uint32_t)(ph - c->phases);
    uint64_t unit = lr_next(w, at, 1), begin = 0;
    for (uint32_t i = 0; i < ph->n; i++) { /* units are counted through all nodes, experts and pieces of rows */
        const lr_node *n = &c->nodes[c->order[ph->first + i]];
        sorted s = sort_routing(w, n->in[1], n->rows, n->mul);
        uint32_t tiles = (n->width + 15) / 16;
        uint32_t want = LR_MAX(1u, (uint32_t)w->n_thread * 6 / LR_MAX(1u, s.n_active * ph->n));
        uint32_t piece = LR_MAX(1u, (tiles + want - 1) / want), pieces = (tiles + piece - 1) / piece;
        uint64_t end = begin + (uint64_t)s.n_active * pieces;
        while (unit < end) {
            uint32_t u = (uint32_t)(unit - begin), t0 = u % pieces * piece;
            routed(w, n, &s, s.active[u / pieces], t0, LR_MIN(tiles, t0 + piece));
            unit = lr_next(w, at, 1);
        }
        begin = end;
    }
}
