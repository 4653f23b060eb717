/* store.c - the model store's names, list and removal. See store.h for the layout.
 *
 * Every step below the root goes through openat with O_NOFOLLOW, so that no link in the store leads out of it.
 */
#include "store.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <dirent.h>
#include <fcntl.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---------------------------------------------------------------- names */

bool lr_store_part_ok(const char *s, size_t n)
{
    if (n == 0 || n > LR_STORE_PART || !isalnum((unsigned char)s[0])) return false;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                     c == '-';
        if (!plain && (c != '.' || i + 1 == n || s[i + 1] == '.')) return false;
    }
    return n < 5 || strncasecmp(s + n - 5, ".part", 5) != 0; /* a model that is being fetched */
}

static bool take_part(const char *s, size_t n, char *out)
{
    if (!lr_store_part_ok(s, n)) return false;
    memcpy(out, s, n);
    out[n] = 0;
    return true;
}

bool lr_store_parse(const char *s, lr_store_name *out)
{
    memset(out, 0, sizeof *out);
    const char *slash = strchr(s, '/'), *colon = strchr(s, ':');
    if (!slash || (colon && colon < slash)) return false;
    const char *end = colon ? colon : s + strlen(s);
    return take_part(s, (size_t)(slash - s), out->owner) &&
           take_part(slash + 1, (size_t)(end - slash - 1), out->repo) &&
           (!colon || take_part(colon + 1, strlen(colon + 1), out->quant));
}

static bool ends_with(const char *s, size_t n, const char *ending)
{
    size_t e = strlen(ending);
    return n >= e && strncasecmp(s + n - e, ending, e) == 0;
}

/* "-00001-of-00003" */
static bool is_split_suffix(const char *s)
{
    static const char shape[] = "-#####-of-#####";
    for (size_t i = 0; i < sizeof shape - 1; i++)
        if (shape[i] == '#' ? !isdigit((unsigned char)s[i]) : s[i] != shape[i]) return false;
    return true;
}

/* Whether a word of a file name names a number format: Q4_K_M, IQ2_XXS, TQ1_0, F16, BF16, MXFP4. */
static bool is_quant_word(const char *s, size_t n)
{
    static const char *const plain[] = {"F16", "F32", "BF16", "FP16", "FP32", "MXFP4", "NVFP4"};
    for (size_t i = 0; i < LR_LEN(plain); i++) {
        size_t w = strlen(plain[i]);
        if (n >= w && strncasecmp(s, plain[i], w) == 0 && (n == w || s[w] == '_')) return true;
    }
    if (n && strchr("iItT", s[0])) s++, n--;
    return n >= 2 && (s[0] == 'Q' || s[0] == 'q') && isdigit((unsigned char)s[1]) && (n == 2 || s[2] == '_');
}

bool lr_store_quant_of(const char *file, char out[LR_STORE_PART + 1])
{
    const char *slash = strrchr(file, '/');
    if (slash) file = slash + 1;
    size_t n = strlen(file);
    if (ends_with(file, n, ".gguf")) n -= 5;
    if (n > 15 && is_split_suffix(file + n - 15)) n -= 15;
    size_t begin = 0, found = n;
    for (size_t i = 0; i <= n; i++) {
        if (i < n && file[i] != '-' && file[i] != '.') continue;
        if (is_quant_word(file + begin, i - begin)) found = begin;
        begin = i + 1;
    }
    if (found == n) found = 0;
    else if (found >= 3 && strncasecmp(file + found - 3, "UD-", 3) == 0)
        found -= 3; /* a maker's mark that tells two apart */
    return take_part(file + found, n - found, out);
}

/* ---------------------------------------------------------------- folders */

larder_status lr_store_root(char *out, size_t cap, larder_error *err)
{
    LR_TRY(lr_user_dir("data", out, cap, err));
    size_t n = strlen(out);
    if (n + sizeof "/models" > cap) return lr_fail(err, LARDER_LIMIT, "the path of the model store is too long");
    memcpy(out + n, "/models", sizeof "/models");
    if (mkdir(out, 0777) != 0 && errno != EEXIST) return lr_fail_errno(err, errno, "cannot make '%s'", out);
    return LARDER_OK;
}

static int open_dir_at(int at, const char *name)
{
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
}

