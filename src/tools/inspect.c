/* inspect.c - what a model file says, as JSON; and what was built into this larder. */
#include "engine.h"
#include "larder_tools.h"
#include "store.h"

#include <curl/curl.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>

/* Text that may not be UTF-8: bad bytes are shown as U+FFFD, never refused. */
static json_t *text_value(lr_str s)
{
    json_t *v = json_stringn(s.n ? s.p : "", s.n);
    if (v) return v;
    lr_buf b = {0};
    for (size_t i = 0; i < s.n; i++) {
        if ((unsigned char)s.p[i] < 0x80) lr_buf_putc(&b, s.p[i]);
        else lr_buf_puts(&b, "\xef\xbf\xbd");
    }
    v = json_stringn(b.n ? b.p : "", b.n);
    lr_buf_free(&b);
    return v;
}

static json_t *number_value(const lr_kv *kv, uint64_t i)
{
    lr_kv_type t = kv->type == LR_KV_ARR ? kv->elem : kv->type;
    int64_t whole;
    double real;
    if (t == LR_KV_BOOL && lr_kv_integer(kv, i, &whole)) return json_boolean(whole);
    if (t != LR_KV_F32 && t != LR_KV_F64 && lr_kv_integer(kv, i, &whole)) return json_integer(whole);
    if (lr_kv_number(kv, i, &real) && isfinite(real)) return json_real(real);
    return json_null();
}

static json_t *array_value(const lr_kv *kv, size_t max)
{
    json_t *list = json_array();
    lr_str_iter it = lr_str_walk(kv);
    lr_str s;
    for (uint64_t i = 0; i < kv->n && i < max; i++) {
        if (kv->elem != LR_KV_STR) json_array_append_new(list, number_value(kv, i));
        else if (lr_str_next(&it, &s)) json_array_append_new(list, text_value(s));
    }
    if (kv->n <= max) return list;
    return json_pack("{s:I,s:s,s:o}", "length", (json_int_t)kv->n, "type", lr_kv_type_name(kv->elem), "first", list);
}

static json_t *key_value(const lr_kv *kv, size_t max)
{
    if (kv->type == LR_KV_STR) return text_value((lr_str){(const char *)kv->data, kv->n_bytes});
    return kv->type == LR_KV_ARR ? array_value(kv, max) : number_value(kv, 0);
}

static json_t *all_keys(const lr_file *f, size_t max)
{
    json_t *keys = json_object();
    for (size_t i = 0; i < f->n_kv; i++)
        json_object_setn_new(keys, f->kv[i].key.p, f->kv[i].key.n, key_value(&f->kv[i], max));
    return keys;
}

static json_t *all_tensors(const lr_file *f)
{
    json_t *list = json_array();
    for (size_t i = 0; i < f->n_tensors; i++) {
        const lr_tensor *t = &f->tensors[i];
        const char *type = lr_load_type_name(t->fmt);
        json_t *shape = json_array();
        for (int d = 0; d < t->n_dims; d++) json_array_append_new(shape, json_integer((json_int_t)t->ne[d]));
        json_array_append_new(list, json_pack("{s:o,s:s,s:o,s:I}", "name", text_value(t->name), "type",
                                              type ? type : "?", "shape", shape, "bytes", (json_int_t)t->n_bytes));
    }
    return list;
}

/* What running it would take, or why it cannot run. */
static json_t *memory_of(const char *path)
{
    larder_model *m = NULL;
    larder_plan plan;
    larder_error err = {0};
    larder_engine_options o = larder_engine_defaults();
    larder_status st = larder_model_open(path, &m, &err);
    if (!st) st = larder_plan_engine(m, &o, &plan, &err);
    json_t *out;
    if (st) {
        out = json_pack("{s:o}", "error", text_value(lr_str_of(err.message)));
    } else {
        json_t *buffers = json_object();
        for (uint32_t i = 0; i < plan.n_buffers; i++)
            json_object_set_new(buffers, plan.buffers[i].name, json_integer((json_int_t)plan.buffers[i].n_bytes));
        out = json_pack("{s:o,s:I,s:I,s:I,s:I,s:b}", "buffers", buffers, "bytes", (json_int_t)plan.n_bytes,
                        "available", (json_int_t)plan.available, "context", (json_int_t)plan.n_ctx, "largest_context",
                        (json_int_t)plan.n_ctx_max, "fits", plan.fits);
    }
    larder_model_free(m);
    return out;
}

