/* mm_formats.h - each format's decode with vectors: bytes of VR rows to small integers, scales and offsets.
 *
 * Owns: the one decode of each format, shared by the matrix-vector and the matrix-matrix kernel of every instruction
 * set (the words v_* are mm_simd_*.h; layouts are described in src/quant). mm_ref.c says the same in plain C.
 *
 * A format F says
 *   F_STEP    blocks of 32 columns decoded at once; F_STEPS: steps per `head`; F_BYTES: bytes a row has per head
 *   F_ZERO    log2 of the zero point that w holds too much (-1: none); F_WIDE: w is signed and needs all 8 bits
 *   F_ASK     where in a step the vector kernel asks for memory ahead: what measured fastest (docs/cpu.md)
 *   F_head    reads what VR rows share over a head: scales
 *   F_read    what block k of step s needs and none before it in its step, turned, to q
 *   F_words   block k of step s: w[i], element r = columns 4 i to 4 i + 3 in row r, as four bytes
 *   F_scales  block k of step s: scale, and offset or factors, element r for row r
 * and, with 256 columns to a head, to be read a row at a time (mm_row_body.h), F_ROW:
 *   F_BITS    of a weight as F_row makes it
 *   F_row     256 columns of one row, bytes as the product wants them: 16 of them in each quarter of w[0] to w[3]
 *   F_row_order   which 16 those are: quarter j of w[v] is [4 j + v]
 *   F_row_factor  sums of products, in that order, times the factors of one row, where it has them
 *   F_row_head    takes in F_HEAD_BYTES of VR rows, one after the other, which begin F_HEAD_AT bytes into the head
 *   F_row_scales  block b of the head: scale and offset
 */
#ifndef LR_MM_FORMATS_H
#define LR_MM_FORMATS_H

/* While reading, a line per line; a few with every fourth of the products of a block; or so, by segments: where 16 rows
 * are too many bytes for the first-level cache. */
enum { ASK_READING, ASK_EVENLY, ASK_SEGMENT };

typedef struct head {
    rows r;
    const uint8_t *ahead; /* memory to ask for, a line per line read; only if `asking` */
    const uint8_t *far;   /* the same for the second-level cache */
    bool asking;
    uint32_t b; /* its first block, counted in the row */
    vf d, m;    /* of all the head */
    vi t[4];    /* words of scales: element r for row r */
    vf c[4];    /* factors */
    vi high[8]; /* words of a plane of upper bits */
} head;

LR_INLINE void ask(head *h) { ask_at(&h->ahead, h->asking); }

typedef struct scales {
    vf s, m, c0, c1;
    vi n; /* two int16: offsets of the halves */
} scales;

/* Turns four vectors of 16-byte lanes into four words per row: out[k] element r = word k of row r. */
LR_INLINE void transpose(const vi v[4], vi out[4])
{
    vi a = v_zip32_lo(v[0], v[1]), b = v_zip32_lo(v[2], v[3]);
    vi c = v_zip32_hi(v[0], v[1]), d = v_zip32_hi(v[2], v[3]);
    out[0] = v_zip64_lo(a, b);
    out[1] = v_zip64_hi(a, b);
    out[2] = v_zip64_lo(c, d);
    out[3] = v_zip64_hi(c, d);
}
#ifdef PACKED
/* Words of VR rows lie together (mm_pack.c), turned already, one load each: so those that several blocks share are rather
 * read AGAIN than kept. */
