/* Every allocation of a bench's row fails once, from its configuration to its figures: each time an error or, where kernels
 * do without, figures, and nothing leaked (AddressSanitizer sees that). */
#include "base/alloc.h"
#include "base/error.h"
#include "cli/bench_peak.h"
#include "cli/bench_report.h"
#include "cli/bench_shapes.h"

#include "torture.h"

enum { MAX_REPORT = 1 << 16 };

typedef struct work {
    hs_bench_row row;
    hs_bench_settings settings;
    hs_console console;
} work;

static hstu_status measure(work *w, hstu_error *err)
{
    hs_bench_row row = w->row;
    hs_bench_result result;
    hs_bench_machine machine;
    hs_dynbuf json;
    hs_json_writer writer;
    HS_TRY(hs_bench_measure(&result, &row, &w->settings, &w->console, err));
    assert_true(result.times.n == 1 && result.times.best_s > 0);
    hs_bench_machine_get(&machine);
    hs_dynbuf_init(&json, MAX_REPORT);
    hs_json_writer_init(&writer, &json, 2);
    hs_bench_put_row(&writer, &row, &result, &w->settings, &machine);
    const bool failed = writer.failed;
    hs_dynbuf_free(&json);
    return failed ? hs_fail_nomem(err, MAX_REPORT, "the report") : HSTU_OK;
}

static void torture_row(hs_bench_row row)
{
    work w = {.row = row, .settings = {.device = "cpu", .warmup = 1, .repetitions = 1, .profile = true}};
    long n_failed = 0;
    hs_console_open(&w.console, true);
    for (long n = 1;; n++) {
        hstu_error err = {0};
        torture_left = n;
        const hstu_status status = measure(&w, &err);
        const bool failed = torture_left == 0;
        torture_left = 0;
        if (status != HSTU_OK && (!failed || status != HSTU_ENOMEM || !strstr(err.msg, "out of memory")))
            fail_msg("allocation %ld, status %d: %s", n, (int)status, err.msg);
        n_failed += status != HSTU_OK;
        if (!failed)
            break;
    }
    assert_true(n_failed > 30);
}

static void test_ranking(void **state)
{
    (void)state;
    torture_row((hs_bench_row){"custom", false, {10, 3, 2, 8, 2, 4, 2, 9, 2, 1}, 0.5, "bf16", NULL});
}

static void test_decoder(void **state)
{
    (void)state;
    torture_row((hs_bench_row){"custom", true, {6, 0, 2, 8, 1, 8, 0, 30, 1, 1}, 0, "fp32", NULL});
}

static hstu_status make_rows(void *plan, hstu_error *err)
{
    hs_bench_row *row = NULL;
    size_t n = 0;
    const hstu_status status = hs_bench_rows(&row, &n, plan, err);
    if (status == HSTU_OK)
        hs_free(row);
    return status;
}

static void test_rows(void **state)
{
    (void)state;
    hs_bench_plan plan = {.decoder = false};
    torture(make_rows, &plan, 1);
}

/* What measures peaks says so, too. */
static void test_peak(void **state)
{
    (void)state;
    hs_bench_peak peak = {.flops = 7};
    hstu_error err = {0};
    torture_left = 1;
    assert_int_equal(hs_bench_peak_measure(&peak, "ref", false, 1, 1e-3, &err), HSTU_ENOMEM);
    torture_left = 0;
    assert_true(peak.flops >= 7 && peak.flops <= 7);
    assert_int_equal(hs_bench_peak_measure(&peak, "ref", false, 2, 1e-3, &err), HSTU_OK);
    assert_string_equal(peak.of, "portable fp32");
    assert_true(peak.flops > 1e6 && peak.memory_bytes_s > 1e6);
    assert_int_equal(hs_bench_peak_measure(&peak, "no such kernels", true, 1, 1e-3, &err), HSTU_OK);
    assert_null(peak.of);
    assert_true(peak.flops <= 0);
}

static void test_yardstick(void **state)
{
    (void)state;
    double flops = 7;
    hstu_error err = {0};
    torture_left = 1;
    assert_int_equal(hs_bench_yardstick_measure(&flops, "portable fp32", 1, 1e-3, &err), HSTU_ENOMEM);
    torture_left = 0;
    assert_true(flops >= 7 && flops <= 7);
    assert_int_equal(hs_bench_yardstick_measure(&flops, "portable fp32", 2, 1e-3, &err), HSTU_OK);
    assert_true(flops > 1e6);
    assert_int_equal(hs_bench_yardstick_measure(&flops, "no such instructions", 1, 1e-3, &err), HSTU_OK);
    assert_true(flops <= 0);
    flops = 7;
    assert_int_equal(hs_bench_yardstick_measure(&flops, NULL, 1, 1e-3, &err), HSTU_OK);
    assert_true(flops <= 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranking),
        cmocka_unit_test(test_decoder),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_peak),
        cmocka_unit_test(test_yardstick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
