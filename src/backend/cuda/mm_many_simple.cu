/* mm_many_simple.cu - the kernels of mm_many for formats of 32 columns a block. */
#include "many.cuh"

const lr_cu_many_entry *lr_cu_many_simple(uint32_t fmt)
{
    switch (fmt) {
    case LR_FMT_Q4_0: return many_entry<LR_FMT_Q4_0>();
    case LR_FMT_Q4_1: return many_entry<LR_FMT_Q4_1>();
    case LR_FMT_Q5_0: return many_entry<LR_FMT_Q5_0>();
    case LR_FMT_Q5_1: return many_entry<LR_FMT_Q5_1>();
    case LR_FMT_Q8_0: return many_entry<LR_FMT_Q8_0>();
    case LR_FMT_IQ4_NL: return many_entry<LR_FMT_IQ4_NL>();
    default: return NULL;
    }
}
