/* Mapped files that shrink, whole files, folders, and what the system says of itself. */
#include "base.h"
#include "os.h"
#include "test.h"

#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static larder_error err;
static char dir[64];

static const char *in_dir(const char *name)
{
    static char path[128];
    if (!*dir) {
        snprintf(dir, sizeof dir, "/tmp/larder-test-XXXXXX");
        CHECK(mkdtemp(dir));
    }
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void clean_up(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    if (*dir && system(command)) fprintf(stderr, "%s is left\n", dir);
}

/* A file of n bytes 'x', mapped. */
static lr_map map_of(size_t n)
{
    atexit(clean_up);
    char *p = lr_alloc(n + 1);
    memset(p, 'x', n);
    const char *path = in_dir("f");
    CHECK_OK(lr_write_file(path, p, n, &err));
    lr_free(p);
    lr_map m;
    CHECK_OK(lr_map_open(path, &m, &err));
    CHECK_EQ_U64(m.n, n);
    return m;
}

TEST(a_shrunk_file_reads_as_zeros_and_is_damaged)
{
    lr_map m = map_of(40000), other = map_of(20000);
    CHECK(!lr_map_damaged(&m));
    CHECK(!truncate(in_dir("f"), 100)); /* `other`'s file: the name was replaced, `m` keeps the old one */
    CHECK(other.p[0] == 'x' && other.p[19999] == 0 && other.p[8192] == 0);
    CHECK(lr_map_damaged(&other) && !lr_map_damaged(&m));
    CHECK(m.p[39999] == 'x');
    lr_map_close(&m);
    lr_map_close(&other);
    lr_map_close(&other);
}

TEST(pages_are_taken_as_zeros)
{
    size_t n = 3 * LR_MIB;
    uint8_t *p = lr_pages_alloc(n);
    CHECK(p);
    lr_pages_take(p + 100, n - 200); /* the pages that hold any of it */
    for (size_t i = 0; i < n; i += 4096) CHECK_EQ_INT(p[i], 0);
#ifdef __linux__
    CHECK_EQ_U64(lr_resident(p, n), n);
#endif
    lr_pages_free(p, n);
}

TEST(bytes_of_a_map_come_from_its_file)
{
    lr_map m = map_of(40000);
    char out[64] = "";
    CHECK(lr_map_read(m.p + 30000, 64, out) && out[0] == 'x' && out[63] == 'x');
#ifdef __linux__
    CHECK_EQ_U64(lr_resident(m.p + 28672, 4096), 0);
#endif
    CHECK(!lr_map_read(out, 1, out)); /* in no map */
    CHECK(!lr_map_damaged(&m));
    CHECK(!truncate(in_dir("f"), 30010));
    CHECK(lr_map_read(m.p + 30000, 64, out) && out[9] == 'x' && out[10] == 0 && out[63] == 0);
    CHECK(lr_map_damaged(&m));
    lr_map_close(&m);
}

TEST(a_file_shrunk_within_its_last_page_is_damaged)
{
    lr_map m = map_of(4000);
    CHECK(!truncate(in_dir("f"), 3999));
    CHECK_EQ_INT(m.p[3999], 0);
    CHECK(lr_map_damaged(&m));
    lr_map_close(&m);
}

static void *sum_all(void *arg)
{
    const lr_map *m = arg;
    uint64_t sum = 0;
    for (size_t i = 0; i < m->n; i++) sum += ((const volatile uint8_t *)m->p)[i];
    return (void *)(uintptr_t)sum;
}

TEST(many_threads_meet_the_missing_pages_at_once)
{
#ifdef __SANITIZE_THREAD__
    SKIP("ThreadSanitizer takes the guard's mmap for a write");
#endif
    for (int round = 0; round < 20; round++) {
        lr_map m = map_of(1 << 18);
        pthread_t id[4];
        CHECK(!truncate(in_dir("f"), 4096));
        for (size_t i = 0; i < LR_LEN(id); i++) CHECK(!pthread_create(&id[i], NULL, sum_all, &m));
        for (size_t i = 0; i < LR_LEN(id); i++) {
            void *sum;
            pthread_join(id[i], &sum);
            CHECK_EQ_U64((uintptr_t)sum, (uint64_t)4096 * 'x');
        }
        CHECK(lr_map_damaged(&m));
        lr_map_close(&m);
    }
}

static volatile sig_atomic_t n_chained;
static void *foreign;
static void foreign_handler(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    n_chained += info->si_addr == foreign;
    mmap(foreign, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

/* A map that is not ours, whose file is empty. */
static volatile char *foreign_map(void)
{
    int fd = open(in_dir("foreign"), O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0);
    foreign = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(foreign != MAP_FAILED);
    close(fd);
    return foreign;
}

TEST(a_fault_elsewhere_goes_to_the_handler_before_us)
{
    struct sigaction sa = {.sa_sigaction = foreign_handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &sa, NULL);
    lr_map m = map_of(10);
    CHECK_EQ_INT(*foreign_map(), 0);
    CHECK_EQ_INT(n_chained, 1);
    lr_map_close(&m);
}

TEST(a_fault_elsewhere_still_ends_the_process)
{
    pid_t pid = fork();
    if (!pid) {
        signal(SIGBUS, SIG_DFL);
        lr_map m = map_of(10);
        volatile char *p = foreign_map();
        _exit(m.p[0] == 'x' ? *p : 1);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

TEST(what_is_not_a_regular_file_is_refused)
{
    lr_map m;
    atexit(clean_up);
    CHECK_STATUS(lr_map_open(in_dir("none"), &m, &err), LARDER_NOT_FOUND);
    CHECK_STATUS(lr_map_open("/", &m, &err), LARDER_FORMAT);
    CHECK_STATUS(lr_map_open("/dev/zero", &m, &err), LARDER_FORMAT);
    CHECK(!mkfifo(in_dir("pipe"), 0600));
    CHECK_STATUS(lr_map_open(in_dir("pipe"), &m, &err), LARDER_FORMAT); /* and does not wait for a writer */
    CHECK_STATUS(lr_write_file("/dev/null", "x", 1, &err), LARDER_USAGE);
    char *text;
    CHECK_STATUS(lr_read_file("/", 10, &text, NULL, &err), LARDER_FORMAT);
}

TEST(an_empty_file_maps)
{
    lr_map m = map_of(0);
    CHECK(m.p && !m.n && !lr_map_damaged(&m));
    lr_map_close(&m);
}

TEST(files_are_written_whole_and_read_within_limits)
{
    atexit(clean_up);
    char path[128], *text;
    size_t n;
    snprintf(path, sizeof path, "%s", in_dir("w"));
    CHECK_OK(lr_write_file(path, "first", 5, &err));
    CHECK_OK(lr_write_file(path, "second", 6, &err));
    CHECK_OK(lr_read_file(path, 6, &text, &n, &err));
    CHECK_EQ_STR(text, "second");
    CHECK_EQ_INT(n, 6);
    lr_free(text);
    CHECK_STATUS(lr_read_file(path, 5, &text, &n, &err), LARDER_LIMIT);
    CHECK(!text);
    CHECK_STATUS(lr_write_file(in_dir("no/such/folder"), "x", 1, &err), LARDER_NOT_FOUND);
    CHECK(lr_is_file(path) && !lr_is_dir(path) && lr_is_dir(dir) && !lr_is_file(dir));
}

TEST(user_folders_follow_xdg)
{
    atexit(clean_up);
    char out[128], want[128], small[8];
    snprintf(want, sizeof want, "%s", in_dir("home/.cache/larder"));
    setenv("HOME", in_dir("home"), 1);
    setenv("XDG_CACHE_HOME", "relative/is/ignored", 1);
    CHECK_OK(lr_user_dir("cache", out, sizeof out, &err));
    CHECK_EQ_STR(out, want);
    CHECK(lr_is_dir(out));
    setenv("XDG_DATA_HOME", in_dir("xdg"), 1);
    CHECK_OK(lr_user_dir("data", out, sizeof out, &err));
    CHECK_EQ_STR(out, in_dir("xdg/larder"));
    CHECK_STATUS(lr_user_dir("data", small, sizeof small, &err), LARDER_LIMIT);
}

TEST(the_system_is_described)
{
    CHECK(lr_mem_total() >= lr_mem_available() && lr_mem_available() > LR_MIB);
    CHECK(lr_rss_peak() >= lr_rss_anon() && lr_rss_now() > 0);
    uint64_t t = lr_now_ns();
    CHECK(lr_now_ns() >= t);
    lr_topology topo;
    lr_topology_get(&topo);
    CHECK(topo.n_core >= 1 && topo.n_thread >= topo.n_core && topo.n_core_perf >= 1 &&
          topo.n_core_perf <= topo.n_core);
    CHECK(topo.n_numa >= 1 && *topo.cpu);
    printf("%s: %d cores, %d threads, L2 %llu KiB, isa %s\n", topo.cpu, topo.n_core, topo.n_thread,
           (unsigned long long)topo.l2 / 1024, lr_isa_name(lr_cpu_isa()));
    CHECK(lr_cpu_has_isa(LR_ISA_SCALAR) && lr_cpu_has_isa(lr_cpu_isa()));
    CHECK(!(lr_cpu_has_isa(LR_ISA_AVX2) && lr_cpu_has_isa(LR_ISA_NEON)));
}

TEST(the_instruction_set_can_be_chosen)
{
    setenv("LARDER_ISA", "scalar", 1);
    CHECK_EQ_INT(lr_cpu_isa(), LR_ISA_SCALAR);
}

TEST(numbers_have_a_point_in_every_locale)
{
    static const char *const with_comma[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "es_ES.UTF-8", "it_IT.UTF-8"};
    const char *set = NULL;
    for (size_t i = 0; i < LR_LEN(with_comma) && !set; i++) set = setlocale(LC_NUMERIC, with_comma[i]);
    char text[32], *end;
    CHECK(lr_strtod("0.5x", &end) == 0.5);
    CHECK_EQ_STR(end, "x");
    void *was = lr_point_enter();
    snprintf(text, sizeof text, "%g", 1.5);
    lr_point_leave(was);
    CHECK_EQ_STR(text, "1.5");
    snprintf(text, sizeof text, "%g", 1.5);
    CHECK_EQ_STR(text, set ? "1,5" : "1.5"); /* the program's own again */
    if (!set) SKIP("no locale with a decimal comma is installed");
}

#ifdef __linux__
/* Lays out a system's files under in_dir(""). */
static void system_file(const char *path, const char *text)
{
    char full[300];
    snprintf(full, sizeof full, "mkdir -p $(dirname %s%s)", in_dir("root"), path);
    CHECK(!system(full));
    snprintf(full, sizeof full, "%s%s", in_dir("root"), path);
    CHECK_OK(lr_write_file(full, text, strlen(text), &err));
}

TEST(a_display_is_found_by_its_maker)
{
    char root[200];
    system_file("/sys/bus/pci/devices/0000:00:1f.0/vendor", "0x8086\n");
    system_file("/sys/bus/pci/devices/0000:00:1f.0/class", "0x060100\n");
    system_file("/sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n");
    system_file("/sys/bus/pci/devices/0000:01:00.0/class", "0x030200\n");
    snprintf(root, sizeof root, "%s", in_dir("root"));
    lr_os_root = root;
    bool nvidia = lr_has_display(0x10de), bridge = lr_has_display(0x8086);
    lr_os_root = "/nowhere";
    bool nowhere = lr_has_display(0x10de);
    lr_os_root = "";
    CHECK(nvidia && !bridge && !nowhere);
    clean_up();
}

TEST(every_group_above_counts)
{
    char root[200];
    system_file("/proc/meminfo", "MemTotal:       33554432 kB\nMemAvailable:   30000000 kB\n");
    system_file("/proc/self/cgroup", "0::/box/own\n");
    system_file("/sys/fs/cgroup/box/own/memory.max", "8589934592\n");
    system_file("/sys/fs/cgroup/box/own/memory.current", "1073741824\n");
    system_file("/sys/fs/cgroup/box/own/memory.stat", "anon 1\nactive_file 0\ninactive_file 536870912\n");
    system_file("/sys/fs/cgroup/box/memory.max", "10737418240\n");
    system_file("/sys/fs/cgroup/box/memory.current", "9663676416\n");
    system_file("/sys/fs/cgroup/memory.max", "max\n");
    system_file("/sys/fs/cgroup/box/cpu.max", "150000 100000\n");
    snprintf(root, sizeof root, "%s", in_dir("root"));
    lr_os_root = root;
    uint64_t total = lr_mem_total(), available = lr_mem_available();
    int n_cpu = lr_os_cpu_count();
    lr_os_root = "";
    CHECK(total == (uint64_t)8 << 30);
    CHECK(available == (uint64_t)1 << 30); /* the neighbours in the box took the rest */
    CHECK(n_cpu <= 2);
    clean_up();
}
#endif
