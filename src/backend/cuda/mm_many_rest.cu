/* mm_many_rest.cu - the kernels of mm_many for the IQ formats of 256 columns a block, and of small floats. */
#include "many.cuh"

const lr_cu_many_entry *lr_cu_many_rest(uint32_t fmt)
{
    switch (fmt) {
    case LR_FMT_IQ2_XXS: return many_entry<LR_FMT_IQ2_XXS>();
    case LR_FMT_IQ4_XS: return many_entry<LR_FMT_IQ4_XS>();
    case LR_FMT_MXFP4: return many_entry<LR_FMT_MXFP4>();
    case LR_FMT_NVFP4: return many_entry<LR_FMT_NVFP4>();
    case LR_FMT_MXFP4_PAIRS: return many_entry<LR_FMT_MXFP4_PAIRS>();
    case LR_FMT_F8_E4M3: return many_entry<LR_FMT_F8_E4M3>();
    case LR_FMT_F8_E4M3_B128: return many_entry<LR_FMT_F8_E4M3_B128>();
    default: return NULL;
    }
}
