/* Loading ONNX Runtime: what is no such library, what is too old, names and options that nobody knows. No runtime is needed. */
#include "ort/ort_int.h"
#include "ort_support.h"

#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static hs_ort_choice with_library(const char *library)
{
    hs_ort_choice choice = choice_of("ort-cpu");
    choice.library = library;
    return choice;
}

static void test_no_library(void **state)
{
    (void)state;
    hs_ort_choice choice = with_library("/nowhere/libonnxruntime.so");
    expect_open(&choice, HSTU_ENOENT, "'/nowhere/libonnxruntime.so' does not exist");
    choice.library = NULL;
    setenv("HSTU_ORT_LIBRARY", "/nowhere/else.so", 1);
    expect_open(&choice, HSTU_ENOENT, "'/nowhere/else.so' does not exist");
    setenv("HSTU_ORT_LIBRARY", "", 1);
    setenv("HSTU_ORT_HOME", "/nowhere", 1);
    hs_path path;
    assert_int_equal(hs_ort_find(&path, &choice, NULL, NULL), HSTU_OK);
    assert_string_equal(path.text, "libonnxruntime.so.1"); /* whether the system has one is the system's affair */
    char long_path[2000];
    memset(long_path, 'x', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = '\0';
    choice.library = long_path;
    expect_open(&choice, HSTU_EINVAL, "longer than");
}

static void test_not_the_library(void **state)
{
    (void)state;
    hs_ort_choice choice = with_library(FAKE_ORT_EMPTY);
    expect_open(&choice, HSTU_EDEVICE, "has no OrtGetApiBase");
    choice.library = TEST_DATA; /* a folder */
    expect_open(&choice, HSTU_EDEVICE, "cannot load ONNX Runtime");
    choice.library = TEST_DATA "/fuzz/README.md";
    expect_open(&choice, HSTU_EDEVICE, "cannot load ONNX Runtime");
}

/* At some of these lengths the loader would end the program. */
static void test_cut_short(void **state)
{
    (void)state;
    char path[] = "/tmp/test_ort_load_XXXXXX";
    static char bytes[1 << 20];
    FILE *whole = fopen(FAKE_ORT_OLD, "rb");
    assert_non_null(whole);
    const size_t n = fread(bytes, 1, sizeof bytes, whole);
    assert_int_equal(fclose(whole), 0);
    const int fd = mkstemp(path);
    assert_true(fd >= 0 && n > 5000 && n < sizeof bytes);
    const size_t cut[] = {100, 200, 1000, 4000, 4200};
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        const hs_ort_choice choice = with_library(path);
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, bytes, cut[i], 0), cut[i]);
        expect_open(&choice, HSTU_EDEVICE, "is cut short: it has ");
    }
    close(fd);
    unlink(path);
}

static void test_wrong_version(void **state)
{
    (void)state;
    hs_ort_choice choice = with_library(FAKE_ORT_OLD);
    expect_open(&choice, HSTU_EUNSUP, "ONNX Runtime 1.22.1 in ");
    choice.library = FAKE_ORT_TWO;
    expect_open(&choice, HSTU_EUNSUP, "ONNX Runtime 2.0.0 in ");
    choice.library = FAKE_ORT_ODD;
    expect_open(&choice, HSTU_EUNSUP, "1.24 or a later 1.x is needed");
    choice.library = FAKE_ORT_MINIMAL;
    expect_open(&choice, HSTU_EUNSUP, "without its interface 1.28");
    assert_string_equal(getenv("ORT_DISABLE_TELEMETRY"), "1");
}

static void test_names(void **state)
{
    (void)state;
    const char *const wrong[] = {NULL, "", "cpu", "gpu", "npu:", "NPU", "ort-gpu", "npu "};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        hs_ort_choice choice = with_library(FAKE_ORT_OLD);
        choice.device = wrong[i];
        expect_open(&choice, HSTU_EINVAL, "is unknown: expected npu, npu:intel");
    }
    hs_ort_choice choice = with_library(FAKE_ORT_OLD);
    choice.threads = 0;
    expect_open(&choice, HSTU_EINVAL, "1 thread or more, found 0");
}

static void expect_option(const char *device, const char *option, const char *part)
{
    hs_ort_choice choice = with_library(FAKE_ORT_OLD);
    choice.device = device;
    choice.option = &option;
    choice.n_options = 1;
    expect_open(&choice, part ? HSTU_EINVAL : HSTU_EUNSUP, part ? part : "1.22.1");
}

