/* The progress bar: what it says of speed, and that one is drawn. */
#include "cli/program_run.h"

static void test_rate(void **state)
{
    static const struct {
        const char *stage;
        double per_s;
        uint64_t left;
        const char *text;
    } c[] = {{"downloading", 0, 1000, ""}, {"downloading", 1234567, 0, ", 1.2 MB/s"},
        {"unpacking", 2000000, 20000000, ", 2.0 MB/s, 0:00:10 left"},
        {"reading", 250e6, 250000000, ", 250 MB/s, 0:00:01 left"}, {"sorting", 1000, 3723000, ", 1:02:03 left"},
        {"checking", 1e6, 999999, ", 1.0 MB/s"}, {"checking", 1e6, UINT64_MAX, ", 1.0 MB/s"},
        {"downloading", 1e-9, UINT64_MAX, ", 0.0 MB/s"}};
    (void)state;
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        char text[64] = "before";
        hs_console_rate(text, sizeof text, c[i].stage, c[i].per_s, c[i].left);
        assert_string_equal(text, c[i].text);
    }
}

static void test_bar(void **state)
{
    hs_console console;
    char text[MAX_OUTPUT];
    (void)state;
    hs_console_open(&console, true);
    const int quiet = redirect(stderr, run_path("err"));
    hs_console_step(&console, "unpacking", 5, 5);
    restore(stderr, quiet);
    read_file(run_path("err"), text);
    assert_string_equal(text, "");
    console.bar = true;
    const int kept = redirect(stderr, run_path("err"));
    hs_console_step(&console, "unpacking", 5, 5);
    hs_console_step(&console, "a stage with a name longer than is kept", 7, 7);
    hs_console_clear(&console);
    restore(stderr, kept);
    read_file(run_path("err"), text);
    assert_non_null(strstr(text, "\r\033[Kunpacking [##############################] 100 %\r\033[Ka stage"));
    run_cleanup();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rate), cmocka_unit_test(test_bar)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
