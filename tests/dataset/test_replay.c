/* Replays: the exact requests of small logs, and what is refused. */
#include "dataset/replay_files.h"

/* A row of user, video, time in milliseconds. */
#define ROW_MS(user, video, time_ms) #user "," #video ",20220425,2300," #time_ms ",1,0,0,0,0,0,0,1500,9000,0,0,0,0,1\n"
#define SASREC_HEADER "user_id,sequence_item_ids,sequence_ratings,sequence_timestamps\n"

/* Every request as text: "user: item@time ... > item@time ...; ", history before targets. */
static const char *describe(const hstu_replay *r)
{
    static char text[4096];
    size_t used = 0;
    text[0] = '\0';
    for (int64_t i = 0; i < r->n; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used, "%" PRId64 ":", r->user_id[r->user[i]]);
        for (int64_t k = r->offset[r->user[i]]; k < r->end[i]; k++)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s %" PRId64 "@%" PRId64,
                k == r->begin[i] ? " >" : "", r->item_id[k], r->timestamp[k]);
        used += (size_t)snprintf(text + used, sizeof text - used, "; ");
        assert_true(used < sizeof text);
    }
    return text;
}

typedef struct expected_counts {
    int64_t n_users, n_users_skipped, n_skipped;
} expected_counts;

static void check(
    const char *path, const hstu_replay_options *options, const char *expected, const expected_counts *counts)
{
    hstu_replay *r = replay_ok(path, options);
    assert_string_equal(describe(r), expected);
    assert_int_equal(r->n_users, counts->n_users);
    assert_int_equal(r->n_users_skipped, counts->n_users_skipped);
    assert_int_equal(r->n_skipped, counts->n_skipped);
    hstu_replay_close(r);
}

static void refused(const char *path, const hstu_replay_options *options, const char *problem)
{
    hstu_dataset *dataset = open_ok(path);
    hstu_replay *replay = NULL;
    hstu_error err = {0};
    const hstu_status status = hstu_replay_open(&replay, dataset, options, &err);
    if (status != HSTU_EINVAL || err.code != status || !strstr(err.msg, problem))
        fail_msg("status %d, expected '%s': %s", status, problem, err.msg);
    assert_null(replay);
    hstu_dataset_close(dataset);
}

/* User 1: an interval ends 60 s after its first event, exactly, wherever the second lies; events of equal time stay
 * together. User 2: one event. User 3: a duplicate, and a request at the time of user 1's. User 4: midnight in Beijing
 * lies between events 41 and 42, and event 43 is a day later. User 5: one interval alone. */
static hstu_preprocess_report make_events(scratch *s)
{
    write_pure(s,
        LOG_HEADER ROW_MS(3, 30, 0) ROW_MS(3, 31, 60000) ROW_MS(3, 31, 60000) ROW_MS(1, 10, 0) ROW_MS(1, 11, 59999)
            ROW_MS(1, 12, 60000) ROW_MS(1, 13, 60000) ROW_MS(1, 14, 119999) ROW_MS(1, 15, 120000) ROW_MS(2, 20, 60000),
        LOG_HEADER ROW_MS(1, 16, 500000) ROW_MS(4, 40, 1650902300000) ROW_MS(4, 41, 1650902390000)
            ROW_MS(4, 42, 1650902410000) ROW_MS(4, 43, 1650988800000) ROW_MS(5, 50, 7) ROW_MS(5, 51, 7));
    return preprocess(s, "KuaiRand-Pure");
}

static void test_exact(void **state)
{
    const hstu_preprocess_report report = make_events(*state);
    hstu_replay_options options = defaults();
    check(report.sequences_path, &options,
        "1: 11@0 12@59 > 13@60 14@60 15@119; 3: 31@0 > 32@60; 1: 11@0 12@59 13@60 14@60 15@119 > 16@120; "
        "1: 11@0 12@59 13@60 14@60 15@119 16@120 > 17@500; 4: 41@1650902300 > 42@1650902390 43@1650902410; "
        "4: 41@1650902300 42@1650902390 43@1650902410 > 44@1650988800; ",
        &(expected_counts){4, 1, 4});
    options.drop_duplicates = 0;
    options.interval_s = 440;
    options.item_id_offset = 100;
    options.time_unit_ms = 1;
    check(report.sequences_path, &options,
        "1: 110@0 111@59999 112@60000 113@60000 114@119999 115@120000 > 116@500000; "
        "4: 140@1650902300000 141@1650902390000 142@1650902410000 > 143@1650988800000; ",
        &(expected_counts){4, 1, 4});
}

