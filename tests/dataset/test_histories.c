/* Histories: a model's rules, applied to each kind of sequence file. */
#include "dataset/kuairand_files.h"

#include "data/events.h"
#include "data/sessions.h"

#include <inttypes.h>

static hstu_dataset *open_ok(const char *path)
{
    hstu_dataset *dataset = NULL;
    hstu_error err = {0};
    if (hstu_dataset_open(&dataset, path, NULL, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    return dataset;
}

static hstu_history_options defaults(void)
{
    hstu_history_options options;
    hstu_history_options_init(&options);
    return options;
}

/* Everything as text: "user: item@time ... > target@time; ..." ('-' for a missing time). */
static char *describe(const hstu_histories *h)
{
    static char text[4096];
    size_t used = 0;
    text[0] = '\0';
    for (int64_t i = 0; i < h->n; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used, "%" PRId64 ":", h->user_id[i]);
        for (int64_t k = h->offset[i]; k < h->offset[i + 1]; k++) {
            used += (size_t)snprintf(text + used, sizeof text - used, " %" PRId64, h->item_id[k]);
            if (h->timestamp)
                used += (size_t)snprintf(text + used, sizeof text - used, "@%" PRId64, h->timestamp[k]);
        }
        used += (size_t)snprintf(text + used, sizeof text - used, " > %" PRId64, h->target_id[i]);
        if (h->target_time)
            used += (size_t)snprintf(text + used, sizeof text - used, "@%" PRId64, h->target_time[i]);
        used += (size_t)snprintf(text + used, sizeof text - used, "; ");
        assert_true(used < sizeof text);
    }
    return text;
}

static void check(const char *path, const hstu_history_options *options, const char *expected, int64_t n_skipped)
{
    hstu_dataset *dataset = open_ok(path);
    hstu_histories *h = NULL;
    hstu_error err = {0};
    if (hstu_histories_open(&h, dataset, options, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    assert_string_equal(describe(h), expected);
    assert_true(h->n_skipped == n_skipped);
    hstu_histories_close(h);
    hstu_dataset_close(dataset);
}

static void check_fails(const char *path, const hstu_history_options *options, const char *problem)
{
    hstu_dataset *dataset = open_ok(path);
    hstu_histories *h = NULL;
    hstu_error err = {0};
    assert_int_equal(hstu_histories_open(&h, dataset, options, &err), HSTU_EINVAL);
    if (!strstr(err.msg, problem))
        fail_msg("%s", err.msg);
    assert_null(h);
    hstu_dataset_close(dataset);
}

/* User 1 has a duplicate and a gap of 300 s, user 2 two events, user 3 lives before 1970. */
static hstu_preprocess_report make_events(scratch *s)
{
    hstu_preprocess_report report;
    hstu_error err;
    write_pure(s,
        LOG_HEADER LOG_ROW(1, 10, 100, 0) LOG_ROW(1, 10, 100, 0) LOG_ROW(1, 11, 101, 0) LOG_ROW(1, 12, 401, 0),
        LOG_HEADER LOG_ROW(2, 20, 5, 0) LOG_ROW(2, 21, 6, 0) LOG_ROW(
            1, 13, 402, 0) "3,30,1,1,-1001,0,0,0,0,0,0,0,1,1,0,0,0,0,0\n3,31,1,1,-1000,0,1,0,0,0,0,0,1,1,0,0,0,0,0\n"
                           "3,32,1,1,-1,0,0,0,0,0,0,0,1,1,0,0,1,0,0\n3,33,1,1,0,0,0,0,0,0,0,0,1,1,0,0,0,0,0\n");
    const hstu_preprocess_options options = options_for(s, "KuaiRand-Pure");
    assert_int_equal(hstu_preprocess(&options, &report, &err), HSTU_OK);
    return report;
}

static void test_leave_one_out(void **state)
{
    const hstu_preprocess_report report = make_events(*state);
    hstu_history_options options = defaults();
    check(report.sequences_path, &options, "1: 11@100 12@101 13@401 > 14@402; 3: 31@-2 32@-1 33@-1 > 34@0; ", 1);
    options.drop_duplicates = 0;
    options.item_id_offset = 0;
    options.time_unit_ms = 1;
    options.min_events = 5;
    check(report.sequences_path, &options, "1: 10@100000 10@100000 11@101000 12@401000 > 13@402000; ", 2);
    options = defaults();
    options.max_history = 2;
    options.min_events = 2;
    check(report.sequences_path, &options, "1: 12@101 13@401 > 14@402; 2: 21@5 > 22@6; 3: 32@-1 33@-1 > 34@0; ", 0);
}

static void test_events_sessions(void **state)
{
    const hstu_preprocess_report report = make_events(*state);
    hstu_history_options options = defaults();
    options.protocol = HSTU_PROTOCOL_SESSIONS;
    check(report.sequences_path, &options,
        "1: 11@100 11@100 > 12@101; 1: 13@401 > 14@402; 2: 21@5 > 22@6; 3: 31@-2 32@-1 33@-1 > 34@0; ", 0);
    options.max_sequences = 2;
    options.max_sequence_length = 1;
    options.item_id_offset = 0;
    check(report.sequences_path, &options, "1: 10@100 > 11@101; 1: 12@401 > 13@402; ", 0);
    options.max_sequences = 1024;
    options.time_interval_s = 1;
    check(report.sequences_path, &options, "1: 10@100 > 10@100; 3: 32@-1 > 33@0; ", 5);
}

static void test_actions(void **state)
{
    scratch *s = *state;
    const hstu_preprocess_report report = make_events(s);
    hstu_dataset *dataset = open_ok(report.sequences_path);
    hstu_history_options options = defaults();
    hstu_histories *h = NULL;
    assert_int_equal(hstu_histories_open(&h, dataset, &options, NULL), HSTU_OK);
    static const int64_t expected[] = {1, 1, 1, 0, 2, 128};
    assert_int_equal(h->offset[2], 6);
    assert_memory_equal(h->action, expected, sizeof expected);
    assert_true(h->item_offset == 1);
    hstu_histories_close(h);
    hstu_dataset_close(dataset);
    scratch_text(s, "sasrec.csv",
        "user_id,sequence_item_ids,sequence_ratings,sequence_timestamps\n1,\"5,6,7\",\"4.5,-1.5,2\",\"1,2,3\"\n");
    dataset = open_ok(s->path);
    assert_int_equal(hstu_histories_open(&h, dataset, &options, NULL), HSTU_OK);
    static const int64_t ratings[] = {4, -1};
    assert_memory_equal(h->action, ratings, sizeof ratings);
    assert_true(h->item_offset == 0);
    hstu_histories_close(h);
    hstu_dataset_close(dataset);
}

static void test_sasrec(void **state)
{
    scratch *s = *state;
    scratch_text(s, "sasrec_format.csv",
        "index,user_id,sequence_item_ids,sequence_ratings,sequence_timestamps\n"
        "0,9,\"5,6,7\",\"1,1,1\",\"10,-20,30\"\n1,3,\"1,2\",\"1,1\",\"1,2\"\n2,9,\"8,8,8,8\",\"1,1,1,1\",\"1,1,1,"
        "1\"\n");
    hstu_history_options options = defaults();
    options.item_id_offset = 500; /* not for this kind of file, as time_unit_ms is not */
    check(s->path, &options, "9: 5@10 6@-20 > 7@30; 9: 8@1 8@1 8@1 > 8@1; ", 1);
    options.shift_id_by = 1;
    options.max_history = 1;
    check(s->path, &options, "9: 7@-20 > 8@30; 9: 9@1 > 9@1; ", 1);
}

static void test_sessions_file(void **state)
{
    scratch *s = *state;
    scratch_text(s, "t.csv",
        "user_id,sequence,actions,length\n1,\"[5, 6, 7]\",\"[0, 1, 2]\",3\n1,[5],[0],1\n"
        "2,\"[8, 9]\",\"[0, 0]\",2\n");
    hstu_history_options options = defaults();
    options.protocol = HSTU_PROTOCOL_SESSIONS;
    check(s->path, &options, "1: 6 7 > 8; 2: 9 > 10; ", 1);
}

static void test_wrong_protocols(void **state)
{
    scratch *s = *state;
    hstu_history_options options = defaults();
    scratch_text(s, "t.csv", "user_id,sequence,actions,length\n1,\"[5, 6, 7]\",\"[0, 1, 2]\",3\n");
    check_fails(s->path, &options, "protocol must be sessions, not leave-one-out");
    options.protocol = HSTU_PROTOCOL_SESSIONS;
    scratch_text(s, "s.csv", "user_id,sequence_item_ids,sequence_ratings,sequence_timestamps\n1,5,1,1\n");
    check_fails(s->path, &options, "protocol must be leave-one-out, not sessions");
    options.protocol = HSTU_PROTOCOL_LEAVE_ONE_OUT;
    check_fails(s->path, &options, "holds no user with at least 3 events (1 were looked at)");
    options.protocol = (hstu_protocol)7;
    check_fails(s->path, &options, "protocol must be");
}

static void test_wrong_rules(void **state)
{
    const hstu_preprocess_report report = make_events(*state);
    hstu_history_options options = defaults();
    options.min_events = 1;
    check_fails(report.sequences_path, &options, "min_events must be at least 2, not 1");
    options = defaults();
    options.time_unit_ms = 0;
    check_fails(report.sequences_path, &options, "time_unit_ms must be at least 1, not 0");
    options = defaults();
    options.max_history = -1;
    check_fails(report.sequences_path, &options, "max_history must be at least 0, not -1");
    options = defaults();
    options.item_id_offset = INT64_MAX;
    check_fails(report.sequences_path, &options, "item 10 of user 1 plus the offset 9223372036854775807");
    options = defaults();
    options.min_events = 100;
    check_fails(report.sequences_path, &options, "holds no user with at least 100 events (3 were looked at)");
    options = defaults();
    options.size = 0;
    check_fails(report.sequences_path, &options, "hstu_history_options_init");
}

/* Times at both ends of the range: a gap that no int64 holds still starts a session. */
static void test_extreme_gaps(void **state)
{
    (void)state;
    const int64_t user_id[] = {1}, offset[] = {0, 4}, item[] = {1, 2, 3, 4};
    const int64_t time_ms[] = {INT64_MIN, INT64_MIN, INT64_MAX, INT64_MAX};
    const uint8_t action[4] = {0};
    const hs_event_view view = {.n_users = 1,
        .n_events = 4,
        .user_id = user_id,
        .offset = offset,
        .item = item,
        .time_ms = time_ms,
        .action = action};
    const hs_session_rules rules = {INT64_MAX / 1000, 10, 10};
    hs_sessions sessions;
    assert_int_equal(hs_sessions_cut(&sessions, &view, &rules, NULL), HSTU_OK);
    assert_int_equal(sessions.n, 2);
    assert_int_equal(sessions.session[1].first, 2);
    assert_int_equal(sessions.n_users, 1);
    hs_sessions_free(&sessions);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_leave_one_out, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_events_sessions, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_actions, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_sasrec, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_sessions_file, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_wrong_protocols, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_wrong_rules, scratch_setup, scratch_teardown),
        cmocka_unit_test(test_extreme_gaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
