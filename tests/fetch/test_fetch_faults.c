/* hstu_fetch against a server that misbehaves: every fault ends in one sentence, and a second call completes. */
#include "fetch_support.h"

/* The shortest body that has every stage: cuts are tried at all its bytes. */
enum { SMALL = 500 };

static void use_small(fetch_test *t)
{
    t->server.body_len = SMALL;
    checksum_of(t->body, SMALL, HS_CHECKSUM_MD5, t->md5);
    t->options.checksum = t->md5;
}

/* The size of a head and of the whole answer, measured with the first download. */
static size_t answer_bytes(fetch_test *t)
{
    fetch_ok(t);
    (void)pthread_mutex_lock(&t->server.mutex);
    const size_t n = t->server.n_sent;
    (void)pthread_mutex_unlock(&t->server.mutex);
    (void)unlink(t->path);
    return n;
}

static void survives_a_cut_at_every_byte(void **state)
{
    fetch_test *t = *state;
    use_small(t);
    const size_t whole = answer_bytes(t), head = whole - SMALL;
    t->options.max_tries = 1;
    for (size_t at = 0; at < whole; at++) {
        const misdeed cut[] = {{.cut = true, .cut_at = at}};
        server_plan(&t->server, cut, 1);
        fetch_fails(t, HSTU_EIO, "cannot download http://127.0.0.1");
        fetch_ok(t);
        assert_int_equal(t->report.n_resumed_bytes, at > head ? at - head : 0);
        assert_int_equal(server_last_range(&t->server), at > head ? (long)(at - head) : -1);
        (void)unlink(t->path);
    }
}

static void goes_on_after_cuts_by_itself(void **state)
{
    fetch_test *t = *state;
    misdeed cuts[20];
    for (size_t i = 0; i < 20; i++)
        cuts[i] = (misdeed){.cut = true, .cut_at = 1000};
    t->options.checksum = t->md5;
    t->options.max_tries = 21;
    server_plan(&t->server, cuts, 20);
    fetch_ok(t);
    assert_int_equal(t->report.n_tries, 21);
    assert_int_equal(t->report.n_received_bytes, BODY_BYTES);
    assert_int_equal(t->n_warnings, 20);
    assert_non_null(strstr(t->warning, "trying again in"));
}

static void patience_is_renewed_by_progress(void **state)
{
    fetch_test *t = *state;
    static char large[4 << 20];
    misdeed cuts[3];
    char md5[HS_CHECKSUM_TEXT];
    memset(large, 'l', sizeof large);
    checksum_of(large, sizeof large, HS_CHECKSUM_MD5, md5);
    for (size_t i = 0; i < 3; i++)
        cuts[i] = (misdeed){.cut = true, .cut_at = 5 << 18, .body = large, .body_len = sizeof large};
    const misdeed plan[] = {cuts[0], cuts[1], cuts[2], {.body = large, .body_len = sizeof large}};
    server_plan(&t->server, plan, 4);
    t->options.checksum = md5;
    t->options.max_tries = 2; /* in a row without a MiB */
    if (fetch(t) != HSTU_OK)
        fail_msg("%s", t->err.msg);
    assert_whole(t, large, sizeof large);
    assert_int_equal(t->report.n_tries, 4);
}

static void gives_up_in_the_end(void **state)
{
    fetch_test *t = *state;
    misdeed cuts[8];
    for (size_t i = 0; i < 8; i++)
        cuts[i] = (misdeed){.cut = true, .cut_at = 1000};
    server_plan(&t->server, cuts, 8);
    fetch_fails(t, HSTU_EIO, "gave up after 6 tries");
    assert_int_equal(server_file_requests(&t->server), 6);
    fetch_ok(t);
    assert_true(t->report.n_resumed_bytes > 3000);
}

static void survives_short_reads(void **state)
{
    fetch_test *t = *state;
    const misdeed slow[] = {{.piece = 7}};
    use_small(t);
    t->options.stall_timeout_ms = 1;
    t->options.stall_bytes = 0; /* any pace will do */
    server_plan(&t->server, slow, 1);
    fetch_ok(t);
    assert_int_equal(t->report.n_tries, 1);
}

