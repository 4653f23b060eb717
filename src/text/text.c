/* text.c - finds a model's tokenizer and chat template, and turns requests into prompts.
 *
 * Owns: where GGUF keys and hub folders keep the template and the names of special tokens; what a request may hold.
 * Refuses to own: rendering (template.c), tokens (tok_*.c).
 */
#include "text.h"

#include <stdio.h>
#include <unistd.h>

enum { MAX_JSON = 64 << 20, MAX_TEMPLATE = 1 << 20 };

static const char *const special_names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                            "pad_token", "cls_token", "mask_token"};

/* ---------------------------------------------------------------- pieces of lr_text */
static larder_status keep(lr_text *t, lr_str source, lr_str *out, larder_error *err)
{
    char *own = lr_arena_strndup(&t->arena, source.p, source.n);
    if (!own) return LR_NOMEM(err, "the chat template");
    *out = (lr_str){own, source.n};
    return LARDER_OK;
}

static larder_status set_template(lr_text *t, lr_str name, lr_str source, larder_error *err)
{
    if (lr_str_is(name, "tool_use")) return keep(t, source, &t->tmpl_tools_source, err);
    if (lr_str_is(name, "default")) return keep(t, source, &t->tmpl_source, err);
    return LARDER_OK;
}

/* Templates that do not parse stay NULL; the error comes when one is used. Only want of memory is one now. */
static larder_status parse_templates(lr_text *t, larder_error *err)
{
    lr_str source[2] = {t->tmpl_source, t->tmpl_tools_source};
    lr_template **out[2] = {&t->tmpl, &t->tmpl_tools};
    larder_error *why[2] = {&t->tmpl_error, &t->tmpl_tools_error};
    for (int i = 0; i < 2; i++) {
        if (!source[i].n) continue;
        larder_status st = lr_template_new(source[i], out[i], why[i]);
        if (st == LARDER_NOMEM) return LR_NOMEM(err, "the chat template");
    }
    return LARDER_OK;
}

static larder_status set_trusted(lr_text *t, const char *name, const char *p, size_t n, larder_error *err)
{
    json_t *s = json_stringn(p, n);
    if (!s) return LARDER_OK; /* not UTF-8: no template can write it */
    return json_object_set_new(t->trusted, name, s) ? LR_NOMEM(err, "the names of special tokens") : LARDER_OK;
}

void lr_text_close(lr_text *t)
{
    if (!t) return;
    lr_tokenizer_free(t->tok);
    lr_template_free(t->tmpl);
    lr_template_free(t->tmpl_tools);
    json_decref(t->trusted);
    lr_arena_free(&t->arena);
    *t = (lr_text){0};
}

static larder_status begin(lr_text *t, larder_error *err)
{
    *t = (lr_text){.trusted = json_object()};
    return t->trusted ? LARDER_OK : LR_NOMEM(err, "the chat template");
}

/* ---------------------------------------------------------------- GGUF */
static larder_status gguf_templates(lr_text *t, const lr_file *f, larder_error *err)
{
    lr_str source = {0}, tools = {0};
    LR_TRY(lr_key_str(f, "tokenizer.chat_template", &source, err));
    LR_TRY(lr_key_str(f, "tokenizer.chat_template.tool_use", &tools, err));
    if (source.n) LR_TRY(keep(t, source, &t->tmpl_source, err));
    if (tools.n) LR_TRY(keep(t, tools, &t->tmpl_tools_source, err));
    return LARDER_OK;
}

