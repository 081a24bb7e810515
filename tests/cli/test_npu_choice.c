/* Choosing an NPU with the built program: what `hstu devices` lists, which names `--device` takes, and every library that is
 * missing, wrong or too old, each refused with what to do. */
#include "cli/npu_run.h"

static const char by_name[] = "npu:VirtualNpuExecutionProvider";

/* ---- hstu devices ------------------------------------------------------------------------------------------------ */

/* The device of the name in what `hstu devices --json` has printed; NULL: none. */
static const cJSON *find_device(const cJSON *root, const char *name)
{
    const cJSON *device = NULL;
    cJSON_ArrayForEach(device, member(root, "devices"))
    {
        if (strcmp(text_of(device, "name"), name) == 0)
            return device;
    }
    return NULL;
}

static cJSON *list_devices(void)
{
    expect_silence("devices --json");
    return parse_output();
}

static void test_devices(void **state)
{
    (void)state;
    static const char *const others[] = {"npu:intel", "npu:qualcomm", "npu:ascend", "npu:amd"};
    cJSON *root = list_devices();
    const cJSON *device = find_device(root, by_name);
    assert_non_null(device);
    assert_string_equal(text_of(device, "kind"), "NPU");
    assert_string_equal(text_of(device, "vendor"), "hstu tests");
    assert_string_equal(text_of(device, "provider"), "VirtualNpuExecutionProvider");
    assert_string_equal(text_of(device, "version"), "1.2.3");
    assert_string_equal(text_of(device, "device"), "virtual NPU");
    assert_non_null(strstr(text_of(device, "library"), "virtual_npu_provider.so"));
    assert_true(cJSON_IsTrue(member(device, "usable")) && cJSON_IsFalse(member(device, "virtual")));
    assert_true(cJSON_IsNull(member(device, "why_not")));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        device = find_device(root, others[i]);
        assert_non_null(device);
        if (!cJSON_IsTrue(member(device, "usable")))
            assert_true(strlen(text_of(device, "why_not")) > 20);
    }
    cJSON_Delete(root);
    expect_silence("devices");
    assert_non_null(strstr(last.out, "npu:VirtualNpuExecutionProvider  NPU   hstu tests  VirtualNpuExecutionProvider"));
    assert_non_null(strstr(last.out, "1.2.3    yes, virtual NPU\n"));
}

static void test_virtual_devices(void **state)
{
    (void)state;
    behave("virtual");
    for (int allowed = 0; allowed < 2; allowed++) {
        cJSON *root = list_devices();
        const cJSON *device = find_device(root, by_name);
        assert_non_null(device);
        assert_true(cJSON_IsTrue(member(device, "virtual")));
        assert_int_equal(cJSON_IsTrue(member(device, "usable")), allowed);
        if (!allowed)
            assert_string_equal(text_of(device, "why_not"), "a virtual NPU only compiles ahead of time");
        cJSON_Delete(root);
        if (!allowed)
            expect_replay_refusal(NPU_HSTU, "--device npu:VirtualNpuExecutionProvider",
                "no NPU for 'npu:VirtualNpuExecutionProvider' on this machine: VirtualNpuExecutionProvider has a "
                "virtual one, which only compiles ahead of time");
        if (!allowed)
            expect_replay_refusal(NPU_HSTU, "--device npu", "which only compiles ahead of time");
        assert_int_equal(setenv("HSTU_ALLOW_VIRTUAL_NPU", "1", 1), 0);
    }
    cJSON_Delete(replay_report(NPU_HSTU, "--steps 2 --device npu"));
}

/* A provider that cannot be used is why, and the rest is listed all the same. */
static void test_devices_of_a_bad_provider(void **state)
{
    (void)state;
    behave("version=9");
    cJSON *root = list_devices();
    assert_null(find_device(root, by_name));
    assert_true(cJSON_IsTrue(member(find_device(root, "cpu"), "usable")));
    const cJSON *intel = find_device(root, "npu:intel");
    if (cJSON_IsFalse(member(intel, "usable")))
        assert_non_null(strstr(text_of(intel, "why_not"), "was made for interface version 9"));
    cJSON_Delete(root);
    behave("no_device");
    root = list_devices();
    assert_null(find_device(root, by_name));
    cJSON_Delete(root);
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

static void test_names(void **state)
{
    (void)state;
    static const char *const names[] = {"npu", by_name};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char options[96];
        (void)snprintf(options, sizeof options, "--steps 2 --device %s", names[i]);
        cJSON *root = replay_report(NPU_HSTU, options);
        const cJSON *npu = member(root, "npu");
        assert_string_equal(text_of(root, "device"), names[i]);
        assert_string_equal(text_of(npu, "provider"), "VirtualNpuExecutionProvider");
        assert_string_equal(text_of(npu, "provider_version"), "1.2.3");
        assert_string_equal(text_of(npu, "vendor"), "hstu tests");
        assert_string_equal(text_of(npu, "device"), "virtual NPU");
        assert_string_equal(text_of(npu, "kind"), "NPU");
        assert_memory_equal(text_of(npu, "library"), "/", 1);
        assert_memory_equal(text_of(npu, "provider_library"), "/", 1);
        assert_non_null(strstr(text_of(npu, "provider_library"), "/virtual_npu_provider.so"));
        cJSON_Delete(root);
    }
}

