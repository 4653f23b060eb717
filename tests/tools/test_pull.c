/* test_pull.c - pull against a local server that stalls, cuts off, lies and redirects.
 *
 * The server runs in this process: one thread, one request per connection. Each test gives it a function that writes
 * the answer. It counts requests and remembers what it was sent.
 */
#include "../load/build.h"

#include "fetch.h"
#include "larder_tools.h"
#include "sha256.h"
#include "store.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* ---------------------------------------------------------------- the server */

typedef struct request {
    char path[1024], host[200], range[100], if_range[100], authorization[200];
    uint64_t from; /* of the range */
    int no;        /* this is the no-th request, from 1 */
} request;
typedef void answer_fn(int fd, const request *r);

static answer_fn *answer;
static int port, listener, n_requests;
static int n_with_token, n_to_other_host_with_token;
static request last_request;

static void say(int fd, const char *fmt, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)!write(fd, text, (size_t)n);
}

static void get_header(const char *text, const char *name, char *out, size_t cap)
{
    const char *p = strcasestr(text, name);
    out[0] = 0;
    if (!p) return;
    p += strlen(name);
    size_t n = strcspn(p, "\r\n");
    snprintf(out, cap, "%.*s", (int)n, p);
}

static void serve_one(int fd)
{
    char text[8192];
    size_t n = 0;
    while (n < sizeof text - 1) {
        ssize_t r = read(fd, text + n, sizeof text - 1 - n);
        if (r <= 0) return;
        n += (size_t)r;
        text[n] = 0;
        if (strstr(text, "\r\n\r\n")) break;
    }
    request r = {.no = ++n_requests};
    sscanf(text, "GET %1023s", r.path);
    get_header(text, "\r\nHost: ", r.host, sizeof r.host);
    get_header(text, "\r\nRange: bytes=", r.range, sizeof r.range);
    get_header(text, "\r\nIf-Range: ", r.if_range, sizeof r.if_range);
    get_header(text, "\r\nAuthorization: ", r.authorization, sizeof r.authorization);
    r.from = strtoull(r.range, NULL, 10);
    n_with_token += r.authorization[0] != 0;
    n_to_other_host_with_token += r.authorization[0] && strncmp(r.host, "127.0.0.1", 9) != 0;
    last_request = r;
    answer(fd, &r);
}

static void *serve(void *unused)
{
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) return unused;
        serve_one(fd);
        shutdown(fd, SHUT_RDWR);
        close(fd);
    }
}

static void listen_anywhere(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(listener >= 0 && bind(listener, (struct sockaddr *)&a, sizeof a) == 0 && listen(listener, 50) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&a, &n) == 0);
    port = ntohs(a.sin_port);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, serve, NULL) == 0);
    pthread_detach(thread);
}

/* ---------------------------------------------------------------- the model it has */

static char *model; /* a good GGUF, */
static size_t n_model;
static char model_sha[65];
static char notes[4000];
static uint64_t last_done, last_total;
static int n_progress, cancel_after;

static bool on_progress(void *user, const larder_progress *p)
{
    (void)user;
    last_done = p->n_done;
    last_total = p->n_total;
    return !cancel_after || ++n_progress < cancel_after;
}

static void on_note(void *user, const char *line)
{
    (void)user;
    snprintf(notes + strlen(notes), sizeof notes - strlen(notes), "%s\n", line);
}

/* A store, a server, a model; the test's endpoint in HF_ENDPOINT. */
static void start(answer_fn *fn)
{
    signal(SIGPIPE, SIG_IGN);
    temp_path("");
    char env[300];
    setenv("XDG_DATA_HOME", temp_dir, 1);
    unsetenv("HF_TOKEN");
    const char *const proxies[] = {"http_proxy", "https_proxy", "all_proxy",
                                   "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"};
    for (size_t i = 0; i < LR_LEN(proxies); i++) unsetenv(proxies[i]);
    if (!listener) listen_anywhere();
    snprintf(env, sizeof env, "http://127.0.0.1:%d", port);
    setenv("HF_ENDPOINT", env, 1);
    answer = fn;
    n_requests = n_with_token = n_to_other_host_with_token = n_progress = cancel_after = 0;
    notes[0] = 0;
    if (model) return;
    build f = {0};
    put_head(&f, 3, 1, 0);
    put_tensor(&f, "w", 1, (uint64_t[]){100000}, LR_FMT_F32, 0);
    put_pad(&f, 32);
    put_data(&f, 400000);
    model = f.b.p;
    n_model = f.b.n;
    lr_sha256 s;
    lr_sha256_start(&s);
    lr_sha256_add(&s, model, n_model);
    lr_sha256_end(&s, model_sha);
}

