/* Names as people write them, tables that are wrong, formats. */
#include "catalogue.h"
#include "test.h"

static void finds(const lr_catalogue *c, const char *words, const char *name, int count)
{
    lr_machine m;
    if (!lr_machine_find(c, words, LR_WANT_ANY, &m)) TEST_FAIL("\"%s\" finds nothing", words);
    if (strcmp(m.name, name)) TEST_FAIL("\"%s\" is %s, not %s", words, m.name, name);
    CHECK_EQ_INT(m.count, count);
}

TEST(machines_as_written)
{
    lr_catalogue c;
    larder_error err = {0};
    CHECK_OK(lr_catalogue_open(&c, &err));
    finds(&c, "RTX 4090", "RTX 4090", 1);
    finds(&c, "rtx4090", "RTX 4090", 1);
    finds(&c, "rtx-4090", "RTX 4090", 1);
    finds(&c, "NVIDIA GeForce RTX 4070Ti SUPER", "RTX 4070 Ti SUPER", 1);
    finds(&c, "RTX 4070 Ti 12GB", "RTX 4070 Ti", 1);
    finds(&c, "RTX 4070", "RTX 4070", 1);
    finds(&c, "2x RTX 5090", "RTX 5090", 2);
    finds(&c, "RTX 3090 24GB * 6", "RTX 3090", 1); /* a star with a space is no count */
    finds(&c, "RTX 3090 x4", "RTX 3090", 4);
    finds(&c, "Apple M1 Max 32-Core GPU 64GB", "Apple M1 Max 32c", 1);
    finds(&c, "M1 Ultra (48 GPU Core) 64GB [GPU]", "Apple M1 Ultra 48c", 1);
    finds(&c, "m4-max-128", "Apple M4 Max 40c", 1);
    finds(&c, "Apple M2 Max (CPU NEON)", "Apple M2 Max (CPU)", 1);
    finds(&c, "DGX Spark (GB10)", "DGX Spark (GB10)", 1);
    finds(&c, "Dell Pro Max with GB10 (Nvidia Spark) [GPU]", "DGX Spark (GB10)", 1);
    finds(&c, "2x DGX Spark (CX-7)", "DGX Spark (GB10)", 2);
    finds(&c, "Ryzen AI Max+ 395", "Ryzen AI Max+ 395", 1);
    finds(&c, "Framework Desktop Mainboard (395+) [GPU/CPU]", "Ryzen AI Max+ 395", 1);
    finds(&c, "EPYC 9354 12ch", "EPYC 9354", 1);
    finds(&c, "AmpereOne A192-32X (512GB) [CPU]", "AmpereOne A192-32X", 1);
    finds(&c, "Pi 5 - 8GB (AMD RX 7600) [GPU]", "RX 7600", 1);
    finds(&c, "Pi 5 - 8GB [CPU]", "Raspberry Pi 5", 1);
    finds(&c, "Intel 265K Custom PC (Nvidia RTX A4000) [GPU]", "RTX A4000", 1);
    finds(&c, "RTX 4000 Ada 20GB", "RTX 4000 Ada", 1);
    finds(&c, "A100 PCIe 80GB", "A100 PCIe 80GB", 1);
    finds(&c, "A100 80GB", "A100 SXM 80GB", 1);
    finds(&c, "RX 7900 XT", "RX 7900 XT", 1);
    finds(&c, "RX 7900 XTX", "RX 7900 XTX", 1);
    finds(&c, "RTX PRO 6000 Blackwell Max-Q", "RTX PRO 6000 Blackwell Max-Q", 1);
    finds(&c, "2xRTX3090", "RTX 3090", 2);
    finds(&c, "4x4090", "RTX 4090", 4);
    finds(&c, "8xH200", "H200 SXM", 8);
    finds(&c, "dual 3090", "RTX 3090", 2);
    finds(&c, "two DGX Sparks", "DGX Spark (GB10)", 2);
    finds(&c, "DGX Spark (GB10)", "DGX Spark (GB10)", 1);
    finds(&c, "ASUS Ascent GX10", "DGX Spark (GB10)", 1);
    finds(&c, "GMKtec EVO-X2", "Ryzen AI Max+ 395", 1);
    finds(&c, "AMD Ryzen AI Max+ 395 128GB", "Ryzen AI Max+ 395", 1);
    finds(&c, "MacBook Pro M3 Max 40-core 64GB", "Apple M3 Max 40c", 1);
    finds(&c, "MacBook Pro M3 Max 64GB", "Apple M3 Max 40c", 1);
    finds(&c, "MacBook Pro 14 M1 Pro", "Apple M1 Pro 16c", 1);
    finds(&c, "Mac mini M4 Pro 64GB", "Apple M4 Pro 20c", 1);
    finds(&c, "Mac Studio M2 Ultra", "Apple M2 Ultra 76c", 1);
    finds(&c, "Core 2 Quad Q8400", "Core 2 Quad Q8400", 1);
    finds(&c, "desktop, dual channel DDR5-6000", "PC or server, 2 channels DDR5-4800", 1);
    finds(&c, "Project DIGITS", "Project DIGITS (as announced)", 1);
    lr_machine m;
    CHECK(lr_machine_find(&c, "desktop, dual channel DDR5-6000", LR_WANT_ANY, &m));
    CHECK_NEAR(m.bw, 96e9, 1e6);
    CHECK(lr_machine_find(&c, "2x EPYC 9554", LR_WANT_ANY, &m) && m.count == 2 && !m.cluster);
    CHECK(lr_machine_find(&c, "2x DGX Spark", LR_WANT_ANY, &m) && m.cluster);
    CHECK(lr_machine_find(&c, "Mac Studio (M3 Ultra 512GB) [GPU]", LR_WANT_ANY, &m) && m.memory > 540e9);
    CHECK(lr_machine_find(&c, "Pi CM5 - 16GB (Nvidia RTX 3060) [GPU]", LR_WANT_ANY, &m) && m.weak_host &&
          m.memory < 14e9);
    CHECK(!lr_machine_find(&c, "toaster", LR_WANT_ANY, &m));
    CHECK_STATUS(lr_machine_unknown(&c, "RTX 4900", &err), LARDER_USAGE);
    CHECK(strstr(err.message, "RTX"));
    lr_catalogue_close(&c);
}

