/* mm_row_body.h - one token, a row at a time: memory is read as one stream, which it answers fastest. Included by mm_body.h
 * for formats that have 256 columns to a head and say F_row.
 *
 * The products of a row's columns are added up within it, to one integer per block of 32; where halves have factors, those
 * are met here, for that is exact. The integers, and the bytes of scales, wait in the scratch until VR rows are done. Then
 * they are turned, so that element r is row r again, and met with scales and offsets in the order that the other kernels
 * have too (the same bits). That is done while the next VR rows are read: neither waits for the other. */

/* Where heads are, n of them to a row, in what waits: integers of two heads to a vector come first. */
LR_INLINE uint8_t *OF(row_heads)(uint8_t *wait, uint32_t n) { return wait + 64 * VR * ((size_t)n + 1) / 2; }

LR_INLINE int OF(row_block)(int v, int half) { return OF(row_order)[8 * half + v] / 2; }

/* The activations' blocks in the order of F_row's; then what a zero point adds to their halves. */
static void OF(row_begin)(const uint8_t *x, uint32_t n, const lr_i8_row *at, uint8_t *to)
{
    uint8_t *zeros = to + 256 * (size_t)n;
    for (uint32_t j = 0; j < n; j++, to += 256, zeros += 64) {
        for (int i = 0; i < 8; i++) {
            const uint32_t b = 8 * j + (uint32_t)OF(row_block)(i / 2, i % 2);
            memcpy(to + 32 * i, x + 32 * (size_t)b, 32);
        }
        if (OF(ZERO) >= 0)
            v_store(zeros, v_shl32(v_halves(plane(x, at->h, 8 * j), OF(row_order)), LR_MAX(OF(ZERO), 0)));
    }
}

/* Sums of products of 256 columns: element 4 j + k is quarter j of F_row's w[k]. Asks for as much memory at `ahead`. */
LR_INLINE vi OF(row_sums)(const uint8_t *p, const uint8_t *x, const uint8_t *zeros)
{
    vi w[4], sum;
    OF(row)(p, w);
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
        if (64 * v < OF(BYTES)) __builtin_prefetch(p + ROW_AHEAD + 64 * v);
        w[v] = v_dots(w[v], x + 64 * v);
    }
    sum = OF(BITS) > 5 ? v_quarters(w) : v_quarters_small(w);
    if (OF(ZERO) >= 0) sum = v_add32(sum, v_load(zeros));
    return OF(row_factor)(sum, p);
}

/* Heads [j0, j1) of row i, at p; j0 is even. */
LR_INLINE void OF(row_read)(const uint8_t *p, uint32_t n, uint32_t j0, uint32_t j1, const uint8_t *x, uint8_t *wait,
                            uint32_t i)
{
    const uint8_t *zeros = x + 256 * (size_t)n + 64 * (size_t)j0;
    uint8_t *heads = OF(row_heads)(wait, n) + OF(HEAD_BYTES) * (VR * (size_t)j0 + i);
    p += j0 * (size_t)OF(BYTES);
    x += 256 * (size_t)j0;
    wait += 64 * (VR * (size_t)j0 / 2 + i);
    for (uint32_t j = j0; j < j1; j += 2) {
        vi sum[2];
#pragma GCC unroll 2
        for (uint32_t k = 0; k < 2; k++) {
            if (k && j + k == n) { /* one is left over: its own twice */
                sum[k] = sum[0];
                break;
            }
            memcpy(heads, p + OF(HEAD_AT), OF(HEAD_BYTES));
            sum[k] = OF(row_sums)(p, x, zeros);
            p += OF(BYTES), x += 256, zeros += 64, heads += VR * OF(HEAD_BYTES);
        }
        v_store(wait, v_pairs(sum[0], sum[1]));
        wait += 64 * VR;
    }
}

/* acc += what head j of VR rows brings. */
LR_INLINE vf OF(row_add)(vf acc, const uint8_t *x, const lr_i8_row *at, uint32_t n, uint32_t j, uint8_t *wait,
                         const uint8_t **ahead, bool asking)
{
    const rows terms = rows_of(wait + 64 * VR * (size_t)(j / 2), NULL, 64, 0);
    head h;
    vi word[8];
    OF(row_head)(&h, OF(row_heads)(wait, n) + OF(HEAD_BYTES) * VR * (size_t)j);
    v_turn32(&terms, 32 * (j % 2), ahead, asking, word);
#pragma GCC unroll 8
    for (int b = 0; b < 8; b++) {
        int k = 0;
        scales c = {.n = v_zero()};
        for (int i = 0; i < 8; i++)
            if (OF(row_block)(i % 4, i / 4) == b) k = i;
        OF(row_scales)(&h, b, &c);
        acc = block_add(OF(IS_SUB) ? PLAIN : KIND, acc, v_cvt(word[k]), c.s, c.m, c.n, x, at, 8 * j + (uint32_t)b);
    }
    return acc;
}

static void OF(row_mm)(const lr_mat *w, const uint8_t *x, uint32_t r0, uint32_t r1, float *y, const float *bias,
                       bool add, uint8_t *scratch)
{
    const lr_i8_row at = lr_i8_layout(w->cols);
    const uint32_t n = w->cols / 256;
    uint8_t *reading = scratch + 320 * (size_t)n,
            *adding = OF(row_heads)(reading, n) + OF(HEAD_BYTES) * VR * (size_t)n;
    const uint8_t *p = w->data + r0 * w->row_stride, *ahead = NULL;
    OF(row_begin)(x, n, &at, scratch);
    for (uint32_t r = r0, before = 0, many; before || r < r1; r += many, before = many) {
        uint32_t added = 0;
        float sum[VR];
        vf acc = v_zerof();
        many = LR_MIN(r1 - r, (uint32_t)VR);
        for (uint32_t i = 0; i < many; i++, p += w->row_stride)
            for (uint32_t j = 0, to; j < n; j = to) {
                to = LR_MIN(n, j + ROW_PART);
                OF(row_read)(p, n, j, to, scratch, reading, i);
                for (; added < (before ? (i * n + to) / VR : 0); added++)
                    acc = OF(row_add)(acc, x, &at, n, added, adding, &ahead, false);
            }
        ahead = p + ROW_AHEAD;
        for (; added < (before ? n : 0); added++) acc = OF(row_add)(acc, x, &at, n, added, adding, &ahead, true);
        v_storef(sum, acc);
        finish(sum, 0, before, y + r - before, bias ? bias + r - before : NULL, add);
        uint8_t *t = reading;
        reading = adding;
        adding = t;
    }
}
