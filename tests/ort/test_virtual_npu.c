/* Graphs on the tests' own NPU (tests/npu), through ONNX Runtime: found, chosen, compiled whole, computed as ONNX Runtime's own
 * provider computes them, and every way in which a device can fail. Without an ONNX Runtime nothing runs: exit code 77. */
#include "base/alloc.h"
#include "graph/every_op.h"
#include "ort/random_graph.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SKIPPED = 77 };

static void behave(const char *how)
{
    assert_int_equal(setenv("HSTU_VIRTUAL_NPU", how, 1), 0);
}

static int reset(void **state)
{
    (void)state;
    unsetenv("HSTU_ALLOW_VIRTUAL_NPU");
    return unsetenv("HSTU_VIRTUAL_NPU");
}

/* x [3, 4] times itself turned over, and the softmax of that. */
static hs_graph *small_graph(void)
{
    static const int turn[2] = {1, 0};
    hs_graph *g = hs_graph_new();
    assert_non_null(g);
    hs_value x = hs_graph_input(g, "x", HS_F32, hs_dims_2(3, 4));
    hs_value product = hs_graph_matmul(g, x, hs_graph_transpose(g, x, turn));
    hs_graph_output(g, "product", product);
    hs_graph_output(g, "softmax", hs_graph_softmax(g, product));
    return g;
}

/* Runs the small graph on the device and expects a failure whose sentence holds `part`. */
static void expect_failure(const char *device, hstu_status status, const char *part)
{
    hs_graph *g = small_graph();
    hs_ort_choice choice = choice_of(device, false);
    hstu_error err = {.msg = ""};
    ports p;
    ports_new(&p, g);
    fill_inputs(&p, g, 1);
    assert_int_equal(run_on(&choice, g, &p, &err), status);
    if (!strstr(err.msg, part))
        fail_msg("expected '%s' in '%s'", part, err.msg);
    ports_free(&p);
    hs_graph_free(g);
}

/* ---- finding and choosing -------------------------------------------------------------------------------------------- */

