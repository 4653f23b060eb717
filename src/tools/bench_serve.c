/* bench_serve.c - load on a server, and what it made of it: any server that speaks the OpenAI API with streams.
 *
 * Owns: when requests are sent (Poisson, a trace, users in turn), what they say, what is timed. One thread and libcurl's
 * multi interface, so that it takes little of a machine it shares with the server. Refuses to own: how figures are shown.
 *
 * An open loop sends when its clock says so, however slow the server is: waiting for answers would hide the queue that
 * slow answers make (coordinated omission). Prompts are plain words; how many make a token here is asked of the server
 * first, by two small requests whose usage tells it. Lengths of answers are held by max_tokens and ignore_eos.
 */
#include "base.h"
#include "larder_tools.h"
#include "traffic.h"

#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

enum { MOST_REQUESTS = 1 << 24, MOST_LINE = 1 << 20, MOST_TRACE = 64 << 20 };

typedef struct load load;

/* A place for one request at a time. */
typedef struct flight {
    load *l;
    CURL *curl;
    char *body;
    lr_buf line;
    bool busy;
    uint32_t index; /* of l->requests */
    uint32_t user;
    uint64_t t_send, t_first, t_last;
    uint32_t n_pieces;
    bool finished; /* the stream said that it is over */
} flight;

struct load {
    const larder_load_options *o;
    CURLM *multi;
    struct curl_slist *headers;
    char url[1200], model[300];
    flight **flights;
    uint32_t n_flights, n_open;
    larder_load_request *requests; /* [n_sent], room for cap */
    uint32_t n_sent, cap, n_done;
    double per_word, fixed; /* tokens */
    uint64_t random;
    uint64_t t0;
    double next_at;    /* seconds after t0: the next of an open loop */
    uint64_t *user_at; /* ns: when a user may send again; UINT64_MAX while it waits for an answer */
    double (*trace)[3];
    uint32_t n_trace;
    float *gaps;
    size_t n_gaps, cap_gaps;
    bool out_of_memory;
    char complaint[300]; /* the first refusal's text */
};

/* ---------------------------------------------------------------- chance */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

double lr_load_uniform(uint64_t *state)
{
    *state = mix(*state);
    return ((double)(*state >> 11) + 1) * 0x1p-53;
}

