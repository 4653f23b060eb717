/* attn_body.cuh - the attention kernels for any generation, over the form of the cache; attn_<form>.cu instantiate them.
 *
 * Owns: loading of tiles, the kernel of sequences with one token (a chunk of one KV head per block) and of those with more
 * (64 rows per block, 16 per warp, all their chunks). A row is (token, query head of the group). Tiles are 64, 128 or 256
 * columns wide whatever head_dim is. Refuses to own: arithmetic (attn.cuh).
 */
#ifndef LR_ATTN_BODY_CUH
#define LR_ATTN_BODY_CUH

#include "attn.cuh"

/* ---------------------------------------------------------------- where things are */
struct chain { /* a sequence, as one KV head sees it */
    const uint8_t *cache;
    const uint32_t *blocks;
    uint32_t stride;
};
__device__ __forceinline__ chain chain_of(const lr_cu_attn &a, uint32_t seq, uint32_t head)
{
    return {a.cache + head * a.head_stride, a.step.blocks + (size_t)seq * a.step.max_blocks, a.block_stride};
}
/* The last s of n with starts[s] <= u, starts rising; 32 lanes look together. */
__device__ __forceinline__ uint32_t find(const uint32_t *starts, uint32_t n, uint32_t u)
{
    uint32_t at = 0, lane = threadIdx.x % 32;
    while (n > 1) {
        uint32_t by = (n + 31) / 32, i = lane * by;
        uint32_t some = __popc(__ballot_sync(~0u, i < n && starts[at + i] <= u));
        uint32_t from = (some ? some - 1 : 0) * by;
        at += from;
        n = min(by, n - from);
    }
    return at;
}

/* ---------------------------------------------------------------- tiles
 * A tile: CHUNK positions of D columns of F16; HL: a second one behind it with what those left. */
template <int D, int FORM> struct tile {
    static constexpr bool HL = FORM == KV_F32, CODED = FORM >= KV_Q8;
    static constexpr uint32_t one = CHUNK * D * 2, bytes = one * (HL ? 2 : 1);
};

/* Block b of the chunk, matrix of `pad` columns at `from` (NULL: zeros) into the tile; positions from n_real on are 0. */
template <int D, int THREADS>
__device__ __forceinline__ void copy_block(uint32_t to, uint32_t b, const uint8_t *from, const uint8_t *any,
                                           uint32_t pad, uint32_t n_real)
{
    uint32_t pieces = pad / 8;
    bool panels = pad % 64 == 0;
    const uint8_t *src = from ? from : any;
    for (uint32_t i = threadIdx.x; i < LR_KV_BLOCK * pieces; i += THREADS) {
        uint32_t p, at;
        if (panels) {
            p = i / 8 % 32;
            at = (i / 256 * CHUNK + b * 32 + p) * 128 + i % 8 * 16;
        } else {
            p = i / pieces;
            at = tile_at(CHUNK, b * 32 + p, i % pieces);
        }
        lr_cu_copy16(to + at, src + (size_t)i * 16, from && p < n_real);
    }
}
/* Columns no block has. */
template <int D, int THREADS> __device__ __forceinline__ void clear_rest(uint8_t *tile, uint32_t pad)
{
    uint32_t have = pad / 8, n = D / 8 - have;
    for (uint32_t i = threadIdx.x; i < CHUNK * n; i += THREADS)
        *(uint4 *)(tile + tile_at(CHUNK, i / n, have + i % n)) = make_uint4(0, 0, 0, 0);
}

/* 32 numbers of a position: codes q times d. */
__device__ __forceinline__ uint32_t scaled(uint32_t bytes, bool high, __half2 d)
{
    uint32_t h = __byte_perm(bytes ^ 0x80808080u, 0x64646464u, high ? 0x4342 : 0x4140); /* 1024 + 128 + q */
    __half2 q = __hsub2(*(__half2 *)&h, __half2half2(__ushort_as_half(0x6480)));
    q = __hmul2(q, d);
    return *(uint32_t *)&q;
}
struct codes {
    uint4 q[2];
    uint16_t d;
};
template <int FORM>
__device__ __forceinline__ codes load_codes(const uint8_t *m, uint32_t pad, uint32_t p, uint32_t group)
{
    const uint4 *q = (const uint4 *)(m + (size_t)p * pad + group * 32);
    const uint16_t *d = (const uint16_t *)(m + (size_t)LR_KV_BLOCK * pad) + p * (pad / 32) + group;
    return {{__ldcg(q), __ldcg(q + 1)}, __ldcg(d)};
}
template <int FORM>
__device__ __forceinline__ void put_codes(uint8_t *tile, const codes &c, uint32_t p, uint32_t group)
{
    __half2 d = __half2half2(__ushort_as_half(c.d));
    const uint32_t *w = (const uint32_t *)c.q;
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
        uint4 v = make_uint4(scaled(w[2 * i], false, d), scaled(w[2 * i], true, d), scaled(w[2 * i + 1], false, d),
                             scaled(w[2 * i + 1], true, d));
        *(uint4 *)(tile + tile_at(CHUNK, p, group * 4 + i)) = v;
    }
}

