/* With a cache and without: the same bits, for every family and variant, whatever has become of the users' histories,
 * whoever shares the batch, however small the cache; and rows are reused exactly as far as they may be. */
#include "engine/cache_models.h"

enum { USERS = 7 };

/* A session with a cache and one without, and what the cache must hold. */
typedef struct pair {
    const cache_variant *variant;
    hstu_model *model;
    hstu_cache *cache;
    hstu_session *cached, *plain;
    hstu_model_info info;
    bool is_ranking;
    int64_t page_tokens;
    bool has_room;     /* for everybody: nothing is evicted */
    visit kept[USERS]; /* the request behind each user's rows */
    bool is_kept[USERS], had_times[USERS];
    uint64_t n_reused;
} pair;

/* room: of the cache, in tokens */
static void open_pair(pair *p, const cache_variant *v, int threads, int64_t page_tokens, int64_t room)
{
    memset(p, 0, sizeof *p);
    p->variant = v;
    p->model = open_variant(v, threads, 5);
    p->cache = open_cache_of_pages(p->model, page_tokens, (uint64_t)((room + page_tokens - 1) / page_tokens));
    p->cached = open_session(p->model, p->cache);
    p->plain = open_session(p->model, NULL);
    p->page_tokens = page_tokens;
    p->has_room = room >= USERS * (2 * LONGEST + FEATURES * IDS_MOST + page_tokens);
    hstu_model_get_info(p->model, &p->info);
    p->is_ranking = p->model->model.config.family == HS_CONFIG_RANKING;
}

static void close_pair(pair *p)
{
    hstu_session_close(p->plain);
    hstu_session_close(p->cached);
    hstu_cache_close(p->cache);
    hstu_model_close(p->model);
}

/* ---- What may be reused ------------------------------------------------------------------------------------------ */

static int64_t used_events(const pair *p, const visit *v)
{
    return v->n_events < p->info.max_sequence_length ? v->n_events : p->info.max_sequence_length;
}

static int64_t n_tokens(const pair *p, const visit *v)
{
    int64_t n = used_events(p, v);
    if (!p->is_ranking)
        return n;
    n *= 2;
    for (size_t f = 0; f < p->info.n_context; f++)
        n += v->n_ids[f];
    return v->n_candidates > 0 ? n : 0;
}

/* Contextual tokens, then an item and an action for each event. */
static int64_t equal_ranking_tokens(const pair *p, const visit *a, const visit *b)
{
    const int64_t skip_a = a->n_events - used_events(p, a), skip_b = b->n_events - used_events(p, b);
    int64_t n_context = 0, equal = 0;
    for (size_t f = 0; f < p->info.n_context; f++) {
        if (a->n_ids[f] != b->n_ids[f])
            return 0;
        n_context += a->n_ids[f];
    }
    while (equal < n_context && a->context[equal] == b->context[equal])
        equal++;
    if (equal < n_context)
        return equal;
    for (int64_t i = 0; i < used_events(p, a) && i < used_events(p, b); i++) {
        if (a->item[skip_a + i] != b->item[skip_b + i])
            break;
        equal++;
        if (a->action[skip_a + i] != b->action[skip_b + i])
            break;
        equal++;
    }
    return equal;
}

/* The time that row i of a history is made with: that of the next event, or of the request. */
static int64_t row_time(const pair *p, const visit *v, int64_t i)
{
    const int64_t last = p->info.attention_n - 1, next = i + 1 < last ? i + 1 : last;
    return next < used_events(p, v) ? v->time[v->n_events - used_events(p, v) + next] : v->query_time;
}

static int64_t equal_events(const pair *p, const visit *a, const visit *b, bool timed)
{
    const int64_t skip_a = a->n_events - used_events(p, a), skip_b = b->n_events - used_events(p, b);
    int64_t equal = 0;
    if (timed && a->time[skip_a] != b->time[skip_b])
        return 0;
    while (equal < used_events(p, a) && equal < used_events(p, b) &&
           a->item[skip_a + equal] == b->item[skip_b + equal] &&
           (!timed || row_time(p, a, equal) == row_time(p, b, equal)))
        equal++;
    return equal;
}