static void test_limits(void **state)
{
    const hstu_preprocess_report report = make_events(*state);
    hstu_replay_options options = defaults();
    options.min_history = 3;
    options.item_id_offset = 0;
    check(report.sequences_path, &options,
        "1: 10@0 11@59 12@60 13@60 14@119 > 15@120; 1: 10@0 11@59 12@60 13@60 14@119 15@120 > 16@500; "
        "4: 40@1650902300 41@1650902390 42@1650902410 > 43@1650988800; ",
        &(expected_counts){4, 1, 7});
    options.min_events = 3; /* user 3 has two without the duplicate */
    options.min_history = 6;
    check(report.sequences_path, &options, "1: 10@0 11@59 12@60 13@60 14@119 15@120 > 16@500; ",
        &(expected_counts){2, 3, 6});
    options = defaults();
    options.min_history = 0;
    options.min_events = 1;
    options.interval_s = INT64_MAX / 1000;
    options.item_id_offset = 0;
    options.time_unit_ms = INT64_MAX;
    check(report.sequences_path, &options,
        "1: > 10@0 11@0 12@0 13@0 14@0 15@0 16@0; 3: > 30@0 31@0; 5: > 50@0 51@0; 2: > 20@0; 4: > 40@0 41@0 42@0 "
        "43@0; ",
        &(expected_counts){5, 0, 0});
}

/* Meta's file: seconds, shift_id_by alone, ratings, and each row for itself. */
static void test_sasrec(void **state)
{
    scratch *s = *state;
    hstu_replay_options options = defaults();
    scratch_text(s, "sasrec.csv",
        SASREC_HEADER "9,\"5,6,7,8\",\"1,4.5,-2,3\",\"-60,-1,0,59\"\n3,\"1,2\",\"1,1\",\"5,6\"\n"
                      "9,\"5,5\",\"1,1\",\"-61,0\"\n4,1,1,1\n");
    options.item_id_offset = 500; /* these three are not for this kind of file */
    options.time_unit_ms = 7;
    options.drop_duplicates = 1;
    options.shift_id_by = 1;
    check(s->path, &options, "9: 6@-60 7@-1 > 8@0 9@59; 9: 6@-61 > 6@0; ", &(expected_counts){3, 1, 3});
    hstu_replay *r = replay_ok(s->path, &options);
    assert_array("action", r->action, (const int64_t[]){1, 4, -2, 3, 1, 1, 1, 1}, 8);
    assert_array("user", r->user, (const int64_t[]){0, 2}, 2);
    assert_true(r->item_offset == 1 && r->n_features == 0);
    hstu_replay_close(r);
    scratch_text(s, "down.csv", SASREC_HEADER "9,\"5,6,7\",\"1,1,1\",\"10,30,29\"\n");
    refused(s->path, &options, "times that do not descend, but event 3 of user 9 has 29 after 30");
}

/* Gaps that no int64 holds, and ids and times at the ends of their ranges. */
static void test_extremes(void **state)
{
    scratch *s = *state;
    hstu_replay_options options = defaults();
    scratch_text(s, "far.csv",
        SASREC_HEADER "-9223372036854775808,\"0,1,2,9223372036854775806\",\"1,1,1,1\","
                      "\"-9223372036854775808,-9223372036854775808,9223372036854775807,9223372036854775807\"\n");
    options.interval_s = INT64_MAX / 1000;
    check(s->path, &options,
        "-9223372036854775808: 0@-9223372036854775808 1@-9223372036854775808 > 2@9223372036854775807 "
        "9223372036854775806@9223372036854775807; ",
        &(expected_counts){1, 0, 1});
    options.shift_id_by = 2;
    refused(s->path, &options, "item 9223372036854775806 of user -9223372036854775808 plus the offset 2 is no 64-bit");
    options.shift_id_by = INT64_MIN;
    hstu_replay *r = replay_ok(s->path, &options);
    assert_true(r->item_id[0] == INT64_MIN && r->item_id[3] == -2 && r->item_offset == INT64_MIN);
    hstu_replay_close(r);
}