/* What a load takes of a chunk: blocks [b0, b1) of it, numbered so in the cache; positions up to `last` are real, the rest
 * becomes zeros. */
struct piece {
    uint32_t chunk, b0, b1, last, id[BLOCKS];
};
__device__ __forceinline__ piece piece_of(const chain &c, uint32_t chunk, uint32_t last)
{
    piece w = {chunk, 0, BLOCKS, last, {}};
#pragma unroll
    for (uint32_t b = 0; b < BLOCKS; b++)
        if (chunk * CHUNK + b * 32 <= last) w.id[b] = c.blocks[chunk * BLOCKS + b];
    return w;
}
__device__ __forceinline__ uint32_t id_of(const piece &w, uint32_t b)
{
    return b < 2 ? b ? w.id[1] : w.id[0] : b == 2 ? w.id[2] : w.id[3];
}
/* Matrix K (which 0) or V (1) of blocks of a chunk. Coded forms are there at once for this thread, others when copies are. */
template <int D, int FORM, int THREADS>
__device__ __forceinline__ void load_tile(uint8_t *to, const chain &c, uint32_t head_dim, uint32_t which,
                                          const piece &w)
{
    uint32_t pad = attn_pad(head_dim, FORM), size = attn_matrix(pad, FORM), first = w.chunk * CHUNK;
    if constexpr (tile<D, FORM>::CODED) {
        uint32_t groups = pad / 32, n = (w.b1 - w.b0) * 32 * groups;
        constexpr int AT_ONCE = CHUNK * (D / 32) / THREADS > 4 ? 4 : CHUNK * (D / 32) / THREADS;
        for (uint32_t i0 = threadIdx.x; i0 < n; i0 += AT_ONCE * THREADS) {
            codes k[AT_ONCE];
#pragma unroll
            for (int j = 0; j < AT_ONCE; j++) {
                uint32_t i = i0 + j * THREADS, p = w.b0 * 32 + i / groups;
                k[j] = {};
                if (i < n && first + p <= w.last)
                    k[j] = load_codes<FORM>(c.cache + (size_t)id_of(w, p / 32) * c.stride + which * size, pad, p % 32,
                                            i % groups);
            }
#pragma unroll
            for (int j = 0; j < AT_ONCE; j++) {
                uint32_t i = i0 + j * THREADS;
                if (i < n) put_codes<FORM>(to, k[j], w.b0 * 32 + i / groups, i % groups);
            }
        }
        return;
    }
    uint32_t base = lr_cu_smem(to);
#pragma unroll
    for (uint32_t b = 0; b < BLOCKS; b++) {
        if (b < w.b0 || b >= w.b1) continue;
        uint32_t p0 = first + b * 32;
        const uint8_t *from = NULL;
        if (p0 <= w.last) from = c.cache + (size_t)w.id[b] * c.stride + which * size;
        uint32_t n_real = p0 <= w.last ? w.last - p0 + 1 : 0;
        copy_block<D, THREADS>(base, b, from, c.cache, pad, n_real);
        if (tile<D, FORM>::HL)
            copy_block<D, THREADS>(base + tile<D, FORM>::one, b, from ? from + 2 * size : NULL, c.cache, pad, n_real);
    }
}
template <int D, int FORM, int THREADS>
__device__ __forceinline__ void clear_tile_rest(uint8_t *to, uint32_t head_dim)
{
    uint32_t pad = attn_pad(head_dim, FORM);
    clear_rest<D, THREADS>(to, pad);
    if (tile<D, FORM>::HL) clear_rest<D, THREADS>(to + tile<D, FORM>::one, pad);
}

