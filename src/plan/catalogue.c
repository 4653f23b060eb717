/* catalogue.c - see catalogue.h. */
#include "catalogue.h"

#include "name.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

extern const char lr_data_machines[], lr_data_models[];
extern const size_t lr_data_machines_n, lr_data_models_n;

static const struct {
    const char *name;
    lr_gen gen;
} gens[] = {
    {"kepler", LR_GEN_OLD},
    {"maxwell", LR_GEN_OLD},
    {"pascal", LR_GEN_PASCAL},
    {"volta", LR_GEN_VOLTA},
    {"turing", LR_GEN_TURING},
    {"ampere", LR_GEN_AMPERE},
    {"ampere-pro", LR_GEN_AMPERE},
    {"ampere-soc", LR_GEN_AMPERE},
    {"ampere-dc", LR_GEN_AMPERE_DC},
    {"ada", LR_GEN_ADA},
    {"ada-pro", LR_GEN_ADA},
    {"hopper", LR_GEN_HOPPER},
    {"blackwell", LR_GEN_BLACKWELL},
    {"blackwell-pro", LR_GEN_BLACKWELL},
    {"blackwell-soc", LR_GEN_GB10},
    {"blackwell-dc", LR_GEN_BLACKWELL_DC},
    {"gb10", LR_GEN_GB10},
    {"gcn4", LR_GEN_OLD},
    {"gcn5", LR_GEN_GCN},
    {"cdna1", LR_GEN_CDNA},
    {"cdna2", LR_GEN_CDNA},
    {"cdna3", LR_GEN_CDNA},
    {"cdna4", LR_GEN_CDNA},
    {"rdna1", LR_GEN_RDNA12},
    {"rdna2", LR_GEN_RDNA12},
    {"rdna3", LR_GEN_RDNA3},
    {"rdna3.5", LR_GEN_RDNA3},
    {"rdna4", LR_GEN_RDNA4},
    {"xe", LR_GEN_XE},
    {"xe2", LR_GEN_XE},
};

static lr_kind kind_of(const char *s)
{
    static const char *const names[] = {"nvidia", "amd", "intel", "apple", "cpu"};
    for (size_t i = 0; i < LR_LEN(names); i++)
        if (!strcmp(s, names[i])) return (lr_kind)i;
    return LR_KIND_CPU;
}

static lr_gen gen_of(const char *s, lr_kind kind)
{
    for (size_t i = 0; i < LR_LEN(gens); i++)
        if (!strcmp(s, gens[i].name)) return gens[i].gen;
    return kind == LR_KIND_APPLE ? LR_GEN_APPLE : LR_GEN_CPU;
}

#define COPY(dst, src) (void)snprintf(dst, sizeof(dst), "%.*s", (int)sizeof(dst) - 1, src)

/* FNV-1a: the same in every run and on every machine, for it stands in fit.def. */
uint32_t lr_name_key(const char *name)
{
    uint32_t h = 2166136261u;
    for (; *name; name++) h = (h ^ (uint8_t)*name) * 16777619u;
    return h ? h : 1;
}

/* ---------------------------------------------------------------- reading */
static larder_status number(const lr_csv *t, size_t row, const char *name, double unit, double *out,
                            larder_error *err)
{
    double v = 0;
    LR_TRY(lr_csv_number(t, row, lr_csv_col(t, name), &v, err));
    if (v < 0) return lr_fail(err, LARDER_USAGE, "row %zu: %s is negative", row + 1, name);
    *out = v * unit;
    return LARDER_OK;
}

static const char *text(const lr_csv *t, size_t row, const char *name)
{
    return lr_csv_at(t, row, lr_csv_col(t, name));
}

