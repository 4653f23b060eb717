/* claims.c - see claims.h. */
#include "claims.h"

#include "report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define GB 1e9

static bool holds(const char *s, const char *what) { return strcasestr(s, what) != NULL; }

/* ---------------------------------------------------------------- reading */
static void read_qualifier(lr_claim *c)
{
    static const char *const guesses[] = {"rumor", "rumour",   "predict", "est.",     "estimated", "might",
                                          "could", "probably", "should",  "expected", "implied"};
    static const char *const loose[] = {"approx", "about", "roughly", "around", "~"};
    c->slack = 0.02;
    for (size_t i = 0; i < LR_LEN(loose); i++)
        if (holds(c->qualifier, loose[i])) c->slack = 0.12;
    for (size_t i = 0; i < LR_LEN(guesses); i++)
        if (holds(c->qualifier, guesses[i])) c->guess = true;
    if (c->guess && c->slack < 0.1) c->slack = 0.1;
}

larder_status lr_claims_open(const char *text, size_t n, lr_claims *out, larder_error *err)
{
    static const char *const needed[] = {"id", "machine", "metric", "low", "high"};
    larder_status st;
    *out = (lr_claims){0};
    LR_GO(lr_csv_parse(text, n, &out->table, err));
    const lr_csv *t = &out->table;
    for (size_t i = 0; i < LR_LEN(needed); i++)
        if (lr_csv_col(t, needed[i]) < 0)
            LR_GO(lr_fail(err, LARDER_USAGE, "the claims have no column \"%s\"", needed[i]));
    out->all = lr_calloc(t->n_rows + 1, sizeof *out->all);
    if (!out->all) {
        st = LR_NOMEM(err, "the claims");
        goto fail;
    }
    out->n = t->n_rows;
    for (size_t i = 0; i < t->n_rows; i++) {
        lr_claim *c = &out->all[i];
        struct {
            const char *name, **to;
        } texts[] = {{"id", &c->id},         {"machine", &c->machine},     {"model", &c->model},
                     {"format", &c->format}, {"workload", &c->workload},   {"metric", &c->metric},
                     {"unit", &c->unit},     {"qualifier", &c->qualifier}, {"as_written", &c->as_written}};
        for (size_t k = 0; k < LR_LEN(texts); k++) *texts[k].to = lr_csv_at(t, i, lr_csv_col(t, texts[k].name));
        c->low = -INFINITY;
        c->high = INFINITY;
        LR_GO(lr_csv_number(t, i, lr_csv_col(t, "low"), &c->low, err));
        LR_GO(lr_csv_number(t, i, lr_csv_col(t, "high"), &c->high, err));
        if (c->low > c->high) LR_GO(lr_fail(err, LARDER_USAGE, "row %zu: low is above high", i + 1));
        c->verdict = LR_CLAIM_UNCHECKABLE;
        read_qualifier(c);
    }
    return LARDER_OK;
fail:
    lr_claims_close(out);
    return st;
}

void lr_claims_close(lr_claims *c)
{
    lr_csv_free(&c->table);
    lr_free(c->all);
    *c = (lr_claims){0};
}

/* ---------------------------------------------------------------- saying */
static void LR_PRINTF(4, 5) say(lr_claim *c, lr_verdict v, bool arithmetic, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(c->why, sizeof c->why, fmt, ap);
    va_end(ap);
    c->verdict = v;
    c->arithmetic = arithmetic;
}

static double lowest(const lr_claim *c) { return c->low - fabs(c->low) * c->slack; }
static double highest(const lr_claim *c) { return c->high + fabs(c->high) * c->slack; }

static const char *value(const lr_claim *c, char out[64])
{
    if (isinf(c->low)) (void)snprintf(out, 64, "at most %.4g", c->high);
    else if (isinf(c->high)) (void)snprintf(out, 64, "at least %.4g", c->low);
    else if (c->high > c->low) (void)snprintf(out, 64, "%.4g to %.4g", c->low, c->high);
    else (void)snprintf(out, 64, "%.4g", c->low);
    return out;
}

/* Claimed against a range that the facts allow. */
static void against(lr_claim *c, double lo, double hi, bool ceiling, const char *what)
{
    char v[64];
    if (highest(c) >= lo && lowest(c) <= hi)
        say(c, LR_CLAIM_CONSISTENT, true, "%s: %.4g to %.4g %s; claimed %s", what, lo, hi, c->unit, value(c, v));
    else if (lowest(c) > hi)
        say(c, ceiling && !c->guess ? LR_CLAIM_IMPOSSIBLE : LR_CLAIM_CONTRADICTED, true,
            "%s: at most %.4g %s; claimed %s, x%.2f of it", what, hi, c->unit, value(c, v), c->low / hi);
    else
        say(c, LR_CLAIM_BELOW, true, "%s: %.4g %s and more; claimed %s, x%.2f of it", what, lo, c->unit, value(c, v),
            c->high / lo);
}

/* ---------------------------------------------------------------- machines of claims */
typedef struct subject {
    lr_machine m[320]; /* one, or all that the words leave open */
    int n;
    bool open_count; /* "several cards": how many is not said */
} subject;

static bool is_card(const lr_machine *m)
{
    return !m->unified && m->kind != LR_KIND_CPU && strcmp(m->status, "rumoured") && strcmp(m->status, "predicted");
}

static bool in_group(const lr_machine *m, const char *words)
{
    if (holds(words, "apple-silicon") || holds(words, "apple-mps"))
        return m->kind == LR_KIND_APPLE && !strcmp(m->status, "sold");
    if (holds(words, "nvidia-consumer"))
        return is_card(m) && m->kind == LR_KIND_NVIDIA && !strncmp(m->name, "RTX", 3) && m->price > 0 &&
               (!strcmp(m->gen_name, "ampere") || !strcmp(m->gen_name, "ada") || !strcmp(m->gen_name, "blackwell"));
    if (holds(words, "discrete")) return is_card(m) && strcmp(m->status, "predicted");
    if (holds(words, "hbm3")) return m->gen == LR_GEN_HOPPER && strncmp(m->name, "H100 PCIe", 9);
    if (holds(words, "48gb-card")) return is_card(m) && fabs(m->memory / (double)LR_GIB - 48) < 1;
    if (holds(words, "no-accelerator"))
        return m->kind == LR_KIND_CPU && strncmp(m->name, "Apple", 5) && strncmp(m->name, "Xeon 6980", 9);
    return false;
}

/* A trailing number of a unified machine's name is its memory: "m3-ultra-192". */
static double memory_suffix(const char *words)
{
    const char *dash = strrchr(words, '-');
    if (!dash || dash[1] < '0' || dash[1] > '9') return 0;
    char *end;
    double v = strtod(dash + 1, &end);
    return *end || v < 8 || v > 1024 ? 0 : v;
}

