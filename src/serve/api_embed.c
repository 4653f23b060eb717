/* api_embed.c - texts as vectors: /v1/embeddings, Ollama's /api/embed and its older /api/embeddings.
 *
 * The vector is the loaded model's last hidden states, pooled: their mean, or the last one ("pooling", our own
 * parameter). Vectors have length 1, but those of /api/embeddings, which Ollama leaves as they are.
 */
#include "serve.h"

#include <math.h>

enum { MOST_TEXTS = 2048 };

/* ---------------------------------------------------------------- reading */
static larder_status add_ids(params *p, const char *key, int32_t *ids, size_t n, bool cut)
{
    call *c = p->c;
    uint32_t most = c->m->plan.n_ctx;
    if (!c->texts) c->texts = lr_calloc(MOST_TEXTS, sizeof *c->texts);
    if (n > most && cut) {
        if (!c->n_cut++) call_note_add(c, "input: cut to the context, as truncate has it");
        n = most;
    }
    if (c->texts && n && n <= most) {
        c->texts[c->n_texts++] = (embed_text){ids, n};
        return LARDER_OK;
    }
    larder_free(ids);
    if (!c->texts) return p->st = LR_NOMEM(p->err, "an input");
    if (!n) return params_fail(p, key, "an input is empty");
    return params_fail(p, key, "an input is %zu tokens and the context is %u", n, most);
}

static larder_status add_text(params *p, const char *key, const json_t *text, bool cut)
{
    int32_t *ids = NULL;
    size_t n = 0;
    LR_TRY(larder_tokenize(p->c->m->model, json_string_value(text), json_string_length(text), LARDER_TEXT_SPECIAL,
                           &ids, &n, p->err));
    return add_ids(p, key, ids, json_string_length(text) ? n : 0, cut);
}

static larder_status add_list(params *p, const char *key, const json_t *list)
{
    int32_t *ids = NULL;
    LR_TRY(take_ids(p, key, list, &ids));
    return add_ids(p, key, ids, json_array_size(list), false);
}

/* A string or a list of strings; with `ids`, lists of token ids in place of strings too. */
static void take_input(params *p, const char *key, bool ids, bool cut)
{
    json_t *v = take(p, key), *one;
    size_t i;
    if (p->st) return;
    if (json_is_string(v)) {
        p->st = add_text(p, key, v, cut);
    } else if (!json_is_array(v) || json_array_size(v) > MOST_TEXTS) {
        params_fail(p, key, "must be a text, or a list of at most %d", MOST_TEXTS);
    } else if (ids && json_is_integer(json_array_get(v, 0))) {
        p->st = add_list(p, key, v);
    } else {
        json_array_foreach(v, i, one)
        {
            if (json_is_string(one)) p->st = add_text(p, key, one, cut);
            else if (ids && json_is_array(one)) p->st = add_list(p, key, one);
            else params_fail(p, key, "must hold texts%s", ids ? " or lists of token ids" : "");
            if (p->st) return;
        }
    }
}

/* dimensions: the first so many, made length 1 again. */
static void take_shape(params *p)
{
    call *c = p->c;
    int64_t n = c->m->info.n_embd;
    take_int(p, "dimensions", 1, n, &n);
    c->n_dim = (uint32_t)n;
    const char *pooling = take_string(p, "pooling");
    if (pooling && !strcmp(pooling, "last")) c->pooling = LARDER_POOL_LAST;
    else if (pooling && strcmp(pooling, "mean")) params_fail(p, "pooling", "must be mean or last");
}

static larder_status done(params *p)
{
    call *c = p->c;
    LR_TRY(params_done(p));
    c->vectors = lr_calloc((size_t)c->n_texts * c->m->info.n_embd + 1, sizeof *c->vectors);
    return c->vectors ? LARDER_OK : LR_NOMEM(p->err, "embeddings");
}

static larder_status read_openai(call *c, larder_error *err)
{
    params p = {.c = c, .o = c->body, .err = err};
    take_model(&p);
    take_shape(&p);
    const char *coding = take_string(&p, "encoding_format");
    c->base64 = coding && !strcmp(coding, "base64");
    if (coding && !c->base64 && strcmp(coding, "float"))
        params_fail(&p, "encoding_format", "must be float or base64");
    take_inert(&p, "user");
    take_input(&p, "input", true, false);
    if (!p.st && !c->n_texts) params_fail(&p, "input", "is empty");
    return done(&p);
}

