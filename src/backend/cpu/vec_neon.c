/* vec_neon.c - vec_body.h for neon. */
#define VEC_NEON
#define VEC_FILL lr_vec_fill_neon
#include "vec_body.h"
