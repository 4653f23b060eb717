/* driver.c - replays a fuzz target's corpus without libFuzzer, as a test like any other.
 *
 * The corpus is tests/fuzz/corpus/<name of the program without fuzz_>/. Each file is given whole, then cut at every
 * length up to LARDER_FUZZ_CUTS bytes (default 512: the headers), each time in memory of exactly that size so that a
 * sanitizer sees the first byte read past the end. LARDER_FUZZ_CORPUS names another folder.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void give(const uint8_t *data, size_t n)
{
    uint8_t *exact = malloc(n ? n : 1);
    if (!exact) exit(1);
    if (n) memcpy(exact, data, n);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
}

static int replay_file(const char *path, size_t cuts)
{
    struct stat s;
    if (stat(path, &s) || !S_ISREG(s.st_mode)) return 0;
    FILE *f = fopen(path, "rb");
    size_t cap = (size_t)s.st_size;
    uint8_t *data = malloc(cap ? cap : 1);
    if (!f || !data || fread(data, 1, cap, f) != cap) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(1);
    }
    fclose(f);
    printf("%s\n", path); /* the last one printed is the one that failed */
    fflush(stdout);
    give(data, cap);
    for (size_t n = 0; n < cap && n < cuts; n++) give(data, n);
    free(data);
    return 1;
}

static int replay(const char *folder, size_t cuts)
{
    DIR *d = opendir(folder);
    int n = 0;
    char path[4400];
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%.4096s/%.255s", folder, e->d_name);
        n += replay_file(path, cuts);
    }
    if (d) closedir(d);
    return n;
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "--list")) return puts("corpus 120") < 0;
    const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];
    const char *cuts = getenv("LARDER_FUZZ_CUTS"), *folder = getenv("LARDER_FUZZ_CORPUS");
    char path[4096];
    snprintf(path, sizeof path, "tests/fuzz/corpus/%s", strncmp(name, "fuzz_", 5) ? name : name + 5);
    if (!replay(folder ? folder : path, cuts ? strtoul(cuts, NULL, 10) : 512)) {
        printf("no corpus in %s\n", folder ? folder : path);
        return 77;
    }
    return 0;
}
