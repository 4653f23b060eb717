/* mm_avx512.c - the matrix product with AVX-512 VNNI; bf16 products only where the machine has them. */
#include "mm.h"
#include "mm_simd_avx512.h"
#include "mm_isa.h"

#define NEEDS (LR_CPU_AVX512 | LR_CPU_AVX512VNNI)
LR_MM_SET(lr_mm_avx512, "AVX-512 VNNI", LR_ISA_AVX512, NEEDS, false);
LR_MM_SET(lr_mm_avx512_bf16, "AVX-512 VNNI BF16", LR_ISA_AVX512, NEEDS | LR_CPU_AVX512BF16, true);
