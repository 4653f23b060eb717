/* advise.c - see advise.h. Enough is what a person reads as fast as it comes: 12 tokens a second for each of the users, and
 * no more than 20 seconds until the first word of the prompt that was planned for. */
#include "advise.h"

#include <stdlib.h>

#define ENOUGH 12.0
#define PATIENCE 20.0
#define LISTED 5

typedef struct choice {
    lr_outlook o;
    double each, price; /* tokens a second for each user; USD */
    bool enough;
} choice;

static void look(const lr_machine *m, const lr_plan_model *model, const lr_ask *ask, choice *out)
{
    lr_setup s = lr_setup_usual(m);
    if (m->id < 0) s.engine = LR_ENGINE_LARDER;
    lr_outlook_make(m, model, &s, ask, &out->o);
    double users = LR_MAX(ask->n_users, 1);
    out->each = users > 1 ? out->o.users.rate / users : out->o.decode[0].rate;
    out->price = lr_machine_price(m);
    out->enough = out->o.fits && out->each >= ENOUGH && out->o.first_token_s <= PATIENCE;
}

/* Those that are enough first, the cheapest of them first; then the fastest. */
static int by_worth(const void *a, const void *b)
{
    const choice *x = a, *y = b;
    if (x->enough != y->enough) return y->enough - x->enough;
    if (x->enough) return (x->price > y->price) - (x->price < y->price);
    return (x->each < y->each) - (x->each > y->each);
}

static void line(const choice *c, int at, lr_buf *out)
{
    lr_buf_printf(
        out, "%3d  %-36.36s %7.0f USD  %6.1f tok/s each (%.1f to %.1f alone)  first word after %.1f s  %4.0f W  %s\n",
        at, c->o.m->name, c->price, c->each, c->o.decode[0].low, c->o.decode[0].high, c->o.first_token_s,
        c->o.watts_decode,
        c->enough          ? "enough"
        : c->each < ENOUGH ? "slow to read"
                           : "slow to begin");
}

static void of_here(const choice *h, const lr_ask *ask, lr_buf *out)
{
    if (!h->o.fits) {
        lr_buf_printf(out, "%s: it does not fit; the largest context that would is %.0f\n", h->o.m->name,
                      h->o.max_ctx);
        return;
    }
    lr_buf_printf(out, "%s: %.1f tokens a second for each of %.0f, first word after %.1f s: %s\n", h->o.m->name,
                  h->each, LR_MAX(ask->n_users, 1), h->o.first_token_s,
                  h->enough          ? "enough"
                  : h->each < ENOUGH ? "slower than one reads"
                                     : "a long wait for the first word");
}

static const choice *fastest(const choice *all, size_t n)
{
    const choice *best = NULL;
    for (size_t i = 0; i < n; i++)
        if (!best || all[i].each > best->each) best = &all[i];
    return best;
}

static void recommend(const choice *all, size_t n, const choice *here, const lr_ask *ask, lr_buf *out)
{
    if (here && here->enough) {
        lr_buf_printf(out, "\nrecommended: the machine you have. Nothing else has to be bought for this\n");
        return;
    }
    if (!n) {
        lr_buf_printf(out, "\nrecommended: %s\n",
                      here && here->o.fits
                          ? "the machine you have: slow, but nothing within these limits holds it better"
                          : "a smaller model, fewer bits or a shorter context: nothing within these limits "
                            "holds this one");
        return;
    }
    const choice *best = &all[0], *top = fastest(all, n);
    if (here && here->o.fits && !best->enough && here->each >= best->each) {
        lr_buf_printf(out, "\nrecommended: the machine you have: slow, but nothing within these limits is faster\n");
        return;
    }
    lr_buf_printf(out, "\nrecommended: %s, for %.0f USD: %s, bound by %s\n", best->o.m->name, best->price,
                  best->enough ? "the cheapest that is enough"
                               : "the fastest within these limits, though slower than one reads",
                  best->o.decode[0].bottleneck);
    if (top->each > best->each)
        lr_buf_printf(out, "faster: %s, %.1f times, for %.0f USD\n", top->o.m->name, top->each / best->each,
                      top->price);
    lr_buf_printf(out, "power: %.0f W while it answers, %.2f USD a million tokens for energy\n", best->o.watts_decode,
                  best->o.usd_energy);
    if (ask->elsewhere > 0 && best->o.pays_after > 0)
        lr_buf_printf(out,
                      "against %.2f USD a million tokens elsewhere it pays for itself after %.0f million tokens\n",
                      ask->elsewhere, best->o.pays_after);
    else if (ask->elsewhere > 0)
        lr_buf_printf(out, "against %.2f USD a million tokens elsewhere it never pays for itself in energy alone\n",
                      ask->elsewhere);
}

larder_status lr_advise(const lr_catalogue *c, const lr_plan_model *model, const lr_ask *ask, const lr_machine *here,
                        lr_buf *out, larder_error *err)
{
    choice mine, *all = lr_calloc((c ? c->n_machines : 0) + 1, sizeof *all);
    size_t n = 0;
    if (!all) return LR_NOMEM(err, "the machines");
    lr_buf_printf(out, "%s %s, for %.0f at once, context %.0f, prompts of %.0f\n", model->name, model->quant,
                  LR_MAX(ask->n_users, 1), ask->n_ctx, ask->n_prompt > 0 ? ask->n_prompt : 2048);
    if (here) look(here, model, ask, &mine);
    if (here) of_here(&mine, ask, out);
    for (size_t i = 0; c && i < c->n_machines; i++) {
        const lr_machine *m = &c->machines[i];
        double price = lr_machine_price(m);
        if (strcmp(m->status, "sold") || !(m->price > 0) || (ask->max_price > 0 && price > ask->max_price)) continue;
        if (ask->max_watts > 0 && m->load_w * m->count > ask->max_watts) continue;
        look(m, model, ask, &all[n]);
        n += all[n].o.fits;
    }
    qsort(all, n, sizeof *all, by_worth);
    for (size_t i = 0; i < n && i < LISTED; i++) line(&all[i], (int)i + 1, out);
    if (c) lr_buf_printf(out, "%zu machines that can be bought hold it within these limits\n", n);
    recommend(all, n, here ? &mine : NULL, ask, out);
    lr_free(all);
    return LARDER_OK;
}