/* Rows of the user's last request that this one may use; the newest row of an embedding is always computed. */
static int64_t expected_reuse(const pair *p, const visit *v, bool with_times)
{
    const visit *kept = &p->kept[v->user_id];
    const bool timed = p->info.uses_time && with_times;
    if (p->variant->no_reuse || !p->is_kept[v->user_id] || n_tokens(p, v) == 0)
        return 0;
    if (p->is_ranking)
        return equal_ranking_tokens(p, kept, v);
    if (p->info.uses_time && p->had_times[v->user_id] != with_times)
        return 0;
    const int64_t equal = equal_events(p, kept, v, timed), most = n_tokens(p, v) - 1;
    return equal < most ? equal : most;
}

/* The request's rows stand in the cache from now on, unless it brought nothing new. */
static void keep(pair *p, const visit *v, bool with_times, int64_t reused)
{
    if (reused == n_tokens(p, v))
        return;
    p->kept[v->user_id] = *v;
    p->is_kept[v->user_id] = true;
    p->had_times[v->user_id] = with_times;
}

/* Each user's first request of the batch finds what was there, and what it computes is kept; the user's others find
 * less. */
static void check_reuse(pair *p, const visit *v, size_t n, bool with_times)
{
    bool has_come[USERS] = {false};
    for (size_t u = 0; u < n; u++, v++) {
        int64_t tokens = -1, reused = -1;
        hstu_error err;
        assert_ok(hstu_session_get_reuse(p->cached, u, &tokens, &reused, &err), &err);
        assert_int_equal(tokens, n_tokens(p, v));
        assert_in_range(reused, 0, tokens);
        p->n_reused += (uint64_t)reused;
        if (tokens == 0 || !p->has_room || has_come[v->user_id])
            continue;
        has_come[v->user_id] = true;
        const int64_t expected = expected_reuse(p, v, with_times);
        if (reused != expected)
            fail_msg("%s: user %zu reuses %d of %d rows, expected %d", p->variant->name, u, (int)reused, (int)tokens,
                (int)expected);
        keep(p, v, with_times, reused);
    }
}

/* ---- Random requests --------------------------------------------------------------------------------------------- */

static void expect_equal(const pair *p, const answers *a, const answers *b, int round, const char *what)
{
    if (memcmp(a, b, sizeof *a) != 0)
        fail_msg("%s, %s kernels, pages of %d, %d threads, round %d: %s differs from no cache", p->variant->name,
            p->info.isa, (int)p->page_tokens, p->info.threads, round, what);
}

/* The place of user u's answers in those of a batch, and how many there are. */
static void find_values(const pair *p, const visit_batch *b, question q, size_t u, size_t *first, size_t *n)
{
    if (p->is_ranking) {
        *first = (size_t)b->cand_offset[u] * CLASSES;
        *n = (size_t)(b->cand_offset[u + 1] - b->cand_offset[u]) * CLASSES;
    } else {
        *n = q == ASK_EMBEDDINGS ? (size_t)p->info.dim : TOP;
        *first = u * *n;
    }
}

/* One user alone, without the cache, against its place in the batch with it. */
static void check_alone(
    const pair *p, const visit *v, size_t n, bool with_times, question q, const answers *together, int round)
{
    static visit_batch batch, one;
    static answers alone, expected;
    const size_t u = (size_t)round % n;
    size_t first = 0, n_values = 0;
    hstu_error err;
    make_visit_batch(&batch, v, n, with_times, true);
    make_visit_batch(&one, v + u, 1, with_times, true);
    find_values(p, &batch, q, u, &first, &n_values);
    memset(&expected, 0, sizeof expected);
    memcpy(expected.value, together->value + first, n_values * sizeof *expected.value);
    if (!p->is_ranking && q != ASK_EMBEDDINGS) {
        memcpy(expected.item, together->item + u * TOP, TOP * sizeof *expected.item);
        expected.rank[0] = together->rank[u];
    }
    assert_ok(ask(p->plain, &one, q, &alone, &err), &err);
    expect_equal(p, &expected, &alone, round, "one user of the batch");
}

