/* think.c - how long an answer may think. When the budget is spent the thought is ended, and the answer begins.
 *
 * How: the request is stopped after its last token, and one that goes on from there is made: the prompt, what was
 * thought, and the end of a thought. All but the last is in the prefix cache.
 */
#include "serve.h"

const char think_end[] = "\n</think>\n\n";

/* What the APIs' words allow, in tokens. */
static const struct {
    const char *word;
    uint32_t budget;
} efforts[] = {{"none", 0},     {"minimal", 256},     {"low", 1024},     {"medium", 4096},
               {"high", 16384}, {"xhigh", NO_BUDGET}, {"max", NO_BUDGET}};

void think_effort(params *p, const char *key, const char *effort, json_t *extra)
{
    if (!effort) return;
    for (size_t i = 0; i < LR_LEN(efforts); i++) {
        if (strcmp(efforts[i].word, effort)) continue;
        json_object_set_new(extra, "reasoning_effort", json_string(effort));
        json_object_set_new(extra, "enable_thinking", json_boolean(efforts[i].budget > 0));
        p->c->budget = efforts[i].budget;
        return;
    }
    params_fail(p, key, "must be none, minimal, low, medium, high, xhigh or max");
}

void think_budget(params *p, const char *key, int64_t n_tok, json_t *extra)
{
    if (p->st) return;
    if (n_tok < 0 || n_tok >= NO_BUDGET) {
        params_fail(p, key, "is not a number of tokens");
        return;
    }
    json_object_set_new(extra, "enable_thinking", json_boolean(n_tok > 0));
    p->c->budget = (uint32_t)n_tok;
}

larder_status think_ready(call *c, larder_error *err)
{
    if (c->budget == NO_BUDGET || c->end_ids) return LARDER_OK;
    return larder_tokenize(c->m->model, think_end, strlen(think_end), LARDER_TEXT_CONTROL, &c->end_ids, &c->n_end_ids,
                           err);
}

const char *mark_of(const served *m, int32_t id)
{
    for (size_t i = 0; i < LR_LEN(m->mark_ids); i++)
        if (m->mark_ids[i] >= 0 && m->mark_ids[i] == id) return marks[i];
    return NULL;
}

static void ignore(void *user, const lr_piece *p) { (void)user, (void)p; }

static bool keep_id(gen *g, int32_t id)
{
    if (g->n_made == g->cap_made) {
        uint32_t cap = g->cap_made ? g->cap_made * 2 : 256;
        int32_t *more = lr_realloc(g->made, cap * sizeof *more);
        if (!more) return false;
        g->made = more;
        g->cap_made = cap;
    }
    g->made[g->n_made++] = id;
    return true;
}

bool think_token(gen *g, const larder_event *ev)
{
    call *c = g->c;
    if (c->budget == NO_BUDGET || g->resumed) return true;
    if (!g->n_made) lr_answer_init(&g->watch, false, g->thinking, ignore, NULL);
    bool before = lr_answer_thinks(&g->watch);
    const char *mark = ev->n_text ? NULL : mark_of(c->m, ev->token);
    if (!keep_id(g, ev->token)) return false;
    if (!lr_answer_feed(&g->watch, mark ? mark : ev->text, mark ? strlen(mark) : ev->n_text)) return false;
    if (!lr_answer_thinks(&g->watch)) return true;
    g->n_think += before;
    g->spent = g->n_think >= c->budget;
    return !g->spent;
}

larder_status think_prompt(const gen *g, int32_t **ids, size_t *n_ids, larder_error *err)
{
    const call *c = g->c;
    *n_ids = g->n_ids + g->n_made + c->n_end_ids;
    *ids = lr_calloc(*n_ids, sizeof **ids);
    if (!*ids) return LR_NOMEM(err, "an answer");
    memcpy(*ids, g->ids, g->n_ids * sizeof **ids);
    memcpy(*ids + g->n_ids, g->made, g->n_made * sizeof **ids);
    memcpy(*ids + g->n_ids + g->n_made, c->end_ids, c->n_end_ids * sizeof **ids);
    return LARDER_OK;
}
