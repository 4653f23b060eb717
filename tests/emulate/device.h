/* device.h - CUDA C as a C++ compiler reads it: included before each .cu file of an emulated build.
 *
 * Owns: the keywords, vector types and intrinsics that the kernels use; what run.cpp offers them: threads that meet in
 * warps and blocks, shared memory, copies under way, tensor cores. Refuses to own: how that is done (run.cpp,
 * tensor.cpp), memory and streams (card.cpp).
 */
#ifndef LR_EMULATED_DEVICE_H
#define LR_EMULATED_DEVICE_H

#include "cuda_runtime_api.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <tuple>
#include <type_traits>

/* ---------------------------------------------------------------- keywords */
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)
/* One block runs at a time (a cluster's blocks have dynamic shared memory alone). Their section is poisoned before each. */
#define __shared__ static __attribute__((section("lr_shared")))
#define __CUDA_ARCH_FEAT_SM90_ALL 1

/* ---------------------------------------------------------------- types: aligned as a card wants them */
struct uint3 {
    unsigned x, y, z;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

/* ---------------------------------------------------------------- threads */
struct lr_emulated_thread { /* the one that runs; run.cpp knows more of it */
    uint3 thread, block;
    unsigned lane, rank; /* in its warp; its block's, in the cluster */
};
extern lr_emulated_thread *lr_emulated_me;
#define threadIdx (lr_emulated_me->thread)
#define blockIdx (lr_emulated_me->block)
extern uint3 gridDim, blockDim;

/* Stops the program: what a card would do with this, nobody promises. */
[[noreturn]] void lr_emulated_fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Lanes of `mask` meet: the last to come calls all() with each lane's record; then all go on. */
typedef void lr_emulated_meeting(void *const record[32], unsigned mask);
void lr_emulated_meet(unsigned mask, lr_emulated_meeting *all, void *record);
void lr_emulated_block_sync();
void lr_emulated_some_sync(unsigned id, unsigned n); /* a barrier of n threads */
void lr_emulated_cluster_sync();
void lr_emulated_grid_wait(); /* for the kernels ahead */

inline void __syncthreads() { lr_emulated_block_sync(); }
inline void __syncwarp(unsigned mask = ~0u)
{
    lr_emulated_meet(
        mask, [](void *const *, unsigned) {}, nullptr);
}

struct lr_emulated_shuffle {
    uint64_t in, out;
    unsigned at; /* whose number is wanted */
};
void lr_emulated_shuffle_all(void *const record[32], unsigned mask);
template <typename T> T lr_emulated_shuffled(unsigned mask, T v, unsigned at)
{
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "a shuffle moves at most eight bytes");
    lr_emulated_shuffle s = {0, 0, at};
    memcpy(&s.in, &v, sizeof v);
    lr_emulated_meet(mask, lr_emulated_shuffle_all, &s);
    memcpy(&v, &s.out, sizeof v);
    return v;
}
template <typename T> T __shfl_sync(unsigned mask, T v, int from, int width = 32)
{
    unsigned low = (unsigned)width - 1;
    return lr_emulated_shuffled(mask, v, (lr_emulated_me->lane & ~low) | ((unsigned)from & low));
}
template <typename T> T __shfl_xor_sync(unsigned mask, T v, int with)
{
    return lr_emulated_shuffled(mask, v, lr_emulated_me->lane ^ (unsigned)with);
}
template <typename T> T __shfl_up_sync(unsigned mask, T v, unsigned by)
{
    unsigned lane = lr_emulated_me->lane;
    return lr_emulated_shuffled(mask, v, lane < by ? lane : lane - by);
}
template <typename T> T __shfl_down_sync(unsigned mask, T v, unsigned by)
{
    unsigned lane = lr_emulated_me->lane;
    return lr_emulated_shuffled(mask, v, lane + by > 31 ? lane : lane + by);
}
unsigned __ballot_sync(unsigned mask, int yes);
inline int __any_sync(unsigned mask, int yes) { return __ballot_sync(mask, yes) != 0; }
inline int __all_sync(unsigned mask, int yes) { return __ballot_sync(mask, yes) == mask; }
inline void __threadfence() {}
inline void __nanosleep(unsigned) { __syncwarp(1u << lr_emulated_me->lane); }

/* Threads give way to each other only where they meet, so these need nothing. */
template <typename T, typename V> T atomicAdd(T *p, V v)
{
    T was = *p;
    *p = was + (T)v;
    return was;
}
template <typename T, typename V> T atomicMax(T *p, V v)
{
    T was = *p;
    if ((T)v > was) *p = (T)v;
    return was;
}
template <typename T, typename V> T atomicExch(T *p, V v)
{
    T was = *p;
    *p = (T)v;
    return was;
}

