/* mm_avx2.c - the matrix product with AVX2. */
#include "mm.h"
#define PACKED_TWIN lr_mm_packed_avx2
#include "mm_simd_avx2.h"
#include "mm_isa.h"

LR_MM_SET(lr_mm_avx2, "AVX2", LR_ISA_AVX2, LR_CPU_AVX2, false);
