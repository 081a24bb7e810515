/* The report of a ranking model: keys, figures worked out by hand, what differs from training, the table. */
#include "base/json.h"
#include "cli/run.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static hstu_ranking_samples samples = {.n = 5, .n_short = 3, .n_incomplete = 2};
static double latency[] = {0.001, 0.003};

static hs_run make_run(void)
{
    hs_run run = {.batch_size = 4, .ranking = true, .ranking_samples = &samples, .seed = 9, .checkpoint = "model"};
    run.info = (hstu_model_info){.family = "ranking",
        .main_module = "GR ranking",
        .config = "kuairand_1k_ranking",
        .device = "cpu",
        .dtype = "bf16",
        .kv_dtype = "bf16",
        .isa = "ref",
        .threads = 2,
        .max_sequence_length = 10,
        .max_candidates = 2,
        .attention_n = 30,
        .contextual_mask = 1,
        .n_tasks = 8,
        .n_classes = 8};
    run.rules = (hstu_ranking_options){.max_history = 10, .max_candidates = 2};
    run.dataset_info = (hstu_dataset_info){.name = "toy\033", .max_item = 5};
    return run;
}

static double number(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsNumber(item))
        fail_msg("'%s' is no number", key);
    return item->valuedouble;
}

static cJSON *report(const hs_run *run, const hs_run_result *result)
{
    hs_dynbuf out;
    hstu_error err = {0};
    cJSON *root = NULL;
    assert_int_equal(hs_report_json(&out, run, result, &err), HSTU_OK);
    if (hs_json_parse(&root, out.data, out.len, "the report", &err) != HSTU_OK)
        fail_msg("%s in: %s", err.msg, out.data);
    hs_dynbuf_free(&out);
    return root;
}

static void check_keys(const cJSON *root, const char *figures)
{
    const char *const keys[] = {"config", "dataset", "num_batches", "batch_size", "vocab_size", "model_checkpoint",
        "model_downloaded", "total_time_s", "requests", "avg_latency_ms", "p50_latency_ms", "throughput_rps",
        "p90_latency_ms", "p99_latency_ms", "max_latency_ms", figures, "family", "main_module", "device", "dtype",
        "kv_dtype", "threads", "isa", "protocol", "truncation", "split", "n_candidates", "max_history",
        "max_candidates", "attention_n", "contextual_mask", "skipped", "random_weights", "seed",
        "differs_from_training"};
    const cJSON *child = root->child;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++, child = child->next) {
        assert_non_null(child);
        assert_string_equal(child->string, keys[i]);
    }
    assert_null(child);
}

static hs_run_result make_result(hs_task *task)
{
    return (hs_run_result){
        .n_batches = 2, .n_requests = 5, .total_s = 0.01, .latency_s = latency, .n_targets = 10, .task = task};
}

static void test_tasks(void **state)
{
    (void)state;
    hs_run run = make_run();
    hs_task task[8] = {[0] = {.auc = {0.75, 0.125, 4, 6}, .gauc = {0.5, 3}, .loss = {0.25, 0.875, 0.4}},
        [5] = {.auc = {.n_negative = 10}}};
    const hs_run_result result = make_result(task);
    cJSON *root = report(&run, &result);
    check_keys(root, "tasks");
    static const char *const names[] = {
        "is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view", "is_profile_enter"};
    const cJSON *tasks = cJSON_GetObjectItemCaseSensitive(root, "tasks"), *child = tasks->child;
    for (size_t i = 0; i < 8; i++, child = child->next)
        assert_string_equal(child->string, names[i]);
    assert_null(child);
    const cJSON *click = tasks->child, *hate = cJSON_GetObjectItemCaseSensitive(tasks, "is_hate");
    assert_true(number(click, "auc") == 0.75 && number(click, "standard_error") == 0.125);
    assert_true(number(click, "positives") == 4 && number(click, "negatives") == 6);
    assert_true(number(click, "gauc") == 0.5 && number(click, "gauc_users") == 3);
    assert_true(number(click, "log_loss") == 0.25 && number(click, "normalised_entropy") == 0.875);
    assert_true(number(click, "label_rate") == 0.4);
    assert_true(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(click, "auc_defined")));
    assert_true(cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(hate, "auc_defined")));
    assert_true(number(hate, "auc") == 0);
    assert_int_equal((int)number(root, "attention_n"), 30);
    assert_true(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "contextual_mask")));
    const cJSON *skipped = cJSON_GetObjectItemCaseSensitive(root, "skipped");
    assert_true(number(skipped, "too_few_events") == 3 && number(skipped, "incomplete") == 2);
    assert_true(number(root, "n_candidates") == 10 && number(root, "requests") == 5);
    assert_true(fabs(number(root, "avg_latency_ms") - 2) < 1e-9);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(root, "differs_from_training")), 0);
    cJSON_Delete(root);
}

