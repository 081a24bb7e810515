/* The cache's contract, each rule once: what a lease gives, who may write, who is evicted, what is counted. */
#include "cache/kvcache.h"

#include "cache_support.h"

/* User `id` with n tokens that differ from user to user. */
static story make_story(int64_t id, int64_t n_tokens)
{
    story s = {.user_id = id, .n_tokens = n_tokens, .head = {id, 7, 8}};
    for (int64_t i = 0; i < TOKENS_MOST * WORDS; i++)
        s.word[i] = id * 1000 + i;
    return s;
}

/* A request under way, with room for the pages that it must supply itself. */
typedef struct visit {
    story s;
    uint64_t row[TOKENS_MOST];
    hs_cache_lease lease;
    char *page[TOKENS_MOST / PAGE_TOKENS];
    _Alignas(64) char own[TOKENS_MOST / PAGE_TOKENS][PAGE_BYTES];
    int64_t n_own;
} visit;

/* Acquires, checks that rows to reuse are right and that pages are given as promised, and fills the other rows. */
static void start_most(hs_cache *cache, visit *v, story s, int64_t most_reused)
{
    *v = (visit){.s = s};
    const hs_cache_history history = history_of(&v->s);
    rows_of(&v->s, v->row);
    hs_cache_acquire(cache, &history, most_reused, &v->lease, v->page, NULL);
    const int64_t reused = v->lease.reused, n_given = v->lease.writes ? pages_of(s.n_tokens) : pages_of(reused);
    for (int64_t i = 0; i < pages_of(s.n_tokens); i++) {
        assert_int_equal(v->page[i] != NULL, i < n_given);
        assert_int_equal((uintptr_t)v->page[i] % 64, 0);
        if (!v->page[i])
            v->page[i] = v->own[v->n_own++];
    }
    assert_true(v->n_own == 0 || reused % PAGE_TOKENS == 0);
    assert_int_equal(right_rows(v->page, v->row, reused), reused);
    fill_rows(v->page, v->row, reused, s.n_tokens);
    check_cache(cache);
}

static void start(hs_cache *cache, visit *v, story s)
{
    start_most(cache, v, s, s.n_tokens);
}

/* All rows must still be right, whatever happened since. */
static void finish(hs_cache *cache, visit *v)
{
    const hs_cache_history history = history_of(&v->s);
    assert_int_equal(right_rows(v->page, v->row, v->s.n_tokens), v->s.n_tokens);
    hs_cache_commit(cache, &v->lease, &history);
    assert_true(v->lease.entry == 0 && v->lease.reused == 0 && !v->lease.writes);
    check_cache(cache);
}

/* One request from start to end; returns how many tokens were reused. */
static int64_t serve(hs_cache *cache, story s)
{
    visit v;
    start(cache, &v, s);
    const int64_t reused = v.lease.reused;
    finish(cache, &v);
    return reused;
}

static hs_cache_stats stats_of(const hs_cache *cache)
{
    hs_cache_stats stats;
    hs_cache_get_stats(cache, &stats);
    return stats;
}

static void refuses(hs_cache_shape shape, uint64_t budget, const char *part)
{
    hs_cache *cache = NULL;
    hstu_error err = {0};
    assert_int_equal(hs_cache_open(&cache, &shape, budget, &err), HSTU_EINVAL);
    assert_null(cache);
    if (!strstr(err.msg, part))
        fail_msg("'%s' is not in: %s", part, err.msg);
}

static void test_open_refuses_shapes(void **state)
{
    (void)state;
    const uint64_t budget = 1 << 20;
    hs_cache_shape s = support_shape;
    s.page_tokens = 48;
    refuses(s, budget, "48 were asked for");
    s.page_tokens = 0;
    refuses(s, budget, "multiple of 32");
    s.page_tokens = HS_CACHE_PAGE_TOKENS_MOST + 32;
    refuses(s, budget, "at most 65536");
    s = support_shape;
    s.page_bytes = 0;
    refuses(s, budget, "multiple of 64 bytes");
    s.page_bytes = 96;
    refuses(s, budget, "96 were asked for");
    s.page_bytes = SIZE_MAX / 64 * 64;
    refuses(s, budget, "too large");
    s.page_bytes = SIZE_MAX / 128 * 64;
    refuses(s, budget, "holds no page");
    s = support_shape;
    s.words_per_token = 0;
    refuses(s, budget, "1 to 4 words");
    s.words_per_token = 5;
    refuses(s, budget, "5 were asked for");
    s = support_shape;
    s.n_head_words = -1;
    refuses(s, budget, "-1 were asked for");
    s.n_head_words = 65;
    refuses(s, budget, "0 to 64 head words");
    hs_cache_close(NULL);
}

