/* runner.c - runs tests, each in a process of its own, with a time limit, as many at once as there are cpus.
 *
 *     runner [--jobs N] [--scale F] [--only NAME] PROGRAM_OR_SCRIPT...
 *
 * A program lists its tests with --list ("name seconds" per line) and runs one by name. A script (*.test) is one
 * test. Exit status 0 passes, 77 skips with the last line of its output as the reason, all else fails and has its
 * output printed. The last line of the report is exactly "N passed, N failed, N skipped".
 *
 * Environment: LARDER_SEED is chosen here when it is not set, so that one number repeats the whole run;
 * LARDER_SHARED defaults to ../shared when that is there; LARDER_WRAP runs programs under another (an emulator).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/personality.h>
#endif

#define SCRIPT_SECONDS 120
#define LIST_SECONDS 60

struct job {
    const char *program;
    char name[160]; /* "" for a script */
    int seconds;
    pid_t pid; /* 0: not started, or done */
    double deadline;
    double began;
    bool late;
    FILE *output;
};

static struct job *jobs;
static size_t n_jobs;
static int n_passed, n_failed, n_skipped;
static volatile sig_atomic_t interrupted;

static void die(const char *what)
{
    fprintf(stderr, "runner: %s: %s\n", what, strerror(errno));
    exit(2);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool is_script(const char *path)
{
    size_t n = strlen(path);
    return n > 5 && !strcmp(path + n - 5, ".test");
}

static void add_job(const char *program, const char *name, int seconds)
{
    jobs = realloc(jobs, (n_jobs + 1) * sizeof *jobs);
    if (!jobs) die("memory");
    struct job *j = &jobs[n_jobs++];
    memset(j, 0, sizeof *j);
    j->program = program;
    j->seconds = seconds;
    snprintf(j->name, sizeof j->name, "%s", name);
}

/* Replaces this process by the test. LARDER_WRAP is split at spaces. */
static void exec_test(const char *program, const char *arg)
{
    static char wrap[1024];
    char *argv[24];
    int n = 0;
    const char *env = getenv("LARDER_WRAP");
    if (env && !is_script(program)) {
        snprintf(wrap, sizeof wrap, "%s", env);
        for (char *save, *w = strtok_r(wrap, " ", &save); w && n < 20; w = strtok_r(NULL, " ", &save)) argv[n++] = w;
    }
    argv[n++] = (char *)program;
    if (*arg) argv[n++] = (char *)arg;
    argv[n] = NULL;
#ifdef __linux__
    /* ThreadSanitizer of some compilers cannot live with the address randomisation of newer kernels. */
    const char *mode = getenv("LARDER_MODE");
    if (mode && !strcmp(mode, "tsan")) personality(ADDR_NO_RANDOMIZE);
#endif
    execvp(argv[0], argv);
    fprintf(stderr, "cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(126);
}

static pid_t start(const char *program, const char *arg, int out)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) die("fork");
    if (pid) return pid;
    setpgid(0, 0);
    int in = open("/dev/null", O_RDONLY);
    dup2(in, 0);
    dup2(out, 1);
    dup2(out, 2);
    exec_test(program, arg);
    return 0;
}

static void list_tests(const char *program, const char *only)
{
    FILE *out = tmpfile();
    if (!out) die("temporary file");
    int status;
    size_t n_before = n_jobs;
    pid_t pid = start(program, "--list", fileno(out));
    double deadline = now() + LIST_SECONDS;
    while (waitpid(pid, &status, WNOHANG) != pid) {
        if (interrupted || now() > deadline) kill(pid, SIGKILL);
        poll(NULL, 0, 1);
    }
    if (status) {
        add_job(program, "--list", 60); /* fails again below, and shows why */
        fclose(out);
        return;
    }
    char line[256], name[160];
    int seconds;
    rewind(out);
    while (fgets(line, sizeof line, out))
        if (sscanf(line, "%159s %d", name, &seconds) == 2 && (!only || strstr(name, only)))
            add_job(program, name, seconds);
    fclose(out);
    if (n_jobs == n_before && !only) {
        fprintf(stderr, "runner: %s has no tests\n", program);
        exit(2);
    }
}

static void begin(struct job *j, double scale)
{
    j->output = tmpfile();
    if (!j->output) die("temporary file");
    fcntl(fileno(j->output), F_SETFD, FD_CLOEXEC);
    j->pid = start(j->program, j->name, fileno(j->output));
    setpgid(j->pid, j->pid);
    j->began = now();
    j->deadline = j->began + j->seconds * scale;
}

