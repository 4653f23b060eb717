/* params.c - what a body says, member by member, checked. What nobody took is unknown, and an error: a parameter that
 * changes nothing would be a lie. */
#include "serve.h"

#include <math.h>
#include <stdio.h>

larder_status params_fail(params *p, const char *key, const char *fmt, ...)
{
    char text[300];
    va_list ap;
    if (p->st) return p->st;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    snprintf(p->c->param, sizeof p->c->param, "%s%s%s", p->in ? p->in : "", p->in ? "." : "", key);
    for (char *s = p->c->param; *s; s++)
        if ((unsigned char)*s < ' ' || (unsigned char)*s >= 0x7f)
            *s = '?'; /* a cut in the middle of a character, too */
    return p->st = lr_fail(p->err, LARDER_USAGE, "%s: %s", p->c->param, text);
}

json_t *take(params *p, const char *key)
{
    json_t *v = json_object_get(p->o, key);
    if (!v || p->st) return NULL;
    if (json_array_append(p->c->kept, v)) {
        p->st = LR_NOMEM(p->err, "a request");
        return NULL;
    }
    json_object_del(p->o, key);
    return json_is_null(v) ? NULL : v;
}

bool take_float(params *p, const char *key, double min, double max, float *out)
{
    const json_t *v = take(p, key);
    if (!v) return false;
    double d = json_number_value(v);
    if (!json_is_number(v) || !isfinite(d) || d < min || d > max) {
        params_fail(p, key, "must be a number from %g to %g", min, max);
        return false;
    }
    *out = (float)d;
    return true;
}

bool take_int(params *p, const char *key, int64_t min, int64_t max, int64_t *out)
{
    const json_t *v = take(p, key);
    if (!v) return false;
    double d = json_number_value(v);
    bool whole = json_is_integer(v) || (json_is_real(v) && d == floor(d) && fabs(d) < 9e15);
    int64_t n = json_is_integer(v) ? json_integer_value(v) : whole ? (int64_t)d : 0;
    if (!whole || n < min || n > max) {
        params_fail(p, key, "must be a whole number from %lld to %lld", (long long)min, (long long)max);
        return false;
    }
    *out = n;
    return true;
}

bool take_bool(params *p, const char *key, bool *out)
{
    const json_t *v = take(p, key);
    if (!v) return false;
    if (!json_is_boolean(v)) {
        params_fail(p, key, "must be true or false");
        return false;
    }
    *out = json_is_true(v);
    return true;
}

const char *take_string(params *p, const char *key)
{
    const json_t *v = take(p, key);
    if (!v) return NULL;
    if (!json_is_string(v)) params_fail(p, key, "must be a string");
    else if (strlen(json_string_value(v)) != json_string_length(v)) params_fail(p, key, "holds a NUL");
    else return json_string_value(v);
    return NULL;
}

void take_inert(params *p, const char *key) { take(p, key); }

/* harmless: JSON texts one after the other, as "false", "1", "[]"; separated by spaces */
void take_refused(params *p, const char *key, const char *why, const char *harmless)
{
    json_t *v = take(p, key);
    if (!v) return;
    char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
    bool good = false;
    for (const char *h = harmless; text && *h && !good;) {
        size_t n = strcspn(h, " ");
        good = strlen(text) == n && !memcmp(text, h, n);
        h += n + (h[n] == ' ');
    }
    free(text);
    if (!good) params_fail(p, key, "%s", why);
}

void take_stop(params *p, const char *key)
{
    json_t *v = take(p, key), *one;
    size_t i;
    call *c = p->c;
    if (!v) return;
    json_t *list = json_is_array(v) ? json_incref(v) : json_pack("[O]", v);
    json_array_foreach(list, i, one)
    {
        const char *text = json_string_value(one);
        size_t n = json_string_length(one);
        if (!text || !n || n > MOST_STOP || strlen(text) != n || c->n_stop == MOST_STOPS) {
            params_fail(p, key, "must be up to %d strings of 1 to %d bytes", MOST_STOPS, MOST_STOP);
            break;
        }
        c->stop[c->n_stop++] = text; /* alive in c->kept */
    }
    json_decref(list);
}

