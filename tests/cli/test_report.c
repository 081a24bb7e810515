/* The report: valid JSON, the original's keys first and in order, figures worked out by hand; the popularity
 * baseline. */
#include "base/json.h"
#include "cli/json_writer.h"
#include "cli/run.h"
#include "hstu/metric.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* cmocka compares in single precision only. */
static void assert_near(double found, double expected, double tolerance)
{
    if (!(fabs(found - expected) <= tolerance))
        fail_msg("expected %.17g, found %.17g", expected, found);
}

/* Four users, items 1..6, the window holds two events. Counts: item 3 four times, 1 and 2 twice, 6 once; order 3 1 2 6
 * 4 5. */
static const int64_t user_id[] = {10, 11, 12, 13};
static const int64_t offset[] = {0, 3, 5, 6, 9};
static const int64_t item_id[] = {3, 1, 2, 3, 1, 3, 2, 3, 6};
static const int64_t target_id[] = {3, 2, 3, 5};
static const int64_t popular[] = {1, 1, 0, 4};

static hstu_histories make_histories(void)
{
    return (hstu_histories){.n = 4,
        .n_skipped = 3,
        .user_id = user_id,
        .offset = offset,
        .item_id = item_id,
        .target_id = target_id,
        .item_offset = 1};
}

static hs_run make_run(hstu_histories *histories)
{
    hs_run run = {.batch_size = 2,
        .window = 2,
        .top_k = {5, 1},
        .n_top_k = 2,
        .k = 5,
        .filter_seen = true,
        .slide_step = 1,
        .item_offset = 1,
        .seed = 9};
    hs_samples_of_histories(&run.samples, histories);
    run.info = (hstu_model_info){.family = "retrieval",
        .main_module = "HSTU",
        .config = "kuairand_gr",
        .device = "cpu",
        .dtype = "fp32",
        .kv_dtype = "bf16",
        .isa = "ref",
        .threads = 2,
        .random_weights = 1,
        .dim = 8,
        .max_sequence_length = 4,
        .min_item_id = 1,
        .max_item_id = 6,
        .uses_time = 1};
    hstu_history_options *h = &run.info.history;
    *h = (hstu_history_options){.size = sizeof *h,
        .item_id_offset = 1,
        .min_events = 3,
        .drop_duplicates = 1,
        .time_interval_s = 300,
        .max_sequences = 1024,
        .max_sequence_length = 256};
    run.history = *h;
    run.history.drop_duplicates = 0;
    run.dataset_info = (hstu_dataset_info){.kind = HSTU_DATASET_EVENTS, .name = "toy \"set\" \xff", .max_item = 5};
    return run;
}

static void test_popularity(void **state)
{
    (void)state;
    hstu_histories histories = make_histories();
    hs_run run = make_run(&histories);
    hstu_error err = {0};
    int64_t rank[4] = {-1, -1, -1, -1};
    /* Filtered: user 10 saw 1 2 last (its first event, 3, is outside the window), 11 saw 3 1, 12 saw its target. */
    assert_int_equal(hs_run_rank_by_popularity(&run, 4, rank, &err), HSTU_OK);
    assert_memory_equal(rank, popular, sizeof rank);
    static const int64_t unfiltered[] = {1, 3, 1, 6};
    run.filter_seen = false;
    assert_int_equal(hs_run_rank_by_popularity(&run, 4, rank, &err), HSTU_OK);
    assert_memory_equal(rank, unfiltered, sizeof rank);
    /* Among candidates 2, 3 and 5, with filter: 3 2 5. */
    static int64_t candidate[] = {2, 3, 5};
    static const int64_t among[] = {1, 1, 0, 2};
    run.filter_seen = true;
    run.candidate = candidate;
    run.n_candidates = 3;
    assert_int_equal(hs_run_rank_by_popularity(&run, 4, rank, &err), HSTU_OK);
    assert_memory_equal(rank, among, sizeof rank);
    /* A target that is no candidate has no rank, whatever is in front of it. */
    run.candidate = candidate + 1;
    run.n_candidates = 2;
    assert_int_equal(hs_run_rank_by_popularity(&run, 2, rank, &err), HSTU_OK);
    assert_int_equal(rank[1], 0);
}

static double number(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsNumber(item))
        fail_msg("'%s' is no number", key);
    return item->valuedouble;
}

static double mean(const cJSON *root, const char *group, const char *key)
{
    return number(cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(root, group), key), "mean");
}

static const char *text(const cJSON *object, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
}

