/* mm_avx512.c - the matrix product with AVX-512 VNNI; bf16 products only where the machine has them. */
#include "mm.h"
#include "mm_simd_avx512.h"

#define HAVE_BF16_DOT
/* Element i: acc + products of columns 2 i and 2 i + 1. In assembly, for a compiler told of AVX512_BF16 might use it
 * elsewhere in this file, and not every machine that runs the rest has it. */
LR_INLINE vf v_dot_bf16(vf acc, vi a, vi b)
{
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
    return acc;
}
#include "mm_isa.h"

#define NEEDS (LR_CPU_AVX512 | LR_CPU_AVX512VNNI)
LR_MM_SET(lr_mm_avx512, "AVX-512 VNNI", LR_ISA_AVX512, NEEDS, false);
LR_MM_SET(lr_mm_avx512_bf16, "AVX-512 VNNI BF16", LR_ISA_AVX512, NEEDS | LR_CPU_AVX512BF16, true);
