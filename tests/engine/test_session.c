/* Sessions: every way through the threads gives the same bits, errors leave a session usable, a model serves several threads. */
#include "engine/fixture.h"

#include <pthread.h>
#include <stdlib.h>

enum { DIM = 64, WINDOW = 400 };

static const char config_text[] =
    "{\"max_sequence_length\": 400, \"item_embedding_dim\": 64, \"num_blocks\": 2, \"num_heads\": 2, \"dqk\": 8, "
    "\"dv\": 16, \"max_item_id\": 300}";

/* Which lanes of a fresh session a batch has used. */
typedef enum way { NOT_RUN, ALONE, WHOLE, PARTED } way;

static way way_of(const hstu_session *s)
{
    if (s->whole.scratch.block)
        return WHOLE;
    for (size_t i = 1; i < s->n_parts; i++) {
        if (s->part[i].scratch.block)
            return PARTED;
    }
    return ALONE;
}

/* Users of these lengths in one batch on three threads, by the expected way, against each user on one thread. */
static void check_way(const fixture *one, const fixture *three, const int64_t *length, size_t n, way expected)
{
    enum { MAX_USERS = 64, K = 5 };
    static float emb[MAX_USERS * DIM], score[MAX_USERS * K];
    static int64_t item[MAX_USERS * K];
    hstu_session *session = NULL;
    hstu_error err;
    requests r;
    assert_true(n <= MAX_USERS);
    make_requests(&r, n, WINDOW);
    for (size_t u = 0; u < n; u++)
        r.offset[u + 1] = r.offset[u] + length[u]; /* the arrays have room for n times WINDOW events */
    for (int64_t i = 0; i < r.offset[n]; i++) {
        r.item[i] = 1 + i * 7 % FIXTURE_ITEMS;
        r.time[i] = 1600000000 + i * i;
    }
    /* Parts are handed out by chance: several tries until more than one thread has had users. */
    way found = NOT_RUN;
    for (int i = 0; i < 500 && found != expected; i++) {
        assert_ok(hstu_session_open(&session, three->model, &err), &err);
        assert_ok(hstu_encode(session, &r.batch, emb, n * DIM, &err), &err);
        found = way_of(session);
        assert_ok(hstu_recommend(session, &r.batch, K, NULL, item, score, NULL, &err), &err);
        hstu_session_close(session);
    }
    assert_int_equal(found, expected);
    for (size_t u = 0; u < n; u++) {
        float emb_alone[DIM], score_alone[K];
        int64_t offset[2], item_alone[K];
        const hstu_batch b = one_user(&r, u, offset);
        assert_ok(hstu_encode(one->session, &b, emb_alone, DIM, &err), &err);
        assert_ok(hstu_recommend(one->session, &b, K, NULL, item_alone, score_alone, NULL, &err), &err);
        assert_memory_equal(emb_alone, emb + u * DIM, sizeof emb_alone);
        assert_memory_equal(item_alone, item + u * K, sizeof item_alone);
        assert_memory_equal(score_alone, score + u * K, sizeof score_alone);
    }
    free_requests(&r);
}

static void test_every_way_gives_the_same_bits(void **state)
{
    fixture one, three;
    int64_t many[64];
    static const int64_t few[] = {3, 5, 2}, long_one[] = {WINDOW}, uneven[] = {5, WINDOW, 3};
    static const int64_t long_ones[] = {WINDOW, 390, 380, 7, 399, WINDOW};
    (void)state;
    open_fixture(&one, config_text, 1);
    open_fixture(&three, config_text, 3);
    for (int i = 0; i < 64; i++)
        many[i] = 1 + i * 37 % 90;
    check_way(&one, &three, few, 3, ALONE);
    check_way(&one, &three, long_one, 1, WHOLE);
    check_way(&one, &three, uneven, 3, WHOLE);
    check_way(&one, &three, many, 64, PARTED);
    check_way(&one, &three, long_ones, 6, PARTED);
    close_fixture(&one);
    close_fixture(&three);
}

/* Memory runs out in one thread's lane: the call fails and leaves the output alone, the next one is right. */
static void test_error_in_one_lane(void **state)
{
    enum { USERS = 40 };
    fixture f;
    requests r;
    hstu_error err;
    static float expected[USERS * DIM], out[USERS * DIM];
    int failed = 0;
    (void)state;
    open_fixture(&f, config_text, 3);
    make_requests(&r, USERS, 100);
    assert_ok(hstu_encode(f.session, &r.batch, expected, USERS * DIM, &err), &err);
    const size_t max_bytes = f.session->part[0].scratch.max_bytes;
    /* The lane may come too late for any users: then the others have done all. */
    for (int i = 0; i < 500 && failed < 3; i++) {
        f.session->part[0].scratch.max_bytes = 64;
        memset(out, 7, sizeof out);
        float untouched;
        memset(&untouched, 7, sizeof untouched);
        const hstu_status status = hstu_encode(f.session, &r.batch, out, USERS * DIM, &err);
        if (status == HSTU_OK) {
            assert_memory_equal(out, expected, sizeof out);
            continue;
        }
        failed++;
        assert_int_equal(status, HSTU_ENOMEM);
        assert_non_null(strstr(err.msg, "out of memory"));
        for (int j = 0; j < USERS * DIM; j++)
            assert_memory_equal(&out[j], &untouched, sizeof untouched);
        f.session->part[0].scratch.max_bytes = max_bytes;
        assert_ok(hstu_encode(f.session, &r.batch, out, USERS * DIM, &err), &err);
        assert_memory_equal(out, expected, sizeof out);
    }
    assert_int_equal(failed, 3);
    free_requests(&r);
    close_fixture(&f);
}

