/* store_job.c - the model store as larder_tools.h shows it. */
#include "larder_tools.h"
#include "store.h"

#include <stdio.h>

larder_status larder_store_path(const char *name, char *out, size_t cap, larder_error *err)
{
    return lr_store_resolve(name, out, cap, err);
}

larder_status larder_store_folder(char *out, size_t cap, larder_error *err) { return lr_store_root(out, cap, err); }

larder_status larder_store_list(larder_stored **out, size_t *n, larder_error *err)
{
    lr_store_entry *list;
    *out = NULL;
    LR_TRY(lr_store_list(&list, n, err));
    *out = lr_calloc(*n + 1, sizeof **out);
    for (size_t i = 0; *out && i < *n; i++) {
        larder_stored *s = &(*out)[i];
        snprintf(s->name, sizeof s->name, "%s/%s:%s", list[i].name.owner, list[i].name.repo, list[i].name.quant);
        s->n_bytes = list[i].n_bytes;
        s->changed = list[i].changed;
    }
    lr_free(list);
    return *out ? LARDER_OK : LR_NOMEM(err, "the list of models");
}

larder_status larder_store_remove(const char *name, larder_error *err) { return lr_store_remove(name, err); }
