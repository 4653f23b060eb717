/* attn_avx512.c - attn_body.h for avx512. */
#define VEC_AVX512
#define ATTN_TABLE lr_attn_avx512
#include "attn_body.h"
