/* grammar_schema.h - the seam between the files of JSON Schema.
 *
 * A rule stands for a conjunction: the set of schemas that one place of the document must satisfy. References and allOf
 * add to the set; anyOf and oneOf split it; what is left, schemas without such keywords, is written down type by type.
 * Equal sets are one rule, which is what makes recursive schemas finite.
 */
#ifndef LR_GRAMMAR_SCHEMA_H
#define LR_GRAMMAR_SCHEMA_H

#include "grammar_impl.h"

#include <jansson.h>

typedef enum item_how {
    ITEM_FULL, /* not looked at yet */
    ITEM_BASE, /* its own keywords; those that bring in other schemas are in the set already */
    ITEM_ANY,  /* its anyOf is still to be chosen from */
    ITEM_ONE,  /* its oneOf */
} item_how;
typedef struct item {
    json_t *s;
    uint32_t how;
    uint32_t order; /* of s, by when it was first met: not its address, which differs from run to run */
} item;
typedef struct items {
    item *p;
    uint32_t n, cap;
} items;
typedef struct schema_job {
    const item *p;
    uint32_t n, rule;
} schema_job;
typedef struct schema {
    lr_net *n;
    json_t *root;
    json_t *made;    /* a list that owns the schemas made on the way (dependencies) */
    json_t *negated; /* by address, what schema_negate made; null: it could not */
    lr_arena arena;
    lr_json_rules rules;
    schema_job *jobs;
    uint32_t n_job, cap_job;
    uint32_t *slot, n_slot;
    struct met {
        json_t *s;
        uint32_t order;
        bool checked;
    } * met; /* open addressing */
    uint32_t n_met, cap_met;
    bool resources;      /* a schema inside has an $id: "#" is not the root everywhere */
    size_t hint;         /* where in an enum the value being checked stands, most often */
    uint32_t never;      /* a rule nothing matches; 0: not made */
    json_t *active[512]; /* references being followed */
} schema;

enum {
    TYPE_NULL = 1,
    TYPE_BOOL = 2,
    TYPE_INT = 4,
    TYPE_FRACTION = 8,
    TYPE_STRING = 16,
    TYPE_ARRAY = 32,
    TYPE_OBJECT = 64,
    TYPE_ALL = 127
};

/* Fails at a keyword of a schema: its JSON pointer is put in front. */
void schema_fail(schema *x, larder_status st, const json_t *s, const char *keyword, const char *fmt, ...)
    LR_PRINTF(5, 6);
bool items_add(schema *x, items *l, json_t *s, item_how how); /* false if it was there */
uint32_t schema_rule(schema *x, items *l);                    /* the rule of a conjunction; takes the list apart */
void items_free(items *l);
/* Follows references and allOf of every FULL item. false: nothing satisfies it. */
bool schema_expand(schema *x, const item *p, uint32_t n, items *out);
json_t *schema_find(schema *x, const json_t *s, const char *ref); /* the target of a $ref; NULL after failing */
void schema_check(schema *x, json_t *s);                          /* every keyword is known and well formed */

/* grammar_schema_value.c */
uint32_t schema_types(schema *x, const json_t *s, int depth); /* TYPE_ bits it may allow */
uint32_t schema_type_of(const json_t *value);
bool schema_valid(schema *x, json_t *s, const json_t *value, int depth);
bool schema_apart(schema *x, json_t *a, json_t *b, uint32_t types, int depth); /* no value satisfies both, surely */
bool schema_same(const json_t *a, const json_t *b);                            /* 1 and 1.0 are the same */
void schema_put_value(schema *x, uint32_t from, const json_t *value, uint32_t to);
bool schema_decimal(double v, const json_t *j, char out[400]); /* plain digits, shortest; false: not finite */

/* grammar_schema_not.c: a schema that holds only where s does not; NULL if there is none that can be enforced. */
json_t *schema_negate(schema *x, json_t *s);

/* grammar_schema_type.c: the alternatives of each type, from start to end. */
void schema_put_types(schema *x, const items *base, uint32_t start, uint32_t end);

#endif
