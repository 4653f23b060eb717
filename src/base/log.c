/* log.c - notes on their way to the program that embeds us.
 *
 * Owns: the callback and its lock. Refuses to own: any output of its own; without a callback notes are dropped.
 */
#include "base.h"

#include <pthread.h>
#include <stdio.h>

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static larder_log_fn *log_fn;
static void *log_user;

void larder_set_log(larder_log_fn *fn, void *user)
{
    pthread_mutex_lock(&log_lock);
    log_fn = fn;
    log_user = user;
    pthread_mutex_unlock(&log_lock);
}

void lr_log(larder_log_level level, const char *fmt, ...)
{
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    pthread_mutex_lock(&log_lock);
    if (log_fn) log_fn(log_user, level, line);
    pthread_mutex_unlock(&log_lock);
}