static larder_status gguf_special(lr_text *t, const lr_file *f, larder_error *err)
{
    static const char *const keys[] = {"bos",     "eos", "unknown", "seperator",
                                       "padding", "cls", "mask"}; /* as GGUF spells */
    const lr_kv *tokens = lr_file_key(f, "tokenizer.ggml.tokens");
    int64_t id[LR_LEN(keys)];
    if (!tokens || tokens->type != LR_KV_ARR || tokens->elem != LR_KV_STR) return LARDER_OK;
    for (size_t i = 0; i < LR_LEN(keys); i++) {
        char key[64];
        snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", keys[i]);
        const lr_kv *kv = lr_file_key(f, key);
        id[i] = -1;
        if (kv && !lr_kv_integer(kv, 0, &id[i])) id[i] = -1;
    }
    lr_str_iter it = lr_str_walk(tokens);
    lr_str token;
    for (int64_t at = 0; lr_str_next(&it, &token); at++)
        for (size_t i = 0; i < LR_LEN(keys); i++)
            if (id[i] == at) LR_TRY(set_trusted(t, special_names[i], token.p, token.n, err));
    return LARDER_OK;
}

static larder_status open_gguf(lr_text *t, const lr_file *f, larder_error *err)
{
    LR_TRY(lr_tokenizer_from_gguf(f, &t->tok, err));
    LR_TRY(gguf_special(t, f, err));
    return gguf_templates(t, f, err);
}

/* ---------------------------------------------------------------- folders of the hub */
/* *out is NULL if the file is not there. */
static larder_status load_json(const char *dir, const char *name, json_t **out, larder_error *err)
{
    char path[4096], *text = NULL;
    size_t n = 0;
    json_error_t why;
    *out = NULL;
    int len = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (len < 0 || (size_t)len >= sizeof path)
        return lr_fail(err, LARDER_USAGE, "the path is too long: %.100s...", dir);
    if (!lr_is_file(path)) return LARDER_OK;
    LR_TRY(lr_read_file(path, MAX_JSON, &text, &n, err));
    /* integers as reals: some configs have a model_max_length of 10^30 */
    *out = json_loadb(text, n, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &why);
    lr_free(text);
    if (!*out) return lr_fail(err, LARDER_FORMAT, "%s, line %d: %s", path, why.line, why.text);
    if (json_is_object(*out)) return LARDER_OK;
    json_decref(*out);
    *out = NULL;
    return lr_fail(err, LARDER_FORMAT, "%s: not a JSON object", path);
}

static lr_str json_text(const json_t *s) { return (lr_str){json_string_value(s), json_string_length(s)}; }

/* "chat_template": a string, or a list of {"name", "template"}. */
static larder_status json_templates(lr_text *t, const json_t *config, larder_error *err)
{
    const json_t *tmpl = json_object_get(config, "chat_template"), *one;
    if (json_is_string(tmpl)) return keep(t, json_text(tmpl), &t->tmpl_source, err);
    size_t i;
    json_array_foreach(tmpl, i, one)
    {
        const json_t *name = json_object_get(one, "name"), *source = json_object_get(one, "template");
        if (!json_is_string(name) || !json_is_string(source))
            return lr_fail(err, LARDER_FORMAT, "tokenizer_config.json: chat_template[%zu] has no name or template",
                           i);
        LR_TRY(set_template(t, json_text(name), json_text(source), err));
    }
    return LARDER_OK;
}

static larder_status json_special(lr_text *t, const json_t *config, larder_error *err)
{
    for (size_t i = 0; i < LR_LEN(special_names); i++) {
        const json_t *v = json_object_get(config, special_names[i]);
        if (json_is_object(v)) v = json_object_get(v, "content");
        if (json_is_string(v) && !json_object_get(t->trusted, special_names[i]))
            LR_TRY(set_trusted(t, special_names[i], json_string_value(v), json_string_length(v), err));
    }
    return LARDER_OK;
}

static larder_status read_config(lr_text *t, const char *dir, const char *name, larder_error *err)
{
    json_t *config = NULL;
    LR_TRY(load_json(dir, name, &config, err));
    if (!config) return LARDER_OK;
    larder_status st = json_templates(t, config, err);
    if (!st) st = json_special(t, config, err);
    json_decref(config);
    return st;
}

