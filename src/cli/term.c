/* term.c - messages, progress and interrupts. */
#include "cli.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted, terminated;
static bool leaves_on_second, quiet;
/* A file may be read by another thread than ours: stderr's own lock keeps these, and the line on the terminal. */
static bool progress_shown, answer_shown, reading;

void cli_be_quiet(void) { quiet = true; }
bool cli_is_quiet(void) { return quiet; }

static bool is_control(unsigned char c) { return c < 0x20 || c == 0x7f; }
/* U+0080 to U+009F in UTF-8: controls too. text[i + 1] may be read. */
static bool is_c1(const char *text)
{
    return (unsigned char)text[0] == 0xc2 && (unsigned char)text[1] >= 0x80 && (unsigned char)text[1] < 0xa0;
}

char *cli_one_line(char *s)
{
    for (char *p = s; *p; p++) {
        if (is_c1(p)) p[0] = p[1] = '?';
        else if (is_control((unsigned char)*p)) *p = '?';
    }
    return s;
}

void cli_error(const char *verb, const larder_error *err)
{
    flockfile(stderr);
    cli_progress_end();
    fprintf(stderr, "larder %s: %s\n", verb, err->message[0] ? err->message : larder_status_text(err->code));
    funlockfile(stderr);
}

int cli_fail(const char *verb, const larder_error *err)
{
    if (err->code == LARDER_CANCELLED) {
        cli_progress_end();
        return EXIT_INTERRUPTED;
    }
    cli_error(verb, err);
    return err->code == LARDER_USAGE ? EXIT_USAGE : EXIT_FAILED;
}

bool cli_was_said(const char *line)
{
    static char said[4][256];
    static unsigned next;
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        if (!strncmp(said[i], line, sizeof *said - 1)) return true;
    snprintf(said[next++ % (sizeof said / sizeof *said)], sizeof *said, "%s", line);
    return false;
}

void cli_note(const char *fmt, ...)
{
    char line[1024];
    va_list ap;
    if (quiet) return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    flockfile(stderr);
    cli_progress_end();
    fprintf(stderr, "%s\n", cli_one_line(line));
    funlockfile(stderr);
}

static void on_interrupt(int sig)
{
    if (cli_interrupted() && (leaves_on_second || sig == SIGTERM)) _exit(EXIT_INTERRUPTED);
    interrupted = 1;
    if (sig == SIGTERM) terminated = 1;
}

void cli_catch_interrupt(bool second_leaves)
{
    leaves_on_second = second_leaves;
    struct sigaction sa = {.sa_handler = on_interrupt};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
}

bool cli_interrupted(void) { return interrupted || terminated; }

void cli_clear_interrupt(void) { interrupted = 0; }

const char *cli_bytes(uint64_t n, char out[24])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)n;
    int u = 0;
    while (v >= 1000 && u < 4) v /= 1024, u++;
    snprintf(out, 24, u && v < 99.5 ? "%.1f %s" : "%.0f %s", v, units[u]);
    return out;
}

static const char *left_text(double s, char out[24])
{
    if (s < 0) return "";
    if (s < 90) snprintf(out, 24, ", %.0f s left", s);
    else if (s < 5400) snprintf(out, 24, ", %.0f min left", s / 60);
    else snprintf(out, 24, ", %.1f h left", s / 3600);
    return out;
}

static void show_progress(const char *unit, const larder_progress *p)
{
    if (quiet || !isatty(STDERR_FILENO)) return;
    struct winsize w = {.ws_col = 80};
    ioctl(STDERR_FILENO, TIOCGWINSZ, &w);
    double share = p->n_total ? (double)p->n_done / (double)p->n_total : 0;
    char bar[21], rate[24], left[24], line[256];
    for (int i = 0; i < 20; i++) bar[i] = share * 20 > i ? '#' : '.';
    bar[20] = 0;
    if (!strcmp(unit, "B")) cli_bytes((uint64_t)p->rate, rate);
    else snprintf(rate, sizeof rate, "%.0f %s", p->rate, unit);
    int name = w.ws_col > 70 ? w.ws_col - 62 : 8;
    snprintf(line, sizeof line, "%-*.*s [%s] %3.0f%%  %s/s%s", name, name, p->what ? p->what : "", bar, share * 100,
             rate, left_text(p->left_s, left));
    flockfile(stderr);
    fprintf(stderr, "\r\033[K%.*s", w.ws_col > 1 ? w.ws_col - 1 : 79, cli_one_line(line));
    fflush(stderr);
    progress_shown = true;
    funlockfile(stderr);
}

