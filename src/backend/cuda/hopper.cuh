/* hopper.cuh - what only Hopper's machines have (sm_90a): barriers in shared memory that count bytes, copies of boxes of
 * a tensor into shared memory, clusters of blocks, products of a warpgroup.
 *
 * Owns: the instructions, one function each. Refuses to own: what is computed with them.
 * Addresses of shared memory are 32-bit numbers (lr_cu_smem); of another block of the cluster, lr_cu_peer's. On the
 * emulated card they are tests/emulate/instructions.h's.
 */
#ifndef LR_HOPPER_CUH
#define LR_HOPPER_CUH

#include "instr.cuh"
#include "wgmma.cuh"

/* A tensor's map for the copy engine, filled by the driver (cuTensorMapEncodeTiled). */
struct alignas(64) lr_cu_map {
    uint64_t v[16];
};

#ifndef LR_EMULATED
/* ---------------------------------------------------------------- clusters */
__device__ __forceinline__ uint32_t lr_cu_rank()
{
    uint32_t r;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
    return r;
}
__device__ __forceinline__ uint32_t lr_cu_peer(uint32_t smem, uint32_t rank)
{
    uint32_t r;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(smem), "r"(rank));
    return r;
}
__device__ __forceinline__ void lr_cu_cluster_sync()
{
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
/* What the thread wrote and read so far comes before what it does from here on, for all blocks of the cluster. */
__device__ __forceinline__ void lr_cu_cluster_fence() { asm volatile("fence.acq_rel.cluster;" ::: "memory"); }
/* n threads, n a multiple of 32, meet at barrier `id` of the block. */
__device__ __forceinline__ void lr_cu_some_sync(uint32_t id, uint32_t n)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(n) : "memory");
}
__device__ __forceinline__ float4 lr_cu_peer_float4(uint32_t a)
{
    float4 v;
    asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
                 : "r"(a)
                 : "memory");
    return v;
}

/* ---------------------------------------------------------------- barriers
 * A phase ends when all arrivals and announced bytes have come. Waiting on parity p returns once the phase of that
 * parity has ended: 0 for the first; on a fresh barrier parity 1 returns at once. */
__device__ __forceinline__ void lr_cu_bar_init(uint32_t bar, uint32_t n)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(n) : "memory");
}
__device__ __forceinline__ void lr_cu_bar_init_end() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ __forceinline__ void lr_cu_bar_wait(uint32_t bar, uint32_t parity)
{
    asm volatile("{\n.reg .pred p;\nagain:\n"
                 "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%0], %1;\n"
                 "@!p bra again;\n}" ::"r"(bar),
                 "r"(parity)
                 : "memory");
}
__device__ __forceinline__ void lr_cu_bar_arrive(uint32_t bar)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}
/* bar: of any block of the cluster (lr_cu_peer) */
__device__ __forceinline__ void lr_cu_bar_arrive_peer(uint32_t bar)
{
    asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(bar) : "memory");
}
__device__ __forceinline__ void lr_cu_bar_expect(uint32_t bar, uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}

/* ---------------------------------------------------------------- copies of a box, announced to a barrier */
__device__ __forceinline__ void lr_cu_box2(uint32_t dst, const lr_cu_map *map, uint32_t bar, int c0, int c1)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4}], [%2];" ::"r"(dst),
                 "l"(map), "r"(bar), "r"(c0), "r"(c1)
                 : "memory");
}
/* The same into the same place of each block of the cluster that `mask` names, and to its barrier. */
__device__ __forceinline__ void lr_cu_box2_all(uint32_t dst, const lr_cu_map *map, uint32_t bar, int c0, int c1,
                                               uint16_t mask)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
                 "[%0], [%1, {%3, %4}], [%2], %5;" ::"r"(dst),
                 "l"(map), "r"(bar), "r"(c0), "r"(c1), "h"(mask)
                 : "memory");
}
__device__ __forceinline__ void lr_cu_box3(uint32_t dst, const lr_cu_map *map, uint32_t bar, int c0, int c1, int c2)
{
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(dst),
                 "l"(map), "r"(bar), "r"(c0), "r"(c1), "r"(c2)
                 : "memory");
}
#endif

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#ifndef LR_EMULATED
/* What the thread wrote to shared memory is handed to tensor cores. */
__device__ __forceinline__ void lr_cu_hand() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/* ---------------------------------------------------------------- products of a warpgroup
 * fence: before the first of a group, after registers were written. wait<N>: all but the last N groups are done. */
__device__ __forceinline__ void lr_cu_wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void lr_cu_wgmma_end() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> __device__ __forceinline__ void lr_cu_wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
template <int N> __device__ __forceinline__ void lr_cu_registers()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N> __device__ __forceinline__ void lr_cu_fewer_registers()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}
#endif
/* Rows of 128 bytes, swizzled, in groups of eight 1,024 bytes apart, aligned to 1,024. */
__device__ __forceinline__ uint64_t lr_cu_wgmma_desc(uint32_t smem)
{
    return (uint64_t)(smem >> 4 & 0x3fff) | (uint64_t)1 << 16 | (uint64_t)64 << 32 | (uint64_t)1 << 62;
}
#endif
#endif
