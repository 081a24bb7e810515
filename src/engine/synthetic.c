/* Requests that are made up for a model. */
#include "engine/synthetic.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/random.h"

#include <string.h>

enum { START_TIME = 1600000000, TIME_STEP = 100000 };
typedef enum stream { STREAM_ITEM, STREAM_ACTION, STREAM_CONTEXT, STREAM_CANDIDATE, STREAM_TIME } stream;

/* Where ids of one kind come from. */
typedef struct source {
    uint64_t seed;
    const hs_table *table; /* of a ranking model */
    int64_t least, most;   /* of another: the ids */
} source;

static uint64_t draw(uint64_t seed, stream s, size_t user, int64_t i)
{
    uint32_t bits[4];
    if (seed == 0)
        return 0;
    hs_random_block(bits, seed + (uint64_t)s, user, (uint64_t)i);
    return (uint64_t)bits[0] << 32 | bits[1];
}

/* What finds the row: in a static table its number. */
static int64_t id_of_row(const hs_table *t, uint64_t row)
{
    for (size_t p = 0; t->dynamic && p < t->n_parts; p++) {
        const hs_table_part *part = &t->part[p];
        int64_t id = 0;
        if (row - part->first_row >= part->n_rows)
            continue;
        memcpy(&id, (const char *)part->keys + (row - part->first_row) * sizeof id, sizeof id);
        return id;
    }
    return (int64_t)row;
}

static int64_t choose_id(const source *from, stream s, size_t user, int64_t i)
{
    const uint64_t bits = draw(from->seed, s, user, i);
    if (from->table)
        return id_of_row(from->table, from->table->n_rows ? bits % from->table->n_rows : 0);
    return from->least + (int64_t)(bits % (uint64_t)(from->most - from->least + 1));
}

static source items_of(const hs_model *model, uint64_t seed)
{
    return (source){.seed = seed,
        .table = model->item_table,
        .least = hs_engine_min_item_id(&model->config),
        .most = model->config.max_item_id};
}

/* *offset [n_users + 1] from 0. */
static hstu_status add_up(hs_arena *arena, size_t n_users, const int64_t *n, const int64_t **offset, hstu_error *err)
{
    int64_t *out = NULL;
    HS_TRY(hs_engine_alloc_ids(arena, &out, n_users + 1, err));
    out[0] = 0;
    for (size_t u = 0; u < n_users; u++)
        out[u + 1] = out[u] + n[u];
    *offset = out;
    return HSTU_OK;
}

/* Ids for each place of `offset`. */
static hstu_status choose_ids(hs_arena *arena, const source *from, stream s, size_t n_users, const int64_t *offset,
    const int64_t **out, hstu_error *err)
{
    int64_t *id = NULL;
    HS_TRY(hs_engine_alloc_ids(arena, &id, (size_t)offset[n_users], err));
    for (size_t u = 0; u < n_users; u++) {
        for (int64_t i = offset[u]; i < offset[u + 1]; i++)
            id[i] = choose_id(from, s, u, i - offset[u]);
    }
    *out = id;
    return HSTU_OK;
}

static hstu_status choose_times(hs_synthetic *s, uint64_t seed, hstu_error *err)
{
    hstu_batch *b = &s->batch;
    int64_t *time = NULL, *query_time = NULL;
    HS_TRY(hs_engine_alloc_ids(&s->arena, &time, (size_t)b->offset[b->n_users], err));
    HS_TRY(hs_engine_alloc_ids(&s->arena, &query_time, b->n_users, err));
    for (size_t u = 0; u < b->n_users; u++) {
        query_time[u] = START_TIME;
        for (int64_t i = b->offset[u]; i < b->offset[u + 1]; i++) {
            time[i] = query_time[u];
            query_time[u] += (int64_t)(draw(seed, STREAM_TIME, u, i - b->offset[u]) % TIME_STEP);
        }
    }
    b->timestamp = time;
    b->query_time = query_time;
    return HSTU_OK;
}

static hstu_status choose_context(hs_synthetic *s, const hs_model *model, uint64_t seed, hstu_error *err)
{
    const int n = model->config.n_context;
    int64_t *id = NULL;
    HS_TRY(hs_engine_alloc_ids(&s->arena, &id, s->batch.n_users * (size_t)n, err));
    for (size_t u = 0; u < s->batch.n_users; u++) {
        for (int f = 0; f < n; f++) {
            const source from = {.seed = seed, .table = model->context_table[f]};
            id[u * (size_t)n + (size_t)f] = choose_id(&from, STREAM_CONTEXT, u, f);
        }
    }
    s->batch.context = id;
    return HSTU_OK;
}