static double normal(uint64_t *state)
{
    double u = lr_load_uniform(state), v = lr_load_uniform(state);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

bool lr_load_draw(const char *text, uint64_t *state, uint32_t *out)
{
    double a = 0, b = 0, v;
    int n = 0;
    if (sscanf(text, "exp:%lf%n", &a, &n) == 1 && !text[n]) v = -a * log(lr_load_uniform(state));
    else if (sscanf(text, "normal:%lf,%lf%n", &a, &b, &n) == 2 && !text[n]) v = a + b * normal(state);
    else if (sscanf(text, "lognormal:%lf,%lf%n", &a, &b, &n) == 2 && !text[n]) v = a * exp(b * normal(state));
    else if (*text < '0' || *text > '9') return false;
    else if (sscanf(text, "%lf-%lf%n", &a, &b, &n) == 2 && !text[n] && b >= a)
        v = a + floor((b - a + 1) * (1 - lr_load_uniform(state)));
    else if (sscanf(text, "%lf%n", &a, &n) == 1 && !text[n]) v = a;
    else return false;
    if (!(a >= 1 && a <= 1e7 && b >= 0 && b <= 1e7) || isnan(v)) return false;
    *out = (uint32_t)fmin(fmax(v + 0.5, 1), 1e7);
    return true;
}

/* ---------------------------------------------------------------- what a request says */
static const char *const words[] = {
    "the",   "old", "man",  "went", "to",    "a",     "house", "by",   "sea",   "and",   "saw",  "two",  "small",
    "dogs",  "who", "were", "very", "happy", "there", "one",   "day",  "she",   "found", "red",  "ball", "under",
    "tree",  "it",  "was",  "big",  "so",    "they",  "said",  "that", "we",    "can",   "play", "with", "him",
    "in",    "sun", "then", "came", "home",  "after", "rain",  "but",  "his",   "cat",   "did",  "not",  "like",
    "water", "her", "mom",  "gave", "him",   "some",  "cake",  "for",  "lunch", "all",   "day",  "long"};

static void add_words(lr_buf *b, uint64_t seed, double n)
{
    for (double i = 0; i + 0.5 < n; i++) {
        seed = mix(seed);
        lr_buf_puts(b, b->n ? " " : "");
        lr_buf_puts(b, words[seed % LR_LEN(words)]);
    }
}

/* A prompt of about n_prompt tokens, of which n_prefix are those of prefix `group`. malloc'd; NULL without memory. */
static char *make_body(const load *l, uint64_t seed, double n_words, double n_shared, uint32_t group,
                       uint32_t n_answer)
{
    const larder_load_options *o = l->o;
    lr_buf b = {0};
    add_words(&b, mix(o->seed * 31 + group + 1), n_shared);
    add_words(&b, seed, n_words);
    lr_buf_putc(&b, 0);
    json_t *body = b.failed ? NULL
                            : json_pack("{s:s,s:b,s:{s:b},s:I,s:f}", "model", l->model, "stream", 1, "stream_options",
                                        "include_usage", 1, "max_tokens", (json_int_t)n_answer, "temperature",
                                        o->temperature);
    if (body && o->chat)
        json_object_set_new(body, "messages", json_pack("[{s:s,s:s}]", "role", "user", "content", b.p));
    else if (body) json_object_set_new(body, "prompt", json_string(b.p));
    if (body && o->ignore_eos) json_object_set_new(body, "ignore_eos", json_true());
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    lr_buf_free(&b);
    return text;
}

/* ---------------------------------------------------------------- what comes back */
static void keep_gap(load *l, double s)
{
    if (l->n_gaps == l->cap_gaps) {
        size_t cap = l->cap_gaps ? l->cap_gaps * 2 : 4096;
        float *more = lr_realloc(l->gaps, cap * sizeof *more);
        if (!more) {
            l->out_of_memory = true;
            return;
        }
        l->gaps = more;
        l->cap_gaps = cap;
    }
    l->gaps[l->n_gaps++] = (float)s;
}

static uint32_t count_of(const json_t *o, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(o, key));
    return n > 0 && n < UINT32_MAX ? (uint32_t)n : 0;
}

static bool says(const json_t *o, const char *key) { return json_string_length(json_object_get(o, key)) > 0; }

static void took_piece(flight *f)
{
    uint64_t now = lr_now_ns();
    if (!f->t_first) f->t_first = now;
    else keep_gap(f->l, (double)(now - f->t_last) * 1e-9);
    f->t_last = now;
    f->n_pieces++;
}

static void took_event(flight *f, const char *text, size_t n)
{
    larder_load_request *r = &f->l->requests[f->index];
    if (n >= 6 && !memcmp(text, "[DONE]", 6)) {
        f->finished = true;
        return;
    }
    json_t *o = json_loadb(text, n, 0, NULL);
    const json_t *choice = json_array_get(json_object_get(o, "choices"), 0),
                 *delta = json_object_get(choice, "delta");
    const json_t *usage = json_object_get(o, "usage");
    if (json_object_get(o, "error")) r->failed = true;
    if (says(choice, "text") || says(delta, "content") || says(delta, "reasoning_content") ||
        json_object_get(delta, "tool_calls"))
        took_piece(f);
    if (json_is_object(usage)) {
        r->n_prompt = count_of(usage, "prompt_tokens");
        r->n_answer = count_of(usage, "completion_tokens");
        r->n_cached = count_of(json_object_get(usage, "prompt_tokens_details"), "cached_tokens");
    }
    json_decref(o);
}

static size_t on_bytes(char *p, size_t one, size_t n, void *user)
{
    flight *f = user;
    (void)one;
    for (size_t i = 0; i < n;) {
        const char *end = memchr(p + i, '\n', n - i);
        size_t k = end ? (size_t)(end - (p + i)) : n - i;
        if (f->line.n + k > MOST_LINE) return 0;
        lr_buf_add(&f->line, p + i, k);
        i += k + (end != NULL);
        if (f->line.failed) return 0;
        if (!end) break;
        if (f->line.n > 6 && !memcmp(f->line.p, "data: ", 6)) took_event(f, f->line.p + 6, f->line.n - 6);
        f->line.n = 0;
    }
    return n;
}

