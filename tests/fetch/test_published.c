/* The readers of what servers send: lists of files, checksum files, heads of answers; and of our own description of a part. */
#include "dataset/cmocka_all.h"

#include "fetch/partinfo.h"
#include "fetch/published.h"
#include "fetch/response.h"
#include "fetch/sigpipe.h"
#include "fetch/url.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define HEX32 "0123456789abcdef0123456789abcdef"
#define OTHER32 "ffffffffffffffffffffffffffffffff"
#define HEX64 HEX32 HEX32

static hstu_status record(hs_published *out, const char *text, hstu_error *err)
{
    return hs_published_record(out, text, strlen(text), "a.tar.gz", "http://h/r", err);
}

static hstu_status sums(hs_published *out, const char *text, hstu_error *err)
{
    return hs_published_checksums(out, text, strlen(text), "a.zip", "http://h/s", err);
}

static void reads_records(void **state)
{
    (void)state;
    char text[HS_CHECKSUM_TEXT];
    hs_published p;
    assert_int_equal(
        record(&p, "{\"files\":[{\"key\":\"a.tar.gz\",\"size\":5,\"checksum\":\"md5:" HEX32 "\"}]}", NULL), HSTU_OK);
    hs_checksum_text(&p.checksum, text);
    assert_string_equal(text, "md5:" HEX32);
    assert_int_equal(p.bytes, 5);
    assert_int_equal(
        record(&p,
            " {\"x\":{},\"entries\":[{\"key\":\"b\"},{\"key\":\"a.tar.gz\",\"checksum\":\"SHA256:" HEX64 "\"}]}\n",
            NULL),
        HSTU_OK);
    hs_checksum_text(&p.checksum, text);
    assert_string_equal(text, "sha256:" HEX64);
    assert_int_equal(p.bytes, -1);
}

static void refuses_bad_records(void **state)
{
    (void)state;
    const struct {
        const char *text, *words;
        hstu_status status;
    } bad[] = {
        {"", "expected JSON, found nothing", HSTU_EFORMAT},
        {"[]", "expected an object with an array 'files'", HSTU_EFORMAT},
        {"{\"files\":{}}", "expected an object with an array 'files'", HSTU_EFORMAT},
        {"{\"files\":[1]}", "is not an object", HSTU_EFORMAT},
        {"{\"files\":[{\"key\":1}]}", "'key' must be a string", HSTU_EFORMAT},
        {"{\"files\":[{\"key\":\"a.tar.gz\"}]}", "has no md5 or sha256 checksum, found ''", HSTU_EFORMAT},
        {"{\"files\":[{\"key\":\"a.tar.gz\",\"checksum\":\"md5:12\"}]}", "found 'md5:12'", HSTU_EFORMAT},
        {"{\"files\":[{\"key\":\"a.tar.gz\",\"checksum\":5}]}", "'checksum' must be a string", HSTU_EFORMAT},
        {"{\"files\":[{\"key\":\"a.tar.gz\",\"checksum\":\"" HEX32 "\",\"size\":-2}]}", "below zero", HSTU_EFORMAT},
        {"{\"files\":[{\"key\":\"a.tar.gz\",\"checksum\":\"" HEX32 "\",\"size\":1.5}]}", "whole number", HSTU_EFORMAT},
        {"{\"files\":[{\"key\":\"a.tar.gz\",\"checksum\":\"" HEX32 "\",\"size\":1e300}]}", "whole number",
            HSTU_EFORMAT},
        {"{\"files\":[{\"key\":\"a.tar.gz\",\"checksum\":\"" HEX32 "\"},{\"key\":\"a.tar.gz\",\"checksum\":\"" HEX32
         "\"}]}",
            "names 'a.tar.gz' twice", HSTU_EFORMAT},
        {"{\"files\":[{\"key\":\"A.tar.gz\",\"checksum\":\"" HEX32 "\"}]}", "names no file 'a.tar.gz'", HSTU_ENOENT},
        {"{\"files\":[]} x", "text after the end", HSTU_EFORMAT},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        hs_published p = {.bytes = 77};
        hstu_error err = {0};
        assert_int_equal(record(&p, bad[i].text, &err), bad[i].status);
        if (!strstr(err.msg, bad[i].words) || !strstr(err.msg, "http://h/r"))
            fail_msg("expected '%s', found '%s'", bad[i].words, err.msg);
        assert_int_equal(p.bytes, 77);
    }
}

