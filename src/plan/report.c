/* report.c - see report.h. */
#include "report.h"

#include "place.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define GIB ((double)LR_GIB)

/* ---------------------------------------------------------------- fit */
/* What a run needs besides weights and cache: rows of activations for a batch, logits, and on a card the runtime. */
static double scratch_bytes(const lr_machine *m, const lr_plan_model *model, double n_users)
{
    double ff = model->has_program ? model->model.hp.n_ff : 3.5 * model->n_embd;
    double vocab = model->has_program ? model->model.hp.n_vocab : 130000;
    double rows = 512 * 4 * (8 * model->n_embd + 3 * ff), logits = 4 * vocab * LR_MAX(n_users, 1);
    bool card = !m->unified && m->kind != LR_KIND_CPU;
    return rows + logits + (card ? 0.4e9 * m->count : 0.05e9);
}

double lr_machine_price(const lr_machine *m)
{
    if (!(m->price > 0)) return 0;
    if (m->kind == LR_KIND_CPU)
        return m->price * m->count +
               (m->price > 1500                    ? 4000
                : m->price > 150 && m->load_w > 40 ? 600
                                                   : 0) +
               3 * m->memory / GIB;
    return m->price * m->count + (m->unified ? 0 : 900);
}

static double room_of(const lr_machine *m) { return m->memory * m->usable * m->count; }

double lr_fit_context(const lr_machine *m, const lr_plan_model *model, double n_users, double kv_bytes)
{
    double left = room_of(m) - model->file_bytes - scratch_bytes(m, model, n_users);
    double per = lr_cost_cache(model, 1, n_users, kv_bytes);
    if (left <= 0) return 0;
    return per > 0 ? LR_MIN(floor(left / per), model->n_ctx) : model->n_ctx;
}

/* ---------------------------------------------------------------- power
 * Rules of thumb, said as such: decode keeps the memory busy and the arithmetic half idle. */
static void power(lr_outlook *o, const lr_ask *ask)
{
    const lr_machine *m = o->m;
    double top = m->load_w * m->count, idle = (m->idle_w > 0 ? m->idle_w : 0.1 * m->load_w) * m->count;
    if (!(top > 0)) return;
    o->watts_prefill = idle + 0.95 * (top - idle);
    o->watts_decode = idle + 0.7 * (top - idle);
    if (!(ask->watts > 0)) return;
    double floor_w = idle + 0.05 * (top - idle), cap = LR_MAX(ask->watts, floor_w);
    if (cap < o->watts_prefill) {
        double slow = pow((cap - idle) / (o->watts_prefill - idle), 0.6);
        o->prefill.rate *= slow;
        o->prefill.low *= slow * 0.9;
        o->prefill.high *= slow;
        o->watts_prefill = cap;
    }
    if (cap < o->watts_decode) {
        double slow = pow((cap - idle) / (o->watts_decode - idle), 0.35);
        for (int i = 0; i < o->n_depth; i++) {
            o->decode[i].rate *= slow;
            o->decode[i].low *= slow * 0.9;
            o->decode[i].high *= slow;
        }
        o->users.rate *= slow;
        o->watts_decode = cap;
    }
}

static void money(lr_outlook *o, const lr_ask *ask)
{
    double price = lr_machine_price(o->m), rate = o->users.rate;
    if (!(rate > 0)) return;
    o->joules = o->watts_decode / rate;
    o->usd_energy = o->joules * 1e6 / 3.6e6 * ask->kwh;
    double life = 3 * 365.25 * 86400;
    o->usd_all = o->usd_energy + price / (rate * life) * 1e6;
    if (ask->elsewhere > o->usd_energy && price > 0) o->pays_after = price / (ask->elsewhere - o->usd_energy);
}