enum { APART = VR, AGAIN = 1 };
LR_INLINE void read_words(head *h, size_t at, int n, vi *out)
{
    const uint8_t *p = h->r.p + VR * at;
#pragma GCC unroll 8
    for (int k = 0; k < n; k++) out[k] = v_load(p + 4 * VR * k);
}
LR_INLINE void read16(head *h, size_t at, vi out[4]) { read_words(h, at, 4, out); }
LR_INLINE void read32(head *h, size_t at, vi out[8]) { read_words(h, at, 8, out); }
LR_INLINE vi read_word(head *h, size_t at) { return v_load(h->r.p + VR * at); }
LR_INLINE vf read_half(head *h, size_t at) { return v_f16s(h->r.p + VR * at); }
LR_INLINE vf read_last_half(head *h, size_t at) { return read_half(h, at); }
LR_INLINE vi read_byte(head *h, size_t at) { return v_bytes(h->r.p + VR * at); }
#else
enum { APART = 1, AGAIN = 0 };
/* The 16, or 32, bytes of each row that lie `at` bytes into the head, as words. */
LR_INLINE void read16(head *h, size_t at, vi out[4])
{
    vi v[4];
#pragma GCC unroll 8
    for (int j = 0; j < 4; j++) {
        v[j] = v_rows16(&h->r, at, j);
        if (j % (4 / VL) == 0) ask(h);
    }
    transpose(v, out);
}
LR_INLINE void read32(head *h, size_t at, vi out[8])
{
#ifdef HAVE_TURN32
    v_turn32(&h->r, at, &h->ahead, h->asking, out);
#else
    read16(h, at, out);
    read16(h, at + 16, out + 4);
#endif
}
/* 4 bytes of each row. */
LR_INLINE vi read_word(head *h, size_t at)
{
    ask(h);
    return v_rows4(&h->r, at);
}
/* A float16 of each row, with something behind it in the head, or with nothing. */
LR_INLINE vf read_half(head *h, size_t at) { return v_f16(read_word(h, at)); }
LR_INLINE vf read_last_half(head *h, size_t at) { return v_f16(v_shr32(read_word(h, at - 2), 16)); }
/* A byte of each row; what is above it in its word is anything. */
LR_INLINE vi read_byte(head *h, size_t at) { return read_word(h, at); }
#endif
LR_INLINE vi low4(vi v) { return v_and(v, v_set8(15)); }
/* All bits `left` places up, or down. */
LR_INLINE vi move(vi v, int left) { return left >= 0 ? v_shl32(v, left & 31) : v_shr32(v, -left & 31); }
/* Bits [from, from + width) of each byte of a, at `to` and alone; over those of base, which has none there; and over the
 * lower half of each byte of q. */
#ifdef HAVE_FIELD
LR_INLINE vi field(vi a, int from, int width, int to) { return v_field(a, from, width, to); }
LR_INLINE vi with_field(vi base, vi a, int from, int width, int to)
{
    return v_or(base, v_field(a, from, width, to));
}
LR_INLINE vi low4_with(vi q, vi a, int from, int width, int to)
{
    return v_pick(q, v_set8(15), v_field(a, from, width, to));
}
#else
LR_INLINE vi ones(int width, int to) { return v_set8((int8_t)(((1 << width) - 1) << to)); }
LR_INLINE vi field(vi a, int from, int width, int to) { return v_and(move(a, to - from), ones(width, to)); }
LR_INLINE vi with_field(vi base, vi a, int from, int width, int to)
{
    return v_pick(move(a, to - from), ones(width, to), base);
}
LR_INLINE vi low4_with(vi q, vi a, int from, int width, int to) { return with_field(low4(q), a, from, width, to); }
#endif
LR_INLINE vi high4(vi v) { return field(v, 4, 4, 0); }
LR_INLINE vi byte_of(vi word, int k) { return v_and(v_shr32(word, 8 * k), v_set32(255)); }
LR_INLINE vi signed_byte_of(vi word, int k) { return v_sar32(v_shl32(word, 24 - 8 * k), 24); }
#ifndef HAVE_NIBBLES
LR_INLINE vi v_by_low4(vi table, vi a) { return v_table(table, low4(a)); }
LR_INLINE vi v_by_high4(vi table, vi a) { return v_table(table, high4(a)); }
#endif

/* The lower and upper halves of 16 bytes as 32 columns: as they are, or what a table says of them. */
LR_INLINE void nibbles(const vi *q, vi *w)
{
#pragma GCC unroll 8
    for (int i = 0; i < 4; i++) {
        w[i] = low4(q[i]);
        w[4 + i] = high4(q[i]);
    }
}
LR_INLINE void nibbles_of(vi table, const vi *q, vi *w)
{
#pragma GCC unroll 8
    for (int i = 0; i < 4; i++) {
        w[i] = v_by_low4(table, q[i]);
        w[4 + i] = v_by_high4(table, q[i]);
    }
}

/* ---------------------------------------------------------------- Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 */
#define Q4_0_STEP 1
#define Q4_0_STEPS 1
#define Q4_0_BYTES 18
#define Q4_0_ZERO 3
#define Q4_0_WIDE 0
#define Q4_0_ASK ASK_EVENLY
LR_INLINE void Q4_0_head(head *h) { h->d = read_half(h, 0); }
LR_INLINE void Q4_0_read(head *h, int s, int k, vi *q)
{
    (void)s, (void)k;
    read16(h, 2, q);
}
LR_INLINE void Q4_0_words(head *h, int s, int k, const vi *q, vi *w)
{
    (void)h, (void)s, (void)k;
    nibbles(q, w);
}
LR_INLINE void Q4_0_scales(head *h, int s, int k, scales *o)
{
    (void)s, (void)k;
    o->s = h->d;
}