static larder_status read_machine(const lr_csv *t, size_t i, lr_machine *m, larder_error *err)
{
    double unified = 0, cores = 0;
    struct {
        const char *name;
        double unit, *to;
    } numbers[] = {
        {"mem", (double)LR_GIB, &m->memory},
        {"usable", 1, &m->usable},
        {"bw", 1e9, &m->bw},
        {"bwm", 1e9, &m->bw_measured},
        {"bwlo", 1e9, &m->bw_low},
        {"bwhi", 1e9, &m->bw_high},
        {"fp32", 1e12, &m->fp32},
        {"f16", 1e12, &m->f16},
        {"bf16", 1e12, &m->bf16},
        {"fp8", 1e12, &m->fp8},
        {"fp4", 1e12, &m->fp4},
        {"int8", 1e12, &m->int8},
        {"pcie", 1e9, &m->pcie},
        {"link", 1e9, &m->link},
        {"idle", 1, &m->idle_w},
        {"tdp", 1, &m->load_w},
        {"price", 1, &m->price},
        {"unified", 1, &unified},
        {"cores", 1, &cores},
    };
    *m = (lr_machine){.id = (int)i, .count = 1, .host_bw = 60e9};
    COPY(m->name, text(t, i, "name"));
    m->key = lr_name_key(m->name);
    m->kind = kind_of(text(t, i, "kind"));
    COPY(m->gen_name, text(t, i, "gen"));
    m->gen = gen_of(m->gen_name, m->kind);
    COPY(m->status, text(t, i, "status"));
    COPY(m->date, text(t, i, "date"));
    COPY(m->source, text(t, i, "source"));
    for (size_t k = 0; k < LR_LEN(numbers); k++)
        LR_TRY(number(t, i, numbers[k].name, numbers[k].unit, numbers[k].to, err));
    m->unified = unified > 0;
    m->n_core = (int)LR_MIN(cores, 1e6);
    if (!(m->bw > 0) || !(m->memory > 0) || !(m->fp32 > 0))
        return lr_fail(err, LARDER_USAGE, "machine \"%s\": memory, bandwidth and rate must be above zero", m->name);
    if (!(m->usable > 0) || m->usable > 1) m->usable = 0.95;
    return LARDER_OK;
}

static larder_status read_preset(const lr_csv *t, size_t i, lr_preset *m, larder_error *err)
{
    static const char *const names[] = {"n_layer", "n_embd", "n_head",   "n_head_kv",     "head_dim",    "n_ff",
                                        "n_vocab", "n_ctx",  "n_expert", "n_expert_used", "n_ff_expert", "window"};
    lr_shape *s = &m->shape;
    uint32_t *to[] = {&s->n_layer, &s->n_embd, &s->n_head,   &s->n_head_kv,     &s->head_dim,    &s->n_ff,
                      &s->n_vocab, &s->n_ctx,  &s->n_expert, &s->n_expert_used, &s->n_ff_expert, &s->window};
    double tied = 0, v;
    *m = (lr_preset){.match = text(t, i, "match"), .source = text(t, i, "source")};
    COPY(s->name, text(t, i, "name"));
    COPY(s->arch, text(t, i, "arch"));
    m->runs = strcmp(s->arch, "cost") != 0;
    for (size_t k = 0; k < LR_LEN(names); k++) {
        v = 0;
        LR_TRY(number(t, i, names[k], 1, &v, err));
        if (v > 1e9) return lr_fail(err, LARDER_USAGE, "model \"%s\": %s is too large", s->name, names[k]);
        *to[k] = (uint32_t)v;
    }
    LR_TRY(number(t, i, "tied", 1, &tied, err));
    LR_TRY(number(t, i, "total_b", 1e9, &m->total, err));
    LR_TRY(number(t, i, "active_b", 1e9, &m->active, err));
    LR_TRY(number(t, i, "kv_width", 1, &m->kv_width, err));
    s->tied = tied > 0;
    if (!m->runs && (!(m->total > 0) || !(m->active > 0) || m->active > m->total || !s->n_layer))
        return lr_fail(err, LARDER_USAGE, "model \"%s\": total_b, active_b and n_layer must be given", s->name);
    return LARDER_OK;
}

larder_status lr_catalogue_parse(const char *machines, size_t n_machines, const char *models, size_t n_models,
                                 lr_catalogue *out, larder_error *err)
{
    larder_status st;
    *out = (lr_catalogue){0};
    LR_GO(lr_csv_parse(machines, n_machines, &out->machine_table, err));
    LR_GO(lr_csv_parse(models, n_models, &out->model_table, err));
    out->n_machines = out->machine_table.n_rows;
    out->n_models = out->model_table.n_rows;
    out->machines = lr_calloc(out->n_machines + 1, sizeof *out->machines);
    out->machine_alias = lr_calloc(out->n_machines + 1, sizeof *out->machine_alias);
    out->models = lr_calloc(out->n_models + 1, sizeof *out->models);
    if (!out->machines || !out->machine_alias || !out->models) {
        st = LR_NOMEM(err, "the catalogue");
        goto fail;
    }
    for (size_t i = 0; i < out->n_machines; i++) {
        LR_GO(read_machine(&out->machine_table, i, &out->machines[i], err));
        out->machine_alias[i] = text(&out->machine_table, i, "match");
    }
    for (size_t i = 0; i < out->n_models; i++) LR_GO(read_preset(&out->model_table, i, &out->models[i], err));
    return LARDER_OK;
fail:
    lr_catalogue_close(out);
    return st;
}

