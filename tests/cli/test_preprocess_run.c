/* `hstu preprocess` from an empty folder to sequences: a server on this machine, archives made here, and everything between that
 * can go wrong. */
#include "cli/program_run.h"

#include "archive/archive_bytes.h"
#include "fetch/bad_server.h"

#include "fetch/digest.h"

#include <signal.h>
#include <sys/wait.h>

static const char *const csv_names[] = {
    "log_standard_4_08_to_4_21_1k.csv", "log_standard_4_22_to_5_08_1k.csv", "user_features_1k.csv"};

typedef struct setup {
    place p;
    bytes good, damaged, hostile; /* archives */
    char sum[HS_CHECKSUM_TEXT];   /* of the good one */
    char root[96];
    bad_server server;
} setup;

static void put_csv(bytes *tar, const char *name)
{
    char path[512], text[MAX_OUTPUT], inner[128];
    (void)snprintf(path, sizeof path, "%s/kuairand_tiny/csv/%s", TEST_DATA, name);
    (void)snprintf(inner, sizeof inner, "KuaiRand-1K/data/%s", name);
    read_file(path, text);
    tar_file(tar, inner, text);
}

static void put_archive(bytes *tar)
{
    tar_entry(tar, "KuaiRand-1K/", '5', NULL);
    tar_file(tar, "KuaiRand-1K/data/log_random_4_22_to_5_08_1k.csv", "not wanted\n");
    for (size_t i = 0; i < 3; i++)
        put_csv(tar, csv_names[i]);
    tar_file(tar, "KuaiRand-1K/data/video_features_basic_1k.csv", "not wanted\n");
}

static void sum_of(const bytes *b, char text[HS_CHECKSUM_TEXT])
{
    hs_digest digest;
    hs_digest_start(&digest, HS_CHECKSUM_SHA256);
    hs_digest_add(&digest, b->data, b->n);
    const hs_checksum sum = hs_digest_value(&digest);
    hs_checksum_text(&sum, text);
}

static int set_up(void **state)
{
    static setup s;
    s = (setup){0};
    place_open(&s.p);
    (void)snprintf(s.root, sizeof s.root, "%s/root", s.p.top);
    put_archive(&s.good);
    put(&s.hostile, s.good.data, s.good.n);
    tar_entry(&s.hostile, "KuaiRand-1K/way", '2', "/etc");
    tar_gz(&s.good);
    tar_gz(&s.hostile);
    put(&s.damaged, s.good.data, s.good.n);
    s.damaged.data[s.damaged.n / 2] ^= 0x10;
    sum_of(&s.good, s.sum);
    place_write(s.p.archive, s.good.data, s.good.n);
    server_start(&s.server, (const char *)s.good.data, s.good.n);
    *state = &s;
    return 0;
}

static int tear_down(void **state)
{
    setup *s = *state;
    server_stop(&s->server);
    put_free(&s->good);
    put_free(&s->damaged);
    put_free(&s->hostile);
    place_close(&s->p);
    run_cleanup();
    return 0;
}

/* "preprocess ..." for this root and server, with further options. */
static const char *command(const setup *s, const char *more)
{
    static char line[1024];
    (void)snprintf(line, sizeof line, "preprocess --dataset_name KuaiRand-1K --data_root %s %s", s->root, more);
    return line;
}

static const char *from_server(const setup *s, const char *sum, const char *more)
{
    char options[512];
    (void)snprintf(
        options, sizeof options, "--url http://127.0.0.1:%d/file.tar.gz --checksum %s %s", s->server.port, sum, more);
    return command(s, options);
}

static bool exists(const setup *s, const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", s->root, name);
    return access(path, F_OK) == 0;
}

/* The raw files that are there, and nothing beside them. */
static size_t raw_files(const setup *s)
{
    size_t n = 0, all = 0;
    char path[256];
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(path, sizeof path, "KuaiRand-1K/data/%s", csv_names[i]);
        n += exists(s, path);
    }
    (void)snprintf(path, sizeof path, "%s/KuaiRand-1K/data", s->root);
    DIR *dir = opendir(path);
    for (const struct dirent *item; dir && (item = readdir(dir));)
        all += item->d_name[0] != '.';
    if (dir)
        (void)closedir(dir);
    assert_int_equal(n, all);
    return n;
}

static void expect_results(const setup *s)
{
    char path[512], found[MAX_OUTPUT], expected[MAX_OUTPUT];
    assert_true(exists(s, "KuaiRand-1K/sequences.safetensors") && exists(s, "KuaiRand-1K/processed_seqs.csv"));
    (void)snprintf(path, sizeof path, "%s/kuairand_tiny/processed_full/processed_inference_sequences.csv", TEST_DATA);
    read_file(path, expected);
    (void)snprintf(path, sizeof path, "%s/KuaiRand-1K/processed_inference_sequences.csv", s->root);
    read_file(path, found);
    assert_string_equal(found, expected);
    assert_false(exists(s, "KuaiRand-1K.tar.gz") || exists(s, "KuaiRand-1K.tar.gz.part"));
}

