/* inspect.c - `larder inspect`: what a model file says. */
#include "cli.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* A value on one line, cut to what a terminal shows. */
static void print_value(const json_t *v)
{
    char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
    size_t n = text ? strlen(text) : 0;
    cli_put(stdout, text ? text : "?", n > 100 ? 100 : n);
    if (n > 100) printf("... (%zu bytes)", n);
    putchar('\n');
    free(text);
}

static void print_tensor(const json_t *t)
{
    char shape[64] = "";
    size_t i;
    json_t *d;
    json_array_foreach(json_object_get(t, "shape"), i, d)
        snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%s%lld", i ? " x " : "",
                 (long long)json_integer_value(d));
    const char *name = json_string_value(json_object_get(t, "name"));
    printf("  ");
    cli_put(stdout, name, strlen(name));
    printf("%*s %-12s %-22s %12lld\n", (int)(strlen(name) < 44 ? 44 - strlen(name) : 0), "",
           json_string_value(json_object_get(t, "type")), shape,
           (long long)json_integer_value(json_object_get(t, "bytes")));
}

static void print_memory(const json_t *m)
{
    const char *error = json_string_value(json_object_get(m, "error")), *name;
    char a[24], b[24];
    json_t *v;
    puts("\nmemory, to run it here:");
    if (error) {
        printf("  cannot run: %s\n", error);
        return;
    }
    json_object_foreach(json_object_get(m, "buffers"), name, v)
        printf("  %-24s %12s\n", name, cli_bytes((uint64_t)json_integer_value(v), a));
    printf("  %-24s %12s of %s available, context %lld\n", "in all",
           cli_bytes((uint64_t)json_integer_value(json_object_get(m, "bytes")), a),
           cli_bytes((uint64_t)json_integer_value(json_object_get(m, "available")), b),
           (long long)json_integer_value(json_object_get(m, "context")));
}

static void print_all(const json_t *o, bool tensors, bool template)
{
    const json_t *source = json_object_get(o, "template");
    const char *key, *text = json_string_value(source);
    json_t *v;
    size_t i;
    printf("%s: %s\n\nkeys:\n", json_string_value(json_object_get(o, "file")),
           json_string_value(json_object_get(o, "kind")));
    json_object_foreach(json_object_get(o, "keys"), key, v)
    {
        printf("  ");
        cli_put(stdout, key, strlen(key));
        printf(" = ");
        print_value(v);
    }
    printf("\n%zu tensors%s\n", json_array_size(json_object_get(o, "tensors")),
           tensors ? ":" : " (--tensors lists them)");
    if (tensors) json_array_foreach(json_object_get(o, "tensors"), i, v) print_tensor(v);
    if (template && text) {
        puts("\ntemplate:");
        cli_put(stdout, text, json_string_length(source));
        putchar('\n');
    } else {
        puts(text ? "\nit has a chat template (--template shows it)" : "\nno chat template");
    }
    print_memory(json_object_get(o, "memory"));
}

int verb_inspect(int argc, char **argv)
{
    bool json = false, tensors = false, template = false;
    uint32_t max_array = 8;
    arg_table t = {
        .verb = "inspect",
        .usage = "MODEL [options]",
        .min_words = 1,
        .max_words = 1,
        .about = "What a model file says: keys, tensors, chat template; and what running it would take here."};
    const arg own[] = {
        {"tensors", 0, ARG_FLAG, &tensors, NULL, "list the tensors", 0},
        {"template", 0, ARG_FLAG, &template, NULL, "show the chat template", 0},
        {"array", 0, ARG_U32, &max_array, "N", "show the first N elements of arrays (default 8)", 0},
        {"json", 0, ARG_FLAG, &json, NULL, "everything, as JSON", 0},
    };
    arg_add(&t, own, 4);
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;
    char *text = NULL;
    larder_error err = {0};
    if (larder_inspect(argv[first], max_array, &text, &err)) return cli_fail("inspect", &err);
    if (json) {
        cli_put_json(stdout, text, strlen(text));
        putchar('\n');
    } else {
        json_t *o = json_loads(text, JSON_ALLOW_NUL, NULL);
        if (o) print_all(o, tensors, template);
        else status = EXIT_FAILED;
        json_decref(o);
    }
    if (status == EXIT_FAILED) fprintf(stderr, "larder inspect: what the file says cannot be shown\n");
    larder_free(text);
    return status == EXIT_FAILED ? status : EXIT_OK;
}
