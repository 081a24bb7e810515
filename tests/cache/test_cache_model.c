/* The cache against a plain model of it, as a state machine: random requests of thousands of users, several open at
 * a time, their histories growing, shrinking, edited and slid, under budgets of few pages. After each step what the
 * cache gave, evicted and counted is what the model says, and every row is the one that its words stand for. Stamps are
 * held against a device that remembers all that it has seen, over all caches. */
#include "cache/kvcache.h"

#include "stamp_support.h"

enum { USERS = 3000, HOT_USERS = 6, OPEN_MOST = 5, LENGTH_MOST = 190, MODEL_ENTRIES = 256, STEPS = 50000 };

/* What the model knows of an entry: the story of its tokens, and who holds it. */
typedef struct model_entry {
    story s; /* n_tokens: the committed ones */
    int64_t n_pages;
    uint64_t used; /* at which request */
    int n_holds;
    bool is_there, is_listed, has_writer;
} model_entry;

/* A request under way. */
typedef struct open_request {
    bool is_open;
    story s;
    uint64_t row[TOKENS_MOST];
    hs_cache_lease lease;
    char *page[TOKENS_MOST / PAGE_TOKENS];
    uint64_t stamp[TOKENS_MOST / PAGE_TOKENS];
    model_entry *entry;
} open_request;

typedef struct machine {
    hs_cache *cache;
    int64_t n_pages;
    uint64_t random, clock;
    story *user; /* [USERS]: what each brings next */
    model_entry entry[MODEL_ENTRIES];
    open_request request[OPEN_MOST];
    hs_cache_stats expected; /* the counters */
} machine;

static memory device;

/* ---- The model --------------------------------------------------------------------------------------------------- */

static model_entry *model_find(machine *m, int64_t user_id)
{
    for (model_entry *e = m->entry; e < m->entry + MODEL_ENTRIES; e++)
        if (e->is_there && e->is_listed && e->s.user_id == user_id)
            return e;
    return NULL;
}

static int64_t model_free_pages(const machine *m)
{
    int64_t n = m->n_pages;
    for (int i = 0; i < MODEL_ENTRIES; i++)
        n -= m->entry[i].is_there ? m->entry[i].n_pages : 0;
    return n;
}

static int64_t model_equal_tokens(const story *a, const story *b, int64_t n)
{
    if (memcmp(a->head, b->head, sizeof a->head) != 0)
        return 0;
    int64_t i = 0;
    while (i < n && memcmp(a->word + i * WORDS, b->word + i * WORDS, WORDS * sizeof *a->word) == 0)
        i++;
    return i;
}

/* Evicts for `want` pages beside what `keep` has, or nobody. */
static bool model_make_room(machine *m, int64_t want, const model_entry *keep)
{
    int64_t n_free = model_free_pages(m), n_idle = 0;
    for (const model_entry *e = m->entry; e < m->entry + MODEL_ENTRIES; e++)
        n_idle += e->is_there && e->n_holds == 0 && e != keep ? e->n_pages : 0;
    if (want > n_free + n_idle)
        return false;
    while (n_free < want) {
        model_entry *oldest = NULL;
        for (model_entry *e = m->entry; e < m->entry + MODEL_ENTRIES; e++)
            if (e->is_there && e->n_holds == 0 && e != keep && (!oldest || e->used < oldest->used))
                oldest = e;
        assert_non_null(oldest);
        n_free += oldest->n_pages;
        m->expected.n_evicted_users++;
        m->expected.n_evicted_tokens += (uint64_t)oldest->s.n_tokens;
        oldest->is_there = false;
    }
    return true;
}

static model_entry *model_new_entry(machine *m, int64_t user_id)
{
    for (model_entry *e = m->entry; e < m->entry + MODEL_ENTRIES; e++)
        if (!e->is_there) {
            *e = (model_entry){.is_there = true, .is_listed = true, .s.user_id = user_id};
            return e;
        }
    fail_msg("the model has too few entries");
    return NULL;
}