static void check_round(pair *p, visit *user, uint64_t *random, int round)
{
    static visit_batch batch;
    static answers with, without;
    static visit v[USERS_MOST];
    const size_t n = 1 + (size_t)choose(random, USERS_MOST);
    const bool with_times = choose(random, 8) != 0;
    const question q = (question)choose(random, N_QUESTIONS);
    hstu_error err;
    for (size_t u = 0; u < n; u++) {
        visit *came = &user[choose(random, USERS)];
        change_history(came, random, p->variant->many_ids);
        choose_candidates(came, random, u == 0 && round % 8 == 3 ? CANDIDATES_MOST : 12);
        v[u] = *came;
    }
    make_visit_batch(&batch, v, n, with_times, true);
    assert_ok(ask(p->cached, &batch, q, &with, &err), &err);
    check_reuse(p, v, n, with_times);
    assert_ok(ask(p->plain, &batch, q, &without, &err), &err);
    expect_equal(p, &with, &without, round, "the batch");
    check_alone(p, v, n, with_times, q, &with, round);
}

static void check_stream(const cache_variant *v, uint64_t seed, int threads, int64_t page_tokens, int64_t room,
    int64_t micro_batch, int rounds, hstu_cache_stats *seen)
{
    static pair p;
    static visit user[USERS];
    uint64_t random = seed;
    hstu_error err;
    hstu_cache_stats stats;
    open_pair(&p, v, threads, page_tokens, room);
    assert_ok(hstu_session_set_micro_batch(p.cached, micro_batch, &err), &err);
    for (int64_t u = 0; u < USERS; u++) {
        user[u].user_id = u;
        start_over(&user[u], &random, v->many_ids);
    }
    for (int round = 0; round < rounds; round++)
        check_round(&p, user, &random, round);
    hstu_cache_get_stats(p.cache, &stats);
    assert_int_equal(stats.n_reused_tokens, p.n_reused);
    assert_int_equal(stats.no_reuse != NULL, v->no_reuse);
    if (v->no_reuse)
        assert_int_equal(stats.n_requests, 0);
    else
        assert_true(stats.n_requests > 0);
    if (p.has_room)
        assert_true(stats.n_evicted_users == 0 && stats.n_not_stored == stats.n_busy);
    seen->n_hits += stats.n_hits;
    seen->n_changed += stats.n_changed;
    seen->n_evicted_users += stats.n_evicted_users;
    seen->n_too_large += stats.n_too_large;
    seen->n_no_room += stats.n_no_room;
    seen->n_busy += stats.n_busy;
    close_pair(&p);
}

/* The reference kernels are slow, wide models too, and everything under a sanitizer. */
static int rounds_of(const cache_variant *v, bool is_ref)
{
    if (v->is_wide)
        return is_ref ? 2 : 5;
    if (TEST_SANITIZED)
        return is_ref ? 3 : 5;
    return is_ref ? 4 : 12;
}

/* Under a sanitizer the reference kernels see each variant with one of the rooms. */
static bool is_left_out(bool is_ref, size_t variant, size_t room)
{
    return TEST_SANITIZED && is_ref && variant % 3 != room;
}