static larder_status read_jinja(lr_text *t, const char *path, lr_str name, larder_error *err)
{
    char *text = NULL;
    size_t n = 0;
    if (!lr_is_file(path)) return LARDER_OK;
    LR_TRY(lr_read_file(path, MAX_TEMPLATE, &text, &n, err));
    larder_status st = set_template(t, name, (lr_str){text, n}, err);
    lr_free(text);
    return st;
}

/* Later ones win, as transformers has it: the config, then chat_template.json, then chat_template.jinja. */
static larder_status open_folder(lr_text *t, const char *dir, larder_error *err)
{
    static const char *const configs[] = {"tokenizer_config.json", "special_tokens_map.json", "chat_template.json"};
    char path[4096];
    if (strlen(dir) > sizeof path - 64) return lr_fail(err, LARDER_USAGE, "the path is too long: %.100s...", dir);
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    if (lr_is_file(path)) LR_TRY(lr_tokenizer_from_json(path, &t->tok, err));
    for (size_t i = 0; i < LR_LEN(configs); i++) LR_TRY(read_config(t, dir, configs[i], err));
    snprintf(path, sizeof path, "%s/chat_template.jinja", dir);
    LR_TRY(read_jinja(t, path, LR_STR("default"), err));
    snprintf(path, sizeof path, "%s/additional_chat_templates/tool_use.jinja", dir);
    return read_jinja(t, path, LR_STR("tool_use"), err);
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* The folder of `path` in `dir`. */
static larder_status folder_of(const char *path, char *dir, size_t cap, larder_error *err)
{
    const char *slash = strrchr(path, '/');
    int n = slash ? snprintf(dir, cap, "%.*s", (int)LR_MAX(slash - path, 1), path) : snprintf(dir, cap, ".");
    return n < 0 || (size_t)n >= cap ? lr_fail(err, LARDER_USAGE, "the path is too long: %.100s...", path)
                                     : LARDER_OK;
}

static larder_status open_path(lr_text *t, const char *path, larder_error *err)
{
    char dir[4096];
    if (lr_is_dir(path)) return open_folder(t, path, err);
    if (!lr_is_file(path) && access(path, F_OK) == 0)
        return lr_fail(err, LARDER_USAGE, "%.300s is not a regular file", path);
    if (!lr_is_file(path)) return lr_fail(err, LARDER_NOT_FOUND, "%.300s: no such file or folder", path);
    if (ends_with(path, ".jinja")) return read_jinja(t, path, LR_STR("default"), err);
    if (ends_with(path, ".gguf")) return lr_fail(err, LARDER_USAGE, "%.300s: open it as a model file", path);
    LR_TRY(folder_of(path, dir, sizeof dir, err));
    if (ends_with(path, "tokenizer_config.json") || ends_with(path, "/tokenizer.json") ||
        strcmp(path, "tokenizer.json") == 0)
        return open_folder(t, dir, err);
    return lr_tokenizer_from_json(path, &t->tok, err);
}

larder_status lr_text_open(const lr_file *f, lr_text *out, larder_error *err)
{
    larder_status st;
    LR_GO(begin(out, err));
    if (f->origin == LR_ORIGIN_GGUF) {
        LR_GO(open_gguf(out, f, err));
    } else {
        LR_GO(open_folder(out, f->path, err));
        if (!out->tok) LR_GO(lr_fail(err, LARDER_NOT_FOUND, "%.300s holds no tokenizer.json", f->path));
    }
    LR_GO(parse_templates(out, err));
    return LARDER_OK;
fail:
    lr_text_close(out);
    return st;
}

larder_status lr_text_open_dir(const char *dir, lr_text *out, larder_error *err)
{
    larder_status st;
    LR_GO(begin(out, err));
    LR_GO(open_path(out, dir, err));
    if (!out->tok && !out->tmpl_source.n && !out->tmpl_tools_source.n)
        LR_GO(lr_fail(err, LARDER_NOT_FOUND, "%.300s holds neither a tokenizer nor a chat template", dir));
    LR_GO(parse_templates(out, err));
    return LARDER_OK;
fail:
    lr_text_close(out);
    return st;
}

/* ---------------------------------------------------------------- requests */
static larder_status check_content(const json_t *content, size_t at, bool *parts, larder_error *err)
{
    if (!content || json_is_null(content) || json_is_string(content)) return LARDER_OK;
    if (!json_is_array(content))
        return lr_fail(err, LARDER_FORMAT, "messages[%zu].content is neither a string nor a list of parts", at);
    size_t i;
    json_t *part;
    *parts = true;
    json_array_foreach(content, i, part)
    {
        const char *type = json_string_value(json_object_get(part, "type"));
        if (!type) return lr_fail(err, LARDER_FORMAT, "messages[%zu].content[%zu] has no type", at, i);
        if (strcmp(type, "text") != 0)
            return lr_fail(err, LARDER_UNSUPPORTED,
                           "messages[%zu].content[%zu] is of type \"%.60s\"; only text is supported", at, i, type);
        if (!json_is_string(json_object_get(part, "text")))
            return lr_fail(err, LARDER_FORMAT, "messages[%zu].content[%zu].text is not a string", at, i);
    }
    return LARDER_OK;
}

static larder_status check_request(const json_t *request, bool *parts, larder_error *err)
{
    if (!json_is_object(request)) return lr_fail(err, LARDER_FORMAT, "the request is not an object");
    const json_t *messages = json_object_get(request, "messages"), *tools = json_object_get(request, "tools");
    if (!json_is_array(messages)) return lr_fail(err, LARDER_FORMAT, "messages is missing or not a list");
    if (tools && !json_is_null(tools) && !json_is_array(tools))
        return lr_fail(err, LARDER_FORMAT, "tools is not a list");
    size_t i;
    json_t *m;
    json_array_foreach(messages, i, m)
    {
        if (!json_is_object(m)) return lr_fail(err, LARDER_FORMAT, "messages[%zu] is not an object", i);
        if (!json_is_string(json_object_get(m, "role")))
            return lr_fail(err, LARDER_FORMAT, "messages[%zu].role is not a string", i);
        LR_TRY(check_content(json_object_get(m, "content"), i, parts, err));
    }
    return LARDER_OK;
}

/* Does the template walk lists of parts, or would it print them as Python shows lists? It is tried. */
static bool takes_parts(const lr_text *t, const lr_template *tmpl, int64_t now)
{
    static const char probe[] =
        "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"pRoBe\"}]}],"
        "\"tools\": null, \"documents\": null, \"add_generation_prompt\": false}";
    lr_template_budget budget = {.steps = 1 << 20, .depth = 500, .n_output = LR_MIB, .n_memory = 16 * LR_MIB};
    lr_rendered r = {0};
    json_t *vars = json_loads(probe, 0, NULL);
    bool yes = vars && lr_template_render(tmpl, vars, t->trusted, now, &budget, &r, NULL) == LARDER_OK &&
               strstr(r.text, "pRoBe") && !strstr(r.text, "'pRoBe'") && !strstr(r.text, "\"pRoBe\"");
    lr_rendered_free(&r);
    json_decref(vars);
    return yes;
}

static json_t *joined_parts(const json_t *parts)
{
    lr_buf b = {0};
    size_t i;
    json_t *part, *out = NULL;
    json_array_foreach(parts, i, part)
    {
        const json_t *text = json_object_get(part, "text");
        if (i) lr_buf_putc(&b, '\n');
        lr_buf_add(&b, json_string_value(text), json_string_length(text));
    }
    if (!b.failed) out = json_stringn(b.n ? b.p : "", b.n);
    lr_buf_free(&b);
    return out;
}

/* A copy of messages in which every content is a string. NULL: no memory. */
static json_t *flattened(const json_t *messages)
{
    json_t *out = json_array(), *m;
    size_t i;
    json_array_foreach(messages, i, m)
    {
        json_t *copy = json_copy(m), *content = json_object_get(m, "content");
        if (!copy || json_array_append_new(out, copy)) goto fail;
        if (json_is_array(content) && json_object_set_new(copy, "content", joined_parts(content))) goto fail;
    }
    return out;
fail:
    json_decref(out);
    return NULL;
}

/* What the template sees: the request, with what transformers always passes. */
static json_t *make_vars(const lr_text *t, const lr_template *tmpl, json_t *request, bool parts, int64_t now)
{
    json_t *vars = json_copy(request);
    bool ok = vars != NULL;
    if (ok && !json_object_get(vars, "tools")) ok = !json_object_set_new(vars, "tools", json_null());
    if (ok && !json_object_get(vars, "documents")) ok = !json_object_set_new(vars, "documents", json_null());
    if (ok && !json_object_get(vars, "add_generation_prompt"))
        ok = !json_object_set_new(vars, "add_generation_prompt", json_false());
    if (ok && parts && !takes_parts(t, tmpl, now))
        ok = !json_object_set_new(vars, "messages", flattened(json_object_get(request, "messages")));
    if (ok) return vars;
    json_decref(vars);
    return NULL;
}

static larder_status pick(const lr_text *t, const json_t *request, const lr_template **out, larder_error *err)
{
    const json_t *tools = json_object_get(request, "tools");
    bool with_tools = t->tmpl_tools_source.n && (json_is_array(tools) || !t->tmpl_source.n);
    lr_str source = with_tools ? t->tmpl_tools_source : t->tmpl_source;
    *out = with_tools ? t->tmpl_tools : t->tmpl;
    if (*out) return LARDER_OK;
    if (!source.n) return lr_fail(err, LARDER_NOT_FOUND, "the model has no chat template");
    const larder_error *why = with_tools ? &t->tmpl_tools_error : &t->tmpl_error;
    return lr_fail(err, why->code, "%s", why->message);
}

larder_status lr_text_render(const lr_text *t, json_t *request, int64_t now, lr_rendered *out, larder_error *err)
{
    const lr_template *tmpl;
    bool parts = false;
    *out = (lr_rendered){0};
    LR_TRY(check_request(request, &parts, err));
    LR_TRY(pick(t, request, &tmpl, err));
    json_t *vars = make_vars(t, tmpl, request, parts, now);
    if (!vars) return LR_NOMEM(err, "the request");
    larder_status st = lr_template_render(tmpl, vars, t->trusted, now, NULL, out, err);
    json_decref(vars);
    return st;
}

static larder_status prepend(lr_ids *ids, int32_t id, larder_error *err)
{
    if (ids->n == ids->cap) {
        size_t cap = ids->cap ? ids->cap * 2 : 16;
        int32_t *p = lr_realloc(ids->p, cap * sizeof *p);
        if (!p) return LR_NOMEM(err, "the prompt");
        ids->p = p;
        ids->cap = cap;
    }
    if (ids->n) memmove(ids->p + 1, ids->p, ids->n * sizeof *ids->p);
    ids->p[0] = id;
    ids->n++;
    return LARDER_OK;
}

larder_status lr_text_prompt(const lr_text *t, json_t *request, int64_t now, lr_ids *out, larder_error *err)
{
    lr_rendered r = {0};
    lr_ids ids = {0};
    larder_status st;
    if (!t->tok) return lr_fail(err, LARDER_NOT_FOUND, "there is no tokenizer");
    int32_t bos = lr_tokenizer_bos(t->tok);
    LR_GO(lr_text_render(t, request, now, &r, err));
    LR_GO(lr_tokenizer_encode_runs(t->tok, r.text, r.runs, r.n_runs, &ids, err));
    if (lr_tokenizer_adds_bos(t->tok) && bos >= 0 && (ids.n == 0 || ids.p[0] != bos)) LR_GO(prepend(&ids, bos, err));
    lr_ids_free(out);
    *out = ids;
    ids = (lr_ids){0};
fail:
    lr_ids_free(&ids);
    lr_rendered_free(&r);
    return st;
}
