/* Histories of several segments of attention's sums: whatever part of them lies in the cache, however the candidates are cut,
 * whatever the pages and threads are, the bits are those of one pass without a cache on one thread. */
#include "engine/cache_models.h"

enum { LONG_USERS = 2, EVENTS = 552, VISITS = 5, LOGITS_MOST = 2 * LONG_USERS * 45 * CLASSES };

#define LONG_CONFIG                                                                                                    \
    "{\"family\": \"ranking\", \"num_position_buckets\": 900, \"max_history\": 700, \"max_num_candidates\": 60,"       \
    " \"prediction_head_arch\": [10, 3], \"item_feature\": \"item\", \"action_feature\": \"action\","                  \
    " \"tables\": [{\"name\": \"item\", \"dynamic\": true}, {\"name\": \"action\", \"rows\": 9}" RANKING_FEATURES      \
    "\"hidden_size\": 24, \"num_layers\": 2, \"num_heads\": 2, \"contextual_mask\": false, "

/* An odd width, and one whose heads are whole blocks. */
static const cache_variant long_variants[] = {
    {.name = "bf16", .config = LONG_CONFIG "\"head_dim\": 9}", .dtype = "bf16"},
    {.name = "bf16, blocks", .config = LONG_CONFIG "\"head_dim\": 32}", .dtype = "bf16"},
    {.name = "fp32", .config = LONG_CONFIG "\"head_dim\": 9}"},
    {.name = "fp32, kv bf16", .config = LONG_CONFIG "\"head_dim\": 10}", .kv_dtype = "bf16"},
};

/* How many events each user has at each visit: with 3 contextual tokens and 2 for each event an odd number of tokens, around
 * the segments' ends and far behind them. */
static const int64_t n_events[VISITS][LONG_USERS] = {{19, 3}, {254, 60}, {255, 300}, {511, 301}, {EVENTS, 519}};

typedef struct long_visit {
    hstu_batch batch;
    int64_t offset[LONG_USERS + 1], cand_offset[LONG_USERS + 1], user_id[LONG_USERS];
    int64_t item[LONG_USERS * EVENTS], action[LONG_USERS * EVENTS];
    int64_t context[LONG_USERS * FEATURES], candidate[LONG_USERS * 45];
} long_visit;

static void make_long_visit(long_visit *v, int visit_number)
{
    static const int64_t n_candidates[LONG_USERS] = {45, 21};
    memset(v, 0, sizeof *v);
    for (int64_t u = 0; u < LONG_USERS; u++) {
        uint64_t random = 50 + (uint64_t)u; /* the same events at every visit */
        const int64_t events = n_events[visit_number][u];
        v->user_id[u] = u;
        v->offset[u + 1] = v->offset[u] + events;
        v->cand_offset[u + 1] = v->cand_offset[u] + n_candidates[u];
        for (int64_t i = 0; i < events; i++) {
            v->item[v->offset[u] + i] = choose_item(&random);
            v->action[v->offset[u] + i] = choose(&random, 9);
        }
        for (int64_t f = 0; f < FEATURES; f++)
            v->context[u * FEATURES + f] = 1 + f + u;
        for (int64_t i = 0; i < n_candidates[u]; i++)
            v->candidate[v->cand_offset[u] + i] = 1 + (7 * i + u + visit_number) % ITEMS;
    }
    v->batch = (hstu_batch){.n_users = LONG_USERS,
        .offset = v->offset,
        .item_id = v->item,
        .cand_offset = v->cand_offset,
        .cand_id = v->candidate,
        .action = v->action,
        .context = v->context,
        .user_id = v->user_id};
}

typedef struct long_answers {
    float logit[VISITS][LOGITS_MOST];
} long_answers;

/* All visits one after the other; cache NULL: none. */
static void answer(const hstu_model *model, hstu_cache *cache, int64_t micro_batch, long_answers *out)
{
    static long_visit v;
    hstu_session *session = open_session(model, cache);
    hstu_error err;
    memset(out, 0, sizeof *out);
    assert_ok(hstu_session_set_micro_batch(session, micro_batch, &err), &err);
    for (int i = 0; i < VISITS; i++) {
        make_long_visit(&v, i);
        assert_ok(hstu_rank(session, &v.batch, out->logit[i], LOGITS_MOST, &err), &err);
        for (int64_t u = 0; cache && u < LONG_USERS; u++) {
            int64_t tokens = 0, reused = 0;
            assert_ok(hstu_session_get_reuse(session, (size_t)u, &tokens, &reused, &err), &err);
            assert_int_equal(tokens, FEATURES + 2 * n_events[i][u]);
            assert_int_equal(reused, i > 0 ? FEATURES + 2 * n_events[i - 1][u] : 0);
        }
    }
    hstu_session_close(session);
}

/* Logits are numbers, and not all the same ones. */
static void check_answers(const long_answers *a)
{
    for (int i = 0; i < VISITS; i++) {
        for (int j = 0; j < 66 * CLASSES; j++)
            assert_true(a->logit[i][j] - a->logit[i][j] == 0.0f);
        assert_true(a->logit[i][0] != a->logit[i][CLASSES] && a->logit[i][0] != a->logit[(i + 1) % VISITS][0]);
    }
}

static void check_variant(const cache_variant *v, const char *isa)
{
    static const struct {
        int threads;
        int64_t page_tokens, micro_batch;
    } ways[] = {{1, 32, 7}, {2, 96, 256}, {3, 32, 16}, {3, 96, 5}, {16, 96, 256}};
    static long_answers want, got;
    const bool is_ref = strcmp(isa, "ref") == 0;
    hstu_model *one = open_variant(v, 1, 5);
    answer(one, NULL, 256, &want);
    check_answers(&want);
    hstu_model_close(one);
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        if ((is_ref || TEST_SANITIZED) && w % 3 == 0) /* these take long */
            continue;
        hstu_model *model = open_variant(v, ways[w].threads, 5);
        const int64_t tokens = LONG_USERS * (FEATURES + 2 * EVENTS + 2 * ways[w].page_tokens);
        hstu_cache *cache =
            open_cache_of_pages(model, ways[w].page_tokens, (uint64_t)(tokens / ways[w].page_tokens + 1));
        answer(model, cache, ways[w].micro_batch, &got);
        if (memcmp(&got, &want, sizeof got) != 0)
            fail_msg("%s, %s kernels, %d threads, pages of %d: the cache changes logits", v->name, isa, ways[w].threads,
                (int)ways[w].page_tokens);
        if (ways[w].threads == 3 && w == 2) { /* threads and groups of candidates without a cache too */
            answer(model, NULL, ways[w].micro_batch, &got);
            assert_memory_equal(&got, &want, sizeof got);
        }
        hstu_cache_close(cache);
        hstu_model_close(model);
    }
}

static void test_long_histories(void **state)
{
    static const char *const isas[] = {"ref", "avx2", "avx512", "avx512bf16", "amx", "neon"};
    (void)state;
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        hstu_model_options options;
        hstu_error err;
        hstu_model_options_init(&options);
        assert_int_equal(setenv("HSTU_ISA", isas[i], 1), 0);
        if (hstu_model_options_check(&options, &err) != HSTU_OK) {
            print_message("left out: %s\n", err.msg);
            continue;
        }
        for (size_t v = 0; v < sizeof long_variants / sizeof *long_variants; v++) {
            if (i > 0 || v % 2 == 0)
                check_variant(&long_variants[v], isas[i]);
        }
    }
    assert_int_equal(unsetenv("HSTU_ISA"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_long_histories)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
