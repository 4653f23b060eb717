/* shape_model.h - random weights of a shape given by its numbers, for what measures kernels (kernels.c). */
#ifndef LR_SHAPE_MODEL_H
#define LR_SHAPE_MODEL_H

#include "larder_tools.h"
#include "shape.h"

/* Takes the file of a shape, gives its tensors weights, and makes a model of it. The file is closed if that fails. */
larder_status lr_shape_model(lr_file *f, uint64_t memory, larder_model **out, larder_progress_fn *progress,
                             void *user, larder_error *err);

#endif