static json_t *template_of(const lr_file *f)
{
    lr_text text;
    larder_error err;
    json_t *v = json_null();
    if (lr_text_open(f, &text, &err)) return v;
    if (text.tmpl_source.n) v = text_value(text.tmpl_source);
    lr_text_close(&text);
    return v;
}

larder_status larder_inspect(const char *path, size_t max_array, char **json, larder_error *err)
{
    char real[4096];
    lr_file f;
    *json = NULL;
    LR_TRY(lr_store_resolve(path, real, sizeof real, err));
    LR_TRY(lr_load(real, &f, err));
    json_t *o = json_pack("{s:o,s:s,s:o,s:o,s:o,s:o}", "file", text_value(lr_str_of(real)), "kind",
                          f.origin == LR_ORIGIN_GGUF ? "GGUF" : "safetensors", "keys", all_keys(&f, max_array),
                          "tensors", all_tensors(&f), "template", template_of(&f), "memory", memory_of(real));
    char *text = o ? json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(o);
    lr_file_close(&f);
    if (text) *json = lr_strndup(text, strlen(text));
    free(text);
    return *json ? LARDER_OK : LR_NOMEM(err, "the description");
}

/* ---------------------------------------------------------------- larder version */
static json_t *isa_names(void)
{
    json_t *list = json_array();
    for (int i = 0; i < LR_ISA_COUNT; i++)
        if (lr_cpu_has_isa((lr_isa)i)) json_array_append_new(list, json_string(lr_isa_name((lr_isa)i)));
    return list;
}

static json_t *format_names(void)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < 512; i++)
        if (lr_fmt_get(i)) json_array_append_new(list, json_string(lr_fmt_get(i)->name));
    return list;
}

static json_t *architecture_names(void)
{
    lr_buf b = {0};
    json_t *list = json_array();
    lr_model_list(&b);
    for (size_t at = 0; at < b.n;) {
        const char *end = memchr(b.p + at, '\n', b.n - at);
        size_t n = end ? (size_t)(end - (b.p + at)) : b.n - at;
        if (n) json_array_append_new(list, json_stringn(b.p + at, n));
        at += n + 1;
    }
    lr_buf_free(&b);
    return list;
}

static json_t *library_versions(void)
{
    char pcre[64] = "";
    pcre2_config(PCRE2_CONFIG_VERSION, pcre);
    return json_pack("{s:s,s:s,s:s,s:s}", "jansson", jansson_version_str(), "pcre2", pcre, "utf8proc",
                     utf8proc_version(), "curl", curl_version_info(CURLVERSION_NOW)->version);
}

static void print_list(lr_buf *b, const char *title, const json_t *list)
{
    size_t i;
    json_t *v;
    lr_buf_printf(b, "%-14s", title);
    json_array_foreach((json_t *)list, i, v) lr_buf_printf(b, "%s%s", i ? ", " : "", json_string_value(v));
    lr_buf_putc(b, '\n');
}

static json_t *card_names(void)
{
    json_t *list = json_array();
#ifdef LR_CUDA
    json_array_append_new(list, json_string("CUDA"));
#endif
    return list;
}

larder_status larder_built_in(bool json, char **out, larder_error *err)
{
    json_t *o = json_pack("{s:s,s:o,s:o,s:o,s:o,s:o}", "version", larder_version(), "processors", isa_names(),
                          "cards", card_names(), "formats", format_names(), "architectures", architecture_names(),
                          "libraries", library_versions());
    if (!o) return LR_NOMEM(err, "the list");
    lr_buf b = {0};
    if (json) {
        char *text = json_dumps(o, JSON_INDENT(2));
        lr_buf_puts(&b, text ? text : "");
        free(text);
    } else {
        const char *name;
        json_t *v;
        lr_buf_printf(&b, "larder %s\n", larder_version());
        print_list(&b, "processors", json_object_get(o, "processors"));
        print_list(&b, "cards", json_object_get(o, "cards"));
        print_list(&b, "formats", json_object_get(o, "formats"));
        print_list(&b, "architectures", json_object_get(o, "architectures"));
        lr_buf_puts(&b, "libraries     ");
        json_object_foreach(json_object_get(o, "libraries"), name, v)
            lr_buf_printf(&b, "%s %s  ", name, json_string_value(v));
    }
    json_decref(o);
    *out = lr_buf_steal(&b);
    return *out ? LARDER_OK : LR_NOMEM(err, "the list");
}
