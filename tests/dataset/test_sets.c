/* hstu_preprocess of MovieLens and custom logs: which files stand there, what opens, what an older run leaves. */
#include "dataset/replay_files.h"

#define USERS "2::M::56::16::70072\n1::F::1::10::48067\n3::M::25::15::55117"
#define RATINGS                                                                                                        \
    "1::30::5::1000\n1::20::3::900\n1::30::5::1000\n2::10::1::2000\n2::20::2::2000\n2::40::4::2500\n3::10::5::50\n"    \
    "3::20::1::60\n3::40::2::70\n"
#define MOVIES "10::a (1990)::b\n20::a::b\n30::a::b\n40::a::b\n50::never rated::b\n"

typedef struct heard {
    char text[2048]; /* every warning, a line each */
} heard;

static void on_warning(void *ctx, const char *sentence)
{
    heard *h = ctx;
    const size_t n = strlen(h->text);
    (void)snprintf(h->text + n, sizeof h->text - n, "%s\n", sentence);
}

static hstu_preprocess_report run_ok(const hstu_preprocess_options *options)
{
    hstu_preprocess_report report;
    hstu_error err = {0};
    if (hstu_preprocess(options, &report, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    return report;
}

static void expect_refusal(const hstu_preprocess_options *options, hstu_status status, const char *sentence)
{
    hstu_error err = {0};
    if (hstu_preprocess(options, NULL, &err) != status || !strstr(err.msg, sentence))
        fail_msg("status %d: %s\nexpected: %s", (int)err.code, err.msg, sentence);
}

static void assert_file(scratch *s, const char *name, const char *expected)
{
    size_t n = 0;
    char *text = read_whole(scratch_path(s, name), &n);
    assert_string_equal(text, expected);
    free(text);
}

static void write_ml_1m(scratch *s)
{
    scratch_mkdir(s, "ml-1m");
    scratch_text(s, "ml-1m/users.dat", USERS);
    scratch_text(s, "ml-1m/ratings.dat", RATINGS);
    scratch_text(s, "ml-1m/movies.dat", MOVIES);
}

static void test_movielens_files(void **state)
{
    scratch *s = *state;
    heard h = {.text = ""};
    write_ml_1m(s);
    hstu_preprocess_options options = options_for(s, "ML_1M");
    options.progress = (hstu_progress){.ctx = &h, .warn = on_warning};
    hstu_preprocess_report report = run_ok(&options);
    assert_true(report.n_rows == 9 && report.n_users == 3 && report.n_items == 4 && report.n_duplicates == 1);
    assert_true(report.n_unsorted == 1 && report.n_users_one_log == 0 && report.n_features == 4);
    assert_true(report.n_ranking_users == 3 && report.n_sessions == 3 && report.vocab_size == 41);
    assert_string_equal(h.text, "");
    assert_string_equal(report.sasrec_path, scratch_path(s, "ml-1m/sasrec_format.csv"));
    assert_string_equal(report.candidates_path, scratch_path(s, "ml-1m/candidates.txt"));
    assert_string_equal(report.ranking_path, scratch_path(s, "ml-1m/processed_seqs.csv"));
    assert_true(!report.user_ids_path[0] && !report.item_ids_path[0]);
    assert_file(s, "ml-1m/candidates.txt", "10\n20\n30\n40\n50\n");
    assert_file(s, "ml-1m/processed_inference_sequences.csv",
        "user_id,sequence,actions,length\n1,\"[20, 30, 30]\",\"[2, 4, 4]\",3\n2,\"[10, 20]\",\"[0, 1]\",2\n"
        "3,\"[10, 20, 40]\",\"[4, 0, 1]\",3\n");
    assert_file(s, "ml-1m/metadata.json",
        "{\n  \"dataset_name\": \"ml-1m\",\n  \"num_sequences\": 3,\n  \"max_sequence_length\": 256,\n"
        "  \"time_interval_s\": 300,\n  \"vocab_size\": 41,\n  \"num_users\": 3\n}");
    /* Without movies the candidates of the run before go too. */
    assert_int_equal(unlink(scratch_path(s, "ml-1m/movies.dat")), 0);
    report = run_ok(&options);
    assert_string_equal(report.candidates_path, "");
    assert_false(scratch_exists(s, "ml-1m/candidates.txt"));
    assert_string_equal(h.text, "movies.dat of ml-1m is missing, so candidates.txt is not written\n");
    options.no_text = 1;
    report = run_ok(&options);
    assert_true(!report.sasrec_path[0] && !report.ranking_path[0] && !report.sessions_path[0]);
    assert_int_equal(count_entries(scratch_path(s, "ml-1m")), 3); /* users, ratings, sequences */
}

/* The binary file and NVIDIA's are one to a ranking model, the binary file and Meta's one to a retrieval model. */
static void test_movielens_opens(void **state)
{
    static const int64_t labels[] = {4, 3, 1}, sex[] = {2, 1, 1}, zip[] = {2, 1, 3};
    scratch *s = *state;
    hstu_ranking_options ranking;
    hstu_history_options rules;
    hstu_histories *histories[2];
    hstu_error err = {0};
    write_ml_1m(s);
    hstu_preprocess_options options = options_for(s, "ml-1m");
    const hstu_preprocess_report report = run_ok(&options);
    hstu_ranking_options_init(&ranking);
    ranking.max_candidates = 1;
    ranking.max_history = 5;
    ranking.split = HSTU_SPLIT_ALL;
    const char *const path[] = {report.sequences_path, report.ranking_path};
    for (size_t i = 0; i < 2; i++) {
        hstu_dataset *dataset = open_ok(path[i]);
        hstu_ranking_samples *samples = NULL;
        assert_int_equal(hstu_ranking_samples_open(&samples, dataset, &ranking, &err), HSTU_OK);
        hstu_dataset_close(dataset);
        assert_true(samples->n == 3 && samples->n_short == 0 && samples->n_incomplete == 0);
        assert_memory_equal(samples->label, labels, sizeof labels);
        assert_int_equal(samples->n_features, 4);
        assert_string_equal(samples->feature_name[0], "sex");
        assert_string_equal(samples->feature_name[3], "zip_code");
        assert_memory_equal(samples->feature, sex, sizeof sex);
        assert_memory_equal(samples->feature + 9, zip, sizeof zip);
        hstu_ranking_samples_close(samples);
    }
    hstu_replay_options replay = defaults();
    replay.contextual = 1;
    replay.interval_s = 10;
    hstu_replay_close(replay_both(&report, &replay));
    hstu_history_options_init(&rules);
    rules.item_id_offset = 0;
    rules.drop_duplicates = 0;
    const char *const whole[] = {report.sequences_path, report.sasrec_path};
    for (size_t i = 0; i < 2; i++) {
        hstu_dataset *dataset = open_ok(whole[i]);
        assert_int_equal(hstu_histories_open(&histories[i], dataset, &rules, &err), HSTU_OK);
        hstu_dataset_close(dataset);
    }
    assert_int_equal(histories[0]->n, 3);
    assert_array("offset", histories[0]->offset, histories[1]->offset, 4);
    assert_array("item", histories[0]->item_id, histories[1]->item_id, 6);
    assert_array("time", histories[0]->timestamp, histories[1]->timestamp, 6);
    assert_array("target", histories[0]->target_id, histories[1]->target_id, 3);
    assert_array("target's time", histories[0]->target_time, histories[1]->target_time, 3);
    hstu_histories_close(histories[0]);
    hstu_histories_close(histories[1]);
}

/* A user without a line in users.dat has no features; NVIDIA's file lacks him, and so does a ranking. */
static void test_movielens_absent_user(void **state)
{
    scratch *s = *state;
    heard h = {.text = ""};
    hstu_ranking_options ranking;
    hstu_ranking_samples *samples = NULL;
    hstu_error err = {0};
    write_ml_1m(s);
    scratch_text(s, "ml-1m/users.dat", "2::M::56::16::70072\n1::F::1::10::48067\n");
    hstu_preprocess_options options = options_for(s, "ml-1m");
    options.progress = (hstu_progress){.ctx = &h, .warn = on_warning};
    const hstu_preprocess_report report = run_ok(&options);
    assert_int_equal(report.n_ranking_users, 2);
    assert_string_equal(h.text, "users.dat lacks 1 of 3 users, whose contextual features are 0; processed_seqs.csv "
                                "leaves them out, as the reference does\n");
    hstu_ranking_options_init(&ranking);
    ranking.max_candidates = 1;
    ranking.split = HSTU_SPLIT_ALL;
    hstu_dataset *dataset = open_ok(report.sequences_path);
    assert_int_equal(hstu_ranking_samples_open(&samples, dataset, &ranking, &err), HSTU_OK);
    assert_true(samples->n == 2 && samples->n_incomplete == 1);
    hstu_ranking_samples_close(samples);
    hstu_dataset_close(dataset);
}

static void test_ranking_times(void **state)
{
    scratch *s = *state;
    hstu_dataset *dataset = NULL;
    hstu_error err = {0};
    scratch_text(s, "a.csv", "user_id,movie_id,rating,unix_timestamp\n1,\"[1, 2]\",\"[9, 0]\",\"[-1, 5]\"\n");
    dataset = open_ok(scratch_path(s, "a.csv"));
    hstu_replay_options options = defaults();
    options.contextual = 1;
    options.time_unit_ms = 1;
    options.interval_s = 1;
    hstu_replay *replay = NULL;
    assert_int_equal(hstu_replay_open(&replay, dataset, &options, &err), HSTU_OK);
    assert_true(replay->timestamp[0] == -1000 && replay->timestamp[1] == 5000);
    hstu_replay_close(replay);
    hstu_dataset_close(dataset);
    scratch_text(s, "a.csv", "user_id,movie_id,rating,unix_timestamp\n1,[1],[9],[9223372036854776]\n");
    assert_int_equal(hstu_dataset_open(&dataset, scratch_path(s, "a.csv"), NULL, &err), HSTU_EFORMAT);
    assert_non_null(strstr(err.msg, "entry 1 must be an integer from -9223372036854775 to 9223372036854775"));
}

static void test_custom_files(void **state)
{
    scratch *s = *state;
    heard h = {.text = ""};
    char first[512], second[512];
    const char *input[] = {first, second};
    hstu_dataset_info info;
    scratch_text(
        s, "a.csv", "who,what,at,click\nann,red,1650882384,1\nbob,\"blue, dark\",1650882385,0\nann,red,1650882390,1\n");
    (void)snprintf(first, sizeof first, "%s", s->path);
    scratch_text(s, "b.csv", "at,what,click,who\n1650882384,green,0,ann\n");
    (void)snprintf(second, sizeof second, "%s", s->path);
    hstu_preprocess_options options = options_for(s, "Custom");
    options.progress = (hstu_progress){.ctx = &h, .warn = on_warning};
    options.input = input;
    options.n_inputs = 2;
    options.user_column = "who";
    options.item_column = "what";
    options.time_column = "at";
    options.action_columns = "click=64";
    hstu_preprocess_report report = run_ok(&options);
    assert_true(report.n_rows == 4 && report.n_users == 2 && report.n_items == 3 && report.n_features == 0);
    assert_true(report.n_sessions == 1 && report.n_ranking_users == 0 && report.n_users_one_log == 0);
    assert_true(!report.ranking_path[0] && !report.sasrec_path[0] && !report.candidates_path[0]);
    assert_string_equal(report.item_ids_path, scratch_path(s, "custom/item_ids.csv"));
    assert_file(s, "custom/item_ids.csv", "item_id,text\n1,red\n2,\"blue, dark\"\n3,green\n");
    assert_file(s, "custom/user_ids.csv", "user_id,text\n1,ann\n2,bob\n");
    assert_file(s, "custom/processed_inference_sequences.csv",
        "user_id,sequence,actions,length\n1,\"[1, 3, 1]\",\"[64, 0, 64]\",3\n");
    hstu_dataset *dataset = open_ok(report.sequences_path);
    hstu_dataset_get_info(dataset, &info);
    assert_true(info.n_users == 2 && info.n_events == 4 && info.max_item == 3 && info.max_user == 2);
    assert_string_equal(info.name, "custom");
    hstu_dataset_close(dataset);
    /* Numbers now: the tables of the run before go. */
    scratch_text(s, "a.csv", "who,what,at,click\n1,5,1650882384,1\n2,6,1650882385,0\n");
    options.n_inputs = 1;
    report = run_ok(&options);
    assert_true(!report.item_ids_path[0] && !report.user_ids_path[0]);
    assert_int_equal(count_entries(scratch_path(s, "custom")), 3);
    assert_string_equal(h.text, "no session has at least 2 events, so the sessions file is empty\n");
    dataset = open_ok(report.sequences_path);
    hstu_ranking_options ranking;
    hstu_ranking_samples *samples = NULL;
    hstu_error err = {0};
    hstu_ranking_options_init(&ranking);
    ranking.max_candidates = 1;
    assert_int_equal(hstu_ranking_samples_open(&samples, dataset, &ranking, &err), HSTU_EINVAL); /* one event each */
    hstu_dataset_close(dataset);
}

/* Names in another encoding do not make the metadata invalid. */
static void test_custom_strange_names(void **state)
{
    scratch *s = *state;
    char path[512];
    const char *input[] = {path};
    size_t n = 0;
    scratch_text(s, "caf\xe9.csv", "user_id,item_id,zeit\xe9\n1,2,1650882384\n1,caf\xe9,1650882385\n");
    (void)snprintf(path, sizeof path, "%s", s->path);
    hstu_preprocess_options options = options_for(s, "custom");
    options.input = input;
    options.n_inputs = 1;
    options.time_column = "zeit\xe9";
    const hstu_preprocess_report report = run_ok(&options);
    char *file = read_whole(report.sequences_path, &n);
    const char *header = file + 8, *end = strstr(header, "user_id\":{");
    assert_non_null(end);
    for (const char *c = header; c < end; c++)
        assert_true((unsigned char)*c >= 0x20 && (unsigned char)*c < 0x7f);
    assert_non_null(strstr(header, "zeit?"));
    assert_non_null(strstr(header, "\\\"name\\\":\\\"caf?.csv\\\""));
    assert_non_null(strstr(header, "'caf?' in caf?.csv, line 3, is no whole number from 0"));
    free(file);
    assert_file(s, "custom/item_ids.csv", "item_id,text\n1,2\n2,caf\xe9\n");
}

/* What a run that fails leaves: the files of the one before, whole. */
static void test_failure_keeps_files(void **state)
{
    scratch *s = *state;
    char path[512];
    const char *input[] = {path};
    scratch_text(s, "a.csv", "user_id,item_id,timestamp\nann,red,1650882384\n");
    (void)snprintf(path, sizeof path, "%s", s->path);
    hstu_preprocess_options options = options_for(s, "custom");
    options.input = input;
    options.n_inputs = 1;
    (void)run_ok(&options);
    scratch_text(s, "a.csv", "user_id,item_id,timestamp\nann,red,1650882384\nann,blue,never\n");
    expect_refusal(&options, HSTU_EFORMAT, "a.csv', line 3, column 3 (timestamp): expected seconds");
    assert_file(s, "custom/item_ids.csv", "item_id,text\n1,red\n");
    assert_int_equal(count_entries(scratch_path(s, "custom")), 5);
    (void)snprintf(path, sizeof path, "%s", scratch_path(s, "custom/../custom/item_ids.csv"));
    expect_refusal(&options, HSTU_EINVAL, "item_ids.csv' stands where a result is written: rename it");
    options.n_inputs = 0;
    expect_refusal(&options, HSTU_EINVAL, "custom data want files: name them as input");
    options.dataset_name = "ml-25m";
    expect_refusal(&options, HSTU_EINVAL,
        "dataset_name must be KuaiRand-Pure, KuaiRand-1K, KuaiRand-27K, ml-1m, ml-20m or custom, in any case, not "
        "'ml-25m'");
    options.dataset_name = "ml-20m";
    expect_refusal(&options, HSTU_ENOENT, "/ml-20m/ratings.csv' does not exist: extract ml-20m there");
    scratch_mkdir(s, "ml-20m");
    scratch_text(s, "ml-20m/ratings.csv", "userId,movieId,rating,timestamp\n");
    expect_refusal(&options, HSTU_EFORMAT, "/ml-20m/ratings.csv' hold no rows");
    assert_int_equal(count_entries(scratch_path(s, "ml-20m")), 1);
}

/* The outputs do not depend on threads or memory. */
static void test_any_threads_and_memory(void **state)
{
    enum { N = 30000 };
    scratch *s = *state;
    char *log = malloc((size_t)N * 40), *seen[3][4];
    char path[512];
    const char *input[] = {path};
    size_t first[4] = {0};
    static const char *const names[] = {"ml-20m/sasrec_format.csv", "ml-20m/processed_seqs.csv",
        "ml-20m/sequences.safetensors", "custom/sequences.safetensors"};
    assert_non_null(log);
    size_t n = (size_t)snprintf(log, 40, "userId,movieId,rating,timestamp\n");
    for (unsigned i = 0; i < N; i++)
        n += (size_t)snprintf(
            log + n, 40, "%u,%u,%u.5,%u\n", 1 + i * 7919 % 997, 1 + i * i % 1009, i % 5, i * 31 % 20000);
    scratch_mkdir(s, "ml-20m");
    scratch_write(s, "ml-20m/ratings.csv", log, n);
    (void)snprintf(path, sizeof path, "%s", s->path);
    free(log);
    for (int k = 0; k < 3; k++) {
        hstu_preprocess_options options = options_for(s, "ml-20m");
        options.threads = 1 + 2 * k;
        options.memory_limit = k == 1 ? 1 << 20 : 256 << 20;
        (void)run_ok(&options);
        options.dataset_name = "custom";
        options.memory_limit = k == 1 ? 2 << 20 : 256 << 20;
        options.input = input;
        options.n_inputs = 1;
        options.user_column = "userId";
        options.item_column = "movieId";
        options.text_ids = 1;
        (void)run_ok(&options);
        for (size_t i = 0; i < 4; i++) {
            size_t size = 0;
            seen[k][i] = read_whole(scratch_path(s, names[i]), &size);
            if (k == 0)
                first[i] = size;
            assert_int_equal(size, first[i]);
            assert_memory_equal(seen[k][i], seen[0][i], size);
        }
    }
    for (int k = 0; k < 3; k++) {
        for (size_t i = 0; i < 4; i++)
            free(seen[k][i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_movielens_files, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_movielens_opens, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_movielens_absent_user, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_ranking_times, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_custom_files, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_custom_strange_names, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_failure_keeps_files, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_any_threads_and_memory, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
