/* hstu_cache_*: options and refusals, whose cache a session may use, statistics, dropping, files; and workspace that
 * does not grow with the number of candidates. */
#include "engine/cache_models.h"
#include "engine/golden_ranking.h"

enum { PAGE = 32, PLENTY = 200 };

static visit_batch batch;

/* Every user with 40 + 10 u events and some candidates; the same for equal arguments. */
static void make_users(visit_batch *b, size_t n, uint64_t seed)
{
    static visit v[USERS_MOST];
    memset(v, 0, sizeof v);
    for (size_t u = 0; u < n; u++) {
        uint64_t random = seed + u;
        v[u].user_id = (int64_t)u;
        v[u].query_time = 1000;
        see_more(&v[u], &random, 40 + 10 * (int64_t)u);
        choose_context(&v[u], &random, false);
        v[u].n_candidates = 5;
        for (int i = 0; i < 5; i++)
            v[u].candidate[i] = choose_item(&random);
        v[u].target = 1;
    }
    make_visit_batch(b, v, n, true, true);
}

/* Asks with the cache and without: equal answers; how many rows all users reused. */
static int64_t ask_both(hstu_session *cached, hstu_session *plain, const visit_batch *b)
{
    static answers with, without;
    int64_t sum = 0;
    hstu_error err;
    assert_ok(ask(cached, b, ASK_EMBEDDINGS, &with, &err), &err);
    assert_ok(ask(plain, b, ASK_EMBEDDINGS, &without, &err), &err);
    assert_memory_equal(&with, &without, sizeof with);
    for (size_t u = 0; u < b->batch.n_users; u++) {
        int64_t n = 0, reused = 0;
        assert_ok(hstu_session_get_reuse(cached, u, &n, &reused, &err), &err);
        sum += reused;
    }
    return sum;
}

/* One sentence: no line break, no trailing full stop, and the words that tell what was wrong. */
static void expect_refusal(hstu_status status, hstu_status expected, const hstu_error *err, const char *words)
{
    assert_int_equal(status, expected);
    assert_int_equal(err->code, expected);
    if (!strstr(err->msg, words))
        fail_msg("expected '%s' in: %s", words, err->msg);
    assert_null(strchr(err->msg, '\n'));
    assert_true(err->msg[strlen(err->msg) - 1] != '.');
}

/* ---- Options ----------------------------------------------------------------------------------------------------- */

static void refuse_options(
    const hstu_model *model, uint64_t bytes, int64_t page_tokens, size_t size, hstu_status expected, const char *words)
{
    hstu_cache *const before = (hstu_cache *)(void *)&batch;
    hstu_cache *cache = before;
    hstu_cache_options options;
    hstu_error err = {0};
    hstu_cache_options_init(&options);
    options.size += size;
    options.bytes = bytes;
    options.page_tokens = page_tokens;
    expect_refusal(hstu_cache_open(&cache, model, &options, &err), expected, &err, words);
    assert_ptr_equal(cache, before);
}

static void test_options(void **state)
{
    hstu_model *model = open_variant(find_variant("HSTU"), 1, 5);
    hstu_cache *cache = NULL;
    hstu_cache_stats stats;
    hstu_error err;
    const uint64_t much = 1 << 20;
    (void)state;
    refuse_options(model, much, 0, 0, HSTU_EINVAL, "a page of the cache has 0 tokens, expected a multiple of 32");
    refuse_options(model, much, 33, 0, HSTU_EINVAL, "has 33 tokens");
    refuse_options(model, much, -64, 0, HSTU_EINVAL, "has -64 tokens");
    refuse_options(model, much, 65536 + 32, 0, HSTU_EINVAL, "up to 65536");
    refuse_options(model, much, INT64_MIN, 0, HSTU_EINVAL, "expected a multiple of 32");
    refuse_options(model, 0, 64, 0, HSTU_EINVAL, "bytes");
    refuse_options(model, 1000, 64, 0, HSTU_EINVAL, "bytes");
    refuse_options(model, much, 64, 8, HSTU_EINVAL, "hstu_cache_options_init");
    assert_ok(hstu_cache_open(&cache, model, NULL, &err), &err);
    hstu_cache_get_stats(cache, &stats);
    assert_int_equal(stats.page_tokens, 64);
    assert_int_equal(stats.budget_bytes, (uint64_t)1 << 30);
    assert_true(stats.n_pages * stats.page_bytes + stats.bookkeeping_bytes <= stats.budget_bytes);
    assert_string_equal(stats.kv_dtype, "fp32");
    assert_null(stats.no_reuse);
    hstu_cache_close(cache);
    hstu_cache_close(NULL);
    hstu_model_close(model);
}

