/* Eight threads at one small cache: requests of few users whose histories share prefixes, while users are dropped,
 * evicted and walked over as a save does. Every row that is read is the one that its words stand for, and stamps keep
 * their promise to a device that sees half of all requests. Meant for the thread sanitizer. */
#include "cache/kvcache.h"

#include "stamp_support.h"

#include <pthread.h>
#include <sched.h>

enum { THREADS = 8, ROUNDS = 10000, USERS = 5, LENGTH_MOST = 190, PAGES = 14 };

/* Half of the requests alone, so that its lock does not hide what the cache's own does not order. */
static memory device;
static pthread_mutex_t device_mutex = PTHREAD_MUTEX_INITIALIZER;

typedef struct worker {
    hs_cache *cache;
    uint64_t random;
    uint64_t n_requests, n_tokens, n_reused, n_stored, n_walked; /* what this thread saw */
    uint64_t n_wrong_rows, n_wrong_pages;
    story s;
    uint64_t row[TOKENS_MOST];
    _Alignas(64) char own[TOKENS_MOST / PAGE_TOKENS][PAGE_BYTES];
} worker;

/* A user's history in one of few versions: mostly the same, cut somewhere, sometimes with an edit or another head. */
static void make_story(worker *w)
{
    story *s = &w->s;
    *s = (story){.user_id = below(&w->random, USERS), .n_tokens = 1 + below(&w->random, LENGTH_MOST)};
    s->head[0] = below(&w->random, 16) == 0;
    for (int64_t i = 0; i < s->n_tokens * WORDS; i++)
        s->word[i] = s->user_id * 100000 + i;
    if (below(&w->random, 4) == 0)
        s->word[below(&w->random, s->n_tokens * WORDS)] = below(&w->random, 3);
}

static void check_rows(worker *w, char *const *page, int64_t n_tokens)
{
    w->n_wrong_rows += right_rows(page, w->row, n_tokens) != n_tokens;
}

static void show(void (*act)(memory *, const hs_cache_lease *, int64_t, char *const *, const uint64_t *),
    const hs_cache_lease *lease, int64_t n_tokens, char *const *page, const uint64_t *stamp)
{
    (void)pthread_mutex_lock(&device_mutex);
    act(&device, lease, n_tokens, page, stamp);
    (void)pthread_mutex_unlock(&device_mutex);
}

static void request_once(worker *w)
{
    hs_cache_lease lease;
    char *page[TOKENS_MOST / PAGE_TOKENS];
    uint64_t stamp[TOKENS_MOST / PAGE_TOKENS];
    make_story(w);
    rows_of(&w->s, w->row);
    const hs_cache_history history = history_of(&w->s);
    const int64_t n = history.n_tokens;
    hs_cache_acquire(w->cache, &history, n - below(&w->random, 2), &lease, page, stamp);
    const int64_t n_given = lease.writes ? pages_of(n) : pages_of(lease.reused);
    const bool is_seen = below(&w->random, 2);
    if (is_seen)
        show(look, &lease, n, page, stamp);
    for (int64_t i = 0; i < pages_of(n); i++) {
        w->n_wrong_pages += (page[i] != NULL) != (i < n_given) || (stamp[i] != 0) != (i < n_given);
        if (!page[i])
            page[i] = w->own[i];
    }
    w->n_requests++;
    w->n_tokens += (uint64_t)n;
    w->n_reused += (uint64_t)lease.reused;
    check_rows(w, page, lease.reused);
    if (below(&w->random, 2))
        (void)sched_yield();
    fill_rows(page, w->row, lease.reused, n);
    if (below(&w->random, 2))
        (void)sched_yield();
    check_rows(w, page, n);
    if (is_seen)
        show(look_away, &lease, n, page, stamp);
    if (below(&w->random, 8)) {
        w->n_stored += lease.writes;
        hs_cache_commit(w->cache, &lease, &history);
    } else {
        hs_cache_release(w->cache, &lease);
    }
}

/* Holds a user's entry as a save does: whoever holds an entry without a writer finds rows and words that belong
 * together. */
static void walk_once(worker *w)
{
    hs_cache *c = w->cache;
    char *page[TOKENS_MOST / PAGE_TOKENS];
    hs_cache_lock(c);
    const uint32_t entry = hs_cache_find(c, below(&w->random, USERS));
    const bool is_whole = entry && !c->entry[entry].has_writer;
    if (is_whole)
        hs_cache_hold(c, entry);
    hs_cache_unlock(c);
    if (!is_whole)
        return;
    const hs_cache_entry *e = &c->entry[entry];
    w->s = (story){.user_id = e->user_id, .n_tokens = e->n_tokens};
    memcpy(w->s.head, hs_cache_head(c, entry), sizeof w->s.head);
    uint32_t at = e->first_page;
    for (int64_t i = 0; i < pages_of(e->n_tokens); i++) {
        if (i > 0)
            at = c->next_page[at];
        page[i] = hs_cache_page(c, at);
        memcpy(w->s.word + i * PAGE_TOKENS * WORDS, hs_cache_words(c, at), PAGE_TOKENS * WORDS * sizeof(int64_t));
    }
    rows_of(&w->s, w->row);
    check_rows(w, page, w->s.n_tokens);
    w->n_walked++;
    hs_cache_lock(c);
    hs_cache_unhold(c, entry);
    hs_cache_unlock(c);
}

static void *work(void *arg)
{
    worker *w = arg;
    for (int i = 0; i < ROUNDS; i++) {
        const int64_t kind = below(&w->random, 400);
        hs_cache_stats stats;
        if (kind == 0)
            hs_cache_drop_all(w->cache);
        else if (kind < 10)
            (void)hs_cache_drop_user(w->cache, below(&w->random, USERS));
        else if (kind < 20)
            hs_cache_get_stats(w->cache, &stats);
        else if (kind < 60)
            walk_once(w);
        else
            request_once(w);
    }
    return NULL;
}

static void test_eight_threads(void **state)
{
    (void)state;
    static worker w[THREADS];
    pthread_t thread[THREADS];
    hs_cache *cache = open_pages(PAGES);
    hs_cache_stats sum = {0}, s;
    for (uint64_t i = 0; i < THREADS; i++) {
        w[i] = (worker){.cache = cache, .random = i};
        assert_int_equal(pthread_create(&thread[i], NULL, work, &w[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_int_equal(w[i].n_wrong_rows, 0);
        assert_int_equal(w[i].n_wrong_pages, 0);
        assert_true(w[i].n_walked > 0 && w[i].n_reused > 0);
        sum.n_requests += w[i].n_requests;
        sum.n_tokens += w[i].n_tokens;
        sum.n_reused_tokens += w[i].n_reused;
        sum.n_stored += w[i].n_stored;
    }
    check_cache(cache);
    if (device.complaint)
        fail_msg("%s", device.complaint);
    assert_true(device.n_known > 0 && device.n_new > 0);
    forget(&device);
    hs_cache_get_stats(cache, &s);
    assert_true(
        s.n_requests == sum.n_requests && s.n_tokens == sum.n_tokens && s.n_reused_tokens == sum.n_reused_tokens);
    assert_true(s.n_stored <= sum.n_stored); /* not those of users dropped meanwhile */
    assert_true(s.n_stored > 0 && s.n_busy > 0 && s.n_changed > 0 && s.n_evicted_users > 0);
    assert_int_equal(s.n_held, 0);
    hs_cache_drop_all(cache);
    check_cache(cache);
    hs_cache_get_stats(cache, &s);
    assert_int_equal(s.n_free_pages, PAGES);
    hs_cache_close(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_eight_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
