/* Stamps: never 0, never the same twice, whichever thread asks. */
#include "base/stamp.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { THREADS = 8, EACH = 20000 };

static uint64_t given[THREADS * EACH];

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void *ask(void *out)
{
    uint64_t *stamp = out;
    for (int i = 0; i < EACH; i++)
        stamp[i] = hs_stamp_next();
    return NULL;
}

static void test_all_differ(void **state)
{
    (void)state;
    pthread_t thread[THREADS];
    const uint64_t before = hs_stamp_next();
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, ask, given + i * EACH), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    const uint64_t after = hs_stamp_next();
    qsort(given, (size_t)THREADS * EACH, sizeof *given, by_value);
    assert_true(before != 0 && after != 0 && given[0] != 0 && before != after);
    for (int i = 0; i < THREADS * EACH; i++) {
        assert_true(given[i] != before && given[i] != after);
        assert_true(i == 0 || given[i] != given[i - 1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_differ)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
