/* mm_many_float.cu - the kernels of mm_many for weights of 16 and 32 bits. */
#include "many.cuh"

const lr_cu_many_entry *lr_cu_many_float(uint32_t fmt)
{
    switch (fmt) {
    case LR_FMT_F16: return many_entry<LR_FMT_F16>();
    case LR_FMT_BF16: return many_entry<LR_FMT_BF16>();
    case LR_FMT_F32: return many_entry<LR_FMT_F32>();
    default: return NULL;
    }
}
