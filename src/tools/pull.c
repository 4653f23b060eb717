/* pull.c - a model from a Hugging Face hub, or one GGUF from any address, into the store.
 *
 * Owns: what the hub's list of files means, which of them make up the model that was asked for, the disk's room, and
 * the moment a model appears: everything is gathered in OWNER/REPO/QUANT.part, which becomes QUANT when all of it is
 * there and checked. That folder is locked while a pull works on it, and kept when one is stopped, to go on from.
 * Refuses to own: HTTP (fetch.c), names and the store's layout (load/store.h).
 */
#include "fetch.h"
#include "header.h"
#include "larder_tools.h"
#include "load.h"
#include "store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

typedef unsigned long long ull;

enum { MAX_LIST = 32 << 20, MAX_PAGES = 50, MAX_FILES = 10000, MAX_FILE_NAME = 200 };
static const uint64_t spare = 64 << 20; /* bytes of the disk that a pull leaves free */

/* A file of the repository. */
typedef struct remote {
    char *path, *sha256; /* sha256 NULL for files the hub keeps no checksum of */
    const char *name;    /* the last part of path */
    uint64_t n_bytes;
    char quant[LR_STORE_PART + 1]; /* of GGUFs: the model it belongs to; else "" */
    bool wanted;
} remote;

typedef struct job {
    const larder_pull_options *o;
    larder_error *err;
    lr_fetch net;
    lr_store_name name;
    char revision[LR_STORE_PART + 1];
    char url[4096];  /* of a single file outside the hub; else "" */
    char path[1024]; /* of one file in the repository, when its address was given; else "" */
    remote *files;
    size_t n_files;
    lr_arena arena;
    int dir; /* QUANT.part, locked */
    char parent[4096], final[4096 + 2 * LR_STORE_PART + 4], part[4096 + 2 * LR_STORE_PART + 16];
    /* progress */
    uint64_t n_before, n_total; /* bytes of the files that are done; of all */
    uint64_t shown_ns, rate_ns, rate_n;
    double rate;
} job;

/* ---------------------------------------------------------------- progress */

/* The rate is of the last seconds: an average whose memory fades with a time constant of 5 s. */
static void update_rate(job *j, uint64_t now, uint64_t n_done)
{
    double dt = (double)(now - j->rate_ns) * 1e-9;
    if (!j->rate_ns || n_done < j->rate_n) {
        j->rate_ns = now, j->rate_n = n_done, j->rate = 0;
    } else if (dt >= 0.5) {
        double latest = (double)(n_done - j->rate_n) / dt, share = dt < 5 ? dt / 5 : 1;
        j->rate = j->rate > 0 ? j->rate + share * (latest - j->rate) : latest;
        j->rate_ns = now, j->rate_n = n_done;
    }
}

static bool show(job *j, const char *what, uint64_t n_done)
{
    if (!j->o->progress) return true;
    j->shown_ns = lr_now_ns();
    double left = j->rate > 0 && j->n_total > n_done ? (double)(j->n_total - n_done) / j->rate : -1;
    larder_progress p = {.what = what, .n_done = n_done, .n_total = j->n_total, .rate = j->rate, .left_s = left};
    return j->o->progress(j->o->user, &p);
}

static bool on_tick(void *user, const char *what, uint64_t n_done)
{
    job *j = user;
    uint64_t now = lr_now_ns();
    n_done += j->n_before;
    update_rate(j, now, n_done);
    return now - j->shown_ns < 150000000u || show(j, what, n_done);
}

static void note(job *j, const char *line)
{
    if (j->o->note) j->o->note(j->o->user, line);
}

static void on_note(void *user, const char *line) { note(user, line); }

/* ---------------------------------------------------------------- addresses */

/* Adds path, each byte that has a meaning in an address written as %XX; slashes stay. */
static void add_escaped(lr_buf *b, const char *path)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/";
    for (; *path; path++) {
        if (strchr(plain, *path)) lr_buf_putc(b, *path);
        else lr_buf_printf(b, "%%%02X", (unsigned char)*path);
    }
}

static larder_status take_buf(job *j, lr_buf *b, char **out)
{
    *out = b->failed ? NULL : lr_arena_strndup(&j->arena, b->p, b->n);
    lr_buf_free(b);
    return *out ? LARDER_OK : LR_NOMEM(j->err, "an address");
}