static void reads_checksum_files(void **state)
{
    (void)state;
    const char *const good[] = {"MD5 (a.zip) = " HEX32 "\n", "md5 (a.zip) = " HEX32, "MD5 (x/a.zip)= " HEX32 "\r\n",
        HEX32 "  a.zip\n", HEX32 " *a.zip\n", HEX32 "\n", HEX32,
        "\n\n# sums\n" OTHER32 "  b.zip\n" HEX32 "  ./d/a.zip\n",
        OTHER32 "  xa.zip\n" HEX32 "  a.zip\n" HEX32 "  a.zip\n", "\t" HEX32 "\ta.zip \r\n", "md5:" HEX32 "  a.zip"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        hs_published p;
        hstu_error err = {0};
        char text[HS_CHECKSUM_TEXT];
        if (sums(&p, good[i], &err) != HSTU_OK)
            fail_msg("%zu: %s", i, err.msg);
        hs_checksum_text(&p.checksum, text);
        assert_string_equal(text, "md5:" HEX32);
        assert_int_equal(p.bytes, -1);
    }
    hs_published p;
    assert_int_equal(sums(&p, "SHA256 (a.zip) = " HEX64, NULL), HSTU_OK);
    assert_int_equal(p.checksum.kind, HS_CHECKSUM_SHA256);
}

static void refuses_bad_checksum_files(void **state)
{
    (void)state;
    const struct {
        const char *text, *words;
        hstu_status status;
    } bad[] = {
        {"", "names no file 'a.zip'", HSTU_ENOENT},
        {"<html>", "expected lines of checksums, found '<html>'", HSTU_EFORMAT},
        {HEX32 "0  a.zip", "expected lines of checksums", HSTU_EFORMAT},
        {"MD5 (a.zip) = " HEX64, "expected lines of checksums", HSTU_EFORMAT},
        {"MD5 (a.zip = " HEX32, "expected lines of checksums", HSTU_EFORMAT},
        {"MD5 (", "expected lines of checksums", HSTU_EFORMAT},
        {"MD5 ()", "expected lines of checksums", HSTU_EFORMAT},
        {"SHA256 (a.zip) " HEX64, "expected lines of checksums", HSTU_EFORMAT},
        {HEX32 "  b.zip", "names no file 'a.zip'", HSTU_ENOENT},
        {"MD5 (a.zip/) = " HEX32, "names no file 'a.zip'", HSTU_ENOENT},
        {HEX32 "  a.zip\n" OTHER32 "  a.zip\n", "two different checksums for 'a.zip'", HSTU_EFORMAT},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        hs_published p = {.bytes = 77};
        hstu_error err = {0};
        assert_int_equal(sums(&p, bad[i].text, &err), bad[i].status);
        if (!strstr(err.msg, bad[i].words) || !strstr(err.msg, "http://h/s"))
            fail_msg("expected '%s', found '%s'", bad[i].words, err.msg);
        assert_int_equal(p.bytes, 77);
    }
    hstu_error err = {0};
    hs_published p;
    assert_int_equal(hs_published_checksums(&p, "a\0b", 3, "a", "http://h/s", &err), HSTU_EFORMAT);
    assert_non_null(strstr(err.msg, "NUL byte"));
}

static void feed(hs_response *r, const char *const *line, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hs_response_line(r, line[i], strlen(line[i]));
}