/* Two numbers of a scaled query row into the rows of Q: what rounding keeps, and what it left. */
template <int D> struct q_rows {
    static constexpr uint32_t pitch = 2 * D + 16; /* bytes */
};
__device__ __forceinline__ void put_q(uint8_t *hi, uint8_t *lo, uint32_t at, float a, float b, float scale)
{
    a = in_half(__fmul_rn(a, scale)), b = in_half(__fmul_rn(b, scale));
    uint32_t h = pack(a, b);
    *(uint32_t *)(hi + at) = h;
    if (lo) *(uint32_t *)(lo + at) = pack_rest(a, b, h);
}

/* Scores of 16 rows (queries a, and lo if `both`) with 16 positions from `p` on of tile k. */
template <int D, bool HL>
__device__ __forceinline__ void score_pair(float s[2][4], const uint32_t a[4], const uint32_t lo[4], bool both,
                                           uint32_t k, uint32_t p, uint32_t kk)
{
    uint32_t lane = threadIdx.x % 32, at = tile_at(CHUNK, p + lane / 16 * 8 + lane % 8, 2 * kk + lane / 8 % 2), b[4];
    lr_cu_ldmatrix(b, k + at);
    lr_cu_mma<false>(s[0], a, b);
    lr_cu_mma<false>(s[1], a, b + 2);
    if (both) {
        lr_cu_mma<false>(s[0], lo, b);
        lr_cu_mma<false>(s[1], lo, b + 2);
    }
    if (HL) {
        lr_cu_ldmatrix(b, k + CHUNK * D * 2 + at);
        lr_cu_mma<false>(s[0], a, b);
        lr_cu_mma<false>(s[1], a, b + 2);
    }
}
/* Values of 16 columns from `col` on: weights w of 16 rows, and lo if `both` and 16 positions from 16 ks on. */
template <int D, bool HL>
__device__ __forceinline__ void value_pair(float o[2][4], const uint32_t w[4], const uint32_t lo[4], bool both,
                                           uint32_t v, uint32_t col, uint32_t ks)
{
    uint32_t lane = threadIdx.x % 32, at = tile_at(CHUNK, ks * 16 + lane % 16, col / 8 + lane / 16), b[4];
    lr_cu_ldmatrix_turned(b, v + at);
    lr_cu_mma<false>(o[0], w, b);
    lr_cu_mma<false>(o[1], w, b + 2);
    if (both) {
        lr_cu_mma<false>(o[0], lo, b);
        lr_cu_mma<false>(o[1], lo, b + 2);
    }
    if (HL) {
        lr_cu_ldmatrix_turned(b, v + CHUNK * D * 2 + at);
        lr_cu_mma<false>(o[0], w, b);
        lr_cu_mma<false>(o[1], w, b + 2);
    }
}

/* ---------------------------------------------------------------- one token per sequence
 * A block of eight warps takes a chunk of one KV head and 16 rows at most. Warp w scores positions 16w .. 16w + 15; when the
 * chunk's largest score is known, weights go to shared memory, and warp w sums columns 16w .. 16w + 15 over all positions.
 * Blocks walk (chunk, head) pairs; if the chunks have no room in `parts`, whole (sequence, head) pairs. */
template <int D, int FORM> struct decode_room {
    static constexpr uint32_t pitch_w = 2 * CHUNK + 16; /* bytes of a row of weights */
    static constexpr uint32_t q = 16 * q_rows<D>::pitch, w = 16 * pitch_w, most = 8 * 16 * 4, sums = 8 * 16 * 4 * 4;
    /* Keys and values apart: weights and sums take the place of keys that were scored. Else values do. */
    static constexpr uint32_t bytes(bool apart)
    {
        return 2 * q + most + (apart ? 2 * tile<D, FORM>::bytes : tile<D, FORM>::bytes + 2 * w + sums);
    }
};

