/* Ranking: processed_seqs.csv byte for byte as pandas writes it, and the samples, which both kinds of file give alike. */
#include "dataset/kuairand_files.h"

#include <inttypes.h>
#include <math.h>

#define FIRST_LOG "KuaiRand-1K/data/log_standard_4_08_to_4_21_1k.csv"
#define FEATURES "KuaiRand-1K/data/user_features_1k.csv"

typedef struct heard {
    char text[2048]; /* every warning, a line each */
} heard;

static void on_warning(void *ctx, const char *sentence)
{
    heard *h = ctx;
    const size_t n = strlen(h->text);
    (void)snprintf(h->text + n, sizeof h->text - n, "%s\n", sentence);
}

static hstu_preprocess_report preprocess(const scratch *s, const char *name, heard *h)
{
    hstu_preprocess_report report;
    hstu_error err = {0};
    hstu_preprocess_options options = options_for(s, name);
    options.allow_missing_logs = 1;
    *h = (heard){.text = ""};
    options.progress = (hstu_progress){.ctx = h, .warn = on_warning};
    if (hstu_preprocess(&options, &report, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    return report;
}

static void assert_content(const char *path, const char *expected, size_t n_expected)
{
    size_t n = 0;
    char *data = read_whole(path, &n);
    if (n != n_expected || memcmp(data, expected, n) != 0)
        fail_msg("%s is not what was expected:\n%s", path, data);
    free(data);
}

static void assert_golden(const char *path, const char *golden)
{
    size_t n = 0;
    char *expected = read_whole(golden, &n);
    assert_content(path, expected, n);
    free(expected);
}

static void test_golden(void **state)
{
    scratch *s = *state;
    heard h;
    copy_tiny(s);
    copy_tiny_features(s);
    hstu_preprocess_report report = preprocess(s, "KuaiRand-1K", &h);
    assert_golden(report.ranking_path, TEST_DATA "/kuairand_tiny/processed_ranking/processed_seqs.csv");
    assert_int_equal(
        report.n_ranking_users, 2); /* of 3, 5, 7, 9, 12: 5, 9 and 12 stand in one log, 9 has no features */
    assert_int_equal(report.n_features, 5);
    assert_non_null(strstr(h.text, "processed_seqs.csv leaves out 3 of 5 users, as the reference does: a log or "
                                   "user_features_1k.csv lacks them\n"));
    assert_int_equal(unlink(scratch_path(s, FIRST_LOG)), 0);
    report = preprocess(s, "KuaiRand-1K", &h);
    assert_golden(report.ranking_path, TEST_DATA "/kuairand_tiny/processed_ranking_one_log/processed_seqs.csv");
    assert_int_equal(report.n_ranking_users, 4);
    assert_non_null(strstr(h.text, "leaves out 1 of 5 users"));
}

/* A list of one event stands without quotes; names and texts are quoted where they must be; nobody is left out. */
static void test_single_events(void **state)
{
    scratch *s = *state;
    heard h;
    scratch_mkdir(s, "KuaiRand-Pure");
    scratch_text(s, "KuaiRand-Pure/log_standard_4_08_to_4_21_pure.csv",
        LOG_HEADER LOG_ROW(4, 9223372036854775806, -7, 1) LOG_ROW(2, 0, 60, 1));
    scratch_text(s, "KuaiRand-Pure/user_features_pure.csv",
        "\"register_days_range\",\"a,\"\"b\",user_id,user_active_degree,follow_user_num_range,fans_user_num_range,"
        "friend_user_num_range,plain\r\n"
        "x,\"\"\"\",4,p,q,r,s,\"1\"\r\ny,\"1,5\",2,p,w,r,t,\r\n");
    const hstu_preprocess_report report = preprocess(s, "KuaiRand-Pure", &h);
    static const char expected[] =
        "user_id,video_id,time_ms,action_weights,play_time_ms,duration_ms,register_days_range,\"a,\"\"b\","
        "user_active_degree,follow_user_num_range,fans_user_num_range,friend_user_num_range,plain\n"
        "2,[0],[60000],[1],[1500],[9000],2,\"1,5\",1,2,1,2,\n"
        "4,[9223372036854775806],[-7000],[1],[1500],[9000],1,\"\"\"\",1,1,1,1,1\n";
    assert_content(report.ranking_path, expected, sizeof expected - 1);
    assert_int_equal(report.n_ranking_users, 2);
    assert_null(strstr(h.text, "leaves out"));
}

/* Lists longer than the writer's pieces. */
static void test_long_lists(void **state)
{
    scratch *s = *state;
    heard h;
    enum { N = 5000, ROW_BYTES = 128 };
    char *text = malloc((size_t)N * ROW_BYTES);
    assert_non_null(text);
    size_t n = (size_t)snprintf(text, ROW_BYTES * 2, "%s", LOG_HEADER);
    for (int i = 0; i < N; i++)
        n += (size_t)snprintf(
            text + n, ROW_BYTES, "1,%d,20220408,1400,%d000,0,0,0,0,0,0,%d,1,2,0,0,0,0,1\n", i * 37, i, i % 3);
    scratch_mkdir(s, "KuaiRand-Pure");
    scratch_write(s, "KuaiRand-Pure/log_standard_4_08_to_4_21_pure.csv", text, n);
    scratch_text(s, "KuaiRand-Pure/user_features_pure.csv", FEATURE_HEADER "\n1,a,b,c,d,e\n");
    free(text);
    const hstu_preprocess_report report = preprocess(s, "KuaiRand-Pure", &h);
    hstu_dataset *dataset = NULL;
    hstu_ranking_samples *samples = NULL;
    hstu_ranking_options options;
    hstu_ranking_options_init(&options);
    options.max_history = N;
    options.max_candidates = 1;
    options.split = HSTU_SPLIT_ALL;
    assert_int_equal(hstu_dataset_open(&dataset, report.ranking_path, NULL, NULL), HSTU_OK);
    assert_int_equal(hstu_ranking_samples_open(&samples, dataset, &options, NULL), HSTU_OK);
    assert_int_equal(samples->offset[1], N - 1);
    for (int i = 0; i < N - 1; i++)
        assert_true(samples->item_id[i] == i * 37 && samples->action[i] == (i % 3 ? 64 : 0));
    assert_int_equal(samples->cand_id[0], (N - 1) * 37);
    hstu_ranking_samples_close(samples);
    hstu_dataset_close(dataset);
}

/* Without user features there is no such file, also not an earlier run's. */
static void test_stale(void **state)
{
    scratch *s = *state;
    heard h;
    copy_tiny(s);
    copy_tiny_features(s);
    hstu_preprocess_report report = preprocess(s, "KuaiRand-1K", &h);
    assert_true(scratch_exists(s, "KuaiRand-1K/processed_seqs.csv"));
    assert_int_equal(count_entries(scratch_path(s, "KuaiRand-1K")), 5);
    assert_int_equal(unlink(scratch_path(s, FEATURES)), 0);
    report = preprocess(s, "KuaiRand-1K", &h);
    assert_string_equal(report.ranking_path, "");
    assert_int_equal(report.n_ranking_users, 0);
    assert_int_equal(count_entries(scratch_path(s, "KuaiRand-1K")), 4);
    assert_null(strstr(h.text, "leaves out"));
}

static void test_taken_column(void **state)
{
    scratch *s = *state;
    hstu_error err;
    copy_tiny(s);
    scratch_text(s, FEATURES, FEATURE_HEADER ",time_ms\n1,a,b,c,d,e,f\n");
    const hstu_preprocess_options options = options_for(s, "KuaiRand-1K");
    assert_int_equal(hstu_preprocess(&options, NULL, &err), HSTU_EFORMAT);
    assert_non_null(strstr(err.msg, "user_features_1k.csv', line 1, column 7 (time_ms): users cannot have a column"));
}

static hstu_dataset *open_ok(const char *path)
{
    hstu_dataset *dataset = NULL;
    hstu_error err = {0};
    if (hstu_dataset_open(&dataset, path, NULL, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    return dataset;
}

static void assert_array(const char *what, const int64_t *found, const int64_t *expected, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (found[i] != expected[i])
            fail_msg("%s[%d] is %" PRId64 ", expected %" PRId64, what, (int)i, found[i], expected[i]);
    }
}

static void assert_same_samples(const hstu_ranking_samples *x, const hstu_ranking_samples *y)
{
    assert_true(x->n == y->n && x->n_features == y->n_features);
    assert_array("user_id", x->user_id, y->user_id, x->n);
    assert_array("offset", x->offset, y->offset, x->n + 1);
    assert_array("item_id", x->item_id, y->item_id, x->offset[x->n]);
    assert_array("action", x->action, y->action, x->offset[x->n]);
    assert_array("cand_offset", x->cand_offset, y->cand_offset, x->n + 1);
    assert_array("cand_id", x->cand_id, y->cand_id, x->cand_offset[x->n]);
    assert_array("label", x->label, y->label, x->cand_offset[x->n]);
    assert_array("feature", x->feature, y->feature, x->n_features * x->n);
    for (int64_t f = 0; f < x->n_features; f++)
        assert_string_equal(x->feature_name[f], y->feature_name[f]);
}

/* Makes the samples from both files, which must agree; the caller closes what is returned. */
static hstu_ranking_samples *open_both(hstu_dataset *const dataset[2], const hstu_ranking_options *options)
{
    hstu_ranking_samples *samples[2];
    hstu_error err = {0};
    for (int i = 0; i < 2; i++) {
        if (hstu_ranking_samples_open(&samples[i], dataset[i], options, &err) != HSTU_OK)
            fail_msg("%s", err.msg);
    }
    assert_same_samples(samples[0], samples[1]);
    assert_int_equal(samples[1]->n_incomplete, 0);
    assert_int_equal(samples[0]->n_short, samples[1]->n_short);
    hstu_ranking_samples_close(samples[1]);
    return samples[0];
}

/* One log: users 3 (2 events), 5 (9), 7 (2), 12 (2), and 9, whom the features file lacks. */
static void open_one_log(scratch *s, hstu_dataset *dataset[2])
{
    heard h;
    copy_tiny(s);
    copy_tiny_features(s);
    assert_int_equal(unlink(scratch_path(s, FIRST_LOG)), 0);
    const hstu_preprocess_report report = preprocess(s, "KuaiRand-1K", &h);
    dataset[0] = open_ok(report.sequences_path);
    dataset[1] = open_ok(report.ranking_path);
}

static void close_both(hstu_dataset *const dataset[2])
{
    hstu_dataset_close(dataset[0]);
    hstu_dataset_close(dataset[1]);
}

static void test_samples(void **state)
{
    hstu_dataset *dataset[2];
    hstu_ranking_options options;
    open_one_log(*state, dataset);
    hstu_ranking_options_init(&options);
    assert_true(options.max_history == 4096 && options.max_candidates == 100 && options.train_fraction == 0.7);
    assert_true(options.truncation == HSTU_TRUNCATION_OLDEST && options.split == HSTU_SPLIT_TEST);
    options.max_history = 2;
    options.max_candidates = 1;
    options.split = HSTU_SPLIT_ALL;
    hstu_ranking_samples *x = open_both(dataset, &options);
    assert_int_equal(x->n, 4);
    assert_int_equal(x->n_short, 0);
    assert_int_equal(x->n_incomplete, 1);
    assert_array("user_id", x->user_id, (const int64_t[]){3, 5, 7, 12}, 4);
    assert_array("offset", x->offset, (const int64_t[]){0, 1, 3, 4, 5}, 5);
    assert_array("item_id", x->item_id, (const int64_t[]){24, 30, 31, 41, 200}, 5);
    assert_array("action", x->action, (const int64_t[]){1, 1, 0, 0, 0}, 5);
    assert_array("cand_offset", x->cand_offset, (const int64_t[]){0, 1, 2, 3, 4}, 5);
    assert_array("cand_id", x->cand_id, (const int64_t[]){25, 32, 42, 201}, 4);
    assert_array("label", x->label, (const int64_t[]){0, 0, 0, 0}, 4);
    assert_int_equal(x->n_features, 5);
    assert_string_equal(x->feature_name[0], "user_active_degree");
    assert_string_equal(x->feature_name[4], "register_days_range");
    assert_array(
        "feature", x->feature, (const int64_t[]){3, 4, 1, 2, 1, 3, 3, 2, 3, 4, 1, 2, 2, 1, 3, 2, 3, 1, 2, 1}, 20);
    hstu_ranking_samples_close(x);
    close_both(dataset);
}

static void test_truncation(void **state)
{
    hstu_dataset *dataset[2];
    hstu_ranking_options options;
    open_one_log(*state, dataset);
    hstu_ranking_options_init(&options);
    options.max_history = 3;
    options.max_candidates = 2;                             /* 2 events are not more than 2 */
    hstu_ranking_samples *x = open_both(dataset, &options); /* int(0.7 * 1) users train, so one is tested */
    assert_true(x->n == 1 && x->n_short == 3 && x->user_id[0] == 5 && x->offset[1] == 3 && x->cand_offset[1] == 2);
    assert_array("item_id", x->item_id, (const int64_t[]){30, 31, 32}, 3);
    assert_array("cand_id", x->cand_id, (const int64_t[]){33, 34}, 2);
    assert_array("label", x->label, (const int64_t[]){1, 0}, 2);
    hstu_ranking_samples_close(x);
    options.truncation = HSTU_TRUNCATION_NEWEST;
    x = open_both(dataset, &options);
    assert_array("item_id", x->item_id, (const int64_t[]){34, 35, 36}, 3);
    assert_array("action", x->action, (const int64_t[]){0, 0, 1}, 3);
    assert_array("cand_id", x->cand_id, (const int64_t[]){37, 38}, 2);
    hstu_ranking_samples_close(x);
    options.max_history = 0; /* candidates alone */
    x = open_both(dataset, &options);
    assert_true(x->n == 1 && x->offset[1] == 0 && x->cand_id[0] == 37);
    hstu_ranking_samples_close(x);
    options.max_history = 100; /* all there is: nothing to cut */
    options.max_candidates = 8;
    for (int t = 0; t < 2; t++) {
        options.truncation = t ? HSTU_TRUNCATION_NEWEST : HSTU_TRUNCATION_OLDEST;
        x = open_both(dataset, &options);
        assert_true(x->offset[1] == 1 && x->item_id[0] == 30 && x->cand_id[0] == 31 && x->cand_id[7] == 38);
        hstu_ranking_samples_close(x);
    }
    close_both(dataset);
}

static void test_split(void **state)
{
    static const struct {
        hstu_split split;
        double train_fraction;
        int64_t n, first_user, last_user;
    } cases[] = {{HSTU_SPLIT_TEST, 0.7, 2, 7, 12}, {HSTU_SPLIT_TRAIN, 0.7, 2, 3, 5}, {HSTU_SPLIT_TEST, 0.74, 2, 7, 12},
        {HSTU_SPLIT_TEST, 0.75, 1, 12, 12}, {HSTU_SPLIT_TRAIN, 0.75, 3, 3, 7}, {HSTU_SPLIT_TEST, 0, 4, 3, 12},
        {HSTU_SPLIT_TRAIN, 1, 4, 3, 12}, {HSTU_SPLIT_ALL, 1, 4, 3, 12}};
    hstu_dataset *dataset[2];
    hstu_ranking_options options;
    open_one_log(*state, dataset);
    hstu_ranking_options_init(&options);
    options.max_candidates = 1;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        options.split = cases[i].split;
        options.train_fraction = cases[i].train_fraction;
        hstu_ranking_samples *x = open_both(dataset, &options);
        assert_true(x->n == cases[i].n && x->user_id[0] == cases[i].first_user);
        assert_true(x->user_id[x->n - 1] == cases[i].last_user);
        hstu_ranking_samples_close(x);
    }
    close_both(dataset);
}

/* A user must stand in every log; events that equal an earlier one stay. Without features nobody lacks them. */
static void test_logs_and_duplicates(void **state)
{
    scratch *s = *state;
    heard h;
    write_pure(s, LOG_HEADER LOG_ROW(1, 10, 50, 1) LOG_ROW(1, 10, 50, 1) LOG_ROW(2, 20, 1, 1) LOG_ROW(2, 21, 2, 1),
        LOG_HEADER LOG_ROW(1, 11, 40, 1) LOG_ROW(3, 30, 1, 1) LOG_ROW(3, 31, 2, 1));
    const hstu_preprocess_report report = preprocess(s, "KuaiRand-Pure", &h);
    hstu_dataset *dataset = open_ok(report.sequences_path);
    hstu_ranking_samples *x = NULL;
    hstu_ranking_options options;
    hstu_ranking_options_init(&options);
    options.max_candidates = 1;
    assert_int_equal(hstu_ranking_samples_open(&x, dataset, &options, NULL), HSTU_OK);
    assert_true(x->n == 1 && x->user_id[0] == 1 && x->n_incomplete == 2 && x->n_short == 0 && x->n_features == 0);
    assert_array("item_id", x->item_id, (const int64_t[]){11, 10}, 2);
    assert_int_equal(x->cand_id[0], 10);
    hstu_ranking_samples_close(x);
    hstu_dataset_close(dataset);
}

/* Only the features that the file has, in the order of the models. */
static void test_few_features(void **state)
{
    scratch *s = *state;
    hstu_ranking_samples *x = NULL;
    hstu_ranking_options options;
    hstu_ranking_options_init(&options);
    options.max_candidates = 1;
    options.split = HSTU_SPLIT_ALL;
    scratch_text(s, "t.csv",
        "register_days_range,user_id,video_id,time_ms,action_weights,fans_user_num_range\n"
        "7,2,\"[5, 6]\",\"[1, 1]\",\"[3, 4]\",8\n9,1,\"[8, 9]\",\"[1, 2]\",\"[0, 255]\",1\n1,4,[],[],[],1\n");
    hstu_dataset *dataset = open_ok(s->path);
    assert_int_equal(hstu_ranking_samples_open(&x, dataset, &options, NULL), HSTU_OK);
    assert_true(x->n == 2 && x->n_features == 2 && x->n_short == 1);
    assert_array("user_id", x->user_id, (const int64_t[]){2, 1}, 2); /* the file's order */
    assert_string_equal(x->feature_name[0], "fans_user_num_range");
    assert_string_equal(x->feature_name[1], "register_days_range");
    assert_array("feature", x->feature, (const int64_t[]){8, 1, 7, 9}, 4);
    assert_array("label", x->label, (const int64_t[]){4, 255}, 2);
    hstu_ranking_samples_close(x);
    hstu_dataset_close(dataset);
}

static void assert_refused(const hstu_dataset *dataset, const hstu_ranking_options *options, const char *problem)
{
    hstu_ranking_samples *x = NULL;
    hstu_error err = {0};
    const hstu_status status = hstu_ranking_samples_open(&x, dataset, options, &err);
    if (status != HSTU_EINVAL || !strstr(err.msg, problem))
        fail_msg("status %d, expected '%s': %s", status, problem, err.msg);
    assert_null(x);
}

static void test_refused(void **state)
{
    hstu_dataset *dataset[2];
    hstu_ranking_options options, good;
    open_one_log(*state, dataset);
    hstu_ranking_options_init(&good);
    good.max_candidates = 1;
    static const struct {
        int64_t max_history, max_candidates;
        int truncation, split;
        double train_fraction;
        const char *problem;
    } cases[] = {{-1, 1, 0, 0, 0.7, "max_history must be an integer from 0 to 2147483647, not -1"},
        {INT64_MAX, 1, 0, 0, 0.7, "max_history must be an integer from 0 to 2147483647"},
        {1, 0, 0, 0, 0.7, "max_candidates must be an integer from 1 to 2147483647, not 0"},
        {1, INT64_MAX, 0, 0, 0.7, "max_candidates must be an integer from 1 to 2147483647"},
        {1, 1, 2, 0, 0.7, "truncation must be oldest or newest, not 2"},
        {1, 1, 0, 3, 0.7, "split must be test, train or all, not 3"},
        {1, 1, 0, 0, -0.1, "train_fraction must be from 0 to 1, not -0.1"},
        {1, 1, 0, 0, 1.5, "train_fraction must be from 0 to 1, not 1.5"},
        {1, 1, 0, 0, NAN, "train_fraction must be from 0 to 1, not"},
        {1, 1, 0, HSTU_SPLIT_TEST, 1, "the test part of 4 users is empty with the train_fraction 1"},
        {1, 1, 0, HSTU_SPLIT_TRAIN, 0.2, "the training part of 4 users is empty with the train_fraction 0.2"},
        {1, 9, 0, HSTU_SPLIT_ALL, 0.7, "holds no user with more than 9 events (max_candidates): 4 have no more"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        options = good;
        options.max_history = cases[i].max_history;
        options.max_candidates = cases[i].max_candidates;
        options.truncation = (hstu_truncation)cases[i].truncation;
        options.split = (hstu_split)cases[i].split;
        options.train_fraction = cases[i].train_fraction;
        assert_refused(dataset[0], &options, cases[i].problem);
        assert_refused(dataset[1], &options, cases[i].problem);
    }
    options = good;
    options.size--;
    assert_refused(dataset[0], &options, "not set up by hstu_ranking_options_init");
    assert_refused(NULL, &good, "wants a place, a data set and options");
    close_both(dataset);
    hstu_ranking_samples_close(NULL);
}

static void test_other_kinds(void **state)
{
    scratch *s = *state;
    hstu_ranking_options options;
    hstu_histories *histories = NULL;
    hstu_history_options history_options;
    hstu_error err = {0};
    hstu_ranking_options_init(&options);
    static const struct {
        const char *path, *problem;
    } cases[] = {{TEST_DATA "/fuzz/sasrec.csv", "holds no whole users with actions: ranking needs sequences"},
        {TEST_DATA "/kuairand_tiny/processed_full/processed_inference_sequences.csv", "holds no whole users"},
        {TEST_DATA "/fuzz/sequences.safetensors", "does not say of how many logs it was made"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hstu_dataset *dataset = open_ok(cases[i].path);
        assert_refused(dataset, &options, cases[i].problem);
        hstu_dataset_close(dataset);
    }
    scratch_text(s, "empty.csv", "user_id,video_id,time_ms,action_weights\n");
    hstu_dataset *dataset = open_ok(s->path);
    assert_refused(dataset, &options, "holds no user with more than 100 events");
    hstu_history_options_init(&history_options);
    assert_int_equal(hstu_histories_open(&histories, dataset, &history_options, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "empty.csv' holds users for ranking"));
    hstu_dataset_close(dataset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_golden, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_single_events, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_long_lists, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_stale, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_taken_column, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_samples, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_truncation, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_split, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_logs_and_duplicates, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_few_features, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_refused, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_other_kinds, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
