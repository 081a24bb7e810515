/* Opening devices, forcing instruction sets, running tasks. */
#include "kernel_test.h"

#include <stdatomic.h>

static void check_refused(const char *name, int threads, hstu_status status, const char *part)
{
    hs_device *dev = NULL;
    hstu_error err = {0};
    assert_int_equal(hs_device_open(&dev, &(hs_device_options){.name = name, .threads = threads}, &err), status);
    assert_null(dev);
    assert_int_equal(err.code, status);
    if (!strstr(err.msg, part))
        fail_msg("\"%s\" does not mention \"%s\"", err.msg, part);
}

static void test_open(void **state)
{
    (void)state;
    assert_int_equal(unsetenv("HSTU_ISA"), 0);
    check_refused("npu7", 0, HSTU_EDEVICE, "cpu");
    check_refused("", 0, HSTU_EDEVICE, "known");
    check_refused("cpu", -1, HSTU_EINVAL, "-1");
    check_refused("cpu", 100000, HSTU_EINVAL, "100000");
    hs_device *dev = NULL;
    assert_int_equal(hs_device_open(&dev, &(hs_device_options){.name = "cpu", .threads = 0}, NULL), HSTU_OK);
    assert_string_equal(dev->name, "cpu");
    assert_true(dev->n_threads >= 1);
    hs_device_close(dev);
    hs_device_close(NULL);
}

static void test_isa(void **state)
{
    (void)state;
    const char *best = NULL;
    assert_int_equal(setenv("HSTU_ISA", "mmx", 1), 0);
    check_refused("cpu", 1, HSTU_EINVAL, "mmx");
    for (int i = 0; hs_cpu_kernels_at(i); i++) {
        if (hs_cpu_can_run(i)) {
            best = hs_cpu_gains(i) ? hs_cpu_kernels_at(i)->isa : best;
            hs_device_close(device_new(i, 1));
        } else {
            assert_int_equal(setenv("HSTU_ISA", hs_cpu_kernels_at(i)->isa, 1), 0);
            check_refused("cpu", 1, HSTU_EINVAL, hs_cpu_kernels_at(i)->isa);
        }
    }
    hs_device *dev = NULL;
    assert_int_equal(setenv("HSTU_ISA", "", 1), 0);
    assert_int_equal(hs_device_open(&dev, &(hs_device_options){.name = "cpu", .threads = 2}, NULL), HSTU_OK);
    assert_string_equal(dev->isa, best);
    assert_int_equal(dev->n_threads, 2);
    hs_device_close(dev);
}

enum { N_TASKS = 1000 };

typedef struct counts {
    _Atomic int of[N_TASKS];
    int plain[N_TASKS]; /* written by one task each, read behind the region */
} counts;

static void count_task(void *ctx, int64_t i)
{
    counts *c = ctx;
    atomic_fetch_add(&c->of[i], 1);
    c->plain[i]++;
}

static void test_parallel(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 4; threads++) {
        hs_device *dev = device_new(0, threads);
        counts *c = hs_calloc(1, sizeof *c);
        assert_non_null(c);
        for (int round = 1; round <= 20; round++) {
            dev->table->parallel(dev, N_TASKS, count_task, c);
            dev->table->parallel(dev, 0, count_task, c);
            for (int i = 0; i < N_TASKS; i++) {
                assert_int_equal(atomic_load(&c->of[i]), round);
                assert_int_equal(c->plain[i], round);
            }
        }
        hs_free(c);
        hs_device_close(dev);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open), cmocka_unit_test(test_isa), cmocka_unit_test(test_parallel)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
