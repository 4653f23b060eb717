/* Claims: all judged, the guesses never called impossible, contradictions on both sides. */
#include "claims.h"
#include "data.h"

static const lr_claim *claim(const lr_claims *c, const char *id)
{
    for (size_t i = 0; i < c->n; i++)
        if (!strcmp(c->all[i].id, id)) return &c->all[i];
    TEST_FAIL("no claim %s", id);
}

static void judge(const char *text, size_t n, lr_claims *c)
{
    lr_catalogue cat;
    larder_error err = {0};
    CHECK_OK(lr_catalogue_open(&cat, &err));
    CHECK_OK(lr_claims_open(text, n, c, &err));
    CHECK_OK(lr_claims_judge(&cat, c, &err));
    lr_catalogue_close(&cat);
}

TEST(by_hand)
{
    static const char text[] = "id,machine,model,format,workload,metric,low,high,unit,qualifier\n"
                               "a,rtx-4090,,,,memory_bandwidth,1008,1008,GB/s,\n"
                               "b,rtx-4090,,,,memory_bandwidth,2000,2000,GB/s,\n"
                               "c,rtx-4090,,,,memory_bandwidth,2000,2000,GB/s,rumored\n"
                               "d,dgx-spark,llama-3.1-8b,fp16,single stream,decode,120,120,tok/s,approx\n"
                               "e,dgx-spark,llama-3.1-8b,fp16,single stream,decode,15,15,tok/s,approx\n"
                               "f,dgx-spark,llama-3.1-8b,fp16,single stream,decode,2,2,tok/s,approx\n"
                               "g,m,,,\"2024 to 2028, 4.2 to 18.7 billion\",cagr,35,35,%,\n"
                               "h,m,,,\"2024 to 2028, 4.2 to 18.7 billion\",cagr,45,45,%,\n"
                               "i,dgx-spark,llama-3.1-70b,fp16,one unit,fits,1,1,bool,\n"
                               "j,unknown thing,,,,nonsense,1,1,,\n"
                               "k,multi-rtx-4090,llama-3.1-70b,q4,several cards,decode,22,22,tok/s,approx\n";
    static const struct {
        const char *id;
        lr_verdict v;
    } want[] = {{"a", LR_CLAIM_CONSISTENT},  {"b", LR_CLAIM_IMPOSSIBLE}, {"c", LR_CLAIM_CONTRADICTED},
                {"d", LR_CLAIM_IMPOSSIBLE},  {"e", LR_CLAIM_CONSISTENT}, {"f", LR_CLAIM_BELOW},
                {"g", LR_CLAIM_IMPOSSIBLE},  {"h", LR_CLAIM_CONSISTENT}, {"i", LR_CLAIM_IMPOSSIBLE},
                {"j", LR_CLAIM_UNCHECKABLE}, {"k", LR_CLAIM_CONSISTENT}};
    lr_claims c;
    judge(text, sizeof text - 1, &c);
    for (size_t i = 0; i < LR_LEN(want); i++)
        if (claim(&c, want[i].id)->verdict != want[i].v)
            TEST_FAIL("%s: %s: %s", want[i].id, lr_verdict_name(claim(&c, want[i].id)->verdict),
                      claim(&c, want[i].id)->why);
    CHECK(strstr(claim(&c, "a")->against, "b") && strstr(claim(&c, "b")->against, "a"));
    CHECK(strstr(claim(&c, "d")->against, "e"));
    lr_claims_close(&c);
}

TEST(all_claims)
{
    size_t n, with = 0;
    char *text = table(test_shared("facts/claims.csv"), &n);
    lr_claims c;
    judge(text, n, &c);
    CHECK_EQ_INT(c.n, 143);
    for (size_t i = 0; i < c.n; i++) {
        const lr_claim *a = &c.all[i];
        CHECK(a->why[0]);
        with += a->arithmetic;
        if (a->guess && a->verdict == LR_CLAIM_IMPOSSIBLE) TEST_FAIL("%s is a guess", a->id);
        if (strstr(a->machine, "multi") && a->verdict == LR_CLAIM_IMPOSSIBLE)
            TEST_FAIL("%s leaves the number of cards open", a->id);
    }
    printf("%zu with arithmetic\n", with);
    CHECK(with >= 110);
    CHECK_EQ_INT(claim(&c, "c106")->verdict, LR_CLAIM_IMPOSSIBLE);
    CHECK_EQ_INT(claim(&c, "c044")->verdict, LR_CLAIM_IMPOSSIBLE);
    CHECK_EQ_INT(claim(&c, "c041")->verdict, LR_CLAIM_IMPOSSIBLE);
    CHECK_EQ_INT(claim(&c, "c050")->verdict, LR_CLAIM_CONSISTENT);
    CHECK(strstr(claim(&c, "c032")->against, "c044"));
    lr_claims_close(&c);
    lr_free(text);
}

TEST(bad_claims)
{
    static const char *const bad[] = {"", "id,machine\n", "id,machine,metric,low,high\na,b,c,2,1\n",
                                      "id,machine,metric,low,high\na,b,c,nan,1\n"};
    larder_error err = {0};
    for (size_t i = 0; i < LR_LEN(bad); i++) {
        lr_claims c;
        CHECK(lr_claims_open(bad[i], strlen(bad[i]), &c, &err) != LARDER_OK);
    }
}
