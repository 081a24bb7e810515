/* Ranking models through the whole program: requests against the reference's logits, random weights, and what is
 * refused. */
#include "cli/program_run.h"

#include "engine/golden_ranking.h"

#include <stdlib.h>

enum { CLASSES = 8, LINE = 4096 };

static const char requests_path[] = "test_rank_run.jsonl", output_path[] = "test_rank_run.csv";
static const char folder[] = "ranking/c6_fused_fp32";

static void put_ids(FILE *out, const char *key, const int64_t *id, int64_t from, int64_t to)
{
    (void)fprintf(out, "\"%s\": [", key);
    for (int64_t i = from; i < to; i++)
        (void)fprintf(out, i > from ? ", %lld" : "%lld", (long long)id[i]);
    (void)fputs("], ", out);
}

/* The case's users that have candidates, one line each; with the actions of the candidates in the training layout. */
static void write_requests(const ranking_case *c, bool training)
{
    const hstu_batch *b = training ? &c->batch.training : &c->batch.inference;
    const int64_t *action_offset = training ? b->action_offset : b->offset;
    const hs_config *config = &c->model->model.config;
    FILE *out = fopen(requests_path, "wb");
    assert_non_null(out);
    for (size_t u = 0; u < b->n_users; u++) {
        if (b->cand_offset[u] == b->cand_offset[u + 1])
            continue;
        (void)fputs("{", out);
        put_ids(out, "items", b->item_id, b->offset[u], b->offset[u + 1]);
        put_ids(out, "actions", b->action, action_offset[u], action_offset[u + 1]);
        put_ids(out, "candidates", b->cand_id, b->cand_offset[u], b->cand_offset[u + 1]);
        (void)fprintf(out, "\"user\": %lld, \"context\": {", (long long)b->context[(int)u * config->n_context]);
        for (int f = 1; f < config->n_context; f++)
            (void)fprintf(out, "%s\"%s\": %lld", f > 1 ? ", " : "", config->context[f].name,
                (long long)b->context[(int)u * config->n_context + f]);
        (void)fputs("}}\n", out);
    }
    assert_int_equal(fclose(out), 0);
}

static void run_requests(ranking_case *c, const char *options)
{
    char line[LINE], checkpoint[1024];
    (void)snprintf(checkpoint, sizeof checkpoint, "%s", golden_path(folder, "checkpoint"));
    (void)snprintf(line, sizeof line, "run --checkpoint %s --config %s --requests %s %s", checkpoint,
        scratch_path(&c->files, "config.json"), requests_path, options);
    (void)run(line);
}

/* Every answer's rows under `key`, one behind the other; how many numbers there are. */
static int64_t collect(const char *key, float *out)
{
    static char text[MAX_OUTPUT];
    int64_t n = 0;
    memcpy(text, last.out, sizeof text);
    for (char *save = NULL, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        cJSON *root = parse_text(line);
        const cJSON *row = NULL, *value = NULL;
        cJSON_ArrayForEach(row, cJSON_GetObjectItemCaseSensitive(root, key))
        {
            assert_int_equal(cJSON_GetArraySize(row), CLASSES);
            cJSON_ArrayForEach(value, row) out[n++] = (float)value->valuedouble;
        }
        cJSON_Delete(root);
    }
    return n;
}

static void compare(const hs_statedict *expected, const char *key, double relative)
{
    float found[64 * CLASSES];
    int64_t n = 0;
    float *golden = golden_f32(expected, key, &n);
    assert_int_equal(collect(key, found), n);
    assert_close(key, found, golden, n, relative * largest_magnitude(golden, n));
    hs_free(golden);
}

/* The reference's logits, whatever the batches and the layout of the actions. */
static void test_golden_requests(void **state)
{
    (void)state;
    static char first[MAX_OUTPUT];
    ranking_case c;
    hs_statedict expected;
    ranking_open(&c, folder, &(ranking_options){0});
    golden_open(&expected, folder, "expected.safetensors");
    for (int batch_size = 1; batch_size <= 4; batch_size++) {
        char options[64];
        (void)snprintf(options, sizeof options, "--batch_size %d", batch_size);
        write_requests(&c, batch_size % 2 == 0);
        run_requests(&c, options);
        assert_int_equal(last.code, HS_EXIT_DONE);
        assert_string_equal(last.err, "");
        if (batch_size == 1)
            memcpy(first, last.out, sizeof first);
        assert_string_equal(last.out, first);
    }
    compare(&expected, "logits", 2e-6);
    compare(&expected, "probabilities", 2e-6);
    assert_ptr_equal(strstr(first, "{\"user\": 11, \"candidates\": ["), first);
    hs_statedict_close(&expected);
    ranking_close(&c);
}

