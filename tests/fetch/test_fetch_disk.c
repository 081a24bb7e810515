/* hstu_fetch and the disk: partial files, killed programs, full and read-only places, two calls at once, cancelling. */
#include "fetch_support.h"

#include <errno.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

static void part_name(const fetch_test *t, const char *suffix, char out[600])
{
    (void)snprintf(out, 600, "%s.part%s", t->path, suffix);
}

static void write_at(const char *path, const void *data, size_t n)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

/* A call that breaks off: 20000 bytes without the head have gone out. */
static void leave_part(fetch_test *t)
{
    const misdeed cut[] = {{.cut = true, .cut_at = 20000}};
    server_plan(&t->server, cut, 1);
    t->options.max_tries = 1;
    fetch_fails(t, HSTU_EIO, "cannot download");
    t->options.max_tries = 6;
    assert_int_equal(count_entries(t->folder.folder), 2);
}

static void a_part_without_its_description_is_worth_nothing(void **state)
{
    fetch_test *t = *state;
    char info[600];
    const char *const bad[] = {NULL, "", "hstu-part 1\n", "hstu-part 2\nurl x\n",
        "hstu-part 1\nurl x\netag \nmodified \nvalidator \nsize -\nchecksum -\nend .\nmore\n"};
    part_name(t, ".info", info);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        leave_part(t);
        if (bad[i])
            write_at(info, bad[i], strlen(bad[i]));
        else
            assert_int_equal(unlink(info), 0);
        fetch_ok(t);
        assert_int_equal(t->report.n_resumed_bytes, 0);
        (void)unlink(t->path);
    }
}

static void a_part_of_another_file_is_worth_nothing(void **state)
{
    fetch_test *t = *state;
    char part[600];
    static const char zeros[BODY_BYTES + 1];
    part_name(t, "", part);
    leave_part(t);
    char url[200];
    (void)snprintf(url, sizeof url, "%s?mirror", t->url);
    t->options.url = url;
    fetch_ok(t);
    assert_int_equal(t->report.n_resumed_bytes, 0);
    (void)unlink(t->path);
    t->options.url = t->url;
    /* Another checksum than the first call's: the publisher has replaced the file. */
    t->options.checksum = "md5:00000000000000000000000000000000";
    leave_part(t);
    t->options.checksum = t->md5;
    fetch_ok(t);
    assert_int_equal(t->report.n_resumed_bytes, 0);
    (void)unlink(t->path);
    /* Longer than the file. */
    t->options.checksum = NULL;
    leave_part(t);
    write_at(part, zeros, sizeof zeros);
    fetch_ok(t);
    assert_int_equal(t->report.n_resumed_bytes, 0);
    (void)unlink(t->path);
    leave_part(t);
    t->options.expected_bytes = 100;
    fetch_fails(t, HSTU_EFORMAT, "expected 100 bytes");
}

static void a_complete_part_is_only_verified(void **state)
{
    fetch_test *t = *state;
    char part[600];
    part_name(t, "", part);
    t->options.checksum = t->md5;
    leave_part(t);
    write_at(part, t->body, BODY_BYTES);
    server_plan(&t->server, NULL, 0);
    fetch_ok(t);
    assert_int_equal(server_requests(&t->server), 0);
    assert_int_equal(t->report.n_resumed_bytes, BODY_BYTES);
    (void)unlink(t->path);
    /* Of the right length and damaged: it is fetched anew, within the same call. */
    leave_part(t);
    static char damaged[BODY_BYTES]; /* the server may still be reading the body itself */
    memcpy(damaged, t->body, BODY_BYTES);
    damaged[100]++;
    write_at(part, damaged, BODY_BYTES);
    fetch_ok(t);
    assert_int_equal(t->report.n_resumed_bytes, 0);
    assert_non_null(strstr(t->warning, "downloading it anew"));
}

static void leftovers_beside_a_whole_file_are_removed(void **state)
{
    fetch_test *t = *state;
    char info[600];
    part_name(t, ".info", info);
    t->options.checksum = t->md5;
    leave_part(t);
    scratch_write(&t->folder, "file.bin", t->body, BODY_BYTES);
    fetch_ok(t);
    assert_true(t->report.already_there);
    write_at(info, "x", 1); /* a call that was killed between its last two steps */
    fetch_ok(t);
}

