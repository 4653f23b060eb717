/* logprob.c - how likely the model thought each token, before any sampler changed its logits. */
#include "engine.h"

#include <math.h>

void lr_logprob_keep(larder_request *r, const float *logits, uint32_t n_vocab)
{
    float most = -INFINITY;
    uint32_t n_top = 0;
    for (uint32_t i = 0; i < n_vocab; i++) {
        r->raw[i] = logits[i];
        most = LR_MAX(most, logits[i]);
        if (!r->n_top || (n_top == r->n_top && !(logits[i] > r->top[n_top - 1].logprob))) continue;
        uint32_t at = n_top < r->n_top ? n_top++ : n_top - 1; /* ids ascend, so equal ones stay in their order */
        for (; at > 0 && logits[i] > r->top[at - 1].logprob; at--) r->top[at] = r->top[at - 1];
        r->top[at] = (larder_logprob){(int32_t)i, logits[i]};
    }
    double sum = 0;
    for (uint32_t i = 0; i < n_vocab; i++) sum += exp((double)r->raw[i] - (double)most);
    r->log_sum = (double)most + log(sum);
    r->n_top = n_top;
    for (uint32_t i = 0; i < n_top; i++) r->top[i].logprob = lr_logprob_of(r, r->top[i].token);
}

float lr_logprob_of(const larder_request *r, int32_t token) { return (float)((double)r->raw[token] - r->log_sum); }
