/* The planner's tables: rows to score, claims to judge, and a catalogue, from any bytes. */
#include "claims.h"
#include "score.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lr_catalogue cat;
    static bool ready;
    larder_error err;
    lr_score rows;
    lr_claims claims;
    lr_catalogue own;
    const char *text = (const char *)data;
    if (size > 1u << 16) return 0;
    if (!ready) {
        if (lr_catalogue_open(&cat, &err)) return 0;
        ready = true;
    }
    if (!lr_score_open(&cat, text, size, &rows, &err)) {
        lr_score_predict(&rows);
        lr_score_close(&rows);
    }
    if (!lr_claims_open(text, size, &claims, &err)) {
        (void)lr_claims_judge(&cat, &claims, &err);
        lr_claims_close(&claims);
    }
    static const char models[] = "name,match,arch,n_layer\n";
    if (!lr_catalogue_parse(text, size, models, sizeof models - 1, &own, &err)) lr_catalogue_close(&own);
    return 0;
}
