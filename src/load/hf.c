/* hf.c - a folder as people download it from the hub: config.json, generation_config.json, and its safetensors files.
 *
 * Owns: which files of a folder belong to the model. model.safetensors.index.json names the shards; every tensor must
 * be in the shard the index says, and every tensor of the shards in the index.
 * Refuses to own: tokenizer.json and templates (src/text), the bytes of safetensors (safetensors.c).
 */
#include "parts.h"

#include <stdlib.h>

/* dir/name; lr_free. */
static char *join(const char *dir, lr_str name)
{
    lr_buf b = {0};
    lr_buf_puts(&b, dir);
    if (b.n && b.p[b.n - 1] != '/') lr_buf_putc(&b, '/');
    lr_buf_add(&b, name.p, name.n);
    return lr_buf_steal(&b);
}

/* The settings of one JSON file as keys. An absent file is an error only where it is needed. */
static larder_status read_settings(lr_parts *parts, const char *dir, const char *name, const char *prefix,
                                   bool needed, larder_error *err)
{
    char *path = join(dir, lr_str_of(name)), *json = NULL;
    size_t n = 0;
    larder_status st = LARDER_OK;
    if (!path) return LR_NOMEM(err, "a file name");
    if (!lr_is_file(path)) {
        if (needed)
            st = lr_fail(
                err, LARDER_NOT_FOUND,
                "%s is no model: it has no %s; give a folder with config.json and model.safetensors, or a GGUF", dir,
                name);
        goto fail;
    }
    LR_GO(lr_read_file(path, LR_MAX_CONFIG, &json, &n, err));
    LR_GO(lr_json_keys(parts, json, n, prefix, path, err));
fail:
    lr_free(json);
    lr_free(path);
    return st;
}

static larder_status read_safetensors(lr_parts *parts, const char *dir, lr_str name, larder_error *err)
{
    char *path = join(dir, name);
    lr_map map = {0};
    larder_status st;
    if (!path) return LR_NOMEM(err, "a file name");
    LR_GO(lr_parts_map(parts, path, &map, err));
    LR_GO(lr_safetensors_read(parts, map.p, map.n, path, err));
fail:
    lr_free(path);
    return st;
}

/* ---------------------------------------------------------------- sharded folders */

static int by_key(const void *a, const void *b)
{
    return lr_str_cmp(((const lr_kv *)a)->key, ((const lr_kv *)b)->key);
}

static int by_shard(const void *a, const void *b)
{
    const lr_kv *x = *(const lr_kv *const *)a, *y = *(const lr_kv *const *)b;
    int c = lr_str_cmp((lr_str){(const char *)x->data, x->n_bytes}, (lr_str){(const char *)y->data, y->n_bytes});
    return c ? c : lr_str_cmp(x->key, y->key);
}

static lr_str shard_of(const lr_kv *kv) { return (lr_str){(const char *)kv->data, kv->n_bytes}; }

/* A file of this very folder: no slash, no "..", and the ending that safetensors files have. */
static bool shard_name_ok(lr_str s)
{
    static const char ending[] = ".safetensors";
    const size_t n = sizeof ending - 1;
    if (!lr_name_ok(s) || s.n > 255 || s.n <= n || s.p[0] == '.') return false;
    return !memchr(s.p, '/', s.n) && memcmp(s.p + s.n - n, ending, n) == 0;
}

/* The tensors of the shard just read (from `first` on) are those the index puts there. `entries` is sorted by name,
 * keys being "map.weight_map.NAME". */
static larder_status check_shard(lr_parts *parts, size_t first, const lr_kv *entries, size_t n_entries, lr_str shard,
                                 size_t n_expected, const char *dir, larder_error *err)
{
    static const char prefix[] = "map.weight_map.";
    lr_buf key = {0};
    larder_status st = LARDER_OK;
    for (size_t i = first; i < lr_parts_n_tensors(parts) && !st; i++) {
        lr_str name = lr_parts_tensors(parts)[i].name;
        key.n = 0;
        lr_buf_puts(&key, prefix);
        lr_buf_add(&key, name.p, name.n);
        if (key.failed) {
            st = LR_NOMEM(err, "a tensor's name");
            break;
        }
        lr_kv want = {.key = {key.p, key.n}};
        const lr_kv *kv = bsearch(&want, entries, n_entries, sizeof want, by_key);
        if (!kv || !lr_str_eq(shard_of(kv), shard))
            st = lr_fail(err, LARDER_FORMAT, "%s: %s holds tensor '%s', which the index does not put there", dir,
                         lr_show(shard).s, lr_show(name).s);
    }
    if (!st && lr_parts_n_tensors(parts) - first != n_expected)
        st = lr_fail(err, LARDER_FORMAT, "%s: %s holds %zu tensors, but the index puts %zu there; get it again", dir,
                     lr_show(shard).s, lr_parts_n_tensors(parts) - first, n_expected);
    lr_buf_free(&key);
    return st;
}

