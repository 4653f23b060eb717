/* launch.cuh - how kernels are launched, and how they wait for those ahead of them.
 *
 * On the emulated card (LR_EMULATED) what a kernel calls here is tests/emulate/instructions.h's.
 */
#ifndef LR_LAUNCH_CUH
#define LR_LAUNCH_CUH

#include "cuda.h"

#ifndef LR_EMULATED
/* Lets the next kernel of the stream start: the first thing a kernel does. */
__device__ __forceinline__ void lr_cu_begin()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* Returns when all kernels ahead have ended and what they wrote can be seen. */
__device__ __forceinline__ void lr_cu_wait()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* The block's dynamic shared memory, aligned to 1,024 bytes. */
__device__ __forceinline__ uint8_t *lr_cu_shared()
{
    extern __shared__ __align__(1024) uint8_t lr_cu_dynamic[];
    return lr_cu_dynamic;
}

/* A kernel's large argument: there to be read, copied by nobody. */
#define LR_CU_ARG(type) const __grid_constant__ type
#define LR_CU_TAKES(type) const type
#else
#define LR_CU_ARG(type) const type &
#define LR_CU_TAKES(type) const type &
#define lr_cu_launch_clusters(...) (lr_emulated_name = __PRETTY_FUNCTION__, lr_cu_launch_clusters(__VA_ARGS__))
#define lr_cu_launch(...) (lr_emulated_name = __PRETTY_FUNCTION__, lr_cu_launch(__VA_ARGS__))
#endif

/* Blocks in clusters of so many; 0: each by itself. */
template <typename... P, typename... A>
static cudaError_t(lr_cu_launch_clusters)(const lr_cu_device *d, void (*kernel)(P...), uint32_t cluster, dim3 grid,
                                         dim3 block, size_t smem, cudaStream_t s, A... args)
{
    cudaLaunchConfig_t c = {};
    cudaLaunchAttribute at[2];
    if (d->major >= 9) {
        at[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        at[0].val.programmaticStreamSerializationAllowed = 1;
        c.numAttrs = 1;
    }
    if (cluster) {
        at[c.numAttrs].id = cudaLaunchAttributeClusterDimension;
        at[c.numAttrs].val.clusterDim.x = cluster;
        at[c.numAttrs].val.clusterDim.y = at[c.numAttrs].val.clusterDim.z = 1;
        c.numAttrs++;
    }
    c.gridDim = grid;
    c.blockDim = block;
    c.dynamicSmemBytes = smem;
    c.stream = s;
    c.attrs = at;
    return cudaLaunchKernelEx(&c, kernel, P(args)...);
}
template <typename... P, typename... A>
static cudaError_t(lr_cu_launch)(const lr_cu_device *d, void (*kernel)(P...), dim3 grid, dim3 block, size_t smem,
                                cudaStream_t s, A... args)
{
    return (lr_cu_launch_clusters)(d, kernel, 0, grid, block, smem, s, args...);
}

#endif
