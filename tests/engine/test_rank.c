/* hstu_rank through the public interface: what a candidate's logits depend on, and what is refused. */
#include "engine/golden_ranking.h"

#include <pthread.h>

enum { USERS = 40, CLASSES = 8, MOST_EVENTS = 60, MOST_CANDIDATES = 9, ITEMS = 51 };

static const char config[] =
    "{\"family\": \"ranking\", \"hidden_size\": 24, \"num_heads\": 2, \"head_dim\": 16, \"num_layers\": 2, "
    "\"num_position_buckets\": 64, \"max_history\": 40, \"max_num_candidates\": 8, \"contextual_mask\": true, "
    "\"contextual\": [\"user_id\", \"age\"], \"item_feature\": \"video_id\", \"action_feature\": \"action_weights\", "
    "\"prediction_head_arch\": [12, 8], \"num_tasks\": 8, "
    "\"tables\": [{\"name\": \"user_id\", \"dynamic\": true}, {\"name\": \"age\", \"dynamic\": false, "
    "\"rows\": 7}, {\"name\": \"video_id\", \"dynamic\": true}, {\"name\": \"action_weights\", \"dynamic\": "
    "false, \"rows\": 233}], "
    "\"feature_to_table\": {\"user_id\": \"user_id\", \"age\": \"age\", \"video_id\": \"video_id\", "
    "\"action_weights\": "
    "\"action_weights\"}}";

/* A model with random weights and a session with so many threads. */
static void open_random(hstu_model **model, hstu_session **session, int threads, const char *dtype)
{
    hstu_error err;
    hstu_model_options options;
    scratch files;
    scratch_open(&files);
    scratch_text(&files, "c.json", config);
    hstu_model_options_init(&options);
    options.config = scratch_path(&files, "c.json");
    options.threads = threads;
    options.dtype = dtype;
    options.seed = 5;
    options.max_item_id = ITEMS - 1;
    options.max_user_id = 29;
    assert_ok(hstu_model_open(model, NULL, &options, &err), &err);
    assert_ok(hstu_session_open(session, *model, &err), &err);
    remove_folder(files.folder);
}

typedef struct crowd {
    int64_t offset[USERS + 1], cand_offset[USERS + 1], context[USERS * 2];
    int64_t item[USERS * MOST_EVENTS], action[USERS * MOST_EVENTS], cand[USERS * MOST_CANDIDATES];
    hstu_batch batch;
} crowd;

/* Some users have no history, some no candidates, some neither; user ids and items beyond the tables are among them. */
static void make_crowd(crowd *c)
{
    *c = (crowd){.offset = {0}};
    for (int64_t u = 0; u < USERS; u++) {
        const int64_t events = u % 5 == 0 ? 0 : u * 37 % MOST_EVENTS, candidates = u % 7 == 3 ? 0 : u % MOST_CANDIDATES;
        c->offset[u + 1] = c->offset[u] + events;
        c->cand_offset[u + 1] = c->cand_offset[u] + candidates;
        c->context[2 * u] = u;
        c->context[2 * u + 1] = u % 7;
        for (int64_t i = c->offset[u]; i < c->offset[u + 1]; i++) {
            c->item[i] = (i * 29 + u) % (ITEMS + 9);
            c->action[i] = i * 31 % 233;
        }
        for (int64_t i = c->cand_offset[u]; i < c->cand_offset[u + 1]; i++)
            c->cand[i] = i * 17 % (ITEMS + 2);
    }
    c->batch = (hstu_batch){.n_users = USERS,
        .offset = c->offset,
        .item_id = c->item,
        .action = c->action,
        .cand_offset = c->cand_offset,
        .cand_id = c->cand,
        .context = c->context};
}

static float *rank(hstu_session *session, const hstu_batch *batch)
{
    hstu_error err;
    const size_t n = (size_t)batch->cand_offset[batch->n_users] * CLASSES;
    float *logits = hs_calloc(n, sizeof *logits);
    assert_ok(hstu_rank(session, batch, logits, n, &err), &err);
    return logits;
}

