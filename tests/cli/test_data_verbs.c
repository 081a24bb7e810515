/* `hstu synth`, and `hstu inspect` on data, by their command lines. */
#include "cli/program_run.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

static char folder[64];

/* Runs `line`, with the test's folder for each %. */
static const char *with_folder(const char *line)
{
    static char text[1024];
    size_t n = 0;
    for (; *line; line++) {
        if (*line == '%')
            n += (size_t)snprintf(text + n, sizeof text - n, "%s", folder);
        else
            text[n++] = *line;
        assert_true(n + 1 < sizeof text);
    }
    text[n] = '\0';
    return text;
}

static void remove_tree(const char *below)
{
    char command[256];
    (void)snprintf(command, sizeof command, "rm -rf '%s%s'", folder, below);
    assert_int_equal(system(command), 0);
}

static void assert_printed(const char *text)
{
    if (!strstr(last.out, with_folder(text)))
        fail_msg("'%s' is not in: %s", with_folder(text), last.out);
}

static void test_synth(void **state)
{
    (void)state;
    static const char small[] = "synth --like KuaiRand-Pure --users 200 --items 150 --events 4000 --data_root %";
    expect_done(with_folder(small));
    assert_printed("users 200, items 150, events 4000\n");
    assert_printed("wrote %/KuaiRand-Pure/data/user_features_pure.csv (200 rows)\n");
    expect_error(with_folder(small), HS_EXIT_FAILED, "exists");
    assert_non_null(strstr(last.err, "--force"));
    char forced[2048];
    (void)snprintf(forced, sizeof forced, "%s --force --threads 2", with_folder(small));
    expect_done(forced);
    expect_error(with_folder("synth --like KuaiRand-5 --data_root %"), HS_EXIT_USAGE, "KuaiRand-5");
    expect_error(with_folder("synth --users 11 --events 10 --data_root %"), HS_EXIT_USAGE, "10 events are too few");
    expect_error(with_folder("synth --events 0 --data_root %"), HS_EXIT_USAGE, "--events wants a whole number");
    expect_error(with_folder("synth --threads 1000 --data_root %"), HS_EXIT_USAGE, "--threads");
    expect_error("synth --lik KuaiRand-1K", HS_EXIT_USAGE, "did you mean '--like'?");
    expect_error("synth --events 10 --data_root /dev/null/x", HS_EXIT_FAILED, "/dev/null/x");
}

static void test_synth_on_a_full_disk(void **state)
{
    (void)state;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit small = {1 << 20, before.rlim_max};
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    expect_error(with_folder("synth --users 20 --events 100000 --data_root %/full"), HS_EXIT_FAILED, "cannot write '");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    expect_done(with_folder("synth --users 20 --events 100000 --data_root %/full"));
    remove_tree("/full");
}

static void test_inspect_raw_folder(void **state)
{
    (void)state;
    expect_done(with_folder("inspect %/KuaiRand-Pure"));
    assert_printed("  data/log_standard_4_08_to_4_21_pure.csv ");
    assert_printed("\nnot preprocessed yet: hstu preprocess --dataset_name KuaiRand-Pure --data_root %\n");
    expect_done(with_folder("inspect --json %/KuaiRand-Pure/data"));
    cJSON *root = parse_output();
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(root, "files")), 3);
    char want[1024];
    (void)snprintf(want, sizeof want, "%s", with_folder("hstu preprocess --dataset_name KuaiRand-Pure --data_root %"));
    assert_string_equal(cJSON_GetObjectItemCaseSensitive(root, "preprocess")->valuestring, want);
    assert_null(cJSON_GetObjectItemCaseSensitive(root, "users"));
    cJSON_Delete(root);
    expect_error(
        with_folder("inspect %"), HS_EXIT_FAILED, "holds folders of data sets (KuaiRand-Pure): name one of them");
    expect_error(with_folder("inspect %/KuaiRand-Pure/data/user_features_pure.csv"), HS_EXIT_FAILED,
        "is a raw file of KuaiRand-Pure");
    assert_int_equal(mkdir(with_folder("%/nothing"), 0700), 0);
    expect_error(
        with_folder("inspect %/nothing"), HS_EXIT_FAILED, "is a folder: expected a PyTorch or safetensors file");
}

