/* Preprocessing: the golden session files byte for byte, counts, the places and names of logs, errors, interruption. */
#include "dataset/kuairand_files.h"

#include "file/safetensors.h"

#include <inttypes.h>
#include <sys/wait.h>

static void assert_same_file(const char *path, const char *expected)
{
    size_t n = 0, n_expected = 0;
    char *data = read_whole(path, &n), *wanted = read_whole(expected, &n_expected);
    if (n != n_expected || memcmp(data, wanted, n) != 0)
        fail_msg("%s differs from %s:\n%s", path, expected, data);
    free(data);
    free(wanted);
}

static hstu_status preprocess(const hstu_preprocess_options *options, hstu_preprocess_report *report)
{
    hstu_error err = {0};
    const hstu_status status = hstu_preprocess(options, report, &err);
    if (status != HSTU_OK)
        print_message("%s\n", err.msg);
    return status;
}

static void check_golden(scratch *s, const char *golden, int64_t max_sequences, int64_t max_sequence_length)
{
    char expected[512];
    hstu_preprocess_report report;
    hstu_preprocess_options options = options_for(s, "kuairand-1k");
    options.max_sequences = max_sequences;
    options.max_sequence_length = max_sequence_length;
    assert_int_equal(preprocess(&options, &report), HSTU_OK);
    (void)snprintf(expected, sizeof expected, TEST_DATA "/kuairand_tiny/%s/processed_inference_sequences.csv", golden);
    assert_same_file(report.sessions_path, expected);
    (void)snprintf(expected, sizeof expected, TEST_DATA "/kuairand_tiny/%s/metadata.json", golden);
    assert_same_file(report.metadata_path, expected);
}

static void test_golden(void **state)
{
    scratch *s = *state;
    copy_tiny(s);
    check_golden(s, "processed_full", 1024, 256);
    check_golden(s, "processed_limited", 6, 4);
    check_golden(s, "processed_limited8", 8, 256);
    assert_int_equal(count_entries(scratch_path(s, "KuaiRand-1K")), 4); /* data and the three files, no temporary one */
}

static void test_golden_gzip(void **state)
{
    scratch *s = *state;
    copy_tiny(s);
    static const char *const name[] = {
        "KuaiRand-1K/data/log_standard_4_08_to_4_21_1k.csv", "KuaiRand-1K/data/log_standard_4_22_to_5_08_1k.csv"};
    for (size_t i = 0; i < 2; i++) {
        char packed[128];
        size_t n = 0;
        char *data = read_whole(scratch_path(s, name[i]), &n);
        assert_int_equal(unlink(s->path), 0);
        (void)snprintf(packed, sizeof packed, "%s.gz", name[i]);
        scratch_gzip(s, packed, "wb", data, n);
        free(data);
    }
    check_golden(s, "processed_full", 1024, 256);
}

static void test_report(void **state)
{
    scratch *s = *state;
    copy_tiny(s);
    hstu_preprocess_report report;
    hstu_preprocess_options options = options_for(s, "KuaiRand-1K");
    assert_int_equal(preprocess(&options, &report), HSTU_OK);
    assert_int_equal(report.n_rows, 32);
    assert_int_equal(report.n_users, 5);
    assert_int_equal(report.n_items, 32);
    assert_int_equal(report.n_duplicates, 0);
    assert_int_equal(report.n_unsorted, 1);      /* user 7: 12 before 11 */
    assert_int_equal(report.n_users_one_log, 3); /* 5, 9, 12; 3 and 7 stand in both */
    assert_int_equal(report.n_sessions, 9);
    assert_int_equal(report.vocab_size, 202);
    assert_int_equal(report.n_features, 0);
    assert_non_null(strstr(report.sequences_path, "/KuaiRand-1K/sequences.safetensors"));
}

