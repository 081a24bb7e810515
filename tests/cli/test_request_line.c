/* Request lines: what is read, and what is refused with which sentence; and the line reader under them. */
#include "cli/line_reader.h"
#include "cli/request_cases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static hstu_status parse(hs_request *request, const char *line, hstu_error *err)
{
    return hs_request_parse(request, line, strlen(line), "r.jsonl", 7, err);
}

static void test_full_line(void **state)
{
    (void)state;
    hs_request r = {0};
    hstu_error err = {0};
    assert_int_equal(
        parse(&r,
            " { \"user\" : \"\\u00e9 \\\"x\\\"\" ,\t\"items\":[1, -2,9223372036854775807 ],\"times\":[5,5,6],"
            "\"request_time\":-7,\"candidates\":[3]} ",
            &err),
        HSTU_OK);
    assert_int_equal(r.user_len, strlen("\"\\u00e9 \\\"x\\\"\""));
    assert_memory_equal(r.user, "\"\\u00e9 \\\"x\\\"\"", r.user_len);
    assert_int_equal(r.items.n, 3);
    assert_int_equal(r.items.data[1], -2);
    assert_int_equal(r.items.data[2], INT64_MAX);
    assert_int_equal(r.times.n, 3);
    assert_int_equal(r.times.data[2], 6);
    assert_true(r.has_times && r.has_request_time && r.has_candidates);
    assert_int_equal(r.request_time, -7);
    assert_int_equal(r.candidates.n, 1);
    /* The next line starts afresh. */
    assert_int_equal(parse(&r, "{\"items\":[-9223372036854775808]}", &err), HSTU_OK);
    assert_null(r.user);
    assert_int_equal(r.items.n, 1);
    assert_int_equal(r.items.data[0], INT64_MIN);
    assert_false(r.has_times || r.has_request_time || r.has_candidates);
    hs_request_free(&r);
}

static void test_users(void **state)
{
    (void)state;
    static const char *const users[] = {
        "0", "-0", "12345678901234567890", "1.5e-3", "\"\"", "true", "false", "null", "\"\xc3\xa9\"", "\"a\\/b\\n\""};
    hs_request r = {0};
    hstu_error err = {0};
    for (size_t i = 0; i < sizeof users / sizeof *users; i++) {
        char line[128];
        (void)snprintf(line, sizeof line, "{\"user\":%s,\"items\":[1]}", users[i]);
        assert_int_equal(parse(&r, line, &err), HSTU_OK);
        assert_int_equal(r.user_len, strlen(users[i]));
        assert_memory_equal(r.user, users[i], r.user_len);
    }
    hs_request_free(&r);
}

/* Whose rows a cache keeps. */
static void test_user_ids(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        bool has;
        int64_t id;
    } cases[] = {
        {"{\"items\":[1]}", false, 0},
        {"{\"user\":7,\"items\":[1]}", true, 7},
        {"{\"user\":\"7\",\"items\":[1]}", false, 0},
        {"{\"user\":7.5,\"items\":[1]}", false, 0},
        {"{\"user\":9223372036854775808,\"items\":[1]}", false, 0},
        {"{\"user\":\"bob\",\"user_id\":-3,\"items\":[1]}", true, -3},
        {"{\"user_id\":9223372036854775807,\"user\":7,\"items\":[1]}", true, INT64_MAX},
    };
    hs_request r = {0};
    hstu_error err = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(parse(&r, cases[i].line, &err), HSTU_OK);
        assert_int_equal(r.has_user_id, cases[i].has);
        assert_true(!r.has_user_id || r.user_id == cases[i].id);
    }
    hs_request_free(&r);
}

static void test_refusals(void **state)
{
    (void)state;
    static const request_case cases[] = {
        {"", "r.jsonl: line 7, column 1: expected '{', found the end of the line"},
        {"[]", "column 1: expected '{', found '['"},
        {"{", "expected a key in quotes, found the end of the line"},
        {"{}", "line 7: 'items' must hold at least one item"},
        {"{\"items\":[]}", "'items' must hold at least one item"},
        {"{\"items\":[1]", "expected ',' or '}'"},
        {"{\"items\":[1],}", "expected a key in quotes, found '}'"},
        {"{\"items\":[1,]}", "expected a whole number, found ']'"},
        {"{\"items\":[1 2]}", "expected ',' or ']', found '2'"},
        {"{\"items\":1}", "expected '[', found '1'"},
        {"{\"items\":[1.5]}", "expected ',' or ']', found '.'"},
        {"{\"items\":[1e3]}", "expected ',' or ']', found 'e'"},
        {"{\"items\":[+1]}", "expected a whole number, found '+'"},
        {"{\"items\":[01]}", "without leading zeros"},
        {"{\"items\":[\"1\"]}", "expected a whole number"},
        {"{\"items\":[9223372036854775808]}", "column 11: expected a whole number of 64 bits"},
        {"{\"items\":[-9223372036854775809]}", "expected a whole number of 64 bits"},
        {"{\"items\" [1]}", "expected ':', found '['"},
        {"{\"items\":[1]} x", "expected the end of the line, found 'x'"},
        {"{\"items\":[1]}{\"items\":[1]}", "expected the end of the line, found '{'"},
        {"{\"items\":[1],\"items\":[2]}", "column 14: expected each key once"},
        {"{\"item\":[1]}", "unknown key 'item'"},
        {"{\"items\":[1],\"times\":[1,2],\"request_time\":3}", "one time for each of 1 items, found 2"},
        {"{\"items\":[1],\"times\":[1]}", "'times' needs 'request_time' beside it"},
        {"{\"items\":[1],\"request_time\":1}", "'request_time' needs 'times' beside it"},
        {"{\"items\":[1],\"candidates\":[]}", "'candidates' must hold at least one item"},
        {"{\"user\":[1],\"items\":[1]}", "expected a string or a number for 'user', found '['"},
        {"{\"user\":tru,\"items\":[1]}", "expected a string or a number for 'user'"},
        {"{\"user\":01,\"items\":[1]}", "expected ',' or '}', found '1'"},
        {"{\"user\":1.,\"items\":[1]}", "expected a digit, found ','"},
        {"{\"user\":-,\"items\":[1]}", "expected a digit"},
        {"{\"user\":1e,\"items\":[1]}", "expected a digit"},
        {"{\"user\":\"a", "expected '\"', found the end of the line"},
        {"{\"user\":\"\\x\",\"items\":[1]}", "expected an escape, found 'x'"},
        {"{\"user\":\"\\u12g4\",\"items\":[1]}", "expected a hexadecimal digit, found 'g'"},
        {"{\"user\":\"\xff\",\"items\":[1]}", "expected UTF-8 text, found byte 0xff"},
        {"{\"user\":\"\xed\xa0\x80\",\"items\":[1]}", "expected UTF-8 text"},
        {"{\"user\":\"\xc0\x80\",\"items\":[1]}", "expected UTF-8 text"},
        {"{\"user\":\"\t\",\"items\":[1]}", "expected UTF-8 text, found byte 0x09"},
        {"{\"user_id\":\"7\",\"items\":[1]}", "expected a whole number, found '\"'"},
        {"{\"user_id\":1.5,\"items\":[1]}", "expected ',' or '}', found '.'"},
        {"{\"user_id\":null,\"items\":[1]}", "expected a whole number, found 'n'"},
        {"{\"user_id\":1,\"items\":[1],\"user_id\":1}", "expected each key once"},
    };
    assert_refusals(parse, cases, sizeof cases / sizeof *cases);
}