static void test_session_after_a_bad_batch(void **state)
{
    enum { USERS = 40, K = 3 };
    fixture f;
    requests r;
    hstu_error err;
    static int64_t expected[USERS * K], item[USERS * K];
    static float score[USERS * K];
    (void)state;
    open_fixture(&f, config_text, 2);
    make_requests(&r, USERS, 100);
    assert_ok(hstu_recommend(f.session, &r.batch, K, NULL, expected, score, NULL, &err), &err);
    const int64_t good = r.item[r.offset[USERS] - 1];
    r.item[r.offset[USERS] - 1] = FIXTURE_ITEMS + 1;
    assert_int_equal(hstu_recommend(f.session, &r.batch, K, NULL, item, score, NULL, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "user 39"));
    r.item[r.offset[USERS] - 1] = good;
    assert_ok(hstu_recommend(f.session, &r.batch, K, NULL, item, score, NULL, &err), &err);
    assert_memory_equal(item, expected, sizeof item);
    free_requests(&r);
    close_fixture(&f);
}

typedef struct caller {
    const hstu_model *model;
    requests r;
    float *expected;
    size_t n;
    const char *problem; /* NULL when all went well: cmocka's own asserts belong to the main thread */
} caller;

static void *call_often(void *ctx)
{
    caller *c = ctx;
    enum { K = 4 };
    hstu_session *session = NULL;
    float *emb = hs_calloc(c->n * DIM, sizeof *emb), *score = hs_calloc(c->n * K, sizeof *score);
    int64_t *item = hs_calloc(c->n * K, sizeof *item);
    if (!emb || !score || !item || hstu_session_open(&session, c->model, NULL) != HSTU_OK)
        c->problem = "a session cannot be opened";
    for (int i = 0; !c->problem && i < 10; i++) {
        if (hstu_encode(session, &c->r.batch, emb, c->n * DIM, NULL) != HSTU_OK ||
            hstu_recommend(session, &c->r.batch, K, NULL, item, score, NULL, NULL) != HSTU_OK)
            c->problem = "a call fails";
        else if (memcmp(emb, c->expected, c->n * DIM * sizeof *emb) != 0)
            c->problem = "an embedding differs";
    }
    hstu_session_close(session);
    hs_free(emb);
    hs_free(score);
    hs_free(item);
    return NULL;
}

static void test_two_sessions_at_once(void **state)
{
    fixture f;
    hstu_error err;
    caller c[2];
    pthread_t thread[2];
    (void)state;
    open_fixture(&f, config_text, 2);
    for (size_t i = 0; i < 2; i++) {
        c[i] = (caller){.model = f.model, .n = i ? 30 : 2};
        make_requests(&c[i].r, c[i].n, i ? 60 : WINDOW);
        c[i].expected = hs_calloc(c[i].n * DIM, sizeof(float));
        assert_ok(hstu_encode(f.session, &c[i].r.batch, c[i].expected, c[i].n * DIM, &err), &err);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, call_often, &c[i]), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        if (c[i].problem)
            fail_msg("thread %d: %s", i, c[i].problem);
        free_requests(&c[i].r);
        hs_free(c[i].expected);
    }
    close_fixture(&f);
}

/* Weights are packed for the kernels that were chosen when the model was opened. */
static void test_other_kernels_are_refused(void **state)
{
    fixture f;
    hstu_error err = {0};
    hstu_session *session = NULL;
    (void)state;
    open_fixture(&f, config_text, 2);
    if (strcmp(f.model->dev->isa, "ref") != 0) {
        assert_int_equal(setenv("HSTU_ISA", "ref", 1), 0);
        assert_int_equal(hstu_session_open(&session, f.model, &err), HSTU_EDEVICE);
        assert_null(session);
        assert_non_null(strstr(err.msg, "would use ref kernels"));
        assert_int_equal(unsetenv("HSTU_ISA"), 0);
    }
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_way_gives_the_same_bits),
        cmocka_unit_test(test_error_in_one_lane),
        cmocka_unit_test(test_session_after_a_bad_batch),
        cmocka_unit_test(test_two_sessions_at_once),
        cmocka_unit_test(test_other_kernels_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
