/* plan_ask.h - the questions of `larder plan` alone. */
#ifndef LR_PLAN_ASK_H
#define LR_PLAN_ASK_H

#include "cli.h"

#include <limits.h>

typedef struct plan_answers {
    char job[64], model[PATH_MAX + 32];
} plan_answers;
/* A number in digits, with k for thousands behind it: what options and answers are read with. */
bool cli_plan_number(const char *text, double *out);
/* Asks in turn; what ends or is empty takes the default. false: there is nobody to ask. */
bool cli_plan_ask(larder_plan_ask *ask, plan_answers *a);
/* The command that gives the same answer again. */
void cli_plan_repeat(const larder_plan_ask *ask);

#endif