template <int D, int FORM>
__global__ __launch_bounds__(256, D <= 128 ? 3 : 1) void attn_decode(LR_CU_ARG(lr_cu_attn) a, const attn_plan plan,
                                                                     const bool apart)
{
    typedef decode_room<D, FORM> room;
    typedef tile<D, FORM> T;
    constexpr int PAIRS = D / 128 < 1 ? 1 : D / 128;
    uint8_t *smem = lr_cu_shared();
    uint8_t *kt = smem, *vt = smem + (apart ? T::bytes : 0), *q_hi = vt + T::bytes, *q_lo = q_hi + room::q;
    float *most8 = (float *)(q_lo + room::q);
    uint8_t *w_hi = apart ? kt : (uint8_t *)(most8 + 8 * 16), *w_lo = w_hi + room::w;
    float *sums8 = (float *)(w_lo + room::w);

    lr_cu_begin();
    const uint32_t tid = threadIdx.x, warp = tid / 32, lane = tid % 32, g = lane / 4, t4 = lane % 4;
    const uint32_t n_seq = a.step.counts->n_seq, n_unit = a.step.counts->n_unit;
    const bool chains = n_unit > plan.cap;
    const uint32_t n_item = (chains ? n_seq : n_unit) * a.n_head_kv * plan.row_tiles;
    const uint32_t part = attn_part(a.head_dim);
    if (apart) clear_tile_rest<D, FORM, 256>(vt, a.head_dim);
    bool waited = false;

    for (uint32_t item = blockIdx.x; item < n_item; item += gridDim.x) {
        uint32_t rt = item % plan.row_tiles, head = item / plan.row_tiles % a.n_head_kv;
        uint32_t u = item / (plan.row_tiles * a.n_head_kv), seq = chains ? u : find(a.step.unit, n_seq, u);
        uint32_t tok = a.step.first[seq], chunk = 0, end;
        if (a.step.first[seq + 1] - tok != 1) continue;
        uint32_t p = a.step.pos[tok], lo = first_seen(p, a.window);
        if (!chains) chunk = u - a.step.unit[seq];
        if (chains) chunk = lo / CHUNK;
        end = chains ? p / CHUNK : chunk;
        if (chunk < lo / CHUNK) continue;
        bool whole = chains || lo / CHUNK == p / CHUNK;
        uint32_t n_row = min(16u, plan.group - rt * 16), head0 = head * plan.group + rt * 16;
        chain c = chain_of(a, seq, head);

        float most[2] = {NEVER, NEVER}, sum[2] = {0, 0}, o[PAIRS][2][4];
#pragma unroll
        for (int i = 0; i < PAIRS * 8; i++) o[i / 8][i / 4 % 2][i % 4] = 0;

        for (bool first = true; chunk <= end; chunk++, first = false) {
            /* what earlier steps stored may be asked for before this step's own position is there */
            uint32_t now = (p - min(p, chunk * CHUNK)) / 32, b_now = min(now, (uint32_t)BLOCKS);
            uint32_t b_end = waited ? (uint32_t)BLOCKS : b_now;
            piece w = piece_of(c, chunk, p);
            w.b1 = b_end;
            clear_tile_rest<D, FORM, 256>(kt, a.head_dim); /* weights were there */
            load_tile<D, FORM, 256>(kt, c, a.head_dim, 0, w);
            lr_cu_copy_end();
            if (apart) load_tile<D, FORM, 256>(vt, c, a.head_dim, 1, w);
            lr_cu_copy_end();
            if (!waited) {
                lr_cu_wait();
                waited = true;
                w.b0 = b_end, w.b1 = BLOCKS;
                load_tile<D, FORM, 256>(kt, c, a.head_dim, 0, w);
                lr_cu_copy_end();
                if (apart) load_tile<D, FORM, 256>(vt, c, a.head_dim, 1, w);
                lr_cu_copy_end();
            }
            if (first)
                for (uint32_t i = tid; i < 16 * D / 2; i += 256) {
                    uint32_t r = i / (D / 2), d = i % (D / 2) * 2;
                    const float *q = a.q + (size_t)tok * a.q_stride + (size_t)(head0 + r) * a.head_dim + d;
                    bool in = r < n_row;
                    put_q(q_hi, q_lo, r * q_rows<D>::pitch + d * 2, in && d < a.head_dim ? q[0] : 0.0f,
                          in && d + 1 < a.head_dim ? q[1] : 0.0f, a.scale);
                }
            if (apart) lr_cu_copied<1>();
            else lr_cu_copied<0>();
            __syncthreads();

            float s[2][4] = {};
            uint32_t q_at = (lane % 16) * q_rows<D>::pitch + lane / 16 * 16;
#pragma unroll
            for (int kk = 0; kk < D / 16; kk++) {
                uint32_t qa[4], qb[4] = {};
                lr_cu_ldmatrix(qa, lr_cu_smem(q_hi) + q_at + kk * 32);
                if (a.exact) lr_cu_ldmatrix(qb, lr_cu_smem(q_lo) + q_at + kk * 32);
                score_pair<D, T::HL>(s, qa, qb, a.exact, lr_cu_smem(kt), warp * 16, kk);
            }
            float top[2] = {NEVER, NEVER};
#pragma unroll
            for (int i = 0; i < 8; i++) {
                uint32_t at = chunk * CHUNK + warp * 16 + i / 4 * 8 + 2 * t4 + i % 2;
                float &x = s[i / 4][i % 4];
                if (a.softcap != 0.0f) x = capped(x, a.softcap);
                if (at < lo || at > p) x = NEVER;
                top[i / 2 % 2] = fmaxf(top[i / 2 % 2], x);
            }
#pragma unroll
            for (int h = 0; h < 2; h++) {
                top[h] = most_of_four(top[h]);
                if (t4 == 0) most8[warp * 16 + g + 8 * h] = top[h];
            }
            __syncthreads();
            if (!apart) { /* the keys are done with */
                w.b0 = 0;
                load_tile<D, FORM, 256>(vt, c, a.head_dim, 1, w);
                lr_cu_copy_end();
            }
#pragma unroll
            for (int h = 0; h < 2; h++) {
                float m = most8[g + 8 * h];
#pragma unroll
                for (int w = 1; w < 8; w++) m = fmaxf(m, most8[w * 16 + g + 8 * h]);
                top[h] = m;
                float base = base_of(m), x[4];
#pragma unroll
                for (int j = 0; j < 4; j++) x[j] = weight_of(s[j / 2][h * 2 + j % 2], base);
                sums8[(warp * 16 + g + 8 * h) * 4 + t4] = __fadd_rn(__fadd_rn(x[0], x[1]), __fadd_rn(x[2], x[3]));
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    uint32_t v = pack(x[2 * j], x[2 * j + 1]);
                    uint32_t at = (g + 8 * h) * room::pitch_w + (warp * 16 + j * 8 + 2 * t4) * 2;
                    *(uint32_t *)(w_hi + at) = v;
                    if (a.exact) *(uint32_t *)(w_lo + at) = pack_rest(x[2 * j], x[2 * j + 1], v);
                }
            }
            lr_cu_copied<0>();
            __syncthreads();

            float n[PAIRS][2][4] = {};
            uint32_t w_at = (lane % 16) * room::pitch_w + lane / 16 * 16;
            if (warp * 16 < D) {
#pragma unroll
                for (int ks = 0; ks < CHUNK / 16; ks++) {
                    uint32_t wa[4], wb[4] = {};
                    lr_cu_ldmatrix(wa, lr_cu_smem(w_hi) + w_at + ks * 32);
                    if (a.exact) lr_cu_ldmatrix(wb, lr_cu_smem(w_lo) + w_at + ks * 32);
#pragma unroll
                    for (int i = 0; i < PAIRS; i++)
                        value_pair<D, T::HL>(n[i], wa, wb, a.exact, lr_cu_smem(vt), (warp + 8 * i) * 16, ks);
                }
            }
#pragma unroll
            for (int h = 0; h < 2; h++) {
                float l[4] = {};
#pragma unroll
                for (int w = 0; w < 8; w++) {
                    float4 f = *(const float4 *)(sums8 + (w * 16 + g + 8 * h) * 4);
                    l[0] = __fadd_rn(l[0], f.x), l[1] = __fadd_rn(l[1], f.y);
                    l[2] = __fadd_rn(l[2], f.z), l[3] = __fadd_rn(l[3], f.w);
                }
                meeting m = meet(most[h], top[h]);
                most[h] = m.most;
                sum[h] = merged(sum[h], __fadd_rn(__fadd_rn(l[0], l[1]), __fadd_rn(l[2], l[3])), m);
#pragma unroll
                for (int i = 0; i < PAIRS * 4; i++) {
                    float &x = o[i / 4][i / 2 % 2][h * 2 + i % 2];
                    x = merged(x, n[i / 4][i / 2 % 2][h * 2 + i % 2], m);
                }
            }
            __syncthreads();
        }

#pragma unroll
        for (int h = 0; h < 2; h++) {
            uint32_t r = g + 8 * h;
            if (r >= n_row || warp * 16 >= D) continue;
            float by = 1.0f;
            float *out = a.parts + ((size_t)u * a.n_head + head0 + r) * part;
            if (whole) {
                by = last_factor(most[h], sum[h], a.sinks ? a.sinks + head0 + r : NULL);
                out = a.out + (size_t)tok * a.out_stride + (size_t)(head0 + r) * a.head_dim;
            } else {
                if (warp == 0 && t4 == 0) out[0] = most[h], out[1] = sum[h];
                out += 4;
            }
#pragma unroll
            for (int i = 0; i < PAIRS * 4; i++) {
                uint32_t col = (warp + 8 * (i / 4)) * 16 + i / 2 % 2 * 8 + 2 * t4 + i % 2;
                float x = o[i / 4][i / 2 % 2][h * 2 + i % 2];
                if (col < a.head_dim) out[col] = whole ? __fmul_rn(x, by) : x;
            }
        }
    }
    if (!waited) lr_cu_wait();
}