#define Q4_1_STEP 1
#define Q4_1_STEPS 1
#define Q4_1_BYTES 20
#define Q4_1_ZERO -1
#define Q4_1_WIDE 0
#define Q4_1_ASK ASK_EVENLY
LR_INLINE void Q4_1_head(head *h)
{
    vi w = read_word(h, 0);
    h->d = v_f16(w);
    h->m = v_f16(v_xor(v_shr32(w, 16), v_set32(0x8000)));
}
LR_INLINE void Q4_1_read(head *h, int s, int k, vi *q)
{
    (void)s, (void)k;
    read16(h, 4, q);
}
LR_INLINE void Q4_1_words(head *h, int s, int k, const vi *q, vi *w)
{
    (void)h, (void)s, (void)k;
    nibbles(q, w);
}
LR_INLINE void Q4_1_scales(head *h, int s, int k, scales *o)
{
    (void)s, (void)k;
    o->s = h->d;
    o->m = h->m;
}

/* Bit 4 i + k of `high` becomes bit 4 of byte k of w[i]. */
LR_INLINE void fifth_bits(vi high, vi w[8])
{
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        vi four = v_and(v_shr32(high, 4 * i), v_set32(15)); /* bits 0-3 go to bits 4, 12, 20, 28 */
        vi spread = v_or(v_or(v_shl32(four, 4), v_shl32(four, 11)), v_or(v_shl32(four, 18), v_shl32(four, 25)));
        w[i] = v_pick(spread, v_set8(16), w[i]);
    }
}

#define Q5_0_STEP 1
#define Q5_0_STEPS 1
#define Q5_0_BYTES 22
#define Q5_0_ZERO 4
#define Q5_0_WIDE 0
#define Q5_0_ASK ASK_EVENLY
LR_INLINE void Q5_0_head(head *h) { h->d = read_half(h, 0); }
LR_INLINE void Q5_0_read(head *h, int s, int k, vi *q)
{
    (void)s, (void)k;
    read16(h, 6, q);
    q[4] = read_word(h, 2);
}
LR_INLINE void Q5_0_words(head *h, int s, int k, const vi *q, vi *w)
{
    (void)h, (void)s, (void)k;
    nibbles(q, w);
    fifth_bits(q[4], w);
}
LR_INLINE void Q5_0_scales(head *h, int s, int k, scales *o)
{
    (void)s, (void)k;
    o->s = h->d;
}

#define Q5_1_STEP 1
#define Q5_1_STEPS 1
#define Q5_1_BYTES 24
#define Q5_1_ZERO -1
#define Q5_1_WIDE 0
#define Q5_1_ASK ASK_EVENLY
LR_INLINE void Q5_1_head(head *h) { Q4_1_head(h); }
LR_INLINE void Q5_1_read(head *h, int s, int k, vi *q)
{
    (void)s, (void)k;
    read16(h, 8, q);
    q[4] = read_word(h, 4);
}
LR_INLINE void Q5_1_words(head *h, int s, int k, const vi *q, vi *w)
{
    (void)h, (void)s, (void)k;
    nibbles(q, w);
    fifth_bits(q[4], w);
}
LR_INLINE void Q5_1_scales(head *h, int s, int k, scales *o) { Q4_1_scales(h, s, k, o); }

#define Q8_0_STEP 1
#define Q8_0_STEPS 1
#define Q8_0_BYTES 34
#define Q8_0_ZERO -1
#define Q8_0_WIDE 1
#define Q8_0_ASK (VR == 16 ? ASK_SEGMENT : ASK_EVENLY)
LR_INLINE void Q8_0_head(head *h) { h->d = read_half(h, 0); }
LR_INLINE void Q8_0_read(head *h, int s, int k, vi *q)
{
    (void)s, (void)k;
    read32(h, 2, q);
}
LR_INLINE void Q8_0_words(head *h, int s, int k, const vi *q, vi *w)
{
    (void)h, (void)s, (void)k;
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) w[i] = q[i];
}
LR_INLINE void Q8_0_scales(head *h, int s, int k, scales *o)
{
    (void)s, (void)k;
    o->s = h->d;
}