static void finish(void)
{
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s/larder'", temp_dir);
    CHECK(system(command) == 0);
}

static const char *in_store(const char *rest)
{
    static char path[4][1200];
    static int turn;
    char *out = path[turn++ % 4];
    snprintf(out, sizeof path[0], "%s/larder/models/%s", temp_dir, rest);
    return out;
}

static bool is_tree(const request *r) { return strncmp(r->path, "/api/models/", 12) == 0; }

static void say_json(int fd, const char *json)
{
    say(fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", strlen(json));
    (void)!write(fd, json, strlen(json));
}

static void say_tree(int fd)
{
    char json[1000];
    snprintf(json, sizeof json,
             "[{\"type\":\"directory\",\"path\":\"sub\"},{\"type\":\"file\",\"path\":\"README.md\",\"size\":3,"
             "\"oid\":\"x\"},"
             "{\"type\":\"file\",\"path\":\"m-Q4_0.gguf\",\"size\":%zu,\"lfs\":{\"oid\":\"%s\",\"size\":%zu}}]",
             n_model, model_sha, n_model);
    say_json(fd, json);
}

/* Bytes [from, from + n) of the model, honestly labelled. */
static void say_part(int fd, uint64_t from, size_t n, const char *etag)
{
    if (from)
        say(fd, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes %llu-%zu/%zu\r\n", (unsigned long long)from,
            n_model - 1, n_model);
    else say(fd, "HTTP/1.1 200 OK\r\n");
    say(fd, "Content-Length: %zu\r\nETag: %s\r\nConnection: close\r\n\r\n", n_model - (size_t)from, etag);
    (void)!write(fd, model + from, n);
}
static void say_model(int fd, const request *r) { say_part(fd, r->from, n_model - (size_t)r->from, "\"one\""); }

static larder_status pull(const char *name, larder_error *err)
{
    larder_pull_options o = {.stall_s = 1, .n_tries = 3, .progress = on_progress, .note = on_note};
    return larder_pull(name, &o, NULL, 0, err);
}

static void check_stored(void)
{
    size_t n;
    char *bytes;
    larder_error err = {0};
    CHECK_OK(lr_read_file(in_store("o/r/Q4_0/m-Q4_0.gguf"), n_model + 1, &bytes, &n, &err));
    CHECK(n == n_model && memcmp(bytes, model, n) == 0);
    lr_free(bytes);
    CHECK(!lr_is_dir(in_store("o/r/Q4_0.part")) && !lr_is_file(in_store("o/r/Q4_0/m-Q4_0.gguf.etag")));
    finish();
}

/* It failed, saying so, and no model has appeared. */
static void check_failed(larder_status st, const larder_error *err, const char *why)
{
    if (!st || !strstr(err->message, why) || strchr(err->message, '\n'))
        TEST_FAIL("'%s', not '%s'", st ? err->message : "(fetched)", why);
    CHECK(!lr_is_dir(in_store("o/r/Q4_0")));
}

/* ---------------------------------------------------------------- checksums */

TEST(sha256_vectors)
{
    static const struct {
        const char *text, *sum;
    } known[] = {
        /* FIPS 180-4 examples, and the empty message */
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    char hex[65];
    for (size_t i = 0; i < LR_LEN(known); i++) {
        lr_sha256 s;
        lr_sha256_start(&s);
        lr_sha256_add(&s, known[i].text, strlen(known[i].text));
        lr_sha256_end(&s, hex);
        CHECK_EQ_STR(hex, known[i].sum);
    }
    lr_sha256 s; /* a million 'a', in pieces that meet block borders everywhere */
    char a[1000];
    memset(a, 'a', sizeof a);
    lr_sha256_start(&s);
    for (size_t left = 1000000, piece = 1; left; piece = piece % 997 + 1) {
        size_t n = LR_MIN(piece, left);
        lr_sha256_add(&s, a, n);
        left -= n;
    }
    lr_sha256_end(&s, hex);
    CHECK_EQ_STR(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* ---------------------------------------------------------------- good hubs */

static void good(int fd, const request *r)
{
    if (is_tree(r)) say_tree(fd);
    else say_model(fd, r);
}

TEST(fetches_the_only_model)
{
    start(good);
    larder_error err = {0};
    char path[4096];
    larder_pull_options o = {.progress = on_progress, .note = on_note};
    CHECK_OK(larder_pull("o/r", &o, path, sizeof path, &err));
    CHECK_EQ_STR(path, in_store("o/r/Q4_0/m-Q4_0.gguf"));
    CHECK_EQ_STR(last_request.path, "/o/r/resolve/main/m-Q4_0.gguf");
    CHECK_EQ_INT(n_requests, 2);
    CHECK_EQ_U64(last_total, n_model);
    CHECK_OK(larder_pull("o/r:q4_0", &o, path, sizeof path, &err)); /* the name in the store is the repository's */
    CHECK(strstr(notes, "already in the store"));
    n_requests = 0;
    CHECK_OK(larder_pull("o/r:Q4_0", &o, path, sizeof path, &err));
    CHECK_EQ_INT(n_requests, 0);
    check_stored();
}

static void many(int fd, const request *r)
{
    char json[4000];
    if (!is_tree(r)) {
        say_model(fd, r);
        return;
    }
    size_t n = 0;
    static const char *const paths[] = {"a/m-Q8_0-00001-of-00002.gguf",
                                        "a/m-Q8_0-00002-of-00002.gguf",
                                        "m-Q5_K_M.gguf",
                                        "m-Q6_K-00001-of-00002.gguf",
                                        "x-F16.gguf",
                                        "y-F16.gguf",
                                        "mmproj-F16.gguf",
                                        "m-Q4_0.gguf"};
    json[n++] = '[';
    for (size_t i = 0; i < LR_LEN(paths); i++)
        n += (size_t)snprintf(
            json + n, sizeof json - n,
            "%s{\"type\":\"file\",\"path\":\"%s\",\"size\":%zu,\"lfs\":{\"oid\":\"%s\",\"size\":%zu}}", i ? "," : "",
            paths[i], n_model, model_sha, n_model);
    json[n++] = ']';
    json[n] = 0;
    say_json(fd, json);
}

TEST(chooses_by_quant)
{
    start(many);
    larder_error err = {0};
    check_failed(pull("o/r", &err), &err, "o/r has Q8_0, Q5_K_M, Q6_K, x-F16, y-F16, Q4_0: say which");
    check_failed(pull("o/r:Q3_K", &err), &err, "no Q3_K; it has Q8_0");
    check_failed(pull("o/r:Q6_K", &err), &err, "not all there");
    CHECK_OK(pull("o/r:Q5_K_M", &err));
    CHECK_OK(pull("o/r:X-f16", &err));
    CHECK(lr_is_file(in_store("o/r/x-F16/x-F16.gguf")));
    n_requests = 0;
    CHECK_OK(pull("o/r:q8_0", &err)); /* both parts, under the name the repository gives them */
    CHECK_EQ_INT(n_requests, 3);
    CHECK(lr_is_file(in_store("o/r/Q8_0/m-Q8_0-00002-of-00002.gguf")));
    finish();
}

static void folder(int fd, const request *r)
{
    char st[200] = {0};
    size_t n_st = 8 + (size_t)sprintf(st + 8, "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}");
    st[0] = (char)(n_st - 8);
    n_st += 8;
    if (is_tree(r)) {
        char json[1000];
        snprintf(json, sizeof json,
                 "[{\"type\":\"file\",\"path\":\"config.json\",\"size\":22},{\"type\":\"file\",\"path\":\"model."
                 "safetensors\",\"size\":%zu},"
                 "{\"type\":\"file\",\"path\":\"pytorch_model.bin\",\"size\":5},{\"type\":\"file\",\"path\":\"onnx/"
                 "config.json\",\"size\":5}]",
                 n_st);
        say_json(fd, json);
    } else if (strstr(r->path, "config.json")) {
        say_json(fd, "{\"model_type\":\"llama\"}");
    } else {
        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", n_st);
        (void)!write(fd, st, n_st);
    }
}

TEST(fetches_a_safetensors_folder)
{
    start(folder);
    larder_error err = {0};
    char path[4096];
    CHECK_OK(larder_pull("o/r", NULL, path, sizeof path, &err));
    CHECK_EQ_STR(path, in_store("o/r/safetensors"));
    CHECK_EQ_INT(n_requests, 3);
    finish();
}

static void paged(int fd, const request *r)
{
    if (strstr(r->path, "cursor")) {
        say_tree(fd);
    } else if (is_tree(r)) {
        say(fd,
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nLink: <http://127.0.0.1:%d/api/models/o/r/tree/main?cursor=x>; "
            "rel=\"next\"\r\n"
            "Connection: close\r\n\r\n[]",
            port);
    } else {
        say_model(fd, r);
    }
}
static void paged_elsewhere(int fd, const request *r)
{
    (void)r;
    say(fd,
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nLink: <http://localhost:%d/x>; rel=\"next\"\r\nConnection: "
        "close\r\n\r\n[]",
        port);
}
static void paged_forever(int fd, const request *r)
{
    (void)r;
    say(fd,
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nLink: <http://127.0.0.1:%d/api/models/x>; "
        "rel=\"next\"\r\nConnection: close\r\n\r\n[]",
        port);
}

TEST(lists_of_several_pages)
{
    larder_error err = {0};
    start(paged);
    CHECK_OK(pull("o/r", &err));
    check_stored();
    start(paged_elsewhere);
    check_failed(pull("o/r", &err), &err, "goes on elsewhere");
    start(paged_forever);
    check_failed(pull("o/r", &err), &err, "more than 50 pages");
}

TEST(files_by_their_address)
{
    larder_error err = {0};
    char url[300];
    start(good);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/o/r/blob/main/m-Q4_0.gguf?x=1", port);
    CHECK_OK(pull(url, &err)); /* a page of the hub: the list gives its checksum */
    check_stored();
    start(good);
    snprintf(url, sizeof url, "http://localhost:%d/some/where/m-Q4_0.gguf", port);
    CHECK_OK(pull(url, &err));
    CHECK(lr_is_file(in_store("localhost/m/Q4_0/m-Q4_0.gguf")));
    CHECK(strstr(notes, "only its size was checked"));
    finish();
    check_failed(pull("http://example.com/m.gguf", &err), &err, "http to example.com is refused");
    check_failed(pull("https://a:b@example.com/m.gguf", &err), &err, "user or password");
    check_failed(pull("https://example.com/model.bin", &err), &err, "plain name of a .gguf");
    check_failed(pull("file:///etc/passwd", &err), &err, "no model's name");
    check_failed(pull("https://example.com/..gguf", &err), &err, "plain name");
}

/* ---------------------------------------------------------------- bad networks */

static size_t cut_at[8];
static void cuts(int fd, const request *r)
{
    if (is_tree(r)) {
        say_tree(fd);
        return;
    }
    size_t until = r->no - 2 < 8 && cut_at[r->no - 2] ? cut_at[r->no - 2] : n_model;
    if (until > r->from) say_part(fd, r->from, until - (size_t)r->from, "\"one\"");
}

TEST(goes_on_after_a_cut)
{
    start(cuts);
    larder_error err = {0};
    memcpy(cut_at, (size_t[8]){100000, 200001, 300000}, sizeof cut_at);
    CHECK_OK(pull("o/r", &err));
    CHECK_EQ_INT(n_requests, 5);
    CHECK_EQ_STR(last_request.range, "300000-");
    CHECK_EQ_STR(last_request.if_range, "\"one\"");
    CHECK(strstr(notes, "trying again"));
    check_stored();
}

TEST(goes_on_in_the_next_pull)
{
    start(cuts);
    larder_error err = {0};
    memcpy(cut_at, (size_t[8]){150000, 150001, 150002, 150003, 150004}, sizeof cut_at);
    check_failed(pull("o/r", &err), &err, "m-Q4_0.gguf: ");
    CHECK(lr_is_file(in_store("o/r/Q4_0.part/m-Q4_0.gguf.part")));
    start(good);
    CHECK_OK(pull("o/r", &err));
    CHECK_EQ_INT(n_requests, 2);
    CHECK_EQ_INT(last_request.from / 10, 15000);
    check_stored();
}

static void put_part(const char *bytes, size_t n, const char *etag)
{
    mkdir(in_store(""), 0777);
    larder_error err = {0};
    char root[4096];
    CHECK_OK(lr_store_root(root, sizeof root, &err));
    mkdir(in_store("o"), 0777), mkdir(in_store("o/r"), 0777), mkdir(in_store("o/r/Q4_0.part"), 0777);
    save_bytes(in_store("o/r/Q4_0.part/m-Q4_0.gguf.part"), bytes, n);
    if (etag) save_bytes(in_store("o/r/Q4_0.part/m-Q4_0.gguf.etag"), etag, strlen(etag));
}

TEST(part_that_belongs_to_another_file)
{
    start(good); /* a server that ignores If-Range: the checksum finds it out */
    larder_error err = {0};
    char junk[5000] = {1, 2, 3};
    put_part(junk, sizeof junk, "\"old\"");
    CHECK_OK(pull("o/r", &err));
    CHECK(strstr(notes, "does not fit"));
    CHECK_EQ_INT(n_requests, 3);
    check_stored();
}

static void honours_if_range(int fd, const request *r)
{
    request whole = *r;
    whole.from = strcmp(r->if_range, "\"one\"") == 0 ? r->from : 0;
    if (is_tree(r)) say_tree(fd);
    else say_model(fd, &whole);
}

TEST(changed_etag_begins_anew)
{
    start(honours_if_range);
    larder_error err = {0};
    char junk[5000] = {1, 2, 3};
    put_part(junk, sizeof junk, "\"old\"");
    CHECK_OK(pull("o/r", &err));
    CHECK_EQ_INT(n_requests, 2);
    CHECK(!strstr(notes, "does not fit"));
    check_stored();
}

TEST(part_that_is_whole_or_too_long)
{
    larder_error err = {0};
    start(good);
    put_part(model, n_model, NULL);
    CHECK_OK(pull("o/r", &err));
    CHECK_EQ_INT(n_requests, 1); /* the list only */
    check_stored();
    start(good);
    char *longer = calloc(1, n_model + 100);
    put_part(longer, n_model + 100, NULL);
    free(longer);
    CHECK_OK(pull("o/r", &err));
    check_stored();
}

static void stalls(int fd, const request *r)
{
    if (is_tree(r)) say_tree(fd);
    else if (r->no == 2) {
        say_part(fd, 0, 100000, "\"one\"");
        usleep(2500000);
    } else {
        say_model(fd, r);
    }
}

TEST(gives_up_on_silence_and_tries_again)
{
    start(stalls);
    larder_error err = {0};
    CHECK_OK(pull("o/r", &err));
    CHECK_EQ_INT(last_request.from, 100000);
    check_stored();
}

static void always_busy(int fd, const request *r)
{
    (void)r;
    say(fd, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}
static void busy_once(int fd, const request *r)
{
    if (r->no % 2) say(fd, "HTTP/1.1 429 Slow\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    else good(fd, r);
}

TEST(busy_servers)
{
    larder_error err = {0};
    start(always_busy);
    check_failed(pull("o/r", &err), &err, "HTTP 503");
    CHECK_EQ_INT(n_requests, 3);
    start(busy_once);
    CHECK_OK(pull("o/r", &err));
    check_stored();
}

static void refuses(int fd, const request *r)
{
    say(fd, "HTTP/1.1 %d No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", strstr(r->path, "gated") ? 401 : 404);
}

TEST(refusals_are_not_repeated)
{
    larder_error err = {0};
    start(refuses);
    check_failed(pull("o/gated", &err), &err, "HF_TOKEN");
    check_failed(pull("o/r", &err), &err, "not there (HTTP 404)");
    CHECK_EQ_INT(n_requests, 2);
    setenv("HF_ENDPOINT", "http://127.0.0.1:1", 1);
    check_failed(pull("o/r", &err), &err, "list of files");
}

TEST(cancelling_keeps_the_part)
{
    larder_error err = {0};
    start(stalls);
    cancel_after = 2;
    CHECK(pull("o/r", &err) == LARDER_CANCELLED);
    CHECK(!lr_is_dir(in_store("o/r/Q4_0")));
    usleep(2600000); /* the server's stalled answer */
    start(good);
    CHECK_OK(pull("o/r", &err));
    check_stored();
}

/* ---------------------------------------------------------------- lies */

static void longer(int fd, const request *r)
{
    if (is_tree(r)) say_tree(fd);
    else {
        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", n_model + 1);
        (void)!write(fd, model, n_model);
        (void)!write(fd, "x", 1);
    }
}
static void chunked_longer(int fd, const request *r)
{
    if (is_tree(r)) say_tree(fd);
    else {
        say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n%zx\r\n", n_model);
        (void)!write(fd, model, n_model);
        say(fd, "\r\n5\r\nhello\r\n0\r\n\r\n");
    }
}
static void shorter(int fd, const request *r)
{
    if (is_tree(r)) say_tree(fd);
    else {
        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n");
        (void)!write(fd, model, 1000);
    }
}
static void huge(int fd, const request *r)
{
    if (is_tree(r)) say_tree(fd);
    else say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\nConnection: close\r\n\r\nxxxx");
}
static void other_range(int fd, const request *r)
{
    if (is_tree(r)) say_tree(fd);
    else {
        say(fd,
            "HTTP/1.1 206 Part\r\nContent-Range: bytes 5-%zu/%zu\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
            n_model - 1, n_model, n_model - 5);
        (void)!write(fd, model + 5, n_model - 5);
    }
}

TEST(lies_about_length)
{
    larder_error err = {0};
    start(longer);
    check_failed(pull("o/r", &err), &err, "were promised");
    start(chunked_longer);
    check_failed(pull("o/r", &err), &err, "more than");
    start(shorter);
    check_failed(pull("o/r", &err), &err, "1000 bytes");
    start(huge);
    check_failed(pull("o/r", &err), &err, "were promised");
    start(other_range);
    check_failed(pull("o/r", &err), &err, "another part");
    finish();
}

static void wrong_bytes(int fd, const request *r)
{
    if (is_tree(r)) {
        say_tree(fd);
        return;
    }
    model[1000] ^= 1;
    say_model(fd, r);
    model[1000] ^= 1;
}

TEST(wrong_checksum)
{
    larder_error err = {0};
    start(wrong_bytes);
    check_failed(pull("o/r", &err), &err, "SHA-256");
    CHECK(!lr_is_file(in_store("o/r/Q4_0.part/m-Q4_0.gguf.part")) &&
          !lr_is_file(in_store("o/r/Q4_0.part/m-Q4_0.gguf")));
    CHECK_EQ_INT(n_requests, 2);
    finish();
}

static void no_model(int fd, const request *r)
{
    (void)r;
    say_json(fd, "<html>sign in</html>");
}

TEST(what_is_no_model_is_not_stored)
{
    larder_error err = {0};
    char url[300];
    start(no_model);
    snprintf(url, sizeof url, "http://localhost:%d/m-Q4_0.gguf", port);
    CHECK(pull(url, &err) == LARDER_FORMAT);
    CHECK(strstr(err.message, "no model"));
    CHECK(!lr_is_dir(in_store("localhost/m/Q4_0")));
    finish();
}

static const char *bad_list;
static void says_list(int fd, const request *r)
{
    (void)r;
    say_json(fd, bad_list);
}
static void endless_list(int fd, const request *r)
{
    char spaces[65536];
    (void)r;
    memset(spaces, ' ', sizeof spaces);
    say(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[");
    while (write(fd, spaces, sizeof spaces) > 0) {}
}

TEST(bad_lists)
{
    static const struct {
        const char *json, *why;
    } bad[] = {
        {"{}", "not a JSON array"},
        {"[", "not a JSON array"},
        {"[{}]", "not as it should be"},
        {"[{\"type\":\"file\",\"path\":\"../x-Q4_0.gguf\",\"size\":1}]", "outside the repository"},
        {"[{\"type\":\"file\",\"path\":\"a/../../x-Q4_0.gguf\",\"size\":1}]", "outside the repository"},
        {"[{\"type\":\"file\",\"path\":\"/etc/x-Q4_0.gguf\",\"size\":1}]", "outside the repository"},
        {"[{\"type\":\"file\",\"path\":\"a\\\\..\\\\x.gguf\",\"size\":1}]", "outside the repository"},
        {"[{\"type\":\"file\",\"path\":\"a\\nb.gguf\",\"size\":1}]", "outside the repository"},
        {"[{\"type\":\"file\",\"path\":\"\",\"size\":1}]", "outside the repository"},
        {"[{\"type\":\"file\",\"path\":\"x.gguf\",\"size\":-1}]", "no proper size"},
        {"[{\"type\":\"file\",\"path\":\"x.gguf\",\"size\":1e9}]", "no proper size"},
        {"[{\"type\":\"file\",\"path\":\"x.gguf\"}]", "no proper size"},
        {"[{\"type\":\"file\",\"path\":\"x.gguf\",\"size\":1,\"lfs\":{\"oid\":\"../../x\",\"size\":1}}]",
         "no proper size or checksum"},
        {"[]", "neither a GGUF nor config.json"},
        {"[{\"type\":\"file\",\"path\":\"m-Q4_0.gguf\",\"size\":9000000000000000000}]", "not enough room"},
    };
    larder_error err = {0};
    start(says_list);
    for (size_t i = 0; i < LR_LEN(bad); i++) {
        bad_list = bad[i].json;
        check_failed(pull("o/r", &err), &err, bad[i].why);
    }
    start(endless_list);
    check_failed(pull("o/r", &err), &err, "longer than");
    finish();
}

/* ---------------------------------------------------------------- redirects */

static char redirect_to[400];
static void redirects(int fd, const request *r)
{
    if (is_tree(r)) say_tree(fd);
    else if (strstr(r->path, "/cdn/")) say_model(fd, r);
    else say(fd, "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", redirect_to);
}

TEST(token_stays_with_its_host)
{
    larder_error err = {0};
    start(redirects);
    setenv("HF_TOKEN", "hf_secret", 1);
    snprintf(redirect_to, sizeof redirect_to, "http://localhost:%d/cdn/x", port);
    CHECK_OK(pull("o/r", &err));
    CHECK(strncmp(last_request.host, "localhost", 9) == 0);
    CHECK_EQ_STR(last_request.authorization, "");
    CHECK_EQ_INT(n_with_token, 2); /* the list and the file, from the endpoint */
    CHECK_EQ_INT(n_to_other_host_with_token, 0);
    check_stored();
    start(redirects); /* a relative one stays at home, and needs it */
    setenv("HF_TOKEN", "hf_secret", 1);
    snprintf(redirect_to, sizeof redirect_to, "/cdn/x");
    CHECK_OK(pull("o/r", &err));
    CHECK_EQ_STR(last_request.authorization, "Bearer hf_secret");
    check_stored();
    start(redirects);
    setenv("HF_TOKEN", "bad\r\nX: y", 1);
    check_failed(pull("o/r", &err), &err, "token");
    unsetenv("HF_TOKEN");
}

TEST(redirects_that_are_refused)
{
    static const char *const to[][2] = {
        {"file:///etc/passwd", "'file' addresses are refused"},
        {"ftp://localhost/x", "'ftp' addresses are refused"},
        {"http://example.com/x", "http to example.com is refused"},
        {"http://169.254.169.254/latest", "http to 169.254.169.254 is refused"},
        {"gopher://localhost/x", "refused"},
        {"https://user:pass@localhost/x", "user or password"},
        {"/o/r/resolve/again", "more than 8 redirects"},
    };
    larder_error err = {0};
    start(redirects);
    for (size_t i = 0; i < LR_LEN(to); i++) {
        snprintf(redirect_to, sizeof redirect_to, "%s", to[i][0]);
        n_requests = 0;
        larder_status st = pull("o/r", &err);
        check_failed(st, &err, to[i][1]);
        CHECK(st == LARDER_IO && n_requests <= 10);
    }
    finish();
}

/* ---------------------------------------------------------------- names, neighbours */

TEST(names_are_checked_before_anything_is_asked)
{
    static const char *const bad[] = {"",      "r",    "../r", "o/..",  "o/r:../x",
                                      "o/r/x", "o /r", "o/r:", "http:", "http://"};
    larder_error err = {0};
    start(good);
    for (size_t i = 0; i < LR_LEN(bad); i++) CHECK(pull(bad[i], &err) == LARDER_USAGE);
    larder_pull_options o = {.revision = "../../x"};
    CHECK(larder_pull("o/r", &o, NULL, 0, &err) == LARDER_USAGE);
    o = (larder_pull_options){.endpoint = "http://example.com"};
    CHECK(larder_pull("o/r", &o, NULL, 0, &err) == LARDER_USAGE);
    o = (larder_pull_options){.endpoint = "ftp://127.0.0.1"};
    CHECK(larder_pull("o/r", &o, NULL, 0, &err) == LARDER_USAGE);
    CHECK_EQ_INT(n_requests, 0);
}

TEST(two_pulls_of_one_model)
{
    larder_error err = {0};
    start(good);
    put_part("x", 1, NULL);
    int fd = open(in_store("o/r/Q4_0.part"), O_RDONLY | O_DIRECTORY);
    CHECK(fd >= 0 && flock(fd, LOCK_EX) == 0); /* as another larder holds it */
    check_failed(pull("o/r", &err), &err, "being fetched by another larder");
    close(fd);
    CHECK_OK(pull("o/r", &err));
    check_stored();
}

TEST(links_in_the_store_are_not_followed)
{
    larder_error err = {0};
    start(good);
    put_part("x", 1, NULL);
    unlink(in_store("o/r/Q4_0.part/m-Q4_0.gguf.part"));
    save_bytes(temp_path("precious"), "precious", 8);
    CHECK(symlink(temp_path("precious"), in_store("o/r/Q4_0.part/m-Q4_0.gguf.part")) == 0);
    CHECK(pull("o/r", &err) != LARDER_OK);
    char *text;
    size_t n;
    CHECK_OK(lr_read_file(temp_path("precious"), 100, &text, &n, &err));
    CHECK_EQ_STR(text, "precious");
    lr_free(text);
    finish();
}

TEST(addresses)
{
    larder_error err = {0};
    CHECK(lr_url_is_of("https://Hub.example/x", "https://hub.example:443"));
    CHECK(!lr_url_is_of("https://hub.example.evil/x", "https://hub.example"));
    CHECK(!lr_url_is_of("https://hub.example:8443/x", "https://hub.example"));
    CHECK(!lr_url_is_of("http://hub.example/x", "https://hub.example"));
    CHECK(!lr_url_is_of("https://evil/https://hub.example", "https://hub.example"));
    CHECK_OK(lr_url_check("https://hub.example/x", &err));
    CHECK_OK(lr_url_check("http://[::1]:8000/x", &err));
    CHECK(lr_url_check("http://127.0.0.1.example/x", &err) == LARDER_USAGE);
    CHECK(lr_url_check("https://a\nb/", &err) == LARDER_USAGE);
    CHECK(lr_url_check("", &err) == LARDER_USAGE);
}

/* What a redirect from a public host may not reach. */
TEST(inner_addresses)
{
    static const char *const inner[] = {
        "127.0.0.1",   "127.255.0.1",     "10.1.2.3", "172.16.0.1",      "172.31.255.255",
        "192.168.0.1", "169.254.169.254", "0.0.0.0",  "100.64.0.1",      "::1",
        "::",          "fe80::1",         "fd00::1",  "::ffff:10.0.0.1", "::127.0.0.1"};
    static const char *const outer[] = {"1.1.1.1",     "172.15.0.1",      "172.32.0.1",    "192.167.0.1",
                                        "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8"};
    for (size_t i = 0; i < LR_LEN(inner); i++)
        if (!lr_address_is_private(inner[i])) TEST_FAIL("%s passed as public", inner[i]);
    for (size_t i = 0; i < LR_LEN(outer); i++)
        if (lr_address_is_private(outer[i])) TEST_FAIL("%s passed as private", outer[i]);
}

static void plain(int fd, const request *r)
{
    (void)r;
    say(fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", n_model);
    (void)!write(fd, model, r->no == 1 ? 100000 : n_model);
}

/* With neither a checksum nor a tag, nothing tells whose bytes a part holds: it is not used. */
TEST(nothing_to_tell_a_part_by)
{
    larder_error err = {0};
    char url[300];
    start(plain);
    snprintf(url, sizeof url, "http://localhost:%d/m-Q4_0.gguf", port);
    CHECK_OK(pull(url, &err));
    CHECK_EQ_INT(n_requests, 2);
    CHECK_EQ_STR(last_request.range, "");
    finish();
}
