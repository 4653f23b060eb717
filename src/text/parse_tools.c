/* parse_tools.c - see parse_tools.h. */
#include "parse_tools.h"

#include <jansson.h>

enum {
    BEGIN, /* only white space so far: a thought or a bare call may begin */
    TEXT,
    THINK,
    CALL,    /* after <tool_call>: a JSON object, then the closing tag */
    CLOSING, /* after that object */
    LIST,    /* after [TOOL_CALLS]: a list, or a name */
    LIST_JSON,
    NAMED, /* after name[ARGS]: a JSON object */
    BARE,  /* an object at the start of the answer */
};
/* A call longer than this is taken for text. */
#define MOST_HELD ((size_t)4 << 20)

static const lr_str think = {"<think>", 7}, think_end = {"</think>", 8}, call = {"<tool_call>", 11},
                    call_end = {"</tool_call>", 12}, list = {"[TOOL_CALLS]", 12}, args = {"[ARGS]", 6},
                    python = {"<|python_tag|>", 14};

void lr_answer_init(lr_answer *a, bool tools, bool thinking, lr_piece_fn *give, void *user)
{
    *a = (lr_answer){.tools = tools, .mode = thinking ? THINK : BEGIN, .give = give, .user = user, .trim = thinking};
}

void lr_answer_close(lr_answer *a) { lr_buf_free(&a->held); }

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

static void give_piece(lr_answer *a, lr_piece_kind kind, const char *p, size_t n)
{
    if (n && a->trim) {
        while (n && is_space(*p)) p++, n--;
        if (n) a->trim = false;
    }
    if (!n) return;
    a->give(a->user, &(lr_piece){.kind = kind, .text = {p, n}});
}

/* Gives everything up to `to` and goes on after it. */
static void give_to(lr_answer *a, lr_piece_kind kind, size_t to)
{
    give_piece(a, kind, a->held.p + a->at, to - a->at);
    a->at = to;
}

static bool starts(const lr_answer *a, size_t at, lr_str mark)
{
    return a->held.n - at >= mark.n && !memcmp(a->held.p + at, mark.p, mark.n);
}

/* The rest from `at` is the beginning of the mark, and not all of it. */
static bool may_start(const lr_answer *a, size_t at, lr_str mark)
{
    size_t n = a->held.n - at;
    return n < mark.n && !memcmp(a->held.p + at, mark.p, n);
}

static void read_json(lr_answer *a, int mode, size_t start)
{
    a->mode = mode;
    a->start = a->seen = start;
    a->depth = 0;
    a->in_string = a->escaped = false;
}

/* Goes on through the object or list that begins at a->start. true: it ends before a->seen. */
static bool json_end(lr_answer *a)
{
    while (a->seen < a->held.n) {
        char c = a->held.p[a->seen++];
        if (a->in_string) {
            if (a->escaped) a->escaped = false;
            else if (c == '\\') a->escaped = true;
            else if (c == '"') a->in_string = false;
            continue;
        }
        if (c == '"') a->in_string = true;
        else if (c == '{' || c == '[') a->depth++;
        else if (c == '}' || c == ']') a->depth--;
        if (!a->depth) return true;
    }
    return false;
}

/* ---------------------------------------------------------------- calls */
static bool give_args(lr_answer *a, const char *name, size_t n_name, const json_t *arguments)
{
    char *text = arguments ? json_dumps(arguments, JSON_COMPACT) : NULL;
    if (arguments && !text) return false;
    lr_str s = text ? lr_str_of(text) : LR_STR("{}");
    a->trim = true;
    a->give(a->user, &(lr_piece){.kind = LR_PIECE_CALL, .text = s, .name = {name, n_name}});
    free(text);
    return true;
}

static const json_t *arguments_of(const json_t *o)
{
    const json_t *v = json_object_get(o, "arguments");
    return v ? v : json_object_get(o, "parameters");
}

static bool is_call(const json_t *o, bool needs_arguments)
{
    const json_t *name = json_object_get(o, "name"), *v = arguments_of(o);
    if (!json_string_length(name)) return false;
    if (!v) return !needs_arguments;
    return json_is_object(v);
}