static void odd_things_in_the_place_of_a_part(void **state)
{
    fetch_test *t = *state;
    char part[600], victim[600];
    part_name(t, "", part);
    assert_int_equal(mkdir(part, 0700), 0);
    fetch_fails(t, HSTU_EIO, "cannot create");
    assert_int_equal(rmdir(part), 0);
    assert_int_equal(mkfifo(part, 0600), 0);
    fetch_fails(t, HSTU_EIO, "it is not a regular file");
    assert_int_equal(unlink(part), 0);
    (void)snprintf(victim, sizeof victim, "%s", scratch_path(&t->folder, "victim"));
    write_at(victim, "mine", 4);
    assert_int_equal(symlink(victim, part), 0);
    fetch_fails(t, HSTU_EIO, "cannot create");
    assert_int_equal(unlink(part), 0);
    size_t n = 0;
    char *text = read_whole(victim, &n);
    assert_int_equal(n, 4);
    free(text);
    assert_int_equal(unlink(victim), 0);
    assert_int_equal(server_requests(&t->server), 0);
    fetch_ok(t);
}

static void a_missing_or_read_only_folder_is_told_first(void **state)
{
    fetch_test *t = *state;
    char missing[600];
    (void)snprintf(missing, sizeof missing, "%s/absent/file.bin", t->folder.folder);
    t->options.path = missing;
    t->options.record_url = t->record_url;
    assert_int_equal(fetch(t), HSTU_ENOENT);
    assert_non_null(strstr(t->err.msg, "absent/file.bin.part': No such file or directory"));
    t->options.path = t->path;
    const bool root = geteuid() == 0;
    assert_int_equal(chmod(t->folder.folder, 0555), 0);
    if (root) /* whom no permission stops */
        assert_int_equal(seteuid(65534), 0);
    fetch_fails(t, HSTU_EIO, "file.bin.part': Permission denied");
    if (root)
        assert_int_equal(seteuid(0), 0);
    assert_int_equal(server_requests(&t->server), 0);
    assert_int_equal(chmod(t->folder.folder, 0700), 0);
    t->options.record_url = NULL;
    fetch_ok(t);
}

static void asks_for_disk_space_first(void **state)
{
    fetch_test *t = *state;
    t->options.extra_bytes = (uint64_t)1 << 60;
    fetch_fails(t, HSTU_EIO, "not enough disk space in '");
    assert_non_null(strstr(t->err.msg, "are needed to unpack, "));
    assert_int_equal(server_requests(&t->server), 0);
    t->options.expected_bytes = 20000;
    fetch_fails(t, HSTU_EIO, "': 0.02 MB are needed to download and ");
    t->options.expected_bytes = -1;
    t->options.extra_bytes = UINT64_MAX;
    fetch_fails(t, HSTU_EIO, "not enough disk space in '");
    t->options.extra_bytes = 0;
    t->options.expected_bytes = INT64_MAX / 4;
    fetch_fails(t, HSTU_EIO, "not enough disk space in '");
    assert_int_equal(server_requests(&t->server), 0);
    t->options.expected_bytes = -1;
    t->options.max_bytes = INT64_MAX;
    const misdeed vast[] = {{.length_lie = 100000000000000000}};
    server_plan(&t->server, vast, 1);
    fetch_fails(t, HSTU_EIO, "not enough disk space in '");
    assert_int_equal(count_entries(t->folder.folder), 0);
    fetch_ok(t);
}

static int full_disk_teardown(void **state)
{
    fetch_test *t = *state;
    (void)umount2(scratch_path(&t->folder, "disk"), MNT_DETACH); /* also after a failure */
    return fetch_teardown(state);
}

static void a_full_disk_is_told_and_a_second_call_completes(void **state)
{
    fetch_test *t = *state;
    const misdeed unknown[] = {{.chunked = true}};
    scratch_mkdir(&t->folder, "disk");
    if (mount("tmpfs", t->folder.path, "tmpfs", 0, "size=32k") != 0) {
        print_message("no file system can be mounted here: %s\n", strerror(errno));
        skip();
    }
    (void)snprintf(t->path, sizeof t->path, "%s", scratch_path(&t->folder, "disk/file.bin"));
    fetch_fails(t, HSTU_EIO, "not enough disk space in '");
    server_plan(&t->server, unknown, 1);
    fetch_fails(t, HSTU_EIO, "No space left on device");
    assert_int_equal(mount("tmpfs", scratch_path(&t->folder, "disk"), "tmpfs", MS_REMOUNT, "size=1m"), 0);
    fetch_ok(t);
    assert_true(t->report.n_resumed_bytes > 10000);
}

