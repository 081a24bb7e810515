/* Preprocessing on many threads and in little memory: the same bytes whatever these are, the same errors, and whole files or
 * none where the disk fills up or the process dies. */
#include "dataset/event_rows.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

enum { N_ROWS = 40000, N_USERS = 500, SMALL_LIMIT = 5 << 18, N_OUTPUTS = 4 };

static const char *const logs[] = {
    "KuaiRand-1K/data/log_standard_4_08_to_4_21_1k.csv", "KuaiRand-1K/data/log_standard_4_22_to_5_08_1k.csv"};
static const char *const outputs[N_OUTPUTS] = {"KuaiRand-1K/sequences.safetensors",
    "KuaiRand-1K/processed_inference_sequences.csv", "KuaiRand-1K/processed_seqs.csv", "KuaiRand-1K/metadata.json"};

static void make_folder(scratch *s)
{
    scratch_mkdir(s, "KuaiRand-1K");
    scratch_mkdir(s, "KuaiRand-1K/data");
}

static void write_features(scratch *s)
{
    FILE *file = fopen(scratch_path(s, "KuaiRand-1K/data/user_features_1k.csv"), "wb");
    assert_non_null(file);
    (void)fprintf(file, "%s,note\n", FEATURE_HEADER);
    for (int user = N_USERS + 20; user > 0; user -= 1 + (user % 7 == 0)) /* some users are absent */
        (void)fprintf(
            file, "%d,a%d,\"(0,%d]\",c,d%d,e,\"a \"\"text\"\",\nand more\"\n", user, user % 9, user % 8, user % 7);
    assert_int_equal(fclose(file), 0);
}

/* Two logs and features; shuffled: users do not stand together. */
static void write_input(scratch *s, bool shuffled)
{
    hs_event *event = make_events(N_ROWS, N_USERS, 3000, shuffled, 11);
    make_folder(s);
    write_log(s, logs[0], event, 0, N_ROWS / 2, NULL, "\n");
    write_log(s, logs[1], event, N_ROWS / 2, N_ROWS, NULL, "\n");
    write_features(s);
    free(event);
}

static hstu_preprocess_options scale_options(const scratch *s, int threads, uint64_t limit)
{
    hstu_preprocess_options options = options_for(s, "KuaiRand-1K");
    options.threads = threads;
    options.memory_limit = limit;
    return options;
}

static void must_preprocess(const hstu_preprocess_options *options, hstu_preprocess_report *report)
{
    hstu_error err = {0};
    if (hstu_preprocess(options, report, &err) != HSTU_OK)
        fail_msg("%d threads, %llu bytes: %s", options->threads, (unsigned long long)options->memory_limit, err.msg);
}

typedef struct contents {
    char *data[N_OUTPUTS];
    size_t n[N_OUTPUTS];
} contents;

static contents read_outputs(scratch *s)
{
    contents c;
    for (size_t i = 0; i < N_OUTPUTS; i++)
        c.data[i] = read_whole(scratch_path(s, outputs[i]), &c.n[i]);
    return c;
}

static void free_contents(contents *c)
{
    for (size_t i = 0; i < N_OUTPUTS; i++)
        free(c->data[i]);
}

static void assert_same_outputs(scratch *s, const contents *expected)
{
    contents c = read_outputs(s);
    for (size_t i = 0; i < N_OUTPUTS; i++) {
        if (c.n[i] != expected->n[i] || memcmp(c.data[i], expected->data[i], c.n[i]) != 0)
            fail_msg("%s differs", outputs[i]);
    }
    free_contents(&c);
}