static void test_open_tells_what_a_page_needs(void **state)
{
    (void)state;
    hs_cache *cache = NULL;
    hstu_error err = {0};
    assert_int_equal(hs_cache_open(&cache, &support_shape, 0, &err), HSTU_EINVAL);
    const char *at = strstr(err.msg, "needs ");
    assert_non_null(at);
    const uint64_t bytes = strtoull(at + 6, NULL, 10);
    refuses(support_shape, bytes - 1, "holds no page");
    assert_int_equal(hs_cache_open(&cache, &support_shape, bytes, &err), HSTU_OK);
    const hs_cache_stats s = stats_of(cache);
    assert_int_equal(s.n_pages, 1);
    assert_int_equal(s.budget_bytes, bytes);
    assert_true(s.n_pages * s.page_bytes + s.bookkeeping_bytes <= bytes);
    assert_memory_equal(hs_cache_get_shape(cache), &support_shape, sizeof support_shape);
    hs_cache_close(cache);
}

/* A million users of one page: 1 layer, 4 heads of 64 dimensions, 2 bytes each, 32 tokens. */
static void test_a_million_users_fit(void **state)
{
    (void)state;
    const hs_cache_shape shape = {
        .page_tokens = 32, .page_bytes = 32 * 2 * 128 * 2, .words_per_token = 1, .n_head_words = 6};
    hs_cache *cache = NULL;
    const uint64_t rows = UINT64_C(1000000) * shape.page_bytes;
    assert_int_equal(hs_cache_open(&cache, &shape, rows + rows / 20, NULL), HSTU_OK);
    const hs_cache_stats s = stats_of(cache);
    assert_true(s.n_pages >= 1000000);
    assert_true((double)s.bookkeeping_bytes < 0.05 * (double)(s.n_pages * s.page_bytes));
    int64_t head[6] = {0}, word[32] = {0};
    for (int64_t user = 0; user < 1000; user++) {
        hs_cache_lease lease;
        char *page;
        const hs_cache_history h = {.user_id = user, .head = head, .word = word, .n_tokens = 32};
        hs_cache_acquire(cache, &h, 32, &lease, &page, NULL);
        assert_true(lease.writes);
        hs_cache_commit(cache, &lease, &h);
    }
    assert_int_equal(stats_of(cache).n_cached_tokens, 32000);
    assert_int_equal(stats_of(cache).n_unused_rows, 0);
    hs_cache_close(cache);
}

/* Large pages stand an odd multiple of 8 KB apart, at the cost of less than 16 KB each; smaller ones close together. */
static void test_large_pages_lie_spread(void **state)
{
    static const size_t all[] = {64 << 10, (128 << 10) - 576, (128 << 10) - 512, 256 << 10, (264 << 10) - 512, 3 << 20};
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        hs_cache_shape shape = support_shape;
        shape.page_bytes = all[i];
        hs_cache *cache = NULL;
        assert_int_equal(hs_cache_open(&cache, &shape, 8 << 20, NULL), HSTU_OK);
        const size_t used = all[i] + 32 * WORDS * sizeof(int64_t);
        const size_t apart = (size_t)(hs_cache_page(cache, 1) - hs_cache_page(cache, 0));
        if (used < 128 << 10)
            assert_int_equal(apart, used);
        else
            assert_true(apart % (16 << 10) == 8 << 10 && apart >= used && apart < used + (16 << 10));
        hs_cache_close(cache);
    }
}