/* ---------------------------------------------------------------- sending */
static flight *free_flight(load *l)
{
    for (uint32_t i = 0; i < l->n_flights; i++)
        if (!l->flights[i]->busy) return l->flights[i];
    flight **more = lr_realloc(l->flights, (l->n_flights + 1) * sizeof *more);
    if (!more) return NULL;
    l->flights = more;
    flight *f = lr_calloc(1, sizeof *f);
    CURL *c = f ? curl_easy_init() : NULL;
    if (!c) {
        lr_free(f);
        return NULL;
    }
    f->l = l;
    f->curl = c;
    curl_easy_setopt(c, CURLOPT_URL, l->url);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, l->headers);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_NOPROXY, "localhost,127.0.0.1,::1");
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(c, CURLOPT_TIMEOUT, (long)l->o->timeout_s);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, f);
    curl_easy_setopt(c, CURLOPT_PRIVATE, f);
    l->flights[l->n_flights++] = f;
    return f;
}

static larder_load_request *new_request(load *l)
{
    if (l->n_sent == l->cap) {
        uint32_t cap = l->cap ? l->cap * 2 : 256;
        larder_load_request *more = lr_realloc(l->requests, cap * sizeof *more);
        if (!more) return NULL;
        l->requests = more;
        l->cap = cap;
    }
    larder_load_request *r = &l->requests[l->n_sent];
    *r = (larder_load_request){0};
    return r;
}

/* Sends one now. `at`: when it was due. n_words > 0: so many words, for measuring words; else by the options. */
static larder_status fly(load *l, double at, uint32_t user, uint32_t n_words, uint32_t n_prompt, uint32_t n_answer,
                         larder_error *err)
{
    const larder_load_options *o = l->o;
    flight *f = free_flight(l);
    larder_load_request *r = new_request(l);
    if (!f || !r) return LR_NOMEM(err, "a request");
    double shared = n_words ? 0 : o->n_prefix / l->per_word;
    double own = n_words ? n_words : fmax((n_prompt - l->fixed) / l->per_word, 1);
    uint32_t group = o->n_prefixes > 1 ? (uint32_t)(mix(l->random ^ 77) % o->n_prefixes) : 0;
    l->random = mix(l->random);
    free(f->body);
    f->body = make_body(l, l->random, own, shared, group, n_answer);
    if (!f->body) return LR_NOMEM(err, "a request");
    r->at_s = at;
    f->index = l->n_sent++;
    f->user = user;
    f->t_first = f->t_last = 0;
    f->n_pieces = 0;
    f->finished = false;
    f->busy = true;
    f->line.n = 0;
    curl_easy_setopt(f->curl, CURLOPT_POSTFIELDS, f->body);
    f->t_send = lr_now_ns();
    r->sent_s = (double)(f->t_send - l->t0) * 1e-9;
    if (curl_multi_add_handle(l->multi, f->curl) != CURLM_OK) return LR_NOMEM(err, "a connection");
    l->n_open++;
    return LARDER_OK;
}

static void landed(load *l, flight *f, CURLcode how)
{
    larder_load_request *r = &l->requests[f->index];
    uint64_t now = lr_now_ns();
    long status = 0;
    curl_off_t wait = 0;
    curl_easy_getinfo(f->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(f->curl, CURLINFO_RETRY_AFTER, &wait);
    r->status = how == CURLE_OPERATION_TIMEDOUT ? LARDER_LOAD_LATE : status ? (int)status : LARDER_LOAD_NO_ANSWER;
    if (r->status == 200 && (how != CURLE_OK || r->failed || !f->t_first)) r->status = LARDER_LOAD_CUT;
    if (r->status != 200 && !l->complaint[0]) {
        const char *text = how != CURLE_OK ? curl_easy_strerror(how) : f->line.n ? f->line.p : "";
        snprintf(l->complaint, sizeof l->complaint, "%.*s",
                 how != CURLE_OK ? 200 : (int)LR_MIN(f->line.n, (size_t)200), text);
    }
    r->e2e_s = (double)(now - f->t_send) * 1e-9;
    if (r->status == 200) {
        if (!r->n_answer) r->n_answer = f->n_pieces;
        r->ttft_s = (double)(f->t_first - f->t_send) * 1e-9;
        if (r->n_answer > 1) r->tpot_s = (double)(f->t_last - f->t_first) * 1e-9 / (r->n_answer - 1);
    }
    curl_multi_remove_handle(l->multi, f->curl);
    f->busy = false;
    l->n_open--;
    l->n_done++;
    if (l->user_at) l->user_at[f->user] = now + (uint64_t)(wait > 0 ? LR_MIN(wait, 60) : 0) * 1000000000ull;
}

static void pump(load *l, int ms)
{
    int running, left;
    curl_multi_poll(l->multi, NULL, 0, ms, NULL);
    curl_multi_perform(l->multi, &running);
    for (CURLMsg *m; (m = curl_multi_info_read(l->multi, &left));) {
        flight *f = NULL;
        CURLcode how = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&f);
        landed(l, f, how);
    }
}