static void test_model_options(void **state)
{
    hstu_model *model = NULL;
    hstu_session *session = NULL;
    hstu_model_options options;
    hstu_error err = {0};
    (void)state;
    hstu_model_options_init(&options);
    options.config = "kuairand_1k_ranking";
    options.dtype = "bf16";
    options.kv_dtype = "fp32";
    expect_refusal(hstu_model_open(&model, NULL, &options, &err), HSTU_EINVAL, &err, "kv_dtype is fp32, but");
    options.kv_dtype = "int8";
    expect_refusal(hstu_model_open(&model, NULL, &options, &err), HSTU_EUNSUP, &err, "kv_dtype 'int8'");
    assert_null(model);
    model = open_variant(find_variant("ranking, bf16"), 1, 5);
    session = open_session(model, NULL);
    expect_refusal(
        hstu_session_set_micro_batch(session, 0, &err), HSTU_EINVAL, &err, "the micro batch is 0 candidates");
    expect_refusal(hstu_session_set_micro_batch(session, -7, &err), HSTU_EINVAL, &err, "-7 candidates");
    hstu_session_close(session);
    hstu_model_close(model);
}

static void test_why_nothing_is_reused(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_CACHE_VARIANTS; i++) {
        hstu_cache_stats stats;
        hstu_model *model = open_variant(&cache_variants[i], 1, 5);
        hstu_cache *cache = open_cache_of_pages(model, PAGE, 1);
        hstu_cache_get_stats(cache, &stats);
        assert_int_equal(stats.no_reuse != NULL, cache_variants[i].no_reuse);
        assert_true(!stats.no_reuse || strstr(stats.no_reuse, "every new event changes all rows"));
        assert_string_equal(stats.kv_dtype, cache_variants[i].dtype || cache_variants[i].kv_dtype ? "bf16" : "fp32");
        hstu_cache_close(cache);
        hstu_model_close(model);
    }
}

/* ---- Whose cache ------------------------------------------------------------------------------------------------- */

/* A session of `other` asks for a cache of `own`. */
static void check_use(const cache_variant *own, const cache_variant *other, uint64_t seed, bool is_accepted)
{
    hstu_model *model = open_variant(own, 1, 5), *second = open_variant(other, 1, seed);
    hstu_cache *cache = open_cache_of_pages(model, PAGE, PLENTY);
    hstu_session *plain = open_session(second, NULL), *first = open_session(model, cache), *session = NULL;
    hstu_error err = {0};
    make_users(&batch, 3, 1);
    (void)ask_both(first, first, &batch);
    assert_ok(hstu_session_open(&session, second, &err), &err);
    if (is_accepted) {
        assert_ok(hstu_session_use_cache(session, cache, &err), &err);
        assert_true(ask_both(session, plain, &batch) > 0);
    } else {
        expect_refusal(hstu_session_use_cache(session, cache, &err), HSTU_EINVAL, &err, "for another model");
        assert_int_equal(ask_both(session, plain, &batch), 0); /* still without a cache */
    }
    hstu_session_close(session);
    hstu_session_close(first);
    hstu_session_close(plain);
    hstu_cache_close(cache);
    hstu_model_close(second);
    hstu_model_close(model);
}

static void test_whose_cache(void **state)
{
    const cache_variant *hstu = find_variant("HSTU"), *ranking = find_variant("ranking");
    (void)state;
    check_use(hstu, hstu, 5, true);
    check_use(hstu, hstu, 6, false);
    check_use(hstu, find_variant("HSTU, kv bf16"), 5, false);
    check_use(hstu, find_variant("HSTU, wide"), 5, false);
    check_use(hstu, find_variant("SASRec"), 5, false);
    check_use(ranking, ranking, 5, true);
    check_use(ranking, find_variant("ranking, bf16"), 5, false);
    check_use(find_variant("ranking, several ids, kv bf16"), find_variant("ranking, bf16"), 5, false);
}

