/* Checking what a caller asks of a ranking model, before any computation. */
#include "engine/engine.h"

#include "base/error.h"

#include <inttypes.h>

static hstu_status check_offsets(
    const char *name, const int64_t *offset, size_t n, const void *values, const char *values_name, hstu_error *err)
{
    if (!offset)
        return hs_fail(err, HSTU_EINVAL, 0, "the batch lacks '%s'", name);
    if (offset[0] != 0)
        return hs_fail(err, HSTU_EINVAL, 0, "%s[0] is %" PRId64 ", expected 0", name, offset[0]);
    for (size_t u = 0; u < n; u++) {
        if (offset[u + 1] < offset[u])
            return hs_fail(err, HSTU_EINVAL, 0, "user %zu: %s goes down from %" PRId64 " to %" PRId64, u, name,
                offset[u], offset[u + 1]);
    }
    if (offset[n] > 0 && !values)
        return hs_fail(err, HSTU_EINVAL, 0, "the batch lacks '%s'", values_name);
    return HSTU_OK;
}

static hstu_status check_shape(const hs_config *c, const hstu_batch *b, hstu_error *err)
{
    HS_TRY(check_offsets("offset", b->offset, b->n_users, b->item_id, "item_id", err));
    HS_TRY(check_offsets("cand_offset", b->cand_offset, b->n_users, b->cand_id, "cand_id", err));
    if (b->action_offset)
        HS_TRY(check_offsets("action_offset", b->action_offset, b->n_users, b->action, "action", err));
    else if (b->offset[b->n_users] > 0 && !b->action)
        return hs_fail(err, HSTU_EINVAL, 0, "the batch lacks 'action'");
    if (c->n_context > 0 && !b->context)
        return hs_fail(
            err, HSTU_EINVAL, 0, "the batch lacks 'context', the ids of %d contextual features", c->n_context);
    return HSTU_OK;
}

static hstu_status check_actions(const hstu_batch *b, size_t u, hstu_error *err)
{
    if (!b->action_offset)
        return HSTU_OK;
    const int64_t n = b->action_offset[u + 1] - b->action_offset[u];
    const int64_t history = b->offset[u + 1] - b->offset[u], candidates = b->cand_offset[u + 1] - b->cand_offset[u];
    if (n == history || n - history == candidates)
        return HSTU_OK;
    return hs_fail(err, HSTU_EINVAL, 0,
        "user %zu: there are %" PRId64 " actions, expected one for each of %" PRId64
        " history events, with or without one for each of %" PRId64 " candidates",
        u, n, history, candidates);
}

/* The ids of one feature, id[first] .. id[end - 1]. */
static hstu_status check_ids(const hs_config *c, const hs_config_feature *feature, const int64_t *id, int64_t first,
    int64_t end, size_t u, hstu_error *err)
{
    const hs_config_table *t = hs_config_find_table(c, feature->table);
    for (int64_t i = first; i < end && !t->dynamic; i++) {
        if (id[i] < 0 || id[i] >= t->rows)
            return hs_fail(err, HSTU_EINVAL, 0,
                "user %zu: feature '%s' has the id %" PRId64 ", outside 0 .. %" PRId64 " of table '%s' with %" PRId64
                " rows",
                u, feature->name, id[i], t->rows - 1, t->name, t->rows);
    }
    return HSTU_OK;
}

/* *n becomes the number of the user's contextual ids, which begin at `first`. */
static hstu_status check_context(
    const hs_config *c, const hstu_batch *b, size_t u, int64_t first, int64_t *n, hstu_error *err)
{
    *n = 0;
    for (int f = 0; f < c->n_context; f++) {
        const int64_t length = b->context_length ? b->context_length[u * (size_t)c->n_context + (size_t)f] : 1;
        if (length < 0 || length > HS_MAX_SEQUENCE - *n)
            return hs_fail(err, HSTU_EINVAL, 0,
                "user %zu: feature '%s' has %" PRId64 " ids, expected 0 or more and at most %d of all features", u,
                c->context[f].name, length, HS_MAX_SEQUENCE);
        HS_TRY(check_ids(c, &c->context[f], b->context, first + *n, first + *n + length, u, err));
        *n += length;
    }
    return HSTU_OK;
}

static hstu_status check_tokens(
    const hs_rank_request *r, const hs_model *model, int64_t n_context, size_t u, hstu_error *err)
{
    const hstu_batch *b = r->input.batch;
    const int64_t candidates = b->cand_offset[u + 1] - b->cand_offset[u];
    const int64_t history = b->offset[u + 1] - r->input.item_first[u];
    if (history > HS_MAX_SEQUENCE || candidates > HS_MAX_SEQUENCE ||
        n_context + 2 * history + candidates > HS_MAX_SEQUENCE)
        return hs_fail(err, HSTU_EINVAL, 0,
            "user %zu: %" PRId64 " contextual ids, %" PRId64 " history events with their actions and %" PRId64
            " candidates are more than %d tokens",
            u, n_context, history, candidates, HS_MAX_SEQUENCE);
    r->history[u] = candidates ? hs_ranking_history(model, &r->input, (int64_t)u) : 0;
    return HSTU_OK;
}

/* Where the user's events, actions and contextual ids begin. */
typedef struct places {
    int64_t *item, *action, *context;
} places;

static hstu_status check_user(
    const hs_rank_request *r, const places *p, const hs_model *model, size_t u, int64_t *context, hstu_error *err)
{
    const hs_config *c = &model->config;
    const hstu_batch *b = r->input.batch;
    const int64_t history = b->offset[u + 1] - b->offset[u];
    const int64_t action = b->action_offset ? b->action_offset[u] : b->offset[u];
    const int64_t left_out = history > c->max_history ? history - c->max_history : 0;
    int64_t n_context = 0;
    HS_TRY(check_actions(b, u, err));
    p->item[u] = b->offset[u] + left_out;
    p->action[u] = action + left_out;
    p->context[u] = *context;
    HS_TRY(check_context(c, b, u, *context, &n_context, err));
    HS_TRY(check_tokens(r, model, n_context, u, err));
    HS_TRY(check_ids(c, &c->item, b->item_id, b->offset[u], b->offset[u + 1], u, err));
    HS_TRY(check_ids(c, &c->action, b->action, action, action + history, u, err));
    HS_TRY(check_ids(c, &c->item, b->cand_id, b->cand_offset[u], b->cand_offset[u + 1], u, err));
    *context += n_context;
    return HSTU_OK;
}

hstu_status hs_rank_request_check(
    hs_rank_request *out, const hs_model *model, const hstu_batch *batch, hs_arena *arena, hstu_error *err)
{
    hs_rank_request r = {.input = {.batch = batch, .end = (int64_t)batch->n_users}};
    places p;
    int64_t context = 0;
    HS_TRY(check_shape(&model->config, batch, err));
    HS_TRY(hs_engine_alloc_ids(arena, &p.item, batch->n_users, err));
    HS_TRY(hs_engine_alloc_ids(arena, &p.action, batch->n_users, err));
    HS_TRY(hs_engine_alloc_ids(arena, &p.context, batch->n_users, err));
    HS_TRY(hs_engine_alloc_ids(arena, &r.history, batch->n_users, err));
    r.input.item_first = p.item;
    r.input.action_first = p.action;
    r.input.context_first = p.context;
    for (size_t u = 0; u < batch->n_users; u++)
        HS_TRY(check_user(&r, &p, model, u, &context, err));
    *out = r;
    return HSTU_OK;
}
