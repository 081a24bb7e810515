/* Stamps of pages: when they stay, so that a device need not look again, and when they must change. */
#include "cache/kvcache.h"

#include "cachefile_support.h"
#include "stamp_support.h"

enum { PAGES_MOST = TOKENS_MOST / PAGE_TOKENS };

/* A request under way. */
typedef struct visit {
    story s;
    hs_cache_lease lease;
    char *page[PAGES_MOST];
    uint64_t stamp[PAGES_MOST];
} visit;

static memory device;

static void begin_most(hs_cache *cache, visit *v, story s, int64_t most_reused)
{
    *v = (visit){.s = s};
    memset(v->stamp, 0xff, sizeof v->stamp);
    const hs_cache_history history = history_of(&v->s);
    hs_cache_acquire(cache, &history, most_reused, &v->lease, v->page, v->stamp);
    look(&device, &v->lease, s.n_tokens, v->page, v->stamp);
    assert_null(device.complaint);
}

static void begin(hs_cache *cache, visit *v, story s)
{
    begin_most(cache, v, s, s.n_tokens);
}

static void end(hs_cache *cache, visit *v, bool commits)
{
    uint64_t row[TOKENS_MOST];
    const hs_cache_history history = history_of(&v->s);
    rows_of(&v->s, row);
    if (!commits)
        memset(row, 0xee, sizeof row);
    if (v->lease.writes)
        fill_rows(v->page, row, v->lease.reused, v->s.n_tokens);
    look_away(&device, &v->lease, v->s.n_tokens, v->page, v->stamp);
    if (commits)
        hs_cache_commit(cache, &v->lease, &history);
    else
        hs_cache_release(cache, &v->lease);
    check_cache(cache);
}

/* One request from start to end. */
static visit once(hs_cache *cache, story s)
{
    visit v;
    begin(cache, &v, s);
    end(cache, &v, true);
    return v;
}

/* A bit for each of n pages that has the same address and stamp in both. */
static unsigned same(const visit *a, const visit *b, int n)
{
    unsigned bits = 0;
    for (int i = 0; i < n; i++)
        bits |= (unsigned)(a->page[i] && a->page[i] == b->page[i] && a->stamp[i] == b->stamp[i]) << i;
    return bits;
}

static void test_what_is_read_stays(void **state)
{
    (void)state;
    hs_cache *cache = open_pages(8);
    (void)once(cache, make_story(1, 90));
    const visit a = once(cache, make_story(1, 90)), b = once(cache, make_story(1, 90)),
                cut = once(cache, make_story(1, 40));
    assert_int_equal(same(&a, &b, 3), 7);
    assert_int_equal(same(&a, &cut, 2), 3);
    assert_true(a.stamp[0] != a.stamp[1] && a.stamp[1] != a.stamp[2] && a.stamp[0] != a.stamp[2]);
    (void)once(cache, make_story(2, 90));
    assert_int_equal(hs_cache_drop_user(cache, 2), true);
    const visit c = once(cache, make_story(1, 90));
    assert_int_equal(same(&a, &c, 3), 7); /* whatever others do */
    hs_cache_close(cache);
}

static void test_growth(void **state)
{
    (void)state;
    hs_cache *cache = open_pages(8);
    visit grows = once(cache, make_story(1, 90));
    const visit a = once(cache, make_story(1, 90));
    assert_int_equal(same(&grows, &a, 3), 0); /* committed since */
    begin(cache, &grows, make_story(1, 100));
    assert_true(grows.lease.writes && grows.lease.reused == 90);
    assert_int_equal(same(&grows, &a, 4), 7); /* nothing of it is cut */
    end(cache, &grows, true);
    const visit b = once(cache, make_story(1, 100));
    assert_int_equal(same(&a, &b, 4), 3);
    assert_int_equal(same(&grows, &b, 4), 3);
    const visit full = once(cache, make_story(1, 128)), c = once(cache, make_story(1, 128));
    assert_int_equal(same(&full, &b, 4), 15);
    assert_int_equal(same(&c, &b, 4), 7);
    const visit more = once(cache, make_story(1, 130)); /* no page is shared by old tokens and new ones */
    const visit d = once(cache, make_story(1, 130));
    assert_int_equal(same(&more, &c, 4), 15);
    assert_int_equal(same(&d, &c, 4), 15);
    assert_int_equal(same(&d, &more, 5), 15);
    hs_cache_close(cache);
}