typedef struct fingerprint {
    unsigned char byte[HS_FINGERPRINT_BYTES];
} fingerprint;

static fingerprint fingerprint_of(const hstu_model *model)
{
    fingerprint f;
    hstu_error err = {0};
    assert_ok(hs_engine_fingerprint(model, f.byte, &err), &err);
    return f;
}

/* A copy of n numbers, the last of them another. */
static float *change_last(const void *numbers, size_t n)
{
    float *changed = hs_alloc(n, sizeof *changed);
    assert_non_null(changed);
    memcpy(changed, numbers, n * sizeof *changed);
    changed[n - 1] += 1.0f;
    return changed;
}

static void expect_another(const hstu_model *model, const fingerprint *before, const char *changed)
{
    const fingerprint after = fingerprint_of(model);
    if (memcmp(before, &after, sizeof after) == 0)
        fail_msg("%s is another, and the fingerprint is not", changed);
}

/* Weights are told apart by what they are, one by one. Random weights are named by their seed: a checkpoint that holds
 * the same is another model to the cache, which costs no more than a cold one. */
static void test_every_weight(void **state)
{
    ranking_case c[2];
    (void)state;
    for (int i = 0; i < 2; i++)
        ranking_open(&c[i], "ranking/c6_fused_fp32", &(ranking_options){0});
    hstu_model *model = c[0].model;
    const fingerprint before = fingerprint_of(model), same = fingerprint_of(c[1].model);
    assert_memory_equal(&before, &same, sizeof before);
    assert_true(model->dict.n_entries > 0 && model->model.config.n_tables > 0);
    for (size_t i = 0; i < model->dict.n_entries; i++) {
        hs_entry *e = &model->dict.entry[i];
        const void *const own = e->tensor.data;
        assert_true(e->tensor.dtype == HS_F32 && hs_tensor_contiguous(&e->tensor));
        float *changed = change_last(own, (size_t)hs_tensor_elements(&e->tensor));
        e->tensor.data = changed;
        expect_another(model, &before, e->name);
        e->tensor.data = own;
        hs_free(changed);
    }
    for (int i = 0; i < model->model.config.n_tables; i++) {
        hs_table_part *part = &model->model.table[i].part[0];
        const void *const own = part->values;
        assert_int_equal(model->model.table[i].type, HS_F32);
        float *changed = change_last(own, (size_t)(part->n_rows * model->model.table[i].dim));
        part->values = changed;
        expect_another(model, &before, model->model.config.table[i].name);
        part->values = own;
        hs_free(changed);
    }
    for (int i = 0; i < 2; i++)
        ranking_close(&c[i]);
}

/* Kernels of another instruction set round otherwise. */
static void test_other_kernels(void **state)
{
    hstu_model *own = open_variant(find_variant("HSTU"), 1, 5);
    const fingerprint before = fingerprint_of(own);
    const char *const isa = getenv("HSTU_ISA");
    (void)state;
    if (isa || strcmp(own->dev->isa, "ref") == 0) {
        hstu_model_close(own);
        skip();
    }
    assert_int_equal(setenv("HSTU_ISA", "ref", 1), 0);
    hstu_model *other = open_variant(find_variant("HSTU"), 1, 5);
    assert_int_equal(unsetenv("HSTU_ISA"), 0);
    expect_another(other, &before, "ref");
    hstu_model_close(other);
    hstu_model_close(own);
}

/* The decoder's positions are no weights: the system's library computes them, and may do so otherwise tomorrow. */
static void test_computed_positions(void **state)
{
    hstu_model *model = open_variant(find_variant("decoder"), 1, 5);
    const hs_config *c = &model->model.config;
    const float *const own = model->model.weight.position;
    const fingerprint before = fingerprint_of(model);
    (void)state;
    float *changed = change_last(own, (size_t)(c->max_position_embeddings * c->item_embedding_dim));
    model->model.weight.position = changed;
    expect_another(model, &before, "positions");
    model->model.weight.position = own;
    hs_free(changed);
    hstu_model_close(model);
}

