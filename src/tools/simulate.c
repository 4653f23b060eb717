/* simulate.c - see simulate.h. */
#include "simulate.h"

#include "traffic.h"
#include "report.h"
#include "schedule.h"

#include <math.h>
#include <stdlib.h>

enum { BLOCK = 32, MOST = 1 << 20, MEMO = 1 << 12 };

/* Measured on loopback (bench/results/zen5-serving.csv). A request's way to the engine and its first token's way back: a
 * connection, its parsing, three threads that wake. A token's: text and event on the engine's thread; then the write to the
 * socket and a client that reads it, on other threads, which take the cores from the engine's where those are all there are:
 * a step ends with its last thread. */
#define WAY_IN 0.6e-3
#define HAND_OUT 10e-6
#define BESIDE 64e-6

typedef struct request {
    lr_job job;
    double at, t_first, t_last;
    uint32_t n_prompt, n_answer, n_max, user;
    bool done;
} request;

/* What a step of these costs, kept: predictions of other machines take too long to be made for every step. */
typedef struct memo {
    uint64_t key;
    double s;
} memo;

typedef struct sim {
    const lr_machine *m;
    const lr_plan_model *model;
    lr_setup setup;
    const lr_sim_ask *ask;
    bool own;
    double way_in, hand_out, pause; /* seconds per request; per token; of a first step after a pause */
    lr_own_model sum;
    lr_own_seq *seqs;
    memo *memo;
    lr_sched sched;
    lr_sched_memory memory;
    uint32_t n_block, n_free;
    request *requests;
    uint32_t n, n_due, n_left; /* made; whose time has come; not done */
    double (*trace)[3];
    uint32_t n_trace;
    uint64_t random;
    double now;
    bool rested; /* nothing ran for a while */
} sim;

/* ---------------------------------------------------------------- the cache, counted */
static uint32_t blocks_of(uint32_t n) { return (n + BLOCK - 1) / BLOCK; }

static bool admit(void *user, lr_job *j, uint32_t spare)
{
    sim *s = user;
    uint32_t need = blocks_of(j->n_ids);
    if ((uint64_t)s->n_free < (uint64_t)need + spare) return false;
    s->n_free -= need;
    j->n_blocks = need;
    j->n_done = 0;
    return true;
}

static bool grow(void *user, lr_job *j, uint32_t n_pos)
{
    sim *s = user;
    uint32_t need = blocks_of(n_pos);
    if (need <= j->n_blocks) return true;
    if (s->n_free < need - j->n_blocks) return false;
    s->n_free -= need - j->n_blocks;
    j->n_blocks = need;
    return true;
}

static void evict(void *user, lr_job *j)
{
    sim *s = user;
    s->n_free += j->n_blocks;
    j->n_blocks = j->n_done = 0;
}

static uint32_t room(void *user) { return ((sim *)user)->n_free; }

/* ---------------------------------------------------------------- seconds of a step */
static double predicted(const sim *s, lr_work task, double n_tok, double n_seq, double depth)
{
    lr_features f;
    lr_prediction p;
    lr_setup setup = s->setup;
    setup.ubatch = LR_MAX(n_tok, 1);
    lr_features_make(s->m, s->model, &setup, task, n_tok, n_seq, depth, &f);
    lr_predict(&f, &p);
    return p.seconds;
}

/* A step of n answers at this depth, and a chunk of prompts: the chunk's time, with the answers' rows in it, and what
 * reading the answers' caches adds. */
static double mixed(const sim *s, double n, double depth, double chunk, double chunk_depth)
{
    if (!(chunk > 0)) return predicted(s, LR_TASK_DECODE, n, n, depth);
    double sum = predicted(s, LR_TASK_PREFILL, chunk + n, 1, chunk_depth);
    if (n > 0) sum += predicted(s, LR_TASK_DECODE, n, n, depth) - predicted(s, LR_TASK_DECODE, n, n, 0);
    return sum;
}

