/* wake.cu - a kernel that does nothing: whether any of ours runs on this card. */
#include "launch.cuh"

__global__ static void wake_kernel(uint32_t n)
{
    lr_cu_begin();
    lr_cu_wait();
    (void)n;
}

extern "C" cudaError_t lr_cu_wake(const lr_cu_device *d)
{
    cudaError_t e = lr_cu_launch(d, wake_kernel, dim3(1), dim3(32), 0, nullptr, 0u);
    return e ? e : cudaDeviceSynchronize();
}