static void check_same_alone(hstu_session *session, const crowd *c, const float *logits)
{
    for (int64_t u = 0; u < USERS; u++) {
        const int64_t first = c->cand_offset[u], n = c->cand_offset[u + 1] - first;
        const int64_t offset[2] = {0, c->offset[u + 1] - c->offset[u]}, cand_offset[2] = {0, n};
        const hstu_batch alone = {.n_users = 1,
            .offset = offset,
            .item_id = c->item + c->offset[u],
            .action = c->action + c->offset[u],
            .cand_offset = cand_offset,
            .cand_id = c->cand + first,
            .context = c->context + 2 * u};
        float *found = rank(session, &alone);
        assert_memory_equal(found, logits + first * CLASSES, (size_t)(n * CLASSES) * sizeof *found);
        hs_free(found);
    }
}

/* In a batch or alone, on any number of threads. */
static void check_independence(const char *dtype)
{
    static crowd c;
    hstu_model *model = NULL;
    hstu_session *session = NULL;
    float *first = NULL;
    make_crowd(&c);
    const size_t bytes = (size_t)c.cand_offset[USERS] * CLASSES * sizeof *first;
    for (int threads = 1; threads <= 4; threads++) {
        open_random(&model, &session, threads, dtype);
        float *found = rank(session, &c.batch);
        if (first)
            assert_memory_equal(found, first, bytes);
        check_same_alone(session, &c, found);
        hs_free(first);
        first = found;
        hstu_session_close(session);
        hstu_model_close(model);
    }
    for (int64_t i = 0; i < c.cand_offset[USERS] * CLASSES; i++)
        assert_true(isfinite(first[i]));
    assert_true(memcmp(first, first + CLASSES, CLASSES * sizeof *first) != 0);
    hs_free(first);
}

static void test_independence(void **state)
{
    (void)state;
    check_independence("fp32");
    check_independence("bf16");
}

/* A thread with a session of its own. */
typedef struct caller {
    const hstu_model *model;
    const crowd *crowd;
    const float *expected;
    bool right;
} caller;

static void *call_often(void *ctx)
{
    caller *c = ctx;
    hstu_session *session = NULL;
    const size_t n = (size_t)c->crowd->cand_offset[USERS] * CLASSES;
    float *logits = hs_calloc(n, sizeof *logits);
    c->right = logits && hstu_session_open(&session, c->model, NULL) == HSTU_OK;
    for (int i = 0; i < 5 && c->right; i++)
        c->right = hstu_rank(session, &c->crowd->batch, logits, n, NULL) == HSTU_OK &&
                   memcmp(logits, c->expected, n * sizeof *logits) == 0;
    hstu_session_close(session);
    hs_free(logits);
    return NULL;
}

