/* place.c - see place.h. */
#include "place.h"

#include <math.h>

#define GIB ((double)LR_GIB)

static double expert_bytes(const lr_plan_model *m)
{
    double sum = 0;
    if (!(m->n_expert > 0)) return 0;
    if (!m->has_program) {
        double share = m->n_expert_used / m->n_expert;
        return share < 1 ? (m->total - m->active) / (1 - share) * m->bits / 8 : 0;
    }
    const lr_program *p = &m->program;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind != LR_OP_LINEAR_ROUTED) continue;
        const lr_tensor *t = p->weights[p->ops[i].w].t;
        double n = (double)t->ne[0] * (double)t->ne[1] * (double)t->ne[2];
        sum += m->bits > 0 ? n * m->bits / 8 : (double)t->n_bytes;
    }
    return sum;
}

/* Whole layers of `all` bytes that `room` holds. */
static double layers_in(double room, double all, double n_layer)
{
    if (!(all > 0)) return n_layer;
    return LR_MAX(0, LR_MIN(n_layer, floor(room / all * n_layer + 1e-9)));
}

void lr_place(const lr_machine *m, const lr_plan_model *model, const lr_setup *s, double cache, double scratch,
              lr_placement *out)
{
    double experts = expert_bytes(model), dense = model->file_bytes - experts, L = LR_MAX(model->n_layer, 1);
    bool card = !m->unified && m->kind != LR_KIND_CPU;
    double room = card ? LR_MAX(0, m->memory * m->usable * m->count - scratch) : INFINITY, row = 2 * model->n_embd;
    *out = (lr_placement){.n_layer = L};
    out->n_layer_dense = isfinite(room) ? layers_in(room, dense + cache, L) : L; /* a layer goes with its cache */
    out->dense = dense * out->n_layer_dense / L;
    out->kv = cache * out->n_layer_dense / L;
    room -= out->dense + out->kv;
    out->n_layer_experts = isfinite(room) ? layers_in(room, experts, L) : L;
    if (out->n_layer_dense < L) out->n_layer_experts = 0;
    out->experts = experts * out->n_layer_experts / L;
    out->host_dense = dense - out->dense;
    out->host_kv = cache - out->kv;
    out->host_experts = experts - out->experts;
    /* a layer on the host takes its rows from the card and gives them back: once for a run of layers, or for the experts
     * of each; a prompt's many tokens have the weights brought to the card instead */
    double away = experts > 0 && out->n_layer_dense >= L ? L - out->n_layer_experts : out->n_layer_dense < L ? 1 : 0;
    out->pcie_decode = card ? 2 * row * away : 0;
    out->pcie_prefill = card ? out->host_dense + out->host_experts + 2 * row * s->ubatch * away : 0;
    if (m->count > 1) {
        double hops = m->count - 1, reduce = 2 * L * 2 * hops / m->count;
        out->link_decode = out->link_prefill = row * (s->tensor_split ? reduce * m->count : hops);
    }
}

void lr_place_text(const lr_placement *p, const lr_machine *m, lr_buf *b)
{
    double host = p->host_dense + p->host_kv + p->host_experts;
    if (host > 0 && !m->unified && m->kind != LR_KIND_CPU) {
        lr_buf_printf(b,
                      "  best placement: on the card what every token reads of %.0f of %.0f layers, and their cache "
                      "(%.2f GiB)",
                      p->n_layer_dense, p->n_layer, (p->dense + p->kv) / GIB);
        if (p->host_experts + p->experts > 0)
            lr_buf_printf(b, " and the experts of %.0f (%.2f GiB)", p->n_layer_experts, p->experts / GIB);
        lr_buf_printf(b, "; in system memory %.2f GiB of weights and %.2f of cache, read at %.0f GB/s\n",
                      (p->host_dense + p->host_experts) / GIB, p->host_kv / GIB, m->host_bw * 1e-9);
        lr_buf_printf(b, "  across PCIe: %.1f kB a token of an answer, %.2f GB a ubatch of a prompt\n",
                      p->pcie_decode * 1e-3, p->pcie_prefill * 1e-9);
    }
    if (p->link_decode > 0)
        lr_buf_printf(b, "  between the %s: %.1f kB a token\n", m->cluster ? "machines" : "cards",
                      p->link_decode * 1e-3);
}

static void stretch(lr_buf *b, double from, double to, const char *where, double bytes, double bw, double extra_s,
                    const char *extra)
{
    if (to <= from) return;
    lr_buf_printf(b, "  layers %3.0f to %-3.0f  %-34s %8.2f MB each, waits %.3f ms for it", from, to - 1, where,
                  bytes * 1e-6, bytes / bw * 1e3);
    if (extra_s > 0) lr_buf_printf(b, ", %.3f ms for %s", extra_s * 1e3, extra);
    lr_buf_putc(b, '\n');
}

void lr_place_timeline(const lr_placement *p, const lr_machine *m, const lr_plan_model *model, lr_buf *b)
{
    double L = p->n_layer, dense = (p->dense + p->host_dense) / L, experts = (p->experts + p->host_experts) / L;
    double used = model->n_expert > 0 ? model->n_expert_used / model->n_expert : 0, row = 2 * model->n_embd;
    double wire = m->pcie > 0 ? 2 * row / m->pcie + 20e-6 : 0, bw = LR_MAX(m->bw, 1), host = LR_MAX(m->host_bw, 1e9);
    double per = m->count > 1 && m->link > 0 && m->cluster ? row / m->link + 20e-6 : 0;
    lr_buf_printf(b, "\ntimeline of a token (at the stated bandwidths):\n");
    if (experts > 0) {
        stretch(b, 0, p->n_layer_experts, "memory of the card", dense + used * experts, bw, 0, "");
        if (p->n_layer_dense >= L)
            stretch(b, p->n_layer_experts, L, "card; experts in system memory", dense, bw,
                    used * experts / host + wire, "experts and PCIe");
    } else {
        stretch(b, 0, p->n_layer_dense, m->unified ? "its one memory" : "memory of the card", dense, bw, 0, "");
    }
    if (p->n_layer_dense < L)
        stretch(b, p->n_layer_dense, L, "system memory", dense + used * experts, host, wire / (L - p->n_layer_dense),
                "PCIe");
    if (per > 0) lr_buf_printf(b, "  between machines: %.3f ms a hop, %d hops\n", per * 1e3, m->count - 1);
}

void lr_place_json(const lr_placement *p, lr_buf *b)
{
    lr_buf_printf(b,
                  ",\n \"placement\": {\"dense\": %.0f, \"cache\": %.0f, \"experts\": %.0f, \"host_dense\": %.0f, "
                  "\"host_cache\": %.0f, \"host_experts\": %.0f, \"pcie_decode\": %.0f, \"pcie_prefill\": %.0f, "
                  "\"link_decode\": %.0f}",
                  p->dense, p->kv, p->experts, p->host_dense, p->host_kv, p->host_experts, p->pcie_decode,
                  p->pcie_prefill, p->link_decode);
}
