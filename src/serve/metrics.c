/* metrics.c - figures in the text format of Prometheus. */
#include "serve.h"

static const double bounds[15] = {0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60};

void metric_add(histogram *h, double seconds)
{
    size_t i = 0;
    while (i < LR_LEN(bounds) && seconds > bounds[i]) i++;
    h->count[i]++;
    h->n++;
    h->sum += seconds;
}

static void put_histogram(lr_buf *b, const char *name, const char *help, const histogram *h)
{
    uint64_t n = 0;
    lr_buf_printf(b, "# HELP larder_%s_seconds %s\n# TYPE larder_%s_seconds histogram\n", name, help, name);
    for (size_t i = 0; i < LR_LEN(bounds); i++) {
        n += h->count[i];
        lr_buf_printf(b, "larder_%s_seconds_bucket{le=\"%g\"} %llu\n", name, bounds[i], (unsigned long long)n);
    }
    lr_buf_printf(
        b, "larder_%s_seconds_bucket{le=\"+Inf\"} %llu\nlarder_%s_seconds_sum %.9g\nlarder_%s_seconds_count %llu\n",
        name, (unsigned long long)h->n, name, h->sum, name, (unsigned long long)h->n);
}

static void put(lr_buf *b, const char *type, const char *name, const char *help, double value)
{
    lr_buf_printf(b, "# HELP larder_%s %s\n# TYPE larder_%s %s\nlarder_%s %.15g\n", name, help, name, type, name,
                  value);
}

/* Names come from whoever runs the server and from the store; still, a label's text has its escapes. */
static void put_label(lr_buf *b, const char *name)
{
    for (; *name; name++) {
        if (*name == '"' || *name == '\\') lr_buf_putc(b, '\\');
        lr_buf_putc(b, *name < ' ' ? '?' : *name);
    }
}

static void put_energy(lr_buf *b, server *s)
{
    double joules[2];
    put(b, "gauge", "energy_known", "Whether this process may read the processor's meters (RAPL).", s->energy.n > 0);
    if (!s->energy.n) return; /* unavailable, rather than 0 */
    work_joules(s, joules);
    lr_buf_puts(b,
                "# HELP larder_energy_joules_total Joules of the processor while answers were made, other programs' "
                "included.\n# TYPE larder_energy_joules_total counter\n");
    lr_buf_printf(b, "larder_energy_joules_total{phase=\"prefill\"} %.6f\n", joules[0]);
    lr_buf_printf(b, "larder_energy_joules_total{phase=\"decode\"} %.6f\n", joules[1]);
}

static void put_buffers(lr_buf *b, const served_view *v)
{
    for (uint32_t i = 0; v->loaded && i < v->plan.n_buffers; i++) {
        lr_buf_puts(b, "larder_model_buffer_bytes{model=\"");
        put_label(b, v->name);
        lr_buf_printf(b, "\",buffer=\"%s\",memory=\"%s\"} %llu\n", v->plan.buffers[i].name,
                      v->plan.buffers[i].card ? "card" : "system", (unsigned long long)v->plan.buffers[i].n_bytes);
    }
}

/* What the card says of itself now, and what of it is ours by plan. */
static void put_card(lr_buf *b, const server *s, const served_list *l)
{
    larder_card card;
    if (!strcmp(s->device, "cpu") || larder_card_get(&card, NULL)) return;
    put(b, "gauge", "card_memory_bytes", "Memory of the graphics card.", (double)card.n_bytes);
    put(b, "gauge", "card_memory_free_bytes", "Of it, free now, whoever has the rest.", (double)card.n_free);
    put(b, "gauge", "models_card_memory_bytes", "What the loaded models were planned to take of it.",
        (double)l->card_taken);
    put(b, "gauge", "models_card_memory_limit_bytes", "What they may take of it together.", (double)l->card_budget);
}

static void put_models(lr_buf *b, server *s)
{
    served_list l;
    models_view(s, &l, false);
    put_card(b, s, &l);
    put(b, "gauge", "models_memory_bytes", "What the loaded models were planned to take of the system's memory.",
        (double)l.taken);
    put(b, "gauge", "models_memory_limit_bytes", "What they may take together.", (double)l.budget);
    lr_buf_puts(b, "# HELP larder_model_loaded Whether a model is loaded.\n# TYPE larder_model_loaded gauge\n");
    for (size_t i = 0; i < l.n; i++) {
        lr_buf_puts(b, "larder_model_loaded{model=\"");
        put_label(b, l.v[i].name);
        lr_buf_printf(b, "\"} %d\n", l.v[i].loaded);
    }
    lr_buf_puts(b, "# HELP larder_model_buffer_bytes What each buffer of a loaded model was planned to take.\n"
                   "# TYPE larder_model_buffer_bytes gauge\n");
    for (size_t i = 0; i < l.n; i++) put_buffers(b, &l.v[i]);
    put(b, "counter", "models_loaded_total", "Times a model was loaded.", (double)l.n_loads);
    put(b, "counter", "models_unloaded_total", "Times one was unloaded.", (double)l.n_unloads);
    models_view_free(&l);
}