/* ---------------------------------------------------------------- Q4_K, Q5_K */
/* t[0], t[1]: scales 0-3, 4-7 as bytes; t[2], t[3]: offsets. */
LR_INLINE void scale_min_head(head *h)
{
    vi w[4], six = v_set8(63);
    read16(h, 0, w);
    h->d = v_f16(w[0]);
    h->m = v_f16(v_shr32(w[0], 16));
    h->t[0] = v_and(w[1], six);
    h->t[1] = v_pick(v_shr32(w[1], 2), v_set8(0x30), low4(w[3]));
    h->t[2] = v_and(w[2], six);
    h->t[3] = v_pick(v_shr32(w[2], 2), v_set8(0x30), high4(w[3]));
}
LR_INLINE void scale_min(head *h, int j, scales *o)
{
    o->s = v_mul(h->d, v_cvt(byte_of(h->t[j / 4], j % 4)));
    o->m = v_mul(h->m, v_cvt(byte_of(h->t[2 + j / 4], j % 4)));
}

#define Q4_K_STEP 2
#define Q4_K_STEPS 4
#define Q4_K_BYTES 144
#define Q4_K_ZERO -1
#define Q4_K_WIDE 0
#define Q4_K_ASK (VR == 16 ? ASK_SEGMENT : ASK_EVENLY)
LR_INLINE void Q4_K_head(head *h) { scale_min_head(h); }
LR_INLINE void Q4_K_read(head *h, int s, int k, vi *q)
{
    if (k == 0) read32(h, (size_t)(16 + 32 * s), q);
}
LR_INLINE void Q4_K_words(head *h, int s, int k, const vi *q, vi *w)
{
    (void)h, (void)s;
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) w[i] = k ? high4(q[i]) : low4(q[i]);
}
LR_INLINE void Q4_K_scales(head *h, int s, int k, scales *o) { scale_min(h, 2 * s + k, o); }
#ifdef HAVE_ROW
LR_INLINE void scale_min_row_head(head *h, const uint8_t *p)
{
    h->r = rows_of(p, NULL, 16, 0);
    h->asking = false;
    scale_min_head(h);
}
#define Q4_K_ROW 1
#define Q4_K_BITS 4
#define Q4_K_HEAD_AT 0
#define Q4_K_HEAD_BYTES 16
LR_INLINE void Q4_K_row_head(head *h, const uint8_t *p) { scale_min_row_head(h, p); }
LR_INLINE void Q4_K_row_scales(head *h, int b, scales *o) { scale_min(h, b, o); }
LR_INLINE vi Q4_K_row_factor(vi sum, const uint8_t *p)
{
    (void)p;
    return sum;
}
static const uint8_t Q4_K_row_order[16] = {0, 2, 8, 10, 1, 3, 9, 11, 4, 6, 12, 14, 5, 7, 13, 15};
LR_INLINE void Q4_K_row(const uint8_t *p, vi w[4])
{
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        vi q = v_load_once(p + 16 + 64 * i);
        w[2 * i] = low4(q);
        w[2 * i + 1] = high4(q);
    }
}
#endif

#define Q5_K_STEP 2
#define Q5_K_STEPS 4
#define Q5_K_BYTES 176
#define Q5_K_ZERO -1
#define Q5_K_WIDE 0
#define Q5_K_ASK (VR == 16 ? ASK_SEGMENT : ASK_READING)
LR_INLINE void Q5_K_head(head *h)
{
    scale_min_head(h);
    read32(h, 16, h->high);
}
LR_INLINE void Q5_K_read(head *h, int s, int k, vi *q)
{
    if (k == 0) read32(h, (size_t)(48 + 32 * s), q);
    if (AGAIN) read32(h, 16, h->high);
}
LR_INLINE void Q5_K_words(head *h, int s, int k, const vi *q, vi *w)
{
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        w[i] = k ? with_field(high4(q[i]), h->high[i], 2 * s + 1, 1, 4) : low4_with(q[i], h->high[i], 2 * s, 1, 4);
}
LR_INLINE void Q5_K_scales(head *h, int s, int k, scales *o) { scale_min(h, 2 * s + k, o); }
#ifdef HAVE_ROW
#define Q5_K_ROW 1
#define Q5_K_BITS 5
#define Q5_K_HEAD_AT 0
#define Q5_K_HEAD_BYTES 16
LR_INLINE void Q5_K_row_head(head *h, const uint8_t *p) { scale_min_row_head(h, p); }
LR_INLINE void Q5_K_row_scales(head *h, int b, scales *o) { scale_min(h, b, o); }
#define Q5_K_row_factor Q4_K_row_factor
#define Q5_K_row_order Q4_K_row_order
LR_INLINE void Q5_K_row(const uint8_t *p, vi w[4])
{
    vi high = v_twice32(p + 16);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        vi q = v_load_once(p + 48 + 64 * i);
        w[2 * i] = v_pick(q, v_set8(15), v_two_fields(high, 4 * i, 4 * i + 2, 1, 4));
        w[2 * i + 1] = v_pick(v_shr32(q, 4), v_set8(15), v_two_fields(high, 4 * i + 1, 4 * i + 3, 1, 4));
    }
}
#endif

