/* cuda_many.cu - mm_many against a slow kernel in the order of docs/decisions/0009, and against float64; and its speed.
 *
 *   cuda_many check [format ...]     every format or those named, at odd shapes, plain and routed
 *   cuda_many time [format ...]      shapes of an 8B model, beside the read bandwidth of the same run
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <vector>
extern "C" {
#include "quant.h"
}
#include "formats.cuh"
#include "launch.cuh"

#define CK(x)                                                                                                          \
    do {                                                                                                               \
        cudaError_t e_ = (x);                                                                                          \
        if (e_) {                                                                                                      \
            printf("%s:%d %s\n", __FILE__, __LINE__, cudaGetErrorString(e_));                                          \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static lr_cu_device dev;

static uint64_t seed = 1;
static uint32_t rnd()
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(seed >> 33);
}
static float gauss()
{
    float s = 0;
    for (int i = 0; i < 4; i++) s += (float)(rnd() % 65536) / 65536 - 0.5f;
    return s * 1.7f;
}

/* ---------------------------------------------------------------- weights: blocks drawn from a pool of valid ones */
struct weights {
    uint32_t fmt, rows, cols, n;
    uint64_t stride, mat, aux_stride, aux_mat;
    uint8_t *data, *aux;
};
enum { POOL = 256 }; /* pieces of 256 columns */

__global__ void fill_w(uint8_t *w, const uint8_t *pool, uint64_t stride, uint64_t lines, uint32_t row_bytes,
                       uint32_t piece, uint32_t salt)
{
    for (uint64_t i = blockIdx.x; i < lines; i += gridDim.x)
        for (uint32_t b = threadIdx.x; b < row_bytes; b += blockDim.x) {
            uint32_t h = ((uint32_t)i * 2654435761u + b / piece * 40503u + salt) * 2246822519u;
            w[i * stride + b] = pool[(h >> 13) % POOL * piece + b % piece];
        }
}

static std::vector<uint8_t> make_pool(uint32_t fmt, uint32_t *piece)
{
    static std::vector<uint8_t> made[512];
    uint32_t bytes = (uint32_t)lr_fmt_row_bytes(fmt, 256);
    std::vector<uint8_t> &p = made[fmt];
    *piece = bytes;
    if (!p.empty()) return p;
    p.resize((size_t)POOL * bytes);
    std::vector<float> row(256);
    for (int i = 0; i < POOL; i++) {
        uint8_t *q = &p[(size_t)i * bytes];
        if (fmt == LR_FMT_F8_E4M3 || fmt == LR_FMT_F8_E4M3_B128 || fmt == LR_FMT_MXFP4_PAIRS) {
            for (uint32_t b = 0; b < bytes; b++) {
                q[b] = (uint8_t)rnd();
                if (fmt != LR_FMT_MXFP4_PAIRS && (q[b] & 0x7f) == 0x7f) q[b] = 0x30;
            }
            continue;
        }
        larder_error err = {};
        for (auto &f : row) f = gauss() * 0.05f;
        if (lr_fmt_can_encode(fmt)) {
            if (lr_encode_row(fmt, row.data(), q, 256, NULL, &err)) exit(2);
            continue;
        }
        for (uint32_t b = 0; b < bytes; b++) q[b] = (uint8_t)rnd();
        uint32_t block = lr_fmt_get(fmt)->bytes, d[2] = {0, 0};
        if (fmt == LR_FMT_Q3_K) d[0] = d[1] = 108;
        if (fmt == LR_FMT_Q6_K) d[0] = d[1] = 208;
        if (fmt == LR_FMT_Q2_K) d[0] = 80, d[1] = 82;
        if (fmt == LR_FMT_Q4_K || fmt == LR_FMT_Q5_K || fmt == LR_FMT_Q4_1 || fmt == LR_FMT_Q5_1) d[1] = 2;
        for (uint32_t b = 0; b < bytes; b += block) {
            if (fmt == LR_FMT_MXFP4) {
                q[b] = (uint8_t)(118 + rnd() % 6);
                continue;
            }
            if (fmt == LR_FMT_NVFP4) {
                for (int k = 0; k < 4; k++) q[b + k] = (uint8_t)(0x20 + rnd() % 32);
                continue;
            }
            for (int k = 0; k < 2; k++) {
                uint16_t h = lr_f32_to_f16(0.001f + 0.0001f * (float)(rnd() % 100));
                memcpy(q + b + d[k], &h, 2);
            }
        }
    }
    return p;
}

