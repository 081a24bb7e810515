/* Replays of whole logs: a slow obvious implementation on random ones, the example data and, with HSTU_SHARED (the
 * folder with data/kuairand-pure), the real KuaiRand-Pure log against figures from pandas. */
#include "dataset/replay_files.h"

#define EXAMPLE TEST_DATA "/../../examples/data/kuairand-pure-sample/KuaiRand-Pure/data"

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
        cmocka_unit_test_setup_teardown(test_random, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_example, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_real_log, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