void lr_outlook_make(const lr_machine *m, const lr_plan_model *model, const lr_setup *s, const lr_ask *ask,
                     lr_outlook *out)
{
    double users = LR_MAX(ask->n_users, 1);
    *out = (lr_outlook){.m = m, .model = model, .setup = *s, .room = room_of(m), .weights = model->file_bytes};
    out->max_ctx = lr_fit_context(m, model, users, s->kv_bytes);
    out->n_ctx = ask->n_ctx > 0 ? ask->n_ctx : out->max_ctx > 0 ? out->max_ctx : LR_MIN(model->n_ctx, 8192);
    out->scratch = scratch_bytes(m, model, users);
    out->cache = lr_cost_cache(model, out->n_ctx, users, s->kv_bytes);
    double need = out->weights + out->cache + out->scratch;
    out->fits = need <= out->room;
    out->on_card = out->fits
                       ? 1
                       : LR_MAX(0, LR_MIN(1, (out->room - out->cache - out->scratch) / LR_MAX(out->weights, 1)));
    double depths[] = {0, 8192, 32768, LR_MAX(out->n_ctx - 1, 0)};
    for (int i = 0; i < 4; i++) {
        if (i < 3 && depths[i] >= out->n_ctx - 1 && i > 0) continue;
        int at = out->n_depth++;
        out->depth[at] = depths[i];
        lr_features_make(m, model, s, LR_TASK_DECODE, 1, 1, depths[i], &out->f_decode[at]);
        lr_predict(&out->f_decode[at], &out->decode[at]);
    }
    double prompt = LR_MAX(1, LR_MIN(ask->n_prompt > 0 ? ask->n_prompt : 2048, out->n_ctx));
    lr_features_make(m, model, s, LR_TASK_PREFILL, prompt, 1, 0, &out->f_prefill);
    lr_predict(&out->f_prefill, &out->prefill);
    lr_features_make(m, model, s, LR_TASK_DECODE, users, users, LR_MIN(prompt, out->n_ctx / 2), &out->f_users);
    lr_predict(&out->f_users, &out->users);
    power(out, ask);
    out->first_token_s = prompt / out->prefill.rate + 1 / out->decode[0].rate;
    money(out, ask);
}

/* ---------------------------------------------------------------- as text */
static const char *count(double v, char out[24])
{
    if (v >= 1e7) (void)snprintf(out, 24, "%.0fM", v / 1e6);
    else if (v >= 1000) (void)snprintf(out, 24, "%.0f,%03.0f", floor(v / 1000), fmod(floor(v), 1000));
    else if (v >= 100) (void)snprintf(out, 24, "%.0f", v);
    else if (v >= 10) (void)snprintf(out, 24, "%.1f", v);
    else (void)snprintf(out, 24, "%.2f", v);
    return out;
}

static const char *family_name(lr_family f)
{
    static const char *const names[] = {"CUDA", "Metal", "ROCm", "Vulkan", "CPU"};
    return names[f];
}

static void line(lr_buf *b, const char *what, const lr_prediction *p)
{
    char a[24], l[24], h[24], c[24];
    lr_buf_printf(b, "  %-22s %9s   %8s to %-8s %10s  %4.0f%%  %s\n", what, count(p->rate, a), count(p->low, l),
                  count(p->high, h), count(p->ceiling, c), 100 * p->share, p->bottleneck);
}

static const char *kv_name(double bytes)
{
    return bytes > 3 ? "F32" : bytes > 1.5 ? "F16" : bytes > 0.8 ? "Q8_0" : "Q4_0";
}

static void fit_line(const lr_outlook *o, lr_buf *b)
{
    char ctx[24], most[24];
    lr_buf_printf(b, "%s  weights %.2f + cache %.2f (context %s x %.0f, %s) + buffers %.2f = %.2f of %.1f GiB",
                  o->fits ? "fits:" : "DOES NOT FIT:", o->weights / GIB, o->cache / GIB, count(o->n_ctx, ctx),
                  LR_MAX(o->f_users.tokens, 1), kv_name(o->setup.kv_bytes), o->scratch / GIB,
                  (o->weights + o->cache + o->scratch) / GIB, o->room / GIB);
    if (o->max_ctx > 0) lr_buf_printf(b, "; largest context %s\n", count(o->max_ctx, most));
    else lr_buf_printf(b, "; no context fits\n");
    lr_placement place;
    lr_place(o->m, o->model, &o->setup, o->cache, o->scratch, &place);
    lr_place_text(&place, o->m, b);
}

