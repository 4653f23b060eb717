/* tok_parts.c - what normalizer, pre_tokenizer, post_processor, decoder and model of a tokenizer.json mean.
 *
 * Owns: turning them into steps. Every type and option that is not understood is an error that names it: a tokenizer
 * that is nearly right is wrong. Refuses to own: reading the file (tok_json.c), running the steps.
 */
#include "tok_parts.h"

#define MARK "\xe2\x96\x81"

static const char *type_of(const json_t *v)
{
    const char *s = json_string_value(json_object_get(v, "type"));
    return s ? s : "";
}

static bool is(const json_t *v, const char *type) { return strcmp(type_of(v), type) == 0; }

static bool flag(const json_t *v, const char *key, bool missing)
{
    const json_t *f = json_object_get(v, key);
    return json_is_boolean(f) ? json_is_true(f) : missing;
}

static lr_str text(const json_t *v)
{
    return json_is_string(v) ? (lr_str){json_string_value(v), json_string_length(v)} : (lr_str){0};
}

static larder_status unknown(const char *part, const json_t *v, larder_error *err)
{
    return lr_fail(err, LARDER_UNSUPPORTED, "%s of type \"%.60s\" is not supported", part, type_of(v));
}

static larder_status new_step(tok_step *steps, int *n, tok_step_kind kind, tok_step **out, larder_error *err)
{
    if (*n == TOK_MAX_STEPS) return lr_fail(err, LARDER_LIMIT, "more than %d steps before the model", TOK_MAX_STEPS);
    *out = &steps[(*n)++];
    (*out)->kind = kind;
    return LARDER_OK;
}

static larder_status set_text(tok_step *step, lr_str s, larder_error *err)
{
    if (s.n > TOK_MAX_PATTERN) return lr_fail(err, LARDER_LIMIT, "a replacement of %zu bytes", s.n);
    step->text = lr_strndup(s.p ? s.p : "", s.n);
    step->n_text = s.n;
    return step->text ? LARDER_OK : LR_NOMEM(err, "a step of the tokenizer");
}

/* {"String": "..."} or {"Regex": "..."}, or in old files the string itself */
static larder_status set_pattern(tok_step *step, const json_t *v, larder_error *err)
{
    const json_t *regex = json_object_get(v, "Regex"), *string = json_is_string(v) ? v : json_object_get(v, "String");
    if (json_is_string(regex)) return tok_compile(&step->regex, text(regex), false, err);
    if (json_is_string(string)) return tok_compile(&step->regex, text(string), true, err);
    return lr_fail(err, LARDER_FORMAT, "a pattern is neither a String nor a Regex");
}

/* ---------------------------------------------------------------- normalizer */
static larder_status read_normalizer(lr_tokenizer *t, const json_t *v, int depth, larder_error *err)
{
    static const struct {
        const char *name;
        tok_form form;
    } forms[] = {{"NFC", TOK_NFC}, {"NFD", TOK_NFD}, {"NFKC", TOK_NFKC}, {"NFKD", TOK_NFKD}};
    if (!v || json_is_null(v)) return LARDER_OK;
    if (depth > 8) return lr_fail(err, LARDER_LIMIT, "the normalizer is too deep");
    if (is(v, "Sequence")) {
        size_t i;
        json_t *e;
        json_array_foreach(json_object_get(v, "normalizers"), i, e) LR_TRY(read_normalizer(t, e, depth + 1, err));
        return LARDER_OK;
    }
    tok_step *s = NULL;
    for (size_t i = 0; i < LR_LEN(forms); i++) {
        if (!is(v, forms[i].name)) continue;
        LR_TRY(new_step(t->norm, &t->n_norm, TOK_NORM_FORM, &s, err));
        s->form = forms[i].form;
        return LARDER_OK;
    }
    if (is(v, "Prepend")) {
        LR_TRY(new_step(t->norm, &t->n_norm, TOK_PREPEND, &s, err));
        return set_text(s, text(json_object_get(v, "prepend")), err);
    }
    if (is(v, "Replace")) {
        LR_TRY(new_step(t->norm, &t->n_norm, TOK_REPLACE, &s, err));
        LR_TRY(set_text(s, text(json_object_get(v, "content")), err));
        return set_pattern(s, json_object_get(v, "pattern"), err);
    }
    if (is(v, "Strip")) {
        LR_TRY(new_step(t->norm, &t->n_norm, TOK_STRIP, &s, err));
        s->left = flag(v, "strip_left", true);
        s->right = flag(v, "strip_right", true);
        return LARDER_OK;
    }
    if (is(v, "Lowercase")) return new_step(t->norm, &t->n_norm, TOK_LOWERCASE, &s, err);
    return unknown("a normalizer", v, err);
}

