/* serve.c - the server from start to end: what is opened when, and what may be opened no more. */
#include "serve.h"

#include <stdio.h>
#include <sys/random.h>
#include <time.h>

const char *const marks[8] = {"<think>",      "</think>", "<tool_call>",    "</tool_call>",
                              "[TOOL_CALLS]", "[ARGS]",   "<|python_tag|>", NULL};

larder_serve_options larder_serve_defaults(void)
{
    return (larder_serve_options){.host = "127.0.0.1",
                                  .port = 8080,
                                  .model_name = "model",
                                  .sampling = larder_sampling_defaults(),
                                  .n_queue = 256,
                                  .max_body = 32 * LR_MIB,
                                  .max_connections = 1024,
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

static void find_marks(server *s)
{
    for (size_t i = 0; i < LR_LEN(s->mark_ids); i++) {
        int32_t *ids = NULL;
        size_t n = 0;
        s->mark_ids[i] = -1;
        if (!marks[i]) continue;
        if (!larder_tokenize(s->model, marks[i], strlen(marks[i]), LARDER_TEXT_CONTROL, &ids, &n, NULL) && n == 1)
            s->mark_ids[i] = ids[0];
        larder_free(ids);
    }
}

static larder_status check(const larder_serve_options *o, larder_error *err)
{
    for (uint32_t i = 0; i < o->n_keys; i++)
        if (strlen(o->keys[i]) < 8) return lr_fail(err, LARDER_USAGE, "a key must be 8 characters or more");
    if (!o->n_keys && !is_loopback(o->host))
        return lr_fail(err, LARDER_USAGE,
                       "without a key larder listens on this machine only; give --api-key-file to listen on %s",
                       o->host);
    if (o->port > 65535) return lr_fail(err, LARDER_USAGE, "--port is at most 65535");
    if (!o->tls_cert != !o->tls_key) return lr_fail(err, LARDER_USAGE, "--tls-cert and --tls-key belong together");
    if (!o->n_queue || !o->max_connections)
        return lr_fail(err, LARDER_USAGE, "--queue and --connections must be 1 or more");
    return LARDER_OK;
}

larder_status larder_serve(larder_model *model, const larder_engine_options *engine,
                           const larder_serve_options *options, larder_error *err)
{
    larder_status st = LARDER_OK;
    server s = {.o = *options, .model = model, .started = (int64_t)time(NULL)};
    larder_model_get_info(model, &s.info);
    if (getrandom(&s.secret, sizeof s.secret, 0) != sizeof s.secret) s.secret = lr_now_ns();
    LR_GO(check(options, err));
    find_marks(&s);
    LR_GO(http_start(&s, err)); /* before the engine: a port that is taken is said at once */
    confine_files(&s);
    LR_GO(larder_engine_open(model, engine, &s.engine, err));
    larder_engine_get_plan(s.engine, &s.plan);
    LR_GO(work_start(&s, err));
    confine_calls(&s);
    log_line(LARDER_LOG_INFO,
             "{\"event\":\"listening\",\"url\":\"http%s://%s%s%s:%u\",\"model\":\"%s\",\"ctx\":%u,\"parallel\":%u}",
             s.o.tls_cert ? "s" : "", strchr(s.o.host, ':') ? "[" : "", s.o.host, strchr(s.o.host, ':') ? "]" : "",
             s.o.port, s.o.model_name, s.plan.n_ctx, engine->n_seq);
    LR_GO(http_loop(&s, err));
    log_line(LARDER_LOG_INFO, "{\"event\":\"stopped\"}");
fail:
    work_stop(&s);
    http_stop(&s);
    larder_engine_free(s.engine);
    return st;
}
