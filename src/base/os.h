/* os.h - what base asks of the system: the seam between portable code and the os_*.c files.
 *
 * Only files of src/base include it.
 */
#ifndef LR_OS_H
#define LR_OS_H

#include "base.h"

/* What stands before /proc and /sys when memory and cpus are asked for: "" but in tests, which lay out their own. */
extern const char *lr_os_root;

/* The arm bits of lr_cpu_features; 0 on other machines. */
uint32_t lr_os_arm_features(void);
/* Binds the calling thread to one cpu; a wish, so failure is silent. */
void lr_os_pin_thread(int cpu);
/* The cpu the calling thread runs on; -1: unknown. */
int lr_os_current_cpu(void);
/* Leaves it to the system which of these cpus a thread runs on (one hardware thread of each core). */
void lr_os_keep_to_cpus(const int *cpus, int n);
/* Moves the calling thread to a cpu it may use, and leaves it as free as it was; a wish too. */
void lr_os_go_to_cpu(int cpu);
/* Hardware threads this process may use by affinity and by its group's cpu quota, whichever is less; at least 1. */
int lr_os_cpu_count(void);

/* Whether the calling thread is between lr_no_alloc(true) and (false), and how deep. The pool passes it to workers. */
int lr_no_alloc_depth(void);

/* Counts an allocation of any kind; false if a test wants it to fail. Aborts where nothing may be allocated. */
bool lr_may_alloc(size_t n);

#endif
