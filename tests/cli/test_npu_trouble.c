/* The tests' virtual NPU in trouble under the built program: it declines an operator, is wrong, answers no numbers, cannot compile, or
 * is lost in the middle of a run. Each is told in one sentence, and nothing takes its place. */
#include "cli/npu_run.h"

/* Files of passed self-tests that the program remembers. */
static int count_remembered(void)
{
    const char *path = scratch_path(&npu_files, "hstu");
    return access(path, F_OK) == 0 ? count_entries(path) : 0;
}

static int forget(void **state)
{
    remove_folder(scratch_path(&npu_files, "hstu"));
    return npu_reset(state);
}

/* ---- a node that is declined ------------------------------------------------------------------------------------- */

static void test_declined_operator(void **state)
{
    (void)state;
    static const int with_softmax[] = {NPU_SASREC, NPU_DECODER};
    static const char *const options[] = {"--device npu --npu_selftest off", "--device npu --npu_selftest on",
        "--device npu --npu_selftest off --npu_route onnx", "--device npu --npu_selftest off --npu_warmup --kv_cache"};
    behave("decline=Softmax");
    for (size_t i = 0; i < 2; i++) {
        for (size_t k = 0; k < sizeof options / sizeof *options; k++)
            expect_replay_refusal(with_softmax[i], options[k],
                "VirtualNpuExecutionProvider does not compute the whole graph, it declines: Softmax\n");
    }
    cJSON_Delete(replay_report(NPU_RANKING, "--steps 2 --device npu")); /* has none */
    (void)npu_reset(state);
    behave("decline=MatMul,decline=Sigmoid");
    for (int model = 0; model < NPU_MODELS; model += NPU_STEP)
        expect_replay_refusal(model, options[0], "does not compute the whole graph, it declines: ");
    assert_non_null(strstr(last.err, "MatMul"));
    assert_non_null(strstr(last.err, "Sigmoid"));
}

static void test_failed_compilation(void **state)
{
    (void)state;
    behave("fail_compile");
    for (int model = 0; model < NPU_MODELS; model += NPU_STEP) {
        expect_replay_refusal(model, "--device npu", "the compiler found no place for the graph\n");
        write_requests(model);
        expect_refusal(requests_line(model, "--device npu --npu_selftest off"), HS_EXIT_FAILED,
            "the compiler found no place for the graph\n");
    }
}

/* ---- wrong numbers ----------------------------------------------------------------------------------------------- */

/* "differ from the CPU's by 0.019 of the largest, at most 0.0001 is allowed": both figures. */
static void read_figures(double figure[2])
{
    static const char *const before[] = {"differ from the CPU's by ", "of the largest, at most "};
    for (int i = 0; i < 2; i++) {
        const char *at = strstr(last.err, before[i]);
        assert_non_null(at);
        figure[i] = strtod(at + strlen(before[i]), NULL);
    }
}

static void test_wrong_numbers(void **state)
{
    (void)state;
    static const char *const told = "the device \"npu\" (VirtualNpuExecutionProvider 1.2.3) fails the self-test: of 3 "
                                    "made-up users its answers differ from the CPU's by ";
    static const char *const options[] = {"--device npu --npu_selftest on", "--device npu",
        "--device npu --npu_selftest on --kv_cache", "--device npu --npu_selftest on --dtype fp16"};
    for (int model = 0; model < NPU_MODELS; model += NPU_STEP) {
        for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
            double figure[2];
            behave(i < 3 ? "wrong=0.01" : "wrong=0.2");
            expect_replay_refusal(model, options[i], told);
            read_figures(figure);
            assert_true(figure[1] == (i < 3 ? 1e-4 : 3e-2));
            assert_true(figure[0] > 10 * figure[1] || (i == 3 && figure[0] > figure[1]));
        }
        behave("wrong=0.01");
        cJSON *root = replay_report(model, "--steps 2 --device npu --npu_selftest off");
        assert_string_equal(text_of(member(member(root, "npu"), "selftest"), "result"), "off");
        cJSON_Delete(root);
        (void)npu_reset(state);
    }
    assert_int_equal(count_remembered(), 0);
}

static void test_no_numbers(void **state)
{
    (void)state;
    behave("nan");
    for (int model = 0; model < NPU_MODELS; model += NPU_STEP) {
        expect_replay_refusal(
            model, "--device npu", "differ from the CPU's by inf of the largest, at most 0.0001 is allowed");
        expect_replay_refusal(
            model, "--device npu --dtype fp16 --npu_selftest on", "by inf of the largest, at most 0.03");
    }
    /* Without the self-test they are no answers either. */
    for (int model = 0; model < NPU_MODELS; model += NPU_STEP) {
        const char *words =
            model == NPU_RANKING ? "logit 0 of candidate 0 (item " : "user 0: element 0 of the embedding is ";
        expect_replay_refusal(model, "--device npu --npu_selftest off", words);
        write_requests(model);
        expect_refusal(requests_line(model, "--device npu --npu_selftest off"), HS_EXIT_FAILED, words);
    }
    assert_int_equal(count_remembered(), 0);
}