larder_status lr_catalogue_open(lr_catalogue *out, larder_error *err)
{
    return lr_catalogue_parse(lr_data_machines, lr_data_machines_n, lr_data_models, lr_data_models_n, out, err);
}

void lr_catalogue_close(lr_catalogue *c)
{
    lr_csv_free(&c->machine_table);
    lr_csv_free(&c->model_table);
    lr_free(c->machines);
    lr_free(c->machine_alias);
    lr_free(c->models);
    *c = (lr_catalogue){0};
}

/* ---------------------------------------------------------------- machines by name */
/* "two DGX Sparks", "dual 3090"; not "dual channel", nor "Core 2 Quad". */
static int count_word(const char *s)
{
    static const struct {
        const char *word;
        int n;
    } words[] = {{"two ", 2},    {"dual ", 2}, {"twin ", 2}, {"pair of ", 2}, {"three ", 3},
                 {"triple ", 3}, {"four ", 4}, {"quad ", 4}, {"six ", 6},     {"eight ", 8}};
    for (size_t i = 0; i < LR_LEN(words); i++) {
        size_t n = strlen(words[i].word);
        const char *what = s + n;
        if (!strncasecmp(s, words[i].word, n) && strncasecmp(what, "channel", 7) && strncasecmp(what, "core", 4))
            return words[i].n;
    }
    return 1;
}

/* "2x RTX 4090", "RTX 4090 x2", "4 x A100", "Cluster (10x 16GB)". */
static int count_in(const char *s)
{
    for (const char *p = s; *p; p++) {
        if (p > s && (isalnum((unsigned char)p[-1]) || p[-1] == '-' || p[-1] == '.')) continue;
        char *end;
        long n = 0;
        if (isdigit((unsigned char)*p)) {
            n = strtol(p, &end, 10);
            while (*end == ' ') end++;
            bool times = *end == 'x' || *end == 'X' || !strncmp(end, "\xc3\x97", 2);
            /* "2xRTX3090", "4x4090"; not Mixtral's "8x7B" */
            bool glued = times && (isalpha((unsigned char)end[1]) || strspn(end + 1, "0123456789") >= 3);
            if (!times || (isalnum((unsigned char)end[1]) && *end != '\xc3' && !glued)) n = 0;
        } else if ((*p == 'x' || *p == 'X' || *p == '*') && isdigit((unsigned char)p[1])) {
            n = strtol(p + 1, &end, 10);
            if (isalnum((unsigned char)*end)) n = 0;
        }
        if (n > 0 && n <= 1024) return (int)n;
    }
    return count_word(s);
}

/* The last "N GB" of the words, in bytes; 0 if there is none. */
static double memory_in(const char *s)
{
    double best = 0;
    for (const char *p = s; *p; p++) {
        if (!isdigit((unsigned char)*p) || (p > s && (isdigit((unsigned char)p[-1]) || p[-1] == '.'))) continue;
        char *end;
        double v = strtod(p, &end);
        while (*end == ' ' || *end == '-') end++;
        if ((!strncasecmp(end, "gb", 2) || !strncasecmp(end, "gib", 3)) && strncasecmp(end, "gbe", 3) &&
            strncasecmp(end, "gb/s", 4) && v > 0 && v < 1e5)
            best = v * (double)LR_GIB;
        p = end > p ? end - 1 : p;
    }
    return best;
}

static bool allowed(const lr_machine *m, lr_want want)
{
    return want == LR_WANT_ANY || (want == LR_WANT_CPU) == (m->kind == LR_KIND_CPU);
}

static int best_machine(const lr_catalogue *c, const char *words, lr_want want, int *score)
{
    lr_name name;
    int best = -1;
    lr_name_cut(words, &name);
    *score = 0;
    for (size_t i = 0; i < c->n_machines; i++) {
        if (!allowed(&c->machines[i], want)) continue;
        int s = 2 * lr_name_fits(&name, c->machine_alias[i]) - (c->machines[i].kind == LR_KIND_CPU);
        if (s > *score) {
            *score = s;
            best = (int)i;
        }
    }
    return best;
}