/* Options of the engine and of sampling: none changes a vector. */
static void take_ollama(params *p)
{
    take_model(p);
    const json_t *options = take(p, "options");
    if (options && !json_is_object(options)) params_fail(p, "options", "must be an object");
    if (json_object_size(options)) call_note_add(p->c, "options: have no effect on embeddings");
    if (take(p, "keep_alive")) call_note_add(p->c, "keep_alive: has no effect, the model stays loaded");
}

static larder_status read_ollama(call *c, larder_error *err)
{
    params p = {.c = c, .o = c->body, .err = err};
    bool cut = true;
    take_ollama(&p);
    take_shape(&p);
    take_bool(&p, "truncate", &cut);
    take_input(&p, "input", false, cut);
    return done(&p);
}

static larder_status read_old(call *c, larder_error *err)
{
    params p = {.c = c, .o = c->body, .err = err};
    take_ollama(&p);
    take_shape(&p);
    if (!json_is_string(json_object_get(p.o, "prompt"))) params_fail(&p, "prompt", "must be a string");
    else if (json_string_length(json_object_get(p.o, "prompt"))) take_input(&p, "prompt", false, true);
    else take_inert(&p, "prompt"); /* asks for the model to be there */
    return done(&p);
}

/* ---------------------------------------------------------------- writing */
static double scale_of(const float *v, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += (double)v[i] * (double)v[i];
    return sum > 0 ? 1 / sqrt(sum) : 0;
}

/* Little-endian float32. */
static json_t *as_base64(const float *v, uint32_t n, double scale)
{
    lr_buf raw = {0}, text = {0};
    for (uint32_t i = 0; i < n; i++) {
        float x = (float)((double)v[i] * scale);
        uint32_t bits;
        memcpy(&bits, &x, 4);
        for (int k = 0; k < 4; k++) lr_buf_putc(&raw, (char)(unsigned char)(bits >> 8 * k));
    }
    if (!raw.failed) lr_buf_base64(&text, raw.p, raw.n);
    json_t *o = text.n && !text.failed ? json_stringn(text.p, text.n) : NULL;
    lr_buf_free(&raw);
    lr_buf_free(&text);
    return o;
}

static json_t *as_list(const float *v, uint32_t n, double scale)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < n; i++) json_array_append_new(list, json_real((double)(float)((double)v[i] * scale)));
    return list;
}

static const float *vector(const call *c, uint32_t i) { return c->vectors + (size_t)i * c->m->info.n_embd; }

static json_t *normal(const call *c, uint32_t i)
{
    const float *v = vector(c, i);
    double scale = scale_of(v, c->n_dim);
    return c->base64 ? as_base64(v, c->n_dim, scale) : as_list(v, c->n_dim, scale);
}

static json_t *whole_openai(call *c)
{
    json_t *data = json_array();
    for (uint32_t i = 0; i < c->n_texts; i++)
        json_array_append_new(data, json_pack("{s:s,s:I,s:o}", "object", "embedding", "index", (json_int_t)i,
                                              "embedding", normal(c, i)));
    json_int_t n = (json_int_t)call_n_text(c);
    return json_pack("{s:s,s:o,s:s,s:{s:I,s:I}}", "object", "list", "data", data, "model", call_model(c), "usage",
                     "prompt_tokens", n, "total_tokens", n);
}

static json_t *whole_ollama(call *c)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->n_texts; i++) json_array_append_new(list, normal(c, i));
    return json_pack("{s:s,s:o,s:I,s:I,s:I}", "model", call_model(c), "embeddings", list, "total_duration",
                     (json_int_t)(lr_now_ns() - c->t0), "load_duration", (json_int_t)0, "prompt_eval_count",
                     (json_int_t)call_n_text(c));
}

static json_t *whole_old(call *c)
{
    return json_pack("{s:o}", "embedding", c->n_texts ? as_list(vector(c, 0), c->n_dim, 1) : json_array());
}

const api api_embeddings = {
    .name = "embeddings", .read = read_openai, .whole = whole_openai, .embeds = true, .error = error_openai};
const api api_ollama_embed = {
    .name = "ollama embed", .read = read_ollama, .whole = whole_ollama, .embeds = true, .error = error_ollama};
const api api_ollama_embeddings = {
    .name = "ollama embeddings", .read = read_old, .whole = whole_old, .embeds = true, .error = error_ollama};
