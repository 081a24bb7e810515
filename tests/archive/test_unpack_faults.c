/* What happens around an archive that is in order: a killed process, a full disk, a folder that cannot be written. */
#include "archive_bytes.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { LARGE = 3 << 20 };

/* two.csv and one.csv, each of LARGE bytes that do not pack well. */
static char *put_large(bytes *b)
{
    char *text = malloc(LARGE + 1);
    assert_non_null(text);
    for (uint32_t i = 0, x = 1; i < LARGE; i++, x = x * 1664525u + 1013904223u)
        text[i] = (char)(1 + (x >> 24) % 255);
    text[LARGE] = '\0';
    tar_file(b, "two.csv", text);
    tar_file(b, "one.csv", text);
    tar_gz(b);
    return text;
}

static void kill_at(void *ctx, const char *stage, uint64_t done, uint64_t total)
{
    int *left = ctx;
    (void)stage;
    (void)done;
    (void)total;
    if (--*left == 0)
        (void)raise(SIGKILL);
}

/* Killed at any step: no file under its own name that is not whole, and the next run completes and sweeps. */
static void test_killed(void **state)
{
    place p;
    bytes b = {0};
    (void)state;
    place_open(&p);
    char *text = put_large(&b);
    place_write(p.archive, b.data, b.n);
    put_free(&b);
    int n_killed = 0;
    for (int at = 1;; at++) {
        int left = at, how = 0;
        hstu_unpack_options options = place_options(&p);
        options.progress = (hstu_progress){.ctx = &left, .step = kill_at};
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            _exit(hstu_unpack(&options, NULL, NULL) == HSTU_OK ? 0 : 1);
        assert_int_equal(waitpid(child, &how, 0), child);
        if (!WIFSIGNALED(how)) {
            assert_int_equal(WEXITSTATUS(how), 0);
            break;
        }
        n_killed++;
        assert_true(place_holds(&p, "one.csv", NULL) && place_holds(&p, "two.csv", NULL));
        options.progress.step = NULL;
        assert_int_equal(hstu_unpack(&options, NULL, NULL), HSTU_OK);
        assert_true(place_holds(&p, "one.csv", text) && place_holds(&p, "two.csv", text));
        assert_int_equal(place_empty(p.folder), 2); /* what the killed process left is gone */
    }
    assert_true(n_killed > 10);
    free(text);
    place_close(&p);
}

/* At the archive's end a folder appears where one.csv is about to. */
static void get_in_the_way(void *ctx, const char *stage, uint64_t done, uint64_t total)
{
    (void)stage;
    if (done == total)
        (void)mkdir(ctx, 0700);
}

/* The order of the patterns is the order in which files appear, so that who finds the last one has all of them. */
static void test_order(void **state)
{
    static const char *const pattern[] = {"one.csv", "two.csv"};
    char path[160];
    place p;
    bytes b = {0};
    hstu_error err;
    (void)state;
    place_open(&p);
    hstu_unpack_options options = place_options(&p);
    options.pattern = pattern;
    options.n_patterns = 2;
    (void)snprintf(path, sizeof path, "%s/one.csv", p.folder);
    options.progress = (hstu_progress){.ctx = path, .step = get_in_the_way};
    char *text = put_large(&b);
    assert_int_equal(place_unpack(&p, &b, &options, NULL, &err), HSTU_EIO);
    assert_non_null(strstr(err.msg, "cannot rename"));
    assert_true(place_holds(&p, "two.csv", NULL));
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(place_empty(p.folder), 0);
    options.progress.step = NULL;
    assert_int_equal(hstu_unpack(&options, NULL, NULL), HSTU_OK);
    assert_true(place_holds(&p, "one.csv", text) && place_holds(&p, "two.csv", text));
    free(text);
    place_close(&p);
}

/* In a child: a limit on file sizes stands for the disk that is full. What was there stays. */
static void test_full_disk(void **state)
{
    char path[160];
    place p;
    bytes b = {0};
    int how = 0;
    (void)state;
    place_open(&p);
    free(put_large(&b));
    place_write(p.archive, b.data, b.n);
    put_free(&b);
    assert_int_equal(mkdir(p.folder, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/two.csv", p.folder);
    place_write(path, "before", 6);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        hstu_error err = {0};
        const hstu_unpack_options options = place_options(&p);
        (void)signal(SIGXFSZ, SIG_IGN);
        (void)setrlimit(RLIMIT_FSIZE, &(struct rlimit){LARGE / 2, LARGE / 2});
        const hstu_status status = hstu_unpack(&options, NULL, &err);
        _exit(status == HSTU_EIO && strstr(err.msg, "cannot write") && strstr(err.msg, "two.csv") ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
    assert_true(place_holds(&p, "two.csv", "before"));
    assert_int_equal(place_empty(p.folder), 1);
    place_close(&p);
}

/* In a child that is nobody, since root may write everywhere. */
static void test_read_only(void **state)
{
    place p;
    bytes b = {0};
    int how = 0;
    (void)state;
    place_open(&p);
    tar_file(&b, "one.csv", "x");
    tar_gz(&b);
    place_write(p.archive, b.data, b.n);
    put_free(&b);
    assert_int_equal(chmod(p.top, 0755), 0);
    assert_int_equal(chmod(p.archive, 0644), 0);
    for (int made = 0; made < 2; made++) {
        if (made)
            assert_int_equal(mkdir(p.folder, 0555), 0);
        else
            assert_int_equal(chmod(p.top, 0555), 0);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            hstu_error err = {0};
            const hstu_unpack_options options = place_options(&p);
            if (geteuid() == 0 && setuid(65534) != 0)
                _exit(2);
            const hstu_status status = hstu_unpack(&options, NULL, &err);
            _exit(status == HSTU_EIO && strstr(err.msg, made ? "cannot create" : "cannot make the folder") ? 0 : 1);
        }
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
        assert_int_equal(chmod(p.top, 0755), 0);
    }
    assert_int_equal(place_empty(p.folder), 0);
    place_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_read_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