typedef bool visit_fn(void *ctx, int dir, const char *name);

/* Calls `visit` for every name but those that begin with a dot, until it returns false. Leaves `dir` open. */
static bool each_name(int dir, visit_fn *visit, void *ctx)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        if (fd >= 0) close(fd);
        return false;
    }
    bool go_on = true;
    for (struct dirent *e; go_on && (e = readdir(d));)
        if (e->d_name[0] != '.') go_on = visit(ctx, dir, e->d_name);
    closedir(d);
    return go_on;
}

static bool open_root(int *fd, char *path, size_t cap, larder_status *st, larder_error *err)
{
    *st = lr_store_root(path, cap, err);
    if (*st) return false;
    *fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* the root itself may be a link: to a larger disk, say */
    if (*fd < 0) *st = lr_fail_errno(err, errno, "cannot open the model store '%s'", path);
    return *fd >= 0;
}

/* ---------------------------------------------------------------- list */

typedef struct listing {
    lr_buf entries;
    lr_store_entry e;
} listing;

static bool add_size(void *ctx, int dir, const char *name)
{
    lr_store_entry *e = ctx;
    struct stat sb;
    if (fstatat(dir, name, &sb, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(sb.st_mode)) e->n_bytes += (uint64_t)sb.st_size;
    return true;
}

static bool visit_quant(void *ctx, int dir, const char *name)
{
    listing *l = ctx;
    int fd = take_part(name, strlen(name), l->e.name.quant) ? open_dir_at(dir, name) : -1;
    if (fd < 0) return true;
    struct stat sb;
    l->e.n_bytes = 0;
    l->e.changed = fstat(fd, &sb) == 0 ? (int64_t)sb.st_mtime : 0;
    each_name(fd, add_size, &l->e);
    close(fd);
    if (l->e.n_bytes) lr_buf_add(&l->entries, &l->e, sizeof l->e);
    return !l->entries.failed;
}

static bool visit_repo(void *ctx, int dir, const char *name)
{
    listing *l = ctx;
    int fd = take_part(name, strlen(name), l->e.name.repo) ? open_dir_at(dir, name) : -1;
    if (fd < 0) return true;
    bool go_on = each_name(fd, visit_quant, l);
    close(fd);
    return go_on;
}

static bool visit_owner(void *ctx, int dir, const char *name)
{
    listing *l = ctx;
    int fd = take_part(name, strlen(name), l->e.name.owner) ? open_dir_at(dir, name) : -1;
    if (fd < 0) return true;
    bool go_on = each_name(fd, visit_repo, l);
    close(fd);
    return go_on;
}

static int by_name(const void *a, const void *b)
{
    const lr_store_name *x = &((const lr_store_entry *)a)->name, *y = &((const lr_store_entry *)b)->name;
    int c = strcmp(x->owner, y->owner);
    if (!c) c = strcmp(x->repo, y->repo);
    return c ? c : strcmp(x->quant, y->quant);
}

larder_status lr_store_list(lr_store_entry **out, size_t *n, larder_error *err)
{
    char path[4096];
    listing l = {0};
    int root = -1;
    larder_status st;
    *out = NULL;
    *n = 0;
    if (!open_root(&root, path, sizeof path, &st, err)) return st;
    each_name(root, visit_owner, &l);
    close(root);
    *n = l.entries.n / sizeof l.e;
    if (*n) qsort(l.entries.p, *n, sizeof l.e, by_name);
    if (!lr_buf_reserve(&l.entries, 1)) l.entries.failed = true;
    if (l.entries.failed) {
        lr_buf_free(&l.entries);
        *n = 0;
        return LR_NOMEM(err, "the list of models");
    }
    *out = (lr_store_entry *)(void *)l.entries.p;
    return LARDER_OK;
}

/* ---------------------------------------------------------------- resolve */

/* Levenshtein distance, case ignored; long names are compared by their beginnings. */
static size_t distance(const char *a, const char *b)
{
    size_t n_a = LR_MIN(strlen(a), (size_t)200), n_b = LR_MIN(strlen(b), (size_t)200), row[201];
    for (size_t j = 0; j <= n_b; j++) row[j] = j;
    for (size_t i = 1; i <= n_a; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            size_t same = diagonal + (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]));
            diagonal = row[j];
            row[j] = LR_MIN(same, LR_MIN(row[j], row[j - 1]) + 1);
        }
    }
    return row[n_b];
}

