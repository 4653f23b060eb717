/* vec_avx512.c - vec_body.h for avx512. */
#define VEC_AVX512
#define VEC_FILL lr_vec_fill_avx512
#include "vec_body.h"
