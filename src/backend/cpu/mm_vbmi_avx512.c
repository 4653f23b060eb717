/* mm_vbmi_avx512.c - the matrix product with AVX-512 VNNI, and bytes and bits taken from anywhere in one instruction. */
#include "mm.h"
#define AVX512_VBMI
#define PACKED_TWIN lr_mm_packed_avx512_vbmi
#include "mm_simd_avx512.h"
#include "mm_isa.h"

#define NEEDS (LR_CPU_AVX512 | LR_CPU_AVX512VNNI | LR_CPU_AVX512VBMI)
LR_MM_SET(lr_mm_avx512_vbmi, "AVX-512 VNNI VBMI", LR_ISA_AVX512, NEEDS, false);
LR_MM_SET(lr_mm_avx512_vbmi_bf16, "AVX-512 VNNI VBMI BF16", LR_ISA_AVX512, NEEDS | LR_CPU_AVX512BF16, true);