/* ---------------------------------------------------------------- before */
static size_t on_text(char *p, size_t one, size_t n, void *user)
{
    lr_buf *b = user;
    (void)one;
    if (b->n + n > MOST_LINE) return 0;
    lr_buf_add(b, p, n);
    return b->failed ? 0 : n;
}

/* The first model the server names. */
static larder_status ask_model(load *l, const char *base, larder_error *err)
{
    char url[1200];
    lr_buf b = {0};
    long status = 0;
    CURL *c = curl_easy_init();
    if (!c) return LR_NOMEM(err, "the network");
    snprintf(url, sizeof url, "%s/v1/models", base);
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, l->headers);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_NOPROXY, "localhost,127.0.0.1,::1");
    curl_easy_setopt(c, CURLOPT_TIMEOUT, 30L);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_text);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, &b);
    CURLcode how = curl_easy_perform(c);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(c);
    json_t *o = how == CURLE_OK && status == 200 ? json_loadb(b.n ? b.p : "", b.n, 0, NULL) : NULL;
    const char *id = json_string_value(json_object_get(json_array_get(json_object_get(o, "data"), 0), "id"));
    larder_status st = LARDER_OK;
    if (id && strlen(id) < sizeof l->model) snprintf(l->model, sizeof l->model, "%s", id);
    else if (how != CURLE_OK) st = lr_fail(err, LARDER_IO, "%s: %s", url, curl_easy_strerror(how));
    else st = lr_fail(err, LARDER_IO, "%s: status %ld, and no model named; give --model", url, status);
    json_decref(o);
    lr_buf_free(&b);
    return st;
}

/* One request of n_words, alone; its usage in *n_prompt. */
static larder_status ask_words(load *l, uint32_t n_words, uint32_t *n_prompt, larder_error *err)
{
    LR_TRY(fly(l, 0, 0, n_words, 0, 1, err));
    while (l->n_open) pump(l, 1000);
    larder_load_request *r = &l->requests[0];
    l->n_sent = l->n_done = 0;
    *n_prompt = r->n_prompt;
    if (r->status != 200)
        return lr_fail(err, LARDER_IO, "the server does not answer: status %d: %s", r->status, l->complaint);
    if (!r->n_prompt) return lr_fail(err, LARDER_UNSUPPORTED, "the server's streams tell no usage.prompt_tokens");
    return LARDER_OK;
}

static larder_status learn_words(load *l, larder_error *err)
{
    uint32_t few, many;
    LR_TRY(ask_words(l, 8, &few, err));
    LR_TRY(ask_words(l, 72, &many, err));
    if (many <= few)
        return lr_fail(err, LARDER_UNSUPPORTED, "the server's usage.prompt_tokens does not follow prompts");
    l->per_word = (many - few) / 64.0;
    l->fixed = few - 8 * l->per_word;
    return LARDER_OK;
}