/* Whether a request of n_pages may write, as the contract has it. */
static bool model_may_write(machine *m, const model_entry *e, int64_t n_pages)
{
    const int64_t missing = n_pages - (e ? e->n_pages : 0);
    if (n_pages > m->n_pages)
        m->expected.n_too_large++;
    else if (e && e->n_holds > 0)
        m->expected.n_busy++;
    else if (missing > 0 && !model_make_room(m, missing, e))
        m->expected.n_no_room++;
    else
        return true;
    return false;
}

/* What hs_cache_acquire must give. */
static hs_cache_lease model_acquire(machine *m, open_request *r, int64_t most_reused)
{
    const int64_t n = r->s.n_tokens;
    hs_cache_lease lease = {0};
    model_entry *e = n > 0 ? model_find(m, r->s.user_id) : NULL;
    m->expected.n_requests++;
    m->expected.n_tokens += (uint64_t)n;
    if (e) {
        const int64_t stored = e->has_writer ? e->s.n_tokens / PAGE_TOKENS * PAGE_TOKENS : e->s.n_tokens;
        const int64_t n_both = stored < n ? stored : n;
        const int64_t equal = model_equal_tokens(&e->s, &r->s, n_both);
        m->expected.n_changed += equal < n_both;
        lease.reused = equal < most_reused ? equal : most_reused;
        e->used = ++m->clock;
    }
    lease.writes = lease.reused < n && model_may_write(m, e, pages_of(n));
    if (!lease.writes && lease.reused < n)
        lease.reused = lease.reused / PAGE_TOKENS * PAGE_TOKENS;
    if (lease.writes && !e) {
        e = model_new_entry(m, r->s.user_id);
        e->used = ++m->clock;
    }
    if (lease.writes) {
        e->has_writer = true;
        e->n_pages = pages_of(n);
        e->s.n_tokens = lease.reused;
    }
    r->entry = lease.writes || lease.reused > 0 ? e : NULL;
    if (r->entry)
        r->entry->n_holds++;
    m->expected.n_hits += lease.reused > 0;
    m->expected.n_reused_tokens += (uint64_t)lease.reused;
    return lease;
}

static void model_end(machine *m, open_request *r, bool commits)
{
    model_entry *e = r->entry;
    if (!e)
        return;
    if (r->lease.writes) {
        e->has_writer = false;
        if (commits) {
            e->s = r->s;
            m->expected.n_stored += e->is_listed;
            m->expected.n_busy += !e->is_listed;
        }
        e->n_pages = pages_of(e->s.n_tokens);
        e->is_there = e->s.n_tokens > 0;
    }
    if (--e->n_holds == 0 && !e->is_listed)
        e->is_there = false;
}

static bool model_drop(model_entry *e)
{
    if (!e)
        return false;
    e->is_listed = false;
    e->is_there = e->n_holds > 0;
    return true;
}

/* ---- Comparing the two ------------------------------------------------------------------------------------------- */

static void check_stats(machine *m)
{
    hs_cache_stats got, want = m->expected;
    hs_cache_get_stats(m->cache, &got);
    want.n_not_stored = want.n_too_large + want.n_no_room + want.n_busy;
    want.n_pages = (uint64_t)m->n_pages;
    want.n_free_pages = (uint64_t)model_free_pages(m);
    for (const model_entry *e = m->entry; e < m->entry + MODEL_ENTRIES; e++)
        if (e->is_there) {
            want.n_users += e->is_listed;
            want.n_held += e->n_holds > 0;
            want.n_cached_tokens += (uint64_t)e->s.n_tokens;
        }
    want.n_unused_rows = (want.n_pages - want.n_free_pages) * PAGE_TOKENS - want.n_cached_tokens;
    want.page_bytes = PAGE_BYTES;
    want.bookkeeping_bytes = got.bookkeeping_bytes;
    want.budget_bytes = got.budget_bytes;
    assert_memory_equal(&got, &want, sizeof got);
}