static weights make_w(uint32_t fmt, uint32_t rows, uint32_t cols, uint32_t n, uint32_t pad)
{
    weights w = {fmt, rows, cols, n};
    uint32_t piece, row_bytes = (uint32_t)lr_fmt_row_bytes(fmt, cols);
    std::vector<uint8_t> pool = make_pool(fmt, &piece);
    uint8_t *dp;
    w.stride = (row_bytes + 15) / 16 * 16 + pad;
    w.mat = w.stride * rows;
    CK(cudaMalloc(&w.data, w.mat * n));
    CK(cudaMemset(w.data, 0xff, w.mat * n));
    CK(cudaMalloc(&dp, pool.size()));
    CK(cudaMemcpy(dp, pool.data(), pool.size(), cudaMemcpyHostToDevice));
    fill_w<<<1320, 256>>>(w.data, dp, w.stride, (uint64_t)rows * n, row_bytes, piece, rnd());
    CK(cudaDeviceSynchronize());
    CK(cudaFree(dp));
    uint32_t per = lr_fmt_aux_bytes(fmt);
    if (per || fmt == LR_FMT_F8_E4M3) {
        uint32_t block = lr_fmt_get(fmt)->block, each = per ? (cols + block - 1) / block : 1;
        w.aux_stride = (uint64_t)each * (per ? per : 4), w.aux_mat = w.aux_stride * rows;
        std::vector<uint8_t> a(w.aux_mat * n);
        if (per == 1)
            for (auto &b : a) b = (uint8_t)(118 + rnd() % 6);
        else
            for (size_t i = 0; i < a.size(); i += 4) {
                float f = 0.001f * (float)(1 + rnd() % 20);
                memcpy(&a[i], &f, 4);
            }
        CK(cudaMalloc(&w.aux, a.size()));
        CK(cudaMemcpy(w.aux, a.data(), a.size(), cudaMemcpyHostToDevice));
    }
    return w;
}

static void free_w(weights &w)
{
    CK(cudaFree(w.data));
    if (w.aux) CK(cudaFree(w.aux));
}

static lr_cu_mat mat_of(const weights &w, float *y, uint32_t y_stride, const float *bias)
{
    lr_cu_mat m = {};
    m.fmt = w.fmt, m.rows = w.rows, m.cols = w.cols, m.data = w.data, m.aux = w.aux;
    m.row_stride = w.stride, m.mat_stride = w.mat, m.aux_stride = w.aux_stride, m.aux_mat_stride = w.aux_mat;
    m.bias = bias, m.y = y, m.y_stride = y_stride;
    return m;
}

/* ---------------------------------------------------------------- rows of x */
struct input {
    uint32_t rows, cols, stride;
    std::vector<uint16_t> hi, lo; /* not turned */
    std::vector<float> scale;
    uint16_t *d_hi, *d_lo;
    float *d_scale;
};

static bool is_bf16(uint32_t fmt) { return fmt == LR_FMT_BF16 || fmt == LR_FMT_F32; }
static float number(uint16_t h, bool bf) { return bf ? lr_bf16_to_f32(h) : lr_f16_to_f32(h); }

static input make_x(uint32_t rows, uint32_t cols, bool bf, bool lo)
{
    input x;
    x.rows = rows, x.cols = cols, x.stride = (cols + 31) / 32 * 32;
    x.hi.assign((size_t)rows * x.stride, 0), x.lo = x.hi;
    for (uint32_t i = 0; i < rows; i++) {
        x.scale.push_back(bf ? 1.0f : ldexpf(1, (int)(rnd() % 8) - 14));
        for (uint32_t c = 0; c < cols; c++) {
            float f = gauss() * (rnd() % 50 ? 1.0f : 20.0f) * (bf ? 1.0f : 512.0f);
            uint16_t h = bf ? lr_f32_to_bf16(f) : lr_f32_to_f16(f);
            float rest = f - number(h, bf);
            x.hi[(size_t)i * x.stride + c] = h;
            x.lo[(size_t)i * x.stride + c] = bf ? lr_f32_to_bf16(rest) : lr_f32_to_f16(rest);
        }
    }
    std::vector<uint16_t> t(x.hi.size());
    x.d_lo = NULL;
    for (int k = 0; k < (lo ? 2 : 1); k++) {
        const std::vector<uint16_t> &from = k ? x.lo : x.hi;
        for (size_t i = 0; i < t.size(); i++) t[i] = from[i / 32 * 32 + lr_cu_turn((uint32_t)(i % 32))];
        uint16_t **to = k ? &x.d_lo : &x.d_hi;
        CK(cudaMalloc(to, t.size() * 2));
        CK(cudaMemcpy(*to, t.data(), t.size() * 2, cudaMemcpyHostToDevice));
    }
    CK(cudaMalloc(&x.d_scale, rows * 4));
    CK(cudaMemcpy(x.d_scale, x.scale.data(), rows * 4, cudaMemcpyHostToDevice));
    return x;
}

