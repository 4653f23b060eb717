/* stream.c - a prompt in, an answer streamed out, with the library alone.
 *
 *     cc stream.c $(pkg-config --cflags --libs liblarder) -o stream && ./stream model.gguf "Tell me a story."
 */
#include <larder.h>
#include <stdio.h>

static bool print(void *user, larder_request *request, const larder_event *event)
{
    (void)user, (void)request;
    fwrite(event->text, 1, event->n_text, stdout);
    fflush(stdout);
    return true; /* false would cancel the answer */
}

int main(int argc, char **argv)
{
    larder_error err = {0};
    larder_model *model = NULL;
    larder_engine *engine = NULL;
    larder_request *request = NULL;
    int32_t *ids = NULL;
    size_t n_ids;
    char json[4096];
    if (argc != 3) return fprintf(stderr, "usage: stream MODEL PROMPT (without quotes in it)\n"), 2;
    snprintf(json, sizeof json,
             "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}],\"add_generation_prompt\":true}", argv[2]);

    larder_engine_options options = larder_engine_defaults();
    larder_request_options ask = larder_request_defaults();
    ask.on_event = print;
    larder_status st = larder_model_open(argv[1], &model, &err);
    if (!st) st = larder_engine_open(model, &options, &engine, &err);
    if (!st) st = larder_chat_render(model, json, &ids, &n_ids, NULL, &err);
    if (!st) ask.ids = ids, ask.n_ids = n_ids;
    if (!st) st = larder_submit(engine, &ask, &request, &err);
    if (!st) st = larder_wait(engine, request, &err);
    puts(st ? err.message : "");
    larder_request_free(request);
    larder_free(ids);
    larder_engine_free(engine);
    larder_model_free(model);
    return st ? 1 : 0;
}
