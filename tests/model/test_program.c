/* test_program.c - programs as words, and what lr_program_check refuses. */
#include "craft.h"
#include "model.h"

static void open_program(craft *c, lr_model *m, lr_program *p)
{
    larder_error err;
    CHECK_OK(lr_model_open(craft_file(c), m, &err));
    CHECK_OK(lr_model_program(m, 64, p, &err));
}

TEST(llama_in_words)
{
    static const char want[] = "     %0 [T,64] = embed token_embd.weight:F32[64,40] by=1\n"
                               "  0  %1 [T,64] = rmsnorm %0 blk.0.attn_norm.weight:F32[64] group=64 eps=1e-05\n"
                               "  0  %2 [T,64] = linear %1 blk.0.attn_q.weight:F32[64,64]\n"
                               "  0  %3 [T,32] = linear %1 blk.0.attn_k.weight:F32[64,32]\n"
                               "  0  %4 [T,32] = linear %1 blk.0.attn_v.weight:F32[64,32]\n"
                               "  0  %5 [T,64] = rope %2 table=0 pairs n_rot=16 dim=16 mscale=1\n"
                               "  0  %6 [T,32] = rope %3 table=0 pairs n_rot=16 dim=16 mscale=1\n"
                               "  0  %7 [T,64] = attend %5 %6 %4 layer=0 heads=4/2 dim=16 scale=0.25\n"
                               "  0  %8 [T,64] = linear %7 blk.0.attn_output.weight:F32[64,64]\n"
                               "  0  %9 [T,64] = add %0 %8\n"
                               "  0  %10 [T,64] = rmsnorm %9 blk.0.ffn_norm.weight:F32[64] group=64 eps=1e-05\n"
                               "  0  %11 [T,96] = linear %10 blk.0.ffn_gate.weight:F32[64,96]\n"
                               "  0  %12 [T,96] = linear %10 blk.0.ffn_up.weight:F32[64,96]\n"
                               "  0  %13 [T,96] = glu %11 %12 silu\n"
                               "  0  %14 [T,64] = linear %13 blk.0.ffn_down.weight:F32[96,64]\n"
                               "  0  %15 [T,64] = add %9 %14\n"
                               "     %16 [O,64] = pick %15\n"
                               "     %17 [O,64] = rmsnorm %16 output_norm.weight:F32[64] group=64 eps=1e-05\n"
                               "     %18 [O,40] = linear %17 output.weight:F32[64,40]\n";
    lr_model m;
    lr_program p;
    lr_buf b = {0};
    craft *c = craft_llama();
    for (size_t i = 0; i < c->f.n_tensors;) {
        if (strstr(c->tensors[i].name.p, "blk.1.")) c->tensors[i] = c->tensors[--c->f.n_tensors];
        else i++;
    }
    craft_int(c, "llama.block_count", 1);
    open_program(c, &m, &p);
    lr_program_print(&p, &b);
    lr_buf_putc(&b, 0);
    CHECK(!b.failed);
    CHECK_EQ_STR(b.p, want);
    CHECK_EQ_INT(p.logits, 18);
    CHECK_EQ_INT(p.n_layer, 1);
    lr_buf_free(&b);
    lr_program_free(&p);
    lr_model_close(&m);
    craft_free(c);
}

/* Without output.weight the embedding is used again: as the same weight, so that nothing counts it twice. */
TEST(tied_embedding)
{
    lr_model m;
    lr_program p;
    craft *c = craft_llama();
    craft_drop(c, "output.weight");
    open_program(c, &m, &p);
    CHECK_EQ_INT(p.ops[p.n_ops - 1].w, p.ops[0].w);
    lr_program_free(&p);
    lr_model_close(&m);
    craft_free(c);
}

