/* test_hf.c - a folder from the hub: its settings as keys, its one or many safetensors files. */
#include "build.h"

#include "parts.h"

static void save_text(const char *name, const char *text) { save_bytes(temp_path(name), text, strlen(text)); }

/* A safetensors file of one-element F32 tensors with these names (NULL ends them). */
static void save_weights(const char *name, const char *const *tensors)
{
    lr_tensor t[8] = {0};
    float zero = 0;
    size_t n = 0;
    larder_error err = {0};
    for (; tensors[n]; n++)
        t[n] = (lr_tensor){.name = lr_str_of(tensors[n]),
                           .fmt = LR_FMT_F32,
                           .n_dims = 1,
                           .ne = {1, 1, 1, 1},
                           .data = (const uint8_t *)&zero,
                           .n_bytes = 4};
    CHECK_OK(lr_safetensors_write(temp_path(name), t, n, &err));
}

static void open_folder(lr_file *m)
{
    larder_error err = {0};
    temp_path("");
    CHECK_OK(lr_load(temp_dir, m, &err));
}

static void check_folder(const char *why)
{
    larder_error err = {0};
    lr_file m;
    temp_path("");
    larder_status st = lr_load(temp_dir, &m, &err);
    if (!st || !strstr(err.message, why) || strchr(err.message, '\n'))
        TEST_FAIL("'%s', not '%s'", st ? err.message : "(read)", why);
}

static void check_config(const char *json, const char *why)
{
    lr_parts parts = {0};
    larder_error err = {0};
    larder_status st = lr_json_keys(&parts, json, strlen(json), "config", "config.json", &err);
    lr_file m;
    if (!st) st = lr_parts_finish(&parts, ".", &m, &err);
    lr_parts_free(&parts);
    if (!st || !strstr(err.message, why)) TEST_FAIL("%s: '%s', not '%s'", json, st ? err.message : "(read)", why);
}

static double number(const lr_file *m, const char *key, uint64_t i, lr_kv_type type)
{
    const lr_kv *kv = lr_file_key(m, key);
    double d = 0;
    if (!kv || (kv->type == LR_KV_ARR ? kv->elem : kv->type) != type || !lr_kv_number(kv, i, &d))
        TEST_FAIL("key %s: %s", key, kv ? lr_kv_type_name(kv->type) : "absent");
    return d;
}

