/* mm_packed_avx2.c - packed matrices for mm_avx2.c. */
#include "mm.h"
#define PACKED lr_mm_packed_avx2
#include "mm_simd_avx2.h"
#include "mm_isa.h"
