/* mm_row.h - one token and Q8_0, a row at a time: memory is read as one stream, which it answers fastest.
 *
 * 16 blocks of a row are the elements of a vector: their products with the activations, and their scales. These wait in
 * the scratch until VR rows are done; then they are turned, so that element r is row r again, and added in the order that
 * the other kernels have too (the same bits). K formats do alike (mm_row_body.h).
 * Refuses to own: the words of one instruction set (v_row_q8 in mm_simd_*.h). */
#ifndef LR_MM_ROW_H
#define LR_MM_ROW_H

/* Bytes ahead that memory is asked for; and after how many heads of the row that is read one head of the 16 rows before it is
 * added (mm_row_body.h). */
enum { ROW_AHEAD = 8192, ROW_PART = 16 };

#ifdef HAVE_ROW_Q8
enum { ROW_BLOCKS = 16 };

/* What VR rows bring to the additions of ROW_BLOCKS blocks: as floats, the integer products and fl(s d). */
typedef struct row_terms {
    float f[VR][ROW_BLOCKS], s[VR][ROW_BLOCKS];
} row_terms;

/* Terms of row i. The last are those of the last ROW_BLOCKS blocks, though some of these were in the ones before. */
LR_INLINE void row_read(const uint8_t *p, uint32_t nb, const uint8_t *x, const lr_i8_row *at, row_terms *to, int i)
{
    for (uint32_t b = 0; b < nb; b += ROW_BLOCKS, to++) {
        const uint32_t from = LR_MIN(b, nb - ROW_BLOCKS);
        const uint8_t *q = p + (size_t)from * 34;
        vi sum;
        vf s;
        v_row_q8(q, x + 32 * (size_t)from, q + ROW_AHEAD, &sum, &s);
        sum = v_add32(sum, v_shl32(v_load(plane(x, at->n, from)), 7));
        v_storef(to->f[i], v_cvt(sum));
        v_storef(to->s[i], v_mul(s, v_loadf((const float *)(const void *)plane(x, at->d, from))));
    }
}

/* out[r] = the sums of VR rows. Memory at `ahead` is asked for meanwhile. */
LR_INLINE void row_add(const row_terms *of, uint32_t nb, const uint8_t *ahead, float out[VR])
{
    vf acc = v_zerof();
    for (uint32_t b = 0; b < nb; b += ROW_BLOCKS, of++) {
        const uint32_t from = LR_MIN(b, nb - ROW_BLOCKS), skip = b - from; /* so many are added already */
        rows f = rows_of((const uint8_t *)of->f, NULL, sizeof of->f[0], 0);
        rows s = rows_of((const uint8_t *)of->s, NULL, sizeof of->s[0], 0);
        for (uint32_t k = skip & ~7u; k < ROW_BLOCKS; k += 8) {
            vi by_row[2][8];
            v_turn32(&f, 4 * k, &ahead, true, by_row[0]);
            v_turn32(&s, 4 * k, &ahead, false, by_row[1]);
#pragma GCC unroll 8
            for (uint32_t i = 0; i < 8; i++)
                if (k + i >= skip) acc = v_fma(v_as_f(by_row[0][i]), v_as_f(by_row[1][i]), acc);
        }
    }
    v_storef(out, acc);
}

static void mm_row_q8(const lr_mat *w, const void *x, uint32_t r0, uint32_t r1, float *y, const float *bias, bool add,
                      void *scratch)
{
    const lr_i8_row at = lr_i8_layout(w->cols);
    const uint32_t nb = w->cols / 32;
    float sum[VR];
    for (uint32_t r = r0, n; r < r1; r += n) {
        const uint8_t *p = w->data + r * w->row_stride;
        n = LR_MIN(r1 - r, (uint32_t)VR);
        for (uint32_t i = 0; i < n; i++, p += w->row_stride) row_read(p, nb, x, &at, scratch, (int)i);
        row_add(scratch, nb, p + ROW_AHEAD, sum);
        finish(sum, 0, n, y + r, bias ? bias + r : NULL, add);
    }
}
#endif

#endif
