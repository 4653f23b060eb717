/* api_anthropic.c - /v1/messages and /v1/messages/count_tokens. */
#include "serve.h"

json_t *error_anthropic(int status, const char *message, const char *param)
{
    (void)param; /* the message names it */
    const char *type = status == 401 ? "authentication_error" : status == 403 ? "permission_error" : status == 404 ? "not_found_error"
                       : status == 413 ? "request_too_large" : status == 429 ? "rate_limit_error" : status == 503 ? "overloaded_error"
                       : status >= 500 ? "api_error" : "invalid_request_error";
    return json_pack("{s:s,s:{s:s,s:s}}", "type", "error", "error", "type", type, "message", message);
}