/* ---------------------------------------------------------------- more tokens per sequence
 * Four warps of 16 rows share the tiles K 0, V 0, K 1, V 1 ... of the chunks their rows see; NT tiles fit at once. */
enum { PROMPT_ROWS = 64 };
/* The tile of a step's prompts: its sequence, first row, rows there are. Heaviest (last) tiles first. */
struct rows_of {
    uint32_t seq, tok, row0, n_row; /* tok: the sequence's first token; rows counted from it */
};
__device__ __forceinline__ bool find_rows(const lr_cu_attn &a, uint32_t group, uint32_t rows, uint32_t which,
                                          rows_of *r)
{
    uint32_t n_seq = a.step.counts->n_seq, lane = threadIdx.x % 32, total = 0;
    for (int pass = 0; pass < 2; pass++) {
        uint32_t before = 0;
        for (uint32_t s0 = 0; s0 < n_seq; s0 += 32) {
            uint32_t s = s0 + lane, f = 0, n = 0;
            if (s < n_seq) f = a.step.first[s], n = a.step.first[s + 1] - f;
            uint32_t tiles = n > 1 ? (n * group + rows - 1) / rows : 0, sum = tiles;
            for (int i = 1; i < 32; i *= 2) {
                uint32_t x = __shfl_up_sync(~0u, sum, i);
                if (lane >= i) sum += x;
            }
            uint32_t all = __shfl_sync(~0u, sum, 31);
            if (pass == 1 && which < before + all) {
                uint32_t mine = __ffs(__ballot_sync(~0u, which < before + sum)) - 1;
                r->seq = s0 + mine;
                r->tok = __shfl_sync(~0u, f, mine);
                r->row0 = (which - before - __shfl_sync(~0u, sum - tiles, mine)) * rows;
                r->n_row = __shfl_sync(~0u, n, mine) * group;
                return true;
            }
            before += all;
        }
        total = before;
        if (which >= total) return false;
        if (pass == 0) which = total - 1 - which;
    }
    return false;
}