/* The entries of the cache, oldest first, are those of the model, with their words and rows. */
static void check_entries(machine *m)
{
    const hs_cache *c = m->cache;
    uint64_t used = 0;
    for (uint32_t i = c->entry[0].newer; i; i = c->entry[i].newer) {
        const hs_cache_entry *e = &c->entry[i];
        const model_entry *want = model_find(m, e->user_id);
        uint64_t row[TOKENS_MOST];
        assert_non_null(want);
        assert_true(want->used > used);
        used = want->used;
        assert_int_equal(e->n_tokens, want->s.n_tokens);
        assert_int_equal(e->n_pages, want->n_pages);
        assert_true((int)e->n_holds == want->n_holds && e->has_writer == want->has_writer);
        if (e->n_tokens > 0)
            assert_memory_equal(hs_cache_head(c, i), want->s.head, sizeof want->s.head);
        rows_of(&want->s, row);
        uint32_t page = e->first_page;
        for (int64_t t = 0; t < e->n_tokens; t++) {
            const int64_t at = t % PAGE_TOKENS;
            if (t > 0 && at == 0)
                page = c->next_page[page];
            assert_memory_equal(
                hs_cache_words(c, page) + at * WORDS, want->s.word + t * WORDS, WORDS * sizeof(int64_t));
            assert_memory_equal(hs_cache_page(c, page) + at * 8, &row[t], 8);
        }
    }
}

/* ---- The steps --------------------------------------------------------------------------------------------------- */

static int64_t random_word(machine *m)
{
    return below(&m->random, 3) - 1; /* few values: prefixes are often equal by chance */
}

static int64_t random_user(machine *m)
{
    return below(&m->random, below(&m->random, 3) ? HOT_USERS : USERS);
}

/* What happens to a user between two requests. */
static void change_story(machine *m, story *s)
{
    const int64_t n = s->n_tokens, kind = below(&m->random, 16);
    if (kind < 8) { /* grows; what does not fit slides out */
        int64_t more = below(&m->random, 45);
        if (n + more > LENGTH_MOST) {
            const int64_t gone = n + more - LENGTH_MOST;
            memmove(s->word, s->word + gone * WORDS, (size_t)((n - gone) * WORDS) * sizeof *s->word);
            s->n_tokens -= gone;
        }
        for (; more > 0; more--, s->n_tokens++)
            for (int w = 0; w < WORDS; w++)
                s->word[s->n_tokens * WORDS + w] = random_word(m);
    } else if (kind < 10) {
        s->n_tokens = below(&m->random, n + 1);
    } else if (kind < 13 && n > 0) {
        s->word[below(&m->random, n * WORDS)] = random_word(m);
    } else if (kind == 13) {
        s->head[below(&m->random, HEAD)] = random_word(m);
    } /* else the same again */
}

static void step_acquire(machine *m, open_request *r)
{
    story *user = &m->user[random_user(m)];
    change_story(m, user);
    *r = (open_request){.is_open = true, .s = *user};
    const int64_t n = r->s.n_tokens, most_reused = below(&m->random, 4) ? n : below(&m->random, n + 1);
    const hs_cache_history history = history_of(&r->s);
    const hs_cache_lease want = model_acquire(m, r, most_reused);
    rows_of(&r->s, r->row);
    hs_cache_acquire(m->cache, &history, most_reused, &r->lease, r->page, r->stamp);
    assert_int_equal(r->lease.reused, want.reused);
    assert_int_equal(r->lease.writes, want.writes);
    assert_int_equal(r->lease.entry != 0, r->entry != NULL);
    for (int64_t i = 0; i < pages_of(n); i++)
        assert_int_equal(r->page[i] != NULL, i < pages_of(want.writes ? n : want.reused));
    assert_int_equal(right_rows(r->page, r->row, want.reused), want.reused);
    look(&device, &r->lease, n, r->page, r->stamp);
    if (device.complaint)
        fail_msg("%s", device.complaint);
    if (want.writes) /* rows that come to nothing unless they are committed */
        for (int64_t i = want.reused; i < n; i++)
            memset(r->page[i / PAGE_TOKENS] + i % PAGE_TOKENS * 8, 0xee, 8);
}

