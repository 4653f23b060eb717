/* cpu.c - which instruction sets this machine has, and which one kernels are to use. */
#include "base.h"
#include "os.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <strings.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

/* The register state the system saves on a switch: without its word an instruction set may not be used. */
static uint64_t xcr0(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

/* Intel's manual, volume 2, CPUID: leaves 1, 7.0 and 7.1. */
static uint32_t detect(void)
{
    uint32_t a, b, c, d, f = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    bool fma = c >> 12 & 1, osxsave = c >> 27 & 1, avx = c >> 28 & 1, f16c = c >> 29 & 1;
    if (!osxsave || !avx) return 0;
    uint64_t state = xcr0();
    bool ymm = (state & 0x6) == 0x6, zmm = (state & 0xe6) == 0xe6;
    if (!ymm || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    uint32_t subleaves = a;
    if ((b >> 5 & 1) && fma && f16c) f |= LR_CPU_AVX2;
    bool avx512 = (b >> 16 & 1) && (b >> 17 & 1) && (b >> 30 & 1) && (b >> 31 & 1);
    if (zmm && avx512) {
        f |= LR_CPU_AVX512;
        if (c >> 11 & 1) f |= LR_CPU_AVX512VNNI;
        if ((c >> 1 & 1) && (c >> 8 & 1) && (c >> 12 & 1)) f |= LR_CPU_AVX512VBMI;
    }
    if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) {
        if (a >> 4 & 1) f |= LR_CPU_AVXVNNI;
        if ((f & LR_CPU_AVX512) && (a >> 5 & 1)) f |= LR_CPU_AVX512BF16;
    }
    return f;
}
#else
static uint32_t detect(void) { return lr_os_arm_features(); }
#endif

#define KNOWN (1u << 31)

uint32_t lr_cpu_features(void)
{
    static _Atomic uint32_t cached;
    uint32_t f = atomic_load_explicit(&cached, memory_order_relaxed);
    if (!f) {
        f = detect() | KNOWN;
        atomic_store_explicit(&cached, f, memory_order_relaxed);
    }
    return f & ~KNOWN;
}

bool lr_cpu_has_isa(lr_isa isa)
{
    static const uint32_t needs[LR_ISA_COUNT] = {
        [LR_ISA_AVX2] = LR_CPU_AVX2,
        [LR_ISA_AVX512] = LR_CPU_AVX2 | LR_CPU_AVX512 | LR_CPU_AVX512VNNI,
        [LR_ISA_NEON] = LR_CPU_NEON | LR_CPU_DOTPROD,
    };
    return (unsigned)isa < LR_ISA_COUNT && (lr_cpu_features() & needs[isa]) == needs[isa];
}

const char *lr_isa_name(lr_isa isa)
{
    static const char *const names[LR_ISA_COUNT] = {"scalar", "avx2", "avx512", "neon"};
    return (unsigned)isa < LR_ISA_COUNT ? names[isa] : "unknown";
}

static lr_isa choose(void)
{
    int best = LR_ISA_COUNT - 1;
    while (!lr_cpu_has_isa((lr_isa)best)) best--; /* ends at SCALAR, which needs nothing */
    const char *wish = getenv("LARDER_ISA");
    if (!wish || !*wish) return (lr_isa)best;
    for (int i = 0; i < LR_ISA_COUNT; i++)
        if (!strcasecmp(wish, lr_isa_name((lr_isa)i)) && lr_cpu_has_isa((lr_isa)i)) return (lr_isa)i;
    lr_log(LARDER_LOG_WARN, "LARDER_ISA=%s is not something this machine has; using %s", wish,
           lr_isa_name((lr_isa)best));
    return (lr_isa)best;
}

lr_isa lr_cpu_isa(void)
{
    static atomic_int cached = -1;
    int isa = atomic_load_explicit(&cached, memory_order_relaxed);
    if (isa < 0) atomic_store_explicit(&cached, isa = (int)choose(), memory_order_relaxed);
    return (lr_isa)isa;
}
