/* mm_rows.h - where the rows are that a vector holds: what the words of every instruction set (mm_simd_*.h) read. */
#ifndef LR_MM_ROWS_H
#define LR_MM_ROWS_H

#include "mm.h"

/* VR rows: row r at p + r stride. Odd multiples of the stride are kept, for a compiler that made them, or pointers of
 * them, would run out of registers. */
typedef struct rows {
    const uint8_t *p, *aux;
    size_t stride, aux_stride, stride3, stride5, stride7;
} rows;
LR_INLINE const uint8_t *row_at(const rows *r, size_t at, int i)
{
    const uint8_t *p = (i & 8 ? r->p + 8 * r->stride : r->p) + at;
    switch (i & 7) {
    case 0: return p;
    case 1: return p + r->stride;
    case 2: return p + 2 * r->stride;
    case 3: return p + r->stride3;
    case 4: return p + 4 * r->stride;
    case 5: return p + r->stride5;
    case 6: return p + 2 * r->stride3;
    default: return p + r->stride7;
    }
}
static inline rows rows_of(const uint8_t *p, const uint8_t *aux, size_t stride, size_t aux_stride)
{
    return (rows){p, aux, stride, aux_stride, 3 * stride, 5 * stride, 7 * stride};
}

#endif
