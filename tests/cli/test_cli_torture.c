/* Every allocation of an evaluation with its report and of answering requests, without a cache and with one, fails once:
 * each time an error, nothing leaked (AddressSanitizer sees that). */
#include "base/alloc.h"
#include "base/error.h"
#include "cli/run_cache.h"

#include "torture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char data_path[] = "test_cli_torture.csv", requests_path[] = "test_cli_torture.jsonl",
                  candidates_path[] = "test_cli_torture.ids", output_path[] = "test_cli_torture.out",
                  cache_path[] = "test_cli_torture.kv";

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

/* The same of a replay with a cache, every answer of which is verified. */
static hstu_status replay(void *ctx, hstu_error *err)
{
    hs_run *run = ctx;
    HS_TRY(hs_samples_of_replay(&run->samples, run->replayed, err));
    hstu_cache_drop_all(run->cache.cache);
    const hstu_status status = evaluate(run, err);
    if (status == HSTU_OK)
        assert_int_equal(run->cache.n_verified_requests, run->samples.n);
    hs_samples_close(&run->samples);
    return status;
}

static hstu_status answer_cached(void *ctx, hstu_error *err)
{
    hs_run *run = ctx;
    hstu_cache_drop_all(run->cache.cache);
    HS_TRY(hs_run_cache_begin(run, 0, err));
    const hstu_status status = hs_run_answer_requests(run, err);
    if (status == HSTU_OK)
        assert_int_equal(run->cache.n_verified_requests, 2);
    return status;
}

static hstu_status open_cache(void *ctx, hstu_error *err)
{
    hs_run *run = ctx;
    const hstu_status status = hs_run_cache_open(run, err);
    hs_run_cache_close(run);
    return status;
}

static void open_replay(hs_run *run)
{
    hstu_replay_options options;
    hstu_error err = {0};
    hstu_replay_options_init(&options);
    options.item_id_offset = 0;
    hs_samples_close(&run->samples);
    if (hstu_replay_open(&run->replayed, run->dataset, &options, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    run->replay = true;
    run->slide_step = 1;
    run->cache.on = true;
    hstu_cache_options_init(&run->cache.options);
    run->cache.options.bytes = 1 << 20;
    run->cache.save_path = cache_path;
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
    write_file(requests_path, "{\"user\": 8, \"items\": [1, 2], \"times\": [5, 6], \"request_time\": 7}\n"
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
    hs_samples_of_histories(&run.samples, run.histories);
    assert_int_equal(hstu_session_open(&run.session, run.model, &err), HSTU_OK);

    /* The session's own memory, which stays, is not what is tried here: the kernels do without where they cannot have
     * it. */
    assert_int_equal(evaluate(&run, &err), HSTU_OK);
    torture(evaluate, &run, 10);

    torture_silently(answer_requests, &run, 10);

    open_replay(&run);
    torture(open_cache, &run, 3);
    run.cache.verify_every = 1;
    assert_int_equal(hs_run_cache_open(&run, &err), HSTU_OK);
    assert_int_equal(replay(&run, &err), HSTU_OK);
    torture(replay, &run, 20);
    torture_silently(answer_cached, &run, 10);
    hs_run_cache_close(&run);

    hstu_session_close(run.session);
    hstu_replay_close(run.replayed);
    hstu_histories_close(run.histories);
    hstu_dataset_close(run.dataset);
    hstu_model_close(run.model);
    (void)unlink(data_path);
    (void)unlink(requests_path);
    (void)unlink(candidates_path);
    (void)unlink(cache_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
