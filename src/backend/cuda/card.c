/* card.c - lr_backend_cuda: memory taken as planned, steps filled in and started, the cache's blocks in and out. */
#include "card.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

larder_status lr_cu_fail(cudaError_t e, const char *doing, larder_error *err)
{
    larder_status st = e == cudaErrorMemoryAllocation ? LARDER_NOMEM : LARDER_IO;
    return lr_fail(err, st, "the card, %s: %s", doing, cudaGetErrorString(e));
}

/* Whether the system sees an NVIDIA card is another question than whether CUDA does: on a machine without one, or where
 * CUDA was told which to show, nothing is wrong. */
static larder_status no_card(cudaError_t e, larder_error *err)
{
    bool hidden = e != cudaErrorInsufficientDriver && getenv("CUDA_VISIBLE_DEVICES");
    bool there = !hidden && lr_has_display(0x10de);
    return lr_fail(err, there ? LARDER_UNSUPPORTED : LARDER_NOT_FOUND, "%s: %s",
                   there ? "NVIDIA's card cannot be used" : "no card that CUDA can use",
                   e == cudaErrorInsufficientDriver ? "there is no driver, or one older than this larder's CUDA needs"
                                                    : "its driver shows none");
}

static larder_status ask_first(lr_cu_device *d, larder_error *err)
{
    struct cudaDeviceProp p;
    LR_CU_TRY(cudaGetDeviceProperties(&p, 0), "asking what it is");
    if (p.major < 8)
        return lr_fail(err, LARDER_UNSUPPORTED, "%s is of an older generation (%d.%d) than larder's kernels (8.0)",
                       p.name, p.major, p.minor);
    *d = (lr_cu_device){.n_sm = p.multiProcessorCount,
                        .major = p.major,
                        .minor = p.minor,
                        .smem = p.sharedMemPerBlockOptin,
                        .l2 = (size_t)p.l2CacheSize,
                        .n_bytes = p.totalGlobalMem,
                        .integrated = p.integrated != 0};
    memcpy(d->name, p.name, LR_MIN(sizeof d->name, sizeof p.name));
    LR_CU_TRY(lr_cu_wake(d), "starting a first kernel there");
    return LARDER_OK;
}

/* One that is there and fails leaves nothing open: without it this is a program that computes on the processor. */
static larder_status ask_device(lr_cu_device *d, larder_error *err)
{
    int n = 0;
    cudaError_t e = cudaGetDeviceCount(&n);
    if (e == cudaErrorNoDevice || e == cudaErrorInsufficientDriver || (!e && !n)) return no_card(e, err);
    LR_CU_TRY(e, "looking for it");
    larder_status st = ask_first(d, err);
    if (st) cudaDeviceReset();
    return st;
}

larder_status lr_cu_device_get(lr_cu_device *d, larder_error *err)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static lr_cu_device known;
    static bool is_known;
    pthread_mutex_lock(&lock);
    larder_status st = is_known ? LARDER_OK : ask_device(&known, err);
    is_known = !st;
    *d = known;
    pthread_mutex_unlock(&lock);
    return st;
}

static larder_status cuda_memory(uint64_t *n_free, larder_error *err)
{
    lr_cu_device d;
    size_t room = 0, all = 0;
    LR_TRY(lr_cu_device_get(&d, err));
    LR_CU_TRY(cudaMemGetInfo(&room, &all), "asking for its memory");
    *n_free = room;
    return LARDER_OK;
}

static larder_status cuda_card(larder_card *out, larder_error *err)
{
    lr_cu_device d;
    size_t room = 0, all = 0;
    LR_TRY(lr_cu_device_get(&d, err));
    LR_CU_TRY(cudaMemGetInfo(&room, &all), "asking for its memory");
    *out = (larder_card){.n_bytes = d.n_bytes, .n_free = room, .shared = d.integrated};
    snprintf(out->name, sizeof out->name, "%.100s", d.name);
    snprintf(out->generation, sizeof out->generation, "%d.%d", d.major, d.minor);
    return LARDER_OK;
}