/* Users 1 and 2, unsorted and with duplicates: within one log, across logs with other columns, and in other quotes. */
static void write_awkward(scratch *s)
{
    write_pure(s,
        LOG_HEADER LOG_ROW(2, 20, 100, 1) LOG_ROW(1, 10, 50, 1) LOG_ROW(1, 11, 40, 1) LOG_ROW(1, 10, 50, 1)
            LOG_ROW(1, 10, 50, 2) LOG_ROW(1, 12, 60, 1),
        "tab,video_id,user_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
        "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand\r\n"
        "1,10,1,20220408,1400,50000,1,0,0,0,0,0,0,1500,9000,0,0,0,0\r\n"
        "\"1\",\"11\",1,20220408,1400,40000,1,0,0,0,0,0,0,1500,9000,0,0,0,0\r\n"
        "1,12,1,20220408,1400,60000,2,0,0,0,0,0,0,1500,9000,0,0,0,0");
}

static const hs_tensor *find(const hs_statedict *dict, const char *name, int64_t n)
{
    const hs_entry *entry = hs_statedict_find(dict, "", name);
    assert_non_null(entry);
    assert_int_equal(entry->tensor.rank, 1);
    assert_true(entry->tensor.shape[0] == n);
    return &entry->tensor;
}

static void assert_column(const hs_statedict *dict, const char *name, const int64_t *expected, int64_t n)
{
    int64_t value[32];
    assert_true(n <= 32);
    assert_int_equal(hs_tensor_to_i64(find(dict, name, n), value, name, NULL), HSTU_OK);
    for (int64_t i = 0; i < n; i++) {
        if (value[i] != expected[i])
            fail_msg("%s[%d] is %" PRId64 ", expected %" PRId64, name, (int)i, value[i], expected[i]);
    }
}

static void test_binary(void **state)
{
    scratch *s = *state;
    write_awkward(s);
    scratch_text(s, "KuaiRand-Pure/user_features_pure.csv",
        FEATURE_HEADER "\n9,high,\"(0,10]\",0,a,1\n1,full,\"(10,50]\",0,b,2\n");
    hstu_preprocess_report report;
    hstu_preprocess_options options = options_for(s, "KuaiRand-PURE");
    options.max_sequences = 1; /* cuts sessions, never the binary */
    options.max_sequence_length = 1;
    assert_int_equal(preprocess(&options, &report), HSTU_OK);
    assert_int_equal(report.n_rows, 9);
    assert_int_equal(report.n_items, 4);
    assert_int_equal(report.n_duplicates, 3);
    assert_int_equal(report.n_unsorted, 3);
    assert_int_equal(report.n_users_one_log, 1);
    assert_int_equal(report.n_features, 5);
    hs_statedict dict = {0};
    hstu_error err;
    assert_int_equal(hs_safetensors_open(&dict, report.sequences_path, &err), HSTU_OK);
    assert_column(&dict, "user_id", (const int64_t[]){1, 2}, 2);
    assert_column(&dict, "offset", (const int64_t[]){0, 8, 9}, 3);
    assert_column(&dict, "item", (const int64_t[]){11, 11, 10, 10, 10, 10, 12, 12, 20}, 9);
    assert_column(
        &dict, "time_ms", (const int64_t[]){40000, 40000, 50000, 50000, 50000, 50000, 60000, 60000, 100000}, 9);
    /* Bit 0: duplicate; above it the log. The row with tab 2 and the one with is_click 2 equal no other. */
    assert_column(&dict, "flags", (const int64_t[]){0, 3, 0, 1, 0, 3, 0, 2, 0}, 9);
    assert_column(&dict, "action", (const int64_t[]){1, 1, 1, 1, 1, 1, 1, 1, 1}, 9);
    assert_column(&dict, "duration_ms", (const int64_t[]){9000, 9000, 9000, 9000, 9000, 9000, 9000, 9000, 9000}, 9);
    assert_column(&dict, "feature.user_active_degree", (const int64_t[]){2, 0}, 2);
    assert_column(&dict, "feature.fans_user_num_range", (const int64_t[]){1, 0}, 2);
    assert_string_equal(hs_statedict_metadata(&dict, "dataset_name"), "KuaiRand-Pure");
    assert_non_null(strstr(hs_statedict_metadata(&dict, "warnings"), "lacks 1 of 2 users"));
    assert_non_null(strstr(hs_statedict_metadata(&dict, "counts"), "\"duplicate_rows\":3"));
    assert_non_null(strstr(hs_statedict_metadata(&dict, "counts"), "\"ranking_users\":1"));
    assert_string_equal(hs_statedict_metadata(&dict, "n_logs"), "2");
    assert_non_null(strstr(hs_statedict_metadata(&dict, "inputs"), "log_standard_4_22_to_5_08_pure.csv\",\"bytes\":"));
    assert_non_null(strstr(hs_statedict_metadata(&dict, "options"), "\"max_sequences\":1,"));
    assert_non_null(strstr(hs_statedict_metadata(&dict, "feature_values"), "[\"(0,10]\",\"(10,50]\"]"));
    hs_statedict_close(&dict);
}

