/* Replays through the whole program, with the cache and without: every family, the same answers bit for bit, and
 * counters that follow from the log. */
#include "cli/replay_data.h"

enum { LINE = 4096, MODEL = 1024 };

typedef struct model_case {
    const char *name;
    char model[MODEL]; /* options that name model and data */
    int64_t tokens, reused;
} model_case;

enum { RETRIEVAL, DECODER, RANKING, N_FAMILIES };

typedef struct fixture {
    scratch files;
    model_case family[N_FAMILIES];
} fixture;

static int open_fixture(void **state)
{
    static fixture f;
    static const char golden[] = TEST_DATA "/golden";
    scratch_open(&f.files);
    write_sasrec(&f.files, "log.csv");
    write_processed(&f.files, "processed.csv");
    write_ranking_config(&f.files, "ranking.json", false);
    f.family[RETRIEVAL] = (model_case){.name = "retrieval", .tokens = LOG_HISTORY, .reused = LOG_KNOWN};
    (void)snprintf(f.family[RETRIEVAL].model, MODEL,
        "--checkpoint %s/retrieval/base_h1_n71/checkpoint_ep100 --config "
        "%s/retrieval/base_h1_n71/config.json --dataset %s/log.csv",
        golden, golden, f.files.folder);
    f.family[DECODER] = (model_case){.name = "decoder", .tokens = LOG_HISTORY, .reused = LOG_KNOWN};
    (void)snprintf(f.family[DECODER].model, MODEL,
        "--checkpoint %s/decoder/model_fp32/model_raw.pt --dataset %s/log.csv", golden, f.files.folder);
    /* Six contextual tokens, and two for each event. */
    f.family[RANKING] = (model_case){.name = "ranking",
        .tokens = 6 * LOG_REQUESTS + 2 * LOG_HISTORY,
        .reused = 6 * (LOG_REQUESTS - LOG_USERS) + 2 * LOG_KNOWN};
    (void)snprintf(f.family[RANKING].model, MODEL,
        "--checkpoint %s/ranking/c6_fused_fp32/checkpoint --config %s/ranking.json --dataset %s/processed.csv", golden,
        f.files.folder, f.files.folder);
    *state = &f;
    return 0;
}

static int close_fixture(void **state)
{
    fixture *f = *state;
    remove_folder(f->files.folder);
    run_cleanup();
    return 0;
}

/* A replay of the family with more options; its report. */
static cJSON *replay(fixture *f, int family, const char *options)
{
    char line[LINE];
    (void)snprintf(line, sizeof line, "run --protocol replay --quiet --output %s/users.csv %s %s", f->files.folder,
        f->family[family].model, options);
    expect_done(line);
    return parse_output();
}

static const cJSON *object(const cJSON *root, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, key);
    if (!cJSON_IsObject(item))
        fail_msg("'%s' is no object in: %s", key, last.out);
    return item;
}

static int64_t count(const cJSON *root, const char *key)
{
    return (int64_t)number(root, key);
}

/* What a run answered: its metrics, and the file of --output. */
typedef struct answers {
    char *metrics, *users;
} answers;

static answers take_answers(fixture *f, const cJSON *root)
{
    size_t n = 0;
    const cJSON *metrics = cJSON_GetObjectItemCaseSensitive(root, "metrics");
    answers a = {.metrics = cJSON_Print(metrics ? metrics : object(root, "tasks"))};
    a.users = read_whole(scratch_path(&f->files, "users.csv"), &n);
    return a;
}

static void free_answers(answers *a)
{
    cJSON_free(a->metrics);
    free(a->users);
}

static void expect_same(fixture *f, const answers *expected, const cJSON *root)
{
    answers found = take_answers(f, root);
    assert_string_equal(found.metrics, expected->metrics);
    assert_string_equal(found.users, expected->users);
    free_answers(&found);
}

/* Without a cache: one request for each interval but the first, all its events asked for, whatever the batches. */
static void test_requests(void **state)
{
    fixture *f = *state;
    for (int family = 0; family < N_FAMILIES; family++) {
        cJSON *root = replay(f, family, "");
        answers first = take_answers(f, root);
        assert_null(cJSON_GetObjectItemCaseSensitive(root, "kv_cache"));
        assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "protocol")), "replay");
        assert_int_equal(count(root, "requests"), LOG_REQUESTS);
        assert_int_equal(count(root, "num_batches"), LOG_REQUESTS);
        const cJSON *told = object(root, "replay");
        assert_int_equal(count(told, "targets"), LOG_TARGETS);
        assert_int_equal(count(told, "users"), LOG_USERS);
        assert_int_equal(count(told, "skipped_intervals"), LOG_USERS);
        assert_int_equal(count(told, "batch_ts_interval_s"), 60);
        int rows = -1;
        for (const char *at = first.users; *at; at++)
            rows += *at == '\n';
        assert_int_equal(rows, LOG_TARGETS);
        /* In the order of time: users' fourth events come first. */
        char row[64];
        (void)snprintf(row, sizeof row, "\n100,%d,", log_item(0, 3));
        assert_ptr_equal(strstr(first.users, row), strchr(first.users, '\n'));
        cJSON_Delete(root);
        static const char *const options[] = {"--batch_size 4 --threads 1", "--batch_size 50 --threads 2 --warmup 2"};
        for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
            root = replay(f, family, options[i]);
            expect_same(f, &first, root);
            cJSON_Delete(root);
        }
        free_answers(&first);
    }
    /* An interval of an hour and more takes several of the log's events together. */
    cJSON *root = replay(f, DECODER, "--batch_ts_interval 4000 --steps 5 --batch_size 2");
    assert_true(count(object(root, "replay"), "targets") > 10);
    assert_int_equal(count(root, "requests"), 10);
    cJSON_Delete(root);
}