/* ---- One session and its cache ----------------------------------------------------------------------------------- */

typedef struct served {
    hstu_model *model;
    hstu_cache *cache;
    hstu_session *cached, *plain;
} served;

static void open_served(served *s, const char *variant, uint64_t seed, uint64_t n_pages)
{
    s->model = open_variant(find_variant(variant), 2, seed);
    s->cache = open_cache_of_pages(s->model, PAGE, n_pages);
    s->cached = open_session(s->model, s->cache);
    s->plain = open_session(s->model, NULL);
}

static void close_served(served *s)
{
    hstu_session_close(s->plain);
    hstu_session_close(s->cached);
    hstu_cache_close(s->cache);
    hstu_model_close(s->model);
}

static void test_reuse_of_the_last_call(void **state)
{
    served s;
    int64_t n = -1, reused = -1;
    hstu_error err = {0};
    static answers a;
    (void)state;
    open_served(&s, "HSTU", 5, PLENTY);
    expect_refusal(hstu_session_get_reuse(s.cached, 0, &n, &reused, &err), HSTU_EINVAL, &err, "had 0 users");
    make_users(&batch, 3, 1);
    (void)ask_both(s.cached, s.plain, &batch);
    assert_ok(hstu_session_get_reuse(s.cached, 2, &n, &reused, &err), &err);
    assert_int_equal(n, 60);
    assert_int_equal(reused, 0);
    n = -1;
    expect_refusal(hstu_session_get_reuse(s.cached, 3, &n, &reused, &err), HSTU_EINVAL, &err,
        "user 3: the session's last call had 3 users");
    assert_int_equal(n, -1);
    assert_ok(hstu_session_get_reuse(s.plain, 1, &n, &reused, &err), &err); /* without a cache the lengths alone */
    assert_int_equal(n, 50);
    assert_int_equal(reused, 0);
    assert_int_equal(ask_both(s.cached, s.plain, &batch), 39 + 49 + 59);
    batch.batch.user_id = NULL; /* nobody to look up */
    assert_int_equal(ask_both(s.cached, s.plain, &batch), 0);
    batch.batch.n_users = 0;
    assert_ok(ask(s.cached, &batch, ASK_EMBEDDINGS, &a, &err), &err);
    assert_int_equal(hstu_session_get_reuse(s.cached, 0, &n, &reused, &err), HSTU_EINVAL);
    make_users(&batch, 3, 1);
    assert_ok(hstu_session_use_cache(s.cached, NULL, &err), &err);
    assert_int_equal(ask_both(s.cached, s.plain, &batch), 0);
    close_served(&s);
}

/* Rows behind an answer that is no number are not kept: when the table is whole again, they are computed. */
static void check_not_finite(const char *variant, const char *words)
{
    served s;
    hstu_error err = {0};
    static answers a;
    open_served(&s, variant, 5, PLENTY);
    make_users(&batch, 3, 1);
    const hs_model *m = &s.model->model;
    const int64_t id = batch.batch.item_id[batch.batch.offset[1]]; /* of user 1, if not of user 0 too */
    const void *const place = m->item_table ? hs_table_row(m->item_table, id)
                                            : (const float *)m->weight.item.data + id * m->config.item_embedding_dim;
    float *const row = (float *)(uintptr_t)place, was = row[3];
    row[3] = (float)NAN;
    expect_refusal(ask(s.cached, &batch, ASK_EMBEDDINGS, &a, &err), HSTU_EFORMAT, &err, words);
    row[3] = was;
    assert_int_equal(ask_both(s.cached, s.plain, &batch), 0);
    assert_true(ask_both(s.cached, s.plain, &batch) > 0);
    close_served(&s);
}

static void test_not_finite(void **state)
{
    (void)state;
    check_not_finite("HSTU", ": element 0 of the embedding is");
    check_not_finite("ranking", ": logit 0 of candidate 0");
}