/* Arguments that are an object written as a string become the object. */
static void unquote(json_t *o)
{
    const json_t *v = json_object_get(o, "arguments");
    if (!json_is_string(v)) return;
    json_t *inner = json_loadb(json_string_value(v), json_string_length(v), JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(inner)) json_object_set(o, "arguments", inner);
    json_decref(inner);
}

/* Gives the calls that [start, end) holds; false if it holds anything else. */
static bool give_calls(lr_answer *a, size_t start, size_t end, bool needs_arguments)
{
    json_t *v = json_loadb(a->held.p + start, end - start, JSON_REJECT_DUPLICATES, NULL), *o;
    size_t i, n = json_is_array(v) ? json_array_size(v) : 1;
    bool good = v && n > 0;
    for (i = 0; good && i < n; i++) {
        o = json_is_array(v) ? json_array_get(v, i) : v;
        unquote(o);
        good = is_call(o, needs_arguments);
    }
    for (i = 0; good && i < n; i++) {
        o = json_is_array(v) ? json_array_get(v, i) : v;
        const json_t *name = json_object_get(o, "name");
        good = give_args(a, json_string_value(name), json_string_length(name), arguments_of(o));
    }
    json_decref(v);
    return good;
}

/* What was held for a call is text after all. */
static void take_back(lr_answer *a, size_t to)
{
    give_to(a, LR_PIECE_TEXT, to);
    a->mode = TEXT;
}

/* ---------------------------------------------------------------- modes: true to look again, false to wait for more */
/* The first byte at or after a->at that is no white space. */
static size_t past_space(lr_answer *a)
{
    a->seen = LR_MAX(a->seen, a->at);
    while (a->seen < a->held.n && is_space(a->held.p[a->seen])) a->seen++;
    return a->seen;
}

static bool in_begin(lr_answer *a)
{
    size_t at = past_space(a);
    if (at == a->held.n) return false;
    if (starts(a, at, think)) {
        a->at = at + think.n;
        a->mode = THINK;
        a->trim = true;
        return true;
    }
    if (may_start(a, at, think)) return false;
    if (a->tools && a->held.p[at] == '{') {
        a->at = at;
        read_json(a, BARE, at);
        return true;
    }
    if (a->tools && starts(a, at, python)) {
        size_t open = at + python.n;
        if (open == a->held.n) return false;
        if (a->held.p[open] == '{') {
            a->at = at;
            read_json(a, BARE, open);
            return true;
        }
    } else if (a->tools && may_start(a, at, python)) {
        return false;
    }
    a->mode = TEXT;
    return true;
}

static bool in_text(lr_answer *a)
{
    for (size_t i = a->at; i < a->held.n; i++) {
        char c = a->held.p[i];
        if (!a->tools || (c != '<' && c != '[')) continue;
        if (starts(a, i, call) || starts(a, i, list)) {
            give_to(a, LR_PIECE_TEXT, i);
            if (c == '<') read_json(a, CALL, i + call.n);
            else a->mode = LIST, a->start = a->seen = i + list.n;
            return true;
        }
        if (may_start(a, i, call) || may_start(a, i, list)) {
            give_to(a, LR_PIECE_TEXT, i);
            return false;
        }
    }
    give_to(a, LR_PIECE_TEXT, a->held.n);
    return false;
}

static bool in_think(lr_answer *a)
{
    for (size_t i = a->at; i < a->held.n; i++) {
        if (a->held.p[i] != '<') continue;
        if (starts(a, i, think_end)) {
            give_to(a, LR_PIECE_THOUGHT, i);
            a->at = i + think_end.n;
            a->mode = BEGIN;
            a->trim = true;
            return true;
        }
        if (may_start(a, i, think_end)) {
            give_to(a, LR_PIECE_THOUGHT, i);
            return false;
        }
    }
    give_to(a, LR_PIECE_THOUGHT, a->held.n);
    return false;
}

/* Moves a->start over white space to a JSON value; false if there is nothing else yet. */
static bool skip_space(lr_answer *a)
{
    while (a->start < a->held.n && is_space(a->held.p[a->start])) a->start++;
    a->seen = LR_MAX(a->seen, a->start);
    return a->start < a->held.n;
}