static void test_a_user_comes_back(void **state)
{
    (void)state;
    hs_cache *cache = open_pages(8);
    assert_int_equal(serve(cache, make_story(5, 40)), 0);
    visit v;
    start(cache, &v, make_story(5, 40));
    assert_true(v.lease.reused == 40 && !v.lease.writes);
    finish(cache, &v);
    start(cache, &v, make_story(5, 75));
    assert_true(v.lease.reused == 40 && v.lease.writes);
    finish(cache, &v);
    assert_int_equal(serve(cache, make_story(5, 33)), 33); /* shorter: read, and the rest stays */
    assert_int_equal(serve(cache, make_story(5, 75)), 75);
    assert_int_equal(serve(cache, make_story(6, 0)), 0);
    const hs_cache_stats s = stats_of(cache);
    assert_true(s.n_requests == 6 && s.n_hits == 4 && s.n_tokens == 263 && s.n_reused_tokens == 188);
    assert_true(s.n_stored == 2 && s.n_not_stored == 0 && s.n_changed == 0);
    assert_true(s.n_users == 1 && s.n_held == 0 && s.n_pages == 8 && s.n_free_pages == 5);
    assert_true(s.n_cached_tokens == 75 && s.n_unused_rows == 21 && s.page_bytes == PAGE_BYTES);
    hs_cache_reset_stats(cache);
    const hs_cache_stats reset = stats_of(cache);
    assert_true(reset.n_requests == 0 && reset.n_stored == 0 && reset.n_cached_tokens == 75);
    hs_cache_close(cache);
}

static void test_a_changed_word_ends_what_is_reused(void **state)
{
    (void)state;
    for (int64_t at = 0; at < 96 * WORDS; at += 7) {
        hs_cache *cache = open_pages(4);
        assert_int_equal(serve(cache, make_story(1, 96)), 0);
        story s = make_story(1, 96);
        s.word[at] ^= INT64_MIN;
        assert_int_equal(serve(cache, s), at / WORDS);
        assert_int_equal(serve(cache, s), 96);
        assert_int_equal(stats_of(cache).n_changed, 1);
        hs_cache_close(cache);
    }
}

static void test_a_changed_head_ends_all(void **state)
{
    (void)state;
    hs_cache *cache = open_pages(4);
    assert_int_equal(serve(cache, make_story(1, 96)), 0);
    for (int i = 0; i < HEAD; i++) {
        story s = make_story(1, 96);
        s.head[i]++;
        assert_int_equal(serve(cache, s), 0);
        assert_int_equal(serve(cache, s), 96);
        assert_int_equal(stats_of(cache).n_changed, i + 1);
    }
    assert_int_equal(stats_of(cache).n_users, 1);
    hs_cache_close(cache);
}

static void test_a_slid_or_cut_history(void **state)
{
    (void)state;
    hs_cache *cache = open_pages(8);
    assert_int_equal(serve(cache, make_story(1, 100)), 0);
    story s = make_story(1, 99);
    memmove(s.word, s.word + WORDS, (size_t)(99 * WORDS) * sizeof *s.word);
    assert_int_equal(serve(cache, s), 0);
    assert_int_equal(stats_of(cache).n_cached_tokens, 99);
    s.n_tokens = 20;
    s.word[19 * WORDS] = -1; /* shorter and other: its pages become fewer */
    assert_int_equal(serve(cache, s), 19);
    assert_int_equal(stats_of(cache).n_cached_tokens, 20);
    assert_int_equal(stats_of(cache).n_free_pages, 7);
    hs_cache_close(cache);
}

static void test_most_reused(void **state)
{
    (void)state;
    hs_cache *cache = open_pages(8);
    assert_int_equal(serve(cache, make_story(1, 70)), 0);
    visit v;
    start_most(cache, &v, make_story(1, 70), 69);
    assert_true(v.lease.reused == 69 && v.lease.writes);
    visit other; /* while the last token is computed again, others have the whole pages */
    start_most(cache, &other, make_story(1, 70), 69);
    assert_true(other.lease.reused == 64 && !other.lease.writes && other.n_own == 1);
    finish(cache, &other);
    finish(cache, &v);
    start_most(cache, &v, make_story(1, 70), -5);
    assert_true(v.lease.reused == 0 && v.lease.writes);
    finish(cache, &v);
    assert_int_equal(stats_of(cache).n_cached_tokens, 70);
    assert_int_equal(stats_of(cache).n_changed, 0);
    hs_cache_close(cache);
}