static larder_status file_url(job *j, const remote *f, char **out)
{
    lr_buf b = {0};
    lr_buf_printf(&b, "%s/%s/%s/resolve/%s/", j->net.endpoint, j->name.owner, j->name.repo, j->revision);
    add_escaped(&b, f->path);
    return take_buf(j, &b, out);
}

/* ---------------------------------------------------------------- the hub's list */

/* A path in a repository: no way out of it, nothing hidden, nothing a terminal or a file system would trip on. */
static bool path_ok(const char *path)
{
    size_t n = 0; /* of the part so far */
    for (const char *p = path;; p++) {
        if (*p == '/' || !*p) {
            if (n == 0 || n > MAX_FILE_NAME || (n == 1 && p[-1] == '.') || (n == 2 && p[-1] == '.' && p[-2] == '.'))
                return false;
            if (!*p) return true;
            n = 0;
            continue;
        }
        if ((unsigned char)*p < ' ' || *p == 0x7F || *p == '\\') return false;
        n++;
    }
}

static bool is_hex(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strchr("0123456789abcdef", s[i]) || !s[i]) return false;
    return s[n] == 0;
}

static larder_status add_entry(job *j, json_t *entry, size_t *cap)
{
    const char *type = json_string_value(json_object_get(entry, "type"));
    const char *path = json_string_value(json_object_get(entry, "path"));
    json_t *size = json_object_get(entry, "size"), *lfs = json_object_get(entry, "lfs");
    if (!type || !path) return lr_fail(j->err, LARDER_FORMAT, "the hub's list of files is not as it should be");
    if (strcmp(type, "file") != 0) return LARDER_OK;
    if (!path_ok(path))
        return lr_fail(j->err, LARDER_FORMAT,
                       "the hub's list names a file outside the repository or of no proper name; refused");
    const char *oid = json_string_value(json_object_get(lfs, "oid"));
    if (json_is_object(lfs) && json_is_integer(json_object_get(lfs, "size"))) size = json_object_get(lfs, "size");
    if (!json_is_integer(size) || json_integer_value(size) < 0 || (oid && !is_hex(oid, 64)))
        return lr_fail(j->err, LARDER_FORMAT, "the hub's list gives no proper size or checksum for '%s'", path);
    if (j->n_files == MAX_FILES)
        return lr_fail(j->err, LARDER_LIMIT, "the repository has more than %d files", MAX_FILES);
    if (j->n_files == *cap) {
        size_t bigger = *cap ? *cap * 2 : 64;
        remote *more = lr_realloc(j->files, bigger * sizeof *more);
        if (!more) return LR_NOMEM(j->err, "the list of files");
        j->files = more;
        *cap = bigger;
    }
    remote *f = &j->files[j->n_files++];
    *f = (remote){.n_bytes = (uint64_t)json_integer_value(size)};
    f->path = lr_arena_strndup(&j->arena, path, strlen(path));
    f->sha256 = oid ? lr_arena_strndup(&j->arena, oid, 64) : NULL;
    if (!f->path || (oid && !f->sha256)) return LR_NOMEM(j->err, "the list of files");
    const char *slash = strrchr(f->path, '/');
    f->name = slash ? slash + 1 : f->path;
    return LARDER_OK;
}

static larder_status read_page(job *j, const lr_buf *page, size_t *cap)
{
    json_error_t bad;
    json_t *list = json_loadb(page->p ? page->p : "", page->n, JSON_REJECT_DUPLICATES, &bad), *entry;
    larder_status st = LARDER_OK;
    size_t i;
    if (!json_is_array(list)) st = lr_fail(j->err, LARDER_FORMAT, "the hub's list of files is not a JSON array");
    json_array_foreach(list, i, entry)
    {
        st = add_entry(j, entry, cap);
        if (st) break;
    }
    json_decref(list);
    return st;
}