bool cli_progress(void *unit, const larder_progress *p)
{
    if (cli_interrupted()) return false;
    flockfile(stderr);
    if (!reading) show_progress(unit ? unit : "", p); /* one line at a time */
    funlockfile(stderr);
    return true;
}

void cli_reading(void *user, uint64_t n_done, uint64_t n_total, double rate)
{
    (void)user;
    larder_progress p = {"reading the model file", n_done, n_total, rate,
                         rate > 0 ? (double)(n_total - n_done) / rate : -1};
    flockfile(stderr);
    reading = n_done < n_total;
    if (!answer_shown && reading) show_progress("B", &p);
    else if (!answer_shown) cli_progress_end();
    funlockfile(stderr);
}

bool cli_prefill(cli_prefill_state *s, const larder_event *ev)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    double now = (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
    if (ev->n_done >= ev->n_total) {
        cli_progress_end();
        *s = (cli_prefill_state){0};
        return !cli_interrupted();
    }
    if (s->since == 0)
        *s = (cli_prefill_state){now, ev->n_done}; /* how long this chunk took is not known: start here */
    double rate = now > s->since ? (ev->n_done - s->n_before) / (now - s->since) : 0;
    larder_progress p = {"reading the prompt", ev->n_done, ev->n_total, rate,
                         rate > 0 ? (ev->n_total - ev->n_done) / rate : -1};
    return cli_progress("tok", &p);
}

void cli_progress_end(void)
{
    flockfile(stderr);
    if (progress_shown) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        progress_shown = false;
    }
    funlockfile(stderr);
}

void cli_put(FILE *f, const char *text, size_t n)
{
    if (!isatty(fileno(f))) {
        fwrite(text, 1, n, f);
        return;
    }
    if (!answer_shown) {
        flockfile(stderr);
        answer_shown = true;
        cli_progress_end();
        funlockfile(stderr);
    }
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (i + 1 < n && is_c1(text + i)) i++;
        else if (!is_control(c) || c == '\n' || c == '\t') fputc(c, f);
    }
}

void cli_put_json(FILE *f, const char *text, size_t n)
{
    bool terminal = isatty(fileno(f));
    for (size_t i = 0; i < n; i++) {
        if (terminal && i + 1 < n && is_c1(text + i)) fprintf(f, "\\u%04x", (unsigned char)text[++i]);
        else if (terminal && text[i] == 0x7f) fputs("\\u007f", f);
        else fputc(text[i], f);
    }
}

char *cli_read_all(const char *verb, const char *path, size_t max, size_t *n)
{
    FILE *f = strcmp(path, "-") ? fopen(path, "rb") : stdin;
    char *p = NULL;
    size_t cap = 0, got = 0;
    bool bad = false;
    if (!f) {
        fprintf(stderr, "larder %s: cannot open %s: %s\n", verb, path, strerror(errno));
        return NULL;
    }
    for (;;) {
        if (got + 1 >= cap) {
            cap = cap ? cap * 2 : 65536;
            char *q = realloc(p, cap);
            if ((bad = !q)) break;
            p = q;
        }
        size_t k = fread(p + got, 1, cap - got - 1, f);
        got += k;
        if (!k || got > max) break;
    }
    bad = bad || ferror(f) || got > max;
    const char *why = got > max ? "it is too long" : strerror(errno);
    if (f != stdin) fclose(f);
    if (bad) {
        if (!cli_interrupted())
            fprintf(stderr, "larder %s: cannot read %s: %s\n", verb, strcmp(path, "-") ? path : "standard input",
                    why);
        free(p);
        return NULL;
    }
    p[got] = 0;
    *n = got;
    return p;
}
