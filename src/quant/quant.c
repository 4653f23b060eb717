/* quant.c - the table of number formats, and the way in to their codecs.
 *
 * Owns: looking formats up, and refusing input that no block can hold. Refuses to own: layouts (q_*.c, iq.c, fp4.c).
 */
#include "codec.h"

#include <assert.h>
#include <math.h>
#include <strings.h>

typedef struct format {
    lr_fmt_info info;
    const lr_codec *codec;
} format;

static const format formats[] = {
#define LR_FMT(name, id, block, bytes) {{#name, id, block, bytes}, &lr_codec_##name},
#include "formats.def"
#undef LR_FMT
};

static const format *find(uint32_t fmt)
{
    for (size_t i = 0; i < LR_LEN(formats); i++)
        if (formats[i].info.id == fmt) return &formats[i];
    return NULL;
}

const lr_fmt_info *lr_fmt_get(uint32_t fmt)
{
    const format *f = find(fmt);
    return f ? &f->info : NULL;
}

const lr_fmt_info *lr_fmt_by_name(const char *name)
{
    for (size_t i = 0; i < LR_LEN(formats); i++)
        if (strcasecmp(formats[i].info.name, name) == 0) return &formats[i].info;
    return NULL;
}

uint64_t lr_fmt_row_bytes(uint32_t fmt, uint64_t n)
{
    const format *f = find(fmt);
    uint64_t n_bytes = 0;
    if (!f || n % f->info.block || !lr_mul_u64(n / f->info.block, f->info.bytes, &n_bytes)) return 0;
    return n_bytes;
}

uint32_t lr_fmt_aux_bytes(uint32_t fmt)
{
    switch (fmt) {
    case LR_FMT_MXFP4_PAIRS: return 1;
    case LR_FMT_F8_E4M3_B128: return 4;
    default: return 0;
    }
}

bool lr_fmt_can_encode(uint32_t fmt)
{
    const format *f = find(fmt);
    return f && f->codec->encode;
}

void lr_decode_row(uint32_t fmt, const uint8_t *src, const uint8_t *aux, float *dst, uint64_t n)
{
    const format *f = find(fmt);
    assert(f && n % f->info.block == 0);
    f->codec->decode(src, aux, dst, n / f->info.block);
}

/* Every value finite and small enough: so the codecs need not look for either. */
static larder_status check_values(const format *f, const float *src, uint64_t n, larder_error *err)
{
    for (uint64_t i = 0; i < n; i++) {
        if (fabsf(src[i]) <= f->codec->limit) continue;
        if (!isfinite(src[i]))
            return lr_fail(err, LARDER_FORMAT, "value %llu of a row is %s: not a number %s can hold",
                           (unsigned long long)i, isnan(src[i]) ? "NaN" : "infinite", f->info.name);
        return lr_fail(err, LARDER_FORMAT, "value %llu of a row is %g: the largest %s can hold is %g",
                       (unsigned long long)i, (double)src[i], f->info.name, (double)f->codec->limit);
    }
    return LARDER_OK;
}

larder_status lr_encode_row(uint32_t fmt, const float *src, uint8_t *dst, uint64_t n, const float *importance,
                            larder_error *err)
{
    const format *f = find(fmt);
    if (!f) return lr_fail(err, LARDER_UNSUPPORTED, "number format %u is not one larder holds", fmt);
    if (!f->codec->encode)
        return lr_fail(err, LARDER_UNSUPPORTED, "larder reads %s but does not write it", f->info.name);
    if (n % f->info.block)
        return lr_fail(err, LARDER_USAGE, "a row of %llu values is not a whole number of %s blocks of %u",
                       (unsigned long long)n, f->info.name, f->info.block);
    LR_TRY(check_values(f, src, n, err));
    f->codec->encode(src, dst, n / f->info.block, importance);
    return LARDER_OK;
}
