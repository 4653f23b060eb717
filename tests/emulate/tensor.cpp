/* tensor.cpp - 16-bit numbers, tensor cores, copies under way and the barriers that count them.
 *
 * A product of 16 columns is summed in double from the accumulator on, columns rising, and rounded once to float. A real
 * tensor core's bits differ; but mma.sync and wgmma agree here as they do there, which is what larder's kernels count on.
 *
 * Asynchronous work is done as late as its waits allow, unless `copies` asks for it at once.
 */
#include "emulate.h"

#include <algorithm>

typedef lr_emulated_fiber fiber;

/* ---------------------------------------------------------------- 16-bit numbers */
float lr_emulated_half(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = h >> 10 & 31, man = h & 0x3ff;
    if (!exp) return (sign ? -1.0f : 1.0f) * ldexpf((float)man, -24);
    return __uint_as_float(sign | (exp == 31 ? 0x7f800000 : (exp + 112) << 23) | man << 13);
}

uint16_t lr_emulated_to_half(double x)
{
    uint16_t sign = std::signbit(x) ? 0x8000 : 0;
    double a = fabs(x);
    if (std::isnan(x)) return 0x7fff;
    if (a >= 65520.0) return sign | 0x7c00;
    int e = a < 0x1p-14 ? -14 : std::ilogb(a);
    double units = std::nearbyint(std::ldexp(a, 10 - e)); /* 1,024 and more where normal */
    return sign | (uint16_t)(units + (e + 14) * 1024);
}

uint16_t lr_emulated_to_bf16(float x)
{
    uint32_t v = __float_as_uint(x);
    if (std::isnan(x)) return 0x7fff;
    return (uint16_t)((v + 0x7fff + (v >> 16 & 1)) >> 16);
}

/* a b + c rounded to odd, so that rounding again gives what rounding once would. */
static double fused(double a, double b, double c)
{
    double p = a * b, s = p + c, t = s - p, left = (p - (s - t)) + (c - t);
    uint64_t bits;
    memcpy(&bits, &s, 8);
    if (left != 0 && std::isfinite(s) && !(bits & 1)) {
        bits += (left > 0) == (s > 0) ? 1 : -1;
        memcpy(&s, &bits, 8);
    }
    return s;
}

template <typename F> static uint32_t each_half(uint32_t a, uint32_t b, uint32_t c, F f)
{
    uint32_t r = 0;
    for (int i = 0; i < 32; i += 16)
        r |= (uint32_t)lr_emulated_to_half(f((double)lr_emulated_half((uint16_t)(a >> i)),
                                             (double)lr_emulated_half((uint16_t)(b >> i)),
                                             (double)lr_emulated_half((uint16_t)(c >> i))))
             << i;
    return r;
}
uint32_t lr_emulated_h2_add(uint32_t a, uint32_t b)
{
    return each_half(a, b, 0, [](double x, double y, double) { return x + y; });
}
uint32_t lr_emulated_h2_mul(uint32_t a, uint32_t b)
{
    return each_half(a, b, 0, [](double x, double y, double) { return x * y; });
}
uint32_t lr_emulated_h2_fma(uint32_t a, uint32_t b, uint32_t c) { return each_half(a, b, c, fused); }

float lr_emulated_pow2(float x)
{
    float y = exp2f(x);
    return y < 0x1p-126f ? 0.0f : y;
}

/* ---------------------------------------------------------------- tensor cores */
struct numbers {
    double of[2][65536]; /* F16, BF16 */
    numbers()
    {
        for (uint32_t i = 0; i < 65536; i++) {
            of[0][i] = (double)lr_emulated_half((uint16_t)i);
            of[1][i] = (double)__uint_as_float(i << 16);
        }
    }
};
static const numbers known;