static double kept(sim *s, double n, double depth, double chunk, double chunk_depth)
{
    uint64_t a = (uint64_t)n, b = (uint64_t)(depth / 128 + 0.5), c = (uint64_t)(chunk / 8 + 0.5),
             d = (uint64_t)(chunk_depth / 128 + 0.5);
    uint64_t key = (((a * 4096 + b) * 4096 + c) * 4096 + d) * 2 + 1;
    memo *at = &s->memo[(key * 0x9e3779b97f4a7c15ull >> 40) % MEMO];
    if (at->key == key) return at->s;
    at->key = key;
    return at->s = mixed(s, n, (double)b * 128, chunk > 0 ? LR_MAX((double)c * 8, 1) : 0, (double)d * 128);
}

static double step_seconds(sim *s, lr_job *const *who, uint32_t n)
{
    double n_decode = 0, depth = 0, chunk = 0, at = 0, n_out = 0;
    for (uint32_t i = 0; i < n; i++) {
        s->seqs[i] = (lr_own_seq){.n = 1, .n_tok = who[i]->n_tok, .depth = who[i]->n_done};
        n_out += who[i]->n_done + who[i]->n_tok == who[i]->n_ids;
        if (who[i]->n_tok == 1 && who[i]->n_ids > who[i]->n_prompt) {
            n_decode++;
            depth += who[i]->n_done;
        } else {
            chunk += who[i]->n_tok;
            at += (double)who[i]->n_tok * who[i]->n_done;
        }
    }
    if (s->own)
        return lr_own_step(s->m->own, &s->sum, s->seqs, n, n_out, s->setup.kv_bytes, NULL) +
               n_out * (s->model->model.hp.n_vocab * s->m->own->sample_s + s->hand_out);
    return kept(s, n_decode, n_decode > 0 ? depth / n_decode : 0, chunk, chunk > 0 ? at / chunk : 0);
}

/* ---------------------------------------------------------------- who comes when */
static uint32_t length(sim *s, const char *text)
{
    uint32_t n = 1;
    (void)lr_load_draw(text, &s->random, &n);
    return n;
}

/* Makes the next request, due at `at`, and queues it if it can ever run. */
static larder_status arrive(sim *s, double at, uint32_t user, larder_error *err)
{
    request *r = &s->requests[s->n];
    *r = (request){.at = at, .user = user};
    if (s->trace) {
        r->n_prompt = (uint32_t)s->trace[s->n][1];
        r->n_answer = (uint32_t)s->trace[s->n][2];
    } else {
        r->n_prompt = length(s, s->ask->prompt);
        r->n_answer = length(s, s->ask->answer);
    }
    s->n++;
    if (r->n_prompt >= s->ask->n_ctx || blocks_of(r->n_prompt + 1) > s->n_block) {
        r->done = true;
        s->n_left--;
        return LARDER_OK;
    }
    r->n_max = LR_MIN(r->n_prompt + r->n_answer, s->ask->n_ctx);
    r->n_answer = r->n_max - r->n_prompt;
    r->job = (lr_job){.user = r, .client = user + 1, .n_prompt = r->n_prompt, .n_ids = r->n_prompt};
    return lr_sched_add(&s->sched, &r->job, s->now, err);
}

static larder_status finish(sim *s, request *r, larder_error *err)
{
    s->n_free += r->job.n_blocks;
    r->job.n_blocks = 0;
    lr_sched_remove(&s->sched, &r->job);
    r->done = true;
    s->n_left--;
    bool closed = !s->trace && !(s->ask->rate > 0);
    /* the next of this user is on its way to the engine, which its clock does not wait for */
    return closed && s->n < s->n_due ? arrive(s, s->now - s->way_in, r->user, err) : LARDER_OK;
}

