/* The options of the cache: which go together, what they refuse; own requests with a cache; interrupted runs; the
 * trained examples on real events. */
#include "cli/replay_data.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

enum { LINE = 4096 };

static const char retrieval[] =
    "--checkpoint " TEST_DATA "/golden/retrieval/base_h1_n71/checkpoint_ep100 --config " TEST_DATA
    "/golden/retrieval/base_h1_n71/config.json";
static const char ranking[] = "--checkpoint " TEST_DATA "/golden/ranking/c6_fused_fp32/checkpoint";

static void test_usage(void **state)
{
    (void)state;
    static const char *const alone[] = {
        "kv_cache_bytes 1GiB", "kv_page_tokens 64", "kv_cache_load x", "kv_cache_save x", "verify_cache 1"};
    for (size_t i = 0; i < sizeof alone / sizeof *alone; i++) {
        char line[128], sentence[128];
        (void)snprintf(line, sizeof line, "run --%s", alone[i]);
        (void)snprintf(sentence, sizeof sentence, "option --%.*s means nothing without --kv_cache",
            (int)strcspn(alone[i], " "), alone[i]);
        expect_error(line, HS_EXIT_USAGE, sentence);
    }
    static const char *const not_replay[] = {"time_interval_s 9", "max_sequences 9", "max_sequence_length 9",
        "max_candidates 9", "truncation newest", "split all"};
    for (size_t i = 0; i < sizeof not_replay / sizeof *not_replay; i++) {
        char line[128];
        (void)snprintf(line, sizeof line, "run --protocol replay --%s", not_replay[i]);
        expect_error(line, HS_EXIT_USAGE, "means nothing to --protocol replay: leave it out");
    }
    static const struct {
        const char *line, *sentence;
    } cases[] = {
        {"run --kv_cache --kv_page_tokens 48", "option --kv_page_tokens wants a multiple of 32, found 48"},
        {"run --kv_cache --kv_page_tokens 16",
            "option --kv_page_tokens wants a whole number from 32 to 65536, found '16'"},
        {"run --kv_cache --kv_cache_bytes 4Q",
            "option --kv_cache_bytes wants a size such as 4GiB, 512MiB or 1073741824, "},
        {"run --kv_dtype fp16", "option --kv_dtype wants one of fp32|bf16, found 'fp16'"},
        {"run --kv_cache --verify_cache 0", "option --verify_cache wants a whole number from 1"},
        {"run --micro_batch 0", "option --micro_batch wants a whole number from 1"},
        {"run --batch_ts_interval 60", "option --batch_ts_interval means nothing without --protocol replay"},
        {"run --slide_step 4", "option --slide_step means nothing without --protocol replay or --requests"},
        {"run --requests x --protocol replay", "options --requests and --protocol exclude each other"},
        {"run --requests x --batch_ts_interval 60", "options --requests and --batch_ts_interval exclude each other"},
        {"run --kv_cash", "did you mean '--kv_cache'?"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_error(cases[i].line, HS_EXIT_USAGE, cases[i].sentence);
}

static void test_refusals(void **state)
{
    (void)state;
    scratch files;
    char line[LINE], text[256];
    scratch_open(&files);
    write_sasrec(&files, "log.csv");
    scratch_text(&files, "sessions.csv", "user_id,sequence,actions,length\n1,\"[2, 3]\",\"[0, 0]\",2\n");
    scratch_text(&files, "requests.jsonl", "{\"items\": [1]}\n");
    const char *folder = files.folder;
    static const struct {
        const char *options, *sentence; /* options begin with the data set's name */
    } cases[] = {
        {"log.csv --micro_batch 4", "option --micro_batch means nothing to a model of the family retrieval"},
        {"log.csv --slide_step 61",
            "option --slide_step wants at most 60, the events of a history that are used, found 61"},
        {"log.csv --sequence_length 4 --slide_step 5", "option --slide_step wants at most 4, "},
        {"log.csv --kv_cache --kv_cache_load no_such.kv", "no_such.kv"},
        {"log.csv --kv_cache --kv_cache_save no_such_folder/x.kv --steps 1", "no_such_folder/x.kv"},
        {"sessions.csv", "sessions.csv"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        (void)snprintf(
            line, sizeof line, "run --protocol replay %s --dataset %s/%s", retrieval, folder, cases[i].options);
        expect_error(line, HS_EXIT_FAILED, cases[i].sentence);
    }
    (void)snprintf(line, sizeof line,
        "run --protocol replay %s --dataset %s/log.csv --kv_cache --kv_cache_load %s/log.csv", retrieval, folder,
        folder);
    expect_error(line, HS_EXIT_FAILED, "log.csv");
    /* A file of its own for each. */
    (void)snprintf(line, sizeof line, "run %s --dataset %s/log.csv --kv_cache --kv_cache_save %s/log.csv", retrieval,
        folder, folder);
    expect_error(line, HS_EXIT_FAILED, "option --kv_cache_save wants a file of its own, found '");
    (void)snprintf(line, sizeof line,
        "run %s --requests %s/requests.jsonl --kv_cache --kv_cache_save %s/requests.jsonl", retrieval, folder, folder);
    expect_error(line, HS_EXIT_FAILED, "which holds the requests");
    (void)snprintf(line, sizeof line, "run %s --dataset %s/log.csv --kv_cache --kv_cache_save %s/a --output %s/a",
        retrieval, folder, folder, folder);
    expect_error(line, HS_EXIT_FAILED, "which holds the cache");
    (void)snprintf(line, sizeof line, "run %s --dataset %s/log.csv --kv_cache --kv_cache_save %s/a --output %s/./a",
        retrieval, folder, folder, folder);
    expect_error(line, HS_EXIT_FAILED, "which holds the cache");
    (void)snprintf(line, sizeof line,
        "run %s --dataset %s/log.csv --kv_cache --kv_cache_load %s/log.csv --output %s/sessions.csv", retrieval, folder,
        folder, folder);
    (void)snprintf(text, sizeof text, "%s/log.csv", folder);
    expect_error(line, HS_EXIT_FAILED, text);
    (void)snprintf(line, sizeof line,
        "run %s --kv_cache --kv_cache_save " TEST_DATA "/golden/ranking/c6_fused_fp32/checkpoint/x", ranking);
    expect_error(line, HS_EXIT_FAILED, "--kv_cache_save wants a file outside the checkpoint's folder");
    (void)snprintf(line, sizeof line,
        "run --protocol replay --pad_attention --checkpoint " TEST_DATA
        "/golden/decoder/model_fp32/model_raw.pt --dataset %s/log.csv",
        folder);
    expect_error(line, HS_EXIT_FAILED, "option --pad_attention wants --protocol sessions, found replay");
    remove_folder(files.folder);
}

/* Users come back with longer histories; one is named by "user_id", one by nothing, and one changes its mind about the
 * past. */
static void write_requests(scratch *files, bool of_ranking)
{
    static const char *const who[] = {
        "\"user\": 7, ", "\"user\": \"bob\", \"user_id\": 8, ", "\"user\": \"nobody\", ", "\"user\": 9, "};
    FILE *out = fopen(scratch_path(files, "requests.jsonl"), "wb");
    assert_non_null(out);
    for (int n = 3; n < 12; n++) {
        for (int w = 0; w < 4; w++) {
            (void)fprintf(out, "{%s\"items\": [", who[w]);
            for (int i = 0; i < n; i++)
                (void)fprintf(out, i ? ", %d" : "%d", 1 + (w == 3 && i == 2 ? n : i * i) % 30);
            (void)fputs(of_ranking ? "], \"actions\": [" : "], \"times\": [", out);
            for (int i = 0; i < n; i++)
                (void)fprintf(out, i ? ", %d" : "%d", of_ranking ? i : 1000 * i);
            if (of_ranking)
                (void)fprintf(out,
                    "], \"candidates\": [%d, %d, 3], \"context\": {\"user_id\": %d, \"user_active_degree\": 1, "
                    "\"follow_user_num_range\": 2, "
                    "\"fans_user_num_range\": 3, \"friend_user_num_range\": 4, \"register_days_range\": 5}}\n",
                    n, n + 1, w);
            else
                (void)fprintf(out, "], \"request_time\": %d}\n", 1000 * n);
        }
    }
    assert_int_equal(fclose(out), 0);
}

static void run_requests(scratch *files, bool of_ranking, const char *options, char *text)
{
    char line[LINE], config[256] = "";
    if (of_ranking)
        (void)snprintf(config, sizeof config, "--config %s/ranking.json", files->folder);
    (void)snprintf(line, sizeof line, "run %s %s --requests %s/requests.jsonl --quiet %s",
        of_ranking ? ranking : retrieval, config, files->folder, options);
    expect_done(line);
    memcpy(text, last.out, MAX_OUTPUT);
}

static void test_requests(void **state)
{
    (void)state;
    static char plain[MAX_OUTPUT], cached[MAX_OUTPUT];
    scratch files;
    scratch_open(&files);
    write_ranking_config(&files, "ranking.json", false);
    for (int of_ranking = 0; of_ranking < 2; of_ranking++) {
        write_requests(&files, of_ranking);
        for (int slide = 0; slide < 2; slide++) {
            const char *const step = slide ? "--slide_step 5" : "";
            run_requests(&files, of_ranking, step, plain);
            assert_non_null(strstr(plain, "{\"user\": \"bob\", "));
            for (int batch_size = 1; batch_size <= 9; batch_size += 4) {
                char options[256];
                size_t n = 0;
                (void)snprintf(options, sizeof options,
                    "--kv_cache --verify_cache 1 --batch_size %d %s --kv_cache_save %s/cache.kv", batch_size, step,
                    files.folder);
                run_requests(&files, of_ranking, options, cached);
                assert_string_equal(cached, plain);
                free(read_whole(scratch_path(&files, "cache.kv"), &n));
                assert_true(n > 0);
                (void)snprintf(options, sizeof options,
                    "--kv_cache --verify_cache 1 --batch_size %d %s --kv_cache_load %s/cache.kv", batch_size, step,
                    files.folder);
                run_requests(&files, of_ranking, options, cached);
                assert_string_equal(cached, plain);
            }
        }
    }
    remove_folder(files.folder);
}

/* Scores do not depend on how many candidates are scored at once. */
static void test_micro_batches(void **state)
{
    (void)state;
    static char plain[MAX_OUTPUT], other[MAX_OUTPUT];
    static const char *const options[] = {
        "--micro_batch 1", "--micro_batch 2 --kv_cache --verify_cache 1", "--micro_batch 1000000000"};
    scratch files;
    scratch_open(&files);
    write_ranking_config(&files, "ranking.json", false);
    write_requests(&files, true);
    run_requests(&files, true, "", plain);
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        run_requests(&files, true, options[i], other);
        assert_string_equal(other, plain);
    }
    remove_folder(files.folder);
}

static void wait_ms(long ms)
{
    const struct timespec time = {.tv_nsec = ms * 1000000};
    (void)nanosleep(&time, NULL);
}

/* A child that runs "hstu <line>" and says nothing. */
static pid_t start(const char *line)
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char text[LINE + 8], *argument[MAX_ARGUMENTS] = {text};
        int n = 0;
        const int nowhere = open("/dev/null", O_WRONLY);
        (void)dup2(nowhere, 1);
        (void)dup2(nowhere, 2);
        (void)snprintf(text, sizeof text, "hstu %s", line);
        for (char *save = NULL, *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save))
            argument[n++] = word;
        _exit(hs_program_run(n, argument));
    }
    return child;
}