static void tells_answers_that_bring_no_file(void **state)
{
    fetch_test *t = *state;
    const struct {
        int status;
        hstu_status code;
        const char *words;
    } final[] = {{404, HSTU_ENOENT, "the server has no file http://127.0.0.1"}, {410, HSTU_ENOENT, "it answers 410"},
        {403, HSTU_EIO, "the server answers 403 (access refused)"}, {401, HSTU_EIO, "401 (it wants a user name"},
        {400, HSTU_EIO, "answers 400"}, {204, HSTU_EIO, "answers 204"}, {206, HSTU_EIO, "answers 206"},
        {300, HSTU_EIO, "answers 300"}, {304, HSTU_EIO, "answers 304"}, {416, HSTU_EIO, "answers 416"},
        {501, HSTU_EIO, "answers 501"}};
    for (size_t i = 0; i < sizeof final / sizeof *final; i++) {
        const misdeed deed[] = {{.status = final[i].status}};
        server_plan(&t->server, deed, 1);
        fetch_fails(t, final[i].code, final[i].words);
        assert_int_equal(server_file_requests(&t->server), 1);
        assert_int_equal(count_entries(t->folder.folder), 0);
    }
    fetch_ok(t);
}

static void tries_again_when_the_server_is_ill(void **state)
{
    fetch_test *t = *state;
    const int status[] = {500, 502, 503, 504, 429, 408, 425, 599};
    for (size_t i = 0; i < sizeof status / sizeof *status; i++) {
        const misdeed deed[] = {{.status = status[i]}, {.status = status[i]}};
        server_plan(&t->server, deed, 2);
        fetch_ok(t);
        assert_int_equal(t->report.n_tries, 3);
        (void)unlink(t->path);
    }
    misdeed always[6];
    for (size_t i = 0; i < 6; i++)
        always[i] = (misdeed){.status = 503};
    server_plan(&t->server, always, 6);
    fetch_fails(t, HSTU_EIO, "the server answers 503 (unavailable now); gave up after 6 tries");
}