typedef struct heard {
    int n_warnings;
    char last[512];
    int n_steps, cancel_at;
    volatile int cancel;
} heard;

static void on_warning(void *ctx, const char *sentence)
{
    heard *h = ctx;
    h->n_warnings++;
    (void)snprintf(h->last, sizeof h->last, "%s", sentence);
}

static void on_step(void *ctx, const char *stage, uint64_t done, uint64_t total)
{
    heard *h = ctx;
    assert_non_null(stage);
    assert_true(done <= total);
    h->cancel = h->cancel || ++h->n_steps == h->cancel_at;
}

enum { DIED = 42 };

typedef struct dying {
    int n_steps, die_at;
} dying;

static void on_last_step(void *ctx, const char *stage, uint64_t done, uint64_t total)
{
    dying *d = ctx;
    (void)stage;
    (void)done;
    (void)total;
    if (++d->n_steps == d->die_at)
        _exit(DIED);
}

static void test_missing_logs(void **state)
{
    scratch *s = *state;
    hstu_error err;
    heard h = {0};
    hstu_preprocess_report report;
    hstu_preprocess_options options = options_for(s, "KuaiRand-Pure");
    options.progress = (hstu_progress){.ctx = &h, .warn = on_warning};
    assert_int_equal(hstu_preprocess(&options, &report, &err), HSTU_ENOENT);
    assert_non_null(strstr(err.msg, "/KuaiRand-Pure/data/log_standard_4_08_to_4_21_pure.csv' does not exist"));
    scratch_mkdir(s, "KuaiRand-Pure");
    scratch_text(
        s, "KuaiRand-Pure/log_standard_4_25_to_5_08_pure.csv", LOG_HEADER LOG_ROW(1, 2, 3, 1) LOG_ROW(1, 3, 4, 1));
    assert_int_equal(hstu_preprocess(&options, &report, &err), HSTU_ENOENT);
    assert_non_null(strstr(err.msg, "/KuaiRand-Pure/log_standard_4_08_to_4_21_pure.csv' does not exist"));
    assert_non_null(strstr(err.msg, "allow_missing_logs"));
    assert_int_equal(h.n_warnings, 0);
    options.allow_missing_logs = 1;
    assert_int_equal(hstu_preprocess(&options, &report, &err), HSTU_OK);
    assert_int_equal(h.n_warnings, 4); /* two missing, one that is used, no user features */
    hs_statedict dict = {0};
    assert_int_equal(hs_safetensors_open(&dict, report.sequences_path, &err), HSTU_OK);
    const char *kept = hs_statedict_metadata(&dict, "warnings");
    assert_non_null(strstr(kept, "log_standard_4_08_to_4_21_pure.csv"));
    assert_non_null(strstr(kept, "log_standard_4_22_to_5_08_pure.csv"));
    assert_non_null(strstr(kept, "log_standard_4_25_to_5_08_pure.csv"));
    hs_statedict_close(&dict);
}

