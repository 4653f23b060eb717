/* vec_avx2.c - vec_body.h for avx2. */
#define VEC_AVX2
#define VEC_FILL lr_vec_fill_avx2
#include "vec_body.h"
