/* jinja_filter.h - what jinja_filter.c and jinja_seq.c share. */
#ifndef LR_JINJA_FILTER_H
#define LR_JINJA_FILTER_H

#include "jinja.h"

typedef struct jfilter {
    const char *name;
    jv (*fn)(jx *x, jv v, const jargs *a);
} jfilter;
extern const jfilter lr_jseq_filters[];
extern const size_t lr_jseq_n_filters;

jv lr_jarg_or(const jargs *a, size_t i, const char *name, jv other);
bool lr_jarg_flag(jx *x, const jargs *a, size_t i, const char *name);

#endif