template <int D, int FORM, bool EXACT, int NT> struct prompt_room {
    static constexpr uint32_t q = PROMPT_ROWS * q_rows<D>::pitch;
    static constexpr uint32_t bytes = NT * tile<D, FORM>::bytes + q * (EXACT ? 2 : 1);
};

template <int D, int FORM, bool EXACT, int NT>
__global__ __launch_bounds__(128) void attn_prompt(LR_CU_ARG(lr_cu_attn) a, const attn_plan plan)
{
    typedef tile<D, FORM> T;
    uint8_t *smem = lr_cu_shared();
    uint8_t *q_hi = smem + NT * T::bytes, *q_lo = EXACT ? q_hi + prompt_room<D, FORM, EXACT, NT>::q : NULL;
    const uint32_t tid = threadIdx.x, warp = tid / 32, lane = tid % 32, g = lane / 4, t4 = lane % 4,
                   head = blockIdx.y;

    lr_cu_begin();
    lr_cu_wait();
    rows_of r;
    if (!find_rows(a, plan.group, PROMPT_ROWS, blockIdx.x, &r)) return;
    chain c = chain_of(a, r.seq, head);
    for (int i = 0; i < NT; i++) clear_tile_rest<D, FORM, 128>(smem + i * T::bytes, a.head_dim);
    for (uint32_t i = tid; i < PROMPT_ROWS * D / 2; i += 128) {
        uint32_t row = r.row0 + i / (D / 2), d = i % (D / 2) * 2;
        const float *q = a.q + (size_t)(r.tok + row / plan.group) * a.q_stride +
                         (size_t)(head * plan.group + row % plan.group) * a.head_dim + d;
        bool in = row < r.n_row;
        put_q(q_hi, q_lo, i / (D / 2) * q_rows<D>::pitch + d * 2, in && d < a.head_dim ? q[0] : 0.0f,
              in && d + 1 < a.head_dim ? q[1] : 0.0f, a.scale);
    }
    /* positions of this thread's rows, of the warp's, of the block's */
    const uint32_t end = min(r.row0 + PROMPT_ROWS, r.n_row) - 1, p0 = a.step.pos[r.tok];
    const uint32_t p_first = p0 + r.row0 / plan.group, p_last = p0 + end / plan.group;
    uint32_t row[2], p[2], lo[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        row[h] = r.row0 + warp * 16 + g + 8 * h;
        p[h] = p0 + min(row[h], end) / plan.group;
        lo[h] = first_seen(p[h], a.window);
    }
    const uint32_t wp0 = p0 + min(r.row0 + warp * 16, end) / plan.group;
    const uint32_t wp1 = p0 + min(r.row0 + warp * 16 + 15, end) / plan.group;
    const uint32_t c0 = first_seen(p_first, a.window) / CHUNK, n_tile = 2 * (p_last / CHUNK - c0 + 1);

    float most[2] = {NEVER, NEVER}, sum[2] = {0, 0}, o[D / 8][4];
#pragma unroll
    for (int i = 0; i < D / 2; i++) o[i / 4][i % 4] = 0;
    uint32_t w_hi[CHUNK / 16][4], w_lo[EXACT ? CHUNK / 16 : 1][4];
    float top[2], add[2];
    bool sees = false;

    if (NT > 1) {
        load_tile<D, FORM, 128>(smem, c, a.head_dim, 0, piece_of(c, c0, p_last));
        lr_cu_copy_end();
    }
    for (uint32_t i = 0; i < n_tile; i++) {
        uint32_t chunk = c0 + i / 2, next = i + NT - 1;
        __syncthreads();
        if (next < n_tile)
            load_tile<D, FORM, 128>(smem + next % NT * T::bytes, c, a.head_dim, next % 2,
                                    piece_of(c, c0 + next / 2, p_last));
        lr_cu_copy_end();
        lr_cu_copied<NT - 1>();
        __syncthreads();
        uint32_t at = lr_cu_smem(smem + i % NT * T::bytes);
        if (i % 2 == 0) {
            sees = chunk * CHUNK <= wp1 && (chunk + 1) * CHUNK > first_seen(wp0, a.window);
            if (!sees) continue;
            float s[CHUNK / 8][4];
#pragma unroll
            for (int j = 0; j < CHUNK / 2; j++) s[j / 4][j % 4] = 0;
            uint32_t q_at = (warp * 16 + lane % 16) * q_rows<D>::pitch + lane / 16 * 16;
#pragma unroll 4
            for (int kk = 0; kk < D / 16; kk++) {
                uint32_t qa[4], qb[4] = {};
                lr_cu_ldmatrix(qa, lr_cu_smem(q_hi) + q_at + kk * 32);
                if (EXACT) lr_cu_ldmatrix(qb, lr_cu_smem(q_lo) + q_at + kk * 32);
#pragma unroll
                for (int j = 0; j < CHUNK / 16; j++) score_pair<D, T::HL>(s + 2 * j, qa, qb, EXACT, at, 16 * j, kk);
            }
            if (a.softcap != 0.0f) {
#pragma unroll
                for (int j = 0; j < CHUNK / 2; j++) s[j / 4][j % 4] = capped(s[j / 4][j % 4], a.softcap);
            }
            if (chunk * CHUNK + CHUNK - 1 > wp0 || chunk * CHUNK < first_seen(wp1, a.window)) {
#pragma unroll
                for (int j = 0; j < CHUNK / 2; j++) {
                    uint32_t pos = chunk * CHUNK + j / 4 * 8 + 2 * t4 + j % 2;
                    if (pos < lo[j / 2 % 2] || pos > p[j / 2 % 2]) s[j / 4][j % 4] = NEVER;
                }
            }
#pragma unroll
            for (int h = 0; h < 2; h++) {
                float m = NEVER;
#pragma unroll
                for (int j = 0; j < CHUNK / 8; j++) m = fmaxf(m, fmaxf(s[j][2 * h], s[j][2 * h + 1]));
                m = most_of_four(m);
                top[h] = m;
                float base = base_of(m), l = 0;
#pragma unroll
                for (int j = 0; j < CHUNK / 16; j++) {
                    float x[4];
#pragma unroll
                    for (int k = 0; k < 4; k++) x[k] = weight_of(s[2 * j + k / 2][2 * h + k % 2], base);
                    l = __fadd_rn(l, __fadd_rn(__fadd_rn(x[0], x[1]), __fadd_rn(x[2], x[3])));
                    w_hi[j][h] = pack(x[0], x[1]);
                    w_hi[j][2 + h] = pack(x[2], x[3]);
                    if (EXACT) {
                        w_lo[j][h] = pack_rest(x[0], x[1], w_hi[j][h]);
                        w_lo[j][2 + h] = pack_rest(x[2], x[3], w_hi[j][2 + h]);
                    }
                }
                add[h] = sum_of_four(l);
            }
            continue;
        }
        if (!sees) continue;
        meeting m[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            m[h] = meet(most[h], top[h]);
            most[h] = m[h].most;
            sum[h] = merged(sum[h], add[h], m[h]);
        }
#pragma unroll
        for (int j = 0; j < D / 32; j++) {
            float n[4][4] = {};
#pragma unroll
            for (int ks = 0; ks < CHUNK / 16; ks++) {
                value_pair<D, T::HL>(n, w_hi[ks], w_lo[EXACT ? ks : 0], EXACT, at, j * 32, ks);
                value_pair<D, T::HL>(n + 2, w_hi[ks], w_lo[EXACT ? ks : 0], EXACT, at, j * 32 + 16, ks);
            }
#pragma unroll
            for (int k = 0; k < 16; k++) {
                float &x = o[j * 4 + k / 4][k % 4];
                x = merged(x, n[k / 4][k % 4], m[k / 2 % 2]);
            }
        }
    }

#pragma unroll
    for (int h = 0; h < 2; h++) {
        if (row[h] > end) continue;
        uint32_t qh = head * plan.group + row[h] % plan.group;
        float by = last_factor(most[h], sum[h], a.sinks ? a.sinks + qh : NULL);
        float *out = a.out + (size_t)(r.tok + row[h] / plan.group) * a.out_stride + (size_t)qh * a.head_dim;
#pragma unroll
        for (int j = 0; j < D / 4; j++) {
            uint32_t col = j / 2 * 8 + 2 * t4 + j % 2;
            if (col < a.head_dim) out[col] = __fmul_rn(o[j / 2][2 * h + j % 2], by);
        }
    }
}

