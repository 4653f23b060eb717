/* bench_print.h - what `larder bench` prints: one table of tests, and one of operators. */
#ifndef BENCH_PRINT_H
#define BENCH_PRINT_H

#include "cli.h"

typedef enum bench_form { BENCH_MARKDOWN, BENCH_CSV, BENCH_JSON } bench_form;

/* "md", "csv" or "json" into *to. */
bool bench_set_form(void *to, const char *text);
/* The model's name as tables hold it: no controls, and nothing that would end a cell. */
const char *bench_name(const larder_model_info *i, char out[128]);
void bench_print(bench_form f, const larder_model_info *i, const char *name, const larder_bench_result *r);

#endif
