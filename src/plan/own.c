/* own.c - see own.h. */
#include "own.h"

#include <math.h>

const double lr_own_rows[LR_OWN_ROWS] = {1, 2, 4, 8, 16, 32, 64, 256, 512};
const uint32_t lr_own_head[LR_OWN_HEADS] = {64, 128};
const double lr_own_fill[LR_OWN_FILLS] = {0.3, 0.6, 1.2, 2.4, 4.8};

const lr_own_format *lr_own_find(const lr_own *o, uint32_t fmt)
{
    for (uint32_t i = 0; i < o->n_formats; i++)
        if (o->formats[i].fmt == fmt) return &o->formats[i];
    return NULL;
}

static double bytes_of(uint32_t fmt)
{
    const lr_fmt_info *info = lr_fmt_get(fmt);
    return info ? (double)info->bytes / info->block : 2;
}

/* Between which of the measured counts of rows it lies: the lower one's index, and how far from it on logarithms. */
static int between(double rows, double *far)
{
    const double *x = lr_own_rows;
    int i = 0;
    while (i + 2 < LR_OWN_ROWS && rows > x[i + 1]) i++;
    *far = LR_MIN(LR_MAX(log(rows / x[i]) / log(x[i + 1] / x[i]), 0), 1);
    return i;
}

static double gain(const lr_own *o, double rows)
{
    double far;
    int i = between(rows, &far);
    return o->cache_gain[i] + far * (o->cache_gain[i + 1] - o->cache_gain[i]);
}

/* Seconds per number at so many rows: straight lines between the measured ones, on logarithms. A format that was not
 * measured takes what the nearest in size takes per byte. */
static double per_number(const lr_own *o, uint32_t fmt, double rows)
{
    const lr_own_format *f = lr_own_find(o, fmt);
    double scale = 1;
    if (!f) {
        double want = log(bytes_of(fmt)), best = INFINITY;
        for (uint32_t i = 0; i < o->n_formats; i++) {
            double d = fabs(log(bytes_of(o->formats[i].fmt)) - want);
            if (d >= best) continue;
            best = d;
            f = &o->formats[i];
        }
        if (!f) return 0;
        scale = bytes_of(fmt) / bytes_of(f->fmt);
    }
    double far, most = lr_own_rows[LR_OWN_ROWS - 1];
    if (rows >= most) return scale * f->s[LR_OWN_ROWS - 1] * rows / most;
    int i = between(rows, &far);
    return scale * exp(log(f->s[i]) + far * (log(f->s[i + 1]) - log(f->s[i])));
}

/* ---------------------------------------------------------------- the model */
static bool add_linear(lr_own_model *out, uint32_t fmt, bool output, double n, double n_expert, double k)
{
    for (int i = 0; i < out->n_linear; i++) {
        if (out->linear[i].fmt != fmt || out->linear[i].output != output ||
            fabs(out->linear[i].n_expert - n_expert) > 0.5 || fabs(out->linear[i].k - k) > 0.5)
            continue;
        out->linear[i].n += n;
        return true;
    }
    if (out->n_linear == (int)LR_LEN(out->linear)) return false;
    out->linear[out->n_linear].fmt = fmt;
    out->linear[out->n_linear].output = output;
    out->linear[out->n_linear].n = n;
    out->linear[out->n_linear].n_expert = n_expert;
    out->linear[out->n_linear++].k = k;
    return true;
}

static bool add_attend(lr_own_model *out, const lr_attn *a)
{
    for (int i = 0; i < out->n_attend; i++) {
        if (!(fabs(out->attend[i].n_head - a->n_head) < 0.5 && fabs(out->attend[i].n_head_kv - a->n_head_kv) < 0.5 &&
              fabs(out->attend[i].head_dim - a->head_dim) < 0.5 && fabs(out->attend[i].window - a->window) < 0.5))
            continue;
        out->attend[i].n_layer++;
        return true;
    }
    if (out->n_attend == (int)LR_LEN(out->attend)) return false;
    out->attend[out->n_attend].n_layer = 1;
    out->attend[out->n_attend].n_head = a->n_head;
    out->attend[out->n_attend].n_head_kv = a->n_head_kv;
    out->attend[out->n_attend].head_dim = a->head_dim;
    out->attend[out->n_attend++].window = a->window;
    return true;
}

uint32_t lr_own_last_attention(const lr_program *p)
{
    uint32_t last = p->n_ops;
    for (uint32_t i = 0; i < p->n_ops; i++)
        if (p->ops[i].kind == LR_OP_ATTEND) last = i;
    return last;
}

double lr_own_row_work(const lr_program *p)
{
    double sum = 0;
    uint32_t last = lr_own_last_attention(p);
    lr_val packed = LR_NONE;
    for (uint32_t i = 0; i < p->n_ops && i < last; i++) {
        const lr_op *op = &p->ops[i];
        bool product = op->kind == LR_OP_LINEAR || op->kind == LR_OP_LINEAR_ROUTED;
        const lr_value *v = &p->values[product ? op->in[0] : op->out];
        if (op->kind == LR_OP_ROUTE || (product && op->in[0] == packed)) continue; /* q, k and v share theirs */
        if (product) packed = op->in[0];
        sum += (double)v->width * v->mul;
    }
    return sum;
}

