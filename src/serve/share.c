/* share.c - how calls share the machine: whose they are, how important, until when, and with whom they share prefixes.
 *
 * Whose: the key the call came with and, within it, who its body says it is for (user, safety_identifier, Anthropic's
 * metadata.user_id), or the Larder-Client header. Programs that say nothing of it are one client.
 */
#include "serve.h"

uint64_t share_of(exchange *x)
{
    static const char *const headers[] = {"Authorization", "x-api-key", "Larder-Client"};
    uint64_t client = 0;
    for (size_t i = 0; i < LR_LEN(headers); i++) {
        const char *v = exchange_header(x, headers[i]);
        if (v) client = client * 31 + lr_hash(v, strlen(v));
    }
    return client;
}

void share_begin(call *c, exchange *x) { c->client = x->ws ? ws_client(x->ws) : share_of(x); }

static void mix_in(call *c, const json_t *name)
{
    const char *v = json_string_value(name);
    if (v) c->client = c->client * 31 + lr_hash(v, json_string_length(name));
}

larder_status share_read(call *c, larder_error *err)
{
    params p = {.c = c, .o = c->body, .err = err};
    int64_t n = 0;
    mix_in(c, json_object_get(c->body, "user"));
    mix_in(c, json_object_get(c->body, "safety_identifier"));
    mix_in(c, json_object_get(json_object_get(c->body, "metadata"), "user_id"));
    if (take_int(&p, "priority", -100, 100, &n)) c->priority = (int32_t)n;
    take_float(&p, "deadline_s", 0.001, 1e7, &c->deadline_s);
    c->salt = take_string(&p, "cache_salt");
    if (c->salt && (!*c->salt || strlen(c->salt) > 256)) params_fail(&p, "cache_salt", "must have 1 to 256 bytes");
    return p.st;
}

double share_left(const call *c)
{
    if (c->deadline_s <= 0) return 0;
    double left = (double)c->deadline_s - (double)(lr_now_ns() - c->t0) * 1e-9;
    return LR_MAX(left, 1e-6);
}
