/* The public calls on a small random model: what they check, what they leave alone, and that no answer depends on its batch. */
#include "engine/fixture.h"

enum { DIM = 16, ITEMS = FIXTURE_ITEMS, WINDOW = 20 };

#define CONFIG(more)                                                                                                   \
    "{\"max_sequence_length\": 20, \"item_embedding_dim\": 16, \"num_blocks\": 2, \"num_heads\": 2, \"dqk\": 8, "      \
    "\"dv\": 4, "                                                                                                      \
    "\"max_item_id\": 300" more "}"

/* More users than one forward pass takes, each also alone, and on another number of threads: bit for bit the same. */
static void test_answers_do_not_depend_on_the_batch(void **state)
{
    enum { USERS = 1500, K = 30 };
    fixture f, threads;
    requests r;
    hstu_error err;
    static float all[USERS * DIM], again[USERS * DIM], alone[DIM], score[USERS * K], score_alone[K];
    static int64_t item[USERS * K], item_alone[K];
    hstu_recommend_options seen;
    (void)state;
    hstu_recommend_options_init(&seen);
    seen.filter_seen = 1;
    open_fixture(&f, CONFIG(""), 1);
    open_fixture(&threads, CONFIG(""), 3);
    make_requests(&r, USERS, WINDOW);
    assert_true(r.offset[USERS] > 8192);
    assert_ok(hstu_encode(f.session, &r.batch, all, USERS * DIM, &err), &err);
    assert_ok(hstu_encode(threads.session, &r.batch, again, USERS * DIM, &err), &err);
    assert_memory_equal(all, again, sizeof all);
    assert_ok(hstu_recommend(threads.session, &r.batch, K, &seen, item, score, NULL, &err), &err);
    for (size_t u = 0; u < USERS; u += 7) {
        int64_t offset[2];
        const hstu_batch b = one_user(&r, u, offset);
        assert_ok(hstu_encode(f.session, &b, alone, DIM, &err), &err);
        assert_memory_equal(alone, all + u * DIM, sizeof alone);
        assert_ok(hstu_recommend(f.session, &b, K, &seen, item_alone, score_alone, NULL, &err), &err);
        assert_memory_equal(item_alone, item + u * K, sizeof item_alone);
        assert_memory_equal(score_alone, score + u * K, sizeof score_alone);
    }
    free_requests(&r);
    close_fixture(&threads);
    close_fixture(&f);
}

/* Of a long history the newest 20 events count, for the embedding and for the filter. */
static void test_truncation(void **state)
{
    fixture f;
    requests r;
    hstu_error err;
    float whole[DIM], cut[DIM], score[ITEMS];
    int64_t offset[2], item[ITEMS];
    (void)state;
    open_fixture(&f, CONFIG(""), 1);
    make_requests(&r, 8, 60);
    size_t u = 0;
    while (r.offset[u + 1] - r.offset[u] <= WINDOW)
        u++;
    hstu_batch b = one_user(&r, u, offset);
    const int64_t more = offset[1] - WINDOW;
    assert_ok(hstu_encode(f.session, &b, whole, DIM, &err), &err);
    hstu_recommend_options options;
    hstu_recommend_options_init(&options);
    options.filter_seen = 1;
    assert_ok(hstu_recommend(f.session, &b, ITEMS, &options, item, score, NULL, &err), &err);
    const int64_t *window = b.item_id + more;
    for (int64_t id = 1; id <= ITEMS; id++) {
        bool seen = false, found = false;
        for (int i = 0; i < WINDOW; i++)
            seen = seen || window[i] == id;
        for (int i = 0; i < ITEMS; i++)
            found = found || item[i] == id;
        assert_int_equal(found, !seen);
    }
    b.item_id += more;
    b.timestamp += more;
    offset[1] = WINDOW;
    assert_ok(hstu_encode(f.session, &b, cut, DIM, &err), &err);
    assert_memory_equal(whole, cut, sizeof whole);
    free_requests(&r);
    close_fixture(&f);
}

