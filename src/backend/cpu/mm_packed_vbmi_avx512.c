/* mm_packed_vbmi_avx512.c - packed matrices for mm_vbmi_avx512.c. */
#include "mm.h"
#define AVX512_VBMI
#define PACKED lr_mm_packed_avx512_vbmi
#include "mm_simd_avx512.h"
#include "mm_isa.h"