static larder_status read_list(job *j)
{
    char next[2048];
    lr_buf url = {0}, page = {0};
    size_t cap = 0, total = 0;
    larder_status st = LARDER_OK;
    lr_buf_printf(&url, "%s/api/models/%s/%s/tree/%s?recursive=1", j->net.endpoint, j->name.owner, j->name.repo,
                  j->revision);
    lr_buf_putc(&url, 0);
    for (int n = 0; !st && url.n > 1; n++) {
        if (url.failed) st = LR_NOMEM(j->err, "an address");
        else if (n == MAX_PAGES)
            st = lr_fail(j->err, LARDER_LIMIT, "the hub's list of files has more than %d pages", MAX_PAGES);
        else if (!lr_url_is_of(url.p, j->net.endpoint))
            st = lr_fail(j->err, LARDER_FORMAT, "the hub's list goes on elsewhere; refused");
        page.n = 0;
        if (!st) st = lr_fetch_get(&j->net, url.p, MAX_LIST - total, &page, next, j->err);
        total += page.n;
        if (!st) st = read_page(j, &page, &cap);
        url.n = 0;
        if (!st) lr_buf_puts(&url, next);
        lr_buf_putc(&url, 0);
    }
    lr_buf_free(&url);
    lr_buf_free(&page);
    return st;
}

/* ---------------------------------------------------------------- choosing */

static bool starts_with(const char *s, const char *with) { return strncasecmp(s, with, strlen(with)) == 0; }
static bool ends_with(const char *s, const char *with)
{
    size_t n = strlen(s), w = strlen(with);
    return n >= w && strcasecmp(s + n - w, with) == 0;
}

/* The length of a GGUF's name without "-00001-of-00003.gguf" or ".gguf"; the part's number and their count (0: whole). */
static size_t stem_of(const char *name, int *no, int *count)
{
    size_t n = strlen(name) - 5;
    int end = 0;
    *no = *count = 0;
    if (n > 15 && sscanf(name + n - 15, "-%5d-of-%5d%n", no, count, &end) == 2 && end == 15 && *no > 0 && *count > 0)
        return n - 15;
    *no = *count = 0;
    return n;
}

static bool same_stem(const remote *a, const remote *b)
{
    int no, count;
    size_t n = stem_of(a->name, &no, &count), m = stem_of(b->name, &no, &count);
    return n == m && memcmp(a->name, b->name, n) == 0 && (a->name - a->path) == (b->name - b->path) &&
           memcmp(a->path, b->path, (size_t)(a->name - a->path)) == 0;
}

/* Says of each GGUF which model it belongs to. Two models whose names tell the same quant go by their whole names. */
static void name_quants(job *j)
{
    for (size_t i = 0; i < j->n_files; i++) {
        remote *f = &j->files[i];
        bool model = ends_with(f->name, ".gguf") && !starts_with(f->name, "mmproj") &&
                     !starts_with(f->name, "imatrix");
        if (!model || !lr_store_quant_of(f->name, f->quant)) f->quant[0] = 0;
    }
    for (size_t i = 0; i < j->n_files; i++) {
        remote *a = &j->files[i];
        bool clash = false;
        for (size_t k = 0; k < j->n_files && a->quant[0] && !clash; k++)
            clash = k != i && strcasecmp(j->files[k].quant, a->quant) == 0 && !same_stem(a, &j->files[k]);
        a->wanted = clash;
    }
    for (size_t i = 0; i < j->n_files; i++) {
        remote *f = &j->files[i];
        int no, count;
        size_t n = f->wanted ? stem_of(f->name, &no, &count) : 0;
        if (f->wanted && lr_store_part_ok(f->name, n)) memcpy(f->quant, f->name, n), f->quant[n] = 0;
        else if (f->wanted) f->quant[0] = 0;
        f->wanted = false;
    }
}

/* The quants there are, "a, b, c"; *only: the one, if it is one; *usual: Q4_K_M if it is among them. */
static void list_quants(const job *j, char *out, size_t cap, const char **only, const char **usual)
{
    size_t n = 0, used = 0;
    *only = *usual = NULL;
    out[0] = 0;
    for (size_t i = 0; i < j->n_files; i++) {
        const remote *f = &j->files[i];
        bool again = !f->quant[0];
        for (size_t k = 0; k < i && !again; k++) again = strcasecmp(j->files[k].quant, f->quant) == 0;
        if (again) continue;
        *only = n++ ? NULL : f->quant;
        if (strcasecmp(f->quant, "Q4_K_M") == 0) *usual = f->quant;
        int w = snprintf(out + used, cap - used, "%s%s", n > 1 ? ", " : "", f->quant);
        used = LR_MIN(used + (size_t)LR_MAX(w, 0), cap - 1);
    }
}