/* The published logs come first whatever their names sort like; logs of other sets and other files are left alone. */
static void test_log_order(void **state)
{
    scratch *s = *state;
    heard h = {0};
    hstu_preprocess_report report;
    scratch_mkdir(s, "kuairand-27k"); /* found whatever the case */
    static const char *const name[] = {"log_standard_4_22_to_5_08_27k_part2.csv",
        "log_standard_4_08_to_4_21_27k_part1.csv", "log_standard_4_22_to_5_08_27k_part1.csv",
        "log_standard_4_08_to_4_21_27k_part2.csv", "log_standard_1_27k_part3.csv", "log_standard_4_08_to_4_21_1k.csv",
        "log_random_27k.csv", "log_standard_27k.csv.txt"};
    static const char *const row[] = {LOG_ROW(1, 3, 9, 0), LOG_ROW(1, 0, 9, 0), LOG_ROW(1, 2, 9, 0),
        LOG_ROW(1, 1, 9, 0), LOG_ROW(1, 4, 9, 0), "not read", "not read", "not read"};
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        char path[128], text[1024];
        (void)snprintf(path, sizeof path, "kuairand-27k/%s", name[i]);
        (void)snprintf(text, sizeof text, "%s%s", LOG_HEADER, row[i]);
        scratch_text(s, path, text);
    }
    hstu_preprocess_options options = options_for(s, "KuaiRand-27K");
    options.progress = (hstu_progress){.ctx = &h, .warn = on_warning};
    assert_int_equal(preprocess(&options, &report), HSTU_OK);
    assert_int_equal(h.n_warnings, 2); /* the unknown log, no user features */
    hs_statedict dict = {0};
    hstu_error err;
    assert_int_equal(hs_safetensors_open(&dict, report.sequences_path, &err), HSTU_OK);
    assert_column(&dict, "item", (const int64_t[]){0, 1, 2, 3, 4}, 5); /* equal times: the order of the logs */
    assert_column(&dict, "flags", (const int64_t[]){0, 2, 4, 6, 8}, 5);
    hs_statedict_close(&dict);
}

static void test_both_plain_and_gzip(void **state)
{
    scratch *s = *state;
    heard h = {0};
    hstu_preprocess_report report;
    write_pure(s, LOG_HEADER LOG_ROW(1, 2, 3, 1), LOG_HEADER LOG_ROW(1, 3, 4, 1));
    scratch_text(s, "KuaiRand-Pure/log_standard_4_08_to_4_21_pure.csv.gz", "never opened");
    scratch_text(s, "KuaiRand-Pure/user_features_pure.csv", FEATURE_HEADER "\n1,a,b,c,d,e\n");
    hstu_preprocess_options options = options_for(s, "KuaiRand-Pure");
    options.progress = (hstu_progress){.ctx = &h, .warn = on_warning};
    assert_int_equal(preprocess(&options, &report), HSTU_OK);
    assert_int_equal(report.n_rows, 2);
    assert_int_equal(h.n_warnings, 1);
    assert_non_null(strstr(h.last, "log_standard_4_08_to_4_21_pure.csv.gz is not read"));
}

typedef struct bad_log {
    const char *text;
    uint64_t line;
    const char *problem;
} bad_log;