static void free_x(input &x)
{
    CK(cudaFree(x.d_hi));
    CK(cudaFree(x.d_scale));
    if (x.d_lo) CK(cudaFree(x.d_lo));
}

/* ---------------------------------------------------------------- the slow kernel: a warp, 16 rows of W, 8 of x */
template <bool BF> static __device__ void mma(float *d, const uint32_t *a, const uint32_t *b)
{
    if (BF)
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},"
                     "{%0,%1,%2,%3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    else
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},"
                     "{%0,%1,%2,%3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

struct slow_args {
    const uint8_t *data, *aux;
    uint64_t stride, aux_stride;
    uint32_t rows, cols, row_bytes, n_x, x_stride, chain;
    const uint16_t *hi, *lo;
    const float *scale, *bias, *old;
    float *y; /* [n_x][rows] */
};

template <uint32_t FMT> __global__ void slow(slow_args a)
{
    using F = lr_cu_fmt<FMT>;
    constexpr uint32_t pitch = (F::bytes + 15) / 16 * 16 + 16;
    __shared__ __align__(16) uint8_t mem[16 * pitch];
    int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    uint32_t r0 = blockIdx.x * 16, x0 = blockIdx.y * 8, xr = min(x0 + g, a.n_x - 1);
    float d[4] = {0, 0, 0, 0}, y[4] = {0, 0, 0, 0};
    for (uint32_t c = 0; c < a.cols; c += F::span) {
        if (c % a.chain == 0 && c)
            for (int i = 0; i < 4; i++) y[i] += d[i], d[i] = 0;
        __syncwarp();
        for (uint32_t i = lane; i < 16 * F::bytes; i += 32) {
            uint32_t r = min(r0 + i / F::bytes, a.rows - 1), b = c / F::span * F::bytes + i % F::bytes;
            mem[i / F::bytes * pitch + i % F::bytes] = b < a.row_bytes ? a.data[r * a.stride + b] : 0;
        }
        __syncwarp();
        typename F::state s[2];
        for (int i = 0; i < 2; i++) {
            uint32_t r = min(r0 + g + i * 8, a.rows - 1);
            const uint8_t *line = a.aux ? a.aux + r * a.aux_stride : NULL;
            F::begin(s[i], mem + (g + i * 8) * pitch, F::aux(line, c, a.cols), t);
        }
#pragma unroll
        for (int group = 0; group < (int)F::span / 32; group++) {
            uint32_t col = c + group * 32;
            if (col >= a.cols) break;
            uint32_t h[2][4], l[2][4];
            for (int i = 0; i < 2; i++) F::frag(s[i], mem + (g + i * 8) * pitch, group, t, h[i], l[i]);
            for (int k = 0; k < 2; k++) {
                uint32_t op[4] = {h[0][k * 2], h[1][k * 2], h[0][k * 2 + 1], h[1][k * 2 + 1]};
                const uint32_t *x = (const uint32_t *)(a.hi + (uint64_t)xr * a.x_stride + col + k * 16);
                uint32_t b[2] = {x[t], x[t + 4]};
                mma<F::bf16>(d, op, b);
                if (!a.lo) continue;
                x = (const uint32_t *)(a.lo + (uint64_t)xr * a.x_stride + col + k * 16);
                uint32_t bl[2] = {x[t], x[t + 4]};
                mma<F::bf16>(d, op, bl);
                if (!F::has_lo) continue;
                uint32_t ol[4] = {l[0][k * 2], l[1][k * 2], l[0][k * 2 + 1], l[1][k * 2 + 1]};
                mma<F::bf16>(d, ol, b);
            }
        }
    }
    for (int i = 0; i < 4; i++) {
        uint32_t r = r0 + g + i / 2 * 8, x = x0 + t * 2 + i % 2;
        if (r >= a.rows || x >= a.n_x) continue;
        float v = __fmul_rn(y[i] + d[i], a.scale ? a.scale[x] : 1);
        if (a.bias) v = __fadd_rn(v, a.bias[r]);
        if (a.old) v = __fadd_rn(a.old[(uint64_t)x * a.rows + r], v);
        a.y[(uint64_t)x * a.rows + r] = v;
    }
}

