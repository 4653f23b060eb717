/* instructions.h - the functions in which larder's kernels keep their assembly (instr.cuh, hopper.cuh, launch.cuh,
 * formats.cuh), for the emulated card. Included by device.h. */
#ifndef LR_EMULATED_INSTRUCTIONS_H
#define LR_EMULATED_INSTRUCTIONS_H

/* launch.cuh */
inline void lr_cu_begin() {}
inline void lr_cu_wait() { lr_emulated_grid_wait(); }
inline uint8_t *lr_cu_shared() { return lr_emulated_dynamic(); }

/* formats.cuh */
inline uint32_t lr_h2_mul(uint32_t a, uint32_t b) { return lr_emulated_h2_mul(a, b); }
inline uint32_t lr_h2_add(uint32_t a, uint32_t b) { return lr_emulated_h2_add(a, b); }
inline uint32_t lr_h2_fma(uint32_t a, uint32_t b, uint32_t c) { return lr_emulated_h2_fma(a, b, c); }
inline uint32_t lr_h2_low(uint32_t a) { return (a & 0xffff) * 0x10001u; }
inline uint32_t lr_h2_high(uint32_t a) { return (a >> 16) * 0x10001u; }
inline uint32_t lr_h2_both(uint16_t h) { return h * 0x10001u; }
inline uint32_t lr_h2_from(float low, float high) { return lr_emulated_h2_from(low, high); }
inline uint32_t lr_b2_from(float low, float high) { return lr_emulated_b2_from(low, high); }
inline float lr_h_float(uint16_t h) { return lr_emulated_half(h); }

/* instr.cuh */
inline uint32_t lr_cu_smem(const void *p) { return lr_emulated_smem(p); }
inline void lr_cu_copy16(uint32_t to, const void *from, bool real) { lr_emulated_copy16(to, from, real ? 16 : 0); }
inline void lr_cu_stream16(uint32_t to, const void *from, uint32_t n) { lr_emulated_copy16(to, from, n); }
inline void lr_cu_copy_end() { lr_emulated_copy_commit(); }
template <int N> void lr_cu_copied() { lr_emulated_copy_wait(N); }
inline void lr_cu_ldmatrix(uint32_t r[4], uint32_t at) { lr_emulated_ldmatrix(r, at, false); }
inline void lr_cu_ldmatrix_turned(uint32_t r[4], uint32_t at) { lr_emulated_ldmatrix(r, at, true); }
template <bool BF16> void lr_cu_mma(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    lr_emulated_mma(c, a, b, BF16);
}
inline void lr_cu_keep(uint32_t &) {}
inline void lr_cu_keep(float &) {}
inline float lr_cu_pow2(float x) { return lr_emulated_pow2(x); }

/* hopper.cuh, wgmma.cuh */
inline uint32_t lr_cu_rank() { return lr_emulated_me->rank; }
inline uint32_t lr_cu_peer(uint32_t smem, uint32_t rank) { return lr_emulated_peer(smem, rank); }
inline void lr_cu_cluster_sync() { lr_emulated_cluster_sync(); }
inline void lr_cu_cluster_fence() {}
inline void lr_cu_some_sync(uint32_t id, uint32_t n) { lr_emulated_some_sync(id, n); }
inline float4 lr_cu_peer_float4(uint32_t a) { return *(const float4 *)lr_emulated_at(a, 16); }
inline void lr_cu_bar_init(uint32_t bar, uint32_t n) { lr_emulated_bar_init(bar, n); }
inline void lr_cu_bar_init_end() {}
inline void lr_cu_bar_wait(uint32_t bar, uint32_t parity) { lr_emulated_bar_wait(bar, parity); }
inline void lr_cu_bar_arrive(uint32_t bar) { lr_emulated_bar_arrive(bar, 0); }
inline void lr_cu_bar_arrive_peer(uint32_t bar) { lr_emulated_bar_arrive(bar, 0); }
inline void lr_cu_bar_expect(uint32_t bar, uint32_t bytes) { lr_emulated_bar_arrive(bar, bytes); }
inline void lr_cu_box2(uint32_t dst, const void *map, uint32_t bar, int c0, int c1)
{
    int at[2] = {c0, c1};
    lr_emulated_box(dst, map, bar, at, 2, 0);
}
inline void lr_cu_box2_all(uint32_t dst, const void *map, uint32_t bar, int c0, int c1, uint16_t mask)
{
    int at[2] = {c0, c1};
    lr_emulated_box(dst, map, bar, at, 2, mask);
}
inline void lr_cu_box3(uint32_t dst, const void *map, uint32_t bar, int c0, int c1, int c2)
{
    int at[3] = {c0, c1, c2};
    lr_emulated_box(dst, map, bar, at, 3, 0);
}
inline void lr_cu_hand() {}
inline void lr_cu_wgmma_fence() {}
inline void lr_cu_wgmma_end() { lr_emulated_wgmma_commit(); }
template <int N> void lr_cu_wgmma_wait() { lr_emulated_wgmma_wait(N); }
template <int N> void lr_cu_registers() {}
template <int N> void lr_cu_fewer_registers() {}
template <int N, bool BF16> void lr_cu_wgmma(float (&d)[N / 2], const uint32_t *a, uint64_t desc)
{
    lr_emulated_wgmma(d, a, desc, N, BF16);
}
#endif