/* ---------------------------------------------------------------- memory */
static void account(const lr_exec *x, lr_account *a)
{
    const lr_cu_sizes *n = &x->n;
    lr_account_add_card(a, "weights", n->weights);
    lr_account_add_card(a, "KV cache", n->cache);
    lr_account_add_card(a, "activations", n->shared + n->step + n->sort);
    lr_account_add_card(a, "attention's parts", n->parts);
    lr_account_add_card(a, "norms and biases", n->floats + n->freqs);
    lr_account_add_card(a, "logits", n->logits);
    lr_account_add(a, "pinned", n->pinned, false);
}

static larder_status cuda_plan(const lr_program *p, const lr_limits *l, lr_account *a, larder_error *err)
{
    lr_exec x = {.pool = NULL};
    LR_TRY(lr_cu_device_get(&x.d, err));
    LR_TRY(lr_cu_code_make(p, l, &x, err));
    account(&x, a);
    lr_code_free(&x.c);
    return LARDER_OK;
}

static void cuda_resident(const lr_exec *x, lr_account *a)
{
    *a = (lr_account){0};
    account(x, a);
}

static cudaError_t take(void *to, uint64_t n)
{
    void **p = to;
    return n ? cudaMalloc(p, (size_t)n) : cudaSuccess;
}

static cudaError_t take_pinned(void *to, uint64_t n)
{
    void **p = to;
    return n ? cudaMallocHost(p, (size_t)n) : cudaSuccess;
}

static cudaError_t take_all(lr_exec *x)
{
    const lr_cu_sizes *n = &x->n;
    cudaError_t e = cudaStreamCreateWithFlags(&x->stream, cudaStreamNonBlocking);
    if (!e) e = take(&x->weights, n->weights);
    if (!e) e = take(&x->cache, n->cache);
    if (!e) e = take(&x->shared, n->shared);
    if (!e) e = take(&x->parts, n->parts);
    if (!e) e = take(&x->floats, n->floats);
    if (!e) e = take(&x->freqs, n->freqs);
    if (!e) e = take(&x->logits, n->logits);
    if (!e) e = take(&x->step, n->step);
    if (!e) e = take(&x->sort, n->sort);
    if (!e) e = take_pinned(&x->step_h, n->step);
    if (!e) e = take_pinned(&x->rows_h, n->embed);
    if (!e) e = take_pinned(&x->logits_h, n->pinned - n->step - n->embed);
    /* what is past a value's end is read as zeros, and what nobody wrote is nobody's secret */
    if (!e && n->shared) e = cudaMemset(x->shared, 0, (size_t)n->shared);
    if (!e && n->cache) e = cudaMemset(x->cache, 0, (size_t)n->cache);
    if (!e && n->parts) e = cudaMemset(x->parts, 0, (size_t)n->parts);
    if (!e) memset(x->step_h, 0, (size_t)n->step);
    if (!e) e = cudaMemset(x->step, 0, (size_t)n->step);
    return e ? e : cudaDeviceSynchronize(); /* the stream does not wait for what the default one was given */
}

static void unmark(lr_exec *x)
{
    for (uint32_t p = 0; x->marks && p <= x->c.n_phase; p++)
        if (x->marks[p]) cudaEventDestroy(x->marks[p]);
    lr_free(x->marks);
    x->marks = NULL;
}

static void cuda_close(lr_exec *x)
{
    if (!x) return;
    if (x->stream) cudaStreamSynchronize(x->stream);
    unmark(x);
    for (int i = 0; i < LR_CU_GRAPHS; i++)
        if (x->graph[i]) cudaGraphExecDestroy(x->graph[i]);
    void *card[] = {x->weights, x->cache, x->shared, x->parts, x->floats, x->freqs, x->logits, x->step, x->sort};
    void *pinned[] = {x->step_h, x->rows_h, x->logits_h};
    for (size_t i = 0; i < LR_LEN(card); i++) cudaFree(card[i]);
    for (size_t i = 0; i < LR_LEN(pinned); i++) cudaFreeHost(pinned[i]);
    if (x->stream) cudaStreamDestroy(x->stream);
    lr_code_free(&x->c);
    lr_free(x);
}

