/* peak.c - measuring one core's peak rates, on the best instruction set, and the plain C versions; and putting memory out of
 * the caches, so that reading it means memory. */
#include "peak.h"

#include "backend.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

static float f32_scalar(uint64_t rounds, float start, double *ops)
{
    float a[16];
    for (int i = 0; i < 16; i++) a[i] = start + (float)i;
    for (uint64_t r = 0; r < rounds; r++)
        for (int i = 0; i < 16; i++) a[i] = a[i] * 0.999f + 0.001f;
    float sum = 0;
    for (int i = 0; i < 16; i++) sum += a[i];
    *ops = (double)rounds * 32;
    return sum;
}

static uint64_t read_scalar(const void *p, size_t n)
{
    const uint64_t *q = p;
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (size_t i = 0; i < n / 8; i += 4) a += q[i], b += q[i + 1], c += q[i + 2], d += q[i + 3];
    return a + b + c + d;
}

const lr_peak lr_peak_scalar = {.f32 = f32_scalar, .read = read_scalar};

static const lr_peak *best(void)
{
    switch (lr_cpu_isa()) {
#if defined(__x86_64__)
    case LR_ISA_AVX512: return &lr_peak_avx512;
    case LR_ISA_AVX2: return &lr_peak_avx2;
#elif defined(__aarch64__)
    case LR_ISA_NEON: return &lr_peak_neon;
#endif
    default: return &lr_peak_scalar;
    }
}

double lr_cpu_peak(larder_act kind)
{
    const lr_peak *p = best();
    lr_peak_fn *fn = kind == LARDER_ACT_I8 ? p->int8 : kind == LARDER_ACT_BF16 ? p->bf16 : p->f32;
    volatile float keep = 1;
    double rate = 0, ops = 0;
    if (!fn) return 0;
#if defined(__x86_64__)
    if (kind == LARDER_ACT_BF16 && p == &lr_peak_avx512 && !(lr_cpu_features() & LR_CPU_AVX512BF16)) return 0;
#endif
    for (int i = 0; i < 9; i++) { /* the best of several short runs: nothing can make it look faster than it is */
        uint64_t t0 = lr_now_ns();
        keep = fn(1 << 18, keep * 1e-9f + 1, &ops);
        double s = (double)(lr_now_ns() - t0) * 1e-9;
        if (i && s > 0) rate = LR_MAX(rate, ops / s);
    }
    return rate;
}

uint64_t lr_cpu_read(const void *p, size_t n) { return best()->read(p, n); }

bool lr_cpu_put_out(const void *p, size_t n)
{
    const char *at = p;
#if defined(__x86_64__)
    for (size_t i = 0; i < n; i += 64) _mm_clflush(at + i);
    _mm_mfence();
    return true;
#elif defined(__aarch64__) && defined(__linux__)
    uint64_t type;
    __asm__("mrs %0, ctr_el0" : "=r"(type));
    for (size_t i = 0, line = (size_t)4 << (type >> 16 & 15); i < n; i += line)
        __asm__ volatile("dc civac, %0" : : "r"(at + i) : "memory");
    __asm__ volatile("dsb ish" ::: "memory");
    return true;
#else
    (void)at, (void)n;
    return false;
#endif
}