#if defined(__x86_64__) && !defined(__clang__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif
/* c[16][8] += a[16][16] b[16][8] */
WIDE static void product(float c[16][8], const double a[16][16], const double b[16][8])
{
    for (int r = 0; r < 16; r++) {
        double s[8];
        for (int n = 0; n < 8; n++) s[n] = (double)c[r][n];
        for (int k = 0; k < 16; k++)
            for (int n = 0; n < 8; n++) s[n] += a[r][k] * b[k][n];
        for (int n = 0; n < 8; n++) c[r][n] = (float)s[n];
    }
}

/* Registers of lane g * 4 + t: rows g and g + 8, columns 2t, 2t + 1 and 8 further. */
static void a_of_lanes(double a[16][16], const uint32_t *const lane[32], const double *value)
{
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++)
            for (int h = 0; h < 2; h++)
                a[l / 4 + i % 2 * 8][l % 4 * 2 + i / 2 * 8 + h] = value[lane[l][i] >> 16 * h & 0xffff];
}
static void move_c(float c[16][8], float *const lane[32], bool in)
{
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++) {
            float &x = c[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2];
            if (in) x = lane[l][i];
            else lane[l][i] = x;
        }
}

static void whole(unsigned mask, const char *what)
{
    if (mask != ~0u) lr_emulated_fault("%s by a part of a warp (lanes %08x)", what, mask);
}

struct mma_record {
    float *c;
    const uint32_t *a, *b;
    bool bf16;
};
static void mma_all(void *const record[32], unsigned mask)
{
    double a[16][16], b[16][8];
    float c[16][8], *at[32];
    const uint32_t *as[32];
    whole(mask, "mma");
    const double *value = known.of[((mma_record *)record[0])->bf16];
    for (int l = 0; l < 32; l++) {
        const mma_record *r = (const mma_record *)record[l];
        at[l] = r->c;
        as[l] = r->a;
        for (int i = 0; i < 2; i++)
            for (int h = 0; h < 2; h++) b[l % 4 * 2 + i * 8 + h][l / 4] = value[r->b[i] >> 16 * h & 0xffff];
    }
    a_of_lanes(a, as, value);
    move_c(c, at, true);
    product(c, a, b);
    move_c(c, at, false);
}
void lr_emulated_mma(float c[4], const uint32_t a[4], const uint32_t b[2], bool bf16)
{
    mma_record r = {c, a, b, bf16};
    lr_emulated_meet(~0u, mma_all, &r);
}

/* Four matrices of 8 x 8; lane l names row l % 8 of matrix l / 8. */
struct ldmatrix_record {
    uint32_t *r;
    const uint16_t *row;
    bool turned;
};
static void ldmatrix_all(void *const record[32], unsigned mask)
{
    whole(mask, "ldmatrix");
    for (int l = 0; l < 32; l++) {
        ldmatrix_record *q = (ldmatrix_record *)record[l];
        for (int m = 0; m < 4; m++) {
            uint32_t v[2];
            for (int h = 0; h < 2; h++) {
                int row = q->turned ? l % 4 * 2 + h : l / 4, col = q->turned ? l / 4 : l % 4 * 2 + h;
                v[h] = ((const ldmatrix_record *)record[8 * m + row])->row[col];
            }
            q->r[m] = v[0] | v[1] << 16;
        }
    }
}
void lr_emulated_ldmatrix(uint32_t r[4], uint32_t at, bool turned)
{
    ldmatrix_record q = {r, (const uint16_t *)lr_emulated_at(at, 16), turned};
    lr_emulated_meet(~0u, ldmatrix_all, &q);
}

/* ---------------------------------------------------------------- products of a warpgroup
 * Of its four warps each computes its own 16 rows, so each is alone here. */