static bool holds(const char *s, const char *what)
{
    size_t n = strlen(what);
    for (; *s; s++)
        if (!strncasecmp(s, what, n)) return true;
    return false;
}

/* A card named in brackets after its host: "Pi 5 - 8GB (AMD RX 7600)". */
static void note_host(const lr_catalogue *c, const char *words, lr_machine *out)
{
    int score;
    int host = best_machine(c, words, LR_WANT_CPU, &score);
    if (host < 0) return;
    out->host_bw = 0.75 * c->machines[host].bw;
    out->weak_host = c->machines[host].gen == LR_GEN_CPU && c->machines[host].bw < 60e9 &&
                     (!strncmp(c->machines[host].gen_name, "neon", 4) ||
                      !strcmp(c->machines[host].gen_name, "scalar"));
}

/* "DDR5-6000" beside a processor; desktop ones have two channels of eight bytes. */
static void set_memory_speed(const char *words, lr_machine *out)
{
    bool generic = !strncmp(out->name, "PC or server", 12);
    bool desktop = !strncmp(out->name, "Ryzen ", 6) || !strncmp(out->name, "Core ", 5);
    double usual = generic ? (strstr(out->name, "-4800") ? 4800 : 3200) : out->bw / 16e6;
    const char *ddr = words;
    for (; *ddr && strncasecmp(ddr, "ddr", 3); ddr++) continue;
    ddr += strcspn(ddr, "- ");
    char *end;
    double rate = *ddr ? strtod(ddr + 1, &end) : 0;
    if (!(generic || desktop) || !(rate >= 800 && rate <= 20000)) return;
    if (*end && !strchr(" )", *end) && strncasecmp(end, "mt", 2)) return; /* "DDR4 5600X" names a processor */
    out->bw *= rate / usual;
    out->bw_measured *= rate / usual;
}

bool lr_machine_find(const lr_catalogue *c, const char *words, lr_want want, lr_machine *out)
{
    int score;
    double memory = memory_in(words);
    if (strlen(words) > 250) return false;
    if (holds(words, "[CPU]") || holds(words, "(CPU")) want = LR_WANT_CPU;
    int at = best_machine(c, words, want == LR_WANT_ANY ? LR_WANT_GPU : want, &score);
    if (at < 0) at = best_machine(c, words, LR_WANT_ANY, &score);
    if (at < 0) return false;
    *out = c->machines[at];
    out->count = count_in(words);
    bool card = !out->unified && out->kind != LR_KIND_CPU;
    bool sockets = out->kind == LR_KIND_CPU && out->count == 2 && out->n_core >= 14; /* of one board */
    out->cluster = out->count > 1 && !card && !sockets;
    if (out->kind == LR_KIND_CPU) set_memory_speed(words, out);
    if (card) note_host(c, words, out);
    /* A card's memory stands in the catalogue; a figure beside it may be its host's. */
    if (memory > 0 && (out->unified || out->kind == LR_KIND_CPU)) out->memory = memory;
    else if (memory > 0 && !strchr(words, '(') && memory > 0.4 * out->memory && memory < 2.1 * out->memory)
        out->memory = memory;
    return true;
}

static larder_status unknown(const char *what, const char *words, const char *const *names, size_t n,
                             larder_error *err)
{
    size_t best[3] = {0, 0, 0};
    for (size_t k = 0; k < 3 && k < n; k++) {
        int least = 1 << 30;
        for (size_t i = 0; i < n; i++) {
            if ((k > 0 && i == best[0]) || (k > 1 && i == best[1])) continue;
            int d = lr_name_distance(words, names[i]);
            if (d < least) {
                least = d;
                best[k] = i;
            }
        }
    }
    if (n < 3) return lr_fail(err, LARDER_USAGE, "unknown %s \"%.80s\"", what, words);
    return lr_fail(err, LARDER_USAGE, "unknown %s \"%.80s\"; the nearest names are %s, %s, %s", what, words,
                   names[best[0]], names[best[1]], names[best[2]]);
}

larder_status lr_machine_unknown(const lr_catalogue *c, const char *words, larder_error *err)
{
    const char *names[1024];
    size_t n = LR_MIN(c->n_machines, LR_LEN(names));
    for (size_t i = 0; i < n; i++) names[i] = c->machines[i].name;
    return unknown("machine", words, names, n, err);
}

