/* api_compact.c - /v1/responses/compact: a conversation summed up by the model itself, as one item to go on from.
 *
 * The item's content is called encrypted by the API. Here it is the summary as text behind a mark: nothing is stored, and
 * whoever holds it held the conversation. /v1/responses takes it back as what was said before.
 */
#include "serve.h"

#include <stdio.h>

static const char ask[] =
    "Sum up this conversation for somebody who goes on with it: what was said and decided, names, "
    "numbers, and what is still to be done. Answer with the summary only.";
const char compact_mark[] = "larder-summary-1:";

/* A summary takes an eighth of the context at most. */
static uint32_t most_tokens(const call *c) { return LR_MAX(LR_MIN(c->m->plan.n_ctx / 8, 2048u), 16u); }

static larder_status read_compact(call *c, larder_error *err)
{
    params p = {.c = c, .o = c->body, .err = err};
    larder_sampling s = sampling_for(c);
    int32_t *ids = NULL;
    size_t n_ids = 0;
    json_t *extra = json_object();
    new_id(c->s, "resp_", c->id);
    s.temperature = 0;
    take_model(&p);
    if (!p.st) c->max_tokens = most_tokens(c);
    json_t *messages = responses_input(&p);
    take_inert(&p, "prompt_cache_key");
    take_refused(&p, "previous_response_id", "nothing is stored here; send the whole conversation", "");
    think_budget(&p, "input", 0, extra);
    if (params_done(&p)) {
        json_decref(messages);
        json_decref(extra);
        return p.st;
    }
    json_array_append_new(messages, json_pack("{s:s,s:s}", "role", "user", "content", ask));
    LR_TRY(prompt_render(c, messages, NULL, extra, &ids, &n_ids, err));
    return call_add_prompt(c, ids, n_ids, 1, &s, err);
}

static json_t *whole(call *c)
{
    const gen *g = &c->gens[0];
    char id[64];
    lr_buf b = {0};
    snprintf(id, sizeof id, "cmp_%s", c->id + strlen("resp_"));
    lr_buf_puts(&b, compact_mark);
    lr_buf_add(&b, g->text.n ? g->text.p : "", g->text.n);
    json_t *content = b.failed ? NULL : json_stringn(b.p, b.n);
    lr_buf_free(&b);
    return json_pack("{s:s,s:s,s:I,s:[{s:s,s:s,s:o}],s:o}", "id", c->id, "object", "response.compaction",
                     "created_at", (json_int_t)c->created, "output", "type", "compaction", "id", id,
                     "encrypted_content", content, "usage", responses_usage(c));
}

const api api_compact = {
    .name = "compact", .frames = FRAME_SSE, .read = read_compact, .whole = whole, .error = error_openai};