/* Every prefix of a good line is refused, none is read past its end (the copies have no byte behind them). */
static void test_prefixes(void **state)
{
    (void)state;
    static const char line[] =
        "{\"user\":\"\\u00e9\xc3\xa9\",\"items\":[1,22],\"times\":[3,4],\"request_time\":5,\"candidates\":[6]}";
    hs_request r = {0};
    hstu_error err = {0};
    for (size_t n = 0; n + 1 < sizeof line; n++) {
        char *copy = test_malloc(n ? n : 1);
        memcpy(copy, line, n);
        const hstu_status status = hs_request_parse(&r, copy, n, "r", 1, &err);
        test_free(copy);
        assert_int_equal(status, n + 1 == sizeof line ? HSTU_OK : HSTU_EFORMAT);
    }
    assert_int_equal(parse(&r, line, &err), HSTU_OK);
    hs_request_free(&r);
}

static void write_file(const char *path, const char *text, size_t n)
{
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, n, out), n);
    assert_int_equal(fclose(out), 0);
}

static void test_line_reader(void **state)
{
    (void)state;
    const char *path = "test_request_line.tmp";
    static const char text[] = "one\r\n\ntwo\0x\nlast";
    static const char *const lines[] = {"one", "", "two", "last"};
    static const size_t lengths[] = {3, 0, 5, 4};
    hs_line_reader reader;
    hstu_error err = {0};
    bool got = false;
    write_file(path, text, sizeof text - 1);
    assert_int_equal(hs_line_reader_open(&reader, path, 5, &err), HSTU_OK);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(hs_line_reader_next(&reader, &got, &err), HSTU_OK);
        assert_true(got);
        assert_int_equal(reader.line, i + 1);
        assert_int_equal(reader.text.len, lengths[i]);
        assert_string_equal(reader.text.data, lines[i]);
    }
    assert_int_equal(hs_line_reader_next(&reader, &got, &err), HSTU_OK);
    assert_false(got);
    hs_line_reader_close(&reader);

    assert_int_equal(hs_line_reader_open(&reader, path, 4, &err), HSTU_OK);
    assert_int_equal(hs_line_reader_next(&reader, &got, &err), HSTU_OK);
    assert_int_equal(hs_line_reader_next(&reader, &got, &err), HSTU_OK);
    assert_int_equal(hs_line_reader_next(&reader, &got, &err), HSTU_EFORMAT);
    assert_string_equal(err.msg, "test_request_line.tmp: line 3: a line may have 4 bytes, found more");
    hs_line_reader_close(&reader);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(hs_line_reader_open(&reader, path, 4, &err), HSTU_ENOENT);
    hs_line_reader_close(&reader);
}

/* A mark at the beginning of the file is none of its text; the last line's CR without LF ends it as well. */
static void test_line_ends(void **state)
{
    (void)state;
    const char *path = "test_request_line.tmp";
    static const char text[] = "\xef\xbb\xbf"
                               "7\n\xef\xbb\xbf"
                               "8\n9\r";
    static const char second[] = "\xef\xbb\xbf"
                                 "8";
    static const char *const lines[] = {"7", second, "9"};
    hs_line_reader reader;
    hstu_error err = {0};
    bool got = false;
    write_file(path, text, sizeof text - 1);
    assert_int_equal(hs_line_reader_open(&reader, path, 9, &err), HSTU_OK);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(hs_line_reader_next(&reader, &got, &err), HSTU_OK);
        assert_true(got);
        assert_string_equal(reader.text.data, lines[i]);
    }
    assert_int_equal(hs_line_reader_next(&reader, &got, &err), HSTU_OK);
    assert_false(got);
    hs_line_reader_close(&reader);
    assert_int_equal(unlink(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_line),
        cmocka_unit_test(test_users),
        cmocka_unit_test(test_user_ids),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_line_reader),
        cmocka_unit_test(test_line_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