/* ---------------------------------------------------------------- Q6_K */
#define Q6_K_STEP 4
#define Q6_K_STEPS 2
#define Q6_K_BYTES 210
#define Q6_K_ZERO 5
#define Q6_K_WIDE 0
#define Q6_K_ASK (VR == 16 ? ASK_SEGMENT : ASK_EVENLY)
LR_INLINE void Q6_K_head(head *h)
{
    read16(h, 192, h->t);
    h->d = read_last_half(h, 208);
}
/* A step is 128 columns: 64 bytes of low bits, whose upper halves are blocks 2 and 3, and 32 of high ones. */
LR_INLINE void Q6_K_read(head *h, int s, int k, vi *q)
{
    if (k == 0 || AGAIN) read32(h, (size_t)(128 + 32 * s), h->high);
    if (k < 2 || AGAIN) read32(h, (size_t)(64 * s + k % 2 * 32), q + k % 2 * 8);
}
LR_INLINE void Q6_K_words(head *h, int s, int k, const vi *q, vi *w)
{
    (void)s;
    q += 8 * (k % 2);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        w[i] = k < 2 ? low4_with(q[i], h->high[i], 2 * k, 2, 4) : with_field(high4(q[i]), h->high[i], 2 * k, 2, 4);
}
LR_INLINE void Q6_K_scales(head *h, int s, int k, scales *o)
{
    int b = 4 * s + k;
    o->s = h->d;
    o->c0 = v_cvt(signed_byte_of(h->t[b / 2], 2 * (b % 2)));
    o->c1 = v_cvt(signed_byte_of(h->t[b / 2], 2 * (b % 2) + 1));
}

#ifdef HAVE_ROW
#define Q6_K_ROW 1
#define Q6_K_BITS 6
#define Q6_K_HEAD_AT 206
#define Q6_K_HEAD_BYTES 4
LR_INLINE void Q6_K_row_head(head *h, const uint8_t *p) { h->d = v_f16(v_shr32(v_load(p), 16)); }
LR_INLINE void Q6_K_row_scales(head *h, int b, scales *o)
{
    (void)b;
    o->s = h->d;
}
static const uint8_t Q6_K_row_order[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
LR_INLINE vi Q6_K_row_factor(vi sum, const uint8_t *p)
{
    return v_mul32(sum, v_factors(v_load128(p + 192), Q6_K_row_order));
}
LR_INLINE void Q6_K_row(const uint8_t *p, vi w[4])
{
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        vi q = v_load_once(p + 64 * i), high = v_twice32(p + 128 + 32 * i);
        w[2 * i] = v_pick(q, v_set8(15), v_two_fields(high, 0, 2, 2, 4));
        w[2 * i + 1] = v_pick(v_shr32(q, 4), v_set8(15), v_two_fields(high, 4, 6, 2, 4));
    }
}
#endif

/* ---------------------------------------------------------------- Q2_K, Q3_K */
#define Q2_K_STEP 4
#define Q2_K_STEPS 2
#define Q2_K_BYTES 84
#define Q2_K_ZERO -1
#define Q2_K_WIDE 0
#define Q2_K_ASK ASK_EVENLY
LR_INLINE void Q2_K_head(head *h)
{
    read16(h, 0, h->t);
    vi w = read_word(h, 80);
    h->d = v_f16(w);
    h->m = v_f16(v_shr32(w, 16));
}
LR_INLINE void Q2_K_read(head *h, int s, int k, vi *q)
{
    if (k == 0) read32(h, (size_t)(16 + 32 * s), q);
}
LR_INLINE void Q2_K_words(head *h, int s, int k, const vi *q, vi *w)
{
    (void)h, (void)s;
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) w[i] = field(q[i], 2 * k, 2, 0);
}
LR_INLINE void Q2_K_scales(head *h, int s, int k, scales *o)
{
    int b = 4 * s + k;
    vi w = v_shr32(h->t[b / 2], 16 * (b % 2));
    o->s = h->d;
    o->m = h->m;
    o->c0 = v_cvt(v_and(w, v_set32(15)));
    o->c1 = v_cvt(v_and(v_shr32(w, 8), v_set32(15)));
    o->n = v_or(v_and(v_shr32(w, 4), v_set32(15)), v_and(v_shl32(w, 4), v_set32(0xf0000)));
}