static cJSON *report(const hs_run *run, const hs_run_result *result)
{
    hs_dynbuf out;
    hstu_error err = {0};
    cJSON *root = NULL;
    assert_int_equal(hs_report_json(&out, run, result, &err), HSTU_OK);
    assert_memory_equal(out.data, "{\n  \"config\": ", 14);
    assert_int_equal(out.data[out.len - 1], '\n');
    if (hs_json_parse(&root, out.data, out.len, "the report", &err) != HSTU_OK)
        fail_msg("%s in: %s", err.msg, out.data);
    hs_dynbuf_free(&out);
    return root;
}

static void check_keys(const cJSON *root)
{
    static const char *const keys[] = {"config", "dataset", "num_batches", "batch_size", "vocab_size",
        "model_checkpoint", "model_downloaded", "total_time_s", "requests", "avg_latency_ms", "p50_latency_ms",
        "hit_rate", "throughput_rps", "p90_latency_ms", "p99_latency_ms", "max_latency_ms", "metrics", "family",
        "main_module", "device", "dtype", "kv_dtype", "threads", "isa", "protocol", "filter_seen", "top_k",
        "candidates", "sequence_length", "random_weights", "seed", "skipped", "timestamps", "differs_from_training",
        "most_popular_baseline"};
    const cJSON *child = root->child;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++, child = child->next) {
        assert_non_null(child);
        assert_string_equal(child->string, keys[i]);
    }
    assert_null(child);
}

static void test_json(void **state)
{
    (void)state;
    hstu_histories histories = make_histories();
    const hs_run run = make_run(&histories);
    double latency[] = {0.001, 0.002, 0.004, 0.009};
    int64_t rank[] = {1, 2, 0, 6}, baseline[] = {1, 1, 0, 4};
    const hs_run_result result = {.n_batches = 4,
        .n_requests = 4,
        .n_targets = 4,
        .total_s = 0.02,
        .latency_s = latency,
        .rank = rank,
        .popular_rank = baseline};
    cJSON *root = report(&run, &result);
    check_keys(root);
    assert_string_equal(text(root, "dataset"), "toy \"set\" \xef\xbf\xbd");
    assert_true(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(root, "model_checkpoint")));
    assert_true(cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(root, "model_downloaded")));
    assert_true(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "random_weights")));
    assert_true(cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(root, "timestamps")));
    assert_near(number(root, "vocab_size"), 6, 0);
    assert_near(number(root, "avg_latency_ms"), 4, 1e-9);
    assert_near(number(root, "p50_latency_ms"), 3, 1e-9);
    assert_near(number(root, "p90_latency_ms"), 7.5, 1e-9);
    assert_near(number(root, "max_latency_ms"), 9, 1e-9);
    assert_near(number(root, "throughput_rps"), 200, 1e-6);
    assert_near(number(root, "hit_rate"), 0.5, 1e-9);
    assert_near(mean(root, "metrics", "hr@5"), 0.5, 1e-9);
    assert_near(mean(root, "metrics", "hr@1"), 0.25, 1e-9);
    assert_near(mean(root, "metrics", "hr@10"), 0.75, 1e-9);
    assert_near(mean(root, "metrics", "ndcg@5"), (1 + 1 / log2(3)) / 4, 1e-9);
    assert_near(mean(root, "metrics", "mrr"), (1 + 0.5 + 1.0 / 2501 + 1.0 / 6) / 4, 1e-9);
    assert_near(mean(root, "most_popular_baseline", "hr@1"), 0.5, 1e-9);
    assert_near(mean(root, "most_popular_baseline", "mrr"), (2 + 1.0 / 2501 + 0.25) / 4, 1e-9);
    const cJSON *metrics = cJSON_GetObjectItemCaseSensitive(root, "metrics");
    assert_non_null(cJSON_GetObjectItemCaseSensitive(metrics, "hr@1000"));
    assert_null(cJSON_GetObjectItemCaseSensitive(metrics, "ndcg@1000"));
    cJSON_Delete(root);
}