static bool find_subject(const lr_catalogue *cat, const char *words, subject *s)
{
    char plain[128];
    s->n = 0;
    s->open_count = !strncmp(words, "multi-", 6);
    if (!*words) return false;
    for (size_t i = 0; i < cat->n_machines && s->n < 320; i++)
        if (in_group(&cat->machines[i], words)) s->m[s->n++] = cat->machines[i];
    if (s->n) return true;
    (void)snprintf(plain, sizeof plain, "%.120s", s->open_count ? words + 6 : words);
    for (char *p = plain; *p; p++)
        if (*p == '_') *p = ' ';
    lr_machine *m = &s->m[0];
    if (!lr_machine_find(cat, plain, LR_WANT_GPU, m) && !lr_machine_find(cat, plain, LR_WANT_ANY, m)) return false;
    double memory = memory_suffix(plain);
    if (memory > 0 && m->unified) m->memory = memory * (double)LR_GIB;
    s->n = 1;
    return true;
}

/* ---------------------------------------------------------------- models of claims */
static bool find_model(const lr_catalogue *cat, const char *words, const char *format, lr_plan_model *out)
{
    larder_error err = {0};
    lr_quant_name q;
    lr_preset made;
    const char *f = !strcasecmp(format, "q4") || !strcasecmp(format, "int4") ? "Q4_K_M"
                    : !strcasecmp(format, "q8")                              ? "Q8_0"
                                                                             : format;
    const lr_preset *p = lr_preset_find(cat, words);
    if (!lr_quant_find(*f ? f : "F16", &q)) return false;
    if (!p) {
        char *end;
        double b = strtod(words, &end);
        if (!(b > 0) || (*end != 'b' && *end != 't')) return false;
        lr_preset_of_size(b * (*end == 't' ? 1e12 : 1e9), &made);
        p = &made;
    }
    return lr_plan_model_preset(p, &q, out, &err) == LARDER_OK;
}

