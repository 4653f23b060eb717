/* parse_tools.h - an answer as it streams, taken apart: what it says, what it thinks, which tools it calls.
 *
 * Owns: the syntaxes models call tools in. Hermes and Qwen: <tool_call>{"name", "arguments"}</tool_call>; Mistral:
 * [TOOL_CALLS] with a list of them, or with name[ARGS]{...}; Llama 3.1: an object with "name" and "parameters" as the
 * whole answer, <|python_tag|> before it or not. And <think>...</think> at the start.
 * Refuses to own: what any API makes of it; whether the call makes sense.
 *
 * How the text is cut on its way in never matters. A call that begins as calls do, {"name": ..., "arguments": {, is given
 * as it comes: from there on it is a call, and whether its arguments are sound JSON is the reader's to see. What else
 * looks like a call and is none comes out as the text it is: nothing is dropped. The time is linear in the text.
 */
#ifndef LR_PARSE_TOOLS_H
#define LR_PARSE_TOOLS_H

#include "base.h"

typedef enum lr_piece_kind {
    LR_PIECE_TEXT,
    LR_PIECE_THOUGHT,
    LR_PIECE_CALL,   /* one begins */
    LR_PIECE_ARGS,   /* a part of its arguments, which are together a JSON object without needless white space */
    LR_PIECE_CALLED, /* it is whole; without this it was cut off */
} lr_piece_kind;
typedef struct lr_piece {
    lr_piece_kind kind;
    lr_str text; /* TEXT, THOUGHT, ARGS. Valid until the function returns */
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
    int after;            /* mode after the call being read */
    bool needs_arguments; /* WHOLE: without them it is none */
    bool rest;            /* ARGS: they stand in an object of a call */
    bool tools;           /* calls are looked for */
    bool forced;          /* a call, or a list of them, is all the answer may be; set after lr_answer_init */
    /* Calls begin with this mark and no other ("<tool_call>", "[TOOL_CALLS]"); NULL: any syntax; set after lr_answer_init. */
    const char *only;
    bool trim; /* white space is dropped until there is something else */
    lr_piece_fn *give;
    void *user;
} lr_answer;

/* tools: the request offered tools. thinking: the prompt ended inside <think>. */
void lr_answer_init(lr_answer *a, bool tools, bool thinking, lr_piece_fn *give, void *user);
void lr_answer_close(lr_answer *a);
/* More of the answer; a control token (<think>, [TOOL_CALLS]) by its name. false: out of memory. */
bool lr_answer_feed(lr_answer *a, const char *text, size_t n);
/* What comes next is part of a thought. */
bool lr_answer_thinks(const lr_answer *a);
/* No more will come: gives what was held; but of forced calls nothing that was cut off before a call began. */
bool lr_answer_end(lr_answer *a);

#endif
