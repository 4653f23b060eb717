/* fuzz_request.c - any bytes as the body of a request: refused with a reason, or understood. The first byte chooses the
 * route. The server has the model in the box; nothing is generated. */
#include "serve.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static server *the_server(void)
{
    static const larder_serve_model box = {.name = "teller", .path = "models/teller-18m-q8_0.gguf"};
    static server s = {.notify = -1};
    larder_error err;
    if (s.models) return &s;
    s.o = larder_serve_defaults();
    s.o.models = &box;
    s.o.n_models = 1;
    s.engine_options = larder_engine_defaults();
    s.engine_options.n_threads = 1;
    s.engine_options.n_ctx = 256;
    if (models_start(&s, &err) || models_open_first(&s, &err) || models_load_first(&s, &err)) {
        fprintf(stderr, "fuzz_request: %s\n", err.message);
        exit(1);
    }
    return &s;
}

static void check_prompts(const call *c)
{
    if (!c->n_gens && !c->answer && !c->api->embeds) abort();
    for (uint32_t i = 0; i < c->n_gens; i++)
        for (size_t k = 0; k < c->gens[i].n_ids; k++)
            if (c->gens[i].ids[k] < 0 || (uint32_t)c->gens[i].ids[k] >= c->m->info.n_vocab) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const api *const apis[] = {&api_chat,     &api_completions,       &api_responses,  &api_anthropic,
                                      &api_count,    &api_ollama_chat,       &api_embeddings, &api_ollama_generate,
                                      &api_tokenize, &api_detokenize,        &api_template,   &api_ollama_embed,
                                      &api_show,     &api_ollama_embeddings, &api_compact};
    larder_error err = {0};
    bool parked;
    if (!size) return 0;
    exchange x = {.s = the_server()};
    lr_buf_add(&x.body, (const char *)data + 1, size - 1);
    call *c = call_new(x.s, &x, apis[(uint8_t)(data[0] - 'a') % LR_LEN(apis)]);
    if (!c) abort();
    larder_status st = work_take(c, &parked, &err);
    if (parked || st == LARDER_INTERNAL || (st && !err.message[0])) abort();
    if (!st) check_prompts(c);
    call_free(c);
    return 0;
}