larder_status lr_preset_unknown(const lr_catalogue *c, const char *words, larder_error *err)
{
    const char *names[1024];
    size_t n = LR_MIN(c->n_models, LR_LEN(names));
    for (size_t i = 0; i < n; i++) names[i] = c->models[i].shape.name;
    return unknown("model", words, names, n, err);
}

/* ---------------------------------------------------------------- models by name */
const lr_preset *lr_preset_find(const lr_catalogue *c, const char *words)
{
    lr_name name;
    int best = 0;
    const lr_preset *found = NULL;
    if (strlen(words) > 250) return NULL;
    lr_name_cut(words, &name);
    for (size_t i = 0; i < c->n_models; i++) {
        int a = lr_name_fits(&name, c->models[i].match), b = lr_name_fits(&name, c->models[i].shape.name);
        if (LR_MAX(a, b) > best) {
            best = LR_MAX(a, b);
            found = &c->models[i];
        }
    }
    return found;
}

/* "8b", "1.5b", "70m": a size; "1m" is a context. */
static bool is_size(const char *w)
{
    char *end;
    if (!isdigit((unsigned char)*w)) return false;
    double v = strtod(w, &end);
    return *end && !end[1] && (*end == 'b' || (*end == 'm' && v >= 10 && v <= 999));
}

/* "3.1": which of a family's generations, if it follows the family's word. "0.3" is a revision. */
static bool is_version(const char *w)
{
    return strchr(w, '.') && !w[strspn(w, "0123456789.")] && strncmp(w, "0.", 2) != 0;
}

const lr_preset *lr_preset_named(const lr_catalogue *c, const char *words)
{
    lr_name name, known[2];
    const lr_preset *p = lr_preset_find(c, words);
    if (!p) return NULL;
    lr_name_cut(words, &name);
    lr_name_cut(p->match, &known[0]);
    lr_name_cut(p->shape.name, &known[1]);
    for (int i = 0; i < name.n; i++) {
        bool follows = i > 0 && known[1].n > 0 && !strcmp(name.word[i - 1], known[1].word[0]);
        bool said = !is_size(name.word[i]) && !(follows && is_version(name.word[i]));
        for (int k = 0; k < 2; k++)
            for (int m = 0; m < known[k].n && !said; m++) said = !strcmp(name.word[i], known[k].word[m]);
        if (!said) return NULL;
    }
    return p;
}

void lr_preset_of_size(double params, lr_preset *out)
{
    /* widths as the Llama family has them: embd ~ params^(1/3), feed-forward 3.5 times that */
    double p = LR_MIN(LR_MAX(params, 1e7), 5e12);
    lr_shape *s = &out->shape;
    *out = (lr_preset){.match = "", .source = "a dense model of this size, with Llama's proportions", .runs = true};
    (void)snprintf(s->name, sizeof s->name, "dense %.4g%s", p / (p < 1e9 ? 1e6 : 1e9), p < 1e9 ? "M" : "B");
    COPY(s->arch, "llama");
    s->head_dim = 128;
    const uint32_t step = p < 5e9 ? 512 : 1024; /* a multiple of four heads, or of eight */
    s->n_embd = LR_MAX((uint32_t)lround(4096 * cbrt(p / 7.5e9) / step) * step, 512u);
    s->n_head = s->n_embd / 128;
    s->n_head_kv = LR_MIN(s->n_head / 4, 8u);
    s->n_vocab = p < 5e7 ? 8192 : p < 3e8 ? 32000 : 128000;
    s->n_ctx = 131072;
    s->tied = p < 4e9;
    double embed = (double)s->n_embd * s->n_vocab * (s->tied ? 1 : 2);
    double attend = 256.0 * s->n_embd * (s->n_head + s->n_head_kv), forward = 3.0 * s->n_embd; /* per column of it */
    s->n_layer = (uint32_t)LR_MIN(LR_MAX(round((p - embed) / (attend + 3.5 * s->n_embd * forward)), 2), 400);
    /* what is left decides the feed-forward width, so that the sum is the size asked for */
    double wide = ((p - embed) / s->n_layer - attend) / forward;
    s->n_ff = LR_MAX((uint32_t)(LR_MAX(wide, 0) / 64 + 0.5) * 64, 256u);
}