static bool in_call(lr_answer *a)
{
    if (!a->depth && !skip_space(a)) return false; /* depth: inside the object already */
    if (a->held.p[a->start] != '{') {
        take_back(a, a->start);
        return true;
    }
    if (!json_end(a)) return false;
    if (!give_calls(a, a->start, a->seen, false)) {
        take_back(a, a->seen);
        return true;
    }
    a->at = a->seen;
    a->mode = CLOSING;
    return true;
}

static bool in_closing(lr_answer *a)
{
    size_t at = past_space(a);
    if (at == a->held.n || may_start(a, at, call_end)) return false;
    if (starts(a, at, call_end)) a->at = at + call_end.n;
    a->mode = TEXT;
    return true;
}

static bool in_list(lr_answer *a)
{
    if (!skip_space(a)) return false;
    if (a->held.p[a->start] == '[' || a->held.p[a->start] == '{') {
        read_json(a, LIST_JSON, a->start);
        return true;
    }
    for (; a->seen < a->held.n; a->seen++) { /* name[ARGS]{...} or name{...} */
        size_t i = a->seen;
        char c = a->held.p[i];
        bool marked = starts(a, i, args);
        if (c == '[' && may_start(a, i, args)) return false;
        if (marked || c == '{') {
            size_t open = i + (marked ? args.n : 0);
            if (open == a->held.n) return false;
            if (a->held.p[open] != '{' || i == a->start) break;
            a->name = a->start;
            a->n_name = i - a->start;
            read_json(a, NAMED, open);
            return true;
        }
        if (is_space(c) || c == '"' || i - a->start > 256) break;
    }
    if (a->seen == a->held.n) return false;
    take_back(a, a->seen);
    return true;
}

static bool in_named(lr_answer *a)
{
    if (!json_end(a)) return false;
    json_t *v = json_loadb(a->held.p + a->start, a->seen - a->start, JSON_REJECT_DUPLICATES, NULL);
    bool good = json_is_object(v) && give_args(a, a->held.p + a->name, a->n_name, v);
    json_decref(v);
    if (!good) {
        take_back(a, a->seen);
        return true;
    }
    a->at = a->seen;
    a->mode = TEXT;
    return true;
}

static bool in_json(lr_answer *a)
{
    if (!json_end(a)) return false;
    bool bare = a->mode == BARE;
    if (!give_calls(a, a->start, a->seen, bare)) {
        take_back(a, a->seen);
        return true;
    }
    a->at = a->seen;
    a->mode = bare ? BEGIN : TEXT;
    return true;
}

static bool look(lr_answer *a)
{
    switch (a->mode) {
    case BEGIN: return in_begin(a);
    case TEXT: return in_text(a);
    case THINK: return in_think(a);
    case CALL: return in_call(a);
    case CLOSING: return in_closing(a);
    case LIST: return in_list(a);
    case NAMED: return in_named(a);
    default: return in_json(a);
    }
}

/* Forgets what was given, once it is most of what is held. */
static void compact(lr_answer *a)
{
    size_t n = a->at;
    if (n < 4096 || n < a->held.n / 2) return;
    memmove(a->held.p, a->held.p + n, a->held.n - n);
    a->held.n -= n;
    a->at = 0;
    a->start -= LR_MIN(n, a->start);
    a->seen -= LR_MIN(n, a->seen);
    a->name -= LR_MIN(n, a->name);
}

bool lr_answer_feed(lr_answer *a, const char *text, size_t n)
{
    lr_buf_add(&a->held, text, n);
    if (a->held.failed) return false;
    while (a->at < a->held.n && look(a)) {}
    if (a->held.n - a->at > MOST_HELD) take_back(a, a->held.n);
    compact(a);
    return true;
}

bool lr_answer_end(lr_answer *a)
{
    if (a->at < a->held.n) give_to(a, a->mode == THINK ? LR_PIECE_THOUGHT : LR_PIECE_TEXT, a->held.n);
    return !a->held.failed;
}