#define Q3_K_STEP 4
#define Q3_K_STEPS 2
#define Q3_K_BYTES 110
#define Q3_K_ZERO 2
#define Q3_K_WIDE 0
#define Q3_K_ASK ASK_EVENLY
LR_INLINE void Q3_K_head(head *h)
{
    vi w[4], three = v_set8(0x30);
    read32(h, 0, h->high);
    /* 4 + 12 bytes: the last quants, then s6[12] */
    read16(h, 92, w);
    h->t[0] = v_pick(v_shl32(w[3], 4), three, low4(w[1]));
    h->t[1] = v_pick(v_shl32(w[3], 2), three, low4(w[2]));
    h->t[2] = v_pick(w[3], three, high4(w[1]));
    h->t[3] = v_pick(v_shr32(w[3], 2), three, high4(w[2]));
    h->d = read_last_half(h, 108);
}
LR_INLINE void Q3_K_read(head *h, int s, int k, vi *q)
{
    if (k == 0 || AGAIN) read32(h, (size_t)(32 + 32 * s), q);
    if (AGAIN) read32(h, 0, h->high);
}
LR_INLINE void Q3_K_words(head *h, int s, int k, const vi *q, vi *w)
{
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) w[i] = with_field(field(q[i], 2 * k, 2, 0), h->high[i], 4 * s + k, 1, 2);
}
LR_INLINE void Q3_K_scales(head *h, int s, int k, scales *o)
{
    int b = 4 * s + k;
    vi w = h->t[b / 2];
    o->s = h->d;
    o->c0 = v_cvt(v_sub32(byte_of(w, 2 * (b % 2)), v_set32(32)));
    o->c1 = v_cvt(v_sub32(byte_of(w, 2 * (b % 2) + 1), v_set32(32)));
}

#ifdef HAVE_ROW
#define Q3_K_ROW 1
#define Q3_K_BITS 3
#define Q3_K_HEAD_AT 106
#define Q3_K_HEAD_BYTES 4
#define Q3_K_row_head Q6_K_row_head
#define Q3_K_row_scales Q6_K_row_scales
static const uint8_t Q3_K_row_order[16] = {0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15};
LR_INLINE vi Q3_K_row_factor(vi sum, const uint8_t *p)
{
    return v_mul32(sum, v_factors(v_q3_factors(p + 96), Q3_K_row_order));
}
LR_INLINE void Q3_K_row(const uint8_t *p, vi w[4])
{
    vi q = v_load_once(p + 32), high = v_twice32(p);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) w[i] = v_pick(v_shr32(q, 2 * i), v_set8(3), v_two_fields(high, i, 4 + i, 1, 2));
}
#endif

/* ---------------------------------------------------------------- IQ2_XXS, IQ4_NL, IQ4_XS */
#define IQ2_XXS_STEP 2
#define IQ2_XXS_STEPS 4
#define IQ2_XXS_BYTES 66
#define IQ2_XXS_ZERO 6
#define IQ2_XXS_WIDE 0
#define IQ2_XXS_ASK ASK_EVENLY
LR_INLINE void IQ2_XXS_head(head *h) { h->d = read_half(h, 0); }
/* 32 columns: four grid indices and the word of signs of each row, to words of magnitude, sign, plus 64. */
LR_INLINE void iq2_block(vi index, vi word, vi w[8])
{
#ifdef HAVE_IQ2
    v_iq2(index, word, w);
#else
    uint32_t at[VR], signs[VR];
    uint64_t out[4][VR];
    v_store(at, index);
    v_store(signs, word);
    for (int r = 0; r < VR; r++)
        for (int l = 0; l < 4; l++) {
            uint64_t size = lr_mm_iq2_grid[at[r] >> 8 * l & 255], minus = lr_mm_iq2_sign[signs[r] >> 7 * l & 127];
            /* bytes are at most 43: neither negation nor the 64 carries into the next one */
            out[l][r] = 0x4040404040404040u + (size & ~minus) - (size & minus);
        }
    for (int l = 0; l < 4; l++) {
        uint32_t half[2][VR];
        for (int r = 0; r < VR; r++) half[0][r] = (uint32_t)out[l][r], half[1][r] = (uint32_t)(out[l][r] >> 32);
        w[2 * l] = v_load(half[0]);
        w[2 * l + 1] = v_load(half[1]);
    }
#endif
}
LR_INLINE void IQ2_XXS_read(head *h, int s, int k, vi *q)
{
    if (k == 0) read16(h, (size_t)(2 + 16 * s), q);
    h->t[k] = q[2 * k + 1]; /* cppcheck-suppress uninitvar ; k counts from 0 */
}
LR_INLINE void IQ2_XXS_words(head *h, int s, int k, const vi *q, vi *w)
{
    (void)h, (void)s;
    iq2_block(q[2 * k], q[2 * k + 1], w);
}
LR_INLINE void IQ2_XXS_scales(head *h, int s, int k, scales *o)
{
    (void)s;
    vf n = v_cvt(v_shr32(h->t[k], 28));
    o->s = v_mul(v_mul(h->d, v_addf(v_setf(0.5f), n)), v_setf(0.25f));
}