static void test_candidates(void **state)
{
    fixture f;
    requests r;
    hstu_error err;
    int64_t item[6], rank[2];
    float score[6];
    static const int64_t shared[] = {40, 7, 40, 100}, own[] = {9, 5}, cand_offset[] = {0, 0, 2}, target[] = {100, 6};
    (void)state;
    open_fixture(&f, CONFIG(""), 1);
    make_requests(&r, 2, WINDOW);
    r.batch.cand_offset = cand_offset;
    r.batch.cand_id = own;
    hstu_recommend_options options;
    hstu_recommend_options_init(&options);
    options.candidate_id = shared;
    options.n_candidates = 4;
    options.target_id = target;
    assert_ok(hstu_recommend(f.session, &r.batch, 3, &options, item, score, rank, &err), &err);
    /* User 0 has none of its own and gets the shared ones, each once; user 1 its own two, and an empty place. */
    assert_int_equal(item[0] + item[1] + item[2], 40 + 7 + 100);
    assert_true(score[0] >= score[1] && score[1] >= score[2]);
    assert_int_equal(item[rank[0] - 1], 100);
    assert_int_equal(item[3] + item[4], 9 + 5);
    assert_int_equal(item[5], -1);
    assert_true(score[5] == -INFINITY);
    assert_int_equal(rank[1], 0); /* 6 is no candidate of user 1 */

    /* The same scores as among all items. */
    static int64_t all_item[ITEMS];
    static float all_score[ITEMS];
    int64_t offset[2];
    const hstu_batch b = one_user(&r, 1, offset);
    assert_ok(hstu_recommend(f.session, &b, ITEMS, NULL, all_item, all_score, NULL, &err), &err);
    for (int i = 0; i < ITEMS; i++) {
        if (all_item[i] == item[3])
            assert_true(all_score[i] == score[3]);
    }
    free_requests(&r);
    close_fixture(&f);
}

/* Users with their own candidates between users without: each answer is the one that the user gets alone. */
static void test_candidates_of_some_users(void **state)
{
    enum { USERS = 6, K = 4 };
    fixture f;
    requests r;
    hstu_error err;
    int64_t item[USERS * K], item_alone[K], rank[USERS], rank_alone;
    float score[USERS * K], score_alone[K];
    static const int64_t own[] = {9, 5, 120, 77, 5}, cand_offset[USERS + 1] = {0, 0, 0, 3, 3, 3, 5};
    static const int64_t target[USERS] = {1, 50, 120, 200, 5, 77};
    (void)state;
    open_fixture(&f, CONFIG(""), 1);
    make_requests(&r, USERS, WINDOW);
    r.batch.cand_offset = cand_offset;
    r.batch.cand_id = own;
    hstu_recommend_options options;
    hstu_recommend_options_init(&options);
    options.filter_seen = 1;
    options.target_id = target;
    assert_ok(hstu_recommend(f.session, &r.batch, K, &options, item, score, rank, &err), &err);
    for (size_t u = 0; u < USERS; u++) {
        int64_t offset[2];
        hstu_batch b = one_user(&r, u, offset);
        const int64_t n_own = cand_offset[u + 1] - cand_offset[u];
        options.candidate_id = n_own ? own + cand_offset[u] : NULL;
        options.n_candidates = (size_t)n_own;
        options.target_id = target + u;
        assert_ok(hstu_recommend(f.session, &b, K, &options, item_alone, score_alone, &rank_alone, &err), &err);
        assert_memory_equal(item + u * K, item_alone, sizeof item_alone);
        assert_memory_equal(score + u * K, score_alone, sizeof score_alone);
        assert_int_equal(rank[u], rank_alone);
    }
    free_requests(&r);
    close_fixture(&f);
}

static void test_candidates_of_the_configuration(void **state)
{
    fixture f;
    requests r;
    hstu_error err;
    int64_t item[4];
    float score[4];
    (void)state;
    open_fixture(&f, CONFIG(", \"candidate_ids\": [11, 22, 33]"), 1);
    make_requests(&r, 1, WINDOW);
    assert_ok(hstu_recommend(f.session, &r.batch, 4, NULL, item, score, NULL, &err), &err);
    assert_int_equal(item[0] + item[1] + item[2], 66);
    assert_int_equal(item[3], -1);
    free_requests(&r);
    close_fixture(&f);
}

