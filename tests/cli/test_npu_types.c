/* Half precision and bfloat16 with the built program on the tests' virtual NPU, and the graphs that `hstu convert --to onnx` writes. */
#include "cli/npu_run.h"

static const double near_fp16 = 3e-2;

/* All numbers under `key` of a line a request, in a row. */
static int collect(const char *lines, const char *key, double *out, int most)
{
    char text[MAX_OUTPUT];
    int n = 0;
    (void)snprintf(text, sizeof text, "%s", lines);
    for (char *save = NULL, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        cJSON *root = parse_text(line);
        const cJSON *row = NULL, *value = NULL;
        cJSON_ArrayForEach(row, member(root, key))
        {
            if (cJSON_IsNumber(row) && n < most)
                out[n++] = row->valuedouble;
            cJSON_ArrayForEach(value, row) if (n < most) out[n++] = value->valuedouble;
        }
        cJSON_Delete(root);
    }
    return n;
}

/* The k-th best score of every user, or every logit, is near the processor's: relative to the largest. */
static double score_error(int model, const char *cpu, const char *found)
{
    double x[512], y[512], scale = 0, largest = 0;
    const char *key = model == NPU_RANKING ? "logits" : "scores";
    const int n = collect(cpu, key, x, 512);
    assert_true(n > 15 && n < 512);
    assert_int_equal(collect(found, key, y, 512), n);
    for (int i = 0; i < n; i++) {
        scale = fmax(scale, fabs(x[i]));
        largest = fmax(largest, fabs(x[i] - y[i]));
    }
    return largest / scale;
}

static void test_fp16(void **state)
{
    (void)state;
    static const char *const devices[] = {"npu", "ort-cpu"};
    char text[128], cpu[MAX_OUTPUT];
    for (int model = 0; model < NPU_MODELS; model += NPU_STEP) {
        write_requests(model);
        expect_silence(requests_line(model, ""));
        memcpy(cpu, last.out, sizeof cpu);
        for (size_t i = 0; i < 2; i++) {
            (void)snprintf(text, sizeof text, "--device %s --npu_selftest on --dtype fp16", devices[i]);
            expect_silence(requests_line(model, text));
            const double error = score_error(model, cpu, last.out);
            cJSON *root = replay_report(model, strcat(text, " --steps 3"));
            const cJSON *npu = member(root, "npu"), *test = member(npu, "selftest");
            print_message("%s on %s in fp16: requests are off by %.2g, the self-test by %.2g\n", npu_model_names[model],
                devices[i], error, number(test, "largest_error"));
            assert_true(error > 1e-7 && error <= near_fp16);
            assert_true(number(test, "largest_error") > 1e-7 && number(test, "allowed") == near_fp16);
            assert_string_equal(text_of(root, "dtype"), "fp16");
            assert_string_equal(text_of(root, "kv_dtype"), "fp32");
            assert_string_equal(text_of(npu, "compute_dtype"), "fp16");
            cJSON_Delete(root);
        }
    }
    (void)npu_reset(state);
    expect_replay_refusal(NPU_HSTU, "--dtype fp16", "fp16"); /* on the processor */
}

/* No provider computes in bf16: weights are rounded to it, graphs compute in fp32, and the report says so. */
static void test_bf16(void **state)
{
    (void)state;
    static const int models[] = {NPU_DECODER, NPU_RANKING};
    char cpu[MAX_OUTPUT];
    for (size_t i = 0; i < 2; i++) {
        write_requests(models[i]);
        expect_silence(requests_line(models[i], "--dtype bf16"));
        memcpy(cpu, last.out, sizeof cpu);
        expect_silence(requests_line(models[i], "--dtype bf16 --device npu --npu_selftest on"));
        const double error = score_error(models[i], cpu, last.out);
        print_message("%s in bf16: requests are off by %.2g\n", npu_model_names[models[i]], error);
        assert_true(error > 1e-7 && error <= near_fp16);
        cJSON *root = replay_report(models[i], "--steps 3 --dtype bf16 --device npu");
        assert_string_equal(text_of(root, "dtype"), "bf16");
        assert_string_equal(text_of(root, "kv_dtype"), "bf16");
        assert_string_equal(text_of(member(root, "npu"), "compute_dtype"), "fp32");
        cJSON_Delete(root);
    }
}

/* ---- graphs as files --------------------------------------------------------------------------------------------- */

/* "convert <checkpoint> users.onnx --to onnx ..." */
static const char *convert_line(int model, const char *options)
{
    static char line[NPU_LINE];
    const char *checkpoint = strchr(model_options(model), ' ') + 1, *rest = strchr(checkpoint, ' ');
    (void)snprintf(line, sizeof line, "convert %.*s %s/users.onnx%.*s --to onnx %s", (int)(rest - checkpoint),
        checkpoint, npu_files.folder, (int)(strstr(rest, " --dataset") - rest), rest, options);
    return line;
}

/* tests/checks/check_exported.py looks at what is in such files. */
static void test_export(void **state)
{
    (void)state;
    static const char *const shapes[] = {
        "--history 20", "--history 16 --cached 32 --users 2 --candidates 5", "--dtype fp16 --history 20 --quiet"};
    for (int model = 0; model < NPU_MODELS; model += NPU_STEP) {
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            size_t n = 0;
            char words[1024];
            expect_silence(convert_line(model, shapes[i]));
            char *file = read_whole(scratch_path(&npu_files, "users.onnx"), &n);
            (void)snprintf(words, sizeof words,
                "wrote %s: ONNX, a graph in %s, %zu bytes; its metadata explains inputs and outputs\n", npu_files.path,
                i == 2 ? "fp16" : "fp32", n);
            assert_string_equal(last.out, words);
            assert_memory_equal(file, "\x08\x08", 2); /* the first field, the format's version 8 */
            free(file);
            assert_int_equal(unlink(npu_files.path), 0);
            expect_no_file();
        }
        expect_refusal(convert_line(model, "--history 90000"), HS_EXIT_FAILED, "history is 90000");
        expect_refusal(convert_line(model, "--users 17"), HS_EXIT_FAILED, "n_users is 17, expected 1 .. 16");
        expect_no_file();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_fp16, npu_reset),
        cmocka_unit_test_teardown(test_bf16, npu_reset),
        cmocka_unit_test_teardown(test_export, npu_reset),
    };
    if (!npu_begin("test_npu_types"))
        return NPU_SKIPPED;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    npu_end();
    return failed;
}