void lr_outlook_text(const lr_outlook *o, lr_buf *b)
{
    const lr_machine *m = o->m;
    char name[48];
    double total = o->model->total;
    lr_buf_printf(b, "%s %s (%.*f%s parameters", o->model->name, o->model->quant, total < 1e9 ? 0 : 1,
                  total < 1e9 ? total * 1e-6 : total * 1e-9, total < 1e9 ? "M" : "B");
    if (o->model->active < 0.95 * o->model->total) lr_buf_printf(b, ", %.1fB active", o->model->active * 1e-9);
    lr_buf_printf(b, ") on %s", m->count > 1 ? "" : m->name);
    if (m->count > 1) lr_buf_printf(b, "%d x %s", m->count, m->name);
    lr_buf_printf(b, " (%.0f GiB, %.0f GB/s, %s%s%s)\n", m->memory / GIB, m->bw * 1e-9, family_name(o->setup.family),
                  m->status[0] && strcmp(m->status, "sold") ? ", " : "",
                  m->status[0] && strcmp(m->status, "sold") ? m->status : "");
    if (!o->model->has_program) lr_buf_printf(b, "  (costed from totals: larder does not run this architecture)\n");
    fit_line(o, b);
    if (!o->fits && (m->unified || m->kind == LR_KIND_CPU)) {
        lr_buf_printf(b, "  speeds are what it would do if it fitted\n");
    }
    lr_buf_printf(b, "  %-22s %9s   %20s %10s  %5s  %s\n", "tokens a second", "", "80% range     ", "ceiling",
                  "share", "bound by");
    (void)snprintf(name, sizeof name, "prefill of %.0f", o->f_prefill.tokens);
    line(b, name, &o->prefill);
    for (int i = 0; i < o->n_depth; i++) {
        (void)snprintf(name, sizeof name, "decode at %s%.0f", i == o->n_depth - 1 && i > 0 ? "full " : "",
                       o->depth[i]);
        line(b, name, &o->decode[i]);
    }
    if (o->f_users.tokens > 1) {
        (void)snprintf(name, sizeof name, "%.0f users together", o->f_users.tokens);
        line(b, name, &o->users);
    }
    lr_buf_printf(b, "  first token after %.2f s", o->first_token_s);
    if (o->watts_decode > 0) {
        lr_buf_printf(b, "; about %.0f W in prefill, %.0f W in decode, %.2f J a token", o->watts_prefill,
                      o->watts_decode, o->joules);
        lr_buf_printf(b, "; a million tokens: %.2f USD of energy", o->usd_energy);
        if (m->price > 0) lr_buf_printf(b, ", %.2f with the price over 3 years", o->usd_all);
    }
    lr_buf_putc(b, '\n');
    if (o->pays_after > 0)
        lr_buf_printf(b, "  pays for itself after %.0f million tokens: %.0f days of decoding without a pause\n",
                      o->pays_after, o->pays_after * 1e6 / o->users.rate / 86400);
}

void lr_outlook_timeline(const lr_outlook *o, lr_buf *b)
{
    lr_placement place;
    lr_place(o->m, o->model, &o->setup, o->cache, o->scratch, &place);
    lr_place_timeline(&place, o->m, o->model, b);
}

/* ---------------------------------------------------------------- why */
typedef struct by_kind {
    double bytes[LR_OP_KINDS], ops[LR_OP_KINDS], kv;
} by_kind;

static void sum_kind(void *user, const lr_op *op, const lr_cost *c)
{
    by_kind *k = user;
    k->bytes[op->kind] += c->weight_bytes;
    k->ops[op->kind] += c->dense_ops + c->expert_ops + c->attn_ops + c->other_ops;
    k->kv += c->kv_read + c->kv_write;
}

static void why_step(const lr_outlook *o, const lr_features *f, const lr_prediction *p, lr_buf *b)
{
    double sum = 0;
    for (int i = 0; i < LR_PARTS; i++) sum += p->part[i];
    lr_buf_printf(b, "  bytes: %.3f ms at %.0f GB/s for weights, %.3f ms for the cache\n", f->t_weight * 1e3,
                  o->m->bw * 1e-9, f->t_kv * 1e3);
    lr_buf_printf(b, "  ceiling: %.3f ms, set by %s: %.1f tok/s\n", f->ceiling * 1e3,
                  f->by_compute ? "arithmetic" : "bandwidth", p->ceiling);
    for (int i = 0; i < LR_PARTS; i++)
        if (p->part[i] > 0.002 * sum)
            lr_buf_printf(b, "  %-38s %9.3f ms  %3.0f%%\n", lr_part_name(f->task, i), p->part[i] * 1e3,
                          100 * p->part[i] / sum);
    lr_buf_printf(b,
                  "  the model's sum %.3f ms is %.1f tok/s; measurements alike (weight %.2f, %.2f of it on this "
                  "machine) change it by x%.3f\n",
                  sum * 1e3, f->tokens / sum, p->n_near, p->own, p->shift);
    lr_buf_printf(b, "  -> %.1f tok/s, 80%% of cases between %.1f and %.1f\n", p->rate, p->low, p->high);
}