/* ---------------------------------------------------------------- graphs */
static uint32_t most_decoding(const lr_exec *x) { return LR_MIN(LR_MIN(x->c.l.n_seq, x->c.l.n_out), x->c.l.n_tok); }

static cudaError_t capture(lr_exec *x, uint32_t i)
{
    uint32_t n = LR_MIN(1u << i, most_decoding(x));
    lr_cu_size size = {n, n, n, true};
    cudaGraph_t g = NULL;
    cudaError_t e = cudaStreamBeginCapture(x->stream, cudaStreamCaptureModeThreadLocal);
    if (e) return e;
    cudaError_t issued = lr_cu_issue(x, &size, false);
    e = cudaStreamEndCapture(x->stream, &g);
    if (!e) e = issued;
    if (!e) e = cudaGraphInstantiate(&x->graph[i], g, 0);
    if (!e) e = cudaGraphUpload(x->graph[i], x->stream);
    if (g) cudaGraphDestroy(g);
    return e;
}

static cudaError_t capture_all(lr_exec *x)
{
    uint32_t most = most_decoding(x);
    for (uint32_t i = 0; i < LR_CU_GRAPHS && most; i++) {
        cudaError_t e = capture(x, i);
        if (e || 1u << i >= most) return e;
    }
    return cudaSuccess;
}

static larder_status cuda_open(const lr_program *p, const lr_limits *l, lr_pool *pool, lr_exec **out,
                               larder_error *err)
{
    *out = NULL;
    lr_exec *x = lr_calloc(1, sizeof *x);
    if (!x) return LR_NOMEM(err, "the engine");
    x->pool = pool;
    larder_status st = lr_cu_device_get(&x->d, err);
    if (!st) st = lr_cu_code_make(p, l, x, err);
    if (st) {
        lr_free(x);
        return st;
    }
    cudaError_t e = take_all(x);
    if (e) st = lr_cu_fail(e, "taking memory", err);
    if (!st) st = lr_cu_load(x, err);
    if (!st && (e = capture_all(x))) st = lr_cu_fail(e, "preparing its kernels", err);
    if (st) cuda_close(x);
    else *out = x;
    return st;
}

/* ---------------------------------------------------------------- a step */
typedef struct filled {
    lr_cu_size size;
    uint64_t n_bytes; /* of the book that are in use */
} filled;

static uint32_t *book(const lr_exec *x, uint64_t at) { return (uint32_t *)(void *)(x->step_h + at); }

static filled fill(const lr_exec *x, const lr_batch *b)
{
    const lr_cu_book *k = &x->book;
    uint32_t t = 0, units = 0, *pos = book(x, k->pos), *seq = book(x, k->seq);
    bool decode = b->n_tok == b->n_seq && b->n_out == b->n_tok;
    memcpy(book(x, k->ids), b->ids, 4 * (size_t)b->n_tok);
    memcpy(book(x, k->out), b->out, 4 * (size_t)b->n_out);
    for (uint32_t s = 0; s < b->n_seq; s++) {
        const lr_batch_seq *q = &b->seqs[s];
        uint32_t end = q->n_past + q->n_tok, n_block = (end + LR_KV_BLOCK - 1) / LR_KV_BLOCK;
        book(x, k->first)[s] = t;
        book(x, k->unit)[s] = units;
        units += (end + LR_CU_ATTN_CHUNK - 1) / LR_CU_ATTN_CHUNK;
        for (uint32_t i = 0; i < q->n_tok; i++, t++) {
            pos[t] = q->n_past + i;
            seq[t] = s;
        }
        memcpy(book(x, k->blocks) + (size_t)s * k->max_blocks, q->blocks, 4 * (size_t)n_block);
    }
    book(x, k->first)[b->n_seq] = t;
    book(x, k->unit)[b->n_seq] = units;
    *(lr_cu_counts *)(void *)x->step_h = (lr_cu_counts){b->n_tok, b->n_out, b->n_seq, units};
    return (filled){{b->n_tok, b->n_out, b->n_seq, decode}, k->blocks + 4ull * b->n_seq * k->max_blocks};
}

