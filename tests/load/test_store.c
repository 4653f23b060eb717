/* test_store.c - names of the model store, finding, listing, removing; nothing outside the store is touched. */
#include "build.h"

#include "store.h"

#include <sys/file.h>
#include <sys/stat.h>
#include <fcntl.h>

/* A fresh store; `make` puts a file of n bytes into it, with the folders it needs. */
static void start_store(void)
{
    temp_path("");
    setenv("XDG_DATA_HOME", temp_dir, 1);
    larder_error err = {0};
    char root[4096];
    CHECK_OK(lr_store_root(root, sizeof root, &err));
}

static const char *in_store(const char *rest)
{
    static char path[4][1200];
    static int turn;
    char *out = path[turn++ % 4];
    snprintf(out, sizeof path[0], "%s/larder/models/%s", temp_dir, rest);
    return out;
}

static void make(const char *rest, size_t n)
{
    char path[1200];
    snprintf(path, sizeof path, "%s", in_store(rest));
    for (char *p = path + strlen(temp_dir) + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(path, 0777);
        *p = '/';
    }
    FILE *f = fopen(path, "wb");
    CHECK(f);
    for (size_t i = 0; i < n; i++) fputc('x', f);
    fclose(f);
}

static void clean_store(void)
{
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s/larder'", temp_dir);
    CHECK(system(command) == 0);
}

TEST(names)
{
    lr_store_name n;
    CHECK(lr_store_parse("owner/repo", &n) && !strcmp(n.owner, "owner") && !strcmp(n.repo, "repo") && !n.quant[0]);
    CHECK(lr_store_parse("TheBloke/TinyLlama-1.1B_x:Q4_K_M", &n) && !strcmp(n.quant, "Q4_K_M"));
    static const char *const bad[] = {"",      "a",          "/a",       "a/",       "a/b/c",  "../b",
                                      "a/..",  "a/b:..",     "a/b:",     "a/b:c:d",  ".a/b",   "-a/b",
                                      "a/.b",  "a b/c",      "a/b:c/d",  "a/b:../c", "a..b/c", "a/b.",
                                      "a/b\n", "a/b:x.part", "a/b.PART", "a:b/c",    "a/b\\c", "a/\xc3\xa9"};
    for (size_t i = 0; i < LR_LEN(bad); i++)
        if (lr_store_parse(bad[i], &n)) TEST_FAIL("'%s' passed as a name", bad[i]);
    char big[300];
    memset(big, 'a', sizeof big);
    big[sizeof big - 1] = 0;
    big[100] = '/';
    CHECK(!lr_store_parse(big, &n));
}

static void check_quant(const char *file, const char *want)
{
    char got[LR_STORE_PART + 1];
    if (!lr_store_quant_of(file, got)) TEST_FAIL("%s: no quant", file);
    CHECK_EQ_STR(got, want);
}

TEST(quants_of_file_names)
{
    check_quant("tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf", "Q4_K_M");
    check_quant("sub/folder/Qwen3-8B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL");
    check_quant("qwen2.5-7b-instruct-q4_0-00001-of-00002.gguf", "q4_0");
    check_quant("gpt-oss-20b-mxfp4.gguf", "mxfp4");
    check_quant("gpt-oss-20b-MXFP4_MOE.gguf", "MXFP4_MOE");
    check_quant("Llama-3-IQ2_XXS.gguf", "IQ2_XXS");
    check_quant("x-TQ1_0.gguf", "TQ1_0");
    check_quant("model-BF16.gguf", "BF16");
    check_quant("model.f16.gguf", "f16");
    check_quant("m-q4_k_m-imat.gguf", "q4_k_m-imat");
    check_quant("plain.gguf", "plain");
    check_quant("Qwen3-8B.gguf", "Qwen3-8B"); /* Q and a letter: a model's name */
    char got[LR_STORE_PART + 1];
    CHECK(!lr_store_quant_of("a b.gguf", got));
    CHECK(!lr_store_quant_of(".gguf", got));
    CHECK(!lr_store_quant_of("..gguf", got));
}

TEST(resolves_names_and_paths)
{
    start_store();
    larder_error err = {0};
    char path[4096];
    make("o/r/Q4_0/m-Q4_0.gguf", 3);
    make("o/r/Q8_0/m-00002-of-00002.gguf", 3);
    make("o/r/Q8_0/m-00001-of-00002.gguf", 3);
    make("o/single/safetensors/config.json", 3);
    make("o/single/safetensors/model.safetensors", 3);
    CHECK_OK(lr_store_resolve("o/r:Q4_0", path, sizeof path, &err));
    CHECK_EQ_STR(path, in_store("o/r/Q4_0/m-Q4_0.gguf"));
    CHECK_OK(lr_store_resolve("O/R:q8_0", path, sizeof path, &err));
    CHECK_EQ_STR(path, in_store("o/r/Q8_0/m-00001-of-00002.gguf"));
    CHECK_OK(lr_store_resolve("o/single", path, sizeof path, &err));
    CHECK_EQ_STR(path, in_store("o/single/safetensors"));
    CHECK(lr_store_resolve("o/r", path, sizeof path, &err) == LARDER_USAGE);
    CHECK(strstr(err.message, "Q4_0, Q8_0"));
    /* What exists as a path wins, whatever it looks like. */
    CHECK_OK(lr_store_resolve(temp_dir, path, sizeof path, &err));
    CHECK_EQ_STR(path, temp_dir);
    CHECK(lr_store_resolve("o/r:Q4_O", path, sizeof path, &err) == LARDER_NOT_FOUND);
    CHECK(strstr(err.message, "did you mean o/r:Q4_0"));
    CHECK(lr_store_resolve("x/singel", path, sizeof path, &err) == LARDER_NOT_FOUND);
    CHECK(strstr(err.message, "did you mean") && strstr(err.message, "o/single:safetensors"));
    CHECK(lr_store_resolve("nothing.gguf", path, sizeof path, &err) == LARDER_NOT_FOUND);
    CHECK(lr_store_resolve("../../etc/shadow-of-nothing", path, sizeof path, &err) == LARDER_NOT_FOUND);
    CHECK(lr_store_resolve("o/r:Q4_0", path, 10, &err) == LARDER_LIMIT);
    clean_store();
}

