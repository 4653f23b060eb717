/* os_macos.c - what macOS says about memory, cpus and this process: sysctl and Mach. The twin of os_linux.c. */
#ifdef __APPLE__
#include "base.h"
#include "os.h"

#include <mach/mach.h>
#include <sys/resource.h>
#include <sys/sysctl.h>
#include <unistd.h>

static uint64_t sysctl_u64(const char *name)
{
    uint64_t v = 0;
    size_t n = sizeof v;
    return sysctlbyname(name, &v, &n, NULL, 0) ? 0 : v;
}

uint64_t lr_rss_peak(void)
{
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) ? 0 : (uint64_t)u.ru_maxrss; /* bytes here, unlike on Linux */
}

static bool task_vm(task_vm_info_data_t *vm)
{
    mach_msg_type_number_t n = TASK_VM_INFO_COUNT;
    return task_info(mach_task_self(), TASK_VM_INFO, (task_info_t)vm, &n) == KERN_SUCCESS;
}

uint64_t lr_rss_now(void)
{
    task_vm_info_data_t vm;
    return task_vm(&vm) ? vm.resident_size : 0;
}

uint64_t lr_rss_anon(void)
{
    task_vm_info_data_t vm;
    return task_vm(&vm) ? vm.internal : 0;
}

uint64_t lr_resident(const void *p, size_t n)
{
    char in[512];
    size_t page = (size_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)p / page,
           last = ((uintptr_t)p + n + page - 1) / page;
    uint64_t found = 0;
    for (; n && first < last; first += LR_MIN(last - first, sizeof in)) {
        size_t want = LR_MIN(last - first, sizeof in);
        if (mincore((void *)(first * page), want * page, in)) break;
        for (size_t i = 0; i < want; i++) found += (in[i] & MINCORE_INCORE) != 0;
    }
    return LR_MIN(found * page, (uint64_t)n);
}

uint64_t lr_mem_total(void) { return sysctl_u64("hw.memsize"); }

uint64_t lr_mem_available(void)
{
    vm_statistics64_data_t s;
    mach_msg_type_number_t n = HOST_VM_INFO64_COUNT;
    if (host_statistics64(mach_host_self(), HOST_VM_INFO64, (host_info64_t)&s, &n) != KERN_SUCCESS) return 0;
    uint64_t pages = (uint64_t)s.free_count + s.inactive_count + s.purgeable_count;
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

int lr_os_cpu_count(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

bool lr_has_display(unsigned vendor) { return (void)vendor, false; }
void lr_os_pin_thread(int cpu) { (void)cpu; /* macOS has no such call */ }
void lr_os_keep_to_cpus(const int *cpus, int n) { (void)cpus, (void)n; }
int lr_os_current_cpu(void) { return -1; }
bool lr_os_get_cpus(lr_os_cpus *out) { return memset(out, 0, sizeof *out), false; }
void lr_os_set_cpus(const lr_os_cpus *cpus) { (void)cpus; }
void lr_os_go_to_cpu(int cpu) { (void)cpu; }

uint32_t lr_os_arm_features(void)
{
    uint32_t f = 0;
#ifdef __aarch64__
    f |= LR_CPU_NEON;
    if (sysctl_u64("hw.optional.arm.FEAT_DotProd")) f |= LR_CPU_DOTPROD;
    if (sysctl_u64("hw.optional.arm.FEAT_I8MM")) f |= LR_CPU_I8MM;
    if (sysctl_u64("hw.optional.arm.FEAT_BF16")) f |= LR_CPU_NEONBF16;
#endif
    return f;
}
#endif