larder_status take_ids(params *p, const char *key, const json_t *list, int32_t **ids)
{
    size_t i;
    json_t *one;
    *ids = lr_calloc(json_array_size(list) + 1, sizeof **ids);
    if (!*ids) return p->st = LR_NOMEM(p->err, "token ids");
    json_array_foreach(list, i, one)
    {
        json_int_t id = json_integer_value(one);
        if (json_is_integer(one) && id >= 0 && id < p->c->m->info.n_vocab) {
            (*ids)[i] = (int32_t)id;
            continue;
        }
        lr_free(*ids);
        *ids = NULL;
        return params_fail(p, key, "an id is not one of the model's %u", p->c->m->info.n_vocab);
    }
    return LARDER_OK;
}

void take_bias(params *p, const char *key)
{
    json_t *v = take(p, key), *one;
    const char *id;
    call *c = p->c;
    if (!v) return;
    if (!json_is_object(v) || json_object_size(v) > MOST_BIAS) {
        params_fail(p, key, "must be an object of at most %d token ids and biases", MOST_BIAS);
        return;
    }
    c->bias_ids = lr_calloc(json_object_size(v) + 1, sizeof *c->bias_ids);
    c->bias = lr_calloc(json_object_size(v) + 1, sizeof *c->bias);
    if (!c->bias_ids || !c->bias) {
        p->st = LR_NOMEM(p->err, "a request");
        return;
    }
    json_object_foreach(v, id, one)
    {
        char *end;
        long long n = strtoll(id, &end, 10);
        double b = json_number_value(one);
        if (*id < '0' || *id > '9' || *end || n >= p->c->m->info.n_vocab) {
            params_fail(p, key, "a key is not one of the model's %u token ids", p->c->m->info.n_vocab);
            return;
        }
        if (!json_is_number(one) || !(fabs(b) <= 100)) {
            params_fail(p, key, "a bias must be a number from -100 to 100");
            return;
        }
        c->bias_ids[c->n_bias] = (int32_t)n;
        c->bias[c->n_bias++] = b <= -100 ? -INFINITY : (float)b; /* -100 bans, as OpenAI has it */
    }
}

void take_sampling(params *p, larder_sampling *s)
{
    static const double most = 1e6;
    int64_t n = 0;
    take_float(p, "temperature", 0, 100, &s->temperature);
    take_float(p, "top_p", 0, 1, &s->top_p);
    take_float(p, "min_p", 0, 1, &s->min_p);
    take_float(p, "typical_p", 0, 1, &s->typical_p);
    take_float(p, "repeat_penalty", 0.01, 100, &s->repeat_penalty);
    take_float(p, "frequency_penalty", -100, 100, &s->frequency_penalty);
    take_float(p, "presence_penalty", -100, 100, &s->presence_penalty);
    take_float(p, "dry_multiplier", 0, most, &s->dry_multiplier);
    take_float(p, "dry_base", 1, most, &s->dry_base);
    take_float(p, "xtc_probability", 0, 1, &s->xtc_probability);
    take_float(p, "xtc_threshold", 0, 1, &s->xtc_threshold);
    take_float(p, "mirostat_tau", 0, 100, &s->mirostat_tau);
    take_float(p, "mirostat_eta", 0, 1, &s->mirostat_eta);
    if (take_int(p, "top_k", 0, INT32_MAX, &n)) s->top_k = (int32_t)n;
    if (take_int(p, "penalty_last_n", -1, INT32_MAX, &n)) s->penalty_last_n = (int32_t)n;
    if (take_int(p, "dry_allowed_length", 0, INT32_MAX, &n)) s->dry_allowed_length = (int32_t)n;
    if (take_int(p, "dry_last_n", -1, INT32_MAX, &n)) s->dry_last_n = (int32_t)n;
    if (take_int(p, "seed", INT64_MIN, INT64_MAX, &n)) s->seed = (uint64_t)n;
}

/* The call has its model already (models_take); that it was named is what is left to see. */
void take_model(params *p)
{
    if (!take_string(p, "model") && !p->st)
        params_fail(p, "model", "is missing; this server has '%s'", p->c->m->name);
}

larder_status params_done(params *p)
{
    const char *key;
    json_t *v;
    if (p->st) return p->st;
    json_object_foreach(p->o, key, v) return params_fail(p, key, "larder does not know this parameter");
    return LARDER_OK;
}