static larder_status take_step(sim *s, lr_sim *out, bool *stuck, larder_error *err)
{
    uint32_t n;
    lr_job *const *who = lr_sched_step(&s->sched, s->now, &s->memory, &n);
    *stuck = !n;
    if (!n) return LARDER_OK;
    double cost = step_seconds(s, who, n) + (s->rested ? s->pause : 0), used = 1 - (double)s->n_free / s->n_block;
    s->rested = false;
    s->now += cost;
    out->n_steps++;
    out->queue_mean += cost * s->sched.n_waiting;
    out->queue_max = LR_MAX(out->queue_max, s->sched.n_waiting);
    out->running_mean += cost * s->sched.n_running;
    out->kv_mean += cost * used;
    out->kv_max = LR_MAX(out->kv_max, used);
    request *over[4096];
    uint32_t n_over = 0;
    for (uint32_t i = 0; i < n; i++) {
        request *r = who[i]->user;
        r->job.n_done += r->job.n_tok;
        if (r->job.n_done < r->job.n_ids) continue;
        r->job.n_ids++;
        r->t_last = s->now;
        if (!(r->t_first > 0)) r->t_first = s->now;
        if (r->job.n_ids >= r->n_max && n_over < LR_LEN(over)) over[n_over++] = r;
    }
    for (uint32_t i = 0; i < n_over; i++) LR_TRY(finish(s, over[i], err));
    return LARDER_OK;
}

static larder_status run(sim *s, lr_sim *out, larder_error *err)
{
    bool stuck;
    double next = s->trace ? s->trace[0][0] : s->ask->rate > 0 ? 0 : INFINITY; /* of an open loop */
    for (uint32_t i = 0; !s->trace && !(s->ask->rate > 0) && i < s->ask->n_users && s->n < s->n_due; i++)
        LR_TRY(arrive(s, 0, i, err));
    while (s->n_left) {
        while (s->n < s->n_due && next + s->way_in <= s->now) {
            LR_TRY(arrive(s, next, 0, err));
            next = !s->trace         ? next - log(lr_load_uniform(&s->random)) / s->ask->rate
                   : s->n < s->n_due ? s->trace[s->n][0]
                                     : INFINITY;
        }
        LR_TRY(take_step(s, out, &stuck, err));
        if (!stuck) continue;
        if (s->n < s->n_due && isfinite(next)) {
            s->rested = next + s->way_in > s->now + LR_OWN_IDLE;
            s->now = LR_MAX(s->now, next + s->way_in);
        } else if (s->n_left) return lr_fail(err, LARDER_INTERNAL, "the simulated scheduler came to a halt");
    }
    return LARDER_OK;
}

/* ---------------------------------------------------------------- figures */
static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *v, size_t n, double q)
{
    double at = q * (double)(n - 1);
    size_t i = (size_t)at;
    return i + 1 < n ? v[i] + (at - (double)i) * (v[i + 1] - v[i]) : v[n - 1];
}

static larder_spread spread(double *v, size_t n)
{
    larder_spread s = {0};
    if (!n) return s;
    qsort(v, n, sizeof *v, by_value);
    for (size_t i = 0; i < n; i++) s.mean += v[i] / (double)n;
    s.p50 = quantile(v, n, 0.5);
    s.p90 = quantile(v, n, 0.9);
    s.p95 = quantile(v, n, 0.95);
    s.p99 = quantile(v, n, 0.99);
    s.max = v[n - 1];
    return s;
}

static larder_status figures(const sim *s, lr_sim *out, larder_error *err)
{
    double *v = lr_alloc((s->n + 1) * sizeof *v);
    if (!v) return LR_NOMEM(err, "the figures");
    for (int which = 0; which < 3; which++) {
        size_t n = 0;
        for (uint32_t i = 0; i < s->n; i++) {
            const request *r = &s->requests[i];
            if (!(r->t_first > 0) || (which == 1 && r->n_answer < 2)) continue;
            if (which == 0) v[n++] = r->t_first - r->at;
            else if (which == 1) v[n++] = (r->t_last - r->t_first) / (r->n_answer - 1);
            else v[n++] = r->t_last - r->at;
        }
        *(which == 0 ? &out->ttft : which == 1 ? &out->tpot : &out->e2e) = spread(v, n);
    }
    lr_free(v);
    out->n_requests = s->n;
    for (uint32_t i = 0; i < s->n; i++) {
        const request *r = &s->requests[i];
        bool ran = r->t_first > 0;
        out->n_done += ran;
        out->n_refused += !ran;
        out->n_prompt += ran ? r->n_prompt : 0;
        out->n_answer += ran ? r->n_answer : 0;
    }
    out->seconds = s->now;
    out->n_preempted = s->sched.n_preempted;
    if (s->now > 0) {
        out->queue_mean /= s->now;
        out->running_mean /= s->now;
        out->kv_mean /= s->now;
    }
    return LARDER_OK;
}