static void check_equality(scratch *s, bool shuffled)
{
    static const uint64_t limits[] = {SMALL_LIMIT, 3 << 20, 64 << 20};
    static const int threads[] = {1, 2, 5};
    hstu_preprocess_report first, report;
    write_input(s, shuffled);
    hstu_preprocess_options options = scale_options(s, 1, UINT64_C(1) << 30);
    must_preprocess(&options, &first);
    assert_true(first.n_rows == N_ROWS && first.n_users == N_USERS && first.n_unsorted > 100);
    assert_true(first.n_duplicates > 100 && first.n_ranking_users > 100 && first.n_ranking_users < N_USERS);
    contents expected = read_outputs(s);
    for (size_t l = 0; l < 3; l++) {
        for (size_t t = 0; t < 3; t++) {
            options = scale_options(s, threads[t], limits[l]);
            must_preprocess(&options, &report);
            assert_same_outputs(s, &expected);
            assert_true(report.n_duplicates == first.n_duplicates && report.n_unsorted == first.n_unsorted);
            assert_int_equal(count_entries(scratch_path(s, "KuaiRand-1K")), 1 + N_OUTPUTS);
        }
    }
    free_contents(&expected);
}

static void test_equality(void **state)
{
    check_equality(*state, false);
}

static void test_equality_shuffled(void **state)
{
    check_equality(*state, true);
}

/* ---- Ranges of text --------------------------------------------------------------------------------------------- */

static const char *no_note(size_t row)
{
    (void)row;
    return "";
}

/* Line ends, commas and quotes inside of quotes; some longer than a range. */
static const char *wild_note(size_t row)
{
    static char text[40000];
    size_t n = 0;
    if (row % 3)
        return row % 2 ? "a\nb" : "\"\"\n,,\n\"\"";
    const size_t lines = row % 1000 == 0 ? 3000 : row % 40;
    for (size_t i = 0; i < lines; i++) {
        memcpy(text + n, "1,2,3,\n\"\"\r\n", 11);
        n += 11;
    }
    text[n] = '\0';
    return text;
}

/* The columns of events, which stand at the end of the file, but for the flags. */
static void assert_same_events(const contents *x, const contents *y, size_t n_rows)
{
    const size_t events = n_rows * 26, compared = n_rows * 25;
    assert_true(x->n[0] > events && y->n[0] > events);
    assert_memory_equal(x->data[0] + x->n[0] - events, y->data[0] + y->n[0] - events, compared);
    assert_true(x->n[2] == y->n[2] && memcmp(x->data[2], y->data[2], x->n[2]) == 0);
}

/* Quoted line ends at the borders of ranges: read in small ranges, and in one. */
static void test_quotes(void **state)
{
    enum { N = 4000 };
    scratch *s = *state;
    hs_event *event = make_events(N, N_USERS, 3000, false, 23);
    hstu_preprocess_report report;
    make_folder(s);
    write_features(s);
    contents c[3];
    for (int round = 0; round < 3; round++) {
        static const char *(*const note[])(size_t) = {NULL, no_note, wild_note};
        write_log(s, logs[0], event, 0, N / 2, note[round], "\n");
        write_log(s, logs[1], event, N / 2, N, note[round], round == 2 ? "\r\n" : "\n");
        hstu_preprocess_options options = scale_options(s, 1, UINT64_C(1) << 30);
        must_preprocess(&options, &report);
        c[round] = read_outputs(s);
        for (int threads = 1; threads <= 4; threads += 3) {
            options = scale_options(s, threads, SMALL_LIMIT * 2);
            must_preprocess(&options, &report);
            assert_same_outputs(s, &c[round]);
        }
        assert_same_events(&c[0], &c[round], N);
    }
    for (int round = 0; round < 3; round++)
        free_contents(&c[round]);
    free(event);
}

