/* energy.c - joules, by the processor's own meters (RAPL, as Linux' powercap shows it), those of prefill and decode apart.
 *
 * Owns: the meters, and to which work their difference is put down. Only what passes while steps run is counted; a
 * machine that idles is nobody's. Time decides between prefill and decode: a step's is shared by the tokens it had of
 * each, and the joules of a stretch by its time. A meter is read at most every 20 ms, since it moves in milliseconds.
 *
 * Meters count whole packages, whoever else uses them. Most systems let only root read them, and most virtual machines
 * have none; then the figures are said to be unknown rather than guessed.
 */
#include "serve.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define EVERY_NS 20000000ull

static bool read_number(int fd, uint64_t *out)
{
    char text[32];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    if (n <= 0) return false;
    text[n] = 0;
    *out = strtoull(text, NULL, 10);
    return true;
}

static bool read_file(const char *folder, int i, const char *name, uint64_t *out)
{
    char path[300];
    snprintf(path, sizeof path, "%s/intel-rapl:%d/%s", folder, i, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool good = read_number(fd, out);
    close(fd);
    return good;
}

void energy_open(energy *e)
{
    const char *folder = getenv("LARDER_POWERCAP"); /* for tests */
    char path[300];
    if (!folder) folder = "/sys/class/powercap";
    *e = (energy){0};
    for (int i = 0; i < MOST_METERS; i++) {
        energy_meter *m = &e->meters[e->n];
        snprintf(path, sizeof path, "%s/intel-rapl:%d/energy_uj", folder, i);
        m->fd = open(path, O_RDONLY | O_CLOEXEC);
        if (m->fd < 0) continue;
        if (read_number(m->fd, &m->last) && read_file(folder, i, "max_energy_range_uj", &m->range) && m->range)
            e->n++;
        else close(m->fd);
    }
}

void energy_close(energy *e)
{
    for (uint32_t i = 0; i < e->n; i++) close(e->meters[i].fd);
    e->n = 0;
}

/* Joules since the last time; meters wrap. */
static double passed(energy *e)
{
    double joules = 0;
    for (uint32_t i = 0; i < e->n; i++) {
        energy_meter *m = &e->meters[i];
        uint64_t now;
        if (!read_number(m->fd, &now)) continue;
        joules += (double)(now >= m->last ? now - m->last : m->range - m->last + now) * 1e-6;
        m->last = now;
    }
    return joules;
}

static void settle(energy *e, uint64_t now)
{
    double joules = passed(e), all = e->prefill_s + e->decode_s;
    if (all > 0) {
        e->prefill_j += joules * e->prefill_s / all;
        e->decode_j += joules * e->decode_s / all;
    }
    e->prefill_s = e->decode_s = 0;
    e->t_read = now;
}

void energy_begin(energy *e)
{
    if (!e->n || e->busy) return;
    passed(e);
    e->busy = true;
    e->t_read = e->t_step = lr_now_ns();
}

void energy_step(energy *e, uint32_t n_prefill, uint32_t n_decode)
{
    if (!e->n || !e->busy) return;
    uint64_t now = lr_now_ns();
    double s = (double)(now - e->t_step) * 1e-9, n = (double)n_prefill + n_decode;
    e->t_step = now;
    if (n > 0) {
        e->prefill_s += s * n_prefill / n;
        e->decode_s += s * n_decode / n;
    }
    if (now - e->t_read >= EVERY_NS) settle(e, now);
}

void energy_end(energy *e)
{
    if (!e->n || !e->busy) return;
    settle(e, lr_now_ns());
    e->busy = false;
}