bool lr_own_model_make(const lr_plan_model *m, lr_own_model *out)
{
    const lr_program *p = &m->program;
    *out = (lr_own_model){.n_layer = m->n_layer, .bytes = m->file_bytes};
    if (!m->has_program) return false;
    out->row_work = lr_own_row_work(p);
    uint32_t last = lr_own_last_attention(p);
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const lr_op *op = &p->ops[i];
        out->twice |= op->kind == LR_OP_ROUTE;
        if (op->kind == LR_OP_ATTEND && !add_attend(out, &op->attn)) return false;
        if (op->kind != LR_OP_LINEAR && op->kind != LR_OP_LINEAR_ROUTED) continue;
        const lr_tensor *t = p->weights[op->w].t;
        const lr_value *v = &p->values[op->out];
        bool routed = op->kind == LR_OP_LINEAR_ROUTED;
        double n = (double)t->ne[0] * (double)t->ne[1] * (double)t->ne[2];
        if (!add_linear(out, t->fmt, i > last || v->rows == LR_ROWS_OUT, n, routed ? (double)t->ne[2] : 0,
                        routed ? v->mul : 0))
            return false;
    }
    return true;
}

/* ---------------------------------------------------------------- a step */
double lr_own_saved(const lr_own *o, const lr_own_model *m, double kv_bytes)
{
    if (!(o->cache_bytes > 0)) return 0;
    double fill = (m->bytes + kv_bytes) / o->cache_bytes;
    if (fill <= lr_own_fill[0]) return 1 - o->in_cache[0];
    for (int i = 1; i <= LR_OWN_FILLS; i++) { /* beyond the last, nothing at twice as much */
        double from = lr_own_fill[i - 1], to = i < LR_OWN_FILLS ? lr_own_fill[i] : 2 * from;
        double near = 1 - o->in_cache[i - 1], far = i < LR_OWN_FILLS ? 1 - o->in_cache[i] : 0;
        if (fill <= to) return near + (far - near) * log(fill / from) / log(to / from);
    }
    return 0;
}

/* Both rows of a token are multiplied as if they were tokens (src/backend/cpu/exec_mm.c). */
static double product(const lr_own *o, bool twice, uint32_t fmt, double rows)
{
    const lr_fmt_info *info = lr_fmt_get(fmt);
    bool whole = info && info->block > 1 && fmt != LR_FMT_F8_E4M3_B128;
    if (!twice || !whole) return per_number(o, fmt, rows);
    return per_number(o, fmt, 2 * rows);
}

static double linears(const lr_own *o, const lr_own_model *m, double n_tok, double n_out, double saved)
{
    double sum = 0;
    for (int i = 0; i < m->n_linear; i++) {
        uint32_t fmt = m->linear[i].fmt;
        double rows = m->linear[i].output ? n_out : n_tok, n = m->linear[i].n, seen = 1, each = rows;
        if (!(rows > 0)) continue;
        if (m->linear[i].n_expert > 0) {
            seen = lr_cost_experts(m->linear[i].n_expert, m->linear[i].k, rows) / m->linear[i].n_expert;
            each = rows * m->linear[i].k / (seen * m->linear[i].n_expert);
        }
        sum += n * seen * (product(o, m->twice, fmt, each) - saved * gain(o, each) * per_number(o, fmt, 1));
    }
    return sum;
}

/* Bytes of cache that each step of this sequence reads are added to *read. */
static double attends(const lr_own *o, const lr_own_model *m, const lr_own_seq *s, double kv_bytes, double saved,
                      double *read)
{
    double sum = 0;
    for (int i = 0; i < m->n_attend; i++) {
        int h = m->attend[i].head_dim <= 96 ? 0 : 1;
        double keys = s->depth + (s->n_tok + 1) / 2, span = s->depth + s->n_tok, window = m->attend[i].window;
        if (window > 0) {
            keys = LR_MIN(keys, window);
            span = LR_MIN(span, window + s->n_tok);
        }
        double bytes = 2 * span * m->attend[i].n_head_kv * m->attend[i].head_dim * kv_bytes;
        double ops = 4 * s->n_tok * keys * m->attend[i].n_head * m->attend[i].head_dim;
        *read += m->attend[i].n_layer * bytes;
        sum += m->attend[i].n_layer *
               LR_MAX(bytes * o->kv_byte_s[h] * (1 - saved), s->n_tok > 1 ? ops * o->attn_op_s[h] : 0);
    }
    return sum;
}

double lr_own_step(const lr_own *o, const lr_own_model *m, const lr_own_seq *seqs, size_t n, double n_out,
                   double kv_bytes, double *part)
{
    double n_seq = 0, n_tok = 0, attention = 0, read = 0, most = lr_own_saved(o, m, 0), saved = 0, kv_saved = 0;
    for (int round = 0; round < (most > 0 ? 2 : 1); round++) { /* the first tells how much cache is read */
        n_seq = n_tok = attention = 0;
        saved = lr_own_saved(o, m, read);
        kv_saved = most > 0 ? (1 - o->kv_in_cache) * saved / most : 0;
        read = 0;
        for (size_t i = 0; i < n; i++) {
            double of_one = 0;
            n_seq += seqs[i].n;
            n_tok += seqs[i].n * seqs[i].n_tok;
            attention += seqs[i].n * attends(o, m, &seqs[i], kv_bytes, kv_saved, &of_one);
            read += seqs[i].n * of_one;
        }
    }
    double matrices = linears(o, m, n_tok, n_out, saved), fixed = m->n_layer * o->layer_s;
    double rows = n_tok * m->row_work * o->row_s;
    if (part) {
        part[n_tok > n_seq ? LR_PART_MATRICES : LR_PART_WEIGHTS] += matrices;
        part[LR_PART_CACHE] += attention;
        part[LR_PART_LAYERS] += fixed;
        part[LR_PART_DECODING] += rows;
    }
    return matrices + attention + fixed + rows;
}

double lr_own_pause(const lr_own *o, const lr_own_model *m)
{
    double saved = lr_own_saved(o, m, 0);
    return o->idle * (linears(o, m, 1, 1, 0) - linears(o, m, 1, 1, saved));
}
