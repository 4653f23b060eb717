/* cuda_attn.c - how fast attention is on a graphics processor: steps of decode at a depth, and prompts.
 *
 *     cuda_attn            a table: us per layer, and the share of the memory's bandwidth (decode) or TFLOP/s (prompt)
 *
 * A graph of LAYERS layers is replayed, each with a cache of its own, so that together they exceed the second-level cache.
 */
#include "cuda.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CU(call) \
    do { \
        cudaError_t e_ = (call); \
        if (e_ != cudaSuccess) { \
            fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(e_)); \
            exit(1); \
        } \
    } while (0)

typedef struct work {
    const char *name;
    uint32_t n_seq, depth, n_tok; /* n_tok: of each sequence; positions depth .. depth + n_tok - 1 */
    uint32_t dim, n_head, n_head_kv, window;
    larder_kv kv;
    bool exact;
} work;

enum { MOST_LAYERS = 16 };
static lr_cu_device dev;

static void *room(size_t n)
{
    void *p;
    CU(cudaMalloc(&p, n));
    return p;
}
static float *noise(size_t n)
{
    float *host = malloc(n * 4), *p = room(n * 4);
    uint64_t x = n;
    for (size_t i = 0; i < n; i++) {
        x = x * 6364136223846793005ull + 1442695040888963407ull;
        host[i] = (float)(x >> 40) * 0x1p-23f - 1.0f;
    }
    CU(cudaMemcpy(p, host, n * 4, cudaMemcpyHostToDevice));
    free(host);
    return p;
}
static uint32_t *give(const uint32_t *from, size_t n)
{
    uint32_t *p = room(n * 4);
    CU(cudaMemcpy(p, from, n * 4, cudaMemcpyHostToDevice));
    return p;
}

static lr_cu_step make_step(const work *w, uint32_t n_block)
{
    uint32_t tok = w->n_seq * w->n_tok, per = (w->depth + w->n_tok + 31) / 32;
    uint32_t *pos = malloc(4 * tok), *seq = malloc(4 * tok), *first = malloc(4 * w->n_seq + 4),
             *unit = malloc(4 * w->n_seq + 4);
    uint32_t *blocks = malloc(4 * (size_t)n_block);
    for (uint32_t i = 0; i < tok; i++) pos[i] = w->depth + i % w->n_tok, seq[i] = i / w->n_tok;
    for (uint32_t i = 0; i <= w->n_seq; i++) {
        first[i] = i * w->n_tok;
        unit[i] = i * ((w->depth + w->n_tok - 1) / LR_CU_ATTN_CHUNK + 1);
    }
    for (uint32_t i = 0; i < n_block; i++) blocks[i] = (uint32_t)((uint64_t)i * 7919 % n_block);
    lr_cu_counts c = {tok, tok, w->n_seq, unit[w->n_seq]};
    lr_cu_step s = {(const lr_cu_counts *)(void *)give((const uint32_t *)(const void *)&c, 4),
                    NULL,
                    give(pos, tok),
                    give(seq, tok),
                    NULL,
                    give(first, w->n_seq + 1),
                    give(unit, w->n_seq + 1),
                    give(blocks, n_block),
                    per};
    free(pos), free(seq), free(first), free(unit), free(blocks);
    return s;
}

static double median_us(cudaGraphExec_t g, cudaStream_t s, int n_layer)
{
    enum { REPS = 15 };
    cudaEvent_t a, b;
    float t[REPS];
    CU(cudaEventCreate(&a));
    CU(cudaEventCreate(&b));
    for (int i = 0; i < 3; i++) CU(cudaGraphLaunch(g, s));
    for (int i = 0; i < REPS; i++) {
        CU(cudaEventRecord(a, s));
        CU(cudaGraphLaunch(g, s));
        CU(cudaEventRecord(b, s));
        CU(cudaEventSynchronize(b));
        CU(cudaEventElapsedTime(&t[i], a, b));
    }
    for (int i = 0; i < REPS; i++)
        for (int j = i; j && t[j] < t[j - 1]; j--) {
            float x = t[j];
            t[j] = t[j - 1], t[j - 1] = x;
        }
    return (double)t[REPS / 2] * 1e3 / n_layer;
}

