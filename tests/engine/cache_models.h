/* Random models of every family and variant, users who come back with other histories, and what a session answers them:
 * for tests that hold answers with a cache against those without. */
#ifndef TESTS_ENGINE_CACHE_MODELS_H
#define TESTS_ENGINE_CACHE_MODELS_H

#include "engine/golden.h"

#include "engine/engine.h"

#include <stdlib.h>
#include <unistd.h>

/* ---- Models ------------------------------------------------------------------------------------------------------ */

enum { ITEMS = 300, LONGEST = 100 };

/* Widths that are no multiples of the kernels', and histories of up to LONGEST events. */
#define HSTU_SIZES "\"item_embedding_dim\": 20, \"num_blocks\": 2, \"num_heads\": 3, \"dqk\": 7, \"dv\": 5"
#define HSTU_REST ", \"max_sequence_length\": 100, \"max_item_id\": 300"
#define RANKING_LISTS                                                                                                  \
    "\"family\": \"ranking\", \"num_position_buckets\": 150, \"max_history\": 100, \"max_num_candidates\": 20,"        \
    " \"prediction_head_arch\": [10, 3], \"item_feature\": \"item\", \"action_feature\": \"action\","                  \
    " \"tables\": [{\"name\": \"item\", \"dynamic\": true}, {\"name\": \"action\", \"rows\": 9}"
#define RANKING_SIZES "\"hidden_size\": 24, \"num_layers\": 2, \"num_heads\": 3, \"head_dim\": 7, "
#define RANKING_FEATURES                                                                                               \
    ", {\"name\": \"user\", \"dynamic\": true}, {\"name\": \"age\", \"rows\": 6}, {\"name\": \"tag\", \"rows\": 40}]," \
    " \"contextual\": [\"user\", \"age\", \"tag\"], "

typedef struct cache_variant {
    const char *name, *config;
    const char *dtype, *kv_dtype; /* or NULL */
    bool no_reuse;                /* every new event changes all rows */
    bool many_ids;                /* contextual features have several ids */
    bool is_wide;                 /* enough work for threads to share */
    bool of_pairs; /* of interest where kernels multiply pairs: linear layers store keys and values there */
} cache_variant;

