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

/* What to take: `here`, one of the others, or NULL. */
static const choice *recommended(const choice *all, size_t n, const choice *here)
{
    if (here && here->enough) return here;
    if (!n) return here && here->o.fits ? here : NULL;
    return here && here->o.fits && !all[0].enough && here->each >= all[0].each ? here : &all[0];
}

static void recommend(const choice *all, size_t n, const choice *here, const lr_ask *ask, lr_buf *out)
{
    const choice *best = recommended(all, n, here), *top = fastest(all, n);
    lr_buf_puts(out, "\nrecommended: ");
    if (!best) {
        lr_buf_puts(out,
                    "a smaller model, fewer bits or a shorter context: nothing within these limits holds this one\n");
        return;
    }
    if (best == here) {
        lr_buf_puts(out, here->enough ? "the machine you have. Nothing else has to be bought for this\n"
                         : n          ? "the machine you have: slow, but nothing within these limits is faster\n"
                             : "the machine you have: slow, but nothing within these limits holds it better\n");
        return;
    }
    lr_buf_printf(out, "%s, for %.0f USD: %s, bound by %s\n", best->o.m->name, best->price,
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

static void as_text(const choice *all, size_t n, const choice *here, bool buy, const lr_plan_model *model,
                    const lr_ask *ask, lr_buf *out)
{
    lr_buf_printf(out, "%s %s, for %.0f at once, ", model->name, model->quant, LR_MAX(ask->n_users, 1));
    if (ask->n_ctx > 0) lr_buf_printf(out, "context %.0f", ask->n_ctx);
    else lr_buf_puts(out, "the largest context that fits each");
    lr_buf_printf(out, ", prompts of %.0f\n", ask->n_prompt > 0 ? ask->n_prompt : 2048);
    if (here) of_here(here, ask, out);
    for (size_t i = 0; i < n && i < LISTED; i++) line(&all[i], (int)i + 1, out);
    if (buy) lr_buf_printf(out, "%zu machines that can be bought hold it within these limits\n", n);
    recommend(all, n, here, ask, out);
}

static void choice_json(const choice *c, lr_buf *out)
{
    lr_buf_printf(out,
                  "{\"enough\": %s, \"usd\": %.0f, \"tok_s_each\": %.4g, \"outlook\": ", c->enough ? "true" : "false",
                  c->price, c->each);
    lr_outlook_json(&c->o, out);
    lr_buf_putc(out, '}');
}

static void as_json(const choice *all, size_t n, const choice *here, lr_buf *out)
{
    const choice *best = recommended(all, n, here);
    lr_buf_puts(out, "{\"recommended\": ");
    if (best) lr_json_text(out, best->o.m->name);
    else lr_buf_puts(out, "null");
    lr_buf_puts(out, ",\n \"here\": ");
    if (here) choice_json(here, out);
    else lr_buf_puts(out, "null");
    lr_buf_printf(out, ",\n \"n_machines\": %zu, \"machines\": [", n);
    for (size_t i = 0; i < n && i < LISTED; i++) {
        lr_buf_puts(out, i ? ",\n " : "");
        choice_json(&all[i], out);
    }
    lr_buf_puts(out, "]}\n");
}

larder_status lr_advise(const lr_catalogue *c, const lr_plan_model *model, const lr_ask *ask, const lr_machine *here,
                        bool json, lr_buf *out, larder_error *err)
{
    choice mine, *all = lr_calloc((c ? c->n_machines : 0) + 1, sizeof *all);
    size_t n = 0;
    if (!all) return LR_NOMEM(err, "the machines");
    if (here) look(here, model, ask, &mine);
    for (size_t i = 0; c && i < c->n_machines; i++) {
        const lr_machine *m = &c->machines[i];
        double price = lr_machine_price(m);
        if (strcmp(m->status, "sold") || !(m->price > 0) || (ask->max_price > 0 && price > ask->max_price)) continue;
        if (ask->max_watts > 0 && m->load_w * m->count > ask->max_watts) continue;
        look(m, model, ask, &all[n]);
        n += all[n].o.fits;
    }
    qsort(all, n, sizeof *all, by_worth);
    if (json) as_json(all, n, here ? &mine : NULL, out);
    else as_text(all, n, here ? &mine : NULL, c != NULL, model, ask, out);
    lr_free(all);
    return LARDER_OK;
}