static void refused(fixture *f, const hstu_batch *b, const hstu_recommend_options *options, const char *part)
{
    hstu_error err = {0};
    int64_t item[4] = {-7, -7, -7, -7}, rank[2] = {-7, -7};
    float score[4] = {-7.0f, -7.0f, -7.0f, -7.0f};
    const bool wants_rank = options && options->target_id;
    assert_int_equal(
        hstu_recommend(f->session, b, 2, options, item, score, wants_rank ? rank : NULL, &err), HSTU_EINVAL);
    if (!strstr(err.msg, part))
        fail_msg("\"%s\", expected \"%s\"", err.msg, part);
    for (int i = 0; i < 4; i++)
        assert_true(item[i] == -7 && score[i] == -7.0f && rank[i / 2] == -7);
}

static void test_bad_batches(void **state)
{
    fixture f;
    (void)state;
    open_fixture(&f, CONFIG(""), 1);
    int64_t offset[] = {0, 2, 3}, item[] = {1, 2, 300}, time[] = {5, 4, 9}, query[] = {6, 10};
    hstu_batch b = {.n_users = 2, .offset = offset, .item_id = item, .timestamp = time, .query_time = query};
    hstu_error err;
    float out[2 * DIM];
    assert_ok(hstu_encode(f.session, &b, out, 2 * DIM, &err), &err); /* times may go backwards */
    assert_int_equal(hstu_encode(f.session, &b, out, 2 * DIM - 1, &err), HSTU_EINVAL);

    item[2] = 301;
    refused(&f, &b, NULL, "user 1: item id 301 (event 0) is outside 1 .. 300 of the item table with 301 rows");
    item[2] = 0;
    refused(&f, &b, NULL, "user 1: item id 0");
    item[2] = INT64_MIN;
    refused(&f, &b, NULL, "user 1: item id -9223372036854775808");
    item[2] = 300;
    offset[1] = 3;
    refused(&f, &b, NULL, "user 1: offset goes from 3 to 3, expected at least one event");
    offset[1] = 4;
    refused(&f, &b, NULL, "user 1: offset goes from 4 to 3");
    offset[0] = 1;
    refused(&f, &b, NULL, "offset[0] is 1");
    offset[0] = 0;
    offset[1] = 2;
    b.query_time = NULL;
    refused(&f, &b, NULL, "no query_time");
    b.query_time = query;

    int64_t cand_offset[] = {0, 1, 2}, cand[] = {5, 301};
    b.cand_offset = cand_offset;
    refused(&f, &b, NULL, "no cand_id");
    b.cand_id = cand;
    refused(&f, &b, NULL, "user 1: candidate id 301 is outside 1 .. 300");
    cand_offset[1] = 3;
    refused(&f, &b, NULL, "user 1: cand_offset goes down from 3 to 2");
    b.cand_offset = NULL;

    hstu_recommend_options options;
    hstu_recommend_options_init(&options);
    const int64_t bad[] = {4, 0};
    options.candidate_id = bad;
    options.n_candidates = 2;
    refused(&f, &b, &options, "candidate id 0 is outside 1 .. 300");
    options.candidate_id = NULL;
    options.target_id = bad;
    refused(&f, &b, &options, "user 1: target id 0");
    hstu_recommend_options_init(&options);
    options.size = 0;
    refused(&f, &b, &options, "hstu_recommend_options_init");
    close_fixture(&f);
}

static void test_nobody_and_nothing(void **state)
{
    fixture f;
    hstu_error err;
    (void)state;
    open_fixture(&f, CONFIG(""), 1);
    const hstu_batch nobody = {.n_users = 0};
    assert_ok(hstu_encode(f.session, &nobody, NULL, 0, &err), &err);
    assert_ok(hstu_recommend(f.session, &nobody, 0, NULL, NULL, NULL, NULL, &err), &err);
    hstu_session_close(NULL);
    hstu_model_close(NULL);
    close_fixture(&f);
}

