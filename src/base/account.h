/* account.h - every buffer by name and byte, before it is taken. Plans and allocations both come from one account. */
#ifndef LR_ACCOUNT_H
#define LR_ACCOUNT_H

#include "base.h"

typedef struct lr_account {
    larder_buffer items[24];
    uint32_t n;
} lr_account;

/* Adds n_bytes to the buffer of this name (a string that outlives the account) in this memory, making it if needed. */
static inline void lr_account_put(lr_account *a, larder_buffer b)
{
    for (uint32_t i = 0; i < a->n; i++) {
        if (a->items[i].card == b.card && !strcmp(a->items[i].name, b.name)) {
            a->items[i].n_bytes += b.n_bytes;
            return;
        }
    }
    if (a->n < LR_LEN(a->items)) a->items[a->n++] = b;
}

static inline void lr_account_add(lr_account *a, const char *name, uint64_t n_bytes, bool mapped)
{
    lr_account_put(a, (larder_buffer){.name = name, .n_bytes = n_bytes, .mapped = mapped});
}

/* The same in the card's memory. */
static inline void lr_account_add_card(lr_account *a, const char *name, uint64_t n_bytes)
{
    lr_account_put(a, (larder_buffer){.name = name, .n_bytes = n_bytes, .card = true});
}

static inline uint64_t lr_account_total(const lr_account *a)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < a->n; i++) sum += a->items[i].n_bytes;
    return sum;
}

/* Of it, what is in the card's memory. */
static inline uint64_t lr_account_card(const lr_account *a)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < a->n; i++)
        if (a->items[i].card) sum += a->items[i].n_bytes;
    return sum;
}

#endif
