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
#else
#define LR_CU_ARG(type) const type &
#define lr_cu_launch(...) (lr_emulated_name = __PRETTY_FUNCTION__, lr_cu_launch(__VA_ARGS__))
#endif

template <typename... P, typename... A>
static cudaError_t(lr_cu_launch)(const lr_cu_device *d, void (*kernel)(P...), dim3 grid, dim3 block, size_t smem,
                                cudaStream_t s, A... args)
{
    cudaLaunchConfig_t c = {};
    cudaLaunchAttribute early;
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    c.gridDim = grid;
    c.blockDim = block;
    c.dynamicSmemBytes = smem;
    c.stream = s;
    c.attrs = &early;
    c.numAttrs = d->major >= 9 ? 1 : 0;
    return cudaLaunchKernelEx(&c, kernel, P(args)...);
}

#endif
