/* account.h - every buffer by name and byte, before it is taken. Plans and allocations both come from one account. */
#ifndef LR_ACCOUNT_H
#define LR_ACCOUNT_H

#include "base.h"

typedef struct lr_account {
    larder_buffer items[24];
    uint32_t n;
} lr_account;

/* Adds n_bytes to the buffer of this name (a string that outlives the account), making it if needed. */
static inline void lr_account_add(lr_account *a, const char *name, uint64_t n_bytes, bool mapped)
{
    for (uint32_t i = 0; i < a->n; i++) {
        if (!strcmp(a->items[i].name, name)) {
            a->items[i].n_bytes += n_bytes;
            return;
        }
    }
    if (a->n < LR_LEN(a->items)) a->items[a->n++] = (larder_buffer){name, n_bytes, mapped};
}

static inline uint64_t lr_account_total(const lr_account *a)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < a->n; i++) sum += a->items[i].n_bytes;
    return sum;
}

#endif