#define FEED(r, ...)                                                                                                   \
    feed(r, (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void reads_heads(void **state)
{
    (void)state;
    hs_response r = {0};
    FEED(&r, "HTTP/1.1 206 Partial Content\r\n", "content-LENGTH:  12 \r\n", "Content-Range: bytes 5-16/100\r\n",
        "ETag: \"x y\"\r\n", "Last-Modified: Tue, 31 Dec 2024 23:59:00 GMT\r\n",
        "Date: Wed, 01 Jan 2025 00:00:00 GMT\r\n", "Retry-After: 7\r\n", "X-Other: \x01\x02\r\n", "no colon\r\n",
        "\r\n");
    assert_int_equal(r.status, 206);
    assert_int_equal(r.length, 12);
    assert_int_equal(r.range_first, 5);
    assert_int_equal(r.range_last, 16);
    assert_int_equal(r.range_total, 100);
    assert_int_equal(r.retry_after_s, 7);
    assert_false(r.chunked || r.self_delimiting);
    assert_string_equal(hs_response_validator(&r), "\"x y\"");
    FEED(&r, "HTTP/2 200\r\n", "Content-Range: bytes */33\n", "Transfer-Encoding: Chunked");
    assert_int_equal(r.status, 200);
    assert_int_equal(r.length, -1);
    assert_int_equal(r.range_first, -1);
    assert_int_equal(r.range_total, 33);
    assert_true(r.chunked && r.self_delimiting);
    assert_string_equal(hs_response_validator(&r), "");
}

static void takes_nothing_from_malformed_fields(void **state)
{
    (void)state;
    const char *const ranges[] = {"bytes 5-4/10", "bytes 0-10/10", "bytes -1/10", "bytes 0-9", "bytes 0-9/",
        "bytes 0-9/10x", "items 0-9/10", "bytes 0-/10", "bytes 99999999999999999999-1/2", "bytes  ", ""};
    const char *const numbers[] = {"", "-1", "+1", "1 2", "0x10", "9999999999999999999", "1,1", "1;"};
    const char *const statuses[] = {
        "HTTP/1.1", "HTTP/1.1 ", "HTTP/1.1 99", "HTTP/1.1 1000 x", "HTTP/1.1 -200", "HTTP/"};
    char line[200];
    hs_response r;
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        (void)snprintf(line, sizeof line, "Content-Range: %s\r\n", ranges[i]);
        FEED(&r, "HTTP/1.1 206 x\r\n", line);
        assert_int_equal(r.range_first, -1);
        assert_int_equal(r.range_total, -1);
    }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        (void)snprintf(line, sizeof line, "Content-Length: %s\r\n", numbers[i]);
        FEED(&r, "HTTP/1.1 200 x\r\n", line);
        assert_int_equal(r.length, -1);
        (void)snprintf(line, sizeof line, "Retry-After: %s\r\n", numbers[i]);
        FEED(&r, "HTTP/1.1 503 x\r\n", line);
        assert_int_equal(r.retry_after_s, -1);
    }
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        FEED(&r, statuses[i]);
        assert_int_equal(r.status, 0);
    }
    char tag[400] = "ETag: \"";
    memset(tag + 7, 'a', 300);
    (void)snprintf(tag + 307, sizeof tag - 307, "\"\r\n");
    FEED(&r, "HTTP/1.1 200 x", tag);
    assert_string_equal(r.etag, "");
    FEED(&r, "HTTP/1.1 200 x", "ETag: \"a\tb\"");
    assert_string_equal(r.etag, "");
    FEED(&r, "HTTP/1.1 200 x", "ETag: W/\"a\"", "Transfer-Encoding: gzip, chunked");
    assert_string_equal(r.etag, "W/\"a\"");
    assert_string_equal(hs_response_validator(&r), "");
    assert_false(r.chunked);
}

