/* hstu_fetch against a server that behaves: what is written, what it is compared with, what is refused. */
#include "fetch_support.h"

#include <errno.h>
#include <sys/wait.h>

static void downloads_a_file(void **state)
{
    fetch_test *t = *state;
    t->options.checksum = t->md5;
    fetch_ok(t);
    assert_int_equal(t->report.proof, HSTU_FETCH_GIVEN);
    assert_string_equal(t->report.checksum, t->md5);
    assert_string_equal(t->report.verified_by, "the given checksum");
    assert_int_equal(t->report.n_tries, 1);
    assert_int_equal(t->report.n_received_bytes, BODY_BYTES);
    assert_int_equal(t->report.n_resumed_bytes, 0);
    assert_false(t->report.already_there);
    assert_int_equal(t->n_warnings, 0);
    assert_int_equal(t->last_done, BODY_BYTES);
    assert_int_equal(t->last_total, BODY_BYTES);
    assert_int_equal(hstu_fetch(&t->options, NULL, NULL), HSTU_OK); /* neither report nor error is wanted */
}

static void takes_every_way_of_writing_a_checksum(void **state)
{
    fetch_test *t = *state;
    char upper[HS_CHECKSUM_TEXT];
    const char *const good[] = {t->md5, t->sha256, t->md5 + 4, t->sha256 + 7, upper};
    for (size_t i = 0; i <= strlen(t->sha256); i++)
        upper[i] = (char)(t->sha256[i] >= 'a' && t->sha256[i] <= 'f' ? t->sha256[i] - 'a' + 'A' : t->sha256[i]);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        t->options.checksum = good[i];
        fetch_ok(t);
        assert_int_equal(t->report.proof, HSTU_FETCH_GIVEN);
        (void)unlink(t->path);
    }
    const char *const bad[] = {"", "md5:", "md5:12", "sha1:0123456789012345678901234567890123456789", t->md5 + 5,
        "xd5:00000000000000000000000000000000", "0000000000000000000000000000000g"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        t->options.checksum = bad[i];
        fetch_fails(t, HSTU_EINVAL, "the given checksum must be md5:HEX");
    }
}

static void refuses_a_wrong_checksum(void **state)
{
    fetch_test *t = *state;
    t->options.checksum = "md5:00000000000000000000000000000000";
    fetch_fails(t, HSTU_EFORMAT, "expected md5:00000000000000000000000000000000 by the given checksum");
    assert_non_null(strstr(t->err.msg, t->md5));
    assert_int_equal(server_file_requests(&t->server), 1);
    assert_int_equal(count_entries(t->folder.folder), 0);
    t->options.checksum = t->md5;
    fetch_ok(t);
}

static void warns_without_a_checksum(void **state)
{
    fetch_test *t = *state;
    fetch_ok(t);
    assert_int_equal(t->report.proof, HSTU_FETCH_UNVERIFIED);
    assert_string_equal(t->report.verified_by, "");
    assert_string_equal(t->report.checksum, t->sha256);
    assert_int_equal(t->n_warnings, 1);
    assert_non_null(strstr(t->warning, "was not verified (no checksum was given); its checksum is sha256:"));
    (void)unlink(t->path);
    t->options.require_checksum = 1;
    fetch_fails(t, HSTU_EIO, "a checksum is required, and there is none: no checksum was given");
}

static void compares_with_the_record(void **state)
{
    fetch_test *t = *state;
    char record[512];
    (void)snprintf(record, sizeof record,
        "{\"id\": 7, \"files\": [{\"key\": \"other\", \"size\": 1, \"checksum\": "
        "\"md5:00000000000000000000000000000000\"},"
        "{\"key\": \"file.bin\", \"size\": %d, \"checksum\": \"%s\", \"links\": {}}]}",
        BODY_BYTES, t->md5);
    server_texts(&t->server, record, NULL);
    t->options.record_url = t->record_url;
    fetch_ok(t);
    assert_int_equal(t->report.proof, HSTU_FETCH_RECORD);
    assert_non_null(strstr(t->report.verified_by, "the list of files at http://127.0.0.1"));
    assert_int_equal(t->n_warnings, 0);
    (void)unlink(t->path);

    (void)snprintf(record, sizeof record, "{\"files\": [{\"key\": \"x y\", \"size\": %d, \"checksum\": \"%s\"}]}",
        BODY_BYTES + 1, t->md5);
    server_texts(&t->server, record, NULL);
    t->options.name = "x y";
    fetch_fails(t, HSTU_EFORMAT, "60000 bytes on the server, expected 60001 bytes by the list of files at");
    t->options.expected_bytes = BODY_BYTES;
    fetch_fails(t, HSTU_EFORMAT, "'x y' should have 60000 bytes, but the list at");
}

