/* Request lines to ranking models: what is read, and what is refused with which sentence. */
#include "cli/request_cases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char full[] = "{\"user\":7,\"items\":[1,2],\"actions\":[64,0],\"context\":{\"a\":3,\"user_id\":-9},"
                           "\"candidates\":[5,5,6]}";

static hstu_status parse(hs_request *request, const char *line, hstu_error *err)
{
    return hs_rank_request_parse(request, line, strlen(line), "r.jsonl", 7, err);
}

static void test_full_line(void **state)
{
    (void)state;
    hs_request r = {0};
    hstu_error err = {0};
    int64_t user = 0;
    assert_int_equal(parse(&r, full, &err), HSTU_OK);
    assert_int_equal(r.items.n, 2);
    assert_int_equal(r.actions.n, 2);
    assert_int_equal(r.actions.data[0], 64);
    assert_int_equal(r.candidates.n, 3);
    assert_int_equal(r.n_features, 2);
    assert_int_equal(hs_request_find_feature(&r, "a")->id, 3);
    assert_int_equal(hs_request_find_feature(&r, "user_id")->id, -9);
    assert_null(hs_request_find_feature(&r, "user"));
    assert_true(hs_request_user_number(&r, &user));
    assert_int_equal(user, 7);
    /* The next line starts afresh; a user without history; actions of the candidates too. */
    assert_int_equal(parse(&r, "{\"candidates\":[4]}", &err), HSTU_OK);
    assert_int_equal(r.items.n + r.actions.n + r.n_features, 0);
    assert_false(hs_request_user_number(&r, &user));
    assert_int_equal(
        parse(&r, "{\"items\":[1],\"actions\":[1,2,3],\"candidates\":[4,5],\"context\":{ }}", &err), HSTU_OK);
    assert_int_equal(r.actions.n, 3);
    hs_request_free(&r);
}

static void test_user_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *user;
        int is_number;
    } cases[] = {{"-9223372036854775808", 1}, {"9223372036854775807", 1}, {"9223372036854775808", 0}, {"1.0", 0},
        {"1e2", 0}, {"\"7\"", 0}, {"null", 0}, {"123456789012345678901234567890", 0}};
    hs_request r = {0};
    hstu_error err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[128];
        int64_t user = 0;
        (void)snprintf(line, sizeof line, "{\"user\":%s,\"candidates\":[1]}", cases[i].user);
        assert_int_equal(parse(&r, line, &err), HSTU_OK);
        assert_int_equal(hs_request_user_number(&r, &user), cases[i].is_number);
    }
    hs_request_free(&r);
}

static void test_refusals(void **state)
{
    (void)state;
    static const request_case cases[] = {
        {"{}", "r.jsonl: line 7: 'candidates' must hold at least one item"},
        {"{\"items\":[1],\"actions\":[1]}", "'candidates' must hold at least one item"},
        {"{\"candidates\":[]}", "'candidates' must hold at least one item"},
        {"{\"items\":[1],\"candidates\":[1,2]}",
            "'actions' must have one action for each of 1 items, or of these and 2 candidates, found 0"},
        {"{\"items\":[1],\"actions\":[1,2],\"candidates\":[1,2]}", "and 2 candidates, found 2"},
        {"{\"actions\":[1],\"candidates\":[1,2]}", "each of 0 items, or of these and 2 candidates, found 1"},
        {"{\"items\":[1],\"times\":[1]}",
            "unknown key 'times': expected user, user_id, items, actions, context or candidates"},
        {"{\"context\":[]}", "expected '{', found '['"},
        {"{\"context\":{\"a\"}}", "expected ':', found '}'"},
        {"{\"context\":{\"a\":1.5}}", "expected ',' or '}', found '.'"},
        {"{\"context\":{\"a\":\"1\"}}", "expected a whole number"},
        {"{\"context\":{\"a\":99999999999999999999}}", "expected a whole number of 64 bits"},
        {"{\"context\":{\"a\":1,\"b\":2,\"a\":3}}", "column 25: expected each feature of 'context' once"},
        {"{\"context\":{\"a\":1},\"context\":{}}", "expected each key once"},
        {"{\"context\":{\"a\":1", "expected ',' or '}', found the end of the line"},
        {"{\"context\":{a:1}}", "expected a key in quotes, found 'a'"},
        {"{\"context\":{\"\xff\":1}}", "expected UTF-8 text"},
        {"{\"context\":{{\"a\":1}}}", "expected a key in quotes, found '{'"},
    };
    assert_refusals(parse, cases, sizeof cases / sizeof *cases);
}

static void test_many_features(void **state)
{
    (void)state;
    char line[2048] = "{\"candidates\":[1],\"context\":{";
    hs_request r = {0};
    hstu_error err;
    size_t at = strlen(line);
    for (int i = 0; i < HS_MAX_REQUEST_FEATURES; i++)
        at += (size_t)snprintf(line + at, sizeof line - at, "\"f%d\":%d,", i, i);
    const size_t comma = at - 1;
    (void)snprintf(line + comma, sizeof line - comma, "}}");
    assert_int_equal(parse(&r, line, &err), HSTU_OK);
    assert_int_equal(hs_request_find_feature(&r, "f63")->id, 63);
    (void)snprintf(line + comma, sizeof line - comma, ",\"g\":1}}");
    assert_int_equal(parse(&r, line, &err), HSTU_EFORMAT);
    assert_non_null(strstr(err.msg, "'context' may have 64 features, found more"));
    hs_request_free(&r);
}

/* Every prefix of a good line is refused, none is read past its end (the copies have no byte behind them). */
static void test_prefixes(void **state)
{
    (void)state;
    hs_request r = {0};
    hstu_error err;
    for (size_t n = 0; n + 1 < sizeof full; n++) {
        char *copy = test_malloc(n ? n : 1);
        memcpy(copy, full, n);
        const hstu_status status = hs_rank_request_parse(&r, copy, n, "r", 1, &err);
        test_free(copy);
        assert_int_equal(status, HSTU_EFORMAT);
    }
    hs_request_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_line),
        cmocka_unit_test(test_user_numbers),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_many_features),
        cmocka_unit_test(test_prefixes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