static void b_of_desc(double b[16][8], lr_emulated_block &own, uint64_t desc, uint32_t n0, const double *value)
{
    uint32_t from = (uint32_t)(desc & 0x3fff) << 4, group = (uint32_t)(desc >> 32 & 0x3fff) << 4;
    if (desc >> 62 != 1) lr_emulated_fault("a descriptor %016llx without 128-byte swizzle", (unsigned long long)desc);
    for (uint32_t n = 0; n < 8; n++)
        for (uint32_t k = 0; k < 16; k += 8) {
            uint32_t at = from + n0 / 8 * group + n * 128 + k * 2;
            const uint16_t *p = (const uint16_t *)lr_emulated_in(own, at ^ (at >> 3 & 0x70), 16);
            for (uint32_t i = 0; i < 8; i++) b[k + i][n] = value[p[i]];
        }
}
static void compute(lr_emulated_block &own, const lr_emulated_product &p)
{
    double a[16][16], b[16][8];
    const uint32_t *as[32];
    const double *value = known.of[p.bf16];
    for (int l = 0; l < 32; l++) as[l] = p.a[l];
    a_of_lanes(a, as, value);
    for (uint32_t n0 = 0; n0 < p.n; n0 += 8) {
        float c[16][8], *at[32];
        b_of_desc(b, own, p.desc, n0, value);
        for (int l = 0; l < 32; l++) at[l] = p.d[l] + n0 / 2;
        move_c(c, at, true);
        product(c, a, b);
        move_c(c, at, false);
    }
}

struct wgmma_record {
    fiber *who;
    float *d;
    const uint32_t *a;
    uint64_t desc;
    uint32_t n;
    bool bf16;
};
static void wgmma_all(void *const record[32], unsigned mask)
{
    whole(mask, "wgmma");
    const wgmma_record *first = (const wgmma_record *)record[0];
    lr_emulated_product p = {};
    p.desc = first->desc, p.n = first->n, p.bf16 = first->bf16;
    for (int l = 0; l < 32; l++) {
        const wgmma_record *r = (const wgmma_record *)record[l];
        if (r->desc != p.desc) lr_emulated_fault("wgmma: lanes have different descriptors");
        p.d[l] = r->d;
        memcpy(p.a[l], r->a, 16);
    }
    if (lr_emulated_as.early_now() && first->who->warp->products.empty()) compute(*first->who->own, p);
    else first->who->warp->products.push_back(p);
}
void lr_emulated_wgmma(float *d, const uint32_t a[4], uint64_t desc, uint32_t n, bool bf16)
{
    wgmma_record r = {lr_emulated_fiber_now(), d, a, desc, n, bf16};
    lr_emulated_meet(~0u, wgmma_all, &r);
}

static void commit_all(void *const record[32], unsigned mask)
{
    whole(mask, "wgmma.commit_group");
    lr_emulated_warp &w = *((fiber *)record[0])->warp;
    w.groups.push_back(w.products.size());
}
void lr_emulated_wgmma_commit() { lr_emulated_meet(~0u, commit_all, lr_emulated_fiber_now()); }

struct wait_record {
    fiber *who;
    uint32_t but;
};
static void wait_all(void *const record[32], unsigned mask)
{
    whole(mask, "wgmma.wait_group");
    wait_record *r = (wait_record *)record[0];
    lr_emulated_warp &w = *r->who->warp;
    if (w.groups.size() <= r->but) return;
    size_t done = w.groups.size() - r->but, n = w.groups[done - 1];
    for (size_t i = 0; i < n; i++) compute(*r->who->own, w.products[i]);
    w.products.erase(w.products.begin(), w.products.begin() + (ptrdiff_t)n);
    w.groups.erase(w.groups.begin(), w.groups.begin() + (ptrdiff_t)done);
    for (size_t &g : w.groups) g -= n;
}
void lr_emulated_wgmma_wait(uint32_t but)
{
    wait_record r = {lr_emulated_fiber_now(), but};
    lr_emulated_meet(~0u, wait_all, &r);
}

