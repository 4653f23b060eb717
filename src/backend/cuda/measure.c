/* measure.c - what the card can do when it does nothing else: reading, matrix products, the way to it and back.
 *
 * Owns: the memory that takes, for a moment. Refuses to own: the kernels (peak.cu), keeping what was measured (src/tools).
 */
#include "card.h"

#define MOST_READ (2 * LR_GIB)
#define MOST_SENT (256 * LR_MIB)
enum { TIMES = 5, SCRAP = 256 };

typedef struct rig {
    lr_cu_device d;
    cudaStream_t stream;
    cudaEvent_t begin, end;
    uint8_t *card, *pinned;
    uint64_t n_card, n_pinned;
} rig;

/* Bytes a second of the best of a few copies: what else the way carries makes it slower, never faster. */
static cudaError_t copy_rate(rig *r, enum cudaMemcpyKind kind, double *out)
{
    bool in = kind == cudaMemcpyHostToDevice;
    for (int i = 0; i < TIMES; i++) {
        float ms = 0.0f;
        cudaError_t e = cudaEventRecord(r->begin, r->stream);
        if (!e)
            e = cudaMemcpyAsync(in ? r->card : r->pinned, in ? r->pinned : r->card, (size_t)r->n_pinned, kind,
                                r->stream);
        if (!e) e = cudaEventRecord(r->end, r->stream);
        if (!e) e = cudaEventSynchronize(r->end);
        if (!e) e = cudaEventElapsedTime(&ms, r->begin, r->end);
        if (e) return e;
        if (i && ms > 0.0f) *out = LR_MAX(*out, (double)r->n_pinned / (ms * 1e-3));
    }
    return cudaSuccess;
}

static cudaError_t take(rig *r)
{
    r->n_pinned = LR_MIN(MOST_SENT, r->n_card);
    cudaError_t e = cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking);
    if (!e) e = cudaEventCreate(&r->begin);
    if (!e) e = cudaEventCreate(&r->end);
    if (!e) e = cudaMalloc((void **)&r->card, (size_t)r->n_card + SCRAP);
    if (!e) e = cudaMallocHost((void **)&r->pinned, (size_t)r->n_pinned);
    if (!e) e = cudaMemset(r->card, 1, (size_t)r->n_card + SCRAP);
    if (!e) memset(r->pinned, 1, (size_t)r->n_pinned);
    return e ? e : cudaDeviceSynchronize();
}

static void leave(rig *r)
{
    if (r->card) cudaFree(r->card);
    if (r->pinned) cudaFreeHost(r->pinned);
    if (r->begin) cudaEventDestroy(r->begin);
    if (r->end) cudaEventDestroy(r->end);
    if (r->stream) cudaStreamDestroy(r->stream);
}

larder_status lr_cu_measure(lr_card_rates *out, larder_error *err)
{
    rig r = {.n_card = 0};
    size_t room = 0, all = 0;
    *out = (lr_card_rates){0};
    LR_TRY(lr_cu_device_get(&r.d, err));
    LR_CU_TRY(cudaMemGetInfo(&room, &all), "asking for its memory");
    r.n_card = LR_MIN(MOST_READ, room / 4) / 4096 * 4096;
    if (!r.n_card || r.n_card < 8ull * r.d.l2) /* it would be read out of the card's cache */
        return lr_fail(err, LARDER_NOMEM, "the card has too little free memory to be measured: %.1f MiB",
                       (double)room / (double)LR_MIB);
    cudaError_t e = take(&r);
    if (!e) e = copy_rate(&r, cudaMemcpyHostToDevice, &out->in);
    if (!e) e = copy_rate(&r, cudaMemcpyDeviceToHost, &out->out);
    if (!e) {
        void *scrap = r.card + r.n_card;
        out->read = lr_cu_read_rate(&r.d, r.card, r.n_card, scrap, r.stream);
        out->bf16 = lr_cu_peak(&r.d, scrap, r.stream);
    }
    leave(&r);
    LR_CU_TRY(e, "measuring it");
    return LARDER_OK;
}