static void test_statistics_and_dropping(void **state)
{
    served s;
    hstu_cache_stats t;
    (void)state;
    open_served(&s, "HSTU", 5, PLENTY);
    make_users(&batch, 3, 1);
    (void)ask_both(s.cached, s.plain, &batch);
    (void)ask_both(s.cached, s.plain, &batch);
    hstu_cache_get_stats(s.cache, &t);
    assert_int_equal(t.n_requests, 6);
    assert_int_equal(t.n_hits, 3);
    assert_int_equal(t.n_tokens, 2 * 150);
    assert_int_equal(t.n_reused_tokens, 147);
    assert_int_equal(t.n_stored, 6);
    assert_int_equal(t.n_not_stored + t.n_too_large + t.n_no_room + t.n_busy + t.n_changed, 0);
    assert_int_equal(t.n_users, 3);
    assert_int_equal(t.n_cached_tokens, 150);
    assert_int_equal(t.n_pages - t.n_free_pages, 6); /* two each: 40, 50, 60 tokens */
    assert_int_equal(t.n_unused_rows, 6 * PAGE - 150);
    assert_int_equal(t.used_bytes, 6 * t.page_bytes);
    assert_true(t.bookkeeping_s > 0);
    hstu_cache_reset_stats(s.cache);
    hstu_cache_get_stats(s.cache, &t);
    assert_int_equal(t.n_requests + t.n_hits + t.n_tokens + t.n_reused_tokens + t.n_stored, 0);
    assert_true(t.bookkeeping_s == 0);
    assert_int_equal(t.n_users, 3);
    hstu_cache_drop_user(s.cache, 1);
    hstu_cache_drop_user(s.cache, 77);
    assert_int_equal(ask_both(s.cached, s.plain, &batch), 39 + 59);
    hstu_cache_drop_all(s.cache);
    hstu_cache_get_stats(s.cache, &t);
    assert_int_equal(t.n_users + t.n_cached_tokens + t.used_bytes, 0);
    assert_int_equal(t.n_free_pages, t.n_pages);
    assert_int_equal(ask_both(s.cached, s.plain, &batch), 0);
    batch.user_id[0] = INT64_MIN; /* any numbers are users */
    batch.user_id[1] = INT64_MAX;
    batch.user_id[2] = -1;
    assert_int_equal(ask_both(s.cached, s.plain, &batch), 0);
    assert_int_equal(ask_both(s.cached, s.plain, &batch), 147);
    close_served(&s);
}

/* A call that is refused leaves everything as it was. */
static void test_refused_calls(void **state)
{
    served s;
    hstu_cache_stats before, after;
    hstu_error err;
    static answers a;
    (void)state;
    open_served(&s, "ranking", 5, PLENTY);
    make_users(&batch, 3, 1);
    (void)ask_both(s.cached, s.plain, &batch);
    hstu_cache_get_stats(s.cache, &before);
    batch.context[4] = 1000; /* of the second user's age */
    assert_int_equal(ask(s.cached, &batch, ASK_EMBEDDINGS, &a, &err), HSTU_EINVAL);
    hstu_cache_get_stats(s.cache, &after);
    assert_memory_equal(&before, &after, sizeof before);
    make_users(&batch, 3, 1);
    assert_int_equal(ask_both(s.cached, s.plain, &batch), 3 * 3 + 2 * 150);
    close_served(&s);
}

/* ---- Files ------------------------------------------------------------------------------------------------------- */

static const char *file_path(void)
{
    static char path[64];
    (void)snprintf(path, sizeof path, "/tmp/hstu_test_cache_api_%ld.kv", (long)getpid());
    return path;
}

/* Changes one byte, counted from the end. */
static void damage_file(const char *path, long from_end)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, -from_end, SEEK_END), 0);
    const int byte = fgetc(f);
    assert_int_equal(fseek(f, -1, SEEK_CUR), 0);
    assert_int_equal(fputc(byte ^ 64, f), byte ^ 64);
    assert_int_equal(fclose(f), 0);
}

/* What another process would do: the same model, an empty cache, the file. */
static int64_t ask_after_restart(const char *variant, hstu_cache_loaded *loaded)
{
    served s;
    hstu_error err;
    open_served(&s, variant, 5, PLENTY);
    assert_ok(hstu_cache_load(s.cache, file_path(), loaded, &err), &err);
    const int64_t reused = ask_both(s.cached, s.plain, &batch);
    close_served(&s);
    return reused;
}

