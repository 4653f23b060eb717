/* attn_avx2.c - attn_body.h for avx2. */
#define VEC_AVX2
#define ATTN_TABLE lr_attn_avx2
#include "attn_body.h"