/* Rows of the table of embeddings: looked up in the file, which so need not be on the card. */
typedef struct lookup {
    const lr_exec *x;
    const lr_batch *b;
} lookup;

static void look_up(void *user, int thread, int n_thread)
{
    const lookup *u = user;
    const lr_node *n = &u->x->c.nodes[u->x->embed];
    const lr_tensor *t = n->t;
    uint64_t row = u->x->c.slots[n->out].row_bytes / 4;
    for (uint32_t i = (uint32_t)thread; i < u->b->n_tok; i += (uint32_t)n_thread) {
        uint64_t id = (uint64_t)(uint32_t)u->b->ids[i];
        float *y = u->x->rows_h + i * row;
        lr_decode_row(t->fmt, t->data + id * t->row_stride, lr_tensor_aux(t, 0, id), y, n->width);
        for (uint32_t k = 0; k < n->width && n->op.scale != 1.0f; k++) y[k] *= n->op.scale;
    }
}

static cudaError_t bring(lr_exec *x, const lr_batch *b, const filled *f)
{
    cudaError_t e = cudaMemcpyAsync(x->step, x->step_h, (size_t)f->n_bytes, cudaMemcpyHostToDevice, x->stream);
    if (e || x->embed == UINT32_MAX) return e;
    lookup u = {x, b};
    if (b->n_tok < 16) look_up(&u, 0, 1);
    else lr_pool_run(x->pool, look_up, &u);
    const lr_slot *s = &x->c.slots[x->c.nodes[x->embed].out];
    return cudaMemcpyAsync(x->shared + s->at, x->rows_h, (size_t)(b->n_tok * s->row_bytes), cudaMemcpyHostToDevice,
                           x->stream);
}

static cudaError_t start(lr_exec *x, const lr_batch *b, const filled *f)
{
    uint32_t i = 0;
    while (1u << i < f->size.tok) i++;
    if (f->size.decode && !b->hidden && !x->profiling && i < LR_CU_GRAPHS && x->graph[i])
        return cudaGraphLaunch(x->graph[i], x->stream);
    return lr_cu_issue(x, &f->size, b->hidden);
}

static cudaError_t fetch(lr_exec *x, const lr_batch *b)
{
    const lr_slot *h = &x->c.slots[x->c.hidden];
    const void *from = b->hidden ? (const void *)(x->shared + h->at) : x->logits;
    size_t n = (size_t)(b->n_out * (b->hidden ? h->row_bytes : 4ull * x->c.p->n_vocab));
    cudaError_t e = n ? cudaMemcpyAsync(x->logits_h, from, n, cudaMemcpyDeviceToHost, x->stream) : cudaSuccess;
    return e ? e : cudaStreamSynchronize(x->stream);
}

/* What each phase took; phases that were not run keep their marks of before, and no calls. */
static void note_times(lr_exec *x, const lr_batch *b)
{
    for (uint32_t p = 0; p < x->c.n_phase; p++) {
        lr_phase *ph = &x->c.phases[p];
        float ms = 0.0f;
        if (b->hidden && p > x->c.slots[x->c.hidden].phase) break;
        if (!(ph->rows == LR_ROWS_TOK ? b->n_tok : b->n_out)) continue;
        if (cudaEventElapsedTime(&ms, x->marks[p], x->marks[p + 1]) == cudaSuccess) ph->ns += (uint64_t)(ms * 1e6f);
        lr_code_count(&x->c, ph, b);
    }
}