static const cache_variant cache_variants[] = {
    {.name = "HSTU", .config = "{" HSTU_SIZES HSTU_REST "}"},
    {.name = "HSTU, kv bf16", .config = "{" HSTU_SIZES HSTU_REST "}", .kv_dtype = "bf16"},
    {.name = "HSTU, three layers, concat_ua, no activation",
        .config = "{\"item_embedding_dim\": 12, \"num_blocks\": 3, \"num_heads\": 1, \"dqk\": 9, \"dv\": 9, "
                  "\"concat_ua\": true, \"linear_activation\": \"none\", \"user_embedding_norm\": "
                  "\"layer_norm\"" HSTU_REST "}"},
    {.name = "HSTU, one layer, no place behind the history",
        .config = "{\"item_embedding_dim\": 16, \"num_blocks\": 1, \"num_heads\": 2, \"dqk\": 8, \"dv\": 11, "
                  "\"gr_output_length\": 0, \"attention_n\": 100, \"max_output_length\": 1" HSTU_REST "}"},
    {.name = "HSTU, wide",
        .config = "{\"item_embedding_dim\": 96, \"num_blocks\": 2, \"num_heads\": 4, \"dqk\": 24, \"dv\": "
                  "24" HSTU_REST "}",
        .is_wide = true},
    {.name = "HSTU, softmax",
        .config = "{\"normalization\": \"softmax_rel_bias\", " HSTU_SIZES HSTU_REST "}",
        .no_reuse = true},
    {.name = "HSTU, softmax without bias, kv bf16",
        .config =
            "{\"normalization\": \"softmax_rel_bias\", \"enable_relative_attention_bias\": false, " HSTU_SIZES HSTU_REST
            "}",
        .kv_dtype = "bf16",
        .no_reuse = true},
    {.name = "SASRec",
        .config = "{\"main_module\": \"SASRec\", \"item_embedding_dim\": 21, \"num_blocks\": 2, \"num_heads\": 3, "
                  "\"ffn_hidden_dim\": 17" HSTU_REST "}"},
    {.name = "SASRec, kv bf16",
        .config = "{\"main_module\": \"SASRec\", \"item_embedding_dim\": 14, \"num_blocks\": 2, \"num_heads\": 2, "
                  "\"ffn_hidden_dim\": 14, \"ffn_activation_fn\": \"gelu\"" HSTU_REST "}",
        .kv_dtype = "bf16"},
    {.name = "ranking", .config = "{" RANKING_LISTS RANKING_FEATURES RANKING_SIZES "\"contextual_mask\": false}"},
    {.name = "ranking, several ids, kv bf16",
        .config = "{" RANKING_LISTS RANKING_FEATURES RANKING_SIZES "\"contextual_mask\": false}",
        .kv_dtype = "bf16",
        .many_ids = true},
    {.name = "ranking, bf16",
        .config = "{" RANKING_LISTS RANKING_FEATURES RANKING_SIZES "\"contextual_mask\": false}",
        .dtype = "bf16",
        .many_ids = true},
    {.name = "ranking, contextual mask",
        .config = "{" RANKING_LISTS RANKING_FEATURES RANKING_SIZES "\"contextual_mask\": true}",
        .no_reuse = true,
        .many_ids = true},
    {.name = "ranking, contextual mask without features",
        .config = "{" RANKING_LISTS "], \"contextual\": [], " RANKING_SIZES "\"contextual_mask\": true}"},
    {.name = "ranking, one layer, no residual, bf16",
        .config = "{" RANKING_LISTS "], \"contextual\": [], \"hidden_size\": 16, \"num_layers\": 1, \"num_heads\": 1, "
                  "\"head_dim\": 5, \"residual\": false, \"contextual_mask\": false}",
        .dtype = "bf16"},
    {.name = "ranking, wide",
        .config = "{" RANKING_LISTS RANKING_FEATURES "\"hidden_size\": 96, \"num_layers\": 2, \"num_heads\": 4, "
                  "\"head_dim\": 24, \"contextual_mask\": false}",
        .is_wide = true},
    {.name = "ranking, heads of 16, bf16",
        .config = "{" RANKING_LISTS RANKING_FEATURES "\"hidden_size\": 24, \"num_layers\": 3, \"num_heads\": 3, "
                  "\"head_dim\": 16, \"contextual_mask\": false}",
        .dtype = "bf16",
        .of_pairs = true,
        .many_ids = true},
    {.name = "ranking, wide, bf16",
        .config = "{" RANKING_LISTS RANKING_FEATURES "\"hidden_size\": 96, \"num_layers\": 2, \"num_heads\": 4, "
                  "\"head_dim\": 32, \"contextual_mask\": false}",
        .dtype = "bf16",
        .of_pairs = true,
        .is_wide = true},
    {.name = "HSTU, bf16",
        .config =
            "{\"item_embedding_dim\": 20, \"num_blocks\": 2, \"num_heads\": 3, \"dqk\": 32, \"dv\": 80" HSTU_REST "}",
        .dtype = "bf16",
        .of_pairs = true},
    {.name = "decoder of 80, bf16",
        .config = "{\"family\": \"decoder\", \"hidden_size\": 80, \"num_layers\": 2, \"vocab_size\": 301, "
                  "\"max_position_embeddings\": 100}",
        .dtype = "bf16",
        .of_pairs = true},
    {.name = "decoder",
        .config = "{\"family\": \"decoder\", \"hidden_size\": 19, \"num_layers\": 2, \"vocab_size\": 301, "
                  "\"max_position_embeddings\": 100}"},
    {.name = "decoder, three layers, bf16",
        .config = "{\"family\": \"decoder\", \"hidden_size\": 12, \"num_layers\": 3, \"vocab_size\": 301, "
                  "\"max_position_embeddings\": 100}",
        .dtype = "bf16"},
};
enum { N_CACHE_VARIANTS = sizeof cache_variants / sizeof *cache_variants };

static inline const cache_variant *find_variant(const char *name)
{
    for (size_t i = 0; i < N_CACHE_VARIANTS; i++) {
        if (strcmp(cache_variants[i].name, name) == 0)
            return &cache_variants[i];
    }
    fail_msg("no variant '%s'", name);
    return NULL;
}

/* options: all but what the variant says and where its configuration lies. */
static inline hstu_model *open_variant_with(const cache_variant *v, hstu_model_options *options)
{
    hstu_model *model = NULL;
    hstu_error err;
    char path[64];
    (void)snprintf(path, sizeof path, "/tmp/hstu_test_cache_%ld.json", (long)getpid());
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(v->config, file) >= 0);
    assert_int_equal(fclose(file), 0);
    options->config = path;
    options->max_item_id = options->max_user_id = ITEMS;
    options->dtype = v->dtype ? v->dtype : "fp32";
    options->kv_dtype = v->kv_dtype;
    const hstu_status status = hstu_model_open(&model, NULL, options, &err);
    assert_int_equal(remove(path), 0);
    if (status != HSTU_OK)
        fail_msg("%s: %s", v->name, err.msg);
    return model;
}