static void test_inspect_sequences(void **state)
{
    (void)state;
    assert_int_equal(run(with_folder("preprocess --dataset_name KuaiRand-Pure --data_root %")), HS_EXIT_DONE);
    expect_done(with_folder("inspect %/KuaiRand-Pure"));
    assert_printed("\nsequences.safetensors: KuaiRand-Pure: every event of whole users\n"
                   "users       200\nitems       150 (largest id 149)\nevents      4000\nduplicates  ");
    assert_printed("\ntime        2022-04-0");
    assert_printed("\n  is_click            0.4");
    assert_printed("\nitems with most events\n");
    expect_done(with_folder("inspect --json %/KuaiRand-Pure/"));
    cJSON *root = parse_output();
    assert_int_equal((int)number(root, "users"), 200);
    assert_int_equal((int)number(root, "items"), 150);
    assert_int_equal((int)number(root, "events"), 4000);
    const cJSON *length = cJSON_GetObjectItemCaseSensitive(root, "length");
    assert_true(number(length, "p0") >= 1 && number(length, "p99") > number(length, "p50"));
    const double rate = number(cJSON_GetObjectItemCaseSensitive(root, "action_rates"), "is_click");
    assert_true(rate > 0.40 && rate < 0.48);
    const cJSON *top = cJSON_GetObjectItemCaseSensitive(root, "top_items");
    assert_int_equal(cJSON_GetArraySize(top), 10);
    assert_true(number(cJSON_GetArrayItem(top, 0), "events") >= number(cJSON_GetArrayItem(top, 9), "events"));
    assert_string_equal(cJSON_GetObjectItemCaseSensitive(root, "sequences_file")->valuestring, "sequences.safetensors");
    cJSON_Delete(root);
    static const char *const files[] = {
        "sequences.safetensors", "processed_seqs.csv", "processed_inference_sequences.csv"};
    static const char *const kinds[] = {"events", "ranking", "sessions"};
    for (size_t i = 0; i < 3; i++) {
        char line[128];
        (void)snprintf(line, sizeof line, "inspect --json %%/KuaiRand-Pure/%s", files[i]);
        expect_done(with_folder(line));
        root = parse_output();
        assert_string_equal(cJSON_GetObjectItemCaseSensitive(root, "kind")->valuestring, kinds[i]);
        assert_true(number(root, "events") >= 2 && number(root, "max_item") <= 149);
        cJSON_Delete(root);
    }
}

/* A folder with no more than a file of a name that data sets have too is looked at as a checkpoint. */
static void test_inspect_other_folder(void **state)
{
    (void)state;
    char path[1024];
    assert_int_equal(mkdir(with_folder("%/other"), 0700), 0);
    (void)snprintf(path, sizeof path, "%s", with_folder("%/other/metadata.json"));
    write_file(path, "{}");
    expect_error(with_folder("inspect %/other"), HS_EXIT_FAILED, "is a folder: expected a PyTorch or safetensors file");
}

/* A damaged file is told as what it claims to be, with the place. */
static void test_inspect_damaged(void **state)
{
    (void)state;
    char path[1024];
    (void)snprintf(path, sizeof path, "%s", with_folder("%/damaged.csv"));
    write_file(path, "user_id,sequence,actions,length\n3,\"[1, x]\",\"[1, 2]\",2\n");
    expect_error(with_folder("inspect %/damaged.csv"), HS_EXIT_FAILED, "damaged.csv', line 2, column 2");
    expect_error(with_folder("inspect --json %/damaged.csv"), HS_EXIT_FAILED, "damaged.csv', line 2, column 2");
}

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/hstu_verbs_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_all(void **state)
{
    (void)state;
    remove_tree("");
    run_cleanup();
    return 0;
}

int main(void)
{
    /* In this order: each works on what the one before has left. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_synth),
        cmocka_unit_test(test_synth_on_a_full_disk),
        cmocka_unit_test(test_inspect_raw_folder),
        cmocka_unit_test(test_inspect_sequences),
        cmocka_unit_test(test_inspect_other_folder),
        cmocka_unit_test(test_inspect_damaged),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_all);
}