static void expect_nothing(const setup *s)
{
    assert_int_equal(raw_files(s), 0);
    assert_false(exists(s, "KuaiRand-1K/sequences.safetensors"));
}

static void start_over(setup *s)
{
    (void)place_empty(s->root);
    server_plan(&s->server, NULL, 0);
}

/* One command from nothing to sequences; the next one asks nobody. */
static void test_fresh(void **state)
{
    setup *s = *state;
    start_over(s);
    expect_done(from_server(s, s->sum, ""));
    assert_int_equal(raw_files(s), 3);
    expect_results(s);
    assert_non_null(strstr(last.out, "KuaiRand-1K\n  rows "));
    assert_non_null(strstr(last.out, "unpacked 3 files ("));
    assert_non_null(strstr(last.out, ", verified by the given checksum\n"));
    assert_non_null(strstr(last.err, "hstu: downloading http://127.0.0.1:"));
    assert_null(strstr(last.err, "not verified"));
    server_plan(&s->server, NULL, 0);
    expect_done(from_server(s, s->sum, ""));
    assert_int_equal(server_requests(&s->server), 0);
    assert_non_null(strstr(last.err, "nothing was downloaded: the files of KuaiRand-1K are there already"));
    expect_done(command(s, "--quiet"));
    assert_null(strstr(last.err, "downloaded"));
}

/* The folder that the user named is the one that is filled. */
static void test_folder_as_written(void **state)
{
    setup *s = *state;
    char line[1024], path[160];
    start_over(s);
    (void)snprintf(path, sizeof path, "%s/kuairand-1k", s->root);
    assert_true(mkdir(s->root, 0700) == 0 || access(s->root, F_OK) == 0);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(line, sizeof line, "preprocess --dataset_name kuairand-1k --data_root %s --archive %s --checksum %s",
        s->root, s->p.archive, s->sum);
    expect_done(line);
    assert_true(exists(s, "kuairand-1k/data/user_features_1k.csv") && exists(s, "kuairand-1k/sequences.safetensors"));
    assert_false(exists(s, "KuaiRand-1K"));
}

static void test_wrong_checksum(void **state)
{
    setup *s = *state;
    char wrong[HS_CHECKSUM_TEXT];
    start_over(s);
    memcpy(wrong, s->sum, sizeof wrong);
    wrong[10] = wrong[10] == '0' ? '1' : '0';
    assert_int_equal(run(from_server(s, wrong, "--quiet")), HS_EXIT_FAILED);
    assert_non_null(strstr(last.err, wrong));
    expect_nothing(s);
    assert_false(exists(s, "KuaiRand-1K.tar.gz"));
    expect_done(from_server(s, s->sum, ""));
    expect_results(s);
    assert_int_equal(run(from_server(s, "md5:12", "--quiet")), HS_EXIT_DONE); /* files are there: nobody asked */
    start_over(s);
    expect_error(from_server(s, "md5:12", "--quiet"), HS_EXIT_USAGE, "checksum");
}

/* Without a checksum there is a warning, and what is damaged does not stay in the way of the next try. */
static void test_damaged(void **state)
{
    setup *s = *state;
    start_over(s);
    const misdeed deed = {.body = (const char *)s->damaged.data, .body_len = s->damaged.n};
    server_plan(&s->server, &deed, 1);
    assert_int_equal(run(from_server(s, "none", "--quiet")), HS_EXIT_FAILED);
    assert_non_null(strstr(last.err, "was not verified"));
    assert_non_null(strstr(last.err, "hstu: '"));
    assert_non_null(strstr(last.err, "is damaged"));
    expect_nothing(s);
    expect_done(from_server(s, "none", ""));
    assert_non_null(strstr(last.out, ", not verified\n"));
    expect_results(s);
}

static void test_hostile(void **state)
{
    setup *s = *state;
    char sum[HS_CHECKSUM_TEXT];
    start_over(s);
    sum_of(&s->hostile, sum);
    const misdeed deed = {.body = (const char *)s->hostile.data, .body_len = s->hostile.n};
    server_plan(&s->server, &deed, 1);
    expect_error(from_server(s, sum, "--quiet"), HS_EXIT_FAILED, "entry 7 ('KuaiRand-1K/way'): it is a symbolic link");
    expect_nothing(s);
}