void lr_outlook_why(const lr_outlook *o, lr_buf *b)
{
    const lr_machine *m = o->m;
    by_kind k = {{0}, {0}, 0};
    lr_cost c;
    lr_step_size one = {.n_tok = 1, .n_out = 1, .n_seq = 1, .depth = 0, .kv_bytes = o->setup.kv_bytes};
    lr_buf_printf(b, "\nmachine: memory %.0f GiB x %.2f usable, bandwidth %.0f GB/s", m->memory / GIB, m->usable,
                  m->bw * 1e-9);
    if (m->bw_measured > 0) lr_buf_printf(b, " (%.0f measured)", m->bw_measured * 1e-9);
    lr_buf_printf(b, ", dense TFLOPS: fp32 %.1f, f16 %.1f, int8 %.1f, fp8 %.1f, fp4 %.1f\n  source: %s\n",
                  m->fp32 * 1e-12, m->f16 * 1e-12, m->int8 * 1e-12, m->fp8 * 1e-12, m->fp4 * 1e-12,
                  m->source[0] ? m->source : "measured here");
    lr_buf_printf(b, "  %s runs ", family_name(o->setup.family));
    (void)lr_software_for(o->setup.family, b, NULL);
    lr_buf_printf(b, "\nmodel: %s\n", o->model->source);
    lr_cost_step(o->model, &one, &c, sum_kind, &k);
    lr_buf_printf(b, "\none token reads %.1f MB of weights in %.0f operators and does %.2f GFLOP\n",
                  c.weight_bytes * 1e-6, c.n_op, (c.dense_ops + c.expert_ops + c.attn_ops) * 1e-9);
    for (int i = 0; i < LR_OP_KINDS; i++)
        if (k.bytes[i] > 1e5 || k.ops[i] > 1e6)
            lr_buf_printf(b, "  %-16s %12.1f MB %12.1f Mop\n", lr_op_name((lr_op_kind)i), k.bytes[i] * 1e-6,
                          k.ops[i] * 1e-6);
    for (int i = 0; i < o->n_depth; i++) {
        lr_buf_printf(b, "\ndecode at depth %.0f\n", o->depth[i]);
        why_step(o, &o->f_decode[i], &o->decode[i], b);
    }
    lr_buf_printf(b, "\nprefill of %.0f tokens\n", o->f_prefill.tokens);
    why_step(o, &o->f_prefill, &o->prefill, b);
}

/* ---------------------------------------------------------------- JSON */
void lr_json_text(lr_buf *b, const char *s)
{
    lr_buf_putc(b, '"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') lr_buf_printf(b, "\\%c", *s);
        else if ((unsigned char)*s < 32) lr_buf_printf(b, "\\u%04x", *s);
        else lr_buf_putc(b, *s);
    }
    lr_buf_putc(b, '"');
}

static void json_prediction(lr_buf *b, const char *name, double at, const lr_prediction *p)
{
    lr_buf_printf(b,
                  "{\"%s\": %.0f, \"tok_s\": %.4g, \"low\": %.4g, \"high\": %.4g, \"ceiling\": %.4g, \"share\": "
                  "%.4f, \"bound_by\": \"%s\"}",
                  name, at, p->rate, p->low, p->high, p->ceiling, p->share, p->bottleneck);
}

void lr_outlook_json(const lr_outlook *o, lr_buf *b)
{
    lr_buf_printf(b, "{\"machine\": ");
    lr_json_text(b, o->m->name);
    lr_buf_printf(b, ", \"count\": %d, \"status\": ", o->m->count);
    lr_json_text(b, o->m->status[0] ? o->m->status : "here");
    lr_buf_printf(b, ", \"model\": ");
    lr_json_text(b, o->model->name);
    lr_buf_printf(b, ", \"format\": ");
    lr_json_text(b, o->model->quant);
    lr_buf_printf(b,
                  ",\n \"fits\": %s, \"weights\": %.0f, \"cache\": %.0f, \"buffers\": %.0f, \"room\": %.0f, "
                  "\"context\": %.0f, \"largest_context\": %.0f, \"on_card\": %.4f, \"guessed\": %s",
                  o->fits ? "true" : "false", o->weights, o->cache, o->scratch, o->room, o->n_ctx, o->max_ctx,
                  o->on_card, o->m->guessed ? "true" : "false");
    lr_buf_printf(b, ",\n \"prefill\": ");
    json_prediction(b, "tokens", o->f_prefill.tokens, &o->prefill);
    lr_buf_printf(b, ",\n \"decode\": [");
    for (int i = 0; i < o->n_depth; i++) {
        lr_buf_printf(b, "%s", i ? ", " : "");
        json_prediction(b, "depth", o->depth[i], &o->decode[i]);
    }
    lr_buf_printf(b, "],\n \"users\": ");
    json_prediction(b, "users", o->f_users.tokens, &o->users);
    lr_buf_printf(
        b,
        ",\n \"first_token_s\": %.4g, \"watts_prefill\": %.4g, \"watts_decode\": %.4g, \"joules_per_token\": %.4g, "
        "\"usd_per_million_energy\": %.4g, \"usd_per_million\": %.4g, \"pays_after_million_tokens\": %.4g",
        o->first_token_s, o->watts_prefill, o->watts_decode, o->joules, o->usd_energy, o->usd_all, o->pays_after);
    lr_placement place;
    lr_place(o->m, o->model, &o->setup, o->cache, o->scratch, &place);
    lr_place_json(&place, b);
    lr_buf_putc(b, '}');
}