static void test_bad_rows(void **state)
{
    scratch *s = *state;
    static const bad_log bad[] = {
        {LOG_HEADER LOG_ROW(1, 2, 3, 1) LOG_ROW(1, x, 3, 1), 3,
            "line 3, column 2 (video_id): expected an integer, found 'x'"},
        {LOG_HEADER LOG_ROW(1.0, 2, 3, 1), 2, "line 2, column 1 (user_id): expected an integer, found '1.0'"},
        {LOG_HEADER LOG_ROW(-1, 2, 3, 1), 2, "column 1 (user_id): expected an integer from 0 to"},
        {LOG_HEADER LOG_ROW(1, 9223372036854775807, 3, 1), 2, "column 2 (video_id): expected an integer from 0 to"},
        {LOG_HEADER "1,2,3,4,5,0,0,0,0,0,0,0,2147483648,1,0,0,0,0,1\n", 2,
            "column 13 (play_time_ms): expected an integer from"},
        {LOG_HEADER "1,2,3,4,5,0,0,0,0,0,,0,1,1,0,0,0,0,1\n", 2, "column 11 (is_hate): expected an integer, found ''"},
        {LOG_HEADER "1,2,3\n", 2, "expected 19 fields, found 3"},
        {"user_id,video_id\n1,2\n", 1, "the column 'time_ms' is missing"},
        {"", 1, "is empty"},
        {LOG_HEADER, 0, "hold no rows"},
    };
    write_pure(s, LOG_HEADER, LOG_HEADER);
    const hstu_preprocess_options options = options_for(s, "KuaiRand-Pure");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        hstu_preprocess_report report;
        hstu_error err = {0};
        scratch_text(s, "KuaiRand-Pure/log_standard_4_22_to_5_08_pure.csv", bad[i].text);
        assert_int_equal(hstu_preprocess(&options, &report, &err), HSTU_EFORMAT);
        if (!strstr(err.msg, bad[i].problem) || err.pos != bad[i].line)
            fail_msg("case %d: line %d: %s", (int)i, (int)err.pos, err.msg);
        assert_int_equal(count_entries(scratch_path(s, "KuaiRand-Pure")), 2); /* nothing was written */
    }
}

static void test_bad_features(void **state)
{
    scratch *s = *state;
    hstu_preprocess_report report;
    hstu_error err;
    write_pure(s, LOG_HEADER LOG_ROW(1, 2, 3, 1), LOG_HEADER);
    const hstu_preprocess_options options = options_for(s, "KuaiRand-Pure");
    scratch_text(s, "KuaiRand-Pure/user_features_pure.csv", "user_id,user_active_degree\n1,a\n");
    assert_int_equal(hstu_preprocess(&options, &report, &err), HSTU_EFORMAT);
    assert_non_null(strstr(err.msg, "the column 'follow_user_num_range' is missing"));
    scratch_text(s, "KuaiRand-Pure/user_features_pure.csv", FEATURE_HEADER "\n1,a,b,c,d,e\n1,a,b,c,d,e\n");
    assert_int_equal(hstu_preprocess(&options, &report, &err), HSTU_EFORMAT);
    assert_int_equal(err.pos, 3);
    assert_non_null(strstr(err.msg, "the user 1 stands there a second time"));
}

static void test_bad_options(void **state)
{
    scratch *s = *state;
    copy_tiny(s);
    hstu_preprocess_report report;
    hstu_error err;
    hstu_preprocess_options options = options_for(s, "MovieLens");
    assert_int_equal(hstu_preprocess(&options, &report, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "MovieLens"));
    options = options_for(s, "KuaiRand-1K");
    options.time_interval_s = 0;
    assert_int_equal(hstu_preprocess(&options, &report, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "time_interval_s"));
    options = options_for(s, "KuaiRand-1K");
    options.max_sequence_length = INT64_MAX;
    assert_int_equal(hstu_preprocess(&options, &report, &err), HSTU_EINVAL);
    options = options_for(s, "KuaiRand-1K");
    options.size--;
    assert_int_equal(hstu_preprocess(&options, &report, &err), HSTU_EINVAL);
    assert_int_equal(count_entries(scratch_path(s, "KuaiRand-1K")), 1);
}

