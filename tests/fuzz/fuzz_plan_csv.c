/* The planner's tables: rows to score, claims to judge, and a catalogue, from any bytes; and names by themselves. */
#include "claims.h"
#include "name.h"
#include "report.h"
#include "score.h"

#include <stdio.h>

/* What begins the bytes, as the name of a machine, a model, a format, a backend, and as what is changed of a machine. */
static void names(const lr_catalogue *cat, const uint8_t *data, size_t size)
{
    char words[300], alias[300];
    larder_error err;
    lr_machine m;
    lr_setup s;
    lr_preset made;
    lr_quant_name q;
    lr_name name;
    size_t n = LR_MIN(size, sizeof words - 1);
    memcpy(words, data, n);
    words[n] = 0;
    snprintf(alias, sizeof alias, "%s", words + strlen(words) / 2);
    if (lr_machine_find(cat, words, LR_WANT_ANY, &m)) {
        (void)lr_setup_find(words, "", &m, &s);
        (void)lr_machine_change(&m, words, &err);
    } else {
        (void)lr_machine_unknown(cat, words, &err);
    }
    if (!lr_preset_named(cat, words)) (void)lr_preset_unknown(cat, words, &err);
    (void)lr_preset_guess(words, 0, &made);
    (void)lr_quant_find(words, &q);
    lr_name_cut(words, &name);
    (void)lr_name_fits(&name, alias);
}

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
    names(&cat, data, size);
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
