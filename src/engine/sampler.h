/* sampler.h - from the logits of one position to one token.
 *
 * Owns: the samplers, their order, and the randomness, which is a pure function of (seed, position): a request draws
 * the same numbers whoever shares the batch, however its prompt was cut, whatever was drafted.
 * Order: bias, repetition/frequency/presence, DRY; then either mirostat 2, or top-k, typical, top-p, min-p, XTC,
 * temperature. Temperature 0 is greedy after the penalties.
 */
#ifndef LR_SAMPLER_H
#define LR_SAMPLER_H

#include "base.h"

typedef struct lr_candidate {
    float logit, p;
    int32_t id;
} lr_candidate;

/* Work memory of one engine, sized once by the vocabulary and the context. */
typedef struct lr_sampler_work {
    uint32_t n_vocab, n_ctx;
    lr_candidate *a, *b; /* [n_vocab] each */
    uint32_t *count;     /* [n_vocab], zero between calls */
    uint32_t *match;     /* [n_ctx] */
} lr_sampler_work;
uint64_t lr_sampler_work_bytes(uint32_t n_vocab, uint32_t n_ctx);
larder_status lr_sampler_work_init(lr_sampler_work *w, uint32_t n_vocab, uint32_t n_ctx, larder_error *err);
void lr_sampler_work_close(lr_sampler_work *w);

typedef struct lr_sampler {
    larder_sampling s;     /* its bias arrays are the sampler's own */
    float mu;              /* mirostat's state */
    const uint8_t *breaks; /* [n_vocab] bitmap of DRY's sequence breakers, not owned; NULL: none */
} lr_sampler;
/* Checks every parameter (finite, in range; ids below n_vocab) and copies what it points to. */
larder_status lr_sampler_init(lr_sampler *s, const larder_sampling *p, uint32_t n_vocab, larder_error *err);
void lr_sampler_close(lr_sampler *s);
/* tokens [n]: prompt and answer so far; the new token's position is n. `logits` [n_vocab] are changed. */
int32_t lr_sample(lr_sampler *s, lr_sampler_work *w, float *logits, const int32_t *tokens, uint32_t n);
/* The number in [0, 1) that draw `draw` gets at a position. */
double lr_sample_random(uint64_t seed, uint64_t position, uint32_t draw);

#endif