static hstu_status add_ranking(
    hs_synthetic *s, const hs_model *model, const int64_t *candidates, uint64_t seed, hstu_error *err)
{
    hstu_batch *b = &s->batch;
    const hs_config *c = &model->config;
    const source items = items_of(model, seed), actions = {.seed = seed, .table = model->action_table};
    HS_TRY(add_up(&s->arena, b->n_users, candidates, &b->cand_offset, err));
    HS_TRY(choose_ids(&s->arena, &items, STREAM_CANDIDATE, b->n_users, b->cand_offset, &b->cand_id, err));
    HS_TRY(choose_ids(&s->arena, &actions, STREAM_ACTION, b->n_users, b->offset, &b->action, err));
    HS_TRY(choose_context(s, model, seed, err));
    s->n_values = b->cand_offset[b->n_users] * c->head[c->n_head - 1];
    return HSTU_OK;
}

hstu_status hs_synthetic_make(hs_synthetic *out, const hs_model *model, size_t n_users, const int64_t *events,
    const int64_t *candidates, uint64_t seed, hstu_error *err)
{
    const source items = items_of(model, seed);
    hstu_batch *b = &out->batch;
    int64_t *user_id = NULL;
    *out =
        (hs_synthetic){.batch = {.n_users = n_users}, .n_values = (int64_t)n_users * model->config.item_embedding_dim};
    hs_arena_init(&out->arena, SIZE_MAX / 4);
    HS_TRY(hs_engine_alloc_ids(&out->arena, &user_id, n_users, err));
    for (size_t u = 0; u < n_users; u++)
        user_id[u] = (int64_t)u + 1;
    b->user_id = user_id;
    HS_TRY(add_up(&out->arena, n_users, events, &b->offset, err));
    HS_TRY(choose_ids(&out->arena, &items, STREAM_ITEM, n_users, b->offset, &b->item_id, err));
    if (hs_config_uses_time(&model->config))
        HS_TRY(choose_times(out, seed, err));
    return model->config.family == HS_CONFIG_RANKING ? add_ranking(out, model, candidates, seed, err) : HSTU_OK;
}

void hs_synthetic_free(hs_synthetic *synthetic)
{
    hs_arena_free(&synthetic->arena);
}

hstu_status hs_synthetic_ask(hstu_session *session, const hs_synthetic *synthetic, float *value, hstu_error *err)
{
    const size_t n = (size_t)synthetic->n_values;
    float *out = value ? value : hs_alloc(n, sizeof *out);
    if (!out)
        return hs_fail_nomem(err, n * sizeof *out, "the answers");
    const hstu_status status = session->model->model.config.family == HS_CONFIG_RANKING
                                   ? hstu_rank(session, &synthetic->batch, out, n, err)
                                   : hstu_encode(session, &synthetic->batch, out, n, err);
    if (!value)
        hs_free(out);
    return status;
}

int64_t hs_synthetic_most_events(const hs_config *config)
{
    if (config->family != HS_CONFIG_RANKING)
        return config->max_sequence_length;
    const int64_t most = (HS_MAX_SEQUENCE - config->n_context) / 2;
    return config->max_history < most ? config->max_history : most;
}

int64_t hs_synthetic_tokens(const hs_config *config, int64_t events)
{
    return config->family == HS_CONFIG_RANKING ? config->n_context + 2 * events : events;
}

int64_t hs_synthetic_events(const hs_config *config, int64_t tokens)
{
    if (config->family != HS_CONFIG_RANKING)
        return tokens;
    return tokens < config->n_context ? -1 : (tokens - config->n_context) / 2;
}

hstu_status hs_synthetic_cache(
    hstu_cache **out, const hstu_model *model, int64_t n_users, int64_t tokens, hstu_error *err)
{
    /* Beside the keys and values of a page: words of its tokens and its share of the look-up, far more than they need. */
    enum { BESIDE = 1 << 16, ONCE = 1 << 20 };
    hstu_cache_options options;
    hstu_cache_options_init(&options);
    size_t page = 0, bytes = 0;
    const int64_t pages = n_users * (tokens / options.page_tokens + 2);
    if (!hs_pages_bytes(&model->model, options.page_tokens, &page) || !hs_add_size(page, BESIDE, &page) ||
        !hs_mul_size(page, (size_t)pages, &bytes) || !hs_add_size(bytes, ONCE, &bytes))
        return hs_fail_nomem(err, SIZE_MAX, "a cache");
    options.bytes = bytes;
    return hstu_cache_open(out, model, &options, err);
}