static void expect_counters(const cJSON *root, const model_case *c)
{
    const cJSON *cache = object(root, "kv_cache"), *latency = object(cache, "latency_ms");
    assert_int_equal(count(cache, "requests"), LOG_REQUESTS);
    assert_int_equal(count(cache, "hits"), LOG_REQUESTS - LOG_USERS);
    assert_int_equal(count(cache, "tokens"), c->tokens);
    assert_int_equal(count(cache, "reused_tokens"), c->reused);
    assert_int_equal(count(cache, "stored"), LOG_REQUESTS);
    assert_int_equal(count(cache, "changed"), 0);
    assert_int_equal(count(cache, "users"), LOG_USERS);
    assert_int_equal(count(object(cache, "evicted"), "users"), 0);
    assert_int_equal(count(object(latency, "hits"), "count"), LOG_REQUESTS - LOG_USERS);
    assert_int_equal(count(object(latency, "misses"), "count"), LOG_USERS);
    assert_int_equal(count(object(latency, "mixed"), "count"), 0);
    assert_true(number(object(latency, "hits"), "p50") > 0);
    const cJSON *verified = object(cache, "verified");
    assert_int_equal(count(verified, "batches"), LOG_REQUESTS);
    assert_int_equal(count(verified, "requests"), LOG_REQUESTS);
    assert_int_equal(count(verified, "differences"), 0);
    assert_true(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(cache, "no_reuse")));
}

/* The same answers with the cache, which reuses all that was known; warm-up does not warm it. */
static void test_cached(void **state)
{
    fixture *f = *state;
    static const char *const types[] = {"", "--kv_dtype bf16", "--dtype bf16"};
    for (int family = 0; family < N_FAMILIES; family++) {
        for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
            if (family == RETRIEVAL && t == 2)
                continue; /* fp32 alone */
            char options[256];
            cJSON *root = replay(f, family, types[t]);
            answers plain = take_answers(f, root);
            cJSON_Delete(root);
            for (int threads = 1; threads <= 2; threads++) {
                (void)snprintf(options, sizeof options,
                    "%s --kv_cache --verify_cache 1 --threads %d --warmup 30 --kv_page_tokens %d", types[t], threads,
                    32 * threads);
                root = replay(f, family, options);
                expect_same(f, &plain, root);
                expect_counters(root, &f->family[family]);
                const char *kv_dtype = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "kv_dtype"));
                assert_string_equal(kv_dtype, t ? "bf16" : "fp32");
                cJSON_Delete(root);
                /* A user may stand in a batch more than once. */
                (void)snprintf(options, sizeof options, "%s --kv_cache --verify_cache 2 --threads %d --batch_size 16",
                    types[t], threads);
                root = replay(f, family, options);
                expect_same(f, &plain, root);
                assert_int_equal(count(object(object(root, "kv_cache"), "verified"), "batches"), 4);
                assert_true(count(object(root, "kv_cache"), "hits") > 0);
                cJSON_Delete(root);
            }
            free_answers(&plain);
        }
    }
}

/* Two pages for six users: they push each other out, and nothing else changes. */
static void test_tiny_budget(void **state)
{
    fixture *f = *state;
    for (int family = 0; family < N_FAMILIES; family++) {
        char options[256];
        cJSON *root = replay(f, family, "--kv_cache --kv_page_tokens 32");
        answers plain = take_answers(f, root);
        const int64_t page_bytes = count(object(root, "kv_cache"), "page_bytes");
        cJSON_Delete(root);
        (void)snprintf(options, sizeof options, "--kv_cache --verify_cache 1 --kv_page_tokens 32 --kv_cache_bytes %lld",
            (long long)(3 * page_bytes));
        root = replay(f, family, options);
        const cJSON *cache = object(root, "kv_cache");
        expect_same(f, &plain, root);
        assert_in_range(count(cache, "pages"), 1, 3);
        assert_true(count(object(cache, "evicted"), "users") > 0);
        assert_true(count(cache, "used_bytes") + count(cache, "bookkeeping_bytes") <= count(cache, "budget_bytes"));
        assert_int_equal(count(cache, "budget_bytes"), 3 * page_bytes);
        cJSON_Delete(root);
        free_answers(&plain);
    }
    char line[LINE];
    (void)snprintf(
        line, sizeof line, "run --protocol replay %s --kv_cache --kv_cache_bytes 1KiB", f->family[RANKING].model);
    expect_error(line, HS_EXIT_FAILED, "1024");
}