/* ---------------------------------------------------------------- pre-tokenizer */
static larder_status set_behaviour(tok_step *s, const json_t *v, larder_error *err)
{
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *name = json_string_value(json_object_get(v, "behavior"));
    for (size_t i = 0; name && i < LR_LEN(names); i++) {
        if (strcmp(name, names[i]) != 0) continue;
        s->behaviour = (tok_behaviour)i;
        return LARDER_OK;
    }
    return lr_fail(err, LARDER_UNSUPPORTED, "split behaviour \"%.60s\" is not supported", name ? name : "");
}

static larder_status add_split(lr_tokenizer *t, const char *pattern, tok_behaviour behaviour, bool invert,
                               larder_error *err)
{
    tok_step *s = NULL;
    LR_TRY(new_step(t->pre, &t->n_pre, TOK_SPLIT, &s, err));
    s->behaviour = behaviour;
    s->invert = invert;
    return tok_compile(&s->regex, lr_str_of(pattern), false, err);
}

static larder_status read_byte_level(lr_tokenizer *t, const json_t *v, larder_error *err)
{
    tok_step *s = NULL;
    t->byte_level = true;
    if (flag(v, "add_prefix_space", true)) LR_TRY(new_step(t->pre, &t->n_pre, TOK_PREFIX, &s, err));
    return flag(v, "use_regex", true) ? add_split(t, TOK_GPT2_PATTERN, TOK_ISOLATED, false, err) : LARDER_OK;
}

static larder_status read_metaspace(lr_tokenizer *t, const json_t *v, larder_error *err)
{
    tok_step *s = NULL;
    LR_TRY(new_step(t->pre, &t->n_pre, TOK_METASPACE, &s, err));
    lr_str mark = text(json_object_get(v, "replacement"));
    LR_TRY(set_text(s, mark.n ? mark : LR_STR(MARK), err));
    const char *scheme = json_string_value(json_object_get(v, "prepend_scheme"));
    if (!scheme) s->scheme = flag(v, "add_prefix_space", true) ? TOK_ALWAYS : TOK_NEVER;
    else if (strcmp(scheme, "always") == 0) s->scheme = TOK_ALWAYS;
    else if (strcmp(scheme, "first") == 0) s->scheme = TOK_FIRST;
    else if (strcmp(scheme, "never") == 0) s->scheme = TOK_NEVER;
    else return lr_fail(err, LARDER_UNSUPPORTED, "prepend_scheme \"%.60s\" is not supported", scheme);
    if (!flag(v, "split", true)) return LARDER_OK;
    lr_str own = {s->text, s->n_text};
    LR_TRY(new_step(t->pre, &t->n_pre, TOK_SPLIT, &s, err));
    s->behaviour = TOK_MERGED_NEXT;
    return tok_compile(&s->regex, own, true, err);
}

static larder_status read_pre(lr_tokenizer *t, const json_t *v, int depth, larder_error *err)
{
    if (!v || json_is_null(v)) return LARDER_OK;
    if (depth > 8) return lr_fail(err, LARDER_LIMIT, "the pre-tokenizer is too deep");
    if (t->byte_level) return lr_fail(err, LARDER_UNSUPPORTED, "a pre-tokenizer after ByteLevel");
    if (is(v, "Sequence")) {
        size_t i;
        json_t *e;
        json_array_foreach(json_object_get(v, "pretokenizers"), i, e) LR_TRY(read_pre(t, e, depth + 1, err));
        return LARDER_OK;
    }
    if (is(v, "ByteLevel")) return read_byte_level(t, v, err);
    if (is(v, "Metaspace")) return read_metaspace(t, v, err);
    if (is(v, "Split")) {
        tok_step *s = NULL;
        LR_TRY(new_step(t->pre, &t->n_pre, TOK_SPLIT, &s, err));
        LR_TRY(set_behaviour(s, v, err));
        s->invert = flag(v, "invert", false);
        return set_pattern(s, json_object_get(v, "pattern"), err);
    }
    if (is(v, "Digits")) {
        bool single = flag(v, "individual_digits", false);
        return add_split(t, "\\p{N}", single ? TOK_ISOLATED : TOK_CONTIGUOUS, false, err);
    }
    if (is(v, "Punctuation")) {
        LR_TRY(add_split(t, "[\\p{P}!-/:-@\\[-`{-~]", TOK_ISOLATED, false, err));
        return json_object_get(v, "behavior") ? set_behaviour(&t->pre[t->n_pre - 1], v, err) : LARDER_OK;
    }
    if (is(v, "Whitespace")) return add_split(t, "\\w+|[^\\w\\s]+", TOK_REMOVED, true, err);
    if (is(v, "WhitespaceSplit")) return add_split(t, "\\s", TOK_REMOVED, false, err);
    return unknown("a pre-tokenizer", v, err);
}

