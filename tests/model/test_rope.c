/* test_rope.c - rotation tables against values computed apart (numpy, from the papers' formulas), in every way a file
 * can state them: both styles of config.json. */
#include "craft.h"
#include "model.h"

/* The model's table for n_ctx tokens: mscale, and the frequencies of a head of 16. */
static void check_table(craft *c, uint32_t n_ctx, double mscale, const double want[8])
{
    larder_error err;
    lr_model m;
    lr_program p;
    CHECK_OK(lr_model_open(craft_file(c), &m, &err));
    CHECK_OK(lr_model_program(&m, n_ctx, &p, &err));
    CHECK_EQ_INT(p.n_ropes, 1);
    CHECK_EQ_INT(p.ropes[0].n_rot, 16);
    CHECK_NEAR(p.ropes[0].mscale / mscale, 1, 1e-7);
    for (int i = 0; i < 8; i++) CHECK_NEAR(p.ropes[0].inv_freq[i] / want[i], 1, 2e-7);
    lr_program_free(&p);
    lr_model_close(&m);
}

static const double plain[8] = {1,    0.316227766016838,   0.1,   0.0316227766016838,
                                0.01, 0.00316227766016838, 0.001, 0.000316227766016838};

/* The setting under the new name and the old one; the scheme's own name as `type` was even older. */
static void scheme(craft *c, const char *style, const char *type)
{
    char key[128];
    snprintf(key, sizeof key, "config.%s.%s", style, !strcmp(style, "rope_scaling") ? "type" : "rope_type");
    craft_str(c, key, type);
}

static void setting(craft *c, const char *style, const char *key, double v)
{
    char name[128];
    snprintf(name, sizeof name, "config.%s.%s", style, key);
    craft_real(c, name, v);
}

static void theta(craft *c, const char *style, double v)
{
    if (!strcmp(style, "rope_scaling")) craft_real(c, "config.rope_theta", v);
    else setting(c, style, "rope_theta", v);
}

/* A whole number may stand where a real is meant, and the other way round. */
static void whole(craft *c, const char *style, const char *key, int64_t v)
{
    char name[128];
    snprintf(name, sizeof name, "config.%s.%s", style, key);
    craft_int(c, name, v);
}

static const char *const styles[] = {"rope_parameters", "rope_scaling"};

TEST(plain_tables)
{
    craft *c = craft_llama();
    check_table(c, 64, 1, plain);
    craft_free(c);
    c = craft_hub("llama");
    check_table(c, 64, 1, plain);
    craft_free(c);
}

TEST(linear)
{
    for (int s = 0; s < 2; s++) {
        double want[8];
        for (int i = 0; i < 8; i++) want[i] = plain[i] / 4;
        craft *c = craft_hub("llama");
        theta(c, styles[s], 10000);
        scheme(c, styles[s], "linear");
        whole(c, styles[s], "factor", 4);
        check_table(c, 64, 1, want);
        craft_free(c);
    }
}

TEST(dynamic_by_context)
{
    static const double want[8] = {1,
                                   0.280176617472633,
                                   0.0784989369784062,
                                   0.0219935666378072,
                                   0.00616208310673978,
                                   0.00172647160143161,
                                   0.000483716973451668,
                                   0.000135526185435788};
    for (int s = 0; s < 2; s++) {
        craft *c = craft_hub("llama");
        craft_int(c, "config.max_position_embeddings", 48);
        theta(c, styles[s], 10000);
        scheme(c, styles[s], "dynamic");
        setting(c, styles[s], "factor", 2);
        check_table(c, 80, 1, want);
        check_table(c, 48, 1, plain);
        check_table(c, 12, 1, plain);
        craft_free(c);
    }
}

TEST(llama3)
{
    static const double want[8] = {1,
                                   0.0794030091792082,
                                   0.00470075386635799,
                                   0.000911583092152139,
                                   0.000176776695296637,
                                   3.42810219595259e-05,
                                   6.64786987118124e-06,
                                   1.28917317215156e-06};
    for (int s = 0; s < 2; s++) {
        craft *c = craft_hub("llama");
        theta(c, styles[s], 500000);
        scheme(c, styles[s], "llama3");
        setting(c, styles[s], "factor", 8);
        setting(c, styles[s], "low_freq_factor", 1);
        setting(c, styles[s], "high_freq_factor", 4);
        whole(c, styles[s], "original_max_position_embeddings", 64);
        check_table(c, 64, 1, want);
        craft_free(c);
    }
}

TEST(yarn)
{
    static const double want[8] = {1,      0.237170824512628,    0.05,    0.00790569415042095,
                                   0.0025, 0.000790569415042095, 0.00025, 7.90569415042095e-05};
    for (int s = 0; s < 2; s++) {
        craft *c = craft_hub("llama");
        theta(c, styles[s], 10000);
        scheme(c, styles[s], "yarn");
        setting(c, styles[s], "factor", 4);
        whole(c, styles[s], "original_max_position_embeddings", 64);
        check_table(c, 64, 1.13862943611199, want);
        setting(c, styles[s], "mscale", 0.7);
        setting(c, styles[s], "mscale_all_dim", 0.7);
        check_table(c, 64, 1, want);
        setting(c, styles[s], "attention_factor", 1.5);
        check_table(c, 64, 1.5, want);
        craft_free(c);
    }
}