static void test_an_edit(void **state)
{
    (void)state;
    hs_cache *cache = open_pages(8);
    (void)once(cache, make_story(1, 120));
    const visit before = once(cache, make_story(1, 120));
    story edited = make_story(1, 120);
    edited.word[50 * WORDS]++;
    const visit writes = once(cache, edited), after = once(cache, edited);
    assert_true(writes.lease.reused == 0 && !after.lease.writes); /* ended */
    assert_int_equal(same(&before, &writes, 4), 1);               /* pages 1 to 3 were seen with what is now cut off */
    assert_int_equal(same(&before, &after, 4), 1);
    assert_int_equal(same(&writes, &after, 4), 1);
    edited.n_tokens = 40; /* shorter, and an edit at the first token of a page */
    edited.word[32 * WORDS]++;
    const visit cut = once(cache, edited), last = once(cache, edited);
    assert_int_equal(same(&after, &cut, 2), 1);
    assert_int_equal(same(&after, &last, 2), 1);
    assert_int_equal(same(&cut, &last, 2), 1);
    edited.head[0]++; /* changes all */
    const visit head = once(cache, edited), all = once(cache, edited);
    assert_int_equal(same(&last, &head, 2), 0);
    assert_int_equal(same(&last, &all, 2), 0);
    assert_int_equal(same(&head, &all, 2), 0);
    hs_cache_close(cache);
}

/* The newest token is computed again: what was seen of it counts no more. */
static void test_most_reused(void **state)
{
    (void)state;
    hs_cache *cache = open_pages(8);
    (void)once(cache, make_story(1, 65));
    const visit before = once(cache, make_story(1, 65));
    visit again;
    begin_most(cache, &again, make_story(1, 65), 64);
    assert_true(again.lease.writes && again.lease.reused == 64);
    assert_int_equal(same(&before, &again, 3), 3);
    end(cache, &again, true);
    const visit after = once(cache, make_story(1, 65));
    assert_int_equal(same(&before, &after, 3), 3);
    assert_int_equal(same(&again, &after, 3), 3);
    hs_cache_close(cache);
}

static void test_a_lease_that_is_given_up(void **state)
{
    (void)state;
    hs_cache *cache = open_pages(8);
    (void)once(cache, make_story(1, 40));
    const visit before = once(cache, make_story(1, 40));
    visit fails;
    begin(cache, &fails, make_story(1, 70));
    assert_int_equal(same(&before, &fails, 2), 3);
    end(cache, &fails, false);
    const visit after = once(cache, make_story(1, 40));
    assert_int_equal(after.stamp[2], UINT64_MAX); /* nothing behind the history's pages is touched */
    assert_int_equal(same(&before, &after, 2), 1);
    begin(cache, &fails, make_story(1, 70));
    assert_int_equal(same(&after, &fails, 2), 3);
    end(cache, &fails, true);
    begin_most(cache, &fails, make_story(1, 70), 64); /* cut at the end of a page: that page is whole */
    end(cache, &fails, false);
    const visit whole = once(cache, make_story(1, 64));
    assert_true(whole.lease.reused == 0 && whole.lease.entry == 0);
    assert_int_equal(same(&whole, &fails, 3), 3);
    visit fresh; /* the first lease of a user, twice over the same pages */
    begin(cache, &fresh, make_story(2, 70));
    end(cache, &fresh, false);
    visit retry;
    begin(cache, &retry, make_story(2, 70));
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            assert_true(retry.stamp[i] != fresh.stamp[j]);
    end(cache, &retry, true);
    hs_cache_close(cache);
}

/* One writes, others read whole pages: these keep their stamps whatever becomes of the writer. */
static void test_several_leases_of_a_user(void **state)
{
    (void)state;
    for (int commits = 0; commits < 2; commits++) {
        hs_cache *cache = open_pages(8);
        (void)once(cache, make_story(1, 70));
        const visit before = once(cache, make_story(1, 70));
        visit writer, reader, shorter;
        begin(cache, &writer, make_story(1, 100));
        begin(cache, &reader, make_story(1, 100));
        assert_true(writer.lease.writes && reader.lease.reused == 64 && !reader.lease.writes);
        assert_int_equal(same(&before, &writer, 3), 7);
        assert_int_equal(same(&before, &reader, 3), 3);
        assert_true(reader.stamp[2] == 0 && reader.stamp[3] == 0 && !reader.page[2] && !reader.page[3]);
        end(cache, &writer, commits);
        begin(cache, &shorter, make_story(1, 70));
        assert_int_equal(shorter.lease.reused, 70);
        assert_int_equal(same(&before, &shorter, 3), 3);
        begin_most(cache, &writer, make_story(1, 70), 66); /* others hold it: cuts nothing */
        assert_true(!writer.lease.writes && writer.lease.reused == 64);
        end(cache, &writer, true);
        end(cache, &reader, true);
        end(cache, &shorter, true);
        const visit after = once(cache, make_story(1, 70));
        assert_int_equal(same(&shorter, &after, 3), 7);
        hs_cache_close(cache);
    }
}

