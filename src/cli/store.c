/* store.c - `larder list`, `larder rm`: the models in the store. (`pull` is in pull.c.) */
#include "cli.h"

#include <jansson.h>
#include <time.h>

int verb_list(int argc, char **argv)
{
    bool json = false;
    arg_table t = {
        .verb = "list", .usage = "[options]", .about = "The models in the store, by the names every verb accepts."};
    const arg own[] = {{"json", 0, ARG_FLAG, &json, NULL, "as JSON", 0}};
    arg_add(&t, own, 1);
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;
    larder_error err = {0};
    larder_stored *list;
    size_t n;
    if (larder_store_list(&list, &n, &err)) return cli_fail("list", &err);
    json_t *out = json_array();
    for (size_t i = 0; i < n; i++) {
        char size[24], date[32];
        time_t changed = (time_t)list[i].changed;
        strftime(date, sizeof date, "%Y-%m-%d %H:%M", localtime(&changed));
        if (!json) printf("%-56s %10s  %s\n", list[i].name, cli_bytes(list[i].n_bytes, size), date);
        else
            json_array_append_new(out,
                                  json_pack("{s:s,s:I,s:I}", "name", list[i].name, "bytes",
                                            (json_int_t)list[i].n_bytes, "changed", (json_int_t)list[i].changed));
    }
    larder_free(list);
    if (json) return cli_json("list", out);
    json_decref(out);
    if (!n) puts("The store is empty. larder pull owner/repo:quant fills it.");
    return EXIT_OK;
}

int verb_rm(int argc, char **argv)
{
    bool json = false;
    arg_table t = {.verb = "rm",
                   .usage = "NAME ...",
                   .min_words = 1,
                   .max_words = -1,
                   .about = "Removes models from the store. Files outside it are never touched."};
    const arg own[] = {{"json", 0, ARG_FLAG, &json, NULL, "what was removed, as JSON", 0}};
    arg_add(&t, own, 1);
    int first, status = arg_parse(&t, argc, argv, &first);
    if (status >= 0) return status;
    status = EXIT_OK;
    json_t *removed = json_array();
    for (int i = first; i < argc; i++) {
        larder_error err = {0};
        if (larder_store_remove(argv[i], &err)) status = cli_fail("rm", &err);
        else if (json) json_array_append_new(removed, json_string(argv[i]));
        else printf("removed %s\n", argv[i]);
    }
    if (!json) json_decref(removed);
    else if (cli_json("rm", removed)) status = EXIT_FAILED;
    return status;
}
