/* A ranking model's evaluation with its report, and its requests, with a cache and without: figures that hold together,
 * then every allocation fails once, each time an error, nothing leaked (AddressSanitizer sees that). */
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

static const char data_path[] = "test_rank_torture.csv", requests_path[] = "test_rank_torture.jsonl",
                  output_path[] = "test_rank_torture.out", config_path[] = "test_rank_torture.json";
static const char folder[] = TEST_DATA "/golden/ranking/c6_fused_fp32";

static FILE *open_file(const char *path)
{
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    return out;
}

static void write_data(void)
{
    FILE *out = open_file(data_path);
    (void)fputs(
        "user_id,video_id,time_ms,action_weights,play_time_ms,duration_ms,user_active_degree,follow_user_num_range,"
        "fans_user_num_range,friend_user_num_range,register_days_range\n",
        out);
    for (int u = 1; u <= 5; u++)
        (void)fprintf(out,
            "%d,\"[%d, 2, 3, 4]\",\"[1, 2, 3, 4]\",\"[1, 2, %d, 65]\",\"[0, 0, 0, 0]\",\"[0, 0, 0, 0]\",1,2,3,4,5\n", u,
            u, u % 2);
    assert_int_equal(fclose(out), 0);
    out = open_file(requests_path);
    for (int i = 0; i < 2; i++)
        (void)fprintf(out,
            "{\"user\": %d, \"items\": [1, 2], \"actions\": [1, 64], \"candidates\": [3, 4], \"context\": "
            "{\"user_active_degree\": 1, \"follow_user_num_range\": 2, \"fans_user_num_range\": 3, "
            "\"friend_user_num_range\": 4, \"register_days_range\": 5}}\n",
            i);
    assert_int_equal(fclose(out), 0);
}

/* The case's configuration, which leaves the mask open. */
static void write_config(void)
{
    char path[1024], text[16384];
    (void)snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *in = fopen(path, "rb"), *out = open_file(config_path);
    assert_non_null(in);
    const size_t n = fread(text, 1, sizeof text - 1, in);
    assert_true(n > 1 && n < sizeof text - 1 && text[0] == '{');
    text[n] = '\0';
    (void)fprintf(out, "{\"contextual_mask\": false,%s", text + 1);
    assert_int_equal(fclose(in), 0);
    assert_int_equal(fclose(out), 0);
}

static hstu_status evaluate(void *ctx, hstu_error *err)
{
    hs_run *run = ctx;
    hs_run_result result;
    hs_dynbuf json;
    hstu_status status = hs_run_rank(run, &result, err);
    if (status == HSTU_OK) {
        assert_int_equal(unlink(output_path), 0);
        assert_int_equal(result.n_requests, 5);
        assert_int_equal(result.n_targets, 10);
        /* Labels of candidates: u % 2 and 65. */
        assert_int_equal(result.task[0].auc.n_positive, 8);
        assert_int_equal(result.task[6].auc.n_positive, 5);
        assert_int_equal(result.task[0].gauc.n_users, 2);
        assert_int_equal(result.task[1].auc.n_positive, 0);
        status = hs_report_json(&json, run, &result, err);
        if (status == HSTU_OK)
            hs_dynbuf_free(&json);
        hs_run_result_free(&result);
    }
    assert_int_not_equal(access(output_path, F_OK), 0);
    return status;
}

static hstu_status answer_requests(void *run, hstu_error *err)
{
    return hs_run_rank_requests(run, err);
}

static hstu_status evaluate_cached(void *ctx, hstu_error *err)
{
    hs_run *run = ctx;
    hstu_cache_drop_all(run->cache.cache);
    const hstu_status status = evaluate(run, err);
    if (status == HSTU_OK)
        assert_int_equal(run->cache.n_verified_requests, 5);
    return status;
}

static hstu_status answer_cached(void *ctx, hstu_error *err)
{
    hs_run *run = ctx;
    hstu_cache_drop_all(run->cache.cache);
    HS_TRY(hs_run_cache_begin(run, 0, err));
    const hstu_status status = hs_run_rank_requests(run, err);
    if (status == HSTU_OK)
        assert_int_equal(run->cache.n_verified_requests, 2);
    return status;
}

static void torture_cached(hs_run *run)
{
    hstu_error err = {0};
    run->cache.on = true;
    run->cache.verify_every = 1;
    hstu_cache_options_init(&run->cache.options);
    run->cache.options.bytes = 1 << 20;
    assert_int_equal(hs_run_cache_open(run, &err), HSTU_OK);
    if (evaluate_cached(run, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    torture(evaluate_cached, run, 10);
    torture_silently(answer_cached, run, 10);
    hs_run_cache_close(run);
}

static void test_all(void **state)
{
    (void)state;
    char checkpoint[1024];
    hs_run run = {.requests_path = requests_path, .output_path = output_path, .batch_size = 2, .ranking = true};
    hstu_error err = {0};
    hstu_model_options options;
    write_data();
    write_config();
    (void)snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint", folder);
    hs_console_open(&run.console, true);
    hstu_model_options_init(&options);
    options.config = config_path;
    options.threads = 1;
    if (hstu_model_open(&run.model, checkpoint, &options, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    hstu_model_get_info(run.model, &run.info);
    hstu_ranking_options_init(&run.rules);
    run.rules.max_history = run.window = 2;
    run.rules.max_candidates = 2;
    run.rules.split = HSTU_SPLIT_ALL;
    assert_int_equal(hstu_dataset_open(&run.dataset, data_path, NULL, &err), HSTU_OK);
    hstu_dataset_get_info(run.dataset, &run.dataset_info);
    assert_int_equal(run.dataset_info.max_user, 5);
    assert_int_equal(hstu_ranking_samples_open(&run.ranking_samples, run.dataset, &run.rules, &err), HSTU_OK);
    hs_samples_of_ranking(&run.samples, run.ranking_samples);
    assert_int_equal(hstu_session_open(&run.session, run.model, &err), HSTU_OK);

    /* The session's own memory, which stays, is not what is tried here. */
    if (evaluate(&run, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    torture(evaluate, &run, 10);

    torture_silently(answer_requests, &run, 10);

    torture_cached(&run);

    hstu_session_close(run.session);
    hstu_ranking_samples_close(run.ranking_samples);
    hstu_dataset_close(run.dataset);
    hstu_model_close(run.model);
    (void)unlink(data_path);
    (void)unlink(requests_path);
    (void)unlink(config_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
