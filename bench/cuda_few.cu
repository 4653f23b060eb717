/* cuda_few.cu - lr_cu_mm_few and formats.cuh: checked on a card, then timed.
 *
 *   cuda_few [check] [time] [brief] [formats, as names]        without words: all of it; brief: fewer shapes
 *
 * check: each format's operands against lr_decode_row on random blocks; products against one plain kernel that
 * follows docs/decisions/0009 with W as the A operand (the same bits are wanted) and against sums in double. time:
 * medians over replays of a graph of launches that go through more weights than the L2 holds; the share is of a
 * plain read of memory in the same run. "layer": all products of a layer of an 8B shape, 32 different layers.
 */
#include "formats.cuh"
#include "launch.cuh"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#define CHECK(x) \
    do { \
        cudaError_t e_ = (x); \
        if (e_ != cudaSuccess) { \
            printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #x, cudaGetErrorString(e_)); \
            exit(1); \
        } \
    } while (0)

static lr_cu_device device;
static uint64_t seed = 12345;
static uint32_t rnd()
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(seed >> 33);
}
static float uniform() { return (float)(rnd() % 65536) / 65536; }
static float gauss() { return (uniform() + uniform() + uniform() + uniform() - 2) * 1.7f; }
static int failures;
static bool brief;

template <class T> static T *on_card(const std::vector<T> &v)
{
    T *p;
    CHECK(cudaMalloc(&p, v.size() * sizeof(T) + 16));
    CHECK(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
    return p;
}

/* ---------------------------------------------------------------- random weights */
static void put_f16(uint8_t *p, float f)
{
    uint16_t h = lr_f32_to_f16(f);
    memcpy(p, &h, 2);
}

/* One row of random blocks; wide: scales of the whole range that F16 operands allow. */
static void random_row(uint32_t fmt, uint32_t cols, bool wide, uint8_t *row, uint8_t *aux)
{
    const lr_fmt_info *f = lr_fmt_get(fmt);
    uint32_t n_block = cols / f->block;
    for (uint64_t i = 0; i < (uint64_t)n_block * f->bytes; i++) row[i] = (uint8_t)rnd();
    for (uint32_t b = 0; b < n_block; b++) {
        uint8_t *p = row + (uint64_t)b * f->bytes;
        float v = gauss() * 0.05f, d = 0.001f + uniform() * 0.002f, m = uniform() * 0.01f;
        uint16_t h;
        switch (fmt) {
        case LR_FMT_F32: memcpy(p, &v, 4); break;
        case LR_FMT_F16: put_f16(p, v); break;
        case LR_FMT_BF16:
            h = lr_f32_to_bf16(v);
            memcpy(p, &h, 2);
            break;
        case LR_FMT_Q4_1:
        case LR_FMT_Q5_1: put_f16(p, d), put_f16(p + 2, -m * 2); break;
        case LR_FMT_Q4_K:
        case LR_FMT_Q5_K: put_f16(p, d / 16), put_f16(p + 2, m / 63); break;
        case LR_FMT_Q2_K: put_f16(p + 80, d), put_f16(p + 82, m / 15); break;
        case LR_FMT_Q3_K: put_f16(p + 108, d / 8); break;
        case LR_FMT_Q6_K: put_f16(p + 208, d / 64); break;
        case LR_FMT_IQ4_XS: put_f16(p, d / 32); break;
        case LR_FMT_Q8_0:
        case LR_FMT_IQ4_NL: put_f16(p, d / 8); break;
        case LR_FMT_Q4_0:
        case LR_FMT_Q5_0:
        case LR_FMT_IQ2_XXS: put_f16(p, d); break;
        case LR_FMT_MXFP4: p[0] = (uint8_t)(wide ? 92 + rnd() % 50 : 117 + rnd() % 6); break;
        case LR_FMT_MXFP4_PAIRS: aux[b] = (uint8_t)(wide ? 92 + rnd() % 50 : 117 + rnd() % 6); break;
        case LR_FMT_NVFP4:
            for (int i = 0; i < 4; i++) p[i] = (uint8_t)(wide ? rnd() % 127 : 20 + rnd() % 40);
            break;
        case LR_FMT_F8_E4M3:
            if ((p[0] & 0x7f) == 0x7f) p[0] = 3;
            break;
        case LR_FMT_F8_E4M3_B128:
            for (int i = 0; i < 128; i++)
                if ((p[i] & 0x7f) == 0x7f) p[i] = 3;
            v = 0.0001f + uniform() * 0.001f;
            memcpy(aux + 4 * b, &v, 4);
            break;
        }
    }
    if (fmt == LR_FMT_F8_E4M3) {
        float v = 0.0001f + uniform() * 0.001f;
        memcpy(aux, &v, 4);
    }
}

struct matrix { /* on both sides */
    uint32_t fmt, rows, cols, n_mat;
    uint64_t stride, aux_stride, mat_stride, aux_mat_stride;
    std::vector<uint8_t> data, aux;
    uint8_t *d_data, *d_aux;
    uint16_t *hi, *lo; /* operands as the card decodes them: [n_mat * rows][pad] */
    uint32_t pad;
};

static uint64_t aux_bytes(uint32_t fmt, uint32_t cols)
{
    if (fmt == LR_FMT_F8_E4M3) return 4;
    return (uint64_t)lr_fmt_aux_bytes(fmt) * (cols / lr_fmt_get(fmt)->block);
}

static matrix make_matrix(uint32_t fmt, uint32_t rows, uint32_t cols, uint32_t n_mat, bool wide)
{
    matrix m = {};
    m.fmt = fmt, m.rows = rows, m.cols = cols, m.n_mat = n_mat, m.pad = (cols + 31) / 32 * 32;
    m.stride = (lr_fmt_row_bytes(fmt, cols) + 15) / 16 * 16;
    m.aux_stride = aux_bytes(fmt, cols);
    m.mat_stride = m.stride * rows;
    m.aux_mat_stride = m.aux_stride * rows;
    m.data.assign(m.mat_stride * n_mat, 0xff); /* between rows: NaN */
    m.aux.assign(m.aux_mat_stride * n_mat + 16, 0xff);
    for (uint32_t r = 0; r < rows * n_mat; r++)
        random_row(fmt, cols, wide, m.data.data() + r * m.stride, m.aux.data() + r * m.aux_stride);
    m.d_data = on_card(m.data);
    m.d_aux = on_card(m.aux);
    CHECK(cudaMalloc(&m.hi, (size_t)rows * n_mat * m.pad * 2));
    CHECK(cudaMalloc(&m.lo, (size_t)rows * n_mat * m.pad * 2));
    CHECK(cudaMemset(m.lo, 0, (size_t)rows * n_mat * m.pad * 2));
    return m;
}
static void free_matrix(matrix &m) { cudaFree(m.d_data), cudaFree(m.d_aux), cudaFree(m.hi), cudaFree(m.lo); }

/* ---------------------------------------------------------------- operands */
template <uint32_t FMT>
__global__ void decode(const uint8_t *data, uint64_t stride, const uint8_t *aux, uint64_t aux_stride, uint32_t rows,
                       uint32_t cols, uint32_t n_byte, uint16_t *hi, uint16_t *lo, uint32_t pad)
{
    typedef lr_cu_fmt<FMT> fmt;
    extern __shared__ __align__(16) uint8_t sm[];
    uint32_t row = blockIdx.x * 8 + threadIdx.x / 4, t = threadIdx.x % 4, col = blockIdx.y * fmt::span;
    uint32_t off = blockIdx.y * fmt::bytes, pitch = (fmt::bytes + 31) / 16 * 16;
    uint8_t *at = sm + threadIdx.x / 4 * pitch + off % 16;
    const uint8_t *src = data + min(row, rows - 1) * stride;
    for (uint32_t i = t; i < fmt::bytes; i += 4) at[i] = off + i < n_byte ? src[off + i] : 0;
    __syncwarp();
    typename fmt::state s;
    fmt::begin(s, at, fmt::aux(aux ? aux + min(row, rows - 1) * aux_stride : NULL, col, cols), t);
#pragma unroll
    for (uint32_t g = 0; g < fmt::span / 32; g++) {
        uint32_t h[4], l[4] = {}, c = col + 32 * g + 8 * t;
        fmt::frag(s, at, g, t, h, l);
        if (row >= rows || c >= pad) continue;
        for (int i = 0; i < 4; i++) {
            *(uint32_t *)(hi + (size_t)row * pad + c + 2 * i) = h[i];
            if (fmt::has_lo) *(uint32_t *)(lo + (size_t)row * pad + c + 2 * i) = l[i];
        }
    }
}

template <uint32_t FMT> static void run_decode(const matrix &m)
{
    typedef lr_cu_fmt<FMT> fmt;
    dim3 grid((m.rows * m.n_mat + 7) / 8, (m.cols + fmt::span - 1) / fmt::span);
    decode<FMT><<<grid, 32, 8 * ((fmt::bytes + 31) / 16 * 16) + 16>>>(
        m.d_data, m.stride, m.aux_stride ? m.d_aux : NULL, m.aux_stride, m.rows * m.n_mat, m.cols,
        (uint32_t)lr_fmt_row_bytes(m.fmt, m.cols), m.hi, m.lo, m.pad);
    CHECK(cudaGetLastError());
}

static void decode_all(const matrix &m)
{
    switch (m.fmt) {
#define LR_FMT(name, id, block, bytes) \
    case id: \
        run_decode<id>(m); \
        break;
#include "formats.def"
#undef LR_FMT
    }
    CHECK(cudaDeviceSynchronize());
}

static float operand(uint32_t fmt, uint16_t h)
{
    return lr_cu_takes_bf16(fmt) ? lr_bf16_to_f32(h) : lr_f16_to_f32(h);
}

static void check_format(uint32_t fmt)
{
    matrix m = make_matrix(fmt, 64, 1024, 1, true);
    std::vector<uint16_t> hi((size_t)64 * m.pad), lo(hi.size());
    decode_all(m);
    CHECK(cudaMemcpy(hi.data(), m.hi, hi.size() * 2, cudaMemcpyDeviceToHost));
    CHECK(cudaMemcpy(lo.data(), m.lo, lo.size() * 2, cudaMemcpyDeviceToHost));
    uint32_t differ = 0, bad = 0;
    double square = 0, diff = 0, worst = 0;
    for (uint32_t r = 0; r < 64; r++) {
        std::vector<float> want(1024);
        lr_decode_row(fmt, &m.data[r * m.stride], m.aux_stride ? &m.aux[r * m.aux_stride] : NULL, want.data(), 1024);
        for (uint32_t c = 0; c < 1024; c++) {
            float got = operand(fmt, hi[r * m.pad + c]) + (fmt == LR_FMT_F32 ? operand(fmt, lo[r * m.pad + c]) : 0);
            float once = lr_cu_takes_bf16(fmt) ? lr_bf16_to_f32(lr_f32_to_bf16(want[c]))
                                               : lr_f16_to_f32(lr_f32_to_f16(want[c]));
            float top = 0;
            for (uint32_t i = c / 32 * 32; i < c / 32 * 32 + 32; i++) top = fmaxf(top, fabsf(want[i]));
            if (fmt == LR_FMT_F32) once = got;
            differ += memcmp(&got, &once, 4) != 0 && !(got == 0 && once == 0);
            double e = fabs((double)got - want[c]);
            bool held = fabsf(once) < INFINITY;
            if (held) worst = fmax(worst, e / (top + 1e-7)), diff += e * e, square += (double)want[c] * want[c];
            bad += !(got == got) || (held && e > top * 0x1p-9 + 0x1p-24);
        }
    }
    printf("%-13s operands: %5u of 65536 not rounded once, worst %.2e of a group's largest, rms %.2e%s\n",
           lr_fmt_get(fmt)->name, differ, worst, sqrt(diff / square), bad ? "  WRONG" : "");
    failures += bad != 0;
    free_matrix(m);
}

/* ---------------------------------------------------------------- the plain product */
__device__ void mma16(float c[4], const uint32_t a[4], const uint32_t b[2], bool bf16)
{
    if (bf16)
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                     "{%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    else
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                     "{%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* One warp: 16 rows of W [rows][pad], one row of x; the columns of each product in rising order. */
__global__ void plain(const uint16_t *hi, const uint16_t *lo, uint32_t rows, uint32_t cols, uint32_t pad,
                      const uint16_t *xh, const uint16_t *xl, float scale, const float *bias, const float *old,
                      uint32_t chain, bool bf16, bool w_lo, float *y, double *exact)
{
    uint32_t g = threadIdx.x / 4, t = threadIdx.x % 4, row0 = blockIdx.x * 16;
    float sum[2] = {0, 0};
    for (uint32_t c0 = 0; c0 < cols; c0 += chain) {
        float c[4] = {};
        for (uint32_t col = c0; col < min(c0 + chain, pad); col += 32)
            for (int p = 0; p < 2; p++) {
                uint32_t a[4], al[4], b[2], bl[2];
                for (int i = 0; i < 4; i++) {
                    uint32_t r = min(row0 + g + 8 * (i & 1), rows - 1), k = 2 * t + 8 * (i / 2);
                    size_t at = (size_t)r * pad + col + k / 4 * 8 + 4 * p + k % 4;
                    a[i] = *(const uint32_t *)(hi + at);
                    al[i] = *(const uint32_t *)(lo + at);
                }
                for (int i = 0; i < 2; i++) {
                    uint32_t k = 2 * t + 8 * i, at = col + k / 4 * 8 + 4 * p + k % 4;
                    b[i] = g == 0 ? *(const uint32_t *)(xh + at) : 0;
                    bl[i] = g == 0 && xl ? *(const uint32_t *)(xl + at) : 0;
                }
                mma16(c, a, b, bf16);
                if (xl) mma16(c, a, bl, bf16);
                if (w_lo) mma16(c, al, b, bf16);
            }
        for (int i = 0; i < 2; i++) sum[i] = c0 ? __fadd_rn(sum[i], c[2 * i]) : c[2 * i];
    }
    for (int i = 0; i < 2 && t == 0; i++) {
        uint32_t r = row0 + g + 8 * i;
        if (r >= rows) continue;
        float v = __fmul_rn(sum[i], scale);
        if (bias) v = __fadd_rn(v, bias[r]);
        if (old) v = __fadd_rn(v, old[r]);
        y[r] = v;
    }
    if (threadIdx.x < 16 && row0 + threadIdx.x < rows) {
        uint32_t r = row0 + threadIdx.x;
        double s = 0;
        for (uint32_t k = 0; k < cols; k++) {
            size_t at = (size_t)r * pad + k;
            float w[2], x[2];
            const uint16_t v[4] = {hi[at], lo[at], xh[k], xl ? xl[k] : (uint16_t)0};
            for (int i = 0; i < 2; i++) {
                w[i] = bf16 ? __uint_as_float((uint32_t)v[i] << 16) : lr_h_float(v[i]);
                x[i] = bf16 ? __uint_as_float((uint32_t)v[2 + i] << 16) : lr_h_float(v[2 + i]);
            }
            s += ((double)w[0] + (w_lo ? w[1] : 0)) * x[0] + (double)w[0] * x[1];
        }
        s *= scale;
        exact[r] = s + (bias ? bias[r] : 0) + (old ? old[r] : 0);
    }
}

/* ---------------------------------------------------------------- products checked */
struct trial {
    uint32_t rows[3], n, cols, n_x;
    bool bias, add, lo;
    uint32_t k, n_expert, in_mul;
};

static void check_product(uint32_t fmt, trial c)
{
    bool bf16 = lr_cu_takes_bf16(fmt);
    c.lo |= lr_cu_takes_lo(fmt);
    uint32_t n_y = c.k ? c.n_x * c.k : c.n_x, n_xr = c.k && c.in_mul != 1 ? n_y : c.n_x, n_e = c.k ? c.n_expert : 1;
    uint32_t pad = (c.cols + 31) / 32 * 32;
    std::vector<uint16_t> xh((size_t)n_xr * pad, 0), xl(xh.size(), 0);
    std::vector<float> scale(n_xr, 1);
    for (uint32_t r = 0; r < n_xr; r++) {
        if (!bf16) scale[r] = ldexpf(1, (int)(rnd() % 9) - 4);
        for (uint32_t i = 0; i < c.cols; i++) {
            float v = gauss(), h;
            xh[r * pad + i] = bf16 ? lr_f32_to_bf16(v) : lr_f32_to_f16(v);
            h = operand(fmt, xh[r * pad + i]);
            xl[r * pad + i] = bf16 ? lr_f32_to_bf16(v - h) : lr_f32_to_f16(v - h);
        }
    }
    uint16_t *d_xh = on_card(xh), *d_xl = on_card(xl);
    float *d_scale = on_card(scale);
    uint32_t n_row = c.n_x, *d_n_row = on_card(std::vector<uint32_t>(1, n_row));
    /* Experts of each row, sorted. */
    std::vector<uint32_t> expert(n_y, 0), rows, tiles;
    if (c.k)
        for (uint32_t i = 0; i < n_y; i++) {
            do {
                expert[i] = rnd() % c.n_expert;
            } while (std::count(expert.begin() + i / c.k * c.k, expert.begin() + i, expert[i]));
        }
    for (uint32_t e = 0; c.k && e < c.n_expert; e++) {
        uint32_t first = (uint32_t)rows.size();
        for (uint32_t i = 0; i < n_y; i++)
            if (expert[i] == e) rows.push_back(i);
        for (uint32_t i = first; i < rows.size(); i += 8) {
            tiles.push_back(e), tiles.push_back(i);
            tiles.push_back(std::min<uint32_t>(8, (uint32_t)rows.size() - i));
        }
    }
    std::vector<uint32_t> n_tile(1, (uint32_t)tiles.size() / 3);
    rows.push_back(0), tiles.push_back(0);
    lr_cu_mm mm = {};
    mm.n = c.n;
    mm.x.hi = d_xh, mm.x.lo = c.lo ? d_xl : NULL, mm.x.scale = bf16 ? NULL : d_scale, mm.x.stride = pad;
    mm.n_row = d_n_row, mm.max_row = 8, mm.add = c.add, mm.k = c.k, mm.in_mul = c.in_mul;
    uint32_t *d_rows = on_card(rows), *d_tiles = on_card(tiles), *d_n_tile = on_card(n_tile);
    mm.sort.rows = d_rows, mm.sort.tiles = d_tiles, mm.sort.n_tile = d_n_tile, mm.sort.tile = 8;
    matrix m[3];
    std::vector<float> y0[3], bias[3];
    float *d_bias[3] = {}, *d_old[3] = {};
    for (uint32_t i = 0; i < c.n; i++) {
        m[i] = make_matrix(fmt, c.rows[i], c.cols, n_e, false);
        decode_all(m[i]);
        y0[i].assign((size_t)n_y * (c.rows[i] + 3), NAN);
        bias[i].resize((size_t)n_e * c.rows[i]);
        for (auto &v : bias[i]) v = gauss();
        if (c.add)
            for (auto &v : y0[i]) v = gauss();
        d_old[i] = on_card(y0[i]);
        d_bias[i] = on_card(bias[i]);
        lr_cu_mat &w = mm.w[i];
        w.fmt = fmt, w.rows = c.rows[i], w.cols = c.cols, w.data = m[i].d_data;
        w.aux = m[i].aux_stride ? m[i].d_aux : NULL;
        w.row_stride = m[i].stride, w.mat_stride = m[i].mat_stride;
        w.aux_stride = m[i].aux_stride, w.aux_mat_stride = m[i].aux_mat_stride;
        w.bias = c.bias ? d_bias[i] : NULL;
        w.y_stride = c.rows[i] + 3;
        w.y = on_card(y0[i]);
    }
    CHECK(lr_cu_mm_few(&device, &mm, 0));
    CHECK(cudaDeviceSynchronize());
    uint32_t differ = 0, spoiled = 0, n_out = 0;
    double diff = 0, square = 0;
    for (uint32_t i = 0; i < c.n; i++) {
        uint32_t R = c.rows[i];
        std::vector<float> y(y0[i].size()), want(R);
        std::vector<double> exact(R);
        float *d_want;
        double *d_exact;
        CHECK(cudaMalloc(&d_want, R * 4));
        CHECK(cudaMalloc(&d_exact, R * 8));
        CHECK(cudaMemcpy(y.data(), mm.w[i].y, y.size() * 4, cudaMemcpyDeviceToHost));
        for (uint32_t j = 0; j < n_y; j++) {
            uint32_t xr = c.k && c.in_mul == 1 ? j / c.k : j, e = expert[j];
            plain<<<(R + 15) / 16, 32>>>(m[i].hi + (size_t)e * R * pad, m[i].lo + (size_t)e * R * pad, R, c.cols, pad,
                                         d_xh + (size_t)xr * pad, c.lo ? d_xl + (size_t)xr * pad : NULL, scale[xr],
                                         c.bias ? d_bias[i] + (size_t)e * R : NULL,
                                         c.add ? d_old[i] + (size_t)j * (R + 3) : NULL, lr_cu_chain(c.cols), bf16,
                                         fmt == LR_FMT_F32, d_want, d_exact);
            CHECK(cudaMemcpy(want.data(), d_want, R * 4, cudaMemcpyDeviceToHost));
            CHECK(cudaMemcpy(exact.data(), d_exact, R * 8, cudaMemcpyDeviceToHost));
            for (uint32_t r = 0; r < R; r++) {
                float got = y[(size_t)j * (R + 3) + r];
                differ += memcmp(&got, &want[r], 4) != 0;
                diff += (got - exact[r]) * (got - exact[r]);
                square += exact[r] * exact[r];
                n_out++;
            }
            spoiled += memcmp(&y[(size_t)j * (R + 3) + R], &y0[i][(size_t)j * (R + 3) + R], 12) != 0;
        }
        cudaFree(d_want), cudaFree(d_exact), cudaFree(mm.w[i].y), cudaFree(d_old[i]), cudaFree(d_bias[i]);
        free_matrix(m[i]);
    }
    double error = sqrt(diff / square);
    if (differ || spoiled || !(error < 1e-5)) {
        failures++;
        printf("%-13s WRONG: rows %u cols %u x %u mats %u k %u lo %d: %u of %u differ, %u spoiled, error %.2e\n",
               lr_fmt_get(fmt)->name, c.rows[0], c.cols, c.n_x, c.n, c.k, c.lo, differ, n_out, spoiled, error);
    }
    cudaFree(d_xh), cudaFree(d_xl), cudaFree(d_scale), cudaFree(d_n_row);
    cudaFree(d_rows), cudaFree(d_tiles), cudaFree(d_n_tile);
}

static void check(uint32_t fmt)
{
    uint32_t block = lr_fmt_get(fmt)->block, thin = block > 32 ? block : 32;
    const trial trials[] = {
        {{100}, 1, 2816, 1, true, false, false, 0, 0, 0},
        {{40, 8, 131}, 3, 4096, 8, false, true, false, 0, 0, 0},
        {{77}, 1, 256, 3, false, false, true, 0, 0, 0},
        {{20}, 1, thin, 5, true, true, false, 0, 0, 0},
        {{3000}, 1, 768, 2, false, false, false, 0, 0, 0},
        {{48, 20}, 2, 512, 4, true, false, false, 4, 9, 1},
        {{33}, 1, 2304, 8, true, true, true, 2, 6, 2},
        {{300}, 1, 14336, 1, false, true, false, 0, 0, 0},
        {{2880}, 1, block > 64 ? 3072u : 2880u, 1, 0, 0, 0, 0, 0, 0},
        {{30}, 1, block == 1 ? 1000u : 1024u, 7, 0, 0, 0, 0, 0, 0},
    };
    for (const trial &t : trials) check_product(fmt, t);
}

/* ---------------------------------------------------------------- time */
__global__ void read_all(const uint4 *p, size_t n, uint32_t *out)
{
    uint32_t s = 0;
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x, step = (size_t)gridDim.x * blockDim.x;
    for (; i + 7 * step < n; i += 8 * step) {
        uint4 v[8];
#pragma unroll
        for (int j = 0; j < 8; j++) v[j] = __ldcs(p + i + j * step);
#pragma unroll
        for (int j = 0; j < 8; j++) s ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
    }
    if (s == 0x12345) *out = s;
}

/* Rows of `n_pattern` patterns, one after the other, all over the pool. */
__global__ void fill(uint4 *p, size_t n, const uint4 *pattern, uint32_t row16, uint32_t n_pattern)
{
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x, step = (size_t)gridDim.x * blockDim.x;
    for (; i < n; i += step) p[i] = pattern[(i / row16 * 5 % n_pattern) * row16 + i % row16];
}

static uint8_t *pool;
static const size_t n_pool = 16ull << 30;
static double bandwidth;
static cudaStream_t stream;

/* Median milliseconds of a graph of what `body` launches. */
template <class F> static double time_graph(F body)
{
    cudaGraph_t g;
    cudaGraphExec_t e;
    cudaEvent_t a, b;
    std::vector<float> ms;
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    body();
    CHECK(cudaStreamEndCapture(stream, &g));
    CHECK(cudaGraphInstantiate(&e, g, 0));
    CHECK(cudaEventCreate(&a));
    CHECK(cudaEventCreate(&b));
    for (int i = 0; i < 7; i++) {
        float t;
        CHECK(cudaEventRecord(a, stream));
        CHECK(cudaGraphLaunch(e, stream));
        CHECK(cudaEventRecord(b, stream));
        CHECK(cudaStreamSynchronize(stream));
        CHECK(cudaEventElapsedTime(&t, a, b));
        if (i) ms.push_back(t);
    }
    CHECK(cudaGraphExecDestroy(e));
    CHECK(cudaGraphDestroy(g));
    std::sort(ms.begin(), ms.end());
    return ms[ms.size() / 2];
}

static uint64_t stride_of(uint32_t fmt, uint32_t cols) { return (lr_fmt_row_bytes(fmt, cols) + 15) / 16 * 16; }

static void fill_pool(uint32_t fmt, uint32_t cols, size_t n)
{
    uint64_t stride = stride_of(fmt, cols);
    std::vector<uint8_t> rows(16 * stride, 0), aux(16 * 4096);
    for (int r = 0; r < 16; r++) random_row(fmt, cols, false, &rows[r * stride], &aux[r * 4096]);
    uint8_t *d = on_card(rows);
    fill<<<device.n_sm * 8, 256, 0, stream>>>((uint4 *)pool, std::min(n, n_pool) / stride * (stride / 16), (uint4 *)d,
                                              (uint32_t)(stride / 16), 16);
    CHECK(cudaStreamSynchronize(stream));
    cudaFree(d);
}

struct inputs {
    uint16_t *x;
    float *scale, *y, *aux;
    uint32_t *n_row; /* 0 .. 8 */
};
static inputs in;

static lr_cu_mm product(uint32_t fmt, uint32_t cols, uint32_t n_x)
{
    lr_cu_mm m = {};
    m.x.hi = in.x, m.x.stride = cols, m.x.scale = lr_cu_takes_bf16(fmt) ? NULL : in.scale;
    m.x.lo = lr_cu_takes_lo(fmt) ? in.x : NULL;
    m.n_row = in.n_row + n_x, m.max_row = 8;
    return m;
}

static uint64_t add_matrix(lr_cu_mm &m, uint32_t fmt, uint32_t rows, uint32_t cols, uint64_t at)
{
    lr_cu_mat &w = m.w[m.n];
    w.fmt = fmt, w.rows = rows, w.cols = cols, w.row_stride = stride_of(fmt, cols);
    w.mat_stride = w.row_stride * rows;
    w.data = pool + at;
    w.aux = lr_fmt_aux_bytes(fmt) || fmt == LR_FMT_F8_E4M3 ? (uint8_t *)in.aux : NULL;
    w.aux_stride = 0;
    w.y = in.y + m.n * 65536 * 8, w.y_stride = rows;
    m.n++;
    return at + w.mat_stride;
}

static void time_shape(uint32_t fmt, uint32_t rows, uint32_t cols, uint32_t n_x)
{
    uint64_t bytes = lr_fmt_row_bytes(fmt, cols) * rows, each = stride_of(fmt, cols) * rows;
    uint32_t n = (uint32_t)std::max<uint64_t>(8, std::min<uint64_t>(64, (2ull << 30) / each));
    fill_pool(fmt, cols, n * each);
    double ms = time_graph([&] {
        for (uint32_t i = 0; i < n; i++) {
            lr_cu_mm m = product(fmt, cols, n_x);
            add_matrix(m, fmt, rows, cols, i * each);
            CHECK(lr_cu_mm_few(&device, &m, stream));
        }
    });
    double us = ms * 1000 / n, rate = bytes / us / 1000;
    printf("%-12s %6u x %5u  rows %u  %8.2f us  %6.0f GB/s  %5.1f%%\n", lr_fmt_get(fmt)->name, rows, cols, n_x, us,
           rate, 100 * rate / bandwidth);
}

/* All products of a layer of an 8B shape, or of a 70B one; `down`: the format of a part of the matrices, as in
 * Q4_K_M. */
static void time_layer(uint32_t fmt, uint32_t wide, uint32_t n_x)
{
    uint32_t e = wide ? 8192 : 4096, kv = 1024, ff = wide ? 28672 : 14336, n = wide ? 12 : 32;
    uint64_t bytes = 0, at = 0;
    fill_pool(fmt, e, n_pool);
    double ms = time_graph([&] {
        for (uint32_t i = 0; i < n; i++) {
            lr_cu_mm m = product(fmt, e, n_x);
            uint64_t begin = at;
            at = add_matrix(m, fmt, e, e, at), at = add_matrix(m, fmt, kv, e, at), at = add_matrix(m, fmt, kv, e, at);
            CHECK(lr_cu_mm_few(&device, &m, stream));
            m = product(fmt, e, n_x);
            at = add_matrix(m, fmt, e, e, at);
            CHECK(lr_cu_mm_few(&device, &m, stream));
            m = product(fmt, e, n_x);
            at = add_matrix(m, fmt, ff, e, at), at = add_matrix(m, fmt, ff, e, at);
            CHECK(lr_cu_mm_few(&device, &m, stream));
            m = product(fmt, ff, n_x);
            at = add_matrix(m, fmt, e, ff, at);
            m.add = true;
            CHECK(lr_cu_mm_few(&device, &m, stream));
            bytes += at - begin;
            if (at + (at - begin) > n_pool) at = 0;
        }
    });
    printf("%-12s %s layers  rows %u  %8.2f us a layer  %6.0f GB/s  %5.1f%%\n", lr_fmt_get(fmt)->name,
           wide ? "70B" : "8B ", n_x, ms * 1000 / n, bytes / ms / 1e6, 100 * bytes / ms / 1e6 / bandwidth);
}

/* Experts: rows x cols, MXFP4, `k` of `n_expert` for one token, other experts each time. */
static void time_experts(uint32_t fmt, uint32_t rows, uint32_t n_mat, uint32_t cols, uint32_t n_expert, uint32_t k)
{
    uint64_t each = stride_of(fmt, cols) * rows, bytes = lr_fmt_row_bytes(fmt, cols) * rows * n_mat * k;
    enum { N = 32 };
    fill_pool(fmt, cols, each * n_mat * n_expert);
    std::vector<uint32_t> rows_of(k), n_tile(1, k), tiles;
    for (uint32_t i = 0; i < k; i++) rows_of[i] = i;
    for (uint32_t i = 0; i < N * k; i++)
        tiles.push_back((i * 37 + i / 128 * 5) % n_expert), tiles.push_back(i % k), tiles.push_back(1);
    uint32_t *d_rows = on_card(rows_of), *d_n = on_card(n_tile), *d_tiles = on_card(tiles);
    double ms = time_graph([&] {
        for (uint32_t i = 0; i < N; i++) {
            lr_cu_mm m = product(fmt, cols, 1);
            for (uint32_t j = 0; j < n_mat; j++) add_matrix(m, fmt, rows, cols, j * each * n_expert);
            m.k = k, m.in_mul = 1;
            m.sort.rows = d_rows, m.sort.n_tile = d_n, m.sort.tiles = d_tiles + 3 * i * k, m.sort.tile = 8;
            CHECK(lr_cu_mm_few(&device, &m, stream));
        }
    });
    double us = ms * 1000 / N, rate = bytes / us / 1000;
    printf("%-12s %u of %u experts %u x %u x %u  %8.2f us  %6.0f GB/s  %5.1f%%\n", lr_fmt_get(fmt)->name, k, n_expert,
           n_mat, rows, cols, us, rate, 100 * rate / bandwidth);
    cudaFree(d_rows), cudaFree(d_n), cudaFree(d_tiles);
}

static void time_all(const std::vector<uint32_t> &formats)
{
    uint32_t *out;
    std::vector<uint16_t> x(8 * 28672);
    std::vector<float> one(65536, 0.001f);
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaMalloc(&pool, n_pool));
    CHECK(cudaMalloc(&out, 4));
    for (auto &v : x) v = lr_f32_to_f16(gauss());
    in.x = on_card(x);
    in.scale = on_card(one);
    in.aux = on_card(one);
    in.n_row = on_card(std::vector<uint32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8});
    CHECK(cudaMalloc(&in.y, 4 * 65536 * 8 * 4));
    CHECK(cudaMemset(in.y, 0, 4 * 65536 * 8 * 4));
    fill_pool(LR_FMT_BF16, 4096, n_pool);
    size_t n_read = 4ull << 30;
    double ms = time_graph([&] { read_all<<<device.n_sm * 4, 512, 0, stream>>>((uint4 *)pool, n_read / 16, out); });
    double ms2 = time_graph([&] { read_all<<<device.n_sm * 2, 1024, 0, stream>>>((uint4 *)pool, n_read / 16, out); });
    bandwidth = n_read / fmin(ms, ms2) / 1e6;
    printf("plain read: %.0f GB/s\n", bandwidth);
    for (uint32_t fmt : formats) {
        bool main = fmt == LR_FMT_BF16 || fmt == LR_FMT_Q8_0 || fmt == LR_FMT_Q4_K || fmt == LR_FMT_MXFP4;
        if (!main) {
            time_shape(fmt, 28672, 4096, 1);
            if (fmt == LR_FMT_Q6_K && !brief) time_shape(fmt, 4096, 14336, 1), time_layer(fmt, 0, 1);
            continue;
        }
        for (uint32_t n = 1; n <= (brief ? 1u : 8u); n *= n == 1 ? 4 : 2) {
            time_shape(fmt, 6144, 4096, n);
            time_shape(fmt, 4096, 4096, n);
            time_shape(fmt, 28672, 4096, n);
            time_shape(fmt, 4096, 14336, n);
        }
        time_layer(fmt, 0, 1);
        if (brief) continue;
        time_shape(fmt, 128256, 4096, 1);
        time_layer(fmt, 0, 8);
        if (fmt != LR_FMT_BF16) time_layer(fmt, 1, 1);
        if (fmt == LR_FMT_BF16)
            time_shape(fmt, 5120, 2880, 1), time_shape(fmt, 2880, 4096, 1), time_shape(fmt, 128, 2880, 1);
        if (fmt == LR_FMT_MXFP4) {
            time_experts(fmt, 2880, 2, 2880, 128, 4);
            time_experts(fmt, 2880, 1, 2880, 128, 4);
        }
    }
}