/* Held out: spellings that nobody looked at while names were matched; left as they were written. */
TEST(machines_as_others_write_them)
{
    static const struct {
        const char *words, *name;
        int count;
    } rows[] = {
        {"NVIDIA GeForce RTX 4090", "RTX 4090", 1},
        {"RTX4090", "RTX 4090", 1},
        {"4090 24GB", "RTX 4090", 1},
        {"dual 3090", "RTX 3090", 2},
        {"3090 x2", "RTX 3090", 2},
        {"4x RTX 4090 (PCIe)", "RTX 4090", 4},
        {"GeForce RTX 4070 Ti SUPER", "RTX 4070 Ti SUPER", 1},
        {"NVIDIA RTX PRO 6000 Blackwell Workstation", "RTX PRO 6000 Blackwell", 1},
        {"RTX PRO 6000 Max-Q", "RTX PRO 6000 Blackwell Max-Q", 1},
        {"RTX 6000 Ada Generation", "RTX 6000 Ada", 1},
        {"A100-SXM4-80GB", "A100 SXM 80GB", 1},
        {"NVIDIA H100 80GB HBM3", "H100 SXM", 1},
        {"H100 NVL", "H100 NVL", 1},
        {"Tesla T4", "Tesla T4", 1},
        {"V100 32GB", "V100 32GB", 1},
        {"7900XT", "RX 7900 XT", 1},
        {"Radeon AI PRO R9700", "Radeon AI PRO R9700", 1},
        {"Strix Halo", "Ryzen AI Max+ 395", 1},
        {"Framework Desktop", "Ryzen AI Max+ 395", 1},
        {"GMKtec EVO-X2", "Ryzen AI Max+ 395", 1},
        {"Apple M3 Ultra 80-core GPU 512GB", "Apple M3 Ultra 80c", 1},
        {"MacBook Pro M4 Max 128GB", "Apple M4 Max 40c", 1},
        {"M4 Max (40 core GPU)", "Apple M4 Max 40c", 1},
        {"M4 Pro Mac mini 64GB", "Apple M4 Pro 20c", 1},
        {"MacBook Air M2", "Apple M2 10c", 1},
        {"M3 Max 14/30", "Apple M3 Max 30c", 1},
        {"MacBook Pro M3 Max (16/40)", "Apple M3 Max 40c", 1},
        {"Apple M1 8/7", "Apple M1 7c", 1},
        {"ASUS Ascent GX10", "DGX Spark (GB10)", 1},
        {"2x DGX Spark", "DGX Spark (GB10)", 2},
        {"Jetson AGX Thor Developer Kit", "Jetson AGX Thor", 1},
        {"Core Ultra 7 258V", "Lunar Lake (Arc 140V)", 1},
        {"dual EPYC 9654", "EPYC 9654", 2},
        {"Threadripper PRO 7995WX", "Threadripper PRO 7995WX", 1},
        {"i7-12700K", "Core i7-12700K", 1},
        {"Ryzen 7 8840HS", "Ryzen 7 7840HS", 1},
        {"Ryzen AI 9 HX 370", "Radeon 890M", 1},
        {"RTX 4090 Laptop", "RTX 4090 Laptop", 1},
        {"RTX 2080Ti", "RTX 2080 Ti", 1},
        {"RTX 4000 SFF Ada", "RTX 4000 SFF Ada", 1},
        {"DGX Station GB300", "DGX Station", 1},
        {"8xH200", "H200 SXM", 8},
        {"AMD Instinct MI250X", "MI250X", 1},
        {"3080 10GB", "RTX 3080 10GB", 1},
        {"g5 (A10G)", "A10G", 1},
        {"AWS Graviton4", "Graviton 4", 1},
        {"Ampere Altra Max", "Ampere Altra Max 128", 1},
    };
    lr_catalogue c;
    larder_error err;
    CHECK_OK(lr_catalogue_open(&c, &err));
    for (size_t i = 0; i < LR_LEN(rows); i++) finds(&c, rows[i].words, rows[i].name, rows[i].count);
    lr_machine m;
    CHECK(lr_machine_find(&c, "Ryzen 9 7950X DDR5-6000", LR_WANT_ANY, &m));
    CHECK_NEAR(m.bw, 96e9, 1e6);
    CHECK(lr_machine_find(&c, "Ryzen 9 7950X DDR5 6000MT/s", LR_WANT_ANY, &m));
    CHECK_NEAR(m.bw, 96e9, 1e6);
    double usual = 0;
    CHECK(lr_machine_find(&c, "Ryzen 9 7950X", LR_WANT_ANY, &m) && (usual = m.bw) > 0);
    CHECK(lr_machine_find(&c, "Ryzen 9 DDR5 7950X", LR_WANT_ANY, &m)); /* the processor's number, no transfer rate */
    CHECK_NEAR(m.bw, usual, 1);
    lr_catalogue_close(&c);
}

