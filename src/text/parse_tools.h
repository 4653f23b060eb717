/* parse_tools.h - an answer as it streams, taken apart: what it says, what it thinks, which tools it calls.
 *
 * Owns: the syntaxes models call tools in. Hermes and Qwen: <tool_call>{"name", "arguments"}</tool_call>; Mistral:
 * [TOOL_CALLS] with a list of them, or with name[ARGS]{...}; Llama 3.1: an object with "name" and "parameters" as the
 * whole answer, <|python_tag|> before it or not. And <think>...</think> at the start.
 * Refuses to own: what any API makes of it; whether the call makes sense.
 *
 * How the text is cut on its way in never matters. What looks like a call and is none comes out as the text it is:
 * nothing is dropped. The time is linear in the text.
 */
#ifndef LR_PARSE_TOOLS_H
#define LR_PARSE_TOOLS_H

#include "base.h"

typedef enum lr_piece_kind { LR_PIECE_TEXT, LR_PIECE_THOUGHT, LR_PIECE_CALL } lr_piece_kind;
typedef struct lr_piece {
    lr_piece_kind kind;
    lr_str text; /* TEXT, THOUGHT; CALL: its arguments, a JSON object. Valid until the function returns */
    lr_str name; /* CALL */
} lr_piece;
typedef void lr_piece_fn(void *user, const lr_piece *piece);

typedef struct lr_answer {
    lr_buf held; /* what may yet turn out to be something else; before `at`, already given */
    size_t at;
    int mode;           /* of parse_tools.c */
    size_t start, seen; /* of the JSON value or the name being read, and how far it was read */
    size_t name, n_name;
    uint32_t depth;
    bool in_string, escaped;
    bool tools; /* calls are looked for */
    bool trim;  /* white space is dropped until there is something else */
    lr_piece_fn *give;
    void *user;
} lr_answer;

/* tools: the request offered tools. thinking: the prompt ended inside <think>. */
void lr_answer_init(lr_answer *a, bool tools, bool thinking, lr_piece_fn *give, void *user);
void lr_answer_close(lr_answer *a);
/* More of the answer; a control token (<think>, [TOOL_CALLS]) by its name. false: out of memory. */
bool lr_answer_feed(lr_answer *a, const char *text, size_t n);
/* No more will come: gives what was held. */
bool lr_answer_end(lr_answer *a);

#endif
