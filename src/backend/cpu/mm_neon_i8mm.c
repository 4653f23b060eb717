/* mm_neon_i8mm.c - the matrix product with NEON, its dot products, and its products of two rows by two tokens. */
#include "mm.h"
#define NEON_I8MM
#define PACKED_TWIN lr_mm_packed_neon_i8mm
#include "mm_simd_neon.h"
#include "mm_isa.h"

LR_MM_SET(lr_mm_neon_i8mm, "NEON i8mm", LR_ISA_NEON, LR_CPU_NEON | LR_CPU_DOTPROD | LR_CPU_I8MM, false);