/* A version or a size that a family does not have is not passed over when it is asked for; what else is said, is. */
TEST(models_that_are_asked_for)
{
    static const char *const known[] = {"llama-3.1-8b",
                                        "llama3.1:8b",
                                        "mistral-7b-0.3",
                                        "mixtral-8x7b-instruct-v0.1",
                                        "qwen3:30b-a3b",
                                        "Qwen3-235B-A22B-Instruct-2507",
                                        "tinyllama-1.1b-chat-v1.0",
                                        "mistral-small-3.1-24b",
                                        "deepseek-r1:8b",
                                        "glm-4.5-air",
                                        "llama4:16x17b",
                                        "Llama-4-Scout-17B-16E-Instruct",
                                        "Llama-4-Maverick-17B-128E-Instruct",
                                        "Yi-1.5-34B-Chat",
                                        "Qwen2.5-7B-Instruct-1M",
                                        "gemma-1.1-7b-it",
                                        "OpenHermes-2.5-Mistral-7B",
                                        "dolphin-2.9-llama-3-8b",
                                        "Nemotron-3-Super-120B-A12B",
                                        "phi-4:14b"},
                             *const unknown[] = {"llama-9.1-8b",   "llama-3.1-9b", "granite3.1-8b", "qwen3-33b",
                                                 "deepseek-r1:9b", "gemma 4.5 9b", "llama-9.1-70b", "jamba"};
    lr_catalogue c;
    larder_error err;
    CHECK_OK(lr_catalogue_open(&c, &err));
    for (size_t i = 0; i < LR_LEN(known); i++)
        if (!lr_preset_named(&c, known[i])) TEST_FAIL("\"%s\" is not known", known[i]);
    for (size_t i = 0; i < LR_LEN(unknown); i++) {
        const lr_preset *p = lr_preset_named(&c, unknown[i]);
        if (p) TEST_FAIL("\"%s\" is taken for %s", unknown[i], p->shape.name);
    }
    lr_catalogue_close(&c);
}