static inline hstu_model *open_variant(const cache_variant *v, int threads, uint64_t seed)
{
    hstu_model_options options;
    hstu_model_options_init(&options);
    options.threads = threads;
    options.seed = seed;
    return open_variant_with(v, &options);
}

static inline hstu_session *open_session(const hstu_model *model, hstu_cache *cache)
{
    hstu_session *session = NULL;
    hstu_error err;
    assert_ok(hstu_session_open(&session, model, &err), &err);
    assert_ok(hstu_session_use_cache(session, cache, &err), &err);
    return session;
}

/* The smallest cache that holds so many pages. */
static inline hstu_cache *open_cache_of_pages(const hstu_model *model, int64_t page_tokens, uint64_t n_pages)
{
    hstu_cache_options options;
    size_t page_bytes = 0;
    hstu_cache_options_init(&options);
    options.page_tokens = page_tokens;
    assert_true(hs_pages_bytes(&model->model, page_tokens, &page_bytes));
    for (options.bytes = n_pages * page_bytes;; options.bytes += page_bytes / 8) {
        hstu_cache *cache = NULL;
        hstu_cache_stats stats = {0};
        if (hstu_cache_open(&cache, model, &options, NULL) != HSTU_OK)
            continue;
        hstu_cache_get_stats(cache, &stats);
        if (stats.n_pages >= n_pages)
            return cache;
        hstu_cache_close(cache);
    }
}

/* ---- Users ------------------------------------------------------------------------------------------------------- */

enum { EVENTS_MOST = 240, NEW_MOST = 40, FEATURES = 3, IDS_MOST = 4, CANDIDATES_MOST = 600 };

/* A user's request: what is known of the user, and what is asked. */
typedef struct visit {
    int64_t user_id, n_events, query_time;
    int64_t item[EVENTS_MOST], time[EVENTS_MOST], action[EVENTS_MOST];
    int64_t n_ids[FEATURES], context[FEATURES * IDS_MOST]; /* of ranking models */
    int64_t n_candidates, candidate[CANDIDATES_MOST];
    int64_t target;
} visit;

/* 0 .. n - 1 */
static inline int64_t choose(uint64_t *random, int64_t n)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((*random >> 33) % (uint64_t)n);
}

static inline int64_t choose_item(uint64_t *random)
{
    return 1 + choose(random, ITEMS);
}

static inline void choose_context(visit *v, uint64_t *random, bool many_ids)
{
    static const int64_t rows[FEATURES] = {ITEMS, 6, 40};
    int64_t n = 0;
    for (int f = 0; f < FEATURES; f++) {
        v->n_ids[f] = many_ids ? choose(random, IDS_MOST + 1) : 1;
        for (int64_t i = 0; i < v->n_ids[f]; i++)
            v->context[n++] = choose(random, rows[f]);
    }
}

/* The first of the new events may stand at the time of the request before. */
static inline void see_more(visit *v, uint64_t *random, int64_t n)
{
    int64_t time = v->query_time + (choose(random, 2) ? 0 : 1 + choose(random, 5000));
    for (int64_t i = 0; i < n && v->n_events < EVENTS_MOST; i++, v->n_events++) {
        v->item[v->n_events] = choose_item(random);
        v->time[v->n_events] = time;
        v->action[v->n_events] = choose(random, 9);
        time += choose(random, 100000);
    }
    v->query_time = (n > 0 ? v->time[v->n_events - 1] : v->query_time) + choose(random, 3) * 1000;
}

static inline void swap_ids(int64_t *id, int64_t i, int64_t j)
{
    const int64_t kept = id[i];
    id[i] = id[j];
    id[j] = kept;
}

static inline void forget_oldest(visit *v, int64_t n)
{
    v->n_events -= n;
    memmove(v->item, v->item + n, (size_t)v->n_events * sizeof *v->item);
    memmove(v->time, v->time + n, (size_t)v->n_events * sizeof *v->time);
    memmove(v->action, v->action + n, (size_t)v->n_events * sizeof *v->action);
}

static inline void start_over(visit *v, uint64_t *random, bool many_ids)
{
    v->n_events = 0;
    v->query_time = 1600000000 + choose(random, 1000);
    see_more(v, random, 1 + choose(random, 60));
    choose_context(v, random, many_ids);
}

/* What has happened to the user's history since the last request. */
static inline void change_history(visit *v, uint64_t *random, bool many_ids)
{
    const int64_t n = v->n_events, at = choose(random, n);
    const int64_t kind = choose(random, 20);
    if (kind < 10)
        see_more(v, random, choose(random, NEW_MOST + 1));
    else if (kind == 10)
        v->query_time += choose(random, 3);
    else if (kind == 11)
        v->item[at] = choose_item(random);
    else if (kind == 12)
        v->time[at] += choose(random, 3);
    else if (kind == 13)
        v->action[at] = choose(random, 9);
    else if (kind == 14)
        v->n_events -= choose(random, n);
    else if (kind == 15)
        swap_ids(v->item, at, choose(random, n));
    else if (kind == 16)
        forget_oldest(v, choose(random, n));
    else if (kind == 17)
        choose_context(v, random, many_ids);
    /* else: the same history again */
    if (v->n_events > EVENTS_MOST - NEW_MOST)
        start_over(v, random, many_ids);
}

