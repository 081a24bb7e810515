/* The real KuaiRand-Pure log: the facts known of it, and the histories that the trained model's own data file holds.
 * HSTU_SHARED: the folder with data/kuairand-pure and trained/kuairand-pure. */
#include "dataset/kuairand_files.h"

static void test_real_log(void **state)
{
    scratch *s = *state;
    const char *shared = getenv("HSTU_SHARED");
    if (!shared) {
        print_message("HSTU_SHARED is not set: the real KuaiRand-Pure log is not tested\n");
        skip();
    }
    static const char *const name[] = {"log_standard_4_25_to_5_08_pure.csv", "user_features_pure.csv"};
    char target[1024], link_path[512];
    scratch_mkdir(s, "KuaiRand-Pure");
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(target, sizeof target, "%s/data/kuairand-pure/%s", shared, name[i]);
        (void)snprintf(link_path, sizeof link_path, "%s/KuaiRand-Pure/%s", s->folder, name[i]);
        assert_int_equal(symlink(target, link_path), 0);
    }
    hstu_preprocess_report report;
    hstu_error err = {0};
    hstu_preprocess_options options = options_for(s, "KuaiRand-Pure");
    options.allow_missing_logs = 1;
    if (hstu_preprocess(&options, &report, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(report.n_rows, 228329);
    assert_int_equal(report.n_users, 25156);
    assert_int_equal(report.n_items, 6361);
    assert_int_equal(report.n_duplicates, 5460);
    assert_int_equal(report.n_unsorted, 0);

    hstu_dataset *dataset[2];
    hstu_histories *h[2];
    hstu_history_options history_options;
    hstu_history_options_init(&history_options);
    (void)snprintf(target, sizeof target, "%s/trained/kuairand-pure/sasrec_format.csv", shared);
    const char *const path[] = {report.sequences_path, target};
    for (size_t i = 0; i < 2; i++) {
        if (hstu_dataset_open(&dataset[i], path[i], NULL, &err) != HSTU_OK ||
            hstu_histories_open(&h[i], dataset[i], &history_options, &err) != HSTU_OK)
            fail_msg("%s", err.msg);
    }
    assert_int_equal(h[0]->n, 20312);
    assert_int_equal(h[1]->n, 20312);
    const size_t n = (size_t)h[0]->n, n_events = (size_t)h[0]->offset[n];
    assert_int_equal(n + n_events, 215630);
    assert_memory_equal(h[0]->user_id, h[1]->user_id, n * sizeof(int64_t));
    assert_memory_equal(h[0]->offset, h[1]->offset, (n + 1) * sizeof(int64_t));
    assert_memory_equal(h[0]->item_id, h[1]->item_id, n_events * sizeof(int64_t));
    assert_memory_equal(h[0]->timestamp, h[1]->timestamp, n_events * sizeof(int64_t));
    assert_memory_equal(h[0]->target_id, h[1]->target_id, n * sizeof(int64_t));
    assert_memory_equal(h[0]->target_time, h[1]->target_time, n * sizeof(int64_t));
    for (size_t i = 0; i < 2; i++) {
        hstu_histories_close(h[i]);
        hstu_dataset_close(dataset[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_real_log, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