static void test_gzip(void **state)
{
    scratch *s = *state;
    write_input(s, false);
    hstu_preprocess_report report;
    hstu_preprocess_options options = scale_options(s, 1, UINT64_C(1) << 30);
    must_preprocess(&options, &report);
    contents plain = read_outputs(s);
    for (size_t i = 0; i < 2; i++) {
        char packed[128];
        size_t n = 0;
        char *data = read_whole(scratch_path(s, logs[i]), &n);
        assert_int_equal(unlink(s->path), 0);
        (void)snprintf(packed, sizeof packed, "%s.gz", logs[i]);
        scratch_gzip(s, packed, "wb", data, n / 3); /* members end within rows */
        scratch_gzip(s, packed, "ab", data + n / 3, n - n / 3);
        free(data);
    }
    for (int threads = 1; threads <= 4; threads += 3) {
        options = scale_options(s, threads, SMALL_LIMIT);
        must_preprocess(&options, &report);
        contents c = read_outputs(s);
        assert_same_events(&plain, &c, N_ROWS);
        free_contents(&c);
    }
    free_contents(&plain);
}

/* ---- Errors ----------------------------------------------------------------------------------------------------- */

static void spoil(scratch *s, size_t log, size_t row, const char *with)
{
    size_t n = 0, line = 1;
    char *data = read_whole(scratch_path(s, logs[log]), &n);
    char *at = data;
    for (; line < row; line++)
        at = strchr(at, '\n') + 1;
    memcpy(at, with, strlen(with));
    scratch_write(s, logs[log], data, n);
    free(data);
}

/* The first bad row of all is told, with its line, whatever the threads were at. */
static void test_errors(void **state)
{
    scratch *s = *state;
    static const struct {
        size_t log, row;
        const char *with, *problem;
    } steps[] = {
        /* each earlier in the logs than the one before */
        {1, 19000, "x", "8_1k.csv', line 19000, column 1 (user_id): expected an integer, found 'x"},
        {1, 18990, "1,,", "8_1k.csv', line 18990"},
        {1, 3, "\"1\"x", "8_1k.csv', line 3: text follows a field's closing quote"},
        {0, 15000, "\n", "1_1k.csv', line 15000: the line is empty"},
        {0, 9000, "1\"", "1_1k.csv', line 9000: a quote stands inside a field"},
        {0, 8999, "-", "1_1k.csv', line 8999, column 1 (user_id): expected an integer"},
        {0, 2, "1\r", "1_1k.csv', line 2: a carriage return stands without a line feed"},
    };
    write_input(s, false);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        char sentence[sizeof((hstu_error *)0)->msg] = "";
        spoil(s, steps[i].log, steps[i].row, steps[i].with);
        for (int threads = 1; threads <= 5; threads += 2) {
            hstu_error err = {0};
            const hstu_preprocess_options options = scale_options(s, threads, threads == 3 ? SMALL_LIMIT : 8 << 20);
            assert_int_equal(hstu_preprocess(&options, NULL, &err), HSTU_EFORMAT);
            if (!strstr(err.msg, steps[i].problem) || err.pos != steps[i].row ||
                (threads > 1 && strcmp(err.msg, sentence) != 0))
                fail_msg("case %d, %d threads, position %d: %s", (int)i, threads, (int)err.pos, err.msg);
            memcpy(sentence, err.msg, sizeof sentence);
        }
        assert_int_equal(count_entries(scratch_path(s, "KuaiRand-1K")), 1);
    }
}