/* ---------------------------------------------------------------- cp.async */
static void copy(const lr_emulated_copy &c)
{
    if (c.n) memcpy(c.to, c.from, c.n);
    memset(c.to + c.n, 0, 16 - c.n);
}
void lr_emulated_copy16(uint32_t to, const void *from, uint32_t n)
{
    fiber *f = lr_emulated_fiber_now();
    lr_emulated_copy c = {(uint8_t *)lr_emulated_at(to, 16), (const uint8_t *)from, n};
    if ((uintptr_t)from % 16) lr_emulated_fault("cp.async of 16 bytes from %p, no multiple of 16", from);
    if (n > 16) lr_emulated_fault("cp.async of %u bytes", n);
    if (lr_emulated_as.early_now()) copy(c);
    else f->copies.push_back(c);
}
void lr_emulated_copy_commit()
{
    fiber *f = lr_emulated_fiber_now();
    f->groups.push_back(f->copies.size());
}
void lr_emulated_copy_wait(uint32_t but)
{
    fiber *f = lr_emulated_fiber_now();
    if (f->groups.size() <= but) return;
    size_t done = f->groups.size() - but, n = f->groups[done - 1];
    for (size_t i = 0; i < n; i++) copy(f->copies[i]);
    f->copies.erase(f->copies.begin(), f->copies.begin() + (ptrdiff_t)n);
    f->groups.erase(f->groups.begin(), f->groups.begin() + (ptrdiff_t)done);
    for (size_t &g : f->groups) g -= n;
}

/* ---------------------------------------------------------------- mbarriers
 * In their 64 bits: arrivals left, arrivals of a phase, its parity, a mark of being one, bytes left. */
struct state {
    uint64_t left : 14, all : 14, phase : 1, mark : 3;
    int64_t bytes : 32;
};
enum { MARK = 5 };
static_assert(sizeof(state) == 8, "an mbarrier has 64 bits");

static state *bar_at(void *p)
{
    state *s = (state *)p;
    if (s->mark != MARK) lr_emulated_fault("this is no initialised mbarrier");
    return s;
}
static void after_arrival(lr_emulated_team &t, state *s)
{
    if (s->left || s->bytes) return;
    s->left = s->all;
    s->phase ^= 1;
    size_t kept = 0;
    for (auto &w : t.waiters)
        if (w.bar == (const uint64_t *)s && w.parity != s->phase) t.wake(w.who);
        else t.waiters[kept++] = w;
    t.waiters.resize(kept);
}
void lr_emulated_bar_init(uint32_t bar, uint32_t n)
{
    state *s = (state *)lr_emulated_at(bar, 8);
    if (!n || n >= 1u << 14) lr_emulated_fault("an mbarrier of %u arrivals", n);
    *s = state();
    s->left = s->all = n & 0x3fff;
    s->mark = MARK;
}
void lr_emulated_bar_wait(uint32_t bar, uint32_t parity)
{
    fiber *f = lr_emulated_fiber_now();
    state *s = bar_at(lr_emulated_at(bar, 8));
    if (s->phase != (parity & 1)) return;
    f->team->waiters.push_back({f, (const uint64_t *)s, parity & 1});
    lr_emulated_sleep("an mbarrier");
}
void lr_emulated_bar_arrive(uint32_t bar, uint32_t announce)
{
    state *s = bar_at(lr_emulated_at(bar, 8));
    if (!s->left) lr_emulated_fault("more arrivals at an mbarrier than it has");
    s->bytes += announce;
    s->left--;
    after_arrival(*lr_emulated_fiber_now()->team, s);
}

/* ---------------------------------------------------------------- boxes of tensors
 * A map in its 128 bytes. Elements have 16 bits. */
struct map {
    const uint8_t *data;
    uint64_t dims[3], strides[2]; /* strides: bytes, of the second and third */
    uint32_t box[3], rank, swizzle, mark;
};
static_assert(sizeof(map) <= 128, "a map has 128 bytes");
enum { MAP = 0x70616d21 };