static void check_files(const char *variant, int64_t reused)
{
    served s;
    hstu_cache_loaded loaded = {0};
    hstu_error err;
    open_served(&s, variant, 5, PLENTY);
    make_users(&batch, 3, 1);
    (void)ask_both(s.cached, s.plain, &batch);
    assert_ok(hstu_cache_save(s.cache, file_path(), &err), &err);
    close_served(&s);
    assert_int_equal(ask_after_restart(variant, &loaded), reused);
    assert_int_equal(loaded.n_users, 3);
    assert_int_equal(loaded.n_damaged + loaded.n_no_room, 0);
    assert_int_equal(ask_after_restart(variant, NULL), reused);
    damage_file(file_path(), 200); /* in the last user's rows: the least recently used */
    const int64_t less = ask_after_restart(variant, &loaded);
    assert_true(less > 0 && less < reused);
    assert_int_equal(loaded.n_users, 2);
    assert_int_equal(loaded.n_damaged, 1);
    assert_int_equal(remove(file_path()), 0);
}

static void test_files(void **state)
{
    (void)state;
    check_files("HSTU", 147);
    check_files("ranking, bf16", 3 * 3 + 2 * 150);
    check_files("decoder, three layers, bf16", 147);
}

/* A file of a cache that has seen what `before` tells, then `now`. The caller frees it. */
static char *save_after(const char *variant, const visit *before, const visit *now, size_t *n_bytes)
{
    served s;
    hstu_error err;
    open_served(&s, variant, 5, PLENTY);
    for (int i = before ? 0 : 1; i < 2; i++) {
        make_visit_batch(&batch, i ? now : before, 1, true, true);
        (void)ask_both(s.cached, s.plain, &batch);
    }
    assert_ok(hstu_cache_save(s.cache, file_path(), &err), &err);
    close_served(&s);
    FILE *file = fopen(file_path(), "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *n_bytes = (size_t)ftell(file);
    char *bytes = hs_alloc(*n_bytes, 1);
    assert_non_null(bytes);
    rewind(file);
    assert_int_equal(fread(bytes, 1, *n_bytes, file), *n_bytes);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(remove(file_path()), 0);
    return bytes;
}

/* What a longer history has left in the pages of every layer is not in the file. */
static void test_files_hold_no_old_rows(void **state)
{
    static const char *const variant[] = {"HSTU", "SASRec, kv bf16", "ranking, bf16", "decoder"};
    static visit longer, now;
    (void)state;
    for (size_t i = 0; i < sizeof variant / sizeof *variant; i++) {
        size_t n_longer = 0, n_now = 0;
        uint64_t random = 1;
        memset(&longer, 0, sizeof longer);
        longer.n_candidates = longer.candidate[0] = longer.target = 1;
        choose_context(&longer, &random, false);
        see_more(&longer, &random, 60);
        now = longer;
        now.n_events = 41;
        now.item[40] = longer.item[40] % ITEMS + 1;
        char *const after = save_after(variant[i], &longer, &now, &n_longer);
        char *const alone = save_after(variant[i], NULL, &now, &n_now);
        assert_int_equal(n_longer, n_now);
        if (memcmp(after, alone, n_now) != 0)
            fail_msg("%s: the file tells of an older history", variant[i]);
        hs_free(after);
        hs_free(alone);
    }
}

static void test_refused_files(void **state)
{
    served s, other;
    hstu_cache_stats stats;
    hstu_cache_loaded loaded = {.n_users = 77};
    hstu_error err = {0};
    (void)state;
    open_served(&s, "HSTU", 5, PLENTY);
    make_users(&batch, 3, 1);
    (void)ask_both(s.cached, s.plain, &batch);
    assert_ok(hstu_cache_save(s.cache, file_path(), &err), &err);
    open_served(&other, "HSTU", 6, PLENTY);
    expect_refusal(hstu_cache_load(other.cache, file_path(), &loaded, &err), HSTU_EINVAL, &err, file_path());
    hstu_cache_get_stats(other.cache, &stats);
    assert_int_equal(stats.n_users, 0);
    assert_int_equal(ask_both(other.cached, other.plain, &batch), 0);
    close_served(&other);
    open_served(&other, "HSTU, kv bf16", 5, PLENTY);
    assert_true(hstu_cache_load(other.cache, file_path(), &loaded, &err) != HSTU_OK);
    close_served(&other);
    assert_int_equal(loaded.n_users, 77);
    assert_int_equal(remove(file_path()), 0);
    expect_refusal(hstu_cache_load(s.cache, file_path(), &loaded, &err), HSTU_ENOENT, &err, file_path());
    expect_refusal(
        hstu_cache_save(s.cache, "/tmp/no such folder/x.kv", &err), HSTU_ENOENT, &err, "/tmp/no such folder");
    assert_int_equal(ask_both(s.cached, s.plain, &batch), 147);
    close_served(&s);
}

/* ---- Workspace --------------------------------------------------------------------------------------------------- */

/* Workspace of a request of one user with so many candidates; with a cache, which is asked the second time. */
static size_t scratch_bytes(const hstu_model *model, hstu_cache *cache, int64_t n_candidates, float *logits)
{
    hstu_session *session = open_session(model, cache);
    int64_t offset[2] = {0, n_candidates};
    hstu_error err;
    make_users(&batch, 1, 1);
    hstu_batch b = batch.batch;
    int64_t *id = hs_alloc((size_t)n_candidates, sizeof *id);
    for (int64_t i = 0; i < n_candidates; i++)
        id[i] = 1 + i % ITEMS;
    b.cand_id = id;
    b.cand_offset = offset;
    for (int i = cache ? 0 : 1; i < 2; i++)
        assert_ok(hstu_rank(session, &b, logits, (size_t)n_candidates * CLASSES, &err), &err);
    int64_t n_tokens = 0, n_reused = 0;
    assert_ok(hstu_session_get_reuse(session, 0, &n_tokens, &n_reused, &err), &err);
    assert_true(n_tokens > 0 && n_reused == (cache ? n_tokens : 0));
    const size_t bytes = session->whole.scratch.used_bytes;
    assert_true(bytes > 0);
    for (size_t i = 0; i < session->n_parts; i++)
        assert_int_equal(session->part[i].scratch.used_bytes, 0);
    hs_free(id);
    hstu_session_close(session);
    return bytes;
}

static void test_workspace_does_not_grow(void **state)
{
    enum { MANY = 16384, FEW = 300 };
    (void)state;
    hstu_model *model = open_variant(find_variant("ranking"), 1, 5);
    float *many = hs_calloc(MANY * CLASSES, sizeof *many), *few = hs_calloc(FEW * CLASSES, sizeof *few);
    hstu_cache *cache = open_cache_of_pages(model, PAGE, 16);
    const size_t most = scratch_bytes(model, NULL, MANY, many);
    assert_int_equal(most, scratch_bytes(model, NULL, FEW, few)); /* two groups as well as 64 */
    assert_memory_equal(many, few, FEW * CLASSES * sizeof *few);
    /* One group joins the history's rows, several come behind them and need the pages of every layer. */
    assert_true(most <= scratch_bytes(model, NULL, 256, few));
    /* A cached history has its pages in the cache. */
    const size_t cached = scratch_bytes(model, cache, MANY, many);
    assert_true(cached <= scratch_bytes(model, cache, 256, few));
    hstu_cache_close(cache);
    hs_free(many);
    hs_free(few);
    hstu_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_model_options),
        cmocka_unit_test(test_why_nothing_is_reused),
        cmocka_unit_test(test_whose_cache),
        cmocka_unit_test(test_every_weight),
        cmocka_unit_test(test_other_kernels),
        cmocka_unit_test(test_computed_positions),
        cmocka_unit_test(test_reuse_of_the_last_call),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_statistics_and_dropping),
        cmocka_unit_test(test_refused_calls),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_files_hold_no_old_rows),
        cmocka_unit_test(test_refused_files),
        cmocka_unit_test(test_workspace_does_not_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
