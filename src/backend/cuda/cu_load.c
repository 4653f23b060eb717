/* cu_load.c - weights from their file to the card: read by all threads into pinned buffers, in pieces, while the piece
 * before is on its way. */
#include "card.h"

enum { BUFFERS = 3 };
#define PIECE (64 * LR_MIB)

typedef struct loader {
    lr_exec *x;
    uint8_t *room[BUFFERS];
    cudaEvent_t sent[BUFFERS];
    uint32_t turn;
    /* the piece under way: rows [r0, r1) of one matrix, or lines of its second plane */
    const lr_tensor *t;
    const uint8_t *from;
    uint64_t r0, r1, row, from_stride, to_stride;
    bool turned;
} loader;

/* A row whose columns lie apart (formats of one weight to a block). */
static void turn_row(const loader *l, uint64_t r, uint8_t *to)
{
    size_t size = lr_fmt_get(l->t->fmt)->bytes;
    for (uint64_t k = 0; k < l->t->ne[0]; k++)
        memcpy(to + k * size, l->from + r * l->t->row_stride + k * l->t->col_stride, size);
}

static void read_share(void *user, int thread, int n_thread)
{
    const loader *l = user;
    uint64_t n = l->r1 - l->r0, a = l->r0 + n * (uint64_t)thread / (uint64_t)n_thread,
             b = l->r0 + n * ((uint64_t)thread + 1) / (uint64_t)n_thread;
    uint8_t *to = l->room[l->turn] + (a - l->r0) * l->to_stride;
    if (a == b) return;
    if (!l->turned && l->from_stride == l->row && l->to_stride == l->row) {
        lr_read_bytes(l->from + a * l->row, (size_t)((b - a) * l->row), to);
        return;
    }
    for (; a < b; a++, to += l->to_stride) {
        if (l->turned) turn_row(l, a, to);
        else lr_read_bytes(l->from + a * l->from_stride, (size_t)l->row, to);
        memset(to + l->row, 0, (size_t)(l->to_stride - l->row));
    }
}

/* n rows to `to` on the card, in as many pieces as it takes. */
static cudaError_t send(loader *l, uint64_t n, uint8_t *to)
{
    uint64_t most = LR_MAX(PIECE / l->to_stride, 1u);
    for (l->r0 = 0; l->r0 < n; l->r0 = l->r1) {
        l->r1 = LR_MIN(n, l->r0 + most);
        cudaError_t e = cudaEventSynchronize(l->sent[l->turn]);
        if (e) return e;
        lr_pool_run(l->x->pool, read_share, l);
        e = cudaMemcpyAsync(to + l->r0 * l->to_stride, l->room[l->turn], (l->r1 - l->r0) * l->to_stride,
                            cudaMemcpyHostToDevice, l->x->stream);
        if (!e) e = cudaEventRecord(l->sent[l->turn], l->x->stream);
        if (e) return e;
        l->turn = (l->turn + 1) % BUFFERS;
    }
    return cudaSuccess;
}

static cudaError_t send_matrix(loader *l, const lr_cu_placed *p, uint64_t m)
{
    const lr_tensor *t = p->t;
    uint8_t *to = l->x->weights;
    l->t = t;
    l->from = lr_tensor_mat(t, m);
    l->turned = t->col_stride != 0;
    l->from_stride = t->row_stride;
    l->row = lr_fmt_row_bytes(t->fmt, t->ne[0]);
    l->to_stride = p->row_stride;
    cudaError_t e = send(l, t->ne[1], to + p->at + m * p->mat_stride);
    if (e || !t->aux) return e;
    l->turned = false;
    l->from = t->aux_mats ? t->aux_mats[m] : t->aux + m * t->aux_mat_stride;
    l->from_stride = t->aux_row_stride;
    l->row = p->aux_line;
    l->to_stride = p->aux_stride;
    return send(l, p->aux_lines, to + p->aux_at + m * p->aux_mat_stride);
}

static cudaError_t send_floats(lr_exec *x)
{
    const lr_program *p = x->c.p;
    size_t n_freq = (size_t)(x->n.freqs / 8);
    float *f = lr_calloc((size_t)x->c.floats + 1, sizeof *f);
    double *d = lr_calloc(n_freq + 1, sizeof *d);
    cudaError_t e = f && d ? cudaSuccess : cudaErrorMemoryAllocation;
    if (!e) {
        lr_code_fill_floats(&x->c, f);
        for (uint32_t r = 0; r < p->n_ropes; r++)
            memcpy(d + x->freq_at[r], p->ropes[r].inv_freq, sizeof *d * (p->ropes[r].n_rot / 2));
        e = cudaMemcpy(x->floats, f, x->n.floats, cudaMemcpyHostToDevice);
        if (!e) e = cudaMemcpy(x->freqs, d, x->n.freqs, cudaMemcpyHostToDevice);
    }
    lr_free(f);
    lr_free(d);
    return e;
}

static cudaError_t send_all(loader *l)
{
    lr_exec *x = l->x;
    uint64_t most = PIECE;
    for (uint32_t i = 0; i < x->n_placed; i++) most = LR_MAX(most, x->placed[i].row_stride);
    for (int i = 0; i < BUFFERS; i++) {
        cudaError_t e = cudaMallocHost((void **)&l->room[i], most);
        if (!e) e = cudaEventCreateWithFlags(&l->sent[i], cudaEventDisableTiming);
        if (e) return e;
    }
    for (uint32_t i = 0; i < x->n_placed; i++)
        for (uint64_t m = 0; m < x->placed[i].t->ne[2]; m++) {
            cudaError_t e = send_matrix(l, &x->placed[i], m);
            if (e) return e;
        }
    return cudaStreamSynchronize(x->stream);
}

larder_status lr_cu_load(lr_exec *x, larder_error *err)
{
    loader l = {.x = x};
    cudaError_t e = send_floats(x);
    if (!e) e = send_all(&l);
    for (int i = 0; i < BUFFERS; i++) {
        if (l.sent[i]) cudaEventDestroy(l.sent[i]);
        if (l.room[i]) cudaFreeHost(l.room[i]);
    }
    LR_CU_TRY(e, "loading the weights");
    return LARDER_OK;
}