larder_status lr_load_trace(const char *path, double (**out)[3], uint32_t *n_out, larder_error *err)
{
    char line[256];
    double(*trace)[3] = NULL;
    uint32_t cap = 0, n_trace = 0;
    FILE *f = fopen(path, "re");
    larder_status st = LARDER_OK;
    if (!f) return lr_fail_errno(err, errno, "%s", path);
    for (uint32_t n = 1; !st && fgets(line, sizeof line, f); n++) {
        double v[3];
        char end;
        if (*line == '#' || *line == '\n' || (n == 1 && (*line < '0' || *line > '9'))) continue;
        if (n_trace == cap) {
            cap = cap ? cap * 2 : 256;
            double(*more)[3] = cap > MOST_REQUESTS ? NULL : lr_realloc(trace, cap * sizeof *more);
            if (!more) {
                st = LR_NOMEM(err, "the trace");
                break;
            }
            trace = more;
        }
        if (sscanf(line, "%lf,%lf,%lf%c", &v[0], &v[1], &v[2], &end) != 4 || end != '\n' || !(v[0] >= 0) ||
            !(v[1] >= 1 && v[1] < 1e7) || !(v[2] >= 1 && v[2] < 1e7) || (n_trace && v[0] < trace[n_trace - 1][0]))
            st = lr_fail(err, LARDER_FORMAT, "%s, line %u: not 'seconds,prompt,answer' with rising seconds", path, n);
        else memcpy(trace[n_trace++], v, sizeof v);
    }
    fclose(f);
    if (!st && !n_trace) st = lr_fail(err, LARDER_FORMAT, "%s holds no request", path);
    if (st) lr_free(trace);
    *out = st ? NULL : trace;
    *n_out = st ? 0 : n_trace;
    return st;
}

static larder_status check(const larder_load_options *o, larder_error *err)
{
    uint64_t state = 1;
    uint32_t n;
    int ways = (o->rate > 0) + (o->n_users > 0) + (o->trace != NULL);
    if (strncmp(o->url, "http://", 7) != 0 && strncmp(o->url, "https://", 8) != 0)
        return lr_fail(err, LARDER_USAGE, "a server's URL begins with http:// or https://");
    if (strlen(o->url) > 1000) return lr_fail(err, LARDER_USAGE, "the URL is too long");
    if (ways != 1) return lr_fail(err, LARDER_USAGE, "one of --rate, --users and --trace is needed");
    if (!lr_load_draw(o->prompt, &state, &n))
        return lr_fail(err, LARDER_USAGE, "--prompt: no distribution: %s", o->prompt);
    if (!lr_load_draw(o->answer, &state, &n))
        return lr_fail(err, LARDER_USAGE, "--answer: no distribution: %s", o->answer);
    if (!o->trace && !o->n_requests && !(o->duration_s > 0))
        return lr_fail(err, LARDER_USAGE, "--requests or --duration must say when to stop");
    if (o->n_requests > MOST_REQUESTS || o->n_users > 65536)
        return lr_fail(err, LARDER_USAGE, "at most %d requests and 65536 users", MOST_REQUESTS);
    return LARDER_OK;
}

static larder_status prepare(load *l, larder_error *err)
{
    const larder_load_options *o = l->o;
    char key[1100], base[1001];
    snprintf(base, sizeof base, "%s", o->url);
    for (size_t n = strlen(base); n && base[n - 1] == '/';) base[--n] = 0;
    size_t n = strlen(base);
    if (n > 3 && !strcmp(base + n - 3, "/v1")) base[n - 3] = 0;
    snprintf(l->url, sizeof l->url, "%s/v1/%s", base, o->chat ? "chat/completions" : "completions");
    if (o->trace) LR_TRY(lr_load_trace(l->o->trace, &l->trace, &l->n_trace, err));
    curl_global_init(CURL_GLOBAL_DEFAULT);
    l->multi = curl_multi_init();
    l->headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (o->key) {
        snprintf(key, sizeof key, "Authorization: Bearer %.1000s", o->key);
        struct curl_slist *more = curl_slist_append(l->headers, key);
        if (!more) return LR_NOMEM(err, "the network");
    }
    if (!l->multi || !l->headers) return LR_NOMEM(err, "the network");
    curl_multi_setopt(l->multi, CURLMOPT_MAXCONNECTS, 1024L);
    if (o->model) snprintf(l->model, sizeof l->model, "%s", o->model);
    else LR_TRY(ask_model(l, base, err));
    if (o->n_users && !(l->user_at = lr_calloc(o->n_users, sizeof *l->user_at))) return LR_NOMEM(err, "users");
    return learn_words(l, err);
}