static void test_hostile_options(void **state)
{
    const hstu_preprocess_report report = make_events(*state);
    const hstu_replay_options good = defaults();
    static const struct {
        int64_t interval_s, min_history, min_events, time_unit_ms;
        const char *problem;
    } cases[] = {{0, 1, 2, 1, "interval_s must be an integer from 1 to 9223372036854775, not 0"},
        {INT64_MIN, 1, 2, 1, "interval_s must be an integer from 1 to"},
        {INT64_MAX / 1000 + 1, 1, 2, 1,
            "interval_s must be an integer from 1 to 9223372036854775, not 9223372036854776"},
        {60, -1, 2, 1, "min_history must be at least 0, not -1"}, {60, 1, 0, 1, "min_events must be at least 1, not 0"},
        {60, 1, INT64_MIN, 1, "min_events must be at least 1"}, {60, 1, 2, 0, "time_unit_ms must be at least 1, not 0"},
        {60, 1, 2, INT64_MIN, "time_unit_ms must be at least 1"},
        {60, INT64_MAX, 2, 1,
            "at least 9223372036854775807 earlier events of its user (min_history), found none among 10 intervals"},
        {60, 1, INT64_MAX, 1, "holds no user with at least 9223372036854775807 events (min_events): 5 were looked at"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hstu_replay_options options = good;
        options.interval_s = cases[i].interval_s;
        options.min_history = cases[i].min_history;
        options.min_events = cases[i].min_events;
        options.time_unit_ms = cases[i].time_unit_ms;
        refused(report.sequences_path, &options, cases[i].problem);
    }
    hstu_replay_options options = good;
    options.size--;
    refused(report.sequences_path, &options, "not set up by hstu_replay_options_init");
    options = good;
    options.item_id_offset = INT64_MAX;
    refused(report.sequences_path, &options, "item 10 of user 1 plus the offset 9223372036854775807");
    options.contextual = 1; /* raw ids: the offset does not count; of the two logs only user 1 has both */
    hstu_replay *r = replay_ok(report.sequences_path, &options);
    assert_true(r->n_users == 1 && r->n_users_skipped == 4 && r->item_id[0] == 10 && r->item_offset == 0);
    hstu_replay_close(r);
    hstu_error err = {0};
    assert_int_equal(hstu_replay_open(&r, NULL, &good, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "wants a place, a data set and options"));
    hstu_replay_close(NULL);
}

static void test_other_kinds(void **state)
{
    scratch *s = *state;
    hstu_replay_options options = defaults(), contextual = defaults();
    contextual.contextual = 1;
    static const char sessions[] = TEST_DATA "/kuairand_tiny/processed_full/processed_inference_sequences.csv";
    static const char ranking[] = TEST_DATA "/kuairand_tiny/processed_ranking/processed_seqs.csv";
    refused(sessions, &options, "holds sessions without times: a replay needs the times of sequences.safetensors");
    refused(sessions, &contextual, "holds sessions without times");
    refused(ranking, &options, "holds users for ranking, where duplicate rows cannot be told any more");
    refused(TEST_DATA "/fuzz/sequences.safetensors", &contextual, "does not say of how many logs it was made");
    scratch_text(s, "s.csv", SASREC_HEADER);
    refused(s->path, &options, "holds no user with at least 2 events (min_events): 0 were looked at");
    refused(s->path, &contextual, "holds no whole users with actions");
    scratch_text(s, "r.csv", "user_id,video_id,time_ms,action_weights\n1,[],[],[]\n");
    refused(
        s->path, &contextual, "with at least 2 events (min_events) whom every log and the features file hold: 1 were");
}

/* Users with their features as ranking samples have them: of 3, 5, 7, 9, 12 the features file lacks 9. */
static void test_contextual(void **state)
{
    scratch *s = *state;
    copy_tiny(s);
    copy_tiny_features(s);
    assert_int_equal(unlink(scratch_path(s, "KuaiRand-1K/data/log_standard_4_08_to_4_21_1k.csv")), 0);
    const hstu_preprocess_report report = preprocess(s, "KuaiRand-1K");
    hstu_replay_options options = defaults();
    options.contextual = 1;
    options.interval_s = 3;
    hstu_replay *x = replay_both(&report, &options);
    assert_string_equal(describe(x),
        "5: 30@1649800000 31@1649800001 32@1649800002 > 33@1649800003 34@1649800004 35@1649800005; "
        "5: 30@1649800000 31@1649800001 32@1649800002 33@1649800003 34@1649800004 35@1649800005 > "
        "36@1649800006 37@1649800007 38@1649800008; ");
    assert_array("user_id", x->user_id, (const int64_t[]){3, 5, 7, 12}, 4);
    assert_int_equal(x->n_features, 5);
    assert_array(
        "feature", x->feature, (const int64_t[]){3, 4, 1, 2, 1, 3, 3, 2, 3, 4, 1, 2, 2, 1, 3, 2, 3, 1, 2, 1}, 20);
    assert_string_equal(x->feature_name[0], "user_active_degree");
    assert_array("action", x->action, (const int64_t[]){1, 0, 1, 0, 0, 1, 0}, 7);
    assert_true(x->n_users_skipped == 1 && x->n_skipped == 4);
    hstu_replay_close(x);
    options.contextual = 0; /* nobody is left out for features, and ids are the model's */
    x = replay_ok(report.sequences_path, &options);
    assert_true(x->n_users == 5 && x->n_features == 0 && x->item_id[0] == 25);
    hstu_replay_close(x);
}

/* With two logs a user must stand in both; events that equal an earlier one stay and count for min_events. */
static void test_contextual_duplicates(void **state)
{
    scratch *s = *state;
    write_pure(s, LOG_HEADER LOG_ROW(1, 10, 100, 1) LOG_ROW(1, 10, 100, 1) LOG_ROW(2, 20, 1, 1) LOG_ROW(2, 21, 99, 1),
        LOG_HEADER LOG_ROW(1, 11, 40, 1) LOG_ROW(3, 30, 1, 1) LOG_ROW(3, 31, 99, 1));
    const hstu_preprocess_report report = preprocess(s, "KuaiRand-Pure");
    hstu_replay_options options = defaults();
    options.contextual = 1;
    options.min_events = 3;
    check(report.sequences_path, &options, "1: 11@40 > 10@100 10@100; ", &(expected_counts){1, 2, 1});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_exact, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_limits, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_sasrec, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_extremes, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_hostile_options, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_other_kinds, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_contextual, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_contextual_duplicates, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
