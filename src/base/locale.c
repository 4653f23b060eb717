/* locale.c - numbers as text with a decimal point, whatever locale the program around us chose. */
#include "base.h"

#include <locale.h>
#include <stdatomic.h>
#include <stdlib.h>
#ifdef __APPLE__
#include <xlocale.h>
#endif

/* Made once and kept. NULL if there is no memory for it: then the program's locale stays. */
static locale_t point_locale(void)
{
    static _Atomic(locale_t) made;
    locale_t l = atomic_load(&made), none = (locale_t)0;
    if (l != none) return l;
    l = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
    if (l == none || atomic_compare_exchange_strong(&made, &none, l)) return l;
    freelocale(l);
    return none;
}

void *lr_point_enter(void)
{
    locale_t l = point_locale();
    return l ? uselocale(l) : NULL;
}

void lr_point_leave(void *from_enter)
{
    if (from_enter) uselocale((locale_t)from_enter);
}

double lr_strtod(const char *text, char **end)
{
    void *was = lr_point_enter();
    double v = strtod(text, end);
    lr_point_leave(was);
    return v;
}
