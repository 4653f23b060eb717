/* routes.c - every path there is, and the answers that need no thought. A path that is not here is 404. */
#include "serve.h"

#include <stdio.h>
#include <time.h>

static void get_health(exchange *x) { reply_json(x, 200, json_pack("{s:s}", "status", "ok")); }

static void get_ready(exchange *x)
{
    reply_json(x, x->s->draining ? 503 : 200, json_pack("{s:s}", "status", x->s->draining ? "draining" : "ready"));
}

static json_t *model_json(const served_view *v)
{
    json_t *o = json_pack("{s:s,s:s,s:I,s:s,s:s,s:s,s:s}", "id", v->name, "object", "model", "created",
                          (json_int_t)v->changed, "owned_by", "larder", "type", "model", "display_name", v->name,
                          "state",
                          v->loaded    ? "loaded"
                          : v->loading ? "loading"
                                       : "unloaded");
    json_t *meta = json_pack("{s:I}", "n_bytes", (json_int_t)v->n_bytes);
    if (v->known) {
        json_object_set_new(meta, "n_params", json_integer((json_int_t)v->info.n_params));
        json_object_set_new(meta, "n_ctx_train", json_integer(v->info.n_ctx_train));
        json_object_set_new(meta, "n_vocab", json_integer(v->info.n_vocab));
    }
    if (v->loaded) json_object_set_new(meta, "n_ctx", json_integer(v->n_ctx));
    json_object_set_new(o, "meta", meta);
    return o;
}

static void get_models(exchange *x)
{
    served_list l;
    json_t *data = json_array();
    models_view(x->s, &l, true);
    for (size_t i = 0; i < l.n; i++) json_array_append_new(data, model_json(&l.v[i]));
    reply_json(x, 200,
               json_pack("{s:s,s:o,s:b,s:s?,s:s?}", "object", "list", "data", data, "has_more", 0, "first_id",
                         l.n ? l.v[0].name : NULL, "last_id", l.n ? l.v[l.n - 1].name : NULL));
    models_view_free(&l);
}

static void get_model(exchange *x)
{
    const char *name = x->path + strlen("/v1/models/");
    json_t *found = NULL;
    served_list l;
    models_view(x->s, &l, true);
    for (size_t i = 0; i < l.n && !found; i++)
        if (!strcmp(name, l.v[i].name)) found = model_json(&l.v[i]);
    models_view_free(&l);
    if (found) reply_json(x, 200, found);
    else reply_error(x, 404, "there is no such model here", "model");
}

extern const char lr_openapi[]; /* docs/openapi.yaml: see the Makefile */
static void get_openapi(exchange *x) { reply_text(x, 200, "application/yaml", lr_openapi); }

static void get_version(exchange *x) { reply_json(x, 200, json_pack("{s:s}", "version", larder_version())); }

static json_t *ollama_details(const larder_model_info *info, const char *architecture, const char *format)
{
    char size[24];
    snprintf(size, sizeof size, "%.1fM", (double)info->n_params * 1e-6);
    return json_pack("{s:s,s:s,s:s,s:[s],s:s,s:s}", "parent_model", "", "format", "gguf", "family", architecture,
                     "families", architecture, "parameter_size", size, "quantization_level", format);
}