static void run_slow(uint32_t fmt, const slow_args &a)
{
    dim3 grid((a.rows + 15) / 16, (a.n_x + 7) / 8);
    switch (fmt) {
#define LR_FMT(name, id, block, bytes)                                                                                 \
    case id: slow<id><<<grid, 32>>>(a); break;
#include "formats.def"
#undef LR_FMT
    }
    CK(cudaGetLastError());
}

/* ---------------------------------------------------------------- checks */
static int failures;
template <typename T> static T *upload(const std::vector<T> &v)
{
    T *p;
    CK(cudaMalloc(&p, v.size() * sizeof(T) + 16));
    CK(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
    return p;
}

/* Relative error of some outputs against float64, of W and x as rounded operands hold them only where that is exact. */
static double far_off(const weights &w, const input &x, bool lo, bool add, const std::vector<float> &bias,
                      const std::vector<float> &old, const std::vector<float> &y, uint32_t y_stride, uint32_t expert)
{
    bool bf = is_bf16(w.fmt);
    double e = 0, n = 0;
    uint64_t bytes = lr_fmt_row_bytes(w.fmt, w.cols);
    std::vector<uint8_t> raw(bytes), aux(w.aux_stride + 1);
    std::vector<float> f(w.cols);
    for (int k = 0; k < 48; k++) {
        uint32_t r = k == 0 ? w.rows - 1 : rnd() % w.rows, i = k == 1 ? x.rows - 1 : rnd() % x.rows;
        CK(cudaMemcpy(raw.data(), w.data + expert * w.mat + r * w.stride, bytes, cudaMemcpyDeviceToHost));
        if (w.aux)
            CK(cudaMemcpy(aux.data(), w.aux + expert * w.aux_mat + r * w.aux_stride, w.aux_stride,
                          cudaMemcpyDeviceToHost));
        lr_decode_row(w.fmt, raw.data(), w.aux ? aux.data() : NULL, f.data(), w.cols);
        double s = 0, size = 0;
        for (uint32_t c = 0; c < w.cols; c++) {
            size_t at = (size_t)i * x.stride + c;
            double v = number(x.hi[at], bf) + (lo ? (double)number(x.lo[at], bf) : 0);
            s += v * f[c];
        }
        s *= x.scale[i];
        if (bias.size()) s += bias[(size_t)expert * w.rows + r];
        if (add) s += old[(size_t)i * y_stride + r];
        size = s - y[(size_t)i * y_stride + r];
        e += size * size, n += s * s;
    }
    return sqrt(e / n);
}

struct plan {
    uint32_t rows, cols, n_row, max_row, mats;
    bool lo, bias, add;
};

static void check_plain(uint32_t fmt, const plan &p, cudaStream_t s)
{
    bool bf = is_bf16(fmt), lo = p.lo || fmt == LR_FMT_F32;
    input x = make_x(p.n_row, p.cols, bf, lo);
    uint32_t stride = p.rows + 5, n_y = p.max_row + 2;
    std::vector<weights> w;
    lr_cu_mm m = {};
    std::vector<float> bias, old((size_t)n_y * stride), got(old.size()), ref((size_t)p.n_row * p.rows);
    std::vector<float> old_ref(ref.size());
    if (p.bias)
        for (uint32_t i = 0; i < p.rows; i++) bias.push_back(gauss());
    for (auto &f : old) f = p.add ? gauss() : NAN;
    for (uint32_t i = 0; i < p.n_row; i++)
        for (uint32_t r = 0; r < p.rows; r++) old_ref[(size_t)i * p.rows + r] = old[(size_t)i * stride + r];
    /* rows of x past n_row: there to be read, worth nothing */
    std::vector<uint16_t> junk((size_t)p.max_row * x.stride, 0x7fff);
    uint16_t *hi = upload(junk), *lo_d = upload(junk);
    CK(cudaMemcpy(hi, x.d_hi, (size_t)p.n_row * x.stride * 2, cudaMemcpyDeviceToDevice));
    if (lo) CK(cudaMemcpy(lo_d, x.d_lo, (size_t)p.n_row * x.stride * 2, cudaMemcpyDeviceToDevice));
    std::vector<uint32_t> count(1, p.n_row);
    uint32_t *d_n = upload(count);
    float *d_bias = p.bias ? upload(bias) : NULL, *d_old = upload(old_ref), *d_ref = upload(ref);
    m.n = p.mats, m.n_row = d_n, m.max_row = p.max_row, m.add = p.add;
    m.x.hi = hi, m.x.lo = lo ? lo_d : NULL, m.x.scale = bf ? NULL : x.d_scale, m.x.stride = x.stride, m.x.turned = true;
    std::vector<float *> y;
    for (uint32_t k = 0; k < p.mats; k++) {
        w.push_back(make_w(fmt, p.rows, p.cols, 1, k * 16));
        y.push_back(upload(old));
        m.w[k] = mat_of(w[k], y[k], stride, d_bias);
    }
    CK(lr_cu_mm_many(&dev, &m, s));
    cudaError_t e = cudaStreamSynchronize(s);
    uint64_t differ = 0, spilt = 0;
    double err = 0;
    for (uint32_t k = 0; k < p.mats; k++) {
        slow_args a = {w[k].data, w[k].aux, w[k].stride, w[k].aux_stride, p.rows, p.cols,
                       (uint32_t)lr_fmt_row_bytes(fmt, p.cols), p.n_row, x.stride, lr_cu_chain(p.cols), x.d_hi, lo ? x.d_lo : NULL,
                       m.x.scale, d_bias, p.add ? d_old : NULL, d_ref};
        CK(e);
        run_slow(fmt, a);
        CK(cudaMemcpy(ref.data(), d_ref, ref.size() * 4, cudaMemcpyDeviceToHost));
        CK(cudaMemcpy(got.data(), y[k], got.size() * 4, cudaMemcpyDeviceToHost));
        for (uint32_t i = 0; i < n_y; i++)
            for (uint32_t r = 0; r < stride; r++) {
                const float *v = &got[(size_t)i * stride + r];
                if (i < p.n_row && r < p.rows)
                    differ += memcmp(v, &ref[(size_t)i * p.rows + r], 4) != 0;
                else
                    spilt += memcmp(v, &old[(size_t)i * stride + r], 4) != 0;
            }
        err = std::max(err, far_off(w[k], x, lo, p.add, bias, old, got, stride, 0));
    }
    bool bad = differ || spilt || !(err < (fmt == LR_FMT_F32 ? 1e-4 : 2e-3));
    failures += bad;
    printf("%s %-12s %5u x %-5u rows of x %4u of %4u mats %u%s%s%s: %llu differ, %llu stray, error %.1e\n",
           bad ? "BAD " : "ok  ", lr_fmt_get(fmt)->name, p.rows, p.cols, p.n_row, p.max_row, p.mats, lo ? " lo" : "",
           p.bias ? " bias" : "", p.add ? " add" : "", (unsigned long long)differ, (unsigned long long)spilt, err);
    for (uint32_t k = 0; k < p.mats; k++) {
        free_w(w[k]);
        CK(cudaFree(y[k]));
    }
    for (void *q : {(void *)hi, (void *)lo_d, (void *)d_n, (void *)d_bias, (void *)d_old, (void *)d_ref})
        if (q) CK(cudaFree(q));
    free_x(x);
}

/* rows of x drawn to experts: fills the sort's arrays */
struct routing {
    std::vector<uint32_t> rows, tiles, n;
    uint32_t *d_rows, *d_tiles, *d_n;
};
static routing make_routing(uint32_t n_tok, uint32_t k, uint32_t n_expert, uint32_t tile)
{
    routing r;
    std::vector<std::vector<uint32_t>> of(n_expert);
    for (uint32_t i = 0; i < n_tok; i++) {
        std::vector<uint32_t> all(n_expert);
        for (uint32_t e = 0; e < n_expert; e++) all[e] = e;
        for (uint32_t j = 0; j < k; j++) {
            std::swap(all[j], all[j + rnd() % (n_expert - j)]);
            of[all[j]].push_back(i * k + j);
        }
    }
    uint32_t n = 0;
    for (uint32_t e = 0; e < n_expert; e++)
        for (uint32_t at = 0; at < of[e].size(); at += tile, n++) {
            uint32_t many = std::min(tile, (uint32_t)of[e].size() - at);
            r.tiles.insert(r.tiles.end(), {e, (uint32_t)r.rows.size(), many});
            r.rows.insert(r.rows.end(), of[e].begin() + at, of[e].begin() + at + many);
        }
    r.n.push_back(n);
    r.d_rows = upload(r.rows), r.d_tiles = upload(r.tiles), r.d_n = upload(r.n);
    return r;
}

static void check_routed(uint32_t fmt, uint32_t rows, uint32_t cols, uint32_t n_tok, uint32_t k, uint32_t n_expert,
                         bool own, bool lo, cudaStream_t s)
{
    bool bf = is_bf16(fmt);
    lo = lo || fmt == LR_FMT_F32;
    uint32_t tile = lr_cu_many_tile(&dev, n_tok, k, n_expert), n_x = own ? n_tok * k : n_tok, n_y = n_tok * k;
    input x = make_x(n_x, cols, bf, lo);
    weights w = make_w(fmt, rows, cols, n_expert, 0);
    routing r = make_routing(n_tok, k, n_expert, tile);
    std::vector<float> bias, old((size_t)n_y * rows, NAN), got(old.size()), ref((size_t)n_x * rows);
    for (uint32_t i = 0; i < rows * n_expert; i++) bias.push_back(gauss());
    std::vector<uint32_t> count(1, n_tok);
    uint32_t *d_n = upload(count);
    float *d_bias = upload(bias), *y = upload(old), *d_ref = upload(ref);
    lr_cu_mm m = {};
    m.n = 1, m.n_row = d_n, m.max_row = n_tok, m.k = k, m.in_mul = own ? k : 1;
    m.x.hi = x.d_hi, m.x.lo = lo ? x.d_lo : NULL, m.x.scale = bf ? NULL : x.d_scale, m.x.stride = x.stride;
    m.x.turned = true;
    m.sort.rows = r.d_rows, m.sort.tiles = r.d_tiles, m.sort.n_tile = r.d_n, m.sort.tile = tile;
    m.w[0] = mat_of(w, y, rows, d_bias);
    CK(lr_cu_mm_many(&dev, &m, s));
    CK(cudaStreamSynchronize(s));
    CK(cudaMemcpy(got.data(), y, got.size() * 4, cudaMemcpyDeviceToHost));
    uint64_t differ = 0;
    for (uint32_t e = 0; e < n_expert; e++) {
        slow_args a = {w.data + e * w.mat, w.aux ? w.aux + e * w.aux_mat : NULL, w.stride, w.aux_stride, rows, cols,
                       (uint32_t)lr_fmt_row_bytes(fmt, cols), n_x, x.stride, lr_cu_chain(cols), x.d_hi, lo ? x.d_lo : NULL, m.x.scale,
                       d_bias + (size_t)e * rows, NULL, d_ref};
        run_slow(fmt, a);
        CK(cudaMemcpy(ref.data(), d_ref, ref.size() * 4, cudaMemcpyDeviceToHost));
        for (uint32_t q = 0; q < r.n[0]; q++) {
            if (r.tiles[q * 3] != e) continue;
            for (uint32_t i = 0; i < r.tiles[q * 3 + 2]; i++) {
                uint32_t yr = r.rows[r.tiles[q * 3 + 1] + i], xr = own ? yr : yr / k;
                for (uint32_t c = 0; c < rows; c++)
                    differ += memcmp(&got[(size_t)yr * rows + c], &ref[(size_t)xr * rows + c], 4) != 0;
            }
        }
    }
    failures += differ != 0;
    printf("%s %-12s %5u x %-5u routed %u of %u, %u tokens, tile %u%s%s: %llu differ\n", differ ? "BAD " : "ok  ",
           lr_fmt_get(fmt)->name, rows, cols, k, n_expert, n_tok, tile, own ? " own" : "", lo ? " lo" : "",
           (unsigned long long)differ);
    free_w(w);
    free_x(x);
    for (void *q : {(void *)r.d_rows, (void *)r.d_tiles, (void *)r.d_n, (void *)d_n, (void *)d_bias, (void *)y, (void *)d_ref})
        CK(cudaFree(q));
}

static void check(uint32_t fmt, cudaStream_t s)
{
    uint32_t block = lr_fmt_get(fmt)->block, odd = block > 32 ? block : 32;
    const plan plans[] = {
        {130, 512, 9, 9, 1, false, false, false},       {256, odd * 3, 33, 33, 2, false, true, false},
        {200, 2816, 64, 64, 1, false, false, true},     {384, 4096, 100, 128, 3, false, true, true},
        {256, 4096 + odd, 60, 64, 1, false, true, false}, {260, odd, 17, 32, 1, false, false, false},
        {2304, 2048 + odd, 1500, 1600, 1, false, true, true}, {136, 1536, 300, 300, 2, true, true, false},
        {5000, 2304, 700, 800, 2, false, false, false},
    };
    for (const plan &p : plans) check_plain(fmt, p, s);
    check_routed(fmt, 320, 768, 100, 4, 8, false, false, s);
    check_routed(fmt, 200, 2880 / block * block, 70, 2, 5, true, false, s);
    check_routed(fmt, 130, 1024, 600, 3, 4, false, true, s);
}

/* ---------------------------------------------------------------- speed */
__global__ void reads(const uint4 *p, size_t n, uint32_t *o)
{
    uint32_t s = 0;
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x, st = (size_t)gridDim.x * blockDim.x;
    for (; i + 3 * st < n; i += 4 * st) {
        uint4 a = __ldcs(p + i), b = __ldcs(p + i + st), c = __ldcs(p + i + 2 * st), d = __ldcs(p + i + 3 * st);
        s ^= a.x ^ a.y ^ a.z ^ a.w ^ b.x ^ b.y ^ b.z ^ b.w ^ c.x ^ c.y ^ c.z ^ c.w ^ d.x ^ d.y ^ d.z ^ d.w;
    }
    if (s == 0x12345) o[0] = s;
}

static float median_ms(cudaGraphExec_t g, cudaStream_t s, int n)
{
    cudaEvent_t a, b;
    std::vector<float> v;
    CK(cudaEventCreate(&a));
    CK(cudaEventCreate(&b));
    CK(cudaGraphLaunch(g, s));
    for (int i = 0; i < n; i++) {
        float ms;
        CK(cudaEventRecord(a, s));
        CK(cudaGraphLaunch(g, s));
        CK(cudaEventRecord(b, s));
        CK(cudaEventSynchronize(b));
        CK(cudaEventElapsedTime(&ms, a, b));
        v.push_back(ms);
    }
    std::sort(v.begin(), v.end());
    return v[v.size() / 2];
}

static double bandwidth; /* GB/s, measured */

static double time_mm(uint32_t fmt, uint32_t rows, uint32_t cols, uint32_t n_tok, uint32_t k, uint32_t n_expert,
                      cudaStream_t s)
{
    bool bf = is_bf16(fmt);
    uint32_t tile = k ? lr_cu_many_tile(&dev, n_tok, k, n_expert) : 0, n_y = n_tok * (k ? k : 1);
    uint64_t size = lr_fmt_row_bytes(fmt, cols) * rows * (k ? n_expert : 1);
    int copies = (int)std::min<uint64_t>(16, 300000000 / size + 1);
    int reps = (int)std::max<double>(copies, std::min(64.0, 2e12 / (2.0 * rows * cols * n_y)));
    std::vector<weights> w;
    for (int i = 0; i < copies; i++) w.push_back(make_w(fmt, rows, cols, k ? n_expert : 1, 0));
    std::vector<uint16_t> data((size_t)n_tok * cols);
    for (size_t i = 0; i < data.size(); i++)
        data[i] = i > 999983 ? data[i - 999983] : bf ? lr_f32_to_bf16(gauss()) : lr_f32_to_f16(gauss());
    uint16_t *x = upload(data);
    std::vector<float> one(n_tok, 1.0f);
    float *y, *scale = upload(one);
    CK(cudaMalloc(&y, (size_t)n_y * rows * 4));
    std::vector<uint32_t> count(1, n_tok);
    uint32_t *d_n = upload(count);
    lr_cu_mm m = {};
    m.n = 1, m.n_row = d_n, m.max_row = n_tok, m.k = k, m.in_mul = 1;
    m.x.hi = x, m.x.stride = cols, m.x.turned = true, m.x.scale = bf ? NULL : scale;
    routing r = {};
    if (k) {
        r = make_routing(n_tok, k, n_expert, tile);
        m.sort.rows = r.d_rows, m.sort.tiles = r.d_tiles, m.sort.n_tile = r.d_n, m.sort.tile = tile;
    }
    cudaGraph_t g;
    cudaGraphExec_t ge;
    CK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < reps; i++) {
        m.w[0] = mat_of(w[(size_t)(i % copies)], y, rows, NULL);
        CK(lr_cu_mm_many(&dev, &m, s));
    }
    CK(cudaStreamEndCapture(s, &g));
    CK(cudaGraphInstantiate(&ge, g, 0));
    double us = median_ms(ge, s, 5) * 1e3 / reps;
    CK(cudaGraphExecDestroy(ge));
    CK(cudaGraphDestroy(g));
    for (auto &q : w) free_w(q);
    for (void *q : {(void *)x, (void *)y, (void *)scale, (void *)d_n, (void *)r.d_rows, (void *)r.d_tiles, (void *)r.d_n})
        if (q) CK(cudaFree(q));
    printf("%-6s %5u x %-5u T %4u%s: %8.1f us %6.0f GB/s %3.0f%% %6.1f TFLOP/s\n", lr_fmt_get(fmt)->name, rows, cols,
           n_tok, k ? n_expert > 32 ? " 4/128" : " 4/32" : "", us, (double)size / us / 1e3,
           (double)size / us / 1e3 / bandwidth * 100, 2.0 * rows * cols * n_y / us / 1e6);
    return us;
}

