/* Answers of a model on ONNX Runtime's own provider, with a cache, against those on the CPU without one: for every family and
 * variant, whatever has become of the users' histories, whoever shares the batch, however small the cache, and whichever of two
 * sessions has written the rows. */
#include "engine/cache_models.h"

#include <pthread.h>

enum { USERS = 7, SESSIONS = 2 };

/* Of fp32 keys and values 1e-4 of the largest answer is allowed. A bfloat16 has 8 bits, and the rows of a pass itself are not
 * rounded on an NPU: each layer may be 2^-9 off, and the answers a little more. */
static const double ALLOWED = 1e-4, ALLOWED_BF16 = 5e-3;

typedef struct setting {
    cache_variant variant;
    int64_t page_tokens, room, micro_batch, max_graphs;
    uint64_t seed;
} setting;

typedef struct rig {
    const setting *set;
    hstu_model *npu, *cpu;
    hstu_cache *cache;
    hstu_session *cached[SESSIONS], *plain;
    hstu_model_info info;
    bool is_ranking;
    double allowed, largest;
} rig;

static void open_rig(rig *r, const setting *s)
{
    hstu_error err;
    hstu_npu_options npu;
    hstu_model_options options;
    hstu_npu_options_init(&npu);
    npu.max_graphs = s->max_graphs;
    hstu_model_options_init(&options);
    options.seed = 5;
    options.threads = 1;
    *r = (rig){.set = s, .cpu = open_variant_with(&s->variant, &options)};
    options.device = "ort-cpu";
    options.npu = &npu;
    r->npu = open_variant_with(&s->variant, &options);
    r->cache = open_cache_of_pages(r->npu, s->page_tokens, (uint64_t)((s->room + s->page_tokens - 1) / s->page_tokens));
    for (int i = 0; i < SESSIONS; i++) {
        r->cached[i] = open_session(r->npu, r->cache);
        assert_ok(hstu_session_set_micro_batch(r->cached[i], s->micro_batch, &err), &err);
    }
    r->plain = open_session(r->cpu, NULL);
    hstu_model_get_info(r->npu, &r->info);
    r->is_ranking = r->npu->model.config.family == HS_CONFIG_RANKING;
    r->allowed = s->variant.kv_dtype ? ALLOWED_BF16 : ALLOWED;
}

static void close_rig(rig *r)
{
    hstu_session_close(r->plain);
    for (int i = 0; i < SESSIONS; i++)
        hstu_session_close(r->cached[i]);
    hstu_cache_close(r->cache);
    hstu_model_close(r->npu);
    hstu_model_close(r->cpu);
}

/* ---- comparing ---------------------------------------------------------------------------------------------------------- */

static size_t count_values(const rig *r, const visit_batch *b, question q)
{
    if (r->is_ranking)
        return (size_t)b->cand_offset[b->batch.n_users] * CLASSES;
    return b->batch.n_users * (q == ASK_EMBEDDINGS ? (size_t)r->info.dim : TOP);
}

/* Relative to the largest of them; places that no item has hold -INFINITY on both. */
static double distance_of(const float *got, const float *want, size_t n)
{
    double most = 0, distance = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = isinf(want[i]) && got[i] == want[i] ? 0 : fabs((double)got[i] - (double)want[i]);
        if (isfinite(want[i]))
            most = fmax(most, fabs((double)want[i]));
        if (!(d <= distance))
            distance = d;
    }
    return most > 0 ? distance / most : distance;
}

/* A target whose score is another item's but for rounding may be a place before or behind it. */
static void check_ranks(const rig *r, const answers *got, const answers *want, size_t n_users, int round)
{
    for (size_t u = 0; u < n_users && r->allowed == ALLOWED; u++) {
        if (llabs((long long)(got->rank[u] - want->rank[u])) > 1)
            fail_msg("%s, round %d, user %zu: the target has rank %lld, expected %lld", r->set->variant.name, round, u,
                (long long)got->rank[u], (long long)want->rank[u]);
    }
}

static void check_answers(
    rig *r, const visit_batch *b, question q, const answers *got, const answers *want, int round, const char *what)
{
    const double distance = distance_of(got->value, want->value, count_values(r, b, q));
    r->largest = fmax(r->largest, distance);
    if (!(distance <= r->allowed))
        fail_msg(
            "%s, pages of %d, room for %d, micro batches of %d, seed %d, round %d, %zu users, question %d: %s is off "
            "by %.3g",
            r->set->variant.name, (int)r->set->page_tokens, (int)r->set->room, (int)r->set->micro_batch,
            (int)r->set->seed, round, b->batch.n_users, (int)q, what, distance);
    if (!r->is_ranking && q != ASK_EMBEDDINGS)
        check_ranks(r, got, want, b->batch.n_users, round);
}