static double now_s(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void waits_as_long_as_the_server_asks(void **state)
{
    fetch_test *t = *state;
    const misdeed soon[] = {{.status = 503, .header = "Retry-After: 1\r\n"}};
    const misdeed dated[] = {{.status = 429,
        .header = "Date: Wed, 01 Jan 2025 00:00:00 GMT\r\nRetry-After: Wed, 01 Jan 2025 00:00:01 GMT\r\n"}};
    const misdeed late[] = {{.status = 503, .header = "Retry-After: 86401\r\n"}};
    const misdeed odd[] = {{.status = 503, .header = "Retry-After: 99999999999999999999999\r\n"}};
    double begin = now_s();
    server_plan(&t->server, soon, 1);
    fetch_ok(t);
    assert_true(now_s() - begin >= 0.99);
    (void)unlink(t->path);
    begin = now_s();
    server_plan(&t->server, dated, 1);
    fetch_ok(t);
    assert_true(now_s() - begin >= 0.99);
    (void)unlink(t->path);
    server_plan(&t->server, late, 1);
    fetch_fails(t, HSTU_EIO, "it asks to come back in 86401 s: please try again then");
    server_plan(&t->server, odd, 1);
    fetch_ok(t);
}

static void ends_redirects_that_lead_nowhere(void **state)
{
    fetch_test *t = *state;
    char url[256];
    const struct {
        const char *path, *words;
    } bad[] = {{"/loop", "the server redirects more than 10 times"}, {"/hops/11", "redirects more than 10 times"},
        {"/to/file:///etc/passwd", "redirects to file:///etc/passwd, which is neither http nor https"},
        {"/to/FTP://127.0.0.1/x", "which is neither http nor https"},
        {"/to/scp://x/y", "which is neither http nor https"},
        {"/nowhere", "the server redirects (302) to no usable place"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        (void)snprintf(url, sizeof url, "http://127.0.0.1:%d%s", t->server.port, bad[i].path);
        t->options.url = url;
        const hstu_status status = i < 2 ? HSTU_EIO : HSTU_EFORMAT;
        fetch_fails(t, status, bad[i].words);
    }
    assert_int_equal(server_file_requests(&t->server), 0);
    t->options.url = t->url;
    fetch_ok(t);
}

static void notices_a_stall(void **state)
{
    fetch_test *t = *state;
    use_small(t);
    const size_t whole = answer_bytes(t);
    const size_t at[] = {0, 10, whole - SMALL, whole - SMALL / 2, whole - 1};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        const misdeed hold[] = {{.hold = true, .hold_at = at[i]}};
        server_plan(&t->server, hold, 1);
        t->options.stall_timeout_ms = 100;
        t->options.max_tries = 1;
        fetch_fails(t, HSTU_EIO, "the transfer stalled");
        t->options.stall_timeout_ms = 20000;
        fetch_ok(t);
        (void)unlink(t->path);
    }
    const misdeed hold[] = {{.hold = true, .hold_at = whole - 1}};
    server_plan(&t->server, hold, 1);
    t->options.stall_timeout_ms = 500;
    t->options.max_tries = 20; /* a machine under load may stall by itself */
    fetch_ok(t);
    assert_true(t->report.n_tries >= 2);
}

static void survives_a_wrong_length(void **state)
{
    fetch_test *t = *state;
    const misdeed longer[] = {{.length_lie = 10}, {.length_lie = 10}}, shorter[] = {{.length_lie = -10}};
    t->options.checksum = t->md5;
    t->options.max_tries = 1;
    server_plan(&t->server, longer, 1);
    fetch_fails(t, HSTU_EIO, "cannot download");
    fetch_ok(t); /* the server has nothing behind these bytes, though there was to be more: from the beginning */
    (void)unlink(t->path);
    server_plan(&t->server, shorter, 1);
    fetch_fails(t, HSTU_EFORMAT, "arrived with the checksum");
    assert_int_equal(count_entries(t->folder.folder), 0);
    fetch_ok(t);
    (void)unlink(t->path);
    t->options.expected_bytes = BODY_BYTES;
    server_plan(&t->server, shorter, 1);
    fetch_fails(t, HSTU_EFORMAT, "has 59990 bytes on the server, expected 60000 bytes");
    server_plan(&t->server, longer, 1);
    fetch_fails(t, HSTU_EFORMAT, "has 60010 bytes on the server, expected 60000 bytes");
    fetch_ok(t);
}

static void begins_anew_without_ranges(void **state)
{
    fetch_test *t = *state;
    const misdeed deeds[] = {{.cut = true, .cut_at = 20000}, {.ignore_range = true}};
    server_plan(&t->server, deeds, 2);
    fetch_ok(t);
    assert_int_equal(t->report.n_tries, 2);
    assert_true(t->report.n_received_bytes > BODY_BYTES);
    assert_string_equal(t->report.checksum, t->sha256);
}

static void never_joins_two_files(void **state)
{
    fetch_test *t = *state;
    static char other[BODY_BYTES];
    memset(other, 'o', sizeof other);
    /* In turn: If-Range tells; the server knows no If-Range, and its tag tells; nothing but the size tells. */
    const misdeed deeds[][2] = {
        {{.cut = true, .cut_at = 20000, .body = other, .body_len = sizeof other, .etag = "\"v0\""}, {0}},
        {{.cut = true, .cut_at = 20000, .body = other, .body_len = sizeof other, .etag = "\"v0\""},
            {.ignore_if_range = true}},
        {{.cut = true, .cut_at = 20000, .body = other, .body_len = 50000}, {.ignore_if_range = true}},
    };
    for (size_t i = 0; i < sizeof deeds / sizeof *deeds; i++) {
        server_plan(&t->server, deeds[i], 2);
        fetch_ok(t);
        assert_string_equal(t->report.checksum, t->sha256);
        (void)unlink(t->path);
        /* The same over two calls. */
        t->options.max_tries = 1;
        server_plan(&t->server, deeds[i], 2);
        fetch_fails(t, HSTU_EIO, "cannot download");
        t->options.max_tries = 6;
        fetch_ok(t);
        (void)unlink(t->path);
    }
}

static void a_checksum_tells_what_no_tag_does(void **state)
{
    fetch_test *t = *state;
    static char other[BODY_BYTES];
    memset(other, 'o', sizeof other);
    const misdeed deeds[] = {{.cut = true, .cut_at = 20000, .body = other, .body_len = sizeof other}};
    server_identity(&t->server, "", NULL);
    t->options.checksum = t->md5;
    server_plan(&t->server, deeds, 1);
    fetch_ok(t);
    assert_int_equal(t->report.n_tries, 3); /* broken off, joined, anew */
    assert_non_null(strstr(t->warning, "downloading it anew"));
    (void)unlink(t->path);
    /* With the same file it is worth while to go on. */
    const misdeed cut[] = {{.cut = true, .cut_at = 20000}};
    server_plan(&t->server, cut, 1);
    fetch_ok(t);
    assert_int_equal(t->report.n_received_bytes, BODY_BYTES);
}

static void without_tag_and_checksum_nothing_is_resumed(void **state)
{
    fetch_test *t = *state;
    const misdeed cut[] = {{.cut = true, .cut_at = 20000}};
    const struct {
        const char *etag, *modified;
        bool resumed;
    } kind[] = {{"", NULL, false}, {"W/\"v1\"", NULL, false}, {"", "Wed, 01 Jan 2025 00:00:00 GMT", false},
        {"", "Tue, 31 Dec 2024 23:59:00 GMT", true}, {"W/\"v1\"", "Tue, 31 Dec 2024 23:59:00 GMT", true},
        {"\"v1\"", NULL, true}};
    for (size_t i = 0; i < sizeof kind / sizeof *kind; i++) {
        server_identity(&t->server, kind[i].etag, kind[i].modified);
        server_plan(&t->server, cut, 1);
        t->options.max_tries = 1;
        fetch_fails(t, HSTU_EIO, "cannot download");
        fetch_ok(t);
        assert_int_equal(t->report.n_resumed_bytes > 0, kind[i].resumed);
        (void)unlink(t->path);
        /* Within one call too. */
        server_plan(&t->server, cut, 1);
        t->options.max_tries = 2;
        fetch_ok(t);
        assert_int_equal(t->report.n_received_bytes == BODY_BYTES, kind[i].resumed);
        (void)unlink(t->path);
    }
}

static void goes_by_the_sums_of_a_changing_file(void **state)
{
    fetch_test *t = *state;
    misdeed deeds[12];
    static const char *const tag[] = {"\"a\"", "\"b\""};
    for (size_t i = 0; i < 12; i++)
        deeds[i] = (misdeed){.cut = true, .cut_at = 2000, .etag = tag[i % 2]};
    server_plan(&t->server, deeds, 12);
    t->options.max_tries = 4;
    fetch_fails(t, HSTU_EIO, "cannot download");
    assert_true(server_file_requests(&t->server) <= 5);
    server_plan(&t->server, NULL, 0);
    fetch_ok(t);
}

static void answers_of_another_range_are_refused(void **state)
{
    fetch_test *t = *state;
    const misdeed deeds[] = {{.cut = true, .cut_at = 20000}, {.range_shift = 3}};
    t->options.checksum = t->md5;
    server_plan(&t->server, deeds, 2);
    fetch_ok(t);
    assert_int_equal(t->report.n_tries, 3);
    assert_non_null(strstr(t->warning, "sent other bytes than those asked for"));
}

static void understands_416(void **state)
{
    fetch_test *t = *state;
    static char other[BODY_BYTES];
    /* All bytes are here, but the length was not known: chunks without an end. */
    const misdeed no_end[] = {{.chunked = true, .no_last_chunk = true}};
    server_plan(&t->server, no_end, 1);
    fetch_ok(t);
    assert_int_equal(t->report.n_tries, 2);
    assert_int_equal(t->report.n_received_bytes, BODY_BYTES + 5);
    (void)unlink(t->path);
    const misdeed long_text[] = {{.chunked = true, .no_last_chunk = true}, {.endless = true}};
    server_plan(&t->server, long_text, 2);
    fetch_ok(t);
    assert_int_equal(t->report.n_tries, 2);
    (void)unlink(t->path);
    /* The file became shorter, and the server keeps its tag. */
    const misdeed shrunk[] = {{.chunked = true, .no_last_chunk = true, .body = other, .body_len = sizeof other},
        {.body = other, .body_len = 100}};
    server_plan(&t->server, shrunk, 2);
    t->options.checksum = t->md5;
    fetch_ok(t);
    assert_int_equal(t->report.n_tries, 3);
    assert_non_null(strstr(t->warning, "the server has no rest of"));
}

static void understands_bodies_without_a_length(void **state)
{
    fetch_test *t = *state;
    const misdeed chunked[] = {{.chunked = true}}, cut[] = {{.chunked = true, .cut = true, .cut_at = 9000}};
    const misdeed open_end[] = {{.no_length = true}}, open_cut[] = {{.no_length = true, .cut = true, .cut_at = 9000}};
    server_plan(&t->server, chunked, 1);
    fetch_ok(t);
    (void)unlink(t->path);
    server_plan(&t->server, cut, 1);
    fetch_ok(t);
    assert_int_equal(t->report.n_tries, 2);
    (void)unlink(t->path);
    server_plan(&t->server, open_end, 1);
    fetch_fails(t, HSTU_EIO, "the server does not say how long it is");
    t->options.expected_bytes = BODY_BYTES;
    server_plan(&t->server, open_cut, 1);
    fetch_ok(t);
    assert_int_equal(t->report.n_received_bytes, BODY_BYTES);
    (void)unlink(t->path);
    t->options.expected_bytes = -1;
    t->options.checksum = t->md5;
    server_plan(&t->server, open_end, 1);
    fetch_ok(t);
    (void)unlink(t->path);
    server_plan(&t->server, open_cut, 1);
    fetch_fails(t, HSTU_EFORMAT, "arrived with the checksum");
    fetch_ok(t);
}

static void stops_an_endless_body(void **state)
{
    fetch_test *t = *state;
    const misdeed endless[] = {{.chunked = true, .endless = true}}, open_end[] = {{.no_length = true, .endless = true}};
    t->options.checksum = t->md5;
    t->options.expected_bytes = BODY_BYTES;
    server_plan(&t->server, endless, 1);
    fetch_fails(t, HSTU_EFORMAT, "the server sends more for http://127.0.0.1");
    server_plan(&t->server, open_end, 1);
    fetch_fails(t, HSTU_EFORMAT, "than the 60000 bytes that it should have");
    assert_int_equal(count_entries(t->folder.folder), 0);
    t->options.expected_bytes = -1;
    t->options.max_bytes = 200000;
    server_plan(&t->server, endless, 1);
    fetch_fails(t, HSTU_EFORMAT, "than the 200000 bytes of the limit");
    t->options.max_bytes = 50000;
    fetch_fails(t, HSTU_EFORMAT, "has 60000 bytes, more than the limit of 50000");
    t->options.max_bytes = 60000;
    fetch_ok(t);
}

static void bounds_the_headers(void **state)
{
    fetch_test *t = *state;
    const misdeed huge[] = {{.head_filler = 1 << 20}}, large[] = {{.head_filler = 100 << 10}};
    server_plan(&t->server, huge, 1);
    assert_int_not_equal(fetch(t), HSTU_OK);
    assert_non_null(strstr(t->err.msg, "header"));
    assert_int_equal(count_entries(t->folder.folder), 0);
    server_plan(&t->server, large, 1);
    fetch_ok(t);
}

static void a_closed_port_is_told(void **state)
{
    fetch_test *t = *state;
    t->options.url = "http://127.0.0.1:1/file.bin";
    t->options.max_tries = 2;
    fetch_fails(t, HSTU_EIO, "gave up after 2 tries");
    assert_int_equal(t->n_warnings, 1);
    t->options.url = t->url;
    fetch_ok(t);
}

/* A name that nobody may have (RFC 6761). A failed look-up leaves libcurl's handle in another state than a failed connection. */
static void an_unknown_host_is_told(void **state)
{
    fetch_test *t = *state;
    t->options.url = "http://nothing.invalid/file.bin";
    t->options.max_tries = 3;
    t->options.connect_timeout_ms = 3000;
    fetch_fails(t, HSTU_EIO, "gave up after 3 tries");
    assert_non_null(strstr(t->err.msg, "cannot download http://nothing.invalid/file.bin: "));
    assert_int_equal(t->n_warnings, 2);
    assert_int_equal(count_entries(t->folder.folder), 0);
    t->options.url = t->url;
    fetch_ok(t);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fetch_setup, fetch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(survives_a_cut_at_every_byte),
        TEST(goes_on_after_cuts_by_itself),
        TEST(patience_is_renewed_by_progress),
        TEST(gives_up_in_the_end),
        TEST(survives_short_reads),
        TEST(tells_answers_that_bring_no_file),
        TEST(tries_again_when_the_server_is_ill),
        TEST(waits_as_long_as_the_server_asks),
        TEST(ends_redirects_that_lead_nowhere),
        TEST(notices_a_stall),
        TEST(survives_a_wrong_length),
        TEST(begins_anew_without_ranges),
        TEST(never_joins_two_files),
        TEST(a_checksum_tells_what_no_tag_does),
        TEST(without_tag_and_checksum_nothing_is_resumed),
        TEST(goes_by_the_sums_of_a_changing_file),
        TEST(answers_of_another_range_are_refused),
        TEST(understands_416),
        TEST(understands_bodies_without_a_length),
        TEST(stops_an_endless_body),
        TEST(bounds_the_headers),
        TEST(a_closed_port_is_told),
        TEST(an_unknown_host_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
