/* The vendors' providers as far as they go without their NPUs: OpenVINO's CPU device, Qualcomm's simulator, and what is said where
 * a driver or a toolkit is missing. Each is skipped without its library, which a variable names. */
#include "ort_support.h"

#include <unistd.h>

static hs_ort *open_with(const char *device, const char *library, const char *provider_library, const char *option)
{
    hs_ort_choice choice = choice_of(device);
    choice.library = library;
    choice.provider_library = provider_library;
    choice.option = &option;
    choice.n_options = option ? 1 : 0;
    return open_or_skip(&choice);
}

/* A product that is deep enough to tell float32 from bfloat16, and an activation. */
static void check_product(hs_ort *ort, double allowed)
{
    enum { ROWS = 4, DEPTH = 256, COLS = 32 };
    static _Alignas(64) float w[DEPTH * COLS];
    for (int i = 0; i < DEPTH * COLS; i++)
        w[i] = (float)((i * 29) % 101 - 50) / 97;
    rig r = rig_on(ort);
    const hs_value x = rig_floats(&r, hs_dims_2(ROWS, DEPTH));
    const hs_value y = hs_graph_matmul(r.g, x, hs_graph_constant(r.g, HS_F32, hs_dims_2(DEPTH, COLS), w));
    rig_output(&r, y);
    rig_output(&r, hs_graph_sigmoid(r.g, y));
    rig_compile(&r);
    assert_int_equal(hs_ort_session_nodes(r.session), 2);
    rig_run(&r);
    for (size_t i = 0; i < ROWS * COLS; i++) {
        double sum = 0, size = 0;
        for (size_t k = 0; k < DEPTH; k++) {
            const double term = (double)((float *)r.in[0])[i / COLS * DEPTH + k] * w[k * COLS + i % COLS];
            sum += term;
            size += fabs(term);
        }
        if (!(fabs(((float *)r.out[0])[i] - sum) <= allowed * size))
            fail_msg("product [%zu]: expected %.9g, found %.9g", i, sum, (double)((float *)r.out[0])[i]);
        expect_near(((float *)r.out[1])[i], 1 / (1 + exp(-sum)), 100 * allowed, "sigmoid", i);
    }
    rig_free(&r);
}

static void check_info(hs_ort *ort, const char *provider, const char *kind)
{
    hs_ort_info info;
    hs_ort_get_info(ort, &info);
    assert_string_equal(info.provider, provider);
    assert_string_equal(info.kind, kind);
    assert_true(*info.vendor != '\0');
}

/* TopK on a graph's input is what OpenVINO's build of this version declines. */
static void test_openvino_declines(void **state)
{
    (void)state;
    const char *library = library_from("HSTU_ORT_OPENVINO", "OpenVINO");
    for (int as_half = 0; as_half < 2; as_half++) {
        hs_ort *ort = open_with("npu:OpenVINOExecutionProvider", library, NULL, "device_type=CPU");
        rig r = rig_on(ort);
        const hs_value x = rig_input(&r, as_half ? HS_F16 : HS_F32, hs_dims_2(16, 2));
        hs_value values, places;
        hs_graph_top_k(r.g, x, 3, &values, &places);
        rig_output(&r, values);
        rig_output(&r, places);
        hstu_error err = {.msg = ""};
        assert_int_equal(hs_ort_compile(ort, r.g, &r.session, &err), HSTU_EUNSUP);
        expect_text(err.msg, "OpenVINOExecutionProvider does not compute the whole graph, it declines: TopK");
        assert_null(r.session);
        rig_free(&r);
        check_product(ort, 1e-6); /* the next graph is as if nothing had been */
        hs_ort_close(ort);
    }
}

static void test_openvino(void **state)
{
    (void)state;
    const char *library = library_from("HSTU_ORT_OPENVINO", "OpenVINO");
    for (int round = 0; round < 3; round++) {
        hs_ort *ort = open_with("npu:intel", library, NULL, "device_type=CPU");
        check_info(ort, "OpenVINOExecutionProvider", "CPU");
        check_product(ort, 1e-6);
        hs_ort_close(ort);
    }
}

static void test_openvino_without_npu(void **state)
{
    (void)state;
    hs_ort_choice choice = choice_of("npu:intel");
    choice.library = library_from("HSTU_ORT_OPENVINO", "OpenVINO");
    if (access("/dev/accel/accel0", F_OK) == 0) {
        print_message("SKIPPED: this machine has an accelerator\n");
        skip();
    }
    expect_open(&choice, HSTU_EDEVICE, "Device NPU is not available; its machine needs the kernel's driver intel_vpu");
    const char *option = "device_type=QPU";
    choice.option = &option;
    choice.n_options = 1;
    expect_open(&choice, HSTU_EINVAL, "device_type is NPU, CPU or GPU, found 'QPU'");
    option = "precision=FP99";
    expect_open(&choice, HSTU_EDEVICE, "OpenVINOExecutionProvider cannot be used");
}

