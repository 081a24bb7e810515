/* Every allocation fails once: while a cache is opened, while requests are answered through one, while it is saved and
 * loaded. The call fails with HSTU_ENOMEM or answers as ever; nothing leaks, and no page stays behind with a request
 * that is over. */
#include "torture.h"

#include "engine/cache_models.h"

static hstu_model *model;
static hstu_cache *cache;
static hstu_session *plain;
static visit_batch first, second;
static answers expected_first, expected_second;

static const char *file_path(void)
{
    static char path[64];
    (void)snprintf(path, sizeof path, "/tmp/hstu_test_cache_torture_%ld.kv", (long)getpid());
    return path;
}

static void expect_free_pages(void)
{
    hstu_cache_stats stats;
    hstu_cache_drop_all(cache);
    hstu_cache_get_stats(cache, &stats);
    assert_int_equal(stats.n_users, 0);
    assert_int_equal(stats.n_free_pages, stats.n_pages);
}

/* Two users, who come back with longer histories. */
static void set_up(const char *variant)
{
    static visit v[2];
    hstu_error err;
    model = open_variant(find_variant(variant), 1, 5);
    cache = open_cache_of_pages(model, 32, 40);
    plain = open_session(model, NULL);
    memset(v, 0, sizeof v);
    for (uint64_t u = 0; u < 2; u++) {
        uint64_t random = u;
        v[u].user_id = (int64_t)u;
        start_over(&v[u], &random, false);
        v[u].n_candidates = 300;
        for (int i = 0; i < 300; i++)
            v[u].candidate[i] = choose_item(&random);
    }
    make_visit_batch(&first, v, 2, true, true);
    for (uint64_t u = 0; u < 2; u++) {
        uint64_t random = u;
        see_more(&v[u], &random, 20);
        v[u].target = 1;
    }
    make_visit_batch(&second, v, 2, true, true);
    first.target[0] = first.target[1] = 1;
    assert_ok(ask(plain, &first, ASK_UNSEEN_ITEMS, &expected_first, &err), &err);
    assert_ok(ask(plain, &second, ASK_UNSEEN_ITEMS, &expected_second, &err), &err);
}

static void tear_down(void)
{
    expect_free_pages();
    hstu_session_close(plain);
    hstu_cache_close(cache);
    hstu_model_close(model);
}

/* The answer is that without a cache, or the call fails and changes nothing. */
static hstu_status ask_once(
    hstu_session *session, const visit_batch *b, const answers *expected, answers *got, hstu_error *err)
{
    static const answers nothing;
    const hstu_status status = ask(session, b, ASK_UNSEEN_ITEMS, got, err);
    assert_memory_equal(got, status == HSTU_OK ? expected : &nothing, sizeof *got);
    return status;
}

/* As torture(), for work that may do without an allocation: sessions keep less workspace then. */
static void torture_requests(hstu_status (*work)(void *ctx, hstu_error *err), void *ctx, long at_least)
{
    long n_refused = 0;
    for (long n = 1;; n++) {
        hstu_error err = {0};
        torture_left = n;
        const hstu_status status = work(ctx, &err);
        const bool failed = torture_left == 0;
        torture_left = 0;
        if (status != HSTU_OK && (!failed || status != HSTU_ENOMEM || !strstr(err.msg, "out of memory")))
            fail_msg("allocation %ld, status %d: %s", n, (int)status, err.msg);
        n_refused += status != HSTU_OK;
        if (!failed)
            break;
    }
    assert_true(n_refused > at_least);
}

