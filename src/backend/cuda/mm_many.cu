/* mm_many.cu - launches products with more rows of x than LR_CU_FEW.
 *
 * Owns: which kernel a product takes, its grid and shared memory, the maps its copies need. Refuses to own: the kernels
 * (many.cuh: Hopper; many_any.cuh: every other generation).
 */
#include <stdlib.h>
#include <string.h>

#include "many.cuh"

enum { UINT16 = 1, SWIZZLE_128 = 3, PROMOTE_256 = 3, MAX_EXPERTS = 1 << 20 };

typedef int (*encode_fn)(lr_cu_map *, int type, uint32_t rank, const void *, const uint64_t *dims,
                         const uint64_t *strides, const uint32_t *box, const uint32_t *steps, int interleave,
                         int swizzle, int l2, int oob);

/* The driver's, found at run time: the program starts without one. */
static encode_fn encoder()
{
    static void *fn;
    cudaDriverEntryPointQueryResult r;
    if (!fn && (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &fn, 12000, cudaEnableDefault, &r) ||
                r != cudaDriverEntryPointSuccess))
        fn = NULL;
    return (encode_fn)fn;
}

static bool encode(lr_cu_map *map, const void *data, const uint64_t dims[3], const uint64_t strides[2],
                   const uint32_t box[3], uint32_t rank, bool swizzle)
{
    static const uint32_t one[3] = {1, 1, 1};
    encode_fn f = encoder();
    return f && !f(map, UINT16, rank, data, dims, strides, box, one, 0, swizzle ? SWIZZLE_128 : 0, PROMOTE_256, 0);
}

static bool map_w(lr_cu_map *map, const lr_cu_mat *w, const lr_cu_many_entry *e, bool routed)
{
    uint64_t bytes = (uint64_t)w->cols * e->row_bytes / e->cols;
    uint64_t dims[3] = {(bytes + 1) / 2, w->rows, routed ? (uint64_t)MAX_EXPERTS : 1};
    uint64_t strides[2] = {w->row_stride, routed ? w->mat_stride : w->row_stride};
    uint32_t box[3] = {e->pitch / 2, MANY_ROWS, 1};
    return encode(map, w->data, dims, strides, box, 3, e->swizzle);
}

static bool map_x(lr_cu_map *map, const uint16_t *x, const lr_cu_mm *m, uint32_t rows)
{
    uint64_t dims[3] = {m->x.stride, m->max_row, 1}, strides[2] = {(uint64_t)m->x.stride * 2, 0};
    uint32_t box[3] = {MANY_STEP, rows, 1};
    return encode(map, x, dims, strides, box, 2, true);
}

/* Which kernel, and rows of x in its tile. */
static uint32_t kind_of(const lr_cu_device *d, const lr_cu_mm *m, uint32_t row_tiles, uint32_t *rows)
{
    static const uint32_t n[MANY_KINDS] = {32, 64, 128, 192, 128};
    uint32_t want = m->k ? m->sort.tile : m->max_row, kind = MANY_SPLIT_32;
    if (m->x.lo) {
        kind = MANY_LO_128;
    } else if (!m->k && (uint64_t)row_tiles * ((want + 191) / 192) * 4 >= (uint64_t)d->n_sm * 3 && want > 128) {
        kind = MANY_WHOLE_192;
    } else {
        while (kind < MANY_SPLIT_128 && n[kind] < want) kind++;
    }
    *rows = n[kind];
    return kind;
}

/* Shares shared memory out: returns its bytes. */
static size_t share(lr_cu_many *a, const lr_cu_device *d, const lr_cu_many_entry *e, uint32_t kind, uint32_t rows)
{
    size_t w = (size_t)MANY_ROWS * e->pitch, x = (size_t)rows * 128 << (kind == MANY_LO_128);
    size_t part = (size_t)rows * MANY_LINE * 4, left = d->smem - MANY_HEAD, used;
    uint32_t slots = (a->chain + MANY_STEP - 1) / MANY_STEP;
    if (kind == MANY_WHOLE_192) {
        a->parts = 0, a->resident = 0, a->w_slots = e->cols > MANY_STEP ? 3 : 5;
    } else {
        a->resident = !a->m.k && a->m.max_row <= rows && slots <= MANY_X_SLOTS &&
                      2 * part + slots * x + 3 * w <= left;
        a->parts = a->resident || 2 * part + 4 * x + 3 * w <= left ? 2 : 1;
        a->x_slots = a->resident ? slots : 4;
        while (!a->resident && a->x_slots > 2 && a->parts * part + a->x_slots * x + 2 * w > left) a->x_slots--;
        a->w_slots = (uint32_t)((left - a->parts * part - a->x_slots * x) / w);
    }
    if (a->w_slots > MANY_W_SLOTS) a->w_slots = MANY_W_SLOTS;
    used = a->w_slots * w + a->parts * part;
    if (kind == MANY_WHOLE_192) a->x_slots = (uint32_t)((left - used) / x);
    return MANY_HEAD + used + a->x_slots * x;
}