static void print_output(FILE *f)
{
    char line[4096];
    rewind(f);
    while (fgets(line, sizeof line, f)) printf("    %s%s", line, strchr(line, '\n') ? "" : "\n");
}

static void last_line(FILE *f, char *out, size_t cap)
{
    char line[512];
    snprintf(out, cap, "no reason given");
    rewind(f);
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (*line) snprintf(out, cap, "%s", line);
    }
}

static void finish(struct job *j, int status)
{
    kill(-j->pid, SIGKILL); /* what the test left running */
    j->pid = 0;
    char why[512];
    double took = now() - j->began;
    if (!j->late && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        n_passed++;
        if (getenv("LARDER_VERBOSE")) printf("PASS %s %s (%.2f s)\n", j->program, j->name, took);
    } else if (!j->late && WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        n_skipped++;
        last_line(j->output, why, sizeof why);
        printf("SKIP %s %s: %s\n", j->program, j->name, why);
    } else {
        n_failed++;
        if (interrupted) snprintf(why, sizeof why, "interrupted");
        else if (j->late) snprintf(why, sizeof why, "took more than %.0f s", j->deadline - j->began);
        else if (WIFSIGNALED(status)) snprintf(why, sizeof why, "killed by signal %d", WTERMSIG(status));
        else snprintf(why, sizeof why, "exit status %d", WEXITSTATUS(status));
        printf("FAIL %s %s: %s\n", j->program, j->name, why);
        print_output(j->output);
    }
    fclose(j->output);
    fflush(stdout);
}

static void on_interrupt(int sig) { interrupted = sig; }

static void run_all(int n_at_once, double scale)
{
    size_t next = 0;
    int n_running = 0;
    while ((next < n_jobs && !interrupted) || n_running) {
        while (next < n_jobs && n_running < n_at_once && !interrupted) begin(&jobs[next++], scale), n_running++;
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        for (size_t i = 0; i < next; i++) {
            if (!jobs[i].pid) continue;
            if (jobs[i].pid == pid) finish(&jobs[i], status), n_running--;
            else if (interrupted || now() > jobs[i].deadline) jobs[i].late = true, kill(-jobs[i].pid, SIGKILL);
        }
        if (pid <= 0) poll(NULL, 0, 5);
    }
}

static void set_environment(void)
{
    struct stat s;
    char path[4096], seed[32];
    if (!getenv("LARDER_SHARED") && !stat("../shared", &s) && realpath("../shared", path))
        setenv("LARDER_SHARED", path, 1);
    if (!getenv("LARDER_SEED")) {
        snprintf(seed, sizeof seed, "%ld", (long)time(NULL));
        setenv("LARDER_SEED", seed, 1);
    }
    printf("LARDER_SEED=%s\n", getenv("LARDER_SEED"));
    const char *quick = getenv("LARDER_QUICK");
    if (quick && !strcmp(quick, "1")) printf("LARDER_QUICK=1: tests of many sizes take fewer of them\n");
    /* A request for too much memory is to fail as it does for a user, not to end the test. */
    setenv("ASAN_OPTIONS", "allocator_may_return_null=1:detect_stack_use_after_return=1", 0);
    setenv("TSAN_OPTIONS", "allocator_may_return_null=1", 0);
    setenv("UBSAN_OPTIONS", "print_stacktrace=1", 0);
}

int main(int argc, char **argv)
{
    int n_at_once = (int)sysconf(_SC_NPROCESSORS_ONLN);
    double scale = 1;
    const char *only = NULL;
    int i = 1;
    for (; i + 1 < argc && !strncmp(argv[i], "--", 2); i += 2) {
        if (!strcmp(argv[i], "--jobs")) n_at_once = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--scale")) scale = atof(argv[i + 1]);
        else if (!strcmp(argv[i], "--only")) only = argv[i + 1];
        else return fprintf(stderr, "runner: unknown option %s\n", argv[i]), 2;
    }
    if (n_at_once < 1) n_at_once = 1;
    set_environment();
    struct sigaction sa = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    for (; i < argc; i++) {
        if (!is_script(argv[i])) list_tests(argv[i], only);
        else if (!only || strstr(argv[i], only)) add_job(argv[i], "", SCRIPT_SECONDS);
    }
    if (!n_jobs) return fprintf(stderr, "runner: no tests%s%s\n", only ? " named " : "", only ? only : ""), 2;
    run_all(n_at_once, scale);
    printf("%d passed, %d failed, %d skipped\n", n_passed, n_failed, n_skipped);
    return interrupted ? 130 : n_failed > 0;
}
