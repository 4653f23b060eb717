/* attn_scalar.c - attn_body.h for scalar. */
#define VEC_SCALAR
#define ATTN_TABLE lr_attn_scalar
#include "attn_body.h"