/* ---- random requests ------------------------------------------------------------------------------------------------------- */

/* The best of all items are searched without targets, which devices leave to the CPU. */
static hstu_status ask_either(hstu_session *s, const visit_batch *b, question q, answers *out, hstu_error *err)
{
    hstu_recommend_options options;
    if (b->batch.cand_id || q == ASK_EMBEDDINGS)
        return ask(s, b, q, out, err);
    memset(out, 0, sizeof *out);
    hstu_recommend_options_init(&options);
    options.filter_seen = q == ASK_UNSEEN_ITEMS;
    return hstu_recommend(s, &b->batch, TOP, &options, out->item, out->value, NULL, err);
}

static void check_round(rig *r, visit *user, uint64_t *random, int round)
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
        change_history(came, random, r->set->variant.many_ids);
        choose_candidates(came, random, u == 0 && round % 8 == 3 ? CANDIDATES_MOST : 12);
        v[u] = *came;
    }
    make_visit_batch(&batch, v, n, with_times, true);
    if (!r->is_ranking && choose(random, 2)) { /* of all items, which the device searches itself */
        batch.batch.cand_offset = NULL;
        batch.batch.cand_id = NULL;
    }
    assert_ok(ask_either(r->cached[choose(random, SESSIONS)], &batch, q, &with, &err), &err);
    assert_ok(ask_either(r->plain, &batch, q, &without, &err), &err);
    check_answers(r, &batch, q, &with, &without, round, "the batch");
    if (choose(random, 3) == 0) { /* the same once more, of the other session perhaps */
        assert_ok(ask_either(r->cached[choose(random, SESSIONS)], &batch, q, &with, &err), &err);
        check_answers(r, &batch, q, &with, &without, round, "the batch once more");
    }
}

/* What all streams have seen. */
typedef struct totals {
    double largest, largest_bf16;
    uint64_t n_hits, n_changed, n_evicted_users;
    int64_t bytes_kept, n_graphs_evicted, n_searches;
} totals;

static void add_totals(rig *r, totals *t)
{
    hstu_cache_stats cache;
    hstu_npu_stats npu;
    hstu_error err;
    double *largest = r->allowed == ALLOWED ? &t->largest : &t->largest_bf16;
    *largest = fmax(*largest, r->largest);
    hstu_cache_get_stats(r->cache, &cache);
    t->n_hits += cache.n_hits;
    t->n_changed += cache.n_changed;
    t->n_evicted_users += cache.n_evicted_users;
    for (int i = 0; i < SESSIONS; i++) {
        assert_ok(hstu_session_get_npu_stats(r->cached[i], &npu, &err), &err);
        t->bytes_kept += npu.bytes_kept;
        t->n_searches += npu.n_top_k_device;
    }
    t->n_graphs_evicted += npu.n_evicted;
}

static void check_stream(const setting *s, int rounds, totals *t)
{
    static rig r;
    static visit user[USERS];
    uint64_t random = s->seed;
    open_rig(&r, s);
    for (int64_t u = 0; u < USERS; u++) {
        user[u].user_id = u;
        start_over(&user[u], &random, s->variant.many_ids);
    }
    for (int round = 0; round < rounds; round++)
        check_round(&r, user, &random, round);
    add_totals(&r, t);
    close_rig(&r);
}

/* Every variant with plenty of room, then with little, then with too little for the longer histories. */
static void check_variants(bool bf16, totals *t)
{
    static const int64_t room[] = {6400, 220, 32}; /* tokens */
    static const int64_t micro_batch[] = {256, 7, 1}, max_graphs[] = {0, 2, 1};
    for (size_t i = 0; i < N_CACHE_VARIANTS; i++) {
        for (size_t k = 0; k < 3; k++) {
            setting s = {.variant = cache_variants[i],
                .page_tokens = 32 + 32 * (int64_t)((i / 3 + k) % 3),
                .room = room[k],
                .micro_batch = micro_batch[(i / 9 + k) % 3],
                .max_graphs = max_graphs[(i + k) % 3],
                .seed = 100 * i + k};
            s.variant.dtype = NULL; /* graphs know no bfloat16 */
            if (bf16 && !cache_variants[i].kv_dtype)
                continue;
            s.variant.kv_dtype = bf16 ? "bf16" : NULL;
            if (!TEST_SANITIZED || i % 3 == k)
                check_stream(&s, TEST_SANITIZED ? 4 : s.variant.is_wide ? 4 : 8, t);
        }
    }
}