/* A request that the model cannot answer is named by its line, and those before it are answered, in whatever batch they
 * stand. */
static void test_bad_request(void **state)
{
    (void)state;
    static const char good[] = "{\"user\": 1, \"candidates\": [5], \"context\": {\"user_active_degree\": 1, "
                               "\"follow_user_num_range\": 1, \"fans_user_num_range\": 1, "
                               "\"friend_user_num_range\": 1, \"register_days_range\": 1}}\n";
    ranking_case c;
    char text[4096], bad[1024];
    ranking_open(&c, folder, &(ranking_options){0});
    (void)snprintf(bad, sizeof bad, "%s", good);
    *strstr(bad, "1, \"follow") = '9'; /* of a table with 8 rows */
    for (int batch_size = 1; batch_size <= 4; batch_size++) {
        char options[64];
        (void)snprintf(options, sizeof options, "--batch_size %d", batch_size);
        (void)snprintf(text, sizeof text, "%s\n%s%s", good, bad, batch_size == 4 ? "{}\n" : good);
        write_file(requests_path, text);
        run_requests(&c, options);
        assert_int_equal(last.code, HS_EXIT_FAILED);
        if (!strstr(last.err, "test_rank_run.jsonl: line 3: feature 'user_active_degree' has the id 9, outside 0 .. 7"))
            fail_msg("%s", last.err);
        assert_ptr_equal(strstr(last.out, "{\"user\": 1, \"candidates\": [5], "), last.out);
        assert_ptr_equal(strchr(last.out, '\n'), last.out + strlen(last.out) - 1);
    }
    ranking_close(&c);
}

/* Of a data set the user is named, whatever the batches; nothing is written. */
static void test_bad_data(void **state)
{
    (void)state;
    ranking_case c;
    char line[LINE];
    ranking_open(&c, folder, &(ranking_options){0});
    FILE *out = fopen(scratch_path(&c.files, "data.csv"), "wb");
    assert_non_null(out);
    (void)fputs("user_id,video_id,time_ms,action_weights,user_active_degree,follow_user_num_range,fans_user_num_range,"
                "friend_user_num_range,register_days_range\n",
        out);
    for (int u = 40; u < 44; u++)
        (void)fprintf(out, "%d,\"[1, 2, 3]\",\"[1, 2, 3]\",\"[1, 2, 3]\",%d,1,1,1,1\n", u, u < 42 ? 7 : 9);
    assert_int_equal(fclose(out), 0);
    for (int batch_size = 1; batch_size <= 4; batch_size++) {
        const size_t n = (size_t)snprintf(line, sizeof line, "run --checkpoint %s --dataset %s/data.csv --split all ",
            golden_path(folder, "checkpoint"), c.files.folder);
        (void)snprintf(line + n, sizeof line - n,
            "--config %s/config.json --max_candidates 2 --batch_size %d --output %s", c.files.folder, batch_size,
            output_path);
        expect_error(
            line, HS_EXIT_FAILED, "data.csv: user 42: feature 'user_active_degree' has the id 9, outside 0 .. 7");
        assert_int_not_equal(access(output_path, F_OK), 0);
    }
    ranking_close(&c);
}

/* The results must not replace what the run reads without being told to: files of a checkpoint's folder, a config.json
 * beside. */
static void test_output_is_no_input(void **state)
{
    (void)state;
    char line[LINE], checkpoint[1024];
    ranking_case c;
    scratch beside;
    ranking_open(&c, folder, &(ranking_options){0});
    (void)snprintf(checkpoint, sizeof checkpoint, "%s/folder", c.files.folder);
    assert_int_equal(symlink(golden_path(folder, "checkpoint"), checkpoint), 0);
    static const char *const names[] = {"torch_module/model.0.pth", "no_such_file.csv", "../checkpoint/new.csv"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        (void)snprintf(line, sizeof line, "run --checkpoint %s --config %s --output %s/%s", checkpoint,
            scratch_path(&c.files, "config.json"), checkpoint, names[i]);
        expect_error(line, HS_EXIT_FAILED, "--output wants a file outside the checkpoint's folder");
    }
    ranking_close(&c);

    scratch_open(&beside);
    scratch_copy(&beside, "checkpoint.pt", golden_path("decoder/model_fp32", "model_raw.pt"));
    scratch_copy(&beside, "config.json", golden_path("decoder/model_fp32", "config.json"));
    scratch_text(&beside, "data.csv", "user_id,sequence,actions,length\n1,\"[2, 3]\",\"[0, 0]\",2\n");
    (void)snprintf(line, sizeof line, "run --checkpoint %s/checkpoint.pt --dataset %s/data.csv --output %s/config.json",
        beside.folder, beside.folder, beside.folder);
    expect_error(line, HS_EXIT_FAILED, "which holds the config");
    remove_folder(beside.folder);
}