int main(int argc, char **argv)
{
    cudaDeviceProp p;
    bool checks = argc < 2, times = argc < 2;
    std::vector<uint32_t> formats;
    for (int i = 1; i < argc; i++) {
        checks |= strcmp(argv[i], "check") == 0;
        times |= strcmp(argv[i], "time") == 0;
        brief |= strcmp(argv[i], "brief") == 0;
        const lr_fmt_info *f = lr_fmt_by_name(argv[i]);
        if (f) formats.push_back(f->id);
    }
#define LR_FMT(name, id, block, bytes) LR_FMT_##name,
    static const uint32_t all[] = {
#include "formats.def"
    };
#undef LR_FMT
    if (formats.empty()) formats.assign(all, all + sizeof all / sizeof *all);
    if (cudaGetDeviceProperties(&p, 0) != cudaSuccess) {
        printf("SKIP no GPU\n");
        return 77;
    }
    device.n_sm = p.multiProcessorCount, device.major = p.major, device.minor = p.minor;
    device.smem = p.sharedMemPerBlockOptin, device.l2 = (size_t)p.l2CacheSize, device.n_bytes = p.totalGlobalMem;
    if (checks)
        for (uint32_t f : formats) check_format(f);
    if (checks)
        for (uint32_t f : formats) check(f);
    if (checks) printf("%d failures\n", failures);
    if (times) time_all(formats);
    return failures != 0;
}