TEST(lists_what_is_whole)
{
    start_store();
    larder_error err = {0};
    lr_store_entry *list;
    size_t n;
    CHECK_OK(lr_store_list(&list, &n, &err));
    CHECK_EQ_INT(n, 0);
    lr_free(list);
    make("b/r/Q8_0/m.gguf", 10);
    make("a/r/Q4_0/m-00001-of-00002.gguf", 10);
    make("a/r/Q4_0/m-00002-of-00002.gguf", 7);
    make("a/r/Q5_K_M.part/m.gguf.part", 7);
    make("a/.hidden/Q4_0/m.gguf", 7);
    make("outside.gguf", 7);
    CHECK(symlink("/etc", in_store("a/link")) == 0 && symlink("/etc", in_store("a/r/Q6_K")) == 0);
    CHECK_OK(lr_store_list(&list, &n, &err));
    CHECK_EQ_INT(n, 2);
    CHECK(!strcmp(list[0].name.owner, "a") && !strcmp(list[0].name.quant, "Q4_0") && list[0].n_bytes == 17);
    CHECK(!strcmp(list[1].name.owner, "b") && list[1].n_bytes == 10 && list[1].changed > 1500000000);
    lr_free(list);
    clean_store();
}

TEST(removes_what_is_named_and_nothing_else)
{
    start_store();
    larder_error err = {0};
    char path[4096];
    make("a/r/Q4_0/m.gguf", 1);
    make("a/r/Q8_0/m.gguf", 1);
    make("a/r/Q8_0.part/m.gguf.part", 1);
    save_bytes(temp_path("precious"), "x", 1);
    CHECK(symlink(temp_path("precious"), in_store("a/r/Q8_0/link.gguf")) == 0);
    CHECK(lr_store_remove("a/r", &err) == LARDER_USAGE);
    CHECK_OK(lr_store_remove("a/r:q8_0", &err));
    CHECK(lr_is_file(temp_path("precious")));
    CHECK(!lr_is_dir(in_store("a/r/Q8_0")) && !lr_is_dir(in_store("a/r/Q8_0.part")));
    CHECK_OK(lr_store_resolve("a/r", path, sizeof path, &err));
    CHECK_OK(lr_store_remove("a/r", &err));
    CHECK(!lr_is_dir(in_store("a")) && lr_is_dir(in_store("")));
    CHECK(lr_store_remove("a/r", &err) == LARDER_NOT_FOUND);
    CHECK(lr_store_remove(temp_path("precious"), &err) == LARDER_USAGE);
    CHECK(lr_store_remove("../precious", &err) == LARDER_USAGE);
    CHECK(lr_is_file(temp_path("precious")));
    clean_store();
}

TEST(links_are_not_followed)
{
    start_store();
    larder_error err = {0};
    char path[4096], target[300];
    snprintf(target, sizeof target, "%s/target", temp_dir);
    mkdir(target, 0777);
    save_bytes(temp_path("target/m.gguf"), "x", 1);
    make("a/other/Q4_0/m.gguf", 1);
    mkdir(in_store("a/r"), 0777);
    CHECK(symlink(target, in_store("a/r/Q4_0")) == 0);
    CHECK(lr_store_remove("a/r:Q4_0", &err) != LARDER_OK);
    CHECK(lr_is_file(temp_path("target/m.gguf")));
    CHECK(lr_store_resolve("a/r:Q4_0", path, sizeof path, &err) == LARDER_NOT_FOUND);
    unlink(temp_path("target/m.gguf"));
    rmdir(target);
    clean_store();
}

TEST(unfinished_pulls_can_be_removed)
{
    start_store();
    larder_error err = {0};
    make("a/r/Q4_0.part/m.gguf.part", 1);
    int fd = open(in_store("a/r/Q4_0.part"), O_RDONLY | O_DIRECTORY);
    CHECK(fd >= 0 && flock(fd, LOCK_EX) == 0); /* as a running pull holds it */
    CHECK(lr_store_remove("a/r:Q4_0", &err) == LARDER_IO);
    CHECK(strstr(err.message, "being fetched"));
    close(fd);
    CHECK_OK(lr_store_remove("a/r:Q4_0", &err));
    CHECK(!lr_is_dir(in_store("a")));
    clean_store();
}
