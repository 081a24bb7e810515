/* NPUs on the command line: which options go together, what `hstu devices` lists, a machine without ONNX Runtime; and, with it,
 * a whole run on its own processor kernels, whose report tells what the device did. */
#include "cli/program_run.h"

#include <math.h>
#include <stdlib.h>

static const char data_path[] = "test_npu_run.csv", requests_path[] = "test_npu_run.jsonl";
static const char no_library[] = "--ort_library no_such_onnxruntime.so";

static void test_options_of_npus_want_one(void **state)
{
    (void)state;
    static const char *const option[] = {"ort_library x", "ort_provider_library x", "npu_option a=b", "npu_graphs 4",
        "npu_route onnx", "npu_warmup", "npu_selftest off"};
    for (size_t i = 0; i < sizeof option / sizeof *option; i++) {
        char line[128], sentence[160];
        const int n = (int)strcspn(option[i], " ");
        (void)snprintf(sentence, sizeof sentence,
            "option --%.*s means nothing with --device cpu: name an NPU with --device npu, or leave it out", n,
            option[i]);
        (void)snprintf(line, sizeof line, "run --%s", option[i]);
        expect_error(line, HS_EXIT_USAGE, sentence);
        (void)snprintf(line, sizeof line, "run --device cpu --%s", option[i]);
        expect_error(line, HS_EXIT_USAGE, sentence);
    }
    expect_error("run --device npu:intel --kv_cache --verify_cache 3", HS_EXIT_USAGE,
        "options --verify_cache and --device npu:intel exclude each other");
    expect_error("run --device npu --npu_option a", HS_EXIT_USAGE, "option --npu_option wants KEY=VALUE, found 'a'");
    expect_error("run --device npu --npu_option =b", HS_EXIT_USAGE, "option --npu_option wants KEY=VALUE, found '=b'");
    expect_error("run --device npu --npu_option a=1 --npu_option ab=1 --npu_option a=2", HS_EXIT_USAGE,
        "option --npu_option names 'a' twice");
    expect_error("run --device npu --npu_graphs 0", HS_EXIT_USAGE, "--npu_graphs wants a whole number from 1 to 65536");
    expect_error("run --device npu --npu_route fast", HS_EXIT_USAGE, "--npu_route wants one of editor|onnx");
    expect_error("run --device npu --npu_selftest maybe", HS_EXIT_USAGE, "--npu_selftest wants one of auto|on|off");
}

static void test_conversion_options(void **state)
{
    (void)state;
    static const char *const option[] = {"users", "history", "cached", "candidates"};
    for (size_t i = 0; i < sizeof option / sizeof *option; i++) {
        char line[128], sentence[96];
        (void)snprintf(line, sizeof line, "convert a.pt b --%s 4", option[i]);
        (void)snprintf(sentence, sizeof sentence, "option --%s means nothing without --to onnx", option[i]);
        expect_error(line, HS_EXIT_USAGE, sentence);
    }
    expect_error("convert a.pt b --to onnx --dtype bf16", HS_EXIT_USAGE,
        "option --dtype wants fp32 or fp16 with --to onnx, found 'bf16'");
    expect_error("convert no_such_file.pt b --to onnx", HS_EXIT_FAILED, "no_such_file.pt");
}

/* What cannot run at all is said first, and nothing takes the device's place. */
static void test_no_runtime(void **state)
{
    (void)state;
    char line[256];
    static const char *const devices[] = {"npu", "npu:ascend", "npu:intel", "npu:qualcomm", "npu:amd", "ort-cpu"};
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
        (void)snprintf(line, sizeof line, "run --device %s %s --checkpoint no_such_file.pt", devices[i], no_library);
        expect_error(line, HS_EXIT_FAILED, "ONNX Runtime's library 'no_such_onnxruntime.so' does not exist");
    }
}

static void test_devices_without_runtime(void **state)
{
    (void)state;
    char line[128];
    (void)snprintf(line, sizeof line, "devices %s", no_library);
    expect_done(line);
    assert_memory_equal(last.out, "device", 6);
    assert_non_null(strstr(last.out, "\ncpu "));
    static const char *const names[] = {"npu:ascend", "npu:intel", "npu:qualcomm", "npu:amd"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_non_null(strstr(last.out, names[i]));
    assert_non_null(strstr(last.out, "\n    ")); /* why, below its device */
    (void)snprintf(line, sizeof line, "devices --json %s", no_library);
    expect_done(line);
    cJSON *root = parse_output();
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "devices"), *device = NULL;
    assert_true(cJSON_GetArraySize(list) >= 5);
    cJSON_ArrayForEach(device, list)
    {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(device, "name"));
        const char *why = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(device, "why_not"));
        const bool usable = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(device, "usable"));
        assert_int_equal(usable, strcmp(name, "cpu") == 0);
        assert_int_equal(usable, why == NULL);
        if (!usable)
            assert_non_null(strstr(why, "no_such_onnxruntime.so"));
    }
    cJSON_Delete(root);
    expect_error("devices --ort_libary x", HS_EXIT_USAGE, "did you mean '--ort_library'?");
}

