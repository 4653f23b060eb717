/* os.h - what base asks of the system: the seam between portable code and the os_*.c files.
 *
 * Only files of src/base include it.
 */
#ifndef LR_OS_H
#define LR_OS_H

#include "base.h"

#include <pthread.h>

/* What stands before /proc and /sys when memory and cpus are asked for: "" but in tests, which lay out their own. */
extern const char *lr_os_root;

/* The arm bits of lr_cpu_features; 0 on other machines. */
uint32_t lr_os_arm_features(void);
/* Binds the calling thread to one cpu; a wish, so failure is silent. */
void lr_os_pin_thread(int cpu);
/* The cpu the calling thread runs on; -1: unknown. */
int lr_os_current_cpu(void);
/* Leaves it to the system which of these cpus a thread runs on (one hardware thread of each core), of those it may use
 * already; where it may use none of them, nothing changes. */
void lr_os_keep_to_cpus(const int *cpus, int n);
/* Moves the calling thread to a cpu it may use, and leaves it as free as it was; a wish too. */
void lr_os_go_to_cpu(int cpu);
/* Hardware threads this process may use by affinity and by its group's cpu quota, whichever is less; at least 1. */
int lr_os_cpu_count(void);

/* A thread that leaves the process's signals to the others, but for those that it causes itself; as pthread_create. */
int lr_os_thread(pthread_t *id, void *(*run)(void *), void *arg);
/* Where the calling thread may run: asked, and set again. */
typedef struct lr_os_cpus {
    uint64_t bits[16];
} lr_os_cpus;
bool lr_os_get_cpus(lr_os_cpus *out);
void lr_os_set_cpus(const lr_os_cpus *cpus);

/* Whether the page of a map that holds this byte is in memory; true where it cannot be told. */
bool lr_os_in_memory(const void *p);
/* Brings the pages of these mapped bytes into memory and waits for them; false if they cannot be had. */
bool lr_os_bring_in(const void *p, size_t n);

/* Tests: what lr_topology_get says from now on; NULL: what is here. */
void lr_topology_pretend(const lr_topology *t);

/* Whether the calling thread is between lr_no_alloc(true) and (false), and how deep. The pool passes it to workers. */
int lr_no_alloc_depth(void);

/* Counts an allocation of any kind; false if a test wants it to fail. Aborts where nothing may be allocated. */
bool lr_may_alloc(size_t n);

#endif
