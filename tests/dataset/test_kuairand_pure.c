/* The real KuaiRand-Pure log: the facts known of it, its ranking samples, and the histories that the trained model's own
 * data file holds. HSTU_SHARED: the folder with data/kuairand-pure and trained/kuairand-pure. */
#include "dataset/kuairand_files.h"

/* The reference keeps users with more than 20 events; the last 30 % of them are tested. */
static void check_samples(const hstu_preprocess_report *report)
{
    const char *const path[] = {report->sequences_path, report->ranking_path};
    static const int64_t n[] = {[HSTU_SPLIT_TEST] = 674, [HSTU_SPLIT_TRAIN] = 1572, [HSTU_SPLIT_ALL] = 2246};
    for (int split = HSTU_SPLIT_TEST; split <= HSTU_SPLIT_ALL; split++) {
        hstu_ranking_samples *samples[2];
        hstu_ranking_options options;
        hstu_ranking_options_init(&options);
        options.max_history = 200;
        options.max_candidates = 20;
        options.split = (hstu_split)split;
        for (size_t i = 0; i < 2; i++) {
            hstu_dataset *dataset = NULL;
            hstu_error err = {0};
            if (hstu_dataset_open(&dataset, path[i], NULL, &err) != HSTU_OK ||
                hstu_ranking_samples_open(&samples[i], dataset, &options, &err) != HSTU_OK)
                fail_msg("%s", err.msg);
            assert_int_equal(samples[i]->n, n[split]);
            assert_int_equal(samples[i]->n_short, 25156 - 2246);
            hstu_dataset_close(dataset);
        }
        const hstu_ranking_samples *x = samples[0], *y = samples[1];
        const size_t size = sizeof(int64_t), n_users = (size_t)x->n, n_history = (size_t)x->offset[x->n];
        assert_memory_equal(x->user_id, y->user_id, n_users * size);
        assert_memory_equal(x->offset, y->offset, (n_users + 1) * size);
        assert_memory_equal(x->item_id, y->item_id, n_history * size);
        assert_memory_equal(x->action, y->action, n_history * size);
        assert_memory_equal(x->cand_id, y->cand_id, n_users * 20 * size);
        assert_memory_equal(x->label, y->label, n_users * 20 * size);
        assert_memory_equal(x->feature, y->feature, n_users * 5 * size);
        hstu_ranking_samples_close(samples[0]);
        hstu_ranking_samples_close(samples[1]);
    }
}

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
    assert_int_equal(report.n_ranking_users, 25156);
    check_samples(&report);

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