/* Intel's plug-in lists the processor where that is Intel's, and nothing elsewhere. */
static void test_openvino_plugin(void **state)
{
    (void)state;
    const char *plugin = library_from("HSTU_ORT_INTEL", "OpenVINO's plug-in");
    const char *option = "device_type=CPU";
    hs_ort_choice choice = choice_of("npu:intel");
    choice.provider_library = plugin;
    choice.option = &option;
    choice.n_options = 1;
    for (int round = 0; round < 3; round++) {
        hs_ort *ort = NULL;
        hstu_error err = {.msg = ""};
        const hstu_status status = hs_ort_open(&ort, &choice, &err);
        if (status != HSTU_OK) {
            assert_true(status == HSTU_EDEVICE || status == HSTU_ENOENT);
            print_message("SKIPPED: %s\n", err.msg);
            skip();
        }
        hs_ort_info info;
        hs_ort_get_info(ort, &info);
        assert_string_equal(info.provider_library, plugin);
        check_info(ort, "OpenVINOExecutionProvider", "CPU");
        check_product(ort, 1e-6);
        hs_ort_close(ort);
    }
}

static void test_qnn_simulator(void **state)
{
    (void)state;
    const char *plugin = library_from("HSTU_ORT_QNN", "Qualcomm's simulator");
    char option[1100];
    snprintf(option, sizeof option, "backend_path=%.*slibQnnHtp.so", (int)(strrchr(plugin, '/') + 1 - plugin), plugin);
    for (int round = 0; round < 2; round++) {
        hs_ort *ort = open_with("npu:QNNExecutionProvider", NULL, plugin, option);
        check_info(ort, "QNNExecutionProvider", "CPU");
        check_product(ort, 1e-3);
        hs_ort_close(ort);
    }
    const char *absent = "backend_path=/nonexistent/libQnnHtp.so";
    hs_ort_choice choice = choice_of("npu:QNNExecutionProvider");
    choice.provider_library = plugin;
    choice.option = &absent;
    choice.n_options = 1;
    expect_open(&choice, HSTU_ENOENT, "backend_path names does not exist: '/nonexistent/libQnnHtp.so'");
}

/* The simulator is no NPU: only who names its library gets it. */
static void test_qnn_without_npu(void **state)
{
    (void)state;
    hs_ort_choice choice = choice_of("npu:qualcomm");
    choice.provider_library = library_from("HSTU_ORT_QNN", "Qualcomm's provider");
    if (access("/dev/fastrpc-cdsp", F_OK) == 0 || access("/dev/fastrpc-cdsp-secure", F_OK) == 0) {
        print_message("SKIPPED: this machine has a Hexagon NPU\n");
        skip();
    }
    expect_open(&choice, HSTU_EDEVICE, "QNNExecutionProvider finds no NPU of Qualcomm on this machine, which needs");
    choice.device = "npu:QNNExecutionProvider";
    expect_open(&choice, HSTU_EDEVICE, "finds no NPU of Qualcomm");
    choice.device = "npu";
    expect_open(&choice, HSTU_EDEVICE, "no NPU");
}

/* With 1.24 this would wait forever, inside the runtime. */
static void test_plugin_of_another_runtime(void **state)
{
    (void)state;
    const char *plugin = library_from("HSTU_ORT_QNN", "Qualcomm's provider");
    hs_ort_choice choice = choice_of("npu:qualcomm");
    choice.library = library_from("HSTU_ORT_CANN", "Ascend's build");
    choice.provider_library = plugin;
    hs_ort_choice first = choice_of("npu:qualcomm");
    first.provider_library = plugin;
    expect_open(&first, HSTU_EDEVICE, "finds no NPU of Qualcomm");
    expect_open(&choice, HSTU_EDEVICE, "and cannot use it with");
}

static void test_cann_without_toolkit(void **state)
{
    (void)state;
    hs_ort_choice choice = choice_of("npu:ascend");
    choice.library = library_from("HSTU_ORT_CANN", "Ascend");
    if (access("/usr/local/Ascend/ascend-toolkit/latest/lib64/libascendcl.so", F_OK) == 0) {
        print_message("SKIPPED: this machine has Ascend's toolkit\n");
        skip();
    }
    expect_open(&choice, HSTU_EDEVICE, "libascendcl.so: cannot open shared object file");
    expect_open(&choice, HSTU_EDEVICE, "needs Huawei's CANN toolkit 8.2 in /usr/local/Ascend/ascend-toolkit/latest");
    hs_ort_seen *seen = NULL;
    size_t n = 0;
    bool found = false;
    assert_int_equal(hs_ort_list(&seen, &n, &choice, NULL), HSTU_OK);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(seen[i].name, "npu:ascend") == 0) {
            found = true;
            assert_false(seen[i].usable);
            expect_text(seen[i].why, "libascendcl.so");
        }
    }
    assert_true(found);
    hs_free(seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_openvino),
        cmocka_unit_test(test_openvino_declines),
        cmocka_unit_test(test_openvino_without_npu),
        cmocka_unit_test(test_openvino_plugin),
        cmocka_unit_test(test_qnn_simulator),
        cmocka_unit_test(test_qnn_without_npu),
        cmocka_unit_test(test_plugin_of_another_runtime),
        cmocka_unit_test(test_cann_without_toolkit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