static void expect_result(int model, const char *options, const char *result)
{
    cJSON *root = replay_report(model, options);
    const cJSON *test = member(member(root, "npu"), "selftest");
    assert_string_equal(text_of(test, "result"), result);
    if (strcmp(result, "passed") == 0)
        assert_true(number(test, "largest_error") <= number(test, "allowed") && number(test, "allowed") == 1e-4);
    else
        assert_true(cJSON_IsNull(member(test, "largest_error")) && cJSON_IsNull(member(test, "allowed")));
    cJSON_Delete(root);
}

/* What has passed once is believed; what has not passed is asked again, and so is another model or type. */
static void test_remembered(void **state)
{
    (void)state;
    static const char plain[] = "--steps 2 --device npu";
    behave("wrong=0.01");
    expect_replay_refusal(NPU_HSTU, plain, "fails the self-test");
    expect_result(NPU_HSTU, "--steps 2 --device npu --npu_selftest off", "off");
    assert_int_equal(count_remembered(), 0);
    behave("");
    expect_result(NPU_HSTU, plain, "passed");
    assert_int_equal(count_remembered(), 1);
    expect_result(NPU_HSTU, plain, "known");
    expect_result(NPU_HSTU, "--steps 2 --device npu --npu_selftest on", "passed");
    assert_int_equal(count_remembered(), 1);
    expect_result(NPU_SASREC, plain, "passed");
    assert_int_equal(count_remembered(), 2);
    cJSON_Delete(replay_report(NPU_HSTU, "--steps 2 --device npu --dtype fp16"));
    assert_int_equal(count_remembered(), 3);
    /* A known device that has become wrong is found when a test is asked for. */
    behave("wrong=0.01");
    expect_result(NPU_HSTU, plain, "known");
    (void)npu_reset(state);
    behave("wrong=0.01");
    expect_replay_refusal(NPU_HSTU, "--device npu --npu_selftest on", "fails the self-test");
}

/* ---- a device that is lost --------------------------------------------------------------------------------------- */

static void test_lost_device(void **state)
{
    (void)state;
    static const int runs[] = {1, 2, 9, 40};
    char how[32], options[NPU_LINE / 4];
    for (int model = 0; model < NPU_MODELS; model += NPU_STEP) {
        for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
            (void)snprintf(how, sizeof how, "fail_run=%d", runs[i]);
            (void)snprintf(options, sizeof options,
                "--device npu --npu_selftest off --warmup 0 --kv_cache --kv_cache_save %s/saved.kv", npu_files.folder);
            behave(how);
            expect_replay_refusal(model, options, "the device was lost\n");
            assert_non_null(strstr(last.err, "VirtualNpuExecutionProvider"));
        }
        behave("fail_run=2");
        expect_replay_refusal(model, "--device npu --npu_selftest on", "the device was lost\n");
    }
    assert_int_equal(count_remembered(), 0);
}

/* An older file of the name stays as it is. */
static void test_a_file_that_is_there(void **state)
{
    (void)state;
    char text[16];
    scratch_text(&npu_files, "users.csv", "older\n");
    behave("fail_run=5");
    expect_refusal(
        replay_line(NPU_RANKING, "--device npu --npu_selftest off"), HS_EXIT_FAILED, "the device was lost\n");
    read_file(scratch_path(&npu_files, "users.csv"), last.out);
    (void)snprintf(text, sizeof text, "%.15s", last.out);
    assert_string_equal(text, "older\n");
    (void)unlink(npu_files.path);
    expect_no_file();
}

/* Requests that were answered before the device was lost stay answered, whole lines each. */
static void test_lost_between_requests(void **state)
{
    (void)state;
    for (int model = 0; model < NPU_MODELS; model += NPU_STEP) {
        write_requests(model);
        expect_silence(requests_line(model, "--batch_size 1 --device npu --npu_selftest off"));
        char all[MAX_OUTPUT];
        memcpy(all, last.out, sizeof all);
        behave("fail_run=4");
        assert_int_equal(
            launch(requests_line(model, "--batch_size 1 --device npu --npu_selftest off")), HS_EXIT_FAILED);
        const size_t n = strlen(last.out);
        assert_true(n > 0 && n < strlen(all) && last.out[n - 1] == '\n');
        assert_memory_equal(last.out, all, n);
        assert_memory_equal(last.err, "hstu: ", 6);
        assert_non_null(strstr(last.err, "the device was lost\n"));
        (void)npu_reset(state);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_declined_operator, forget),
        cmocka_unit_test_teardown(test_failed_compilation, forget),
        cmocka_unit_test_teardown(test_wrong_numbers, forget),
        cmocka_unit_test_teardown(test_no_numbers, forget),
        cmocka_unit_test_teardown(test_remembered, forget),
        cmocka_unit_test_teardown(test_lost_device, forget),
        cmocka_unit_test_teardown(test_a_file_that_is_there, forget),
        cmocka_unit_test_teardown(test_lost_between_requests, forget),
    };
    if (!npu_begin("test_npu_trouble"))
        return NPU_SKIPPED;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    npu_end();
    return failed;
}