/* All parts of a split set are there, once each; a single file is alone. */
static larder_status check_set(job *j)
{
    int n_wanted = 0, n_parts = 0, no, count;
    for (size_t i = 0; i < j->n_files; i++) {
        if (!j->files[i].wanted) continue;
        stem_of(j->files[i].name, &no, &count);
        if (n_wanted++ == 0) n_parts = count;
        if (count != n_parts) n_parts = -1;
        for (size_t k = 0; k < i; k++)
            if (j->files[k].wanted && strcmp(j->files[k].name, j->files[i].name) == 0) n_parts = -1;
    }
    if (n_wanted == (n_parts ? n_parts : 1)) return LARDER_OK;
    return lr_fail(j->err, LARDER_FORMAT, "%s/%s: the parts of %s are not all there (%d found)", j->name.owner,
                   j->name.repo, j->name.quant, n_wanted);
}

static larder_status choose_gguf(job *j)
{
    if (!j->name.quant[0] && j->path[0]) {
        for (size_t i = 0; i < j->n_files; i++)
            if (strcmp(j->files[i].path, j->path) == 0)
                memcpy(j->name.quant, j->files[i].quant, sizeof j->name.quant);
        if (!j->name.quant[0])
            return lr_fail(j->err, LARDER_NOT_FOUND, "the repository has no model file '%s'", j->path);
    }
    char choices[300];
    const char *only, *usual;
    list_quants(j, choices, sizeof choices, &only, &usual);
    if (!j->name.quant[0] && (only || usual))
        memcpy(j->name.quant, only ? only : usual, strlen(only ? only : usual) + 1);
    if (!j->name.quant[0])
        return lr_fail(j->err, LARDER_USAGE, "%s/%s has %s: say which, as in %s/%s:QUANT", j->name.owner,
                       j->name.repo, choices, j->name.owner, j->name.repo);
    size_t n = 0;
    for (size_t i = 0; i < j->n_files; i++) {
        remote *f = &j->files[i];
        f->wanted = f->quant[0] && strcasecmp(f->quant, j->name.quant) == 0;
        if (f->wanted && n++ == 0) memcpy(j->name.quant, f->quant, sizeof f->quant); /* as the repository writes it */
    }
    if (n) return check_set(j);
    return lr_fail(j->err, LARDER_NOT_FOUND, "%s/%s has no %s; it has %s", j->name.owner, j->name.repo, j->name.quant,
                   choices);
}

/* The weights, settings and tokenizer at the top of a repository. */
static larder_status choose_folder(job *j)
{
    static const char *const beside[] = {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
        "chat_template.json",
        "tokenizer.model",
        "vocab.json",
        "merges.txt",
        "README.md",
        "LICENSE",
    };
    bool indexed = false, config = false, weights = false;
    for (size_t i = 0; i < j->n_files; i++) indexed |= strcmp(j->files[i].path, "model.safetensors.index.json") == 0;
    for (size_t i = 0; i < j->n_files; i++) {
        remote *f = &j->files[i];
        bool weight = indexed ? starts_with(f->path, "model-") && ends_with(f->path, ".safetensors")
                              : strcmp(f->path, "model.safetensors") == 0;
        f->wanted = f->name == f->path &&
                    (weight || (indexed && strcmp(f->path, "model.safetensors.index.json") == 0));
        weights |= weight && f->wanted;
        config |= strcmp(f->path, "config.json") == 0;
        for (size_t k = 0; k < LR_LEN(beside); k++) f->wanted |= strcmp(f->path, beside[k]) == 0;
    }
    if (!config || !weights)
        return lr_fail(j->err, LARDER_NOT_FOUND, "%s/%s holds neither a GGUF nor config.json with model.safetensors",
                       j->name.owner, j->name.repo);
    memcpy(j->name.quant, "safetensors", sizeof "safetensors");
    return LARDER_OK;
}

