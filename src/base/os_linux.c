/* os_linux.c - what Linux says about memory, cpus and this process: /proc, control groups, affinity.
 *
 * Owns: parsing those files, without allocating of its own. The same calls for macOS are in os_macos.c.
 */
#ifdef __linux__
#include "base.h"
#include "os.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <unistd.h>

const char *lr_os_root = "";

#define PATH_CAP 4200

/* Reads the beginning of a small system file; false if it is not there. */
static bool read_small(const char *path, char *out, size_t cap)
{
    char full[PATH_CAP + 256];
    if ((size_t)snprintf(full, sizeof full, "%s%s", lr_os_root, path) >= sizeof full) return false;
    int fd = open(full, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    size_t n = 0;
    for (ssize_t r; n < cap - 1 && (r = read(fd, out + n, cap - 1 - n)) > 0;) n += (size_t)r;
    close(fd);
    out[n] = 0;
    return n > 0;
}

/* The number after `key` at the beginning of a line; 0 if there is none. */
static uint64_t field(const char *text, const char *key)
{
    size_t n = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, key, n)) return strtoull(line + n, NULL, 10);
        if (!*line) break;
    }
    return 0;
}

static uint64_t proc_kib(const char *path, const char *key)
{
    char text[8192];
    return read_small(path, text, sizeof text) ? field(text, key) * 1024 : 0;
}

uint64_t lr_rss_peak(void) { return proc_kib("/proc/self/status", "VmHWM:"); }
uint64_t lr_rss_now(void) { return proc_kib("/proc/self/status", "VmRSS:"); }
uint64_t lr_rss_anon(void) { return proc_kib("/proc/self/status", "RssAnon:"); }

/* /proc/self/pagemap holds 8 bytes a page; bit 63: it is in memory, and mapped here. */
uint64_t lr_resident(const void *p, size_t n)
{
    uint64_t entry[512], found = 0;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)p / page,
           last = ((uintptr_t)p + n + page - 1) / page;
    int fd = n ? open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return 0;
    while (first < last) {
        size_t want = LR_MIN(last - first, LR_LEN(entry));
        ssize_t got = pread(fd, entry, want * 8, (off_t)(first * 8));
        if (got < 8) break;
        for (size_t i = 0; i < (size_t)got / 8; i++) found += entry[i] >> 63;
        first += (size_t)got / 8;
    }
    close(fd);
    return LR_MIN(found * page, (uint64_t)n);
}

/* ---------------------------------------------------------------- control groups */
typedef struct group_files {
    const char *mount; /* where the hierarchy of this version is mounted */
    const char *limit, *usage;
    bool v2;
} group_files;
static const group_files memory_v1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                                      false};
static const group_files memory_v2 = {"/sys/fs/cgroup", "memory.max", "memory.current", true};

/* This process's group path in the v2 hierarchy, or in v1's for a controller. "/" when it cannot be told. */
static void group_path(const char *controller, char *out, size_t cap)
{
    char text[8192];
    snprintf(out, cap, "/");
    if (!read_small("/proc/self/cgroup", text, sizeof text)) return;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
        if (!path) continue;
        *path++ = 0;
        names++;
        bool match = controller ? strstr(names, controller) != NULL : !*names;
        if (match && *path == '/' && !strstr(path, "..")) snprintf(out, cap, "%s", path);
    }
}

static bool group_text(const char *mount, const char *path, const char *file, char *out, size_t cap)
{
    char full[PATH_CAP + 128];
    snprintf(full, sizeof full, "%s%s/%s", mount, path, file);
    return read_small(full, out, cap);
}

/* Cuts the last part of a group path; false at the root. */
static bool go_up(char *path)
{
    char *slash = strrchr(path, '/');
    if (!slash || !path[1]) return false;
    slash[slash == path] = 0;
    return true;
}

/* Lowers *total and *available to what each group above this process leaves it. File pages can be reclaimed. */
static void apply_groups(const group_files *g, uint64_t *total, uint64_t *available)
{
    char path[PATH_CAP], text[8192];
    uint64_t lowest = *total;
    group_path(g->v2 ? NULL : "memory", path, sizeof path);
    do {
        if (!group_text(g->mount, path, g->limit, text, sizeof text) || !strncmp(text, "max", 3)) continue;
        uint64_t limit = strtoull(text, NULL, 10);
        if (!limit || limit >= *total) continue; /* "unlimited" is a number too */
        lowest = LR_MIN(lowest, limit);
        if (!group_text(g->mount, path, g->usage, text, sizeof text)) continue;
        uint64_t used = strtoull(text, NULL, 10), cached = 0;
        if (group_text(g->mount, path, "memory.stat", text, sizeof text))
            cached = g->v2 ? field(text, "inactive_file ") + field(text, "active_file ")
                           : field(text, "total_inactive_file ") + field(text, "total_active_file ");
        used -= LR_MIN(used, cached);
        *available = LR_MIN(*available, limit - LR_MIN(limit, used));
    } while (go_up(path));
    *total = lowest;
}

