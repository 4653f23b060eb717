/* attn_neon.c - attn_body.h for neon. */
#define VEC_NEON
#define ATTN_TABLE lr_attn_neon
#include "attn_body.h"
