/* Standard output holds results and nothing else, until the process has ended. */
#include "cli/program_run.h"
#include "cli/result_stream.h"

#include <stdlib.h>
#include <sys/wait.h>

static void print_noise(void)
{
    (void)puts("a library's destructor");
}

/* Libraries print with stdio or without, before and after the last result, and while the process ends. */
static void test_noise(void **state)
{
    (void)state;
    const int out = redirect(stdout, run_path("out")), err = redirect(stderr, run_path("err"));
    const pid_t child = fork();
    if (child == 0) {
        (void)atexit(print_noise);
        if (hs_result_keep_apart(NULL) != HSTU_OK)
            _exit(1);
        (void)puts("a library");
        (void)fputs("the result\n", hs_result_stream());
        if (!hs_result_end() || dprintf(STDOUT_FILENO, "a thread of a library\n") < 0)
            _exit(1);
        exit(0);
    }
    int result = 1;
    const pid_t ended = waitpid(child, &result, 0);
    restore(stdout, out);
    restore(stderr, err);
    assert_true(child > 0 && ended == child);
    assert_true(WIFEXITED(result) && WEXITSTATUS(result) == 0);
    read_file(run_path("out"), last.out);
    read_file(run_path("err"), last.err);
    assert_string_equal(last.out, "the result\n");
    assert_non_null(strstr(last.err, "a library\n"));
    assert_non_null(strstr(last.err, "a library's destructor\n"));
}

static int remove_files(void **state)
{
    (void)state;
    run_cleanup();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_noise)};
    return cmocka_run_group_tests(tests, NULL, remove_files);
}