static const char *const any_format[] = {"Q2_K", "Q3_K_M", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16"};

/* ---------------------------------------------------------------- figures of the catalogue */
static void judge_range(lr_claim *c, const subject *s, double (*of)(const lr_machine *), double unit, bool ceiling,
                        const char *what)
{
    double lo = INFINITY, hi = 0;
    char text[160];
    for (int i = 0; i < s->n; i++) {
        double v = of(&s->m[i]) / unit;
        if (!(v > 0)) continue;
        lo = LR_MIN(lo, v);
        hi = LR_MAX(hi, v);
    }
    if (!(hi > 0)) {
        say(c, LR_CLAIM_UNCHECKABLE, false, "the catalogue has no figure for %s of %s", what, c->machine);
        return;
    }
    (void)snprintf(text, sizeof text, "%s of %.60s", what, s->n > 1 ? c->machine : s->m[0].name);
    against(c, lo, hi, ceiling, text);
}

static double bw_of(const lr_machine *m) { return m->bw * m->count; }
static double memory_of(const lr_machine *m) { return m->memory * m->count / (double)LR_GIB * GB; }

static void judge_bandwidth(lr_claim *c, const subject *s)
{
    const lr_machine *m = &s->m[0];
    if (s->n == 1 && m->bw_high > 0) {
        char text[128];
        (void)snprintf(text, sizeof text, "%.60s: no figure was published; a 256-bit bus gives 273, 512 bits 546",
                       m->name);
        against(c, m->bw_low * 1e-9, m->bw_high * 1e-9, true, text);
        return;
    }
    judge_range(c, s, bw_of, GB, true, "memory bandwidth");
}

static void judge_memory(const lr_catalogue *cat, lr_claim *c, const subject *s, bool has_machine)
{
    lr_plan_model model;
    if (*c->model) {
        if (!find_model(cat, c->model, c->format, &model)) {
            say(c, LR_CLAIM_UNCHECKABLE, false, "no such model: %s", c->model);
            return;
        }
        char text[160];
        (void)snprintf(text, sizeof text, "%.2fB parameters x %.2f bits / 8", model.total * 1e-9,
                       8 * model.file_bytes / model.total);
        against(c, model.file_bytes / GB * 0.9, model.file_bytes / GB * 1.1, true, text);
        lr_plan_model_close(&model);
        if (c->verdict == LR_CLAIM_CONTRADICTED) c->verdict = LR_CLAIM_IMPOSSIBLE;
        return;
    }
    if (!has_machine) return;
    const lr_machine *m = &s->m[0];
    if (s->n == 1 && holds(c->qualifier, "maximum")) {
        char v[64];
        lr_machine whole = cat->machines[m->id];
        double most = memory_of(&whole) / GB;
        if (most > highest(c))
            say(c, LR_CLAIM_CONTRADICTED, true, "%s is sold with up to %.0f GB; claimed as the maximum: %s",
                whole.name, most, value(c, v));
        else against(c, most, most, true, "memory sold");
        return;
    }
    if (s->n == 1 && !strcmp(m->status, "rumoured")) {
        say(c, LR_CLAIM_CONSISTENT, true,
            "a rumour of %.0f GB; what was sold: M4 Max with up to 128 GB, M3 Ultra with up to 512", c->high);
        return;
    }
    if (s->n > 1 && isinf(c->low)) { /* "at most" for a group: the largest counts */
        double most = 0;
        const char *who = "";
        for (int i = 0; i < s->n; i++)
            if (s->m[i].memory > most) most = s->m[i].memory, who = s->m[i].name;
        most = most / (double)LR_GIB;
        say(c, most <= highest(c) ? LR_CLAIM_CONSISTENT : LR_CLAIM_CONTRADICTED, true,
            "the largest is %s with %.0f GB", who, most);
        return;
    }
    judge_range(c, s, memory_of, GB, true, "memory");
}

static double compute_of(const lr_machine *m, const char *format)
{
    double plain = LR_MAX(m->fp32, 0);
    if (holds(format, "fp4")) return m->fp4 * (holds(format, "sparse") ? 2 : 1);
    if (holds(format, "fp8")) return m->fp8;
    if (holds(format, "bf16")) return LR_MAX(plain, m->bf16);
    return LR_MAX(plain, LR_MAX(m->f16, m->bf16));
}

static void judge_compute(lr_claim *c, const subject *s)
{
    const lr_machine *m = &s->m[0];
    char text[192];
    double hi = compute_of(m, c->format) * 1e-12, lo = hi;
    if (holds(c->format, "fp4")) { /* the vendor's headline and what was measured */
        lo = hi;
        hi = LR_MAX(hi, m->gen == LR_GEN_GB10 ? (holds(c->format, "sparse") ? 1000.0 : 500.0) : hi);
    }
    if (!holds(c->format, "fp4") && m->fp32 > 0) lo = LR_MIN(hi, m->fp32 * 1e-12);
    (void)snprintf(text, sizeof text, "%.50s, %s: shaders %.4g, matrix units %.4g TFLOPS dense", m->name, c->format,
                   m->fp32 * 1e-12, hi);
    against(c, lo, hi * 1.02, true, text);
}

/* ---------------------------------------------------------------- decode */
typedef struct reading {
    double predicted, low, ceiling;
    int count;
    double bw;
    char what[160];
    bool holds;
} reading;

static void try_reading(const lr_machine *m, const lr_plan_model *model, bool split, double depth,
                        const char *backend, reading *best, const lr_claim *c)
{
    lr_setup s = lr_setup_usual(m);
    lr_features f;
    lr_prediction p;
    if (*backend) (void)lr_setup_find(backend, "", m, &s);
    s.tensor_split = split;
    lr_features_make(m, model, &s, LR_TASK_DECODE, 1, 1, depth, &f);
    lr_predict(&f, &p);
    bool ok = highest(c) >= 0.6 * p.low && lowest(c) <= p.ceiling;
    double off = fabs(log(LR_MAX(isinf(c->high) ? c->low : (LR_MAX(c->low, 0.05) + c->high) / 2, 0.01) / p.rate));
    double best_off = fabs(log(LR_MAX(isinf(c->high) ? c->low : (LR_MAX(c->low, 0.05) + c->high) / 2, 0.01) /
                               LR_MAX(best->predicted, 1e-9)));
    if (best->count && (best->holds > ok || (best->holds == ok && best_off <= off))) return;
    *best = (reading){.predicted = p.rate,
                      .low = p.low,
                      .ceiling = p.ceiling,
                      .count = m->count,
                      .bw = m->bw * m->count,
                      .holds = ok};
    (void)snprintf(best->what, sizeof best->what, "%d x %.28s, %.40s %.12s, depth %.0f", m->count, m->name,
                   model->name, model->quant, depth);
}

static void judge_decode(const lr_catalogue *cat, lr_claim *c, subject *s)
{
    reading best = {0};
    char v[64];
    bool offloaded = holds(c->workload, "offload");
    double depths[2] = {holds(c->workload, "32K") ? 32768 : 512, 512};
    for (size_t k = 0; k < LR_LEN(any_format); k++) {
        lr_plan_model model;
        if (*c->format && k) break;
        if (!find_model(cat, c->model, *c->format ? c->format : any_format[k], &model)) continue;
        for (int count = 1; count <= (s->open_count ? 8 : 1) && !(s->open_count && best.holds); count++) {
            lr_machine m = s->m[0];
            if (s->open_count) m.count = count;
            if (offloaded) m.host_bw = 70e9;
            if (s->open_count && !lr_machine_holds(&m, model.file_bytes)) continue;
            for (int d = 0; d < 2; d++)
                for (int split = 0; split <= (s->open_count ? 1 : 0); split++)
                    try_reading(&m, &model, split, depths[d], "", &best, c);
        }
        lr_plan_model_close(&model);
    }
    c->needs_bw = best.count && c->low > 0 ? lowest(c) / best.ceiling * best.bw : 0;
    if (!best.count) say(c, LR_CLAIM_UNCHECKABLE, false, "no such model: %s", c->model);
    else if (lowest(c) > best.ceiling)
        say(c, LR_CLAIM_IMPOSSIBLE, true, "%s: bytes over bandwidth allow at most %.1f tok/s; claimed %s", best.what,
            best.ceiling, value(c, v));
    else if (highest(c) < 0.6 * best.low)
        say(c, LR_CLAIM_BELOW, true, "%s: %.1f tok/s expected (%.1f at the low end), ceiling %.1f; claimed %s",
            best.what, best.predicted, best.low, best.ceiling, value(c, v));
    else
        say(c, LR_CLAIM_CONSISTENT, true, "%s: %.1f tok/s expected, ceiling %.1f; claimed %s", best.what,
            best.predicted, best.ceiling, value(c, v));
}

/* ---------------------------------------------------------------- capacity */
static void judge_fits(const lr_catalogue *cat, lr_claim *c, const subject *s)
{
    lr_plan_model model;
    const lr_machine *found = NULL;
    const char *format = c->format;
    if (!find_model(cat, c->model, *format ? format : "Q4_K_M", &model)) {
        say(c, LR_CLAIM_UNCHECKABLE, false, "no such model: %s", c->model);
        return;
    }
    double need = model.file_bytes, most = 0;
    for (int i = 0; i < s->n; i++) {
        most = LR_MAX(most, s->m[i].memory);
        if (s->m[i].memory * 0.985 >= need &&
            (!found || (s->m[i].price > 0 && (!(found->price > 0) || s->m[i].price < found->price))))
            found = &s->m[i];
    }
    bool claimed = c->low > 0.5, does = found != NULL;
    if (claimed == does)
        say(c, LR_CLAIM_CONSISTENT, true, "%s %s needs %.0f GB; the memory is %.0f GB", model.name, model.quant,
            need / GB, most / GB);
    else if (claimed)
        say(c, LR_CLAIM_IMPOSSIBLE, true, "%s %s needs %.0f GB; the memory is %.0f GB", model.name, model.quant,
            need / GB, most / GB);
    else {
        bool narrow = found->memory * found->usable < need * 1.05;
        say(c, narrow && s->n == 1 ? LR_CLAIM_CONSISTENT : LR_CLAIM_IMPOSSIBLE, true,
            "%s %s needs %.0f GB and %s has %.0f GB%s", model.name, model.quant, need / GB, found->name,
            found->memory / GB, narrow ? " (little is left for context)" : "");
    }
    lr_plan_model_close(&model);
}

static void judge_parameters(lr_claim *c, const subject *s)
{
    const lr_machine *m = &s->m[0];
    double most = 0;
    for (int i = 0; i < s->n; i++)
        if (s->m[i].memory > most) most = s->m[i].memory, m = &s->m[i];
    bool q4 = !*c->format || holds(c->format, "q4");
    double bits = q4 ? 4.85 : 16,
           room = m->memory * m->count * (m->unified ? LR_MAX(m->usable, 0.93) : 0.95) - 1.5e9 * m->count;
    double cache = holds(c->workload, "32K") ? 0.08
                                             : 0.04; /* of the weights, roughly, for a model of grouped heads */
    double params = room / (bits / 8 * (1 + cache)) * 1e-9;
    char v[64];
    const char *fmt = "%s: (%.0f GB usable) / (%.2f bits / 8) less the cache is %.0fB parameters; claimed %s";
    if (m->gen == LR_GEN_GB10 || m->count > 1) { /* four bits even: what the claim leaves open */
        bits = 4.25;
        params = room / (bits / 8 * 1.02) * 1e-9;
    }
    double want = isinf(c->low) ? c->high : c->low;
    static const double widths[] = {16, 8.5, 6.6, 5.7};
    for (size_t k = 0; !*c->format && s->n > 1 && k < LR_LEN(widths); k++) { /* the format is left open */
        for (int i = 0; i < s->n; i++) {
            double here = (s->m[i].memory * 0.95 - 1.5e9) / (widths[k] / 8 * 1.04) * 1e-9;
            if (fabs(here / want - 1) > 0.12) continue;
            say(c, LR_CLAIM_CONSISTENT, true, fmt, s->m[i].name, s->m[i].memory * 0.95 / GB, widths[k], here,
                value(c, v));
            return;
        }
    }
    if (want > params * (1 + c->slack + 0.03))
        say(c, LR_CLAIM_IMPOSSIBLE, true, fmt, m->name, room / GB, bits, params, value(c, v));
    else if (!isinf(c->high) && highest(c) < 0.7 * params)
        say(c, LR_CLAIM_BELOW, true, fmt, m->name, room / GB, bits, params, value(c, v));
    else say(c, LR_CLAIM_CONSISTENT, true, fmt, m->name, room / GB, bits, params, value(c, v));
}

/* ---------------------------------------------------------------- power, price, links */
/* Boxes by what Apple says they draw at most. */
static bool judge_box(lr_claim *c)
{
    static const struct {
        const char *machine;
        double most;
        const char *why;
    } boxes[] = {{"mac-mini", 140, "Mac mini (M4 Pro): 140 W at most, Apple's power table"},
                 {"mac-studio-max", 145, "Mac Studio (M2 Max, M4 Max): 145 W at most, Apple's power table"},
                 {"mac-studio-ultra", 295, "Mac Studio (M2 Ultra): 295 W at most, Apple's power table"}};
    for (size_t i = 0; i < LR_LEN(boxes); i++) {
        if (strcmp(c->machine, boxes[i].machine)) continue;
        against(c, boxes[i].most * 0.95, boxes[i].most * 1.05, false, boxes[i].why);
        return true;
    }
    return false;
}

static void judge_power(lr_claim *c, const subject *s)
{
    const lr_machine *m = &s->m[0];
    char text[160];
    double top = m->load_w;
    if (holds(c->machine, "gb10")) {
        against(c, top, top, false, "the chip's limit");
        return;
    }
    if (!(top > 0)) {
        say(c, LR_CLAIM_UNCHECKABLE, false, "the catalogue has no power of %s", m->name);
        return;
    }
    bool card = is_card(m);
    double lo = card ? 0.6 * top : 0.3 * top, hi = m->gen == LR_GEN_GB10      ? 240
                                                   : m->kind == LR_KIND_APPLE ? LR_MAX(1.3 * top, 40)
                                                                              : 1.05 * top;
    (void)snprintf(text, sizeof text, "power of %.50s under load (%.0f W chip or card, system up to %.0f)", m->name,
                   top, hi);
    against(c, isinf(c->low) ? 0 : lo, hi, false, text);
}

static void judge_multi_power(const lr_catalogue *cat, lr_claim *c)
{
    lr_machine m;
    if (!lr_machine_find(cat, "RTX 4090", LR_WANT_GPU, &m)) return;
    char text[128];
    (void)snprintf(text, sizeof text,
                   "70B in 4 bits takes two cards of 24 GB: 2 x %.0f to 2 x %.0f W and 100 W of the PC",
                   0.5 * m.load_w, m.load_w);
    against(c, m.load_w + 100, 2 * m.load_w + 100, false, text);
}

static void judge_link(lr_claim *c)
{
    double lanes = 32e9 * 16 * 128 / 130 / 8 / GB; /* GT/s x lanes x coding */
    if (holds(c->machine, "pcie5")) {
        if (holds(c->workload, "achieved"))
            against(c, 0.8 * lanes, 0.92 * lanes, true,
                    "PCIe 5.0 x16: 32 GT/s x 16 x 128/130 / 8 = 63, of which 80 to 92% arrive");
        else against(c, lanes, lanes * 1.02, true, "PCIe 5.0 x16: 32 GT/s x 16 x 128/130 / 8");
    } else if (holds(c->machine, "4090") || holds(c->machine, "7900")) {
        against(c, 0.8 * lanes / 2, lanes / 2, true, "this card has PCIe 4.0 x16: 16 GT/s x 16 x 128/130 / 8");
    } else if (holds(c->workload, "CPU-GPU")) {
        against(c, 300, 600, true, "NVLink-C2C of this chip: 600 GB/s in both directions together");
    } else if (holds(c->machine, "spark")) {
        against(c, 25, 25, true, "ConnectX-7, 200 Gbit/s / 8 (the two units are joined by it, not by NVLink-C2C)");
    }
}

static void judge_bytes_time(lr_claim *c)
{
    char v[64];
    if (!strcmp(c->metric, "layer_swap")) {
        double layer = 42.5e9 / 80, slow = layer / 25e9 * 1e3;
        say(c, highest(c) >= layer / 31.5e9 * 1e3 * 0.6 ? LR_CLAIM_CONSISTENT : LR_CLAIM_BELOW, true,
            "a layer of a 70B model is 42.5 GB / 80 = %.0f MB in 4 bits; at 25 to 31.5 GB/s of PCIe 4.0 that is %.0f "
            "to %.0f ms; claimed %s",
            layer * 1e-6, layer / 31.5e9 * 1e3, slow, value(c, v));
        return;
    }
    double share = (42.5e9 - 23e9) / 42.5e9, best = 42.5e9 * share / 60e9 + 23e9 / 1008e9, worst = 141e9 / 2.5e9;
    say(c,
        lowest(c) > worst             ? LR_CLAIM_CONTRADICTED
        : lowest(c) > 5 && *c->format ? LR_CLAIM_BELOW
                                      : LR_CLAIM_CONSISTENT,
        true,
        "the format is open: in 4 bits %.1f GB stay outside the card; read at 60 GB/s they take %.2f s a token; 16 "
        "bits from a disk of 2.5 GB/s take %.0f s; claimed %s",
        42.5 * share, best, worst, value(c, v));
}

static void judge_cagr(lr_claim *c)
{
    double years = 0, y0, y1, a, b;
    if (sscanf(c->workload, "%lf to %lf, %lf to %lf", &y0, &y1, &a, &b) == 4) years = y1 - y0;
    if (!(years > 0) || !(a > 0) || !(b > 0)) return;
    double rate = (pow(b / a, 1 / years) - 1) * 100, odd = (pow(b / a, 1 / (years + 1)) - 1) * 100;
    char v[64];
    bool ok = rate >= c->low - 0.75 && rate <= c->high + 0.75;
    say(c, ok ? LR_CLAIM_CONSISTENT : LR_CLAIM_IMPOSSIBLE, true,
        "(%.3g / %.3g)^(1/%.0f) - 1 = %.1f%%; claimed %s%% (%.1f%% would be %.0f years)", b, a, years, rate,
        value(c, v), odd, years + 1);
}

/* ---------------------------------------------------------------- one machine against another */
static bool other_machine(const lr_catalogue *cat, const char *metric, subject *out)
{
    const char *vs = strstr(metric, "_vs_");
    char words[96];
    if (!vs) return false;
    (void)snprintf(words, sizeof words, "%.90s", vs + 4);
    if (holds(words, "m_series")) (void)snprintf(words, sizeof words, "m4 max");
    if (holds(words, "orin_nx")) (void)snprintf(words, sizeof words, "jetson orin nx");
    if (holds(words, "pc_with_a100")) (void)snprintf(words, sizeof words, "a100");
    if (!strcmp(words, "m2_mini_8")) (void)snprintf(words, sizeof words, "m2 8c");
    if (!strcmp(words, "m4_mini_16")) (void)snprintf(words, sizeof words, "m4 10c");
    return find_subject(cat, words, out);
}

/* Rates of both for one model that both hold, and their ratio. */
static double decode_ratio(const lr_catalogue *cat, const lr_claim *c, const lr_machine *a, const lr_machine *b,
                           bool prefill, double users, char *what, size_t cap)
{
    lr_plan_model model;
    lr_prediction p[2];
    const lr_machine *m[2] = {a, b};
    double room = LR_MIN(a->memory * a->usable * a->count, b->memory * b->usable * b->count);
    const char *name = *c->model && lr_preset_find(cat, c->model) ? c->model
                       : room > 50e9                              ? "llama-3.1-70b"
                                                                  : "llama-3.1-8b";
    const char *format = *c->format && !holds(c->format, "gguf") ? c->format : "q4";
    if (holds(c->model, "small")) name = "llama-3.1-8b";
    if (!find_model(cat, name, format, &model)) return 0;
    for (int i = 0; i < 2; i++) {
        lr_setup s = lr_setup_usual(m[i]);
        lr_features f;
        lr_features_make(m[i], &model, &s, prefill ? LR_TASK_PREFILL : LR_TASK_DECODE, prefill ? 2048 : users,
                         prefill ? 1 : users, 512, &f);
        lr_predict(&f, &p[i]);
    }
    (void)snprintf(what, cap, "%s of %s %s: %.1f against %.1f tok/s",
                   prefill     ? "prefill"
                   : users > 1 ? "batched decode"
                               : "decode",
                   model.name, model.quant, p[0].rate, p[1].rate);
    lr_plan_model_close(&model);
    return p[0].rate / p[1].rate;
}

static void judge_ratio(const lr_catalogue *cat, lr_claim *c, subject *s)
{
    static _Thread_local subject o;
    const lr_machine *a = &s->m[0], *b = &o.m[0];
    char text[256], v[64];
    if (!other_machine(cat, c->metric, &o)) {
        say(c, LR_CLAIM_UNCHECKABLE, false, "what it is compared with is not in the catalogue");
        return;
    }
    double ratio = 0, wide = 1.25;
    if (!strncmp(c->metric, "memory_bandwidth_vs", 19)) {
        ratio = a->bw / b->bw;
        wide = 1.1;
        (void)snprintf(text, sizeof text, "%.0f / %.0f GB/s", a->bw / GB, b->bw / GB);
    } else if (!strncmp(c->metric, "bandwidth_vs_thunderbolt5", 25)) {
        return;
    } else if (!strncmp(c->metric, "compute_vs", 10)) {
        ratio = LR_MAX(a->bf16, a->f16) / LR_MAX(b->fp32, b->f16);
        (void)snprintf(text, sizeof text, "%.0f / %.1f TFLOPS of 16-bit matrices", LR_MAX(a->bf16, a->f16) * 1e-12,
                       LR_MAX(b->fp32, b->f16) * 1e-12);
    } else if (!strncmp(c->metric, "price_vs", 8)) {
        if (!(a->price > 0) || !(b->price > 0)) return;
        double extra = holds(c->metric, "pc_with") ? 1500 : 0, mine = holds(c->machine, "macbook") ? 7199 : a->price;
        ratio = mine / (b->price + extra);
        (void)snprintf(text, sizeof text, "%.0f / %.0f USD", mine, b->price + extra);
    } else if (!strncmp(c->metric, "memory_vs", 9)) {
        double usable = 0.75 * a->memory;
        ratio = usable / b->memory;
        wide = 1.35;
        (void)snprintf(text, sizeof text, "%.0f GB (three quarters) to %.0f GB (all) / %.0f GB", usable / GB,
                       a->memory / GB, b->memory / GB);
    } else if (!strncmp(c->metric, "sustained_vs", 12)) {
        ratio = a->bw_low > 0 ? (a->bw_low + a->bw_high) / 2 / b->bw : a->bw / b->bw;
        wide = 3;
        (void)snprintf(text, sizeof text,
                       "decode follows bandwidth (%.0f to %.0f against %.0f GB/s), prefill arithmetic (%.0f against "
                       "%.0f TFLOPS)",
                       a->bw_low / GB, a->bw_high / GB, b->bw / GB, a->bf16 * 1e-12, b->fp32 * 1e-12);
    } else if (!strncmp(c->metric, "decode_vs", 9)) {
        ratio = decode_ratio(cat, c, a, b, false, 1, text, sizeof text);
        if (a->bw_high > 0) wide = a->bw_high / a->bw * 2.1;
        if (s->n > 1) { /* some of a group: the fastest counts */
            for (int i = 0; i < s->n; i++) {
                char t[256];
                double r = decode_ratio(cat, c, &s->m[i], b, false, 1, t, sizeof t);
                if (fabs(r - c->low) < fabs(ratio - c->low)) {
                    ratio = r;
                    (void)snprintf(text, sizeof text, "%.40s: %.190s", s->m[i].name, t);
                }
            }
        }
    } else if (!strncmp(c->metric, "speed_vs", 8)) {
        if (holds(c->machine, "no-accelerator")) {
            ratio = 0;
            for (int i = 0; i < s->n; i++) {
                char t[256];
                double r = decode_ratio(cat, c, &s->m[i], b, false, 1, t, sizeof t);
                if (r > ratio) {
                    ratio = r;
                    (void)snprintf(text, sizeof text, "the fastest, %.40s: %.180s", s->m[i].name, t);
                }
            }
        } else if (*c->model && holds(c->model, "diffusion")) {
            ratio = LR_MAX(a->bf16, a->f16) / LR_MAX(b->fp32, b->f16);
            (void)snprintf(text, sizeof text, "image models are bound by arithmetic: %.0f / %.1f TFLOPS",
                           LR_MAX(a->bf16, a->f16) * 1e-12, LR_MAX(b->fp32, b->f16) * 1e-12);
            wide = 1.6;
        } else if (holds(c->workload, "compute") || holds(c->workload, "prefill") ||
                   holds(c->workload, "AI workloads")) {
            double by_rate = LR_MAX(a->bf16, a->f16) / LR_MAX(b->fp32, b->f16);
            ratio = decode_ratio(cat, c, a, b, true, 1, text, sizeof text);
            size_t n = strlen(text);
            (void)snprintf(text + n, sizeof text - n, "; arithmetic x%.1f", by_rate);
            wide = LR_MAX(1.3, by_rate / LR_MAX(ratio, 0.1));
        } else {
            ratio = decode_ratio(cat, c, a, b, false, 1, text, sizeof text);
            wide = 1.7;
        }
    }
    if (!(ratio > 0)) return;
    double lo = ratio / wide, hi = ratio * wide;
    if (highest(c) >= lo && lowest(c) <= hi)
        say(c, LR_CLAIM_CONSISTENT, true, "%.250s: x%.2f; claimed %s times", text, ratio, value(c, v));
    else if (!strncmp(c->metric, "price", 5) || !strncmp(c->metric, "memory_vs", 9) || c->guess)
        say(c, LR_CLAIM_CONTRADICTED, true, "%.250s: x%.2f; claimed %s times", text, ratio, value(c, v));
    else
        say(c, lowest(c) > hi ? LR_CLAIM_IMPOSSIBLE : LR_CLAIM_CONTRADICTED, true, "%.250s: x%.2f; claimed %s times",
            text, ratio, value(c, v));
}

/* ---------------------------------------------------------------- the rest */
static void judge_achieved(lr_claim *c, const subject *s)
{
    const lr_machine *m = &s->m[0];
    double hi = m->bw / GB;
    char text[160];
    (void)snprintf(text, sizeof text,
                   "3 x 10M x 4 bytes at most %.0f GB/s (%.50s); well-made kernels reach 75 to 97%%", hi, m->name);
    against(c, 0.75 * hi, 0.97 * hi, true, text);
}

static void judge_winner(const lr_catalogue *cat, lr_claim *c)
{
    lr_machine spark, apple;
    char a[256], b[256];
    if (!lr_machine_find(cat, "DGX Spark", LR_WANT_GPU, &spark) ||
        !lr_machine_find(cat, "M4 Max 40c", LR_WANT_GPU, &apple))
        return;
    bool for_apple = holds(c->machine, "apple");
    if (holds(c->workload, "single")) {
        double r = decode_ratio(cat, c, &apple, &spark, false, 1, a, sizeof a);
        say(c, (r > 1) == for_apple ? LR_CLAIM_CONSISTENT : LR_CLAIM_CONTRADICTED, true,
            "M4 Max against DGX Spark, %.200s: x%.2f", a, r);
    } else {
        double r = decode_ratio(cat, c, &spark, &apple, true, 1, a, sizeof a);
        double rate = LR_MAX(spark.bf16, spark.f16) / apple.fp32;
        (void)snprintf(b, sizeof b, "DGX Spark against M4 Max: arithmetic x%.1f, %.180s (x%.1f)", rate, a, r);
        say(c, (LR_MIN(r, rate) > 1) != for_apple ? LR_CLAIM_CONSISTENT : LR_CLAIM_CONTRADICTED, true, "%s", b);
    }
}

static void judge_only(const lr_catalogue *cat, lr_claim *c)
{
    lr_machine m;
    lr_plan_model model;
    if (!lr_machine_find(cat, "Jetson AGX Thor", LR_WANT_GPU, &m) || !find_model(cat, "200b", "NVFP4", &model))
        return;
    double need = model.file_bytes;
    say(c, lr_machine_holds(&m, need) && m.price < 5000 ? LR_CLAIM_CONTRADICTED : LR_CLAIM_CONSISTENT, true,
        "200B in 4 bits is %.0f GB; %s has %.0f GB, CUDA, and costs %.0f USD", need / GB, m.name, m.memory / GB,
        m.price);
    lr_plan_model_close(&model);
}

static void judge_other(const lr_catalogue *cat, lr_claim *c, const subject *s, bool has)
{
    const char *metric = c->metric;
    if (!strcmp(metric, "is_fp4"))
        say(c, LR_CLAIM_IMPOSSIBLE, true,
            "Q4_K is an integer format: 256 weights of 4 bits with 6-bit scales and minima, 144 bytes = 4.5 bits a "
            "weight; FP4 (E2M1) is another");
    else if (!strcmp(metric, "winner")) judge_winner(cat, c);
    else if (!strcmp(metric, "only_device")) judge_only(cat, c);
    else if (!strcmp(metric, "compute_between_rtx_5070_and_5070_ti")) {
        lr_machine a, b;
        if (has && lr_machine_find(cat, "RTX 5070", LR_WANT_GPU, &a) &&
            lr_machine_find(cat, "RTX 5070 Ti", LR_WANT_GPU, &b))
            say(c, s->m[0].fp4 >= 0.8 * a.fp4 && s->m[0].fp4 <= b.fp4 ? LR_CLAIM_CONSISTENT : LR_CLAIM_CONTRADICTED,
                true,
                "dense FP4: GB10 %.0f, RTX 5070 %.0f, RTX 5070 Ti %.0f TFLOPS; with half the bandwidth of either",
                s->m[0].fp4 * 1e-12, a.fp4 * 1e-12, b.fp4 * 1e-12);
    } else if (!strcmp(metric, "speedup"))
        say(c, LR_CLAIM_CONSISTENT, true,
            "decode cannot gain 2.5 from software (it was above 40%% of 273 GB/s already); prefill can: 1344 to 2444 "
            "tok/s (x1.8) was measured for gpt-oss-120b, and 4-bit floats double int8's rate");
    else if (!strcmp(metric, "bandwidth_vs_thunderbolt5"))
        say(c, LR_CLAIM_CONSISTENT, true, "ConnectX-7 200 Gbit/s / Thunderbolt 5 80 Gbit/s = x2.5");
    else if (!strcmp(metric, "supported") && holds(c->machine, "mps"))
        say(c, LR_CLAIM_CONSISTENT, false,
            "Metal's shading language and MPS have no 8-bit float type; weights can be stored so and widened");
    else if (!strcmp(metric, "supported"))
        say(c, LR_CLAIM_CONTRADICTED, true,
            "no fast link of its own, but engines split models over Thunderbolt (80 to 120 Gbit/s, 10 to 15 GB/s)");
    else if (!strcmp(metric, "gpu_in_containers"))
        say(c, LR_CLAIM_CONSISTENT, false,
            "Metal is not passed into Linux containers; forwarding Vulkan (libkrun) is partial");
    else if (!strcmp(metric, "practical")) {
        double have = has ? s->m[0].memory / GB : 128;
        say(c, LR_CLAIM_CONSISTENT, true,
            "full training keeps 16 bytes a parameter: 70B takes 1120 GB, %.0f GB hold 8B; LoRA of 8B is possible",
            have);
    }
}

static double special_price(const lr_claim *c)
{
    if (holds(c->machine, "macbook-pro-m3-max-128")) return 7199;
    if (holds(c->machine, "macbook-pro-m5-max")) return 3599;
    if (holds(c->machine, "mac-studio-m4-max-128")) return 3699;
    if (holds(c->machine, "workstation-rtx-4090")) return 4300;
    return 0;
}

static void judge_price(lr_claim *c, const subject *s, bool has)
{
    double known = special_price(c);
    char text[128], v[64];
    if (has && s->n == 1 && (!strcmp(s->m[0].status, "rumoured") || !strcmp(s->m[0].status, "predicted"))) {
        say(c, LR_CLAIM_UNCHECKABLE, false,
            "it was never sold; its memory alone (%.0f GB at 8 to 15 USD) would cost %.0f to %.0f USD",
            s->m[0].memory / GB, 8 * s->m[0].memory / GB, 15 * s->m[0].memory / GB);
        return;
    }
    if (!known && (!has || !(s->m[0].price > 0))) return;
    double price = known > 0 ? known : s->m[0].price;
    if (!known && s->m[0].unified && s->m[0].kind == LR_KIND_APPLE && s->m[0].memory < 0.9 * 549e9 &&
        holds(c->machine, "m3-ultra-128")) {
        say(c, LR_CLAIM_CONTRADICTED, true,
            "M3 Ultra is sold with 96, 256 or 512 GB, from %.0f USD with 96; there is none with 128", 3999.0);
        return;
    }
    if (!known && holds(c->machine, "m3-ultra-192")) {
        say(c, LR_CLAIM_CONTRADICTED, true,
            "M3 Ultra is sold with 96 (3999 USD), 256 (5599) or 512 GB (9499); 192 GB was M2 Ultra; claimed %s",
            value(c, v));
        return;
    }
    (void)snprintf(text, sizeof text, "list price of %.60s and a fifth around it",
                   known > 0 ? c->machine : s->m[0].name);
    against(c, 0.8 * price, 1.25 * price, false, text);
    if (c->verdict == LR_CLAIM_BELOW) c->verdict = LR_CLAIM_CONTRADICTED; /* nobody sells it for that */
}

static void judge_one(const lr_catalogue *cat, lr_claim *c, subject *s)
{
    bool has = find_subject(cat, c->machine, s);
    const char *m = c->metric;
    say(c, LR_CLAIM_UNCHECKABLE, false, "nothing in the catalogue speaks to it");
    if (!strcmp(m, "memory_bandwidth") && has) judge_bandwidth(c, s);
    else if (!strcmp(m, "memory")) judge_memory(cat, c, s, has);
    else if (!strcmp(m, "compute") && has) judge_compute(c, s);
    else if (!strcmp(m, "decode") && has) judge_decode(cat, c, s);
    else if (!strcmp(m, "fits") && has) judge_fits(cat, c, s);
    else if (!strcmp(m, "max_parameters") && has) judge_parameters(c, s);
    else if (!strcmp(m, "power") && !strcmp(c->machine, "multi-gpu-workstation")) judge_multi_power(cat, c);
    else if (!strcmp(m, "power") && judge_box(c)) return;
    else if (!strcmp(m, "power") && has) judge_power(c, s);
    else if (!strcmp(m, "price")) judge_price(c, s, has);
    else if (!strcmp(m, "link_bandwidth")) judge_link(c);
    else if (!strcmp(m, "layer_swap") || !strcmp(m, "seconds_per_token")) judge_bytes_time(c);
    else if (!strcmp(m, "cagr")) judge_cagr(c);
    else if (!strcmp(m, "achieved_bandwidth") && has) judge_achieved(c, s);
    else if (strstr(m, "_vs_") && strcmp(m, "bandwidth_vs_thunderbolt5") && has) judge_ratio(cat, c, s);
    else judge_other(cat, c, s, has);
    if (c->verdict == LR_CLAIM_IMPOSSIBLE && c->guess) c->verdict = LR_CLAIM_CONTRADICTED;
}

/* ---------------------------------------------------------------- claim against claim */
static void mark(lr_claim *a, const lr_claim *b)
{
    size_t n = strlen(a->against);
    if (n + strlen(b->id) + 3 < sizeof a->against)
        (void)snprintf(a->against + n, sizeof a->against - n, "%s%s", n ? " " : "", b->id);
}

/* The same thing under another name: memory sizes and announcement do not change what a chip is. */
static void thing(const lr_catalogue *cat, const lr_claim *c, char out[96])
{
    static _Thread_local subject s;
    bool chip = !strcmp(c->metric, "memory_bandwidth") || !strcmp(c->metric, "compute") ||
                !strcmp(c->metric, "achieved_bandwidth") || !strcmp(c->metric, "power") ||
                !strcmp(c->metric, "decode") || !strcmp(c->metric, "max_parameters") || !strcmp(c->metric, "price");
    (void)snprintf(out, 96, "%.90s", c->machine);
    if (!chip || strncmp(c->machine, "multi", 5) == 0 || !find_subject(cat, c->machine, &s) || s.n != 1) return;
    (void)snprintf(out, 96, "%.80s%s", s.m[0].gen == LR_GEN_GB10 && s.m[0].count == 1 ? "GB10" : s.m[0].name,
                   !strcmp(c->metric, "price") ? c->machine : "");
    if (!strcmp(c->metric, "price") && holds(c->machine, "dgx-spark")) (void)snprintf(out, 96, "dgx spark");
}

static bool differ(const lr_claim *a, const lr_claim *b)
{
    double slack = LR_MAX(a->slack, b->slack);
    double a_low = a->low - fabs(a->low) * slack, a_high = a->high + fabs(a->high) * slack;
    return a_low > b->high || a_high < b->low;
}

static bool same_task(const lr_claim *a, const lr_claim *b)
{
    if (strcmp(a->metric, b->metric) || strcmp(a->model, b->model)) return false;
    if (*a->format && *b->format && strcmp(a->format, b->format)) return false;
    if (!strcmp(a->metric, "decode") && strcmp(a->format, b->format))
        return false; /* a format left open may be another */
    if (!strcmp(a->metric, "power") || !strcmp(a->metric, "link_bandwidth")) return !strcmp(a->workload, b->workload);
    if (!strcmp(a->metric, "achieved_bandwidth")) return true;
    return true;
}

static double memory_named(const lr_catalogue *cat, const char *words)
{
    static _Thread_local subject s;
    return find_subject(cat, words, &s) && s.n == 1 ? s.m[0].memory * s.m[0].count : INFINITY;
}

static void across(const lr_catalogue *cat, lr_claim *all, size_t n, char (*names)[96])
{
    /* what fits against what is said to be the largest that fits; a ratio against the winner */
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < n; k++) {
            lr_claim *a = &all[i], *b = &all[k];
            bool clash = false;
            if (!strcmp(a->metric, "fits") && a->low < 0.5 && !strcmp(b->metric, "max_parameters") &&
                !strcmp(a->machine, b->machine)) {
                char *end;
                double size = strtod(a->model, &end);
                clash = size > 0 && *end == 'b' && b->low >= size && !isinf(b->low);
            }
            if (!strcmp(a->metric, "decode_vs_dgx_spark") && a->high < 1 && !strcmp(b->metric, "winner") &&
                holds(b->machine, "apple"))
                clash = true;
            if (!strcmp(a->metric, "decode_vs_m3_ultra") && a->low > 1 && !strcmp(b->metric, "winner") &&
                holds(b->machine, "apple"))
                clash = true;
            /* a rate that needs more bandwidth than another claim gives the machine */
            if (a->needs_bw > 0 && !strcmp(b->metric, "memory_bandwidth") && !strcmp(names[i], names[k]) &&
                a->needs_bw > b->high * 1e9 * (1 + b->slack))
                clash = true;
            /* fits, but another says it takes more than there is */
            if (!strcmp(a->metric, "fits") && a->low > 0.5 && !strcmp(b->metric, "memory") && *b->model &&
                !strcmp(a->model, b->model) && !strcmp(a->format, b->format) &&
                b->low * 1e9 > memory_named(cat, a->machine))
                clash = true;
            if (!strcmp(a->metric, "max_parameters") && !strcmp(a->machine, "nvidia-consumer") &&
                !strcmp(b->metric, "max_parameters") && !strncmp(b->machine, "rtx-", 4) && !b->guess &&
                b->low > a->high)
                clash = true;
            if (!strcmp(a->metric, "layer_swap") && !strcmp(b->metric, "seconds_per_token") &&
                !strcmp(a->machine, b->machine) && a->high * 1e-3 * 80 < b->low)
                clash = true; /* 80 layers */
            if (!strcmp(a->metric, "memory") && (!strcmp(a->format, "q4") || !strcmp(a->format, "q8")) &&
                a->low > 100 && !strcmp(b->metric, "memory") && !strcmp(b->format, "fp16") &&
                !strcmp(a->model, b->model))
                clash = true; /* 4 and 16 bits cannot take the same */
            if (!clash) continue;
            mark(a, b);
            mark(b, a);
        }
    }
}