/* The entries "map.weight_map.*" of the index, moved to the front. */
static larder_status weight_map(lr_parts *index, const char *path, size_t *n, larder_error *err)
{
    lr_kv *kv = lr_parts_kv(index);
    *n = 0;
    for (size_t i = 0; i < lr_parts_n_kv(index); i++) {
        lr_str key = kv[i].key;
        if (key.n < 15 || memcmp(key.p, "map.weight_map.", 15) != 0) continue;
        if (kv[i].type != LR_KV_STR || !shard_name_ok(shard_of(&kv[i])))
            return lr_fail(err, LARDER_FORMAT,
                           "%s: the file of '%s' is not the name of a .safetensors file of this folder", path,
                           lr_show(key).s);
        kv[(*n)++] = kv[i];
    }
    return *n ? LARDER_OK : lr_fail(err, LARDER_FORMAT, "%s has no weight_map", path);
}

static larder_status read_shards(lr_parts *parts, const char *dir, const lr_kv *entries, size_t n, larder_error *err)
{
    const lr_kv **order = lr_calloc(n, sizeof(void *));
    larder_status st = LARDER_OK;
    size_t n_shards = 0;
    if (!order) return LR_NOMEM(err, "the list of shards");
    for (size_t i = 0; i < n; i++) order[i] = &entries[i];
    qsort(order, n, sizeof(void *), by_shard);
    for (size_t i = 0, end; i < n; i = end) {
        lr_str shard = shard_of(order[i]);
        for (end = i + 1; end < n && lr_str_eq(shard_of(order[end]), shard); end++) {}
        if (++n_shards > LR_MAX_SHARDS) {
            st = lr_fail(err, LARDER_LIMIT, "%s: more than %d files", dir, LR_MAX_SHARDS);
            goto fail;
        }
        size_t first = lr_parts_n_tensors(parts);
        LR_GO(read_safetensors(parts, dir, shard, err));
        LR_GO(check_shard(parts, first, entries, n, shard, end - i, dir, err));
    }
fail:
    lr_free(order);
    return st;
}

static larder_status read_index(lr_parts *parts, const char *dir, const char *path, larder_error *err)
{
    lr_parts index = {0};
    char *json = NULL;
    size_t n_json = 0, n = 0;
    larder_status st;
    LR_GO(lr_read_file(path, LR_MAX_INDEX, &json, &n_json, err));
    LR_GO(lr_json_keys(&index, json, n_json, "map", path, err));
    lr_free(json);
    json = NULL;
    LR_GO(weight_map(&index, path, &n, err));
    qsort(lr_parts_kv(&index), n, sizeof(lr_kv), by_key);
    for (size_t i = 1; i < n; i++)
        if (lr_str_eq(lr_parts_kv(&index)[i - 1].key, lr_parts_kv(&index)[i].key)) {
            st = lr_fail(err, LARDER_FORMAT, "%s: '%s' stands twice", path, lr_show(lr_parts_kv(&index)[i].key).s);
            goto fail;
        }
    LR_GO(read_shards(parts, dir, lr_parts_kv(&index), n, err));
fail:
    lr_free(json);
    lr_parts_free(&index);
    return st;
}

/* ---------------------------------------------------------------- the folder */

static larder_status read_weights(lr_parts *parts, const char *dir, larder_error *err)
{
    static const char single[] = "model.safetensors", many[] = "model.safetensors.index.json";
    larder_status st;
    char *path = join(dir, lr_str_of(many));
    if (!path) return LR_NOMEM(err, "a file name");
    if (lr_is_file(path)) {
        st = read_index(parts, dir, path, err);
    } else {
        lr_free(path);
        path = join(dir, lr_str_of(single));
        if (!path) return LR_NOMEM(err, "a file name");
        st = lr_is_file(path)
                 ? read_safetensors(parts, dir, lr_str_of(single), err)
                 : lr_fail(err, LARDER_NOT_FOUND,
                           "%s has a config.json but neither %s nor %s; get the folder again, or its GGUF", dir,
                           single, many);
    }
    lr_free(path);
    if (!st && lr_parts_n_tensors(parts) == 0) st = lr_fail(err, LARDER_FORMAT, "%s holds no tensors", dir);
    return st;
}

larder_status lr_hf_open(const char *dir, lr_file *out, larder_error *err)
{
    lr_parts parts = {.f.origin = LR_ORIGIN_HF};
    larder_status st;
    LR_GO(read_settings(&parts, dir, "config.json", "config", true, err));
    LR_GO(read_settings(&parts, dir, "generation_config.json", "generation", false, err));
    LR_GO(read_weights(&parts, dir, err));
    LR_GO(lr_parts_finish(&parts, dir, out, err));
fail:
    lr_parts_free(&parts);
    return st;
}