static larder_status choose(job *j)
{
    name_quants(j);
    bool any = false;
    for (size_t i = 0; i < j->n_files; i++) any |= j->files[i].quant[0] != 0;
    if (strcasecmp(j->name.quant, "safetensors") == 0 || (!any && !j->name.quant[0])) return choose_folder(j);
    if (!any)
        return lr_fail(j->err, LARDER_NOT_FOUND, "%s/%s holds no GGUF; without ':%s' its safetensors are fetched",
                       j->name.owner, j->name.repo, j->name.quant);
    return choose_gguf(j);
}

/* ---------------------------------------------------------------- the place in the store */

static larder_status make_place(job *j)
{
    char root[2048];
    LR_TRY(lr_store_root(root, sizeof root, j->err));
    snprintf(j->parent, sizeof j->parent, "%s/%s", root, j->name.owner);
    if (mkdir(j->parent, 0777) != 0 && errno != EEXIST)
        return lr_fail_errno(j->err, errno, "cannot make '%s'", j->parent);
    snprintf(j->parent, sizeof j->parent, "%s/%s/%s", root, j->name.owner, j->name.repo);
    if (mkdir(j->parent, 0777) != 0 && errno != EEXIST)
        return lr_fail_errno(j->err, errno, "cannot make '%s'", j->parent);
    snprintf(j->final, sizeof j->final, "%s/%s", j->parent, j->name.quant);
    snprintf(j->part, sizeof j->part, "%s.part", j->final);
    return LARDER_OK;
}

/* Makes and locks QUANT.part. The folder that was locked must still be the one of that name: between opening and
 * locking, another pull may have finished and renamed it. */