static void compares_with_the_checksum_file(void **state)
{
    fetch_test *t = *state;
    char sums[256];
    t->options.record_url = t->record_url; /* 404 */
    t->options.checksum_url = t->sums_url;
    (void)snprintf(sums, sizeof sums, "MD5 (file.bin) = %s\n", t->md5 + 4);
    server_texts(&t->server, NULL, sums);
    fetch_ok(t);
    assert_int_equal(t->report.proof, HSTU_FETCH_CHECKSUM_FILE);
    assert_non_null(strstr(t->report.verified_by, "the checksum file at http://127.0.0.1"));
    (void)unlink(t->path);
    (void)snprintf(sums, sizeof sums, "%s  ./a/file.bin\n", t->sha256 + 7);
    fetch_ok(t);
    assert_string_equal(t->report.checksum, t->sha256);
}

static void falls_back_when_no_list_can_be_read(void **state)
{
    fetch_test *t = *state;
    const char *const useless[] = {NULL, "", "[1]", "{\"files\": 3}", "{\"files\": []}", "not JSON",
        "{\"files\": [{\"key\": \"file.bin\", \"size\": 1, \"checksum\": \"crc:1\"}]}"};
    t->options.record_url = t->record_url;
    for (size_t i = 0; i < sizeof useless / sizeof *useless; i++) {
        server_texts(&t->server, useless[i], NULL);
        t->options.known_checksum = t->md5;
        t->n_warnings = 0;
        fetch_ok(t);
        assert_int_equal(t->report.proof, HSTU_FETCH_KNOWN);
        assert_int_equal(t->n_warnings, 0);
        (void)unlink(t->path);
        t->options.known_checksum = NULL;
        fetch_ok(t);
        assert_int_equal(t->report.proof, HSTU_FETCH_UNVERIFIED);
        assert_int_equal(t->n_warnings, 1);
        assert_non_null(strstr(t->warning, "was not verified ("));
        assert_non_null(strstr(t->warning, "/record"));
        (void)unlink(t->path);
    }
    t->options.require_checksum = 1;
    fetch_fails(t, HSTU_EIO, "a checksum is required, and there is none");
}

static void asks_for_a_list_more_than_once(void **state)
{
    fetch_test *t = *state;
    char sums[256];
    (void)snprintf(sums, sizeof sums, "%s\n", t->md5 + 4);
    server_texts(&t->server, NULL, sums);
    t->options.checksum_url = t->sums_url;
    server_ill(&t->server, 2);
    fetch_ok(t);
    assert_int_equal(t->report.proof, HSTU_FETCH_CHECKSUM_FILE);
    assert_int_equal(t->n_warnings, 2);
    (void)unlink(t->path);
    server_ill(&t->server, 3);
    fetch_ok(t);
    assert_int_equal(t->report.proof, HSTU_FETCH_UNVERIFIED);
    assert_non_null(strstr(t->warning, "answers 503 (unavailable now); gave up after 3 tries); its checksum is"));
}

static void bounds_a_list(void **state)
{
    fetch_test *t = *state;
    char *big = malloc((5 << 20) + 1);
    assert_non_null(big);
    memset(big, ' ', 5 << 20);
    big[5 << 20] = '\0';
    server_texts(&t->server, big, NULL);
    t->options.record_url = t->record_url;
    fetch_ok(t);
    assert_int_equal(t->report.proof, HSTU_FETCH_UNVERIFIED);
    assert_non_null(strstr(t->warning, "is longer than 4194304 bytes"));
    server_texts(&t->server, NULL, NULL);
    free(big);
}

