/* mm_neon.c - the matrix product with NEON and its dot products. */
#include "mm.h"
#define PACKED_TWIN lr_mm_packed_neon
#include "mm_simd_neon.h"
#include "mm_isa.h"

LR_MM_SET(lr_mm_neon, "NEON dotprod", LR_ISA_NEON, LR_CPU_NEON | LR_CPU_DOTPROD, false);