/* The table is signed. Where bytes must not be, 128 is added in the table itself. */
#define IQ4_ZERO (WIDE_FLIP ? 7 : -1)
LR_INLINE vi iq4_table(void)
{
    vi t = v_all16(lr_iq4_values);
    return WIDE_FLIP ? v_xor(t, v_set8(-128)) : t;
}

#define IQ4_NL_STEP 1
#define IQ4_NL_STEPS 1
#define IQ4_NL_BYTES 18
#define IQ4_NL_ZERO IQ4_ZERO
#define IQ4_NL_WIDE !WIDE_FLIP
#define IQ4_NL_ASK ASK_EVENLY
LR_INLINE void IQ4_NL_head(head *h) { h->d = read_half(h, 0); }
LR_INLINE void IQ4_NL_read(head *h, int s, int k, vi *q)
{
    (void)s, (void)k;
    read16(h, 2, q);
}
LR_INLINE void IQ4_NL_words(head *h, int s, int k, const vi *q, vi *w)
{
    (void)h, (void)s, (void)k;
    nibbles_of(iq4_table(), q, w);
}
LR_INLINE void IQ4_NL_scales(head *h, int s, int k, scales *o)
{
    (void)s, (void)k;
    o->s = h->d;
}

#define IQ4_XS_STEP 2
#define IQ4_XS_STEPS 4
#define IQ4_XS_BYTES 136
#define IQ4_XS_ZERO IQ4_ZERO
#define IQ4_XS_WIDE !WIDE_FLIP
#define IQ4_XS_ASK (VR == 16 ? ASK_SEGMENT : ASK_READING)
LR_INLINE void IQ4_XS_head(head *h)
{
    vi w = read_word(h, 0);
    h->d = v_f16(w);
    h->t[1] = v_shr32(w, 16);
    h->t[0] = read_word(h, 4);
}
LR_INLINE void IQ4_XS_read(head *h, int s, int k, vi *q)
{
    if (k == 0) read32(h, (size_t)(8 + 32 * s), q);
}
LR_INLINE void IQ4_XS_words(head *h, int s, int k, const vi *q, vi *w)
{
    (void)h, (void)s;
    nibbles_of(iq4_table(), q + 4 * k, w); /* 16 bytes hold a block */
}
LR_INLINE void IQ4_XS_scales(head *h, int s, int k, scales *o)
{
    int b = 2 * s + k;
    vi low = v_and(v_shr32(h->t[0], 4 * b), v_set32(15)), high = v_and(v_shr32(h->t[1], 2 * b), v_set32(3));
    o->s = v_mul(h->d, v_cvt(v_sub32(v_or(low, v_shl32(high, 4)), v_set32(32))));
}

/* ---------------------------------------------------------------- MXFP4, MXFP4_PAIRS, NVFP4 */
/* Bytes of a and b in turn, of the lower (half 0) or upper two of each word. */
LR_INLINE vi v_weave(vi a, vi b, int half)
{
    static const uint8_t order[2][16] = {{0, 0, 1, 1, 4, 4, 5, 5, 8, 8, 9, 9, 12, 12, 13, 13},
                                         {2, 2, 3, 3, 6, 6, 7, 7, 10, 10, 11, 11, 14, 14, 15, 15}};
    vi odd = v_set32((int)0xff00ff00), at = v_all16(order[half]);
    return v_pick(v_table(b, at), odd, v_and(v_table(a, at), v_xor(odd, v_set8(-1))));
}
/* E2M1 times two, plus 16: a zero point of 2^4. */
LR_INLINE vi fp4_table(void)
{
    static const int8_t values[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};
    return v_all16(values);
}
/* 2^(e - 128) of the low byte. (e - 1) << 23 is its float, but for 0 and 1, which are subnormal. */
LR_INLINE vf e8m0_half(vi w)
{
    vi e = v_and(w, v_set32(255)), normal = v_sub32(v_shl32(e, 23), v_set32(0x00800000));
    vi tiny = v_add32(v_shl32(v_and(e, v_set32(1)), 21), v_set32(0x00200000));
    return v_as_f(v_max32(normal, tiny));
}

