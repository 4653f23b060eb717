/* confine.c - what the process gives up once it serves: files (Landlock), programs and sockets (seccomp).
 *
 * Files go before the engine's threads are made, since Landlock holds for a thread and those it makes. What is mapped
 * or open stays; /proc, /sys and the folders of models that may be loaded later may be read. Calls go last, for all threads at once.
 *
 * The driver of a card has begun by then, for it begins with files and names of threads that nobody else needs; later it
 * opens its devices again, which it may. Its threads are older than what is given up here: a kernel that can (Landlock's eighth
 * version) has them give it up too, and the log says which it was.
 */
#include "serve.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <unistd.h>

#ifdef __linux__
#include <linux/landlock.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define READ_FILE LANDLOCK_ACCESS_FS_READ_FILE
#define READ (READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define EVERYTHING \
    ((uint64_t)(LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1) /* of the first version, which all kernels with it have */

#ifndef LANDLOCK_RESTRICT_SELF_TSYNC
#define LANDLOCK_RESTRICT_SELF_TSYNC (1u << 3) /* for all threads, not only this one */
#endif
#define OF_ALL_THREADS 8 /* from this version on */

static void allow(int rules, const char *path, uint64_t what)
{
    struct landlock_path_beneath_attr a = {.allowed_access = what};
    a.parent_fd = open(path, O_PATH | O_CLOEXEC);
    if (a.parent_fd < 0) return;
    syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &a, 0);
    close(a.parent_fd);
}

/* The devices that a card's driver opens again and again. */
static void allow_card(int rules)
{
    static const char *const devices[] = {"/dev/nvidiactl", "/dev/nvidia[0-9]*", "/dev/nvidia-uvm*"};
    for (size_t k = 0; k < LR_LEN(devices); k++) {
        glob_t g;
        if (glob(devices[k], 0, NULL, &g)) continue;
        for (size_t i = 0; i < g.gl_pathc; i++)
            allow(rules, g.gl_pathv[i], READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE);
        globfree(&g);
    }
}

/* *all: threads that there are already, too. */
static bool restrict_self(int rules, long abi, bool *all)
{
    *all = abi >= OF_ALL_THREADS && !syscall(SYS_landlock_restrict_self, rules, LANDLOCK_RESTRICT_SELF_TSYNC);
    return *all || !syscall(SYS_landlock_restrict_self, rules, 0);
}

void confine_files(const server *s)
{
    static const char *const readable[] = {"/proc", "/sys"};
    struct landlock_ruleset_attr all = {.handled_access_fs = EVERYTHING};
    if (s->o.no_confine) return;
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    int rules = abi < 1 ? -1 : (int)syscall(SYS_landlock_create_ruleset, &all, sizeof all, 0);
    int why = errno;
    bool done = false, all_threads = false, card = strcmp(s->device, "cpu") != 0;
    if (rules >= 0) {
        if (card) allow_card(rules);
        allow(rules, "/dev/urandom", READ_FILE); /* no folder: a rule with more is refused */
        for (size_t i = 0; i < LR_LEN(readable); i++) allow(rules, readable[i], READ);
        for (uint32_t i = 0; i < s->o.n_folders; i++) allow(rules, s->o.folders[i], READ);
        done = !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && restrict_self(rules, abi, &all_threads);
        why = errno;
        close(rules);
    }
    if (done)
        log_line(LARDER_LOG_INFO, "{\"event\":\"confined\",\"files\":\"landlock\",\"abi\":%ld%s}", abi,
                 card && !all_threads ? ",\"but\":\"threads of the card's driver\"" : "");
    else
        log_line(LARDER_LOG_WARN, "{\"event\":\"not confined\",\"files\":\"this kernel has no Landlock: %s\"}",
                 strerror(why));
}

void confine_calls(const server *s)
{
    static const char *const denied[] = {
        "execve",
        "execveat",
        "socket",
        "socketpair",
        "connect",
        "bind",
        "listen",
        "io_uring_setup",
        "process_vm_readv",
        "process_vm_writev",
        "bpf",
        "userfaultfd",
        "perf_event_open",
        "keyctl",
        "add_key",
        "request_key",
        "mount",
        "umount2",
        "pivot_root",
        "chroot",
        "setns",
        "unshare",
        "init_module",
        "finit_module",
        "kexec_load",
        "open_by_handle_at",
        "fork",
        "vfork",
        "mknod",
        "mknodat",
        "link",
        "linkat",
        "symlink",
        "symlinkat",
        "truncate",
#ifndef __SANITIZE_ADDRESS__ /* its leak check at the end looks on from a process of its own */
        "ptrace",
#endif
    };
    if (s->o.no_confine) return;
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
    int bad = f ? seccomp_attr_set(f, SCMP_FLTATR_CTL_TSYNC, 1) : -ENOMEM;
    for (size_t i = 0; !bad && i < LR_LEN(denied); i++) {
        int nr = seccomp_syscall_resolve_name(denied[i]);
        if (nr != __NR_SCMP_ERROR) bad = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), nr, 0);
    }
    if (!bad) bad = seccomp_load(f);
    if (f) seccomp_release(f);
    if (!bad)
        log_line(LARDER_LOG_INFO, "{\"event\":\"confined\",\"calls\":\"seccomp: no programs, no new sockets\"}");
    else log_line(LARDER_LOG_WARN, "{\"event\":\"not confined\",\"calls\":\"%s\"}", strerror(-bad));
}

/* It may read what it likes (certificates, how names are looked up) and speak to hubs: that is its work. */
void larder_serve_confine_helper(const char *folder)
{
    struct landlock_ruleset_attr written = {.handled_access_fs = EVERYTHING & ~(uint64_t)READ};
    int rules = (int)syscall(SYS_landlock_create_ruleset, &written, sizeof written, 0);
    bool done = false;
    if (rules >= 0) {
        allow(rules, folder, EVERYTHING & ~(uint64_t)(READ | LANDLOCK_ACCESS_FS_EXECUTE));
        done = !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !syscall(SYS_landlock_restrict_self, rules, 0);
        close(rules);
    }
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
    bool calls = f && !seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(execve), 0) &&
                 !seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(execveat), 0) &&
                 !seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ptrace), 0) && !seccomp_load(f);
    if (f) seccomp_release(f);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    log_line(done && calls ? LARDER_LOG_INFO : LARDER_LOG_WARN, "{\"event\":\"helper %s\",\"for\":\"pull\"}",
             done && calls ? "confined" : "not confined");
}
#else
void confine_files(const server *s)
{
    if (!s->o.no_confine)
        log_line(LARDER_LOG_WARN, "{\"event\":\"not confined\",\"files\":\"this system has no Landlock\"}");
}

void confine_calls(const server *s) { (void)s; }

void larder_serve_confine_helper(const char *folder) { (void)folder; }
#endif
