/* A server, a folder and options for each test of hstu_fetch. */
#ifndef FETCH_SUPPORT_H
#define FETCH_SUPPORT_H

#include "bad_server.h"
#include "dataset/scratch.h"

#include "hstu/fetch.h"

#include "fetch/digest.h"

enum { BODY_BYTES = 60000 };

typedef struct fetch_test {
    bad_server server;
    scratch folder;
    char path[512], url[128], record_url[128], sums_url[128];
    char body[BODY_BYTES];
    char md5[HS_CHECKSUM_TEXT], sha256[HS_CHECKSUM_TEXT]; /* of the body */
    hstu_fetch_options options;
    hstu_fetch_report report;
    hstu_error err;
    int n_warnings;
    char warning[1024]; /* the last one */
    uint64_t last_done, last_total, cancel_at;
    volatile int cancel;
} fetch_test;

static inline void on_warn(void *ctx, const char *sentence)
{
    fetch_test *t = ctx;
    t->n_warnings++;
    (void)snprintf(t->warning, sizeof t->warning, "%s", sentence);
}

static inline void on_step(void *ctx, const char *stage, uint64_t done, uint64_t total)
{
    fetch_test *t = ctx;
    assert_true(strcmp(stage, "downloading") == 0 || strcmp(stage, "checking") == 0);
    assert_true(total == 0 || done <= total);
    t->last_done = done;
    t->last_total = total;
    if (t->cancel_at && done >= t->cancel_at)
        t->cancel = 1;
}

static inline void checksum_of(const void *data, size_t n, hs_checksum_kind kind, char out[HS_CHECKSUM_TEXT])
{
    hs_digest digest;
    hs_digest_start(&digest, kind);
    hs_digest_add(&digest, data, n);
    const hs_checksum sum = hs_digest_value(&digest);
    hs_checksum_text(&sum, out);
}

/* Retries come at once, and nothing waits long. */
static inline void test_options(fetch_test *t)
{
    hstu_fetch_options_init(&t->options);
    t->options.url = t->url;
    t->options.path = t->path;
    t->options.retry_base_ms = 1;
    t->options.retry_max_ms = 4;
    t->options.stall_timeout_ms = 20000;
    t->options.progress = (hstu_progress){.ctx = t, .step = on_step, .warn = on_warn, .cancel = &t->cancel};
    t->n_warnings = 0;
    t->warning[0] = '\0';
    t->cancel = 0;
    t->cancel_at = 0;
}

/* A file system in memory where there is one: the tests write to the disk thousands of times. */
static inline void open_folder(scratch *s)
{
    (void)snprintf(s->folder, sizeof s->folder, "/dev/shm/hstu_test_XXXXXX");
    if (!mkdtemp(s->folder))
        scratch_open(s);
}

static inline int fetch_setup(void **state)
{
    static const char *const variables[] = {"http_proxy", "https_proxy", "all_proxy", "ALL_PROXY", "HTTPS_PROXY",
        "no_proxy", "NO_PROXY", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"};
    fetch_test *t = calloc(1, sizeof *t);
    assert_non_null(t);
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        (void)unsetenv(variables[i]);
    uint32_t x = 1;
    for (size_t i = 0; i < sizeof t->body; i++) {
        x = 1664525 * x + 1013904223;
        t->body[i] = (char)(x >> 24);
    }
    checksum_of(t->body, sizeof t->body, HS_CHECKSUM_MD5, t->md5);
    checksum_of(t->body, sizeof t->body, HS_CHECKSUM_SHA256, t->sha256);
    server_start(&t->server, t->body, sizeof t->body);
    open_folder(&t->folder);
    (void)snprintf(t->path, sizeof t->path, "%s", scratch_path(&t->folder, "file.bin"));
    (void)snprintf(t->url, sizeof t->url, "http://127.0.0.1:%d/file.bin", t->server.port);
    (void)snprintf(t->record_url, sizeof t->record_url, "http://127.0.0.1:%d/record", t->server.port);
    (void)snprintf(t->sums_url, sizeof t->sums_url, "http://127.0.0.1:%d/sums", t->server.port);
    test_options(t);
    *state = t;
    return 0;
}

static inline int fetch_teardown(void **state)
{
    fetch_test *t = *state;
    server_stop(&t->server);
    remove_folder(t->folder.folder);
    free(t);
    return 0;
}

static inline hstu_status fetch(fetch_test *t)
{
    memset(&t->err, 0, sizeof t->err);
    memset(&t->report, 0xee, sizeof t->report);
    const hstu_status status = hstu_fetch(&t->options, &t->report, &t->err);
    if (status != HSTU_OK) {
        /* One sentence that says something, and the report untouched. */
        assert_int_equal(t->err.code, status);
        assert_true(strlen(t->err.msg) > 5 && !strchr(t->err.msg, '\n'));
        assert_int_equal(t->report.n_bytes, 0xeeeeeeeeeeeeeeee);
    }
    return status;
}

/* The target is there, whole and right, and nothing else is in the folder. */
static inline void assert_whole(fetch_test *t, const char *body, size_t n)
{
    size_t found = 0;
    char *data = read_whole(t->path, &found);
    assert_int_equal(found, n);
    assert_memory_equal(data, body, n);
    free(data);
    assert_int_equal(count_entries(t->folder.folder), 1);
}

static inline void fetch_ok(fetch_test *t)
{
    if (fetch(t) != HSTU_OK)
        fail_msg("%s", t->err.msg);
    assert_whole(t, t->body, t->server.body_len);
    assert_int_equal(t->report.n_bytes, t->server.body_len);
}

/* The call fails with this status and these words, and the target is not there. */
static inline void fetch_fails(fetch_test *t, hstu_status status, const char *words)
{
    const hstu_status found = fetch(t);
    if (found != status || !strstr(t->err.msg, words))
        fail_msg("expected %d with '%s', found %d with '%s'", (int)status, words, (int)found, t->err.msg);
    assert_int_not_equal(access(t->path, F_OK), 0);
}

#endif