TEST(yarn_not_rounded)
{
    static const double want[8] = {1,
                                   0.225418000202871,
                                   0.0508132748154615,
                                   0.00679495948973222,
                                   0.000456483919223241,
                                   1.81883366816896e-05,
                                   4.09997848180298e-06,
                                   9.2420895024283e-07};
    craft *c = craft_hub("llama");
    theta(c, "rope_parameters", 150000);
    scheme(c, "rope_parameters", "yarn");
    setting(c, "rope_parameters", "factor", 32);
    setting(c, "rope_parameters", "beta_fast", 32);
    setting(c, "rope_parameters", "beta_slow", 1);
    whole(c, "rope_parameters", "original_max_position_embeddings", 4096);
    craft_bool(c, "config.rope_parameters.truncate", false);
    check_table(c, 64, 1.34657359027997, want);
    craft_free(c);
}

TEST(longrope_by_context)
{
    static const double shorter[8] = {1,
                                      0.287479781057078,
                                      0.0833333300219643,
                                      0.0243252136627695,
                                      0.00714285726449928,
                                      0.00210818510677892,
                                      0.000588235277618092,
                                      0.000158113883008419};
    static const double longer[8] = {1,
                                     0.243252136627695,
                                     0.0555555570272752,
                                     0.0126491106406735,
                                     0.00285714285714286,
                                     0.000632455532033676,
                                     0.000153846153846154,
                                     3.95284707521047e-05};
    static const double short_factor[8] = {1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.7, 2.0};
    static const double long_factor[8] = {1.0, 1.3, 1.8, 2.5, 3.5, 5.0, 6.5, 8.0};
    for (int s = 0; s < 2; s++) {
        char key[128];
        craft *c = craft_hub("llama");
        theta(c, styles[s], 10000);
        scheme(c, styles[s], s ? "su" : "longrope");
        craft_int(c, "config.original_max_position_embeddings", 32);
        snprintf(key, sizeof key, "config.%s.short_factor", styles[s]);
        craft_reals(c, key, short_factor, 8);
        snprintf(key, sizeof key, "config.%s.long_factor", styles[s]);
        craft_reals(c, key, long_factor, 8);
        check_table(c, 32, 1.34164078649987, shorter);
        check_table(c, 33, 1.34164078649987, longer);
        craft_free(c);
    }
}

TEST(gguf_says_it_in_keys_and_tensors)
{
    double want[8];
    craft *c = craft_llama();
    craft_str(c, "llama.rope.scaling.type", "linear");
    craft_real(c, "llama.rope.scaling.factor", 2);
    for (int i = 0; i < 8; i++) want[i] = plain[i] / 2;
    check_table(c, 64, 1, want);

    float divisors[8];
    for (int i = 0; i < 8; i++) divisors[i] = (float)(1 << i);
    for (int i = 0; i < 8; i++) want[i] = plain[i] / 2 / (1 << i);
    craft_tensor(c, "rope_freqs.weight", 8, 1, 1);
    craft_find(c, "rope_freqs.weight")->data = (const uint8_t *)divisors;
    check_table(c, 64, 1, want);
    craft_free(c);
}

TEST(part_of_a_head)
{
    larder_error err;
    lr_model m;
    lr_program p;
    craft *c = craft_llama();
    craft_int(c, "llama.rope.dimension_count", 6);
    CHECK_OK(lr_model_open(craft_file(c), &m, &err));
    CHECK_OK(lr_model_program(&m, 64, &p, &err));
    CHECK_EQ_INT(p.ropes[0].n_rot, 6);
    CHECK_NEAR(p.ropes[0].inv_freq[1], pow(10000, -2.0 / 6), 1e-15);
    lr_program_free(&p);
    lr_model_close(&m);
    craft_free(c);
}

/* A scheme larder does not know, or one that lacks a number, is named. */
TEST(unknown_and_incomplete)
{
    larder_error err;
    lr_model m;
    craft *c = craft_hub("llama");
    scheme(c, "rope_scaling", "mystery");
    CHECK_STATUS(lr_model_open(craft_file(c), &m, &err), LARDER_UNSUPPORTED);
    CHECK(strstr(err.message, "mystery"));
    scheme(c, "rope_scaling", "llama3");
    CHECK_STATUS(lr_model_open(craft_file(c), &m, &err), LARDER_FORMAT);
    CHECK(strstr(err.message, "factor"));
    craft_free(c);
    c = craft_llama();
    craft_str(c, "llama.rope.scaling.type", "mystery");
    CHECK_STATUS(lr_model_open(craft_file(c), &m, &err), LARDER_UNSUPPORTED);
    CHECK(strstr(err.message, "mystery"));
    craft_free(c);
}