/* "8B", "1.2b", "270M" as a word of its own; `active`: after an A, as in "A3B". 0 if there is none. */
static double size_in(const char *s, bool active)
{
    for (const char *p = s; *p; p++) {
        if (p > s && (isalnum((unsigned char)p[-1]) || p[-1] == '.')) continue;
        if (active && *p != 'a' && *p != 'A') continue;
        char *end;
        const char *digit = p + active;
        if (!isdigit((unsigned char)*digit)) continue;
        double v = strtod(digit, &end), unit = *end == 'b' || *end == 'B'   ? 1e9
                                               : *end == 'm' || *end == 'M' ? 1e6
                                                                            : 0;
        if (unit > 0 && !isalnum((unsigned char)end[1]) && v > 0 && v < 1e5) return v * unit;
    }
    return 0;
}

bool lr_preset_guess(const char *words, double params, lr_preset *out)
{
    double total = size_in(words, false), active = size_in(words, true);
    if (!(total > 0)) total = params;
    if (!(total >= 1e7)) return false;
    lr_preset_of_size(total, out);
    if (!(active > 0) || active >= total) return true;
    /* experts: a sixteenth of many small ones is usual; layers and cache as a dense model of a third of the size has */
    lr_preset_of_size(LR_MAX(total / 3, active), out);
    out->runs = false;
    out->source = "experts of these totals, with usual proportions";
    out->total = total;
    out->active = active;
    out->kv_width = 2.0 * out->shape.n_head_kv * out->shape.head_dim;
    out->shape.n_expert = 128;
    out->shape.n_expert_used = 8;
    (void)snprintf(out->shape.name, sizeof out->shape.name, "%.3gB with %.2gB active", total / 1e9, active / 1e9);
    return true;
}