static void test_no_such_file(void **state)
{
    setup *s = *state;
    char options[256];
    start_over(s);
    (void)snprintf(options, sizeof options, "--quiet --checksum %s --url http://127.0.0.1:%d/nothing.tar.gz", s->sum,
        s->server.port);
    expect_error(command(s, options), HS_EXIT_FAILED, "404");
    assert_non_null(strstr(last.err, "https://zenodo.org/"));
    assert_non_null(strstr(last.err, "name it with --archive"));
    assert_null(strstr(last.err, "is kept for the next run"));
    expect_nothing(s);
    (void)snprintf(options, sizeof options, "--checksum %s --url http://me:secret@127.0.0.1:%d/nothing.tar.gz?a@b",
        s->sum, s->server.port);
    assert_int_equal(run(command(s, options)), HS_EXIT_FAILED);
    assert_non_null(strstr(last.err, "it answers 404"));
    assert_non_null(strstr(last.err, "hstu: downloading http://127.0.0.1:"));
    assert_null(strstr(last.err, "me:"));
    assert_null(strstr(last.err, "secret"));
}

static void remove_outputs_of(pid_t child)
{
    static const char *const kind[] = {"out", "err"};
    for (size_t i = 0; i < 2; i++) {
        char path[64];
        (void)snprintf(path, sizeof path, "test_run.%ld.%s", (long)child, kind[i]);
        (void)unlink(path);
    }
}

/* Runs the program in a child whose server falls silent in the middle, and ends it with a signal. Gives how it ended. The child is
 * this program anew (main), since a fork of a process with threads may start none. */