static void step_end(machine *m, open_request *r)
{
    const hs_cache_history history = history_of(&r->s);
    const bool commits = below(&m->random, 5) > 0;
    assert_int_equal(right_rows(r->page, r->row, r->lease.reused), r->lease.reused);
    if (commits && r->lease.writes)
        fill_rows(r->page, r->row, r->lease.reused, r->s.n_tokens);
    look_away(&device, &r->lease, r->s.n_tokens, r->page, r->stamp);
    model_end(m, r, commits);
    if (commits)
        hs_cache_commit(m->cache, &r->lease, &history);
    else
        hs_cache_release(m->cache, &r->lease);
    assert_int_equal(r->lease.entry, 0);
    r->is_open = false;
}

static void step(machine *m)
{
    open_request *r = &m->request[below(&m->random, OPEN_MOST)];
    const int64_t kind = below(&m->random, 1000);
    if (kind == 0) {
        hs_cache_drop_all(m->cache);
        for (model_entry *e = m->entry; e < m->entry + MODEL_ENTRIES; e++)
            if (e->is_there && e->is_listed)
                (void)model_drop(e);
    } else if (kind < 40) {
        const int64_t id = m->user[random_user(m)].user_id;
        const bool was_there = model_drop(model_find(m, id));
        assert_int_equal(hs_cache_drop_user(m->cache, id), was_there);
    } else if (kind == 40) {
        hs_cache_reset_stats(m->cache);
        m->expected = (hs_cache_stats){0};
    } else if (r->is_open) {
        step_end(m, r);
    } else {
        step_acquire(m, r);
    }
}

/* Also what a device saves that knows all that it has seen: at least that share of the committed tokens. */
static void run(int64_t n_pages, uint64_t seed, double least_known)
{
    device.n_known = device.n_new = 0;
    machine *m = calloc(1, sizeof *m);
    assert_non_null(m);
    *m = (machine){.cache = open_pages((uint64_t)n_pages), .n_pages = n_pages, .random = seed};
    m->user = calloc(USERS, sizeof *m->user);
    assert_non_null(m->user);
    for (int64_t i = 0; i < USERS; i++)
        m->user[i].user_id = (int64_t)((uint64_t)i << (i % 57)); /* 0, small ones, ones that differ in high bits */
    for (int64_t i = 0; i < USERS; i++)
        m->user[i].user_id ^= i << 32;
    m->user[1].user_id = INT64_MIN;
    m->user[2].user_id = INT64_MAX;
    m->user[3].user_id = -1;
    for (int i = 0; i < STEPS; i++) {
        step(m);
        check_stats(m);
        check_cache(m->cache);
        if (i % 32 == 0)
            check_entries(m);
    }
    for (int i = 0; i < OPEN_MOST; i++)
        if (m->request[i].is_open)
            step_end(m, &m->request[i]);
    check_stats(m);
    check_entries(m);
    hs_cache_stats s;
    hs_cache_get_stats(m->cache, &s);
    assert_int_equal(s.n_held, 0);
    assert_true((double)device.n_known >= least_known * (double)(device.n_known + device.n_new));
    hs_cache_close(m->cache);
    free(m->user);
    free(m);
}

static void test_four_pages(void **state)
{
    (void)state;
    run(4, 1, 0.2); /* fewer than the longest histories need */
}

static void test_ten_pages(void **state)
{
    (void)state;
    run(10, 2, 0.15);
}

static void test_forty_pages(void **state)
{
    (void)state;
    run(40, 3, 0.4);
}

static void test_two_hundred_pages(void **state)
{
    (void)state;
    run(200, 4, 0.4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_four_pages),
        cmocka_unit_test(test_ten_pages),
        cmocka_unit_test(test_forty_pages),
        cmocka_unit_test(test_two_hundred_pages),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    forget(&device);
    return failed;
}
