/* Synthetic logs: the same bytes whatever the threads, the real files' layout and shape, and nothing left after a failure. */
#include "dataset/kuairand_files.h"

#include <inttypes.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

static const char users_header[] =
    "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,follow_user_num,"
    "follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,friend_user_num_range,register_days,"
    "register_days_range,onehot_feat0,onehot_feat1,onehot_feat2,onehot_feat3,onehot_feat4,onehot_feat5,onehot_feat6,"
    "onehot_feat7,onehot_feat8,onehot_feat9,onehot_feat10,onehot_feat11,onehot_feat12,onehot_feat13,onehot_feat14,"
    "onehot_feat15,onehot_feat16,onehot_feat17\n";

/* The columns of a row of a log. */
enum { USER, ITEM, DATE, HOURMIN, TIME, CLICK, LONG_VIEW = 11, PLAY, DURATION, IS_RAND = 17, TAB, N_COLUMNS };

static hstu_synth_options synth_options(
    const scratch *s, const char *like, int64_t users, int64_t items, int64_t events)
{
    hstu_synth_options options;
    hstu_synth_options_init(&options);
    options.like = like;
    options.data_root = s->folder;
    options.users = users;
    options.items = items;
    options.events = events;
    options.threads = 2;
    return options;
}

static void make(const hstu_synth_options *options, hstu_synth_report *report)
{
    hstu_error err = {0};
    if (hstu_synth(options, report, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
}

/* All files behind one another; free it. */
static char *read_all(const hstu_synth_report *report, size_t *n)
{
    char *all = NULL;
    *n = 0;
    for (int i = 0; i < report->n_files; i++) {
        size_t size = 0;
        char *file = read_whole(report->path[i], &size);
        all = realloc(all, *n + size + 1);
        assert_non_null(all);
        memcpy(all + *n, file, size + 1);
        *n += size;
        free(file);
    }
    return all;
}

static void remove_files(const hstu_synth_report *report)
{
    for (int i = 0; i < report->n_files; i++)
        assert_int_equal(unlink(report->path[i]), 0);
}

/* Reads the row at `text` and gives the place behind it. Not with strtoll: a sanitizer's looks for the end of the whole text. */
static const char *read_row(const char *text, int64_t column[N_COLUMNS])
{
    for (int c = 0; c < N_COLUMNS; c++, text++) {
        assert_true(*text >= '0' && *text <= '9');
        for (column[c] = 0; *text >= '0' && *text <= '9'; text++)
            column[c] = 10 * column[c] + (*text - '0');
        assert_int_equal(*text, c + 1 < N_COLUMNS ? ',' : '\n');
    }
    return text;
}

static void test_threads_do_not_matter(void **state)
{
    scratch *s = *state;
    static const struct {
        const char *like;
        int64_t users, items, events;
    } cases[] = {
        {"KuaiRand-Pure", 3000, 900, 60000}, {"kuairand-1k", 1, 5000, 30000}, {"KuaiRand-27K", 50, 9000, 50000}};
    static const int threads[] = {1, 2, 5};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        hstu_synth_options options = synth_options(s, cases[k].like, cases[k].users, cases[k].items, cases[k].events);
        hstu_synth_report report;
        char *first = NULL;
        size_t n_first = 0, n = 0;
        for (size_t i = 0; i < 3; i++) {
            options.threads = threads[i];
            make(&options, &report);
            char *text = read_all(&report, &n);
            if (first) {
                assert_int_equal(n, n_first);
                assert_memory_equal(text, first, n);
                free(text);
            } else {
                first = text;
                n_first = n;
            }
            assert_int_equal(report.bytes, n);
            remove_files(&report);
        }
        options.seed = 2;
        make(&options, &report);
        char *other = read_all(&report, &n);
        assert_true(n != n_first || memcmp(other, first, n) != 0);
        remove_files(&report);
        free(other);
        free(first);
    }
}

/* What is counted over all rows of the logs. */
typedef struct totals {
    uint64_t rows, clicks, long_views, ahead, repeats, earlier, top_tab;
    uint32_t *of_user, *of_item;
} totals;

/* Checks every row of one log. */
static void check_log(totals *t, const char *path, const hstu_synth_report *report, int period, uint64_t rows)
{
    static const int64_t begin[] = {1649347200000, 1650556800000, 1652025600000};
    size_t n = 0;
    char *text = read_whole(path, &n);
    const char *at = text + strlen(LOG_HEADER), *last = NULL;
    int64_t x[N_COLUMNS], before[N_COLUMNS] = {0};
    assert_memory_equal(text, LOG_HEADER, strlen(LOG_HEADER));
    for (; at < text + n; rows--) {
        const char *end = read_row(at, x);
        assert_true(rows > 0 && x[USER] < report->users && x[ITEM] < report->items && x[TAB] < 15);
        assert_true(x[TIME] >= begin[period] && x[TIME] < begin[period + 1] && x[IS_RAND] == 0);
        for (int c = CLICK; c <= LONG_VIEW; c++)
            assert_true(x[c] <= 1);
        const int64_t hour = (x[TIME] - begin[0]) / 3600000, day = hour / 24 + 8;
        const int64_t date = day > 30 ? 20220500 + day - 30 : 20220400 + day;
        if (x[HOURMIN] == hour % 24 * 100)
            assert_int_equal(x[DATE], date);
        else
            assert_int_equal(x[HOURMIN], (hour + 1) % 24 * 100);
        assert_true(x[USER] >= before[USER]);
        const bool follows = last && x[USER] == before[USER];
        t->repeats += follows && end - at == at - last && memcmp(at, last, (size_t)(at - last)) == 0;
        t->earlier += follows && x[TIME] < before[TIME];
        t->ahead += x[HOURMIN] != hour % 24 * 100;
        t->clicks += (uint64_t)x[CLICK];
        t->long_views += (uint64_t)x[LONG_VIEW];
        t->top_tab += x[TAB] == 1;
        t->rows++;
        t->of_user[x[USER]]++;
        t->of_item[x[ITEM]]++;
        memcpy(before, x, sizeof before);
        last = at;
        at = end;
    }
    assert_int_equal(rows, 0);
    free(text);
}

static totals check_logs(const hstu_synth_report *report)
{
    totals t = {.of_user = calloc((size_t)report->users, sizeof *t.of_user),
        .of_item = calloc((size_t)report->items, sizeof *t.of_item)};
    assert_true(t.of_user && t.of_item);
    for (int i = 0; i + 1 < report->n_files; i++)
        check_log(&t, report->path[i], report, i / ((report->n_files - 1) / 2), report->rows[i]);
    assert_int_equal(t.rows, report->events);
    return t;
}

static void free_totals(totals *t)
{
    free(t->of_user);
    free(t->of_item);
}

static int descending(const void *left, const void *right)
{
    const uint32_t x = *(const uint32_t *)left, y = *(const uint32_t *)right;
    return (x < y) - (x > y);
}

static void assert_share(uint64_t part, uint64_t all, double low, double high)
{
    const double share = (double)part / (double)all;
    if (share < low || share > high)
        fail_msg("%" PRIu64 " of %" PRIu64 " is not from %g to %g", part, all, low, high);
}

/* The bounds are several standard deviations wide; the seed is fixed all the same. */
static void test_shape_of_pure(void **state)
{
    scratch *s = *state;
    hstu_synth_options options = synth_options(s, "KuaiRand-Pure", 4000, 1100, 200000);
    hstu_synth_report report;
    make(&options, &report);
    totals t = check_logs(&report);
    assert_share(t.clicks, t.rows, 0.43, 0.455);
    assert_share(t.long_views, t.rows, 0.30, 0.325);
    assert_share(t.repeats, t.rows, 0.020, 0.027);
    assert_share(t.ahead, t.rows, 0.165, 0.185);
    assert_share(t.top_tab, t.rows, 0.745, 0.77);
    assert_share(report.rows[0], t.rows, 0.73, 0.82);
    qsort(t.of_user, 4000, sizeof *t.of_user, descending);
    qsort(t.of_item, 1100, sizeof *t.of_item, descending);
    assert_true(t.of_user[3999] >= 1 && t.of_item[1099] >= 1);
    assert_share(t.of_user[40], t.of_user[2000], 4, 9); /* the 99th percentile is 6.5 medians */
    assert_share(t.of_item[11], t.of_item[550], 30, 200);
    free_totals(&t);
    size_t n = 0;
    char *users = read_whole(report.path[2], &n);
    assert_memory_equal(users, users_header, strlen(users_header));
    uint64_t lines = 0;
    for (size_t i = 0; i < n; i++)
        lines += users[i] == '\n';
    assert_int_equal(lines, 4001);
    free(users);
}

/* Sessions, times that go back now and then, users of many blocks, two files a period that share users and days. */
static void test_shape_of_27k(void **state)
{
    scratch *s = *state;
    hstu_synth_options options = synth_options(s, "KuaiRand-27K", 40, 20000, 200000);
    hstu_synth_report report;
    make(&options, &report);
    assert_int_equal(report.n_files, 5);
    assert_string_equal(strrchr(report.path[1], '/'), "/log_standard_4_08_to_4_21_27k_part2.csv");
    totals t = check_logs(&report);
    assert_share(t.clicks, t.rows, 0.365, 0.395);
    assert_true(t.earlier > 50 && t.earlier < t.rows / 200);
    assert_share(report.rows[0], report.rows[1], 0.97, 1.03);
    assert_share(report.rows[0] + report.rows[1], t.rows, 0.35, 0.5);
    for (int64_t item = 0; item < report.items; item++)
        assert_true(t.of_item[item] > 0);
    free_totals(&t);
}

static void test_default_sizes(void **state)
{
    scratch *s = *state;
    hstu_synth_options options = synth_options(s, "KuaiRand-1K", 0, 0, 1171);
    hstu_synth_report report;
    make(&options, &report);
    assert_int_equal(report.users, 1000);
    assert_int_equal(report.items, 436);
    options.events = 300;
    options.overwrite = 1;
    make(&options, &report);
    assert_int_equal(report.users, 300);
    totals t = check_logs(&report);
    free_totals(&t);
}

static void test_preprocesses(void **state)
{
    scratch *s = *state;
    static const struct {
        const char *like;
        int64_t users, items, events;
    } cases[] = {
        {"KuaiRand-Pure", 500, 300, 20000}, {"KuaiRand-1K", 20, 8000, 20000}, {"KuaiRand-27K", 30, 5000, 20000}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        hstu_synth_options options = synth_options(s, cases[k].like, cases[k].users, cases[k].items, cases[k].events);
        hstu_synth_report made;
        hstu_preprocess_report report;
        hstu_error err = {0};
        make(&options, &made);
        const hstu_preprocess_options preprocess = options_for(s, cases[k].like);
        if (hstu_preprocess(&preprocess, &report, &err) != HSTU_OK)
            fail_msg("%s", err.msg);
        assert_int_equal(report.n_rows, cases[k].events);
        assert_int_equal(report.n_users, cases[k].users);
        assert_int_equal(report.n_items, cases[k].items);
        assert_int_equal(report.n_features, 5);
        assert_share(report.n_duplicates, report.n_rows, 0.018, 0.03);
        assert_true(report.n_ranking_users >= report.n_users - report.n_users / 8 - 3);
    }
}

static void expect_failure(const hstu_synth_options *options, hstu_status status, const char *sentence)
{
    hstu_synth_report report = {.n_files = -1};
    hstu_error err = {0};
    assert_int_equal(hstu_synth(options, &report, &err), status);
    if (!strstr(err.msg, sentence))
        fail_msg("'%s' lacks '%s'", err.msg, sentence);
    assert_int_equal(report.n_files, -1);
}

static void test_wrong_options(void **state)
{
    scratch *s = *state;
    hstu_synth_options options = synth_options(s, "KuaiRand-5K", 10, 10, 100);
    expect_failure(&options, HSTU_EINVAL, "KuaiRand-27K");
    options = synth_options(s, "KuaiRand-1K", -1, 10, 100);
    expect_failure(&options, HSTU_EINVAL, "users must be from 1 to 100000000");
    options = synth_options(s, "KuaiRand-1K", 1, 1000000001, 100);
    expect_failure(&options, HSTU_EINVAL, "items must be from 1 to 1000000000");
    options = synth_options(s, "KuaiRand-1K", 1, 1, INT64_MAX);
    expect_failure(&options, HSTU_EINVAL, "events must be from 1 to 4294967294");
    options = synth_options(s, "KuaiRand-1K", 101, 1, 100);
    expect_failure(&options, HSTU_EINVAL, "100 events are too few for 101 users");
    options = synth_options(s, "KuaiRand-1K", 1, 1, 100);
    options.threads = 257;
    expect_failure(&options, HSTU_EINVAL, "threads");
    options.size = 1;
    expect_failure(&options, HSTU_EINVAL, "hstu_synth_options_init");
    assert_int_equal(count_entries(s->folder), 0);
    options = synth_options(s, "KuaiRand-1K", 1, 1, 100);
    options.data_root = "/dev/null/nowhere";
    expect_failure(&options, HSTU_EIO, "/dev/null/nowhere");
}

static void test_existing_files(void **state)
{
    scratch *s = *state;
    hstu_synth_options options = synth_options(s, "KuaiRand-Pure", 10, 10, 100);
    scratch_mkdir(s, "KuaiRand-Pure");
    scratch_mkdir(s, "KuaiRand-Pure/data");
    scratch_text(s, "KuaiRand-Pure/data/user_features_pure.csv", "mine\n");
    expect_failure(&options, HSTU_EIO, "user_features_pure.csv' exists");
    assert_int_equal(count_entries(scratch_path(s, "KuaiRand-Pure/data")), 1);
    size_t n = 0;
    char *mine = read_whole(scratch_path(s, "KuaiRand-Pure/data/user_features_pure.csv"), &n);
    assert_string_equal(mine, "mine\n");
    free(mine);
    hstu_synth_report report;
    options.overwrite = 1;
    make(&options, &report);
    assert_int_equal(count_entries(scratch_path(s, "KuaiRand-Pure/data")), 3);
    assert_true(report.bytes > 1000);
}

static void test_full_disk(void **state)
{
    scratch *s = *state;
    hstu_synth_options options = synth_options(s, "KuaiRand-Pure", 100, 100, 100000);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit small = {3 << 20, before.rlim_max};
    (void)signal(SIGXFSZ, SIG_IGN);
    for (options.threads = 1; options.threads <= 3; options.threads++) {
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        expect_failure(&options, HSTU_EIO, "cannot write '");
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(count_entries(scratch_path(s, "KuaiRand-Pure/data")), 0);
    }
    /* A disk that is too small for more than 300 GB is told before anything is written. */
    struct statvfs fs;
    assert_int_equal(statvfs(s->folder, &fs), 0);
    if ((double)fs.f_bavail * (double)fs.f_frsize < 290e9) {
        options = synth_options(s, "KuaiRand-27K", 10, 10, 4294967294);
        expect_failure(&options, HSTU_EIO, "the logs need about 300.6 GB");
        assert_int_equal(count_entries(scratch_path(s, "KuaiRand-27K/data")), 0);
    }
}

static volatile int stop;

static void stop_after(void *ctx, const char *stage, uint64_t done, uint64_t total)
{
    assert_string_equal(stage, "rows");
    assert_int_equal(total, 100000);
    assert_true(done > *(uint64_t *)ctx && done <= total);
    *(uint64_t *)ctx = done;
    stop = done > 30000;
}

static void test_cancelled(void **state)
{
    scratch *s = *state;
    hstu_synth_options options = synth_options(s, "KuaiRand-Pure", 100, 100, 100000);
    for (options.threads = 1; options.threads <= 2; options.threads++) {
        uint64_t done = 0;
        stop = 0;
        options.progress = (hstu_progress){.ctx = &done, .step = stop_after, .cancel = &stop};
        expect_failure(&options, HSTU_ECANCELLED, "interrupted");
        assert_true(done > 30000 && done < 60000);
        assert_int_equal(count_entries(scratch_path(s, "KuaiRand-Pure/data")), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_threads_do_not_matter, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_shape_of_pure, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_shape_of_27k, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_default_sizes, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_preprocesses, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_wrong_options, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_existing_files, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_full_disk, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_cancelled, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
