/* Every allocation of an evaluation with its report, and of answering requests, fails once: each time an error, nothing leaked
 * (AddressSanitizer sees that). */
#include "base/alloc.h"
#include "base/error.h"
#include "cli/run.h"

#include "torture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char data_path[] = "test_cli_torture.csv", requests_path[] = "test_cli_torture.jsonl",
                  candidates_path[] = "test_cli_torture.ids", output_path[] = "test_cli_torture.out";

static void write_file(const char *path, const char *text)
{
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fputs(text, out) < 0, 0);
    assert_int_equal(fclose(out), 0);
}

static hstu_status evaluate(void *ctx, hstu_error *err)
{
    hs_run *run = ctx;
    hs_run_result result;
    hs_dynbuf json;
    HS_TRY(hs_run_read_candidates(run, err));
    hstu_status status = hs_run_evaluate(run, &result, err);
    if (status == HSTU_OK) {
        assert_int_equal(unlink(output_path), 0);
        status = hs_report_json(&json, run, &result, err);
        if (status == HSTU_OK)
            hs_dynbuf_free(&json);
        hs_run_result_free(&result);
    }
    assert_int_not_equal(access(output_path, F_OK), 0);
    hs_free(run->candidate);
    run->candidate = NULL;
    return status;
}

static hstu_status answer_requests(void *run, hstu_error *err)
{
    return hs_run_answer_requests(run, err);
}

static void test_all(void **state)
{
    (void)state;
    hs_run run = {.candidates_path = candidates_path,
        .requests_path = requests_path,
        .output_path = output_path,
        .batch_size = 2,
        .window = 3,
        .top_k = {2},
        .n_top_k = 1,
        .k = 2};
    hstu_error err = {0};
    hstu_model_options options;
    write_file(data_path, "user_id,sequence_item_ids,sequence_ratings,sequence_timestamps\n"
                          "10,\"1,2,3\",\"1,1,1\",\"100,200,300\"\n"
                          "11,\"4,5,6,7\",\"1,1,1,1\",\"100,200,300,400\"\n"
                          "12,\"9,8,7\",\"1,1,1\",\"100,200,300\"\n");
    write_file(requests_path, "{\"user\": \"a\", \"items\": [1, 2], \"times\": [5, 6], \"request_time\": 7}\n"
                              "{\"items\": [3], \"times\": [5], \"request_time\": 7, \"candidates\": [7, 5]}\n");
    write_file(candidates_path, "3\n7\n9\n");
    hs_console_open(&run.console, true);
    hstu_model_options_init(&options);
    options.config = "ml-1m";
    options.threads = 1;
    assert_int_equal(hstu_model_open(&run.model, NULL, &options, &err), HSTU_OK);
    hstu_model_get_info(run.model, &run.info);
    run.history = run.info.history;
    assert_int_equal(hstu_dataset_open(&run.dataset, data_path, NULL, &err), HSTU_OK);
    hstu_dataset_get_info(run.dataset, &run.dataset_info);
    assert_int_equal(hstu_histories_open(&run.histories, run.dataset, &run.history, &err), HSTU_OK);
    assert_int_equal(hstu_session_open(&run.session, run.model, &err), HSTU_OK);

    /* The session's own memory, which stays, is not what is tried here: the kernels do without where they cannot have it. */
    assert_int_equal(evaluate(&run, &err), HSTU_OK);
    torture(evaluate, &run, 10);

    torture_silently(answer_requests, &run, 10);

    hstu_session_close(run.session);
    hstu_histories_close(run.histories);
    hstu_dataset_close(run.dataset);
    hstu_model_close(run.model);
    (void)unlink(data_path);
    (void)unlink(requests_path);
    (void)unlink(candidates_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
