/* Views of the protocols' samples. */
#include "cli/run_samples.h"

#include "base/alloc.h"
#include "base/error.h"

#include <string.h>

void hs_samples_of_histories(hs_samples *out, const hstu_histories *histories)
{
    *out = (hs_samples){
        .n = histories->n,
        .n_users = histories->n,
        .n_users_skipped = histories->n_skipped,
        .user_id = histories->user_id,
        .from = histories->offset,
        .to = histories->offset + 1,
        .item = histories->item_id,
        .time = histories->timestamp,
        .query_time = histories->timestamp ? histories->target_time : NULL,
        .target = histories->target_id,
        .item_offset = histories->item_offset,
    };
}

void hs_samples_of_ranking(hs_samples *out, const hstu_ranking_samples *ranking)
{
    *out = (hs_samples){
        .n = ranking->n,
        .n_users = ranking->n,
        .n_users_skipped = ranking->n_short + ranking->n_incomplete,
        .user_id = ranking->user_id,
        .from = ranking->offset,
        .to = ranking->offset + 1,
        .item = ranking->item_id,
        .action = ranking->action,
        .target_offset = ranking->cand_offset,
        .target = ranking->cand_id,
        .label = ranking->label,
        .n_features = ranking->n_features,
        .n_places = ranking->n,
        .feature_name = ranking->feature_name,
        .feature = ranking->feature,
    };
}

/* An interval's events become the targets of its request, one request behind the other. */
static void copy_targets(const hstu_replay *replay, int64_t *offset, int64_t *target, int64_t *label)
{
    offset[0] = 0;
    for (int64_t i = 0; i < replay->n; i++) {
        const int64_t begin = replay->begin[i], count = replay->end[i] - begin;
        memcpy(target + offset[i], replay->item_id + begin, (size_t)count * sizeof *target);
        if (replay->action)
            memcpy(label + offset[i], replay->action + begin, (size_t)count * sizeof *label);
        offset[i + 1] = offset[i] + count;
    }
}

hstu_status hs_samples_of_replay(hs_samples *out, const hstu_replay *replay, hstu_error *err)
{
    int64_t n_targets = 0;
    for (int64_t i = 0; i < replay->n; i++)
        n_targets += replay->end[i] - replay->begin[i];
    /* user_id, from, query_time [n], offset [n + 1], target and label [n_targets]. Counts are those of arrays in
     * memory. */
    const size_t n = (size_t)replay->n, places = 4 * n + 1 + 2 * (size_t)n_targets;
    int64_t *memory = hs_alloc(places, sizeof *memory);
    if (!memory)
        return hs_fail_nomem(err, places * sizeof *memory, "the requests");
    int64_t *user_id = memory, *from = user_id + n, *query_time = from + n, *offset = query_time + n;
    int64_t *target = offset + n + 1, *label = target + n_targets;
    for (size_t i = 0; i < n; i++) {
        user_id[i] = replay->user_id[replay->user[i]];
        from[i] = replay->offset[replay->user[i]];
        query_time[i] = replay->timestamp[replay->begin[i]];
    }
    copy_targets(replay, offset, target, label);
    *out = (hs_samples){
        .n = replay->n,
        .n_users = replay->n_users,
        .n_users_skipped = replay->n_users_skipped,
        .user_id = user_id,
        .from = from,
        .to = replay->begin,
        .item = replay->item_id,
        .time = replay->timestamp,
        .action = replay->action,
        .query_time = query_time,
        .target_offset = offset,
        .target = target,
        .label = replay->action ? label : NULL,
        .n_features = replay->n_features,
        .n_places = replay->n_users,
        .feature_name = replay->feature_name,
        .feature = replay->feature,
        .place = replay->user,
        .item_offset = replay->item_offset,
        .memory = memory,
    };
    return HSTU_OK;
}

void hs_samples_close(hs_samples *samples)
{
    hs_free(samples->memory);
    *samples = (hs_samples){0};
}