static larder_status check(const lr_sim_ask *a, larder_error *err)
{
    uint64_t seed = 1;
    uint32_t n;
    if (!(a->rate >= 0 && a->rate <= 1e6))
        return lr_fail(err, LARDER_USAGE, "a rate of %g requests a second", a->rate);
    if (!a->trace && (!lr_load_draw(a->prompt, &seed, &n) || !lr_load_draw(a->answer, &seed, &n)))
        return lr_fail(err, LARDER_USAGE,
                       "lengths are N, A-B, exp:MEAN, normal:MEAN,SD or lognormal:MEDIAN,SIGMA, of 1 to 10,000,000");
    if (!a->trace && (!a->n_requests || a->n_requests > MOST))
        return lr_fail(err, LARDER_USAGE, "%u requests; 1 to %d can be simulated", a->n_requests, MOST);
    if (!a->n_parallel || a->n_parallel > 4096)
        return lr_fail(err, LARDER_USAGE, "%u answers at once; 1 to 4096 can be", a->n_parallel);
    return LARDER_OK;
}

/* What requests and tokens cost besides steps on this machine. */
static void beside(sim *s)
{
    lr_topology t;
    lr_topology_get(&t);
    int busy = t.n_core_perf ? t.n_core_perf : t.n_core; /* what the engine takes by default */
    s->way_in = WAY_IN;
    s->hand_out = HAND_OUT + (t.n_thread > busy ? 0 : BESIDE);
    s->pause = lr_own_pause(s->m->own, &s->sum);
}

larder_status lr_simulate(const lr_machine *m, const lr_plan_model *model, const lr_setup *setup,
                          const lr_sim_ask *ask, lr_sim *out, larder_error *err)
{
    sim s = {.m = m, .model = model, .setup = *setup, .ask = ask, .random = ask->seed};
    lr_sched_limits l = {.n_seq = ask->n_parallel, .n_tok = LR_MAX(ask->n_batch, ask->n_parallel), .block = BLOCK};
    larder_status st;
    l.n_mixed = ask->n_mixed;
    *out = (lr_sim){0};
    LR_TRY(check(ask, err));
    if (!ask->n_ctx) return lr_fail(err, LARDER_NOMEM, "no context fits %s there", model->name);
    if (ask->trace) LR_TRY(lr_load_trace(ask->trace, &s.trace, &s.n_trace, err));
    s.n_due = s.n_left = s.trace ? s.n_trace : ask->n_requests;
    s.own = m->own && setup->engine == LR_ENGINE_LARDER && lr_own_model_make(model, &s.sum);
    if (s.own) beside(&s);
    s.n_block = s.n_free = (uint32_t)LR_MIN((uint64_t)blocks_of(ask->n_ctx) * ask->n_parallel, (uint64_t)1 << 30);
    s.memory = (lr_sched_memory){&s, admit, grow, evict, room, NULL};
    s.requests = lr_calloc((size_t)s.n_due + 1, sizeof *s.requests);
    s.seqs = lr_calloc(ask->n_parallel, sizeof *s.seqs);
    s.memo = lr_calloc(MEMO, sizeof *s.memo);
    if (!s.requests || !s.seqs || !s.memo) LR_GO(LR_NOMEM(err, "the simulation"));
    LR_GO(lr_sched_init(&s.sched, &l, err));
    LR_GO(run(&s, out, err));
    LR_GO(figures(&s, out, err));
fail:
    lr_sched_close(&s.sched);
    lr_free(s.requests);
    lr_free(s.seqs);
    lr_free(s.memo);
    lr_free(s.trace);
    return st;
}

