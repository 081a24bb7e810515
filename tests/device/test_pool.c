/* The thread pool: every task once, in any mix of region sizes and kinds, and no worker twice at the same time. */
#include "kernel_test.h"

#include "device/cpu/cpu_pool.h"

#include <sched.h>
#include <stdatomic.h>
#include <time.h>

enum { THREADS = 5, MOST_TASKS = 300, REGIONS = 4000 };

typedef struct region {
    _Atomic int ran[MOST_TASKS];
    _Atomic int inside[THREADS];
    _Atomic int clashes;
    int plain[MOST_TASKS]; /* written by tasks, read behind the region: what ThreadSanitizer looks at */
} region;

static void count_task(void *context, int worker, int64_t task)
{
    region *r = context;
    atomic_fetch_add(&r->clashes, atomic_fetch_add(&r->inside[worker], 1) != 0);
    atomic_fetch_add(&r->ran[task], 1);
    r->plain[task]++;
    atomic_fetch_sub(&r->inside[worker], 1);
}

static void run_regions(int threads, int pause_every)
{
    hstu_error err;
    hs_cpu_pool *pool = NULL;
    region *r = hs_calloc(1, sizeof *r);
    int expected[MOST_TASKS] = {0};
    assert_non_null(r);
    assert_int_equal(hs_cpu_pool_open(&pool, threads, &err), HSTU_OK);
    for (int i = 0; i < REGIONS; i++) {
        const int n = i % 7 == 0 ? i % 3 : (i * 37) % MOST_TASKS;
        (i % 3 ? hs_cpu_pool_run_near : hs_cpu_pool_run)(pool, n, count_task, r);
        for (int t = 0; t < n; t++)
            expected[t]++;
        if (pause_every && i % pause_every == 0) /* threads fall asleep */
            nanosleep(&(struct timespec){.tv_nsec = 300000}, NULL);
    }
    for (int t = 0; t < MOST_TASKS; t++) {
        assert_int_equal(r->ran[t], expected[t]);
        assert_int_equal(r->plain[t], expected[t]);
    }
    assert_int_equal(r->clashes, 0);
    hs_cpu_pool_close(pool);
    hs_free(r);
}

static void test_every_task_once(void **state)
{
    (void)state;
    for (int threads = 1; threads <= THREADS; threads++)
        run_regions(threads, 0);
}

static void test_sleeping_threads_wake(void **state)
{
    (void)state;
    run_regions(2, 50);
    run_regions(THREADS, 50);
}

static void sum_task(void *context, int worker, int64_t task)
{
    _Atomic int64_t *const sum = context;
    atomic_fetch_add(&sum[worker], task + 1);
}

/* More than a part counts, so that they go through in several regions. */
static void test_many_tasks(void **state)
{
    enum { MANY = THREADS * 65535 + 1000 };
    hstu_error err;
    hs_cpu_pool *pool = NULL;
    (void)state;
    assert_int_equal(hs_cpu_pool_open(&pool, THREADS, &err), HSTU_OK);
    for (int near = 0; near < 2; near++) {
        _Atomic int64_t sum[THREADS] = {0};
        int64_t all = 0;
        (near ? hs_cpu_pool_run_near : hs_cpu_pool_run)(pool, MANY, sum_task, sum);
        for (int i = 0; i < THREADS; i++)
            all += sum[i];
        assert_true(all == (int64_t)MANY * (MANY + 1) / 2);
    }
    hs_cpu_pool_close(pool);
}

/* A region of few tasks leaves the counters of other parts behind; those of the next ones are complete all the same. */
static void test_parts_that_were_empty(void **state)
{
    hstu_error err;
    hs_cpu_pool *pool = NULL;
    (void)state;
    assert_int_equal(hs_cpu_pool_open(&pool, THREADS, &err), HSTU_OK);
    for (int i = 0; i < REGIONS; i++) {
        const int n = i % 10 == 9 ? MOST_TASKS : 2 + i % 2;
        _Atomic int64_t sum[THREADS] = {0};
        int64_t all = 0;
        hs_cpu_pool_run_near(pool, n, sum_task, sum);
        for (int w = 0; w < THREADS; w++)
            all += sum[w];
        assert_true(all == (int64_t)n * (n + 1) / 2);
    }
    hs_cpu_pool_close(pool);
}

typedef struct short_region {
    _Atomic int64_t sum;
    bool yields;
} short_region;