static void leaves_the_right_file_alone(void **state)
{
    fetch_test *t = *state;
    scratch_write(&t->folder, "file.bin", t->body, BODY_BYTES);
    t->options.checksum = t->sha256;
    fetch_ok(t);
    assert_true(t->report.already_there);
    assert_int_equal(t->report.n_received_bytes, 0);
    assert_int_equal(server_requests(&t->server), 0);
    assert_int_equal(t->n_warnings, 0);
    t->options.checksum = NULL;
    fetch_ok(t);
    assert_true(t->report.already_there);
    assert_int_equal(t->n_warnings, 1);
    assert_int_equal(server_requests(&t->server), 0);
}

static void refuses_a_wrong_file_that_is_there(void **state)
{
    fetch_test *t = *state;
    static char wrong[BODY_BYTES];
    memcpy(wrong, t->body, BODY_BYTES);
    wrong[5]++;
    scratch_write(&t->folder, "file.bin", wrong, BODY_BYTES);
    t->options.checksum = t->md5;
    assert_int_equal(fetch(t), HSTU_EFORMAT);
    assert_non_null(strstr(t->err.msg, "is there but is not the right file: its checksum is md5:"));
    t->options.expected_bytes = BODY_BYTES - 1;
    assert_int_equal(fetch(t), HSTU_EFORMAT);
    assert_non_null(strstr(t->err.msg, "it has 60000 bytes, expected 59999"));
    assert_int_equal(server_requests(&t->server), 0);
    t->options.expected_bytes = -1;
    t->options.force = 1;
    fetch_ok(t);
    assert_false(t->report.already_there);
    assert_int_equal(server_file_requests(&t->server), 1);
    fetch_ok(t); /* the right file too */
    assert_int_equal(server_file_requests(&t->server), 2);
}

static void a_failed_replacement_leaves_the_old_file(void **state)
{
    fetch_test *t = *state;
    const misdeed no[] = {{.status = 403}};
    scratch_text(&t->folder, "file.bin", "old");
    server_plan(&t->server, no, 1);
    t->options.force = 1;
    assert_int_equal(fetch(t), HSTU_EIO);
    assert_whole(t, "old", 3);
}

static void follows_redirects(void **state)
{
    fetch_test *t = *state;
    char url[256];
    t->options.checksum = t->md5;
    t->options.url = url;
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d/hops/9", t->server.port);
    fetch_ok(t);
    assert_int_equal(t->report.n_tries, 1);
    (void)unlink(t->path);
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d/to/http://127.0.0.1:%d/file", t->server.port, t->server.port);
    fetch_ok(t);
}

static void asks_a_proxy(void **state)
{
    fetch_test *t = *state;
    char proxy[64];
    (void)snprintf(proxy, sizeof proxy, "http://127.0.0.1:%d", t->server.port);
    t->options.url = "http://data.example.org/file.bin";
    t->options.checksum = t->md5;
    assert_int_equal(setenv("http_proxy", proxy, 1), 0);
    fetch_ok(t);
    assert_string_equal(t->server.last_target, "http://data.example.org/file.bin");
    (void)unlink(t->path);
    /* A host that is not to be reached through it: the port that answers is the server's own. */
    assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
    assert_int_equal(setenv("no_proxy", "127.0.0.1", 1), 0);
    t->options.url = t->url;
    fetch_ok(t);
    assert_string_equal(t->server.last_target, "/file.bin");
    assert_int_equal(unsetenv("http_proxy") + unsetenv("no_proxy"), 0);
}

static void keeps_passwords_to_itself(void **state)
{
    fetch_test *t = *state;
    char url[256], info[600];
    const misdeed cut[] = {{.cut = true, .cut_at = 5000}};
    (void)snprintf(url, sizeof url, "http://me:secret@127.0.0.1:%d/file.bin", t->server.port);
    server_plan(&t->server, cut, 1);
    t->options.url = url;
    t->options.max_tries = 1;
    fetch_fails(t, HSTU_EIO, "cannot download http://127.0.0.1:");
    assert_null(strstr(t->err.msg, "secret"));
    (void)snprintf(info, sizeof info, "%s.part.info", t->path);
    size_t n = 0;
    char *text = read_whole(info, &n);
    assert_null(strstr(text, "secret"));
    free(text);
}