/* ---------------------------------------------------------------- post-processor */
static larder_status add_affix(lr_tokenizer *t, const json_t *special, const json_t *token, bool tail,
                               larder_error *err)
{
    const char *name = json_string_value(json_object_get(json_object_get(token, "SpecialToken"), "id"));
    const json_t *ids = name ? json_object_get(json_object_get(special, name), "ids") : NULL;
    if (!json_is_array(ids))
        return lr_fail(err, LARDER_FORMAT, "the post-processor names a special token it does not define");
    size_t i;
    json_t *e;
    json_array_foreach(ids, i, e)
    {
        long long id = json_is_integer(e) ? (long long)json_integer_value(e) : -1;
        int *n = tail ? &t->n_tail : &t->n_head;
        if (id < 0 || id >= t->n)
            return lr_fail(err, LARDER_FORMAT, "the post-processor adds token %lld, which there is not", id);
        if (*n == TOK_MAX_AFFIX) return lr_fail(err, LARDER_LIMIT, "the post-processor adds too many tokens");
        (tail ? t->tail : t->head)[(*n)++] = (uint32_t)id;
    }
    return LARDER_OK;
}

static larder_status read_post(lr_tokenizer *t, const json_t *v, int depth, larder_error *err)
{
    size_t i;
    json_t *e;
    if (!v || json_is_null(v) || is(v, "ByteLevel")) return LARDER_OK; /* ByteLevel only moves offsets */
    if (depth > 8) return lr_fail(err, LARDER_LIMIT, "the post-processor is too deep");
    if (is(v, "Sequence")) {
        json_array_foreach(json_object_get(v, "processors"), i, e) LR_TRY(read_post(t, e, depth + 1, err));
        return LARDER_OK;
    }
    if (is(v, "TemplateProcessing")) {
        bool tail = false;
        json_array_foreach(json_object_get(v, "single"), i, e)
        {
            if (json_object_get(e, "Sequence")) tail = true;
            else LR_TRY(add_affix(t, json_object_get(v, "special_tokens"), e, tail, err));
        }
        return LARDER_OK;
    }
    return unknown("a post-processor", v, err);
}

/* ---------------------------------------------------------------- decoder */
static larder_status read_decoder_step(lr_tokenizer *t, const json_t *v, int depth, larder_error *err)
{
    size_t i;
    json_t *e;
    if (depth > 8) return lr_fail(err, LARDER_LIMIT, "the decoder is too deep");
    if (is(v, "Sequence")) {
        json_array_foreach(json_object_get(v, "decoders"), i, e) LR_TRY(read_decoder_step(t, e, depth + 1, err));
        return LARDER_OK;
    }
    if (is(v, "ByteLevel")) {
        t->decoder = TOK_DECODE_BYTES;
        return LARDER_OK;
    }
    if (t->decoder != TOK_DECODE_BYTES) t->decoder = TOK_DECODE_PIECES;
    if (is(v, "Fuse")) return LARDER_OK;
    if (is(v, "ByteFallback")) {
        t->decode_bytes = true;
        return LARDER_OK;
    }
    if (is(v, "Replace")) {
        lr_str from = text(json_object_get(json_object_get(v, "pattern"), "String")),
               to = text(json_object_get(v, "content"));
        t->decode_spaces = true;
        if (lr_str_is(from, MARK) && lr_str_is(to, " ")) return LARDER_OK;
        return lr_fail(err, LARDER_UNSUPPORTED, "a decoder that replaces \"%.*s\" is not supported",
                       LR_STR_ARG(from));
    }
    if (is(v, "Strip")) {
        json_int_t start = json_integer_value(json_object_get(v, "start"));
        bool plain = lr_str_is(text(json_object_get(v, "content")), " ") && start >= 0 && start <= 16 &&
                     json_integer_value(json_object_get(v, "stop")) == 0;
        if (!plain) return lr_fail(err, LARDER_UNSUPPORTED, "this Strip decoder is not supported");
        t->decode_strip = (int)start;
        return LARDER_OK;
    }
    if (is(v, "Metaspace")) {
        const char *scheme = json_string_value(json_object_get(v, "prepend_scheme"));
        t->decode_spaces = true;
        t->decode_bare = scheme ? strcmp(scheme, "never") != 0 : flag(v, "add_prefix_space", true);
        return LARDER_OK;
    }
    return unknown("a decoder", v, err);
}