static void test_unknown_names(void **state)
{
    (void)state;
    expect_replay_refusal(NPU_HSTU, "--device npu:SomeExecutionProvider",
        "the device 'npu:SomeExecutionProvider' is unknown: expected npu, npu:intel, npu:qualcomm, npu:ascend, "
        "npu:amd, npu:PROVIDER");
    expect_replay_refusal(NPU_HSTU, "--device npu:inetl", "the device 'npu:inetl' is unknown");
    expect_replay_refusal(NPU_HSTU, "--device npu:", "the device 'npu:' is unknown");
    expect_replay_refusal(NPU_HSTU, "--device npux", "device \"npux\" is unknown; the known devices are: cpu, npu");
}

/* Nothing takes the place of a vendor that is not there, and the sentence says what to do. */
static void test_absent_vendors(void **state)
{
    (void)state;
    static const char *const words[][3] = {
        {"npu:intel", "has none of Intel", "'scripts/get_onnxruntime intel' fetches its provider"},
        {"npu:qualcomm", "has none of Qualcomm", "'scripts/get_onnxruntime qualcomm' fetches its provider"},
        {"npu:ascend", "has none of Huawei",
            "'scripts/get_onnxruntime ascend' fetches an ONNX Runtime that has its provider"},
        {"npu:amd", "has none of AMD",
            "AMD's Ryzen AI software brings its provider, whose library --ort_provider_library"},
    };
    cJSON *root = list_devices();
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        char options[64];
        const cJSON *device = find_device(root, words[i][0]);
        const char *why = cJSON_GetStringValue(member(device, "why_not"));
        (void)snprintf(options, sizeof options, "--device %s", words[i][0]);
        if (!why || !strstr(why, words[i][1])) {
            print_message("SKIPPED: %s is not absent here\n", words[i][0]);
            continue;
        }
        expect_replay_refusal(NPU_HSTU, options, words[i][1]);
        assert_non_null(strstr(last.err, words[i][2]));
    }
    cJSON_Delete(root);
}

static void test_no_device(void **state)
{
    (void)state;
    behave("no_device");
    expect_replay_refusal(NPU_HSTU, "--device npu", "no NPU: none of the ");
    expect_replay_refusal(NPU_HSTU, "--device npu:VirtualNpuExecutionProvider", "npu:VirtualNpuExecutionProvider");
}

/* ---- libraries --------------------------------------------------------------------------------------------------- */

/* Runs with a library that is named by the option, and by the variable. */
static void expect_bad_library(const char *option, const char *variable, const char *path, const char *words)
{
    char options[NPU_LINE / 4], kept[NPU_LINE / 4];
    const char *before = getenv(variable);
    const bool was_set = before != NULL;
    (void)snprintf(kept, sizeof kept, "%s", was_set ? before : "");
    (void)snprintf(options, sizeof options, "--device npu --%s %s", option, path);
    expect_replay_refusal(NPU_HSTU, options, words);
    assert_int_equal(setenv(variable, path, 1), 0);
    expect_replay_refusal(NPU_HSTU, "--device npu", words);
    assert_int_equal(was_set ? setenv(variable, kept, 1) : unsetenv(variable), 0);
}

static void test_bad_runtimes(void **state)
{
    (void)state;
    static const char option[] = "ort_library", variable[] = "HSTU_ORT_LIBRARY";
    char text[512];
    (void)snprintf(text, sizeof text, "%s", scratch_path(&npu_files, "log.csv"));
    expect_bad_library(
        option, variable, "/no/such/library.so", "ONNX Runtime's library '/no/such/library.so' does not exist");
    expect_bad_library(option, variable, text, "cannot load ONNX Runtime: ");
    assert_non_null(strstr(last.err, "log.csv: "));
    expect_bad_library(option, variable, FAKE_ORT_EMPTY, "is not ONNX Runtime's library: it has no OrtGetApiBase");
    expect_bad_library(option, variable, FAKE_ORT_OLD, "ONNX Runtime 1.22.1 in '");
    assert_non_null(
        strstr(last.err, "cannot be used: 1.24 or a later 1.x is needed, scripts/get_onnxruntime fetches one"));
    expect_bad_library(option, variable, FAKE_ORT_TWO, "ONNX Runtime 2.0.0 in '");
    expect_bad_library(option, variable, FAKE_ORT_MINIMAL, "was built without its interface");
}