/* us a layer; with `store`, storing is part of it. */
static double time_of(const lr_cu_attn *layers, int n_layer, bool store, cudaStream_t s)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    CU(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
    for (int i = 0; i < n_layer; i++) {
        if (store) CU(lr_cu_attn_store(&dev, &layers[i], s));
        CU(lr_cu_attn_run(&dev, &layers[i], s));
    }
    CU(cudaStreamEndCapture(s, &graph));
    CU(cudaGraphInstantiate(&exec, graph, 0));
    double us = median_us(exec, s, n_layer);
    CU(cudaGraphExecDestroy(exec));
    CU(cudaGraphDestroy(graph));
    return us;
}

static void run(const work *w, cudaStream_t s, double read)
{
    uint32_t per = (w->depth + w->n_tok + 31) / 32, n_block = per * w->n_seq,
             bytes = lr_cu_block_bytes(w->dim, w->kv);
    size_t tok = (size_t)w->n_seq * w->n_tok, layer = (size_t)bytes * n_block * w->n_head_kv;
    int n_layer = layer * 4 > 400u << 20 ? 4 : MOST_LAYERS;
    uint32_t most = w->depth + w->n_tok;
    uint8_t *cache = room(layer * (size_t)n_layer);
    lr_cu_attn a[MOST_LAYERS] = {{.n_head = w->n_head,
                                  .n_head_kv = w->n_head_kv,
                                  .head_dim = w->dim,
                                  .window = w->window,
                                  .scale = 1.0f / sqrtf((float)w->dim),
                                  .kv = w->kv,
                                  .exact = w->exact,
                                  .head_stride = (uint64_t)bytes * n_block,
                                  .block_stride = bytes,
                                  .q_stride = w->n_head * w->dim,
                                  .k_stride = w->n_head_kv * w->dim,
                                  .v_stride = w->n_head_kv * w->dim,
                                  .out_stride = w->n_head * w->dim,
                                  .max_tok = (uint32_t)tok,
                                  .max_seq = w->n_seq,
                                  .max_ctx = most,
                                  .decode = w->n_tok == 1}};
    a[0].q = noise(tok * w->n_head * w->dim);
    a[0].out = room(tok * w->n_head * w->dim * 4);
    a[0].parts = room(lr_cu_attn_parts(&dev, w->n_head, w->dim, w->n_seq, most) + 16);
    lr_cu_step step = make_step(w, n_block);
    for (int i = 0; i < n_layer; i++) {
        a[i] = a[0];
        a[i].cache = cache + layer * (size_t)i;
    }
    /* the cache is filled by storing every position of every sequence */
    work fill = *w;
    fill.depth = 0, fill.n_tok = most;
    size_t n_fill = (size_t)fill.n_seq * fill.n_tok;
    size_t width = (size_t)w->n_head_kv * w->dim, n_noise = n_fill * 8 + width;
    float *k = noise(n_noise > tok * width ? n_noise : tok * width);
    lr_cu_step all = make_step(&fill, n_block);
    for (int i = 0; i < n_layer; i++) {
        lr_cu_attn f = a[i];
        f.k = f.v = k;
        f.step = all;
        f.k_stride = f.v_stride = 8;
        f.max_tok = (uint32_t)n_fill;
        CU(lr_cu_attn_store(&dev, &f, s));
        a[i].k = a[i].v = k;
        a[i].step = step;
    }
    CU(cudaStreamSynchronize(s));
    double us = time_of(a, n_layer, false, s), both = time_of(a, n_layer, true, s);
    double seen = w->window && w->window < w->depth ? w->window : w->depth + 1;
    double gb = seen * w->n_seq * w->n_head_kv * bytes / 32.0 / 1e3;
    double flop = 0;
    for (uint32_t i = 0; i < w->n_tok; i++) {
        uint32_t p = w->depth + i + 1;
        flop += 4.0 * w->n_seq * w->n_head * w->dim * (w->window && w->window < p ? w->window : p);
    }
    printf("%-34s %8.2f us, with store %8.2f", w->name, us, both);
    if (w->n_tok == 1) printf("  %6.0f GB/s, %3.0f%% of %.0f\n", gb / us, 100 * gb / us / read, read);
    else printf("  %6.1f TFLOP/s\n", flop / us * 1e-6);
    fflush(stdout);
    cudaFree(cache), cudaFree((void *)(uintptr_t)a[0].q), cudaFree(a[0].out), cudaFree(a[0].parts), cudaFree(k);
}

