/* mm_packed_neon_i8mm.c - packed matrices for mm_neon_i8mm.c. */
#include "mm.h"
#define NEON_I8MM
#define PACKED lr_mm_packed_neon_i8mm
#include "mm_simd_neon.h"
#include "mm_isa.h"