void metrics_get(exchange *x)
{
    static const char *const finishes[] = {"", "eos", "stop", "length", "cancelled", "error", "deadline"};
    server *s = x->s;
    const metrics *m = &s->m;
    const larder_engine_stats e = models_stats(s);
    lr_buf b = {0};
    put_histogram(&b, "time_to_first_token", "From the request's arrival to its first token.", &m->ttft);
    put_histogram(&b, "inter_token", "Between two tokens of an answer.", &m->gap);
    put_histogram(&b, "queue", "From arrival until the engine began.", &m->queue);
    put_histogram(&b, "prefill", "From the engine's beginning to the first token.", &m->prefill);
    put_histogram(&b, "decode", "From the first token to the last.", &m->decode);
    put_histogram(&b, "request", "From arrival to the last token.", &m->e2e);
    put(&b, "gauge", "requests_running", "Answers in the batch.", e.n_running);
    put(&b, "gauge", "requests_waiting", "Answers that wait for a place in it.", e.n_waiting);
    put(&b, "gauge", "calls", "Calls alive, however far.", s->n_calls);
    put(&b, "gauge", "kv_blocks", "Blocks of the KV cache.", e.n_block);
    put(&b, "gauge", "kv_blocks_used", "Blocks that running answers hold.", e.n_block_used);
    put(&b, "gauge", "kv_blocks_cached", "Blocks kept for prefixes that may come again.", e.n_block_cached);
    put(&b, "gauge", "kv_use_ratio", "Used blocks of all.", e.n_block ? (double)e.n_block_used / e.n_block : 0);
    put(&b, "counter", "prompt_tokens_total", "Tokens of prompts.", (double)m->prompt_tokens);
    put(&b, "counter", "prompt_tokens_cached_total", "Of them, taken from the prefix cache.",
        (double)m->cached_tokens);
    put(&b, "counter", "generated_tokens_total", "Tokens of answers.", (double)m->generated_tokens);
    put(&b, "counter", "steps_total", "Steps of the engine.", (double)e.n_steps);
    put(&b, "counter", "prefix_tokens_total", "Tokens of prompts that were looked up in the prefix cache.",
        (double)e.n_prompt);
    put(&b, "counter", "prefix_hit_tokens_total", "Of them, those found.", (double)e.n_prompt_cached);
    put(&b, "counter", "preemptions_total", "Answers that gave way to others for a time.", (double)e.n_preempted);
    put(&b, "counter", "recomputed_tokens_total", "Tokens computed again after that.", (double)e.n_recomputed);
    put(&b, "counter", "swap_out_blocks_total", "Blocks of the KV cache written to the swap.", (double)e.n_swap_out);
    put(&b, "counter", "swap_in_blocks_total", "Blocks read back from it.", (double)e.n_swap_in);
    put(&b, "counter", "swap_lost_blocks_total", "Blocks that went from it for good.", (double)e.n_swap_lost);
    put(&b, "gauge", "swap_blocks", "Blocks the swap can hold.", e.n_swap);
    put(&b, "gauge", "swap_blocks_used", "Blocks in it.", e.n_swap_used);
    put(&b, "counter", "drafted_tokens_total", "Tokens guessed ahead.", (double)e.n_drafted);
    put(&b, "counter", "accepted_tokens_total", "Of them, those that were right.", (double)e.n_accepted);
    put(&b, "counter", "queue_seconds_total", "Time answers waited for a place in the batch.", e.queue_s);
    put(&b, "counter", "deadlines_total", "Answers that ended at their deadline.", (double)e.n_expired);
    put(&b, "counter", "calls_refused_total", "Calls refused because too many wait.", (double)m->refused_queue);
    put(&b, "counter", "clients_left_total", "Clients that left before their answer was whole.",
        (double)m->cancelled);
    put(&b, "counter", "slow_readers_total", "Clients dropped because they did not read.", (double)m->slow_readers);
    lr_buf_puts(&b, "# HELP larder_answers_total Answers by how they ended.\n# TYPE larder_answers_total counter\n");
    for (size_t i = 1; i < LR_LEN(finishes); i++)
        lr_buf_printf(&b, "larder_answers_total{finish=\"%s\"} %llu\n", finishes[i],
                      (unsigned long long)m->finish[i]);
    lr_buf_puts(
        &b, "# HELP larder_http_responses_total Responses by status.\n# TYPE larder_http_responses_total counter\n");
    for (size_t i = 2; i < LR_LEN(m->requests); i++)
        lr_buf_printf(&b, "larder_http_responses_total{status=\"%zuxx\"} %llu\n", i,
                      (unsigned long long)m->requests[i]);
    put(&b, "counter", "decode_read_bytes_total", "Weight and cache bytes that decoding had to read.",
        m->decode_bytes);
    if (s->o.bandwidth > 0)
        put(&b, "gauge", "memory_read_bytes_per_second", "What this memory was measured to read.", s->o.bandwidth);
    put_energy(&b, s);
    put_models(&b, s);
    put(&b, "gauge", "process_resident_bytes", "Resident memory.", (double)lr_rss_now());
    put(&b, "gauge", "process_resident_peak_bytes", "Most of it so far.", (double)lr_rss_peak());
    char *text = lr_buf_steal(&b);
    reply_text(x, text ? 200 : 503, "text/plain; version=0.0.4; charset=utf-8", text ? text : "");
    lr_free(text);
}