/* ---------------------------------------------------------------- launching */
template <int D, int FORM>
static cudaError_t run_decode(const lr_cu_device *d, const lr_cu_attn *a, const attn_plan *p, cudaStream_t s)
{
    typedef decode_room<D, FORM> room;
    bool apart = room::bytes(true) <= d->smem;
    uint32_t bytes = room::bytes(apart);
    cudaError_t e = cudaFuncSetAttribute(attn_decode<D, FORM>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         (int)bytes);
    if (e != cudaSuccess) return e;
    uint32_t most = a->max_seq * ((a->max_ctx + CHUNK - 1) / CHUNK) * a->n_head_kv * p->row_tiles;
    uint32_t per_sm = (uint32_t)(d->smem + 1024) / (bytes + 1024),
             grid = (uint32_t)d->n_sm * (per_sm < 1 ? 1 : per_sm);
    return lr_cu_launch(d, attn_decode<D, FORM>, dim3(grid < most ? grid : most), dim3(256), bytes, s, *a, *p, apart);
}
template <int D, int FORM, bool EXACT, int NT>
static cudaError_t run_prompt(const lr_cu_device *d, const lr_cu_attn *a, const attn_plan *p, cudaStream_t s)
{
    uint32_t bytes = prompt_room<D, FORM, EXACT, NT>::bytes;
    cudaError_t e = cudaFuncSetAttribute(attn_prompt<D, FORM, EXACT, NT>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         (int)bytes);
    if (e != cudaSuccess) return e;
    uint32_t tiles = (a->max_tok * p->group + PROMPT_ROWS - 1) / PROMPT_ROWS + a->max_seq;
    return lr_cu_launch(d, attn_prompt<D, FORM, EXACT, NT>, dim3(tiles, a->n_head_kv), dim3(128), bytes, s, *a, *p);
}

template <int FORM>
static cudaError_t decode_any(const lr_cu_device *d, const lr_cu_attn *a, const attn_plan *p, cudaStream_t s)
{
    return a->head_dim <= 64    ? run_decode<64, FORM>(d, a, p, s)
           : a->head_dim <= 128 ? run_decode<128, FORM>(d, a, p, s)
                                : run_decode<256, FORM>(d, a, p, s);
}

#endif