static void a_file_that_may_not_grow_is_told(void **state)
{
    fetch_test *t = *state;
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 30000;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const hstu_status status = fetch(t);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, handler);
    assert_int_equal(status, HSTU_EIO);
    assert_non_null(strstr(t->err.msg, "at byte 30000: File too large"));
    fetch_ok(t);
    assert_int_equal(t->report.n_resumed_bytes, 30000);
}

/* ---- Two at once ------------------------------------------------------------------------------------------------ */

typedef struct other_call {
    hstu_fetch_options options;
    hstu_fetch_report report;
    hstu_error err;
    hstu_status status;
    _Atomic int stop; /* set by another thread; the call's own step then cancels it */
    volatile int cancel;
} other_call;

static void step_other(void *ctx, const char *stage, uint64_t done, uint64_t total)
{
    other_call *c = ctx;
    (void)stage;
    (void)done;
    (void)total;
    if (c->stop)
        c->cancel = 1;
}

static void *run_other(void *ctx)
{
    other_call *c = ctx;
    c->status = hstu_fetch(&c->options, &c->report, &c->err);
    return NULL;
}

static void wait_for_bytes(fetch_test *t, size_t n)
{
    for (;;) {
        (void)pthread_mutex_lock(&t->server.mutex);
        const size_t sent = t->server.n_sent;
        (void)pthread_mutex_unlock(&t->server.mutex);
        if (sent >= n)
            return;
        (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

/* Until so much is in the partial file. */
static void wait_for_part(fetch_test *t, off_t n)
{
    char part[600];
    struct stat st;
    part_name(t, "", part);
    while (stat(part, &st) != 0 || st.st_size < n)
        (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void the_second_of_two_calls_fails(void **state)
{
    fetch_test *t = *state;
    const misdeed hold[] = {{.hold = true, .hold_at = 30000}};
    other_call other = {.options = t->options};
    pthread_t thread;
    other.options.progress = (hstu_progress){.ctx = &other, .step = step_other, .cancel = &other.cancel};
    server_plan(&t->server, hold, 1);
    assert_int_equal(pthread_create(&thread, NULL, run_other, &other), 0);
    wait_for_part(t, 20000);
    fetch_fails(t, HSTU_EIO, "another program is downloading '");
    other.stop = 1;
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(other.status, HSTU_ECANCELLED);
    fetch_ok(t);
    assert_true(t->report.n_resumed_bytes > 0);
}

enum { N_CALLS = 6 };

static void many_calls_at_once_end_with_one_file(void **state)
{
    fetch_test *t = *state;
    static other_call call[N_CALLS];
    pthread_t thread[N_CALLS];
    for (int round = 0; round < 5; round++) {
        int n_done = 0;
        for (size_t i = 0; i < N_CALLS; i++) {
            memset(&call[i], 0, sizeof call[i]);
            call[i].options = t->options;
            call[i].options.progress = (hstu_progress){0};
            call[i].options.checksum = t->md5;
            assert_int_equal(pthread_create(&thread[i], NULL, run_other, &call[i]), 0);
        }
        for (size_t i = 0; i < N_CALLS; i++) {
            assert_int_equal(pthread_join(thread[i], NULL), 0);
            n_done += call[i].status == HSTU_OK;
            if (call[i].status != HSTU_OK && !strstr(call[i].err.msg, "another program is downloading"))
                fail_msg("%s", call[i].err.msg);
        }
        assert_true(n_done >= 1);
        assert_whole(t, t->body, BODY_BYTES);
        (void)unlink(t->path);
    }
}

/* ---- Interrupted ------------------------------------------------------------------------------------------------ */

static void a_cancelled_call_keeps_what_it_has(void **state)
{
    fetch_test *t = *state;
    const misdeed hold[] = {{.hold = true, .hold_at = 30000}};
    server_plan(&t->server, hold, 1);
    t->cancel_at = 20000;
    fetch_fails(t, HSTU_ECANCELLED, "interrupted");
    test_options(t);
    fetch_ok(t);
    assert_true(t->report.n_resumed_bytes >= 20000);
    (void)unlink(t->path);
    t->cancel = 1; /* before it begins */
    server_plan(&t->server, NULL, 0);
    fetch_fails(t, HSTU_ECANCELLED, "interrupted");
    assert_int_equal(server_requests(&t->server), 0);
}

static void cancel_on_warn(void *ctx, const char *sentence)
{
    fetch_test *t = ctx;
    assert_non_null(strstr(sentence, "trying again"));
    t->cancel = 1;
}

static void a_wait_can_be_cancelled(void **state)
{
    fetch_test *t = *state;
    const misdeed ill[] = {{.status = 503, .header = "Retry-After: 200\r\n"}};
    server_plan(&t->server, ill, 1);
    t->options.progress.warn = cancel_on_warn;
    fetch_fails(t, HSTU_ECANCELLED, "interrupted");
    assert_int_equal(count_entries(t->folder.folder), 0);
}

/* The child downloads and is killed: after the server has sent so many bytes, so many are in the partial file, and so many
 * microseconds have passed. */
static void kill_a_call(fetch_test *t, size_t after_bytes, off_t after_part, long after_us)
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        t->options.progress = (hstu_progress){0};
        _exit(hstu_fetch(&t->options, NULL, NULL) == HSTU_OK ? 0 : 1);
    }
    if (after_bytes)
        wait_for_bytes(t, after_bytes);
    if (after_part)
        wait_for_part(t, after_part);
    (void)nanosleep(&(struct timespec){.tv_nsec = 1000 * after_us}, NULL);
    (void)kill(child, SIGKILL);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (after_bytes)
        assert_true(WIFSIGNALED(status));
}

static void a_killed_call_is_continued(void **state)
{
    fetch_test *t = *state;
    const size_t at[] = {1, 100, 300, 5000, 59000};
    t->options.checksum = t->md5;
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        const misdeed hold[] = {{.hold = true, .hold_at = at[i]}};
        server_plan(&t->server, hold, 1);
        kill_a_call(t, at[i], at[i] >= 300, 20000);
        assert_int_not_equal(access(t->path, F_OK), 0);
        fetch_ok(t);
        assert_int_equal(t->report.n_resumed_bytes > 0, at[i] >= 300);
        (void)unlink(t->path);
    }
}

static void killed_at_any_moment_nothing_partial_is_taken_for_whole(void **state)
{
    fetch_test *t = *state;
    t->options.checksum = t->md5;
    for (long us = 0; us < 12000; us += 150) {
        misdeed slow[] = {{.piece = 4000}};
        server_plan(&t->server, slow, 1);
        kill_a_call(t, 0, 0, us);
        if (access(t->path, F_OK) == 0) {
            size_t n = 0;
            char *data = read_whole(t->path, &n);
            assert_int_equal(n, BODY_BYTES);
            assert_memory_equal(data, t->body, n);
            free(data);
        }
        fetch_ok(t);
        (void)unlink(t->path);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fetch_setup, fetch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_part_without_its_description_is_worth_nothing),
        TEST(a_part_of_another_file_is_worth_nothing),
        TEST(a_complete_part_is_only_verified),
        TEST(leftovers_beside_a_whole_file_are_removed),
        TEST(odd_things_in_the_place_of_a_part),
        TEST(a_missing_or_read_only_folder_is_told_first),
        TEST(asks_for_disk_space_first),
        cmocka_unit_test_setup_teardown(
            a_full_disk_is_told_and_a_second_call_completes, fetch_setup, full_disk_teardown),
        TEST(a_file_that_may_not_grow_is_told),
        TEST(the_second_of_two_calls_fails),
        TEST(many_calls_at_once_end_with_one_file),
        TEST(a_cancelled_call_keeps_what_it_has),
        TEST(a_wait_can_be_cancelled),
        TEST(a_killed_call_is_continued),
        TEST(killed_at_any_moment_nothing_partial_is_taken_for_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