/* Rows longer than a range, and one longer than any may be. */
static void test_long_rows(void **state)
{
    scratch *s = *state;
    static const size_t lengths[] = {20000, 900000, (1 << 20) + 10};
    make_folder(s);
    scratch_text(s, logs[1], LOG_HEADER LOG_ROW(1, 2, 3, 1));
    for (int quoted = 0; quoted < 2; quoted++) {
        for (size_t i = 0; i < 3; i++) {
            hstu_error err = {0};
            hstu_preprocess_report report;
            char *text = malloc(lengths[i] + 4096);
            int n = snprintf(text, 4096, "%s%s%s1,5,", LOG_HEADER, LOG_ROW(1, 3, 4, 1), LOG_ROW(1, 4, 5, 1));
            text[n] = quoted ? '"' : '9';
            memset(text + n + 1, '9', lengths[i]);
            n += 1 + (int)lengths[i];
            (void)snprintf(
                text + n, 1024, "%s,1400,6000,1,0,0,0,0,0,0,1,1,0,0,0,0,1\n" LOG_ROW(1, 6, 7, 1), quoted ? "\"" : "");
            scratch_text(s, logs[0], text);
            free(text);
            const hstu_preprocess_options options = scale_options(s, 2, SMALL_LIMIT * 4);
            const hstu_status status = hstu_preprocess(&options, &report, &err);
            assert_int_equal(status, i < 2 ? HSTU_OK : HSTU_EFORMAT);
            assert_true(i == 2 || report.n_rows == 5);
            assert_true(i < 2 || strstr(err.msg, "line 4: the row is longer than 1048576 bytes"));
        }
    }
}

static void test_options(void **state)
{
    scratch *s = *state;
    hstu_error err = {0};
    copy_tiny(s);
    hstu_preprocess_options options = options_for(s, "KuaiRand-1K");
    options.memory_limit = 1000;
    assert_int_equal(hstu_preprocess(&options, NULL, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "memory_limit must be at least 1048576 bytes, not 1000"));
    options = options_for(s, "KuaiRand-1K");
    options.threads = -1;
    assert_int_equal(hstu_preprocess(&options, NULL, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "threads must not be negative"));
}

/* Without text files and hashes: the sequences alone, and what an earlier run left of the others goes. */
static void test_no_text(void **state)
{
    scratch *s = *state;
    write_input(s, false);
    hstu_preprocess_report report;
    hstu_preprocess_options options = scale_options(s, 2, 64 << 20);
    must_preprocess(&options, &report);
    contents whole = read_outputs(s);
    options.no_text = 1;
    must_preprocess(&options, &report);
    assert_true(!report.sessions_path[0] && !report.metadata_path[0] && !report.ranking_path[0]);
    assert_int_equal(count_entries(scratch_path(s, "KuaiRand-1K")), 2);
    size_t n = 0;
    char *data = read_whole(scratch_path(s, outputs[0]), &n);
    assert_true(n == whole.n[0] && memcmp(data, whole.data[0], n) == 0);
    free(data);
    options.no_hash = 1;
    must_preprocess(&options, &report);
    data = read_whole(scratch_path(s, outputs[0]), &n);
    assert_non_null(strstr(data + 8, "\\\"xxh3_64\\\":null"));
    assert_null(strstr(data + 8, "\\\"xxh3_64\\\":\\\""));
    free(data);
    free_contents(&whole);
}

/* ---- Full disks and dead processes ------------------------------------------------------------------------------ */

/* As if the disk were full after so many bytes of any file. */
static int run_with_room(const scratch *s, uint64_t limit, rlim_t bytes, const char *problem)
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit room = {bytes, bytes};
        hstu_error err = {0};
        const hstu_preprocess_options options = scale_options(s, 3, limit);
        (void)signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &room) != 0)
            _exit(3);
        const hstu_status status = hstu_preprocess(&options, NULL, &err);
        if (status == HSTU_OK)
            _exit(0);
        const bool told = status == HSTU_EIO && strstr(err.msg, problem) && strstr(err.msg, strerror(EFBIG));
        if (!told)
            (void)fprintf(stderr, "%s\n", err.msg);
        _exit(told ? 1 : 2);
    }
    int result = 0;
    assert_true(waitpid(child, &result, 0) == child && WIFEXITED(result));
    return WEXITSTATUS(result);
}