#define MXFP4_STEP 1
#define MXFP4_STEPS 1
#define MXFP4_BYTES 17
#define MXFP4_ZERO 4
#define MXFP4_WIDE 0
#define MXFP4_ASK ASK_EVENLY
LR_INLINE void MXFP4_head(head *h) { h->d = e8m0_half(read_byte(h, 0)); }
LR_INLINE void MXFP4_read(head *h, int s, int k, vi *q)
{
    (void)s, (void)k;
    read16(h, 1, q);
}
LR_INLINE void MXFP4_words(head *h, int s, int k, const vi *q, vi *w)
{
    (void)h, (void)s, (void)k;
    nibbles_of(fp4_table(), q, w);
}
LR_INLINE void MXFP4_scales(head *h, int s, int k, scales *o)
{
    (void)s, (void)k;
    o->s = h->d;
}

#ifndef PACKED /* its scales are a plane of their own */
#define MXFP4_PAIRS_STEP 1
#define MXFP4_PAIRS_STEPS 1
#define MXFP4_PAIRS_BYTES 16
#define MXFP4_PAIRS_ZERO 4
#define MXFP4_PAIRS_WIDE 0
#define MXFP4_PAIRS_ASK ASK_EVENLY
LR_INLINE void MXFP4_PAIRS_head(head *h)
{
    /* A word of scales that ends in this one: the word that begins here might reach past the end of the plane. */
    if (h->b >= 3) {
        rows aux = rows_of(h->r.aux - 3, NULL, h->r.aux_stride, 0);
        h->d = e8m0_half(v_shr32(v_rows4(&aux, 0), 24));
        return;
    }
    uint8_t e[4 * VR] = {0};
    for (int r = 0; r < VR; r++) e[4 * r] = h->r.aux[(size_t)r * h->r.aux_stride];
    rows words = rows_of(e, NULL, 4, 0);
    h->d = e8m0_half(v_rows4(&words, 0));
}
LR_INLINE void MXFP4_PAIRS_read(head *h, int s, int k, vi *q)
{
    (void)s, (void)k;
    read16(h, 0, q);
}
LR_INLINE void MXFP4_PAIRS_words(head *h, int s, int k, const vi *q, vi *w)
{
    (void)h, (void)s, (void)k;
#pragma GCC unroll 8
    for (int i = 0; i < 4; i++) { /* a byte holds two neighbours: 8 columns per word */
        vi lo = v_by_low4(fp4_table(), q[i]), hi = v_by_high4(fp4_table(), q[i]);
        w[2 * i] = v_weave(lo, hi, 0);
        w[2 * i + 1] = v_weave(lo, hi, 1);
    }
}
LR_INLINE void MXFP4_PAIRS_scales(head *h, int s, int k, scales *o)
{
    (void)s, (void)k;
    o->s = h->d;
}

#endif

#define NVFP4_STEP 2
#define NVFP4_STEPS 1
#define NVFP4_BYTES 36
#define NVFP4_ZERO 4
#define NVFP4_WIDE 0
#define NVFP4_ASK ASK_READING
#ifndef HAVE_UE4M3
/* Halves of the E4M3 bytes of each word, without sign, as floats; 0x7f is 0. As F16 their bits are 2^8 too small: so those
 * below the least normal number never are a float's subnormal ones, which cost a hundred cycles each. */
LR_INLINE void v_ue4m3_halves(vi word, vf c[4])
{
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        vi s = byte_of(word, k), bits = v_shl32(v_and(s, v_set32(0x7f)), 7), nan = v_eq32(s, v_set32(0x7f));
        c[k] = v_mul(v_f16(v_xor(bits, v_and(nan, bits))), v_setf(0x1p7f));
    }
}
#endif
LR_INLINE void NVFP4_head(head *h) { v_ue4m3_halves(read_word(h, 0), h->c); }
LR_INLINE void NVFP4_read(head *h, int s, int k, vi *q)
{
    if (k == 0) read32(h, (size_t)(4 + 32 * s), q);
}
LR_INLINE void NVFP4_words(head *h, int s, int k, const vi *q, vi *w)
{
    (void)h, (void)s;
#pragma GCC unroll 8
    for (int i = 0; i < 4; i++) { /* 8 bytes hold 16 columns */
        w[i / 2 * 4 + i % 2] = v_by_low4(fp4_table(), q[4 * k + i]);
        w[i / 2 * 4 + 2 + i % 2] = v_by_high4(fp4_table(), q[4 * k + i]);
    }
}
LR_INLINE void NVFP4_scales(head *h, int s, int k, scales *o)
{
    (void)s;
    o->s = v_setf(1);
    o->c0 = h->c[2 * k];
    o->c1 = h->c[2 * k + 1];
}

#endif
