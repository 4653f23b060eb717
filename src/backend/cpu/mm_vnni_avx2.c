/* mm_vnni_avx2.c - the matrix product with AVX2 and AVX-VNNI. */
#include "mm.h"
#define AVX_VNNI
#define PACKED_TWIN lr_mm_packed_avx2_vnni
#include "mm_simd_avx2.h"
#include "mm_isa.h"

LR_MM_SET(lr_mm_avx2_vnni, "AVX2 VNNI", LR_ISA_AVX2, LR_CPU_AVX2 | LR_CPU_AVXVNNI, false);