/* ---------------------------------------------------------------- as text */
static void spread_line(lr_buf *b, const char *name, const larder_spread *s)
{
    lr_buf_printf(b, "  %-22s %9.1f %9.1f %9.1f %9.1f %9.1f\n", name, s->mean * 1e3, s->p50 * 1e3, s->p90 * 1e3,
                  s->p99 * 1e3, s->max * 1e3);
}

static double per_s(double n, const lr_sim *r) { return r->seconds > 0 ? n / r->seconds : 0; }

void lr_sim_text(const lr_sim *r, const lr_sim_ask *ask, const char *machine, lr_buf *b)
{
    lr_buf_printf(b, "serving on %s, simulated: %u requests", machine, r->n_requests);
    if (ask->trace) lr_buf_printf(b, " of %s", ask->trace);
    else if (ask->rate > 0) lr_buf_printf(b, ", %.3g a second", ask->rate);
    else lr_buf_printf(b, " of %u users in turn", ask->n_users);
    lr_buf_printf(b, ", at most %u answers at once, context %u\n", ask->n_parallel, ask->n_ctx);
    lr_buf_printf(b, "  %.2f answers a second, %.1f tokens a second of answers and %.1f of prompts, over %.1f s\n",
                  per_s(r->n_done, r), per_s(r->n_answer, r), per_s(r->n_prompt, r), r->seconds);
    lr_buf_printf(b, "  %-22s %9s %9s %9s %9s %9s\n", "milliseconds", "mean", "p50", "p90", "p99", "most");
    spread_line(b, "first token (TTFT)", &r->ttft);
    spread_line(b, "each further (TPOT)", &r->tpot);
    spread_line(b, "whole answer", &r->e2e);
    lr_buf_printf(b,
                  "  waiting: %.1f on average, %.0f at most; running: %.1f; cache in use: %.0f%%, %.0f%% at most; "
                  "preempted: %llu\n",
                  r->queue_mean, r->queue_max, r->running_mean, 100 * r->kv_mean, 100 * r->kv_max,
                  (unsigned long long)r->n_preempted);
    if (r->n_refused) lr_buf_printf(b, "  refused, longer than the context: %u\n", r->n_refused);
}

static void spread_json(lr_buf *b, const char *name, const larder_spread *s)
{
    lr_buf_printf(b,
                  ",\n \"%s_s\": {\"mean\": %.6f, \"p50\": %.6f, \"p90\": %.6f, \"p95\": %.6f, \"p99\": %.6f, "
                  "\"max\": %.6f}",
                  name, s->mean, s->p50, s->p90, s->p95, s->p99, s->max);
}

void lr_sim_json(const lr_sim *r, const lr_machine *machine, lr_buf *b)
{
    lr_buf_puts(b, "{\"machine\": ");
    lr_json_text(b, machine->name);
    lr_buf_printf(
        b,
        ", \"guessed\": %s, \"requests\": %u, \"done\": %u, \"refused\": %u, \"seconds\": %.4f, \"answers_s\": "
        "%.4f,\n"
        " \"prompt_tok_s\": %.3f, \"answer_tok_s\": %.3f, \"steps\": %u, \"preempted\": %llu,\n"
        " \"queue_mean\": %.3f, \"queue_max\": %.0f, \"running_mean\": %.3f, \"kv_mean\": %.4f, \"kv_max\": "
        "%.4f",
        machine->guessed ? "true" : "false", r->n_requests, r->n_done, r->n_refused, r->seconds, per_s(r->n_done, r),
        per_s(r->n_prompt, r), per_s(r->n_answer, r), r->n_steps, (unsigned long long)r->n_preempted, r->queue_mean,
        r->queue_max, r->running_mean, r->kv_mean, r->kv_max);
    spread_json(b, "ttft", &r->ttft);
    spread_json(b, "tpot", &r->tpot);
    spread_json(b, "e2e", &r->e2e);
    lr_buf_puts(b, "}");
}