static void test_bad_providers(void **state)
{
    (void)state;
    static const char option[] = "ort_provider_library", variable[] = "HSTU_ORT_PROVIDER_LIBRARY";
    char text[512];
    (void)snprintf(text, sizeof text, "%s", scratch_path(&npu_files, "log.csv"));
    expect_bad_library(
        option, variable, "/no/such/provider.so", "the provider's library '/no/such/provider.so' does not exist");
    expect_bad_library(option, variable, text, "cannot load the provider: ");
    expect_bad_library(
        option, variable, FAKE_ORT_EMPTY, "is no plug-in provider of ONNX Runtime: it has no CreateEpFactories");
    behave("version=9");
    expect_bad_library(option, variable, TEST_PROVIDER, "cannot use the provider in '");
    assert_non_null(strstr(last.err, "the provider was made for interface version 9\n"));
    behave("version=99");
    expect_bad_library(option, variable, TEST_PROVIDER, "the provider was made for interface version 99\n");
}

/* ---- options ----------------------------------------------------------------------------------------------------- */

static void test_options(void **state)
{
    (void)state;
    /* A provider that is known has known options, whether or not it is there. */
    expect_replay_refusal(NPU_HSTU, "--device npu:intel --npu_option no_such_key=1",
        "the option 'no_such_key' is unknown to OpenVINOExecutionProvider, which has: device_type, device_id,");
    expect_replay_refusal(NPU_HSTU, "--device npu:ascend --npu_option device=1",
        "the option 'device' is unknown to CANNExecutionProvider, which has: device_id, npu_mem_limit,");
    expect_replay_refusal(NPU_HSTU, "--device ort-cpu --npu_option a=1", "ort-cpu has no options, found 'a=1'");
    expect_refusal(replay_line(NPU_HSTU, "--device cpu --npu_warmup"), HS_EXIT_USAGE,
        "option --npu_warmup means nothing with --device cpu: name an NPU with --device npu, or leave it out");
    expect_refusal(replay_line(NPU_HSTU, "--npu_option a=1"), HS_EXIT_USAGE,
        "option --npu_option means nothing with --device cpu");
    expect_refusal(replay_line(NPU_HSTU, "--device npu --kv_cache --verify_cache 1"), HS_EXIT_USAGE,
        "options --verify_cache and --device npu exclude each other");
    expect_no_file();
    /* The tests' provider is none that is known: what it is given is its own affair. */
    cJSON *root = replay_report(NPU_HSTU, "--steps 2 --device npu --npu_option speed=11");
    const cJSON *options = member(member(root, "npu"), "options");
    assert_int_equal(cJSON_GetArraySize(options), 1);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetArrayItem(options, 0)), "speed=11");
    cJSON_Delete(root);
}

/* Intel's provider inside a library, on its processor device: a key that it would swallow is refused here, too. */
static void test_options_of_openvino(void **state)
{
    (void)state;
    char options[NPU_LINE / 4];
    const char *library = getenv("HSTU_ORT_OPENVINO");
    if (TEST_SANITIZED || !library || !*library) {
        print_message("SKIPPED: %s, so nothing runs on OpenVINO\n",
            TEST_SANITIZED ? "it cannot be loaded beside a sanitizer" : "HSTU_ORT_OPENVINO names no library");
        skip();
    }
    (void)snprintf(
        options, sizeof options, "--steps 2 --device npu:intel --ort_library %s --npu_option device_type=CPU", library);
    cJSON_Delete(replay_report(NPU_HSTU, options));
    (void)strncat(options, " --npu_option devise_id=0", sizeof options - strlen(options) - 1);
    npu_reset(state);
    expect_replay_refusal(NPU_HSTU, options, "the option 'devise_id' is unknown to OpenVINOExecutionProvider");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_devices, npu_reset),
        cmocka_unit_test_teardown(test_virtual_devices, npu_reset),
        cmocka_unit_test_teardown(test_devices_of_a_bad_provider, npu_reset),
        cmocka_unit_test_teardown(test_names, npu_reset),
        cmocka_unit_test_teardown(test_unknown_names, npu_reset),
        cmocka_unit_test_teardown(test_absent_vendors, npu_reset),
        cmocka_unit_test_teardown(test_no_device, npu_reset),
        cmocka_unit_test_teardown(test_bad_runtimes, npu_reset),
        cmocka_unit_test_teardown(test_bad_providers, npu_reset),
        cmocka_unit_test_teardown(test_options, npu_reset),
        cmocka_unit_test_teardown(test_options_of_openvino, npu_reset),
    };
    if (!npu_begin("test_npu_choice"))
        return NPU_SKIPPED;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    npu_end();
    return failed;
}