static void test_full_disk(void **state)
{
    scratch *s = *state;
    write_input(s, true);
    assert_int_equal(run_with_room(s, SMALL_LIMIT, 1000, "cannot write a temporary file in '"), 1);
    assert_int_equal(count_entries(scratch_path(s, "KuaiRand-1K")), 1);
    assert_int_equal(run_with_room(s, 64 << 20, N_ROWS * 20, ""), 1);
    assert_int_equal(count_entries(scratch_path(s, "KuaiRand-1K")), 1);
    assert_int_equal(run_with_room(s, 64 << 20, N_ROWS * 28, "processed_seqs.csv"), 1);
    assert_int_equal(count_entries(scratch_path(s, "KuaiRand-1K")), 1);
    assert_int_equal(run_with_room(s, SMALL_LIMIT, 1 << 30, ""), 0);
    assert_int_equal(count_entries(scratch_path(s, "KuaiRand-1K")), 1 + N_OUTPUTS);
}

/* Killed at any time: all files or none, nothing taken for whole that is not, and the next run clears away and completes. */
static void test_killed(void **state)
{
    scratch *s = *state;
    write_input(s, false);
    hstu_preprocess_report report;
    hstu_preprocess_options options = scale_options(s, 2, UINT64_C(1) << 30);
    must_preprocess(&options, &report);
    contents expected = read_outputs(s);
    int n_killed = 0;
    for (long delay_ns = 0; delay_ns < 60000000; delay_ns += 3000000) {
        const struct timespec delay = {.tv_nsec = delay_ns};
        for (size_t i = 0; i < N_OUTPUTS; i++)
            (void)unlink(scratch_path(s, outputs[i]));
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            options = scale_options(s, 3, SMALL_LIMIT);
            _exit(hstu_preprocess(&options, NULL, NULL) == HSTU_OK ? 0 : 1);
        }
        (void)nanosleep(&delay, NULL);
        (void)kill(child, SIGKILL);
        int result = 0;
        assert_int_equal(waitpid(child, &result, 0), child);
        n_killed += WIFSIGNALED(result);
        for (size_t i = 0; i < N_OUTPUTS; i++) {
            if (!scratch_exists(s, outputs[i]))
                continue;
            size_t n = 0;
            char *data = read_whole(s->path, &n);
            assert_true(n == expected.n[i] && memcmp(data, expected.data[i], n) == 0);
            free(data);
        }
        assert_true(!scratch_exists(s, outputs[N_OUTPUTS - 1]) || scratch_exists(s, outputs[0]));
    }
    assert_true(n_killed > 0);
    options = scale_options(s, 2, SMALL_LIMIT);
    must_preprocess(&options, &report);
    assert_same_outputs(s, &expected);
    assert_int_equal(count_entries(scratch_path(s, "KuaiRand-1K")), 1 + N_OUTPUTS);
    free_contents(&expected);
}

typedef struct stopping {
    int n_steps, stop_at;
    volatile int cancel;
} stopping;

static void on_step(void *ctx, const char *stage, uint64_t done, uint64_t total)
{
    stopping *x = ctx;
    assert_non_null(stage);
    assert_true(done <= total);
    x->cancel = ++x->n_steps >= x->stop_at;
}

/* Cancelled at any step, of spilling too. */
static void test_cancel(void **state)
{
    scratch *s = *state;
    write_input(s, false);
    hstu_status status = HSTU_ECANCELLED;
    int at = 1;
    for (; status == HSTU_ECANCELLED; at += 1 + at / 3) {
        stopping x = {.stop_at = at};
        hstu_error err = {0};
        hstu_preprocess_options options = scale_options(s, 3, SMALL_LIMIT);
        options.progress = (hstu_progress){.ctx = &x, .step = on_step, .cancel = &x.cancel};
        status = hstu_preprocess(&options, NULL, &err);
        assert_int_equal(count_entries(scratch_path(s, "KuaiRand-1K")), status == HSTU_OK ? 1 + N_OUTPUTS : 1);
    }
    assert_int_equal(status, HSTU_OK);
    assert_true(at > 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_equality, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_equality_shuffled, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_quotes, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_gzip, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_errors, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_long_rows, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_options, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_no_text, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_full_disk, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_killed, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_cancel, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
