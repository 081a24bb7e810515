/* Checking what a caller asks, before any computation. */
#include "engine/engine.h"

#include "base/error.h"

#include <inttypes.h>

static hstu_status check_shape(const hs_config *c, const hstu_batch *b, bool uses_time, hstu_error *err)
{
    if (!b->offset || !b->item_id)
        return hs_fail(err, HSTU_EINVAL, 0, "the batch lacks '%s'", b->offset ? "item_id" : "offset");
    if (b->offset[0] != 0)
        return hs_fail(err, HSTU_EINVAL, 0, "offset[0] is %" PRId64 ", expected 0", b->offset[0]);
    if (uses_time && !b->query_time)
        return hs_fail(err, HSTU_EINVAL, 0,
            "the batch has timestamps but no query_time, which %s uses as the time of the answer", c->source);
    for (size_t u = 0; u < b->n_users; u++) {
        if (b->offset[u + 1] <= b->offset[u])
            return hs_fail(err, HSTU_EINVAL, 0,
                "user %zu: offset goes from %" PRId64 " to %" PRId64 ", expected at least one event", u, b->offset[u],
                b->offset[u + 1]);
    }
    if (b->cand_offset && b->cand_offset[0] != 0)
        return hs_fail(err, HSTU_EINVAL, 0, "cand_offset[0] is %" PRId64 ", expected 0", b->cand_offset[0]);
    for (size_t u = 0; b->cand_offset && u < b->n_users; u++) {
        if (b->cand_offset[u + 1] < b->cand_offset[u])
            return hs_fail(err, HSTU_EINVAL, 0, "user %zu: cand_offset goes down from %" PRId64 " to %" PRId64, u,
                b->cand_offset[u], b->cand_offset[u + 1]);
    }
    if (b->cand_offset && b->cand_offset[b->n_users] > 0 && !b->cand_id)
        return hs_fail(err, HSTU_EINVAL, 0, "the batch has cand_offset but no cand_id");
    return HSTU_OK;
}

static hstu_status check_ids(const hs_config *c, const hstu_batch *b, size_t u, hstu_error *err)
{
    const int64_t least = hs_engine_min_item_id(c);
    for (int64_t r = b->offset[u]; r < b->offset[u + 1]; r++) {
        if (b->item_id[r] < least || b->item_id[r] > c->max_item_id)
            return hs_fail(err, HSTU_EINVAL, 0,
                "user %zu: item id %" PRId64 " (event %" PRId64 ") is outside %" PRId64 " .. %" PRId64
                " of the item table with %" PRId64 " rows",
                u, b->item_id[r], r - b->offset[u], least, c->max_item_id, c->max_item_id + 1);
    }
    return HSTU_OK;
}

hstu_status hs_request_check(
    hs_request *out, const hs_config *config, const hstu_batch *batch, hs_arena *arena, hstu_error *err)
{
    hs_request r = {.batch = batch, .uses_time = hs_config_uses_time(config) && batch->timestamp};
    HS_TRY(check_shape(config, batch, r.uses_time, err));
    r.first = hs_arena_alloc(arena, batch->n_users, sizeof *r.first);
    if (!r.first)
        return hs_fail_nomem(err, batch->n_users * sizeof *r.first, "the batch");
    for (size_t u = 0; u < batch->n_users; u++) {
        HS_TRY(check_ids(config, batch, u, err));
        const int64_t oldest = batch->offset[u + 1] - config->max_sequence_length;
        r.first[u] = oldest > batch->offset[u] ? oldest : batch->offset[u];
    }
    *out = r;
    return HSTU_OK;
}
