/* From logs to a report on the command line: custom logs and MovieLens, with random weights. */
#include "cli/program_run.h"

#include "dataset/scratch.h"

enum { LINE = 2048 };

static cJSON *report_of(const char *line)
{
    expect_done(line);
    return parse_output();
}

static const char *text(const cJSON *root, const char *key)
{
    const char *found = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, key));
    assert_non_null(found);
    return found;
}

static void test_custom(void **state)
{
    scratch *s = *state;
    char line[LINE];
    scratch_text(s, "views.csv",
        "who;sku;at;click;buy\nann;red;2022-04-25T10:26:24Z;1;0\nann;blue;2022-04-25T10:26:30Z;1;1\n"
        "ann;green;2022-04-25T10:27:00Z;0;0\nbob;blue;2022-04-26;1;0\nbob;red;2022-04-27;0;0\n");
    scratch_text(s, "more.csv", "at;who;sku;buy;click\n2022-04-28 10:00;bob;green;0;1\n2022-04-25;cid;red;1;1\n");
    (void)snprintf(line, sizeof line,
        "preprocess --dataset_name custom --data_root %s/not/there --input %s/views.csv --input %s/more.csv "
        "--user_column who "
        "--item_column sku --time_column at --time_unit iso --delimiter ; --action_columns click,buy=128",
        s->folder, s->folder, s->folder);
    expect_done(line);
    assert_non_null(strstr(last.out, "custom/item_ids.csv\n"));
    assert_non_null(strstr(last.out, "custom/user_ids.csv\n"));
    assert_string_equal(last.err, "");
    (void)snprintf(line, sizeof line,
        "run --config kuairand_gr --dataset %s/not/there/custom/sequences.safetensors --protocol leave-one-out "
        "--batch_size 2 "
        "--warmup 0 --top_k 2 --filter_seen off --output %s/top.csv",
        s->folder, s->folder);
    cJSON *root = report_of(line);
    assert_string_equal(text(root, "dataset"), "custom");
    assert_int_equal((int)number(root, "requests"), 2); /* cid has one event */
    assert_int_equal((int)number(root, "vocab_size"), 4);
    cJSON_Delete(root);
    size_t n = 0;
    char *top = read_whole(scratch_path(s, "top.csv"), &n);
    assert_ptr_equal(strstr(top, "user_id,target,rank,top_k\n1,3,"), top);
    assert_non_null(strstr(top, "\n2,3,"));
    free(top);
    /* Its sessions, as the original has them. */
    (void)snprintf(line, sizeof line,
        "run --config kuairand_gr --dataset %s/not/there/custom/processed_inference_sequences.csv --warmup 0",
        s->folder);
    root = report_of(line);
    assert_int_equal((int)number(root, "requests"), 1);
    cJSON_Delete(root);
}

/* Whatever file a ranking model of classes reads, it answers alike. */
static void test_movielens(void **state)
{
    enum { USERS = 4, EVENTS = 22 };
    scratch *s = *state;
    static char ratings[USERS * EVENTS * 32], first[MAX_OUTPUT];
    char line[LINE];
    size_t at = (size_t)snprintf(ratings, sizeof ratings, "userId,movieId,rating,timestamp\n");
    for (int u = 1; u <= USERS; u++) {
        for (int i = 0; i < EVENTS; i++)
            at += (size_t)snprintf(ratings + at, sizeof ratings - at, "%d,%d,%d.%d,%d\n", u, 1 + (u * 5 + i * 3) % 40,
                (i + u) % 5, i + u == 1 || (i + u) % 5 == 0 ? 5 : 0, 1000 + i);
    }
    scratch_mkdir(s, "ml-20m");
    scratch_text(s, "ml-20m/ratings.csv", ratings);
    scratch_text(s, "ml-20m/movies.csv", "movieId,title,genres\n41,\"Never, rated (1999)\",Drama\n3,b (1999),Drama\n");
    (void)snprintf(
        line, sizeof line, "preprocess --dataset_name ml-20m --data_root %s --no_download --quiet", s->folder);
    expect_done(line);
    static const char *const files[] = {"sequences.safetensors", "processed_seqs.csv"};
    for (size_t i = 0; i < 2; i++) {
        size_t n = 0;
        (void)snprintf(line, sizeof line,
            "run --config ml_20m_ranking --dataset %s/ml-20m/%s --split all --warmup 0 --output %s/logits.csv",
            s->folder, files[i], s->folder);
        cJSON *root = report_of(line);
        const cJSON *classes = cJSON_GetObjectItemCaseSensitive(root, "multiclass");
        assert_non_null(classes);
        assert_int_equal((int)number(classes, "classes"), 10);
        assert_int_equal((int)number(root, "requests"), USERS);
        assert_int_equal((int)number(root, "n_candidates"), USERS * 20);
        cJSON_Delete(root);
        char *logits = read_whole(scratch_path(s, "logits.csv"), &n);
        assert_true(n < sizeof first);
        if (i == 0)
            memcpy(first, logits, n + 1);
        assert_string_equal(logits, first);
        free(logits);
    }
    /* A retrieval model's item table is the preset's, so any movie may be a candidate. */
    (void)snprintf(line, sizeof line,
        "run --config ml-20m --dataset %s/ml-20m/sasrec_format.csv --candidates %s/ml-20m/candidates.txt --warmup 0 "
        "--top_k 1 --steps 1 --batch_size 1",
        s->folder, s->folder);
    cJSON *root = report_of(line);
    assert_int_equal((int)number(root, "requests"), 1);
    cJSON_Delete(root);
}

static int cleanup(void **state)
{
    run_cleanup();
    return scratch_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_custom, scratch_setup, cleanup),
        cmocka_unit_test_setup_teardown(test_movielens, scratch_setup, cleanup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
