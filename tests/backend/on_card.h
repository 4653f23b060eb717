/* on_card.h - what the tests of a card's kernels share: the card, a stream, calls that must succeed. */
#ifndef LR_TEST_ON_CARD_H
#define LR_TEST_ON_CARD_H

#include "cuda.h"
#include "test.h"

static lr_cu_device dev;
static cudaStream_t stream;

#define CU(call) \
    do { \
        cudaError_t e_ = (call); \
        if (e_ != cudaSuccess) TEST_FAIL("%s: %s", #call, cudaGetErrorString(e_)); \
    } while (0)

/* Skips the test where there is none. */
static void begin(void)
{
    int n = 0;
    struct cudaDeviceProp p;
    if (cudaGetDeviceCount(&n) != cudaSuccess || !n) SKIP("no GPU");
    CU(cudaGetDeviceProperties(&p, 0));
    dev = (lr_cu_device){
        .n_sm = p.multiProcessorCount, .major = p.major, .minor = p.minor, .smem = p.sharedMemPerBlockOptin};
    CU(cudaStreamCreate(&stream));
}

#endif