int main(void)
{
    static const work all[] = {
        {"8B decode, 1 x 100", 1, 100, 1, 128, 32, 8, 0, LARDER_KV_F16, false},
        {"8B decode, 1 x 512", 1, 512, 1, 128, 32, 8, 0, LARDER_KV_F16, false},
        {"8B decode, 1 x 4096", 1, 4096, 1, 128, 32, 8, 0, LARDER_KV_F16, false},
        {"8B decode, 1 x 32768", 1, 32768, 1, 128, 32, 8, 0, LARDER_KV_F16, false},
        {"8B decode, 1 x 131000", 1, 131000, 1, 128, 32, 8, 0, LARDER_KV_F16, false},
        {"8B decode, 64 x 512", 64, 512, 1, 128, 32, 8, 0, LARDER_KV_F16, false},
        {"8B decode, 64 x 4096", 64, 4096, 1, 128, 32, 8, 0, LARDER_KV_F16, false},
        {"8B decode, 64 x 16384 (whole)", 64, 16384, 1, 128, 32, 8, 0, LARDER_KV_F16, false},
        {"70B decode, 1 x 512", 1, 512, 1, 128, 64, 8, 0, LARDER_KV_F16, false},
        {"gpt-oss decode, 1 x 512", 1, 512, 1, 64, 64, 8, 0, LARDER_KV_F16, false},
        {"gpt-oss decode, 1 x 512, window", 1, 512, 1, 64, 64, 8, 128, LARDER_KV_F16, false},
        {"gpt-oss decode, 1 x 32768", 1, 32768, 1, 64, 64, 8, 0, LARDER_KV_F16, false},
        {"gemma decode, 1 x 32768, dim 256", 1, 32768, 1, 256, 16, 8, 0, LARDER_KV_F16, false},
        {"8B decode, 1 x 32768, q8_0", 1, 32768, 1, 128, 32, 8, 0, LARDER_KV_Q8_0, false},
        {"8B decode, 1 x 32768, f32", 1, 32768, 1, 128, 32, 8, 0, LARDER_KV_F32, false},
        {"8B prompt 512", 1, 0, 512, 128, 32, 8, 0, LARDER_KV_F16, false},
        {"8B prompt 4096", 1, 0, 4096, 128, 32, 8, 0, LARDER_KV_F16, false},
        {"8B prompt 512 at 32768", 1, 32768, 512, 128, 32, 8, 0, LARDER_KV_F16, false},
        {"gpt-oss prompt 4096", 1, 0, 4096, 64, 64, 8, 0, LARDER_KV_F16, false},
        {"gpt-oss prompt 4096, window", 1, 0, 4096, 64, 64, 8, 128, LARDER_KV_F16, false},
        {"gemma prompt 4096, dim 256", 1, 0, 4096, 256, 16, 8, 0, LARDER_KV_F16, false},
        {"8B prompt 4096, exact", 1, 0, 4096, 128, 32, 8, 0, LARDER_KV_F16, true},
        {"8B prompt 4096, q8_0", 1, 0, 4096, 128, 32, 8, 0, LARDER_KV_Q8_0, false},
        {"8B prompt 4096, f32", 1, 0, 4096, 128, 32, 8, 0, LARDER_KV_F32, false},
    };
    const char *gbs = getenv("LARDER_READ_GBS");
    int v;
    cudaStream_t s;
    CU(cudaDeviceGetAttribute(&dev.n_sm, cudaDevAttrMultiProcessorCount, 0));
    CU(cudaDeviceGetAttribute(&dev.major, cudaDevAttrComputeCapabilityMajor, 0));
    CU(cudaDeviceGetAttribute(&v, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    dev.smem = (size_t)v;
    CU(cudaStreamCreate(&s));
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) run(&all[i], s, gbs ? atof(gbs) : 4535);
    return 0;
}
