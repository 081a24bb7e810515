/* The fast way of reading a log's rows against the strict one: where it says that it could, both hold the same. */
#include "dataset/event_rows.h"

#include "data/log_parse.h"

#include <limits.h>

typedef struct fixture {
    scratch s;
    hs_csv header;
    hs_log_layout layout;
    hs_eventrows fast, strict;
    hs_dynbuf room;
} fixture;

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    hstu_error err = {0};
    scratch_open(&f->s);
    scratch_text(&f->s, "log.csv", LOG_HEADER);
    if (hs_csv_open(&f->header, scratch_path(&f->s, "log.csv"), 1 << 20, &err) != HSTU_OK ||
        hs_log_layout_find(&f->layout, &f->header, &f->header, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    assert_true(hs_eventrows_init(&f->fast, 20000) && hs_eventrows_init(&f->strict, 20000));
    hs_dynbuf_init(&f->room, 1 << 20);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    hs_csv_close(&f->header);
    hs_log_layout_free(&f->layout);
    hs_eventrows_free(&f->fast);
    hs_eventrows_free(&f->strict);
    hs_dynbuf_free(&f->room);
    remove_folder(f->s.folder);
    free(f);
    return 0;
}

/* Both ways, on text of exactly that size between paddings. Returns whether the fast one could. */
static bool parse_both(fixture *f, const char *text, size_t n, hstu_status *strict)
{
    char *memory = malloc(n + 2 * (size_t)HS_LOG_TEXT_PADDING);
    char *copy = memory + HS_LOG_TEXT_PADDING;
    assert_non_null(memory);
    memset(memory, '7', n + 2 * (size_t)HS_LOG_TEXT_PADDING); /* digits around: they must not be taken for the text's */
    memcpy(copy, text, n);
    const bool could = hs_log_parse_fast(&f->fast, &f->layout, copy, n);
    *strict = hs_log_parse_strict(&f->strict, &f->layout, &f->header, copy, n, 2, &f->room, NULL);
    if (could) {
        assert_int_equal(*strict, HSTU_OK);
        assert_int_equal(f->fast.n, f->strict.n);
        const size_t wide = f->fast.n * 8, half = f->fast.n * 4;
        assert_memory_equal(f->fast.user, f->strict.user, wide);
        assert_memory_equal(f->fast.item, f->strict.item, wide);
        assert_memory_equal(f->fast.time_ms, f->strict.time_ms, wide);
        assert_memory_equal(f->fast.hash, f->strict.hash, wide);
        assert_memory_equal(f->fast.play_time_ms, f->strict.play_time_ms, half);
        assert_memory_equal(f->fast.duration_ms, f->strict.duration_ms, half);
        assert_memory_equal(f->fast.action, f->strict.action, f->fast.n);
    }
    free(memory);
    return could;
}

static char *make_text(size_t n_rows, uint64_t seed, size_t *n)
{
    char *text = malloc(n_rows * 300 + 1);
    size_t used = 0;
    assert_non_null(text);
    for (size_t i = 0; i < n_rows; i++) {
        /* Numbers of 1 to 19 digits where they may be so long. */
        for (int column = 0; column < 19; column++) {
            const unsigned digits = column < 2 || column == 4 ? 1 + (unsigned)(next_random(&seed) % 19)
                                    : column == 12 || column == 13 || column == 14
                                        ? 1 + (unsigned)(next_random(&seed) % 9)
                                        : 1;
            const bool negative = (column == 4 || column == 12) && next_random(&seed) % 8 == 0;
            if (negative)
                text[used++] = '-';
            for (unsigned d = 0; d < digits; d++)
                text[used++] = (char)('0' + next_random(&seed) % (d == 0 && digits == 19 ? 9 : 10));
            text[used++] = column == 18 ? '\n' : ',';
        }
    }
    *n = used;
    return text;
}

static void test_good_rows(void **state)
{
    fixture *f = *state;
    for (size_t n_rows = 0; n_rows < 1000; n_rows = n_rows * 3 / 2 + 1) {
        size_t n = 0;
        hstu_status strict;
        char *text = make_text(n_rows, n_rows + 1, &n);
        assert_true(parse_both(f, text, n, &strict));
        free(text);
    }
}

/* One byte of good rows becomes another one: the fast way either sees what the strict one sees, or cannot. */
static void test_changed_bytes(void **state)
{
    fixture *f = *state;
    static const char bytes[] = "0123456789,,,,\n\n\r\"\"-+ .x\0\xff";
    size_t n = 0, n_could = 0, n_failed = 0;
    uint64_t seed = 99;
    char *text = make_text(12, 5, &n);
    for (int round = 0; round < 4000; round++) {
        const size_t at = (size_t)(next_random(&seed) % n);
        const char before = text[at];
        hstu_status strict;
        text[at] = bytes[next_random(&seed) % (sizeof bytes - 1)];
        n_could += parse_both(f, text, n, &strict);
        n_failed += strict != HSTU_OK;
        text[at] = before;
    }
    assert_true(n_could > 500 && n_failed > 500);
    free(text);
}

/* Numbers at the ends of what fits, and past them. */
static void test_limits(void **state)
{
    fixture *f = *state;
    static const struct {
        const char *user, *item, *time, *play, *action;
        bool right;
    } rows[] = {
        {"9223372036854775807", "9223372036854775806", "9223372036854775807", "2147483647", "1", true},
        {"0", "0", "-9223372036854775808", "-2147483648", "-1", true},
        {"000000000000000000000000000007", "08", "-0", "00", "9223372036854775807", true},
        {"9999999999999999", "1234567890123456", "9999999999999999", "99999999", "9", true},
        {"9223372036854775808", "1", "1", "1", "1", false},
        {"1", "9223372036854775807", "1", "1", "1", false},
        {"1", "1", "-9223372036854775809", "1", "1", false},
        {"1", "1", "1", "2147483648", "1", false},
        {"1", "1", "1", "-2147483649", "1", false},
        {"-1", "1", "1", "1", "1", false},
        {"1", "-1", "1", "1", "1", false},
        {"", "1", "1", "1", "1", false},
        {"1", "1", "1", "1", "", false},
        {"1", "1", "1", "1", "9223372036854775808", false},
        {"12345678901234567890123", "1", "1", "1", "1", false},
        {"1", "1", "1e5", "1", "1", false},
        {"1", "1", "1", "1", "a", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[512];
        hstu_status strict;
        const int n = snprintf(text, sizeof text, "%s,%s,20220408,1400,%s,%s,0,0,0,0,0,0,%s,9000,0,0,0,0,1\n",
            rows[i].user, rows[i].item, rows[i].time, rows[i].action, rows[i].play);
        const bool could = parse_both(f, text, (size_t)n, &strict);
        assert_int_equal(could, rows[i].right);
        assert_int_equal(strict == HSTU_OK, rows[i].right);
    }
}

/* What only the strict way takes, and what neither takes. */
static void test_doubt(void **state)
{
    fixture *f = *state;
    static const struct {
        const char *text;
        bool right;
    } cases[] = {
        {"1,2,\"20220408\",1400,5,1,0,0,0,0,0,0,1500,9000,0,0,0,0,1\n", true},
        {"1,2,20220408,1400,5,1,0,0,0,0,0,0,1500,9000,0,0,0,0,1\r\n", true},
        {"1,2,20220408,1400,5,1,0,0,0,0,0,0,1500,9000,0,0,0,0,1", true},
        {"1,2,20220408,1400,5,1,0,0,0,0,0,0,1500,9000,0,0,0,0\n", false},
        {"1,2,20220408,1400,5,1,0,0,0,0,0,0,1500,9000,0,0,0,0,1,1\n", false},
        {"1,2,20220408,1400,5,1,0,0,0,0,0,0,1500,9000,0,0,0,0,1\n\n", false},
        {"\n", false},
        {"1,2,20220408,1400,5,1,0,0,0,0,0,0,1500,9000,0,0,0\n0,1\n", false},
        {"1,2,20220408,1400,5,1,0,0,0,0,0,0,1500,9000,0,0,0,0,1\n1\n,", false},
        {"1,2,20220408,14\r00,5,1,0,0,0,0,0,0,1500,9000,0,0,0,0,1\n", false},
        {"1,2,20220408,14\"00,5,1,0,0,0,0,0,0,1500,9000,0,0,0,0,1\n", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hstu_status strict;
        assert_false(parse_both(f, cases[i].text, strlen(cases[i].text), &strict));
        assert_int_equal(strict == HSTU_OK, cases[i].right);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_good_rows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_changed_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_doubt, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
