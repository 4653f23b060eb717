/* api_ollama.c - /api/chat and /api/generate. */
#include "serve.h"

json_t *error_ollama(int status, const char *message, const char *param)
{
    (void)status;
    (void)param; /* the message names it */
    return json_pack("{s:s}", "error", message);
}