static void test_one_of_several_writes(void **state)
{
    (void)state;
    hs_cache *cache = open_pages(16);
    visit a, b, c, d;
    start(cache, &a, make_story(1, 50));
    assert_true(a.lease.writes);
    start(cache, &b, make_story(1, 50)); /* nothing is there yet */
    assert_true(b.lease.entry == 0 && b.n_own == 2);
    finish(cache, &b);
    finish(cache, &a);
    start(cache, &a, make_story(1, 80));
    assert_true(a.lease.reused == 50 && a.lease.writes);
    start(cache, &b, make_story(1, 90)); /* whole pages of what was there */
    assert_true(b.lease.reused == 32 && !b.lease.writes);
    start(cache, &c, make_story(1, 32)); /* all that this one needs */
    assert_true(c.lease.reused == 32 && !c.lease.writes && c.n_own == 0);
    finish(cache, &a);
    start(cache, &d, make_story(1, 80)); /* nobody writes any more: all of it */
    assert_true(d.lease.reused == 80 && !d.lease.writes);
    start(cache, &a, make_story(1, 85)); /* held by others: whole pages, and nothing is stored */
    assert_true(a.lease.reused == 64 && !a.lease.writes);
    finish(cache, &b);
    finish(cache, &c);
    finish(cache, &d);
    finish(cache, &a);
    assert_int_equal(serve(cache, make_story(1, 85)), 80);
    const hs_cache_stats s = stats_of(cache);
    assert_true(s.n_busy == 3 && s.n_not_stored == 3 && s.n_stored == 3 && s.n_held == 0);
    hs_cache_close(cache);
}

static void test_an_aborted_request_keeps_what_was_there(void **state)
{
    (void)state;
    hs_cache *cache = open_pages(8);
    visit v, reader;
    start(cache, &v, make_story(1, 50));
    hs_cache_release(cache, &v.lease);
    assert_int_equal(stats_of(cache).n_users, 0);
    assert_int_equal(stats_of(cache).n_free_pages, 8);
    assert_int_equal(serve(cache, make_story(1, 50)), 0);
    start(cache, &v, make_story(1, 200));
    start(cache, &reader, make_story(1, 200));
    memset(v.page[6], 1, PAGE_BYTES);
    hs_cache_release(cache, &v.lease);
    assert_true(v.lease.entry == 0 && !v.lease.writes);
    check_cache(cache);
    assert_int_equal(stats_of(cache).n_cached_tokens, 50);
    finish(cache, &reader);
    assert_int_equal(serve(cache, make_story(1, 50)), 50);
    assert_int_equal(stats_of(cache).n_stored, 1);
    story changed = make_story(1, 50);
    changed.word[20 * WORDS] = 0;
    start(cache, &v, changed);
    hs_cache_release(cache, &v.lease);
    assert_int_equal(serve(cache, make_story(1, 50)), 20);
    hs_cache_release(cache, &v.lease); /* holds nothing */
    hs_cache_close(cache);
}

static void test_the_least_recently_used_go(void **state)
{
    (void)state;
    hs_cache *cache = open_pages(4);
    for (int64_t user = 1; user <= 4; user++)
        assert_int_equal(serve(cache, make_story(user, 32)), 0);
    assert_int_equal(serve(cache, make_story(1, 32)), 32);
    assert_int_equal(serve(cache, make_story(5, 40)), 0); /* two pages: users 2 and 3 go */
    assert_int_equal(serve(cache, make_story(1, 32)), 32);
    assert_int_equal(serve(cache, make_story(4, 32)), 32);
    const hs_cache_stats s = stats_of(cache);
    assert_true(s.n_evicted_users == 2 && s.n_evicted_tokens == 64 && s.n_users == 3 && s.n_free_pages == 0);
    visit held;
    start(cache, &held, make_story(5, 40)); /* the oldest, but held: 1 and 4 go */
    assert_int_equal(serve(cache, make_story(1, 32)), 32);
    assert_int_equal(serve(cache, make_story(4, 32)), 32);
    assert_int_equal(serve(cache, make_story(6, 64)), 0);
    finish(cache, &held);
    assert_int_equal(stats_of(cache).n_users, 2);
    assert_int_equal(serve(cache, make_story(5, 40)), 40);
    assert_int_equal(serve(cache, make_story(6, 64)), 64);
    hs_cache_close(cache);
}