/* Interrupted at any point, nothing appears, and what an earlier run wrote stays as it was. */
static void test_cancel(void **state)
{
    scratch *s = *state;
    copy_tiny(s);
    int interrupted = 0;
    for (int at = 1;; at++) {
        heard h = {.cancel_at = at};
        hstu_preprocess_report report;
        hstu_error err;
        hstu_preprocess_options options = options_for(s, "KuaiRand-1K");
        options.progress = (hstu_progress){.ctx = &h, .step = on_step, .cancel = &h.cancel};
        const hstu_status status = hstu_preprocess(&options, &report, &err);
        if (status == HSTU_OK)
            break;
        assert_int_equal(status, HSTU_ECANCELLED);
        assert_int_equal(count_entries(scratch_path(s, "KuaiRand-1K")), 1);
        interrupted++;
    }
    assert_true(interrupted >= 8);
    heard h = {.cancel_at = 3};
    hstu_preprocess_options options = options_for(s, "KuaiRand-1K");
    options.max_sequences = 1;
    options.progress = (hstu_progress){.ctx = &h, .step = on_step, .cancel = &h.cancel};
    assert_int_equal(hstu_preprocess(&options, NULL, NULL), HSTU_ECANCELLED);
    assert_same_file(
        scratch_path(s, "KuaiRand-1K/metadata.json"), TEST_DATA "/kuairand_tiny/processed_full/metadata.json");
    assert_int_equal(count_entries(scratch_path(s, "KuaiRand-1K")), 4);
}

/* A process that dies at any point leaves no file under a final name. */
static void test_killed(void **state)
{
    scratch *s = *state;
    copy_tiny(s);
    copy_tiny_features(s);
    bool finished = false;
    for (int at = 1; !finished; at++) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            dying d = {.die_at = at};
            hstu_preprocess_options options = options_for(s, "KuaiRand-1K");
            options.threads = 1; /* a thread that is at work when another one exits is a leak to ThreadSanitizer */
            options.progress = (hstu_progress){.ctx = &d, .step = on_last_step};
            _exit(hstu_preprocess(&options, NULL, NULL) == HSTU_OK ? 0 : 1);
        }
        int result = 0;
        assert_true(waitpid(child, &result, 0) == child && WIFEXITED(result));
        finished = WEXITSTATUS(result) == 0;
        assert_true(finished || WEXITSTATUS(result) == DIED);
        assert_int_equal(scratch_exists(s, "KuaiRand-1K/sequences.safetensors"), finished);
        assert_int_equal(scratch_exists(s, "KuaiRand-1K/processed_inference_sequences.csv"), finished);
        assert_int_equal(scratch_exists(s, "KuaiRand-1K/processed_seqs.csv"), finished);
        assert_int_equal(scratch_exists(s, "KuaiRand-1K/metadata.json"), finished);
        assert_true(!finished || at >= 8);
    }
}

/* What a killed run left goes; what a running process or someone else has there stays. */
static void test_left_over(void **state)
{
    scratch *s = *state;
    char running[64];
    copy_tiny(s);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    char dead[4][96];
    static const char *const names[] = {
        "sequences.safetensors", "processed_inference_sequences.csv", "processed_seqs.csv", "metadata.json"};
    for (size_t i = 0; i < 4; i++) {
        (void)snprintf(dead[i], sizeof dead[i], "KuaiRand-1K/%s.%ld.0.tmp", names[i], (long)child);
        scratch_text(s, dead[i], "x");
    }
    (void)snprintf(running, sizeof running, "KuaiRand-1K/metadata.json.%ld.7.tmp", (long)getpid());
    scratch_text(s, running, "x");
    static const char *const others[] = {"KuaiRand-1K/metadata.json.tmp", "KuaiRand-1K/metadata.json.0.0.tmp",
        "KuaiRand-1K/metadata.json.12.tmp", "KuaiRand-1K/metadata.json.-5.0.tmp", "KuaiRand-1K/metadata.json.5.0.tmpx"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        scratch_text(s, others[i], "x");
    const hstu_preprocess_options options = options_for(s, "KuaiRand-1K");
    assert_int_equal(preprocess(&options, NULL), HSTU_OK);
    for (size_t i = 0; i < 4; i++)
        assert_false(scratch_exists(s, dead[i]));
    assert_true(scratch_exists(s, running));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_true(scratch_exists(s, others[i]));
}

/* A folder that may not be read is told as such, not as absent; one that may not be written is told before any reading. */
static void test_permissions(void **state)
{
    scratch *s = *state;
    copy_tiny(s);
    assert_int_equal(chmod(s->folder, 0755), 0);
    static const struct {
        const char *folder;
        mode_t mode;
        const char *sentence;
    } cases[] = {{"KuaiRand-1K/data", 0, "cannot read the folder '"}, {"KuaiRand-1K", 0555, "cannot write into '"}};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(chmod(scratch_path(s, "KuaiRand-1K"), 0755), 0);
        assert_int_equal(chmod(scratch_path(s, cases[i].folder), cases[i].mode), 0);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            hstu_error err = {0};
            const hstu_preprocess_options options = options_for(s, "KuaiRand-1K");
            if (geteuid() == 0 && seteuid(65534) != 0) /* nothing is forbidden to root */
                _exit(2);
            _exit(hstu_preprocess(&options, NULL, &err) == HSTU_EIO && strstr(err.msg, cases[i].sentence) ? 0 : 1);
        }
        int result = 0;
        assert_int_equal(waitpid(child, &result, 0), child);
        assert_true(WIFEXITED(result) && WEXITSTATUS(result) == 0);
        assert_int_equal(chmod(scratch_path(s, cases[i].folder), 0755), 0);
    }
}