static void test_differences(void **state)
{
    (void)state;
    hstu_histories histories = make_histories();
    hs_run run = make_run(&histories);
    double latency[] = {0.001};
    int64_t rank[] = {1, 2, 3, 4};
    const hs_run_result result = {.n_batches = 1,
        .n_requests = 4,
        .n_targets = 4,
        .total_s = 1,
        .latency_s = latency,
        .rank = rank,
        .popular_rank = rank};
    cJSON *root = report(&run, &result);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "differs_from_training");
    assert_int_equal(cJSON_GetArraySize(list), 3);
    assert_string_equal(text(cJSON_GetArrayItem(list, 0), "option"), "sequence_length");
    assert_near(number(cJSON_GetArrayItem(list, 0), "model"), 4, 0);
    assert_near(number(cJSON_GetArrayItem(list, 0), "run"), 2, 0);
    assert_string_equal(text(cJSON_GetArrayItem(list, 1), "option"), "drop_duplicates");
    assert_string_equal(text(cJSON_GetArrayItem(list, 2), "option"), "timestamps");
    cJSON_Delete(root);

    /* Sessions: the cuts are the options' own, and nothing differs when the run follows the model. */
    static const int64_t times[9] = {0};
    histories.timestamp = histories.target_time = times;
    hs_samples_of_histories(&run.samples, &histories);
    run.window = 4;
    run.history.protocol = HSTU_PROTOCOL_SESSIONS;
    root = report(&run, &result);
    assert_string_equal(text(root, "protocol"), "sessions");
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(root, "differs_from_training")), 0);
    /* hr@1, hr@5, ndcg@1, ndcg@5, mrr */
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(root, "metrics")), 5);
    cJSON_Delete(root);
}

static void test_quantiles(void **state)
{
    (void)state;
    static const double x[] = {1, 2, 4, 8, 16};
    assert_near(hs_quantile(x, 1, 0.5), 1, 0);
    assert_near(hs_quantile(x, 2, 0.5), 1.5, 0);
    assert_near(hs_quantile(x, 5, 0.5), 4, 0);
    assert_near(hs_quantile(x, 4, 0.5), 3, 0);
    assert_near(hs_quantile(x, 5, 0.9), 12.8, 1e-12);
    assert_near(hs_quantile(x, 5, 1), 16, 0);
    assert_near(hs_quantile(x, 5, 0), 1, 0);
}

static void test_table(void **state)
{
    (void)state;
    hstu_histories histories = make_histories();
    hs_run run = make_run(&histories);
    run.dataset_info.name = "toy\033[2J\x7f"; /* a name out of a file does not command the terminal */
    double latency[] = {0.001};
    int64_t rank[] = {1, 2, 3, 4};
    const hs_run_result result = {.n_batches = 1,
        .n_requests = 4,
        .n_targets = 4,
        .total_s = 2,
        .latency_s = latency,
        .rank = rank,
        .popular_rank = rank};
    char *out = NULL;
    size_t n = 0;
    FILE *stream = open_memstream(&out, &n);
    assert_non_null(stream);
    hs_report_table(stream, &run, &result);
    assert_int_equal(fclose(stream), 0);
    assert_non_null(strstr(out, "random weights on toy?[2J?, "));
    assert_non_null(strstr(out, "2.0 requests/s; a batch: mean 1.000 ms"));
    assert_non_null(strstr(out, "hr@1          0.25000 +- 0.25000     0.25000 +- 0.25000"));
    free(out);
}

static void test_writer(void **state)
{
    (void)state;
    hs_dynbuf out;
    hs_json_writer w;
    hs_dynbuf_init(&out, 1000);
    hs_json_writer_init(&w, &out, 0);
    hs_json_begin(&w, '{');
    hs_json_key(&w, "a\n\x01\\");
    hs_json_begin(&w, '[');
    hs_json_end(&w, ']');
    hs_json_key(&w, "b");
    hs_json_begin(&w, '[');
    hs_json_put_double(&w, 0.1, 9);
    hs_json_put_double(&w, NAN, 9);
    hs_json_put_int(&w, INT64_MIN);
    hs_json_put_bool(&w, true);
    hs_json_put_text(&w, NULL);
    hs_json_put_raw(&w, "1e5", 3);
    hs_json_end(&w, ']');
    hs_json_end(&w, '}');
    assert_false(w.failed);
    assert_string_equal(
        out.data, "{\"a\\u000a\\u0001\\\\\": [], \"b\": [0.1, null, -9223372036854775808, true, null, 1e5]}");
    hs_dynbuf_free(&out);
    /* A full buffer is told, not overrun. */
    hs_dynbuf_init(&out, 4);
    hs_json_writer_init(&w, &out, 2);
    hs_json_put_text(&w, "too long");
    assert_true(w.failed);
    assert_true(out.len <= 4);
    hs_dynbuf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_popularity),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_differences),
        cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_writer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