/* ---------------------------------------------------------------- arithmetic; built without contraction */
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __uint_as_float(unsigned v)
{
    float f;
    memcpy(&f, &v, 4);
    return f;
}
inline unsigned __float_as_uint(float f)
{
    unsigned v;
    memcpy(&v, &f, 4);
    return v;
}
inline int __float_as_int(float f) { return (int)__float_as_uint(f); }
inline float __int_as_float(int v) { return __uint_as_float((unsigned)v); }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __ffs(unsigned v) { return __builtin_ffs((int)v); }
inline int __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by)
{
    return (unsigned)(((uint64_t)high << 32 | low) >> (by & 31));
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned select)
{
    uint64_t both = (uint64_t)b << 32 | a;
    unsigned r = 0;
    if (select & 0x8888) lr_emulated_fault("__byte_perm is asked for signs (%x)", select);
    for (int i = 0; i < 4; i++) r |= (unsigned)(both >> 8 * (select >> 4 * i & 7) & 255) << 8 * i;
    return r;
}
template <typename T> T __ldcg(const T *p) { return *p; }
template <typename T> T __ldg(const T *p) { return *p; }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline unsigned min(unsigned a, int b) { return min(a, (unsigned)b); }
inline unsigned max(unsigned a, int b) { return max(a, (unsigned)b); }
inline unsigned min(int a, unsigned b) { return min((unsigned)a, b); }
inline unsigned max(int a, unsigned b) { return max((unsigned)a, b); }
inline uint64_t min(uint64_t a, uint64_t b) { return a < b ? a : b; }
inline uint64_t max(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* ---------------------------------------------------------------- pairs of 16-bit numbers */
float lr_emulated_half(uint16_t h);     /* F16 to float */
uint16_t lr_emulated_to_half(double x); /* to nearest even */
uint16_t lr_emulated_to_bf16(float x);
uint32_t lr_emulated_h2_add(uint32_t a, uint32_t b);
uint32_t lr_emulated_h2_mul(uint32_t a, uint32_t b);
uint32_t lr_emulated_h2_fma(uint32_t a, uint32_t b, uint32_t c);
inline uint32_t lr_emulated_h2_from(float low, float high)
{
    return lr_emulated_to_half(low) | (uint32_t)lr_emulated_to_half(high) << 16;
}
inline uint32_t lr_emulated_b2_from(float low, float high)
{
    return lr_emulated_to_bf16(low) | (uint32_t)lr_emulated_to_bf16(high) << 16;
}
float lr_emulated_pow2(float x); /* ex2.approx.ftz */

/* ---------------------------------------------------------------- shared memory
 * Its addresses are 32-bit numbers; those of another block of the cluster come from lr_emulated_peer. */
uint8_t *lr_emulated_dynamic(); /* the block's, aligned to 1,024 */
uint32_t lr_emulated_smem(const void *p);
uint32_t lr_emulated_peer(uint32_t at, uint32_t rank);
void *lr_emulated_at(uint32_t at, uint32_t n); /* n bytes there, a multiple of the largest power of two in n */
inline uint32_t __cvta_generic_to_shared(const void *p) { return lr_emulated_smem(p); }

/* ---------------------------------------------------------------- copies under way
 * cp.async: `n` bytes, zeros up to 16; they are there when the thread has waited for its group. */
void lr_emulated_copy16(uint32_t to, const void *from, uint32_t n);
void lr_emulated_copy_commit();
void lr_emulated_copy_wait(uint32_t but); /* for all groups but the last so many */
/* mbarriers, and boxes of a tensor whose bytes they count. */
void lr_emulated_bar_init(uint32_t bar, uint32_t n);
void lr_emulated_bar_wait(uint32_t bar, uint32_t parity);
void lr_emulated_bar_arrive(uint32_t bar, uint32_t announce);
void lr_emulated_box(uint32_t to, const void *map, uint32_t bar, const int *at, uint32_t rank, uint32_t blocks);

/* ---------------------------------------------------------------- tensor cores
 * Warps meet in each. A product's 16 columns are summed in double and rounded once. */
void lr_emulated_ldmatrix(uint32_t r[4], uint32_t at, bool turned);
void lr_emulated_mma(float c[4], const uint32_t a[4], const uint32_t b[2], bool bf16);
/* d[n / 2] += a x [n rows at desc]; done when waited for. */
void lr_emulated_wgmma(float *d, const uint32_t a[4], uint64_t desc, uint32_t n, bool bf16);
void lr_emulated_wgmma_commit();
void lr_emulated_wgmma_wait(uint32_t but);

/* ---------------------------------------------------------------- launching */
extern const char *lr_emulated_name; /* of the kernel launched next */
cudaError_t lr_emulated_launch(const cudaLaunchConfig_t *c, const void *kernel, std::function<void()> body);
template <typename... P, typename... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *c, void (*kernel)(P...), A &&...args)
{
    auto kept = std::make_shared<std::tuple<std::decay_t<P>...>>(args...);
    return lr_emulated_launch(c, (const void *)kernel, [kernel, kept] { std::apply(kernel, *kept); });
}
template <typename... P> cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute which, int value)
{
    return cudaFuncSetAttribute((const void *)kernel, which, value);
}

#include "instructions.h"
#endif
