/* Replays: exact requests of small logs, a slow obvious implementation on random logs, the example data and, with
 * HSTU_SHARED (the folder with data/kuairand-pure), the real KuaiRand-Pure log against figures from pandas. */
#include "dataset/kuairand_files.h"

#include <inttypes.h>

#define EXAMPLE TEST_DATA "/../../examples/data/kuairand-pure-sample/KuaiRand-Pure/data"
/* A row of user, video, time in milliseconds. */
#define ROW_MS(user, video, time_ms) #user "," #video ",20220425,2300," #time_ms ",1,0,0,0,0,0,0,1500,9000,0,0,0,0,1\n"
#define SASREC_HEADER "user_id,sequence_item_ids,sequence_ratings,sequence_timestamps\n"

static hstu_dataset *open_ok(const char *path)
{
    hstu_dataset *dataset = NULL;
    hstu_error err = {0};
    if (hstu_dataset_open(&dataset, path, NULL, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    return dataset;
}

static hstu_replay_options defaults(void)
{
    hstu_replay_options options;
    hstu_replay_options_init(&options);
    return options;
}

static hstu_preprocess_report preprocess(const scratch *s, const char *name)
{
    hstu_preprocess_report report;
    hstu_error err = {0};
    hstu_preprocess_options options = options_for(s, name);
    options.allow_missing_logs = 1;
    if (hstu_preprocess(&options, &report, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    return report;
}

static hstu_replay *replay_ok(const char *path, const hstu_replay_options *options)
{
    hstu_dataset *dataset = open_ok(path);
    hstu_replay *replay = NULL;
    hstu_error err = {0};
    if (hstu_replay_open(&replay, dataset, options, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    hstu_dataset_close(dataset); /* the replay must not lean on it */
    return replay;
}

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

static void assert_array(const char *what, const int64_t *found, const int64_t *expected, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (found[i] != expected[i])
            fail_msg("%s[%" PRId64 "] is %" PRId64 ", expected %" PRId64, what, i, found[i], expected[i]);
    }
}

/* User 1: an interval ends 60 s after its first event, exactly, wherever the second lies; events of equal time stay
 * together. User 2: one event. User 3: a duplicate, and a request at the time of user 1's. User 4: midnight in Beijing lies
 * between events 41 and 42, and event 43 is a day later. User 5: one interval alone. */
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
        {60, INT64_MAX, 2, 1, "none of the 10 intervals of 4 users has 9223372036854775807 events in front"},
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

static void assert_same(const hstu_replay *x, const hstu_replay *y)
{
    assert_true(x->n_users == y->n_users && x->n == y->n && x->n_skipped == y->n_skipped);
    assert_true(x->n_features == y->n_features && x->item_offset == y->item_offset);
    assert_array("user_id", x->user_id, y->user_id, x->n_users);
    assert_array("offset", x->offset, y->offset, x->n_users + 1);
    assert_array("item_id", x->item_id, y->item_id, x->offset[x->n_users]);
    assert_array("timestamp", x->timestamp, y->timestamp, x->offset[x->n_users]);
    assert_array("action", x->action, y->action, x->offset[x->n_users]);
    assert_array("feature", x->feature, y->feature, x->n_features * x->n_users);
    assert_array("user", x->user, y->user, x->n);
    assert_array("begin", x->begin, y->begin, x->n);
    assert_array("end", x->end, y->end, x->n);
    for (int64_t f = 0; f < x->n_features; f++)
        assert_string_equal(x->feature_name[f], y->feature_name[f]);
}

/* The same replay from both files that hold whole users with features; the caller closes it. */
static hstu_replay *replay_both(const hstu_preprocess_report *report, const hstu_replay_options *options)
{
    hstu_replay *x = replay_ok(report->sequences_path, options), *y = replay_ok(report->ranking_path, options);
    assert_same(x, y);
    hstu_replay_close(y);
    return x;
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

/* ---- A slow obvious implementation ------------------------------------------------------------------------------ */

enum { MAX_RANDOM = 160, N_RANDOM_USERS = 9, ROW_BYTES = 96 };

typedef struct event {
    int64_t user, item, time_ms, action; /* action: 0 or 1 */
    int log;
} event;

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

static bool equal_rows(const event *x, const event *y)
{
    return x->user == y->user && x->item == y->item && x->time_ms == y->time_ms && x->action == y->action;
}

/* Writes the two logs, and features for all users but the last. Few times and items, so that many rows are equal. */
static int make_random(scratch *s, event *e, uint32_t seed)
{
    char text[2][(MAX_RANDOM + 2) * ROW_BYTES] = {LOG_HEADER, LOG_HEADER}, features[512] = FEATURE_HEADER "\n";
    const int n = 1 + (int)(next_random(&seed) % (MAX_RANDOM - 1));
    for (int i = 0; i < n; i++) {
        e[i] = (event){.user = next_random(&seed) % N_RANDOM_USERS,
            .item = next_random(&seed) % 3,
            .time_ms = (int64_t)(next_random(&seed) % 40) * 500 - 4000,
            .action = next_random(&seed) % 2,
            .log = i >= n / 2};
        char *log = text[e[i].log];
        const size_t used = strlen(log);
        (void)snprintf(log + used, sizeof text[0] - used,
            "%" PRId64 ",%" PRId64 ",1,1,%" PRId64 ",%" PRId64 ",0,0,0,0,0,0,1,1,0,0,0,0,0\n", e[i].user, e[i].item,
            e[i].time_ms, e[i].action);
    }
    for (int user = 0; user < N_RANDOM_USERS - 1; user++) {
        const size_t used = strlen(features);
        (void)snprintf(features + used, sizeof features - used, "%d,a%d,b,c,d,e\n", user, user);
    }
    scratch_text(s, "KuaiRand-Pure/log_standard_4_08_to_4_21_pure.csv", text[0]);
    scratch_text(s, "KuaiRand-Pure/log_standard_4_22_to_5_08_pure.csv", text[1]);
    scratch_text(s, "KuaiRand-Pure/user_features_pure.csv", features);
    return n;
}

typedef struct plain_request {
    int64_t time_ms, user_id, n_history, n_targets;
} plain_request;

typedef struct plain_replay {
    int64_t n_users, n_users_skipped, n_skipped, n;
    int64_t user_id[N_RANDOM_USERS], n_events[N_RANDOM_USERS];
    event of[N_RANDOM_USERS][MAX_RANDOM];
    plain_request request[MAX_RANDOM];
} plain_replay;

/* A user's events by time, one after the other picked out of all; whether a log or the features file lacks the user. */
static int plain_user(event *out, const event *e, int n, int64_t user, bool drop, bool *complete)
{
    bool taken[MAX_RANDOM] = {false}, in_log[2] = {false};
    int n_out = 0;
    for (int i = 0; i < n; i++) {
        taken[i] = e[i].user != user;
        if (!taken[i])
            in_log[e[i].log] = true;
        for (int k = 0; drop && k < i; k++)
            taken[i] = taken[i] || equal_rows(&e[k], &e[i]);
    }
    for (;;) {
        int first = -1;
        for (int i = 0; i < n; i++) {
            if (!taken[i] && (first < 0 || e[i].time_ms < e[first].time_ms))
                first = i;
        }
        if (first < 0)
            break;
        taken[first] = true;
        out[n_out++] = e[first];
    }
    *complete = in_log[0] && in_log[1] && user < N_RANDOM_USERS - 1;
    return n_out;
}

/* The first event of the interval that holds event k. */
static int interval_first(const event *e, int k, int64_t interval_ms)
{
    int first = 0;
    for (int i = 0; i <= k; i++) {
        if (e[i].time_ms - e[first].time_ms >= interval_ms)
            first = i;
    }
    return first;
}

static bool comes_before(const plain_request *x, const plain_request *y)
{
    return x->time_ms < y->time_ms || (x->time_ms == y->time_ms && x->user_id < y->user_id);
}

static void plain_requests(plain_replay *p, const event *of, int n_of, const hstu_replay_options *options)
{
    for (int k = 0; k < n_of; k++) {
        plain_request request = {of[k].time_ms, of[k].user, k, 0};
        if (interval_first(of, k, options->interval_s * 1000) != k)
            continue;
        for (int i = 0; i < n_of; i++)
            request.n_targets += interval_first(of, i, options->interval_s * 1000) == k;
        if (k < options->min_history) {
            p->n_skipped++;
            continue;
        }
        int64_t at = p->n++;
        for (; at > 0 && comes_before(&request, &p->request[at - 1]); at--)
            p->request[at] = p->request[at - 1];
        p->request[at] = request;
    }
}

static void plain_make(plain_replay *p, const event *e, int n, const hstu_replay_options *options)
{
    memset(p, 0, sizeof *p);
    for (int64_t user = 0; user < N_RANDOM_USERS; user++) {
        bool complete = false;
        event *of = p->of[p->n_users];
        const bool drop = options->drop_duplicates && !options->contextual;
        const int n_of = plain_user(of, e, n, user, drop, &complete);
        if (n_of == 0)
            continue;
        if (n_of < options->min_events || (options->contextual && !complete)) {
            p->n_users_skipped++;
            continue;
        }
        p->user_id[p->n_users] = user;
        p->n_events[p->n_users++] = n_of;
        plain_requests(p, of, n_of, options);
    }
}

static void assert_as_plain(const hstu_replay *r, const plain_replay *p, const hstu_replay_options *options)
{
    const int64_t item_offset = options->contextual ? 0 : options->item_id_offset;
    assert_int_equal(r->n_users, p->n_users);
    assert_int_equal(r->n_users_skipped, p->n_users_skipped);
    assert_int_equal(r->n_skipped, p->n_skipped);
    assert_int_equal(r->n, p->n);
    assert_int_equal(r->offset[0], 0);
    for (int64_t u = 0; u < r->n_users; u++) {
        assert_int_equal(r->user_id[u], p->user_id[u]);
        assert_int_equal(r->offset[u + 1] - r->offset[u], p->n_events[u]);
        for (int64_t i = 0, k = r->offset[u]; i < p->n_events[u]; i++, k++) {
            const event *e = &p->of[u][i];
            int64_t seconds = 0; /* rounded down */
            while (seconds * 1000 > e->time_ms || (seconds + 1) * 1000 <= e->time_ms)
                seconds += seconds * 1000 > e->time_ms ? -1 : 1;
            assert_true(r->item_id[k] == e->item + item_offset && r->action[k] == e->action);
            assert_int_equal(r->timestamp[k], seconds);
        }
        if (options->contextual) /* the place of "a<user>" in the features file */
            assert_int_equal(r->feature[u], r->user_id[u] + 1);
    }
    for (int64_t i = 0; i < r->n; i++) {
        const plain_request *q = &p->request[i];
        assert_int_equal(r->user_id[r->user[i]], q->user_id);
        assert_int_equal(r->begin[i] - r->offset[r->user[i]], q->n_history);
        assert_int_equal(r->end[i] - r->begin[i], q->n_targets);
    }
}

static void test_random(void **state)
{
    scratch *s = *state;
    static plain_replay plain;
    static event e[MAX_RANDOM];
    int n_made = 0, n_refused = 0;
    scratch_mkdir(s, "KuaiRand-Pure");
    for (uint32_t seed = 0; seed < 60; seed++) {
        const int n = make_random(s, e, seed * 7919);
        const hstu_preprocess_report report = preprocess(s, "KuaiRand-Pure");
        hstu_dataset *dataset = open_ok(report.sequences_path);
        for (uint32_t pick = 0; pick < 24; pick++) {
            hstu_replay_options options = defaults();
            options.interval_s = 1 + pick % 3;
            options.min_history = pick % 4;
            options.min_events = 1 + pick % 5;
            options.drop_duplicates = pick % 2;
            options.contextual = pick % 7 == 0;
            plain_make(&plain, e, n, &options);
            hstu_replay *r = NULL;
            const hstu_status status = hstu_replay_open(&r, dataset, &options, NULL);
            assert_int_equal(status, plain.n ? HSTU_OK : HSTU_EINVAL);
            if (status == HSTU_OK)
                assert_as_plain(r, &plain, &options);
            n_made += status == HSTU_OK;
            n_refused += status != HSTU_OK;
            hstu_replay_close(r);
        }
        hstu_dataset_close(dataset);
    }
    assert_true(n_made > 1000 && n_refused > 10);
}

/* ---- Real data -------------------------------------------------------------------------------------------------- */

/* What pandas made of the same log and options. */
typedef struct totals {
    int64_t interval_s, min_history, min_events;
    int contextual;
    int64_t n_users, n_users_skipped, n_events, n, n_skipped, n_history, n_targets, max_history;
    uint64_t digest; /* of all requests in their order */
} totals;

static void check_totals(const hstu_replay *r, const totals *expected)
{
    totals found = *expected;
    found.n_users = r->n_users;
    found.n_users_skipped = r->n_users_skipped;
    found.n_events = r->offset[r->n_users];
    found.n = r->n;
    found.n_skipped = r->n_skipped;
    found.n_history = found.n_targets = found.max_history = 0;
    found.digest = 0;
    for (int64_t i = 0; i < r->n; i++) {
        const int64_t n_history = r->begin[i] - r->offset[r->user[i]], n_targets = r->end[i] - r->begin[i];
        found.n_history += n_history;
        found.n_targets += n_targets;
        found.max_history = n_history > found.max_history ? n_history : found.max_history;
        found.digest +=
            (uint64_t)(i + 1) * (uint64_t)(r->user_id[r->user[i]] * 7919 + n_history * 104729 + n_targets * 1299709 +
                                           r->item_id[r->begin[i]] * 3 + r->item_id[r->end[i] - 1] * 5);
    }
    if (memcmp(&found, expected, sizeof found) != 0)
        fail_msg("users %" PRId64 " skipped %" PRId64 " events %" PRId64 " requests %" PRId64 " skipped %" PRId64
                 " history %" PRId64 " targets %" PRId64 " longest %" PRId64 " digest 0x%016" PRIx64,
            found.n_users, found.n_users_skipped, found.n_events, found.n, found.n_skipped, found.n_history,
            found.n_targets, found.max_history, found.digest);
}

static void check_folder(scratch *s, const char *folder, const char *suffix, const totals expected[3])
{
    static const char *const name[] = {"log_standard_4_25_to_5_08_pure.csv", "user_features_pure.csv"};
    char target[1024], link_path[512];
    scratch_mkdir(s, "KuaiRand-Pure");
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(target, sizeof target, "%s/%s%s", folder, name[i], suffix);
        (void)snprintf(link_path, sizeof link_path, "%s/KuaiRand-Pure/%s%s", s->folder, name[i], suffix);
        assert_int_equal(symlink(target, link_path), 0);
    }
    const hstu_preprocess_report report = preprocess(s, "KuaiRand-Pure");
    for (size_t i = 0; i < 3; i++) {
        hstu_replay_options options = defaults();
        options.interval_s = expected[i].interval_s;
        options.min_history = expected[i].min_history;
        options.min_events = expected[i].min_events;
        options.contextual = expected[i].contextual;
        hstu_replay *r =
            options.contextual ? replay_both(&report, &options) : replay_ok(report.sequences_path, &options);
        check_totals(r, &expected[i]);
        hstu_replay_close(r);
    }
}

static void test_example(void **state)
{
    static const totals expected[] = {
        {60, 1, 2, 0, 5223, 329, 89488, 82057, 5223, 1195772, 84171, 140, 0x053c0bdfe1148ca9},
        {3600, 5, 10, 0, 3151, 2401, 79190, 43962, 12579, 776576, 62299, 140, 0x01824944637ce240},
        {60, 1, 2, 1, 5235, 317, 91361, 82057, 5235, 1217224, 85874, 140, 0x053cbb0d643f0e9e}};
    check_folder(*state, EXAMPLE, ".gz", expected);
}

static void test_real_log(void **state)
{
    static const totals expected[] = {
        {60, 1, 2, 0, 22707, 2449, 220420, 193624, 22707, 1797522, 197335, 140, 0x1cd20401ef0a7f26},
        {3600, 5, 10, 0, 8269, 16887, 148699, 79055, 34116, 1103122, 104858, 140, 0x04d8690f9bfc104d},
        {60, 1, 2, 1, 22830, 2326, 226003, 193624, 22830, 1833573, 201951, 140, 0x1cd57378f47965b1}};
    const char *shared = getenv("HSTU_SHARED");
    char folder[512];
    if (!shared) {
        print_message("HSTU_SHARED is not set: the real KuaiRand-Pure log is not replayed\n");
        skip();
    }
    (void)snprintf(folder, sizeof folder, "%s/data/kuairand-pure", shared);
    check_folder(*state, folder, "", expected);
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
        cmocka_unit_test_setup_teardown(test_random, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_example, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_real_log, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