static void test_fp32(void **state)
{
    totals t = {.largest = 0};
    (void)state;
    check_variants(false, &t);
    print_message("fp32: off by at most %.3g; %lld bytes stayed bound, %lld graphs went\n", t.largest,
        (long long)t.bytes_kept, (long long)t.n_graphs_evicted);
    assert_true(t.n_hits > 0 && t.n_changed > 0 && t.n_evicted_users > 0);
    assert_true(t.bytes_kept > 0 && t.n_graphs_evicted > 0 && t.n_searches > 0);
}

static void test_kv_bf16(void **state)
{
    totals t = {.largest = 0};
    (void)state;
    check_variants(true, &t);
    print_message("keys and values in bf16: off by at most %.3g\n", t.largest_bf16);
    assert_true(t.n_hits > 0 && t.n_changed > 0);
    assert_true(t.largest_bf16 > ALLOWED); /* they were rounded */
}

/* ---- sessions at once --------------------------------------------------------------------------------------------------------- */

enum { THREADS = 3 };

/* A thread with two sessions of its own; users, whose histories it changes as it likes, are everybody's. */
typedef struct worker {
    const setting *set;
    hstu_session *cached, *plain;
    bool is_ranking;
    int64_t dim;
    uint64_t random;
    int rounds;
    visit user[USERS];
    visit_batch batch;
    answers with, without;
    double largest;
    hstu_error err;
    hstu_status status;
} worker;

static void *work(void *ctx)
{
    worker *w = ctx;
    for (int64_t u = 0; u < USERS; u++) {
        w->user[u].user_id = u;
        start_over(&w->user[u], &w->random, w->set->variant.many_ids);
    }
    for (int round = 0; round < w->rounds && w->status == HSTU_OK; round++) {
        visit v[USERS_MOST];
        const size_t n = 1 + (size_t)choose(&w->random, 3);
        for (size_t u = 0; u < n; u++) {
            visit *came = &w->user[choose(&w->random, USERS)];
            change_history(came, &w->random, w->set->variant.many_ids);
            choose_candidates(came, &w->random, 12);
            v[u] = *came;
        }
        make_visit_batch(&w->batch, v, n, true, true);
        w->status = ask(w->cached, &w->batch, ASK_EMBEDDINGS, &w->with, &w->err);
        if (w->status == HSTU_OK)
            w->status = ask(w->plain, &w->batch, ASK_EMBEDDINGS, &w->without, &w->err);
        const size_t values = w->is_ranking ? (size_t)w->batch.cand_offset[n] * CLASSES : n * (size_t)w->dim;
        const double distance = distance_of(w->with.value, w->without.value, values);
        if (!(distance <= w->largest))
            w->largest = distance;
    }
    return NULL;
}

static void check_threads(const char *name, int64_t max_graphs)
{
    static worker w[THREADS];
    pthread_t thread[THREADS];
    const setting s = {
        .variant = *find_variant(name), .page_tokens = 32, .room = 900, .micro_batch = 7, .max_graphs = max_graphs};
    rig r;
    hstu_cache_stats stats;
    open_rig(&r, &s);
    memset(w, 0, sizeof w);
    for (int i = 0; i < THREADS; i++) {
        w[i].set = &s;
        w[i].cached = open_session(r.npu, r.cache);
        w[i].plain = open_session(r.cpu, NULL);
        w[i].is_ranking = r.is_ranking;
        w[i].dim = r.info.dim;
        w[i].random = (uint64_t)i + 1;
        w[i].rounds = TEST_SANITIZED ? 8 : 25;
        assert_int_equal(pthread_create(&thread[i], NULL, work, &w[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        if (w[i].status != HSTU_OK || !(w[i].largest <= r.allowed))
            fail_msg("%s, thread %d: off by %.3g: %s", name, i, w[i].largest, w[i].status ? w[i].err.msg : "");
        hstu_session_close(w[i].cached);
        hstu_session_close(w[i].plain);
    }
    hstu_cache_get_stats(r.cache, &stats);
    assert_true(stats.n_hits > 0);
    close_rig(&r);
}

static void test_threads(void **state)
{
    (void)state;
    check_threads("HSTU", 64);
    check_threads("ranking", 3);
    check_threads("SASRec", 1);
}

/* The program is skipped where no ONNX Runtime is found. */
static bool is_missing(void)
{
    hstu_model_options options;
    hstu_error err;
    hstu_model_options_init(&options);
    options.device = "ort-cpu";
    if (hstu_model_options_check(&options, &err) != HSTU_ENOENT)
        return false;
    printf("SKIPPED: device ort-cpu: %s\n", err.msg);
    return true;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fp32),
        cmocka_unit_test(test_kv_bf16),
        cmocka_unit_test(test_threads),
    };
    return is_missing() ? GOLDEN_SKIPPED : cmocka_run_group_tests(tests, NULL, NULL);
}
