/* Times as numbers of any unit and as dates. */
#include "dataset/cmocka_all.h"

#include "data/timetext.h"

#include <inttypes.h>
#include <string.h>

typedef struct good {
    const char *text;
    int64_t ms;
} good;

static void assert_times(hs_time_unit unit, const good *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int64_t ms = 0;
        if (!hs_time_parse(cases[i].text, strlen(cases[i].text), unit, &ms) || ms != cases[i].ms)
            fail_msg("'%s' gave %" PRId64 ", expected %" PRId64, cases[i].text, ms, cases[i].ms);
    }
}

static void refuse_times(hs_time_unit unit, const char *const *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int64_t ms = 0;
        if (hs_time_parse(text[i], strlen(text[i]), unit, &ms))
            fail_msg("'%s' was read as %" PRId64, text[i], ms);
    }
}

#define COUNT(list) (sizeof(list) / sizeof *(list))

static void test_numbers(void **state)
{
    static const good s[] = {{"0", 0}, {"1650882384", 1650882384000}, {"1650882384.0", 1650882384000},
        {"1650882384.25", 1650882384250}, {"1.9999", 1999}, {"-1.5", -1500}, {"-0.0001", -1}, {"-2", -2000},
        {"9223372036854775.807", INT64_MAX}, {"-9223372036854775.808", INT64_MIN}};
    static const good ms[] = {{"1650882384123", 1650882384123}, {"12.9", 12}, {"-1.5", -2}, {"-1.0", -1},
        {"9223372036854775807", INT64_MAX}, {"-9223372036854775808", INT64_MIN}};
    static const good us[] = {{"1650882384123999", 1650882384123}, {"-1", -1}, {"-1000", -1}, {"-1001", -2}};
    static const good ns[] = {{"1650882384123999999", 1650882384123}, {"-1", -1}, {"999999", 0}};
    static const char *const wrong[] = {"", "-", "+1", " 1", "1 ", "1.", ".5", "1.5.2", "1e9", "nan", "inf", "0x10",
        "2022-04-25", "9223372036854775808", "1,5"};
    static const char *const too_large[] = {"9223372036854775.808", "9223372036854776", "-9223372036854775.8081"};
    static const char *const below[] = {"-9223372036854775808.5"};
    (void)state;
    assert_times(HS_TIME_S, s, COUNT(s));
    assert_times(HS_TIME_MS, ms, COUNT(ms));
    assert_times(HS_TIME_US, us, COUNT(us));
    assert_times(HS_TIME_NS, ns, COUNT(ns));
    for (int unit = HS_TIME_S; unit < HS_TIME_ISO; unit++)
        refuse_times((hs_time_unit)unit, wrong, COUNT(wrong));
    refuse_times(HS_TIME_S, too_large, COUNT(too_large));
    refuse_times(HS_TIME_MS, below, COUNT(below));
}

/* The milliseconds are those of Python's datetime. */
static void test_dates(void **state)
{
    static const good iso[] = {{"1970-01-01", 0}, {"2022-04-25T10:26:24Z", 1650882384000},
        {"2022-04-25 10:26:24", 1650882384000}, {"2022-04-25T18:26:24+08:00", 1650882384000},
        {"2022-04-25T18:26:24+0800", 1650882384000}, {"2022-04-25T18:26:24.5+08", 1650882384500},
        {"2022-04-25T00:56:24.123999-09:30", 1650882384123}, {"2022-04-25T10:26", 1650882360000},
        {"2000-02-29", 951782400000}, {"2024-02-29T23:59:59.999Z", 1709251199999}, {"1969-12-31T23:59:59.9999", -1},
        {"0001-01-01", -62135596800000}, {"9999-12-31T23:59:59.999", 253402300799999}, {"1900-03-01", -2203891200000}};
    static const char *const wrong[] = {"", "2022", "2022-4-25", "2022-04-25T", "2022-04-25T10", "2022-13-01",
        "2022-00-01", "2022-04-31", "2023-02-29", "1900-02-29", "0000-01-01", "2022-04-25T24:00", "2022-04-25T10:60",
        "2022-04-25T10:26:60", "2022-04-25T10:26:24.", "2022-04-25T10:26:24,5", "2022-04-25X10:26", "2022-04-25T10:26z",
        "2022-04-25T10:26+8", "2022-04-25T10:26+08:", "2022-04-25T10:26+24:00", "2022-04-25T10:26Z ", "1650882384",
        "25.04.2022", "2022-04-25Z"};
    (void)state;
    assert_times(HS_TIME_ISO, iso, COUNT(iso));
    refuse_times(HS_TIME_ISO, wrong, COUNT(wrong));
}

static void test_units(void **state)
{
    static const char *const names[] = {"s", "ms", "us", "ns", "iso"};
    hs_time_unit unit = HS_TIME_S;
    (void)state;
    for (int i = 0; i < 5; i++) {
        assert_true(hs_time_unit_of(names[i], &unit));
        assert_int_equal(unit, i);
    }
    assert_false(hs_time_unit_of("sec", &unit));
    assert_false(hs_time_unit_of("", &unit));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_dates),
        cmocka_unit_test(test_units),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
