/* mm.c - the matrix product's entries in lr_kernels: which activations a format takes, sizes, the best variant here.
 *
 * Refuses to own: arithmetic (mm_ref.c, mm_body.h, mm_float.h).
 */
#include "mm.h"

#include <pthread.h>

uint16_t lr_mm_e4m3_bf16[128];
uint8_t lr_mm_e4m3_bytes[2][128], lr_mm_ue4m3_bytes[2][128];
uint64_t lr_mm_iq2_grid[256], lr_mm_iq2_sign[128];
uint8_t lr_mm_iq2_codes[2][256], lr_mm_iq2_bits[128];

static void make_tables(void)
{
    for (int i = 0; i < 128; i++) {
        lr_mm_e4m3_bf16[i] = lr_f32_to_bf16(lr_e4m3_to_f32((uint8_t)i));
        uint16_t half = lr_f32_to_bf16(0.5f * (i == 0x7f ? 480.0f : lr_e4m3_to_f32((uint8_t)i)));
        for (int k = 0; k < 2; k++) {
            lr_mm_e4m3_bytes[k][i] = (uint8_t)(lr_mm_e4m3_bf16[i] >> 8 * k);
            lr_mm_ue4m3_bytes[k][i] = (uint8_t)(half >> 8 * k);
        }
    }
    for (int i = 0; i < 256; i++) {
        uint64_t v = 0;
        for (int k = 0; k < 8; k++) v |= (uint64_t)lr_iq2_levels[lr_iq2_xxs_grid[i] >> 2 * k & 3] << 8 * k;
        lr_mm_iq2_grid[i] = v;
        for (int k = 0; k < 2; k++) lr_mm_iq2_codes[k][i] = (uint8_t)(lr_iq2_xxs_grid[i] >> 8 * k);
    }
    for (uint32_t i = 0; i < 128; i++) {
        uint64_t v = 0;
        for (int k = 0; k < 8; k++)
            if (lr_iq2_signs(i) >> k & 1) v |= (uint64_t)0xff << 8 * k;
        lr_mm_iq2_sign[i] = v;
        lr_mm_iq2_bits[i] = (uint8_t)lr_iq2_signs(i);
    }
}

const lr_mm_set *const lr_mm_sets[] = {
    &lr_mm_scalar,
#if defined(__x86_64__)
    &lr_mm_avx2,   &lr_mm_avx2_vnni, &lr_mm_avx512, &lr_mm_avx512_vbmi, &lr_mm_avx512_bf16, &lr_mm_avx512_vbmi_bf16,
#elif defined(__aarch64__)
    &lr_mm_neon,
    &lr_mm_neon_i8mm,
#endif
};
const uint32_t lr_mm_n_sets = LR_LEN(lr_mm_sets);

bool lr_mm_has_i8(uint32_t fmt)
{
    switch (fmt) {
#define X(name, kind) case LR_FMT_##name:
        LR_MM_FORMATS(X)
#undef X
        return true;
    }
    return false;
}

static const lr_mm_set *best(lr_isa isa)
{
    for (uint32_t i = lr_mm_n_sets; i--;)
        if (lr_mm_sets[i]->isa == isa && !(lr_mm_sets[i]->features & ~lr_cpu_features())) return lr_mm_sets[i];
    return &lr_mm_scalar;
}

static lr_actk act_kind(uint32_t fmt, larder_act wish, bool bf16)
{
    if (wish == LARDER_ACT_F32) return LR_ACTK_F32;
    if (lr_mm_has_i8(fmt)) return wish == LARDER_ACT_BF16 ? LR_ACTK_F32 : LR_ACTK_I8;
    bool small = fmt == LR_FMT_BF16 || fmt == LR_FMT_F8_E4M3 || fmt == LR_FMT_F8_E4M3_B128;
    return small && bf16 ? LR_ACTK_BF16 : LR_ACTK_F32;
}
static lr_actk act_kind_bf16(uint32_t fmt, larder_act wish, uint32_t cols)
{
    (void)cols;
    return act_kind(fmt, wish, true);
}
static lr_actk act_kind_plain(uint32_t fmt, larder_act wish, uint32_t cols)
{
    (void)cols;
    return act_kind(fmt, wish, false);
}

static size_t act_bytes(lr_actk kind, uint32_t n)
{
    switch (kind) {
    case LR_ACTK_I8: return lr_i8_layout(n).bytes;
    case LR_ACTK_I8X2: return 2 * lr_i8_layout(n).bytes;
    case LR_ACTK_BF16: return LR_ALIGN_UP(2 * (size_t)n, 64);
    default: return LR_ALIGN_UP(4 * (size_t)n, 64);
    }
}

/* Integer kernels: partial sums of a tile of rows and its unpacked weights; those of one token, a row at a time, 8 bytes a column
 * and 1 KiB, which is less than what float kernels need: 16 decoded rows, or 32 in bf16. */
static size_t scratch_of(const lr_mm_set *s, uint32_t n_tok, uint32_t cols)
{
    size_t i8 = 4 * (size_t)s->tile_rows * n_tok + s->tile_bytes, f32 = 16 * (4 * (size_t)cols + 64);
    return LR_ALIGN_UP(LR_MAX(i8, f32), 64);
}
static size_t mm_scratch_any(uint32_t n_tok, uint32_t cols)
{
    size_t most = 0;
    for (uint32_t i = 0; i < lr_mm_n_sets; i++) {
        size_t one = scratch_of(lr_mm_sets[i], n_tok, cols);
        most = LR_MAX(most, one);
    }
    return most;
}

void lr_mm_fill(lr_kernels *k, lr_isa isa)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_tables);
    const lr_mm_set *s = best(isa);
    k->name = s->name;
    k->act_kind = s->bf16 ? act_kind_bf16 : act_kind_plain;
    k->act_bytes = act_bytes;
    k->act_pack = s->pack;
    k->mm_scratch = mm_scratch_any;
    k->mm = s->mm;
    k->pack_rows = s->pack_rows;
    k->can_pack = lr_mm_can_pack;
    k->repack = lr_mm_pack;
}