static void test_nobody_is_evicted_in_vain(void **state)
{
    (void)state;
    hs_cache *cache = open_pages(4);
    assert_int_equal(serve(cache, make_story(1, 64)), 0);
    assert_int_equal(serve(cache, make_story(2, 32)), 0);
    assert_int_equal(serve(cache, make_story(3, 32 * 5)), 0); /* more than the cache has */
    assert_int_equal(serve(cache, make_story(1, 32 * 5)), 64);
    hs_cache_stats s = stats_of(cache);
    assert_true(s.n_too_large == 2 && s.n_evicted_users == 0 && s.n_users == 2 && s.n_free_pages == 1);
    visit held, v;
    start(cache, &held, make_story(1, 64));
    start(cache, &v, make_story(4, 96)); /* one page free and one of user 2: not enough */
    assert_true(v.lease.entry == 0 && v.n_own == 3);
    finish(cache, &v);
    start(cache, &v, make_story(2, 128)); /* its own page and the free one: not enough, but its own can be read */
    assert_true(v.lease.reused == 32 && !v.lease.writes);
    finish(cache, &v);
    finish(cache, &held);
    s = stats_of(cache);
    assert_true(s.n_no_room == 2 && s.n_not_stored == 4 && s.n_evicted_users == 0 && s.n_users == 2);
    assert_int_equal(serve(cache, make_story(2, 128)), 32); /* now user 1 goes */
    assert_int_equal(stats_of(cache).n_evicted_users, 1);
    assert_int_equal(serve(cache, make_story(2, 128)), 128);
    hs_cache_close(cache);
}

static void test_dropped_users_live_until_their_requests_end(void **state)
{
    (void)state;
    hs_cache *cache = open_pages(8);
    assert_false(hs_cache_drop_user(cache, 1));
    assert_int_equal(serve(cache, make_story(1, 40)), 0);
    assert_true(hs_cache_drop_user(cache, 1));
    assert_int_equal(stats_of(cache).n_free_pages, 8);
    assert_int_equal(serve(cache, make_story(1, 40)), 0);
    visit reader, writer, again;
    start(cache, &writer, make_story(1, 50));
    start(cache, &reader, make_story(1, 40));
    assert_true(writer.lease.writes && reader.lease.reused == 32);
    assert_true(hs_cache_drop_user(cache, 1));
    assert_int_equal(stats_of(cache).n_users, 0);
    start(cache, &again, make_story(1, 60)); /* a new entry beside the dropped one */
    assert_true(again.lease.reused == 0 && again.lease.writes);
    finish(cache, &again);
    const hs_cache_stats before = stats_of(cache);
    finish(cache, &writer);
    assert_int_equal(stats_of(cache).n_stored, before.n_stored);
    assert_int_equal(stats_of(cache).n_busy, before.n_busy + 1);
    assert_int_equal(stats_of(cache).n_free_pages, 4);
    finish(cache, &reader);
    assert_int_equal(stats_of(cache).n_free_pages, 6);
    assert_int_equal(serve(cache, make_story(1, 60)), 60);
    start(cache, &writer, make_story(1, 70));
    start(cache, &again, make_story(2, 70));
    hs_cache_drop_all(cache);
    assert_int_equal(stats_of(cache).n_users, 0);
    assert_int_equal(stats_of(cache).n_held, 2);
    hs_cache_release(cache, &writer.lease);
    finish(cache, &again);
    assert_int_equal(stats_of(cache).n_free_pages, 8);
    assert_int_equal(stats_of(cache).n_cached_tokens, 0);
    hs_cache_close(cache);
}

static void test_no_choice_of_ids_makes_long_buckets(void **state)
{
    (void)state;
    for (int shift = 0; shift < 64; shift += 9) {
        hs_cache *cache = open_pages(500);
        for (uint64_t i = 0; i < 500; i++) {
            story s = make_story(0, 1);
            s.user_id = (int64_t)(i << shift);
            (void)serve(cache, s);
        }
        for (uint32_t b = 0; b < cache->n_pages; b++) {
            int n = 0;
            for (uint32_t e = cache->bucket[b]; e; e = cache->entry[e].next)
                n++;
            assert_true(n < 12);
        }
        hs_cache_close(cache);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_refuses_shapes),
        cmocka_unit_test(test_open_tells_what_a_page_needs),
        cmocka_unit_test(test_a_million_users_fit),
        cmocka_unit_test(test_large_pages_lie_spread),
        cmocka_unit_test(test_a_user_comes_back),
        cmocka_unit_test(test_a_changed_word_ends_what_is_reused),
        cmocka_unit_test(test_a_changed_head_ends_all),
        cmocka_unit_test(test_a_slid_or_cut_history),
        cmocka_unit_test(test_most_reused),
        cmocka_unit_test(test_one_of_several_writes),
        cmocka_unit_test(test_an_aborted_request_keeps_what_was_there),
        cmocka_unit_test(test_the_least_recently_used_go),
        cmocka_unit_test(test_nobody_is_evicted_in_vain),
        cmocka_unit_test(test_dropped_users_live_until_their_requests_end),
        cmocka_unit_test(test_no_choice_of_ids_makes_long_buckets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