static cudaError_t launch(const lr_cu_device *d, lr_cu_many_fn kernel, lr_cu_many *a, uint32_t units, size_t smem,
                          cudaStream_t s)
{
    uint32_t size = a->pair ? a->pair : a->n_chain;
    cudaLaunchAttribute at;
    cudaLaunchConfig_t c = {};
    int n = 0;
    at.id = cudaLaunchAttributeClusterDimension;
    at.val.clusterDim.x = size, at.val.clusterDim.y = 1, at.val.clusterDim.z = 1;
    c.gridDim = dim3(d->n_sm / size * size);
    c.blockDim = dim3(MANY_THREADS);
    c.dynamicSmemBytes = smem;
    c.stream = s;
    c.attrs = &at;
    c.numAttrs = 1;
    cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)smem);
    if (!e) e = cudaOccupancyMaxActiveClusters(&n, (const void *)kernel, &c);
    if (e) return e;
    if (n < 1) return cudaErrorInvalidConfiguration;
    dim3 grid(size * (units && units < (uint32_t)n ? units : (uint32_t)n));
    return lr_cu_launch_clusters(d, kernel, size, grid, dim3(MANY_THREADS), smem, s, *a);
}

static const lr_cu_many_entry *entry_of(uint32_t fmt)
{
    const lr_cu_many_entry *e = lr_cu_many_float(fmt);
    if (!e) e = lr_cu_many_simple(fmt);
    if (!e) e = lr_cu_many_k(fmt);
    return e ? e : lr_cu_many_rest(fmt);
}

static cudaError_t hopper(const lr_cu_device *d, const lr_cu_mm *m, cudaStream_t s)
{
    lr_cu_many a = {};
    const lr_cu_many_entry *e = entry_of(m->w[0].fmt);
    uint32_t rows, kind;
    if (!e) return cudaErrorNotSupported;
    a.m = *m;
    for (uint32_t i = 0; i < m->n; i++) {
        a.first[i + 1] = a.first[i] + (m->w[i].rows + MANY_ROWS - 1) / MANY_ROWS;
        if (!map_w(&a.w[i], &m->w[i], e, m->k > 0)) return cudaErrorInvalidValue;
    }
    kind = kind_of(d, m, a.first[m->n], &rows);
    a.chain = lr_cu_chain(m->w[0].cols);
    a.n_chain = (m->w[0].cols + a.chain - 1) / a.chain;
    a.w_cols = e->cols;
    a.pair = kind == MANY_WHOLE_192 ? 2 : 0;
    size_t smem = share(&a, d, e, kind, rows);
    uint32_t box = rows / (a.pair ? a.pair : 1), tiles = a.first[m->n];
    if (!m->k && (!map_x(&a.x_hi, m->x.hi, m, box) || (m->x.lo && !map_x(&a.x_lo, m->x.lo, m, box))))
        return cudaErrorInvalidValue;
    uint32_t units = m->k ? 0 : (m->max_row + rows - 1) / rows * (a.pair ? (tiles + 1) / 2 : tiles);
    return launch(d, e->kernel[kind], &a, units, smem, s);
}

/* Every other generation, or all if LARDER_CUDA_MANY=any, for tests. */
static bool use_any(const lr_cu_device *d)
{
    const char *s = getenv("LARDER_CUDA_MANY");
    return d->major != 9 || (s && !strcmp(s, "any"));
}

static cudaError_t any(const lr_cu_device *d, const lr_cu_mm *m, cudaStream_t s)
{
    lr_cu_many a = {};
    const lr_cu_many_entry *e = entry_of(m->w[0].fmt);
    if (!e) return cudaErrorNotSupported;
    a.m = *m;
    for (uint32_t i = 0; i < m->n; i++) a.first[i + 1] = a.first[i] + (m->w[i].rows + ANY_ROWS - 1) / ANY_ROWS;
    a.chain = lr_cu_chain(m->w[0].cols);
    size_t smem = 2 * ((size_t)ANY_ROWS * e->any_pitch + ((size_t)ANY_X << (m->x.lo != NULL)));
    uint64_t units = (uint64_t)(m->max_row + ANY_TOKENS - 1) / ANY_TOKENS * a.first[m->n],
             most = (uint64_t)d->n_sm * 4;
    cudaError_t r = cudaFuncSetAttribute(e->any, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)smem);
    if (r) return r;
    dim3 grid((uint32_t)(m->k || units > most ? most : units));
    return lr_cu_launch(d, e->any, grid, dim3(ANY_THREADS), smem, s, a);
}

uint32_t lr_cu_many_tile(const lr_cu_device *d, uint32_t max_row, uint32_t k, uint32_t n_expert)
{
    uint64_t mean = ((uint64_t)max_row * k + n_expert - 1) / n_expert;
    if (use_any(d)) return ANY_TOKENS;
    return mean <= 32 ? 32 : mean <= 64 ? 64 : 128;
}

cudaError_t lr_cu_mm_many(const lr_cu_device *d, const lr_cu_mm *m, cudaStream_t s)
{
    return use_any(d) ? any(d, m, s) : hopper(d, m, s);
}