/* ---------------------------------------------------------------- plots */
enum { N_POINT = 48 };

/* Predictions at N_POINT contexts from 256 to the largest, on a logarithmic axis. */
static int curve(const lr_outlook *o, double *x, lr_prediction *y)
{
    double top = LR_MAX(o->n_ctx, 512);
    for (int i = 0; i < N_POINT; i++) {
        lr_features f;
        x[i] = 256 * pow(top / 256, i / (N_POINT - 1.0));
        lr_features_make(o->m, o->model, &o->setup, LR_TASK_DECODE, 1, 1, x[i], &f);
        lr_predict(&f, &y[i]);
    }
    return N_POINT;
}

void lr_outlook_chart(const lr_outlook *o, const lr_ask *ask, lr_buf *b)
{
    enum { ROWS = 12 };
    double x[N_POINT], top = 0;
    lr_prediction y[N_POINT];
    int n = curve(o, x, y);
    (void)ask;
    for (int i = 0; i < n; i++) top = LR_MAX(top, y[i].ceiling);
    lr_buf_printf(b, "\ndecode, tok/s against context (* predicted, : its range, - ceiling)\n");
    for (int r = ROWS; r > 0; r--) {
        double lo = top * (r - 1) / ROWS, hi = top * r / ROWS;
        lr_buf_printf(b, "%9.1f |", hi);
        for (int i = 0; i < n; i++) {
            char c = y[i].rate >= lo && y[i].rate < hi         ? '*'
                     : y[i].ceiling > lo && y[i].ceiling <= hi ? '-'
                     : y[i].high >= lo && y[i].low < hi        ? ':'
                                                               : ' ';
            lr_buf_putc(b, c);
        }
        lr_buf_putc(b, '\n');
    }
    lr_buf_printf(b, "          +%s\n           256%44.0f\n", "------------------------------------------------",
                  x[n - 1]);
}

/* The least round number that is no less, and whose quarters are round too. */
static double round_up(double v)
{
    static const double steps[] = {1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10};
    double unit = pow(10, floor(log10(v)));
    for (size_t i = 0; i < LR_LEN(steps); i++)
        if (steps[i] * unit >= v) return steps[i] * unit;
    return v;
}

static void svg_curve(const lr_outlook *o, lr_buf *b, double x0, double y0, double w, double h)
{
    double x[N_POINT], top = 0;
    lr_prediction y[N_POINT];
    int n = curve(o, x, y);
    for (int i = 0; i < n; i++) top = LR_MAX(top, y[i].ceiling);
    top = top > 0 ? round_up(top) : 1;
#define PX(i) (x0 + w * (i) / (n - 1.0))
#define PY(v) (y0 + h - h * (v) / top)
    lr_buf_printf(b,
                  "<rect x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"%.0f\" fill=\"none\" "
                  "stroke=\"#999\"/>\n<polygon fill=\"#cde\" points=\"",
                  x0, y0, w, h);
    for (int i = 0; i < n; i++) lr_buf_printf(b, "%.1f,%.1f ", PX(i), PY(y[i].high));
    for (int i = n; i-- > 0;) lr_buf_printf(b, "%.1f,%.1f ", PX(i), PY(y[i].low));
    lr_buf_printf(b, "\"/>\n<polyline fill=\"none\" stroke=\"#b22\" stroke-dasharray=\"4\" points=\"");
    for (int i = 0; i < n; i++) lr_buf_printf(b, "%.1f,%.1f ", PX(i), PY(y[i].ceiling));
    lr_buf_printf(b, "\"/>\n<polyline fill=\"none\" stroke=\"#124\" stroke-width=\"2\" points=\"");
    for (int i = 0; i < n; i++) lr_buf_printf(b, "%.1f,%.1f ", PX(i), PY(y[i].rate));
    lr_buf_printf(b,
                  "\"/>\n<text x=\"%.0f\" y=\"%.0f\">decode tok/s against context (range; dashed: ceiling)</text>\n",
                  x0, y0 - 8);
    for (int i = 0; i <= 4; i++)
        lr_buf_printf(b, "<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"end\">%.4g</text>\n", x0 - 4, PY(top * i / 4) + 4,
                      top * i / 4);
    lr_buf_printf(b, "<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"end\">%.0f</text>\n", x0 + w, y0 + h + 16, x[n - 1]);
    for (double at = 256; at <= 256 || at < 0.4 * x[n - 1]; at *= 4)
        lr_buf_printf(b, "<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"%s\">%.0f</text>\n",
                      x0 + w * log(at / x[0]) / log(x[n - 1] / x[0]), y0 + h + 16, at > 256 ? "middle" : "start", at);
#undef PX
#undef PY
}