static void yielding_task(void *context, int worker, int64_t task)
{
    short_region *r = context;
    (void)worker;
    if (r->yields && task % 7 == 3)
        sched_yield();
    atomic_fetch_add(&r->sum, task + 1);
}

/* Regions that are over before every thread has looked at them, of both kinds, some with a thread that is late: it must not take what it
 * read of one region for another's. */
static void test_late_threads(void **state)
{
    (void)state;
    for (int threads = THREADS; threads <= 16; threads += 11) {
        hstu_error err;
        hs_cpu_pool *pool = NULL;
        assert_int_equal(hs_cpu_pool_open(&pool, threads, &err), HSTU_OK);
        for (int i = 0; i < (TEST_SANITIZED ? 10000 : 100000); i++) {
            const int64_t n = 2 + (int64_t)i * 7 % 29;
            short_region r = {.sum = 0, .yields = i % 10 == 0};
            (i % 2 ? hs_cpu_pool_run_near : hs_cpu_pool_run)(pool, n, yielding_task, &r);
            assert_true(r.sum == n * (n + 1) / 2);
        }
        hs_cpu_pool_close(pool);
    }
}

typedef struct two_kinds {
    int64_t n;
    _Atomic int64_t made, sum;
    int64_t plain[MOST_TASKS]; /* written by the first kind, read by the second */
} two_kinds;

static void first_task(void *context, int worker, int64_t task)
{
    two_kinds *r = context;
    (void)worker;
    if (task % 11 == 5)
        sched_yield();
    r->plain[task] = task + 1;
    atomic_fetch_add_explicit(&r->made, 1, memory_order_release);
}

static void then_task(void *context, int worker, int64_t task)
{
    two_kinds *r = context;
    (void)worker;
    hs_cpu_pool_await(&r->made, r->n);
    atomic_fetch_add(&r->sum, (task + 1) * (r->n ? r->plain[task % r->n] : 1));
}

/* Tasks of the second kind run once each, and see what those of the first did for which they wait; between regions of one kind, and
 * with threads that are late. */
static void test_two_kinds(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 2 * THREADS; threads += 3) {
        hstu_error err;
        hs_cpu_pool *pool = NULL;
        assert_int_equal(hs_cpu_pool_open(&pool, threads, &err), HSTU_OK);
        for (int i = 0; i < (TEST_SANITIZED ? 3000 : 30000); i++) {
            const int64_t n = i % 13 == 0 ? i % 3 : (int64_t)i * 37 % MOST_TASKS, n_then = (int64_t)i * 7 % 31;
            two_kinds r = {.n = n};
            int64_t want = 0;
            hs_cpu_pool_run_then(pool, n, first_task, n_then, then_task, &r);
            for (int64_t t = 0; t < n_then; t++)
                want += (t + 1) * (n ? t % n + 1 : 1);
            assert_true(r.sum == want && r.made == n);
            short_region one = {.sum = 0};
            hs_cpu_pool_run_near(pool, i % 5, yielding_task, &one);
            assert_true(one.sum == (int64_t)(i % 5) * (i % 5 + 1) / 2);
        }
        hs_cpu_pool_close(pool);
    }
}

/* More of the second kind than a part counts. */
static void test_many_of_the_second_kind(void **state)
{
    enum { MANY = 2 * 65535 + 10 };
    hstu_error err;
    hs_cpu_pool *pool = NULL;
    two_kinds r = {.n = 7};
    int64_t want = 0;
    (void)state;
    assert_int_equal(hs_cpu_pool_open(&pool, 2, &err), HSTU_OK);
    hs_cpu_pool_run_then(pool, r.n, first_task, MANY, then_task, &r);
    for (int64_t t = 0; t < MANY; t++)
        want += (t + 1) * (t % r.n + 1);
    assert_true(r.sum == want);
    hs_cpu_pool_close(pool);
}

static void test_open_and_close(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        hstu_error err;
        hs_cpu_pool *pool = NULL;
        assert_int_equal(hs_cpu_pool_open(&pool, 1 + i % THREADS, &err), HSTU_OK);
        hs_cpu_pool_close(pool);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_task_once),
        cmocka_unit_test(test_sleeping_threads_wake),
        cmocka_unit_test(test_many_tasks),
        cmocka_unit_test(test_parts_that_were_empty),
        cmocka_unit_test(test_late_threads),
        cmocka_unit_test(test_two_kinds),
        cmocka_unit_test(test_many_of_the_second_kind),
        cmocka_unit_test(test_open_and_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
