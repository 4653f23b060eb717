/* name.c - see name.h. */
#include "name.h"

#include <ctype.h>
#include <stdio.h>

static bool is_core_count(const char *s, int *n_digits, size_t *len)
{
    /* "32-core gpu", "48 gpu core", "32 core gpu": a count of GPU cores. "10 core" alone counts the processor's. */
    int d = 0;
    while (isdigit((unsigned char)s[d])) d++;
    if (d < 1 || d > 2) return false;
    static const char *const tails[] = {"-core gpu", " core gpu", " gpu core", "-gpu-core", " gpu cores", "c gpu"};
    for (size_t i = 0; i < LR_LEN(tails); i++) {
        size_t n = strlen(tails[i]);
        if (strncmp(s + d, tails[i], n) == 0) {
            *n_digits = d;
            *len = (size_t)d + n;
            return true;
        }
    }
    return false;
}

/* "14/30" in "M3 Max 14/30": cores of the processor and, behind the stroke, of the GPU. Their length; 0: it is none. */
static size_t core_pair(const char *s, int *n_gpu)
{
    size_t a = strspn(s, "0123456789"), b = s[a] == '/' ? strspn(s + a + 1, "0123456789") : 0;
    if (!a || a > 2 || !b || b > 2 || isalnum((unsigned char)s[a + 1 + b]) || s[a + 1 + b] == '/') return 0;
    *n_gpu = s[a + 1] - '0';
    if (b == 2) *n_gpu = 10 * *n_gpu + s[a + 2] - '0';
    return a + 1 + b;
}

static void add_word(lr_name *o, char **to, const char *p, size_t n)
{
    if (o->n == LR_NAME_WORDS || *to + n + 1 > o->text + sizeof o->text) return;
    memcpy(*to, p, n);
    (*to)[n] = 0;
    o->word[o->n++] = *to;
    *to += n + 1;
}

/* Length of the "4x" of "4x4090" and "2xRTX3090"; 0 where there is none, as in "8x7b". */
static size_t count_before(const char *p, size_t n)
{
    size_t d = 0, after = 0;
    while (d < n && isdigit((unsigned char)p[d])) d++;
    if (!d || d > 2 || d + 1 >= n || p[d] != 'x') return 0;
    if (isalpha((unsigned char)p[d + 1])) return d + 1;
    while (d + 1 + after < n && isdigit((unsigned char)p[d + 1 + after])) after++;
    return after >= 3 ? d + 1 : 0;
}

/* Cases that hold a chip without saying which: their words must not be taken for the chip's. */
static void blank_cases(char *s)
{
    static const char *const cases[] = {"macbook pro", "macbook air", "macbook",  "mac pro",
                                        "mac mini",    "mac studio",  "imac pro", "imac"};
    for (size_t i = 0; i < LR_LEN(cases); i++) {
        char *at = strstr(s, cases[i]);
        if (at && (at == s || !isalnum((unsigned char)at[-1]))) memset(at, ' ', strlen(cases[i]));
    }
}

/* One run of letters, digits, dots and pluses: cut where three or more digits meet letters. */
static void add_run(lr_name *o, char **to, const char *p, size_t n)
{
    static const char *const brands[] = {"rtx", "gtx", "rx"};
    while (n && (p[n - 1] == '.' || p[n - 1] == '+')) n--;
    while (n && p[0] == '.') p++, n--;
    if (!n) return;
    size_t times = count_before(p, n);
    p += times;
    n -= times;
    for (size_t i = 0; i < LR_LEN(brands); i++) {
        size_t b = strlen(brands[i]);
        if (n > b && !memcmp(p, brands[i], b) && isdigit((unsigned char)p[b])) {
            add_word(o, to, p, b);
            p += b;
            n -= b;
        }
    }
    size_t d = 0;
    while (d < n && isdigit((unsigned char)p[d])) d++;
    if (d >= 3 && d < n && isalpha((unsigned char)p[d])) {
        add_word(o, to, p, d);
        p += d;
        n -= d;
    }
    add_word(o, to, p, n);
}

void lr_name_cut(const char *s, lr_name *out)
{
    char low[256] = {0};
    size_t n = 0;
    for (; n < sizeof low - 1 && s[n]; n++) low[n] = (char)tolower((unsigned char)s[n]);
    low[n] = 0;
    blank_cases(low);
    *out = (lr_name){.n = 0};
    char *to = out->text;
    for (size_t i = 0; i < n;) {
        int digits;
        size_t len;
        if (!isalnum((unsigned char)low[i])) {
            i++;
            continue;
        }
        if ((!i || low[i - 1] == ' ' || low[i - 1] == '(') && (len = core_pair(low + i, &digits))) {
            char word[8];
            (void)snprintf(word, sizeof word, "%dc", digits);
            add_word(out, &to, word, strlen(word));
            i += len;
            continue;
        }
        if ((!i || !isalnum((unsigned char)low[i - 1])) && is_core_count(low + i, &digits, &len)) {
            char word[8];
            (void)snprintf(word, sizeof word, "%.*sc", digits, low + i);
            add_word(out, &to, word, strlen(word));
            i += len;
            continue;
        }
        size_t from = i;
        while (i < n && (isalnum((unsigned char)low[i]) || low[i] == '.' || low[i] == '+')) i++;
        add_run(out, &to, low + from, i - from);
    }
}

static bool has(const lr_name *n, const char *word)
{
    for (int i = 0; i < n->n; i++)
        if (!strcmp(n->word[i], word)) return true;
    return false;
}

/* Words that make it another product if they are not part of the alias. */
static bool changes(const char *w)
{
    static const char *const list[] = {"ti",     "super", "xt",    "xtx", "gre",     "laptop", "mobile",
                                       "ultra",  "pro",   "max",   "sff", "nvl",     "d",      "q",
                                       "quadro", "mini",  "coder", "vl",  "distill", "code",   "nano",
                                       "flash",  "air",   "next",  "x",   "cpu",     "lite"};
    for (size_t i = 0; i < LR_LEN(list); i++)
        if (!strcmp(w, list[i])) return true;
    return false;
}

static int fits_one(const lr_name *name, const lr_name *alias)
{
    int score = 10;
    if (!alias->n) return 0;
    for (int i = 0; i < alias->n; i++) {
        if (!has(name, alias->word[i])) return 0;
        score += 10 + (int)strlen(alias->word[i]);
    }
    for (int i = 0; i < name->n; i++)
        if (changes(name->word[i]) && !has(alias, name->word[i])) score -= 40;
    return score + 1000;
}

int lr_name_fits(const lr_name *name, const char *aliases)
{
    int best = 0;
    while (*aliases) {
        char one[128];
        size_t n = strcspn(aliases, "|");
        lr_name alias;
        (void)snprintf(one, sizeof one, "%.*s", (int)LR_MIN(n, sizeof one - 1), aliases);
        lr_name_cut(one, &alias);
        int score = fits_one(name, &alias);
        if (score > best) best = score;
        aliases += n + (aliases[n] == '|');
    }
    return best;
}

int lr_name_distance(const char *a, const char *b)
{
    int row[96];
    size_t n = strlen(b);
    if (n > 94) return 999;
    for (size_t j = 0; j <= n; j++) row[j] = (int)j;
    for (int i = 1; *a; a++, i++) {
        int diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            bool same = tolower((unsigned char)*a) == tolower((unsigned char)b[j - 1]);
            int best = diagonal + !same;
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}