static void test_options(void **state)
{
    (void)state;
    expect_option(
        "npu:intel", "device_typ=CPU", "'device_typ' is unknown to OpenVINOExecutionProvider, which has: device_type");
    expect_option("npu:QNNExecutionProvider", "soc=1", "htp_graph_splitting_num_prepare_threads, ...");
    expect_option("npu:ascend", "x=1", "'x' is unknown to CANNExecutionProvider, which has: device_id");
    expect_option("npu:amd", "x=1", "'x' is unknown to VitisAIExecutionProvider");
    expect_option("npu", "novalue", "is KEY=VALUE, found 'novalue'");
    expect_option("npu", "=1", "is KEY=VALUE, found '=1'");
    expect_option("ort-cpu", "a=b", "ort-cpu has no options, found 'a=b'");
    /* These get as far as the library. */
    expect_option("npu:intel", "device_type=CPU", NULL);
    expect_option("npu:ascend", "device_id=", NULL);
    expect_option("npu:SomebodysExecutionProvider", "anything=goes", NULL);
    const char *const twice[] = {"a=1", "a=2"};
    hs_ort_choice choice = with_library(FAKE_ORT_OLD);
    choice.device = "npu";
    choice.option = twice;
    choice.n_options = 2;
    expect_open(&choice, HSTU_EINVAL, "'a' is given twice");
    const char *many[100];
    char text[100][8];
    for (int i = 0; i < 100; i++) {
        snprintf(text[i], sizeof text[i], "k%d=1", i);
        many[i] = text[i];
    }
    choice.option = many;
    choice.n_options = 100;
    expect_open(&choice, HSTU_EINVAL, "more than 64 options");
}

/* In the folder of scripts/get_onnxruntime Ascend has a build of its own. */
static void test_folder(void **state)
{
    (void)state;
    char home[] = "/tmp/hstu_ort_XXXXXX";
    assert_non_null(mkdtemp(home));
    char base[64], folder[64], own[96];
    snprintf(base, sizeof base, "%s/libonnxruntime.so", home);
    snprintf(folder, sizeof folder, "%s/ascend", home);
    snprintf(own, sizeof own, "%s/libonnxruntime.so", folder);
    setenv("HSTU_ORT_LIBRARY", "", 1);
    setenv("HSTU_ORT_HOME", home, 1);
    assert_int_equal(symlink(FAKE_ORT_OLD, base), 0);
    hs_ort_choice choice = choice_of("npu:ascend");
    expect_open(&choice, HSTU_EUNSUP, base);
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(symlink(FAKE_ORT_TWO, own), 0);
    expect_open(&choice, HSTU_EUNSUP, own);
    choice.device = "npu:CANNExecutionProvider";
    expect_open(&choice, HSTU_EUNSUP, own);
    choice.device = "npu:intel";
    expect_open(&choice, HSTU_EUNSUP, base);
    choice.device = "npu";
    expect_open(&choice, HSTU_EUNSUP, base);
    unlink(own);
    rmdir(folder);
    unlink(base);
    rmdir(home);
}

static void test_list_without_library(void **state)
{
    (void)state;
    const char *const vendor[] = {"npu:intel", "npu:qualcomm", "npu:ascend", "npu:amd"};
    const hs_ort_choice choice = with_library(FAKE_ORT_OLD);
    hs_ort_seen *seen = NULL;
    size_t n = 0;
    assert_int_equal(hs_ort_list(&seen, &n, &choice, NULL), HSTU_OK);
    assert_int_equal(n, 4);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(seen[i].name, vendor[i]);
        assert_string_equal(seen[i].kind, "NPU");
        assert_false(seen[i].usable);
        expect_text(seen[i].why, "ONNX Runtime 1.22.1");
    }
    hs_free(seen);
}

static void test_messages(void **state)
{
    (void)state;
    static const char *const pair[][2] = {
        {"plain", "plain"},
        {" two\n\n  lines.\n", "two lines"},
        {"/a/b.cc:12 void f() [ONNXRuntimeError] : 1 : FAIL : reason : more", "reason : more"},
        {"[ONNXRuntimeError] : 1 : FAIL : x [ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : inner", "inner"},
        {"/a/b.cc:1 std::string f() [ERROR] [OpenVINO] Device NPU is not available",
            "[OpenVINO] Device NPU is not available"},
        {"Exception from a.cpp:1:\nException from b.cpp:22: broken", "broken"},
        {"see: Exception from a.cpp:1: broken", "see: broken"},
        {"Exception from ", ""},
        {"[ONNXRuntimeError] : ", ""},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof pair / sizeof pair[0]; i++) {
        char out[64];
        hs_ort_message(out, sizeof out, pair[i][0]);
        assert_string_equal(out, pair[i][1]);
    }
    char small[4];
    hs_ort_message(small, sizeof small, "abcdef");
    assert_string_equal(small, "abc");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_library),
        cmocka_unit_test(test_not_the_library),
        cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_wrong_version),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_folder),
        cmocka_unit_test(test_list_without_library),
        cmocka_unit_test(test_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