static void test_pages_that_go_to_others(void **state)
{
    (void)state;
    hs_cache *cache = open_pages(2);
    const visit one = once(cache, make_story(1, 64));
    const visit held = once(cache, make_story(1, 64)), two = once(cache, make_story(2, 64)); /* user 1 is evicted */
    assert_true(two.page[0] == one.page[0] || two.page[0] == one.page[1]);
    const visit back = once(cache, make_story(1, 64)), read = once(cache, make_story(1, 64));
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) {
            assert_true(two.stamp[i] != one.stamp[j] && two.stamp[i] != held.stamp[j]);
            assert_true(back.stamp[i] != held.stamp[j] && read.stamp[i] != held.stamp[j]);
        }
    hs_cache_drop_all(cache);
    const visit dropped = once(cache, make_story(1, 64));
    assert_int_equal(same(&dropped, &read, 2), 0);
    visit writer;
    begin(cache, &writer, make_story(1, 50)); /* reads; dropped meanwhile, it keeps what it holds */
    assert_true(hs_cache_drop_user(cache, 1));
    end(cache, &writer, true);
    begin(cache, &writer, make_story(1, 50));
    assert_true(hs_cache_drop_user(cache, 1));
    end(cache, &writer, true); /* commits for nobody */
    const visit last = once(cache, make_story(1, 50));
    assert_int_equal(same(&last, &writer, 2), 0);
    hs_cache_close(cache);
}

static void test_a_file(void **state)
{
    (void)state;
    hs_cache *cache = open_users(4);
    save(cache);
    const visit before = once(cache, make_story(4, 68));
    hs_cache_drop_all(cache);
    assert_int_equal(load(cache).n_users, 4);
    const visit loaded = once(cache, make_story(4, 68));
    assert_int_equal(loaded.lease.entry, 0); /* has ended */
    hs_cache_drop_all(cache);
    assert_int_equal(load(cache).n_users, 4);
    const visit again = once(cache, make_story(4, 68)), still = once(cache, make_story(4, 68));
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            assert_true(loaded.stamp[i] != before.stamp[j] && again.stamp[i] != loaded.stamp[j] &&
                        again.stamp[i] != before.stamp[j]);
    save(cache); /* changes nothing */
    const visit saved = once(cache, make_story(4, 68));
    assert_int_equal(same(&again, &still, 3), 7);
    assert_int_equal(same(&again, &saved, 3), 7);
    hs_cache_close(cache);
}

/* Memory of a closed cache is soon that of the next one. */
static void test_another_cache(void **state)
{
    (void)state;
    uint64_t last = 0;
    for (int i = 0; i < 20; i++) {
        hs_cache *cache = open_pages(2);
        (void)once(cache, make_story(i, 40));
        const visit v = once(cache, make_story(i, 40));
        assert_true(v.stamp[0] != last && v.stamp[1] != last);
        last = v.stamp[0];
        hs_cache_close(cache);
    }
}

static void test_stamps_are_part_of_the_budget(void **state)
{
    (void)state;
    const size_t each = PAGE_TOKENS * WORDS * 8 + HEAD * 8 + sizeof(hs_cache_entry) + 2 * sizeof(uint32_t);
    hs_cache *cache = NULL;
    hs_cache_stats s;
    const uint64_t budget = 1 << 24;
    assert_int_equal(hs_cache_open(&cache, &support_shape, budget, NULL), HSTU_OK);
    hs_cache_get_stats(cache, &s);
    assert_true(s.n_pages > 10000);
    assert_true(s.bookkeeping_bytes >= s.n_pages * (each + sizeof(uint64_t)));
    assert_true(s.n_pages * s.page_bytes + s.bookkeeping_bytes <= budget);
    assert_true((s.n_pages + 1) * (PAGE_BYTES + each + sizeof(uint64_t)) + 8192 > budget); /* and little is left over */
    hs_cache_close(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_read_stays),
        cmocka_unit_test(test_growth),
        cmocka_unit_test(test_an_edit),
        cmocka_unit_test(test_most_reused),
        cmocka_unit_test(test_a_lease_that_is_given_up),
        cmocka_unit_test(test_several_leases_of_a_user),
        cmocka_unit_test(test_pages_that_go_to_others),
        cmocka_unit_test(test_a_file),
        cmocka_unit_test(test_another_cache),
        cmocka_unit_test(test_stamps_are_part_of_the_budget),
    };
    const int failed = cmocka_run_group_tests(tests, make_folder, remove_folder);
    forget(&device);
    return failed;
}