/* Every variant with plenty of room, then with little, then with too little for the longer histories. */
static void check_variants(const char *isa)
{
    static const int64_t room[] = {6400, 220, 32}; /* tokens */
    static const int64_t micro_batch[] = {256, 7, 1};
    static const int threads[] = {1, 2, 1, 3, 1}; /* more than processors cost time */
    const bool is_ref = strcmp(isa, "ref") == 0, has_pairs = strstr(isa, "bf16") || strcmp(isa, "amx") == 0;
    hstu_cache_stats seen[3] = {0};
    hstu_model_options options;
    hstu_error err;
    assert_int_equal(setenv("HSTU_ISA", isa, 1), 0);
    hstu_model_options_init(&options);
    if (hstu_model_options_check(&options, &err) != HSTU_OK) {
        print_message("left out: %s\n", err.msg);
    } else {
        for (size_t i = 0; i < N_CACHE_VARIANTS; i++) {
            const cache_variant *v = &cache_variants[i];
            for (size_t k = 0; k < 3 && (has_pairs || !v->of_pairs); k++) {
                if (!is_left_out(is_ref, i, k))
                    check_stream(v, 100 * i + k, threads[(2 * i + k) % 5], 32 + 32 * (int64_t)((i / 3 + k) % 3),
                        room[k], micro_batch[(i / 9 + k) % 3], rounds_of(v, is_ref), &seen[k]);
            }
        }
        assert_true(seen[0].n_hits > 0 && seen[0].n_changed > 0 && seen[0].n_busy > 0);
        assert_true(seen[1].n_hits > 0 && seen[1].n_evicted_users > 0 && seen[1].n_no_room > 0);
        assert_true(seen[2].n_evicted_users > 0 && seen[2].n_too_large > 0);
    }
    assert_int_equal(unsetenv("HSTU_ISA"), 0);
}

/* ---- Simple cases ------------------------------------------------------------------------------------------------ */

/* Asks alone; the answer is that without the cache, and so many rows are reused. */
static void expect_reuse(const pair *p, const visit *v, bool with_times, int64_t tokens, int64_t reused)
{
    static visit_batch batch;
    static answers with, without;
    int64_t n = -1, n_reused = -1;
    hstu_error err;
    make_visit_batch(&batch, v, 1, with_times, true);
    assert_ok(ask(p->cached, &batch, ASK_EMBEDDINGS, &with, &err), &err);
    assert_ok(hstu_session_get_reuse(p->cached, 0, &n, &n_reused, &err), &err);
    assert_int_equal(n, tokens);
    assert_int_equal(n_reused, reused);
    assert_ok(ask(p->plain, &batch, ASK_EMBEDDINGS, &without, &err), &err);
    assert_memory_equal(&with, &without, sizeof with);
}

static void add_event(visit *v, int64_t time)
{
    v->item[v->n_events] = 1 + v->n_events;
    v->time[v->n_events] = time;
    v->action[v->n_events] = v->n_events % 8;
    v->n_events++;
}

/* 40 events at times 0, 10, 20 ...; one candidate. */
static void make_simple(visit *v)
{
    memset(v, 0, sizeof *v);
    v->n_candidates = v->candidate[0] = v->target = 1;
    while (v->n_events < 40)
        add_event(v, 10 * v->n_events);
    v->query_time = 1000;
}

/* Row i's bias is made with the time of event i + 1, the newest row's with that of the request. */
static void test_rows_of_a_model_with_time(void **state)
{
    static pair p;
    static visit v;
    (void)state;
    open_pair(&p, find_variant("HSTU"), 1, 32, 6400);
    make_simple(&v);
    expect_reuse(&p, &v, true, 40, 0);
    expect_reuse(&p, &v, true, 40, 39); /* the newest row is the answer */
    add_event(&v, 1000);                /* at the time of the request before */
    v.query_time = 2000;
    expect_reuse(&p, &v, true, 41, 40);
    add_event(&v, 1999); /* row 40 was made with 2000 */
    expect_reuse(&p, &v, true, 42, 40);
    v.query_time = 3000;
    expect_reuse(&p, &v, true, 42, 41);
    v.item[7] = 100;
    expect_reuse(&p, &v, true, 42, 7);
    v.time[7]++;
    expect_reuse(&p, &v, true, 42, 6);
    v.n_events = 33;
    expect_reuse(&p, &v, true, 33, 32);
    expect_reuse(&p, &v, false, 33, 0);
    expect_reuse(&p, &v, false, 33, 32);
    v.time[0]--;
    expect_reuse(&p, &v, false, 33, 32); /* nobody looks at times */
    expect_reuse(&p, &v, true, 33, 0);
    v.time[0]++;
    expect_reuse(&p, &v, true, 33, 0); /* every row's bias sees the oldest event's time */
    memset(v.time, 0, sizeof v.time);  /* no times are not times of 0 */
    v.query_time = 0;
    expect_reuse(&p, &v, true, 33, 0);
    expect_reuse(&p, &v, false, 33, 0);
    expect_reuse(&p, &v, false, 33, 32);
    close_pair(&p);
}