static void measure(const std::vector<uint32_t> &formats, cudaStream_t s)
{
    static const uint32_t shapes[4][2] = {{6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}};
    const char *want = getenv("TOKENS");
    std::vector<uint32_t> tokens;
    for (const char *p = want ? want : "16,32,64,128,512,4096"; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
        tokens.push_back((uint32_t)atoi(p));
    for (uint32_t fmt : formats)
        for (uint32_t t : tokens) {
            double us = 0, flop = 0, bytes = 0;
            for (const uint32_t *q : shapes) {
                us += time_mm(fmt, q[0], q[1], t, 0, 0, s);
                flop += 2.0 * q[0] * q[1] * t, bytes += (double)lr_fmt_row_bytes(fmt, q[1]) * q[0];
            }
            printf("%-6s layer         T %4u: %8.1f us %6.0f GB/s %3.0f%% %6.1f TFLOP/s\n", lr_fmt_get(fmt)->name, t, us,
                   bytes / us / 1e3, bytes / us / 1e3 / bandwidth * 100, flop / us / 1e6);
        }
    if (getenv("ROUTED"))
        for (uint32_t n : {32u, 128u})
            for (uint32_t t : {64u, 512u, 4096u}) time_mm(LR_FMT_MXFP4, 2880, 2880, t, 4, n, s);
}

int main(int argc, char **argv)
{
    cudaDeviceProp p;
    CK(cudaGetDeviceProperties(&p, 0));
    dev.n_sm = p.multiProcessorCount, dev.major = p.major, dev.minor = p.minor, dev.smem = p.sharedMemPerBlockOptin;
    dev.l2 = p.l2CacheSize;
    std::vector<uint32_t> formats;
    for (int i = 2; i < argc; i++) formats.push_back(lr_fmt_by_name(argv[i])->id);
    if (formats.empty()) {
#define LR_FMT(name, id, block, bytes) formats.push_back(id);
#include "formats.def"
#undef LR_FMT
    }
    cudaStream_t s;
    CK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    if (argc > 1 && !strcmp(argv[1], "time")) {
        size_t n = (size_t)4 << 30;
        uint4 *q;
        CK(cudaMalloc(&q, n));
        CK(cudaMemset(q, 0x5a, n));
        cudaGraph_t g;
        cudaGraphExec_t ge;
        CK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
        reads<<<2112, 512, 0, s>>>(q, n / 16, (uint32_t *)q);
        CK(cudaStreamEndCapture(s, &g));
        CK(cudaGraphInstantiate(&ge, g, 0));
        bandwidth = (double)n / median_ms(ge, s, 5) / 1e6;
        printf("reads %.0f GB/s\n", bandwidth);
        CK(cudaFree(q));
        measure(formats, s);
    } else {
        for (uint32_t f : formats) check(f, s);
        printf("%d failed\n", failures);
    }
    return failures != 0;
}