/* ---- with ONNX Runtime ------------------------------------------------------------------------------------------ */

/* Whether ONNX Runtime is at hand, where the program would look for it. */
static bool has_runtime(void)
{
    bool found = false;
    expect_done("devices --json");
    cJSON *root = parse_output();
    const cJSON *device = NULL;
    cJSON_ArrayForEach(device, cJSON_GetObjectItemCaseSensitive(root, "devices"))
    {
        found =
            found || (strcmp(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(device, "name")), "ort-cpu") == 0 &&
                         cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(device, "usable")));
    }
    cJSON_Delete(root);
    return found;
}

static void need_runtime(void)
{
    if (has_runtime())
        return;
    print_message("SKIPPED: no ONNX Runtime is at hand: scripts/get_onnxruntime fetches it\n");
    skip();
}

static void write_dataset(void)
{
    write_file(data_path, "index,user_id,sequence_item_ids,sequence_ratings,sequence_timestamps\n"
                          "0,10,\"1,2,3\",\"1,1,1\",\"100,200,300\"\n"
                          "1,11,\"4,5,6,7\",\"1,1,1,1\",\"100,200,300,400\"\n"
                          "2,12,\"9,8,7\",\"1,1,1\",\"100,200,300\"\n"
                          "3,13,\"1,3,5,7,9\",\"1,1,1,1,1\",\"100,200,300,400,500\"\n");
}

static const cJSON *member(const cJSON *root, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, key);
    if (!item)
        fail_msg("no '%s' in: %s", key, last.out);
    return item;
}

static void check_counts(const cJSON *npu)
{
    const cJSON *graphs = member(npu, "graphs"), *compile = member(npu, "compile_s"), *top_k = member(npu, "top_k");
    assert_true(number(graphs, "compiled") >= 1 && number(graphs, "nodes") >= 1);
    assert_true(
        number(graphs, "kept") + number(graphs, "evicted") <= number(graphs, "compiled")); /* searches stay apart */
    assert_true(number(compile, "total") > 0 && number(compile, "timed") >= 0);
    assert_true(number(compile, "timed") <= number(compile, "total"));
    assert_true(number(npu, "runs") >= 2 && number(npu, "run_s") > 0);
    assert_true(number(npu, "copies") >= 2 && number(npu, "bytes_in") > 0 && number(npu, "bytes_out") > 0);
    assert_true(fabs(number(npu, "copies_per_request") - number(npu, "copies") / 4) < 1e-6);
    assert_true(number(npu, "bytes_kept") >= 0);
    assert_true(number(top_k, "device") + number(top_k, "cpu") >= 2);
}

static void test_a_run(void **state)
{
    (void)state;
    char line[256], cpu[MAX_OUTPUT];
    need_runtime();
    write_dataset();
    (void)snprintf(line, sizeof line, "run --config ml-1m --dataset %s --batch_size 2 --warmup 0 --top_k 3", data_path);
    expect_done(line);
    cJSON *root = parse_output();
    assert_null(cJSON_GetObjectItemCaseSensitive(root, "npu"));
    const double hit_rate = number(root, "hit_rate");
    (void)snprintf(cpu, sizeof cpu, "%s", cJSON_GetStringValue(member(root, "device")));
    assert_string_equal(cpu, "cpu");
    cJSON_Delete(root);

    (void)snprintf(line + strlen(line), sizeof line - strlen(line), " --device ort-cpu --npu_selftest on");
    expect_done(line);
    root = parse_output();
    assert_string_equal(cJSON_GetStringValue(member(root, "device")), "ort-cpu");
    assert_true(number(root, "hit_rate") == hit_rate);
    assert_true(number(root, "avg_latency_ms") > 0);
    const cJSON *npu = member(root, "npu"), *test = member(npu, "selftest");
    assert_string_equal(cJSON_GetStringValue(member(npu, "provider")), "CPUExecutionProvider");
    assert_string_equal(cJSON_GetStringValue(member(npu, "route")), "editor");
    assert_string_equal(cJSON_GetStringValue(member(npu, "compute_dtype")), "fp32");
    assert_memory_equal(cJSON_GetStringValue(member(npu, "ort_version")), "1.", 2);
    assert_int_equal(cJSON_GetArraySize(member(npu, "options")), 0);
    assert_string_equal(cJSON_GetStringValue(member(test, "result")), "passed");
    assert_true(number(test, "largest_error") <= number(test, "allowed"));
    assert_true(cJSON_IsNull(member(npu, "warmup_s")));
    check_counts(npu);
    cJSON_Delete(root);
}