static void checks_its_options(void **state)
{
    fetch_test *t = *state;
    const char *const bad[] = {"", "file:///etc/passwd", "ftp://x/y", "http://", "http:///x", "https://a b/c",
        "http://a/\x01", "HTTPS:/x", "//x/y"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        t->options.url = bad[i];
        fetch_fails(t, HSTU_EINVAL, "the URL ");
    }
    char longest[3000];
    memset(longest, 'a', sizeof longest);
    memcpy(longest, "http://", 7);
    longest[sizeof longest - 1] = '\0';
    t->options.url = longest;
    fetch_fails(t, HSTU_EINVAL, "the URL is longer than 2047 bytes");
    t->options.url = t->url;
    t->options.record_url = "file:///x";
    fetch_fails(t, HSTU_EINVAL, "the record's URL must begin with http");
    test_options(t);
    t->options.checksum_url = "x";
    fetch_fails(t, HSTU_EINVAL, "the checksum file's URL must begin with http");
    test_options(t);
    t->options.max_tries = 0;
    fetch_fails(t, HSTU_EINVAL, "max_tries must be from 1 to 1000, found 0");
    test_options(t);
    t->options.max_bytes = 0;
    fetch_fails(t, HSTU_EINVAL, "max_bytes must be from 1");
    test_options(t);
    t->options.path = t->folder.folder;
    assert_int_equal(fetch(t), HSTU_EINVAL);
    assert_non_null(strstr(t->err.msg, "it is not a regular file"));
    char deep[1100];
    memset(deep, 'd', sizeof deep);
    deep[sizeof deep - 1] = '\0';
    t->options.path = deep;
    assert_int_not_equal(fetch(t), HSTU_OK); /* the system's limit or ours */
    deep[1020] = '\0';
    for (size_t i = 0; i < 1000; i += 2)
        memcpy(deep + i, "./", 2);
    fetch_fails(t, HSTU_EINVAL, "is too long");
    t->options.path = "";
    fetch_fails(t, HSTU_EINVAL, "the path of a file");
    t->options.size = 3;
    fetch_fails(t, HSTU_EINVAL, "hstu_fetch_options_init");
    assert_int_equal(hstu_fetch(NULL, NULL, NULL), HSTU_EINVAL);
    assert_int_equal(server_requests(&t->server), 0);
}

static void knows_data_sets(void **state)
{
    (void)state;
    size_t n = 0;
    for (const hstu_known_dataset *set; (set = hstu_known_dataset_at(n)); n++) {
        hs_checksum sum;
        assert_ptr_equal(hstu_known_dataset_find(set->name), set);
        assert_string_equal(strrchr(set->url, '/') + 1, set->archive);
        assert_memory_equal(set->url, "https://", 8);
        assert_true(set->record_url || set->checksum_url);
        assert_true(hs_checksum_parse(&sum, set->checksum, strlen(set->checksum)));
    }
    assert_int_equal(n, 5);
    assert_string_equal(hstu_known_dataset_find("kuairand-1k")->name, "KuaiRand-1K");
    assert_string_equal(hstu_known_dataset_find("ML-20M")->archive, "ml-20m.zip");
    assert_null(hstu_known_dataset_find("custom"));
    assert_null(hstu_known_dataset_find(NULL));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fetch_setup, fetch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(downloads_a_file),
        TEST(takes_every_way_of_writing_a_checksum),
        TEST(refuses_a_wrong_checksum),
        TEST(warns_without_a_checksum),
        TEST(compares_with_the_record),
        TEST(compares_with_the_checksum_file),
        TEST(falls_back_when_no_list_can_be_read),
        TEST(asks_for_a_list_more_than_once),
        TEST(bounds_a_list),
        TEST(leaves_the_right_file_alone),
        TEST(refuses_a_wrong_file_that_is_there),
        TEST(a_failed_replacement_leaves_the_old_file),
        TEST(follows_redirects),
        TEST(asks_a_proxy),
        TEST(keeps_passwords_to_itself),
        TEST(checks_its_options),
        cmocka_unit_test(knows_data_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
