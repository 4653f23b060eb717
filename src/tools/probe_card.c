/* probe_card.c - measuring the graphics card once, through the backend's seam; kept beside probe.json, by the card's name. */
#include "backend.h"
#include "kernels.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

/* Another card, or another share of one, is measured anew; so it is by another larder. */
static void mark_of(const larder_card *c, char out[512])
{
    char machine[256];
    lr_probe_mark(machine);
    snprintf(out, 512, "%s/%s/%s/%llu", machine, c->name, c->generation, (unsigned long long)(c->n_bytes >> 20));
}

static bool path_of(char *out, size_t cap)
{
    char folder[4096];
    if (lr_user_dir("cache", folder, sizeof folder, NULL)) return false;
    return (size_t)snprintf(out, cap, "%s/card.json", folder) < cap;
}

static bool rate_of(const json_t *o, const char *key, double *out)
{
    const json_t *v = json_object_get(o, key);
    *out = json_number_value(v);
    return json_is_number(v) && isfinite(*out) && *out >= 0 && *out < 1e9;
}

static bool restore(larder_card_probe *p)
{
    char path[4200], mark[512], *text;
    size_t n;
    larder_error quiet;
    if (!path_of(path, sizeof path) || lr_read_file(path, 1 << 16, &text, &n, &quiet)) return false;
    json_t *o = json_loadb(text, n, 0, NULL);
    lr_free(text);
    mark_of(&p->card, mark);
    const char *same = json_string_value(json_object_get(o, "card"));
    bool good = same && !strcmp(same, mark) && rate_of(o, "read_gbs", &p->read_gbs) && p->read_gbs > 0 &&
                rate_of(o, "bf16_gflops", &p->bf16_gflops) && rate_of(o, "in_gbs", &p->in_gbs) &&
                rate_of(o, "out_gbs", &p->out_gbs);
    p->when = (int64_t)json_integer_value(json_object_get(o, "when"));
    json_decref(o);
    return good;
}

static void save(const larder_card_probe *p)
{
    char path[4200], mark[512];
    larder_error err = {0};
    mark_of(&p->card, mark);
    json_t *o = json_pack("{s:s,s:f,s:f,s:f,s:f,s:I}", "card", mark, "read_gbs", p->read_gbs, "bf16_gflops",
                          p->bf16_gflops, "in_gbs", p->in_gbs, "out_gbs", p->out_gbs, "when", (json_int_t)p->when);
    char *text = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
    if (text && path_of(path, sizeof path) && lr_write_file(path, text, strlen(text), &err))
        lr_log(LARDER_LOG_WARN, "the card's measurements could not be kept: %s", err.message);
    free(text);
    json_decref(o);
}

bool lr_probe_card_kept(larder_card_probe *out)
{
    *out = (larder_card_probe){.when = 0};
    if (larder_card_get(&out->card, NULL)) return false;
    return restore(out) || (out->read_gbs = out->bf16_gflops = out->in_gbs = out->out_gbs = 0, true);
}

larder_status larder_probe_card(bool fresh, larder_card_probe *out, larder_error *err)
{
    *out = (larder_card_probe){.when = 0};
    LR_TRY(larder_card_get(&out->card, err));
    if (!fresh && restore(out)) return LARDER_OK;
#ifdef LR_CUDA
    lr_card_rates r;
    LR_TRY(lr_backend_cuda.measure(&r, err));
    out->read_gbs = r.read * 1e-9;
    out->bf16_gflops = r.bf16 * 1e-9;
    out->in_gbs = r.in * 1e-9;
    out->out_gbs = r.out * 1e-9;
#endif
    out->when = (int64_t)time(NULL);
    if (out->read_gbs > 0) save(out);
    return LARDER_OK;
}