/* A new session's requests; after a failure the same session, and then another, still answer right. */
static hstu_status ask_twice(void *ctx, hstu_error *err)
{
    static answers got;
    hstu_session *session = NULL;
    hstu_error again;
    (void)ctx;
    hstu_status status = hstu_session_open(&session, model, err);
    if (status == HSTU_OK)
        status = hstu_session_use_cache(session, cache, err);
    if (status == HSTU_OK)
        status = ask_once(session, &first, &expected_first, &got, err);
    if (status == HSTU_OK)
        status = ask_once(session, &second, &expected_second, &got, err);
    if (session) {
        if (status != HSTU_OK)
            assert_ok(ask_once(session, &second, &expected_second, &got, &again), &again);
        assert_ok(ask_once(session, &first, &expected_first, &got, &again), &again);
    }
    hstu_session_close(session);
    expect_free_pages();
    return status;
}

static void check_requests(const char *variant)
{
    set_up(variant);
    torture_requests(ask_twice, NULL, 10);
    tear_down();
}

static void test_retrieval_requests(void **state)
{
    (void)state;
    check_requests("HSTU");
}

static void test_ranking_requests(void **state)
{
    (void)state;
    check_requests("ranking, bf16");
}

static hstu_status open_cache(void *ctx, hstu_error *err)
{
    hstu_cache *opened = NULL;
    const hstu_status status = hstu_cache_open(&opened, model, NULL, err);
    (void)ctx;
    assert_int_equal(opened != NULL, status == HSTU_OK);
    hstu_cache_close(opened);
    return status;
}

static void test_open(void **state)
{
    (void)state;
    set_up("HSTU");
    torture(open_cache, NULL, 2);
    tear_down();
}

/* Another model's session asks for the cache: both models' weights are hashed. */
static hstu_status use_cache(void *ctx, hstu_error *err)
{
    static answers got;
    hstu_session *session = NULL;
    hstu_cache *own = NULL;
    hstu_status status = hstu_cache_open(&own, model, NULL, err);
    if (status == HSTU_OK)
        status = hstu_session_open(&session, ctx, err);
    if (status == HSTU_OK)
        status = hstu_session_use_cache(session, own, err);
    if (status == HSTU_OK)
        status = ask_once(session, &first, &expected_first, &got, err);
    hstu_session_close(session);
    hstu_cache_close(own);
    return status;
}

static void test_use_of_another_models_cache(void **state)
{
    (void)state;
    set_up("HSTU");
    hstu_model *same = open_variant(find_variant("HSTU"), 1, 5);
    torture(use_cache, same, 20);
    hstu_model_close(same);
    tear_down();
}

static hstu_status save_cache(void *ctx, hstu_error *err)
{
    (void)ctx;
    return hstu_cache_save(cache, file_path(), err);
}

/* As after a restart: what is loaded answers right. */
static hstu_status load_cache(void *ctx, hstu_error *err)
{
    static answers got;
    hstu_cache *fresh = NULL;
    hstu_cache_loaded loaded = {0};
    hstu_cache_options options;
    hstu_error later;
    hstu_session *session = ctx;
    hstu_cache_options_init(&options);
    options.page_tokens = 32;
    hstu_status status = hstu_cache_open(&fresh, model, &options, err);
    if (status == HSTU_OK)
        status = hstu_cache_load(fresh, file_path(), &loaded, err);
    const long left = torture_left;
    torture_left = 0;
    assert_int_equal(loaded.n_users, status == HSTU_OK ? 2 : 0);
    assert_ok(hstu_session_use_cache(session, fresh, &later), &later);
    assert_ok(ask_once(session, &first, &expected_first, &got, &later), &later);
    assert_ok(hstu_session_use_cache(session, NULL, &later), &later);
    torture_left = left;
    hstu_cache_close(fresh);
    return status;
}

static void test_files(void **state)
{
    static answers got;
    hstu_error err;
    (void)state;
    set_up("HSTU");
    hstu_session *session = open_session(model, cache);
    assert_ok(ask_once(session, &first, &expected_first, &got, &err), &err);
    torture(save_cache, NULL, 1);
    torture(load_cache, session, 3);
    hstu_session_close(session);
    assert_int_equal(remove(file_path()), 0);
    tear_down();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_use_of_another_models_cache),
        cmocka_unit_test(test_retrieval_requests),
        cmocka_unit_test(test_ranking_requests),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
