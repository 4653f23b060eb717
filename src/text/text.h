/* text.h - everything textual of one model: its tokenizer and its chat template together.
 *
 * Owns: finding them (GGUF keys, or the files of a safetensors folder) and the way from messages to prompt tokens.
 */
#ifndef LR_TEXT_H
#define LR_TEXT_H

#include "template.h"

typedef struct lr_text {
    lr_tokenizer *tok;
    lr_template *tmpl; /* NULL if the model has none, or one that does not parse: then tmpl_source says which */
    lr_str tmpl_source;
    lr_template *tmpl_tools; /* the one for requests with tools, if the model ships it apart ("tool_use") */
    lr_str tmpl_tools_source;
    larder_error tmpl_error, tmpl_tools_error; /* why one that is there did not parse */
    json_t *trusted;                           /* bos_token, eos_token, ... as the template sees them */
    lr_arena arena;
} lr_text;

/* From a model file: GGUF keys, or for LR_ORIGIN_HF the folder f->path (tokenizer.json, tokenizer_config.json,
 * chat_template.jinja). A template that does not parse is an error only when it is used. */
larder_status lr_text_open(const lr_file *f, lr_text *out, larder_error *err);
/* From a path alone: a tokenizer.json, a tokenizer_config.json, a .jinja file, or a folder that holds any of them. What is
 * not there is left out: tok or tmpl may be NULL, not both. */
larder_status lr_text_open_dir(const char *dir, lr_text *out, larder_error *err);
void lr_text_close(lr_text *t);

/* Renders {"messages": [...], ...}; the object's other members are what the template sees beside them, so nothing can
 * stand in for messages or tools, and none replaces bos_token and its like. tools and documents are null and
 * add_generation_prompt false where absent. Message contents must be strings, null, or lists of {"type":"text"} parts;
 * anything else is an error that names it. Parts are joined by newlines for a template that knows only strings.
 * now: seconds since 1970. The request is not changed. */
larder_status lr_text_render(const lr_text *t, json_t *request, int64_t now, lr_rendered *out, larder_error *err);
/* Renders and tokenizes. Templates write BOS themselves; if this one does not and the tokenizer adds it, it is added. */
larder_status lr_text_prompt(const lr_text *t, json_t *request, int64_t now, lr_ids *out, larder_error *err);

#endif