/* A window that slides at each request has nothing in common with the one before it; one that slides in steps has. */
static void test_slide(void **state)
{
    fixture *f = *state;
    for (int family = 0; family < N_FAMILIES; family++) {
        const char *window = family == RANKING ? "--max_history 10" : "--sequence_length 10";
        int64_t reused[2];
        for (int stepped = 0; stepped < 2; stepped++) {
            char options[256];
            (void)snprintf(options, sizeof options, "%s --slide_step %d", window, stepped ? 5 : 1);
            cJSON *root = replay(f, family, options);
            answers plain = take_answers(f, root);
            assert_int_equal(count(object(root, "replay"), "slide_step"), stepped ? 5 : 1);
            cJSON_Delete(root);
            strncat(options, " --kv_cache --verify_cache 1", sizeof options - strlen(options) - 1);
            root = replay(f, family, options);
            expect_same(f, &plain, root);
            reused[stepped] = count(object(root, "kv_cache"), "reused_tokens");
            cJSON_Delete(root);
            free_answers(&plain);
        }
        if (reused[1] < reused[0] + LOG_REQUESTS)
            fail_msg("%s: %lld tokens reused in steps, %lld otherwise", f->family[family].name, (long long)reused[1],
                (long long)reused[0]);
    }
}

static void damage(const char *path)
{
    size_t n = 0;
    char *data = read_whole(path, &n);
    data[n - n / 4] ^= 1;
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, n, out), n);
    assert_int_equal(fclose(out), 0);
    free(data);
}

/* What one run saves another begins with; of a damaged file it takes what is whole. */
static void test_save_and_load(void **state)
{
    fixture *f = *state;
    for (int family = 0; family < N_FAMILIES; family++) {
        char options[512];
        (void)snprintf(options, sizeof options, "--kv_cache --kv_cache_save %s/cache.kv", f->files.folder);
        cJSON *root = replay(f, family, options);
        answers cold = take_answers(f, root);
        assert_non_null(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object(root, "kv_cache"), "saved")));
        const int64_t hits = count(object(root, "kv_cache"), "hits");
        cJSON_Delete(root);

        (void)snprintf(
            options, sizeof options, "--kv_cache --verify_cache 1 --kv_cache_load %s/cache.kv", f->files.folder);
        root = replay(f, family, options);
        expect_same(f, &cold, root);
        assert_string_equal(last.err, "");
        const cJSON *loaded = object(object(root, "kv_cache"), "loaded");
        assert_int_equal(count(loaded, "users"), LOG_USERS);
        assert_int_equal(count(loaded, "damaged"), 0);
        assert_int_equal(count(object(root, "kv_cache"), "hits"), hits + LOG_USERS);
        cJSON_Delete(root);

        damage(scratch_path(&f->files, "cache.kv"));
        root = replay(f, family, options);
        expect_same(f, &cold, root);
        assert_non_null(strstr(last.err, "hstu: warning: "));
        assert_non_null(strstr(last.err, " is damaged: users left out "));
        loaded = object(object(root, "kv_cache"), "loaded");
        assert_true(count(loaded, "damaged") >= 1 && count(loaded, "users") < LOG_USERS);
        cJSON_Delete(root);
        free_answers(&cold);
    }
}

/* A run that is too short to be verified does not pass for verified. */
static void test_never_verified(void **state)
{
    fixture *f = *state;
    cJSON *root = replay(f, DECODER, "--kv_cache --steps 5 --verify_cache 5");
    assert_string_equal(last.err, "");
    cJSON_Delete(root);
    root = replay(f, DECODER, "--kv_cache --steps 5 --verify_cache 6");
    assert_non_null(strstr(last.err, "--verify_cache 6 has verified nothing: there were only 5 batches\n"));
    assert_int_equal(count(object(object(root, "kv_cache"), "verified"), "batches"), 0);
    cJSON_Delete(root);
}

/* A model whose contextual tokens see the whole history cannot use rows again, and says so. */
static void test_no_reuse(void **state)
{
    fixture *f = *state;
    write_ranking_config(&f->files, "ranking.json", true);
    cJSON *root = replay(f, RANKING, "");
    answers plain = take_answers(f, root);
    cJSON_Delete(root);
    root = replay(f, RANKING, "--kv_cache --verify_cache 1");
    expect_same(f, &plain, root);
    assert_non_null(strstr(last.err, "hstu: warning: --kv_cache gains nothing with this model: "));
    assert_int_equal(count(object(root, "kv_cache"), "hits"), 0);
    assert_non_null(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object(root, "kv_cache"), "no_reuse")));
    cJSON_Delete(root);
    free_answers(&plain);
    write_ranking_config(&f->files, "ranking.json", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_cached),
        cmocka_unit_test(test_tiny_budget),
        cmocka_unit_test(test_slide),
        cmocka_unit_test(test_save_and_load),
        cmocka_unit_test(test_never_verified),
        cmocka_unit_test(test_no_reuse),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
