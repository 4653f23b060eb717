/* header.h - a model on the hub or at an address, as its header describes it: nothing else is fetched (pull.c). */
#ifndef LR_HEADER_H
#define LR_HEADER_H

#include "file.h"
#include "larder_tools.h"

/* `name`: owner/repo, owner/repo:quant, or the address of a GGUF. Tensors have shapes, formats and sizes; their bytes are
 * zeros and may only be planned with. lr_file_close frees it. */
larder_status lr_pull_header(const char *name, const larder_pull_options *options, lr_file *out, larder_error *err);

#endif