static int interrupt(setup *s, int signal_number)
{
    char path[512];
    struct stat st = {0};
    int how = 0;
    const misdeed deed = {.hold = true, .hold_at = s->good.n / 2};
    server_plan(&s->server, &deed, 1);
    const char *line = from_server(s, s->sum, "--quiet");
    (void)fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)execl("/proc/self/exe", "test_preprocess_run", line, (char *)NULL);
        _exit(99);
    }
    (void)snprintf(path, sizeof path, "%s/KuaiRand-1K.tar.gz.part", s->root);
    while (stat(path, &st) != 0 || st.st_size == 0) {
        assert_int_equal(waitpid(child, &how, WNOHANG), 0);
        (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    assert_int_equal(kill(child, signal_number), 0);
    assert_int_equal(waitpid(child, &how, 0), child);
    remove_outputs_of(child);
    return how;
}

/* Killed or interrupted while it downloads: the next run goes on where that one ended. */
static void test_killed(void **state)
{
    setup *s = *state;
    for (int killed = 0; killed < 2; killed++) {
        start_over(s);
        const int how = interrupt(s, killed ? SIGKILL : SIGINT);
        assert_true(killed ? WIFSIGNALED(how) : WIFEXITED(how) && WEXITSTATUS(how) == HS_EXIT_INTERRUPTED);
        expect_nothing(s);
        expect_done(from_server(s, s->sum, ""));
        assert_true(server_last_range(&s->server) > 0);
        expect_results(s);
    }
}

/* Killed while files got their names: the archive is whole, and what is missing comes out of it. */
static void test_half_unpacked(void **state)
{
    setup *s = *state;
    char path[512];
    start_over(s);
    expect_done(from_server(s, s->sum, ""));
    (void)snprintf(path, sizeof path, "%s/KuaiRand-1K.tar.gz", s->root);
    place_write(path, s->good.data, s->good.n);
    (void)snprintf(path, sizeof path, "%s/KuaiRand-1K/data/%s", s->root, csv_names[1]);
    assert_int_equal(unlink(path), 0);
    server_plan(&s->server, NULL, 0);
    expect_done(from_server(s, s->sum, ""));
    assert_int_equal(server_file_requests(&s->server), 0);
    assert_int_equal(raw_files(s), 3);
    assert_true(exists(s, "KuaiRand-1K.tar.gz"));
    assert_non_null(strstr(last.out, "; it was there before and is kept\n"));
}

static void test_archive(void **state)
{
    setup *s = *state;
    char options[512];
    start_over(s);
    (void)snprintf(options, sizeof options, "--archive %s --checksum %s", s->p.archive, s->sum);
    expect_done(command(s, options));
    assert_null(strstr(last.err, "verified"));
    assert_non_null(strstr(last.out, ", verified by the given checksum\n"));
    expect_results(s);
    start_over(s);
    (void)snprintf(options, sizeof options, "--no_download --archive %s", s->p.archive);
    expect_done(command(s, options));
    assert_non_null(strstr(last.err, "is not the published KuaiRand-1K.tar.gz (md5:6b0b9c82"));
    assert_non_null(strstr(last.out, ", not verified\n"));
    expect_results(s);
    start_over(s);
    (void)snprintf(
        options, sizeof options, "--archive %s --checksum md5:00000000000000000000000000000000", s->p.archive);
    expect_error(command(s, options), HS_EXIT_FAILED, "is not the file that --checksum names");
    expect_nothing(s);
    (void)snprintf(options, sizeof options, "--archive %s.no", s->p.archive);
    expect_error(command(s, options), HS_EXIT_FAILED, "--archive does not exist");
    (void)snprintf(options, sizeof options, "--archive %s", s->p.top);
    expect_error(command(s, options), HS_EXIT_USAGE, "of --archive is no regular file");
    assert_int_equal(server_requests(&s->server), 0);
    assert_int_equal(access(s->p.archive, R_OK), 0); /* never removed */
}

static void test_no_download(void **state)
{
    setup *s = *state;
    start_over(s);
    expect_error(command(s, "--no_download"), HS_EXIT_FAILED, "does not exist");
    assert_non_null(strstr(last.err, "without --no_download https://zenodo.org/"));
    assert_non_null(strstr(last.err, "name it with --archive"));
    assert_false(exists(s, "KuaiRand-1K"));
}

static void test_no_keep_raw(void **state)
{
    setup *s = *state;
    start_over(s);
    expect_done(from_server(s, s->sum, "--no_keep_raw"));
    assert_int_equal(raw_files(s), 0);
    expect_results(s);
    /* What was there before is nobody's to remove. */
    start_over(s);
    expect_done(from_server(s, s->sum, ""));
    expect_done(command(s, "--no_keep_raw"));
    assert_int_equal(raw_files(s), 3);
}

/* MovieLens comes as zip, and lies in the set's own folder, beside the results. */
static void test_movielens(void **state)
{
    static const zip_entry entry[] = {{.name = "ml-1m/", .text = "", .mode = 040755},
        {.name = "ml-1m/README", .text = "not wanted"},
        {.name = "ml-1m/ratings.dat",
            .text = "1::10::5::978300760\n1::20::3::978300761\n2::10::1::978300762\n",
            .deflated = true},
        {.name = "ml-1m/users.dat", .text = "1::F::1::10::48067\n2::M::56::16::70072\n"},
        {.name = "ml-1m/movies.dat", .text = "10::A (1995)::Drama\n20::B (1996)::Drama\n"}};
    setup *s = *state;
    char path[160], line[512];
    bytes b = {0};
    start_over(s);
    zip(&b, entry, 5);
    (void)snprintf(path, sizeof path, "%s/ml.zip", s->p.top);
    place_write(path, b.data, b.n);
    put_free(&b);
    (void)snprintf(line, sizeof line, "preprocess --dataset_name ml_1m --data_root %s --archive %s --checksum none",
        s->root, path);
    expect_done(line);
    assert_true(exists(s, "ml-1m/ratings.dat") && exists(s, "ml-1m/users.dat") && exists(s, "ml-1m/movies.dat"));
    assert_true(exists(s, "ml-1m/sequences.safetensors") && exists(s, "ml-1m/sasrec_format.csv") &&
                exists(s, "ml-1m/candidates.txt") && !exists(s, "ml-1m/README"));
    assert_non_null(strstr(last.out, "sasrec_format.csv\nwrote "));
    start_over(s);
    (void)strncat(line, " --no_keep_raw --no_text", sizeof line - strlen(line) - 1);
    expect_done(line);
    assert_false(
        exists(s, "ml-1m/ratings.dat") || exists(s, "ml-1m/users.dat") || exists(s, "ml-1m/sasrec_format.csv"));
    assert_true(exists(s, "ml-1m/sequences.safetensors"));
}

static void test_options(void **state)
{
    setup *s = *state;
    start_over(s);
    expect_error("preprocess --archive a --url http://b/c", HS_EXIT_USAGE, "--archive and --url exclude each other");
    expect_error(
        "preprocess --no_download --url http://b/c", HS_EXIT_USAGE, "--no_download and --url exclude each other");
    expect_error("preprocess --dataset_name custom --input x --archive a", HS_EXIT_USAGE,
        "--archive wants a data set whose archive is known");
    expect_error("preprocess --dataset_name Nothing-5 --checksum none", HS_EXIT_USAGE, "'Nothing-5'");
    expect_error("preprocess --dataset_name Custom", HS_EXIT_USAGE, "--dataset_name custom wants --input FILE");
    expect_error("preprocess --user_column u", HS_EXIT_USAGE, "--user_column wants --dataset_name custom");
}

int main(int argc, char **argv)
{
    if (argc == 2)
        return run(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fresh),
        cmocka_unit_test(test_folder_as_written),
        cmocka_unit_test(test_wrong_checksum),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_no_such_file),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_half_unpacked),
        cmocka_unit_test(test_archive),
        cmocka_unit_test(test_no_download),
        cmocka_unit_test(test_no_keep_raw),
        cmocka_unit_test(test_movielens),
        cmocka_unit_test(test_options),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
