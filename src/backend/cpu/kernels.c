/* kernels.c - assembles the kernel table of each instruction set, once. */
#include "attn.h"

#include <pthread.h>

void lr_mm_fill(lr_kernels *k, lr_isa isa);
void lr_vec_fill_scalar(lr_kernels *k);
void lr_vec_fill_avx2(lr_kernels *k);
void lr_vec_fill_avx512(lr_kernels *k);
void lr_vec_fill_neon(lr_kernels *k);

static lr_kernels tables[LR_ISA_COUNT];
static pthread_once_t filled = PTHREAD_ONCE_INIT;

static void fill_one(lr_isa isa, void (*vec)(lr_kernels *k), const lr_attn_kernels *attn)
{
    if (!lr_cpu_has_isa(isa)) return;
    lr_kernels *k = &tables[isa];
    k->isa = isa;
    vec(k);
    k->attn = attn;
    lr_mm_fill(k, isa);
}

static void fill(void)
{
    fill_one(LR_ISA_SCALAR, lr_vec_fill_scalar, &lr_attn_scalar);
#if defined(__x86_64__)
    fill_one(LR_ISA_AVX2, lr_vec_fill_avx2, &lr_attn_avx2);
    fill_one(LR_ISA_AVX512, lr_vec_fill_avx512, &lr_attn_avx512);
#elif defined(__aarch64__)
    fill_one(LR_ISA_NEON, lr_vec_fill_neon, &lr_attn_neon);
#endif
}

const lr_kernels *lr_kernels_get(lr_isa isa)
{
    pthread_once(&filled, fill);
    if ((unsigned)isa >= LR_ISA_COUNT || !tables[isa].mm) return NULL;
    return &tables[isa];
}
