/* Devices by name, their options, and what they refuse: all that needs no ONNX Runtime. */
#include "engine/fixture.h"

#include "hstu/npu.h"

#include <stdlib.h>

static const char config_text[] =
    "{\"max_sequence_length\": 20, \"item_embedding_dim\": 8, \"num_blocks\": 1, \"num_heads\": 1, \"dqk\": 4, "
    "\"dv\": 4, \"max_item_id\": 300}";

static const char no_library[] = "/nonexistent/libonnxruntime.so";

static void test_list_without_a_runtime(void **state)
{
    hstu_devices *devices = NULL;
    hstu_device_info info;
    hstu_error err = {0};
    (void)state;
    assert_ok(hstu_devices_open(&devices, NULL, &err), &err);
    const size_t n = hstu_devices_count(devices);
    assert_true(n > 1);
    assert_ok(hstu_devices_get(devices, 0, &info, &err), &err);
    assert_string_equal(info.name, "cpu");
    assert_string_equal(info.kind, "CPU");
    assert_true(info.usable);
    assert_string_equal(info.why, "");
    assert_non_null(strstr(info.device, "kernels"));
    assert_non_null(strstr(info.device, "thread"));
    for (size_t i = 1; i < n; i++) {
        assert_ok(hstu_devices_get(devices, i, &info, &err), &err);
        assert_int_equal(strncmp(info.name, "npu", 3), 0);
        assert_false(info.usable);
        assert_true(strlen(info.why) > 20);
    }
    assert_int_equal(hstu_devices_get(devices, n, &info, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "does not exist"));
    hstu_devices_close(devices);
    hstu_devices_close(NULL);
}

static void test_cpu_that_cannot_run(void **state)
{
    hstu_devices *devices = NULL;
    hstu_device_info info;
    hstu_error err = {0};
    (void)state;
    assert_int_equal(setenv("HSTU_ISA", "neon512", 1), 0);
    const hstu_status status = hstu_devices_open(&devices, NULL, &err);
    assert_int_equal(unsetenv("HSTU_ISA"), 0);
    assert_ok(status, &err);
    assert_ok(hstu_devices_get(devices, 0, &info, &err), &err);
    assert_false(info.usable);
    assert_non_null(strstr(info.why, "HSTU_ISA"));
    hstu_devices_close(devices);
}

static void check_refused(const hstu_model_options *o, hstu_status status, const char *part, const char *other)
{
    hstu_error err = {0};
    assert_int_equal(hstu_model_options_check(o, &err), status);
    if (!strstr(err.msg, part) || !strstr(err.msg, other))
        fail_msg("'%s' and '%s' are not in \"%s\"", part, other, err.msg);
}

static void test_names_that_are_refused(void **state)
{
    hstu_model_options o;
    (void)state;
    hstu_model_options_init(&o);
    o.dtype = "fp16";
    check_refused(&o, HSTU_EUNSUP, "fp16", "\"cpu\"");
    o.device = NULL;
    o.dtype = "float16";
    check_refused(&o, HSTU_EUNSUP, "float16", "\"cpu\"");
    o.device = "cpu";
    o.dtype = "int8";
    check_refused(&o, HSTU_EUNSUP, "int8", "fp16");
    o.dtype = "fp32";
    o.device = "gpu";
    check_refused(&o, HSTU_EDEVICE, "gpu", "npu");
    o.device = "onnx";
    check_refused(&o, HSTU_EDEVICE, "onnx", "hstu_export_onnx");
    o.device = "npu:intel";
    check_refused(&o, HSTU_ENOENT, no_library, "ONNX Runtime");
}

static void test_npu_options(void **state)
{
    hstu_model_options o;
    hstu_npu_options npu;
    hstu_devices *devices = NULL;
    hstu_error err = {0};
    const char *option[] = {"key=value", NULL};
    (void)state;
    hstu_model_options_init(&o);
    hstu_npu_options_init(&npu);
    assert_int_equal(npu.size, sizeof npu);
    o.device = "npu";
    o.npu = &npu;
    npu.max_graphs = -1;
    check_refused(&o, HSTU_EINVAL, "max_graphs is -1", "64");
    assert_int_equal(hstu_devices_open(&devices, &npu, &err), HSTU_EINVAL);
    assert_null(devices);
    npu.max_graphs = 0;
    npu.option = option;
    npu.n_options = 2;
    check_refused(&o, HSTU_EINVAL, "option 1", "NULL");
    npu.option = NULL;
    check_refused(&o, HSTU_EINVAL, "option 0", "NULL");
    npu.n_options = 0;
    npu.size = sizeof npu + 1;
    check_refused(&o, HSTU_EINVAL, "hstu_npu_options_init", "bytes");
    o.device = "cpu"; /* which looks at none of them */
    assert_ok(hstu_model_options_check(&o, &err), &err);
    o.device = "npu";
    npu.size = sizeof npu;
    npu.ort_library = "/nonexistent/of/the/options.so";
    check_refused(&o, HSTU_ENOENT, "/nonexistent/of/the/options.so", "ONNX Runtime");
}

/* An older caller's struct ends before `npu`. */
static void test_options_of_an_older_caller(void **state)
{
    hstu_model_options o;
    hstu_error err = {0};
    (void)state;
    hstu_model_options_init(&o);
    o.size = offsetof(hstu_model_options, npu);
    o.npu = (const hstu_npu_options *)(const void *)&o; /* not read */
    o.device = "npu";
    assert_int_equal(hstu_model_options_check(&o, &err), HSTU_ENOENT);
}

static void test_what_needs_an_npu(void **state)
{
    fixture f;
    hstu_model_info info;
    hstu_npu_stats stats;
    hstu_self_test result;
    hstu_error err = {0};
    (void)state;
    open_fixture(&f, config_text, 1);
    hstu_model_get_info(f.model, &info);
    assert_string_equal(info.device, "cpu");
    assert_string_equal(info.dtype, "fp32");
    assert_int_equal(hstu_session_get_npu_stats(f.session, &stats, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "\"cpu\""));
    hstu_session_reset_npu_stats(f.session);
    assert_int_equal(hstu_session_warm_up(f.session, 10, 0, 0, &err), HSTU_EINVAL);
    assert_int_equal(hstu_self_test_run(f.model, NULL, NULL, &result, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "\"cpu\""));
    hstu_self_test_remember(f.model);
    assert_false(hstu_self_test_is_known(f.model));
    close_fixture(&f);
}

static int without_runtime(void **state)
{
    (void)state;
    return setenv("HSTU_ORT_LIBRARY", no_library, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list_without_a_runtime),
        cmocka_unit_test(test_cpu_that_cannot_run),
        cmocka_unit_test(test_names_that_are_refused),
        cmocka_unit_test(test_npu_options),
        cmocka_unit_test(test_options_of_an_older_caller),
        cmocka_unit_test(test_what_needs_an_npu),
    };
    return cmocka_run_group_tests(tests, without_runtime, NULL);
}