TEST(hub_turns_halves_and_gguf_pairs)
{
    lr_model m;
    lr_program p;
    craft *c = craft_hub("llama");
    open_program(c, &m, &p);
    CHECK_EQ_INT(p.ropes[0].kind, LR_ROPE_HALVES);
    CHECK(lr_str_is(m.arch_name, "llama"));
    for (size_t i = 0; i < m.view.n_tensors; i++) {
        bool q = strstr(m.view.tensors[i].name.p, "attn_q."), k = strstr(m.view.tensors[i].name.p, "attn_k.");
        CHECK_EQ_INT(m.fix[i], q || k ? LR_FIX_ROPE_PAIRS : LR_FIX_NONE);
        CHECK_EQ_INT(m.fix_heads[i], q ? CRAFT_HEADS : k ? CRAFT_KV : 0);
    }
    lr_program_free(&p);
    lr_model_close(&m);
    craft_free(c);
}

/* Every operator of a sound program, spoiled in turn, is refused; nothing crashes. */
TEST(spoiled_programs)
{
    larder_error err;
    lr_model m;
    lr_program p;
    craft *c = craft_llama();
    open_program(c, &m, &p);
    for (uint32_t i = 0; i < p.n_ops; i++) {
        lr_op good = p.ops[i], *op = &p.ops[i];
        op->kind = LR_OP_KINDS;
        CHECK_STATUS(lr_program_check(&p, &err), LARDER_FORMAT);
        *op = good;
        op->out = i ? p.ops[i - 1].out : LR_NONE;
        CHECK_STATUS(lr_program_check(&p, &err), LARDER_FORMAT);
        *op = good;
        if (op->kind != LR_OP_EMBED) {
            op->in[0] = op->out;
            CHECK_STATUS(lr_program_check(&p, &err), LARDER_FORMAT);
            *op = good;
        }
        if (op->w != LR_NONE) {
            op->w = (uint16_t)p.n_weights;
            CHECK_STATUS(lr_program_check(&p, &err), LARDER_FORMAT);
            *op = good;
        }
        op->eps = NAN;
        CHECK_STATUS(lr_program_check(&p, &err), LARDER_FORMAT);
        *op = good;
    }
    CHECK_OK(lr_program_check(&p, &err));
    lr_program_free(&p);
    lr_model_close(&m);
    craft_free(c);
}

/* Calls after a failure do nothing, and the first failure is the one that is told. */
TEST(building_after_a_fault)
{
    larder_error err;
    lr_program p = {.n_layer = 1, .n_vocab = 4, .n_embd = 4};
    lr_val x = lr_embed(&p, LR_NONE, 1);
    CHECK_EQ_INT(x, LR_NONE);
    CHECK_EQ_INT(lr_linear(&p, x, LR_NONE, LR_NONE), LR_NONE);
    CHECK_EQ_INT(lr_add(&p, x, x), LR_NONE);
    CHECK_EQ_INT(p.n_ops, 0);
    CHECK_STATUS(lr_program_check(&p, &err), LARDER_INTERNAL);
    CHECK(strstr(err.message, "weight"));
    lr_program_free(&p);
}

TEST(out_of_memory_anywhere)
{
    larder_error err;
    lr_model m;
    lr_program p;
    craft *crafts[2] = {craft_llama(), craft_hub("llama")};
    for (int k = 0; k < 2; k++) {
        const lr_file *f = craft_file(crafts[k]);
        larder_status st = LARDER_NOMEM;
        for (long n = 0; st; n++) {
            lr_alloc_fail_at(n);
            st = lr_model_open(f, &m, &err);
            if (!st) {
                st = lr_model_program(&m, 64, &p, &err);
                if (!st) lr_program_free(&p);
                lr_model_close(&m);
            }
            lr_alloc_fail_at(-1);
            CHECK(st == LARDER_OK || st == LARDER_NOMEM);
            CHECK(n < 10000);
        }
        craft_free(crafts[k]);
    }
}

TEST(list_names_every_architecture)
{
    lr_buf b = {0};
    lr_model_list(&b);
    lr_buf_putc(&b, 0);
    CHECK(strstr(b.p, "llama (") && strstr(b.p, "qwen3moe (") && strstr(b.p, "gpt-oss ("));
    lr_buf_free(&b);
}