TEST(models_as_written)
{
    static const char *const pairs[][2] = {
        {"Llama-3.1-8B", "Llama-3.1-8B"},
        {"llama3.1:8b", "Llama-3.1-8B"},
        {"Meta-Llama-3.1-8B-Instruct", "Llama-3.1-8B"},
        {"Llama-3-8B", "Llama-3-8B"},
        {"Llama-2-7B", "Llama-2-7B"},
        {"R1-Distill-70B", "Llama-3.1-70B"},
        {"DeepSeek-R1-Distill-14B", "Qwen2.5-14B"},
        {"DeepSeek-R1", "DeepSeek-R1"},
        {"Qwen3-30B-A3B", "Qwen3-30B-A3B"},
        {"Qwen2.5-Coder-7B", "Qwen2.5-7B"},
        {"gpt-oss-120b", "gpt-oss-120b"},
        {"3B (Llama-3.2)", "Llama-3.2-3B"},
        {"Gemma 3 27B", "Gemma-3-27B"},
        {"Mixtral-8x7B", "Mixtral-8x7B"},
        {"GLM-4.7-Flash", "GLM-4.7-Flash"},
        {"gptoss 20b", "gpt-oss-20b"},
        {"Mixtral 8x7B", "Mixtral-8x7B"},
        {"mixtral-8x22b", "Mixtral-8x22B"},
        {"deepseek-r1:14b", "Qwen2.5-14B"},
        {"phi3.5", "Phi-3-mini-3.8B"},
        {"Codestral 22B", "Mistral-Small-22B"},
        {"DeepSeek-V3.2", "DeepSeek-R1"},
    };
    lr_catalogue c;
    larder_error err = {0};
    CHECK_OK(lr_catalogue_open(&c, &err));
    for (size_t i = 0; i < LR_LEN(pairs); i++) {
        const lr_preset *p = lr_preset_find(&c, pairs[i][0]);
        if (!p || strcmp(p->shape.name, pairs[i][1]))
            TEST_FAIL("%s is %s, not %s", pairs[i][0], p ? p->shape.name : "nothing", pairs[i][1]);
    }
    CHECK(!lr_preset_find(&c, "see PR"));
    lr_preset made;
    CHECK(lr_preset_guess("Granite-3.3-8B", 0, &made) && made.runs);
    CHECK(lr_preset_guess("Ernie 4.5 21B-A3B", 0, &made) && !made.runs);
    CHECK_NEAR(made.total, 21e9, 1);
    CHECK_NEAR(made.active, 3e9, 1);
    CHECK(lr_preset_guess("something", 3e9, &made) && made.runs);
    CHECK(!lr_preset_guess("something v2", 0, &made) && !lr_preset_guess("2026", 0, &made));
    lr_catalogue_close(&c);
}

/* A size alone is a dense model of that size: all its matrices together. */
TEST(sizes_alone)
{
    static const double sizes[] = {1e7, 15e6, 1e8,  27e7, 5e8,  1e9,  3e9,   7e9,
                                   8e9, 13e9, 14e9, 32e9, 70e9, 72e9, 12e10, 405e9};
    for (size_t i = 0; i < LR_LEN(sizes); i++) {
        lr_preset made;
        lr_preset_of_size(sizes[i], &made);
        const lr_shape *s = &made.shape;
        double head = 2.0 * s->head_dim * (s->n_head + s->n_head_kv), embed = (double)s->n_embd * s->n_vocab;
        double all = s->n_layer * s->n_embd * (head + 3.0 * s->n_ff) + embed * (s->tied ? 1 : 2);
        if (fabs(all / sizes[i] - 1) > 0.01) TEST_FAIL("%g parameters were asked for, %g made", sizes[i], all);
        CHECK_EQ_INT(s->n_head % s->n_head_kv, 0);
        CHECK_EQ_INT(s->n_embd, s->n_head * s->head_dim);
    }
}

