/* out.c - a file written whole or not at all.
 *
 * Owns: the temporary file beside its place, gathering small writes, making the rename durable.
 */
#include "base.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OUT_BUF = 256 << 10, MAX_WRITE = 1 << 30 /* macOS refuses 2 GiB */ };

/* Where `path` leads if it is a link, so that the file comes to lie where the link's owner wants it. */
static larder_status resolve(const char *path, char **out, larder_error *err)
{
    struct stat s;
    if (!stat(path, &s) && !S_ISREG(s.st_mode))
        return lr_fail(err, LARDER_USAGE, "'%s' exists and is not a regular file", path);
    if (lstat(path, &s) || !S_ISLNK(s.st_mode)) {
        *out = lr_strndup(path, strlen(path));
        return *out ? LARDER_OK : LR_NOMEM(err, path);
    }
    char *real = realpath(path, NULL);
    if (!real) return lr_fail_errno(err, errno, "'%s' is a link that leads nowhere", path);
    *out = lr_strndup(real, strlen(real));
    free(real);
    return *out ? LARDER_OK : LR_NOMEM(err, path);
}

larder_status lr_out_open(lr_out_file *o, const char *path, larder_error *err)
{
    larder_status st;
    int why = EEXIST;
    *o = (lr_out_file){.fd = -1};
    LR_GO(resolve(path, &o->path, err));
    assert(o->path);
    size_t cap = strlen(o->path) + 40;
    o->buf = lr_alloc(OUT_BUF);
    o->temp = lr_alloc(cap);
    if (!o->buf || !o->temp) LR_GO(LR_NOMEM(err, "writing a file"));
    for (int i = 0; i < 1000 && why == EEXIST; i++) {
        snprintf(o->temp, cap, "%s.tmp-%ld-%d", o->path, (long)getpid(), i);
        o->fd = open(o->temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        why = o->fd < 0 ? errno : 0;
    }
    if (why) LR_GO(lr_fail_errno(err, why, "cannot create a file beside '%s'", o->path));
    return LARDER_OK;
fail:
    lr_out_close(o);
    return st;
}

static larder_status write_all(lr_out_file *o, const char *p, size_t n, larder_error *err)
{
    while (n) {
        ssize_t w = write(o->fd, p, LR_MIN(n, (size_t)MAX_WRITE));
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) return lr_fail_errno(err, w < 0 ? errno : ENOSPC, "cannot write '%s'", o->path);
        p += w;
        n -= (size_t)w;
    }
    return LARDER_OK;
}

static larder_status flush(lr_out_file *o, larder_error *err)
{
    size_t n = o->n_buf;
    o->n_buf = 0;
    return write_all(o, o->buf, n, err);
}

larder_status lr_out_write(lr_out_file *o, const void *p, size_t n, larder_error *err)
{
    if (n > OUT_BUF - o->n_buf) LR_TRY(flush(o, err));
    if (n >= OUT_BUF) return write_all(o, p, n, err);
    if (n) memcpy(o->buf + o->n_buf, p, n);
    o->n_buf += n;
    return LARDER_OK;
}

/* So that the new name survives a power cut too. A file system that cannot do it is no reason to fail. */
static void sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? lr_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : lr_strndup(".", 1);
    int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    lr_free(dir);
}

larder_status lr_out_commit(lr_out_file *o, larder_error *err)
{
    LR_TRY(flush(o, err));
    if (fsync(o->fd) != 0) return lr_fail_errno(err, errno, "cannot write '%s'", o->path);
    int fd = o->fd;
    o->fd = -1;
    if (close(fd) != 0 || rename(o->temp, o->path) != 0) {
        int e = errno;
        unlink(o->temp);
        return lr_fail_errno(err, e, "cannot write '%s'", o->path);
    }
    sync_folder(o->path);
    return LARDER_OK;
}

void lr_out_close(lr_out_file *o)
{
    if (o->fd >= 0) {
        close(o->fd);
        unlink(o->temp);
    }
    lr_free(o->path);
    lr_free(o->temp);
    lr_free(o->buf);
    *o = (lr_out_file){.fd = -1};
}

larder_status lr_write_file(const char *path, const void *p, size_t n, larder_error *err)
{
    lr_out_file o;
    larder_status st;
    LR_TRY(lr_out_open(&o, path, err));
    LR_GO(lr_out_write(&o, p, n, err));
    LR_GO(lr_out_commit(&o, err));
fail:
    lr_out_close(&o);
    return st;
}