static larder_status cuda_step(lr_exec *x, const lr_batch *b, const float **logits, larder_error *err)
{
    LR_TRY(lr_code_check(&x->c, b, err));
    LR_CU_TRY(x->fault, "after an earlier fault"); /* a card that has failed stays so */
    filled f = fill(x, b);
    x->fault = bring(x, b, &f);
    if (!x->fault) x->fault = start(x, b, &f);
    if (!x->fault) x->fault = fetch(x, b);
    LR_CU_TRY(x->fault, "computing a step");
    if (x->profiling) note_times(x, b);
    *logits = x->logits_h;
    return LARDER_OK;
}

/* ---------------------------------------------------------------- the cache */
/* A block's pieces of one layer: one per head. */
static void move_block(lr_exec *x, uint32_t block, uint8_t *host, bool in)
{
    for (uint32_t i = 0; i < x->c.n_node; i++) {
        const lr_node *n = &x->c.nodes[i];
        if (n->kind != LR_OP_ATTEND) continue;
        size_t size = n->cache_stride, pitch = size * x->c.l.n_kv_block, heads = n->op.attn.n_head_kv;
        uint8_t *card = x->cache + n->cache_at + (uint64_t)block * size;
        cudaError_t e =
            in ? cudaMemcpy2DAsync(card, pitch, host, size, size, heads, cudaMemcpyHostToDevice, x->stream)
               : cudaMemcpy2DAsync(host, size, card, pitch, size, heads, cudaMemcpyDeviceToHost, x->stream);
        if (e && !x->fault) x->fault = e;
        host += size * heads;
    }
    cudaError_t e = cudaStreamSynchronize(x->stream);
    if (e && !x->fault) x->fault = e;
}

static void cuda_kv_read(lr_exec *x, uint32_t block, uint8_t *out) { move_block(x, block, out, false); }

static void cuda_kv_write(lr_exec *x, uint32_t block, const uint8_t *from)
{
    move_block(x, block, (uint8_t *)(uintptr_t)from, true);
}

static uint64_t cuda_kv_block_bytes(const lr_program *p, larder_kv kv)
{
    return lr_program_block_bytes(p, kv, lr_cu_block_bytes);
}

/* ---------------------------------------------------------------- figures */
static uint64_t cuda_step_bytes(const lr_exec *x, const lr_batch *b) { return lr_code_bytes(&x->c, b); }

/* The step's arrays end in block tables, of which the last word is nobody's between steps. */
static void *scrap(const lr_exec *x) { return x->step + x->n.step - 64; }

static double cuda_read_rate(lr_exec *x)
{
    return lr_cu_read_rate(&x->d, x->weights, x->n.weights, scrap(x), x->stream);
}

static double cuda_peak(lr_exec *x, larder_act kind)
{
    return kind == LARDER_ACT_BF16 ? lr_cu_peak(&x->d, scrap(x), x->stream) : 0.0;
}

static void cuda_profile(lr_exec *x, bool on)
{
    x->profiling = on && x->c.n_phase;
    if (!on) return;
    lr_code_reset(&x->c);
    if (x->marks) return;
    x->marks = lr_calloc(x->c.n_phase + 1, sizeof *x->marks);
    x->profiling = x->marks != NULL;
    for (uint32_t p = 0; x->profiling && p <= x->c.n_phase; p++)
        x->profiling = cudaEventCreate(&x->marks[p]) == cudaSuccess;
}

static uint32_t cuda_profile_read(lr_exec *x, lr_op_time *out, uint32_t cap) { return lr_code_read(&x->c, out, cap); }

const lr_backend lr_backend_cuda = {
    .name = "cuda",
    .memory = cuda_memory,
    .card = cuda_card,
    .measure = lr_cu_measure,
    .plan = cuda_plan,
    .open = cuda_open,
    .resident = cuda_resident,
    .close = cuda_close,
    .step = cuda_step,
    .kv_read = cuda_kv_read,
    .kv_write = cuda_kv_write,
    .kv_block_bytes = cuda_kv_block_bytes,
    .step_bytes = cuda_step_bytes,
    .read_rate = cuda_read_rate,
    .peak = cuda_peak,
    .profile = cuda_profile,
    .profile_read = cuda_profile_read,
};