static void test_one_model_in_two_threads(void **state)
{
    static crowd c;
    hstu_model *model = NULL;
    hstu_session *session = NULL;
    pthread_t thread[2];
    caller callers[2];
    (void)state;
    make_crowd(&c);
    open_random(&model, &session, 2, "fp32");
    float *expected = rank(session, &c.batch);
    for (int i = 0; i < 2; i++) {
        callers[i] = (caller){.model = model, .crowd = &c, .expected = expected};
        assert_int_equal(pthread_create(&thread[i], NULL, call_often, &callers[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_true(callers[i].right);
    }
    hs_free(expected);
    hstu_session_close(session);
    hstu_model_close(model);
}

/* The order of candidates, their company, and a candidate that stands twice change nothing. */
static void test_candidates_do_not_meet(void **state)
{
    static crowd c;
    hstu_model *model = NULL;
    hstu_session *session = NULL;
    (void)state;
    make_crowd(&c);
    open_random(&model, &session, 2, "fp32");
    const int64_t offset[2] = {0, 20}, all[2] = {0, 5}, id[5] = {4, 9, 50, 9, 1000}, reversed[5] = {1000, 9, 50, 9, 4};
    hstu_batch batch = {.n_users = 1,
        .offset = offset,
        .item_id = c.item,
        .action = c.action,
        .cand_offset = all,
        .cand_id = id,
        .context = c.context + 2};
    float *a = rank(session, &batch);
    batch.cand_id = reversed;
    float *b = rank(session, &batch);
    for (int i = 0; i < 5; i++)
        assert_memory_equal(a + i * CLASSES, b + (4 - i) * CLASSES, CLASSES * sizeof *a);
    assert_memory_equal(a + CLASSES, a + 3 * CLASSES, CLASSES * sizeof *a);
    const int64_t one[2] = {0, 1};
    batch.cand_offset = one;
    float *alone = rank(session, &batch);
    assert_memory_equal(alone, b, CLASSES * sizeof *alone);
    hs_free(a);
    hs_free(b);
    hs_free(alone);
    hstu_session_close(session);
    hstu_model_close(model);
}

/* The actions of candidates change nothing; of a longer history the newest events are used, with their own actions. */
static void test_layouts_and_truncation(void **state)
{
    ranking_case c;
    size_t n = 0;
    (void)state;
    ranking_open(&c, "ranking/c6_fused_fp32", &(ranking_options){0});
    float *a = ranking_logits(&c, &c.batch.inference, &n), *b = ranking_logits(&c, &c.batch.training, &n);
    assert_memory_equal(a, b, n * sizeof *a);
    hs_free(a);
    hs_free(b);
    ranking_close(&c);

    static crowd made;
    hstu_model *model = NULL;
    hstu_session *session = NULL;
    make_crowd(&made);
    open_random(&model, &session, 1, "fp32");
    const int64_t whole[2] = {0, 47}, newest[2] = {0, 40}, cand[2] = {0, 3}, actions[2] = {0, 50};
    hstu_batch batch = {.n_users = 1,
        .offset = whole,
        .item_id = made.item,
        .action = made.action,
        .cand_offset = cand,
        .cand_id = made.cand,
        .context = made.context};
    a = rank(session, &batch);
    batch.action_offset = actions;
    b = rank(session, &batch);
    assert_memory_equal(a, b, 3 * CLASSES * sizeof *a);
    hs_free(b);
    batch.action_offset = NULL;
    batch.offset = newest;
    batch.item_id = made.item + 7;
    batch.action = made.action + 7;
    b = rank(session, &batch);
    assert_memory_equal(a, b, 3 * CLASSES * sizeof *a);
    hs_free(a);
    hs_free(b);
    hstu_session_close(session);
    hstu_model_close(model);
}

static void test_nothing_to_do(void **state)
{
    hstu_model *model = NULL;
    hstu_session *session = NULL;
    hstu_error err;
    const int64_t zero[3] = {0}, context[4] = {0, 1, 2, 3};
    (void)state;
    open_random(&model, &session, 2, "fp32");
    assert_ok(hstu_rank(session, &(hstu_batch){.n_users = 0}, NULL, 0, &err), &err);
    const hstu_batch batch = {.n_users = 2, .offset = zero, .cand_offset = zero, .context = context};
    assert_ok(hstu_rank(session, &batch, NULL, 0, &err), &err);
    hstu_session_close(session);
    hstu_model_close(model);
}

static void expect_refusal(hstu_session *s, const hstu_batch *batch, size_t len, const char *mentions)
{
    hstu_error err = {0};
    float logits[2 * CLASSES];
    for (size_t i = 0; i < 2 * CLASSES; i++)
        logits[i] = 7.0f;
    const hstu_status status = hstu_rank(s, batch, logits, len, &err);
    if (status != HSTU_EINVAL || !strstr(err.msg, mentions))
        fail_msg("found %d \"%s\", expected \"%s\"", status, status ? err.msg : "", mentions);
    for (size_t i = 0; i < 2 * CLASSES; i++)
        assert_true(logits[i] == 7.0f);
}

static void test_hostile_batches(void **state)
{
    hstu_model *model = NULL;
    hstu_session *s = NULL;
    enum { LEN = 2 * CLASSES };
    (void)state;
    open_random(&model, &s, 2, "fp32");
    const int64_t offset[2] = {0, 3}, item[3] = {1, 2, 3}, cand_offset[2] = {0, 2}, cand[2] = {4, 5};
    const int64_t action[3] = {1, 2, 3}, context[3] = {1, 2, 3};
    const hstu_batch good = {.n_users = 1,
        .offset = offset,
        .item_id = item,
        .action = action,
        .cand_offset = cand_offset,
        .cand_id = cand,
        .context = context};
    const int64_t from_one[2] = {1, 3}, down[2] = {0, -1}, two[2] = {0, 2}, many[2] = {0, 1 << 18};
    const int64_t bad_context[2] = {1, 7}, negative_id[2] = {1, -1}, bad_action[3] = {1, 233, 2};
    const int64_t negative[2] = {1, -1}, huge[2] = {INT64_MAX, INT64_MAX};
    hstu_batch b;
#define REFUSED(member, value, mentions)                                                                               \
    do {                                                                                                               \
        b = good;                                                                                                      \
        b.member = value;                                                                                              \
        expect_refusal(s, &b, LEN, mentions);                                                                          \
    } while (0)
    REFUSED(offset, NULL, "lacks 'offset'");
    REFUSED(item_id, NULL, "lacks 'item_id'");
    REFUSED(action, NULL, "lacks 'action'");
    REFUSED(cand_offset, NULL, "lacks 'cand_offset'");
    REFUSED(cand_id, NULL, "lacks 'cand_id'");
    REFUSED(context, NULL, "lacks 'context'");
    REFUSED(offset, from_one, "offset[0] is 1");
    REFUSED(offset, down, "user 0: offset goes down");
    REFUSED(cand_offset, from_one, "cand_offset[0] is 1");
    REFUSED(cand_offset, down, "user 0: cand_offset goes down");
    REFUSED(action_offset, from_one, "action_offset[0] is 1");
    REFUSED(action_offset, two, "user 0: there are 2 actions, expected one for each of 3 history events");
    REFUSED(cand_offset, many, "candidates are more than");
    REFUSED(context, bad_context, "user 0: feature 'age' has the id 7, outside 0 .. 6 of table 'age' with 7 rows");
    REFUSED(context, negative_id, "feature 'age' has the id -1");
    REFUSED(action, bad_action, "feature 'action_weights' has the id 233");
    REFUSED(context_length, negative, "feature 'age' has -1 ids");
    REFUSED(context_length, huge, "feature 'user_id' has 9223372036854775807 ids");
#undef REFUSED
    expect_refusal(s, &good, LEN - 1, "logits_len is 15, too few for 2 candidates of 8 values");

    hstu_error err;
    float emb[64] = {0};
    int64_t ids[4] = {0};
    float *logits = rank(s, &good);
    hs_free(logits);
    assert_int_equal(hstu_encode(s, &good, emb, 64, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "hstu_rank"));
    assert_int_equal(hstu_recommend(s, &good, 2, NULL, ids, emb, NULL, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "hstu_rank"));
    hstu_session_close(s);
    hstu_model_close(model);
}

static void test_other_models(void **state)
{
    hstu_model *model = NULL;
    hstu_session *session = NULL;
    hstu_error err;
    hstu_model_options options;
    float logits = 0.0f;
    (void)state;
    hstu_model_options_init(&options);
    options.config = "amzn-books";
    options.threads = 1;
    assert_ok(hstu_model_open(&model, NULL, &options, &err), &err);
    assert_ok(hstu_session_open(&session, model, &err), &err);
    assert_int_equal(hstu_rank(session, &(hstu_batch){.n_users = 0}, &logits, 1, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "family \"retrieval\""));
    hstu_session_close(session);
    hstu_model_close(model);
}

/* A row that holds no finite number shows in the candidates that meet it, and is refused by user and candidate. */
static void test_rows_that_are_no_numbers(void **state)
{
    ranking_case c;
    hstu_error err;
    (void)state;
    ranking_open(&c, "ranking/c6_fused_fp32", &(ranking_options){0});
    hs_model *m = &c.model->model;
    const int64_t dim = m->config.item_embedding_dim;
    hs_table *items = &m->table[m->item_table - m->table];
    const void *const values = items->part[0].values;
    const void *row = NULL;
    int64_t at = -1; /* the first candidate that the table holds */
    for (int64_t i = 0; i < c.batch.n_candidates && !row; i++) {
        row = hs_table_row(items, c.batch.cand[i]);
        at = i;
    }
    assert_non_null(row);
    const size_t n = (size_t)items->part[0].n_rows * (size_t)dim;
    float *copy = hs_alloc(n, sizeof *copy), logits[1024] = {0};
    memcpy(copy, values, n * sizeof *copy);
    copy[((const char *)row - (const char *)values) / (ptrdiff_t)sizeof(float) + 3] = (float)NAN;
    items->part[0].values = copy;
    assert_int_equal(hstu_rank(c.session, &c.batch.inference, logits, 1024, &err), HSTU_EFORMAT);
    char mentions[64];
    (void)snprintf(mentions, sizeof mentions, "(item %" PRId64 ") is", c.batch.cand[at]);
    assert_non_null(strstr(err.msg, "user "));
    assert_non_null(strstr(err.msg, mentions));
    for (size_t i = 0; i < 1024; i++)
        assert_true(logits[i] == 0.0f);
    items->part[0].values = values;
    hs_free(copy);
    ranking_close(&c);
}

static void test_info(void **state)
{
    ranking_case c;
    hstu_model_info info;
    hstu_feature_info f;
    hstu_error err;
    (void)state;
    ranking_open(&c, "ranking/c6_fused_fp32", &(ranking_options){.dtype = "bfloat16"});
    hstu_model_get_info(c.model, &info);
    assert_string_equal(info.family, "ranking");
    assert_string_equal(info.main_module, "GR ranking");
    assert_string_equal(info.dtype, "bf16");
    assert_int_equal(info.n_context, 6);
    assert_int_equal(info.n_classes, 8);
    assert_int_equal(info.n_tasks, 8);
    assert_int_equal(info.min_item_id, 0);
    assert_true(info.max_item_id == INT64_MAX);
    assert_int_equal(info.max_sequence_length, 40);
    assert_int_equal(info.max_candidates, 8);
    assert_int_equal(info.default_protocol, HSTU_PROTOCOL_RANKING);
    assert_ok(hstu_model_context(c.model, 0, &f, &err), &err);
    assert_string_equal(f.name, "user_id");
    assert_true(f.is_dynamic);
    assert_ok(hstu_model_context(c.model, 5, &f, &err), &err);
    assert_string_equal(f.table, "register_days_range");
    assert_int_equal(f.rows, 8);
    assert_false(f.is_dynamic);
    assert_int_equal(hstu_model_context(c.model, 6, &f, &err), HSTU_EINVAL);
    ranking_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_independence),
        cmocka_unit_test(test_one_model_in_two_threads),
        cmocka_unit_test(test_candidates_do_not_meet),
        cmocka_unit_test(test_layouts_and_truncation),
        cmocka_unit_test(test_nothing_to_do),
        cmocka_unit_test(test_hostile_batches),
        cmocka_unit_test(test_other_models),
        cmocka_unit_test(test_rows_that_are_no_numbers),
        cmocka_unit_test(test_info),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
