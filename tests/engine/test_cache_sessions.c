/* Eight threads, each with its own session, at one small cache: a few users ask at the same time with growing
 * histories, while users are dropped and the cache is saved. Every answer is the one without a cache. Meant for the
 * thread sanitizer. */
#include "engine/cache_models.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { THREADS = 8, USERS = 5, STEPS = 5, REQUESTS = 150, PAGE = 32, PAGES = 7 };

/* User u's history at step s, in a batch with the next user's, and what a session without a cache answers. */
typedef struct known {
    visit_batch batch;
    answers expected;
} known;

static known story[USERS][STEPS];

static void make_stories(const hstu_model *model)
{
    static visit v[USERS][STEPS];
    hstu_session *plain = open_session(model, NULL);
    hstu_error err;
    for (int64_t u = 0; u < USERS; u++) {
        uint64_t random = (uint64_t)u;
        v[u][0].user_id = u;
        start_over(&v[u][0], &random, false);
        for (int s = 0; s < STEPS; s++) {
            if (s > 0) {
                v[u][s] = v[u][s - 1];
                see_more(&v[u][s], &random, 5 + choose(&random, 20));
            }
            choose_candidates(&v[u][s], &random, 20);
            v[u][s].n_candidates += v[u][s].n_candidates == 0;
            v[u][s].candidate[0] = 1;
        }
    }
    for (int u = 0; u < USERS; u++) {
        for (int s = 0; s < STEPS; s++) {
            const visit both[2] = {v[u][s], v[(u + 1) % USERS][s]};
            make_visit_batch(&story[u][s].batch, both, 2, true, true);
            assert_ok(ask(plain, &story[u][s].batch, ASK_EMBEDDINGS, &story[u][s].expected, &err), &err);
        }
    }
    hstu_session_close(plain);
}

typedef struct worker {
    hstu_session *session;
    uint64_t random;
    int n_reused, n_wrong;
    hstu_error err;
    answers got;
} worker;

/* Users come back with longer histories, and sometimes from the start. No assertions in threads. */
static void *serve(void *arg)
{
    worker *w = arg;
    for (int i = 0; i < REQUESTS; i++) {
        const known *k = &story[choose(&w->random, USERS)][i % STEPS];
        w->n_wrong += ask(w->session, &k->batch, ASK_EMBEDDINGS, &w->got, &w->err) != HSTU_OK ||
                      memcmp(&w->got, &k->expected, sizeof w->got) != 0;
        for (size_t u = 0; u < 2; u++) {
            int64_t n = 0, reused = 0;
            w->n_wrong += hstu_session_get_reuse(w->session, u, &n, &reused, &w->err) != HSTU_OK || reused > n;
            w->n_reused += reused > 0;
        }
    }
    return NULL;
}

typedef struct keeper {
    hstu_cache *cache;
    _Atomic bool stop;
    char path[64];
    int n_wrong, n_saved;
    uint64_t n_seen;
} keeper;

/* Forgets users, saves and looks on until the others are done; the last file is whole. */
static void *disturb(void *arg)
{
    keeper *k = arg;
    const struct timespec pause = {.tv_nsec = 500000};
    uint64_t random = 99;
    do {
        hstu_cache_stats stats;
        hstu_cache_drop_user(k->cache, choose(&random, USERS));
        k->n_wrong += hstu_cache_save(k->cache, k->path, NULL) != HSTU_OK;
        k->n_saved++;
        hstu_cache_get_stats(k->cache, &stats);
        k->n_wrong += stats.n_free_pages > stats.n_pages || stats.n_users > USERS;
        k->n_seen += stats.n_users;
        if (choose(&random, 10) == 0)
            hstu_cache_drop_all(k->cache);
        (void)nanosleep(&pause, NULL);
    } while (!atomic_load(&k->stop));
    return NULL;
}

static void check_file(const hstu_model *model, keeper *k)
{
    hstu_cache_loaded loaded;
    hstu_error err;
    hstu_cache *fresh = open_cache_of_pages(model, PAGE, USERS * 20);
    assert_ok(hstu_cache_save(k->cache, k->path, &err), &err);
    assert_ok(hstu_cache_load(fresh, k->path, &loaded, &err), &err);
    assert_int_equal(loaded.n_damaged + loaded.n_no_room, 0);
    hstu_session *session = open_session(model, fresh);
    for (int u = 0; u < USERS; u++) {
        static answers got;
        assert_ok(ask(session, &story[u][STEPS - 1].batch, ASK_EMBEDDINGS, &got, &err), &err);
        assert_memory_equal(&got, &story[u][STEPS - 1].expected, sizeof got);
    }
    hstu_session_close(session);
    hstu_cache_close(fresh);
    assert_int_equal(remove(k->path), 0);
}

static void check_threads(const char *variant)
{
    static worker w[THREADS];
    static keeper k;
    pthread_t thread[THREADS], disturber;
    hstu_cache_stats stats;
    hstu_model *model = open_variant(find_variant(variant), 1, 5);
    int n_reused = 0;
    make_stories(model);
    memset(&k, 0, sizeof k);
    k.cache = open_cache_of_pages(model, PAGE, PAGES);
    (void)snprintf(k.path, sizeof k.path, "/tmp/hstu_test_cache_sessions_%ld.kv", (long)getpid());
    for (uint64_t i = 0; i < THREADS; i++) {
        memset(&w[i], 0, sizeof w[i]);
        w[i].random = i;
        w[i].session = open_session(model, k.cache);
    }
    assert_int_equal(pthread_create(&disturber, NULL, disturb, &k), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, serve, &w[i]), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    atomic_store(&k.stop, true);
    assert_int_equal(pthread_join(disturber, NULL), 0);
    for (int i = 0; i < THREADS; i++) {
        if (w[i].n_wrong)
            fail_msg("%s: thread %d has %d wrong answers: %s", variant, i, w[i].n_wrong, w[i].err.msg);
        n_reused += w[i].n_reused;
        hstu_session_close(w[i].session);
    }
    assert_int_equal(k.n_wrong, 0);
    assert_true(k.n_saved > 0 && k.n_seen > 0 && n_reused > 0);
    hstu_cache_get_stats(k.cache, &stats);
    assert_int_equal(stats.n_requests, 2 * THREADS * REQUESTS);
    assert_int_equal(stats.n_hits, n_reused);
    assert_true(stats.n_stored > 0 && stats.n_not_stored > 0);
    check_file(model, &k);
    hstu_cache_drop_all(k.cache);
    hstu_cache_get_stats(k.cache, &stats);
    assert_int_equal(stats.n_free_pages, stats.n_pages);
    hstu_cache_close(k.cache);
    hstu_model_close(model);
}

static void test_ranking(void **state)
{
    (void)state;
    check_threads("ranking, several ids, kv bf16");
}

static void test_retrieval(void **state)
{
    (void)state;
    check_threads("HSTU");
}

static void test_ranking_bf16(void **state)
{
    (void)state;
    check_threads("ranking, heads of 16, bf16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranking),
        cmocka_unit_test(test_ranking_bf16),
        cmocka_unit_test(test_retrieval),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
