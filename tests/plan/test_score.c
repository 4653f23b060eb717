/* The bars of the predictions, on data/measured.csv, with whole machines left out. */
#include "data.h"
#include "score.h"

typedef struct fixture {
    lr_catalogue c;
    lr_score r;
    char *text;
} fixture;

static void open_rows(fixture *f)
{
    larder_error err = {0};
    size_t n;
    f->text = table("data/measured.csv", &n);
    CHECK_OK(lr_catalogue_open(&f->c, &err));
    CHECK_OK(lr_score_open(&f->c, f->text, n, &f->r, &err));
}

static void close_rows(fixture *f)
{
    lr_score_close(&f->r);
    lr_catalogue_close(&f->c);
    lr_free(f->text);
}

static void below_ceiling(const lr_score *r)
{
    for (size_t i = 0; i < r->n; i++) {
        const lr_case *row = &r->rows[i];
        if (row->kind > LR_ROW_PREFILL) continue;
        CHECK(row->p.rate > 0 && row->p.rate <= row->p.ceiling * (1 + 1e-12));
        CHECK(row->p.low <= row->p.rate && row->p.high >= row->p.rate * (1 - 1e-12) &&
              row->p.high <= row->p.ceiling * (1 + 1e-12));
    }
}

TEST(in_the_fit)
{
    fixture f;
    open_rows(&f);
    lr_score_predict(&f.r);
    below_ceiling(&f.r);
    printf("decode median %.4f p90 %.4f, prefill median %.4f\n", f.r.decode.median, f.r.decode.p90,
           f.r.prefill.median);
    CHECK(f.r.n_unplaced <= f.r.n * 15 / 100);
    CHECK(f.r.decode.n > 500 && f.r.prefill.n > 350);
    CHECK(f.r.decode.median <= 0.07 && f.r.decode.p90 <= 0.25);
    CHECK(f.r.prefill.median <= 0.12);
    close_rows(&f);
}

static void cross(bool whole_chip)
{
    fixture f;
    lr_fit fit;
    larder_error err = {0};
    open_rows(&f);
    for (size_t i = 0; i < f.r.n && whole_chip; i++)
        f.r.rows[i].group &= ~255; /* 2 x RTX 3090 leaves with RTX 3090 */
    CHECK_OK(lr_fit_cross(&f.r, &fit, &err));
    below_ceiling(&f.r);
    printf("decode median %.4f p90 %.4f inside %.3f, prefill median %.4f p90 %.4f inside %.3f\n", f.r.decode.median,
           f.r.decode.p90, f.r.decode.inside, f.r.prefill.median, f.r.prefill.p90, f.r.prefill.inside);
    CHECK(f.r.decode.median <= 0.12 && f.r.decode.p90 <= 0.35);
    CHECK(f.r.prefill.median <= 0.25 && f.r.prefill.p90 <= 0.60);
    CHECK(f.r.decode.inside >= 0.75 && f.r.decode.inside <= 0.90);
    CHECK(f.r.prefill.inside >= 0.75 && f.r.prefill.inside <= 0.90);
    CHECK(f.r.held_decode.median <= 0.07 && f.r.held_decode.p90 <= 0.25 && f.r.held_prefill.median <= 0.12);
    lr_fit_free(&fit);
    close_rows(&f);
}

TEST_TIME(machines_left_out, 120) { cross(false); }
TEST_TIME(chips_left_out, 120) { cross(true); }

/* fit.def is what the data gives. */
TEST_TIME(fit_is_current, 120)
{
    fixture f;
    lr_fit fit;
    larder_error err = {0};
    open_rows(&f);
    CHECK_OK(lr_fit_rows(&f.r, -1, NULL, &fit, &err));
    for (size_t i = 0; i < f.r.n; i++) {
        lr_case *row = &f.r.rows[i];
        lr_prediction p;
        lr_seen at;
        if (row->kind > LR_ROW_PREFILL) continue;
        lr_seen_make(&row->f, 0, &at);
        lr_near near = lr_seen_correct(fit.seen, fit.n_seen, &at, false);
        double rate = row->f.tokens / lr_model_seconds(&row->f, fit.theta) * exp(near.shift);
        lr_predict(&row->f, &p);
        CHECK_NEAR(LR_MIN(rate, p.ceiling) / p.rate, 1, 0.02); /* else: script/fit */
    }
    lr_fit_free(&fit);
    close_rows(&f);
}

TEST(bad_rows)
{
    static const struct {
        const char *text;
        larder_status want;
    } cases[] = {
        {"", LARDER_USAGE},
        {"machine,model\na,b\n", LARDER_USAGE},
        {"machine,model,quant,backend,test,tokens_per_s\na,b,c,d,e,nan\n", LARDER_USAGE},
        {"machine,model,quant,backend,test,tokens_per_s\na,b,c,d,e,1x\n", LARDER_USAGE},
        {"machine,model,quant,backend,test,tokens_per_s\n\"a,b,c\n", LARDER_FORMAT},
        {"machine,model,quant,backend,test,tokens_per_s\na,b,c,d,e,1,2\n", LARDER_FORMAT},
    };
    lr_catalogue c;
    larder_error err = {0};
    CHECK_OK(lr_catalogue_open(&c, &err));
    for (size_t i = 0; i < LR_LEN(cases); i++) {
        lr_score r;
        CHECK_STATUS(lr_score_open(&c, cases[i].text, strlen(cases[i].text), &r, &err), cases[i].want);
        CHECK(err.message[0]);
    }
    static const char odd[] =
        "machine,model,quant,backend,test,tokens_per_s\nRTX 4090,nothing,Q4_K_M,llama.cpp CUDA,tg128,5\n"
        "RTX 4090,Llama-3-8B,Q4_K_M,llama.cpp CUDA,tg128,0\nRTX 4090,Llama-3-8B,Q4_K_M,llama.cpp CUDA,hop,5\n";
    lr_score r;
    CHECK_OK(lr_score_open(&c, odd, sizeof odd - 1, &r, &err));
    CHECK_EQ_INT(r.n_unplaced, 3);
    lr_score_close(&r);
    lr_catalogue_close(&c);
}