/* ---------------------------------------------------------------- formats by name */
bool lr_quant_find(const char *words, lr_quant_name *out)
{
    static const struct {
        const char *name;
        double bits;
        lr_cls cls;
        bool fp8, fp4;
    } plain[] = {
        {"FP32", 32, LR_CLS_F16, 0, 0},      {"FP16", 16, LR_CLS_F16, 0, 0},   {"BF16", 16, LR_CLS_F16, 0, 0},
        {"FP8", 8, LR_CLS_Q8, 1, 0},         {"INT8", 8, LR_CLS_Q8, 0, 0},     {"W8", 8, LR_CLS_Q8, 0, 0},
        {"Q8", 8.5, LR_CLS_Q8, 0, 0},        {"8bit", 8.5, LR_CLS_Q8, 0, 0},   {"8-bit", 8.5, LR_CLS_Q8, 0, 0},
        {"GF4", 4, LR_CLS_Q4, 0, 0},         {"INT4-g32", 5, LR_CLS_Q4, 0, 0}, {"INT4", 4.25, LR_CLS_Q4, 0, 0},
        {"GPTQ", 4.25, LR_CLS_Q4, 0, 0},     {"AWQ", 4.25, LR_CLS_Q4, 0, 0},   {"NVFP4", 4.5, LR_CLS_Q4, 0, 1},
        {"MXFP4", 4.25, LR_CLS_Q4, 0, 1},    {"FP4", 4.5, LR_CLS_Q4, 0, 1},    {"4bit", 4.5, LR_CLS_Q4, 0, 0},
        {"4-bit", 4.5, LR_CLS_Q4, 0, 0},     {"W4", 4.25, LR_CLS_Q4, 0, 0},    {"3bit", 3.5, LR_CLS_Q4, 0, 0},
        {"6bit", 6.5, LR_CLS_Q4, 0, 0},      {"W2", 2.5, LR_CLS_Q4, 0, 0},     {"IQ1", 1.75, LR_CLS_K, 0, 0},
        {"IQ2_XXS", 2.0625, LR_CLS_K, 0, 0}, {"IQ2", 2.4, LR_CLS_K, 0, 0},     {"IQ3", 3.3, LR_CLS_K, 0, 0},
        {"NF4", 4.5, LR_CLS_Q4, 0, 0},       {"HQQ", 4.5, LR_CLS_Q4, 0, 0},    {"TQ1", 1.69, LR_CLS_K, 0, 0},
        {"TQ2", 2.06, LR_CLS_K, 0, 0},       {"none", 16, LR_CLS_F16, 0, 0},   {"unquantized", 16, LR_CLS_F16, 0, 0},
        {"16bit", 16, LR_CLS_F16, 0, 0},     {"16-bit", 16, LR_CLS_F16, 0, 0}, {"6-bit", 6.5, LR_CLS_Q4, 0, 0},
        {"3-bit", 3.5, LR_CLS_Q4, 0, 0},     {"Q3_K_L", 4.0, LR_CLS_K, 0, 0},  {"Q3_K_S", 3.5, LR_CLS_K, 0, 0},
        {"Q2_K_L", 2.9, LR_CLS_K, 0, 0},
    };
    static const char *const others[][2] = {
        {"Q4_K_XL", "Q4_K_M"}, {"Q5_K_XL", "Q5_K_M"}, {"Q3_K_XL", "Q3_K_M"}, {"Q2_K_XL", "Q2_K"},    {"Q2_K", "Q2_K"},
        {"Q6_K", "Q6_K"},      {"Q8_K", "Q8_0"},      {"Q8_0", "Q8_0"},      {"MXFP4", "MXFP4_MOE"}, {"F16", "F16"},
        {"BF16", "BF16"},      {"F32", "F32"},        {"IQ4", "IQ4_XS"}};
    char word[32];
    size_t n = 0;
    const char *p = words;
    static const char *const before[] = {"UD-", "GGUF ", "GGUF-", "MLX ", "MLX-", "bnb-", "ollama "};
    for (size_t i = 0; i < LR_LEN(before); i++)
        if (!strncasecmp(p, before[i], strlen(before[i]))) p += strlen(before[i]);
    while (p[n] && (isalnum((unsigned char)p[n]) || strchr("_.-", p[n])) && n < sizeof word - 1) n++;
    (void)snprintf(word, sizeof word, "%.*s", (int)n, p);
    *out = (lr_quant_name){.cls = LR_CLS_K};
    (void)snprintf(out->name, sizeof out->name, "%s", word);
    if (!strncasecmp(word, "EXL", 3)) {
        const char *digit = words + 4 + strcspn(words + LR_MIN(strlen(words), (size_t)4), "0123456789");
        out->bits = strlen(words) > 4 && *digit ? strtod(digit, NULL) : 4;
        out->cls = LR_CLS_Q4;
        return out->bits >= 1 && out->bits <= 32;
    }
    char *unit; /* "3.5bpw", "6bit" */
    double bits = strtod(word, &unit);
    if (isdigit((unsigned char)word[0]) && (!strcasecmp(unit, "bpw") || !strncasecmp(unit, "bit", 3)) && bits >= 1 &&
        bits <= 32 && (!strcasecmp(unit, "bpw") || bits < 3 || (bits > 4 && bits < 6))) {
        out->bits = bits;
        out->cls = bits > 6.5 ? LR_CLS_Q8 : LR_CLS_Q4;
        return true;
    }
    for (size_t i = 0; i < LR_LEN(plain); i++) {
        if (strcasecmp(word, plain[i].name)) continue;
        out->bits = plain[i].bits;
        out->cls = plain[i].cls;
        out->fp8 = plain[i].fp8;
        out->fp4 = plain[i].fp4;
        if (strcasecmp(word, "MXFP4") && strcasecmp(word, "NVFP4") && strcasecmp(word, "BF16")) return true;
    }
    out->bits = 0;
    if (!strcasecmp(word, "Q4")) (void)snprintf(word, sizeof word, "Q4_K_M");
    out->mix = lr_mix_find(word);
    for (size_t i = 0; !out->mix && i < LR_LEN(others); i++)
        if (!strncasecmp(word, others[i][0], strlen(others[i][0]))) out->mix = lr_mix_find(others[i][1]);
    if (!out->mix) {
        for (size_t i = 0; i < LR_LEN(plain); i++) {
            if (strncasecmp(word, plain[i].name, strlen(plain[i].name))) continue;
            out->bits = plain[i].bits;
            out->cls = plain[i].cls;
            out->fp8 = plain[i].fp8;
            out->fp4 = plain[i].fp4;
            return true;
        }
        return false;
    }
    switch (out->mix->base) {
    case LR_FMT_F32:
    case LR_FMT_F16:
    case LR_FMT_BF16: out->cls = LR_CLS_F16; break;
    case LR_FMT_Q8_0: out->cls = LR_CLS_Q8; break;
    case LR_FMT_Q4_0:
    case LR_FMT_Q4_1:
    case LR_FMT_IQ4_NL:
    case LR_FMT_MXFP4:
    case LR_FMT_NVFP4: out->cls = LR_CLS_Q4; break;
    default: out->cls = LR_CLS_K; break;
    }
    return true;
}
