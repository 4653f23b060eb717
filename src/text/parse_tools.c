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
    ITEMS,   /* in that list: calls */
    BARE,    /* an object at the start of the answer */
    WHOLE,   /* in an object that may be a call, and is known to be one or not when it ends */
    ARGS,    /* in the arguments of a call, given as they come */
    REST,    /* after them, in the object of the call */
};
/* A call longer than this is taken for text. */
#define MOST_HELD ((size_t)4 << 20)
/* What may stand before a call's arguments, and still be given before the call is whole. */
enum { MOST_HEAD = 320 };

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

static void read_json(lr_answer *a, size_t start)
{
    a->start = a->seen = start;
    a->depth = 0;
    a->in_string = a->escaped = false;
}

/* One byte of the object or list that begins at a->start. true: it ends there. */
static bool json_byte(lr_answer *a)
{
    char c = a->held.p[a->seen++];
    if (a->in_string) {
        if (a->escaped) a->escaped = false;
        else if (c == '\\') a->escaped = true;
        else if (c == '"') a->in_string = false;
        return false;
    }
    if (c == '"') a->in_string = true;
    else if (c == '{' || c == '[') a->depth++;
    else if (c == '}' || c == ']') a->depth--;
    return !a->depth;
}

/* Goes on through it. true: it ends before a->seen. */
static bool json_end(lr_answer *a)
{
    while (a->seen < a->held.n)
        if (json_byte(a)) return true;
    return false;
}

/* ---------------------------------------------------------------- calls */
static void begin_call(lr_answer *a, const char *name, size_t n_name)
{
    a->trim = false;
    a->give(a->user, &(lr_piece){.kind = LR_PIECE_CALL, .name = {name, n_name}});
}

static void end_call(lr_answer *a)
{
    a->give(a->user, &(lr_piece){.kind = LR_PIECE_CALLED});
    a->trim = true;
}

static bool give_whole(lr_answer *a, const char *name, size_t n_name, const json_t *arguments)
{
    char *text = arguments ? json_dumps(arguments, JSON_COMPACT) : NULL;
    if (arguments && !text) return false;
    begin_call(a, name, n_name);
    a->give(a->user, &(lr_piece){.kind = LR_PIECE_ARGS, .text = text ? lr_str_of(text) : LR_STR("{}")});
    end_call(a);
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
        good = give_whole(a, json_string_value(name), json_string_length(name), arguments_of(o));
    }
    json_decref(v);
    return good;
}

typedef enum head { HEAD_NO, HEAD_YES, HEAD_MORE } head;

/* Past white space, if there is more after it. */
static bool past(const lr_answer *a, size_t *i, size_t end)
{
    while (*i < end && is_space(a->held.p[*i])) ++*i;
    return *i < end;
}

/* The text at *i is `word`: HEAD_MORE if it may yet be. Moves over it. */
static head takes(const lr_answer *a, size_t *i, size_t end, const char *word)
{
    for (; *word; word++, ++*i) {
        if (*i == end) return HEAD_MORE;
        if (a->held.p[*i] != *word) return HEAD_NO;
    }
    return HEAD_YES;
}

/* The string at *i, without escapes, up to its closing quote. */
static head takes_string(lr_answer *a, size_t *i, size_t end)
{
    if (a->held.p[*i] != '"') return HEAD_NO;
    for (a->name = ++*i; *i < end; ++*i) {
        if (a->held.p[*i] == '\\') return HEAD_NO;
        if (a->held.p[*i] != '"') continue;
        a->n_name = (*i)++ - a->name;
        return a->n_name ? HEAD_YES : HEAD_NO;
    }
    return HEAD_MORE;
}

/* Does the object at a->start begin {"name": "...", "arguments": { ? Then *from is where they do. */
static head look_at_head(lr_answer *a, size_t *from)
{
    size_t i = a->start, end = LR_MIN(a->held.n, a->start + MOST_HEAD);
    head more = end == a->held.n ? HEAD_MORE : HEAD_NO, h;
    static const char *const before[] = {"{", "\"name\"", ":"};
    for (size_t k = 0; k < LR_LEN(before); k++) {
        if (!past(a, &i, end)) return more;
        if ((h = takes(a, &i, end, before[k])) != HEAD_YES) return h == HEAD_MORE ? more : h;
    }
    if (!past(a, &i, end)) return more;
    if ((h = takes_string(a, &i, end)) != HEAD_YES) return h == HEAD_MORE ? more : h;
    static const char *const after[] = {",", NULL, ":"};
    for (size_t k = 0; k < LR_LEN(after); k++) {
        if (!past(a, &i, end)) return more;
        if (!after[k] && i + 1 == end) return more;
        const char *word = after[k] ? after[k] : a->held.p[i + 1] == 'p' ? "\"parameters\"" : "\"arguments\"";
        if ((h = takes(a, &i, end, word)) != HEAD_YES) return h == HEAD_MORE ? more : h;
    }
    if (!past(a, &i, end)) return more;
    *from = i;
    return a->held.p[i] == '{' ? HEAD_YES : HEAD_NO;
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
    bool bare = a->tools && !a->only;
    if (bare && (a->held.p[at] == '{' || (a->forced && a->held.p[at] == '['))) {
        a->at = at;
        a->after = BEGIN;
        a->mode = a->held.p[at] == '{' ? BARE : ITEMS;
        read_json(a, at);
        return true;
    }
    if (bare && starts(a, at, python)) {
        size_t open = at + python.n;
        if (open == a->held.n) return false;
        if (a->held.p[open] == '{') {
            a->at = at;
            a->after = BEGIN;
            a->mode = BARE;
            read_json(a, open);
            return true;
        }
    } else if (bare && may_start(a, at, python)) {
        return false;
    }
    a->mode = TEXT;
    return true;
}