TEST(settings_become_keys)
{
    save_text(
        "config.json",
        "{\"model_type\":\"llama\",\"n\":-3,\"big\":9223372036854775807,\"huge\":18446744073709551616,\"eps\":1e-05,"
        "\"tie\":true,\"none\":null,\"rope_parameters\":{\"rope_theta\":10000.0,\"deep\":{\"er\":1}},"
        "\"eos\":[0,2],\"mixed\":[1,2.5],\"names\":[\"a\",\"\\u00e9\"],\"flags\":[true,false],\"empty\":[],"
        "\"odd\":[1,\"x\"],\"nulls\":[null],\"nested\":[[1],[{\"a\":[2]}]],\"objects\":[{\"a\":1}],\"after\":1}");
    save_text("generation_config.json", "{\"temperature\":0.5}");
    save_weights("model.safetensors", (const char *const[]){"w", NULL});
    lr_file m;
    open_folder(&m);
    CHECK(m.origin == LR_ORIGIN_HF);
    CHECK_EQ_STR(m.path, temp_dir);
    lr_str s = {0};
    larder_error err = {0};
    CHECK_OK(lr_key_str(&m, "config.model_type", &s, &err));
    CHECK(lr_str_is(s, "llama"));
    CHECK(number(&m, "config.n", 0, LR_KV_I64) == -3);
    CHECK(number(&m, "config.big", 0, LR_KV_I64) == 9223372036854775807.0);
    CHECK(number(&m, "config.huge", 0, LR_KV_F64) == 18446744073709551616.0);
    CHECK(number(&m, "config.eps", 0, LR_KV_F64) == 1e-5);
    CHECK(number(&m, "config.tie", 0, LR_KV_BOOL) == 1);
    CHECK(number(&m, "config.rope_parameters.rope_theta", 0, LR_KV_F64) == 10000);
    CHECK(number(&m, "config.rope_parameters.deep.er", 0, LR_KV_I64) == 1);
    CHECK(number(&m, "config.eos", 1, LR_KV_I64) == 2);
    CHECK(number(&m, "config.mixed", 0, LR_KV_F64) == 1 && number(&m, "config.mixed", 1, LR_KV_F64) == 2.5);
    CHECK(number(&m, "config.flags", 0, LR_KV_BOOL) == 1 && number(&m, "config.flags", 1, LR_KV_BOOL) == 0);
    CHECK(number(&m, "config.after", 0, LR_KV_I64) == 1);
    CHECK(number(&m, "generation.temperature", 0, LR_KV_F64) == 0.5);
    const lr_kv *kv = lr_file_key(&m, "config.names");
    lr_str_iter it = lr_str_walk(kv);
    CHECK(lr_str_next(&it, &s) && lr_str_is(s, "a") && lr_str_next(&it, &s) && lr_str_is(s, "\xc3\xa9"));
    CHECK_EQ_INT(lr_file_key(&m, "config.empty")->n, 0);
    CHECK(!lr_file_key(&m, "config.none") && !lr_file_key(&m, "config.odd") && !lr_file_key(&m, "config.nulls"));
    CHECK(!lr_file_key(&m, "config.nested") && !lr_file_key(&m, "config.objects") &&
          !lr_file_key(&m, "config.objects.a"));
    lr_file_close(&m);
    /* The same model by one of its files. */
    CHECK_OK(lr_load(temp_path("config.json"), &m, &err));
    CHECK_EQ_STR(m.path, temp_dir);
    lr_file_close(&m);
    CHECK_OK(lr_load(temp_path("model.safetensors"), &m, &err));
    lr_file_close(&m);
    CHECK(lr_load(temp_path("generation_config.json"), &m, &err) == LARDER_FORMAT);
}

TEST(bad_settings)
{
    check_config("", "no JSON object");
    check_config("[1]", "no JSON object");
    check_config("{", "not JSON");
    check_config("{\"a\":1}x", "not JSON");
    check_config("{\"a\":NaN}", "not JSON");
    check_config("{\"a\":01}", "not JSON");
    check_config("{\"a\":1e999}", "'config.a' holds the number 1e999");
    check_config("{\"a\":1,\"a\":2}", "'config.a' stands twice");
    check_config("{\"a.b\":1,\"a\":{\"b\":2}}", "stands twice");
    check_config("{\"a\\nb\":1}", "no name for a setting");
    char deep[600] = {0};
    for (int i = 0; i < 100; i++) strcat(deep, "{\"a\":");
    check_config(deep, "nests deeper than 32");
    strcpy(deep, "{\"a\":");
    for (int i = 0; i < 100; i++) strcat(deep, "[");
    check_config(deep, "nests deeper than 32");
}

TEST(missing_files)
{
    check_folder("has no config.json");
    save_text("config.json", "{}");
    check_folder("neither model.safetensors nor model.safetensors.index.json");
    save_weights("model.safetensors", (const char *const[]){NULL});
    check_folder("holds no tensors");
    CHECK(truncate(temp_path("model.safetensors"), 4) == 0);
    check_folder("model.safetensors is no safetensors file");
}

#define ONE "model-00001-of-00002.safetensors"
#define TWO "model-00002-of-00002.safetensors"

static void save_index(const char *map)
{
    char text[1000];
    snprintf(text, sizeof text, "{\"metadata\":{\"total_size\":12},\"weight_map\":{%s}}", map);
    save_text("model.safetensors.index.json", text);
}