/* ---------------------------------------------------------------- the load */
static bool may_send(const load *l, double now)
{
    if (l->trace) return l->n_sent < l->n_trace;
    if (l->o->n_requests && l->n_sent >= l->o->n_requests) return false;
    return !(l->o->duration_s > 0) || now < l->o->duration_s;
}

static larder_status send_drawn(load *l, double at, uint32_t user, larder_error *err)
{
    uint32_t n_prompt = 0, n_answer = 0;
    if (l->trace) {
        n_prompt = (uint32_t)l->trace[l->n_sent][1];
        n_answer = (uint32_t)l->trace[l->n_sent][2];
    } else {
        lr_load_draw(l->o->prompt, &l->random, &n_prompt);
        lr_load_draw(l->o->answer, &l->random, &n_answer);
    }
    return fly(l, at, user, 0, n_prompt, n_answer, err);
}

/* Sends what is due; *wait: seconds until something is. */
static larder_status send_due(load *l, double *wait, larder_error *err)
{
    uint64_t now = lr_now_ns();
    double s = (double)(now - l->t0) * 1e-9;
    *wait = 1;
    for (uint32_t i = 0; l->user_at && i < l->o->n_users && may_send(l, s); i++) {
        if (l->user_at[i] == UINT64_MAX) continue;
        if (l->user_at[i] > now) {
            *wait = fmin(*wait, (double)(l->user_at[i] - now) * 1e-9);
            continue;
        }
        l->user_at[i] = UINT64_MAX;
        LR_TRY(send_drawn(l, s, i, err));
    }
    if (l->user_at) return LARDER_OK;
    while (may_send(l, l->next_at)) {
        if (l->trace) l->next_at = l->trace[l->n_sent][0];
        if (l->next_at > s) {
            *wait = fmin(*wait, l->next_at - s);
            break;
        }
        LR_TRY(send_drawn(l, l->next_at, 0, err));
        if (!l->trace) l->next_at -= log(lr_load_uniform(&l->random)) / l->o->rate;
    }
    return LARDER_OK;
}

static bool tell(const load *l, double s)
{
    const larder_load_options *o = l->o;
    if (!o->progress) return true;
    uint64_t total = l->trace ? l->n_trace : o->n_requests ? o->n_requests : 0;
    larder_progress p = {.what = "requests", .n_done = l->n_done, .n_total = total, .left_s = -1};
    if (!total && o->duration_s > 0)
        p.n_total = (uint64_t)((double)l->n_done * fmax(o->duration_s / fmax(s, 0.1), 1));
    p.rate = s > 0 ? l->n_done / s : 0;
    if (p.rate > 0 && p.n_total > p.n_done) p.left_s = (double)(p.n_total - p.n_done) / p.rate;
    return o->progress(o->user, &p);
}

static larder_status run(load *l, larder_error *err)
{
    double wait, told = 0;
    l->t0 = lr_now_ns();
    l->complaint[0] = 0;
    l->n_gaps = 0;
    for (;;) {
        double s = (double)(lr_now_ns() - l->t0) * 1e-9;
        LR_TRY(send_due(l, &wait, err));
        bool more = l->user_at ? may_send(l, s) : may_send(l, l->next_at);
        if (!l->n_open && !more) return LARDER_OK;
        pump(l, (int)fmin(wait * 1000 + 0.5, 250));
        if (l->out_of_memory) return LR_NOMEM(err, "the figures");
        if (s - told < 0.25) continue;
        told = s;
        if (!tell(l, s)) return lr_fail(err, LARDER_CANCELLED, "interrupted");
    }
}

/* ---------------------------------------------------------------- figures */
static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static larder_spread spread(float *v, size_t n)
{
    larder_spread out = {0};
    if (!n) return out;
    qsort(v, n, sizeof *v, by_value);
    for (size_t i = 0; i < n; i++) out.mean += v[i] / (double)n;
#define AT(q) v[(size_t)((double)(n - 1) * (q) + 0.5)]
    out.p50 = AT(0.50), out.p90 = AT(0.90), out.p95 = AT(0.95), out.p99 = AT(0.99), out.max = v[n - 1];
#undef AT
    return out;
}