static void a_description_comes_back_as_it_was(void **state)
{
    (void)state;
    char text[HS_PARTINFO_MAX_BYTES];
    const char *const line[] = {"hstu-part 1", "url http://h/f", "etag W/\"x y\"",
        "modified Tue, 31 Dec 2024 23:59:00 GMT", "validator ", "size 12", ("checksum md5:" HEX32), "end ."};
    const size_t n_lines = sizeof line / sizeof *line;
    int n = 0;
    for (size_t i = 0; i < n_lines; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s\n", line[i]);
    hs_partinfo info;
    assert_true(hs_partinfo_parse(&info, text, (size_t)n));
    assert_string_equal(info.url, "http://h/f");
    assert_string_equal(info.etag, "W/\"x y\"");
    assert_string_equal(info.modified, "Tue, 31 Dec 2024 23:59:00 GMT");
    assert_string_equal(info.validator, "");
    assert_int_equal(info.bytes, 12);
    assert_int_equal(info.checksum.kind, HS_CHECKSUM_MD5);
    /* Cut at any byte, longer, or with a line less, it is none. */
    hs_partinfo untouched = {.bytes = 77};
    for (int cut = 0; cut < n; cut++)
        assert_false(hs_partinfo_parse(&untouched, text, (size_t)cut));
    text[n] = 'x';
    assert_false(hs_partinfo_parse(&untouched, text, (size_t)n + 1));
    for (size_t without = 0; without < n_lines; without++) {
        n = 0;
        for (size_t i = 0; i < n_lines; i++)
            n += i == without ? 0 : snprintf(text + n, sizeof text - (size_t)n, "%s\n", line[i]);
        assert_false(hs_partinfo_parse(&untouched, text, (size_t)n));
    }
    assert_int_equal(untouched.bytes, 77);
}

static void urls_are_taken_apart(void **state)
{
    (void)state;
    const struct {
        const char *url, *shown, *name;
    } good[] = {{"http://h/a/b.zip?x=/y#z", "http://h/a/b.zip?x=/y#z", "b.zip"},
        {"https://u:p@h:1/f", "https://h:1/f", "f"}, {"http://u@v@h/f@g", "http://h/f@g", "f@g"},
        {"http://h", "http://h", ""}, {"http://h/", "http://h/", ""}, {"HTTP://h/f/", "HTTP://h/f/", ""},
        {"http://h?a/b", "http://h?a/b", ""}};
    char shown[100], name[100];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(hs_url_check(good[i].url, "the URL", NULL), HSTU_OK);
        hs_url_show(good[i].url, shown, sizeof shown);
        assert_string_equal(shown, good[i].shown);
        hs_url_name(good[i].url, name, sizeof name);
        assert_string_equal(name, good[i].name);
    }
    hs_url_show("http://user:password@host/path", shown, 10);
    assert_string_equal(shown, "http://ho");
}

static void a_broken_connection_does_not_end_the_program(void **state)
{
    (void)state;
    hs_sigpipe outer, inner;
    sigset_t waiting;
    hs_sigpipe_hold(&outer);
    hs_sigpipe_hold(&inner);
    assert_int_equal(pthread_kill(pthread_self(), SIGPIPE), 0);
    hs_sigpipe_release(&inner);
    assert_true(sigpending(&waiting) == 0 && !sigismember(&waiting, SIGPIPE));
    /* One that was there before is not ours to take. */
    assert_int_equal(pthread_kill(pthread_self(), SIGPIPE), 0);
    hs_sigpipe_hold(&inner);
    hs_sigpipe_release(&inner);
    assert_true(sigpending(&waiting) == 0 && sigismember(&waiting, SIGPIPE));
    hs_sigpipe_release(&outer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_records),
        cmocka_unit_test(refuses_bad_records),
        cmocka_unit_test(reads_checksum_files),
        cmocka_unit_test(refuses_bad_checksum_files),
        cmocka_unit_test(reads_heads),
        cmocka_unit_test(takes_nothing_from_malformed_fields),
        cmocka_unit_test(a_description_comes_back_as_it_was),
        cmocka_unit_test(urls_are_taken_apart),
        cmocka_unit_test(a_broken_connection_does_not_end_the_program),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
