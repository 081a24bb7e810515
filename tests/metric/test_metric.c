/* Metrics against values worked out by hand. */
#include "hstu/metric.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

/* cmocka compares in single precision only. */
static void assert_near(double found, double expected, double tolerance)
{
    if (!(fabs(found - expected) <= tolerance))
        fail_msg("expected %.17g, found %.17g", expected, found);
}

static void test_hit_rate(void **state)
{
    (void)state;
    static const int64_t rank[] = {1, 10, 11, 0};
    assert_near(hstu_hit_rate(rank, 4, 1).mean, 0.25, 0);
    assert_near(hstu_hit_rate(rank, 4, 9).mean, 0.25, 0);
    assert_near(hstu_hit_rate(rank, 4, 10).mean, 0.5, 0);
    assert_near(hstu_hit_rate(rank, 4, 11).mean, 0.75, 0);
    /* Two of four: sample variance 4/3 x 1/4 = 1/3, standard error sqrt(1/3 / 4). */
    assert_near(hstu_hit_rate(rank, 4, 10).standard_error, sqrt(1.0 / 12), 1e-12);
}

static void test_ndcg(void **state)
{
    (void)state;
    static const int64_t rank[] = {1, 3, 7, 0};
    assert_near(hstu_ndcg(rank, 4, 1).mean, 0.25, 1e-12);
    assert_near(hstu_ndcg(rank, 4, 3).mean, (1 + 0.5) / 4, 1e-12);
    assert_near(hstu_ndcg(rank, 4, 10).mean, (1 + 0.5 + 1.0 / 3) / 4, 1e-12);
    /* Values 1 and 1/2: variance 1/8, standard error sqrt(1/16). */
    assert_near(hstu_ndcg(rank, 2, 3).standard_error, 0.25, 1e-12);
}

static void test_mrr(void **state)
{
    (void)state;
    static const int64_t rank[] = {1, 2, 4, 0};
    assert_near(hstu_mrr(rank, 3).mean, 1.75 / 3, 1e-12);
    assert_near(hstu_mrr(rank, 4).mean, (1.75 + 1.0 / 2501) / 4, 1e-12);
}

/* A rank behind 2500 counts like a filtered target: as 2501, and never as a hit. */
static void test_misses(void **state)
{
    (void)state;
    static const int64_t rank[] = {2500, 2501, 3000000, 0};
    assert_near(hstu_hit_rate(rank, 4, 2500).mean, 0.25, 0);
    assert_near(hstu_hit_rate(rank, 4, INT64_MAX).mean, 0.25, 0);
    assert_near(hstu_mrr(rank, 4).mean, (1.0 / 2500 + 3.0 / 2501) / 4, 1e-15);
    assert_near(hstu_ndcg(rank, 4, INT64_MAX).mean, 1 / log2(2501) / 4, 1e-12);
}

static void test_few(void **state)
{
    (void)state;
    static const int64_t rank[] = {2};
    assert_near(hstu_mrr(NULL, 0).mean, 0, 0);
    assert_near(hstu_mrr(NULL, 0).standard_error, 0, 0);
    assert_near(hstu_mrr(rank, 1).mean, 0.5, 0);
    assert_near(hstu_mrr(rank, 1).standard_error, 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hit_rate),
        cmocka_unit_test(test_ndcg),
        cmocka_unit_test(test_mrr),
        cmocka_unit_test(test_misses),
        cmocka_unit_test(test_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
