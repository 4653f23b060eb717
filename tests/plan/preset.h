/* preset.h - a model of the catalogue, opened for a test. */
#ifndef LR_TEST_PRESET_H
#define LR_TEST_PRESET_H

#include "report.h"
#include "test.h"

static void open_model(lr_catalogue *c, const char *name, const char *format, lr_plan_model *m)
{
    larder_error err = {0};
    lr_quant_name q;
    CHECK_OK(lr_catalogue_open(c, &err));
    CHECK(lr_quant_find(format, &q));
    const lr_preset *p = lr_preset_find(c, name);
    CHECK(p);
    CHECK_OK(lr_plan_model_preset(p, &q, m, &err));
}

#endif