static void svg_roofline(const lr_outlook *o, lr_buf *b, double x0, double y0, double w, double h)
{
    double peak = LR_MAX(LR_MAX(o->m->fp32, o->m->f16), LR_MAX(o->m->bf16, o->m->int8)), bw = o->m->bw;
    double lx0 = -1, lx1 = 4, ly1 = ceil(log10(peak)), ly0 = ly1 - 5;
#define PX(v) (x0 + w * (LR_MAX(lx0, LR_MIN(lx1, log10(v))) - lx0) / (lx1 - lx0))
#define PY(v) (y0 + h - h * (LR_MAX(ly0, LR_MIN(ly1, log10(v))) - ly0) / (ly1 - ly0))
    double low = pow(10, lx0), knee = peak / bw;
    lr_buf_printf(b, "<rect x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"%.0f\" fill=\"none\" stroke=\"#999\"/>\n",
                  x0, y0, w, h);
    lr_buf_printf(
        b, "<polyline fill=\"none\" stroke=\"#b22\" stroke-width=\"2\" points=\"%.1f,%.1f %.1f,%.1f %.1f,%.1f\"/>\n",
        PX(low), PY(low * bw), PX(knee), PY(peak), x0 + w, PY(peak));
    const struct {
        const lr_features *f;
        const lr_prediction *p;
        const char *name;
    } points[] = {{&o->f_decode[0], &o->decode[0], "decode"},
                  {&o->f_users, &o->users, "users"},
                  {&o->f_prefill, &o->prefill, "prefill"}};
    for (size_t i = 0; i < LR_LEN(points); i++) {
        double ops = 2 * o->model->active * points[i].f->tokens,
               bytes = (points[i].f->t_weight + points[i].f->t_kv) * bw;
        double at = ops / LR_MAX(bytes, 1), got = 2 * o->model->active * points[i].p->rate;
        if (points[i].f == &o->f_users && o->f_users.tokens < 2) continue; /* it is what decode is */
        bool right = PX(at) > x0 + 0.9 * w;
        lr_buf_printf(b,
                      "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"#124\"/><text x=\"%.1f\" y=\"%.1f\" "
                      "text-anchor=\"%s\">%s</text>\n",
                      PX(at), PY(got), PX(at) + (right ? -8 : 8), PY(got) + 14, right ? "end" : "start",
                      points[i].name);
    }
    lr_buf_printf(b, "<text x=\"%.0f\" y=\"%.0f\">roofline: Gop/s against operations per byte</text>\n", x0, y0 - 8);
    for (double at = lx0; at <= lx1; at++)
        lr_buf_printf(b, "<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"middle\">%g</text>\n",
                      x0 + w * (at - lx0) / (lx1 - lx0), y0 + h + 16, pow(10, at));
    for (double at = ly0; at <= ly1; at++)
        lr_buf_printf(b, "<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"end\">%g</text>\n", x0 - 4,
                      y0 + h - h * (at - ly0) / (ly1 - ly0) + 4, pow(10, at - 9));
#undef PX
#undef PY
}