/* A folder stands where a file should: nothing else appears, and no temporary file stays. */
static void test_output_failure(void **state)
{
    scratch *s = *state;
    hstu_error err;
    copy_tiny(s);
    scratch_mkdir(s, "KuaiRand-1K/metadata.json");
    const hstu_preprocess_options options = options_for(s, "KuaiRand-1K");
    assert_int_equal(hstu_preprocess(&options, NULL, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "metadata.json"));
    assert_int_equal(count_entries(scratch_path(s, "KuaiRand-1K")), 2);
}

/* Links among the outputs stay, and what they lead to is what this run wrote. */
static void test_linked_outputs(void **state)
{
    scratch *s = *state;
    static const char *const names[] = {
        "sequences.safetensors", "processed_inference_sequences.csv", "processed_seqs.csv", "metadata.json"};
    char target[600], link_path[600];
    struct stat st;
    copy_tiny(s);
    copy_tiny_features(s);
    scratch_mkdir(s, "elsewhere");
    for (size_t i = 0; i < 4; i++) {
        (void)snprintf(target, sizeof target, "elsewhere/%s", names[i]);
        scratch_text(s, target, "an older file");
        (void)snprintf(target, sizeof target, "%s/elsewhere/%s", s->folder, names[i]);
        (void)snprintf(link_path, sizeof link_path, "%s/KuaiRand-1K/%s", s->folder, names[i]);
        assert_int_equal(symlink(target, link_path), 0);
    }
    const hstu_preprocess_options options = options_for(s, "KuaiRand-1K");
    assert_int_equal(preprocess(&options, NULL), HSTU_OK);
    for (size_t i = 0; i < 4; i++) {
        (void)snprintf(link_path, sizeof link_path, "KuaiRand-1K/%s", names[i]);
        assert_int_equal(lstat(scratch_path(s, link_path), &st), 0);
        assert_true(S_ISLNK(st.st_mode));
        assert_int_equal(stat(s->path, &st), 0);
        assert_true(st.st_size > 100);
    }
    assert_int_equal(count_entries(scratch_path(s, "elsewhere")), 4);
    assert_same_file(scratch_path(s, "elsewhere/processed_seqs.csv"),
        TEST_DATA "/kuairand_tiny/processed_ranking/processed_seqs.csv");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_golden, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_golden_gzip, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_report, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_binary, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_missing_logs, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_log_order, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_both_plain_and_gzip, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_bad_rows, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_bad_features, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_bad_options, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_cancel, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_killed, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_left_over, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_permissions, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_output_failure, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_linked_outputs, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
