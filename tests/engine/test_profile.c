/* A session's profile: off until it is asked for, the same work on every way through the threads, never more time than passed. */
#include "engine/fixture.h"

#include "base/clock.h"

enum { DIM = 64, WINDOW = 400, USERS = 40, LAYERS = 2 };

static const char config_text[] =
    "{\"max_sequence_length\": 400, \"item_embedding_dim\": 64, \"num_blocks\": 2, \"num_heads\": 2, \"dqk\": 8, "
    "\"dv\": 16, \"max_item_id\": 300}";

static hstu_stage_time stage_of(const hstu_session *s, const char *name)
{
    hstu_stage_time stage;
    for (size_t i = 0; hstu_session_get_stage(s, i, &stage, NULL) == HSTU_OK; i++) {
        if (strcmp(stage.stage, name) == 0)
            return stage;
    }
    fail_msg("no stage '%s'", name);
    return (hstu_stage_time){.stage = name};
}

static double all_seconds(const hstu_session *s)
{
    hstu_stage_time stage;
    double seconds = 0;
    for (size_t i = 0; hstu_session_get_stage(s, i, &stage, NULL) == HSTU_OK; i++) {
        assert_true(stage.seconds >= 0 && stage.flop >= 0 && (stage.calls > 0 || stage.seconds <= 0));
        seconds += stage.seconds;
    }
    return seconds;
}

/* One profiled call of the batch; how long it took. */
static double encode(hstu_session *s, const hstu_batch *batch)
{
    static float emb[USERS * DIM];
    hstu_error err;
    hstu_session_start_profile(s);
    const double start_s = hs_clock_s();
    assert_ok(hstu_encode(s, batch, emb, sizeof emb / sizeof *emb, &err), &err);
    return hs_clock_s() - start_s;
}

static void check_batch(fixture *one, fixture *three, const hstu_batch *batch)
{
    static const char *const counted[] = {"linear", "silu_attn"};
    const double taken_s = encode(one->session, batch);
    assert_true(all_seconds(one->session) > 0 && all_seconds(one->session) <= taken_s);
    assert_int_equal(stage_of(one->session, "silu_attn").calls % LAYERS, 0);
    assert_int_equal(stage_of(one->session, "softmax_attn").calls, 0);
    assert_int_equal(stage_of(one->session, "graph").calls, 0);
    for (int turn = 0; turn < 3; turn++) { /* each begins from zero */
        const double shared_s = encode(three->session, batch);
        assert_true(all_seconds(three->session) > 0 && all_seconds(three->session) <= shared_s);
        for (size_t i = 0; i < sizeof counted / sizeof *counted; i++) {
            const double flop = stage_of(three->session, counted[i]).flop;
            assert_true(flop > 0 && flop == stage_of(one->session, counted[i]).flop);
        }
    }
}

static void test_ways(void **state)
{
    fixture one, three;
    requests r;
    int64_t offset[2];
    (void)state;
    open_fixture(&one, config_text, 1);
    open_fixture(&three, config_text, 3);
    make_requests(&r, USERS, WINDOW);
    check_batch(&one, &three, &r.batch); /* threads take whole users */
    for (size_t u = 0; u < 4; u++) {     /* they share operations, or one works alone */
        const hstu_batch single = one_user(&r, u, offset);
        check_batch(&one, &three, &single);
    }
    free_requests(&r);
    close_fixture(&three);
    close_fixture(&one);
}

static void test_topk_and_errors(void **state)
{
    enum { K = 5 };
    fixture f;
    requests r;
    hstu_error err = {0};
    hstu_stage_time stage;
    int64_t item[K];
    float score[K];
    (void)state;
    open_fixture(&f, config_text, 2);
    make_requests(&r, 1, WINDOW);
    assert_int_equal(hstu_session_get_stage(f.session, 0, &stage, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "the session has no profile"));
    assert_ok(hstu_recommend(f.session, &r.batch, K, NULL, item, score, NULL, &err), &err);
    hstu_session_start_profile(f.session);
    assert_true(all_seconds(f.session) <= 0);
    assert_ok(hstu_recommend(f.session, &r.batch, K, NULL, item, score, NULL, &err), &err);
    assert_int_equal(stage_of(f.session, "topk").calls, 1);
    assert_true(stage_of(f.session, "topk").flop > 0);
    assert_int_equal(hstu_session_get_stage(f.session, 1000, &stage, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "stage 1000 does not exist"));
    free_requests(&r);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ways), cmocka_unit_test(test_topk_and_errors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