/* An interrupted run leaves neither results nor a cache, nor half of one. */
static void test_interrupted(void **state)
{
    (void)state;
    scratch files;
    char line[LINE];
    int result = 0;
    scratch_open(&files);
    write_sasrec(&files, "log.csv");
    /* Warm-up without end. */
    (void)snprintf(line, sizeof line,
        "run --protocol replay %s --dataset %s/log.csv --kv_cache --kv_cache_save %s/cache.kv --output %s/users.csv "
        "--warmup 1000000000",
        retrieval, files.folder, files.folder, files.folder);
    const pid_t child = start(line);
    pid_t ended = 0;
    for (int i = 0; i < 40 && ended == 0; i++) {
        wait_ms(100);
        assert_int_equal(kill(child, SIGINT), 0);
        for (int k = 0; k < 10 && (ended = waitpid(child, &result, WNOHANG)) == 0; k++)
            wait_ms(20);
    }
    assert_int_equal(ended, child);
    assert_true(WIFEXITED(result) ? WEXITSTATUS(result) == HS_EXIT_INTERRUPTED : WTERMSIG(result) == SIGINT);
    if (WIFEXITED(result)) {
        assert_int_equal(unlink(scratch_path(&files, "log.csv")), 0);
        assert_int_equal(rmdir(files.folder), 0); /* nothing else is there */
    } else {
        remove_folder(files.folder);
    }
}