static void full_name(const lr_store_name *name, char out[300])
{
    snprintf(out, 300, "%s/%s%s%s", name->owner, name->repo, name->quant[0] ? ":" : "", name->quant);
}

/* " Did you mean a, b or c?" from the stored names nearest to what was asked for. */
static void suggest(const char *asked, const lr_store_entry *list, size_t n, char *out, size_t cap)
{
    size_t best[3], n_best = 0, scores[3];
    char name[300];
    for (size_t i = 0; i < n; i++) {
        full_name(&list[i].name, name);
        size_t score = distance(asked, name);
        if (!strchr(asked, ':')) score = LR_MIN(score, distance(asked, list[i].name.repo));
        if (score > LR_MAX(strlen(asked) / 2, (size_t)3)) continue;
        size_t at = n_best;
        while (at > 0 && scores[at - 1] > score) at--;
        if (at == 3) continue;
        for (size_t k = LR_MIN(n_best, (size_t)2); k > at; k--) best[k] = best[k - 1], scores[k] = scores[k - 1];
        best[at] = i;
        scores[at] = score;
        n_best = LR_MIN(n_best + 1, (size_t)3);
    }
    out[0] = 0;
    for (size_t k = 0, used = 0; k < n_best; k++) {
        full_name(&list[best[k]].name, name);
        int w = snprintf(out + used, cap - used, "%s%s",
                         k == 0           ? "; did you mean "
                         : k + 1 < n_best ? ", "
                                          : " or ",
                         name);
        if (w < 0 || used + (size_t)w + 2 >= cap) break;
        used += (size_t)w;
        if (k + 1 == n_best) snprintf(out + used, cap - used, "?");
    }
}

static bool is_name_of(const lr_store_name *asked, const lr_store_name *stored)
{
    return strcasecmp(asked->owner, stored->owner) == 0 && strcasecmp(asked->repo, stored->repo) == 0 &&
           (!asked->quant[0] || strcasecmp(asked->quant, stored->quant) == 0);
}

/* The one stored model that a name means. */
static larder_status find(const char *asked, const lr_store_name *name, lr_store_name *out, larder_error *err)
{
    lr_store_entry *list = NULL;
    size_t n = 0, n_found = 0;
    char text[300] = "";
    LR_TRY(lr_store_list(&list, &n, err));
    lr_buf found = {0};
    for (size_t i = 0; i < n; i++) {
        if (!is_name_of(name, &list[i].name)) continue;
        *out = list[i].name;
        lr_buf_printf(&found, "%s%s", n_found++ ? ", " : "", list[i].name.quant);
    }
    larder_status st = LARDER_OK;
    if (n_found == 0) {
        suggest(asked, list, n, text, sizeof text);
        st = lr_fail(err, LARDER_NOT_FOUND, "no model '%s' in the store%s", asked,
                     text[0] ? text : "; 'larder list' shows what is there, 'larder pull' fetches more");
    } else if (n_found > 1) {
        lr_buf_putc(&found, 0);
        st = lr_fail(err, LARDER_USAGE, "the store has %s/%s as %s: say which, as in %s/%s:%s", out->owner, out->repo,
                     found.failed ? "several" : found.p, out->owner, out->repo, out->quant);
    }
    lr_buf_free(&found);
    lr_free(list);
    return st;
}

typedef struct pick {
    char file[256];
    bool folder;
} pick;