void lr_outlook_svg(const lr_outlook *o, const lr_ask *ask, lr_buf *b)
{
    (void)ask;
    lr_buf_printf(
        b,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"720\" font-family=\"sans-serif\" "
        "font-size=\"12\">\n"
        "<rect width=\"760\" height=\"720\" fill=\"#fff\"/>\n<text x=\"60\" y=\"24\" font-size=\"15\">%s %s on ",
        o->model->name, o->model->quant);
    for (const char *s = o->m->name; *s; s++) lr_buf_printf(b, *s == '<' ? "&lt;" : *s == '&' ? "&amp;" : "%c", *s);
    lr_buf_printf(b, "</text>\n");
    svg_roofline(o, b, 60, 60, 660, 270);
    svg_curve(o, b, 60, 390, 660, 270);
    lr_buf_printf(b, "</svg>\n");
}

/* ---------------------------------------------------------------- ranking */
bool lr_rank_by_name(const char *name, lr_rank_by *out)
{
    static const char *const names[] = {"speed", "capacity", "price", "watts", "tok-per-dollar", "gb-per-dollar"};
    for (size_t i = 0; i < LR_LEN(names); i++) {
        if (strcmp(name, names[i])) continue;
        *out = (lr_rank_by)i;
        return true;
    }
    return false;
}

typedef struct ranked {
    lr_outlook o;
    double key;
} ranked;

static int by_key(const void *a, const void *b)
{
    double x = (*(ranked *const *)a)->key, y = (*(ranked *const *)b)->key;
    return (x < y) - (x > y);
}

static double rank_key(const lr_outlook *o, lr_rank_by by)
{
    double price = lr_machine_price(o->m) > 0 ? lr_machine_price(o->m) : 1e9;
    switch (by) {
    case LR_BY_CAPACITY: return o->room;
    case LR_BY_PRICE: return -price;
    case LR_BY_WATTS: return o->joules > 0 ? -o->joules : -1e9;
    case LR_BY_TOK_PER_DOLLAR: return o->decode[0].rate / price;
    case LR_BY_GB_PER_DOLLAR: return o->room / price;
    default: return o->decode[0].rate;
    }
}

static void rank_line(const ranked *r, int at, lr_buf *out)
{
    const lr_outlook *o = &r->o;
    char d[24], l[24], h[24], p[24], price[24] = "-";
    if (o->m->price > 0) (void)snprintf(price, sizeof price, "%.0f", lr_machine_price(o->m));
    lr_buf_printf(out, "%3d  %-38.38s %8s (%s to %s)  prefill %7s  %6.1f GiB  %6s USD  %5.0f W%s%s\n", at, o->m->name,
                  count(o->decode[0].rate, d), count(o->decode[0].low, l), count(o->decode[0].high, h),
                  count(o->prefill.rate, p), o->room / GIB, price, o->watts_decode,
                  strcmp(o->m->status, "sold") ? "  " : "", strcmp(o->m->status, "sold") ? o->m->status : "");
}

larder_status lr_rank(const lr_catalogue *c, const lr_plan_model *model, const lr_ask *ask, lr_rank_by by, bool json,
                      lr_buf *out, larder_error *err)
{
    ranked *all = lr_calloc(c->n_machines + 1, sizeof *all), **order = lr_calloc(c->n_machines + 1, sizeof(ranked *));
    size_t n = 0, n_small = 0;
    if (!all || !order) {
        lr_free(all);
        lr_free(order);
        return LR_NOMEM(err, "the ranking");
    }
    for (size_t i = 0; i < c->n_machines; i++) {
        lr_setup s = lr_setup_usual(&c->machines[i]);
        if (strcmp(c->machines[i].status, "sold")) continue; /* what cannot be bought is not ranked */
        lr_outlook_make(&c->machines[i], model, &s, ask, &all[n].o);
        all[n].key = rank_key(&all[n].o, by);
        if (!all[n].o.fits) n_small++;
        else {
            order[n] = &all[n];
            n++;
        }
    }
    qsort(order, n, sizeof(ranked *), by_key);
    if (json) lr_buf_puts(out, "[");
    else
        lr_buf_printf(out, "%s %s: decode tok/s, %zu machines hold it, %zu do not\n", model->name, model->quant, n,
                      n_small);
    for (size_t i = 0; i < n; i++) {
        if (json) {
            lr_buf_puts(out, i ? ",\n" : "");
            lr_outlook_json(&order[i]->o, out);
        } else if (i < 40) {
            rank_line(order[i], (int)i + 1, out);
        }
    }
    if (json) lr_buf_puts(out, "]\n");
    lr_free(all);
    lr_free(order);
    return LARDER_OK;
}