static inline void choose_candidates(visit *v, uint64_t *random, int64_t most)
{
    v->n_candidates = choose(random, 5) ? choose(random, most + 1) : 0;
    for (int64_t i = 0; i < v->n_candidates; i++)
        v->candidate[i] = choose_item(random);
    v->target = choose_item(random);
}

/* ---- Batches ----------------------------------------------------------------------------------------------------- */

enum { USERS_MOST = 6, CLASSES = 3, TOP = 10 };

/* Several users' requests at once. */
typedef struct visit_batch {
    hstu_batch batch;
    int64_t offset[USERS_MOST + 1], cand_offset[USERS_MOST + 1], query_time[USERS_MOST], user_id[USERS_MOST];
    int64_t item[USERS_MOST * EVENTS_MOST], time[USERS_MOST * EVENTS_MOST], action[USERS_MOST * EVENTS_MOST];
    int64_t context[USERS_MOST * FEATURES * IDS_MOST], n_ids[USERS_MOST * FEATURES];
    int64_t candidate[USERS_MOST * CANDIDATES_MOST], target[USERS_MOST];
} visit_batch;

/* n requests, with times or without; without a user id nothing is looked up. */
static inline void make_visit_batch(visit_batch *b, const visit *v, size_t n, bool with_times, bool with_user_ids)
{
    int64_t events = 0, candidates = 0, ids = 0;
    for (size_t u = 0; u < n; u++, v++) {
        memcpy(b->item + events, v->item, (size_t)v->n_events * sizeof *v->item);
        memcpy(b->time + events, v->time, (size_t)v->n_events * sizeof *v->time);
        memcpy(b->action + events, v->action, (size_t)v->n_events * sizeof *v->action);
        memcpy(b->candidate + candidates, v->candidate, (size_t)v->n_candidates * sizeof *v->candidate);
        b->offset[u] = events;
        b->cand_offset[u] = candidates;
        events += v->n_events;
        candidates += v->n_candidates;
        for (int64_t f = 0, from = 0; f < FEATURES; from += v->n_ids[f++]) {
            memcpy(b->context + ids, v->context + from, (size_t)v->n_ids[f] * sizeof *v->context);
            b->n_ids[(int64_t)u * FEATURES + f] = v->n_ids[f];
            ids += v->n_ids[f];
        }
        b->query_time[u] = v->query_time;
        b->user_id[u] = v->user_id;
        b->target[u] = v->target;
    }
    b->offset[n] = events;
    b->cand_offset[n] = candidates;
    b->batch = (hstu_batch){.n_users = n,
        .offset = b->offset,
        .item_id = b->item,
        .timestamp = with_times ? b->time : NULL,
        .query_time = with_times ? b->query_time : NULL,
        .cand_offset = b->cand_offset,
        .cand_id = b->candidate,
        .action = b->action,
        .context = b->context,
        .context_length = b->n_ids,
        .user_id = with_user_ids ? b->user_id : NULL};
}

/* All that a session answers; what is not asked for is zero. */
typedef struct answers {
    float value[USERS_MOST * CANDIDATES_MOST * CLASSES]; /* logits, embeddings or scores */
    int64_t item[USERS_MOST * TOP], rank[USERS_MOST];
} answers;

typedef enum question { ASK_EMBEDDINGS, ASK_ITEMS, ASK_UNSEEN_ITEMS, N_QUESTIONS } question;

/* Ranking models always give logits. Calls no assertion: threads use it too. */
static inline hstu_status ask(hstu_session *s, const visit_batch *b, question q, answers *out, hstu_error *err)
{
    hstu_recommend_options options;
    const size_t places = sizeof out->value / sizeof *out->value;
    memset(out, 0, sizeof *out);
    if (s->model->model.config.family == HS_CONFIG_RANKING)
        return hstu_rank(s, &b->batch, out->value, places, err);
    if (q == ASK_EMBEDDINGS)
        return hstu_encode(s, &b->batch, out->value, places, err);
    hstu_recommend_options_init(&options);
    options.filter_seen = q == ASK_UNSEEN_ITEMS;
    options.target_id = b->target;
    return hstu_recommend(s, &b->batch, TOP, &options, out->item, out->value, out->rank, err);
}

#endif