enum { TTFT, TPOT, E2E, LAG };
static size_t collect(const load *l, int which, float *v)
{
    size_t n = 0;
    for (uint32_t i = 0; i < l->n_sent; i++) {
        const larder_load_request *r = &l->requests[i];
        if (which == LAG) v[n++] = (float)(r->sent_s - r->at_s);
        if (r->status != 200) continue;
        if (which == TTFT) v[n++] = (float)r->ttft_s;
        if (which == E2E) v[n++] = (float)r->e2e_s;
        if (which == TPOT && r->n_answer > 1) v[n++] = (float)r->tpot_s;
    }
    return n;
}

static void count_status(larder_load_report *out, int status)
{
    for (uint32_t i = 0; i < out->n_statuses; i++)
        if (out->statuses[i].status == status) {
            out->statuses[i].n++;
            return;
        }
    if (out->n_statuses < LR_LEN(out->statuses))
        out->statuses[out->n_statuses++] = (larder_load_status){.status = status, .n = 1};
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static larder_status report(load *l, double cpu, larder_load_report *out, larder_error *err)
{
    const larder_load_options *o = l->o;
    float *v = lr_calloc((size_t)l->n_sent + 1, sizeof *v);
    if (!v) return LR_NOMEM(err, "the figures");
    *out = (larder_load_report){.n_requests = l->n_sent, .cpu_s = cpu_seconds() - cpu};
    snprintf(out->model, sizeof out->model, "%s", l->model);
    snprintf(out->complaint, sizeof out->complaint, "%s", l->complaint);
    for (uint32_t i = 0; i < l->n_sent; i++) {
        larder_load_request *r = &l->requests[i];
        count_status(out, r->status);
        out->seconds = fmax(out->seconds, r->sent_s + r->e2e_s);
        if (r->status != 200) continue;
        out->n_ok++;
        out->n_prompt += r->n_prompt;
        out->n_cached += r->n_cached;
        out->n_answer += r->n_answer;
        r->good = (!(o->ttft_limit_s > 0) || r->ttft_s <= o->ttft_limit_s) &&
                  (!(o->tpot_limit_s > 0) || r->tpot_s <= o->tpot_limit_s);
        out->n_good += r->good;
    }
    out->ttft = spread(v, collect(l, TTFT, v));
    out->tpot = spread(v, collect(l, TPOT, v));
    out->e2e = spread(v, collect(l, E2E, v));
    out->lag = spread(v, collect(l, LAG, v));
    out->gap = spread(l->gaps, l->n_gaps);
    lr_free(v);
    out->requests = l->requests;
    l->requests = NULL;
    return LARDER_OK;
}

static void close_load(load *l)
{
    for (uint32_t i = 0; i < l->n_flights; i++) {
        flight *f = l->flights[i];
        if (f->busy) curl_multi_remove_handle(l->multi, f->curl);
        curl_easy_cleanup(f->curl);
        free(f->body);
        lr_buf_free(&f->line);
        lr_free(f);
    }
    if (l->multi) curl_multi_cleanup(l->multi);
    curl_slist_free_all(l->headers);
    lr_free(l->flights);
    lr_free(l->requests);
    lr_free(l->user_at);
    lr_free(l->trace);
    lr_free(l->gaps);
}

larder_load_options larder_load_defaults(void)
{
    return (larder_load_options){.prompt = "128",
                                 .answer = "64",
                                 .chat = true,
                                 .ignore_eos = true,
                                 .n_prefixes = 1,
                                 .timeout_s = 600,
                                 .seed = 1};
}

larder_status larder_bench_serve(const larder_load_options *o, larder_load_report *out, larder_error *err)
{
    larder_status st = LARDER_OK;
    load l = {.o = o, .random = mix(o->seed)};
    *out = (larder_load_report){0};
    LR_GO(check(o, err));
    LR_GO(prepare(&l, err));
    double cpu = cpu_seconds();
    LR_GO(run(&l, err));
    LR_GO(report(&l, cpu, out, err));
fail:
    close_load(&l);
    return st;
}