TEST(shards)
{
    save_text("config.json", "{}");
    save_weights(ONE, (const char *const[]){"a", "b.c", NULL});
    save_weights(TWO, (const char *const[]){"d", NULL});
    save_index("\"a\":\"" ONE "\",\"d\":\"" TWO "\",\"b.c\":\"" ONE "\"");
    lr_file m;
    open_folder(&m);
    CHECK_EQ_INT(m.n_tensors, 3);
    CHECK_EQ_INT(m.n_maps, 2);
    CHECK(lr_file_tensor(&m, LR_STR("b.c")) && lr_file_tensor(&m, LR_STR("d")));
    lr_file_close(&m);

    save_index("\"a\":\"" ONE "\",\"d\":\"" TWO "\"");
    check_folder("holds tensor 'b.c', which the index does not put there");
    save_index("\"a\":\"" ONE "\",\"d\":\"" TWO "\",\"b.c\":\"" TWO "\"");
    check_folder("which the index does not put there");
    save_index("\"a\":\"" ONE "\",\"d\":\"" TWO "\",\"b.c\":\"" ONE "\",\"e\":\"" TWO "\"");
    check_folder("holds 1 tensors, but the index puts 2 there");
    save_index("\"a\":\"" ONE "\",\"d\":\"" TWO "\",\"b.c\":\"" ONE "\",\"a\":\"" ONE "\"");
    check_folder("stands twice");
    save_index("");
    check_folder("no weight_map");
    save_index("\"a\":7");
    check_folder("not the name of a .safetensors file");
    save_index("\"a\":\"../" ONE "\"");
    check_folder("not the name of a .safetensors file");
    save_index("\"a\":\"/etc/passwd\"");
    check_folder("not the name of a .safetensors file");
    save_index("\"a\":\"missing.safetensors\"");
    check_folder("missing.safetensors");
}

TEST(every_allocation_may_fail)
{
    save_text("config.json", "{\"a\":{\"b\":[1,2]},\"c\":[\"x\"]}");
    save_weights(ONE, (const char *const[]){"a", "b.c", NULL});
    save_index("\"a\":\"" ONE "\",\"b.c\":\"" ONE "\"");
    bool done = false;
    for (long i = 0; i < 400 && !done; i++) {
        lr_file m;
        larder_error err = {0};
        lr_alloc_fail_at(i);
        larder_status st = lr_load(temp_dir, &m, &err);
        lr_alloc_fail_at(-1);
        done = !st;
        if (done) lr_file_close(&m);
        else CHECK_EQ_INT(st, LARDER_NOMEM);
    }
    CHECK(done);
}

static void load_shared(const char *name, bool folder)
{
    const char *path = test_shared(name);
    char dir[4096];
    snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(path, '/') - path), path);
    larder_error err = {0};
    lr_file m;
    CHECK_OK(folder ? lr_load(dir, &m, &err) : lr_load_safetensors(path, &m, &err));
    CHECK(m.n_tensors > 0);
    if (folder) CHECK(lr_file_key(&m, "config.model_type"));
    lr_file_close(&m);
}

TEST(the_model_in_the_box) { load_shared("models/teller-18m/config.json", true); }

TEST(golden_folders)
{
    const char *readme = test_shared("golden/README.md");
    char root[4096], name[8192];
    snprintf(root, sizeof root, "%.*s", (int)(strrchr(readme, '/') - readme), readme);
    DIR *d = opendir(root);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(name, sizeof name, "%s/%s/model.safetensors", root, e->d_name);
        if (e->d_name[0] == '.' || !lr_is_file(name)) continue;
        snprintf(name, sizeof name, "golden/%s/model.safetensors", e->d_name);
        load_shared(name, true);
        snprintf(name, sizeof name, "golden/%s/golden.safetensors", e->d_name);
        load_shared(name, false);
        n++;
    }
    if (d) closedir(d);
    CHECK(n > 20);
}