/* ---------------------------------------------------------------- what if */
larder_status lr_machine_change(lr_machine *m, const char *text, larder_error *err)
{
    const struct {
        const char *name;
        double *to, unit;
    } fields[] = {{"bandwidth", &m->bw, 1e9}, {"memory", &m->memory, GIB}, {"fp32", &m->fp32, 1e12},
                  {"f16", &m->f16, 1e12},     {"bf16", &m->bf16, 1e12},    {"fp8", &m->fp8, 1e12},
                  {"fp4", &m->fp4, 1e12},     {"int8", &m->int8, 1e12},    {"watts", &m->load_w, 1},
                  {"price", &m->price, 1},    {"pcie", &m->pcie, 1e9},     {"link", &m->link, 1e9},
                  {"host", &m->host_bw, 1e9}};
    while (*text) {
        size_t n = strcspn(text, "="), k;
        char *end;
        if (!text[n])
            return lr_fail(err, LARDER_USAGE, "\"%.60s\": what follows is NAME=NUMBER, parted by commas", text);
        for (k = 0; k < LR_LEN(fields); k++)
            if (strlen(fields[k].name) == n && !strncmp(fields[k].name, text, n)) break;
        if (k == LR_LEN(fields))
            return lr_fail(err, LARDER_USAGE,
                           "\"%.*s\" cannot be changed; bandwidth, memory, fp32, f16, bf16, fp8, fp4, int8, watts, "
                           "price, pcie, link, host can",
                           (int)LR_MIN(n, (size_t)40), text);
        double v = strtod(text + n + 1, &end);
        if (end == text + n + 1 || (*end && *end != ',') || !isfinite(v) || !(v > 0) || v > 1e9)
            return lr_fail(err, LARDER_USAGE, "%s must be a number above zero", fields[k].name);
        *fields[k].to = v * fields[k].unit;
        text = *end ? end + 1 : end;
    }
    return LARDER_OK;
}

/* ---------------------------------------------------------------- software */
extern const char lr_data_software[];
extern const size_t lr_data_software_n;

larder_status lr_software_table(bool json, lr_buf *out, larder_error *err)
{
    lr_csv t;
    LR_TRY(lr_csv_parse(lr_data_software, lr_data_software_n, &t, err));
    if (json) lr_buf_puts(out, "[");
    for (size_t i = 0; i < t.n_rows; i++) {
        if (json) lr_buf_puts(out, i ? ",\n {" : "{");
        for (size_t k = 0; k < t.n_cols; k++) {
            if (json) {
                lr_buf_puts(out, k ? ", " : "");
                lr_json_text(out, t.names[k]);
                lr_buf_puts(out, ": ");
                lr_json_text(out, lr_csv_at(&t, i, (int)k));
            } else if (!i && !k) {
                lr_buf_printf(out, "%-22s %-22s %-8s %-8s %-8s %-8s %-8s %-8s note; source\n", "software", "for",
                              "CUDA", "Metal", "ROCm", "Vulkan", "CPU", "as of");
            }
        }
        if (json) lr_buf_puts(out, "}");
        else
            lr_buf_printf(out, "%-22s %-22s %-8s %-8s %-8s %-8s %-8s %-8s %s%s%s\n", lr_csv_at(&t, i, 0),
                          lr_csv_at(&t, i, 1), lr_csv_at(&t, i, 2), lr_csv_at(&t, i, 3), lr_csv_at(&t, i, 4),
                          lr_csv_at(&t, i, 5), lr_csv_at(&t, i, 6), lr_csv_at(&t, i, 8), lr_csv_at(&t, i, 7),
                          *lr_csv_at(&t, i, 7) ? "; " : "", lr_csv_at(&t, i, 9));
    }
    if (json) lr_buf_puts(out, "]\n");
    lr_csv_free(&t);
    return LARDER_OK;
}

larder_status lr_software_for(lr_family f, lr_buf *out, larder_error *err)
{
    lr_csv t;
    LR_TRY(lr_csv_parse(lr_data_software, lr_data_software_n, &t, err));
    int col = 2 + (int)f;
    for (size_t i = 0, n = 0; i < t.n_rows; i++) {
        const char *v = lr_csv_at(&t, i, col);
        if (strcmp(v, "yes") && strcmp(v, "partly")) continue;
        lr_buf_printf(out, "%s%s%s", n++ ? ", " : "", lr_csv_at(&t, i, 0), strcmp(v, "yes") ? " (partly)" : "");
    }
    lr_csv_free(&t);
    return LARDER_OK;
}
