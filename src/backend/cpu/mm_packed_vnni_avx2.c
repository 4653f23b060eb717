/* mm_packed_vnni_avx2.c - packed matrices for mm_vnni_avx2.c. */
#include "mm.h"
#define AVX_VNNI
#define PACKED lr_mm_packed_avx2_vnni
#include "mm_simd_avx2.h"
#include "mm_isa.h"