static void test_rows_of_a_ranking_model(void **state)
{
    static pair p;
    static visit v;
    (void)state;
    open_pair(&p, find_variant("ranking, several ids, kv bf16"), 1, 32, 6400);
    make_simple(&v);
    v.n_ids[0] = 1;
    v.n_ids[1] = 0;
    v.n_ids[2] = 2;
    expect_reuse(&p, &v, true, 83, 0);
    expect_reuse(&p, &v, true, 83, 83);
    add_event(&v, 0);
    expect_reuse(&p, &v, true, 85, 83);
    v.action[10] = 8;
    expect_reuse(&p, &v, true, 85, 3 + 2 * 10 + 1);
    v.item[10] = 200;
    expect_reuse(&p, &v, true, 85, 3 + 2 * 10);
    v.n_events = 20;
    expect_reuse(&p, &v, true, 43, 43);
    v.n_events = 41; /* what a shorter history has not used is still there */
    expect_reuse(&p, &v, true, 85, 85);
    v.context[2] = 5;
    expect_reuse(&p, &v, true, 85, 2);
    v.n_ids[1] = 1; /* the same ids as three features' */
    v.n_ids[2] = 1;
    v.context[1] = v.context[2];
    expect_reuse(&p, &v, true, 85, 0);
    v.n_candidates = 0;
    expect_reuse(&p, &v, true, 0, 0);
    close_pair(&p);
}

/* Otherwise nothing here could tell a stale row: the oldest event that is used changes the answer. */
static void test_answers_depend_on_old_events(void **state)
{
    static pair p;
    static visit v;
    static visit_batch batch;
    static answers before, after;
    hstu_error err;
    (void)state;
    for (size_t i = 0; i < N_CACHE_VARIANTS; i++) {
        open_pair(&p, &cache_variants[i], 1, 64, 6400);
        make_simple(&v);
        for (int k = 0; k < 3; k++)
            v.n_ids[k] = 1;
        make_visit_batch(&batch, &v, 1, true, true);
        assert_ok(ask(p.plain, &batch, ASK_EMBEDDINGS, &before, &err), &err);
        v.item[0] = 250;
        make_visit_batch(&batch, &v, 1, true, true);
        assert_ok(ask(p.plain, &batch, ASK_EMBEDDINGS, &after, &err), &err);
        if (memcmp(&before, &after, sizeof before) == 0)
            fail_msg("%s: the first item changes nothing", p.variant->name);
        close_pair(&p);
    }
}

static void test_ref(void **state)
{
    (void)state;
    check_variants("ref");
}

static void test_avx2(void **state)
{
    (void)state;
    check_variants("avx2");
}

static void test_avx512(void **state)
{
    (void)state;
    check_variants("avx512");
}

static void test_avx512bf16(void **state)
{
    (void)state;
    check_variants("avx512bf16");
}

static void test_amx(void **state)
{
    (void)state;
    check_variants("amx");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_of_a_model_with_time),
        cmocka_unit_test(test_rows_of_a_ranking_model),
        cmocka_unit_test(test_answers_depend_on_old_events),
        cmocka_unit_test(test_ref),
        cmocka_unit_test(test_avx2),
        cmocka_unit_test(test_avx512),
        cmocka_unit_test(test_avx512bf16),
        cmocka_unit_test(test_amx),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