static void memory(uint64_t *total, uint64_t *available)
{
    char text[8192];
    *total = *available = 0;
    if (!read_small("/proc/meminfo", text, sizeof text)) return;
    *total = field(text, "MemTotal:") * 1024;
    *available = field(text, "MemAvailable:") * 1024;
    apply_groups(&memory_v2, total, available);
    apply_groups(&memory_v1, total, available);
}

uint64_t lr_mem_total(void)
{
    uint64_t total, available;
    memory(&total, &available);
    return total;
}

uint64_t lr_mem_available(void)
{
    uint64_t total, available;
    memory(&total, &available);
    return available;
}

/* ---------------------------------------------------------------- cpus */
/* Cpus' worth of time the groups above grant, rounded up; INT32_MAX when there is no limit. */
static int cpu_quota(void)
{
    char path[PATH_CAP], text[256];
    long best = INT32_MAX, quota, period;
    group_path(NULL, path, sizeof path);
    do {
        if (group_text("/sys/fs/cgroup", path, "cpu.max", text, sizeof text) &&
            sscanf(text, "%ld %ld", &quota, &period) == 2 && quota > 0 && period > 0)
            best = LR_MIN(best, (quota + period - 1) / period);
    } while (go_up(path));
    group_path("cpu", path, sizeof path);
    do {
        if (group_text("/sys/fs/cgroup/cpu", path, "cpu.cfs_quota_us", text, sizeof text) &&
            (quota = strtol(text, NULL, 10)) > 0 &&
            group_text("/sys/fs/cgroup/cpu", path, "cpu.cfs_period_us", text, sizeof text) &&
            (period = strtol(text, NULL, 10)) > 0)
            best = LR_MIN(best, (quota + period - 1) / period);
    } while (go_up(path));
    return (int)best;
}

/* The number a file of a PCI device holds; 0: it is not there. */
static unsigned long pci_number(const char *device, const char *file)
{
    char path[PATH_CAP], text[64];
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%.200s/%s", device, file);
    return read_small(path, text, sizeof text) ? strtoul(text, NULL, 16) : 0;
}

bool lr_has_display(unsigned vendor)
{
    char folder[PATH_CAP];
    bool found = false;
    snprintf(folder, sizeof folder, "%.4000s/sys/bus/pci/devices", lr_os_root);
    DIR *d = opendir(folder);
    for (struct dirent *e; d && !found && (e = readdir(d));)
        found = e->d_name[0] != '.' && pci_number(e->d_name, "vendor") == vendor &&
                pci_number(e->d_name, "class") >> 16 == 0x03;
    if (d) closedir(d);
    return found;
}

int lr_os_cpu_count(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) ? (int)sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT(&set);
    n = LR_MIN(n, cpu_quota());
    return LR_MAX(n, 1);
}

void lr_os_pin_thread(int cpu)
{
    if (cpu < 0 || cpu >= CPU_SETSIZE) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

void lr_os_keep_to_cpus(const int *cpus, int n)
{
    cpu_set_t set, may;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof may, &may)) return;
    for (int i = 0; i < n; i++)
        if (cpus[i] >= 0 && cpus[i] < CPU_SETSIZE && CPU_ISSET(cpus[i], &may)) CPU_SET(cpus[i], &set);
    if (CPU_COUNT(&set)) sched_setaffinity(0, sizeof set, &set);
}

int lr_os_current_cpu(void) { return sched_getcpu(); }

bool lr_os_get_cpus(lr_os_cpus *out)
{
    cpu_set_t set;
    _Static_assert(sizeof set == sizeof *out, "as many cpus");
    if (sched_getaffinity(0, sizeof set, &set)) return false;
    memcpy(out, &set, sizeof *out);
    return true;
}

void lr_os_set_cpus(const lr_os_cpus *cpus)
{
    sched_setaffinity(0, sizeof *cpus, (const cpu_set_t *)(const void *)cpus);
}

void lr_os_go_to_cpu(int cpu)
{
    cpu_set_t old;
    if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof old, &old) || !CPU_ISSET(cpu, &old)) return;
    lr_os_pin_thread(cpu);
    sched_setaffinity(0, sizeof old, &old);
}

/* Bit numbers of the kernel's user interface (asm/hwcap.h), which other machines' headers lack. */
uint32_t lr_os_arm_features(void)
{
    uint32_t f = 0;
#ifdef __aarch64__
    unsigned long cap = getauxval(AT_HWCAP), cap2 = getauxval(AT_HWCAP2);
    /* asimd, crc32, atomics, asimdrdm: what a compiler may use that is told of armv8.2-a, as for the NEON kernels */
    const unsigned long v8_2 = 1ul << 1 | 1ul << 7 | 1ul << 8 | 1ul << 12;
    if ((cap & v8_2) == v8_2) f |= LR_CPU_NEON;
    if (cap >> 20 & 1) f |= LR_CPU_DOTPROD;
    if (cap2 >> 13 & 1) f |= LR_CPU_I8MM;
    if (cap2 >> 14 & 1) f |= LR_CPU_NEONBF16;
#endif
    return f;
}
#endif