static void stamp(int64_t t, char out[32])
{
    struct tm tm;
    time_t when = (time_t)t;
    gmtime_r(&when, &tm);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static json_t *ollama_model(const served_view *v, bool running)
{
    char when[32];
    stamp(v->changed, when);
    json_t *o = json_pack("{s:s,s:s,s:I,s:s}", "name", v->name, "model", v->name, "size", (json_int_t)v->n_bytes,
                          "digest", "");
    if (v->known) json_object_set_new(o, "details", ollama_details(&v->info, v->architecture, v->format));
    if (running) {
        if (v->idle_left_s >= 0) stamp((int64_t)time(NULL) + (int64_t)v->idle_left_s, when);
        json_object_set_new(o, "expires_at", json_string(v->idle_left_s < 0 ? "9999-12-31T23:59:59Z" : when));
        json_object_set_new(o, "size_vram", json_integer((json_int_t)v->plan.n_card));
        json_object_set_new(o, "size_planned", json_integer((json_int_t)v->memory));
        json_object_set_new(o, "context_length", json_integer(v->n_ctx));
    } else {
        json_object_set_new(o, "modified_at", json_string(when));
    }
    return o;
}

static void ollama_models(exchange *x, bool running)
{
    served_list l;
    json_t *list = json_array();
    models_view(x->s, &l, !running);
    for (size_t i = 0; i < l.n; i++)
        if (!running || l.v[i].loaded) json_array_append_new(list, ollama_model(&l.v[i], running));
    models_view_free(&l);
    reply_json(x, 200, json_pack("{s:o}", "models", list));
}

static void get_tags(exchange *x) { ollama_models(x, false); }

static void get_ps(exchange *x) { ollama_models(x, true); }

static larder_status read_show(call *c, larder_error *err)
{
    params p = {.c = c, .o = c->body, .err = err};
    if (!json_object_get(p.o, "model") && json_object_get(p.o, "name")) {
        json_object_set(p.o, "model", json_object_get(p.o, "name"));
        json_object_del(p.o, "name");
    }
    take_model(&p);
    take_refused(&p, "verbose", "is not supported", "false");
    LR_TRY(params_done(&p));
    served_view v;
    LR_TRY(models_look(c->s, c->m, &v, err));
    const larder_model_info *about = &v.info;
    char key[96], when[32];
    stamp(v.changed, when);
    json_t *info = json_pack("{s:s,s:I}", "general.architecture", v.architecture, "general.parameter_count",
                             (json_int_t)about->n_params);
    const struct {
        const char *name;
        uint32_t n;
    } numbers[] = {{"context_length", about->n_ctx_train},
                   {"embedding_length", about->n_embd},
                   {"block_count", about->n_layer},
                   {"attention.head_count", about->n_head},
                   {"attention.head_count_kv", about->n_head_kv}};
    for (size_t i = 0; i < LR_LEN(numbers); i++) {
        snprintf(key, sizeof key, "%.40s.%s", v.architecture, numbers[i].name);
        json_object_set_new(info, key, json_integer(numbers[i].n));
    }
    c->answer = json_pack("{s:s,s:s,s:s,s:o,s:o,s:[s],s:s}", "modelfile", "", "parameters", "", "template", "",
                          "details", ollama_details(about, v.architecture, v.format), "model_info", info,
                          "capabilities", "completion", "modified_at", when);
    c->answer_only = true;
    return LARDER_OK;
}
const api api_show = {.name = "show", .read = read_show, .error = error_ollama};

static const route routes[] = {
    {"GET", "/health", ROUTE_OPEN, NULL, get_health, error_openai},
    {"GET", "/ready", ROUTE_KEY, NULL, get_ready, error_openai},
    {"GET", "/metrics", ROUTE_KEY, NULL, metrics_get, error_openai},
    {"GET", "/openapi.yaml", ROUTE_KEY, NULL, get_openapi, error_openai},
    {"GET", "/v1/models", ROUTE_KEY, NULL, get_models, error_openai},
    {"GET", "/v1/models/*", ROUTE_KEY, NULL, get_model, error_openai},
    {"POST", "/v1/chat/completions", ROUTE_KEY, &api_chat, NULL, error_openai},
    {"POST", "/v1/completions", ROUTE_KEY, &api_completions, NULL, error_openai},
    {"POST", "/v1/responses", ROUTE_KEY, &api_responses, NULL, error_openai},
    {"GET", "/v1/responses", ROUTE_KEY, NULL, ws_get, error_openai},
    {"POST", "/v1/responses/compact", ROUTE_KEY, &api_compact, NULL, error_openai},
    {"POST", "/v1/messages", ROUTE_KEY, &api_anthropic, NULL, error_anthropic},
    {"POST", "/v1/messages/count_tokens", ROUTE_KEY, &api_count, NULL, error_anthropic},
    {"POST", "/api/chat", ROUTE_KEY, &api_ollama_chat, NULL, error_ollama},
    {"POST", "/api/generate", ROUTE_KEY, &api_ollama_generate, NULL, error_ollama},
    {"POST", "/v1/embeddings", ROUTE_KEY, &api_embeddings, NULL, error_openai},
    {"POST", "/api/embed", ROUTE_KEY, &api_ollama_embed, NULL, error_ollama},
    {"POST", "/api/embeddings", ROUTE_KEY, &api_ollama_embeddings, NULL, error_ollama},
    {"POST", "/tokenize", ROUTE_KEY, &api_tokenize, NULL, error_openai},
    {"POST", "/detokenize", ROUTE_KEY, &api_detokenize, NULL, error_openai},
    {"POST", "/apply-template", ROUTE_KEY, &api_template, NULL, error_openai},
    {"POST", "/api/pull", ROUTE_KEY, NULL, pull_post, error_ollama},
    {"GET", "/api/tags", ROUTE_KEY, NULL, get_tags, error_ollama},
    {"GET", "/api/ps", ROUTE_KEY, NULL, get_ps, error_ollama},
    {"GET", "/api/version", ROUTE_KEY, NULL, get_version, error_ollama},
    {"POST", "/api/show", ROUTE_KEY, &api_show, NULL, error_ollama},
};

static bool matches(const char *pattern, const char *path)
{
    size_t n = strcspn(pattern, "*");
    if (!pattern[n]) return !strcmp(pattern, path);
    return !strncmp(pattern, path, n) && path[n];
}

void route_methods(const char *path, char out[40])
{
    *out = 0;
    for (size_t i = 0; i < LR_LEN(routes); i++) {
        if (!matches(routes[i].path, path) || strlen(out) > 24) continue;
        strcat(strcat(out, *out ? ", " : ""), !strcmp(routes[i].method, "GET") ? "GET, HEAD" : routes[i].method);
    }
}

const route *route_find(const char *method, const char *path, bool *other)
{
    *other = false;
    if (!strcmp(method, "HEAD")) method = "GET";
    for (size_t i = 0; i < LR_LEN(routes); i++) {
        if (!matches(routes[i].path, path)) continue;
        if (!strcmp(routes[i].method, method)) return &routes[i];
        *other = true;
    }
    return NULL;
}

json_t *(*route_error(const char *path))(int, const char *, const char *)
{
    if (!strncmp(path, "/api/", 5)) return error_ollama;
    return strncmp(path, "/v1/messages", 12) ? error_openai : error_anthropic;
}