int lr_emulated_encode_map(void *to, int type, uint32_t rank, void *data, const uint64_t *dims, const uint64_t *strides,
                           const uint32_t *box, const uint32_t *steps, int interleave, int swizzle, int l2, int oob)
{
    enum { UINT16 = 1, NO_SWIZZLE = 0, SWIZZLE_128 = 3, INVALID = 1 };
    map m = {};
    (void)l2;
    if ((uintptr_t)to % 64 || type != UINT16 || rank < 1 || rank > 3 || interleave || oob) return INVALID;
    if ((uintptr_t)data % 16 || (swizzle != NO_SWIZZLE && swizzle != SWIZZLE_128)) return INVALID;
    if (box[0] * 2 % 16 || (swizzle && box[0] * 2 > 128)) return INVALID;
    m.data = (const uint8_t *)data;
    m.rank = rank;
    m.swizzle = swizzle == SWIZZLE_128;
    m.mark = MAP;
    for (uint32_t i = 0; i < 3; i++) {
        m.dims[i] = i < rank ? dims[i] : 1;
        m.box[i] = i < rank ? box[i] : 1;
        if (!m.dims[i] || m.dims[i] > (uint64_t)1 << 32 || !m.box[i] || m.box[i] > 256) return INVALID;
        if (i < rank && steps[i] != 1) return INVALID;
    }
    for (uint32_t i = 0; i + 1 < rank; i++) {
        m.strides[i] = strides[i];
        if (strides[i] % 16 || strides[i] >= (uint64_t)1 << 40) return INVALID;
    }
    memcpy(to, &m, sizeof m);
    return 0;
}

static uint32_t box_bytes(const map &m) { return m.box[0] * m.box[1] * m.box[2] * 2; }

static void put_box(const map &m, lr_emulated_block &b, const lr_emulated_box_copy &c)
{
    for (uint32_t z = 0; z < m.box[2]; z++)
        for (uint32_t y = 0; y < m.box[1]; y++)
            for (uint32_t x = 0; x < m.box[0]; x++) {
                uint32_t to = c.to + ((z * m.box[1] + y) * m.box[0] + x) * 2;
                int64_t at[3] = {(int64_t)c.at[0] + x, (int64_t)c.at[1] + y, (int64_t)c.at[2] + z};
                bool in = true;
                uint16_t v = 0;
                for (int i = 0; i < 3; i++) in = in && at[i] >= 0 && (uint64_t)at[i] < m.dims[i];
                if (m.swizzle) to ^= to >> 3 & 0x70;
                if (in) memcpy(&v, m.data + at[0] * 2 + at[1] * (int64_t)m.strides[0] + at[2] * (int64_t)m.strides[1], 2);
                memcpy(lr_emulated_in(b, to, 2), &v, 2);
            }
}

void lr_emulated_deliver(lr_emulated_team &t, const lr_emulated_box_copy &c)
{
    map m;
    memcpy(&m, c.map, sizeof m);
    for (size_t i = 0; i < t.blocks.size(); i++) {
        if (!(c.blocks >> i & 1)) continue;
        put_box(m, t.blocks[i], c);
        state *s = bar_at(lr_emulated_in(t.blocks[i], c.bar, 8));
        s->bytes -= box_bytes(m);
        after_arrival(t, s);
    }
}

void lr_emulated_box(uint32_t to, const void *from, uint32_t bar, const int *at, uint32_t rank, uint32_t blocks)
{
    fiber *f = lr_emulated_fiber_now();
    lr_emulated_box_copy c = {from, {at[0], at[1], rank > 2 ? at[2] : 0}, rank, to & 0xffffff, bar & 0xffffff, blocks};
    map m;
    memcpy(&m, from, sizeof m);
    if (m.mark != MAP || m.rank != rank) lr_emulated_fault("a box of a map that is none, or of another rank");
    if (to % (m.swizzle ? 1024 : 128)) lr_emulated_fault("a box to shared memory at %u, no multiple", to);
    if (!blocks) c.blocks = 1u << f->rank;
    if (c.blocks >> f->team->blocks.size()) lr_emulated_fault("a box to blocks %x of a smaller cluster", c.blocks);
    if (lr_emulated_as.early_now()) lr_emulated_deliver(*f->team, c);
    else f->team->boxes.push_back(c);
}