static bool visit_file(void *ctx, int dir, const char *name)
{
    pick *p = ctx;
    struct stat sb;
    size_t n = strlen(name);
    if (fstatat(dir, name, &sb, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(sb.st_mode)) return true;
    if (strcmp(name, "config.json") == 0) p->folder = true;
    if (ends_with(name, n, ".gguf") && n < sizeof p->file && (!p->file[0] || strcmp(name, p->file) < 0))
        memcpy(p->file, name, n + 1);
    return true;
}

larder_status lr_store_model_in(const char *dir, char *out, size_t cap, larder_error *err)
{
    pick p = {0};
    int fd = open_dir_at(AT_FDCWD, dir);
    if (fd < 0) return lr_fail_errno(err, errno, "cannot open '%s'", dir);
    each_name(fd, visit_file, &p);
    close(fd);
    if (!p.file[0] && !p.folder) return lr_fail(err, LARDER_NOT_FOUND, "'%s' holds no model", dir);
    int n = snprintf(out, cap, "%s%s%s", dir, p.file[0] ? "/" : "", p.file);
    return n > 0 && (size_t)n < cap ? LARDER_OK : lr_fail(err, LARDER_LIMIT, "the path of '%s' is too long", dir);
}

larder_status lr_store_resolve(const char *name_or_path, char *out, size_t cap, larder_error *err)
{
    struct stat sb;
    lr_store_name name, found = {0};
    char root[4096], dir[4096 + 3 * LR_STORE_PART + 8];
    if (stat(name_or_path, &sb) == 0) {
        if (strlen(name_or_path) >= cap)
            return lr_fail(err, LARDER_LIMIT, "the path '%.80s' is too long", name_or_path);
        memcpy(out, name_or_path, strlen(name_or_path) + 1);
        return LARDER_OK;
    }
    if (!lr_store_parse(name_or_path, &name))
        return lr_fail(err, LARDER_NOT_FOUND,
                       "no model '%.200s': neither a file or folder nor a name like owner/repo:quant", name_or_path);
    LR_TRY(find(name_or_path, &name, &found, err));
    LR_TRY(lr_store_root(root, sizeof root, err));
    snprintf(dir, sizeof dir, "%s/%s/%s/%s", root, found.owner, found.repo, found.quant);
    return lr_store_model_in(dir, out, cap, err);
}

/* ---------------------------------------------------------------- remove */

static bool remove_file(void *ctx, int dir, const char *name)
{
    int *e = ctx;
    if (unlinkat(dir, name, 0) != 0) *e = errno;
    return true;
}

/* Removes a folder of plain files; ENOENT if there is none. A folder inside it is left, and so is the whole. */
static int remove_dir(int at, const char *name)
{
    int e = 0, fd = open_dir_at(at, name);
    if (fd < 0) return errno;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) e = EBUSY;
    else each_name(fd, remove_file, &e);
    close(fd);
    return e ? e : unlinkat(at, name, AT_REMOVEDIR) != 0 ? errno : 0;
}

/* The model first leaves its name, so that a removal that is interrupted leaves no half model under it. */
static int remove_quant(int repo, const char *quant)
{
    char part[LR_STORE_PART + 8];
    snprintf(part, sizeof part, "%s.part", quant);
    int e = remove_dir(repo, part);
    if (e && e != ENOENT) return e;
    bool had_part = e == 0;
    if (renameat(repo, quant, repo, part) != 0) return errno == ENOENT && had_part ? 0 : errno;
    return remove_dir(repo, part);
}

larder_status lr_store_remove(const char *asked, larder_error *err)
{
    lr_store_name name, found = {0};
    char path[4096];
    larder_status st, opened;
    int root = -1, owner = -1, repo = -1, e = 0;
    if (!lr_store_parse(asked, &name))
        return lr_fail(err, LARDER_USAGE,
                       "'%.200s' is no name in the store (owner/repo:quant); files elsewhere are not touched", asked);
    st = find(asked, &name, &found, err);
    if (st == LARDER_NOT_FOUND && name.quant[0]) found = name; /* an unfinished pull may be there */
    else if (st) return st;
    if (!open_root(&root, path, sizeof path, &opened, err)) return opened;
    owner = open_dir_at(root, found.owner);
    repo = owner < 0 ? -1 : open_dir_at(owner, found.repo);
    e = repo < 0 ? ENOENT : remove_quant(repo, found.quant);
    if (e == EBUSY) st = lr_fail(err, LARDER_IO, "'%s' is being fetched right now; stop that first", asked);
    else if (e != ENOENT) st = e ? lr_fail_errno(err, e, "cannot remove '%s'", asked) : LARDER_OK;
    else if (!st) st = lr_fail(err, LARDER_NOT_FOUND, "no model '%s' in the store", asked);
    if (!e) { /* folders that became empty go too */
        unlinkat(owner, found.repo, AT_REMOVEDIR);
        unlinkat(root, found.owner, AT_REMOVEDIR);
    }
    if (repo >= 0) close(repo);
    if (owner >= 0) close(owner);
    close(root);
    return st;
}