/* Its operations cannot be told apart: there is the graph, with what compiling it took, and what the processor does beside it. */
static void test_profile(void **state)
{
    (void)state;
    char line[256];
    need_runtime();
    write_dataset();
    (void)snprintf(line, sizeof line,
        "run --config ml-1m --dataset %s --batch_size 2 --warmup 0 --device ort-cpu --npu_selftest off --profile",
        data_path);
    expect_done(line);
    cJSON *root = parse_output();
    const cJSON *stage = NULL;
    double graph = 0, all = 0;
    cJSON_ArrayForEach(stage, member(member(root, "profile"), "stages"))
    {
        const char *name = cJSON_GetStringValue(member(stage, "stage"));
        if (strcmp(name, "graph") == 0)
            graph = number(stage, "share");
        else if (strcmp(name, "topk") != 0 && strcmp(name, "time_bucket") != 0 && strcmp(name, "else") != 0)
            fail_msg("there is a stage '%s'", name);
        all += number(stage, "share");
    }
    assert_true(graph > 0 && fabs(all - 1) < 1e-3);
    cJSON_Delete(root);
}

/* Without a warm-up graphs are compiled between the answers, for many times what an answer takes. */
static void test_compiling_is_no_latency(void **state)
{
    (void)state;
    char line[256];
    need_runtime();
    write_dataset();
    (void)snprintf(line, sizeof line,
        "run --config ml-1m --dataset %s --batch_size 1 --warmup 0 --device ort-cpu --npu_selftest off --npu_graphs 1",
        data_path);
    expect_done(line);
    cJSON *root = parse_output();
    const cJSON *npu = member(root, "npu"), *graphs = member(npu, "graphs"), *test = member(npu, "selftest");
    const double timed_s = number(member(npu, "compile_s"), "timed");
    assert_string_equal(cJSON_GetStringValue(member(test, "result")), "off");
    assert_true(cJSON_IsNull(member(test, "largest_error")) && cJSON_IsNull(member(test, "allowed")));
    assert_true(timed_s > 0 && timed_s == number(member(npu, "compile_s"), "total"));
    assert_true(number(root, "p50_latency_ms") > 0 && number(root, "p50_latency_ms") < 1e3 * timed_s);
    assert_true(number(graphs, "kept") == 1);
    cJSON_Delete(root);
}

/* The self-test runs once for a model, and its result is remembered in the cache folder. */
static void test_a_known_device_is_not_tested_again(void **state)
{
    (void)state;
    char line[256];
    static const char *const result[] = {"passed", "known"};
    need_runtime();
    write_dataset();
    char cache[256]; /* an absolute path: others do not count */
    assert_non_null(getcwd(cache, sizeof cache - 32));
    (void)strcat(cache, "/test_npu_run.XXXXXX");
    assert_non_null(mkdtemp(cache));
    assert_int_equal(setenv("XDG_CACHE_HOME", cache, 1), 0);
    (void)snprintf(line, sizeof line,
        "run --config ml-1m --dataset %s --batch_size 2 --device ort-cpu --npu_route onnx --npu_warmup", data_path);
    for (int i = 0; i < 2; i++) {
        expect_done(line);
        cJSON *root = parse_output();
        const cJSON *npu = member(root, "npu");
        assert_string_equal(cJSON_GetStringValue(member(member(npu, "selftest"), "result")), result[i]);
        assert_string_equal(cJSON_GetStringValue(member(npu, "route")), "onnx");
        assert_true(number(npu, "warmup_s") > 0);
        assert_true(number(member(npu, "compile_s"), "timed") == 0); /* all of it was done ahead */
        cJSON_Delete(root);
    }
    assert_int_equal(unsetenv("XDG_CACHE_HOME"), 0);
    char command[300];
    (void)snprintf(command, sizeof command, "rm -r %s", cache);
    assert_int_equal(system(command), 0);
}

static void test_requests(void **state)
{
    (void)state;
    char line[256], cpu[MAX_OUTPUT];
    need_runtime();
    write_dataset();
    write_file(requests_path, "{\"user\": 1, \"items\": [1, 2, 3], \"times\": [1, 2, 3], \"request_time\": 4}\n"
                              "{\"user\": 2, \"items\": [4], \"times\": [1], \"request_time\": 4}\n");
    (void)snprintf(
        line, sizeof line, "run --config ml-1m --dataset %s --requests %s --top_k 3", data_path, requests_path);
    expect_done(line);
    (void)snprintf(cpu, sizeof cpu, "%s", last.out);
    (void)snprintf(line + strlen(line), sizeof line - strlen(line), " --device ort-cpu --npu_selftest off");
    expect_done(line);
    const char *expected = cpu, *found = last.out;
    for (int i = 0; i < 2; i++) { /* the same items; scores differ in their last digits */
        assert_memory_equal(found, expected, (size_t)(strstr(expected, "\"scores\"") - expected));
        expected = strchr(expected, '\n') + 1;
        found = strchr(found, '\n') + 1;
    }
    assert_string_equal(found, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options_of_npus_want_one),
        cmocka_unit_test(test_conversion_options),
        cmocka_unit_test(test_no_runtime),
        cmocka_unit_test(test_devices_without_runtime),
        cmocka_unit_test(test_a_run),
        cmocka_unit_test(test_profile),
        cmocka_unit_test(test_compiling_is_no_latency),
        cmocka_unit_test(test_a_known_device_is_not_tested_again),
        cmocka_unit_test(test_requests),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    run_cleanup();
    (void)unlink(data_path);
    (void)unlink(requests_path);
    return failed;
}