static bool in_text(lr_answer *a)
{
    for (size_t i = a->at; i < a->held.n; i++) {
        char c = a->held.p[i];
        if (!a->tools || (c != '<' && c != '[') || (a->only && c != *a->only)) continue;
        if (starts(a, i, call) || starts(a, i, list)) {
            give_to(a, LR_PIECE_TEXT, i);
            a->mode = c == '<' ? CALL : LIST;
            a->after = c == '<' ? CLOSING : TEXT;
            read_json(a, i + (c == '<' ? call.n : list.n));
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

/* The object at a->start: given as it comes if it begins as calls do, else looked at once it is whole. */
static bool open_call(lr_answer *a, bool needs_arguments)
{
    size_t args_at = 0;
    head h = look_at_head(a, &args_at);
    if (h == HEAD_MORE) return false;
    if (h == HEAD_NO) {
        a->mode = WHOLE;
        a->needs_arguments = needs_arguments;
        read_json(a, a->start);
        return true;
    }
    begin_call(a, a->held.p + a->name, a->n_name);
    a->at = args_at;
    a->mode = ARGS;
    a->rest = true;
    read_json(a, args_at);
    return true;
}

static bool in_call(lr_answer *a)
{
    if (!skip_space(a)) return false;
    if (a->held.p[a->start] == '{') return open_call(a, false);
    take_back(a, a->start);
    return true;
}

/* After a call: what follows it in its syntax. */
static void go_on(lr_answer *a, size_t at)
{
    a->at = a->seen = at;
    a->mode = a->after;
    a->start = at;
}

static bool in_whole(lr_answer *a)
{
    if (!json_end(a)) return false;
    if (give_calls(a, a->start, a->seen, a->needs_arguments)) go_on(a, a->seen);
    else take_back(a, a->seen);
    return true;
}

/* Gives the arguments without the white space between their parts. */
static bool in_args(lr_answer *a)
{
    size_t from = a->at;
    bool over = false;
    while (!over && a->seen < a->held.n) {
        if (!a->in_string && is_space(a->held.p[a->seen])) {
            if (a->seen > from)
                a->give(a->user, &(lr_piece){.kind = LR_PIECE_ARGS, .text = {a->held.p + from, a->seen - from}});
            from = ++a->seen;
            continue;
        }
        over = json_byte(a);
    }
    if (a->seen > from)
        a->give(a->user, &(lr_piece){.kind = LR_PIECE_ARGS, .text = {a->held.p + from, a->seen - from}});
    a->at = a->seen;
    if (!over) return false;
    end_call(a);
    if (!a->rest) go_on(a, a->seen);
    else a->mode = REST, a->start = a->seen;
    return true;
}

/* The object ends; or has more members, which say nothing. */
static bool in_rest(lr_answer *a)
{
    if (!skip_space(a)) return false;
    char c = a->held.p[a->start];
    if (c != '}' && c != ',') {
        a->mode = TEXT;
        return true;
    }
    if (!a->depth) a->depth = 1;
    if (!json_end(a)) return false;
    go_on(a, a->seen);
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
    if (a->held.p[a->start] == '[') {
        a->mode = ITEMS;
        return true;
    }
    if (a->held.p[a->start] == '{') return open_call(a, false);
    for (; a->seen < a->held.n; a->seen++) { /* name[ARGS]{...} or name{...} */
        size_t i = a->seen;
        char c = a->held.p[i];
        bool marked = starts(a, i, args);
        if (c == '[' && may_start(a, i, args)) return false;
        if (marked || c == '{') {
            size_t open = i + (marked ? args.n : 0);
            if (open == a->held.n) return false;
            if (a->held.p[open] != '{' || i == a->start) break;
            begin_call(a, a->held.p + a->start, i - a->start);
            a->at = open;
            a->mode = ARGS;
            a->rest = false;
            read_json(a, open);
            return true;
        }
        if (is_space(c) || c == '"' || i - a->start > 256) break;
    }
    if (a->seen == a->held.n) return false;
    take_back(a, a->seen);
    return true;
}

/* At a list's bracket, or after one of its calls. */
static bool in_items(lr_answer *a)
{
    if (!skip_space(a)) return false;
    char c = a->held.p[a->start];
    if (c == ']') {
        a->after = a->forced ? BEGIN : TEXT;
        go_on(a, a->start + 1);
        return true;
    }
    size_t at = a->start + (c == '[' || c == ',');
    while (at < a->held.n && is_space(a->held.p[at])) at++;
    if (at == a->held.n) return false;
    if (at == a->start || a->held.p[at] != '{') {
        take_back(a, at);
        return true;
    }
    size_t was = a->start;
    a->start = at;
    a->after = ITEMS;
    if (open_call(a, false)) return true;
    a->start = was;
    return false;
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
    case ITEMS: return in_items(a);
    case BARE: return open_call(a, true);
    case WHOLE: return in_whole(a);
    case ARGS: return in_args(a);
    default: return in_rest(a);
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

bool lr_answer_thinks(const lr_answer *a) { return a->mode == THINK; }

bool lr_answer_end(lr_answer *a)
{
    bool syntax = a->forced && (a->mode == BARE || a->mode == ITEMS || a->mode == REST);
    if (a->at < a->held.n && !syntax) give_to(a, a->mode == THINK ? LR_PIECE_THOUGHT : LR_PIECE_TEXT, a->held.n);
    return !a->held.failed;
}
