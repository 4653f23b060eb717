/* mm_many_k.cu - the kernels of mm_many for the K-quants. */
#include "many.cuh"

const lr_cu_many_entry *lr_cu_many_k(uint32_t fmt)
{
    switch (fmt) {
    case LR_FMT_Q2_K: return many_entry<LR_FMT_Q2_K>();
    case LR_FMT_Q3_K: return many_entry<LR_FMT_Q3_K>();
    case LR_FMT_Q4_K: return many_entry<LR_FMT_Q4_K>();
    case LR_FMT_Q5_K: return many_entry<LR_FMT_Q5_K>();
    case LR_FMT_Q6_K: return many_entry<LR_FMT_Q6_K>();
    default: return NULL;
    }
}