static larder_status lock_part(job *j)
{
    for (int i = 0; i < 10; i++) {
        struct stat mine, named;
        if (mkdir(j->part, 0777) != 0 && errno != EEXIST)
            return lr_fail_errno(j->err, errno, "cannot make '%s'", j->part);
        j->dir = open(j->part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (j->dir < 0) return lr_fail_errno(j->err, errno, "cannot open '%s'", j->part);
        if (flock(j->dir, LOCK_EX | LOCK_NB) != 0)
            return lr_fail(j->err, LARDER_IO, "%s/%s:%s is being fetched by another larder", j->name.owner,
                           j->name.repo, j->name.quant);
        if (fstat(j->dir, &mine) == 0 && lstat(j->part, &named) == 0 && mine.st_ino == named.st_ino &&
            mine.st_dev == named.st_dev)
            return LARDER_OK;
        close(j->dir);
        j->dir = -1;
    }
    return lr_fail(j->err, LARDER_IO, "cannot lock '%s'", j->part);
}

/* Bytes of a file that are here already, whole or in part. */
static uint64_t bytes_here(const job *j, const char *name)
{
    char part[MAX_FILE_NAME + 8];
    struct stat sb;
    if (fstatat(j->dir, name, &sb, AT_SYMLINK_NOFOLLOW) == 0) return (uint64_t)sb.st_size;
    snprintf(part, sizeof part, "%s.part", name);
    return fstatat(j->dir, part, &sb, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)sb.st_size : 0;
}

static larder_status check_room(job *j, uint64_t n_more)
{
    struct statvfs vfs;
    if (fstatvfs(j->dir, &vfs) != 0) return LARDER_OK;
    uint64_t room = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    if (n_more <= room && spare <= room - n_more) return LARDER_OK;
    return lr_fail(j->err, LARDER_LIMIT,
                   "not enough room: %.2f GB are still to come, and the disk of '%s' has %.2f GB free",
                   (double)n_more / 1e9, j->parent, (double)room / 1e9);
}

/* ---------------------------------------------------------------- fetching */

/* A file that is whole was checked when it got its name; only its size is looked at again. */
static bool is_here(const job *j, const remote *f)
{
    struct stat sb;
    return fstatat(j->dir, f->name, &sb, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(sb.st_mode) &&
           (uint64_t)sb.st_size == f->n_bytes;
}

static larder_status fetch_files(job *j)
{
    uint64_t n_here = 0;
    j->n_total = 0;
    for (size_t i = 0; i < j->n_files; i++) {
        if (!j->files[i].wanted) continue;
        if (!lr_add_u64(j->n_total, j->files[i].n_bytes, &j->n_total))
            return lr_fail(j->err, LARDER_FORMAT, "sizes that overflow");
        n_here += LR_MIN(bytes_here(j, j->files[i].name), j->files[i].n_bytes);
    }
    LR_TRY(check_room(j, j->n_total - n_here));
    j->n_before = 0;
    for (size_t i = 0; i < j->n_files; i++) {
        const remote *f = &j->files[i];
        if (!f->wanted) continue;
        if (!is_here(j, f)) {
            lr_remote r = {.name = f->name, .size_known = true, .n_bytes = f->n_bytes};
            char *url = NULL;
            LR_TRY(file_url(j, f, &url));
            r.url = url;
            if (f->sha256) memcpy(r.sha256, f->sha256, sizeof r.sha256);
            LR_TRY(lr_fetch_file(&j->net, j->dir, &r, j->err));
        }
        j->n_before += f->n_bytes;
        if (!show(j, f->name, j->n_before)) return lr_fail(j->err, LARDER_CANCELLED, "stopped");
    }
    return LARDER_OK;
}

static larder_status fetch_url(job *j)
{
    char name[MAX_FILE_NAME + 1];
    const char *end = j->url + strcspn(j->url, "?#"), *begin = end;
    while (begin[-1] != '/') begin--;
    memcpy(name, begin, (size_t)(end - begin));
    name[end - begin] = 0;
    lr_remote r = {.name = name, .url = j->url};
    LR_TRY(lr_fetch_file(&j->net, j->dir, &r, j->err));
    j->n_total = r.n_bytes;
    if (!show(j, name, r.n_bytes)) return lr_fail(j->err, LARDER_CANCELLED, "stopped");
    if (!r.sha256[0]) note(j, "the server tells no checksum of the file; only its size was checked");
    return LARDER_OK;
}

static bool is_wanted(const job *j, const char *name)
{
    if (j->url[0]) return ends_with(name, ".gguf");
    for (size_t i = 0; i < j->n_files; i++)
        if (j->files[i].wanted && strcmp(j->files[i].name, name) == 0) return true;
    return false;
}

/* What an earlier pull left of files that the repository has no more. */
static void sweep(const job *j)
{
    int fd = openat(j->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *e; d && (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && !is_wanted(j, e->d_name))
            unlinkat(j->dir, e->d_name, 0);
    if (d) closedir(d);
}

/* What was fetched must be a model; then it gets its name. */
static larder_status settle(job *j)
{
    char path[sizeof j->part + 300];
    lr_file f;
    larder_error why = {0};
    sweep(j);
    LR_TRY(lr_store_model_in(j->part, path, sizeof path, j->err));
    larder_status st = lr_load(path, &f, &why);
    if (!st) {
        lr_file_close(&f);
    } else if (st == LARDER_UNSUPPORTED) {
        note(j, why.message);
    } else {
        const char *slash = strrchr(path, '/');
        if (st == LARDER_FORMAT && slash) unlink(path);
        return lr_fail(j->err, st, "what was fetched is no model: %s", why.message);
    }
    fsync(j->dir);
    if (rename(j->part, j->final) != 0) return lr_fail_errno(j->err, errno, "cannot rename '%s'", j->part);
    return LARDER_OK;
}

/* ---------------------------------------------------------------- what was asked for */

/* ENDPOINT/OWNER/REPO/resolve/REVISION/PATH, or with blob: a file of the hub by its address. */
static bool parse_hub_url(job *j, const char *url)
{
    char owner[LR_STORE_PART + 1], repo[LR_STORE_PART + 1], revision[LR_STORE_PART + 1], verb[8];
    int end = 0;
    const char *p = strchr(url + strlen("https://"), '/');
    if (!p || !lr_url_is_of(url, j->net.endpoint) ||
        sscanf(p, "/%80[^/]/%80[^/]/%7[a-z]/%80[^/]/%n", owner, repo, verb, revision, &end) != 4 || !end)
        return false;
    const char *path = p + end;
    size_t n_path = strcspn(path, "?#");
    if ((strcmp(verb, "resolve") && strcmp(verb, "blob")) || !lr_store_part_ok(owner, strlen(owner)) ||
        !lr_store_part_ok(repo, strlen(repo)) || !lr_store_part_ok(revision, strlen(revision)) ||
        n_path >= sizeof j->path || memchr(path, '%', n_path))
        return false;
    memcpy(j->name.owner, owner, sizeof owner);
    memcpy(j->name.repo, repo, sizeof repo);
    memcpy(j->revision, revision, strlen(revision) + 1);
    memcpy(j->path, path, n_path);
    j->path[n_path] = 0;
    return path_ok(j->path);
}

/* The address of one GGUF anywhere: HOST/STEM:QUANT in the store. */
static larder_status parse_url(job *j, const char *url)
{
    LR_TRY(lr_url_check(url, j->err));
    if (parse_hub_url(j, url)) return LARDER_OK;
    memset(&j->name, 0, sizeof j->name);
    const char *host = strstr(url, "//") + 2, *end = url + strcspn(url, "?#"), *file = end;
    while (file > host && file[-1] != '/') file--;
    size_t n_host = strcspn(host, ":/?#"), n_file = (size_t)(end - file);
    char name[MAX_FILE_NAME + 1];
    bool ok = file > host && n_file > 5 && n_file < sizeof name && strlen(url) < sizeof j->url &&
              lr_store_part_ok(host, n_host);
    if (ok) {
        memcpy(name, file, n_file);
        name[n_file] = 0;
        ok = ends_with(name, ".gguf") && lr_store_quant_of(name, j->name.quant) && lr_store_part_ok(name, n_file - 5);
    }
    if (!ok)
        return lr_fail(j->err, LARDER_USAGE,
                       "the address must end in the plain name of a .gguf file on a named host");
    size_t n_stem = n_file - 5, n_quant = strlen(j->name.quant);
    if (n_stem > n_quant + 1) n_stem -= n_quant + 1; /* "model-Q4_K_M" is the repo "model" */
    memcpy(j->name.owner, host, n_host);
    memcpy(j->name.repo, name, n_stem);
    if (!lr_store_part_ok(j->name.repo, n_stem))
        return lr_fail(j->err, LARDER_USAGE, "'%s' is no name for a model", name);
    memcpy(j->url, url, strlen(url) + 1);
    return LARDER_OK;
}

static larder_status parse_name(job *j, const char *name)
{
    const char *revision = j->o->revision && j->o->revision[0] ? j->o->revision : "main";
    if (!lr_store_part_ok(revision, strlen(revision)))
        return lr_fail(j->err, LARDER_USAGE, "'%.80s' is no revision: a branch, a tag or a commit of the repository",
                       revision);
    memcpy(j->revision, revision, strlen(revision) + 1);
    if (starts_with(name, "https://") || starts_with(name, "http://")) return parse_url(j, name);
    if (lr_store_parse(name, &j->name)) return LARDER_OK;
    return lr_fail(j->err, LARDER_USAGE,
                   "'%.200s' is no model's name: owner/repo, owner/repo:quant, or the https address of a .gguf",
                   name);
}

static larder_status open_net(job *j)
{
    const larder_pull_options *o = j->o;
    const char *endpoint = o->endpoint ? o->endpoint : getenv("HF_ENDPOINT"),
               *token = o->token ? o->token : getenv("HF_TOKEN");
    j->net = (lr_fetch){.stall_s = o->stall_s ? o->stall_s : 30,
                        .n_tries = o->n_tries ? o->n_tries : 6,
                        .tick = on_tick,
                        .note = on_note,
                        .user = j};
    return lr_fetch_open(&j->net, endpoint && endpoint[0] ? endpoint : "https://huggingface.co", token, j->err);
}

/* Nothing is fetched twice. */
static bool is_stored(job *j)
{
    char root[2048];
    if (lr_store_root(root, sizeof root, j->err)) return false;
    snprintf(j->final, sizeof j->final, "%s/%s/%s/%s", root, j->name.owner, j->name.repo, j->name.quant);
    if (!lr_is_dir(j->final)) return false;
    note(j, "already in the store; 'larder rm' it first to fetch it anew");
    return true;
}

static larder_status pull(job *j, const char *name)
{
    LR_TRY(open_net(j));
    LR_TRY(parse_name(j, name));
    if (!j->url[0]) {
        if (j->name.quant[0] && is_stored(j)) return LARDER_OK;
        LR_TRY(read_list(j));
        LR_TRY(choose(j));
    }
    LR_TRY(make_place(j));
    if (is_stored(j)) return LARDER_OK;
    LR_TRY(lock_part(j));
    if (lr_is_dir(j->final)) return rmdir(j->part), LARDER_OK; /* another pull was quicker */
    LR_TRY(j->url[0] ? fetch_url(j) : fetch_files(j));
    return settle(j);
}

larder_status larder_pull(const char *name, const larder_pull_options *options, char *path, size_t cap,
                          larder_error *err)
{
    static const larder_pull_options none;
    larder_error own = {0};
    job *j = lr_calloc(1, sizeof *j);
    if (!j) return LR_NOMEM(err, "a pull");
    j->o = options ? options : &none;
    j->err = err ? err : &own;
    j->dir = -1;
    larder_status st = pull(j, name);
    if (!st && path) st = lr_store_model_in(j->final, path, cap, j->err);
    if (j->dir >= 0) close(j->dir);
    lr_fetch_close(&j->net);
    lr_arena_free(&j->arena);
    lr_free(j->files);
    lr_free(j);
    return st;
}

/* ---------------------------------------------------------------- a header alone */
enum { HEADER_FIRST = 4 << 20, HEADER_MOST = 256 << 20 };

/* Into a file as long as the whole one, with nothing behind its header: `lr_load` touches no tensor's bytes. */
static larder_status write_sparse(const lr_buf *head, uint64_t total, char *path, size_t cap, larder_error *err)
{
    char folder[4000];
    LR_TRY(lr_user_dir("cache", folder, sizeof folder, err));
    if (snprintf(path, cap, "%s/header.XXXXXX", folder) >= (int)cap) return lr_fail(err, LARDER_LIMIT, "a long path");
    int fd = mkstemp(path);
    if (fd < 0) return lr_fail_errno(err, errno, "cannot write in %s", folder);
    bool ok = total <= INT64_MAX && !ftruncate(fd, (off_t)total) &&
              write(fd, head->p, LR_MIN(head->n, total)) == (ssize_t)LR_MIN(head->n, total);
    larder_status st = ok ? LARDER_OK : lr_fail_errno(err, errno, "cannot write in %s", folder);
    close(fd);
    if (st) unlink(path);
    return st;
}

/* Longer and longer beginnings, until one holds the whole header. */
static larder_status load_header(job *j, const char *url, lr_file *out)
{
    char path[4200];
    for (uint64_t n = HEADER_FIRST;; n *= 4) {
        lr_buf head = {0};
        uint64_t total = 0;
        larder_error quiet = {0};
        larder_status st = lr_fetch_head(&j->net, url, n, &head, &total, j->err);
        size_t got = head.n;
        if (!st) st = write_sparse(&head, total, path, sizeof path, j->err);
        lr_buf_free(&head);
        if (st) return st;
        st = lr_load(path, out, &quiet);
        unlink(path);
        if (!st) return LARDER_OK;
        if (got >= total || n >= HEADER_MOST) {
            if (j->err) *j->err = quiet;
            return st;
        }
    }
}

static larder_status peek(job *j, const char *name, lr_file *out)
{
    LR_TRY(open_net(j));
    LR_TRY(parse_name(j, name));
    if (j->url[0]) return load_header(j, j->url, out);
    LR_TRY(read_list(j));
    LR_TRY(choose(j));
    const remote *one = NULL;
    for (size_t i = 0; i < j->n_files; i++) {
        if (!j->files[i].wanted || !ends_with(j->files[i].path, ".gguf")) continue;
        if (one)
            return lr_fail(j->err, LARDER_UNSUPPORTED,
                           "%s is in several files: only a model in one GGUF can be planned by its header", name);
        one = &j->files[i];
    }
    if (!one) return lr_fail(j->err, LARDER_UNSUPPORTED, "%s: only GGUFs can be planned by their headers", name);
    char *url;
    LR_TRY(file_url(j, one, &url));
    return load_header(j, url, out);
}

larder_status lr_pull_header(const char *name, const larder_pull_options *options, lr_file *out, larder_error *err)
{
    static const larder_pull_options none;
    larder_error own = {0};
    job *j = lr_calloc(1, sizeof *j);
    if (!j) return LR_NOMEM(err, "a header");
    j->o = options ? options : &none;
    j->err = err ? err : &own;
    j->dir = -1;
    larder_status st = peek(j, name, out);
    lr_fetch_close(&j->net);
    lr_arena_free(&j->arena);
    lr_free(j->files);
    lr_free(j);
    return st;
}