/* The trained examples on the built-in sample of real events. */
static void test_examples(void **state)
{
    (void)state;
    static const char examples[] = TEST_DATA "/../../examples/data";
    static const char *const models[] = {"kuairand-pure-hstu/checkpoint.pt", "kuairand-pure-ranking"};
    scratch files;
    char line[LINE];
    scratch_open(&files);
    scratch_mkdir(&files, "KuaiRand-Pure");
    assert_int_equal(symlink(TEST_DATA "/../../examples/data/kuairand-pure-sample/KuaiRand-Pure/data",
                         scratch_path(&files, "KuaiRand-Pure/data")),
        0);
    (void)snprintf(
        line, sizeof line, "preprocess --dataset_name KuaiRand-Pure --data_root %s --allow_missing_logs", files.folder);
    expect_done(line);
    for (int m = 0; m < 2; m++) {
        char *users[2];
        for (int cached = 0; cached < 2; cached++) {
            size_t n = 0;
            (void)snprintf(line, sizeof line,
                "run --protocol replay --checkpoint %s/%s --dataset %s/KuaiRand-Pure/sequences.safetensors --steps 120 "
                "--batch_size 8 "
                "--output %s/users.csv --quiet %s",
                examples, models[m], files.folder, files.folder, cached ? "--kv_cache --verify_cache 3" : "");
            expect_done(line);
            users[cached] = read_whole(scratch_path(&files, "users.csv"), &n);
        }
        assert_string_equal(users[0], users[1]);
        cJSON *root = parse_output();
        const cJSON *cache = cJSON_GetObjectItemCaseSensitive(root, "kv_cache");
        assert_int_equal((int)number(cache, "requests"), 960);
        assert_true(number(cache, "hits") > 0);
        assert_int_equal((int)number(cJSON_GetObjectItemCaseSensitive(cache, "verified"), "requests"), 320);
        cJSON_Delete(root);
        free(users[0]);
        free(users[1]);
    }
    remove_folder(files.folder);
}

static int remove_files(void **state)
{
    (void)state;
    run_cleanup();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_micro_batches),
        cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_examples),
    };
    return cmocka_run_group_tests(tests, NULL, remove_files);
}