/* Once the workspace has grown, a call of the same size allocates nothing: the blocks stay where they are. */
static void test_workspace_is_kept(void **state)
{
    fixture f;
    requests r;
    hstu_error err;
    int64_t item[40 * 5];
    float score[40 * 5];
    const struct hs_arena_block *call = NULL, *scratch = NULL;
    (void)state;
    open_fixture(&f, CONFIG(""), 2);
    make_requests(&r, 40, WINDOW);
    hstu_recommend_options options;
    hstu_recommend_options_init(&options);
    options.filter_seen = 1;
    for (int i = 0; i < 4; i++) {
        assert_ok(hstu_recommend(f.session, &r.batch, 5, &options, item, score, NULL, &err), &err);
        if (i == 3) {
            assert_ptr_equal(f.session->call.block, call);
            assert_ptr_equal(f.session->whole.scratch.block, scratch);
        }
        call = f.session->call.block;
        scratch = f.session->whole.scratch.block;
    }
    free_requests(&r);
    close_fixture(&f);
}

static void open_refused(const hstu_model_options *options, hstu_status status, const char *part)
{
    hstu_model *model = NULL;
    hstu_error err = {0};
    assert_int_equal(hstu_model_open(&model, NULL, options, &err), status);
    assert_null(model);
    if (!strstr(err.msg, part))
        fail_msg("\"%s\", expected \"%s\"", err.msg, part);
}

static void test_model_options(void **state)
{
    hstu_model_options o;
    (void)state;
    hstu_model_options_init(&o);
    open_refused(&o, HSTU_EINVAL, "kuairand_gr does not fix the number of items");
    o.dtype = "fp16";
    open_refused(&o, HSTU_EUNSUP, "fp16");
    hstu_model_options_init(&o);
    o.device = "tpu";
    open_refused(&o, HSTU_EDEVICE, "tpu");
    hstu_model_options_init(&o);
    o.threads = -1;
    open_refused(&o, HSTU_EINVAL, "threads is -1");
    hstu_model_options_init(&o);
    o.config = "kuairand_g";
    open_refused(&o, HSTU_ENOENT, "kuairand_gr");
    o.size = 4;
    open_refused(&o, HSTU_EINVAL, "hstu_model_options_init");
}

static void test_info(void **state)
{
    hstu_model_info info;
    hstu_error err;
    (void)state;
    assert_ok(hstu_config_get_info("kuairand-gr", &info, &err), &err);
    assert_string_equal(info.config, "kuairand_gr");
    assert_string_equal(info.default_dataset, "KuaiRand-1K");
    assert_int_equal(info.dim, 512);
    assert_int_equal(info.max_sequence_length, 128);
    assert_int_equal(info.attention_n, 139);
    assert_int_equal(info.max_item_id, 0);
    assert_int_equal(info.default_protocol, HSTU_PROTOCOL_SESSIONS);
    assert_int_equal(info.default_top_k, 5);
    assert_int_equal(info.default_sequence_length, 128);
    assert_int_equal(info.history.item_id_offset, 1);
    assert_int_equal(info.history.max_sequence_length, 256);
    assert_int_equal(info.history.max_history, 128);
    assert_true(info.uses_time);
    assert_ok(hstu_config_get_info("ml-1m-sasrec", &info, &err), &err);
    assert_string_equal(info.main_module, "SASRec");
    assert_false(info.uses_time);
    assert_int_equal(info.dqk, 50);

    fixture f;
    open_fixture(&f, CONFIG(""), 2);
    hstu_model_get_info(f.model, &info);
    assert_non_null(strstr(info.config, ".json"));
    assert_true(info.random_weights);
    assert_int_equal(info.threads, 2);
    assert_int_equal(info.max_item_id, ITEMS);
    assert_int_equal(info.weight_bytes, 4 * info.n_parameters);
    assert_non_null(info.isa);
    close_fixture(&f);
    assert_string_equal(hstu_preset_name(0), "kuairand_gr");
    assert_null(hstu_preset_name(1000));
    assert_string_equal(hstu_version(), "0.2.2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_do_not_depend_on_the_batch),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_candidates),
        cmocka_unit_test(test_candidates_of_some_users),
        cmocka_unit_test(test_candidates_of_the_configuration),
        cmocka_unit_test(test_bad_batches),
        cmocka_unit_test(test_nobody_and_nothing),
        cmocka_unit_test(test_workspace_is_kept),
        cmocka_unit_test(test_model_options),
        cmocka_unit_test(test_info),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