static void test_differences(void **state)
{
    (void)state;
    static const char *const options[] = {"max_history", "max_candidates", "truncation"};
    hs_run run = make_run();
    hs_task task[3] = {0};
    const hs_run_result result = make_result(task);
    run.info.n_tasks = run.info.n_classes = 3;
    run.rules = (hstu_ranking_options){
        .max_history = 5, .max_candidates = 7, .truncation = HSTU_TRUNCATION_NEWEST, .split = HSTU_SPLIT_TRAIN};
    cJSON *root = report(&run, &result);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "differs_from_training");
    assert_int_equal(cJSON_GetArraySize(list), 3);
    for (int i = 0; i < 3; i++)
        assert_string_equal(
            cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(list, i), "option")), options[i]);
    assert_true(number(cJSON_GetArrayItem(list, 1), "model") == 2 && number(cJSON_GetArrayItem(list, 1), "run") == 7);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "split")), "train");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "truncation")), "newest");
    /* A number of tasks that is not KuaiRand's has no names. */
    assert_string_equal(cJSON_GetObjectItemCaseSensitive(root, "tasks")->child->string, "task0");
    cJSON_Delete(root);
}

static void test_classes(void **state)
{
    (void)state;
    hs_run run = make_run();
    run.info.n_tasks = 1;
    run.info.n_classes = 10;
    hs_run_result result = make_result(NULL);
    result.multiclass = (hstu_multiclass){0.5, 1.25, 0.75, 0.25, 4};
    cJSON *root = report(&run, &result);
    check_keys(root, "multiclass");
    const cJSON *m = cJSON_GetObjectItemCaseSensitive(root, "multiclass");
    assert_true(number(m, "auc") == 0.5 && number(m, "log_loss") == 1.25 && number(m, "accuracy") == 0.25);
    assert_true(number(m, "classes") == 10 && number(m, "classes_seen") == 4);
    cJSON_Delete(root);
}

static void test_table(void **state)
{
    (void)state;
    hs_run run = make_run();
    hs_task task[8] = {[0] = {.auc = {0.75, 0.125, 4, 6}, .gauc = {0.5, 3}, .loss = {0.25, 0.875, 0.4}}};
    const hs_run_result result = make_result(task);
    char *out = NULL;
    size_t n = 0;
    FILE *stream = open_memstream(&out, &n);
    assert_non_null(stream);
    hs_report_table(stream, &run, &result);
    assert_int_equal(fclose(stream), 0);
    assert_non_null(strstr(out, "model on toy?, ranking: 5 requests in 2 batches of 4"));
    assert_non_null(strstr(out, "10 candidates, test split, oldest events"));
    assert_non_null(
        strstr(out, "is_click          0.75000 +- 0.12500             4   0.50000        3   0.25000   0.87500"));
    assert_non_null(strstr(out, "is_like           none: one label only"));
    free(out);
}

static void test_probabilities(void **state)
{
    (void)state;
    static const float logits[] = {0, 100, -100};
    float p[3];
    hstu_model_info info = {.n_tasks = 3, .n_classes = 3};
    hs_run_probabilities(&info, logits, p);
    assert_true(p[0] == 0.5f && p[1] == 1 && p[2] < 1e-30f && p[2] >= 0);
    info.n_tasks = 1;
    hs_run_probabilities(&info, logits, p);
    assert_true(p[1] == 1 && p[0] < 1e-30f && p[2] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tasks),
        cmocka_unit_test(test_differences),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_probabilities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