/* ---------------------------------------------------------------- model */
static bool absent(const json_t *v)
{
    return !v || json_is_null(v) || (json_is_string(v) && json_string_length(v) == 0) || json_is_false(v);
}

static larder_status read_model(lr_tokenizer *t, const json_t *m, larder_error *err)
{
    const char *type = json_string_value(json_object_get(m, "type"));
    if (type && strcmp(type, "BPE") != 0) return unknown("a model", m, err);
    static const char *const refused[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < LR_LEN(refused); i++) {
        if (!absent(json_object_get(m, refused[i])))
            return lr_fail(err, LARDER_UNSUPPORTED, "%s is not supported", refused[i]);
    }
    const json_t *dropout = json_object_get(m, "dropout");
    if (!absent(dropout) && json_number_value(dropout) != 0)
        return lr_fail(err, LARDER_UNSUPPORTED, "dropout is for training only");
    t->fuse_unk = flag(m, "fuse_unk", false);
    t->byte_fallback = flag(m, "byte_fallback", false);
    t->ignore_merges = flag(m, "ignore_merges", false);
    lr_str unk = text(json_object_get(m, "unk_token"));
    if (unk.n) {
        t->unk = lr_tokenizer_find(t, unk);
        if (t->unk < 0) return lr_fail(err, LARDER_FORMAT, "unk_token \"%.*s\" is no token", LR_STR_ARG(unk));
    }
    return LARDER_OK;
}

/* "<s>" or {"content": "<s>", ...}; the model's own file may also name it by id */
static int32_t special(const lr_tokenizer *t, const json_t *rest, const char *name, const char *id_name)
{
    const json_t *v = json_object_get(rest, name), *id = json_object_get(rest, id_name);
    lr_str s = text(json_is_object(v) ? json_object_get(v, "content") : v);
    if (s.n) return lr_tokenizer_find(t, s);
    if (json_is_array(id)) id = json_array_get(id, 0);
    long long i = json_is_integer(id) ? (long long)json_integer_value(id) : -1;
    return i >= 0 && i < t->n ? (int32_t)i : -1;
}

larder_status tok_read_parts(lr_tokenizer *t, const tok_parts *parts, larder_error *err)
{
    const json_t *decoder = json_object_get(parts->rest, "decoder");
    LR_TRY(read_model(t, parts->model, err));
    LR_TRY(read_normalizer(t, json_object_get(parts->rest, "normalizer"), 0, err));
    LR_TRY(read_pre(t, json_object_get(parts->rest, "pre_tokenizer"), 0, err));
    LR_TRY(read_post(t, json_object_get(parts->rest, "post_processor"), 0, err));
    if (decoder && !json_is_null(decoder)) LR_TRY(read_decoder_step(t, decoder, 0, err));
    t->bos = special(t, parts->rest, "bos_token", "bos_token_id");
    t->eos = special(t, parts->rest, "eos_token", "eos_token_id");
    t->pad = special(t, parts->rest, "pad_token", "pad_token_id");
    for (uint32_t id = 0; t->byte_fallback && id < t->n; id++)
        if (t->kind[id] == LR_TOKEN_NORMAL && tok_parse_byte(tok_name(t, id)) >= 0) t->kind[id] = LR_TOKEN_BYTE;
    return LARDER_OK;
}

larder_status tok_read_ends(lr_tokenizer *t, const tok_parts *parts, larder_error *err)
{
    (void)err;
    const json_t *ids = json_object_get(parts->rest, "eos_token_id");
    size_t i;
    json_t *e;
    if (json_is_integer(ids)) tok_add_end(t, json_integer_value(ids));
    json_array_foreach(ids, i, e) if (json_is_integer(e)) tok_add_end(t, json_integer_value(e));
    return LARDER_OK;
}
