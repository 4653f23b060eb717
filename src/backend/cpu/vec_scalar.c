/* vec_scalar.c - vec_body.h for scalar. */
#define VEC_SCALAR
#define VEC_FILL lr_vec_fill_scalar
#include "vec_body.h"
