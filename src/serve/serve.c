/* serve.c - the server from start to end: what is opened when, and what may be opened no more. */
#include "serve.h"

#include <stdio.h>
#include <sys/random.h>
#include <time.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

const char *const marks[8] = {"<think>",      "</think>", "<tool_call>",    "</tool_call>",
                              "[TOOL_CALLS]", "[ARGS]",   "<|python_tag|>", NULL};

larder_serve_options larder_serve_defaults(void)
{
    return (larder_serve_options){.host = "127.0.0.1",
                                  .port = 8080,
                                  .sampling = larder_sampling_defaults(),
                                  .n_queue = 256,
                                  .max_body = 32 * LR_MIB,
                                  .max_connections = 1024,
                                  .pull_fd = -1,
                                  .idle_s = 300,
                                  .drain_s = 60};
}

void log_line(larder_log_level level, const char *fmt, ...)
{
    char line[700];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    lr_log(level, "%s", line);
}

/* Unlike any other, and not to be guessed. Loop thread and reader. */
void new_id(server *s, const char *prefix, char out[40])
{
    uint64_t bits[2] = {0};
    if (getrandom(bits, sizeof bits, 0) != sizeof bits) bits[0] = s->secret ^ lr_now_ns();
    snprintf(out, 40, "%s%016llx%08llx", prefix, (unsigned long long)bits[0], (unsigned long long)(bits[1] >> 32));
}

/* Once it is known where it listens. */
larder_status check_host(const server *s, larder_error *err)
{
    if (s->o.n_keys || is_loopback(s->o.host)) return LARDER_OK;
    return lr_fail(err, LARDER_USAGE,
                   "without a key larder listens on this machine only; give --api-key-file to listen on %s",
                   s->o.host);
}

static larder_status check(const larder_serve_options *o, larder_error *err)
{
    for (uint32_t i = 0; i < o->n_keys; i++)
        if (strlen(o->keys[i]) < 8) return lr_fail(err, LARDER_USAGE, "a key must be 8 characters or more");
    if (o->port > 65535) return lr_fail(err, LARDER_USAGE, "--port is at most 65535");
    if (!o->tls_cert != !o->tls_key) return lr_fail(err, LARDER_USAGE, "--tls-cert and --tls-key belong together");
    if (!o->n_queue || !o->max_connections)
        return lr_fail(err, LARDER_USAGE, "--queue and --connections must be 1 or more");
    return LARDER_OK;
}

static void say_listening(const server *s)
{
    served_list l;
    models_view((server *)(uintptr_t)s, &l, false);
    const served_view *first = l.n ? &l.v[0] : NULL;
    bool six = strchr(s->o.host, ':') != NULL;
    log_line(LARDER_LOG_INFO,
             "{\"event\":\"listening\",\"url\":\"http%s://%s%s%s:%u\",\"model\":\"%s\",\"ctx\":%u,\"parallel\":%u}",
             s->o.tls_cert ? "s" : "", six ? "[" : "", s->o.host, six ? "]" : "", s->o.port, first ? first->name : "",
             first ? first->n_ctx : 0, first ? first->plan.n_seq : s->engine_options.n_seq);
    models_view_free(&l);
}

larder_status larder_serve(const larder_engine_options *engine, const larder_serve_options *options,
                           larder_error *err)
{
    larder_status st = LARDER_OK;
    server s = {.o = *options, .engine_options = *engine, .notify = -1, .started = (int64_t)time(NULL)};
#ifdef __GLIBC__
    mallopt(M_ARENA_MAX, 1); /* threads come and go with models: each one's heap would keep what it once needed */
#endif
    if (getrandom(&s.secret, sizeof s.secret, 0) != sizeof s.secret) s.secret = lr_now_ns();
    LR_GO(check(options, err));
    LR_GO(models_start(&s, err));
    LR_GO(http_start(&s, err)); /* before the engine: a port that is taken is said at once */
    LR_GO(models_open_first(&s, err));
    energy_open(&s.energy);
    LR_GO(larder_device_open(engine->device, &s.device, err)); /* its driver opens files, and starts threads */
    if (!strcmp(s.device, "cpu")) s.engine_options.device = LARDER_DEVICE_CPU; /* nor is a card asked for later */
    models_limit(&s);
    confine_files(&s);
    LR_GO(models_load_first(&s, err));
    LR_GO(work_start(&s, err));
    LR_GO(models_run(&s, err));
    confine_calls(&s);
    say_listening(&s);
    notify_say(&s, "READY=1");
    LR_GO(http_loop(&s, err));
    log_line(LARDER_LOG_INFO, "{\"event\":\"stopped\"}");
fail:
    models_halt(&s);
    work_stop(&s);
    http_stop(&s);
    models_stop(&s);
    energy_close(&s.energy);
    return st;
}
