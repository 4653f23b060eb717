/* mm_packed_neon.c - packed matrices for mm_neon.c. */
#include "mm.h"
#define PACKED lr_mm_packed_neon
#include "mm_simd_neon.h"
#include "mm_isa.h"