TEST(formats_as_written)
{
    static const struct {
        const char *name;
        lr_cls cls;
        double bits; /* 0: a mix */
    } cases[] = {{"F16", LR_CLS_F16, 0},
                 {"FP16", LR_CLS_F16, 16},
                 {"q4_k_m", LR_CLS_K, 0},
                 {"Q4_K_M (ollama default)", LR_CLS_K, 0},
                 {"Q4", LR_CLS_K, 0},
                 {"Q8_0", LR_CLS_Q8, 0},
                 {"FP8", LR_CLS_Q8, 8},
                 {"EXL2 4.0bpw", LR_CLS_Q4, 4},
                 {"MXFP4", LR_CLS_Q4, 0},
                 {"INT4-g32", LR_CLS_Q4, 5},
                 {"GPTQ-Int4", LR_CLS_Q4, 4.25},
                 {"UD-Q4_K_XL", LR_CLS_K, 0},
                 {"4bit", LR_CLS_Q4, 4.5},
                 {"MLX 4bit", LR_CLS_Q4, 4.5},
                 {"GGUF Q4_K_M", LR_CLS_K, 0},
                 {"bnb-nf4", LR_CLS_Q4, 4.5},
                 {"3.5bpw", LR_CLS_Q4, 3.5},
                 {"1.58bit", LR_CLS_Q4, 1.58},
                 {"unquantized", LR_CLS_F16, 16}};
    for (size_t i = 0; i < LR_LEN(cases); i++) {
        lr_quant_name q;
        if (!lr_quant_find(cases[i].name, &q)) TEST_FAIL("%s is no format", cases[i].name);
        CHECK_EQ_INT(q.cls, cases[i].cls);
        CHECK_NEAR(q.bits, cases[i].bits, 1e-9);
        CHECK_EQ_INT(q.mix != NULL, cases[i].bits < 1);
    }
    lr_quant_name q;
    CHECK(!lr_quant_find("", &q) && !lr_quant_find("8b", &q) && !lr_quant_find("70b-instruct", &q));
    CHECK(!lr_quant_find("wood", &q));
    CHECK(!lr_quant_find("EXL2", &q) || q.bits > 0);
    CHECK(!lr_quant_find("EXL2 0bpw", &q));
}

TEST(bad_tables)
{
    static const char models[] = "name,match,arch,n_layer\nx,x,cost,1\n";
    static const char *const machines[] = {
        "name,match,kind,mem,bw,fp32\nx,x,cpu,8,0,1\n",     "name,match,kind,mem,bw,fp32\nx,x,cpu,8,nan,1\n",
        "name,match,kind,mem,bw,fp32\nx,x,cpu,8,-1,1\n",    "name,match,kind,mem,bw,fp32\nx,x,cpu,inf,1,1\n",
        "name,match,kind,mem,bw,fp32\nx,x,cpu,8,1e999,1\n",
    };
    lr_catalogue c;
    larder_error err = {0};
    for (size_t i = 0; i < LR_LEN(machines); i++)
        CHECK_STATUS(lr_catalogue_parse(machines[i], strlen(machines[i]), models, sizeof models - 1, &c, &err),
                     LARDER_USAGE);
    static const char good[] = "name,match,kind,mem,bw,fp32\nx,x,cpu,8,50,1\n";
    CHECK_STATUS(lr_catalogue_parse(good, sizeof good - 1, models, sizeof models - 1, &c, &err), LARDER_USAGE);
    CHECK(strstr(err.message, "active_b"));
}

TEST(every_machine_has_a_source)
{
    lr_catalogue c;
    larder_error err = {0};
    CHECK_OK(lr_catalogue_open(&c, &err));
    CHECK(c.n_machines > 200 && c.n_models > 80);
    for (size_t i = 0; i < c.n_machines; i++) {
        const lr_machine *m = &c.machines[i];
        if (!m->source[0]) TEST_FAIL("%s has no source", m->name);
        if (m->bw_measured > m->bw) TEST_FAIL("%s: measured above stated", m->name);
        if (m->usable > 1 || m->usable < 0.3) TEST_FAIL("%s: usable share %g", m->name, m->usable);
    }
    lr_catalogue_close(&c);
}
