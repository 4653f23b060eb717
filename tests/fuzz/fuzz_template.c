/* Any bytes as a chat template, rendered over a fixed conversation within small budgets. */
#include "template.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char conversation[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be <b>brief</b>.\"},"
    " {\"role\": \"user\", \"content\": \"caf\\u00e9 \\u65e5\\u672c <|im_end|> \\n x\"},"
    " {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"type\": \"function\", \"function\":"
    " {\"name\": \"f\", \"arguments\": {\"a\": 1, \"b\": [1.5, true, null]}}}]},"
    " {\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"part\"}]}],"
    " \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {\"type\": \"object\"}}}],"
    " \"add_generation_prompt\": true, \"n\": -3, \"s\": \"a,b\", \"l\": [3, 1, 2]}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static json_t *vars, *trusted;
    const lr_template_budget budget = {.steps = 20000, .depth = 200, .n_output = 1 << 16, .n_memory = 4 << 20};
    if (!vars) vars = json_loads(conversation, 0, NULL);
    if (!trusted) trusted = json_pack("{s:s, s:s}", "bos_token", "<s>", "eos_token", "</s>");
    lr_template *t = NULL;
    lr_rendered r = {0};
    larder_error err;
    if (lr_template_new((lr_str){(const char *)data, size}, &t, &err)) return 0;
    if (!lr_template_render(t, vars, trusted, 1795178096, &budget, &r, &err)) {
        size_t n = 0;
        for (size_t i = 0; i < r.n_runs; i++) n += r.runs[i].n;
        if (n != r.n || r.text[r.n] != 0) abort();
    }
    lr_rendered_free(&r);
    lr_template_free(t);
    return 0;
}