larder_status lr_claims_judge(const lr_catalogue *cat, lr_claims *c, larder_error *err)
{
    subject *s = lr_alloc(sizeof *s);
    char(*names)[96] = lr_calloc(c->n + 1, sizeof *names);
    if (!s || !names) {
        lr_free(s);
        lr_free(names);
        return LR_NOMEM(err, "judging");
    }
    for (size_t i = 0; i < c->n; i++) {
        judge_one(cat, &c->all[i], s);
        thing(cat, &c->all[i], names[i]);
    }
    for (size_t i = 0; i < c->n; i++)
        for (size_t k = i + 1; k < c->n; k++)
            if (!strcmp(names[i], names[k]) && same_task(&c->all[i], &c->all[k]) && differ(&c->all[i], &c->all[k])) {
                mark(&c->all[i], &c->all[k]);
                mark(&c->all[k], &c->all[i]);
            }
    across(cat, c->all, c->n, names);
    lr_free(s);
    lr_free(names);
    return LARDER_OK;
}

/* ---------------------------------------------------------------- showing */
const char *lr_verdict_name(lr_verdict v)
{
    static const char *const names[] = {"impossible", "consistent", "below what is reachable", "contradicted",
                                        "not checkable"};
    return names[v];
}

void lr_claims_text(const lr_claims *c, lr_buf *b)
{
    size_t n[5] = {0}, with = 0, clash = 0;
    for (size_t i = 0; i < c->n; i++) {
        const lr_claim *a = &c->all[i];
        lr_buf_printf(b, "%s %s %s %s: %s\n    %s\n", a->id, a->machine, a->model, a->metric,
                      lr_verdict_name(a->verdict), a->why);
        if (*a->against) lr_buf_printf(b, "    contradicts %s\n", a->against);
        n[a->verdict]++;
        with += a->arithmetic;
        clash += *a->against != 0;
    }
    lr_buf_printf(b, "\n%zu claims, %zu with arithmetic:", c->n, with);
    for (int v = 0; v < 5; v++) lr_buf_printf(b, " %zu %s%s", n[v], lr_verdict_name((lr_verdict)v), v < 4 ? "," : "");
    lr_buf_printf(b, "; %zu contradict another\n", clash);
}

void lr_claims_json(const lr_claims *c, lr_buf *b)
{
    lr_buf_puts(b, "[");
    for (size_t i = 0; i < c->n; i++) {
        const lr_claim *a = &c->all[i];
        lr_buf_printf(b, "%s{\"id\": ", i ? ",\n " : "");
        lr_json_text(b, a->id);
        lr_buf_printf(b, ", \"verdict\": \"%s\", \"arithmetic\": %s, \"why\": ", lr_verdict_name(a->verdict),
                      a->arithmetic ? "true" : "false");
        lr_json_text(b, a->why);
        lr_buf_puts(b, ", \"contradicts\": [");
        for (const char *p = a->against; *p;) {
            size_t n = strcspn(p, " ");
            lr_buf_printf(b, "%s\"%.*s\"", p > a->against ? ", " : "", (int)n, p);
            p += n + (p[n] == ' ');
        }
        lr_buf_puts(b, "]}");
    }
    lr_buf_puts(b, "]\n");
}
