/* template.h - chat templates: the model's own Jinja, interpreted by us within budgets.
 *
 * Owns: the Jinja subset that chat templates use (and what transformers adds to it), and the origin of every output
 * byte: the template's own text, or data. Refuses to own: tokens (tokenizer.h).
 * No attribute, host, file or clock access exists in the language except strftime_now with the given time.
 */
#ifndef LR_TEMPLATE_H
#define LR_TEMPLATE_H

#include "tokenizer.h"

#include <jansson.h>

typedef struct lr_template lr_template;

/* Parses the template. Errors name the line. */
larder_status lr_template_new(lr_str source, lr_template **out, larder_error *err);
void lr_template_free(lr_template *t);

typedef struct lr_template_budget {
    uint64_t steps;  /* expressions and statements evaluated */
    uint32_t depth;  /* nesting of calls, expressions and macros */
    size_t n_output; /* bytes of output, and of any string on the way */
    size_t n_memory; /* bytes the interpreter may hold */
} lr_template_budget;
lr_template_budget lr_template_budget_default(void);

typedef struct lr_rendered {
    char *text; /* ends in NUL */
    size_t n;
    lr_text_run *runs; /* cover text exactly */
    size_t n_runs;
} lr_rendered;
void lr_rendered_free(lr_rendered *r);

/* `vars`: the object of variables (messages, tools, add_generation_prompt, ...): data.
 * `trusted`: an object of strings that count as the template's own (bos_token, eos_token, ...).
 * `now`: what strftime_now sees, seconds since 1970, UTC. raise_exception(...) gives LARDER_FORMAT with its message;
 * an exhausted budget LARDER_LIMIT. */
larder_status lr_template_render(const lr_template *t, json_t *vars, json_t *trusted, int64_t now,
                                 const lr_template_budget *budget, lr_rendered *out, larder_error *err);

#endif