/* The row of the tests' provider, in *out; false when there is none. */
static bool find_row(hs_ort_seen *out)
{
    hs_ort_choice choice = choice_of("npu", false);
    hs_ort_seen *row = NULL;
    size_t n = 0;
    bool found = false;
    hstu_error err;
    if (hs_ort_list(&row, &n, &choice, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < n && !found; i++) {
        found = strcmp(row[i].provider, "VirtualNpuExecutionProvider") == 0;
        *out = found ? row[i] : *out;
    }
    hs_free(row);
    return found;
}

static void test_list(void **state)
{
    (void)state;
    hs_ort_seen row;
    assert_true(find_row(&row));
    assert_string_equal(row.name, "npu:VirtualNpuExecutionProvider");
    assert_string_equal(row.kind, "NPU");
    assert_string_equal(row.vendor, "hstu tests");
    assert_string_equal(row.version, "1.2.3");
    assert_string_equal(row.device, "virtual NPU");
    assert_non_null(strstr(row.library, "virtual_npu_provider.so"));
    assert_true(row.usable);
    assert_false(row.is_virtual);
    assert_string_equal(row.why, "");
}

static void test_list_virtual(void **state)
{
    (void)state;
    hs_ort_seen row;
    behave("virtual");
    assert_true(find_row(&row));
    assert_true(row.is_virtual);
    assert_false(row.usable);
    assert_string_not_equal(row.why, "");
    behave("no_device");
    assert_false(find_row(&row) && row.usable);
}

static void test_open(void **state)
{
    (void)state;
    static const char *const device[] = {"npu", "npu:VirtualNpuExecutionProvider"};
    for (int i = 0; i < 2; i++) {
        hs_ort_choice choice = choice_of(device[i], false);
        hs_ort *ort = NULL;
        hs_ort_info info;
        hstu_error err;
        if (hs_ort_open(&ort, &choice, &err) != HSTU_OK)
            fail_msg("%s: %s", device[i], err.msg);
        hs_ort_get_info(ort, &info);
        assert_string_equal(info.provider, "VirtualNpuExecutionProvider");
        assert_string_equal(info.provider_version, "1.2.3");
        assert_string_equal(info.vendor, "hstu tests");
        assert_string_equal(info.device, "virtual NPU");
        assert_string_equal(info.kind, "NPU");
        assert_non_null(strstr(info.provider_library, "virtual_npu_provider.so"));
        assert_false(info.is_virtual);
        hs_ort_close(ort);
    }
}

static void test_virtual_is_refused(void **state)
{
    (void)state;
    behave("virtual");
    expect_failure("npu", HSTU_EDEVICE, ""); /* the sentence may be another provider's, in builds that have one */
    expect_failure("npu:VirtualNpuExecutionProvider", HSTU_EDEVICE, "ahead of time");
    setenv("HSTU_ALLOW_VIRTUAL_NPU", "1", 1);
    hs_graph *g = small_graph();
    compare_with_cpu(g, 2, 1e-6);
    hs_graph_free(g);
}

static void test_no_device(void **state)
{
    (void)state;
    behave("no_device");
    expect_failure("npu", HSTU_EDEVICE, "");
    behave("");
    expect_failure("npu:SomeOtherExecutionProvider", HSTU_EINVAL, "SomeOtherExecutionProvider");
}

static void test_refused_library(void **state)
{
    (void)state;
    behave("version=9");
    expect_failure("npu", HSTU_EDEVICE, "interface version 9");
    behave("version=99");
    expect_failure("npu", HSTU_EDEVICE, "interface version 99");
}

/* ---- computing ------------------------------------------------------------------------------------------------------- */

static void test_every_operator(void **state)
{
    (void)state;
    const hs_dtype type[2] = {HS_F32, HS_F16};
    for (int i = 0; i < 2; i++) {
        hs_graph *g = hs_graph_new();
        assert_non_null(g);
        every_op(g, type[i]);
        for (uint32_t seed = 1; seed <= 5; seed++)
            compare_with_cpu(g, seed, i ? 2e-3 : 2e-6);
        hs_graph_free(g);
    }
}

/* Rounding to fp16 and back, bit for bit: ties, numbers below the normal ones, what overflows. */
static void test_half(void **state)
{
    (void)state;
    static const float number[16] = {0.0f, -0.0f, 0x1p-25f, 0x1.8p-25f, 0x1.8p-24f, 0x1.4p-23f, -0x1.ffcp-15f, 0x1p-14f,
        0x1.002p+0f, 0x1.006p+0f, -0x1.0021p+0f, 0x1.ffep+3f, 65519.0f, 65520.0f, -INFINITY, 0.1f};
    ports p;
    hs_graph *g = hs_graph_new();
    assert_non_null(g);
    hs_value half = hs_graph_cast(g, hs_graph_input(g, "x", HS_F32, hs_dims_1(16)), HS_F16);
    hs_graph_output(g, "half", half);
    hs_graph_output(g, "sum", hs_graph_add(g, half, hs_graph_number(g, HS_F16, 0.3)));
    ports_new(&p, g);
    memcpy(p.input[0], number, sizeof number);
    run_fine("npu", false, g, &p);
    for (int i = 0; i < 16; i++) {
        uint16_t want = hs_f32_to_f16(number[i]);
        assert_int_equal(((const uint16_t *)p.output[0])[i], want);
        want = hs_f32_to_f16(hs_f16_to_f32(want) + hs_f16_to_f32(hs_f32_to_f16(0.3f)));
        assert_int_equal(((const uint16_t *)p.output[1])[i], want);
    }
    ports_free(&p);
    hs_graph_free(g);
}

static void test_random_graphs(void **state)
{
    (void)state;
    static const char *const op[] = {"Add", "Sub", "Mul", "Div", "Max", "Min", "LessOrEqual", "Sqrt", "Abs", "Sigmoid",
        "Relu", "Erf", "Softmax", "ReduceMean", "ReduceMax", "MatMul", "Cast", "Reshape", "Transpose", "Concat",
        "Slice", "Gather", "TopK"};
    enum { N_OPS = sizeof op / sizeof op[0] };
    int seen[N_OPS] = {0};
    for (uint32_t seed = 1; seed <= 60; seed++) {
        hs_graph *g = random_graph(seed);
        compare_with_cpu(g, seed, 1e-5);
        for (int i = 0; i < g->n_nodes; i++)
            for (int k = 0; k < N_OPS; k++)
                seen[k] += strcmp(g->node[i].op, op[k]) == 0;
        hs_graph_free(g);
    }
    for (int k = 0; k < N_OPS; k++)
        if (seen[k] < 5)
            fail_msg("%s occurs %d times: the graphs try too little", op[k], seen[k]);
}

typedef struct caller {
    hs_ort_session *session;
    const hs_graph *g;
    ports p;
    hstu_status status;
    hstu_error err;
} caller;

static void *call_often(void *argument)
{
    caller *c = argument;
    hs_ort_binding *binding = NULL;
    c->status = hs_ort_bind(c->session, c->p.input, c->p.output, &binding, &c->err);
    for (int i = 0; i < 100 && c->status == HSTU_OK; i++)
        c->status = hs_ort_run(binding, &c->err);
    hs_ort_binding_close(binding);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    enum { N_CALLERS = 4 };
    hs_ort_choice choice = choice_of("npu", false);
    hs_ort *ort = NULL;
    hs_ort_session *session = NULL;
    caller c[N_CALLERS];
    pthread_t thread[N_CALLERS];
    hstu_error err;
    hs_graph *g = random_graph(7);
    if (hs_ort_open(&ort, &choice, &err) != HSTU_OK || hs_ort_compile(ort, g, &session, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    assert_true(hs_ort_session_nodes(session) > 0);
    for (int i = 0; i < N_CALLERS; i++) {
        c[i] = (caller){.session = session, .g = g, .status = HSTU_OK};
        ports_new(&c[i].p, g);
        fill_inputs(&c[i].p, g, (uint32_t)i);
        assert_int_equal(pthread_create(&thread[i], NULL, call_often, &c[i]), 0);
    }
    for (int i = 0; i < N_CALLERS; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        if (c[i].status != HSTU_OK)
            fail_msg("%s", c[i].err.msg);
        ports cpu;
        ports_new(&cpu, g);
        fill_inputs(&cpu, g, (uint32_t)i);
        run_fine("ort-cpu", false, g, &cpu);
        compare_outputs(g, &c[i].p, &cpu, 1e-5);
        ports_free(&cpu);
        ports_free(&c[i].p);
    }
    hs_ort_session_close(session);
    hs_ort_close(ort);
    hs_graph_free(g);
}

/* ---- failing --------------------------------------------------------------------------------------------------------- */

static void test_declined(void **state)
{
    (void)state;
    behave("decline=Softmax");
    expect_failure("npu", HSTU_EUNSUP, "Softmax");
    behave("decline=Softmax,decline=Transpose");
    expect_failure("npu", HSTU_EUNSUP, "Transpose");
    behave("decline=TopK"); /* the graph has none */
    hs_graph *g = small_graph();
    compare_with_cpu(g, 3, 1e-6);
    hs_graph_free(g);
}

static void test_fail_compile(void **state)
{
    (void)state;
    behave("fail_compile");
    expect_failure("npu", HSTU_EDEVICE, "found no place for the graph");
}

static void test_fail_run(void **state)
{
    (void)state;
    hs_ort_choice choice = choice_of("npu", false);
    hs_ort *ort = NULL;
    hs_ort_session *session = NULL;
    hs_ort_binding *binding = NULL;
    hstu_error err;
    ports p;
    hs_graph *g = small_graph();
    ports_new(&p, g);
    fill_inputs(&p, g, 1);
    behave("fail_run=3");
    if (hs_ort_open(&ort, &choice, &err) != HSTU_OK || hs_ort_compile(ort, g, &session, &err) != HSTU_OK ||
        hs_ort_bind(session, p.input, p.output, &binding, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(hs_ort_run(binding, &err), HSTU_OK);
    assert_int_equal(hs_ort_run(binding, &err), HSTU_OK);
    assert_int_equal(hs_ort_run(binding, &err), HSTU_EDEVICE);
    assert_non_null(strstr(err.msg, "the device was lost"));
    assert_int_equal(hs_ort_run(binding, &err), HSTU_OK);
    hs_ort_binding_close(binding);
    hs_ort_session_close(session);
    hs_ort_close(ort);
    ports_free(&p);
    hs_graph_free(g);
}

/* What tests of the layers above rely on: the device can be made to compute wrongly. */
static void test_wrong_results(void **state)
{
    (void)state;
    ports right, wrong;
    hs_graph *g = small_graph();
    ports_new(&right, g);
    ports_new(&wrong, g);
    fill_inputs(&right, g, 4);
    fill_inputs(&wrong, g, 4);
    run_fine("npu", false, g, &right);
    behave("wrong=0.01");
    run_fine("npu", false, g, &wrong);
    for (int i = 0; i < 9; i++) {
        double expected = 1.01 * number_at(right.output[0], HS_F32, (size_t)i);
        assert_true(fabs(number_at(wrong.output[0], HS_F32, (size_t)i) - expected) <= 1e-6 * fabs(expected));
    }
    behave("nan");
    run_fine("npu", false, g, &wrong);
    for (int i = 0; i < 9; i++)
        assert_true(isnan(((const float *)wrong.output[1])[i]));
    ports_free(&right);
    ports_free(&wrong);
    hs_graph_free(g);
}

/* Whether there is an ONNX Runtime at all. */
static bool have_runtime(void)
{
    hs_ort_choice choice = choice_of("ort-cpu", false);
    hs_ort *ort = NULL;
    hstu_error err = {.msg = ""};
    hstu_status status = hs_ort_open(&ort, &choice, &err);
    hs_ort_close(ort);
    if (status == HSTU_ENOENT)
        fprintf(stderr, "test_virtual_npu: SKIPPED, NOTHING WAS TESTED: %s\n", err.msg);
    return status != HSTU_ENOENT;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_list, reset),
        cmocka_unit_test_teardown(test_list_virtual, reset),
        cmocka_unit_test_teardown(test_open, reset),
        cmocka_unit_test_teardown(test_virtual_is_refused, reset),
        cmocka_unit_test_teardown(test_no_device, reset),
        cmocka_unit_test_teardown(test_refused_library, reset),
        cmocka_unit_test_teardown(test_every_operator, reset),
        cmocka_unit_test_teardown(test_half, reset),
        cmocka_unit_test_teardown(test_random_graphs, reset),
        cmocka_unit_test_teardown(test_threads, reset),
        cmocka_unit_test_teardown(test_declined, reset),
        cmocka_unit_test_teardown(test_fail_compile, reset),
        cmocka_unit_test_teardown(test_fail_run, reset),
        cmocka_unit_test_teardown(test_wrong_results, reset),
    };
    reset(NULL);
    return have_runtime() ? cmocka_run_group_tests(tests, NULL, NULL) : SKIPPED;
}