/* Figures mean nothing, but they hang together, and depend on the seed alone. */
static void test_random_weights(void **state)
{
    (void)state;
    static char first[MAX_OUTPUT];
    static const char base[] = "run --config kuairand_pure_ranking --dataset " TEST_DATA
                               "/kuairand_tiny/processed_ranking_one_log/processed_seqs.csv --split all "
                               "--max_candidates 1 --output test_rank_run.csv ";
    static const char *const options[] = {"--batch_size 1 --threads 1", "--batch_size 2 --threads 2", "--seed 1"};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char line[LINE];
        (void)snprintf(line, sizeof line, "%s%s", base, options[i]);
        expect_done(line);
        assert_non_null(strstr(last.err, "hstu: warning: no --checkpoint was given: the weights are random"));
        cJSON *root = parse_output();
        const cJSON *tasks = cJSON_GetObjectItemCaseSensitive(root, "tasks");
        assert_int_equal(cJSON_GetArraySize(tasks), 8);
        for (const cJSON *task = tasks->child; task; task = task->next)
            assert_int_equal((int)(number(task, "positives") + number(task, "negatives")), 4);
        assert_int_equal((int)number(root, "requests"), 4);
        assert_int_equal((int)number(root, "n_candidates"), 4);
        assert_true(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "random_weights")));
        assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "family")), "ranking");
        cJSON_Delete(root);
        read_file(output_path, last.out);
        if (i == 0)
            memcpy(first, last.out, sizeof first);
        assert_ptr_equal(strstr(last.out, "user_id,candidate,label,logit0,"), last.out);
        assert_int_equal(strcmp(last.out, first) == 0, i < 2);
    }
    /* Requests too need the data set: its ids say how many random rows there are. */
    write_file(requests_path, "{\"user\": 3, \"candidates\": [24], \"context\": {\"user_active_degree\": 1, "
                              "\"follow_user_num_range\": 1, \"fans_user_num_range\": 1, "
                              "\"friend_user_num_range\": 1, \"register_days_range\": 1}}\n");
    expect_done("run --config kuairand_pure_ranking --requests test_rank_run.jsonl --dataset " TEST_DATA
                "/kuairand_tiny/processed_ranking_one_log/processed_seqs.csv");
    assert_ptr_equal(strstr(last.out, "{\"user\": 3, \"candidates\": [24], \"logits\": [["), last.out);
    assert_null(strstr(last.err, "--dataset has no effect"));
    expect_error("run --config kuairand_pure_ranking --requests test_rank_run.jsonl --data_root no_such_folder",
        HS_EXIT_FAILED, "write it with 'hstu preprocess --dataset_name KuaiRand-Pure --data_root no_such_folder'");
}

static void test_options_of_other_families(void **state)
{
    (void)state;
    static const char *const options[] = {"--top_k 3", "--filter_seen", "--candidates x", "--sequence_length 4",
        "--item_id_offset 1", "--min_events 3", "--max_sequences 2"};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char line[LINE];
        (void)snprintf(line, sizeof line, "run --config kuairand_pure_ranking %s", options[i]);
        expect_error(line, HS_EXIT_FAILED, "means nothing to a model of the family ranking");
    }
    expect_error("run --config kuairand_pure_ranking --protocol sessions", HS_EXIT_FAILED,
        "--protocol wants ranking or replay for a model of the family ranking, found 'sessions'");
    expect_error("run --config kuairand_pure_ranking --pad_attention", HS_EXIT_FAILED,
        "--pad_attention wants a model of the family decoder, found ranking");
    expect_error("run --requests x --split all", HS_EXIT_USAGE, "--requests and --split exclude each other");
}

static int remove_files(void **state)
{
    (void)state;
    run_cleanup();
    (void)unlink(requests_path);
    (void)unlink(output_path);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_requests),
        cmocka_unit_test(test_bad_request),
        cmocka_unit_test(test_bad_data),
        cmocka_unit_test(test_output_is_no_input),
        cmocka_unit_test(test_random_weights),
        cmocka_unit_test(test_options_of_other_families),
    };
    return cmocka_run_group_tests(tests, NULL, remove_files);
}
